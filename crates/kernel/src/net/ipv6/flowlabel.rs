//! Leases of flow labels (IPV6_FLOWLABEL_MGR, RFC 6437 §3): which sockets may send with a label, for how long it stays taken
//! after the last of them, and what goes with it. Nobody waits for the end of a lease: it is looked at when labels are.
use super::txopts::{self, TxOptions};
use crate::env::{Env, SEC};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::skb::SkBuff;
use crate::net::core::sock::Sock;
use crate::net::core::sockopt6::V6Opts;
use crate::task::call::Cred;
use belljar_abi::*;
use belljar_wire::ipv6::Ipv6Header;
use core::fmt::Write;
use core::net::Ipv6Addr;

/// 20 bits, of which the first says that nobody keeps it (`flowlabel_state_ranges`).
pub const MASK: u32 = 0xf_ffff;
pub const STATELESS: u32 = 0x8_0000;

/// Seconds: a lease lasts at least so long, and longer only for who may.
const FL_MIN_LINGER: u16 = 6;
const FL_MAX_LINGER: u16 = 150;
/// Labels of a namespace, and of one socket.
const FL_MAX_SIZE: usize = 4096;
const FL_MAX_PER_SOCK: usize = 32;

/// `struct in6_flowlabel_req`; behind it control messages with headers.
const REQ: usize = 32;

// Bits of net.ipv6.flowlabel_reflect.
pub const REFLECT_ESTABLISHED: u32 = 1;
pub const REFLECT_TCP_RESET: u32 = 2;
pub const REFLECT_ECHO_REPLIES: u32 = 4;

/// A label (`struct ip6_flowlabel`). Times are ticks.
#[derive(Clone, Debug)]
struct Label {
    label: u32,
    share: u8,
    /// A process or a user, where that matters; else 0.
    owner: u32,
    users: u32,
    linger: u64,
    expires: u64,
    last_use: u64,
    dst: Ipv6Addr,
    opt: Option<Box<TxOptions>>,
}

/// The labels of a namespace, the newest first.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    all: Vec<Label>,
}

impl Labels {
    /// Forgets those whose time is over and that nobody uses.
    fn collect(&mut self, now: u64) {
        self.all.retain(|l| !l.over(now));
    }

    fn get(&mut self, label: u32) -> Option<&mut Label> {
        self.all.iter_mut().find(|l| l.label == label)
    }

    /// There are labels that not everybody may send with: one that a socket has not leased is refused.
    fn exclusive(&self) -> bool {
        self.all.iter().any(|l| l.share != IPV6_FL_S_ANY || l.opt.is_some())
    }

    /// A socket leaves one.
    #[doc(alias = "fl_release")]
    fn release(&mut self, label: u32, now: u64) {
        let Some(l) = self.get(label) else { return };
        l.last_use = now;
        l.users = l.users.saturating_sub(1);
        if l.users == 0 {
            l.expires = l.expires.max(now + l.linger);
            if l.share == IPV6_FL_S_EXCL {
                l.opt = None;
            }
        }
    }
}

impl Label {
    fn over(&self, now: u64) -> bool {
        self.users == 0 && now >= self.expires.max(self.last_use + self.linger)
    }

    #[doc(alias = "fl6_renew")]
    fn renew(&mut self, linger: u64, expires: u64, now: u64) {
        self.last_use = now;
        self.linger = self.linger.max(linger);
        self.expires = self.expires.max(now + expires.max(self.linger));
    }
}

/// The time in ticks, which do not wrap.
fn ticks_now(env: &Env) -> u64 {
    env.now / (SEC / u64::from(env.hz.max(1)))
}

/// What a program asks.
struct Req {
    dst: Ipv6Addr,
    label: u32,
    action: u8,
    share: u8,
    flags: u16,
    expires: u16,
    linger: u16,
}

fn parse(value: &[u8]) -> Result<Req, Errno> {
    let b: &[u8; REQ] = value.first_chunk().ok_or(Errno::EINVAL)?;
    let half = |at: usize| u16::from_ne_bytes([b[at], b[at + 1]]);
    let dst = b.first_chunk::<16>().map_or(Ipv6Addr::UNSPECIFIED, |a| (*a).into());
    let label = u32::from_be_bytes([b[16], b[17], b[18], b[19]]);
    Ok(Req { dst, label, action: b[20], share: b[21], flags: half(22), expires: half(24), linger: half(26) })
}

