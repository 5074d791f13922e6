//! `-m physdev`: ports of a bridge.
use super::options::Ext;
use super::parse::Words;
use super::print::bang;
use super::{Done, usage};
use crate::net::netfilter::rules::*;
use std::fmt::Write;

pub fn option(p: &mut PhysdevMatch, word: &str, inverted: bool, w: &mut Words<'_>) -> Done<Ext> {
    let bit = match word {
        "--physdev-in" => PHYSDEV_IN,
        "--physdev-out" => PHYSDEV_OUT,
        "--physdev-is-in" => PHYSDEV_IS_IN,
        "--physdev-is-out" => PHYSDEV_IS_OUT,
        "--physdev-is-bridged" => PHYSDEV_BRIDGED,
        _ => return Ok(Ext::Unknown),
    };
    let name = if bit & (PHYSDEV_IN | PHYSDEV_OUT) == 0 { None } else { Some(w.value(word)?) };
    if p.which & bit != 0 {
        return usage(format!("physdev: option \"{word}\" can only be used once.\n"));
    }
    if let Some(name) = name {
        // Without a name it is any.
        let m = match IfMatch::parse(name) {
            Some(m) => m,
            None if name.is_empty() => IfMatch::default(),
            None => return usage(format!("interface name `{name}' must be shorter than IFNAMSIZ (15)")),
        };
        *(if bit == PHYSDEV_IN { &mut p.iin } else { &mut p.iout }) = m;
    }
    p.which |= bit;
    p.inv |= if inverted { bit } else { 0 };
    Ok(Ext::Taken)
}

/// What a physdev match asks; a list has the same words.
pub fn print(o: &mut String, p: &PhysdevMatch) -> std::fmt::Result {
    let all = [
        (PHYSDEV_IS_IN, "is-in", None),
        (PHYSDEV_IN, "in", Some(p.iin)),
        (PHYSDEV_IS_OUT, "is-out", None),
        (PHYSDEV_OUT, "out", Some(p.iout)),
        (PHYSDEV_BRIDGED, "is-bridged", None),
    ];
    for (bit, word, name) in all.into_iter().filter(|a| p.which & a.0 != 0) {
        write!(o, "{} --physdev-{word}", bang(p.inv & bit != 0))?;
        if let Some(name) = name {
            write!(o, " {}", name.text())?;
        }
    }
    Ok(())
}
