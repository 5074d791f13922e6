//! Matches and targets of iptables beyond the everyday ones: their memory is bounded, and what they keep goes with their rules.
//! What they count is compared with Linux by the end-to-end tests (`xt_traffic.sh`).
mod three;
use belljar_abi::*;
use belljar_kernel::net::netfilter::Pf;
use belljar_kernel::net::netfilter::rules::{Match, TableName};
use three::*;

const DGRAM: i32 = SOCK_DGRAM | SOCK_NONBLOCK;

fn sends(t: &mut Three, port: u16, times: usize) {
    let c = t.socket(CLIENT, DGRAM);
    for _ in 0..times {
        t.send_to(CLIENT, c, b"x", B, port).unwrap();
    }
}

fn file(t: &Three, path: &str) -> Option<String> {
    t.k[ROUTER].proc_text(t.ns[ROUTER], path)
}

#[test]
fn lists_of_recent_live_as_long_as_a_rule_names_them() {
    let mut t = Three::new();
    t.iptables(
        ROUTER,
        "-A FORWARD -p udp --dport 9 -m recent --name a --set
         -A FORWARD -p udp --dport 10 -m recent --name a --rcheck --hitcount 3",
    );
    sends(&mut t, 9, 2);
    sends(&mut t, 10, 1);
    sends(&mut t, 9, 1);
    sends(&mut t, 10, 1);
    assert_eq!(t.counts(ROUTER, "FORWARD")[1..], [(3, 87), (1, 29)]);
    let text = file(&t, "/proc/net/xt_recent/a").unwrap();
    assert!(text.starts_with("src=10.0.1.2 ttl: 64 last_seen: ") && text.contains(" oldest_pkt: 3 "), "{text}");
    // One of both is enough.
    t.iptables(ROUTER, "-D FORWARD 1");
    sends(&mut t, 10, 1);
    assert_eq!(t.counts(ROUTER, "FORWARD")[1], (2, 58));
    t.iptables(ROUTER, "-F FORWARD");
    assert_eq!(file(&t, "/proc/net/xt_recent/a"), None);
    t.iptables(ROUTER, "-A FORWARD -m recent --name a --rcheck");
    assert_eq!(file(&t, "/proc/net/xt_recent/a").as_deref(), Some(""));
}

#[test]
fn a_list_of_recent_has_a_hundred_addresses() {
    let mut t = Three::new();
    t.iptables(ROUTER, "-A FORWARD -m recent --name a --set");
    let (ns, net) = (t.ns[ROUTER], &mut t.k[ROUTER].net);
    for n in 0..300 {
        net.xt_recent_write(ns, "a", &format!("+10.9.{}.{}", n / 200, n % 200)).unwrap();
    }
    for wrong in ["", "10.0.0.1", "+10.0.0", "+x", "*10.0.0.1"] {
        assert_eq!(net.xt_recent_write(ns, "a", wrong), Err(Errno::EINVAL), "{wrong}");
    }
    assert_eq!(net.xt_recent_write(ns, "b", "/"), Err(Errno::ENOENT));
    let text = file(&t, "/proc/net/xt_recent/a").unwrap();
    assert_eq!(text.lines().count(), 100);
    assert!(text.starts_with("src=10.9.1.0 ") && text.contains("src=10.9.1.99 "), "{text}");
    let (ns, net) = (t.ns[ROUTER], &mut t.k[ROUTER].net);
    net.xt_recent_write(ns, "a", "/\n").unwrap();
    assert_eq!(file(&t, "/proc/net/xt_recent/a").as_deref(), Some(""));
}

/// `htable-max` buckets; a packet that would need one more is dropped.
#[test]
fn tables_of_hashlimit_are_bounded_and_forget() {
    let mut t = Three::new();
    t.iptables(
        ROUTER,
        "-A FORWARD -p udp -m hashlimit --hashlimit-upto 1/sec --hashlimit-burst 2 --hashlimit-mode dstport \
         --hashlimit-name h --hashlimit-htable-size 4 --hashlimit-htable-max 4 --hashlimit-htable-expire 2000",
    );
    for port in 1..=6 {
        sends(&mut t, port, 3);
    }
    assert_eq!(t.counts(ROUTER, "FORWARD")[1], (8, 232));
    assert_eq!(t.dropped(ROUTER), 6);
    assert_eq!(file(&t, "/proc/net/ipt_hashlimit/h").unwrap().lines().count(), 4);
    assert!(t.k[ROUTER].net.kmsg.text().contains("xt_hashlimit: max count of 4 reached"));
    t.sleep(1000);
    sends(&mut t, 1, 3);
    assert_eq!(t.counts(ROUTER, "FORWARD")[1].0, 9);
    t.sleep(4000);
    assert_eq!(file(&t, "/proc/net/ipt_hashlimit/h").as_deref(), Some(""));
    sends(&mut t, 6, 1);
    assert_eq!(t.counts(ROUTER, "FORWARD")[1].0, 10);
    // Of IPv4 only.
    assert_eq!(file(&t, "/proc/net/ip6t_hashlimit/h"), None);
}

