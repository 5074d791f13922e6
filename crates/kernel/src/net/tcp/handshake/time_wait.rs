//! TIME_WAIT as a small object of its own (`struct tcp_timewait_sock`), also for FIN_WAIT2 of orphans. Those that live
//! 60 seconds stand in one queue by age; only the others have a timer of their own.
use crate::env::timers::Fire;
use crate::env::{Jiffies, SEC, TimerKey, TimerSlot, time};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::skb::Skb;
use crate::net::drop::DropReason;
use crate::net::mib::Mib;
use crate::net::sysctl::Sysctl;
use crate::net::tcp::input::{tcp_done, time_wait_seconds};
use crate::net::tcp::ipv4::{self, options, send_reset};
use crate::net::tcp::seq::{after, before};
use crate::net::tcp::sock::TcpSock;
use crate::net::tcp::state::State;
use crate::net::tcp::tables::{self, BindRef, Class, EhashRef, Hold, Tuple};
use belljar_wire::tcp::{Flags, TcpOptions};
use core::net::Ipv4Addr;

#[derive(Clone, Debug)]
pub struct TimeWaitSock {
    pub laddr: Ipv4Addr,
    pub raddr: Ipv4Addr,
    pub lport: u16,
    pub rport: u16,
    pub rcv_nxt: u32,
    pub snd_nxt: u32,
    pub rcv_wnd: u32,
    pub ts_recent: u32,
    /// Seconds since boot; 0: no time stamps.
    pub ts_recent_stamp: u32,
    pub tsoffset: u32,
    pub hash: u32,
    /// When it ends, in ticks.
    pub deadline: Jiffies,
    pub timer: TimerSlot,
    pub bind: Option<BindRef>,
    pub last_oow_ms: u32,
    pub rcv_wscale: u8,
    /// `tw_substate`: FIN_WAIT2 until the peer's FIN comes.
    pub fin_wait2: bool,
}

impl TimeWaitSock {
    pub fn tuple(&self) -> Tuple {
        Tuple { laddr: self.laddr, raddr: self.raddr, lport: self.lport, rport: self.rport }
    }

    pub fn state(&self) -> State {
        if self.fin_wait2 { State::FinWait2 } else { State::TimeWait }
    }

    /// May a new connection take the tuple (`tcp_twsk_unique`)? Needs time stamps, and their clock must have moved.
    pub fn may_be_reused(&self, s: &Sysctl, now: u64, bound: bool) -> bool {
        if self.ts_recent_stamp == 0 {
            return false;
        }
        let loopback = self.laddr.is_loopback() || self.raddr.is_loopback() || self.laddr == self.raddr;
        let allowed = bound || s.tcp_tw_reuse == 1 || (s.tcp_tw_reuse == 2 && loopback);
        let age_ms = (now / SEC).saturating_sub(u64::from(self.ts_recent_stamp)) * 1000;
        allowed
            && (bound || age_ms > u64::from(s.tcp_tw_reuse_delay) || (age_ms >= 1000 && s.tcp_tw_reuse_delay < 1000))
    }

    /// Where the new connection's numbers begin, and the time stamps it goes on with.
    pub fn reuse_state(&self) -> (u32, u32, u32) {
        let seq = self.snd_nxt.wrapping_add(65_535 + 2);
        (if seq == 0 { 1 } else { seq }, self.ts_recent, self.ts_recent_stamp)
    }
}

