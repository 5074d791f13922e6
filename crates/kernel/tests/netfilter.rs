//! Netfilter with packets: hooks and their counters, verdicts, connections, translation.
mod three;
use belljar_abi::*;
use belljar_kernel::env::trace::{Event, RuleHit, Wanted};
use belljar_kernel::net::netfilter::Pf;
use belljar_wire::ipv4::Ipv4Header;
use three::*;

const DGRAM: i32 = SOCK_DGRAM | SOCK_NONBLOCK;

#[test]
fn without_tables_nothing_stands_at_the_hooks() {
    let mut t = Three::new();
    let s = t.bound(SERVER, DGRAM, B, 7);
    let c = t.socket(CLIENT, DGRAM);
    t.send_to(CLIENT, c, b"x", B, 7).unwrap();
    assert_eq!(t.recv(SERVER, s).unwrap().0, b"x");
    assert!(!t.k[ROUTER].net.nf_active);
}

#[test]
fn every_hook_counts_what_passes() {
    let mut t = Three::new();
    t.iptables(ROUTER, "-t mangle -L");
    t.iptables(ROUTER, "-t raw -L");
    t.iptables(ROUTER, "-t nat -A POSTROUTING -d 9.9.9.9");
    t.iptables(ROUTER, "-L");
    t.iptables(CLIENT, "-t mangle -L\n-L");
    let s = t.bound(SERVER, DGRAM, B, 7);
    let c = t.socket(CLIENT, DGRAM);
    t.send_to(CLIENT, c, b"x", B, 7).unwrap();
    let (_, from) = t.recv(SERVER, s).unwrap();
    assert_eq!(from.to_ip().unwrap().0, core::net::IpAddr::V4(A));
    let one = [(1, 29)];
    for chain in ["raw/PREROUTING", "mangle/PREROUTING", "mangle/FORWARD", "FORWARD", "mangle/POSTROUTING"] {
        assert_eq!(t.counts(ROUTER, chain), one, "{chain}");
    }
    // Nothing here needs connections, so nat is not asked.
    assert_eq!(t.counts(ROUTER, "nat/PREROUTING"), [(0, 0)]);
    assert_eq!(t.counts(ROUTER, "mangle/INPUT"), [(0, 0)]);
    for chain in ["mangle/OUTPUT", "OUTPUT", "mangle/POSTROUTING"] {
        assert_eq!(t.counts(CLIENT, chain), one, "{chain}");
    }
}

#[test]
fn drop_and_reject_on_their_way_out() {
    let mut t = Three::new();
    let c = t.socket(CLIENT, DGRAM);
    t.iptables(CLIENT, "-A OUTPUT -p udp --dport 9 -j DROP\n-A OUTPUT -p udp --dport 10 -j REJECT");
    assert_eq!(t.send_to(CLIENT, c, b"x", B, 9), Err(Errno::EPERM));
    assert_eq!(t.send_to(CLIENT, c, b"x", B, 10), Err(Errno::EPERM));
    assert_eq!(t.dropped(CLIENT), 2);
    t.iptables(CLIENT, "-A OUTPUT -p tcp --dport 80 -j REJECT\n-A OUTPUT -p tcp --dport 81 -j DROP");
    assert_eq!(t.connect(CLIENT, B, 80), Err(Errno::ECONNREFUSED));
    assert_eq!(t.connect(CLIENT, B, 81), Err(Errno::EAGAIN), "it tries again until its time is over");
    assert!(t.counts(CLIENT, "OUTPUT")[4].0 > 2);
}

