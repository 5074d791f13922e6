//! bind(2) of TCP: who may share a port with whom, in the 960 combinations measured on Linux 6.18, and what else bind says.
mod common;
use belljar_abi::*;
use belljar_kernel::ids::TaskId;
use belljar_kernel::task::call::*;
use belljar_kernel::task::process::Caps;
use common::*;
use std::net::Ipv4Addr;

const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const PORT: u16 = 8080;

/// SO_REUSEADDR, SO_REUSEPORT.
const OPTS: [(i32, i32); 4] = [(0, 0), (1, 0), (0, 1), (1, 1)];

#[derive(Clone, Copy, Debug, PartialEq)]
enum First {
    Bound,
    Listen,
    Active,
    Accepted,
    CloseWait,
    TimeWait,
}

/// Rows: options of the first; columns: options of the second, for the same and for another user. `.` is EADDRINUSE.
fn table(first: First) -> [&'static str; 4] {
    match first {
        First::Listen => ["....|....", "....|....", "..oo|....", "..oo|...."],
        First::TimeWait => ["....|....", ".o.o|.o.o", "..oo|..oo", ".ooo|.ooo"],
        _ => ["....|....", ".o.o|.o.o", "..oo|....", ".ooo|.o.o"],
    }
}

fn stream(h: &mut Host, task: TaskId, opts: (i32, i32)) -> Fd {
    let me = std::mem::replace(&mut h.task, task);
    let fd = h.socket(SOCK_STREAM | SOCK_NONBLOCK);
    h.set(fd, SOL_SOCKET, SO_REUSEADDR, opts.0).unwrap();
    h.set(fd, SOL_SOCKET, SO_REUSEPORT, opts.1).unwrap();
    h.task = me;
    fd
}

fn listen(h: &mut Host, fd: Fd) -> SysResult {
    h.call(Call::Listen { fd, backlog: 8 })
}

fn accept(h: &mut Host, fd: Fd) -> Fd {
    h.advance(MS);
    match h.call(Call::Accept { fd, flags: SOCK_NONBLOCK }) {
        Ok(Ret::Accepted { fd, .. }) => fd,
        r => panic!("{r:?}"),
    }
}

fn close(h: &mut Host, fd: Fd) {
    h.call(Call::Close { fd }).unwrap();
    h.advance(MS);
}

/// Brings the port into the state of the first socket.
fn first(h: &mut Host, state: First, opts: (i32, i32), addr: Ipv4Addr) {
    let task = h.task;
    let fd = stream(h, task, opts);
    h.bind(fd, addr, PORT).unwrap();
    match state {
        First::Bound => {}
        First::Listen => drop(listen(h, fd).unwrap()),
        First::Active | First::CloseWait | First::TimeWait => {
            let l = stream(h, task, (0, 0));
            h.bind(l, LO, 9090).unwrap();
            listen(h, l).unwrap();
            assert_eq!(h.connect(fd, LO, 9090), Err(Errno::EINPROGRESS));
            let s = accept(h, l);
            match state {
                First::CloseWait => close(h, s),
                First::TimeWait => {
                    close(h, fd);
                    close(h, s);
                }
                _ => {}
            }
        }
        First::Accepted => {
            listen(h, fd).unwrap();
            let c = stream(h, task, (0, 0));
            assert_eq!(h.connect(c, LO, PORT), Err(Errno::EINPROGRESS));
            accept(h, fd);
            close(h, fd);
        }
    }
}

#[test]
fn all_960_pairs_of_sockets_on_one_port() {
    let mut pairs = 0;
    for state in [First::Bound, First::Listen, First::Active, First::Accepted, First::CloseWait, First::TimeWait] {
        for (addr1, addr2) in [(ANY, ANY), (ANY, LO), (LO, ANY), (LO, LO), (LO, OTHER)] {
            for (row, opts1) in OPTS.into_iter().enumerate() {
                for (half, uid) in [0, 1000].into_iter().enumerate() {
                    for (column, opts2) in OPTS.into_iter().enumerate() {
                        let mut h = Host::new();
                        let p = h.k.add_process(h.ns, uid, Caps::ROOT, 64, "second");
                        let task = h.k.add_task(p, 0).unwrap();
                        first(&mut h, state, opts1, addr1);
                        let fd = stream(&mut h, task, opts2);
                        h.task = task;
                        let both = h.bind(fd, addr2, PORT).and_then(|_| listen(&mut h, fd));
                        let free = addr2 == OTHER || table(state)[row].as_bytes()[half * 5 + column] == b'o';
                        let want = if free { Ok(Ret::Int(0)) } else { Err(Errno::EADDRINUSE) };
                        assert_eq!(both, want, "{state:?} {opts1:?} on {addr1}, then {opts2:?} on {addr2}, uid {uid}");
                        pairs += 1;
                    }
                }
            }
        }
    }
    assert_eq!(pairs, 960);
}

