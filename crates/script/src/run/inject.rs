//! Packets into the kernel.
use super::flow::{Place, sides};
use super::{Happened, Run};
use crate::ast::*;
use crate::packet::{L4, Opt, Pkt, Tcp};
use crate::packet6::router_alert;
use crate::parse::is_mld;
use crate::problem::Problem;
use belljar_wire::icmpv6::*;
use belljar_wire::ipv6::{ALL_NODES, ALL_ROUTERS, MLD2_ROUTERS, solicited_node};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of the packet that an ICMP error quotes behind its IP header.
const QUOTED: usize = 8;
/// ICMPv6 quotes what fits the least MTU (RFC 4443 §3.1).
const QUOTED6: usize = 1280 - 48;

impl Run<'_> {
    pub(super) fn inject(&mut self, p: &Packet) -> Result<(), Problem> {
        let s = &self.script.settings;
        let udp = match &p.body {
            Body::Frag(FragSpec { of: Some(of), .. }) => matches!(**of, Body::Udp(_)),
            body => matches!(body, Body::Udp(_)),
        };
        let ends = self.flows.ends(s, p.ends, true, udp);
        let (local, remote) = ends;
        let mut src = remote.0;
        if let Body::Arp(a) = &p.body {
            self.m.arp(p.dev, a);
            return self.settle();
        }
        let mut dst = local.0;
        if !matches!(p.body, Body::Tcp(_) | Body::Udp(_)) {
            // From the remote side itself, or from a router on the way if the line says so.
            let named = p.ends.map(|e| (e.0.addr, e.1.addr)).unwrap_or_default();
            // In a script with both families a message is of its own one.
            let v4 = matches!(&p.body, Body::Icmp(i) if !i.v6) || matches!(&p.body, Body::Igmp(_));
            let (own, other) = sides(s, named.1.or(named.0).or(v4.then_some(V4.0.into())));
            src = named.0.unwrap_or(other);
            dst = named.1.unwrap_or(own);
        }
        let mut ttl = 64;
        if let Body::Igmp(b) = &p.body {
            let group = belljar_wire::igmp::IgmpHeader::parse(b).map_or(Ipv4Addr::UNSPECIFIED, |h| h.group);
            let to = if group.is_unspecified() { belljar_wire::igmp::ALL_HOSTS } else { group };
            dst = p.ends.and_then(|e| e.1.addr).unwrap_or(to.into());
            ttl = 1;
        }
        let mut ext = p.ip.ext.clone();
        if let Body::Nd(b) = &p.body {
            let (from, to) = nd_ends(b, s);
            src = p.ends.and_then(|e| e.0.addr).unwrap_or(from.into());
            dst = p.ends.and_then(|e| e.1.addr).unwrap_or(to.into());
            let mld = b.first().is_some_and(|k| is_mld(*k));
            ttl = if mld { 1 } else { 255 };
            if mld && ext.is_empty() {
                ext = router_alert();
            }
        }
        if src.is_ipv4() != dst.is_ipv4() {
            return Err(Problem::new(p.span, format!("{src} and {dst} are not of one family")));
        }
        let l4 = self.body(p, &p.body, ends)?;
        let tos = p.ip.tos.unwrap_or(0) & !3 | ecn_bits(p.ip.ecn).unwrap_or(p.ip.tos.unwrap_or(0) & 3);
        let (ttl, df, id) = (p.ip.ttl.unwrap_or(ttl), p.ip.df.unwrap_or(false), p.ip.id.unwrap_or(0));
        let options = p.ip.options.clone().unwrap_or_default();
        let flow = p.ip.flow.unwrap_or(0);
        let mut packet = Pkt { dev: p.dev, id, options, ext, flow, src, dst, tos, ttl, df, l4 };
        if let Body::Frag(f) = &p.body {
            packet = self.piece(p, f, packet, ends)?;
        }
        let Some(bytes) = packet.bytes(p.ip.badsum) else {
            return Err(Problem::new(p.span, "this is more than a packet can hold"));
        };
        self.trace.push((self.m.now(), Happened::In(packet)));
        self.m.inject(p.dev, &bytes, p.ip.link_broadcast);
        self.settle()
    }

    fn body(&mut self, p: &Packet, body: &Body, ends: (Place, Place)) -> Result<L4, Problem> {
        let (local, remote) = ends;
        let bytes = |payload: &Payload| payload.data.clone().unwrap_or_else(|| vec![0; payload.len]);
        Ok(match body {
            Body::Tcp(t) => {
                if t.flags & 0x12 == 2 {
                    self.flows.remote_syn(ends);
                }
                self.flows.set_current(ends, false);
                L4::Tcp(self.flows.to_wire(ends, segment(t, ends)))
            }
            Body::Udp(payload) => {
                self.flows.set_current(ends, true);
                L4::Udp { sport: remote.1, dport: local.1, data: bytes(payload) }
            }
            Body::Icmp(i) => self.icmp(p, i)?,
            Body::Igmp(b) => L4::Igmp(b.clone()),
            Body::Nd(b) => L4::Nd(b.clone()),
            Body::Proto(proto, payload) => L4::Other { proto: *proto, data: bytes(payload) },
            Body::Frag(_) | Body::Arp(_) => L4::Other { proto: 17, data: Vec::new() },
        })
    }

    /// Bytes of the packet that the line speaks of; zeros where it has none.
    fn piece(&mut self, p: &Packet, f: &FragSpec, header: Pkt, ends: (Place, Place)) -> Result<Pkt, Problem> {
        let long = || Problem::new(p.span, "the whole is more than a packet can hold");
        let (mut proto, mut whole) = (17, Vec::new());
        if let Some(of) = &f.of {
            let l4 = self.body(p, of, ends)?;
            let plain = Pkt { l4, options: Vec::new(), ext: Vec::new(), ..header.clone() };
            let b = plain.bytes(p.ip.badsum).ok_or_else(long)?;
            let (named_at, from) = if plain.is_v6() { (6, 40) } else { (9, 20) };
            proto = b.get(named_at).copied().unwrap_or(17);
            whole = b.get(from..).unwrap_or(&[]).to_vec();
        }
        let (start, end) = (f.start as usize, f.end as usize);
        let mf = f.mf.unwrap_or(end < whole.len());
        whole.resize(whole.len().max(end), 0);
        let data = whole.get(start..end).unwrap_or(&[]).to_vec();
        Ok(Pkt { l4: L4::Frag { proto, start: f.start, mf, data }, ..header })
    }

    fn icmp(&self, p: &Packet, i: &IcmpSpec) -> Result<L4, Problem> {
        let rest = match (i.gateway, i.pointer) {
            (Some(gw), _) => gw.octets(),
            (None, Some(at)) if i.v6 => at.to_be_bytes(),
            (None, Some(at)) => [at as u8, 0, 0, 0],
            _ => i.mtu.unwrap_or(0).to_be_bytes(),
        };
        // Echo requests have a payload, errors a packet.
        if crate::parse::icmp::is_echo(i.v6, i.kind) {
            let (id, seq) = i.echo.unwrap_or((1, 1));
            let data = i.payload.as_ref().map_or(vec![0; 8], |p| p.data.clone().unwrap_or_else(|| vec![0; p.len]));
            let rest = belljar_wire::icmp::IcmpHeader::echo_rest(id, seq);
            return Ok(L4::Icmp { kind: i.kind, code: i.code, rest, data });
        }
        let quoted = match i.about {
            Some(about) => self.quoted(about),
            None => self.last_sent.clone().ok_or_else(|| {
                Problem::new(p.span, "an ICMP error is about a packet, and the kernel has sent none")
                    .hint("say which: [1:1001(1000)] icmp … or [udp (10)] icmp …")
            })?,
        };
        let bytes = quoted.bytes(false).ok_or_else(|| Problem::new(p.span, "the quoted packet is too long"))?;
        let data = bytes.get(..bytes.len().min(if i.v6 { QUOTED6 } else { 20 + QUOTED })).unwrap_or(&[]).to_vec();
        Ok(L4::Icmp { kind: i.kind, code: i.code, rest, data })
    }

    /// A packet of the kernel as the line describes it.
    fn quoted(&self, about: About) -> Pkt {
        let (local, remote) = self.flows.current(matches!(about, About::Udp { .. }));
        let l4 = match about {
            About::Tcp { seq } => {
                let seq = seq.wrapping_add(self.flows.seq_offset((local, remote)));
                L4::Tcp(Tcp { sport: local.1, dport: remote.1, seq, flags: 0x10, ..Tcp::default() })
            }
            About::Udp { len } => L4::Udp { sport: local.1, dport: remote.1, data: vec![0; len.min(65_000)] },
        };
        let (options, ext) = (Vec::new(), Vec::new());
        Pkt { dev: 0, id: 0, options, ext, flow: 0, src: local.0, dst: remote.0, tos: 0, ttl: 64, df: true, l4 }
    }
}

