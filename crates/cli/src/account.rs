//! The account at the end of a run: what an engineer would want to know, and nothing when nothing happened.
use belljar_abi::Errno;
use belljar_capture::watch::ordinary;
use belljar_jar::{Ended, Herd, Refused, Starved};
use belljar_kernel::Kernel;
use belljar_kernel::ids::NsId;
use belljar_kernel::net::drop::DropReason;
use belljar_kernel::net::hits::Hits;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::net::tcp::account::{self, Patience, seconds};
use belljar_kernel::net::tcp::handshake::overflow::Overflow;
use belljar_link::{Conditions, Stats};
use belljar_script::option_name;
use std::net::SocketAddr;

/// Fewer calls for nothing than this are no herd.
const VAIN: u64 = 10;
/// Fewer writes that waited are nothing to tell.
const SMALL: u64 = 5;

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
    e.cables.iter().for_each(|(name, stats)| conditions(name, *stats, &mut out));
    out.extend(e.starved.iter().map(starved));
    out.extend(e.herds.iter().filter(|h| h.vain >= VAIN).map(herd));
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
            rings(k, ns, name, &mut out);
            no_ports(k, ns, name, &mut out);
            given_up(k, ns, name, &mut out);
            stuck(k, ns, name, &mut out);
            nagled(k, ns, name, &mut out);
            held_up(k, ns, name, &mut out);
            retransmissions(k, ns, name, &mut out);
            table_limits(k, ns, name, &mut out);
        }
        drops(k, name, &mut out);
    }
    conditions("", link, &mut out);
    out
}

