//! Connections by netlink (`conntrack -L`, `-G`, `-D`, `-U`, `-S`, `-C`), and what becomes of them told to who listens (`-E`). They
//! cannot be made from outside.
use super::{Conn, IPS_ASSURED, IPS_SEEN_REPLY, Proto, Tuple, Zone};
use crate::ids::{CtId, NsId};
use crate::net::Net;
use crate::net::netfilter::Pf;
use crate::net::netfilter::nfnetlink::be32;
use crate::net::netfilter::packet::addr;
use crate::net::netlink::{Caller, Done, Dump, Head, Req, notify, octets};
use belljar_abi::netlink::{self as nl, Msg, NLA_F_NESTED};
use belljar_abi::nfnetlink::*;
use belljar_abi::{AF_INET, AF_INET6, AF_UNSPEC, Errno};
use belljar_wire::ipv4::{IPPROTO_TCP, IPPROTO_UDP};

/// What an update is about: state of TCP, status, mark.
const PROTOINFO: u8 = 1;
const STATUS: u8 = 2;
const MARK: u8 = 4;
/// How an answer begins: what listeners are told, and everything.
const NEW: u16 = (NFNL_SUBSYS_CTNETLINK as u16) << 8 | IPCTNL_MSG_CT_NEW as u16;
const DELETE: u16 = (NFNL_SUBSYS_CTNETLINK as u16) << 8 | IPCTNL_MSG_CT_DELETE as u16;
const ALL: u8 = 0xff;

impl Conn {
    /// What listeners hear of when it changes.
    pub(super) fn told(&self) -> (u32, u8) {
        let state = if let Proto::Tcp(t) = &self.proto { t.state as u8 } else { 0 };
        (self.status & (IPS_SEEN_REPLY | IPS_ASSURED), state)
    }

    pub(super) fn note(&mut self, before: Option<(u32, u8)>) {
        let now = self.told();
        let Some(was) = before.filter(|was| *was != now) else { return };
        self.events |= if was.0 != now.0 { STATUS } else { 0 } | if was.1 != now.1 { PROTOINFO } else { 0 };
    }

    pub fn set_mark(&mut self, mark: u32) {
        if self.mark != mark {
            self.mark = mark;
            self.events |= MARK;
        }
    }
}

/// The first packet got through.
pub(super) fn begun(net: &mut Net, id: CtId) {
    tell(net, id, NFNLGRP_CONNTRACK_NEW, NEW, nl::NLM_F_CREATE | nl::NLM_F_EXCL);
}

pub(super) fn updated(net: &mut Net, id: CtId) {
    tell(net, id, NFNLGRP_CONNTRACK_UPDATE, NEW, 0);
}

pub(super) fn destroyed(net: &mut Net, id: CtId) {
    if net.ct.conns.get(id).is_some_and(Conn::is_confirmed) {
        tell(net, id, NFNLGRP_CONNTRACK_DESTROY, DELETE, 0);
    }
}

#[doc(alias = "ctnetlink_conntrack_event")]
fn tell(net: &mut Net, id: CtId, group: u32, kind: u16, flags: u16) {
    let Some(c) = net.ct.conns.get_mut(id) else { return };
    let (ns, events) = (c.ns, std::mem::take(&mut c.events));
    if c.silent {
        return;
    }
    // A state is told as it changes, and always with the first and the last packet.
    let what = if group == NFNLGRP_CONNTRACK_UPDATE { events } else { PROTOINFO | STATUS };
    let port = net.ct.asker;
    notify::nfnetlink(net, ns, group, |net, out| {
        if let Some(c) = net.ct.conns.get(id) {
            fill(net, c, out, Head { kind, flags, seq: 0, port }, what);
        }
    });
}

fn family(t: &Tuple) -> u8 {
    (if t.pf == Pf::V4 { AF_INET } else { AF_INET6 }) as u8
}

