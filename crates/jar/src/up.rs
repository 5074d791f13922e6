//! `belljar up`: a jar whose hosts, links and programs come from a file.
//!
//! Each host is a machine of its own (a kernel), each link a cable with conditions between two of their cards; the link to
//! `outside` is the one to the gateway. Set-up commands run one after another, then programs start as soon as somebody listens
//! where they wait for. The jar ends when all programs but services have ended, with the first code that is not 0.
use crate::jar::{Jar, Watched};
use crate::machine::{Machine, MachineConfig};
use crate::options::{Ended, NetMode, Options, PublishSpec, RunError};
use belljar_host::process::Exit;
use belljar_host::seccomp::Filter;
use belljar_host::spawn;
use belljar_host::{clock, fd};
use belljar_kernel::ids::DevId;
use belljar_kernel::net::ipv6::fib::Route6;
use belljar_link::{Link, Pipe};
use belljar_topology::{Command, End, Program, Topology, build};
use belljar_wire::ipv4::{IPPROTO_TCP, IPPROTO_UDP};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

/// Longer lines of programs are cut into several.
const LINE: u64 = 64 * 1024;
/// What an interrupted set-up and the programs that never started end with.
const OWN_FAILURE: u8 = 125;

/// A link between two hosts.
#[derive(Debug)]
pub struct Cable {
    pub name: String,
    pub link: Link,
    /// Machine and device; end 0 sends into `ab`.
    pub ends: [(usize, DevId); 2],
}

impl Cable {
    /// The pipe into which this end sends.
    pub fn pipe(&mut self, end: usize) -> &mut Pipe {
        if end == 0 { &mut self.link.ab } else { &mut self.link.ba }
    }

    pub fn forget_drops(&mut self) {
        self.link.ab.take_drops();
        self.link.ba.take_drops();
    }
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Waits,
    Runs(u32),
    Ended,
}

#[derive(Debug)]
struct Running {
    host: usize,
    program: Program,
    state: State,
}

/// See the module.
#[derive(Debug)]
pub struct Up {
    topology: Topology,
    /// The machine of each host.
    machines: Vec<usize>,
    setup: VecDeque<(usize, Command)>,
    /// The set-up command that runs.
    setting_up: Option<(u32, usize, Command)>,
    programs: Vec<Running>,
    writers: Vec<JoinHandle<()>>,
    /// Of the longest name of a host.
    width: usize,
    nofile: Option<(u64, u64)>,
    over: bool,
}

/// Runs the network of a file until its programs have ended or somebody ends it.
pub fn up(topology: Topology, mut options: Options) -> Result<Ended, RunError> {
    options.seed = options.seed.or(topology.seed);
    options.net = NetMode::None;
    options.with_proc = true;
    if let Some((link, host, dev)) = topology.outside() {
        options.net = NetMode::User;
        let own = || topology.hosts.get(host).into_iter().flat_map(|h| &h.addresses).filter(|(d, _)| d == dev);
        let v4 = own().find_map(|(_, c)| if let (IpAddr::V4(a), p) = c { Some((*a, *p)) } else { None });
        options.ip =
            v4.ok_or_else(|| RunError::usage(format!("{dev}: the link to the outside needs an IPv4 address")))?;
        options.ip6 = own().find_map(|(_, c)| if let (IpAddr::V6(a), p) = c { Some((*a, *p)) } else { None });
        if !(8..=30).contains(&options.ip.1) {
            return Err(RunError::usage(format!("{dev}: a prefix from 8 to 30 leaves room for the gateway")));
        }
        options.mtu = topology.links.get(link).map_or(1500, |l| l.mtu);
    }
    let order = order(&topology);
    for (host, h) in topology.hosts.iter().enumerate() {
        let machine = order.get(host).copied().unwrap_or(0);
        let spec = |p: &belljar_topology::Publish| PublishSpec {
            ip: p.ip,
            host_port: p.outer,
            port: p.port,
            udp: p.udp,
            host: machine,
        };
        options.publish.extend(h.publish.iter().map(spec));
    }
    crate::boot::run_up(options, topology)
}

