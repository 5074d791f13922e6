//! Open file descriptions: what dup and fork share. The last reference, of descriptors and of calls that sleep on it,
//! releases the object.
use crate::ids::*;
use crate::kernel::{Files, Kernel};
use crate::mem::{Gfp, Kind};
use crate::task::call::{Fd, RunCtx};
use belljar_abi::{Errno, MSG_DONTWAIT};

#[derive(Clone, Debug)]
pub struct File {
    pub kind: FileKind,
    /// O_NONBLOCK.
    pub nonblock: bool,
    /// Who gets signals about it (F_SETOWN): a process, minus a group, 0 nobody.
    pub owner: i32,
    /// Descriptors that refer to it, in all processes.
    pub refs: u32,
    /// Parked calls that hold it open.
    pub calls: u32,
    /// First of the epoll registrations that watch it.
    pub watchers: Option<EpItemId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Sock(SockId),
    Epoll(EpollId),
}

impl File {
    pub fn new(kind: FileKind, nonblock: bool) -> File {
        File { kind, nonblock, owner: 0, refs: 1, calls: 0, watchers: None }
    }
}

impl Files {
    /// One descriptor more.
    pub(crate) fn hold(&mut self, file: FileId) {
        if let Some(f) = self.files.get_mut(file) {
            f.refs += 1;
        }
    }

    /// A call keeps it open while it sleeps (`fget`).
    pub(crate) fn hold_for_call(&mut self, file: FileId) {
        if let Some(f) = self.files.get_mut(file) {
            f.calls += 1;
        }
    }

    pub(crate) fn next_inode(&mut self) -> u32 {
        self.inodes = self.inodes.wrapping_add(1).max(1);
        self.inodes
    }
}

impl Kernel {
    pub(crate) fn fd_file(&self, process: ProcId, fd: Fd) -> Result<FileId, Errno> {
        self.tasks.procs.get(process).and_then(|p| p.fds.get(fd)).map(|e| e.0).ok_or(Errno::EBADF)
    }

    /// EBADF without a file, ENOTSOCK when it is something else.
    pub(crate) fn fd_sock(&self, process: ProcId, fd: Fd) -> Result<(FileId, SockId), Errno> {
        let file = self.fd_file(process, fd)?;
        match self.files.files.get(file).map(|f| f.kind) {
            Some(FileKind::Sock(sock)) => Ok((file, sock)),
            _ => Err(Errno::ENOTSOCK),
        }
    }

    /// The socket behind a descriptor that data is to pass, and whether the call may sleep.
    #[inline]
    pub(crate) fn fd_for_io(&self, process: ProcId, fd: Fd, flags: i32) -> Result<(FileId, SockId, RunCtx), Errno> {
        let file = self.fd_file(process, fd)?;
        let f = self.files.files.get(file).ok_or(Errno::ENOTSOCK)?;
        let FileKind::Sock(sock) = f.kind else { return Err(Errno::ENOTSOCK) };
        let nonblock = flags & MSG_DONTWAIT != 0 || f.nonblock;
        Ok((file, sock, RunCtx { nonblock, ..RunCtx::default() }))
    }

    /// The number that `fstat` shows of a socket's file, where the file is somebody else's: a driver that puts a descriptor
    /// of its own into a program says so, and `ss -p` finds the program.
    pub fn set_inode(&mut self, process: ProcId, fd: Fd, inode: u32) {
        if let Ok((_, sock)) = self.fd_sock(process, fd)
            && let Some(sk) = self.socks.sk_mut(sock)
        {
            sk.inode = inode;
        }
    }

    /// A descriptor for a new object: the number first (EMFILE), then the file (ENFILE).
    #[doc(alias = "sock_map_fd")]
    pub(crate) fn install(
        &mut self,
        process: ProcId,
        kind: FileKind,
        nonblock: bool,
        cloexec: bool,
    ) -> Result<Fd, Errno> {
        self.may_install(process)?;
        let file = self.files.files.insert(File::new(kind, nonblock));
        let p = self.tasks.procs.get_mut(process).ok_or(Errno::ESRCH)?;
        let Some(fd) = p.fds.alloc(0, p.nofile, file, cloexec) else {
            self.files.files.remove(file);
            return Err(Errno::EMFILE);
        };
        if let FileKind::Sock(sock) = kind {
            let (inode, uid, gid) = (self.files.next_inode(), p.uid, p.gid);
            if let Some(sk) = self.socks.sk_mut(sock) {
                (sk.file, sk.inode, sk.uid) = (Some(file), inode, uid);
                if gid != uid {
                    sk.cold().gid = Some(gid);
                }
            }
        }
        Ok(fd)
    }

    /// Whether one more descriptor and file fit.
    pub(crate) fn may_install(&mut self, process: ProcId) -> Result<(), Errno> {
        let p = self.tasks.procs.get(process).ok_or(Errno::ESRCH)?;
        if p.fds.lowest_free(0) >= p.nofile {
            return Err(Errno::EMFILE);
        }
        if self.files.files.len() as u64 >= self.net.sysctl.file_max && !p.caps.sys_admin {
            return Err(Errno::ENFILE);
        }
        if self.net.mem.room(Kind::Filp, &self.files.files, Gfp::Kernel) { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// A descriptor went. Returns the socket when this was the last reference to it and it has to be released.
    pub(crate) fn fput(&mut self, file: FileId) -> Option<SockId> {
        let f = self.files.files.get_mut(file)?;
        f.refs = f.refs.saturating_sub(1);
        self.file_unused(file)
    }

    /// A parked call let go of its file; releases it if it was the last to hold it.
    pub(crate) fn fput_call(&mut self, file: FileId) {
        let Some(f) = self.files.files.get_mut(file) else { return };
        f.calls = f.calls.saturating_sub(1);
        if let Some(sock) = self.file_unused(file) {
            self.release_quietly(sock);
        }
    }

    fn file_unused(&mut self, file: FileId) -> Option<SockId> {
        let f = self.files.files.get(file)?;
        if f.refs > 0 || f.calls > 0 {
            return None;
        }
        let kind = f.kind;
        self.eventpoll_release_file(file);
        self.files.files.remove(file);
        match kind {
            FileKind::Epoll(ep) => {
                self.ep_free(ep);
                None
            }
            FileKind::Sock(sock) => {
                if let Some(sk) = self.socks.sk_mut(sock) {
                    sk.file = None;
                }
                Some(sock)
            }
        }
    }

    pub(crate) fn release_quietly(&mut self, sock: SockId) {
        let _ = crate::net::switch::release(self, sock, RunCtx { nonblock: true, ..RunCtx::default() });
    }

    pub(crate) fn close_quietly(&mut self, process: ProcId, fd: Fd) {
        let file = self.tasks.procs.get_mut(process).and_then(|p| p.fds.take(fd));
        if let Some(sock) = file.and_then(|f| self.fput(f)) {
            self.release_quietly(sock);
        }
    }
}
