//! The timers of a connection: retransmission and probes, delayed acknowledgement, keepalive (Linux: `tcp_timer.c`).
use super::account::{Patience, Stuck};
use super::input::{EVERYTHING, rack, recovery, tcp_done};
use super::output::{self, ack, probe, retransmit, transmit};
use super::sock::*;
use super::state::State;
use super::{bounds, handshake, inc, mtup, reset_write_timer, setting, wake};
use crate::env::timers::Fire;
use crate::env::{Fired, SEC, TimerKey};
use crate::ids::TcpId;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::mib::Mib;
use belljar_abi::Errno;

const TCP_THIN_LINEAR_RETRIES: u8 = 6;
/// Timeouts in a row from which the account takes note.
const STUCK: u8 = 3;

/// The write timer: whatever it stands for now.
#[doc(alias = "tcp_write_timer_handler")]
pub fn tcp_write_timer(k: &mut Kernel, id: TcpId, at: Fired) {
    let Kernel { socks, net, .. } = k;
    let Some(sk) = socks.tcp.get_mut(id) else { return };
    let now = net.env.jiffies();
    if net.env.timers.look(&mut sk.write_timer, at, now, TimerKey::TcpWrite(id)) != Fire::Due {
        return;
    }
    if matches!(sk.state, State::Close | State::Listen) {
        return;
    }
    match std::mem::take(&mut sk.write_timer_kind) {
        WriteTimer::None => {}
        WriteTimer::Retrans => retransmit_timer(sk, net, id),
        WriteTimer::Probe0 => probe_timer(sk, net, id),
        WriteTimer::LossProbe => probe::send_loss_probe(sk, net, id),
        WriteTimer::ReoTimeout => rack::reo_timeout(sk, net, id),
    }
}

/// RFC 6298 §5.4 to 5.7.
#[doc(alias = "tcp_retransmit_timer")]
fn retransmit_timer(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    if sk.fastopen_rsk().is_some() {
        return handshake::fastopen::server::synack_timer(sk, net, id);
    }
    if sk.snd.packets_out == 0 {
        return;
    }
    if sk.loss.retransmits == 0 && sk.loss.retrans_stamp_ms == 0 {
        sk.loss.retrans_stamp_ms = net.env.now_ms().wrapping_add(sk.tsoffset).max(1);
    }
    let opening = sk.state.is(&[State::SynSent, State::SynRecv]);
    if !opening && sk.snd.wnd == 0 && !sk.sk.flags.dead {
        // The peer closed its window over data in flight: ask, do not judge by lost segments.
        if window_timed_out(sk, net) {
            return write_err(sk, net, id, Patience::Data);
        }
        recovery::enter_loss(sk, net);
        update_rto_stats(sk, net);
        retransmit::retransmit(sk, net, id, 0, 1, "zero window");
        sk.dst = None;
        return back_off(sk, net, id);
    }
    inc(net, sk, Mib::TcpExtTCPTimeouts);
    let expired = write_timeout(sk, net, id);
    handshake::fastopen::active_detect_blackhole(sk, net, expired);
    if expired {
        if sk.state != State::Close {
            let why = match sk.state {
                State::SynSent => Patience::Syn,
                State::SynRecv => Patience::SynAck,
                _ if sk.sk.flags.dead => Patience::Orphan,
                _ => Patience::Data,
            };
            write_err(sk, net, id, why);
        }
        return;
    }
    if sk.loss.retransmits == 0 {
        count_first_timeout(sk, net);
    }
    if !opening {
        recovery::enter_loss(sk, net);
    }
    update_rto_stats(sk, net);
    if sk.loss.retransmits >= STUCK && !opening {
        note_stuck(sk, net);
    }
    retransmit::retransmit(sk, net, id, 0, 1, "timeout");
    back_off(sk, net, id);
}

