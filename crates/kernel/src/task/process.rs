//! Processes (descriptor table, credentials, limits) and tasks (threads: where calls sleep, what wake-ups they had).
use crate::fs::fdtable::FdTable;
use crate::ids::*;

#[derive(Clone, Debug)]
pub struct Process {
    pub ns: NsId,
    pub fds: FdTable,
    pub uid: u32,
    /// Inside its host a program has the network capabilities of root unless they were dropped.
    pub caps: Caps,
    /// Soft RLIMIT_NOFILE.
    pub nofile: u32,
    pub name: String,
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
