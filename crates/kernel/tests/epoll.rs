//! epoll against what Linux 6.18 was measured to do (`semantics`, events A2, A4, A6).
mod host;
use belljar_abi::*;
use belljar_kernel::task::call::*;
use host::*;

const ET: u32 = EPOLLET;
const IN: u32 = EPOLLIN;
const OUT: u32 = EPOLLOUT;

#[test]
fn level_triggered_reports_as_long_as_the_condition_holds() {
    let mut h = Host::new();
    let (ep, a, b) = (h.epoll(), h.udp(1), h.udp(2));
    h.add(ep, a, IN);
    h.sendto(b, b"x", 1).unwrap();
    assert_eq!((h.one(ep), h.one(ep)), (IN, IN));
    h.recv(a, 9).unwrap();
    assert_eq!(h.one(ep), 0);
    // Arrived and read before anybody asked.
    h.sendto(b, b"x", 1).unwrap();
    h.recv(a, 9).unwrap();
    assert_eq!(h.one(ep), 0);
}

#[test]
fn an_edge_is_an_arrival_not_an_emptied_buffer() {
    let mut h = Host::new();
    let (c, s) = h.pair(80);
    let ep = h.epoll();
    h.add(ep, s, IN | ET);
    h.send(c, b"ab").unwrap();
    assert_eq!((h.one(ep), h.one(ep)), (IN, 0));
    h.recv(s, 1).unwrap();
    assert_eq!(h.one(ep), 0, "reading a part is no edge");
    for _ in 0..3 {
        h.send(c, b"c").unwrap();
        assert_eq!((h.one(ep), h.one(ep)), (IN, 0), "new data is one, although old data is unread");
    }
    for _ in 0..3 {
        h.send(c, b"d").unwrap();
    }
    assert_eq!((h.one(ep), h.one(ep)), (IN, 0), "three arrivals before one wait");
    h.ctl(ep, EPOLL_CTL_MOD, s, IN | ET).unwrap();
    assert_eq!((h.one(ep), h.one(ep)), (IN, 0), "MOD looks again");
    h.ctl(ep, EPOLL_CTL_DEL, s, 0).unwrap();
    h.add(ep, s, IN | ET);
    assert_eq!((h.one(ep), h.one(ep)), (IN, 0), "ADD of something readable");
}

#[test]
fn a_listener_fires_for_every_connection() {
    let mut h = Host::new();
    let (ep, l) = (h.epoll(), h.listener(80, 8));
    h.add(ep, l, IN | ET);
    for _ in 0..3 {
        h.client(80);
        assert_eq!((h.one(ep), h.one(ep)), (IN, 0));
    }
    h.accept(l).unwrap();
    assert_eq!(h.one(ep), 0);
    h.ctl(ep, EPOLL_CTL_MOD, l, IN).unwrap();
    assert_eq!(h.one(ep), IN);
    h.accept(l).unwrap();
    assert_eq!(h.one(ep), IN);
    h.accept(l).unwrap();
    assert_eq!(h.one(ep), 0);
}

#[test]
fn the_whole_mask_is_reported_and_a_fin_is_an_edge() {
    let mut h = Host::new();
    let (c, s) = h.pair(80);
    let ep = h.epoll();
    h.add(ep, s, IN | OUT | EPOLLRDHUP | ET);
    assert_eq!((h.one(ep), h.one(ep)), (OUT, 0));
    h.send(c, b"x").unwrap();
    assert_eq!(h.one(ep), IN | OUT);
    h.int(Call::Shutdown { fd: c, how: SHUT_WR }).unwrap();
    assert_eq!((h.one(ep), h.one(ep)), (IN | OUT | EPOLLRDHUP, 0));
}

#[test]
fn oneshot_is_silent_until_mod_even_about_errors() {
    let mut h = Host::new();
    let (c, s) = h.pair(80);
    let ep = h.epoll();
    h.add(ep, s, IN | EPOLLONESHOT);
    h.send(c, b"x").unwrap();
    assert_eq!(h.one(ep), IN);
    h.send(c, b"x").unwrap();
    assert_eq!(h.one(ep), 0);
    h.ctl(ep, EPOLL_CTL_MOD, s, IN | EPOLLONESHOT).unwrap();
    assert_eq!(h.one(ep), IN);
    // Linger 0: the close is a reset.
    let linger = [1i32, 0].map(i32::to_ne_bytes).concat();
    h.int(Call::SetSockOpt { fd: c, level: SOL_SOCKET, name: SO_LINGER, value: &linger }).unwrap();
    h.close(c);
    assert_eq!(h.one(ep), 0);
    assert_eq!(h.ctl(ep, EPOLL_CTL_ADD, s, IN), Err(Errno::EEXIST));
    h.ctl(ep, EPOLL_CTL_MOD, s, 0).unwrap();
    assert_eq!(h.one(ep), EPOLLERR | EPOLLHUP, "always wanted");
}

