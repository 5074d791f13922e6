//! Programs that are not HTTP servers: redis and its benchmark, iperf3, and a list of socket calls compared with the host.

use crate::harness::{Env, TAP, Test, free_port, test, until};
use crate::http::own_address;
use anyhow::{Context, Result, ensure};

pub fn tests() -> Vec<Test> {
    vec![
        test("beside_the_stream", &["python3"], beside_the_stream),
        test("redis_benchmark_and_bgsave", &["redis-server", "redis-benchmark", "redis-cli"], redis).limit(240),
        test("iperf3_published_both_ways", &["iperf3"], iperf3_published),
        test("iperf3_outward", &["iperf3"], iperf3_outward),
        test("doors_as_on_the_host", &["python3", "unshare", TAP], doors_as_on_the_host),
        test("tun_devices_as_on_the_host", &["python3", "unshare", TAP], tun_devices_as_on_the_host),
        test("tun_writes_as_on_the_host", &["python3", "unshare", TAP], tun_writes_as_on_the_host),
        test("calls_as_on_the_host", &["python3"], calls_as_on_the_host),
        test("ipv6_disabled", &["python3"], ipv6_disabled),
        test("descriptors_exhausted", &["python3"], descriptors_exhausted),
        test("supervisor_out_of_descriptors", &["python3", "prlimit"], supervisor_out_of_descriptors),
        test("names_resolve_as_outside", &["python3"], names_resolve_as_outside),
    ]
}

fn redis(env: &Env) -> Result<()> {
    let port = free_port()?;
    let publish = format!("{port}:6379");
    let dir = env.dir.to_string_lossy().into_owned();
    let program = ["redis-server", "--save", "", "--dir", &dir, "--protected-mode", "no", "--bind", "0.0.0.0"];
    let mut server = env.run(&["--name", "redis", "-p", &publish], &program)?;
    let cli = |words: &[&str]| env.finish(env.belljar(&[&["exec", "redis", "--", "redis-cli"], words].concat()), 30);
    server.says("Ready to accept connections", 20)?;
    let requests = if env.full { "100000" } else { "10000" };
    // From the host through -p, one request at a time; inside the jar with 16 in flight.
    let mut plain = env.user("redis-benchmark");
    plain.args(["-p", &port.to_string(), "-n", requests, "-c", "50", "-t", "set,get", "--csv"]);
    benchmark_ok(&env.finish(plain, 100)?)?;
    let inside =
        ["exec", "redis", "--", "redis-benchmark", "-n", requests, "-P", "16", "-c", "50", "-t", "set,get", "--csv"];
    benchmark_ok(&env.finish(env.belljar(&inside), 100)?)?;
    let out = cli(&["bgsave"])?;
    ensure!(out.stdout.contains("Background saving started"), "{out:?}");
    let saved = || cli(&["info", "persistence"]).ok().filter(|o| o.stdout.contains("rdb_bgsave_in_progress:0"));
    let out = until(20, saved).context("BGSAVE did not end")?;
    ensure!(out.stdout.contains("rdb_last_bgsave_status:ok"), "{out:?}");
    ensure!(env.dir.join("dump.rdb").exists(), "no dump.rdb");
    cli(&["shutdown", "nosave"])?;
    let out = server.wait(10)?;
    ensure!(out.code == Some(0), "{out:?}");
    Ok(())
}

fn benchmark_ok(out: &crate::harness::Out) -> Result<()> {
    let rows = out.stdout.lines().filter(|l| l.starts_with("\"SET\"") || l.starts_with("\"GET\"")).count();
    ensure!(out.code == Some(0) && rows == 2 && !out.stderr.contains("rror"), "{out:?}");
    Ok(())
}

fn iperf_ok(out: &crate::harness::Out) -> Result<()> {
    let json: serde_json::Value = serde_json::from_str(&out.stdout).with_context(|| format!("{out:?}"))?;
    let bytes = json.pointer("/end/sum_received/bytes").and_then(serde_json::Value::as_u64);
    ensure!(out.code == Some(0) && bytes.is_some_and(|b| b > 1_000_000), "{out:?}");
    Ok(())
}

fn iperf3_published(env: &Env) -> Result<()> {
    let port = free_port()?;
    let publish = format!("{port}:5201");
    let mut server = env.run(&["-p", &publish], &["iperf3", "-s", "--forceflush"])?;
    server.says("listening", 20)?;
    for extra in [&[][..], &["-R"], &["-P", "4"]] {
        let mut c = env.user("iperf3");
        c.args(["-c", "127.0.0.1", "-p", &port.to_string(), "-t", if env.full { "5" } else { "1" }, "-J"]).args(extra);
        iperf_ok(&env.finish(c, 30)?).with_context(|| format!("{extra:?}"))?;
    }
    ensure!(server.running(), "{}", server.stderr());
    Ok(())
}

