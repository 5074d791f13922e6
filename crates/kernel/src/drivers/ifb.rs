//! ifb: where packets wait that filters took off their way. It has a queueing discipline as a card has, and gives each back
//! to the device that it came from: incoming traffic is shaped so.
use crate::ids::{DevId, NsId};
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::dev::DevKind;
use crate::net::core::skb::{Redirect, Skb};
use crate::net::core::softirq::{Softirq, netif_schedule};
use crate::net::core::{dev_rx, dev_tx};
use belljar_abi::Errno;
use std::collections::VecDeque;

/// `TX_Q_LIMIT`.
const TX_QUEUE_LEN: u32 = 32;

/// The driver's part of one.
#[derive(Clone, Debug, Default)]
pub struct Ifb {
    /// What the tasklet gives back.
    queue: VecDeque<Skb>,
    pending: bool,
}

impl Ifb {
    pub(crate) fn skbs(&self) -> impl Iterator<Item = &Skb> {
        self.queue.iter()
    }

    pub(crate) fn into_skbs(self) -> VecDeque<Skb> {
        self.queue
    }
}

impl Net {
    /// `ip link add NAME type ifb`.
    pub fn add_ifb(&mut self, ns: NsId, name: &str) -> Result<DevId, Errno> {
        let mac = self.random_mac();
        let id = self.register_netdev(ns, name, 1500, DevKind::Ifb(Box::default()))?;
        if let Some(d) = self.devs.get_mut(id) {
            (d.mac, d.iff_noarp, d.no_multicast) = (mac, true, true);
            d.tx_queue_len = TX_QUEUE_LEN;
        }
        Ok(id)
    }

    fn ifb_mut(&mut self, dev: DevId) -> Option<&mut Ifb> {
        match &mut self.devs.get_mut(dev)?.kind {
            DevKind::Ifb(i) => Some(i),
            _ => None,
        }
    }
}

/// A packet leaves the queueing discipline. One that no filter sent here is dropped, which Linux gives no reason for.
#[inline(never)]
pub fn ifb_xmit(net: &mut Net, dev: DevId, skb: Skb) {
    let Some(d) = net.devs.get_mut(dev) else { return net.consume_skb(skb) };
    d.stats.rx(1, skb.len() as u64);
    if !matches!(skb.redirect, Redirect::From { .. }) {
        d.stats.rx_dropped += 1;
        return net.consume_skb(skb);
    }
    let most = d.tx_queue_len as usize;
    let Some(i) = net.ifb_mut(dev) else { return net.consume_skb(skb) };
    let full = i.queue.len() >= most;
    i.queue.push_back(skb);
    let wake = !std::mem::replace(&mut i.pending, true);
    if let Some(d) = net.devs.get_mut(dev).filter(|_| full) {
        d.xoff |= 1;
    }
    if let Some(cpu) = net.this_cpu().filter(|_| wake) {
        cpu.tasklets.push_back(dev);
        cpu.raise(Softirq::Tasklet);
    }
}

/// Everything that waits goes back to where it came from.
#[doc(alias = "ifb_ri_tasklet")]
pub fn give_back(k: &mut Kernel, dev: DevId) {
    let Some(i) = k.net.ifb_mut(dev) else { return };
    i.pending = false;
    for mut skb in std::mem::take(&mut i.queue) {
        let Redirect::From { dev: origin, at_ingress } = skb.redirect else {
            k.net.consume_skb(skb);
            continue;
        };
        let len = skb.len() as u64;
        if let Some(d) = k.net.devs.get_mut(dev) {
            d.stats.tx(1, len);
        }
        let here = k.net.devs.get(dev).map(|d| d.ns);
        if k.net.devs.get(origin).is_none_or(|d| Some(d.ns) != here) {
            if let Some(d) = k.net.devs.get_mut(dev) {
                d.stats.tx_dropped += 1;
            }
            k.net.consume_skb(skb);
            continue;
        }
        skb.dev = Some(origin);
        skb.redirect = Redirect::Skip;
        if at_ingress {
            let link = skb.network_header.saturating_sub(skb.head.start());
            let _ = skb.head.pull(usize::from(link));
            skb.redirect = Redirect::None;
            dev_rx::receive_again(k, skb);
        } else {
            let _ = dev_tx::dev_queue_xmit(&mut k.net, origin, skb);
        }
        k.drain_rises();
    }
    if let Some(d) = k.net.devs.get_mut(dev).filter(|d| d.xoff & 1 != 0) {
        d.xoff &= !1;
        netif_schedule(&mut k.net, dev);
    }
}
