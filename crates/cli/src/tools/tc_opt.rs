//! The options and own statistics of each kind of discipline, class and filter, as tc of iproute2 6.1 prints them.
use super::tc_act;
use super::tc_out::{Out, percent, rate, share, size, time, time64};
use super::tc_text::{Attrs, Show};
use belljar_abi::netlink::u32_at;
use belljar_abi::pkt_sched::*;
use belljar_kernel::net::sched::words::units::tick_time;
use belljar_kernel::view::Value;

/// Bytes that go in so many ticks.
pub(super) fn xmit_size(rate: u64, ticks: u32) -> u32 {
    (rate as f64 * f64::from(tick_time(ticks)) / 1e6) as u32
}

pub fn qdisc(kind: &str, b: &[u8], show: &Show, o: &mut Out) {
    let a = Attrs(b);
    match kind {
        "pfifo" | "bfifo" => {
            let limit = u32_at(b, 0).unwrap_or(0);
            let text = if kind == "bfifo" { format!("limit {}", size(limit)) } else { format!("limit {limit}p") };
            o.uint("limit", limit.into(), text);
        }
        "pfifo_fast" | "prio" => prio(b, o),
        "tbf" => tbf(a, show, o),
        "netem" => netem(b, o),
        "fq" => fq(a, o),
        "fq_codel" => fq_codel(a, o),
        "htb" => htb(a, show, o),
        "ingress" => o.raw("---------------- "),
        _ => {}
    }
}

fn prio(b: &[u8], o: &mut Out) {
    let bands = u32_at(b, 0).unwrap_or(0);
    o.uint("bands", bands.into(), format!("bands {bands} priomap"));
    let map: Vec<u64> = b.get(4..20).unwrap_or(&[]).iter().map(|v| u64::from(*v)).collect();
    let text: String = map.iter().map(|v| format!(" {v}")).collect();
    o.put("priomap", Value::List(map.into_iter().map(Value::Uint).collect()), text);
    o.put("multiqueue", Value::Bool(false), "");
}

fn linklayer(l: u8) -> &'static str {
    match l & 15 {
        1 => "ethernet",
        2 => "atm",
        0 => "unspec",
        _ => "unknown",
    }
}

fn tbf(a: Attrs<'_>, show: &Show, o: &mut Out) {
    let Some(p) = a.get(TCA_TBF_PARMS).filter(|p| p.len() >= 36) else { return };
    let Some((main, peak)) = RateSpec::parse(p).zip(RateSpec::parse(&p[12..])) else { return };
    let word = |at| u32_at(p, at).unwrap_or(0);
    let (limit, buffer, mtu) = (word(24), word(28), word(32));
    let r = a.u64(TCA_TBF_RATE64).unwrap_or(0).max(main.rate.into());
    let pr = a.u64(TCA_TBF_PRATE64).unwrap_or(0).max(peak.rate.into());
    o.uint("rate", r, format!("rate {} ", rate(r)));
    let burst = xmit_size(r, buffer);
    let cell = |s: &RateSpec| {
        if show.details { format!("/{} mpu {}", 1u32 << s.cell_log.min(31), size(s.mpu.into())) } else { String::new() }
    };
    o.uint("burst", burst.into(), format!("burst {}{} ", size(burst), cell(&main)));
    if pr != 0 {
        o.raw(&format!("peakrate {} ", rate(pr)));
        if mtu != 0 || peak.mpu != 0 {
            let mtu = xmit_size(pr, mtu);
            let name = if show.details { "mtu" } else { "minburst" };
            o.uint(name, mtu.into(), format!("{name} {}{} ", size(mtu), cell(&peak)));
        }
    }
    let held = |rate: u64, ticks: u32| 1e6 * (f64::from(limit) / rate.max(1) as f64) - f64::from(tick_time(ticks));
    let mut latency = held(r, buffer);
    if pr != 0 {
        latency = latency.max(held(pr, mtu));
    }
    if latency < 0.0 {
        o.uint("limit", limit.into(), format!("limit {} ", size(limit)));
    } else {
        o.uint("lat", latency as u64, format!("lat {} ", time(latency as u32)));
    }
    if main.overhead != 0 {
        o.uint("overhead", main.overhead.into(), format!("overhead {} ", main.overhead));
    }
    if main.linklayer & 15 > 1 || show.details {
        let l = linklayer(main.linklayer);
        o.string("linklayer", l, format!("linklayer {l} "));
    }
}

