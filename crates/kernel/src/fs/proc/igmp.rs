//! `/proc/net/igmp` and `/proc/net/mcfilter`: the groups of each device, and who filters them.
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::ipv4::igmp;
use std::fmt::Write;

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
