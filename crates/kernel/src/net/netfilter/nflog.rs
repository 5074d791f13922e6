//! nfnetlink_log: packets that a rule shows to a program, which binds a group to its netlink socket and reads them there, several
//! in a datagram.
use super::nft::Link;
use super::nft::layer2::Family;
use super::packet::Pkt;
use super::rules::Nflog;
use super::{Devs, Hook, Pf};
use crate::env::time::Jiffies;
use crate::env::timers::{Fire, Fired, TimerKey, TimerSlot};
use crate::ids::NsId;
use crate::net::Net;
use crate::net::core::dev::NetDevice;
use crate::net::core::skb::{Sender, SkBuff};
use crate::net::netfilter::nfnetlink::be32;
use crate::net::netlink::notify;
use crate::net::netlink::{Caller, Done, Req};
use crate::net::packet::link_of;
use crate::net::sysctl::Log;
use belljar_abi::Errno;
use belljar_abi::netlink::{self as nl, Msg};
use belljar_abi::nf_tables::{NFPROTO_BRIDGE, NFPROTO_IPV4, NFPROTO_IPV6};
use belljar_abi::nfnetlink::*;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The most of a packet that fits into an attribute (`NFULNL_COPY_RANGE_MAX`).
const COPY_RANGE_MAX: u32 = 0xffff - nl::NLA_HDRLEN as u32;
/// Room for messages in one datagram: what a page has left beside its buffer's own data; up to 128 KB may be asked for.
const NLBUFSIZ: u32 = 4096 - 320;
const NLBUFSIZ_MAX: u32 = 131_072;
/// Hundredths of a second that the first of several packets waits, and how many wait.
const FLUSH_TIMEOUT: u32 = 100;
const QTHRESH: u32 = 100;
/// Families that have loggers (`NFPROTO_NUMPROTO`).
const PROTOCOLS: u8 = 11;

/// A group and the socket that is bound to it.
#[derive(Clone, Debug)]
struct Instance {
    port: u32,
    copy_mode: u8,
    copy_range: u32,
    flush_timeout: u32,
    qthreshold: u32,
    nlbufsiz: u32,
    flags: u16,
    seq: u32,
    /// Messages that wait, and how many.
    queued: Vec<u8>,
    qlen: u32,
    timer: TimerSlot,
}

/// Groups of one namespace.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    by_number: BTreeMap<u16, Instance>,
    /// Packets shown so far, whatever their group.
    global_seq: u32,
}

