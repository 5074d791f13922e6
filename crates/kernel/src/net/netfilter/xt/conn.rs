//! Connections: `connlimit`, `connbytes`, `helper`; and `quota`.
use super::*;
use crate::env::Jiffies;
use crate::ids::CtId;
use crate::net::netfilter::rules::State;
use crate::net::netfilter::words::value::{address, full, number};
use std::fmt::Write as _;

const LIMIT_UPTO: u32 = 1;
const LIMIT_DADDR: u32 = 2;
/// The most addresses that one rule counts for: what bounds its memory besides `nf_conntrack_max`.
const LIMIT_KEYS: usize = 65_536;

/// How many connections an address, or a network, has at once. Each rule counts for itself.
#[derive(Clone, Debug)]
pub struct Connlimit {
    mask: u128,
    limit: u32,
    flags: u32,
    given: bool,
    seen: BTreeMap<u128, Counted>,
    /// When all were looked through for want of room.
    swept: Jiffies,
}

/// Connections of an address, and when it was last looked which of them are over.
#[derive(Clone, Debug, Default)]
struct Counted {
    conns: BTreeSet<CtId>,
    looked: Jiffies,
}

impl PartialEq for Connlimit {
    /// What it has counted is no part of what it says.
    fn eq(&self, o: &Connlimit) -> bool {
        (self.mask, self.limit, self.flags) == (o.mask, o.limit, o.flags)
    }
}

impl Connlimit {
    pub fn new(pf: Pf) -> Connlimit {
        Connlimit { mask: full(pf), limit: 0, flags: 0, given: false, seen: BTreeMap::new(), swept: 0 }
    }

    #[doc(alias = "connlimit_mt_check")]
    pub fn read(pf: Pf, r: &mut Reader<'_>) -> Result<Connlimit, Errno> {
        let (mask, limit, flags) = (r.inet(pf)?, r.u32()?, r.u32()?);
        if flags & !(LIMIT_UPTO | LIMIT_DADDR) != 0 {
            return Err(Errno::EINVAL);
        }
        Ok(Connlimit { mask, limit, flags, given: true, seen: BTreeMap::new(), swept: 0 })
    }

    #[doc(alias = "connlimit_mt")]
    pub fn matches(&mut self, net: &Net, p: &Pkt, skb: &SkBuff) -> bool {
        let key = if self.flags & LIMIT_DADDR != 0 { p.dst } else { p.src } & self.mask;
        let now = net.env.jiffies();
        let alive = |c: &CtId| net.ct.conns.get(*c).is_some_and(|c| !c.is_closed());
        if self.seen.len() >= LIMIT_KEYS && self.swept != now {
            self.swept = now;
            self.seen.retain(|_, of| {
                of.conns.retain(alive);
                !of.conns.is_empty()
            });
        }
        let count = match self.seen.get_mut(&key) {
            Some(of) => {
                // Once a tick, as Linux does.
                if of.looked != now {
                    of.looked = now;
                    of.conns.retain(|c| Some(*c) == skb.nf.ct || alive(c));
                }
                of.conns.extend(skb.nf.ct);
                of.conns.len()
            }
            // Of an address that there is no room for, this one is known.
            None => {
                if let Some(c) = skb.nf.ct.filter(|_| self.seen.len() < LIMIT_KEYS) {
                    self.seen.insert(key, Counted { conns: BTreeSet::from([c]), looked: now });
                }
                usize::from(skb.nf.ct.is_some())
            }
        };
        if count == 0 {
            self.seen.remove(&key);
        }
        (count as u64 > self.limit.into()) != (self.flags & LIMIT_UPTO != 0)
    }

    fn prefix(&self) -> u32 {
        self.mask.count_ones()
    }
}

impl Extension for Connlimit {
    fn write(&self, pf: Pf, w: &mut Writer) {
        w.inet(pf, self.mask);
        w.u32(self.limit);
        w.u32(self.flags);
        w.zeros(8);
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        let (upto, dst) = (self.flags & LIMIT_UPTO != 0, self.flags & LIMIT_DADDR != 0);
        if v.list {
            let (end, than) = (if dst { "dst" } else { "src" }, if upto { "<=" } else { ">" });
            return write!(o, " #conn {end}/{} {than} {}", self.prefix(), self.limit);
        }
        let (kind, end) = (if upto { "upto" } else { "above" }, if dst { "daddr" } else { "saddr" });
        write!(o, " --connlimit-{kind} {} --connlimit-mask {} --connlimit-{end}", self.limit, self.prefix())
    }

