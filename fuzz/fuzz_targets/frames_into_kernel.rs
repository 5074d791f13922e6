//! Frames from a hostile peer into a kernel: a fresh one with a listener, a connection and a UDP socket (the first byte is
//! 0), or one that a conformance script has brought somewhere, up to any of its lines (two bytes choose the script, the next
//! one the line). The input repairs as much of a frame as it likes, so that bytes get past the checks of each layer; sequence
//! numbers, acknowledgements, SACK blocks and time stamps can be such as fit what the kernel sent.
#![no_main]
#[path = "../common/mod.rs"]
mod common;
use belljar_abi::{MSG_DONTWAIT, SHUT_WR, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_STREAM, SockAddr};
use belljar_kernel::task::call::{Call, Payload};
use belljar_wire::arp::ArpPacket;
use belljar_wire::ethernet::{ETH_P_ARP, ETH_P_IP, EthHeader, Mac};
use belljar_wire::icmp::IcmpHeader;
use belljar_wire::ipv4::{IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, Ipv4Header};
use belljar_wire::tcp::{Flags, TCP_HLEN, TcpHeader, TcpOptions};
use belljar_wire::udp::UdpHeader;
use belljar_wire::{Csum, Frame, checksum, gso};
use common::*;
use libfuzzer_sys::fuzz_target;

/// What the kernel said last on a connection: its next sequence number, what it acknowledged, its port and ours.
#[derive(Clone, Default)]
struct Heard {
    seq: u32,
    ack: u32,
    port: u16,
    peer_port: u16,
    /// Its time stamp and what it echoed.
    ts: Option<(u32, u32)>,
    /// Where its segments began and ended.
    marks: Vec<u32>,
    /// Where somebody may listen.
    listen: u16,
}

impl Heard {
    fn mark(&self, s: &mut Script<'_>) -> u32 {
        let n = s.u8() as usize;
        self.marks.iter().rev().nth(n % self.marks.len().max(1)).copied().unwrap_or(self.seq)
    }
}

fn listen(sent: &[Frame], heard: &mut Heard) {
    for f in sent {
        let b = f.to_vec();
        let Ok(ip) = b.get(14..).map_or(Err(belljar_wire::Malformed::Truncated), Ipv4Header::parse) else { continue };
        let l4 = b.get(14 + ip.ihl_bytes..).filter(|_| ip.proto == IPPROTO_TCP);
        let Some((l4, t)) = l4.and_then(|l4| Some((l4, TcpHeader::parse(l4).ok()?))) else { continue };
        let len =
            ip.payload_len().saturating_sub(t.header_len) as u32 + (t.flags.0 & 1) as u32 + (t.flags.0 >> 1 & 1) as u32;
        let end = t.seq.wrapping_add(len);
        (heard.seq, heard.ack, heard.port, heard.peer_port) = (end, t.ack, t.src_port, t.dst_port);
        heard.ts = TcpOptions::parse(t.options(l4)).ts;
        heard.marks.extend([t.seq, end]);
        let old = heard.marks.len().saturating_sub(64);
        heard.marks.drain(..old);
    }
}

/// A segment that fits what the kernel said, in what the input does not make otherwise.
fn segment(s: &mut Script<'_>, ends: &Ends, heard: &Heard) -> Vec<u8> {
    let how = s.u8();
    let seq = heard.ack.wrapping_add(if how & 1 != 0 { s.u16() as i16 as u32 } else { 0 });
    let ack = if how & 2 != 0 { heard.mark(s) } else { heard.seq };
    let flags = Flags(if how & 4 != 0 { s.u8() as u16 | Flags::ACK.0 } else { Flags::ACK.0 });
    let window = if how & 8 != 0 { s.u16() } else { 1000 };
    let mut o = TcpOptions::default();
    if how & 0x10 != 0 {
        o.ts = heard.ts.map(|(val, ecr)| (ecr.wrapping_add(s.u8() as u32), val.wrapping_sub(s.u8() as u32)));
    }
    if how & 0x20 != 0 {
        o.n_sack = s.u8() % 5;
        (0..o.n_sack as usize).for_each(|i| o.sack[i] = (heard.mark(s), heard.mark(s)));
    }
    let len = if how & 0x40 != 0 { s.u8() as usize * 5 } else { 0 };
    let urg_ptr = if flags.intersects(Flags::URG) { s.u8() as u16 } else { 0 };
    let header_len = TCP_HLEN + o.len();
    let (src_port, dst_port) =
        if how & 0x80 != 0 { (40_000 + (s.u8() & 3) as u16, heard.listen) } else { (heard.peer_port, heard.port) };
    let mut b = vec![0; 14 + 20 + header_len + len];
    EthHeader { dst: ends.host_mac, src: ends.peer_mac, ethertype: ETH_P_IP }.emit(&mut b);
    let total_len = (b.len() - 14) as u16;
    Ipv4Header { total_len, proto: IPPROTO_TCP, src: ends.peer, dst: ends.host, ..Default::default() }
        .emit(&mut b[14..]);
    TcpHeader { src_port, dst_port, seq, ack, header_len, flags, window, csum: 0, urg_ptr }.emit(&mut b[34..]);
    o.emit(&mut b[34 + TCP_HLEN..]);
    finished(&b)
}

