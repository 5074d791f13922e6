//! From options to a running jar: name and socket first, then kernels, ports, files, and the program last.
use crate::control::server::Server;
use crate::gateway::{self, GW, Gateway, HOST};
use crate::jar::{Jar, Watched};
use crate::key::Key;
use crate::life::Life;
use crate::machine::{Machine, MachineConfig, setup};
use crate::options::{Ended, NetMode, Options, PublishSpec, RunError};
use crate::output::Output;
use crate::pump::weight::Weights;
use crate::record::Recording;
use crate::socks::Socks;
use crate::up;
use belljar_abi::Errno;
use belljar_capture::watch::Watch;
use belljar_host::epoll::{self, Epoll};
use belljar_host::port::{self, Kind, Port};
use belljar_host::seccomp::Filter;
use belljar_host::signal::{self, SignalFd};
use belljar_host::spawn::{self, Command};
use belljar_host::task::Tasks;
use belljar_host::{clock, fd, process, rundir};
use belljar_kernel::Kernel;
use belljar_kernel::ids::Slab;
use belljar_link::Link;
use belljar_topology::Topology;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// The kernels' clock at the start: as if booted a little while ago, so that nothing is at time 0.
const BOOTED: u64 = 1_000_000_000;

/// The first samples of a watched run are so far apart.
const FIRST_STEP: u64 = 10_000_000;

/// Runs a program in a new jar until the jar ends.
pub fn run(options: Options) -> Result<Ended, RunError> {
    begin(options, None)
}

/// The same with the hosts, links and programs of a file.
pub(crate) fn run_up(options: Options, topology: Topology) -> Result<Ended, RunError> {
    begin(options, Some(topology))
}

fn begin(options: Options, topology: Option<Topology>) -> Result<Ended, RunError> {
    let nofile = fd::raise_nofile();
    let signals = SignalFd::new(&[
        signal::SIGCHLD,
        signal::SIGINT,
        signal::SIGTERM,
        signal::SIGHUP,
        signal::SIGQUIT,
        signal::SIGUSR1,
        signal::SIGUSR2,
        signal::SIGWINCH,
    ])
    .map_err(|e| RunError::new(format!("signals: {e}")))?;
    process::become_subreaper().map_err(|e| RunError::new(format!("subreaper: {e}")))?;
    let mut jar = build(options, signals, topology)?;
    let files = jar.open_files()?;
    jar.publish_all()?;
    jar.answer_nameservers();
    match &mut jar.up {
        Some(up) => up.set_nofile(nofile),
        None => jar.start(nofile)?,
    }
    jar.begin_files(files)?;
    if jar.up.is_some() {
        jar.control.note(&format!("{} {}", std::process::id(), jar.options.program.to_string_lossy()));
    }
    jar.run_loop();
    jar.up_finish();
    Ok(jar.finish())
}

fn cannot_write(path: &Path, e: &std::io::Error) -> RunError {
    RunError::new(format!("{}: cannot be written: {}", path.display(), belljar_host::words(e)))
}

/// The program's basename, as a jar's name can be.
fn base_name(program: &OsString) -> String {
    let base = Path::new(program).file_name().map_or_else(|| "jar".into(), |n| n.to_string_lossy());
    let name: String = base.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).take(48).collect();
    if rundir::valid_name(&name) { name } else { "jar".into() }
}

fn claim(o: &Options) -> Result<rundir::Claim, RunError> {
    let dir = rundir::dir().map_err(|e| RunError::new(format!("no directory for the control socket: {e}")))?;
    // What dead supervisors left goes first.
    let _ = rundir::living(&dir);
    let take = |name: &str| rundir::claim(&dir, name).map_err(|e| RunError::new(format!("{}: {e}", dir.display())));
    if let Some(name) = &o.name {
        if !rundir::valid_name(name) {
            return Err(RunError::usage(format!(
                "'{name}' is no name for a jar: letters, digits, '.', '_' and '-', at most 64"
            )));
        }
        return take(name)?.ok_or_else(|| RunError::new(format!("a jar named '{name}' is running already")));
    }
    let base = base_name(&o.program);
    for n in 1..1000 {
        let name = if n == 1 { base.clone() } else { format!("{base}-{n}") };
        if let Some(c) = take(&name)? {
            return Ok(c);
        }
    }
    Err(RunError::new(format!("too many jars named '{base}'")))
}