/// Ticks of a time in seconds; EPERM for more than everybody may ask.
#[doc(alias = "check_linger")]
fn ticks(seconds: u16, admin: bool, hz: u32) -> Result<u64, Errno> {
    match seconds {
        0..FL_MIN_LINGER => Ok(u64::from(FL_MIN_LINGER) * u64::from(hz)),
        s if s > FL_MAX_LINGER && !admin => Err(Errno::EPERM),
        s => Ok(u64::from(s) * u64::from(hz)),
    }
}

/// Who asks: a program with its process number.
#[derive(Clone, Copy, Debug)]
pub struct Who {
    pub cred: Cred,
    pub pid: u32,
}

/// Leases, renews or gives back; returns the label, which was chosen here if none was asked for.
#[doc(alias = "ipv6_flowlabel_opt")]
pub(crate) fn set(k: &mut Kernel, sock: SockId, value: &[u8], who: Who) -> Result<u32, Errno> {
    let req = parse(value)?;
    let Kernel { socks, net, .. } = k;
    let sk = socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?;
    let (ns, now) = (sk.ns, ticks_now(&net.env));
    net.ns.get_mut(ns).ok_or(Errno::EINVAL)?.v6.labels.collect(now);
    let done = match req.action {
        IPV6_FL_A_GET if req.flags & IPV6_FL_F_REFLECT != 0 => reflect(sk, net, sock, true),
        IPV6_FL_A_PUT if req.flags & IPV6_FL_F_REFLECT != 0 => reflect(sk, net, sock, false),
        IPV6_FL_A_GET => return lease(sk, net, &req, value, who),
        IPV6_FL_A_PUT => put(sk, net, &req),
        IPV6_FL_A_RENEW => renew(sk, net, &req, who),
        _ => Err(Errno::EINVAL),
    };
    done.map(|()| req.label)
}

/// Connections that come answer with the label that they came with.
fn reflect(sk: &mut Sock, net: &Net, sock: SockId, on: bool) -> Result<(), Errno> {
    if on && net.ns.get(sk.ns).is_some_and(|n| n.sysctl.flowlabel_consistency != 0) {
        return Err(Errno::EPERM);
    }
    if sock.tcp().is_none() {
        return Err(Errno::ENOPROTOOPT);
    }
    if !on && !sk.v6_opts().is_some_and(|o| o.repflow) {
        return Err(Errno::ESRCH);
    }
    sk.v6_opts_mut().repflow = on;
    if !on {
        sk.cold().flow_label = 0;
    }
    Ok(())
}

fn put(sk: &mut Sock, net: &mut Net, req: &Req) -> Result<(), Errno> {
    let leased = &mut sk.v6_opts_mut().labels;
    let at = leased.iter().position(|l| *l == req.label).ok_or(Errno::ESRCH)?;
    leased.remove(at);
    let label = &mut sk.cold().flow_label;
    if *label & MASK == req.label {
        *label &= !MASK;
    }
    let now = ticks_now(&net.env);
    if let Some(n) = net.ns.get_mut(sk.ns) {
        n.v6.labels.release(req.label, now);
    }
    Ok(())
}

fn renew(sk: &Sock, net: &mut Net, req: &Req, who: Who) -> Result<(), Errno> {
    let (now, hz) = (ticks_now(&net.env), net.env.hz);
    let own = sk.v6_opts().is_some_and(|o| o.labels.contains(&req.label));
    let admin = who.cred.caps.net_admin;
    let labels = &mut net.ns.get_mut(sk.ns).ok_or(Errno::EINVAL)?.v6.labels;
    let may = |l: &&mut Label| own || req.share == IPV6_FL_S_NONE && admin && l.users > 0;
    let l = labels.get(req.label).filter(may).ok_or(Errno::ESRCH)?;
    l.renew(ticks(req.linger, admin, hz)?, ticks(req.expires, admin, hz)?, now);
    Ok(())
}

