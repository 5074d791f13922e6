//! bind, and which taps a socket hangs on while its device comes and goes.
use super::{Hook, Target, fanout, wake};
use crate::ids::*;
use crate::kernel::Kernel;
use belljar_abi::poll::EPOLLERR;
use belljar_abi::{AF_PACKET, ETH_P_ALL, Errno, LinkAddr};

/// What happened to a device that sockets may be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetdevEvent {
    Up,
    Down,
    Unregister,
}

/// A protocol of 0 keeps the one that there is.
#[doc(alias = "packet_bind")]
pub fn bind(k: &mut Kernel, id: PacketId, bytes: &[u8]) -> Result<(), Errno> {
    let s = k.socks.packet.get(id).ok_or(Errno::EBADF)?;
    let family = bytes.first_chunk().map_or(0, |b| i32::from(u16::from_ne_bytes(*b)));
    let a = LinkAddr::parse(bytes)?;
    if family != AF_PACKET || s.fanout.is_some() {
        return Err(Errno::EINVAL);
    }
    let proto = if a.protocol == 0 { s.proto } else { a.protocol };
    let dev = match a.ifindex {
        0 => None,
        n => Some(u32::try_from(n).ok().and_then(|n| k.net.dev_by_index(s.sk.ns, n)).ok_or(Errno::ENODEV)?),
    };
    let same = s.proto == proto && s.dev == dev && s.ifindex == a.ifindex;
    if !same {
        unhook(k, id);
        let s = k.socks.packet.get_mut(id).ok_or(Errno::EBADF)?;
        (s.proto, s.dev, s.ifindex) = (proto, dev, a.ifindex);
    }
    if proto == 0 || (same && k.socks.packet.get(id).is_some_and(|s| s.running)) {
        return Ok(());
    }
    if dev.is_none_or(|d| k.net.devs.get(d).is_some_and(|d| d.up)) {
        hook(k, id);
    } else {
        fail(k, id);
    }
    Ok(())
}

/// ENETDOWN, for whoever asks next.
fn fail(k: &mut Kernel, id: PacketId) {
    if let Some(s) = k.socks.packet.get_mut(id) {
        s.sk.err = Errno::ENETDOWN.0;
        wake(k, id, EPOLLERR);
    }
}

/// From now on it gets packets; in a group, as one of its members.
#[doc(alias = "register_prot_hook")]
pub(super) fn hook(k: &mut Kernel, id: PacketId) {
    let Some(s) = k.socks.packet.get_mut(id).filter(|s| !s.running && s.proto != 0) else { return };
    s.running = true;
    if let Some(group) = s.fanout {
        return fanout::link(k, id, group);
    }
    let hook = Hook { proto: s.proto, dev: s.dev, ignore_outgoing: s.flags.ignore_outgoing, to: Target::Sock(id) };
    let ns = s.sk.ns;
    add(k, ns, hook);
}

pub(super) fn add(k: &mut Kernel, ns: NsId, hook: Hook) {
    if let Some(n) = k.net.ns.get_mut(ns) {
        let list = if hook.proto == ETH_P_ALL { &mut n.packet.all } else { &mut n.packet.base };
        list.push(hook);
    }
}

pub(super) fn remove(k: &mut Kernel, ns: NsId, to: Target) {
    if let Some(n) = k.net.ns.get_mut(ns) {
        n.packet.all.retain(|h| h.to != to);
        n.packet.base.retain(|h| h.to != to);
    }
}

#[doc(alias = "unregister_prot_hook")]
pub(super) fn unhook(k: &mut Kernel, id: PacketId) {
    let Some(s) = k.socks.packet.get_mut(id).filter(|s| s.running) else { return };
    s.running = false;
    match s.fanout {
        Some(group) => fanout::unlink(k, id, group),
        None => {
            let ns = s.sk.ns;
            remove(k, ns, Target::Sock(id));
        }
    }
}

/// Sockets of the device follow it.
#[doc(alias = "packet_notifier")]
pub(crate) fn notifier(k: &mut Kernel, ns: NsId, ifindex: u32, event: NetdevEvent) {
    let bound = |s: &super::PacketSock| s.sk.ns == ns && u32::try_from(s.ifindex) == Ok(ifindex);
    let ids: Vec<PacketId> = k.socks.packet.iter().filter(|(_, s)| s.sk.ns == ns).map(|(id, _)| id).collect();
    for id in ids {
        if event == NetdevEvent::Unregister
            && let Some(s) = k.socks.packet.get_mut(id)
        {
            s.members.retain(|m| m.ifindex != ifindex);
        }
        if !k.socks.packet.get(id).is_some_and(bound) {
            continue;
        }
        match event {
            NetdevEvent::Up => hook(k, id),
            NetdevEvent::Down | NetdevEvent::Unregister => {
                if k.socks.packet.get(id).is_some_and(|s| s.running) {
                    unhook(k, id);
                    fail(k, id);
                }
                if event == NetdevEvent::Unregister
                    && let Some(s) = k.socks.packet.get_mut(id)
                {
                    (s.ifindex, s.dev) = (-1, None);
                }
            }
        }
    }
}
