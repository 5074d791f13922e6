//! The commands that look into a jar: same columns and words as the originals, JSON with -j, and exec beside them.

use crate::harness::{Env, Proc, Test, free_port, test, until};
use crate::http::ready;
use anyhow::{Context, Result, ensure};

pub fn tests() -> Vec<Test> {
    vec![
        test("exec_and_ps", &["python3", "curl"], exec_and_ps),
        test("net_tools_in_a_jar", &["python3", "ss", "route", "arp"], net_tools_in_a_jar),
        test("views_of_a_jar", &["python3", "curl"], views_of_a_jar),
        test("views_as_the_machines_tools", &["python3", "ip", "netstat", "tcpdump"], views_as_the_machines_tools),
        test("views_as_json", &["python3"], views_as_json),
        test("sysctl_changes_a_jar", &["python3"], sysctl_changes_a_jar),
        test("tcpdump_and_trace_live", &["python3", "tcpdump"], tcpdump_and_trace_live),
        test("namespaces_are_told_apart", &["ip", "ping"], namespaces_are_told_apart),
        test("captures_are_read_again", &["python3", "tcpdump"], captures_are_read_again),
        test("doctor", &[], doctor),
        test("help", &[], help),
    ]
}

fn jar(env: &Env) -> Result<(Proc, u16)> {
    let port = free_port()?;
    let publish = format!("{port}:80");
    let www = env.dir.join("www");
    std::fs::create_dir_all(&www)?;
    let mut server = env.run(
        &["--name", "web", "-p", &publish],
        &["python3", "-m", "http.server", "80", "--directory", &www.to_string_lossy()],
    )?;
    ready(&mut server, port)?;
    Ok((server, port))
}

fn exec_and_ps(env: &Env) -> Result<()> {
    let (mut server, _) = jar(env)?;
    let ps = env.ask(&["ps"])?;
    ensure!(ps.lines().any(|l| l.contains("web") && l.contains("python3")), "{ps}");
    for address in ["127.0.0.1", "10.0.2.15"] {
        let url = format!("http://{address}/");
        let words = ["exec", "web", "--", "curl", "--silent", "--show-error", "--fail", &url];
        let out = env.finish(env.belljar(&words), 20)?;
        ensure!(out.code == Some(0) && out.stdout.contains("Directory listing"), "{out:?}");
    }
    // Exit code, stdin, environment and directory are the caller's.
    let mut c = env.belljar(&["exec", "web", "--", "sh", "-c", "read line; echo $line $FROM; pwd; exit 7"]);
    c.env("FROM", "caller").stdin(std::fs::File::open(env.write("in", b"typed\n")?)?);
    let out = env.finish(c, 20)?;
    ensure!(out.code == Some(7) && out.stdout == format!("typed caller\n{}\n", env.dir.display()), "{out:?}");
    ensure!(server.running(), "{}", server.stderr());
    server.stop()?;
    let ps = env.ask(&["ps"])?;
    ensure!(!ps.contains("web"), "still listed: {ps}");
    Ok(())
}

/// What came before netlink, and who has a socket: by the inode that its descriptor shows.
fn net_tools_in_a_jar(env: &Env) -> Result<()> {
    let (server, _) = jar(env)?;
    // The same of belljar's own ss: program, process and descriptor are this machine's.
    let (own, theirs) = (env.ask(&["ss", "web", "-tlnp"])?, env.ask(&["exec", "web", "--", "ss", "-tlnp"])?);
    let users = |s: &str| s.split("users:").nth(1).map(|u| u.trim().to_owned());
    ensure!(users(&own).is_some() && users(&own) == users(&theirs), "{own}\n{theirs}");
    let script = "PATH=$PATH:/usr/sbin:/sbin; route add -net 10.7.0.0 netmask 255.255.0.0 dev eth0; route -n; \
                  route del -net 10.7.0.0 netmask 255.255.0.0 dev eth0; route -n | grep -c ^10.7; \
                  arp -s 10.0.2.77 02:00:00:00:00:77; arp -n; arp -d 10.0.2.77; ss -tlnp; \
                  echo; ss -K -tl sport = 80; ss -tln | grep -c :80";
    let out = env.finish(env.belljar(&["exec", "web", "--", "sh", "-c", script]), 20)?;
    let routes: Vec<&str> = out.stdout.lines().filter(|l| l.starts_with("10.7.0.0")).collect();
    ensure!(routes.len() == 1 && routes.iter().all(|r| r.ends_with("eth0")), "{out:?}");
    ensure!(out.stdout.contains("02:00:00:00:00:77") && out.stdout.contains("users:((\"python3\",pid="), "{out:?}");
    ensure!(out.stdout.ends_with("\n0\n"), "the listener is still there: {out:?}");
    server.stop()?;
    Ok(())
}

