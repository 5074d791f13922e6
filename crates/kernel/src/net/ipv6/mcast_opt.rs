//! Options of sockets about groups of IPv6 (RFC 3493 §5.2, RFC 3678), and what a socket takes of what came for a group.
use super::addrconf::Scope6;
use super::mcast::{self, Mode, Part6};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::sock::Sock;
use belljar_abi::*;
use core::net::{IpAddr, Ipv6Addr};

/// Groups of one socket (`optmem_max` bounds them on Linux).
const MOST_GROUPS: usize = 1024;
/// `struct sockaddr_storage`, and what stands before the first of them.
const STORAGE: usize = 128;
const GROUP_AT: usize = 8;
const GROUP_FILTER_LEN: usize = GROUP_AT + STORAGE + 8;

/// One group that a socket is a member of (`struct ipv6_mc_socklist`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member6 {
    pub group: Ipv6Addr,
    pub dev: DevId,
    pub mode: Mode,
    /// `None`: there never was a list, and the mode may still change.
    pub sources: Option<Vec<Ipv6Addr>>,
}

impl Member6 {
    fn part(&self) -> Part6<'_> {
        Some((self.mode, self.sources.as_deref().unwrap_or(&[])))
    }
}

fn word(value: &[u8], at: usize) -> u32 {
    value.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_ne_bytes(*b))
}

fn storage(value: &[u8], at: usize) -> Result<Ipv6Addr, Errno> {
    match SockAddr::parse(value.get(at..at + STORAGE).ok_or(Errno::EINVAL)?) {
        Ok(SockAddr::V6 { addr, .. }) => Ok(addr),
        _ => Err(Errno::EADDRNOTAVAIL),
    }
}

pub(crate) fn set(k: &mut Kernel, sock: SockId, name: i32, value: &[u8]) -> Result<(), Errno> {
    match name {
        // `struct ipv6_mreq`: group and interface.
        IPV6_ADD_MEMBERSHIP | IPV6_DROP_MEMBERSHIP => {
            let value: &[u8; 20] = value.first_chunk().ok_or(Errno::EINVAL)?;
            let group = value.first_chunk::<16>().map_or(Ipv6Addr::UNSPECIFIED, |b| (*b).into());
            member(k, sock, name == IPV6_ADD_MEMBERSHIP, group, word(value, 16))
        }
        // `struct group_req` of a 64-bit program.
        MCAST_JOIN_GROUP | MCAST_LEAVE_GROUP => {
            let group = storage(value, GROUP_AT)?;
            member(k, sock, name == MCAST_JOIN_GROUP, group, word(value, 0))
        }
        MCAST_MSFILTER => msfilter(k, sock, value),
        _ => group_source(k, sock, name, value),
    }
}

fn member(k: &mut Kernel, sock: SockId, joins: bool, group: Ipv6Addr, ifindex: u32) -> Result<(), Errno> {
    if matches!(sock, SockId::Tcp(_)) {
        return Err(Errno::EPROTO);
    }
    if joins { join(k, sock, group, ifindex, Mode::Exclude) } else { leave(k, sock, group, ifindex) }
}

/// The interface named, or the one that a packet to the group would take.
#[doc(alias = "ip6_mc_find_idev")]
fn find_dev(k: &Kernel, sock: SockId, group: Ipv6Addr, ifindex: u32) -> Result<DevId, Errno> {
    if !group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    let ns = k.socks.sk(sock).ok_or(Errno::ENOTSOCK)?.ns;
    let dev = match ifindex {
        0 => k.net.ns.get(ns).and_then(|n| n.v6.fib.lookup(group, None, k.net.env.now)).and_then(|r| r.dev),
        n => k.net.dev_by_index(ns, n),
    };
    dev.filter(|d| k.net.devs.get(*d).is_some_and(|d| d.speaks_ipv6())).ok_or(Errno::ENODEV)
}

#[doc(alias = "ipv6_sock_mc_join")]
fn join(k: &mut Kernel, sock: SockId, group: Ipv6Addr, ifindex: u32, mode: Mode) -> Result<(), Errno> {
    let dev = find_dev(k, sock, group, ifindex)?;
    let opts = k.socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?.v6_opts_mut();
    if opts.groups.iter().any(|m| (m.group, m.dev) == (group, dev)) {
        return Err(Errno::EADDRINUSE);
    }
    if opts.groups.len() >= MOST_GROUPS {
        return Err(Errno::ENOMEM);
    }
    opts.groups.push(Member6 { group, dev, mode, sources: None });
    mcast::change(&mut k.net, dev, group, None, Some((mode, &[])));
    Ok(())
}

#[doc(alias = "ipv6_sock_mc_drop")]
fn leave(k: &mut Kernel, sock: SockId, group: Ipv6Addr, ifindex: u32) -> Result<(), Errno> {
    if !group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    let ns = k.socks.sk(sock).ok_or(Errno::ENOTSOCK)?.ns;
    let named = if ifindex == 0 { None } else { Some(k.net.dev_by_index(ns, ifindex).ok_or(Errno::ENODEV)?) };
    let opts = k.socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?.v6_opts_mut();
    let fits = |m: &Member6| m.group == group && named.is_none_or(|d| d == m.dev);
    let at = opts.groups.iter().position(fits).ok_or(Errno::EADDRNOTAVAIL)?;
    let m = opts.groups.remove(at);
    mcast::change(&mut k.net, m.dev, group, m.part(), None);
    Ok(())
}

