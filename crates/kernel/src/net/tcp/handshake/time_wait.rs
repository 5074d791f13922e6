//! TIME_WAIT as a small object of its own (`struct tcp_timewait_sock`); also FIN_WAIT2 of orphans.
//!
//! Entries that live the usual 60 seconds stand in one queue, oldest first, with one timer for its oldest; an entry that is
//! restarted, or has a time of its own, is in the wheel by itself.
use super::{in_window, oow_rate_limited, paws_reject};
use crate::env::timers::Fire;
use crate::env::{Fired, Jiffies, Nanos, SEC, TimerKey, TimerSlot, time};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::mem::{Gfp, Kind};
use crate::net::Net;
use crate::net::core::skb::Skb;
use crate::net::core::sock::{SOCK_BINDPORT_LOCK, SOCK_CONNECT_BIND};
use crate::net::drop::DropReason;
use crate::net::mib::Mib;
use crate::net::sysctl::Sysctl;
use crate::net::tcp::input::tcp_done;
use crate::net::tcp::ipv4::{self, Reply};
use crate::net::tcp::seq::{after, before};
use crate::net::tcp::sock::TcpSock;
use crate::net::tcp::state::State;
use crate::net::tcp::tables::{self, BindRef, Class, EhashRef, Hold, TcpTables, Tuple};
use crate::net::tcp::{md5sig, metrics};
use belljar_wire::tcp::Flags;
use core::net::{IpAddr, Ipv4Addr};
use core::num::NonZeroU16;

pub const TCP_TIMEWAIT_LEN: Nanos = 60 * SEC;
/// A sequence number beyond all the old connection can have used.
const TW_SEQ_GAP: u32 = 65_535 + 2;

/// Both addresses, small where they are small.
#[derive(Clone, Debug)]
pub enum Ends {
    V4(Ipv4Addr, Ipv4Addr),
    Other(Box<(IpAddr, IpAddr)>),
}

impl Ends {
    fn new(laddr: IpAddr, raddr: IpAddr) -> Ends {
        match (laddr, raddr) {
            (IpAddr::V4(l), IpAddr::V4(r)) => Ends::V4(l, r),
            both => Ends::Other(Box::new(both)),
        }
    }

    pub fn get(&self) -> (IpAddr, IpAddr) {
        match self {
            Ends::V4(l, r) => ((*l).into(), (*r).into()),
            Ends::Other(both) => **both,
        }
    }
}

/// See the module. 80 bytes; the tuple is here, the namespace is where it is stored, its hash is computed when needed.
#[derive(Clone, Debug)]
pub struct TimeWaitSock {
    pub ends: Ends,
    pub lport: u16,
    pub rport: u16,
    pub rcv_nxt: u32,
    pub snd_nxt: u32,
    pub rcv_wnd: u32,
    pub ts_recent: u32,
    /// Seconds; 0: no time stamps were used.
    pub ts_recent_stamp: u32,
    pub tsoffset: u32,
    /// When it began, in milliseconds.
    pub entry_ms: u32,
    /// Its end, whether the wheel or the queue waits for it.
    pub timer: TimerSlot,
    /// Neighbours in the queue: slot numbers plus one, 0 for none.
    prev: u32,
    next: u32,
    pub last_oow_ms: u32,
    /// Its class among the holders of the port, if it holds it.
    pub class: Option<NonZeroU16>,
    /// FIN_WAIT2 instead of TIME_WAIT.
    pub fin_wait2: bool,
    pub rcv_wscale: u8,
    pub tos: u8,
    /// The connection was on the loopback device.
    pub loopback: bool,
}

impl TimeWaitSock {
    pub fn tuple(&self) -> Tuple {
        let (laddr, raddr) = self.ends.get();
        Tuple { laddr, raddr, lport: self.lport, rport: self.rport }
    }

    /// What tools show: TIME_WAIT, or FIN_WAIT2 while the peer's FIN is awaited.
    pub fn state(&self) -> State {
        if self.fin_wait2 { State::FinWait2 } else { State::TimeWait }
    }

    /// Tick of its end.
    pub fn deadline(&self) -> Jiffies {
        self.timer.deadline().unwrap_or(0)
    }

    /// Its place among the holders of the port.
    pub fn bind(&self) -> Option<BindRef> {
        self.class.map(|c| BindRef { port: self.lport, class: c.get() - 1 })
    }

    fn set_bind(&mut self, bind: BindRef) {
        self.class = NonZeroU16::new(bind.class.saturating_add(1));
    }

