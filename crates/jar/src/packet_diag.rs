//! NETLINK_SOCK_DIAG for AF_PACKET: what `ss -0` of the distribution asks.
use belljar_abi::netlink::{self as nl, Msg, NlMsgHdr};
use belljar_abi::sock_diag::*;
use belljar_abi::{self as abi, Errno};
use belljar_kernel::ids::NsId;
use belljar_kernel::kernel::Kernel;
use belljar_kernel::net::packet::{PacketSock, ring};

/// `struct packet_diag_req`.
const REQ_LEN: usize = 20;

/// Whether the request is about packet sockets.
pub fn is_asked(hdr: NlMsgHdr, body: &[u8]) -> bool {
    hdr.kind == SOCK_DIAG_BY_FAMILY && body.first().is_some_and(|f| i32::from(*f) == abi::AF_PACKET)
}

fn words(w: &[u32]) -> Vec<u8> {
    w.iter().flat_map(|v| v.to_ne_bytes()).collect()
}

/// Answers it; only dumps exist.
#[doc(alias = "packet_diag_dump")]
pub fn request(k: &Kernel, ns: NsId, hdr: NlMsgHdr, body: &[u8], port: u32, push: &mut dyn FnMut(Vec<u8>)) {
    let mut out = Vec::new();
    let dump = hdr.flags & nl::NLM_F_DUMP == nl::NLM_F_DUMP;
    let protocol = body.get(1).copied().unwrap_or(0);
    let error = match body.len() {
        n if n < REQ_LEN || protocol != 0 => Some(Errno::EINVAL),
        _ if !dump => Some(Errno::EOPNOTSUPP),
        _ => None,
    };
    if let Some(e) = error {
        nl::error(&mut out, hdr, body, Err(e), port);
        return push(out);
    }
    let show = nl::u32_at(body, 8).unwrap_or(0);
    for (id, s) in k.socks.packet.iter().filter(|(_, s)| s.sk.ns == ns) {
        one(&mut out, k, s, (id.to_bits(), show), hdr.seq, port);
        if out.len() > crate::netlink::DATAGRAM {
            push(std::mem::take(&mut out));
        }
    }
    if !out.is_empty() {
        push(std::mem::take(&mut out));
    }
    nl::done(&mut out, hdr.seq, port);
    push(out);
}

fn one(out: &mut Vec<u8>, k: &Kernel, s: &PacketSock, (cookie, show): (u64, u32), seq: u32, port: u32) {
    let kind = if s.cooked { abi::SOCK_DGRAM } else { abi::SOCK_RAW };
    let mut head = vec![abi::AF_PACKET as u8, kind as u8];
    head.extend(s.proto.to_ne_bytes());
    head.extend(words(&[s.sk.inode, cookie as u32, (cookie >> 32) as u32]));
    let mut m = Msg::new(out, SOCK_DIAG_BY_FAMILY, nl::NLM_F_MULTI, seq, port);
    m.body(&head);
    if show & PACKET_SHOW_INFO != 0 {
        let bits = [s.running, s.flags.auxdata, s.flags.origdev, s.vnet_hdr != 0, s.flags.loss];
        let flags = bits.iter().enumerate().fold(0, |all, (n, on)| all | u32::from(*on) << n);
        let (version, threshold) = (s.version as u32, s.copy_thresh as u32);
        m.attr(PACKET_DIAG_INFO, &words(&[s.ifindex as u32, version, s.reserve, threshold, s.timestamp as u32, flags]));
        m.attr_u32(PACKET_DIAG_UID, s.sk.uid);
    }
    if let Some(g) = s.ring.filter(|_| show & PACKET_SHOW_RING_CFG != 0) {
        m.attr(PACKET_DIAG_RX_RING, &words(&ring_config(&g)));
    }
    if let Some(r) = s.tx_ring.as_ref().filter(|_| show & PACKET_SHOW_RING_CFG != 0) {
        m.attr(PACKET_DIAG_TX_RING, &words(&ring_config(&r.geometry)));
    }
    let group = k.net.ns.get(s.sk.ns).and_then(|n| n.packet.fanouts.iter().find(|f| Some(f.id) == s.fanout));
    if let Some(f) = group.filter(|_| show & PACKET_SHOW_FANOUT != 0) {
        m.attr_u32(PACKET_DIAG_FANOUT, u32::from(f.id) | u32::from(f.kind) << 16);
    }
    if show & PACKET_SHOW_MEMINFO != 0 {
        let c = s.sk.cold.as_ref().map_or(0, |c| c.omem);
        let sk = &s.sk;
        let mem = [sk.rmem_alloc, sk.rcvbuf, sk.wmem_alloc, sk.sndbuf, 0, sk.wmem_queued, c, 0, sk.drops];
        m.attr(PACKET_DIAG_MEMINFO, &words(&mem));
    }
}

/// `struct packet_diag_ring`.
fn ring_config(g: &ring::Geometry) -> [u32; 7] {
    let (retire_ms, private) = g.block_options();
    [g.block_size, g.block_nr, g.frame_size, g.frame_nr, retire_ms, private, 0]
}
