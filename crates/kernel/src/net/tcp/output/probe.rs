//! Probes: of a closed window, of an idle peer (keepalive), and of the tail of a flight (TLP, RFC 8985 §7).
use super::transmit::send_control;
use super::{rearm_rto, retransmit, segment};
use crate::ids::TcpId;
use crate::net::Net;
use crate::net::mib::Mib;
use crate::net::tcp::seq::{before, between};
use crate::net::tcp::sock::*;
use crate::net::tcp::{bounds, inc, reset_write_timer, setting, urgent};
use belljar_abi::Errno;
use belljar_wire::tcp::Flags;

/// Base interval of zero-window probes (`tcp_probe0_base`).
pub fn probe0_base(sk: &TcpSock, net: &Net) -> u32 {
    sk.rtt.rto_us.max(bounds(net, sk).min_us)
}

/// A segment that must be answered: an old sequence number without data (`tcp_xmit_probe_skb`).
pub fn xmit_probe(sk: &mut TcpSock, net: &mut Net, id: TcpId) -> Result<(), Errno> {
    let seq = sk.snd.una.wrapping_sub(1);
    send_control(sk, net, id, seq, Flags::ACK)
}

/// A zero-window or keepalive probe: data if the window takes some, else an empty segment (`tcp_write_wakeup`).
#[doc(alias = "tcp_write_wakeup")]
pub fn write_wakeup(sk: &mut TcpSock, net: &mut Net, id: TcpId) -> Result<(), Errno> {
    let ix = sk.snd.sent;
    let end = sk.wnd_end();
    if let Some(seg) = sk.snd.queue.get(ix)
        && before(seg.seq, end)
    {
        let mss = segment::current_mss(sk, net);
        let room = end.wrapping_sub(sk.snd.queue.get(ix).map_or(end, |s| s.seq)).min(mss);
        segment::split(sk, ix, room);
        if let Some(seg) = sk.snd.queue.get_mut(ix) {
            // It was held back for more: what there is now is all, as far as anybody knows.
            seg.flags |= Flags::PSH;
            sk.snd.pushed_seq = crate::net::tcp::seq::max(sk.snd.pushed_seq, seg.end_seq);
        }
        super::transmit::transmit_queued(sk, net, id, ix, mss)?;
        super::event_new_data_sent(sk, net, id);
        return Ok(());
    }
    if urgent::snd_up(sk).is_some_and(|up| between(up, sk.snd.una.wrapping_add(1), sk.snd.una.wrapping_add(0xffff))) {
        // The pointer gets through a closed window (RFC 9293 §3.8.5).
        let _ = send_control(sk, net, id, sk.snd.una, Flags::ACK);
    }
    xmit_probe(sk, net, id)
}

/// Sends a probe of the closed window and backs off (`tcp_send_probe0`).
pub fn send_probe0(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    let sent = write_wakeup(sk, net, id);
    if sk.snd.packets_out != 0 || !sk.has_unsent() {
        crate::net::tcp::timer::probes_answered(sk);
        sk.rtt.backoff = 0;
        return;
    }
    sk.snd.probes_out = sk.snd.probes_out.saturating_add(1);
    inc(net, sk, Mib::TcpExtTCPWinProbe);
    let mut wait = u64::from(TCP_RESOURCE_PROBE_INTERVAL_US);
    if sent.is_ok() {
        let retries2 = setting(net, sk, |s| s.tcp_retries2) as u8;
        if sk.rtt.backoff < retries2 {
            sk.rtt.backoff += 1;
        }
        wait = u64::from(probe0_base(sk, net)) << sk.rtt.backoff.min(31);
    }
    let b = bounds(net, sk);
    let wait = clamp_to_user_timeout(sk, net, wait.min(u64::from(b.max_us)));
    reset_write_timer(net, sk, id, WriteTimer::Probe0, wait as u32);
}

