//! `hashlimit`: a bucket of packets or bytes for each address, port or pair of them, in tables with names.
//!
//! Bounded as Linux's: `htable-max` buckets in a table, of which those go that nobody has asked for `htable-expire` milliseconds.
use super::recent::check_name;
use super::*;
use crate::net::netfilter::packet::addr;
use crate::net::netfilter::words::value::{full, number};
use belljar_wire::ipv4::{IPPROTO_TCP, IPPROTO_UDP};
use core::net::IpAddr;
use std::fmt::Write as _;

const DIP: u32 = 1;
const DPT: u32 = 2;
const SIP: u32 = 4;
const SPT: u32 = 8;
const INVERT: u32 = 16;
const BYTES: u32 = 32;
const RATE_MATCH: u32 = 64;
const ALL: u32 = 127;
/// `XT_HASHLIMIT_SCALE` and `_v2`: what a second is divided into.
const SCALE_V1: u64 = 10_000;
const SCALE: u64 = 1_000_000;
/// Bytes are counted in pieces of sixteen.
const BYTE_SHIFT: u32 = 4;
/// Milliseconds that a bucket of bytes lives.
const BYTE_EXPIRE_MS: u64 = 15_000;
/// Chains of a table when the rule says nothing, as on a machine of a gigabyte and more; and the most that it may ask for.
const SIZE: u32 = 8192;
const MAX_SIZE: u32 = 1 << 20;
const NAME_MAX: usize = 255;
const DAY: u64 = 86_400;

/// `struct hashlimit_cfg3`; `v1` has another scale.
#[derive(Clone, Debug, PartialEq)]
struct Config {
    v1: bool,
    mode: u32,
    avg: u64,
    burst: u64,
    size: u32,
    max: u32,
    gc_interval: u32,
    expire: u32,
    interval: u32,
    srcmask: u8,
    dstmask: u8,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Hashlimit {
    pub name: String,
    cfg: Config,
    /// Of the words only: bytes that may come at once, before the rate is known; milliseconds of the rate's unit.
    burst_bytes: u64,
    unit_ms: u32,
}

type Key = (u128, u16, u128, u16);

#[derive(Clone, Debug, Default)]
struct Bucket {
    expires: u64,
    prev: u64,
    credit: u64,
    cap: u64,
    cost: u64,
    /// Of `rate-match`: what came in this window, and whether the one before had too much.
    current: u64,
    over: bool,
}

#[derive(Clone, Debug)]
pub struct Table {
    cfg: Config,
    /// When it is looked for old ones next.
    gc: u64,
    buckets: BTreeMap<Key, Bucket>,
}

fn below(n: u64) -> u64 {
    n.checked_ilog2().map_or(1, |b| 1 << b)
}

impl Config {
    fn scale(&self) -> u64 {
        if self.v1 { SCALE_V1 } else { SCALE }
    }

    #[doc(alias = "CREDITS_PER_JIFFY")]
    fn credits(&self, hz: u64) -> u64 {
        below(if self.v1 { u64::from(u32::MAX) } else { u64::MAX } / (hz * DAY))
    }

    #[doc(alias = "user2credits")]
    fn cost(&self, hz: u64) -> u64 {
        let second = hz * self.credits(hz);
        if self.scale() >= second {
            return self.avg / (self.scale() / second.max(1)).max(1);
        }
        self.avg.wrapping_mul(second / self.scale())
    }

    #[doc(alias = "user2credits_byte")]
    fn byte_cost(&self, hz: u64) -> u64 {
        ((u128::from(self.avg) * u128::from(hz * byte_credits(hz))) >> 32) as u64
    }

