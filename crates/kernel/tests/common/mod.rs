//! Two machines on a cable, and programs on them: through the public API only.
#![allow(dead_code)]
use belljar_abi::*;
use belljar_kernel::drivers::nic::NicConfig;
use belljar_kernel::ids::*;
use belljar_kernel::task::call::*;
use belljar_kernel::task::process::Caps;
use belljar_kernel::{Kernel, Output};
use belljar_wire::Frame;
use belljar_wire::arp::{ARPOP_REPLY, ARPOP_REQUEST, ArpPacket};
use belljar_wire::ethernet::{ETH_P_ARP, ETH_P_IP, EthHeader, Mac};
use belljar_wire::ipv4::Ipv4Header;
use std::net::Ipv4Addr;

pub const MS: u64 = 1_000_000;
pub const SEC: u64 = 1_000_000_000;
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
pub const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
pub const HOST_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x15]);
pub const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
pub const LO: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A machine with lo and eth0, a process with one task, and a clock.
pub struct Host {
    pub k: Kernel,
    pub ns: NsId,
    pub dev: DevId,
    pub task: TaskId,
    pub now: u64,
    pub completions: Vec<(CallId, SysResult)>,
    pub signals: Vec<(i32, i32)>,
    pub out: Vec<Frame>,
    /// TOS of the last TCP segment that `peer` saw.
    pub last_tos: u8,
}

impl Host {
    pub fn new() -> Host {
        Host::at(HOST, HOST_MAC, PEER)
    }

    pub fn at(addr: Ipv4Addr, mac: Mac, gateway: Ipv4Addr) -> Host {
        let mut k = Kernel::new(7);
        let nic = NicConfig { mac, ..NicConfig::default() };
        let (ns, dev) = k.add_host("host", &nic, (addr, 24), Some(gateway)).unwrap();
        let p = k.add_process(ns, 0, Caps::ROOT, 1024, "test");
        let task = k.add_task(p, 0).unwrap();
        Host { k, ns, dev, task, now: 1, completions: vec![], signals: vec![], out: vec![], last_tos: 0 }
    }

    pub fn try_call(&mut self, c: Call<'_>) -> Submitted {
        let r = self.k.call(self.now, self.task, c);
        self.collect();
        r
    }

    pub fn call(&mut self, c: Call<'_>) -> SysResult {
        match self.try_call(c) {
            Submitted::Done(r) => r,
            Submitted::Parked(_) => panic!("the call sleeps"),
        }
    }

    pub fn collect(&mut self) {
        loop {
            while let Some(o) = self.k.pop_output() {
                match o {
                    Output::Frame { frame, .. } => self.out.push(frame),
                    Output::Signal { owner, signal } => self.signals.push((owner, signal)),
                    Output::Complete { call, result } => self.completions.push((call, result)),
                }
            }
            if !self.k.more_work() {
                break;
            }
            self.k.tick(self.now);
        }
        self.k.check().unwrap();
    }

    pub fn socket(&mut self, kind: i32) -> Fd {
        match self.call(Call::Socket { family: AF_INET, kind, protocol: 0 }) {
            Ok(Ret::Fd(fd)) => fd,
            r => panic!("{r:?}"),
        }
    }

    pub fn udp(&mut self) -> Fd {
        self.socket(SOCK_DGRAM | SOCK_NONBLOCK)
    }

    pub fn udp_on(&mut self, addr: Ipv4Addr, port: u16) -> Fd {
        let fd = self.udp();
        self.bind(fd, addr, port).unwrap();
        fd
    }

    pub fn bind(&mut self, fd: Fd, addr: Ipv4Addr, port: u16) -> SysResult {
        self.call(Call::Bind { fd, addr: &SockAddr::V4(addr, port).emit() })
    }

    pub fn connect(&mut self, fd: Fd, addr: Ipv4Addr, port: u16) -> SysResult {
        self.call(Call::Connect { fd, addr: &SockAddr::V4(addr, port).emit() })
    }

    pub fn send(&mut self, fd: Fd, data: &[u8]) -> SysResult {
        self.call(Call::Send { fd, data: Payload::Bytes(data), flags: 0, to: None, cmsgs: &[] })
    }

    pub fn send_to(&mut self, fd: Fd, data: &[u8], addr: Ipv4Addr, port: u16) -> SysResult {
        let to = SockAddr::V4(addr, port).emit();
        self.call(Call::Send { fd, data: Payload::Bytes(data), flags: 0, to: Some(&to), cmsgs: &[] })
    }

    pub fn recv_flags(&mut self, fd: Fd, len: usize, flags: i32) -> Result<Box<Received>, Errno> {
        match self.call(Call::Recv { fd, len, flags })? {
            Ret::Data(d) => Ok(d),
            r => panic!("{r:?}"),
        }
    }