/// A chance with its correlation.
fn chance(o: &mut Out, name: &'static str, text: &str, p: u32, cor: u32) {
    o.open(name);
    o.real(inner(name), share(p), format!("{text} {}", percent(p)));
    correlation(o, cor);
    o.close();
}

/// How the probability of each is called in JSON.
fn inner(name: &str) -> &'static str {
    match name {
        "loss-random" => "loss",
        "duplicate" => "duplicate",
        "reorder" => "reorder",
        _ => "corrupt",
    }
}

fn correlation(o: &mut Out, cor: u32) {
    let text = if cor != 0 { format!(" {}", percent(cor)) } else { String::new() };
    o.real("correlation", share(cor), text);
}

fn netem(b: &[u8], o: &mut Out) {
    let word = |i: usize| u32_at(b, 4 * i).unwrap_or(0);
    let [latency, limit, loss, gap, duplicate, jitter]: [u32; 6] = std::array::from_fn(word);
    let a = Attrs(b.get(24..).unwrap_or(&[]));
    let words = |kind: u16, i: usize| a.get(kind).and_then(|v| u32_at(v, 4 * i)).unwrap_or(0);
    o.uint("limit", limit.into(), format!("limit {limit}"));
    let (latency, jitter) = (tick_time(latency), tick_time(jitter));
    if latency != 0 {
        o.open("delay");
        o.real("delay", f64::from(latency) / 1e6, format!(" delay {}", time(latency)));
        let text = if jitter != 0 { format!("  {}", time(jitter)) } else { String::new() };
        o.real("jitter", f64::from(jitter) / 1e6, text);
        let cor = words(TCA_NETEM_CORR, 0);
        let text = if jitter != 0 && cor != 0 { format!(" {}", percent(cor)) } else { String::new() };
        o.real("correlation", share(cor), text);
        o.close();
    }
    if loss != 0 {
        chance(o, "loss-random", " loss", loss, words(TCA_NETEM_CORR, 1));
    }
    if let Some(l) = a.get(TCA_NETEM_LOSS).map(Attrs) {
        loss_model(l, o);
    }
    if duplicate != 0 {
        chance(o, "duplicate", " duplicate", duplicate, words(TCA_NETEM_CORR, 2));
    }
    for (name, text, kind) in [("reorder", " reorder", TCA_NETEM_REORDER), ("corrupt", " corrupt", TCA_NETEM_CORRUPT)] {
        if words(kind, 0) != 0 {
            chance(o, name, text, words(kind, 0), words(kind, 1));
        }
    }
    let r = a.u64(TCA_NETEM_RATE64).unwrap_or_else(|| words(TCA_NETEM_RATE, 0).into());
    if r != 0 {
        o.open("rate");
        o.uint("rate", r, format!(" rate {}", rate(r)));
        for (i, name) in [(1, "packetoverhead"), (2, "cellsize"), (3, "celloverhead")] {
            let v = words(TCA_NETEM_RATE, i) as i32;
            let text = if v != 0 { format!(" {name} {v}") } else { String::new() };
            o.put(name, signed(v), text);
        }
        o.close();
    }
    let ecn = words(TCA_NETEM_ECN, 0) != 0;
    o.put("ecn", Value::Bool(ecn), if ecn { " ecn " } else { "" });
    o.uint("gap", gap.into(), if gap != 0 { format!(" gap {gap}") } else { String::new() });
}

fn signed(v: i32) -> Value {
    u64::try_from(v).map_or_else(|_| Value::Real(v.into()), Value::Uint)
}