/// The last probe comes when TCP_USER_TIMEOUT is over, not later (`tcp_clamp_probe0_to_user_timeout`).
fn clamp_to_user_timeout(sk: &TcpSock, net: &Net, wait: u64) -> u64 {
    let Some(c) = sk.sk.cold.as_ref().filter(|c| c.user_timeout_ms != 0 && c.probes_since_us != 0) else { return wait };
    let user = u64::from(c.user_timeout_ms) * 1000;
    let left = user.saturating_sub(net.env.now_us().saturating_sub(c.probes_since_us));
    wait.min(left.max(2000))
}

/// What this machine could not send is tried again soon: nobody else's congestion is meant by it.
const TCP_RESOURCE_PROBE_INTERVAL_US: u32 = 500_000;

/// Arms the tail loss probe: two round trips, more when one lone segment may be acknowledged late; never after the RTO.
#[doc(alias = "tcp_schedule_loss_probe")]
pub fn schedule_loss_probe(sk: &mut TcpSock, net: &mut Net, id: TcpId) -> bool {
    let early = setting(net, sk, |s| s.tcp_early_retrans);
    if !matches!(early, 3 | 4)
        || sk.fastopen_rsk().is_some()
        || sk.snd.packets_out == 0
        || !sk.flags.sack_ok
        || !matches!(sk.loss.ca_state, CaState::Open | CaState::Cwr)
    {
        return false;
    }
    let b = bounds(net, sk);
    let mut us = TCP_TIMEOUT_INIT_US;
    if sk.rtt.srtt_us != 0 {
        us = sk.rtt.srtt_us >> 2;
        us += if sk.snd.packets_out == 1 { b.min_us } else { TCP_TIMEOUT_MIN_US };
    }
    let rto = sk.rtt.backed_off(b);
    let sent = sk.snd.queue.front().map_or(0, |s| s.tx_us);
    let left = (sent + u64::from(rto)).saturating_sub(net.env.now_us());
    us = us.min(left.clamp(1, u64::from(u32::MAX)) as u32);
    reset_write_timer(net, sk, id, WriteTimer::LossProbe, us);
    true
}

/// The probe is due: new data if the window takes it, else the last segment again (`tcp_send_loss_probe`).
#[doc(alias = "tcp_send_loss_probe")]
pub fn send_loss_probe(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    sk.write_timer_kind = WriteTimer::None;
    // One probe at a time: until it is answered the RTO is in charge.
    if sk.loss.tlp_high_seq == 0 && sk.snd.sent > 0 {
        sk.loss.tlp_retrans = false;
        let before_out = sk.snd.packets_out;
        let mss = segment::current_mss(sk, net);
        if sk.has_unsent() && super::permit::snd_wnd_test(sk, mss) {
            super::tcp_write_xmit(sk, net, id, super::Nagle::Push, super::Push::Probe);
        }
        let mut sent = sk.snd.packets_out > before_out;
        if !sent {
            sent = retransmit_last(sk, net, id, mss);
            sk.loss.tlp_retrans = sent;
        }
        if sent {
            sk.loss.tlp_high_seq = sk.snd.nxt;
            inc(net, sk, Mib::TcpExtTCPLossProbes);
            // The retransmission timer counts from the probe.
            sk.write_timer_kind = WriteTimer::None;
            return rearm_rto(sk, net, id);
        }
    }
    // Nothing went out: the retransmission timer, counted from the head.
    sk.write_timer_kind = WriteTimer::LossProbe;
    rearm_rto(sk, net, id);
}

fn retransmit_last(sk: &mut TcpSock, net: &mut Net, id: TcpId, mss: u32) -> bool {
    let mut ix = sk.snd.sent - 1;
    let Some(seg) = sk.snd.queue.get(ix) else { return false };
    let pcount = seg.pcount();
    if pcount > 1 && seg.len() > (pcount - 1) * mss {
        segment::split(sk, ix, (pcount - 1) * mss);
        ix += 1;
    }
    retransmit::resend(sk, net, id, ix, 1, "tail loss probe")
}
