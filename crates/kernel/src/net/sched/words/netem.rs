//! The options of netem.
use super::qdisc::share;
use super::units::{number, rate, ticks, time64};
use super::{Line, Wrong};
use crate::net::sched::netem_dist;
use belljar_abi::netlink::{Msg, NLA_F_NESTED};
use belljar_abi::pkt_sched::*;

/// What a line says.
#[derive(Debug, Default)]
struct Said {
    latency: i64,
    jitter: i64,
    limit: u32,
    loss: u32,
    gap: u32,
    duplicate: u32,
    /// Of delay, loss, duplication.
    cor: Option<[u32; 3]>,
    reorder: Option<[u32; 2]>,
    corrupt: Option<[u32; 2]>,
    rate: Option<(u64, [u32; 3])>,
    gi: Option<[u32; 5]>,
    ge: Option<[u32; 4]>,
    ecn: bool,
    dist: Option<Vec<i16>>,
    seed: Option<u64>,
}

impl Said {
    fn correlation(&mut self, l: &mut Line<'_>, which: usize, name: &str) -> Result<(), Wrong> {
        if l.number_next() {
            let v = share(l, name)?;
            self.cor.get_or_insert_default()[which] = v;
        }
        Ok(())
    }
}

pub(super) fn options(l: &mut Line<'_>, m: &mut Msg<'_>) -> Result<(), Wrong> {
    let mut s = Said { limit: 1000, ..Said::default() };
    while let Some(w) = l.next() {
        match w {
            "limit" => s.limit = l.get("limit", super::units::size)?,
            "latency" | "delay" => delay(&mut s, l)?,
            "loss" | "drop" => loss(&mut s, l)?,
            "ecn" => s.ecn = true,
            "reorder" => {
                s.reorder = Some(correlated(&mut s, l, "reorder")?);
            }
            "corrupt" => {
                s.corrupt = Some(correlated(&mut s, l, "corrupt")?);
            }
            "gap" => s.gap = l.get("gap", number)?,
            "duplicate" => {
                s.duplicate = share(l, "duplicate")?;
                s.correlation(l, 2, "duplicate")?;
            }
            "distribution" => {
                s.dist = match l.value()? {
                    "uniform" => None,
                    "normal" => Some(netem_dist::normal()),
                    "pareto" => Some(netem_dist::pareto()),
                    "paretonormal" => Some(netem_dist::paretonormal()),
                    other => return Err(format!("No distribution data for {other}")),
                }
            }
            "rate" => {
                let r = l.get("rate", rate)?;
                let mut more = [0; 3];
                for (v, name) in more.iter_mut().zip(["packetoverhead", "cellsize", "celloverhead"]) {
                    let signed = |w: &str| w.parse::<i32>().ok().map(|v| v as u32);
                    if l.peek().is_some_and(|w| signed(w).is_some()) {
                        *v = l.get(name, signed)?;
                    }
                }
                s.rate = Some((r, more));
            }
            "seed" => s.seed = Some(l.get("seed", |w| w.parse().ok())?),
            "slot" => return Err("Error: netem slots are not supported by belljar.".to_owned()),
            other => return Err(format!("What is \"{other}\"?")),
        }
    }
    check(&mut s)?;
    emit(&s, m);
    Ok(())
}

/// A share and its correlation; with one tc sends the others' as well.
fn correlated(s: &mut Said, l: &mut Line<'_>, name: &str) -> Result<[u32; 2], Wrong> {
    let p = share(l, name)?;
    if !l.number_next() {
        return Ok([p, 0]);
    }
    s.cor.get_or_insert_default();
    Ok([p, share(l, name)?])
}

fn delay(s: &mut Said, l: &mut Line<'_>) -> Result<(), Wrong> {
    s.latency = l.get("latency", time64)?;
    if l.number_next() {
        s.jitter = l.get("latency", time64)?;
        s.correlation(l, 0, "latency")?;
    }
    Ok(())
}

