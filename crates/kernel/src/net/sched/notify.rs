//! Changes told to members of RTNLGRP_TC (`tc monitor`): what is there before and after a request, compared.
use crate::ids::NsId;
use crate::net::Net;
use crate::net::netlink::notify;
use belljar_abi::netlink::{Msg, NLM_F_DUMP, NLMSG_HDRLEN, NlMsgHdr, attrs, messages};
use belljar_abi::pkt_sched::*;
use belljar_abi::rtnetlink::{RTM_DELQDISC, RTM_GETQDISC, RTM_NEWQDISC, RTNLGRP_TC};

/// `RTM_NEWCHAIN`.
const NEWCHAIN: u16 = 100;

/// Things of the request's kind on its device, as messages.
#[derive(Debug)]
pub(super) struct Look {
    asked: TcMsg,
    get: u16,
    is_new: bool,
    rows: Vec<Vec<u8>>,
}

impl Look {
    /// `None` when nobody listens.
    pub fn before(net: &Net, ns: NsId, kind: u16, body: &[u8]) -> Option<Look> {
        net.ns.get(ns).filter(|n| n.nl_groups & (1 << RTNLGRP_TC) != 0)?;
        // NEW, DEL and GET follow each other.
        let (get, is_new) = (kind / 4 * 4 + RTM_GETQDISC % 4, kind % 4 == RTM_NEWQDISC % 4);
        let asked = TcMsg::parse(body)?;
        Some(Look { asked, get, is_new, rows: rows(net, ns, get, asked) })
    }

    /// Tells what is different now.
    pub fn tell(self, net: &mut Net, ns: NsId) {
        let after = rows(net, ns, self.get, self.asked);
        let is_filter = self.get == RTM_GETTFILTER;
        for old in self.rows.iter().rev() {
            if !after.iter().any(|new| key(new) == key(old)) {
                push(net, ns, last_word(retyped(old, 1)));
            }
        }
        if is_filter && self.rows.is_empty() != after.is_empty() {
            push(net, ns, chain(self.asked, after.is_empty()));
        }
        for new in &after {
            let was = self.rows.iter().find(|old| key(old) == key(new));
            let same = was.is_some_and(|w| options(w) == options(new));
            let meant = self.is_new && key(new).is_some_and(|k| k.0.parent == self.asked.parent);
            // What a device has by itself is not told.
            let own = key(new).is_some_and(|k| k.0.handle == 0);
            if !own && (!same || (meant && !is_filter)) {
                push(net, ns, retyped(new, 0));
            }
        }
    }
}

fn rows(net: &Net, ns: NsId, get: u16, asked: TcMsg) -> Vec<Vec<u8>> {
    // Of filters those at the request's parent, of the rest all.
    let parent = if get == RTM_GETTFILTER { asked.parent } else { 0 };
    let t = TcMsg { ifindex: asked.ifindex, parent, ..TcMsg::default() };
    net.tc_get(ns, get, NLM_F_DUMP, &t.to_bytes(), (0, 0)).unwrap_or_default()
}

/// What makes a row the same one: where it is and of which kind it is.
fn key(row: &[u8]) -> Option<(TcMsg, &[u8])> {
    let (hdr, body) = messages(row).next()?;
    let t = TcMsg::parse(body)?;
    // Of disciplines the last number counts references.
    let info = if hdr.kind == RTM_NEWQDISC { 0 } else { t.info };
    let kind = attrs(body.get(TcMsg::LEN..)?).find(|a| a.0 == TCA_KIND)?.1;
    Some((TcMsg { info, ..t }, kind))
}

fn options(row: &[u8]) -> Option<&[u8]> {
    let (_, body) = messages(row).next()?;
    Some(attrs(body.get(TcMsg::LEN..)?).find(|a| a.0 == TCA_OPTIONS)?.1)
}

/// A row of a dump as a notice: `further` is how far its type is from NEW.
fn retyped(row: &[u8], further: u16) -> Vec<u8> {
    let mut out = row.to_vec();
    if let Some(h) = NlMsgHdr::parse(row) {
        let h = NlMsgHdr { kind: h.kind + further, flags: 0, ..h };
        out.iter_mut().zip(h.to_bytes()).for_each(|(t, b)| *t = b);
    }
    out
}

/// Of a discipline that goes nobody but the notice holds a reference any more.
fn last_word(mut row: Vec<u8>) -> Vec<u8> {
    let qdisc = messages(&row).next().is_some_and(|(h, _)| h.kind == RTM_DELQDISC);
    let info = NLMSG_HDRLEN + TcMsg::LEN - 4;
    if qdisc && let Some(b) = row.get_mut(info..info + 4) {
        b.copy_from_slice(&1u32.to_ne_bytes());
    }
    row
}

/// The first filter makes the chain that it is in, the last one takes it along.
fn chain(t: TcMsg, gone: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let t = TcMsg { handle: 0, info: 0, ..t };
    Msg::new(&mut out, NEWCHAIN + u16::from(gone), 0, 0, 0).body(&t.to_bytes()).attr_u32(TCA_CHAIN, 0);
    out
}

fn push(net: &mut Net, ns: NsId, bytes: Vec<u8>) {
    notify::tc(net, ns, bytes);
}
