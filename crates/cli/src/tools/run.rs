//! `belljar run`: options, the run itself, its account.
use super::nstat;
use crate::account::account;
use crate::out::{self, Done, Fail, Paint};
use crate::parse::{self, Publish};
use crate::report;
use belljar_host::port::Kind;
use belljar_host::rundir;
use belljar_jar::{NetMode, Options, PublishSpec, RunError};
use belljar_link::Conditions;
use clap::Args;
use core::net::Ipv4Addr;
use std::ffi::OsString;
use std::path::PathBuf;

/// `user`, `none`, or an interface of the machine.
fn net(s: &str) -> Result<NetMode, String> {
    const MAX_QUEUES: usize = 256;
    let wrong = || "it is user, none, tap=INTERFACE[,queues=N], tun=INTERFACE or packet=INTERFACE".to_owned();
    let (way, name) = match s {
        "user" => return Ok(NetMode::User),
        "none" => return Ok(NetMode::None),
        _ => s.split_once('=').ok_or_else(wrong)?,
    };
    let (name, kind) = match (way, name.split_once(",queues=")) {
        ("tap", None) => (name, Kind::Tap { queues: 1 }),
        ("tap", Some((name, n))) => {
            let queues = n.parse().ok().filter(|n| (1..=MAX_QUEUES).contains(n));
            (name, Kind::Tap { queues: queues.ok_or_else(|| format!("a TAP device has 1 to {MAX_QUEUES} queues"))? })
        }
        ("tun", None) => (name, Kind::Tun),
        ("packet", None) => (name, Kind::Packet),
        _ => return Err(wrong()),
    };
    if name.is_empty() || name.len() > 15 || name.contains(['/', ',', ' ']) {
        return Err(format!("'{name}' is no name of an interface"));
    }
    Ok(NetMode::Port(kind, name.to_owned()))
}

#[derive(Args, Debug)]
#[command(after_help = "\
The program is unmodified and needs no rights; it runs on a network stack of belljar's own, as
host 10.0.2.15. What it connects to outside is reached with this machine's sockets; 10.0.2.2 is
this machine's own loopback address, 10.0.2.3 its nameserver, and fd00::2 and fd00::3 are the same
for IPv6. Conditions apply between the host and its gateway; belljar link changes them while the
program runs.
A client outside reaches the program through -p: it is connected before the program accepts. To
overflow an accept queue, put the client inside: belljar exec JAR -- curl http://10.0.2.15/

Examples: belljar run -p 8080:80 -- python3 -m http.server 80
          belljar run --delay 40ms --loss 1% -- curl http://example.org/
          belljar run --name web --sysctl net.core.somaxconn=4 -- nginx -g 'daemon off;'")]
