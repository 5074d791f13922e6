//! What somebody could try next, from what happened. Every sentence names the setting and the option that sets it here.
use belljar_kernel::Kernel;
use belljar_kernel::ids::NsId;
use belljar_kernel::net::drop::DropReason;
use belljar_kernel::net::mib::Mib;
use belljar_link::Stats;

/// Sentences; none when nothing calls for any.
pub fn advice(k: &Kernel, ns: NsId, link: Option<(Stats, Stats)>) -> Vec<String> {
    let mut out = Vec::new();
    let Some(n) = k.net.ns.get(ns) else { return out };
    let somaxconn = n.sysctl.show("net.core.somaxconn").and_then(|v| v.parse().ok()).unwrap_or(4096u32);
    for o in &n.tcp.account.overflows {
        let at = format!("{}:{}", o.addr, o.port);
        out.push(match o.reason {
            DropReason::TcpListenOverflow if o.backlog > o.limit && o.limit < somaxconn => format!(
                "{at}: net.core.somaxconn was {} when listen() was called; {somaxconn} counts once the program calls it again.",
                o.limit
            ),
            DropReason::TcpListenOverflow if o.limit < somaxconn => format!(
                "{at}: the program asked listen() for {} itself; net.core.somaxconn = {somaxconn} would allow more. Raise the backlog in \
                 the program's own configuration, and look at why it does not accept: a queue only covers a pause.",
                o.limit
            ),
            DropReason::TcpListenOverflow => format!(
                "{at}: net.core.somaxconn is the limit. Run again with --sysctl net.core.somaxconn={}; if the queue fills again, the \
                 program accepts too slowly and a longer queue only makes clients wait longer.",
                o.limit.saturating_mul(32).max(4096)
            ),
            _ if o.cookies == o.count => continue,
            _ => format!(
                "{at}: half-open connections filled the queue. With --sysctl net.ipv4.tcp_syncookies=1 its overflow is answered with \
                 cookies; a longer queue needs both a larger listen() backlog and net.ipv4.tcp_max_syn_backlog."
            ),
        });
    }
    let (again, sent) = (n.mib.get(Mib::TcpRetransSegs), n.mib.get(Mib::TcpOutSegs));
    let taken = link.map_or(0, |(a, b)| a.lost + a.overlimit + b.lost + b.overlimit);
    let unanswered = n.mib.get(Mib::TcpExtTCPSynRetrans);
    if again > 0 && taken > 0 {
        out.push(format!(
            "The link took {taken} packets away as it was told to, which explains retransmissions. Compare with a run without --loss and \
             --limit, or change the link while it runs: belljar link JAR loss 0%."
        ));
    } else if again > unanswered && again * 100 > sent {
        out.push(
            "More than one segment in a hundred was repeated although the link lost none: look for drops in the path below, and for \
             spurious timeouts among the counters (TcpExtTCPSpuriousRTOs, TcpExtTCPDSACKRecv)."
                .to_owned(),
        );
    }
    if n.mib.get(Mib::UdpRcvbufErrors) > 0 {
        out.push(
            "Datagrams came faster than the program read them: set SO_RCVBUF in the program (up to net.core.rmem_max), or --sysctl \
             net.core.rmem_default=4194304 for programs that set none."
                .to_owned(),
        );
    }
    if k.net.pool.drops().any(|(r, _)| r == DropReason::FullRing) {
        out.push("The receive ring was full: --nic rx=4096, or ethtool -G eth0 rx 4096, makes it longer.".to_owned());
    }
    if !out.is_empty() {
        out.push("To see the packets themselves, run again with the same --seed and --pcap FILE.pcapng: drops are in it, with their reasons.".to_owned());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use belljar_kernel::net::tcp::handshake::overflow::Overflow;

    #[test]
    fn the_limit_that_struck_is_the_one_to_turn() {
        let mut k = Kernel::new(1);
        let ns = k.net.add_ns("host");
        assert!(advice(&k, ns, None).is_empty());
        let client = ([10, 0, 2, 15].into(), 40000);
        let o = Overflow {
            addr: [0, 0, 0, 0].into(),
            port: 80,
            limit: 5,
            backlog: 5,
            by_syn_backlog: false,
            reason: DropReason::TcpListenOverflow,
            count: 3,
            cookies: 0,
            first_client: client,
            last_client: client,
            first_at: 0,
            last_at: 0,
        };
        k.net.ns.get_mut(ns).unwrap().tcp.account.overflows.push(o);
        assert!(advice(&k, ns, None)[0].contains("asked listen() for 5 itself"));
        k.sysctl_set(ns, "net.core.somaxconn", "5").unwrap();
        assert!(advice(&k, ns, None)[0].contains("--sysctl net.core.somaxconn=4096"));
    }
}
