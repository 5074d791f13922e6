//! Expressions: as data, and read from attributes. What they do is in `eval.rs`, how they are told in `tell.rs`.
use super::compat::{Xt, XtKind};
use super::ct::parse as ct;
use super::dup::Dup;
use super::dynamic::{Connlimit, Dynset, Quota, objref};
use super::exthdr::Exthdr;
use super::fib::Fib;
use super::layer2::Family;
use super::limit::{self, Limit};
use super::numgen::{Hash, Numgen};
use super::rt::Rt;
use super::socket::{Socket, Tproxy};
use super::verify::is_led_to;
use super::write::Write;
use super::{Data, Rule, Say, Table, Value, meta};
use crate::net::netfilter::nfnetlink::{be32, be64};
use crate::net::netfilter::rules::{Counters, NAT_PROTO_SPECIFIED, Nflog};
use crate::net::netlink::{Done, Req, str_of};
use belljar_abi::Errno;
use belljar_abi::netlink as nl;
use belljar_abi::nf_tables::*;
use std::sync::Arc;

/// Where in the 64 bytes of registers a value begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reg(pub u8);

impl Reg {
    /// A register with room for `len` bytes: four of sixteen bytes, the same as sixteen of four.
    #[doc(alias = "nft_parse_register")]
    pub fn parse(v: Option<&[u8]>, len: usize) -> Done<Reg> {
        let at = match be32(v.ok_or(Errno::EINVAL)?)? {
            n @ 1..=4 => (n - 1) * 16,
            n @ 8..=23 => (n - 8) * 4,
            _ => return Err(Errno::EINVAL.into()),
        };
        if len == 0 {
            return Err(Errno::EINVAL.into());
        }
        if at as usize + len > NFT_DATA_VALUE_MAXLEN {
            return Err(Errno::ERANGE.into());
        }
        Ok(Reg(at as u8))
    }

    pub fn number(self) -> u32 {
        let at = u32::from(self.0);
        if at % 16 == 0 { 1 + at / 16 } else { 8 + at / 4 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bit {
    Mask { mask: Value, xor: Value },
    Left(u32),
    Right(u32),
}

/// Addresses and ports to translate to, in registers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NatRegs {
    pub addr: Option<(Reg, Reg)>,
    pub port: Option<(Reg, Reg)>,
    pub flags: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    Snat,
    Dnat,
    Masquerade,
    Redirect,
}

#[derive(Clone, Debug)]
pub enum Expr {
    /// No register: the verdict.
    Immediate {
        dreg: Option<Reg>,
        data: Data,
    },
    Payload {
        base: u32,
        offset: u32,
        len: u8,
        dreg: Reg,
    },
    Cmp {
        sreg: Reg,
        op: u32,
        data: Value,
    },
    Range {
        sreg: Reg,
        invert: bool,
        from: Value,
        to: Value,
    },
    Bitwise {
        sreg: Reg,
        dreg: Reg,
        len: u8,
        bit: Bit,
    },
    Byteorder {
        sreg: Reg,
        dreg: Reg,
        op: u32,
        len: u8,
        size: u8,
    },
    Meta {
        key: u32,
        dreg: Reg,
    },
    MetaSet {
        key: u32,
        sreg: Reg,
    },
    Fib(Fib),
    Numgen(Numgen),
    Hash(Hash),
    Exthdr(Exthdr),
    Rt(Rt),
    Connlimit(Connlimit),
    Socket(Socket),
    Tproxy(Tproxy),
    /// Into a header of the packet.
    Write(Write),
    Ct {
        key: u32,
        dir: Option<u8>,
        dreg: Reg,
    },
    CtMark {
        sreg: Reg,
    },
    CtZone {
        sreg: Reg,
        dir: Option<u8>,
    },
    Dup(Dup),
    Counter(Counters),
    Lookup {
        set: u64,
        sreg: Reg,
        dreg: Option<Reg>,
        verdict: bool,
        invert: bool,
    },
    Limit(Limit),
    Quota(Quota),
    /// An object of the table, by its handle.
    ObjRef(u64),
    Dynset(Box<Dynset>),
    Log {
        prefix: Arc<str>,
        level: Option<u32>,
        flags: u32,
    },
    Nflog(Nflog),
    Reject {
        kind: u32,
        code: u8,
    },
    Nat {
        kind: NatKind,
        family: u8,
        regs: NatRegs,
    },
    Notrack,
    Xt(Box<Xt>),
}

/// What names in expressions mean: the table, and the batch in which its newest parts have numbers.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    pub(super) table: &'a Table,
    pub batch: u32,
}

impl Names<'_> {
    /// A chain that can be jumped to.
    fn chain(&self, name: Option<&[u8]>, id: Option<&[u8]>) -> Done<u64> {
        let found = match (name, id) {
            (Some(n), _) => {
                let n = str_of(n)?;
                self.table.chains.iter().find(|c| *c.name == *n)
            }
            (None, Some(id)) => {
                let id = be32(id)?;
                self.table.chains.iter().find(|c| c.txn == (self.batch, id))
            }
            (None, None) => return Err(Errno::EINVAL.into()),
        };
        let c = found.ok_or(Errno::ENOENT)?;
        if c.base.is_some() {
            return Err(Errno::EOPNOTSUPP.into());
        }
        // A chain of one rule is no other's.
        let taken = c.is_bound() && is_led_to(self.table, c.handle);
        if taken { Err(Errno::EINVAL.into()) } else { Ok(c.handle) }
    }

