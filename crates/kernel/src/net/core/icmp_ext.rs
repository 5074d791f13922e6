//! IP_RECVERR_RFC4884: where in the quoted packet of an ICMP error its extensions begin.
use crate::net::core::skb::SkBuff;
use belljar_abi::SO_EE_RFC4884_FLAG_INVALID;
use belljar_wire::icmp::{ICMP_DEST_UNREACH, ICMP_HLEN, ICMP_PARAMETERPROB, ICMP_TIME_EXCEEDED};
use belljar_wire::icmpv6::{ICMPV6_DEST_UNREACH, ICMPV6_TIME_EXCEED};
use belljar_wire::{Segs, checksum};

/// RFC 4884 §4: what is quoted has at least so many bytes where extensions follow.
const LEAST: usize = 128;
const EXT_HLEN: usize = 4;

/// `struct sock_ee_data_rfc4884` as `ee_data` has it: bytes of `payload` before the extensions, and whether these are broken.
/// 0 without extensions. `skb` is pulled to the packet that is quoted, of which `payload` is the end.
#[doc(alias = "ip_icmp_error_rfc4884")]
pub fn data(skb: &SkBuff, payload: &Segs, six: bool) -> u32 {
    let Some(&[kind, _, _, _, len6, len4, ..]) = skb.head.at(skb.transport_header).first_chunk::<ICMP_HLEN>() else {
        return 0;
    };
    let quoted = match (six, kind) {
        (false, ICMP_DEST_UNREACH | ICMP_TIME_EXCEEDED | ICMP_PARAMETERPROB) => usize::from(len4) * 4,
        (true, ICMPV6_DEST_UNREACH | ICMPV6_TIME_EXCEED) => usize::from(len6) * 8,
        _ => return 0,
    };
    let headers = skb.len().saturating_sub(payload.len());
    let Some(at) = quoted.checked_sub(headers).filter(|at| quoted >= LEAST && at + EXT_HLEN <= payload.len()) else {
        return 0;
    };
    let flags = if is_sound(&payload.slice(at, payload.len() - at).to_vec()) { 0 } else { SO_EE_RFC4884_FLAG_INVALID };
    let [l0, l1] = (at as u16).to_ne_bytes();
    u32::from_ne_bytes([l0, l1, flags, 0])
}

/// RFC 4884 §7: the checksum where there is one, and objects that fill it to the end. Linux does not look at the version.
#[doc(alias = "ip_icmp_error_rfc4884_validate")]
fn is_sound(ext: &[u8]) -> bool {
    let Some((&[_, _, c0, c1], mut objects)) = ext.split_first_chunk() else { return false };
    if [c0, c1] != [0, 0] && checksum::fold(checksum::sum(ext, 0)) != 0 {
        return false;
    }
    while !objects.is_empty() {
        let Some(&[l0, l1, _, _]) = objects.first_chunk() else { return false };
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        match objects.get(len..) {
            Some(rest) if len >= EXT_HLEN => objects = rest,
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_fill_the_extension() {
        assert!(is_sound(&[0x20, 0, 0, 0]) && is_sound(&[0x20, 0, 0, 0, 0, 8, 1, 1, 1, 2, 3, 4]));
        assert!(is_sound(&[0x20, 0, 0xdf, 0xff]));
        for broken in [&[0x20, 0, 0, 1][..], &[0x20, 0, 0, 0, 0, 3, 1, 1], &[0x20, 0, 0, 0, 0, 9, 1, 1, 5]] {
            assert!(!is_sound(broken), "{broken:?}");
        }
    }
}
