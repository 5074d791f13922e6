//! IPv4 options (RFC 791 §3.1): whether they are well-formed, record route and time stamps on the way, and what a socket or
//! an answer carries.
use crate::ids::NsId;
use crate::net::Net;
use crate::net::core::skb::{SkBuff, Skb};
use crate::net::core::sock::Sock;
use crate::net::ipv4::icmp::midnight_ms;
use crate::net::ipv4::route::{RouteKind, addr_type};
use belljar_abi::Errno;
use belljar_wire::ipv4::{IPV4_HLEN, Ipv4Header};
use core::net::{IpAddr, Ipv4Addr};

/// Most bytes of options that a header has room for.
pub const MAX_IPOPTLEN: usize = 40;

const IPOPT_END: u8 = 0;
const IPOPT_NOOP: u8 = 1;
const IPOPT_RR: u8 = 7;
const IPOPT_TIMESTAMP: u8 = 68;
const IPOPT_LSRR: u8 = 131;
const IPOPT_CIPSO: u8 = 134;
const IPOPT_SSRR: u8 = 137;
const IPOPT_RA: u8 = 148;

const IPOPT_TS_TSONLY: u8 = 0;
const IPOPT_TS_TSANDADDR: u8 = 1;
const IPOPT_TS_PRESPEC: u8 = 3;

/// What a well-formed option area holds that matters to delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub source_route: bool,
    pub router_alert: bool,
    /// Where record route and time stamps begin.
    rr: Option<u8>,
    ts: Option<u8>,
}

/// Where options come from: a packet, or a program, which may set all kinds only with CAP_NET_RAW.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Wire,
    Program { net_raw: bool },
}

/// Walks the options of a received `header`; `Err` is the offset of the fault, for ICMP parameter problem.
#[doc(alias = "ip_options_compile")]
pub fn compile(header: &[u8]) -> Result<Options, u8> {
    walk(header.get(IPV4_HLEN..).unwrap_or(&[]), From::Wire).map_err(|at| at + IPV4_HLEN as u8)
}

fn walk(options: &[u8], from: From) -> Result<Options, u8> {
    let privileged = from != From::Program { net_raw: false };
    let mut found = Options::default();
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        match kind {
            IPOPT_END => break,
            IPOPT_NOOP => {
                at += 1;
                continue;
            }
            _ => {}
        }
        let len = options.get(at + 1).map_or(0, |l| *l as usize);
        let here = at as u8;
        let Some(o) = options.get(at..at + len).filter(|_| len >= 2) else { return Err(here) };
        let pointer = o.get(2).map_or(0, |p| *p as usize);
        // Room for one more entry of `n` bytes, or none at all: not half of one.
        let fits = |n: usize| pointer > len || pointer + n - 1 <= len;
        match kind {
            IPOPT_LSRR | IPOPT_SSRR => {
                let whole = from == From::Wire || (pointer == 4 && len >= 7 && (len - 3).is_multiple_of(4));
                match () {
                    () if len < 3 => return Err(here + 1),
                    () if pointer < 4 => return Err(here + 2),
                    () if found.source_route => return Err(here),
                    () if !whole => return Err(here + 1),
                    () => found.source_route = true,
                }
            }
            IPOPT_RR => match () {
                () if found.rr.is_some() => return Err(here),
                () if len < 3 => return Err(here + 1),
                () if pointer < 4 || !fits(4) => return Err(here + 2),
                () => found.rr = Some(here),
            },
            IPOPT_TIMESTAMP => {
                let (flag, overflow) = o.get(3).map_or((0, 0), |b| (b & 15, b >> 4));
                let entry = if matches!(flag, IPOPT_TS_TSANDADDR | IPOPT_TS_PRESPEC) { 8 } else { 4 };
                match () {
                    () if found.ts.is_some() => return Err(here),
                    () if len < 4 => return Err(here + 1),
                    () if pointer < 5 || !fits(4) || !fits(entry) => return Err(here + 2),
                    () if pointer <= len && !matches!(flag, 0 | 1 | 3) && !privileged => return Err(here + 3),
                    () if pointer > len && flag != IPOPT_TS_PRESPEC && overflow == 15 => return Err(here + 3),
                    () => found.ts = Some(here),
                }
            }
            IPOPT_RA if len < 4 => return Err(here + 1),
            IPOPT_RA => found.router_alert = o.get(2..4) == Some(&[0, 0]),
            // Labels need a domain of interpretation, of which there is none.
            IPOPT_CIPSO if from != From::Wire => return Err(here),
            _ if !privileged => return Err(here),
            _ => {}
        }
        at += len;
    }
    Ok(found)
}

