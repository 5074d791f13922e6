//! `cargo xtask packetdrill DIR [PATTERN]`: the stock packetdrill of a checkout that the user has drives belljar, and a
//! board says which scripts of gtests/net/tcp pass. Nothing is written into DIR, and nothing of it enters this repository.
//!
//! Each script runs in a network namespace of its own, which holds the settings that scripts write to /proc/sys and a
//! device called tun0 that they configure. Programs named `ip`, `tc`, `sysctl` and `ethtool` stand first on the PATH: they
//! note their words for the object (`commands` in crates/packetdrill-so) and go on to the real program; `nstat` and `grep`
//! look at what the object says of its counters and sockets. Scripts are written for bash: in a mount namespace of its own
//! each has bash as /bin/sh.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Real seconds that a script may take: hours of virtual time pass in a fraction of one.
const LIMIT_S: &str = "20";
/// Against the host's kernel, time is real.
const HOST_LIMIT_S: &str = "120";
const TOOLS: &[&str] = &["flex", "bison", "make", "cc", "ip", "tc", "sysctl", "bash", "unshare", "timeout"];
const USAGE: &str = "usage: cargo xtask packetdrill DIR [PATTERN] [-j N] [--host]";

/// What was asked for.
#[derive(Debug)]
struct Options {
    dir: PathBuf,
    /// Part of the path of a script.
    pattern: String,
    jobs: usize,
    /// Run what fails on the host's kernel too.
    host: bool,
}

/// What the runs need.
struct Bench {
    program: PathBuf,
    object: PathBuf,
    shims: PathBuf,
    logs: PathBuf,
}

/// How one script ended.
enum Verdict {
    Pass,
    Fail(String),
}

pub fn run(root: &Path, args: &[String]) -> ExitCode {
    match parse(args).and_then(|o| Ok((prepare(root, &o)?, o))) {
        Ok((bench, options)) => board(&bench, &options),
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::from(2)
        }
    }
}

fn parse(args: &[String]) -> Result<Options, String> {
    let jobs = std::thread::available_parallelism().map_or(1, |n| n.get());
    let (mut words, mut o) = (Vec::new(), Options { dir: PathBuf::new(), pattern: String::new(), jobs, host: false });
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--host" => o.host = true,
            "-j" => {
                let n = args.next().and_then(|n| n.parse().ok()).filter(|n| (1..=64).contains(n));
                o.jobs = n.ok_or("-j wants a number from 1 to 64")?;
            }
            flag if flag.starts_with('-') => return Err(format!("there is no option {flag}; {USAGE}")),
            word => words.push(word),
        }
    }
    match words[..] {
        [dir] => o.dir = PathBuf::from(dir),
        [dir, pattern] => (o.dir, o.pattern) = (PathBuf::from(dir), pattern.to_owned()),
        _ => return Err(USAGE.to_owned()),
    }
    Ok(o)
}

/// Everything that can be wrong beforehand is said in one sentence; then both halves are built.
fn prepare(root: &Path, o: &Options) -> Result<Bench, String> {
    if !is_root() {
        return Err(
            "packetdrill runs in network namespaces of its own, which only root may make: run this as root".into()
        );
    }
    if !o.dir.is_dir() {
        return Err(format!("{} is no directory: give the root of a packetdrill checkout", o.dir.display()));
    }
    let source = o.dir.join("gtests/net/packetdrill");
    if !source.join("packetdrill.c").is_file() || !o.dir.join("gtests/net/tcp").is_dir() {
        return Err(format!(
            "{} has no gtests/net/packetdrill and gtests/net/tcp: not a packetdrill checkout",
            o.dir.display()
        ));
    }
    if let Some(missing) = TOOLS.iter().find(|t| !on_path(t)) {
        return Err(format!("`{missing}` is needed and not on the PATH: install it"));
    }
    let work = root.join("target/packetdrill");
    let program = build_upstream(&source, &work)?;
    let object = build_object(root)?;
    let (shims, logs) = (work.join("bin"), work.join("log"));
    write_shims(&shims).and_then(|()| fs::create_dir_all(&logs)).map_err(|e| format!("{}: {e}", work.display()))?;
    Ok(Bench { program, object, shims, logs })
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|l| l.strip_prefix("Uid:").is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0")))
}

fn on_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(tool).is_file())
}

