//! Chains of the families bridge and arp: what a bridge takes in, passes on, hands up and sends; what ARP hears and says. Here too:
//! the link's header as expressions see it, with its tag where it was.
use super::eval::{self, At, Link};
use super::{Nft, Stand};
use crate::ids::NsId;
use crate::net::Net;
use crate::net::core::skb::{SkBuff, Skb};
use crate::net::drop::DropReason;
use crate::net::netfilter::packet::Pkt;
use crate::net::netfilter::{Devs, Hook, Verdict};
use belljar_abi::nf_tables::{NFPROTO_ARP, NFPROTO_BRIDGE};
use belljar_wire::ethernet::ETH_HLEN;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Bridge,
    Arp,
}

impl Family {
    pub fn of(nfproto: u8) -> Option<Family> {
        match nfproto {
            NFPROTO_BRIDGE => Some(Family::Bridge),
            NFPROTO_ARP => Some(Family::Arp),
            _ => None,
        }
    }

    /// The hook of a number, and back; ARP has two, with numbers of their own.
    pub fn hook(self, number: u32) -> Option<Hook> {
        match self {
            Family::Bridge => Hook::ALL.get(number as usize).copied(),
            Family::Arp => [Hook::LocalIn, Hook::LocalOut].get(number as usize).copied(),
        }
    }

    pub fn number(self, hook: Hook) -> u32 {
        match (self, hook) {
            (Family::Bridge, hook) => hook as u32,
            (Family::Arp, Hook::LocalIn) => 0,
            (Family::Arp, _) => 1,
        }
    }

    fn nfproto(self) -> u8 {
        if self == Family::Bridge { NFPROTO_BRIDGE } else { NFPROTO_ARP }
    }
}

/// Where br_netfilter stands in between (`NF_BR_PRI_BRNF`): chains of its priority come before it, as they are younger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    All,
    Before,
    Behind,
}

impl Part {
    fn has(self, priority: i32) -> bool {
        match self {
            Part::All => true,
            Part::Before => priority <= 0,
            Part::Behind => priority > 0,
        }
    }
}

/// A frame at a hook of a bridge, its link header pulled; `None`: it ended here.
#[inline]
pub fn bridge(net: &mut Net, ns: NsId, hook: Hook, part: Part, skb: Skb, devs: Devs) -> Option<Skb> {
    if net.nf_active { run(net, ns, (Family::Bridge, part), hook, skb, devs, 0) } else { Some(skb) }
}

/// A packet of ARP, `header` bytes of a link header in front of it counting.
#[inline]
pub fn arp(net: &mut Net, ns: NsId, hook: Hook, skb: Skb, devs: Devs, header: usize) -> Option<Skb> {
    if net.nf_active { run(net, ns, (Family::Arp, Part::All), hook, skb, devs, header) } else { Some(skb) }
}

#[cold]
fn run(
    net: &mut Net,
    ns: NsId,
    (family, part): (Family, Part),
    hook: Hook,
    mut skb: Skb,
    devs: Devs,
    header: usize,
) -> Option<Skb> {
    let here = |nft: &Nft| nft.layer2[family as usize][hook as usize].iter().any(|s| part.has(s.priority));
    if !net.ns.get(ns).and_then(|n| n.nf.as_ref()).is_some_and(|nf| here(&nf.nft)) {
        return Some(skb);
    }
    let mut nf = net.ns.get_mut(ns).and_then(|n| n.nf.take())?;
    let verdict = chains(net, &mut nf.nft, ns, (family, part), hook, &mut skb, devs, header);
    if let Some(n) = net.ns.get_mut(ns) {
        n.nf = Some(nf);
    }
    if verdict == Verdict::Accept {
        return Some(skb);
    }
    net.kfree_skb(skb, DropReason::NetfilterDrop, "nf_hook_slow");
    None
}

#[allow(clippy::too_many_arguments)]
fn chains(
    net: &mut Net,
    nft: &mut Nft,
    ns: NsId,
    (family, part): (Family, Part),
    hook: Hook,
    skb: &mut Skb,
    devs: Devs,
    header: usize,
) -> Verdict {
    let (p, is_ip) = Pkt::at_link(net, skb, family == Family::Bridge, header, devs);
    let link = Link { family: family.nfproto(), protocol: skb.protocol, is_ip, name: hook.chain() };
    let a = At { ns, hook, devs, link: Some(link) };
    let mut n = 0;
    while let Some(s) = next(nft, family, hook, &mut n) {
        if !part.has(s.priority) {
            continue;
        }
        match eval::stand(net, nft, s, a, &p, skb) {
            Verdict::Accept => {}
            verdict => return verdict,
        }
    }
    Verdict::Accept
}

fn next(nft: &Nft, family: Family, hook: Hook, n: &mut usize) -> Option<Stand> {
    let s = nft.layer2[family as usize][hook as usize].get(*n).copied();
    *n += 1;
    s
}

/// `VLAN_HLEN`.
const TAG: usize = 4;

/// Bytes from the link's header on; a tag that was taken off is where it was. False without a header, or behind the end.
#[doc(alias = "nft_payload_copy_vlan")]
pub fn read(skb: &SkBuff, offset: usize, to: &mut [u8]) -> bool {
    if skb.network_header <= skb.mac_header {
        return false;
    }
    let bytes = skb.head.at(skb.mac_header);
    let tag = skb.vlan;
    if !tag.present() {
        return bytes.get(offset..offset + to.len()).map(|b| to.copy_from_slice(b)).is_some();
    }
    let (proto, tci) = (tag.proto.to_be_bytes(), tag.tci.to_be_bytes());
    let inserted = [proto[0], proto[1], tci[0], tci[1]];
    const AT: usize = ETH_HLEN - 2;
    to.iter_mut().enumerate().all(|(n, to)| {
        let b = match offset + n {
            at @ ..AT => bytes.get(at),
            at if at < AT + TAG => inserted.get(at - AT),
            at => bytes.get(at - TAG),
        };
        b.map(|b| *to = *b).is_some()
    })
}

/// The same written.
#[doc(alias = "nft_payload_set_vlan")]
pub fn write(skb: &mut SkBuff, offset: usize, from: &[u8]) -> bool {
    if skb.network_header <= skb.mac_header {
        return false;
    }
    let at = skb.mac_header;
    if !skb.vlan.present() || offset + from.len() <= ETH_HLEN - 2 {
        let to = skb.head.at_mut(at).get_mut(offset..offset + from.len());
        return to.map(|to| to.copy_from_slice(from)).is_some();
    }
    match (offset, from) {
        (12, &[a, b]) => skb.vlan.proto = u16::from_be_bytes([a, b]),
        (14, &[a, b]) => skb.vlan.tci = u16::from_be_bytes([a, b]),
        (16.., _) => {
            let to = skb.head.at_mut(at).get_mut(offset - TAG..offset - TAG + from.len());
            return to.map(|to| to.copy_from_slice(from)).is_some();
        }
        _ => return false,
    }
    true
}
