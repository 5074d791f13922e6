//! `recent`: addresses that were seen, in lists with names, each with the times at which it was.
//!
//! Bounded as Linux's: 100 addresses in a list (`ip_list_tot`), the oldest makes room; as many times of each as the rules of the list
//! ask for, at most 65,536.
use super::*;
use crate::net::netfilter::packet::{addr, bits};
use crate::net::netfilter::words::value::{address, full, number};
use std::collections::VecDeque;
use std::fmt::Write as _;

const CHECK: u8 = 1;
const SET: u8 = 2;
const UPDATE: u8 = 4;
const REMOVE: u8 = 8;
const TTL: u8 = 16;
const REAP: u8 = 32;
const VERBS: u8 = CHECK | SET | UPDATE | REMOVE;
/// `XT_RECENT_NAME_LEN`.
const NAME_LEN: usize = 200;
/// `sizeof(struct xt_recent_mtinfo_v1)`.
const MTINFO_LEN: usize = 228;
/// `ip_list_tot`.
const LIST_TOT: usize = 100;
/// One more than the most that a rule may count, and how many there are where no rule counts.
const MAX_NSTAMPS: u32 = 65_536;
const DEFAULT_NSTAMPS: usize = 32;

#[derive(Clone, Debug, PartialEq)]
pub struct Recent {
    seconds: u32,
    hit_count: u32,
    check_set: u8,
    invert: bool,
    pub name: String,
    dest: bool,
    mask: u128,
    raw: Raw,
}

/// The bytes that it was read from, which are given back: what stands behind the name and the mask's address counts when a program
/// compares rules, and says nothing.
#[derive(Clone, Debug, Default)]
struct Raw(Vec<u8>);

impl PartialEq for Raw {
    fn eq(&self, _: &Raw) -> bool {
        true
    }
}

#[derive(Clone, Debug)]
struct Entry {
    pf: Pf,
    addr: u128,
    ttl: u8,
    /// A ring of times in ticks; `index` is where the next one goes.
    stamps: Vec<u64>,
    index: usize,
}

/// A list, the least recently seen address first.
#[derive(Clone, Debug)]
pub struct Table {
    nstamps: usize,
    entries: VecDeque<Entry>,
}

impl Entry {
    #[doc(alias = "recent_entry_update")]
    fn update(&mut self, now: u64, nstamps: usize) {
        let at = self.index & (nstamps - 1);
        match self.stamps.get_mut(at) {
            Some(s) => *s = now,
            None => self.stamps.push(now),
        }
        self.index = at + 1;
    }

    fn last(&self) -> u64 {
        self.stamps.get(self.index.wrapping_sub(1)).copied().unwrap_or(0)
    }
}

impl Table {
    /// A hop limit of 0 is any.
    #[doc(alias = "recent_entry_lookup")]
    fn find(&self, pf: Pf, addr: u128, ttl: u8) -> Option<usize> {
        let same = |e: &Entry| e.pf == pf && e.addr == addr && (e.ttl == ttl || ttl == 0 || e.ttl == 0);
        self.entries.iter().position(same)
    }

    #[doc(alias = "recent_entry_init")]
    fn add(&mut self, pf: Pf, addr: u128, ttl: u8, now: u64) {
        if self.entries.len() >= LIST_TOT {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry { pf, addr, ttl, stamps: vec![now], index: 1 });
    }

    /// It was seen once more, and is the youngest.
    fn seen(&mut self, at: usize, ttl: Option<u8>, now: u64) {
        let Some(mut e) = self.entries.remove(at) else { return };
        e.update(now, self.nstamps);
        e.ttl = ttl.unwrap_or(e.ttl);
        self.entries.push_back(e);
    }

    /// `/proc/net/xt_recent/NAME`.
    #[doc(alias = "recent_seq_show")]
    pub fn text(&self) -> String {
        let mut o = String::new();
        for e in &self.entries {
            let ip = match addr(e.pf, e.addr) {
                core::net::IpAddr::V4(a) => a.to_string(),
                core::net::IpAddr::V6(a) => a.segments().map(|s| format!("{s:04x}")).join(":"),
            };
            let _ = write!(o, "src={ip} ttl: {} last_seen: {} oldest_pkt: {}", e.ttl, e.last(), e.index);
            for (n, s) in e.stamps.iter().enumerate() {
                let _ = write!(o, "{} {s}", if n == 0 { "" } else { "," });
            }
            o.push('\n');
        }
        o
    }