/// The label as it would be if it were free.
#[doc(alias = "fl_create")]
fn create(net: &Net, req: &Req, value: &[u8], who: Who) -> Result<Label, Errno> {
    let (now, hz, caps) = (ticks_now(&net.env), net.env.hz, who.cred.caps);
    let opt = txopts::parse_all(value.get(REQ..).unwrap_or(&[]), caps.net_raw)?;
    if opt.len() > txopts::MAX_STREAM {
        return Err(Errno::ENOBUFS);
    }
    let opt = (!opt.is_empty()).then(|| Box::new(opt));
    let (linger, expires) = (ticks(req.linger, caps.net_admin, hz)?, ticks(req.expires, caps.net_admin, hz)?);
    let Req { label, share, dst, .. } = *req;
    if dst.is_unspecified() || dst.to_ipv4_mapped().is_some() {
        return Err(Errno::EINVAL);
    }
    let owner = match share {
        IPV6_FL_S_EXCL | IPV6_FL_S_ANY => 0,
        IPV6_FL_S_PROCESS => who.pid,
        IPV6_FL_S_USER => who.cred.uid,
        _ => return Err(Errno::EINVAL),
    };
    let mut l = Label { label, share, owner, users: 1, linger: 0, expires: now, last_use: now, dst, opt };
    l.renew(linger, expires, now);
    Ok(l)
}

fn lease(sk: &mut Sock, net: &mut Net, req: &Req, value: &[u8], who: Who) -> Result<u32, Errno> {
    let ranges = net.ns.get(sk.ns).is_some_and(|n| n.sysctl.flowlabel_state_ranges != 0);
    if req.label & !MASK != 0 {
        return Err(Errno::EINVAL);
    }
    if ranges && req.label & STATELESS != 0 {
        return Err(Errno::ERANGE);
    }
    let mut new = create(net, req, value, who)?;
    let labels = &mut net.ns.get_mut(sk.ns).ok_or(Errno::EINVAL)?.v6.labels;
    let leased = sk.v6_opts().map_or(0, |o| o.labels.len());
    let there = labels.get(req.label).filter(|_| req.label != 0);
    // One that nobody uses is not found, but still there for who would make it.
    if let Some(l) = there.filter(|l| l.users > 0 || req.flags & IPV6_FL_F_CREATE != 0) {
        if req.flags & IPV6_FL_F_EXCL != 0 {
            return Err(Errno::EEXIST);
        }
        if l.share == IPV6_FL_S_EXCL || (l.share, l.owner) != (new.share, new.owner) {
            return Err(Errno::EPERM);
        }
        if leased >= FL_MAX_SIZE {
            return Err(Errno::ENOMEM);
        }
        (l.linger, l.expires) = (l.linger.max(new.linger), l.expires.max(new.expires));
        l.users += 1;
    } else {
        if req.flags & IPV6_FL_F_CREATE == 0 {
            return Err(Errno::ENOENT);
        }
        mem_check(labels.all.len(), leased, who.cred.caps.net_admin)?;
        while new.label == 0 || req.label == 0 && labels.get(new.label).is_some() {
            new.label = net.env.rng.next_u32() & MASK;
        }
        labels.all.insert(0, new.clone());
    }
    sk.v6_opts_mut().labels.insert(0, new.label);
    Ok(new.label)
}

/// ENOBUFS where one socket, or all of them, would have too many.
fn mem_check(all: usize, own: usize, admin: bool) -> Result<(), Errno> {
    let room = FL_MAX_SIZE.saturating_sub(all);
    if room > FL_MAX_SIZE - FL_MAX_PER_SOCK {
        return Ok(());
    }
    let many = own >= FL_MAX_PER_SOCK || own > 0 && room < FL_MAX_SIZE / 2 || room < FL_MAX_SIZE / 4;
    if room == 0 || many && !admin { Err(Errno::ENOBUFS) } else { Ok(()) }
}