/// For the account: no full segment was ever acknowledged.
#[cold]
fn note_stuck(sk: &TcpSock, net: &mut Net) {
    let mss = sk.snd.mss_cache;
    let acked = sk.totals.bytes_acked;
    let full = sk.snd.queue.front().is_some_and(|s| s.len() >= u32::from(mss));
    if !full || acked >= u64::from(mss) {
        return;
    }
    let (local, peer) = ((sk.sk.rcv_saddr, sk.sk.num), (sk.sk.daddr, sk.sk.dport));
    let stuck = Stuck { local, peer, mss, waited_ms: elapsed_ms(sk, net) };
    if let Some(n) = net.ns.get_mut(sk.sk.ns) {
        n.tcp.account.stuck(stuck, sk.loss.retransmits == STUCK);
    }
}

/// One more timeout, the first of an episode or not.
#[doc(alias = "tcp_update_rto_stats")]
fn update_rto_stats(sk: &mut TcpSock, net: &Net) {
    let (first, now) = (sk.loss.retransmits == 0, net.env.now_ms().max(1));
    sk.loss.retransmits = sk.loss.retransmits.saturating_add(1);
    let t = sk.track();
    if first {
        t.total_rto_recoveries = t.total_rto_recoveries.wrapping_add(1);
        t.rto_stamp_ms = now;
    }
    t.total_rto = t.total_rto.wrapping_add(1);
}

/// Too few segments in flight for duplicates to tell of a loss (`tcp_stream_is_thin`), slow start over.
fn is_thin(sk: &TcpSock) -> bool {
    sk.snd.packets_out < 4 && sk.cong.ssthresh < super::cong::TCP_INFINITE_SSTHRESH
}

/// Doubles the timeout, but not for the first SYNs (tcp_syn_linear_timeouts), nor at first for a thin stream that asks.
fn back_off(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    let thin = sk.tune.as_ref().is_some_and(|t| t.thin_lto) || setting(net, sk, |s| s.tcp_thin_linear_timeouts) != 0;
    let linear = setting(net, sk, |s| s.tcp_syn_linear_timeouts);
    if thin && sk.state == State::Established && is_thin(sk) && sk.loss.retransmits <= TCP_THIN_LINEAR_RETRIES {
        let b = bounds(net, sk);
        sk.rtt.backoff = 0;
        sk.rtt.set_rto(b);
    } else if sk.state != State::SynSent || u32::from(sk.loss.retransmits) > linear {
        sk.rtt.backoff = sk.rtt.backoff.saturating_add(1);
    }
    let rto = clamp_to_user_timeout(sk, net, sk.rtt.backed_off(bounds(net, sk)));
    reset_write_timer(net, sk, id, WriteTimer::Retrans, rto);
    let retries1 = setting(net, sk, |s| s.tcp_retries1);
    if timed_out(sk, net, retries1 + 1) {
        // The route may have died: look again.
        sk.dst = None;
    }
}

/// The last wait ends when TCP_USER_TIMEOUT does (`tcp_clamp_rto_to_user_timeout`).
fn clamp_to_user_timeout(sk: &TcpSock, net: &Net, rto_us: u32) -> u32 {
    let user = sk.sk.cold.as_ref().map_or(0, |c| c.user_timeout_ms);
    match user.saturating_sub(elapsed_ms(sk, net)) {
        _ if user == 0 => rto_us,
        // One tick: it is over now.
        0 => 1,
        left => rto_us.min(left.saturating_mul(1000)),
    }
}

fn count_first_timeout(sk: &mut TcpSock, net: &mut Net) {
    let c = match (sk.loss.ca_state, sk.flags.sack_ok) {
        (CaState::Recovery, true) => Mib::TcpExtTCPSackRecoveryFail,
        (CaState::Recovery, false) => Mib::TcpExtTCPRenoRecoveryFail,
        (CaState::Loss, _) => Mib::TcpExtTCPLossFailures,
        (CaState::Disorder, true) => Mib::TcpExtTCPSackFailures,
        (CaState::Disorder, false) => Mib::TcpExtTCPRenoFailures,
        _ => return,
    };
    inc(net, sk, c);
}

