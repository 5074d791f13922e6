//! Texts of devices and packet processing: `/proc/net/{dev,arp,route,softnet_stat,stat/*}`, `/proc/softirqs`, `/proc/interrupts`.
use crate::drivers::nic::irq::Way;
use crate::ids::NsId;
use crate::net::Net;
use crate::net::af::v4;
use crate::net::core::neighbour::NeighStats;
use crate::net::core::softirq::Softirq;
use crate::net::packet;
use crate::view::{LinkView, NeighView, RouteView, SoftnetView};
use core::net::{IpAddr, Ipv4Addr};
use std::fmt::Write;

pub fn dev(links: &[LinkView]) -> String {
    let mut out = String::from(
        "Inter-|   Receive                                                |  Transmit\n \
         face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n",
    );
    for l in links {
        let s = &l.stats;
        let frame = s.rx_length_errors + s.rx_over_errors + s.rx_crc_errors + s.rx_frame_errors;
        let carrier = s.tx_carrier_errors + s.tx_aborted_errors + s.tx_window_errors + s.tx_heartbeat_errors;
        let _ = writeln!(
            out,
            "{:>6}: {:>7} {:>7} {:>4} {:>4} {:>4} {frame:>5} {:>10} {:>9} {:>8} {:>7} {:>4} {:>4} {:>4} {:>5} {carrier:>7} {:>10}",
            l.name,
            s.rx_bytes,
            s.rx_packets,
            s.rx_errors,
            s.rx_dropped + s.rx_missed_errors,
            s.rx_fifo_errors,
            0,
            s.multicast,
            s.tx_bytes,
            s.tx_packets,
            s.tx_errors,
            s.tx_dropped,
            s.tx_fifo_errors,
            s.collisions,
            0
        );
    }
    out
}

pub fn arp(net: &Net, ns: NsId, neighs: &[NeighView]) -> String {
    let mut out = String::from("IP address       HW type     Flags       HW address            Mask     Device\n");
    for n in neighs.iter().filter(|n| n.dst.is_ipv4() && n.state != "NOARP") {
        let flags = match (n.state.as_str(), &n.lladdr) {
            ("PERMANENT", _) => "0x6",
            (_, Some(_)) => "0x2",
            _ => "0x0",
        };
        let mac = n.lladdr.as_deref().unwrap_or("00:00:00:00:00:00");
        let _ = writeln!(out, "{:<16} {:<11} {flags:<11} {mac:<21} *        {}", n.dst.to_string(), "0x1", n.dev);
    }
    // Who is answered for has no address of his own here.
    for p in net.ns.get(ns).map_or(&[][..], |n| n.pneighs.of(false)) {
        let dev = p.dev.and_then(|d| net.devs.get(d));
        let kind = format!("0x{:x}", dev.map_or(0, |d| packet::link_of(d).1));
        let (ip, mac, name) = (p.addr.to_string(), "00:00:00:00:00:00", dev.map_or("*", |d| &d.name));
        let _ = writeln!(out, "{ip:<16} {kind:<11} {:<11} {mac:<21} *        {name}", "0xc");
    }
    out
}

/// An address in the byte order in which the file prints words.
fn word(a: IpAddr) -> String {
    format!("{:08X}", u32::from_ne_bytes(v4(a).octets()))
}

/// The main table; lines of 127 characters.
pub fn route(routes: &[RouteView]) -> String {
    let heading = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
    let mut out = format!("{heading:<127}\n");
    for r in routes.iter().filter(|r| r.table == "main" && r.dst.is_ipv4()) {
        // What refuses because its next hop object does stands at lo and looks like any other.
        let refuses = matches!(r.kind.as_str(), "unreachable" | "prohibit" | "blackhole") && r.dev.is_empty();
        let bits = [(true, 1), (r.gateway.is_some(), 2), (r.prefixlen == 32, 4), (refuses, 0x200)];
        let flags: u16 = bits.iter().filter(|b| b.0).map(|b| b.1).sum();
        let mask = Ipv4Addr::from_bits(crate::net::core::dev::mask(r.prefixlen));
        let line = format!(
            "{}\t{}\t{}\t{flags:04X}\t0\t0\t{}\t{}\t{}\t{}\t{}",
            if refuses { "*" } else { &r.dev },
            word(r.dst),
            word(r.gateway.unwrap_or(Ipv4Addr::UNSPECIFIED.into())),
            r.metric.unwrap_or(0),
            word(mask.into()),
            r.metric_of("advmss").map_or(0, |m| m + 40),
            r.metric_of("window").unwrap_or(0),
            r.metric_of("rtt").unwrap_or(0) >> 3,
        );
        let _ = writeln!(out, "{line:<127}");
    }
    out
}

