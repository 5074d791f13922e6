//! The supervisor's side of the control socket: who may speak, what is answered, programs started by `exec`.
use super::frame::{Reader, encode};
use super::{ExecRequest, Hello, JarInfo, Reply, Request, Words};
use crate::boot::with_lock_file;
use crate::jar::{Jar, Watched};
use crate::key::Key;
use crate::services::Services;
use crate::tc;
use belljar_abi::Errno;
use belljar_host::process::{Exit, euid};
use belljar_host::seccomp::Filter;
use belljar_host::spawn::{self, Command};
use belljar_host::{control, epoll, fd, process, rundir, signal, task};
use belljar_kernel::ids::NsId;
use belljar_kernel::net::netfilter::words::program_of;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

const MAX_CLIENTS: usize = 64;
/// Answers a client may leave unread.
const MAX_OUT: usize = 128 << 20;

/// A connected command.
#[derive(Debug)]
struct Conn {
    socket: UnixStream,
    reader: Reader,
    out: Vec<u8>,
    greeted: bool,
    /// The program it started with `Exec`.
    child: Option<u32>,
    /// Hang up when everything is written.
    closing: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Server {
    listener: Option<UnixListener>,
    conns: Vec<Option<Conn>>,
    /// Holds the jar's name; dropped, it removes the jar's files.
    claim: Option<rundir::Claim>,
}

impl Server {
    pub fn new(claim: rundir::Claim, ep: &epoll::Epoll) -> std::io::Result<Server> {
        let listener = UnixListener::bind(claim.socket())?;
        listener.set_nonblocking(true)?;
        ep.add(&listener, epoll::IN, Key::ControlListener.pack())?;
        Ok(Server { listener: Some(listener), conns: Vec::new(), claim: Some(claim) })
    }

    /// Writes the jar's line for those who only look at the directory.
    pub fn note(&mut self, text: &str) {
        if let Some(c) = &mut self.claim {
            let _ = c.note(text);
        }
    }
}

impl Jar {
    pub(crate) fn control_accept(&mut self) {
        let Some(l) = &self.control.listener else { return };
        let Ok((socket, _)) = l.accept() else { return };
        // Only the owner may look into the jar, whatever the file modes say.
        let allowed = control::peer(&socket).is_ok_and(|p| p.uid == euid() || p.uid == 0);
        if !allowed || socket.set_nonblocking(true).is_err() {
            return;
        }
        let conns = &mut self.control.conns;
        let n = conns.iter().position(Option::is_none).unwrap_or(conns.len());
        if n >= MAX_CLIENTS || self.ep.add(&socket, epoll::IN | epoll::RDHUP, Key::Control(n as u32).pack()).is_err() {
            return;
        }
        let conn =
            Conn { socket, reader: Reader::default(), out: Vec::new(), greeted: false, child: None, closing: false };
        match conns.get_mut(n) {
            Some(slot) => *slot = Some(conn),
            None => conns.push(Some(conn)),
        }
    }

    pub(crate) fn control_event(&mut self, n: u32, events: u32) {
        if events & epoll::OUT != 0 {
            self.control_flush(n);
        }
        let mut open = true;
        while open {
            let Some(Some(c)) = self.control.conns.get_mut(n as usize) else { return };
            match c.reader.fill(&c.socket) {
                Ok(more) => open = more,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => open = false,
            }
            open &= self.control_messages(n);
        }
        if !open {
            self.control_hang_up(n);
        }
    }

