//! Copies of packets that rules ask for (TEE, and `dup` of nf_tables): made while a hook runs, sent when it is through.
use super::*;
use crate::ids::DevId;
use crate::net::af::{self, Flow};
use crate::net::core::skb::Skb;
use crate::net::drop::DropReason;
use crate::net::ipv4::output::ip_local_out;
use crate::net::ipv4::route::Dst;
use crate::net::ipv6::output::ip6_local_out;
use crate::net::netfilter::conntrack::{CtInfo, NfCt};
use crate::net::netfilter::packet::addr;
use crate::net::netfilter::rules::IfMatch;
use belljar_wire::ipv4::{self, IPV4_HLEN};
use core::net::IpAddr;

/// A copy, sent when the hook is through; copies are not copied again.
#[doc(alias = "nf_dup_ipv4")]
pub fn tee(net: &mut Net, ns: NsId, hook: Hook, (gateway, oif): (u128, &IfMatch), p: &Pkt, skb: &SkBuff) {
    if net.nf_copies.busy {
        return;
    }
    let name = oif.text();
    let dev = if oif.is_any() { None } else { net.dev_by_name(ns, &name) };
    if !oif.is_any() && dev.is_none() {
        return;
    }
    copy(net, ns, hook, (p.pf, gateway), dev, skb);
}

/// A copy towards a router, by a device where one is named.
pub fn copy(net: &mut Net, ns: NsId, hook: Hook, (pf, gateway): (Pf, u128), dev: Option<DevId>, skb: &SkBuff) {
    let mut out = net.clone_skb(skb);
    out.nf = NfCt { info: CtInfo::Untracked, ..NfCt::default() };
    (out.nf_bridge, out.tproxy, out.seen_sock) = (None, None, None);
    // It never goes round, and one of IPv4 is cut nowhere.
    let older = u8::from(matches!(hook, Hook::PreRouting | Hook::LocalIn));
    let b = out.head.bytes_mut();
    match pf {
        Pf::V4 => {
            let len = b.first().map_or(0, |b| usize::from(b & 15) * 4);
            if let Some(b) = b.get_mut(..len).filter(|b| b.len() >= IPV4_HLEN) {
                b[6] |= 0x40;
                b[8] = b[8].wrapping_sub(older);
                ipv4::set_checksum(b);
            }
        }
        _ => b.get_mut(7).into_iter().for_each(|hops| *hops = hops.wrapping_sub(older)),
    }
    net.nf_copies.waiting.push((ns, addr(pf, gateway), dev, out));
}

/// Copies that rules asked for, until the packet's own hook is through.
#[derive(Clone, Debug, Default)]
pub struct Copies {
    waiting: Vec<(NsId, IpAddr, Option<DevId>, Skb)>,
    /// They are being sent just now.
    busy: bool,
}

impl Copies {
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Net {
    /// What rules copied goes.
    #[cold]
    pub(in crate::net::netfilter) fn nf_send_copies(&mut self) {
        if std::mem::replace(&mut self.nf_copies.busy, true) {
            return;
        }
        for (ns, to, oif, skb) in std::mem::take(&mut self.nf_copies.waiting) {
            let fl = Flow { oif, ..Flow::to(to) };
            // Whoever wanted the copy is told nothing of its end.
            let Ok(way) = af::route_output(self, ns, &fl) else {
                self.kfree_skb(skb, DropReason::IpOutNoRoutes, "nf_dup_ipv4");
                continue;
            };
            let way = Dst { gateway: way.gateway.or(Some(to)), ..way };
            let _ = match to {
                IpAddr::V4(a) => ip_local_out(self, ns, &way, a, skb),
                IpAddr::V6(a) => ip6_local_out(self, ns, &way, (a, false), skb),
            };
        }
        self.nf_copies.busy = false;
    }
}