fn iperf3_outward(env: &Env) -> Result<()> {
    let (port, host) = (free_port()?.to_string(), own_address()?.to_string());
    let mut c = env.user("iperf3");
    c.args(["-s", "-p", &port, "--forceflush"]);
    let mut server = env.start(c)?;
    server.says("listening", 10)?;
    for extra in [&[][..], &["-R"]] {
        let words = [&["iperf3", "-c", &host, "-p", &port, "-t", "1", "-J"], extra].concat();
        iperf_ok(&env.run(&[], &words)?.wait(30)?).with_context(|| format!("{extra:?}"))?;
    }
    Ok(())
}

/// Where a jar's answer differs from the host kernel's, and why. A socket of a program is one end of an AF_UNIX pair, and
/// calls that carry data without an address are not seen by the supervisor: the pair answers them.
const DIFFERENCES: &[(&str, &str)] = &[
    ("listener data call", "recv on a listener finds an empty pair, not ENOTCONN"),
    ("data calls before connect", "the pair is connected when the stack's socket is not yet"),
    (
        "udp refused",
        "poll sees an empty record; recvfrom, recvmsg, sendto and SO_ERROR give the error, plain recv nothing",
    ),
];

fn calls_as_on_the_host(env: &Env) -> Result<()> {
    let script = env.program("calls.py");
    let mut c = env.user("python3");
    c.arg(&script);
    let host = env.finish(c, 60)?;
    ensure!(host.stdout.ends_with("done\n"), "on the host itself: {host:?}");
    let jar = env.run(&[], &["python3", &script])?.wait(60)?;
    let known = |line: &str| DIFFERENCES.iter().any(|(name, _)| line.starts_with(name));
    let (mut a, mut b) = (host.stdout.lines(), jar.stdout.lines());
    let mut wrong = Vec::new();
    loop {
        match (a.next(), b.next()) {
            (None, None) => break,
            // A difference that went away leaves the list.
            (Some(x), y) if y == Some(x) && known(x) => wrong.push(format!("no difference any more: {x}")),
            (x, y) if x == y => {}
            (Some(x), Some(y)) if known(x) && known(y) => {}
            (x, y) => wrong.push(format!("host: {}\njar:  {}", x.unwrap_or("-"), y.unwrap_or("-"))),
        }
    }
    ensure!(wrong.is_empty() && jar.code == Some(0), "{}\n{}", wrong.join("\n"), jar.stderr);
    Ok(())
}

