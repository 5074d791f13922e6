//! The tables of a report: listeners, connections, counters, drops, settings, and the timeline.
use super::text::{Html, bytes, count, ms, put, rate, time};
use crate::account::knob;
use belljar_abi::tcp_info::TcpInfo;
use belljar_capture::watch::{Conn, Entry, Watch, ordinary};
use belljar_kernel::Kernel;
use belljar_kernel::ids::NsId;
use belljar_kernel::net::drop::DropReason;
use belljar_kernel::net::sysctl::{Global, Sysctl};

/// A section with a heading and what to do with it.
pub fn section(h: &mut Html, title: &'static str, caption: &str, body: Html) {
    put!(h; "<section><h2>" {title} "</h2><p class=\"note\">" {caption} "</p>");
    h.add(body);
    h.raw("</section>\n");
}

pub fn listeners(w: &Watch, k: &Kernel, ns: NsId) -> Html {
    let mut h = Html::default();
    put!(h; "<div class=\"wide\"><table><thead><tr><th>Listener<th class=\"r\">waiting at most<th class=\"r\">limit<th class=\"r\">half open at most\
        <th class=\"r\">turned away<th>clients turned away<th>at the end</thead><tbody>");
    for l in &w.listeners {
        let all = k.net.ns.get(ns).into_iter().flat_map(|n| n.tcp.account.overflows.iter());
        let over: Vec<_> = all.filter(|o| (o.addr, o.port) == (l.addr, l.port)).collect();
        let away: u64 = over.iter().map(|o| o.count - o.cookies).sum();
        let full = l.peak_accept > l.limit || away > 0;
        h.raw(if full { "<tr class=\"hurt\">" } else { "<tr>" });
        put!(h; "<td class=\"m\">" {l.addr} ":" {l.port} "<td class=\"r\">" {count(l.peak_accept.into())} "<td class=\"r\">" {count(l.limit.into())} " + 1");
        put!(h; "<td class=\"r\">" {count(l.peak_syn.into())} "<td class=\"r\">" {count(away)} "<td class=\"m\">");
        for (n, o) in over.iter().enumerate() {
            h.raw(if n > 0 { "; " } else { "" });
            put!(h; {o.first_client.0} ":" {o.first_client.1});
            if o.last_client != o.first_client {
                put!(h; " … " {o.last_client.0} ":" {o.last_client.1});
            }
        }
        put!(h; "<td>" {if l.open { "listening" } else { "closed" }});
    }
    h.raw("</tbody></table></div>");
    h
}

pub fn connections(all: &[&Conn]) -> Html {
    let mut h = Html::default();
    put!(h; "<div class=\"wide\"><table><thead><tr><th>Local<th>Peer<th>last state<th>cc<th class=\"r\">acked<th class=\"r\">received\
        <th class=\"r\">retrans<th class=\"r\">rtt ms<th class=\"r\">min<th class=\"r\">rto<th class=\"r\">cwnd<th class=\"r\">mss\
        <th class=\"r\">delivery<th class=\"r\">busy<th>held up by</thead><tbody>");
    for c in all {
        let i = &c.info;
        h.raw(if i.total_retrans > 0 { "<tr class=\"hurt\">" } else { "<tr>" });
        put!(h; "<td class=\"m\">" {c.local.0} ":" {c.local.1} "<td class=\"m\">" {c.peer.0} ":" {c.peer.1} "<td>" {c.state} "<td>" {c.cong});
        put!(h; "<td class=\"r\">" {bytes(i.bytes_acked)} "<td class=\"r\">" {bytes(i.bytes_received)} "<td class=\"r\">" {count(i.total_retrans.into())});
        put!(h; "<td class=\"r\">" {ms(i.rtt)} "<small> ±" {ms(i.rttvar)} "</small>");
        put!(h; "<td class=\"r\">" {if i.min_rtt == u32::MAX { "–".to_owned() } else { ms(i.min_rtt) }} "<td class=\"r\">" {ms(i.rto)});
        put!(h; "<td class=\"r\">" {count(i.snd_cwnd.into())} "<td class=\"r\">" {i.snd_mss});
        put!(h; "<td class=\"r\">" {if i.delivery_rate == 0 { "–".to_owned() } else { rate(i.delivery_rate as f64 * 8.0) }});
        put!(h; "<td class=\"r\">" {if i.busy_time == 0 { "–".to_owned() } else { time(i.busy_time * 1000) }} "<td>" {held_up(i)});
    }
    h.raw("</tbody></table></div>");
    h
}