fn tuple(m: &mut Msg<'_>, kind: u16, t: &Tuple, zone: Zone) {
    m.nest(kind | NLA_F_NESTED, |m| {
        let (src, dst) = match t.pf {
            Pf::V4 => (CTA_IP_V4_SRC, CTA_IP_V4_DST),
            Pf::V6 => (CTA_IP_V6_SRC, CTA_IP_V6_DST),
        };
        m.nest(CTA_TUPLE_IP | NLA_F_NESTED, |m| {
            m.attr(src, &octets(addr(t.pf, t.src))).attr(dst, &octets(addr(t.pf, t.dst)));
        });
        m.nest(CTA_TUPLE_PROTO | NLA_F_NESTED, |m| {
            m.attr_u8(CTA_PROTO_NUM, t.proto);
            if t.is_icmp() {
                let first = if t.pf == Pf::V4 { CTA_PROTO_ICMP_ID } else { CTA_PROTO_ICMPV6_ID };
                m.attr(first, &t.sport.to_be_bytes());
                let [kind, code] = t.dport.to_be_bytes();
                m.attr_u8(first + 1, kind).attr_u8(first + 2, code);
            } else if matches!(t.proto, IPPROTO_TCP | IPPROTO_UDP) {
                m.attr(CTA_PROTO_SRC_PORT, &t.sport.to_be_bytes()).attr(CTA_PROTO_DST_PORT, &t.dport.to_be_bytes());
            }
        });
        // One that counts for both stands beside them.
        if zone.dirs != Zone::BOTH && t.zone != 0 {
            m.attr(CTA_TUPLE_ZONE, &t.zone.to_be_bytes());
        }
    });
}

#[doc(alias = "ctnetlink_fill_info")]
fn fill(net: &Net, c: &Conn, out: &mut Vec<u8>, head: Head, what: u8) {
    let mut m = Msg::new(out, head.kind, head.flags, head.seq, head.port);
    m.body(&nfgenmsg(family(&c.tuple[0]), 0));
    let be = |v: u32| v.to_be_bytes();
    tuple(&mut m, CTA_TUPLE_ORIG, &c.tuple[0], c.zone);
    tuple(&mut m, CTA_TUPLE_REPLY, &c.tuple[1], c.zone);
    if c.zone.dirs == Zone::BOTH && c.zone.id != 0 {
        m.attr(CTA_ZONE, &c.zone.id.to_be_bytes());
    }
    m.attr(CTA_STATUS, &be(c.status));
    let left = if c.is_confirmed() { c.left(net) } else { c.expires / net.env.hz.max(1) };
    if head.kind != DELETE || left != 0 {
        m.attr(CTA_TIMEOUT, &be(left));
    }
    if let (Proto::Tcp(t), true) = (&c.proto, what & PROTOINFO != 0) {
        m.nest(CTA_PROTOINFO | NLA_F_NESTED, |m| {
            m.nest(CTA_PROTOINFO_TCP | NLA_F_NESTED, |m| {
                m.attr_u8(CTA_PROTOINFO_TCP_STATE, t.state as u8);
                if head.kind == DELETE {
                    return;
                }
                let [(scale_o, flags_o), (scale_r, flags_r)] = t.sides();
                m.attr_u8(CTA_PROTOINFO_TCP_WSCALE_ORIGINAL, scale_o).attr_u8(CTA_PROTOINFO_TCP_WSCALE_REPLY, scale_r);
                m.attr(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, &[flags_o, 0]);
                m.attr(CTA_PROTOINFO_TCP_FLAGS_REPLY, &[flags_r, 0]);
            });
        });
    }
    // Updates do not have them.
    if let Some(a) = c.acct.filter(|_| what == ALL || head.kind == DELETE) {
        for (kind, (packets, bytes)) in [CTA_COUNTERS_ORIG, CTA_COUNTERS_REPLY].into_iter().zip(a) {
            m.nest(kind | NLA_F_NESTED, |m| {
                m.attr(CTA_COUNTERS_PACKETS, &packets.to_be_bytes()).attr(CTA_COUNTERS_BYTES, &bytes.to_be_bytes());
            });
        }
    }
    if let Some(began) = c.began.filter(|_| what == ALL || head.kind == DELETE) {
        m.nest(CTA_TIMESTAMP | NLA_F_NESTED, |m| {
            m.attr(CTA_TIMESTAMP_START, &began.to_be_bytes());
            if head.kind == DELETE {
                m.attr(CTA_TIMESTAMP_STOP, &(net.env.now + net.env.wall_offset).to_be_bytes());
            }
        });
    }
    if what == ALL || c.mark != 0 || what & MARK != 0 {
        m.attr(CTA_MARK, &be(c.mark));
    }
    m.attr(CTA_ID, &be(c.id));
    if what == ALL {
        m.attr(CTA_USE, &be(1));
    }
}

