//! The IPv6 header of a packet and its extension headers, read and written.
use crate::ast::Ext;
use crate::packet::{L4, Pkt};
use crate::parse::is_nd;
use belljar_wire::icmpv6::{ND_OPT_NONCE, NDISC_NEIGHBOUR_SOLICITATION};
use belljar_wire::ipv6::*;
use std::net::IpAddr;

/// Extension headers in one packet that are told apart.
const MOST: usize = 16;

/// RFC 2711: what every MLD message carries.
pub fn router_alert() -> Vec<Ext> {
    vec![Ext { kind: NEXTHDR_HOP, body: vec![5, 2, 0, 0, 1, 0] }]
}

/// What a kernel drew by chance is not for scripts to know.
fn blank_nonce(message: &mut [u8]) {
    if message.first() == Some(&NDISC_NEIGHBOUR_SOLICITATION)
        && let Some([ND_OPT_NONCE, 1, nonce @ ..]) = message.get_mut(24..)
    {
        nonce.iter_mut().take(6).for_each(|b| *b = 0);
    }
}

impl Pkt {
    pub(crate) fn read6(b: &[u8]) -> Option<Pkt> {
        let ip = Ipv6Header::parse(b).ok()?;
        let end = (IPV6_HLEN + usize::from(ip.payload_len)).min(b.len());
        let b = b.get(..end)?;
        let (mut next, mut at, mut ext) = (ip.next, IPV6_HLEN, Vec::new());
        while matches!(next, NEXTHDR_HOP | NEXTHDR_ROUTING | NEXTHDR_DEST) && ext.len() < MOST {
            let &[following, len] = b.get(at..)?.first_chunk()?;
            let size = (usize::from(len) + 1) * 8;
            ext.push(Ext { kind: next, body: b.get(at + 2..at + size)?.to_vec() });
            (next, at) = (following, at + size);
        }
        let mut id = 0;
        let l4 = match next {
            NEXTHDR_FRAGMENT => {
                let f = FragHeader::parse(b.get(at..)?).ok()?;
                id = f.id;
                let data = b.get(at + FRAG_HLEN..).unwrap_or(&[]).to_vec();
                L4::Frag { proto: f.next, start: f.offset.into(), mf: f.more, data }
            }
            NEXTHDR_ICMP if b.get(at).is_some_and(|kind| is_nd(*kind)) => {
                let mut message = b.get(at..)?.to_vec();
                message.get_mut(2..4)?.fill(0);
                blank_nonce(&mut message);
                L4::Nd(message)
            }
            proto => L4::read(proto, b.get(at..).unwrap_or(&[])),
        };
        let (src, dst) = (ip.src.into(), ip.dst.into());
        let (tos, ttl, flow) = (ip.tclass, ip.hop_limit, ip.flow);
        Some(Pkt { dev: 0, id, options: Vec::new(), ext, flow, src, dst, tos, ttl, df: false, l4 })
    }

    /// The headers in front of a payload; `frag`: where it lies in the whole, and whether more comes.
    pub(crate) fn with_header6(&self, proto: u8, frag: Option<(u32, bool)>, payload: &[u8]) -> Option<Vec<u8>> {
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (self.src, self.dst) else { return None };
        let mut chain: Vec<u8> = self.ext.iter().map(|e| e.kind).collect();
        chain.extend(frag.map(|_| NEXTHDR_FRAGMENT));
        chain.push(proto);
        let mut following = chain.iter().skip(1);
        let mut rest = Vec::new();
        for e in &self.ext {
            rest.extend([*following.next()?, u8::try_from((e.body.len() + 2) / 8 - 1).ok()?]);
            rest.extend_from_slice(&e.body);
        }
        if let Some((start, more)) = frag {
            let mut b = [0; FRAG_HLEN];
            FragHeader { next: proto, offset: u16::try_from(start).ok()?, more, id: self.id }.emit(&mut b);
            rest.extend(b);
        }
        rest.extend_from_slice(payload);
        let payload_len = u16::try_from(rest.len()).ok()?;
        let mut b = vec![0; IPV6_HLEN];
        let next = *chain.first()?;
        let (tclass, flow, hop_limit) = (self.tos, self.flow, self.ttl);
        Ipv6Header { tclass, flow, payload_len, next, hop_limit, src, dst }.emit(&mut b);
        b.extend(rest);
        Some(b)
    }
}
