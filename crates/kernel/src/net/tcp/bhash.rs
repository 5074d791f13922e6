//! bhash: who holds a port.
//!
//! A port keeps its holders as *classes* (address, options, uid, listening or not) with counts: a conflict check looks
//! at the classes, never at a million accepted connections.
use super::sock::TcpSock;
use super::state::State;
use crate::ids::*;
use crate::net::core::sock::SOCK_CONNECT_BIND;
use core::net::{IpAddr, Ipv4Addr};

/// Where a socket stands in bhash: the port, and its class there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindRef {
    pub port: u16,
    pub class: u16,
}

/// What a conflict check has to know of a holder of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    pub addr: IpAddr,
    pub ipv6only: bool,
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
            ipv6only: s.flags.ipv6only,
            reuse: s.flags.reuse,
            reuseport: s.flags.reuseport,
            uid: s.uid,
            dev: s.bound_dev,
            hold: if sk.state == State::Listen { Hold::Listen } else { Hold::Bound },
            connect: s.userlocks & SOCK_CONNECT_BIND != 0,
        }
    }
}

/// Everything of a class but its address, which is what varies; numbered, so that a class takes 12 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    ipv6only: bool,
    reuse: bool,
    reuseport: bool,
    uid: u32,
    dev: Option<DevId>,
    hold: Hold,
    connect: bool,
}

impl Kind {
    fn of(c: &Class) -> Kind {
        let Class { ipv6only, reuse, reuseport, uid, dev, hold, connect, .. } = *c;
        Kind { ipv6only, reuse, reuseport, uid, dev, hold, connect }
    }

    fn at(self, addr: IpAddr) -> Class {
        let Kind { ipv6only, reuse, reuseport, uid, dev, hold, connect } = self;
        Class { addr, ipv6only, reuse, reuseport, uid, dev, hold, connect }
    }
}

/// So many holders of one class.
#[derive(Clone, Copy, Debug)]
struct Held {
    addr: IpAddr,
    kind: u32,
    count: u32,
}

/// The holders of one port (`struct inet_bind_bucket`). Most ports have holders of one class only: no list for them.
#[derive(Clone, Debug)]
struct Bucket {
    first: Held,
    others: Vec<Held>,
}

impl Bucket {
    fn all(&self) -> impl Iterator<Item = &Held> {
        std::iter::once(&self.first).chain(&self.others)
    }

    fn slot(&mut self, ix: u16) -> Option<&mut Held> {
        match ix.checked_sub(1) {
            None => Some(&mut self.first),
            Some(i) => self.others.get_mut(usize::from(i)),
        }
    }

    fn join(&mut self, addr: IpAddr, kind: u32) -> u16 {
        let same = |h: &Held| h.addr == addr && h.kind == kind && h.count > 0;
        if same(&self.first) || (self.first.count == 0 && self.others.is_empty()) {
            self.first = Held { addr, kind, count: self.first.count + 1 };
            return 0;
        }
        let free = || self.all().position(|h| h.count == 0);
        let ix = self.all().position(same).or_else(free).unwrap_or(1 + self.others.len()) as u16;
        match self.slot(ix) {
            Some(h) => *h = Held { addr, kind, count: h.count + 1 },
            None => {
                self.others.reserve_exact(1);
                self.others.push(Held { addr, kind, count: 1 });
            }
        }
        ix
    }

    fn leave(&mut self, class: u16) {
        if let Some(h) = self.slot(class) {
            h.count = h.count.saturating_sub(1);
        }
    }

    fn is_empty(&self) -> bool {
        self.first.count == 0 && self.others.iter().all(|h| h.count == 0)
    }
}

const PAGE: usize = 256;
/// So many free buckets are kept in any case.
const KEEP: usize = 1024;

/// See the module: pages of port numbers, made when a port of theirs is first held, lead to the buckets.
#[derive(Clone, Debug, Default)]
pub struct Bhash {
    /// Place in `buckets` plus one; 0 where nobody holds the port.
    pages: Vec<Option<Box<[u32; PAGE]>>>,
    buckets: Vec<Bucket>,
    free: Vec<u32>,
    /// Kinds that were seen so far: users, options and devices in use together, few.
    kinds: Vec<Kind>,
}

impl Bhash {
    fn at(&self, port: u16) -> Option<usize> {
        let page = self.pages.get(usize::from(port) / PAGE)?.as_ref()?;
        (page[usize::from(port) % PAGE] as usize).checked_sub(1)
    }

    fn held(&self, port: u16) -> impl Iterator<Item = &Held> {
        self.at(port).and_then(|ix| self.buckets.get(ix)).into_iter().flat_map(Bucket::all).filter(|h| h.count > 0)
    }

    fn expand(&self, h: &Held) -> Option<Class> {
        self.kinds.get(h.kind as usize).map(|k| k.at(h.addr))
    }

    /// Classes of a port with somebody in them.
    pub fn classes(&self, port: u16) -> impl Iterator<Item = Class> {
        self.held(port).filter_map(|h| self.expand(h))
    }

    /// Nobody is here, or only connect()s are: one more may come, if its tuple is new.
    pub fn only_connects(&self, port: u16) -> bool {
        self.held(port).all(|h| self.kinds.get(h.kind as usize).is_some_and(|k| k.connect))
    }