#[test]
fn a_socket_that_never_connected_is_hung_up() {
    let mut h = Host::new();
    let (ep, s) = (h.epoll(), h.socket(SOCK_STREAM));
    h.add(ep, s, IN | OUT);
    assert_eq!(h.one(ep), OUT | EPOLLHUP);
    assert_eq!(h.poll(s), (POLLOUT | POLLHUP) as u16);
}

#[test]
fn ready_order_is_first_come_and_round_robin() {
    let mut h = Host::new();
    for (flags, want) in [(0, [2, 0, 3, 1, 2, 0]), (ET, [2, 0, 3, 1, 9, 9])] {
        let base = if flags == 0 { 10 } else { 20 };
        let (ep, from) = (h.epoll(), h.udp(base + 9));
        let fds: Vec<Fd> = (0..4).map(|n| h.udp(base + n)).collect();
        for fd in &fds {
            h.add(ep, *fd, IN | flags);
        }
        for n in [2, 0, 3, 1] {
            h.sendto(from, b"x", base + n).unwrap();
        }
        let got = want.map(|_| h.wait(ep, 1).first().map_or(9, |e| fds.iter().position(|f| *f == e.0).unwrap()));
        assert_eq!(got, want);
    }
    let (ep, from) = (h.epoll(), h.udp(39));
    let fds: Vec<Fd> = (0..4).map(|n| h.udp(30 + n)).collect();
    for (n, fd) in fds.iter().enumerate() {
        h.add(ep, *fd, IN);
        h.sendto(from, b"x", 30 + n as u16).unwrap();
    }
    for half in [0, 2, 0, 2] {
        let got: Vec<Fd> = h.wait(ep, 2).iter().map(|e| e.0).collect();
        assert_eq!(got, fds[half..half + 2]);
    }
}

#[test]
fn a_registration_belongs_to_descriptor_and_open_file() {
    let mut h = Host::new();
    let (ep, a, from) = (h.epoll(), h.udp(1), h.udp(2));
    let dup = h.int(Call::Dup { fd: a, min: 0, cloexec: false }).unwrap() as Fd;
    h.add(ep, a, IN);
    h.add(ep, dup, IN);
    h.sendto(from, b"x", 1).unwrap();
    assert_eq!(h.wait(ep, 8), [(dup, IN), (a, IN)].map(|e| e), "newest registration is woken first");
    h.close(a);
    assert_eq!(h.wait(ep, 8).len(), 2, "the open file lives on, and reports under the old number");
    assert_eq!(h.ctl(ep, EPOLL_CTL_DEL, a, 0), Err(Errno::EBADF));
    let other = h.udp(3);
    assert_eq!(other, a, "the number is used again");
    h.add(ep, other, IN);
    h.sendto(from, b"x", 3).unwrap();
    assert_eq!(h.wait(ep, 8).len(), 3);
    h.close(dup);
    assert_eq!(h.wait(ep, 8), [(other, IN)], "the last close takes the registrations");
}

