//! The texts and JSON of `belljar ip`, as iproute2 6.1 writes them.
use super::ip::Opts;
use super::ip_stats::{statistics, stats_json};
use crate::out;
use belljar_abi::rtax::{rtax_of, rtax_per_ms};
use belljar_kernel::view::{AddrView, LinkView, MetricView, NeighView, RouteView, TcpMetricView, Value, View};
use core::net::IpAddr;
use std::fmt::Write;

/// Lifetimes of addresses that never end.
const FOREVER: u64 = 0xffff_ffff;

fn text(s: &str) -> Value {
    Value::Text(s.to_owned())
}

fn list<T>(items: &[T], f: impl Fn(&T) -> Value) -> String {
    out::json(&Value::List(items.iter().map(f).collect()))
}

/// Lines of one object become one with `-o`.
fn joined(lines: &str, o: Opts) -> String {
    if o.oneline { format!("{}\n", lines.trim_end_matches('\n').replace('\n', "\\")) } else { lines.to_owned() }
}

/// With the other end behind it.
fn named(l: &LinkView) -> String {
    l.link.as_ref().map_or_else(|| l.name.clone(), |link| format!("{}@{link}", l.name))
}

fn group(l: &LinkView) -> String {
    if l.group == 0 { "default".to_owned() } else { l.group.to_string() }
}

fn flags(l: &LinkView) -> String {
    format!("<{}>", l.flags.join(","))
}

/// The first line of a device; `mode` stands in `ip link` only.
fn head(l: &LinkView, mode: &str) -> String {
    let mut line = format!(
        "{}: {}: {} mtu {} qdisc {} {}state {} {mode}group {} ",
        l.ifindex,
        named(l),
        flags(l),
        l.mtu,
        l.qdisc,
        l.master.as_ref().map_or(String::new(), |m| format!("master {m} ")),
        l.operstate,
        group(l)
    );
    if l.txqlen > 0 {
        let _ = write!(line, "qlen {}", l.txqlen);
    }
    line + "\n"
}

fn hardware(l: &LinkView) -> String {
    let other = if l.flags.iter().any(|f| f == "POINTOPOINT") { "peer" } else { "brd" };
    format!("    link/{} {} {other} {}\n", l.link_type, l.address, l.broadcast)
}

fn link_json(l: &LinkView, addr: bool, o: Opts) -> Vec<(std::borrow::Cow<'static, str>, Value)> {
    let mut f: Vec<(_, Value)> = vec![("ifindex".into(), l.ifindex.to_value())];
    f.extend(l.link.as_deref().map(|link| match link.strip_prefix("if").and_then(|n| n.parse().ok()) {
        Some(n) => ("link_index".into(), Value::Uint(n)),
        None => ("link".into(), text(link)),
    }));
    f.extend([
        ("ifname".into(), text(&l.name)),
        ("flags".into(), l.flags.to_value()),
        ("mtu".into(), l.mtu.to_value()),
        ("qdisc".into(), text(&l.qdisc)),
    ]);
    f.extend(l.master.as_deref().map(|m| ("master".into(), text(m))));
    f.push(("operstate".into(), text(&l.operstate)));
    if !addr {
        f.push(("linkmode".into(), text("DEFAULT")));
    }
    f.extend([
        ("group".into(), text(&group(l))),
        ("txqlen".into(), l.txqlen.to_value()),
        ("link_type".into(), text(&l.link_type)),
        ("address".into(), text(&l.address)),
        ("broadcast".into(), text(&l.broadcast)),
    ]);
    if o.stats > 0 {
        f.push(("stats64".into(), stats_json(l, o)));
    }
    f
}

pub fn links(links: &[LinkView], o: Opts) -> String {
    if o.json {
        return list(links, |l| Value::Map(link_json(l, false, o)));
    }
    let one = |l: &LinkView| {
        if o.brief {
            return format!("{:<16} {:<14} {:<17} {} \n", named(l), l.operstate, l.address, flags(l));
        }
        let mut text = head(l, "mode DEFAULT ") + &hardware(l);
        if o.stats > 0 {
            statistics(l, o, &mut text);
        }
        joined(&text, o)
    };
    links.iter().map(one).collect()
}

