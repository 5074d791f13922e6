//! `u32`, `bpf`, and what hardly asks anything here: `policy`, `cpu`, `realm`, `socket`.
use super::*;
use crate::net::core::filter::{Ancillary, Packet, Prog};
use crate::net::netfilter::words::value::{masked_number, number};
use std::fmt::Write as _;

const U32_MAXSIZE: usize = 11;

/// Where a number of 32 bits is found, step by step (`&`, `<<`, `>>`, `@` and a number each), and what it may be.
#[derive(Clone, Debug, Default, PartialEq)]
struct Test {
    steps: Vec<(u8, u32)>,
    values: Vec<(u32, u32)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct U32 {
    tests: Vec<Test>,
    invert: bool,
}

impl U32 {
    #[doc(alias = "u32_mt_checkentry")]
    pub fn read(r: &mut Reader<'_>) -> Result<U32, Errno> {
        let mut all = Vec::new();
        for _ in 0..U32_MAXSIZE {
            let mut t = Test::default();
            for _ in 0..U32_MAXSIZE {
                let n = r.u32()?;
                t.steps.push((r.u8()?, n));
                r.bytes(3)?;
            }
            for _ in 0..U32_MAXSIZE {
                t.values.push((r.u32()?, r.u32()?));
            }
            let (steps, values) = (usize::from(r.u8()?), usize::from(r.u8()?));
            r.u16()?;
            all.push((t, steps, values));
        }
        let (count, invert) = (usize::from(r.u8()?), r.u8()? != 0);
        if count > all.len() {
            return Err(Errno::EINVAL);
        }
        let mut u = U32 { tests: Vec::new(), invert };
        for (mut t, steps, values) in all.into_iter().take(count) {
            if steps > U32_MAXSIZE || values > U32_MAXSIZE {
                return Err(Errno::EINVAL);
            }
            t.steps.truncate(steps);
            t.values.truncate(values);
            u.tests.push(t);
        }
        Ok(u)
    }

    #[doc(alias = "u32_mt")]
    pub fn matches(&self, skb: &SkBuff) -> bool {
        self.tests.iter().all(|t| t.holds(skb)) != self.invert
    }
}

impl Test {
    #[doc(alias = "u32_match_it")]
    fn holds(&self, skb: &SkBuff) -> bool {
        let load = |at: u64| {
            let mut b = [0; 4];
            let at = usize::try_from(at).ok()?;
            Packet::at_head(skb).copy(at, &mut b)?;
            Some(u32::from_be_bytes(b))
        };
        let Some((&(_, first), more)) = self.steps.split_first() else { return false };
        let (mut base, Some(mut value)) = (0u64, load(first.into())) else { return false };
        for &(op, n) in more {
            value = match op {
                0 => value & n,
                1 => value.checked_shl(n).unwrap_or(0),
                2 => value.checked_shr(n).unwrap_or(0),
                _ => {
                    base += u64::from(value);
                    match load(base + u64::from(n)) {
                        Some(v) => v,
                        None => return false,
                    }
                }
            };
        }
        self.values.iter().any(|(lo, hi)| (*lo..=*hi).contains(&value))
    }

    fn text(&self) -> String {
        let step = |(n, (op, v)): (usize, &(u8, u32))| {
            let op = ["&", "<<", ">>", "@"].get(usize::from(*op)).copied().unwrap_or("").to_owned();
            format!("{}{v:#x}", if n == 0 { String::new() } else { op })
        };
        let value = |(lo, hi): &(u32, u32)| if lo == hi { format!("{lo:#x}") } else { format!("{lo:#x}:{hi:#x}") };
        let steps: String = self.steps.iter().enumerate().map(step).collect();
        steps + "=" + &self.values.iter().map(value).collect::<Vec<_>>().join(",")
    }
}

impl Extension for U32 {
    fn write(&self, _: Pf, w: &mut Writer) {
        let none = Test::default();
        for n in 0..U32_MAXSIZE {
            let t = self.tests.get(n).unwrap_or(&none);
            for k in 0..U32_MAXSIZE {
                let (op, v) = t.steps.get(k).copied().unwrap_or_default();
                w.u32(v);
                w.0.extend([op, 0, 0, 0]);
            }
            for k in 0..U32_MAXSIZE {
                let (lo, hi) = t.values.get(k).copied().unwrap_or_default();
                w.u32(lo);
                w.u32(hi);
            }
            w.0.extend([t.steps.len() as u8, t.values.len() as u8, 0, 0]);
        }
        w.0.extend([self.tests.len() as u8, self.invert.into(), 0, 0]);
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        let text = self.tests.iter().map(Test::text).collect::<Vec<_>>().join("&&");
        if v.list {
            return write!(o, " u32{} \"{text}\"", bang(self.invert));
        }
        write!(o, "{} --u32 \"{text}\"", bang(self.invert))
    }