fn has(text: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(text.contains(word), "{word:?} is not in:\n{text}");
    }
    Ok(())
}

fn views_of_a_jar(env: &Env) -> Result<()> {
    let (_server, port) = jar(env)?;
    crate::http::get(port, "/")?;
    has(&env.ask(&["ss", "web", "-ltn"])?, &["State", "Recv-Q", "Send-Q", "Local Address:Port", "LISTEN", ":80"])?;
    has(&env.ask(&["ss", "web", "-tan"])?, &["TIME-WAIT"])
        .or_else(|_| has(&env.ask(&["ss", "web/gw", "-tan"])?, &["TIME-WAIT"]))?;
    has(&env.ask(&["netstat", "web", "-s"])?, &["Ip:", "Tcp:", "passive connection openings", "TcpExt:"])?;
    has(&env.ask(&["netstat", "web", "-ant"])?, &["Proto", "LISTEN", "0.0.0.0:80"])
        .or_else(|_| has(&env.ask(&["netstat", "web", "-ant"])?, &["tcp6", ":::80"]))?;
    has(&env.ask(&["nstat", "web", "-az"])?, &["#kernel", "TcpPassiveOpens", "TcpExtListenOverflows", "IpInReceives"])?;
    has(
        &env.ask(&["ip", "web", "addr"])?,
        &["1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536", "inet 127.0.0.1/8", "2: eth0:", "inet 10.0.2.15/24"],
    )?;
    has(&env.ask(&["ip", "web", "link"])?, &["eth0", "link/ether", "link/loopback"])?;
    has(&env.ask(&["ip", "web", "route"])?, &["default via 10.0.2.2 dev eth0", "10.0.2.0/24 dev eth0"])?;
    has(&env.ask(&["ip", "web", "neigh"])?, &["10.0.2.2 dev eth0 lladdr"])?;
    has(&env.ask(&["ip", "web/gw", "addr"])?, &["10.0.2.2/24"])?;
    has(&env.ask(&["sysctl", "web", "-a"])?, &["net.core.somaxconn = 4096", "net.ipv4.tcp_syncookies = 1"])?;
    env.ask(&["link", "web"])?;
    let stages = [
        "RECEIVE",
        "eth0 ring",
        "NET_RX, backlog",
        "ip_rcv",
        "accept queue",
        "SEND",
        "tcp_write_xmit",
        "eth0 pfifo_fast",
    ];
    has(&env.ask(&["path", "web", "--once"])?, &stages)?;
    has(&env.ask(&["path", "web", "-n", "1", "-i", "0.1"])?, &["rates over", "0/256"])?;
    Ok(())
}

/// The commands that look from outside say what the machine's own say inside, of devices and routes of all kinds.
fn views_as_the_machines_tools(env: &Env) -> Result<()> {
    let script = "ip link add v0 address 02:00:00:00:00:01 type veth peer name v10 address 02:00:00:00:00:02
        ip link add br0 address 02:00:00:00:00:0b type bridge; ip link set v10 master br0
        ip link set v0 up; ip link set v10 up; ip link set br0 up; ip addr add 10.0.0.1/24 dev v0
        ip -6 addr add fd00:5::1/64 nodad dev v0; ip route add 10.9.0.0/16 via 10.0.0.2; ip route add default via 10.0.0.3
        ip -6 route add fd00:9::/48 via fd00:5::2; ip -6 route add default via fd00:5::3
        exec python3 -m http.server 80 --bind 10.0.0.1";
    let server = env.run(&["--net", "none", "--name", "web"], &["sh", "-c", script])?;
    let listens = || env.ask(&["ss", "web", "-tln"]).ok().filter(|t| t.contains(":80"));
    until(20, listens).context("nobody listens")?;
    let settled = || env.ask(&["ip", "web", "addr"]).ok().filter(|t| !t.contains("tentative"));
    until(20, settled).context("tentative for ever")?;
    let trimmed = |text: String| text.lines().map(|l| l.trim_end().to_owned()).collect::<Vec<_>>();
    for words in [
        "ip addr",
        "ip -j addr",
        "ip -br addr",
        "ip -o addr",
        "ip addr show to 10.0.0.0/8",
        "ip addr show scope link",
        "ip link",
        "ip -br link",
        "ip -s -s link show v0",
        "ip route",
        "ip route show table all",
        "ip route show default",
        "ip route show root 10.0.0.0/8",
        "ip route show match 10.9.1.1",
        "ip route show via 10.0.0.2",
        "ip -6 route",
        "ip -j -6 route",
        "netstat -i",
        "netstat -lntp",
    ] {
        let (tool, args) = words.split_once(' ').unwrap_or((words, ""));
        let args: Vec<&str> = args.split(' ').collect();
        let own = env.ask(&[&[tool, "web"], &args[..]].concat())?;
        let theirs = env.finish(env.belljar(&[&["exec", "web", "--", tool], &args[..]].concat()), 20)?.stdout;
        ensure!(trimmed(own.clone()) == trimmed(theirs.clone()), "{words}:\n{own}\nthe machine's:\n{theirs}");
    }
    let conf = env.write("sysctl.conf", b"# words\nnet.ipv4.tcp_sack = 0\n-net.bogus = 1\n")?;
    ensure!(env.ask(&["sysctl", "web", "-p", &conf])? == "net.ipv4.tcp_sack = 0\n", "sysctl -p");
    ensure!(env.ask(&["sysctl", "web", "-a", "-r", "tcp_(sack|dsack)$"])?.lines().count() == 2, "sysctl -r");
    ensure!(env.ask(&["tcpdump", "web", "-D"])?.starts_with("1.lo [Up"), "tcpdump -D");
    server.stop()?;
    Ok(())
}

