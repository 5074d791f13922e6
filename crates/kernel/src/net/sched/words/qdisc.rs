//! `qdisc` lines and the options of the kinds without a file of their own.
use super::units::{self, classid, handle, number, percent, rate, size, size_and_cell, time, xmit_ticks};
use super::{Line, Place, Wrong, class, netem};
use belljar_abi::netlink::Msg;
use belljar_abi::pkt_sched::*;

pub(super) fn line(l: &mut Line<'_>, p: &mut Place, m: &mut Msg<'_>) -> Result<(), Wrong> {
    while let Some(w) = l.next() {
        match w {
            "dev" => p.dev = Some(l.value()?.to_owned()),
            "handle" => {
                let v = l.value()?;
                p.t.handle = handle(v).ok_or_else(|| format!("Error: argument \"{v}\" is wrong: invalid qdisc ID"))?;
            }
            "root" => p.at(TC_H_ROOT)?,
            "clsact" | "ingress" => {
                p.at(TC_H_INGRESS)?;
                p.t.handle = 0xffff_0000;
                m.attr_str(TCA_KIND, w);
                return match l.next() {
                    None => Ok(()),
                    Some(w) => Err(format!("What is \"{w}\"?")),
                };
            }
            "parent" => {
                let v = l.value()?;
                p.at(classid(v).ok_or_else(|| format!("Error: argument \"{v}\" is wrong: invalid parent ID"))?)?;
            }
            "stab" | "estimator" | "ingress_block" | "egress_block" => {
                return Err(format!("Error: \"{w}\" is not supported by belljar."));
            }
            kind => return options(kind, l, m),
        }
    }
    Ok(())
}

fn options(kind: &str, l: &mut Line<'_>, m: &mut Msg<'_>) -> Result<(), Wrong> {
    m.attr_str(TCA_KIND, kind);
    match kind {
        "pfifo" | "bfifo" => fifo(kind, l, m),
        "pfifo_fast" | "noqueue" | "mq" => match l.next() {
            None => Ok(()),
            Some(w) => Err(format!("Unknown qdisc \"{kind}\", hence option \"{w}\" is unparsable")),
        },
        "tbf" => tbf(l, m),
        "netem" => netem::options(l, m),
        "fq" => fq(l, m),
        "fq_codel" => fq_codel(l, m),
        "prio" => prio(l, m),
        "htb" => class::htb(l, m),
        other => match l.next() {
            Some(w) => Err(format!("Unknown qdisc \"{other}\", hence option \"{w}\" is unparsable")),
            None => Ok(()),
        },
    }
}

fn fifo(kind: &str, l: &mut Line<'_>, m: &mut Msg<'_>) -> Result<(), Wrong> {
    let mut limit = None;
    while let Some(w) = l.next() {
        match w {
            "limit" => {
                let v = l.value()?;
                let bad = || format!("{kind}: Illegal value for \"limit\": \"{v}\"");
                limit = Some(size(v).ok_or_else(bad)?);
            }
            other => return Err(format!("{kind}: unknown parameter \"{other}\"")),
        }
    }
    if let Some(limit) = limit {
        m.attr_u32(TCA_OPTIONS, limit);
    }
    Ok(())
}

/// What all rates of a line share.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub overhead: u16,
    pub mpu: u16,
    layer: Option<u8>,
}

impl Link {
    pub(super) fn all(&self) -> (u16, u16, u8) {
        (self.overhead, self.mpu, self.layer.unwrap_or(1))
    }

    pub(super) fn layer(&mut self, w: &str) -> Option<()> {
        self.layer = Some(match w {
            "ethernet" => 1,
            "atm" | "adsl" => 2,
            _ => return None,
        });
        Some(())
    }
}

