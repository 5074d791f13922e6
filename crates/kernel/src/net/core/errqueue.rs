//! The error queue of a socket (`sk_error_queue`): ICMP and local errors for IP_RECVERR, completions of MSG_ZEROCOPY, time
//! stamps of what was sent. Read by recvmsg with MSG_ERRQUEUE; POLLERR while something is in it.
use crate::env::{Env, Nanos, Rise};
use crate::ids::SockId;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::icmp_ext;
use crate::net::core::skb::SkBuff;
use crate::net::core::sock::{Family, Sock};
use crate::net::core::timestamp;
use crate::net::core::zerocopy::OMEM;
use crate::task::call::{Cmsg, Received, Ret, SysResult};
use belljar_abi::*;
use belljar_wire::Segs;
use belljar_wire::ethernet::ETH_HLEN;
use belljar_wire::ipv4::{IPV4_HLEN, Ipv4Header};
use core::net::{IpAddr, Ipv4Addr};

/// An entry: `struct sock_extended_err` and what it is about (`struct sock_exterr_skb`).
#[derive(Clone, Debug, Default)]
pub struct SockErr {
    pub ee: SockExtendedErr,
    /// Destination of the packet that caused it.
    pub to: Option<(IpAddr, u16)>,
    pub offender: Option<IpAddr>,
    pub payload: Segs,
    /// When it was made or came, for who asked for time stamps; 0: without.
    pub tstamp: Nanos,
    /// The device of the packet that was stamped, or that brought the ICMP error, and its header.
    pub ifindex: u32,
    pub header: Option<Ipv4Header>,
    /// The payload is what SCM_TIMESTAMPING_OPT_STATS tells.
    pub stats: bool,
    /// Charged to the receive buffer; completions of MSG_ZEROCOPY are charged to option memory instead.
    pub truesize: u32,
}

impl SockErr {
    fn is_icmp(&self) -> bool {
        matches!(self.ee.origin, SO_EE_ORIGIN_ICMP | SO_EE_ORIGIN_ICMP6)
    }
}

/// What the queue holds of the receive buffer.
pub fn charged(sk: &Sock) -> u32 {
    sk.cold.as_ref().map_or(0, |c| c.errors.iter().map(|e| e.truesize).sum())
}

pub fn is_empty(sk: &Sock) -> bool {
    sk.cold.as_ref().is_none_or(|c| c.errors.is_empty())
}

/// Tells sleepers and pollers (`sk_error_report`).
pub fn report(sk: &Sock, env: &mut Env, sock: SockId) {
    if !sk.wait.is_empty() {
        env.rises.push_back(Rise::Wake { sock, mask: POLLERR });
    }
}

/// Into the queue; false and lost when the receive buffer is full.
#[doc(alias = "sock_queue_err_skb")]
pub fn queue(sk: &mut Sock, env: &mut Env, sock: SockId, e: SockErr) -> bool {
    if sk.rmem_alloc.saturating_add(e.truesize) >= sk.rcvbuf {
        return false;
    }
    sk.rmem_alloc += e.truesize;
    sk.cold().errors.push_back(e);
    if !sk.flags.dead {
        report(sk, env, sock);
    }
    true
}

/// The oldest entry. The pending error follows what ICMP said: the next entry's, or none (`sock_dequeue_err_skb`).
#[doc(alias = "sock_dequeue_err_skb")]
fn dequeue(sk: &mut Sock, env: &mut Env, sock: SockId) -> Option<SockErr> {
    let cold = sk.cold.as_deref_mut()?;
    let e = cold.errors.pop_front()?;
    if e.ee.origin == SO_EE_ORIGIN_ZEROCOPY {
        cold.omem = cold.omem.saturating_sub(OMEM);
    }
    let next = cold.errors.front().map(|n| (n.is_icmp(), n.ee.errno));
    sk.rmem_alloc = sk.rmem_alloc.saturating_sub(e.truesize);
    match next {
        Some((true, errno)) => sk.err = errno,
        _ if e.is_icmp() => sk.err = 0,
        _ => {}
    }
    if next.is_some() {
        report(sk, env, sock);
    }
    Some(e)
}

/// SOF_TIMESTAMPING_OPT_CMSG: where the packet of a time stamp left, from its header.
#[doc(alias = "ipv4_datagram_support_cmsg")]
fn egress(sk: &Sock, e: &SockErr) -> Option<Ipv4Header> {
    let tsflags = sk.cold.as_ref().map_or(0, |c| c.tsflags);
    if e.ee.origin != SO_EE_ORIGIN_TIMESTAMPING || tsflags & SOF_TIMESTAMPING_OPT_CMSG == 0 || e.ifindex == 0 {
        return None;
    }
    let mut head = [0; ETH_HLEN + IPV4_HLEN];
    let n = e.payload.copy_to(0, &mut head);
    Ipv4Header::parse(head.get(ETH_HLEN..n)?).ok()
}