    #[doc(alias = "rateinfo_init")]
    fn bucket(&self, now: u64, hz: u64) -> Bucket {
        let b = Bucket { prev: now, ..Bucket::default() };
        if self.mode & RATE_MATCH != 0 {
            let cost = if self.mode & BYTES != 0 { bytes_of(self.avg) } else { SCALE / self.avg.max(1) };
            let cap = match (self.burst, self.mode & BYTES != 0) {
                (0, _) => cost,
                (n, true) => n.saturating_mul(cost),
                (n, false) => n.saturating_add(cost),
            };
            return Bucket { cost, cap, ..b };
        }
        if self.mode & BYTES != 0 {
            return Bucket { credit: byte_credits(hz) * hz, cost: self.byte_cost(hz), cap: self.burst, ..b };
        }
        let cost = self.cost(hz);
        let cap = cost.saturating_mul(self.burst);
        Bucket { credit: cap, cap, cost, ..b }
    }
}

#[doc(alias = "CREDITS_PER_JIFFY_BYTES")]
fn byte_credits(hz: u64) -> u64 {
    below(u64::from(u32::MAX) / hz)
}

/// Bytes a second of a rate as rules have it.
#[doc(alias = "user2rate_bytes")]
fn bytes_of(avg: u64) -> u64 {
    let r = u64::from(u32::MAX).checked_div(avg).unwrap_or(u32::MAX.into());
    r.saturating_sub(1) << BYTE_SHIFT
}

impl Bucket {
    #[doc(alias = "rateinfo_recalc")]
    fn recalc(&mut self, cfg: &Config, now: u64, hz: u64) {
        let delta = now.saturating_sub(self.prev);
        if delta == 0 {
            return;
        }
        if cfg.mode & RATE_MATCH != 0 {
            let window = u64::from(cfg.interval) * hz;
            if delta >= window {
                self.over = self.current.saturating_mul(window) > delta.saturating_mul(self.cost);
                (self.current, self.prev) = (0, now);
            }
            return;
        }
        self.prev = now;
        if cfg.mode & BYTES != 0 {
            let full = byte_credits(hz) * hz;
            self.credit = self.credit.saturating_add(byte_credits(hz).saturating_mul(delta)).min(full);
            if delta.saturating_mul(1000) / hz >= BYTE_EXPIRE_MS {
                self.cap = cfg.burst;
            }
            return;
        }
        self.credit = self.credit.saturating_add(cfg.credits(hz).saturating_mul(delta)).min(self.cap);
    }

    #[doc(alias = "hashlimit_byte_cost")]
    fn pays_bytes(&mut self, len: usize, hz: u64) -> u64 {
        let full = byte_credits(hz) * hz;
        let cost = ((len as u64 >> BYTE_SHIFT) + 1).saturating_mul(self.cost).min(full);
        // What may come at once beside: as many more times the whole bucket.
        if self.credit < cost && self.cap > 0 {
            self.cap -= 1;
            self.credit = full;
        }
        cost
    }

    /// Whether it is within the rate.
    fn takes(&mut self, cfg: &Config, len: usize, hz: u64) -> bool {
        if cfg.mode & RATE_MATCH != 0 {
            self.current = self.current.saturating_add(if cfg.mode & BYTES != 0 { len as u64 } else { 1 });
            return !self.over && self.current <= self.cap;
        }
        let cost = if cfg.mode & BYTES != 0 { self.pays_bytes(len, hz) } else { self.cost };
        let pays = self.credit >= cost;
        if pays {
            self.credit -= cost;
        }
        pays
    }
}

impl Table {
    /// Old buckets go at fixed times.
    fn collect(&mut self, now: u64, hz: u64) {
        if now < self.gc {
            return;
        }
        let step = ticks_of(self.cfg.gc_interval, hz);
        let last = now - (now - self.gc) % step;
        self.buckets.retain(|_, b| b.expires > last);
        self.gc = last + step;
    }