/// A tuple in a request; all of it has to be there.
#[doc(alias = "ctnetlink_parse_tuple")]
fn read_tuple(b: &[u8], pf: Pf) -> Done<Tuple> {
    let get = |b, kind| nl::attrs(b).find(|(k, _)| *k == kind).map(|(_, v)| v);
    let ip = get(b, CTA_TUPLE_IP).ok_or(Errno::EINVAL)?;
    let proto = get(b, CTA_TUPLE_PROTO).ok_or(Errno::EINVAL)?;
    let kinds = if pf == Pf::V4 { [CTA_IP_V4_SRC, CTA_IP_V4_DST] } else { [CTA_IP_V6_SRC, CTA_IP_V6_DST] };
    let mut addrs = [0u128; 2];
    for (to, kind) in addrs.iter_mut().zip(kinds) {
        let v = get(ip, kind).filter(|v| v.len() == if pf == Pf::V4 { 4 } else { 16 }).ok_or(Errno::EINVAL)?;
        *to = v.iter().fold(0, |n, b| n << 8 | u128::from(*b));
    }
    let number = *get(proto, CTA_PROTO_NUM).and_then(|v| v.first()).ok_or(Errno::EINVAL)?;
    let mut t = Tuple { src: addrs[0], dst: addrs[1], sport: 0, dport: 0, proto: number, pf, zone: 0 };
    let be16 = |kind| {
        let v = get(proto, kind).and_then(|v| v.first_chunk()).ok_or(Errno::EINVAL);
        v.map(|b| u16::from_be_bytes(*b))
    };
    if t.is_icmp() {
        let first = if pf == Pf::V4 { CTA_PROTO_ICMP_ID } else { CTA_PROTO_ICMPV6_ID };
        let byte = |kind| get(proto, kind).and_then(|v| v.first()).copied().ok_or(Errno::EINVAL);
        t.sport = be16(first)?;
        t.dport = u16::from_be_bytes([byte(first + 1)?, byte(first + 2)?]);
    } else if matches!(number, IPPROTO_TCP | IPPROTO_UDP) {
        (t.sport, t.dport) = (be16(CTA_PROTO_SRC_PORT)?, be16(CTA_PROTO_DST_PORT)?);
    }
    Ok(t)
}

/// What a dump or a flush is about.
#[derive(Clone, Copy, Debug, Default)]
struct Filter {
    pf: Option<Pf>,
    /// Value and mask.
    mark: Option<(u32, u32)>,
    zone: Option<u16>,
    status: Option<(u32, u32)>,
}