#[test]
fn reject_tells_the_sender() {
    let mut t = Three::new();
    let _l = t.bound(SERVER, SOCK_STREAM, B, 80);
    for with in ["tcp-reset", "icmp-port-unreachable", "icmp-admin-prohibited"] {
        let rule = format!("-p tcp --dport 80 -j REJECT --reject-with {with}");
        t.iptables(ROUTER, &format!("-A FORWARD {rule}"));
        let want = if with == "icmp-admin-prohibited" { Errno::EHOSTUNREACH } else { Errno::ECONNREFUSED };
        assert_eq!(t.connect(CLIENT, B, 80), Err(want), "{with}");
        assert_eq!(t.counts(ROUTER, "FORWARD")[1], (1, 60));
        t.iptables(ROUTER, "-F FORWARD");
        t.iptables(SERVER, &format!("-A INPUT {rule}"));
        assert_eq!(t.connect(CLIENT, B, 80), Err(want), "{with}");
        t.iptables(SERVER, "-F INPUT");
    }
    t.connect(CLIENT, B, 80).unwrap();
}

#[test]
fn input_drop_makes_the_peer_try_again() {
    let mut t = Three::new();
    let _l = t.bound(SERVER, SOCK_STREAM, B, 80);
    t.iptables(SERVER, "-A INPUT -p tcp --dport 80 -j DROP");
    let fd = t.socket(CLIENT, SOCK_STREAM | SOCK_NONBLOCK);
    let addr = SockAddr::V4(B, 80).emit();
    use belljar_kernel::task::call::Call;
    assert_eq!(t.try_call(CLIENT, Call::Connect { fd, addr: &addr }), Err(Errno::EINPROGRESS));
    t.sleep(2500);
    assert_eq!(t.counts(SERVER, "INPUT")[1], (3, 180));
    assert_eq!(t.dropped(SERVER), 3);
}

#[test]
fn chains_call_return_and_go() {
    let mut t = Three::new();
    let s = t.bound(SERVER, DGRAM, B, 7);
    t.iptables(
        SERVER,
        "-N one
         -N two
         -A INPUT -j one
         -A INPUT -p udp -g two
         -A INPUT -j DROP
         -A one -p tcp -j ACCEPT
         -A one -p udp -j RETURN
         -A one -j DROP
         -A two -m mark --mark 7 -j ACCEPT",
    );
    let c = t.socket(CLIENT, DGRAM);
    t.send_to(CLIENT, c, b"x", B, 7).unwrap();
    assert!(t.recv(SERVER, s).is_ok(), "the end of what was gone to is the policy");
    assert_eq!(t.counts(SERVER, "INPUT"), [(1, 29), (1, 29), (1, 29), (0, 0)]);
    assert_eq!(t.counts(SERVER, "one"), [(0, 0), (1, 29), (0, 0)]);
    t.iptables(SERVER, "-P INPUT DROP");
    t.send_to(CLIENT, c, b"x", B, 7).unwrap();
    assert!(t.recv(SERVER, s).is_err());
}

#[test]
fn masquerade_and_its_states() {
    let mut t = Three::new();
    t.iptables(
        ROUTER,
        "-t nat -A POSTROUTING -o eth1 -j MASQUERADE\n-A FORWARD -m conntrack --ctstate ESTABLISHED\n-L",
    );
    let l = t.bound(SERVER, SOCK_STREAM, B, 80);
    let c = t.connect(CLIENT, B, 80).unwrap();
    let (a, peer) = t.accept(SERVER, l).unwrap();
    assert_eq!(peer.to_ip().unwrap().0, core::net::IpAddr::V4(R2));
    t.send(CLIENT, c, &vec![5; 100_000]).unwrap();
    let mut got = 0;
    while let Ok((d, _)) = t.recv(SERVER, a) {
        got += d.len();
        t.sleep(10);
    }
    assert_eq!(got, 100_000);
    assert_eq!(t.counts(ROUTER, "nat/POSTROUTING")[1], (1, 60), "only the first packet asks");
    let line = &t.conntrack(ROUTER)[0];
    assert!(line.starts_with("ipv4     2 tcp      6 "), "{line}");
    assert!(line.contains(" ESTABLISHED src=10.0.1.2 dst=10.0.2.2 sport="), "{line}");
    assert!(line.contains(" dport=80 src=10.0.2.2 dst=10.0.2.1 sport=80 dport="), "{line}");
    assert!(line.ends_with("[ASSURED] mark=0 zone=0 use=2"), "{line}");
    for f in &t.seen[1] {
        belljar_wire::gso::verify(f).unwrap();
    }
    use belljar_kernel::task::call::Call;
    t.try_call(CLIENT, Call::Close { fd: c }).unwrap();
    t.try_call(SERVER, Call::Close { fd: a }).unwrap();
    t.sleep(100);
    assert!(t.conntrack(ROUTER)[0].contains(" TIME_WAIT "), "{:?}", t.conntrack(ROUTER));
    assert_eq!(t.sysctl_get(ROUTER, "net.netfilter.nf_conntrack_count"), "1");
    t.sleep(121_000);
    assert_eq!(t.sysctl_get(ROUTER, "net.netfilter.nf_conntrack_count"), "0");
}

