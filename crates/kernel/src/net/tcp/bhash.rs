//! bhash: who holds a port.
//!
//! A port keeps its holders as *classes* (address, options, uid, listening or not) with counts: a conflict check looks
//! at the classes, never at a million accepted connections.
use super::sock::TcpSock;
use super::state::State;
use crate::ids::*;
use crate::net::core::sock::{Family, SOCK_CONNECT_BIND};
use core::net::Ipv4Addr;

/// Where a socket stands in bhash: the port, and its class there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindRef {
    pub port: u16,
    pub class: u16,
}

/// What a conflict check has to know of a holder of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    pub addr: Ipv4Addr,
    pub ipv6only: bool,
    /// Bound to `::`, with or without IPv4.
    pub v6_any: bool,
    pub reuse: bool,
    pub reuseport: bool,
    pub uid: u32,
    pub dev: Option<DevId>,
    pub hold: Hold,
    /// connect() chose the port: others may connect from it too (`SOCK_CONNECT_BIND`).
    pub connect: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    Bound,
    Listen,
    TimeWait,
}

impl Class {
    pub fn of(sk: &TcpSock) -> Class {
        let s = &sk.sk;
        Class {
            addr: s.rcv_saddr,
            ipv6only: s.family == Family::Inet6 && s.flags.ipv6only,
            v6_any: s.family == Family::Inet6 && s.rcv_saddr.is_unspecified(),
            reuse: s.flags.reuse,
            reuseport: s.flags.reuseport,
            uid: s.uid,
            dev: s.bound_dev,
            hold: if sk.state == State::Listen { Hold::Listen } else { Hold::Bound },
            connect: s.userlocks & SOCK_CONNECT_BIND != 0,
        }
    }
}

/// The holders of one port (`struct inet_bind_bucket`). Most ports have holders of one class only: no list for them.
#[derive(Clone, Debug)]
#[allow(clippy::box_collection)] // eight bytes where most have nothing
pub struct Bucket {
    first: (Class, u32),
    others: Option<Box<Vec<(Class, u32)>>>,
}

impl Bucket {
    fn new(class: Class) -> Bucket {
        Bucket { first: (class, 0), others: None }
    }

    fn all(&self) -> impl Iterator<Item = &(Class, u32)> {
        std::iter::once(&self.first).chain(self.others.iter().flat_map(|o| o.iter()))
    }

    fn slot(&mut self, ix: u16) -> Option<&mut (Class, u32)> {
        match ix.checked_sub(1) {
            None => Some(&mut self.first),
            Some(i) => self.others.as_mut()?.get_mut(usize::from(i)),
        }
    }

    /// Classes with somebody in them.
    pub fn classes(&self) -> impl Iterator<Item = &Class> {
        self.all().filter(|c| c.1 > 0).map(|c| &c.0)
    }

    /// Sockets and TIME_WAIT entries that hold the port.
    pub fn holders(&self) -> u32 {
        self.all().map(|c| c.1).sum()
    }

    /// Only connect()s are here: one more may come, if its tuple is new.
    pub fn only_connects(&self) -> bool {
        self.classes().all(|c| c.connect)
    }

    fn join(&mut self, class: Class) -> u16 {
        if self.others.is_none() && (self.first.1 == 0 || self.first.0 == class) {
            self.first = (class, self.first.1 + 1);
            return 0;
        }
        let same = self.all().position(|c| c.0 == class && c.1 > 0);
        let free = || self.all().position(|c| c.1 == 0);
        let ix = same.or_else(free).unwrap_or(1 + self.others.as_ref().map_or(0, |o| o.len())) as u16;
        match self.slot(ix) {
            Some(c) => *c = (class, c.1 + 1),
            None => self.others.get_or_insert_default().push((class, 1)),
        }
        ix
    }

