//! Calls with arbitrary arguments in arbitrary order, sleeping ones included, on a kernel that talks to itself over
//! loopback, while time passes. The books must be right after every call.
#![no_main]
#[path = "../common/mod.rs"]
mod common;
use belljar_abi::*;
use belljar_kernel::task::call::{Call, Cmsg, EpollEvent, Payload, PollFd};
use common::*;
use core::net::{Ipv4Addr, Ipv6Addr};
use libfuzzer_sys::fuzz_target;

fn address(s: &mut Script<'_>) -> Vec<u8> {
    let port = [0, 80, 80, 81, 8080, 40000][s.u8() as usize % 6];
    let ip = [
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::UNSPECIFIED,
        HOST,
        PEER,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::new(127, 0, 0, 2),
    ];
    let ip = ip[s.u8() as usize % ip.len()];
    match s.u8() % 16 {
        0 => SockAddr::Unspec.emit().to_vec(),
        1 => SockAddr::v6(Ipv6Addr::LOCALHOST, port).emit().to_vec(),
        2 => SockAddr::V4(ip, port).to_mapped().emit().to_vec(),
        3 => {
            let n = s.u8() as usize % 40;
            s.bytes(n).to_vec()
        }
        _ => SockAddr::V4(ip, port).emit().to_vec(),
    }
}

const LEVELS: [i32; 6] = [SOL_SOCKET, SOL_SOCKET, SOL_TCP, SOL_TCP, SOL_IP, SOL_UDP];

fn one(m: &mut Machine, s: &mut Script<'_>) {
    let fd = (s.u8() % 12) as u32;
    let flags = s.one_of(&[
        0,
        MSG_DONTWAIT,
        MSG_PEEK | MSG_DONTWAIT,
        MSG_NOSIGNAL,
        MSG_OOB,
        MSG_MORE,
        MSG_TRUNC,
        MSG_WAITALL,
        MSG_ERRQUEUE,
    ]);
    match s.u8() % 24 {
        0 | 1 => {
            let family = s.one_of(&[AF_INET, AF_INET, AF_INET, AF_INET6, AF_NETLINK, AF_UNIX]);
            let kind = s.one_of(&[SOCK_STREAM, SOCK_STREAM, SOCK_DGRAM, SOCK_RAW])
                | s.one_of(&[0, SOCK_NONBLOCK, SOCK_CLOEXEC]);
            drop(m.call(Call::Socket { family, kind, protocol: s.one_of(&[0, 0, 6, 17, 1]) }));
        }
        2 => drop(m.call(Call::Bind { fd, addr: &address(s) })),
        3 => drop(m.call(Call::Listen { fd, backlog: s.one_of(&[0, 1, 5, 128, -1]) })),
        4 => drop(m.call(Call::Accept { fd, flags: s.one_of(&[0, SOCK_NONBLOCK]) })),
        5 | 6 => drop(m.call(Call::Connect { fd, addr: &address(s) })),
        7..=9 => {
            let n = s.one_of(&[0, 1, 100, 1460, 5000, 70_000, 300_000]).clamp(0, 1 << 20) as usize;
            let to = s.u8().is_multiple_of(3).then(|| address(s));
            let cmsgs = match s.u8() % 8 {
                0 => vec![Cmsg { level: s.one_of(&LEVELS), kind: s.u8() as i32, data: s.bytes(8).to_vec() }],
                _ => vec![],
            };
            let data = vec![s.u8(); n];
            let call = Call::Send { fd, data: Payload::Bytes(&data), flags, to: to.as_deref(), cmsgs: &cmsgs };
            drop(m.call(call));
        }
        10..=12 => drop(m.call(Call::Recv { fd, len: s.one_of(&[0, 1, 100, 65536, 1 << 20]).max(0) as usize, flags })),
        13 => drop(m.call(Call::Shutdown { fd, how: s.one_of(&[0, 1, 2]) })),
        14 => drop(m.call(Call::Close { fd })),
        15 => drop(m.call(if s.u8() & 1 == 0 { Call::GetSockName { fd } } else { Call::GetPeerName { fd } })),
        16 => drop(m.call(Call::GetSockOpt {
            fd,
            level: s.one_of(&LEVELS),
            name: s.u8() as i32,
            len: (s.u8() as usize) * 4,
        })),
        17 | 18 => {
            let (level, name, n) = (s.one_of(&LEVELS), s.u8() as i32, s.u8() as usize % 24);
            let value = match s.u8() % 3 {
                0 => s.bytes(n).to_vec(),
                1 => 1i32.to_ne_bytes().to_vec(),
                _ => s.u16().to_ne_bytes().iter().chain(&[0, 0]).copied().collect(),
            };
            drop(m.call(Call::SetSockOpt { fd, level, name, value: &value }));
        }
        19 => {
            let request =
                [FIONREAD, SIOCOUTQ, SIOCOUTQNSD, FIONBIO, SIOCATMARK, SIOCGIFCONF][s.u8() as usize % 6] as u64;
            drop(m.call(Call::Ioctl { fd, request, arg: s.u8() as i64 }));
        }
        20 => {
            let n = s.u8() % 4;
            let fds: Vec<PollFd> =
                (0..n).map(|_| PollFd { fd: (s.u8() % 12) as i32, events: s.u8() as u16, revents: 0 }).collect();
            let timeout = Some(s.u32() as u64);
            drop(m.call(Call::Poll { fds: &fds, timeout }));
        }
        21 => {
            let (op, target) =
                (s.one_of(&[EPOLL_CTL_ADD, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL]), (s.u8() % 12) as u32);
            let event = Some(EpollEvent { events: s.u8() as u32 | (s.u8() as u32) << 24, data: 1 });
            let call = match s.u8() % 4 {
                0 => Call::EpollCreate { flags: 0 },
                1 => Call::EpollWait { epfd: fd, max: s.u8() as i32 - 2, timeout: Some(s.u32() as u64) },
                _ => Call::EpollCtl { epfd: fd, op, fd: target, event },
            };
            drop(m.call(call));
        }
        22 => {
            let call = match s.u8() % 4 {
                0 => Call::Dup { fd, min: s.u8() as u32, cloexec: false },
                1 => Call::Dup2 { fd, to: (s.u8() % 12) as u32, cloexec: true },
                2 => Call::Fcntl { fd, cmd: s.one_of(&[1, 2, 3, 4]), arg: s.one_of(&[0, SOCK_NONBLOCK, 1]) as i64 },
                _ => Call::SetNofile { soft: s.u8() as u32, hard: 1024 },
            };
            drop(m.call(call));
        }
        _ => {
            // A signal strikes one of the sleepers.
            if !m.parked.is_empty() {
                let id = m.parked.remove(s.u8() as usize % m.parked.len());
                m.k.cancel(m.now, id, Errno::EINTR);
                m.settle();
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut s = Script(data);
    let mut m = machine();
    for _ in 0..200 {
        if !s.more() {
            break;
        }
        one(&mut m, &mut s);
        if s.u8() % 8 == 0 {
            m.sleep(1 << (s.u8() % 38));
        }
        m.sent.clear();
        m.check();
    }
    m.sleep(300_000_000_000);
    m.check();
});