fn finished(b: &[u8]) -> Vec<u8> {
    let mut f = Frame::from_bytes(b, 0);
    f.csum = Csum::Partial;
    gso::finish_checksum(&mut f);
    f.to_vec()
}

/// A frame from the script's bytes, repaired as `how` says.
fn frame(s: &mut Script<'_>, how: u8, ends: &Ends, heard: &Heard) -> Vec<u8> {
    if how & 0x20 != 0 {
        return segment(s, ends, heard);
    }
    let len = s.u8() as usize * if how & 0x80 != 0 { 6 } else { 1 };
    let mut b = vec![0; 14];
    b.extend_from_slice(s.bytes(len));
    if how & 1 == 0 {
        return b.split_off(14);
    }
    let kind = s.u8() % 5;
    let ethertype = if kind == 4 { ETH_P_ARP } else { ETH_P_IP };
    let dst = if kind == 4 { Mac::BROADCAST } else { ends.host_mac };
    EthHeader { dst, src: ends.peer_mac, ethertype }.emit(&mut b);
    if kind == 4 {
        if let Ok(mut a) = ArpPacket::parse(&b[14..]) {
            a.tpa = ends.host;
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
        src: ends.peer,
        dst: ends.host,
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
                    _ => (40_000 + (t.src_port & 3), heard.listen),
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
        b = finished(&b);
    }
    b
}

/// The conformance scripts, by name.
fn scripts() -> Vec<belljar_script::Script> {
    let mut files = Vec::new();
    for topic in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../conformance")).expect("the scripts") {
        let Ok(topic) = std::fs::read_dir(topic.expect("a topic").path()) else { continue };
        files.extend(topic.map(|f| f.expect("a file").path()));
    }
    files.sort();
    let text = |f: &std::path::PathBuf| std::fs::read_to_string(f).expect("text");
    files.iter().filter_map(|f| belljar_script::parse(&f.to_string_lossy(), &text(f)).ok()).collect()
}

thread_local! {
    static SCRIPTS: Vec<belljar_script::Script> = scripts();
}

/// A machine, its descriptors (the last is the one to accept on) and where it listens.
fn start(s: &mut Script<'_>) -> Option<(Machine, Vec<u32>, u16)> {
    if s.u8() == 0 {
        let mut m = machine();
        let any = |port| SockAddr::V4(core::net::Ipv4Addr::UNSPECIFIED, port).emit();
        let listener = m.socket(SOCK_STREAM);
        m.must(Call::Bind { fd: listener, addr: &any(80) });
        m.must(Call::Listen { fd: listener, backlog: 2 });
        let udp = m.socket(SOCK_DGRAM);
        m.must(Call::Bind { fd: udp, addr: &any(53) });
        let client = m.socket(SOCK_STREAM);
        let _ = m.call(Call::Connect { fd: client, addr: &SockAddr::V4(PEER, 9000).emit() });
        return Some((m, vec![client, udp, listener], 80));
    }
    let (n, line) = (s.u16() as usize, s.u8() as usize);
    let reached = SCRIPTS.with(|all| {
        let script = all.get(n % all.len())?;
        if std::env::var_os("BELLJAR_FUZZ_TRACE").is_some() {
            eprintln!("{}, {} lines", script.name, line % (script.lines() + 1));
        }
        belljar_script::reach(script, line % (script.lines() + 1))
    })?;
    let (mut fds, port) = (reached.fds.clone(), reached.bind_port);
    // The script's first socket is the listener, when there is one.
    fds.reverse();
    Some((machine_from(reached), fds, port))
}

fuzz_target!(|data: &[u8]| {
    let mut s = Script(data);
    let Some((mut m, mut fds, port)) = start(&mut s) else { return };
    let mut heard = Heard { listen: port, ..Heard::default() };
    for _ in 0..64 {
        if !s.more() {
            break;
        }
        listen(&std::mem::take(&mut m.sent), &mut heard);
        let how = s.u8();
        let b = frame(&mut s, how, &m.ends, &heard);
        m.rx(Frame::from_bytes(&b, 1));
        let what = s.u8();
        // Usually the connection.
        let fd = fds.get(what as usize >> 4).or(fds.first()).copied().unwrap_or(0);
        match what & 15 {
            0 => m.sleep(1 << (s.u8() % 40)),
            1 => {
                let Some(&listener) = fds.last() else { continue };
                if let Some(Ok(belljar_kernel::task::call::Ret::Accepted { fd, .. })) =
                    m.call(Call::Accept { fd: listener, flags: SOCK_NONBLOCK })
                {
                    fds.insert(0, fd);
                }
            }
            n @ (2 | 7) => {
                let data = Payload::Bytes(&[7; 3000][..if n == 2 { 3000 } else { 20 }]);
                drop(m.call(Call::Send { fd, data, flags: MSG_DONTWAIT, to: None, cmsgs: &[] }));
            }
            3 => drop(m.call(Call::Recv { fd, len: 1 << (s.u8() % 18), flags: MSG_DONTWAIT })),
            4 => {
                let fd = fds.get(1).copied().unwrap_or(0);
                drop(m.call(Call::Recv { fd, len: 2000, flags: MSG_DONTWAIT }));
            }
            5 => drop(m.call(Call::Shutdown { fd, how: SHUT_WR })),
            6 => drop(m.call(Call::Close { fd })),
            _ => {}
        }
    }
    m.check();
    m.sleep(200_000_000_000);
    m.check();
});
