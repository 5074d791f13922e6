//! Packets into the kernel.
use super::flow::Place;
use super::{Happened, Run};
use crate::ast::*;
use crate::packet::{L4, Opt, Pkt, Tcp};
use crate::problem::Problem;

/// Bytes of the packet that an ICMP error quotes behind its IP header.
const QUOTED: usize = 8;

impl Run<'_> {
    pub(super) fn inject(&mut self, p: &Packet) -> Result<(), Problem> {
        let s = &self.script.settings;
        let udp = matches!(p.body, Body::Udp(_));
        let ends = self.flows.ends(s, p.ends, true, udp);
        let (local, remote) = ends;
        let mut src = remote.0;
        let l4 = match &p.body {
            Body::Tcp(t) => {
                if t.flags & 0x12 == 2 {
                    self.flows.remote_syn(ends);
                }
                self.flows.set_current(ends, false);
                L4::Tcp(self.flows.to_wire(ends, segment(t, ends)))
            }
            Body::Udp(payload) => {
                let data = payload.data.clone().unwrap_or_else(|| vec![0; payload.len]);
                self.flows.set_current(ends, true);
                L4::Udp { sport: remote.1, dport: local.1, data }
            }
            Body::Icmp(i) => {
                // From the remote side itself, or from a router on the way if the line says so.
                src = p.ends.and_then(|e| e.0.addr).unwrap_or(s.remote);
                self.icmp(p, i)?
            }
        };
        let tos = p.ip.tos.unwrap_or(0) & !3 | ecn_bits(p.ip.ecn).unwrap_or(p.ip.tos.unwrap_or(0) & 3);
        let packet = Pkt { src, dst: local.0, tos, ttl: p.ip.ttl.unwrap_or(64), df: p.ip.df.unwrap_or(false), l4 };
        let Some(bytes) = packet.bytes(p.ip.badsum) else {
            return Err(Problem::new(p.span, "this is more than a packet can hold"));
        };
        self.trace.push((self.m.now(), Happened::In(packet)));
        self.m.inject(&bytes);
        self.settle()
    }

    fn icmp(&self, p: &Packet, i: &IcmpSpec) -> Result<L4, Problem> {
        let mtu = i.mtu.unwrap_or(0).to_be_bytes();
        let rest = [0, 0, mtu[0], mtu[1]];
        // Echo requests have a payload, errors a packet.
        if matches!(i.kind, 0 | 8) {
            return Ok(L4::Icmp { kind: i.kind, code: i.code, rest: [0, 1, 0, 1], data: vec![0; 8] });
        }
        let quoted = match i.about {
            Some(about) => self.quoted(about),
            None => self.last_sent.clone().ok_or_else(|| {
                Problem::new(p.span, "an ICMP error is about a packet, and the kernel has sent none")
                    .hint("say which: [1:1001(1000)] icmp … or [udp (10)] icmp …")
            })?,
        };
        let bytes = quoted.bytes(false).ok_or_else(|| Problem::new(p.span, "the quoted packet is too long"))?;
        let data = bytes.get(..bytes.len().min(20 + QUOTED)).unwrap_or(&[]).to_vec();
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
        Pkt { src: local.0, dst: remote.0, tos: 0, ttl: 64, df: true, l4 }
    }
}

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
