//! Asks a packet what an expression wants to know. Bytes that are not there make a comparison false, as in libpcap.
use super::{Dir, Expr, Num, Op, Proto};
use belljar_wire::arp::ArpPacket;
use belljar_wire::ethernet::*;
use belljar_wire::ipv4::*;
use belljar_wire::ipv6::{FRAG_HLEN, FragHeader, IPV6_HLEN, Ipv6Header, NEXTHDR_FRAGMENT};
use belljar_wire::{Frame, flow};

pub struct Packet<'a> {
    frame: &'a Frame,
    /// Length with an Ethernet header, also where the frame has none.
    len: u32,
    /// Where the network header begins, and what it is.
    net: usize,
    ethertype: u16,
    eth: Option<EthHeader>,
    ip: Option<Ipv4Header>,
    ip6: Option<Ipv6Header>,
}

impl<'a> Packet<'a> {
    pub fn new(frame: &'a Frame) -> Packet<'a> {
        let b = frame.head.bytes();
        if let Some(net) = flow::net_offset(frame) {
            let ip6 = b.get(net..).and_then(|b| Ipv6Header::parse(b).ok());
            let ip = b.get(net..).filter(|_| ip6.is_none()).and_then(|b| Ipv4Header::parse(b).ok());
            let ethertype = if ip6.is_some() { ETH_P_IPV6 } else { ETH_P_IP };
            let eth = if net > 0 { EthHeader::parse(b).ok() } else { None };
            let len = (frame.len() + if net == 0 { ETH_HLEN } else { 0 }) as u32;
            return Packet { frame, len, net, ethertype, eth, ip, ip6 };
        }
        let eth = EthHeader::parse(b).ok();
        let ethertype = eth.map_or(0, |e| e.ethertype);
        Packet { frame, len: frame.len() as u32, net: ETH_HLEN, ethertype, eth, ip: None, ip6: None }
    }

    pub fn matches(&self, e: &Expr) -> bool {
        match e {
            Expr::And(a, b) => self.matches(a) && self.matches(b),
            Expr::Or(a, b) => self.matches(a) || self.matches(b),
            Expr::Not(a) => !self.matches(a),
            Expr::Proto(p) => self.is(*p),
            Expr::EtherType(t) => self.ethertype == *t,
            Expr::Net(proto, dir, value, mask) => self.net(*proto, *dir, *value, *mask),
            Expr::Net6(dir, value, mask) => self.ip6.is_some_and(|ip| {
                let fits = |a: core::net::Ipv6Addr| a.to_bits() & mask == *value;
                dir.of(fits(ip.src), fits(ip.dst))
            }),
            Expr::Port(proto, dir, low, high) => self.port(*proto, *dir, *low, *high),
            Expr::Mac(dir, mac) => self.eth.is_some_and(|e| dir.of(e.src == *mac, e.dst == *mac)),
            Expr::Multicast => self.eth.is_some_and(|e| e.dst.is_multicast()),
            Expr::Multicast6 => self.ip6.is_some_and(|ip| ip.dst.is_multicast()),
            Expr::Broadcast => self.eth.is_some_and(|e| e.dst.is_broadcast()),
            Expr::Compare(a, op, b) => match (self.number(a), self.number(b)) {
                (Some(a), Some(b)) => op.holds(a, b),
                _ => false,
            },
        }
    }

    fn is(&self, p: Proto) -> bool {
        match p {
            Proto::Ether => true,
            Proto::Ip => self.ethertype == ETH_P_IP,
            Proto::Arp => self.ethertype == ETH_P_ARP,
            Proto::Ip6 => self.ethertype == ETH_P_IPV6,
            Proto::Over(n) => self.is(Proto::Over4(n)) || self.is(Proto::Over6(n)),
            Proto::Over4(n) => self.ip.is_some_and(|ip| ip.proto == n),
            Proto::Over6(n) => self.ip6.is_some_and(|ip| ip.next == n || self.fragment_of(&ip) == Some(n)),
        }
    }

    /// libpcap looks behind a fragment header that comes first, and behind no other.
    fn fragment_of(&self, ip: &Ipv6Header) -> Option<u8> {
        let at = self.net + IPV6_HLEN;
        let b = self.frame.head.bytes().get(at..at + FRAG_HLEN).filter(|_| ip.next == NEXTHDR_FRAGMENT)?;
        FragHeader::parse(b).ok().map(|f| f.next)
    }

    fn net(&self, proto: Option<Proto>, dir: Dir, value: u32, mask: u32) -> bool {
        if !proto.is_none_or(|p| self.is(p)) {
            return false;
        }
        let pair = match self.ip {
            Some(ip) => Some((ip.src, ip.dst)),
            None if self.ethertype == ETH_P_ARP => self.arp().map(|a| (a.spa, a.tpa)),
            None => None,
        };
        let fits = |a: core::net::Ipv4Addr| a.to_bits() & mask == value;
        pair.is_some_and(|(src, dst)| dir.of(fits(src), fits(dst)))
    }

    fn arp(&self) -> Option<ArpPacket> {
        ArpPacket::parse(self.frame.head.bytes().get(self.net..)?).ok()
    }

    fn port(&self, proto: Option<Proto>, dir: Dir, low: u16, high: u16) -> bool {
        let carries = |p: u8| matches!(p, IPPROTO_TCP | IPPROTO_UDP);
        // A first fragment has its ports in its bytes.
        let at = match (self.ip, self.ip6) {
            (Some(ip), _) if carries(ip.proto) => self.transport(),
            (_, Some(ip)) if carries(ip.next) => Some(self.net + IPV6_HLEN),
            _ => None,
        };
        let (sport, dport) = match at {
            Some(at) => match (self.load(at, 2), self.load(at + 2, 2)) {
                (Some(s), Some(d)) => (s as u16, d as u16),
                _ => return false,
            },
            None => return false,
        };
        let fits = |p: u16| (low..=high).contains(&p);
        proto.is_none_or(|p| self.is(p)) && dir.of(fits(sport), fits(dport))
    }

    fn transport(&self) -> Option<usize> {
        self.ip.filter(|ip| ip.frag_off == 0).map(|ip| self.net + ip.ihl_bytes)
    }

    fn number(&self, n: &Num) -> Option<u32> {
        match n {
            Num::Value(v) => Some(*v),
            Num::Len => Some(self.len),
            Num::Neg(a) => Some(self.number(a)?.wrapping_neg()),
            Num::Calc(a, op, b) => calc(self.number(a)?, *op, self.number(b)?),
            Num::Load(proto, at, size) => {
                let at = self.number(at)? as usize;
                let base = match proto {
                    Proto::Ether => self.eth.map(|_| 0)?,
                    Proto::Over(_) | Proto::Over4(_) => self.transport()?,
                    Proto::Over6(_) => self.ip6.map(|_| self.net + IPV6_HLEN)?,
                    _ => self.net,
                };
                if !self.is(*proto) {
                    return None;
                }
                self.load(base.checked_add(at)?, *size)
            }
        }
    }

    fn load(&self, at: usize, size: u8) -> Option<u32> {
        let mut out = [0; 4];
        let want = out.get_mut(4 - size as usize..)?;
        let head = self.frame.head.bytes();
        let linear = head.get(at..).unwrap_or(&[]);
        let n = linear.len().min(want.len());
        want.get_mut(..n)?.copy_from_slice(linear.get(..n)?);
        let got = n + self.frame.payload.copy_to((at + n).saturating_sub(head.len()), want.get_mut(n..)?);
        (got == size as usize).then(|| u32::from_be_bytes(out))
    }
}

impl Dir {
    fn of(self, src: bool, dst: bool) -> bool {
        match self {
            Dir::Src => src,
            Dir::Dst => dst,
            Dir::Either => src || dst,
            Dir::Both => src && dst,
        }
    }
}

impl Op {
    fn holds(self, a: u32, b: u32) -> bool {
        match self {
            Op::Eq => a == b,
            Op::Ne => a != b,
            Op::Lt => a < b,
            Op::Gt => a > b,
            Op::Le => a <= b,
            Op::Ge => a >= b,
        }
    }
}

/// BPF's arithmetic: 32 bits, unsigned, wrapping; division by zero ends the comparison.
fn calc(a: u32, op: char, b: u32) -> Option<u32> {
    match op {
        '+' => Some(a.wrapping_add(b)),
        '-' => Some(a.wrapping_sub(b)),
        '*' => Some(a.wrapping_mul(b)),
        '/' => a.checked_div(b),
        '%' => a.checked_rem(b),
        '&' => Some(a & b),
        '|' => Some(a | b),
        '^' => Some(a ^ b),
        '<' => Some(a.checked_shl(b).unwrap_or(0)),
        _ => Some(a.checked_shr(b).unwrap_or(0)),
    }
}
