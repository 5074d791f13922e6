//! Three kernels in a row: a client, a router with an address on both links, a server.
#![allow(dead_code)]
use belljar_abi::*;
use belljar_kernel::drivers::nic::NicConfig;
use belljar_kernel::ids::*;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::net::netfilter::Pf;
use belljar_kernel::net::netfilter::words::NoNames;
use belljar_kernel::task::call::*;
use belljar_kernel::task::process::Caps;
use belljar_kernel::{Kernel, Output};
use belljar_wire::{Frame, Mac};
use core::net::{Ipv4Addr, Ipv6Addr};
use std::collections::VecDeque;

pub const MS: u64 = 1_000_000;
pub const SEC: u64 = 1_000_000_000;
pub const CLIENT: usize = 0;
pub const ROUTER: usize = 1;
pub const SERVER: usize = 2;
pub const A: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);
pub const R1: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
pub const R2: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);
pub const B: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

pub struct Three {
    pub k: Vec<Kernel>,
    pub ns: Vec<NsId>,
    /// The client's, both of the router, the server's.
    pub dev: [DevId; 4],
    pub task: Vec<TaskId>,
    pub now: u64,
    /// Frames that crossed each of the links.
    pub seen: [Vec<Frame>; 2],
    pub done: Vec<(CallId, SysResult)>,
    mtu: u32,
}

fn nic(name: &str, n: u8) -> NicConfig {
    NicConfig { name: name.into(), mac: Mac([2, 0, 0, 0, 0, n]), ..NicConfig::default() }
}

fn six(net: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, net, 0, 0, 0, 0, 0, host)
}

impl Three {
    pub fn new() -> Three {
        let (mut k, mut ns, mut task, mut devs) = (vec![], vec![], vec![], vec![]);
        let hosts = [(A, R1, 1u8), (R1, B, 2), (B, R2, 4)];
        for (n, (addr, gw, mac)) in hosts.into_iter().enumerate() {
            let mut kernel = Kernel::new(7 + n as u64);
            let gateway = (n != ROUTER).then_some(gw);
            let (id, dev) = kernel.add_host("host", &nic("eth0", mac), (addr, 24), gateway).unwrap();
            devs.push(dev);
            kernel.net.enable_ipv6(id);
            let host = if n == ROUTER { 1 } else { 2 };
            kernel.net.add_address6(dev, six(if n == SERVER { 2 } else { 1 }, host), 64, true).unwrap();
            if n == ROUTER {
                let out = kernel.add_nic(id, &nic("eth1", 3)).unwrap();
                kernel.set_link(out, true).unwrap();
                kernel.add_address(out, R2, 24).unwrap();
                kernel.net.add_address6(out, six(2, 1), 64, true).unwrap();
                kernel.sysctl_set(id, "net.ipv4.ip_forward", "1").unwrap();
                kernel.sysctl_set(id, "net.ipv6.conf.all.forwarding", "1").unwrap();
                devs.push(out);
            } else {
                let via = six(if n == SERVER { 2 } else { 1 }, 1);
                kernel.ip(id, &format!("-6 route add default via {via}")).unwrap();
            }
            let p = kernel.add_process(id, 0, Caps::ROOT, 1024, "test");
            task.push(kernel.add_task(p, 0).unwrap());
            k.push(kernel);
            ns.push(id);
        }
        let dev = devs.try_into().unwrap();
        let mut t = Three { k, ns, dev, task, now: 1, seen: [vec![], vec![]], done: vec![], mtu: 1500 };
        t.sleep(3000);
        t.seen = [vec![], vec![]];
        t
    }

    /// Frames to their other ends, until there are no more.
    pub fn settle(&mut self) {
        let mut todo: VecDeque<(usize, DevId, Frame)> = VecDeque::new();
        loop {
            for n in 0..3 {
                loop {
                    while let Some(o) = self.k[n].pop_output() {
                        match o {
                            Output::Frame { dev, frame } => {
                                let (to, at, link) = match n {
                                    CLIENT => (ROUTER, self.dev[1], 0),
                                    SERVER => (ROUTER, self.dev[2], 1),
                                    _ if dev == self.dev[1] => (CLIENT, self.dev[0], 0),
                                    _ => (SERVER, self.dev[3], 1),
                                };
                                self.seen[link].push(frame.clone());
                                todo.push_back((to, at, frame));
                            }
                            Output::Complete { call, result } => self.done.push((call, result)),
                            Output::Signal { .. } => {}
                        }
                    }
                    if !self.k[n].more_work() {
                        break;
                    }
                    self.k[n].tick(self.now);
                }
            }
            let Some((to, dev, frame)) = todo.pop_front() else { break };
            self.k[to].rx(self.now, dev, frame);
        }
        self.k.iter().for_each(|k| k.check().unwrap());
    }

