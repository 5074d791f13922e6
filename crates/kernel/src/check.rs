//! [`Kernel::check`]: what must be true between two steps. Sums against queues, links in both directions, ids against
//! what they name. The lab runs it after every step; it changes nothing and costs what the kernel holds.
use crate::env::TimerKey;
use crate::fs::file::FileKind;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::dev::{DevKind, NetDevice};
use crate::net::core::errqueue;
use crate::net::core::skb::Skb;
use crate::net::ipv6::addrconf;
use crate::net::netns::NetNs;
use crate::net::tcp::mem;
use crate::net::tcp::seq::{after, before};
use crate::net::tcp::sock::*;
use crate::net::tcp::state::State;
use crate::net::tcp::tables::{EhashRef, Tuple};
use crate::task::call::{WaitOn, Waits};
use crate::task::wait::{WaitHead, Waiter};
use belljar_wire::tcp::Flags;
use std::collections::BTreeMap;
use std::fmt;

/// An invariant that does not hold: which, and of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

type Checked = Result<(), Violation>;

fn ensure(ok: bool, say: impl FnOnce() -> String) -> Checked {
    if ok { Ok(()) } else { Err(Violation(say())) }
}

/// A sum that somebody keeps against the one that is counted now.
fn same<T: PartialEq + fmt::Display>(what: &str, kept: T, counted: T) -> Checked {
    ensure(kept == counted, || format!("{what} is {kept}, counted {counted}"))
}

impl Kernel {
    /// Every invariant; `Err` with the first that does not hold.
    pub fn check(&self) -> Checked {
        ensure(self.net.env.rises.is_empty(), || format!("rises left over: {:?}", self.net.env.rises))?;
        ensure(self.tasks.runnable.is_empty(), || format!("calls left to run: {:?}", self.tasks.runnable))?;
        for (id, sk) in self.socks.tcp.iter() {
            self.tcp_sock(id, sk).map_err(|v| Violation(format!("tcp {id:?} {}: {v}", sk.state.name())))?;
        }
        let orphans = self.socks.tcp.iter().filter(|(_, s)| s.flags.orphan).count() as u32;
        same("tcp_orphans", self.net.usage.tcp_orphans, orphans)?;
        let pages: u64 = self.socks.tcp.iter().map(|(_, s)| u64::from(s.mem_pages)).sum();
        same("tcp_bytes", self.net.usage.tcp_bytes, pages * mem::PAGE)?;
        self.net.mem.pages.check().map_err(Violation)?;
        self.hrtimers()?;
        for (_, ns) in self.net.ns.iter() {
            self.tables(ns).map_err(|v| Violation(format!("{}: {v}", ns.name)))?;
        }
        for (id, ns) in self.net.ns.iter() {
            ensure(addrconf::is_consistent(&self.net, id), || {
                format!("{}: a local route without its address", ns.name)
            })?;
        }
        self.stacked()?;
        self.files()?;
        self.waits()?;
        self.packets()
    }

    /// Who stands on a device is known there, and nobody else.
    fn stacked(&self) -> Checked {
        let devs = &self.net.devs;
        for (id, d) in devs.iter() {
            for upper in &d.uppers {
                let below = devs.get(*upper).and_then(|u| u.lower());
                ensure(below == Some(id), || format!("{} has {upper:?} on top, which is on {below:?}", d.name))?;
            }
            for (key, upper) in &d.vlans {
                ensure(d.uppers.contains(upper), || format!("{}: VLAN {key:?} is not on top of it", d.name))?;
            }
            if let Some(l) = d.lower() {
                let times = devs.get(l).map_or(0, |l| l.uppers.iter().filter(|u| **u == id).count());
                ensure(times == 1, || format!("{} stands {times} times on its device", d.name))?;
            }
        }
        for (id, ns) in self.net.ns.iter() {
            for (key, dev) in &ns.udp.encap {
                let takes = |d: &NetDevice| match &d.kind {
                    DevKind::Vxlan(v) => d.up && v.ns == id && (v.port, v.vni) == *key,
                    _ => false,
                };
                ensure(devs.get(*dev).is_some_and(takes), || format!("{}: nobody takes {key:?}", ns.name))?;
            }
        }
        Ok(())
    }