/// A capture of a run, as tcpdump of the machine prints it.
fn captures_are_read_again(env: &Env) -> Result<()> {
    let script = "import socket\nwith socket.create_server(('127.0.0.1', 80)) as l:\n a = socket.create_connection(('127.0.0.1', 80))\n \
                  b, _ = l.accept(); a.sendall(b'GET / HTTP/1.0\\r\\n\\tx y\\r\\n\\x00\\xff'); b.recv(99); a.close(); b.recv(9)";
    let file = env.file("run.pcapng");
    let out = env.run(&["--net", "none", "--pcap", &file], &["python3", "-c", script])?.wait(60)?;
    ensure!(out.code == Some(0), "{out:?}");
    let older = env.file("run.pcap");
    let mut c = env.user("tcpdump");
    c.args(["-r", &file, "-w", &older]);
    env.finish(c, 20)?;
    ensure!(env.ask(&["tcpdump", "-r", &older])? == env.ask(&["tcpdump", "-r", &file])?, "the older format");
    for option in ["-n", "-q", "-t", "-tt", "-ttt", "-tttt", "-ttttt", "-X", "-XX", "-x", "-A", "-e"] {
        let mut c = env.user("tcpdump");
        c.args(["-n", "-c", "20", "-r", &file, option]).env("TZ", "UTC");
        let theirs = env.finish(c, 20)?.stdout;
        let own = env.ask(&["tcpdump", "-r", &file, "-c", "20", option])?;
        ensure!(!own.is_empty() && own == theirs, "{option}:\n{own}\nthe machine's:\n{theirs}");
    }
    Ok(())
}

fn views_as_json(env: &Env) -> Result<()> {
    let (_server, _) = jar(env)?;
    for words in [
        &["path", "web", "-1", "-j"][..],
        &["ss", "web", "-tan", "-j"][..],
        &["nstat", "web", "-j"],
        &["netstat", "web", "-s", "-j"],
        &["ip", "web", "-j", "addr"],
        &["ip", "web", "-j", "route"],
        &["ip", "web", "-j", "link"],
        &["ip", "web", "-j", "neigh"],
        &["sysctl", "web", "-a", "-j"],
        &["link", "web", "-j"],
        &["ps", "-j"],
        &["doctor", "-j"],
    ] {
        let text = env.ask(words)?;
        let value: Result<serde_json::Value, _> = serde_json::from_str(&text);
        ensure!(value.is_ok_and(|v| !v.is_null()), "{words:?} is not JSON: {text}");
    }
    Ok(())
}

