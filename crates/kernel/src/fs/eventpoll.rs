//! epoll: what an instance watches, its ready list, who waits (Linux: `fs/eventpoll.c`).
//!
//! An item is keyed by (open file, descriptor number) and stands on the ready list at most once. A wake-up of the file
//! appends it; `epoll_wait` takes items off the front, asks each file for its *current* mask, and puts level-triggered
//! ones back at the end. `epoll_ctl` is in `syscall/epoll.rs`.
use crate::fs::file::FileKind;
use crate::ids::*;
use crate::kernel::{Files, Kernel};
use crate::task::call::{EpollEvent, Fd, WaitOn};
use crate::task::wait::{End, PollMask, WaitEntry, WaitHead, Waiter};
use belljar_abi::*;
use hashbrown::HashTable;

/// What is set per item and is no event (`EP_PRIVATE_BITS`).
const PRIVATE_BITS: u32 = EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE;
const INOUT_BITS: u32 = EPOLLIN | EPOLLOUT;

#[derive(Clone, Debug, Default)]
pub struct EventPoll {
    /// By (file, descriptor), with the hash so that growing looks at no item; never iterated.
    items: HashTable<(u32, EpItemId)>,
    /// Ready list.
    first: Option<EpItemId>,
    last: Option<EpItemId>,
    ready: usize,
    /// All items, in order of registration.
    all_first: Option<EpItemId>,
    all_last: Option<EpItemId>,
    /// Sleepers of `epoll_wait`, newest first, all exclusive.
    pub wq: WaitHead,
    /// Who polls this instance: poll(2), other instances.
    pub poll_wait: WaitHead,
    /// Its own open file.
    pub file: Option<FileId>,
    /// The last walk that came by (`ep_loop_check`), and the depth it found below.
    pub(crate) seen: u64,
    pub(crate) height: u8,
}

#[derive(Clone, Debug)]
pub struct EpItem {
    pub ep: EpollId,
    pub file: FileId,
    pub fd: Fd,
    /// Wanted events and flags.
    pub events: u32,
    pub data: u64,
    /// Its place in the wait queue of the file.
    wait: Option<WaitId>,
    /// Neighbours on the ready list, when `ready`.
    next: Option<EpItemId>,
    prev: Option<EpItemId>,
    ready: bool,
    all_next: Option<EpItemId>,
    all_prev: Option<EpItemId>,
    /// Neighbours among the registrations of the file.
    pub(crate) file_next: Option<EpItemId>,
    file_prev: Option<EpItemId>,
}

impl EventPoll {
    /// Descriptors it watches.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Items on the ready list.
    pub fn ready(&self) -> usize {
        self.ready
    }
}

/// Neither part is chosen by a stranger, so a multiplication spreads well enough.
fn key(file: FileId, fd: Fd) -> u32 {
    let x = (file.to_bits() ^ u64::from(fd) << 20).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x >> 32) as u32
}

/// The table takes its tag from the top bits and its place from the bottom ones.
fn spread(key: u32) -> u64 {
    u64::from(key) << 32 | u64::from(key)
}

impl Files {
    pub(crate) fn ep_find(&self, ep: EpollId, file: FileId, fd: Fd) -> Option<EpItemId> {
        let key = key(file, fd);
        let is = |e: &(u32, EpItemId)| e.0 == key && self.items.get(e.1).is_some_and(|i| i.fd == fd && i.file == file);
        self.epolls.get(ep)?.items.find(spread(key), is).map(|e| e.1)
    }

    /// The registrations of an instance, oldest first.
    pub fn ep_items(&self, ep: EpollId) -> impl Iterator<Item = (EpItemId, &EpItem)> {
        let mut next = self.epolls.get(ep).and_then(|e| e.all_first);
        std::iter::from_fn(move || {
            let id = next?;
            let item = self.items.get(id)?;
            next = item.all_next;
            Some((id, item))
        })
    }

    /// Appends to the ready list unless it is there.
    fn list_ready(&mut self, id: EpItemId) {
        let Some(item) = self.items.get_mut(id) else { return };
        let Some(ep) = self.epolls.get_mut(item.ep) else { return };
        if item.ready {
            return;
        }
        (item.ready, item.prev, item.next) = (true, ep.last, None);
        match ep.last.replace(id).and_then(|l| self.items.get_mut(l)) {
            Some(last) => last.next = Some(id),
            None => ep.first = Some(id),
        }
        ep.ready += 1;
    }