fn build(options: Options, signals: SignalFd, topology: Option<Topology>) -> Result<Jar, RunError> {
    let ep = Epoll::new().map_err(|e| RunError::new(format!("epoll: {e}")))?;
    ep.add(&signals, epoll::IN, Key::Signals.pack()).map_err(|e| RunError::new(format!("epoll: {e}")))?;
    let weights = Weights::new().map_err(|e| RunError::new(format!("socketpair: {e}")))?;
    let claim = claim(&options)?;
    let name = claim.name().to_owned();
    let control = Server::new(claim, &ep).map_err(|e| RunError::new(format!("control socket: {e}")))?;
    let seed = options.seed.unwrap_or_else(clock::seed);
    let start = clock::monotonic_ns();
    let epoch = start.saturating_sub(BOOTED);
    let (ip, prefix) = options.ip;
    let (gw_ip, dns_ip) = neighbours_of(ip, prefix);
    let with_gateway = options.net == NetMode::User;
    let port = open_port(&options, &ep)?;
    let on_link = |a: &Ipv4Addr| *a != ip && same_net(*a, ip, prefix);
    let behind =
        |p: &Port| if matches!(options.net, NetMode::Port(Kind::Packet, _)) { p.router() } else { p.address() };
    let router = port.as_ref().and_then(behind).filter(on_link);
    let on_link6 = |a: &Ipv6Addr| options.ip6.is_some_and(|(ip6, prefix6)| *a != ip6 && same_net6(*a, ip6, prefix6));
    let router6 = port.as_ref().and_then(Port::address6).filter(on_link6);
    let six = options.ip6.filter(|_| with_gateway).map(|(ip6, prefix6)| (ip6, prefix6, neighbours_of6(ip6, prefix6)));
    // Where this machine has no way out, neither has the jar: programs hear ENETUNREACH at once, as here.
    let out6 = six.is_some() && belljar_host::net::has_ipv6();
    let config =
        |name: &str, ip: Option<Ipv4Addr>, via, nic: &[(String, String)], sysctls: &[(String, String)], drop_caps| {
            MachineConfig {
                name: name.to_owned(),
                now: BOOTED,
                wall: clock::realtime_ns(),
                seed: seed ^ (ip == Some(gw_ip)) as u64,
                addr: ip.map(|ip| (ip, prefix)),
                via,
                addr6: if ip == Some(gw_ip) {
                    six.map(|(_, prefix, (gw, _))| (gw, prefix))
                } else {
                    options.ip6.filter(|_| ip.is_some())
                },
                via6: six.filter(|_| out6 && ip != Some(gw_ip)).map(|(_, _, (gw, _))| gw).or(router6),
                ipv6: options.ip6.is_some(),
                mtu: options.mtu,
                nic: nic.to_vec(),
                cpus: if name == "host" { options.cpus } else { 1 },
                mem: options.mem.filter(|_| name == "host"),
                sysctls: sysctls.to_vec(),
                drop_caps,
            }
        };
    let host_addr = (with_gateway || port.is_some()).then_some(ip);
    let via = if with_gateway { Some(gw_ip) } else { router };
    let host = config("host", host_addr, via, &options.nic, &options.sysctls, options.drop_caps);
    let mut way_out = None;
    if with_gateway {
        let mut gw = Machine::new(&config("gw", Some(gw_ip), None, &[], &[], false)).map_err(RunError::usage)?;
        gw.add_nic_address(dns_ip, prefix);
        if let Some((_, prefix6, (_, dns6))) = six {
            gw.add_nic_address6(dns6, prefix6);
        }
        way_out = Some(gw);
    }
    let mut link = Link::new(seed);
    link.set(options.conditions);
    let at = if with_gateway { GW } else { usize::MAX };
    let (machines, cables) = match &topology {
        None => {
            let mut host = Machine::new(&host).map_err(RunError::usage)?;
            if matches!(options.net, NetMode::Port(Kind::Tun, _)) {
                host.ask_nobody();
            }
            ([host].into_iter().chain(way_out).collect(), Vec::new())
        }
        Some(t) => {
            if let Some([out, back]) = up::outside_conditions(t) {
                link.ab.set(out);
                link.ba.set(back);
            }
            let via6 = six.filter(|_| out6).map(|(_, _, (gw, _))| gw);
            let ip6 = six.map(|(ip6, ..)| ip6);
            let way_out = way_out.map(|gateway| up::WayOut { gateway, via: gw_ip, via6, ip, ip6 });
            up::machines(t, seed, BOOTED, way_out)?
        }
    };
    let gateway = Gateway {
        at,
        nameserver: gateway::nameservers().first().map(|ip| SocketAddr::new(*ip, 53)),
        host_ip: [host_addr.filter(|_| with_gateway).map(IpAddr::V4), six.map(|(ip, ..)| IpAddr::V6(ip))],
        gw_ip: [with_gateway.then_some(gw_ip.into()), six.map(|(_, _, (gw, _))| IpAddr::V6(gw))],
        dns_ip: [with_gateway.then_some(dns_ip.into()), six.map(|(_, _, (_, dns))| IpAddr::V6(dns))],
        ..Gateway::default()
    };
    let watched = machines.first().filter(|_| options.watch).map(|m| Box::new(Watch::new(m.ns, BOOTED, FIRST_STEP)));
    Ok(Jar {
        options,
        uid: process::euid(),
        name,
        now: start.saturating_sub(epoch),
        epoch,
        ep,
        machines,
        link,
        cables,
        up: topology.map(|t| Box::new(up::Up::new(t))),
        listeners: Vec::new(),
        socks: Socks::default(),
        parked: Slab::default(),
        tasks: Tasks::new(),
        replay: Default::default(),
        gateway,
        port,
        tuns: Vec::new(),
        again: Vec::new(),
        quiet: Vec::new(),
        weights,
        rings: Vec::new(),
        planted: None,
        settings: Slab::default(),
        spaces: crate::serve::netns::Spaces::default(),
        publish_udp: Vec::new(),
        ports: Vec::new(),
        signals,
        control,
        life: Life::default(),
        record: Recording::default(),
        watch: watched,
        refused: Vec::new(),
        starved: Vec::new(),
        herds: Vec::new(),
        seed,
        resolved: None,
        scratch: Vec::with_capacity(128 * 1024),
        shut: Vec::new(),
        notified: 0,
        sweep_at: start.saturating_sub(epoch),
        warnings: Vec::new(),
    })
}

