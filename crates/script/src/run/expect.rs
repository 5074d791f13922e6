//! Packets out of the kernel, compared with a line: the first difference is named.
use super::flow::Place;
use super::{ANY_TIME, Run, seconds};
use crate::ast::*;
use crate::packet::{L4, Opt, Pkt, Tcp, show_flags};
use crate::packet6::router_alert;
use crate::parse::{is_mld, show_nd};
use crate::problem::Problem;
use std::net::IpAddr;

type Ends = (Place, Place);

impl<'a> Run<'a> {
    pub(super) fn expect(&mut self, e: &'a Event, p: &'a Packet, from: Nanos) -> Result<(), Problem> {
        let slack = self.tolerance();
        let (first, last) = match e.when.base {
            Base::Any => (0, from + ANY_TIME),
            _ => (from + e.when.at, from + e.when.window.unwrap_or(e.when.at)),
        };
        let limit = if e.when.base == Base::Any { last } else { last.saturating_add(slack) };
        let (at, packet) = self.next_packet(p, limit)?;
        self.compare(p, &packet, at)?;
        if e.when.base != Base::Any && !(first.saturating_sub(slack)..=limit).contains(&at) {
            let expected = match e.when.window {
                Some(_) => format!("{} to {}", seconds(first), seconds(last)),
                None => seconds(first),
            };
            return Err(Problem::new(e.span, "the packet came at the wrong time")
                .note("expected", format!("{expected}, give or take {} ms", slack / 1_000_000))
                .note("came", format!("{} at {}", self.flows.show(&packet, false), seconds(at))));
        }
        if e.when.base != Base::Any && e.when.window.is_none() {
            // The clock goes on to the line's own time, however early within the tolerance the packet was.
            self.base = first;
        } else {
            self.base = at;
        }
        Ok(())
    }

    /// The next packet, merged from several when the line stands for more than one has; waits until `limit`.
    fn next_packet(&mut self, p: &Packet, limit: Nanos) -> Result<(Nanos, Pkt), Problem> {
        self.wait_for_packet(limit)?;
        let Some((at, mut packet)) = self.m.out.pop_front() else {
            let why = if self.m.is_quiet() { "nothing, and no timer runs" } else { "nothing" };
            return Err(Problem::new(p.span, format!("no packet was sent until {}", seconds(self.m.now())))
                .note("expected", show(p))
                .note("came", why));
        };
        self.traced = self.traced.saturating_sub(1);
        let Body::Tcp(spec) = &p.body else { return Ok((at, packet)) };
        while let L4::Tcp(t) = &mut packet.l4 {
            if t.data.is_empty() || t.data.len() >= spec.len as usize || t.flags & 7 != 0 {
                break;
            }
            self.wait_for_packet(at.max(self.m.now()))?;
            match self.m.out.front() {
                Some((_, Pkt { src, dst, l4: L4::Tcp(next), .. }))
                    if (*src, *dst) == (packet.src, packet.dst) && continues(t, next) =>
                {
                    t.flags |= next.flags;
                    t.data.extend_from_slice(&next.data);
                    self.m.out.pop_front();
                    self.traced = self.traced.saturating_sub(1);
                }
                _ => break,
            }
        }
        Ok((at, packet))
    }

