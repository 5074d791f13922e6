//! SYN cookies: the request is not stored but encoded in the initial sequence number (and, with time stamps, the options
//! in the low bits of the time stamp), and made again from the third segment.
//!
//! ```text
//!   ISN = hash(tuple) + peer's ISN + (minute << 24) + ((hash(tuple, minute) + mss index) & 0xffffff)
//!   TSval low bits: 0..3 window scale (15: none), 4 SACK permitted, 5 ECN
//! ```
use crate::env::{Nanos, SEC};
use crate::net::sysctl::Sysctl;
use crate::net::tcp::tables::{Tuple, keyed, pair};
use belljar_wire::tcp::TcpOptions;

/// The sizes an index can stand for: below, Ethernet with tunnel, with PPPoE, plain.
const MSS_TABLE: [u16; 4] = [536, 1300, 1440, 1460];
/// Of IPv6: the least MTU, tunnels, Ethernet, jumbo frames.
const MSS_TABLE6: [u16; 4] = [1280 - 60, 1480 - 60, 1500 - 60, 9000 - 60];
const COOKIE_BITS: u32 = 24;
const COOKIE_MASK: u32 = (1 << COOKIE_BITS) - 1;
/// Minutes a cookie is good for.
const MAX_SYNCOOKIE_AGE: u32 = 2;
/// How long after an overflow cookies are looked for.
pub const TCP_SYNCOOKIE_VALID_US: u64 = 2 * 60 * 1_000_000;

const TS_BITS: u32 = 6;
const TS_OPT_WSCALE_MASK: u32 = 0xf;
const TS_OPT_SACK: u32 = 1 << 4;
const TS_OPT_ECN: u32 = 1 << 5;

fn table(t: &Tuple) -> &'static [u16; 4] {
    if t.raddr.is_ipv4() { &MSS_TABLE } else { &MSS_TABLE6 }
}

fn minutes(now: Nanos) -> u32 {
    (now / (60 * SEC)) as u32
}

fn cookie_hash(secret: [u64; 2], t: &Tuple, count: u32, which: u64) -> u32 {
    let addrs = pair(secret, t.laddr, t.raddr);
    let ports = u64::from(t.lport) << 16 | u64::from(t.rport);
    keyed(secret, addrs, (3 + which) << 48 ^ u64::from(count) << 32 ^ ports) as u32
}

/// The cookie for a SYN, and the MSS it stands for (the largest in the table that is not above the peer's).
#[doc(alias = "__cookie_v4_init_sequence")]
pub fn cookie_init_sequence(secret: [u64; 2], t: &Tuple, seq: u32, mss: u16, now: Nanos) -> (u32, u16) {
    let table = table(t);
    let ix = table.iter().rposition(|m| *m <= mss).unwrap_or(0);
    let count = minutes(now);
    let cookie = cookie_hash(secret, t, 0, 0)
        .wrapping_add(seq)
        .wrapping_add(count << COOKIE_BITS)
        .wrapping_add(cookie_hash(secret, t, count, 1).wrapping_add(ix as u32) & COOKIE_MASK);
    (cookie, table[ix])
}

/// The MSS in a cookie that comes back, if it is one of ours and young enough. `seq` is the peer's ISN.
#[doc(alias = "__cookie_v4_check")]
pub fn cookie_check(secret: [u64; 2], t: &Tuple, seq: u32, cookie: u32, now: Nanos) -> Option<u16> {
    let count = minutes(now);
    let cookie = cookie.wrapping_sub(cookie_hash(secret, t, 0, 0).wrapping_add(seq));
    let age = count.wrapping_sub(cookie >> COOKIE_BITS) & (u32::MAX >> COOKIE_BITS);
    if age >= MAX_SYNCOOKIE_AGE {
        return None;
    }
    let ix = cookie.wrapping_sub(cookie_hash(secret, t, count.wrapping_sub(age), 1)) & COOKIE_MASK;
    table(t).get(ix as usize).copied()
}

