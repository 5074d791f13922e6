//! Network namespaces as programs make and enter them: unshare, setns, and what `ip netns` does under `/run/netns`.
//!
//! The names there are the host's (`machine/spaces.rs`): the directory is one of ours, opening a name gives a descriptor that
//! stands for the namespace, and mounts, which keep a namespace alive on Linux, only give and take names. A thread is in the
//! namespace that it entered, or its process, or the nearest ancestor that entered one.
use super::{Outcome, attempt};
use crate::jar::Jar;
use belljar_abi::Errno;
use belljar_host::seccomp::{Notification, Sys};
use belljar_host::{epoll, errno, fd, memory, task};
use belljar_kernel::ids::NsId;
use belljar_kernel::net::netlink::NetnsRef;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};

const PATH_MAX: usize = 4096;
const CLONE_NEWNS: i32 = 0x2_0000;
const MS_BIND: u64 = 4096;
const MS_REC_SLAVE: u64 = (1 << 14) | (1 << 19);
const O_CREAT: i32 = 0o100;
const O_CLOEXEC: i32 = 0o2_000_000;
/// Descriptors that stand for namespaces and are remembered.
const MOST_FDS: usize = 1024;
/// So many, and those that are closed are looked for.
const MANY_FDS: usize = 64;
/// Generations of processes that are looked back for one that entered a namespace.
const GENERATIONS: usize = 64;

/// A descriptor of a program that stands for a namespace: known by the inode behind it, while our end is not hung up.
#[derive(Debug)]
struct NsFd {
    inode: u64,
    ours: OwnedFd,
    host: usize,
    ns: NsId,
}

/// Who is where, and which descriptors stand for what.
#[derive(Debug, Default)]
pub struct Spaces {
    /// Threads that entered a namespace.
    entered: BTreeMap<u32, (usize, NsId)>,
    /// Processes started in one by `exec`.
    pub(crate) started: BTreeMap<u32, (usize, NsId)>,
    /// Oldest first.
    fds: VecDeque<NsFd>,
    /// Names that were opened with O_CREAT and wait for their mount.
    pending: Vec<(usize, String)>,
}

/// The name below `/run/netns`; empty for the directory itself.
fn below(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/run/netns").or_else(|| path.strip_prefix("/var/run/netns"))?;
    match rest.strip_prefix('/') {
        Some(name) => Some(name.trim_end_matches('/')).filter(|n| !n.contains('/')),
        None => Some("").filter(|_| rest.is_empty()),
    }
}

fn is_ns_link(path: &str) -> bool {
    matches!(path, "/proc/self/ns/net" | "/proc/thread-self/ns/net")
}

/// The parent of a process.
fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok().filter(|p| *p > 1)
}

impl Spaces {
    /// The namespace of a thread that did not begin in the one that it is in.
    pub fn of(&self, tid: u32) -> Option<(usize, NsId)> {
        if self.entered.is_empty() {
            return None;
        }
        self.find(tid, &self.entered)
    }

    fn find(&self, tid: u32, all: &BTreeMap<u32, (usize, NsId)>) -> Option<(usize, NsId)> {
        if let Some(found) = all.get(&tid) {
            return Some(*found);
        }
        let mut pid = task::tgid(tid)?;
        for _ in 0..GENERATIONS {
            if let Some(found) = all.get(&pid) {
                return Some(*found);
            }
            pid = parent(pid)?;
        }
        None
    }

    fn of_fd(&self, copy: &impl AsFd) -> Option<(usize, NsId)> {
        let inode = fd::socket_inode(copy).ok().flatten()?;
        self.fds.iter().rev().find(|f| f.inode == inode).map(|f| (f.host, f.ns))
    }

    /// What a request of a thread means by another namespace.
    pub fn resolve(&self, tasks: &mut task::Tasks, tid: u32, by: NetnsRef) -> Option<NsId> {
        match by {
            NetnsRef::Fd(n) => self.of_fd(&tasks.copy_fd(tid, n).ok()?).map(|f| f.1),
            NetnsRef::Pid(pid) => {
                task::tgid(pid)?;
                self.find(pid, &self.entered).or_else(|| self.find(pid, &self.started)).map(|f| f.1)
            }
        }
    }

