//! `belljar trace`: packets as they cross the layers, drops with reason and place, state changes, retransmissions.
use super::nstat::glob;
use crate::out::{self, Done, Fail, Paint};
use crate::session::{Session, Target};
use belljar_capture::print::time_of_day;
use belljar_host::fd;
use belljar_jar::control::{Reply, Request};
use clap::Args;
use serde_json::Value as Json;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;

const EVENTS: [&str; 6] = ["tap", "stage", "rule", "drop", "state", "retransmit"];
const KEYS: [&str; 19] = [
    "event", "netns", "stage", "dev", "dir", "packet", "flow", "proto", "hook", "table", "chain", "rule", "says",
    "reason", "at", "sock", "old", "new", "why",
];

#[derive(Args, Debug)]
#[command(after_help = "\
Filter:   the name of an event (tap, stage, rule, drop, state, retransmit) or KEY=PATTERN, with *
          and ? as in file names; keys: event netns stage dev dir packet flow proto hook table chain
          rule says reason at sock old new why.
          Words with the same key widen the choice, different keys narrow it.

Examples: belljar trace web drop retransmit
          belljar trace web stage 'stage=tcp_*'
          belljar trace web packet=1042
          belljar trace web rule table=nat
          belljar trace web -j | jq .")]
pub struct TraceCommand {
    /// The jar, and which of its hosts (default: host)
    #[arg(value_name = "JAR[/HOST]")]
    pub target: Target,
    /// Events to show (default: all)
    #[arg(value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Exit after this many events
    #[arg(short, long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// JSON lines
    #[arg(short, long)]
    pub json: bool,
}

pub fn run(c: &TraceCommand, paint: Paint) -> Done {
    let filter = parse(&c.filter)?;
    let mut session = Session::open(&c.target)?;
    let (from, theirs) = fd::pipe()?;
    match session.client.request(&Request::Trace { host: session.host.clone() }, &[theirs.as_raw_fd()])? {
        Reply::Ok => drop(theirs),
        other => return Err(Fail::new(format!("unexpected answer {other:?}"))),
    }
    let mut left = c.count.unwrap_or(u64::MAX);
    for text in BufReader::new(File::from(from)).lines() {
        let text = text?;
        let Ok(event) = serde_json::from_str::<Json>(&text) else { continue };
        if !matches(&filter, &event) {
            continue;
        }
        out::print(&if c.json { format!("{text}\n") } else { line(&event, paint) })?;
        left -= 1;
        if left == 0 {
            break;
        }
    }
    Ok(0)
}

/// Keys with the patterns that any of their values may match.
type Patterns = Vec<(String, Vec<String>)>;

fn parse(words: &[String]) -> Result<Patterns, Fail> {
    let mut out: Patterns = Vec::new();
    for w in words {
        let (key, pattern) = match w.split_once('=') {
            Some((k, p)) if KEYS.contains(&k) => (k, p),
            None if EVENTS.contains(&w.as_str()) => ("event", w.as_str()),
            _ => {
                let hint = format!("an event ({}) or KEY=PATTERN with one of {}", EVENTS.join(", "), KEYS.join(", "));
                return Err(Fail::usage(format!("trace: {w:?} is no filter")).hint(hint));
            }
        };
        match out.iter_mut().find(|(k, _)| k == key) {
            Some((_, patterns)) => patterns.push(pattern.to_owned()),
            None => out.push((key.to_owned(), vec![pattern.to_owned()])),
        }
    }
    Ok(out)
}

fn field(event: &Json, key: &str) -> String {
    match event.get(key) {
        None | Some(Json::Null) => String::new(),
        Some(Json::String(s)) => s.clone(),
        Some(other) => other.to_string(),
    }
}

fn matches(filter: &Patterns, event: &Json) -> bool {
    filter.iter().all(|(key, patterns)| {
        let value = field(event, key);
        patterns.iter().any(|p| glob(p.as_bytes(), value.as_bytes()))
    })
}

