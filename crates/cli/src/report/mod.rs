//! `--report`: a run as one HTML page that explains itself to somebody who was not there. No part of it is fetched from
//! anywhere; without scripts only the cursor in the charts is missing.
mod advice;
mod chart;
mod file;
mod lab;
mod path;
mod run;
mod tables;
mod text;

pub use file::Target;
pub use lab::page as of_lab;
pub use path::Far;
pub use run::page as of_run;
pub use text::{quoted, time};

use belljar_capture::watch::Watch;
use belljar_kernel::Kernel;
use belljar_kernel::ids::NsId;
use text::{Html, put};

/// A host of the run with everything that was gathered about it.
#[derive(Debug)]
pub struct HostPart<'a> {
    pub name: &'a str,
    pub kernel: &'a Kernel,
    pub ns: NsId,
    pub watch: &'a Watch,
    pub far: Option<Far>,
}

/// See the module.
#[derive(Debug)]
pub struct Page<'a> {
    /// What it is about, in a few words.
    pub title: String,
    pub command: String,
    /// How it ended; whether that is bad.
    pub verdict: (String, bool),
    pub facts: Vec<(&'static str, String)>,
    /// Results of an experiment.
    pub figures: Vec<(String, String)>,
    /// Lines of the account, and what one could do about them.
    pub account: Vec<String>,
    pub advice: Vec<String>,
    pub hosts: Vec<HostPart<'a>>,
    /// Time of the kernels' clock at the start and the end.
    pub from: u64,
    pub until: u64,
    /// What to add to it for the time since 1970; none in virtual time.
    pub wall: Option<u64>,
}

pub fn html(p: &Page<'_>) -> String {
    let mut h = Html::default();
    put!(h; "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
        <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
        <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\
        <meta name=\"generator\" content=\"belljar " {env!("CARGO_PKG_VERSION")} "\"><title>" {&p.title} "</title><style>");
    h.raw(include_str!("style.css"));
    h.raw("</style></head><body><main>\n");
    head(&mut h, p);
    account(&mut h, p);
    for host in &p.hosts {
        if p.hosts.len() > 1 {
            put!(h; "<h2 class=\"host\">" {host.name} "</h2>");
        }
        one_host(&mut h, p, host);
    }
    put!(h; "<footer>Written by belljar " {env!("CARGO_PKG_VERSION")} ". Names of counters, settings and drop reasons are Linux's: \
        what is found here is found under the same name on a machine in production.</footer></main><script>");
    h.raw(include_str!("page.js"));
    h.raw("</script></body></html>\n");
    h.into_string()
}

fn head(h: &mut Html, p: &Page<'_>) {
    put!(h; "<header><p class=\"kind\">" {&p.title} "</p><h1><code>" {&p.command} "</code></h1>");
    h.raw(if p.verdict.1 { "<p class=\"verdict hurt\">" } else { "<p class=\"verdict\">" });
    put!(h; {&p.verdict.0} "</p><dl class=\"facts\">");
    let figures = p.figures.iter().map(|(name, value)| (name.as_str(), value));
    for (name, value) in p.facts.iter().map(|(name, value)| (*name, value)).chain(figures) {
        put!(h; "<div><dt>" {name} "</dt><dd>" {value} "</dd></div>");
    }
    h.raw("</dl></header>\n");
}

fn items(h: &mut Html, lines: &[String]) {
    for l in lines {
        h.raw("<li>");
        words(h, l);
        h.raw("</li>");
    }
    h.raw("</ul>");
}

fn account(h: &mut Html, p: &Page<'_>) {
    let mut body = Html::default();
    if p.account.is_empty() {
        body.raw("<p class=\"quiet\">No queue overflowed, nothing was retransmitted, no packet was lost.</p>");
    } else {
        body.raw("<ul class=\"account\">");
        items(&mut body, &p.account);
    }
    if !p.advice.is_empty() {
        body.raw("<h3>What to do next</h3><ul class=\"advice\">");
        items(&mut body, &p.advice);
    }
    tables::section(
        h,
        "What happened",
        "The account of the run: queues that overflowed, retransmissions, drops, in the order of the stack.",
        body,
    );
}

/// Text in which names of settings and options stand out.
fn words(h: &mut Html, text: &str) {
    for (n, word) in text.split(' ').enumerate() {
        h.raw(if n > 0 { " " } else { "" });
        let core = word.trim_matches(|c: char| "(),;:".contains(c));
        let special = ["net.", "fs.", "--"].iter().any(|p| core.starts_with(p) && core.len() > p.len());
        match word.split_once(core).filter(|_| special) {
            Some((before, after)) => put!(h; {before} "<code>" {core} "</code>" {after}),
            None => h.text(word),
        }
    }
}

fn one_host(h: &mut Html, p: &Page<'_>, host: &HostPart<'_>) {
    let (k, ns, w) = (host.kernel, host.ns, host.watch);
    tables::section(
        h,
        "The path",
        "From the program's sockets outwards and back. Each stage counts in its own way: a segment of TCP can be many packets on the \
         link, and what goes over lo never reaches the card. Packets that ended stand under the stage where they did, with the kernel's reason.",
        path::picture(k, ns, host.far.as_ref()),
    );
    tables::section(
        h,
        "Over time",
        "Seconds since the start. Point at a chart to read its values; all charts show the same moment.",
        chart::charts(w, p.until.saturating_sub(p.from)),
    );
    if !w.listeners.is_empty() {
        let caption = "Waiting and half open are the highest that the samples saw. A listener admits one connection more than its limit, \
                       which is the smaller of listen()'s backlog and net.core.somaxconn.";
        tables::section(h, "Listeners", caption, tables::listeners(w, k, ns));
    }
    let conns = w.conns.all();
    if !conns.is_empty() {
        let caption = "Those that moved most bytes and those that repeated most segments, as they were last seen, from TCP_INFO. Held up by: \
                       share of the busy time in which the peer's window or the send buffer, not the network, was the limit.";
        tables::section(h, "Connections", caption, tables::connections(&conns));
    }
    let changed = tables::changed(k, ns);
    if !changed.is_empty() {
        let mut body = Html::default();
        body.raw("<table><thead><tr><th>Setting<th class=\"r\">value<th class=\"r\">default</thead><tbody>");
        for (key, value, default) in changed {
            put!(body; "<tr><td class=\"m\">" {key} "<td class=\"r m\">" {value} "<td class=\"r m\">" {default});
        }
        body.raw("</tbody></table>");
        tables::section(h, "Settings changed", "Not as on a fresh Linux; as they were when the run ended.", body);
    }
    let wall = p.wall;
    tables::section(
        h,
        "Timeline",
        "The same thing again within ten seconds is counted on its line.",
        tables::timeline(w, p.from, wall),
    );
    if k.net.pool.drops().next().is_some() {
        tables::section(h, "Why packets ended", "Every reason, the ordinary ones last.", tables::drops(k));
    }
    tables::section(h, "Counters", "Those that moved, by the names that nstat gives them.", tables::counters(k, ns));
}
