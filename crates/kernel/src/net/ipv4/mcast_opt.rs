//! The options of multicast at level SOL_IP: their structures, and what they ask of `mcast.rs`.
use super::mcast::{self, Interface, Mode};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use belljar_abi::*;
use core::net::Ipv4Addr;

const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
/// `struct group_req` and its parts: an interface number, then socket addresses of 128 bytes each.
const STORAGE: usize = 128;
const GROUP_REQ: usize = 8 + STORAGE;
const GROUP_SOURCE_REQ: usize = GROUP_REQ + STORAGE;
/// `struct ip_msfilter` and `struct group_filter` without their lists.
const IP_MSFILTER_SIZE: usize = 16;
const GROUP_FILTER_SIZE: usize = 8 + STORAGE + 8;

fn addr(b: &[u8], at: usize) -> Ipv4Addr {
    b.get(at..).and_then(|b| b.first_chunk::<4>()).map_or(ANY, |b| Ipv4Addr::from(*b))
}

fn word(b: &[u8], at: usize) -> u32 {
    b.get(at..).and_then(|b| b.first_chunk::<4>()).map_or(0, |b| u32::from_ne_bytes(*b))
}

/// The IPv4 address in a `sockaddr_storage`.
fn storage(b: &[u8], at: usize, wrong: Errno) -> Result<Ipv4Addr, Errno> {
    let family = b.get(at..).and_then(|b| b.first_chunk::<2>()).map_or(0, |b| u16::from_ne_bytes(*b));
    if i32::from(family) == AF_INET { Ok(addr(b, at + 4)) } else { Err(wrong) }
}

/// An int, or one byte of it.
fn small(value: &[u8]) -> Result<i32, Errno> {
    let first = i32::from(*value.first().ok_or(Errno::EINVAL)?);
    Ok(value.first_chunk().map_or(first, |b| i32::from_ne_bytes(*b)))
}

fn atleast(value: &[u8], n: usize) -> Result<(), Errno> {
    if value.len() < n { Err(Errno::EINVAL) } else { Ok(()) }
}

/// `None`: it is another option.
#[doc(alias = "do_ip_setsockopt")]
pub fn set(k: &mut Kernel, sock: SockId, name: i32, value: &[u8]) -> Option<Result<(), Errno>> {
    let joins = matches!(name, IP_ADD_MEMBERSHIP..=IP_MSFILTER | MCAST_JOIN_GROUP..=MCAST_MSFILTER);
    Some(match (name, sock) {
        (IP_ADD_MEMBERSHIP | IP_DROP_MEMBERSHIP, SockId::Tcp(_)) => Err(Errno::EPROTO),
        (IP_MULTICAST_TTL | IP_MULTICAST_IF, SockId::Tcp(_)) => Err(Errno::EINVAL),
        (IP_MULTICAST_TTL | IP_MULTICAST_LOOP | IP_MULTICAST_ALL, _) => set_flag(k, sock, name, value),
        (IP_MULTICAST_IF, _) => set_if(k, sock, value),
        (IP_UNICAST_IF, _) => set_unicast_if(k, sock, value),
        (IP_ADD_MEMBERSHIP | IP_DROP_MEMBERSHIP, _) => membership(k, sock, name, value),
        (IP_UNBLOCK_SOURCE..=IP_DROP_SOURCE_MEMBERSHIP, _) => source_membership(k, sock, name, value),
        (MCAST_JOIN_GROUP | MCAST_LEAVE_GROUP, _) => group_req(k, sock, name, value),
        (IP_MSFILTER, _) => msfilter(k, sock, value),
        (MCAST_MSFILTER, _) => group_filter(k, sock, value),
        _ if joins => group_source_req(k, sock, name, value),
        _ => return None,
    })
}

fn set_flag(k: &mut Kernel, sock: SockId, name: i32, value: &[u8]) -> Result<(), Errno> {
    let v = small(value)?;
    let mc = k.socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?.mcast_mut();
    match name {
        IP_MULTICAST_TTL if v == -1 => mc.ttl = 1,
        IP_MULTICAST_TTL => mc.ttl = u8::try_from(v).map_err(|_| Errno::EINVAL)?,
        IP_MULTICAST_LOOP => mc.r#loop = v != 0,
        _ => mc.all = u8::try_from(v).ok().filter(|v| *v <= 1).ok_or(Errno::EINVAL)? == 1,
    }
    Ok(())
}

