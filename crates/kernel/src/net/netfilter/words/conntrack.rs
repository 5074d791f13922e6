//! The command `conntrack` in its own words, as version 1.4.7 prints them: list, count, delete, flush, statistics.
use super::super::Pf;
use super::super::conntrack::show::Style;
use super::super::conntrack::{Conn, IPS_ASSURED, IPS_DST_NAT, IPS_SEEN_REPLY, IPS_SRC_NAT};
use super::super::rules::Masked;
use super::Output;
use super::value::{masked_number, network, number, protocol};
use crate::ids::NsId;
use crate::kernel::Kernel;
use std::fmt::Write;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    List,
    Delete,
    Flush,
    Count,
    Stats,
    Version,
}

/// Which connections.
#[derive(Clone, Debug, Default)]
struct Filter {
    family: Option<Pf>,
    proto: Option<u8>,
    /// Source and destination of the original direction, then of the reply.
    addrs: [Option<Masked>; 4],
    ports: [Option<u16>; 4],
    mark: Option<(u32, u32)>,
    /// Bits that have to be set, and bits that must not be.
    status: (u32, u32),
}

impl Filter {
    fn takes(&self, c: &Conn) -> bool {
        let [o, r] = &c.tuple;
        let addrs = [o.src, o.dst, r.src, r.dst];
        let ports = [o.sport, o.dport, r.sport, r.dport];
        self.family.is_none_or(|f| f == o.pf)
            && self.proto.is_none_or(|p| p == o.proto)
            && self.addrs.iter().zip(addrs).all(|(m, a)| m.is_none_or(|m| a & m.mask == m.addr))
            && self.ports.iter().zip(ports).all(|(m, p)| m.is_none_or(|m| m == p))
            && self.mark.is_none_or(|(v, m)| c.mark & m == v)
            && c.status & self.status.0 == self.status.0
            && c.status & self.status.1 == 0
    }
}

struct Asked {
    verb: Verb,
    filter: Filter,
    extended: bool,
    id: bool,
}

const PROGRAM: &str = "conntrack v1.4.7 (conntrack-tools)";

fn said(text: String) -> Output {
    let stderr = format!("{PROGRAM}: {text}\nTry `conntrack -h' or 'conntrack --help' for more information.\n");
    Output { stderr, code: 2, ..Output::default() }
}

fn parse(args: &[&str]) -> Result<Asked, String> {
    let mut verb = None;
    let mut a = Asked { verb: Verb::List, filter: Filter::default(), extended: false, id: false };
    // The family of addresses has to be known before they are read.
    let six = args.windows(2).any(|w| matches!(w[0], "-f" | "--family") && w[1] == "ipv6");
    let pf = if six { Pf::V6 } else { Pf::V4 };
    let mut w = args.iter().copied().peekable();
    while let Some(word) = w.next() {
        let v = match word {
            "-L" | "--dump" => Verb::List,
            "-D" | "--delete" => Verb::Delete,
            "-F" | "--flush" => Verb::Flush,
            "-C" | "--count" => Verb::Count,
            "-S" | "--stats" => Verb::Stats,
            "-V" | "--version" => Verb::Version,
            _ => {
                option(&mut a, pf, word, w.next())?;
                continue;
            }
        };
        if verb.is_some() {
            return Err("Invalid commands combination".into());
        }
        verb = Some(v);
        match w.next_if(|t| !t.starts_with('-')) {
            None | Some("conntrack") => {}
            Some(t) => return Err(format!("unknown argument `{t}'")),
        }
    }
    a.verb = verb.ok_or("You need to supply a command")?;
    Ok(a)
}

