//! Rules as the options that make them: `-S`, `iptables-save`.
use super::super::rules::*;
use super::super::{Pf, packet};
use super::options::{CT_STATES, CT_STATUS, TCP_FLAGS};
use super::physdev;
use super::target_options::range_text;
use super::value::*;
use crate::net::netfilter::xt::Voice;
use belljar_abi::ipset::*;
use std::fmt::Write;

/// A whole table for `iptables-restore`.
pub fn save(t: &Table, pf: Pf, counters: bool) -> String {
    let mut o = format!("*{}\n", t.name.name());
    for c in &t.chains {
        let policy = c.base.map_or("-", |b| b.1.name());
        let _ = writeln!(o, ":{} {policy} [{}:{}]", c.name, c.counters.packets, c.counters.bytes);
    }
    for c in &t.chains {
        for r in &c.rules {
            if counters {
                let _ = write!(o, "[{}:{}] ", r.counters.packets, r.counters.bytes);
            }
            o += &rule(t, pf, c, r, false);
            o.push('\n');
        }
    }
    o + "COMMIT\n"
}

/// `-S`.
pub fn rules(t: &Table, pf: Pf, only: Option<usize>, number: Option<usize>, counters: bool) -> String {
    let mut o = String::new();
    let chains = || t.chains.iter().enumerate().filter(|(n, _)| only.is_none_or(|c| c == *n)).map(|(_, c)| c);
    if number.is_none() {
        for c in chains() {
            match c.base {
                Some((_, p)) => {
                    let _ = write!(o, "-P {} {}", c.name, p.name());
                    if counters {
                        let _ = write!(o, " -c {} {}", c.counters.packets, c.counters.bytes);
                    }
                    o.push('\n');
                }
                None => {
                    let _ = writeln!(o, "-N {}", c.name);
                }
            }
        }
    }
    for c in chains() {
        for (n, r) in c.rules.iter().enumerate() {
            if number.is_none_or(|want| want == n + 1) {
                o += &rule(t, pf, c, r, counters);
                o.push('\n');
            }
        }
    }
    o
}

fn not(inv: bool) -> &'static str {
    if inv { "! " } else { "" }
}

/// A rule as the options that make it.
fn rule(t: &Table, pf: Pf, c: &Chain, r: &Rule, counters: bool) -> String {
    let mut o = format!("-A {}", c.name);
    let inv = |bit: u8| not(r.ip.inv & bit != 0);
    for (m, bit, letter) in [(&r.ip.src, INV_SRC, 's'), (&r.ip.dst, INV_DST, 'd')] {
        if m.mask != 0 || r.ip.inv & bit != 0 {
            let _ = write!(o, " {}-{letter} {}", inv(bit), network_text(pf, m));
        }
    }
    for (m, bit, letter) in [(&r.ip.iin, INV_VIA_IN, 'i'), (&r.ip.iout, INV_VIA_OUT, 'o')] {
        if !m.is_any() || r.ip.inv & bit != 0 {
            let _ = write!(o, " {}-{letter} {}", inv(bit), m.text());
        }
    }
    if r.ip.proto != 0 {
        let name = protocol_name(r.ip.proto).map_or_else(|| r.ip.proto.to_string(), str::to_owned);
        let _ = write!(o, " {}-p {name}", inv(INV_PROTO));
    }
    if r.ip.frag {
        let _ = write!(o, " {}-f", inv(INV_FRAG));
    }
    r.matches.iter().for_each(|m| save_match(&mut o, pf, m));
    if counters {
        let _ = write!(o, " -c {} {}", r.counters.packets, r.counters.bytes);
    }
    target_words(&mut o, t, pf, &r.target);
    o
}

/// What a rule says: ` -j TARGET` with its options.
pub(in crate::net::netfilter) fn target_words(o: &mut String, t: &Table, pf: Pf, target: &Target) {
    match target {
        Target::None => {}
        Target::Jump { chain, goto } => {
            let name = t.chains.get(*chain as usize).map_or("", |c| &c.name);
            let _ = write!(o, " -{} {name}", if *goto { 'g' } else { 'j' });
        }
        target => {
            let _ = write!(o, " -j {}", target_name(t, pf, target));
            save_target(o, pf, target);
        }
    }
}

pub(super) fn port_text(p: Ports) -> String {
    if p.lo == p.hi { p.lo.to_string() } else { format!("{}:{}", p.lo, p.hi) }
}

