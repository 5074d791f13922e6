//! Actions of filters, as tc of iproute2 6.1 prints them.
use super::tc_opt;
use super::tc_out::{Out, rate, size};
use super::tc_text::{Attrs, Show, stats_words};
use belljar_abi::netlink::{attrs, u32_at};
use belljar_abi::pkt_sched::*;
use belljar_kernel::net::sched::words::units;
use belljar_kernel::view::Value;

/// The list of a filter.
#[doc(alias = "tc_print_action")]
pub fn list(b: &[u8], show: &Show, names: &dyn Fn(u32) -> String, o: &mut Out) {
    o.list("actions", attrs(b), |(order, a), o| {
        o.uint("order", order.into(), format!("\n\taction order {order}: "));
        one(Attrs(a), show, names, o);
    });
}

fn one(a: Attrs<'_>, show: &Show, names: &dyn Fn(u32) -> String, o: &mut Out) {
    let options = Attrs(a.get(TCA_ACT_OPTIONS).unwrap_or_default());
    match a.text(TCA_ACT_KIND) {
        "gact" => gact(options, show, o),
        "mirred" => mirred(options, show, names, o),
        "police" => police(options.0, show, o),
        _ => {}
    }
    if let Some(s) = a.get(TCA_ACT_STATS).filter(|_| show.stats) {
        o.raw("\tAction statistics:\n");
        o.open("stats");
        stats_words(Attrs(s), "\t", o);
        o.close();
        o.raw("\n");
    }
    if let Some(c) = a.get(TCA_ACT_COOKIE) {
        let hex: String = c.iter().map(|b| format!("{b:02x}")).collect();
        o.string("cookie", &hex, format!("\tcookie {hex}\n"));
    }
    if a.get(TCA_ACT_USED_HW_STATS).is_some() {
        let v = Value::List(vec![Value::Text("disabled".to_owned())]);
        o.put("used_hw_stats", v, "\tused_hw_stats disabled\n");
    }
}

/// What a verdict is called.
#[doc(alias = "print_action_control")]
fn control(prefix: &str, code: i32, suffix: &str, o: &mut Out) {
    o.raw(prefix);
    o.open("control_action");
    let ext = |what: i32| code & !TC_ACT_EXT_VAL_MASK == what;
    let name = match code {
        TC_ACT_UNSPEC => "continue",
        TC_ACT_OK => "pass",
        TC_ACT_RECLASSIFY => "reclassify",
        TC_ACT_SHOT => "drop",
        TC_ACT_PIPE => "pipe",
        TC_ACT_STOLEN => "stolen",
        TC_ACT_TRAP => "trap",
        _ if ext(TC_ACT_JUMP) => "jump",
        _ if ext(TC_ACT_GOTO_CHAIN) => "goto",
        _ => "",
    };
    let name = if name.is_empty() { code.to_string() } else { name.to_owned() };
    o.string("type", &name, &name);
    if ext(TC_ACT_JUMP) {
        let n = code & TC_ACT_EXT_VAL_MASK;
        o.uint("jump", n as u64, format!(" {n}"));
    }
    o.close();
    o.raw(suffix);
}

/// `tc_gen`: index, verdict, references.
fn gen_of(p: &[u8]) -> (u32, i32, u32, u32) {
    let word = |at| u32_at(p, at).unwrap_or(0);
    (word(0), word(8) as i32, word(12), word(16))
}

fn refs((refs, binds): (u32, u32), o: &mut Out) {
    o.uint("ref", refs.into(), format!(" ref {refs}"));
    o.uint("bind", binds.into(), format!(" bind {binds}"));
}

/// `tcf_t`, in hundredths of seconds; what is 0 is not said.
#[doc(alias = "print_tm")]
fn times(t: Option<&[u8]>, show: &Show, o: &mut Out) {
    let Some(t) = t.filter(|_| show.stats) else { return };
    let words = [("installed", "installed", 0), ("last_used", "used", 8), ("first_used", "firstused", 24)];
    for (name, word, at) in words {
        let v = t.get(at..).and_then(|b| b.first_chunk::<8>()).map_or(0, |b| u64::from_ne_bytes(*b));
        if v != 0 {
            o.uint(name, v / 100, format!(" {word} {} sec", v / 100));
        }
    }
}

