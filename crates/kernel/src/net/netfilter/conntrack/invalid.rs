//! Why a packet is INVALID, as `nf_conntrack_log_invalid` has it said.
use super::tcp::{Kind, State};
use crate::ids::NsId;
use crate::net::Net;
use crate::net::core::skb::SkBuff;
use crate::net::netfilter::packet::Pkt;
use crate::net::netfilter::rules::Nflog;
use crate::net::netfilter::{Hook, Pf, log, nflog, rules};
use crate::net::sysctl::Log;
use core::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Linux says nothing either.
    Unsaid,
    Said(&'static str),
    /// Of TCP: what does not come in this state from this side.
    State {
        kind: Kind,
        dir: usize,
        state: State,
        ignored: bool,
    },
    /// Out of the window: the bound that it does not keep.
    SeqOver(u32),
    SeqUnder(u32),
    AckOver(u32),
    AckUnder(u32),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Why::Unsaid => Ok(()),
            Why::Said(why) => f.write_str(why),
            Why::State { kind, dir, state, ignored } => {
                let what = if ignored { "ignored" } else { "invalid" };
                write!(f, "packet (index {}) in dir {dir} {what}, state {}", kind as u8, state.name())
            }
            Why::SeqOver(bound) => write!(f, "SEQ is over upper bound {bound} (over the window of the receiver)"),
            Why::SeqUnder(bound) => write!(f, "SEQ is under lower bound {bound} (already ACKed data retransmitted)"),
            Why::AckOver(bound) => write!(f, "ACK is over upper bound {bound} (ACKed data not seen yet)"),
            Why::AckUnder(bound) => write!(f, "ignored ACK under lower bound {bound} (possible overly delayed)"),
        }
    }
}

/// Every protocol.
const ALL: u32 = 255;

/// A line for the log, where `nf_conntrack_log_invalid` asks for this protocol or for all.
#[doc(alias = "nf_ct_l4proto_log_invalid")]
pub fn say(net: &mut Net, ns: NsId, p: &Pkt, skb: &SkBuff, why: Why) {
    let asked = net.ns.get(ns).map_or(0, |n| n.sysctl.nf_conntrack_log_invalid);
    if why == Why::Unsaid || (asked != ALL && (asked == 0 || asked != u32::from(p.proto))) {
        return;
    }
    let logger = net.ns.get(ns).map_or(Log::Nowhere, |n| match p.pf {
        Pf::V4 => n.sysctl.nf_log_v4.to,
        Pf::V6 => n.sysctl.nf_log_v6.to,
    });
    match logger {
        Log::Nowhere => return,
        Log::Netlink => {
            let prefix = format!("nf_ct_proto_{}: {why} ", p.proto).into();
            let l = Nflog { prefix, threshold: 1, ..Nflog::default() };
            return nflog::log(net, ns, &l, (Hook::PreRouting, None), p, skb, (skb.dev, None));
        }
        Log::Syslog => {}
    }
    let flags = rules::LOG_TCPSEQ | rules::LOG_TCPOPT;
    let line = log::line(net, &format!("nf_ct_proto_{}: {why} ", p.proto), flags, (p, false), skb, (skb.dev, None));
    net.kmsg(line);
}
