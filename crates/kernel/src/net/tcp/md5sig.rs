//! Signatures of segments (RFC 2385; TCP_MD5SIG): who has a key for a peer signs everything to it and takes nothing from it
//! that is not signed. Keys are given for addresses or prefixes; a connection gets its listener's.
use super::sock::TcpSock;
use super::tables;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::skb::SkBuff;
use crate::net::core::sock::Family;
use crate::net::drop::DropReason;
use crate::net::mib::Mib;
use crate::net::{Net, af};
use belljar_abi::{AF_INET, AF_INET6, Errno, SockAddr};
use belljar_wire::md5::Md5;
use belljar_wire::tcp::{TCP_HLEN, TCPOLEN_MD5SIG_ALIGNED, TCPOPT_EOL, TCPOPT_MD5SIG, TCPOPT_NOP};
use belljar_wire::{Head, Segs};
use core::net::IpAddr;

/// The shortest header with a signature.
pub const SIGNED_HLEN: usize = TCP_HLEN + 18;
pub const TCP_MD5SIG_MAXKEYLEN: usize = 80;
const TCP_MD5SIG_FLAG_PREFIX: u8 = 1;
const TCP_MD5SIG_FLAG_IFINDEX: u8 = 2;
/// `struct tcp_md5sig`: a sockaddr_storage, flags, prefix length, key length, interface, key.
const TCP_MD5SIG_LEN: usize = 128 + 8 + TCP_MD5SIG_MAXKEYLEN;
/// As many as net.core.optmem_max has room for.
const MOST_KEYS: usize = 963;

/// `struct tcp_md5sig_key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Md5Key {
    addr: IpAddr,
    prefixlen: u8,
    /// Given with TCP_MD5SIG_FLAG_IFINDEX; there are no devices of the kind that it means, so only for identity.
    l3: bool,
    key: Box<[u8]>,
}

impl Md5Key {
    fn matches(&self, addr: IpAddr) -> bool {
        let (differ, bits) = match (self.addr, addr) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits() ^ b.to_bits()), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits(), 128),
            _ => return false,
        };
        differ.checked_shr(bits - u32::from(self.prefixlen).min(bits)).unwrap_or(0) == 0
    }
}

