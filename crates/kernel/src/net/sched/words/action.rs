//! `action …` of filters: gact, mirred, police.
use super::units::{self, rate, size, size_and_cell};
use super::{Line, Wrong};
use belljar_abi::netlink::Msg;
use belljar_abi::pkt_sched::*;

/// tc sets this bit where it nests.
const NESTED: u16 = 1 << 15;

/// Attributes of one action, kept until all of it is read.
type Built = Vec<u8>;

/// The devices and their numbers.
pub(super) type Devices<'a> = &'a [(&'a str, u32)];

pub(super) fn index_of(devices: Devices<'_>, name: &str) -> Result<u32, Wrong> {
    let found = devices.iter().find(|(n, _)| *n == name);
    found.map(|(_, index)| *index).ok_or_else(|| format!("Cannot find device \"{name}\""))
}

/// The words that a verdict may begin with, in full; any beginning of them means it.
const CONTROLS: [(&str, i32); 10] = [
    ("continue", TC_ACT_UNSPEC),
    ("drop", TC_ACT_SHOT),
    ("shot", TC_ACT_SHOT),
    ("pass", TC_ACT_OK),
    ("ok", TC_ACT_OK),
    ("reclassify", TC_ACT_RECLASSIFY),
    ("pipe", TC_ACT_PIPE),
    ("goto", TC_ACT_GOTO_CHAIN),
    ("jump", TC_ACT_JUMP),
    ("trap", TC_ACT_TRAP),
];

fn begins(word: &str, full: &str) -> bool {
    !word.is_empty() && full.starts_with(word)
}

fn code(word: &str) -> Option<i32> {
    CONTROLS.iter().find(|(full, _)| begins(word, full)).map(|(_, code)| *code)
}

/// A verdict, with the number that some have.
#[doc(alias = "parse_action_control")]
fn control(l: &mut Line<'_>) -> Result<i32, Wrong> {
    let w = l.value()?;
    let number = |l: &mut Line<'_>, what: &str| {
        let n: Option<i32> = l.value()?.parse().ok().filter(|n| (0..=TC_ACT_EXT_VAL_MASK).contains(n));
        n.ok_or_else(|| what.to_owned())
    };
    match code(w).ok_or_else(|| format!("Bad action type {w}"))? {
        TC_ACT_GOTO_CHAIN => match l.value()? {
            w if begins(w, "chain") => Ok(TC_ACT_GOTO_CHAIN | number(l, "Illegal \"chain index\"")?),
            _ => Err("\"chain index\" expected".to_owned()),
        },
        TC_ACT_JUMP => Ok(TC_ACT_JUMP | number(l, "Invalid \"jump count\"")?),
        code => Ok(code),
    }
}

/// Everything up to the end or a class, behind the first word `action`.
#[doc(alias = "parse_action")]
pub(super) fn list(l: &mut Line<'_>, devices: Devices<'_>, attr: u16, m: &mut Msg<'_>) -> Result<(), Wrong> {
    let mut all: Vec<Built> = Vec::new();
    let mut wanted = true;
    while let Some(w) = l.peek() {
        match w {
            "action" => {
                l.next();
                wanted = true;
            }
            "flowid" | "classid" => break,
            _ => {
                all.push(one(l, w, devices)?);
                wanted = false;
            }
        }
    }
    if wanted {
        return Err("bad action empty 1\nIllegal \"action\"".to_owned());
    }
    m.nest(attr, |m| {
        for (n, a) in (1..).zip(&all) {
            m.attr(n, a);
        }
    });
    Ok(())
}

fn one(l: &mut Line<'_>, w: &str, devices: Devices<'_>) -> Result<Built, Wrong> {
    let kind = match w {
        "mirred" | "police" => w,
        // Whatever is no action is taken for a verdict of gact.
        _ => "gact",
    };
    let bad = |e: Wrong| format!("{e}\nbad action parsing\nIllegal \"action\"");
    if w == kind {
        l.next();
    }
    let options = match kind {
        "mirred" => mirred(l, devices),
        "police" => police(l),
        _ => gact(l),
    };
    let options = options.map_err(bad)?;
    let mut out = Vec::new();
    let mut m = Msg::new(&mut out, 0, 0, 0, 0);
    m.attr_str(TCA_ACT_KIND, kind).attr(TCA_ACT_OPTIONS | NESTED, &options);
    if l.peek() == Some("cookie") {
        l.next();
        m.attr(TCA_ACT_COOKIE, &cookie(l.value()?)?);
    }
    Ok(attrs_of(out))
}

fn attrs_of(mut message: Vec<u8>) -> Built {
    message.split_off(belljar_abi::netlink::NLMSG_HDRLEN.min(message.len()))
}

fn cookie(hex: &str) -> Result<Vec<u8>, Wrong> {
    let wrong = || format!("Error: argument \"{hex}\" is wrong: cookie must be a hex string\n");
    let most = 2 * TC_COOKIE_MAX_SIZE;
    if hex.len() > most {
        return Err(format!("Error: argument \"{hex}\" is wrong: {} Max allowed size {most}", hex.len()));
    }
    if !hex.len().is_multiple_of(2) || !hex.is_ascii() {
        return Err(wrong());
    }
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).map_err(|_| wrong())).collect()
}