    /// A set by name, or by its number in this batch.
    #[doc(alias = "nft_set_lookup_global")]
    pub fn set(&self, name: Option<&[u8]>, id: Option<&[u8]>) -> Done<usize> {
        let by_name = name.map(str_of).transpose()?;
        let named = by_name.and_then(|n| self.table.sets.iter().position(|s| *s.name == *n));
        let id = id.map(be32).transpose()?;
        let numbered = || id.and_then(|id| self.table.sets.iter().position(|s| s.txn == (self.batch, id)));
        Ok(named.or_else(numbered).ok_or(Errno::ENOENT)?)
    }
}

/// An expression's attributes by kind.
#[derive(Clone, Copy, Debug)]
pub struct Attrs<'a>(pub &'a [u8]);

impl<'a> Attrs<'a> {
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        nl::attrs(self.0).find(|(k, _)| *k == kind).map(|(_, v)| v)
    }
}

pub fn number(a: Attrs<'_>, kind: u16) -> Done<u32> {
    be32(a.get(kind).ok_or(Errno::EINVAL)?)
}

pub fn be64_or(a: Attrs<'_>, kind: u16, none: u64) -> Done<u64> {
    Ok(a.get(kind).map(be64).transpose()?.unwrap_or(none))
}

fn be16(v: &[u8]) -> Done<u16> {
    v.first_chunk().map(|b| u16::from_be_bytes(*b)).ok_or(Errno::EINVAL.into())
}

pub fn number_or(a: Attrs<'_>, kind: u16, none: u32) -> Done<u32> {
    Ok(a.get(kind).map(be32).transpose()?.unwrap_or(none))
}

/// `NFTA_DATA_VALUE` or a verdict.
#[doc(alias = "nft_data_init")]
pub fn read_data(names: &Names<'_>, b: &[u8]) -> Done<Data> {
    let get = |b, kind| nl::attrs(b).find(|(k, _)| *k == kind).map(|(_, v)| v);
    if let Some(v) = get(b, NFTA_DATA_VALUE) {
        return Ok(Data::Value(Value::new(v).ok_or(Errno::EINVAL)?));
    }
    let v = get(b, NFTA_DATA_VERDICT).ok_or(Errno::EINVAL)?;
    let code = be32(get(v, NFTA_VERDICT_CODE).ok_or(Errno::EINVAL)?)? as i32;
    let chain = match code {
        NF_ACCEPT | NF_DROP | NF_QUEUE | NFT_CONTINUE | NFT_BREAK | NFT_RETURN => 0,
        NFT_JUMP | NFT_GOTO => names.chain(get(v, NFTA_VERDICT_CHAIN), get(v, NFTA_VERDICT_CHAIN_ID))?,
        _ => return Err(Errno::EINVAL.into()),
    };
    Ok(Data::Verdict(Say { code, chain }))
}

