//! Lines of tc as requests: `qdisc add dev eth0 root fq_codel limit 1000`. What comes out is, byte by byte, what tc of
//! iproute2 6.1 sends, without the rate tables that no kernel reads any more.
mod action;
mod class;
mod filter;
mod netem;
mod qdisc;
pub mod units;

use crate::ids::NsId;
use crate::kernel::Kernel;
use belljar_abi::netlink::{self as nl, Msg};
use belljar_abi::pkt_sched::*;
use belljar_abi::rtnetlink::{RTM_DELQDISC, RTM_NEWQDISC};

/// A request: type, flags, fixed part and attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub kind: u16,
    pub flags: u16,
    pub body: Vec<u8>,
}

/// Why a line is no request, in tc's words.
pub type Wrong = String;

/// What is left of a line.
#[derive(Debug)]
pub(super) struct Line<'a> {
    words: &'a [&'a str],
}

impl<'a> Line<'a> {
    pub(super) fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    pub(super) fn peek(&self) -> Option<&'a str> {
        self.words.first().copied()
    }

    pub(super) fn value(&mut self) -> Result<&'a str, Wrong> {
        self.next().ok_or_else(|| "Command line is not complete. Try option \"help\"".to_owned())
    }

    /// The value of a word by one of the units' functions.
    pub(super) fn get<T>(&mut self, name: &str, f: impl FnOnce(&str) -> Option<T>) -> Result<T, Wrong> {
        let w = self.value()?;
        f(w).ok_or_else(|| format!("Illegal \"{name}\""))
    }

    /// The next word if it is a number with what tc takes for one.
    pub(super) fn number_next(&self) -> bool {
        self.peek().is_some_and(|w| w.starts_with(|c: char| c.is_ascii_digit()))
    }
}

/// The verb of a line, and its flags.
fn verb(object: &str, w: &str) -> Result<(bool, u16), Wrong> {
    use belljar_abi::netlink::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
    let short = |full: &str| full.starts_with(w) && !w.is_empty();
    let flags = match w {
        "add" => NLM_F_CREATE | NLM_F_EXCL,
        "change" | "chg" => 0,
        "replace" if object != "qdisc" => NLM_F_CREATE,
        "replace" => NLM_F_CREATE | NLM_F_REPLACE,
        "link" if object == "qdisc" => NLM_F_REPLACE,
        "del" | "delete" => return Ok((false, 0)),
        _ if short("add") => NLM_F_CREATE | NLM_F_EXCL,
        _ if short("delete") => return Ok((false, 0)),
        _ => return Err(format!("Command \"{w}\" is unknown, try \"tc {object} help\".")),
    };
    Ok((true, flags))
}

/// Where a request goes: device and fixed part.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub dev: Option<String>,
    pub t: TcMsg,
}

impl Place {
    fn at(&mut self, parent: u32) -> Result<(), Wrong> {
        if self.t.parent != 0 {
            return Err("Error: \"root\" is duplicate parent ID.".to_owned());
        }
        self.t.parent = parent;
        Ok(())
    }
}

/// A line without the word `tc`, on these devices with their numbers.
pub fn build(words: &[&str], devices: &[(&str, u32)]) -> Result<Request, Wrong> {
    let mut l = Line { words };
    let object = l.next().unwrap_or("");
    let short = |full: &str| full.starts_with(object) && !object.is_empty();
    let object = match object {
        _ if short("qdisc") => "qdisc",
        _ if short("class") => "class",
        _ if short("filter") => "filter",
        other => return Err(format!("Object \"{other}\" is unknown, try \"tc help\".")),
    };
    let (new, flags) = verb(object, l.next().unwrap_or(""))?;
    let kind = match (object, new) {
        ("qdisc", true) => RTM_NEWQDISC,
        ("qdisc", false) => RTM_DELQDISC,
        ("class", true) => RTM_NEWTCLASS,
        ("class", false) => RTM_DELTCLASS,
        (_, true) => RTM_NEWTFILTER,
        (_, false) => RTM_DELTFILTER,
    };
    let mut p = Place::default();
    let mut attrs = Vec::new();
    let mut m = Msg::new(&mut attrs, 0, 0, 0, 0);
    match object {
        "qdisc" => qdisc::line(&mut l, &mut p, &mut m)?,
        "class" => class::line(&mut l, &mut p, &mut m, new)?,
        _ => filter::line(&mut l, &mut p, &mut m, (new, devices))?,
    }
    if let Some(dev) = &p.dev {
        p.t.ifindex = action::index_of(devices, dev)?;
    }
    let mut body = p.t.to_bytes().to_vec();
    body.extend_from_slice(attrs.get(nl::NLMSG_HDRLEN..).unwrap_or(&[]));
    Ok(Request { kind, flags: nl::NLM_F_REQUEST | nl::NLM_F_ACK | flags, body })
}

impl Kernel {
    /// A line of tc, without the word `tc`; errors as tc prints them. What succeeds may come with a warning.
    pub fn tc_line(&mut self, ns: NsId, line: &str) -> Result<Option<String>, Wrong> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let here = self.net.devs.iter().filter(|(_, d)| d.ns == ns);
        let devices: Vec<(&str, u32)> = here.map(|(_, d)| (d.name.as_str(), d.ifindex)).collect();
        let r = build(&words, &devices)?;
        self.tc(ns, r.kind, r.flags, &r.body).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests;
