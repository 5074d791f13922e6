//! The stages of both paths, in the order packets take, from the views of a host.
use super::Look;
use belljar_kernel::view::{LinkView, SockView};

/// A stage: what passed it so far, its queue, what it dropped.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// `receive` or `send`.
    pub way: &'static str,
    pub stage: String,
    pub passed: f64,
    pub bytes: Option<f64>,
    pub waiting: Option<u64>,
    pub limit: Option<u64>,
    pub dropped: Option<u64>,
    pub note: String,
}

impl Row {
    fn new(way: &'static str, stage: impl Into<String>, passed: u64) -> Row {
        Row { way, stage: stage.into(), passed: passed as f64, ..Row::default() }
    }

    fn bytes(self, n: u64) -> Row {
        Row { bytes: Some(n as f64), ..self }
    }

    fn waiting(self, n: u64, limit: impl Into<Option<u64>>) -> Row {
        Row { waiting: Some(n), limit: limit.into(), ..self }
    }

    fn dropped(self, n: u64) -> Row {
        Row { dropped: Some(n), ..self }
    }

    fn note(self, note: String) -> Row {
        Row { note, ..self }
    }
}

/// The sum of counters by their names in nstat.
fn sum(look: &Look, names: &[&str]) -> u64 {
    let of = |name: &&str| {
        let split =
            |c: &&belljar_kernel::view::CounterView| name.strip_prefix(c.group.as_str()) == Some(c.name.as_str());
        look.counters.iter().find(split).map_or(0, |c| c.value)
    };
    names.iter().map(of).sum()
}

/// Words about counters that moved: `3 TCPTimeouts`.
fn moved(look: &Look, names: &[&str]) -> String {
    let of = |name: &&str| Some(sum(look, &[name])).filter(|n| *n > 0).map(|n| format!("{n} {name}"));
    names.iter().filter_map(of).collect::<Vec<_>>().join(", ")
}

pub fn rows(look: &Look) -> Vec<Row> {
    let mut out = Vec::new();
    receive_devices(look, &mut out);
    receive_network(look, &mut out);
    receive_sockets(look, &mut out);
    send(look, &mut out);
    look.links.iter().for_each(|l| send_device(l, &mut out));
    out
}

fn receive_devices(look: &Look, out: &mut Vec<Row>) {
    for l in &look.links {
        let s = &l.stats;
        let row = Row::new("receive", l.name.clone(), s.rx_packets).bytes(s.rx_bytes);
        let Some(r) = &l.rings else {
            out.push(row.dropped(s.rx_dropped));
            continue;
        };
        out.push(Row {
            stage: format!("{} ring", l.name),
            ..row.waiting(r.rx_used.into(), u64::from(r.rx)).dropped(s.rx_missed_errors)
        });
        out.push(Row::new("receive", format!("{} interrupts", l.name), r.rx_interrupts).note(r.napi.clone()));
    }
    let cpus = &look.softnet;
    let all = |f: fn(&belljar_kernel::view::SoftnetView) -> u64| cpus.iter().map(f).sum::<u64>();
    let squeezed = all(|c| c.time_squeeze);
    let ksoftirqd = all(|c| c.ksoftirqd_runs);
    out.push(
        Row::new("receive", "NET_RX, backlog", all(|c| c.processed))
            .waiting(all(|c| u64::from(c.input_qlen) + u64::from(c.process_qlen)), None)
            .dropped(all(|c| c.dropped))
            .note(format!("{squeezed} time_squeeze, {ksoftirqd} ksoftirqd")),
    );
}

fn receive_network(look: &Look, out: &mut Vec<Row>) {
    let (n, way) = (|names: &[&str]| sum(look, names), "receive");
    let bad = n(&["IpInHdrErrors", "IpInAddrErrors", "IpInDiscards", "IpInUnknownProtos", "IpExtInNoRoutes"])
        + n(&["Ip6InHdrErrors", "Ip6InAddrErrors", "Ip6InDiscards", "Ip6InUnknownProtos", "Ip6InNoRoutes"]);
    out.push(
        Row::new(way, "ip_rcv", n(&["IpInReceives", "Ip6InReceives"]))
            .bytes(n(&["IpExtInOctets", "Ip6InOctets"]))
            .dropped(bad),
    );
    if n(&["IpReasmReqds", "Ip6ReasmReqds"]) > 0 {
        let whole = n(&["IpReasmOKs", "Ip6ReasmOKs"]);
        out.push(
            Row::new(way, "reassembly", n(&["IpReasmReqds", "Ip6ReasmReqds"]))
                .dropped(n(&["IpReasmFails", "Ip6ReasmFails"]))
                .note(format!("{whole} whole")),
        );
    }
    if n(&["IpForwDatagrams", "Ip6OutForwDatagrams"]) > 0 {
        out.push(Row::new(way, "ip_forward", n(&["IpForwDatagrams", "Ip6OutForwDatagrams"])));
    }
    out.push(
        Row::new(way, "icmp_rcv", n(&["IcmpInMsgs", "Icmp6InMsgs"])).dropped(n(&["IcmpInErrors", "Icmp6InErrors"])),
    );
    out.push(
        Row::new(way, "tcp_rcv", n(&["TcpInSegs"]))
            .dropped(n(&["TcpInErrs", "TcpExtTCPBacklogDrop", "TcpExtPFMemallocDrop"]))
            .note(moved(look, &["TcpExtTCPOFOQueue", "TcpExtPruneCalled", "TcpExtTCPRcvQDrop"])),
    );
}

