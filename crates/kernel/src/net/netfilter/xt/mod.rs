//! Matches of iptables beyond those that almost every rule set has: each with its bytes in the kernel's layout, its words, and what
//! it asks of a packet. What several rules share under a name (`recent`, `hashlimit`) is in the namespace's [`Shared`].
//!
//! Targets of this kind are in [`target`].
//!
//! Left out: nfacct, osf, ipvs, cgroup, rateest, l2tp, ipcomp, srh, mh, sctp, dccp, cluster and connlabel, which are refused as a
//! kernel without them refuses.
mod address;
mod conn;
pub mod copy;
mod hashlimit;
mod header;
mod program;
mod recent;
mod six;
mod string;
pub mod target;
mod time;

use super::blob::ext::{Reader, Writer};
use super::packet::Pkt;
use super::rules::{Match, TableName};
use super::words::options::Ext;
use super::words::parse::Words;
use super::words::{Done, Fail, usage};
use super::{Devs, Hook, Pf};
use crate::ids::NsId;
use crate::net::Net;
use crate::net::core::skb::SkBuff;
use address::*;
use belljar_abi::Errno;
use conn::*;
use hashlimit::Hashlimit;
use header::*;
use program::*;
use recent::Recent;
use six::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use string::Strings;
use time::Time;

/// By name and revision, as [`super::blob::ext::MATCHES`] has the others.
pub const MATCHES: &[(&str, u8)] = &[
    ("recent", 0),
    ("recent", 1),
    ("hashlimit", 1),
    ("hashlimit", 2),
    ("hashlimit", 3),
    ("connlimit", 1),
    ("rpfilter", 0),
    ("iprange", 1),
    ("mac", 0),
    ("pkttype", 0),
    ("ttl", 0),
    ("hl", 0),
    ("string", 1),
    ("tos", 1),
    ("dscp", 0),
    ("ecn", 0),
    ("time", 0),
    ("connbytes", 0),
    ("quota", 0),
    ("tcpmss", 0),
    ("u32", 0),
    ("bpf", 0),
    ("bpf", 1),
    ("helper", 0),
    ("policy", 0),
    ("cpu", 0),
    ("devgroup", 0),
    ("realm", 0),
    ("socket", 0),
    ("socket", 1),
    ("socket", 2),
    ("socket", 3),
    ("esp", 0),
    ("ah", 0),
    ("rt", 0),
    ("frag", 0),
    ("hbh", 0),
    ("dst", 0),
    ("ipv6header", 0),
    ("eui64", 0),
];

/// Whether a family has the match; the rest are for both.
pub fn is_of(pf: Pf, name: &str) -> bool {
    match name {
        "ttl" | "realm" | "icmp" => pf == Pf::V4,
        "hl" | "rt" | "frag" | "hbh" | "dst" | "ipv6header" | "eui64" | "icmp6" => pf == Pf::V6,
        _ => true,
    }
}

/// How a match is written: as options, or in a list.
#[derive(Clone, Copy, Debug)]
pub struct Voice {
    pub pf: Pf,
    pub list: bool,
    pub numeric: bool,
}

