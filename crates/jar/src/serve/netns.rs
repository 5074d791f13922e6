//! Network namespaces as programs make and enter them: unshare, setns, and what `ip netns` does under `/run/netns`.
//!
//! The names there are the host's (`machine/spaces.rs`): the directory is one of ours, opening a name gives a descriptor that
//! stands for the namespace, the same socket for all who open it, whose number is the namespace's. Mounts, which keep a
//! namespace alive on Linux, only give and take names. A thread is in the
//! namespace that it entered, or its process, or the nearest ancestor that entered one.
use super::{Outcome, attempt};
use crate::jar::Jar;
use belljar_abi::Errno;
use belljar_host::seccomp::{Notification, Sys};
use belljar_host::{errno, fd, memory, process, task};
use belljar_kernel::ids::NsId;
use belljar_kernel::net::netlink::NetnsRef;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

const PATH_MAX: usize = 4096;
const CLONE_NEWNS: i32 = 0x2_0000;
const MS_BIND: u64 = 4096;
const MS_REC_SLAVE: u64 = (1 << 14) | (1 << 19);
const O_ACCMODE: i32 = 3;
const O_CREAT: i32 = 0o100;
const O_EXCL: i32 = 0o200;
const O_NOFOLLOW: i32 = 0o400_000;
const O_PATH: i32 = 0o10_000_000;
const O_CLOEXEC: i32 = 0o2_000_000;
/// Names that wait for their mount.
const MOST_PENDING: usize = 1024;
/// Generations of processes that are looked back for one that entered a namespace.
const GENERATIONS: usize = 64;

/// What stands for a namespace in programs: it cannot be read, as on Linux.
#[derive(Debug)]
struct NsFile {
    socket: OwnedFd,
    dev: u64,
    inode: u64,
}

/// What a path says of namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NsPlace {
    /// `/run/netns`.
    Names,
    /// A name in it, and what it names.
    Name(String, Option<NsId>),
    /// `/proc/PID/ns/net`.
    Link(NsId),
    /// A descriptor that stands for one, by its link.
    Fd(NsId),
}

/// Who is where, and which descriptors stand for what.
#[derive(Debug, Default)]
pub struct Spaces {
    /// Threads that entered a namespace.
    entered: BTreeMap<u32, (usize, NsId)>,
    /// Processes started in one by `exec`.
    pub(crate) started: BTreeMap<u32, (usize, NsId)>,
    files: BTreeMap<(usize, NsId), NsFile>,
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

/// Whose namespace a path of `/proc` names: a process or thread, itself for 0.
fn ns_link(path: &str) -> Option<u32> {
    let who = path.strip_prefix("/proc/")?.strip_suffix("/ns/net")?;
    match who.split_once("/task/").map_or(who, |(_, thread)| thread) {
        "self" | "thread-self" => Some(0),
        pid => pid.parse().ok().filter(|p| *p > 0),
    }
}

/// Whose descriptor a path names.
fn fd_link(path: &str, tid: u32) -> Option<(u32, u32)> {
    if let Some(n) = path.strip_prefix("/dev/fd/") {
        return Some((tid, n.parse().ok()?));
    }
    let (who, n) = path.strip_prefix("/proc/")?.split_once("/fd/")?;
    let who = if matches!(who, "self" | "thread-self") { tid } else { who.parse().ok()? };
    Some((who, n.parse().ok()?))
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
        self.of_inode(fd::socket_inode(copy).ok().flatten()?)
    }

    fn of_inode(&self, inode: u64) -> Option<(usize, NsId)> {
        self.files.iter().find(|f| f.1.inode == inode).map(|f| *f.0)
    }

