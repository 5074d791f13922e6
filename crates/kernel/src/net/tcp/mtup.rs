//! Packetization layer path MTU discovery (RFC 4821; `tcp_mtu_probing`): data in a larger segment than usual, as a probe.
//! Acknowledged, it becomes the size of all; lost, it says nothing about congestion. Also the search for a smaller size
//! when nothing comes through and no ICMP message says why.
use super::input::recovery;
use super::output::segment::{self, current_mss, headers};
use super::output::{self, transmit};
use super::seq::after;
use super::sock::*;
use super::{inc, setting, sysctl};
use crate::ids::TcpId;
use crate::net::Net;
use crate::net::mib::Mib;

/// A probe needs so large a window that losing one segment more is no matter.
const MIN_CWND: u32 = 11;

/// `icsk_mtup` and `mtu_probe`; there is one from the moment probing is on for the connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mtup {
    /// Between these the largest packet that passes is looked for; `low` is known to pass.
    pub search_high: u32,
    pub search_low: u32,
    /// The probe in flight: its packet size (0: none), where its data begins and ends.
    pub probe_size: u32,
    probe_start: u32,
    probe_end: u32,
    /// When the present search began, milliseconds.
    stamp_ms: u32,
}

fn options(sk: &TcpSock) -> u32 {
    segment::constant_options(sk)
}

#[doc(alias = "tcp_mtu_to_mss")]
fn mtu_to_mss(sk: &TcpSock, net: &Net, mtu: u32) -> u32 {
    let floor = setting(net, sk, |s| s.tcp_min_snd_mss);
    mtu.saturating_sub(headers(sk)).min(u32::from(sk.snd.mss_clamp)).max(floor).saturating_sub(options(sk))
}

#[doc(alias = "tcp_mss_to_mtu")]
fn mss_to_mtu(sk: &TcpSock, mss: u32) -> u32 {
    mss.saturating_add(options(sk)).saturating_add(headers(sk))
}

fn get(sk: &TcpSock) -> Option<Mtup> {
    sk.rare.as_ref()?.mtup
}

fn edit(sk: &mut TcpSock, f: impl FnOnce(&mut Mtup)) {
    if let Some(m) = sk.rare.as_mut().and_then(|r| r.mtup.as_mut()) {
        f(m);
    }
}

/// A connection begins to be: with tcp_mtu_probing 2 it starts from tcp_base_mss.
#[doc(alias = "tcp_mtup_init")]
pub fn init(sk: &mut TcpSock, net: &Net) {
    if setting(net, sk, |s| s.tcp_mtu_probing) > 1 {
        enable(sk, net);
    }
}

fn enable(sk: &mut TcpSock, net: &Net) {
    let base = sysctl(net, sk).map_or(0, |s| s.tcp_base_mss);
    // A negative size is one that the floor replaces.
    let search_low = mss_to_mtu(sk, u32::try_from(base).unwrap_or(0));
    let search_high = u32::from(sk.snd.mss_clamp).saturating_add(headers(sk));
    let stamp_ms = net.env.now_ms();
    sk.rare().mtup = Some(Mtup { search_high, search_low, stamp_ms, ..Mtup::default() });
}

/// The segment size that the search allows for a path MTU.
pub fn limit(sk: &mut TcpSock, net: &Net, pmtu: u32) -> Option<u32> {
    let m = get(sk)?;
    edit(sk, |m| m.search_high = m.search_high.min(pmtu));
    Some(mtu_to_mss(sk, net, m.search_low))
}

/// What a probe in flight was for does not matter any more: something else of it was sent.
pub fn inconclusive(sk: &mut TcpSock) {
    edit(sk, |m| m.probe_size = 0);
}

/// Whether now is the time for a probe. `Some(true)`: one was sent. `Some(false)`: soon, so nothing else now.
#[doc(alias = "tcp_mtu_probe")]
pub fn probe(sk: &mut TcpSock, net: &mut Net, id: TcpId) -> Option<bool> {
    let m = get(sk)?;
    let sack = sk.rcv.sack.n > 0 || sk.rcv.sack.dsack.is_some();
    if m.probe_size != 0 || sk.loss.ca_state != CaState::Open || sk.cong.cwnd < MIN_CWND || sack {
        return None;
    }
    let size = mtu_to_mss(sk, net, m.search_high.midpoint(m.search_low));
    // Enough behind it that its loss shows by duplicates, not by a timeout.
    let behind = (sk.loss.reordering.saturating_add(1)).saturating_mul(u32::from(sk.snd.mss_cache));
    let needed = size.saturating_add(behind);
    let threshold = sysctl(net, sk).map_or(0, |s| s.tcp_probe_threshold).max(1);
    let interval = i64::from(m.search_high) - i64::from(m.search_low);
    if size > mtu_to_mss(sk, net, m.search_high) || interval < i64::from(threshold) {
        check_reprobe(sk, net);
        return None;
    }
    if sk.snd.write_seq.wrapping_sub(sk.snd.nxt) < needed || sk.snd.wnd < needed {
        return None;
    }
    if after(sk.snd.nxt.wrapping_add(needed), sk.wnd_end()) {
        return Some(false);
    }
    if sk.in_flight() + 2 > sk.cong.cwnd {
        return if sk.in_flight() == 0 { None } else { Some(false) };
    }
    send_probe(sk, net, id, size)
}