/// What each of them can do besides matching.
trait Extension: Sized {
    fn write(&self, pf: Pf, w: &mut Writer);
    /// Its words, each with a space before it.
    fn print(&self, o: &mut String, v: Voice) -> fmt::Result;
    fn option(&mut self, pf: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext>;
    /// What is missing when all options have been read.
    fn finish(&self) -> Done {
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Xt {
    Recent(Box<Recent>),
    Hashlimit(Box<Hashlimit>),
    Connlimit(Connlimit),
    Connbytes(Connbytes),
    Helper(Helper),
    Quota(Quota),
    Rpfilter(Rpfilter),
    Iprange(Box<Iprange>),
    Mac(MacSource),
    Pkttype(Pkttype),
    Devgroup(Devgroup),
    Ttl(Ttl),
    Tos(Tos),
    Dscp(Dscp),
    Ecn(Ecn),
    Tcpmss(TcpMss),
    Spi(Spi),
    Strings(Box<Strings>),
    Time(Box<Time>),
    U32(Box<U32>),
    Bpf(Box<Bpf>),
    Policy(Box<Policy>),
    Cpu(Cpu),
    Realm(Realm),
    Socket(SocketMatch),
    Rt(Rt),
    Frag(Frag),
    Opts(Opts),
    Ipv6Header(Ipv6Headers),
    Eui64,
}

impl Eq for Xt {}

/// The same for each kind.
macro_rules! each {
    ($of:expr, $x:ident => $do:expr, $none:expr) => {
        match $of {
            Xt::Recent($x) => $do,
            Xt::Hashlimit($x) => $do,
            Xt::Connlimit($x) => $do,
            Xt::Connbytes($x) => $do,
            Xt::Helper($x) => $do,
            Xt::Quota($x) => $do,
            Xt::Rpfilter($x) => $do,
            Xt::Iprange($x) => $do,
            Xt::Mac($x) => $do,
            Xt::Pkttype($x) => $do,
            Xt::Devgroup($x) => $do,
            Xt::Ttl($x) => $do,
            Xt::Tos($x) => $do,
            Xt::Dscp($x) => $do,
            Xt::Ecn($x) => $do,
            Xt::Tcpmss($x) => $do,
            Xt::Spi($x) => $do,
            Xt::Strings($x) => $do,
            Xt::Time($x) => $do,
            Xt::U32($x) => $do,
            Xt::Bpf($x) => $do,
            Xt::Policy($x) => $do,
            Xt::Cpu($x) => $do,
            Xt::Realm($x) => $do,
            Xt::Socket($x) => $do,
            Xt::Rt($x) => $do,
            Xt::Frag($x) => $do,
            Xt::Opts($x) => $do,
            Xt::Ipv6Header($x) => $do,
            Xt::Eui64 => $none,
        }
    };
}

/// ENOENT for what is not here.
pub fn read(pf: Pf, name: &str, revision: u8, r: &mut Reader<'_>) -> Result<Xt, Errno> {
    if !is_of(pf, name) {
        return Err(Errno::ENOENT);
    }
    Ok(match name {
        "recent" => Xt::Recent(Box::new(Recent::read(pf, revision, r)?)),
        "hashlimit" => Xt::Hashlimit(Box::new(Hashlimit::read(pf, revision, r)?)),
        "connlimit" => Xt::Connlimit(Connlimit::read(pf, r)?),
        "connbytes" => Xt::Connbytes(Connbytes::read(r)?),
        "helper" => Xt::Helper(Helper::read(r)?),
        "quota" => Xt::Quota(Quota::read(r)?),
        "rpfilter" => Xt::Rpfilter(Rpfilter::read(r)?),
        "iprange" => Xt::Iprange(Box::new(Iprange::read(pf, r)?)),
        "mac" => Xt::Mac(MacSource::read(r)?),
        "pkttype" => Xt::Pkttype(Pkttype::read(r)?),
        "devgroup" => Xt::Devgroup(Devgroup::read(r)?),
        "ttl" | "hl" => Xt::Ttl(Ttl::read(r)?),
        "tos" => Xt::Tos(Tos::read(r)?),
        "dscp" => Xt::Dscp(Dscp::read(r)?),
        "ecn" => Xt::Ecn(Ecn::read(pf, r)?),
        "tcpmss" => Xt::Tcpmss(TcpMss::read(r)?),
        "esp" => Xt::Spi(Spi::read(false, pf, r)?),
        "ah" => Xt::Spi(Spi::read(true, pf, r)?),
        "string" => Xt::Strings(Box::new(Strings::read(r)?)),
        "time" => Xt::Time(Box::new(Time::read(r)?)),
        "u32" => Xt::U32(Box::new(U32::read(r)?)),
        "bpf" => Xt::Bpf(Box::new(Bpf::read(revision, r)?)),
        "policy" => Xt::Policy(Box::new(Policy::read(r)?)),
        "cpu" => Xt::Cpu(Cpu::read(r)?),
        "realm" => Xt::Realm(Realm::read(r)?),
        "socket" => Xt::Socket(SocketMatch::read(revision, r)?),
        "rt" => Xt::Rt(Rt::read(r)?),
        "frag" => Xt::Frag(Frag::read(r)?),
        "hbh" | "dst" => Xt::Opts(Opts::read(name == "hbh", r)?),
        "ipv6header" => Xt::Ipv6Header(Ipv6Headers::read(r)?),
        "eui64" => Xt::Eui64,
        _ => return Err(Errno::ENOENT),
    })
}

/// What a name of `-m` is before its options are read; `None` for what the commands do not know.
pub fn load(pf: Pf, name: &str) -> Option<Xt> {
    let x = match name {
        "recent" => Xt::Recent(Box::new(Recent::new(pf))),
        "hashlimit" => Xt::Hashlimit(Box::new(Hashlimit::new(pf))),
        "connlimit" => Xt::Connlimit(Connlimit::new(pf)),
        "connbytes" => Xt::Connbytes(Connbytes::default()),
        "helper" => Xt::Helper(Helper::default()),
        "quota" => Xt::Quota(Quota::default()),
        "rpfilter" => Xt::Rpfilter(Rpfilter::default()),
        "iprange" => Xt::Iprange(Box::default()),
        "mac" => Xt::Mac(MacSource::default()),
        "pkttype" => Xt::Pkttype(Pkttype::default()),
        "devgroup" => Xt::Devgroup(Devgroup::default()),
        "ttl" | "hl" => Xt::Ttl(Ttl::default()),
        "tos" => Xt::Tos(Tos::default()),
        "dscp" => Xt::Dscp(Dscp::default()),
        "ecn" => Xt::Ecn(Ecn::default()),
        "tcpmss" => Xt::Tcpmss(TcpMss::default()),
        "esp" => Xt::Spi(Spi::new(false)),
        "ah" => Xt::Spi(Spi::new(true)),
        "string" => Xt::Strings(Box::new(Strings::new())),
        "time" => Xt::Time(Box::default()),
        "cpu" => Xt::Cpu(Cpu::default()),
        "realm" => Xt::Realm(Realm::default()),
        "socket" => Xt::Socket(SocketMatch::default()),
        "rt" => Xt::Rt(Rt::default()),
        "frag" => Xt::Frag(Frag::default()),
        "hbh" | "dst" => Xt::Opts(Opts::new(name == "hbh")),
        "ipv6header" => Xt::Ipv6Header(Ipv6Headers::default()),
        "eui64" => Xt::Eui64,
        _ => return None,
    };
    is_of(pf, name).then_some(x)
}

impl Xt {
    pub fn name(&self, pf: Pf) -> &'static str {
        match self {
            Xt::Recent(_) => "recent",
            Xt::Hashlimit(_) => "hashlimit",
            Xt::Connlimit(_) => "connlimit",
            Xt::Connbytes(_) => "connbytes",
            Xt::Helper(_) => "helper",
            Xt::Quota(_) => "quota",
            Xt::Rpfilter(_) => "rpfilter",
            Xt::Iprange(_) => "iprange",
            Xt::Mac(_) => "mac",
            Xt::Pkttype(_) => "pkttype",
            Xt::Devgroup(_) => "devgroup",
            Xt::Ttl(_) => {
                if pf == Pf::V4 {
                    "ttl"
                } else {
                    "hl"
                }
            }
            Xt::Tos(_) => "tos",
            Xt::Dscp(_) => "dscp",
            Xt::Ecn(_) => "ecn",
            Xt::Tcpmss(_) => "tcpmss",
            Xt::Spi(s) => s.name(),
            Xt::Strings(_) => "string",
            Xt::Time(_) => "time",
            Xt::U32(_) => "u32",
            Xt::Bpf(_) => "bpf",
            Xt::Policy(_) => "policy",
            Xt::Cpu(_) => "cpu",
            Xt::Realm(_) => "realm",
            Xt::Socket(_) => "socket",
            Xt::Rt(_) => "rt",
            Xt::Frag(_) => "frag",
            Xt::Opts(o) => o.name(),
            Xt::Ipv6Header(_) => "ipv6header",
            Xt::Eui64 => "eui64",
        }
    }

    /// Name, revision and bytes.
    pub fn write(&self, pf: Pf, w: &mut Writer) -> (&'static str, u8) {
        each!(self, x => x.write(pf, w), w.zeros(4));
        let revision = match self {
            Xt::Recent(_) | Xt::Connlimit(_) | Xt::Iprange(_) | Xt::Strings(_) | Xt::Tos(_) | Xt::Bpf(_) => 1,
            Xt::Hashlimit(_) => 3,
            Xt::Socket(s) => s.revision,
            _ => 0,
        };
        (self.name(pf), revision)
    }

    pub fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        if !v.list {
            o.push_str(" -m ");
            o.push_str(self.name(v.pf));
        }
        each!(self, x => x.print(o, v), {
            o.push_str(if v.list { "eui64 " } else { "" });
            Ok(())
        })
    }

    pub(in crate::net::netfilter) fn option(&mut self, pf: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        each!(self, x => x.option(pf, word, inv, w), Ok(Ext::Unknown))
    }

    pub(in crate::net::netfilter) fn finish(&self) -> Done {
        each!(self, x => x.finish(), Ok(()))
    }

    pub fn needs_conntrack(&self) -> bool {
        matches!(self, Xt::Connlimit(_) | Xt::Connbytes(_) | Xt::Helper(_))
    }

    /// What it asks is what connections carried (`nf_conntrack_acct` is set with it).
    pub fn needs_acct(&self) -> bool {
        matches!(self, Xt::Connbytes(_))
    }

    /// Whether it may stand in the table, where packets of these hooks come; `proto`: the rule's protocol is one of these.
    pub fn allowed(&self, table: TableName, pf: Pf, hooks: u8, proto: impl Fn(&[u16]) -> bool) -> bool {
        let only = |at: &[Hook]| hooks & !at.iter().fold(0u8, |m, h| m | 1 << *h as u8) == 0;
        use Hook::*;
        match self {
            Xt::Rpfilter(_) => matches!(table, TableName::Raw | TableName::Mangle) && only(&[PreRouting]),
            Xt::Mac(_) => only(&[PreRouting, LocalIn, Forward]),
            Xt::Socket(_) => only(&[PreRouting, LocalIn]),
            Xt::Tcpmss(_) => proto(&[6]),
            Xt::Ecn(e) => !e.asks_tcp() || proto(&[6]),
            Xt::Spi(s) => (s.is_ah() && pf == Pf::V6) || proto(&[s.protocol()]),
            Xt::Devgroup(d) => {
                (!d.asks_source() || only(&[PreRouting, LocalIn, Forward]))
                    && (!d.asks_destination() || only(&[Forward, LocalOut, PostRouting]))
            }
            Xt::Realm(_) => only(&[LocalIn, Forward, LocalOut, PostRouting]),
            Xt::Policy(p) => p.allowed(hooks),
            Xt::Eui64 => only(&[PreRouting, LocalIn, Forward]),
            _ => true,
        }
    }

    /// `None`: the packet is dropped (`hotdrop`).
    #[cold]
    pub fn matches(&mut self, net: &mut Net, ns: NsId, p: &Pkt, skb: &mut SkBuff, devs: Devs) -> Option<bool> {
        Some(match self {
            Xt::Recent(m) => return m.matches(net, ns, p, skb, devs),
            Xt::Hashlimit(m) => return m.matches(net, ns, p, skb),
            Xt::Connlimit(m) => m.matches(net, p, skb),
            Xt::Connbytes(m) => m.matches(net, skb),
            Xt::Helper(m) => m.matches(),
            Xt::Quota(m) => m.matches(p),
            Xt::Rpfilter(m) => m.matches(net, ns, p, skb, devs),
            Xt::Iprange(m) => m.matches(p),
            Xt::Mac(m) => m.matches(net, skb, devs),
            Xt::Pkttype(m) => m.matches(p, skb),
            Xt::Devgroup(m) => m.matches(net, devs),
            Xt::Ttl(m) => m.matches(p),
            Xt::Tos(m) => m.matches(p),
            Xt::Dscp(m) => m.matches(p),
            Xt::Ecn(m) => return m.matches(p, skb),
            Xt::Tcpmss(m) => return m.matches(p, skb),
            Xt::Spi(m) => return m.matches(p, skb),
            Xt::Strings(m) => m.matches(skb),
            Xt::Time(m) => m.matches(net, skb),
            Xt::U32(m) => m.matches(skb),
            Xt::Bpf(m) => m.matches(net, skb),
            Xt::Policy(m) => m.matches(),
            Xt::Cpu(m) => m.matches(net),
            Xt::Realm(m) => m.matches(),
            Xt::Socket(m) => m.matches(skb),
            Xt::Rt(m) => m.matches(skb),
            Xt::Frag(m) => m.matches(skb),
            Xt::Opts(m) => m.matches(skb),
            Xt::Ipv6Header(m) => m.matches(skb),
            Xt::Eui64 => eui64(p, skb),
        })
    }
}

/// What rules of a namespace share by name, for as long as one of them is there.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// Addresses of both families.
    recent: BTreeMap<String, recent::Table>,
    hashlimit: BTreeMap<(Pf, String), hashlimit::Table>,
}