    fn tcp_sock(&self, id: TcpId, sk: &TcpSock) -> Checked {
        let held: u32 = sk.rcv.queue.iter().chain(sk.rcv.ooo.iter()).map(|s| s.truesize).sum();
        same("rmem_alloc", sk.sk.rmem_alloc, held + errqueue::charged(&sk.sk))?;
        zerocopy(sk)?;
        same("wmem_queued", sk.sk.wmem_queued, sk.snd.queue.iter().map(|s| s.truesize).sum())?;
        same("mem_pages", sk.mem_pages, mem::pages(sk))?;
        write_queue(sk)?;
        receive_queue(sk)?;
        if let Some(l) = &sk.listener {
            self.listener(id, sk, l)?;
        }
        if let Some(parent) = sk.parent {
            let waits = self.socks.tcp.get(parent).and_then(|p| p.listener.as_ref());
            let times = waits.map_or(0, |l| l.accept.iter().filter(|c| **c == id).count());
            ensure(times == 1, || format!("stands {times} times in the accept queue of {parent:?}"))?;
            ensure(sk.sk.file.is_none(), || "has a file before accept".into())?;
        }
        if sk.sk.flags.dead {
            ensure(sk.sk.file.is_none(), || "dead, but with a file".into())?;
            ensure(sk.state != State::Close, || "dead and closed, but not reaped".into())?;
        }
        ensure(sk.ehash.is_none() || sk.state != State::Close, || "closed, but in ehash".into())
    }

    /// A socket's high-resolution timers stand in the queue when it thinks so, and only then.
    fn hrtimers(&self) -> Checked {
        let timers = &self.net.env.hrtimers;
        let tcp = |k: &TimerKey| matches!(k, TimerKey::TcpPace(_) | TimerKey::TcpCompressedAck(_));
        let mut armed = 0;
        for (id, sk) in self.socks.tcp.iter() {
            let Some(t) = sk.track.as_deref() else { continue };
            for (at, key) in [(t.pace_at, TimerKey::TcpPace(id)), (t.comp_ack_at, TimerKey::TcpCompressedAck(id))] {
                ensure(at == 0 || timers.contains(&(at, key)), || format!("{key:?} at {at} is not queued"))?;
                armed += usize::from(at != 0);
            }
            ensure(t.comp_ack_at != 0 || t.compressed_ack == 0, || format!("{id:?} holds ACKs back for ever"))?;
        }
        same("high-resolution timers of TCP", timers.iter().filter(|t| tcp(&t.1)).count(), armed)
    }

    fn listener(&self, id: TcpId, sk: &TcpSock, l: &Listener) -> Checked {
        for child in &l.accept {
            let parent = self.socks.tcp.get(*child).map(|c| c.parent);
            ensure(parent == Some(Some(id)), || format!("accept queue holds {child:?}, whose parent is {parent:?}"))?;
        }
        if sk.state != State::Listen {
            ensure(l.accept.is_empty(), || format!("{} connections wait at no listener", l.accept.len()))?;
        }
        let Some(ns) = self.net.ns.get(sk.sk.ns) else { return Ok(()) };
        let mine = || ns.tcp.reqs.iter().filter(|(_, r)| r.listener == id);
        same("qlen", l.qlen as usize, mine().count())?;
        same("young", l.young as usize, mine().filter(|(_, r)| r.num_timeout == 0).count())
    }