fn times(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

fn setting(k: &Kernel, ns: NsId, key: &str) -> String {
    let value = k.net.ns.get(ns).and_then(|n| n.sysctl.show(key)).or_else(|| k.net.sysctl.show(key));
    format!("{key} = {}", value.unwrap_or_default().replace('\t', " "))
}

fn overflows(k: &Kernel, ns: NsId, name: &str, out: &mut Vec<String>) {
    let Some(n) = k.net.ns.get(ns) else { return };
    out.extend(n.tcp.account.overflows.iter().map(|o| format!("{name}{}", overflow(k, ns, o))));
    let (now, max) = (setting(k, ns, "net.core.rmem_default"), setting(k, ns, "net.core.rmem_max"));
    out.extend(n.udp.full.iter().map(|f| {
        let (at, last) = (SocketAddr::from(f.local), SocketAddr::from(f.last));
        let often = times(f.count, "time");
        format!("{name}receive queue of UDP socket {at} was full {often}: limit {} bytes, SO_RCVBUF; {now}, {max}; last sender {last}", f.rcvbuf)
    }));
    let told: u64 = n.udp.full.iter().map(|f| f.count).sum();
    let late = (n.mib.get(Mib::UdpRcvbufErrors) + n.mib.get(Mib::Udp6RcvbufErrors)).saturating_sub(told);
    if late > 0 {
        let what = times(late, "datagram");
        out.push(format!("{name}{what} found the receive queue of a UDP socket full: SO_RCVBUF; {now}, {max}"));
    }
}

/// Queue, limit, setting and clients of an overflow.
fn overflow(k: &Kernel, ns: NsId, o: &Overflow) -> String {
    let at = format!("of {}:{} was full {}", o.addr, o.port, times(o.count, "time"));
    let max_syn = "net.ipv4.tcp_max_syn_backlog";
    let limit = if o.by_syn_backlog {
        format!("limit {}, three quarters of {}: the rest is for known peers", o.limit, setting(k, ns, max_syn))
    } else {
        format!("limit {} (it holds one more), {}", o.limit, listen_limit(k, ns, o))
    };
    let what = match o.reason {
        DropReason::TcpListenOverflow => format!("accept queue {at}: {limit}"),
        _ => {
            let cookies = match o.cookies {
                0 => String::new(),
                n if n == o.count => format!("; {} answered with cookies", times(n, "SYN")),
                n => format!("; {} answered with cookies, {} dropped", times(n, "SYN"), o.count - n),
            };
            format!("SYN queue {at}: {limit}; {}{cookies}", setting(k, ns, "net.ipv4.tcp_syncookies"))
        }
    };
    let ((first, port), (last, last_port)) = (o.first_client, o.last_client);
    match o.first_client == o.last_client {
        true => format!("{what}; client {first}:{port}"),
        false => format!(
            "{what}; first client {first}:{port}, last {last}:{last_port}, within {:.1} s",
            seconds(o.first_at, o.last_at)
        ),
    }
}

/// Which of the two gave the limit: the program, or the setting as it was when listen() was called.
fn listen_limit(k: &Kernel, ns: NsId, o: &Overflow) -> String {
    let now = setting(k, ns, "net.core.somaxconn");
    if o.backlog <= o.limit {
        return format!("as listen() asked for; {now}");
    }
    match now.ends_with(&format!(" = {}", o.limit)) {
        true => format!("{now}; listen() asked for {}", o.backlog),
        false => format!("net.core.somaxconn when listen() asked for {}; {now} now, for the next listen()", o.backlog),
    }
}

/// Nowhere to connect from.
fn no_ports(k: &Kernel, ns: NsId, name: &str, out: &mut Vec<String>) {
    let Some(n) = k.net.ns.get(ns) else { return };
    for p in &n.tcp.account.no_ports {
        let ((to, port), (lo, hi)) = (p.to, p.range);
        let reserved = (lo..=hi).filter(|p| n.sysctl.ip_local_reserved_ports.contains(*p)).count() as u64;
        let all = u64::from(hi) - u64::from(lo) + 1 - reserved;
        let kept = match reserved {
            0 => String::new(),
            _ => format!("; {}", setting(k, ns, "net.ipv4.ip_local_reserved_ports")),
        };
        let waiting = match p.time_wait {
            0 => String::new(),
            w => format!(", {w} of them in TIME_WAIT the first time; {}", setting(k, ns, "net.ipv4.tcp_tw_reuse")),
        };
        out.push(format!(
            "{name}connect() to {to}:{port} found no free port {}: {lo} to {hi}, {}{waiting}; {}{kept}",
            times(p.count, "time"),
            times(all, "port"),
            setting(k, ns, "net.ipv4.ip_local_port_range"),
        ));
    }
}

/// Peers that did not answer, by the setting that ended the patience.
fn given_up(k: &Kernel, ns: NsId, name: &str, out: &mut Vec<String>) {
    let Some(n) = k.net.ns.get(ns) else { return };
    for g in &n.tcp.account.given_up {
        let (what, key) = match g.why {
            Patience::Syn => ("no answer to its SYNs", "net.ipv4.tcp_syn_retries"),
            Patience::SynAck => ("no answer to its SYN-ACKs", "net.ipv4.tcp_synack_retries"),
            Patience::Data => ("no acknowledgement, or a closed window, for too long", "net.ipv4.tcp_retries2"),
            Patience::Orphan => ("closed by the program, and the peer is silent", "net.ipv4.tcp_orphan_retries"),
            Patience::Keepalive => ("no answer to keepalive probes", "net.ipv4.tcp_keepalive_probes"),
        };
        let option = match g.why {
            Patience::Keepalive => ", or TCP_KEEPCNT",
            Patience::Orphan => "",
            Patience::Syn => ", or TCP_SYNCNT",
            Patience::SynAck | Patience::Data => ", or TCP_USER_TIMEOUT",
        };
        let peer = format!("{}:{}", g.last.0, g.last.1);
        let who = if g.count == 1 { format!("with {peer}") } else { format!("last with {peer}") };
        out.push(format!(
            "{name}{} given up, {who}: {what} ({}{option})",
            times(g.count, "connection"),
            setting(k, ns, key)
        ));
    }
}

/// What looks like a link that is too narrow for full segments, and a sender that is not told.
fn stuck(k: &Kernel, ns: NsId, name: &str, out: &mut Vec<String>) {
    let Some(n) = k.net.ns.get(ns) else { return };
    let (count, Some(s)) = n.tcp.account.stuck else { return };
    let flow = format!("{} to {}", SocketAddr::from(s.local), SocketAddr::from(s.peer));
    let longest = if count == 1 { "" } else { "the longest " };
    out.push(format!(
        "{name}{} sent segments of {} bytes and none was acknowledged, {longest}{flow} for {:.1} s: a link on the way with a smaller \
         MTU, and its ICMP lost? {} (1 finds it out), or a smaller MTU or advmss for the route",
        times(count, "connection"),
        s.mss,
        f64::from(s.waited_ms) / 1e3,
        setting(k, ns, "net.ipv4.tcp_mtu_probing"),
    ));
}

/// Small writes that waited for late acknowledgements.
fn nagled(k: &Kernel, ns: NsId, name: &str, out: &mut Vec<String>) {
    let Some(n) = k.net.ns.get(ns).and_then(|n| n.tcp.account.nagled).filter(|n| n.count >= SMALL) else { return };
    out.push(format!(
        "{name}{} waited for the acknowledgement of the one before (Nagle), {} ms in the mean, the last from {} to {}: the peer \
         delays its ACKs; one write instead of two (writev, MSG_MORE), or TCP_NODELAY",
        times(n.count, "small write"),
        n.total_ms / n.count,
        SocketAddr::from(n.local),
        SocketAddr::from(n.peer),
    ));
}

/// Senders that waited for their receivers.
fn held_up(k: &Kernel, ns: NsId, name: &str, out: &mut Vec<String>) {
    let Some((count, h)) = account::held_up(k, ns) else { return };
    let flow = format!("{}:{} to {}:{}", h.local.0, h.local.1, h.peer.0, h.peer.1);
    let (held, busy) = (h.held_ms as f64 / 1e3, h.busy_ms as f64 / 1e3);
    let longest = if count == 1 { "" } else { "the longest " };
    out.push(format!(
        "{name}{} waited for the receiver's window, {longest}{flow} for {held:.1} of {busy:.1} s: its program reads slowly, or \
         its buffer is small (SO_RCVBUF, net.ipv4.tcp_rmem)",
        times(count, "connection")
    ));
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
        .map(|(c, w)| format!("{c} {}", if c == 1 { w.trim_end_matches('s') } else { w }))
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
        (Mib::TcpExtTCPAbortOnMemory, "connections aborted, there were too many orphans", "net.ipv4.tcp_max_orphans"),
        (Mib::TcpExtPruneCalled, "times a receive buffer was pruned", "net.ipv4.tcp_rmem"),
        (Mib::IpReasmFails, "datagrams whose fragments did not come together", "net.ipv4.ipfrag_time"),
    ] {
        let count = n.mib.get(mib);
        if count > 0 {
            out.push(format!("{name}{count} {what} ({})", setting(k, ns, key)));
        }
    }
    let told: u64 = n.tcp.account.overflows.iter().map(|o| o.cookies).sum();
    let cookies = n.mib.get(Mib::TcpExtSyncookiesSent).saturating_sub(told);
    if cookies > 0 {
        let all = setting(k, ns, "net.ipv4.tcp_syncookies");
        out.push(format!("{name}{} answered with cookies instead of being stored ({all})", times(cookies, "SYN")));
    }
    let full = n.ct_stat.drop.saturating_sub(n.ct_stat.insert_failed);
    let max = setting(k, ns, "net.netfilter.nf_conntrack_max");
    if full > 0 {
        let (what, who) = (times(full.into(), "packet"), n.ct_full.map_or(String::new(), |h| hit("client", &h)));
        out.push(format!("{name}{what} dropped, the table of connections was full ({max}){who}"));
    }
    if n.ct_stat.early_drop > 0 {
        let gone = times(n.ct_stat.early_drop.into(), "tracked connection");
        out.push(format!("{name}{gone} made room for others before their time ({max})"));
    }
    // The machine's, told with its first namespace.
    let first = k.net.ns.iter().next().is_some_and(|(first, _)| first == ns);
    for (cache, which) in k.net.neigh.iter().zip(["ipv4", "ipv6"]) {
        let fulls = cache.stats.table_fulls;
        if first && fulls > 0 {
            let max = setting(k, ns, &format!("net.{which}.neigh.default.gc_thresh3"));
            let who = cache.full.map_or(String::new(), |h| hit("address", &h));
            out.push(format!("{name}the table of neighbours was full {} ({max}){who}", times(fulls, "time")));
        }
    }
}

