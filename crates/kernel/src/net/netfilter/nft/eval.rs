//! Rules meet packets: a loop over expressions with sixteen registers of four bytes, and chains that call each other as deep
//! as is allowed.
use super::compat::Body;
use super::dynamic::Seen;
use super::expr::*;
use super::hit::hit;
use super::layer2;
use super::object::Object;
use super::set::Set;
use super::trace::{self, What};
use super::{Data, Nft, Say, Stand, Table, Value, dynamic, ebt, meta};
use crate::ids::NsId;
use crate::net::Net;
use crate::net::core::skb::SkBuff;
use crate::net::netfilter::conntrack::{CtInfo, NfCt, Zone};
use crate::net::netfilter::matches::match_one;
use crate::net::netfilter::packet::Pkt;
use crate::net::netfilter::rules::*;
use crate::net::netfilter::table::{self, Said};
use crate::net::netfilter::{Devs, Hook, Pf, Verdict, log, nat, nflog};
use belljar_abi::Errno;
use belljar_abi::nf_tables::*;
use std::cmp::Ordering;

const DROP: Verdict = Verdict::Drop(Errno::EPERM);

/// Where a packet is.
#[derive(Clone, Copy, Debug)]
pub struct At {
    pub ns: NsId,
    pub hook: Hook,
    pub devs: Devs,
    /// Not in the network layer.
    pub link: Option<Link>,
}

/// Of a frame at a device, on a bridge or of ARP.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub family: u8,
    pub protocol: u16,
    pub is_ip: bool,
    /// Of the hook.
    pub name: &'static str,
}

impl At {
    /// As it is told.
    pub fn name(&self) -> &'static str {
        self.link.map_or_else(|| self.hook.chain(), |l| l.name)
    }
}

/// What an expression left behind.
pub enum Then {
    Next,
    /// The rule is not about this packet.
    Break,
    Say(Say),
    /// The end of the way through this chain, said by a target.
    End(Verdict),
}

/// What rules look into and change, beside themselves.
struct Kept<'a> {
    sets: &'a mut [Set],
    objects: &'a mut [Object],
}

/// Registers.
pub struct Regs([u8; NFT_DATA_VALUE_MAXLEN]);

impl Regs {
    pub fn get(&self, r: Reg, len: usize) -> &[u8] {
        let at = usize::from(r.0);
        self.0.get(at..at + len).unwrap_or(&[])
    }

    /// Whole registers: what a value does not fill is nought.
    pub fn put(&mut self, r: Reg, v: &[u8]) {
        let at = usize::from(r.0);
        let end = (at + v.len().next_multiple_of(4)).min(self.0.len());
        if let Some(to) = self.0.get_mut(at..end) {
            to.fill(0);
            to.iter_mut().zip(v).for_each(|(t, b)| *t = *b);
        }
    }

    pub fn word(&self, r: Reg) -> u32 {
        self.get(r, 4).first_chunk().map_or(0, |b| u32::from_ne_bytes(*b))
    }

    pub fn port(&self, r: Reg) -> u16 {
        self.get(r, 2).first_chunk().map_or(0, |b| u16::from_be_bytes(*b))
    }

    pub fn addr(&self, r: Reg, pf: Pf) -> u128 {
        let len = if pf == Pf::V4 { 4 } else { 16 };
        self.get(r, len).iter().fold(0, |n, b| n << 8 | u128::from(*b))
    }
}

/// The verdict of the chains at a hook with a priority below `before` (all: `None`), beginning at the `at`th; the next one.
pub fn run(
    net: &mut Net,
    nft: &mut Nft,
    before: Option<i32>,
    next: &mut usize,
    a: At,
    p: &Pkt,
    skb: &mut SkBuff,
) -> (Verdict, bool) {
    let mut routes = false;
    while let Some(s) = nft.filter[p.pf as usize][a.hook as usize].get(*next).copied() {
        if before.is_some_and(|b| s.priority >= b) {
            break;
        }
        *next += 1;
        let mark = skb.mark;
        let verdict = stand(net, nft, s, a, p, skb);
        if verdict != Verdict::Accept {
            return (verdict, false);
        }
        let kind =
            nft.tables.get(s.table).and_then(|t| t.chains.get(s.chain)).and_then(|c| c.base.as_ref()).map(|b| b.kind);
        routes |= kind == Some(super::ChainType::Route) && mark != skb.mark;
    }
    (Verdict::Accept, routes)
}

