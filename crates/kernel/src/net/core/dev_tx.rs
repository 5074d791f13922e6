//! From the network layer to a driver: queueing discipline, software offloads, taps.
use crate::drivers::{bridge, ifb, loopback, macvlan, nic, tun, tunnel, veth, vlan as vlan_dev, vxlan};
use crate::env::TimerKey;
use crate::env::trace::Dir;
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::core::dev::DevKind;
use crate::net::core::skb::{SKBTX_SCHED_TSTAMP, SKBTX_SW_TSTAMP, SkBuff, Skb};
use crate::net::core::softirq;
use crate::net::core::timestamp;
use crate::net::core::txq;
use crate::net::core::vlan;
use crate::net::drop::DropReason;
use crate::net::netfilter::nft::netdev;
use crate::net::packet;
use crate::net::sched::{Ctx, Sched, Xmit, mirred};
use belljar_abi::{Errno, SCM_TSTAMP_SCHED, SCM_TSTAMP_SND};
use belljar_wire::{Csum, GsoType, gso};

/// A complete frame for `dev`. ENETDOWN when it is down, ENOBUFS when its queue is full (NET_XMIT_DROP); when something else
/// of its flow was dropped for it, [`tc.congested`](crate::net::sched::Global::congested) says so (NET_XMIT_CN).
#[doc(alias = "__dev_queue_xmit")]
pub fn dev_queue_xmit(net: &mut Net, dev: DevId, mut skb: Skb) -> Result<(), Errno> {
    skb.dev = Some(dev);
    if skb.tx.as_ref().is_some_and(|t| t.flags & SKBTX_SCHED_TSTAMP != 0) {
        timestamp::skb_tstamp_tx(net, &skb, dev, SCM_TSTAMP_SCHED);
    }
    let Some(mut d) = net.devs.get_mut(dev).filter(|d| d.up) else {
        net.kfree_skb(skb, DropReason::DevReady, "dev_queue_xmit");
        return Err(Errno::ENETDOWN);
    };
    if d.nf_netdev | d.qdisc.ingress.is_some() {
        skb = match filters(net, dev, skb) {
            Ok(skb) => skb,
            Err(done) => return done,
        };
        let Some(again) = net.devs.get_mut(dev) else {
            net.kfree_skb(skb, DropReason::DevReady, "dev_queue_xmit");
            return Err(Errno::ENETDOWN);
        };
        d = again;
    }
    if !d.qdisc.is_noqueue() {
        return through_qdisc(net, dev, skb);
    }
    dev_hard_start_xmit(net, dev, skb);
    Ok(())
}

