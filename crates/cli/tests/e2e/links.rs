//! Virtual networks with the distribution's `ip` and `bridge`: the same words as Linux, notifications, and programs in
//! namespaces of one jar that a router joins.
use crate::harness::{Env, Out, Test, test, until};
use anyhow::{Context, Result, ensure};

pub fn tests() -> Vec<Test> {
    vec![
        test("ip_changes_as_linux", &["ip", "bridge"], ip_changes_as_linux),
        test("devices_as_linux", &["ip", "bridge"], devices_as_linux),
        test("offloads_as_linux", &["ip", "ethtool"], offloads_as_linux),
        test("offloads_of_a_card", &["ip", "ethtool", "tcpdump", "ping", "sysctl"], offloads_of_a_card),
        test("mirred_as_linux", &["ip", "tc", "ping"], mirred_as_linux),
        test("tunnels_as_linux", &["ip", "ping"], tunnels_as_linux),
        test("next_hops_as_linux", &["unshare", "ip", "ping"], next_hops_as_linux),
        test("rules_as_linux", &["unshare", "ip"], rules_as_linux),
        test("forms_as_linux", &["unshare", "ip", "bridge", "ethtool", "ss", "python3"], forms_as_linux),
        test("settings_as_linux", &["unshare", "ip", "iptables", "python3"], settings_as_linux),
        test("settings_of_ipv6_as_linux", &["unshare", "ip", "python3"], settings_of_ipv6_as_linux),
        test(
            "settings_of_routers_as_linux",
            &["unshare", "ip", "iptables", "python3", "tcpdump"],
            settings_of_routers_as_linux,
        ),
        test("addresses_of_ipv6_as_linux", &["unshare", "ip", "python3"], addresses_of_ipv6_as_linux),
        test("advertised_as_linux", &["unshare", "ip", "python3"], advertised_as_linux),
        test("routes_as_linux", &["unshare", "ip", "tc", "ping", "iptables-legacy"], routes_as_linux),
        test("flags_as_linux", &["unshare", "ip", "ifconfig", "bridge", "python3"], flags_as_linux),
        test("proxies_as_linux", &["unshare", "ip", "arp"], proxies_as_linux),
        test("bridges_as_linux", &["ip", "bridge"], bridges_as_linux),
        test("vlans_of_devices_and_bridges", &["ip", "bridge", "ping"], vlans_of_devices_and_bridges),
        test("network_of_containers", &["ip", "iptables-legacy", "python3", "curl", "ping", "sysctl"], containers),
        test("ip_monitor_hears_of_changes", &["ip"], ip_monitor_hears_of_changes),
        test("namespaces_joined_by_a_router", &["ip", "python3", "curl"], namespaces_joined_by_a_router),
    ]
}

/// `ip` does the same to this machine's kernel where an ordinary user may ask it, or did to Linux 6.18 (`links.linux`).
fn ip_changes_as_linux(env: &Env) -> Result<()> {
    let script = env.program("links.sh");
    let mut c = env.user("unshare");
    c.args(["-rmn", "sh", "-c", &format!("mount -t tmpfs t /run && sh {script}")]);
    let linux = match env.finish(c, 60) {
        Ok(Out { code: Some(0), stdout, .. }) if stdout.contains("$ ip netns del blue") => stdout,
        _ => include_str!("programs/links.linux").to_owned(),
    };
    let out = env.finish(env.belljar(&["run", "--net", "none", "--with-proc", "--", "sh", &script]), 60)?;
    let pairs = linux.lines().zip(out.stdout.lines().chain(std::iter::repeat("")));
    let mut asked = "";
    for (n, (there, here)) in pairs.enumerate() {
        asked = if there.starts_with("$ ") || there.starts_with("--- ") { there } else { asked };
        ensure!(there == here, "line {}, {asked}:\nLinux   {there}\nbelljar {here}", n + 1);
    }
    ensure!(linux.lines().count() == out.stdout.lines().count(), "{}", out.stdout);
    Ok(())
}

/// macvlan and VXLAN: the same lines as in a network namespace of the host's, or as of Linux 6.18 (`devices.linux`).
fn devices_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "devices.sh", include_str!("programs/devices.linux"))
}

/// By name namespaces are made by root only, so Linux is what was written down. Offloads of veth and lo by ethtool, states of pairs across namespaces, settings of the first namespace only.
fn offloads_as_linux(env: &Env) -> Result<()> {
    same_lines(env, &env.program("offloads.sh"), include_str!("programs/offloads.linux"))
}