    /// May connect() take the tuple? A program that bound the port: when time stamps tell old segments apart (RFC 6191).
    /// A port that the kernel chose: only where tcp_tw_reuse allows it, and not within tcp_tw_reuse_delay.
    #[doc(alias = "tcp_twsk_unique")]
    pub fn may_be_reused(&self, s: &Sysctl, now: Nanos, bound: bool) -> bool {
        if self.ts_recent_stamp == 0 {
            return false;
        }
        let allowed = match s.tcp_tw_reuse {
            _ if self.fin_wait2 => false,
            0 => false,
            2 => self.loopback || self.ends.get().0.is_loopback() || self.ends.get().1.is_loopback(),
            _ => true,
        };
        let age = ((now / crate::env::MSEC) as u32).wrapping_sub(self.entry_ms);
        bound || (allowed && age > s.tcp_tw_reuse_delay)
    }

    /// Where the new connection begins: its sequence number, `ts_recent` and the second that was taken in.
    pub fn reuse_state(&self) -> (u32, u32, u32) {
        (self.snd_nxt.wrapping_add(TW_SEQ_GAP).max(1), self.ts_recent, self.ts_recent_stamp)
    }
}

/// The socket becomes a TIME_WAIT (or a small FIN_WAIT2 for `seconds`) entry and is done. Without room for one the
/// connection just ends.
pub fn tcp_time_wait(sk: &mut TcpSock, net: &mut Net, id: TcpId, state: State, seconds: u32) {
    let ns = sk.sk.ns;
    debug_assert!(sk.state == state || super::super::state::possible(sk.state, state), "{} waits", sk.state.name());
    metrics::update_metrics(sk, net);
    // At least 3.5 retransmission timeouts, so that a lost FIN can come again.
    let rto = u64::from(sk.rtt.rto_us) * 7 / 2 * time::USEC;
    let ns_long = if state == State::TimeWait { TCP_TIMEWAIT_LEN } else { (u64::from(seconds) * SEC).max(rto) };
    let now_ms = net.env.now_ms();
    let lo = net.ns.get(ns).map(|n| n.lo);
    let full = net.ns.get(ns).is_none_or(|n| n.tcp.tws.len() >= n.sysctl.tcp_max_tw_buckets as usize);
    let none = |net: &mut Net| {
        let Net { mem, ns: spaces, .. } = net;
        spaces.get(ns).is_none_or(|n| !mem.room(Kind::TimeWait, &n.tcp.tws, Gfp::Atomic))
    };
    if full || none(net) {
        net.inc(ns, Mib::TcpExtTCPTimeWaitOverflow);
        return tcp_done(sk, net, id);
    }
    let tw = TimeWaitSock {
        ends: Ends::new(sk.sk.rcv_saddr, sk.sk.daddr),
        lport: sk.sk.num,
        rport: sk.sk.dport,
        rcv_nxt: sk.rcv.nxt,
        snd_nxt: sk.snd.nxt,
        rcv_wnd: sk.receive_window(),
        ts_recent: sk.rcv.ts_recent,
        ts_recent_stamp: if sk.flags.tstamp_ok { sk.rcv.ts_recent_stamp.max(1) } else { 0 },
        tsoffset: sk.tsoffset,
        entry_ms: now_ms,
        timer: TimerSlot::default(),
        prev: 0,
        next: 0,
        last_oow_ms: 0,
        class: None,
        fin_wait2: state == State::FinWait2,
        rcv_wscale: sk.rcv.wscale,
        tos: sk.sk.tos,
        loopback: lo.is_some() && sk.sk.bound_dev == lo,
    };
    if let Some(hash) = sk.ehash {
        insert(net, sk, id, tw, hash, ns_long);
    }
    tcp_done(sk, net, id);
}

