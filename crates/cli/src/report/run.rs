//! The page about a `belljar run`.
use super::advice::advice;
use super::text::{count, date};
use super::{Far, HostPart, Page, html, quoted, time};
use crate::account::account;
use belljar_host::port::Kind;
use belljar_jar::{Ended, NetMode, Options};
use belljar_kernel::net::mib::Mib;

/// The command line as it was given.
pub fn command_line() -> String {
    let words: Vec<String> = std::env::args_os().skip(1).map(|a| quoted(&a.to_string_lossy())).collect();
    format!("belljar {}", words.join(" "))
}

/// The text of the file; `None` when the run was not watched.
pub fn page(o: &Options, ended: &Ended) -> Option<String> {
    let (w, k) = (ended.watch.as_deref()?, &ended.host);
    let (ns, _) = k.net.ns.iter().next()?;
    let from = w.series.start();
    let wall = k.net.env.wall_offset;
    let has_link = o.net != NetMode::None;
    let host = HostPart { name: "host", kernel: k, ns, watch: w, far: has_link.then(|| far(o, ended)) };
    let page = Page {
        title: format!("belljar run: {}", ended.name),
        command: command_line(),
        verdict: verdict(ended),
        facts: facts(o, ended, from.saturating_add(wall)),
        figures: Vec::new(),
        account: account(ended),
        advice: advice(k, ns, has_link.then_some(ended.link)),
        hosts: vec![host],
        from,
        until: from.saturating_add(ended.lasted),
        wall: Some(wall),
    };
    Some(html(&page))
}

fn verdict(e: &Ended) -> (String, bool) {
    let after = time(e.lasted);
    match e.code {
        0 => (format!("The program ended well, after {after}."), false),
        c if c > 128 => (format!("Signal {} ended the program, after {after} (exit code {c}).", signal(c - 128)), true),
        c => (format!("The program failed with exit code {c}, after {after}."), true),
    }
}

/// Number and name of a signal.
fn signal(n: u8) -> String {
    let names =
        [(1, "SIGHUP"), (2, "SIGINT"), (3, "SIGQUIT"), (6, "SIGABRT"), (8, "SIGFPE"), (9, "SIGKILL"), (11, "SIGSEGV")];
    let more = [(13, "SIGPIPE"), (14, "SIGALRM"), (15, "SIGTERM")];
    let name = names.into_iter().chain(more).find(|s| s.0 == n).map_or(String::new(), |s| format!(" ({})", s.1));
    format!("{n}{name}")
}

fn facts(o: &Options, e: &Ended, began: u64) -> Vec<(&'static str, String)> {
    let list = |all: Vec<String>| if all.is_empty() { "none".to_owned() } else { all.join(", ") };
    let pairs = |all: &[(String, String)]| list(all.iter().map(|(k, v)| format!("{k} = {v}")).collect());
    let net = match &o.net {
        NetMode::User => "through a gateway, with this machine's sockets".to_owned(),
        NetMode::None => "none, only lo".to_owned(),
        NetMode::Port(_, name) => format!("the machine's interface {name}"),
    };
    vec![
        ("began", date(began)),
        ("lasted", time(e.lasted)),
        ("seed (--seed repeats it)", e.seed.to_string()),
        ("network", net),
        ("address", format!("{}/{}, MTU {}", o.ip.0, o.ip.1, o.mtu)),
        ("conditions of the link", e.conditions.to_string()),
        ("settings given", pairs(&o.sysctls)),
        ("card", pairs(&o.nic)),
        ("published ports", list(o.publish.iter().map(ToString::to_string).collect())),
        ("calls served", count(e.calls)),
    ]
}

fn far(o: &Options, e: &Ended) -> Far {
    let packets = e.gateway.as_ref().and_then(|k| {
        let n = k.net.ns.iter().next()?.1;
        Some((n.mib.get(Mib::IpInReceives), n.mib.get(Mib::IpOutRequests)))
    });
    let (name, about) = match &o.net {
        NetMode::Port(Kind::Packet, name) => (name.clone(), "what the interface is connected to".to_owned()),
        NetMode::Port(_, name) => (name.clone(), "this machine's kernel".to_owned()),
        _ => ("gateway".to_owned(), "this machine's sockets".to_owned()),
    };
    Far { name, about, packets, link: e.link, conditions: e.conditions.to_string() }
}