/// The reset that refuses a connection is the connection's last packet, and not INVALID: it comes back through a router that
/// masquerades and drops what it does not know, and through lo.
#[test]
fn a_refusal_comes_back() {
    let mut t = Three::new();
    let invalid = "-A FORWARD -m conntrack --ctstate INVALID -j DROP\n-A FORWARD -m conntrack --ctstate ESTABLISHED";
    t.iptables(ROUTER, &format!("-t nat -A POSTROUTING -o eth1 -j MASQUERADE\n{invalid}"));
    assert_eq!(t.connect(CLIENT, B, 9999), Err(Errno::ECONNREFUSED));
    assert_eq!(t.counts(ROUTER, "FORWARD"), [(2, 100), (0, 0), (1, 40)]);
    assert_eq!((t.dropped(ROUTER), t.conntrack(ROUTER).len()), (0, 0));
    assert_eq!(t.sysctl_get(ROUTER, "net.netfilter.nf_conntrack_count"), "0");
    t.iptables(CLIENT, "-A OUTPUT -m conntrack --ctstate INVALID -j DROP");
    assert_eq!(t.connect(CLIENT, core::net::Ipv4Addr::LOCALHOST, 9999), Err(Errno::ECONNREFUSED));
    assert_eq!(t.counts(CLIENT, "OUTPUT"), [(2, 100), (0, 0)]);
    // Nothing is kept once the packet is through.
    t.sleep(100);
    assert!(t.k[ROUTER].net.ct.conns.is_empty() && t.k[CLIENT].net.ct.conns.is_empty());
}

#[test]
fn udp_replies_and_assurance() {
    let mut t = Three::new();
    t.iptables(ROUTER, "-A FORWARD -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT\n-P FORWARD DROP");
    let s = t.bound(SERVER, DGRAM, B, 53);
    let c = t.bound(CLIENT, DGRAM, A, 4000);
    t.send_to(CLIENT, c, b"q", B, 53).unwrap();
    assert_eq!(
        t.conntrack(ROUTER),
        ["ipv4     2 udp      17 29 src=10.0.1.2 dst=10.0.2.2 sport=4000 dport=53 [UNREPLIED] src=10.0.2.2 \
          dst=10.0.1.2 sport=53 dport=4000 mark=0 zone=0 use=2"]
        .map(|l| l.replace(" 29 ", " 30 "))
    );
    let (_, from) = t.recv(SERVER, s).unwrap();
    let (ip, port) = from.to_ip().unwrap();
    assert_eq!((ip, port), (A.into(), 4000));
    t.send_to(SERVER, s, b"a", A, 4000).unwrap();
    assert!(!t.conntrack(ROUTER)[0].contains("UNREPLIED"));
    t.sleep(2100);
    t.send_to(CLIENT, c, b"q", B, 53).unwrap();
    let line = &t.conntrack(ROUTER)[0];
    assert!(line.contains("17 120 ") && line.contains("[ASSURED]"), "{line}");
    t.sleep(121_000);
    assert!(t.conntrack(ROUTER).is_empty());
}