    fn leave(&mut self, class: u16) {
        if let Some(c) = self.slot(class) {
            c.1 = c.1.saturating_sub(1);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.first.1 == 0 && self.others.as_ref().is_none_or(|o| o.iter().all(|c| c.1 == 0))
    }
}

const PAGE: usize = 256;

/// See the module: pages of port numbers, made when a port of theirs is first held, lead to the buckets.
#[derive(Clone, Debug, Default)]
pub struct Bhash {
    /// Place in `buckets` plus one; 0 where nobody holds the port.
    pages: Vec<Option<Box<[u32; PAGE]>>>,
    buckets: Vec<Bucket>,
    free: Vec<u32>,
}

impl Bhash {
    fn at(&self, port: u16) -> Option<usize> {
        let page = self.pages.get(usize::from(port) / PAGE)?.as_ref()?;
        (page[usize::from(port) % PAGE] as usize).checked_sub(1)
    }

    pub fn get(&self, port: u16) -> Option<&Bucket> {
        self.buckets.get(self.at(port)?)
    }

    /// Buckets in order of port.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &Bucket)> {
        (0..=u16::MAX).filter_map(|port| Some((port, self.get(port)?)))
    }

    pub fn bytes(&self) -> usize {
        let pages = self.pages.iter().flatten().count() * PAGE * 4 + self.pages.capacity() * 8;
        pages + self.buckets.capacity() * size_of::<Bucket>() + self.free.capacity() * 4
    }

    fn make(&mut self, port: u16, class: Class) -> usize {
        let bucket = Bucket::new(class);
        let ix = match self.free.pop() {
            Some(ix) => ix as usize,
            None => self.buckets.len(),
        };
        match self.buckets.get_mut(ix) {
            Some(b) => *b = bucket,
            None => self.buckets.push(bucket),
        }
        if self.pages.is_empty() {
            self.pages.resize(PAGE, None);
        }
        let page = self.pages[usize::from(port) / PAGE].get_or_insert_with(|| Box::new([0; PAGE]));
        page[usize::from(port) % PAGE] = ix as u32 + 1;
        ix
    }

    /// Registers a holder of a port.
    pub fn hold(&mut self, port: u16, class: Class) -> BindRef {
        let ix = self.at(port).unwrap_or_else(|| self.make(port, class));
        BindRef { port, class: self.buckets[ix].join(class) }
    }

    pub fn release(&mut self, bind: BindRef) {
        let Some(ix) = self.at(bind.port) else { return };
        let bucket = &mut self.buckets[ix];
        bucket.leave(bind.class);
        if bucket.is_empty() {
            bucket.others = None;
            self.free.push(ix as u32);
            if let Some(Some(page)) = self.pages.get_mut(usize::from(bind.port) / PAGE) {
                page[usize::from(bind.port) % PAGE] = 0;
            }
        }
    }

    /// A holder's class changed.
    pub fn reclass(&mut self, bind: BindRef, class: Class) -> BindRef {
        let Some(ix) = self.at(bind.port) else { return bind };
        let bucket = &mut self.buckets[ix];
        match bucket.slot(bind.class) {
            Some(c) if c.0 == class => bind,
            _ => {
                bucket.leave(bind.class);
                BindRef { port: bind.port, class: bucket.join(class) }
            }
        }
    }

    /// The class a holder is in.
    pub fn class(&self, bind: BindRef) -> Option<Class> {
        self.get(bind.port)?.all().nth(usize::from(bind.class)).map(|c| c.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(hold: Hold) -> Class {
        Class {
            addr: Ipv4Addr::LOCALHOST,
            ipv6only: false,
            v6_any: false,
            reuse: false,
            reuseport: false,
            uid: 0,
            dev: None,
            hold,
            connect: false,
        }
    }

    #[test]
    fn holders_come_and_go_and_the_bucket_with_the_last() {
        let mut b = Bhash::default();
        let (bound, listen) = (class(Hold::Bound), class(Hold::Listen));
        let first = b.hold(80, bound);
        let second = b.hold(80, bound);
        assert_eq!((first, b.get(80).map(Bucket::holders)), (second, Some(2)));
        let moved = b.reclass(second, listen);
        assert_eq!((b.class(first), b.class(moved)), (Some(bound), Some(listen)));
        b.release(first);
        // The place that became free is used again.
        assert_eq!(b.hold(80, class(Hold::TimeWait)).class, first.class);
        b.release(first);
        b.release(moved);
        assert!(b.get(80).is_none() && b.iter().next().is_none());
        b.release(moved);
        b.hold(65_535, bound);
        assert_eq!(b.iter().map(|(p, _)| p).collect::<Vec<_>>(), [65_535]);
    }
}