/// IP_OPTIONS: what a program may have in its packets, padded to words. A source route is refused, as Linux refuses it to
/// programs without CAP_NET_RAW.
#[doc(alias = "ip_options_get")]
pub fn from_program(value: &[u8], net_raw: bool) -> Result<Box<[u8]>, Errno> {
    if value.len() > MAX_IPOPTLEN {
        return Err(Errno::EINVAL);
    }
    let found = walk(value, From::Program { net_raw }).map_err(|_| Errno::EINVAL)?;
    if found.source_route {
        return Err(Errno::EPERM);
    }
    let mut bytes = value.to_vec();
    // Nothing counts behind the end.
    let end = Walk::new(&bytes).take_while(|(kind, _)| *kind != IPOPT_END).map(|(_, o)| o.end).last().unwrap_or(0);
    bytes.truncate(end);
    bytes.resize(value.len().next_multiple_of(4), IPOPT_END);
    Ok(bytes.into())
}

/// The options of a well-formed area: kind and place.
struct Walk<'a> {
    options: &'a [u8],
    at: usize,
}

impl Walk<'_> {
    fn new(options: &[u8]) -> Walk<'_> {
        Walk { options, at: 0 }
    }
}

impl Iterator for Walk<'_> {
    type Item = (u8, core::ops::Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        let (kind, at) = (*self.options.get(self.at)?, self.at);
        let len = match kind {
            IPOPT_END => return None,
            IPOPT_NOOP => 1,
            _ => usize::from(*self.options.get(at + 1)?),
        };
        self.at += len;
        (len > 0 && self.at <= self.options.len()).then_some((kind, at..self.at))
    }
}

/// The next hop on a packet's way: its address, and the time of day in milliseconds.
struct Stamp<'a> {
    net: &'a Net,
    ns: NsId,
    here: Ipv4Addr,
}

impl Stamp<'_> {
    /// Writes this host into record route and time stamps, as far as there is room.
    fn record(&self, options: &mut [u8], found: &Options) {
        if let Some(rr) = found.rr.and_then(|at| options.get_mut(usize::from(at)..)) {
            put(rr, 0, &self.here.octets());
        }
        if let Some(ts) = found.ts.and_then(|at| options.get_mut(usize::from(at)..)) {
            self.stamp(ts);
        }
    }

    fn stamp(&self, ts: &mut [u8]) {
        let ms = midnight_ms(self.net).to_be_bytes();
        let [_, _, pointer, flags, ..] = *ts else { return };
        match flags & 15 {
            IPOPT_TS_TSONLY => put(ts, 0, &ms),
            IPOPT_TS_TSANDADDR => {
                put(ts, 0, &self.here.octets());
                put(ts, 0, &ms);
            }
            // Only the hosts that the sender named, in its order.
            IPOPT_TS_PRESPEC if pointer <= ts[1] => {
                let at = usize::from(pointer) - 1;
                let named =
                    ts.get(at..).and_then(|b| b.first_chunk::<4>()).map_or(Ipv4Addr::UNSPECIFIED, |a| (*a).into());
                if addr_type(self.net, self.ns, named) != RouteKind::Unicast {
                    put(ts, 4, &ms);
                }
            }
            _ => {}
        }
    }
}

/// Four bytes where the option's pointer says, `skip` bytes on; the pointer moves behind them.
fn put(option: &mut [u8], skip: usize, bytes: &[u8; 4]) {
    let [_, len, pointer, ..] = *option else { return };
    let at = usize::from(pointer) - 1 + skip;
    if pointer > len {
        return;
    }
    if let Some(to) = option.get_mut(at..at + 4) {
        to.copy_from_slice(bytes);
        option[2] = (at + 5) as u8;
    }
}

/// A packet with options arrived at this host or goes on from it by `here`: recorded in it.
#[doc(alias = "ip_options_compile")]
#[doc(alias = "ip_forward_options")]
pub fn record(net: &Net, ns: NsId, skb: &mut Skb, ip: &Ipv4Header, found: &Options, here: Ipv4Addr) {
    let Some(header) = skb.head.bytes_mut().get_mut(..ip.ihl_bytes) else { return };
    let Some(options) = header.get_mut(IPV4_HLEN..) else { return };
    // Who finds a time stamp option full counts itself (RFC 791: the overflow).
    if let Some([_, len, pointer, flags, ..]) = found.ts.and_then(|at| options.get_mut(usize::from(at)..))
        && pointer > len
        && *flags & 15 != IPOPT_TS_PRESPEC
    {
        *flags += 0x10;
    }
    Stamp { net, ns, here }.record(options, found);
    belljar_wire::ipv4::set_checksum(header);
}

/// Options in front of the transport header, with this host as the first of the way; returns how many bytes.
#[doc(alias = "ip_options_build")]
#[cold]
pub fn push(net: &Net, ns: NsId, skb: &mut Skb, options: &[u8], saddr: IpAddr) -> u8 {
    let IpAddr::V4(here) = saddr else { return 0 };
    let Ok(found) = walk(options, From::Wire) else { return 0 };
    let Some(room) = skb.head.push(options.len()) else { return 0 };
    room.copy_from_slice(options);
    Stamp { net, ns, here }.record(room, &found);
    options.len() as u8
}

/// What a socket's packets to an IPv4 address carry.
pub fn of(sk: &Sock, daddr: IpAddr) -> Option<&[u8]> {
    sk.cold.as_deref()?.ip_options.as_deref().filter(|_| daddr.is_ipv4())
}

