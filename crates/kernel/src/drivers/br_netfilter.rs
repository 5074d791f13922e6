//! Bridged packets meet the tables of the network layer (br_netfilter): those of IPv4 and IPv6 at PRE_ROUTING, FORWARD and
//! POST_ROUTING, as if the bridge routed them.
//!
//! ```text
//!   handle_frame ─▶ pre_routing ─▶ same destination: the bridge goes on
//!                        │        ├▶ another, behind the bridge: to that neighbour's address
//!                        │        └▶ another, elsewhere or here: up to the machine
//!   forward ─▶ FORWARD ─▶ POST_ROUTING ─▶ cut as it came, or as the bridge's MTU wants ─▶ out of the port
//! ```
//!
//! Left out: fragments of IPv6 keep their shape (they are not put together), one header's checks are made once, not at every hook.
use super::bridge;
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::af::{self, Flow};
use crate::net::core::skb::{NfBridge, PktType, Skb};
use crate::net::core::{dev_tx, neighbour};
use crate::net::drop::DropReason;
use crate::net::ethernet;
use crate::net::ipv4::route::{InputError, RouteKind};
use crate::net::ipv4::{fragment, input};
use crate::net::ipv6::icmp::icmpv6_send;
use crate::net::ipv6::route::{Input6, ip6_route_input, ip6_route_output};
use crate::net::mib::Mib;
use crate::net::netfilter::conntrack::nf_conntrack_confirm;
use crate::net::netfilter::nft::layer2::{self, Part};
use crate::net::netfilter::{Hook, Pf, Verdict, nf_hook};
use belljar_wire::Mac;
use belljar_wire::ethernet::*;
use belljar_wire::icmpv6::ICMPV6_PKT_TOOBIG;
use belljar_wire::ipv4::Ipv4Header;
use belljar_wire::ipv6::{IPV6_HLEN, Ipv6Header, NEXTHDR_HOP};
use core::net::IpAddr;

/// `PPPOE_SES_HLEN`.
const PPPOE_HLEN: usize = 8;
const PPP_IP: u16 = 0x21;
const PPP_IPV6: u16 = 0x57;
/// `sizeof(struct arphdr)`.
const ARP_HLEN: usize = 8;

/// A bridge's own switches (`nf_call_iptables` and its kin), which count beside those of the namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NfCall {
    pub iptables: bool,
    pub ip6tables: bool,
    pub arptables: bool,
}

/// Whose tables a frame is for, and how many bytes stand between the link's header and the packet.
#[doc(alias = "is_vlan_ip")]
#[doc(alias = "is_pppoe_ip")]
fn protocol(net: &Net, ns: NsId, skb: &Skb) -> Option<(Pf, usize)> {
    let sysctl = &net.ns.get(ns)?.sysctl;
    let pf = |ip: bool| Some(if ip { Pf::V4 } else { Pf::V6 });
    match skb.protocol {
        ETH_P_IP | ETH_P_IPV6 if skb.vlan.present() && !sysctl.bridge_nf_filter_vlan_tagged.0 => None,
        p @ (ETH_P_IP | ETH_P_IPV6) => Some((pf(p == ETH_P_IP)?, 0)),
        ETH_P_PPP_SES if sysctl.bridge_nf_filter_pppoe_tagged.0 => {
            let [.., a, b] = skb.peek::<PPPOE_HLEN>()?;
            match u16::from_be_bytes([a, b]) {
                PPP_IP => Some((Pf::V4, PPPOE_HLEN)),
                PPP_IPV6 => Some((Pf::V6, PPPOE_HLEN)),
                _ => None,
            }
        }
        _ => None,
    }
}

fn called(net: &Net, ns: NsId, br: DevId, pf: Option<Pf>) -> bool {
    let (Some(n), Some(b)) = (net.ns.get(ns), bridge::of(net, br)) else { return false };
    match pf {
        Some(Pf::V4) => n.sysctl.bridge_nf_call_iptables.0 || b.nf_call.iptables,
        Some(Pf::V6) => n.sysctl.bridge_nf_call_ip6tables.0 || b.nf_call.ip6tables,
        None => n.sysctl.bridge_nf_call_arptables.0 || b.nf_call.arptables,
    }
}

