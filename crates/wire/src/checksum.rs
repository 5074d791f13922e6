//! The Internet checksum (RFC 1071): partial sums over pieces, folding, pseudo headers, incremental update.
//!
//! A partial sum is a `u32` in ones' complement arithmetic of big-endian 16-bit words, whatever the machine.
use crate::seg::Segs;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Adds `data` to `init`. An odd last byte counts as the high half of a word.
#[doc(alias = "csum_partial")]
pub fn sum(data: &[u8], init: u32) -> u32 {
    // Native 32-bit lanes into 64-bit sums: vectorised by the compiler; RFC 1071 §2(B) lets the swap wait for the end.
    let mut lanes = [0u64; 8];
    let mut chunks = data.chunks_exact(32);
    for c in &mut chunks {
        for (lane, w) in lanes.iter_mut().zip(c.chunks_exact(4)) {
            *lane += u32::from_ne_bytes([w[0], w[1], w[2], w[3]]) as u64;
        }
    }
    let mut acc: u64 = lanes.iter().map(|l| (l & 0xffff_ffff) + (l >> 32)).sum();
    let mut words = chunks.remainder().chunks_exact(2);
    for w in &mut words {
        acc += u16::from_ne_bytes([w[0], w[1]]) as u64;
    }
    if let [last] = words.remainder() {
        acc += u16::from_ne_bytes([*last, 0]) as u64;
    }
    add(init, u16::from_be(fold64(acc)) as u32)
}

#[inline]
fn fold64(acc: u64) -> u16 {
    // Halves, then halves of those with a carry each: no branch.
    let acc = (acc & 0xffff_ffff) + (acc >> 32);
    let acc = (acc & 0xffff) + (acc >> 16 & 0xffff) + (acc >> 32);
    let acc = (acc & 0xffff) + (acc >> 16);
    ((acc & 0xffff) + (acc >> 16)) as u16
}

/// Ones' complement addition of two partial sums.
#[doc(alias = "csum_add")]
#[inline]
pub fn add(a: u32, b: u32) -> u32 {
    let (s, carry) = a.overflowing_add(b);
    s + carry as u32
}

/// Adds the sum `b` of a piece that begins at byte `offset` of the whole: an odd offset swaps its bytes.
#[doc(alias = "csum_block_add")]
#[inline]
pub fn combine(a: u32, b: u32, offset: usize) -> u32 {
    add(a, if offset & 1 == 1 { b.rotate_left(8) } else { b })
}

/// The checksum field: folded and complemented.
#[doc(alias = "csum_fold")]
#[inline]
pub fn fold(sum: u32) -> u16 {
    !partial(sum)
}

/// Folded, not complemented: what a `CHECKSUM_PARTIAL` header holds.
#[inline]
pub fn partial(sum: u32) -> u16 {
    fold64(sum as u64)
}

/// The TCP/UDP pseudo header (RFC 9293 §3.1) of `len` transport bytes.
#[doc(alias = "csum_tcpudp_nofold")]
#[inline]
pub fn pseudo_v4(src: Ipv4Addr, dst: Ipv4Addr, proto: u8, len: usize) -> u32 {
    let halves = |a: Ipv4Addr| (a.to_bits() >> 16) + (a.to_bits() & 0xffff);
    add(halves(src) + halves(dst) + proto as u32, len as u32)
}

/// The same for IPv6 (RFC 8200 §8.1).
#[doc(alias = "csum_ipv6_magic")]
pub fn pseudo_v6(src: Ipv6Addr, dst: Ipv6Addr, proto: u8, len: usize) -> u32 {
    let addrs = sum(&dst.octets(), sum(&src.octets(), 0));
    add(add(addrs, len as u32), proto.into())
}

/// Of either family; two addresses of different families have none.
#[inline]
pub fn pseudo(src: IpAddr, dst: IpAddr, proto: u8, len: usize) -> u32 {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => pseudo_v4(src, dst, proto, len),
        (IpAddr::V6(src), IpAddr::V6(dst)) => pseudo_v6(src, dst, proto, len),
        _ => 0,
    }
}

/// The sum over all pieces, odd lengths included.
#[doc(alias = "skb_checksum")]
pub fn segs(segs: &Segs) -> u32 {
    let (mut acc, mut at) = (0, 0);
    for seg in segs {
        acc = combine(acc, sum(seg.as_slice(), 0), at);
        at += seg.len();
    }
    acc
}

/// A checksum field after one of the 16-bit words it covers changed (RFC 1624, equation 3).
#[doc(alias = "csum_replace2")]
#[inline]
pub fn replace2(field: u16, old: u16, new: u16) -> u16 {
    fold(!field as u32 + !old as u32 + new as u32)
}

/// The same for an address.
#[doc(alias = "csum_replace4")]
pub fn replace4(field: u16, old: u32, new: u32) -> u16 {
    let once = replace2(field, (old >> 16) as u16, (new >> 16) as u16);
    replace2(once, old as u16, new as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seg::Seg;

    fn slow(data: &[u8]) -> u16 {
        let s: u64 = data.chunks(2).map(|c| u16::from_be_bytes([c[0], *c.get(1).unwrap_or(&0)]) as u64).sum();
        fold64(s)
    }

    #[test]
    fn folding_keeps_the_value_and_tells_zero_from_all_ones() {
        let carried = |mut s: u64| {
            while s >> 16 != 0 {
                s = (s & 0xffff) + (s >> 16);
            }
            s as u16
        };
        let edges = [0, 1, 0xfffe, 0xffff, 0x1_0000, 0xffff_0000, 0xffff_ffff, 0x1_ffff_fffe, u64::MAX - 1, u64::MAX];
        for s in edges.into_iter().chain((0..64).map(|i| 0x9e37_79b9_7f4a_7c15u64.rotate_left(i))) {
            assert_eq!(fold64(s), carried(s), "{s:x}");
        }
    }

    fn noise(n: usize) -> Vec<u8> {
        (0..n as u32).map(|i| (i.wrapping_mul(2654435761) >> 13) as u8).collect()
    }

    #[test]
    fn rfc1071_example() {
        assert_eq!(partial(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7], 0)), 0xddf2);
    }

    #[test]
    fn every_length_agrees_with_the_definition() {
        let bytes = noise(300);
        for n in 0..bytes.len() {
            assert_eq!(partial(sum(&bytes[..n], 0)), slow(&bytes[..n]), "{n} bytes");
        }
        let big = vec![0xff; 70_000];
        assert_eq!(partial(sum(&big, 0)), slow(&big));
    }

    #[test]
    fn pieces_of_odd_length_give_the_same_sum() {
        let bytes = noise(400);
        let mut s = Segs::new();
        let mut at = 0;
        for n in [1, 7, 64, 33, 100, 3, 192] {
            s.push(Seg::from(&bytes[at..at + n]));
            at += n;
        }
        assert_eq!(partial(segs(&s)), partial(sum(&bytes, 0)));
    }

    #[test]
    fn incremental_update_equals_a_new_sum() {
        let mut bytes = noise(40);
        let before = fold(sum(&bytes, 0));
        let old = u16::from_be_bytes([bytes[8], bytes[9]]);
        bytes[8..10].copy_from_slice(&0x1234u16.to_be_bytes());
        assert_eq!(replace2(before, old, 0x1234), fold(sum(&bytes, 0)));
        let before = fold(sum(&bytes, 0));
        let old = u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        bytes[12..16].copy_from_slice(&0x0a00_020fu32.to_be_bytes());
        assert_eq!(replace4(before, old, 0x0a00_020f), fold(sum(&bytes, 0)));
    }
}
