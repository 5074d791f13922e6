//! ICMP redirects: obeyed as a host (RFC 1122 §3.2.2.2), sent as a router (RFC 1812 §4.3.3.2).
use crate::env::SEC;
use crate::ids::{DevId, NsId};
use crate::net::core::skb::SkBuff;
use crate::net::ipv4::fib::{self, RouteType};
use crate::net::ipv4::icmp;
use crate::net::ipv4::route::{Dst, Flow4, RouteKind, addr_type, ip_route_output, learn_gateway};
use crate::net::{Net, af};
use belljar_wire::icmp::ICMP_REDIRECT;
use belljar_wire::ipv4::Ipv4Header;
use core::net::{IpAddr, Ipv4Addr};

/// Packets that are answered before the sender is left in its error, and the time between two answers, which doubles.
const REDIRECT_NUMBER: u32 = 9;
const REDIRECT_LOAD_NS: u64 = SEC / 50;

/// `from`, the router that we use for the packet quoted, names a better one. It is believed if it is that router, and if
/// the new one is on the link.
#[doc(alias = "__ip_do_redirect")]
pub fn obey(net: &mut Net, ns: NsId, dev: DevId, from: Ipv4Addr, to: Ipv4Addr, inner: &Ipv4Header) {
    let Some(d) = net.devs.get(dev) else { return };
    let (conf, onlink) = (d.conf, |a: Ipv4Addr| d.addrs.iter().any(|i| i.covers(a)));
    let (new_on, old_on) = (onlink(to), onlink(from));
    if to == from || !conf.accept_redirects || to.is_multicast() || to.is_broadcast() || to.octets()[0] == 0 {
        return;
    }
    let good = if conf.shared_media {
        addr_type(net, ns, to) == RouteKind::Unicast
    } else {
        new_on && old_on && (!conf.secure_redirects || is_default(net, ns, to, dev))
    };
    let fl = Flow4 { saddr: inner.src, tos: inner.tos, ..Flow4::to(inner.dst) };
    let Ok(dst) = ip_route_output(net, ns, &fl) else { return };
    if good && dst.kind == RouteKind::Unicast && dst.dev == dev && dst.gateway == Some(IpAddr::V4(from)) {
        learn_gateway(net, ns, inner.dst, to);
    }
}

/// One of the routers of the default routes (`ip_fib_check_default`).
fn is_default(net: &Net, ns: NsId, gateway: Ipv4Addr, dev: DevId) -> bool {
    let Some(n) = net.ns.get(ns) else { return false };
    let mut all = n.fib.main.get(Ipv4Addr::UNSPECIFIED, 0).iter();
    all.any(|r| r.kind == RouteType::Unicast && r.gateway == Some(gateway) && r.dev == Some(dev))
}

/// The sender could have used the next hop itself: it is told, less and less often.
#[doc(alias = "ip_rt_send_redirect")]
pub fn send(net: &mut Net, ns: NsId, dst: &Dst, ip: &Ipv4Header, skb: &SkBuff) {
    let gateway = dst.gateway.map_or(ip.dst, af::v4);
    let Some(d) = net.devs.get(dst.dev) else { return };
    let onlink = |a: Ipv4Addr| d.addrs.iter().any(|i| i.covers(a));
    // Both on one subnet; with shared media it need not be the same.
    let direct = matches!(fib::lookup(net, ns, ip.src, None), Some(r) if r.gateway.is_none() && r.dev == Some(dst.dev));
    if !direct || !(d.conf.shared_media || (onlink(ip.src) && onlink(gateway))) {
        return;
    }
    let (now, hz) = (net.env.jiffies(), u64::from(net.env.hz));
    let load = (REDIRECT_LOAD_NS * hz / SEC).max(1) as u32;
    let silence = load << (REDIRECT_NUMBER + 1);
    let Some(peer) = net.ns.get_mut(ns).map(|n| n.peers.get(ip.src, now)) else { return };
    if now.wrapping_sub(peer.redirected) > silence {
        peer.redirects = 0;
    }
    if peer.redirects >= REDIRECT_NUMBER {
        peer.redirected = now;
        return;
    }
    if peer.redirects == 0 || now.wrapping_sub(peer.redirected) > load << peer.redirects {
        (peer.redirected, peer.redirects) = (now, peer.redirects + 1);
        icmp::icmp_send(net, skb, ICMP_REDIRECT, 1, gateway.to_bits());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::nic::NicConfig;
    use crate::kernel::Kernel;

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    /// A host with 10.0.0.2 as its router, and the next hop to 192.0.2.1 after a redirect.
    fn after(setting: Option<(&str, &str)>, from: Ipv4Addr, to: Ipv4Addr) -> IpAddr {
        let mut k = Kernel::new(1);
        let (ns, dev) = k.add_host("h", &NicConfig::default(), (ip(1), 24), Some(ip(2))).unwrap();
        if let Some((key, value)) = setting {
            for who in ["all", "eth0"] {
                k.sysctl_set(ns, &format!("net.ipv4.conf.{who}.{key}"), value).unwrap();
            }
        }
        let far = Ipv4Addr::new(192, 0, 2, 1);
        let inner = Ipv4Header { src: ip(1), dst: far, ..Ipv4Header::default() };
        obey(&mut k.net, ns, dev, from, to, &inner);
        ip_route_output(&mut k.net, ns, &Flow4::to(far)).unwrap().gateway.unwrap()
    }

    #[test]
    fn only_the_router_in_use_is_believed_and_only_about_neighbours() {
        assert_eq!(after(None, ip(2), ip(3)), ip(3));
        for (from, to) in [
            (ip(4), ip(3)),
            (ip(2), ip(2)),
            (ip(2), ip(1)),
            (ip(2), Ipv4Addr::BROADCAST),
            (ip(2), [224, 0, 0, 1].into()),
        ] {
            assert_eq!(after(None, from, to), ip(2), "{from} {to}");
        }
        let off = Some(("accept_redirects", "0"));
        assert_eq!(after(off, ip(2), ip(3)), ip(2));
        // Without shared media the new one has to be a default router too, unless secure_redirects is off.
        assert_eq!(after(Some(("shared_media", "0")), ip(2), ip(3)), ip(2));
    }
}