fn receive_sockets(look: &Look, out: &mut Vec<Row>) {
    let (n, way) = (|names: &[&str]| sum(look, names), "receive");
    let tcp = |listen: bool| look.sockets.iter().filter(move |s| s.netid == "tcp" && (s.state == "LISTEN") == listen);
    let listeners: Vec<&SockView> = tcp(true).collect();
    if !listeners.is_empty() {
        let syns = listeners.iter().filter_map(|s| s.syn_queue).map(u64::from).sum();
        out.push(
            Row::new(way, "SYN queue", n(&["TcpPassiveOpens"]))
                .waiting(syns, None)
                // Who found the accept queue full counts as both, and is told there.
                .dropped(n(&["TcpExtListenDrops"]).saturating_sub(n(&["TcpExtListenOverflows"])))
                .note(moved(look, &["TcpExtSyncookiesSent", "TcpExtTCPReqQFullDrop"])),
        );
        // One more than the limit is admitted.
        let fullest = listeners.iter().max_by_key(|s| s.recv_q * 1000 / (s.send_q + 1));
        let (used, limit) = fullest.map_or((0, 0), |s| (s.recv_q, s.send_q + 1));
        out.push(
            Row::new(way, "accept queue", n(&["TcpPassiveOpens"]))
                .waiting(used, limit)
                .dropped(n(&["TcpExtListenOverflows"]))
                .note(fullest.map_or(String::new(), |s| format!("port {}", s.lport))),
        );
    }
    let unread = tcp(false).map(|s| s.recv_q).sum();
    out.push(Row::new(way, "tcp_recvmsg (bytes)", n(&["TcpInSegs"])).waiting(unread, None));
    let udp = || look.sockets.iter().filter(|s| s.netid == "udp");
    let fullest = udp()
        .filter_map(|s| s.skmem.as_ref())
        .max_by_key(|m| u64::from(m.rmem_alloc) * 1000 / u64::from(m.rcvbuf.max(1)));
    let row = Row::new(way, "udp_recvmsg (bytes)", n(&["UdpInDatagrams", "Udp6InDatagrams"]));
    let lost = n(&["UdpRcvbufErrors", "UdpNoPorts", "UdpInCsumErrors", "UdpMemErrors"])
        + n(&["Udp6RcvbufErrors", "Udp6NoPorts", "Udp6InCsumErrors", "Udp6MemErrors"]);
    let row =
        row.dropped(lost).note(moved(look, &["UdpRcvbufErrors", "UdpNoPorts", "Udp6RcvbufErrors", "Udp6NoPorts"]));
    out.push(match fullest {
        Some(m) => row.waiting(m.rmem_alloc.into(), u64::from(m.rcvbuf)),
        None => row,
    });
}

fn send(look: &Look, out: &mut Vec<Row>) {
    let (n, way) = (|names: &[&str]| sum(look, names), "send");
    let unacked = look.sockets.iter().filter(|s| s.netid == "tcp" && s.state != "LISTEN").map(|s| s.send_q).sum();
    out.push(Row::new(way, "tcp_sendmsg (bytes)", n(&["TcpOutSegs"])).waiting(unacked, None));
    out.push(
        Row::new(way, "tcp_write_xmit", n(&["TcpOutSegs"]))
            .note(moved(look, &["TcpRetransSegs", "TcpExtTCPTimeouts", "TcpExtTCPLossProbes", "TcpOutRsts"])),
    );
    out.push(
        Row::new(way, "udp_sendmsg", n(&["UdpOutDatagrams", "Udp6OutDatagrams"]))
            .dropped(n(&["UdpSndbufErrors", "Udp6SndbufErrors"])),
    );
    out.push(
        Row::new(way, "ip_output", n(&["IpOutRequests", "Ip6OutRequests"]))
            .bytes(n(&["IpExtOutOctets", "Ip6OutOctets"]))
            // Discards are shown by the stage that refused: a hook, a queue.
            .dropped(n(&["IpOutNoRoutes", "Ip6OutNoRoutes"])),
    );
    if n(&["IpFragCreates", "Ip6FragCreates", "IpFragFails", "Ip6FragFails"]) > 0 {
        let row = Row::new(way, "ip_fragment", n(&["IpFragCreates", "Ip6FragCreates"]));
        out.push(row.dropped(n(&["IpFragFails", "Ip6FragFails"])));
    }
    let queued = look.neighs.iter().map(|e| u64::from(e.queued)).sum();
    let unresolved = look.drops.iter().filter(|d| d.reason.starts_with("NEIGH_")).map(|d| d.packets).sum();
    out.push(
        Row::new(way, "neighbour", n(&["IpOutTransmits", "Ip6OutTransmits"])).waiting(queued, None).dropped(unresolved),
    );
}

fn send_device(l: &LinkView, out: &mut Vec<Row>) {
    let s = &l.stats;
    if l.qdisc != "noqueue" {
        out.push(
            Row::new("send", format!("{} {}", l.name, l.qdisc), s.tx_packets)
                .waiting(l.qdisc_len.into(), u64::from(l.txqlen))
                .dropped(l.qdisc_drops),
        );
    }
    let row = Row::new("send", l.name.clone(), s.tx_packets).bytes(s.tx_bytes).dropped(s.tx_dropped);
    let Some(r) = &l.rings else { return out.push(row) };
    let full = Some(format!("{} times full", r.tx_stops)).filter(|_| r.tx_stops > 0);
    let note = full.into_iter().chain(Some(r.bql.clone()).filter(|b| !b.is_empty())).collect::<Vec<_>>().join(", ");
    let ring = Row { stage: format!("{} ring", l.name), ..row.waiting(r.tx_used.into(), u64::from(r.tx)) };
    out.push(ring.note(note));
    out.push(Row::new("send", format!("{} interrupts", l.name), r.tx_interrupts));
}
