//! Options of SOL_PACKET.
use super::tx_ring::TxRing;
use super::{PacketSock, bind, fanout, mclist, ring};
use crate::ids::*;
use crate::kernel::Kernel;
use belljar_abi::*;

fn int(value: &[u8]) -> Result<i32, Errno> {
    value.first_chunk().map(|b| i32::from_ne_bytes(*b)).ok_or(Errno::EINVAL)
}

/// Of PACKET_FANOUT_DATA `value` is what `struct sock_fprog` points at: the driver of the kernel has followed the pointer.
#[doc(alias = "packet_setsockopt")]
pub fn setsockopt(k: &mut Kernel, id: PacketId, name: i32, value: &[u8]) -> Result<(), Errno> {
    match name {
        PACKET_ADD_MEMBERSHIP => return mclist::join(k, id, value),
        PACKET_DROP_MEMBERSHIP => return mclist::leave(k, id, value),
        PACKET_FANOUT => return fanout::join(k, id, value),
        PACKET_FANOUT_DATA => return fanout::set_data(k, id, value),
        PACKET_RX_RING => return set_ring(k, id, value),
        PACKET_TX_RING => return set_tx_ring(k, id, value),
        _ => {}
    }
    let s = k.socks.packet.get_mut(id).ok_or(Errno::EBADF)?;
    let ringed = s.ring.is_some() || s.tx_ring.is_some();
    let idle = if ringed { Err(Errno::EBUSY) } else { Ok(()) };
    // Only what is there is looked at: an option that does not exist has no length.
    let val = || int(value);
    match name {
        PACKET_COPY_THRESH => s.copy_thresh = val()?,
        PACKET_AUXDATA => s.flags.auxdata = val()? != 0,
        PACKET_ORIGDEV => s.flags.origdev = val()? != 0,
        PACKET_VERSION => {
            let v = val()?;
            if !(TPACKET_V1..=TPACKET_V3).contains(&v) {
                return Err(Errno::EINVAL);
            }
            idle?;
            s.version = v;
        }
        PACKET_RESERVE => {
            let v = val()?;
            idle?;
            s.reserve = u32::try_from(v).map_err(|_| Errno::EINVAL)?;
        }
        PACKET_LOSS => {
            let on = val()? != 0;
            idle?;
            s.flags.loss = on;
        }
        PACKET_VNET_HDR | PACKET_VNET_HDR_SZ => set_vnet(s, name, val)?,
        PACKET_TIMESTAMP => s.timestamp = val()?,
        // Who has a ring keeps what there was.
        PACKET_TX_HAS_OFF => s.flags.tx_has_off = if ringed { s.flags.tx_has_off } else { val()? != 0 },
        PACKET_QDISC_BYPASS => s.flags.qdisc_bypass = val()? != 0,
        PACKET_IGNORE_OUTGOING => return ignore_outgoing(k, id, val()?),
        _ => return Err(Errno::ENOPROTOOPT),
    }
    Ok(())
}

fn set_vnet(s: &mut PacketSock, name: i32, val: impl Fn() -> Result<i32, Errno>) -> Result<(), Errno> {
    if s.cooked {
        return Err(Errno::EINVAL);
    }
    let size = match (name, val()?) {
        (PACKET_VNET_HDR, 0) | (_, 0) => 0,
        (PACKET_VNET_HDR, _) | (_, 10) => 10,
        (_, 12) => 12,
        _ => return Err(Errno::EINVAL),
    };
    if s.ring.is_some() || s.tx_ring.is_some() {
        return Err(Errno::EBUSY);
    }
    s.vnet_hdr = size;
    Ok(())
}

/// The tap itself knows it.
fn ignore_outgoing(k: &mut Kernel, id: PacketId, v: i32) -> Result<(), Errno> {
    if !(0..=1).contains(&v) {
        return Err(Errno::EINVAL);
    }
    let s = k.socks.packet.get_mut(id).ok_or(Errno::EBADF)?;
    s.flags.ignore_outgoing = v == 1;
    let alone = s.running && s.fanout.is_none();
    if alone {
        bind::unhook(k, id);
        bind::hook(k, id);
    }
    Ok(())
}

