//! A kernel with several namespaces whose devices are made by netlink, as `ip` and `bridge` make them.
#![allow(dead_code)]
use belljar_abi::netlink::{self as nl, ErrorForm, Msg};
use belljar_abi::rtnetlink::*;
use belljar_abi::*;
use belljar_kernel::Kernel;
use belljar_kernel::env::trace::{Dir, Event};
use belljar_kernel::ids::*;
use belljar_kernel::net::core::dev::NetDevice;
use belljar_kernel::net::netfilter::Pf;
use belljar_kernel::net::netfilter::words::NoNames;
use belljar_kernel::net::netlink::link_set::netns_refs;
use belljar_kernel::net::netlink::{Caller, NetnsRef};
use belljar_kernel::task::call::*;
use belljar_kernel::task::process::Caps;
use std::net::Ipv4Addr;

pub const SEC: u64 = 1_000_000_000;
const CREATE: u16 = nl::NLM_F_CREATE | nl::NLM_F_EXCL;

pub struct World {
    pub k: Kernel,
    pub now: u64,
    spaces: Vec<(NsId, TaskId)>,
}

/// Attributes, nested ones by [`nest`].
pub type Attr = (u16, Vec<u8>);

pub fn nest(kind: u16, inside: &[Attr]) -> Attr {
    let mut out = Vec::new();
    for (k, v) in inside {
        out.extend(((v.len() + 4) as u16).to_ne_bytes());
        out.extend(k.to_ne_bytes());
        out.extend(v);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    (kind, out)
}

pub fn a32(kind: u16, v: u32) -> Attr {
    (kind, v.to_ne_bytes().to_vec())
}

pub fn a16(kind: u16, v: u16) -> Attr {
    (kind, v.to_ne_bytes().to_vec())
}

pub fn a8(kind: u16, v: u8) -> Attr {
    (kind, vec![v])
}

impl World {
    pub fn new(spaces: usize) -> World {
        let mut w = World { k: Kernel::new(11), now: 1, spaces: Vec::new() };
        for n in 0..spaces {
            let ns = w.k.net.add_ns(&format!("ns{n}"));
            let lo = w.k.net.ns.get(ns).unwrap().lo;
            w.k.set_link(lo, true).unwrap();
            let p = w.k.add_process(ns, 0, Caps::ROOT, 64, "p");
            let task = w.k.add_task(p, 0).unwrap();
            w.spaces.push((ns, task));
        }
        w
    }

    pub fn ns(&self, n: usize) -> NsId {
        self.spaces[n].0
    }

    pub fn has(&self, n: usize, name: &str) -> bool {
        self.k.net.dev_by_name(self.ns(n), name).is_some()
    }

    pub fn dev(&self, n: usize, name: &str) -> DevId {
        self.k.net.dev_by_name(self.ns(n), name).unwrap()
    }

    pub fn d(&self, n: usize, name: &str) -> &NetDevice {
        self.k.net.devs.get(self.dev(n, name)).unwrap()
    }

    pub fn index(&self, n: usize, name: &str) -> u32 {
        self.d(n, name).ifindex
    }

    pub fn veth(&mut self, a: (usize, &str), b: (usize, &str)) {
        let (ns_a, ns_b) = (self.ns(a.0), self.ns(b.0));
        self.k.net.add_veth((ns_a, a.1), (ns_b, b.1)).unwrap();
    }

    pub fn up(&mut self, n: usize, name: &str) {
        let dev = self.dev(n, name);
        self.k.set_link(dev, true).unwrap();
        self.settle();
    }

    pub fn down(&mut self, n: usize, name: &str) {
        let dev = self.dev(n, name);
        self.k.set_link(dev, false).unwrap();
        self.settle();
    }

    pub fn addr(&mut self, n: usize, name: &str, addr: [u8; 4]) {
        let dev = self.dev(n, name);
        self.k.add_address(dev, addr.into(), 24).unwrap();
    }

    /// The errno of the answer and its text, 0 for an acknowledgement; other answers' bodies.
    pub fn netlink(
        &mut self,
        n: usize,
        kind: u16,
        flags: u16,
        body: &[u8],
        attrs: &[Attr],
    ) -> (i32, String, Vec<Vec<u8>>) {
        let mut out = Vec::new();
        let mut m = Msg::new(&mut out, kind, flags | nl::NLM_F_REQUEST | nl::NLM_F_ACK, 9, 0);
        m.body(body);
        for (k, v) in attrs {
            m.attr(*k, v);
        }
        let spaces: Vec<NsId> = self.spaces.iter().map(|s| s.0).collect();
        let meant = |r: NetnsRef| match r {
            NetnsRef::Fd(n) => Some((r, *spaces.get(n as usize)?)),
            NetnsRef::Pid(_) => None,
        };
        let netns: Vec<_> = netns_refs(&out).into_iter().filter_map(meant).collect();
        let form = ErrorForm { ext_ack: true, cap_ack: true };
        let process = (1, "");
        let (ns, port, uid) = (self.ns(n), 77, 0);
        let c = Caller { ns, port, uid, process, net_admin: true, strict: true, form, netns: &netns };
        let answers = self.k.rtnetlink(self.now, &c, &out).concat();
        self.settle();
        let (mut errno, mut text, mut bodies) = (0, String::new(), Vec::new());
        for (h, b) in nl::messages(&answers) {
            match h.kind {
                nl::NLMSG_ERROR => {
                    errno = -i32::from_ne_bytes(*b.first_chunk().unwrap());
                    if h.flags & nl::NLM_F_ACK_TLVS != 0 {
                        let t = nl::attrs(&b[20..]).next().map(|t| t.1.to_vec()).unwrap_or_default();
                        text = String::from_utf8_lossy(&t).trim_end_matches('\0').to_owned();
                    }
                }
                nl::NLMSG_DONE => {}
                _ => bodies.push(b.to_vec()),
            }
        }
        (errno, text, bodies)
    }

    /// `ip link add NAME [link LOWER] … type KIND …`.
    pub fn add(&mut self, n: usize, name: &str, kind: &str, attrs: &[Attr], data: &[Attr]) -> (i32, String) {
        let mut all = vec![(IFLA_IFNAME, [name.as_bytes(), b"\0"].concat())];
        all.extend(attrs.iter().cloned());
        let mut info = vec![(IFLA_INFO_KIND, kind.as_bytes().to_vec())];
        if !data.is_empty() {
            info.push(nest(IFLA_INFO_DATA, data));
        }
        all.push(nest(IFLA_LINKINFO, &info));
        let (errno, text, _) = self.netlink(n, RTM_NEWLINK, CREATE, &IfInfoMsg::default().to_bytes(), &all);
        (errno, text)
    }

    /// `ip link set NAME type KIND …`.
    pub fn set_kind(&mut self, n: usize, name: &str, kind: &str, data: &[Attr]) -> (i32, String) {
        let info = nest(IFLA_LINKINFO, &[(IFLA_INFO_KIND, kind.as_bytes().to_vec()), nest(IFLA_INFO_DATA, data)]);
        let head = IfInfoMsg { index: self.index(n, name) as i32, ..IfInfoMsg::default() };
        let (errno, text, _) = self.netlink(n, RTM_NEWLINK, 0, &head.to_bytes(), &[info]);
        (errno, text)
    }

    /// `ip link set NAME master BRIDGE`.
    pub fn master(&mut self, n: usize, name: &str, bridge: &str) {
        let (dev, br) = (self.dev(n, name), self.dev(n, bridge));
        self.k.net.set_master(dev, Some(br)).unwrap();
        self.settle();
    }

    /// IFLA_INFO_DATA as it is shown.
    pub fn info(&mut self, n: usize, name: &str) -> Vec<Attr> {
        let head = IfInfoMsg { index: self.index(n, name) as i32, ..IfInfoMsg::default() };
        let (_, _, bodies) = self.netlink(n, RTM_GETLINK, 0, &head.to_bytes(), &[]);
        let all = attrs(&bodies[0][IfInfoMsg::LEN..]);
        let info = all.iter().find(|a| a.0 == IFLA_LINKINFO).map(|a| attrs(&a.1)).unwrap_or_default();
        info.iter().find(|a| a.0 == IFLA_INFO_DATA).map(|a| attrs(&a.1)).unwrap_or_default()
    }

    pub fn settle(&mut self) {
        self.k.tick(self.now);
        loop {
            while self.k.pop_output().is_some() {}
            if !self.k.more_work() {
                break;
            }
            self.k.tick(self.now);
        }
        self.k.check().unwrap();
    }

    pub fn advance(&mut self, by: u64) {
        let end = self.now + by;
        while let Some(at) = self.k.next_deadline().filter(|d| *d <= end) {
            self.now = at.max(self.now);
            self.k.tick(self.now);
            self.settle();
        }
        self.now = end;
        self.k.tick(end);
        self.settle();
    }

    fn call(&mut self, n: usize, c: Call<'_>) -> SysResult {
        match self.k.call(self.now, self.spaces[n].1, c) {
            Submitted::Done(r) => r,
            Submitted::Parked(id) => {
                self.k.cancel(self.now, id, Errno::EAGAIN);
                Err(Errno::EAGAIN)
            }
        }
    }

    pub fn udp(&mut self, n: usize, port: u16) -> Fd {
        let kind = SOCK_DGRAM | SOCK_NONBLOCK;
        let Ok(Ret::Fd(fd)) = self.call(n, Call::Socket { family: AF_INET, kind, protocol: 0 }) else { panic!() };
        let addr = SockAddr::V4(Ipv4Addr::UNSPECIFIED, port).emit();
        self.call(n, Call::Bind { fd, addr: &addr }).unwrap();
        fd
    }

    /// What a socket sends is cut into datagrams of this size.
    pub fn cut(&mut self, n: usize, fd: Fd, size: i32) {
        let value = size.to_ne_bytes();
        self.call(n, Call::SetSockOpt { fd, level: SOL_UDP, name: UDP_SEGMENT, value: &value }).unwrap();
    }

    pub fn bind(&mut self, n: usize, port: u16) -> Result<(), Errno> {
        let kind = SOCK_DGRAM | SOCK_NONBLOCK;
        let Ok(Ret::Fd(fd)) = self.call(n, Call::Socket { family: AF_INET, kind, protocol: 0 }) else { panic!() };
        let addr = SockAddr::V4(Ipv4Addr::UNSPECIFIED, port).emit();
        self.call(n, Call::Bind { fd, addr: &addr }).map(|_| ())
    }

    pub fn send(&mut self, n: usize, fd: Fd, data: &[u8], to: [u8; 4], port: u16) -> SysResult {
        let to = SockAddr::V4(to.into(), port).emit();
        let r = self.call(n, Call::Send { fd, data: Payload::Bytes(data), flags: 0, to: Some(&to), cmsgs: &[] });
        self.settle();
        r
    }

    pub fn recv(&mut self, n: usize, fd: Fd) -> Result<Vec<u8>, Errno> {
        match self.call(n, Call::Recv { fd, len: 65_536, flags: 0 })? {
            Ret::Data(d) => Ok(d.segs.to_vec()),
            r => panic!("{r:?}"),
        }
    }

    /// Whether a datagram gets from one namespace to an address of another.
    pub fn reaches(&mut self, from: usize, to: usize, addr: [u8; 4]) -> bool {
        let (a, b) = (self.udp(from, 0), self.udp(to, 7000));
        let _ = self.send(from, a, b"is anybody there", addr, 7000);
        let there = self.recv(to, b).is_ok();
        for (n, fd) in [(from, a), (to, b)] {
            self.call(n, Call::Close { fd }).unwrap();
        }
        there
    }

    /// From now on what devices see is kept.
    pub fn watch(&mut self) {
        self.k.net.env.trace.wanted.taps = true;
        self.k.net.env.trace.wanted.drops = true;
        while self.k.net.env.trace.pop().is_some() {}
    }

    /// The frames that went out of, or came in by, a device since [`World::watch`].
    pub fn frames(&mut self, n: usize, name: &str, way: Dir) -> Vec<Vec<u8>> {
        let dev = self.dev(n, name);
        let mut out = Vec::new();
        while let Some(r) = self.k.net.env.trace.pop() {
            if let Event::Tap { dev: d, dir, frame } = r.event
                && d == dev
                && dir == way
            {
                out.push(frame.to_vec());
            }
        }
        out
    }

    /// All frames that devices saw since [`World::watch`]: the namespace, the device, the bytes.
    pub fn taps(&mut self, way: Dir) -> Vec<(usize, String, Vec<u8>)> {
        let mut out = Vec::new();
        while let Some(r) = self.k.net.env.trace.pop() {
            if let Event::Tap { dev, dir, frame } = r.event
                && dir == way
                && let Some(d) = self.k.net.devs.get(dev)
                && let Some(n) = self.spaces.iter().position(|s| s.0 == d.ns)
            {
                out.push((n, d.name.clone(), frame.to_vec()));
            }
        }
        out
    }

    /// A frame as a packet socket sends it.
    pub fn inject(&mut self, n: usize, name: &str, frame: &[u8]) {
        let Ok(Ret::Fd(fd)) = self.call(n, Call::Socket { family: AF_PACKET, kind: SOCK_RAW, protocol: 0 }) else {
            panic!()
        };
        let ll = packet::LinkAddr { ifindex: self.index(n, name) as i32, ..packet::LinkAddr::default() };
        self.call(n, Call::Bind { fd, addr: &ll.emit() }).unwrap();
        self.call(n, Call::Send { fd, data: Payload::Bytes(frame), flags: 0, to: None, cmsgs: &[] }).unwrap();
        self.settle();
        self.call(n, Call::Close { fd }).unwrap();
    }

    /// Lines of `iptables`, or of `ip6tables` behind a 6.
    pub fn iptables(&mut self, n: usize, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let (pf, line) = line.strip_prefix("6 ").map_or((Pf::V4, line), |l| (Pf::V6, l));
            let words: Vec<&str> = line.split_whitespace().collect();
            let ns = self.ns(n);
            let o = self.k.iptables(ns, pf, &words, &NoNames);
            assert_eq!((o.code, o.stderr.as_str()), (0, ""), "{line}");
        }
    }

    /// Packets and bytes of each rule of a chain.
    pub fn counts(&mut self, n: usize, pf: Pf, chain: &str) -> Vec<(u64, u64)> {
        let (table, chain) = chain.split_once('/').unwrap_or(("filter", chain));
        let ns = self.ns(n);
        let o = self.k.iptables(ns, pf, &["-t", table, "-S", chain, "-v"], &NoNames);
        let read = |l: &str| {
            let mut w = l.split_whitespace().skip_while(|w| *w != "-c").skip(1).map(|n| n.parse().unwrap());
            (w.next().unwrap(), w.next().unwrap())
        };
        o.stdout.lines().filter(|l| l.starts_with("-A")).map(read).collect()
    }

    /// The reasons and places of drops since [`World::watch`].
    pub fn drops(&mut self) -> Vec<(&'static str, &'static str)> {
        let mut out = Vec::new();
        while let Some(r) = self.k.net.env.trace.pop() {
            if let Event::Drop { reason, at, .. } = r.event {
                out.push((reason.name(), at));
            }
        }
        out
    }
}

pub fn attrs(bytes: &[u8]) -> Vec<Attr> {
    nl::attrs(bytes).map(|(k, v)| (k, v.to_vec())).collect()
}

pub fn find(all: &[Attr], kind: u16) -> &[u8] {
    all.iter().find(|a| a.0 == kind).map_or(&[], |a| &a.1)
}
