//! HTTP servers of several kinds behind `-p`, asked by curl, wrk and a plain socket: zero failed requests, files
//! byte-identical, reload and quit as administrators do them.

use crate::harness::{Env, Proc, Test, free_port, test, until};
use anyhow::{Context, Result, bail, ensure};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub fn tests() -> Vec<Test> {
    vec![
        test("http_server_and_curl", &["python3", "curl"], http_server_and_curl),
        test("http_large_file", &["python3", "curl"], http_large_file).limit(240),
        test("echo_both_ways", &["python3"], echo_both_ways).limit(240),
        test("nginx_reload_and_quit", &["nginx"], nginx_reload_and_quit),
        test("nginx_daemon_with_linger", &["nginx"], nginx_daemon_with_linger),
        test("nginx_worker_killed", &["nginx", "wrk"], nginx_worker_killed),
        test("nginx_wrk", &["nginx", "wrk"], nginx_wrk),
        test("nginx_wrk_short_connections", &["nginx", "wrk"], nginx_wrk_close),
        test("curl_outward", &["python3", "curl"], curl_outward),
        test("go_static_server", &["go", "wrk"], go_static_server).limit(240),
        test("node_server", &["node"], node_server),
        test("java_server", &["java", "javac"], java_server),
    ]
}

/// One request on a connection of its own; (status, body).
pub fn get(port: u16, path: &str) -> Result<(u16, Vec<u8>)> {
    let mut s = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    s.set_read_timeout(Some(Duration::from_secs(20)))?;
    s.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut all = Vec::new();
    s.read_to_end(&mut all)?;
    let at = all.windows(4).position(|w| w == b"\r\n\r\n").context("no end of headers")?;
    let head = String::from_utf8_lossy(all.get(..at).unwrap_or_default()).into_owned();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).with_context(|| format!("status in {head:?}"))?;
    let body = all.split_off(at + 4);
    Ok((status, body))
}

/// Until the server behind the port answers.
pub fn ready(server: &mut Proc, port: u16) -> Result<()> {
    let answer = until(20, || match (get(port, "/"), server.running()) {
        (Ok((200, _)), _) => Some(Ok(())),
        (_, false) => Some(Err(())),
        _ => None,
    });
    match answer {
        Some(Ok(())) => Ok(()),
        _ => bail!("no answer on port {port}: {:?} {:?} {:?}", get(port, "/"), server.stdout(), server.stderr()),
    }
}

/// Bytes that compress badly and repeat nowhere.
pub fn noise(len: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend_from_slice(&x.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// An address of this machine that is not loopback, to reach the host from inside a jar.
pub fn own_address() -> Result<Ipv4Addr> {
    let s = UdpSocket::bind("0.0.0.0:0")?;
    s.connect("198.51.100.1:9").context("this machine has no route to anywhere")?;
    match s.local_addr()?.ip() {
        std::net::IpAddr::V4(ip) => Ok(ip),
        other => bail!("{other} is not IPv4"),
    }
}

fn python_server(env: &Env, extra: &[&str]) -> Result<(Proc, u16)> {
    let port = free_port()?;
    let publish = format!("{port}:80");
    let mut args = vec!["-p", publish.as_str()];
    args.extend(extra);
    let mut server = env.run(&args, &["python3", "-m", "http.server", "80", "--directory", &env.file("www")])?;
    ready(&mut server, port)?;
    Ok((server, port))
}

fn www(env: &Env, name: &str, data: &[u8]) -> Result<()> {
    std::fs::create_dir_all(env.dir.join("www"))?;
    env.write(&format!("www/{name}"), data)?;
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::set_permissions(env.dir.join("www"), std::fs::Permissions::from_mode(0o755))?)
}

fn http_server_and_curl(env: &Env) -> Result<()> {
    www(env, "index.html", b"under glass\n")?;
    let (server, port) = python_server(env, &[])?;
    let url = format!("http://localhost:{port}/");
    for n in 0..50 {
        let mut curl = env.user("curl");
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "20", &url]);
        let out = env.finish(curl, 30)?;
        ensure!(out.code == Some(0) && out.stdout == "under glass\n", "request {n}: {out:?}");
    }
    let out = server.stop()?;
    ensure!(!out.stderr.contains("panicked"), "{out:?}");
    Ok(())
}