impl Net {
    /// Before rules come into a table: what they share is made.
    pub(crate) fn xt_prepare<'a>(&mut self, ns: NsId, pf: Pf, matches: impl Iterator<Item = &'a Match>) {
        let Some(n) = self.ns.get_mut(ns) else { return };
        for m in matches {
            let Some(x) = m.as_xt() else { continue };
            match x {
                Xt::Recent(r) => r.prepare(&mut n.xt.get_or_insert_default().recent),
                Xt::Hashlimit(h) => h.prepare(&mut n.xt.get_or_insert_default().hashlimit, pf),
                _ if x.needs_acct() => n.sysctl.nf_conntrack_acct = 1,
                _ => {}
            }
        }
    }

    /// After rules have gone: what none of them names goes with them.
    pub(crate) fn xt_sweep(&mut self, ns: NsId) {
        let Some(n) = self.ns.get_mut(ns) else { return };
        let (Some(shared), Some(nf)) = (n.xt.as_deref_mut(), n.nf.as_deref()) else { return };
        let (mut recent, mut hashlimit) = (BTreeSet::new(), BTreeSet::new());
        nf.each_match(|pf, m| match m.as_xt() {
            Some(Xt::Recent(r)) => drop(recent.insert(r.name.clone())),
            Some(Xt::Hashlimit(h)) => drop(hashlimit.insert((pf, h.name.clone()))),
            _ => {}
        });
        shared.recent.retain(|k, _| recent.contains(k));
        shared.hashlimit.retain(|k, _| hashlimit.contains(k));
    }

    /// Names of files in `/proc/net/xt_recent`, `ipt_hashlimit` and `ip6t_hashlimit`.
    pub fn xt_files(&self, ns: NsId, dir: &str) -> Vec<String> {
        let Some(x) = self.ns.get(ns).and_then(|n| n.xt.as_deref()) else { return Vec::new() };
        match dir {
            "xt_recent" => x.recent.keys().cloned().collect(),
            "ipt_hashlimit" => x.hashlimit.keys().filter(|k| k.0 == Pf::V4).map(|k| k.1.clone()).collect(),
            "ip6t_hashlimit" => x.hashlimit.keys().filter(|k| k.0 == Pf::V6).map(|k| k.1.clone()).collect(),
            _ => Vec::new(),
        }
    }

    /// The text of one of them.
    pub fn xt_file(&self, ns: NsId, dir: &str, name: &str) -> Option<String> {
        let x = self.ns.get(ns).and_then(|n| n.xt.as_deref())?;
        let (now, hz) = ticks(self);
        let both = |pf| (pf, name.to_owned());
        match dir {
            "xt_recent" => Some(x.recent.get(name)?.text()),
            "ipt_hashlimit" => Some(x.hashlimit.get(&both(Pf::V4))?.text(Pf::V4, now, hz)),
            "ip6t_hashlimit" => Some(x.hashlimit.get(&both(Pf::V6))?.text(Pf::V6, now, hz)),
            _ => None,
        }
    }

    /// `+ADDRESS`, `-ADDRESS` or `/` written to a list of `recent`.
    #[doc(alias = "recent_mt_proc_write")]
    pub fn xt_recent_write(&mut self, ns: NsId, name: &str, text: &str) -> Result<(), Errno> {
        let (now, _) = ticks(self);
        let x = self.ns.get_mut(ns).and_then(|n| n.xt.as_deref_mut()).ok_or(Errno::ENOENT)?;
        x.recent.get_mut(name).ok_or(Errno::ENOENT)?.write(text, now)
    }
}