fn loss_model(l: Attrs<'_>, o: &mut Out) {
    let (kind, name, text, names): (_, _, _, &[(usize, &'static str)]) = match l.get(NETEM_LOSS_GI).is_some() {
        true => {
            (NETEM_LOSS_GI, "loss-state", " loss state", &[(0, "p13"), (1, "p31"), (2, "p32"), (4, "p23"), (3, "p14")])
        }
        false => (NETEM_LOSS_GE, "loss-gemodel", " loss gemodel", &[(0, "p"), (1, "r"), (2, "1-h"), (3, "1-k")]),
    };
    let Some(b) = l.get(kind) else { return };
    o.open(name);
    o.raw(text);
    for (i, n) in names {
        let v = u32_at(b, 4 * i).unwrap_or(0);
        let v = if *n == "1-h" { u32::MAX - v } else { v };
        o.real(n, share(v), format!(" {n} {}", percent(v)));
    }
    o.close();
}

fn fq(a: Attrs<'_>, o: &mut Out) {
    let n = |kind| a.u32(kind).unwrap_or(0);
    let plain = |o: &mut Out, kind, name: &'static str, unit: &str| {
        let v = n(kind);
        o.uint(name, v.into(), format!("{name} {v}{unit} "));
    };
    plain(o, TCA_FQ_PLIMIT, "limit", "p");
    plain(o, TCA_FQ_FLOW_PLIMIT, "flow_limit", "p");
    let buckets = 1u64 << n(TCA_FQ_BUCKETS_LOG).min(32);
    o.uint("buckets", buckets, format!("buckets {buckets} "));
    plain(o, TCA_FQ_ORPHAN_MASK, "orphan_mask", "");
    if n(TCA_FQ_RATE_ENABLE) == 0 {
        o.put("pacing", Value::Bool(false), "nopacing ");
    }
    for (kind, name) in [(TCA_FQ_QUANTUM, "quantum"), (TCA_FQ_INITIAL_QUANTUM, "initial_quantum")] {
        o.uint(name, n(kind).into(), format!("{name} {} ", size(n(kind))));
    }
    if n(TCA_FQ_FLOW_MAX_RATE) != u32::MAX {
        let r = n(TCA_FQ_FLOW_MAX_RATE);
        o.uint("maxrate", r.into(), format!("maxrate {} ", rate(r.into())));
    }
    let low = n(TCA_FQ_LOW_RATE_THRESHOLD);
    if low != 0 {
        o.uint("low_rate_threshold", low.into(), format!("low_rate_threshold {} ", rate(low.into())));
    }
    let us = |o: &mut Out, name: &'static str, v: u32| o.uint(name, v.into(), format!("{name} {} ", time(v)));
    us(o, "refill_delay", n(TCA_FQ_FLOW_REFILL_DELAY));
    if n(TCA_FQ_CE_THRESHOLD) != u32::MAX {
        us(o, "ce_threshold", n(TCA_FQ_CE_THRESHOLD));
    }
    let slack = n(TCA_FQ_TIMER_SLACK);
    o.uint("timer_slack", slack.into(), format!("timer_slack {} ", time64(slack.into())));
    us(o, "horizon", n(TCA_FQ_HORIZON));
    match a.get(TCA_FQ_HORIZON_DROP).and_then(|v| v.first()) {
        Some(0) => o.put("horizon_cap", Value::Null, "horizon_cap "),
        Some(_) => o.put("horizon_drop", Value::Null, "horizon_drop "),
        None => {}
    }
}

fn fq_codel(a: Attrs<'_>, o: &mut Out) {
    let n = |kind| a.u32(kind);
    let plain = |o: &mut Out, kind, name: &'static str, unit: &str| {
        if let Some(v) = n(kind) {
            o.uint(name, v.into(), format!("{name} {v}{unit} "));
        }
    };
    let us = |o: &mut Out, kind, name: &'static str| {
        if let Some(v) = n(kind) {
            o.uint(name, v.into(), format!("{name} {} ", time(v)));
        }
    };
    plain(o, TCA_FQ_CODEL_LIMIT, "limit", "p");
    plain(o, TCA_FQ_CODEL_FLOWS, "flows", "");
    plain(o, TCA_FQ_CODEL_QUANTUM, "quantum", "");
    us(o, TCA_FQ_CODEL_TARGET, "target");
    us(o, TCA_FQ_CODEL_CE_THRESHOLD, "ce_threshold");
    let byte = |kind| a.get(kind).and_then(|v| v.first()).copied().unwrap_or(0);
    let (selector, mask) = (byte(TCA_FQ_CODEL_CE_THRESHOLD_SELECTOR), byte(TCA_FQ_CODEL_CE_THRESHOLD_MASK));
    if mask != 0 {
        let text = format!("{selector:#x}/{mask:#x}");
        o.string("ce_threshold_selector", &text, format!("ce_threshold_selector {text} "));
    }
    us(o, TCA_FQ_CODEL_INTERVAL, "interval");
    if let Some(v) = n(TCA_FQ_CODEL_MEMORY_LIMIT) {
        o.uint("memory_limit", v.into(), format!("memory_limit {} ", size(v)));
    }
    if n(TCA_FQ_CODEL_ECN).is_some_and(|v| v != 0) {
        o.flag("ecn", "ecn ");
    }
    plain(o, TCA_FQ_CODEL_DROP_BATCH_SIZE, "drop_batch", "");
}

