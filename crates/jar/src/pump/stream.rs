//! Streams: bytes both ways, ends and resets in their order, connects that complete, listeners with their tokens.
use crate::jar::Jar;
use crate::machine::READ;
use crate::serve::socket::{OUR_SNDBUF, short_sleep};
use crate::socks::{BATCH_MAX, BATCH_MIN, Batch, Flow, PAIR_MAX, Phase, SockId, Stream, Tomb};
use belljar_abi::{self as abi, Errno, SockAddr};
use belljar_host::{epoll, fd};
use belljar_kernel::task::call::Payload;
use belljar_wire::{Seg, Segs};
use std::io::{ErrorKind, IoSlice};

/// From so many bytes on the page itself is handed over instead of being copied.
pub(crate) const HAND_OVER: usize = 8 * 1024;
/// With this much read but still in the kernel's queue, reading is told at once, because the window may wait for it.
const LAZY: usize = 16 * 1024;

/// Most bytes that filling takes.
const FILLING: usize = 4096;

enum Taken {
    /// All that was there.
    All,
    /// The kernel's send buffer is full.
    Full,
    /// The connection is over for writing, and this is why.
    Broken(Errno),
}

impl Jar {
    /// The kernel's socket changed.
    pub(crate) fn stream_event(&mut self, id: SockId, events: u32) {
        let Some(s) = self.socks.get(id) else { return };
        let Flow::Stream(st) = &s.flow else { return };
        match st.phase {
            Phase::Fresh => {}
            Phase::Listening { .. } => self.sync_tokens(id),
            Phase::Connecting { .. } => {
                if events & (abi::EPOLLERR | abi::EPOLLHUP) != 0 && !self.connected(id) {
                    self.connect_failed(id);
                } else if events & abi::EPOLLOUT != 0 {
                    self.connect_done(id);
                    self.stream_in(id);
                }
            }
            Phase::Open => {
                if !st.unsent.is_empty() {
                    self.stream_out(id);
                }
                self.stream_in(id);
                self.retry_parked(id);
                if events & (abi::EPOLLERR | abi::EPOLLHUP) != 0 {
                    self.check_reset(id);
                }
            }
        }
    }

    fn connected(&mut self, id: SockId) -> bool {
        let Some(s) = self.socks.get(id) else { return false };
        let (Some(fd), Some(m)) = (s.fd, self.machines.get_mut(s.host)) else { return false };
        m.getpeername(self.now, fd).is_ok()
    }

    /// Moves what the kernel has for the program into the pair.
    pub(crate) fn stream_in(&mut self, id: SockId) {
        self.settle(id);
        self.skip_urgent(id);
        loop {
            let Some(s) = self.socks.get_mut(id) else { return };
            let Flow::Stream(st) = &mut s.flow else { return };
            let (Some(kfd), Some(m)) = (s.fd, self.machines.get_mut(s.host)) else { return };
            if st.phase != Phase::Open || st.fin_passed || s.closed {
                return;
            }
            if st.batches.is_empty() {
                st.batch = (st.batch * 2).min(BATCH_MAX);
            }
            let room = PAIR_MAX.saturating_sub(st.in_pair).min(st.batch);
            let mut segs = m.peek(kfd, st.passed(), room);
            // An urgent byte crosses alone, as one.
            let urgent = m.urgent(kfd).and_then(|at| at.checked_sub(st.passed())).filter(|at| *at < segs.len());
            if let Some(at) = urgent {
                segs.truncate(at.max(1));
            }
            if segs.is_empty() {
                let (all, fin) = (m.readable(kfd) <= st.passed(), m.got_fin(kfd));
                let tight = m.tight(kfd);
                if all && fin {
                    st.fin_passed = true;
                    let both = st.write_shut;
                    let _ = fd::shutdown(&s.ours, fd::Half::Write);
                    if both {
                        self.note_shut(id);
                    }
                }
                // More is there than the pair may hold, or the window waits for what is in it.
                let in_pair = self.in_pair(id);
                let tell = !all || in_pair > LAZY || (in_pair > 0 && tight);
                return self.watch_out(id, tell);
            }
            let before = if st.batches.is_empty() { 0 } else { fd::outq(&s.ours).unwrap_or(0) };
            let slices: Vec<IoSlice<'_>> = segs.iter().take(64).map(|p| IoSlice::new(p.as_slice())).collect();
            let sent = match urgent {
                Some(0) => fd::send_oob(&s.ours, slices.first().map_or(&[][..], |b| b)),
                _ => fd::send_vectored(&s.ours, &slices),
            };
            match sent {
                Ok(n) => {
                    let mem =
                        if st.batches.is_empty() { n } else { fd::outq(&s.ours).unwrap_or(0).saturating_sub(before) };
                    st.batches.push_back(Batch { bytes: n, mem });
                    st.in_pair += n;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    // Room for a full pair is asked for by those that need it.
                    if !st.roomy && fd::set_sndbuf(&s.ours, OUR_SNDBUF).is_ok() {
                        st.roomy = true;
                        continue;
                    }
                    st.batch = BATCH_MIN;
                    return self.watch_out(id, true);
                }
                // EPIPE: closed, or the program shut its reading half; HUP tells which.
                Err(_) => return,
            }
        }
    }

