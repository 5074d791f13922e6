//! What an administrator does while the workloads of `random` run: MTUs that change, interfaces that go down and come back
//! with their addresses and routes, settings; and a router that advertises itself.
use super::topology::Plan;
use crate::lab::Lab;
use crate::net::PREFIX6;
use crate::task::{Shared, Sock, Task, sleep};
use belljar_abi::SockAddr;
use belljar_abi::socket::*;
use belljar_kernel::env::MSEC;
use belljar_kernel::ids::DevId;
use belljar_link::Rng;
use belljar_wire::icmpv6::{ND_OPT_MTU, ND_OPT_PREFIX_INFO, NDISC_ROUTER_ADVERTISEMENT};
use belljar_wire::ipv6::ALL_NODES;
use core::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

/// IPv4 only, IPv6's smallest, what there is usually, and jumbo frames.
const MTUS: [u32; 6] = [576, 1280, 1280, 1400, 1500, 9000];

pub(super) fn begin(lab: &mut Lab, plan: Rc<Plan>, seed: u64) {
    let world = lab.world.clone();
    lab.spawn_daemon("admin", async move {
        let mut rng = Rng::new(seed);
        loop {
            sleep(&world, (100 + rng.below(30_000)) * MSEC).await;
            let cable = rng.below(plan.subnets.len().max(1) as u64) as usize;
            let ends = world.borrow().cables.get(cable).map_or_else(Vec::new, |c| c.ends.clone());
            let Some((host, dev)) = ends.get(rng.below(ends.len().max(1) as u64) as usize).copied() else { continue };
            match rng.below(6) {
                0..=2 => {
                    let mtu = MTUS[rng.below(6) as usize];
                    ends.iter().for_each(|(h, d)| set_mtu(&world, &plan, cable, (*h, *d), mtu));
                }
                3 => {
                    change(&world, host, |k, _| _ = k.net.set_link(dev, false), "down");
                    sleep(&world, (1 + rng.below(8000)) * MSEC).await;
                    change(&world, host, |k, _| _ = k.net.set_link(dev, true), "up");
                    restore(&world, &plan, cable, host, dev);
                }
                4 => {
                    change(&world, host, |k, _| k.net.set_carrier(dev, false), "no carrier");
                    sleep(&world, (1 + rng.below(8000)) * MSEC).await;
                    change(&world, host, |k, _| k.net.set_carrier(dev, true), "carrier");
                }
                _ => setting(&world, &plan, cable, host, dev, &mut rng).await,
            }
        }
    });
}

/// Does something to a kernel, and to nobody else, with the time it is now.
fn change(
    world: &Shared,
    host: usize,
    what: impl FnOnce(&mut belljar_kernel::Kernel, belljar_kernel::ids::NsId),
    said: &str,
) {
    let mut w = world.borrow_mut();
    let now = w.now;
    w.recorder.note(now, &format!("h{host}"), "admin", format_args!("{said}"));
    w.administer(host, what);
}

fn set_mtu(world: &Shared, plan: &Plan, cable: usize, (host, dev): (usize, DevId), mtu: u32) {
    change(world, host, |k, _| _ = k.net.set_mtu(dev, mtu), &format!("mtu {mtu}"));
    restore(world, plan, cable, host, dev);
}

/// What went with the interface comes back: its addresses of IPv6, the routes through it. What is there already stays.
fn restore(world: &Shared, plan: &Plan, cable: usize, host: usize, dev: DevId) {
    let mut w = world.borrow_mut();
    if let Some(IpAddr::V6(addr)) = plan.addr(cable, host, true) {
        // The first one asks whether anybody else has it.
        let nodad = addr.segments()[7] != 1;
        w.administer(host, |k, _| _ = k.net.add_address6(dev, addr, PREFIX6, nodad));
    }
    let Some(h) = w.hosts.get_mut(host) else { return };
    for way in plan.ways.iter().filter(|w| w.host == host) {
        let _ = h.add_route(way.to, way.prefix, way.via);
    }
    w.administer(host, |_, _| {});
}