    /// Every object that says it is hashed is found by its tuple, and nothing else is in the table.
    fn tables(&self, ns: &NetNs) -> Checked {
        let t = &ns.tcp;
        let socks =
            || self.socks.tcp.iter().filter(|(_, s)| self.net.ns.get(s.sk.ns).is_some_and(|n| n.secret == ns.secret));
        let mut hashed = 0;
        for (id, sk) in socks() {
            let Some(h) = sk.ehash else { continue };
            hashed += 1;
            let (tuple, found) = (Tuple::of(sk), t.find(h, &Tuple::of(sk), &self.socks.tcp));
            ensure(found == Some(EhashRef::Sock(id)), || format!("ehash has {found:?} for {id:?} {tuple:?}"))?;
        }
        for (id, r) in t.reqs.iter() {
            let found = t.find(r.hash, &r.tuple(), &self.socks.tcp);
            ensure(found == Some(EhashRef::Request(id)), || format!("ehash has {found:?} for request {id:?}"))?;
            let listens = self.socks.tcp.get(r.listener).is_some_and(|s| s.state == State::Listen);
            ensure(listens, || format!("request {id:?} of {:?}, which does not listen", r.listener))?;
            ensure(r.timer.is_armed(), || format!("request {id:?} without a timer"))?;
        }
        for (id, w) in t.tws.iter() {
            let found = t.find(w.tuple().hash(ns.secret), &w.tuple(), &self.socks.tcp);
            ensure(found == Some(EhashRef::TimeWait(id)), || format!("ehash has {found:?} for TIME_WAIT {id:?}"))?;
        }
        same("entries in ehash", t.ehash.len(), hashed + t.reqs.len() + t.tws.len())?;
        for (port, ids) in &t.listeners {
            for id in ids {
                let sk = self.socks.tcp.get(*id);
                let listens = sk.is_some_and(|s| s.state == State::Listen && s.sk.num == *port);
                ensure(listens, || format!("listeners of port {port} name {id:?}: {:?}", sk.map(|s| s.state)))?;
            }
        }
        for (id, sk) in socks().filter(|(_, s)| s.state == State::Listen) {
            let times = t.listeners.get(&sk.sk.num).map_or(0, |l| l.iter().filter(|x| **x == id).count());
            ensure(times == 1, || format!("listener {id:?} stands {times} times at port {}", sk.sk.num))?;
        }
        self.ports(ns)
    }

    /// Every port in bhash has exactly the holders that say so.
    fn ports(&self, ns: &NetNs) -> Checked {
        let mut holders: BTreeMap<u16, u32> = BTreeMap::new();
        let socks =
            self.socks.tcp.iter().filter(|(_, s)| self.net.ns.get(s.sk.ns).is_some_and(|n| n.secret == ns.secret));
        for (id, sk) in socks {
            if let Some(bind) = sk.bind {
                ensure(bind.port == sk.sk.num, || format!("{id:?} has port {} and holds {}", sk.sk.num, bind.port))?;
                *holders.entry(bind.port).or_default() += 1;
            }
        }
        for bind in ns.tcp.tws.iter().filter_map(|(_, w)| w.bind()) {
            *holders.entry(bind.port).or_default() += 1;
        }
        let kept: BTreeMap<u16, u32> = ns.tcp.bhash.holders().collect();
        ensure(kept == holders, || format!("bhash says {kept:?}, its holders {holders:?}"))
    }

