//! Options of level SOL_IPV6 (ipv6(7), RFC 3493, RFC 3542).
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::errqueue;
use crate::net::core::sock::{Family, Sock};
use crate::net::ipv6::flowlabel::{self, Who};
use crate::net::ipv6::txopts::{self, TxOptions};
use crate::net::ipv6::{anycast, mcast_opt};
use crate::task::call::Cred;
use belljar_abi::*;
use belljar_wire::ipv6::IPV6_MIN_MTU;
use core::net::Ipv6Addr;

/// What few sockets ask for (`struct ipv6_pinfo`).
#[derive(Clone, Debug)]
pub struct V6Opts {
    pub pktinfo: bool,
    pub hoplimit: bool,
    pub tclass: bool,
    pub origdstaddr: bool,
    /// IPV6_FLOWINFO, IPV6_RECVFRAGSIZE, IPV6_RECVPATHMTU.
    pub flowinfo: bool,
    pub fragsize: bool,
    pub pathmtu: bool,
    /// What did not fit lately: to whom, and how much would have (`np->rxpmtu`).
    pub mtu_info: Option<(Ipv6Addr, u32)>,
    /// IPV6_FLOWINFO_SEND: traffic class and flow label come with the address.
    pub flowinfo_send: bool,
    /// IPV6_MTU: pieces are no longer; 0: as the path allows.
    pub frag_size: u32,
    /// IPV6_PKTINFO: the number of the interface of what is sent, which need not be there; 0: none. The address says nothing.
    pub sticky_if: u32,
    /// IPV6_UNICAST_IF.
    pub unicast_if: Option<DevId>,
    pub dontfrag: bool,
    pub mtu_discover: i32,
    pub mcast_hops: Option<u8>,
    pub mcast_if: Option<DevId>,
    pub mcast_loop: bool,
    /// Packets of groups that the socket did not join, too.
    pub mcast_all: bool,
    /// None: as `auto_flowlabels` says.
    pub autoflowlabel: Option<bool>,
    /// Groups joined.
    pub groups: Vec<mcast_opt::Member6>,
    /// Extension headers of every packet.
    pub txopts: Option<Box<TxOptions>>,
    /// What to tell about those of received packets (`rxopt`).
    pub rx: u16,
    /// IPV6_ADDR_PREFERENCES, without what is the default.
    pub src_prefs: u8,
    /// Flow labels leased.
    pub labels: Vec<u32>,
    /// Connections that come answer with the flow label they came with.
    pub repflow: bool,
    /// Anycast addresses joined.
    pub anycast: Vec<(Ipv6Addr, DevId)>,
}

impl Default for V6Opts {
    fn default() -> V6Opts {
        V6Opts {
            pktinfo: false,
            hoplimit: false,
            tclass: false,
            origdstaddr: false,
            flowinfo: false,
            fragsize: false,
            pathmtu: false,
            mtu_info: None,
            flowinfo_send: false,
            frag_size: 0,
            sticky_if: 0,
            unicast_if: None,
            dontfrag: false,
            mtu_discover: IPV6_PMTUDISC_WANT,
            mcast_hops: None,
            mcast_if: None,
            mcast_loop: true,
            mcast_all: true,
            autoflowlabel: None,
            groups: Vec::new(),
            src_prefs: 0,
            labels: Vec::new(),
            repflow: false,
            txopts: None,
            rx: 0,
            anycast: Vec::new(),
        }
    }
}

fn int(value: &[u8]) -> Result<i32, Errno> {
    value.first_chunk().map(|b| i32::from_ne_bytes(*b)).ok_or(Errno::EINVAL)
}

/// -1 is the default, else a byte.
fn hops(v: i32) -> Result<Option<u8>, Errno> {
    if v == -1 { Ok(None) } else { u8::try_from(v).map(Some).map_err(|_| Errno::EINVAL) }
}

