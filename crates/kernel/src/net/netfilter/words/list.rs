//! Rules as a list: `-L` and how it is wanted.
use super::super::rules::*;
use super::super::{Pf, packet};
use super::Names;
use super::options::icmp_types;
use super::parse::Show;
use super::physdev;
use super::print::*;
use super::target_options::{LOG_LEVELS, range_text};
use super::value::*;
use crate::net::netfilter::xt::Voice;
use std::fmt::Write;

/// `-L`.
pub fn list(t: &Table, pf: Pf, only: Option<usize>, number: Option<usize>, show: &Show, names: &dyn Names) -> String {
    let mut o = String::new();
    let l = Lister { t, pf, show, names };
    for (n, c) in t.chains.iter().enumerate().filter(|(n, _)| only.is_none_or(|c| c == *n)) {
        if number.is_none() {
            if !o.is_empty() {
                o.push('\n');
            }
            l.header(&mut o, n, c);
        }
        for (k, r) in c.rules.iter().enumerate().filter(|(k, _)| number.is_none_or(|want| want == k + 1)) {
            l.line(&mut o, k + 1, r);
        }
    }
    o
}

struct Lister<'a> {
    t: &'a Table,
    pf: Pf,
    show: &'a Show,
    names: &'a dyn Names,
}

/// A counter without its column, thousands shortened unless they are wanted exactly.
fn count(n: u64, exact: bool) -> String {
    if exact || n <= 99_999 {
        return n.to_string();
    }
    let mut v = (n + 500) / 1000;
    for unit in ["K", "M", "G"] {
        if v <= 9999 {
            return format!("{v}{unit}");
        }
        v = (v + 500) / 1000;
    }
    format!("{v}T")
}

