//! Calls that take a path, where they are watched: whether it leads into the trees that are the stack's (`tree.rs`).
//!
//! A path is only ever compared, never opened here: whatever a program writes into it, and however it changes it during
//! the call, the answer is the stack's own state, or the host kernel does the call with the program's rights. What is
//! looked at besides are the links of the program's own `/proc` entries, for paths that begin at a descriptor.
use super::netns::NsPlace;
use super::{Outcome, attempt, write_mem};
use crate::jar::Jar;
use crate::tree::{self, Node, PROC_NET};
use belljar_abi::Errno;
use belljar_host::seccomp::{Notification, Sys};
use belljar_host::{errno, memory, stat, task};
use belljar_kernel::ids::NsId;
use std::collections::VecDeque;
use std::path::Path;

const PATH_MAX: usize = 4096;
const XATTR_NAME_MAX: usize = 255;
const AT_FDCWD: i32 = -100;
const AT_SYMLINK_NOFOLLOW: i32 = 0x100;
/// Links followed on one path.
const MAX_LINKS: u32 = 40;
const X_OK: i32 = 1;
const W_OK: i32 = 2;
const R_OK: i32 = 4;

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere that is the stack's.
    Host,
    At(String, Node),
    Fails(Errno),
    /// Into a directory of the stack's that has no such name.
    Missing(String),
}

/// Directories of the machine that are what their names say: going up from there by name is right.
fn is_plain(dir: &str) -> bool {
    const DIRS: [&str; 7] = ["/", "/proc", "/proc/self", "/sys", "/sys/class", "/sys/devices", "/sys/devices/virtual"];
    DIRS.contains(&dir) || dir == "/proc/sys" || dir.starts_with("/proc/sys/")
}

fn join(parts: &[String]) -> String {
    format!("/{}", parts.join("/"))
}

fn split(path: &str) -> impl DoubleEndedIterator<Item = String> + '_ {
    path.split('/').filter(|c| !c.is_empty() && *c != ".").map(str::to_owned)
}

/// A walk from directory to directory.
struct Walk<'a> {
    jar: &'a mut Jar,
    host: usize,
    tid: u32,
    at: Vec<String>,
    /// So many of these are directories without links on the way.
    real: usize,
    rest: VecDeque<String>,
    links: u32,
    follow: bool,
}

enum Next {
    Go,
    End(Place),
}

impl Walk<'_> {
    fn run(mut self) -> Place {
        while let Some(name) = self.rest.pop_front() {
            if let Next::End(place) = self.step(name) {
                return place;
            }
        }
        let path = join(&self.at);
        if !tree::owned(&path) {
            return Place::Host;
        }
        match self.node(&path) {
            Some(Node::Host) => Place::Host,
            Some(node) => Place::At(path, node),
            None => Place::Missing(path),
        }
    }

    fn node(&self, path: &str) -> Option<Node> {
        self.jar.machines.get(self.host)?.node(path)
    }

    fn step(&mut self, name: String) -> Next {
        if name == ".." {
            let here = join(&self.at);
            if self.at.len() > self.real && !is_plain(&here) && !tree::owned(&here) {
                return Next::End(Place::Host);
            }
            self.at.pop();
            self.real = self.real.min(self.at.len());
            return Next::Go;
        }
        self.at.push(name);
        let here = join(&self.at);
        let last = self.rest.is_empty();
        if tree::owned(&here) {
            return self.enter_tree(&here, last);
        }
        if here.starts_with("/sys/devices/") && here.ends_with("/net") {
            // The machine's own cards, where `chdir` by the name of a device leads: the stack's of that name instead.
            self.at = split("/sys/class/net").collect();
            self.real = 0;
            return Next::Go;
        }
        self.through_proc(&here, last)
    }

    fn enter_tree(&mut self, here: &str, last: bool) -> Next {
        match self.node(here) {
            None if last => Next::End(Place::Missing(here.to_owned())),
            None => Next::End(Place::Fails(Errno::ENOENT)),
            Some(Node::Host) => Next::End(Place::Host),
            Some(Node::File { .. }) if !last => Next::End(Place::Fails(Errno::ENOTDIR)),
            Some(Node::Link(to)) if !last || self.follow => {
                self.at.pop();
                self.jump(&to)
            }
            Some(_) => Next::Go,
        }
    }

    fn jump(&mut self, to: &str) -> Next {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Next::End(Place::Fails(Errno::ELOOP));
        }
        if to.starts_with('/') {
            self.at.clear();
        }
        self.real = self.at.len();
        split(to).rev().for_each(|c| self.rest.push_front(c));
        Next::Go
    }

    /// The links of `/proc` that lead to our trees, and those that lead to a place of the program's own.
    fn through_proc(&mut self, here: &str, last: bool) -> Next {
        if here == "/proc/net" {
            if last && !self.follow {
                return Next::End(Place::At(here.to_owned(), Node::Link("self/net".to_owned())));
            }
            self.at = split(PROC_NET).collect();
            return Next::Go;
        }
        let own = match here.strip_prefix("/proc/") {
            Some("thread-self") => true,
            Some(pid) if pid.bytes().all(|b| b.is_ascii_digit()) && !last => self.is_ours(pid),
            Some(rest) => rest.strip_prefix("self/task/").is_some_and(|t| !t.contains('/')) && !last,
            None => false,
        };
        if own {
            self.at = split("/proc/self").collect();
            return Next::Go;
        }
        let fd =
            here.strip_prefix("/proc/self/fd/").or(here.strip_prefix("/dev/fd/")).filter(|n| n.parse::<u32>().is_ok());
        let link = match (here, fd) {
            ("/proc/self/root", _) => "root".to_owned(),
            ("/proc/self/cwd", _) => "cwd".to_owned(),
            (_, Some(n)) => format!("fd/{n}"),
            _ => return Next::Go,
        };
        if last && !self.follow {
            return Next::Go;
        }
        match self.jar.place_of(self.tid, &link) {
            Some(to) => self.jump(&to),
            None => Next::End(Place::Host),
        }
    }

    /// A process of this jar: its `/proc/PID/net` is that of its namespace, which the rest of the call is about.
    fn is_ours(&mut self, pid: &str) -> bool {
        let Ok(pid) = pid.parse::<u32>() else { return false };
        if pid == self.tid || Some(pid) == task::tgid(self.tid) {
            return true;
        }
        if self.rest.front().is_none_or(|n| n != "net") {
            return false;
        }
        let Some(ns) = self.jar.ns_of_process(self.host, self.tid, pid) else { return false };
        if let Some(m) = self.jar.machines.get_mut(self.host) {
            m.enter(ns);
        }
        true
    }
}

