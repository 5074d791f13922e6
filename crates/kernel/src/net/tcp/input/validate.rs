//! Is the segment acceptable at all: time stamps, sequence, RST, SYN (RFC 9293 §3.10.7.4, RFC 7323 §5.3, RFC 5961).
use crate::env::SEC;
use crate::ids::TcpId;
use crate::net::Net;
use crate::net::core::skb::Skb;
use crate::net::drop::DropReason;
use crate::net::mib::Mib;
use crate::net::tcp::output::ack::send_ack;
use crate::net::tcp::seq::{after, before};
use crate::net::tcp::sock::*;
use crate::net::tcp::state::State;
use crate::net::tcp::{inc, setting};
use belljar_wire::tcp::{Flags, TcpOptions};

/// The segment when it may be processed further; else it was answered as it had to be and is gone.
#[doc(alias = "tcp_validate_incoming")]
pub fn validate_incoming(sk: &mut TcpSock, net: &mut Net, id: TcpId, skb: Skb, o: &TcpOptions) -> Option<Skb> {
    const AT: &str = "tcp_validate_incoming";
    let (flags, cb) = (skb.tcp.flags, skb.tcp);
    let rst = flags.contains(Flags::RST);
    if let (true, Some((val, _))) = (sk.flags.tstamp_ok, o.ts)
        && paws_discard(sk, net, val)
        && let Err(reason) = disordered_ack(sk, &skb, val)
        && !rst
    {
        if flags.contains(Flags::SYN) {
            return syn_challenge(sk, net, id, skb);
        }
        if reason == DropReason::TcpRfc7323PawsAck {
            // Late ACKs are common, and worth no answer.
            inc(net, sk, Mib::TcpExtPAWSOldAck);
        } else {
            inc(net, sk, Mib::TcpExtPAWSEstab);
            if !oow_rate_limited(sk, net, &skb, Mib::TcpExtTCPACKSkippedPAWS) {
                send_dupack(sk, net, id, &skb);
            }
        }
        net.kfree_skb(skb, reason, AT);
        return None;
    }
    if let Err(reason) = sequence(sk, &skb) {
        if rst {
            // RFC 9293 §3.10.7.4: nothing is sent for a RST out of the window.
            if reset_at_edge(sk, cb.seq) {
                super::tcp_reset(sk, net, id);
            }
        } else if flags.contains(Flags::SYN) {
            return syn_challenge(sk, net, id, skb);
        } else {
            if matches!(reason, DropReason::TcpInvalidSequence | DropReason::TcpInvalidEndSequence) {
                inc(net, sk, Mib::TcpExtBeyondWindow);
            }
            if !oow_rate_limited(sk, net, &skb, Mib::TcpExtTCPACKSkippedSeq) {
                send_dupack(sk, net, id, &skb);
            }
        }
        net.kfree_skb(skb, reason, AT);
        return None;
    }
    if rst {
        // RFC 5961 §3.2: only the exact number resets, or the right edge of a SACK block that we told.
        if cb.seq == sk.rcv.nxt || reset_at_edge(sk, cb.seq) || reset_at_sack(sk, cb.seq) {
            super::tcp_reset(sk, net, id);
        } else {
            send_challenge_ack(sk, net, id);
        }
        net.kfree_skb(skb, DropReason::TcpReset, AT);
        return None;
    }
    // RFC 5961 §4.2: a SYN in the window is answered, never believed. The bare SYN-ACK of our own simultaneous open may pass.
    if flags.contains(Flags::SYN) {
        let bare = cb.seq.wrapping_add(1) == cb.end_seq && cb.end_seq == sk.rcv.nxt;
        if sk.state == State::SynRecv && flags.contains(Flags::ACK) && bare {
            return Some(skb);
        }
        return syn_challenge(sk, net, id, skb);
    }
    Some(skb)
}

fn syn_challenge(sk: &mut TcpSock, net: &mut Net, id: TcpId, skb: Skb) -> Option<Skb> {
    inc(net, sk, Mib::TcpExtTCPSYNChallenge);
    send_challenge_ack(sk, net, id);
    net.kfree_skb(skb, DropReason::TcpInvalidSyn, "tcp_validate_incoming");
    None
}

/// Older than the newest time stamp we took (RFC 7323 §5.3) by more than a millisecond, unless that one is 24 days old.
fn paws_discard(sk: &TcpSock, net: &Net, val: u32) -> bool {
    const PAWS_24DAYS: u32 = 60 * 60 * 24 * 24;
    /// Packets of one burst may overtake each other although the clock just ticked.
    const PAWS_WINDOW: i32 = 1;
    if (sk.rcv.ts_recent.wrapping_sub(val) as i32) <= PAWS_WINDOW || sk.rcv.ts_recent_stamp == 0 {
        return false;
    }
    ((net.env.now / SEC) as u32).saturating_sub(sk.rcv.ts_recent_stamp) < PAWS_24DAYS
}

/// A pure ACK with an old time: one that data overtook is dropped and nothing more; one that repeats what is known is as good
/// as a new one, unless it is later than a retransmission would be.
#[doc(alias = "tcp_disordered_ack_check")]
fn disordered_ack(sk: &TcpSock, skb: &Skb, val: u32) -> Result<(), DropReason> {
    let cb = &skb.tcp;
    let pure = cb.flags.contains(Flags::ACK) && cb.seq == cb.end_seq;
    if pure && before(cb.seq, sk.rcv.nxt) {
        return Err(DropReason::TcpRfc7323PawsAck);
    }
    let wnd = u32::from(cb.window) << sk.snd.wscale;
    let updates = after(cb.seq, sk.snd.wl1) || (cb.seq == sk.snd.wl1 && (wnd > sk.snd.wnd || wnd == 0));
    let repeats = pure && cb.seq == sk.rcv.nxt && cb.ack == sk.snd.una && !updates;
    // Of a peer's clock no more is known than that a tick is at least a millisecond, or a little more.
    let replay = u64::from(sk.rtt.rto_us) * 12 / 10_000;
    let late = sk.rcv.ts_recent.wrapping_sub(val) as i32;
    if repeats && i64::from(late) <= replay as i64 { Ok(()) } else { Err(DropReason::TcpRfc7323Paws) }
}