/// `struct group_source_req`: one source more or less.
#[doc(alias = "do_ipv6_mcast_group_source")]
fn group_source(k: &mut Kernel, sock: SockId, name: i32, value: &[u8]) -> Result<(), Errno> {
    if value.len() < GROUP_AT + 2 * STORAGE {
        return Err(Errno::EINVAL);
    }
    let (group, source, ifindex) = (storage(value, GROUP_AT)?, storage(value, GROUP_AT + STORAGE)?, word(value, 0));
    let (mode, add) = match name {
        MCAST_BLOCK_SOURCE => (Mode::Exclude, true),
        MCAST_UNBLOCK_SOURCE => (Mode::Exclude, false),
        MCAST_JOIN_SOURCE_GROUP => (Mode::Include, true),
        _ => (Mode::Include, false),
    };
    if name == MCAST_JOIN_SOURCE_GROUP {
        match join(k, sock, group, ifindex, Mode::Include) {
            Ok(()) | Err(Errno::EADDRINUSE) => {}
            Err(e) => return Err(e),
        }
    }
    change_source(k, sock, (group, source), ifindex, mode, add)
}

/// What a socket wants of a group becomes what `edit` makes of it.
fn edit(
    k: &mut Kernel,
    sock: SockId,
    group: Ipv6Addr,
    ifindex: u32,
    edit: impl FnOnce(&mut Member6) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let dev = find_dev(k, sock, group, ifindex)?;
    let opts = k.socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?.v6_opts_mut();
    let fits = |m: &&mut Member6| m.group == group && (ifindex == 0 || m.dev == dev);
    let m = opts.groups.iter_mut().find(fits).ok_or(Errno::EINVAL)?;
    let old = m.clone();
    edit(m)?;
    let new = m.clone();
    mcast::change(&mut k.net, old.dev, group, old.part(), new.part());
    Ok(())
}

#[doc(alias = "ip6_mc_source")]
fn change_source(
    k: &mut Kernel,
    sock: SockId,
    (group, source): (Ipv6Addr, Ipv6Addr),
    ifindex: u32,
    mode: Mode,
    add: bool,
) -> Result<(), Errno> {
    let most = max_msf(k, sock);
    let mut leaves = false;
    edit(k, sock, group, ifindex, |m| {
        // The mode stays, once there is a list.
        if m.sources.is_some() && m.mode != mode {
            return Err(Errno::EINVAL);
        }
        m.mode = mode;
        if !add {
            let list = m.sources.as_mut().ok_or(Errno::EADDRNOTAVAIL)?;
            let at = list.iter().position(|s| *s == source).ok_or(Errno::EADDRNOTAVAIL)?;
            // To include nobody is to leave.
            leaves = list.len() == 1 && mode == Mode::Include;
            list.remove(at);
            return Ok(());
        }
        let list = m.sources.get_or_insert_default();
        if list.len() >= most {
            return Err(Errno::ENOBUFS);
        }
        if list.contains(&source) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        list.push(source);
        Ok(())
    })?;
    if leaves { leave(k, sock, group, ifindex) } else { Ok(()) }
}

fn max_msf(k: &Kernel, sock: SockId) -> usize {
    let ns = k.socks.sk(sock).and_then(|sk| k.net.ns.get(sk.ns));
    ns.map_or(0, |n| n.sysctl.mld_max_msf).max(0) as usize
}

/// `struct group_filter`: the whole list at once. To include nobody is to leave.
#[doc(alias = "ip6_mc_msfilter")]
fn msfilter(k: &mut Kernel, sock: SockId, value: &[u8]) -> Result<(), Errno> {
    if value.len() < GROUP_FILTER_LEN {
        return Err(Errno::EINVAL);
    }
    let (group, n) = (storage(value, GROUP_AT)?, word(value, GROUP_AT + STORAGE + 4) as usize);
    if n > max_msf(k, sock) {
        return Err(Errno::ENOBUFS);
    }
    let sources: Result<Vec<Ipv6Addr>, Errno> =
        (0..n).map(|i| storage(value, GROUP_FILTER_LEN + STORAGE * i)).collect();
    let (mode, sources) = (word(value, GROUP_AT + STORAGE) as i32, sources?);
    let mode = match mode {
        MCAST_INCLUDE => Mode::Include,
        MCAST_EXCLUDE => Mode::Exclude,
        _ => return Err(Errno::EINVAL),
    };
    if mode == Mode::Include && sources.is_empty() {
        return leave(k, sock, group, word(value, 0));
    }
    edit(k, sock, group, word(value, 0), |m| {
        (m.mode, m.sources) = (mode, (!sources.is_empty()).then_some(sources));
        Ok(())
    })
}

/// The socket goes: so do its memberships.
#[doc(alias = "ipv6_sock_mc_close")]
pub(crate) fn leave_groups(k: &mut Kernel, sock: SockId) {
    super::anycast::close(k, sock);
    super::flowlabel::close(k, sock);
    let Some(cold) = k.socks.sk_mut(sock).and_then(|sk| sk.cold.as_mut()) else { return };
    let groups = cold.v6.as_mut().map(|o| std::mem::take(&mut o.groups)).unwrap_or_default();
    groups.iter().for_each(|m| mcast::change(&mut k.net, m.dev, m.group, m.part(), None));
}

/// Whether a socket takes what came from `src` to a group on a device.
#[doc(alias = "inet6_mc_check")]
pub(crate) fn takes_group(sk: &Sock, group: Ipv6Addr, src: IpAddr, dev: Option<DevId>) -> bool {
    let Some(o) = sk.v6_opts() else { return true };
    let here = |m: &&Member6| m.group == group && dev.is_none_or(|d| d == m.dev || Scope6::of(group) as u8 <= 1);
    let Some(m) = o.groups.iter().find(here) else { return o.mcast_all };
    let named = matches!((&m.sources, src), (Some(list), IpAddr::V6(src)) if list.contains(&src));
    named == (m.mode == Mode::Include)
}
