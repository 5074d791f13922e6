//! The rows with programs: the same shell line on the host and under `belljar run`, or the same server published by
//! `-p`, by slirp4netns, and on the host itself.

use anyhow::{Context, Result, bail, ensure};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub const ROWS: &[&str] = &[
    "run_start_ms",
    "run_http_keepalive",
    "run_http_close",
    "run_redis",
    "run_redis_p16",
    "run_iperf3",
    "publish_bulk",
    "publish_conn",
    "publish_conn_10s",
];

/// The release binary of the workspace beside us, or the one BELLJAR_BIN names.
fn binary() -> PathBuf {
    std::env::var_os("BELLJAR_BIN").map_or_else(|| target().join("release/belljar"), PathBuf::from)
}

fn target() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    std::env::var_os("CARGO_TARGET_DIR").map_or(own, PathBuf::from)
}

pub fn build() -> Result<()> {
    if std::env::var_os("BELLJAR_BIN").is_some() {
        return Ok(());
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let mut c = Command::new("cargo");
    c.args(["build", "--release", "--quiet", "--package", "belljar", "--manifest-path"]).arg(manifest);
    ensure!(c.status()?.success(), "cargo build of the belljar binary failed");
    Ok(())
}

pub fn sample(name: &str, side: &str) -> Result<f64> {
    let dir = Dir::new()?;
    match name {
        "run_start_ms" => start_ms(side),
        "run_http_keepalive" => http(&dir, side, ""),
        "run_http_close" => http(&dir, side, "-H 'Connection: close'"),
        "run_redis" => redis(&dir, side, "-n 100000"),
        "run_redis_p16" => redis(&dir, side, "-n 500000 -P 16"),
        "run_iperf3" => iperf(&dir, side),
        "publish_bulk" => publish_bulk(&dir, side),
        "publish_conn" => publish_conn(&dir, side, 2),
        "publish_conn_10s" => publish_conn(&dir, side, 10),
        _ => bail!("no such row"),
    }
}

/// A directory that goes away.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Result<Dir> {
        let path = std::env::temp_dir().join(format!("belljar-bench-{}", std::process::id()));
        std::fs::create_dir_all(path.join("www"))?;
        std::fs::write(path.join("www/index.html"), "under glass\n")?;
        // Root's nginx workers are somebody else; they must be able to read it.
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(Dir(path))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `sh -c script` on this side, in the directory; its stdout.
fn shell(dir: &Dir, side: &str, script: &str) -> Result<String> {
    let mut c = match side {
        "belljar" => {
            let mut c = Command::new(binary());
            c.args(["run", "--", "sh", "-c", script]);
            c
        }
        _ => {
            let mut c = Command::new("sh");
            c.args(["-c", script]);
            c
        }
    };
    let out = c.current_dir(&dir.0).stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    ensure!(out.status.success(), "{}: {text} {}", out.status, String::from_utf8_lossy(&out.stderr));
    Ok(text)
}

/// From before the supervisor starts to the program's own first look at the clock.
fn start_ms(side: &str) -> Result<f64> {
    let words: &[&str] = &["date", "+%s%N"];
    let mut times = Vec::new();
    for _ in 0..10 {
        let mut c = match side {
            "belljar" => {
                let mut c = Command::new(binary());
                c.args(["run", "--"]).args(words);
                c
            }
            _ => {
                let mut c = Command::new("date");
                c.arg("+%s%N");
                c
            }
        };
        let t0 = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        let out = c.output()?;
        let t1: u128 = String::from_utf8_lossy(&out.stdout).trim().parse().with_context(|| format!("{out:?}"))?;
        times.push(t1.saturating_sub(t0) as f64 / 1e6);
    }
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().context("no times")
}

fn nginx_conf(dir: &Dir, listen: &str) -> Result<()> {
    let d = dir.0.display();
    let temps: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|t| format!("{t}_temp_path {d}/{t};\n"))
        .collect();
    let text = format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid {d}/nginx.pid;\nerror_log {d}/error.log;\n\
         events {{ worker_connections 1024; }}\nhttp {{\naccess_log off;\nkeepalive_requests 100000000;\n{temps}\
         server {{ listen {listen}; location / {{ root {d}/www; }} }}\n}}\n"
    );
    Ok(std::fs::write(dir.0.join("nginx.conf"), text)?)
}

const NGINX: &str = "nginx -e $PWD/error.log -c $PWD/nginx.conf";

/// nginx with one worker and wrk with one thread, side by side in the same network.
fn http(dir: &Dir, side: &str, extra: &str) -> Result<f64> {
    let port = free_port()?;
    nginx_conf(dir, &format!("127.0.0.1:{port}"))?;
    let text = shell(
        dir,
        side,
        &format!(
            "{NGINX} & sleep 0.4; wrk -t1 -c16 -d2s {extra} http://127.0.0.1:{port}/; kill -QUIT $(cat nginx.pid); wait"
        ),
    )?;
    requests_per_second(&text)
}

fn requests_per_second(text: &str) -> Result<f64> {
    ensure!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "failed requests: {text}");
    rate(text)
}

fn rate(text: &str) -> Result<f64> {
    let line = text.lines().find_map(|l| l.trim().strip_prefix("Requests/sec:")).with_context(|| text.to_owned())?;
    Ok(line.trim().parse()?)
}