/// Who found something full.
fn hit(what: &str, h: &Hits) -> String {
    match h.first == h.last {
        true => format!("; {what} {}", h.first),
        false => {
            format!("; first {what} {}, last {}, within {:.1} s", h.first, h.last, seconds(h.first_at, h.last_at))
        }
    }
}

/// Cards whose receive ring had no descriptor left.
fn rings(k: &Kernel, ns: NsId, name: &str, out: &mut Vec<String>) {
    for d in k.net.ns_devs(ns).filter_map(|d| k.net.devs.get(d)) {
        let Some((nic, h)) = d.nic().and_then(|nic| Some((nic, nic.rx_full?))) else { continue };
        let (dev, often) = (&d.name, times(h.count, "time"));
        let limit = nic.queues.first().map_or(0, |q| q.rx.size());
        let wait = nic.queues.first().map_or(0, |q| q.irq.rx_usecs);
        let late = if wait == 0 {
            String::new()
        } else {
            format!("; its interrupt waits {wait} us (ethtool -C {dev} rx-usecs)")
        };
        out.push(format!(
            "{name}receive ring of {dev} was full {often}: limit {limit} descriptors (ethtool -G {dev} rx){late}{}",
            hit("sender", &h)
        ));
    }
}

/// Told with the queues and with the link.
const TOLD: &[DropReason] = &[
    DropReason::TcpListenOverflow,
    DropReason::TcpReqQFull,
    DropReason::SocketRcvbuff,
    DropReason::NeighCreateFail,
    DropReason::LinkLoss,
    DropReason::LinkLimit,
];