/// A file of 128 MB (8 MB in the short version) downloaded by curl, compared by sha256 and by byte.
fn http_large_file(env: &Env) -> Result<()> {
    let data = noise(if env.full { 128 << 20 } else { 8 << 20 });
    www(env, "big", &data)?;
    www(env, "index.html", b"ok")?;
    let (_server, port) = python_server(env, &[])?;
    fetch_and_compare(env, port, 200)
}

pub fn fetch_and_compare(env: &Env, port: u16, limit_s: u64) -> Result<()> {
    let mut curl = env.user("curl");
    curl.args(["--silent", "--show-error", "--fail", "-o", "got", &format!("http://127.0.0.1:{port}/big")]);
    let out = env.finish(curl, limit_s)?;
    ensure!(out.code == Some(0), "{out:?}");
    let mut sums = env.user("sha256sum");
    sums.args(["www/big", "got"]);
    let out = env.finish(sums, 60)?;
    let hashes: Vec<&str> = out.stdout.lines().filter_map(|l| l.split(' ').next()).collect();
    ensure!(matches!(hashes.as_slice(), [a, b] if a == b && a.len() == 64), "{out:?}");
    Ok(std::fs::remove_file(env.dir.join("got"))?)
}

/// Both directions at once on one connection, ended by a half-close.
fn echo_both_ways(env: &Env) -> Result<()> {
    let port = free_port()?;
    let mut server = env.run(&["-p", &format!("{port}:7")], &["python3", &env.program("bytes.py"), "echo", "7"])?;
    server.says("listening", 20)?;
    echo(port, noise(if env.full { 100 << 20 } else { 8 << 20 }))?;
    Ok(())
}

/// Sends everything, closes its half, and wants every byte back and then the end.
pub fn echo(port: u16, data: Vec<u8>) -> Result<()> {
    let s = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    s.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut writer = s.try_clone()?;
    let sent = data.clone();
    let thread = std::thread::spawn(move || -> std::io::Result<()> {
        writer.write_all(&sent)?;
        writer.shutdown(std::net::Shutdown::Write)
    });
    let mut back = Vec::with_capacity(data.len());
    (&s).read_to_end(&mut back).with_context(|| format!("after {} of {} bytes", back.len(), data.len()))?;
    thread.join().ok().context("writer")??;
    ensure!(back.len() == data.len(), "{} bytes came back of {}", back.len(), data.len());
    let differs = back.iter().zip(&data).position(|(a, b)| a != b);
    ensure!(differs.is_none(), "differs from byte {differs:?} on");
    Ok(())
}

/// A configuration that an ordinary user can run; `daemon` on or off.
pub fn nginx_conf(env: &Env, daemon: &str) -> Result<String> {
    www(env, "index.html", b"under glass\n")?;
    let d = env.dir.display();
    let temps: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|t| format!("{t}_temp_path {d}/{t};\n"))
        .collect();
    let text = format!(
        "daemon {daemon};\nworker_processes 2;\npid {d}/nginx.pid;\nerror_log {d}/error.log;\n\
         events {{ worker_connections 1024; }}\nhttp {{\naccess_log off;\nkeepalive_requests 1000000;\n{temps}\
         server {{ listen 80; location / {{ root {d}/www; }} }}\n}}\n"
    );
    env.write("nginx.conf", text.as_bytes())
}

fn nginx(env: &Env, args: &[&str], daemon: &str) -> Result<(Proc, u16)> {
    let (port, conf) = (free_port()?, nginx_conf(env, daemon)?);
    let publish = format!("{port}:80");
    let mut all = vec!["-p", publish.as_str()];
    all.extend(args);
    let mut server = env.run(&all, &["nginx", "-e", &env.file("error.log"), "-c", &conf])?;
    ready(&mut server, port)?;
    Ok((server, port))
}