    fn in_pair(&self, id: SockId) -> usize {
        match self.socks.get(id).map(|s| &s.flow) {
            Some(Flow::Stream(st)) => st.in_pair,
            _ => 0,
        }
    }

    /// Takes what the program has read out of the kernel's queue: the window opens, Recv-Q falls.
    pub(crate) fn settle(&mut self, id: SockId) {
        let Some(s) = self.socks.get_mut(id) else { return };
        let Flow::Stream(st) = &mut s.flow else { return };
        if st.batches.is_empty() || s.closed {
            return;
        }
        let Ok(outq) = fd::outq(&s.ours) else { return };
        let read = st.settle(outq);
        let thrown = read.min(st.ahead);
        st.ahead -= thrown;
        if read > thrown
            && let (Some(kfd), Some(m)) = (s.fd, self.machines.get_mut(s.host))
        {
            m.consume(self.now, kfd, read - thrown);
            st.copied_seq = m.copied_seq(kfd);
        }
    }

    /// An urgent byte behind another that nobody has read takes its place: the kernel throws the first out of its queue, and
    /// so it leaves the pair.
    fn skip_urgent(&mut self, id: SockId) {
        let Some(s) = self.socks.get_mut(id) else { return };
        let Flow::Stream(st) = &mut s.flow else { return };
        let (Some(kfd), Some(m)) = (s.fd, self.machines.get_mut(s.host)) else { return };
        let at = m.copied_seq(kfd);
        let moved = match (st.copied_seq, at) {
            (Some(before), Some(at)) => at.wrapping_sub(before) as usize,
            _ => 0,
        };
        st.copied_seq = at;
        if moved == 0 || moved > st.passed() {
            return;
        }
        st.ahead += moved;
        if let Some(end) = self.find_program_end(id) {
            let _ = fd::recv_oob(&end, false);
        }
        self.settle(id);
    }

    /// Moves what the program wrote into the kernel; sees its end.
    pub(crate) fn stream_out(&mut self, id: SockId) {
        loop {
            let Some(s) = self.socks.get_mut(id) else { return };
            let Flow::Stream(st) = &mut s.flow else { return };
            if !matches!(st.phase, Phase::Open) {
                let fresh = matches!(st.phase, Phase::Fresh) && s.parked.is_empty();
                return if fresh {
                    self.written_too_early(id)
                };
            }
            if !st.unsent.is_empty() {
                let rest = std::mem::take(&mut st.unsent);
                match self.segs_to_kernel(id, rest) {
                    Taken::All => continue,
                    Taken::Full => return,
                    Taken::Broken(why) => {
                        self.write_failed(id, why);
                        continue;
                    }
                }
            }
            // What is behind the mark is the end.
            let max = match st.marked {
                false => READ,
                true => fd::inq(&s.ours).unwrap_or(0).saturating_sub(1).min(READ),
            };
            if max == 0 {
                return self.end_of_marked(id);
            }
            let Some(m) = self.machines.get_mut(s.host) else { return };
            match m.read_page(&s.ours, max) {
                Ok(seg) if seg.is_empty() => return self.end_of_program_bytes(id),
                Ok(seg) => {
                    let n = seg.len();
                    let taken = if n >= HAND_OVER {
                        self.segs_to_kernel(id, Segs::from(seg))
                    } else {
                        self.bytes_to_kernel(id, seg)
                    };
                    match taken {
                        Taken::All => {}
                        Taken::Full => return,
                        Taken::Broken(why) => self.write_failed(id, why),
                    }
                    // A short read emptied the pair; a new edge comes with new bytes, but not with an end seen before.
                    if n < READ / 2 && !self.end_expected(id) {
                        return self.settle(id);
                    }
                }
                Err(e) => match e.kind() {
                    ErrorKind::WouldBlock => return,
                    ErrorKind::Interrupted => {}
                    // Unread data was thrown away by the last close.
                    _ => return self.program_end(id, true),
                },
            }
        }
    }

