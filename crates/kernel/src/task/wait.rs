//! Wait queues: intrusive lists of sleepers, exclusive ones at the end, woken as `__wake_up_common` does.
use crate::ids::*;
use crate::kernel::Kernel;
use crate::task::call::{WaitOn, Waits};

/// Poll bits (`POLLIN` …), as in `belljar_abi::poll`.
pub type PollMask = u32;

/// Who sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiter {
    Call(CallId),
    /// An epoll registration: `ep_poll_callback`.
    Epoll(EpItemId),
}

/// Head of a wait queue, in the object that is waited for. Two ids: an idle socket pays 16 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct WaitHead {
    pub first: Option<WaitId>,
    pub last: Option<WaitId>,
}

/// A place in one wait queue.
#[derive(Clone, Debug)]
pub struct WaitEntry {
    pub who: Waiter,
    /// `WQ_FLAG_EXCLUSIVE`.
    pub exclusive: bool,
    /// Poll bits the sleeper cares for; a wake-up without any of them passes it by. 0: every wake-up.
    pub mask: PollMask,
    pub next: Option<WaitId>,
    pub prev: Option<WaitId>,
}

impl WaitEntry {
    pub fn new(who: Waiter, exclusive: bool, mask: PollMask) -> WaitEntry {
        WaitEntry { who, exclusive, mask, next: None, prev: None }
    }
}

impl WaitHead {
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// `add_wait_queue`: the newest stands first.
    fn push_front(&mut self, waits: &mut Slab<WaitEntry>, mut e: WaitEntry) -> WaitId {
        e.next = self.first;
        let id = waits.insert(e);
        match self.first.and_then(|f| waits.get_mut(f)) {
            Some(first) => first.prev = Some(id),
            None => self.last = Some(id),
        }
        self.first = Some(id);
        id
    }

    /// `add_wait_queue_exclusive`: the oldest stands first.
    fn push_back(&mut self, waits: &mut Slab<WaitEntry>, mut e: WaitEntry) -> WaitId {
        e.prev = self.last;
        let id = waits.insert(e);
        match self.last.and_then(|l| waits.get_mut(l)) {
            Some(last) => last.next = Some(id),
            None => self.first = Some(id),
        }
        self.last = Some(id);
        id
    }

    fn unlink(&mut self, waits: &mut Slab<WaitEntry>, id: WaitId) {
        let Some(e) = waits.remove(id) else { return };
        match e.prev.and_then(|p| waits.get_mut(p)) {
            Some(p) => p.next = e.next,
            None => self.first = e.next,
        }
        match e.next.and_then(|n| waits.get_mut(n)) {
            Some(n) => n.prev = e.prev,
            None => self.last = e.prev,
        }
    }
}

/// At which end of a wait queue an entry goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Front,
    Back,
}

impl Kernel {
    fn wait_head(&mut self, on: WaitOn) -> Option<(&mut WaitHead, &mut Slab<WaitEntry>)> {
        let head = match on {
            WaitOn::Sock(sock) => &mut self.socks.sk_mut(sock)?.wait,
            WaitOn::Epoll(ep) => &mut self.files.epolls.get_mut(ep)?.wq,
            WaitOn::EpollPoll(ep) => &mut self.files.epolls.get_mut(ep)?.poll_wait,
        };
        Some((head, &mut self.tasks.waits))
    }

    pub(crate) fn has_waiters(&mut self, on: WaitOn) -> bool {
        self.wait_head(on).is_some_and(|(head, _)| !head.is_empty())
    }

    pub(crate) fn add_wait(&mut self, on: WaitOn, e: WaitEntry, end: End) -> Option<WaitId> {
        let (head, waits) = self.wait_head(on)?;
        Some(match end {
            End::Front => head.push_front(waits, e),
            End::Back => head.push_back(waits, e),
        })
    }

    pub(crate) fn remove_wait(&mut self, on: WaitOn, id: WaitId) {
        match self.wait_head(on) {
            Some((head, waits)) => head.unlink(waits, id),
            // The object is gone and its queue with it.
            None => drop(self.tasks.waits.remove(id)),
        }
    }

    /// Wakes who waits on a socket: one exclusive sleeper for an event, all for a change of state (mask 0 or hang-up).
    #[doc(alias = "sock_def_readable")]
    #[doc(alias = "sock_def_wakeup")]
    pub(crate) fn wake_sock(&mut self, sock: SockId, mask: PollMask) {
        let all = mask == 0 || mask & belljar_abi::POLLHUP != 0;
        self.wake_up(WaitOn::Sock(sock), mask, if all { 0 } else { 1 });
    }

    /// Walks the queue from the front: every sleeper that wants one of these bits, but at most `nr_exclusive` exclusive
    /// ones (0: all).
    #[doc(alias = "__wake_up_common")]
    pub(crate) fn wake_up(&mut self, on: WaitOn, mask: PollMask, nr_exclusive: u32) {
        let mut next = self.wait_head(on).and_then(|(head, _)| head.first);
        let mut left = nr_exclusive;
        while let Some(id) = next {
            let Some(e) = self.tasks.waits.get(id) else { break };
            let (who, exclusive, want) = (e.who, e.exclusive, e.mask);
            // Waking takes at most this entry off this queue: epoll's own queues are others, and ELOOP keeps them so.
            next = e.next;
            if mask != 0 && want != 0 && mask & want == 0 {
                continue;
            }
            let woke = match who {
                Waiter::Call(call) => self.wake_call(call),
                Waiter::Epoll(item) => self.ep_poll_callback(item, mask),
            };
            if woke && exclusive && left > 0 {
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
    }

    /// Puts a sleeping call on the run queue; false when it is there already.
    #[doc(alias = "autoremove_wake_function")]
    pub(crate) fn wake_call(&mut self, id: CallId) -> bool {
        let Some(call) = self.tasks.calls.get_mut(id) else { return false };
        if call.queued {
            return false;
        }
        call.queued = true;
        let task = call.task;
        // A call that waits on one object leaves the queue now, so that the next event finds the next sleeper.
        if let Waits::One(on, wait) = call.waits {
            call.waits = Waits::None;
            self.remove_wait(on, wait);
        }
        self.tasks.runnable.push_back(id);
        if let Some(t) = self.tasks.tasks.get_mut(task) {
            t.wakeups += 1;
        }
        true
    }
}