/// The machine of each host: the one at the link to the outside comes first, the gateway second.
fn order(t: &Topology) -> Vec<usize> {
    let Some((_, first, _)) = t.outside() else { return (0..t.hosts.len()).collect() };
    let place = |n: usize| if n == first { 0 } else { n + if n < first { 2 } else { 1 } };
    (0..t.hosts.len()).map(place).collect()
}

/// The way out of the jar for the host at the link to the outside.
pub(crate) struct WayOut {
    pub gateway: Machine,
    pub via: Ipv4Addr,
    pub via6: Option<Ipv6Addr>,
    pub ip: Ipv4Addr,
    pub ip6: Option<Ipv6Addr>,
}

/// Makes the machines of all hosts and the cables between them.
pub(crate) fn machines(
    t: &Topology,
    seed: u64,
    now: u64,
    way_out: Option<WayOut>,
) -> Result<(Vec<Machine>, Vec<Cable>), RunError> {
    let place = order(t);
    let mut made: Vec<(usize, Machine)> = Vec::new();
    let mut ends: Vec<[Option<(usize, DevId)>; 2]> = vec![[None; 2]; t.links.len()];
    let (out_link, out_host) = t.outside().map_or((usize::MAX, usize::MAX), |(l, h, _)| (l, h));
    for (n, h) in t.hosts.iter().enumerate() {
        let machine = place.get(n).copied().unwrap_or(n);
        let config = MachineConfig {
            name: h.name.clone(),
            now,
            wall: clock::realtime_ns(),
            seed: seed.wrapping_add(2 + n as u64),
            addr: None,
            via: None,
            addr6: None,
            via6: None,
            ipv6: false,
            mtu: 1500,
            cpus: 1,
            mem: None,
            nic: Vec::new(),
            sysctls: Vec::new(),
            drop_caps: false,
        };
        let mut m = Machine::new(&config).map_err(RunError::usage)?;
        for p in build::host(t, n, &mut m.k, m.ns).map_err(RunError::usage)? {
            if p.link == out_link {
                m.nic = Some(p.dev);
                continue;
            }
            m.plugs.push((p.dev, p.link, p.end));
            if let Some(end) = ends.get_mut(p.link).and_then(|e| e.get_mut(p.end)) {
                *end = Some((machine, p.dev));
            }
        }
        if let Some(w) = way_out.as_ref().filter(|_| n == out_host) {
            ways(&mut m, w);
        }
        made.push((machine, m));
    }
    if let Some(mut w) = way_out {
        back(&mut w);
        made.push((crate::gateway::GW, w.gateway));
    }
    made.sort_by_key(|(at, _)| *at);
    let mut machines: Vec<Machine> = made.into_iter().map(|(_, m)| m).collect();
    let mut cables = Vec::new();
    for (n, (l, ends)) in t.links.iter().zip(&ends).enumerate() {
        let [Some(a), Some(b)] = *ends else { continue };
        let mut link = Link::new(seed ^ (n as u64 + 1) << 32);
        let [there, again] = l.conditions;
        link.ab.set(there);
        link.ba.set(again);
        // The plug knows the cable, not the link: the one to the outside is none.
        for (machine, dev) in [a, b] {
            let plugs = machines.get_mut(machine).map(|m| &mut m.plugs);
            plugs.into_iter().flatten().filter(|p| p.0 == dev).for_each(|p| p.1 = cables.len());
        }
        cables.push(Cable { name: l.name.clone(), link, ends: [a, b] });
    }
    Ok((machines, cables))
}

/// Default routes out, where the file has none.
fn ways(m: &mut Machine, w: &WayOut) {
    // A default route of the file's own is there already: EEXIST.
    let _ = m.k.add_route(m.ns, Ipv4Addr::UNSPECIFIED, 0, Some(w.via), None);
    if let Some(via) = w.via6 {
        let _ = m.k.net.add_route6(m.ns, Ipv6Addr::UNSPECIFIED, 0, Route6::unicast(Some(via), None));
    }
}

