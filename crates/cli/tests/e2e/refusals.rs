//! Bad input and bad moments: one clear sentence, the right exit code, nothing left behind.

use crate::harness::{Env, Test, free_port, test, until};
use anyhow::{Result, ensure};

pub fn tests() -> Vec<Test> {
    vec![
        test("bad_options", &[], bad_options),
        test("exit_codes", &[], exit_codes),
        test("locked_path", &[], locked_path),
        test("busy_port", &["python3"], busy_port),
        test("name_taken", &["python3"], name_taken),
        test("unwritable_capture", &[], unwritable_capture),
        test("a_failed_start_takes_no_files", &[], a_failed_start_takes_no_files),
        test("files_can_be_read_along", &["python3"], files_can_be_read_along),
        test("limits_of_the_machine", &["python3"], limits_of_the_machine),
        test("listener_present", &[], listener_present),
        test("no_seccomp_notify", &["python3"], no_seccomp_notify),
        test("supervisor_killed", &["python3"], supervisor_killed),
        test("interrupts", &["python3"], interrupts),
    ]
}

/// One sentence (clap adds a hint or two), no backtrace, no Rust.
fn clear(stderr: &str) -> bool {
    let lines = stderr.lines().filter(|l| !l.trim().is_empty()).count();
    let rusty = ["panicked", "unwrap", "RUST_BACKTRACE", "Os {", "Err(", "Some("];
    (1..=6).contains(&lines) && !rusty.iter().any(|r| stderr.contains(r))
}

fn refused(env: &Env, args: &[&str], codes: &[i32], words: &[&str]) -> Result<()> {
    let out = env.finish(env.belljar(args), 10)?;
    ensure!(
        out.code.is_some_and(|c| codes.contains(&c)),
        "{args:?}: exit code {:?}, not {codes:?}: {}",
        out.code,
        out.stderr
    );
    ensure!(clear(&out.stderr) && out.stdout.is_empty(), "{args:?}: not one clear sentence: {out:?}");
    for word in words {
        ensure!(out.stderr.contains(word), "{args:?}: {word:?} is not in {}", out.stderr);
    }
    Ok(())
}

fn bad_options(env: &Env) -> Result<()> {
    for (args, words) in [
        (&["--sysctl", "net.core.somaxcon=4"][..], &["net.core.somaxcon", "net.core.somaxconn"][..]),
        (&["--sysctl", "net.ipv6.conf.all.acept_ra=1"], &["did you mean net.ipv6.conf.all.accept_ra?"]),
        (&["--sysctl", "net.core.somaxconn=-1"], &["net.core.somaxconn"]),
        (&["--sysctl", "net.core.somaxconn=many"], &["net.core.somaxconn", "many"]),
        (&["--sysctl", "net.core.somaxconn"], &["net.core.somaxconn"]),
        (&["-p", "eighty:80"], &["eighty:80"]),
        (&["-p", "8080"], &["8080"]),
        (&["-p", "8080:70000"], &["70000"]),
        (&["-p", "8080:80/sctp"], &["sctp"]),
        (&["--loss", "5%%"], &["5%%"]),
        (&["--loss", "150%"], &["150%"]),
        (&["--rate", "fast"], &["fast"]),
        (&["--rate", "0mbit"], &["0mbit"]),
        (&["--delay", "soon"], &["soon"]),
        (&["--ip", "10.0.2.300/24"], &["10.0.2.300/24"]),
        (&["--mtu", "12"], &["12"]),
        (&["--net", "wide"], &["wide"]),
        (&["--frobnicate"], &["--frobnicate"]),
    ] {
        let all = [&["run"], args, &["--", "true"]].concat();
        refused(env, &all, &[2], words)?;
    }
    refused(env, &["run"], &[2], &[])?;
    let of_device = ["run", "--sysctl", "net.ipv4.conf.eth7.rp_filter=1", "--", "true"];
    refused(env, &of_device, &[2], &["no device 'eth7'"])?;
    refused(env, &["ss", "nosuchjar"], &[1, 125], &["nosuchjar"])?;
    refused(env, &["exec", "nosuchjar", "--", "true"], &[125], &["nosuchjar"])?;
    refused(env, &["fly"], &[2], &["fly"])
}