fn redis(dir: &Dir, side: &str, extra: &str) -> Result<f64> {
    let port = free_port()?;
    let script = format!(
        "redis-server --port {port} --save '' --bind 127.0.0.1 >redis.log & sleep 0.4; \
         redis-benchmark -p {port} -c 50 -t get {extra} --csv; redis-cli -p {port} shutdown nosave; wait"
    );
    let text = shell(dir, side, &script)?;
    let line = text.lines().find_map(|l| l.strip_prefix("\"GET\",\"")).with_context(|| text.clone())?;
    Ok(line.split('"').next().unwrap_or_default().parse()?)
}

fn iperf(dir: &Dir, side: &str) -> Result<f64> {
    let port = free_port()?;
    let script = format!("iperf3 -s -1 -p {port} >server.log & sleep 0.4; iperf3 -c 127.0.0.1 -p {port} -t 2 -J; wait");
    gigabits(&shell(dir, side, &script)?)
}

fn gigabits(text: &str) -> Result<f64> {
    let v: serde_json::Value = serde_json::from_str(text).with_context(|| text.to_owned())?;
    let bits = v.pointer("/end/sum_received/bits_per_second").and_then(serde_json::Value::as_f64);
    Ok(bits.with_context(|| text.to_owned())? / 1e9)
}

/// A server reachable on a host port by one of three ways, ended when dropped.
struct Published {
    port: u16,
    children: Vec<Child>,
}

impl Drop for Published {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let end = Instant::now() + Duration::from_secs(3);
            while Instant::now() < end && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts `server` (a shell line that listens on `inner`) behind the host's `port`.
fn publish(dir: &Dir, side: &str, port: u16, inner: u16, server: &str) -> Result<Published> {
    let quiet =
        |mut c: Command| c.current_dir(&dir.0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let server = format!("exec {server}");
    let mut p = Published { port, children: Vec::new() };
    match side {
        "belljar" => {
            let mut c = Command::new(binary());
            c.args(["run", "-p", &format!("{port}:{inner}"), "--", "sh", "-c", &server]);
            p.children.push(quiet(c)?);
        }
        "linux" => {
            ensure!(port == inner, "on the host the ports are the same");
            let mut c = Command::new("sh");
            c.args(["-c", &server]);
            p.children.push(quiet(c)?);
        }
        _ => {
            ensure!(crate::programs::present("slirp4netns"), "slirp4netns is not installed");
            // The network's own process, which slirp4netns joins and the server shares.
            let mut c = Command::new("unshare");
            c.args(["--user", "--map-root-user", "--net", "sh", "-c"]);
            c.arg(format!("echo $$ >netns.pid; ip link set lo up; until ip addr show tap0 2>/dev/null | grep -q 'inet '; do sleep 0.05; done; {server}"));
            p.children.push(quiet(c)?);
            let pid = wait_for(|| std::fs::read_to_string(dir.0.join("netns.pid")).ok().filter(|t| t.ends_with('\n')))
                .context("unshare")?;
            let api = dir.0.join("slirp.sock");
            let mut c = Command::new("slirp4netns");
            c.args(["--configure", "--mtu=65520", "--api-socket"]).arg(&api).arg(pid.trim()).arg("tap0");
            p.children.push(quiet(c)?);
            let mut s = wait_for(|| UnixStream::connect(&api).ok()).context("slirp4netns' socket")?;
            let request = serde_json::json!({"execute": "add_hostfwd", "arguments":
                {"proto": "tcp", "host_addr": "127.0.0.1", "host_port": port, "guest_port": inner}});
            s.write_all(request.to_string().as_bytes())?;
            s.shutdown(std::net::Shutdown::Write)?;
            let mut answer = String::new();
            s.read_to_string(&mut answer)?;
            ensure!(answer.contains("return"), "slirp4netns: {answer}");
        }
    }
    Ok(p)
}

fn wait_for<T>(mut f: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + Duration::from_secs(8);
    while Instant::now() < end {
        if let Some(v) = f() {
            return Some(v);
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    None
}

fn publish_bulk(dir: &Dir, side: &str) -> Result<f64> {
    let port = free_port()?;
    let p = publish(dir, side, port, port, &format!("iperf3 -s -p {port}"))?;
    let port = p.port.to_string();
    // Until it is up the answer is a refusal or a reset, which iperf3 reports as JSON with exit code 0.
    let client = || -> Option<f64> {
        let out = Command::new("iperf3").args(["-c", "127.0.0.1", "-p", &port, "-t", "2", "-J"]).output().ok()?;
        gigabits(&String::from_utf8_lossy(&out.stdout)).ok()
    };
    wait_for(client).context("iperf3 got no answer")
}

/// Within two seconds no port comes round again; within ten seconds all do.
fn publish_conn(dir: &Dir, side: &str, seconds: u32) -> Result<f64> {
    let port = free_port()?;
    nginx_conf(dir, &format!("0.0.0.0:{port}"))?;
    let p = publish(dir, side, port, port, NGINX)?;
    let url = format!("http://127.0.0.1:{}/", p.port);
    let up = || {
        Command::new("curl")
            .args(["-s", "-o", "/dev/null", "--max-time", "1", &url])
            .status()
            .ok()
            .filter(|s| s.success())
    };
    wait_for(up).context("no answer")?;
    let time = format!("-d{seconds}s");
    let out = Command::new("wrk").args(["-t1", "-c16", &time, "-H", "Connection: close", &url]).output()?;
    if side == "slirp" {
        // Out of ports it leaves requests unanswered: that is its figure.
        return rate(&String::from_utf8_lossy(&out.stdout));
    }
    requests_per_second(&String::from_utf8_lossy(&out.stdout))
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

pub fn present(program: &str) -> bool {
    std::env::var("PATH").unwrap_or_default().split(':').any(|d| Path::new(d).join(program).is_file())
}