/// The prefix length of one address.
fn bits(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

/// The key for a peer: the longest prefix.
#[doc(alias = "tcp_md5_do_lookup")]
#[cold]
pub fn lookup(sk: &TcpSock, addr: IpAddr) -> Option<&Md5Key> {
    let keys = &sk.rare.as_ref()?.md5;
    keys.iter().filter(|k| k.matches(addr)).max_by_key(|k| (k.l3, k.prefixlen))
}

/// Of the connection's own peer.
#[inline]
pub fn own(sk: &TcpSock) -> Option<&Md5Key> {
    if sk.rare.is_none() { None } else { lookup(sk, sk.sk.daddr) }
}

/// The connection that a listener makes has the one key of its peer.
#[doc(alias = "tcp_md5_key_copy")]
pub fn inherit(child: &mut TcpSock, listener: &TcpSock) {
    if let Some(key) = lookup(listener, child.sk.daddr) {
        let key = Md5Key { addr: child.sk.daddr, prefixlen: bits(child.sk.daddr), ..key.clone() };
        let rare = child.rare();
        (rare.md5, rare.md5_in_header) = (vec![key], true);
    }
}

/// TCP_MD5SIG and TCP_MD5SIG_EXT (`ext`): sets a key, replaces it, or takes it away when it is empty.
#[doc(alias = "tcp_v4_parse_md5_keys")]
pub fn set_key(sk: &mut TcpSock, ext: bool, value: &[u8]) -> Result<(), Errno> {
    let value = value.get(..TCP_MD5SIG_LEN).ok_or(Errno::EINVAL)?;
    let (to, rest) = value.split_at_checked(128).ok_or(Errno::EINVAL)?;
    let [flags, prefixlen, len0, len1, if0, if1, if2, if3, key @ ..] = rest else { return Err(Errno::EINVAL) };
    let family = to.first_chunk().map_or(0, |b| i32::from(u16::from_ne_bytes(*b)));
    let v6 = sk.sk.family == Family::Inet6;
    if family != if v6 { AF_INET6 } else { AF_INET } {
        return Err(Errno::EINVAL);
    }
    let addr = match SockAddr::parse(to).map_err(|_| Errno::EINVAL)? {
        SockAddr::V6 { addr, .. } => addr.to_canonical(),
        other => IpAddr::V4(other.to_v4().ok_or(Errno::EINVAL)?.0),
    };
    let prefix = ext && flags & TCP_MD5SIG_FLAG_PREFIX != 0;
    let most = bits(addr);
    if prefix && *prefixlen > most {
        return Err(Errno::EINVAL);
    }
    let l3 = flags & TCP_MD5SIG_FLAG_IFINDEX != 0;
    if ext && l3 && u32::from_ne_bytes([*if0, *if1, *if2, *if3]) != 0 {
        return Err(Errno::EINVAL);
    }
    let prefixlen = if prefix { *prefixlen } else { most };
    let same = |k: &Md5Key| (k.addr, k.prefixlen, k.l3) == (addr, prefixlen, l3);
    let len = usize::from(u16::from_ne_bytes([*len0, *len1]));
    if len == 0 {
        let keys = sk.rare.as_mut().map(|r| &mut r.md5).ok_or(Errno::ENOENT)?;
        let at = keys.iter().position(same).ok_or(Errno::ENOENT)?;
        keys.remove(at);
        return Ok(());
    }
    let key = key.get(..len).ok_or(Errno::EINVAL)?.into();
    let keys = &mut sk.rare().md5;
    let full = keys.len() >= MOST_KEYS;
    match keys.iter_mut().find(|k| same(k)) {
        Some(old) => old.key = key,
        None if full => return Err(Errno::ENOMEM),
        None => keys.push(Md5Key { addr, prefixlen, l3, key }),
    }
    Ok(())
}

/// Pseudo header, header with a sum of zero and without options, payload, key (RFC 2385 §2.0).
#[doc(alias = "tcp_v4_md5_hash_skb")]
fn digest(key: &Md5Key, saddr: IpAddr, daddr: IpAddr, header: &[u8], payload: &Segs) -> [u8; 16] {
    let mut m = Md5::default();
    let len = header.len() + payload.len();
    match (saddr, daddr) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            m.update(&s.octets());
            m.update(&d.octets());
            m.update(&[0, 6]);
            m.update(&(len as u16).to_be_bytes());
        }
        (s, d) => {
            [s, d].iter().for_each(|a| {
                if let IpAddr::V6(a) = a {
                    m.update(&a.octets())
                }
            });
            m.update(&(len as u32).to_be_bytes());
            m.update(&[0, 0, 0, 6]);
        }
    }
    let mut fixed = [0; TCP_HLEN];
    fixed.iter_mut().zip(header).for_each(|(to, b)| *to = *b);
    (fixed[16], fixed[17]) = (0, 0);
    m.update(&fixed);
    payload.iter().for_each(|s| m.update(s.as_slice()));
    m.update(&key.key);
    m.finish()
}

/// Signs a segment whose head begins with its TCP header, written with room for the signature as its first option.
pub fn sign(key: &Md5Key, saddr: IpAddr, daddr: IpAddr, head: &mut Head, header_len: usize, payload: &Segs) {
    let header = head.bytes().get(..header_len).unwrap_or(&[]);
    let signature = digest(key, saddr, daddr, header, payload);
    let at = TCP_HLEN + TCPOLEN_MD5SIG_ALIGNED - signature.len();
    if let Some(to) = head.bytes_mut().get_mut(at..at + signature.len()) {
        to.copy_from_slice(&signature);
    }
}

/// The signature that a segment came with.
#[doc(alias = "tcp_parse_md5sig_option")]
fn signature(skb: &SkBuff) -> Option<&[u8]> {
    let header = skb.head.at(skb.tcp.header).get(..skb.tcp.header_len.into())?;
    let mut rest = header.get(TCP_HLEN..).filter(|o| o.len() >= 18)?;
    loop {
        match *rest {
            [] | [TCPOPT_EOL, ..] => return None,
            [TCPOPT_NOP, ref tail @ ..] => rest = tail,
            [TCPOPT_MD5SIG, 18, ref tail @ ..] => return tail.get(..16),
            [_, len, ..] if len >= 2 => rest = rest.get(len.into()..)?,
            _ => return None,
        }
    }
}