fn tbf(l: &mut Line<'_>, m: &mut Msg<'_>) -> Result<(), Wrong> {
    let (mut limit, mut latency, mut link) = (None, None, Link::default());
    let (mut burst, mut mtu, mut main, mut peak) = (None, None, None, None);
    while let Some(w) = l.next() {
        let v = match w {
            "limit" | "latency" | "burst" | "buffer" | "maxburst" | "mtu" | "minburst" | "mpu" | "rate"
            | "peakrate" | "overhead" | "linklayer" => l.value()?,
            other => return Err(format!("tbf: unknown parameter \"{other}\"")),
        };
        let bad = || format!("tbf: illegal value for \"{w}\": \"{v}\"");
        match w {
            "limit" => limit = Some(size(v).ok_or_else(bad)?),
            "latency" => latency = Some(time(v).ok_or_else(bad)?),
            "mtu" | "minburst" => mtu = Some(size_and_cell(v).ok_or_else(bad)?),
            "mpu" => link.mpu = size(v).ok_or_else(bad)? as u16,
            "rate" => main = Some(rate(v).filter(|r| *r > 0).ok_or_else(bad)?),
            "peakrate" => peak = Some(rate(v).filter(|r| *r > 0).ok_or_else(bad)?),
            "overhead" => link.overhead = number(v).ok_or_else(bad)? as u16,
            "linklayer" => link.layer(v).ok_or_else(bad)?,
            _ => burst = Some(size_and_cell(v).ok_or_else(bad)?),
        }
    }
    let (Some(main), Some(burst)) = (main, burst) else {
        let name = if main.is_none() { "rate" } else { "burst" };
        return Err(format!("tbf: the \"{name}\" parameter is mandatory."));
    };
    if peak.is_some() && mtu.is_none() {
        return Err("tbf: when \"peakrate\" is specified, \"mtu\" must also be specified.".to_owned());
    }
    let limit = match (limit, latency) {
        (Some(limit), _) => limit,
        (None, Some(latency)) => {
            let held = |rate: u64, b: u32| rate as f64 * f64::from(latency) / 1e6 + f64::from(b);
            let own = held(main, burst.0);
            let both = peak.zip(mtu).map_or(own, |(p, mtu)| own.min(held(p, mtu.0)));
            both as u32
        }
        (None, None) => return Err("tbf: either \"limit\" or \"latency\" is required.".to_owned()),
    };
    let mtu_bytes = mtu.map_or(0, |m| m.0);
    let specs = [
        units::spec(main, mtu_bytes, burst.1, link.all()).to_bytes(),
        peak.map_or([0; 12], |p| units::spec(p, mtu_bytes, mtu.and_then(|m| m.1), link.all()).to_bytes()),
    ];
    let mut parms = specs.concat();
    // Of what 32 bits say of the rate; the burst itself goes along.
    let ticks = |rate: u64, size| xmit_ticks(rate.min(u32::MAX.into()), size);
    for v in [limit, ticks(main, burst.0), peak.map_or(0, |p| ticks(p, mtu_bytes))] {
        parms.extend_from_slice(&v.to_ne_bytes());
    }
    m.nest(TCA_OPTIONS, |m| {
        m.attr(TCA_TBF_PARMS, &parms).attr_u32(TCA_TBF_BURST, burst.0);
        if main > u32::MAX.into() {
            m.attr(TCA_TBF_RATE64, &main.to_ne_bytes());
        }
        if let Some(peak) = peak {
            if peak > u32::MAX.into() {
                m.attr(TCA_TBF_PRATE64, &peak.to_ne_bytes());
            }
            m.attr_u32(TCA_TBF_PBURST, mtu_bytes);
        }
    });
    Ok(())
}

/// Attributes of four bytes, in the order in which tc sends them.
fn put(m: &mut Msg<'_>, all: &[(u16, Option<u32>)]) {
    for (kind, v) in all {
        if let Some(v) = v {
            m.attr_u32(*kind, *v);
        }
    }
}

fn fq(l: &mut Line<'_>, m: &mut Msg<'_>) -> Result<(), Wrong> {
    let (mut buckets, mut pacing, mut drop) = (None, None, None);
    let mut v = [None; 12];
    let [limit, flow_limit, quantum, initial, max, low, refill, orphan, ce, slack, horizon, _] = &mut v;
    let fits = |w: &str| rate(w).map(|r| r.min(u32::MAX.into()) as u32);
    while let Some(w) = l.next() {
        match w {
            "limit" => *limit = Some(l.get(w, number)?),
            "flow_limit" => *flow_limit = Some(l.get(w, number)?),
            "buckets" => buckets = Some(l.get(w, number)?),
            "maxrate" => *max = Some(l.get(w, fits)?),
            "low_rate_threshold" => *low = Some(l.get(w, fits)?),
            "ce_threshold" => *ce = Some(l.get(w, time)?),
            "timer_slack" => *slack = Some(l.get(w, |w| units::time64(w)?.try_into().ok())?),
            "horizon_drop" => drop = Some(1),
            "horizon_cap" => drop = Some(0),
            "horizon" => *horizon = Some(l.get(w, time)?),
            "quantum" => *quantum = Some(l.get(w, number)?),
            "initial_quantum" => *initial = Some(l.get(w, number)?),
            "orphan_mask" => *orphan = Some(l.get(w, number)?),
            "refill_delay" => *refill = Some(l.get(w, time)?),
            "pacing" => pacing = Some(1),
            "nopacing" => pacing = Some(0),
            other => return Err(format!("What is \"{other}\"?")),
        }
    }
    let log = buckets.map(|b: u32| 32 - b.saturating_sub(1).leading_zeros());
    let [limit, flow_limit, quantum, initial, max, low, refill, orphan, ce, slack, horizon, _] = v;
    m.nest(TCA_OPTIONS, |m| {
        put(m, &[(TCA_FQ_BUCKETS_LOG, log), (TCA_FQ_PLIMIT, limit), (TCA_FQ_FLOW_PLIMIT, flow_limit)]);
        put(m, &[(TCA_FQ_QUANTUM, quantum), (TCA_FQ_INITIAL_QUANTUM, initial), (TCA_FQ_RATE_ENABLE, pacing)]);
        put(m, &[(TCA_FQ_FLOW_MAX_RATE, max), (TCA_FQ_LOW_RATE_THRESHOLD, low), (TCA_FQ_FLOW_REFILL_DELAY, refill)]);
        put(m, &[(TCA_FQ_ORPHAN_MASK, orphan), (TCA_FQ_CE_THRESHOLD, ce), (TCA_FQ_TIMER_SLACK, slack)]);
        put(m, &[(TCA_FQ_HORIZON, horizon)]);
        if let Some(d) = drop {
            m.attr_u8(TCA_FQ_HORIZON_DROP, d);
        }
    });
    Ok(())
}