    fn option(&mut self, pf: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        match word {
            "--connlimit-above" | "--connlimit-upto" => {
                let text = w.value(word)?;
                let Some(n) = number(text).and_then(|n| u32::try_from(n).ok()) else {
                    return bad("connlimit", word, text);
                };
                (self.limit, self.given) = (n, true);
                if (word == "--connlimit-upto") != inv {
                    self.flags |= LIMIT_UPTO;
                }
            }
            "--connlimit-mask" => {
                let text = w.value(word)?;
                let width = full(pf).count_ones();
                let mask = match number(text).filter(|n| *n <= width.into()) {
                    Some(n) => full(pf) & u128::MAX.checked_shl(width - n as u32).unwrap_or(0),
                    None => match address(pf, text) {
                        Some(m) => m,
                        None => return bad("connlimit", word, text),
                    },
                };
                self.mask = mask;
            }
            "--connlimit-saddr" => self.flags &= !LIMIT_DADDR,
            "--connlimit-daddr" => self.flags |= LIMIT_DADDR,
            _ => return Ok(Ext::Unknown),
        }
        Ok(Ext::Taken)
    }

    fn finish(&self) -> Done {
        if self.given { Ok(()) } else { usage("You must specify \"--connlimit-above\" or \"--connlimit-upto\".") }
    }
}

const MODES: [&str; 3] = ["packets", "bytes", "avgpkt"];
const DIRS: [&str; 3] = ["original", "reply", "both"];

/// What a connection carried. A range turned round is from its end to its beginning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Connbytes {
    from: u64,
    to: u64,
    what: u8,
    dir: u8,
}

impl Default for Connbytes {
    fn default() -> Connbytes {
        Connbytes { from: 0, to: 0, what: u8::MAX, dir: u8::MAX }
    }
}

impl Connbytes {
    #[doc(alias = "connbytes_mt_check")]
    pub fn read(r: &mut Reader<'_>) -> Result<Connbytes, Errno> {
        let c = Connbytes { from: r.u64()?, to: r.u64()?, what: r.u8()?, dir: r.u8()? };
        if c.what > 2 || c.dir > 2 { Err(Errno::EINVAL) } else { Ok(c) }
    }

    #[doc(alias = "connbytes_mt")]
    pub fn matches(&self, net: &Net, skb: &SkBuff) -> bool {
        let Some(all) = skb.nf.ct.and_then(|id| net.ct.conns.get(id)).and_then(|c| c.acct) else { return false };
        let of = match self.dir {
            0 => all[0],
            1 => all[1],
            _ => (all[0].0.saturating_add(all[1].0), all[0].1.saturating_add(all[1].1)),
        };
        let is = match self.what {
            0 => of.0,
            1 => of.1,
            _ => of.1.checked_div(of.0).unwrap_or(0),
        };
        if self.to >= self.from { (self.from..=self.to).contains(&is) } else { is < self.to || is > self.from }
    }
}

impl Extension for Connbytes {
    fn write(&self, _: Pf, w: &mut Writer) {
        w.u64(self.from);
        w.u64(self.to);
        w.0.extend([self.what, self.dir]);
        w.align();
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        let inv = self.from > self.to;
        let (lo, hi) = if inv { (self.to, self.from) } else { (self.from, self.to) };
        let range = if hi == u64::MAX { lo.to_string() } else { format!("{lo}:{hi}") };
        let name = |of: &[&'static str; 3], n: u8| of.get(usize::from(n)).copied().unwrap_or("");
        let (mode, dir, inv) = (name(&MODES, self.what), name(&DIRS, self.dir), bang(inv));
        if v.list {
            return write!(o, "{inv} connbytes {range} connbytes mode {mode} connbytes direction {dir}");
        }
        write!(o, "{inv} --connbytes {range} --connbytes-mode {mode} --connbytes-dir {dir}")
    }

    fn option(&mut self, _: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        if !matches!(word, "--connbytes" | "--connbytes-mode" | "--connbytes-dir") {
            return Ok(Ext::Unknown);
        }
        let text = w.value(word)?;
        let named = |of: &[&str; 3]| of.iter().position(|n| *n == text).map(|n| n as u8);
        match word {
            "--connbytes" => {
                let (lo, hi) = text.split_once(':').unwrap_or((text, ""));
                let one = |w: &str, none| if w.is_empty() { Some(none) } else { number(w) };
                match (one(lo, 0), one(hi, u64::MAX)) {
                    (Some(lo), Some(hi)) if lo <= hi => (self.from, self.to) = if inv { (hi, lo) } else { (lo, hi) },
                    (Some(lo), Some(hi)) => {
                        return usage(format!("connbytes: range from {lo} to {hi} is empty: \"{text}\""));
                    }
                    _ => return bad("connbytes", word, text),
                }
            }
            "--connbytes-mode" => match named(&MODES) {
                Some(n) => self.what = n,
                None => return usage(format!("Unknown --connbytes-mode `{text}'")),
            },
            _ => match named(&DIRS) {
                Some(n) => self.dir = n,
                None => return usage(format!("Unknown --connbytes-dir `{text}'")),
            },
        }
        Ok(Ext::Taken)
    }

    fn finish(&self) -> Done {
        match (self.what, self.dir) {
            (u8::MAX, _) => must("connbytes", "--connbytes-mode"),
            (_, u8::MAX) => must("connbytes", "--connbytes-dir"),
            _ => Ok(()),
        }
    }
}

/// The helper of a connection's master. Helpers are not here, so that no connection has a master.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Helper {
    name: String,
    invert: bool,
    given: bool,
}

