//! What one send of a datagram or raw socket asks beside its payload, by its address and its control messages (Linux: `struct
//! ipcm_cookie`, `struct ipcm6_cookie`).
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::af;
use crate::net::core::sock::Sock;
use crate::net::core::timestamp::Sockcm;
use crate::net::ipv4::options::{self, MAX_IPOPTLEN};
use crate::net::ipv6::flowlabel;
use crate::net::ipv6::txopts::{self, TxOptions};
use crate::task::call::*;
use belljar_abi::*;
use belljar_wire::ipv6::needs_scope;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Traffic class and flow label.
const FLOWINFO: u32 = 0xfff_ffff;

/// What one send asks beside its payload (`struct ipcm_cookie`).
#[derive(Clone)]
pub(crate) struct Ipcm {
    pub daddr: IpAddr,
    pub dport: u16,
    pub saddr: IpAddr,
    pub oif: Option<DevId>,
    pub tos: u8,
    pub ttl: Option<u8>,
    pub tos_given: bool,
    pub connected: bool,
    /// IPV6_DONTFRAG of this send.
    pub dontfrag: Option<bool>,
    /// Traffic class and flow label that came with the address.
    pub flowinfo: u32,
    pub sockc: Sockcm,
    /// No router: SO_DONTROUTE, MSG_DONTROUTE.
    pub onlink: bool,
    /// IP_RETOPTS.
    pub options: Option<Box<[u8]>>,
    /// Extension headers, of this send or of the socket.
    pub ext: Option<Box<TxOptions>>,
}

impl Ipcm {
    /// Where the packet goes first.
    pub fn first_hop(&self) -> IpAddr {
        self.ext.as_ref().and_then(|e| e.first_hop()).map_or(self.daddr, IpAddr::V6)
    }

    /// How long its extension headers are.
    pub fn ext_len(&self) -> usize {
        self.ext.as_ref().map_or(0, |e| e.len())
    }
}

/// What is different when the datagram goes out as IPv6: the interface that the address names, hop limit of groups.
#[doc(alias = "udpv6_sendmsg")]
#[inline(never)]
pub(crate) fn for_v6(k: &Kernel, sk: &Sock, msg: &SendMsg<'_>, c: &mut Ipcm) -> Result<(), Errno> {
    let o = sk.v6_opts();
    if let Some(SockAddr::V6 { addr, scope, .. }) = msg.to
        && scope != 0
        && needs_scope(addr)
    {
        let named = k.net.dev_by_index(sk.ns, scope);
        if sk.bound_dev.is_some() && sk.bound_dev != named {
            return Err(Errno::EINVAL);
        }
        c.oif = Some(named.ok_or(Errno::ENODEV)?);
    }
    c.oif = c.oif.or(sk.bound_dev);
    if c.oif.is_none() {
        c.oif = sticky(&k.net, sk)?;
    }
    c.ext = sk.txopts().cloned().map(Box::new);
    if c.daddr.is_multicast() {
        c.ttl = o.and_then(|o| o.mcast_hops);
        c.oif = c.oif.or(o.and_then(|o| o.mcast_if));
    } else {
        c.oif = c.oif.or(o.and_then(|o| o.unicast_if));
    }
    c.flowinfo = match msg.to {
        Some(SockAddr::V6 { flowinfo, .. }) if o.is_some_and(|o| o.flowinfo_send) => flowinfo & FLOWINFO,
        _ if c.connected => sk.cold.as_ref().map_or(0, |c| c.flow_label),
        _ => 0,
    };
    Ok(())
}

/// The interface that IPV6_PKTINFO names: nothing is sent by one that is not there.
pub(crate) fn sticky(net: &Net, sk: &Sock) -> Result<Option<DevId>, Errno> {
    match sk.v6_opts().map_or(0, |o| o.sticky_if) {
        0 => Ok(None),
        n => net.dev_by_index(sk.ns, n).map(Some).ok_or(Errno::ENETUNREACH),
    }
}

/// The flow label of this send, where it is not the connection's: whether it may have it, and the headers that go with it.
pub(crate) fn leased(k: &Kernel, sk: &Sock, msg: &SendMsg<'_>, c: &mut Ipcm) -> Result<(), Errno> {
    if msg.to.is_none() && msg.cmsgs.is_empty() {
        return Ok(());
    }
    flowlabel::look_up(&k.net, sk, c.flowinfo, &mut c.ext)
}