#[test]
fn two_clients_with_one_port() {
    let mut t = Three::new();
    t.k[CLIENT].add_address(t.dev[0], core::net::Ipv4Addr::new(10, 0, 1, 3), 24).unwrap();
    t.iptables(ROUTER, "-t nat -A POSTROUTING -o eth1 -j MASQUERADE");
    let s = t.bound(SERVER, DGRAM, B, 53);
    let mut ports = vec![];
    for (addr, port) in [(A, 600), (core::net::Ipv4Addr::new(10, 0, 1, 3), 600), (A, 40_000)] {
        let c = t.bound(CLIENT, DGRAM, addr, port);
        t.send_to(CLIENT, c, b"q", B, 53).unwrap();
        let from = t.recv(SERVER, s).unwrap().1.to_ip().unwrap();
        assert_eq!(from.0, core::net::IpAddr::V4(R2));
        t.send_to(SERVER, s, b"answer", R2, from.1).unwrap();
        assert_eq!(t.recv(CLIENT, c).unwrap().0, b"answer");
        ports.push(from.1);
    }
    assert_eq!((ports[0], ports[2]), (600, 40_000));
    assert!(ports[1] != 600 && (600..1024).contains(&ports[1]), "{ports:?}");
}

#[test]
fn published_ports() {
    let mut t = Three::new();
    t.iptables(ROUTER, "-t nat -A PREROUTING -p tcp -d 10.0.1.1 --dport 8080 -j DNAT --to-destination 10.0.2.2:80");
    t.iptables(ROUTER, "-t nat -A OUTPUT -p tcp -d 10.0.1.1 --dport 8080 -j DNAT --to-destination 10.0.2.2:80");
    let l = t.bound(SERVER, SOCK_STREAM, B, 80);
    let c = t.connect(CLIENT, R1, 8080).unwrap();
    let (a, peer) = t.accept(SERVER, l).unwrap();
    assert_eq!(peer.to_ip().unwrap().0, core::net::IpAddr::V4(A), "the server sees who it is");
    t.send(SERVER, a, b"hello").unwrap();
    assert_eq!(t.recv(CLIENT, c).unwrap().0, b"hello");
    let line = &t.conntrack(ROUTER)[0];
    assert!(line.contains("dst=10.0.1.1 ") && line.contains("src=10.0.2.2 dst=10.0.1.2 sport=80 "), "{line}");
    // The router's own go by OUTPUT, and look for their way again.
    t.connect(ROUTER, R1, 8080).unwrap();
    let (_, peer) = t.accept(SERVER, l).unwrap();
    assert_eq!(peer.to_ip().unwrap().0, core::net::IpAddr::V4(R1));
}

#[test]
fn redirect_and_local_names() {
    let mut t = Three::new();
    t.iptables(ROUTER, "-t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 3128");
    let l = t.bound(ROUTER, SOCK_STREAM, core::net::Ipv4Addr::UNSPECIFIED, 3128);
    let c = t.connect(CLIENT, B, 80).unwrap();
    let (a, _) = t.accept(ROUTER, l).unwrap();
    t.send(ROUTER, a, b"proxy").unwrap();
    assert_eq!(t.recv(CLIENT, c).unwrap().0, b"proxy");
}

#[test]
fn errors_about_translated_packets_come_back() {
    let mut t = Three::new();
    t.iptables(ROUTER, "-t nat -A POSTROUTING -o eth1 -j MASQUERADE");
    t.iptables(ROUTER, "-A FORWARD -m conntrack --ctstate RELATED");
    let c = t.bound(CLIENT, DGRAM, A, 4000);
    use belljar_kernel::task::call::Call;
    t.try_call(CLIENT, Call::Connect { fd: c, addr: &SockAddr::V4(B, 9).emit() }).unwrap();
    t.send(CLIENT, c, b"x").unwrap();
    assert_eq!(t.recv(CLIENT, c), Err(Errno::ECONNREFUSED));
    assert_eq!(t.counts(ROUTER, "FORWARD")[1].0, 1);
    for link in &t.seen {
        link.iter().for_each(|f| belljar_wire::gso::verify(f).unwrap());
    }
    let last =
        t.seen[0].iter().rev().find(|f| Ipv4Header::parse(&f.to_vec()[14..]).is_ok_and(|h| h.proto == 1)).unwrap();
    let b = last.to_vec();
    let inner = Ipv4Header::parse(&b[42..]).unwrap();
    assert_eq!((inner.src, inner.dst), (A, B));
    assert!(Ipv4Header::verify_checksum(&b[42..]));
}