    #[doc(alias = "dl_seq_show")]
    pub fn text(&self, pf: Pf, now: u64, hz: u64) -> String {
        let mut o = String::new();
        let ip = |bits: u128| match addr(pf, bits) {
            IpAddr::V4(a) => a.to_string(),
            IpAddr::V6(a) => a.segments().map(|s| format!("{s:04x}")).join(":"),
        };
        let mut t = self.clone();
        t.collect(now, hz);
        for ((src, sport, dst, dport), mut b) in t.buckets {
            b.recalc(&self.cfg, now, hz);
            let left = b.expires.saturating_sub(now) / hz;
            let _ = writeln!(o, "{left} {}:{sport}->{}:{dport} {} {} {}", ip(src), ip(dst), b.credit, b.cap, b.cost);
        }
        o
    }
}

fn ticks_of(ms: u32, hz: u64) -> u64 {
    (u64::from(ms) * hz).div_ceil(1000).max(1)
}

fn width(pf: Pf) -> u8 {
    if pf == Pf::V4 { 32 } else { 128 }
}

fn cut(pf: Pf, ip: u128, len: u8) -> u128 {
    let host = u32::from(width(pf) - len.min(width(pf)));
    ip & full(pf) & u128::MAX.checked_shl(host).unwrap_or(0)
}

impl Hashlimit {
    pub fn new(pf: Pf) -> Hashlimit {
        let cfg = Config {
            v1: false,
            mode: 0,
            avg: 0,
            burst: 5,
            size: 0,
            max: 0,
            gc_interval: 1000,
            expire: 0,
            interval: 1,
            srcmask: width(pf),
            dstmask: width(pf),
        };
        Hashlimit { name: String::new(), cfg, burst_bytes: 0, unit_ms: 1000 }
    }

    /// Three layouts: numbers of 32 bits, of 64, and with an interval.
    #[doc(alias = "hashlimit_mt_check")]
    pub fn read(pf: Pf, revision: u8, r: &mut Reader<'_>) -> Result<Hashlimit, Errno> {
        let mut c = Hashlimit::new(pf).cfg;
        let name = if revision == 1 {
            let name = r.text(16)?.to_owned();
            (c.v1, c.mode, c.avg, c.burst) = (true, r.u32()?, r.u32()?.into(), r.u32()?.into());
            name
        } else {
            let name = r.text(NAME_MAX)?.to_owned();
            r.bytes(1)?;
            (c.avg, c.burst, c.mode) = (r.u64()?, r.u64()?, r.u32()?);
            name
        };
        (c.size, c.max, c.gc_interval, c.expire) = (r.u32()?, r.u32()?, r.u32()?, r.u32()?);
        if revision == 3 {
            c.interval = r.u32()?;
        }
        (c.srcmask, c.dstmask) = (r.u8()?, r.u8()?);
        check_name(&name)?;
        let h = Hashlimit { name, cfg: c, burst_bytes: 0, unit_ms: 1000 };
        h.check(pf, revision)?;
        Ok(h)
    }

    /// ERANGE for what does not go into the numbers that it is counted in.
    #[doc(alias = "hashlimit_mt_check_common")]
    fn check(&self, pf: Pf, revision: u8) -> Result<(), Errno> {
        let c = &self.cfg;
        let modes = if revision == 3 { ALL } else { ALL & !RATE_MATCH };
        if c.gc_interval == 0 || c.expire == 0 || c.srcmask.max(c.dstmask) > width(pf) || c.mode & !modes != 0 {
            return Err(Errno::EINVAL);
        }
        if c.size > MAX_SIZE || c.max > MAX_SIZE {
            return Err(Errno::EINVAL);
        }
        if c.mode & RATE_MATCH != 0 {
            if c.avg == 0 || c.avg > u32::MAX.into() {
                return Err(Errno::ERANGE);
            }
            return if c.interval == 0 { Err(Errno::EINVAL) } else { Ok(()) };
        }
        // Ticks are the machine's; those of a jar are 250 in a second or fewer.
        let hz = 250;
        if c.mode & BYTES != 0 {
            return if c.byte_cost(hz) == 0 { Err(Errno::EINVAL) } else { Ok(()) };
        }
        let many = c.avg.checked_mul(c.burst).map(|avg| Config { avg, ..c.clone() }.cost(hz));
        if c.burst == 0 || many.is_none_or(|m| m < c.cost(hz)) { Err(Errno::ERANGE) } else { Ok(()) }
    }