/// Linux has no such card, and not every kernel has VLANs: what goes together was written down after its sources.
fn offloads_of_a_card(env: &Env) -> Result<()> {
    let jar = env.run(&["--with-proc"], &["sh", &env.program("card_offloads.sh")])?.wait(60)?;
    ensure!(jar.stdout == include_str!("programs/card_offloads.txt"), "{}{}", jar.stdout, jar.stderr);
    Ok(())
}

/// Filters that send packets to an ifb and to other devices: as in a network namespace of the host's, counters included.
fn mirred_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "mirred.sh", include_str!("programs/mirred.linux"))
}

/// ipip, gre, gretap and sit between two namespaces: shown as by Linux with these modules, and carrying packets.
fn tunnels_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "tunnels.sh", include_str!("programs/tunnels.linux"))
}

/// What settings do and which values they take, shown by frames that are written and read at the other end of a cable.
fn settings_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "settings.sh", "")
}

/// `bridge fdb get`, `flush` and `self`, what ethtool says of devices that have not got it, what ss lists once.
fn forms_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "forms.sh", include_str!("programs/forms.linux"))
}

/// The same of IPv6: discovery, routers, secrets, duplicates, optimism.
fn settings_of_ipv6_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "settings6.sh", "")
}

/// The same of those who forward: broadcasts, links without carrier, next hop objects, loggers.
fn settings_of_routers_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "routers.sh", "")
}

/// Next hops as objects, in groups, by routes of both families; what `ip monitor nexthop` hears.
fn next_hops_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "nexthop.sh", "")
}

/// Rules by protocol, ports, users, with jumps, and the routes that are chosen by them; `fibmatch`.
fn rules_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "rules.sh", "")
}

/// Addresses given before there is a link, kept when it goes, and who hears of it.
fn addresses_of_ipv6_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "addresses6.sh", "")
}

/// What a router says of MTU and hops, and which routes follow.
fn advertised_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "advertised.sh", "")
}

/// What is refused of routes, filters and chains, what is not, and which is meant by a request to delete or to show.
fn routes_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "routes.sh", "")
}

/// Flags of devices by netlink and by ioctl, and of entries of a bridge's table.
fn flags_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "flags.sh", "")
}

/// Who is answered for (`ip neigh add proxy`, `arp … pub`), and `nud noarp`.
fn proxies_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "proxies.sh", "")
}

/// The spanning tree, groups and ports of a bridge, and rules of IPv6, in the same way (`bridges.linux`).
fn bridges_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "bridges.sh", include_str!("programs/bridges.linux"))
}

fn as_linux(env: &Env, script: &str, written: &str) -> Result<()> {
    let script = env.program(script);
    let host = env.finish(env.in_own_network(&script, &[]), 60)?;
    let linux = match host.stdout.contains("Unknown device type") {
        true => written.to_owned(),
        false => host.stdout,
    };
    ensure!(linux.ends_with("done\n"), "on the host itself: {linux}\n{}", host.stderr);
    same_lines(env, &script, &linux)
}

fn same_lines(env: &Env, script: &str, linux: &str) -> Result<()> {
    let jar = env.run(&["--net", "none", "--with-proc"], &["sh", script])?.wait(60)?;
    let mut asked = "";
    for (there, here) in linux.lines().zip(jar.stdout.lines().chain(std::iter::repeat("nothing"))) {
        asked = if there.starts_with("$ ") { there } else { asked };
        ensure!(there == here, "{asked}:\nLinux   {there}\nbelljar {here}");
    }
    Ok(())
}

/// Not every kernel has VLANs: what Linux says is written down here.
fn vlans_of_devices_and_bridges(env: &Env) -> Result<()> {
    let script = "ip netns add a; ip netns add b
        ip link add br0 type bridge vlan_filtering 1; ip link set br0 up
        for n in a b; do ip link add e netns $n type veth peer name p$n
            ip link set p$n master br0; ip link set p$n up; ip -n $n link set e up; done
        bridge vlan add dev pa vid 10 pvid untagged; bridge vlan del dev pa vid 1; bridge vlan add dev pb vid 10
        ip -n b link add link e name e.10 type vlan id 10; ip -n b link set e.10 up
        ip -n a addr add 10.0.0.1/24 dev e; ip -n b addr add 10.0.0.2/24 dev e.10
        bridge vlan show; bridge -compressvlans vlan show dev pb
        ip netns exec a ping -c 1 10.0.0.2 | grep received
        ip -d -n b link show e.10; ip netns exec b cat /proc/net/vlan/config
        bridge fdb show br br0 | grep -c 'vlan 10'
        ip link add link br0 name x type vlan id 4095; ip -n b link set e down; ip -n b link set e.10 up";
    let jar = env.run(&["--net", "none", "--with-proc"], &["sh", "-c", script])?.wait(60)?;
    let text = format!("{}{}", jar.stdout, jar.stderr);
    let mut lines = text.lines();
    for wanted in [
        "port              vlan-id  ",
        "br0               1 PVID Egress Untagged",
        "pa                10 PVID Egress Untagged",
        "pb                1 PVID Egress Untagged",
        "                  10",
        "1 packets transmitted, 1 received, 0% packet loss, time 0ms",
        "    vlan protocol 802.1Q id 10 <REORDER_HDR> addrgenmode eui64",
        "VLAN Dev name\t | VLAN ID",
        "Name-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD",
        "e.10           | 10  | e",
        "Error: Invalid VLAN id.",
        "RTNETLINK answers: Network is down",
    ] {
        ensure!(lines.any(|l| l.starts_with(wanted)), "{wanted:?} is missing, or comes too early:\n{text}");
    }
    Ok(())
}