    fn option(&mut self, _: Pf, _: &str, _: bool, _: &mut Words<'_>) -> Done<Ext> {
        Ok(Ext::Unknown)
    }
}

const BPF_MAX_NUM_INSTR: usize = 64;

/// A classic program that is run on the packet from its network header on.
#[derive(Clone, Debug, PartialEq)]
pub struct Bpf {
    insns: Vec<u8>,
    prog: Prog,
}

impl Bpf {
    /// Programs of eBPF would be the host's.
    #[doc(alias = "bpf_mt_check")]
    pub fn read(revision: u8, r: &mut Reader<'_>) -> Result<Bpf, Errno> {
        let mut count = usize::from(r.u16()?);
        if revision == 1 {
            if count != 0 {
                return Err(Errno::EINVAL);
            }
            count = usize::from(r.u16()?);
            r.u32()?;
        } else {
            r.u16()?;
        }
        if count > BPF_MAX_NUM_INSTR {
            return Err(Errno::EINVAL);
        }
        let insns = r.bytes(count * 8)?.to_vec();
        let prog = Prog::new(&insns)?;
        Ok(Bpf { insns, prog })
    }

    #[doc(alias = "bpf_mt")]
    pub fn matches(&self, net: &mut Net, skb: &SkBuff) -> bool {
        let anc = Ancillary {
            ifindex: skb.dev.and_then(|d| net.devs.get(d)).map_or(0, |d| d.ifindex),
            cpu: net.cpu as u32,
            random: net.env.rng.next_u32(),
            ..Ancillary::default()
        };
        self.prog.run(&Packet::at_head(skb), &anc) != 0
    }
}

impl Extension for Bpf {
    fn write(&self, _: Pf, w: &mut Writer) {
        w.u16(0);
        w.u16((self.insns.len() / 8) as u16);
        w.u32(0);
        w.0.extend(&self.insns);
        w.zeros(BPF_MAX_NUM_INSTR * 8 - self.insns.len());
        w.zeros(8);
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        let insn = |b: &[u8; 8]| {
            let k = u32::from_ne_bytes([b[4], b[5], b[6], b[7]]);
            format!("{} {} {} {k}", u16::from_ne_bytes([b[0], b[1]]), b[2], b[3])
        };
        let all = self.insns.as_chunks::<8>().0;
        let text = all.iter().map(insn).collect::<Vec<_>>().join(",");
        if v.list {
            return write!(o, "match bpf {text} ");
        }
        write!(o, " --bytecode \"{},{text}\"", all.len())
    }

    fn option(&mut self, _: Pf, _: &str, _: bool, _: &mut Words<'_>) -> Done<Ext> {
        Ok(Ext::Unknown)
    }
}

const POLICY_IN: u16 = 1;
const POLICY_OUT: u16 = 2;
const POLICY_NONE: u16 = 4;
const POLICY_STRICT: u16 = 8;
const POLICY_ELEM: usize = 76;
const POLICY_MAX_ELEM: usize = 4;

/// What IPsec did with a packet: never anything here, so that `--pol none` fits all and `--pol ipsec` none.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    elements: Vec<u8>,
    flags: u16,
    len: u16,
}

impl Policy {
    #[doc(alias = "policy_mt_check")]
    pub fn read(r: &mut Reader<'_>) -> Result<Policy, Errno> {
        let elements = r.bytes(POLICY_ELEM * POLICY_MAX_ELEM)?.to_vec();
        let p = Policy { elements, flags: r.u16()?, len: r.u16()? };
        let wrong = p.flags & (POLICY_IN | POLICY_OUT) == 0 || usize::from(p.len) > POLICY_MAX_ELEM;
        if wrong { Err(Errno::EINVAL) } else { Ok(p) }
    }

