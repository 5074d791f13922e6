//! An end of a veth pair with GRO (`ethtool -K DEV gro on`): what comes in waits in a ring, and a NAPI of its own takes it out.
//! Nothing interrupts here: while it polls, or waits for its timer, whoever sends only puts into the ring.
use crate::ids::DevId;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::dev::DevKind;
use crate::net::core::napi::{self, NapiState};
use crate::net::core::skb::Skb;
use crate::net::core::{dev_rx, gro};
use crate::net::drop::DropReason;
use crate::net::udp;
use belljar_wire::{Csum, gso};
use std::collections::VecDeque;

/// Packets that wait for NAPI.
const VETH_RING_SIZE: usize = 256;

/// See the module (`struct veth_rq`).
#[derive(Clone, Debug, Default)]
pub struct VethRx {
    pub napi: NapiState,
    ring: VecDeque<Skb>,
    /// Its NAPI need not be told of packets (`rx_notify_masked`).
    masked: bool,
    gro: (gro::Held, udp::gro::Held, Vec<Skb>),
}

impl VethRx {
    pub fn skbs(&self) -> impl Iterator<Item = &Skb> {
        self.ring.iter().chain(gro::skbs(&self.gro.0)).chain(udp::gro::skbs(&self.gro.1))
    }

    fn into_skbs(self) -> impl Iterator<Item = Skb> {
        self.ring.into_iter().chain(gro::into_skbs(self.gro.0)).chain(udp::gro::into_skbs(self.gro.1))
    }
}

pub fn of_mut(net: &mut Net, dev: DevId) -> Option<&mut VethRx> {
    match &mut net.devs.get_mut(dev)?.kind {
        DevKind::Veth(v) => v.rx.as_deref_mut(),
        _ => None,
    }
}

/// GRO on: a ring and a NAPI; off: both go, with what they hold.
#[doc(alias = "veth_set_features")]
pub fn set_gro(net: &mut Net, dev: DevId, on: bool) {
    let id = if on { net.new_napi_id() } else { 0 };
    let Some(d) = net.devs.get_mut(dev) else { return };
    d.features.gro = on;
    let DevKind::Veth(v) = &mut d.kind else { return };
    let new = || VethRx { napi: NapiState::new(id), ..VethRx::default() };
    let old = match (on, v.rx.is_some()) {
        (true, false) => v.rx.replace(Box::new(new())),
        (false, true) => v.rx.take(),
        _ => None,
    };
    let Some(old) = old else { return };
    napi::forget(net, dev);
    for skb in old.into_skbs() {
        net.kfree_skb(skb, DropReason::NotSpecified, "veth_napi_del");
    }
}

pub fn has_room(net: &mut Net, dev: DevId) -> bool {
    of_mut(net, dev).is_some_and(|r| r.ring.len() < VETH_RING_SIZE)
}

/// Into the ring, which [`has_room`].
#[doc(alias = "veth_xdp_rx")]
pub fn enqueue(net: &mut Net, dev: DevId, skb: Skb) {
    net.stage(&skb, "veth_xdp_rx");
    let Some(r) = of_mut(net, dev) else { return net.kfree_skb(skb, DropReason::NotSpecified, "veth_xmit") };
    r.ring.push_back(skb);
    if !std::mem::replace(&mut r.masked, true) {
        let cpu = net.cpu;
        napi::napi_schedule(net, dev, 0, cpu);
    }
}

/// Up to `budget` packets through GRO.
#[doc(alias = "veth_poll")]
#[inline(never)]
pub fn poll(k: &mut Kernel, dev: DevId, budget: u32) -> u32 {
    let Some(r) = of_mut(&mut k.net, dev) else { return 0 };
    let napi_id = r.napi.id;
    let (mut held, mut datagrams, mut up) = std::mem::take(&mut r.gro);
    let mut work = 0;
    while work < budget {
        let Some(mut skb) = of_mut(&mut k.net, dev).and_then(|r| r.ring.pop_front()) else { break };
        work += 1;
        if let Some(c) = k.net.this_cpu() {
            c.stat.processed += 1;
        }
        skb.napi_id = napi_id;
        if skb.csum == Csum::None && gso::verify(&skb.whole_frame()).is_ok() {
            skb.csum = Csum::Unnecessary;
        }
        if let Some(skb) = udp::gro::gro_receive(k, dev, &mut datagrams, skb, &mut up) {
            gro::gro_receive(&mut k.net, &mut held, skb, &mut up);
        }
        deliver(k, &mut up);
    }
    let holds = !held.is_empty() || !datagrams.is_empty();
    let end = napi::ending(&mut k.net, dev, 0, work, work >= budget, holds);
    gro::gro_flush(&mut held, &mut up, end.flush);
    udp::gro::gro_flush(&mut datagrams, &mut up, end.flush);
    deliver(k, &mut up);
    match of_mut(&mut k.net, dev) {
        Some(r) => r.gro = (held, datagrams, up),
        None => {
            let left = gro::into_skbs(held).chain(udp::gro::into_skbs(datagrams));
            left.for_each(|skb| k.net.kfree_skb(skb, DropReason::NotSpecified, "veth_napi_del"));
        }
    }
    if work < budget && napi::rest(&mut k.net, dev, 0, &end) {
        unmask(&mut k.net, dev);
    }
    work
}

/// It may be told again; of what came while the stack answered it is told at once.
fn unmask(net: &mut Net, dev: DevId) {
    let Some(r) = of_mut(net, dev) else { return };
    r.masked = !r.ring.is_empty();
    if r.masked {
        let cpu = net.cpu;
        napi::napi_schedule(net, dev, 0, cpu);
    }
}

fn deliver(k: &mut Kernel, up: &mut Vec<Skb>) {
    for skb in up.drain(..) {
        dev_rx::netif_receive_skb(k, skb);
        k.drain_rises();
    }
}
