//! TCP_INFO: what a connection knows about itself, in the kernel's struct.
//!
//! What [`super::track`] keeps is 0 before the first data. The fields of Accurate ECN are always 0.
use super::cong::Algo;
use super::input::ecn::{TCP_ECN_OK, TCP_ECN_SEEN};
use super::sock::{CaState, TcpSock, WriteTimer};
use super::state::State;
use super::{bounds, pacing, rate};
use crate::net::Net;
use belljar_abi::tcp_info::*;
use belljar_abi::{SOF_TIMESTAMPING_OPT_STATS, SOF_TIMESTAMPING_OPT_TSONLY};
use belljar_wire::tcp::TCPOLEN_TSTAMP_ALIGNED;

/// For a listener only its queue: `unacked` is its length, `sacked` its limit.
#[doc(alias = "tcp_get_info")]
pub fn tcp_info(sk: &TcpSock, net: &Net) -> TcpInfo {
    let mut i = TcpInfo {
        state: sk.state as u8,
        reordering: sk.loss.reordering,
        snd_cwnd: sk.cong.cwnd,
        pacing_rate: pacing::pacing_rate(sk, net),
        max_pacing_rate: pacing::max_pacing_rate(sk),
        ..TcpInfo::default()
    };
    if sk.state == State::Listen {
        let l = sk.listener.as_deref();
        i.unacked = l.map_or(0, |l| l.accept.len() as u32);
        i.sacked = l.map_or(0, |l| l.max_ack_backlog);
        return i;
    }
    congestion(&mut i, sk, net);
    sizes(&mut i, sk);
    times(&mut i, sk, net);
    totals(&mut i, sk);
    tracked(&mut i, sk, net);
    if sk.state == State::SynSent {
        syn_sent(&mut i, sk);
    }
    i
}

/// Nothing is agreed on yet: what our SYN offers does not count, and the peer may be as small as RFC 9293 lets it be.
fn syn_sent(i: &mut TcpInfo, sk: &TcpSock) {
    (i.options, i.snd_wscale, i.rcv_wscale) = (0, 0, 0);
    let stamps = if sk.flags.tstamp_ok { TCPOLEN_TSTAMP_ALIGNED as u32 } else { 0 };
    i.snd_mss = i.snd_mss.min(536 - stamps);
    i.rcv_mss = u32::from(super::sock::TCP_MIN_MSS);
    if sk.loss.retransmits > 0 {
        (i.ca_state, i.snd_cwnd, i.lost) = (TCP_CA_LOSS, 1, i.unacked);
    }
}

fn congestion(i: &mut TcpInfo, sk: &TcpSock, net: &Net) {
    i.ca_state = match sk.loss.ca_state {
        CaState::Open => TCP_CA_OPEN,
        CaState::Disorder => TCP_CA_DISORDER,
        CaState::Cwr => TCP_CA_CWR,
        CaState::Recovery => TCP_CA_RECOVERY,
        CaState::Loss => TCP_CA_LOSS,
    };
    i.retransmits = sk.loss.retransmits;
    i.probes = sk.snd.probes_out;
    i.backoff = sk.rtt.backoff;
    let f = &sk.flags;
    let tfo = sk.tfo.as_deref();
    i.fastopen_client_fail = tfo.map_or(0, |t| t.client_fail);
    let bits = [
        (f.tstamp_ok, TCPI_OPT_TIMESTAMPS),
        (f.sack_ok, TCPI_OPT_SACK),
        (f.wscale_ok, TCPI_OPT_WSCALE),
        (f.ecn & TCP_ECN_OK != 0, TCPI_OPT_ECN),
        (f.ecn & TCP_ECN_SEEN != 0, TCPI_OPT_ECN_SEEN),
        (tfo.is_some_and(|t| t.syn_data_acked), TCPI_OPT_SYN_DATA),
    ];
    i.options = bits.iter().filter(|b| b.0).fold(0, |all, b| all | b.1);
    (i.snd_wscale, i.rcv_wscale) = if f.wscale_ok { (sk.snd.wscale, sk.rcv.wscale) } else { (0, 0) };
    i.snd_ssthresh = sk.cong.ssthresh;
    i.unacked = sk.snd.packets_out;
    i.sacked = sk.snd.sacked_out;
    i.lost = sk.snd.lost_out;
    i.retrans = sk.snd.retrans_out;
    // In ticks, as the timer runs; probes of a closed window back off without it.
    let probing = sk.write_timer_kind == WriteTimer::Probe0;
    let rto = if probing { sk.rtt.rto_us } else { sk.rtt.backed_off(bounds(net, sk)) };
    i.rto = rto.next_multiple_of(1_000_000 / net.env.hz.clamp(1, 1_000_000));
    i.rtt = sk.rtt.srtt_us >> 3;
    i.rttvar = sk.rtt.mdev_us >> 2;
    i.min_rtt = sk.rtt.min_us;
    i.delivered = sk.loss.delivered;
    i.reord_seen = sk.loss.reord_seen;
}