/// All zero takes the ring away, with what is on its way there.
#[doc(alias = "packet_set_ring")]
fn set_ring(k: &mut Kernel, id: PacketId, value: &[u8]) -> Result<(), Errno> {
    let s = k.socks.packet.get_mut(id).ok_or(Errno::EBADF)?;
    let wanted = ring::Geometry::parse(value, s.version, s.reserve)?;
    if wanted.is_some() && s.ring.is_some() {
        return Err(Errno::EBUSY);
    }
    s.ring = wanted;
    let held = std::mem::take(&mut s.queue);
    s.sk.rmem_alloc -= held.iter().map(|w| w.skb.truesize).sum::<u32>().min(s.sk.rmem_alloc);
    for w in held {
        k.net.kfree_skb(w.skb, crate::net::drop::DropReason::QueuePurge, "packet_set_ring");
    }
    Ok(())
}

/// Frames that devices still have keep the ring as it is; blocks that are handed over are for receiving only.
fn set_tx_ring(k: &mut Kernel, id: PacketId, value: &[u8]) -> Result<(), Errno> {
    let s = k.socks.packet.get_mut(id).ok_or(Errno::EBADF)?;
    let there = s.tx_ring.as_ref();
    if there.is_some_and(|r| !r.is_idle()) {
        return Err(Errno::EBUSY);
    }
    let wanted = ring::Geometry::parse(value, s.version, s.reserve)?;
    if wanted.is_some() && there.is_some() {
        return Err(Errno::EBUSY);
    }
    if wanted.is_some() && s.version == TPACKET_V3 && value.get(16..28).is_some_and(|b| b.iter().any(|b| *b != 0)) {
        return Err(Errno::EINVAL);
    }
    s.tx_ring = wanted.map(|g| Box::new(TxRing::new(g)));
    Ok(())
}

/// PACKET_HDRLEN reads the version from where its answer goes, so that its answer is the driver's of the kernel to give
/// ([`ring::header_len`]).
#[doc(alias = "packet_getsockopt")]
pub fn getsockopt(k: &mut Kernel, id: PacketId, name: i32) -> Result<Vec<u8>, Errno> {
    if name == PACKET_STATISTICS {
        return statistics(k, id);
    }
    let s = k.socks.packet.get(id).ok_or(Errno::EBADF)?;
    let val = match name {
        PACKET_COPY_THRESH => s.copy_thresh,
        PACKET_AUXDATA => s.flags.auxdata.into(),
        PACKET_ORIGDEV => s.flags.origdev.into(),
        PACKET_VERSION => s.version,
        PACKET_HDRLEN => return Err(Errno::EINVAL),
        PACKET_RESERVE => s.reserve as i32,
        PACKET_LOSS => s.flags.loss.into(),
        PACKET_VNET_HDR => (s.vnet_hdr != 0).into(),
        PACKET_VNET_HDR_SZ => s.vnet_hdr.into(),
        PACKET_TIMESTAMP => s.timestamp,
        PACKET_FANOUT => fanout::shown(k, s) as i32,
        PACKET_TX_HAS_OFF => s.flags.tx_has_off.into(),
        PACKET_QDISC_BYPASS => s.flags.qdisc_bypass.into(),
        PACKET_IGNORE_OUTGOING => s.flags.ignore_outgoing.into(),
        PACKET_ROLLOVER_STATS => {
            let rolls =
                |f: &&fanout::Fanout| f.kind == PACKET_FANOUT_ROLLOVER || f.flags & PACKET_FANOUT_FLAG_ROLLOVER != 0;
            let f = fanout::group_of(k, s).filter(rolls).ok_or(Errno::EINVAL)?;
            return Ok(f.rolled.iter().flat_map(|v| v.to_ne_bytes()).collect());
        }
        _ => return Err(Errno::ENOPROTOOPT),
    };
    Ok(val.to_ne_bytes().to_vec())
}

/// Packets, those dropped among them, and drops, since the last time; of a ring of blocks also how often it was full.
fn statistics(k: &mut Kernel, id: PacketId) -> Result<Vec<u8>, Errno> {
    let s = k.socks.packet.get_mut(id).ok_or(Errno::EBADF)?;
    let st = std::mem::take(&mut s.stats);
    let mut out: Vec<u8> = [st.packets.wrapping_add(st.drops), st.drops].iter().flat_map(|v| v.to_ne_bytes()).collect();
    if s.version == TPACKET_V3 {
        out.extend(0u32.to_ne_bytes());
    }
    Ok(out)
}