#[test]
fn connections_of_an_address_are_counted_while_they_last() {
    let mut t = Three::new();
    let _l = t.bound(SERVER, SOCK_STREAM, B, 80);
    t.iptables(ROUTER, "-A FORWARD -p tcp --syn -m connlimit --connlimit-above 2 -j REJECT --reject-with tcp-reset");
    let first = t.connect(CLIENT, B, 80).unwrap();
    t.connect(CLIENT, B, 80).unwrap();
    assert_eq!(t.connect(CLIENT, B, 80), Err(Errno::ECONNREFUSED));
    use belljar_kernel::task::call::Call;
    let linger = [1i32.to_ne_bytes(), 0i32.to_ne_bytes()].concat();
    let set = Call::SetSockOpt { fd: first, level: SOL_SOCKET, name: SO_LINGER, value: &linger };
    t.try_call(CLIENT, set).unwrap();
    t.try_call(CLIENT, Call::Close { fd: first }).unwrap();
    // It is looked for those that are over once a tick.
    t.sleep(10);
    t.connect(CLIENT, B, 80).unwrap();
}

#[test]
fn rules_behind_one_that_writes_see_what_it_wrote() {
    let mut t = Three::new();
    t.iptables(
        ROUTER,
        "-t mangle -A PREROUTING -p udp -j TTL --ttl-set 9
         -t mangle -A PREROUTING -p udp -m ttl --ttl-eq 9
         -t mangle -A PREROUTING -p udp -j TOS --set-tos 0x12
         -t mangle -A PREROUTING -p udp -m tos --tos 0x12
         -A FORWARD -m ttl --ttl-eq 8 -m tos --tos 0x12",
    );
    let s = t.bound(SERVER, DGRAM, B, 7);
    sends(&mut t, 7, 1);
    // Its checksum was right, or the router would not have passed it on.
    assert_eq!(t.recv(SERVER, s).unwrap().0, b"x");
    assert_eq!(t.counts(ROUTER, "mangle/PREROUTING")[1..], [(1, 29); 4]);
    assert_eq!(t.counts(ROUTER, "FORWARD")[1], (1, 29));
}

#[test]
fn a_traced_packet_leaves_a_line_for_each_rule() {
    let mut t = Three::new();
    t.iptables(
        ROUTER,
        "-t raw -A PREROUTING -p udp --dport 9 -j TRACE
         -N sub
         -A sub -p udp
         -A FORWARD -j sub
         -A FORWARD -p udp -j ACCEPT",
    );
    sends(&mut t, 9, 1);
    sends(&mut t, 10, 1);
    let lines: Vec<String> = t.k[ROUTER].net.kmsg.lines().map(|l| l.1.clone()).collect();
    let heads: Vec<&str> = lines.iter().filter_map(|l| l.split(" IN=").next()).collect();
    let want = [
        "TRACE: raw:PREROUTING:policy:2",
        "TRACE: filter:FORWARD:rule:1",
        "TRACE: filter:sub:rule:1",
        "TRACE: filter:sub:return:2",
        "TRACE: filter:FORWARD:rule:2",
    ];
    assert_eq!(heads, want);
    assert!(lines[1].contains(" DPT=9 "), "{}", lines[1]);
}

