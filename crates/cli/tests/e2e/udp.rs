//! Programs that speak UDP: name servers and resolvers, socat, iperf3, multicast, and who tries IPv6 first.
use crate::harness::{Env, QUIC, TAP, Test, free_port, quic, test, until};
use anyhow::{Result, ensure};

pub fn tests() -> Vec<Test> {
    vec![
        test("resolvers_through_the_forwarder", &["dig", "host", "dnsmasq", "unshare", "ip"], forwarder),
        test("dnsmasq_published", &["dig", "dnsmasq"], dnsmasq),
        test("socat_udp", &["socat"], socat),
        test("quic_python", &["python3", "cp", QUIC], quic_python).limit(240),
        test("iperf3_udp", &["iperf3"], iperf3),
        test("mdns_pair", &["python3"], mdns_pair),
        test("groups_joined_and_left", &["python3", "unshare", "ip", TAP], groups).limit(60),
        test("happy_eyeballs", &["python3", "unshare", "nsenter", "ip", TAP], eyeballs).limit(120),
    ]
}

/// dig, host and getaddrinfo get from the forwarder what they get outside.
fn forwarder(env: &Env) -> Result<()> {
    let out = env.finish(env.in_own_network(&env.program("forwarder.sh"), &[&env.belljar_path()]), 60)?;
    ensure!(out.code == Some(0) && out.stdout.ends_with("equal\n"), "{out:?}");
    for want in ["IN\tA\t192.0.2.7", "IN\tAAAA\t2001:db8::7", "IN\tTXT", "has IPv6 address"] {
        ensure!(out.stdout.contains(want), "{want}: {out:?}");
    }
    Ok(())
}

fn dnsmasq(env: &Env) -> Result<()> {
    let port = free_port()?.to_string();
    let publish = [format!("{port}:53/udp"), format!("{port}:53")];
    let args = ["--name", "names", "-p", &publish[0], "-p", &publish[1]];
    let server = ["dnsmasq", "--no-daemon", "--no-hosts", "--no-resolv", "--user=", "--group=", "--pid-file="];
    let records = ["--host-record=names.test,192.0.2.7,2001:db8::7", "--local=/test/"];
    let mut server = env.run(&args, &[&server[..], &records].concat())?;
    ensure!(until(10, || server.stderr().contains("started").then_some(())).is_some(), "{}", server.stderr());
    let dig = |more: &[&str]| -> Result<String> {
        let mut c = env.user("dig");
        c.args(["@127.0.0.1", "-p", &port, "+short", "+time=3", "+tries=2", "names.test"]).args(more);
        Ok(env.finish(c, 20)?.stdout)
    };
    ensure!(dig(&["A"])? == "192.0.2.7\n" && dig(&["AAAA", "+tcp"])? == "2001:db8::7\n", "{}", server.stderr());
    for at in ["@127.0.0.1", "@::1", "@10.0.2.15", "@fd00::15"] {
        let ask = ["exec", "names", "--", "dig", at, "+short", "+time=3", "+tries=2", "names.test", "A"];
        ensure!(env.ask(&ask)? == "192.0.2.7\n", "{at}: {}", server.stderr());
    }
    ensure!(server.running());
    server.stop()?;
    Ok(())
}

fn socat(env: &Env) -> Result<()> {
    let port = free_port()?;
    let publish = format!("{port}:9/udp");
    let echo = ["socat", "UDP6-LISTEN:9,fork,ipv6only=0", "EXEC:cat"];
    let mut server = env.run(&["--name", "echo", "-p", &publish], &echo)?;
    let bound = || env.ask(&["ss", "echo", "-uan"]).is_ok_and(|s| s.contains(":9 ")).then_some(());
    ensure!(until(10, bound).is_some(), "{}", server.stderr());
    let say = |to: &str| format!("echo to {to} | socat -t 2 - {to}");
    let outside = format!("UDP4:127.0.0.1:{port}");
    let mut c = env.user("sh");
    c.args(["-c", &say(&outside)]);
    let out = env.finish(c, 20)?;
    ensure!(out.stdout == format!("to {outside}\n"), "{out:?} {}", server.stderr());
    for to in ["UDP6:[fd00::15]:9", "UDP4:127.0.0.1:9", "UDP4:10.0.2.15:9"] {
        let said = env.ask(&["exec", "echo", "--", "sh", "-c", &say(to)])?;
        ensure!(said == format!("to {to}\n"), "{said} {}", server.stderr());
    }
    ensure!(server.running());
    server.stop()?;
    Ok(())
}

