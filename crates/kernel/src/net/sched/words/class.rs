//! `class` lines, and the options of htb and its classes.
use super::qdisc::Link;
use super::units::{self, classid, number, rate, size_and_cell, xmit_ticks};
use super::{Line, Place, Wrong};
use belljar_abi::netlink::Msg;
use belljar_abi::pkt_sched::*;

pub(super) fn line(l: &mut Line<'_>, p: &mut Place, m: &mut Msg<'_>, new: bool) -> Result<(), Wrong> {
    while let Some(w) = l.next() {
        match w {
            "dev" => p.dev = Some(l.value()?.to_owned()),
            "classid" => {
                let v = l.value()?;
                p.t.handle = classid(v).ok_or_else(|| format!("Error: argument \"{v}\" is wrong: invalid class ID"))?;
            }
            "handle" => return Err("Error: try \"classid\" instead of \"handle\"".to_owned()),
            "root" => p.at(TC_H_ROOT)?,
            "parent" => {
                let v = l.value()?;
                p.at(classid(v).ok_or_else(|| format!("Error: argument \"{v}\" is wrong: invalid parent ID"))?)?;
            }
            "estimator" => return Err("Error: \"estimator\" is not supported by belljar.".to_owned()),
            kind => {
                m.attr_str(TCA_KIND, kind);
                return match kind {
                    "htb" if new => htb_class(l, m),
                    "htb" => Ok(()),
                    other => Err(format!("Error: Qdisc \"{other}\" is classless.")),
                };
            }
        }
    }
    Ok(())
}

/// Of the discipline.
pub(super) fn htb(l: &mut Line<'_>, m: &mut Msg<'_>) -> Result<(), Wrong> {
    let (mut default, mut r2q, mut direct) = (0, 10, None);
    while let Some(w) = l.next() {
        let hex = |w: &str| u32::from_str_radix(w.strip_prefix("0x").unwrap_or(w), 16).ok();
        match w {
            "default" => default = l.get(w, hex)?,
            "r2q" => r2q = l.get(w, number)?,
            "direct_qlen" => direct = Some(l.get(w, number)?),
            "offload" => return Err("Error: \"offload\" is not supported by belljar.".to_owned()),
            other => return Err(format!("What is \"{other}\"?")),
        }
    }
    let glob: Vec<u8> = [3u32, r2q, default, 0, 0].iter().flat_map(|v| v.to_ne_bytes()).collect();
    m.nest(TCA_OPTIONS, |m| {
        m.attr(TCA_HTB_INIT, &glob);
        if let Some(d) = direct {
            m.attr_u32(TCA_HTB_DIRECT_QLEN, d);
        }
    });
    Ok(())
}

/// Of a class.
fn htb_class(l: &mut Line<'_>, m: &mut Msg<'_>) -> Result<(), Wrong> {
    let (mut prio, mut mtu, mut quantum, mut link) = (0, 1600, 0, Link::default());
    let (mut main, mut ceil, mut burst, mut cburst) = (None, None, None, None);
    while let Some(w) = l.next() {
        match w {
            "prio" => prio = l.get(w, number)?,
            "mtu" => mtu = l.get(w, number)?,
            "mpu" => link.mpu = l.get(w, number)? as u16,
            "overhead" => link.overhead = l.get(w, number)? as u16,
            "linklayer" => {
                let v = l.value()?;
                link.layer(v).ok_or_else(|| "Illegal \"linklayer\"".to_owned())?;
            }
            "quantum" => quantum = l.get(w, number)?,
            "burst" | "buffer" | "maxburst" => burst = Some(l.get("buffer", size_and_cell)?),
            "cburst" | "cbuffer" | "cmaxburst" => cburst = Some(l.get("cbuffer", size_and_cell)?),
            "ceil" => ceil = Some(l.get(w, rate)?),
            "rate" => main = Some(l.get(w, rate)?),
            other => return Err(format!("What is \"{other}\"?")),
        }
    }
    let main = main.filter(|r| *r > 0).ok_or("\"rate\" is required.")?;
    let ceil = ceil.filter(|c| *c > 0).unwrap_or(main);
    // A timer tick of a nanosecond adds nothing to what one packet needs.
    let (burst, cburst) = (burst.unwrap_or((mtu, None)), cburst.unwrap_or((mtu, None)));
    let mut parms = units::spec(main, mtu, burst.1, link.all()).to_bytes().to_vec();
    parms.extend_from_slice(&units::spec(ceil, mtu, cburst.1, link.all()).to_bytes());
    let buffers = [xmit_ticks(main, burst.0), xmit_ticks(ceil, cburst.0)];
    for v in [buffers[0], buffers[1], quantum, 0, prio] {
        parms.extend_from_slice(&v.to_ne_bytes());
    }
    m.nest(TCA_OPTIONS, |m| {
        for (kind, v) in [(TCA_HTB_RATE64, main), (TCA_HTB_CEIL64, ceil)] {
            if v > u32::MAX.into() {
                m.attr(kind, &v.to_ne_bytes());
            }
        }
        m.attr(TCA_HTB_PARMS, &parms);
    });
    Ok(())
}
