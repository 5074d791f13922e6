//! The socket that a packet is for, for rules that ask (`socket`): looked for before the hook, where sockets can be reached, and only
//! in namespaces with such rules.
//!
//! Left out: answers to what was masqueraded here, packets within ICMP errors, frames that a bridge passes on.
use super::Pf;
use super::packet::{Pkt, addr};
use crate::ids::NsId;
use crate::kernel::Kernel;
use crate::net::af;
use crate::net::core::skb::{SeenSock, SkBuff, Skb};
use crate::net::core::sock::Sock;
use crate::net::tcp::tables::{self, EhashRef, Tuple};
use crate::net::udp::tables::{Lookup, lookup};
use belljar_wire::ipv4::{IPPROTO_TCP, IPPROTO_UDP};

/// A packet at its network header, about to meet PRE_ROUTING or LOCAL_IN.
#[inline]
pub fn look(k: &Kernel, ns: NsId, pf: Pf, skb: &mut Skb) {
    let asked = |k: &Kernel| k.net.ns.get(ns)?.nf.as_ref().map(|nf| nf.sockets[pf as usize]);
    if k.net.nf_active && asked(k) == Some(true) {
        skb.seen_sock = find(k, ns, pf, skb);
    }
}

#[doc(alias = "nf_sk_lookup_slow_v4")]
#[cold]
fn find(k: &Kernel, ns: NsId, pf: Pf, skb: &SkBuff) -> Option<SeenSock> {
    // Programs that choose among sockets see the packet from its transport header on.
    let mut view = skb.clone();
    let p = Pkt::read(pf, &mut view)?;
    let (sport, dport) = p.ports(&view).filter(|_| !p.later)?;
    view.head.pull(p.at)?;
    let (src, dst) = (addr(pf, p.src), addr(pf, p.dst));
    match p.proto {
        IPPROTO_TCP => {
            let t = Tuple { laddr: dst, raddr: src, lport: dport, rport: sport };
            tcp(k, ns, &t, &view)
        }
        IPPROTO_UDP => {
            let n = k.net.ns.get(ns)?;
            let dev = af::inet_iif(&k.net, skb.dev, dst);
            let l =
                Lookup { daddr: dst, dport, saddr: src, sport, dev, secret: n.secret, cpu: k.net.cpu, packet: None };
            lookup(&n.udp, &k.socks.udp, &l).and_then(|id| k.socks.udp.get(id)).map(|s| whole(&s.sk))
        }
        _ => None,
    }
}

fn tcp(k: &Kernel, ns: NsId, t: &Tuple, skb: &SkBuff) -> Option<SeenSock> {
    let sock = |id| k.socks.tcp.get(id).map(|s| &s.sk);
    match tables::lookup(k, ns, t, skb.dev) {
        Some(EhashRef::Sock(id)) => sock(id).map(whole),
        // Half a socket: whether it takes foreign addresses is known of its listener.
        Some(EhashRef::Request(id)) => {
            let listener = k.net.ns.get(ns).and_then(|n| n.tcp.reqs.get(id)).and_then(|r| sock(r.listener));
            Some(SeenSock { transparent: listener.is_some_and(|s| s.flags.transparent), whole: None })
        }
        Some(EhashRef::TimeWait(_)) => Some(SeenSock { transparent: false, whole: None }),
        None => tables::lookup_listener(k, ns, t, skb).and_then(sock).map(whole),
    }
}

fn whole(s: &Sock) -> SeenSock {
    SeenSock { transparent: s.flags.transparent, whole: Some((s.mark, s.rcv_saddr.is_unspecified())) }
}
