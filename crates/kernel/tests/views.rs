//! What tools show of a machine in use: sockets with their queues, counters, devices, routes, neighbours, /proc texts.
mod common;
use belljar_abi::*;
use belljar_kernel::task::call::*;
use belljar_kernel::view::*;
use common::*;

fn tcp(h: &mut Host) -> Fd {
    h.socket(SOCK_STREAM | SOCK_NONBLOCK)
}

/// A listener on port 8000 with a queue limit of 5.
fn listener(h: &mut Host) -> Fd {
    let fd = tcp(h);
    h.bind(fd, LO, 8000).unwrap();
    h.call(Call::Listen { fd, backlog: 5 }).unwrap();
    fd
}

fn connected(h: &mut Host) -> Fd {
    let fd = tcp(h);
    assert_eq!(h.connect(fd, LO, 8000), Err(Errno::EINPROGRESS));
    h.advance(MS);
    fd
}

fn rows(h: &Host) -> Vec<SockView> {
    h.k.view_sockets(h.ns)
}

fn of<'a>(rows: &'a [SockView], state: &str) -> Vec<&'a SockView> {
    rows.iter().filter(|s| s.state == state).collect()
}

#[test]
fn queues_of_listeners_and_connections() {
    let mut h = Host::new();
    let l = listener(&mut h);
    let c = connected(&mut h);
    h.send(c, b"hello").unwrap();
    h.advance(MS);
    let r = rows(&h);
    let listen = of(&r, "LISTEN")[0];
    // One connection waits for accept; the limit is what listen() asked for.
    assert_eq!((listen.recv_q, listen.send_q, listen.lport), (1, 5, 8000));
    assert_eq!(listen.info.as_ref().map(|i| (i.unacked, i.sacked)), Some((1, 5)));
    let server = of(&r, "ESTABLISHED").into_iter().find(|s| s.lport == 8000).unwrap();
    assert_eq!((server.recv_q, server.users.len()), (5, 0));
    let client = of(&r, "ESTABLISHED").into_iter().find(|s| s.pport == 8000).unwrap();
    assert_eq!((client.recv_q, client.send_q, client.users[0].fd), (0, 0, c));
    assert_eq!(client.info.as_ref().map(|i| i.bytes_acked), Some(6));
    // The FIN counts as one in Recv-Q, as in inet_diag.
    h.call(Call::Shutdown { fd: c, how: SHUT_WR }).unwrap();
    // Longer than a delayed acknowledgement.
    h.advance(50 * MS);
    let r = rows(&h);
    assert_eq!(of(&r, "CLOSE_WAIT")[0].recv_q, 6);
    assert_eq!(of(&r, "FIN_WAIT2").len(), 1);
    // And after the close of both there is a TIME_WAIT row with its minute.
    let Ok(Ret::Accepted { fd: a, .. }) = h.call(Call::Accept { fd: l, flags: SOCK_NONBLOCK }) else { panic!() };
    h.call(Call::Recv { fd: a, len: 100, flags: 0 }).unwrap();
    h.call(Call::Close { fd: a }).unwrap();
    h.call(Call::Close { fd: c }).unwrap();
    h.advance(MS);
    let r = rows(&h);
    let tw = of(&r, "TIME_WAIT")[0];
    let left = tw.timer.as_ref().unwrap();
    assert_eq!((tw.pport, left.kind.as_str()), (8000, "timewait"));
    assert!((59_900..=60_100).contains(&left.expires_ms), "{left:?}");
    let text = h.k.proc_text(h.ns, "/proc/net/sockstat").unwrap();
    assert!(text.starts_with("sockets: used 1\nTCP: inuse 1 orphan 0 tw 1 alloc 1 mem"), "{text}");
}

#[test]
fn datagrams_show_their_memory() {
    let mut h = Host::new();
    let s = h.udp_on(LO, 5353);
    let c = h.udp();
    h.connect(c, LO, 5353).unwrap();
    h.send(c, b"abc").unwrap();
    let r = rows(&h);
    let server = r.iter().find(|s| s.lport == 5353).unwrap();
    assert_eq!((server.netid.as_str(), server.state.as_str(), server.recv_q > 3), ("udp", "CLOSE", true));
    assert_eq!(server.users.iter().map(|u| u.fd).collect::<Vec<_>>(), [s]);
    assert_eq!(r.iter().filter(|s| s.state == "ESTABLISHED").count(), 1);
    let text = h.k.proc_text(h.ns, "/proc/net/udp").unwrap();
    assert!(text.contains("0100007F:14E9 00000000:0000 07"), "{text}");
}