    /// The first rule that names a table says what it is.
    #[doc(alias = "htable_create")]
    pub fn prepare(&self, all: &mut BTreeMap<(Pf, String), Table>, pf: Pf) {
        let mut cfg = self.cfg.clone();
        cfg.size = if cfg.size == 0 { SIZE } else { cfg.size };
        cfg.max = if cfg.max == 0 { cfg.size.saturating_mul(8) } else { cfg.max.max(cfg.size) };
        all.entry((pf, self.name.clone())).or_insert(Table { cfg, gc: 0, buckets: BTreeMap::new() });
    }

    fn key(&self, mode: u32, c: &Config, p: &Pkt, skb: &SkBuff) -> Option<Key> {
        let has = |bit: u32| mode & bit != 0;
        let ported = matches!(p.proto, IPPROTO_TCP | IPPROTO_UDP | 33 | 132 | 136) && !p.later;
        let (s, d) = if mode & (SPT | DPT) != 0 && ported { p.ports(skb)? } else { (0, 0) };
        Some((
            if has(SIP) { cut(p.pf, p.src, c.srcmask) } else { 0 },
            if has(SPT) { s } else { 0 },
            if has(DIP) { cut(p.pf, p.dst, c.dstmask) } else { 0 },
            if has(DPT) { d } else { 0 },
        ))
    }

    #[doc(alias = "hashlimit_mt")]
    pub fn matches(&self, net: &mut Net, ns: NsId, p: &Pkt, skb: &SkBuff) -> Option<bool> {
        let (now, hz) = ticks(net);
        let key = (p.pf, self.name.clone());
        let t = net.ns.get_mut(ns).and_then(|n| n.xt.as_deref_mut()).and_then(|x| x.hashlimit.get_mut(&key))?;
        t.collect(now, hz);
        let key = self.key(t.cfg.mode, &t.cfg, p, skb)?;
        let max = t.cfg.max;
        if !t.buckets.contains_key(&key) {
            if t.buckets.len() >= max as usize {
                net.kmsg_ratelimited(&format!("xt_hashlimit: max count of {max} reached"));
                return None;
            }
            t.buckets.insert(key, t.cfg.bucket(now, hz));
        }
        let b = t.buckets.get_mut(&key)?;
        b.expires = now + ticks_of(t.cfg.expire, hz);
        b.recalc(&t.cfg, now, hz);
        Some(b.takes(&self.cfg, p.len, hz) != (self.cfg.mode & INVERT != 0))
    }

    fn rate_text(&self, list: bool) -> String {
        let c = &self.cfg;
        if c.mode & BYTES != 0 {
            return format!("{}/s", amount(bytes_of(c.avg)));
        }
        let times = if list && c.mode & RATE_MATCH != 0 { c.interval.into() } else { 1 };
        rate(c.avg.saturating_mul(times), c.scale()).0
    }

    /// Milliseconds after which buckets of this rate go, when nothing else is said.
    fn usual_expire(&self, list: bool) -> u32 {
        let c = &self.cfg;
        if c.mode & BYTES != 0 {
            return BYTE_EXPIRE_MS as u32;
        }
        let times = if list && c.mode & RATE_MATCH != 0 { c.interval.into() } else { 1 };
        rate(c.avg.saturating_mul(times), c.scale()).1
    }

