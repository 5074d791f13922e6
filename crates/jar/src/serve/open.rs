//! open and openat, where they are watched: the files of `/proc` and `/sys` that tell about networking show the stack's
//! state instead of the machine's. Everything else is the host kernel's.
//!
//! A file is a snapshot taken at the open, as a reader of one `read` sees it anyway. Settings can be written
//! (`setting.rs`), and `/dev/net/tun` makes devices of the stack (`tun.rs`).
use super::Outcome;
use crate::jar::Jar;
use belljar_abi::Errno;
use belljar_host::seccomp::{Notification, Sys};
use belljar_host::{errno, fd, memory};

const PATH_MAX: usize = 4096;
const O_ACCMODE: i32 = 3;
const O_RDWR: i32 = 2;
const O_CLOEXEC: i32 = 0o2_000_000;
const O_DIRECTORY: i32 = 0o200_000;

/// The name under which the stack knows a file, when it is one of its own.
fn of_the_stack(path: &str) -> Option<String> {
    let path = path
        .strip_prefix("/proc/self/net/")
        .or(path.strip_prefix("/proc/thread-self/net/"))
        .map_or_else(|| path.to_owned(), |rest| format!("/proc/net/{rest}"));
    // AF_UNIX is the machine's.
    if path.starts_with("/proc/sys/net/unix/") || path == "/proc/net/unix" {
        return None;
    }
    let prefixes = ["/proc/net/", "/proc/sys/net/", "/sys/class/net/"];
    let files =
        ["/proc/softirqs", "/proc/interrupts", "/proc/slabinfo", "/proc/sys/fs/nr_open", "/proc/sys/fs/file-max"];
    (prefixes.iter().any(|p| path.starts_with(p)) || files.contains(&path.as_str())).then_some(path)
}

impl Jar {
    pub(crate) fn sys_open(&mut self, listener: u32, note: &Notification) -> Outcome {
        let (at, flags) = if note.sys == Sys::Openat { (1, note.int(2)) } else { (0, note.int(1)) };
        let Ok(path) = memory::read_cstr(note.tid, note.word(at), PATH_MAX) else { return Outcome::Continue };
        if path == b"/dev/net/tun" {
            return self.open_tun(listener, note, flags);
        }
        let Some(path) = std::str::from_utf8(&path).ok().and_then(of_the_stack) else { return Outcome::Continue };
        if flags & O_DIRECTORY != 0 {
            return Outcome::Continue;
        }
        let host = self.host_of(listener);
        self.catch_up();
        self.turn();
        self.settle_all();
        let Some(text) = self.machines.get_mut(host).and_then(|m| m.proc_text(&path)) else {
            return Errno::ENOENT.into();
        };
        if flags & O_ACCMODE != 0 {
            let Some(key) = path.strip_prefix("/proc/sys/") else { return Errno::EACCES.into() };
            let reads = (flags & O_ACCMODE == O_RDWR).then_some(text.as_str());
            return self.open_setting(listener, note, key.replace('/', "."), reads, flags & O_CLOEXEC != 0);
        }
        let file = match fd::memfd("belljar-proc", text.as_bytes()) {
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

#[cfg(test)]
mod tests {
    use super::of_the_stack;

    #[test]
    fn only_networking_is_ours() {
        assert_eq!(of_the_stack("/proc/self/net/tcp").as_deref(), Some("/proc/net/tcp"));
        assert_eq!(of_the_stack("/proc/sys/net/core/somaxconn").as_deref(), Some("/proc/sys/net/core/somaxconn"));
        assert_eq!(of_the_stack("/proc/self/status"), None);
        assert_eq!(of_the_stack("/etc/hosts"), None);
        assert_eq!(of_the_stack("/proc/sys/net/unix/max_dgram_qlen"), None);
    }
}