    fn uses(&self, ns: NsId) -> bool {
        self.entered.values().chain(self.started.values()).any(|e| e.1 == ns) || self.fds.iter().any(|f| f.ns == ns)
    }

    fn forget_closed(&mut self) {
        self.fds.retain(|f| epoll::poll_now(&f.ours, 1) & epoll::HUP == 0);
    }

    /// Threads and processes that are gone are nowhere, and what they had open is closed.
    fn forget_dead(&mut self) {
        self.forget_closed();
        self.entered.retain(|tid, _| task::tgid(*tid).is_some());
        self.started.retain(|pid, _| task::tgid(*pid).is_some());
    }
}

impl Jar {
    /// Calls of [`Sys::is_netns`]; what is not about namespaces is the host kernel's.
    pub(crate) fn sys_netns(&mut self, listener: u32, note: &Notification) -> Outcome {
        let host = self.host_of(listener);
        let path = |n: usize| {
            let bytes = memory::read_cstr(note.tid, note.word(n), PATH_MAX).ok();
            bytes.and_then(|b| String::from_utf8(b).ok()).unwrap_or_default()
        };
        let inside = self.spaces.entered.contains_key(&note.tid);
        match note.sys {
            Sys::Unshare if note.int(0) == CLONE_NEWNS => {
                // For `ip netns exec`, which hides /sys in it: our /sys follows the namespace by itself.
                if inside { Outcome::Reply(Ok(0)) } else { Outcome::Continue }
            }
            Sys::Unshare => self.unshare_net(host, note),
            Sys::Setns => self.setns(note),
            Sys::Mount => {
                let (from, to, flags) = (path(0), path(1), note.word(3));
                match below(&to) {
                    Some(name) if flags & MS_BIND != 0 && is_ns_link(&from) => self.name_netns(host, note, name),
                    Some(_) => Outcome::Reply(Ok(0)),
                    None if inside && (to == "/sys" || (to == "/" && flags & MS_REC_SLAVE == MS_REC_SLAVE)) => {
                        Outcome::Reply(Ok(0))
                    }
                    None => Outcome::Continue,
                }
            }
            Sys::Umount2 => match path(0) {
                p if below(&p).is_some() || (inside && p == "/sys") => Outcome::Reply(Ok(0)),
                _ => Outcome::Continue,
            },
            sys => {
                let p = path(usize::from(matches!(sys, Sys::Mkdirat | Sys::Unlinkat)));
                match below(&p) {
                    None => Outcome::Continue,
                    Some(_) if sys.is_mkdir() => Errno::EEXIST.into(),
                    Some(name) => self.unlink_netns(host, note, name),
                }
            }
        }
    }

    /// The threads that calls are from, in the namespace that they entered.
    pub(crate) fn ns_of(&self, listener: u32, tid: u32) -> Option<NsId> {
        let watched = self.listeners.get(listener as usize).and_then(Option::as_ref);
        self.spaces.of(tid).map(|f| f.1).or_else(|| watched.and_then(|w| w.ns))
    }

    fn unshare_net(&mut self, host: usize, note: &Notification) -> Outcome {
        if !self.privileged(note.tid) {
            return Errno::EPERM.into();
        }
        self.sweep_spaces();
        let Some(m) = self.machines.get_mut(host) else { return Errno::EINVAL.into() };
        let ns = attempt!(m.anonymous_netns());
        self.spaces.entered.insert(note.tid, (host, ns));
        Outcome::Reply(Ok(0))
    }

    fn setns(&mut self, note: &Notification) -> Outcome {
        let Ok(copy) = self.tasks.copy_fd(note.tid, note.int(0)) else { return Outcome::Continue };
        let Some(found) = self.spaces.of_fd(&copy) else { return Outcome::Continue };
        if !self.privileged(note.tid) {
            return Errno::EPERM.into();
        }
        self.spaces.entered.insert(note.tid, found);
        Outcome::Reply(Ok(0))
    }

    fn name_netns(&mut self, host: usize, note: &Notification, name: &str) -> Outcome {
        if !self.privileged(note.tid) {
            return Errno::EPERM.into();
        }
        self.spaces.pending.retain(|p| *p != (host, name.to_owned()));
        let Some(m) = self.machines.get_mut(host) else { return Errno::EINVAL.into() };
        let ns = m.ns;
        m.name_netns(name, ns).map(|()| 0).into()
    }

