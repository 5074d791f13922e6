//! Targets beyond those that almost every rule set has: NETMAP, TRACE, CLASSIFY, TEE, TTL and HL, DSCP and TOS, CHECKSUM, NFQUEUE,
//! and CT with a zone.
//!
//! Left out: SYNPROXY, ECN, TCPOPTSTRIP, HMARK, IDLETIMER, AUDIT, RATEEST, SECMARK, DNPT and SNPT, LED; CT with a helper, a timeout policy
//! or chosen events. They are refused as a kernel without them refuses.
use super::copy::tee;
use super::header::{TOS_NAMES, dscp_class, tos_value};
use super::*;
use crate::net::core::dev_tx::skb_checksum_help;
use crate::net::netfilter::STOLEN;
use crate::net::netfilter::conntrack::{CtInfo, Zone};
use crate::net::netfilter::mangle::change_sum;
use crate::net::netfilter::packet::addr;
use crate::net::netfilter::rules::{IfMatch, NAT_MAP_IPS, NatRange};
use crate::net::netfilter::table::Said;
use crate::net::netfilter::words::value::{address, full, masked_number, network, number};
use crate::net::netfilter::{Verdict, nat};
use std::fmt::Write as _;

/// By name and revision.
pub const TARGETS: &[(&str, u8)] = &[
    ("NETMAP", 0),
    ("TRACE", 0),
    ("CLASSIFY", 0),
    ("TEE", 1),
    ("TTL", 0),
    ("HL", 0),
    ("DSCP", 0),
    ("TOS", 1),
    ("CHECKSUM", 0),
    ("NFQUEUE", 0),
    ("NFQUEUE", 1),
    ("NFQUEUE", 2),
    ("NFQUEUE", 3),
];

/// Whether a family has the target.
pub fn is_of(pf: Pf, name: &str) -> bool {
    match name {
        "TTL" => pf == Pf::V4,
        "HL" => pf == Pf::V6,
        _ => true,
    }
}

/// `--queue-bypass`, and spreading by CPU.
const QUEUE_BYPASS: u16 = 1;
const QUEUE_CPU_FANOUT: u16 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    num: u16,
    total: u16,
    flags: u16,
    revision: u8,
}

/// What `CT --zone` says: a number, or the packet's mark; of which directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CtZone {
    pub zone: Zone,
    pub mark: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XtTarget {
    /// One network for another, address by address.
    Netmap(NatRange),
    Trace,
    Classify(u32),
    /// A copy goes by a router.
    Tee {
        gateway: u128,
        oif: IfMatch,
    },
    /// Set, more, less.
    Ttl {
        mode: u8,
        ttl: u8,
    },
    Dscp(u8),
    Tos {
        value: u8,
        mask: u8,
    },
    Checksum,
    Queue(Queue),
    Zone(CtZone),
}

const CT_ZONE_ORIG: u16 = 4;
const CT_ZONE_REPL: u16 = 8;
const CT_ZONE_MARK: u16 = 16;

/// ENOENT for what is not here.
pub fn read(pf: Pf, name: &str, revision: u8, r: &mut Reader<'_>) -> Result<XtTarget, Errno> {
    if !is_of(pf, name) {
        return Err(Errno::ENOENT);
    }
    Ok(match name {
        "NETMAP" => {
            let range = crate::net::netfilter::blob::ext::read_range(pf, 0, r)?;
            if range.flags & NAT_MAP_IPS == 0 {
                return Err(Errno::EINVAL);
            }
            XtTarget::Netmap(range)
        }
        "TRACE" => XtTarget::Trace,
        "CLASSIFY" => XtTarget::Classify(r.u32()?),
        "TEE" => read_tee(pf, r)?,
        "TTL" | "HL" => {
            let (mode, ttl) = (r.u8()?, r.u8()?);
            if mode > 2 || (mode != 0 && ttl == 0) {
                return Err(Errno::EINVAL);
            }
            XtTarget::Ttl { mode, ttl }
        }
        "DSCP" => XtTarget::Dscp(Some(r.u8()?).filter(|d| *d < 64).ok_or(Errno::EINVAL)?),
        "TOS" => XtTarget::Tos { value: r.u8()?, mask: r.u8()? },
        "CHECKSUM" => match r.u8()? {
            1 => XtTarget::Checksum,
            _ => return Err(Errno::EINVAL),
        },
        "NFQUEUE" => XtTarget::Queue(read_queue(revision, r)?),
        _ => return Err(Errno::ENOENT),
    })
}