pub(super) fn flags_text(bits: u8) -> String {
    let names: Vec<_> = TCP_FLAGS.iter().filter(|f| bits & f.1 != 0).map(|f| f.0).collect();
    if names.is_empty() { "NONE".into() } else { names.join(",") }
}

fn named<T: Copy + Into<u32>>(all: &[(&str, T)], bits: u16) -> String {
    let names: Vec<_> = all.iter().filter(|s| u32::from(bits) & s.1.into() != 0).map(|s| s.0).collect();
    names.join(",")
}

pub(super) fn mark_text(mark: u32, mask: u32) -> String {
    if mask == u32::MAX { format!("0x{mark:x}") } else { format!("0x{mark:x}/0x{mask:x}") }
}

pub(super) fn probability(p: u32) -> String {
    format!("{:.11}", f64::from(p) / f64::from(1u32 << 31))
}

pub(super) fn rate_text(avg: u32) -> String {
    let units = [("day", 86_400 * 10_000u64), ("hour", 36_000_000), ("min", 600_000), ("sec", 10_000)];
    let avg = u64::from(avg).max(1);
    // The largest unit in which it is a whole number, or the smallest that gives one at all.
    let mut at = 1;
    while at < units.len() {
        if avg > units[at].1 || units[at].1 / avg < units[at].1 % avg {
            break;
        }
        at += 1;
    }
    let (name, unit) = units[at - 1];
    format!("{}/{name}", unit / avg)
}

pub(super) fn addrtypes(bits: u16) -> String {
    let names: Vec<_> =
        ADDRTYPES.iter().enumerate().filter(|(n, _)| bits & 1 << n != 0).map(|(_, name)| *name).collect();
    names.join(",")
}

fn save_match(o: &mut String, pf: Pf, m: &Match) {
    let _ = match m {
        Match::Tcp { sport, dport, option, flag_mask, flag_cmp, inv } => {
            o.push_str(" -m tcp");
            save_ports(o, *sport, *dport, *inv);
            if *option != 0 || inv & TCP_INV_OPTION != 0 {
                let _ = write!(o, " {}--tcp-option {option}", not(inv & TCP_INV_OPTION != 0));
            }
            if *flag_mask != 0 || inv & TCP_INV_FLAGS != 0 {
                let inv = not(inv & TCP_INV_FLAGS != 0);
                let _ = write!(o, " {inv}--tcp-flags {} {}", flags_text(*flag_mask), flags_text(*flag_cmp));
            }
            Ok(())
        }
        Match::Udp { sport, dport, inv } => {
            o.push_str(" -m udp");
            save_ports(o, *sport, *dport, *inv);
            Ok(())
        }
        Match::Icmp { kind, code, inv } => {
            let (name, option) = if pf == Pf::V4 { ("icmp", "icmp-type") } else { ("icmp6", "icmpv6-type") };
            let _ = write!(o, " -m {name} {}--{option} ", not(*inv));
            match (kind, code) {
                (255, _) if pf == Pf::V4 => write!(o, "any"),
                (_, (0, 255)) => write!(o, "{kind}"),
                _ => write!(o, "{kind}/{}", code.0),
            }
        }
        Match::Conntrack(c) => {
            o.push_str(" -m conntrack");
            conntrack(o, pf, c, "--");
            Ok(())
        }
        Match::State(s) => write!(o, " -m state --state {}", state_text(*s)),
        Match::Set(m) => {
            o.push_str(" -m set");
            set_match(o, m, "--")
        }
        Match::Comment(text) => write!(o, " -m comment --comment {}", quoted(text)),
        Match::Mark { mark, mask, inv } => write!(o, " -m mark {}--mark {}", not(*inv), mark_text(*mark, *mask)),
        Match::Connmark { mark, mask, inv } => {
            write!(o, " -m connmark {}--mark {}", not(*inv), mark_text(*mark, *mask))
        }
        Match::StatisticRandom { p, inv } => {
            write!(o, " -m statistic --mode random{} --probability {}", bang(*inv), probability(*p))
        }
        Match::StatisticNth { every, packet, inv, .. } => {
            let every = every.wrapping_add(1);
            write!(o, " -m statistic --mode nth{} --every {every} --packet {packet}", bang(*inv))
        }
        Match::Addrtype { source, dest, flags } => {
            o.push_str(" -m addrtype");
            for (bits, inv, name) in [(source, ADDRTYPE_INV_SRC, "src"), (dest, ADDRTYPE_INV_DST, "dst")] {
                if *bits != 0 {
                    let _ = write!(o, " {}--{name}-type {}", not(flags & inv != 0), addrtypes(*bits));
                }
            }
            if flags & ADDRTYPE_LIMIT_IN != 0 {
                o.push_str(" --limit-iface-in");
            }
            if flags & ADDRTYPE_LIMIT_OUT != 0 {
                o.push_str(" --limit-iface-out");
            }
            Ok(())
        }
        Match::Multiport { which, ports, inv } => {
            let list: Vec<_> = ports.iter().map(|p| port_text(*p)).collect();
            write!(o, " -m multiport {}--{} {}", not(*inv), which_text(*which), list.join(","))
        }
        Match::Limit { avg, burst, .. } => {
            let _ = write!(o, " -m limit --limit {}", rate_text(*avg));
            if *burst != 5 { write!(o, " --limit-burst {burst}") } else { Ok(()) }
        }
        Match::Length { min, max, inv } => {
            write!(o, " -m length {}--length {}", not(*inv), port_text(Ports { lo: *min, hi: *max }))
        }
        Match::Owner { uid, gid, which, inv } => {
            o.push_str(" -m owner");
            owner(o, ["--socket-exists", "--uid-owner", "--gid-owner"], (*uid, *gid), *which, *inv, true)
        }
        Match::Physdev(p) => {
            o.push_str(" -m physdev");
            physdev::print(o, p)
        }
        Match::Xt(x) => x.print(o, Voice { pf, list: false, numeric: false }),
    };
}

