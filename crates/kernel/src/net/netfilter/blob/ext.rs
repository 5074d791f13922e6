//! Matches and targets in the kernel's layout: by name and revision, as the user-space headers of `linux/netfilter` have them.
use super::super::Pf;
use super::super::packet::{addr, bits};
use super::super::rules::*;
use super::{multiport, owner, physdev, set};
use crate::net::netfilter::xt;
use belljar_abi::Errno;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

type Done<T> = Result<T, Errno>;

/// Matches that are here, with their revisions; there are more in [`xt`].
pub const MATCHES: &[(&str, u8)] = &[
    ("tcp", 0),
    ("udp", 0),
    ("icmp", 0),
    ("icmp6", 0),
    ("conntrack", 3),
    ("state", 0),
    ("comment", 0),
    ("mark", 1),
    ("connmark", 1),
    ("statistic", 0),
    ("addrtype", 1),
    ("multiport", 1),
    ("limit", 0),
    ("length", 0),
    ("owner", 1),
    ("physdev", 0),
    ("set", 1),
    ("set", 2),
    ("set", 3),
    ("set", 4),
];

/// All matches of a family.
pub fn matches(pf: Pf) -> Vec<(&'static str, u8)> {
    MATCHES.iter().chain(xt::MATCHES).filter(|m| xt::is_of(pf, m.0)).copied().collect()
}

/// All targets of a family.
pub fn targets(pf: Pf) -> Vec<(&'static str, u8)> {
    TARGETS.iter().chain(xt::target::TARGETS).filter(|t| xt::target::is_of(pf, t.0)).copied().collect()
}

/// The same of targets. SNAT and DNAT have had three layouts, REDIRECT and MASQUERADE one for each family.
pub const TARGETS: &[(&str, u8)] = &[
    ("REJECT", 0),
    ("SNAT", 0),
    ("SNAT", 1),
    ("SNAT", 2),
    ("DNAT", 0),
    ("DNAT", 1),
    ("DNAT", 2),
    ("MASQUERADE", 0),
    ("REDIRECT", 0),
    ("MARK", 2),
    ("CONNMARK", 1),
    ("CONNMARK", 2),
    ("LOG", 0),
    ("NFLOG", 0),
    ("SET", 1),
    ("SET", 2),
    ("SET", 3),
    ("TPROXY", 0),
    ("TPROXY", 1),
    ("CT", 0),
    ("CT", 1),
    ("CT", 2),
    ("NOTRACK", 0),
    ("TCPMSS", 0),
];

/// Bytes that are read one after another; each read fails when there are none left.
#[derive(Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn bytes(&mut self, n: usize) -> Done<&'a [u8]> {
        let (a, b) = self.0.split_at_checked(n).ok_or(Errno::EINVAL)?;
        self.0 = b;
        Ok(a)
    }

    fn array<const N: usize>(&mut self) -> Done<[u8; N]> {
        self.bytes(N)?.try_into().map_err(|_| Errno::EINVAL)
    }

    pub fn u8(&mut self) -> Done<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Done<u16> {
        Ok(u16::from_ne_bytes(self.array()?))
    }

    pub fn be32(&mut self) -> Done<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub fn be16(&mut self) -> Done<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Done<u32> {
        Ok(u32::from_ne_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Done<u64> {
        Ok(u64::from_ne_bytes(self.array()?))
    }

    /// An address of the family, in so many bytes.
    pub fn addr(&mut self, pf: Pf) -> Done<u128> {
        Ok(match pf {
            Pf::V4 => bits(IpAddr::V4(Ipv4Addr::from(self.array::<4>()?))),
            Pf::V6 => bits(IpAddr::V6(Ipv6Addr::from(self.array::<16>()?))),
        })
    }

    /// `union nf_inet_addr`: always 16.
    pub fn inet(&mut self, pf: Pf) -> Done<u128> {
        let mut inner = Reader(self.bytes(16)?);
        inner.addr(pf)
    }

    /// Text up to its zero.
    pub fn text(&mut self, n: usize) -> Done<&'a str> {
        let b = self.bytes(n)?;
        let end = b.iter().position(|c| *c == 0).ok_or(Errno::EINVAL)?;
        std::str::from_utf8(&b[..end]).map_err(|_| Errno::EINVAL)
    }
}

