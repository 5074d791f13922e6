//! Processes and tasks as the kernel sees them, parked calls, wait queues.
pub mod call;
pub mod park;
pub mod process;
pub mod wait;

use crate::ids::*;
use call::{ParkedCall, SysResult};
use process::{Process, Task};
use std::collections::VecDeque;
use wait::WaitEntry;

/// Who runs and who sleeps.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    pub procs: Slab<Process>,
    pub tasks: Slab<Task>,
    pub calls: Slab<ParkedCall>,
    pub waits: Slab<WaitEntry>,
    /// Calls that something woke: run again from the top, in this order.
    pub runnable: VecDeque<CallId>,
    /// Finished calls, handed out after the step.
    pub done: VecDeque<(CallId, SysResult)>,
    /// Signals for owners of files, as (owner, signal).
    pub signals: VecDeque<(i32, i32)>,
    /// Tasks that asked for CPU time where it costs nothing.
    pub(crate) ran: VecDeque<TaskId>,
}