#[doc(alias = "do_ipv6_setsockopt")]
pub(crate) fn ipv6_setsockopt(k: &mut Kernel, sock: SockId, name: i32, value: &[u8], cred: Cred) -> Result<(), Errno> {
    let sk = k.socks.sk_mut(sock).filter(|sk| sk.family == Family::Inet6).ok_or(Errno::ENOPROTOOPT)?;
    match name {
        IPV6_ADD_MEMBERSHIP | IPV6_DROP_MEMBERSHIP | MCAST_JOIN_GROUP..=MCAST_MSFILTER => {
            return mcast_opt::set(k, sock, name, value);
        }
        IPV6_FLOWLABEL_MGR => return flowlabel::set(k, sock, value, Who { cred, pid: 0 }).map(drop),
        IPV6_JOIN_ANYCAST | IPV6_LEAVE_ANYCAST => return anycast::set(k, sock, name, value, cred),
        IPV6_HOPOPTS | IPV6_RTHDRDSTOPTS | IPV6_RTHDR | IPV6_DSTOPTS | IPV6_2292PKTOPTIONS => {
            return headers(k, sock, name, value, cred.caps.net_raw);
        }
        IPV6_MULTICAST_IF => return multicast_if(k, sock, int(value)?),
        IPV6_PKTINFO => return pktinfo(k, sock, value),
        IPV6_UNICAST_IF => return unicast_if(k, sock, u32::from_be(int(value)? as u32)),
        _ => {}
    }
    let val = int(value)?;
    let on = val != 0;
    match name {
        // Bound is bound: the port table has counted it already.
        IPV6_V6ONLY if sk.num != 0 => return Err(Errno::EINVAL),
        IPV6_V6ONLY => sk.flags.ipv6only = on,
        IPV6_UNICAST_HOPS => sk.cold().v6_hops = hops(val)?,
        IPV6_MULTICAST_HOPS if matches!(sock, SockId::Tcp(_)) => return Err(Errno::ENOPROTOOPT),
        IPV6_MULTICAST_HOPS => sk.v6_opts_mut().mcast_hops = hops(val)?,
        IPV6_MULTICAST_LOOP if !(0..=1).contains(&val) => return Err(Errno::EINVAL),
        IPV6_MULTICAST_LOOP => sk.v6_opts_mut().mcast_loop = on,
        IPV6_MULTICAST_ALL => sk.v6_opts_mut().mcast_all = on,
        IPV6_TCLASS => {
            let class = if val == -1 { 0 } else { u8::try_from(val).map_err(|_| Errno::EINVAL)? };
            let stream = matches!(sock, SockId::Tcp(_));
            // A stream keeps the ECN bits that TCP set.
            let old = sk.cold().v6_tclass;
            sk.cold().v6_tclass = if stream { class & !3 | old & 3 } else { class };
        }
        IPV6_RECVPKTINFO => sk.v6_opts_mut().pktinfo = on,
        IPV6_RECVHOPLIMIT => sk.v6_opts_mut().hoplimit = on,
        IPV6_RECVTCLASS => sk.v6_opts_mut().tclass = on,
        IPV6_RECVORIGDSTADDR => sk.v6_opts_mut().origdstaddr = on,
        IPV6_FLOWINFO => sk.v6_opts_mut().flowinfo = on,
        IPV6_RECVFRAGSIZE => sk.v6_opts_mut().fragsize = on,
        IPV6_RECVPATHMTU => sk.v6_opts_mut().pathmtu = on,
        IPV6_FLOWINFO_SEND => sk.v6_opts_mut().flowinfo_send = on,
        IPV6_MTU if val != 0 && val < IPV6_MIN_MTU as i32 => return Err(Errno::EINVAL),
        IPV6_MTU => sk.v6_opts_mut().frag_size = val as u32,
        IPV6_MINHOPCOUNT => sk.cold().min_hopcount = u8::try_from(val).map_err(|_| Errno::EINVAL)?,
        IPV6_RECVERR => {
            sk.flags.recverr = on;
            if !on {
                errqueue::purge(sk);
            }
        }
        IPV6_RECVERR_RFC4884 if !(0..=1).contains(&val) => return Err(Errno::EINVAL),
        IPV6_RECVERR_RFC4884 => sk.cold().recverr6_rfc4884 = on,
        IPV6_MTU_DISCOVER if (IPV6_PMTUDISC_DONT..=IPV6_PMTUDISC_OMIT).contains(&val) => {
            sk.v6_opts_mut().mtu_discover = val;
        }
        IPV6_MTU_DISCOVER => return Err(Errno::EINVAL),
        IPV6_DONTFRAG => sk.v6_opts_mut().dontfrag = on,
        IPV6_AUTOFLOWLABEL => sk.v6_opts_mut().autoflowlabel = Some(on),
        IPV6_ADDR_PREFERENCES => set_preferences(sk, val)?,
        IPV6_FREEBIND => sk.flags.freebind = on,
        IPV6_TRANSPARENT if on && !cred.caps.net_admin && !cred.caps.net_raw => return Err(Errno::EPERM),
        IPV6_TRANSPARENT => sk.flags.transparent = on,
        _ => {
            let bit = txopts::rx_bit(name).ok_or(Errno::ENOPROTOOPT)?;
            let rx = &mut sk.v6_opts_mut().rx;
            *rx = *rx & !bit | if on { bit } else { 0 };
        }
    }
    Ok(())
}

