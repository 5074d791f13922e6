//! [`Value`]: a tree that a view turns into and is read back from, so that a control socket, a file or a test can carry
//! it. JSON in shape, without a dependency on any form of it.
use core::net::{IpAddr, Ipv4Addr};
use std::borrow::Cow;

/// See the module. Maps keep the order of their fields.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Uint(u64),
    Real(f64),
    Text(String),
    List(Vec<Value>),
    Map(Vec<(Cow<'static, str>, Value)>),
}

impl Value {
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Map(m) => m.iter().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }
}

/// What can be shown as a [`Value`] and read back.
pub trait View: Sized {
    fn to_value(&self) -> Value;
    /// `None`: not of this shape.
    fn from_value(v: &Value) -> Option<Self>;
}

macro_rules! uints {
    ($($t:ty),*) => {$(
        impl View for $t {
            fn to_value(&self) -> Value {
                Value::Uint(*self as u64)
            }
            fn from_value(v: &Value) -> Option<$t> {
                match v {
                    Value::Uint(n) => <$t>::try_from(*n).ok(),
                    _ => None,
                }
            }
        }
    )*};
}
uints!(u8, u16, u32, u64, usize);

impl View for bool {
    fn to_value(&self) -> Value {
        Value::Bool(*self)
    }
    fn from_value(v: &Value) -> Option<bool> {
        if let Value::Bool(b) = v { Some(*b) } else { None }
    }
}

impl View for String {
    fn to_value(&self) -> Value {
        Value::Text(self.clone())
    }
    fn from_value(v: &Value) -> Option<String> {
        if let Value::Text(s) = v { Some(s.clone()) } else { None }
    }
}

impl View for IpAddr {
    fn to_value(&self) -> Value {
        Value::Text(self.to_string())
    }
    fn from_value(v: &Value) -> Option<IpAddr> {
        if let Value::Text(s) = v { s.parse().ok() } else { None }
    }
}

impl View for Ipv4Addr {
    fn to_value(&self) -> Value {
        Value::Text(self.to_string())
    }
    fn from_value(v: &Value) -> Option<Ipv4Addr> {
        if let Value::Text(s) = v { s.parse().ok() } else { None }
    }
}

impl<T: View> View for Option<T> {
    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Null, View::to_value)
    }
    fn from_value(v: &Value) -> Option<Option<T>> {
        if *v == Value::Null { Some(None) } else { T::from_value(v).map(Some) }
    }
}

impl<T: View> View for Vec<T> {
    fn to_value(&self) -> Value {
        Value::List(self.iter().map(View::to_value).collect())
    }
    fn from_value(v: &Value) -> Option<Vec<T>> {
        if let Value::List(l) = v { l.iter().map(T::from_value).collect() } else { None }
    }
}

/// Structs whose fields are views. A field that is missing reads as null, so only optional ones may be.
macro_rules! views {
    ($($(#[$doc:meta])* struct $name:ident { $($(#[$fdoc:meta])* $field:ident: $t:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name { $($(#[$fdoc])* pub $field: $t,)* }

        impl $crate::view::View for $name {
            fn to_value(&self) -> $crate::view::Value {
                $crate::view::Value::Map(vec![
                    $((stringify!($field).into(), $crate::view::View::to_value(&self.$field)),)*
                ])
            }
            fn from_value(v: &$crate::view::Value) -> Option<$name> {
                let null = $crate::view::Value::Null;
                Some($name {
                    $($field: $crate::view::View::from_value(v.get(stringify!($field)).unwrap_or(&null))?,)*
                })
            }
        }
    )*};
}
pub(crate) use views;

#[cfg(test)]
mod tests {
    use super::*;

    views! {
        struct Inner { a: u8, b: Option<String>, }
        struct Outer { list: Vec<Inner>, addr: Ipv4Addr, yes: bool, }
    }

    #[test]
    fn a_view_comes_back_as_it_went() {
        let inner = vec![Inner { a: 7, b: None }, Inner { a: 255, b: Some("x".into()) }];
        let o = Outer { list: inner, addr: Ipv4Addr::LOCALHOST, yes: true };
        assert_eq!(Outer::from_value(&o.to_value()), Some(o));
        assert_eq!(u8::from_value(&Value::Uint(256)), None);
        assert_eq!(Inner::from_value(&Value::Map(vec![("a".into(), Value::Uint(1))])), Some(Inner { a: 1, b: None }));
        assert_eq!(Inner::from_value(&Value::Null), None);
    }
}
