//! Tables in the kernel's own layout (`struct ipt_entry` and its kin), as `iptables-legacy` reads and replaces them.
//!
//! What comes from a program is data: every offset is checked, every loop ends with the bytes, and a table whose chains are not
//! laid out as `libiptc` lays them out (built-in chains, then user chains behind their names) is refused with EINVAL.
pub(crate) mod ext;
mod multiport;
mod owner;
pub(super) mod physdev;
mod set;

use super::rules::*;
use super::{Hook, Pf, ipset};
use crate::ids::NsId;
use crate::net::Net;
use belljar_abi::Errno;
use belljar_abi::ipset::SO_IP_SET;
use ext::{Reader, Writer};

/// The longest table that is taken.
pub const MAX_BLOB: usize = 64 << 20;

pub const SO_SET_REPLACE: i32 = 64;
pub const SO_SET_ADD_COUNTERS: i32 = 65;
pub const SO_GET_INFO: i32 = 64;
pub const SO_GET_ENTRIES: i32 = 65;
/// Of IPv4; IPv6 has them two further on.
const SO_GET_REVISION_MATCH: i32 = 66;
const SO_GET_REVISION_TARGET: i32 = 67;

/// Whether an option of `SOL_IP` or `SOL_IPV6` is about tables.
pub fn is_option(pf: Pf, set: bool, name: i32) -> bool {
    match (set, pf) {
        (true, _) | (false, Pf::V6) if name == 64 || name == 65 => true,
        (false, Pf::V4) if name == SO_IP_SET => true,
        (false, Pf::V4) => (SO_GET_INFO..=SO_GET_REVISION_TARGET).contains(&name),
        (false, Pf::V6) => matches!(name, 68 | 69),
        _ => false,
    }
}

/// `sizeof(struct ipt_entry)`, and of IPv6's.
fn entry_len(pf: Pf) -> usize {
    if pf == Pf::V4 { 112 } else { 168 }
}

/// `struct xt_entry_match` and `xt_entry_target` before their data.
const XT_HEADER: usize = 32;
const NF_ACCEPT: i32 = -2;
const NF_DROP: i32 = -1;
const NF_QUEUE: i32 = -4;
const XT_RETURN: i32 = -5;

/// One entry as it stands in the table.
struct Entry {
    at: usize,
    next: usize,
    ip: IpMatch,
    goto: bool,
    matches: Vec<Match>,
    target: Said,
}

enum Said {
    Verdict(i32),
    /// The head of a chain.
    Error(String),
    Target(Target),
}

impl Entry {
    fn is_plain(&self) -> bool {
        self.ip == IpMatch::default() && self.matches.is_empty()
    }
}

fn read_ip(pf: Pf, r: &mut Reader<'_>) -> Result<(IpMatch, bool), Errno> {
    let mut ip = IpMatch::default();
    let (src, dst) = (r.addr(pf)?, r.addr(pf)?);
    let (smask, dmask) = (r.addr(pf)?, r.addr(pf)?);
    (ip.src, ip.dst) = (Masked { addr: src & smask, mask: smask }, Masked { addr: dst & dmask, mask: dmask });
    for to in [&mut ip.iin.name, &mut ip.iout.name, &mut ip.iin.mask, &mut ip.iout.mask] {
        to.copy_from_slice(r.bytes(16)?);
    }
    ip.proto = r.u16()?;
    let (flags, inv, goto) = match pf {
        Pf::V4 => {
            let (flags, inv) = (r.u8()?, r.u8()?);
            if flags & !3 != 0 {
                return Err(Errno::EINVAL);
            }
            (flags & 1 != 0, inv, flags & 2 != 0)
        }
        Pf::V6 => {
            // The protocol counts only when it is asked for; the type of service is not matched here.
            let (_tos, flags, inv) = (r.u8()?, r.u8()?, r.u8()?);
            r.bytes(3)?;
            if flags & !7 != 0 || flags & 2 != 0 {
                return Err(Errno::EINVAL);
            }
            if flags & 1 == 0 {
                ip.proto = 0;
            }
            (false, inv, flags & 4 != 0)
        }
    };
    if inv & !0x7f != 0 || inv & 4 != 0 {
        return Err(Errno::EINVAL);
    }
    (ip.frag, ip.inv) = (flags, inv);
    Ok((ip, goto))
}