fn line(e: &Json, paint: Paint) -> String {
    let f = |key: &str| field(e, key);
    // A device of another namespace than the host's own: @NETNS/eth0.
    let place = match (f("netns"), f("dev")) {
        (ns, dev) if ns.is_empty() => dev,
        (ns, dev) if dev.is_empty() => format!("@{ns}"),
        (ns, dev) => format!("@{ns}/{dev}"),
    };
    let packet = format!("#{} {place}", f("packet"));
    let body = match f("event").as_str() {
        "tap" => {
            let arrow = if f("dir") == "in" { "<" } else { ">" };
            let gso = e.get("gso_segs").map_or(String::new(), |n| format!(" ({n} segments)"));
            format!("{} {arrow} {} length {}{gso}", paint.cyan(&packet), f("flow"), f("len"))
        }
        "stage" => format!("{} {} ({} bytes)", paint.cyan(&packet), f("stage"), f("len")),
        "rule" => {
            let place = if f("rule") == "0" { "policy".to_owned() } else { format!("rule {}", f("rule")) };
            let chain = if f("chain") == f("hook") { String::new() } else { format!(" {}", f("chain")) };
            let says = paint.yellow(&f("says"));
            format!("{} {} {}{chain} {place}: {says}", paint.cyan(&packet), f("hook"), f("table"))
        }
        "drop" => {
            let what = paint.red(&format!("DROP {}", f("reason")));
            format!("{} {what} at {}: {} length {}", paint.cyan(&packet), f("at"), f("flow"), f("len"))
        }
        "state" => format!("{} {} -> {}", f("sock"), f("old"), f("new")),
        "retransmit" => {
            let what = paint.yellow("retransmits");
            format!("{} {what} {} bytes from {} ({})", f("sock"), f("len"), f("seq"), f("why"))
        }
        _ => e.to_string(),
    };
    let wall = e.get("wall").and_then(Json::as_u64).unwrap_or(0);
    format!("{} {body}\n", time_of_day(wall, 0, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::out::When;
    use serde_json::json;

    #[test]
    fn another_namespace_stands_before_the_device() {
        let stage = |more: Json| {
            let mut e = json!({"event": "stage", "stage": "ip_rcv", "packet": 7, "len": 84, "wall": 0});
            e.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            line(&e, Paint::of(When::Never, &std::io::stdout()))
        };
        assert!(stage(json!({"dev": "eth0"})).contains("#7 eth0 ip_rcv"));
        assert!(stage(json!({"dev": "eth0", "netns": "a"})).contains("#7 @a/eth0 ip_rcv"));
        assert!(stage(json!({"netns": "a"})).contains("#7 @a ip_rcv"));
    }

    fn words(s: &str) -> Vec<String> {
        s.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn events_are_chosen_by_their_fields() {
        let drop = json!({"event": "drop", "reason": "TCP_LISTEN_OVERFLOW", "at": "tcp_v4_syn_recv_sock", "packet": 7,
            "dev": "host/eth0", "flow": "10.0.2.2:4000 > 10.0.2.15:80", "len": 74, "wall": 3_661_000_001_000u64});
        for (text, yes) in [
            ("", true),
            ("drop", true),
            ("state drop", true),
            ("state", false),
            ("drop reason=TCP_*", true),
            ("drop reason=UDP_*", false),
            ("packet=7 flow=*:80", true),
        ] {
            assert_eq!(matches(&parse(&words(text)).unwrap(), &drop), yes, "{text}");
        }
        assert_eq!(parse(&words("colour=red")).unwrap_err().code, 2);
        assert_eq!(
            line(&drop, Paint::default()),
            "01:01:01.000001 #7 host/eth0 DROP TCP_LISTEN_OVERFLOW at tcp_v4_syn_recv_sock: 10.0.2.2:4000 > 10.0.2.15:80 length 74\n"
        );
        let rule = json!({"event": "rule", "hook": "PREROUTING", "table": "nat", "chain": "DOCKER", "rule": 2, "packet": 7,
            "dev": "host/eth0", "says": "-j DNAT --to-destination 172.17.0.2:80", "wall": 0});
        assert_eq!(
            line(&rule, Paint::default()),
            "00:00:00.000000 #7 host/eth0 PREROUTING nat DOCKER rule 2: -j DNAT --to-destination 172.17.0.2:80\n"
        );
        assert!(matches(&parse(&words("rule table=nat says=*DNAT*")).unwrap(), &rule));
        let state = json!({"event": "state", "sock": "tcp:3", "old": "SYN_SENT", "new": "ESTABLISHED", "wall": 0});
        assert_eq!(line(&state, Paint::default()), "00:00:00.000000 tcp:3 SYN_SENT -> ESTABLISHED\n");
    }
}
