//! Side by side: belljar, the host's kernel, smoltcp, slirp4netns. See README.md for the method.
//!
//! Every sample runs in a process of its own (this program again, with `--sample ROW SIDE`), so that no side inherits
//! another's heap, connections or warm caches, and the sides of a row take turns: A-B-C-A-B-C. What is printed are the
//! medians, and the ratios of medians from one run; absolute numbers of different runs are not comparable.
#![forbid(unsafe_code)]

mod belljar;
mod forward;
mod linux;
mod machine;
mod programs;
mod smol;
mod tap;

use anyhow::{Result, bail};
use serde_json::{Map, Value};
use std::process::{Command, ExitCode};

/// One row: its name is part of the interface, so it never changes its meaning.
struct Row {
    name: &'static str,
    unit: &'static str,
    higher: bool,
    rounds: usize,
    sides: &'static [&'static str],
}

const fn row(name: &'static str, unit: &'static str, higher: bool, sides: &'static [&'static str]) -> Row {
    Row { name, unit, higher, rounds: 5, sides }
}

const fn program(name: &'static str, unit: &'static str, higher: bool, sides: &'static [&'static str]) -> Row {
    Row { name, unit, higher, rounds: 3, sides }
}

const ROWS: &[Row] = &[
    row("tcp_bulk_64k", "Gbit/s", true, &["belljar", "linux", "smoltcp"]),
    row("tcp_rr_1b", "us", false, &["belljar", "linux", "linux_one_core", "smoltcp"]),
    row("tcp_rr_64b", "us", false, &["belljar", "linux", "linux_one_core", "smoltcp"]),
    row("tcp_rr_1b_idle10k", "us", false, &["belljar", "linux", "smoltcp"]),
    row("tcp_rr_1b_idle1m", "us", false, &["belljar"]),
    row("tcp_crr", "conn/s", true, &["belljar", "linux", "smoltcp"]),
    row("tcp_send_64b", "sends/s", true, &["belljar", "linux"]),
    row("udp_64b", "packets/s", true, &["belljar", "linux"]),
    row("udp_forward", "packets/s", true, &["belljar"]),
    row("udp_gso_64k", "Gbit/s", true, &["belljar", "linux"]),
    row("tap_bulk", "Gbit/s", true, &["belljar", "linux", "smoltcp"]),
    row("epoll_add", "ns", false, &["belljar", "linux"]),
    row("epoll_mod", "ns", false, &["belljar", "linux"]),
    row("epoll_wait_empty", "ns", false, &["belljar", "linux"]),
    row("sock_idle_bytes", "bytes", false, &["belljar", "linux", "smoltcp"]),
    row("tw_bytes", "bytes", false, &["belljar", "linux"]),
    row("lab_pps", "packets/s", true, &["belljar"]),
    program("run_start_ms", "ms", false, &["belljar", "linux"]),
    program("run_http_keepalive", "req/s", true, &["belljar", "linux"]),
    program("run_http_close", "req/s", true, &["belljar", "linux"]),
    program("run_redis", "req/s", true, &["belljar", "linux"]),
    program("run_redis_p16", "req/s", true, &["belljar", "linux"]),
    program("run_iperf3", "Gbit/s", true, &["belljar", "linux"]),
    program("publish_bulk", "Gbit/s", true, &["belljar", "slirp", "linux"]),
    program("publish_conn", "conn/s", true, &["belljar", "slirp", "linux"]),
    program("publish_conn_10s", "conn/s", true, &["belljar", "slirp", "linux"]),
];

const HELP: &str = "\
cargo run --release --manifest-path bench/Cargo.toml -- [--only NAME]... [--rounds N] [--json] [--list]

--only NAME   rows whose name begins with NAME; may be given several times
--rounds N    samples per side (5, programs 3); the median is printed
--json        one JSON object per line instead of the table";