fn write_ip(w: &mut Writer, pf: Pf, ip: &IpMatch, goto: bool) {
    for v in [ip.src.addr, ip.dst.addr, ip.src.mask, ip.dst.mask] {
        w.addr(pf, v);
    }
    for b in [&ip.iin.name, &ip.iout.name, &ip.iin.mask, &ip.iout.mask] {
        w.0.extend(b);
    }
    w.u16(ip.proto);
    match pf {
        Pf::V4 => {
            w.u8(u8::from(ip.frag) | u8::from(goto) << 1);
            w.u8(ip.inv);
        }
        Pf::V6 => {
            w.0.extend([0, u8::from(ip.proto != 0) | u8::from(goto) << 2, ip.inv]);
            w.zeros(3);
        }
    }
}

fn read_entry(pf: Pf, blob: &[u8], at: usize) -> Result<Entry, Errno> {
    let b = blob.get(at..).ok_or(Errno::EINVAL)?;
    let r = &mut Reader(b);
    let (ip, goto) = read_ip(pf, r)?;
    r.u32()?;
    let (target_at, next) = (usize::from(r.u16()?), usize::from(r.u16()?));
    let head = entry_len(pf);
    let bounds = target_at >= head && next % 8 == 0 && target_at + XT_HEADER <= next && next <= b.len();
    if !bounds {
        return Err(Errno::EINVAL);
    }
    let mut rest = b.get(head..target_at).ok_or(Errno::EINVAL)?;
    let mut matches = Vec::new();
    while !rest.is_empty() {
        let (name, revision, data, len) = extension(rest)?;
        matches.push(ext::read_match(pf, name, revision, data)?);
        rest = rest.get(len..).ok_or(Errno::EINVAL)?;
    }
    let (name, revision, data, len) = extension(b.get(target_at..next).ok_or(Errno::EINVAL)?)?;
    if target_at + len > next {
        return Err(Errno::EINVAL);
    }
    let target = match (name, revision) {
        ("", 0) => Said::Verdict(Reader(data).u32()? as i32),
        ("ERROR", 0) => Said::Error(Reader(data).text(30)?.to_owned()),
        _ => Said::Target(ext::read_target(pf, name, revision, data)?),
    };
    Ok(Entry { at, next: at + next, ip, goto, matches, target })
}

/// Name, revision, data and length of a match or target.
fn extension(b: &[u8]) -> Result<(&str, u8, &[u8], usize), Errno> {
    let mut r = Reader(b);
    let len = usize::from(r.u16()?);
    let name = r.text(29)?;
    let revision = r.u8()?;
    if len < XT_HEADER || len % 8 != 0 {
        return Err(Errno::EINVAL);
    }
    let data = b.get(XT_HEADER..len).ok_or(Errno::EINVAL)?;
    Ok((name, revision, data, len))
}

/// A table from `struct ipt_replace` and what follows it.
#[doc(alias = "translate_table")]
pub fn decode(pf: Pf, blob: &[u8]) -> Result<(Table, u32, u64), Errno> {
    let mut r = Reader(blob);
    let name = TableName::parse(r.text(32)?).ok_or(Errno::ENOENT)?;
    let (valid, count, size) = (r.u32()?, r.u32()? as usize, r.u32()? as usize);
    let mut hooks = [[0usize; 5]; 2];
    for h in hooks.iter_mut().flatten() {
        *h = r.u32()? as usize;
    }
    let old = r.u32()?;
    let pointer = r.u64()?;
    let entries = r.0;
    let wanted = name.hooks().iter().fold(0u32, |m, h| m | 1 << *h as u32);
    if valid != wanted || entries.len() != size || size > MAX_BLOB || count > size / entry_len(pf) {
        return Err(Errno::EINVAL);
    }
    let mut list = Vec::new();
    let mut at = 0;
    while at < size {
        let e = read_entry(pf, entries, at)?;
        at = e.next;
        list.push(e);
    }
    if list.len() != count {
        return Err(Errno::EINVAL);
    }
    let table = chains(name, list, &hooks[0], &hooks[1])?;
    Ok((table, old, pointer))
}

