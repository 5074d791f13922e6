//! Tables, chains, rules, sets and elements as messages.
use super::expr::Names;
use super::layer2::Family;
use super::object::{Kind, Object};
use super::set::Set;
use super::{Chain, Rule, Table, dynamic, set};
use crate::net::netlink::Head;
use belljar_abi::netlink::{Msg, NLA_F_NESTED};
use belljar_abi::nf_tables::*;
use belljar_abi::nfnetlink::*;

pub fn kind(message: u8) -> u16 {
    u16::from(NFNL_SUBSYS_NFTABLES) << 8 | u16::from(message)
}

fn begin<'a>(out: &'a mut Vec<u8>, h: Head, family: u8, genid: u32) -> Msg<'a> {
    let mut m = Msg::new(out, h.kind, h.flags, h.seq, h.port);
    m.body(&nfgenmsg(family, genid as u16));
    m
}

fn be(m: &mut Msg<'_>, kind: u16, v: u32) {
    m.attr(kind, &v.to_be_bytes());
}

fn userdata(m: &mut Msg<'_>, kind: u16, bytes: &[u8]) {
    if !bytes.is_empty() {
        m.attr(kind, bytes);
    }
}

pub fn table(out: &mut Vec<u8>, h: Head, genid: u32, t: &Table) {
    let mut m = begin(out, h, t.family, genid);
    m.attr_str(NFTA_TABLE_NAME, &t.name);
    be(&mut m, NFTA_TABLE_FLAGS, t.flags);
    be(&mut m, NFTA_TABLE_USE, (t.chains.len() + t.sets.len() + t.objects.len()) as u32);
    m.attr(NFTA_TABLE_HANDLE, &t.handle.to_be_bytes());
    userdata(&mut m, NFTA_TABLE_USERDATA, &t.userdata);
}

/// How often a chain is named: by its rules, and by those that lead to it.
pub fn uses(t: &Table, c: &Chain) -> u32 {
    let rules = t.chains.iter().flat_map(|c| &c.rules).flat_map(|r| &r.exprs);
    let jumps = rules.filter(|e| e.jump() == Some(c.handle)).count();
    let elements = t.sets.iter().flat_map(|s| s.elements.values());
    let mapped = elements.filter(|e| matches!(e.data, Some(super::Data::Verdict(v)) if v.chain == c.handle)).count();
    (c.rules.len() + jumps + mapped) as u32
}

pub fn chain(out: &mut Vec<u8>, h: Head, genid: u32, t: &Table, c: &Chain) {
    let mut m = begin(out, h, t.family, genid);
    m.attr_str(NFTA_CHAIN_TABLE, &t.name).attr(NFTA_CHAIN_HANDLE, &c.handle.to_be_bytes());
    m.attr_str(NFTA_CHAIN_NAME, &c.name);
    if let Some(b) = &c.base {
        m.nest(NFTA_CHAIN_HOOK | NLA_F_NESTED, |m| {
            let number = match &b.at {
                None => Family::of(t.family).map_or(b.hook as u32, |f| f.number(b.hook)),
                Some(_) if t.family == NFPROTO_INET => NF_INET_INGRESS,
                Some(a) => a.way as u32,
            };
            be(m, NFTA_HOOK_HOOKNUM, number);
            be(m, NFTA_HOOK_PRIORITY, b.priority as u32);
            if let Some(a) = &b.at {
                m.nest(NFTA_HOOK_DEVS | NLA_F_NESTED, |m| {
                    a.devices.iter().for_each(|d| {
                        m.attr_str(NFTA_DEVICE_NAME, d);
                    });
                });
                if let [one] = &a.devices[..] {
                    m.attr_str(NFTA_HOOK_DEV, one);
                }
            }
        });
        be(&mut m, NFTA_CHAIN_POLICY, b.accept.into());
        m.attr_str(NFTA_CHAIN_TYPE, b.kind.name());
        if let Some(n) = b.counters {
            m.nest(NFTA_CHAIN_COUNTERS | NLA_F_NESTED, |m| {
                m.attr(1, &n.bytes.to_be_bytes()).attr(2, &n.packets.to_be_bytes());
            });
        }
    }
    if c.flags != 0 {
        be(&mut m, NFTA_CHAIN_FLAGS, c.flags);
    }
    be(&mut m, NFTA_CHAIN_USE, uses(t, c));
    userdata(&mut m, NFTA_CHAIN_USERDATA, &c.userdata);
}

pub fn rule(out: &mut Vec<u8>, h: Head, genid: u32, (t, c): (&Table, &Chain), r: &Rule) {
    let mut m = begin(out, h, t.family, genid);
    m.attr_str(NFTA_RULE_TABLE, &t.name).attr_str(NFTA_RULE_CHAIN, &c.name);
    m.attr(NFTA_RULE_HANDLE, &r.handle.to_be_bytes());
    let before = c.rules.iter().position(|x| x.handle == r.handle).and_then(|n| n.checked_sub(1));
    if let Some(b) = before.and_then(|n| c.rules.get(n)).filter(|_| h.kind == kind(NFT_MSG_NEWRULE)) {
        m.attr(NFTA_RULE_POSITION, &b.handle.to_be_bytes());
    }
    if let Some((proto, flags)) = r.compat {
        m.nest(NFTA_RULE_COMPAT | NLA_F_NESTED, |m| {
            be(m, NFTA_RULE_COMPAT_PROTO, proto);
            be(m, NFTA_RULE_COMPAT_FLAGS, flags);
        });
    }
    let names = Names { table: t, batch: 0 };
    m.nest(NFTA_RULE_EXPRESSIONS | NLA_F_NESTED, |m| r.exprs.iter().for_each(|e| e.fill(m, &names)));
    userdata(&mut m, NFTA_RULE_USERDATA, &r.userdata);
}