/// One of each pair, or the default; what was chosen before does not count.
#[doc(alias = "ip6_sock_set_addr_preferences")]
fn set_preferences(sk: &mut Sock, val: i32) -> Result<(), Errno> {
    const KINDS: i32 = IPV6_PREFER_SRC_TMP | IPV6_PREFER_SRC_PUBLIC;
    let one = |of: i32| if (val & of).count_ones() <= 1 { Ok(val & of) } else { Err(Errno::EINVAL) };
    let kind = one(KINDS | IPV6_PREFER_SRC_PUBTMP_DEFAULT)?;
    let home = one(IPV6_PREFER_SRC_HOME | IPV6_PREFER_SRC_COA)?;
    one(IPV6_PREFER_SRC_CGA | IPV6_PREFER_SRC_NONCGA)?;
    sk.v6_opts_mut().src_prefs = (kind & KINDS | home & IPV6_PREFER_SRC_COA) as u8;
    Ok(())
}

fn preferences(o: &V6Opts) -> i32 {
    let prefs = i32::from(o.src_prefs);
    let kind = match prefs & (IPV6_PREFER_SRC_TMP | IPV6_PREFER_SRC_PUBLIC) {
        0 => IPV6_PREFER_SRC_PUBTMP_DEFAULT,
        kind => kind,
    };
    let home = prefs & IPV6_PREFER_SRC_COA;
    kind | if home == 0 { IPV6_PREFER_SRC_HOME } else { home }
}

/// Extension headers of every packet from now on; a stream's segments become shorter by as much.
fn headers(k: &mut Kernel, sock: SockId, name: i32, value: &[u8], net_raw: bool) -> Result<(), Errno> {
    let Kernel { socks, net, .. } = k;
    let sk = socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?;
    let may = (net_raw, if sock.tcp().is_some() { txopts::MAX_STREAM } else { txopts::MAX_DGRAM });
    match name {
        IPV6_2292PKTOPTIONS => txopts::set_all(sk, value, may)?,
        _ => txopts::set_sticky(sk, name, value, may)?,
    }
    match sock {
        SockId::Tcp(id) => socks.tcp.get_mut(id).into_iter().for_each(|sk| txopts::changed(sk, net)),
        SockId::Udp(id) => socks.udp.get_mut(id).into_iter().for_each(|s| s.dst = None),
        SockId::Raw(_) | SockId::Packet(_) | SockId::Xsk(_) => {}
    }
    Ok(())
}

/// The interface of groups without one; 0 takes it back.
fn multicast_if(k: &mut Kernel, sock: SockId, ifindex: i32) -> Result<(), Errno> {
    let sk = k.socks.sk(sock).ok_or(Errno::ENOTSOCK)?;
    if matches!(sock, SockId::Tcp(_)) {
        return Err(Errno::ENOPROTOOPT);
    }
    let dev = match ifindex {
        0 => None,
        n => Some(k.net.dev_by_index(sk.ns, n as u32).ok_or(Errno::ENODEV)?),
    };
    if dev.is_some() && sk.bound_dev.is_some() && sk.bound_dev != dev {
        return Err(Errno::EINVAL);
    }
    k.socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?.v6_opts_mut().mcast_if = dev;
    Ok(())
}

/// `struct in6_pktinfo`: EINVAL for another interface than the one that the socket is bound to.
fn pktinfo(k: &mut Kernel, sock: SockId, value: &[u8]) -> Result<(), Errno> {
    let b: &[u8; 20] = value.first_chunk().ok_or(Errno::EINVAL)?;
    let ifindex = b.last_chunk().map_or(0, |b| u32::from_ne_bytes(*b));
    let sk = k.socks.sk(sock).ok_or(Errno::ENOTSOCK)?;
    if sk.bound_dev.and_then(|d| k.net.devs.get(d)).is_some_and(|d| d.ifindex != ifindex) {
        return Err(Errno::EINVAL);
    }
    k.socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?.v6_opts_mut().sticky_if = ifindex;
    Ok(())
}

/// The interface of what is for one host, where nothing else says it; 0 takes it back.
fn unicast_if(k: &mut Kernel, sock: SockId, ifindex: u32) -> Result<(), Errno> {
    let sk = k.socks.sk(sock).ok_or(Errno::ENOTSOCK)?;
    let dev = match ifindex {
        0 => None,
        n => Some(k.net.dev_by_index(sk.ns, n).ok_or(Errno::EADDRNOTAVAIL)?),
    };
    if dev.is_some() && sk.bound_dev.is_some() && sk.bound_dev != dev {
        return Err(Errno::EINVAL);
    }
    k.socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?.v6_opts_mut().unicast_if = dev;
    Ok(())
}

