//! The page about a `belljar lab run`: every host, in virtual time.
use super::run::command_line;
use super::text::{bytes, count, rate};
use super::{Far, HostPart, Page, html, time};
use crate::account::kernels;
use belljar_lab::{Report, WatchedHost};

/// Hosts that have a part of their own; an experiment may have many more.
const MOST: usize = 8;

pub fn page(r: &Report) -> String {
    let shown: Vec<&WatchedHost> = r.hosts.iter().take(MOST).collect();
    let mut account: Vec<String> = Vec::new();
    for (n, h) in shown.iter().enumerate() {
        // A link is told once.
        let link = if n == 0 { h.link } else { Default::default() };
        account.extend(kernels(&h.kernel, None, link).into_iter().map(|l| format!("{}: {l}", h.name)));
    }
    let verdict = match &r.failure {
        None => (format!("The experiment did as expected, in {} of virtual time.", time(r.virtual_ns)), false),
        Some(f) => (format!("Failed: {f}"), true),
    };
    let mut facts = vec![
        ("experiment", r.name.clone()),
        ("seed", r.seed.to_string()),
        ("again", r.replay.clone()),
        ("virtual time", time(r.virtual_ns)),
        ("steps", count(r.steps)),
        ("digest of the trace", r.fingerprint.digest.to_string()),
    ];
    if r.hosts.len() > MOST {
        facts.push(("hosts", format!("{}, the first {MOST} below", r.hosts.len())));
    }
    let figures = r.figures.iter().map(|(name, v, unit)| ((*name).replace('_', " "), figure(*v, unit)));
    let page = Page {
        title: format!("belljar lab: {}", r.name),
        command: command_line(),
        verdict,
        facts,
        figures: figures.collect(),
        account,
        advice: Vec::new(),
        hosts: shown.into_iter().map(part).collect(),
        from: 0,
        until: r.virtual_ns,
        wall: None,
    };
    html(&page)
}

fn figure(v: f64, unit: &str) -> String {
    match unit {
        "bit/s" => rate(v),
        "B" => bytes(v as u64),
        _ if v.fract() == 0.0 => format!("{} {unit}", count(v as u64)),
        _ => format!("{v:.3} {unit}"),
    }
}

fn part(h: &WatchedHost) -> HostPart<'_> {
    let far = Far {
        name: "the other end".to_owned(),
        about: "another host".to_owned(),
        packets: None,
        link: h.link,
        conditions: h.conditions.to_string(),
    };
    HostPart { name: &h.name, kernel: &h.kernel, ns: h.ns, watch: &h.watch, far: Some(far) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use belljar_lab::RunOptions;

    #[test]
    fn watching_changes_nothing_and_every_host_is_shown() {
        let run = |watch| {
            let set = vec![("size".to_owned(), "300KB".to_owned()), ("loss".to_owned(), "5%".to_owned())];
            belljar_lab::run("transfer", RunOptions { seed: 3, set, watch, ..RunOptions::default() }).unwrap()
        };
        let (seen, unseen) = (run(true), run(false));
        assert_eq!((seen.fingerprint.clone(), unseen.hosts.len()), (unseen.fingerprint, 0));
        let page = page(&seen);
        for text in [
            "<h2 class=\"host\">client</h2>",
            "<h2 class=\"host\">server</h2>",
            "client: retransmitted",
            "10.0.0.2:5001",
        ] {
            assert!(page.contains(text), "{text}");
        }
    }
}