    fn wait_for_packet(&mut self, limit: Nanos) -> Result<(), Problem> {
        while self.m.out.is_empty() {
            let more = self.m.step(limit);
            self.settle()?;
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn compare(&mut self, p: &Packet, live: &Pkt, at: Nanos) -> Result<(), Problem> {
        let different = self.difference(p, live, at);
        let Some(what) = different else { return Ok(()) };
        Err(Problem::new(p.span, format!("the packet differs: {what}"))
            .note("expected", show(p))
            .note("came", format!("{} at {}", self.flows.show(live, false), seconds(at))))
    }

    /// Says what differs first; learns the numbers of a new connection on the way.
    fn difference(&mut self, p: &Packet, live: &Pkt, at: Nanos) -> Option<String> {
        let s = &self.script.settings;
        let udp = matches!(p.body, Body::Udp(_));
        let ports = live.ports();
        let came: Ends = ((live.src, ports.0), (live.dst, ports.1));
        let different = match (&p.body, &live.l4) {
            (Body::Tcp(spec), L4::Tcp(t)) => {
                // A SYN of the kernel chooses its own port.
                let opens = spec.flags & 0x12 == 2 && p.ends.is_none() && t.flags & 0x12 == 2;
                let ends = if opens { came } else { self.flows.ends(s, p.ends, false, false) };
                if let Some(d) = wrong_ends(ends, came) {
                    return Some(d);
                }
                self.flows.set_current(came, false);
                self.tcp_difference(spec, came, t, at)
            }
            (Body::Udp(spec), L4::Udp { data, .. }) => {
                let ends = self.flows.ends(s, p.ends, false, true);
                if p.ends.is_some()
                    && let Some(d) = wrong_ends(ends, came)
                {
                    return Some(d);
                }
                self.flows.set_current(came, udp);
                let wrong = spec.data.as_ref().is_some_and(|d| d != data);
                let different = spec.len != data.len() || wrong;
                different.then(|| if wrong { "the data".to_owned() } else { format!("{} bytes", data.len()) })
            }
            (Body::Icmp(spec), L4::Icmp { kind, code, rest, data }) => {
                let low = u16::from_be_bytes([rest[2], rest[3]]);
                let echo = (u16::from_be_bytes([rest[0], rest[1]]), low);
                let all = u32::from_be_bytes(*rest);
                let same = (spec.v6, spec.kind, spec.code) == (live.is_v6(), *kind, *code)
                    && spec.mtu.is_none_or(|m| m == if spec.v6 { all } else { low.into() })
                    && spec.echo.is_none_or(|e| e == echo)
                    && spec.gateway.is_none_or(|g| g.octets() == *rest)
                    && spec.pointer.is_none_or(|p| p == if spec.v6 { all } else { rest[0].into() })
                    && spec.payload.as_ref().is_none_or(|p| p.len == data.len());
                (!same).then(|| "the message".to_owned())
            }
            (Body::Frag(f), L4::Frag { start, mf, data, .. }) => {
                let end = *start as usize + data.len();
                let more = f.mf.or_else(|| Some((f.end as usize) < whole(f.of.as_deref()?)?));
                let same = (f.start, f.end as usize) == (*start, end) && more.is_none_or(|m| m == *mf);
                (!same).then(|| "the piece".to_owned())
            }
            (Body::Igmp(spec), L4::Igmp(b)) => (spec != b).then(|| "the message".to_owned()),
            (Body::Arp(a), L4::Arp { request, mac, broadcast }) => {
                let same = a.request == *request
                    && (IpAddr::V4(a.sender), IpAddr::V4(a.target)) == (live.src, live.dst)
                    && a.mac.is_none_or(|m| m == *mac)
                    && a.broadcast.is_none_or(|b| b == *broadcast);
                (!same).then(|| "the message".to_owned())
            }
            (Body::Nd(spec), L4::Nd(b)) => (spec != b).then(|| "the message".to_owned()),
            (Body::Proto(proto, spec), L4::Other { proto: live, data }) => {
                let wrong = spec.data.as_ref().is_some_and(|d| d != data);
                (proto != live || spec.len != data.len() || wrong).then(|| "the protocol or the length".to_owned())
            }
            _ => Some("the protocol".to_owned()),
        };
        if p.dev != live.dev {
            return Some(format!("it left by eth{}", live.dev));
        }
        different
            .or_else(|| addresses(p, live))
            .or_else(|| ip_difference(&p.ip, live))
            .or_else(|| ext_difference(p, live))
    }

    fn tcp_difference(&mut self, spec: &TcpSpec, ends: Ends, t: &Tcp, at: Nanos) -> Option<String> {
        // PSH is not for a script to get wrong where it says nothing else of interest: but it is compared.
        if spec.flags != t.flags {
            return Some(format!("flags {}", show_flags(t.flags)));
        }
        if t.flags & 0x02 != 0 {
            self.flows.learn_syn(ends, t.seq, spec.seq);
        }
        self.learn_ts(spec, ends, t, at);
        let t = self.flows.to_script(ends, t.clone());
        if spec.seq != t.seq {
            return Some(format!("sequence number {}", t.seq));
        }
        if spec.len as usize != t.data.len() {
            return Some(format!("{} bytes", t.data.len()));
        }
        if spec.data.as_ref().is_some_and(|d| *d != t.data) {
            return Some("the data".to_owned());
        }
        if spec.ack.is_some_and(|a| a != t.ack) {
            return Some(format!("ack {}", t.ack));
        }
        if spec.window.is_some_and(|w| w != t.window) {
            return Some(format!("win {}", t.window));
        }
        if spec.urg.is_some_and(|u| u != t.urg) {
            return Some(format!("urg {}", t.urg));
        }
        let Options::List(list) = &spec.options else { return None };
        let slack = (self.tolerance() / 1_000_000) as u32;
        let same = list.len() == t.options.len() && list.iter().zip(&t.options).all(|(a, b)| same_option(a, b, slack));
        (!same).then(|| "options".to_owned())
    }

    /// The first time stamp of a connection: the line says which number it is, else it is the script's milliseconds.
    fn learn_ts(&mut self, spec: &TcpSpec, ends: Ends, t: &Tcp, at: Nanos) {
        let live = t.options.iter().find_map(|o| if let Opt::Ts { val, .. } = o { *val } else { None });
        let Some(live) = live else { return };
        let said = match &spec.options {
            Options::List(l) => l.iter().find_map(|o| if let Opt::Ts { val, .. } = o { *val } else { None }),
            Options::Any => None,
        };
        self.flows.learn_ts(ends, live, said.unwrap_or((at / 1_000_000) as u32));
    }
}

/// The next segment of what one line stands for.
fn continues(t: &Tcp, next: &Tcp) -> bool {
    let here = (t.sport, t.dport, t.ack, t.window) == (next.sport, next.dport, next.ack, next.window);
    here && next.seq == t.seq.wrapping_add(t.data.len() as u32) && !next.data.is_empty() && next.flags & 6 == 0
}

fn same_option(a: &Opt, b: &Opt, slack: u32) -> bool {
    match (a, b) {
        (Opt::Ts { val: v1, ecr: e1 }, Opt::Ts { val: v2, ecr: e2 }) => {
            let near = |a: u32, b: u32| a.wrapping_sub(b).min(b.wrapping_sub(a)) <= slack;
            v1.is_none_or(|v| v2.is_some_and(|w| near(v, w))) && (e1.is_none() || e1 == e2)
        }
        (Opt::FastOpen(a), Opt::FastOpen(b)) if a.is_empty() == b.is_empty() => true,
        // What the signature is, only the key knows.
        (Opt::Md5(_) | Opt::Md5Key(_), Opt::Md5(_)) => true,
        _ => a == b,
    }
}

/// Addresses of packets without ports.
fn addresses(p: &Packet, live: &Pkt) -> Option<String> {
    if matches!(p.body, Body::Tcp(_) | Body::Udp(_)) {
        return None;
    }
    let (src, dst) = p.ends?;
    let same = src.addr.is_none_or(|a| a == live.src) && dst.addr.is_none_or(|a| a == live.dst);
    (!same).then(|| format!("it goes from {} to {}", live.src, live.dst))
}

/// Bytes behind the IP header of a packet that a line speaks of.
fn whole(of: &Body) -> Option<usize> {
    Some(match of {
        Body::Udp(p) | Body::Icmp(IcmpSpec { payload: Some(p), .. }) => 8 + p.len,
        Body::Proto(_, p) => p.len,
        Body::Igmp(b) => b.len(),
        _ => return None,
    })
}

fn wrong_ends(expected: Ends, came: Ends) -> Option<String> {
    if expected == came {
        return None;
    }
    let place = |(a, p): Place| std::net::SocketAddr::from((a, p));
    let show = |(a, b): Ends| format!("{} > {}", place(a), place(b));
    Some(format!("it is of another connection, {} instead of {}", show(came), show(expected)))
}

/// Extension headers are those that the line names; discovery never passes a router (RFC 4861 §6.1, §7.1).
fn ext_difference(p: &Packet, live: &Pkt) -> Option<String> {
    let kind = if let L4::Nd(b) = &live.l4 { b.first().copied() } else { None };
    let mld = kind.is_some_and(is_mld);
    let alert = router_alert();
    let expected = if mld && p.ip.ext.is_empty() { &alert } else { &p.ip.ext };
    if *expected != live.ext {
        let show = |e: &Ext| format!("{} {}", e.kind, e.body.iter().map(|b| format!("{b:02x}")).collect::<String>());
        let all: Vec<String> = live.ext.iter().map(show).collect();
        return Some(format!("extension headers {}", if all.is_empty() { "none".into() } else { all.join(", ") }));
    }
    let hops = if mld { 1 } else { 255 };
    (kind.is_some() && p.ip.ttl.is_none() && live.ttl != hops).then(|| format!("hlim {}", live.ttl))
}

fn ip_difference(ip: &IpSpec, live: &Pkt) -> Option<String> {
    let ecn = match ip.ecn {
        Some(Ecn::Bits(b)) => live.tos & 3 == b,
        Some(Ecn::AnyEct) => matches!(live.tos & 3, 1 | 2),
        None => true,
    };
    if !ecn {
        return Some(format!("ECN bits {:02b}", live.tos & 3));
    }
    if ip.tos.is_some_and(|t| t & !3 != live.tos & !3) {
        return Some(format!("tos {:#x}", live.tos & !3));
    }
    if ip.ttl.is_some_and(|t| t != live.ttl) {
        return Some(format!("ttl {}", live.ttl));
    }
    if ip.id.is_some_and(|id| id != live.id) {
        return Some(format!("id {}", live.id));
    }
    if ip.flow.is_some_and(|f| f != live.flow) {
        return Some(format!("flow {:#x}", live.flow));
    }
    if ip.options.as_ref().is_some_and(|o| *o != live.options) {
        let hex: String = live.options.iter().map(|b| format!("{b:02x}")).collect();
        return Some(format!("options {hex}"));
    }
    ip.df.filter(|df| *df != live.df).map(|_| if live.df { "df is set" } else { "df is not set" }.to_owned())
}

/// A line's packet in words.
fn show(p: &Packet) -> String {
    match &p.body {
        Body::Tcp(t) => {
            let end = t.seq.wrapping_add(t.len);
            let mut s = format!("{} {}:{end}({})", show_flags(t.flags), t.seq, t.len);
            s += &t.ack.map_or(String::new(), |a| format!(" ack {a}"));
            s += &t.window.map_or(String::new(), |w| format!(" win {w}"));
            match &t.options {
                Options::Any => s += " <...>",
                Options::List(l) if l.is_empty() => {}
                Options::List(l) => s += &format!(" <{}>", l.iter().map(Opt::show).collect::<Vec<_>>().join(",")),
            }
            s
        }
        Body::Udp(u) => format!("udp ({})", u.len),
        Body::Icmp(i) => {
            let mtu = i.mtu.map_or(String::new(), |m| format!(" mtu {m}"));
            format!("{}{mtu}", crate::parse::icmp::show(i.v6, i.kind, i.code))
        }
        Body::Frag(f) => format!("frag {}:{}", f.start, f.end),
        Body::Igmp(b) => crate::parse::raw::show_igmp(b),
        Body::Nd(b) => show_nd(b),
        Body::Arp(a) if a.request => format!("arp request {} from {}", a.target, a.sender),
        Body::Arp(a) => format!("arp reply {} to {}", a.sender, a.target),
        Body::Proto(proto, p) => format!("proto {proto} ({})", p.len),
    }
}