/// The chains that are asked about a new connection: those before the priority of iptables' own table, or those behind.
pub fn translate(net: &mut Net, nft: &mut Nft, behind: bool, a: At, p: &Pkt, skb: &mut SkBuff) -> Verdict {
    let own = if matches!(a.hook, Hook::PreRouting | Hook::LocalOut) { -100 } else { 100 };
    let mut n = 0;
    while let Some(s) = nft.nat[p.pf as usize][a.hook as usize].get(n).copied() {
        n += 1;
        if (s.priority >= own) != behind {
            continue;
        }
        let verdict = stand(net, nft, s, a, p, skb);
        if verdict != Verdict::Accept || nat::decided(net, a.hook, skb) {
            return verdict;
        }
    }
    Verdict::Accept
}

#[doc(alias = "nft_do_chain")]
pub fn stand(net: &mut Net, nft: &mut Nft, s: Stand, a: At, p: &Pkt, skb: &mut SkBuff) -> Verdict {
    let Some(t) = nft.tables.get_mut(s.table) else { return Verdict::Accept };
    let mut first = true;
    let verdict = chains(net, t, s.chain, a, p, skb, &mut first);
    if let Some(v) = verdict {
        return v;
    }
    let Some(b) = t.chains.get_mut(s.chain).and_then(|c| c.base.as_mut()) else { return Verdict::Accept };
    if let Some(n) = &mut b.counters {
        n.packets += 1;
        n.bytes += p.len as u64;
    }
    let accept = b.accept;
    let policy = if accept { Then::End(Verdict::Accept) } else { Then::End(DROP) };
    net.rule_hit(skb, || hit(t, a, s.chain, 0, &policy));
    if skb.nf_trace {
        trace::tell(net, t, a, s.chain, (What::Policy(accept), &policy), p, skb, first);
    }
    if accept { Verdict::Accept } else { DROP }
}

/// Through rules from a chain on; `None` when none of them said anything.
fn chains(
    net: &mut Net,
    t: &mut Table,
    base: usize,
    a: At,
    p: &Pkt,
    skb: &mut SkBuff,
    first: &mut bool,
) -> Option<Verdict> {
    let mut regs = Regs([0; NFT_DATA_VALUE_MAXLEN]);
    let mut stack = [(0usize, 0usize); NFT_JUMP_STACK_SIZE];
    let mut depth = 0;
    let (mut chain, mut at) = (base, 0);
    loop {
        let Table { chains, sets, objects, .. } = t;
        let rule = chains.get_mut(chain).and_then(|c| c.rules.get_mut(at));
        let Some(rule) = rule else {
            depth = usize::checked_sub(depth, 1)?;
            (chain, at) = *stack.get(depth)?;
            continue;
        };
        at += 1;
        let handle = rule.handle;
        let then = rule_says(net, &mut rule.exprs, &mut Kept { sets, objects }, &mut regs, a, p, skb);
        if !matches!(then, Then::Break) {
            net.rule_hit(skb, || hit(t, a, chain, at, &then));
            if skb.nf_trace {
                trace::tell(net, t, a, chain, (What::Rule(handle), &then), p, skb, *first);
                *first = false;
            }
        }
        let say = match then {
            Then::Next | Then::Break => continue,
            Then::End(v) => return Some(v),
            Then::Say(s) => s,
        };
        match say.code {
            NF_ACCEPT => return Some(Verdict::Accept),
            NFT_CONTINUE | NFT_BREAK => {}
            NFT_JUMP | NFT_GOTO => {
                if say.code == NFT_JUMP {
                    // What leads deeper is not taken into a table.
                    let Some(slot) = stack.get_mut(depth) else { return Some(DROP) };
                    *slot = (chain, at);
                    depth += 1;
                }
                let Some(to) = t.chain_at(say.chain) else { return Some(DROP) };
                (chain, at) = (to, 0);
            }
            NFT_RETURN => at = usize::MAX,
            // A queue has no program that listens.
            _ => return Some(DROP),
        }
    }
}

