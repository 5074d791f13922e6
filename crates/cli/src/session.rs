//! A connection to a running jar, as the viewing commands use it.
use crate::out::Fail;
use belljar_jar::control::{Client, ClientError, Request};
use belljar_kernel::view::{Value, View};
use serde_json::Value as Json;
use std::fmt;
use std::str::FromStr;

/// `JAR[/HOST][@NETNS]`; the host carries the namespace behind it, as requests do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub jar: String,
    pub host: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(s: &str) -> Result<Target, String> {
        let (s, netns) = s.split_once('@').map_or((s, None), |(s, n)| (s, Some(n)));
        let (jar, host) = s.split_once('/').unwrap_or((s, "host"));
        if !belljar_host::rundir::valid_name(jar) {
            return Err(format!("{jar:?} is no name of a jar: letters, digits and ._- only"));
        }
        if host.is_empty() || host.contains('/') {
            return Err(format!("{s:?} is not JAR or JAR/HOST, as in web or web/gw"));
        }
        let mut target = Target { jar: jar.to_owned(), host: host.to_owned() };
        if let Some(netns) = netns {
            target.enter(netns)?;
        }
        Ok(target)
    }
}

impl Target {
    /// From now on a namespace of the host.
    pub fn enter(&mut self, netns: &str) -> Result<(), String> {
        if netns.is_empty() || netns.contains(['/', '@']) {
            return Err(format!("{netns:?} is no name of a network namespace"));
        }
        let host = self.host.split('@').next().unwrap_or("host");
        self.host = format!("{host}@{netns}");
        Ok(())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.jar, self.host)
    }
}

impl From<ClientError> for Fail {
    fn from(e: ClientError) -> Fail {
        match &e {
            ClientError::NoJar(_, living) if living.is_empty() => {
                Fail::new(&e).hint("start one with: belljar run -- PROGRAM")
            }
            ClientError::NoJar(..) => Fail::new(&e).hint("belljar ps lists the running jars"),
            ClientError::Refused { code, .. } => Fail::new(&e).code(*code),
            _ => Fail::new(&e),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    pub client: Client,
    pub host: String,
}

impl Session {
    pub fn open(target: &Target) -> Result<Session, Fail> {
        Ok(Session { client: Client::connect(&target.jar)?, host: target.host.clone() })
    }

    /// A view of the host by its name.
    pub fn view<T: View>(&mut self, what: &str) -> Result<T, Fail> {
        let request = Request::View { host: self.host.clone(), what: what.to_owned() };
        let value = from_json(&self.client.value(&request)?);
        T::from_value(&value).ok_or_else(|| Fail::new(format!("the jar's answer about {what} is not understood")))
    }
}

fn from_json(j: &Json) -> Value {
    match j {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => n.as_u64().map_or_else(|| Value::Real(n.as_f64().unwrap_or(0.0)), Value::Uint),
        Json::String(s) => Value::Text(s.clone()),
        Json::Array(l) => Value::List(l.iter().map(from_json).collect()),
        Json::Object(m) => Value::Map(m.iter().map(|(k, v)| (k.clone().into(), from_json(v))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let t: Target = "web".parse().unwrap();
        assert_eq!((t.jar.as_str(), t.host.as_str()), ("web", "host"));
        assert_eq!("web/gw".parse::<Target>().unwrap().to_string(), "web/gw");
        assert_eq!("web@blue".parse::<Target>().unwrap().host, "host@blue");
        for bad in ["", "a@", "a@b@c", "../x", "a/", "a/b/c", "-l"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