/// The device that rules see: the bridge, or its VLAN where that is wanted.
#[doc(alias = "brnf_get_logical_dev")]
fn logical_dev(net: &Net, ns: NsId, br: DevId, skb: &Skb) -> DevId {
    let wanted = net.ns.get(ns).is_some_and(|n| n.sysctl.bridge_nf_pass_vlan_input_dev.0);
    let tag = skb.vlan;
    let vlan = || net.devs.get(br)?.vlans.get(&(tag.proto, tag.vid())).copied();
    if wanted && tag.present() { vlan().unwrap_or(br) } else { br }
}

/// The packet's header first, its link's header behind; undone by [`hide`].
fn show(skb: &mut Skb, (pf, between): (Pf, usize)) -> bool {
    if !skb.may_pull(between) || skb.head.pull(between).is_none() {
        return false;
    }
    skb.network_header = skb.head.start();
    skb.protocol = if pf == Pf::V4 { ETH_P_IP } else { ETH_P_IPV6 };
    true
}

#[doc(alias = "nf_bridge_push_encap_header")]
fn hide(skb: &mut Skb, between: usize) {
    if between != 0 {
        skb.head.rewind(skb.head.start().saturating_sub(between as u8));
        skb.network_header = skb.head.start();
        skb.protocol = ETH_P_PPP_SES;
    }
}

/// What comes is checked as where it is received; link padding is cut off.
#[doc(alias = "br_validate_ipv4")]
#[doc(alias = "br_validate_ipv6")]
fn validate(net: &mut Net, ns: NsId, pf: Pf, skb: &mut Skb) -> Result<(), (DropReason, &'static str)> {
    match pf {
        Pf::V4 => {
            let (reason, counter) = match input::header(skb) {
                Ok(ip) => {
                    skb.transport_header = skb.network_header + ip.ihl_bytes as u8;
                    return Ok(());
                }
                Err(bad) => bad,
            };
            net.inc(ns, counter);
            if counter == Mib::IpExtInCsumErrors {
                net.inc(ns, Mib::IpInHdrErrors);
            }
            Err((reason, "br_validate_ipv4"))
        }
        Pf::V6 => {
            let at = "br_validate_ipv6";
            let ip = skb.may_pull(IPV6_HLEN).then(|| Ipv6Header::parse(skb.head.bytes()).ok()).flatten();
            let Some(ip) = ip else {
                net.inc(ns, Mib::Ip6InHdrErrors);
                return Err((DropReason::NotSpecified, at));
            };
            let want = IPV6_HLEN + usize::from(ip.payload_len);
            match ip.payload_len {
                0 if skb.gso.is_some() || ip.next == NEXTHDR_HOP => {}
                _ if skb.len() < want => {
                    net.inc(ns, Mib::Ip6InTruncatedPkts);
                    return Err((DropReason::NotSpecified, at));
                }
                _ => skb.trim(want),
            }
            if ip.next == NEXTHDR_HOP && !hop_by_hop_fits(skb) {
                return Err((DropReason::NotSpecified, at));
            }
            skb.transport_header = skb.network_header + IPV6_HLEN as u8;
            Ok(())
        }
    }
}

/// Its options end where it ends.
#[doc(alias = "nf_ip6_check_hbh_len")]
fn hop_by_hop_fits(skb: &mut Skb) -> bool {
    if !skb.may_pull(IPV6_HLEN + 8) {
        return false;
    }
    let len = (usize::from(skb.head.bytes()[IPV6_HLEN + 1]) + 1) * 8;
    if !skb.may_pull(IPV6_HLEN + len) {
        return false;
    }
    let mut options = skb.head.bytes().get(IPV6_HLEN + 2..IPV6_HLEN + len).unwrap_or(&[]);
    while let [kind, rest @ ..] = options {
        options = match (kind, rest) {
            (0, rest) => rest,
            (_, [n, rest @ ..]) => match rest.get(usize::from(*n)..) {
                Some(rest) => rest,
                None => return false,
            },
            _ => return false,
        };
    }
    true
}

fn destination(pf: Pf, skb: &Skb) -> Option<IpAddr> {
    match pf {
        Pf::V4 => skb.ip_hdr().map(|ip| ip.dst.into()),
        Pf::V6 => Ipv6Header::parse(skb.head.at(skb.network_header)).ok().map(|ip| ip.dst.into()),
    }
}