/// What is not on the gateway's own link lies behind the host at its other end.
fn back(w: &mut WayOut) {
    let g = &mut w.gateway;
    let _ = g.k.add_route(g.ns, Ipv4Addr::UNSPECIFIED, 0, Some(w.ip), None);
    if let Some(ip6) = w.ip6 {
        let _ = g.k.net.add_route6(g.ns, Ipv6Addr::UNSPECIFIED, 0, Route6::unicast(Some(ip6), None));
    }
}

impl Up {
    pub(crate) fn new(topology: Topology) -> Up {
        let setup =
            |(n, h): (usize, &belljar_topology::Host)| h.setup.iter().map(move |c| (n, c.clone())).collect::<Vec<_>>();
        let programs = |(host, h): (usize, &belljar_topology::Host)| {
            let one = |program: &Program| Running { host, program: program.clone(), state: State::Waits };
            h.programs.iter().map(one).collect::<Vec<_>>()
        };
        Up {
            machines: order(&topology),
            setup: topology.hosts.iter().enumerate().flat_map(setup).collect(),
            setting_up: None,
            programs: topology.hosts.iter().enumerate().flat_map(programs).collect(),
            writers: Vec::new(),
            width: topology.hosts.iter().map(|h| h.name.len()).max().unwrap_or(0),
            nofile: None,
            over: false,
            topology,
        }
    }

    pub(crate) fn set_nofile(&mut self, nofile: (u64, u64)) {
        self.nofile = Some(nofile);
    }

    /// Addresses of the host that is this machine.
    pub(crate) fn addresses(&self, machine: usize) -> [Option<IpAddr>; 2] {
        let host = self.machines.iter().position(|m| *m == machine).and_then(|n| self.topology.hosts.get(n));
        host.map_or([None; 2], |h| [h.first_address(false), h.first_address(true)])
    }

    fn name(&self, host: usize) -> &str {
        self.topology.hosts.get(host).map_or("", |h| h.name.as_str())
    }
}

impl Jar {
    /// Frames that reached the end of a cable; true when there were any.
    pub(crate) fn cables_deliver(&mut self) -> bool {
        let (now, mut moved) = (self.now, false);
        for c in &mut self.cables {
            for end in [0, 1] {
                let [(a, dev_a), (b, dev_b)] = c.ends;
                let (to, dev) = if end == 0 { (b, dev_b) } else { (a, dev_a) };
                while let Some(frame) = c.pipe(end).pop(now) {
                    moved = true;
                    if let Some(m) = self.machines.get_mut(to) {
                        m.frame_in_at(now, dev, frame);
                    }
                }
            }
        }
        moved
    }

    /// Starts what can start by now.
    pub(crate) fn up_turn(&mut self) {
        let Some(up) = &mut self.up else { return };
        if up.over || up.setting_up.is_some() {
            return;
        }
        if let Some((host, command)) = up.setup.pop_front() {
            match self.up_start(host, &command, &[]) {
                Ok(pid) => self.up.iter_mut().for_each(|up| up.setting_up = Some((pid, host, command.clone()))),
                Err(e) => self.up_fail(host, e.code, &e.message),
            }
            return;
        }
        let ready = |up: &Up, r: &Running| {
            r.state == State::Waits
                && r.program.after.iter().all(|(host, port)| {
                    let m = up.machines.get(*host).and_then(|m| self.machines.get(*m));
                    m.is_some_and(|m| m.has_port(IPPROTO_TCP, *port) || m.has_port(IPPROTO_UDP, *port))
                })
        };
        let due: Vec<usize> = match &self.up {
            Some(up) => (0..up.programs.len()).filter(|n| up.programs.get(*n).is_some_and(|r| ready(up, r))).collect(),
            None => return,
        };
        for n in due {
            self.up_program(n);
        }
    }

    fn up_program(&mut self, n: usize) {
        let Some(r) = self.up.as_ref().and_then(|up| up.programs.get(n)) else { return };
        let (host, command, env) = (r.host, r.program.command.clone(), r.program.env.clone());
        let started = self.up_start(host, &command, &env);
        let state = match &started {
            Ok(pid) => State::Runs(*pid),
            Err(_) => State::Ended,
        };
        if let Some(r) = self.up.as_mut().and_then(|up| up.programs.get_mut(n)) {
            r.state = state;
        }
        if let Err(e) = started {
            self.up_fail(host, e.code, &e.message);
        }
    }

