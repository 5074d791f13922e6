//! Random system calls of several threads over lo: no panic, and every invariant holds after each step.
mod host;
use belljar_abi::*;
use belljar_kernel::env::Rng;
use belljar_kernel::ids::*;
use belljar_kernel::mem::Gfp;
use belljar_kernel::task::call::*;
use host::*;
use std::ops::Range;

/// One call chosen at random; descriptors are small numbers, so most of them mean something.
fn call<'a>(r: &mut Rng, addr: &'a SockAddrBytes, int: &'a [u8; 8], data: &'a [u8], fds: &'a [PollFd]) -> Call<'a> {
    let fd = r.below(14);
    let other = r.below(14);
    let timeout = [None, Some(0), Some(3 * MS)][r.below(3) as usize];
    match r.below(24) {
        0..=2 => Call::Socket {
            family: [AF_INET, AF_INET6][r.below(2) as usize],
            kind: [SOCK_STREAM, SOCK_DGRAM][r.below(2) as usize] | [0, SOCK_NONBLOCK][r.below(2) as usize],
            protocol: 0,
        },
        3..=4 => Call::Bind { fd, addr },
        5..=6 => Call::Listen { fd, backlog: r.below(3) as i32 },
        7..=8 => Call::Accept { fd, flags: 0 },
        9..=10 => Call::Connect { fd, addr },
        11..=12 => {
            let to: Option<&[u8]> = if r.below(2) == 0 { None } else { Some(addr) };
            let flags = [0, MSG_DONTWAIT, MSG_MORE][r.below(3) as usize];
            Call::Send { fd, data: Payload::Bytes(data), flags, to, cmsgs: &[] }
        }
        13..=14 => Call::Recv {
            fd,
            len: r.below(70_000) as usize,
            flags: [0, MSG_DONTWAIT, MSG_PEEK, MSG_WAITALL, MSG_TRUNC, MSG_ERRQUEUE][r.below(6) as usize],
        },
        15 => Call::Shutdown { fd, how: r.below(3) as i32 },
        16 => Call::Close { fd },
        17 => Call::Dup2 { fd, to: other, cloexec: false },
        18 => Call::Poll { fds, timeout },
        19 => Call::EpollCreate { flags: 0 },
        20..=21 => {
            let flags = [0, EPOLLET, EPOLLONESHOT, EPOLLEXCLUSIVE][r.below(4) as usize];
            let event = EpollEvent { events: EPOLLIN | EPOLLOUT | flags, data: 1 };
            Call::EpollCtl { epfd: other, op: 1 + r.below(3) as i32, fd, event: Some(event) }
        }
        22 => Call::EpollWait { epfd: fd, max: 3, timeout },
        _ => {
            let (level, most) = [(SOL_SOCKET, 85), (SOL_TCP, 47), (SOL_IP, 53), (SOL_IPV6, 80)][r.below(4) as usize];
            let name = r.below(most) as i32;
            match r.below(2) {
                0 => Call::SetSockOpt { fd, level, name, value: &int[..4 + 4 * r.below(2) as usize] },
                _ => Call::GetSockOpt { fd, level, name, len: r.below(300) as usize },
            }
        }
    }
}

#[test]
fn random_calls_keep_every_invariant() {
    random_calls(0..40, false, |_, _| ());
}

/// Now and then somebody else has all the pages that there are.
#[test]
fn random_calls_without_memory_keep_every_invariant() {
    for seed in 40..60 {
        let mut hog = Vec::new();
        random_calls(seed..seed + 1, true, |h, r| {
            let pages = &mut h.k.net.mem.pages;
            match r.below(40) {
                0 => hog.extend(std::iter::from_fn(|| pages.alloc(0, Gfp::Held))),
                1..=8 => hog.drain(hog.len() - hog.len().min(300)..).for_each(|b| pages.free(b)),
                _ => {}
            }
        });
    }
}

/// `before` each call something else may happen.
fn random_calls(seeds: Range<u64>, small: bool, mut before: impl FnMut(&mut Host, &mut Rng)) {
    for seed in seeds {
        let mut h = Host::new();
        if small {
            h.k.set_memory(16 << 20);
            h.k.sysctl_set(h.ns, "net.ipv4.tcp_mem", "100000 100000 100000").unwrap();
        }
        let mut r = Rng::new(seed);
        let threads: Vec<TaskId> = (0..5).map(|_| h.thread()).collect();
        let mut busy: Vec<Option<CallId>> = vec![None; threads.len()];
        let data = vec![5; 100_000];
        for step in 0..1_500 {
            before(&mut h, &mut r);
            let t = r.below(threads.len() as u32) as usize;
            let addr = SockAddr::V4(LO, 2000 + r.below(4) as u16);
            let addr = if r.below(4) == 0 { addr.to_mapped().emit() } else { addr.emit() };
            let int = u64::from(r.below(3)).to_ne_bytes();
            let len = [1, 100, 5_000, 100_000][r.below(4) as usize];
            let fds: Vec<PollFd> = (0..3).map(|_| PollFd { fd: r.below(14) as i32, events: 5, revents: 0 }).collect();
            match busy[t] {
                None => {
                    let c = call(&mut r, &addr, &int, &data[..len], &fds);
                    let what = format!("seed {seed} step {step}: {c:?}");
                    if let Submitted::Parked(id) = h.k.call(h.now, threads[t], c) {
                        busy[t] = Some(id);
                    }
                    if let Err(v) = h.k.check() {
                        panic!("{what:.300}: {v}");
                    }
                }
                Some(id) if r.below(3) == 0 => {
                    h.k.cancel(h.now, id, Errno::EINTR);
                    h.check();
                    busy[t] = None;
                }
                Some(_) => h.sleep(u64::from(r.below(2000)) * MS),
            }
            for (id, _) in h.done() {
                busy.iter_mut().filter(|b| **b == Some(id)).for_each(|b| *b = None);
            }
        }
        let (now, process) = (h.now, h.process);
        h.k.exit(now, process);
        h.check();
        assert!(h.k.files.files.is_empty() && h.k.files.items.is_empty() && h.k.tasks.waits.is_empty());
        assert!(h.k.tasks.calls.is_empty() && h.k.socks.udp.is_empty(), "seed {seed}");
        h.sleep(1_000_000 * MS);
        assert_eq!(h.k.socks.tcp.len(), 0, "seed {seed}: everything ends");
    }
}