fn ip_monitor_hears_of_changes(env: &Env) -> Result<()> {
    let script = "ip monitor link address route neigh rule >> mon & P=$!
        until ip rule add pref 3 lookup 3 && grep -q '^3:' mon; do ip rule del pref 3; done; : > mon
        ip link add d0 address 02:00:00:00:00:d0 type veth peer name d1 address 02:00:00:00:00:d1
        ip link set d0 up; ip link set d1 up
        ip addr add 10.1.0.1/24 dev d0
        ip route add 10.9.0.0/16 via 10.1.0.9; ip route del 10.9.0.0/16
        ip neigh add 10.1.0.5 lladdr 02:00:00:00:00:05 dev d0; ip neigh del 10.1.0.5 dev d0
        ip rule add from 10.1.0.0/16 lookup 100 pref 7; ip rule del pref 7
        ip addr del 10.1.0.1/24 dev d0
        ip link del d0
        until grep -q 'Deleted 2: d1' mon; do :; done; kill $P; cat mon";
    let mut c = env.belljar(&["run", "--net", "none", "--", "sh", "-c", script]);
    c.current_dir(&env.dir);
    let out = env.finish(c, 60)?;
    let mut lines = out.stdout.lines();
    for wanted in [
        "2: d1@NONE: <BROADCAST,MULTICAST> mtu 1500 qdisc noop state DOWN group default",
        "3: d0@d1: <NO-CARRIER,BROADCAST,MULTICAST,UP,M-DOWN> mtu 1500 qdisc noqueue state LOWERLAYERDOWN group default",
        "2: d1@d0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default",
        "3: d0    inet 10.1.0.1/24 scope global d0",
        "10.9.0.0/16 via 10.1.0.9 dev d0",
        "Deleted 10.9.0.0/16 via 10.1.0.9 dev d0",
        "10.1.0.5 dev d0 lladdr 02:00:00:00:00:05 PERMANENT",
        "Deleted 10.1.0.5 dev d0 FAILED",
        "7:\tfrom 10.1.0.0/16 lookup 100",
        "Deleted 7:\tfrom 10.1.0.0/16 lookup 100",
        "Deleted 3: d0    inet 10.1.0.1/24 scope global d0",
        "Deleted 2: d1",
    ] {
        let found = lines.any(|l| l.trim_end().starts_with(wanted.trim_end()));
        ensure!(found, "{wanted:?} is missing, or comes too early:\n{}\n{}", out.stdout, out.stderr);
    }
    Ok(())
}

fn wait(f: impl Fn() -> bool) -> Result<()> {
    until(30, || f().then_some(())).context("it did not come about in time")
}