fn rule_says(
    net: &mut Net,
    exprs: &mut [Expr],
    kept: &mut Kept<'_>,
    regs: &mut Regs,
    a: At,
    p: &Pkt,
    skb: &mut SkBuff,
) -> Then {
    for e in exprs {
        match one(net, e, kept, regs, a, p, skb) {
            Then::Next => {}
            then => return then,
        }
    }
    Then::Next
}

fn seen<'a>(net: &'a Net, p: &Pkt, skb: &SkBuff) -> Seen<'a> {
    Seen { now: net.env.now, len: p.len as u64, ct: &net.ct, conn: skb.nf.ct }
}

pub fn when(yes: bool) -> Then {
    if yes { Then::Next } else { Then::Break }
}

fn one(net: &mut Net, e: &mut Expr, kept: &mut Kept<'_>, regs: &mut Regs, a: At, p: &Pkt, skb: &mut SkBuff) -> Then {
    match e {
        Expr::Immediate { dreg: Some(r), data: Data::Value(v) } => {
            regs.put(*r, v.get());
            Then::Next
        }
        Expr::Immediate { data: Data::Verdict(s), .. } => Then::Say(*s),
        Expr::Immediate { .. } => Then::Break,
        Expr::Payload { base, offset, len, dreg } => when(payload(regs, (*base, *offset, *len, *dreg), p, skb)),
        Expr::Cmp { sreg, op, data } => when(holds(*op, regs.get(*sreg, data.len.into()).cmp(data.get()))),
        Expr::Range { sreg, invert, from, to } => {
            let v = regs.get(*sreg, from.len.into());
            when((from.get() <= v && v <= to.get()) != *invert)
        }
        Expr::Bitwise { sreg, dreg, len, bit } => {
            bitwise(regs, *sreg, *dreg, (*len).into(), bit);
            Then::Next
        }
        Expr::Byteorder { sreg, dreg, len, size, .. } => {
            byteorder(regs, *sreg, *dreg, (*len).into(), (*size).into());
            Then::Next
        }
        Expr::Meta { key, dreg } => when(meta::load(net, regs, *key, *dreg, a, p, skb)),
        Expr::MetaSet { key, sreg } => {
            meta::store(skb, *key, regs, *sreg);
            Then::Next
        }
        Expr::Fib(f) => f.eval(net, regs, a, p, skb),
        Expr::Numgen(n) => {
            n.eval(net, regs);
            Then::Next
        }
        Expr::Hash(h) => {
            h.eval(net.ns.get(a.ns).map_or([0, 0], |n| n.secret), regs, p, skb);
            Then::Next
        }
        Expr::Exthdr(e) => e.eval(regs, p, skb),
        Expr::Rt(r) => r.eval(net, regs, a, p, skb),
        Expr::Write(w) => w.eval(regs, p, skb),
        Expr::Socket(s) => s.eval(regs, skb),
        Expr::Tproxy(t) => t.eval(regs, a, p, skb),
        Expr::Ct { key, dir, dreg } => when(ct(net, regs, *key, *dir, *dreg, skb)),
        Expr::Dup(d) => d.eval(net, regs, a, p, skb),
        Expr::CtZone { sreg, dir } => {
            set_zone(skb, u16::from_ne_bytes(*regs.get(*sreg, 2).first_chunk().unwrap_or(&[0; 2])), *dir);
            Then::Next
        }
        Expr::CtMark { sreg } => {
            let mark = regs.word(*sreg);
            if let Some(c) = skb.nf.ct.and_then(|id| net.ct.conns.get_mut(id)) {
                c.set_mark(mark);
            }
            Then::Next
        }
        Expr::Counter(_) | Expr::Limit(_) | Expr::Quota(_) | Expr::Connlimit(_) => {
            dynamic::count(e, &seen(net, p, skb))
        }
        Expr::ObjRef(handle) => dynamic::object(kept.objects, *handle, net.env.now, p.len as u64),
        Expr::Dynset(d) => d.eval(kept.sets, regs, &seen(net, p, skb)),
        Expr::Lookup { set, sreg, dreg, verdict, invert } => {
            lookup(kept.sets, *set, regs, (*sreg, *dreg), *verdict, *invert, &seen(net, p, skb))
        }
        Expr::Log { prefix, flags, .. } => {
            let line = log::line(net, prefix, *flags as u8, (p, a.link.is_some_and(|l| !l.is_ip)), skb, a.devs);
            net.kmsg(line);
            Then::Next
        }
        Expr::Nflog(l) => {
            nflog::log(net, a.ns, l, (a.hook, a.link), p, skb, a.devs);
            Then::Next
        }
        Expr::Reject { kind, code } => match reject(p.pf, *kind, *code) {
            Some(with) => Then::End(Verdict::Reject(with)),
            None => Then::End(DROP),
        },
        Expr::Nat { kind, family, regs: r } => translation(net, *kind, *family, r, regs, a, p, skb),
        Expr::Notrack => {
            if skb.nf.ct.is_none() {
                skb.nf = NfCt { info: CtInfo::Untracked, ..NfCt::default() };
            }
            Then::Next
        }
        Expr::Xt(x) => match &mut x.body {
            Body::Match(m) => match match_one(net, m, a.ns, p, skb, a.devs) {
                Some(yes) => when(yes),
                None => Then::End(DROP),
            },
            Body::Target(t) => match table::act(net, t, a.ns, a.hook, p, skb, a.devs) {
                Said::GoOn => Then::Next,
                Said::Verdict(v) => Then::End(v),
                Said::Return => Then::Say(Say { code: NFT_RETURN, chain: 0 }),
                Said::Jump(..) => Then::End(DROP),
            },
            Body::Eb(e) => ebt::eval(net, e, a, p, skb),
        },
    }
}