/// The interface of `--net tap=IF` and its kin, watched.
fn open_port(options: &Options, ep: &Epoll) -> Result<Option<Port>, RunError> {
    let NetMode::Port(kind, name) = &options.net else { return Ok(None) };
    let mode = if *kind == Kind::Tun { "tun" } else { "tap" };
    let make = format!("ip tuntap add {name} mode {mode} user \"$USER\" && ip link set {name} up, as root");
    let there = port::exists(name);
    let port = Port::open(*kind, name, setup::mac(options.ip.0)).map_err(|e| {
        RunError::new(match (kind, e.raw_os_error()) {
            (Kind::Packet, Some(e)) if e == Errno::ENODEV.0 => format!("this machine has no interface {name}"),
            (Kind::Packet, Some(e)) if e == Errno::EPERM.0 => {
                format!("packet={name} takes a packet socket of this machine, which needs root (CAP_NET_RAW); see belljar doctor")
            }
            (Kind::Packet, _) => format!("cannot attach to {name}: {}", belljar_host::words(&e)),
            (_, Some(e)) if [Errno::ENOENT.0, Errno::ENODEV.0].contains(&e) => {
                "no TAP devices here: /dev/net/tun is missing".to_owned()
            }
            _ => format!("cannot open the {} interface {name}: {}; make one with: {make}", mode.to_uppercase(), belljar_host::words(&e)),
        })
    })?;
    if !there {
        eprintln!(
            "belljar: made {name}, which goes when the jar does: ip addr add ADDRESS/PREFIX dev {name} && ip link set {name} up"
        );
    } else if !port.is_up() {
        eprintln!("belljar: {name} is down on this machine: nothing will cross; ip link set {name} up, as root");
    }
    for queue in port.queues() {
        ep.add(queue, epoll::IN, Key::Port.pack()).map_err(|e| RunError::new(format!("epoll: {e}")))?;
    }
    Ok(Some(port))
}

fn same_net(a: Ipv4Addr, b: Ipv4Addr, prefix: u8) -> bool {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    (a.to_bits() ^ b.to_bits()) & mask == 0
}

fn same_net6(a: Ipv6Addr, b: Ipv6Addr, prefix: u8) -> bool {
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
    (a.to_bits() ^ b.to_bits()) & mask == 0
}