fn sizes(i: &mut TcpInfo, sk: &TcpSock) {
    let own = sk.tune.as_ref().map_or(0, |t| t.delack_max_us);
    let most = if own == 0 { super::sock::TCP_DELACK_MAX_MS * 1000 } else { own };
    i.ato = (u32::from(sk.rcv.ack.ato_ms) * 1000).min(most);
    i.snd_mss = u32::from(sk.snd.mss_cache);
    i.rcv_mss = u32::from(sk.rcv.mss);
    i.advmss = u32::from(sk.rcv.advmss);
    // No packet of IPv4 is longer (IP_MAX_MTU), though lo would take it.
    // IP_MAX_MTU and IP6_MAX_MTU: what a packet can be.
    i.pmtu = sk.snd.pmtu.min(if sk.sk.daddr.is_ipv4() { 65_535 } else { 65_535 + 40 });
    i.rcv_ssthresh = sk.rcv.ssthresh;
    i.rcv_rtt = sk.rcv.rtt_us >> 3;
    i.rcv_space = sk.rcv.space;
    i.snd_wnd = sk.snd.wnd;
    i.rcv_wnd = sk.rcv.wnd;
    i.notsent_bytes = (sk.snd.write_seq.wrapping_sub(sk.snd.nxt) as i32).max(0) as u32;
}

/// Milliseconds since.
fn times(i: &mut TcpInfo, sk: &TcpSock, net: &Net) {
    let now = net.env.now_us();
    let since = |us: u64| (now.saturating_sub(us) / 1000).min(u64::from(u32::MAX)) as u32;
    i.last_data_sent = since(sk.snd.last_us);
    i.last_data_recv = since(sk.rcv.ack.last_us);
    i.last_ack_recv = since(sk.rcv.ack.heard_us);
}

fn totals(i: &mut TcpInfo, sk: &TcpSock) {
    let t = &sk.totals;
    i.total_retrans = sk.loss.total_retrans;
    i.bytes_acked = t.bytes_acked;
    i.bytes_received = t.bytes_received;
    i.bytes_sent = t.bytes_sent;
    i.bytes_retrans = t.bytes_retrans;
    i.segs_in = t.segs_in;
    i.segs_out = t.segs_out;
    i.data_segs_in = t.data_segs_in;
    i.data_segs_out = t.data_segs_out;
    i.dsack_dups = t.dsack_dups;
    i.rcv_ooopack = t.rcv_ooopack;
}

/// What only a connection that moved data has.
fn tracked(i: &mut TcpInfo, sk: &TcpSock, net: &Net) {
    let Some(t) = sk.track.as_deref() else {
        i.delivery_rate_app_limited = true;
        return;
    };
    i.delivery_rate_app_limited = t.rate_app_limited;
    i.delivery_rate = rate::delivery_rate(t, sk.snd.mss_cache);
    let tick_us = 1_000_000 / u64::from(net.env.hz.max(1));
    [i.busy_time, i.rwnd_limited, i.sndbuf_limited] = t.chrono.read(net.env.jiffies()).map(|ticks| ticks * tick_us);
    (i.delivered_ce, i.received_ce) = (t.delivered_ce, t.received_ce);
    i.rehash = u32::from(t.timeout_rehash);
    (i.total_rto, i.total_rto_recoveries) = (t.total_rto, t.total_rto_recoveries);
    i.total_rto_time = t.total_rto_time_ms;
    if t.rto_stamp_ms != 0 {
        i.total_rto_time += net.env.now_ms().wrapping_sub(t.rto_stamp_ms);
    }
}

