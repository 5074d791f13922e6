//! Figures over time as inline SVG: one chart for each question, all with the same time axis.
use super::text::{Html, count, put, rate, time};
use belljar_capture::watch::{ListenerSeen, Sample, Series, Watch};

const WIDTH: f64 = 1040.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 86.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 24.0;

/// How a row of values is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Draw {
    /// A curve with its area.
    Area,
    /// A level that stays until it changes.
    Level,
    Bars,
}

/// What a slot has of something.
type Count = fn(&Sample) -> u64;

/// One row of values, one for each slot.
struct Row {
    name: String,
    /// Class that gives it its colour.
    class: &'static str,
    draw: Draw,
    values: Vec<f64>,
}

struct Chart {
    title: &'static str,
    /// What to make of it.
    caption: String,
    rows: Vec<Row>,
    /// A limit, with its name.
    limit: Option<(f64, String)>,
    show: fn(f64) -> String,
}

/// Where time and values lie on the picture.
struct Scale {
    end: f64,
    step: f64,
    top: f64,
}

impl Scale {
    fn x(&self, t: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (t / self.end).clamp(0.0, 1.0)
    }

    fn y(&self, v: f64) -> f64 {
        TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - (v / self.top).clamp(0.0, 1.0))
    }
}

/// The charts of a watched host.
pub fn charts(w: &Watch, end: u64) -> Html {
    let mut h = Html::default();
    let all = [throughput(&w.series, end), trouble(&w.series), backlog(w), connections(&w.series)];
    for c in all.iter().filter(|c| !c.rows.is_empty()) {
        chart(&mut h, c, &w.series, end);
    }
    h
}

fn row(name: impl Into<String>, class: &'static str, draw: Draw, s: &Series, f: impl Fn(&Sample) -> f64) -> Row {
    Row { name: name.into(), class, draw, values: s.slots().iter().map(f).collect() }
}

fn throughput(s: &Series, end: u64) -> Chart {
    // The last slot is a short one: by its own length a single packet would be the highest peak of all.
    let length = if s.slots().len() > 1 { s.step() } else { end.clamp(1, s.step()) } as f64 / 1e9;
    let speed = |name: &str, class, f: fn(&Sample) -> u64| {
        let values = s.slots().iter().map(|v| f(v) as f64 * 8.0 / length).collect();
        Row { name: name.to_owned(), class, draw: Draw::Area, values }
    };
    Chart {
        title: "Throughput",
        caption:
            "IP octets that this host received and sent, lo included. Flat below what the link gives: look at rtt, \
                  cwnd and the limits of the connections below."
                .into(),
        rows: vec![speed("received", "c1", |v| v.rx_bytes), speed("sent", "c2", |v| v.tx_bytes)],
        limit: None,
        show: rate,
    }
}

fn whole(v: f64) -> String {
    count(v.round() as u64)
}

fn trouble(s: &Series) -> Chart {
    let rows: [(&str, &str, Count); 4] = [
        ("retransmitted", "c3", |v| v.retrans),
        ("turned away by a listener", "c4", |v| v.overflows),
        ("dropped in the host", "c5", |v| v.drops.saturating_sub(v.overflows)),
        ("taken by the link", "c6", |v| v.link),
    ];
    let moved = rows.iter().filter(|(.., f)| s.slots().iter().any(|v| f(v) > 0));
    let rows: Vec<Row> = moved.map(|(name, class, f)| row(*name, class, Draw::Bars, s, |v| f(v) as f64)).collect();
    Chart {
        title: "Retransmissions and drops",
        caption: format!(
            "Packets in each {}. Retransmissions without losses of the link or drops at the same time are spurious, or \
             answer to losses at the other end.",
            time(s.step())
        ),
        rows,
        limit: None,
        show: whole,
    }
}

fn backlog(w: &Watch) -> Chart {
    let mut tracked: Vec<(usize, &ListenerSeen)> = w.listeners.iter().filter_map(|l| Some((l.track?, l))).collect();
    tracked.sort_by_key(|t| t.0);
    let classes = ["c1", "c2", "c3", "c5", "c6", "c4"];
    let rows = tracked.iter().map(|(t, l)| {
        let class = classes.get(*t).copied().unwrap_or("c1");
        row(format!("{}:{}", l.addr, l.port), class, Draw::Level, &w.series, |v| {
            f64::from(v.backlog.get(*t).copied().unwrap_or(0))
        })
    });
    let deepest =
        tracked.iter().map(|(_, l)| l).max_by_key(|l| u64::from(l.peak_accept) * 1000 / u64::from(l.limit.max(1)));
    Chart {
        title: "Accept queues",
        caption:
            "Established connections that wait for accept(). A queue that stays at its limit means that the program \
                  accepts too slowly, whatever the limit."
                .into(),
        rows: rows.collect(),
        // One more than the limit is admitted.
        limit: deepest.map(|l| {
            (f64::from(l.limit) + 1.0, format!("{}:{} is full at {}", l.addr, l.port, u64::from(l.limit) + 1))
        }),
        show: whole,
    }
}

