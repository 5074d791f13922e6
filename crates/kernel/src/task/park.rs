//! Calls that sleep: parking, waking, running again from the top, time-outs, signals.
use crate::env::{Nanos, TimerKey};
use crate::fs::file::FileKind;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::{busy_poll, cpu_time, napi, softirq};
use crate::net::tcp::sock::TcpSock;
use crate::task::call::*;
use crate::task::wait::{End, PollMask, WaitEntry, Waiter};
use belljar_abi::Errno;

/// Where a call sleeps.
#[derive(Debug)]
pub(crate) enum Block {
    On { on: WaitOn, mask: PollMask, exclusive: bool, end: End },
    Many(Vec<(WaitOn, FileId, PollMask)>),
}

/// What a run of an operation came to.
#[derive(Debug)]
pub(crate) enum Run {
    Done(SysResult),
    Block(Op, Block, Option<Nanos>),
}

impl Run {
    pub(crate) fn sleep(op: Op, s: Sleep, deadline: Option<Nanos>) -> Run {
        let end = if s.exclusive { End::Back } else { End::Front };
        let block = Block::On { on: WaitOn::Sock(s.on), mask: s.mask, exclusive: s.exclusive, end };
        Run::Block(op, block, s.deadline.or(deadline))
    }
}

impl Kernel {
    /// A call interrupted by a signal: it leaves its wait queues and answers here, not through the completions. Bytes that
    /// a send or receive already moved count; else it fails with `errno`. `None`: it has finished already.
    pub fn cancel(&mut self, now: Nanos, id: CallId, errno: Errno) -> Option<SysResult> {
        self.begin_step(now);
        self.leave_queues(id);
        let call = self.end_call(id)?;
        let file = call.op.as_ref().and_then(Op::file);
        if let Some(tcp) = call.op.as_ref().and_then(|op| self.sends_on(op)) {
            tcp.flags.write_pending = false;
        }
        let result = match call.op {
            Some(Op::Send { file, sent, zerocopy, .. }) => {
                self.send_ended(file, zerocopy, sent);
                if sent > 0 { Ok(Ret::Int(sent as i64)) } else { Err(errno) }
            }
            Some(Op::Recv { msg, .. }) if !msg.got.is_empty() => Ok(Ret::Stream(msg.got)),
            // The connection goes on closing without anybody waiting for it.
            Some(Op::Linger { sock }) => {
                self.release_quietly(sock);
                Ok(Ret::Int(0))
            }
            _ => Err(errno),
        };
        if let Some(file) = file {
            self.fput_call(file);
        }
        self.end_step();
        Some(result)
    }

    /// The socket that a sending call was for.
    fn sends_on(&mut self, op: &Op) -> Option<&mut TcpSock> {
        let Op::Send { file, .. } = op else { return None };
        let FileKind::Sock(SockId::Tcp(id)) = self.files.files.get(*file)?.kind else { return None };
        self.socks.tcp.get_mut(id)
    }

    /// A send that does not go on any more lets go of its number by MSG_ZEROCOPY.
    fn send_ended(&mut self, file: FileId, zerocopy: Option<u32>, sent: usize) {
        if let (Some(call), Some(sock)) = (zerocopy, self.file_sock(file))
            && let Some(sk) = self.socks.sk_mut(sock)
        {
            crate::net::core::zerocopy::put(sk, &mut self.net.env, sock, call, sent == 0);
        }
    }

    /// The next finished call, in the order in which they finished.
    pub fn next_completion(&mut self) -> Option<(CallId, SysResult)> {
        self.tasks.done.pop_front()
    }

    pub(crate) fn begin_step(&mut self, now: Nanos) {
        // Time never runs backwards, whatever a driver says.
        self.net.env.advance(now);
    }

    /// The softirq pass at the end of a system call, then the calls that it woke, each with a pass of its own.
    #[doc(alias = "local_bh_enable")]
    #[inline]
    pub(crate) fn end_step(&mut self) {
        if !self.is_quiet() {
            self.run_step_out();
        }
    }

    /// Whether the step ends without a pass: one CPU, nothing raised or risen, no timer due, nobody woken.
    #[inline]
    fn is_quiet(&mut self) -> bool {
        let net = &mut self.net;
        let plain = net.model.is_none() && !net.napi.busy && !net.napi.threads;
        let idle = matches!(net.cpus.as_slice(), [cpu] if cpu.is_idle()) && net.env.rises.is_empty();
        plain && idle && !net.env.timers_due() && self.tasks.runnable.is_empty() && !self.is_memory_due()
    }

    #[inline(never)]
    fn run_step_out(&mut self) {
        self.softirq_pass();
        while let Some(id) = self.tasks.runnable.pop_front() {
            self.run_parked(id);
            self.softirq_pass();
        }
        self.look_after_memory();
    }

    /// What is left over waits for ksoftirqd: [`Kernel::more_work`].
    fn softirq_pass(&mut self) {
        if self.net.model.is_some() {
            return cpu_time::pass(self);
        }
        if self.net.napi.busy {
            busy_poll::run(self);
        }
        softirq::do_softirq(self);
        if self.net.cpus.len() > 1 {
            self.other_cpus();
        }
        if self.net.napi.threads {
            napi::run_threads(self);
        }
        self.drain_rises();
    }