fn htb(a: Attrs<'_>, show: &Show, o: &mut Out) {
    if let Some(g) = a.get(TCA_HTB_INIT).filter(|g| g.len() >= 20) {
        let word = |i: usize| u32_at(g, 4 * i).unwrap_or(0);
        let (version, r2q, default, direct) = (word(0), word(1), word(2), word(4));
        o.uint("r2q", r2q.into(), format!("r2q {r2q}"));
        let hex = if default == 0 { "0".to_owned() } else { format!("{default:#x}") };
        o.string("default", &hex, format!(" default {hex}"));
        o.uint("direct_packets_stat", direct.into(), format!(" direct_packets_stat {direct}"));
        if show.details {
            let text = format!("{}.{}", version >> 16, version & 0xffff);
            o.string("ver", &text, format!(" ver {text}"));
        }
    }
    if let Some(d) = a.u32(TCA_HTB_DIRECT_QLEN) {
        o.uint("direct_qlen", d.into(), format!(" direct_qlen {d}"));
    }
}

/// The options of a class of htb.
pub fn htb_class(b: &[u8], show: &Show, o: &mut Out) {
    let a = Attrs(b);
    let Some(p) = a.get(TCA_HTB_PARMS).filter(|p| p.len() >= 44) else { return };
    let Some((main, ceil)) = RateSpec::parse(p).zip(RateSpec::parse(&p[12..])) else { return };
    let word = |at| u32_at(p, at).unwrap_or(0);
    let (buffer, cbuffer, quantum, level, prio) = (word(24), word(28), word(32), word(36), word(40));
    let r = a.u64(TCA_HTB_RATE64).unwrap_or(0).max(main.rate.into());
    let c = a.u64(TCA_HTB_CEIL64).unwrap_or(0).max(ceil.rate.into());
    if level == 0 {
        o.raw(&format!("prio {prio} "));
        if show.details {
            o.raw(&format!("quantum {quantum} "));
        }
    }
    o.raw(&format!("rate {} ", rate(r)));
    if main.overhead != 0 {
        o.raw(&format!("overhead {} ", main.overhead));
    }
    let (burst, cburst) = (xmit_size(r, buffer), xmit_size(c, cbuffer));
    o.raw(&format!("ceil {} ", rate(c)));
    if main.linklayer & 15 > 1 || show.details {
        o.raw(&format!("linklayer {} ", linklayer(main.linklayer)));
    }
    let cell = |s: &RateSpec| match show.details {
        true => format!("/{} mpu {}", 1u32 << s.cell_log.min(31), size(s.mpu.into())),
        false => String::new(),
    };
    o.raw(&format!("burst {}{} ", size(burst), cell(&main)));
    o.raw(&format!("cburst {}{} ", size(cburst), cell(&ceil)));
    if show.details {
        o.raw(&format!("level {level} "));
    }
}

/// What only this kind counts; true when it counts something.
pub fn xstats(kind: &str, b: &[u8], o: &mut Out) -> bool {
    match kind {
        "fq_codel" if b.len() >= 40 => fq_codel_xstats(b, o),
        "fq" if b.len() >= 80 => fq_xstats(b, o),
        _ => return false,
    }
    true
}

