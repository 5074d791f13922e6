//! A pair of devices: what one sends, the other receives, through the backlog of this CPU. With GRO, which is off until
//! somebody turns it on, an end has a ring and a NAPI: `veth_rx`.
use super::veth_rx::{self, VethRx};
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::core::dev::{DevKind, NetDevice};
use crate::net::core::dev_rx;
use crate::net::core::skb::Skb;
use crate::net::drop::DropReason;
use crate::net::ethernet;
use belljar_abi::Errno;
use belljar_wire::ethernet::ETH_HLEN;

/// The driver's part of one end.
#[derive(Clone, Debug, Default)]
pub struct Veth {
    /// The other end; none while one of them is being made or goes.
    pub peer: Option<DevId>,
    /// With GRO.
    pub rx: Option<Box<VethRx>>,
}

/// A frame may be longer than the MTU by its header and a VLAN tag.
const VLAN_HLEN: usize = 4;

impl Net {
    /// Both ends, down: the peer comes first, as `ip link add A type veth peer name B` numbers them.
    #[doc(alias = "veth_newlink")]
    pub fn add_veth(
        &mut self,
        (ns, name): (NsId, &str),
        (peer_ns, peer_name): (NsId, &str),
    ) -> Result<(DevId, DevId), Errno> {
        let (mac, peer_mac) = (self.random_mac(), self.random_mac());
        let peer = self.register_netdev(peer_ns, peer_name, 1500, DevKind::Veth(Veth::default()))?;
        let dev = match self.register_netdev(ns, name, 1500, DevKind::Veth(Veth { peer: Some(peer), rx: None })) {
            Ok(dev) => dev,
            Err(e) => {
                self.unregister_netdev(peer);
                return Err(e);
            }
        };
        for (id, mac, other) in [(dev, mac, peer), (peer, peer_mac, dev)] {
            if let Some(d) = self.devs.get_mut(id) {
                (d.mac, d.carrier, d.kind) = (mac, false, DevKind::Veth(Veth { peer: Some(other), rx: None }));
                d.features.gro = false;
            }
        }
        self.know_each_other(ns, peer_ns);
        Ok((dev, peer))
    }
}

fn peer_of(net: &Net, dev: DevId) -> Option<DevId> {
    match &net.devs.get(dev)?.kind {
        DevKind::Veth(v) => v.peer,
        _ => None,
    }
}

/// Carrier is on while both ends are up.
pub fn follow(net: &mut Net, dev: DevId) {
    let Some(peer) = peer_of(net, dev) else { return };
    let up = |id| net.devs.get(id).is_some_and(|d| d.up);
    let both = up(dev) && up(peer);
    for id in [dev, peer] {
        if net.devs.get(id).is_some_and(|d| d.carrier != both) {
            net.set_carrier(id, both);
        }
    }
}

/// The ends let go of each other; returns the other one.
pub fn part(net: &mut Net, dev: DevId) -> Option<DevId> {
    let peer = peer_of(net, dev)?;
    for id in [dev, peer] {
        let _ = net.set_link(id, false);
        veth_rx::set_gro(net, id, false);
    }
    for id in [dev, peer] {
        if let Some(d) = net.devs.get_mut(id) {
            d.kind = DevKind::Veth(Veth::default());
        }
    }
    Some(peer)
}

/// Nothing of the sender's namespace goes along (`skb_scrub_packet`): mark, priority, route. The bytes count against the
/// sending socket until they are received.
#[inline(never)]
pub fn veth_xmit(net: &mut Net, dev: DevId, mut skb: Skb) {
    let len = skb.len();
    let Some(d) = net.devs.get(dev) else { return net.consume_skb(skb) };
    let (ns, peer, tso) = (d.ns, peer_of(net, dev), d.features.tso || d.features.tso6);
    let there = peer.and_then(|id| Some((id, net.devs.get(id)?)));
    let there = there.filter(|(_, p)| p.up && is_skb_forwardable(p.mtu, &skb));
    // What comes in super-segments already has nothing from GRO.
    let napi = |p: &NetDevice| !tso && matches!(&p.kind, DevKind::Veth(v) if v.rx.is_some());
    let Some((peer, own, peer_ns, napi)) = there.map(|(id, p)| (id, p.mac, p.ns, napi(p))) else {
        return drop_both(net, dev, peer, skb);
    };
    if napi && !veth_rx::has_room(net, peer) {
        return drop_both(net, dev, Some(peer), skb);
    }
    scrub(net, &mut skb, ns != peer_ns);
    skb.dev = Some(peer);
    if !ethernet::type_trans(&mut skb, own) {
        return net.kfree_skb(skb, DropReason::PktTooSmall, "veth_xmit");
    }
    if let Some(d) = net.devs.get_mut(dev) {
        d.stats.tx(1, len as u64);
    }
    if let Some(p) = net.devs.get_mut(peer) {
        p.stats.rx(1, len as u64);
    }
    if napi {
        return veth_rx::enqueue(net, peer, skb);
    }
    dev_rx::netif_rx(net, skb);
}

fn drop_both(net: &mut Net, dev: DevId, peer: Option<DevId>, skb: Skb) {
    if let Some(p) = peer.and_then(|p| net.devs.get_mut(p)) {
        p.stats.rx_dropped += 1;
    }
    if let Some(d) = net.devs.get_mut(dev) {
        d.stats.tx_dropped += 1;
    }
    net.kfree_skb(skb, DropReason::NotSpecified, "veth_xmit");
}

/// Short enough for the next device, or a super-segment, which is cut there.
pub(crate) fn is_skb_forwardable(mtu: u32, skb: &Skb) -> bool {
    skb.gso.is_some() || skb.len() <= mtu as usize + ETH_HLEN + VLAN_HLEN
}

/// What a packet must not carry from one device to another; between namespaces neither its mark.
#[doc(alias = "skb_scrub_packet")]
pub(crate) fn scrub(net: &mut Net, skb: &mut Skb, other_ns: bool) {
    if let Some(tx) = &mut skb.tx {
        tx.copied = true;
        net.zerocopy_free(skb);
    }
    // Every namespace tracks its own connections (`nf_reset_ct`).
    net.ct_put(std::mem::take(&mut skb.nf));
    (skb.tproxy, skb.nf_trace, skb.nf_bridge, skb.seen_sock) = (None, false, None, None);
    (skb.dst, skb.priority, skb.ip_id, skb.frag_max) = (None, 0, None, 0);
    (skb.looped, skb.no_mc_loop, skb.tstamp) = (false, false, 0);
    if other_ns {
        skb.mark = 0;
    }
}