    /// Bytes of a program that takes its socket for connected, as after a connect() that a signal took back before it was
    /// heard of. The stack's own answer (EPIPE) comes too late for that write; the next read or write fails instead of waiting.
    fn written_too_early(&mut self, id: SockId) {
        if self.socks.get(id).is_some_and(|s| fd::inq(&s.ours).is_ok_and(|n| n > 0)) {
            self.kill_pair(id, Errno::ENOTCONN.0);
        }
    }

    fn end_expected(&self, id: SockId) -> bool {
        self.socks.get(id).is_none_or(|s| s.closed || matches!(&s.flow, Flow::Stream(st) if st.fin_wanted))
    }

    fn segs_to_kernel(&mut self, id: SockId, mut data: Segs) -> Taken {
        let Some(s) = self.socks.get_mut(id) else { return Taken::Broken(Errno::EPIPE) };
        let (Some(kfd), Some(m)) = (s.fd, self.machines.get_mut(s.host)) else { return Taken::Broken(Errno::EPIPE) };
        let Flow::Stream(st) = &mut s.flow else { return Taken::Broken(Errno::EPIPE) };
        match m.send(self.now, kfd, Payload::Segs(data.clone())) {
            Ok(n) if n >= data.len() => Taken::All,
            Ok(n) => {
                data.advance(n);
                st.unsent = data;
                Taken::Full
            }
            Err(Errno::EAGAIN) => {
                st.unsent = data;
                Taken::Full
            }
            Err(why) => Taken::Broken(why),
        }
    }

    fn bytes_to_kernel(&mut self, id: SockId, data: Seg) -> Taken {
        let Some(s) = self.socks.get_mut(id) else { return Taken::Broken(Errno::EPIPE) };
        let (Some(kfd), Some(m)) = (s.fd, self.machines.get_mut(s.host)) else { return Taken::Broken(Errno::EPIPE) };
        let Flow::Stream(st) = &mut s.flow else { return Taken::Broken(Errno::EPIPE) };
        let (taken, n) = match m.send(self.now, kfd, Payload::Bytes(data.as_slice())) {
            Ok(n) if n >= data.len() => (Taken::All, n),
            Ok(n) => (Taken::Full, n),
            Err(Errno::EAGAIN) => (Taken::Full, 0),
            Err(why) => (Taken::Broken(why), data.len()),
        };
        if let Taken::Full = taken {
            st.unsent = Segs::from(data.as_slice().get(n..).unwrap_or(&[]).to_vec());
        }
        m.k.net.pool.give_seg(data);
        taken
    }

    /// The end where a mark lies: closed, with something unread or not, or only shut.
    fn end_of_marked(&mut self, id: SockId) {
        let Some(s) = self.socks.get_mut(id) else { return };
        let unread = s.closed && fd::take_error(&s.ours) != 0;
        self.program_end(id, unread);
    }

    /// Reading our end gave 0: shut by a call, or closed.
    fn end_of_program_bytes(&mut self, id: SockId) {
        let Some(s) = self.socks.get_mut(id) else { return };
        if !s.closed && s.shut.is_none() && epoll::poll_now(&s.ours, epoll::IN) & epoll::HUP != 0 {
            s.closed = true;
        }
        self.program_end(id, false);
    }

    /// All bytes of the program are in the kernel (or lost with a reset): FIN or close, in their place.
    fn program_end(&mut self, id: SockId, unread: bool) {
        let Some(s) = self.socks.get_mut(id) else { return };
        let Flow::Stream(st) = &mut s.flow else { return };
        if unread {
            s.closed = true;
        }
        if s.closed {
            // Without unread data everything in the pair was read, and leaves the kernel's queue as such; with it the
            // kernel's own close finds it there and answers with RST, as RFC 2525 §2.17 asks.
            let n = if unread { 0 } else { st.passed() };
            if let (Some(kfd), Some(m)) = (s.fd, self.machines.get_mut(s.host)) {
                m.consume(self.now, kfd, n);
            }
            return self.release(id);
        }
        if st.fin_wanted {
            st.fin_wanted = false;
            if let (Some(kfd), Some(m)) = (s.fd, self.machines.get_mut(s.host)) {
                let _ = m.shutdown(self.now, kfd, abi::SHUT_WR);
            }
        }
    }