#[test]
fn a_traced_packet_that_returns_ends_at_the_policy() {
    let mut t = Three::new();
    t.iptables(
        ROUTER,
        "-t raw -A PREROUTING -p udp --dport 9 -j TRACE
         -N sub
         -N there
         -A sub -p udp -j RETURN
         -A FORWARD -j sub
         -A FORWARD -p udp -g there
         -A FORWARD -p udp -j DROP
         -t mangle -A FORWARD -p udp -j RETURN
         -t mangle -A FORWARD -p udp -j DROP",
    );
    sends(&mut t, 9, 1);
    let lines: Vec<String> = t.k[ROUTER].net.kmsg.lines().map(|l| l.1.clone()).collect();
    let heads: Vec<&str> = lines.iter().filter_map(|l| l.split(" IN=").next()).collect();
    let want = [
        "TRACE: raw:PREROUTING:policy:2",
        "TRACE: mangle:PREROUTING:policy:1",
        "TRACE: mangle:FORWARD:rule:1",
        "TRACE: mangle:FORWARD:policy:3",
        "TRACE: filter:FORWARD:rule:1",
        "TRACE: filter:sub:rule:1",
        "TRACE: filter:FORWARD:rule:2",
        "TRACE: filter:there:return:1",
        "TRACE: filter:FORWARD:policy:4",
        "TRACE: mangle:POSTROUTING:policy:1",
    ];
    assert_eq!(heads, want);
}

/// What may come from a program through setsockopt: the counter stands beyond what it counts to.
#[test]
fn a_counter_of_statistic_goes_round() {
    let mut t = Three::new();
    t.iptables(ROUTER, "-A FORWARD -p udp -m statistic --mode nth --every 2 --packet 0 -j ACCEPT");
    let table = t.k[ROUTER].net.nf_table(t.ns[ROUTER], Pf::V4, TableName::Filter).unwrap();
    for m in table.chains.iter_mut().flat_map(|c| &mut c.rules).flat_map(|r| &mut r.matches) {
        if let Match::StatisticNth { count, .. } = m {
            count.0 = u64::from(u32::MAX) + 1;
        }
    }
    sends(&mut t, 9, 3);
}

#[test]
fn zones_keep_the_same_addresses_apart() {
    let mut t = Three::new();
    t.iptables(
        ROUTER,
        "-t raw -A PREROUTING -p udp -m udp --dport 9 -m mark --mark 0 -j CT --zone 4
         -A FORWARD -m conntrack --ctstate NEW",
    );
    let c = t.bound(CLIENT, DGRAM, A, 4000);
    t.send_to(CLIENT, c, b"x", B, 9).unwrap();
    t.iptables(ROUTER, "-t raw -R PREROUTING 1 -p udp -m udp --dport 9 -j CT --zone 5");
    t.send_to(CLIENT, c, b"x", B, 9).unwrap();
    t.iptables(ROUTER, "-t raw -F");
    t.send_to(CLIENT, c, b"x", B, 9).unwrap();
    t.send_to(CLIENT, c, b"x", B, 9).unwrap();
    let (all, new) = (t.conntrack(ROUTER), t.counts(ROUTER, "FORWARD")[1].0);
    assert_eq!(all.len(), 3, "{all:?}");
    assert_eq!(all.iter().filter(|l| l.contains("zone=4 ")).count(), 1, "{all:?}");
    // Without an answer each of them stays NEW.
    assert_eq!(new, 4);
    let mut of4 = t.k[ROUTER].net.ct_list(t.ns[ROUTER]).filter(|c| c.zone.id == 4);
    assert_eq!((of4.next().map(|c| c.tuple[1].zone), of4.next().is_none()), (Some(4), true));
}

#[test]
fn networks_are_mapped_address_by_address() {
    let mut t = Three::new();
    t.iptables(ROUTER, "-t nat -A PREROUTING -d 10.77.0.0/24 -j NETMAP --to 10.0.2.0/24");
    let s = t.bound(SERVER, DGRAM, B, 7);
    let c = t.socket(CLIENT, DGRAM);
    let octets = B.octets();
    t.send_to(CLIENT, c, b"x", [10, 77, 0, octets[3]].into(), 7).unwrap();
    let (got, from) = t.recv(SERVER, s).unwrap();
    assert_eq!(got, b"x");
    // The answer comes from the address that was asked.
    let back = from.to_ip().unwrap();
    let port = back.1;
    assert_eq!(back.0, core::net::IpAddr::V4(A));
    t.send_to(SERVER, s, b"y", A, port).unwrap();
    let (_, from) = t.recv(CLIENT, c).unwrap();
    assert_eq!(from.to_ip().unwrap().0, core::net::IpAddr::from([10, 77, 0, octets[3]]));
}