/// What an owner match asks, each with its label.
pub(super) fn owner(
    o: &mut String,
    labels: [&str; 3],
    (uid, gid): ((u32, u32), (u32, u32)),
    which: u8,
    inv: u8,
    numeric: bool,
) -> std::fmt::Result {
    let all = [(OWNER_SOCKET, None), (OWNER_UID, Some(uid)), (OWNER_GID, Some(gid))];
    for ((bit, range), label) in all.into_iter().zip(labels).filter(|((bit, _), _)| which & bit != 0) {
        write!(o, "{} {label}", bang(inv & bit != 0))?;
        match range {
            None => {}
            Some((0, 0)) if !numeric => write!(o, " root")?,
            Some((lo, hi)) if lo == hi => write!(o, " {lo}")?,
            Some((lo, hi)) => write!(o, " {lo}-{hi}")?,
        }
    }
    Ok(())
}

pub(super) fn bang(inv: bool) -> &'static str {
    if inv { " !" } else { "" }
}

fn save_ports(o: &mut String, sport: Ports, dport: Ports, inv: u8) {
    for (p, bit, name) in [(sport, 1, "sport"), (dport, 2, "dport")] {
        if p != Ports::ANY || inv & bit != 0 {
            let _ = write!(o, " {}--{name} {}", not(inv & bit != 0), port_text(p));
        }
    }
}

pub(super) fn which_text(w: MultiportWhich) -> &'static str {
    match w {
        MultiportWhich::Source => "sports",
        MultiportWhich::Dest => "dports",
        MultiportWhich::Either => "ports",
    }
}

/// `--state` has another order than `--ctstate`.
pub(super) fn state_text(bits: u16) -> String {
    named(&CT_STATES[..5], bits)
}

fn range_u32(r: (u32, u32)) -> String {
    if r.0 == r.1 { r.0.to_string() } else { format!("{}:{}", r.0, r.1) }
}

/// `dash`: what stands before each word, "--" for options.
pub(super) fn conntrack(o: &mut String, pf: Pf, c: &CtMatch, dash: &str) {
    let asks = |bit: u16| c.flags & bit != 0;
    let inv = |bit: u16| not(c.inv & bit != 0);
    let mut put = |bit: u16, name: &str, value: String| {
        if asks(bit) {
            let _ = write!(o, " {}{dash}ct{name} {value}", inv(bit));
        }
    };
    put(XT_CONNTRACK_STATE, "state", named(&CT_STATES, c.state));
    put(XT_CONNTRACK_PROTO, "proto", c.proto.to_string());
    let ends = ["origsrc", "origdst", "replsrc", "repldst"];
    for (n, name) in ends.iter().enumerate() {
        put(XT_CONNTRACK_ORIGSRC << n, name, ct_address(pf, &c.addrs[n]));
    }
    for (n, name) in ends.iter().enumerate() {
        let p = c.ports[n];
        put(XT_CONNTRACK_ORIGSRC_PORT << n, &format!("{name}port"), port_text(Ports { lo: p.0, hi: p.1 }));
    }
    let status = if c.status == 0 { "NONE".to_owned() } else { status_text(c.status) };
    put(XT_CONNTRACK_STATUS, "status", status);
    put(XT_CONNTRACK_EXPIRES, "expire", range_u32(c.expires));
    if asks(XT_CONNTRACK_DIRECTION) {
        let dir = if c.inv & XT_CONNTRACK_DIRECTION != 0 { "REPLY" } else { "ORIGINAL" };
        let _ = write!(o, " {dash}ctdir {dir}");
    }
}

