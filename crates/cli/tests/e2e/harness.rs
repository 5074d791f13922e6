//! Runs tests one after another: each with a directory, a user and a deadline of its own, and a look afterwards whether
//! anything was left behind (a process, a socket, a half-written file).

use anyhow::{Context, Result, anyhow, bail, ensure};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// One test: what it needs, how long it may take.
#[derive(Debug, Clone)]
pub struct Test {
    pub name: &'static str,
    pub needs: &'static [&'static str],
    pub limit_s: u64,
    pub run: fn(&Env) -> Result<()>,
}

pub fn test(name: &'static str, needs: &'static [&'static str], run: fn(&Env) -> Result<()>) -> Test {
    Test { name, needs, limit_s: 120, run }
}

impl Test {
    pub fn limit(self, limit_s: u64) -> Test {
        Test { limit_s, ..self }
    }
}

/// What a test may use.
#[derive(Debug, Clone)]
pub struct Env {
    /// The test's own directory; belongs to the user the programs run as.
    pub dir: PathBuf,
    /// Writable, for all tests together: Go's build cache.
    pub shared: PathBuf,
    /// Files that programs read: scripts and built programs, world-readable.
    pub programs: PathBuf,
    pub full: bool,
    belljar: PathBuf,
    uid: Option<u32>,
    mark: String,
}

const MARK: &str = "BELLJAR_E2E_MARK";
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
const SCRIPTS: &[(&str, &str)] = &[
    ("bytes.py", include_str!("programs/bytes.py")),
    ("calls.py", include_str!("programs/calls.py")),
    ("descriptors.py", include_str!("programs/descriptors.py")),
    ("overflow.py", include_str!("programs/overflow.py")),
    ("tap.sh", include_str!("programs/tap.sh")),
    ("ports.sh", include_str!("programs/ports.sh")),
    ("proxies.sh", include_str!("programs/proxies.sh")),
    ("closed_listener.py", include_str!("programs/closed_listener.py")),
    ("resets.py", include_str!("programs/resets.py")),
    ("rules.sh", include_str!("programs/rules.sh")),
    ("forms.sh", include_str!("programs/forms.sh")),
    ("frames.py", include_str!("programs/frames.py")),
    ("settings.sh", include_str!("programs/settings.sh")),
    ("routers.sh", include_str!("programs/routers.sh")),
    ("settings6.sh", include_str!("programs/settings6.sh")),
    ("herd.py", include_str!("../../../../docs/incidents.in/herd.py")),
    ("short.py", include_str!("programs/short.py")),
    ("tunnels.sh", include_str!("programs/tunnels.sh")),
    ("mirred.sh", include_str!("programs/mirred.sh")),
    ("doors.py", include_str!("programs/doors.py")),
    ("mtu.sh", include_str!("programs/mtu.sh")),
    ("neighbours.sh", include_str!("programs/neighbours.sh")),
    ("neighbours.py", include_str!("programs/neighbours.py")),
    ("datagrams.sh", include_str!("programs/datagrams.sh")),
    ("datagrams.py", include_str!("programs/datagrams.py")),
    ("fragments.sh", include_str!("programs/fragments.sh")),
    ("fragments.py", include_str!("programs/fragments.py")),
    ("forwarder.sh", include_str!("programs/forwarder.sh")),
    ("mdns.py", include_str!("programs/mdns.py")),
    ("groups.sh", include_str!("programs/groups.sh")),
    ("groups.py", include_str!("programs/groups.py")),
    ("eyeballs.sh", include_str!("programs/eyeballs.sh")),
    ("eyeballs.py", include_str!("programs/eyeballs.py")),
    ("bridge_nf.sh", include_str!("programs/bridge_nf.sh")),
    ("bridge_nft.sh", include_str!("programs/bridge_nft.sh")),
    ("nft_socket.sh", include_str!("programs/nft_socket.sh")),
    ("xt_rules.sh", include_str!("programs/xt_rules.sh")),
    ("xt_traffic.sh", include_str!("programs/xt_traffic.sh")),
    ("rule_sets.sh", include_str!("programs/rule_sets.sh")),
    ("nexthop.sh", include_str!("programs/nexthop.sh")),
    ("docker.sh", include_str!("programs/docker.sh")),
    ("links.sh", include_str!("programs/links.sh")),
    ("bridges.sh", include_str!("programs/bridges.sh")),
    ("devices.sh", include_str!("programs/devices.sh")),
    ("offloads.sh", include_str!("programs/offloads.sh")),
    ("card_offloads.sh", include_str!("programs/card_offloads.sh")),
    ("addresses6.sh", include_str!("programs/addresses6.sh")),
    ("advertised.sh", include_str!("programs/advertised.sh")),
    ("routes.sh", include_str!("programs/routes.sh")),
    ("flags.sh", include_str!("programs/flags.sh")),
    ("ipset.sh", include_str!("programs/ipset.sh")),
    ("nflog.py", include_str!("programs/nflog.py")),
    ("nft_more.sh", include_str!("programs/nft_more.sh")),
    ("nft_sets.sh", include_str!("programs/nft_sets.sh")),
    ("nft.sh", include_str!("programs/nft.sh")),
    ("interop.sh", include_str!("programs/interop.sh")),
    ("interop.py", include_str!("programs/interop.py")),
    ("beside.py", include_str!("programs/beside.py")),
    ("storm.py", include_str!("programs/storm.py")),
    ("without_notify.py", include_str!("programs/without_notify.py")),
    ("files.sh", include_str!("programs/files.sh")),
    ("sysfs.sh", include_str!("programs/sysfs.sh")),
    ("paths.py", include_str!("programs/paths.py")),
    ("hostile.py", include_str!("programs/hostile.py")),
    ("hostile.sh", include_str!("programs/hostile.sh")),
    ("tun.py", include_str!("programs/tun.py")),
    ("tun_writes.py", include_str!("programs/tun_writes.py")),
    ("sniff.py", include_str!("programs/sniff.py")),
    ("tx_ring.py", include_str!("programs/tx_ring.py")),
    ("streams.py", include_str!("programs/streams.py")),
    ("udp_echo.py", include_str!("programs/udp_echo.py")),
    ("quic.py", include_str!("programs/quic.py")),
    ("hello.go", include_str!("programs/hello.go")),
    ("storm.go", include_str!("programs/storm.go")),
    ("hello.js", include_str!("programs/hello.js")),
    ("Hello.java", include_str!("programs/Hello.java")),
];

impl Env {
    /// A program on the host, as the ordinary user.
    pub fn user(&self, program: &str) -> Command {
        self.dressed(match self.uid {
            Some(uid) => {
                let mut c = Command::new("setpriv");
                c.args(["--reuid", &uid.to_string(), "--regid", &uid.to_string()]);
                c.args(["--clear-groups", "--inh-caps=-all", "--", program]);
                c
            }
            None => Command::new(program),
        })
    }

    /// `sh SCRIPT ARGS…` as root of a network namespace of its own: the runner's root, or an ordinary user's own where
    /// that may open TAP devices.
    pub fn in_own_network(&self, script: &str, args: &[&str]) -> Command {
        self.in_own_network_with("sh", script, args)
    }

    /// The same of a script of another language's.
    pub fn in_own_network_with(&self, program: &str, script: &str, args: &[&str]) -> Command {
        let mut c = Command::new("unshare");
        if self.uid.is_none() {
            c.args(["--user", "--map-root-user"]);
        }
        c.args(["--net", program, script]).args(args);
        self.dressed(c)
    }

    fn dressed(&self, mut c: Command) -> Command {
        c.env_clear()
            .envs(std::env::var_os("BELLJAR_COVERAGE").map(|f| ("BELLJAR_COVERAGE", f)))
            .env("PATH", PATH)
            .env("HOME", &self.dir)
            .env("LC_ALL", "C.UTF-8")
            .env(MARK, &self.mark);
        c.env("XDG_RUNTIME_DIR", self.runtime()).env("TMPDIR", &self.dir).current_dir(&self.dir);
        c.stdin(Stdio::null());
        c
    }

    pub fn belljar_path(&self) -> String {
        self.belljar.to_string_lossy().into_owned()
    }

    /// `belljar ARGS…` as the ordinary user.
    pub fn belljar(&self, args: &[&str]) -> Command {
        let mut c = self.user(&self.belljar.to_string_lossy());
        c.args(args);
        c
    }

    /// `belljar ARGS… -- PROGRAM…`, in the background until the value is dropped.
    pub fn run(&self, args: &[&str], program: &[&str]) -> Result<Proc> {
        let mut words = vec!["run"];
        words.extend(args);
        words.push("--");
        words.extend(program);
        self.start(self.belljar(&words))
    }

    /// A built-in command's stdout; fails when it does.
    pub fn ask(&self, args: &[&str]) -> Result<String> {
        let out = self.finish(self.belljar(args), 20)?;
        ensure!(out.code == Some(0), "belljar {}: {out:?}", args.join(" "));
        Ok(out.stdout)
    }

    pub fn start(&self, mut command: Command) -> Result<Proc> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let n = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (self.dir.join(format!("out.{n}")), self.dir.join(format!("err.{n}")));
        command.stdout(File::create(&out)?).stderr(File::create(&err)?);
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        Ok(Proc { child, out, err })
    }

    pub fn finish(&self, command: Command, limit_s: u64) -> Result<Out> {
        self.start(command)?.wait(limit_s)
    }

    pub fn file(&self, name: &str) -> String {
        self.dir.join(name).to_string_lossy().into_owned()
    }

    /// A script or built program that the jar's programs can read.
    pub fn program(&self, name: &str) -> String {
        self.programs.join(name).to_string_lossy().into_owned()
    }

    /// Writes a file the user owns.
    pub fn write(&self, name: &str, data: &[u8]) -> Result<String> {
        let path = self.dir.join(name);
        fs::write(&path, data)?;
        self.own(&path)?;
        Ok(path.to_string_lossy().into_owned())
    }

    fn own(&self, path: &Path) -> Result<()> {
        self.uid.map_or(Ok(()), |uid| Ok(chown(path, Some(uid), Some(uid))?))
    }

    pub fn runtime(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// Living processes of this test.
    pub fn processes(&self) -> BTreeSet<(u32, String)> {
        let needle = format!("{MARK}={}", self.mark);
        let mut found = BTreeSet::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
            let p = entry.path();
            // A program may write over its environment (nginx's titles do): the user id tells as well, when it is ours alone.
            let mine = self.uid.is_some_and(|uid| fs::metadata(&p).is_ok_and(|m| m.uid() == uid));
            let marked =
                || fs::read(p.join("environ")).is_ok_and(|e| e.split(|b| *b == 0).any(|v| v == needle.as_bytes()));
            let stat = fs::read_to_string(p.join("stat")).unwrap_or_default();
            let zombie = stat.rsplit(')').next().is_some_and(|s| s.trim_start().starts_with('Z'));
            if pid != std::process::id() && !zombie && (mine || marked()) {
                let cmd = fs::read(p.join("cmdline")).unwrap_or_default();
                found.insert((pid, String::from_utf8_lossy(&cmd).replace('\0', " ").trim().to_owned()));
            }
        }
        found
    }

    pub fn kill(pid: u32, signal: &str) {
        let _ = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).stderr(Stdio::null()).status();
    }

    /// Ends what still runs; true when there was something.
    fn sweep(&self) -> Option<String> {
        let left = self.processes();
        left.iter().for_each(|(pid, _)| Self::kill(*pid, "KILL"));
        (!left.is_empty()).then(|| left.iter().map(|(p, c)| format!("{p} ({c})")).collect::<Vec<_>>().join(", "))
    }

    /// After a test that passed: no process, no socket, no unfinished file.
    fn nothing_left(&self) -> Result<()> {
        let gone = until(5, || self.processes().is_empty().then_some(()));
        if gone.is_none() {
            bail!("processes left behind: {}", self.sweep().unwrap_or_default());
        }
        let mut stack = vec![self.dir.clone()];
        while let Some(dir) = stack.pop() {
            for entry in fs::read_dir(&dir)?.flatten() {
                let (path, kind) = (entry.path(), entry.file_type()?);
                ensure!(!kind.is_socket(), "a socket was left behind: {}", path.display());
                ensure!(path.extension().is_none_or(|e| e != "part"), "half a file was left: {}", path.display());
                if kind.is_dir() {
                    stack.push(path);
                }
            }
        }
        Ok(())
    }
}

