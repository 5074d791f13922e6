//! What tc of iproute2 6.1 prints: frames of disciplines, classes and filters, statistics.
use super::tc_opt;
use super::tc_out::{Out, size};
use crate::out;
use belljar_abi::netlink::{NLMSG_HDRLEN, attrs, u32_at};
use belljar_abi::pkt_sched::*;
use belljar_kernel::view::Value;

/// What is asked to be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Show {
    pub stats: bool,
    pub details: bool,
    pub json: bool,
    /// Named on the command line, so not said again.
    pub ifindex: u32,
    pub parent: u32,
}

/// Attributes of one message or nest.
#[derive(Clone, Copy, Debug)]
pub struct Attrs<'a>(pub &'a [u8]);

impl<'a> Attrs<'a> {
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        attrs(self.0).filter(|(k, _)| *k == kind).last().map(|(_, v)| v)
    }

    pub fn u32(self, kind: u16) -> Option<u32> {
        u32_at(self.get(kind)?, 0)
    }

    pub fn u64(self, kind: u16) -> Option<u64> {
        self.get(kind)?.first_chunk::<8>().map(|b| u64::from_ne_bytes(*b))
    }

    pub fn text(self, kind: u16) -> &'a str {
        let b = self.get(kind).unwrap_or_default();
        let end = b.iter().position(|c| *c == 0).unwrap_or(b.len());
        std::str::from_utf8(&b[..end]).unwrap_or("?")
    }
}

/// All messages of a kind of object, as text or as JSON.
pub fn render(object: &str, messages: &[Vec<u8>], show: &Show, names: &dyn Fn(u32) -> String) -> String {
    let mut rows = Vec::new();
    let mut text = String::new();
    for m in messages {
        let Some(t) = m.get(NLMSG_HDRLEN..).and_then(TcMsg::parse) else { continue };
        let a = Attrs(m.get(NLMSG_HDRLEN + TcMsg::LEN..).unwrap_or(&[]));
        let mut o = Out::default();
        match object {
            "qdisc" => qdisc(&t, a, show, names, &mut o),
            "class" => class(&t, a, show, names, &mut o),
            _ => filter(&t, a, show, names, &mut o),
        }
        text.push_str(&o.text);
        rows.push(Value::Map(o.into_fields()));
    }
    // tc has no JSON of classes.
    match show.json && object != "class" {
        true => out::json(&Value::List(rows)),
        false => text,
    }
}

fn qdisc(t: &TcMsg, a: Attrs<'_>, show: &Show, names: &dyn Fn(u32) -> String, o: &mut Out) {
    let kind = a.text(TCA_KIND);
    o.string("kind", kind, format!("qdisc {kind}"));
    let handle = format!("{:x}:", t.handle >> 16);
    o.string("handle", &handle, format!(" {handle} "));
    if show.ifindex == 0 {
        let name = names(t.ifindex);
        o.string("dev", &name, format!("dev {name} "));
    }
    match t.parent {
        TC_H_ROOT => o.flag("root", "root "),
        0 => {}
        p => {
            let p = handle_text(p);
            o.string("parent", &p, format!("parent {p} "));
        }
    }
    if t.info != 1 {
        o.uint("refcnt", t.info.into(), format!("refcnt {} ", t.info));
    }
    o.open("options");
    if let Some(b) = a.get(TCA_OPTIONS) {
        tc_opt::qdisc(kind, b, show, o);
    }
    o.close();
    o.raw("\n");
    if show.stats {
        stats(a, o);
        o.raw("\n");
        if let Some(x) = Attrs(a.get(TCA_STATS2).unwrap_or(&[])).get(TCA_STATS_APP)
            && tc_opt::xstats(kind, x, o)
        {
            o.raw("\n");
        }
    }
}