pub fn addrs(links: &[LinkView], addrs: &[AddrView], o: Opts) -> String {
    let of = |l: &LinkView| addrs.iter().filter(|a| a.ifindex == l.ifindex).collect::<Vec<_>>();
    if o.json {
        return list(links, |l| {
            let mut fields = link_json(l, true, o);
            fields.push(("addr_info".into(), Value::List(of(l).into_iter().map(addr_json).collect())));
            Value::Map(fields)
        });
    }
    let mut out = String::new();
    for l in links {
        let mine = of(l);
        if o.brief {
            let list: String = mine.iter().map(|a| format!("{}/{} ", a.local, a.prefixlen)).collect();
            let _ = writeln!(out, "{:<16} {:<14} {list}", named(l), l.operstate);
            continue;
        }
        if o.oneline {
            for a in mine {
                let _ = write!(out, "{}: {}    {}", l.ifindex, l.name, joined(addr(a).trim_start(), o));
            }
            continue;
        }
        let one_family = o.inet || o.inet6;
        if one_family && mine.is_empty() {
            continue;
        }
        out.push_str(&head(l, ""));
        if !one_family {
            out.push_str(&hardware(l));
        }
        mine.iter().for_each(|a| out.push_str(&addr(a)));
        if o.stats > 0 {
            statistics(l, o, &mut out);
        }
    }
    out
}

fn addr(a: &AddrView) -> String {
    if a.local.is_ipv6() {
        let (addr, len, scope) = (a.local, a.prefixlen, &a.scope);
        let left = |t: Option<u64>| t.map_or("forever".to_owned(), |t| format!("{t}sec"));
        let (valid, preferred) = (left(a.valid_lft), left(a.preferred_lft));
        return format!("    inet6 {addr}/{len} scope {scope} \n       valid_lft {valid} preferred_lft {preferred}\n");
    }
    let brd = a.broadcast.map_or(String::new(), |b| format!("brd {b} "));
    format!(
        "    inet {}/{} {brd}scope {} {}\n       valid_lft forever preferred_lft forever\n",
        a.local, a.prefixlen, a.scope, a.label
    )
}

fn addr_json(a: &AddrView) -> Value {
    let mut fields = vec![
        ("family".into(), text(if a.local.is_ipv4() { "inet" } else { "inet6" })),
        ("local".into(), a.local.to_value()),
        ("prefixlen".into(), a.prefixlen.to_value()),
    ];
    fields.extend(a.broadcast.map(|b| ("broadcast".into(), b.to_value())));
    let mut words = a.scope.split(' ');
    fields.push(("scope".into(), text(words.next().unwrap_or_default())));
    fields.extend(words.map(|flag| (flag.to_owned().into(), Value::Bool(true))));
    if a.local.is_ipv4() {
        fields.push(("label".into(), text(&a.label)));
    }
    fields.extend([
        ("valid_life_time".into(), Value::Uint(a.valid_lft.unwrap_or(FOREVER))),
        ("preferred_life_time".into(), Value::Uint(a.preferred_lft.unwrap_or(FOREVER))),
    ]);
    Value::Map(fields)
}

fn prefix(r: &RouteView) -> String {
    match r.prefixlen {
        0 => "default".to_owned(),
        n if n == if r.dst.is_ipv4() { 32 } else { 128 } => r.dst.to_string(),
        n => format!("{}/{n}", r.dst),
    }
}