/// `/proc/sys`, `/dev/net/tun` and interface requests: the same lines as in a network namespace of the host's.
fn doors_as_on_the_host(env: &Env) -> Result<()> {
    let script = env.program("doors.py");
    let mut c = env.in_own_network("-c", &[&format!("ip link set lo up; exec python3 {script}")]);
    c.env("PYTHONDONTWRITEBYTECODE", "1");
    let host = env.finish(c, 60)?;
    ensure!(host.stdout.ends_with("done\n"), "on the host itself: {host:?}");
    let jar = env.run(&["--net", "none", "--with-proc"], &["python3", &script])?.wait(60)?;
    // Only root's programs can become somebody else.
    let same = |out: &str| {
        out.lines()
            .filter(|l| !l.starts_with("user ") && !l.starts_with("root "))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    ensure!(same(&host.stdout) == same(&jar.stdout), "host:\n{}\njar:\n{}{}", host.stdout, jar.stdout, jar.stderr);
    Ok(())
}

/// Headers, offloads, several files and persistence of TUN and TAP devices: the same lines as on the host.
fn tun_devices_as_on_the_host(env: &Env) -> Result<()> {
    let script = env.program("tun.py");
    let host = env.finish(env.in_own_network("-c", &[&format!("ip link set lo up; exec python3 {script}")]), 60)?;
    ensure!(host.stdout.ends_with("goes True\n") && host.code == Some(0), "on the host itself: {host:?}");
    let jar = env.run(&["--net", "none", "--with-proc"], &["python3", &script])?.wait(60)?;
    ensure!(host.stdout == jar.stdout, "host:\n{}\njar:\n{}{}", host.stdout, jar.stdout, jar.stderr);
    Ok(())
}

/// What a write to such a device says of what is no packet, with --exact: the same lines as on the host.
fn tun_writes_as_on_the_host(env: &Env) -> Result<()> {
    let script = env.program("tun_writes.py");
    let host = env.finish(env.in_own_network("-c", &[&format!("ip link set lo up; exec python3 {script}")]), 60)?;
    ensure!(host.stdout.ends_with("done\n") && host.code == Some(0), "on the host itself: {host:?}");
    let jar = env.run(&["--net", "none", "--with-proc", "--exact"], &["python3", &script])?.wait(60)?;
    ensure!(host.stdout == jar.stdout, "host:\n{}\njar:\n{}{}", host.stdout, jar.stdout, jar.stderr);
    Ok(())
}

/// As on a Linux with disable_ipv6=1: sockets and `::` work, any other IPv6 address does not.
fn ipv6_disabled(env: &Env) -> Result<()> {
    let script = "import errno, socket\n\
        def e(f, *a):\n    try:\n        f(*a)\n        return 'ok'\n    except OSError as x:\n        return errno.errorcode[x.errno]\n\
        s = socket.socket(socket.AF_INET6)\n\
        print(e(s.bind, ('2001:db8::1', 80)), e(s.bind, ('::1', 80)), e(s.connect, ('2001:db8::1', 80)), e(s.connect, ('::1', 80)), e(s.bind, ('::', 80)))\n";
    let out = env.run(&["--ip6", "off"], &["python3", "-c", script])?.wait(20)?;
    let want = "EADDRNOTAVAIL EADDRNOTAVAIL EADDRNOTAVAIL EADDRNOTAVAIL ok\n";
    ensure!(out.stdout == want && out.code == Some(0), "{out:?}");
    Ok(())
}

fn descriptors_exhausted(env: &Env) -> Result<()> {
    let out = env.run(&[], &["python3", &env.program("descriptors.py"), "64"])?.wait(60)?;
    let want = "turn 0 EMFILE True\nturn 1 EMFILE True\naccept EMFILE\nalive\n";
    ensure!(out.code == Some(0) && out.stdout == want, "{out:?}");
    Ok(())
}

/// The supervisor's hard limit is the smaller one here: the program sees ENFILE, and works again when it has closed some.
fn supervisor_out_of_descriptors(env: &Env) -> Result<()> {
    let binary = env.program("belljar");
    let mut c = env.user("prlimit");
    c.args(["--nofile=96:96", &binary, "run", "--", "python3", &env.program("descriptors.py")]);
    let out = env.finish(c, 60)?;
    let lines: Vec<&str> = out.stdout.lines().collect();
    let full = |l: &str| l.contains("ENFILE") || l.contains("EMFILE");
    let good = matches!(lines.as_slice(), [a, b, c, d] if full(a) && full(b) && full(c) && *d == "alive");
    ensure!(good && out.code == Some(0), "{out:?}");
    Ok(())
}

/// The jar's resolver answers what the host's answers, also when that is nothing.
fn names_resolve_as_outside(env: &Env) -> Result<()> {
    let script = "import socket\ntry:\n    print(len(socket.getaddrinfo('deb.debian.org', 80, socket.AF_INET, socket.SOCK_STREAM)) > 0)\nexcept OSError as e:\n    print(type(e).__name__)\n";
    let mut c = env.user("python3");
    c.args(["-c", script]);
    let host = env.finish(c, 60)?;
    let jar = env.run(&[], &["python3", "-c", script])?.wait(60)?;
    ensure!(host.stdout == jar.stdout, "host: {host:?} jar: {jar:?}");
    Ok(())
}

/// Urgent data and the error queue, as far as the pair allows.
fn beside_the_stream(env: &Env) -> Result<()> {
    let mut jar = env.run(&[], &["python3", &env.program("beside.py")])?;
    jar.says("done", 60)?;
    let text = jar.stdout();
    let urgent = ["urgent 1 True", "before b'abc' 1", "byte b'D'", "behind b'ef' 0", "whole True"];
    let errors = [
        "stamp (42, 4, 1, 99, b'', True, [37, 11])",
        "stamp (42, 4, 0, 99, b'', True, [37, 11])",
        "stamp (42, 4, 2, 99, b'', True, [37, 11])",
        "icmp (111, 2, 0, 0, b'hello', True, [11])",
        "zerocopy 95",
    ];
    let urgent = urgent.iter().filter(|_| !text.starts_with("no urgent data"));
    for line in urgent.chain(&errors) {
        ensure!(text.lines().any(|l| l == *line), "{line:?} is not in {text:?} {}", jar.stderr());
    }
    // Its supervisor goes by itself; killed on the way out it would leave its socket.
    let out = jar.wait(20)?;
    ensure!(out.code == Some(0), "{out:?}");
    Ok(())
}
