//! `nft monitor trace`: packets that a rule marked tell every rule and policy that they meet.
use super::eval::{At, Then};
use super::expr::Names;
use super::fill::kind;
use super::tell::put_verdict;
use super::{Say, Table, layer2};
use crate::net::Net;
use crate::net::core::skb::SkBuff;
use crate::net::netfilter::packet::Pkt;
use crate::net::netfilter::{Pf, Verdict};
use crate::net::netlink::notify;
use crate::net::packet::link_of;
use belljar_abi::netlink::Msg;
use belljar_abi::nf_tables::*;
use belljar_abi::nfnetlink::*;

/// Bytes of each header that are shown.
const LINK: usize = 20;
const NETWORK: usize = 40;
const TRANSPORT: usize = 20;

/// What is told: a rule by its handle, or the policy of a base chain.
#[derive(Clone, Copy, Debug)]
pub enum What {
    Rule(u64),
    Policy(bool),
}

/// The `first` message of a chain at a hook shows the packet itself.
#[cold]
#[doc(alias = "nft_trace_notify")]
#[allow(clippy::too_many_arguments)]
pub fn tell(
    net: &mut Net,
    t: &Table,
    a: At,
    chain: usize,
    (what, then): (What, &Then),
    p: &Pkt,
    skb: &SkBuff,
    first: bool,
) {
    let link = |d: Option<crate::ids::DevId>| d.and_then(|d| net.devs.get(d)).map(|d| (d.ifindex, link_of(d).1));
    let devs = [link(a.devs.0), link(a.devs.1)];
    let mut b = Vec::new();
    let mut m = Msg::new(&mut b, kind(NFT_MSG_TRACE), 0, 0, 0);
    m.body(&nfgenmsg(t.family, 0));
    let ip = if p.pf == Pf::V4 { NFPROTO_IPV4 } else { NFPROTO_IPV6 };
    let pf = a.link.map_or(ip, |l| l.family);
    let be = |m: &mut Msg<'_>, kind: u16, v: u32| {
        m.attr(kind, &v.to_be_bytes());
    };
    be(&mut m, NFTA_TRACE_NFPROTO, pf.into());
    be(&mut m, NFTA_TRACE_TYPE, if matches!(what, What::Rule(_)) { NFT_TRACETYPE_RULE } else { NFT_TRACETYPE_POLICY });
    be(&mut m, NFTA_TRACE_ID, id(skb));
    m.attr_str(NFTA_TRACE_CHAIN, t.chains.get(chain).map_or("", |c| &c.name));
    m.attr_str(NFTA_TRACE_TABLE, &t.name);
    match what {
        What::Rule(handle) => {
            m.attr(NFTA_TRACE_RULE_HANDLE, &handle.to_be_bytes());
            let names = Names { table: t, batch: 0 };
            put_verdict(&mut m, &names, NFTA_TRACE_VERDICT, verdict(then));
        }
        What::Policy(accept) => be(&mut m, NFTA_TRACE_POLICY, accept.into()),
    }
    if first {
        for ((index, hardware), d) in
            [(NFTA_TRACE_IIF, NFTA_TRACE_IIFTYPE), (NFTA_TRACE_OIF, NFTA_TRACE_OIFTYPE)].into_iter().zip(devs)
        {
            if let Some((ifindex, arphrd)) = d {
                be(&mut m, index, ifindex);
                m.attr(hardware, &arphrd.to_be_bytes());
            }
        }
        headers(&mut m, a, p, skb);
    }
    if skb.mark != 0 {
        be(&mut m, NFTA_TRACE_MARK, skb.mark);
    }
    notify::nfnetlink(net, a.ns, NFNLGRP_NFTRACE, |_, out| out.extend(b));
}

fn verdict(then: &Then) -> Say {
    let code = match then {
        Then::Next | Then::Break => NFT_CONTINUE,
        Then::Say(s) => return *s,
        Then::End(Verdict::Accept) => NF_ACCEPT,
        Then::End(_) => NF_DROP,
    };
    Say { code, chain: 0 }
}

/// One number for a packet on its way through all hooks; another one when it comes in again (by lo): what is sent here has no link header.
fn id(skb: &SkBuff) -> u32 {
    let came_in = skb.mac_header != skb.network_header;
    let n = (skb.id << 1 | u64::from(came_in)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (n >> 32) as u32
}

#[doc(alias = "nf_trace_fill_pkt_info")]
fn headers(m: &mut Msg<'_>, a: At, p: &Pkt, skb: &SkBuff) {
    let start = usize::from(skb.network_header);
    let bytes = |at: usize, len: usize| {
        let mut v = skb.head.at(at.min(255) as u8).to_vec();
        v.truncate(len);
        let more = (len - v.len()).min(skb.frags.len());
        let from = v.len();
        v.resize(from + more, 0);
        skb.frags.copy_to(0, &mut v[from..]);
        v
    };
    let upto = if p.later { p.len } else { p.at };
    m.attr(NFTA_TRACE_NETWORK_HEADER, &bytes(start, upto.min(NETWORK)));
    if !p.later {
        m.attr(NFTA_TRACE_TRANSPORT_HEADER, &bytes(start + p.at, p.len.saturating_sub(p.at).min(TRANSPORT)));
    }
    let link = usize::from(skb.network_header.saturating_sub(skb.mac_header)).min(LINK);
    let mut tagged = [0; 18];
    if a.devs.0.is_some() && skb.vlan.present() && layer2::read(skb, 0, &mut tagged) {
        m.attr(NFTA_TRACE_LL_HEADER, &tagged);
        return;
    }
    if a.devs.0.is_some() && link > 0 {
        m.attr(NFTA_TRACE_LL_HEADER, &bytes(usize::from(skb.mac_header), link));
    }
}