    fn up_start(&mut self, host: usize, c: &Command, env: &[(String, String)]) -> Result<u32, RunError> {
        let Some(up) = &mut self.up else { return Err(RunError::new("no network")) };
        let Some(machine) = up.machines.get(host).copied() else { return Err(RunError::new("no such host")) };
        let io = |e: std::io::Error| RunError::new(format!("cannot start the program: {}", belljar_host::words(&e)));
        let label = format!("{:<1$} | ", up.name(host), up.width);
        let null = File::open("/dev/null").map_err(io)?;
        let ((out, out_in), (err, err_in)) = (fd::pipe().map_err(io)?, fd::pipe().map_err(io)?);
        let mut vars: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        vars.retain(|(k, _)| env.iter().all(|(own, _)| k.to_str() != Some(own)));
        vars.extend(env.iter().map(|(k, v)| (k.into(), v.into())));
        let command = spawn::Command {
            program: c.argv.first().map(OsString::from).unwrap_or_default(),
            args: c.argv.iter().skip(1).map(OsString::from).collect(),
            env: crate::boot::with_lock_file(vars, &self.name),
            stdio: [Some(null.into()), Some(out_in), Some(err_in)],
            nofile: up.nofile,
            ..spawn::Command::default()
        };
        let s = spawn::spawn(&command, &Filter::new(true, self.options.exact), self.signals.before())?;
        drop(command);
        for (from, talk) in [(out, false), (err, true)] {
            let label = label.clone();
            let pour = std::thread::Builder::new().name("output".to_owned()).spawn(move || pour(from, &label, talk));
            up.writers.push(pour.map_err(io)?);
        }
        self.watch_listener(Watched { listener: s.listener, host: machine, ns: None, killable: s.killable });
        Ok(s.pid)
    }

    /// A child ended: a set-up command, a program, or somebody else's.
    pub(crate) fn up_child_ended(&mut self, pid: u32, exit: Exit) {
        let Some(up) = &mut self.up else { return };
        let code = exit.shell_code();
        if up.setting_up.as_ref().is_some_and(|s| s.0 == pid)
            && let Some((_, host, c)) = up.setting_up.take()
        {
            if code != 0 && !up.over {
                let text = format!("setup in line {} ({}) {}", c.line, c.text, words(exit));
                self.up_fail(host, code, &text);
            }
            return;
        }
        let Some(r) = up.programs.iter_mut().find(|r| r.state == State::Runs(pid)) else { return };
        r.state = State::Ended;
        let (host, text) = (r.host, format!("{} {}", r.program.command.text, words(exit)));
        if up.over {
            return;
        }
        if code != 0 {
            return self.up_fail(host, code, &text);
        }
        let working = up.programs.iter().any(|r| !r.program.service && r.state != State::Ended);
        let had_work = up.programs.iter().any(|r| !r.program.service);
        let staying = up.programs.iter().any(|r| r.state != State::Ended);
        if (had_work && !working) || !staying {
            self.up_end(Exit::Code(0));
        }
    }

    fn up_fail(&mut self, host: usize, code: u8, text: &str) {
        let name = self.up.as_ref().map_or("", |up| up.name(host)).to_owned();
        eprintln!("belljar: {name}: {text}");
        self.up_end(Exit::Code(if code == 0 { OWN_FAILURE } else { code }.into()));
    }

    /// The network comes to its end; the first reason is what it ends with.
    pub(crate) fn up_end(&mut self, exit: Exit) {
        self.up.iter_mut().for_each(|up| up.over = true);
        self.life.exit.get_or_insert(exit);
        self.end();
    }

    /// Waits until all that programs wrote is out.
    pub(crate) fn up_finish(&mut self) {
        for w in self.up.iter_mut().flat_map(|up| std::mem::take(&mut up.writers)) {
            let _ = w.join();
        }
    }