/// Directories of [`Net::xt_files`].
pub const DIRS: [&str; 3] = ["xt_recent", "ipt_hashlimit", "ip6t_hashlimit"];

/// Ticks since the machine began, which never go round, and how many there are in a second.
fn ticks(net: &Net) -> (u64, u64) {
    let hz = u64::from(net.env.hz.max(1));
    ((u128::from(net.env.now) * u128::from(hz) / u128::from(crate::env::SEC)) as u64, hz)
}

/// A space, and ` !` before it where that is asked the other way round.
fn bang(inv: bool) -> &'static str {
    if inv { " !" } else { "" }
}

/// As extensions say that an option has to be given.
fn must(name: &str, option: &str) -> Done {
    Err(Fail::Extension(format!("{name}: option \"{option}\" must be specified")))
}

fn bad<T>(name: &str, option: &str, value: &str) -> Done<T> {
    usage(format!("{name}: Bad value for \"{option}\" option: \"{value}\""))
}

#[cfg(test)]
mod tests {
    use super::super::blob::ext;
    use super::*;

    /// Bytes of matches and targets that no program would write.
    #[test]
    fn broken_bytes_are_refused() {
        for pf in [Pf::V4, Pf::V6] {
            for (name, revision) in ext::matches(pf) {
                for len in [0, 1, 3, 8, 64, 300, 2000] {
                    for fill in [0, 1, 0x7f, 0xff] {
                        if let Ok(m) = ext::read_match(pf, name, revision, &vec![fill; len]) {
                            let (name, _, bytes) = ext::write_match(pf, &m);
                            assert!(bytes.len() <= 2100, "{name}");
                        }
                    }
                }
            }
            for (name, revision) in ext::targets(pf) {
                for len in [0, 1, 3, 8, 64, 300] {
                    for fill in [0, 1, 0x7f, 0xff] {
                        if let Ok(t) = ext::read_target(pf, name, revision, &vec![fill; len]) {
                            ext::write_target(pf, &t);
                        }
                    }
                }
            }
        }
    }
}