#[test]
fn every_view_has_a_value_and_comes_back() {
    let mut h = Host::new();
    listener(&mut h);
    connected(&mut h);
    h.know_peer();
    for name in NAMES {
        assert!(matches!(h.k.view(h.ns, name), Ok(Value::List(_))), "{name}");
    }
    assert_eq!(h.k.view(h.ns, "nonsense"), Err(Errno::ENOENT));
    for path in belljar_kernel::fs::proc::FILES {
        assert!(matches!(h.k.view(h.ns, &format!("proc:{path}")), Ok(Value::Text(_))), "{path}");
    }
    let v = h.k.view(h.ns, "sockets").unwrap();
    assert_eq!(Vec::<SockView>::from_value(&v), Some(rows(&h)));
    let v = h.k.view(h.ns, "links").unwrap();
    assert_eq!(Vec::<LinkView>::from_value(&v), Some(h.k.view_links(h.ns)));
}

#[test]
fn devices_routes_and_neighbours() {
    let mut h = Host::new();
    h.know_peer();
    let links = h.k.view_links(h.ns);
    let names: Vec<_> = links.iter().map(|l| (l.ifindex, l.name.as_str(), l.operstate.as_str())).collect();
    assert_eq!(names, [(1, "lo", "UNKNOWN"), (2, "eth0", "UP")]);
    assert_eq!(links[1].flags, ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"]);
    assert!(links[1].rings.as_ref().is_some_and(|r| r.rx == 256 && r.rx_interrupts > 0));
    let main: Vec<_> = h.k.view_routes(h.ns).into_iter().filter(|r| r.table == "main").collect();
    assert_eq!((main[0].prefixlen, main[0].gateway), (0, Some(PEER.into())));
    assert_eq!((main[1].prefixlen, main[1].scope.as_deref(), main[1].prefsrc), (24, Some("link"), Some(HOST.into())));
    let neighs = h.k.view_neighs(h.ns);
    assert_eq!(neighs[0].lladdr.as_deref(), Some(PEER_MAC.to_string().as_str()));
    let way = h.k.view_route_get(h.ns, [8, 8, 8, 8].into()).unwrap();
    assert_eq!((way.kind.as_str(), way.gateway, way.prefsrc), ("unicast", Some(PEER.into()), Some(HOST.into())));
    assert_eq!(h.k.view_route_get(h.ns, LO.into()).unwrap().kind, "local");
}

#[test]
fn counters_and_settings() {
    let mut h = Host::new();
    h.know_peer();
    let n = h.k.view_counters(h.ns).iter().filter(|c| c.group == "TcpExt").count();
    assert_eq!(n, 135);
    h.k.sysctl_set(h.ns, "net.core.somaxconn", "4").unwrap();
    assert_eq!(h.k.sysctl_set(h.ns, "net.core.somaxconn", "-1"), Err(Errno::EINVAL));
    assert_eq!(h.k.sysctl_set(h.ns, "net.core.nope", "1"), Err(Errno::ENOENT));
    let all = h.k.view_sysctls(h.ns);
    assert!(all.windows(2).all(|w| w[0].key < w[1].key));
    assert!(all.iter().any(|s| s.key == "net.core.somaxconn" && s.value == "4"));
}

/// Packets that wait for an address push out older ones; the file of the family says how many.
#[test]
fn neighbour_counters_have_their_files() {
    let mut h = Host::new();
    let column = |h: &Host, file: &str, at: usize| {
        let text = h.k.proc_text(h.ns, &format!("/proc/net/stat/{file}")).unwrap();
        let line = text.lines().nth(1).unwrap().to_owned();
        assert_eq!(text.lines().next().unwrap().split_whitespace().count(), line.split_whitespace().count());
        u64::from_str_radix(line.split_whitespace().nth(at).unwrap(), 16).unwrap()
    };
    h.sysctl("net.ipv4.neigh.default.unres_qlen_bytes", "4096");
    let fd = h.udp();
    for _ in 0..10 {
        h.send_to(fd, &[0; 1000], PEER, 9).unwrap();
    }
    assert_eq!((column(&h, "arp_cache", 0), column(&h, "arp_cache", 1)), (1, 1));
    // One of 2304 bytes fits; the nine before it had to go.
    assert_eq!((column(&h, "arp_cache", 11), column(&h, "ndisc_cache", 11)), (9, 0));
}