fn class(t: &TcMsg, a: Attrs<'_>, show: &Show, names: &dyn Fn(u32) -> String, o: &mut Out) {
    let kind = a.text(TCA_KIND);
    o.raw(&format!("class {kind} {} ", handle_text(t.handle)));
    if show.ifindex == 0 {
        o.raw(&format!("dev {} ", names(t.ifindex)));
    }
    match t.parent {
        TC_H_ROOT => o.raw("root "),
        0 => {}
        p => o.raw(&format!("parent {} ", handle_text(p))),
    }
    if t.info != 0 {
        o.raw(&format!("leaf {:x}: ", t.info >> 16));
    }
    if let (Some(b), "htb") = (a.get(TCA_OPTIONS), kind) {
        tc_opt::htb_class(b, show, o);
    }
    o.raw("\n");
    if show.stats {
        if a.get(TCA_STATS2).is_some() {
            stats(a, o);
            o.raw("\n");
        }
        if let Some(x) = Attrs(a.get(TCA_STATS2).unwrap_or(&[])).get(TCA_STATS_APP) {
            tc_opt::class_xstats(kind, x, o);
            o.raw("\n");
        }
    }
}

/// `Sent …` and `backlog …`.
fn stats(a: Attrs<'_>, o: &mut Out) {
    if let Some(s) = a.get(TCA_STATS2) {
        stats_words(Attrs(s), " ", o);
    }
}

/// The same of the attributes themselves, each line behind `prefix`.
#[doc(alias = "print_tcstats2_attr")]
pub fn stats_words(s: Attrs<'_>, prefix: &str, o: &mut Out) {
    let basic = s.get(TCA_STATS_BASIC).unwrap_or_default();
    let bytes = basic.first_chunk::<8>().map_or(0, |b| u64::from_ne_bytes(*b));
    let packets = s.u64(TCA_STATS_PKT64).unwrap_or_else(|| u32_at(basic, 8).unwrap_or(0).into());
    let queue = s.get(TCA_STATS_QUEUE).unwrap_or_default();
    let word = |i: usize| u32_at(queue, 4 * i).unwrap_or(0);
    let [qlen, backlog, drops, requeues, overlimits] = std::array::from_fn(word);
    o.uint("bytes", bytes, format!("{prefix}Sent {bytes} bytes"));
    o.uint("packets", packets, format!(" {packets} pkt"));
    o.uint("drops", drops.into(), format!(" (dropped {drops},"));
    o.uint("overlimits", overlimits.into(), format!(" overlimits {overlimits}"));
    o.uint("requeues", requeues.into(), format!(" requeues {requeues}) "));
    o.uint("backlog", backlog.into(), format!("\n{prefix}backlog {}", size(backlog)));
    o.uint("qlen", qlen.into(), format!(" {qlen}p"));
    o.raw(&format!(" requeues {requeues}"));
}

fn filter(t: &TcMsg, a: Attrs<'_>, show: &Show, names: &dyn Fn(u32) -> String, o: &mut Out) {
    o.raw("filter ");
    if show.ifindex == 0 {
        let name = names(t.ifindex);
        o.string("dev", &name, format!("dev {name} "));
    }
    if show.parent != t.parent {
        match t.parent {
            TC_H_ROOT => o.flag("root", "root "),
            p if p == 0xffff_0000 | TC_H_MIN_INGRESS => o.flag("ingress", "ingress "),
            p if p == 0xffff_0000 | TC_H_MIN_EGRESS => o.flag("egress", "egress "),
            p => {
                let p = handle_text(p);
                o.string("parent", &p, format!("parent {p} "));
            }
        }
    }
    let (prio, protocol) = (t.info >> 16, u16::from_be(t.info as u16));
    if protocol != 0 {
        let name = match protocol {
            0x0800 => "ip".to_owned(),
            0x86dd => "ipv6".to_owned(),
            0x0806 => "arp".to_owned(),
            0x8100 => "802.1Q".to_owned(),
            3 => "all".to_owned(),
            n => format!("[{n}]"),
        };
        o.string("protocol", &name, format!("protocol {name} "));
    }
    if prio != 0 {
        o.uint("pref", prio.into(), format!("pref {prio} "));
    }
    let kind = a.text(TCA_KIND);
    o.string("kind", kind, format!("{kind} "));
    if let Some(chain) = a.u32(TCA_CHAIN) {
        o.uint("chain", chain.into(), format!("chain {chain} "));
    }
    if let Some(b) = a.get(TCA_OPTIONS) {
        o.open("options");
        tc_opt::filter(kind, t.handle, Attrs(b), (show, names), o);
        o.close();
    }
    o.raw("\n");
    if show.stats && a.get(TCA_STATS2).is_some() {
        stats(a, o);
        o.raw("\n");
    }
}