    /// The last close: what was written before it still goes out.
    pub(crate) fn stream_closed(&mut self, id: SockId) {
        let Some(s) = self.socks.get(id) else { return };
        let Flow::Stream(st) = &s.flow else { return };
        match st.phase {
            Phase::Open => self.stream_out(id),
            _ => self.release(id),
        }
    }

    /// The kernel's socket told its error to bytes that the program wrote before, and tells it once: nobody else will hear
    /// of the reset, so the pair says it, behind what had come by then.
    fn write_failed(&mut self, id: SockId, why: Errno) {
        let Some(s) = self.socks.get(id) else { return };
        let (Some(kfd), Some(m)) = (s.fd, self.machines.get_mut(s.host)) else { return };
        if s.closed || why == Errno::EPIPE || !m.is_over(kfd) {
            return;
        }
        self.stream_in(id);
        self.kill_pair(id, why.0);
    }

    /// A pending error on an open connection: the peer's RST, or a time-out. One that is over without the peer's FIN was
    /// reset whoever has taken the error meanwhile.
    fn check_reset(&mut self, id: SockId) {
        let Some(s) = self.socks.get(id) else { return };
        let (Some(kfd), Some(m)) = (s.fd, self.machines.get_mut(s.host)) else { return };
        // With IP_RECVERR a connection lives on with an error.
        if s.closed || !m.is_over(kfd) {
            return;
        }
        match m.take_error(self.now, kfd) {
            0 if m.got_fin(kfd) => {}
            0 => self.kill_pair(id, Errno::ECONNRESET.0),
            error => self.kill_pair(id, error),
        }
    }

    /// Makes the program see a reset: our end closes with something unread in it. After the peer's FIN a reset only ends
    /// the other way (EPIPE), and reading goes on saying that nothing comes any more.
    pub(crate) fn kill_pair(&mut self, id: SockId, error: i32) {
        let quiet = error == Errno::EPIPE.0;
        if quiet && let Some(s) = self.socks.get(id) {
            let mut lost = Vec::new();
            while fd::recv_append(&s.ours, &mut lost, READ).is_ok_and(|n| n > 0) {
                lost.clear();
            }
        }
        let has_unread = self.socks.get(id).is_some_and(|s| fd::inq(&s.ours).is_ok_and(|n| n > 0));
        let copy = if has_unread || quiet { None } else { self.find_program_end(id) };
        if let Some(copy) = &copy {
            let _ = fd::send(copy, b"\0");
        }
        drop(copy);
        self.fail_parked(id, Errno(error));
        let Some(s) = self.socks.remove(id) else { return };
        let mut local = SockAddr::Unspec;
        if let (Some(kfd), Some(m)) = (s.fd, self.machines.get_mut(s.host)) {
            local = m.getsockname(self.now, kfd).unwrap_or_default();
        }
        self.socks.bury(s.inode, Tomb { error, local, host: s.host, fd: s.fd });
        self.close_dead();
    }

    /// A non-blocking connect succeeded: the program's end becomes writable.
    pub(crate) fn connect_done(&mut self, id: SockId) {
        let Some(s) = self.socks.get_mut(id) else { return };
        let Flow::Stream(st) = &mut s.flow else { return };
        let Phase::Connecting { mut junk } = st.phase else { return };
        st.phase = Phase::Open;
        // The program's own send room is back before it is told that it may write.
        if let Some(room) = st.sndbuf.take()
            && let Some(end) = self.find_program_end(id)
        {
            let _ = fd::set_sndbuf(&end, usize::try_from(room).unwrap_or(0));
        }
        let Some(s) = self.socks.get_mut(id) else { return };
        let mut buf = [0u8; 64];
        while junk > 0 {
            let want = junk.min(buf.len());
            match fd::recv(&s.ours, buf.get_mut(..want).unwrap_or(&mut []), false) {
                Ok(n) if n > 0 => junk -= n.min(junk),
                _ => break,
            }
        }
        self.stream_out(id);
    }