const HELPER_LEN: usize = 30;

impl Helper {
    pub fn read(r: &mut Reader<'_>) -> Result<Helper, Errno> {
        let invert = r.u32()? != 0;
        Ok(Helper { name: r.text(HELPER_LEN)?.to_owned(), invert, given: true })
    }

    #[doc(alias = "helper_mt")]
    pub fn matches(&self) -> bool {
        self.invert
    }
}

impl Extension for Helper {
    fn write(&self, _: Pf, w: &mut Writer) {
        w.u32(self.invert.into());
        w.text(&self.name, HELPER_LEN + 2);
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        if v.list {
            return write!(o, " helper match{} \"{}\"", bang(self.invert), self.name);
        }
        write!(o, "{} --helper {}", bang(self.invert), crate::net::netfilter::words::value::quoted(&self.name))
    }

    fn option(&mut self, _: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        if word != "--helper" {
            return Ok(Ext::Unknown);
        }
        let text = w.value(word)?;
        if text.len() >= HELPER_LEN {
            return usage(format!("helper: option \"{word}\" value too long"));
        }
        *self = Helper { name: text.to_owned(), invert: inv, given: true };
        Ok(Ext::Taken)
    }

    fn finish(&self) -> Done {
        if self.given { Ok(()) } else { must("helper", "--helper") }
    }
}

/// Bytes that pass; what does not go into the rest any more takes it away.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quota {
    quota: u64,
    invert: bool,
    given: bool,
    /// How much of it is gone.
    used: State,
}

impl Quota {
    #[doc(alias = "quota_mt_check")]
    pub fn read(r: &mut Reader<'_>) -> Result<Quota, Errno> {
        let flags = r.u32()?;
        r.u32()?;
        if flags & !1 != 0 {
            return Err(Errno::EINVAL);
        }
        Ok(Quota { quota: r.u64()?, invert: flags != 0, given: true, used: State(0) })
    }

    #[doc(alias = "quota_mt")]
    pub fn matches(&mut self, p: &Pkt) -> bool {
        let fits = self.quota.saturating_sub(self.used.0) >= p.len as u64;
        self.used.0 = if fits { self.used.0 + p.len as u64 } else { self.quota };
        fits != self.invert
    }
}

impl Extension for Quota {
    fn write(&self, _: Pf, w: &mut Writer) {
        w.u32(self.invert.into());
        w.u32(0);
        w.u64(self.quota);
        w.zeros(8);
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        if v.list {
            return write!(o, " quota: {} bytes", self.quota);
        }
        write!(o, "{} --quota {}", bang(self.invert), self.quota)
    }

    fn option(&mut self, _: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        if word != "--quota" {
            return Ok(Ext::Unknown);
        }
        let text = w.value(word)?;
        match number(text) {
            Some(quota) => *self = Quota { quota, invert: inv, given: true, used: State(0) },
            None => return bad("quota", word, text),
        }
        Ok(Ext::Taken)
    }

    fn finish(&self) -> Done {
        if self.given { Ok(()) } else { must("quota", "--quota") }
    }
}
