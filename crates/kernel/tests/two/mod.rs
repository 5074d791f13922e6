//! Two hosts of one kernel that speak IPv6, joined by hand, and the router of their link: what the tests of IPv6 share.
#![allow(dead_code)]
use belljar_abi::*;
use belljar_kernel::Kernel;
use belljar_kernel::drivers::nic::NicConfig;
use belljar_kernel::ids::*;
use belljar_kernel::kernel::Output;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::task::call::*;
use belljar_kernel::task::process::Caps;
use belljar_wire::ethernet::{ETH_P_IPV6, EthHeader};
use belljar_wire::ipv6::{Ipv6Header, NEXTHDR_ICMP, transport};
use belljar_wire::{Frame, Mac, checksum};
use core::net::Ipv6Addr;

/// The router of the link.
pub const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x99);
pub const MS: u64 = 1_000_000;
pub const A: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
pub const B: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
pub const LO: Ipv6Addr = Ipv6Addr::LOCALHOST;

/// Two hosts and the cable between them.
pub struct Two {
    pub k: Kernel,
    pub ns: [NsId; 2],
    pub dev: [DevId; 2],
    pub task: [TaskId; 2],
    pub now: u64,
    /// What crossed the cable.
    pub seen: Vec<Frame>,
    pub done: Vec<(CallId, SysResult)>,
}

impl Two {
    pub fn new() -> Two {
        Two::with(1500)
    }

    pub fn with(mtu: u32) -> Two {
        let mut k = Kernel::new(3);
        let (mut ns, mut dev, mut task) = (Vec::new(), Vec::new(), Vec::new());
        for n in [1u8, 2] {
            let id = k.net.add_ns(if n == 1 { "a" } else { "b" });
            let lo = k.net.ns.get(id).unwrap().lo;
            let nic = NicConfig { mac: Mac([2, 0, 0, 0, 0, n]), mtu, ..NicConfig::default() };
            let eth = k.add_nic(id, &nic).unwrap();
            k.net.enable_ipv6(id);
            k.net.set_link(lo, true).unwrap();
            k.net.set_link(eth, true).unwrap();
            k.net.add_address6(eth, if n == 1 { A } else { B }, 64, true).unwrap();
            let p = k.add_process(id, 0, Caps::ROOT, 1024, "test");
            task.push(k.add_task(p, 0).unwrap());
            ns.push(id);
            dev.push(eth);
        }
        let mut t = Two {
            k,
            ns: ns.try_into().unwrap(),
            dev: dev.try_into().unwrap(),
            task: task.try_into().unwrap(),
            now: 0,
            seen: Vec::new(),
            done: Vec::new(),
        };
        t.settle();
        t
    }

    /// Carries frames until none is left.
    pub fn settle(&mut self) {
        while let Some(out) = self.k.pop_output() {
            match out {
                Output::Frame { dev, frame } => {
                    self.seen.push(frame.clone());
                    let other = if dev == self.dev[0] { self.dev[1] } else { self.dev[0] };
                    self.k.rx(self.now, other, frame);
                }
                Output::Complete { call, result } => self.done.push((call, result)),
                Output::Signal { .. } => {}
            }
        }
        self.k.check().unwrap_or_else(|v| panic!("{v}"));
    }

