//! `filter` lines: u32, fw, matchall.
use super::action::{self, Devices};
use super::units::{classid, number};
use super::{Line, Place, Wrong};
use belljar_abi::netlink::Msg;
use belljar_abi::pkt_sched::*;
use core::net::{Ipv4Addr, Ipv6Addr};

pub(super) fn line(
    l: &mut Line<'_>,
    p: &mut Place,
    m: &mut Msg<'_>,
    (new, devices): (bool, Devices<'_>),
) -> Result<(), Wrong> {
    let (mut protocol, mut prio, mut fhandle): (Option<u16>, u32, Option<&str>) = (None, 0, None);
    let mut kind = None;
    while let Some(w) = l.next() {
        match w {
            "dev" => p.dev = Some(l.value()?.to_owned()),
            "root" => p.at(TC_H_ROOT)?,
            "ingress" => p.at(TC_H_INGRESS & TC_H_MAJ_MASK | TC_H_MIN_INGRESS)?,
            "egress" => p.at(TC_H_INGRESS & TC_H_MAJ_MASK | TC_H_MIN_EGRESS)?,
            "parent" => {
                let v = l.value()?;
                p.at(classid(v).ok_or_else(|| format!("Error: argument \"{v}\" is wrong: Invalid parent ID"))?)?;
            }
            "handle" => fhandle = Some(l.value()?),
            "preference" | "pref" | "priority" | "prio" => {
                prio = l.get("priority value", number)?;
            }
            "protocol" => {
                let v = l.value()?;
                protocol = Some(proto(v).ok_or_else(|| format!("Error: argument \"{v}\" is wrong: invalid protocol"))?);
            }
            "chain" => {
                let chain = l.get("chain index value", number)?;
                m.attr_u32(TCA_CHAIN, chain);
            }
            other => {
                kind = Some(other);
                break;
            }
        }
    }
    let protocol = protocol.unwrap_or(if new { 3 } else { 0 });
    p.t.info = prio << 16 | u32::from(protocol.to_be());
    let Some(kind) = kind else {
        return match fhandle {
            Some(_) => Err("Must specify filter type when using \"handle\"".to_owned()),
            None => Ok(()),
        };
    };
    m.attr_str(TCA_KIND, kind);
    match kind {
        "u32" => u32_options(l, p, m, (fhandle, devices)),
        "fw" => fw(l, p, m, (fhandle, devices)),
        "matchall" => matchall(l, p, m, (fhandle, devices)),
        other => match l.next() {
            Some(w) => Err(format!("Unknown filter \"{other}\", hence option \"{w}\" is unparsable")),
            None => Ok(()),
        },
    }
}

fn proto(w: &str) -> Option<u16> {
    Some(match w {
        "ip" | "ipv4" => 0x0800,
        "ipv6" => 0x86dd,
        "arp" => 0x0806,
        "all" => 3,
        "802.1Q" | "802.1q" => 0x8100,
        _ => number(w)?.try_into().ok()?,
    })
}

fn flow(l: &mut Line<'_>) -> Result<u32, Wrong> {
    l.get("classid", classid)
}

fn unsupported(w: &str) -> Wrong {
    format!("Error: \"{w}\" of filters is not supported by belljar.")
}

/// `action …`, or `police …` as filters had it before there were actions.
fn actions(
    w: &str,
    l: &mut Line<'_>,
    devices: Devices<'_>,
    (list, police): (u16, u16),
    m: &mut Msg<'_>,
) -> Result<(), Wrong> {
    if w == "action" {
        return action::list(l, devices, list, m);
    }
    let options = action::police(l).map_err(|e| format!("{e}\nIllegal \"police\""))?;
    m.attr(police, &options);
    Ok(())
}

/// The handle of a filter, and what knows the devices.
type Asked<'a> = (Option<&'a str>, Devices<'a>);

/// The options of a filter, as far as the words go.
fn options(
    l: &mut Line<'_>,
    m: &mut Msg<'_>,
    words: impl FnOnce(&mut Line<'_>, &mut Msg<'_>) -> Result<(), Wrong>,
) -> Result<(), Wrong> {
    let mut done = Ok(());
    m.nest(TCA_OPTIONS, |m| done = words(l, m));
    done
}

fn fw(l: &mut Line<'_>, p: &mut Place, m: &mut Msg<'_>, (handle, devices): Asked<'_>) -> Result<(), Wrong> {
    let mut mask = None;
    if let Some(h) = handle {
        let (mark, bits) = h.split_once('/').map_or((h, None), |(m, b)| (m, Some(b)));
        p.t.handle = number(mark).ok_or("Illegal \"handle\"")?;
        if let Some(bits) = bits {
            mask = Some(number(bits).ok_or("Illegal \"handle\" mask")?);
        }
    }
    options(l, m, |l, m| {
        if let Some(mask) = mask {
            m.attr_u32(TCA_FW_MASK, mask);
        }
        while let Some(w) = l.next() {
            match w {
                "classid" | "flowid" => _ = m.attr_u32(TCA_FW_CLASSID, flow(l)?),
                "action" | "police" => actions(w, l, devices, (TCA_FW_ACT, TCA_FW_POLICE), m)?,
                "indev" => return Err(unsupported(w)),
                other => return Err(format!("What is \"{other}\"?")),
            }
        }
        Ok(())
    })
}

fn matchall(l: &mut Line<'_>, p: &mut Place, m: &mut Msg<'_>, (handle, devices): Asked<'_>) -> Result<(), Wrong> {
    if let Some(h) = handle {
        p.t.handle = number(h).ok_or("Illegal \"handle\"")?;
    }
    if l.peek().is_none() {
        return Ok(());
    }
    options(l, m, |l, m| {
        while let Some(w) = l.next() {
            match w {
                "classid" | "flowid" => _ = m.attr_u32(TCA_MATCHALL_CLASSID, flow(l)?),
                "action" => action::list(l, devices, TCA_MATCHALL_ACT, m)?,
                "skip_hw" | "skip_sw" => return Err(unsupported(w)),
                other => return Err(format!("What is \"{other}\"?")),
            }
        }
        Ok(())
    })
}

/// Value, mask, offset of a word.
type Key = (u32, u32, i32);

fn u32_options(l: &mut Line<'_>, p: &mut Place, m: &mut Msg<'_>, (handle, devices): Asked<'_>) -> Result<(), Wrong> {
    if let Some(h) = handle {
        p.t.handle = u32_handle(h).ok_or("Illegal filter ID")?;
    }
    if l.peek().is_none() {
        return Ok(());
    }
    options(l, m, |l, m| u32_words(l, devices, m))
}

fn u32_words(l: &mut Line<'_>, devices: Devices<'_>, m: &mut Msg<'_>) -> Result<(), Wrong> {
    let (mut keys, mut terminal) = (Vec::new(), false);
    while let Some(w) = l.next() {
        match w {
            "match" => selector(l, &mut keys)?,
            "classid" | "flowid" => {
                m.attr_u32(TCA_U32_CLASSID, flow(l)?);
                terminal = true;
            }
            "action" | "police" => {
                actions(w, l, devices, (TCA_U32_ACT, TCA_U32_POLICE), m)?;
                terminal = true;
            }
            "ht" | "link" | "divisor" | "order" | "sample" | "hashkey" | "offset" | "mark" | "indev" | "skip_sw"
            | "skip_hw" => return Err(unsupported(w)),
            other => return Err(format!("What is \"{other}\"?")),
        }
    }
    if keys.is_empty() {
        return Ok(());
    }
    let mut sel = vec![u8::from(terminal) * TC_U32_TERMINAL, 0, keys.len() as u8, 0];
    sel.resize(16, 0);
    for (val, mask, off) in &keys {
        sel.extend_from_slice(&mask.to_be_bytes());
        sel.extend_from_slice(&val.to_be_bytes());
        sel.extend_from_slice(&off.to_ne_bytes());
        sel.extend_from_slice(&[0; 4]);
    }
    m.attr(TCA_U32_SEL, &sel);
    Ok(())
}

/// `800::801`: table, bucket, node.
fn u32_handle(w: &str) -> Option<u32> {
    let mut parts = w.split(':');
    let hex = |p: Option<&str>| match p {
        None | Some("") => Some(0),
        Some(p) => u32::from_str_radix(p, 16).ok(),
    };
    let (table, bucket, node) = (hex(parts.next())?, hex(parts.next())?, hex(parts.next())?);
    (table <= 0xfff && bucket <= 0xff && node <= 0xfff && parts.next().is_none())
        .then_some(table << 20 | bucket << 12 | node)
}

/// Into the word at its place; two that contradict each other are no filter.
fn pack(keys: &mut Vec<Key>, (val, mask, off): Key) -> Result<(), Wrong> {
    let val = val & mask;
    if let Some(k) = keys.iter_mut().find(|k| k.2 == off) {
        if (val ^ k.0) & mask & k.1 != 0 {
            return Err("Illegal \"match\"".to_owned());
        }
        (k.0, k.1) = (k.0 | val, k.1 | mask);
        return Ok(());
    }
    if keys.len() >= 128 {
        return Err("Illegal \"match\"".to_owned());
    }
    keys.push((val, mask, off));
    Ok(())
}

/// A number of `bits` bits at byte `at`, in the word around it.
fn part(keys: &mut Vec<Key>, (val, mask): (u32, u32), at: i32, bits: u32) -> Result<(), Wrong> {
    let word = at.div_euclid(4) * 4;
    let shift = 32 - bits - 8 * (at - word) as u32;
    pack(keys, (val << shift, mask << shift, word))
}

/// A value and its mask (in hexadecimal).
fn masked(l: &mut Line<'_>) -> Result<(u32, u32), Wrong> {
    let hex = |w: &str| u32::from_str_radix(w.strip_prefix("0x").unwrap_or(w), 16).ok();
    Ok((l.get("match", number)?, l.get("match", hex)?))
}

fn selector(l: &mut Line<'_>, keys: &mut Vec<Key>) -> Result<(), Wrong> {
    match l.value()? {
        w @ ("u32" | "u16" | "u8") => {
            let hex = |w: &str| u32::from_str_radix(w.strip_prefix("0x").unwrap_or(w), 16).ok();
            // Values of these are hexadecimal with or without a prefix.
            let (val, mask) = (l.get("match", hex)?, l.get("match", hex)?);
            let mut at = 0;
            if l.peek() == Some("at") {
                l.next();
                if l.peek().is_some_and(|w| w.starts_with("nexthdr")) {
                    return Err("Error: \"nexthdr\" of filters is not supported by belljar.".to_owned());
                }
                at = l.get("match", |w| w.parse().ok())?;
            }
            let bits = match w {
                "u32" => 32,
                "u16" => 16,
                _ => 8,
            };
            if at % (bits as i32 / 8) != 0 {
                return Err("Illegal \"match\"".to_owned());
            }
            part(keys, (val, mask), at, bits)
        }
        "ip" => ip(l, keys),
        "ip6" => ip6(l, keys),
        _ => Err("Illegal \"match\"".to_owned()),
    }
}

fn ip(l: &mut Line<'_>, keys: &mut Vec<Key>) -> Result<(), Wrong> {
    let (at, bits) = match l.value()? {
        w @ ("src" | "dst") => {
            let prefix = |w: &str| {
                let (a, n) = w.split_once('/').unwrap_or((w, "32"));
                let n: u32 = n.parse().ok().filter(|n| *n <= 32)?;
                let mask = u32::MAX.checked_shl(32 - n).unwrap_or(0);
                Some((u32::from(a.parse::<Ipv4Addr>().ok()?), mask))
            };
            let (val, mask) = l.get("match", prefix)?;
            return pack(keys, (val, mask, if w == "src" { 12 } else { 16 }));
        }
        "tos" | "dsfield" | "precedence" => (1, 8),
        "ihl" => (0, 8),
        "protocol" => (9, 8),
        "sport" => (20, 16),
        "dport" => (22, 16),
        "icmp_type" => (20, 8),
        "icmp_code" => (21, 8),
        _ => return Err("Illegal \"match\"".to_owned()),
    };
    let m = masked(l)?;
    part(keys, m, at, bits)
}

fn ip6(l: &mut Line<'_>, keys: &mut Vec<Key>) -> Result<(), Wrong> {
    let (at, bits) = match l.value()? {
        w @ ("src" | "dst") => {
            let prefix = |w: &str| {
                let (a, n) = w.split_once('/').unwrap_or((w, "128"));
                let n: u32 = n.parse().ok().filter(|n| *n <= 128)?;
                Some((u128::from(a.parse::<Ipv6Addr>().ok()?), u128::MAX.checked_shl(128 - n).unwrap_or(0)))
            };
            let (val, mask) = l.get("match", prefix)?;
            let base = if w == "src" { 8 } else { 24 };
            for i in 0..4 {
                let word = |v: u128| (v >> (96 - 32 * i)) as u32;
                if word(mask) != 0 {
                    pack(keys, (word(val), word(mask), base + 4 * i))?;
                }
            }
            return Ok(());
        }
        "protocol" => (6, 8),
        "sport" => (40, 16),
        "dport" => (42, 16),
        "icmp_type" => (40, 8),
        "icmp_code" => (41, 8),
        _ => return Err("Illegal \"match\"".to_owned()),
    };
    let m = masked(l)?;
    part(keys, m, at, bits)
}