impl Jar {
    /// Where a link in `/proc/TID` points; a directory that we planted is what it stands for.
    fn place_of(&self, tid: u32, link: &str) -> Option<String> {
        let to = std::fs::read_link(format!("/proc/{tid}/{link}")).ok()?;
        let to = to.to_str()?;
        let planted = self.planted.as_ref().and_then(|p| to.strip_prefix(p.root.to_str()?));
        let to = match planted.and_then(|p| p.strip_prefix('/')) {
            // Behind the number of the host.
            Some(p) => p.split_once('/').map_or("/", |(host, _)| p.get(host.len()..).unwrap_or("/")),
            None => to,
        };
        to.starts_with('/').then(|| to.to_owned())
    }

    /// Where `path`, from a directory, leads for a thread.
    pub(crate) fn resolve(&mut self, host: usize, tid: u32, dirfd: i32, path: &[u8], follow: bool) -> Place {
        let Ok(path) = std::str::from_utf8(path) else { return Place::Host };
        let mut start = Vec::new();
        if !path.starts_with('/') {
            if path.is_empty() {
                return Place::Host;
            }
            let link = if dirfd == AT_FDCWD { "cwd".to_owned() } else { format!("fd/{dirfd}") };
            let Some(base) = self.place_of(tid, &link) else { return Place::Host };
            start = split(&base).collect();
        } else if !["proc", "sys", "dev/fd"].iter().any(|w| path.contains(w)) {
            return Place::Host;
        }
        // What the base says of /proc is in numbers.
        let real = start.len();
        let slash = path.ends_with('/') || path.ends_with("/.");
        let rest = start.drain(..).chain(split(path)).collect();
        let walk = Walk { jar: self, host, tid, at: Vec::new(), real, rest, links: 0, follow: follow || slash };
        match walk.run() {
            Place::At(_, Node::File { .. }) if slash => Place::Fails(Errno::ENOTDIR),
            place => place,
        }
    }

    /// A call about a path that may lead into the namespace of another process.
    pub(super) fn with_path(
        &mut self,
        listener: u32,
        note: &Notification,
        call: fn(&mut Jar, u32, &Notification) -> Outcome,
    ) -> Outcome {
        let host = self.host_of(listener);
        let before = self.machines.get(host).map(|m| m.ns);
        let done = call(self, listener, note);
        if let (Some(m), Some(ns)) = (self.machines.get_mut(host), before)
            && m.ns != ns
        {
            m.enter(ns);
        }
        done
    }

