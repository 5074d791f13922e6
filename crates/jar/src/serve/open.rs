//! open, openat and openat2, where they are watched: the files of `/proc` and `/sys` that tell about networking show the
//! stack's state instead of the machine's. Everything else is the host kernel's.
//!
//! A file is a snapshot taken at the open, as a reader of one `read` sees it anyway: the file on disk that `stat` tells of,
//! with the text of this moment. Settings can be written (`setting.rs`), directories are `planted.rs`, and `/dev/net/tun` makes devices of the stack (`tun.rs`).
use super::Outcome;
use super::path::Place;
use super::setting::Asked;
use crate::jar::Jar;
use crate::tree::Node;
use belljar_abi::Errno;
use belljar_host::seccomp::{Notification, Sys};
use belljar_host::{errno, memory};

const PATH_MAX: usize = 4096;
const AT_FDCWD: i32 = -100;
const O_ACCMODE: i32 = 3;
const O_RDWR: i32 = 2;
const O_CREAT: i32 = 0o100;
const O_EXCL: i32 = 0o200;
const O_DIRECTORY: i32 = 0o200_000;
const O_NOFOLLOW: i32 = 0o400_000;
const O_CLOEXEC: i32 = 0o2_000_000;
const O_PATH: i32 = 0o10_000_000;

impl Jar {
    pub(crate) fn sys_open(&mut self, listener: u32, note: &Notification) -> Outcome {
        let (dirfd, at, flags) = match note.sys {
            Sys::Openat => (note.int(0), 1, note.int(2)),
            Sys::Openat2 => {
                // `struct open_how`: flags come first. What it says of the way is for paths of the host.
                let mut how = [0; 8];
                if memory::read(note.tid, note.word(2), &mut how).is_err() {
                    return Outcome::Continue;
                }
                (note.int(0), 1, u64::from_ne_bytes(how) as i32)
            }
            _ => (AT_FDCWD, 0, note.int(1)),
        };
        let Ok(path) = memory::read_cstr(note.tid, note.word(at), PATH_MAX) else { return Outcome::Continue };
        if path == b"/dev/net/tun" {
            return self.open_tun(listener, note, flags);
        }
        let spelled = self.spelled_from_root(note.tid, dirfd, &path);
        if let Some(done) = spelled.and_then(|p| self.open_netns(listener, note, &p, flags)) {
            return done;
        }
        let exclusive = flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL;
        let follow = flags & O_NOFOLLOW == 0 && !exclusive;
        let (path, node) = match self.resolve(self.host_of(listener), note.tid, dirfd, &path, follow) {
            Place::Host => return Outcome::Continue,
            Place::Fails(e) => return e.into(),
            // Nothing is ever made there; the two filesystems say it differently.
            Place::Missing(p) if flags & O_CREAT != 0 && p.starts_with("/sys/") => return Errno::EACCES.into(),
            Place::Missing(_) => return Errno::ENOENT.into(),
            Place::At(..) if exclusive => return Errno::EEXIST.into(),
            Place::At(path, node) => (path, node),
        };
        let writes = flags & O_ACCMODE != 0 && flags & O_PATH == 0;
        match node {
            Node::Dir { .. } if writes || flags & O_CREAT != 0 => Errno::EISDIR.into(),
            Node::Dir { .. } => self.plant_stand_in(listener, note, &path, &node, flags),
            _ if flags & O_DIRECTORY != 0 => Errno::ENOTDIR.into(),
            Node::Link(_) if flags & O_PATH == 0 => Errno::ELOOP.into(),
            _ if flags & O_PATH != 0 => self.plant_stand_in(listener, note, &path, &node, flags),
            Node::File { mode, .. } => self.open_file(listener, note, (&path, mode), flags),
            Node::Link(_) | Node::Host => Outcome::Continue,
        }
    }

    fn open_file(&mut self, listener: u32, note: &Notification, (path, mode): (&str, u32), flags: i32) -> Outcome {
        let host = self.host_of(listener);
        self.catch_up();
        self.turn();
        self.settle_all();
        let text = self.machines.get_mut(host).and_then(|m| m.tree_text(path));
        let text = match text {
            Some(text) => text,
            None if flags & O_ACCMODE != 0 => String::new(),
            // A file that there is, with nothing to read: which is told when it is opened.
            None if mode & 0o444 == 0 || !path.starts_with("/sys/") => return Errno::EIO.into(),
            None if path.contains("/queues/") => return Errno::ENOENT.into(),
            None => return Errno::EINVAL.into(),
        };
        if flags & O_ACCMODE != 0 {
            let can_write = self.machines.get(host).is_some_and(|m| m.can_write(path));
            let key = match path.strip_prefix("/proc/sys/") {
                Some(key) => key.replace('/', "."),
                // These are known by their paths.
                None if can_write => path.to_owned(),
                None => return Errno::EACCES.into(),
            };
            if let Some(e) = self.machines.get(host).and_then(|m| m.refuses_writes(path)) {
                return e.into();
            }
            let reads = (flags & O_ACCMODE == O_RDWR).then_some(text);
            return self.open_setting(listener, note, Asked { path, mode, key, reads }, flags & O_CLOEXEC != 0);
        }
        self.forget_settings(path);
        let file = match self.snapshot(host, path, &text, mode) {
            Ok(f) => f,
            Err(e) => return Errno(errno(&e)).into(),
        };
        let Some(l) = self.listener(listener) else { return Outcome::Continue };
        match l.reply_fd(note.id, &file, flags & O_CLOEXEC != 0) {
            Ok(_) => Outcome::Answered,
            Err(e) => Errno(errno(&e)).into(),
        }
    }
}