/// How long the header is because of them.
pub fn len_of(sk: &Sock, daddr: IpAddr) -> u32 {
    of(sk, daddr).map_or(0, |o| o.len() as u32)
}

/// The options of a packet that is here, if it has any.
pub fn of_skb(skb: &SkBuff) -> &[u8] {
    let header = skb.head.at(skb.network_header);
    let ihl = header.first().map_or(0, |v| usize::from(v & 15) * 4);
    header.get(IPV4_HLEN..ihl).unwrap_or(&[])
}

/// The options as they go back in an answer: record route and time stamps with what they have collected, padded to words.
#[doc(alias = "__ip_options_echo")]
pub fn echo(options: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, at) in Walk::new(options) {
        if matches!(kind, IPOPT_RR | IPOPT_TIMESTAMP) {
            out.extend_from_slice(options.get(at).unwrap_or(&[]));
        }
    }
    out.resize(out.len().next_multiple_of(4), IPOPT_END);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(options: &[u8]) -> Result<Options, u8> {
        let mut h = vec![0x45; 20];
        h.extend_from_slice(options);
        h.resize(20 + options.len().next_multiple_of(4), 0);
        compile(&h)
    }

    #[test]
    fn faults_are_where_they_are() {
        assert_eq!(with(&[1, 1, 0, 9]), Ok(Options::default()));
        assert_eq!(with(&[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0]).map(|o| o.rr), Ok(Some(0)));
        assert_eq!(with(&[7, 44, 4]), Err(20));
        assert_eq!(with(&[1, 7, 3, 3]), Err(23));
        assert!(with(&[131, 7, 4, 1, 2, 3, 4]).unwrap().source_route);
        assert!(with(&[148, 4, 0, 0]).unwrap().router_alert);
        assert_eq!(echo(&[1, 7, 7, 4, 0, 0, 0, 0, 0]), [7, 7, 4, 0, 0, 0, 0, 0]);
        assert!(echo(&[1, 148, 4, 0, 0, 7]).is_empty());
        // Fifteen hosts had no room: the next one must say so.
        assert_eq!(with(&[68, 8, 9, 0xf0, 0, 0, 0, 0]), Err(23));
        assert_eq!(with(&[7, 8, 6, 0, 0, 0, 0, 0]), Err(22));
    }

    /// Measured on Linux 6.18: what a program with and without CAP_NET_RAW may set, and how it reads it back.
    #[test]
    fn programs_set_what_they_may() {
        let b = |kind: &[u8], zeros: usize| [kind, &vec![0; zeros]].concat();
        let ok = |v: &[u8]| Ok(v.to_vec().into_boxed_slice());
        let long = b(&[7, 39, 4], 36);
        let same = [
            (b(&[1], 0), ok(&[1, 0, 0, 0])),
            (b(&[0, 1, 1], 0), ok(&[0; 4])),
            (b(&[7, 11, 4], 8), ok(&b(&[7, 11, 4], 9))),
            (b(&[7, 11, 12], 8), ok(&b(&[7, 11, 12], 9))),
            (b(&[7, 11, 3], 8), Err(Errno::EINVAL)),
            (b(&[7, 11, 11], 8), Err(Errno::EINVAL)),
            (long.clone(), ok(&b(&long, 1))),
            (vec![1; 41], Err(Errno::EINVAL)),
            (b(&[7, 7, 4, 0, 0, 0, 0, 7, 7, 4], 4), Err(Errno::EINVAL)),
            (b(&[68, 12, 5, 1], 8), ok(&b(&[68, 12, 5, 1], 8))),
            (b(&[68, 8, 9, 0], 4), ok(&b(&[68, 8, 9, 0], 4))),
            (b(&[68, 12, 4, 0], 8), Err(Errno::EINVAL)),
            (b(&[131, 11, 8], 8), Err(Errno::EINVAL)),
            (b(&[148, 4, 0, 1], 0), ok(&[148, 4, 0, 1])),
            (b(&[148, 3, 0], 0), Err(Errno::EINVAL)),
            (b(&[134, 10, 0, 0, 0, 1, 1, 4, 0, 1], 0), Err(Errno::EINVAL)),
            (b(&[7, 20, 4], 0), Err(Errno::EINVAL)),
            (vec![7], Err(Errno::EINVAL)),
        ];
        for (value, want) in same {
            assert_eq!(from_program(&value, true), want, "{value:?}");
            assert_eq!(from_program(&value, false), want, "{value:?}");
        }
        for value in [b(&[99, 4, 0, 0], 0), b(&[130, 12], 10), b(&[68, 8, 5, 2], 4)] {
            assert_eq!(from_program(&value, true), ok(&value));
            assert_eq!(from_program(&value, false), Err(Errno::EINVAL));
        }
        assert_eq!(from_program(&[131, 7, 4, 10, 1, 0, 1], false), Err(Errno::EPERM));
    }
}
