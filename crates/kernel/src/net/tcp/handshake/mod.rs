//! Opening and the little socks around it: requests, cookies, initial numbers, TIME_WAIT.
pub mod child;
pub mod cookie_ack;
pub mod cookies;
pub mod fastopen;
pub mod isn;
pub mod overflow;
pub mod request;
pub mod request_timer;
pub mod synack;
pub mod time_wait;

use super::seq::{after, before};
use super::sock::TcpSock;
use crate::env::MSEC;
use crate::ids::NsId;
use crate::net::Net;
use crate::net::core::skb::SkBuff;
use crate::net::mib::Mib;
use crate::net::sysctl::Sysctl;
use belljar_wire::tcp::Flags;

/// RFC 9293 §3.10.7.4: some of the segment lies in the window, or it is an empty one at either edge.
#[doc(alias = "tcp_in_window")]
pub(crate) fn in_window(seq: u32, end_seq: u32, start: u32, end: u32) -> bool {
    seq == start || (after(end_seq, start) && before(seq, end)) || (seq == end && seq == end_seq)
}

/// RFC 7323 §5.3: the time stamp is older than the last one. An idle day lets anything pass, and a minute lets a RST.
#[doc(alias = "tcp_paws_reject")]
pub(crate) fn paws_reject(ts_recent: u32, stamp_s: u32, tsval: u32, rst: bool, now_s: u32) -> bool {
    const PAWS_24DAYS: u32 = 60 * 60 * 24 * 24;
    const PAWS_MSL: u32 = 60;
    let age = now_s.saturating_sub(stamp_s);
    ts_recent != 0 && (ts_recent.wrapping_sub(tsval) as i32) > 0 && age < PAWS_24DAYS && !(rst && age >= PAWS_MSL)
}

/// At most one answer to segments that do not fit per tcp_invalid_ratelimit milliseconds; data is answered always, for
/// it cannot be part of a loop of acknowledgements. `last` is 0 before the first.
#[doc(alias = "tcp_oow_rate_limited")]
pub(crate) fn oow_rate_limited(net: &mut Net, ns: NsId, skb: &SkBuff, last: &mut u32, skipped: Mib) -> bool {
    if skb.tcp.seq != skb.tcp.end_seq && !skb.tcp.flags.contains(Flags::SYN) {
        return false;
    }
    let now = ((net.env.now / MSEC) as u32).max(1);
    let limit = net.ns.get(ns).map_or(0, |n| n.sysctl.tcp_invalid_ratelimit.get());
    if *last != 0 && now.wrapping_sub(*last) < limit {
        net.inc(ns, skipped);
        return true;
    }
    *last = now;
    false
}

/// The mark of a connection to come: the listener's, or with tcp_fwmark_accept the SYN's.
#[doc(alias = "inet_request_mark")]
fn request_mark(s: &Sysctl, lsk: &TcpSock, skb: &SkBuff) -> u32 {
    if lsk.sk.mark == 0 && s.tcp_fwmark_accept != 0 { skb.mark } else { lsk.sk.mark }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_and_time_stamps_wrap() {
        assert!(in_window(10, 10, 10, 10) && in_window(u32::MAX, 5, 0, 10) && in_window(10, 10, 0, 10));
        assert!(!in_window(10, 11, 0, 10) && !in_window(u32::MAX, 0, 0, 10));
        assert!(paws_reject(100, 0, 99, false, 10) && !paws_reject(100, 0, 100, false, 10));
        assert!(!paws_reject(100, 0, 99, true, 60) && paws_reject(100, 0, 99, true, 59));
        assert!(!paws_reject(100, 0, 99, false, 24 * 86_400) && !paws_reject(0, 0, u32::MAX, false, 1));
    }
}
