//! `belljar up`: a network of hosts, links and programs from a file.
use super::nstat;
use crate::account::account;
use crate::out::{self, Done, Fail, Paint};
use crate::parse;
use belljar_host::rundir;
use belljar_jar::Options;
use belljar_topology::{Topology, parse as read};
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
#[command(after_help = "\
Every host of the file is a machine with a stack of its own, every link joins two of their cards.
Set-up commands run first, then programs start, unmodified and without rights; what they write is
printed with the name of their host before it.
The network ends when all programs but services have ended, when one fails, or with Ctrl-C.
docs/up.md describes the file; belljar lab run FILE.toml runs its workloads in virtual time.

While it runs: belljar exec JAR/HOST -- ip addr     (JAR@HOST is the same)
               belljar ss JAR/HOST -tn
               belljar link JAR/HOST:eth0 loss 5%

Exit codes: 0 when all programs ended with 0; else the code of the first that did not; 128 + N
            when signal N ended the network; 2 a file that is not right; 125 belljar failed.

Example file:
  [host.server.address]
  eth0 = \"10.0.0.1/24\"
  [[host.server.program]]
  run = \"python3 -m http.server 80\"
  service = true
  [host.client.address]
  eth0 = \"10.0.0.2/24\"
  [[host.client.program]]
  run = \"curl -s http://10.0.0.1/\"
  after = \"server:80\"
  [[link]]
  between = [\"client:eth0\", \"server:eth0\"]
  delay = \"20ms\"
  loss = \"1%\"")]
pub struct UpCommand {
    /// The file
    #[arg(value_name = "FILE.toml")]
    pub file: PathBuf,
    /// Name of the jar (default: the file's own, or that of the file)
    #[arg(long, value_name = "NAME", env = "BELLJAR_NAME")]
    pub name: Option<String>,
    /// Seed of all randomness (default: the file's, or a new one)
    #[arg(long, value_name = "N", value_parser = parse::seed, env = "BELLJAR_SEED")]
    pub seed: Option<u64>,
    /// A kernel setting of every host, after those of the file
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse::sysctl)]
    pub sysctl: Vec<(String, String)>,
    /// Say whether the file is right and start nothing
    #[arg(long)]
    pub check: bool,
    /// Answer reads, writes and polls by the stack itself: every error and poll mask is its own, each call costs more
    #[arg(long)]
    pub exact: bool,
    /// Write events of packets and sockets of all hosts to this file, as JSON lines
    #[arg(long, value_name = "FILE.jsonl")]
    pub trace: Option<PathBuf>,
}

/// A file, read and checked.
pub fn topology(file: &Path) -> Result<Topology, Fail> {
    let shown = file.display();
    let text = out::text_of(file)?;
    read(&text).map_err(|p| Fail::usage(format!("{shown}: {p}")))
}

pub fn run(c: &UpCommand, color: out::When) -> Done {
    let mut t = topology(&c.file)?;
    t.hosts.iter_mut().for_each(|h| h.sysctls.extend_from_slice(&c.sysctl));
    if c.check {
        let (hosts, links) = (t.hosts.len(), t.links.len());
        out::print(&format!("{}: {hosts} hosts, {links} links\n", c.file.display()))?;
        return Ok(0);
    }
    let stem = c.file.file_stem().map(|s| s.to_os_string()).unwrap_or_default();
    let name = c.name.clone().or(t.name.clone());
    let options =
        Options { name, seed: c.seed, exact: c.exact, trace: c.trace.clone(), ..Options::new(stem, Vec::new()) };
    let ended = belljar_jar::up(t, options)?;
    if let Ok(dir) = rundir::dir() {
        nstat::forget_dead(&dir);
    }
    let paint = Paint::of(color, &std::io::stderr());
    for line in ended.warnings.iter().cloned().chain(account(&ended)) {
        out::say(format_args!("{} {line}", paint.yellow("belljar:")));
    }
    Ok(ended.code)
}