#[doc(alias = "print_gact")]
fn gact(a: Attrs<'_>, show: &Show, o: &mut Out) {
    o.string("kind", "gact", "gact ");
    let (index, code, r, b) = gen_of(a.get(TCA_GACT_PARMS).unwrap_or_default());
    control("action ", code, "", o);
    let p = a.get(TCA_GACT_PROB).unwrap_or_default();
    let half = |at: usize| p.get(at..).and_then(|b| b.first_chunk::<2>()).map_or(0, |b| u16::from_ne_bytes(*b));
    o.open("prob");
    let kind = match half(0) {
        0 => "none",
        1 => "netrand",
        2 => "determ",
        _ => "invalid type",
    };
    o.string("random_type", kind, format!("\n\t random type {kind}"));
    control(" ", u32_at(p, 4).unwrap_or(0) as i32, " ", o);
    o.uint("val", half(2).into(), format!("val {}", half(2)));
    o.close();
    o.uint("index", index.into(), format!("\n\t index {index}"));
    refs((r, b), o);
    times(a.get(TCA_GACT_TM), show, o);
    o.raw("\n");
}

#[doc(alias = "print_mirred")]
fn mirred(a: Attrs<'_>, show: &Show, names: &dyn Fn(u32) -> String, o: &mut Out) {
    o.string("kind", "mirred", "mirred ");
    let p = a.get(TCA_MIRRED_PARMS).unwrap_or_default();
    let (index, code, r, b) = gen_of(p);
    let (way, how) = match u32_at(p, 20).unwrap_or(0) {
        TCA_EGRESS_REDIR => ("egress", "redirect"),
        TCA_EGRESS_MIRROR => ("egress", "mirror"),
        TCA_INGRESS_REDIR => ("ingress", "redirect"),
        TCA_INGRESS_MIRROR => ("ingress", "mirror"),
        _ => ("unknown", "unknown"),
    };
    let capital = |w: &str| w.get(..1).map_or(String::new(), |c| c.to_ascii_uppercase() + &w[1..]);
    o.string("mirred_action", how, format!("({} {}", capital(way), capital(how)));
    o.string("direction", way, "");
    let dev = names(u32_at(p, 24).unwrap_or(0));
    o.string("to_dev", &dev, format!(" to device {dev})"));
    control(" ", code, "", o);
    o.uint("index", index.into(), format!("\n\tindex {index}"));
    refs((r, b), o);
    times(a.get(TCA_MIRRED_TM), show, o);
    o.raw("\n");
}

/// A policer, in a list or as a filter's only one.
#[doc(alias = "print_police")]
pub fn police(b: &[u8], show: &Show, o: &mut Out) {
    let a = Attrs(b);
    o.string("kind", "police", "");
    let Some(p) = a.get(TCA_POLICE_TBF).filter(|p| p.len() >= 52) else { return };
    let word = |at| u32_at(p, at).unwrap_or(0);
    let Some((r, peak)) = RateSpec::parse(&p[20..]).zip(RateSpec::parse(&p[32..])) else { return };
    let bytes = a.u64(TCA_POLICE_RATE64).unwrap_or(r.rate.into());
    o.uint("index", word(0).into(), format!(" police {:#x} ", word(0)));
    let burst = tc_opt::xmit_size(bytes, word(12));
    o.raw(&format!("rate {} burst {} mtu {} ", rate(bytes), size(burst), size(word(16))));
    let peak = a.u64(TCA_POLICE_PEAKRATE64).unwrap_or(peak.rate.into());
    if peak != 0 {
        o.raw(&format!("peakrate {} ", rate(peak)));
    }
    if let Some((n, ticks)) = a.u64(TCA_POLICE_PKTRATE64).zip(a.u64(TCA_POLICE_PKTBURST64)) {
        let burst = (n as f64 * f64::from(units::tick_time(ticks as u32)) / 1e6) as u64;
        o.uint("pkts_rate", n, format!("pkts_rate {n} "));
        o.uint("pkts_burst", burst, format!("pkts_burst {burst} "));
    }
    control("action ", word(4) as i32, "", o);
    match a.u32(TCA_POLICE_RESULT) {
        Some(code) => control("/", code as i32, " ", o),
        None => o.raw(" "),
    }
    o.uint("overhead", r.overhead.into(), format!("overhead {} ", size(r.overhead.into())));
    if r.linklayer > 1 || show.details {
        let name = ["unspec", "ethernet", "atm"].get(usize::from(r.linklayer)).copied().unwrap_or("unknown");
        o.string("linklayer", name, format!("linklayer {name} "));
    }
    o.uint("ref", word(44).into(), format!("\n\tref {} ", word(44)));
    o.uint("bind", word(48).into(), format!("bind {} ", word(48)));
    times(a.get(TCA_POLICE_TM), show, o);
    o.raw("\n");
}