/// A frame that came in by a port, its Ethernet header pulled; `None`: it ended here, or waits for a neighbour.
#[doc(alias = "br_nf_pre_routing")]
pub(super) fn pre_routing(net: &mut Net, (ns, br): (NsId, DevId), from: DevId, mut skb: Skb) -> Option<Skb> {
    let Some((pf, between)) = protocol(net, ns, &skb) else { return Some(skb) };
    if !called(net, ns, br, Some(pf)) {
        return Some(skb);
    }
    if !show(&mut skb, (pf, between)) {
        net.kfree_skb(skb, DropReason::NotSpecified, "br_nf_pre_routing");
        return None;
    }
    if let Err((reason, at)) = validate(net, ns, pf, &mut skb) {
        net.kfree_skb(skb, reason, at);
        return None;
    }
    let seen_as = skb.pkt_type;
    if seen_as == PktType::OtherHost {
        skb.pkt_type = PktType::Host;
    }
    let logical = logical_dev(net, ns, br, &skb);
    skb.nf_bridge = Some(NfBridge { physin: from, physout: None, pre_routing: true, passed: false, source: None });
    (skb.dev, skb.ns) = (Some(logical), Some(ns));
    net.skb_orphan(&mut skb);
    net.stage(&skb, "br_nf_pre_routing");
    let was = destination(pf, &skb);
    let mut skb = nf_hook(net, ns, pf, Hook::PreRouting, skb, (Some(logical), None)).ok()?;
    if let Some(b) = &mut skb.nf_bridge {
        b.pre_routing = false;
    }
    skb.pkt_type = seen_as;
    if was == destination(pf, &skb) {
        skb.dev = Some(from);
        hide(&mut skb, between);
        return Some(skb);
    }
    finish(net, (ns, logical), from, (pf, between), skb)
}

/// Where a packet goes whose destination was translated.
enum Goes {
    Bridged(IpAddr),
    Up,
    Nowhere(DropReason),
}

/// Translated: the bridge's own address, so that it comes up, or that of the neighbour that it is for now.
#[doc(alias = "br_nf_pre_routing_finish")]
fn finish(
    net: &mut Net,
    (ns, logical): (NsId, DevId),
    from: DevId,
    (pf, between): (Pf, usize),
    mut skb: Skb,
) -> Option<Skb> {
    let goes = match pf {
        Pf::V4 => way4(net, ns, logical, &mut skb),
        Pf::V6 => way6(net, ns, logical, &mut skb),
    };
    let hop = match goes {
        Goes::Nowhere(reason) => {
            net.kfree_skb(skb, reason, "br_nf_pre_routing_finish");
            return None;
        }
        Goes::Up => {
            let own = net.devs.get(logical).map_or(Mac::ZERO, |d| d.mac);
            redirect(&mut skb, own);
            (skb.pkt_type, skb.dev) = (PktType::Host, Some(from));
            hide(&mut skb, between);
            return Some(skb);
        }
        Goes::Bridged(hop) => hop,
    };
    net.stage(&skb, "br_nf_pre_routing_finish_bridge");
    hide(&mut skb, between);
    let known = neighbour::lookup_or_create(net, ns, logical, hop)
        .and_then(|id| net.ns.get(ns)?.neighs.get(id).map(|n| (n.state.connected(), n.mac)));
    match known {
        None => net.kfree_skb(skb, DropReason::NotSpecified, "br_nf_pre_routing_finish_bridge"),
        Some((true, mac)) => {
            redirect(&mut skb, mac);
            skb.dev = Some(from);
            return Some(skb);
        }
        Some(_) => {
            // It comes back through the bridge's own device when the neighbour has answered.
            let source = EthHeader::parse(skb.head.at(skb.mac_header)).map(|e| e.src).ok();
            if let Some(b) = &mut skb.nf_bridge {
                b.source = source;
            }
            skb.dev = Some(from);
            let mut skb = layer2::bridge(net, ns, Hook::PreRouting, Part::Behind, skb, (Some(from), None))?;
            skb.dev = Some(logical);
            let _ = neighbour::output(net, ns, logical, hop, skb);
        }
    }
    None
}

fn redirect(skb: &mut Skb, to: Mac) {
    if let Some(dst) = skb.head.at_mut(skb.mac_header).get_mut(..6) {
        dst.copy_from_slice(&to.0);
    }
}

fn way4(net: &mut Net, ns: NsId, logical: DevId, skb: &mut Skb) -> Goes {
    let Some(ip) = skb.ip_hdr() else { return Goes::Nowhere(DropReason::IpInHdr) };
    match input::routed(net, ns, logical, skb, &ip) {
        // The network layer says so.
        Err(InputError::NotForwarding | InputError::Refused(_)) => Goes::Up,
        Err(e) => Goes::Nowhere(e.reason()),
        Ok(RouteKind::Unicast) => match skb.dst {
            Some(d) if d.dev == logical => Goes::Bridged(d.gateway.unwrap_or(ip.dst.into())),
            _ => Goes::Up,
        },
        Ok(_) => Goes::Up,
    }
}