/// Bytes that are written one after another.
#[derive(Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    pub fn u8(&mut self, v: u8) {
        self.0.push(v);
    }
    pub fn u16(&mut self, v: u16) {
        self.0.extend(v.to_ne_bytes());
    }
    fn be16(&mut self, v: u16) {
        self.0.extend(v.to_be_bytes());
    }
    pub fn u32(&mut self, v: u32) {
        self.0.extend(v.to_ne_bytes());
    }
    pub fn u64(&mut self, v: u64) {
        self.0.extend(v.to_ne_bytes());
    }
    pub fn zeros(&mut self, n: usize) {
        self.0.resize(self.0.len() + n, 0);
    }
    pub fn addr(&mut self, pf: Pf, v: u128) {
        match addr(pf, v) {
            IpAddr::V4(a) => self.0.extend(a.octets()),
            IpAddr::V6(a) => self.0.extend(a.octets()),
        }
    }
    pub fn inet(&mut self, pf: Pf, v: u128) {
        let at = self.0.len();
        self.addr(pf, v);
        self.0.resize(at + 16, 0);
    }
    /// Text in `n` bytes, the last of them zero.
    pub fn text(&mut self, s: &str, n: usize) {
        let at = self.0.len();
        self.0.extend(s.as_bytes().iter().take(n - 1));
        self.0.resize(at + n, 0);
    }
    pub fn align(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
    }
}

/// `xt_state` has its own bit for UNTRACKED.
const STATE_UNTRACKED: u16 = 1 << 6;

/// A match by name, revision and data. ENOENT for one that is not here.
pub fn read_match(pf: Pf, name: &str, revision: u8, data: &[u8]) -> Done<Match> {
    let r = &mut Reader(data);
    if xt::MATCHES.contains(&(name, revision)) {
        return xt::read(pf, name, revision, r).map(|x| Match::Xt(Box::new(x)));
    }
    if !MATCHES.contains(&(name, revision)) {
        return Err(Errno::ENOENT);
    }
    let ports = |r: &mut Reader<'_>| Ok::<_, Errno>(Ports { lo: r.u16()?, hi: r.u16()? });
    Ok(match name {
        "tcp" => {
            let (sport, dport) = (ports(r)?, ports(r)?);
            Match::Tcp { sport, dport, option: r.u8()?, flag_mask: r.u8()?, flag_cmp: r.u8()?, inv: r.u8()? }
        }
        "udp" => Match::Udp { sport: ports(r)?, dport: ports(r)?, inv: r.u8()? },
        "icmp" | "icmp6" => {
            let (kind, code) = (r.u8()?, (r.u8()?, r.u8()?));
            Match::Icmp { kind, code, inv: r.u8()? & 1 != 0 }
        }
        "conntrack" => Match::Conntrack(Box::new(read_conntrack(pf, r)?)),
        "state" => {
            let bits = r.u32()? as u16;
            let untracked = if bits & STATE_UNTRACKED != 0 { CT_UNTRACKED } else { 0 };
            Match::State(bits & !STATE_UNTRACKED | untracked)
        }
        "comment" => Match::Comment(r.text(256)?.into()),
        "mark" => Match::Mark { mark: r.u32()?, mask: r.u32()?, inv: r.u8()? != 0 },
        "connmark" => Match::Connmark { mark: r.u32()?, mask: r.u32()?, inv: r.u8()? != 0 },
        "statistic" => {
            let (mode, inv) = (r.u16()?, r.u16()? & 1 != 0);
            match mode {
                0 => Match::StatisticRandom { p: r.u32()?, inv },
                1 => {
                    let (every, packet, count) = (r.u32()?, r.u32()?, r.u32()?);
                    Match::StatisticNth { every, packet, inv, count: State(u64::from(count) + 1) }
                }
                _ => return Err(Errno::EINVAL),
            }
        }
        "addrtype" => Match::Addrtype { source: r.u16()?, dest: r.u16()?, flags: r.u32()? },
        "multiport" => multiport::read(r)?,
        "limit" => {
            let (avg, burst) = (r.u32()?, r.u32()?);
            if burst == 0 || avg.checked_mul(burst).is_none() {
                return Err(Errno::ERANGE);
            }
            Match::Limit { avg, burst, credit: State(0), prev: State(0) }
        }
        "set" => Match::Set(Box::new(set::read_match(r, revision)?)),
        "length" => Match::Length { min: r.u16()?, max: r.u16()?, inv: r.u8()? != 0 },
        "owner" => owner::read(r)?,
        "physdev" => physdev::read(r)?,
        _ => return Err(Errno::ENOENT),
    })
}