fn drops(k: &Kernel, name: &str, out: &mut Vec<String>) {
    let full: u64 = k.net.ns.iter().filter_map(|(_, n)| n.ct_full).map(|h| h.count).sum();
    let rings: u64 = k.net.devs.iter().filter_map(|(_, d)| d.nic()?.rx_full).map(|h| h.count).sum();
    let before = |r| match r {
        DropReason::NetfilterDrop => full,
        DropReason::FullRing => rings,
        _ => 0,
    };
    let told: Vec<_> = k
        .net
        .pool
        .drops()
        .filter(|(r, _)| !ordinary(*r) && !TOLD.contains(r))
        .map(|(r, n)| (r, n.saturating_sub(before(r))))
        .filter(|(_, n)| *n > 0)
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
        DropReason::FullRing => "the receive ring: ethtool -G DEVICE rx N",
        DropReason::QdiscDrop => "the limit of a queueing discipline, or txqueuelen: tc -s qdisc",
        DropReason::PktTooBig => "larger than the MTU of the next link; the sender is told by ICMP",
        DropReason::NetfilterDrop => {
            "a rule: iptables -L -v or nft list ruleset, and belljar trace JAR rule while it runs"
        }
        DropReason::IpInHdr => "bad headers, or a TTL that ran out",
        DropReason::NeighFailed => "nobody has the address: no answer to ARP or neighbour discovery",
        DropReason::NeighQueueFull => "net.ipv4.neigh.default.unres_qlen_bytes",
        DropReason::ProtoMem => "net.ipv4.tcp_rmem, net.ipv4.udp_mem",
        DropReason::FragReasmTimeout => "net.ipv4.ipfrag_time",
        _ => return None,
    })
}

/// A call without a descriptor for its answer.
fn starved(s: &Starved) -> String {
    let failed = format!("of {} failed {}: {}", s.program, times(s.count, "time"), s.errno.name());
    let why = match (s.errno, s.limit) {
        (Errno::EMFILE, Some(limit)) => format!(", it may have {limit} descriptors (RLIMIT_NOFILE, ulimit -n)"),
        (Errno::EMFILE, None) => ", it has as many descriptors as it may have (RLIMIT_NOFILE, ulimit -n)".to_owned(),
        _ => ", belljar itself has no descriptor left (ulimit -n, before it starts)".to_owned(),
    };
    match s.at {
        Some((addr, port)) => {
            format!("accept() {failed}{why}; connections to {addr}:{port} waited in the accept queue")
        }
        None => format!("socket() {failed}{why}"),
    }
}