/// EINVAL for a gateway that is none, and for a device's name without an end.
#[doc(alias = "tee_tg_check")]
fn read_tee(pf: Pf, r: &mut Reader<'_>) -> Result<XtTarget, Errno> {
    let gateway = r.inet(pf)?;
    let name = r.text(16)?;
    if gateway == 0 {
        return Err(Errno::EINVAL);
    }
    let oif = if name.is_empty() { Some(IfMatch::default()) } else { IfMatch::parse(name) };
    Ok(XtTarget::Tee { gateway, oif: oif.ok_or(Errno::EINVAL)? })
}

#[doc(alias = "nfqueue_tg_check")]
fn read_queue(revision: u8, r: &mut Reader<'_>) -> Result<Queue, Errno> {
    let num = r.u16()?;
    let total = if revision > 0 { r.u16()? } else { 1 };
    let flags = if revision > 1 { r.u16()? } else { 0 };
    let known = if revision == 2 { QUEUE_BYPASS } else { QUEUE_BYPASS | QUEUE_CPU_FANOUT };
    if total == 0 || u32::from(num) + u32::from(total) > 1 << 16 {
        return Err(Errno::ERANGE);
    }
    if flags & !known != 0 { Err(Errno::EINVAL) } else { Ok(Queue { num, total, flags, revision }) }
}

/// `CT` behind its flags, without NOTRACK. Helpers and timeout policies are not here: none has the name that is asked for.
#[doc(alias = "xt_ct_tg_check")]
pub fn read_ct(flags: u16, revision: u8, r: &mut Reader<'_>) -> Result<XtTarget, Errno> {
    let (id, events, expected) = (r.u16()?, r.u32()?, r.u32()?);
    let helper = r.text(16)?;
    let timeout = if revision > 0 { r.text(32)? } else { "" };
    let known = if revision == 2 { CT_ZONE_ORIG | CT_ZONE_REPL | CT_ZONE_MARK } else { 0 };
    if flags & !known != 0 || (flags & CT_ZONE_MARK != 0 && id != 0) {
        return Err(Errno::EINVAL);
    }
    if events != 0 || expected != 0 {
        return Err(Errno::EINVAL);
    }
    if !helper.is_empty() || !timeout.is_empty() {
        return Err(Errno::ENOENT);
    }
    let dirs = match (flags & CT_ZONE_ORIG != 0, flags & CT_ZONE_REPL != 0) {
        (false, false) | (true, true) => Zone::BOTH,
        (true, false) => Zone::ORIG,
        (false, true) => Zone::REPL,
    };
    Ok(XtTarget::Zone(CtZone { zone: Zone { id, dirs }, mark: flags & CT_ZONE_MARK != 0 }))
}

/// A target before its options are read.
pub fn load(pf: Pf, name: &str) -> Option<XtTarget> {
    let t = match name {
        "NETMAP" => XtTarget::Netmap(NatRange::default()),
        "TRACE" => XtTarget::Trace,
        "CLASSIFY" => XtTarget::Classify(0),
        "TEE" => XtTarget::Tee { gateway: 0, oif: IfMatch::default() },
        "TTL" | "HL" => XtTarget::Ttl { mode: 0, ttl: 0 },
        "DSCP" => XtTarget::Dscp(0),
        "TOS" => XtTarget::Tos { value: 0, mask: 0 },
        "CHECKSUM" => XtTarget::Checksum,
        "NFQUEUE" => XtTarget::Queue(Queue { num: 0, total: 1, flags: 0, revision: 3 }),
        _ => return None,
    };
    is_of(pf, name).then_some(t)
}

