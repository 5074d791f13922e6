//! A remote host written by hand: TCP segments into eth0, and what comes back.
#![allow(dead_code)]
use super::common::*;
use belljar_abi::*;
use belljar_kernel::task::call::*;
use belljar_wire::arp::ARPOP_REPLY;
use belljar_wire::checksum;
use belljar_wire::ethernet::{ETH_P_ARP, EthHeader};
use belljar_wire::ipv4::IPPROTO_TCP;
use belljar_wire::tcp::*;

/// The peer's initial sequence number in these tests.
pub const ISN: u32 = 100_000;

#[derive(Clone, Debug, PartialEq)]
pub struct Seg {
    pub sport: u16,
    pub dport: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: Flags,
    pub window: u16,
    pub options: TcpOptions,
    pub data: Vec<u8>,
}

/// What Linux offers in a SYN.
pub fn full(ts: u32) -> TcpOptions {
    TcpOptions { mss: Some(1460), wscale: Some(7), sack_ok: true, ts: Some((ts, 0)), ..TcpOptions::default() }
}

/// From port `sport` of the peer to port 80.
pub fn seg(sport: u16, flags: Flags, seq: u32, ack: u32) -> Seg {
    let options = TcpOptions::default();
    Seg { sport, dport: 80, seq, ack, flags, window: 64240, options, data: vec![] }
}

pub fn syn(sport: u16) -> Seg {
    seg(sport, Flags::SYN, ISN, 0)
}

impl Seg {
    pub fn with(mut self, options: TcpOptions) -> Seg {
        self.options = options;
        self
    }

    pub fn data(mut self, data: &[u8]) -> Seg {
        self.data = data.to_vec();
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let mut b = vec![0; header_len + self.data.len()];
        let mut h = TcpHeader {
            src_port: self.sport,
            dst_port: self.dport,
            seq: self.seq,
            ack: self.ack,
            header_len,
            flags: self.flags,
            window: self.window,
            csum: 0,
            urg_ptr: 0,
        };
        h.emit(&mut b);
        self.options.emit(&mut b[20..]);
        b[header_len..].copy_from_slice(&self.data);
        h.csum = checksum::fold(checksum::sum(&b, checksum::pseudo_v4(PEER, HOST, 6, b.len())));
        h.emit(&mut b);
        b
    }
}

impl Host {
    /// Delivers a segment and returns the answers.
    pub fn tcp(&mut self, s: Seg) -> Vec<Seg> {
        self.rx(ip(from_peer(IPPROTO_TCP), &s.bytes()));
        self.answers()
    }

    /// The same in a packet with these bits in its IP header.
    pub fn tcp_tos(&mut self, tos: u8, s: Seg) -> Vec<Seg> {
        let header = belljar_wire::ipv4::Ipv4Header { tos, ..from_peer(IPPROTO_TCP) };
        self.rx(ip(header, &s.bytes()));
        self.answers()
    }

    /// TCP segments that left eth0 since the last time.
    pub fn answers(&mut self) -> Vec<Seg> {
        let mut out = vec![];
        let mut frames = self.sent();
        while !frames.is_empty() {
            let f = frames.remove(0);
            if EthHeader::parse(&f.to_vec()).unwrap().ethertype == ETH_P_ARP {
                self.rx(arp(ARPOP_REPLY, PEER_MAC, PEER, HOST_MAC, HOST, HOST_MAC));
                frames.extend(self.sent());
                continue;
            }
            let (_, ip, b) = parse(&f);
            assert_eq!(ip.proto, IPPROTO_TCP);
            let h = TcpHeader::parse(&b).unwrap();
            self.last_tos = ip.tos;
            out.push(Seg {
                sport: h.src_port,
                dport: h.dst_port,
                seq: h.seq,
                ack: h.ack,
                flags: h.flags,
                window: h.window,
                options: TcpOptions::parse(h.options(&b)),
                data: b[h.header_len..].to_vec(),
            });
        }
        out
    }

    pub fn listener(&mut self, backlog: i32) -> Fd {
        let fd = self.socket(SOCK_STREAM | SOCK_NONBLOCK);
        self.bind(fd, HOST, 80).unwrap();
        self.call(Call::Listen { fd, backlog }).unwrap();
        fd
    }

    pub fn accept(&mut self, fd: Fd) -> Result<Fd, Errno> {
        match self.call(Call::Accept { fd, flags: SOCK_NONBLOCK })? {
            Ret::Accepted { fd, .. } => Ok(fd),
            r => panic!("{r:?}"),
        }
    }

    pub fn read(&mut self, fd: Fd) -> Result<Vec<u8>, Errno> {
        match self.call(Call::Recv { fd, len: 65_536, flags: 0 })? {
            Ret::Stream(s) => Ok(s.to_vec()),
            r => panic!("{r:?}"),
        }
    }

    pub fn close(&mut self, fd: Fd) -> Vec<Seg> {
        self.call(Call::Close { fd }).unwrap();
        self.answers()
    }

    /// SYN, SYN-ACK, ACK from `sport`; returns our number after the handshake.
    pub fn handshake(&mut self, sport: u16, options: TcpOptions) -> u32 {
        let a = self.tcp(syn(sport).with(options));
        assert_eq!(a.len(), 1, "{a:?}");
        let next = a[0].seq.wrapping_add(1);
        let ts = options.ts.map(|(v, _)| (v + 1, a[0].options.ts.unwrap().0));
        let ack = seg(sport, Flags::ACK, ISN + 1, next).with(TcpOptions { ts, ..TcpOptions::default() });
        assert_eq!(self.tcp(ack), []);
        next
    }

    /// Half-open requests and the accept queue of a listener.
    pub fn queues(&mut self) -> (u32, usize) {
        let (_, sk) = self.k.socks.tcp.iter().find(|(_, s)| s.listener.is_some()).unwrap();
        let l = sk.listener.as_ref().unwrap();
        (l.qlen, l.accept.len())
    }
}
