//! Who wakes when one thing happens: the herd table (`semantics`, events A5), and calls that sleep.
mod host;
use belljar_abi::*;
use belljar_kernel::ids::*;
use belljar_kernel::task::call::*;
use host::*;

const IN: u32 = EPOLLIN;

/// Which of the waiters finished, by number.
fn woken(h: &mut Host, calls: &[CallId]) -> Vec<usize> {
    h.done().iter().map(|d| calls.iter().position(|c| *c == d.0).unwrap()).collect()
}

fn wait_on(h: &mut Host, epfds: &[Fd]) -> Vec<CallId> {
    let wait = |h: &mut Host, epfd| {
        let t = h.thread();
        h.park(t, Call::EpollWait { epfd, max: 8, timeout: None })
    };
    epfds.iter().map(|ep| wait(h, *ep)).collect()
}

fn shared(events: u32) -> (Host, Fd, Vec<CallId>) {
    let mut h = Host::new();
    let (l, ep) = (h.listener(80, 8), h.epoll());
    h.add(ep, l, events);
    let calls = wait_on(&mut h, &[ep; 4]);
    (h, ep, calls)
}

#[test]
fn one_shared_instance() {
    let (mut h, _, calls) = shared(IN);
    h.client(80);
    assert_eq!(woken(&mut h, &calls), [3, 2, 1, 0], "level-triggered: a chain of four");
    let (mut h, _, calls) = shared(IN | EPOLLET);
    h.client(80);
    assert_eq!(woken(&mut h, &calls), [3], "edge-triggered: the newest waiter");
    h.client(80);
    assert_eq!(woken(&mut h, &calls), [2]);
    let (mut h, _, calls) = shared(IN | EPOLLONESHOT);
    h.client(80);
    h.client(80);
    assert_eq!(woken(&mut h, &calls), [3]);
}

fn own(events: [u32; 4]) -> (Host, Vec<Fd>, Vec<CallId>) {
    let mut h = Host::new();
    let l = h.listener(80, 8);
    let eps: Vec<Fd> = events
        .iter()
        .map(|e| {
            let ep = h.epoll();
            h.add(ep, l, *e);
            ep
        })
        .collect();
    let calls = wait_on(&mut h, &eps);
    (h, eps, calls)
}

#[test]
fn an_instance_each() {
    const X: u32 = IN | EPOLLEXCLUSIVE;
    for events in [IN, IN | EPOLLET] {
        let (mut h, _, calls) = own([events; 4]);
        h.client(80);
        assert_eq!(woken(&mut h, &calls).len(), 4);
    }
    for events in [X, X | EPOLLET] {
        let (mut h, _, calls) = own([events; 4]);
        for n in 0..4 {
            h.client(80);
            assert_eq!(woken(&mut h, &calls), [n], "exclusive: the oldest registration that has a waiter");
        }
    }
    let (mut h, _, calls) = own([X, X, IN, IN]);
    h.client(80);
    assert_eq!(woken(&mut h, &calls).len(), 3, "all plain ones and one exclusive");
}

#[test]
fn exclusive_without_waiters_is_queued_everywhere() {
    let mut h = Host::new();
    let l = h.listener(80, 8);
    let eps: Vec<Fd> = (0..4).map(|_| h.epoll()).collect();
    for ep in &eps {
        h.add(*ep, l, IN | EPOLLEXCLUSIVE);
    }
    h.client(80);
    assert_eq!(eps.iter().map(|ep| h.one(*ep)).collect::<Vec<_>>(), [IN; 4]);
}

#[test]
fn four_outer_instances_over_one() {
    let mut h = Host::new();
    let (l, inner) = (h.listener(80, 8), h.epoll());
    h.add(inner, l, IN);
    let eps: Vec<Fd> = (0..4)
        .map(|_| {
            let ep = h.epoll();
            h.add(ep, inner, IN);
            ep
        })
        .collect();
    let calls = wait_on(&mut h, &eps);
    h.client(80);
    assert_eq!(woken(&mut h, &calls).len(), 4);
}

#[test]
fn poll_wakes_all_accept_and_datagrams_one() {
    let mut h = Host::new();
    let l = h.listener(80, 8);
    let polls: Vec<CallId> = (0..4)
        .map(|_| {
            let t = h.thread();
            let fds = [PollFd { fd: l as i32, events: POLLIN as u16, revents: 0 }];
            h.park(t, Call::Poll { fds: &fds, timeout: None })
        })
        .collect();
    h.client(80);
    assert_eq!(woken(&mut h, &polls).len(), 4);
    h.accept(l).unwrap();

    let accepts: Vec<CallId> = (0..4)
        .map(|_| {
            let t = h.thread();
            h.park(t, Call::Accept { fd: l, flags: 0 })
        })
        .collect();
    for n in 0..2 {
        h.client(80);
        assert_eq!(woken(&mut h, &accepts), [n], "accept: the oldest");
    }
    let (u, from) = (h.udp(1), h.udp(2));
    let recvs: Vec<CallId> = (0..4)
        .map(|_| {
            let t = h.thread();
            h.park(t, Call::Recv { fd: u, len: 10, flags: 0 })
        })
        .collect();
    for n in 0..4 {
        h.sendto(from, b"x", 1).unwrap();
        assert_eq!(woken(&mut h, &recvs), [n]);
    }
    // Leaving LISTEN wakes everybody.
    h.int(Call::Shutdown { fd: l, how: SHUT_RDWR }).unwrap();
    let left = h.done();
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|d| d.1 == Err(Errno::EINVAL)));
}