    pub fn allowed(&self, hooks: u8) -> bool {
        let at = |all: [Hook; 2]| all.iter().any(|h| hooks & 1 << *h as u8 != 0);
        let asks = |bit: u16| self.flags & bit != 0;
        let late = asks(POLICY_IN) && at([Hook::PostRouting, Hook::LocalOut]);
        let early = asks(POLICY_OUT) && at([Hook::PreRouting, Hook::LocalIn]);
        !(late || early)
    }

    #[doc(alias = "policy_mt")]
    pub fn matches(&self) -> bool {
        self.flags & POLICY_NONE != 0
    }

    /// One element's options.
    fn element(&self, e: &[u8], v: Voice) -> String {
        let mut r = Reader(e);
        let mut read = || -> Result<String, Errno> {
            let mut a = [0; 4];
            for x in &mut a {
                *x = r.inet(v.pf)?;
            }
            let (spi, reqid) = (r.be32()?, r.u32()?);
            let (proto, mode, asked, inv) = (r.u8()?, r.u8()?, r.u8()?, r.u8()?);
            let net = |n: usize| {
                let m = crate::net::netfilter::rules::Masked { addr: a[n], mask: a[n + 1] };
                crate::net::netfilter::words::value::network_short(v.pf, &m)
            };
            let name = crate::net::netfilter::words::value::protocol_name(proto.into()).filter(|_| !v.numeric);
            let proto = name.map_or_else(|| proto.to_string(), str::to_owned);
            let all = [
                (32, "reqid", reqid.to_string()),
                (16, "spi", format!("{spi:#x}")),
                (4, "proto", proto),
                (8, "mode", if mode == 1 { "tunnel" } else { "transport" }.to_owned()),
                (2, "tunnel-dst", net(2)),
                (1, "tunnel-src", net(0)),
            ];
            let dash = if v.list { "" } else { "--" };
            let said = all.iter().filter(|x| asked & x.0 != 0);
            Ok(said.map(|(bit, name, value)| format!("{} {dash}{name} {value}", bang(inv & bit != 0))).collect())
        };
        read().unwrap_or_default()
    }
}

impl Extension for Policy {
    fn write(&self, _: Pf, w: &mut Writer) {
        w.0.extend(&self.elements);
        w.u16(self.flags);
        w.u16(self.len);
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        let dash = if v.list { "" } else { "--" };
        let dir = if self.flags & POLICY_IN != 0 { "in" } else { "out" };
        let none = self.flags & POLICY_NONE != 0;
        o.push_str(if v.list { " policy match" } else { "" });
        write!(o, " {dash}dir {dir} {dash}pol {}", if none { "none" } else { "ipsec" })?;
        if none {
            return Ok(());
        }
        if self.flags & POLICY_STRICT != 0 {
            write!(o, " {dash}strict")?;
        }
        for (n, e) in self.elements.chunks(POLICY_ELEM).take(self.len.into()).enumerate() {
            if n > 0 {
                write!(o, " {dash}next")?;
            }
            o.push_str(&self.element(e, v));
        }
        Ok(())
    }

    fn option(&mut self, _: Pf, _: &str, _: bool, _: &mut Words<'_>) -> Done<Ext> {
        Ok(Ext::Unknown)
    }
}

/// The CPU that has the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cpu {
    cpu: u32,
    invert: bool,
    given: bool,
}

impl Cpu {
    #[doc(alias = "cpu_mt_check")]
    pub fn read(r: &mut Reader<'_>) -> Result<Cpu, Errno> {
        let (cpu, invert) = (r.u32()?, r.u32()?);
        if invert & !1 != 0 { Err(Errno::EINVAL) } else { Ok(Cpu { cpu, invert: invert != 0, given: true }) }
    }

    pub fn matches(&self, net: &Net) -> bool {
        (net.cpu as u32 == self.cpu) != self.invert
    }
}

impl Extension for Cpu {
    fn write(&self, _: Pf, w: &mut Writer) {
        w.u32(self.cpu);
        w.u32(self.invert.into());
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        if v.list {
            return write!(o, " cpu{} {}", bang(self.invert), self.cpu);
        }
        write!(o, "{} --cpu {}", bang(self.invert), self.cpu)
    }

