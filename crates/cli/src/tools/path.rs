//! `belljar path`: the receive and the send path of a host, stage by stage, with rates, queues and drops.
mod stages;

use crate::out::{self, Done, Fail, Paint};
use crate::session::{Session, Target};
use belljar_kernel::view::{CounterView, DropView, LinkView, NeighView, SockView, SoftnetView, Value};
use clap::Args;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use stages::{Row, rows};

#[derive(Args, Debug)]
#[command(after_help = "\
Each line is a stage, in the order packets take. A rate counts what passed there since the last
picture, \"waiting\" is its queue now and the queue's limit, \"dropped\" counts since the jar began;
the drop reasons stand below.

Examples: belljar path web                  a picture every second, in the terminal
          belljar path web --once           totals since the jar began
          belljar path web -n 3 -i 0.5 -j   three pictures as JSON, one a line")]
pub struct PathCommand {
    /// The jar, and which of its hosts (default: host)
    #[arg(value_name = "JAR[/HOST]")]
    pub target: Target,
    /// Seconds between pictures
    #[arg(short, long, value_name = "SECONDS", default_value_t = 1.0)]
    pub interval: f64,
    /// So many pictures [default: until interrupted]
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u32>,
    /// One picture: totals instead of rates
    #[arg(short = '1', long, conflicts_with_all = ["count", "interval"])]
    pub once: bool,
    /// JSON
    #[arg(short, long)]
    pub json: bool,
}

/// Everything that one picture is drawn from.
struct Look {
    at: Instant,
    links: Vec<LinkView>,
    counters: Vec<CounterView>,
    softnet: Vec<SoftnetView>,
    sockets: Vec<SockView>,
    neighs: Vec<NeighView>,
    drops: Vec<DropView>,
}

impl Look {
    fn take(session: &mut Session) -> Result<Look, Fail> {
        Ok(Look {
            at: Instant::now(),
            links: session.view("links")?,
            counters: session.view("counters")?,
            softnet: session.view("softnet")?,
            sockets: session.view("sockets")?,
            neighs: session.view("neighs")?,
            drops: session.view("drops")?,
        })
    }
}

pub fn run(c: &PathCommand, paint: Paint) -> Done {
    if !(0.05..=3600.0).contains(&c.interval) {
        return Err(Fail::usage(format!("--interval {}: from 0.05 to 3600 seconds", c.interval)));
    }
    let mut session = Session::open(&c.target)?;
    if c.once {
        let look = Look::take(&mut session)?;
        return show(c, paint, &rows(&look), &look, None);
    }
    let clears = std::io::stdout().is_terminal() && !c.json;
    let mut before = Look::take(&mut session)?;
    for n in 0.. {
        if c.count.is_some_and(|count| n >= count) {
            break;
        }
        std::thread::sleep(Duration::from_secs_f64(c.interval));
        let look = Look::take(&mut session)?;
        let mut now = rows(&look);
        let seconds = (look.at - before.at).as_secs_f64();
        rate(&mut now, &rows(&before), seconds);
        if clears {
            out::print("\x1b[H\x1b[2J")?;
        }
        show(c, paint, &now, &look, Some(seconds))?;
        before = look;
    }
    Ok(0)
}

/// What passed becomes what passed a second; the stages of both looks are found by their names.
fn rate(now: &mut [Row], before: &[Row], seconds: f64) {
    for row in now {
        let old = before.iter().find(|b| (b.way, &b.stage) == (row.way, &row.stage));
        let per = |n: f64, old: f64| (n - old).max(0.0) / seconds.max(1e-3);
        row.passed = per(row.passed, old.map_or(0.0, |o| o.passed));
        row.bytes = row.bytes.map(|b| per(b, old.and_then(|o| o.bytes).unwrap_or(0.0)));
    }
}

fn show(c: &PathCommand, paint: Paint, rows: &[Row], look: &Look, seconds: Option<f64>) -> Done {
    out::print(&if c.json { json(rows, look, seconds) } else { text(c, paint, rows, look, seconds) })?;
    Ok(0)
}