    /// Sockets and TIME_WAIT entries that hold each port, in order of port.
    pub fn holders(&self) -> impl Iterator<Item = (u16, u32)> {
        let made = self.pages.iter().enumerate().filter(|(_, p)| p.is_some());
        let ports = made.flat_map(|(n, _)| (n * PAGE..(n + 1) * PAGE).map(|port| port as u16));
        ports.map(|port| (port, self.held(port).map(|h| h.count).sum())).filter(|(_, n)| *n > 0)
    }

    pub fn bytes(&self) -> usize {
        let pages = self.pages.iter().flatten().count() * PAGE * 4 + self.pages.capacity() * 8;
        let others: usize = self.buckets.iter().map(|b| b.others.capacity() * size_of::<Held>()).sum();
        pages + others + self.buckets.capacity() * size_of::<Bucket>() + self.free.capacity() * 4
    }

    fn kind(&mut self, class: &Class) -> u32 {
        let kind = Kind::of(class);
        let known = self.kinds.iter().position(|k| *k == kind);
        known.unwrap_or_else(|| {
            self.kinds.push(kind);
            self.kinds.len() - 1
        }) as u32
    }

    fn make(&mut self, port: u16) -> usize {
        let bucket =
            Bucket { first: Held { addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED), kind: 0, count: 0 }, others: Vec::new() };
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
        let ix = self.at(port).unwrap_or_else(|| self.make(port));
        let kind = self.kind(&class);
        BindRef { port, class: self.buckets[ix].join(class.addr, kind) }
    }

    pub fn release(&mut self, bind: BindRef) {
        let Some(ix) = self.at(bind.port) else { return };
        let bucket = &mut self.buckets[ix];
        bucket.leave(bind.class);
        if bucket.is_empty() {
            bucket.others = Vec::new();
            self.free.push(ix as u32);
            if let Some(Some(page)) = self.pages.get_mut(usize::from(bind.port) / PAGE) {
                page[usize::from(bind.port) % PAGE] = 0;
            }
            if self.free.len() > KEEP && self.free.len() > 3 * (self.buckets.len() - self.free.len()) {
                self.shrink();
            }
        }
    }

    /// The buckets in use move together; the rest, and pages without any, are given back.
    #[cold]
    fn shrink(&mut self) {
        let mut kept = Vec::with_capacity(self.buckets.len() - self.free.len());
        for page in &mut self.pages {
            let Some(ports) = page else { continue };
            for place in ports.iter_mut().filter(|p| **p != 0) {
                if let Some(b) = self.buckets.get(*place as usize - 1) {
                    kept.push(b.clone());
                    *place = kept.len() as u32;
                }
            }
            if ports.iter().all(|p| *p == 0) {
                *page = None;
            }
        }
        (self.buckets, self.free) = (kept, Vec::new());
    }

    /// A holder's class changed.
    pub fn reclass(&mut self, bind: BindRef, class: Class) -> BindRef {
        let Some(ix) = self.at(bind.port) else { return bind };
        let kind = self.kind(&class);
        let bucket = &mut self.buckets[ix];
        match bucket.slot(bind.class) {
            Some(h) if h.addr == class.addr && h.kind == kind => bind,
            _ => {
                bucket.leave(bind.class);
                BindRef { port: bind.port, class: bucket.join(class.addr, kind) }
            }
        }
    }

    /// The class a holder is in.
    pub fn class(&self, bind: BindRef) -> Option<Class> {
        self.expand(self.buckets.get(self.at(bind.port)?)?.all().nth(usize::from(bind.class))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(hold: Hold) -> Class {
        Class {
            addr: Ipv4Addr::LOCALHOST.into(),
            ipv6only: false,
            reuse: false,
            reuseport: false,
            uid: 0,
            dev: None,
            hold,
            connect: false,
        }
    }

    #[test]
    fn memory_of_ports_comes_back_and_holders_stay() {
        let mut b = Bhash::default();
        let held: Vec<_> = (1000..21_000).map(|port| b.hold(port, class(Hold::Bound))).collect();
        let most = b.bytes();
        let (stay, go): (Vec<_>, Vec<_>) = held.into_iter().partition(|h| h.port % 100 == 7);
        for h in go {
            b.release(h);
        }
        assert!(b.bytes() * 2 < most, "{} of {most}", b.bytes());
        assert!(stay.iter().all(|h| b.class(*h) == Some(class(Hold::Bound))));
        assert_eq!(b.holders().count(), 200);
        b.hold(1000, class(Hold::Listen));
        assert_eq!(b.holders().count(), 201);
    }

    #[test]
    fn holders_come_and_go_and_the_bucket_with_the_last() {
        let mut b = Bhash::default();
        let (bound, listen) = (class(Hold::Bound), class(Hold::Listen));
        let first = b.hold(80, bound);
        let second = b.hold(80, bound);
        assert_eq!((first, b.holders().collect::<Vec<_>>()), (second, vec![(80, 2)]));
        let moved = b.reclass(second, listen);
        assert_eq!((b.class(first), b.class(moved)), (Some(bound), Some(listen)));
        b.release(first);
        // The place that became free is used again.
        assert_eq!(b.hold(80, class(Hold::TimeWait)).class, first.class);
        b.release(first);
        b.release(moved);
        assert!(b.at(80).is_none() && b.holders().next().is_none());
        b.release(moved);
        b.hold(65_535, bound);
        assert_eq!(b.holders().collect::<Vec<_>>(), [(65_535, 1)]);
    }
}