fn loss(s: &mut Said, l: &mut Line<'_>) -> Result<(), Wrong> {
    let rest = |l: &mut Line<'_>, out: &mut [u32]| -> Result<usize, Wrong> {
        let mut n = 0;
        for v in out.iter_mut() {
            if !l.number_next() {
                break;
            }
            *v = share(l, "loss percent")?;
            n += 1;
        }
        Ok(n)
    };
    match l.peek() {
        Some("state") => {
            l.next();
            let mut v = [0; 5];
            v[0] = l.get("loss p13", super::units::percent)?;
            let n = 1 + rest(l, &mut v[1..])?;
            let [p13, p31, p32, p23, p14] = v;
            // What is not said makes the chain one that comes back.
            let p31 = if n < 2 { u32::MAX - p13 } else { p31 };
            let p23 = if n < 4 { u32::MAX } else { p23 };
            s.gi = Some([p13, p31, p32, p14, p23]);
        }
        Some("gemodel") => {
            l.next();
            let mut v = [0; 4];
            v[0] = l.get("loss gemodel p", super::units::percent)?;
            let n = 1 + rest(l, &mut v[1..])?;
            let [p, r, bad, good] = v;
            let r = if n < 2 { u32::MAX - p } else { r };
            // The third word is 1-h, the kernel wants h.
            let h = if n < 3 { 0 } else { u32::MAX - bad };
            s.ge = Some([p, r, h, good]);
        }
        word => {
            if word == Some("random") {
                l.next();
            }
            s.loss = share(l, "loss percent")?;
            s.correlation(l, 1, "loss correlation")?;
        }
    }
    Ok(())
}

fn check(s: &mut Said) -> Result<(), Wrong> {
    if s.reorder.is_some_and(|r| r[0] != 0) {
        if s.latency == 0 {
            return Err("reordering not possible without specifying some delay".to_owned());
        }
        if s.gap == 0 {
            s.gap = 1;
        }
    } else if s.gap > 0 {
        return Err("gap specified without reorder probability".to_owned());
    }
    if s.ecn && s.loss == 0 && s.gi.is_none() && s.ge.is_none() {
        return Err("ecn requested without loss model".to_owned());
    }
    if s.dist.is_some() && (s.latency == 0 || s.jitter == 0) {
        return Err("distribution specified but no latency and jitter values".to_owned());
    }
    Ok(())
}

fn emit(s: &Said, m: &mut Msg<'_>) {
    let words = |v: &[u32]| -> Vec<u8> { v.iter().flat_map(|w| w.to_ne_bytes()).collect() };
    // Ticks while they fit, and nanoseconds beside them when they do not.
    let short = |ns: i64| u32::try_from(ns / 1000).map(|us| (f64::from(us) * 15.625).min(f64::from(u32::MAX)) as u32);
    let fits = |ns: i64| u32::try_from(ns / 1000).is_ok_and(|us| f64::from(us) * 15.625 <= f64::from(u32::MAX));
    debug_assert!(ticks(64) == 1000);
    let t = |ns| short(ns).unwrap_or(u32::MAX);
    m.nest(TCA_OPTIONS, |m| {
        m.body(&words(&[t(s.latency), s.limit, s.loss, s.gap, s.duplicate, t(s.jitter)]));
        if !fits(s.latency) {
            m.attr(TCA_NETEM_LATENCY64, &s.latency.to_ne_bytes());
        }
        if !fits(s.jitter) {
            m.attr(TCA_NETEM_JITTER64, &s.jitter.to_ne_bytes());
        }
        if let Some(c) = &s.cor {
            m.attr(TCA_NETEM_CORR, &words(c));
        }
        if let Some(r) = &s.reorder {
            m.attr(TCA_NETEM_REORDER, &words(r));
        }
        if s.ecn {
            m.attr_u32(TCA_NETEM_ECN, 1);
        }
        if let Some(c) = &s.corrupt {
            m.attr(TCA_NETEM_CORRUPT, &words(c));
        }
        if let Some(gi) = &s.gi {
            m.nest(TCA_NETEM_LOSS | NLA_F_NESTED, |m| {
                m.attr(NETEM_LOSS_GI, &words(gi));
            });
        }
        if let Some(ge) = &s.ge {
            m.nest(TCA_NETEM_LOSS | NLA_F_NESTED, |m| {
                m.attr(NETEM_LOSS_GE, &words(ge));
            });
        }
        if let Some((r, [packet, cell, over])) = s.rate {
            let low = u32::try_from(r).unwrap_or(u32::MAX);
            if r > u32::MAX.into() {
                m.attr(TCA_NETEM_RATE64, &r.to_ne_bytes());
            }
            m.attr(TCA_NETEM_RATE, &words(&[low, packet, cell, over]));
        }
        if let Some(d) = &s.dist {
            let b: Vec<u8> = d.iter().flat_map(|v| v.to_ne_bytes()).collect();
            m.attr(TCA_NETEM_DELAY_DIST, &b);
        }
        if let Some(seed) = s.seed {
            m.attr(TCA_NETEM_PRNG_SEED, &seed.to_ne_bytes());
        }
    });
}