impl Lister<'_> {
    fn header(&self, o: &mut String, n: usize, c: &Chain) {
        let x = self.show.exact;
        let _ = match c.base {
            Some((_, p)) => {
                let _ = write!(o, "Chain {} (policy {}", c.name, p.name());
                if self.show.verbose {
                    let (packets, bytes) = (count(c.counters.packets, x), count(c.counters.bytes, x));
                    let _ = write!(o, " {packets} packets, {bytes} bytes");
                }
                writeln!(o, ")")
            }
            None => writeln!(o, "Chain {} ({} references)", c.name, self.t.references(n)),
        };
        if self.show.line_numbers {
            o.push_str("num  ");
        }
        if self.show.verbose {
            o.push_str(if x { "    pkts      bytes " } else { " pkts bytes " });
        }
        let _ = write!(o, "{:<9}  {:<4} {:<3} ", "target", "prot", "opt");
        if self.show.verbose {
            let _ = write!(o, "{:<6} {:<6} ", "in", "out");
        }
        let _ = writeln!(o, " {:<19}  {:<19} ", "source", "destination");
        if self.show.verbose {
            return;
        }
        // Without devices the columns move up by one.
        let fixed = o.replace("prot opt  source", "prot opt source");
        *o = fixed;
    }

    fn line(&self, o: &mut String, n: usize, r: &Rule) {
        let show = self.show;
        if show.line_numbers {
            let _ = write!(o, "{n:<4} ");
        }
        if show.verbose {
            let width = if show.exact { 8 } else { 5 };
            for v in [r.counters.packets, r.counters.bytes] {
                let _ = write!(o, "{:>width$} ", count(v, show.exact));
            }
        }
        let inv = |bit: u8| if r.ip.inv & bit != 0 { '!' } else { ' ' };
        let proto = match (show.numeric, r.ip.proto) {
            (true, p) => p.to_string(),
            (false, 0) => "all".into(),
            (false, p) => protocol_name(p).map_or_else(|| p.to_string(), str::to_owned),
        };
        // The list has the name that the kernel knows.
        let name = match &r.target {
            Target::Notrack { .. } => "CT".to_owned(),
            t => target_name(self.t, self.pf, t),
        };
        let _ = write!(o, "{name:<9} {}{proto:<4} ", inv(INV_PROTO));
        let opt = match (r.ip.frag, r.ip.inv & INV_FRAG != 0) {
            (false, _) => "--",
            (true, false) => "-f",
            (true, true) => "!f",
        };
        let _ = write!(o, "{opt} ");
        if show.verbose {
            let name = |m: &IfMatch, bit: u8| {
                let text = if m.is_any() { "*".to_owned() } else { m.text() };
                if r.ip.inv & bit != 0 { format!("!{text}") } else { text }
            };
            let _ = write!(o, " {:<6} {:<6} ", name(&r.ip.iin, INV_VIA_IN), name(&r.ip.iout, INV_VIA_OUT));
        }
        let _ = write!(o, "{}{:<19} ", inv(INV_SRC), self.address(&r.ip.src));
        let _ = write!(o, "{}{:<19} ", inv(INV_DST), self.address(&r.ip.dst));
        if let Target::Jump { goto: true, .. } = r.target {
            o.push_str("[goto] ");
        }
        r.matches.iter().for_each(|m| self.list_match(o, m));
        self.list_target(o, &r.target);
        o.push('\n');
    }

    fn address(&self, m: &Masked) -> String {
        match (m.mask, self.show.numeric) {
            (0, false) => "anywhere".into(),
            _ if !self.show.numeric && m.mask == full(self.pf) && packet::addr(self.pf, m.addr).is_loopback() => {
                "localhost".into()
            }
            (0, true) => network_text(self.pf, m),
            _ => network_short(self.pf, m),
        }
    }

    fn port(&self, p: u16, proto: &str) -> String {
        let named = if self.show.numeric { None } else { self.names.service(p, proto) };
        named.unwrap_or_else(|| p.to_string())
    }

    fn ports(&self, o: &mut String, name: &str, p: Ports, inv: bool, proto: &str) {
        if p == Ports::ANY && !inv {
            return;
        }
        let inv = if inv { "!" } else { "" };
        let _ = if p.lo == p.hi {
            write!(o, " {name}:{inv}{}", self.port(p.lo, proto))
        } else {
            write!(o, " {name}s:{inv}{}:{}", self.port(p.lo, proto), self.port(p.hi, proto))
        };
    }

    fn list_match(&self, o: &mut String, m: &Match) {
        let _ = match m {
            Match::Tcp { sport, dport, option, flag_mask, flag_cmp, inv } => {
                o.push_str(" tcp");
                self.ports(o, "spt", *sport, inv & 1 != 0, "tcp");
                self.ports(o, "dpt", *dport, inv & 2 != 0, "tcp");
                if *option != 0 || inv & TCP_INV_OPTION != 0 {
                    let _ = write!(o, " option={}{option}", if inv & TCP_INV_OPTION != 0 { "!" } else { "" });
                }
                if *flag_mask == 0 && inv & TCP_INV_FLAGS == 0 {
                    return;
                }
                let inv = if inv & TCP_INV_FLAGS != 0 { "!" } else { "" };
                if self.show.numeric {
                    write!(o, " flags:{inv}0x{flag_mask:02X}/0x{flag_cmp:02X}")
                } else {
                    write!(o, " flags:{inv}{}/{}", flags_text(*flag_mask), flags_text(*flag_cmp))
                }
            }
            Match::Udp { sport, dport, inv } => {
                o.push_str(" udp");
                self.ports(o, "spt", *sport, inv & 1 != 0, "udp");
                self.ports(o, "dpt", *dport, inv & 2 != 0, "udp");
                Ok(())
            }
            Match::Icmp { kind, code, inv } => {
                self.icmp(o, *kind, *code, *inv);
                Ok(())
            }
            Match::Conntrack(c) => {
                conntrack(o, self.pf, c, "");
                Ok(())
            }
            Match::State(s) => write!(o, " state {}", state_text(*s)),
            Match::Comment(text) => write!(o, " /* {text} */"),
            Match::Mark { mark, mask, inv } => write!(o, " mark match{} {}", bang(*inv), mark_text(*mark, *mask)),
            Match::Connmark { mark, mask, inv } => {
                write!(o, " connmark match {} {}", if *inv { "!" } else { "" }, mark_text(*mark, *mask))
            }
            Match::StatisticRandom { p, inv } => {
                write!(o, " statistic mode random{} probability {}", bang(*inv), probability(*p))
            }
            Match::StatisticNth { every, packet, inv, .. } => {
                write!(o, " statistic mode nth{} every {}", bang(*inv), every.wrapping_add(1))
                    .and_then(|()| if *packet != 0 { write!(o, " packet {packet}") } else { Ok(()) })
            }
            Match::Addrtype { source, dest, flags } => {
                o.push_str(" ADDRTYPE match");
                for (bits, inv, name) in [(source, ADDRTYPE_INV_SRC, "src"), (dest, ADDRTYPE_INV_DST, "dst")] {
                    if *bits != 0 {
                        let inv = if flags & inv != 0 { "!" } else { "" };
                        let _ = write!(o, " {name}-type {inv}{}", addrtypes(*bits));
                    }
                }
                if flags & ADDRTYPE_LIMIT_IN != 0 {
                    o.push_str(" limit-in");
                }
                if flags & ADDRTYPE_LIMIT_OUT != 0 {
                    o.push_str(" limit-out");
                }
                Ok(())
            }
            Match::Multiport { which, ports, inv } => {
                let _ = write!(o, " multiport {} ", which_text(*which));
                let proto = self.proto_of_multiport();
                for (n, p) in ports.iter().enumerate() {
                    o.push_str(if n > 0 {
                        ","
                    } else if *inv {
                        " !"
                    } else {
                        ""
                    });
                    o.push_str(&self.port(p.lo, proto));
                    if p.lo != p.hi {
                        let _ = write!(o, ":{}", self.port(p.hi, proto));
                    }
                }
                Ok(())
            }
            Match::Limit { avg, burst, .. } => write!(o, " limit: avg {} burst {burst}", rate_text(*avg)),
            Match::Set(m) => set_match(o, m, ""),
            Match::Length { min, max, inv } => {
                write!(o, " length {}{}", if *inv { "!" } else { "" }, port_text(Ports { lo: *min, hi: *max }))
            }
            Match::Physdev(p) => {
                o.push_str(" PHYSDEV match");
                physdev::print(o, p)
            }
            Match::Xt(x) => x.print(o, Voice { pf: self.pf, list: true, numeric: self.show.numeric }),
            Match::Owner { uid, gid, which, inv } => {
                let labels = ["owner socket exists", "owner UID match", "owner GID match"];
                owner(o, labels, (*uid, *gid), *which, *inv, self.show.numeric)
            }
        };
    }

    /// Names of services are mostly the same for both.
    fn proto_of_multiport(&self) -> &'static str {
        "tcp"
    }

    fn icmp(&self, o: &mut String, kind: u8, code: (u8, u8), inv: bool) {
        o.push_str(if self.pf == Pf::V4 { " icmp" } else { " ipv6-icmp" });
        let bang = if inv { "!" } else { "" };
        let named = icmp_types(self.pf).iter().find(|t| t.1 == kind && t.2 == code);
        if let Some(t) = named.filter(|_| !self.show.numeric) {
            let _ = write!(o, " {bang}{}", t.0);
            return;
        }
        let _ = write!(o, "{}type {kind}", if inv { " !" } else { "" });
        let _ = match code {
            (0, 255) => Ok(()),
            (a, b) if a == b => write!(o, " code {a}"),
            (a, b) => write!(o, " codes {a}-{b}"),
        };
    }

    fn list_target(&self, o: &mut String, t: &Target) {
        let pf = self.pf;
        let _ = match t {
            Target::Reject(w) => write!(o, " reject-with {}", w.name(pf)),
            Target::Snat(r) | Target::Dnat(r) => {
                let _ = write!(o, " to:{}", range_text(pf, r));
                nat_flags(t, r.flags).iter().try_for_each(|f| write!(o, " {f}"))
            }
            Target::Masquerade(r) | Target::Redirect(r) => {
                if r.flags & NAT_PROTO_SPECIFIED != 0 {
                    let what = if matches!(t, Target::Redirect(_)) { "redir ports" } else { "masq ports:" };
                    let _ = write!(o, " {what} {}", ports_to_text(r));
                }
                nat_flags(t, r.flags).iter().try_for_each(|f| write!(o, " {f}"))
            }
            Target::Mark { value, mask } => write!(o, " MARK {}", xmark(*value, *mask)),
            Target::Connmark { mode, ctmark, ctmask, nfmask } => {
                let masks = match (ctmask, nfmask) {
                    (&u32::MAX, &u32::MAX) => String::new(),
                    (c, n) if c == n => format!(" mask 0x{n:x}"),
                    (c, n) => format!(" nfmask 0x{n:x} ctmask ~0x{c:x}"),
                };
                match mode {
                    ConnmarkMode::Set => write!(o, " CONNMARK {}", xmark(*ctmark, *ctmask)),
                    ConnmarkMode::Save => write!(o, " CONNMARK save{masks}"),
                    ConnmarkMode::Restore => write!(o, " CONNMARK restore{masks}"),
                }
            }
            Target::Log { level, flags, prefix } => {
                let _ = if self.show.numeric {
                    write!(o, " LOG flags {flags} level {level}")
                } else {
                    let name = LOG_LEVELS.iter().rev().find(|l| l.1 == *level).map_or("", |l| l.0);
                    let _ = write!(o, " LOG level {name}");
                    LOG_FLAGS.iter().filter(|f| flags & f.0 != 0).try_for_each(|f| write!(o, " {}", f.2))
                };
                if prefix.is_empty() { Ok(()) } else { write!(o, " prefix \"{prefix}\"") }
            }
            Target::Nflog(l) => {
                if !l.prefix.is_empty() {
                    let _ = write!(o, " nflog-prefix {}", quoted(&l.prefix));
                }
                nflog(o, l, "nflog-")
            }
            Target::Set(t) => set_target(o, t, ""),
            Target::Xt(x) => x.print(o, Voice { pf, list: true, numeric: self.show.numeric }),
            Target::Tproxy { addr, port, mark, mask } => {
                let ip = packet::addr(pf, *addr);
                write!(o, " TPROXY redirect {ip}:{port} mark 0x{mark:x}/0x{mask:x}")
            }
            Target::Notrack { ct: true } => write!(o, " CT notrack"),
            Target::Tcpmss(TCPMSS_CLAMP) => write!(o, " TCPMSS clamp to PMTU"),
            Target::Tcpmss(mss) => write!(o, " TCPMSS set {mss}"),
            Target::Notrack { ct: false } => write!(o, " NOTRACK"),
            _ => Ok(()),
        };
    }
}

/// What a change of a mark amounts to.
fn xmark(value: u32, mask: u32) -> String {
    if mask == u32::MAX {
        format!("set 0x{value:x}")
    } else if value == 0 {
        format!("and 0x{:x}", !mask)
    } else if value == mask {
        format!("or 0x{value:x}")
    } else if mask == 0 {
        format!("xor 0x{value:x}")
    } else {
        format!("xset 0x{value:x}/0x{mask:x}")
    }
}