    /// stat, access and readlink in all their spellings.
    pub(crate) fn sys_path(&mut self, listener: u32, note: &Notification) -> Outcome {
        let Some((dir, at)) = where_is(note.sys) else { return Outcome::Continue };
        let flags = match note.sys {
            Sys::Newfstatat | Sys::Faccessat2 => note.int(3),
            Sys::Statx => note.int(2),
            _ => 0,
        };
        let follow = flags & AT_SYMLINK_NOFOLLOW == 0 && !note.sys.names_the_link();
        let Ok(path) = memory::read_cstr(note.tid, note.word(at), PATH_MAX) else { return Outcome::Continue };
        let host = self.host_of(listener);
        let dirfd = if dir { note.int(0) } else { AT_FDCWD };
        let spelled = self.spelled_from_root(note.tid, dirfd, &path);
        if let Some(done) = spelled.and_then(|p| self.ns_path(host, note, &p, (dir, follow))) {
            return done;
        }
        let (path, node) = match self.resolve(host, note.tid, dirfd, &path, follow) {
            Place::Host => return Outcome::Continue,
            Place::Fails(e) => return e.into(),
            Place::Missing(_) => return Errno::ENOENT.into(),
            Place::At(path, node) => (path, node),
        };
        let first = if dir { 1 } else { 0 };
        match note.sys {
            s if s.is_attribute() => attribute(note, &path).into(),
            s if asks_attributes(s) => {
                let attr = attempt!(self.attributes(host, &path, &node));
                give_attributes(note, &attr).into()
            }
            s if asks_access(s) => self.may_access(note.tid, note.int(first + 1), &node).map(|()| 0).into(),
            _ => readlink(note, first, &node).into(),
        }
    }

    /// A path as it is seen from the root, by its spelling alone.
    pub(super) fn spelled_from_root(&self, tid: u32, dirfd: i32, path: &[u8]) -> Option<String> {
        let path = std::str::from_utf8(path).ok()?;
        if path.starts_with('/') {
            return Some(path.to_owned());
        }
        // Whoever has a directory of the stack's open got it from us.
        self.planted.as_ref().filter(|_| !path.is_empty())?;
        let link = if dirfd == AT_FDCWD { "cwd".to_owned() } else { format!("fd/{dirfd}") };
        Some(format!("{}/{path}", self.place_of(tid, &link)?))
    }

    /// Asks about a namespace as a file; `None` for other paths.
    fn ns_path(
        &mut self,
        host: usize,
        note: &Notification,
        path: &str,
        (dir, follow): (bool, bool),
    ) -> Option<Outcome> {
        let place = self.ns_place(host, note.tid, path)?;
        let first = usize::from(dir);
        let file = Node::File { mode: 0o444, size: 0 };
        let (ns, node) = match place {
            NsPlace::Names => (None, Node::Dir { mode: 0o755 }),
            NsPlace::Name(_, None) => return Some(Errno::ENOENT.into()),
            NsPlace::Name(_, Some(ns)) => (Some(ns), file),
            // As a link, it is the host's like all others but for what it says.
            NsPlace::Link(ns) if !follow => {
                let is_readlink = !asks_attributes(note.sys) && !asks_access(note.sys) && !note.sys.is_attribute();
                let (_, inode) = self.ns_identity(host, ns).ok().filter(|_| is_readlink)?;
                return Some(readlink(note, first, &Node::Link(format!("net:[{inode}]"))).into());
            }
            NsPlace::Fd(_) if !follow => return None,
            NsPlace::Link(ns) | NsPlace::Fd(ns) => (Some(ns), file),
        };
        Some(match note.sys {
            s if s.is_attribute() => attribute(note, "/proc").into(),
            s if asks_attributes(s) => {
                self.ns_attributes(host, ns).and_then(|attr| give_attributes(note, &attr)).into()
            }
            s if asks_access(s) => self.may_access(note.tid, note.int(first + 1), &node).map(|()| 0).into(),
            _ => Errno::EINVAL.into(),
        })
    }

    /// Of a namespace, or of the directory of their names.
    fn ns_attributes(&mut self, host: usize, ns: Option<NsId>) -> Result<stat::Attr, Errno> {
        let names = self.attributes(host, "/run/netns", &Node::Dir { mode: 0o755 })?;
        let Some(ns) = ns else { return Ok(names) };
        let (dev, ino) = self.ns_identity(host, ns)?;
        Ok(stat::Attr { dev, ino, mode: stat::S_IFREG | 0o444, nlink: 1, size: 0, blksize: 4096, time: names.time })
    }