    /// Whole messages that arrived; false when the client speaks nonsense.
    fn control_messages(&mut self, n: u32) -> bool {
        loop {
            let Some(Some(c)) = self.control.conns.get_mut(n as usize) else { return true };
            if !c.greeted {
                match c.reader.take::<Hello>() {
                    Ok(Some(h)) => {
                        c.greeted = true;
                        c.closing = h.mismatch().is_some();
                        self.control_send(n, &Hello::ours());
                    }
                    Ok(None) => return true,
                    Err(_) => return false,
                }
                continue;
            }
            match c.reader.take::<Request>() {
                Ok(Some(request)) => {
                    let fds = c.reader.take_fds();
                    if let Some(reply) = self.control_request(n, request, fds) {
                        self.control_send(n, &reply);
                    }
                }
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    fn control_send<T: serde::Serialize>(&mut self, n: u32, message: &T) {
        let Some(Some(c)) = self.control.conns.get_mut(n as usize) else { return };
        match encode(message) {
            Ok(b) if c.out.len() + b.len() <= MAX_OUT => c.out.extend_from_slice(&b),
            _ => c.closing = true,
        }
        self.control_flush(n);
    }

    fn control_flush(&mut self, n: u32) {
        let Some(Some(c)) = self.control.conns.get_mut(n as usize) else { return };
        while !c.out.is_empty() {
            match fd::send(&c.socket, &c.out) {
                Ok(sent) => drop(c.out.drain(..sent)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    let events = epoll::IN | epoll::OUT | epoll::RDHUP;
                    let _ = self.ep.modify(&c.socket, events, Key::Control(n).pack());
                    return;
                }
                Err(_) => return self.control_hang_up(n),
            }
        }
        let _ = self.ep.modify(&c.socket, epoll::IN | epoll::RDHUP, Key::Control(n).pack());
        if c.closing {
            self.control_hang_up(n);
        }
    }

    fn control_hang_up(&mut self, n: u32) {
        let Some(c) = self.control.conns.get_mut(n as usize).and_then(Option::take) else { return };
        // As when a terminal goes away.
        if let Some(pid) = c.child {
            let _ = task::kill(pid, signal::SIGHUP);
        }
    }

    fn control_request(&mut self, n: u32, request: Request, fds: Vec<OwnedFd>) -> Option<Reply> {
        Some(match request {
            Request::Info => value(&self.info()),
            Request::View { host, what } => self.with_host(&host, |jar, i| jar.view(i, &what)),
            Request::Netns { host, verb, name } => self.netns(&host, &verb, &name),
            Request::SysctlSet { host, key, value } => self.with_host(&host, |jar, i| {
                let m = jar.machines.get_mut(i).ok_or_else(|| "no such host".to_owned())?;
                m.sysctl_set(&key, &value)?;
                jar.tell(|jar| {
                    let host = jar.machines.get(i).map_or("", |m| m.name.as_str());
                    format!("{key} = {value} from now on, on {host}")
                });
                Ok(Reply::Ok)
            }),
            Request::Tables { host, words, input } => self.with_host(&host, |jar, i| jar.tables(i, &words, &input)),
            Request::Tc { host, kind, flags, body } => {
                let refused = |message| Reply::Error { message, code: 2 };
                self.with_host(&host, |jar, i| {
                    let m = jar.machines.get_mut(i).ok_or_else(|| "no such host".to_owned())?;
                    Ok(tc::request(&mut m.k, m.ns, kind, flags, &body)
                        .map_or_else(refused, |value| Reply::Value { value }))
                })
            }
            Request::Rtnetlink { host, message, netns } => {
                let now = self.now;
                self.with_host(&host, |jar, i| {
                    let m = jar.machines.get_mut(i).ok_or_else(|| "no such host".to_owned())?;
                    let answers = crate::netlink::direct(now, m, &message, netns.as_deref())?;
                    jar.sweep_spaces();
                    Ok(value(&answers))
                })
            }
            Request::Link { set, link } => match self.link_request(link.as_deref(), &set) {
                Ok(value) => Reply::Value { value },
                Err(message) => Reply::Error { message, code: 2 },
            },
            Request::Capture { host, device } => self.with_host(&host, |jar, i| {
                let fd = fds.into_iter().next().ok_or_else(|| "no descriptor came with the request".to_owned())?;
                if let Some(d) = device.as_deref().filter(|d| *d != "any") {
                    let known = jar.machines.get(i).is_some_and(|m| m.devices().iter().any(|x| x.name == d));
                    if !known {
                        return Err(format!("{d}: no such device in this host"));
                    }
                }
                // As tcpdump there: one namespace, the host's own unless another is named.
                let ns = jar.machines.get(i).map(|m| m.ns);
                jar.record.add_capture((i, ns), device, fd).map_err(|e| e.to_string())?;
                jar.apply_wanted();
                Ok(Reply::Ok)
            }),
            Request::Trace { host } => self.with_host(&host, |jar, i| {
                let fd = fds.into_iter().next().ok_or_else(|| "no descriptor came with the request".to_owned())?;
                let ns = jar.machines.get(i).filter(|m| m.ns != m.home).map(|m| m.ns);
                jar.record.add_trace((i, ns), fd);
                jar.apply_wanted();
                Ok(Reply::Ok)
            }),
            Request::Exec(e) => self.exec(n, e, fds),
            Request::Signal { signal } => {
                let child = self.control.conns.get(n as usize).and_then(Option::as_ref).and_then(|c| c.child);
                if let Some(pid) = child {
                    let _ = task::kill(pid, signal);
                }
                return None;
            }
            Request::Stop => {
                match self.up {
                    Some(_) => self.up_end(Exit::Code(0)),
                    None => self.end(),
                }
                Reply::Ok
            }
        })
    }

    /// `HOST` or `HOST@NETNS`.
    fn place(&self, host: &str) -> Result<(usize, Option<NsId>), String> {
        let (mut host, mut netns) = host.split_once('@').map_or((host, None), |(h, n)| (h, Some(n)));
        // JAR@HOST where hosts have names: short for JAR/HOST.
        if let Some(name) =
            netns.filter(|n| self.up.is_some() && host == "host" && self.machines.iter().any(|m| m.name == *n))
        {
            (host, netns) = (name, None);
        }
        let Some(i) = self.machines.iter().position(|m| m.name == host) else {
            let names: Vec<&str> = self.machines.iter().map(|m| m.name.as_str()).collect();
            return Err(format!("no host '{host}' in this jar; there are: {}", names.join(", ")));
        };
        let Some(name) = netns else { return Ok((i, None)) };
        let ns = self.machines.get(i).and_then(|m| m.names.get(name)).copied();
        ns.map(|ns| (i, Some(ns)))
            .ok_or_else(|| format!("Cannot open network namespace \"{name}\": No such file or directory"))
    }

    fn with_host(&mut self, host: &str, f: impl FnOnce(&mut Jar, usize) -> Result<Reply, String>) -> Reply {
        let (i, ns) = match self.place(host) {
            Ok(found) => found,
            Err(message) => return Reply::error(message),
        };
        if let (Some(m), Some(ns)) = (self.machines.get_mut(i), ns) {
            m.enter(ns);
        }
        let reply = f(self, i).unwrap_or_else(Reply::error);
        if let Some(m) = self.machines.get_mut(i) {
            m.leave();
        }
        reply
    }

    fn netns(&mut self, host: &str, verb: &str, name: &str) -> Reply {
        let i = match self.place(host) {
            Err(message) => return Reply::error(message),
            Ok((i, _)) => i,
        };
        let Some(m) = self.machines.get_mut(i) else { return Reply::error("no such host") };
        let done = match verb {
            "list" => Ok(()),
            "add" => m.add_netns(name).map(drop),
            "del" => m.forget_netns(name),
            _ => Err(Errno::EOPNOTSUPP),
        };
        let reply = match (done, verb) {
            (Ok(()), _) => value(&m.names.keys().collect::<Vec<_>>()),
            (Err(e), "add") => Reply::error(format!("Cannot create namespace \"{name}\": {e}")),
            (Err(e), _) => Reply::error(format!("Cannot remove namespace \"{name}\": {e}")),
        };
        self.sweep_spaces();
        reply
    }

    /// One command line about tables or connections of a host.
    fn tables(&mut self, host: usize, words: &[String], input: &str) -> Result<Reply, String> {
        let m = self.machines.get_mut(host).ok_or_else(|| "no such host".to_owned())?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (program, args) = words.split_first().ok_or_else(|| "no command".to_owned())?;
        let ns = m.ns;
        if *program == "xdp" {
            let o = m.k.xdp_words(ns, args);
            return Ok(value(&Words { stdout: o.stdout, stderr: o.stderr, code: o.code }));
        }
        let done = program_of(&mut m.k, ns, program, args, input, &Services::load());
        let o = done.ok_or_else(|| format!("{program}: no such command"))?;
        Ok(value(&Words { stdout: o.stdout, stderr: o.stderr, code: o.code }))
    }

    fn info(&self) -> JarInfo {
        let o = &self.options;
        let text = |s: &OsString| s.to_string_lossy().into_owned();
        JarInfo {
            name: self.name.clone(),
            pid: std::process::id(),
            command: std::iter::once(text(&o.program)).chain(o.args.iter().map(text)).collect(),
            program_pid: match (&self.life.exit, &self.up) {
                (Some(_), _) => 0,
                // The network itself is what runs.
                (None, Some(_)) => std::process::id(),
                (None, None) => self.life.program,
            },
            age_s: self.now.saturating_sub(self.machines.first().map_or(0, |m| m.booted)) / 1_000_000_000,
            hosts: self.machines.iter().map(|m| m.name.clone()).collect(),
            ports: self.ports.clone(),
            processes: process::descendants(std::process::id()).len(),
            sockets: self.socks.len(),
        }
    }

    /// Starts a program in a host of the jar, as our child like all others.
    fn exec(&mut self, n: u32, e: ExecRequest, fds: Vec<OwnedFd>) -> Reply {
        let (host, ns) = match self.place(&e.host) {
            Ok(found) => found,
            Err(message) => return Reply::Error { message, code: 125 },
        };
        let mut argv = e.argv.into_iter().map(OsString::from);
        let Some(program) = argv.next() else {
            return Reply::Error { message: "no program given".into(), code: 2 };
        };
        let mut fds = fds.into_iter();
        let command = Command {
            program,
            args: argv.collect(),
            env: with_lock_file(e.env.into_iter().map(|(k, v)| (k.into(), v.into())).collect(), &self.name),
            cwd: e.cwd.map(Into::into),
            stdio: [fds.next(), fds.next(), fds.next()],
            nofile: e.nofile,
            session: true,
            umask: e.umask,
        };
        match spawn::spawn(&command, &Filter::new(true, self.options.exact), self.signals.before()) {
            Ok(s) => {
                let pid = s.pid;
                self.tell(|_| format!("{} starts, process {pid}, by exec", command.program.to_string_lossy()));
                if let Some(ns) = ns {
                    self.spaces.started.insert(pid, (host, ns));
                }
                self.watch_listener(Watched { listener: s.listener, host, ns, killable: s.killable });
                if let Some(Some(c)) = self.control.conns.get_mut(n as usize) {
                    c.child = Some(pid);
                }
                Reply::Started { pid }
            }
            Err(e) => Reply::Error { code: e.exit_code(), message: e.to_string() },
        }
    }

    pub(crate) fn watch_listener(&mut self, w: Watched) {
        let n = self.listeners.iter().position(Option::is_none).unwrap_or(self.listeners.len());
        let _ = self.ep.add(&w.listener, epoll::IN, Key::Listener(n as u32).pack());
        match self.listeners.get_mut(n) {
            Some(slot) => *slot = Some(w),
            None => self.listeners.push(Some(w)),
        }
    }

    /// A child ended; whoever started it is told.
    pub(crate) fn control_child_ended(&mut self, pid: u32, exit: Exit) {
        let owner = self.control.conns.iter().position(|c| c.as_ref().is_some_and(|c| c.child == Some(pid)));
        if let Some(n) = owner {
            if let Some(Some(c)) = self.control.conns.get_mut(n) {
                c.child = None;
            }
            self.control_send(n as u32, &Reply::Exited { code: exit.shell_code() });
        }
    }
}

fn value<T: serde::Serialize>(v: &T) -> Reply {
    match serde_json::to_value(v) {
        Ok(value) => Reply::Value { value },
        Err(e) => Reply::error(e.to_string()),
    }
}