fn index_value(l: &mut Line<'_>) -> Result<u32, Wrong> {
    l.get("index", |w| w.parse().ok())
}

/// `tc_gen`, with what is behind it.
fn parms(index: u32, action: i32, more: &[u32]) -> Vec<u8> {
    let words = [index, 0, action as u32, 0, 0];
    words.iter().chain(more).flat_map(|w| w.to_ne_bytes()).collect()
}

#[doc(alias = "parse_gact")]
fn gact(l: &mut Line<'_>) -> Result<Built, Wrong> {
    let (mut action, mut prob) = (0, None);
    if !l.peek().is_some_and(|w| begins(w, "index")) {
        action = control(l)?;
        if l.peek().is_some_and(|w| begins(w, "random")) {
            l.next();
            prob = Some(random(l)?);
        }
    }
    let index = further_index(l)?;
    let mut out = Vec::new();
    let mut m = Msg::new(&mut out, 0, 0, 0, 0);
    m.attr(TCA_GACT_PARMS, &parms(index, action, &[]));
    if let Some(p) = prob {
        m.attr(TCA_GACT_PROB, &p);
    }
    Ok(attrs_of(out))
}

/// `index N` where it may stand; 0 without.
fn further_index(l: &mut Line<'_>) -> Result<u32, Wrong> {
    if !l.peek().is_some_and(|w| begins(w, "index")) {
        return Ok(0);
    }
    l.next();
    index_value(l)
}

fn random(l: &mut Line<'_>) -> Result<Vec<u8>, Wrong> {
    let kind: u16 = match l.value()? {
        w if begins(w, "netrand") => 1,
        w if begins(w, "determ") => 2,
        _ => return Err("Illegal \"random type\"".to_owned()),
    };
    let action = control(l)?;
    let value: u16 = l.get("probability val", |w| w.parse().ok().filter(|v| *v <= 10_000))?;
    let mut b = kind.to_ne_bytes().to_vec();
    b.extend_from_slice(&value.to_ne_bytes());
    b.extend_from_slice(&action.to_ne_bytes());
    Ok(b)
}

#[doc(alias = "parse_mirred")]
fn mirred(l: &mut Line<'_>, devices: Devices<'_>) -> Result<Built, Wrong> {
    let (mut dev, mut action, mut how) = (0, 0, 0);
    let mut index;
    match l.value()? {
        w if begins(w, "index") => index = index_value(l)?,
        w if begins(w, "egress") || begins(w, "ingress") => {
            let egress = begins(w, "egress");
            index = further_index(l)?;
            let redirect = match l.value()? {
                w if begins(w, "mirror") => false,
                w if begins(w, "redirect") => true,
                w => return Err(format!("was expecting mirror or redirect ({w})")),
            };
            (how, action) = match (egress, redirect) {
                (true, true) => (TCA_EGRESS_REDIR, TC_ACT_STOLEN),
                (true, false) => (TCA_EGRESS_MIRROR, TC_ACT_PIPE),
                (false, true) => (TCA_INGRESS_REDIR, TC_ACT_STOLEN),
                (false, false) => (TCA_INGRESS_MIRROR, TC_ACT_PIPE),
            };
            if begins(l.value()?, "dev") {
                let name = l.value()?;
                dev = index_of(devices, name)?;
            }
            if !redirect && l.peek().is_some_and(|w| code(w).is_some()) {
                action = control(l)?;
            }
            index = index.max(further_index(l)?);
        }
        w => return Err(format!("mirred option not supported {w}")),
    }
    let mut out = Vec::new();
    Msg::new(&mut out, 0, 0, 0, 0).attr(TCA_MIRRED_PARMS, &parms(index, action, &[how, dev]));
    Ok(attrs_of(out))
}

/// What a line says of a policer.
#[derive(Default)]
struct Limits {
    index: u32,
    rate: u64,
    peak: u64,
    burst: u32,
    mtu: u32,
    mpu: u16,
    overhead: u16,
    linklayer: u8,
    cells: (Option<u8>, Option<u8>),
    packets: (u64, u64),
    exceeds: i32,
    conforms: i32,
}

#[doc(alias = "act_parse_police")]
pub(super) fn police(l: &mut Line<'_>) -> Result<Built, Wrong> {
    let mut p = Limits { exceeds: TC_ACT_RECLASSIFY, linklayer: 1, ..Limits::default() };
    while let Some(w) = l.peek() {
        if code(w).is_some_and(|c| c != TC_ACT_JUMP && c != TC_ACT_TRAP) {
            p.exceeds = control(l)?;
        } else if !limit(w, l, &mut p)? {
            break;
        }
    }
    check(&p)?;
    Ok(limits(&p))
}