/// `struct in_addr`, `struct ip_mreq` or `struct ip_mreqn`.
fn set_if(k: &mut Kernel, sock: SockId, value: &[u8]) -> Result<(), Errno> {
    let (at, ifindex) = match value.len() {
        12.. => (addr(value, 4), word(value, 8)),
        8.. => (addr(value, 4), 0),
        4.. => (addr(value, 0), 0),
        _ => return Err(Errno::EINVAL),
    };
    let sk = k.socks.sk(sock).ok_or(Errno::ENOTSOCK)?;
    let dev = match (ifindex, at.is_unspecified()) {
        (0, true) => None,
        (0, false) => Some(mcast::dev_of_addr(&k.net, sk.ns, at).ok_or(Errno::EADDRNOTAVAIL)?),
        _ => Some(k.net.dev_by_index(sk.ns, ifindex).ok_or(Errno::EADDRNOTAVAIL)?),
    };
    if dev.is_some() && sk.bound_dev.is_some() && sk.bound_dev != dev {
        return Err(Errno::EINVAL);
    }
    let mc = k.socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?.mcast_mut();
    (mc.dev, mc.addr) = (dev, at);
    Ok(())
}

/// In network order.
fn set_unicast_if(k: &mut Kernel, sock: SockId, value: &[u8]) -> Result<(), Errno> {
    let ifindex = value.first_chunk().filter(|_| value.len() == 4).map(|b| u32::from_be_bytes(*b));
    let ifindex = ifindex.ok_or(Errno::EINVAL)?;
    let sk = k.socks.sk(sock).ok_or(Errno::ENOTSOCK)?;
    let dev = match ifindex {
        0 => None,
        n => Some(k.net.dev_by_index(sk.ns, n).ok_or(Errno::EADDRNOTAVAIL)?),
    };
    if dev.is_some() && sk.bound_dev.is_some() && sk.bound_dev != dev {
        return Err(Errno::EINVAL);
    }
    k.socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?.mcast_mut().unicast_dev = dev;
    Ok(())
}

/// `struct ip_mreq` or `struct ip_mreqn`.
fn membership(k: &mut Kernel, sock: SockId, name: i32, value: &[u8]) -> Result<(), Errno> {
    atleast(value, 8)?;
    let ifindex = if value.len() >= 12 { word(value, 8) } else { 0 };
    let (group, i) = (addr(value, 0), Interface { ifindex, addr: addr(value, 4) });
    if name == IP_ADD_MEMBERSHIP {
        mcast::join(k, sock, group, i, Mode::Exclude)
    } else {
        mcast::leave(k, sock, group, i)
    }
}

/// `struct ip_mreq_source`: group, interface, source.
fn source_membership(k: &mut Kernel, sock: SockId, name: i32, value: &[u8]) -> Result<(), Errno> {
    if value.len() != 12 {
        return Err(Errno::EINVAL);
    }
    let i = Interface { ifindex: 0, addr: addr(value, 4) };
    change_source(k, sock, name, (addr(value, 0), addr(value, 8)), i)
}

fn change_source(
    k: &mut Kernel,
    sock: SockId,
    name: i32,
    who: (Ipv4Addr, Ipv4Addr),
    i: Interface,
) -> Result<(), Errno> {
    let (mode, add) = match name {
        IP_BLOCK_SOURCE | MCAST_BLOCK_SOURCE => (Mode::Exclude, true),
        IP_UNBLOCK_SOURCE | MCAST_UNBLOCK_SOURCE => (Mode::Exclude, false),
        IP_ADD_SOURCE_MEMBERSHIP | MCAST_JOIN_SOURCE_GROUP => (Mode::Include, true),
        _ => (Mode::Include, false),
    };
    let mut joined = false;
    if mode == Mode::Include && add {
        match mcast::join(k, sock, who.0, i, Mode::Include) {
            Ok(()) => joined = true,
            Err(Errno::EADDRINUSE) => {}
            Err(e) => return Err(e),
        }
    }
    let done = mcast::source(k, sock, who, i, mode, add);
    if done.is_err() && joined {
        let _ = mcast::leave(k, sock, who.0, i);
    }
    done
}

/// `struct group_req`.
fn group_req(k: &mut Kernel, sock: SockId, name: i32, value: &[u8]) -> Result<(), Errno> {
    atleast(value, GROUP_REQ)?;
    let (group, i) = (storage(value, 8, Errno::EINVAL)?, Interface { ifindex: word(value, 0), addr: ANY });
    if name == MCAST_JOIN_GROUP {
        mcast::join(k, sock, group, i, Mode::Exclude)
    } else {
        mcast::leave(k, sock, group, i)
    }
}

/// `struct group_source_req`.
fn group_source_req(k: &mut Kernel, sock: SockId, name: i32, value: &[u8]) -> Result<(), Errno> {
    if value.len() != GROUP_SOURCE_REQ {
        return Err(Errno::EINVAL);
    }
    let who = (storage(value, 8, Errno::EADDRNOTAVAIL)?, storage(value, 8 + STORAGE, Errno::EADDRNOTAVAIL)?);
    change_source(k, sock, name, who, Interface { ifindex: word(value, 0), addr: ANY })
}