impl XtTarget {
    pub fn name(&self, pf: Pf) -> &'static str {
        match self {
            XtTarget::Netmap(_) => "NETMAP",
            XtTarget::Trace => "TRACE",
            XtTarget::Classify(_) => "CLASSIFY",
            XtTarget::Tee { .. } => "TEE",
            XtTarget::Ttl { .. } if pf == Pf::V6 => "HL",
            XtTarget::Ttl { .. } => "TTL",
            XtTarget::Dscp(_) => "DSCP",
            XtTarget::Tos { .. } => "TOS",
            XtTarget::Checksum => "CHECKSUM",
            XtTarget::Queue(_) => "NFQUEUE",
            XtTarget::Zone(_) => "CT",
        }
    }

    pub fn write(&self, pf: Pf, w: &mut Writer) -> (&'static str, u8) {
        let mut revision = 0;
        match self {
            XtTarget::Netmap(r) => crate::net::netfilter::blob::ext::write_range(w, pf, 0, r),
            XtTarget::Trace => {}
            XtTarget::Classify(n) => w.u32(*n),
            XtTarget::Tee { gateway, oif } => {
                revision = 1;
                w.inet(pf, *gateway);
                w.0.extend(oif.name);
                w.align();
                w.zeros(8);
            }
            XtTarget::Ttl { mode, ttl } => w.0.extend([*mode, *ttl]),
            XtTarget::Dscp(d) => w.u8(*d),
            XtTarget::Tos { value, mask } => {
                revision = 1;
                w.0.extend([*value, *mask]);
            }
            XtTarget::Checksum => w.u8(1),
            XtTarget::Queue(q) => {
                revision = q.revision;
                w.u16(q.num);
                w.u16(q.total);
                w.u16(q.flags);
                w.0.truncate([2, 4, 6, 6][usize::from(revision.min(3))]);
            }
            XtTarget::Zone(z) => {
                revision = 2;
                let dirs = match z.zone.dirs {
                    Zone::ORIG => CT_ZONE_ORIG,
                    Zone::REPL => CT_ZONE_REPL,
                    _ => 0,
                };
                w.u16(dirs | if z.mark { CT_ZONE_MARK } else { 0 });
                w.u16(z.zone.id);
                w.zeros(4 + 4 + 16 + 32);
                w.align();
                w.zeros(8);
            }
        }
        (self.name(pf), revision)
    }

    /// Whether it may stand there.
    pub fn allowed(&self, table: TableName, hooks: u8) -> bool {
        use Hook::*;
        let only = |at: &[Hook]| hooks & !at.iter().fold(0u8, |m, h| m | 1 << *h as u8) == 0;
        match self {
            XtTarget::Netmap(_) => table == TableName::Nat,
            XtTarget::Trace | XtTarget::Zone(_) => table == TableName::Raw,
            XtTarget::Classify(_) => only(&[LocalOut, Forward, PostRouting]),
            XtTarget::Ttl { .. } | XtTarget::Dscp(_) | XtTarget::Tos { .. } | XtTarget::Checksum => {
                table == TableName::Mangle
            }
            XtTarget::Tee { .. } | XtTarget::Queue(_) => true,
        }
    }

    pub fn needs_conntrack(&self) -> bool {
        matches!(self, XtTarget::Netmap(_) | XtTarget::Zone(_))
    }

    pub fn translates(&self) -> bool {
        matches!(self, XtTarget::Netmap(_))
    }

    /// What it says about the IP header is no longer what rules have read of it.
    pub fn rewrites(&self) -> bool {
        matches!(self, XtTarget::Ttl { .. } | XtTarget::Dscp(_) | XtTarget::Tos { .. })
    }

    #[cold]
    pub(in crate::net::netfilter) fn act(
        &self,
        net: &mut Net,
        ns: NsId,
        hook: Hook,
        p: &Pkt,
        skb: &mut SkBuff,
    ) -> Said {
        match self {
            XtTarget::Netmap(r) => return Said::Verdict(nat::netmap(net, hook, r, p, skb)),
            XtTarget::Trace => skb.nf_trace = true,
            XtTarget::Classify(n) => skb.priority = *n,
            XtTarget::Tee { gateway, oif } => tee(net, ns, hook, (*gateway, oif), p, skb),
            XtTarget::Ttl { mode, ttl } => {
                set_ttl(p, skb, |old| match mode {
                    0 => *ttl,
                    1 => old.saturating_add(*ttl),
                    _ => old.saturating_sub(*ttl),
                });
            }
            XtTarget::Dscp(d) => set_tos(p, skb, |old| old & 3 | d << 2),
            XtTarget::Tos { value, mask } => set_tos(p, skb, |old| old & !mask ^ value),
            XtTarget::Checksum if skb.gso.is_none() => skb_checksum_help(skb),
            XtTarget::Checksum => {}
            // Nobody listens on a queue here: it is lost, and who sent it is not told (`nf_queue`).
            XtTarget::Queue(q) if q.flags & QUEUE_BYPASS != 0 => return Said::Verdict(Verdict::Accept),
            XtTarget::Queue(_) => return Said::Verdict(Verdict::Drop(STOLEN)),
            XtTarget::Zone(z) => set_zone(skb, z),
        }
        Said::GoOn
    }
}