fn read_conntrack(pf: Pf, r: &mut Reader<'_>) -> Done<CtMatch> {
    let mut c = CtMatch::default();
    for a in &mut c.addrs {
        *a = Masked { addr: r.inet(pf)?, mask: r.inet(pf)? };
    }
    c.expires = (r.u32()?, r.u32()?);
    c.proto = r.u16()?;
    for p in &mut c.ports {
        p.0 = r.u16()?;
    }
    (c.flags, c.inv, c.state, c.status) = (r.u16()?, r.u16()?, r.u16()?, r.u16()?);
    for p in &mut c.ports {
        p.1 = r.u16()?;
    }
    Ok(c)
}

/// Name, revision and data of a match.
pub fn write_match(pf: Pf, m: &Match) -> (&'static str, u8, Vec<u8>) {
    let mut w = Writer::default();
    let ports = |w: &mut Writer, p: &Ports| {
        w.u16(p.lo);
        w.u16(p.hi);
    };
    let (name, revision) = match m {
        Match::Tcp { sport, dport, option, flag_mask, flag_cmp, inv } => {
            ports(&mut w, sport);
            ports(&mut w, dport);
            w.0.extend([*option, *flag_mask, *flag_cmp, *inv]);
            ("tcp", 0)
        }
        Match::Udp { sport, dport, inv } => {
            ports(&mut w, sport);
            ports(&mut w, dport);
            w.u8(*inv);
            w.zeros(1);
            ("udp", 0)
        }
        Match::Icmp { kind, code, inv } => {
            w.0.extend([*kind, code.0, code.1, u8::from(*inv)]);
            (if pf == Pf::V4 { "icmp" } else { "icmp6" }, 0)
        }
        Match::Conntrack(c) => {
            write_conntrack(&mut w, pf, c);
            ("conntrack", 3)
        }
        Match::State(bits) => {
            let untracked = if bits & CT_UNTRACKED != 0 { STATE_UNTRACKED } else { 0 };
            w.u32((bits & !CT_UNTRACKED | untracked).into());
            ("state", 0)
        }
        Match::Comment(text) => {
            w.text(text, 256);
            ("comment", 0)
        }
        Match::Mark { mark, mask, inv } | Match::Connmark { mark, mask, inv } => {
            w.u32(*mark);
            w.u32(*mask);
            w.u8((*inv).into());
            w.zeros(3);
            (if matches!(m, Match::Mark { .. }) { "mark" } else { "connmark" }, 1)
        }
        Match::StatisticRandom { p, inv } => {
            w.u16(0);
            w.u16((*inv).into());
            w.u32(*p);
            w.zeros(16);
            ("statistic", 0)
        }
        Match::StatisticNth { every, packet, inv, .. } => {
            w.u16(1);
            w.u16((*inv).into());
            w.u32(*every);
            w.u32(*packet);
            w.zeros(12);
            ("statistic", 0)
        }
        Match::Addrtype { source, dest, flags } => {
            w.u16(*source);
            w.u16(*dest);
            w.u32(*flags);
            ("addrtype", 1)
        }
        Match::Multiport { which, ports, inv } => {
            multiport::write(&mut w, *which, ports, *inv);
            ("multiport", 1)
        }
        Match::Limit { avg, burst, .. } => {
            w.u32(*avg);
            w.u32(*burst);
            w.zeros(32);
            ("limit", 0)
        }
        Match::Set(m) => {
            set::write_match(&mut w, m);
            ("set", 4)
        }
        Match::Length { min, max, inv } => {
            w.u16(*min);
            w.u16(*max);
            w.u8((*inv).into());
            w.zeros(1);
            ("length", 0)
        }
        Match::Owner { uid, gid, which, inv } => {
            [uid.0, uid.1, gid.0, gid.1].into_iter().for_each(|v| w.u32(v));
            w.0.extend([*which, *inv, 0, 0]);
            ("owner", 1)
        }
        Match::Physdev(p) => {
            physdev::write(&mut w, p);
            ("physdev", 0)
        }
        Match::Xt(x) => x.write(pf, &mut w),
    };
    (name, revision, w.0)
}

