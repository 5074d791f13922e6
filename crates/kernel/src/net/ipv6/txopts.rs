//! Extension headers of a program's own (RFC 3542): what a socket's packets or one send carry, and the control messages about
//! those of packets that came. There is room for so many bytes of them as the linear part of a packet leaves.
use crate::net::Net;
use crate::net::core::skb::Skb;
use crate::net::core::sock::Sock;
use crate::net::core::sockopt6::V6Opts;
use crate::net::tcp::output::segment;
use crate::net::tcp::sock::TcpSock;
use crate::task::call::Cmsg;
use belljar_abi::*;
use belljar_wire::ipv6::*;
use core::net::{IpAddr, Ipv6Addr};

/// Most bytes of a header that an option takes.
const MAX_OPTION: usize = 8 * 255;
/// Most bytes that the headers of a packet take together: beside them the longest TCP header has room in the linear part, or that
/// of a datagram.
pub const MAX_STREAM: usize = 40;
pub const MAX_DGRAM: usize = 88;

/// `struct ipv6_txoptions`: the headers in the order in which a packet has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxOptions {
    hop: Header,
    /// Goes out with a routing header only.
    dst0: Header,
    routing: Header,
    dst1: Header,
}

type Header = Option<Box<[u8]>>;

impl TxOptions {
    fn slot(&mut self, name: i32) -> Option<&mut Header> {
        match name {
            IPV6_HOPOPTS => Some(&mut self.hop),
            IPV6_RTHDRDSTOPTS => Some(&mut self.dst0),
            IPV6_RTHDR => Some(&mut self.routing),
            IPV6_DSTOPTS => Some(&mut self.dst1),
            _ => None,
        }
    }

    /// What getsockopt says of one.
    pub fn get(&self, name: i32) -> &[u8] {
        let header = match name {
            IPV6_HOPOPTS => &self.hop,
            IPV6_RTHDRDSTOPTS => &self.dst0,
            IPV6_RTHDR => &self.routing,
            _ => &self.dst1,
        };
        header.as_deref().unwrap_or(&[])
    }

    pub fn is_empty(&self) -> bool {
        *self == TxOptions::default()
    }

    /// The headers of a packet from the last to the first, with their numbers.
    fn backwards(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let dst0 = self.dst0.as_ref().filter(|_| self.routing.is_some());
        let all = [
            (NEXTHDR_DEST, self.dst1.as_ref()),
            (NEXTHDR_ROUTING, self.routing.as_ref()),
            (NEXTHDR_DEST, dst0),
            (NEXTHDR_HOP, self.hop.as_ref()),
        ];
        all.into_iter().filter_map(|(next, h)| Some((next, &**h?)))
    }

    /// Bytes in a packet.
    pub fn len(&self) -> usize {
        self.backwards().map(|h| h.1.len()).sum()
    }

    /// Bytes in front of a fragment header, whether they go out or not.
    pub fn nflen(&self) -> usize {
        [&self.hop, &self.dst0, &self.routing].into_iter().flatten().map(|h| h.len()).sum()
    }

    /// What is sent under a leased flow label: its headers; where there are some for the end, those are the socket's.
    pub fn merge(of_label: Option<&TxOptions>, own: Option<Box<TxOptions>>) -> Option<Box<TxOptions>> {
        let label = of_label.cloned().unwrap_or_default();
        let merged = match own.and_then(|o| o.dst1) {
            Some(dst1) => TxOptions { dst1: Some(dst1), ..label },
            None => label,
        };
        (!merged.is_empty()).then(|| Box::new(merged))
    }

    /// Where a packet with a routing header goes first.
    pub fn first_hop(&self) -> Option<Ipv6Addr> {
        let h = self.routing.as_deref()?;
        let at = 8 + 16 * usize::from(*h.get(3)?);
        h.get(at..)?.first_chunk::<16>().map(|a| (*a).into())
    }

    /// In front of the transport header; returns what the IPv6 header says instead of `proto` and `daddr`.
    #[doc(alias = "ipv6_push_nfrag_opts")]
    #[doc(alias = "ipv6_push_frag_opts")]
    #[cold]
    pub fn push(&self, skb: &mut Skb, proto: u8, daddr: IpAddr) -> (u8, IpAddr) {
        let (mut proto, mut to) = (proto, daddr);
        for (next, header) in self.backwards() {
            let Some(room) = skb.head.push(header.len()) else { break };
            room.copy_from_slice(header);
            room[0] = proto;
            proto = next;
            if next == NEXTHDR_ROUTING
                && let (IpAddr::V6(end), Some(hop)) = (daddr, self.first_hop())
            {
                // The last segment is where the packet ends.
                room[8..24].copy_from_slice(&end.octets());
                to = hop.into();
            }
        }
        (proto, to)
    }
}

