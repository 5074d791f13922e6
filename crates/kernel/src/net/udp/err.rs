//! ICMP errors about datagrams that were sent.
use super::tables::{Lookup, lookup};
use super::wake;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::errqueue;
use crate::net::core::skb::SkBuff;
use crate::net::ipv4::icmp_rcv::convert;
use crate::net::ipv4::route::update_pmtu;
use belljar_abi::poll::EPOLLERR;
use belljar_abi::{Errno, IP_PMTUDISC_DONT, SO_EE_ORIGIN_ICMP, SockExtendedErr};
use belljar_wire::Segs;
use belljar_wire::icmp::*;
use belljar_wire::ipv4::Ipv4Header;
use belljar_wire::udp::{UDP_HLEN, UdpHeader};

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
    let Some(id) = lookup(&n.udp, &k.socks.udp, &l) else { return };
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
    let Some(s) = k.socks.udp.get_mut(id) else { return };
    if !s.sk.flags.recverr {
        if !hard || !s.connected() {
            return;
        }
    } else {
        let mut payload = Segs::from(b.get(ip.ihl_bytes + UDP_HLEN..).unwrap_or(&[]).to_vec());
        payload.append(skb.frags.clone());
        let ee = SockExtendedErr { errno: errno.0, origin: SO_EE_ORIGIN_ICMP, kind, code, info, data: 0 };
        let e = errqueue::icmp_entry(&k.net, skb, ee, (ip.dst.into(), udp.dst_port), payload);
        errqueue::queue(&mut s.sk, &mut k.net.env, SockId::Udp(id), e);
    }
    s.sk.err = errno.0;
    wake(k, id, EPOLLERR);
}