/// Time to give up? Also what is tried before: another route, smaller segments, another hash for paths that balance.
#[doc(alias = "tcp_write_timeout")]
fn write_timeout(sk: &mut TcpSock, net: &mut Net, id: TcpId) -> bool {
    let n = u32::from(sk.loss.retransmits);
    let user = sk.sk.cold.as_ref().map_or(0, |c| c.user_timeout_ms);
    let waited = elapsed_ms(sk, net);
    let expired = if sk.state == State::SynSent {
        let own = sk.tune.as_ref().map_or(0, |t| u32::from(t.syn_retries));
        let retries = if own == 0 { setting(net, sk, |s| s.tcp_syn_retries) } else { own };
        let most = retries + setting(net, sk, |s| s.tcp_syn_linear_timeouts);
        // So many transmissions, or as long as so many doublings of a second take.
        let b = super::rtt::Bounds { min_us: TCP_TIMEOUT_INIT_US, ..bounds(net, sk) };
        let limit = if user != 0 { user } else { model_timeout_ms(retries, b) };
        n >= most || waited >= limit
    } else if sk.state == State::SynRecv {
        n >= setting(net, sk, |s| s.tcp_synack_retries)
    } else {
        let retries1 = setting(net, sk, |s| s.tcp_retries1);
        if timed_out(sk, net, retries1) {
            mtup::black_hole(sk, net);
            sk.dst = None;
        }
        let mut retries = setting(net, sk, |s| s.tcp_retries2);
        if sk.sk.flags.dead {
            let alive = sk.rtt.backed_off(bounds(net, sk)) < bounds(net, sk).max_us;
            retries = orphan_retries(sk, net, alive);
            let reset = alive || !timed_out(sk, net, retries);
            if super::close::out_of_resources(sk, net, id, reset) {
                return true;
            }
        }
        if user != 0 { waited >= user } else { timed_out(sk, net, retries) }
    };
    if !expired {
        rethink_txhash(sk, net);
    }
    expired
}

/// Another flow hash, so that a path with several ways may take another one (`sk_rethink_txhash`).
fn rethink_txhash(sk: &mut TcpSock, net: &mut Net) {
    if sk.sk.flags.no_txrehash {
        return;
    }
    sk.txhash = net.env.rng.next_u32() | 1;
    inc(net, sk, Mib::TcpExtTcpTimeoutRehash);
    let t = sk.track();
    t.timeout_rehash = t.timeout_rehash.wrapping_add(1);
}

/// Longer without an answer than `retries` doublings of the smallest timeout (`retransmits_timed_out`).
fn timed_out(sk: &TcpSock, net: &Net, retries: u32) -> bool {
    sk.loss.retransmits > 0 && elapsed_ms(sk, net) >= model_timeout_ms(retries, bounds(net, sk))
}

/// `tcp_orphan_retries`: 8 when the setting is 0, while the timeouts still grow.
fn orphan_retries(sk: &TcpSock, net: &Net, alive: bool) -> u32 {
    let n = setting(net, sk, |s| s.tcp_orphan_retries);
    match (n, alive) {
        (0, true) => 8,
        (_, false) if sk.sk.err_soft() != 0 => 0,
        (n, _) => n,
    }
}

/// How long `boundary` doublings of the smallest timeout take (`tcp_model_timeout`).
fn model_timeout_ms(boundary: u32, b: super::rtt::Bounds) -> u32 {
    let (min, max) = (u64::from(b.min_us), u64::from(b.max_us));
    let linear = (max / min.max(1)).max(1).ilog2();
    let us = if boundary <= linear {
        ((2u64 << boundary) - 1) * min
    } else {
        ((2u64 << linear) - 1) * min + u64::from(boundary - linear) * max
    };
    (us / 1000).min(u64::from(u32::MAX)) as u32
}

fn elapsed_ms(sk: &TcpSock, net: &Net) -> u32 {
    if sk.loss.retrans_stamp_ms == 0 {
        return 0;
    }
    net.env.now_ms().wrapping_add(sk.tsoffset).wrapping_sub(sk.loss.retrans_stamp_ms)
}

fn window_timed_out(sk: &TcpSock, net: &Net) -> bool {
    let heard = sk.rcv.ack.last_us.max(sk.snd.last_us);
    let silent = net.env.now_us().saturating_sub(heard);
    u32::from(sk.loss.retransmits) > setting(net, sk, |s| s.tcp_retries2)
        && silent > 2 * u64::from(bounds(net, sk).max_us)
}

