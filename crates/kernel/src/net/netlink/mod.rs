//! NETLINK_ROUTE, the kernel's side: requests in, datagrams of answers out, notifications for those who listen.
//!
//! Pure functions over [`Net`]; the socket itself (port id, groups, queue) is its owner's. What a request asks for and is not
//! there is refused, never passed over.
pub mod addr;
pub mod bridge;
pub mod bridge_vlan;
pub mod compat;
pub mod ethtool;
pub mod fdb;
mod fdb_own;
pub mod genl;
pub mod link;
pub mod link_set;
pub mod macvlan;
pub mod mdb;
pub mod neigh;
pub mod nexthop;
pub mod notify;
pub mod route;
pub mod route6;
pub mod rule;
pub mod tc;
mod tunnel;
pub mod vlan;
pub mod vxlan;

use crate::env::Nanos;
use crate::ids::{DevId, NsId};
use crate::kernel::Kernel;
use crate::net::Net;
use belljar_abi::netlink::{self as nl, ErrorForm, NlMsgHdr};
use belljar_abi::rtnetlink::*;
use belljar_abi::{self as abi, Errno};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A dump is cut into datagrams of about this size, as Linux does for readers with 32 KB of room.
const DATAGRAM: usize = 16 * 1024;

/// How a request names another namespace: by a descriptor or a process of the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetnsRef {
    Fd(i32),
    Pid(u32),
}

/// Who asks.
pub struct Caller<'a> {
    pub ns: NsId,
    pub port: u32,
    pub uid: u32,
    /// The process, and its name.
    pub process: (u32, &'a str),
    /// CAP_NET_ADMIN: may change things.
    pub net_admin: bool,
    /// NETLINK_GET_STRICT_CHK: what a dump's header names filters it.
    pub strict: bool,
    pub form: ErrorForm,
    /// What the references of the request (`netns_refs`) mean.
    pub netns: &'a [(NetnsRef, NsId)],
}

impl Caller<'_> {
    fn meant(&self, by: NetnsRef) -> Option<NsId> {
        self.netns.iter().find(|(r, _)| *r == by).map(|(_, ns)| *ns)
    }
}

impl std::fmt::Debug for Caller<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("ns", &self.ns).field("port", &self.port).finish_non_exhaustive()
    }
}

/// Why not: the errno, and the words of the extended acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub errno: Errno,
    pub text: Option<&'static str>,
    /// Where in the message the attribute is that it is about (NL_SET_BAD_ATTR).
    pub at: Option<u32>,
}

impl Refusal {
    /// It is about this attribute of the request.
    #[must_use]
    pub fn about(self, at: Option<u32>) -> Refusal {
        Refusal { at: self.at.or(at), ..self }
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Refusal {
        Refusal { errno, text: None, at: None }
    }
}

pub(crate) type Done<T = ()> = Result<T, Refusal>;

pub(crate) fn refuse<T>(errno: Errno, text: &'static str) -> Done<T> {
    Err(Refusal { errno, text: Some(text), at: None })
}

/// The message that is being answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Req<'a> {
    pub hdr: NlMsgHdr,
    pub body: &'a [u8],
}

impl<'a> Req<'a> {
    /// The attributes behind a fixed part.
    pub fn attrs(&self, fixed: usize) -> impl Iterator<Item = (u16, &'a [u8])> {
        nl::attrs(self.body.get(nl::align(fixed)..).unwrap_or(&[]))
    }

    pub fn attr(&self, fixed: usize, kind: u16) -> Option<&'a [u8]> {
        self.attrs(fixed).find(|(k, _)| *k == kind).map(|(_, v)| v)
    }

    /// Where in the message an attribute begins, by its value, which is a part of it.
    pub fn offset_of(&self, value: &[u8]) -> Option<u32> {
        let inside = (value.as_ptr() as usize).checked_sub(self.body.as_ptr() as usize)?;
        let at = (nl::NLMSG_HDRLEN + inside).checked_sub(nl::NLA_HDRLEN)?;
        u32::try_from(at).ok().filter(|_| inside <= self.body.len())
    }

    pub fn flag(&self, flag: u16) -> bool {
        self.hdr.flags & flag != 0
    }
}

/// Answers the requests of one datagram.
#[doc(alias = "netlink_rcv_skb")]
pub fn request(net: &mut Net, c: &Caller<'_>, data: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for (hdr, body) in nl::messages(data) {
        if hdr.flags & nl::NLM_F_REQUEST != 0 && hdr.kind >= nl::NLMSG_MIN_TYPE {
            one(net, c, Req { hdr, body }, &mut out);
        }
    }
    out
}

impl Kernel {
    /// The same as a step of its own: what the changes set off (reports of groups, packets that waited) is seen to.
    pub fn rtnetlink(&mut self, now: Nanos, c: &Caller<'_>, data: &[u8]) -> Vec<Vec<u8>> {
        self.begin_step(now);
        let answers = request(&mut self.net, c, data);
        self.end_step();
        answers
    }
}