/// The time stamp (before the offset) of a cookie SYN-ACK: never later than now, its low bits say the options.
#[doc(alias = "cookie_init_timestamp")]
pub fn timestamp_encode(wscale: Option<u8>, sack_ok: bool, ecn_ok: bool, now_ms: u32) -> u32 {
    let ecn = if ecn_ok { TS_OPT_ECN } else { 0 };
    let options =
        ecn | wscale.map_or(TS_OPT_WSCALE_MASK, |w| u32::from(w.min(14))) | if sack_ok { TS_OPT_SACK } else { 0 };
    let ts = now_ms >> TS_BITS << TS_BITS | options;
    if ts > now_ms { ts.wrapping_sub(1 << TS_BITS) } else { ts }
}

/// What the echoed time stamp (offset taken off) says the SYN offered: window scale and SACK. `None` for options that
/// were not possible when the cookie was made.
#[doc(alias = "cookie_timestamp_decode")]
pub fn timestamp_decode(o: &TcpOptions, ecr: u32, s: &Sysctl) -> Option<(Option<u8>, bool)> {
    if o.ts.is_none() {
        return Some((None, false));
    }
    let sack_ok = ecr & TS_OPT_SACK != 0;
    if s.tcp_timestamps == 0 || (sack_ok && s.tcp_sack == 0) {
        return None;
    }
    match ecr & TS_OPT_WSCALE_MASK {
        TS_OPT_WSCALE_MASK => Some((None, sack_ok)),
        _ if s.tcp_window_scaling == 0 => None,
        w => Some((Some(w as u8), sack_ok)),
    }
}

/// Was ECN agreed on? The setting may have changed since (`cookie_ecn_ok`).
pub fn ecn_decode(o: &TcpOptions, ecr: u32, s: &Sysctl) -> bool {
    o.ts.is_some() && ecr & TS_OPT_ECN != 0 && s.tcp_ecn != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    const KEY: [u64; 2] = [11, 22];

    fn tuple() -> Tuple {
        Tuple {
            laddr: Ipv4Addr::new(10, 0, 0, 1).into(),
            raddr: Ipv4Addr::new(10, 0, 0, 2).into(),
            lport: 80,
            rport: 5000,
        }
    }

    #[test]
    fn a_cookie_comes_back_for_two_minutes_and_only_to_its_owner() {
        let (t, now) = (tuple(), 1000 * SEC);
        for (mss, want) in [(48, 536), (536, 536), (1299, 536), (1300, 1300), (1459, 1440), (1460, 1460), (9000, 1460)]
        {
            let (c, used) = cookie_init_sequence(KEY, &t, 777, mss, now);
            assert_eq!((used, cookie_check(KEY, &t, 777, c, now)), (want, Some(want)));
            assert_eq!(cookie_check(KEY, &t, 777, c, now + 60 * SEC), Some(want));
            assert_eq!(cookie_check(KEY, &t, 777, c, now + 120 * SEC), None);
            assert_eq!(cookie_check(KEY, &t, 777, c.wrapping_add(9), now), None);
            assert_eq!(cookie_check(KEY, &Tuple { rport: 5001, ..t }, 777, c, now), None);
        }
    }

    #[test]
    fn options_travel_in_the_time_stamp() {
        let s = Sysctl::default();
        let o = TcpOptions { ts: Some((1, 1)), ..Default::default() };
        for now in [64, 1000, 123_456_789] {
            for (w, sack) in [(Some(7), true), (Some(14), false), (None, true), (None, false)] {
                let ts = timestamp_encode(w, sack, sack, now);
                assert!(ts.wrapping_sub(now) as i32 <= 0 && now.wrapping_sub(ts) < 128);
                assert_eq!(timestamp_decode(&o, ts, &s), Some((w, sack)));
                assert_eq!(ecn_decode(&o, ts, &s), sack);
            }
        }
        assert_eq!(timestamp_decode(&TcpOptions::default(), 0, &s), Some((None, false)));
        let off = Sysctl { tcp_window_scaling: 0, ..Sysctl::default() };
        assert_eq!(timestamp_decode(&o, timestamp_encode(Some(7), true, false, 1000), &off), None);
    }
}