fn fq_codel_xstats(b: &[u8], o: &mut Out) {
    let word = |i: usize| u32_at(b, 4 * i).unwrap_or(0);
    for (i, name, before) in
        [(1, "maxpacket", "  "), (2, "drop_overlimit", " "), (4, "new_flow_count", " "), (3, "ecn_mark", " ")]
    {
        o.uint(name, word(i).into(), format!("{before}{name} {}", word(i)));
    }
    if word(7) != 0 {
        o.uint("ce_mark", word(7).into(), format!(" ce_mark {}", word(7)));
    }
    if word(8) != 0 {
        o.uint("memory_used", word(8).into(), format!(" memory_used {}", word(8)));
    }
    if word(9) != 0 {
        o.uint("drop_overmemory", word(9).into(), format!(" drop_overmemory {}", word(9)));
    }
    o.uint("new_flows_len", word(5).into(), format!("\n  new_flows_len {}", word(5)));
    o.uint("old_flows_len", word(6).into(), format!(" old_flows_len {}", word(6)));
}

fn fq_xstats(b: &[u8], o: &mut Out) {
    let long = |at: usize| b.get(at..).and_then(|b| b.first_chunk::<8>()).map_or(0, |b| u64::from_ne_bytes(*b));
    let word = |at: usize| u32_at(b, at).unwrap_or(0);
    let (flows, inactive, throttled) = (word(64), word(68), word(72));
    o.uint("flows", flows.into(), format!("  flows {flows}"));
    o.uint("inactive", inactive.into(), format!(" (inactive {inactive}"));
    o.uint("throttled", throttled.into(), format!(" throttled {throttled}"));
    let next = long(56) as i64;
    if next > 0 {
        o.uint("next_packet_delay", next as u64, format!(" next_packet_delay {next} ns"));
    }
    o.raw(")");
    o.uint("gc", long(0), format!("\n  gc {}", long(0)));
    o.uint("highprio", long(8), format!(" highprio {}", long(8)));
    if long(16) != 0 {
        o.uint("retrans", long(16), format!(" retrans {}", long(16)));
    }
    o.uint("throttled", long(24), format!(" throttled {}", long(24)));
    let latency = word(76);
    if latency != 0 {
        o.uint("latency", latency.into(), format!(" latency {}", time64(latency.into())));
    }
    for (at, name) in [(80, "ce_mark"), (32, "flows_plimit"), (40, "too_long_pkts"), (48, "alloc_errors")] {
        if long(at) != 0 {
            let before = if name == "flows_plimit" { "flows_plimit" } else { name };
            o.uint(name, long(at), format!(" {before} {}", long(at)));
        }
    }
    for (at, name) in [(88, "horizon_drops"), (96, "horizon_caps")] {
        if long(at) != 0 {
            o.uint(name, long(at), format!(" {name} {}", long(at)));
        }
    }
}

pub fn class_xstats(kind: &str, b: &[u8], o: &mut Out) {
    let word = |i: usize| u32_at(b, 4 * i).unwrap_or(0);
    match kind {
        "htb" => {
            o.raw(&format!(" lended: {} borrowed: {} giants: {}\n", word(0), word(1), word(2)));
            o.raw(&format!(" tokens: {} ctokens: {}\n", word(3) as i32, word(4) as i32));
        }
        "fq_codel" => {
            o.raw(&format!(
                "  deficit {} count {} lastcount {} ldelay {}",
                word(1) as i32,
                word(3),
                word(4),
                time(word(2))
            ));
            if word(5) != 0 {
                o.raw(" dropping");
                let next = word(6) as i32;
                match next < 0 {
                    true => o.raw(&format!(" drop_next -{}", time(next.unsigned_abs()))),
                    false => o.raw(&format!(" drop_next {}", time(next as u32))),
                }
            }
        }
        _ => {}
    }
}

/// What is shown, and how devices are called.
type Shown<'a> = (&'a Show, &'a dyn Fn(u32) -> String);