    /// Descriptors and parked calls against the references that files count; sockets and their files.
    fn files(&self) -> Checked {
        let mut refs: BTreeMap<FileId, (u32, u32)> = BTreeMap::new();
        for (_, p) in self.tasks.procs.iter() {
            p.fds.iter().for_each(|(_, file, _)| refs.entry(file).or_default().0 += 1);
        }
        for (_, call) in self.tasks.calls.iter() {
            if let Some(file) = call.op.as_ref().and_then(|op| op.file()) {
                refs.entry(file).or_default().1 += 1;
            }
            if let Waits::Many(all) = &call.waits {
                all.iter().for_each(|(_, _, file)| refs.entry(*file).or_default().1 += 1);
            }
        }
        for (id, file) in self.files.files.iter() {
            let (fds, calls) = refs.remove(&id).unwrap_or_default();
            same(&format!("references of file {id:?}"), file.refs, fds)?;
            same(&format!("calls on file {id:?}"), file.calls, calls)?;
            ensure(fds + calls > 0, || format!("file {id:?} is held by nobody"))?;
            let back = match file.kind {
                FileKind::Sock(SockId::Tcp(s)) => self.socks.tcp.get(s).map(|s| s.sk.file),
                FileKind::Sock(SockId::Udp(s)) => self.socks.udp.get(s).map(|s| s.sk.file),
                FileKind::Sock(SockId::Raw(s)) => self.socks.raw.get(s).map(|s| s.sk.file),
                FileKind::Sock(SockId::Packet(s)) => self.socks.packet.get(s).map(|s| s.sk.file),
                FileKind::Sock(SockId::Xsk(s)) => self.socks.xsk.get(s).map(|s| s.sk.file),
                FileKind::Epoll(e) => self.files.epolls.get(e).map(|e| e.file),
            };
            ensure(back == Some(Some(id)), || format!("file {id:?} is of {:?}, whose file is {back:?}", file.kind))?;
        }
        ensure(refs.is_empty(), || format!("descriptors or calls refer to files that are gone: {refs:?}"))?;
        let tcp = self.socks.tcp.iter().map(|(id, s)| (SockId::Tcp(id), s.sk.file));
        let udp = self.socks.udp.iter().map(|(id, s)| (SockId::Udp(id), s.sk.file));
        let raw = self.socks.raw.iter().map(|(id, s)| (SockId::Raw(id), s.sk.file));
        let packet = self.socks.packet.iter().map(|(id, s)| (SockId::Packet(id), s.sk.file));
        let xsk = self.socks.xsk.iter().map(|(id, s)| (SockId::Xsk(id), s.sk.file));
        for (id, file) in tcp.chain(udp).chain(raw).chain(packet).chain(xsk) {
            let Some(file) = file else { continue };
            let kind = self.files.files.get(file).map(|f| f.kind);
            ensure(kind == Some(FileKind::Sock(id)), || format!("{id:?} names file {file:?}, which is {kind:?}"))?;
        }
        Ok(())
    }

    /// Every wait queue is a sound list, its sleepers know their places, and no entry stands in none.
    fn waits(&self) -> Checked {
        let mut linked = 0;
        for (id, sk) in self.socks.tcp.iter() {
            linked += self.wait_queue(WaitOn::Sock(SockId::Tcp(id)), &sk.sk.wait)?;
        }
        for (id, sk) in self.socks.udp.iter() {
            linked += self.wait_queue(WaitOn::Sock(SockId::Udp(id)), &sk.sk.wait)?;
        }
        for (id, sk) in self.socks.raw.iter() {
            linked += self.wait_queue(WaitOn::Sock(SockId::Raw(id)), &sk.sk.wait)?;
        }
        for (id, sk) in self.socks.packet.iter() {
            linked += self.wait_queue(WaitOn::Sock(SockId::Packet(id)), &sk.sk.wait)?;
        }
        for (id, sk) in self.socks.xsk.iter() {
            linked += self.wait_queue(WaitOn::Sock(SockId::Xsk(id)), &sk.sk.wait)?;
        }
        for (id, ep) in self.files.epolls.iter() {
            linked +=
                self.wait_queue(WaitOn::Epoll(id), &ep.wq)? + self.wait_queue(WaitOn::EpollPoll(id), &ep.poll_wait)?;
        }
        same("wait entries", self.tasks.waits.len(), linked)?;
        for (id, call) in self.tasks.calls.iter() {
            ensure(call.op.is_some(), || format!("parked call {id:?} has no operation"))?;
            let asleep = !matches!(call.waits, Waits::None) || call.deadline.is_some();
            ensure(asleep, || format!("parked call {id:?} waits for nothing: {:?}", call.op))?;
        }
        Ok(())
    }

