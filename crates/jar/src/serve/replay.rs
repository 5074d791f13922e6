//! Answers that a signal may have swallowed: on kernels before 5.19 a plain reply can be lost although it was sent, and the
//! program's call then arrives a second time. Bind would fail, connect would say "already": so the same call of the same
//! thread, moments later, gets the same answer and changes nothing.
use belljar_abi::Errno;
use belljar_host::seccomp::{Notification, Sys};
use std::collections::HashMap;

/// A repeated call comes at once; a program's own second try does not.
const WINDOW: u64 = 10_000_000;
const MAX: usize = 4096;

#[derive(Debug, Default)]
pub struct Replay {
    last: HashMap<u32, Answered>,
}

/// Call, arguments, answer, when.
type Answered = (Sys, [u64; 6], Result<i64, Errno>, u64);

fn matters(sys: Sys) -> bool {
    matches!(sys, Sys::Bind | Sys::Listen | Sys::Connect | Sys::Setsockopt | Sys::Shutdown)
}

impl Replay {
    /// The answer that this very call had a moment ago.
    pub fn again(&mut self, note: &Notification, now: u64) -> Option<Result<i64, Errno>> {
        let (sys, args, result, at) = *self.last.get(&note.tid)?;
        let same = sys == note.sys && args == note.args && now.saturating_sub(at) < WINDOW;
        // Whatever else the thread calls proves that it had its answer.
        if same { Some(result) } else { self.last.remove(&note.tid).and(None) }
    }

    pub fn answered(&mut self, note: &Notification, result: Result<i64, Errno>, now: u64) {
        if matters(note.sys) {
            if self.last.len() >= MAX {
                self.last.clear();
            }
            self.last.insert(note.tid, (note.sys, note.args, result, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_call_at_once_is_answered_again() {
        let n = |sys, a| Notification { id: 1, tid: 7, sys, args: [a; 6] };
        let mut r = Replay::default();
        r.answered(&n(Sys::Bind, 3), Ok(0), 100);
        assert_eq!(r.again(&n(Sys::Bind, 3), 200), Some(Ok(0)));
        assert_eq!(r.again(&n(Sys::Bind, 3), 200 + WINDOW), None);
        r.answered(&n(Sys::Bind, 3), Ok(0), 100);
        assert_eq!(r.again(&n(Sys::Listen, 3), 200), None);
        assert_eq!(r.again(&n(Sys::Bind, 3), 200), None);
    }
}