#[test]
fn echo_through_a_router_that_masquerades() {
    let mut t = Three::new();
    t.iptables(ROUTER, "-t nat -A POSTROUTING -o eth1 -j MASQUERADE\n-L");
    t.sysctl(CLIENT, "net.ipv4.ping_group_range", "0 2147483647");
    use belljar_kernel::task::call::{Call, Ret};
    let c = match t.try_call(CLIENT, Call::Socket { family: AF_INET, kind: DGRAM, protocol: 1 }) {
        Ok(Ret::Fd(fd)) => fd,
        r => panic!("{r:?}"),
    };
    let mut request = vec![8, 0, 0, 0, 0, 0, 0, 1];
    request.extend([0; 56]);
    for n in 0..3 {
        request[7] = n;
        t.send_to(CLIENT, c, &request, B, 0).unwrap();
        assert_eq!(t.recv(CLIENT, c).unwrap().0.len(), 64);
    }
    assert_eq!(t.counts(ROUTER, "nat/POSTROUTING")[1], (1, 84));
    assert_eq!(t.counts(ROUTER, "FORWARD")[0], (6, 504));
    let line = &t.conntrack(ROUTER)[0];
    assert!(line.starts_with("ipv4     2 icmp     1 ") && line.contains("type=8 code=0 id="), "{line}");
}

#[test]
fn a_full_table_drops_what_is_new() {
    let mut t = Three::new();
    t.iptables(ROUTER, "-A FORWARD -m state --state NEW,ESTABLISHED -j ACCEPT");
    t.sysctl(ROUTER, "net.netfilter.nf_conntrack_max", "4");
    let l = t.bound(SERVER, SOCK_STREAM, B, 80);
    let keep: Vec<_> = (0..4).map(|_| t.connect(CLIENT, B, 80).unwrap()).collect();
    for _ in 0..4 {
        t.accept(SERVER, l).unwrap();
    }
    assert_eq!(keep.len(), 4);
    let c = t.socket(CLIENT, DGRAM);
    t.send_to(CLIENT, c, b"x", B, 9).unwrap();
    assert_eq!(t.dropped(ROUTER), 1);
    let text = t.k[ROUTER].proc_text(t.ns[ROUTER], "/proc/net/stat/nf_conntrack").unwrap();
    let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[0], row[10], row[11]), ("00000004", "00000001", "00000000"));
    let said: Vec<_> = t.k[ROUTER].net.kmsg.lines().map(|l| l.1.clone()).collect();
    assert_eq!(said, ["nf_conntrack: nf_conntrack: table full, dropping packet"]);
    let hits = t.k[ROUTER].net.ns.get(t.ns[ROUTER]).unwrap().ct_full.unwrap();
    assert_eq!((hits.count, hits.last), (1, A.into()));
    // One that nobody answered makes room. The older name is the same setting.
    t.sysctl(ROUTER, "net.nf_conntrack_max", "5");
    assert_eq!(t.sysctl_get(ROUTER, "net.netfilter.nf_conntrack_max"), "5");
    for port in [9, 10, 11] {
        t.send_to(CLIENT, c, b"x", R1, port).unwrap();
        t.send_to(CLIENT, c, b"x", B, port).unwrap();
    }
    assert_eq!(t.sysctl_get(ROUTER, "net.netfilter.nf_conntrack_count"), "5");
}

