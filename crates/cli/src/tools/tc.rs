//! `belljar tc`: queueing disciplines, classes and filters, shown and changed while the jar runs, as tc of iproute2.
use super::tc_text::{self as text, Show};
use crate::out::{self, Done, Fail};
use crate::session::{Session, Target};
use belljar_abi::netlink::{NLM_F_DUMP, NLM_F_REQUEST};
use belljar_abi::pkt_sched::*;
use belljar_abi::rtnetlink::RTM_GETQDISC;
use belljar_jar::control::Request;
use belljar_kernel::net::sched::words::{self, units};
use belljar_kernel::view::LinkView;
use clap::Args;
use serde_json::Value as Json;

#[derive(Args, Debug)]
#[command(after_help = "\
Options:  -s statistics, -d details, -j JSON (disciplines and filters)
Objects:  qdisc [show] [dev NAME] [root | parent ID | handle ID | invisible]
          qdisc add|change|replace|del dev NAME [root | parent ID | ingress] [handle ID] KIND
            [OPTIONS]
          class show dev NAME; class add|change|replace|del dev NAME parent ID classid ID htb
            OPTIONS
          filter show dev NAME; filter add|del dev NAME parent ID [protocol P] [prio N]
            u32|fw|matchall OPTIONS [action …]
Kinds:    pfifo bfifo pfifo_fast tbf netem fq fq_codel prio htb ingress clsact noqueue

Examples: belljar tc web qdisc replace dev eth0 root netem delay 40ms loss 1%
          belljar tc -s web qdisc")]
pub struct TcCommand {
    /// Options, the jar, object and command: [OPTIONS] JAR[/HOST] OBJECT [COMMAND]
    #[arg(value_name = "ARGS", required = true, allow_hyphen_values = true, trailing_var_arg = true)]
    pub args: Vec<String>,
}

pub fn run(c: &TcCommand) -> Done {
    let (mut show, target, rest) = options(&c.args)?;
    let words: Vec<&str> = rest.iter().map(String::as_str).collect();
    let asked = asked(&words)?;
    let mut s = Session::open(&target)?;
    let links: Vec<LinkView> = s.view("links")?;
    match asked {
        Some(object) => {
            let verb = usize::from(words.len() > 1 && is_show(words[1]));
            let q = query(object, &words[1 + verb..], &links)?;
            show.ifindex = q.t.ifindex;
            show.parent = if object == "filter" { q.t.parent } else { 0 };
            let found = messages(&ask(&mut s, q.kind, NLM_F_REQUEST | NLM_F_DUMP, q.body())?);
            let found: Vec<Vec<u8>> = found.into_iter().filter(|m| q.wants(m)).collect();
            let names = |index: u32| {
                let l = links.iter().find(|l| l.ifindex == index);
                l.map_or_else(|| format!("if{index}"), |l| l.name.clone())
            };
            out::print(&text::render(object, &found, &show, &names))?;
        }
        None => {
            let devices: Vec<(&str, u32)> = links.iter().map(|l| (l.name.as_str(), l.ifindex)).collect();
            let r = words::build(&words, &devices).map_err(Fail::usage)?;
            if let Some(w) = ask(&mut s, r.kind, r.flags, r.body)?["warning"].as_str() {
                out::say(format!("Warning: {w}"));
            }
        }
    }
    Ok(0)
}

/// What stands before the object.
fn options(args: &[String]) -> Result<(Show, Target, Vec<String>), Fail> {
    let mut show = Show::default();
    let mut words = args.iter();
    let mut target: Option<Target> = None;
    loop {
        let Some(word) = words.next() else {
            let what = if target.is_some() { "an object: qdisc, class or filter" } else { "a jar" };
            return Err(Fail::usage(format!("tc wants {what}")).hint("belljar tc --help shows the forms"));
        };
        match word.as_str() {
            "-s" | "-stats" | "-statistics" | "--stats" => show.stats = true,
            "-d" | "-details" | "--details" => show.details = true,
            "-j" | "-json" | "--json" => show.json = true,
            w if w.starts_with('-') => {
                return Err(Fail::usage(format!("Option \"{w}\" is unknown, try \"belljar tc --help\".")));
            }
            w => match target.take() {
                None => target = Some(w.parse().map_err(Fail::usage)?),
                Some(t) => {
                    let rest = std::iter::once(word).chain(words).cloned().collect();
                    return Ok((show, t, rest));
                }
            },
        }
    }
}

fn is_show(w: &str) -> bool {
    w == "ls" || w == "lst" || !w.is_empty() && ["show", "list"].iter().any(|f| f.starts_with(w))
}

/// The object when the line only asks.
fn asked(words: &[&str]) -> Result<Option<&'static str>, Fail> {
    let object = words.first().copied().unwrap_or("");
    let known = ["qdisc", "class", "filter"].into_iter().find(|o| !object.is_empty() && o.starts_with(object));
    let known = known.ok_or_else(|| Fail::usage(format!("Object \"{object}\" is unknown, try \"tc help\".")))?;
    Ok(words.get(1).is_none_or(|w| is_show(w)).then_some(known))
}

