//! What tools show, as plain structs: sockets, devices, addresses, routes, neighbours, counters, settings, softirqs,
//! tasks. Built on request from the state; nothing here is kept, nothing is changed.
//!
//! [`Kernel::view`] gives any of them by name as a [`Value`], for control sockets and files.
mod device;
mod socket;
mod sysctl;
mod value;

pub use device::*;
pub use socket::*;
pub(crate) use value::views;
pub use value::{Value, View};

use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::mib::{GROUPS, Mib, Mibs};
use belljar_abi::Errno;

views! {
    /// A counter of a namespace: `group` and `name` as in `/proc/net/snmp` and `/proc/net/netstat`.
    struct CounterView { group: String, name: String, value: u64, }
    /// A setting with its value as `/proc/sys` shows it.
    struct SysctlView { key: String, value: String, }
    /// Packets that ended for this reason, over the life of the kernel.
    struct DropView { reason: String, packets: u64, }
    /// A process with its descriptors and the sleeps and wake-ups of its tasks.
    struct ProcessView {
        name: String, uid: u32, tasks: usize, fds: usize, nofile: u32,
        sleeps: u64, wakeups: u64, useless_wakeups: u64,
    }
}

/// Names that [`Kernel::view`] knows, besides `proc:PATH` and `route_get:ADDRESS`.
pub const NAMES: &[&str] = &[
    "sockets",
    "counters",
    "sysctls",
    "drops",
    "links",
    "addrs",
    "routes",
    "neighs",
    "tcp_metrics",
    "softnet",
    "processes",
];

impl Kernel {
    /// A view by name; ENOENT when there is none of it.
    pub fn view(&mut self, ns: NsId, what: &str) -> Result<Value, Errno> {
        if let Some(path) = what.strip_prefix("proc:") {
            return self.proc_text(ns, path).map(Value::Text).ok_or(Errno::ENOENT);
        }
        if let Some(addr) = what.strip_prefix("route_get:") {
            let addr = addr.parse().map_err(|_| Errno::EINVAL)?;
            return self.view_route_get(ns, addr).map(|r| r.to_value());
        }
        Ok(match what {
            "sockets" => self.view_sockets(ns).to_value(),
            "counters" => self.view_counters(ns).to_value(),
            "sysctls" => self.view_sysctls(ns).to_value(),
            "drops" => self.view_drops().to_value(),
            "links" => self.view_links(ns).to_value(),
            "addrs" => self.view_addrs(ns).to_value(),
            "routes" => self.view_routes(ns).to_value(),
            "neighs" => self.view_neighs(ns).to_value(),
            "tcp_metrics" => self.view_tcp_metrics(ns).to_value(),
            "softnet" => self.view_softnet().to_value(),
            "processes" => self.view_processes(ns).to_value(),
            "kmsg" => Value::Text(self.net.kmsg.text()),
            _ => return Err(Errno::ENOENT),
        })
    }

    /// Every counter in the order of the files. `IcmpMsg` has the types that were seen, as on Linux.
    pub fn view_counters(&self, ns: NsId) -> Vec<CounterView> {
        let Some(ns) = self.net.ns.get(ns) else { return Vec::new() };
        let row = |group: &str, name: &str, value| CounterView { group: group.into(), name: name.into(), value };
        let mut out = Vec::new();
        for (group, counters) in GROUPS {
            out.extend(counters.iter().map(|&(mib, name)| row(group, name, ns.mib.get(mib))));
            if *group == "Icmp" {
                let seen = icmp_types(&ns.mib);
                out.extend(seen.iter().map(|(name, value)| row("IcmpMsg", name, *value)));
            }
        }
        out
    }

    pub fn view_drops(&self) -> Vec<DropView> {
        self.net.pool.drops().map(|(r, packets)| DropView { reason: r.name().to_owned(), packets }).collect()
    }

    pub fn view_processes(&self, ns: NsId) -> Vec<ProcessView> {
        let mut out = Vec::new();
        for (id, p) in self.tasks.procs.iter().filter(|(_, p)| p.ns == ns) {
            let mut v = ProcessView {
                name: p.name.clone(),
                uid: p.uid,
                tasks: 0,
                fds: open_files(&p.fds).count(),
                nofile: p.nofile,
                sleeps: 0,
                wakeups: 0,
                useless_wakeups: 0,
            };
            for (_, t) in self.tasks.tasks.iter().filter(|(_, t)| t.process == id) {
                v.tasks += 1;
                v.sleeps += t.sleeps;
                v.wakeups += t.wakeups;
                v.useless_wakeups += t.useless_wakeups;
            }
            out.push(v);
        }
        out
    }
}

/// Descriptors of a table with the files they name.
fn open_files(fds: &crate::fs::fdtable::FdTable) -> impl Iterator<Item = (u32, FileId)> + '_ {
    fds.iter().map(|(fd, file, _)| (fd, file))
}

/// The ICMP types that moved (`IcmpMsg` lines): each has a counter of its own name as well.
fn icmp_types(mib: &Mibs) -> Vec<(String, u64)> {
    use Mib::*;
    let input = [
        (0, IcmpInEchoReps),
        (3, IcmpInDestUnreachs),
        (4, IcmpInSrcQuenchs),
        (5, IcmpInRedirects),
        (8, IcmpInEchos),
        (11, IcmpInTimeExcds),
        (12, IcmpInParmProbs),
        (13, IcmpInTimestamps),
        (14, IcmpInTimestampReps),
        (17, IcmpInAddrMasks),
        (18, IcmpInAddrMaskReps),
    ];
    let output = [
        (0, IcmpOutEchoReps),
        (3, IcmpOutDestUnreachs),
        (4, IcmpOutSrcQuenchs),
        (5, IcmpOutRedirects),
        (8, IcmpOutEchos),
        (11, IcmpOutTimeExcds),
        (12, IcmpOutParmProbs),
        (13, IcmpOutTimestamps),
        (14, IcmpOutTimestampReps),
        (17, IcmpOutAddrMasks),
        (18, IcmpOutAddrMaskReps),
    ];
    let named = |way: &'static str, types: [(u8, Mib); 11]| {
        types.into_iter().map(move |(t, m)| (format!("{way}Type{t}"), m)).collect::<Vec<_>>()
    };
    let all = named("In", input).into_iter().chain(named("Out", output));
    all.map(|(name, m)| (name, mib.get(m))).filter(|(_, v)| *v > 0).collect()
}
