//! Sets told one after another (`ipset list`, `ipset save`).
use super::api::{attr, be, begin, flags, text};
use super::*;
use crate::net::netlink::{Caller, Done, Dump, Head, Req};
use belljar_abi::netlink::{Msg, NLA_F_NESTED};

/// Bytes of elements that go into one message, and what a datagram has when there is no room for another message: `ipset` reads
/// with a page.
const ELEMENTS: usize = 2560;
const DATAGRAM: usize = 256;

/// One set or all of them; lists come last, because `restore` needs their members first.
#[doc(alias = "ip_set_dump")]
pub(crate) fn dump(net: &mut Net, c: &Caller<'_>, r: Req<'_>, d: &mut Dump) -> Done {
    if attr(&r, IPSET_ATTR_PROTOCOL).and_then(|v| v.first()).is_none_or(|p| *p < IPSET_PROTOCOL_MIN) {
        return super::api::fail(IPSET_ERR_PROTOCOL);
    }
    d.most = DATAGRAM;
    let now = net.env.now;
    let Some(n) = net.ns.get_mut(c.ns) else { return Err(Errno::ENOENT.into()) };
    let sets = n.ipset.get_or_insert_default();
    let only = match attr(&r, IPSET_ATTR_SETNAME) {
        Some(_) => Some(sets.find(text(&r, IPSET_ATTR_SETNAME)?).ok_or(Errno::ENOENT)?),
        None => None,
    };
    sets.by_index.iter_mut().flatten().for_each(|s| s.purge(now));
    let mut order: Vec<u16> = sets.iter().map(|(n, _)| n).filter(|n| only.is_none_or(|o| o == *n)).collect();
    order.sort_by_key(|n| (sets.get(*n).is_some_and(|s| s.kind == Type::ListSet), *n));
    for index in order {
        let Some(s) = sets.get(index) else { continue };
        let references = sets.listed(index) + ruled(n.nf.as_deref(), index);
        one(sets, s, (index, references, now), flags(&r), d);
    }
    Ok(())
}

fn one(sets: &Sets, s: &Set, (index, references, now): (u16, usize, u64), flags: u32, d: &mut Dump) {
    let head = |d: &Dump| Head::dump(u16::from(NFNL_SUBSYS_IPSET) << 8 | u16::from(IPSET_CMD_LIST), d);
    let mut elements = s.elements.iter().peekable();
    let mut members = s.members.iter().peekable();
    let mut begun = false;
    loop {
        let h = head(d);
        let mut m = begin(d.room(), h);
        m.attr_str(IPSET_ATTR_SETNAME, &s.name);
        if flags & IPSET_FLAG_LIST_SETNAME != 0 {
            return;
        }
        if !begun {
            m.attr_str(IPSET_ATTR_TYPENAME, s.kind.name()).attr_u8(IPSET_ATTR_FAMILY, s.family);
            m.attr_u8(IPSET_ATTR_REVISION, s.revision);
            m.attr(IPSET_ATTR_INDEX | NLA_F_NET_BYTEORDER, &index.to_be_bytes());
            m.nest(IPSET_ATTR_DATA | NLA_F_NESTED, |m| header(m, s, references));
            if flags & IPSET_FLAG_LIST_HEADER != 0 {
                return;
            }
        }
        begun = true;
        m.nest(IPSET_ATTR_ADT | NLA_F_NESTED, |m| {
            let first = m.written();
            while m.written() - first < ELEMENTS {
                if let Some((key, e)) = elements.next() {
                    m.nest(IPSET_ATTR_DATA | NLA_F_NESTED, |m| element(m, s, key, e, now));
                } else if let Some((id, e)) = members.next() {
                    m.nest(IPSET_ATTR_DATA | NLA_F_NESTED, |m| {
                        m.attr_str(IPSET_ATTR_NAME, &sets.name(*id).unwrap_or_default());
                        extras(m, s, e, now);
                    });
                } else {
                    break;
                }
            }
        });
        if elements.peek().is_none() && members.peek().is_none() {
            return;
        }
    }
}

fn address(m: &mut Msg<'_>, kind: u16, family: u8, ip: u128) {
    m.nest(kind | NLA_F_NESTED, |m| {
        if family == NFPROTO_IPV6 {
            m.attr(IPSET_ATTR_IPADDR_IPV6 | NLA_F_NET_BYTEORDER, &ip.to_be_bytes());
        } else {
            m.attr(IPSET_ATTR_IPADDR_IPV4 | NLA_F_NET_BYTEORDER, &(ip as u32).to_be_bytes());
        }
    });
}

