//! Bad links, full queues, captures: what belljar is for.

use crate::harness::{Env, Test, free_port, test, until};
use crate::http::{echo, fetch_and_compare, noise, ready};
use anyhow::{Context, Result, ensure};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

pub fn tests() -> Vec<Test> {
    vec![
        test("lossy_link_download", &["python3", "curl"], lossy_link_download).limit(240),
        test("lossy_link_echo", &["python3"], lossy_link_echo).limit(240),
        test("accept_queue_overflow", &["python3", "tshark"], accept_queue_overflow),
        test("what_ran_out_is_told", &["python3"], what_ran_out_is_told),
        test("herds_are_told", &["python3"], herds_are_told),
        test("report_names_what_happened", &["python3"], report_names_what_happened),
        test("captures_are_readable", &["python3", "tcpdump", "tshark"], captures_are_readable),
        test("udp_published", &["python3"], udp_published),
        test("link_changes_while_running", &["python3"], link_changes_while_running),
    ]
}

const BAD_LINK: [&str; 6] = ["--loss", "5%", "--delay", "20ms", "--reorder", "10%"];

fn lossy_link_download(env: &Env) -> Result<()> {
    std::fs::create_dir_all(env.dir.join("www"))?;
    env.write("www/big", &noise(if env.full { 8 << 20 } else { 512 << 10 }))?;
    env.write("www/index.html", b"ok")?;
    let port = free_port()?;
    let publish = format!("{port}:80");
    let args = [&["-p", publish.as_str(), "--seed", "7"], BAD_LINK.as_slice()].concat();
    let mut server = env.run(&args, &["python3", "-m", "http.server", "80", "--directory", &env.file("www")])?;
    ready(&mut server, port)?;
    fetch_and_compare(env, port, 200)?;
    let out = server.stop()?;
    // The account is for exactly this: something happened that one would want to know.
    ensure!(out.stderr.contains("etrans"), "the account names no retransmission: {out:?}");
    Ok(())
}

fn lossy_link_echo(env: &Env) -> Result<()> {
    let port = free_port()?;
    let publish = format!("{port}:7");
    let args = [&["-p", publish.as_str()], BAD_LINK.as_slice()].concat();
    let mut server = env.run(&args, &["python3", &env.program("bytes.py"), "echo", "7"])?;
    server.says("listening", 20)?;
    echo(port, noise(if env.full { 2 << 20 } else { 256 << 10 }))
}

/// somaxconn 4: the queue holds five (Linux compares with `>`), the sixth SYN and all after it are dropped.
fn accept_queue_overflow(env: &Env) -> Result<()> {
    let pcap = env.file("o.pcapng");
    let args = ["--name", "full", "--sysctl", "net.core.somaxconn=4", "--pcap", &pcap];
    let mut server = env.run(&args, &["python3", &env.program("overflow.py"), "serve", "80"])?;
    server.says("listening", 20)?;
    let script = env.program("overflow.py");
    let knock = ["exec", "full", "--", "python3", &script, "connect", "10.0.2.15", "80", "8"];
    let mut clients = env.start(env.belljar(&knock))?;
    clients.says("knocked", 20)?;
    std::thread::sleep(Duration::from_millis(3500));
    let ss = env.ask(&["ss", "full", "-ltn"])?;
    let line = ss.lines().find(|l| l.contains(":80")).with_context(|| ss.clone())?;
    let fields: Vec<&str> = line.split_whitespace().collect();
    ensure!(fields.get(..3) == Some(&["LISTEN", "5", "4"]), "Recv-Q 5, Send-Q 4 expected: {line}");
    let nstat = env.ask(&["nstat", "full", "-az"])?;
    for name in ["TcpExtListenOverflows", "TcpExtListenDrops"] {
        let line = nstat.lines().find(|l| l.starts_with(name)).with_context(|| format!("{name} in {nstat}"))?;
        let count: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).context("a number")?;
        ensure!(count >= 3, "three clients knocked in vain: {line}");
    }
    drop(clients);
    let out = server.stop()?;
    for word in ["somaxconn", "10.0.2.15", "accept queue", ":80"] {
        ensure!(out.stderr.contains(word), "the account does not name {word:?}: {}", out.stderr);
    }
    let again = tshark(env, &pcap, "tcp.flags.syn == 1 && tcp.flags.ack == 0 && tcp.analysis.retransmission")?;
    ensure!(again.lines().count() >= 3, "no repeated SYNs in the capture: {again:?}");
    Ok(())
}

