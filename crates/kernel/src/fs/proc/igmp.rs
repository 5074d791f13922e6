//! `/proc/net/igmp`, `igmp6`, `mcfilter` and `dev_mcast`: the groups of each device, who filters them, and the hardware's
//! addresses for them.
//!
//! Of IPv6, `mcfilter6` is left out, and the timers and last reporters in `igmp6`. A device that is down has the groups that
//! every device has from its beginning, and no others.
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::dev::NetDevice;
use crate::net::ipv4::igmp;
use crate::net::packet;
use belljar_abi::ARPHRD_ETHER;
use core::net::{Ipv4Addr, Ipv6Addr};
use std::fmt::Write;

/// All nodes of the link, of whom every device is one, and those of the device itself.
const LINK_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const OWN_NODES: Ipv6Addr = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 1);
/// Whether it stands in the hardware's list (MAF_LOADED), and is told to nobody (MAF_NOREPORT).
const LOADED: u32 = 4;
const NOREPORT: u32 = 8;
/// With less a device has no IPv6.
const IPV6_MIN_MTU: u32 = 1280;

/// Addresses as the kernel has them in memory, timers in hundredths of a second.
pub(super) fn igmp(k: &Kernel, ns: NsId) -> String {
    let mut out = String::from("Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n");
    for id in k.net.ns_devs(ns) {
        let Some(d) = k.net.devs.get(id).filter(|d| !d.mc.groups.is_empty()) else { continue };
        let querier = format!("V{}", igmp::version(&k.net, id));
        let _ = writeln!(out, "{}\t{:<10}: {:5} {querier:>7}", d.ifindex, d.name, d.mc.groups.len());
        for g in &d.mc.groups {
            let due = igmp::due_in(&k.net, &g.igmp);
            let _ = writeln!(
                out,
                "\t\t\t\t{:08X} {:5} {}:{:08X}\t\t{}",
                u32::from_le_bytes(g.addr.octets()),
                g.users,
                u8::from(due.is_some()),
                due.unwrap_or(0),
                u8::from(g.igmp.reporter)
            );
        }
    }
    out
}

fn has_ipv6(d: &NetDevice) -> bool {
    d.mtu >= IPV6_MIN_MTU
}

/// Groups of IPv6, the last one first, with their users.
fn groups6(d: &NetDevice) -> Vec<(Ipv6Addr, u32)> {
    let everywhere = [LINK_NODES, OWN_NODES];
    let there = d.inet6.groups.iter().rev().filter(|g| !g.left);
    let users = |a| there.clone().find(|g| g.addr == a).map_or(1, |g| g.users);
    let others = there.clone().filter(|g| !everywhere.contains(&g.addr)).map(|g| (g.addr, g.users));
    others.chain(everywhere.into_iter().filter(|_| has_ipv6(d)).map(|a| (a, users(a)))).collect()
}

/// It is no further than this device.
fn is_own(a: Ipv6Addr) -> bool {
    a.octets()[1] & 15 < 2
}

/// Interface, group, users, flags.
pub(super) fn igmp6(k: &Kernel, ns: NsId) -> String {
    let mut out = String::new();
    for d in k.net.ns_devs(ns).filter_map(|id| k.net.devs.get(id)) {
        for (addr, users) in groups6(d) {
            let quiet = is_own(addr) || addr == LINK_NODES;
            let flags = if is_own(addr) { 0 } else { LOADED } | if quiet { NOREPORT } else { 0 };
            let (index, name, bits) = (d.ifindex, &d.name, addr.to_bits());
            let _ = writeln!(out, "{index:<4} {name:<15} {bits:032x} {users:>5} {flags:08X} 0");
        }
    }
    out
}

fn mac4(a: Ipv4Addr) -> [u8; 6] {
    let [_, b, c, d] = a.octets();
    [1, 0, 0x5e, b & 0x7f, c, d]
}

fn mac6(a: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = a.octets();
    [0x33, 0x33, a, b, c, d]
}

/// Interface, references, those of programs, address: in the order in which they usually come.
pub(super) fn dev_mcast(k: &Kernel, ns: NsId) -> String {
    let mut out = String::new();
    for d in k.net.ns_devs(ns).filter_map(|id| k.net.devs.get(id)) {
        if packet::link_of(d).1 != ARPHRD_ETHER {
            continue;
        }
        let mut all: Vec<([u8; 6], u32)> = Vec::new();
        let mut add = |mac| match all.iter_mut().find(|a| a.0 == mac) {
            Some(there) => there.1 += 1,
            None => all.push((mac, 1)),
        };
        let mut six: Vec<_> = groups6(d).into_iter().map(|g| g.0).filter(|a| !is_own(*a)).collect();
        six.reverse();
        let (first, others): (Vec<_>, Vec<_>) = six.into_iter().partition(|a| *a == LINK_NODES);
        let (solicited, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|a| a.octets()[11..13] == [1, 0xff]);
        let (all_hosts, four): (Vec<_>, Vec<_>) =
            d.mc.groups.iter().map(|g| g.addr).partition(|a| *a == Ipv4Addr::new(224, 0, 0, 1));
        first.into_iter().for_each(|a| add(mac6(a)));
        all_hosts.into_iter().for_each(|a| add(mac4(a)));
        solicited.into_iter().for_each(|a| add(mac6(a)));
        four.into_iter().rev().for_each(|a| add(mac4(a)));
        others.into_iter().for_each(|a| add(mac6(a)));
        d.packet_groups.iter().for_each(|mac| add(*mac));
        for (mac, refs) in all {
            let mac: String = mac.iter().map(|b| format!("{b:02x}")).collect();
            let _ = writeln!(out, "{:<4} {:<15} {refs:<5} {:<5} {mac}", d.ifindex, d.name, 0);
        }
    }
    out
}

pub(super) fn mcfilter(k: &Kernel, ns: NsId) -> String {
    let mut out = String::from("Idx Device        MCA        SRC    INC    EXC\n");
    for d in k.net.ns_devs(ns).filter_map(|id| k.net.devs.get(id)) {
        for g in &d.mc.groups {
            for (src, [inc, exc]) in g.sources() {
                let name = d.name.get(..6).unwrap_or(&d.name);
                let (group, src) = (g.addr.to_bits(), src.to_bits());
                let _ = writeln!(out, "{:3} {name:>6} 0x{group:08x} 0x{src:08x} {inc:6} {exc:6}", d.ifindex);
            }
        }
    }
    out
}