/// One line; `device` says whether the device stands there, `table` whether tables other than main do.
fn route(r: &RouteView, table: bool, device: bool) -> String {
    let mut out = if r.kind == "unicast" { prefix(r) } else { format!("{} {}", r.kind, prefix(r)) };
    if let Some(g) = r.gateway {
        let _ = write!(out, " via {g}");
    }
    if device && !r.dev.is_empty() {
        let _ = write!(out, " dev {}", r.dev);
    }
    if table && r.table != "main" {
        let _ = write!(out, " table {}", r.table);
    }
    let words = [("proto", r.protocol.clone()), ("scope", r.scope.clone()), ("src", r.prefsrc.map(|s| s.to_string()))];
    for (k, v) in words.into_iter().chain([("metric", r.metric.map(|m| m.to_string()))]) {
        if let Some(v) = v {
            let _ = write!(out, " {k} {v}");
        }
    }
    let metrics = metrics(r);
    if r.dst.is_ipv6() {
        return out + " " + &metrics + "pref medium\n";
    }
    out + " " + &metrics + "\n"
}

/// Each with its space behind it; times in milliseconds or seconds.
fn metrics(r: &RouteView) -> String {
    let mut out = String::new();
    for m in &r.metrics {
        let _ = write!(out, "{} {}", m.name, if m.lock { "lock " } else { "" });
        let ms = m.value / rtax_per_ms(rtax_of(&m.name).unwrap_or(0));
        let _ = match (m.name.as_str(), &m.text) {
            (_, Some(text)) => write!(out, "{text} "),
            ("rtt" | "rttvar" | "rto_min", _) if ms >= 1000 => write!(out, "{}s ", f64::from(ms) / 1000.0),
            ("rtt" | "rttvar" | "rto_min", _) => write!(out, "{ms}ms "),
            _ => write!(out, "{} ", m.value),
        };
    }
    out
}

fn metrics_json(r: &RouteView) -> Option<(std::borrow::Cow<'static, str>, Value)> {
    let one = |m: &MetricView| {
        let (name, value) = match (m.name.as_str(), &m.text) {
            ("features", Some(text)) => return (text.clone().into(), Value::Null),
            ("congctl", Some(text)) => ("congestion".to_owned(), Value::Text(text.clone())),
            (name, _) => (name.to_owned(), Value::Uint((m.value / rtax_per_ms(rtax_of(name).unwrap_or(0))).into())),
        };
        (name.into(), value)
    };
    let all: Vec<_> = r.metrics.iter().map(one).collect();
    (!all.is_empty()).then(|| ("metrics".into(), Value::List(vec![Value::Map(all)])))
}

pub fn routes(routes: &[RouteView], all: bool, one_device: bool, o: Opts) -> String {
    if o.json {
        return list(routes, |r| route_json(r, all));
    }
    routes.iter().map(|r| route(r, all, !one_device)).collect()
}