fn fq_codel(l: &mut Line<'_>, m: &mut Msg<'_>) -> Result<(), Wrong> {
    let mut v = [None; 9];
    let mut selector = None;
    let [limit, flows, quantum, interval, target, ecn, ce, memory, batch] = &mut v;
    while let Some(w) = l.next() {
        match w {
            "limit" => *limit = Some(l.get(w, number)?),
            "flows" => *flows = Some(l.get(w, number)?),
            "quantum" => *quantum = Some(l.get(w, number)?),
            "target" => *target = Some(l.get(w, time)?),
            "ce_threshold" => *ce = Some(l.get(w, time)?),
            "ce_threshold_selector" => {
                let pair = |w: &str| {
                    let (value, mask) = w.split_once('/')?;
                    let byte = |w: &str| number(w).and_then(|v| u8::try_from(v).ok());
                    Some((byte(value)?, byte(mask)?))
                };
                selector = Some(l.get(w, pair)?);
            }
            "memory_limit" => *memory = Some(l.get(w, size)?),
            "interval" => *interval = Some(l.get(w, time)?),
            "ecn" => *ecn = Some(1),
            "noecn" => *ecn = Some(0),
            "drop_batch" => *batch = Some(l.get(w, number)?),
            other => return Err(format!("What is \"{other}\"?")),
        }
    }
    let [limit, flows, quantum, interval, target, ecn, ce, memory, batch] = v;
    m.nest(TCA_OPTIONS, |m| {
        put(m, &[(TCA_FQ_CODEL_LIMIT, limit), (TCA_FQ_CODEL_FLOWS, flows), (TCA_FQ_CODEL_QUANTUM, quantum)]);
        put(m, &[(TCA_FQ_CODEL_INTERVAL, interval), (TCA_FQ_CODEL_TARGET, target), (TCA_FQ_CODEL_ECN, ecn)]);
        put(m, &[(TCA_FQ_CODEL_CE_THRESHOLD, ce)]);
        if let Some((value, mask)) = selector {
            m.attr_u8(TCA_FQ_CODEL_CE_THRESHOLD_MASK, mask).attr_u8(TCA_FQ_CODEL_CE_THRESHOLD_SELECTOR, value);
        }
        put(m, &[(TCA_FQ_CODEL_MEMORY_LIMIT, memory), (TCA_FQ_CODEL_DROP_BATCH_SIZE, batch)]);
    });
    Ok(())
}

fn prio(l: &mut Line<'_>, m: &mut Msg<'_>) -> Result<(), Wrong> {
    let (mut bands, mut map) = (3, crate::net::sched::PRIO2BAND);
    while let Some(w) = l.next() {
        match w {
            "bands" => bands = l.get(w, number)?,
            "priomap" => {
                let mut n = 0;
                while let Some(v) = l.next() {
                    let band = number(v).and_then(|b| u8::try_from(b).ok()).ok_or("Illegal \"priomap\" element")?;
                    if u32::from(band) > bands {
                        return Err("\"priomap\" element is out of bands".to_owned());
                    }
                    *map.get_mut(n).ok_or("\"priomap\" index > TC_PRIO_MAX=15")? = band;
                    n += 1;
                }
            }
            other => return Err(format!("What is \"{other}\"?")),
        }
    }
    let mut qopt = bands.to_ne_bytes().to_vec();
    qopt.extend_from_slice(&map);
    m.nest(TCA_OPTIONS, |m| {
        m.body(&qopt).attr(TCA_OPTIONS, &[]);
    });
    Ok(())
}

/// A share, for netem.
pub(super) fn share(l: &mut Line<'_>, what: &str) -> Result<u32, Wrong> {
    let w = l.value()?;
    percent(w).ok_or_else(|| format!("Illegal \"{what}\""))
}