fn write_conntrack(w: &mut Writer, pf: Pf, c: &CtMatch) {
    for a in &c.addrs {
        w.inet(pf, a.addr);
        w.inet(pf, a.mask);
    }
    w.u32(c.expires.0);
    w.u32(c.expires.1);
    w.u16(c.proto);
    c.ports.iter().for_each(|p| w.u16(p.0));
    for v in [c.flags, c.inv, c.state, c.status] {
        w.u16(v);
    }
    c.ports.iter().for_each(|p| w.u16(p.1));
    w.zeros(2);
}

/// `struct nf_nat_ipv4_multi_range_compat`, `nf_nat_range`, `nf_nat_range2`: by family and revision.
pub fn read_range(pf: Pf, revision: u8, r: &mut Reader<'_>) -> Done<NatRange> {
    let mut n = NatRange::default();
    if pf == Pf::V4 && revision == 0 {
        if r.u32()? != 1 {
            return Err(Errno::EINVAL);
        }
        n.flags = r.u32()?;
        (n.min, n.max) = (r.addr(pf)?, r.addr(pf)?);
        n.ports = (r.be16()?, r.be16()?);
    } else {
        n.flags = r.u32()?;
        (n.min, n.max) = (r.inet(pf)?, r.inet(pf)?);
        n.ports = (r.be16()?, r.be16()?);
        if revision == 2 {
            n.base = r.be16()?;
        }
    }
    let known = NAT_MAP_IPS
        | NAT_PROTO_SPECIFIED
        | NAT_RANDOM_ALL
        | NAT_PERSISTENT
        | if revision == 2 { NAT_PROTO_OFFSET } else { 0 };
    if n.flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(n)
}

pub fn write_range(w: &mut Writer, pf: Pf, revision: u8, n: &NatRange) {
    if pf == Pf::V4 && revision == 0 {
        w.u32(1);
        w.u32(n.flags);
        w.addr(pf, n.min);
        w.addr(pf, n.max);
    } else {
        w.u32(n.flags);
        w.inet(pf, n.min);
        w.inet(pf, n.max);
    }
    w.be16(n.ports.0);
    w.be16(n.ports.1);
    if revision == 2 {
        w.be16(n.base);
        w.zeros(2);
    }
}

/// A target that is no verdict.
pub fn read_target(pf: Pf, name: &str, revision: u8, data: &[u8]) -> Done<Target> {
    let r = &mut Reader(data);
    if xt::target::TARGETS.contains(&(name, revision)) {
        return xt::target::read(pf, name, revision, r).map(|t| Target::Xt(Box::new(t)));
    }
    if !TARGETS.contains(&(name, revision)) {
        return Err(Errno::ENOENT);
    }
    Ok(match name {
        "REJECT" => {
            let with = RejectWith(r.u32()?);
            if !with.is_valid(pf) {
                return Err(Errno::EINVAL);
            }
            Target::Reject(with)
        }
        "SNAT" => Target::Snat(read_range(pf, revision, r)?),
        "DNAT" => Target::Dnat(read_range(pf, revision, r)?),
        "MASQUERADE" => Target::Masquerade(read_range(pf, revision, r)?),
        "REDIRECT" => Target::Redirect(read_range(pf, revision, r)?),
        "MARK" => Target::Mark { value: r.u32()?, mask: r.u32()? },
        "TCPMSS" => Target::Tcpmss(r.u16()?),
        "CONNMARK" => {
            let (ctmark, ctmask, nfmask) = (r.u32()?, r.u32()?, r.u32()?);
            // Revision 2 shifts the mark on its way; only by nothing here.
            if revision == 2 && (r.u8()?, r.u8()?).1 != 0 {
                return Err(Errno::EINVAL);
            }
            let mode = match r.u8()? {
                0 => ConnmarkMode::Set,
                1 => ConnmarkMode::Save,
                2 => ConnmarkMode::Restore,
                _ => return Err(Errno::EINVAL),
            };
            Target::Connmark { mode, ctmark, ctmask, nfmask }
        }
        "LOG" => {
            let (level, flags) = (r.u8()?, r.u8()?);
            if level >= 8 {
                return Err(Errno::EINVAL);
            }
            Target::Log { level, flags, prefix: r.text(30)?.into() }
        }
        "NFLOG" => {
            let (len, group, threshold, flags) = (r.u32()?, r.u16()?, r.u16()?, r.u16()?);
            r.u16()?;
            if flags & !1 != 0 {
                return Err(Errno::EINVAL);
            }
            let (size, range) = if flags & 1 != 0 { (Some(len), 0) } else { (None, len) };
            Target::Nflog(Nflog { group, prefix: r.text(NFLOG_PREFIX)?.into(), size, range, threshold })
        }
        "SET" => Target::Set(Box::new(set::read_target(r, revision)?)),
        "TPROXY" => {
            let (mask, mark) = (r.u32()?, r.u32()?);
            let addr = if revision == 0 { r.addr(Pf::V4)? } else { r.inet(pf)? };
            Target::Tproxy { addr, port: r.be16()?, mark, mask }
        }
        "NOTRACK" => Target::Notrack { ct: false },
        "CT" => match r.u16()? {
            1 => Target::Notrack { ct: true },
            3 => Target::Notrack { ct: false },
            flags if flags & 1 != 0 => return Err(Errno::EINVAL),
            flags => Target::Xt(Box::new(xt::target::read_ct(flags, revision, r)?)),
        },
        _ => return Err(Errno::ENOENT),
    })
}

