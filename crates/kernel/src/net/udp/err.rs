//! ICMP errors about datagrams that were sent.
use super::tables::{Lookup, lookup};
use super::wake;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::errqueue;
use crate::net::core::skb::SkBuff;
use crate::net::ipv4::icmp_rcv::convert;
use crate::net::ipv4::route::update_pmtu;
use crate::net::ipv6::icmp_rcv::convert as convert6;
use crate::net::mib::Mib;
use belljar_abi::poll::EPOLLERR;
use belljar_abi::{
    Errno, IP_PMTUDISC_DONT, IPV6_PMTUDISC_DONT, IPV6_PMTUDISC_WANT, SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6,
    SockExtendedErr,
};
use belljar_wire::Segs;
use belljar_wire::icmp::*;
use belljar_wire::icmpv6::ICMPV6_PKT_TOOBIG;
use belljar_wire::ipv4::Ipv4Header;
use belljar_wire::udp::{UDP_HLEN, UdpHeader};
use core::net::{IpAddr, Ipv6Addr};

/// `skb` is pulled to the quoted IP header. An unconnected socket hears of it only with IP_RECVERR; a connected one of
/// hard errors, by its next call.
#[doc(alias = "__udp4_lib_err")]
pub fn udp_err(k: &mut Kernel, ns: NsId, skb: &SkBuff, kind: u8, code: u8, info: u32) {
    let b = skb.head.bytes();
    let Ok(ip) = Ipv4Header::parse(b) else { return };
    let Ok(udp) = UdpHeader::parse(b.get(ip.ihl_bytes..).unwrap_or(&[])) else { return };
    let Some(n) = k.net.ns.get(ns) else { return };
    // The quoted packet is one of ours: its source is the socket's side.
    let l = Lookup {
        daddr: ip.src.into(),
        dport: udp.src_port,
        saddr: ip.dst.into(),
        sport: udp.dst_port,
        dev: skb.dev,
        secret: n.secret,
        cpu: k.net.cpu,
        packet: None,
    };
    let Some(id) = lookup(&n.udp, &k.socks.udp, &l) else { return k.net.inc(ns, Mib::IcmpInErrors) };
    let Some(s) = k.socks.udp.get_mut(id) else { return };
    let (mut errno, mut hard) = match kind {
        ICMP_TIME_EXCEEDED => (Errno::EHOSTUNREACH, false),
        ICMP_SOURCE_QUENCH => return,
        ICMP_PARAMETERPROB => (Errno::EPROTO, true),
        _ => match convert(code) {
            Some(e) => e,
            None => (Errno::EHOSTUNREACH, false),
        },
    };
    if kind == ICMP_DEST_UNREACH && code == ICMP_FRAG_NEEDED {
        let discover = i32::from(s.sk.pmtudisc) != IP_PMTUDISC_DONT;
        update_pmtu(&mut k.net, ns, ip.dst, info);
        if !discover {
            return;
        }
        (errno, hard) = (Errno::EMSGSIZE, true);
    }
    let ee = SockExtendedErr { errno: errno.0, origin: SO_EE_ORIGIN_ICMP, kind, code, info, data: 0 };
    report(k, id, skb, ip.ihl_bytes + UDP_HLEN, (ip.dst.into(), udp.dst_port), ee, hard);
}

/// With IP_RECVERR into the error queue, where the quoted payload begins at `data`; without it only a hard error of a
/// connected socket is told.
fn report(k: &mut Kernel, id: UdpId, skb: &SkBuff, data: usize, to: (IpAddr, u16), ee: SockExtendedErr, hard: bool) {
    let Some(s) = k.socks.udp.get_mut(id) else { return };
    if !s.sk.flags.recverr {
        if !hard || !s.connected() {
            return;
        }
    } else {
        let mut payload = Segs::from(skb.head.bytes().get(data..).unwrap_or(&[]).to_vec());
        payload.append(skb.frags.clone());
        let e = errqueue::icmp_entry(&s.sk, &k.net, skb, ee, to, payload);
        errqueue::queue(&mut s.sk, &mut k.net.env, SockId::Udp(id), e);
    }
    s.sk.err = ee.errno;
    wake(k, id, EPOLLERR);
}

/// The same of ICMPv6: `skb` is at the quoted IPv6 header, the UDP header `at` bytes behind it.
#[doc(alias = "__udp6_lib_err")]
pub fn udp6_err(
    k: &mut Kernel,
    ns: NsId,
    skb: &SkBuff,
    (src, dst, at): (Ipv6Addr, Ipv6Addr, usize),
    kind: u8,
    code: u8,
    info: u32,
) {
    let Ok(udp) = UdpHeader::parse(skb.head.bytes().get(at..).unwrap_or(&[])) else { return };
    let Some(n) = k.net.ns.get(ns) else { return };
    let l = Lookup {
        daddr: src.into(),
        dport: udp.src_port,
        saddr: dst.into(),
        sport: udp.dst_port,
        dev: skb.dev,
        secret: n.secret,
        cpu: k.net.cpu,
        packet: None,
    };
    let Some(id) = lookup(&n.udp, &k.socks.udp, &l) else { return k.net.inc(ns, Mib::Icmp6InErrors) };
    let (errno, mut hard) = convert6(kind, code);
    if kind == ICMPV6_PKT_TOOBIG {
        let discover = k.socks.udp.get(id).and_then(|s| s.sk.v6_opts()).map_or(IPV6_PMTUDISC_WANT, |o| o.mtu_discover);
        crate::net::ipv6::route::update_pmtu(&mut k.net, ns, dst, info);
        if discover == IPV6_PMTUDISC_DONT {
            return;
        }
        hard = true;
    }
    let ee = SockExtendedErr { errno: errno.0, origin: SO_EE_ORIGIN_ICMP6, kind, code, info, data: 0 };
    report(k, id, skb, at + UDP_HLEN, (dst.into(), udp.dst_port), ee, hard);
}