/// Takes the socket's place in ehash and a place of its own at the port.
#[doc(alias = "inet_twsk_hashdance_schedule")]
fn insert(net: &mut Net, sk: &mut TcpSock, id: TcpId, tw: TimeWaitSock, hash: u32, long: Nanos) {
    let ns = sk.sk.ns;
    let Some(n) = net.ns.get_mut(ns) else { return };
    let twid = n.tcp.tws.insert(tw);
    if let Some(key) = md5sig::own(sk) {
        n.tcp.tw_md5.insert(twid.slot(), key.clone());
    }
    n.tcp.replace(hash, EhashRef::Sock(id), EhashRef::TimeWait(twid));
    sk.ehash = None;
    if let Some(bind) = sk.bind {
        // The options count as they are now: a later bind meets them for 60 seconds.
        let class = Class { hold: Hold::TimeWait, uid: 0, ..Class::of(sk) };
        let held = if sk.sk.userlocks & SOCK_BINDPORT_LOCK != 0 {
            n.tcp.bhash.hold(bind.port, class)
        } else {
            // The socket gives the port up: its place is the entry's.
            sk.bind = None;
            sk.sk.userlocks &= !SOCK_CONNECT_BIND;
            n.tcp.bhash.reclass(bind, class)
        };
        if let Some(tw) = n.tcp.tws.get_mut(twid) {
            tw.set_bind(held);
        }
    }
    net.inc(ns, if long <= 4 * SEC { Mib::TcpExtTWKilled } else { Mib::TcpExtTW });
    schedule(net, ns, twid, long);
}

fn schedule(net: &mut Net, ns: NsId, id: TwId, long: Nanos) {
    let at = net.env.round_up(net.env.now + long);
    let Net { env, ns: spaces, .. } = net;
    let Some(n) = spaces.get_mut(ns) else { return };
    let TcpTables { tws, tw_queue, tw_timer, .. } = &mut n.tcp;
    let Some(tw) = tws.get_mut(id) else { return };
    // Only an entry of the full length, scheduled for the first time, keeps the queue in order.
    if long == TCP_TIMEWAIT_LEN && !tw.timer.is_armed() {
        tw.timer.stand(at);
        tw_queue.push_back(tws, id);
        if !tw_timer.is_armed() {
            env.timers.arm(tw_timer, at, TimerKey::TcpTimeWaitQueue(ns));
        }
        return;
    }
    if tw.timer.stands() {
        tw_queue.remove(tws, id);
    }
    if let Some(tw) = tws.get_mut(id) {
        env.timers.arm(&mut tw.timer, at, TimerKey::TcpTimeWait(ns, id));
    }
}

/// The queue runs through the entries: they leave it from anywhere, and it takes no memory of its own.
#[derive(Clone, Debug, Default)]
pub struct TwQueue {
    /// Slot numbers plus one, 0 for none.
    first: u32,
    last: u32,
    len: usize,
}

impl TwQueue {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The oldest.
    pub fn front(&self, tws: &Slab<TimeWaitSock>) -> Option<TwId> {
        Some(tws.at_slot(self.first.checked_sub(1)?)?.0)
    }

    pub fn push_back(&mut self, tws: &mut Slab<TimeWaitSock>, id: TwId) {
        let me = id.slot() + 1;
        match neighbour(tws, self.last) {
            Some(last) => last.next = me,
            None => self.first = me,
        }
        if let Some(tw) = tws.get_mut(id) {
            (tw.prev, tw.next) = (self.last, 0);
        }
        self.last = me;
        self.len += 1;
    }

    pub fn remove(&mut self, tws: &mut Slab<TimeWaitSock>, id: TwId) {
        let Some(tw) = tws.get_mut(id) else { return };
        let (prev, next) = (std::mem::take(&mut tw.prev), std::mem::take(&mut tw.next));
        match neighbour(tws, prev) {
            Some(p) => p.next = next,
            None => self.first = next,
        }
        match neighbour(tws, next) {
            Some(n) => n.prev = prev,
            None => self.last = prev,
        }
        self.len -= 1;
    }
}

fn neighbour(tws: &mut Slab<TimeWaitSock>, place: u32) -> Option<&mut TimeWaitSock> {
    let id = tws.at_slot(place.checked_sub(1)?)?.0;
    tws.get_mut(id)
}

/// Out of all tables (`inet_twsk_kill`).
#[doc(alias = "inet_twsk_deschedule_put")]
pub fn kill(net: &mut Net, ns: NsId, id: TwId) {
    let Net { env, ns: spaces, .. } = net;
    let Some(n) = spaces.get_mut(ns) else { return };
    let secret = n.secret;
    let TcpTables { tws, tw_queue, .. } = &mut n.tcp;
    let Some(tw) = tws.get_mut(id) else { return };
    if tw.timer.stands() {
        tw_queue.remove(tws, id);
    }
    let Some(mut tw) = tws.remove(id) else { return };
    if !n.tcp.tw_md5.is_empty() {
        n.tcp.tw_md5.remove(&id.slot());
    }
    env.timers.remove(&mut tw.timer);
    n.tcp.remove(tw.tuple().hash(secret), EhashRef::TimeWait(id));
    if let Some(bind) = tw.bind() {
        n.tcp.bhash.release(bind);
    }
}