    fn unlink_netns(&mut self, host: usize, note: &Notification, name: &str) -> Outcome {
        if !self.privileged(note.tid) {
            return Errno::EPERM.into();
        }
        self.spaces.pending.retain(|p| *p != (host, name.to_owned()));
        let Some(m) = self.machines.get_mut(host) else { return Errno::ENOENT.into() };
        let gone = m.forget_netns(name);
        self.sweep_spaces();
        gone.map(|()| 0).into()
    }

    /// Opens what is under `/run/netns`, and a thread's own namespace; `None` for other paths.
    pub(crate) fn open_netns(
        &mut self,
        listener: u32,
        note: &Notification,
        path: &[u8],
        flags: i32,
    ) -> Option<Outcome> {
        let path = std::str::from_utf8(path).ok()?;
        let host = self.host_of(listener);
        if is_ns_link(path) {
            let ns = self.machines.get(host)?.ns;
            return Some(self.plant_netns(listener, note, host, ns, flags));
        }
        let name = below(path)?;
        if name.is_empty() {
            return Some(self.plant_names(listener, note, host, flags));
        }
        let known = self.machines.get(host)?.names.get(name).copied();
        Some(match known {
            Some(_) if flags & O_CREAT != 0 => Errno::EEXIST.into(),
            Some(ns) => self.plant_netns(listener, note, host, ns, flags),
            None if flags & O_CREAT == 0 => Errno::ENOENT.into(),
            None if !self.privileged(note.tid) => Errno::EACCES.into(),
            None => {
                // The file that a mount will cover.
                self.spaces.pending.truncate(MOST_FDS);
                self.spaces.pending.push((host, name.to_owned()));
                self.plant_file(listener, note, flags)
            }
        })
    }

    fn plant_file(&mut self, listener: u32, note: &Notification, flags: i32) -> Outcome {
        let file = attempt!(fd::memfd("belljar-netns", b"").map_err(|e| Errno(errno(&e))));
        let Some(l) = self.listener(listener) else { return Outcome::Continue };
        match l.reply_fd(note.id, &file, flags & O_CLOEXEC != 0) {
            Ok(_) => Outcome::Answered,
            Err(e) => Errno(errno(&e)).into(),
        }
    }

    fn plant_netns(&mut self, listener: u32, note: &Notification, host: usize, ns: NsId, flags: i32) -> Outcome {
        let (theirs, ours) = attempt!(fd::pair_stream().map_err(|e| Errno(errno(&e))));
        let inode = fd::socket_inode(&theirs).ok().flatten().unwrap_or(0);
        let Some(l) = self.listener(listener) else { return Outcome::Continue };
        match l.reply_fd(note.id, &theirs, flags & O_CLOEXEC != 0) {
            Ok(_) => {
                self.spaces.fds.push_back(NsFd { inode, ours, host, ns });
                if self.spaces.fds.len() > MANY_FDS {
                    self.spaces.forget_closed();
                }
                if self.spaces.fds.len() > MOST_FDS {
                    self.spaces.fds.pop_front();
                }
                Outcome::Answered
            }
            Err(e) => Errno(errno(&e)).into(),
        }
    }

    /// Namespaces that nobody is in, and that have no name, go.
    pub(crate) fn sweep_spaces(&mut self) {
        self.spaces.forget_dead();
        for host in 0..self.machines.len() {
            let Some(m) = self.machines.get(host) else { continue };
            let named = |ns: NsId| ns == m.home || m.names.values().any(|n| *n == ns);
            let watched = |ns: NsId| self.listeners.iter().flatten().any(|w| w.host == host && w.ns == Some(ns));
            let idle: Vec<NsId> =
                m.k.net
                    .ns
                    .iter()
                    .map(|n| n.0)
                    .filter(|ns| !named(*ns) && !watched(*ns) && !self.spaces.uses(*ns))
                    .collect();
            if let Some(m) = self.machines.get_mut(host) {
                // With sockets in it, it stays until they are closed.
                for ns in idle {
                    let _ = m.k.del_ns(ns, Some(m.home));
                }
            }
        }
    }
}