/// For a packet that is of no connection yet.
#[doc(alias = "xt_ct_target")]
fn set_zone(skb: &mut SkBuff, z: &CtZone) {
    if skb.nf.ct.is_none() && skb.nf.info == CtInfo::None {
        skb.nf.zone = if z.mark { Zone { id: skb.mark as u16, ..z.zone } } else { z.zone };
    }
}

/// From what stands in the header now: an earlier rule may have changed it.
fn set_ttl(p: &Pkt, skb: &mut SkBuff, new: impl Fn(u8) -> u8) {
    let at = if p.pf == Pf::V4 { 8 } else { 7 };
    let Some(b) = skb.head.bytes_mut().get_mut(at) else { return };
    let (old, ttl) = (*b, new(*b));
    *b = ttl;
    if p.pf == Pf::V4 {
        change_sum(skb, 10, u32::from(old) << 8, u32::from(ttl) << 8);
    }
}

fn set_tos(p: &Pkt, skb: &mut SkBuff, new: impl Fn(u8) -> u8) {
    let Some([a, b, ..]) = skb.head.bytes_mut().first_chunk_mut::<20>() else { return };
    if p.pf == Pf::V6 {
        let tos = new(*a << 4 | *b >> 4);
        (*a, *b) = (*a & 0xf0 | tos >> 4, *b & 0x0f | tos << 4);
        return;
    }
    let (old, tos) = (*b, new(*b));
    *b = tos;
    change_sum(skb, 10, old.into(), tos.into());
}

fn ttl_words(mode: u8) -> (&'static str, &'static str) {
    match mode {
        0 => ("set", "set to"),
        1 => ("inc", "increment by"),
        _ => ("dec", "decrement by"),
    }
}

/// The network that a range of NETMAP is.
fn mapped(pf: Pf, r: &NatRange) -> String {
    let mask = full(pf) & !(r.min ^ r.max);
    let a = addr(pf, r.min);
    match full(pf).count_ones() {
        width if mask.count_ones() == width => a.to_string(),
        width if full(pf) & u128::MAX.checked_shl(width - mask.count_ones()).unwrap_or(0) == mask => {
            format!("{a}/{}", mask.count_ones())
        }
        _ => format!("{a}/{}", addr(pf, mask)),
    }
}

impl XtTarget {
    /// Its words, each with a space before it.
    pub fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        match self {
            XtTarget::Netmap(r) if v.list => write!(o, " to:{}", mapped(v.pf, r)),
            XtTarget::Netmap(r) => write!(o, " --to {}", mapped(v.pf, r)),
            XtTarget::Trace => Ok(()),
            XtTarget::Classify(n) if v.list => write!(o, " CLASSIFY set {:x}:{:x}", n >> 16, n & 0xffff),
            XtTarget::Classify(n) => write!(o, " --set-class {:04x}:{:04x}", n >> 16, n & 0xffff),
            XtTarget::Tee { gateway, oif } => {
                let gw = addr(v.pf, *gateway);
                write!(o, "{}", if v.list { format!(" TEE gw:{gw}") } else { format!(" --gateway {gw}") })?;
                match (oif.is_any(), v.list) {
                    (true, _) => Ok(()),
                    (false, true) => write!(o, " oif={}", oif.text()),
                    (false, false) => write!(o, " --oif {}", oif.text()),
                }
            }
            XtTarget::Ttl { mode, ttl } => {
                let (short, long) = ttl_words(*mode);
                if v.list {
                    return write!(o, " {} {long} {ttl}", self.name(v.pf));
                }
                write!(o, " --{}-{short} {ttl}", if v.pf == Pf::V4 { "ttl" } else { "hl" })
            }
            XtTarget::Dscp(d) if v.list => write!(o, " DSCP set 0x{d:02x}"),
            XtTarget::Dscp(d) => write!(o, " --set-dscp 0x{d:02x}"),
            XtTarget::Tos { value, mask } => tos_words(o, *value, *mask, v),
            XtTarget::Checksum if v.list => write!(o, " CHECKSUM fill"),
            XtTarget::Checksum => write!(o, " --checksum-fill"),
            XtTarget::Queue(q) => q.print(o, v),
            XtTarget::Zone(z) => {
                let dir = match z.zone.dirs {
                    Zone::ORIG => "zone-orig",
                    Zone::REPL => "zone-reply",
                    _ => "zone",
                };
                o.push_str(if v.list { " CT " } else { " --" });
                if z.mark { write!(o, "{dir} mark") } else { write!(o, "{dir} {}", z.zone.id) }
            }
        }
    }
}