#[test]
fn masquerade_without_an_address_drops() {
    let mut t = Three::new();
    t.iptables(CLIENT, "-t nat -A POSTROUTING -o lo -j MASQUERADE");
    let s = t.bound(CLIENT, DGRAM, core::net::Ipv4Addr::LOCALHOST, 5000);
    assert_eq!(t.send_to(CLIENT, s, b"x", core::net::Ipv4Addr::LOCALHOST, 5000), Err(Errno::EPERM));
    assert_eq!(t.sysctl_get(CLIENT, "net.netfilter.nf_conntrack_count"), "0", "it began nothing");
}

#[test]
fn an_address_that_goes_takes_its_connections() {
    let mut t = Three::new();
    t.iptables(ROUTER, "-t nat -A POSTROUTING -o eth1 -j MASQUERADE");
    let c = t.socket(CLIENT, DGRAM);
    t.send_to(CLIENT, c, b"x", B, 9).unwrap();
    assert_eq!(t.conntrack(ROUTER).len(), 1);
    let dev = t.dev[2];
    t.k[ROUTER].net.del_address(dev, R2, 24).unwrap();
    assert_eq!(t.conntrack(ROUTER).len(), 0);
}

#[test]
fn invalid_and_loose() {
    let mut t = Three::new();
    t.iptables(ROUTER, "-A FORWARD -m state --state INVALID -j DROP\n-A FORWARD -p tcp");
    let l = t.bound(SERVER, SOCK_STREAM, B, 80);
    let c = t.connect(CLIENT, B, 80).unwrap();
    t.accept(SERVER, l).unwrap();
    let ns = t.ns[ROUTER];
    t.k[ROUTER].net.ct_flush(ns, |_| true);
    t.sysctl(ROUTER, "net.netfilter.nf_conntrack_tcp_loose", "0");
    t.send(CLIENT, c, b"x").unwrap();
    assert!(t.counts(ROUTER, "FORWARD")[1].0 >= 1);
    assert_eq!(t.conntrack(ROUTER).len(), 0);
    t.sysctl(ROUTER, "net.netfilter.nf_conntrack_tcp_loose", "1");
    t.sleep(2000);
    let line = &t.conntrack(ROUTER)[0];
    assert!(line.contains(" ESTABLISHED "), "{line}");
}

#[test]
fn marks_lead_elsewhere() {
    let mut t = Three::new();
    t.k[CLIENT].ip(t.ns[CLIENT], "rule add fwmark 7 lookup 100").unwrap();
    t.k[CLIENT].ip(t.ns[CLIENT], "route add blackhole 0.0.0.0/0 table 100").unwrap();
    let c = t.socket(CLIENT, DGRAM);
    t.send_to(CLIENT, c, b"x", B, 9).unwrap();
    t.iptables(CLIENT, "-t mangle -A OUTPUT -p udp --dport 9 -j MARK --set-mark 7");
    assert_eq!(t.send_to(CLIENT, c, b"x", B, 9), Err(Errno::EINVAL));
    assert!(t.send_to(CLIENT, c, b"x", B, 10).is_ok());
}

#[test]
fn statistic_and_limit() {
    let mut t = Three::new();
    t.iptables(
        ROUTER,
        "-A FORWARD -p udp -m statistic --mode nth --every 3 --packet 0
         -A FORWARD -p udp -m statistic --mode nth --every 3 --packet 1
         -A FORWARD -p udp -m statistic --mode random --probability 0.5
         -A FORWARD -p udp -m limit --limit 1/sec --limit-burst 3",
    );
    let c = t.socket(CLIENT, DGRAM);
    for _ in 0..30 {
        t.send_to(CLIENT, c, b"x", B, 9).unwrap();
    }
    let n: Vec<u64> = t.counts(ROUTER, "FORWARD").iter().skip(1).map(|c| c.0).collect();
    assert_eq!((n[0], n[1], n[3]), (10, 10, 3));
    assert!((8..23).contains(&n[2]), "{n:?}");
}