fn mode(word: u32) -> Result<Mode, Errno> {
    match word as i32 {
        MCAST_INCLUDE => Ok(Mode::Include),
        MCAST_EXCLUDE => Ok(Mode::Exclude),
        _ => Err(Errno::EINVAL),
    }
}

fn max_msf(k: &Kernel, sock: SockId) -> u32 {
    let ns = k.socks.sk(sock).and_then(|sk| k.net.ns.get(sk.ns));
    ns.map_or(0, |n| n.sysctl.igmp_max_msf).max(0) as u32
}

fn msfilter(k: &mut Kernel, sock: SockId, value: &[u8]) -> Result<(), Errno> {
    atleast(value, IP_MSFILTER_SIZE)?;
    let n = word(value, 12);
    if n > max_msf(k, sock) {
        return Err(Errno::ENOBUFS);
    }
    let list = value.get(IP_MSFILTER_SIZE..IP_MSFILTER_SIZE + 4 * n as usize).ok_or(Errno::EINVAL)?;
    let sources = (0..n as usize).map(|i| addr(list, 4 * i)).collect();
    let i = Interface { ifindex: 0, addr: addr(value, 4) };
    mcast::msfilter(k, sock, addr(value, 0), i, mode(word(value, 8))?, sources)
}

fn group_filter(k: &mut Kernel, sock: SockId, value: &[u8]) -> Result<(), Errno> {
    atleast(value, GROUP_FILTER_SIZE)?;
    let n = word(value, 12 + STORAGE);
    if n > max_msf(k, sock) {
        return Err(Errno::ENOBUFS);
    }
    atleast(value, GROUP_FILTER_SIZE + STORAGE * n as usize)?;
    let group = storage(value, 8, Errno::EINVAL)?;
    let sources: Result<Vec<Ipv4Addr>, Errno> =
        (0..n as usize).map(|i| storage(value, GROUP_FILTER_SIZE + STORAGE * i, Errno::EADDRNOTAVAIL)).collect();
    let i = Interface { ifindex: word(value, 0), addr: ANY };
    mcast::msfilter(k, sock, group, i, mode(word(value, 8 + STORAGE))?, sources?)
}

/// Options that are ints, and the address of IP_MULTICAST_IF.
pub fn get(k: &Kernel, sock: SockId, name: i32) -> Option<Result<Vec<u8>, Errno>> {
    let sk = k.socks.sk(sock)?;
    let default = sk.mcast_default();
    let mc = sk.mcast().unwrap_or(&default);
    let int = |v: i32| Ok(v.to_ne_bytes().to_vec());
    Some(match name {
        IP_MULTICAST_TTL => int(mc.ttl.into()),
        IP_MULTICAST_LOOP => int(mc.r#loop.into()),
        IP_MULTICAST_ALL => int(mc.all.into()),
        IP_MULTICAST_IF => Ok(mc.addr.octets().to_vec()),
        IP_UNICAST_IF => Ok(ifindex(&k.net, mc.unicast_dev).to_be_bytes().to_vec()),
        _ => return None,
    })
}

fn ifindex(net: &Net, dev: Option<DevId>) -> u32 {
    dev.and_then(|d| net.devs.get(d)).map_or(0, |d| d.ifindex)
}

/// IP_MSFILTER: the list of a membership. `asked` is what the program put into its memory: group, interface, and how many
/// sources there is room for.
#[doc(alias = "ip_mc_msfget")]
pub fn get_msfilter(k: &mut Kernel, sock: SockId, asked: &[u8]) -> Result<Vec<u8>, Errno> {
    atleast(asked, IP_MSFILTER_SIZE)?;
    let (group, i) = (addr(asked, 0), Interface { ifindex: 0, addr: addr(asked, 4) });
    if !group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    let ns = k.socks.sk(sock).ok_or(Errno::ENOTSOCK)?.ns;
    let dev = mcast::find_dev(&mut k.net, ns, i, group).ok_or(Errno::ENODEV)?;
    let list = k.socks.sk(sock).and_then(|sk| sk.mcast()).map_or(&[][..], |m| &m.list);
    let m = list.iter().find(|m| m.group == group && m.dev == dev).ok_or(Errno::EADDRNOTAVAIL)?;
    let sources = m.sources.as_deref().unwrap_or(&[]);
    let mode = if m.mode == Mode::Include { MCAST_INCLUDE } else { MCAST_EXCLUDE };
    let mut out = asked.get(..8).unwrap_or(&[]).to_vec();
    out.extend(mode.to_ne_bytes());
    out.extend((sources.len() as u32).to_ne_bytes());
    sources.iter().take(word(asked, 12) as usize).for_each(|s| out.extend(s.octets()));
    Ok(out)
}