fn tos_words(o: &mut String, value: u8, mask: u8, v: Voice) -> fmt::Result {
    if !v.list {
        return write!(o, " --set-tos 0x{value:02x}/0x{mask:02x}");
    }
    o.push_str(" TOS ");
    let named = TOS_NAMES.iter().find(|n| mask == 0x3f && n.1 == value);
    match (v.numeric, named) {
        (true, _) => write!(o, "set 0x{value:02x}/0x{mask:02x}"),
        (_, Some(n)) => {
            // Two spaces before and none within, as the tool has it.
            o.truncate(o.len() - 5);
            write!(o, "  TOS set{}", n.0)
        }
        _ if mask == 0xff => write!(o, "set 0x{value:02x}/0xff"),
        _ if value == 0 => write!(o, "and 0x{:02x}", !mask),
        _ if value == mask => write!(o, "or 0x{value:02x}"),
        _ if mask == 0 => write!(o, "xor 0x{value:02x}"),
        _ => write!(o, "set 0x{value:02x}/0x{mask:02x}"),
    }
}

impl Queue {
    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        let (head, dash) = if v.list { (" NFQUEUE", " ") } else { ("", " --queue-") };
        o.push_str(head);
        match self.total {
            1 => write!(o, "{dash}num {}", self.num)?,
            n => write!(o, "{dash}balance {}:{}", self.num, u32::from(self.num) + u32::from(n) - 1)?,
        }
        for (bit, name) in [(QUEUE_BYPASS, "bypass"), (QUEUE_CPU_FANOUT, "cpu-fanout")] {
            if self.flags & bit != 0 {
                write!(o, "{dash}{name}")?;
            }
        }
        Ok(())
    }

    fn option(&mut self, word: &str, w: &mut Words<'_>) -> Done<Ext> {
        let short = |text: &str| number(text).and_then(|n| u16::try_from(n).ok());
        match word {
            "--queue-num" => {
                let text = w.value(word)?;
                let Some(n) = short(text) else { return bad("NFQUEUE", word, text) };
                (self.num, self.total) = (n, 1);
            }
            "--queue-balance" => {
                let text = w.value(word)?;
                let ends = text.split_once(':').and_then(|(a, b)| short(a).zip(short(b))).filter(|(a, b)| a < b);
                let Some((lo, hi)) = ends else { return bad("NFQUEUE", word, text) };
                (self.num, self.total) = (lo, hi - lo + 1);
            }
            "--queue-bypass" => self.flags |= QUEUE_BYPASS,
            "--queue-cpu-fanout" => self.flags |= QUEUE_CPU_FANOUT,
            _ => return Ok(Ext::Unknown),
        }
        Ok(Ext::Taken)
    }
}