/// The socket goes, a small one takes its place; none when there are tcp_max_tw_buckets of them already.
pub fn tcp_time_wait(sk: &mut TcpSock, net: &mut Net, id: TcpId, state: State, seconds: u32) {
    let Net { env, ns, .. } = net;
    if let Some(n) = ns.get_mut(sk.sk.ns) {
        if n.tcp.tws.len() as u32 >= n.sysctl.tcp_max_tw_buckets {
            n.mib.inc(Mib::TcpExtTCPTimeWaitOverflow);
        } else if let Some(hash) = sk.ehash.take() {
            let bind = sk.bind.map(|b| {
                let class = n.tcp.class(b).map(|c| Class { hold: Hold::TimeWait, ..c });
                n.tcp.hold(b.port, class)
            });
            let seconds = if state == State::TimeWait { time_wait_seconds() } else { seconds };
            let at = time::round_up(env.now + u64::from(seconds) * SEC, env.hz);
            let tw = n.tcp.tws.insert(TimeWaitSock {
                laddr: sk.sk.rcv_saddr,
                raddr: sk.sk.daddr,
                lport: sk.sk.num,
                rport: sk.sk.dport,
                rcv_nxt: sk.rcv.nxt,
                snd_nxt: sk.snd.nxt,
                rcv_wnd: sk.receive_window(),
                ts_recent: sk.rcv.ts_recent,
                ts_recent_stamp: if sk.flags.tstamp_ok { sk.rcv.ts_recent_stamp } else { 0 },
                tsoffset: sk.tsoffset,
                hash,
                deadline: at,
                timer: TimerSlot::default(),
                bind,
                last_oow_ms: 0,
                rcv_wscale: sk.rcv.wscale,
                fin_wait2: state == State::FinWait2,
            });
            n.tcp.replace(hash, EhashRef::Sock(id), EhashRef::TimeWait(tw));
            schedule(net, sk.sk.ns, tw, seconds);
        }
    }
    tcp_done(sk, net, id);
}

/// Starts (again) the time of an entry (`inet_twsk_schedule`).
fn schedule(net: &mut Net, ns: NsId, tw: TwId, seconds: u32) {
    let Net { env, ns: spaces, .. } = net;
    let Some(n) = spaces.get_mut(ns) else { return };
    let Some(w) = n.tcp.tws.get_mut(tw) else { return };
    let at = time::round_up(env.now + u64::from(seconds) * SEC, env.hz);
    w.deadline = at;
    if seconds == time_wait_seconds() {
        // Restarted entries appear twice; the older place finds the later deadline and goes on.
        w.timer.cancel();
        n.tcp.tw_queue.push_back(tw);
        if !n.tcp.tw_timer.is_armed() {
            env.timers.arm(&mut n.tcp.tw_timer, at, TimerKey::TcpTimeWaitQueue(ns));
        }
    } else {
        env.timers.arm(&mut w.timer, at, TimerKey::TcpTimeWait(ns, tw));
    }
}

/// The oldest of the queue are due.
pub fn queue_timer(k: &mut Kernel, ns: NsId, at: Jiffies) {
    let net = &mut k.net;
    let now = net.env.jiffies();
    let Net { env, ns: spaces, .. } = net;
    let Some(n) = spaces.get_mut(ns) else { return };
    if env.timers.look(&mut n.tcp.tw_timer, at, now, TimerKey::TcpTimeWaitQueue(ns)) != Fire::Due {
        return;
    }
    while let Some(&tw) = k.net.ns.get(ns).and_then(|n| n.tcp.tw_queue.front()) {
        let Some(n) = k.net.ns.get_mut(ns) else { return };
        match n.tcp.tws.get(tw).map(|w| (w.deadline, w.timer.is_armed())) {
            // Restarted (it stands again further back), or it got a timer of its own.
            Some((_, true)) | None => {
                n.tcp.tw_queue.pop_front();
            }
            Some((deadline, _)) if deadline <= now => {
                n.tcp.tw_queue.pop_front();
                n.mib.inc(Mib::TcpExtTW);
                kill(&mut k.net, ns, tw);
            }
            Some((deadline, _)) => {
                if n.tcp.tw_queue.iter().skip(1).take(1).count() == 1 && duplicate_at_front(n, deadline) {
                    n.tcp.tw_queue.pop_front();
                    continue;
                }
                let Net { env, ns: spaces, .. } = &mut k.net;
                if let Some(n) = spaces.get_mut(ns) {
                    env.timers.arm(&mut n.tcp.tw_timer, deadline, TimerKey::TcpTimeWaitQueue(ns));
                }
                return;
            }
        }
    }
}

