//! `fib`: what the routing tables say of an address of the packet.
use super::Base;
use super::eval::{At, Regs, Then};
use super::expr::{Attrs, Reg, number};
use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::skb::SkBuff;
use crate::net::ipv4::fib::{RouteType, lookup_flow};
use crate::net::ipv4::rule::FibFlow;
use crate::net::ipv6::route::route_of;
use crate::net::netfilter::Hook;
use crate::net::netfilter::matches::type_bit;
use crate::net::netfilter::packet::{Pkt, addr};
use crate::net::netlink::Done;
use belljar_abi::Errno;
use belljar_abi::netlink::Msg;
use belljar_abi::nf_tables::*;
use core::net::IpAddr;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Fib {
    dreg: Reg,
    result: u32,
    flags: u32,
}

impl Fib {
    #[doc(alias = "nft_fib_init")]
    pub fn parse(a: Attrs<'_>) -> Done<Fib> {
        let (result, flags) = (number(a, NFTA_FIB_RESULT)?, number(a, NFTA_FIB_FLAGS)?);
        let both = |pair: u32| flags & pair == pair;
        let ends = NFTA_FIB_F_SADDR | NFTA_FIB_F_DADDR;
        if flags & !NFTA_FIB_F_ALL != 0 || flags & ends == 0 || both(ends) || both(NFTA_FIB_F_IIF | NFTA_FIB_F_OIF) {
            return Err(Errno::EINVAL.into());
        }
        let len = match result {
            NFT_FIB_RESULT_OIF | NFT_FIB_RESULT_OIFNAME if flags & NFTA_FIB_F_OIF != 0 => {
                return Err(Errno::EINVAL.into());
            }
            NFT_FIB_RESULT_OIF | NFT_FIB_RESULT_ADDRTYPE => 4,
            NFT_FIB_RESULT_OIFNAME => 16,
            _ => return Err(Errno::EINVAL.into()),
        };
        Ok(Fib { dreg: Reg::parse(a.get(NFTA_FIB_DREG), len)?, result, flags })
    }

    pub fn fill(&self, m: &mut Msg<'_>) {
        for (kind, v) in
            [(NFTA_FIB_DREG, self.dreg.number()), (NFTA_FIB_RESULT, self.result), (NFTA_FIB_FLAGS, self.flags)]
        {
            m.attr(kind, &v.to_be_bytes());
        }
    }

    /// Where the devices that it asks about are known.
    #[doc(alias = "nft_fib_validate")]
    pub fn stands(&self, b: &Base) -> Result<(), Errno> {
        use Hook::*;
        let before: &[Hook] = &[PreRouting, LocalIn, Forward];
        let hooks = match self.result {
            NFT_FIB_RESULT_ADDRTYPE if self.flags & NFTA_FIB_F_IIF != 0 => before,
            NFT_FIB_RESULT_ADDRTYPE if self.flags & NFTA_FIB_F_OIF != 0 => &[LocalOut, PostRouting, Forward],
            NFT_FIB_RESULT_ADDRTYPE => &Hook::ALL,
            _ => before,
        };
        // Of devices' chains only those of what comes in know where it came in.
        let known = b.at.is_none() || b.hook == PreRouting;
        if known && hooks.contains(&b.hook) { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
    }

    #[doc(alias = "nft_fib4_eval")]
    #[doc(alias = "nft_fib6_eval")]
    pub fn eval(&self, net: &Net, regs: &mut Regs, a: At, p: &Pkt, skb: &SkBuff) -> Then {
        if a.link.is_some_and(|l| !l.is_ip) {
            return Then::Break;
        }
        let dev = match self.flags {
            f if f & NFTA_FIB_F_IIF != 0 => a.devs.0,
            f if f & NFTA_FIB_F_OIF != 0 => a.devs.1,
            _ => None,
        };
        let (of, other) = if self.flags & NFTA_FIB_F_SADDR != 0 { (p.src, p.dst) } else { (p.dst, p.src) };
        let (of, other) = (addr(p.pf, of), addr(p.pf, other));
        if self.result == NFT_FIB_RESULT_ADDRTYPE {
            let kind = type_bit(net, a.ns, of, dev).trailing_zeros();
            regs.put(self.dreg, &kind.to_ne_bytes());
            return Then::Next;
        }
        // What a host sends to itself comes the way that it went.
        let comes = matches!(a.hook, Hook::PreRouting | Hook::LocalIn);
        let lo = a.devs.0.filter(|d| comes && net.devs.get(*d).is_some_and(|d| d.is_loopback()));
        let mark = if self.flags & NFTA_FIB_F_MARK != 0 { skb.mark } else { 0 };
        let out = lo.or_else(|| way(net, a, (of, other), dev, mark)).and_then(|d| net.devs.get(d));
        match self.result {
            _ if self.flags & NFTA_FIB_F_PRESENT != 0 => regs.put(self.dreg, &[u8::from(out.is_some())]),
            NFT_FIB_RESULT_OIF => regs.put(self.dreg, &out.map_or(0, |d| d.ifindex).to_ne_bytes()),
            _ => {
                let mut name = [0; 16];
                let d = out.map_or("", |d| &d.name).as_bytes();
                name.iter_mut().zip(d.iter().take(15)).for_each(|(t, b)| *t = *b);
                regs.put(self.dreg, &name);
            }
        }
        Then::Next
    }
}

/// The device by which the address is reached; where one is asked about, that one or none.
fn way(net: &Net, a: At, (to, from): (IpAddr, IpAddr), dev: Option<DevId>, mark: u32) -> Option<DevId> {
    let found = match (to, from) {
        (IpAddr::V4(to), IpAddr::V4(from)) => {
            // A source that nobody can have says nothing about the way.
            let src = if from.is_multicast() || from.is_broadcast() { core::net::Ipv4Addr::UNSPECIFIED } else { from };
            let r = lookup_flow(net, a.ns, &FibFlow { src, mark, oif: None, ..FibFlow::to(to) })?;
            (r.kind == RouteType::Unicast).then_some(r.dev)?
        }
        (IpAddr::V6(to), IpAddr::V6(from)) => {
            let by = dev.or(a.devs.0);
            let r = route_of(net, a.ns, (from, to), by.filter(|_| belljar_wire::ipv6::needs_scope(to)), mark)?;
            (r.kind == RouteType::Unicast && !r.is_here()).then_some(r.dev)?
        }
        _ => None,
    };
    found.filter(|f| dev.is_none_or(|d| d == *f))
}