/// A copy of the sources outside DIR, made once and again when a source is newer than the program.
fn build_upstream(source: &Path, work: &Path) -> Result<PathBuf, String> {
    let build = work.join("build");
    let program = build.join("packetdrill");
    let failed = |e: std::io::Error| format!("cannot build packetdrill in {}: {e}", build.display());
    let built = fs::metadata(&program).and_then(|m| m.modified()).ok();
    fs::create_dir_all(&build).map_err(failed)?;
    let mut stale = built.is_none();
    for entry in fs::read_dir(source).map_err(failed)?.flatten() {
        let from = entry.path();
        let is_source =
            from.extension().is_some_and(|e| ["c", "h", "l", "y", "common", "Linux"].iter().any(|x| e == *x));
        if !is_source || !from.is_file() {
            continue;
        }
        stale |= fs::metadata(&from).and_then(|m| m.modified()).ok() > built;
        fs::copy(&from, build.join(entry.file_name())).map_err(failed)?;
    }
    if stale {
        // Today's compilers warn about more than the sources' -Werror knew of.
        let words = ["-s", "-j2", "-f", "Makefile.Linux", "CFLAGS=-g -O1 -w", "packetdrill"];
        let out = Command::new("make").args(words).current_dir(&build).output().map_err(failed)?;
        if !out.status.success() {
            return Err(format!("packetdrill does not build: {}", last_line(&out.stderr)));
        }
    }
    Ok(program)
}