#[test]
fn errors_in_linux_order() {
    let mut h = Host::new();
    let (ep, a) = (h.epoll(), h.udp(1));
    assert_eq!(h.int(Call::EpollCreate { flags: 1 }), Err(Errno::EINVAL));
    assert_eq!(h.ctl(ep, EPOLL_CTL_MOD, a, IN), Err(Errno::ENOENT));
    assert_eq!(h.ctl(ep, EPOLL_CTL_DEL, a, IN), Err(Errno::ENOENT));
    h.add(ep, a, IN);
    assert_eq!(h.ctl(ep, EPOLL_CTL_ADD, a, IN), Err(Errno::EEXIST));
    assert_eq!(h.ctl(ep, 9, a, IN), Err(Errno::EINVAL));
    assert_eq!(h.ctl(a, EPOLL_CTL_ADD, a, IN), Err(Errno::EINVAL));
    assert_eq!(h.ctl(ep, EPOLL_CTL_ADD, ep, IN), Err(Errno::EINVAL));
    assert_eq!(h.ctl(99, EPOLL_CTL_ADD, a, IN), Err(Errno::EBADF));
    assert_eq!(h.ctl(ep, EPOLL_CTL_ADD, 99, IN), Err(Errno::EBADF));
    let null = |op| Call::EpollCtl { epfd: ep, op, fd: a, event: None };
    assert_eq!(h.int(null(EPOLL_CTL_ADD)), Err(Errno::EFAULT));
    assert_eq!(h.int(null(EPOLL_CTL_DEL)), Ok(0));
    for max in [0, -1, i32::MAX / 12 + 1] {
        assert_eq!(h.int(Call::EpollWait { epfd: ep, max, timeout: Some(0) }), Err(Errno::EINVAL));
    }
    assert_eq!(h.int(Call::EpollWait { epfd: a, max: 1, timeout: Some(0) }), Err(Errno::EINVAL));
    assert_eq!(h.int(Call::EpollWait { epfd: 99, max: 1, timeout: Some(0) }), Err(Errno::EBADF));
    let inner = h.epoll();
    let x = EPOLLEXCLUSIVE;
    for (op, fd, events) in [
        (EPOLL_CTL_ADD, a, x | IN | EPOLLONESHOT),
        (EPOLL_CTL_ADD, a, x | IN | EPOLLRDHUP),
        (EPOLL_CTL_ADD, inner, x | IN),
        (EPOLL_CTL_MOD, a, x | IN),
    ] {
        assert_eq!(h.ctl(ep, op, fd, events), Err(Errno::EINVAL));
    }
    h.add(ep, a, x | IN | OUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | ET);
    assert_eq!(h.ctl(ep, EPOLL_CTL_MOD, a, IN), Err(Errno::EINVAL));
}

#[test]
fn instances_in_instances() {
    let mut h = Host::new();
    let (a, from) = (h.udp(1), h.udp(2));
    let (inner, outer) = (h.epoll(), h.epoll());
    h.add(inner, a, IN);
    h.add(outer, inner, IN);
    assert_eq!(h.one(outer), 0);
    h.sendto(from, b"x", 1).unwrap();
    assert_eq!((h.one(outer), h.one(outer), h.one(inner)), (IN, IN, IN));
    h.recv(a, 9).unwrap();
    assert_eq!((h.one(outer), h.one(inner)), (0, 0));
    assert_eq!(h.ctl(inner, EPOLL_CTL_ADD, outer, IN), Err(Errno::ELOOP));
    // Edge-triggered above: once for a wake-up below.
    h.ctl(outer, EPOLL_CTL_MOD, inner, IN | ET).unwrap();
    h.sendto(from, b"x", 1).unwrap();
    assert_eq!((h.one(outer), h.one(outer)), (IN, 0));

    let mut chain = h.epoll();
    for n in 1..=5 {
        let up = h.epoll();
        let want = if n <= 4 { Ok(0) } else { Err(Errno::ELOOP) };
        assert_eq!(h.ctl(up, EPOLL_CTL_ADD, chain, IN), want, "level {n}");
        chain = up;
    }
}

#[test]
fn five_hundred_ways_to_a_file() {
    let mut h = Host::new();
    let (leaf, a) = (h.epoll(), h.udp(1));
    h.add(leaf, a, IN);
    for n in 0..=500 {
        let outer = h.epoll();
        let want = if n < 500 { Ok(0) } else { Err(Errno::EINVAL) };
        assert_eq!(h.ctl(outer, EPOLL_CTL_ADD, leaf, IN), want, "{n}");
    }
}

#[test]
fn timeouts_are_exact() {
    let mut h = Host::new();
    let ep = h.epoll();
    let t = h.thread();
    let call = h.park(t, Call::EpollWait { epfd: ep, max: 8, timeout: Some(200_000) });
    h.sleep(199_999);
    assert!(h.done().is_empty());
    h.sleep(1);
    assert_eq!(h.done(), [(call, Ok(Ret::Events(vec![])))]);
    assert_eq!(h.k.next_deadline(), None);
}