#[test]
fn the_log_has_a_line() {
    let mut t = Three::new();
    t.iptables(ROUTER, "-A FORWARD -p udp --dport 9 -j LOG --log-prefix seen:");
    let c = t.bound(CLIENT, DGRAM, A, 4000);
    t.send_to(CLIENT, c, b"x", B, 9).unwrap();
    let line = t.k[ROUTER].net.kmsg.lines().next().unwrap().1.clone();
    assert!(
        line.starts_with("seen:IN=eth0 OUT=eth1 MAC=02:00:00:00:00:02:02:00:00:00:00:01:08:00 SRC=10.0.1.2"),
        "{line}"
    );
    assert!(line.ends_with("PROTO=UDP SPT=4000 DPT=9 LEN=9 "), "{line}");
}

#[test]
fn fragments_are_whole_for_the_rules() {
    let mut t = Three::new();
    t.iptables(
        ROUTER,
        "-t nat -A POSTROUTING -o eth1 -j MASQUERADE\n-A FORWARD -p udp --dport 7 -j ACCEPT\n-P FORWARD DROP",
    );
    let s = t.bound(SERVER, DGRAM, B, 7);
    let c = t.socket(CLIENT, DGRAM);
    t.send_to(CLIENT, c, &[3; 4000], B, 7).unwrap();
    let (d, from) = t.recv(SERVER, s).unwrap();
    assert_eq!((d.len(), from.to_ip().unwrap().0), (4000, R2.into()));
    assert_eq!(t.counts(ROUTER, "FORWARD")[1], (1, 4028));
}

#[test]
fn ipv6_goes_the_same_way() {
    let mut t = Three::new();
    t.iptables(
        ROUTER,
        "6 -t nat -A POSTROUTING -o eth1 -j MASQUERADE
         6 -A FORWARD -p tcp --dport 81 -j REJECT
         6 -A FORWARD -m conntrack --ctstate ESTABLISHED",
    );
    use belljar_kernel::task::call::{Call, Ret};
    let sock = |t: &mut Three, who, kind| match t.try_call(who, Call::Socket { family: AF_INET6, kind, protocol: 0 }) {
        Ok(Ret::Fd(fd)) => fd,
        r => panic!("{r:?}"),
    };
    let to = |port| SockAddr::V6 { addr: "fd00:2::2".parse().unwrap(), port, flowinfo: 0, scope: 0 }.emit();
    let l = sock(&mut t, SERVER, SOCK_STREAM);
    t.try_call(SERVER, Call::Bind { fd: l, addr: &to(80) }).unwrap();
    t.try_call(SERVER, Call::Listen { fd: l, backlog: 9 }).unwrap();
    let c = sock(&mut t, CLIENT, SOCK_STREAM);
    t.try_call(CLIENT, Call::Connect { fd: c, addr: &to(80) }).unwrap();
    let (a, peer) = t.accept(SERVER, l).unwrap();
    assert_eq!(peer.to_ip().unwrap().0, "fd00:2::1".parse::<core::net::IpAddr>().unwrap());
    t.send(SERVER, a, b"hello").unwrap();
    assert_eq!(t.recv(CLIENT, c).unwrap().0, b"hello");
    assert!(t.counts_of(ROUTER, Pf::V6, "FORWARD")[2].0 >= 3);
    let c = sock(&mut t, CLIENT, SOCK_STREAM);
    assert_eq!(t.try_call(CLIENT, Call::Connect { fd: c, addr: &to(81) }), Err(Errno::ECONNREFUSED));
    for link in &t.seen {
        link.iter().for_each(|f| belljar_wire::gso::verify(f).unwrap());
    }
}