/// Where a message of discovery or MLD comes from and goes to when its line does not say: what routers and neighbours do.
fn nd_ends(b: &[u8], s: &Settings) -> (Ipv6Addr, Ipv6Addr) {
    let six = |a: IpAddr| if let IpAddr::V6(a) = a { a } else { V6.0 };
    let target = crate::parse::addr_at(b, 8).unwrap_or(Ipv6Addr::UNSPECIFIED);
    let solicited = b.get(4).is_some_and(|f| f & NA_SOLICITED != 0);
    match b.first().copied().unwrap_or(0) {
        NDISC_NEIGHBOUR_SOLICITATION => (six(s.gateway), solicited_node(target)),
        NDISC_NEIGHBOUR_ADVERTISEMENT if solicited => (target, six(s.local)),
        NDISC_NEIGHBOUR_ADVERTISEMENT => (target, ALL_NODES),
        NDISC_ROUTER_SOLICITATION => (PEER_LINKLOCAL, ALL_ROUTERS),
        NDISC_REDIRECT => (six(s.gateway), six(s.local)),
        ICMPV6_MGM_QUERY if !target.is_unspecified() => (PEER_LINKLOCAL, target),
        ICMPV6_MGM_REPORT => (PEER_LINKLOCAL, target),
        ICMPV6_MGM_REDUCTION => (PEER_LINKLOCAL, ALL_ROUTERS),
        ICMPV6_MLD2_REPORT => (PEER_LINKLOCAL, MLD2_ROUTERS),
        _ => (PEER_LINKLOCAL, ALL_NODES),
    }
}

/// Of 02:00:00:00:00:02.
const PEER_LINKLOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 2);

fn segment(t: &TcpSpec, (local, remote): (Place, Place)) -> Tcp {
    let options: Vec<Opt> = match &t.options {
        Options::List(l) => l.clone(),
        Options::Any => Vec::new(),
    };
    Tcp {
        sport: remote.1,
        dport: local.1,
        seq: t.seq,
        ack: t.ack.unwrap_or(0),
        flags: t.flags,
        window: t.window.unwrap_or(0),
        urg: t.urg.unwrap_or(0),
        options,
        data: t.data.clone().unwrap_or_else(|| vec![0; t.len as usize]),
    }
}

fn ecn_bits(ecn: Option<Ecn>) -> Option<u8> {
    match ecn? {
        Ecn::Bits(b) => Some(b),
        Ecn::AnyEct => Some(2),
    }
}
