//! The account at the end of a run: what an engineer would want to know, and nothing when nothing happened.
use belljar_capture::watch::ordinary;
use belljar_jar::{Ended, Refused};
use belljar_kernel::Kernel;
use belljar_kernel::ids::NsId;
use belljar_kernel::net::drop::DropReason;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::net::tcp::handshake::overflow::Overflow;
use belljar_link::Stats;
use belljar_script::option_name;

/// Lines for stderr; empty when nothing happened.
pub fn account(e: &Ended) -> Vec<String> {
    let mut out = Vec::new();
    if !e.others.is_empty() {
        // A network from a file: every host says its own.
        for (name, k) in [(&e.host_name, &e.host)].into_iter().chain(e.others.iter().map(|(n, k)| (n, k))) {
            out.extend(kernels(k, None, Default::default()).into_iter().map(|l| format!("{name}: {l}")));
        }
    }
    let own = if e.others.is_empty() { Some(&e.host) } else { None };
    out.extend(kernels_of(own, e.gateway.as_ref(), e.link));
    refused(&e.refused, &mut out);
    out
}

/// What happened in the kernels and on the link.
pub fn kernels(host: &Kernel, gateway: Option<&Kernel>, link: (Stats, Stats)) -> Vec<String> {
    kernels_of(Some(host), gateway, link)
}

fn kernels_of(host: Option<&Kernel>, gateway: Option<&Kernel>, link: (Stats, Stats)) -> Vec<String> {
    let mut out = Vec::new();
    for (name, k) in [("", host), ("gw: ", gateway)] {
        let Some(k) = k else { continue };
        for (ns, _) in k.net.ns.iter() {
            overflows(k, ns, name, &mut out);
            retransmissions(k, ns, name, &mut out);
            table_limits(k, ns, name, &mut out);
        }
        drops(k, name, &mut out);
    }
    conditions(link, &mut out);
    out
}

fn times(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

fn setting(k: &Kernel, ns: NsId, key: &str) -> String {
    let value = k.net.ns.get(ns).and_then(|n| n.sysctl.show(key)).or_else(|| k.net.sysctl.show(key));
    format!("{key} = {}", value.unwrap_or_default())
}

fn overflows(k: &Kernel, ns: NsId, name: &str, out: &mut Vec<String>) {
    let Some(n) = k.net.ns.get(ns) else { return };
    out.extend(n.tcp.overflows.iter().map(|o| format!("{name}{}", overflow(k, ns, o))));
    let late = n.mib.get(Mib::UdpRcvbufErrors);
    if late > 0 {
        let what = times(late, "datagram");
        let (now, max) = (setting(k, ns, "net.core.rmem_default"), setting(k, ns, "net.core.rmem_max"));
        out.push(format!("{name}{what} found the receive queue of a UDP socket full: SO_RCVBUF; {now}, {max}"));
    }
}

/// Queue, limit, setting and client of an overflow.
fn overflow(k: &Kernel, ns: NsId, o: &Overflow) -> String {
    let at = format!("of {}:{} was full {}", o.addr, o.port, times(o.count, "time"));
    let what = match o.reason {
        DropReason::TcpListenOverflow => format!(
            "accept queue {at}: limit {} (it holds one more), the smaller of listen()'s backlog and {}",
            o.limit,
            setting(k, ns, "net.core.somaxconn")
        ),
        _ => format!(
            "SYN queue {at}: limit {}; {}, {}",
            o.limit,
            setting(k, ns, "net.ipv4.tcp_max_syn_backlog"),
            setting(k, ns, "net.ipv4.tcp_syncookies")
        ),
    };
    let ((first, port), (last, last_port)) = (o.first_client, o.last_client);
    let seconds = o.last_at.saturating_sub(o.first_at) as f64 / 1e9;
    match o.first_client == o.last_client {
        true => format!("{what}; client {first}:{port}"),
        false => format!("{what}; clients from {first}:{port} to {last}:{last_port}, within {seconds:.1} s"),
    }
}

fn retransmissions(k: &Kernel, ns: NsId, name: &str, out: &mut Vec<String>) {
    let Some(n) = k.net.ns.get(ns) else { return };
    let (sent, again) = (n.mib.get(Mib::TcpOutSegs), n.mib.get(Mib::TcpRetransSegs));
    if again == 0 {
        return;
    }
    let kinds = [
        (Mib::TcpExtTCPFastRetrans, "fast"),
        (Mib::TcpExtTCPSlowStartRetrans, "in slow start"),
        (Mib::TcpExtTCPLossProbes, "loss probes"),
        (Mib::TcpExtTCPSynRetrans, "SYN or SYN-ACK"),
        (Mib::TcpExtTCPTimeouts, "timeouts"),
        (Mib::TcpExtTCPSpuriousRTOs, "spurious timeouts"),
    ];
    let parts: Vec<_> = kinds
        .iter()
        .map(|(m, what)| (n.mib.get(*m), what))
        .filter(|p| p.0 > 0)
        .map(|(c, w)| format!("{c} {w}"))
        .collect();
    let detail = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
    out.push(format!("{name}retransmitted {again} of {}{detail}", times(sent + again, "segment")));
}

/// Tables that were full, with the setting that bounds each.
fn table_limits(k: &Kernel, ns: NsId, name: &str, out: &mut Vec<String>) {
    let Some(n) = k.net.ns.get(ns) else { return };
    for (mib, what, key) in [
        (
            Mib::TcpExtTCPTimeWaitOverflow,
            "connections ended without TIME_WAIT, its table was full",
            "net.ipv4.tcp_max_tw_buckets",
        ),
        (
            Mib::TcpExtTCPReqQFullDoCookies,
            "SYNs answered with cookies instead of being stored",
            "net.ipv4.tcp_syncookies",
        ),
        (Mib::TcpExtTCPAbortOnMemory, "connections aborted, there were too many orphans", "net.ipv4.tcp_max_orphans"),
        (Mib::TcpExtTCPAbortOnTimeout, "connections given up after too many timeouts", "net.ipv4.tcp_retries2"),
        (Mib::TcpExtPruneCalled, "times a receive buffer was pruned", "net.ipv4.tcp_rmem"),
        (Mib::IpReasmFails, "datagrams whose fragments did not come together", "net.ipv4.ipfrag_time"),
    ] {
        let count = n.mib.get(mib);
        if count > 0 {
            out.push(format!("{name}{count} {what} ({})", setting(k, ns, key)));
        }
    }
}

/// Told with the queues and with the link.
const TOLD: &[DropReason] = &[
    DropReason::TcpListenOverflow,
    DropReason::TcpReqQFull,
    DropReason::SocketRcvbuff,
    DropReason::LinkLoss,
    DropReason::LinkLimit,
];

fn drops(k: &Kernel, name: &str, out: &mut Vec<String>) {
    let told: Vec<_> = k
        .net
        .pool
        .drops()
        .filter(|(r, _)| !ordinary(*r) && !TOLD.contains(r))
        .map(|(r, n)| format!("{n} {}{}", r.name(), knob(r).map_or(String::new(), |s| format!(" ({s})"))))
        .collect();
    if !told.is_empty() {
        out.push(format!("{name}dropped packets: {}", told.join(", ")));
    }
}

/// What to turn against a reason.
pub fn knob(r: DropReason) -> Option<&'static str> {
    Some(match r {
        DropReason::CpuBacklog => "net.core.netdev_max_backlog",
        DropReason::FullRing => "the receive ring: --nic rx=N",
        DropReason::QdiscDrop => "txqueuelen of the device",
        DropReason::NeighQueueFull => "net.ipv4.neigh.default.unres_qlen_bytes",
        DropReason::ProtoMem => "net.ipv4.tcp_rmem, net.ipv4.udp_mem",
        DropReason::FragReasmTimeout => "net.ipv4.ipfrag_time",
        _ => return None,
    })
}