/// A connection woke all who wait for one, and all but one for nothing.
fn herd(h: &Herd) -> String {
    let (addr, port) = h.at;
    format!(
        "accept() of {} at {} found nothing {}, another thread had been there: {} wait for the same connections, {} came; \
         EPOLLEXCLUSIVE wakes one of them, SO_REUSEPORT gives each a queue of its own (belljar lab run herd)",
        h.program,
        SocketAddr::new(addr, port),
        times(h.vain, "time"),
        times(h.threads as u64, "thread"),
        h.taken,
    )
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

/// From so long on a standing queue in front of a link is worth a line.
const BLOATED: u64 = 100_000_000;

/// What links did to packets as they were told to; `name` is empty for the only one.
fn conditions(name: &str, (there, back): (Stats, Stats), out: &mut Vec<String>) {
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
        let which = if name.is_empty() { "the link".to_owned() } else { format!("link {name}") };
        out.push(format!("{which}, of {}: {}", times(all, "packet"), told.join(", ")));
    }
    let w = if there.longest.ns > back.longest.ns { there.longest } else { back.longest };
    if w.ns >= BLOATED {
        let which = if name.is_empty() { "the link".to_owned() } else { format!("link {name}") };
        let set = Conditions { rate_bps: Some(w.rate_bps), limit: w.limit, ..Conditions::default() };
        out.push(format!(
            "the queue of {which} held packets for up to {:.2} s, beside its delay: {set}",
            w.ns as f64 / 1e9
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use belljar_kernel::drivers::nic::NicConfig;
    use belljar_kernel::net::tcp::account::{GivenUp, Nagled, NoPort, Stuck};
    use belljar_link::Wait;

    fn full(reason: DropReason) -> Overflow {
        let client = ([10, 0, 2, 15].into(), 40000);
        Overflow {
            addr: [0, 0, 0, 0].into(),
            port: 80,
            limit: 4,
            backlog: 128,
            by_syn_backlog: false,
            reason,
            count: 3,
            cookies: 0,
            first_client: client,
            last_client: client,
            first_at: 0,
            last_at: 0,
        }
    }

    fn host() -> (Kernel, NsId) {
        let mut k = Kernel::new(1);
        let ns = k.net.add_ns("host");
        k.sysctl_set(ns, "net.core.somaxconn", "4").unwrap();
        (k, ns)
    }

    #[test]
    fn nothing_happened_nothing_is_said() {
        let (mut k, ns) = host();
        assert!(kernels(&k, None, Default::default()).is_empty());
        k.net.ns.get_mut(ns).unwrap().tcp.account.overflows.push(full(DropReason::TcpListenOverflow));
        k.net.add(ns, Mib::TcpOutSegs, 100);
        k.net.add(ns, Mib::TcpRetransSegs, 2);
        k.net.add(ns, Mib::TcpExtTCPTimeouts, 1);
        let lost = Stats { sent: 9, lost: 1, ..Stats::default() };
        assert_eq!(
            kernels(&k, None, (lost, Stats::default())),
            [
                "accept queue of 0.0.0.0:80 was full 3 times: limit 4 (it holds one more), net.core.somaxconn = 4; listen() asked \
                 for 128; client 10.0.2.15:40000",
                "retransmitted 2 of 102 segments (1 timeout)",
                "the link, of 10 packets: 1 lost",
            ]
        );
    }

    #[test]
    fn what_was_full_names_its_limit_and_who_was_hit() {
        let (mut k, ns) = host();
        let dev = k.add_nic(ns, &NicConfig::default()).unwrap();
        let hits = Some(Hits {
            count: 3,
            first: [10, 0, 0, 2].into(),
            last: [10, 0, 0, 9].into(),
            first_at: 0,
            last_at: 1_500_000_000,
        });
        let (net, who) = (&mut k.net, "10.0.0.2, last 10.0.0.9, within 1.5 s");
        net.devs.get_mut(dev).unwrap().nic_mut().unwrap().rx_full = hits;
        net.neigh[0].full = hits;
        net.neigh_stats(false).table_fulls = 3;
        let n = net.ns.get_mut(ns).unwrap();
        (n.ct_full, n.ct_stat.drop) = (hits, 3);
        let slow = Wait { ns: 450_000_000, rate_bps: 5_000_000, limit: 1000 };
        let link = (Stats { sent: 9, longest: slow, ..Stats::default() }, Stats::default());
        assert_eq!(
            kernels(&k, None, link),
            [
                format!(
                    "receive ring of eth0 was full 3 times: limit 256 descriptors (ethtool -G eth0 rx); first sender {who}"
                ),
                format!(
                    "3 packets dropped, the table of connections was full (net.netfilter.nf_conntrack_max = 262144); first client {who}"
                ),
                format!(
                    "the table of neighbours was full 3 times (net.ipv4.neigh.default.gc_thresh3 = 1024); first address {who}"
                ),
                "the queue of the link held packets for up to 0.45 s, beside its delay: limit 1000 rate 5Mbit"
                    .to_owned(),
            ]
        );
    }

    #[test]
    fn a_limit_has_its_origin() {
        let (mut k, ns) = host();
        let mut o = full(DropReason::TcpReqQFull);
        (o.backlog, o.cookies, o.last_client.1, o.last_at) = (4, 2, 40009, 1_500_000_000);
        assert_eq!(
            overflow(&k, ns, &o),
            "SYN queue of 0.0.0.0:80 was full 3 times: limit 4 (it holds one more), as listen() asked for; net.core.somaxconn = 4; \
             net.ipv4.tcp_syncookies = 1; 2 SYNs answered with cookies, 1 dropped; first client 10.0.2.15:40000, last 10.0.2.15:40009, within 1.5 s"
        );
        o = full(DropReason::TcpListenOverflow);
        k.sysctl_set(ns, "net.core.somaxconn", "100").unwrap();
        assert!(overflow(&k, ns, &o).contains(
            "limit 4 (it holds one more), net.core.somaxconn when listen() asked for 128; net.core.somaxconn = 100 now, for the next \
             listen()"
        ));
        o = full(DropReason::TcpReqQFull);
        (o.by_syn_backlog, o.limit) = (true, 12);
        k.sysctl_set(ns, "net.ipv4.tcp_max_syn_backlog", "16").unwrap();
        assert!(
            overflow(&k, ns, &o)
                .contains("limit 12, three quarters of net.ipv4.tcp_max_syn_backlog = 16: the rest is for known peers")
        );
    }

    #[test]
    fn ports_and_patience() {
        let (mut k, ns) = host();
        k.sysctl_set(ns, "net.ipv4.ip_local_port_range", "50000 50009").unwrap();
        k.sysctl_set(ns, "net.ipv4.ip_local_reserved_ports", "50003,50005-50006").unwrap();
        let a = &mut k.net.ns.get_mut(ns).unwrap().tcp.account;
        let to = ([127, 0, 0, 1].into(), 7000);
        a.no_ports.push(NoPort { to, range: (50000, 50009), time_wait: 3, count: 5 });
        a.given_up.push(GivenUp { why: Patience::Keepalive, last: to, count: 1 });
        a.given_up.push(GivenUp { why: Patience::Data, last: to, count: 2 });
        a.nagled = Some(Nagled { count: 10, total_ms: 404, local: to, peer: to });
        a.stuck = (2, Some(Stuck { local: to, peer: to, mss: 1448, waited_ms: 6200 }));
        assert_eq!(
            kernels(&k, None, Default::default()),
            [
                "connect() to 127.0.0.1:7000 found no free port 5 times: 50000 to 50009, 7 ports, 3 of them in TIME_WAIT the first \
                 time; net.ipv4.tcp_tw_reuse = 2; net.ipv4.ip_local_port_range = 50000 50009; net.ipv4.ip_local_reserved_ports = \
                 50003,50005-50006",
                "1 connection given up, with 127.0.0.1:7000: no answer to keepalive probes (net.ipv4.tcp_keepalive_probes = 9, or \
                 TCP_KEEPCNT)",
                "2 connections given up, last with 127.0.0.1:7000: no acknowledgement, or a closed window, for too long \
                 (net.ipv4.tcp_retries2 = 15, or TCP_USER_TIMEOUT)",
                "2 connections sent segments of 1448 bytes and none was acknowledged, the longest 127.0.0.1:7000 to 127.0.0.1:7000 \
                 for 6.2 s: a link on the way with a smaller MTU, and its ICMP lost? net.ipv4.tcp_mtu_probing = 0 (1 finds it out), \
                 or a smaller MTU or advmss for the route",
                "10 small writes waited for the acknowledgement of the one before (Nagle), 40 ms in the mean, the last from \
                 127.0.0.1:7000 to 127.0.0.1:7000: the peer delays its ACKs; one write instead of two (writev, MSG_MORE), or \
                 TCP_NODELAY",
            ]
        );
    }
}