/// There has been no cache of routes since Linux 3.6.
pub fn rt_cache() -> String {
    let heading = "Iface\tDestination\tGateway \tFlags\t\tRefCnt\tUse\tMetric\tSource\t\tMTU\tWindow\tIRTT\tTOS\tHHRef\tHHUptod\tSpecDst";
    format!("{heading:<127}\n")
}

pub fn softnet_stat(cpus: &[SoftnetView]) -> String {
    let mut out = String::new();
    for c in cpus {
        let waiting = u64::from(c.input_qlen) + u64::from(c.process_qlen);
        let columns = [
            c.processed,
            c.dropped,
            c.time_squeeze,
            0,
            0,
            0,
            0,
            0,
            0,
            c.received_rps,
            c.flow_limit_count,
            waiting,
            c.cpu as u64,
            c.input_qlen.into(),
            c.process_qlen.into(),
        ];
        let line: Vec<_> = columns.iter().map(|v| format!("{:08x}", *v as u32)).collect();
        let _ = writeln!(out, "{}", line.join(" "));
    }
    out
}

pub fn softirqs(cpus: &[SoftnetView]) -> String {
    let heading: String = cpus.iter().map(|c| format!("CPU{:<8}", c.cpu)).collect();
    let mut out = format!("{}{heading}\n", " ".repeat(20));
    for (n, name) in Softirq::NAMES.iter().enumerate() {
        let counts: String = cpus.iter().map(|c| format!(" {:>10}", c.softirqs.get(n).unwrap_or(&0))).collect();
        let _ = writeln!(out, "{name:>12}:{counts}");
    }
    out
}

/// The vectors of the cards, by the CPUs that served them.
pub fn interrupts(net: &Net, ns: NsId) -> String {
    let cpus = net.cpus.len();
    let heading: String = (0..cpus).map(|c| format!("CPU{c:<8}")).collect();
    let mut out = format!("{}{heading}\n", " ".repeat(11));
    for d in net.ns_devs(ns).filter_map(|id| net.devs.get(id)) {
        let Some(nic) = d.nic() else { continue };
        for (n, q) in nic.queues.iter().enumerate().take(nic.channels()) {
            for (i, way) in Way::BOTH.into_iter().enumerate() {
                let vector = nic.vector + 2 * n as u32 + i as u32;
                let counts: String = (0..cpus).map(|c| format!(" {:>10}", q.irq.served(way, c))).collect();
                let (name, card, way) = (&d.name, d.ifindex, way.name());
                let _ = writeln!(
                    out,
                    "{vector:>3}:{counts} PCI-MSIX-0000:00:{card:02x}.0 {:>3}-edge      {name}-{way}.{n}",
                    vector - nic.vector
                );
            }
        }
    }
    out
}