    /// connect(AF_UNSPEC): what is in the pair belongs to a connection that is no more, and the socket is new. A half that was
    /// shut cannot be opened again; then only the program's end is left to be told.
    pub(crate) fn dissolved(&mut self, id: SockId, copy: &impl std::os::fd::AsFd) {
        let Some(s) = self.socks.get_mut(id) else { return };
        let Flow::Stream(st) = &mut s.flow else { return };
        if st.fin_passed || st.read_shut || st.write_shut || matches!(st.phase, Phase::Listening { .. }) {
            return self.kill_pair(id, Errno::ECONNRESET.0);
        }
        let room = st.sndbuf.take();
        *st = Stream { roomy: st.roomy, ..Stream::new(Phase::Fresh) };
        let mut lost = [0u8; 4096];
        while fd::recv(&s.ours, &mut lost, false).is_ok_and(|n| n > 0) {}
        while fd::recv(copy, &mut lost, false).is_ok_and(|n| n > 0) {}
        if let Some(room) = room {
            let _ = fd::set_sndbuf(copy, usize::try_from(room).unwrap_or(0));
        }
        short_sleep(copy);
        self.watch_out(id, false);
    }

    fn connect_failed(&mut self, id: SockId) {
        let Some(s) = self.socks.get_mut(id) else { return };
        if !s.parked.is_empty() {
            // The waiting connect itself asks for the outcome; the socket stays usable.
            return;
        }
        let (Some(kfd), Some(m)) = (s.fd, self.machines.get_mut(s.host)) else { return };
        let error = m.take_error(self.now, kfd);
        if error != 0 {
            self.kill_pair(id, error);
        }
    }

    /// Fills the program's send side through `copy`: it is not writable, and a send is EAGAIN or waits.
    pub(crate) fn fill(&mut self, id: SockId, copy: &impl std::os::fd::AsFd) {
        // The host's figure is twice what was asked for; the least it allows holds some six single bytes.
        let room = fd::get_opt(copy, abi::SOL_SOCKET, abi::SO_SNDBUF).unwrap_or(0) / 2;
        let _ = fd::set_sndbuf(copy, 0);
        let mut junk = 0;
        while junk < FILLING && fd::send(copy, b"\0").is_ok() {
            junk += 1;
        }
        if let Some(s) = self.socks.get_mut(id)
            && let Flow::Stream(st) = &mut s.flow
        {
            st.phase = Phase::Connecting { junk };
            st.sndbuf = st.sndbuf.or(Some(room));
        }
    }

    /// One token byte in the pair per connection in the accept queue.
    pub(crate) fn sync_tokens(&mut self, id: SockId) {
        // A waiting accept takes its connection without a token.
        self.retry_parked(id);
        let Some(s) = self.socks.get_mut(id) else { return };
        let (Some(kfd), Some(m)) = (s.fd, self.machines.get_mut(s.host)) else { return };
        let queued = m.accept_queue(kfd);
        let Flow::Stream(st) = &mut s.flow else { return };
        let Phase::Listening { tokens } = &mut st.phase else { return };
        while *tokens < queued {
            if fd::send(&s.ours, b"\0").is_err() {
                break;
            }
            *tokens += 1;
        }
    }

    /// Takes superfluous tokens out through the program's end; `leaving` connections are about to be accepted.
    pub(crate) fn drop_tokens(&mut self, id: SockId, copy: &impl std::os::fd::AsFd, leaving: usize) {
        let Some(s) = self.socks.get_mut(id) else { return };
        let (Some(kfd), Some(m)) = (s.fd, self.machines.get_mut(s.host)) else { return };
        let queued = m.accept_queue(kfd).saturating_sub(leaving);
        let Flow::Stream(st) = &mut s.flow else { return };
        let Phase::Listening { tokens } = &mut st.phase else { return };
        let mut one = [0u8; 64];
        while *tokens > queued {
            let want = (*tokens - queued).min(one.len());
            match fd::recv(copy, one.get_mut(..want).unwrap_or(&mut []), false) {
                Ok(n) if n > 0 => *tokens = tokens.saturating_sub(n),
                _ => {
                    // Somebody read them; what matters is that none is too many.
                    *tokens = queued;
                }
            }
        }
    }
}