/// An entry with a timer of its own.
#[doc(alias = "tw_timer_handler")]
pub fn entry_timer(k: &mut Kernel, ns: NsId, id: TwId, at: Fired) {
    let net = &mut k.net;
    let now = net.env.jiffies();
    let Net { env, ns: spaces, .. } = net;
    let Some(tw) = spaces.get_mut(ns).and_then(|n| n.tcp.tws.get_mut(id)) else { return };
    if env.timers.look(&mut tw.timer, at, now, TimerKey::TcpTimeWait(ns, id)) == Fire::Due {
        kill(net, ns, id);
    }
}

/// The oldest entries of the queue.
pub fn queue_timer(k: &mut Kernel, ns: NsId, at: Fired) {
    let net = &mut k.net;
    let now = net.env.jiffies();
    let Net { env, ns: spaces, .. } = net;
    let Some(n) = spaces.get_mut(ns) else { return };
    if env.timers.look(&mut n.tcp.tw_timer, at, now, TimerKey::TcpTimeWaitQueue(ns)) != Fire::Due {
        return;
    }
    loop {
        let Net { env, ns: spaces, .. } = net;
        let Some(n) = spaces.get_mut(ns) else { return };
        let Some(id) = n.tcp.tw_queue.front(&n.tcp.tws) else { return };
        let at = n.tcp.tws.get(id).map_or(0, TimeWaitSock::deadline);
        if at > now {
            return env.timers.arm(&mut n.tcp.tw_timer, at, TimerKey::TcpTimeWaitQueue(ns));
        }
        kill(net, ns, id);
    }
}

/// What a segment for the entry asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing, for the reason given; `None`: it was in order.
    Drop(Option<DropReason>),
    /// Repeat our last acknowledgement, unless the counter's rate limit says no.
    Ack(Option<Mib>),
    Reset,
    /// A new connection may begin (RFC 9293 §3.6.1, RFC 6191).
    Syn,
    Kill,
}

/// A segment for a TIME_WAIT entry. A SYN that may open a new connection is given back, with the entry gone and the
/// initial sequence number to use in it, when somebody listens.
#[inline(never)]
pub fn tcp_timewait_state_process(k: &mut Kernel, ns: NsId, id: TwId, mut skb: Skb) -> Option<Skb> {
    let (verdict, reset_timer) = judge(&mut k.net, ns, id, &skb);
    if reset_timer {
        schedule(&mut k.net, ns, id, TCP_TIMEWAIT_LEN);
    }
    const AT: &str = "tcp_timewait_state_process";
    match verdict {
        Verdict::Drop(Some(reason)) => k.net.kfree_skb(skb, reason, AT),
        Verdict::Drop(None) => k.net.consume_skb(skb),
        Verdict::Ack(limit) => answer(&mut k.net, ns, id, skb, limit),
        Verdict::Reset => {
            ipv4::reset_for_nobody(k, ns, &skb);
            kill(&mut k.net, ns, id);
            k.net.kfree_skb(skb, DropReason::TcpClose, AT);
        }
        Verdict::Kill => {
            kill(&mut k.net, ns, id);
            k.net.consume_skb(skb);
        }
        Verdict::Syn => {
            let t = Tuple::of_packet(&skb);
            if tables::lookup_listener(k, ns, &t, &skb).is_none() {
                answer(&mut k.net, ns, id, skb, Some(Mib::TcpExtTCPACKSkippedTimeWait));
                return None;
            }
            let isn = k.net.ns.get(ns).and_then(|n| n.tcp.tws.get(id)).map_or(0, |tw| tw.reuse_state().0);
            kill(&mut k.net, ns, id);
            skb.tcp.tw_isn = isn;
            return Some(skb);
        }
    }
    None
}

