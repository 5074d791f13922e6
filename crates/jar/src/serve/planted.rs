//! Directories of the trees that a program opens: it gets a directory of the jar's own, on disk, with the names that there
//! are now. What it opens or asks about from there comes to us again and is answered from the tree; only the names are
//! read from the disk.
//!
//! The program may own these directories, and may have fewer rights than we: they are entered name by name, and no link is
//! followed on the way.
use super::Outcome;
use crate::jar::Jar;
use crate::tree::Node;
use belljar_abi::Errno;
use belljar_host::dir::Dir;
use belljar_host::seccomp::Notification;
use belljar_host::stat::Attr;
use belljar_host::{errno, rundir};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

const O_CLOEXEC: i32 = 0o2_000_000;

/// The directory of a jar under which they all lie.
#[derive(Debug)]
pub struct Planted {
    /// As the links of descriptors name it.
    pub root: PathBuf,
    dir: Dir,
}

/// What stands for a node on disk.
fn make(dir: &Dir, name: &str, node: &Node) -> io::Result<()> {
    match node {
        Node::Dir { .. } => dir.make_dir(name),
        Node::Link(to) => dir.make_link(name, to),
        Node::File { .. } | Node::Host => dir.make_file(name),
    }
}

impl Jar {
    /// The directory of one host; nobody else can get into it from above.
    fn planted_of(&mut self, host: usize) -> io::Result<Dir> {
        if self.planted.is_none() {
            let root = rundir::make_tree(&self.name)?;
            let dir = Dir::open(&root)?;
            self.planted = Some(Planted { root, dir });
        }
        let planted = self.planted.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        planted.dir.sub(&host.to_string())
    }

    /// The directory in which a path's last name is, and that name.
    fn parent<'p>(&mut self, host: usize, path: &'p str) -> io::Result<(Dir, &'p str)> {
        let mut dir = self.planted_of(host)?;
        let (dirs, name) = path.rsplit_once('/').unwrap_or(("", path));
        for d in dirs.split('/').filter(|d| !d.is_empty()) {
            dir = dir.sub(d)?;
        }
        Ok((dir, name))
    }

    /// Identity and times of the file that stands for a node.
    pub(super) fn stand_in(&mut self, host: usize, path: &str, node: &Node) -> Result<Attr, Errno> {
        let found = self.parent(host, path).and_then(|(dir, name)| {
            make(&dir, name, node)?;
            dir.attr(name)
        });
        found.map_err(|e| Errno(errno(&e)))
    }

    /// The file that stands for one of the tree, with `text` in it, for a reader.
    pub(super) fn snapshot(&mut self, host: usize, path: &str, text: &str, mode: u32) -> io::Result<OwnedFd> {
        let (dir, name) = self.parent(host, path)?;
        dir.rewritten(name, text.as_bytes(), mode)
    }

    /// The same for who reads and writes it.
    pub(super) fn writable(&mut self, host: usize, path: &str, text: &str, mode: u32) -> io::Result<File> {
        let (dir, name) = self.parent(host, path)?;
        let mut file = dir.rewrite(name, text.as_bytes(), mode)?;
        file.rewind()?;
        Ok(file)
    }

    /// The names on disk become those that there are.
    fn fill_names(&self, host: usize, path: &str, dir: &Dir) -> io::Result<()> {
        let Some(m) = self.machines.get(host) else { return Ok(()) };
        let entries = m.entries(path);
        let names: BTreeSet<&str> = entries.iter().map(|n| n.0.as_str()).collect();
        for gone in dir.names()?.iter().filter(|n| !names.contains(n.as_str())) {
            dir.remove(gone)?;
        }
        for (name, node) in &entries {
            let is_dir = *node == Node::Host && path == "/proc/sys/net";
            if is_dir { dir.make_dir(name)? } else { make(dir, name, node)? }
        }
        Ok(())
    }

    /// `/run/netns`: a directory with the names of the host's namespaces.
    pub(super) fn plant_names(&mut self, listener: u32, note: &Notification, host: usize, flags: i32) -> Outcome {
        let names: BTreeSet<String> =
            self.machines.get(host).map_or_else(BTreeSet::new, |m| m.names.keys().cloned().collect());
        let opened = self.planted_of(host).and_then(|dir| {
            let dir = dir.sub("run")?.sub("netns")?;
            for gone in dir.names()?.iter().filter(|n| !names.contains(*n)) {
                dir.remove(gone)?;
            }
            names.iter().try_for_each(|n| dir.make_file(n))?;
            dir.again()
        });
        let Some(l) = self.listener(listener) else { return Outcome::Continue };
        match opened.and_then(|f| l.reply_fd(note.id, &f, flags & O_CLOEXEC != 0)) {
            Ok(_) => Outcome::Answered,
            Err(e) => Errno(errno(&e)).into(),
        }
    }

    /// Answers an open with a directory, or for O_PATH with the file that stands there: descriptors that only name
    /// something cannot be planted (EBADF), so this one can be read as well, and is empty.
    pub(super) fn plant_stand_in(
        &mut self,
        listener: u32,
        note: &Notification,
        path: &str,
        node: &Node,
        flags: i32,
    ) -> Outcome {
        let host = self.host_of(listener);
        let opened = self.parent(host, path).and_then(|(dir, name)| match node {
            Node::Dir { .. } => {
                let dir = dir.sub(name)?;
                self.fill_names(host, path, &dir)?;
                dir.again()
            }
            node => {
                make(&dir, name, node)?;
                dir.file(name)
            }
        });
        let Some(l) = self.listener(listener) else { return Outcome::Continue };
        match opened.and_then(|f| l.reply_fd(note.id, &f, flags & O_CLOEXEC != 0)) {
            Ok(_) => Outcome::Answered,
            Err(e) => Errno(errno(&e)).into(),
        }
    }
}