/// Where a chain begins and ends in the list of entries, its end being its policy or its last RETURN.
struct Span {
    name: String,
    base: Option<(Hook, Policy)>,
    first: usize,
    last: usize,
}

fn chains(name: TableName, list: Vec<Entry>, entry: &[usize; 5], under: &[usize; 5]) -> Result<Table, Errno> {
    let find = |offset: usize| list.binary_search_by_key(&offset, |e| e.at).map_err(|_| Errno::EINVAL);
    let mut spans = Vec::new();
    let mut behind = 0;
    for h in name.hooks() {
        let (first, last) = (find(entry[*h as usize])?, find(under[*h as usize])?);
        let policy = match list.get(last) {
            Some(e) if e.is_plain() => match e.target {
                Said::Verdict(NF_ACCEPT) => Policy::Accept,
                Said::Verdict(NF_DROP) => Policy::Drop,
                _ => return Err(Errno::EINVAL),
            },
            _ => return Err(Errno::EINVAL),
        };
        if first < behind || last < first {
            return Err(Errno::EINVAL);
        }
        behind = last + 1;
        spans.push(Span { name: h.chain().into(), base: Some((*h, policy)), first, last });
    }
    // User chains, each behind its name; at last an entry that names none.
    while let Some(Entry { target: Said::Error(chain), .. }) = list.get(behind) {
        let first = behind + 1;
        let len = list[first..].iter().position(|e| matches!(e.target, Said::Error(_)));
        let Some(len) = len else { break };
        if chain.is_empty() || chain.len() > CHAIN_NAME_MAX || len == 0 {
            return Err(Errno::EINVAL);
        }
        let last = first + len - 1;
        let returns = list[last].is_plain() && matches!(list[last].target, Said::Verdict(XT_RETURN));
        spans.push(Span { name: chain.clone(), base: None, first, last: if returns { last } else { last + 1 } });
        behind = first + len;
    }
    let ends = matches!(list.get(behind), Some(Entry { target: Said::Error(_), .. })) && behind + 1 == list.len();
    if !ends || spans.len() > MAX_CHAINS {
        return Err(Errno::EINVAL);
    }
    build(name, list, spans)
}

fn build(name: TableName, list: Vec<Entry>, spans: Vec<Span>) -> Result<Table, Errno> {
    // First entry of each user chain, in order of offset as the chains are.
    let starts: Vec<(usize, u32)> = (spans.iter().enumerate())
        .filter(|(_, s)| s.base.is_none())
        .filter_map(|(n, s)| list.get(s.first).map(|e| (e.at, n as u32)))
        .collect();
    let mut out: Vec<Chain> = spans.iter().map(|s| Chain { base: s.base, ..Chain::user(&s.name) }).collect();
    let mut names: Vec<&str> = spans.iter().map(|s| s.name.as_str()).collect();
    names.sort_unstable();
    if names.windows(2).any(|w| w[0] == w[1]) {
        return Err(Errno::EINVAL);
    }
    let mut list: Vec<Option<Entry>> = list.into_iter().map(Some).collect();
    for (chain, span) in out.iter_mut().zip(&spans) {
        for e in list.get_mut(span.first..span.last).ok_or(Errno::EINVAL)? {
            let Some(e) = e.take() else { return Err(Errno::EINVAL) };
            let target = match e.target {
                Said::Verdict(NF_ACCEPT) => Target::Accept,
                Said::Verdict(NF_DROP) => Target::Drop,
                Said::Verdict(NF_QUEUE) => Target::Queue,
                Said::Verdict(XT_RETURN) => Target::Return,
                Said::Verdict(to) if to >= 0 && to as usize == e.next && !e.goto => Target::None,
                Said::Verdict(to) if to >= 0 => {
                    let at = starts.binary_search_by_key(&(to as usize), |s| s.0).map_err(|_| Errno::EINVAL)?;
                    Target::Jump { chain: starts[at].1, goto: e.goto }
                }
                Said::Verdict(_) | Said::Error(_) => return Err(Errno::EINVAL),
                Said::Target(t) => t,
            };
            chain.rules.push(Rule { ip: e.ip, matches: e.matches, target, counters: Counters::default() });
        }
    }
    Table::of(name, out)
}