/// Gateway and nameserver: .2 and .3 of the program's network, or the next free when it has one of them itself.
fn neighbours_of(ip: Ipv4Addr, prefix: u8) -> (Ipv4Addr, Ipv4Addr) {
    let net = u32::from(ip) & u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    let mut free = (2..).map(|n| Ipv4Addr::from(net.wrapping_add(n))).filter(|a| *a != ip);
    let gw = free.next().unwrap_or(ip);
    (gw, free.next().unwrap_or(ip))
}

/// The same of IPv6: ::2 and ::3.
fn neighbours_of6(ip: Ipv6Addr, prefix: u8) -> (Ipv6Addr, Ipv6Addr) {
    let net = ip.to_bits() & u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
    let mut free = (2..).map(|n| Ipv6Addr::from_bits(net.wrapping_add(n))).filter(|a| *a != ip);
    let gw = free.next().unwrap_or(ip);
    (gw, free.next().unwrap_or(ip))
}

impl Jar {
    /// The capture and the trace, which stay as they are until the program runs.
    fn open_files(&self) -> Result<[Option<Output>; 2], RunError> {
        let open = |path: &Option<PathBuf>| match path {
            Some(p) if p.as_os_str() == "-" => {
                Err(RunError::usage("'-' is no file: for a live stream, belljar tcpdump or belljar trace"))
            }
            Some(p) => Output::open(p).map(Some).map_err(|e| cannot_write(p, &e)),
            None => Ok(None),
        };
        let files = [open(&self.options.pcap)?, open(&self.options.trace)?];
        match &files {
            [Some(a), Some(b)] if a.same_as(b) => {
                Err(RunError::usage(format!("{}: --pcap and --trace need a file each", b.path().display())))
            }
            _ => Ok(files),
        }
    }

    fn begin_files(&mut self, [pcap, trace]: [Option<Output>; 2]) -> Result<(), RunError> {
        if let Some(file) = pcap {
            let path = file.path().to_owned();
            file.begin().and_then(|f| self.record.set_pcap(f)).map_err(|e| cannot_write(&path, &e))?;
        }
        if let Some(file) = trace {
            let path = file.path().to_owned();
            self.record.set_trace(file.begin().map_err(|e| cannot_write(&path, &e))?);
        }
        self.apply_wanted();
        Ok(())
    }

    fn publish_all(&mut self) -> Result<(), RunError> {
        for p in self.options.publish.clone() {
            if self.gateway.host_ip == [None; 2] {
                return Err(RunError::usage("-p goes through the gateway: it needs --net user"));
            }
            let at = SocketAddr::new(p.ip, p.host_port);
            let bound = if p.udp { self.publish_udp(at, p.port, p.host) } else { self.publish_tcp(at, p.port, p.host) };
            let bound = bound.map_err(|e| RunError::new(cannot_publish(&p, &e)))?;
            self.ports.push(PublishSpec { host_port: bound.port(), ..p }.to_string());
            if p.host_port == 0 {
                eprintln!("belljar: published {}", PublishSpec { host_port: bound.port(), ..p });
            }
        }
        Ok(())
    }

    fn answer_nameservers(&mut self) {
        if self.machines.get(self.gateway.at).is_none() {
            return;
        }
        for ip in gateway::nameservers().into_iter().filter(IpAddr::is_loopback) {
            self.serve_nameserver(SocketAddr::new(ip, 53));
        }
    }

    fn start(&mut self, nofile: (u64, u64)) -> Result<(), RunError> {
        let mut env: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        env.extend(self.options.env.iter().cloned());
        let env = with_lock_file(env, &self.name);
        let command = Command {
            program: self.options.program.clone(),
            args: self.options.args.clone(),
            env,
            nofile: Some(nofile),
            ..Command::default()
        };
        let s =
            spawn::spawn(&command, &Filter::new(self.options.with_proc, self.options.exact), self.signals.before())?;
        self.life.program = s.pid;
        self.tell(|jar| format!("{} starts, process {}", jar.options.program.to_string_lossy(), s.pid));
        self.watch_listener(Watched { listener: s.listener, host: HOST, ns: None, killable: s.killable });
        self.control.note(&format!("{} {}", std::process::id(), self.options.program.to_string_lossy()));
        Ok(())
    }