/// Name, revision and data of a target that is no verdict.
pub fn write_target(pf: Pf, t: &Target) -> Option<(&'static str, u8, Vec<u8>)> {
    let mut w = Writer::default();
    let (name, revision) = match t {
        Target::Reject(with) => {
            w.u32(with.0);
            ("REJECT", 0)
        }
        Target::Snat(n) => {
            let revision = u8::from(pf == Pf::V6);
            write_range(&mut w, pf, revision, n);
            ("SNAT", revision)
        }
        Target::Dnat(n) => {
            write_range(&mut w, pf, 2, n);
            ("DNAT", 2)
        }
        Target::Masquerade(n) => {
            write_range(&mut w, pf, 0, n);
            ("MASQUERADE", 0)
        }
        Target::Redirect(n) => {
            write_range(&mut w, pf, 0, n);
            ("REDIRECT", 0)
        }
        Target::Mark { value, mask } => {
            w.u32(*value);
            w.u32(*mask);
            ("MARK", 2)
        }
        Target::Tcpmss(mss) => {
            w.u16(*mss);
            ("TCPMSS", 0)
        }
        Target::Connmark { mode, ctmark, ctmask, nfmask } => {
            [ctmark, ctmask, nfmask].into_iter().for_each(|v| w.u32(*v));
            let mode = match mode {
                ConnmarkMode::Set => 0,
                ConnmarkMode::Save => 1,
                ConnmarkMode::Restore => 2,
            };
            w.0.extend([0, 0, mode, 0]);
            ("CONNMARK", 2)
        }
        Target::Log { level, flags, prefix } => {
            w.0.extend([*level, *flags]);
            w.text(prefix, 30);
            ("LOG", 0)
        }
        Target::Nflog(l) => {
            w.u32(l.size.unwrap_or(l.range));
            w.u16(l.group);
            w.u16(l.threshold);
            w.u16(l.size.is_some().into());
            w.zeros(2);
            w.text(&l.prefix, NFLOG_PREFIX);
            ("NFLOG", 0)
        }
        Target::Set(t) => {
            set::write_target(&mut w, t);
            ("SET", 3)
        }
        Target::Xt(t) => t.write(pf, &mut w),
        Target::Tproxy { addr, port, mark, mask } => {
            w.u32(*mask);
            w.u32(*mark);
            w.inet(pf, *addr);
            w.be16(*port);
            w.zeros(2);
            ("TPROXY", 1)
        }
        Target::Notrack { ct } => {
            // The alias is remembered, so that the rule is written as it was said.
            w.u16(if *ct { 1 } else { 3 });
            w.zeros(2 + 4 + 4 + 16 + 32);
            w.align();
            w.zeros(8);
            ("CT", 2)
        }
        _ => return None,
    };
    Some((name, revision, w.0))
}