    fn other_cpus(&mut self) {
        let here = self.net.cpu;
        for cpu in (0..self.net.cpus.len()).filter(|c| *c != here) {
            if self.net.cpus.get(cpu).is_some_and(|c| c.is_pending()) {
                self.net.cpu = cpu;
                softirq::do_softirq(self);
            }
        }
        self.net.cpu = here;
    }

    /// Puts a call to sleep.
    #[doc(alias = "prepare_to_wait")]
    pub(crate) fn park(&mut self, task: TaskId, op: Op, block: Block, deadline: Option<Nanos>) -> CallId {
        if let Some(file) = op.file() {
            self.files.hold_for_call(file);
        }
        let call = ParkedCall {
            task,
            op: Some(op),
            waits: Waits::None,
            deadline,
            timed_out: false,
            queued: false,
            busy: None,
        };
        let id = self.tasks.calls.insert(call);
        self.enter_queues(id, block);
        if let Some(at) = deadline {
            self.net.env.hrtimers.insert((at, TimerKey::Call(id)));
        }
        self.count_sleep(task);
        if self.net.napi.busy {
            busy_poll::parked(self, id, task);
        }
        id
    }

    fn count_sleep(&mut self, task: TaskId) {
        if let Some(t) = self.tasks.tasks.get_mut(task) {
            t.sleeps += 1;
        }
    }

    fn enter_queues(&mut self, id: CallId, block: Block) {
        let who = Waiter::Call(id);
        let waits = match block {
            Block::On { on, mask, exclusive, end } => {
                let wait = self.add_wait(on, WaitEntry::new(who, exclusive, mask), end);
                wait.map_or(Waits::None, |w| Waits::One(on, w))
            }
            Block::Many(places) => {
                let mut all = Vec::with_capacity(places.len());
                for (on, file, mask) in places {
                    if let Some(wait) = self.add_wait(on, WaitEntry::new(who, false, mask), End::Front) {
                        self.files.hold_for_call(file);
                        all.push((on, wait, file));
                    }
                }
                Waits::Many(all)
            }
        };
        if let Some(call) = self.tasks.calls.get_mut(id) {
            call.waits = waits;
        }
    }

    #[doc(alias = "finish_wait")]
    fn leave_queues(&mut self, id: CallId) {
        let Some(call) = self.tasks.calls.get_mut(id) else { return };
        match std::mem::take(&mut call.waits) {
            Waits::None => {}
            Waits::One(on, wait) => self.remove_wait(on, wait),
            Waits::Many(all) => {
                for (on, wait, _) in &all {
                    self.remove_wait(*on, *wait);
                }
                all.iter().for_each(|(_, _, file)| self.fput_call(*file));
            }
        }
    }

    /// Runs a woken call again from the top.
    fn run_parked(&mut self, id: CallId) {
        self.leave_queues(id);
        let Some(call) = self.tasks.calls.get_mut(id) else { return };
        call.queued = false;
        let (task, timed_out, deadline) = (call.task, call.timed_out, call.deadline);
        let Some(op) = call.op.take() else { return };
        if let Some(t) = self.tasks.tasks.get(task) {
            self.net.cpu = t.cpu;
        }
        let file = op.file();
        match self.run_op(task, op, RunCtx { nonblock: false, timed_out, again: true }, deadline) {
            Run::Done(result) => {
                self.end_call(id);
                self.tasks.done.push_back((id, result));
                if let Some(file) = file {
                    self.fput_call(file);
                }
            }
            Run::Block(op, block, _) => {
                if let Some(call) = self.tasks.calls.get_mut(id) {
                    call.op = Some(op);
                }
                self.enter_queues(id, block);
                self.count_sleep(task);
                if let Some(t) = self.tasks.tasks.get_mut(task) {
                    t.useless_wakeups += 1;
                }
            }
        }
    }

    /// A call's time-out passed.
    #[doc(alias = "hrtimer_wakeup")]
    pub(crate) fn call_timer(&mut self, id: CallId) {
        let Some(call) = self.tasks.calls.get_mut(id) else { return };
        call.timed_out = true;
        self.wake_call(id);
    }

    /// The call is over: its timer goes with it.
    fn end_call(&mut self, id: CallId) -> Option<ParkedCall> {
        let call = self.tasks.calls.remove(id)?;
        if let Some(at) = call.deadline {
            self.net.env.hrtimers.remove(&(at, TimerKey::Call(id)));
        }
        if let Some((dev, queue)) = call.busy {
            busy_poll::leave(self, id, (dev, queue));
        }
        Some(call)
    }

    /// Their threads are gone: the calls end without an answer.
    pub(crate) fn forget_calls_of(&mut self, tasks: &[TaskId]) {
        let ids: Vec<CallId> = self.tasks.calls.iter().filter(|(_, c)| tasks.contains(&c.task)).map(|c| c.0).collect();
        for id in ids {
            self.leave_queues(id);
            let op = self.end_call(id).and_then(|c| c.op);
            if let Some(Op::Send { file, sent, zerocopy, .. }) = op {
                self.send_ended(file, zerocopy, sent);
            }
            if let Some(Op::Linger { sock }) = op {
                self.release_quietly(sock);
            } else if let Some(file) = op.and_then(|op| op.file()) {
                self.fput_call(file);
            }
        }
    }
}
