//! A machine with little memory: what calls and packets get when there is none, and that it comes back.
mod common;
use belljar_abi::*;
use belljar_kernel::mem::pages::PAGE_SIZE;
use belljar_kernel::net::drop::DropReason;
use belljar_kernel::task::call::*;
use belljar_wire::ipv4::IPPROTO_UDP;
use common::*;

fn small() -> Host {
    let mut h = Host::new();
    h.k.set_memory(16 << 20);
    h
}

/// The number behind a name in `/proc/meminfo`.
fn kb(h: &Host, name: &str) -> u64 {
    let text = h.k.proc_text(h.ns, "/proc/meminfo").unwrap();
    let line = text.lines().find(|l| l.starts_with(&format!("{name}:"))).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn add_up(h: &Host) {
    let (memory, _) = h.k.memory_now();
    let packets = (memory.packet_pages() * PAGE_SIZE / 1024) as u64;
    assert_eq!(kb(h, "MemTotal") - kb(h, "MemFree"), kb(h, "Slab") + packets);
    h.k.check().unwrap();
}

#[test]
fn sockets_end_where_memory_ends_and_give_it_back() {
    let mut h = small();
    let process = h.k.add_process(h.ns, 0, belljar_kernel::task::process::Caps::ROOT, 1 << 20, "many");
    h.task = h.k.add_task(process, 0).unwrap();
    let before = kb(&h, "MemFree");
    // Without the invariants after every call, which cost what there is.
    let call = |h: &mut Host, c: Call<'_>| match h.k.call(1, h.task, c) {
        Submitted::Done(r) => r,
        Submitted::Parked(_) => panic!("the call sleeps"),
    };
    let open = |h: &mut Host| call(h, Call::Socket { family: AF_INET, kind: SOCK_STREAM, protocol: 0 });
    let mut all = Vec::new();
    let end = loop {
        match open(&mut h) {
            Ok(Ret::Fd(fd)) => all.push(fd),
            Ok(other) => panic!("{other:?}"),
            Err(e) => break e,
        }
        assert!(all.len() < 100_000);
    };
    assert!(matches!(end, Errno::ENOBUFS | Errno::ENOMEM), "{end}");
    assert!(all.len() > 1000, "{}", all.len());
    add_up(&h);
    // A datagram socket lies in slabs of its own: either has room for some or none at all.
    assert!(kb(&h, "MemFree") < 2048, "{}", kb(&h, "MemFree"));
    for fd in all.split_off(256) {
        call(&mut h, Call::Close { fd }).unwrap();
    }
    h.advance(SEC);
    add_up(&h);
    let now = kb(&h, "MemFree");
    assert!(now > before - before / 4, "{before} before, {now} after");
    assert!(open(&mut h).is_ok());
}

/// Datagrams that nobody reads until there is no page for more; returns their sockets.
fn fill(h: &mut Host, from: Fd) -> (Vec<Fd>, Errno) {
    h.k.sysctl_set(h.ns, "net.ipv4.udp_mem", "1000000 1000000 1000000").unwrap();
    let mut full = Vec::new();
    for port in 5000..5200 {
        full.push(h.udp_on(LO, port));
        h.set(full[full.len() - 1], SOL_SOCKET, SO_RCVBUFFORCE, 1 << 20).unwrap();
        for _ in 0..200 {
            if let Err(e) = h.send_to(from, &[7; 8000], LO, port) {
                return (full, e);
            }
        }
    }
    panic!("16 MB are endless");
}

#[test]
fn datagrams_without_memory_fail_until_some_is_read() {
    let mut h = small();
    let from = h.udp();
    let (all, e) = fill(&mut h, from);
    assert_eq!(e, Errno::ENOBUFS);
    add_up(&h);
    // A frame from the wire has no page either; one that is small needs none.
    h.know_peer();
    let to = h.udp_on(HOST, 7);
    let drops = |h: &Host| h.k.net.pool.drops().find(|d| d.0 == DropReason::NoMem).map_or(0, |d| d.1);
    h.rx(ip(from_peer(IPPROTO_UDP), &udp((PEER, 9), (HOST, 7), &[1; 1000])));
    assert_eq!((drops(&h), h.recv(to)), (1, Err(Errno::EAGAIN)));
    assert_eq!(h.k.net.devs.get(h.dev).unwrap().stats.rx_dropped, 1);
    h.rx(ip(from_peer(IPPROTO_UDP), &udp((PEER, 9), (HOST, 7), b"small")));
    assert_eq!(h.recv(to).unwrap().0, b"small");
    for fd in all {
        while h.recv(fd).is_ok() {}
    }
    h.advance(10 * MS);
    h.send_to(from, b"again", LO, 5000).unwrap();
    h.rx(ip(from_peer(IPPROTO_UDP), &udp((PEER, 9), (HOST, 7), &[1; 1000])));
    assert_eq!((drops(&h), h.recv(to).unwrap().0.len()), (1, 1000));
    add_up(&h);
}

#[test]
fn a_stream_waits_for_memory() {
    let mut h = small();
    let from = h.udp();
    let l = h.socket(SOCK_STREAM);
    h.bind(l, LO, 8080).unwrap();
    h.call(Call::Listen { fd: l, backlog: 8 }).unwrap();
    let c = h.socket(SOCK_STREAM);
    let to = SockAddr::V4(LO, 8080).emit();
    let _ = h.try_call(Call::Connect { fd: c, addr: &to });
    let send = |h: &mut Host, fd| {
        h.call(Call::Send { fd, data: Payload::Bytes(&[1; 4096]), flags: MSG_DONTWAIT, to: None, cmsgs: &[] })
    };
    let (all, _) = fill(&mut h, from);
    // The least that each socket may have is always there: more is not.
    let sent = (0..100).filter(|_| send(&mut h, c).is_ok()).count();
    assert!((1..20).contains(&sent), "{sent}");
    assert_eq!(send(&mut h, c), Err(Errno::EAGAIN));
    for fd in all {
        h.call(Call::Close { fd }).unwrap();
    }
    h.advance(300 * MS);
    assert!(send(&mut h, c).is_ok());
    add_up(&h);
}

#[test]
fn files_of_memory_are_there_and_add_up() {
    let mut h = Host::new();
    let text = h.k.proc_text(h.ns, "/proc/buddyinfo").unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(h.k.proc_text(h.ns, "/proc/zoneinfo").unwrap().contains("Node 0, zone   Normal\n"));
    add_up(&h);
    let all: Vec<_> = (0..200).map(|_| h.udp()).collect();
    add_up(&h);
    for fd in all {
        h.call(Call::Close { fd }).unwrap();
    }
    add_up(&h);
}