fn status_text(bits: u16) -> String {
    named(&CT_STATUS, bits)
}

fn ct_address(pf: Pf, m: &Masked) -> String {
    if m.mask == 0 { "anywhere".into() } else { network_short(pf, m) }
}

pub(super) fn target_name(t: &Table, pf: Pf, target: &Target) -> String {
    match target {
        Target::None => "",
        Target::Accept => "ACCEPT",
        Target::Drop => "DROP",
        Target::Queue => "QUEUE",
        Target::Return => "RETURN",
        Target::Jump { chain, .. } => t.chains.get(*chain as usize).map_or("", |c| &c.name),
        Target::Reject(_) => "REJECT",
        Target::Snat(_) => "SNAT",
        Target::Dnat(_) => "DNAT",
        Target::Masquerade(_) => "MASQUERADE",
        Target::Redirect(_) => "REDIRECT",
        Target::Mark { .. } => "MARK",
        Target::Connmark { .. } => "CONNMARK",
        Target::Log { .. } => "LOG",
        Target::Nflog(_) => "NFLOG",
        Target::Set(_) => "SET",
        Target::Tproxy { .. } => "TPROXY",
        Target::Tcpmss(_) => "TCPMSS",
        Target::Xt(x) => x.name(pf),
        Target::Notrack { ct: true } => "CT",
        Target::Notrack { ct: false } => "NOTRACK",
    }
    .to_owned()
}

/// Words behind the range, in the order of each target.
pub(super) fn nat_flags(target: &Target, flags: u32) -> Vec<&'static str> {
    let all = [(NAT_PROTO_RANDOM, "random"), (NAT_PROTO_RANDOM_FULLY, "random-fully"), (NAT_PERSISTENT, "persistent")];
    let _ = target;
    all.iter().filter(|f| flags & f.0 != 0).map(|f| f.1).collect()
}

pub(super) fn ports_to_text(r: &NatRange) -> String {
    if r.ports.0 == r.ports.1 { r.ports.0.to_string() } else { format!("{}-{}", r.ports.0, r.ports.1) }
}

fn save_target(o: &mut String, pf: Pf, t: &Target) {
    let _ = match t {
        Target::Reject(w) => write!(o, " --reject-with {}", w.name(pf)),
        Target::Snat(r) | Target::Dnat(r) | Target::Masquerade(r) | Target::Redirect(r) => {
            let _ = match t {
                Target::Snat(_) => write!(o, " --to-source {}", range_text(pf, r)),
                Target::Dnat(_) => write!(o, " --to-destination {}", range_text(pf, r)),
                _ if r.flags & NAT_PROTO_SPECIFIED != 0 => write!(o, " --to-ports {}", ports_to_text(r)),
                _ => Ok(()),
            };
            nat_flags(t, r.flags).iter().try_for_each(|f| write!(o, " --{f}"))
        }
        Target::Mark { value, mask } => write!(o, " --set-xmark 0x{value:x}/0x{mask:x}"),
        Target::Connmark { mode, ctmark, ctmask, nfmask } => match mode {
            ConnmarkMode::Set => write!(o, " --set-xmark 0x{ctmark:x}/0x{ctmask:x}"),
            ConnmarkMode::Save => write!(o, " --save-mark --nfmask 0x{nfmask:x} --ctmask 0x{ctmask:x}"),
            ConnmarkMode::Restore => write!(o, " --restore-mark --nfmask 0x{nfmask:x} --ctmask 0x{ctmask:x}"),
        },
        Target::Log { level, flags, prefix } => {
            if !prefix.is_empty() {
                let _ = write!(o, " --log-prefix {}", quoted(prefix));
            }
            if *level != 4 {
                let _ = write!(o, " --log-level {level}");
            }
            LOG_FLAGS.iter().filter(|f| flags & f.0 != 0).try_for_each(|f| write!(o, " --log-{}", f.1))
        }
        Target::Nflog(l) => {
            if !l.prefix.is_empty() {
                let _ = write!(o, " --nflog-prefix {}", quoted(&l.prefix));
            }
            nflog(o, l, "--nflog-")
        }
        Target::Set(t) => set_target(o, t, "--"),
        Target::Tproxy { addr, port, mark, mask } => {
            let ip = packet::addr(pf, *addr);
            write!(o, " --on-port {port} --on-ip {ip} --tproxy-mark 0x{mark:x}/0x{mask:x}")
        }
        Target::Notrack { ct: true } => write!(o, " --notrack"),
        Target::Xt(x) => x.print(o, Voice { pf, list: false, numeric: false }),
        Target::Tcpmss(TCPMSS_CLAMP) => write!(o, " --clamp-mss-to-pmtu"),
        Target::Tcpmss(mss) => write!(o, " --set-mss {mss}"),
        _ => Ok(()),
    };
}