/// A table laid out: its bytes, where hooks enter and where their policies are.
#[derive(Clone, Debug, Default)]
pub struct Laid {
    pub bytes: Vec<u8>,
    pub entries: usize,
    pub hook_entry: [u32; 5],
    pub underflow: [u32; 5],
}

/// A rule's matches, in bytes.
fn matches(pf: Pf, r: &Rule) -> Vec<u8> {
    let mut w = Writer::default();
    for m in &r.matches {
        let (name, revision, data) = ext::write_match(pf, m);
        header(&mut w, name, revision, &data);
    }
    w.0
}

fn header(w: &mut Writer, name: &str, revision: u8, data: &[u8]) {
    w.u16((XT_HEADER + data.len()).next_multiple_of(8) as u16);
    w.text(name, 29);
    w.u8(revision);
    w.0.extend(data);
    w.align();
}

/// Bytes of an entry whose target is a verdict.
fn verdict_len(pf: Pf) -> usize {
    entry_len(pf) + XT_HEADER + 8
}

fn error_len(pf: Pf) -> usize {
    entry_len(pf) + XT_HEADER + 32
}

fn put(o: &mut Laid, pf: Pf, ip: &IpMatch, goto: bool, matches: &[u8], target: &[u8], c: Counters) {
    let mut w = Writer(std::mem::take(&mut o.bytes));
    write_ip(&mut w, pf, ip, goto);
    w.u32(0);
    let target_at = entry_len(pf) + matches.len();
    w.u16(target_at as u16);
    w.u16((target_at + target.len()) as u16);
    w.u32(0);
    if pf == Pf::V6 {
        w.zeros(4);
    }
    w.u64(c.packets);
    w.u64(c.bytes);
    w.0.extend(matches);
    w.0.extend(target);
    o.bytes = w.0;
    o.entries += 1;
}

fn verdict(v: i32) -> Vec<u8> {
    let mut w = Writer::default();
    header(&mut w, "", 0, &v.to_ne_bytes());
    w.0
}

fn error(name: &str) -> Vec<u8> {
    let (mut w, mut data) = (Writer::default(), Writer::default());
    data.text(name, 30);
    header(&mut w, "ERROR", 0, &data.0);
    w.0
}

/// A rule's matches, and its target where that is more than a verdict.
type Body = (Vec<u8>, Option<Vec<u8>>);