pub fn set(out: &mut Vec<u8>, h: Head, genid: u32, t: &Table, s: &Set) {
    let mut m = begin(out, h, t.family, genid);
    m.attr_str(NFTA_SET_TABLE, &t.name).attr_str(NFTA_SET_NAME, &s.name);
    m.attr(NFTA_SET_HANDLE, &s.handle.to_be_bytes());
    if s.flags != 0 {
        be(&mut m, NFTA_SET_FLAGS, s.flags);
    }
    be(&mut m, NFTA_SET_KEY_TYPE, s.key_type);
    be(&mut m, NFTA_SET_KEY_LEN, s.key_len as u32);
    if s.flags & NFT_SET_MAP != 0 {
        be(&mut m, NFTA_SET_DATA_TYPE, s.data_type);
        be(&mut m, NFTA_SET_DATA_LEN, s.data_len as u32);
    }
    if s.policy != 0 {
        be(&mut m, NFTA_SET_POLICY, s.policy);
    }
    if s.timeout != 0 {
        m.attr(NFTA_SET_TIMEOUT, &(s.timeout / 1_000_000).to_be_bytes());
    }
    if s.gc_interval != 0 {
        be(&mut m, NFTA_SET_GC_INTERVAL, s.gc_interval);
    }
    userdata(&mut m, NFTA_SET_USERDATA, &s.userdata);
    m.nest(NFTA_SET_DESC | NLA_F_NESTED, |m| {
        if s.size != 0 {
            be(m, NFTA_SET_DESC_SIZE, s.size);
        }
        if !s.concat.is_empty() {
            m.attr(NFTA_SET_DESC_CONCAT | NLA_F_NESTED, &s.concat);
        }
    });
    let names = Names { table: t, batch: 0 };
    dynamic::fill_stateful(&mut m, &names, (NFTA_SET_EXPR, NFTA_SET_EXPRESSIONS), &s.exprs);
}

pub fn object(out: &mut Vec<u8>, h: Head, genid: u32, t: &Table, o: &Object) {
    let mut m = begin(out, h, t.family, genid);
    m.attr_str(NFTA_OBJ_TABLE, &t.name).attr_str(NFTA_OBJ_NAME, &o.name);
    be(&mut m, NFTA_OBJ_TYPE, o.kind.number());
    m.attr(NFTA_OBJ_HANDLE, &o.handle.to_be_bytes());
    be(&mut m, NFTA_OBJ_USE, t.object_uses(o.handle) as u32);
    m.nest(NFTA_OBJ_DATA | NLA_F_NESTED, |m| match &o.kind {
        Kind::Counter(c) => {
            m.attr(1, &c.bytes.to_be_bytes()).attr(2, &c.packets.to_be_bytes());
        }
        Kind::Quota(q) => q.fill(m),
        Kind::Limit(l) => l.fill(m),
    });
    userdata(&mut m, NFTA_OBJ_USERDATA, &o.userdata);
}

/// Bytes of elements that go into one message.
const ELEMENTS: usize = 8192;

/// One message with the elements that `take` has left to give, up to a size.
pub fn some_elements<'a>(
    out: &mut Vec<u8>,
    h: Head,
    genid: u32,
    (t, s, now): (&Table, &Set, u64),
    list: &mut std::iter::Peekable<impl Iterator<Item = (&'a (super::Value, bool), &'a set::Element)>>,
) {
    let mut m = begin(out, h, t.family, genid);
    m.attr_str(NFTA_SET_ELEM_LIST_TABLE, &t.name).attr_str(NFTA_SET_ELEM_LIST_SET, &s.name);
    let names = Names { table: t, batch: 0 };
    m.nest(NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED, |m| {
        let first = m.written();
        while m.written() - first < ELEMENTS
            && let Some(e) = list.next()
        {
            set::fill(m, &names, s, e, now);
        }
    });
}

/// Elements as a request has them.
pub fn named_elements(out: &mut Vec<u8>, h: Head, genid: u32, (t, s): (&Table, &Set), list: &[u8]) {
    let mut m = begin(out, h, t.family, genid);
    m.attr_str(NFTA_SET_ELEM_LIST_TABLE, &t.name).attr_str(NFTA_SET_ELEM_LIST_SET, &s.name);
    m.attr(NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED, list);
}

pub fn generation(out: &mut Vec<u8>, genid: u32, (flags, seq, port): (u16, u32, u32), (pid, name): (u32, &str)) {
    let mut m = begin(out, Head { kind: kind(NFT_MSG_NEWGEN), flags, seq, port }, NFPROTO_UNSPEC, genid);
    be(&mut m, NFTA_GEN_ID, genid);
    be(&mut m, NFTA_GEN_PROC_PID, pid);
    m.attr_str(NFTA_GEN_PROC_NAME, name);
}