fn way6(net: &mut Net, ns: NsId, logical: DevId, skb: &mut Skb) -> Goes {
    let Ok(ip) = Ipv6Header::parse(skb.head.bytes()) else { return Goes::Nowhere(DropReason::IpInHdr) };
    match ip6_route_input(net, ns, logical, &ip, skb) {
        Input6::Forward(d) if d.dev == logical => {
            skb.dst = Some(d);
            Goes::Bridged(d.gateway.unwrap_or(ip.dst.into()))
        }
        Input6::Forward(_) | Input6::Local(_) => Goes::Up,
        // What stays on the bridge needs no forwarding.
        Input6::NotForwarding => match ip6_route_output(net, ns, &Flow::to(ip.dst.into()), ip.dst) {
            Ok(d) if d.dev == logical => {
                skb.dst = Some(d);
                Goes::Bridged(d.gateway.unwrap_or(ip.dst.into()))
            }
            Ok(_) => Goes::Up,
            Err(_) => Goes::Nowhere(DropReason::NotSpecified),
        },
        Input6::Refused(_) => Goes::Nowhere(DropReason::NotSpecified),
    }
}

/// The bridge's own device has a packet whose neighbour is known by now: as it was when it came in, but for whom it is for.
/// The port that it came in by.
#[doc(alias = "br_nf_pre_routing_finish_bridge_slow")]
pub(super) fn resume(skb: &mut Skb) -> Option<DevId> {
    let b = skb.nf_bridge.as_mut()?;
    let source = b.source.take()?;
    let from = b.physin;
    skb.mac_header = skb.head.start();
    if let Some(src) = skb.head.at_mut(skb.mac_header).get_mut(6..12) {
        src.copy_from_slice(&source.0);
    }
    let _ = skb.head.pull(ETH_HLEN);
    (skb.network_header, skb.dev) = (skb.head.start(), Some(from));
    Some(from)
}

/// A frame of a port that goes out by another, its Ethernet header pulled.
#[doc(alias = "br_nf_forward")]
pub(super) fn forward(net: &mut Net, (ns, br): (NsId, DevId), to: DevId, mut skb: Skb) -> Option<Skb> {
    if skb.protocol == ETH_P_ARP {
        // Nothing stands at ARP's FORWARD; a header has to be there.
        if called(net, ns, br, None) && !skb.may_pull(ARP_HLEN) {
            net.kfree_skb(skb, DropReason::NotSpecified, "br_nf_forward_arp");
            return None;
        }
        return Some(skb);
    }
    let (Some(mut info), Some(whose)) = (skb.nf_bridge, protocol(net, ns, &skb)) else { return Some(skb) };
    if !show(&mut skb, whose) {
        net.kfree_skb(skb, DropReason::NotSpecified, "br_nf_forward");
        return None;
    }
    info.physout = Some(to);
    skb.nf_bridge = Some(info);
    let seen_as = skb.pkt_type;
    if seen_as == PktType::OtherHost {
        skb.pkt_type = PktType::Host;
    }
    net.stage(&skb, "br_nf_forward");
    let logical = logical_dev(net, ns, br, &skb);
    let mut skb = nf_hook(net, ns, whose.0, Hook::Forward, skb, (Some(logical), Some(br))).ok()?;
    skb.pkt_type = seen_as;
    hide(&mut skb, whose.1);
    Some(skb)
}