fn what_ran_out_is_told(env: &Env) -> Result<()> {
    let range = "net.ipv4.ip_local_port_range=50000 50009";
    let program = env.program("short.py");
    let args = ["run", "--net", "none", "--sysctl", range, "--", "python3", &program];
    let out = env.finish(env.belljar(&args), 30)?;
    ensure!(out.code == Some(0) && out.stdout == "2 EADDRNOTAVAIL EMFILE ENOPROTOOPT\n", "{out:?}");
    for told in [
        "belljar: connect() to 127.0.0.1:7000 found no free port 1 time: 50000 to 50009, 10 ports; \
         net.ipv4.ip_local_port_range = 50000 50009\n",
        "belljar: accept() of python3 failed 1 time: EMFILE, it may have ",
        "; connections to 127.0.0.1:7000 waited in the accept queue\n",
    ] {
        ensure!(out.stderr.contains(told), "{told:?} is not in {}", out.stderr);
    }
    ensure!(!out.stderr.contains("refused options"), "{out:?}");
    Ok(())
}

/// A connection wakes four, one gets it; with EPOLLEXCLUSIVE it wakes one.
fn herds_are_told(env: &Env) -> Result<()> {
    let program = env.program("herd.py");
    for (cure, herd) in [("", true), ("exclusive", false)] {
        let out = env.finish(env.belljar(&["run", "--net", "none", "--", "python3", &program, "4", "40", cure]), 60)?;
        ensure!(out.code == Some(0), "{out:?}");
        let told = out.stderr.contains("belljar: accept() of python3 at 127.0.0.1:7000 found nothing ");
        ensure!(told == herd && told == out.stderr.contains("threads wait for the same connections"), "{out:?}");
    }
    Ok(())
}

/// The page holds the queue, its limit, the setting and the client; it is whole, fetches nothing, and what programs are
/// called stays text.
fn report_names_what_happened(env: &Env) -> Result<()> {
    let report = env.file("r.html");
    let serve = env.program("overflow.py");
    let args = ["--name", "told", "--sysctl", "net.core.somaxconn=4", "--report", &report];
    let program = ["python3", &serve, "serve", "80", "<script>alert(1)</script>"];
    let mut server = env.run(&args, &program)?;
    server.says("listening", 20)?;
    ensure!(!std::path::Path::new(&report).exists(), "half a report while the program runs");
    let knock = ["exec", "told", "--", "python3", &serve, "connect", "10.0.2.15", "80", "8"];
    let mut clients = env.start(env.belljar(&knock))?;
    clients.says("knocked", 20)?;
    env.ask(&["link", "told", "delay", "5ms"])?;
    std::thread::sleep(Duration::from_millis(1500));
    // Who finds the accept queue full is told there, and not at the SYN queue as well.
    let path = env.ask(&["path", "told", "--once"])?;
    let dropped = |stage: &str| {
        path.lines().find(|l| l.trim_start().starts_with(stage)).map(|l| l.split_whitespace().nth(4).map(str::to_owned))
    };
    ensure!(dropped("SYN queue") == Some(Some("0".into())), "{path}");
    ensure!(dropped("accept queue").flatten().is_some_and(|n| n != "0"), "{path}");
    drop(clients);
    let out = server.stop()?;
    ensure!(out.code == Some(143), "a report changes no exit code: {out:?}");
    let page = std::fs::read_to_string(&report)?;
    for text in [
        "accept queue of 0.0.0.0:80 was full",
        "limit 4 (it holds one more)",
        "<code>net.core.somaxconn</code> = 4",
        "first client 10.0.2.15:",
        "--sysctl</code> <code>net.core.somaxconn=4096",
        "TCP_LISTEN_OVERFLOW in tcp_conn_request",
        "<span>TcpExtListenOverflows</span>",
        "conditions of the link from now on: limit 1000 delay 5ms",
        "Signal 15 (SIGTERM) ended the program",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
    ] {
        ensure!(page.contains(text), "{text:?} is not in the report");
    }
    let whole = page.starts_with("<!doctype html>") && page.ends_with("</html>\n");
    ensure!(whole && page.matches("<script").count() == 1, "one script, our own; {} bytes", page.len());
    for foreign in ["http://", "https://", "src=", "@import", "url(h", "<link"] {
        ensure!(!page.contains(foreign), "the report fetches something: {foreign}");
    }
    Ok(())
}