    fn file(&mut self, host: usize, ns: NsId) -> io::Result<&NsFile> {
        match self.files.entry((host, ns)) {
            Entry::Occupied(e) => Ok(e.into_mut()),
            Entry::Vacant(e) => {
                let socket = fd::loose_socket()?;
                let (dev, inode) = fd::identity(&socket)?;
                Ok(e.insert(NsFile { socket, dev, inode }))
            }
        }
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

    /// Namespaces that somebody is in, or has open.
    fn used(&self) -> BTreeSet<(usize, NsId)> {
        let inside = self.entered.values().chain(self.started.values()).copied();
        let open = if self.files.is_empty() {
            Vec::new()
        } else {
            process::sockets(&process::descendants(std::process::id()))
        };
        inside.chain(open.iter().filter_map(|o| self.of_inode(o.inode))).collect()
    }

    /// Threads and processes that are gone are nowhere.
    fn forget_dead(&mut self) {
        self.entered.retain(|tid, _| task::tgid(*tid).is_some());
        self.started.retain(|pid, _| task::tgid(*pid).is_some());
    }
}

/// Whether a process is one of the jar's.
pub(super) fn is_ours(pid: u32) -> bool {
    let us = std::process::id();
    let mut above = parent(pid);
    for _ in 0..GENERATIONS {
        match above {
            Some(p) if p == us => return true,
            Some(p) => above = parent(p),
            None => return false,
        }
    }
    false
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
                    Some(name) if flags & MS_BIND != 0 && ns_link(&from).is_some() => {
                        self.name_netns(host, note, &from, name)
                    }
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

    fn name_netns(&mut self, host: usize, note: &Notification, from: &str, name: &str) -> Outcome {
        if !self.privileged(note.tid) {
            return Errno::EPERM.into();
        }
        self.spaces.pending.retain(|p| *p != (host, name.to_owned()));
        let Some(NsPlace::Link(ns)) = self.ns_place(host, note.tid, from) else { return Errno::EINVAL.into() };
        let Some(m) = self.machines.get_mut(host) else { return Errno::EINVAL.into() };
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

    /// The namespace of a process or thread of this jar: that of a caller is the one that its call is about.
    pub(super) fn ns_of_process(&self, host: usize, tid: u32, pid: u32) -> Option<NsId> {
        let m = self.machines.get(host)?;
        if pid == 0 || pid == tid || Some(pid) == task::tgid(tid) {
            return Some(m.ns);
        }
        let found = self.spaces.find(pid, &self.spaces.entered).or_else(|| self.spaces.find(pid, &self.spaces.started));
        match found {
            Some((at, ns)) => Some(ns).filter(|_| at == host),
            None => is_ours(task::tgid(pid)?).then_some(m.home),
        }
    }

    /// What a path, seen from the root, says of namespaces.
    pub(super) fn ns_place(&self, host: usize, tid: u32, path: &str) -> Option<NsPlace> {
        if let Some(name) = below(path) {
            let known = self.machines.get(host)?.names.get(name).copied();
            return Some(if name.is_empty() { NsPlace::Names } else { NsPlace::Name(name.to_owned(), known) });
        }
        if let Some(pid) = ns_link(path) {
            return self.ns_of_process(host, tid, pid).map(NsPlace::Link);
        }
        if self.spaces.files.is_empty() {
            return None;
        }
        let (who, n) = fd_link(path, tid)?;
        let link = std::fs::read_link(format!("/proc/{who}/fd/{n}")).ok()?;
        let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        self.spaces.of_inode(inode).map(|f| NsPlace::Fd(f.1))
    }

    /// Device and inode by which a namespace is known.
    pub(super) fn ns_identity(&mut self, host: usize, ns: NsId) -> Result<(u64, u64), Errno> {
        self.spaces.file(host, ns).map(|f| (f.dev, f.inode)).map_err(|e| Errno(errno(&e)))
    }

    /// Opens what is under `/run/netns`, and a thread's own namespace; `None` for other paths.
    pub(crate) fn open_netns(&mut self, listener: u32, note: &Notification, path: &str, flags: i32) -> Option<Outcome> {
        let host = self.host_of(listener);
        let (name, known) = match self.ns_place(host, note.tid, path)? {
            NsPlace::Link(_) if flags & (O_NOFOLLOW | O_PATH) == O_NOFOLLOW => return Some(Errno::ELOOP.into()),
            NsPlace::Link(_) if flags & O_NOFOLLOW != 0 => return None,
            NsPlace::Link(ns) | NsPlace::Fd(ns) => return Some(self.plant_netns(listener, note, host, ns, flags)),
            NsPlace::Names => return Some(self.plant_names(listener, note, host, flags)),
            NsPlace::Name(name, known) => (name, known),
        };
        Some(match known {
            Some(_) if flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL => Errno::EEXIST.into(),
            Some(ns) => self.plant_netns(listener, note, host, ns, flags),
            None if flags & O_CREAT == 0 => Errno::ENOENT.into(),
            None if !self.privileged(note.tid) => Errno::EACCES.into(),
            None => {
                // The file that a mount will cover.
                self.spaces.pending.truncate(MOST_PENDING);
                self.spaces.pending.push((host, name));
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
        if flags & O_ACCMODE != 0 && flags & O_PATH == 0 {
            return Errno::EACCES.into();
        }
        let socket = self.spaces.file(host, ns).and_then(|f| fd::dup(&f.socket));
        let socket = attempt!(socket.map_err(|e| Errno(errno(&e))));
        let Some(l) = self.listener(listener) else { return Outcome::Continue };
        match l.reply_fd(note.id, &socket, flags & O_CLOEXEC != 0) {
            Ok(_) => Outcome::Answered,
            Err(e) => Errno(errno(&e)).into(),
        }
    }

    /// Namespaces that nobody is in, and that have no name, go.
    pub(crate) fn sweep_spaces(&mut self) {
        self.spaces.forget_dead();
        let used = self.spaces.used();
        for host in 0..self.machines.len() {
            let Some(m) = self.machines.get(host) else { continue };
            let named = |ns: NsId| ns == m.home || m.names.values().any(|n| *n == ns);
            let watched = |ns: NsId| self.listeners.iter().flatten().any(|w| w.host == host && w.ns == Some(ns));
            let idle: Vec<NsId> =
                m.k.net
                    .ns
                    .iter()
                    .map(|n| n.0)
                    .filter(|ns| !named(*ns) && !watched(*ns) && !used.contains(&(host, *ns)))
                    .collect();
            if let Some(m) = self.machines.get_mut(host) {
                // With sockets in it, it stays until they are closed.
                for ns in idle {
                    if m.k.del_ns(ns, Some(m.home)).is_ok() {
                        self.spaces.files.remove(&(host, ns));
                    }
                }
            }
        }
    }
}