    /// Conditions of links as they are asked for and changed.
    pub(crate) fn link_request(
        &mut self,
        word: Option<&str>,
        set: &[(String, String)],
    ) -> Result<serde_json::Value, String> {
        let n = match (&self.up, word) {
            (None, None) => None,
            (None, Some(_)) => return Err("this jar has one link: name only the jar".to_owned()),
            (Some(up), Some(word)) => Some(build::find_link(&up.topology, word)?),
            (Some(up), None) if up.topology.links.len() == 1 => Some(0),
            (Some(up), None) if set.is_empty() => {
                let all = up.topology.links.iter().map(|l| self.link_value(Some(l)));
                return Ok(serde_json::json!({ "links": all.collect::<Vec<_>>() }));
            }
            (Some(up), None) => {
                let names: Vec<&str> = up.topology.links.iter().map(|l| l.name.as_str()).collect();
                return Err(format!("which link? Write JAR/LINK with one of {}", names.join(", ")));
            }
        };
        let l = n.and_then(|n| self.up.as_ref()?.topology.links.get(n).cloned());
        if !set.is_empty() {
            let words = set.iter().flat_map(|(k, v)| [k.as_str(), v.as_str()]).filter(|w| !w.is_empty());
            let link = match l.as_ref().and_then(|l| self.cables.iter_mut().find(|c| c.name == l.name)) {
                Some(c) => &mut c.link,
                None => &mut self.link,
            };
            let words: Vec<&str> = words.collect();
            for pipe in [&mut link.ab, &mut link.ba] {
                let c = pipe.conditions().apply(words.iter().copied()).map_err(|e| e.to_string())?;
                pipe.set(c);
            }
            let c = *link.ab.conditions();
            self.tell(|_| format!("conditions of the link from now on: {c}"));
        }
        Ok(self.link_value(l.as_ref()))
    }

    fn link_value(&self, l: Option<&belljar_topology::Link>) -> serde_json::Value {
        let cable = l.and_then(|l| self.cables.iter().find(|c| c.name == l.name));
        let link = cable.map_or(&self.link, |c| &c.link);
        let side = |p: &Pipe| {
            let s = p.stats();
            serde_json::json!({
                "sent": s.sent, "bytes": s.bytes, "queued": p.len(), "lost": s.lost, "duplicated": s.duplicated,
                "corrupted": s.corrupted, "reordered": s.reordered, "overlimit": s.overlimit, "marked": s.marked,
                "policed": s.policed,
            })
        };
        let mut value = serde_json::json!({
            "conditions": link.ab.conditions().to_string(),
            "out": side(&link.ab),
            "in": side(&link.ba),
        });
        if let (Some(l), Some(map)) = (l, value.as_object_mut()) {
            map.insert("name".to_owned(), l.name.clone().into());
        }
        if let (true, Some(map)) = (link.ab.conditions() != link.ba.conditions(), value.as_object_mut()) {
            map.insert("back".to_owned(), link.ba.conditions().to_string().into());
        }
        value
    }
}

/// From the host to the gateway, and back.
pub(crate) fn outside_conditions(t: &Topology) -> Option<[belljar_link::Conditions; 2]> {
    let l = t.links.get(t.outside()?.0)?;
    let [there, back] = l.conditions;
    Some(if matches!(l.ends, [End::Outside, _]) { [back, there] } else { [there, back] })
}

fn words(exit: Exit) -> String {
    match exit {
        Exit::Code(c) => format!("ended with code {c}"),
        Exit::Signal(s) => format!("was ended by signal {s}"),
    }
}

/// Copies what a program writes, line by line, with its host's name before each. Who reads us slowly delays this program
/// only; when nobody reads any more it is told as in any pipeline.
fn pour(from: OwnedFd, label: &str, talk: bool) {
    let mut from = BufReader::new(File::from(from));
    let mut line = Vec::new();
    loop {
        line.clear();
        line.extend_from_slice(label.as_bytes());
        match from.by_ref().take(LINE).read_until(b'\n', &mut line) {
            Ok(n) if n > 0 => {}
            _ => return,
        }
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        let written = match talk {
            true => std::io::stderr().lock().write_all(&line),
            false => {
                let mut out = std::io::stdout().lock();
                out.write_all(&line).and_then(|()| out.flush())
            }
        };
        if written.is_err() {
            return;
        }
    }
}
