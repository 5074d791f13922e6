//! RTM_*QDISC, RTM_*TCLASS, RTM_*TFILTER: what [`sched`](crate::net::sched) understands and tells, as answers.
use super::{Caller, DATAGRAM, Req};
use crate::net::Net;
use crate::net::sched::TcError;
use belljar_abi::Errno;
use belljar_abi::netlink as nl;
use belljar_abi::pkt_sched::*;
use belljar_abi::rtnetlink::{RTM_DELQDISC, RTM_GETQDISC, RTM_NEWQDISC};

/// Requests of traffic control.
pub fn is_mine(kind: u16) -> bool {
    let changes = [RTM_NEWQDISC, RTM_DELQDISC, RTM_NEWTCLASS, RTM_DELTCLASS, RTM_NEWTFILTER, RTM_DELTFILTER];
    changes.contains(&kind) || asks(kind) || is_action(kind)
}

/// Those that change nothing.
pub fn asks(kind: u16) -> bool {
    [RTM_GETQDISC, RTM_GETTCLASS, RTM_GETTFILTER, RTM_GETACTION].contains(&kind)
}

fn is_action(kind: u16) -> bool {
    [RTM_NEWACTION, RTM_DELACTION, RTM_GETACTION].contains(&kind)
}

pub(super) fn one(net: &mut Net, c: &Caller<'_>, r: Req<'_>, all: &mut Vec<Vec<u8>>) {
    let mut out = Vec::new();
    let kind = r.hdr.kind;
    let asker = (r.hdr.seq, c.port);
    let answers = match (is_action(kind), asks(kind)) {
        (true, false) if !c.net_admin => Some(Err(TcError::plain(Errno::EPERM))),
        (true, _) => Some(net.tc_actions(c.ns, kind, r.hdr.flags, r.body, asker)),
        (false, true) => Some(net.tc_get(c.ns, kind, r.hdr.flags, r.body, asker)),
        (false, false) => None,
    };
    let done = match answers {
        Some(found) => found.map(|messages| {
            for m in messages {
                if out.len() + m.len() > DATAGRAM {
                    all.push(std::mem::take(&mut out));
                }
                out.extend_from_slice(&m);
            }
            if r.hdr.flags & nl::NLM_F_DUMP == nl::NLM_F_DUMP {
                nl::done(&mut out, r.hdr.seq, c.port);
            }
            None
        }),
        None if !c.net_admin => Err(TcError::plain(Errno::EPERM)),
        None => net.tc(c.ns, kind, r.hdr.flags, r.body),
    };
    match done {
        Err(e) => {
            let text = Some(&*e.text).filter(|t| !t.is_empty());
            nl::error_with(&mut out, r.hdr, r.body, (e.errno, nl::ExtAck { text, offset: None }), c.form, c.port);
        }
        Ok(Some(warning)) => {
            let ext = nl::ExtAck { text: Some(&warning), offset: None };
            nl::error_with(&mut out, r.hdr, r.body, (Errno(0), ext), c.form, c.port);
        }
        Ok(None) if !asks(kind) && r.flag(nl::NLM_F_ACK) => nl::error(&mut out, r.hdr, r.body, Ok(()), c.port),
        Ok(None) => {}
    }
    if !out.is_empty() {
        all.push(out);
    }
}