/// A switch that somebody turns, and after a while back.
async fn setting(world: &Shared, plan: &Plan, cable: usize, host: usize, dev: DevId, rng: &mut Rng) {
    let name = {
        let w = world.borrow();
        w.hosts.get(host).and_then(|h| h.kernel.net.devs.get(dev)).map_or_else(String::new, |d| d.name.clone())
    };
    let (key, on, off) = match rng.below(4) {
        0 => (format!("net.ipv6.conf.{name}.disable_ipv6"), "1", "0"),
        1 => (format!("net.ipv6.conf.{name}.forwarding"), "1", "0"),
        2 => (format!("net.ipv6.conf.{name}.mtu"), "1280", "1500"),
        _ => (format!("net.ipv4.conf.{name}.forwarding"), "0", "1"),
    };
    for value in [on, off] {
        {
            let mut w = world.borrow_mut();
            let told = w.sysctl(host, &key, value);
            let now = w.now;
            w.recorder.note(now, &format!("h{host}"), "sysctl", format_args!("{key}={value} {told:?}"));
            w.administer(host, |_, _| {});
        }
        sleep(world, (1 + rng.below(8000)) * MSEC).await;
    }
    restore(world, plan, cable, host, dev);
}

/// One host of a subnet with IPv6 advertises itself, as a routing daemon does: by a raw socket.
pub(super) fn advertiser(lab: &mut Lab, plan: &Plan, seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let Some((n, subnet)) = plan.subnets.iter().enumerate().find(|(_, s)| s.v6) else { return Ok(()) };
    let host = subnet.members.get(rng.below(subnet.members.len() as u64) as usize).copied().unwrap_or(0);
    let index = {
        let w = lab.world.borrow();
        let h = w.hosts.get(host).ok_or("no such host")?;
        let dev = h.nics.iter().find(|(_, cable, _)| *cable == n).map(|(d, ..)| *d);
        dev.and_then(|d| h.kernel.net.devs.get(d)).map_or(0, |d| d.ifindex)
    };
    let task = lab.task(host, "radvd").ok_or("no process")?;
    lab.spawn_daemon("radvd", async move {
        let Ok(s) = raw(&task).await else { return };
        let to = SockAddr::V6 { addr: ALL_NODES, port: 0, flowinfo: 0, scope: index };
        loop {
            task.sleep((1 + rng.below(20_000)) * MSEC).await;
            let m = advertisement(n, &mut rng);
            s.sending_to(&m, to).await.ok();
        }
    });
    Ok(())
}

async fn raw(task: &Task) -> Result<Sock, belljar_abi::Errno> {
    let s = task.open(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6).await?;
    s.set_int(SOL_IPV6, IPV6_MULTICAST_HOPS, 255).await?;
    // It never reads: nothing shall wait for it.
    s.set_int(SOL_SOCKET, SO_RCVBUF, 1).await?;
    Ok(s)
}

/// Lifetimes from none to long, the subnet's own prefix or another, sometimes an MTU (RFC 4861 §4.2).
fn advertisement(subnet: usize, rng: &mut Rng) -> Vec<u8> {
    let lifetime = [0u16, 3, 30, 1800][rng.below(4) as usize].to_be_bytes();
    let mut m = vec![NDISC_ROUTER_ADVERTISEMENT, 0, 0, 0, [0, 64][rng.below(2) as usize], 0];
    m.extend(lifetime);
    m.extend([0; 8]);
    for _ in 0..rng.below(3) {
        let seconds = [0u32, 10, 7200, u32::MAX];
        let mut one = || seconds[rng.below(4) as usize].to_be_bytes();
        let (valid, preferred) = (one(), one());
        m.extend([ND_OPT_PREFIX_INFO, 4, 64, 0xc0]);
        m.extend([valid, preferred, [0; 4]].concat());
        let net = if rng.chance(0.5) { subnet as u16 + 1 } else { 0x100 + rng.below(30) as u16 };
        m.extend(Ipv6Addr::new(0xfd00, net, 0, 0, 0, 0, 0, 0).octets());
    }
    if rng.chance(0.2) {
        m.extend([ND_OPT_MTU, 1, 0, 0]);
        m.extend([1280u32, 1400][rng.below(2) as usize].to_be_bytes());
    }
    m
}