/// What the socket's connection sends with, in the form of a request: `asked` says whether that, or what was received.
#[doc(alias = "ipv6_flowlabel_opt_get")]
pub(crate) fn get(k: &Kernel, sock: SockId, asked: &[u8]) -> Result<Vec<u8>, Errno> {
    let req = parse(asked)?;
    if req.action != IPV6_FL_A_GET {
        return Err(Errno::EINVAL);
    }
    let sk = k.socks.sk(sock).ok_or(Errno::ENOTSOCK)?;
    let default = V6Opts::default();
    let o = sk.v6_opts().unwrap_or(&default);
    let own = sk.flow_label();
    let mut out = vec![0; REQ];
    if req.flags & IPV6_FL_F_REMOTE != 0 {
        return Ok(out);
    }
    if o.repflow {
        out[16..20].copy_from_slice(&own.to_be_bytes());
        return Ok(out);
    }
    let labels = &k.net.ns.get(sk.ns).ok_or(Errno::EINVAL)?.v6.labels;
    let found = labels.all.iter().find(|l| l.label == own && o.labels.contains(&own)).ok_or(Errno::ENOENT)?;
    let (now, hz) = (ticks_now(&k.net.env), u64::from(k.net.env.hz));
    out[..16].copy_from_slice(&found.dst.octets());
    out[16..20].copy_from_slice(&own.to_be_bytes());
    out[21] = found.share;
    let seconds = |t: u64| ((t / hz) as u16).to_ne_bytes();
    out[24..26].copy_from_slice(&seconds(found.expires.saturating_sub(now)));
    out[26..28].copy_from_slice(&seconds(found.linger));
    Ok(out)
}

/// The label of a received packet; 0 of IPv4.
pub fn of_skb(skb: &SkBuff) -> u32 {
    Ipv6Header::parse(skb.head.at(skb.network_header)).map_or(0, |ip| ip.flow)
}

/// What goes with the label that a packet of the socket is to have: the headers of its lease, if it has one, in place of the
/// socket's. EINVAL where labels are leased and this one not to it.
#[doc(alias = "fl6_sock_lookup")]
#[doc(alias = "fl6_merge_options")]
pub(crate) fn look_up(net: &Net, sk: &Sock, flowinfo: u32, ext: &mut Option<Box<TxOptions>>) -> Result<(), Errno> {
    let label = flowinfo & MASK;
    let Some(labels) = net.ns.get(sk.ns).map(|n| &n.v6.labels).filter(|l| label != 0 && l.exclusive()) else {
        return Ok(());
    };
    let leased = sk.v6_opts().is_some_and(|o| o.labels.contains(&label));
    let l = labels.all.iter().find(|l| leased && l.label == label).ok_or(Errno::EINVAL)?;
    *ext = TxOptions::merge(l.opt.as_deref(), ext.take());
    Ok(())
}

/// The socket ends: what it leased is free after its time.
#[doc(alias = "fl6_free_socklist")]
pub(crate) fn close(k: &mut Kernel, sock: SockId) {
    let Some(sk) = k.socks.sk_mut(sock) else { return };
    let (ns, v6) = (sk.ns, sk.cold.as_mut().and_then(|c| c.v6.as_mut()));
    let leased = v6.map(|o| std::mem::take(&mut o.labels)).unwrap_or_default();
    let now = ticks_now(&k.net.env);
    if let Some(n) = k.net.ns.get_mut(ns) {
        leased.iter().for_each(|l| n.v6.labels.release(*l, now));
    }
}

/// `/proc/net/ip6_flowlabel`, in the order of Linux's table.
pub(crate) fn show(net: &Net, ns: NsId) -> String {
    let mut out = "Label S Owner  Users  Linger Expires  Dst                              Opt\n".to_owned();
    let (now, hz) = (ticks_now(&net.env), u64::from(net.env.hz));
    let Some(n) = net.ns.get(ns) else { return out };
    let mut all: Vec<&Label> = n.v6.labels.all.iter().filter(|l| !l.over(now)).collect();
    all.sort_by_key(|l| l.label & 0xff);
    for l in all {
        let (linger, left) = (l.linger / hz, (l.expires as i64 - now as i64) / hz as i64);
        let opt = l.opt.as_ref().map_or(0, |o| o.nflen());
        let Label { label, share, owner, users, dst, .. } = l;
        let dst = dst.to_bits();
        let _ = writeln!(out, "{label:05X} {share:<1} {owner:<6} {users:<6} {linger:<6} {left:<8} {dst:032x} {opt:<4}");
    }
    out
}