fn option(a: &mut Asked, pf: Pf, word: &str, value: Option<&str>) -> Result<(), String> {
    const ADDRS: [&[&str]; 4] = [
        &["-s", "--src", "--orig-src"],
        &["-d", "--dst", "--orig-dst"],
        &["-r", "--reply-src"],
        &["-q", "--reply-dst"],
    ];
    const PORTS: [&[&str]; 4] = [
        &["--sport", "--orig-port-src"],
        &["--dport", "--orig-port-dst"],
        &["--reply-port-src"],
        &["--reply-port-dst"],
    ];
    let known = ["-f", "--family", "-p", "--protonum", "-m", "--mark", "-o", "--output", "-u", "--status"];
    let is = |all: &[&[&str]; 4]| all.iter().position(|names| names.contains(&word));
    let ports = is(&PORTS).filter(|_| a.filter.proto.is_some());
    if !known.contains(&word) && is(&ADDRS).is_none() && ports.is_none() {
        return Err(format!("unknown option `{word}'"));
    }
    let value = value.ok_or_else(|| format!("option `{word}' requires an argument"))?;
    let f = &mut a.filter;
    if let Some(n) = is(&ADDRS) {
        f.addrs[n] = Some(network(pf, value).map_err(|_| format!("Invalid IP address `{value}'"))?);
        f.family = Some(pf);
    } else if let Some(n) = ports {
        let port = number(value).and_then(|n| u16::try_from(n).ok());
        f.ports[n] = Some(port.ok_or_else(|| format!("Invalid port `{value}'"))?);
    }
    match word {
        "-f" | "--family" => f.family = Some(pf),
        "-p" | "--protonum" => {
            let p = protocol(value).map_err(|_| format!("`{value}' unsupported protocol"))?;
            f.proto = Some(p as u8);
        }
        "-m" | "--mark" => {
            let (v, m) = masked_number(value, "mark").map_err(|_| format!("Invalid mark `{value}'"))?;
            f.mark = Some((v, m.unwrap_or(u32::MAX)));
        }
        "-u" | "--status" => {
            for s in value.split(',') {
                match s {
                    "ASSURED" => f.status.0 |= IPS_ASSURED,
                    "SEEN_REPLY" => f.status.0 |= IPS_SEEN_REPLY,
                    "UNREPLIED" | "UNSET" => f.status.1 |= IPS_SEEN_REPLY,
                    "SRC_NAT" => f.status.0 |= IPS_SRC_NAT,
                    "DST_NAT" => f.status.0 |= IPS_DST_NAT,
                    "CONFIRMED" => {}
                    s => return Err(format!("Bad status parameter: `{s}'")),
                }
            }
        }
        "-o" | "--output" => {
            for s in value.split(',') {
                match s {
                    "extended" => a.extended = true,
                    "id" => a.id = true,
                    s => return Err(format!("unknown option `-o {s}'")),
                }
            }
        }
        _ => {}
    }
    Ok(())
}

impl Kernel {
    /// One command line of `conntrack`, without the program's name.
    pub fn conntrack(&mut self, ns: NsId, args: &[&str]) -> Output {
        let a = match parse(args) {
            Ok(a) => a,
            Err(text) => return said(text),
        };
        let mut o = Output::default();
        let told = |n: usize, what: &str| format!("{PROGRAM}: {n} flow entries have been {what}.\n");
        let style = Style::Tool { extended: a.extended, id: a.id };
        match a.verb {
            Verb::Version => o.stdout = format!("{PROGRAM}\n"),
            Verb::Count => {
                let count = self.net.ns.get(ns).map_or(0, |n| n.sysctl.nf_conntrack_count.0);
                let _ = writeln!(o.stdout, "{count}");
            }
            Verb::Flush => {
                self.net.ct_flush(ns, |c| c.is_listed());
                o.stderr = format!("{PROGRAM}: connection tracking table has been emptied.\n");
            }
            Verb::List | Verb::Delete => {
                let lines: Vec<String> =
                    self.net.ct_list(ns).filter(|c| a.filter.takes(c)).map(|c| c.line(&self.net, style)).collect();
                o.stdout = lines.concat();
                let deletes = a.verb == Verb::Delete;
                if deletes {
                    self.net.ct_flush(ns, |c| c.is_listed() && a.filter.takes(c));
                    o.code = i32::from(lines.is_empty());
                }
                o.stderr = told(lines.len(), if deletes { "deleted" } else { "shown" });
            }
            Verb::Stats => o.stdout = self.conntrack_stats(ns),
        }
        o
    }

    fn conntrack_stats(&self, ns: NsId) -> String {
        let s = self.net.ns.get(ns).map(|n| n.ct_stat).unwrap_or_default();
        let line = |cpu: usize| {
            let s = if cpu == 0 { s } else { Default::default() };
            format!(
                "cpu={cpu}   \tfound={} invalid={} insert={} insert_failed={} drop={} early_drop={} error={} \
                 search_restart=0 clash_resolve={} chaintoolong=0 \n",
                s.found, s.invalid, s.insert, s.insert_failed, s.drop, s.early_drop, s.error, s.clash_resolve
            )
        };
        (0..self.net.cpus.len()).map(line).collect()
    }
}