/// Group, size and threshold of an NFLOG as `iptables` writes them.
pub(super) fn nflog(o: &mut String, l: &Nflog, dashes: &str) -> std::fmt::Result {
    if l.group != 0 {
        write!(o, " {dashes}group {}", l.group)?;
    }
    match (l.size, l.range) {
        (Some(n), _) => write!(o, " {dashes}size {n}")?,
        (None, 0) => {}
        (None, n) => write!(o, " {dashes}range {n}")?,
    }
    if l.threshold != 0 { write!(o, " {dashes}threshold {}", l.threshold) } else { Ok(()) }
}

/// A set with its directions.
pub(super) fn set_ref(s: &SetRef) -> String {
    let words = (1..=s.dim).map(|n| if s.flags & 1 << n != 0 { "src" } else { "dst" });
    format!("{} {}", s.name, words.collect::<Vec<_>>().join(","))
}

/// `-m set`, with what it asks of counters.
pub(super) fn set_match(o: &mut String, m: &SetMatch, dashes: &str) -> std::fmt::Result {
    let bang = if m.set.flags & IPSET_INV_MATCH != 0 { " !" } else { "" };
    write!(o, "{bang} {dashes}match-set {}", set_ref(&m.set))?;
    let flag = |bit: u32| m.flags & bit != 0;
    if flag(IPSET_FLAG_RETURN_NOMATCH) {
        write!(o, " {dashes}return-nomatch")?;
    }
    if flag(IPSET_FLAG_SKIP_COUNTER_UPDATE) {
        write!(o, " ! {dashes}update-counters")?;
    }
    if flag(IPSET_FLAG_SKIP_SUBCOUNTER_UPDATE) {
        write!(o, " ! {dashes}update-subcounters")?;
    }
    for (name, c) in [("packets", m.packets), ("bytes", m.bytes)] {
        let (bang, how) = [("", ""), ("", "-eq"), ("! ", "-eq"), ("", "-lt"), ("", "-gt")][usize::from(c.op.min(4))];
        if c.op != 0 {
            write!(o, " {bang}{dashes}{name}{how} {}", c.value)?;
        }
    }
    Ok(())
}

/// `-j SET`.
pub(super) fn set_target(o: &mut String, t: &SetTarget, dashes: &str) -> std::fmt::Result {
    for (s, what) in [(&t.add, "add-set"), (&t.del, "del-set")] {
        if s.index != IPSET_INVALID_ID {
            write!(o, " {dashes}{what} {}", set_ref(s))?;
        }
    }
    if t.flags & IPSET_FLAG_EXIST != 0 {
        write!(o, " {dashes}exist")?;
    }
    t.timeout.map_or(Ok(()), |n| write!(o, " {dashes}timeout {n}"))
}

/// Bit, word of the option, word of the list.
pub(super) const LOG_FLAGS: [(u8, &str, &str); 5] = [
    (LOG_TCPSEQ, "tcp-sequence", "tcp-sequence"),
    (LOG_TCPOPT, "tcp-options", "tcp-options"),
    (LOG_IPOPT, "ip-options", "ip-options"),
    (LOG_UID, "uid", "uid"),
    (LOG_MACDECODE, "macdecode", "macdecode"),
];