/// For a packet that is of no connection yet.
#[doc(alias = "nft_ct_set_zone_eval")]
fn set_zone(skb: &mut SkBuff, id: u16, dir: Option<u8>) {
    if skb.nf.ct.is_none() && skb.nf.info == CtInfo::None {
        let dirs = dir.map_or(Zone::BOTH, |d| 1 << d);
        skb.nf.zone = Zone { id, dirs };
    }
}

/// `NFT_CMP_*`.
fn holds(op: u32, o: Ordering) -> bool {
    match op {
        0 => o.is_eq(),
        1 => o.is_ne(),
        2 => o.is_lt(),
        3 => o.is_le(),
        4 => o.is_gt(),
        _ => o.is_ge(),
    }
}

#[doc(alias = "nft_payload_eval")]
fn payload(regs: &mut Regs, (base, offset, len, dreg): (u32, u32, u8, Reg), p: &Pkt, skb: &mut SkBuff) -> bool {
    let (offset, len) = (offset as usize, usize::from(len));
    if base == PAYLOAD_LL {
        let mut v = [0; NFT_DATA_VALUE_MAXLEN];
        if !v.get_mut(..len).is_some_and(|to| layer2::read(skb, offset, to)) {
            return false;
        }
        regs.put(dreg, &v[..len]);
        return true;
    }
    let start = if base == PAYLOAD_NETWORK { 0 } else { p.at } + offset;
    if (base == PAYLOAD_TRANSPORT && p.later) || !skb.may_pull(start + len) {
        return false;
    }
    match skb.head.bytes().get(start..start + len) {
        Some(v) => regs.put(dreg, v),
        None => return false,
    }
    true
}

#[doc(alias = "nft_bitwise_eval")]
fn bitwise(regs: &mut Regs, sreg: Reg, dreg: Reg, len: usize, bit: &Bit) {
    let mut v = [0; NFT_DATA_VALUE_MAXLEN];
    let v = &mut v[..len.next_multiple_of(4).min(NFT_DATA_VALUE_MAXLEN)];
    v.iter_mut().zip(regs.get(sreg, len)).for_each(|(t, b)| *t = *b);
    match bit {
        Bit::Mask { mask, xor } => {
            v.iter_mut().zip(mask.get().iter().zip(xor.get())).for_each(|(t, (m, x))| *t = (*t & m) ^ x);
        }
        // Over words of four bytes, the first the highest.
        Bit::Left(n) => {
            let mut carry = 0u32;
            for w in v.as_chunks_mut::<4>().0.iter_mut().rev() {
                let x = u32::from_ne_bytes(*w);
                *w = (x << n | carry).to_ne_bytes();
                carry = x.checked_shr(32 - n).unwrap_or(0);
            }
        }
        Bit::Right(n) => {
            let mut carry = 0u32;
            for w in v.as_chunks_mut::<4>().0 {
                let x = u32::from_ne_bytes(*w);
                *w = (x >> n | carry).to_ne_bytes();
                carry = x.checked_shl(32 - n).unwrap_or(0);
            }
        }
    }
    regs.put(dreg, v);
}