/// Lays a table out as `libiptc` expects it.
#[doc(alias = "copy_entries_to_user")]
pub fn encode(pf: Pf, t: &Table) -> Laid {
    // Where the first entry of each chain will be.
    let bodies: Vec<Vec<Body>> =
        (t.chains.iter()).map(|c| c.rules.iter().map(|r| (matches(pf, r), special(pf, &r.target))).collect()).collect();
    let mut first = Vec::new();
    let mut at = 0;
    for (c, rules) in t.chains.iter().zip(&bodies) {
        at += if c.base.is_none() { error_len(pf) } else { 0 };
        first.push(at as u32);
        at += rules
            .iter()
            .map(|(m, t)| entry_len(pf) + m.len() + t.as_ref().map_or(XT_HEADER + 8, Vec::len))
            .sum::<usize>();
        at += verdict_len(pf);
    }
    let mut o = Laid { hook_entry: [u32::MAX; 5], underflow: [u32::MAX; 5], ..Laid::default() };
    let any = IpMatch::default();
    for (n, (c, rules)) in t.chains.iter().zip(bodies).enumerate() {
        match c.base {
            Some((h, _)) => o.hook_entry[h as usize] = first[n],
            None => put(&mut o, pf, &any, false, &[], &error(&c.name), Counters::default()),
        }
        for (r, (matches, target)) in c.rules.iter().zip(rules) {
            let next = o.bytes.len() + entry_len(pf) + matches.len() + XT_HEADER + 8;
            let (v, goto) = match &r.target {
                Target::Accept => (NF_ACCEPT, false),
                Target::Drop => (NF_DROP, false),
                Target::Queue => (NF_QUEUE, false),
                Target::Return => (XT_RETURN, false),
                Target::Jump { chain, goto } => (first.get(*chain as usize).map_or(0, |f| *f as i32), *goto),
                _ => (next as i32, false),
            };
            let target = target.unwrap_or_else(|| verdict(v));
            put(&mut o, pf, &r.ip, goto, &matches, &target, r.counters);
        }
        let last = match c.base {
            Some((h, p)) => {
                o.underflow[h as usize] = o.bytes.len() as u32;
                if p == Policy::Accept { NF_ACCEPT } else { NF_DROP }
            }
            None => XT_RETURN,
        };
        put(&mut o, pf, &any, false, &[], &verdict(last), c.counters);
    }
    put(&mut o, pf, &any, false, &[], &error("ERROR"), Counters::default());
    o
}

fn special(pf: Pf, t: &Target) -> Option<Vec<u8>> {
    let (name, revision, data) = ext::write_target(pf, t)?;
    let mut w = Writer::default();
    header(&mut w, name, revision, &data);
    Some(w.0)
}

/// Counters in the order of entries; a chain's head and end have some too, which count nothing.
fn counters(t: &mut Table, mut f: impl FnMut(&mut Counters)) {
    let mut none = Counters::default();
    for c in &mut t.chains {
        if c.base.is_none() {
            f(&mut none);
        }
        c.rules.iter_mut().for_each(|r| f(&mut r.counters));
        f(&mut c.counters);
    }
    f(&mut none);
}

/// What a replacement gives back: the old table's counters, and where the program wants them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OldCounters {
    pub pointer: u64,
    pub bytes: Vec<u8>,
}

impl Net {
    /// `asked`: what the program's buffer holds, which names what it wants.
    #[doc(alias = "do_ipt_get_ctl")]
    pub fn xt_getsockopt(&mut self, ns: NsId, pf: Pf, name: i32, asked: &[u8]) -> Result<Vec<u8>, Errno> {
        let shift = if pf == Pf::V6 { 2 } else { 0 };
        match name {
            SO_GET_INFO | SO_GET_ENTRIES => {}
            SO_IP_SET => return self.ipset_getsockopt(ns, asked),
            n if n == SO_GET_REVISION_MATCH + shift => return revision(asked, &ext::matches(pf)),
            n if n == SO_GET_REVISION_TARGET + shift => return revision(asked, &ext::targets(pf)),
            _ => return Err(Errno::EINVAL),
        }
        let mut r = Reader(asked);
        let text = r.text(32)?.to_owned();
        let table = TableName::parse(&text).ok_or(Errno::ENOENT)?;
        let t = self.nf_table(ns, pf, table).ok_or(Errno::EINVAL)?;
        let laid = encode(pf, t);
        let mut w = Writer::default();
        w.text(&text, 32);
        if name == SO_GET_INFO {
            if asked.len() != 84 {
                return Err(Errno::EINVAL);
            }
            w.u32(table.hooks().iter().fold(0, |m, h| m | 1 << *h as u32));
            laid.hook_entry.iter().chain(&laid.underflow).for_each(|v| w.u32(*v));
            w.u32(laid.entries as u32);
            w.u32(laid.bytes.len() as u32);
            return Ok(w.0);
        }
        let size = r.u32()? as usize;
        if size != laid.bytes.len() || asked.len() < 40 + size {
            return Err(Errno::EAGAIN);
        }
        w.u32(size as u32);
        w.zeros(4);
        w.0.extend(laid.bytes);
        Ok(w.0)
    }