    /// Completes the files and hands out what the account is told from.
    fn finish(mut self) -> Ended {
        self.record_events();
        self.finish_watch();
        if let Err(e) = self.record.flush() {
            self.warnings.push(format!("a capture or trace file is incomplete: {}", belljar_host::words(&e)));
        }
        let link = (self.link.ab.stats(), self.link.ba.stats());
        let cables = self.cables.iter().map(|c| (c.name.clone(), (c.link.ab.stats(), c.link.ba.stats()))).collect();
        let (lasted, conditions) = (self.now.saturating_sub(BOOTED), *self.link.ab.conditions());
        let code = self.life.exit.map_or(125, process::Exit::shell_code);
        let mut kernels: Vec<(String, Kernel)> =
            std::mem::take(&mut self.machines).into_iter().map(|m| (m.name, m.k)).collect();
        let gateway = (self.gateway.at < kernels.len()).then(|| kernels.remove(self.gateway.at).1);
        let mut kernels = kernels.into_iter();
        let (host_name, host) = kernels.next().unwrap_or_else(|| (String::new(), Machine::empty_kernel()));
        let others = kernels.collect();
        Ended {
            code,
            host,
            gateway,
            others,
            host_name,
            link,
            conditions,
            cables,
            name: self.name,
            seed: self.seed,
            lasted,
            refused: self.refused,
            starved: self.starved,
            herds: crate::serve::herd::told(self.herds),
            watch: self.watch,
            calls: self.notified,
            warnings: self.warnings,
        }
    }
}

/// A port of the machine outside is not to be had, and which one would be.
fn cannot_publish(p: &PublishSpec, e: &std::io::Error) -> String {
    let udp = if p.udp { "/udp" } else { "" };
    let inside = p.port;
    let help = match e.kind() {
        std::io::ErrorKind::PermissionDenied => {
            format!(
                "; outside, ports below 1024 are root's: publish another one, as in -p {}:{inside}{udp}",
                8000 + inside % 1000
            )
        }
        std::io::ErrorKind::AddrInUse => format!("; publish another one, or with -p 0:{inside}{udp} any that is free"),
        std::io::ErrorKind::AddrNotAvailable => "; this machine has no such address".to_owned(),
        _ => String::new(),
    };
    format!("cannot publish {p}: {}{help}", belljar_host::words(e))
}

/// The lock that iptables takes lies in the directory of our jars, where an ordinary user may make it; a variable that is
/// set already stays.
pub(crate) fn with_lock_file(mut env: Vec<(OsString, OsString)>, jar: &str) -> Vec<(OsString, OsString)> {
    const NAME: &str = "XTABLES_LOCKFILE";
    if let Ok(path) = belljar_host::rundir::xtables_lock(jar)
        && env.iter().all(|(k, _)| k != NAME)
    {
        env.push((NAME.into(), path.into()));
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_neighbours() {
        assert_eq!(base_name(&"/usr/bin/python3".into()), "python3");
        assert_eq!(base_name(&"./..".into()), "jar");
        let (gw, dns) = neighbours_of(Ipv4Addr::new(10, 0, 2, 15), 24);
        assert_eq!((gw, dns), (Ipv4Addr::new(10, 0, 2, 2), Ipv4Addr::new(10, 0, 2, 3)));
        let (gw, dns) = neighbours_of6("fd00::15".parse().unwrap(), 64);
        assert_eq!((gw.to_string(), dns.to_string()), ("fd00::2".into(), "fd00::3".into()));
        let (gw, dns) = neighbours_of(Ipv4Addr::new(192, 168, 7, 2), 24);
        assert_eq!((gw, dns), (Ipv4Addr::new(192, 168, 7, 3), Ipv4Addr::new(192, 168, 7, 4)));
    }

    #[test]
    fn a_port_that_is_not_to_be_had_says_which_would_be() {
        use std::io::{Error, ErrorKind};
        let mut p = PublishSpec { ip: Ipv4Addr::LOCALHOST.into(), host_port: 80, port: 80, udp: false, host: 0 };
        let said = cannot_publish(&p, &Error::from(ErrorKind::PermissionDenied));
        assert!(
            said.starts_with("cannot publish 127.0.0.1:80->80/tcp: ") && said.ends_with("as in -p 8080:80"),
            "{said}"
        );
        (p.host_port, p.port, p.udp) = (8053, 53, true);
        let said = cannot_publish(&p, &Error::from(ErrorKind::AddrInUse));
        assert!(said.ends_with("or with -p 0:53/udp any that is free"), "{said}");
    }
}
