//! Loopback: no ring, no interrupt, no checksum. The sender's memory is free at once and the packet goes to this CPU's
//! backlog, so that sending to oneself never recurses.
use crate::ids::{DevId, SockId};
use crate::net::Net;
use crate::net::core::dev_rx;
use crate::net::core::skb::{PktType, Skb};
use crate::net::ethernet;

/// `loopback_xmit`: the packet, still with its route, comes in again.
pub fn loopback_xmit(net: &mut Net, dev: DevId, mut skb: Skb) {
    // Who wrote the link header himself is believed in nothing else.
    let written = matches!(skb.owner.sock(), Some(SockId::Packet(_)));
    net.skb_orphan(&mut skb);
    if let Some(tx) = &mut skb.tx {
        tx.copied = true;
        net.zerocopy_free(&mut skb);
    }
    let len = skb.len() as u64;
    if let Some(d) = net.devs.get_mut(dev) {
        d.stats.tx(1, len);
        d.stats.rx(1, len);
    }
    if written {
        let own = net.devs.get(dev).map_or(belljar_wire::Mac::ZERO, |d| d.mac);
        let _ = ethernet::type_trans(&mut skb, own);
    } else {
        let _ = skb.head.pull(belljar_wire::ethernet::ETH_HLEN);
        skb.pkt_type = PktType::Host;
    }
    skb.tstamp = 0;
    dev_rx::netif_rx(net, skb);
}