fn exit_codes(env: &Env) -> Result<()> {
    refused(env, &["run", "--", "no-such-program-here"], &[127], &["no-such-program-here"])?;
    let plain = env.write("plain", b"not a program\n")?;
    refused(env, &["run", "--", &plain], &[126], &["plain"])?;
    refused(env, &["run", "--", "/"], &[126], &["/"])?;
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)] {
        let out = env.run(&[], &["sh", "-c", script])?.wait(10)?;
        ensure!(out.code == Some(code), "{script:?}: {out:?}");
        ensure!(out.stderr.is_empty(), "nothing happened, so nothing is said: {out:?}");
    }
    Ok(())
}

/// A directory of PATH that may not be entered hides nothing, also behind a filter that asks about paths.
fn locked_path(env: &Env) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let locked = env.dir.join("locked");
    std::fs::create_dir(&locked)?;
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o000))?;
    let path = format!("{}:/usr/bin:/bin", locked.display());
    for (program, code) in [("true", 0), ("no-such-program-here", 127)] {
        let mut c = env.belljar(&["run", "--with-proc", "--", program]);
        c.env("PATH", &path);
        let out = env.finish(c, 20)?;
        ensure!(out.code == Some(code), "{program}: {out:?}");
    }
    std::fs::remove_dir(&locked)?;
    Ok(())
}

fn busy_port(env: &Env) -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let publish = format!("{port}:80");
    refused(env, &["run", "-p", &publish, "--", "true"], &[125], &[&port])
}

fn name_taken(env: &Env) -> Result<()> {
    let mut first =
        env.run(&["--name", "twin"], &["python3", "-c", "print('up', flush=True); import time; time.sleep(60)"])?;
    first.says("up", 20)?;
    refused(env, &["run", "--name", "twin", "--", "true"], &[125], &["twin"])?;
    ensure!(first.running(), "the first one ended: {}", first.stderr());
    let ps = env.ask(&["ps"])?;
    ensure!(ps.lines().filter(|l| l.contains("twin")).count() == 1, "{ps}");
    first.stop()?;
    // The name is free again at once.
    let out = env.run(&["--name", "twin"], &["true"])?.wait(10)?;
    ensure!(out.code == Some(0), "{out:?}");
    Ok(())
}

fn unwritable_capture(env: &Env) -> Result<()> {
    let path = env.file("no/such/place/c.pcapng");
    refused(env, &["run", "--pcap", &path, "--", "true"], &[125], &["c.pcapng"])?;
    let path = env.file("no/such/place/t.jsonl");
    refused(env, &["run", "--trace", &path, "--", "true"], &[125], &["t.jsonl"])?;
    let path = env.file("no/such/place/r.html");
    refused(env, &["run", "--report", &path, "--", "true"], &[125], &["r.html: cannot be written"])?;
    let dir = env.file(".");
    refused(env, &["run", "--report", &dir, "--", "true"], &[125], &["cannot be written"])
}

fn a_failed_start_takes_no_files(env: &Env) -> Result<()> {
    let old = env.write("old.pcapng", b"precious")?;
    let new = env.file("new.jsonl");
    let script = env.write("script", b"#!/no/such/interpreter\n")?;
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    for (program, code, word) in
        [("no-such-program", 127, "no such program"), (script.as_str(), 127, "/no/such/interpreter does not exist")]
    {
        refused(env, &["run", "--pcap", &old, "--trace", &new, "--", program], &[code], &[word])?;
        ensure!(std::fs::read(&old)? == b"precious", "{program} emptied the old file");
        ensure!(!std::path::Path::new(&new).exists(), "{program} left a new file");
    }
    refused(env, &["run", "--pcap", &new, "--trace", &new, "--", "true"], &[2], &["a file each"])?;
    refused(env, &["run", "--pcap", "-", "--", "true"], &[2], &["belljar tcpdump"])?;
    ensure!(!std::path::Path::new(&new).exists(), "a refused run left a file");
    Ok(())
}