fn one(net: &mut Net, c: &Caller<'_>, r: Req<'_>, out: &mut Vec<Vec<u8>>) {
    if tc::is_mine(r.hdr.kind) {
        return tc::one(net, c, r, out);
    }
    let is_get = r.hdr.kind & 3 == 2;
    if is_get && r.hdr.flags & nl::NLM_F_DUMP == nl::NLM_F_DUMP {
        return match dump(net, c, r) {
            Ok(datagrams) => out.extend(datagrams),
            Err(e) => out.push(error(c, r, e)),
        };
    }
    let mut answer = Vec::new();
    let result = if !is_get && !c.net_admin { Err(Errno::EPERM.into()) } else { single(net, c, r, &mut answer) };
    match result {
        Err(e) => answer = error(c, r, e),
        Ok(()) if r.flag(nl::NLM_F_ACK) => nl::error(&mut answer, r.hdr, r.body, Ok(()), c.port),
        Ok(()) => {}
    }
    if !answer.is_empty() {
        out.push(answer);
    }
}

pub(crate) fn error(c: &Caller<'_>, r: Req<'_>, e: Refusal) -> Vec<u8> {
    let mut b = Vec::new();
    nl::error_with(&mut b, r.hdr, r.body, (e.errno, nl::ExtAck { text: e.text, offset: e.at }), c.form, c.port);
    b
}

fn single(net: &mut Net, c: &Caller<'_>, r: Req<'_>, out: &mut Vec<u8>) -> Done {
    let family = i32::from(request_family(r.body));
    match (r.hdr.kind, family) {
        (RTM_NEWLINK | RTM_SETLINK, abi::AF_BRIDGE) => fdb::set_port(net, c, r),
        (RTM_DELLINK, abi::AF_BRIDGE) => fdb::del_port(net, c, r),
        (RTM_NEWLINK, _) => link_set::newlink(net, c, r),
        (RTM_SETLINK, _) => link_set::setlink(net, c, r),
        (RTM_DELLINK, _) => link_set::dellink(net, c, r),
        (RTM_GETLINK, _) => link::get(net, c, r, out),
        (RTM_NEWADDR, _) => addr::new(net, c, r),
        (RTM_DELADDR, _) => addr::del(net, c, r),
        (RTM_NEWROUTE, abi::AF_INET6) => route6::new(net, c, r),
        (RTM_DELROUTE, abi::AF_INET6) => route6::del(net, c, r),
        (RTM_GETROUTE, abi::AF_INET6) => route6::get(net, c, r, out),
        (RTM_NEWROUTE, abi::AF_INET) => route::new(net, c, r),
        (RTM_DELROUTE, abi::AF_INET) => route::del(net, c, r),
        (RTM_GETROUTE, abi::AF_INET) => route::get(net, c, r, out),
        (RTM_NEWNEIGH, abi::AF_BRIDGE) if vxlan::is_mine(net, c, r) => vxlan::fdb_add(net, c, r),
        (RTM_DELNEIGH, abi::AF_BRIDGE) if vxlan::is_mine(net, c, r) => vxlan::fdb_del(net, c, r),
        (RTM_DELNEIGH, abi::AF_BRIDGE) if r.flag(nl::NLM_F_BULK) => fdb_own::flush(net, c, r),
        (RTM_NEWNEIGH, abi::AF_BRIDGE) => fdb::new(net, c, r),
        (RTM_DELNEIGH, abi::AF_BRIDGE) => fdb::del(net, c, r),
        (RTM_GETNEIGH, abi::AF_BRIDGE) => fdb_own::get(net, c, r, out),
        (RTM_NEWNEIGH, _) => neigh::new(net, c, r),
        (RTM_DELNEIGH, _) => neigh::del(net, c, r),
        (RTM_GETNEIGH, _) => neigh::get(net, c, r, out),
        (RTM_NEWRULE, abi::AF_INET | abi::AF_INET6) => rule::new(net, c, r),
        (RTM_DELRULE, abi::AF_INET | abi::AF_INET6) => rule::del(net, c, r),
        (RTM_NEWRULE | RTM_DELRULE, _) => Err(Errno::EAFNOSUPPORT.into()),
        (RTM_NEWMDB, _) => mdb::change(net, c, r, true),
        (RTM_DELMDB, _) => mdb::change(net, c, r, false),
        (RTM_NEWNEXTHOP, _) => nexthop::new(net, c, r),
        (RTM_DELNEXTHOP, _) => nexthop::del(net, c, r),
        (RTM_GETNEXTHOP, _) => nexthop::get(net, c, r, out),
        (RTM_GETNSID, _) => link::get_nsid(net, c, r, out),
        _ => Err(Errno::EOPNOTSUPP.into()),
    }
}