    #[doc(alias = "do_ipt_set_ctl")]
    pub fn xt_setsockopt(&mut self, ns: NsId, pf: Pf, name: i32, value: &[u8]) -> Result<OldCounters, Errno> {
        match name {
            SO_SET_REPLACE => self.xt_replace(ns, pf, value),
            SO_SET_ADD_COUNTERS => self.xt_add_counters(ns, pf, value).map(|()| OldCounters::default()),
            _ => Err(Errno::EINVAL),
        }
    }

    fn xt_replace(&mut self, ns: NsId, pf: Pf, value: &[u8]) -> Result<OldCounters, Errno> {
        let (mut new, count, pointer) = decode(pf, value)?;
        new.check_targets(pf)?;
        let none = ipset::Sets::default();
        let sets = self.ns.get(ns).and_then(|n| n.ipset.as_deref()).unwrap_or(&none);
        for r in new.chains.iter_mut().flat_map(|c| &mut c.rules) {
            r.matches.iter_mut().try_for_each(|m| sets.resolve_match(m))?;
            sets.resolve_target(&mut r.target)?;
        }
        let old = self.nf_table(ns, pf, new.name).ok_or(Errno::EINVAL)?;
        let mut w = Writer::default();
        counters(old, |c| {
            w.u64(c.packets);
            w.u64(c.bytes);
        });
        if w.0.len() != count as usize * 16 {
            return Err(Errno::EAGAIN);
        }
        self.nf_set_table(ns, pf, new);
        Ok(OldCounters { pointer, bytes: w.0 })
    }

    fn xt_add_counters(&mut self, ns: NsId, pf: Pf, value: &[u8]) -> Result<(), Errno> {
        let mut r = Reader(value);
        let table = TableName::parse(r.text(32)?).ok_or(Errno::ENOENT)?;
        let count = r.u32()? as usize;
        r.u32()?;
        let t = self.nf_table(ns, pf, table).ok_or(Errno::EINVAL)?;
        let mut entries = 0;
        counters(t, |_| entries += 1);
        if count != entries || r.0.len() != count * 16 {
            return Err(Errno::EINVAL);
        }
        counters(t, |c| {
            let mut next = || r.u64().unwrap_or(0);
            c.packets = c.packets.wrapping_add(next());
            c.bytes = c.bytes.wrapping_add(next());
        });
        Ok(())
    }
}

/// `struct xt_get_revision`: whether the extension is here in this revision.
fn revision(asked: &[u8], known: &[(&str, u8)]) -> Result<Vec<u8>, Errno> {
    let mut r = Reader(asked);
    let (name, rev) = (r.text(29)?, r.u8()?);
    if asked.len() != 30 {
        return Err(Errno::EINVAL);
    }
    if known.contains(&(name, rev)) {
        return Ok(asked.to_vec());
    }
    Err(if known.iter().any(|k| k.0 == name) { Errno::EPROTONOSUPPORT } else { Errno::ENOENT })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_laid_out_as_the_kernel_has_it() {
        let laid = encode(Pf::V4, &Table::new(TableName::Nat));
        // As IPT_SO_GET_INFO of 6.18 says for nat.
        assert_eq!(laid.hook_entry, [0, 0x98, u32::MAX, 0x130, 0x1c8]);
        assert_eq!((laid.entries, laid.bytes.len()), (5, 0x310));
        let laid = encode(Pf::V6, &Table::new(TableName::Filter));
        assert_eq!(laid.hook_entry, [u32::MAX, 0, 0xd0, 0x1a0, u32::MAX]);
    }
}