    fn wait_queue(&self, on: WaitOn, head: &WaitHead) -> Result<usize, Violation> {
        let (mut at, mut prev, mut n) = (head.first, None, 0);
        while let Some(id) = at {
            let Some(e) = self.tasks.waits.get(id) else {
                return Err(Violation(format!("wait queue of {on:?} names {id:?}, which is gone")));
            };
            ensure(e.prev == prev, || format!("wait queue of {on:?} is broken at {id:?}"))?;
            let known = match e.who {
                Waiter::Call(c) => self.tasks.calls.get(c).is_some_and(|c| match &c.waits {
                    Waits::None => false,
                    Waits::One(o, w) => *o == on && *w == id,
                    Waits::Many(all) => all.iter().any(|(o, w, _)| *o == on && *w == id),
                }),
                Waiter::Epoll(item) => self.files.items.contains(item),
            };
            ensure(known, || format!("{:?} in the wait queue of {on:?} does not know it", e.who))?;
            n += 1;
            ensure(n <= self.tasks.waits.len(), || format!("wait queue of {on:?} has a loop"))?;
            (prev, at) = (at, e.next);
        }
        ensure(head.last == prev, || format!("wait queue of {on:?} ends in {prev:?}, not {:?}", head.last))?;
        Ok(n)
    }

    /// Packets born and not ended are those that a queue holds, and each socket's send memory is what it has among them.
    fn packets(&self) -> Checked {
        let alive = self.net.pool.skbs_born.wrapping_sub(self.net.pool.skbs_ended) as usize;
        let tcp: usize = self.socks.tcp.iter().map(|(_, s)| s.rcv.queue.len() + s.rcv.ooo.len()).sum();
        let udp: usize = self.socks.udp.iter().map(|(_, s)| s.queue.len()).sum();
        let raw: usize = self.socks.raw.iter().map(|(_, s)| s.queue.len()).sum();
        let packet: usize = self.socks.packet.iter().map(|(_, s)| s.queue.len()).sum();
        let xsk: usize = self.socks.xsk.iter().map(|(_, s)| s.queue.len()).sum();
        let mut below = 0;
        let mut charged: BTreeMap<SockId, u32> = BTreeMap::new();
        for skb in self.net.held_skbs() {
            below += 1;
            if let Some(sock) = skb.owner.sock() {
                *charged.entry(sock).or_default() += skb.truesize;
            }
        }
        same("packets alive", alive, tcp + udp + raw + packet + xsk + below)?;
        let tcp = self.socks.tcp.iter().map(|(id, s)| (SockId::Tcp(id), s.sk.wmem_alloc));
        let udp = self.socks.udp.iter().map(|(id, s)| (SockId::Udp(id), s.sk.wmem_alloc));
        let raw = self.socks.raw.iter().map(|(id, s)| (SockId::Raw(id), s.sk.wmem_alloc));
        let packet = self.socks.packet.iter().map(|(id, s)| (SockId::Packet(id), s.sk.wmem_alloc));
        let xsk = self.socks.xsk.iter().map(|(id, s)| (SockId::Xsk(id), s.sk.wmem_alloc));
        for (id, kept) in tcp.chain(udp).chain(raw).chain(packet).chain(xsk) {
            same(&format!("wmem_alloc of {id:?}"), kept, charged.get(&id).copied().unwrap_or(0))?;
        }
        Ok(())
    }
}