fn route_json(r: &RouteView, table: bool) -> Value {
    let mut f: Vec<(std::borrow::Cow<'static, str>, Value)> = Vec::new();
    if r.kind != "unicast" {
        f.push(("type".into(), text(&r.kind)));
    }
    f.push(("dst".into(), text(&prefix(r))));
    f.extend(r.gateway.map(|g| ("gateway".into(), g.to_value())));
    f.push(("dev".into(), text(&r.dev)));
    if table && r.table != "main" {
        f.push(("table".into(), text(&r.table)));
    }
    f.extend(r.protocol.as_deref().map(|p| ("protocol".into(), text(p))));
    f.extend(r.scope.as_deref().map(|s| ("scope".into(), text(s))));
    f.extend(r.prefsrc.map(|s| ("prefsrc".into(), s.to_value())));
    f.extend(r.metric.map(|m| ("metric".into(), m.to_value())));
    f.push(("flags".into(), Value::List(Vec::new())));
    f.extend(metrics_json(r));
    if r.dst.is_ipv6() {
        f.push(("pref".into(), text("medium")));
    }
    Value::Map(f)
}

pub fn route_get(addr: IpAddr, r: &RouteView, o: Opts) -> String {
    let local = r.kind == "local";
    if o.json {
        let mut f: Vec<(std::borrow::Cow<'static, str>, Value)> = Vec::new();
        if r.kind != "unicast" {
            f.push(("type".into(), text(&r.kind)));
        }
        f.push(("dst".into(), addr.to_value()));
        f.extend(r.gateway.map(|g| ("gateway".into(), g.to_value())));
        f.push(("dev".into(), text(&r.dev)));
        f.extend(r.prefsrc.map(|s| ("prefsrc".into(), s.to_value())));
        let cache = if local { vec![text("local")] } else { Vec::new() };
        f.extend([
            ("flags".into(), Value::List(Vec::new())),
            ("uid".into(), Value::Uint(0)),
            ("cache".into(), Value::List(cache)),
        ]);
        f.extend(metrics_json(r));
        return out::json(&Value::List(vec![Value::Map(f)]));
    }
    let kind = if r.kind == "unicast" { String::new() } else { format!("{} ", r.kind) };
    let via = r.gateway.map_or(String::new(), |g| format!(" via {g}"));
    let src = r.prefsrc.map_or(String::new(), |s| format!(" src {s}"));
    let cache = match r.kind.as_str() {
        "local" => "<local> ",
        "broadcast" => "<local,brd> ",
        _ => "",
    };
    joined(&format!("{kind}{addr}{via} dev {}{src} uid 0 \n    cache {cache}{}\n", r.dev, metrics(r)), o)
}

pub fn neighs(neighs: &[NeighView], one_device: bool, o: Opts) -> String {
    if o.json {
        return list(neighs, |n| {
            let mut f: Vec<(std::borrow::Cow<'static, str>, Value)> = vec![("dst".into(), n.dst.to_value())];
            if !one_device {
                f.push(("dev".into(), text(&n.dev)));
            }
            f.extend(n.lladdr.as_deref().map(|l| ("lladdr".into(), text(l))));
            f.push(("state".into(), Value::List(vec![text(&n.state)])));
            Value::Map(f)
        });
    }
    let one = |n: &NeighView| {
        let mut line = n.dst.to_string();
        if !one_device {
            let _ = write!(line, " dev {}", n.dev);
        }
        if let Some(l) = &n.lladdr {
            let _ = write!(line, " lladdr {l}");
        }
        if o.stats > 0 {
            if n.refs > 0 {
                let _ = write!(line, " ref {}", n.refs);
            }
            let _ = write!(line, " used {}/{}/{}", n.used_s, n.confirmed_s, n.updated_s);
            if n.probes > 0 {
                let _ = write!(line, " probes {}", n.probes);
            }
        }
        format!("{line} {} \n", n.state)
    };
    neighs.iter().map(one).collect()
}

pub fn tcp_metrics(metrics: &[TcpMetricView], o: Opts) -> String {
    let counts = |m: &TcpMetricView| [("ssthresh", m.ssthresh), ("cwnd", m.cwnd), ("reordering", m.reordering)];
    let times = |m: &TcpMetricView| [("rtt", m.rtt_us), ("rttvar", m.rttvar_us)];
    if o.json {
        return list(metrics, |m| {
            let mut f = vec![("dst".into(), m.dst.to_value()), ("age".into(), Value::Real(m.age_ms as f64 / 1000.0))];
            let known = counts(m).into_iter().filter(|c| c.1 != 0);
            f.extend(known.map(|(name, n)| (name.into(), Value::Uint(n.into()))));
            let known = times(m).into_iter().filter(|t| t.1 != 0);
            f.extend(known.map(|(name, us)| (name.into(), Value::Real(f64::from(us) / 1e6))));
            if m.fo_mss != 0 {
                f.push(("fo_mss".into(), Value::Uint(m.fo_mss.into())));
            }
            f.extend(m.fo_cookie.as_deref().map(|c| ("fo_cookie".into(), text(c))));
            f.push(("source".into(), m.source.to_value()));
            Value::Map(f)
        });
    }
    let one = |m: &TcpMetricView| {
        let mut line = format!("{} age {}.{:03}sec", m.dst, m.age_ms / 1000, m.age_ms % 1000);
        for (name, n) in counts(m).into_iter().filter(|c| c.1 != 0) {
            let _ = write!(line, " {name} {n}");
        }
        for (name, us) in times(m).into_iter().filter(|t| t.1 != 0) {
            let _ = write!(line, " {name} {us}us");
        }
        if m.fo_mss != 0 {
            let _ = write!(line, " fo_mss {}", m.fo_mss);
        }
        if let Some(c) = &m.fo_cookie {
            let _ = write!(line, " fo_cookie {c}");
        }
        format!("{line} source {}\n", m.source)
    };
    metrics.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::super::ip::tests::{link, routes as sample};
    use super::*;

    fn opts(stats: u8, json: bool) -> Opts {
        Opts { stats, json, ..Opts::default() }
    }

    fn addr_of(ifindex: u32, dev: &str, local: &str, prefixlen: u8, scope: &str) -> AddrView {
        let (dev, label, scope) = (dev.to_owned(), dev.to_owned(), scope.to_owned());
        AddrView {
            ifindex,
            dev,
            local: local.parse().unwrap(),
            prefixlen,
            broadcast: None,
            scope,
            label,
            valid_lft: None,
            preferred_lft: None,
        }
    }

    // The expected texts are what iproute2 6.1 printed.
    #[test]
    fn devices_and_addresses() {
        let all = [link("lo", true), link("v0", false)];
        let list = [addr_of(1, "lo", "127.0.0.1", 8, "host"), addr_of(3, "v0", "10.9.0.1", 24, "global")];
        assert_eq!(
            addrs(&all, &list, Opts::default()),
            "\
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
    inet 127.0.0.1/8 scope host lo
       valid_lft forever preferred_lft forever
3: v0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default qlen 1000
    link/ether 1e:fa:49:5b:09:64 brd ff:ff:ff:ff:ff:ff
    inet 10.9.0.1/24 scope global v0
       valid_lft forever preferred_lft forever
"
        );
        let line = "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever\n";
        assert_eq!(addrs(&all[..1], &list, Opts { oneline: true, ..Opts::default() }), line);
        let brief = Opts { brief: true, ..Opts::default() };
        assert_eq!(addrs(&all[..1], &list, brief), "lo               UNKNOWN        127.0.0.1/8 \n");
        let line = "lo               UNKNOWN        00:00:00:00:00:00 <LOOPBACK,UP,LOWER_UP> \n";
        assert_eq!(links(&all[..1], brief), line);
        let json = addrs(&all[..1], &list, opts(0, true));
        assert_eq!(
            json.trim_end(),
            "[{\"ifindex\":1,\"ifname\":\"lo\",\"flags\":[\"LOOPBACK\",\"UP\",\"LOWER_UP\"],\"mtu\":65536,\"qdisc\":\"noqueue\",\"operstate\":\"UNKNOWN\",\"group\":\"default\",\"txqlen\":1000,\"link_type\":\"loopback\",\"address\":\"00:00:00:00:00:00\",\"broadcast\":\"00:00:00:00:00:00\",\"addr_info\":[{\"family\":\"inet\",\"local\":\"127.0.0.1\",\"prefixlen\":8,\"scope\":\"host\",\"label\":\"lo\",\"valid_life_time\":4294967295,\"preferred_life_time\":4294967295}]}]"
        );
    }

    #[test]
    fn statistics_of_devices() {
        assert_eq!(
            links(&[link("lo", true)], opts(2, false)),
            "\
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
    RX:  bytes packets errors dropped  missed   mcast           
          5277      21      0       0       0       0 
    RX errors:  length    crc   frame    fifo overrun
                     0      0       0       0       0 
    TX:  bytes packets errors dropped carrier collsns           
          5277      21      0       0       0       0 
    TX errors: aborted   fifo  window heartbt transns
                     0      0       0       0       0 
"
        );
        let wide = LinkView {
            stats: belljar_kernel::view::LinkStats { rx_bytes: 123_456_789_012, ..link("lo", true).stats },
            ..link("lo", true)
        };
        assert!(links(&[wide], opts(1, false)).contains("    RX:    bytes packets errors"));
    }

    #[test]
    fn routes_and_neighbours() {
        let main: Vec<_> = sample().into_iter().filter(|r| r.table == "main").collect();
        assert_eq!(
            routes(&main, false, false, Opts::default()),
            "default via 10.9.0.2 dev v0 \n10.9.0.0/24 dev v0 proto kernel scope link src 10.9.0.1 \n"
        );
        assert!(
            routes(&sample(), true, false, Opts::default())
                .contains("local 10.9.0.1 dev v0 table local proto kernel scope host src 10.9.0.1 \n")
        );
        let json = "[{\"dst\":\"default\",\"gateway\":\"10.9.0.2\",\"dev\":\"v0\",\"flags\":[]},{\"dst\":\"10.9.0.0/24\",\"dev\":\"v0\",\"protocol\":\"kernel\",\"scope\":\"link\",\"prefsrc\":\"10.9.0.1\",\"flags\":[]}]\n";
        assert_eq!(routes(&main, false, false, opts(0, true)), json);
        let way = RouteView { prefsrc: Some([10, 9, 0, 1].into()), ..main[0].clone() };
        let to = IpAddr::from([8, 8, 8, 8]);
        let line = "8.8.8.8 via 10.9.0.2 dev v0 src 10.9.0.1 uid 0 \n    cache \n";
        assert_eq!(route_get(to, &way, Opts::default()), line);
        let json = "[{\"dst\":\"8.8.8.8\",\"gateway\":\"10.9.0.2\",\"dev\":\"v0\",\"prefsrc\":\"10.9.0.1\",\"flags\":[],\"uid\":0,\"cache\":[]}]\n";
        assert_eq!(route_get(to, &way, opts(0, true)), json);
        let n = NeighView {
            dst: [10, 9, 0, 2].into(),
            dev: "v0".into(),
            lladdr: None,
            state: "FAILED".into(),
            used_s: 3,
            confirmed_s: 146,
            updated_s: 0,
            probes: 6,
            refs: 0,
            queued: 0,
        };
        let one = std::slice::from_ref(&n);
        assert_eq!(neighs(one, false, Opts::default()), "10.9.0.2 dev v0 FAILED \n");
        assert_eq!(neighs(one, true, opts(1, false)), "10.9.0.2 used 3/146/0 probes 6 FAILED \n");
        assert_eq!(
            neighs(one, false, opts(0, true)),
            "[{\"dst\":\"10.9.0.2\",\"dev\":\"v0\",\"state\":[\"FAILED\"]}]\n"
        );
    }

    #[test]
    fn metrics_as_iproute2_writes_them() {
        let m = TcpMetricView {
            dst: [127, 0, 0, 1].into(),
            source: [127, 0, 0, 1].into(),
            age_ms: 308,
            ssthresh: 0,
            cwnd: 12,
            reordering: 0,
            rtt_us: 4784,
            rttvar_us: 9521,
            fo_mss: 0,
            fo_cookie: None,
        };
        let want = "127.0.0.1 age 0.308sec cwnd 12 rtt 4784us rttvar 9521us source 127.0.0.1\n";
        assert_eq!(tcp_metrics(std::slice::from_ref(&m), opts(0, false)), want);
        let json = tcp_metrics(&[TcpMetricView { fo_mss: 1460, fo_cookie: Some("ab".into()), ..m }], opts(0, true));
        assert!(
            json.contains(r#""cwnd":12,"rtt":0.004784,"rttvar":0.009521,"fo_mss":1460,"fo_cookie":"ab""#),
            "{json}"
        );
    }
}
