//! `/proc/net/packet` and `ptype`: the packet sockets of a namespace, and who takes which packets.
use crate::ids::*;
use crate::kernel::Kernel;
use std::fmt::Write;

/// Where the object lies in memory is hidden from ordinary readers on Linux, and meaningless here.
pub(super) fn packet(k: &Kernel, ns: NsId) -> String {
    let mut out = String::from("sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n");
    for (_, s) in k.socks.packet.iter().filter(|(_, s)| s.sk.ns == ns) {
        let (refs, kind) = (if s.running { 3 } else { 2 }, if s.cooked { 2 } else { 3 });
        let running = u8::from(s.running);
        let _ = writeln!(
            out,
            "{:016} {refs:<6} {kind:<4} {:04x}   {:<5} {running} {:<6} {:<6} {:<6}",
            0, s.proto, s.ifindex, s.sk.rmem_alloc, s.sk.uid, s.sk.inode
        );
    }
    out
}

/// Who takes every packet first, then by protocol; a socket is named by its function there.
pub(super) fn ptype(k: &Kernel, ns: NsId) -> String {
    const ETH_P_ALL: u16 = 3;
    let mut out = String::from("Type Device      Function\n");
    let running = |all: bool| {
        let mine = move |s: &&crate::net::packet::PacketSock| s.sk.ns == ns && s.running;
        k.socks.packet.iter().map(|s| s.1).filter(mine).filter(move |s| (s.proto == ETH_P_ALL) == all)
    };
    for s in running(true).chain(running(false)) {
        let kind = if s.proto == ETH_P_ALL { "ALL ".to_owned() } else { format!("{:04x}", s.proto) };
        let dev = s.dev.and_then(|d| k.net.devs.get(d)).map_or("", |d| &d.name);
        let _ = writeln!(out, "{kind} {dev:<8} {}", if s.ring.is_some() { "tpacket_rcv" } else { "packet_rcv" });
    }
    for (kind, function) in [("0800", "ip_rcv"), ("0806", "arp_rcv"), ("86dd", "ipv6_rcv")] {
        let _ = writeln!(out, "{kind} {:<8} {function}", "");
    }
    out
}
