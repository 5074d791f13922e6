//! Packets, and copies of them, that filters send to another device: out by it, or in as if it had received them.
//!
//! They wait here until nothing of the device they came from is borrowed any more, and then go one after another; what they
//! meet on their way may send further ones, `NEST_LIMIT` deep.
use super::act::{ActId, At};
use super::clone_of;
use crate::ids::DevId;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::dev::DevKind;
use crate::net::core::skb::{Redirect, SkBuff, Skb};
use crate::net::core::{dev_rx, dev_tx};
use crate::net::drop::DropReason;
use belljar_abi::pkt_sched::*;

/// `MIRRED_NEST_LIMIT`.
const NEST_LIMIT: u8 = 4;
/// How often a packet is sent on at most, through queues as well: one that goes in a circle ends, where Linux would go on with
/// it for ever.
const MOST_TRIPS: u8 = 32;
/// Copies that may come of one packet: filters that send to each other multiply it.
const MOST_COPIES: u32 = 256;

/// Where to, how, and whether the packet was on its way in when it was sent there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct To {
    pub dev: DevId,
    /// `TCA_EGRESS_REDIR` and its like.
    pub how: u32,
    pub at_ingress: bool,
}

impl To {
    fn is_redirect(self) -> bool {
        matches!(self.how, TCA_EGRESS_REDIR | TCA_INGRESS_REDIR)
    }

    fn wants_ingress(self) -> bool {
        matches!(self.how, TCA_INGRESS_REDIR | TCA_INGRESS_MIRROR)
    }
}

/// Packets under way, and how deep in each other.
#[derive(Clone, Debug, Default)]
pub struct Way {
    waiting: Vec<(ActId, To, Skb)>,
    /// Where the packet itself goes that filters look at now.
    taken: Option<(ActId, To)>,
    nest: u8,
    copies: u32,
    /// Where somebody was turned away because it was too deep.
    deep: Option<DevId>,
}

impl Way {
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.deep.is_none()
    }

    pub(super) fn is_too_deep(&mut self, skb: &SkBuff) -> bool {
        let too_deep = self.nest >= NEST_LIMIT || skb.sent_on >= MOST_TRIPS;
        if too_deep {
            self.deep = skb.dev;
        }
        too_deep
    }

    /// A packet, or a copy of it, is to go; what the action says of it.
    #[doc(alias = "tcf_mirred_to_dev")]
    pub(super) fn send(&mut self, (id, to): (ActId, To), control: i32, skb: &SkBuff, at: &mut At<'_>) -> i32 {
        let reinsert = matches!(control, TC_ACT_SHOT | TC_ACT_STOLEN | TC_ACT_QUEUED | TC_ACT_TRAP);
        if to.is_redirect() && reinsert {
            self.taken = Some((id, to));
            return TC_ACT_STOLEN;
        }
        if self.copies < MOST_COPIES {
            self.copies += 1;
            self.waiting.push((id, to, clone_of(skb, at.env, at.pool)));
        }
        control
    }

    /// The packet that filters looked at goes where they said; back comes one that stays.
    pub(super) fn take(&mut self, skb: Skb) -> Option<Skb> {
        let Some((id, to)) = self.taken.take() else { return Some(skb) };
        self.waiting.push((id, to, skb));
        None
    }

    pub(crate) fn skbs(&self) -> impl Iterator<Item = &Skb> {
        self.waiting.iter().map(|w| &w.2)
    }
}

/// What was sent on the way out of a device goes.
#[cold]
pub fn forward(net: &mut Net) {
    each(net, |net| net, dev_rx::netif_rx);
}

/// What was sent on the way in goes.
#[cold]
pub fn forward_in(k: &mut Kernel) {
    each(k, |k| &mut k.net, dev_rx::netif_receive_skb);
}

/// `T` is what a packet needs that comes in at once.
fn each<T>(t: &mut T, net: impl Fn(&mut T) -> &mut Net, receive: impl Fn(&mut T, Skb)) {
    let way = &mut net(t).tc.acts.way;
    let waiting = std::mem::take(&mut way.waiting);
    let deep = std::mem::take(&mut way.deep);
    way.nest += 1;
    if let Some(d) = deep.and_then(|dev| net(t).devs.get(dev)) {
        let line = format!("Packet exceeded mirred recursion limit on dev {}", d.name);
        net(t).kmsg_ratelimited(&line);
    }
    for (id, to, skb) in waiting {
        let Some(skb) = ready(net(t), id, to, skb) else { continue };
        if to.wants_ingress() {
            receive(t, skb);
        } else if dev_tx::dev_queue_xmit(net(t), to.dev, skb).is_err() {
            overlimit(net(t), id);
        }
    }
    let way = &mut net(t).tc.acts.way;
    way.nest -= 1;
    if way.nest == 0 {
        way.copies = 0;
    }
}

fn overlimit(net: &mut Net, id: ActId) {
    if let Some(a) = net.tc.acts.get_mut(id) {
        a.stats.overlimits += 1;
    }
}

/// A packet as its new device wants it; `None`: that is down, and the packet gone.
fn ready(net: &mut Net, id: ActId, to: To, mut skb: Skb) -> Option<Skb> {
    let from = skb.dev;
    let Some(d) = net.devs.get(to.dev).filter(|d| d.up && d.carrier) else {
        let name = net.devs.get(to.dev).map_or_else(String::new, |d| d.name.clone());
        net.kmsg_ratelimited(&format!("tc mirred to Houston: device {name} is down"));
        overlimit(net, id);
        refuse(net, from, to, skb);
        return None;
    };
    let is_ifb = matches!(d.kind, DevKind::Ifb(_));
    // Connections are tracked anew there (`nf_reset_ct`); that of a copy is still the other packet's.
    let nf = std::mem::take(&mut skb.nf);
    if to.is_redirect() {
        net.ct_put(nf);
    }
    if !to.at_ingress {
        skb.mac_header = skb.head.start();
        skb.protocol = skb.protocol_or_ip();
        net.skb_orphan(&mut skb);
    }
    if to.wants_ingress() {
        let pulled = skb.network_header.saturating_sub(skb.head.start());
        let _ = skb.head.pull(usize::from(pulled));
    } else {
        skb.head.rewind(skb.mac_header);
    }
    if to.wants_ingress() && !to.at_ingress {
        skb.dst = None;
    }
    if to.is_redirect() && to.at_ingress {
        skb.tstamp = 0;
    }
    skb.dev = Some(to.dev);
    skb.sent_on += 1;
    skb.redirect = match from {
        Some(dev) if is_ifb && to.is_redirect() => Redirect::From { dev, at_ingress: to.at_ingress },
        _ => Redirect::None,
    };
    Some(skb)
}

/// One that was to go to a device that is down is dropped as by a filter; of a copy nobody hears.
fn refuse(net: &mut Net, from: Option<DevId>, to: To, skb: Skb) {
    if !to.is_redirect() {
        return net.consume_skb(skb);
    }
    if let Some(i) = from.and_then(|d| net.devs.get_mut(d)).and_then(|d| d.qdisc.ingress.as_mut()) {
        i.stats.drops += 1;
    }
    let reason = if to.at_ingress { DropReason::TcIngress } else { DropReason::TcEgress };
    net.kfree_skb(skb, reason, "tcf_mirred_to_dev");
}