fn json(rows: &[Row], look: &Look, seconds: Option<f64>) -> String {
    let map = |all: Vec<(&'static str, Value)>| Value::Map(all.into_iter().map(|(k, v)| (k.into(), v)).collect());
    let maybe = |n: Option<u64>| n.map_or(Value::Null, Value::Uint);
    let row = |r: &Row| {
        map(vec![
            ("way", Value::Text(r.way.to_owned())),
            ("stage", Value::Text(r.stage.clone())),
            (if seconds.is_some() { "per_second" } else { "total" }, Value::Real(r.passed)),
            ("bytes", r.bytes.map_or(Value::Null, Value::Real)),
            ("waiting", maybe(r.waiting)),
            ("limit", maybe(r.limit)),
            ("dropped", maybe(r.dropped)),
            ("note", Value::Text(r.note.clone())),
        ])
    };
    let reasons = look
        .drops
        .iter()
        .map(|d| map(vec![("reason", Value::Text(d.reason.clone())), ("packets", Value::Uint(d.packets))]));
    out::json(&map(vec![
        ("seconds", seconds.map_or(Value::Null, Value::Real)),
        ("stages", Value::List(rows.iter().map(row).collect())),
        ("drops", Value::List(reasons.collect())),
    ]))
}

fn text(c: &PathCommand, paint: Paint, rows: &[Row], look: &Look, seconds: Option<f64>) -> String {
    let over = seconds.map_or_else(|| "totals".to_owned(), |s| format!("rates over {s:.1} s"));
    let mut out = format!("{}  {over}\n", c.target);
    let (passed, bytes) = if seconds.is_some() { ("per s", "bytes/s") } else { ("packets", "bytes") };
    for (way, title) in [("receive", "RECEIVE"), ("send", "SEND")] {
        out.push_str(&format!("{title:<22} {passed:>10} {bytes:>10}  {:<24} {:>9}\n", "waiting", "dropped"));
        for r in rows.iter().filter(|r| r.way == way) {
            out.push_str(&line(paint, r));
        }
    }
    let reasons: Vec<String> =
        look.drops.iter().filter(|d| d.packets > 0).map(|d| format!("{} {}", d.packets, d.reason)).collect();
    if !reasons.is_empty() {
        out.push_str(&paint.red(&format!("dropped: {}\n", reasons.join(", "))));
    }
    out
}

fn line(paint: Paint, r: &Row) -> String {
    let queue = match (r.waiting, r.limit) {
        (None, _) => String::new(),
        (Some(n), None) => short(n as f64),
        (Some(n), Some(limit)) => format!("{} {}/{}", bar(n, limit), short(n as f64), short(limit as f64)),
    };
    let dropped = r.dropped.map_or(String::new(), |n| short(n as f64));
    let dropped = format!("{dropped:>9}");
    let dropped = if r.dropped.is_some_and(|n| n > 0) { paint.red(&dropped) } else { dropped };
    let bytes = r.bytes.map_or(String::new(), short);
    let full = r.limit.is_some_and(|l| l > 0 && r.waiting.is_some_and(|n| n * 10 >= l * 8));
    let queue = format!("{queue:<24}");
    let queue = if full { paint.yellow(&queue) } else { queue };
    let out = format!("  {:<20} {:>10} {bytes:>10}  {queue} {dropped}  {}", r.stage, short(r.passed), r.note);
    format!("{}\n", out.trim_end())
}

/// How full: eight tenths are the eighth mark.
fn bar(n: u64, limit: u64) -> String {
    let full = (n * 10).div_ceil(limit.max(1)).min(10) as usize;
    format!("[{}{}]", "#".repeat(full), ".".repeat(10 - full))
}

/// Four digits and a unit: 950, 12.3k, 4.5M.
fn short(n: f64) -> String {
    let (mut n, mut unit) = (n, 0);
    while n >= 999.5 && unit < 4 {
        n /= 1000.0;
        unit += 1;
    }
    let unit = ["", "k", "M", "G", "T"].get(unit).copied().unwrap_or("");
    if unit.is_empty() || n >= 99.95 { format!("{n:.0}{unit}") } else { format!("{n:.1}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let all = [0.0, 7.4, 999.0, 1000.0, 12_345.0, 999_499.0, 8_200_000.0];
        assert_eq!(all.map(short).join(" "), "0 7 999 1.0k 12.3k 999k 8.2M");
        assert_eq!(
            (bar(0, 256), bar(1, 256), bar(256, 256)),
            ("[..........]".into(), "[#.........]".into(), "[##########]".into())
        );
    }

    #[test]
    fn rates_are_of_the_same_stage() {
        let row = |stage: &str, passed: f64| Row { way: "send", stage: stage.to_owned(), passed, ..Row::default() };
        let mut now = vec![row("new", 10.0), row("old", 30.0)];
        rate(&mut now, &[row("old", 10.0)], 2.0);
        assert_eq!((now[0].passed, now[1].passed), (5.0, 10.0));
    }
}