pub struct RunCommand {
    /// Name of the jar (default: the program's, then -2, -3, …)
    #[arg(long, value_name = "NAME", env = "BELLJAR_NAME", help_heading = "Jar")]
    pub name: Option<String>,
    /// Listen on this machine and connect inward; on 127.0.0.1 unless an address is given
    #[arg(short, long, value_name = "[IP:]PORT:PORT[/udp]", value_parser = parse::publish, help_heading = "Network")]
    pub publish: Vec<Publish>,
    /// A kernel setting; belljar sysctl JAR -a lists them
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse::sysctl, help_heading = "Host")]
    pub sysctl: Vec<(String, String)>,
    /// Processors that packets are processed on, each with its interrupts, softirqs and backlog
    #[arg(long, value_name = "NUMBER", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=64), help_heading = "Host")]
    pub cpus: u32,
    /// Memory of the program's machine, as mem= on a kernel's command line: 64M (default: what tcp_mem and its like are measured for, 23.5G)
    #[arg(long, value_name = "SIZE", value_parser = parse::memory, help_heading = "Host")]
    pub mem: Option<u64>,
    /// A setting of the network card: rx, tx (descriptors), channels, speed (Mbit/s), tso, gro, tx-checksumming, rx-checksumming (on, off)
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse::pair, help_heading = "Host")]
    pub nic: Vec<(String, String)>,
    /// Delay of every packet, each way: 20ms
    #[arg(long, value_name = "TIME", value_parser = parse::delay, env = "BELLJAR_DELAY", help_heading = "Link")]
    pub delay: Option<u64>,
    /// Variation of the delay: 5ms
    #[arg(long, value_name = "TIME", value_parser = parse::delay, env = "BELLJAR_JITTER", help_heading = "Link")]
    pub jitter: Option<u64>,
    /// Share of packets lost: 1%
    #[arg(long, value_name = "PERCENT", value_parser = parse::percent, env = "BELLJAR_LOSS", help_heading = "Link")]
    pub loss: Option<f64>,
    /// Share of packets that overtake others
    #[arg(long, value_name = "PERCENT", value_parser = parse::percent, help_heading = "Link")]
    pub reorder: Option<f64>,
    /// Share of packets that arrive twice
    #[arg(long, value_name = "PERCENT", value_parser = parse::percent, help_heading = "Link")]
    pub duplicate: Option<f64>,
    /// Share of packets with a flipped bit
    #[arg(long, value_name = "PERCENT", value_parser = parse::percent, help_heading = "Link")]
    pub corrupt: Option<f64>,
    /// Bandwidth: 10mbit, 5MB/s
    #[arg(long, value_name = "RATE", value_parser = parse::rate, env = "BELLJAR_RATE", help_heading = "Link")]
    pub rate: Option<u64>,
    /// Bandwidth of a policer, which drops what comes faster (burst: 64 KiB)
    #[arg(long, value_name = "RATE", value_parser = parse::rate, help_heading = "Link")]
    pub police: Option<u64>,
    /// Packets the link holds before it drops
    #[arg(long, value_name = "PACKETS", value_parser = parse::packets, help_heading = "Link")]
    pub limit: Option<usize>,
    /// Largest packet of the program's card
    #[arg(long, value_name = "BYTES", default_value_t = 1500, value_parser = clap::value_parser!(u32).range(68..=65535), help_heading = "Host")]
    pub mtu: u32,
    /// Address of the program's host
    #[arg(long, value_name = "ADDRESS/PREFIX", default_value = "10.0.2.15/24", value_parser = parse::cidr, help_heading = "Network")]
    pub ip: (Ipv4Addr, u8),
    /// IPv6 address of the program's host, or off
    #[arg(long, value_name = "ADDRESS/PREFIX", default_value = "fd00::15/64", value_parser = parse::cidr6, help_heading = "Network")]
    pub ip6: parse::Ip6,
    /// How the jar is connected: user (out through a gateway, with this machine's own sockets), none (only lo),
    /// tap=INTERFACE[,queues=N] or tun=INTERFACE (this machine's kernel is the neighbour), or packet=INTERFACE (whatever
    /// that interface is connected to, as root)
    #[arg(long, value_name = "NET", default_value = "user", value_parser = net, help_heading = "Network")]
    pub net: NetMode,
    /// Seed of all randomness (default: a new one)
    #[arg(long, value_name = "N", value_parser = parse::seed, env = "BELLJAR_SEED", help_heading = "Jar")]
    pub seed: Option<u64>,
    /// Show the program /proc/net, /proc/sys/net and /sys/class/net of its host instead of this machine's
    #[arg(long, help_heading = "Jar")]
    pub with_proc: bool,
    /// Answer reads, writes and polls by the stack itself: every error and poll mask is its own, each call costs more
    #[arg(long, help_heading = "Jar")]
    pub exact: bool,
    /// Take the network capabilities away that root has in its host: ports below 1024, raw sockets
    #[arg(long, help_heading = "Jar")]
    pub drop_caps: bool,
    /// Keep the jar until the last descendant ends, for daemons
    #[arg(long, help_heading = "Jar")]
    pub linger: bool,
    /// Write all packets to this file; dropped ones with reason and place
    #[arg(long, value_name = "FILE.pcapng", help_heading = "Records")]
    pub pcap: Option<PathBuf>,
    /// Write events of packets and sockets to this file, as JSON lines
    #[arg(long, value_name = "FILE.jsonl", help_heading = "Records")]
    pub trace: Option<PathBuf>,
    /// Write a report of the run to this file: a page with what happened, the path of the packets, figures over time
    #[arg(long, value_name = "FILE.html", help_heading = "Records")]
    pub report: Option<PathBuf>,
    /// Set a variable in the environment of the program
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = parse::pair, help_heading = "Jar")]
    pub env: Vec<(String, String)>,
    /// The program and its arguments
    #[arg(value_name = "PROGRAM", required = true, trailing_var_arg = true)]
    pub program: Vec<OsString>,
}

impl From<RunError> for Fail {
    fn from(e: RunError) -> Fail {
        Fail::new(&e.message).code(e.code)
    }
}

pub fn run(c: &RunCommand, color: out::When) -> Done {
    let options = options(c)?;
    let target = c.report.as_deref().map(report::Target::check).transpose()?;
    let ended = belljar_jar::run(options.clone())?;
    if let Ok(dir) = rundir::dir() {
        nstat::forget_dead(&dir);
    }
    let paint = Paint::of(color, &std::io::stderr());
    for w in &ended.warnings {
        out::say(format_args!("{} {w}", paint.yellow("belljar:")));
    }
    for line in account(&ended) {
        out::say(format_args!("{} {line}", paint.yellow("belljar:")));
    }
    if let (Some(target), Some(page)) = (target, report::of_run(&options, &ended)) {
        // The program's own code stays what the run ends with.
        if let Err(f) = target.write(&page) {
            f.report(paint);
        }
    }
    Ok(ended.code)
}

fn options(c: &RunCommand) -> Result<Options, Fail> {
    let (program, args) = c.program.split_first().ok_or_else(|| Fail::usage("no program given"))?;
    let plain = Conditions::default();
    let spec = |p: &Publish| PublishSpec { ip: p.ip, host_port: p.host_port, port: p.port, udp: p.udp, host: 0 };
    Ok(Options {
        name: c.name.clone(),
        publish: c.publish.iter().map(spec).collect(),
        sysctls: c.sysctl.clone(),
        nic: c.nic.clone(),
        cpus: c.cpus,
        mem: c.mem,
        conditions: Conditions {
            delay_ns: c.delay.unwrap_or(0),
            jitter_ns: c.jitter.unwrap_or(0),
            loss: c.loss.unwrap_or(0.0),
            duplicate: c.duplicate.unwrap_or(0.0),
            corrupt: c.corrupt.unwrap_or(0.0),
            reorder: c.reorder.unwrap_or(0.0),
            rate_bps: c.rate,
            limit: c.limit.unwrap_or(plain.limit),
            police_bps: c.police,
            ..plain
        },
        mtu: c.mtu,
        ip: c.ip,
        ip6: c.ip6.0,
        net: c.net.clone(),
        seed: c.seed,
        drop_caps: c.drop_caps,
        linger: c.linger,
        with_proc: c.with_proc,
        exact: c.exact,
        pcap: c.pcap.clone(),
        trace: c.trace.clone(),
        watch: c.report.is_some(),
        env: c.env.iter().map(|(k, v)| (k.into(), v.into())).collect(),
        ..Options::new(program.clone(), args.to_vec())
    })
}