fn connections(s: &Series) -> Chart {
    let any = s.slots().iter().any(|v| v.established > 0 || v.opened > 0);
    let rows = [
        row("established", "c1", Draw::Level, s, |v| v.established as f64),
        row("opened", "c2", Draw::Bars, s, |v| v.opened as f64),
    ];
    Chart {
        title: "Connections",
        caption: format!(
            "Established at a time, and opened in each {} (a connection within the host counts at both ends).",
            time(s.step())
        ),
        rows: if any { rows.into() } else { Vec::new() },
        limit: None,
        show: whole,
    }
}

/// The next of 1, 2, 5, 10, 20, …
fn ceiling(v: f64) -> f64 {
    let v = v.max(1.0);
    let unit = 10f64.powf(v.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * unit).find(|c| *c >= v * 0.999).unwrap_or(v)
}

fn chart(h: &mut Html, c: &Chart, s: &Series, end: u64) {
    let top = c.rows.iter().flat_map(|r| &r.values).copied().fold(0.0, f64::max);
    // A limit far above everything would flatten the picture.
    let limit = c.limit.as_ref().filter(|l| l.0 <= top.max(1.0) * 3.0);
    let scale =
        Scale { end: end.max(1) as f64, step: s.step() as f64, top: ceiling(top.max(limit.map_or(0.0, |l| l.0))) };
    put!(h; "<figure class=\"chart\"><figcaption><h3>" {c.title} "</h3><ul class=\"key\">");
    for r in &c.rows {
        let most = r.values.iter().copied().fold(0.0, f64::max);
        put!(h; "<li class=\"" {r.class} "\"><i></i>" {&r.name} " <b>");
        match r.draw {
            Draw::Bars => put!(h; {(c.show)(r.values.iter().sum())} "</b> in all</li>"),
            _ => put!(h; {(c.show)(most)} "</b> at most</li>"),
        }
    }
    put!(h; "</ul></figcaption><div class=\"wide\"><svg class=\"plot\" viewBox=\"0 0 1040 150\" role=\"img\" aria-label=\"" {c.title} " over time\"");
    put!(h; " data-end=\"" {end} "\" data-step=\"" {s.step()} "\" data-rows=\"" {data(c)} "\">");
    axes(h, c, &scale);
    for r in &c.rows {
        values(h, r, &scale);
    }
    if let Some((v, name)) = limit {
        let (y, name_y) = (scale.y(*v), if scale.y(*v) < 26.0 { scale.y(*v) + 15.0 } else { scale.y(*v) - 5.0 });
        put!(h; "<line class=\"limit\" x1=\"" {LEFT} "\" x2=\"" {WIDTH - RIGHT} "\" y1=\"" {px(y)} "\" y2=\"" {px(y)} "\"/>");
        put!(h; "<text class=\"limit\" x=\"" {WIDTH - RIGHT} "\" y=\"" {px(name_y)} "\" text-anchor=\"end\">" {name} "</text>");
    }
    put!(h; "<line class=\"cursor\" y1=\"10\" y2=\"126\" x1=\"-9\" x2=\"-9\"/></svg></div><p class=\"note\">" {&c.caption} "</p></figure>\n");
}

/// What the cursor reads: JSON, as text of an attribute.
fn data(c: &Chart) -> String {
    let mut out = String::from("[");
    for (n, r) in c.rows.iter().enumerate() {
        let name: String = r.name.chars().filter(|c| !matches!(c, '"' | '\\')).collect();
        let unit = if c.title == "Throughput" { "bit/s" } else { "" };
        out.push_str(if n > 0 { "," } else { "" });
        out.push_str(&format!("[\"{name}\",\"{unit}\",["));
        let values: Vec<String> = r.values.iter().map(|v| format!("{v:.0}")).collect();
        out.push_str(&values.join(","));
        out.push_str("]]");
    }
    out.push(']');
    out
}

fn px(v: f64) -> String {
    format!("{v:.1}")
}