/// ETIMEDOUT, or what ICMP said meanwhile (`tcp_write_err`).
pub(super) fn write_err(sk: &mut TcpSock, net: &mut Net, id: TcpId, why: Patience) {
    if let Some(n) = net.ns.get_mut(sk.sk.ns) {
        n.tcp.account.gave_up(why, (sk.sk.daddr, sk.sk.dport));
    }
    sk.sk.err = if sk.sk.err_soft() != 0 { sk.sk.err_soft() } else { Errno::ETIMEDOUT.0 };
    super::close::purge_write_queue(sk, net, id);
    tcp_done(sk, net, id);
    wake(net, sk, id, EVERYTHING);
    inc(net, sk, Mib::TcpExtTCPAbortOnTimeout);
}

/// The peer lives, or nothing is asked of it any more.
pub(crate) fn probes_answered(sk: &mut TcpSock) {
    sk.snd.probes_out = 0;
    if let Some(c) = &mut sk.sk.cold {
        c.probes_since_us = 0;
    }
}

/// The window is closed and data waits.
#[doc(alias = "tcp_probe_timer")]
fn probe_timer(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    if sk.snd.packets_out != 0 || !sk.has_unsent() {
        return probes_answered(sk);
    }
    let now = net.env.now_us();
    let (mut user, mut since) = (0, 0);
    if let Some(c) = &mut sk.sk.cold {
        user = u64::from(c.user_timeout_ms) * 1000;
        if c.probes_since_us == 0 {
            c.probes_since_us = now;
        }
        since = now.saturating_sub(c.probes_since_us);
    }
    let mut most = setting(net, sk, |s| s.tcp_retries2);
    if sk.sk.flags.dead {
        let alive = sk.rtt.backed_off(bounds(net, sk)) < bounds(net, sk).max_us;
        most = orphan_retries(sk, net, alive);
    }
    let out = u32::from(sk.snd.probes_out);
    if (user != 0 && since >= user) || (out > 0 && out >= most) {
        return write_err(sk, net, id, if sk.sk.flags.dead { Patience::Orphan } else { Patience::Data });
    }
    probe::send_probe0(sk, net, id);
}

/// A delayed acknowledgement is due.
#[doc(alias = "tcp_delack_timer_handler")]
pub fn tcp_delack_timer(k: &mut Kernel, id: TcpId, at: Fired) {
    let Kernel { socks, net, .. } = k;
    let Some(sk) = socks.tcp.get_mut(id) else { return };
    let now = net.env.jiffies();
    if net.env.timers.look(&mut sk.delack_timer, at, now, TimerKey::TcpDelack(id)) != Fire::Due {
        return;
    }
    sk.rcv.ack.pending &= !ICSK_ACK_TIMER;
    if matches!(sk.state, State::Close | State::Listen) || sk.rcv.ack.pending & ICSK_ACK_SCHED == 0 {
        return;
    }
    if ack::in_pingpong_mode(sk, net) {
        // We promised an answer and did not give it: leave interactive mode.
        sk.rcv.ack.pingpong = 0;
        sk.rcv.ack.ato_ms = TCP_DELACK_MIN_MS as u16;
    } else {
        // The guess was too short.
        let doubled = (u32::from(sk.rcv.ack.ato_ms) << 1).min(sk.rtt.rto_us / 1000);
        sk.rcv.ack.ato_ms = doubled.min(u32::from(u16::MAX)) as u16;
    }
    ack::send_ack(sk, net, id);
    inc(net, sk, Mib::TcpExtDelayedACKs);
}

pub fn keepalive_time(sk: &TcpSock, net: &Net) -> u32 {
    match sk.tune.as_ref().map_or(0, |t| t.keepalive_time_s) {
        0 => setting(net, sk, |s| s.tcp_keepalive_time.get()),
        own => own,
    }
}

pub fn keepalive_intvl(sk: &TcpSock, net: &Net) -> u32 {
    match sk.tune.as_ref().map_or(0, |t| t.keepalive_intvl_s) {
        0 => setting(net, sk, |s| s.tcp_keepalive_intvl.get()),
        own => own,
    }
}