/// To the network's order and from it is the same exchange.
#[doc(alias = "nft_byteorder_eval")]
fn byteorder(regs: &mut Regs, sreg: Reg, dreg: Reg, len: usize, size: usize) {
    let mut v = [0; NFT_DATA_VALUE_MAXLEN];
    let v = &mut v[..len.min(NFT_DATA_VALUE_MAXLEN)];
    v.iter_mut().zip(regs.get(sreg, len)).for_each(|(t, b)| *t = *b);
    if cfg!(target_endian = "little") {
        v.chunks_exact_mut(size.max(1)).for_each(<[u8]>::reverse);
    }
    regs.put(dreg, v);
}

/// `NF_CT_STATE_*`.
fn state(info: CtInfo) -> u32 {
    match info {
        CtInfo::None => 1,
        CtInfo::Established | CtInfo::EstablishedReply => 2,
        CtInfo::Related | CtInfo::RelatedReply => 4,
        CtInfo::New => 8,
        CtInfo::Untracked => 64,
    }
}

#[doc(alias = "nft_ct_get_eval")]
fn ct(net: &Net, regs: &mut Regs, key: u32, dir: Option<u8>, dreg: Reg, skb: &SkBuff) -> bool {
    if key == NFT_CT_STATE {
        regs.put(dreg, &state(skb.nf.info).to_ne_bytes());
        return true;
    }
    let Some(c) = skb.nf.ct.and_then(|id| net.ct.conns.get(id)) else { return false };
    let t = &c.tuple[usize::from(dir == Some(1))];
    let hz = u64::from(net.env.hz.max(1));
    match key {
        NFT_CT_DIRECTION => regs.put(dreg, &[skb.nf.info.dir() as u8]),
        NFT_CT_STATUS => regs.put(dreg, &c.status.to_ne_bytes()),
        NFT_CT_MARK => regs.put(dreg, &c.mark.to_ne_bytes()),
        NFT_CT_ID => regs.put(dreg, &c.id.to_ne_bytes()),
        NFT_CT_ZONE => {
            let zone = dir.map_or(c.zone.id, |d| c.zone.of(d.into()));
            regs.put(dreg, &zone.to_ne_bytes());
        }
        NFT_CT_EXPIRATION => {
            let ticks = if c.is_confirmed() { c.expires.saturating_sub(net.env.jiffies()) } else { c.expires };
            regs.put(dreg, &((u64::from(ticks) * 1000 / hz) as u32).to_ne_bytes());
        }
        NFT_CT_L3PROTOCOL => regs.put(dreg, &[if t.pf == Pf::V4 { NFPROTO_IPV4 } else { NFPROTO_IPV6 }]),
        NFT_CT_PROTOCOL => regs.put(dreg, &[t.proto]),
        NFT_CT_SRC_IP | NFT_CT_DST_IP if t.pf != Pf::V4 => return false,
        NFT_CT_SRC_IP6 | NFT_CT_DST_IP6 if t.pf != Pf::V6 => return false,
        NFT_CT_SRC | NFT_CT_SRC_IP | NFT_CT_SRC_IP6 => put_addr(regs, dreg, t.pf, t.src),
        NFT_CT_DST | NFT_CT_DST_IP | NFT_CT_DST_IP6 => put_addr(regs, dreg, t.pf, t.dst),
        NFT_CT_PKTS | NFT_CT_BYTES | NFT_CT_AVGPKT => {
            let way = dir.map_or(0..2, |d| usize::from(d)..usize::from(d) + 1);
            let all = c.acct.as_ref().and_then(|a| a.get(way)).unwrap_or(&[]);
            let (packets, bytes) = all.iter().fold((0u64, 0u64), |s, n| (s.0 + n.0, s.1 + n.1));
            let v = match key {
                NFT_CT_PKTS => packets,
                NFT_CT_BYTES => bytes,
                _ => bytes.checked_div(packets).unwrap_or(0),
            };
            regs.put(dreg, &v.to_ne_bytes());
        }
        NFT_CT_PROTO_SRC => regs.put(dreg, &t.sport.to_be_bytes()),
        NFT_CT_PROTO_DST => regs.put(dreg, &t.dport.to_be_bytes()),
        _ => return false,
    }
    true
}