/// Control messages of level SOL_IPV6.
#[doc(alias = "ip6_datagram_send_ctl")]
fn ip6_cmsg_send(k: &Kernel, ns: NsId, m: &Cmsg, c: &mut Ipcm) -> Result<(), Errno> {
    let int = || m.data.first_chunk().map(|b| i32::from_ne_bytes(*b)).ok_or(Errno::EINVAL);
    match m.kind {
        IPV6_PKTINFO => {
            let b: [u8; 20] = m.data.first_chunk().copied().ok_or(Errno::EINVAL)?;
            let ifindex = b.last_chunk().map_or(0, |b| u32::from_ne_bytes(*b));
            let src = b.first_chunk::<16>().map_or(Ipv6Addr::UNSPECIFIED, |b| (*b).into());
            if ifindex != 0 {
                let dev = k.net.dev_by_index(ns, ifindex).ok_or(Errno::ENODEV)?;
                if c.oif.is_some_and(|o| o != dev) {
                    return Err(Errno::EINVAL);
                }
                c.oif = Some(dev);
            }
            if !src.is_unspecified() {
                let src = src.to_canonical();
                if !af::is_local(&k.net, ns, src) {
                    return Err(Errno::EINVAL);
                }
                c.saddr = src;
            }
            c.connected = false;
        }
        IPV6_HOPLIMIT => match int()? {
            -1 => c.ttl = None,
            v => c.ttl = Some(u8::try_from(v).map_err(|_| Errno::EINVAL)?),
        },
        IPV6_TCLASS => match int()? {
            -1 => c.tos = 0,
            v => c.tos = u8::try_from(v).map_err(|_| Errno::EINVAL)?,
        },
        IPV6_FLOWINFO => {
            let info = u32::from_be(int()? as u32);
            if c.flowinfo & FLOWINFO != 0 && (c.flowinfo ^ info) & !FLOWINFO != 0 {
                return Err(Errno::EINVAL);
            }
            c.flowinfo = info & FLOWINFO;
        }
        IPV6_DONTFRAG => match int()? {
            v @ 0..=1 => c.dontfrag = Some(v == 1),
            _ => return Err(Errno::EINVAL),
        },
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// Control messages of level SOL_IP.
pub(crate) fn ip_cmsg_send(k: &Kernel, ns: NsId, msg: &SendMsg<'_>, c: &mut Ipcm) -> Result<(), Errno> {
    let mut ext = TxOptions::default();
    for m in msg.cmsgs.iter().filter(|m| m.level == SOL_IPV6) {
        match txopts::cmsg_send(m.kind, &m.data, &mut ext, msg.caps.net_raw) {
            Some(taken) => taken?,
            None => ip6_cmsg_send(k, ns, m, c)?,
        }
    }
    if !ext.is_empty() {
        c.ext = Some(Box::new(ext));
    }
    for m in msg.cmsgs.iter().filter(|m| m.level == SOL_IP) {
        let int = || m.data.first_chunk().map(|b| i32::from_ne_bytes(*b)).ok_or(Errno::EINVAL);
        match m.kind {
            IP_PKTINFO => {
                let b: [u8; 12] = m.data.first_chunk().copied().ok_or(Errno::EINVAL)?;
                let ifindex = u32::from_ne_bytes([b[0], b[1], b[2], b[3]]);
                if ifindex != 0 {
                    c.oif = Some(k.net.dev_by_index(ns, ifindex).ok_or(Errno::ENODEV)?);
                }
                let spec = Ipv4Addr::new(b[4], b[5], b[6], b[7]);
                c.saddr = if spec.is_unspecified() { c.saddr } else { spec.into() };
                c.connected = false;
            }
            IP_TTL => c.ttl = Some(u8::try_from(int()?).ok().filter(|t| *t > 0).ok_or(Errno::EINVAL)?),
            IP_TOS => {
                c.tos = match m.data.len() {
                    1 => m.data[0],
                    _ => u8::try_from(int()?).map_err(|_| Errno::EINVAL)?,
                };
                c.tos_given = true;
            }
            IP_RETOPTS => {
                let value = m.data.get(..MAX_IPOPTLEN).unwrap_or(&m.data);
                c.options = Some(options::from_program(value, false)?);
            }
            _ => return Err(Errno::EINVAL),
        }
    }
    Ok(())
}
