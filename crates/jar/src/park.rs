//! Calls that wait: the notification stays unanswered until the call can be finished, its time is over or a signal comes.
//!
//! A parked thread hears no signal, so its masks are looked at every few milliseconds; a deliverable one ends the call
//! with ERESTARTSYS, which the host kernel turns into a restart (SA_RESTART) or EINTR. Only when the signal may as well
//! be taken by another thread it is a plain EINTR, because ERESTARTSYS without a signal would reach the program.
use crate::jar::Jar;
use crate::socks::SockId;
use belljar_abi::Errno;
use belljar_host::seccomp::Notification;
use belljar_host::task::Signals;
use belljar_kernel::ids::Id;

pub type ParkId = Id<Parked>;

/// See the module.
#[derive(Debug)]
pub struct Parked {
    pub note: Notification,
    /// Index of the listener that brought it.
    pub listener: u32,
    pub sock: SockId,
    /// SO_RCVTIMEO and its kin, and what the call returns then.
    pub deadline: Option<(u64, Errno)>,
    pub since: u64,
    pub look_at: u64,
    /// A process-wide signal was pending at the last look already.
    pub pending: bool,
    /// Bytes a send got rid of before it had to wait.
    pub sent: usize,
}

const MS: u64 = 1_000_000;

/// Time between looks: tight at first, wider for those that wait long (a look costs about 11 µs).
fn interval(waited: u64) -> u64 {
    match waited {
        0..1_000_000_000 => 5 * MS,
        1_000_000_000..10_000_000_000 => 8 * MS,
        _ => 10 * MS,
    }
}

impl Jar {
    pub(crate) fn park(
        &mut self,
        listener: u32,
        note: Notification,
        sock: SockId,
        deadline: Option<(u64, Errno)>,
        sent: usize,
    ) {
        let look_at = self.now + 5 * MS;
        let p = Parked { note, listener, sock, deadline, since: self.now, look_at, pending: false, sent };
        let id = self.parked.insert(p);
        if let Some(s) = self.socks.get_mut(sock) {
            s.parked.push(id);
        }
    }

    /// Runs the calls that wait for `sock` again, oldest first.
    pub(crate) fn retry_parked(&mut self, sock: SockId) {
        let Some(s) = self.socks.get_mut(sock) else { return };
        if s.parked.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut s.parked);
        for (n, id) in waiting.iter().enumerate() {
            let Some(p) = self.parked.remove(*id) else { continue };
            let again = self.serve_again(&p);
            if !again {
                continue;
            }
            // Still waiting, with its age and its place.
            let poll = p.note.sys.is_poll();
            let id = self.parked.insert(p);
            if let Some(s) = self.socks.get_mut(sock) {
                s.parked.push(id);
                if poll {
                    continue;
                }
                // Behind an accept that found nothing, the others find nothing either.
                s.parked.extend_from_slice(waiting.get(n + 1..).unwrap_or(&[]));
            }
            return;
        }
    }

    /// Time of the next look or deadline.
    pub(crate) fn parked_deadline(&self) -> Option<u64> {
        self.parked.iter().map(|(_, p)| p.deadline.map_or(p.look_at, |(d, _)| d.min(p.look_at))).min()
    }

    /// Ends what timed out, whose caller died or must hear a signal.
    pub(crate) fn look_at_parked(&mut self) {
        let now = self.now;
        let due: Vec<ParkId> = self
            .parked
            .iter()
            .filter(|(_, p)| p.look_at <= now || p.deadline.is_some_and(|(d, _)| d <= now))
            .map(|(id, _)| id)
            .collect();
        for id in due {
            self.look_at_one(id);
        }
    }

    fn look_at_one(&mut self, id: ParkId) {
        let now = self.now;
        let Some(p) = self.parked.get_mut(id) else { return };
        if let Some((_, errno)) = p.deadline.filter(|(d, _)| *d <= now) {
            return self.unpark(id, Some(errno));
        }
        p.look_at = now + interval(now.saturating_sub(p.since));
        let (tid, was_pending) = (p.note.tid, p.pending);
        let Some(signals) = Signals::of(tid) else { return self.unpark(id, None) };
        if signals.deliverable_to_thread() {
            return self.unpark(id, Some(Errno::ERESTARTSYS));
        }
        let pending = signals.deliverable_to_process();
        if pending && was_pending {
            return self.unpark(id, Some(Errno::EINTR));
        }
        if let Some(p) = self.parked.get_mut(id) {
            p.pending = pending;
        }
        let (listener, note) = match self.parked.get(id) {
            Some(p) => (p.listener, p.note.id),
            None => return,
        };
        if self.listener(listener).is_none_or(|l| !l.id_valid(note)) {
            return self.unpark(id, None);
        }
        // Of the descriptors of a poll only one socket's events come here.
        if let Some(sock) = self.parked.get(id).filter(|p| p.note.sys.is_poll()).map(|p| p.sock) {
            self.retry_parked(sock);
        }
    }

    /// Takes a call out of the waiting and answers it, if somebody still listens.
    fn unpark(&mut self, id: ParkId, errno: Option<Errno>) {
        let Some(p) = self.parked.remove(id) else { return };
        if let Some(s) = self.socks.get_mut(p.sock) {
            s.parked.retain(|w| *w != id);
        }
        let Some(errno) = errno else { return };
        // A send that got rid of something returns that, as the kernel's own does.
        let result = if p.sent > 0 { Ok(p.sent as i64) } else { Err(errno) };
        self.reply(p.listener, &p.note, result);
    }

    /// Answers everything that waits for `sock` with `errno`.
    pub(crate) fn fail_parked(&mut self, sock: SockId, errno: Errno) {
        let Some(s) = self.socks.get_mut(sock) else { return };
        for id in std::mem::take(&mut s.parked) {
            self.unpark(id, Some(errno));
        }
    }
}