/// What leaves by a port, its Ethernet header pulled, is given to `push`: once, or in pieces.
#[doc(alias = "br_nf_post_routing")]
#[doc(alias = "br_nf_dev_queue_xmit")]
pub(super) fn post_routing(
    net: &mut Net,
    (ns, br): (NsId, DevId),
    to: DevId,
    mut skb: Skb,
    push: fn(&mut Net, DevId, DevId, Skb),
) {
    if skb.nf_bridge.and_then(|b| b.physout).is_none() {
        return push(net, br, to, skb);
    }
    let Some((pf, between)) = protocol(net, ns, &skb) else { return push(net, br, to, skb) };
    if !show(&mut skb, (pf, between)) {
        return net.kfree_skb(skb, DropReason::NotSpecified, "br_nf_post_routing");
    }
    let seen_as = skb.pkt_type;
    if seen_as == PktType::OtherHost {
        skb.pkt_type = PktType::Host;
    }
    net.stage(&skb, "br_nf_post_routing");
    let Ok(mut skb) = nf_hook(net, ns, pf, Hook::PostRouting, skb, (None, Some(br))) else { return };
    (skb.pkt_type, skb.nf_bridge) = (seen_as, None);
    let own = net.devs.get(to).map_or(0, |d| d.mtu as usize);
    let mtu = if skb.frag_max == 0 { own } else { own.min(skb.frag_max.into()) };
    if skb.gso.is_some() || skb.len() + between <= mtu {
        hide(&mut skb, between);
        return push(net, br, to, skb);
    }
    let limit = net.devs.get(br).map_or(0, |d| d.mtu);
    match pf {
        Pf::V4 => refragment(net, (ns, br), to, (between, limit), skb, push),
        Pf::V6 if skb.len() > limit as usize => {
            icmpv6_send(net, &skb, ICMPV6_PKT_TOOBIG, 0, limit);
            net.inc(ns, Mib::Ip6FragFails);
            net.kfree_skb(skb, DropReason::PktTooBig, "ip6_fragment");
        }
        Pf::V6 => {
            hide(&mut skb, between);
            push(net, br, to, skb);
        }
    }
}

/// Each piece with the link's header of the whole.
#[doc(alias = "br_nf_ip_fragment")]
fn refragment(
    net: &mut Net,
    (ns, br): (NsId, DevId),
    to: DevId,
    (between, limit): (usize, u32),
    skb: Skb,
    push: fn(&mut Net, DevId, DevId, Skb),
) {
    let df = Ipv4Header::parse(skb.head.bytes()).is_ok_and(|ip| ip.df);
    if (df && skb.frag_max == 0) || u32::from(skb.frag_max) > limit {
        net.inc(ns, Mib::IpFragFails);
        return net.kfree_skb(skb, DropReason::PktTooBig, "br_nf_ip_fragment");
    }
    let mtu = if skb.frag_max == 0 { limit } else { limit.min(skb.frag_max.into()) };
    let header: [u8; ETH_HLEN + PPPOE_HLEN] = {
        let mut b = [0; ETH_HLEN + PPPOE_HLEN];
        let n = ETH_HLEN + between;
        match skb.head.at(skb.mac_header).get(..n) {
            Some(h) => b[..n].copy_from_slice(h),
            None => return net.kfree_skb(skb, DropReason::DevHdr, "br_nf_ip_fragment"),
        }
        b
    };
    let vlan = skb.vlan;
    let _ = fragment::ip_do_fragment(net, ns, mtu, skb, |net, mut piece| {
        let n = ETH_HLEN + between;
        if let Some(room) = piece.head.push(n) {
            room.copy_from_slice(&header[..n]);
        }
        (piece.mac_header, piece.vlan) = (piece.head.start(), vlan);
        let _ = piece.head.pull(ETH_HLEN);
        piece.network_header = piece.head.start();
        if between != 0 {
            piece.protocol = ETH_P_PPP_SES;
        }
        push(net, br, to, piece);
        Ok(())
    });
}

/// What goes up to the machine is no longer new to its connection, unless it is a copy of what was for others.
#[doc(alias = "br_nf_local_in")]
pub(super) fn local_in(net: &mut Net, ns: NsId, promisc: bool, mut skb: Skb) -> Option<Skb> {
    if skb.nf.ct.is_none() {
        return Some(skb);
    }
    if promisc {
        net.ct_put(std::mem::take(&mut skb.nf));
    } else if skb.pkt_type != PktType::Host && nf_conntrack_confirm(net, ns, &skb) != Verdict::Accept {
        net.kfree_skb(skb, DropReason::NetfilterDrop, "br_nf_local_in");
        return None;
    }
    Some(skb)
}

/// An answer in the name of a packet's receiver, with its address on the link: out of the port that the packet came by.
pub(crate) fn answer(net: &mut Net, old: &Skb, mut skb: Skb) {
    let (Some(b), Ok(eth)) = (old.nf_bridge, EthHeader::parse(old.head.at(old.mac_header))) else {
        return net.consume_skb(skb);
    };
    skb.protocol = if af::addresses(&skb).0.is_ipv4() { ETH_P_IP } else { ETH_P_IPV6 };
    let protocol = skb.protocol;
    if !ethernet::push_header(&mut skb, eth.src, eth.dst, protocol) {
        return net.kfree_skb(skb, DropReason::DevHdr, "nf_send_reset");
    }
    let _ = dev_tx::dev_queue_xmit(net, b.physin, skb);
}
