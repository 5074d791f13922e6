//! Cutting packets that do not fit the path.
use crate::ids::NsId;
use crate::net::Net;
use crate::net::core::dev_tx;
use crate::net::core::skb::Skb;
use crate::net::drop::DropReason;
use crate::net::ipv4::icmp;
use crate::net::ipv4::output::ip_finish_output2;
use crate::net::ipv4::route::Dst;
use crate::net::mib::Mib;
use belljar_abi::Errno;
use belljar_wire::icmp::{ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED};
use belljar_wire::ipv4::Ipv4Header;
use belljar_wire::{Csum, Gso, Seg, Segs, gso};
use core::net::Ipv4Addr;

/// Cuts `skb` into fragments that fit, or says why not: with DF the sender hears of the MTU (locally by EMSGSIZE, on a
/// router by ICMP). A super-segment that does not fit is first cut into the segments it stands for.
#[inline(never)]
pub fn ip_fragment(net: &mut Net, ns: NsId, dst: &Dst, daddr: Ipv4Addr, skb: Skb) -> Result<(), Errno> {
    if skb.gso.is_some() {
        return segments(net, ns, dst, daddr, skb);
    }
    let Ok(ip) = Ipv4Header::parse(skb.head.bytes()) else {
        net.kfree_skb(skb, DropReason::IpInHdr, "ip_fragment");
        return Err(Errno::EINVAL);
    };
    if ip.df {
        net.inc(ns, Mib::IpFragFails);
        icmp::icmp_send(net, &skb, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, dst.mtu);
        net.kfree_skb(skb, DropReason::PktTooBig, "ip_fragment");
        return Err(Errno::EMSGSIZE);
    }
    // What was put together here leaves as it came.
    let mtu = if skb.frag_max == 0 { dst.mtu } else { dst.mtu.min(skb.frag_max.into()) };
    ip_do_fragment(net, ns, mtu, skb, |net, f| ip_finish_output2(net, ns, dst, daddr, f))
}

/// The cutting itself; each piece is given to `output`.
pub(crate) fn ip_do_fragment(
    net: &mut Net,
    ns: NsId,
    mtu: u32,
    mut skb: Skb,
    mut output: impl FnMut(&mut Net, Skb) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let Ok(ip) = Ipv4Header::parse(skb.head.bytes()) else {
        net.kfree_skb(skb, DropReason::IpInHdr, "ip_fragment");
        return Err(Errno::EINVAL);
    };
    dev_tx::skb_checksum_help(&mut skb);
    // RFC 791 §3.2: all fragments but the last carry a multiple of 8 bytes.
    let piece = (mtu as usize).saturating_sub(ip.ihl_bytes) & !7;
    if piece == 0 {
        net.inc(ns, Mib::IpFragFails);
        net.kfree_skb(skb, DropReason::PktTooBig, "ip_fragment");
        return Err(Errno::EMSGSIZE);
    }
    let mut payload = Segs::from(Seg::from(skb.head.bytes().get(ip.ihl_bytes..).unwrap_or(&[])));
    payload.append(std::mem::take(&mut skb.frags));
    payload.truncate(ip.payload_len());
    let mut at = 0;
    let mut sent = Ok(());
    while !payload.is_empty() && sent.is_ok() {
        let data = payload.split_to(piece);
        let len = data.len();
        let mut f = net.alloc_skb();
        let Some(room) = f.head.push(ip.ihl_bytes) else { break };
        room.copy_from_slice(&skb.head.bytes()[..ip.ihl_bytes]);
        if at != 0 {
            copy_options_only(room);
        }
        let header = Ipv4Header {
            total_len: (ip.ihl_bytes + len) as u16,
            mf: ip.mf || !payload.is_empty(),
            frag_off: ip.frag_off + at as u16,
            ..ip
        };
        header.emit(room);
        f.copy_metadata(&skb);
        f.network_header = f.head.start();
        f.transport_header = f.network_header + ip.ihl_bytes as u8;
        f.frags = data;
        f.set_truesize();
        // The first fragment is the one that is heard of.
        f.tx = skb.tx.take();
        at += len;
        net.inc(ns, Mib::IpFragCreates);
        sent = output(net, f);
    }
    net.inc(ns, if sent.is_ok() { Mib::IpFragOKs } else { Mib::IpFragFails });
    net.consume_skb(skb);
    sent
}

/// Options without the copied flag stay in the first fragment only: NOPs take their place (RFC 791 §3.1).
#[doc(alias = "ip_options_fragment")]
fn copy_options_only(header: &mut [u8]) {
    let mut at = 20;
    while let Some(&kind) = header.get(at) {
        let len = match kind {
            0 => return,
            1 => 1,
            _ => header.get(at + 1).map_or(0, |l| *l as usize),
        };
        if len == 0 || at + len > header.len() {
            return;
        }
        if kind & 0x80 == 0 {
            header[at..at + len].fill(1);
        }
        at += len;
    }
}

fn segments(net: &mut Net, ns: NsId, dst: &Dst, daddr: Ipv4Addr, skb: Skb) -> Result<(), Errno> {
    let mut sent = Ok(());
    for frame in gso::segment(skb.to_frame()) {
        let mut s = net.alloc_skb();
        (s.head, s.frags, s.id, s.csum) = (frame.head, frame.payload, frame.id, Csum::Unnecessary);
        s.gso = None::<Gso>;
        (s.ns, s.dev, s.pkt_type, s.protocol) = (skb.ns, skb.dev, skb.pkt_type, skb.protocol);
        (s.priority, s.mark, s.dst) = (skb.priority, skb.mark, skb.dst);
        s.network_header = s.head.start();
        s.transport_header = s.network_header + (skb.transport_header - skb.network_header);
        s.set_truesize();
        sent = if s.len() > dst.mtu as usize {
            ip_fragment(net, ns, dst, daddr, s)
        } else {
            ip_finish_output2(net, ns, dst, daddr, s)
        };
    }
    net.consume_skb(skb);
    sent
}