fn port(m: &mut Msg<'_>, kind: u16, port: u16) {
    m.attr(kind | NLA_F_NET_BYTEORDER, &port.to_be_bytes());
}

/// What `create` would have to say, and how the set is.
#[doc(alias = "mtype_head")]
fn header(m: &mut Msg<'_>, s: &Set, references: usize) {
    let o = &s.options;
    match s.kind {
        Type::ListSet => be(m, IPSET_ATTR_SIZE, o.range.1),
        Type::BitmapPort => {
            port(m, IPSET_ATTR_PORT, o.range.0 as u16);
            port(m, IPSET_ATTR_PORT_TO, o.range.1 as u16);
        }
        Type::BitmapIp => {
            address(m, IPSET_ATTR_IP, s.family, o.range.0.into());
            address(m, IPSET_ATTR_IP_TO, s.family, o.range.1.into());
        }
        _ => {
            be(m, IPSET_ATTR_HASHSIZE, o.hashsize);
            be(m, IPSET_ATTR_MAXELEM, o.maxelem);
        }
    }
    if matches!(s.kind, Type::HashIp | Type::BitmapIp) && o.netmask != host(s.family) {
        m.attr_u8(IPSET_ATTR_NETMASK, o.netmask);
    }
    if s.kind.is_hash() && s.revision == s.kind.revision() {
        m.attr_u8(IPSET_ATTR_BUCKETSIZE, o.bucketsize);
        be(m, IPSET_ATTR_INITVAL, o.initval);
    }
    be(m, IPSET_ATTR_REFERENCES, references as u32);
    be(m, IPSET_ATTR_MEMSIZE, s.bytes() as u32);
    be(m, IPSET_ATTR_ELEMENTS, (s.elements.len() + s.members.len()) as u32);
    if let Some(t) = o.timeout {
        be(m, IPSET_ATTR_TIMEOUT, t);
    }
    if o.flags != 0 {
        be(m, IPSET_ATTR_CADT_FLAGS, o.flags);
    }
}

impl Set {
    /// What it takes here.
    fn bytes(&self) -> usize {
        let each = size_of::<(Key, Extra)>() * self.elements.len() + size_of::<(u16, Extra)>() * self.members.len();
        let extras = self.elements.values().chain(self.members.iter().map(|m| &m.1));
        size_of::<Set>() + each + extras.filter_map(|e| e.comment.as_ref()).map(|c| c.len()).sum::<usize>()
    }
}

fn element(m: &mut Msg<'_>, s: &Set, key: &Key, e: &Extra, now: u64) {
    match s.kind {
        Type::HashMac => {
            m.attr(IPSET_ATTR_ETHER, key.ip.to_be_bytes().get(10..).unwrap_or(&[]));
        }
        Type::BitmapPort => port(m, IPSET_ATTR_PORT, key.port),
        _ => {
            address(m, IPSET_ATTR_IP, s.family, key.ip);
            if s.kind.has_ip2() {
                address(m, IPSET_ATTR_IP2, s.family, key.ip2);
            }
            if s.kind.has_port() {
                port(m, IPSET_ATTR_PORT, key.port);
            }
            if s.kind.has_net() {
                let kind = if s.kind == Type::HashIpPortNet { IPSET_ATTR_CIDR2 } else { IPSET_ATTR_CIDR };
                m.attr_u8(kind, key.cidr);
            }
            if s.kind.has_port() {
                m.attr_u8(IPSET_ATTR_PROTO, key.proto);
            }
        }
    }
    if e.nomatch {
        be(m, IPSET_ATTR_CADT_FLAGS, IPSET_FLAG_NOMATCH);
    }
    extras(m, s, e, now);
}

#[doc(alias = "ip_set_put_extensions")]
fn extras(m: &mut Msg<'_>, s: &Set, e: &Extra, now: u64) {
    if s.options.timeout.is_some() {
        let left = e.expires.saturating_sub(now) / 1_000_000_000;
        be(m, IPSET_ATTR_TIMEOUT, if e.expires == 0 { 0 } else { left.max(1) as u32 });
    }
    if s.with(IPSET_FLAG_WITH_COUNTERS) {
        for (kind, n) in [(IPSET_ATTR_BYTES, e.bytes), (IPSET_ATTR_PACKETS, e.packets)] {
            m.attr(kind | NLA_F_NET_BYTEORDER, &n.to_be_bytes());
        }
    }
    if let Some(c) = &e.comment {
        m.attr_str(IPSET_ATTR_COMMENT, c);
    }
}