/// left ── bridge of the host ── right, by two networks and `ip_forward`.
fn namespaces_joined_by_a_router(env: &Env) -> Result<()> {
    let www = env.dir.join("www");
    std::fs::create_dir_all(&www)?;
    env.write("www/index.html", b"through the router\n")?;
    let jar = env.run(&["--name", "net", "--net", "none"], &["sleep", "100"])?;
    wait(|| env.ask(&["ps"]).is_ok_and(|ps| ps.contains("net")))?;
    let exec = |words: &[&str]| env.finish(env.belljar(&[&["exec"], words].concat()), 30);
    for name in ["left", "right"] {
        env.ask(&["ip", "net", "netns", "add", name])?;
    }
    ensure!(env.ask(&["ip", "net", "netns"])? == "left\nright\n");
    let script = "set -e
        ip link add br0 type bridge; ip addr add 10.1.0.1/24 dev br0; ip link set br0 up
        ip link add port type veth peer name eth0 netns left; ip link set port master br0 up
        ip link add r type veth peer name eth0 netns right; ip addr add 10.2.0.1/24 dev r; ip link set r up
        ip -n left addr add 10.1.0.2/24 dev eth0; ip -n left link set eth0 up; ip -n left route add default via 10.1.0.1
        ip -n right addr add 10.2.0.2/24 dev eth0; ip -n right link set eth0 up; ip -n right route add default via 10.2.0.1
        sysctl -qw net.ipv4.ip_forward=1";
    let made = exec(&["net", "--", "sh", "-c", script])?;
    ensure!(made.code == Some(0), "{made:?}");
    let www = www.to_string_lossy().into_owned();
    let words = ["exec", "--netns", "right", "net", "--", "python3", "-m", "http.server", "80", "--directory", &www];
    let server = env.start(env.belljar(&words))?;
    let listens = || env.ask(&["ss", "net@right", "-ltn"]).is_ok_and(|t| t.contains(":80"));
    wait(listens)?;
    ensure!(!env.ask(&["ss", "net", "-ltn"])?.contains(":80"), "the server is in one namespace only");
    let got = exec(&["--netns", "left", "net", "--", "curl", "-sS", "--fail", "--max-time", "10", "http://10.2.0.2/"])?;
    ensure!(got.stdout == "through the router\n", "{got:?}");
    // The same by the distribution's own `ip netns exec`.
    let url = "http://10.2.0.2/index.html";
    let got = exec(&["net", "--", "ip", "netns", "exec", "left", "curl", "-sS", "--max-time", "10", url])?;
    ensure!(got.stdout == "through the router\n", "{got:?}");
    let forwarded = env.ask(&["nstat", "net", "-az", "IpForwDatagrams"])?;
    let count = forwarded.split_whitespace().nth(2).and_then(|n| n.parse::<f64>().ok()).context("no counter")?;
    ensure!(count >= 10.0, "{forwarded}");
    let neigh = env.ask(&["ip", "-n", "left", "net", "neigh"])?;
    ensure!(neigh.contains("10.1.0.1 dev eth0 lladdr"), "{neigh}");
    // Without the router's setting nobody gets through.
    env.ask(&["sysctl", "net", "-w", "net.ipv4.ip_forward=0"])?;
    let got = exec(&["--netns", "left", "net", "--", "curl", "-sS", "--max-time", "1", url])?;
    ensure!(got.code == Some(28), "{got:?}");
    server.stop()?;
    for name in ["left", "right"] {
        env.ask(&["ip", "net", "netns", "del", name])?;
    }
    ensure!(env.ask(&["ip", "net", "netns"])?.is_empty());
    wait(|| env.ask(&["ip", "net", "link"]).is_ok_and(|t| !t.contains("port") && !t.contains("r@")))?;
    jar.stop().map(drop)
}

/// Two namespaces on a bridge, masqueraded out, a published port translated in: by `ip` and `iptables-legacy` themselves, and
/// asked from beside, from the host and from outside; each is a connection, since what is bridged meets the tables too.
fn containers(env: &Env) -> Result<()> {
    let www = env.dir.join("www");
    std::fs::create_dir_all(&www)?;
    env.write("www/hello", b"from the container")?;
    let port = crate::harness::free_port()?;
    let publish = format!("{port}:80");
    let words = ["sh", &env.program("docker.sh"), &www.to_string_lossy()];
    let mut jar = env.run(&["--with-proc", "-p", &publish], &words)?;
    jar.says("ready", 50)?;
    let url = format!("http://127.0.0.1:{port}/hello");
    let mut curl = env.user("curl");
    curl.args(["-s", "--max-time", "20", &url]);
    let outside = env.finish(curl, 30)?;
    ensure!(outside.stdout == "from the container", "{outside:?} {}", jar.stderr());
    let out = jar.wait(40)?;
    let want = "beside: from the container\ntranslated: from the container\n1 received\nready\n-P PREROUTING ACCEPT\n\
        -P INPUT ACCEPT\n-P OUTPUT ACCEPT\n-P POSTROUTING ACCEPT\n\
        -A PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination 172.18.0.2:8000\n\
        -A OUTPUT -d 10.0.2.15/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 172.18.0.2:8000\n\
        -A POSTROUTING -s 172.18.0.0/24 ! -o br0 -j MASQUERADE\n\
        1 translated coming in\n1 masqueraded\n3\n";
    ensure!(out.stdout == want, "{out:?}");
    Ok(())
}