    fn unlist_ready(&mut self, id: EpItemId) {
        let Some(item) = self.items.get_mut(id) else { return };
        if !std::mem::take(&mut item.ready) {
            return;
        }
        let (ep, prev, next) = (item.ep, item.prev.take(), item.next.take());
        let Some(ep) = self.epolls.get_mut(ep) else { return };
        ep.ready -= 1;
        match prev.and_then(|p| self.items.get_mut(p)) {
            Some(p) => p.next = next,
            None => ep.first = next,
        }
        match next.and_then(|n| self.items.get_mut(n)) {
            Some(n) => n.prev = prev,
            None => ep.last = prev,
        }
    }

    /// Hangs the item into the table of its instance, its list, and the list of the file.
    fn link(&mut self, id: EpItemId) {
        let Some(item) = self.items.get(id) else { return };
        let (ep_id, file, fd) = (item.ep, item.file, item.fd);
        let Files { files, epolls, items, .. } = self;
        let Some(ep) = epolls.get_mut(ep_id) else { return };
        let key = key(file, fd);
        ep.items.insert_unique(spread(key), (key, id), |e| spread(e.0));
        let before = ep.all_last.replace(id);
        match before.and_then(|l| items.get_mut(l)) {
            Some(l) => l.all_next = Some(id),
            None => ep.all_first = Some(id),
        }
        let after = files.get_mut(file).and_then(|f| f.watchers.replace(id));
        if let Some(w) = after.and_then(|w| items.get_mut(w)) {
            w.file_prev = Some(id);
        }
        if let Some(item) = items.get_mut(id) {
            (item.all_prev, item.file_next) = (before, after);
        }
    }

    fn unlink(&mut self, id: EpItemId) -> Option<EpItem> {
        self.unlist_ready(id);
        let item = self.items.remove(id)?;
        let Files { files, epolls, items, .. } = self;
        if let Some(ep) = epolls.get_mut(item.ep) {
            if let Ok(found) = ep.items.find_entry(spread(key(item.file, item.fd)), |e| e.1 == id) {
                found.remove();
            }
            match item.all_prev.and_then(|p| items.get_mut(p)) {
                Some(p) => p.all_next = item.all_next,
                None => ep.all_first = item.all_next,
            }
            match item.all_next.and_then(|n| items.get_mut(n)) {
                Some(n) => n.all_prev = item.all_prev,
                None => ep.all_last = item.all_prev,
            }
        }
        match item.file_prev.and_then(|p| items.get_mut(p)) {
            Some(p) => p.file_next = item.file_next,
            None => {
                if let Some(f) = files.get_mut(item.file) {
                    f.watchers = item.file_next;
                }
            }
        }
        if let Some(n) = item.file_next.and_then(|n| items.get_mut(n)) {
            n.file_prev = item.file_prev;
        }
        Some(item)
    }
}

impl Kernel {
    /// The queue in which watchers of a file stand.
    pub(crate) fn wait_on(&self, file: FileId) -> Option<WaitOn> {
        Some(match self.files.files.get(file)?.kind {
            FileKind::Sock(sock) => WaitOn::Sock(sock),
            FileKind::Epoll(ep) => WaitOn::EpollPoll(ep),
        })
    }

    pub(crate) fn ep_insert(&mut self, ep: EpollId, file: FileId, fd: Fd, event: EpollEvent) {
        let id = self.files.items.insert(EpItem {
            ep,
            file,
            fd,
            events: event.events | EPOLLERR | EPOLLHUP,
            data: event.data,
            wait: None,
            next: None,
            prev: None,
            ready: false,
            all_next: None,
            all_prev: None,
            file_next: None,
            file_prev: None,
        });
        self.files.link(id);
        // Exclusive registrations stand at the end, oldest first; plain ones in front, newest first.
        let exclusive = event.events & EPOLLEXCLUSIVE != 0;
        let end = if exclusive { End::Back } else { End::Front };
        let wait =
            self.wait_on(file).and_then(|on| self.add_wait(on, WaitEntry::new(Waiter::Epoll(id), exclusive, 0), end));
        if let Some(item) = self.files.items.get_mut(id) {
            item.wait = wait;
        }
        self.ep_recheck(ep, id);
    }

    pub(crate) fn ep_modify(&mut self, ep: EpollId, id: EpItemId, event: EpollEvent) {
        let Some(item) = self.files.items.get_mut(id) else { return };
        (item.events, item.data) = (event.events | EPOLLERR | EPOLLHUP, event.data);
        self.ep_recheck(ep, id);
    }