/// A message of the subsystem.
pub(crate) fn request(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    match r.hdr.kind as u8 {
        NFULNL_MSG_CONFIG => config(net, c, r),
        NFULNL_MSG_PACKET => Err(Errno::ENOTSUPP.into()),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// Lengths that the kernel's policy asks of attributes; ERANGE for shorter ones.
fn attr(r: Req<'_>, kind: u16, len: usize) -> Done<Option<&[u8]>> {
    match r.attr(NFGENMSG_LEN, kind) {
        Some(v) if v.len() < len => Err(Errno::ERANGE.into()),
        v => Ok(v),
    }
}

#[doc(alias = "nfulnl_recv_config")]
fn config(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let group = r.body.get(2..4).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
    let command = attr(r, NFULA_CFG_CMD, 1)?.and_then(|v| v.first().copied());
    let mode = attr(r, NFULA_CFG_MODE, 6)?;
    let number = |kind| attr(r, kind, 4)?.map(be32).transpose();
    let timeout = number(NFULA_CFG_TIMEOUT)?;
    let (nlbufsiz, qthreshold) = (number(NFULA_CFG_NLBUFSIZ)?, number(NFULA_CFG_QTHRESH)?);
    let flags = attr(r, NFULA_CFG_FLAGS, 2)?.map(|v| u16::from_be_bytes([v[0], v[1]]));
    match command {
        Some(NFULNL_CFG_CMD_PF_BIND) if r.body.first().is_some_and(|f| *f >= PROTOCOLS) => {
            return Err(Errno::EINVAL.into());
        }
        // Every rule names its own logger: this is for lines that none asked for.
        Some(cmd @ (NFULNL_CFG_CMD_PF_BIND | NFULNL_CFG_CMD_PF_UNBIND)) => {
            let to = if cmd == NFULNL_CFG_CMD_PF_BIND { Log::Netlink } else { Log::Nowhere };
            let sysctl = net.ns.get_mut(c.ns).map(|n| &mut n.sysctl);
            let logger = sysctl.and_then(|s| s.logger_mut(r.body.first().copied()?));
            logger.into_iter().for_each(|l| l.to = to);
            return Ok(());
        }
        _ => {}
    }
    let Some(groups) = net.ns.get_mut(c.ns).map(|n| &mut n.nflog) else { return Err(Errno::ENODEV.into()) };
    let old = groups.by_number.get(&group).map(|i| i.port);
    if old.is_some_and(|p| p != c.port) {
        return Err(Errno::EPERM.into());
    }
    if flags.is_some_and(|f| f & NFULNL_CFG_F_CONNTRACK != 0) {
        // As a kernel without NETFILTER_NETLINK_GLUE_CT.
        return Err(Errno::EOPNOTSUPP.into());
    }
    match command {
        Some(NFULNL_CFG_CMD_BIND) if old.is_some() => return Err(Errno::EBUSY.into()),
        Some(NFULNL_CFG_CMD_BIND) => drop(groups.by_number.insert(group, Instance::new(c.port))),
        Some(NFULNL_CFG_CMD_UNBIND) if old.is_some() => {
            net.nflog_unbind(c.ns, group);
            return Ok(());
        }
        None if old.is_some() => {}
        None | Some(NFULNL_CFG_CMD_UNBIND) => return Err(Errno::ENODEV.into()),
        Some(_) => return Err(Errno::ENOTSUPP.into()),
    }
    let Some(i) = groups.by_number.get_mut(&group) else { return Ok(()) };
    if let Some(m) = mode {
        i.set_mode(m.get(4).copied().unwrap_or(0), be32(m)?);
    }
    i.flush_timeout = timeout.unwrap_or(i.flush_timeout);
    i.qthreshold = qthreshold.unwrap_or(i.qthreshold);
    i.flags = flags.unwrap_or(i.flags);
    // What is out of range changes nothing, and nobody is told.
    i.nlbufsiz = nlbufsiz.filter(|n| (NLBUFSIZ..=NLBUFSIZ_MAX).contains(n)).unwrap_or(i.nlbufsiz);
    Ok(())
}

impl Instance {
    fn new(port: u32) -> Instance {
        Instance {
            port,
            copy_mode: NFULNL_COPY_PACKET,
            copy_range: COPY_RANGE_MAX,
            flush_timeout: FLUSH_TIMEOUT,
            qthreshold: QTHRESH,
            nlbufsiz: NLBUFSIZ,
            flags: 0,
            seq: 0,
            queued: Vec::new(),
            qlen: 0,
            timer: TimerSlot::default(),
        }
    }

    #[doc(alias = "nfulnl_set_mode")]
    fn set_mode(&mut self, mode: u8, range: u32) {
        match mode {
            NFULNL_COPY_NONE | NFULNL_COPY_META => (self.copy_mode, self.copy_range) = (mode, 0),
            NFULNL_COPY_PACKET => {
                let range = if range == 0 { COPY_RANGE_MAX } else { range };
                (self.copy_mode, self.copy_range) = (mode, range.min(COPY_RANGE_MAX));
            }
            _ => {}
        }
    }
}

/// Everything about a packet but where it goes.
struct Shown<'a> {
    prefix: &'a str,
    hook: Hook,
    /// Not in the network layer.
    link: Option<Link>,
    p: &'a Pkt,
    skb: &'a SkBuff,
    devs: Devs,
}

/// A rule shows a packet; without anybody at the group nothing happens.
#[doc(alias = "nfulnl_log_packet")]
pub fn log(net: &mut Net, ns: NsId, l: &Nflog, (hook, link): (Hook, Option<Link>), p: &Pkt, skb: &SkBuff, devs: Devs) {
    let Some(n) = net.ns.get_mut(ns) else { return };
    let Some(i) = n.nflog.by_number.get_mut(&l.group) else { return };
    let wanted =
        if i.copy_mode == NFULNL_COPY_PACKET { l.size.map_or(i.copy_range, |s| s.min(i.copy_range)) } else { 0 };
    let len = skb.len().min(wanted as usize);
    let threshold = if l.threshold == 0 { i.qthreshold } else { i.qthreshold.min(l.threshold.into()) };
    // Numbers of a group begin with 0, those of all groups with 1.
    n.nflog.global_seq = n.nflog.global_seq.wrapping_add(u32::from(i.flags & NFULNL_CFG_F_SEQ_GLOBAL != 0));
    let (numbers, nlbufsiz) = (i.numbers(n.nflog.global_seq), i.nlbufsiz as usize);
    i.seq = i.seq.wrapping_add(u32::from(i.flags & NFULNL_CFG_F_SEQ != 0));
    let mut one = Vec::with_capacity(256 + len);
    fill(net, &mut one, l.group, &Shown { prefix: &l.prefix, hook, link, p, skb, devs }, numbers, len);
    let size = room(&l.prefix, devs.0.is_some(), numbers, len);
    let full = |i: &Instance| !i.queued.is_empty() && i.queued.len() + size > nlbufsiz;
    if net.nflog(ns, l.group).is_some_and(full) {
        net.nflog_flush(ns, l.group);
    }
    let (now, hz) = (net.env.jiffies(), net.env.hz);
    let Some(i) = net.ns.get_mut(ns).and_then(|n| n.nflog.by_number.get_mut(&l.group)) else { return };
    i.qlen += 1;
    i.queued.extend_from_slice(&one);
    if i.qlen >= threshold {
        net.nflog_flush(ns, l.group);
    } else if !i.timer.is_armed() {
        let ticks = u64::from(i.flush_timeout) * u64::from(hz) / 100;
        let at = now.wrapping_add(ticks.min(u64::from(Jiffies::MAX / 2)) as Jiffies);
        net.env.timers.arm(&mut i.timer, at, TimerKey::Nflog(ns, l.group));
    }
}

/// What the kernel reckons with for a message, whether it has all of that or not.
fn room(prefix: &str, came_in: bool, numbers: [(u16, Option<u32>); 2], len: usize) -> usize {
    let attr = |len: usize| nl::align(nl::NLA_HDRLEN + len);
    // Header, four devices, mark, user, group, sender, time, and the end of the datagram.
    let fixed = nl::NLMSG_HDRLEN + NFGENMSG_LEN + attr(4) * 8 + attr(12) + attr(16) + attr(NFGENMSG_LEN);
    let link = if came_in { attr(14) + 2 * attr(2) } else { 0 };
    let numbers = numbers.iter().filter(|n| n.1.is_some()).count() * attr(4);
    fixed + link + numbers + attr(prefix.len() + 1) + if len > 0 { attr(len) } else { 0 }
}

impl Instance {
    /// Numbers that a message carries, where its reader asked for them.
    fn numbers(&self, global: u32) -> [(u16, Option<u32>); 2] {
        let has = |flag: u16| self.flags & flag != 0;
        [
            (NFULA_SEQ, has(NFULNL_CFG_F_SEQ).then_some(self.seq)),
            (NFULA_SEQ_GLOBAL, has(NFULNL_CFG_F_SEQ_GLOBAL).then_some(global)),
        ]
    }
}

#[doc(alias = "__build_packet_message")]
fn fill(net: &Net, out: &mut Vec<u8>, group: u16, s: &Shown<'_>, numbers: [(u16, Option<u32>); 2], len: usize) {
    let ip = if s.p.pf == Pf::V4 { (NFPROTO_IPV4, 0x0800u16) } else { (NFPROTO_IPV6, 0x86dd) };
    let (family, protocol) = s.link.map_or(ip, |l| (l.family, l.protocol));
    let hook = s.link.and_then(|l| Family::of(l.family)).map_or(s.hook as u32, |f| f.number(s.hook)) as u8;
    let mut m = Msg::new(out, u16::from(NFNL_SUBSYS_ULOG) << 8 | u16::from(NFULNL_MSG_PACKET), 0, 0, 0);
    m.body(&nfgenmsg(family, group));
    let [a, b] = protocol.to_be_bytes();
    m.attr(NFULA_PACKET_HDR, &[a, b, hook, 0]).attr_str(NFULA_PREFIX, s.prefix);
    let dev = |d: Option<crate::ids::DevId>| d.and_then(|d| net.devs.get(d));
    let (iin, out) = (dev(s.devs.0), dev(s.devs.1));
    let bridged = s.link.is_some_and(|l| l.family == NFPROTO_BRIDGE);
    // On a bridge its ports are the devices, and it is behind them.
    let over = |port: Option<&NetDevice>| port.and_then(|p| dev(p.master));
    let (physin, physout, iin, out) = match s.skb.nf_bridge {
        _ if bridged => (iin, out, over(iin), over(out)),
        Some(b) => (dev(Some(b.physin)), dev(b.physout), iin, out),
        None => (None, None, iin, out),
    };
    for (kind, d, behind, port) in [
        (NFULA_IFINDEX_INDEV, iin, NFULA_IFINDEX_PHYSINDEV, physin),
        (NFULA_IFINDEX_OUTDEV, out, NFULA_IFINDEX_PHYSOUTDEV, physout),
    ] {
        let Some(d) = d else { continue };
        let both = [(kind, Some(d)), (behind, port)];
        for (kind, d) in if bridged { [both[1], both[0]] } else { both } {
            if let Some(d) = d {
                m.attr(kind, &d.ifindex.to_be_bytes());
            }
        }
    }
    if s.skb.mark != 0 {
        m.attr(NFULA_MARK, &s.skb.mark.to_be_bytes());
    }
    if let Some(d) = iin {
        link_header(&mut m, d, s.skb);
    }
    if matches!(s.hook, Hook::PreRouting | Hook::LocalIn | Hook::Forward) {
        const SEC: u64 = 1_000_000_000;
        let came = if s.skb.tstamp == 0 { net.env.now } else { s.skb.tstamp };
        let at = came.saturating_add(net.env.wall_offset);
        let stamp = [(at / SEC).to_be_bytes(), (at % SEC / 1000).to_be_bytes()];
        m.attr(NFULA_TIMESTAMP, stamp.as_flattened());
    }
    if let Sender::User { uid, gid } = s.skb.sender {
        m.attr(NFULA_UID, &uid.to_be_bytes()).attr(NFULA_GID, &gid.to_be_bytes());
    }
    for (kind, number) in numbers {
        if let Some(n) = number {
            m.attr(kind, &n.to_be_bytes());
        }
    }
    if len > 0 {
        let head = s.skb.head.bytes();
        let mut payload = head.get(..len.min(head.len())).unwrap_or(&[]).to_vec();
        let from = payload.len();
        payload.resize(len, 0);
        s.skb.frags.copy_to(0, payload.get_mut(from..).unwrap_or(&mut []));
        m.attr(NFULA_PAYLOAD, &payload);
    }
}

/// Who sent the frame, and its header, of a packet that came with one.
fn link_header(m: &mut Msg<'_>, d: &crate::net::core::dev::NetDevice, skb: &SkBuff) {
    let (header, hardware) = link_of(d);
    let bytes = skb.head.at(skb.mac_header);
    let here = usize::from(skb.network_header.saturating_sub(skb.mac_header));
    if here != 0
        && let Some(source) = bytes.get(6..12).filter(|_| header >= 12)
    {
        let mut addr = [0; 12];
        addr[1] = 6;
        addr[4..10].copy_from_slice(source);
        m.attr(NFULA_HWADDR, &addr);
    }
    m.attr(NFULA_HWTYPE, &hardware.to_be_bytes()).attr(NFULA_HWLEN, &(header as u16).to_be_bytes());
    if let Some(b) = bytes.get(..here).filter(|b| !b.is_empty()) {
        m.attr(NFULA_HWHEADER, b);
    }
}

impl Net {
    fn nflog(&self, ns: NsId, group: u16) -> Option<&Instance> {
        self.ns.get(ns).and_then(|n| n.nflog.by_number.get(&group))
    }

    /// What waits goes to its reader.
    #[doc(alias = "__nfulnl_flush")]
    fn nflog_flush(&mut self, ns: NsId, group: u16) {
        let Some(i) = self.ns.get_mut(ns).and_then(|n| n.nflog.by_number.get_mut(&group)) else { return };
        self.env.timers.remove(&mut i.timer);
        let (mut bytes, qlen) = (std::mem::take(&mut i.queued), std::mem::take(&mut i.qlen));
        let port = i.port;
        if qlen > 1 {
            Msg::new(&mut bytes, nl::NLMSG_DONE, 0, 0, 0).body(&nfgenmsg(0, group));
        }
        if qlen > 0 {
            notify::unicast(self, ns, port, bytes);
        }
    }

    /// The time of what waits is over.
    pub fn nflog_timer(&mut self, ns: NsId, group: u16, at: Fired) {
        let now = self.env.jiffies();
        let Some(i) = self.ns.get_mut(ns).and_then(|n| n.nflog.by_number.get_mut(&group)) else { return };
        if self.env.timers.look(&mut i.timer, at, now, TimerKey::Nflog(ns, group)) == Fire::Due {
            self.nflog_flush(ns, group);
        }
    }

    fn nflog_unbind(&mut self, ns: NsId, group: u16) {
        self.nflog_flush(ns, group);
        if let Some(n) = self.ns.get_mut(ns) {
            n.nflog.by_number.remove(&group);
        }
    }

    /// A netlink socket of NETLINK_NETFILTER was closed.
    #[doc(alias = "nfulnl_rcv_nl_event")]
    pub fn nflog_release(&mut self, ns: NsId, port: u32) {
        let Some(n) = self.ns.get(ns) else { return };
        let mine: Vec<u16> = n.nflog.by_number.iter().filter(|(_, i)| i.port == port).map(|(g, _)| *g).collect();
        mine.into_iter().for_each(|g| self.nflog_unbind(ns, g));
    }

    /// `/proc/net/netfilter/nfnetlink_log`.
    pub fn proc_nfnetlink_log(&self, ns: NsId) -> String {
        let mut o = String::new();
        for (group, i) in self.ns.get(ns).into_iter().flat_map(|n| &n.nflog.by_number) {
            let (mode, range, timeout) = (i.copy_mode, i.copy_range, i.flush_timeout);
            // A timer holds its group as well.
            let uses = 1 + u32::from(i.timer.is_armed());
            let _ = writeln!(o, "{group:5} {:6} {:5} {mode:1} {range:5} {timeout:6} {uses:2}", i.port, i.qlen);
        }
        o
    }
}