/// What BBR knows: bandwidth, smallest round trip, gains.
#[doc(alias = "bbr_get_info")]
pub fn bbr_info(sk: &TcpSock) -> Option<(u64, u32, u32, u32)> {
    let Algo::Bbr(b) = &sk.cong.algo else { return None };
    let Some(b) = b else { return Some((0, 0, 0, 0)) };
    let (bw, min_rtt, pacing_gain, cwnd_gain) = b.info(u32::from(sk.snd.mss_cache));
    // Until data is acknowledged the gains are those that the kernel has there: none, or of a round trip probed by the SYN.
    let unused = if sk.flags.active { 256 } else { 0 };
    Some(if sk.loss.delivered > 1 { (bw, min_rtt, pacing_gain, cwnd_gain) } else { (bw, min_rtt, unused, unused) })
}

/// `union tcp_cc_info`: only BBR has something to tell (`struct tcp_bbr_info`).
pub fn cc_info(sk: &TcpSock) -> Vec<u8> {
    let Some((bw, min_rtt, pacing_gain, cwnd_gain)) = bbr_info(sk) else { return Vec::new() };
    let words = [bw as u32, (bw >> 32) as u32, min_rtt, pacing_gain, cwnd_gain];
    words.iter().flat_map(|w| w.to_ne_bytes()).collect()
}

/// SOF_TIMESTAMPING_OPT_STATS, which goes with stamps that carry no payload.
pub fn opt_stats_wanted(sk: &TcpSock) -> bool {
    const BOTH: u32 = SOF_TIMESTAMPING_OPT_STATS | SOF_TIMESTAMPING_OPT_TSONLY;
    sk.sk.cold.as_ref().is_some_and(|c| c.tsflags & BOTH == BOTH)
}

/// The connection at the moment of a time stamp, as netlink attributes. `ttl`: of the acknowledgement, if it is one.
#[doc(alias = "tcp_get_timestamping_opt_stats")]
pub fn opt_stats(sk: &TcpSock, net: &Net, ttl: Option<u8>) -> Vec<u8> {
    let i = tcp_info(sk, net);
    let sent_us = sk.snd.queue.front().map_or(net.env.now_us(), |s| s.tx_us);
    let mut out = Vec::with_capacity(256);
    let mut put = |kind: u16, value: &[u8]| {
        let len = 4 + value.len();
        out.extend((len as u16).to_ne_bytes());
        out.extend(kind.to_ne_bytes());
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(4), 0);
    };
    let long = |v: u64| v.to_ne_bytes();
    let word = |v: u32| v.to_ne_bytes();
    put(1, &long(i.busy_time));
    put(2, &long(i.rwnd_limited));
    put(3, &long(i.sndbuf_limited));
    put(4, &long(i.data_segs_out.into()));
    put(5, &long(i.total_retrans.into()));
    put(6, &long(i.pacing_rate));
    put(7, &long(i.delivery_rate));
    put(8, &word(i.snd_cwnd));
    put(9, &word(i.reordering));
    put(10, &word(i.min_rtt));
    put(11, &[i.retransmits]);
    put(12, &[i.delivery_rate_app_limited.into()]);
    put(15, &word(i.snd_ssthresh));
    put(16, &word(i.delivered));
    put(17, &word(i.delivered_ce));
    put(13, &word(sk.snd.write_seq.wrapping_sub(sk.snd.una)));
    put(14, &[i.ca_state]);
    put(18, &long(i.bytes_sent));
    put(19, &long(i.bytes_retrans));
    put(20, &word(i.dsack_dups));
    put(21, &word(i.reord_seen));
    put(22, &word(i.rtt));
    put(23, &(i.rehash as u16).to_ne_bytes());
    put(24, &word(i.notsent_bytes));
    put(25, &long(sent_us * 1000));
    if let Some(ttl) = ttl {
        put(26, &[ttl]);
    }
    put(27, &word(0));
    out
}