fn master(env: &Env) -> Result<u32> {
    let text = std::fs::read_to_string(env.dir.join("nginx.pid")).context("nginx.pid")?;
    Ok(text.trim().parse()?)
}

fn workers(env: &Env) -> Vec<u32> {
    env.processes()
        .into_iter()
        .filter(|(_, c)| c.contains("nginx: worker process") && !c.contains("shutting"))
        .map(|p| p.0)
        .collect()
}

/// Requests without a pause while the master reloads three times; none may fail; QUIT ends all with 0.
fn nginx_reload_and_quit(env: &Env) -> Result<()> {
    let (mut server, port) = nginx(env, &[], "off")?;
    ensure!(until(5, || (workers(env).len() == 2).then_some(())).is_some(), "workers: {:?}", env.processes());
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| -> Result<()> {
        let load = scope.spawn(|| -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                let (status, body) =
                    get(port, "/").with_context(|| format!("after {} requests", count.load(Ordering::Relaxed)))?;
                ensure!(status == 200 && body == b"under glass\n", "status {status}");
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let reloads = || -> Result<()> {
            for n in 0..3 {
                let before = workers(env);
                Env::kill(master(env)?, "HUP");
                let fresh = || {
                    let now = workers(env);
                    (now.len() == 2 && now.iter().all(|p| !before.contains(p))).then_some(())
                };
                ensure!(until(10, fresh).is_some(), "reload {n}: {:?}", env.processes());
                std::thread::sleep(Duration::from_millis(300));
            }
            Ok(())
        };
        let result = reloads();
        stop.store(true, Ordering::Relaxed);
        load.join().ok().context("load")??;
        result
    })?;
    ensure!(count.load(Ordering::Relaxed) > 20, "only {count:?} requests");
    ensure!(server.running(), "{}", server.stderr());
    Env::kill(master(env)?, "QUIT");
    let out = server.wait(10)?;
    ensure!(out.code == Some(0), "{out:?}");
    Ok(())
}

fn nginx_daemon_with_linger(env: &Env) -> Result<()> {
    let (mut server, port) = nginx(env, &["--linger"], "on")?;
    std::thread::sleep(Duration::from_millis(500));
    ensure!(server.running(), "the jar ended with the program that forked: {}", server.stderr());
    for _ in 0..20 {
        ensure!(get(port, "/")?.0 == 200, "status");
    }
    Env::kill(master(env)?, "QUIT");
    let out = server.wait(10)?;
    ensure!(out.code == Some(0), "{out:?}");
    Ok(())
}

fn wrk(env: &Env, port: u16, seconds: u64, extra: &[&str]) -> Result<String> {
    let mut wrk = env.user("wrk");
    wrk.args(["-t", "2", "-c", "100", "-d", &format!("{seconds}s"), "--timeout", "20s"]).args(extra);
    wrk.arg(format!("http://127.0.0.1:{port}/"));
    let out = env.finish(wrk, seconds + 30)?;
    ensure!(out.code == Some(0) && out.stdout.contains(" requests in "), "{out:?}");
    Ok(out.stdout)
}

fn no_errors(text: &str) -> Result<()> {
    ensure!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "{text}");
    ensure!(!text.contains("\n  0 requests in"), "{text}");
    Ok(())
}

fn nginx_wrk(env: &Env) -> Result<()> {
    let (mut server, port) = nginx(env, &[], "off")?;
    no_errors(&wrk(env, port, if env.full { 30 } else { 3 }, &[])?)?;
    ensure!(server.running(), "{}", server.stderr());
    Ok(())
}

fn nginx_wrk_close(env: &Env) -> Result<()> {
    let (mut server, port) = nginx(env, &[], "off")?;
    // A server that closes first is what wrk reports as read errors when bytes are missing only.
    let text = wrk(env, port, if env.full { 10 } else { 3 }, &["-H", "Connection: close"])?;
    no_errors(&text)?;
    ensure!(server.running(), "{}", server.stderr());
    Ok(())
}