fn build_object(root: &Path) -> Result<PathBuf, String> {
    let words = ["build", "--quiet", "--release", "--package", "belljar-packetdrill-so"];
    match Command::new("cargo").args(words).current_dir(root).status() {
        Ok(s) if s.success() => {}
        _ => return Err("the shared object does not build: cargo build -p belljar-packetdrill-so says why".into()),
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release/libbelljar_packetdrill_so.so"))
}

/// `ethtool` has nothing to do on the device that stands in; the others go on to the real program.
fn write_shims(dir: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    for name in ["ip", "tc", "sysctl", "ethtool"] {
        let note = format!("#!/bin/sh\necho \"{name} $*\" >> \"$BELLJAR_PACKETDRILL_COMMANDS\"\n");
        let go_on = if name == "ethtool" { String::new() } else { format!("PATH=${{PATH#*:}} exec {name} \"$@\"\n") };
        write_program(&dir.join(name), &(note + &go_on))?;
    }
    write_program(&dir.join("nstat"), "#!/bin/sh\ncat \"$BELLJAR_PACKETDRILL_STATE/nstat\"\n")?;
    // Its words again, with /proc/net replaced.
    let grep = "#!/bin/bash\nPATH=${PATH#*:} exec grep \"${@//\\/proc\\/net/$BELLJAR_PACKETDRILL_STATE}\"\n";
    write_program(&dir.join("grep"), grep)
}

fn write_program(path: &Path, text: &str) -> std::io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// Scripts of the IPv4 variant whose path has the pattern, in order.
fn scripts(o: &Options) -> Vec<PathBuf> {
    let tcp = o.dir.join("gtests/net/tcp");
    let (mut dirs, mut found) = (vec![tcp.clone()], Vec::new());
    while let Some(dir) = dirs.pop() {
        for path in fs::read_dir(&dir).into_iter().flatten().flatten().map(|e| e.path()) {
            if path.is_dir() {
                dirs.push(path);
            } else if let Ok(rel) = path.strip_prefix(&tcp) {
                let name = rel.to_string_lossy();
                if name.ends_with(".pkt") && !name.ends_with("v6.pkt") && name.contains(&o.pattern) {
                    found.push(rel.to_owned());
                }
            }
        }
    }
    found.sort();
    found
}

fn board(bench: &Bench, o: &Options) -> ExitCode {
    let scripts = scripts(o);
    let next = AtomicUsize::new(0);
    let tally: Mutex<BTreeMap<String, (u32, u32)>> = Mutex::default();
    std::thread::scope(|s| {
        for _ in 0..o.jobs {
            s.spawn(|| {
                while let Some(script) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let verdict = one(bench, o, script);
                    let dir = script.parent().map(|d| d.display().to_string()).unwrap_or_default();
                    let Ok(mut tally) = tally.lock() else { return };
                    let (passed, failed) = tally.entry(dir).or_default();
                    match verdict {
                        Verdict::Pass => {
                            *passed += 1;
                            println!("PASS {}", script.display());
                        }
                        Verdict::Fail(why) => {
                            *failed += 1;
                            println!("FAIL {}: {why}", script.display());
                        }
                    }
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap_or_default();
    println!();
    for (dir, (passed, failed)) in &tally {
        println!("{dir:24} {passed:3} passed, {failed:3} failed");
    }
    let (passed, failed) = tally.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(bench: &Bench, o: &Options, script: &Path) -> Verdict {
    let path = o.dir.join("gtests/net/tcp").join(script);
    let name = script.to_string_lossy().replace('/', "_");
    match drive(bench, &path, &name, true) {
        Ok(()) => Verdict::Pass,
        // Real time is not exact: twice.
        Err(why) if o.host && (0..2).all(|_| drive(bench, &path, &name, false).is_err()) => {
            Verdict::Fail(format!("{why} (the host's kernel fails it too)"))
        }
        Err(why) => Verdict::Fail(why),
    }
}

/// One run; the error is the reason in one line.
fn drive(bench: &Bench, script: &Path, name: &str, belljar: bool) -> Result<(), String> {
    let text = fs::read_to_string(script).map_err(|e| e.to_string())?;
    let (Some(dir), Some(base)) = (script.parent(), script.file_name()) else { return Err("no such script".into()) };
    let log = bench.logs.join(format!("{name}.commands"));
    fs::write(&log, "").map_err(|e| e.to_string())?;
    let object = bench.object.display();
    let mut setup = "ip link set lo up; mount --bind \"$(command -v bash)\" /bin/sh; ".to_owned();
    // A script's own addresses count: on the command line ours would win over them, and its cookies be wrong.
    let own = |name| option(&text, name);
    let local = own("--local_ip=").unwrap_or("192.168.0.1");
    let remote = own("--remote_ip=").unwrap_or("192.0.2.1");
    let addresses = [format!("--local_ip={local}"), format!("--remote_ip={remote}")];
    let mut args = vec!["--send_omit_free", "--ip_version=ipv4", "--gateway_ip=192.168.0.1"];
    args.extend(["--netmask_ip=255.255.0.0", "-D", "TFO_COOKIE=3021b9d889017eeb", "-D", "CODE=host_unreachable"]);
    args.extend(["-D", "CMSG_LEVEL_IP=SOL_IP", "-D", "CMSG_TYPE_RECVERR=IP_RECVERR"]);
    args.extend(addresses.iter().map(String::as_str));
    let so = [format!("--so_filename={object}"), format!("--so_flags=local_ip={local}")];
    if belljar {
        setup += "ip tuntap add tun0 mode tun; ip addr add 192.168.0.1/16 dev tun0; ip link set tun0 up; ";
        setup += "ip route add 192.0.2.1 dev tun0; ";
        if text.contains("nstat") || text.contains("/proc/net") {
            let state = bench.logs.join(format!("{name}.state"));
            fs::create_dir_all(&state).map_err(|e| e.to_string())?;
            setup += &format!("export BELLJAR_PACKETDRILL_STATE={}; ", state.display());
        }
        setup += &format!("export PATH={}:$PATH LD_PRELOAD={object}; ", bench.shims.display());
        args.extend(so.iter().map(String::as_str));
    }
    if !belljar {
        setup += &format!("export LD_PRELOAD={object} BELLJAR_PACKETDRILL_CONGESTION=cubic; ");
    }
    setup += "exec \"$@\"";
    let mut c = Command::new("timeout");
    c.args([
        "--kill-after=2",
        if belljar { LIMIT_S } else { HOST_LIMIT_S },
        "unshare",
        "-n",
        "-m",
        "bash",
        "-c",
        &setup,
        "bash",
    ]);
    c.arg(&bench.program).args(args).arg(base).current_dir(dir).env("BELLJAR_PACKETDRILL_COMMANDS", &log);
    match c.output() {
        Ok(out) if out.status.success() => Ok(()),
        Ok(out) => Err(reason(&out)),
        Err(e) => Err(e.to_string()),
    }
}

/// An option that stands at the beginning of a line of the script.
fn option<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|l| l.strip_prefix(name)).and_then(|v| v.split_whitespace().next())
}

/// What packetdrill says, in one line, without what it says of every script.
fn reason(out: &Output) -> String {
    if out.status.code() == Some(124) || out.status.code() == Some(137) {
        return format!("took longer than {LIMIT_S} s");
    }
    let text = String::from_utf8_lossy(&out.stderr);
    let noise = |l: &&str| !l.trim().is_empty() && !l.starts_with("sysctl: ") && !l.starts_with("belljar: net.");
    let lines: Vec<&str> = text.lines().filter(noise).map(str::trim).collect();
    if lines.is_empty() { out.status.to_string() } else { lines.join(" | ") }
}

fn last_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).lines().last().unwrap_or("no word of it").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Options, String> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_are_read_and_wrong_ones_are_named() {
        let o = words("dir close -j 3 --host").unwrap();
        assert_eq!((o.dir.to_str(), o.pattern.as_str(), o.jobs, o.host), (Some("dir"), "close", 3, true));
        assert!(words("").unwrap_err().starts_with("usage:"));
        assert!(words("dir -j 0").unwrap_err().contains("from 1 to 64"));
        assert!(words("dir --fast").unwrap_err().contains("--fast"));
    }

    #[test]
    fn options_of_a_script_stand_at_the_beginning_of_a_line() {
        let text = "// --local_ip=10.0.0.1\n--local_ip=192.168.0.2\n";
        assert_eq!(option(text, "--local_ip="), Some("192.168.0.2"));
        assert_eq!(option("", "--local_ip="), None);
    }
}