/// The messages of a dump, each whole in a datagram, and NLMSG_DONE behind the last.
fn dump(net: &Net, c: &Caller<'_>, r: Req<'_>) -> Done<Vec<Vec<u8>>> {
    let mut d = Dump::new(c, r);
    let family = i32::from(request_family(r.body));
    let wants = |f: i32| family == abi::AF_UNSPEC || family == f;
    match r.hdr.kind {
        RTM_GETLINK if family == abi::AF_BRIDGE => fdb::dump_ports(net, c, r, &mut d),
        RTM_GETLINK => link::dump(net, c, r, &mut d),
        RTM_GETADDR => addr::dump(net, c, r, &mut d)?,
        RTM_GETROUTE => {
            if let Err(e) = no_table(net, c, r, family) {
                return Ok(d.failed(c, e));
            }
            // Of all families IPv4 comes first.
            if wants(abi::AF_INET) {
                route::dump(net, c, r, &mut d)?;
            }
            if wants(abi::AF_INET6) {
                route6::dump(net, c, r, &mut d)?;
            }
        }
        RTM_GETNEIGH if family == abi::AF_BRIDGE => fdb::dump(net, c, r, &mut d),
        RTM_GETNEIGH => neigh::dump(net, c, r, &mut d),
        RTM_GETMDB => mdb::dump(net, c, r, &mut d),
        RTM_GETNEXTHOP => nexthop::dump(net, c, r, &mut d)?,
        RTM_GETRULE => rule::dump(net, c, r, &mut d),
        _ => return Err(Errno::EOPNOTSUPP.into()),
    }
    Ok(d.done())
}

/// Who names a table and a family is told when there is no such table.
fn no_table(net: &Net, c: &Caller<'_>, r: Req<'_>, family: i32) -> Done {
    let msg = RtMsg::parse(r.body).unwrap_or_default();
    let table = r.attr(RtMsg::LEN, RTA_TABLE).and_then(|v| nl::u32_at(v, 0)).unwrap_or(msg.table.into());
    let Some(n) = net.ns.get(c.ns).filter(|_| c.strict && table != 0) else { return Ok(()) };
    match family {
        abi::AF_INET if n.fib.table(table).is_none() => refuse(Errno::ENOENT, "ipv4: FIB table does not exist"),
        abi::AF_INET6 if n.v6.fib.table(table).is_none() => refuse(Errno::ENOENT, "ipv6: FIB table does not exist"),
        _ => Ok(()),
    }
}

/// A dump that is being written.
#[derive(Debug)]
pub(crate) struct Dump {
    pub seq: u32,
    pub port: u32,
    /// Bytes behind which another datagram begins.
    pub most: usize,
    out: Vec<Vec<u8>>,
}

impl Dump {
    pub fn new(c: &Caller<'_>, r: Req<'_>) -> Dump {
        Dump { seq: r.hdr.seq, port: c.port, most: DATAGRAM, out: vec![Vec::new()] }
    }

    /// Where the next message goes.
    pub fn room(&mut self) -> &mut Vec<u8> {
        if self.out.last().is_none_or(|b| b.len() > self.most) {
            self.out.push(Vec::new());
        }
        let last = self.out.len() - 1;
        &mut self.out[last]
    }

    pub fn done(mut self) -> Vec<Vec<u8>> {
        self.out.retain(|b| !b.is_empty());
        let mut b = Vec::new();
        nl::done(&mut b, self.seq, self.port);
        self.out.push(b);
        self.out
    }
}

impl Dump {
    /// Nothing but why not.
    fn failed(self, c: &Caller<'_>, e: Refusal) -> Vec<Vec<u8>> {
        let mut b = Vec::new();
        nl::failed(&mut b, self.seq, self.port, (e.errno, e.text.filter(|_| c.form.ext_ack)));
        vec![b]
    }
}

/// Header of a message that answers or tells.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Head {
    pub kind: u16,
    pub flags: u16,
    pub seq: u32,
    pub port: u32,
}

impl Head {
    pub fn dump(kind: u16, d: &Dump) -> Head {
        Head { kind, flags: nl::NLM_F_MULTI, seq: d.seq, port: d.port }
    }

    pub fn reply(kind: u16, c: &Caller<'_>, r: Req<'_>) -> Head {
        Head { kind, flags: 0, seq: r.hdr.seq, port: c.port }
    }
}

pub(crate) fn u32_of(v: &[u8]) -> Done<u32> {
    nl::u32_at(v, 0).ok_or(Errno::EINVAL.into())
}

pub(crate) fn v4_of(v: &[u8]) -> Done<Ipv4Addr> {
    v.first_chunk::<4>().map(|b| Ipv4Addr::from(*b)).ok_or(Errno::EINVAL.into())
}

pub(crate) fn v6_of(v: &[u8]) -> Done<Ipv6Addr> {
    v.first_chunk::<16>().map(|b| Ipv6Addr::from(*b)).ok_or(Errno::EINVAL.into())
}

pub(crate) fn str_of(v: &[u8]) -> Done<&str> {
    let end = v.iter().position(|b| *b == 0).unwrap_or(v.len());
    std::str::from_utf8(v.get(..end).unwrap_or(&[])).map_err(|_| Errno::EINVAL.into())
}

pub(crate) fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

pub(crate) fn index(net: &Net, dev: Option<DevId>) -> u32 {
    dev.and_then(|d| net.devs.get(d)).map_or(0, |d| d.ifindex)
}

/// The device with a number in the caller's namespace.
pub(crate) fn device(net: &Net, c: &Caller<'_>, index: u32) -> Done<DevId> {
    net.dev_by_index(c.ns, index).ok_or(Errno::ENODEV.into())
}