    /// What the file shows already counts as an event: this is how MOD re-arms.
    fn ep_recheck(&mut self, ep: EpollId, id: EpItemId) {
        let listed = self.files.items.get(id).is_none_or(|i| i.ready);
        if self.ep_item_poll(id) != 0 && !listed {
            self.files.list_ready(id);
            self.ep_wake(ep);
        }
    }

    pub(crate) fn ep_remove(&mut self, id: EpItemId) {
        let Some(item) = self.files.unlink(id) else { return };
        if let (Some(wait), Some(on)) = (item.wait, self.wait_on(item.file)) {
            self.remove_wait(on, wait);
        }
    }

    /// The last reference to a watched file went: its registrations go with it.
    pub(crate) fn eventpoll_release_file(&mut self, file: FileId) {
        while let Some(id) = self.files.files.get(file).and_then(|f| f.watchers) {
            self.ep_remove(id);
        }
    }

    pub(crate) fn ep_free(&mut self, ep: EpollId) {
        while let Some(id) = self.files.epolls.get(ep).and_then(|e| e.all_first) {
            self.ep_remove(id);
        }
        self.files.epolls.remove(ep);
    }

    /// Current mask of the watched file, as far as it is wanted.
    fn ep_item_poll(&mut self, id: EpItemId) -> PollMask {
        let Some((file, events)) = self.files.items.get(id).map(|i| (i.file, i.events)) else { return 0 };
        self.vfs_poll(file) & events
    }

    /// One sleeper of `epoll_wait`, and whoever polls the instance itself.
    fn ep_wake(&mut self, ep: EpollId) {
        self.wake_up(WaitOn::Epoll(ep), EPOLLIN, 1);
        self.wake_up(WaitOn::EpollPoll(ep), EPOLLIN, 0);
    }

    /// The watched file woke its queue. Returns whether this counts as a wake-up among exclusive ones.
    pub(crate) fn ep_poll_callback(&mut self, id: EpItemId, mask: PollMask) -> bool {
        let Some((ep, events)) = self.files.items.get(id).map(|i| (i.ep, i.events)) else { return false };
        let exclusive = events & EPOLLEXCLUSIVE != 0;
        // A fired ONESHOT item has no events left, not even errors.
        if events & !PRIVATE_BITS == 0 || mask != 0 && mask & events == 0 {
            return !exclusive;
        }
        self.files.list_ready(id);
        let awake = self.has_waiters(WaitOn::Epoll(ep));
        self.ep_wake(ep);
        let counts = match mask & INOUT_BITS {
            0 => true,
            EPOLLIN => events & EPOLLIN != 0,
            EPOLLOUT => events & EPOLLOUT != 0,
            _ => false,
        };
        !exclusive || awake && counts
    }

    /// Collects events for one `epoll_wait`.
    pub(crate) fn ep_send_events(&mut self, ep: EpollId, max: usize) -> Vec<EpollEvent> {
        let mut out = Vec::new();
        // What goes back to the end is not looked at twice.
        let mut left = self.files.epolls.get(ep).map_or(0, |e| e.ready);
        if left == 0 {
            return out;
        }
        out.reserve_exact(left.min(max));
        while left > 0 && out.len() < max {
            left -= 1;
            let Some(id) = self.files.epolls.get(ep).and_then(|e| e.first) else { break };
            self.files.unlist_ready(id);
            let events = self.ep_item_poll(id);
            let Some(item) = self.files.items.get_mut(id) else { continue };
            if events == 0 {
                continue;
            }
            out.push(EpollEvent { events, data: item.data });
            if item.events & EPOLLONESHOT != 0 {
                item.events &= PRIVATE_BITS;
            } else if item.events & EPOLLET == 0 {
                self.files.list_ready(id);
            }
        }
        // The chain: what is left (level-triggered items are) wakes the next sleeper.
        if self.files.epolls.get(ep).is_some_and(|e| e.ready > 0) {
            self.wake_up(WaitOn::Epoll(ep), EPOLLIN, 1);
        }
        out
    }

    /// Readable when an item on the ready list still has something to say; those that do not leave the list.
    pub(crate) fn ep_eventpoll_poll(&mut self, ep: EpollId) -> PollMask {
        while let Some(id) = self.files.epolls.get(ep).and_then(|e| e.first) {
            if self.ep_item_poll(id) != 0 {
                return EPOLLIN | EPOLLRDNORM;
            }
            self.files.unlist_ready(id);
        }
        0
    }
}
