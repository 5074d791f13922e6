//! Thundering herds: one connection wakes several threads that wait for it, one takes it, and accept() of the others finds
//! nothing. The account tells of it.
use crate::jar::Jar;
use crate::options::Herd;
use crate::socks::SockId;
use belljar_abi::SockAddr;
use belljar_host::process;

/// Listeners remembered, and threads of each.
const MOST: usize = 64;

/// A thread that accepts.
#[derive(Clone, Copy, Debug)]
struct Taker {
    tid: u32,
    /// Connections that the listener had given when this thread last asked.
    seen: u64,
    /// It got one then: that it asks again and finds nothing is the end of a loop.
    took: bool,
}

/// Who accepts at a listener.
#[derive(Debug, Default)]
struct Takers {
    taken: u64,
    threads: Vec<Taker>,
}

/// A listener, and its herd once somebody came for nothing.
#[derive(Debug)]
pub struct Listening {
    sock: SockId,
    takers: Takers,
    herd: Option<Herd>,
}

impl Takers {
    /// The thread asks; true when others took what there was since it last did.
    fn asks(&mut self, tid: u32, gets: bool) -> bool {
        self.taken += u64::from(gets);
        let taken = self.taken;
        match self.threads.iter_mut().find(|t| t.tid == tid) {
            Some(t) => {
                let vain = !gets && !t.took && t.seen < taken;
                (t.seen, t.took) = (taken, gets);
                vain
            }
            None => {
                if self.threads.len() < MOST {
                    self.threads.push(Taker { tid, seen: taken, took: gets });
                }
                false
            }
        }
    }
}

impl Jar {
    /// Thread `tid` called accept, which would not wait, and got a connection or nothing.
    pub(super) fn note_accept(&mut self, id: SockId, tid: u32, gets: bool) {
        let Some(n) = self.listening(id) else { return };
        let Some(l) = self.herds.get_mut(n) else { return };
        if !l.takers.asks(tid, gets) {
            return;
        }
        if l.herd.is_none() {
            let at = self.local_of(id).to_ip();
            let herd = at.map(|at| Herd { program: process::name(tid), at, vain: 0, taken: 0, threads: 0 });
            self.herds.get_mut(n).into_iter().for_each(|l| l.herd = herd.clone());
        }
        if let Some(l) = self.herds.get_mut(n)
            && let Some(h) = &mut l.herd
        {
            h.vain += 1;
            (h.taken, h.threads) = (l.takers.taken, l.takers.threads.len());
        }
    }

    fn listening(&mut self, id: SockId) -> Option<usize> {
        if let Some(n) = self.herds.iter().position(|l| l.sock == id) {
            return Some(n);
        }
        let new = Listening { sock: id, takers: Takers::default(), herd: None };
        if self.herds.len() < MOST {
            self.herds.push(new);
            return Some(self.herds.len() - 1);
        }
        // One that is closed and has nothing to tell makes room.
        let n = self.herds.iter().position(|l| l.herd.is_none() && self.socks.get(l.sock).is_none())?;
        *self.herds.get_mut(n)? = new;
        Some(n)
    }

    fn local_of(&mut self, id: SockId) -> SockAddr {
        let Some(s) = self.socks.get(id) else { return SockAddr::Unspec };
        match (s.fd, self.machines.get_mut(s.host)) {
            (Some(fd), Some(m)) => m.getsockname(self.now, fd).unwrap_or_default(),
            _ => SockAddr::Unspec,
        }
    }
}

/// For the account.
pub(crate) fn told(all: Vec<Listening>) -> Vec<Herd> {
    all.into_iter().filter_map(|l| l.herd).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_for_nothing_and_who_only_looks_again() {
        let mut t = Takers::default();
        // Nothing was there, for nobody.
        assert!(!t.asks(1, false) && !t.asks(2, false) && !t.asks(2, false));
        // One takes it and looks again; the other comes for nothing, once.
        assert!(!t.asks(1, true) && !t.asks(1, false));
        assert!(t.asks(2, false) && !t.asks(2, false));
        // Both get one and look again.
        assert!(!t.asks(1, true) && !t.asks(2, true) && !t.asks(1, false) && !t.asks(2, false));
    }
}
