//! Expressions as attributes, as they came and as `nft list` reads them.
use super::expr::*;
use super::{Data, Say, Value};
use belljar_abi::netlink::{Msg, NLA_F_NESTED};
use belljar_abi::nf_tables::*;

pub fn put_data(m: &mut Msg<'_>, names: &Names<'_>, kind: u16, d: &Data) {
    m.nest(kind | NLA_F_NESTED, |m| match d {
        Data::Value(v) => {
            m.attr(NFTA_DATA_VALUE, v.get());
        }
        Data::Verdict(say) => put_verdict(m, names, NFTA_DATA_VERDICT, *say),
    });
}

#[doc(alias = "nft_verdict_dump")]
pub fn put_verdict(m: &mut Msg<'_>, names: &Names<'_>, kind: u16, say: Say) {
    m.nest(kind | NLA_F_NESTED, |m| {
        m.attr(NFTA_VERDICT_CODE, &say.code.to_be_bytes());
        if matches!(say.code, NFT_JUMP | NFT_GOTO) {
            let name = names.table.chain_at(say.chain).and_then(|c| names.table.chains.get(c));
            m.attr_str(NFTA_VERDICT_CHAIN, name.map_or("", |c| &c.name));
        }
    });
}

impl Expr {
    fn name(&self) -> &'static str {
        match self {
            Expr::Immediate { .. } => "immediate",
            Expr::Payload { .. } | Expr::Write(_) => "payload",
            Expr::Cmp { .. } => "cmp",
            Expr::Range { .. } => "range",
            Expr::Bitwise { .. } => "bitwise",
            Expr::Byteorder { .. } => "byteorder",
            Expr::Meta { .. } | Expr::MetaSet { .. } => "meta",
            Expr::Fib(_) => "fib",
            Expr::Numgen(_) => "numgen",
            Expr::Hash(_) => "hash",
            Expr::Exthdr(_) => "exthdr",
            Expr::Rt(_) => "rt",
            Expr::Connlimit(_) => "connlimit",
            Expr::Socket(_) => "socket",
            Expr::Tproxy(_) => "tproxy",
            Expr::Ct { .. } | Expr::CtMark { .. } | Expr::CtZone { .. } => "ct",
            Expr::Dup(_) => "dup",
            Expr::Counter(_) => "counter",
            Expr::Lookup { .. } => "lookup",
            Expr::Limit(_) => "limit",
            Expr::Quota(_) => "quota",
            Expr::ObjRef(_) => "objref",
            Expr::Dynset(_) => "dynset",
            Expr::Log { .. } | Expr::Nflog(_) => "log",
            Expr::Reject { .. } => "reject",
            Expr::Nat { kind: NatKind::Snat | NatKind::Dnat, .. } => "nat",
            Expr::Nat { kind: NatKind::Masquerade, .. } => "masq",
            Expr::Nat { kind: NatKind::Redirect, .. } => "redir",
            Expr::Notrack => "notrack",
            Expr::Xt(x) => x.kind.name(),
        }
    }

    /// As an element of a list of expressions.
    pub fn fill(&self, m: &mut Msg<'_>, names: &Names<'_>) {
        m.nest(NFTA_LIST_ELEM | NLA_F_NESTED, |m| self.fill_inside(m, names));
    }

    pub fn fill_inside(&self, m: &mut Msg<'_>, names: &Names<'_>) {
        m.attr_str(NFTA_EXPR_NAME, self.name());
        m.nest(NFTA_EXPR_DATA | NLA_F_NESTED, |m| self.attributes(m, names));
    }

    fn attributes(&self, m: &mut Msg<'_>, names: &Names<'_>) {
        fn be(m: &mut Msg<'_>, kind: u16, v: u32) {
            m.attr(kind, &v.to_be_bytes());
        }
        fn be8(m: &mut Msg<'_>, kind: u16, v: u64) {
            m.attr(kind, &v.to_be_bytes());
        }
        let value = |m: &mut Msg<'_>, kind, v: &Value| put_data(m, names, kind, &Data::Value(*v));
        match self {
            Expr::Immediate { dreg, data } => {
                be(m, 1, dreg.map_or(0, Reg::number));
                put_data(m, names, 2, data);
            }
            Expr::Payload { base, offset, len, dreg } => {
                be(m, 1, dreg.number());
                be(m, 2, *base);
                be(m, 3, *offset);
                be(m, 4, (*len).into());
            }
            Expr::Cmp { sreg, op, data } => {
                be(m, 1, sreg.number());
                be(m, 2, *op);
                value(m, 3, data);
            }
            Expr::Range { sreg, invert, from, to } => {
                be(m, 1, sreg.number());
                be(m, 2, (*invert).into());
                value(m, 3, from);
                value(m, 4, to);
            }
            Expr::Bitwise { sreg, dreg, len, bit } => {
                be(m, 1, sreg.number());
                be(m, 2, dreg.number());
                be(m, 3, (*len).into());
                match bit {
                    Bit::Mask { mask, xor } => {
                        be(m, 6, 0);
                        value(m, 4, mask);
                        value(m, 5, xor);
                    }
                    Bit::Left(n) | Bit::Right(n) => {
                        be(m, 6, if matches!(bit, Bit::Left(_)) { 1 } else { 2 });
                        let mut v = Value { bytes: [0; NFT_DATA_VALUE_MAXLEN], len: 4 };
                        v.bytes[..4].copy_from_slice(&n.to_ne_bytes());
                        value(m, 7, &v);
                    }
                }
            }
            Expr::Byteorder { sreg, dreg, op, len, size } => {
                be(m, 1, sreg.number());
                be(m, 2, dreg.number());
                be(m, 3, *op);
                be(m, 4, (*len).into());
                be(m, 5, (*size).into());
            }
            Expr::Meta { key, dreg } => {
                be(m, 2, *key);
                be(m, 1, dreg.number());
            }
            Expr::Fib(f) => f.fill(m),
            Expr::Numgen(n) => n.fill(m),
            Expr::Hash(h) => h.fill(m),
            Expr::Exthdr(e) => e.fill(m),
            Expr::Rt(r) => r.fill(m),
            Expr::Connlimit(c) => c.fill(m),
            Expr::Socket(s) => s.fill(m),
            Expr::Tproxy(t) => t.fill(m),
            Expr::Write(w) => w.fill(m),
            Expr::MetaSet { key, sreg } => {
                be(m, 2, *key);
                be(m, 3, sreg.number());
            }
            Expr::Ct { key, dir, dreg } => {
                be(m, 1, dreg.number());
                be(m, 2, *key);
                if let Some(d) = dir {
                    m.attr_u8(3, *d);
                }
            }
            Expr::Dup(d) => d.fill(m),
            Expr::CtZone { sreg, dir } => {
                be(m, 4, sreg.number());
                be(m, 2, NFT_CT_ZONE);
                if let Some(d) = dir {
                    m.attr_u8(3, *d);
                }
            }
            Expr::CtMark { sreg } => {
                be(m, 4, sreg.number());
                be(m, 2, NFT_CT_MARK);
            }
            Expr::Counter(c) => {
                be8(m, 1, c.bytes);
                be8(m, 2, c.packets);
            }
            Expr::Lookup { set, sreg, dreg, verdict, invert } => {
                let name = names.table.set_at(*set).and_then(|s| names.table.sets.get(s)).map_or("", |s| &*s.name);
                m.attr_str(1, name);
                be(m, 2, sreg.number());
                if dreg.is_some() || *verdict {
                    be(m, 3, dreg.map_or(0, Reg::number));
                }
                be(m, 5, (*invert).into());
            }
            Expr::Limit(l) => l.fill(m),
            Expr::Quota(q) => q.fill(m),
            Expr::ObjRef(handle) => {
                let found = names.table.objects.iter().find(|o| o.handle == *handle);
                be(m, NFTA_OBJREF_IMM_TYPE, found.map_or(0, |o| o.kind.number()));
                m.attr_str(NFTA_OBJREF_IMM_NAME, found.map_or("", |o| &o.name));
            }
            Expr::Dynset(d) => d.fill(m, names),
            Expr::Log { prefix, level, flags } => {
                if !prefix.is_empty() {
                    m.attr_str(2, prefix);
                }
                be(m, 5, level.unwrap_or(4));
                if *flags != 0 {
                    be(m, 6, *flags);
                }
            }
            Expr::Nflog(l) => {
                if !l.prefix.is_empty() {
                    m.attr_str(2, &l.prefix);
                }
                m.attr(1, &l.group.to_be_bytes());
                if let Some(n) = l.size.filter(|n| *n != 0) {
                    be(m, 3, n);
                }
                if l.threshold != 0 {
                    m.attr(4, &l.threshold.to_be_bytes());
                }
            }
            Expr::Reject { kind, code } => {
                be(m, 1, *kind);
                if *kind != REJECT_RST {
                    m.attr_u8(2, *code);
                }
            }
            Expr::Nat { kind, family, regs } => fill_nat(m, *kind, *family, regs),
            Expr::Notrack => {}
            Expr::Xt(x) => x.fill(m),
        }
    }
}

fn fill_nat(m: &mut Msg<'_>, kind: NatKind, family: u8, regs: &NatRegs) {
    let mut be = |kind: u16, v: u32| {
        m.attr(kind, &v.to_be_bytes());
    };
    let (ports, flags) = match kind {
        NatKind::Snat | NatKind::Dnat => {
            be(1, u32::from(kind == NatKind::Dnat));
            be(2, family.into());
            if let Some((min, max)) = regs.addr {
                be(3, min.number());
                be(4, max.number());
            }
            ((5, 6), 7)
        }
        NatKind::Masquerade => ((2, 3), 1),
        NatKind::Redirect => ((1, 2), 3),
    };
    if let Some((min, max)) = regs.port {
        be(ports.0, min.number());
        be(ports.1, max.number());
    }
    if regs.flags != 0 {
        be(flags, regs.flags);
    }
}
