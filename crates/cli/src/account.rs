//! The end-of-run account: what happened that an engineer would want to know, on stderr; nothing when nothing did.
use belljar_jar::Ended;
use belljar_kernel::Kernel;
use belljar_kernel::net::drop::DropReason;
use belljar_kernel::net::tcp::handshake::overflow::Overflow;
use belljar_kernel::view::CounterView;
use std::fmt::Write as _;

/// Counters worth a line, with what they mean and what to do.
const TELLING: &[(&str, &str, &str)] = &[
    ("TcpExt", "TCPReqQFullDoCookies", "SYNs were answered with cookies (net.ipv4.tcp_max_syn_backlog)"),
    ("Tcp", "RetransSegs", "segments were sent again"),
    ("TcpExt", "TCPTimeouts", "retransmission timers ran out"),
    ("TcpExt", "TCPAbortOnMemory", "connections were aborted for lack of memory (net.ipv4.tcp_mem)"),
    ("TcpExt", "TCPTimeWaitOverflow", "TIME_WAIT had no room (net.ipv4.tcp_max_tw_buckets)"),
    ("TcpExt", "TCPRcvQDrop", "segments found a receive buffer full (net.ipv4.tcp_rmem)"),
    ("TcpExt", "PruneCalled", "receive queues were pruned (net.ipv4.tcp_rmem)"),
    ("Udp", "RcvbufErrors", "datagrams found a receive buffer full (net.core.rmem_default)"),
    ("Ip", "ReasmFails", "packets could not be put together from their fragments"),
];

/// Drops that are part of every connection's life.
const ORDINARY: &[&str] =
    &["TCP_OLD_DATA", "TCP_OLD_ACK", "NO_SOCKET", "SOCKET_CLOSE", "NOT_SPECIFIED", "QUEUE_PURGE", "TCP_RESET"];

fn of_host(k: &Kernel) -> String {
    let mut out = String::new();
    let Some((ns, _)) = k.net.ns.iter().next() else { return out };
    let counters = k.view_counters(ns);
    let value = |group: &str, name: &str| {
        let find = |c: &&CounterView| c.group == group && c.name == name;
        counters.iter().find(find).map_or(0, |c| c.value)
    };
    for o in k.net.ns.get(ns).map(|n| n.tcp.overflows.as_slice()).unwrap_or_default() {
        out.push_str(&overflow(o));
    }
    for (group, name, meaning) in TELLING {
        let n = value(group, name);
        if n > 0 {
            let _ = writeln!(out, "  {n:>8}  {meaning} [{group}{name}]");
        }
    }
    for d in k.view_drops().iter().filter(|d| d.packets > 0 && !ORDINARY.contains(&d.reason.as_str())) {
        let _ = writeln!(out, "  {:>8}  packets dropped: {}", d.packets, d.reason);
    }
    out
}

/// Queue, limit, setting and client of an overflow.
fn overflow(o: &Overflow) -> String {
    let (at, (first, first_port), (last, last_port)) = (o.port, o.first_client, o.last_client);
    let setting = match o.reason {
        DropReason::TcpListenOverflow => format!(
            "accept queue of {}:{at} was full at {} (limit {}: the smaller of listen()'s backlog and net.core.somaxconn; one more is \
             admitted) [TcpExtListenOverflows]",
            o.addr,
            o.limit + 1,
            o.limit
        ),
        _ => format!(
            "SYN queue of {}:{at} was full (limit {}; net.ipv4.tcp_max_syn_backlog, net.ipv4.tcp_syncookies=0) \
             [TcpExtTCPReqQFullDrop]",
            o.addr, o.limit
        ),
    };
    let seconds = (o.last_at - o.first_at) as f64 / 1e9;
    let clients = match (first, first_port) == (last, last_port) {
        true => format!("client {first}:{first_port}"),
        false => format!("clients from {first}:{first_port} to {last}:{last_port}"),
    };
    format!("  {:>8}  segments dropped: {setting}; {clients}, within {seconds:.1} s\n", o.count)
}

/// The whole account, empty when there is nothing to tell.
pub fn text(e: &Ended) -> String {
    let mut out = of_host(&e.host);
    let (a, b) = e.link;
    let lost = a.lost + b.lost;
    let full = a.overlimit + b.overlimit;
    if lost > 0 {
        let _ = writeln!(out, "  {lost:>8}  packets lost on the link, as asked");
    }
    if full > 0 {
        let _ = writeln!(out, "  {full:>8}  packets found the link's queue full (--limit)");
    }
    for w in &e.warnings {
        let _ = writeln!(out, "  {w}");
    }
    if out.is_empty() { out } else { format!("belljar: what happened on the stack\n{out}") }
}

pub fn print(e: &Ended) {
    let t = text(e);
    if !t.is_empty() {
        eprint!("{t}");
    }
}