#[test]
fn sleeps_wakeups_and_useless_ones_are_counted() {
    let mut h = Host::new();
    let (l, ep) = (h.listener(80, 8), h.epoll());
    h.add(ep, l, IN);
    let (a, b) = (h.thread(), h.thread());
    let first = h.park(a, Call::EpollWait { epfd: ep, max: 8, timeout: None });
    h.client(80);
    assert_eq!(h.done()[0].0, first);
    let count = |h: &Host, t| {
        let t = h.k.tasks.tasks.get(t).unwrap();
        (t.sleeps, t.wakeups, t.useless_wakeups)
    };
    assert_eq!(count(&h, a), (1, 1, 0));
    h.accept(l).unwrap();
    // Two bytes wanted, one comes: woken in vain.
    let (c, s) = h.pair(81);
    let all = h.park(b, Call::Recv { fd: s, len: 2, flags: MSG_WAITALL });
    h.send(c, b"x").unwrap();
    assert!(h.done().is_empty());
    h.send(c, b"y").unwrap();
    let done = h.done();
    assert_eq!((done.len(), done[0].0), (1, all));
    assert_eq!(bytes(done[0].1.clone().unwrap()), b"xy");
    assert_eq!(count(&h, b), (2, 2, 1));
}

#[test]
fn close_in_another_thread_does_not_wake_a_reader_and_shutdown_does() {
    let mut h = Host::new();
    let (c, s) = h.pair(80);
    let t = h.thread();
    let reader = h.park(t, Call::Recv { fd: s, len: 10, flags: 0 });
    h.close(s);
    assert!(h.done().is_empty());
    assert_eq!(h.poll(c), POLLOUT as u16, "the sleeping call holds the socket: no FIN yet");
    h.send(c, b"late").unwrap();
    let done = h.done();
    assert_eq!((done[0].0, bytes(done[0].1.clone().unwrap())), (reader, b"late".to_vec()));
    assert_eq!(h.poll(c), (POLLIN | POLLOUT | POLLRDHUP) as u16, "now the last reference is gone");

    let (c, _s) = h.pair(81);
    let reader = h.park(t, Call::Recv { fd: c, len: 10, flags: 0 });
    h.int(Call::Shutdown { fd: c, how: SHUT_RD }).unwrap();
    assert_eq!(h.done(), [(reader, Ok(Ret::Stream(Default::default())))]);
}

#[test]
fn a_signal_ends_a_call_and_what_it_moved_counts() {
    let mut h = Host::new();
    let (c, s) = h.pair(80);
    let t = h.thread();
    let reader = h.park(t, Call::Recv { fd: s, len: 10, flags: 0 });
    let now = h.now;
    assert_eq!(h.k.cancel(now, reader, Errno::EINTR), Some(Err(Errno::EINTR)));
    assert_eq!(h.k.cancel(now, reader, Errno::EINTR), None);
    let big = vec![7; 60_000_000];
    let writer = h.park(t, Call::Send { fd: c, data: Payload::Bytes(&big), flags: 0, to: None, cmsgs: &[] });
    let Some(Ok(Ret::Int(n))) = h.k.cancel(now, writer, Errno::EINTR) else { panic!("nothing was sent") };
    assert!(n > 100_000 && n < 60_000_000, "{n}");
    let mut got = 0;
    while got < n {
        h.sleep(MS);
        let part = h.recv(s, 1 << 20).unwrap();
        assert!(part.iter().all(|b| *b == 7));
        got += part.len() as i64;
    }
    h.sleep(1000 * MS);
    assert_eq!((got, h.recv(s, 10)), (n, Err(Errno::EAGAIN)));
    assert!(h.done().is_empty());
}

#[test]
fn a_blocking_send_returns_when_all_is_taken() {
    let mut h = Host::new();
    let (c, s) = h.pair(80);
    let t = h.thread();
    let big: Vec<u8> = (0..9_000_000u32).map(|n| (n % 251) as u8).collect();
    let writer = h.park(t, Call::Send { fd: c, data: Payload::Bytes(&big), flags: 0, to: None, cmsgs: &[] });
    let mut got = Vec::new();
    while got.len() < big.len() {
        match h.recv(s, 1 << 20) {
            Ok(part) => got.extend(part),
            Err(e) => {
                assert_eq!(e, Errno::EAGAIN);
                h.sleep(MS);
            }
        }
        assert!(h.now < 60_000 * MS, "stuck after {} bytes", got.len());
    }
    assert!(got == big);
    h.sleep(MS);
    assert_eq!(h.done(), [(writer, Ok(Ret::Int(big.len() as i64)))]);
}