fn put_addr(regs: &mut Regs, dreg: Reg, pf: Pf, a: u128) {
    match pf {
        Pf::V4 => regs.put(dreg, &(a as u32).to_be_bytes()),
        Pf::V6 => regs.put(dreg, &a.to_be_bytes()),
    }
}

#[doc(alias = "nft_lookup_eval")]
fn lookup(
    sets: &mut [Set],
    set: u64,
    regs: &mut Regs,
    (sreg, dreg): (Reg, Option<Reg>),
    verdict: bool,
    invert: bool,
    seen: &Seen<'_>,
) -> Then {
    let found = sets.binary_search_by_key(&set, |s| s.handle).ok().and_then(|s| sets.get_mut(s));
    let Some(s) = found else { return Then::Break };
    let Some(key) = Value::new(regs.get(sreg, s.key_len)) else { return Then::Break };
    let mut found = s.find(&key, seen.now);
    if let Some(e) = &mut found
        && !e.exprs.is_empty()
        && !matches!(e.eval(seen), Then::Next)
    {
        return Then::Break;
    }
    match (found.as_ref().map(|e| &e.data), dreg) {
        (Some(Some(Data::Verdict(say))), _) if verdict => Then::Say(*say),
        (Some(Some(Data::Value(v))), Some(r)) => {
            regs.put(r, v.get());
            Then::Next
        }
        (found, None) if !verdict => when(found.is_some() != invert),
        _ => Then::Break,
    }
}

/// Numbers of `--reject-with` by ICMP code.
fn reject(pf: Pf, kind: u32, code: u8) -> Option<RejectWith> {
    let number = match (kind, pf, code) {
        (REJECT_RST, Pf::V4, _) => REJECT_TCP_RESET4,
        (REJECT_RST, Pf::V6, _) => REJECT_TCP_RESET6,
        // No route, no port, no host, forbidden: in either family's words.
        (REJECT_ICMPX, Pf::V4, c) => *[0, 3, 1, 8].get(usize::from(c))?,
        (REJECT_ICMPX, Pf::V6, c) => *[0, 4, 3, 1].get(usize::from(c))?,
        (_, Pf::V4, c @ 0..=3) => c.into(),
        (_, Pf::V4, 9) => 5,
        (_, Pf::V4, 10) => 6,
        (_, Pf::V4, 13) => 8,
        (_, Pf::V6, c @ (0 | 1 | 3 | 4)) => c.into(),
        (_, Pf::V6, 5) => 7,
        (_, Pf::V6, 6) => 8,
        _ => return None,
    };
    Some(RejectWith(number))
}

#[allow(clippy::too_many_arguments)]
fn translation(
    net: &mut Net,
    kind: NatKind,
    family: u8,
    r: &NatRegs,
    regs: &Regs,
    a: At,
    p: &Pkt,
    skb: &mut SkBuff,
) -> Then {
    let pf = p.pf;
    let mine = match family {
        NFPROTO_IPV4 => pf == Pf::V4,
        NFPROTO_IPV6 => pf == Pf::V6,
        _ => true,
    };
    if !mine {
        return Then::Break;
    }
    let mut range = NatRange { flags: r.flags, ..NatRange::default() };
    if let Some((min, max)) = r.addr {
        (range.min, range.max) = (regs.addr(min, pf), regs.addr(max, pf));
        range.flags |= NAT_MAP_IPS;
    }
    if let Some((min, max)) = r.port {
        range.ports = (regs.port(min), regs.port(max));
        range.flags |= NAT_PROTO_SPECIFIED;
    }
    let target = match kind {
        NatKind::Snat => Target::Snat(range),
        NatKind::Dnat => Target::Dnat(range),
        NatKind::Masquerade => Target::Masquerade(range),
        NatKind::Redirect => Target::Redirect(range),
    };
    Then::End(nat::target(net, &target, a.ns, a.hook, p, skb, a.devs))
}