/// Another implementation's handshake, recovery and flow control, over a link that loses: from outside, from beside, and
/// from the gateway; by either family.
fn quic_python(env: &Env) -> Result<()> {
    let here = env.file("aioquic");
    let copied = std::process::Command::new("cp").arg("-r").arg(quic()).arg(&here).status()?;
    ensure!(copied.success(), "{here}");
    let (port, script, path) = (free_port()?.to_string(), env.program("quic.py"), format!("PYTHONPATH={here}"));
    let publish = format!("{port}:4433/udp");
    let python = ["env", &path, "PYTHONDONTWRITEBYTECODE=1", "python3", &script];
    let args = ["--name", "quic", "-p", &publish, "--delay", "3ms", "--loss", "1%"];
    let mut server = env.run(&args, &[&python[..], &["serve"]].concat())?;
    let serves = || server.stdout().contains("serving").then_some(());
    ensure!(until(30, serves).is_some(), "{}", server.stderr());
    let mut c = env.user(python[0]);
    c.args(&python[1..]).args(["ask", "127.0.0.1", &port, "100000"]);
    let out = env.finish(c, 70)?;
    ensure!(out.stdout == "right\n", "{out:?} {}", server.stderr());
    for (jar, at) in [("quic", "::1"), ("quic/gw", "10.0.2.15"), ("quic/gw", "fd00::15")] {
        let words = [&["exec", jar, "--"][..], &python, &["ask", at, "4433", "100000"]].concat();
        let out = env.finish(env.belljar(&words), 70)?;
        ensure!(out.stdout == "right\n", "{at}: {out:?} {}", server.stderr());
    }
    ensure!(server.running());
    server.stop()?;
    Ok(())
}

/// iperf3 counts for itself what was sent and what came.
fn iperf3(env: &Env) -> Result<()> {
    let port = free_port()?.to_string();
    let publish = [format!("{port}:5201"), format!("{port}:5201/udp")];
    let mut server = env.run(&["-p", &publish[0], "-p", &publish[1]], &["iperf3", "-s", "--forceflush"])?;
    server.says("listening", 20)?;
    for how in [&["-b", "4M"][..], &["-b", "4M", "-R"], &["-b", "4M", "-l", "1200"]] {
        let mut c = env.user("iperf3");
        c.args(["-c", "127.0.0.1", "-p", &port, "-u", "-n", "200K", "-J"]).args(how);
        let out = env.finish(c, 60)?;
        ensure!(out.code == Some(0), "{how:?}: {out:?}");
        let of = |name: &str| -> Option<f64> {
            let sum = out.stdout.split("\"sum\":").last()?.split(&format!("\"{name}\":")).nth(1)?;
            sum.split([',', '}']).next()?.trim().parse().ok()
        };
        let (sent, lost) = (of("packets").unwrap_or(0.0), of("lost_packets").unwrap_or(-1.0));
        // What a slow machine loses at its receivers is for them to say; that most comes is for us.
        ensure!(sent > 0.0 && (0.0..sent / 2.0).contains(&lost), "{how:?}: {sent} sent, {lost} lost: {out:?}");
    }
    server.stop()?;
    Ok(())
}

/// A responder and an asker of mDNS on one host, in both families.
fn mdns_pair(env: &Env) -> Result<()> {
    let script = env.program("mdns.py");
    let both = format!("python3 {script} answer & python3 {script} ask; kill $!");
    let out = env.run(&[], &["sh", "-c", &both])?.wait(30)?;
    let want = "4 box.local 10.0.2.15\n6 box.local 10.0.2.15\n4 by unicast box.local\n6 by unicast box.local\n";
    ensure!(out.code == Some(0) && out.stdout == want, "{out:?}");
    Ok(())
}

/// Groups that one side joins and leaves while the other sends, belljar and this machine's kernel in turn; and the reports
/// that are on the wire meanwhile.
fn groups(env: &Env) -> Result<()> {
    let (belljar, program) = (env.belljar_path(), env.program("groups.py"));
    let out = env.finish(env.in_own_network(&env.program("groups.sh"), &[&belljar, &program]), 50)?;
    let want = "jar in 2\njar in 0\nhost in 2\nhost in 0\n\
        ready\n- -\ndone\nduring during\ndone\n- -\ndone\ndone\ndone\nequal\n";
    ensure!(out.code == Some(0) && out.stdout == want, "{out:?}");
    Ok(())
}

/// A server of both families, of one, behind a network that swallows one, refuses one or has no way to it: errno, order and
/// seconds of each attempt are those of this machine's kernel.
fn eyeballs(env: &Env) -> Result<()> {
    let (belljar, program) = (env.belljar_path(), env.program("eyeballs.py"));
    let out = env.finish(env.in_own_network(&env.program("eyeballs.sh"), &[&belljar, &program]), 110)?;
    ensure!(out.code == Some(0) && out.stdout.ends_with("equal\n"), "{out:?}");
    Ok(())
}