/// Order, contiguity and the sums of the write queue.
fn write_queue(sk: &TcpSock) -> Checked {
    let s = &sk.snd;
    ensure(s.sent <= s.queue.len(), || format!("{} of {} entries sent", s.sent, s.queue.len()))?;
    let left_out = s.sacked_out + s.lost_out;
    ensure(left_out <= s.packets_out, || {
        format!("sacked_out {} + lost_out {} > packets_out {}", s.sacked_out, s.lost_out, s.packets_out)
    })?;
    ensure(s.retrans_out <= s.packets_out, || format!("retrans_out {} > {}", s.retrans_out, s.packets_out))?;
    let sum = |bit: u8| -> u32 {
        let mine = s.queue.iter().take(s.sent).filter(|e| bit == 0 || e.is(bit));
        mine.map(TxSeg::pcount).sum()
    };
    same("packets_out", s.packets_out, sum(0))?;
    same("lost_out", s.lost_out, sum(TCPCB_LOST))?;
    same("retrans_out", s.retrans_out, sum(TCPCB_SACKED_RETRANS))?;
    if sk.flags.sack_ok {
        same("sacked_out", s.sacked_out, sum(TCPCB_SACKED_ACKED))?;
    }
    if sk.state.is(&[State::Close, State::Listen]) {
        return Ok(());
    }
    ensure(!after(s.una, s.nxt) && !after(s.nxt, s.write_seq), || {
        format!("una {} nxt {} write_seq {}", s.una, s.nxt, s.write_seq)
    })?;
    let mut at = s.una;
    for (n, e) in s.queue.iter().enumerate() {
        // The first may be acknowledged in part, when it is kept whole until all of it is.
        let joined = if n == 0 { !after(e.seq, at) && after(e.end_seq, at) } else { e.seq == at };
        ensure(joined, || format!("entry {n} is {}..{}, expected {at}", e.seq, e.end_seq))?;
        let ctl = u32::from(e.flags.intersects(Flags::SYN | Flags::FIN));
        ensure(e.end_seq.wrapping_sub(e.seq) == e.len() + ctl, || format!("entry {n} has {} bytes", e.len()))?;
        let bits = e.sacked & (TCPCB_SACKED_ACKED | TCPCB_LOST | TCPCB_SACKED_RETRANS);
        ensure(n < s.sent || bits == 0, || format!("entry {n} was never sent and has bits {bits}"))?;
        ensure(bits & TCPCB_SACKED_ACKED == 0 || bits & TCPCB_LOST == 0, || format!("entry {n} is SACKed and lost"))?;
        at = e.end_seq;
        if n + 1 == s.sent {
            same("snd_nxt", s.nxt, at)?;
        }
    }
    same("write_seq", s.write_seq, at)?;
    // What is in flight or could be sent has a timer that comes back to it.
    let idle = s.packets_out == 0 || sk.write_timer.is_armed();
    ensure(idle, || format!("{} segments in flight without a timer", s.packets_out))
}

/// A notification of MSG_ZEROCOPY waits for pieces of the write queue, and only for those.
fn zerocopy(sk: &TcpSock) -> Checked {
    let Some(cold) = sk.sk.cold.as_deref() else { return Ok(()) };
    for u in &cold.zc.pending {
        let held = u.queued && crate::net::tcp::zerocopy::holds(&sk.snd.queue, u);
        same(&format!("zero-copy call {} queued", u.id), u.queued, held)?;
    }
    Ok(())
}

/// What can be read lies without gaps from copied_seq to nxt; what came too early beyond, sorted.
fn receive_queue(sk: &TcpSock) -> Checked {
    let r = &sk.rcv;
    let data = |s: &Skb| s.frags.len() as u32;
    let mut at = r.copied_seq;
    for (n, s) in r.queue.iter().enumerate() {
        ensure(s.tcp.seq == at, || format!("receive queue {n} begins at {}, expected {at}", s.tcp.seq))?;
        let fin = s.tcp.flags.contains(Flags::FIN);
        ensure(data(s) > 0 || fin && r.fin, || format!("receive queue {n} is empty"))?;
        at = at.wrapping_add(data(s));
    }
    same("rcv_nxt", r.nxt, at.wrapping_add(u32::from(r.fin)))?;
    let mut at = r.nxt;
    for (n, s) in r.ooo.iter().enumerate() {
        // A hole before the first; later ones may touch.
        let beyond = if n == 0 { after(s.tcp.seq, at) } else { !before(s.tcp.seq, at) };
        ensure(beyond, || format!("out-of-order {n} begins at {}, before {at}", s.tcp.seq))?;
        let fin = u32::from(s.tcp.flags.contains(Flags::FIN));
        let len = s.tcp.end_seq.wrapping_sub(s.tcp.seq);
        ensure(len == data(s) + fin, || format!("out-of-order {n} has {} bytes for {len}", data(s)))?;
        at = s.tcp.end_seq;
    }
    Ok(())
}