/// Gathers the next `size` bytes into one piece and sends it as one segment.
fn send_probe(sk: &mut TcpSock, net: &mut Net, id: TcpId, size: u32) -> Option<bool> {
    let ix = sk.snd.sent;
    loop {
        let len = sk.snd.queue.get(ix)?.len();
        if len >= size {
            break;
        }
        segment::grow(sk, size);
        if sk.snd.queue.get(ix)?.len() == len {
            return None;
        }
    }
    if sk.snd.queue.get(ix)?.len() > size {
        segment::split(sk, ix, size);
    }
    let (start, end) = sk.snd.queue.get(ix).map(|s| (s.seq, s.end_seq))?;
    if transmit::transmit_queued(sk, net, id, ix, size).is_err() {
        return None;
    }
    // It stands for two segments.
    sk.cong.cwnd -= 1;
    output::event_new_data_sent(sk, net, id);
    let packet = mss_to_mtu(sk, size);
    edit(sk, |m| (m.probe_size, m.probe_start, m.probe_end) = (packet, start, end));
    Some(true)
}

/// The search is over; after tcp_probe_interval it begins again, for the path may have become wider.
#[doc(alias = "tcp_mtu_check_reprobe")]
fn check_reprobe(sk: &mut TcpSock, net: &mut Net) {
    let Some(m) = get(sk) else { return };
    let now = net.env.now_ms();
    let interval = u64::from(setting(net, sk, |s| s.tcp_probe_interval)) * 1000;
    if u64::from(now.wrapping_sub(m.stamp_ms)) < interval {
        return;
    }
    let mss = current_mss(sk, net);
    let (high, low) = (u32::from(sk.snd.mss_clamp).saturating_add(headers(sk)), mss_to_mtu(sk, mss));
    edit(sk, |m| *m = Mtup { search_high: high, search_low: low, stamp_ms: now, ..Mtup::default() });
}

/// All of the probe was acknowledged: that size passes. The window stays the same in bytes.
#[doc(alias = "tcp_mtup_probe_success")]
pub fn check_success(sk: &mut TcpSock, net: &mut Net) {
    let Some(m) = get(sk).filter(|m| m.probe_size != 0 && !after(m.probe_end, sk.snd.una)) else { return };
    sk.loss.prior_ssthresh = sk.cong.current_ssthresh();
    let packet = mss_to_mtu(sk, u32::from(sk.snd.mss_cache));
    let cwnd = u64::from(sk.cong.cwnd) * u64::from(packet) / u64::from(m.probe_size);
    sk.cong.cwnd = (cwnd as u32).max(1);
    (sk.cong.cwnd_cnt, sk.cong.cwnd_stamp_us) = (0, net.env.now_us());
    sk.cong.ssthresh = sk.cong.current_ssthresh();
    edit(sk, |m| (m.search_low, m.probe_size) = (m.probe_size, 0));
    let pmtu = sk.snd.pmtu;
    segment::sync_mss(sk, net, pmtu);
    inc(net, sk, Mib::TcpExtTCPMTUPSuccess);
}

/// What seems lost is the probe: it was too large, and goes again in pieces. True when it was so.
#[doc(alias = "tcp_mtup_probe_failed")]
pub fn check_failure(sk: &mut TcpSock, net: &mut Net, id: TcpId) -> bool {
    let lost = |m: &Mtup| m.probe_size != 0 && sk.snd.una == m.probe_start;
    if sk.loss.ca_state >= CaState::Cwr || !get(sk).is_some_and(|m| lost(&m)) {
        return false;
    }
    edit(sk, |m| (m.search_high, m.probe_size) = (m.probe_size - 1, 0));
    inc(net, sk, Mib::TcpExtTCPMTUPFail);
    sk.cong.cwnd += 1;
    recovery::simple_retransmit(sk, net, id);
    true
}

/// So many timeouts that there may be a black hole for large packets: probing goes on, from ever smaller sizes.
#[doc(alias = "tcp_mtu_probing")]
pub fn black_hole(sk: &mut TcpSock, net: &Net) {
    if setting(net, sk, |s| s.tcp_mtu_probing) == 0 {
        return;
    }
    match get(sk) {
        None => enable(sk, net),
        Some(m) => {
            let base = sysctl(net, sk).map_or(0, |s| s.tcp_base_mss);
            let half = mtu_to_mss(sk, net, m.search_low) >> 1;
            let floor = setting(net, sk, |s| s.tcp_mtu_probe_floor.max(s.tcp_min_snd_mss));
            let low = mss_to_mtu(sk, u32::try_from(base).unwrap_or(0).min(half).max(floor));
            edit(sk, |m| m.search_low = low);
        }
    }
    let pmtu = sk.snd.pmtu;
    segment::sync_mss(sk, net, pmtu);
}