/// Options that the programs asked for and the stack does not have.
fn refused(all: &[Refused], out: &mut Vec<String>) {
    let one = |r: &Refused| {
        let call = if r.set { "setsockopt" } else { "getsockopt" };
        let again = if r.count > 1 { format!(" × {}", r.count) } else { String::new() };
        format!("{call}({}) = {}{again}", option_name(r.level, r.name), r.errno.name())
    };
    if !all.is_empty() {
        out.push(format!("refused options: {}", all.iter().map(one).collect::<Vec<_>>().join(", ")));
    }
}

fn conditions((there, back): (Stats, Stats), out: &mut Vec<String>) {
    let both = |f: fn(&Stats) -> u64| f(&there) + f(&back);
    let told = [
        (both(|s| s.lost), "lost"),
        (both(|s| s.overlimit), "over the link's limit"),
        (both(|s| s.policed), "policed"),
        (both(|s| s.corrupted), "corrupted"),
        (both(|s| s.duplicated), "duplicated"),
        (both(|s| s.reordered), "reordered"),
    ];
    let told: Vec<_> = told.iter().filter(|t| t.0 > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if !told.is_empty() {
        let all = both(|s| s.sent) + both(|s| s.lost) + both(|s| s.overlimit) + both(|s| s.policed);
        out.push(format!("the link, of {}: {}", times(all, "packet"), told.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_happened_nothing_is_said() {
        let mut k = Kernel::new(1);
        let ns = k.net.add_ns("host");
        assert!(kernels(&k, None, Default::default()).is_empty());
        k.sysctl_set(ns, "net.core.somaxconn", "4").unwrap();
        let client = ([10, 0, 2, 15].into(), 40000);
        let o = Overflow {
            addr: [0, 0, 0, 0].into(),
            port: 80,
            limit: 4,
            reason: DropReason::TcpListenOverflow,
            count: 3,
            first_client: client,
            last_client: client,
            first_at: 0,
            last_at: 0,
        };
        k.net.ns.get_mut(ns).unwrap().tcp.overflows.push(o);
        k.net.add(ns, Mib::TcpOutSegs, 100);
        k.net.add(ns, Mib::TcpRetransSegs, 2);
        k.net.add(ns, Mib::TcpExtTCPTimeouts, 1);
        let lost = Stats { sent: 9, lost: 1, ..Stats::default() };
        assert_eq!(
            kernels(&k, None, (lost, Stats::default())),
            [
                "accept queue of 0.0.0.0:80 was full 3 times: limit 4 (it holds one more), the smaller of listen()'s \
                 backlog and net.core.somaxconn = 4; client 10.0.2.15:40000",
                "retransmitted 2 of 102 segments (1 timeouts)",
                "the link, of 10 packets: 1 lost",
            ]
        );
    }
}