/// The front entry was restarted later than its neighbour: this place is an old one.
fn duplicate_at_front(n: &crate::net::netns::NetNs, deadline: Jiffies) -> bool {
    let next = n.tcp.tw_queue.get(1).and_then(|id| n.tcp.tws.get(*id)).map(|w| w.deadline);
    next.is_some_and(|d| d < deadline)
}

/// An entry with its own time (FIN_WAIT2) is due.
pub fn entry_timer(k: &mut Kernel, ns: NsId, tw: TwId, at: Jiffies) {
    let now = k.net.env.jiffies();
    let Net { env, ns: spaces, .. } = &mut k.net;
    let Some(w) = spaces.get_mut(ns).and_then(|n| n.tcp.tws.get_mut(tw)) else { return };
    if env.timers.look(&mut w.timer, at, now, TimerKey::TcpTimeWait(ns, tw)) == Fire::Due {
        k.net.inc(ns, Mib::TcpExtTW);
        kill(&mut k.net, ns, tw);
    }
}

/// Takes an entry out (`inet_twsk_kill`).
pub fn kill(net: &mut Net, ns: NsId, tw: TwId) {
    let Some(n) = net.ns.get_mut(ns) else { return };
    if let Some(w) = n.tcp.tws.remove(tw) {
        n.tcp.remove(w.hash, EhashRef::TimeWait(tw));
        if let Some(bind) = w.bind {
            n.tcp.release(bind);
        }
    }
}

/// A segment for an entry. `Some`: a SYN that opens anew, the entry is gone.
pub fn tcp_timewait_state_process(k: &mut Kernel, ns: NsId, tw: TwId, skb: Skb) -> Option<Skb> {
    const AT: &str = "tcp_timewait_state_process";
    let w = k.net.ns.get(ns)?.tcp.tws.get(tw)?.clone();
    let o = options(&skb);
    let (flags, cb) = (skb.tcp.flags, skb.tcp);
    let paws = w.ts_recent_stamp != 0 && o.ts.is_some_and(|(val, _)| before(val, w.ts_recent));
    if w.fin_wait2 {
        fin_wait2_segment(k, ns, tw, &w, skb, &o, paws);
        return None;
    }
    let (rst, syn, ack) = (flags.contains(Flags::RST), flags.contains(Flags::SYN), flags.contains(Flags::ACK));
    if !paws && cb.seq == w.rcv_nxt && (cb.seq == cb.end_seq || rst) {
        // RFC 1337: a RST may end TIME_WAIT unless told otherwise.
        if rst && k.net.ns.get(ns).is_some_and(|n| n.sysctl.tcp_rfc1337 == 0) {
            kill(&mut k.net, ns, tw);
        } else {
            schedule(&mut k.net, ns, tw, time_wait_seconds());
            note_ts(k, ns, tw, &o);
        }
        k.net.consume_skb(skb);
        return None;
    }
    // RFC 9293 §3.6.1, RFC 6191: a SYN that cannot be of the old connection.
    let newer = after(cb.seq, w.rcv_nxt) || (w.ts_recent_stamp != 0 && o.ts.is_some_and(|t| after(t.0, w.ts_recent)));
    if syn && !rst && !ack && !paws && newer && tables::lookup_listener(k, ns, &w.tuple(), skb.dev).is_some() {
        kill(&mut k.net, ns, tw);
        return Some(skb);
    }
    if paws {
        k.net.inc(ns, Mib::TcpExtPAWSEstab);
    }
    if !rst {
        if paws || ack {
            schedule(&mut k.net, ns, tw, time_wait_seconds());
        }
        answer(k, ns, tw, &w, &skb);
    }
    k.net.kfree_skb(skb, if paws { DropReason::TcpRfc7323TwPaws } else { DropReason::TcpOldSequence }, AT);
    None
}