/// A segment routing header (RFC 8754 §2) that says how long it is and how far it goes.
#[doc(alias = "seg6_validate_srh")]
fn valid_srh(h: &[u8]) -> bool {
    let &[_, hdrlen, kind, left, last, ..] = h else { return false };
    let (whole, segments) = ((usize::from(hdrlen) + 1) * 8, 8 + (usize::from(last) + 1) * 16);
    if kind != IPV6_SRCRT_TYPE_4 || whole != h.len() || left > last || segments > h.len() {
        return false;
    }
    // Type, length, value to the end.
    let mut rest = &h[segments..];
    while let &[_, len, ..] = rest {
        match rest.get(2 + usize::from(len)..) {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
    rest.is_empty()
}

/// The header that a program gave, `(hdrlen + 1) * 8` bytes of it.
fn header(value: &[u8]) -> Result<Box<[u8]>, Errno> {
    let len = (usize::from(*value.get(1).ok_or(Errno::EINVAL)?) + 1) * 8;
    value.get(..len).map(Box::from).ok_or(Errno::EINVAL)
}

/// IPV6_HOPOPTS, IPV6_RTHDRDSTOPTS, IPV6_RTHDR, IPV6_DSTOPTS of every packet of the socket; nothing takes one away.
#[doc(alias = "ipv6_set_opt_hdr")]
pub(crate) fn set_sticky(sk: &mut Sock, name: i32, value: &[u8], (net_raw, max): (bool, usize)) -> Result<(), Errno> {
    if name != IPV6_RTHDR && !net_raw {
        return Err(Errno::EPERM);
    }
    let mut new = sk.txopts().cloned().unwrap_or_default();
    let given = match value.len() {
        0 => None,
        n if n % 8 != 0 || n > MAX_OPTION => return Err(Errno::EINVAL),
        _ => Some(header(value)?),
    };
    if name == IPV6_RTHDR && given.as_deref().is_some_and(|h| h.len() != value.len() || !valid_srh(h)) {
        return Err(Errno::EINVAL);
    }
    *new.slot(name).ok_or(Errno::ENOPROTOOPT)? = given;
    keep(sk, new, max)
}

/// IPV6_2292PKTOPTIONS: all of them at once, as control messages.
pub(crate) fn set_all(sk: &mut Sock, value: &[u8], (net_raw, max): (bool, usize)) -> Result<(), Errno> {
    keep(sk, parse_all(value, net_raw)?, max)
}

/// The headers in a buffer of control messages.
pub(crate) fn parse_all(value: &[u8], net_raw: bool) -> Result<TxOptions, Errno> {
    let mut new = TxOptions::default();
    let mut rest = value;
    while let Some((head, body)) = rest.split_first_chunk::<16>() {
        let word = |at: usize| head.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| i32::from_ne_bytes(*b));
        let len = head.first_chunk().map_or(0, |b| u64::from_ne_bytes(*b));
        let data = usize::try_from(len).ok().and_then(|n| body.get(..n.checked_sub(16)?)).ok_or(Errno::EINVAL)?;
        if word(8) == SOL_IPV6 {
            cmsg_send(word(12), data, &mut new, net_raw).unwrap_or(Ok(()))?;
        }
        rest = body.get(data.len().next_multiple_of(8)..).unwrap_or(&[]);
    }
    Ok(new)
}

fn keep(sk: &mut Sock, new: TxOptions, max: usize) -> Result<(), Errno> {
    if new.len() > max {
        return Err(Errno::ENOBUFS);
    }
    sk.v6_opts_mut().txopts = (!new.is_empty()).then(|| Box::new(new));
    Ok(())
}

/// The header that a control message brings for one send; `None`: it is about something else.
#[doc(alias = "ip6_datagram_send_ctl")]
pub(crate) fn cmsg_send(kind: i32, data: &[u8], o: &mut TxOptions, net_raw: bool) -> Option<Result<(), Errno>> {
    let name = match kind {
        IPV6_2292HOPOPTS | IPV6_HOPOPTS => IPV6_HOPOPTS,
        IPV6_2292DSTOPTS | IPV6_DSTOPTS => IPV6_DSTOPTS,
        IPV6_RTHDRDSTOPTS => IPV6_RTHDRDSTOPTS,
        // There is none that one send may have.
        IPV6_2292RTHDR | IPV6_RTHDR => return Some(Err(Errno::EINVAL)),
        _ => return None,
    };
    let once = matches!(kind, IPV6_2292HOPOPTS | IPV6_HOPOPTS | IPV6_2292DSTOPTS);
    let slot = o.slot(name)?;
    Some(match header(data) {
        _ if once && kind != IPV6_2292DSTOPTS && slot.is_some() => Err(Errno::EINVAL),
        Err(e) => Err(e),
        Ok(_) if !net_raw => Err(Errno::EPERM),
        Ok(_) if once && slot.is_some() => Err(Errno::EINVAL),
        Ok(h) => {
            *slot = Some(h);
            if o.len() > MAX_DGRAM { Err(Errno::ENOBUFS) } else { Ok(()) }
        }
    })
}

/// How long the network header of the socket's packets to `daddr` is because of them.
pub fn len_of(sk: &Sock, daddr: IpAddr) -> u32 {
    if daddr.is_ipv4() {
        return 0;
    }
    sk.txopts().map_or(0, |o| o.len() as u32)
}

// What a socket wants to be told about received packets (bits of `rxopt`), in the order in which it is.
const RX: [(i32, u16); 8] = [
    (IPV6_RECVHOPOPTS, HOPOPTS),
    (IPV6_RECVDSTOPTS, DSTOPTS),
    (IPV6_RECVRTHDR, RTHDR),
    (IPV6_2292PKTINFO, OLD_PKTINFO),
    (IPV6_2292HOPLIMIT, OLD_HOPLIMIT),
    (IPV6_2292HOPOPTS, OLD_HOPOPTS),
    (IPV6_2292DSTOPTS, OLD_DSTOPTS),
    (IPV6_2292RTHDR, OLD_RTHDR),
];
const HOPOPTS: u16 = 1;
const DSTOPTS: u16 = 2;
const RTHDR: u16 = 4;
const OLD_PKTINFO: u16 = 8;
const OLD_HOPLIMIT: u16 = 16;
const OLD_HOPOPTS: u16 = 32;
const OLD_DSTOPTS: u16 = 64;
const OLD_RTHDR: u16 = 128;

/// The bit of an option that asks for control messages about headers.
pub fn rx_bit(name: i32) -> Option<u16> {
    RX.iter().find(|o| o.0 == name).map(|o| o.1)
}

/// Control messages about the headers of a packet that lies at its IPv6 header, and those of RFC 2292.
#[doc(alias = "ip6_datagram_recv_specific_ctl")]
#[cold]
pub fn recv(o: &V6Opts, packet: &[u8], pktinfo: &[u8], out: &mut Vec<Cmsg>) {
    let Ok(ip) = Ipv6Header::parse(packet) else { return };
    let mut put = |bit: u16, kind, data: &[u8]| {
        if o.rx & bit != 0 {
            out.push(Cmsg { level: SOL_IPV6, kind, data: data.to_vec() });
        }
    };
    let headers = walk(packet, ip.next);
    let hop = headers.first().filter(|h| h.0 == NEXTHDR_HOP);
    hop.iter().for_each(|h| put(HOPOPTS, IPV6_HOPOPTS, h.1));
    for (next, bytes) in &headers {
        match *next {
            NEXTHDR_DEST => put(DSTOPTS, IPV6_DSTOPTS, bytes),
            NEXTHDR_ROUTING => put(RTHDR, IPV6_RTHDR, bytes),
            _ => {}
        }
    }
    put(OLD_PKTINFO, IPV6_2292PKTINFO, pktinfo);
    put(OLD_HOPLIMIT, IPV6_2292HOPLIMIT, &i32::from(ip.hop_limit).to_ne_bytes());
    hop.iter().for_each(|h| put(OLD_HOPOPTS, IPV6_2292HOPOPTS, h.1));
    for (next, bytes) in &headers {
        match *next {
            NEXTHDR_DEST => put(OLD_DSTOPTS, IPV6_2292DSTOPTS, bytes),
            NEXTHDR_ROUTING => put(OLD_RTHDR, IPV6_2292RTHDR, bytes),
            _ => {}
        }
    }
}

/// The extension headers of a packet that reached its transport: each is as long as it says.
fn walk(packet: &[u8], mut next: u8) -> Vec<(u8, &[u8])> {
    let (mut at, mut found) = (IPV6_HLEN, Vec::new());
    while matches!(next, NEXTHDR_HOP | NEXTHDR_DEST | NEXTHDR_ROUTING) {
        let Some(&[following, len]) = packet.get(at..).and_then(|b| b.first_chunk()) else { break };
        let Some(bytes) = packet.get(at..at + (usize::from(len) + 1) * 8) else { break };
        found.push((next, bytes));
        (next, at) = (following, at + bytes.len());
    }
    found
}

/// The bytes in front of a fragment header (RFC 8200 §4.5), and which byte of them names what follows: headers that every router
/// or every host of a source route looks at.
#[doc(alias = "ip6_find_1stfragopt")]
pub fn unfragmentable(packet: &[u8]) -> (usize, usize) {
    let Ok(ip) = Ipv6Header::parse(packet) else { return (IPV6_HLEN, 6) };
    let (mut at, mut named, mut routed) = (IPV6_HLEN, 6, false);
    for (next, bytes) in walk(packet, ip.next) {
        if next == NEXTHDR_DEST && routed {
            break;
        }
        routed |= next == NEXTHDR_ROUTING;
        (named, at) = (at, at + bytes.len());
    }
    (at, named)
}

/// A stream's segments become shorter, and may go another way.
#[doc(alias = "ipv6_update_options")]
pub(crate) fn changed(sk: &mut TcpSock, net: &Net) {
    sk.dst = None;
    if sk.sk.dport != 0 {
        let pmtu = sk.snd.pmtu;
        segment::sync_mss(sk, net, pmtu);
    }
}