/// Into the device's discipline, or past it when there is nothing to wait for.
#[doc(alias = "__dev_xmit_skb")]
fn through_qdisc(net: &mut Net, dev: DevId, mut skb: Skb) -> Result<(), Errno> {
    let Some(d) = net.devs.get_mut(dev) else {
        net.kfree_skb(skb, DropReason::DevReady, "dev_queue_xmit");
        return Err(Errno::ENETDOWN);
    };
    if !d.carrier {
        // As into `noop_qdisc`: gone, and nobody is told.
        d.stats.tx_dropped += 1;
        net.kfree_skb(skb, DropReason::QdiscDrop, "noop_enqueue");
        return Ok(());
    }
    if d.tx_queues > 1 {
        skb.queue_mapping = txq::pick_tx(d, net.cpu, &skb);
    }
    if !d.stopped(skb.queue_mapping) && d.qdisc.bypass(&skb, d.mtu, d.tx_queue_len) {
        dev_hard_start_xmit(net, dev, skb);
        return Ok(());
    }
    let sent = with_qdisc(net, dev, |s, cx| Some(s.enqueue(skb, cx)));
    qdisc_run(net, dev);
    match sent {
        Some(Xmit::Drop) => Err(Errno::ENOBUFS),
        Some(Xmit::Cn) => {
            net.tc.congested = true;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Chains of nf_tables, then filters of traffic control.
#[cold]
fn filters(net: &mut Net, dev: DevId, mut skb: Skb) -> Result<Skb, Result<(), Errno>> {
    if net.devs.get(dev).is_some_and(|d| d.nf_netdev) {
        skb = netdev::egress(net, dev, skb).ok_or(Err(Errno::ENOBUFS))?;
    }
    let said = net.tc_run(dev, skb, false);
    if !net.tc.acts.way.is_idle() {
        mirred::forward(net);
    }
    said
}

/// Lends a device's disciplines; what they gave up dies afterwards, and the watchdog is set to when they want to be asked.
fn with_qdisc<R>(net: &mut Net, dev: DevId, f: impl FnOnce(&mut Sched, &mut Ctx<'_>) -> Option<R>) -> Option<R> {
    let Net { devs, env, pool, tc, .. } = net;
    let d = devs.get_mut(dev)?;
    let mut cx = Ctx::new((env, pool, &mut tc.acts), d.mtu, d.tx_queue_len);
    let out = f(&mut d.qdisc, &mut cx);
    let (drops, wake) = (std::mem::take(&mut cx.drops), cx.wake);
    if let Some((before, at)) = d.qdisc.watchdog(wake) {
        env.hrtimers.remove(&(before, TimerKey::Qdisc(dev)));
        env.hrtimers.insert((at, TimerKey::Qdisc(dev)));
    }
    for (skb, reason, at) in drops {
        net.kfree_skb(skb, reason, at);
    }
    if !net.tc.acts.way.is_idle() {
        mirred::forward(net);
    }
    out
}

/// The time came that a discipline was waiting for.
pub fn qdisc_watchdog(net: &mut Net, dev: DevId) {
    let now = net.env.now;
    if net.devs.get_mut(dev).is_some_and(|d| d.qdisc.rang(now)) {
        softirq::netif_schedule(net, dev);
    }
}

/// Sends what waits, at most dev_weight packets; the rest is NET_TX's.
#[doc(alias = "__qdisc_run")]
pub fn qdisc_run(net: &mut Net, dev: DevId) {
    let mut quota = net.sysctl.dev_weight;
    loop {
        let Some(d) = net.devs.get_mut(dev) else { return };
        if d.all_stopped() || !d.carrier || !d.up || d.qdisc.is_empty() {
            return;
        }
        let xoff = d.xoff;
        let Some(skb) = with_qdisc(net, dev, |s, cx| s.dequeue_for(xoff, cx)) else { return };
        let packets = skb.gso.map_or(1, |g| u32::from(g.segs));
        dev_hard_start_xmit(net, dev, skb);
        quota = quota.saturating_sub(packets);
        if quota == 0 {
            softirq::netif_schedule(net, dev);
            return;
        }
    }
}

/// Software segmentation and checksums where the device has none, taps, driver.
#[inline]
fn dev_hard_start_xmit(net: &mut Net, dev: DevId, mut skb: Skb) {
    let Some(d) = net.devs.get_mut(dev) else {
        net.kfree_skb(skb, DropReason::DevReady, "dev_hard_start_xmit");
        return;
    };
    d.trans_start = net.env.now;
    let (features, ns) = (d.features, d.ns);
    if skb.vlan.present() && !d.keeps_vlan_tag(skb.vlan) && !vlan::push_inside(&mut skb) {
        return net.kfree_skb(skb, DropReason::NoMem, "validate_xmit_vlan");
    }
    if !features.takes(skb.gso) || skb.gso.is_some() && !features.tso_ecn && has_cwr(&skb) {
        return segment(net, dev, skb);
    }
    if skb.csum == Csum::Partial && !features.tx_csum {
        skb_checksum_help(&mut skb);
    }
    xmit_one(net, ns, dev, skb);
}

/// A super-segment of TCP that tells its peer of congestion (SKB_GSO_TCP_ECN).
#[cold]
fn has_cwr(skb: &SkBuff) -> bool {
    let Some(g) = skb.gso.filter(|g| matches!(g.kind, GsoType::TcpV4 | GsoType::TcpV6)) else { return false };
    let ip = skb.head.at(skb.network_header);
    let flags = gso::transport(ip, g.encap).and_then(|(l4, _)| ip.get(l4 + 13));
    flags.is_some_and(|flags| flags & 0x80 != 0)
}

/// `skb_gso_segment` in software: each piece gets its own way through the driver.
#[inline(never)]
pub(crate) fn segment(net: &mut Net, dev: DevId, mut skb: Skb) {
    let mut last: Option<Skb> = None;
    let halves = skb.gso.is_some_and(|g| net.devs.get(dev).is_some_and(|d| d.features.takes_partial(g)));
    let frame = skb.to_frame();
    for frame in if halves { gso::partial(frame) } else { gso::segment(frame) } {
        let mut s = net.alloc_skb();
        skb.piece(&mut s, frame);
        if let Some(s) = last.replace(s) {
            queue_or_xmit(net, dev, s);
        }
    }
    // It is not what its header says, and nothing that a wire carries (`validate_xmit_skb`).
    let uncut = |s: &Skb| s.gso.is_none() && skb.gso.is_some_and(|g| s.frags.len() > usize::from(g.size));
    if last.as_ref().is_some_and(uncut) {
        if let Some(d) = net.devs.get_mut(dev) {
            d.stats.tx_dropped += 1;
        }
        last.into_iter().for_each(|s| net.consume_skb(s));
        return net.kfree_skb(skb, DropReason::NotSpecified, "validate_xmit_skb");
    }
    if let Some(mut s) = last {
        skb.hand_over(&mut s);
        queue_or_xmit(net, dev, s);
    }
    net.consume_skb(skb);
}

/// A piece when the ring may have become full in between: it was admitted already and waits whatever the limit.
#[inline(never)]
fn queue_or_xmit(net: &mut Net, dev: DevId, skb: Skb) {
    let Some(d) = net.devs.get_mut(dev) else { return net.consume_skb(skb) };
    if !d.stopped(skb.queue_mapping) {
        let ns = d.ns;
        return xmit_one(net, ns, dev, skb);
    }
    d.qdisc.requeue(skb);
}

fn xmit_one(net: &mut Net, ns: NsId, dev: DevId, skb: Skb) {
    net.tap(dev, Dir::Out, &skb);
    packet::rcv::queue_xmit_nit(net, ns, dev, &skb);
    driver_xmit(net, dev, skb);
}

/// Past the queueing discipline and the taps (PACKET_QDISC_BYPASS); dropped when the ring is full.
#[doc(alias = "__dev_direct_xmit")]
pub fn dev_direct_xmit(net: &mut Net, dev: DevId, mut skb: Skb) -> Result<(), Errno> {
    skb.dev = Some(dev);
    let features = match net.devs.get_mut(dev).filter(|d| d.running() && !d.stopped(0)) {
        Some(d) if d.features.takes(skb.gso) && (d.features.tso_ecn || !has_cwr(&skb)) => d.features,
        other => {
            if let Some(d) = other {
                d.stats.tx_dropped += 1;
            }
            net.kfree_skb(skb, DropReason::DevReady, "dev_direct_xmit");
            return Err(Errno::ENOBUFS);
        }
    };
    let keeps = net.devs.get(dev).is_some_and(|d| d.keeps_vlan_tag(skb.vlan));
    if skb.vlan.present() && !keeps && !vlan::push_inside(&mut skb) {
        net.kfree_skb(skb, DropReason::NoMem, "validate_xmit_vlan");
        return Err(Errno::ENOBUFS);
    }
    if skb.csum == Csum::Partial && !features.tx_csum {
        skb_checksum_help(&mut skb);
    }
    driver_xmit(net, dev, skb);
    Ok(())
}

#[inline]
fn driver_xmit(net: &mut Net, dev: DevId, skb: Skb) {
    if skb.tx.as_ref().is_some_and(|t| t.flags & SKBTX_SW_TSTAMP != 0) {
        timestamp::skb_tstamp_tx(net, &skb, dev, SCM_TSTAMP_SND);
    }
    net.stage(&skb, "dev_hard_start_xmit");
    match net.devs.get(dev).map(|d| &d.kind) {
        Some(DevKind::Loopback) => loopback::loopback_xmit(net, dev, skb),
        Some(DevKind::Tun(_)) => tun::tun_net_xmit(net, dev, skb),
        Some(DevKind::Nic(_)) => nic::tx::start_xmit(net, dev, skb),
        Some(DevKind::Veth(_)) => veth::veth_xmit(net, dev, skb),
        Some(DevKind::Bridge(_)) => bridge::br_dev_xmit(net, dev, skb),
        Some(DevKind::Macvlan(_)) => macvlan::macvlan_xmit(net, dev, skb),
        Some(DevKind::Vxlan(_)) => vxlan::vxlan_xmit(net, dev, skb),
        Some(DevKind::Ifb(_)) => ifb::ifb_xmit(net, dev, skb),
        Some(DevKind::Tunnel(_)) => tunnel::tunnel_xmit(net, dev, skb),
        Some(DevKind::Vlan(_)) => vlan_dev::vlan_xmit(net, dev, skb),
        Some(DevKind::Dummy) => {
            let len = skb.len() as u64;
            if let Some(d) = net.devs.get_mut(dev) {
                d.stats.tx(1, len);
            }
            net.consume_skb(skb);
        }
        None => net.kfree_skb(skb, DropReason::DevReady, "dev_hard_start_xmit"),
    }
}

/// Puts the transport checksum into the packet if it is still to be computed.
#[inline(never)]
pub fn skb_checksum_help(skb: &mut SkBuff) {
    if skb.csum != Csum::Partial {
        return;
    }
    let mut frame = skb.to_frame();
    gso::finish_checksum(&mut frame);
    skb.head = frame.head;
    skb.csum = Csum::Unnecessary;
}