fn value(names: &Names<'_>, v: Option<&[u8]>, len: Option<usize>) -> Done<Value> {
    match read_data(names, v.ok_or(Errno::EINVAL)?)? {
        Data::Value(v) if len.is_none_or(|n| n == usize::from(v.len)) => Ok(v),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// One expression of a rule.
#[doc(alias = "nf_tables_newexpr")]
pub fn parse(names: &Names<'_>, compat: Option<(u32, u32)>, b: &[u8]) -> Done<Expr> {
    let get = |kind| nl::attrs(b).find(|(k, _)| *k == kind).map(|(_, v)| v);
    let name = str_of(get(NFTA_EXPR_NAME).ok_or(Errno::EINVAL)?)?;
    let data = get(NFTA_EXPR_DATA).unwrap_or(&[]);
    let a = Attrs(data);
    match name {
        // These are made for each family, and for these two there are none.
        "reject" | "fib" if Family::of(names.table.family).is_some() => Err(Errno::ENOENT.into()),
        "immediate" => immediate(names, a),
        "payload" if a.get(NFTA_PAYLOAD_SREG).is_some() => Ok(Expr::Write(Write::parse(a)?)),
        "payload" => payload(a),
        "cmp" => {
            let data = value(names, a.get(3), None)?;
            let op = number(a, 2)?;
            if op > 5 {
                return Err(Errno::EINVAL.into());
            }
            Ok(Expr::Cmp { sreg: Reg::parse(a.get(1), data.len.into())?, op, data })
        }
        "range" => {
            let from = value(names, a.get(3), None)?;
            let to = value(names, a.get(4), Some(from.len.into()))?;
            let op = number(a, 2)?;
            if op > 1 {
                return Err(Errno::EINVAL.into());
            }
            Ok(Expr::Range { sreg: Reg::parse(a.get(1), from.len.into())?, invert: op == 1, from, to })
        }
        "bitwise" => bitwise(names, a),
        "byteorder" => byteorder(a),
        "meta" => meta::parse(a),
        "fib" => Ok(Expr::Fib(Fib::parse(a)?)),
        "numgen" => Ok(Expr::Numgen(Numgen::parse(a)?)),
        "hash" => Ok(Expr::Hash(Hash::parse(a)?)),
        "rt" => Ok(Expr::Rt(Rt::parse(a)?)),
        "socket" => Ok(Expr::Socket(Socket::parse(names.table.family, a)?)),
        "tproxy" => Ok(Expr::Tproxy(Tproxy::parse(names.table.family, a)?)),
        "dup" => Ok(Expr::Dup(Dup::parse(names.table.family, a)?)),
        "connlimit" => Ok(Expr::Connlimit(Connlimit::parse(a)?)),
        "exthdr" => Ok(Expr::Exthdr(Exthdr::parse(a)?)),
        "ct" => ct(a),
        "counter" => Ok(Expr::Counter(counter(a)?)),
        "lookup" => lookup(names, a),
        "limit" => Ok(Expr::Limit(limit::parse(a)?)),
        "quota" => Ok(Expr::Quota(Quota::parse(a)?)),
        "objref" => objref(names, a),
        "dynset" => Ok(Expr::Dynset(Box::new(Dynset::parse(names, a)?))),
        "log" => log(a),
        "reject" => reject(names, a),
        "nat" | "masq" | "redir" => nat(names, name, a),
        "notrack" => Ok(Expr::Notrack),
        "match" => Ok(Expr::Xt(Box::new(Xt::parse(names, XtKind::Match, compat, a)?))),
        "target" => Ok(Expr::Xt(Box::new(Xt::parse(names, XtKind::Target, compat, a)?))),
        // As in a kernel without the module.
        _ => Err(Errno::ENOENT.into()),
    }
}

pub fn counter(a: Attrs<'_>) -> Done<Counters> {
    Ok(Counters { bytes: be64_or(a, 1, 0)?, packets: be64_or(a, 2, 0)? })
}

fn immediate(names: &Names<'_>, a: Attrs<'_>) -> Done<Expr> {
    let data = read_data(names, a.get(2).ok_or(Errno::EINVAL)?)?;
    let dreg = match (&data, number(a, 1)?) {
        (Data::Verdict(_), 0) => None,
        (Data::Value(v), _) => Some(Reg::parse(a.get(1), v.len.into())?),
        _ => return Err(Errno::EINVAL.into()),
    };
    Ok(Expr::Immediate { dreg, data })
}

/// Headers by number: link, network, transport.
pub const PAYLOAD_LL: u32 = 0;
pub const PAYLOAD_NETWORK: u32 = 1;
pub const PAYLOAD_TRANSPORT: u32 = 2;

fn payload(a: Attrs<'_>) -> Done<Expr> {
    let (base, offset, len) = (number(a, 2)?, number(a, 3)?, number(a, 4)?);
    if base > PAYLOAD_TRANSPORT {
        // What lies further in.
        return Err(Errno::EOPNOTSUPP.into());
    }
    if offset > 255 {
        return Err(Errno::ERANGE.into());
    }
    if len == 0 || len as usize > NFT_DATA_VALUE_MAXLEN {
        return Err(Errno::EINVAL.into());
    }
    Ok(Expr::Payload { base, offset, len: len as u8, dreg: Reg::parse(a.get(1), len as usize)? })
}

fn bitwise(names: &Names<'_>, a: Attrs<'_>) -> Done<Expr> {
    let len = number(a, 3)? as usize;
    let (sreg, dreg) = (Reg::parse(a.get(1), len)?, Reg::parse(a.get(2), len)?);
    let op = number_or(a, 6, 0)?;
    let shift = || match read_data(names, a.get(7).ok_or(Errno::EINVAL)?)? {
        Data::Value(v) => match v.get().first_chunk::<4>().map(|b| u32::from_ne_bytes(*b)) {
            Some(n) if n < 32 && v.len == 4 => Ok(n),
            _ => Err(Errno::EINVAL.into()),
        },
        Data::Verdict(_) => Err(crate::net::netlink::Refusal::from(Errno::EINVAL)),
    };
    let bit = match op {
        0 => Bit::Mask { mask: value(names, a.get(4), Some(len))?, xor: value(names, a.get(5), Some(len))? },
        1 => Bit::Left(shift()?),
        2 => Bit::Right(shift()?),
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    Ok(Expr::Bitwise { sreg, dreg, len: len as u8, bit })
}

fn byteorder(a: Attrs<'_>) -> Done<Expr> {
    let (op, len, size) = (number(a, 3)?, number(a, 4)? as usize, number(a, 5)?);
    if op > 1 || !matches!(size, 2 | 4 | 8) {
        return Err(Errno::EINVAL.into());
    }
    let (sreg, dreg) = (Reg::parse(a.get(1), len)?, Reg::parse(a.get(2), len)?);
    Ok(Expr::Byteorder { sreg, dreg, op, len: len as u8, size: size as u8 })
}

fn lookup(names: &Names<'_>, a: Attrs<'_>) -> Done<Expr> {
    let at = names.set(a.get(1), a.get(4))?;
    let Some(s) = names.table.sets.get(at) else { return Err(Errno::ENOENT.into()) };
    let flags = number_or(a, 5, 0)?;
    let invert = flags & 1 != 0;
    let sreg = Reg::parse(a.get(2), s.key_len)?;
    let (dreg, verdict) = match a.get(3) {
        None => (None, false),
        Some(_) if s.flags & NFT_SET_MAP == 0 || invert => return Err(Errno::EINVAL.into()),
        Some(v) if s.data_type == NFT_DATA_VERDICT => {
            if be32(v)? != 0 {
                return Err(Errno::EINVAL.into());
            }
            (None, true)
        }
        Some(v) => (Some(Reg::parse(Some(v), s.data_len)?), false),
    };
    if flags & !1 != 0 {
        return Err(Errno::EINVAL.into());
    }
    Ok(Expr::Lookup { set: s.handle, sreg, dreg, verdict, invert })
}

fn log(a: Attrs<'_>) -> Done<Expr> {
    let prefix = a.get(2).map(str_of).transpose()?.unwrap_or("");
    let level = a.get(5).map(be32).transpose()?;
    let flags = number_or(a, 6, 0)?;
    if let Some(group) = a.get(1) {
        if prefix.len() > 127 || level.is_some() || a.get(6).is_some() {
            return Err(Errno::EINVAL.into());
        }
        let size = a.get(3).map(be32).transpose()?;
        let threshold = a.get(4).map(be16).transpose()?.unwrap_or(0);
        return Ok(Expr::Nflog(Nflog { group: be16(group)?, prefix: prefix.into(), size, range: 0, threshold }));
    }
    if prefix.len() > 127
        || a.get(3).is_some()
        || a.get(4).is_some()
        || level.is_some_and(|l| l > 7)
        || flags & !0x2f != 0
    {
        return Err(Errno::EINVAL.into());
    }
    Ok(Expr::Log { prefix: prefix.into(), level, flags })
}

/// `NFT_REJECT_*`.
pub const REJECT_ICMP: u32 = 0;
pub const REJECT_RST: u32 = 1;
pub const REJECT_ICMPX: u32 = 2;

fn reject(names: &Names<'_>, a: Attrs<'_>) -> Done<Expr> {
    let kind = number(a, 1)?;
    let code = a.get(2).and_then(|v| v.first().copied());
    let code = match (kind, code) {
        (REJECT_RST, _) => 0,
        (REJECT_ICMP, Some(_)) if names.table.family == NFPROTO_INET => return Err(Errno::EINVAL.into()),
        (REJECT_ICMP, Some(c)) => c,
        (REJECT_ICMPX, Some(c)) if c <= 3 && names.table.family == NFPROTO_INET => c,
        _ => return Err(Errno::EINVAL.into()),
    };
    Ok(Expr::Reject { kind, code })
}

fn nat(names: &Names<'_>, name: &str, a: Attrs<'_>) -> Done<Expr> {
    // Attributes of the registers of ports and of the flags.
    let (ports, flags) = match name {
        "nat" => ((5, 6), 7),
        "masq" => ((2, 3), 1),
        _ => ((1, 2), 3),
    };
    let pair = |(min, max): (u16, u16), len| {
        let Some(v) = a.get(min) else { return Ok::<_, crate::net::netlink::Refusal>(None) };
        let first = Reg::parse(Some(v), len)?;
        let second = a.get(max).map(|v| Reg::parse(Some(v), len)).transpose()?.unwrap_or(first);
        Ok(Some((first, second)))
    };
    let flags = number_or(a, flags, 0)?;
    // That there are ports is said by their register as well.
    let flags = flags & !NAT_PROTO_SPECIFIED;
    if flags & !(4 | 8 | 16) != 0 {
        // Prefixes mapped on prefixes among them.
        return Err(Errno::EOPNOTSUPP.into());
    }
    let port = pair(ports, 2)?;
    if name != "nat" {
        let kind = if name == "masq" { NatKind::Masquerade } else { NatKind::Redirect };
        return Ok(Expr::Nat { kind, family: names.table.family, regs: NatRegs { addr: None, port, flags } });
    }
    let kind = match number(a, 1)? {
        0 => NatKind::Snat,
        1 => NatKind::Dnat,
        _ => return Err(Errno::EINVAL.into()),
    };
    let family = number(a, 2)?;
    let fits = u32::from(names.table.family) == family || names.table.family == NFPROTO_INET;
    let len = match family as u8 {
        _ if !fits || family > 255 => return Err(Errno::EOPNOTSUPP.into()),
        NFPROTO_IPV4 => 4,
        NFPROTO_IPV6 => 16,
        NFPROTO_INET => 16,
        _ => return Err(Errno::EAFNOSUPPORT.into()),
    };
    let addr = pair((3, 4), len)?;
    if family as u8 == NFPROTO_INET && addr.is_some() {
        return Err(Errno::EAFNOSUPPORT.into());
    }
    Ok(Expr::Nat { kind, family: family as u8, regs: NatRegs { addr, port, flags } })
}

impl Expr {
    pub fn needs_conntrack(&self) -> bool {
        match self {
            Expr::Ct { .. }
            | Expr::CtMark { .. }
            | Expr::CtZone { .. }
            | Expr::Nat { .. }
            | Expr::Notrack
            | Expr::Connlimit(_) => true,
            Expr::Xt(x) => x.needs_conntrack(),
            _ => false,
        }
    }

    pub fn is_tproxy(&self) -> bool {
        match self {
            Expr::Tproxy(_) => true,
            Expr::Xt(x) => x.is_tproxy(),
            _ => false,
        }
    }

    pub fn needs_acct(&self) -> bool {
        matches!(self, Expr::Ct { key: NFT_CT_PKTS | NFT_CT_BYTES | NFT_CT_AVGPKT, .. })
    }

    /// The set that it looks into.
    pub fn set(&self) -> Option<u64> {
        match self {
            Expr::Lookup { set, .. } => Some(*set),
            Expr::Dynset(d) => Some(d.set),
            _ => None,
        }
    }

    /// The chain that it leads to.
    pub fn jump(&self) -> Option<u64> {
        match self {
            Expr::Immediate { data: Data::Verdict(Say { chain, .. }), .. } if *chain != 0 => Some(*chain),
            _ => None,
        }
    }
}

/// Expressions of a rule that may be.
const MAX_EXPRS: usize = 128;

/// The list of a rule's expressions.
pub fn parse_all(names: &Names<'_>, compat: Option<(u32, u32)>, r: Req<'_>, list: &[u8]) -> Done<Vec<Expr>> {
    let mut out = Vec::new();
    for (kind, b) in nl::attrs(list) {
        if kind != NFTA_LIST_ELEM || out.len() == MAX_EXPRS {
            return Err(Errno::EINVAL.into());
        }
        out.push(parse(names, compat, b).map_err(|e| e.about(r.offset_of(b)))?);
    }
    Ok(out)
}

/// Sets without names that a rule leads to: they end with it.
pub fn sets_of(r: &Rule) -> impl Iterator<Item = u64> {
    r.exprs.iter().filter_map(Expr::set)
}
