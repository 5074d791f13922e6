//! NETLINK_NETFILTER: requests by subsystem, and batches, of which all messages count or none.
use super::conntrack::netlink as ct;
use super::{ipset, nflog, nft};
use crate::env::Nanos;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::netlink::{Caller, Done, Dump, Refusal, Req, error};
use belljar_abi::Errno;
use belljar_abi::ipset::NFNL_SUBSYS_IPSET;
use belljar_abi::netlink as nl;
use belljar_abi::nfnetlink::*;

/// A number in an attribute.
pub(crate) fn be32(v: &[u8]) -> Done<u32> {
    v.first_chunk().map(|b| u32::from_be_bytes(*b)).ok_or(Errno::EINVAL.into())
}

pub(crate) fn be64(v: &[u8]) -> Done<u64> {
    v.first_chunk().map(|b| u64::from_be_bytes(*b)).ok_or(Errno::EINVAL.into())
}

pub(crate) fn subsystem(kind: u16) -> u8 {
    (kind >> 8) as u8
}

impl Kernel {
    /// Answers the requests of one datagram.
    #[doc(alias = "nfnetlink_rcv")]
    pub fn nfnetlink(&mut self, now: Nanos, c: &Caller<'_>, data: &[u8]) -> Vec<Vec<u8>> {
        self.begin_step(now);
        let answers = request(&mut self.net, c, data);
        self.end_step();
        answers
    }
}

pub fn request(net: &mut Net, c: &Caller<'_>, data: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let Some((hdr, body)) = nl::messages(data).next() else { return out };
    let first = Req { hdr, body };
    if !c.net_admin {
        out.push(error(c, first, Errno::EPERM.into()));
        return out;
    }
    if hdr.kind == NFNL_MSG_BATCH_BEGIN {
        batch(net, c, first, data, &mut out);
        return out;
    }
    for (hdr, body) in nl::messages(data) {
        if hdr.flags & nl::NLM_F_REQUEST != 0 && hdr.kind >= nl::NLMSG_MIN_TYPE {
            one(net, c, Req { hdr, body }, &mut out);
        }
    }
    out
}

fn one(net: &mut Net, c: &Caller<'_>, r: Req<'_>, out: &mut Vec<Vec<u8>>) {
    if r.body.len() < NFGENMSG_LEN {
        return;
    }
    let sets = subsystem(r.hdr.kind) == NFNL_SUBSYS_IPSET;
    let is_dump = if sets { ipset::is_dump(r.hdr.kind) } else { r.hdr.flags & nl::NLM_F_DUMP == nl::NLM_F_DUMP };
    let mut d = Dump::new(c, r);
    let mut answer = Vec::new();
    let done = match subsystem(r.hdr.kind) {
        NFNL_SUBSYS_CTNETLINK if is_dump => ct::dump(net, c, r, &mut d),
        NFNL_SUBSYS_CTNETLINK => ct::single(net, c, r, &mut answer),
        NFNL_SUBSYS_CTNETLINK_EXP => ct::expect(net, r, is_dump, &mut d),
        NFNL_SUBSYS_NFTABLES if is_dump => nft::get::dump(net, c, r, &mut d),
        NFNL_SUBSYS_NFTABLES => nft::get::single(net, c, r, &mut answer),
        NFNL_SUBSYS_NFT_COMPAT => nft::compat::get(c, r, &mut answer),
        NFNL_SUBSYS_ULOG => nflog::request(net, c, r),
        NFNL_SUBSYS_IPSET if is_dump => ipset::dump(net, c, r, &mut d),
        NFNL_SUBSYS_IPSET => ipset::request(net, c, r, &mut answer),
        // Queues, accounting: as where their modules are not there.
        _ => Err(Errno::EINVAL.into()),
    };
    match done {
        // What went wrong is in the answer.
        Err(e) if e.errno == Errno::EINTR && !answer.is_empty() => out.push(answer),
        Err(e) => out.push(error(c, r, e)),
        Ok(()) if is_dump => out.extend(d.done()),
        Ok(()) => {
            if !answer.is_empty() {
                out.push(answer);
            }
            if r.flag(nl::NLM_F_ACK) {
                out.push(ack(c, r));
            }
        }
    }
}

fn ack(c: &Caller<'_>, r: Req<'_>) -> Vec<u8> {
    let mut b = Vec::new();
    nl::error(&mut b, r.hdr, r.body, Ok(()), c.port);
    b
}

/// Errors of one batch that are told.
const MOST_ERRORS: usize = 1024;

/// The messages between BATCH_BEGIN and BATCH_END change a copy, which takes the place of what is there when all are good.
#[doc(alias = "nfnetlink_rcv_batch")]
fn batch(net: &mut Net, c: &Caller<'_>, begin: Req<'_>, data: &[u8], out: &mut Vec<Vec<u8>>) {
    if begin.body.len() < NFGENMSG_LEN {
        return;
    }
    let subsys = begin.body.get(2..4).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
    if subsys != u16::from(NFNL_SUBSYS_NFTABLES) {
        return out.push(error(c, begin, Errno::EOPNOTSUPP.into()));
    }
    let genid = begin.attr(NFGENMSG_LEN, NFNL_BATCH_GENID).and_then(|v| be32(v).ok());
    let mut t = nft::Transaction::begin(net, c.ns);
    if genid.is_some_and(|g| g != 0 && g != t.genid()) {
        // Somebody else was faster.
        return out.push(error(c, begin, Errno::ERESTART.into()));
    }
    if begin.flag(nl::NLM_F_ACK) {
        out.push(ack(c, begin));
    }
    let (mut failed, mut ended) = (0, false);
    let refuse = |r: Req<'_>, e: Refusal, failed: &mut usize, out: &mut Vec<Vec<u8>>| {
        *failed += 1;
        if *failed <= MOST_ERRORS {
            out.push(error(c, r, e));
        }
    };
    for (hdr, body) in nl::messages(data).skip(1) {
        let r = Req { hdr, body };
        if hdr.kind == NFNL_MSG_BATCH_END {
            ended = true;
            if failed == 0 {
                if let Err(e) = t.check() {
                    refuse(r, e, &mut failed, out);
                } else if r.flag(nl::NLM_F_ACK) {
                    out.push(ack(c, r));
                }
            }
            break;
        }
        if body.len() < NFGENMSG_LEN || !r.flag(nl::NLM_F_REQUEST) || subsystem(hdr.kind) != NFNL_SUBSYS_NFTABLES {
            refuse(r, Errno::EINVAL.into(), &mut failed, out);
            continue;
        }
        match t.message(net, c, r) {
            Err(e) => refuse(r, e, &mut failed, out),
            Ok(()) if r.flag(nl::NLM_F_ACK) => out.push(ack(c, r)),
            Ok(()) => {}
        }
    }
    if ended && failed == 0 {
        t.commit(net, c);
    }
}