    pub fn sleep(&mut self, ms: u64) {
        let end = self.now + ms * MS;
        self.settle();
        while let Some(at) = self.k.iter().filter_map(Kernel::next_deadline).min().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            let now = self.now;
            self.k.iter_mut().for_each(|k| k.tick(now));
            self.settle();
        }
        self.now = end;
        self.k.iter_mut().for_each(|k| k.tick(end));
        self.settle();
    }

    pub fn try_call(&mut self, who: usize, c: Call<'_>) -> SysResult {
        let r = self.k[who].call(self.now, self.task[who], c);
        self.settle();
        match r {
            Submitted::Done(r) => r,
            Submitted::Parked(id) => {
                for _ in 0..100 {
                    if let Some(n) = self.done.iter().position(|d| d.0 == id) {
                        return self.done.remove(n).1;
                    }
                    self.sleep(50);
                }
                Err(Errno::EAGAIN)
            }
        }
    }

    pub fn socket(&mut self, who: usize, kind: i32) -> Fd {
        match self.try_call(who, Call::Socket { family: AF_INET, kind, protocol: 0 }) {
            Ok(Ret::Fd(fd)) => fd,
            r => panic!("{r:?}"),
        }
    }

    pub fn bound(&mut self, who: usize, kind: i32, addr: Ipv4Addr, port: u16) -> Fd {
        let fd = self.socket(who, kind);
        self.try_call(who, Call::Bind { fd, addr: &SockAddr::V4(addr, port).emit() }).unwrap();
        if kind & 0xf == SOCK_STREAM {
            self.try_call(who, Call::Listen { fd, backlog: 64 }).unwrap();
        }
        fd
    }

    pub fn connect(&mut self, who: usize, addr: Ipv4Addr, port: u16) -> Result<Fd, Errno> {
        let fd = self.socket(who, SOCK_STREAM);
        self.try_call(who, Call::Connect { fd, addr: &SockAddr::V4(addr, port).emit() }).map(|_| fd)
    }

    pub fn send_to(&mut self, who: usize, fd: Fd, data: &[u8], addr: Ipv4Addr, port: u16) -> SysResult {
        let to = SockAddr::V4(addr, port).emit();
        self.try_call(who, Call::Send { fd, data: Payload::Bytes(data), flags: 0, to: Some(&to), cmsgs: &[] })
    }

    pub fn send(&mut self, who: usize, fd: Fd, data: &[u8]) -> SysResult {
        self.try_call(who, Call::Send { fd, data: Payload::Bytes(data), flags: 0, to: None, cmsgs: &[] })
    }

    pub fn recv(&mut self, who: usize, fd: Fd) -> Result<(Vec<u8>, SockAddr), Errno> {
        match self.try_call(who, Call::Recv { fd, len: 65_536, flags: MSG_DONTWAIT })? {
            Ret::Data(d) => Ok((d.segs.to_vec(), d.from.unwrap_or_default())),
            Ret::Stream(s) => Ok((s.to_vec(), SockAddr::default())),
            r => panic!("{r:?}"),
        }
    }

    pub fn accept(&mut self, who: usize, fd: Fd) -> Result<(Fd, SockAddr), Errno> {
        match self.try_call(who, Call::Accept { fd, flags: 0 })? {
            Ret::Accepted { fd, peer } => Ok((fd, peer)),
            r => panic!("{r:?}"),
        }
    }

    /// Commands of iptables, one a line; with `6` before it of ip6tables.
    pub fn iptables(&mut self, who: usize, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let (pf, line) = line.strip_prefix("6 ").map_or((Pf::V4, line), |l| (Pf::V6, l));
            let words: Vec<&str> = line.split_whitespace().collect();
            let o = self.k[who].iptables(self.ns[who], pf, &words, &NoNames);
            assert_eq!((o.code, o.stderr.as_str()), (0, ""), "{line}");
        }
    }

    /// Packets and bytes of each rule of a chain.
    pub fn counts(&mut self, who: usize, chain: &str) -> Vec<(u64, u64)> {
        self.counts_of(who, Pf::V4, chain)
    }

    pub fn counts_of(&mut self, who: usize, pf: Pf, chain: &str) -> Vec<(u64, u64)> {
        let (table, chain) = chain.split_once('/').unwrap_or(("filter", chain));
        let o = self.k[who].iptables(self.ns[who], pf, &["-t", table, "-S", chain, "-v"], &NoNames);
        let read = |l: &str| {
            let mut w = l.split_whitespace().skip_while(|w| *w != "-c").skip(1).map(|n| n.parse().unwrap());
            (w.next().unwrap(), w.next().unwrap())
        };
        o.stdout.lines().filter(|l| l.starts_with("-A") || l.starts_with("-P")).map(read).collect()
    }

    /// Lines of `/proc/net/nf_conntrack`.
    pub fn conntrack(&self, who: usize) -> Vec<String> {
        let text = self.k[who].proc_text(self.ns[who], "/proc/net/nf_conntrack").unwrap();
        text.lines().map(str::to_owned).collect()
    }

    pub fn sysctl(&mut self, who: usize, key: &str, value: &str) {
        self.k[who].sysctl_set(self.ns[who], key, value).unwrap();
    }

    pub fn sysctl_get(&self, who: usize, key: &str) -> String {
        let all = self.k[who].view_sysctls(self.ns[who]);
        all.into_iter().find(|s| s.key == key).unwrap().value
    }

    pub fn counter(&self, who: usize, c: Mib) -> u64 {
        self.k[who].net.ns.get(self.ns[who]).unwrap().mib.get(c)
    }

    pub fn dropped(&self, who: usize) -> u64 {
        self.k[who].net.pool.drops().find(|d| d.0.name() == "NETFILTER_DROP").map_or(0, |d| d.1)
    }
}