impl XtTarget {
    /// An option, and whether it is one that the target cannot be without.
    pub(in crate::net::netfilter) fn option(&mut self, pf: Pf, word: &str, w: &mut Words<'_>) -> Done<Ext> {
        let lower = if pf == Pf::V4 { "--ttl-" } else { "--hl-" };
        match self {
            XtTarget::Netmap(r) if word == "--to" => {
                let m = network(pf, w.value(word)?)?;
                *r = NatRange {
                    flags: NAT_MAP_IPS,
                    min: m.addr,
                    max: m.addr | full(pf) & !m.mask,
                    ..NatRange::default()
                };
            }
            XtTarget::Classify(n) if word == "--set-class" => {
                let text = w.value(word)?;
                let half = |t: &str| u16::from_str_radix(t, 16).ok().map(u32::from);
                match text.split_once(':').and_then(|(a, b)| half(a).zip(half(b))) {
                    Some((a, b)) => *n = a << 16 | b,
                    None => return usage(format!("Bad class value \"{text}\"")),
                }
            }
            XtTarget::Tee { gateway, .. } if word == "--gateway" => {
                let text = w.value(word)?;
                let Some(a) = address(pf, text).filter(|a| *a != 0) else { return bad("TEE", word, text) };
                *gateway = a;
            }
            XtTarget::Tee { oif, .. } if word == "--oif" => {
                let text = w.value(word)?;
                let Some(m) = IfMatch::parse(text) else { return bad("TEE", word, text) };
                *oif = m;
            }
            XtTarget::Ttl { mode, ttl } if word.starts_with(lower) => {
                let which = match word.strip_prefix(lower) {
                    Some("set") => 0,
                    Some("inc") => 1,
                    Some("dec") => 2,
                    _ => return Ok(Ext::Unknown),
                };
                let text = w.value(word)?;
                let n = number(text).and_then(|n| u8::try_from(n).ok()).filter(|n| which == 0 || *n > 0);
                let Some(n) = n else { return bad(if pf == Pf::V4 { "TTL" } else { "HL" }, word, text) };
                (*mode, *ttl) = (which, n);
            }
            XtTarget::Dscp(d) if matches!(word, "--set-dscp" | "--set-dscp-class") => {
                let text = w.value(word)?;
                let named = word == "--set-dscp-class";
                let n = number(text).and_then(|n| u8::try_from(n).ok()).filter(|n| *n < 64);
                match if named { dscp_class(text) } else { n } {
                    Some(n) => *d = n,
                    None => return bad("DSCP", word, text),
                }
            }
            XtTarget::Tos { value, mask } => {
                if !matches!(word, "--set-tos" | "--and-tos" | "--or-tos" | "--xor-tos") {
                    return Ok(Ext::Unknown);
                }
                let text = w.value(word)?;
                let Some((v, m)) = tos_value(text) else { return bad("TOS", word, text) };
                (*value, *mask) = match word {
                    "--set-tos" => (v, m),
                    "--and-tos" => (0, !v),
                    "--or-tos" => (v, v),
                    _ => (v, 0),
                };
            }
            XtTarget::Checksum if word == "--checksum-fill" => {}
            XtTarget::Queue(q) => return q.option(word, w),
            _ => return Ok(Ext::Unknown),
        }
        Ok(Ext::Taken)
    }

    /// `--zone`, `--zone-orig` and `--zone-reply` of CT.
    pub(in crate::net::netfilter) fn zone_option(word: &str, w: &mut Words<'_>) -> Done<Option<XtTarget>> {
        let dirs = match word {
            "--zone" => Zone::BOTH,
            "--zone-orig" => Zone::ORIG,
            "--zone-reply" => Zone::REPL,
            _ => return Ok(None),
        };
        let text = w.value(word)?;
        let id = match text {
            "mark" => 0,
            _ => match masked_number(text, "CT") {
                Ok((n, None)) if n <= u16::MAX.into() => n as u16,
                _ => return bad("CT", word, text),
            },
        };
        Ok(Some(XtTarget::Zone(CtZone { zone: Zone { id, dirs }, mark: text == "mark" })))
    }

    /// What is missing when all options have been read.
    pub(in crate::net::netfilter) fn finish(&self, given: bool) -> Done {
        match self {
            _ if given => Ok(()),
            XtTarget::Trace | XtTarget::Queue(_) => Ok(()),
            XtTarget::Netmap(_) => must("NETMAP", "--to"),
            XtTarget::Classify(_) => must("CLASSIFY", "--set-class"),
            XtTarget::Tee { .. } => must("TEE", "--gateway"),
            XtTarget::Ttl { .. } => usage("TTL: You must specify an action"),
            XtTarget::Dscp(_) => usage("DSCP target: Parameter --set-dscp is required"),
            XtTarget::Tos { .. } => usage("TOS target: An action is required"),
            XtTarget::Checksum => usage("CHECKSUM target: Parameter --checksum-fill is required"),
            XtTarget::Zone(_) => Ok(()),
        }
    }
}