/// What the program asked to be told of such a packet.
#[doc(alias = "ip_cmsg_recv")]
fn ip_cmsgs(sk: &Sock, ifindex: u32, spec_dst: Ipv4Addr, ip: &Ipv4Header, out: &mut Vec<Cmsg>) {
    if sk.flags.pktinfo {
        out.push(pktinfo(ifindex, spec_dst, ip.dst));
    }
    if sk.flags.recvttl {
        out.push(Cmsg { level: SOL_IP, kind: IP_TTL, data: i32::from(ip.ttl).to_ne_bytes().to_vec() });
    }
    if sk.flags.recvtos {
        out.push(Cmsg { level: SOL_IP, kind: IP_TOS, data: vec![ip.tos] });
    }
}

/// An ICMP error, pulled to the packet that it quotes; `payload` begins where the socket's protocol says.
#[doc(alias = "ip_icmp_error")]
pub fn icmp_entry(
    sk: &Sock,
    net: &Net,
    skb: &SkBuff,
    mut ee: SockExtendedErr,
    to: (IpAddr, u16),
    payload: Segs,
) -> SockErr {
    let header = skb.ip_hdr();
    let six = ee.origin == SO_EE_ORIGIN_ICMP6;
    if sk.rare(|c| if six { c.recverr6_rfc4884 } else { c.recverr_rfc4884 }) {
        ee.data = icmp_ext::data(skb, &payload, six);
    }
    SockErr {
        ee,
        to: Some(to),
        offender: Some(crate::net::af::addresses(skb).0),
        tstamp: skb.tstamp,
        truesize: crate::net::udp::truesize(payload.len()),
        payload,
        ifindex: skb.dev.and_then(|d| net.devs.get(d)).map_or(0, |d| d.ifindex),
        header,
        stats: false,
    }
}

/// IP_PKTINFO: interface, our address for answers, destination as the header says.
pub fn pktinfo(ifindex: u32, spec_dst: Ipv4Addr, addr: Ipv4Addr) -> Cmsg {
    let mut data = ifindex.to_ne_bytes().to_vec();
    data.extend(spec_dst.octets());
    data.extend(addr.octets());
    Cmsg { level: SOL_IP, kind: IP_PKTINFO, data }
}

/// IP_RECVERR was turned off: what ICMP said is forgotten.
#[doc(alias = "skb_errqueue_purge")]
pub fn purge(sk: &mut Sock) {
    let Some(cold) = sk.cold.as_deref_mut() else { return };
    let forgotten = |e: &SockErr| !matches!(e.ee.origin, SO_EE_ORIGIN_TIMESTAMPING | SO_EE_ORIGIN_ZEROCOPY);
    let freed: u32 = cold.errors.iter().filter(|e| forgotten(e)).map(|e| e.truesize).sum();
    cold.errors.retain(|e| !forgotten(e));
    sk.rmem_alloc = sk.rmem_alloc.saturating_sub(freed);
}

/// The socket goes, and what nobody asked for with it.
#[doc(alias = "inet_sock_destruct")]
pub fn destruct(sk: &mut Sock) {
    let Some(cold) = sk.cold.as_deref_mut() else { return };
    let freed: u32 = std::mem::take(&mut cold.errors).iter().map(|e| e.truesize).sum();
    sk.rmem_alloc = sk.rmem_alloc.saturating_sub(freed);
}

/// recvmsg with MSG_ERRQUEUE: why, who said so, about what; never sleeps.
#[doc(alias = "ip_recv_error")]
pub(crate) fn recv_error(k: &mut Kernel, sock: SockId, len: usize) -> SysResult {
    let Kernel { socks, net, .. } = k;
    let sk = socks.sk_mut(sock).ok_or(Errno::EBADF)?;
    let e = dequeue(sk, &mut net.env, sock).ok_or(Errno::EAGAIN)?;
    let mut r = Box::<Received>::default();
    r.full_len = e.payload.len();
    r.flags = MSG_ERRQUEUE;
    r.from = e.to.map(|(addr, port)| SockAddr::ip(addr, port));
    timestamp::recv_timestamp(sk, &net.env, e.tstamp, true, &mut r.cmsgs);
    if e.stats {
        r.cmsgs.push(Cmsg { level: SOL_SOCKET, kind: SCM_TIMESTAMPING_OPT_STATS, data: e.payload.to_vec() });
    }
    let (mut offender, mut spec_dst) = (e.offender, Ipv4Addr::UNSPECIFIED);
    let header = if e.is_icmp() { e.header } else { egress(sk, &e) };
    if let Some(ip) = header {
        if !e.is_icmp() {
            (offender, spec_dst) = (Some(ip.src.into()), ip.src);
        }
        ip_cmsgs(sk, e.ifindex, spec_dst, &ip, &mut r.cmsgs);
    }
    let offender = offender.map(|a| SockAddr::ip(a, 0));
    r.cmsgs.push(match sk.family {
        Family::Inet => Cmsg { level: SOL_IP, kind: IP_RECVERR, data: e.ee.emit(offender, 16) },
        Family::Inet6 => {
            let data = e.ee.emit(offender.map(|a| a.to_mapped()), 28);
            Cmsg { level: SOL_IPV6, kind: IPV6_RECVERR, data }
        }
    });
    r.segs = e.payload;
    if r.segs.len() > len {
        r.segs.truncate(len);
        r.flags |= MSG_TRUNC;
    }
    Ok(Ret::Data(r))
}