fn tshark(env: &Env, file: &str, filter: &str) -> Result<String> {
    let mut c = env.user("tshark");
    c.args(["-n", "-r", file, "-Y", filter]);
    let out = env.finish(c, 60)?;
    ensure!(out.code == Some(0), "{out:?}");
    Ok(out.stdout)
}

/// TCP both ways with loss, UDP, a refused connection; then both readers go through the file.
fn captures_are_readable(env: &Env) -> Result<()> {
    let (port, pcap) = (free_port()?, env.file("c.pcapng"));
    let publish = format!("{port}:7");
    let args = ["-p", &publish, "--pcap", &pcap, "--loss", "1%", "--delay", "1ms"];
    let mut server = env.run(&args, &["python3", &env.program("bytes.py"), "echo", "7"])?;
    server.says("listening", 20)?;
    echo(port, noise(1 << 20))?;
    server.stop()?;
    let mut c = env.user("tcpdump");
    c.args(["-n", "-r", &pcap]);
    let out = env.finish(c, 60)?;
    ensure!(out.code == Some(0) && out.stdout.lines().count() > 50, "{:?} {}", out.code, out.stderr);
    for bad in ["truncated", "[|", "bad-", "malformed", "bad len", "missing"] {
        ensure!(!out.stdout.contains(bad), "tcpdump says {bad:?}: {:?}", out.stdout.lines().find(|l| l.contains(bad)));
    }
    let malformed =
        tshark(env, &pcap, "_ws.malformed || _ws.short || ip.checksum.status == 0 || tcp.checksum.status == 0")?;
    ensure!(malformed.is_empty(), "tshark: {malformed}");
    ensure!(
        !tshark(env, &pcap, "tcp.analysis.retransmission || tcp.analysis.fast_retransmission")?.is_empty(),
        "no retransmission"
    );
    ensure!(
        !tshark(env, &pcap, "frame.interface_name == \"drop\" && frame.comment")?.is_empty(),
        "no drop with its reason"
    );
    Ok(())
}

fn udp_published(env: &Env) -> Result<()> {
    let port = free_port()?;
    let publish = format!("{port}:9/udp");
    let mut server = env.run(&["-p", &publish], &["python3", &env.program("udp_echo.py"), "9", "framed"])?;
    server.says("listening", 20)?;
    let s = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    s.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut buf = vec![0; 65536];
    for len in [0_usize, 1, 100, 1472, 4000, 20_000] {
        let data = noise(len);
        s.send_to(&data, (Ipv4Addr::LOCALHOST, port))?;
        let (n, from) = s.recv_from(&mut buf).with_context(|| format!("{len} bytes"))?;
        let mut want = format!("{len}:").into_bytes();
        want.extend(&data);
        ensure!(buf.get(..n) == Some(&want) && from.port() == port, "{len} bytes came back as {n} from {from}");
    }
    Ok(())
}

fn link_changes_while_running(env: &Env) -> Result<()> {
    let port = free_port()?;
    let publish = format!("{port}:7");
    let mut server =
        env.run(&["--name", "slow", "-p", &publish], &["python3", &env.program("bytes.py"), "echo", "7"])?;
    server.says("listening", 20)?;
    let time = || -> Result<Duration> {
        let t0 = std::time::Instant::now();
        echo(port, noise(100))?;
        Ok(t0.elapsed())
    };
    time()?;
    env.ask(&["link", "slow", "delay", "150ms"])?;
    let slow = time()?;
    ensure!(slow > Duration::from_millis(300), "a round trip over 150 ms each way took {slow:?}");
    let shown = env.ask(&["link", "slow"])?;
    ensure!(shown.contains("150ms"), "{shown}");
    env.ask(&["link", "slow", "delay", "0ms"])?;
    let fast = until(3, || time().ok().filter(|t| *t < Duration::from_millis(150)));
    ensure!(fast.is_some(), "still slow after the delay was taken away");
    Ok(())
}
