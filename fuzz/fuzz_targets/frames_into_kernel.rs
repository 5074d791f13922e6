//! Frames from a hostile peer into a kernel with a listener, a connection and a UDP socket. The script repairs as much of
//! a frame as it likes, so that bytes get past the checks of each layer; sequence numbers can be given relative to what
//! the kernel sent.
#![no_main]
#[path = "../common/mod.rs"]
mod common;
use belljar_abi::{MSG_DONTWAIT, SHUT_WR, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_STREAM, SockAddr};
use belljar_kernel::task::call::{Call, Payload};
use belljar_wire::arp::ArpPacket;
use belljar_wire::ethernet::{ETH_P_ARP, ETH_P_IP, EthHeader, Mac};
use belljar_wire::icmp::IcmpHeader;
use belljar_wire::ipv4::{IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, Ipv4Header};
use belljar_wire::tcp::{TCP_HLEN, TcpHeader};
use belljar_wire::udp::UdpHeader;
use belljar_wire::{Csum, Frame, checksum, gso};
use common::*;
use libfuzzer_sys::fuzz_target;

/// What the kernel said last on a connection: its next sequence number, what it acknowledged, its port and ours.
#[derive(Clone, Copy, Default)]
struct Heard {
    seq: u32,
    ack: u32,
    port: u16,
    peer_port: u16,
}

fn listen(sent: &[Frame], heard: &mut Heard) {
    for f in sent {
        let b = f.to_vec();
        let Ok(ip) = b.get(14..).map_or(Err(belljar_wire::Malformed::Truncated), Ipv4Header::parse) else { continue };
        let Some(Ok(t)) = b.get(14 + ip.ihl_bytes..).filter(|_| ip.proto == IPPROTO_TCP).map(TcpHeader::parse) else {
            continue;
        };
        let len =
            ip.payload_len().saturating_sub(t.header_len) as u32 + (t.flags.0 & 1) as u32 + (t.flags.0 >> 1 & 1) as u32;
        *heard = Heard { seq: t.seq.wrapping_add(len), ack: t.ack, port: t.src_port, peer_port: t.dst_port };
    }
}

/// A frame from the script's bytes, repaired as `how` says.
fn frame(s: &mut Script<'_>, how: u8, heard: &Heard) -> Vec<u8> {
    let len = s.u8() as usize * if how & 0x80 != 0 { 6 } else { 1 };
    let mut b = vec![0; 14];
    b.extend_from_slice(s.bytes(len));
    if how & 1 == 0 {
        return b.split_off(14);
    }
    let kind = s.u8() % 5;
    let ethertype = if kind == 4 { ETH_P_ARP } else { ETH_P_IP };
    let dst = if kind == 4 { Mac::BROADCAST } else { HOST_MAC };
    EthHeader { dst, src: PEER_MAC, ethertype }.emit(&mut b);
    if kind == 4 {
        if let Ok(mut a) = ArpPacket::parse(&b[14..]) {
            a.tpa = HOST;
            a.emit(&mut b[14..]);
        }
        return b;
    }
    if how & 2 == 0 {
        return b;
    }
    let proto = [IPPROTO_TCP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP][kind as usize];
    b.resize(b.len().max(14 + 20 + 20), 0);
    let (frag, total_len) = (if how & 0x40 != 0 { s.u16() } else { 0 }, (b.len() - 14) as u16);
    let ip = Ipv4Header {
        total_len,
        proto,
        src: PEER,
        dst: HOST,
        id: s.u8() as u16,
        mf: frag & 0x2000 != 0,
        frag_off: (frag & 0x1ff) << 3,
        ..Default::default()
    };
    ip.emit(&mut b[14..]);
    let l4 = 34;
    match proto {
        IPPROTO_TCP => {
            b[l4 + 12] = b[l4 + 12].max(0x50);
            if let Ok(mut t) = TcpHeader::parse(&b[l4..]) {
                (t.src_port, t.dst_port) = match kind {
                    0 => (heard.peer_port, heard.port),
                    _ => (40_000 + (t.src_port & 3), 80),
                };
                if how & 4 != 0 {
                    t.seq = heard.ack.wrapping_add(t.seq as i8 as u32);
                    t.ack = heard.seq.wrapping_add(t.ack as i8 as u32);
                }
                if how & 8 != 0 {
                    t.flags.0 |= 0x10;
                }
                t.header_len = t.header_len.max(TCP_HLEN);
                t.emit(&mut b[l4..]);
            }
        }
        IPPROTO_UDP => {
            UdpHeader { src_port: 4000, dst_port: 53, len: total_len - 20, csum: 0 }.emit(&mut b[l4..]);
        }
        _ => {
            if let Ok(mut h) = IcmpHeader::parse(&b[l4..]) {
                h.csum = 0;
                h.emit(&mut b[l4..]);
                h.csum = checksum::fold(checksum::sum(&b[l4..], 0));
                h.emit(&mut b[l4..]);
            }
        }
    }
    if how & 0x10 == 0 {
        let mut f = Frame::from_bytes(&b, 0);
        f.csum = Csum::Partial;
        gso::finish_checksum(&mut f);
        b = f.to_vec();
    }
    b
}

fuzz_target!(|data: &[u8]| {
    let mut s = Script(data);
    let mut m = machine();
    let any = |port| SockAddr::V4(core::net::Ipv4Addr::UNSPECIFIED, port).emit();
    let listener = m.socket(SOCK_STREAM);
    m.must(Call::Bind { fd: listener, addr: &any(80) });
    m.must(Call::Listen { fd: listener, backlog: 2 });
    let udp = m.socket(SOCK_DGRAM);
    m.must(Call::Bind { fd: udp, addr: &any(53) });
    let client = m.socket(SOCK_STREAM);
    let _ = m.call(Call::Connect { fd: client, addr: &SockAddr::V4(PEER, 9000).emit() });
    let mut conn = client;
    let mut heard = Heard::default();
    for _ in 0..64 {
        if !s.more() {
            break;
        }
        listen(&std::mem::take(&mut m.sent), &mut heard);
        let how = s.u8();
        let b = frame(&mut s, how, &heard);
        m.rx(Frame::from_bytes(&b, 1));
        match s.u8() {
            0 => m.sleep(1 << (s.u8() % 40)),
            1 => {
                if let Some(Ok(belljar_kernel::task::call::Ret::Accepted { fd, .. })) =
                    m.call(Call::Accept { fd: listener, flags: SOCK_NONBLOCK })
                {
                    conn = fd;
                }
            }
            2 => drop(m.call(Call::Send {
                fd: conn,
                data: Payload::Bytes(&[7; 3000]),
                flags: MSG_DONTWAIT,
                to: None,
                cmsgs: &[],
            })),
            3 => drop(m.call(Call::Recv { fd: conn, len: 1 << (s.u8() % 18), flags: MSG_DONTWAIT })),
            4 => drop(m.call(Call::Recv { fd: udp, len: 2000, flags: MSG_DONTWAIT })),
            5 => drop(m.call(Call::Shutdown { fd: conn, how: SHUT_WR })),
            6 => drop(m.call(Call::Close { fd: conn })),
            _ => {}
        }
    }
    m.check();
    m.sleep(200_000_000_000);
    m.check();
});