/// Who reads a capture while it grows, or after the supervisor was killed, finds what happened until a moment ago.
fn files_can_be_read_along(env: &Env) -> Result<()> {
    let (pcap, trace) = (env.write("a.pcapng", &[b'x'; 100_000])?, env.file("a.jsonl"));
    let program = "import socket, time; s = socket.socket(2, 2); s.bind(('127.0.0.1', 5)); s.connect(('127.0.0.1', 5))\n\
                   s.send(b'hello'); print('sent', flush=True); time.sleep(60)";
    let mut run = env.run(&["--net", "none", "--pcap", &pcap, "--trace", &trace], &["python3", "-c", program])?;
    run.says("sent", 20)?;
    let grown = || {
        let (p, t) = (std::fs::read(&pcap).ok()?, std::fs::read_to_string(&trace).ok()?);
        (p.windows(5).any(|w| w == b"hello") && p.len() < 100_000 && t.contains("udp_rcv")).then_some(())
    };
    ensure!(until(10, grown).is_some(), "nothing is in the files: {:?}", std::fs::read_to_string(&trace));
    run.stop()?;
    Ok(())
}

/// Programs are root as in a user namespace: what the machine has too few of is too few for them.
fn limits_of_the_machine(env: &Env) -> Result<()> {
    let program = "import errno, resource, socket\n\
        held = []\n\
        try:\n    while len(held) < 100: held.append(socket.socket())\n\
        except OSError as e: print(len(held), errno.errorcode[e.errno])\n\
        for most in (64, 65):\n    try: print(resource.setrlimit(resource.RLIMIT_NOFILE, (40, most)))\n    except ValueError as e: print(e)\n";
    let settings = ["--net", "none", "--sysctl", "fs.file-max=20", "--sysctl", "fs.nr_open=64"];
    let out = env.run(&settings, &["python3", "-c", program])?.wait(20)?;
    ensure!(out.stdout == "19 ENFILE\nNone\nnot allowed to raise maximum limit\n", "{out:?}");
    Ok(())
}

/// A jar in a jar would need two listeners; the kernel allows one. Refused, never half outside.
fn listener_present(env: &Env) -> Result<()> {
    let binary = env.program("belljar");
    let out = env.run(&["--name", "outer"], &[&binary, "run", "--name", "inner", "--", "true"])?.wait(10)?;
    ensure!(out.code == Some(125) && clear(&out.stderr) && out.stderr.contains("seccomp"), "{out:?}");
    Ok(())
}

/// A kernel without the mechanism, played by a filter that answers ENOSYS.
fn no_seccomp_notify(env: &Env) -> Result<()> {
    let mut c = env.user("python3");
    c.args([&env.program("without_notify.py"), &env.program("belljar"), "run", "--", "true"]);
    let out = env.finish(c, 10)?;
    ensure!(out.code == Some(125) && clear(&out.stderr) && out.stderr.contains("seccomp"), "{out:?}");
    Ok(())
}

/// kill -9 of the supervisor: its program does not go on outside, and the next command cleans up.
fn supervisor_killed(env: &Env) -> Result<()> {
    let port = free_port()?;
    let publish = format!("{port}:80");
    let mut server = env.run(&["--name", "dead", "-p", &publish], &["python3", "-m", "http.server", "80"])?;
    crate::http::ready(&mut server, port)?;
    // Under setpriv the pid is the supervisor's own: it execs.
    server.signal("KILL");
    ensure!(until(5, || env.processes().is_empty().then_some(())).is_some(), "programs went on: {:?}", env.processes());
    let ps = env.ask(&["ps"])?;
    ensure!(!ps.contains("dead"), "{ps}");
    let out = env.run(&["--name", "dead", "-p", &publish], &["true"])?.wait(10)?;
    ensure!(out.code == Some(0), "name and port are free again: {out:?}");
    Ok(())
}

/// The first SIGINT goes to the program, which may take its time; the second ends it.
fn interrupts(env: &Env) -> Result<()> {
    let stubborn = "import signal, time\nsignal.signal(signal.SIGINT, lambda *a: print('asked', flush=True))\nprint('up', flush=True)\nwhile True: time.sleep(1)";
    let mut p = env.run(&[], &["python3", "-c", stubborn])?;
    p.says("up", 20)?;
    p.signal("INT");
    p.says("asked", 5)?;
    ensure!(p.running(), "the first one must not end it");
    p.signal("INT");
    let out = p.wait(5)?;
    ensure!(out.code == Some(137) || out.code == Some(130), "{out:?}");
    Ok(())
}