    pub fn sleep(&mut self, ms: u64) {
        let end = self.now + ms * MS;
        while let Some(at) = self.k.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.k.tick(self.now);
            self.settle();
        }
        self.now = end;
        self.k.tick(end);
        self.settle();
    }

    pub fn call(&mut self, who: usize, c: Call<'_>) -> SysResult {
        let s = self.k.call(self.now, self.task[who], c);
        self.settle();
        match s {
            Submitted::Done(r) => r,
            Submitted::Parked(id) => match self.done.iter().position(|d| d.0 == id) {
                Some(at) => self.done.remove(at).1,
                None => panic!("the call sleeps"),
            },
        }
    }

    pub fn int(&mut self, who: usize, c: Call<'_>) -> Result<i64, Errno> {
        Ok(match self.call(who, c)? {
            Ret::Int(n) => n,
            Ret::Fd(fd) => fd.into(),
            other => panic!("{other:?}"),
        })
    }

    pub fn socket(&mut self, who: usize, kind: i32, protocol: i32) -> Fd {
        self.int(who, Call::Socket { family: AF_INET6, kind: kind | SOCK_NONBLOCK, protocol }).unwrap() as Fd
    }

    pub fn bind(&mut self, who: usize, fd: Fd, addr: Ipv6Addr, port: u16) -> Result<i64, Errno> {
        self.int(who, Call::Bind { fd, addr: &SockAddr::v6(addr, port).emit() })
    }

    pub fn connect(&mut self, who: usize, fd: Fd, addr: Ipv6Addr, port: u16) -> Result<i64, Errno> {
        self.int(who, Call::Connect { fd, addr: &SockAddr::v6(addr, port).emit() })
    }

    pub fn send(&mut self, who: usize, fd: Fd, data: &[u8], to: Option<(Ipv6Addr, u16)>) -> Result<i64, Errno> {
        let to = to.map(|(a, p)| SockAddr::v6(a, p).emit());
        let data = Payload::Bytes(data);
        self.int(who, Call::Send { fd, data, flags: 0, to: to.as_deref(), cmsgs: &[] })
    }

    pub fn recv(&mut self, who: usize, fd: Fd) -> Result<Box<Received>, Errno> {
        match self.call(who, Call::Recv { fd, len: 100_000, flags: 0 })? {
            Ret::Data(d) => Ok(d),
            Ret::Stream(segs) => Ok(Box::new(Received { full_len: segs.len(), segs, ..Received::default() })),
            other => panic!("{other:?}"),
        }
    }

    /// A packet of the link's router, `fe80::99`, to host 0.
    pub fn rx(&mut self, hop_limit: u8, src: Ipv6Addr, dst: Ipv6Addr, next: u8, payload: &[u8]) {
        let to = if dst.is_multicast() { [0x33, 0x33, 0, 0, 0, 1] } else { [2, 0, 0, 0, 0, 1] };
        self.rx_to(to, hop_limit, src, dst, next, payload);
    }

    /// The same to a hardware address.
    pub fn rx_to(&mut self, to: [u8; 6], hop_limit: u8, src: Ipv6Addr, dst: Ipv6Addr, next: u8, payload: &[u8]) {
        let mut b = vec![0; 14 + 40];
        let (dst_mac, from) = (Mac(to), Mac([2, 0, 0, 0, 0, 0x99]));
        EthHeader { dst: dst_mac, src: from, ethertype: ETH_P_IPV6 }.emit(&mut b);
        let payload_len = payload.len() as u16;
        Ipv6Header { payload_len, next, hop_limit, src, dst, ..Ipv6Header::default() }.emit(&mut b[14..]);
        b.extend_from_slice(payload);
        self.k.rx(self.now, self.dev[0], Frame::from_bytes(&b, 1));
        self.settle();
    }

    /// The ICMPv6 message, summed.
    pub fn rx_icmp(&mut self, hop_limit: u8, src: Ipv6Addr, dst: Ipv6Addr, mut m: Vec<u8>) {
        let sum = checksum::fold(checksum::sum(&m, checksum::pseudo_v6(src, dst, NEXTHDR_ICMP, m.len())));
        m[2..4].copy_from_slice(&sum.to_be_bytes());
        self.rx(hop_limit, src, dst, NEXTHDR_ICMP, &m);
    }

    /// The same behind the router alert option, as MLD messages are.
    pub fn rx_mld(&mut self, hop_limit: u8, src: Ipv6Addr, dst: Ipv6Addr, mut m: Vec<u8>) {
        let sum = checksum::fold(checksum::sum(&m, checksum::pseudo_v6(src, dst, NEXTHDR_ICMP, m.len())));
        m[2..4].copy_from_slice(&sum.to_be_bytes());
        let alert = [NEXTHDR_ICMP, 0, 5, 2, 0, 0, 1, 0];
        self.rx(hop_limit, src, dst, 0, &[&alert[..], &m].concat());
    }

    pub fn set(&mut self, who: usize, fd: Fd, name: i32, value: i32) -> SysResult {
        self.call(who, Call::SetSockOpt { fd, level: SOL_IPV6, name, value: &value.to_ne_bytes() })
    }

    /// The IPv6 packets that host 0 sent since the last time, of one protocol.
    pub fn sent(&mut self, proto: u8) -> Vec<Vec<u8>> {
        let frames = std::mem::take(&mut self.seen);
        let packets = frames.iter().map(|f| f.to_vec().split_off(14));
        packets.filter(|p| transport(p).is_some_and(|t| t.proto == proto)).collect()
    }

    pub fn count(&self, who: usize, c: Mib) -> u64 {
        self.k.net.ns.get(self.ns[who]).unwrap().mib.get(c)
    }
}