fn sysctl_changes_a_jar(env: &Env) -> Result<()> {
    let (_server, _) = jar(env)?;
    has(&env.ask(&["sysctl", "web", "net.ipv4.tcp_fin_timeout"])?, &["net.ipv4.tcp_fin_timeout = 60"])?;
    has(&env.ask(&["sysctl", "web", "-w", "net.ipv4.tcp_fin_timeout=7"])?, &["net.ipv4.tcp_fin_timeout = 7"])?;
    has(&env.ask(&["sysctl", "web", "net.ipv4.tcp_fin_timeout"])?, &["net.ipv4.tcp_fin_timeout = 7"])?;
    ensure!(env.ask(&["sysctl", "web", "-n", "net.ipv4.tcp_fin_timeout"])?.trim() == "7", "-n");
    let out = env.finish(env.belljar(&["sysctl", "web", "net.ipv4.tcp_fin_timeou"]), 10)?;
    ensure!(out.code != Some(0) && out.stderr.contains("net.ipv4.tcp_fin_timeout"), "the nearest name: {out:?}");
    Ok(())
}

/// A trace says where each packet is; of one namespace only its own are shown, by a capture too.
fn namespaces_are_told_apart(env: &Env) -> Result<()> {
    let script = "ip netns add a && ip link add v0 type veth peer name v1 && ip link set v1 netns a && \
        ip addr add 10.9.0.1/24 dev v0 && ip link set v0 up && ip netns exec a ip addr add 10.9.0.2/24 dev v1 && \
        ip netns exec a ip link set v1 up && echo ready && while :; do ping -c 1 -W 1 10.9.0.2 >ping.out; sleep 0.2; done";
    let mut jar = env.run(&["--name", "two", "--with-proc", "--net", "none"], &["sh", "-c", script])?;
    jar.says("ready", 20)?;
    let show = |args: &[&str]| -> Result<String> {
        let out = env.finish(env.belljar(args), 20)?;
        ensure!(out.code == Some(0), "{args:?}: {out:?}");
        Ok(out.stdout)
    };
    let all = show(&["trace", "two", "stage=ip_rcv", "-c", "4"])?;
    ensure!(all.contains(" v0 ip_rcv") && all.contains(" @a/v1 ip_rcv"), "{all}");
    let one = show(&["trace", "two@a", "-c", "12"])?;
    ensure!(one.lines().count() == 12 && one.lines().all(|l| l.contains(" @a")), "{one}");
    let dump = show(&["tcpdump", "two", "-c", "4"])?;
    let lines: std::collections::BTreeSet<&str> = dump.lines().filter_map(|l| Some(l.split_once(' ')?.1)).collect();
    ensure!(dump.lines().count() == 4 && lines.len() == 4, "each packet once: {dump}");
    jar.stop()?;
    Ok(())
}

fn tcpdump_and_trace_live(env: &Env) -> Result<()> {
    let (_server, port) = jar(env)?;
    let mut dump = env.start(env.belljar(&["tcpdump", "web", "-n", "tcp", "port", "80"]))?;
    let mut raw = env.start(env.belljar(&["tcpdump", "web", "-w", &env.file("live.pcapng")]))?;
    let mut trace = env.start(env.belljar(&["trace", "web"]))?;
    let seen = until(15, || {
        let _ = crate::http::get(port, "/");
        let text = dump.stdout();
        (text.contains("Flags [S]")
            && text.contains("Flags [S.]")
            && text.contains("> 10.0.2.15.80")
            && trace.stdout().contains("tcp_v4_rcv"))
        .then_some(())
    });
    ensure!(
        seen.is_some(),
        "tcpdump: {:?} {:?}\ntrace: {:?} {:?}",
        dump.stdout(),
        dump.stderr(),
        trace.stdout(),
        trace.stderr()
    );
    // Each of the three attaches in its own time: go on until the last one must have seen something.
    for _ in 0..10 {
        let _ = crate::http::get(port, "/");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    ensure!(dump.running() && raw.running() && trace.running(), "one of them ended by itself");
    for p in [dump, raw, trace] {
        p.signal("INT");
        p.wait(5).context("after SIGINT")?;
    }
    let mut c = env.user("tcpdump");
    c.args(["-n", "-r", "live.pcapng"]);
    let out = env.finish(c, 20)?;
    ensure!(out.code == Some(0) && out.stdout.contains("Flags [S]"), "{out:?}");
    Ok(())
}

fn doctor(env: &Env) -> Result<()> {
    let text = env.ask(&["doctor"])?;
    has(&text, &["seccomp"])
}

fn help(env: &Env) -> Result<()> {
    for words in [
        &["--help"][..],
        &["run", "--help"],
        &["exec", "--help"],
        &["ss", "--help"],
        &["lab", "--help"],
        &["link", "--help"],
    ] {
        let text = env.ask(words)?;
        ensure!(text.lines().count() > 5, "{words:?}: {text}");
    }
    has(&env.ask(&["run", "--help"])?, &["--sysctl", "--pcap", "--loss", "--linger", "-p"])
}