/// Decides, and whether the 60 seconds begin again.
fn judge(net: &mut Net, ns: NsId, id: TwId, skb: &Skb) -> (Verdict, bool) {
    let now_s = (net.env.now / SEC) as u32;
    let Some(n) = net.ns.get_mut(ns) else { return (Verdict::Drop(None), false) };
    let rfc1337 = n.sysctl.tcp_rfc1337 != 0;
    let Some(tw) = n.tcp.tws.get_mut(id) else { return (Verdict::Drop(None), false) };
    let (cb, flags) = (&skb.tcp, skb.tcp.flags);
    let (syn, ack, rst, fin) = (
        flags.contains(Flags::SYN),
        flags.contains(Flags::ACK),
        flags.contains(Flags::RST),
        flags.contains(Flags::FIN),
    );
    let ts = if tw.ts_recent_stamp != 0 { ipv4::options(skb).ts } else { None };
    let paws = ts.is_some_and(|(val, _)| paws_reject(tw.ts_recent, tw.ts_recent_stamp, val, rst, now_s));
    if tw.fin_wait2 {
        if paws || !in_window(cb.seq, cb.end_seq, tw.rcv_nxt, tw.rcv_nxt.wrapping_add(tw.rcv_wnd)) {
            return (Verdict::Ack(Some(Mib::TcpExtTCPACKSkippedFinWait2)), false);
        }
        if rst {
            return (Verdict::Kill, false);
        }
        if syn && !before(cb.seq, tw.rcv_nxt) {
            return (Verdict::Reset, false);
        }
        if !ack || !after(cb.end_seq, tw.rcv_nxt) || cb.end_seq == cb.seq {
            return (Verdict::Drop(None), false);
        }
        // Data for a program that is gone (RFC 1122 §4.2.2.13).
        if !fin || cb.end_seq != tw.rcv_nxt.wrapping_add(1) {
            return (Verdict::Reset, false);
        }
        tw.fin_wait2 = false;
        tw.rcv_nxt = cb.end_seq;
        tw.entry_ms = (net.env.now / crate::env::MSEC) as u32;
        if let Some((val, _)) = ts {
            (tw.ts_recent, tw.ts_recent_stamp) = (val, now_s.max(1));
        }
        return (Verdict::Ack(None), true);
    }
    if !paws && cb.seq == tw.rcv_nxt && (cb.seq == cb.end_seq || rst) {
        if rst && !rfc1337 {
            // TIME-WAIT assassination (RFC 1337 §2): allowed unless the setting protects.
            return (Verdict::Kill, false);
        }
        if let Some((val, _)) = ts {
            (tw.ts_recent, tw.ts_recent_stamp) = (val, now_s.max(1));
        }
        return (Verdict::Drop(None), !rst);
    }
    let newer = ts.is_some_and(|(val, _)| (tw.ts_recent.wrapping_sub(val) as i32) < 0);
    if syn && !rst && !ack && !paws && (after(cb.seq, tw.rcv_nxt) || newer) {
        return (Verdict::Syn, false);
    }
    if paws {
        n.mib.inc(Mib::TcpExtPAWSTimewait);
    }
    if rst {
        return (Verdict::Drop(Some(if paws { DropReason::TcpRfc7323TwPaws } else { DropReason::TcpReset })), false);
    }
    // A SYN without ACK may be an old duplicate: it does not prolong the wait.
    (Verdict::Ack(Some(Mib::TcpExtTCPACKSkippedTimeWait)), paws || ack)
}

/// Our last acknowledgement again (`tcp_v4_timewait_ack`).
fn answer(net: &mut Net, ns: NsId, id: TwId, skb: Skb, limit: Option<Mib>) {
    let find = |net: &Net| net.ns.get(ns).and_then(|n| n.tcp.tws.get(id)).cloned();
    let Some(tw) = find(net) else { return net.consume_skb(skb) };
    let mut last = tw.last_oow_ms;
    let limited = limit.is_some_and(|mib| oow_rate_limited(net, ns, &skb, &mut last, mib));
    if !limited {
        let ts = (tw.ts_recent_stamp != 0).then(|| (net.env.now_ms().wrapping_add(tw.tsoffset), tw.ts_recent));
        let window = (tw.rcv_wnd >> tw.rcv_wscale).min(65_535) as u16;
        let key = net.ns.get(ns).and_then(|n| n.tcp.tw_md5.get(&id.slot())).cloned();
        let md5 = key.as_ref();
        let reply = Reply { seq: tw.snd_nxt, ack: Some(tw.rcv_nxt), flags: Flags::ACK, window, ts, md5 };
        ipv4::send_reply(net, ns, &skb, reply);
        if let Some(tw) = net.ns.get_mut(ns).and_then(|n| n.tcp.tws.get_mut(id)) {
            tw.last_oow_ms = last;
        }
    }
    net.kfree_skb(skb, DropReason::TcpOldSequence, "tcp_v4_timewait_ack");
}