/// FIN_WAIT2 without a socket: only the FIN is wanted.
fn fin_wait2_segment(k: &mut Kernel, ns: NsId, tw: TwId, w: &TimeWaitSock, skb: Skb, o: &TcpOptions, paws: bool) {
    const AT: &str = "tcp_timewait_state_process";
    let (flags, cb) = (skb.tcp.flags, skb.tcp);
    let end = w.rcv_nxt.wrapping_add(w.rcv_wnd);
    let fits = cb.seq == w.rcv_nxt
        || (after(cb.end_seq, w.rcv_nxt) && before(cb.seq, end))
        || (cb.seq == end && cb.seq == cb.end_seq);
    if paws || !fits {
        if !flags.contains(Flags::RST) {
            answer(k, ns, tw, w, &skb);
        }
        return k.net.kfree_skb(skb, DropReason::TcpInvalidSequence, AT);
    }
    if flags.contains(Flags::RST) {
        kill(&mut k.net, ns, tw);
        return k.net.kfree_skb(skb, DropReason::TcpReset, AT);
    }
    if flags.contains(Flags::SYN) && !before(cb.seq, w.rcv_nxt) {
        send_reset(&mut k.net, &skb, None);
        return k.net.kfree_skb(skb, DropReason::TcpInvalidSyn, AT);
    }
    if !flags.contains(Flags::ACK) || !after(cb.end_seq, w.rcv_nxt) || cb.end_seq == cb.seq {
        return k.net.consume_skb(skb);
    }
    if !flags.contains(Flags::FIN) || cb.end_seq != w.rcv_nxt.wrapping_add(1) {
        // Data that nobody will read (RFC 1122 §4.2.2.13).
        k.net.inc(ns, Mib::TcpExtTCPAbortOnData);
        send_reset(&mut k.net, &skb, None);
        kill(&mut k.net, ns, tw);
        return k.net.kfree_skb(skb, DropReason::TcpAbortOnData, AT);
    }
    if let Some(w) = k.net.ns.get_mut(ns).and_then(|n| n.tcp.tws.get_mut(tw)) {
        w.fin_wait2 = false;
        w.rcv_nxt = cb.end_seq;
    }
    note_ts(k, ns, tw, o);
    schedule(&mut k.net, ns, tw, time_wait_seconds());
    if let Some(w) = k.net.ns.get(ns).and_then(|n| n.tcp.tws.get(tw)).cloned() {
        send_ack(k, ns, &w, &skb);
    }
    k.net.consume_skb(skb);
}

fn note_ts(k: &mut Kernel, ns: NsId, tw: TwId, o: &TcpOptions) {
    let now = (k.net.env.now / SEC) as u32;
    if let (Some((val, _)), Some(w)) = (o.ts, k.net.ns.get_mut(ns).and_then(|n| n.tcp.tws.get_mut(tw)))
        && w.ts_recent_stamp != 0
    {
        w.ts_recent = val;
        w.ts_recent_stamp = now.max(1);
    }
}

/// An ACK, at most one per tcp_invalid_ratelimit for bare segments.
fn answer(k: &mut Kernel, ns: NsId, tw: TwId, w: &TimeWaitSock, skb: &Skb) {
    let now = k.net.env.now_ms().max(1);
    let bare = skb.tcp.seq == skb.tcp.end_seq || skb.tcp.flags.contains(Flags::SYN);
    let Some(n) = k.net.ns.get_mut(ns) else { return };
    let limit = n.sysctl.tcp_invalid_ratelimit;
    if let Some(w) = n.tcp.tws.get_mut(tw) {
        if bare && w.last_oow_ms != 0 && now.wrapping_sub(w.last_oow_ms) < limit {
            n.mib.inc(Mib::TcpExtTCPACKSkippedTimeWait);
            return;
        }
        w.last_oow_ms = now;
    }
    send_ack(k, ns, w, skb);
}

fn send_ack(k: &mut Kernel, ns: NsId, w: &TimeWaitSock, skb: &Skb) {
    let ts = (w.ts_recent_stamp != 0).then(|| (k.net.env.now_ms().wrapping_add(w.tsoffset), w.ts_recent));
    let reply = ipv4::Reply {
        seq: w.snd_nxt,
        ack: Some(w.rcv_nxt),
        flags: Flags::ACK,
        window: (w.rcv_wnd >> w.rcv_wscale).min(65_535) as u16,
        ts,
    };
    ipv4::send_reply(&mut k.net, ns, skb, reply);
}