    /// EINVAL for what is none of `+ADDRESS`, `-ADDRESS` and `/`.
    pub fn write(&mut self, text: &str, now: u64) -> Result<(), Errno> {
        let word = text.split_whitespace().next().unwrap_or("");
        if word.starts_with('/') {
            self.entries.clear();
            return Ok(());
        }
        let (add, word) = match word.strip_prefix('+') {
            Some(w) => (true, w),
            None => (false, word.strip_prefix('-').ok_or(Errno::EINVAL)?),
        };
        let ip: core::net::IpAddr = word.parse().map_err(|_| Errno::EINVAL)?;
        let pf = if ip.is_ipv4() { Pf::V4 } else { Pf::V6 };
        match (self.find(pf, bits(ip), 0), add) {
            (None, true) => self.add(pf, bits(ip), 0, now),
            (None, false) => {}
            (Some(at), true) => self.seen(at, None, now),
            (Some(at), false) => drop(self.entries.remove(at)),
        }
        Ok(())
    }
}

/// A name that can be one of a file.
#[doc(alias = "xt_check_proc_name")]
pub fn check_name(name: &str) -> Result<(), Errno> {
    if matches!(name, "" | "." | "..") || name.contains('/') { Err(Errno::EINVAL) } else { Ok(()) }
}

impl Recent {
    pub fn new(pf: Pf) -> Recent {
        let name = "DEFAULT".to_owned();
        Recent {
            seconds: 0,
            hit_count: 0,
            check_set: 0,
            invert: false,
            name,
            dest: false,
            mask: full(pf),
            raw: Raw::default(),
        }
    }

    #[doc(alias = "recent_mt_check")]
    pub fn read(pf: Pf, revision: u8, r: &mut Reader<'_>) -> Result<Recent, Errno> {
        let data = r.0.get(..MTINFO_LEN).unwrap_or(r.0);
        let (seconds, hit_count, check_set, invert) = (r.u32()?, r.u32()?, r.u8()?, r.u8()? != 0);
        let name = r.text(NAME_LEN)?.to_owned();
        let dest = r.u8()? != 0;
        let mask = if revision == 0 {
            full(pf)
        } else {
            r.bytes(1)?;
            r.inet(pf)?
        };
        let verb = check_set & VERBS;
        let more = seconds != 0 || hit_count != 0 || check_set & (TTL | REAP) != 0;
        let wrong = check_set & !(VERBS | TTL | REAP) != 0
            || verb.count_ones() != 1
            || (verb & (SET | REMOVE) != 0 && more)
            || (check_set & REAP != 0 && seconds == 0)
            || hit_count >= MAX_NSTAMPS;
        if wrong {
            return Err(Errno::EINVAL);
        }
        check_name(&name)?;
        Ok(Recent {
            seconds,
            hit_count,
            check_set,
            invert,
            name,
            dest,
            mask,
            raw: Raw(if revision == 0 { Vec::new() } else { data.to_vec() }),
        })
    }

    /// The list is there from now on, with room for as many times as this rule counts: one that has less begins anew.
    pub fn prepare(&self, all: &mut BTreeMap<String, Table>) {
        let nstamps = match self.hit_count as usize {
            0 => DEFAULT_NSTAMPS,
            n => n.next_power_of_two(),
        };
        match all.get_mut(&self.name) {
            Some(t) if t.nstamps < nstamps => *t = Table { nstamps, entries: VecDeque::new() },
            Some(_) => {}
            None => drop(all.insert(self.name.clone(), Table { nstamps, entries: VecDeque::new() })),
        }
    }

    #[doc(alias = "recent_mt")]
    pub fn matches(&self, net: &mut Net, ns: NsId, p: &Pkt, skb: &SkBuff, devs: Devs) -> Option<bool> {
        let (now, hz) = ticks(net);
        let ip = (if self.dest { p.dst } else { p.src }) & self.mask;
        // What leaves and is not of this machine has been counted down already.
        let forwarded = devs.1.is_some() && skb.sender == crate::net::core::skb::Sender::None && devs.0.is_some();
        let ttl = if forwarded { p.ttl.wrapping_add(1) } else { p.ttl };
        let t = net.ns.get_mut(ns).and_then(|n| n.xt.as_deref_mut()).and_then(|x| x.recent.get_mut(&self.name))?;
        let flag = |bit: u8| self.check_set & bit != 0;
        let Some(at) = t.find(p.pf, ip, if flag(TTL) { ttl } else { 0 }) else {
            if flag(SET) {
                t.add(p.pf, ip, ttl, now);
            }
            return Some(self.invert != flag(SET));
        };
        let mut hit = self.invert;
        if flag(SET) {
            hit = !hit;
        } else if flag(REMOVE) {
            t.entries.remove(at);
            return Some(!hit);
        } else {
            let since = now.saturating_sub(u64::from(self.seconds) * hz);
            let stamps = t.entries.get(at).map_or(&[][..], |e| &e.stamps);
            let counted = stamps.iter().filter(|s| self.seconds == 0 || **s >= since).count();
            if counted >= (self.hit_count as usize).max(1) {
                hit = !hit;
            }
            // The one that was not seen for the longest time goes when that is too long; never the one that is seen now.
            let old = t.entries.front().is_some_and(|e| e.last() < since) && !(at == 0 && flag(UPDATE) && hit);
            if flag(REAP) && old {
                t.entries.pop_front();
                let Some(at) = at.checked_sub(1) else { return Some(hit) };
                if flag(UPDATE) && hit {
                    t.seen(at, Some(ttl), now);
                }
                return Some(hit);
            }
        }
        if flag(SET) || (flag(UPDATE) && hit) {
            t.seen(at, Some(ttl), now);
        }
        Some(hit)
    }
}