#[test]
fn tproxy_takes_what_is_for_others() {
    let mut t = Three::new();
    t.iptables(ROUTER, "-t mangle -A PREROUTING -p tcp --dport 80 -j TPROXY --on-port 3128 --tproxy-mark 1");
    t.iptables(ROUTER, "-t mangle -A PREROUTING -p udp --dport 53 -j TPROXY --on-port 3128 --tproxy-mark 1");
    t.k[ROUTER].ip(t.ns[ROUTER], "rule add fwmark 1 lookup 100").unwrap();
    t.k[ROUTER].ip(t.ns[ROUTER], "route add local 0.0.0.0/0 dev lo table 100").unwrap();
    let l = t.bound(ROUTER, SOCK_STREAM, core::net::Ipv4Addr::UNSPECIFIED, 3128);
    use belljar_kernel::task::call::{Call, Ret};
    let on = 1i32.to_ne_bytes();
    t.try_call(ROUTER, Call::SetSockOpt { fd: l, level: SOL_IP, name: 19, value: &on }).unwrap();
    let c = t.connect(CLIENT, B, 80).unwrap();
    let (a, _) = t.accept(ROUTER, l).unwrap();
    match t.try_call(ROUTER, Call::GetSockName { fd: a }) {
        Ok(Ret::Addr(own)) => assert_eq!(own.to_ip().unwrap(), (B.into(), 80)),
        r => panic!("{r:?}"),
    }
    t.send(ROUTER, a, b"proxy").unwrap();
    assert_eq!(t.recv(CLIENT, c).unwrap().0, b"proxy");
    let u = t.bound(ROUTER, DGRAM, core::net::Ipv4Addr::UNSPECIFIED, 3128);
    let c = t.socket(CLIENT, DGRAM);
    t.send_to(CLIENT, c, b"q", B, 53).unwrap();
    assert_eq!(t.recv(ROUTER, u).unwrap().0, b"q");
}

/// What `belljar trace` tells of a packet: every hook, the rules that fit with what they say, and the policies.
#[test]
fn rules_that_decide_are_told() {
    let mut t = Three::new();
    t.iptables(
        ROUTER,
        "-t nat -N WEB
        -t nat -A PREROUTING -p tcp --dport 8080 -j WEB
        -t nat -A WEB -p tcp -j DNAT --to-destination 10.0.2.2:80
        -A FORWARD -p udp -j ACCEPT
        -A FORWARD -m conntrack --ctstate NEW -j ACCEPT",
    );
    let listener = t.bound(SERVER, SOCK_STREAM, B, 80);
    t.k[ROUTER].net.env.trace.wanted = Wanted { stages: true, ..Wanted::default() };
    t.connect(CLIENT, R1, 8080).unwrap();
    t.accept(SERVER, listener).unwrap();
    // Packets have the numbers of the host that made them: the client's SYN from its rule on, and what was before it.
    let mut told = Vec::new();
    while let Some(r) = t.k[ROUTER].net.env.trace.pop() {
        match r.event {
            Event::Rule { packet, hit, .. } => {
                let RuleHit { hook, table, chain, number, says } = *hit;
                told.push((packet, format!("{hook} {table} {chain} {number} {says}")));
            }
            Event::Stage { packet, stage, .. } => told.push((packet, stage.to_owned())),
            _ => {}
        }
    }
    let syn = told.iter().position(|(_, text)| text.ends_with("-j WEB")).unwrap();
    let way = [
        "netif_receive_skb",
        "ip_rcv",
        "nf_conntrack_in",
        "nf_nat_fn",
        "PREROUTING nat PREROUTING 1 -j WEB",
        "PREROUTING nat WEB 1 -j DNAT --to-destination 10.0.2.2:80",
        "FORWARD filter FORWARD 2 -j ACCEPT",
        "ip_forward",
        "ip_output",
        "nf_nat_fn",
        "POSTROUTING nat POSTROUTING 0 ACCEPT",
    ];
    let begin = told[..syn].iter().rposition(|(_, text)| text == "netif_receive_skb").unwrap();
    let told = told[begin..].iter().filter(|(id, _)| *id == told[syn].0).map(|(_, text)| text.as_str());
    let told: Vec<&str> = told.filter(|s| way.contains(s)).take(way.len()).collect();
    assert_eq!(told, way);
}