fn axes(h: &mut Html, c: &Chart, s: &Scale) {
    for part in [0.0, 0.5, 1.0] {
        let (v, y) = (s.top * part, s.y(s.top * part));
        put!(h; "<line class=\"grid\" x1=\"" {LEFT} "\" x2=\"" {WIDTH - RIGHT} "\" y1=\"" {px(y)} "\" y2=\"" {px(y)} "\"/>");
        // Half of a packet is none.
        if part != 0.5 || v.fract() == 0.0 || c.title == "Throughput" {
            put!(h; "<text x=\"" {LEFT - 8.0} "\" y=\"" {px(y + 4.0)} "\" text-anchor=\"end\">" {(c.show)(v)} "</text>");
        }
    }
    let seconds = s.end / 1e9;
    let step = tick(seconds);
    let mut t = 0.0;
    while t <= seconds * 1.0001 {
        let x = s.x(t * 1e9);
        put!(h; "<line class=\"grid\" x1=\"" {px(x)} "\" x2=\"" {px(x)} "\" y1=\"126\" y2=\"130\"/>");
        put!(h; "<text x=\"" {px(x)} "\" y=\"144\" text-anchor=\"middle\">" {moment(t)} "</text>");
        t += step;
    }
}

/// Seconds between two marks of the time axis: at most ten of them.
fn tick(seconds: f64) -> f64 {
    let steps =
        [1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];
    let longer = [600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14_400.0, 43_200.0, 86_400.0];
    steps.into_iter().chain(longer).find(|s| seconds / s <= 10.0).unwrap_or(seconds / 5.0).max(1e-6)
}

fn moment(s: f64) -> String {
    match s {
        0.0 => "0".to_owned(),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 120.0 => format!("{} s", (s * 100.0).round() / 100.0),
        s if s < 7200.0 => format!("{}:{:02} min", s.round() as u64 / 60, s.round() as u64 % 60),
        s => format!("{:.1} h", s / 3600.0).replace(".0 ", " "),
    }
}

fn values(h: &mut Html, r: &Row, s: &Scale) {
    match r.draw {
        Draw::Bars => bars(h, r, s),
        Draw::Area | Draw::Level => curve(h, r, s),
    }
}

fn bars(h: &mut Html, r: &Row, s: &Scale) {
    put!(h; "<path class=\"bars " {r.class} "\" d=\"");
    for (n, v) in r.values.iter().enumerate().filter(|(_, v)| **v > 0.0) {
        let (x0, x1) = (s.x(n as f64 * s.step), s.x((n + 1) as f64 * s.step));
        // Something that happened can be seen, however short the slot.
        let width = (x1 - x0 - 0.4).max(1.6);
        let y = s.y(*v).min(s.y(0.0) - 1.5);
        put!(h; "M" {px(x0)} " " {px(s.y(0.0))} "V" {px(y)} "h" {px(width)} "V" {px(s.y(0.0))} "z");
    }
    put!(h; "\"/>");
}

fn curve(h: &mut Html, r: &Row, s: &Scale) {
    let mut line = String::new();
    let mut last = f64::NAN;
    for (n, v) in r.values.iter().enumerate() {
        let (x0, x1) = (s.x(n as f64 * s.step), s.x((n + 1) as f64 * s.step));
        let y = s.y(*v);
        let letter = if n == 0 { 'M' } else { 'L' };
        match r.draw {
            // A level that does not change needs no point of its own.
            Draw::Level if n > 0 && *v == last && n + 1 < r.values.len() => {}
            Draw::Level => line.push_str(&if n == 0 {
                format!("M{} {}H{}", px(x0), px(y), px(x1))
            } else {
                format!("H{}V{}H{}", px(x0), px(y), px(x1))
            }),
            _ => line.push_str(&format!("{letter}{} {}", px((x0 + x1) / 2.0), px(y))),
        }
        last = *v;
    }
    if r.draw == Draw::Area && r.values.len() > 1 {
        let (first, end) = (s.x(s.step / 2.0), (r.values.len() as f64 - 0.5) * s.step);
        put!(h; "<path class=\"area " {r.class} "\" d=\"" {&line} "L" {px(s.x(end))} " " {px(s.y(0.0))} "H" {px(first)} "z\"/>");
    }
    put!(h; "<path class=\"line " {r.class} "\" d=\"" {&line} "\"/>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!([0.0, 1.0, 1.2, 4.0, 51.0, 999.0].map(ceiling), [1.0, 1.0, 2.0, 5.0, 100.0, 1000.0]);
        assert_eq!([0.05, 3.2, 95.0, 4000.0].map(tick), [5e-3, 0.5, 10.0, 600.0]);
        assert_eq!([0.0, 0.05, 1.5, 150.0, 7200.0].map(moment), ["0", "50 ms", "1.5 s", "2:30 min", "2 h"]);
    }

    #[test]
    fn a_level_is_drawn_with_the_points_it_needs() {
        let r = Row { name: String::new(), class: "c1", draw: Draw::Level, values: vec![0.0, 0.0, 5.0, 5.0, 5.0] };
        let mut h = Html::default();
        curve(&mut h, &r, &Scale { end: 5.0, step: 1.0, top: 5.0 });
        let d = h.into_string();
        assert_eq!(d.matches('V').count(), 2, "{d}");
    }
}
