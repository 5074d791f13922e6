//! Memberships: addresses and modes that a socket wants of a device as long as it lives.
use super::link_of;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use belljar_abi::*;

/// Entries of one socket; more are ENOBUFS, as where memory for options ends.
const MAX: usize = 1024;

/// `struct packet_mreq`, and how often it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub ifindex: u32,
    kind: u16,
    alen: u16,
    addr: [u8; 8],
    count: u32,
}

/// EINVAL for one that is shorter than itself or than the address in it.
fn parse(value: &[u8]) -> Result<Member, Errno> {
    let Some(&[i0, i1, i2, i3, k0, k1, l0, l1, addr @ ..]) = value.first_chunk::<16>() else {
        return Err(Errno::EINVAL);
    };
    let alen = u16::from_ne_bytes([l0, l1]);
    if value.len() < 8 + usize::from(alen) {
        return Err(Errno::EINVAL);
    }
    let ifindex = u32::from_ne_bytes([i0, i1, i2, i3]);
    Ok(Member { ifindex, kind: u16::from_ne_bytes([k0, k1]), alen, addr, count: 1 })
}

/// Tells the device. Hardware here takes every unicast frame, so that addresses of its own change nothing.
#[doc(alias = "packet_dev_mc")]
fn apply(net: &mut Net, dev: DevId, m: &Member, more: bool) -> Result<(), Errno> {
    let d = net.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
    let step = |n: u32| if more { n.saturating_add(1) } else { n.saturating_sub(1) };
    let whole = usize::from(m.alen) == if link_of(d).0 > 0 { 6 } else { 0 };
    match m.kind {
        PACKET_MR_MULTICAST | PACKET_MR_UNICAST if !whole => return Err(Errno::EINVAL),
        PACKET_MR_MULTICAST => {
            let mac = m.addr.first_chunk().copied().unwrap_or_default();
            if more {
                d.packet_groups.push(mac);
            } else if let Some(at) = d.packet_groups.iter().position(|g| *g == mac) {
                d.packet_groups.swap_remove(at);
            }
        }
        PACKET_MR_PROMISC => d.promiscuity = step(d.promiscuity),
        PACKET_MR_ALLMULTI => d.allmulti = step(d.allmulti),
        _ => {}
    }
    Ok(())
}

#[doc(alias = "packet_mc_add")]
pub(super) fn join(k: &mut Kernel, id: PacketId, value: &[u8]) -> Result<(), Errno> {
    let m = parse(value)?;
    let ns = k.socks.packet.get(id).ok_or(Errno::EBADF)?.sk.ns;
    let dev = k.net.dev_by_index(ns, m.ifindex).ok_or(Errno::ENODEV)?;
    let addr_len = k.net.devs.get(dev).map_or(0, |d| if link_of(d).0 > 0 { 6 } else { 0 });
    if m.alen > addr_len {
        return Err(Errno::EINVAL);
    }
    let s = k.socks.packet.get_mut(id).ok_or(Errno::EBADF)?;
    if let Some(old) = s.members.iter_mut().find(|o| is_same(o, &m)) {
        old.count = old.count.saturating_add(1);
        return Ok(());
    }
    if s.members.len() >= MAX {
        return Err(Errno::ENOBUFS);
    }
    s.members.push(m);
    let done = apply(&mut k.net, dev, &m, true);
    if done.is_err()
        && let Some(s) = k.socks.packet.get_mut(id)
    {
        s.members.pop();
    }
    done
}

fn is_same(a: &Member, b: &Member) -> bool {
    let n = usize::from(b.alen).min(8);
    (a.ifindex, a.kind, a.alen) == (b.ifindex, b.kind, b.alen) && a.addr[..n] == b.addr[..n]
}

/// To leave what was never joined is no error.
#[doc(alias = "packet_mc_drop")]
pub(super) fn leave(k: &mut Kernel, id: PacketId, value: &[u8]) -> Result<(), Errno> {
    let m = parse(value)?;
    let s = k.socks.packet.get_mut(id).ok_or(Errno::EBADF)?;
    let Some(at) = s.members.iter().position(|o| is_same(o, &m)) else { return Ok(()) };
    let ns = s.sk.ns;
    if let Some(old) = s.members.get_mut(at).filter(|o| o.count > 1) {
        old.count -= 1;
        return Ok(());
    }
    let gone = s.members.remove(at);
    if let Some(dev) = k.net.dev_by_index(ns, gone.ifindex) {
        let _ = apply(&mut k.net, dev, &gone, false);
    }
    Ok(())
}

/// All of them, when the socket goes.
#[doc(alias = "packet_flush_mclist")]
pub(super) fn flush(k: &mut Kernel, id: PacketId) {
    let Some(s) = k.socks.packet.get_mut(id) else { return };
    let (ns, members) = (s.sk.ns, std::mem::take(&mut s.members));
    for m in members {
        if let Some(dev) = k.net.dev_by_index(ns, m.ifindex) {
            let _ = apply(&mut k.net, dev, &m, false);
        }
    }
}
