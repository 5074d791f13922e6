//! `belljar cable`: belljar's link between two TAP devices of this machine, in real time, so that two namespaces see
//! exactly what two hosts of the lab see. Hidden: `cargo xtask goodput` starts it, as root.
use crate::out::{self, Done, Fail};
use belljar_host::port::Port;
use belljar_host::{clock, epoll, process};
use belljar_link::{Course, Link, Stats};
use clap::Args;
use std::io;

#[derive(Args, Debug)]
pub struct CableCommand {
    /// The two interfaces, which are made
    #[arg(value_names = ["TAP", "TAP"], num_args = 2)]
    pub taps: Vec<String>,
    /// Conditions; at TIME conditions; back conditions
    #[arg(long, default_value = "")]
    pub link: String,
    /// Seed of the link
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How long it lives
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
}

const SEC: u64 = 1_000_000_000;
/// Counted as late.
const LATE_NS: u64 = 2_000_000;

/// How well it kept time.
#[derive(Clone, Copy, Debug, Default)]
struct Punctual {
    frames: u64,
    worst_ns: u64,
    sum_ns: u64,
    late: u64,
    /// Not taken by this machine.
    refused: u64,
}

pub fn run(c: &CableCommand) -> Done {
    let course = Course::parse(&c.link).map_err(|e| Fail::usage(&e))?;
    let [a, b] = &c.taps[..] else { return Err(Fail::usage("two interfaces")) };
    let open = |name: &String| Port::open_plain(name).map_err(|e| Fail::new(format!("{name}: {e}")).code(125));
    let taps = [open(a)?, open(b)?];
    let real_time = process::real_time(10).is_ok();
    out::print("ready\n")?;
    let mut link = Link::new(c.seed);
    let p = carry(taps, &mut link, course, c.seconds * SEC).map_err(|e| Fail::new(e.to_string()).code(125))?;
    out::print(&summary(p, link.ab.stats(), link.ba.stats(), real_time))?;
    Ok(0)
}

/// Until the end of the time, which begins with the first frame.
fn carry(mut taps: [Port; 2], link: &mut Link, mut course: Course, ns: u64) -> io::Result<Punctual> {
    let (mut ep, mut ready, mut p) = (epoll::Epoll::new()?, Vec::new(), Punctual::default());
    for (key, tap) in taps.iter().enumerate() {
        for queue in tap.queues() {
            ep.add(queue, epoll::IN, key as u64)?;
        }
    }
    let opened = clock::monotonic_ns();
    let mut begin: Option<u64> = None;
    loop {
        let now = begin.map_or(0, |t| clock::monotonic_ns() - t);
        course.follow(link, now);
        for (end, tap) in taps.iter_mut().enumerate() {
            while let Some(frame) = tap.recv()? {
                let t = clock::monotonic_ns();
                let at = t - *begin.get_or_insert(t);
                if end == 0 { link.ab.push(at, frame) } else { link.ba.push(at, frame) }
            }
        }
        let [a, b] = &mut taps;
        for (pipe, tap) in [(&mut link.ab, b), (&mut link.ba, a)] {
            while let (Some(begin), Some(due)) = (begin, pipe.next_deadline()) {
                let now = clock::monotonic_ns() - begin;
                let Some(frame) = pipe.pop(now) else { break };
                let late = now.saturating_sub(due);
                p.frames += 1;
                p.worst_ns = p.worst_ns.max(late);
                p.sum_ns += late;
                p.late += u64::from(late > LATE_NS);
                p.refused += u64::from(!tap.send(frame)?);
            }
        }
        let now = clock::monotonic_ns();
        let until = begin.map_or(opened + 10 * SEC, |t| t + ns);
        if now >= until {
            return Ok(p);
        }
        let due = link.next_deadline().into_iter().chain(course.next_change()).min();
        let next = begin.zip(due).map_or(until, |(t, due)| until.min(t + due));
        ep.wait(Some(next.saturating_sub(now)), &mut ready)?;
    }
}

fn summary(p: Punctual, ab: Stats, ba: Stats, real_time: bool) -> String {
    let value = serde_json::json!({
        "real_time": real_time,
        "frames": p.frames,
        "worst_late_us": p.worst_ns / 1000,
        "mean_late_us": p.sum_ns / p.frames.max(1) / 1000,
        "late": p.late,
        "refused": p.refused,
        "sent": ab.sent, "lost": ab.lost, "overlimit": ab.overlimit, "policed": ab.policed, "reordered": ab.reordered,
        "back_sent": ba.sent, "back_lost": ba.lost, "back_overlimit": ba.overlimit,
    });
    format!("{value}\n")
}