/// `struct ip6_mtuinfo`.
pub(crate) fn mtuinfo(addr: SockAddr, mtu: u32) -> Vec<u8> {
    let mut b = addr.emit().to_vec();
    b.extend(mtu.to_ne_bytes());
    b
}

#[doc(alias = "do_ipv6_getsockopt")]
pub(crate) fn ipv6_getsockopt(k: &mut Kernel, sock: SockId, name: i32) -> Result<Vec<u8>, Errno> {
    let sk = k.socks.sk(sock).filter(|sk| sk.family == Family::Inet6).ok_or(Errno::ENOPROTOOPT)?;
    let cold = sk.cold.as_deref();
    let default = V6Opts::default();
    let o = sk.v6_opts().unwrap_or(&default);
    let index = |dev: Option<DevId>| dev.and_then(|d| k.net.devs.get(d)).map_or(0, |d| d.ifindex as i32);
    let auto = k.net.ns.get(sk.ns).is_some_and(|n| matches!(n.sysctl.auto_flowlabels, 1 | 3));
    let v = match name {
        IPV6_V6ONLY => sk.flags.ipv6only.into(),
        IPV6_UNICAST_HOPS => cold.and_then(|c| c.v6_hops).map_or(64, i32::from),
        IPV6_MULTICAST_HOPS => o.mcast_hops.map_or(1, i32::from),
        IPV6_MULTICAST_IF => index(o.mcast_if),
        IPV6_MULTICAST_LOOP => o.mcast_loop.into(),
        IPV6_MULTICAST_ALL => o.mcast_all.into(),
        IPV6_TCLASS => cold.map_or(0, |c| c.v6_tclass.into()),
        IPV6_RECVPKTINFO => o.pktinfo.into(),
        IPV6_RECVHOPLIMIT => o.hoplimit.into(),
        IPV6_RECVTCLASS => o.tclass.into(),
        IPV6_RECVORIGDSTADDR => o.origdstaddr.into(),
        IPV6_FLOWINFO => o.flowinfo.into(),
        IPV6_RECVFRAGSIZE => o.fragsize.into(),
        IPV6_RECVPATHMTU => o.pathmtu.into(),
        IPV6_FLOWINFO_SEND => o.flowinfo_send.into(),
        IPV6_MINHOPCOUNT => cold.map_or(0, |c| c.min_hopcount.into()),
        IPV6_UNICAST_IF => index(o.unicast_if).to_be(),
        IPV6_RECVERR => sk.flags.recverr.into(),
        IPV6_RECVERR_RFC4884 => sk.rare(|c| c.recverr6_rfc4884).into(),
        IPV6_MTU_DISCOVER => o.mtu_discover,
        IPV6_DONTFRAG => o.dontfrag.into(),
        IPV6_AUTOFLOWLABEL => o.autoflowlabel.unwrap_or(auto).into(),
        IPV6_ADDR_PREFERENCES => preferences(o),
        IPV6_FREEBIND => sk.flags.freebind.into(),
        IPV6_TRANSPARENT => sk.flags.transparent.into(),
        IPV6_MTU | IPV6_PATHMTU => {
            if sk.daddr.is_unspecified() {
                return Err(Errno::ENOTCONN);
            }
            let (ns, fl) = (sk.ns, crate::net::af::Flow::of(sk, 0));
            let mtu = crate::net::af::route_output(&mut k.net, ns, &fl).map_err(|_| Errno::ENOTCONN)?.mtu;
            if name == IPV6_PATHMTU {
                return Ok([&[0; 28][..], &mtu.to_ne_bytes()].concat());
            }
            mtu as i32
        }
        // What is asked stands in the program's memory.
        IPV6_FLOWLABEL_MGR => return Err(Errno::EINVAL),
        IPV6_HOPOPTS | IPV6_RTHDRDSTOPTS | IPV6_RTHDR | IPV6_DSTOPTS => {
            return Ok(o.txopts.as_ref().map_or(Vec::new(), |t| t.get(name).to_vec()));
        }
        _ => (o.rx & txopts::rx_bit(name).ok_or(Errno::ENOPROTOOPT)? != 0).into(),
    };
    Ok(v.to_ne_bytes().to_vec())
}