    fn option(&mut self, _: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        if word != "--cpu" {
            return Ok(Ext::Unknown);
        }
        let text = w.value(word)?;
        match number(text).and_then(|n| u32::try_from(n).ok()) {
            Some(cpu) => *self = Cpu { cpu, invert: inv, given: true },
            None => return bad("cpu", word, text),
        }
        Ok(Ext::Taken)
    }

    fn finish(&self) -> Done {
        if self.given { Ok(()) } else { must("cpu", "--cpu") }
    }
}

/// The realm of its route. Routes have none here.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Realm {
    id: u32,
    mask: u32,
    invert: bool,
}

impl Realm {
    pub fn read(r: &mut Reader<'_>) -> Result<Realm, Errno> {
        Ok(Realm { id: r.u32()?, mask: r.u32()?, invert: r.u8()? != 0 })
    }

    #[doc(alias = "realm_mt")]
    pub fn matches(&self) -> bool {
        (self.id == 0) != self.invert
    }
}

impl Extension for Realm {
    fn write(&self, _: Pf, w: &mut Writer) {
        w.u32(self.id);
        w.u32(self.mask);
        w.0.extend([self.invert.into(), 0, 0, 0]);
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        let mask = if self.mask == u32::MAX { String::new() } else { format!("/{:#x}", self.mask) };
        if v.list {
            return write!(o, " realm{} {:#x}{mask}", bang(self.invert), self.id);
        }
        write!(o, "{} --realm {:#x}{mask}", bang(self.invert), self.id)
    }

    fn option(&mut self, _: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        if word != "--realm" {
            return Ok(Ext::Unknown);
        }
        let (id, mask) = masked_number(w.value(word)?, "realm")?;
        *self = Realm { id, mask: mask.unwrap_or(u32::MAX), invert: inv };
        Ok(Ext::Taken)
    }

    fn finish(&self) -> Done {
        if self.mask == 0 { must("realm", "--realm") } else { Ok(()) }
    }
}

const SOCKET_TRANSPARENT: u8 = 1;
const SOCKET_NOWILDCARD: u8 = 2;
const SOCKET_RESTORESKMARK: u8 = 4;

/// Whether a socket of this machine waits for the packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SocketMatch {
    flags: u8,
    pub revision: u8,
}

impl Default for SocketMatch {
    fn default() -> SocketMatch {
        SocketMatch { flags: 0, revision: 3 }
    }
}

impl SocketMatch {
    #[doc(alias = "socket_mt_v3_check")]
    pub fn read(revision: u8, r: &mut Reader<'_>) -> Result<SocketMatch, Errno> {
        let flags = if revision == 0 { 0 } else { r.u8()? };
        let known = (1 << revision) - 1;
        if flags & !known != 0 { Err(Errno::EINVAL) } else { Ok(SocketMatch { flags, revision }) }
    }

    #[doc(alias = "socket_match")]
    pub fn matches(&self, skb: &mut SkBuff) -> bool {
        let Some(s) = skb.seen_sock else { return false };
        let wildcard = self.flags & SOCKET_NOWILDCARD == 0 && s.whole.is_some_and(|w| w.1);
        let hit = !wildcard && (self.flags & SOCKET_TRANSPARENT == 0 || s.transparent);
        if let (true, Some((mark, _))) = (hit && self.flags & SOCKET_RESTORESKMARK != 0, s.whole) {
            skb.mark = mark;
        }
        hit
    }
}

impl Extension for SocketMatch {
    fn write(&self, _: Pf, w: &mut Writer) {
        if self.revision > 0 {
            w.u8(self.flags);
        }
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        o.push_str(if v.list { " socket" } else { "" });
        for (_, name) in [
            (SOCKET_TRANSPARENT, "transparent"),
            (SOCKET_NOWILDCARD, "nowildcard"),
            (SOCKET_RESTORESKMARK, "restore-skmark"),
        ]
        .iter()
        .filter(|f| self.flags & f.0 != 0)
        {
            write!(o, " --{name}")?;
        }
        Ok(())
    }

    fn option(&mut self, _: Pf, word: &str, _: bool, _: &mut Words<'_>) -> Done<Ext> {
        self.flags |= match word {
            "--transparent" => SOCKET_TRANSPARENT,
            "--nowildcard" => SOCKET_NOWILDCARD,
            "--restore-skmark" => SOCKET_RESTORESKMARK,
            _ => return Ok(Ext::Unknown),
        };
        Ok(Ext::Taken)
    }
}