pub fn keepalive_probes(sk: &TcpSock, net: &Net) -> u32 {
    match sk.tune.as_ref().map_or(0, |t| u32::from(t.keepalive_probes)) {
        0 => setting(net, sk, |s| s.tcp_keepalive_probes),
        own => own,
    }
}

pub fn reset_keepalive(sk: &mut TcpSock, net: &mut Net, id: TcpId, ns: u64) {
    let at = net.env.round_up(net.env.now + ns);
    net.env.timers.arm(&mut sk.keepalive_timer, at, TimerKey::TcpKeepalive(id));
}

/// SO_KEEPALIVE was switched (`tcp_set_keepalive`).
pub fn set_keepalive(sk: &mut TcpSock, net: &mut Net, id: TcpId, on: bool) {
    if matches!(sk.state, State::Close | State::Listen) {
        return;
    }
    if on && !sk.sk.flags.keepalive {
        let idle = keepalive_time(sk, net);
        reset_keepalive(sk, net, id, u64::from(idle) * SEC);
    } else if !on {
        sk.keepalive_timer.cancel();
    }
}

/// Idle too long: ask; too often unanswered: give up. Also ends FIN_WAIT2 of a long-lingering orphan.
pub fn tcp_keepalive_timer(k: &mut Kernel, id: TcpId, at: Fired) {
    let Kernel { socks, net, .. } = k;
    let Some(sk) = socks.tcp.get_mut(id) else { return };
    let now = net.env.jiffies();
    if net.env.timers.look(&mut sk.keepalive_timer, at, now, TimerKey::TcpKeepalive(id)) != Fire::Due {
        return;
    }
    if sk.state == State::FinWait2 && sk.sk.flags.dead {
        if sk.tune.as_ref().is_none_or(|t| t.linger2 >= 0) {
            let left = super::close::fin_time(sk, net).saturating_sub(super::input::time_wait_seconds());
            if left > 0 {
                let t = super::input::time_wait_seconds();
                return handshake::time_wait::tcp_time_wait(sk, net, id, State::FinWait2, t);
            }
        }
        transmit::send_active_reset(sk, net, id);
        return tcp_done(sk, net, id);
    }
    if !sk.sk.flags.keepalive || sk.state.is(&[State::Close, State::SynSent, State::Listen]) {
        return;
    }
    let (idle_s, intvl) = (keepalive_time(sk, net), keepalive_intvl(sk, net));
    if sk.snd.packets_out != 0 || sk.has_unsent() {
        return reset_keepalive(sk, net, id, u64::from(idle_s) * SEC);
    }
    let heard = sk.rcv.ack.last_us.max(sk.rcv.ack.heard_us);
    let idle_us = net.env.now_us().saturating_sub(heard);
    let due = u64::from(idle_s) * 1_000_000;
    if idle_us < due {
        return reset_keepalive(sk, net, id, (due - idle_us) * 1000);
    }
    let user = sk.sk.cold.as_ref().map_or(0, |c| u64::from(c.user_timeout_ms) * 1000);
    let out = u32::from(sk.snd.probes_out);
    let gone = if user != 0 { idle_us >= user && out > 0 } else { out >= keepalive_probes(sk, net) };
    if gone {
        transmit::send_active_reset(sk, net, id);
        return write_err(sk, net, id, Patience::Keepalive);
    }
    let _ = probe::xmit_probe(sk, net, id);
    inc(net, sk, Mib::TcpExtTCPKeepAlive);
    sk.snd.probes_out = sk.snd.probes_out.saturating_add(1);
    reset_keepalive(sk, net, id, u64::from(intvl) * SEC);
}

/// TCP_NODELAY set or cork taken off: what Nagle held goes now.
pub fn push_held(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    output::push_pending_frames(sk, net, id, output::Nagle::Push);
}

#[cfg(test)]
mod tests {
    use super::super::rtt::Bounds;
    use super::*;

    #[test]
    fn fifteen_doublings_are_the_924_seconds_of_the_manual() {
        assert_eq!(model_timeout_ms(15, Bounds { min_us: 200_000, max_us: 120_000_000 }), 924_600);
    }
}
