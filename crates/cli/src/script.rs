//! `belljar script`: packetdrill-like scripts, one file or many.
use crate::out::{self, Done, Fail, Paint, USAGE, map};
use belljar_kernel::view::Value;
use belljar_script::{Outcome, Report};
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
#[command(after_help = "\
A script is lines of a time and what happens then: a system call with its result, a packet into
the kernel (<) or out of it (>), a setting, an assertion. docs/script.md describes the language.

  0.000 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
  +0    bind(3, ..., ...) = 0
  +0    listen(3, 1) = 0
  +0    sysctl net.ipv4.tcp_sack = 0
  0.100 < S 0:0(0) win 32792 <mss 1000,sackOK,nop,nop,nop,wscale 7>
  +0    > S. 0:0(0) ack 1 <...>
  +0.1  < . 1:1(0) ack 1 win 257
  +0    accept(3, ..., ...) = 4
  +0    tcp_info(4) { state == ESTABLISHED, cwnd == 10 }
  +0...0.5 read(4, ..., 100) = 10      a call that sleeps, with the time of its end
  +0.5  < P. 1:11(10) ack 1 win 257
  +0~+0.04 > . 1:1(0) ack 11           a packet within a range of time; * is any time
  +0    < [2001:db8::1]:5 > [fd00::1]:7 udp (10)      with --ip_version=ipv6 in the first line
  +1    > none                         nothing is sent up to here

A script marked `# deviation: REASON` in its first five lines has to fail.

Exit codes: 0 every script went as it should, 1 an expectation failed, 2 a file is no script.

Examples: belljar script handshake.pkt
          belljar script -v conformance/rto/*.pkt
          belljar script -j retransmit.pkt")]
pub struct ScriptCommand {
    /// The scripts; a directory stands for every .pkt file below it
    #[arg(value_name = "FILE.pkt", required = true)]
    pub files: Vec<PathBuf>,
    /// Show the trace of scripts that pass as well
    #[arg(short, long)]
    pub verbose: bool,
    /// JSON, one line per script
    #[arg(short, long)]
    pub json: bool,
}

pub fn run(c: &ScriptCommand, paint: Paint) -> Done {
    let files = expand(&c.files)?;
    let (mut failed, mut code) = (0usize, 0u8);
    for path in &files {
        let name = path.display().to_string();
        let text = out::text_of(path)?;
        let r = belljar_script::check(&name, &text);
        let as_it_should = r.as_it_should();
        failed += usize::from(!as_it_should);
        let mine = match (&r.outcome, as_it_should) {
            (Outcome::Unreadable(_), _) => USAGE,
            (_, false) => 1,
            (_, true) => 0,
        };
        code = code.max(mine);
        out::print(&if c.json { out::json(&value(&r)) } else { show(&r, c.verbose, paint) })?;
    }
    if files.len() > 1 && !c.json {
        out::print(&format!("{} passed, {failed} failed\n", files.len() - failed))?;
    }
    Ok(code)
}

/// Directories as the scripts below them, in order of their names.
fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Fail> {
    let mut all = Vec::new();
    for p in paths {
        if p.is_dir() {
            let before = all.len();
            below(p, &mut all)?;
            if all.len() == before {
                return Err(Fail::usage(format!("{}: no .pkt file is below this directory", p.display())));
            }
        } else {
            all.push(p.clone());
        }
    }
    Ok(all)
}

fn below(dir: &Path, all: &mut Vec<PathBuf>) -> Result<(), Fail> {
    let entries = std::fs::read_dir(dir).map_err(|e| Fail::usage(format!("{}: {e}", dir.display())))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    for p in paths {
        if p.is_dir() {
            below(&p, all)?;
        } else if p.extension().is_some_and(|e| e == "pkt") {
            all.push(p);
        }
    }
    Ok(())
}

fn show(r: &Report, verbose: bool, paint: Paint) -> String {
    let seconds = format!("{}.{:06} s", r.virtual_ns / 1_000_000_000, r.virtual_ns / 1000 % 1_000_000);
    let mut text = match (&r.outcome, &r.deviation) {
        (Outcome::Passed, None) => format!("{} {} ({} events, {seconds})\n", paint.green("ok"), r.name, r.events),
        (Outcome::Passed, Some(why)) => {
            format!("{} {}: it passes, but is marked as a deviation: {why}\n", paint.red("FAIL"), r.name)
        }
        (Outcome::Failed(p), Some(why)) => {
            format!("{} {}: a known deviation: {why} (line {})\n", paint.yellow("ok"), r.name, p.place(&r.text).0)
        }
        (Outcome::Failed(_) | Outcome::Unreadable(_), _) => format!("{} {}\n", paint.red("FAIL"), r.name),
    };
    if !r.as_it_should() {
        text.push_str(&r.explain().unwrap_or_default());
    } else if verbose {
        r.trace.iter().for_each(|l| text.push_str(&format!("    {l}\n")));
    }
    text
}

fn value(r: &Report) -> Value {
    let text = |s: &str| Value::Text(s.to_owned());
    let outcome = match r.outcome {
        Outcome::Passed => "passed",
        Outcome::Failed(_) => "failed",
        Outcome::Unreadable(_) => "unreadable",
    };
    let (line, column) = r.place().unzip();
    let number = |n: Option<usize>| n.map_or(Value::Null, |n| Value::Uint(n as u64));
    map([
        ("name", text(&r.name)),
        ("ok", Value::Bool(r.as_it_should())),
        ("outcome", text(outcome)),
        ("deviation", r.deviation.as_deref().map_or(Value::Null, text)),
        ("line", number(line)),
        ("column", number(column)),
        ("message", r.problem().map_or(Value::Null, |p| text(&p.what))),
        ("explanation", r.explain().map_or(Value::Null, |e| text(&e))),
        ("events", Value::Uint(r.events as u64)),
        ("virtual_ns", Value::Uint(r.virtual_ns)),
        ("trace", Value::List(r.trace.iter().map(|l| text(l)).collect())),
    ])
}