    fn modes(&self, between: &str) -> String {
        let all = [(SIP, "srcip"), (SPT, "srcport"), (DIP, "dstip"), (DPT, "dstport")];
        all.iter().filter(|m| self.cfg.mode & m.0 != 0).map(|m| m.1).collect::<Vec<_>>().join(between)
    }
}

/// In the largest unit in which it is a whole number, and that unit's milliseconds.
fn rate(avg: u64, scale: u64) -> (String, u32) {
    let units = [("day", DAY), ("hour", 3600), ("min", 60), ("sec", 1)];
    let avg = avg.max(1);
    let stops = |n: usize| avg > units[n].1 * scale || units[n].1 * scale / avg < units[n].1 * scale % avg;
    let at = (1..units.len()).find(|n| stops(*n)).unwrap_or(units.len()) - 1;
    (format!("{}/{}", units[at].1 * scale / avg, units[at].0), (units[at].1 * 1000) as u32)
}

fn amount(bytes: u64) -> String {
    match bytes {
        n if n >= 1 << 20 && n % (1 << 20) == 0 => format!("{}mb", n >> 20),
        n if n >= 1 << 10 && n % (1 << 10) == 0 => format!("{}kb", n >> 10),
        n => format!("{n}b"),
    }
}

/// `N[k|m]b`.
fn bytes(word: &str) -> Option<u64> {
    let word = word.strip_suffix('b')?;
    match word.strip_suffix('k').map(|n| (n, 10)).or_else(|| word.strip_suffix('m').map(|n| (n, 20))) {
        Some((n, shift)) => n.parse::<u64>().ok()?.checked_mul(1 << shift),
        None => word.parse().ok(),
    }
}

impl Hashlimit {
    fn rate_option(&mut self, text: &str) -> Done {
        let (n, unit) = text.split_once('/').unwrap_or((text, "second"));
        if let Some(b) = bytes(n) {
            if !"second".starts_with(unit) || unit.is_empty() || b >> BYTE_SHIFT >= u32::MAX.into() {
                return bad("hashlimit", "--hashlimit-upto", text);
            }
            self.cfg.avg = u64::from(u32::MAX) / ((b >> BYTE_SHIFT) + 1);
            self.cfg.mode |= BYTES;
            return Ok(());
        }
        let units = [("second", 1u64), ("minute", 60), ("hour", 3600), ("day", DAY)];
        let unit = units.iter().find(|u| !unit.is_empty() && u.0.starts_with(&unit.to_ascii_lowercase()));
        let (Some(n), Some(unit)) = (n.parse::<u64>().ok().filter(|n| *n > 0), unit) else {
            return bad("hashlimit", "--hashlimit-upto", text);
        };
        if n / unit.1 > SCALE {
            return usage(format!("Rate too fast \"{text}\""));
        }
        (self.cfg.avg, self.unit_ms) = (SCALE * unit.1 / n, (unit.1 * 1000) as u32);
        Ok(())
    }

    fn mode_option(&mut self, text: &str) -> Done {
        for word in text.split(',') {
            self.cfg.mode |= match word {
                "srcip" => SIP,
                "srcport" => SPT,
                "dstip" => DIP,
                "dstport" => DPT,
                _ => return bad("hashlimit", "--hashlimit-mode", text),
            };
        }
        Ok(())
    }

