//! `/proc/net/packet`: the packet sockets of a namespace.
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