/// What a show command wants to see.
#[derive(Debug, PartialEq, Eq)]
struct Query {
    kind: u16,
    t: TcMsg,
    handle: u32,
    /// A discipline's parent.
    parent: u32,
    invisible: bool,
}

impl Query {
    fn body(&self) -> Vec<u8> {
        let mut b = self.t.to_bytes().to_vec();
        if self.invisible {
            b.extend_from_slice(&[4, 0, TCA_DUMP_INVISIBLE as u8, 0]);
        }
        b
    }

    /// What the kernel does not filter.
    fn wants(&self, message: &[u8]) -> bool {
        let Some(t) = message.get(16..).and_then(TcMsg::parse) else { return false };
        match self.kind {
            RTM_GETQDISC => {
                (self.handle == 0 || t.handle == self.handle) && (self.parent == 0 || t.parent == self.parent)
            }
            RTM_GETTCLASS => self.handle == 0 || t.handle == self.handle,
            _ => true,
        }
    }
}

fn query(object: &str, words: &[&str], links: &[LinkView]) -> Result<Query, Fail> {
    let kind = match object {
        "qdisc" => RTM_GETQDISC,
        "class" => RTM_GETTCLASS,
        _ => RTM_GETTFILTER,
    };
    let mut q = Query { kind, t: TcMsg::default(), handle: 0, parent: 0, invisible: false };
    let mut words = words.iter().copied();
    while let Some(w) = words.next() {
        let mut value = || words.next().ok_or_else(|| Fail::usage("Command line is not complete. Try option \"help\""));
        let ids = |w: &str| units::classid(w).ok_or_else(|| Fail::usage(format!("invalid parent ID \"{w}\"")));
        match w {
            "dev" => {
                let name = value()?;
                let found = links.iter().find(|l| l.name == name).map(|l| l.ifindex);
                q.t.ifindex = found.ok_or_else(|| Fail::usage(format!("Cannot find device \"{name}\"")))?;
            }
            "root" if object == "qdisc" => q.parent = TC_H_ROOT,
            "root" => q.t.parent = TC_H_ROOT,
            "ingress" | "clsact" if object == "qdisc" => q.parent = TC_H_INGRESS,
            "ingress" if object == "filter" => q.t.parent = 0xffff_0000 | TC_H_MIN_INGRESS,
            "egress" if object == "filter" => q.t.parent = 0xffff_0000 | TC_H_MIN_EGRESS,
            "parent" if object == "qdisc" => q.parent = ids(value()?)?,
            "parent" => q.t.parent = ids(value()?)?,
            "handle" if object == "qdisc" => {
                let v = value()?;
                q.handle = units::handle(v).ok_or_else(|| Fail::usage(format!("invalid qdisc ID \"{v}\"")))?;
            }
            "classid" if object == "class" => q.handle = ids(value()?)?,
            "invisible" if object == "qdisc" => q.invisible = true,
            other => return Err(Fail::usage(format!("What is \"{other}\"? Try \"tc {object} help\"."))),
        }
    }
    if object != "qdisc" && q.t.ifindex == 0 {
        // tc asks the kernel about no device, and so hears nothing.
        q.t.ifindex = u32::MAX;
    }
    Ok(q)
}

fn ask(s: &mut Session, kind: u16, flags: u16, body: Vec<u8>) -> Result<Json, Fail> {
    let request = Request::Tc { host: s.host.clone(), kind, flags, body };
    Ok(s.client.value(&request)?)
}

fn messages(answer: &Json) -> Vec<Vec<u8>> {
    let list = answer["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let bytes = |m: &Json| m.as_array().into_iter().flatten().filter_map(|b| b.as_u64()).map(|b| b as u8).collect();
    list.iter().map(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn forms_of_the_command_line() {
        let (show, target, rest) = options(&words("-s -j web/gw qdisc show dev eth0")).unwrap();
        assert!(show.stats && show.json && !show.details && target.to_string() == "web/gw" && rest.len() == 4);
        assert_eq!(asked(&["q", "sh"]).unwrap(), Some("qdisc"));
        assert_eq!(asked(&["class"]).unwrap(), Some("class"));
        assert_eq!(asked(&["filter", "add"]).unwrap(), None);
        for (line, part) in
            [("", "wants a jar"), ("web", "wants an object"), ("-x web qdisc", "Option \\\"-x\\\" is unknown")]
        {
            let text = format!("{:?}", options(&words(line)).unwrap_err());
            assert!(text.contains(part) && text.contains("code: 2"), "{line}: {text}");
        }
        assert!(asked(&["foo"]).is_err());
    }

    #[test]
    fn what_is_asked_for() {
        let links = [crate::tools::ip::tests::link("v0", false)];
        let q = query("qdisc", &["dev", "v0", "parent", "1:10", "invisible"], &links).unwrap();
        assert_eq!((q.t.ifindex, q.parent, q.body().len()), (3, 0x1_0010, 24));
        assert!(query("qdisc", &["dev", "nope"], &links).is_err() && query("class", &["foo"], &links).is_err());
        assert_eq!(query("filter", &["dev", "v0", "ingress"], &links).unwrap().t.parent, 0xffff_fff2);
    }
}