    /// Payload and sender of the next datagram.
    pub fn recv(&mut self, fd: Fd) -> Result<(Vec<u8>, SockAddr), Errno> {
        let d = self.recv_flags(fd, 65_536, 0)?;
        Ok((d.segs.to_vec(), d.from.unwrap_or_default()))
    }

    pub fn set(&mut self, fd: Fd, level: i32, name: i32, value: i32) -> SysResult {
        self.call(Call::SetSockOpt { fd, level, name, value: &value.to_ne_bytes() })
    }

    pub fn get(&mut self, fd: Fd, level: i32, name: i32) -> i32 {
        match self.call(Call::GetSockOpt { fd, level, name, len: 4 }) {
            Ok(Ret::Opt(v)) => i32::from_ne_bytes(*v.first_chunk().unwrap()),
            r => panic!("{r:?}"),
        }
    }

    pub fn sysctl(&mut self, key: &str, value: &str) {
        self.k.sysctl_set(self.ns, key, value).unwrap();
    }

    pub fn counter(&self, c: belljar_kernel::net::mib::Mib) -> u64 {
        self.k.net.ns.get(self.ns).unwrap().mib.get(c)
    }

    pub fn rx(&mut self, f: Frame) {
        self.k.rx(self.now, self.dev, f);
        self.collect();
    }

    /// Lets time pass, timer by timer.
    pub fn advance(&mut self, nanos: u64) {
        let end = self.now + nanos;
        while let Some(at) = self.k.next_deadline().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.k.tick(self.now);
            self.collect();
        }
        self.now = end;
        self.k.tick(end);
        self.collect();
    }

    /// What left eth0 since the last time.
    pub fn sent(&mut self) -> Vec<Frame> {
        std::mem::take(&mut self.out)
    }

    /// As if the peer had been asked for its address before.
    pub fn know_peer(&mut self) {
        self.rx(arp(ARPOP_REQUEST, PEER_MAC, PEER, Mac::ZERO, HOST, Mac::BROADCAST));
        self.rx(arp(ARPOP_REPLY, PEER_MAC, PEER, HOST_MAC, HOST, HOST_MAC));
        self.sent();
    }
}

impl Default for Host {
    fn default() -> Host {
        Host::new()
    }
}

pub fn arp(op: u16, sha: Mac, spa: Ipv4Addr, tha: Mac, tpa: Ipv4Addr, to: Mac) -> Frame {
    let mut b = vec![0; 42];
    EthHeader { dst: to, src: sha, ethertype: ETH_P_ARP }.emit(&mut b);
    ArpPacket { op, sha, spa, tha, tpa }.emit(&mut b[14..]);
    Frame::from_bytes(&b, 0)
}

/// An IPv4 packet from the peer to the host.
pub fn ip(header: Ipv4Header, payload: &[u8]) -> Frame {
    let mut b = vec![0; 34 + payload.len()];
    EthHeader { dst: HOST_MAC, src: PEER_MAC, ethertype: ETH_P_IP }.emit(&mut b);
    Ipv4Header { total_len: (20 + payload.len()) as u16, ..header }.emit(&mut b[14..]);
    b[34..].copy_from_slice(payload);
    Frame::from_bytes(&b, 0)
}

pub fn from_peer(proto: u8) -> Ipv4Header {
    Ipv4Header { src: PEER, dst: HOST, proto, ..Ipv4Header::default() }
}

/// A UDP header with its checksum, and payload.
pub fn udp(src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    use belljar_wire::{checksum, udp::UdpHeader};
    let len = 8 + payload.len();
    let mut b = vec![0; len];
    let h = UdpHeader { src_port: src.1, dst_port: dst.1, len: len as u16, csum: 0 };
    h.emit(&mut b);
    b[8..].copy_from_slice(payload);
    let csum = checksum::fold(checksum::sum(&b, checksum::pseudo_v4(src.0, dst.0, 17, len)));
    UdpHeader { csum, ..h }.emit(&mut b);
    b
}

pub fn echo(id: u16, seq: u16, payload: &[u8]) -> Vec<u8> {
    use belljar_wire::{checksum, icmp::*};
    let mut b = vec![0; 8 + payload.len()];
    let h = IcmpHeader { kind: ICMP_ECHO, code: 0, csum: 0, rest: IcmpHeader::echo_rest(id, seq) };
    h.emit(&mut b);
    b[8..].copy_from_slice(payload);
    let csum = checksum::fold(checksum::sum(&b, 0));
    IcmpHeader { csum, ..h }.emit(&mut b);
    b
}

/// Header and payload of an IPv4 frame.
pub fn parse(f: &Frame) -> (EthHeader, Ipv4Header, Vec<u8>) {
    let b = f.to_vec();
    let ip = Ipv4Header::parse(&b[14..]).unwrap();
    (EthHeader::parse(&b).unwrap(), ip, b[14 + ip.ihl_bytes..].to_vec())
}
