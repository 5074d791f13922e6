//! The distribution's programs that end-to-end tests drive, and how they come onto the machine.
//!
//! Nothing here decides whether a test runs: each test asks for its programs itself and is skipped or failed when one
//! is missing. This only tries to make that unnecessary, and says plainly when it may not.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// (program a test calls, Debian/Ubuntu package that has it).
const NEEDED: &[(&str, &str)] = &[
    ("nginx", "nginx-light"),
    ("redis-server", "redis-server"),
    ("redis-benchmark", "redis-tools"),
    ("curl", "curl"),
    ("iperf3", "iperf3"),
    ("wrk", "wrk"),
    ("tcpdump", "tcpdump"),
    ("tshark", "tshark"),
    ("go", "golang-go"),
    ("python3", "python3"),
    ("setpriv", "util-linux"),
    ("ss", "iproute2"),
    ("ping", "iputils-ping"),
    ("traceroute", "traceroute"),
    ("arping", "iputils-arping"),
    ("ethtool", "ethtool"),
    ("iptables-legacy", "iptables"),
    ("iptables-nft", "iptables"),
    ("nft", "nftables"),
    ("ipset", "ipset"),
    ("conntrack", "conntrack"),
    ("sysctl", "procps"),
    ("dig", "bind9-dnsutils"),
    ("host", "bind9-host"),
    ("dnsmasq", "dnsmasq-base"),
    ("socat", "socat"),
];

/// What came of it.
#[derive(Debug)]
pub enum Outcome {
    AllThere,
    Installed(Vec<&'static str>),
    /// These are missing, and why they could not be had.
    Missing(Vec<&'static str>, String),
}

impl Outcome {
    pub fn exit(&self) -> ExitCode {
        match self {
            Outcome::AllThere => println!("packages: every program is here"),
            Outcome::Installed(p) => println!("packages: installed {}", p.join(" ")),
            Outcome::Missing(p, why) => {
                println!("packages: MISSING {}: {why}", p.join(" "));
                return ExitCode::FAILURE;
            }
        }
        ExitCode::SUCCESS
    }
}

/// Installs what is missing, when it may.
pub fn ensure() -> Outcome {
    let missing: Vec<&'static str> = NEEDED.iter().filter(|(p, _)| !present(p)).map(|&(_, pkg)| pkg).collect();
    if missing.is_empty() {
        return Outcome::AllThere;
    }
    if !present("apt-get") {
        return Outcome::Missing(missing, "no apt-get here; install them with this system's package manager".into());
    }
    let Some(prefix) = privilege() else {
        let list = missing.join(" ");
        return Outcome::Missing(
            missing,
            format!("not root and sudo wants a password; run: sudo apt-get install {list}"),
        );
    };
    println!("packages: installing {}", missing.join(" "));
    let _ = apt(prefix, &["update"]);
    let mut args = vec!["install", "-y", "--no-install-recommends"];
    args.extend(&missing);
    let ok = apt(prefix, &args);
    let still: Vec<&'static str> = NEEDED.iter().filter(|(p, _)| !present(p)).map(|&(_, pkg)| pkg).collect();
    match (ok, still.is_empty()) {
        (_, true) => Outcome::Installed(missing),
        (Ok(()), false) => Outcome::Missing(still, "apt-get succeeded, but the programs are still not there".into()),
        (Err(e), false) => Outcome::Missing(still, e),
    }
}

/// How to become root: already, by `sudo -n`, or not at all.
fn privilege() -> Option<&'static [&'static str]> {
    let id = Command::new("id").arg("-u").output().ok()?;
    if id.stdout.trim_ascii() == b"0" {
        return Some(&[]);
    }
    let sudo = Command::new("sudo").args(["-n", "true"]).stderr(Stdio::null()).status();
    sudo.is_ok_and(|s| s.success()).then_some(&["sudo", "-n"])
}

fn apt(prefix: &[&str], args: &[&str]) -> Result<(), String> {
    // RUNLEVEL=1 keeps the packages' scripts from starting nginx and redis as services.
    let mut words: Vec<&str> = prefix.to_vec();
    words.extend(["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-q"]);
    words.extend(args);
    let (first, rest) = words.split_first().ok_or("nothing to run")?;
    let out = Command::new(first).args(rest).stdin(Stdio::null()).output().map_err(|e| format!("{first}: {e}"))?;
    if out.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&out.stderr);
    let last = text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("no message").to_owned();
    Err(format!("apt-get {}: {last}", args.first().unwrap_or(&"")))
}

/// Whether a program can be found, as a shell would, plus the sbin directories that an ordinary user's PATH leaves out.
pub fn present(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin", "/usr/local/sbin"]).any(|d| Path::new(d).join(program).is_file())
}