    /// What follows from all options together.
    pub fn settle(&mut self) {
        if self.cfg.mode & BYTES != 0 {
            let r = bytes_of(self.cfg.avg).max(1);
            self.cfg.burst = self.burst_bytes.div_ceil(r);
        }
        if self.cfg.expire == 0 {
            self.cfg.expire = if self.cfg.mode & BYTES != 0 { BYTE_EXPIRE_MS as u32 } else { self.unit_ms };
        }
    }
}

impl Extension for Hashlimit {
    fn write(&self, _: Pf, w: &mut Writer) {
        let c = &self.cfg;
        w.text(&self.name, NAME_MAX + 1);
        w.u64(c.avg);
        w.u64(c.burst);
        [c.mode, c.size, c.max, c.gc_interval, c.expire, c.interval].into_iter().for_each(|v| w.u32(v));
        w.0.extend([c.srcmask, c.dstmask]);
        w.align();
        w.zeros(8);
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        let c = &self.cfg;
        let above = c.mode & INVERT != 0;
        let rate = self.rate_text(v.list);
        let burst = if c.mode & BYTES != 0 {
            (c.burst != 0).then(|| amount(bytes_of(c.avg).saturating_mul(c.burst)))
        } else {
            Some(c.burst.to_string())
        };
        let dash = if v.list { "" } else { "--hashlimit-" };
        if v.list {
            write!(o, " limit: {} {rate}", if above { "above" } else { "up to" })?;
        } else {
            write!(o, " --hashlimit-{} {rate}", if above { "above" } else { "upto" })?;
        }
        if let Some(b) = burst {
            write!(o, " {dash}burst {b}")?;
        }
        if c.mode & (SIP | SPT | DIP | DPT) != 0 {
            write!(o, " {dash}mode {}", self.modes(if v.list { "-" } else { "," }))?;
        }
        if !v.list {
            write!(o, " --hashlimit-name {}", self.name)?;
        }
        let all = [
            ("htable-size", c.size, c.size != 0),
            ("htable-max", c.max, c.max != 0),
            ("htable-gcinterval", c.gc_interval, c.gc_interval != 1000),
            ("htable-expire", c.expire, c.expire != self.usual_expire(v.list)),
            ("srcmask", c.srcmask.into(), c.srcmask != width(v.pf)),
            ("dstmask", c.dstmask.into(), c.dstmask != width(v.pf)),
        ];
        for (name, value, _) in all.into_iter().filter(|a| a.2) {
            write!(o, " {dash}{name} {value}")?;
        }
        if c.mode & RATE_MATCH != 0 {
            write!(o, " {dash}rate-match")?;
            if c.interval != 1 {
                write!(o, " {dash}rate-interval {}", c.interval)?;
            }
        }
        Ok(())
    }

    fn option(&mut self, pf: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        let Some(what) = word.strip_prefix("--hashlimit").map(|r| r.strip_prefix('-').unwrap_or(r)) else {
            return Ok(Ext::Unknown);
        };
        let c = &mut self.cfg;
        match what {
            "upto" | "above" | "" => {
                let text = w.value(word)?;
                self.rate_option(text)?;
                self.cfg.mode |= if (what == "above") != inv { INVERT } else { 0 };
            }
            "burst" => {
                let text = w.value(word)?;
                match (bytes(text), number(text)) {
                    (Some(b), _) => self.burst_bytes = b,
                    (None, Some(n)) => c.burst = n,
                    _ => return bad("hashlimit", word, text),
                }
            }
            "mode" => {
                let text = w.value(word)?;
                self.mode_option(text)?;
            }
            "name" => self.name = w.value(word)?.to_owned(),
            "rate-match" => c.mode |= RATE_MATCH,
            "srcmask" | "dstmask" => {
                let text = w.value(word)?;
                let Some(n) = number(text).filter(|n| *n <= width(pf).into()) else {
                    return bad("hashlimit", word, text);
                };
                *(if what == "srcmask" { &mut c.srcmask } else { &mut c.dstmask }) = n as u8;
            }
            "htable-size" | "htable-max" | "htable-gcinterval" | "htable-expire" | "rate-interval" => {
                let text = w.value(word)?;
                let Some(n) = number(text).and_then(|n| u32::try_from(n).ok()) else {
                    return bad("hashlimit", word, text);
                };
                *match what {
                    "htable-size" => &mut c.size,
                    "htable-max" => &mut c.max,
                    "htable-gcinterval" => &mut c.gc_interval,
                    "htable-expire" => &mut c.expire,
                    _ => &mut c.interval,
                } = n;
            }
            _ => return Ok(Ext::Unknown),
        }
        Ok(Ext::Taken)
    }

    fn finish(&self) -> Done {
        match (self.cfg.avg, self.name.as_str()) {
            (0, _) => usage("You have to specify --hashlimit"),
            (_, "") => must("hashlimit", "--hashlimit-name"),
            (_, name) if name.len() > NAME_MAX => Err(Fail::Kernel(Errno::EINVAL)),
            _ => check_name(&self.name).and_then(|()| self.check(Pf::V6, 3)).map_err(Fail::Kernel),
        }
    }
}