/// What `ss -i` says as rwnd_limited and sndbuf_limited, in words.
fn held_up(i: &TcpInfo) -> String {
    let part = |us: u64, what: &str| {
        let percent = us as f64 * 100.0 / i.busy_time.max(1) as f64;
        (us > 0).then(|| format!("{what} {percent:.0}%"))
    };
    let both = [part(i.rwnd_limited, "peer's window"), part(i.sndbuf_limited, "send buffer")];
    both.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Counters that are not 0, as nstat names them.
pub fn counters(k: &Kernel, ns: NsId) -> Html {
    let constant = ["IpForwarding", "IpDefaultTTL", "TcpRtoAlgorithm", "TcpRtoMin", "TcpRtoMax", "TcpMaxConn"];
    let mut h = Html::default();
    h.raw("<ul class=\"counters\">");
    for c in k.view_counters(ns) {
        let name = format!("{}{}", c.group, c.name);
        if c.value > 0 && !constant.contains(&name.as_str()) {
            let bad = [
                "Drop",
                "Overflow",
                "Retrans",
                "Timeouts",
                "Err",
                "Fail",
                "Prune",
                "Abort",
                "Discard",
                "Lost",
                "OfoPruned",
            ];
            h.raw(if bad.iter().any(|b| name.contains(b)) { "<li class=\"hurt\">" } else { "<li>" });
            put!(h; "<span>" {name} "</span><b>" {count(c.value)} "</b></li>");
        }
    }
    h.raw("</ul>");
    h
}

/// Every reason for which packets ended here.
pub fn drops(k: &Kernel) -> Html {
    let mut all: Vec<_> = k.net.pool.drops().collect();
    all.sort_by_key(|(r, n)| (ordinary(*r), std::cmp::Reverse(*n)));
    let mut h = Html::default();
    h.raw("<table><thead><tr><th>Reason<th class=\"r\">packets<th>what to turn</thead><tbody>");
    for (r, n) in all {
        h.raw(if ordinary(r) { "<tr>" } else { "<tr class=\"hurt\">" });
        put!(h; "<td class=\"m\">" {r.name()} "<td class=\"r\">" {count(n)} "<td>" {hint(r)});
    }
    h.raw("</tbody></table>");
    h
}

fn hint(r: DropReason) -> &'static str {
    match r {
        DropReason::TcpListenOverflow => {
            "net.core.somaxconn and the backlog given to listen(); a program that accepts sooner"
        }
        DropReason::TcpReqQFull => "net.ipv4.tcp_max_syn_backlog, net.ipv4.tcp_syncookies",
        DropReason::SocketRcvbuff => "SO_RCVBUF of the socket; net.core.rmem_max",
        r if ordinary(r) => "nothing: the ordinary course of things",
        r => knob(r).unwrap_or(""),
    }
}

/// Settings that are not what a fresh kernel has: name, value, the default.
pub fn changed(k: &Kernel, ns: NsId) -> Vec<(String, String, String)> {
    let (fresh, global) = (Sysctl::default(), Global::default());
    let default = |key: &str| if Global::KEYS.contains(&key) { global.show(key) } else { fresh.show(key) };
    let all = k.view_sysctls(ns).into_iter().filter_map(|s| Some((default(&s.key)?, s)));
    all.filter(|(d, s)| *d != s.value).map(|(d, s)| (s.key, s.value, d)).collect()
}

pub fn timeline(w: &Watch, start: u64, wall: Option<u64>) -> Html {
    let (head, tail) = w.story.entries();
    let mut h = Html::default();
    h.raw("<ol class=\"story\">");
    head.for_each(|e| line(&mut h, e, start, wall));
    if w.story.skipped > 0 {
        put!(h; "<li class=\"skip\"><span></span><span>… " {count(w.story.skipped)} " lines are left out here …</span></li>");
    }
    tail.for_each(|e| line(&mut h, e, start, wall));
    h.raw("</ol>");
    h
}

fn line(h: &mut Html, e: &Entry, start: u64, wall: Option<u64>) {
    let at = |ns: u64| format!("{:.3}", ns.saturating_sub(start) as f64 / 1e9);
    h.raw(if e.bad { "<li class=\"hurt\"><time title=\"" } else { "<li><time title=\"" });
    if let Some(offset) = wall {
        h.text(super::text::date(e.first_at.saturating_add(offset)));
    }
    put!(h; "\">" {at(e.first_at)} " s</time><span>" {&e.text});
    if e.count > 1 {
        put!(h; " <b>× " {count(e.count)} "</b> <small>until " {at(e.last_at)} " s</small>");
    }
    h.raw("</span></li>");
}
