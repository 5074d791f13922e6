//! Processes (descriptor table, credentials, limits) and tasks (threads: where calls sleep, what wake-ups they had).
use crate::env::Nanos;
use crate::fs::fdtable::FdTable;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::task::call::{Cred, Fd};
use belljar_abi::Errno;

#[derive(Clone, Debug)]
pub struct Process {
    pub ns: NsId,
    pub fds: FdTable,
    pub uid: u32,
    pub gid: u32,
    /// Inside its host a program has the network capabilities of root unless they were dropped.
    pub caps: Caps,
    /// RLIMIT_NOFILE.
    pub nofile: u32,
    pub nofile_hard: u32,
    pub name: String,
    pub tasks: Vec<TaskId>,
}

/// The capabilities the stack asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    pub net_admin: bool,
    pub net_raw: bool,
    pub net_bind_service: bool,
    pub sys_admin: bool,
}

impl Caps {
    pub const ROOT: Caps = Caps { net_admin: true, net_raw: true, net_bind_service: true, sys_admin: true };
    pub const NONE: Caps = Caps { net_admin: false, net_raw: false, net_bind_service: false, sys_admin: false };
}

/// A thread, with the counts that make herds visible.
#[derive(Clone, Debug)]
pub struct Task {
    pub process: ProcId,
    pub cpu: usize,
    /// Times it went to sleep in a call (voluntary context switches).
    pub sleeps: u64,
    pub wakeups: u64,
    /// Woke, found nothing, slept again.
    pub useless_wakeups: u64,
}

impl Kernel {
    /// A process without descriptors and without threads; its group has the number of its user.
    pub fn add_process(&mut self, ns: NsId, uid: u32, caps: Caps, nofile: u32, name: &str) -> ProcId {
        self.tasks.procs.insert(Process {
            ns,
            fds: FdTable::default(),
            uid,
            gid: uid,
            caps,
            nofile,
            nofile_hard: nofile,
            name: name.to_owned(),
            tasks: Vec::new(),
        })
    }

    /// A thread of a process on a CPU (the last one when there are not so many); `None` when there is no such process.
    pub fn add_task(&mut self, process: ProcId, cpu: usize) -> Option<TaskId> {
        let cpu = cpu.min(self.net.cpus.len().saturating_sub(1));
        let p = self.tasks.procs.get_mut(process)?;
        let id = self.tasks.tasks.insert(Task { process, cpu, sleeps: 0, wakeups: 0, useless_wakeups: 0 });
        p.tasks.push(id);
        Some(id)
    }

    /// fork(2): the child shares every open file; it has no threads until [`Kernel::add_task`].
    pub fn fork(&mut self, parent: ProcId) -> Option<ProcId> {
        let child = Process { tasks: Vec::new(), ..self.tasks.procs.get(parent)?.clone() };
        for (_, file, _) in child.fds.iter() {
            self.files.hold(file);
        }
        Some(self.tasks.procs.insert(child))
    }

    /// execve(2), as far as descriptors go: close-on-exec ones are closed.
    pub fn exec(&mut self, now: Nanos, process: ProcId) {
        self.begin_step(now);
        let fds: Option<Vec<Fd>> =
            self.tasks.procs.get(process).map(|p| p.fds.iter().filter(|e| e.2).map(|e| e.0).collect());
        for fd in fds.unwrap_or_default() {
            self.close_quietly(process, fd);
        }
        self.end_step();
    }

    /// The end of a thread; its parked call goes without an answer. The last thread takes the process with it.
    pub fn exit_task(&mut self, now: Nanos, task: TaskId) {
        let Some(process) = self.tasks.tasks.get(task).map(|t| t.process) else { return };
        let Some(p) = self.tasks.procs.get_mut(process) else { return };
        p.tasks.retain(|t| *t != task);
        if p.tasks.is_empty() {
            return self.exit_with(now, process, Some(task));
        }
        self.begin_step(now);
        self.forget_calls_of(&[task]);
        self.tasks.tasks.remove(task);
        self.end_step();
    }

    /// The end of a process, however it came: every descriptor is closed, nobody lingers.
    pub fn exit(&mut self, now: Nanos, process: ProcId) {
        self.exit_with(now, process, None);
    }

    fn exit_with(&mut self, now: Nanos, process: ProcId, last: Option<TaskId>) {
        let Some(p) = self.tasks.procs.get_mut(process) else { return };
        let mut tasks = std::mem::take(&mut p.tasks);
        tasks.extend(last);
        let fds: Vec<Fd> = p.fds.iter().map(|e| e.0).collect();
        self.begin_step(now);
        self.forget_calls_of(&tasks);
        for fd in fds {
            self.close_quietly(process, fd);
        }
        for t in tasks {
            self.tasks.tasks.remove(t);
        }
        self.tasks.procs.remove(process);
        self.end_step();
    }

    /// A descriptor handed to another process (SCM_RIGHTS, pidfd_getfd): both refer to the same open file.
    pub fn pass_fd(&mut self, from: ProcId, fd: Fd, to: ProcId, cloexec: bool) -> Result<Fd, Errno> {
        let file = self.fd_file(from, fd)?;
        let p = self.tasks.procs.get_mut(to).ok_or(Errno::ESRCH)?;
        let new = p.fds.alloc(0, p.nofile, file, cloexec).ok_or(Errno::EMFILE)?;
        self.files.hold(file);
        Ok(new)
    }

    pub(crate) fn cred(&self, process: ProcId) -> Cred {
        let p = self.tasks.procs.get(process);
        p.map_or(Cred { uid: u32::MAX, gid: u32::MAX, caps: Caps::NONE }, |p| Cred {
            uid: p.uid,
            gid: p.gid,
            caps: p.caps,
        })
    }
}