/// One word with its value; false for one that is not a policer's.
fn limit(w: &str, l: &mut Line<'_>, p: &mut Limits) -> Result<bool, Wrong> {
    let whole = |w: &str| w.parse::<u64>().ok();
    let known = ["index", "peakrate", "linklayer", "overhead", "pkts_rate", "pkts_burst"];
    let exact = ["burst", "buffer", "maxburst", "mtu", "minburst", "mpu", "rate", "conform-exceed", "avrate"];
    let Some(name) = exact.into_iter().find(|k| *k == w).or(known.into_iter().find(|k| begins(w, k))) else {
        return Ok(false);
    };
    l.next();
    match name {
        "index" => p.index = index_value(l)?,
        "burst" | "buffer" | "maxburst" => (p.burst, p.cells.0) = l.get("buffer", size_and_cell)?,
        "mtu" | "minburst" => (p.mtu, p.cells.1) = l.get("mtu", size_and_cell)?,
        "mpu" => p.mpu = l.get("mpu", size)? as u16,
        "rate" => p.rate = l.get("rate", rate)?,
        "peakrate" => p.peak = l.get("peakrate", rate)?,
        "overhead" => p.overhead = l.get("overhead", |w| w.parse().ok())?,
        "linklayer" => {
            p.linklayer = match l.value()? {
                w if begins(w, "ethernet") => 1,
                w if begins(w, "atm") || begins(w, "adsl") => 2,
                _ => return Err("Illegal \"linklayer\"".to_owned()),
            };
        }
        "pkts_rate" => p.packets.0 = l.get("pkts_rate", whole)?,
        "pkts_burst" => p.packets.1 = l.get("pkts_burst", whole)?,
        "conform-exceed" => (p.exceeds, p.conforms) = conform_exceed(l)?,
        other => return Err(format!("Error: \"{other}\" of police is not supported by belljar.")),
    }
    Ok(true)
}

/// `drop`, `drop/ok`, `drop / ok`.
fn conform_exceed(l: &mut Line<'_>) -> Result<(i32, i32), Wrong> {
    let numbered = |w: &str| code(w).or_else(|| w.parse().ok());
    let both = l.peek().and_then(|w| w.split_once('/')).filter(|(a, _)| !a.is_empty());
    if let Some((a, b)) = both {
        l.next();
        return numbered(a).zip(numbered(b)).ok_or_else(|| format!("Bad action type {a}/{b}"));
    }
    let exceeds = control(l)?;
    if l.peek() != Some("/") {
        return Ok((exceeds, TC_ACT_OK));
    }
    l.next();
    Ok((exceeds, control(l)?))
}

fn check(p: &Limits) -> Result<(), Wrong> {
    let why = match () {
        () if p.rate == 0 && p.index == 0 && p.mtu == 0 && p.packets.0 == 0 => {
            "'rate' or 'avrate' or 'mtu' or 'pkts_rate' MUST be specified."
        }
        () if p.rate != 0 && p.burst == 0 => "'burst' requires 'rate'.",
        () if p.packets.0 != 0 && p.packets.1 == 0 => "'pkts_burst' requires 'pkts_rate'.",
        () if p.packets.0 != 0 && p.rate != 0 => "'rate' and 'pkts_rate' are not allowed in same action.",
        () if p.peak != 0 && p.rate == 0 => "'peakrate' requires 'rate'.",
        () if p.peak != 0 && p.mtu == 0 => "'mtu' is required, if 'peakrate' is requested.",
        () => return Ok(()),
    };
    Err(why.to_owned())
}

fn limits(p: &Limits) -> Built {
    let extra = (p.overhead, p.mpu, p.linklayer);
    let spec = |rate: u64, cell| if rate == 0 { [0; 12] } else { units::spec(rate, p.mtu, cell, extra).to_bytes() };
    let burst = if p.rate == 0 { 0 } else { units::xmit_ticks(p.rate, p.burst) };
    let words = [p.index, p.exceeds as u32, 0, burst, p.mtu];
    let mut b: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
    b.extend_from_slice(&spec(p.rate, p.cells.0));
    b.extend_from_slice(&spec(p.peak, p.cells.1));
    b.resize(56, 0);
    let mut out = Vec::new();
    let mut m = Msg::new(&mut out, 0, 0, 0, 0);
    m.attr(TCA_POLICE_TBF, &b);
    for (kind, rate) in [(TCA_POLICE_RATE64, p.rate), (TCA_POLICE_PEAKRATE64, p.peak)] {
        if rate > u32::MAX.into() {
            m.attr(kind, &rate.to_ne_bytes());
        }
    }
    if p.conforms != 0 {
        m.attr_u32(TCA_POLICE_RESULT, p.conforms as u32);
    }
    if p.packets.0 != 0 {
        let burst = u64::from(units::xmit_ticks(p.packets.0, p.packets.1.min(u32::MAX.into()) as u32));
        m.attr(TCA_POLICE_PKTRATE64, &p.packets.0.to_ne_bytes()).attr(TCA_POLICE_PKTBURST64, &burst.to_ne_bytes());
    }
    attrs_of(out)
}
