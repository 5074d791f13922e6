//! Initial sequence numbers (RFC 6528) and time stamp offsets: a keyed hash of the connection, plus the clock.
use crate::net::tcp::tables::{Tuple, keyed};
use core::net::Ipv4Addr;

/// Hash of the 4-tuple plus a clock of 64 ns, so that a later connection of the same tuple begins higher.
pub fn secure_tcp_seq(secret: [u64; 2], t: &Tuple, now: u64) -> u32 {
    let addrs = u64::from(u32::from(t.laddr)) << 32 | u64::from(u32::from(t.raddr));
    let ports = u64::from(t.lport) << 16 | u64::from(t.rport);
    let hash = keyed([secret[0] ^ 0x5eed, secret[1]], addrs, ports) as u32;
    hash.wrapping_add((now >> 6) as u32)
}

/// Per pair of addresses, so that time stamps of one peer stay monotonic over its connections.
#[doc(alias = "secure_tcp_ts_off")]
pub fn ts_offset(secret: [u64; 2], laddr: Ipv4Addr, raddr: Ipv4Addr) -> u32 {
    keyed([secret[0], secret[1] ^ 0x7507], u64::from(u32::from(laddr)), u64::from(u32::from(raddr))) as u32
}