/// A program started in the background.
#[derive(Debug)]
pub struct Proc {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

/// How a program ended and what it wrote.
#[derive(Debug)]
pub struct Out {
    /// None: by a signal (then `signal`).
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Proc {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: &str) {
        Env::kill(self.pid(), signal);
    }

    pub fn stderr(&self) -> String {
        fs::read(&self.err).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    pub fn stdout(&self) -> String {
        fs::read(&self.out).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Until stdout holds `text`; fails when the program ends first.
    pub fn says(&mut self, text: &str, limit_s: u64) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(limit_s);
        loop {
            if self.stdout().contains(text) {
                return Ok(());
            }
            ensure!(self.running(), "ended before it said {text:?}: {:?} {:?}", self.stdout(), self.stderr());
            ensure!(Instant::now() < end, "did not say {text:?}: {:?} {:?}", self.stdout(), self.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn wait(mut self, limit_s: u64) -> Result<Out> {
        let end = Instant::now() + Duration::from_secs(limit_s);
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Out { code: status.code(), stdout: self.stdout(), stderr: self.stderr() });
            }
            if Instant::now() > end {
                let (o, e) = (self.stdout(), self.stderr());
                bail!("still running after {limit_s} s; stdout: {o:?}; stderr: {e:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM, then how it ended.
    pub fn stop(self) -> Result<Out> {
        self.signal("TERM");
        self.wait(10)
    }
}

impl Drop for Proc {
    /// A supervisor that is asked ends its programs; whatever does not end is found by the mark and killed.
    fn drop(&mut self) {
        if self.running() {
            self.signal("TERM");
            let pid = self.pid();
            if until(4, || self.running().then_some(()).is_none().then_some(())).is_none() {
                Env::kill(pid, "KILL");
            }
            let _ = self.child.wait();
        }
    }
}

/// Calls `f` until it gives something or the time is over.
pub fn until<T>(limit_s: u64, mut f: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + Duration::from_secs(limit_s);
    loop {
        if let Some(v) = f() {
            return Some(v);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ports that are free now; asked of the kernel, which does not hand the same one out again soon.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Not a program: a TAP interface in a network namespace of one's own can be had.
pub const TAP: &str = "TAP interfaces";

/// Not a program: QUIC for Python, which pip brings (for the whole run only) and the build directory keeps.
pub const QUIC: &str = "aioquic from pip";

/// Where it lies; with [`Env::programs`] for who may not read that.
pub fn quic() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("aioquic")
}

fn have_quic() -> bool {
    if quic().is_dir() {
        return true;
    }
    if std::env::var("BELLJAR_E2E").as_deref() != Ok("full") {
        return false;
    }
    let part = quic().with_extension("part");
    let mut pip = Command::new("timeout");
    pip.args(["90", "python3", "-m", "pip", "install", "--quiet", "--no-input", "--retries", "1"]).env("PATH", PATH);
    pip.args(["--only-binary", ":all:", "--target"]).arg(&part).arg("aioquic~=1.0");
    let brought = pip.output().is_ok_and(|o| o.status.success()) && fs::rename(&part, quic()).is_ok();
    let _ = fs::remove_dir_all(part);
    brought
}

pub fn have(program: &str) -> bool {
    if program == QUIC {
        return have_quic();
    }
    if program == TAP {
        let user = if fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0) { "-n" } else { "-Urn" };
        let c = Command::new("unshare").args([user, "ip", "tuntap", "add", "t", "mode", "tap"]).output();
        return c.is_ok_and(|o| o.status.success());
    }
    PATH.split(':').any(|d| Path::new(d).join(program).is_file())
}

/// The tests chosen, the binary, the user.
#[derive(Debug)]
pub struct Suite {
    tests: Vec<Test>,
    base: PathBuf,
    belljar: PathBuf,
    full: bool,
    list: bool,
    filtered: usize,
}

#[derive(Debug)]
enum Verdict {
    Passed,
    Skipped(String),
    Failed(String),
}

impl Suite {
    pub fn from_args(all: Vec<Test>) -> Suite {
        let (mut words, mut list, mut exact) = (Vec::new(), false, false);
        for arg in std::env::args().skip(1) {
            match arg.as_str() {
                "--list" => list = true,
                "--exact" => exact = true,
                a if a.starts_with('-') => {}
                _ => words.push(arg),
            }
        }
        let mode = std::env::var("BELLJAR_E2E").unwrap_or_default();
        let total = all.len();
        let chosen = |t: &Test| {
            words.is_empty() || words.iter().any(|w| if exact { t.name == w } else { t.name.contains(w.as_str()) })
        };
        let tests: Vec<Test> = all.into_iter().filter(|t| mode != "off" && chosen(t)).collect();
        let belljar =
            std::env::var_os("BELLJAR_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_belljar")), PathBuf::from);
        let base = std::env::temp_dir().join(format!("belljar-e2e-{}", std::process::id()));
        Suite { filtered: total - tests.len(), tests, base, belljar, full: mode == "full", list }
    }

    pub fn run(self) -> ExitCode {
        if self.list {
            self.tests.iter().for_each(|t| println!("{}: test", t.name));
            return ExitCode::SUCCESS;
        }
        println!("\nrunning {} tests", self.tests.len());
        let begin = Instant::now();
        let (mut passed, mut failed, mut skipped) = (0, Vec::new(), 0);
        if let Err(e) = self.prepare() {
            println!("cannot prepare {}: {e:#}", self.base.display());
            return ExitCode::FAILURE;
        }
        for t in &self.tests {
            let t0 = Instant::now();
            let verdict = self.one(t);
            let took = t0.elapsed().as_secs_f64();
            match verdict {
                Verdict::Passed => {
                    passed += 1;
                    println!("test {} ... ok <{took:.1}s>", t.name);
                }
                Verdict::Skipped(why) => {
                    skipped += 1;
                    println!("test {} ... ignored, {why}", t.name);
                }
                Verdict::Failed(why) => {
                    println!("test {} ... FAILED <{took:.1}s>\n    {}", t.name, why.replace('\n', "\n    "));
                    failed.push(t.name);
                }
            }
        }
        if failed.is_empty() {
            let _ = fs::remove_dir_all(&self.base);
        } else {
            println!("\nfailures: {}\nwhat they wrote is in {}", failed.join(" "), self.base.display());
        }
        let word = if failed.is_empty() { "ok" } else { "FAILED" };
        println!(
            "\ntest result: {word}. {passed} passed; {} failed; {skipped} ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
            failed.len(),
            self.filtered,
            begin.elapsed().as_secs_f64()
        );
        if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
    }

    fn prepare(&self) -> Result<()> {
        if self.tests.is_empty() {
            return Ok(());
        }
        let programs = self.base.join("programs");
        fs::create_dir_all(&programs)?;
        // An ordinary user may be unable to read the build directory.
        let copy = programs.join("belljar");
        fs::copy(&self.belljar, &copy).with_context(|| self.belljar.display().to_string())?;
        for (name, text) in SCRIPTS {
            fs::write(programs.join(name), text)?;
        }
        for path in [&self.base, &programs, &copy] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    }

    fn one(&self, t: &Test) -> Verdict {
        let root = fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0);
        let needs = t.needs.iter().copied().chain(root.then_some("setpriv"));
        let missing: Vec<&str> = needs.filter(|p| !have(p)).collect();
        if !missing.is_empty() {
            let why = format!("not here: {}", missing.join(" "));
            // node, java, TAP and what a registry must bring are tested where they are, as the README says; everything else is the machine's fault.
            let optional = missing.iter().all(|m| ["node", "javac", "java", TAP, QUIC].contains(m));
            let ci = std::env::var("CI").is_ok_and(|v| v == "true" || v == "1");
            return if ci && !optional { Verdict::Failed(why) } else { Verdict::Skipped(why) };
        }
        let env = match self.env(t, root) {
            Ok(env) => env,
            Err(e) => return Verdict::Failed(format!("{e:#}")),
        };
        let (tx, rx) = mpsc::channel();
        let (run, inner) = (t.run, env.clone());
        std::thread::spawn(move || {
            let result = std::panic::catch_unwind(|| run(&inner)).unwrap_or_else(|_| Err(anyhow!("the test panicked")));
            let _ = tx.send(result);
        });
        let result = rx.recv_timeout(Duration::from_secs(t.limit_s));
        let verdict = match result.unwrap_or_else(|_| Err(anyhow!("took longer than {} s", t.limit_s))) {
            Ok(()) => env.nothing_left().map_or_else(|e| Verdict::Failed(format!("{e:#}")), |()| Verdict::Passed),
            Err(e) => Verdict::Failed(format!("{e:#}")),
        };
        let _ = env.sweep();
        verdict
    }

    fn env(&self, t: &Test, root: bool) -> Result<Env> {
        // An id that nobody has: the tests' programs are then nobody else's either.
        let uid = root.then(|| 20_000 + std::process::id() % 40_000);
        let mark = format!("{}-{}", std::process::id(), t.name);
        let dir = self.base.join(t.name);
        let shared = self.base.join("shared");
        let env = Env {
            dir,
            shared,
            programs: self.base.join("programs"),
            full: self.full,
            belljar: self.base.join("programs/belljar"),
            uid,
            mark,
        };
        for dir in [env.dir.clone(), env.shared.clone(), env.runtime()] {
            fs::create_dir_all(&dir)?;
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
            env.own(&dir)?;
        }
        Ok(env)
    }
}