/// kill -9 of a worker under load: its peers lose their connections, everything else goes on.
fn nginx_worker_killed(env: &Env) -> Result<()> {
    let (mut server, port) = nginx(env, &[], "off")?;
    std::thread::scope(|scope| -> Result<()> {
        let load = scope.spawn(|| wrk(env, port, 4, &[]));
        std::thread::sleep(Duration::from_secs(1));
        let victim = workers(env).first().copied().context("no worker")?;
        Env::kill(victim, "KILL");
        load.join().ok().context("wrk")??;
        Ok(())
    })?;
    ensure!(server.running(), "{}", server.stderr());
    ensure!(until(5, || (workers(env).len() == 2).then_some(())).is_some(), "the master did not replace it");
    for _ in 0..50 {
        ensure!(get(port, "/")?.0 == 200, "status");
    }
    Ok(())
}

/// From inside a jar to a server on the host, by its address; and a port where nobody listens.
fn curl_outward(env: &Env) -> Result<()> {
    let data = noise(4 << 20);
    www(env, "big", &data)?;
    www(env, "index.html", b"ok")?;
    let (port, host) = (free_port()?, own_address()?);
    let mut python = env.user("python3");
    python.args(["-m", "http.server", &port.to_string(), "--directory", &env.file("www")]);
    let mut server = env.start(python)?;
    ready(&mut server, port)?;
    let url = format!("http://{host}:{port}/big");
    let out = env.run(&[], &["curl", "--silent", "--show-error", "--fail", "-o", "got", &url])?.wait(40)?;
    ensure!(out.code == Some(0), "{out:?}");
    ensure!(std::fs::read(env.dir.join("got"))? == data, "the file differs");
    let nobody = format!("http://{host}:{}/", free_port()?);
    let out = env.run(&[], &["curl", "--silent", "--show-error", &nobody])?.wait(20)?;
    ensure!(out.code == Some(7), "refused is curl's 7: {out:?}");
    Ok(())
}

/// Static, no libc: what no preload library can reach.
fn go_static_server(env: &Env) -> Result<()> {
    let binary = build_go(env, "hello.go")?;
    let port = free_port()?;
    let mut server = env.run(&["-p", &format!("{port}:8080")], &[&binary, ":8080"])?;
    ready(&mut server, port)?;
    no_errors(&wrk(env, port, if env.full { 10 } else { 3 }, &[])?)?;
    ensure!(get(port, "/")?.1 == b"hello from go\n", "body");
    ensure!(server.running(), "{}", server.stderr());
    Ok(())
}

pub fn build_go(env: &Env, source: &str) -> Result<String> {
    let binary = env.file(source.trim_end_matches(".go"));
    let mut go = env.user("go");
    go.args(["build", "-o", &binary, &env.program(source)]);
    go.env("CGO_ENABLED", "0").env("GO111MODULE", "off").env("GOCACHE", &env.shared).env("GOFLAGS", "-p=2");
    let out = env.finish(go, 200)?;
    ensure!(out.code == Some(0), "go build: {out:?}");
    Ok(binary)
}

fn node_server(env: &Env) -> Result<()> {
    let port = free_port()?;
    let mut server = env.run(&["-p", &format!("{port}:3000")], &["node", &env.program("hello.js")])?;
    ready(&mut server, port)?;
    for _ in 0..100 {
        ensure!(get(port, "/")?.1 == b"hello from node\n", "body");
    }
    Ok(())
}

/// Java's sockets are AF_INET6 and dual-stack unless told otherwise.
fn java_server(env: &Env) -> Result<()> {
    let port = free_port()?;
    let mut server = env.run(&["-p", &format!("{port}:3000")], &["java", "-Xmx128m", &env.program("Hello.java")])?;
    server.says("listening", 60)?;
    ready(&mut server, port)?;
    for _ in 0..100 {
        ensure!(get(port, "/")?.1 == b"hello from java\n", "body");
    }
    Ok(())
}