pub fn filter(kind: &str, handle: u32, a: Attrs<'_>, (show, names): Shown<'_>, o: &mut Out) {
    match kind {
        "u32" => {
            u32_filter(handle, a, o);
            if let Some(p) = a.get(TCA_U32_POLICE) {
                o.raw("\n");
                tc_act::police(p, show, o);
            }
            if let Some(list) = a.get(TCA_U32_ACT) {
                tc_act::list(list, show, names, o);
            }
        }
        "fw" => {
            let mask = a.u32(TCA_FW_MASK);
            let text = mask.map_or_else(|| format!("{handle:#x}"), |m| format!("{handle:#x}/{m:#x}"));
            o.string("handle", &text, format!("handle {text} "));
            class_of(a.u32(TCA_FW_CLASSID), "classid", "classid", o);
            if let Some(p) = a.get(TCA_FW_POLICE) {
                tc_act::police(p, show, o);
            }
            if let Some(list) = a.get(TCA_FW_ACT) {
                o.raw("\n");
                tc_act::list(list, show, names, o);
            }
        }
        "matchall" => {
            if handle != 0 {
                o.uint("handle", handle.into(), format!("handle {handle:#x} "));
            }
            class_of(a.u32(TCA_MATCHALL_CLASSID), "flowid", "flowid", o);
            hardware(a.u32(TCA_MATCHALL_FLAGS), "\n  not_in_hw", o);
            if let Some(hits) = a.u64(TCA_MATCHALL_PCNT).filter(|_| show.stats) {
                o.uint("rule_hit", hits, format!(" (rule hit {hits})"));
            }
            if let Some(list) = a.get(TCA_MATCHALL_ACT) {
                tc_act::list(list, show, names, o);
            }
        }
        _ => {}
    }
}

fn class_of(id: Option<u32>, name: &'static str, word: &str, o: &mut Out) {
    if let Some(id) = id {
        let id = handle_text(id);
        o.string(name, &id, format!("{word} {id} "));
    }
}

fn hardware(flags: Option<u32>, text: &str, o: &mut Out) {
    if flags.is_some_and(|f| f & 8 != 0) {
        o.flag("not_in_hw", text);
    }
}

fn u32_filter(handle: u32, a: Attrs<'_>, o: &mut Out) {
    let (table, bucket, node) = (handle >> 20, handle >> 12 & 0xff, handle & 0xfff);
    let mut id = format!("{table:x}:");
    if bucket != 0 {
        id.push_str(&format!("{bucket:x}"));
    }
    if node != 0 {
        id.push_str(&format!(":{node:x}"));
    }
    o.string("fh", &id, format!("fh {id} "));
    if let Some(d) = a.u32(TCA_U32_DIVISOR) {
        return o.uint("ht_divisor", d.into(), format!("ht divisor {d} "));
    }
    o.uint("order", node.into(), format!("order {node} "));
    if let Some(h) = a.u32(TCA_U32_HASH) {
        let (key, bucket) = (format!("{:x}", h >> 20), format!("{:x}", h >> 12 & 0xff));
        o.string("key_ht", &key, format!("key ht {key} "));
        o.string("bkt", &bucket, format!("bkt {bucket} "));
    }
    let sel = a.get(TCA_U32_SEL).unwrap_or_default();
    match sel.first().is_some_and(|f| f & TC_U32_TERMINAL != 0) {
        true if a.u32(TCA_U32_CLASSID).is_none() => o.raw("terminal flowid "),
        true => class_of(a.u32(TCA_U32_CLASSID), "flowid", "*flowid", o),
        false => class_of(a.u32(TCA_U32_CLASSID), "flowid", "flowid", o),
    }
    hardware(a.u32(TCA_U32_FLAGS), "not_in_hw ", o);
    let keys = sel.get(16..).unwrap_or_default().chunks_exact(16);
    for k in keys.take(usize::from(sel.get(2).copied().unwrap_or(0))) {
        let word = |at: usize| u32::from_be_bytes([k[at], k[at + 1], k[at + 2], k[at + 3]]);
        let (mask, val, off) = (word(0), word(4), u32_at(k, 8).unwrap_or(0) as i32);
        o.open("match");
        o.string("value", &format!("{val:x}"), format!("\n  match {val:08x}"));
        o.string("mask", &format!("{mask:x}"), format!("/{mask:08x} "));
        o.string("offmask", "", "");
        o.put("off", signed(off), format!("at {off}"));
        o.close();
    }
}
