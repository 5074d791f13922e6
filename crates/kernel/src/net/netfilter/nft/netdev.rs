//! Chains at a device: they see its frames as they come in, whatever they are, and before they go out.
use super::eval::{self, At, Link};
use super::{Nft, Stand};
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::core::skb::Skb;
use crate::net::drop::DropReason;
use crate::net::netfilter::packet::Pkt;
use crate::net::netfilter::{Devs, Hook, Verdict};
use crate::net::packet::link_of;
use belljar_abi::nf_tables::NFPROTO_NETDEV;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Ingress,
    Egress,
}

impl Way {
    pub fn name(self) -> &'static str {
        if self == Way::Ingress { "INGRESS" } else { "EGRESS" }
    }

    /// The hook of the network layer whose place it takes in what expressions ask.
    pub fn hook(self) -> Hook {
        if self == Way::Ingress { Hook::PreRouting } else { Hook::PostRouting }
    }
}

/// A frame that came in, its link header pulled; `None`: it ended here.
#[doc(alias = "nf_ingress")]
#[cold]
pub fn ingress(net: &mut Net, ns: NsId, dev: DevId, mut skb: Skb) -> Option<Skb> {
    match run(net, ns, dev, Way::Ingress, &mut skb, 0) {
        Verdict::Accept => Some(skb),
        _ => {
            net.kfree_skb(skb, DropReason::NetfilterDrop, "nf_hook_slow");
            None
        }
    }
}

/// A whole frame that is to go out.
#[doc(alias = "nf_hook_egress")]
#[cold]
pub fn egress(net: &mut Net, dev: DevId, mut skb: Skb) -> Option<Skb> {
    let Some((ns, header)) = net.devs.get(dev).map(|d| (d.ns, link_of(d).0)) else { return Some(skb) };
    let start = skb.head.start();
    if skb.head.pull(header).is_none() {
        return Some(skb);
    }
    (skb.mac_header, skb.network_header) = (start, skb.head.start());
    let verdict = run(net, ns, dev, Way::Egress, &mut skb, header);
    skb.head.rewind(start);
    if verdict == Verdict::Accept {
        return Some(skb);
    }
    net.kfree_skb(skb, DropReason::NetfilterDrop, "nf_hook_slow");
    None
}

fn run(net: &mut Net, ns: NsId, dev: DevId, way: Way, skb: &mut Skb, header: usize) -> Verdict {
    let Some(mut nf) = net.ns.get_mut(ns).and_then(|n| n.nf.take()) else { return Verdict::Accept };
    let verdict = chains(net, &mut nf.nft, ns, dev, way, skb, header);
    if let Some(n) = net.ns.get_mut(ns) {
        n.nf = Some(nf);
    }
    verdict
}

fn chains(net: &mut Net, nft: &mut Nft, ns: NsId, dev: DevId, way: Way, skb: &mut Skb, header: usize) -> Verdict {
    let devs: Devs = if way == Way::Ingress { (Some(dev), None) } else { (None, Some(dev)) };
    let (p, is_ip) = Pkt::at_link(net, skb, true, header, devs);
    let link = Link { family: NFPROTO_NETDEV, protocol: skb.protocol, is_ip, name: way.name() };
    let a = At { ns, hook: way.hook(), devs, link: Some(link) };
    let mut n = 0;
    while let Some(s) = nft.netdev[way as usize].get(n).copied() {
        n += 1;
        if !net.devs.get(dev).is_some_and(|d| nft.stands_at(s, &d.name)) {
            continue;
        }
        match eval::stand(net, nft, s, a, &p, skb) {
            Verdict::Accept => {}
            verdict => return verdict,
        }
    }
    Verdict::Accept
}

impl Nft {
    fn stands_at(&self, s: Stand, name: &str) -> bool {
        let base = self.tables.get(s.table).and_then(|t| t.chains.get(s.chain)).and_then(|c| c.base.as_ref());
        base.and_then(|b| b.at.as_ref()).is_some_and(|a| a.devices.iter().any(|d| **d == *name))
    }
}

/// Whether chains stand at a device: they name it, whether it is there yet or not.
pub fn watch(net: &mut Net, ns: NsId, dev: DevId) {
    let nft = net.ns.get(ns).and_then(|n| n.nf.as_ref()).map(|nf| &nf.nft);
    let Some(d) = net.devs.get_mut(dev) else { return };
    d.nf_netdev = nft.is_some_and(|nft| nft.netdev.iter().flatten().any(|s| nft.stands_at(*s, &d.name)));
}
