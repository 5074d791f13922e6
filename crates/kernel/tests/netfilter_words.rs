//! The words of iptables against what the tools of version 1.8.9 (legacy) print and say: recorded from them, line by line.
mod common;
use belljar_kernel::net::netfilter::Pf;
use belljar_kernel::net::netfilter::rules::TableName;
use belljar_kernel::net::netfilter::words::{Names, Output};
use common::*;
use std::fmt::Write;

/// The services that the recordings name.
struct Services;

const SERVICES: [(u16, &str); 5] = [(80, "http"), (22, "ssh"), (53, "domain"), (443, "https"), (2000, "cisco-sccp")];

impl Names for Services {
    fn service(&self, port: u16, _: &str) -> Option<String> {
        SERVICES.iter().find(|s| s.0 == port).map(|s| s.1.to_owned())
    }
    fn port(&self, name: &str, _: &str) -> Option<u16> {
        SERVICES.iter().find(|s| s.1 == name).map(|s| s.0)
    }
}

/// A line as a shell takes it apart.
fn words(line: &str) -> Vec<String> {
    let (mut out, mut word, mut quote, mut any) = (vec![], String::new(), false, false);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.extend(chars.next()),
            '"' => (quote, any) = (!quote, true),
            ' ' if !quote => {
                if any || !word.is_empty() {
                    out.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => word.push(c),
        }
    }
    if any || !word.is_empty() {
        out.push(word);
    }
    out
}

fn run(h: &mut Host, pf: Pf, line: &str) -> Output {
    let words = words(line);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    h.k.iptables(h.ns, pf, &words, &Services)
}

fn lists(h: &mut Host, pf: Pf) -> String {
    let mut got = String::new();
    for t in ["filter", "nat", "mangle", "raw", "security"] {
        for (head, options) in [("-S", "-S"), ("-L", "-L"), ("-nL", "-nL"), ("-vnxL", "-L -v -n -x --line-numbers")] {
            writeln!(got, "== {t} {head}").unwrap();
            got += &run(h, pf, &format!("-t {t} {options}")).stdout;
        }
    }
    got
}

fn same(got: &str, want: &str) {
    for (n, (g, w)) in got.lines().zip(want.lines()).enumerate() {
        assert_eq!(g, w, "line {}", n + 1);
    }
    assert_eq!(got.lines().count(), want.lines().count());
}

fn listed(pf: Pf, rules: &str, want: &str) {
    let mut h = Host::new();
    for line in rules.lines() {
        let o = run(&mut h, pf, line);
        if o.code != 0 {
            // As there: one option is missing, one type of address is not of IPv6.
            let refused = line.ends_with("--every 3") || (pf == Pf::V6 && line.contains("BROADCAST"));
            assert!(refused, "{line}: {}", o.stderr);
        }
    }
    let got = lists(&mut h, pf);
    let (want, saved) = want.split_once("== save\n").unwrap();
    same(&got, want);
    // The tool writes the tables in the order in which the kernel lists them; we in our own.
    let save = |h: &Host, t| h.k.clone().iptables_save(h.ns, pf, Some(t), false);
    for t in TableName::ALL {
        let part = saved.split("*").find(|p| p.starts_with(&format!("{}\n", t.name()))).unwrap();
        same(save(&h, t).trim_start_matches('*'), part);
    }
    // What is saved, restored and saved again is the same.
    let text: String = TableName::ALL.into_iter().map(|t| save(&h, t)).collect();
    let mut again = Host::new();
    let o = again.k.iptables_restore(again.ns, pf, &[], &text, &Services);
    assert_eq!(o, Output::default());
    let back: String = TableName::ALL.into_iter().map(|t| save(&again, t)).collect();
    assert_eq!(back, text);
}

#[test]
fn rules_are_listed_as_the_tool_lists_them() {
    listed(Pf::V4, include_str!("iptables/rules4.txt"), include_str!("iptables/listed4.txt"));
}

#[test]
fn of_ipv6_too() {
    listed(Pf::V6, include_str!("iptables/rules6.txt"), include_str!("iptables/listed6.txt"));
}

/// Matches and targets beyond the everyday ones.
#[test]
fn so_are_those_of_extensions() {
    listed(Pf::V4, include_str!("iptables/xt4.txt"), include_str!("iptables/xt_listed4.txt"));
    listed(Pf::V6, include_str!("iptables/xt6.txt"), include_str!("iptables/xt_listed6.txt"));
}

/// Commands with what they wrote and the exit code: `rc=CODE [COMMAND]` behind each.
#[test]
fn it_says_what_the_tool_says() {
    let mut h = Host::new();
    let mut want = String::new();
    for line in include_str!("iptables/said4.txt").lines() {
        let Some((code, command)) = line.strip_prefix("rc=").and_then(|l| l.split_once(" [")) else {
            want += line;
            want.push('\n');
            continue;
        };
        let command = command.strip_suffix(']').unwrap();
        let o = run(&mut h, Pf::V4, command);
        assert_eq!(o.stderr + &o.stdout, want, "{command}");
        assert_eq!(o.code.to_string(), code, "{command}");
        want.clear();
    }
}