impl Filter {
    #[doc(alias = "ctnetlink_alloc_filter")]
    fn read(r: Req<'_>) -> Done<Filter> {
        let get = |kind| r.attr(NFGENMSG_LEN, kind).map(be32).transpose();
        if r.attr(NFGENMSG_LEN, CTA_FILTER).is_some() {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let pf = match i32::from(r.body.first().copied().unwrap_or(0)) {
            AF_INET => Some(Pf::V4),
            AF_INET6 => Some(Pf::V6),
            _ => None,
        };
        let mark = match (get(CTA_MARK)?, get(CTA_MARK_MASK)?) {
            (Some(v), mask) => Some((v, mask.unwrap_or(u32::MAX))),
            (None, Some(_)) => return Err(Errno::EINVAL.into()),
            (None, None) => None,
        };
        let zone = r.attr(NFGENMSG_LEN, CTA_ZONE).map(|z| z.first_chunk().ok_or(Errno::EINVAL)).transpose()?;
        let zone = zone.map(|z| u16::from_be_bytes(*z));
        let status = get(CTA_STATUS)?.filter(|v| *v != 0);
        let status_mask = get(CTA_STATUS_MASK)?;
        Ok(Filter { pf, mark, zone, status: status.map(|v| (v, status_mask.unwrap_or(v))) })
    }

    #[doc(alias = "ctnetlink_filter_match")]
    fn takes(&self, c: &Conn) -> bool {
        self.pf.is_none_or(|pf| c.tuple[0].pf == pf)
            && self.mark.is_none_or(|(v, mask)| c.mark & mask == v)
            && self.zone.is_none_or(|z| c.zone.id == z)
            && self.status.is_none_or(|(v, mask)| c.status & mask == v)
    }
}

/// Requests of the subsystem that are no dumps.
pub(crate) fn single(net: &mut Net, c: &Caller<'_>, r: Req<'_>, out: &mut Vec<u8>) -> Done {
    match r.hdr.kind as u8 {
        IPCTNL_MSG_CT_GET | IPCTNL_MSG_CT_GET_CTRZERO => {
            let id = find(net, c.ns, r)?;
            let Some(conn) = net.ct.conns.get(id) else { return Err(Errno::ENOENT.into()) };
            fill(net, conn, out, Head::reply(NEW, c, r), ALL);
            Ok(())
        }
        IPCTNL_MSG_CT_DELETE => delete(net, c, r),
        IPCTNL_MSG_CT_NEW => change(net, c, r),
        IPCTNL_MSG_CT_GET_STATS => {
            let kind = u16::from(NFNL_SUBSYS_CTNETLINK) << 8 | u16::from(IPCTNL_MSG_CT_GET_STATS);
            let h = Head::reply(kind, c, r);
            let mut m = Msg::new(out, h.kind, h.flags, h.seq, h.port);
            m.body(&nfgenmsg(AF_UNSPEC as u8, 0));
            let count = net.ns.get(c.ns).map_or(0, |n| n.sysctl.nf_conntrack_count.0);
            m.attr(CTA_STATS_GLOBAL_ENTRIES, &count.to_be_bytes());
            m.attr(CTA_STATS_GLOBAL_MAX_ENTRIES, &net.sysctl.nf_conntrack_max.to_be_bytes());
            Ok(())
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

/// By the tuple of either direction, and by its id where that is given.
fn find(net: &Net, ns: NsId, r: Req<'_>) -> Done<CtId> {
    let pf = match i32::from(r.body.first().copied().unwrap_or(0)) {
        AF_INET => Pf::V4,
        AF_INET6 => Pf::V6,
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    let attr = |kind| r.attr(NFGENMSG_LEN, kind);
    let Some(b) = attr(CTA_TUPLE_ORIG).or(attr(CTA_TUPLE_REPLY)) else { return Err(Errno::EINVAL.into()) };
    let mut t = read_tuple(b, pf)?;
    let own = nl::attrs(b).find(|(k, _)| *k == CTA_TUPLE_ZONE).map(|(_, v)| v);
    if let Some(z) = attr(CTA_ZONE).or(own) {
        t.zone = u16::from_be_bytes(*z.first_chunk().ok_or(Errno::EINVAL)?);
    }
    let (id, _) = net.ct_find(ns, &t).ok_or(Errno::ENOENT)?;
    let wanted = attr(CTA_ID).map(be32).transpose()?;
    let same = wanted.is_none_or(|w| net.ct.conns.get(id).is_some_and(|c| c.id == w));
    if same { Ok(id) } else { Err(Errno::ENOENT.into()) }
}

#[doc(alias = "ctnetlink_del_conntrack")]
fn delete(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let named = [CTA_TUPLE_ORIG, CTA_TUPLE_REPLY].into_iter().any(|k| r.attr(NFGENMSG_LEN, k).is_some());
    net.ct.asker = c.port;
    let done = if named {
        find(net, c.ns, r).map(|id| net.ct_delete(id))
    } else {
        Filter::read(r).map(|f| {
            net.ct_flush(c.ns, |conn| conn.is_listed() && f.takes(conn));
        })
    };
    net.ct.asker = 0;
    done
}

/// Mark and life time of a connection that is there.
#[doc(alias = "ctnetlink_new_conntrack")]
fn change(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let found = find(net, c.ns, r);
    if r.flag(nl::NLM_F_CREATE) {
        return match found {
            Ok(_) if r.flag(nl::NLM_F_EXCL) => Err(Errno::EEXIST.into()),
            Ok(id) => apply(net, r, id),
            Err(e) if e.errno == Errno::ENOENT => Err(Errno::EOPNOTSUPP.into()),
            Err(e) => Err(e),
        };
    }
    let id = found?;
    apply(net, r, id)
}

fn apply(net: &mut Net, r: Req<'_>, id: CtId) -> Done {
    const KNOWN: [u16; 8] =
        [CTA_ZONE, CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_STATUS, CTA_TIMEOUT, CTA_MARK, CTA_MARK_MASK, CTA_ID];
    if r.attrs(NFGENMSG_LEN).any(|(k, _)| !KNOWN.contains(&k)) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let get = |kind| r.attr(NFGENMSG_LEN, kind).map(be32).transpose();
    let (status, timeout, mark, mask) = (get(CTA_STATUS)?, get(CTA_TIMEOUT)?, get(CTA_MARK)?, get(CTA_MARK_MASK)?);
    let now = net.ct.conns.get(id).map_or(0, |c| c.status);
    if status
        .is_some_and(|s| s & !(IPS_ASSURED | IPS_SEEN_REPLY) != now & !(IPS_ASSURED | IPS_SEEN_REPLY) || now & !s != 0)
    {
        // Nothing that was seen can be unseen.
        return Err(Errno::EBUSY.into());
    }
    if let Some(c) = net.ct.conns.get_mut(id) {
        let before = Some(c.told());
        c.status |= status.unwrap_or(0);
        c.note(before);
        if let Some(m) = mark {
            let kept = mask.map_or(0, |m| !m);
            c.set_mark((c.mark & kept) ^ m);
        }
    }
    if let Some(secs) = timeout {
        net.ct_refresh(id, secs);
    }
    updated(net, id);
    Ok(())
}

/// Dumps; `zero` of them takes the counters away with it.
pub(crate) fn dump(net: &mut Net, c: &Caller<'_>, r: Req<'_>, d: &mut Dump) -> Done {
    let kind = r.hdr.kind as u8;
    match kind {
        IPCTNL_MSG_CT_GET | IPCTNL_MSG_CT_GET_CTRZERO => {
            let f = Filter::read(r)?;
            for conn in net.ct_list(c.ns).filter(|conn| f.takes(conn)) {
                let head = Head::dump(NEW, d);
                fill(net, conn, d.room(), head, ALL);
            }
            if kind == IPCTNL_MSG_CT_GET_CTRZERO {
                let ids: Vec<CtId> =
                    net.ct.conns.iter().filter(|(_, x)| x.ns == c.ns && f.takes(x)).map(|x| x.0).collect();
                for id in ids {
                    if let Some(a) = net.ct.conns.get_mut(id).and_then(|c| c.acct.as_mut()) {
                        *a = [(0, 0); 2];
                    }
                }
            }
        }
        IPCTNL_MSG_CT_GET_UNCONFIRMED => {
            for (_, conn) in net.ct.conns.iter().filter(|(_, x)| x.ns == c.ns && !x.is_confirmed()) {
                let head = Head::dump(NEW, d);
                fill(net, conn, d.room(), head, ALL);
            }
        }
        // What ends has ended.
        IPCTNL_MSG_CT_GET_DYING => {}
        IPCTNL_MSG_CT_GET_STATS_CPU => {
            let s = net.ns.get(c.ns).map_or_else(Default::default, |n| n.ct_stat);
            for cpu in 0..net.cpus.len() {
                // Everything is counted on the first.
                let s = if cpu == 0 { s } else { super::CtStat::default() };
                let h = Head::dump(u16::from(NFNL_SUBSYS_CTNETLINK) << 8 | u16::from(kind), d);
                let mut m = Msg::new(d.room(), h.kind, h.flags, h.seq, h.port);
                m.body(&nfgenmsg(AF_UNSPEC as u8, cpu as u16));
                for (kind, v) in [
                    (CTA_STATS_FOUND, s.found),
                    (CTA_STATS_INVALID, s.invalid),
                    (CTA_STATS_INSERT, s.insert),
                    (CTA_STATS_INSERT_FAILED, s.insert_failed),
                    (CTA_STATS_DROP, s.drop),
                    (CTA_STATS_EARLY_DROP, s.early_drop),
                    (CTA_STATS_ERROR, s.error),
                    (CTA_STATS_SEARCH_RESTART, 0),
                    (CTA_STATS_CLASH_RESOLVE, s.clash_resolve),
                    (CTA_STATS_CHAIN_TOOLONG, 0),
                ] {
                    m.attr(kind, &v.to_be_bytes());
                }
            }
        }
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(())
}

/// Expectations: no helper makes any here.
pub(crate) fn expect(net: &Net, r: Req<'_>, is_dump: bool, d: &mut Dump) -> Done {
    match (r.hdr.kind as u8, is_dump) {
        (IPCTNL_MSG_EXP_GET, true) => Ok(()),
        (IPCTNL_MSG_EXP_GET_STATS_CPU, true) => {
            for cpu in 0..net.cpus.len() {
                let h = Head::dump(r.hdr.kind, d);
                let mut m = Msg::new(d.room(), h.kind, h.flags, h.seq, h.port);
                m.body(&nfgenmsg(AF_UNSPEC as u8, cpu as u16));
                for kind in CTA_STATS_EXP_NEW..CTA_STATS_EXP_NEW + 3 {
                    m.attr(kind, &[0; 4]);
                }
            }
            Ok(())
        }
        (IPCTNL_MSG_EXP_GET, false) | (2, false) => Err(Errno::ENOENT.into()),
        _ => Err(Errno::EOPNOTSUPP.into()),
    }
}