#[test]
fn of_two_that_share_only_one_listens() {
    for (a, b) in [(ANY, ANY), (ANY, LO)] {
        let mut h = Host::new();
        let task = h.task;
        let (x, y) = (stream(&mut h, task, (1, 0)), stream(&mut h, task, (1, 0)));
        h.bind(x, a, PORT).unwrap();
        h.bind(y, b, PORT).unwrap();
        listen(&mut h, x).unwrap();
        assert_eq!(listen(&mut h, y), Err(Errno::EADDRINUSE));
        close(&mut h, x);
        listen(&mut h, y).unwrap();
    }
}

#[test]
fn what_bind_refuses() {
    let mut h = Host::new();
    let task = h.task;
    let fd = stream(&mut h, task, (0, 0));
    assert_eq!(h.bind(fd, Ipv4Addr::new(8, 8, 8, 8), PORT), Err(Errno::EADDRNOTAVAIL));
    h.bind(fd, Ipv4Addr::new(127, 9, 9, 9), PORT).unwrap();
    assert_eq!(h.bind(fd, LO, PORT + 1), Err(Errno::EINVAL));
    for addr in [Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1), HOST] {
        let fd = stream(&mut h, task, (0, 0));
        h.bind(fd, addr, PORT).unwrap();
    }
    let fd = stream(&mut h, task, (0, 0));
    h.set(fd, SOL_IP, IP_FREEBIND, 1).unwrap();
    h.bind(fd, Ipv4Addr::new(8, 8, 8, 8), PORT).unwrap();
    let p = h.k.add_process(h.ns, 1000, Caps::NONE, 64, "user");
    h.task = h.k.add_task(p, 0).unwrap();
    let task = h.task;
    let fd = stream(&mut h, task, (0, 0));
    assert_eq!(h.bind(fd, LO, 1023), Err(Errno::EACCES));
    h.bind(fd, LO, 1024).unwrap();
}

fn port(h: &mut Host, fd: Fd) -> u16 {
    match h.call(Call::GetSockName { fd }) {
        Ok(Ret::Addr(a)) => a.port().unwrap(),
        r => panic!("{r:?}"),
    }
}

/// Binds to port 0 until there is none left.
fn automatic(h: &mut Host, opts: (i32, i32)) -> (Vec<u16>, Errno) {
    let (task, mut got) = (h.task, vec![]);
    loop {
        let fd = stream(h, task, opts);
        match h.bind(fd, LO, 0) {
            Ok(_) => got.push(port(h, fd)),
            Err(e) => return (got, e),
        }
    }
}

#[test]
fn automatic_ports_are_odd_first_then_even_each_once_and_reserved_ones_never() {
    for opts in OPTS {
        let mut h = Host::new();
        h.sysctl("net.ipv4.ip_local_port_range", "40000 40019");
        h.sysctl("net.ipv4.ip_local_reserved_ports", "40004,40005");
        let (got, e) = automatic(&mut h, opts);
        assert_eq!((got.len(), e), (18, Errno::EADDRINUSE));
        if opts.0 == 0 {
            assert!(got[..9].iter().all(|p| p % 2 == 1) && got[9..].iter().all(|p| p % 2 == 0), "{got:?}");
        }
        let mut sorted = got.clone();
        sorted.sort();
        assert_eq!(sorted, (40000..40020).filter(|p| ![40004, 40005].contains(p)).collect::<Vec<_>>());
    }
}

#[test]
fn ip_autobind_reuse_shares_automatic_ports_of_reuseaddr_sockets() {
    let mut h = Host::new();
    h.sysctl("net.ipv4.ip_local_port_range", "40000 40003");
    h.sysctl("net.ipv4.ip_autobind_reuse", "1");
    let task = h.task;
    for _ in 0..10 {
        let fd = stream(&mut h, task, (1, 0));
        h.bind(fd, LO, 0).unwrap();
    }
    let fd = stream(&mut h, task, (0, 0));
    assert_eq!(h.bind(fd, LO, 0), Err(Errno::EADDRINUSE));
}

#[test]
fn a_port_is_free_at_once_when_its_only_socket_closes() {
    let mut h = Host::new();
    let task = h.task;
    for listening in [false, true, false] {
        let fd = stream(&mut h, task, (0, 0));
        h.bind(fd, ANY, PORT).unwrap();
        if listening {
            listen(&mut h, fd).unwrap();
        }
        close(&mut h, fd);
    }
}
