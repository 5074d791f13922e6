//! Initial sequence numbers and time-stamp offsets (RFC 6528, RFC 7323 §5.4): a keyed hash of the connection, plus a
//! clock for the former, so that a connection's numbers go up and nobody outside can guess them.
use crate::env::Nanos;
use crate::net::tcp::tables::{Tuple, keyed, pair};
use core::net::IpAddr;

/// What a hash is for: the same addresses must not give the same value twice.
const SEQ: u64 = 1 << 48;
const TS: u64 = 2 << 48;

/// The clock ticks every 64 ns: it goes round in 4.5 minutes, more than the life of a segment.
pub fn secure_tcp_seq(secret: [u64; 2], t: &Tuple, now: Nanos) -> u32 {
    let hash = keyed(secret, pair(secret, t.laddr, t.raddr), SEQ | u64::from(t.lport) << 16 | u64::from(t.rport));
    // 0 stands for "none yet" in the socket.
    ((hash as u32).wrapping_add((now >> 6) as u32)).max(1)
}

/// Offset of the time stamps that one address pair sees (tcp_timestamps = 1).
#[doc(alias = "secure_tcp_ts_off")]
pub fn ts_offset(secret: [u64; 2], laddr: IpAddr, raddr: IpAddr) -> u32 {
    keyed(secret, pair(secret, laddr, raddr), TS) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_with_time_and_differ_by_connection_and_secret() {
        let lo = IpAddr::V4(core::net::Ipv4Addr::LOCALHOST);
        let t = Tuple { laddr: lo, raddr: lo, lport: 80, rport: 4000 };
        let a = secure_tcp_seq([1, 2], &t, 0);
        assert_eq!(secure_tcp_seq([1, 2], &t, 64_000), a.wrapping_add(1000));
        assert_ne!(secure_tcp_seq([1, 3], &t, 0), a);
        assert_ne!(secure_tcp_seq([1, 2], &Tuple { rport: 4001, ..t }, 0), a);
        assert_ne!(ts_offset([1, 2], t.laddr, t.raddr), ts_offset([2, 2], t.laddr, t.raddr));
    }
}