/// What begins in the window may go beyond it only while nothing waits for the reader.
#[doc(alias = "tcp_sequence")]
fn sequence(sk: &TcpSock, skb: &Skb) -> Result<(), DropReason> {
    let (seq, end_seq) = (skb.tcp.seq, skb.tcp.end_seq);
    if before(end_seq, sk.rcv.wup) {
        return Err(DropReason::TcpOldSequence);
    }
    let limit = sk.rcv.nxt.wrapping_add(sk.receive_window());
    let fin = u32::from(skb.tcp.flags.contains(Flags::FIN));
    // Of a FIN no window is asked.
    if !after(end_seq.wrapping_sub(fin), limit) {
        return Ok(());
    }
    if after(seq, limit) {
        return Err(DropReason::TcpInvalidSequence);
    }
    if sk.rcv.queue.is_empty() { Ok(()) } else { Err(DropReason::TcpInvalidEndSequence) }
}

/// After a FIN the peer may reset with the number before ours (`tcp_reset_check`).
fn reset_at_edge(sk: &TcpSock, seq: u32) -> bool {
    seq == sk.rcv.nxt.wrapping_sub(1) && sk.state.is(&[State::CloseWait, State::LastAck, State::Closing])
}

fn reset_at_sack(sk: &TcpSock, seq: u32) -> bool {
    let told = sk.rcv.sack.blocks.iter().take(sk.rcv.sack.n as usize);
    let edge = told.map(|b| b.1).reduce(crate::net::tcp::seq::max);
    sk.flags.sack_ok && edge == Some(seq)
}

/// Bare out-of-window segments are answered at most every tcp_invalid_ratelimit (`tcp_oow_rate_limited`).
fn oow_rate_limited(sk: &mut TcpSock, net: &mut Net, skb: &Skb, skipped: Mib) -> bool {
    let bare = skb.tcp.seq == skb.tcp.end_seq || skb.tcp.flags.contains(Flags::SYN);
    if !bare {
        return false;
    }
    let limit = setting(net, sk, |s| s.tcp_invalid_ratelimit.get());
    // 0 says never.
    let now = net.env.now_ms().max(1);
    let last = sk.rcv.ack.last_oow_ms;
    if last != 0 && now.wrapping_sub(last) < limit {
        inc(net, sk, skipped);
        return true;
    }
    sk.rcv.ack.last_oow_ms = now;
    false
}

/// At most one per tcp_invalid_ratelimit and socket (RFC 5961 §7).
#[doc(alias = "tcp_send_challenge_ack")]
pub fn send_challenge_ack(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    let limit = setting(net, sk, |s| s.tcp_invalid_ratelimit.get());
    // 0 says never.
    let now = net.env.now_ms().max(1);
    let last = sk.rcv.ack.last_oow_ms;
    if last != 0 && now.wrapping_sub(last) < limit {
        inc(net, sk, Mib::TcpExtTCPACKSkippedChallenge);
        return;
    }
    sk.rcv.ack.last_oow_ms = now;
    if !host_may_challenge(sk, net) {
        return;
    }
    inc(net, sk, Mib::TcpExtTCPChallengeACK);
    send_ack(sk, net, id);
}

/// And so many a second for the host (tcp_challenge_ack_limit), more or less: an exact number could be measured from
/// outside, and with it whose connections they answer (CVE-2016-5696).
fn host_may_challenge(sk: &TcpSock, net: &mut Net) -> bool {
    let Net { ns, env, .. } = net;
    let Some(n) = ns.get_mut(sk.sk.ns) else { return false };
    let limit = n.sysctl.tcp_challenge_ack_limit as u32;
    if limit >= i32::MAX as u32 {
        return true;
    }
    // 0 says never.
    let second = (env.now / SEC) as u32 + 1;
    if n.tcp.challenge.0 != second {
        let half = limit.div_ceil(2);
        n.tcp.challenge = (second, half + env.rng.below(limit.max(1)));
    }
    let left = &mut n.tcp.challenge.1;
    let may = *left > 0;
    *left = left.saturating_sub(1);
    may
}

/// Answers an old segment: D-SACK for what we have already (RFC 2883), and quick acknowledgements.
#[doc(alias = "tcp_send_dupack")]
pub fn send_dupack(sk: &mut TcpSock, net: &mut Net, id: TcpId, skb: &Skb) {
    let (seq, end) = (skb.tcp.seq, skb.tcp.end_seq);
    if end != seq && before(seq, sk.rcv.nxt) {
        inc(net, sk, Mib::TcpExtDelayedACKLost);
        crate::net::tcp::output::ack::enter_quickack_mode(sk, 16);
        if sk.flags.sack_ok && setting(net, sk, |s| s.tcp_dsack) != 0 {
            let end = if after(end, sk.rcv.nxt) { sk.rcv.nxt } else { end };
            super::data::dsack_set(sk, net, seq, end);
        }
    }
    send_ack(sk, net, id);
}