#[derive(Default)]
struct Options {
    only: Vec<String>,
    rounds: Option<usize>,
    json: bool,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(e) => {
            eprintln!("bench: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let mut options = Options::default();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| anyhow::anyhow!("{arg} wants a value"));
        match arg.as_str() {
            "--only" => options.only.push(value()?),
            "--rounds" => options.rounds = Some(value()?.parse()?),
            "--json" => options.json = true,
            "--list" => {
                ROWS.iter().for_each(|r| println!("{}", r.name));
                return Ok(ExitCode::SUCCESS);
            }
            "--sample" => {
                let (name, side) = (value()?, value()?);
                println!("{}", sample(&name, &side)?);
                return Ok(ExitCode::SUCCESS);
            }
            "-h" | "--help" => {
                println!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            other => bail!("there is no option `{other}`\n{HELP}"),
        }
    }
    let rows: Vec<&Row> = ROWS.iter().filter(|r| chosen(&options, r.name)).collect();
    if rows.is_empty() {
        bail!("no row begins with {:?}; --list names them", options.only);
    }
    if rows.iter().any(|r| programs::ROWS.contains(&r.name)) {
        programs::build()?;
    }
    if !options.json {
        println!("{:<20} {:>10}  {:>12}  {:>22} {:>22} {:>22}", "row", "unit", "belljar", "linux", "", "smoltcp/slirp");
    }
    let mut failed = 0;
    for row in rows {
        let result = measure(row, options.rounds.unwrap_or(row.rounds));
        failed += usize::from(result.errors > 0);
        if options.json { println!("{}", json(row, &result)) } else { println!("{}", line(row, &result)) }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn chosen(options: &Options, name: &str) -> bool {
    options.only.is_empty() || options.only.iter().any(|o| name.starts_with(o.as_str()))
}

/// One sample of one side, in this process.
fn sample(name: &str, side: &str) -> Result<f64> {
    if programs::ROWS.contains(&name) {
        return programs::sample(name, side);
    }
    if name == "tap_bulk" {
        return tap::sample(side);
    }
    match side {
        "belljar" => belljar::sample(name),
        "linux" => linux::sample(name, false),
        "linux_one_core" => linux::sample(name, true),
        "smoltcp" => smol::sample(name),
        _ => bail!("there is no side {side}"),
    }
}

#[derive(Default)]
struct Measured {
    /// (side, samples) in the row's order; a side that cannot run here has none.
    sides: Vec<(&'static str, Vec<f64>)>,
    errors: usize,
}

fn measure(row: &Row, rounds: usize) -> Measured {
    let mut m = Measured { sides: row.sides.iter().map(|s| (*s, Vec::new())).collect(), errors: 0 };
    for _ in 0..rounds {
        for (side, samples) in &mut m.sides {
            match in_child(row.name, side) {
                Ok(v) => samples.push(v),
                Err(e) => {
                    eprintln!("bench: {} {side}: {e:#}", row.name);
                    // A peer that is not installed is no failure of ours.
                    m.errors += usize::from(*side == "belljar");
                }
            }
        }
    }
    m
}

fn in_child(name: &str, side: &str) -> Result<f64> {
    let limit = if programs::ROWS.contains(&name) { "60" } else { "40" };
    let mut c = Command::new("timeout");
    c.args(["--kill-after=5", limit]);
    if let Some(network) = own_network(name).filter(|_| (side == "linux" || name == "tap_bulk") && may_have_networks())
    {
        c.args(["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-ec"]);
        c.arg(format!("{network}\nexec \"$0\" \"$@\""));
    }
    let out = c.arg(std::env::current_exe()?).args(["--sample", name, side]).output()?;
    let text = String::from_utf8_lossy(&out.stdout);
    let number = text.lines().last().and_then(|l| l.trim().parse::<f64>().ok());
    match number.filter(|_| out.status.success()) {
        Some(v) => Ok(v),
        None if out.status.code() == Some(124) => bail!("took longer than {limit} s"),
        None => bail!("{}", String::from_utf8_lossy(&out.stderr).trim().trim_start_matches("bench: ")),
    }
}

/// The shell lines that make the network of its own that a row needs.
fn own_network(name: &str) -> Option<&'static str> {
    match name {
        // TIME_WAIT sockets of the last round are still there, and their number is bounded.
        "tcp_crr" | "tw_bytes" => Some("ip link set lo up"),
        "tap_bulk" => Some(tap::NETWORK),
        _ => None,
    }
}

/// Whether this user may have a network namespace.
fn may_have_networks() -> bool {
    let out =
        Command::new("unshare").args(["--user", "--map-root-user", "--net", "ip", "link", "set", "lo", "up"]).output();
    out.is_ok_and(|o| o.status.success())
}

fn median(samples: &[f64]) -> Option<f64> {
    let mut v = samples.to_vec();
    v.sort_by(f64::total_cmp);
    let mid = v.len() / 2;
    match v.len() {
        0 => None,
        n if n % 2 == 1 => v.get(mid).copied(),
        _ => Some((v.get(mid - 1)? + v.get(mid)?) / 2.0),
    }
}

fn json(row: &Row, m: &Measured) -> Value {
    let mut o = Map::new();
    o.insert("name".into(), row.name.into());
    o.insert("unit".into(), row.unit.into());
    o.insert("better".into(), if row.higher { "higher" } else { "lower" }.into());
    for (side, samples) in &m.sides {
        o.insert((*side).into(), median(samples).map_or(Value::Null, |v| significant(v).into()));
    }
    let rounds = m.sides.iter().map(|s| s.1.len()).max().unwrap_or(0);
    o.insert("rounds".into(), rounds.into());
    Value::Object(o)
}

/// Four digits are more than such a machine repeats.
fn significant(v: f64) -> f64 {
    if v == 0.0 || !v.is_finite() {
        return v;
    }
    let scale = 10_f64.powf(3.0 - v.abs().log10().floor());
    (v * scale).round() / scale
}

fn line(row: &Row, m: &Measured) -> String {
    let ours = m.sides.first().and_then(|(_, s)| median(s));
    let mut text = format!("{:<20} {:>10}  {:>12}", row.name, row.unit, ours.map_or("-".into(), short));
    for (side, samples) in m.sides.iter().skip(1) {
        let theirs = median(samples);
        let ratio = match (ours, theirs) {
            // Always "how many times better we are".
            (Some(a), Some(b)) if row.higher => format!("{:.2}x", a / b),
            (Some(a), Some(b)) => format!("{:.2}x", b / a),
            _ => "-".into(),
        };
        text += &format!("  {side} {} ({ratio})", theirs.map_or("-".into(), short));
    }
    text
}

fn short(v: f64) -> String {
    match v.abs() {
        a if a >= 1e6 => format!("{:.2} M", v / 1e6),
        a if a >= 1e4 => format!("{:.1} k", v / 1e3),
        a if a >= 100.0 => format!("{v:.0}"),
        _ => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_digits() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        assert_eq!(significant(123_456.0), 123_500.0);
        assert_eq!(significant(0.012_345_6), 0.01235);
    }
}
