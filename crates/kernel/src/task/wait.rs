//! Wait queues: intrusive lists of sleepers, exclusive ones at the end, woken as `__wake_up_common` does.
use crate::ids::*;

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

impl WaitHead {
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }
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
