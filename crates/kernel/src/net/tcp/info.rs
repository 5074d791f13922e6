//! TCP_INFO: what a connection knows about itself, in the kernel's struct.
//!
//! Delivery rate, the three chronographs and ECN counts are 0: nothing in this stack measures them.
use super::bounds;
use super::sock::{CaState, TcpSock};
use super::state::State;
use crate::net::Net;
use belljar_abi::tcp_info::*;

/// For a listener only its queue: `unacked` is its length, `sacked` its limit.
#[doc(alias = "tcp_get_info")]
pub fn tcp_info(sk: &TcpSock, net: &Net) -> TcpInfo {
    let mut i = TcpInfo {
        state: sk.state as u8,
        reordering: sk.loss.reordering,
        snd_cwnd: sk.cong.cwnd,
        pacing_rate: pacing_rate(sk),
        max_pacing_rate: u64::MAX,
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
    i
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
    let bits = [(f.tstamp_ok, TCPI_OPT_TIMESTAMPS), (f.sack_ok, TCPI_OPT_SACK), (f.wscale_ok, TCPI_OPT_WSCALE)];
    let tfo = sk.tfo.as_deref();
    i.fastopen_client_fail = tfo.map_or(0, |t| t.client_fail);
    let bits = [bits.as_slice(), &[(tfo.is_some_and(|t| t.syn_data_acked), TCPI_OPT_SYN_DATA)]].concat();
    i.options = bits.iter().filter(|b| b.0).fold(0, |all, b| all | b.1);
    (i.snd_wscale, i.rcv_wscale) = if f.wscale_ok { (sk.snd.wscale, sk.rcv.wscale) } else { (0, 0) };
    i.snd_ssthresh = sk.cong.ssthresh;
    i.unacked = sk.snd.packets_out;
    i.sacked = sk.snd.sacked_out;
    i.lost = sk.snd.lost_out;
    i.retrans = sk.snd.retrans_out;
    i.rto = sk.rtt.backed_off(bounds(net, sk));
    i.rtt = sk.rtt.srtt_us >> 3;
    i.rttvar = sk.rtt.mdev_us >> 2;
    i.min_rtt = sk.rtt.min_us;
    i.delivered = sk.loss.delivered;
    i.delivery_rate_app_limited = sk.loss.app_limited != 0;
    i.reord_seen = sk.loss.reord_seen;
}

fn sizes(i: &mut TcpInfo, sk: &TcpSock) {
    let own = sk.tune.as_ref().map_or(0, |t| t.delack_max_us);
    let most = if own == 0 { super::sock::TCP_DELACK_MAX_MS * 1000 } else { own };
    i.ato = (u32::from(sk.rcv.ack.ato_ms) * 1000).min(most);
    i.snd_mss = u32::from(sk.snd.mss_cache);
    i.rcv_mss = u32::from(sk.rcv.mss);
    i.advmss = u32::from(sk.rcv.advmss);
    i.pmtu = sk.snd.pmtu;
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

/// What Linux would pace at, bytes a second: the window per round trip, twice that in the first half of slow start and
/// 1.2 times later. Computed there whether or not anything paces; unlimited before the first round trip.
#[doc(alias = "tcp_update_pacing_rate")]
pub fn pacing_rate(sk: &TcpSock) -> u64 {
    let srtt = u64::from(sk.rtt.srtt_us >> 3);
    if srtt == 0 {
        return u64::MAX;
    }
    let percent = if sk.cong.cwnd < sk.cong.ssthresh / 2 { 200 } else { 120 };
    let window = u64::from(sk.cong.cwnd.max(sk.snd.packets_out));
    u64::from(sk.snd.mss_cache) * window * percent * 10_000 / srtt
}