    /// What stat tells: identity and times of the file that stands for it on disk, the rest as `/proc` and `/sys` have it.
    fn attributes(&mut self, host: usize, path: &str, node: &Node) -> Result<stat::Attr, Errno> {
        let mut a = self.stand_in(host, path, node)?;
        let sysfs = path.starts_with("/sys/");
        a.blksize = if sysfs { 4096 } else { 1024 };
        (a.mode, a.size) = match node {
            Node::Dir { mode } => {
                a.nlink = if path.starts_with("/proc/sys/") { 1 } else { 2 };
                if let Some(m) = self.machines.get(host).filter(|_| sysfs) {
                    a.nlink += m.entries(path).iter().filter(|e| matches!(e.1, Node::Dir { .. })).count() as u32;
                }
                (stat::S_IFDIR | mode, 0)
            }
            Node::File { mode, size } => (stat::S_IFREG | mode, *size),
            Node::Link(to) => (stat::S_IFLNK | 0o777, if sysfs { 0 } else { to.len() as u64 }),
            Node::Host => return Err(Errno::ENOENT),
        };
        Ok(a)
    }

    /// By the permissions, which for root of the jar forbid only to execute what nobody may.
    fn may_access(&mut self, tid: u32, wanted: i32, node: &Node) -> Result<(), Errno> {
        if wanted & !(R_OK | W_OK | X_OK) != 0 {
            return Err(Errno::EINVAL);
        }
        let mode = match node {
            Node::Dir { mode } | Node::File { mode, .. } => *mode,
            Node::Link(_) | Node::Host => 0o777,
        };
        let dir = matches!(node, Node::Dir { .. });
        let root = self.privileged(tid);
        let may = |bit: i32| match bit {
            X_OK => dir || mode & 0o111 != 0,
            _ if root => true,
            bit => mode & bit as u32 != 0,
        };
        let asked = [R_OK, W_OK, X_OK].into_iter().filter(|b| wanted & b != 0);
        if asked.into_iter().all(may) { Ok(()) } else { Err(Errno::EACCES) }
    }
}

/// stat in all its spellings.
fn asks_attributes(sys: Sys) -> bool {
    sys.is_stat() || matches!(sys, Sys::Newfstatat | Sys::Statx)
}

/// access in all its spellings.
fn asks_access(sys: Sys) -> bool {
    sys.is_access() || matches!(sys, Sys::Faccessat | Sys::Faccessat2)
}

fn give_attributes(note: &Notification, attr: &stat::Attr) -> Result<i64, Errno> {
    let (at, bytes) = match note.sys {
        Sys::Statx => (4, attr.statx()),
        Sys::Newfstatat => (2, attr.stat()),
        _ => (1, attr.stat()),
    };
    write_mem(note.tid, note.word(at), &bytes).map(|()| 0)
}

/// Extended attributes, of which no file of the trees has one, and the filesystem that it is on.
fn attribute(note: &Notification, path: &str) -> Result<i64, Errno> {
    let sysfs = path.starts_with("/sys/");
    match note.sys {
        Sys::Statfs => {
            let on = stat::filesystem_bytes(Path::new(if sysfs { "/sys" } else { "/proc" }));
            let bytes = on.map_err(|e| Errno(errno(&e)))?;
            write_mem(note.tid, note.word(1), &bytes).map(|()| 0)
        }
        Sys::Listxattr | Sys::Llistxattr => Ok(0),
        _ => {
            let name = memory::read_cstr(note.tid, note.word(1), XATTR_NAME_MAX + 1).map_err(|_| Errno::ERANGE)?;
            if name.is_empty() || name.len() > XATTR_NAME_MAX {
                return Err(Errno::ERANGE);
            }
            let kinds: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
            let could = sysfs && kinds.iter().any(|k| name.starts_with(k));
            Err(if could { Errno::ENODATA } else { Errno::EOPNOTSUPP })
        }
    }
}

/// Whether the first argument is a directory, and which one the path is.
fn where_is(sys: Sys) -> Option<(bool, usize)> {
    match sys {
        Sys::Newfstatat | Sys::Statx | Sys::Faccessat | Sys::Faccessat2 | Sys::Readlinkat => Some((true, 1)),
        s if s.is_path() => Some((false, 0)),
        _ => None,
    }
}

fn readlink(note: &Notification, first: usize, node: &Node) -> Result<i64, Errno> {
    let room = usize::try_from(note.int(first + 2)).ok().filter(|n| *n > 0).ok_or(Errno::EINVAL)?;
    let Node::Link(to) = node else { return Err(Errno::EINVAL) };
    let shown = to.as_bytes().get(..room.min(to.len())).unwrap_or(&[]);
    write_mem(note.tid, note.word(first + 1), shown)?;
    Ok(shown.len() as i64)
}