fn is_signed_with(key: &Md5Key, skb: &SkBuff, signature: &[u8]) -> bool {
    let (src, dst) = af::addresses(skb);
    let header = skb.head.at(skb.tcp.header).get(..skb.tcp.header_len.into()).unwrap_or(&[]);
    digest(key, src, dst, header, &skb.frags) == signature
}

/// Is a segment signed as the socket (a listener for what completes a handshake) wants it?
#[doc(alias = "tcp_inbound_md5_hash")]
pub fn inbound(sk: &TcpSock, net: &mut Net, skb: &SkBuff) -> Result<(), DropReason> {
    if sk.rare.is_none() && usize::from(skb.tcp.header_len) < SIGNED_HLEN {
        return Ok(());
    }
    let key = lookup(sk, af::addresses(skb).0);
    let (count, reason) = match (key, signature(skb)) {
        (None, None) => return Ok(()),
        (Some(_), None) => (Mib::TcpExtTCPMD5NotFound, DropReason::TcpMd5NotFound),
        (None, Some(_)) => (Mib::TcpExtTCPMD5Unexpected, DropReason::TcpMd5Unexpected),
        (Some(key), Some(s)) if is_signed_with(key, skb, s) => return Ok(()),
        (Some(_), Some(_)) => (Mib::TcpExtTCPMD5Failure, DropReason::TcpMd5Failure),
    };
    net.inc(sk.sk.ns, count);
    Err(reason)
}

/// How to reset a segment that no connection wants: unsigned; signed with the key of a listener at the port that it came
/// from, if it is signed with that itself; or not at all (`Err`).
pub fn key_of_nobody(k: &Kernel, ns: NsId, skb: &SkBuff) -> Result<Option<Md5Key>, DropReason> {
    let Some(s) = signature(skb) else { return Ok(None) };
    let t = tables::Tuple::of_packet(skb);
    let turned = tables::Tuple { lport: t.rport, ..t };
    let listener =
        tables::lookup_listener(k, ns, &turned, skb).and_then(|id| k.socks.tcp.get(id)).ok_or(DropReason::NoSocket)?;
    let key = lookup(listener, t.raddr).filter(|key| is_signed_with(key, skb, s)).ok_or(DropReason::TcpMd5Failure)?;
    Ok(Some(key.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter_map(|c| char::from(c).to_digit(16)).map(|d| d as u8).collect();
        digits.chunks(2).filter_map(|d| Some(d.first()? << 4 | d.get(1)?)).collect()
    }

    #[test]
    fn a_segment_that_linux_signed() {
        let header =
            hex("d29e 0050 b1f2 bb20 6a14 ea2d a018 0040 fe35 0000 0101 1312 8cc8 da4b 5653 dc3b 7ba1 85bf 06f2 2d62");
        let key = Md5Key { addr: Ipv4Addr::LOCALHOST.into(), prefixlen: 32, l3: false, key: b"secret"[..].into() };
        let payload = Segs::from(b"hello".to_vec());
        let signature = digest(&key, key.addr, key.addr, &header, &payload);
        assert_eq!(signature[..], header[24..]);
    }

    #[test]
    fn prefixes_match_from_all_to_one() {
        let key =
            |prefixlen| Md5Key { addr: Ipv4Addr::new(10, 1, 2, 3).into(), prefixlen, l3: false, key: [][..].into() };
        let peers = [Ipv4Addr::new(10, 1, 2, 3), Ipv4Addr::new(10, 1, 2, 9), Ipv4Addr::new(99, 0, 0, 1)];
        for (prefixlen, want) in [(0, [true, true, true]), (24, [true, true, false]), (32, [true, false, false])] {
            assert_eq!(peers.map(|p| key(prefixlen).matches(p.into())), want);
        }
    }
}