impl Extension for Recent {
    fn write(&self, pf: Pf, w: &mut Writer) {
        if !self.raw.0.is_empty() {
            return w.0.extend(&self.raw.0);
        }
        w.u32(self.seconds);
        w.u32(self.hit_count);
        w.0.extend([self.check_set, self.invert.into()]);
        w.text(&self.name, NAME_LEN);
        w.0.extend([self.dest.into(), 0]);
        w.inet(pf, self.mask);
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        let verbs = [
            (SET, "set", "SET"),
            (CHECK, "rcheck", "CHECK"),
            (UPDATE, "update", "UPDATE"),
            (REMOVE, "remove", "REMOVE"),
        ];
        let verb = verbs.iter().find(|b| self.check_set & b.0 != 0).map_or(("", ""), |b| (b.1, b.2));
        let mask = addr(v.pf, self.mask);
        let dash = if v.list { "" } else { "--" };
        if v.list {
            write!(o, "{} recent: {}", bang(self.invert), verb.1)?;
        } else {
            write!(o, "{} --{}", bang(self.invert), verb.0)?;
        }
        let colon = if v.list { ":" } else { "" };
        if self.seconds != 0 {
            write!(o, " {dash}seconds{colon} {}", self.seconds)?;
        }
        if self.check_set & REAP != 0 {
            write!(o, " {dash}reap")?;
        }
        if self.hit_count != 0 {
            write!(o, " {}{colon} {}", if v.list { "hit_count" } else { "--hitcount" }, self.hit_count)?;
        }
        if self.check_set & TTL != 0 {
            o.push_str(if v.list { " TTL-Match" } else { " --rttl" });
        }
        if v.list {
            let side = if self.dest { "dest" } else { "source" };
            return write!(o, " name: {} side: {side} mask: {mask}", self.name);
        }
        let side = if self.dest { "rdest" } else { "rsource" };
        write!(o, " --name {} --mask {mask} --{side}", self.name)
    }

    fn option(&mut self, pf: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        let verb = match word {
            "--set" => SET,
            "--rcheck" => CHECK,
            "--update" => UPDATE,
            "--remove" => REMOVE,
            "--rttl" => TTL,
            "--reap" => REAP,
            _ => 0,
        };
        match word {
            _ if verb & VERBS != 0 => (self.check_set, self.invert) = (self.check_set | verb, inv),
            _ if verb != 0 => self.check_set |= verb,
            "--rsource" => self.dest = false,
            "--rdest" => self.dest = true,
            "--seconds" | "--hitcount" => {
                let text = w.value(word)?;
                let Some(n) = number(text).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0) else {
                    return bad("recent", word, text);
                };
                *(if word == "--seconds" { &mut self.seconds } else { &mut self.hit_count }) = n;
            }
            "--name" => self.name = w.value(word)?.to_owned(),
            "--mask" => {
                let text = w.value(word)?;
                let Some(m) = address(pf, text) else { return bad("recent", word, text) };
                self.mask = m;
            }
            _ => return Ok(Ext::Unknown),
        }
        Ok(Ext::Taken)
    }

    fn finish(&self) -> Done {
        match (self.check_set & VERBS).count_ones() {
            0 => usage("recent: you must specify one of `--set', `--rcheck' `--update' or `--remove'"),
            1 if self.name.len() < NAME_LEN && self.hit_count < MAX_NSTAMPS && check_name(&self.name).is_ok() => Ok(()),
            _ => Err(Fail::Kernel(Errno::EINVAL)),
        }
    }
}