/// One line for each CPU; the counters are kept once, and stand in the first. The table grows without being rehashed.
pub fn neigh_stat(net: &Net, six: bool) -> String {
    let mut out = String::from(
        "entries  allocs   destroys hash_grows lookups  hits     res_failed rcv_probes_mcast rcv_probes_ucast \
         periodic_gc_runs forced_gc_runs unresolved_discards table_fulls\n",
    );
    let table = &net.neigh[usize::from(six)];
    for cpu in 0..net.cpus.len() {
        let s = if cpu == 0 { table.stats } else { NeighStats::default() };
        let _ = writeln!(
            out,
            "{:08x} {:08x} {:08x} {:08x}   {:08x} {:08x} {:08x}   {:08x}         {:08x}         {:08x}         {:08x}       \
             {:08x}            {:08x}",
            table.entries,
            s.allocs,
            s.destroys,
            0,
            s.lookups,
            s.hits,
            s.res_failed,
            s.rcv_probes_mcast,
            s.rcv_probes_ucast,
            s.periodic_gc_runs,
            s.forced_gc_runs,
            s.unres_discards,
            s.table_fulls
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::LinkStats;

    fn link(name: &str) -> LinkView {
        let text = |s: &str| s.to_owned();
        LinkView {
            ifindex: 1,
            name: text(name),
            link: None,
            master: None,
            group: 0,
            carrier_changes: 0,
            flags: vec![text("UP")],
            mtu: 65536,
            qdisc: text("noqueue"),
            operstate: text("UNKNOWN"),
            txqlen: 1000,
            link_type: text("loopback"),
            address: text("00:00:00:00:00:00"),
            broadcast: text("00:00:00:00:00:00"),
            stats: LinkStats { rx_bytes: 5277, rx_packets: 52, tx_bytes: 5277, tx_packets: 52, ..LinkStats::zero() },
            qdisc_len: 0,
            qdisc_drops: 0,
            rings: None,
        }
    }

    // The lines are Linux's own for such a machine.
    #[test]
    fn columns_are_the_kernels() {
        let line = "    lo:    5277      52    0    0    0     0          0         0     5277      52    0    0    0     0       0          0";
        assert_eq!(dev(&[link("lo")]).lines().nth(2), Some(line));
        let n = NeighView {
            dst: Ipv4Addr::new(10, 9, 0, 2).into(),
            dev: "v0".into(),
            lladdr: None,
            state: "FAILED".into(),
            used_s: 0,
            confirmed_s: 0,
            updated_s: 0,
            probes: 6,
            refs: 0,
            queued: 0,
        };
        let line = "10.9.0.2         0x1         0x0         00:00:00:00:00:00     *        v0";
        let mut k = crate::kernel::Kernel::new(1);
        let ns = k.net.add_ns("host");
        assert_eq!(arp(&k.net, ns, &[n]).lines().nth(1), Some(line));
        let r = RouteView {
            kind: "unicast".into(),
            dst: Ipv4Addr::UNSPECIFIED.into(),
            prefixlen: 0,
            gateway: Some(Ipv4Addr::new(10, 9, 0, 2).into()),
            dev: "v0".into(),
            table: "main".into(),
            protocol: None,
            scope: None,
            prefsrc: None,
            metric: None,
            metrics: Vec::new(),
        };
        let subnet = RouteView { dst: Ipv4Addr::new(10, 9, 0, 0).into(), prefixlen: 24, gateway: None, ..r.clone() };
        let text = route(&[r, subnet]);
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        assert_eq!(
            lines[1..],
            [
                "v0\t00000000\t0200090A\t0003\t0\t0\t0\t00000000\t0\t0\t0",
                "v0\t0000090A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0"
            ]
        );
        assert!(text.lines().all(|l| l.len() == 127));
        let cpu = SoftnetView {
            cpu: 1,
            processed: 0x1d701c,
            dropped: 0,
            time_squeeze: 1,
            received_rps: 0,
            flow_limit_count: 0,
            input_qlen: 0,
            process_qlen: 0,
            softirqs: vec![0, 25033, 92, 1_916_271, 0, 0, 0, 0, 0, 0],
            ksoftirqd_runs: 0,
        };
        let cpus = [cpu];
        let line = "001d701c 00000000 00000001 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000001 00000000 00000000\n";
        assert_eq!(softnet_stat(&cpus), line);
        let text = softirqs(&cpus);
        assert_eq!(text.lines().nth(4), Some("      NET_RX:    1916271"));
        assert_eq!(text.lines().next(), Some("                    CPU1       "));
    }
}
