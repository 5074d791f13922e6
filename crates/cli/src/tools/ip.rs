//! `belljar ip`: links, addresses, routes and neighbours, shown as iproute2 shows them and changed by its words (`ip_set.rs`).
use super::exec::{self, ExecCommand};
use super::ip_set;
use super::ip_text as text;
use crate::out::{self, Done, Fail};
use crate::session::{Session, Target};
use belljar_jar::control::Request;
use belljar_kernel::view::{AddrView, LinkView, NeighView, RouteView, TcpMetricView};
use clap::Args;
use core::net::IpAddr;

#[derive(Args, Debug)]
#[command(after_help = "\
Options:  -s statistics (twice: errors in detail), -j JSON, -br brief, -o one line each, -4 and -6
          one family only, -n NETNS in a network namespace of the host (as JAR@NETNS, which every command takes)
Objects:  address [show] [[dev] NAME] [up] [scope SCOPE] [to PREFIX]   addresses of the devices
          link [show] [[dev] NAME] [up]                      devices
          route [show] [[root|match|exact] PREFIX|default] [table main|local|all] [dev NAME]
                [via ADDRESS] [src ADDRESS] [proto P] [scope S] [type T]     routing tables
          route get ADDRESS                                  the way a packet would take
          neighbour [show] [dev NAME]                        who on the link has which address
          tcp_metrics [show] [ADDRESS]                       what TCP remembers of peers
          netns [list] | add NAME | delete NAME              network namespaces of the host
          netns exec NAME PROGRAM [ARG]...                   a program in one of them
          link add [link DEV] [name] NAME [mtu N] [address MAC] type veth|bridge|dummy [OPTIONS]
          link set [dev] NAME up|down|mtu N|address MAC|name NEW|master BRIDGE|nomaster|netns NAME
          link delete [dev] NAME
          address add|change|replace|del ADDRESS/PREFIX [brd +|ADDRESS] [label L] [scope S] dev NAME
          route add|append|change|replace|del [TYPE] NETWORK|default [via ADDRESS] [dev NAME] [src
            ADDRESS]
                [metric N] [table T] [scope S] [onlink] [METRIC [lock] N]...
          neighbour add|change|replace|del ADDRESS [lladdr MAC] [nud STATE] dev NAME
Objects and commands may be shortened as with ip: a, l, r, n; s, sh, ls.

Examples: belljar ip web -s link
          belljar ip web/gw route get 10.0.2.15
          belljar ip web link add v0 type veth peer name v1")]
pub struct IpCommand {
    /// Options, the jar, object and command: [OPTIONS] JAR[/HOST] OBJECT [COMMAND]
    #[arg(value_name = "ARGS", required = true, allow_hyphen_values = true, trailing_var_arg = true)]
    pub args: Vec<String>,
}

/// What stands before the object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opts {
    pub stats: u8,
    pub json: bool,
    pub brief: bool,
    pub oneline: bool,
    pub inet: bool,
    pub inet6: bool,
}

impl Opts {
    /// Whether the options leave an address of this family in.
    fn wants(self, addr: IpAddr) -> bool {
        if addr.is_ipv4() { !self.inet6 } else { !self.inet }
    }
}

/// An address with the length of its prefix.
type Net = (IpAddr, u8);

/// How a route's destination compares with the one asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Exact,
    /// It or one within it.
    Root,
    /// It or one around it.
    Match,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct RouteFilter {
    table: Option<String>,
    dev: Option<String>,
    /// No address: a default route.
    to: Option<(Which, Option<Net>)>,
    via: Option<IpAddr>,
    src: Option<IpAddr>,
    proto: Option<String>,
    scope: Option<String>,
    kind: Option<String>,
}

/// Whether the second network is the first or lies in it.
fn holds((net, len): Net, (inner, inner_len): Net) -> bool {
    let same = match (net, inner) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= len.into(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= len.into(),
        _ => false,
    };
    same && inner_len >= len
}

impl RouteFilter {
    fn family(&self) -> Option<bool> {
        let to = self.to.and_then(|t| t.1).map(|n| n.0);
        to.or(self.via).or(self.src).map(|a| a.is_ipv6())
    }

    /// What was asked for is not told again.
    fn hide(&self, r: &mut RouteView) {
        r.gateway = r.gateway.take_if(|_| self.via.is_none());
        r.prefsrc = r.prefsrc.take_if(|_| self.src.is_none());
        r.protocol = r.protocol.take_if(|_| self.proto.is_none());
        r.scope = r.scope.take_if(|_| self.scope.is_none());
    }

    fn wants(&self, r: &RouteView) -> bool {
        let own = (r.dst, r.prefixlen);
        let to = match self.to {
            None => true,
            Some((_, None)) => r.prefixlen == 0,
            Some((Which::Exact, Some(net))) => own == net,
            Some((Which::Root, Some(net))) => holds(net, own),
            Some((Which::Match, Some(net))) => holds(own, net),
        };
        let table = self.table.as_deref().unwrap_or("main");
        let scope = r.scope.as_deref().unwrap_or("global");
        to && (table == "all" || r.table == table)
            && self.dev.as_ref().is_none_or(|d| r.dev == *d)
            && self.via.is_none_or(|v| r.gateway == Some(v))
            && self.src.is_none_or(|s| r.prefsrc == Some(s))
            && self.proto.as_deref().is_none_or(|p| r.protocol.as_deref().unwrap_or("boot") == p)
            && self.scope.as_deref().is_none_or(|s| scope == s)
            && self.kind.as_deref().is_none_or(|k| r.kind == k)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Addr { dev: Option<String>, up: bool, scope: Option<String>, to: Option<Net> },
    Link { dev: Option<String>, up: bool },
    Route(Box<RouteFilter>),
    Get(IpAddr),
    Neigh { dev: Option<String> },
    Metrics(Option<IpAddr>),
    Netns { verb: String, name: String, program: Vec<String> },
    Change { object: &'static str, verb: String, rest: Vec<String> },
}

pub fn run(c: &IpCommand) -> Done {
    let (opts, target, what) = parse(&c.args)?;
    if let What::Netns { verb, name, program } = &what
        && verb == "exec"
    {
        let program = program.iter().map(Into::into).collect();
        return exec::run(&ExecCommand { target, netns: Some(name.clone()), env: Vec::new(), program });
    }
    let mut s = Session::open(&target)?;
    let text = match what {
        What::Change { object, verb, rest } => return change(&mut s, object, &verb, &rest),
        What::Netns { verb, name, .. } => {
            let request = Request::Netns { host: s.host.clone(), verb: verb.clone(), name };
            let names = s.client.value(&request)?;
            let names = names.as_array().into_iter().flatten().filter_map(|n| n.as_str());
            if verb == "list" { names.map(|n| format!("{n}\n")).collect() } else { String::new() }
        }
        What::Addr { dev, up, scope, to } => {
            let links = links(&mut s, dev.as_deref(), up)?;
            let mut addrs: Vec<AddrView> = s.view("addrs")?;
            // A prefix is of one family.
            let (inet, inet6) = (to.is_some_and(|t| t.0.is_ipv4()), to.is_some_and(|t| t.0.is_ipv6()));
            let opts = Opts { inet: opts.inet || inet, inet6: opts.inet6 || inet6, ..opts };
            let bare: Vec<u32> = links.iter().map(|l| l.ifindex).collect();
            let bare: Vec<u32> = bare.into_iter().filter(|i| addrs.iter().all(|a| a.ifindex != *i)).collect();
            let in_scope = |a: &AddrView| scope.as_ref().is_none_or(|s| a.scope.split(' ').next() == Some(s.as_str()));
            addrs.retain(|a| in_scope(a) && opts.wants(a.local) && to.is_none_or(|t| holds(t, (a.local, u8::MAX))));
            // With a scope asked for, devices whose addresses are others are not shown.
            let has = |l: &LinkView| bare.contains(&l.ifindex) || addrs.iter().any(|a| a.ifindex == l.ifindex);
            let links = links.into_iter().filter(|l| scope.is_none() || has(l));
            text::addrs(&links.collect::<Vec<_>>(), &addrs, opts)
        }
        What::Link { dev, up } => text::links(&links(&mut s, dev.as_deref(), up)?, opts),
        What::Route(filter) => {
            let all = filter.table.as_deref() == Some("all");
            let mut routes: Vec<RouteView> = s.view("routes")?;
            // Without a family routes are those of IPv4, of all tables those of both.
            let six = filter.family().or(opts.inet6.then_some(true)).or(opts.inet.then_some(false));
            let six = six.or((!all).then_some(false));
            routes.retain(|r| six.is_none_or(|six| r.dst.is_ipv6() == six) && filter.wants(r));
            routes.sort_by_key(|r| r.dst.is_ipv6());
            routes.iter_mut().for_each(|r| filter.hide(r));
            last_resort(&mut routes);
            text::routes(&routes, all, filter.dev.is_some(), opts)
        }
        What::Get(addr) => text::route_get(addr, &s.view::<RouteView>(&format!("route_get:{addr}"))?, opts),
        What::Neigh { dev } => {
            let mut neighs: Vec<NeighView> = s.view("neighs")?;
            neighs.retain(|n| opts.wants(n.dst));
            neighs.retain(|n| dev.as_ref().is_none_or(|d| n.dev == *d) && n.state != "NOARP" && n.state != "NONE");
            text::neighs(&neighs, dev.is_some(), opts)
        }
        What::Metrics(peer) => {
            let mut metrics: Vec<TcpMetricView> = s.view("tcp_metrics")?;
            metrics.retain(|m| peer.is_none_or(|p| m.dst == p));
            text::tcp_metrics(&metrics, opts)
        }
    };
    out::print(&text)?;
    Ok(0)
}

/// The default route of IPv6 ends its table, as the kernel lists it.
fn last_resort(routes: &mut [RouteView]) {
    for table in routes.chunk_by_mut(|a, b| (&a.table, a.dst.is_ipv6()) == (&b.table, b.dst.is_ipv6())) {
        table.sort_by_key(|r| r.dst.is_ipv6() && r.prefixlen == 0);
    }
}

/// What iproute2 says of a refusal goes to stderr, with its exit code.
fn change(s: &mut Session, object: &str, verb: &str, rest: &[String]) -> Done {
    let links: Vec<LinkView> = s.view("links")?;
    let Some(c) = ip_set::change(object, verb, rest, &links)? else {
        return Err(Fail::usage(format!("ip {object} {verb}: belljar ip has not got this")));
    };
    let request = Request::Rtnetlink { host: s.host.clone(), message: c.message, netns: c.netns };
    let answers = s.client.value(&request)?;
    let bytes = |a: &serde_json::Value| {
        a.as_array().into_iter().flatten().filter_map(|b| b.as_u64()).map(|b| b as u8).collect()
    };
    let answers: Vec<Vec<u8>> = answers.as_array().into_iter().flatten().map(bytes).collect();
    match ip_set::refusal(&answers) {
        Some(text) => {
            out::say(text);
            Ok(2)
        }
        None => Ok(0),
    }
}

fn links(s: &mut Session, dev: Option<&str>, up: bool) -> Result<Vec<LinkView>, Fail> {
    let mut all: Vec<LinkView> = s.view("links")?;
    if let Some(name) = dev
        && all.iter().all(|l| l.name != name)
    {
        let names: Vec<_> = all.iter().map(|l| l.name.as_str()).collect();
        let hint = format!("there are {}", names.join(", "));
        return Err(Fail::new(format!("Device \"{name}\" does not exist.")).hint(hint));
    }
    all.retain(|l| dev.is_none_or(|d| l.name == d) && (!up || l.flags.iter().any(|f| f == "UP")));
    Ok(all)
}

fn parse(args: &[String]) -> Result<(Opts, Target, What), Fail> {
    let mut opts = Opts::default();
    let mut words = args.iter().map(String::as_str).peekable();
    let (mut target, mut netns): (Option<Target>, Option<&str>) = (None, None);
    let object = loop {
        let Some(word) = words.next() else {
            let what =
                if target.is_some() { "an object: address, link, route, neighbour or tcp_metrics" } else { "a jar" };
            return Err(Fail::usage(format!("ip wants {what}")).hint("belljar ip --help shows the forms"));
        };
        match word {
            "-s" | "-stats" | "--stats" | "-statistics" => opts.stats += 1,
            "-j" | "-json" | "--json" => opts.json = true,
            "-br" | "-brief" | "--brief" => opts.brief = true,
            "-o" | "-oneline" | "--oneline" => opts.oneline = true,
            "-4" => opts.inet = true,
            "-6" => opts.inet6 = true,
            "-n" | "-netns" | "--netns" => {
                netns = Some(words.next().ok_or_else(|| Fail::usage("-n wants the name of a network namespace"))?);
            }
            "-d" | "-details" | "--details" | "-c" | "-color" | "--color" => {
                let jar = target.as_ref().map_or("JAR".to_owned(), |t| t.jar.clone());
                return Err(Fail::usage(format!("ip {word}: belljar ip has not got this"))
                    .hint(format!("the machine's own ip has: belljar exec {jar} ip {word} ...")));
            }
            other if other.starts_with('-') => {
                return Err(Fail::usage(format!("Option \"{other}\" is unknown, try \"belljar ip --help\".")));
            }
            other if target.is_none() => target = Some(other.parse().map_err(Fail::usage)?),
            other => break other,
        }
    };
    let rest: Vec<&str> = words.collect();
    let what = match change_words(object, &rest) {
        Some(change) => change,
        None => show_words(object, &rest)?,
    };
    let mut target = target.ok_or_else(|| Fail::usage("ip wants a jar"))?;
    if let Some(netns) = netns {
        target.enter(netns).map_err(Fail::usage)?;
    }
    Ok((opts, target, what))
}

fn show_words(object: &str, rest: &[&str]) -> Result<What, Fail> {
    Ok(match object {
        o if abbreviates(o, "address") || o == "addr" => device_words("address", rest, true)?,
        o if abbreviates(o, "link") => device_words("link", rest, false)?,
        o if abbreviates(o, "route") => route_words(rest)?,
        o if abbreviates(o, "neighbour") || abbreviates(o, "neighbor") => {
            match device_words("neighbour", rest, false)? {
                What::Link { dev, .. } => What::Neigh { dev },
                other => other,
            }
        }
        "tcp_metrics" | "tcpmetrics" => metrics_words(rest)?,
        "netns" => netns_words(rest)?,
        other => return Err(Fail::usage(format!("Object \"{other}\" is unknown, try \"belljar ip --help\"."))),
    })
}

fn netns_words(rest: &[&str]) -> Result<What, Fail> {
    let what = |verb: &str, name: &str, program: &[&str]| {
        let program = program.iter().map(|w| (*w).to_owned()).collect();
        Ok(What::Netns { verb: verb.to_owned(), name: name.to_owned(), program })
    };
    match rest {
        [] | ["list" | "show" | "lst" | "ls"] => what("list", "", &[]),
        ["add", name] => what("add", name, &[]),
        ["delete" | "del", name] => what("del", name, &[]),
        ["exec", name, program @ ..] if !program.is_empty() => what("exec", name, program),
        ["add" | "delete" | "del"] => Err(Fail::usage("No netns name specified")),
        ["exec", ..] => Err(Fail::usage("ip netns exec wants a name and a program")),
        [other, ..] => Err(Fail::usage(format!("Command \"{other}\" is unknown, try \"belljar ip --help\"."))),
    }
}

fn abbreviates(word: &str, full: &str) -> bool {
    !word.is_empty() && full.starts_with(word)
}

const CHANGING: [&str; 8] = ["add", "del", "delete", "set", "change", "replace", "flush", "append"];

/// A line that changes something.
fn change_words(object: &str, rest: &[&str]) -> Option<What> {
    let full = match object {
        o if abbreviates(o, "address") || o == "addr" => "address",
        o if abbreviates(o, "link") => "link",
        o if abbreviates(o, "route") => "route",
        o if abbreviates(o, "neighbour") || abbreviates(o, "neighbor") => "neighbour",
        _ => return None,
    };
    let (verb, rest) = rest.split_first()?;
    let known = match full {
        "link" => ["add", "set", "del", "delete"].contains(verb),
        "route" => CHANGING.contains(verb) && !["set", "flush"].contains(verb),
        _ => CHANGING.contains(verb) && !["set", "flush", "append"].contains(verb),
    };
    let rest = rest.iter().map(|w| (*w).to_owned()).collect();
    known.then(|| What::Change { object: full, verb: (*verb).to_owned(), rest })
}

/// `show`, `list`, `ls` or one of ip's changing commands.
fn command<'a, 'b>(object: &str, rest: &'b [&'a str]) -> Result<&'b [&'a str], Fail> {
    match rest.split_first() {
        Some((c, rest)) if abbreviates(c, "show") || abbreviates(c, "list") || *c == "lst" || *c == "ls" => Ok(rest),
        Some((c, _)) if CHANGING.contains(c) => {
            Err(Fail::usage(format!("ip {object} {c}: belljar ip has not got this")))
        }
        _ => Ok(rest),
    }
}

fn device_words(object: &str, rest: &[&str], scopes: bool) -> Result<What, Fail> {
    let unknown = |w: &str| Fail::usage(format!("Command \"{w}\" is unknown, try \"belljar ip --help\"."));
    let explicit = rest.first().is_some_and(|c| abbreviates(c, "show") || abbreviates(c, "list") || *c == "ls");
    let mut words = command(object, rest)?.iter().copied();
    let (mut dev, mut up, mut scope, mut to) = (None, false, None, None);
    while let Some(w) = words.next() {
        match w {
            "dev" => dev = Some(words.next().ok_or_else(|| Fail::usage("dev wants the name of a device"))?.to_owned()),
            "up" if object != "neighbour" => up = true,
            "scope" if scopes => {
                scope = Some(words.next().ok_or_else(|| Fail::usage("scope wants a scope"))?.to_owned())
            }
            "to" if scopes => to = Some(net(words.next().ok_or_else(|| Fail::usage("to wants a prefix"))?)?),
            name if explicit && dev.is_none() => dev = Some(name.to_owned()),
            other => return Err(unknown(other)),
        }
    }
    Ok(if scopes { What::Addr { dev, up, scope, to } } else { What::Link { dev, up } })
}

/// `ADDRESS[/LENGTH]`.
fn net(text: &str) -> Result<Net, Fail> {
    let wrong = || Fail::usage(format!("Error: any valid prefix is expected rather than \"{text}\"."));
    let (addr, len) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
    let addr: IpAddr = addr.parse().map_err(|_| wrong())?;
    let most = if addr.is_ipv4() { 32 } else { 128 };
    let len = len.map_or(Some(most), |l| l.parse().ok().filter(|l| *l <= most)).ok_or_else(wrong)?;
    Ok((addr, len))
}

fn metrics_words(rest: &[&str]) -> Result<What, Fail> {
    match command("tcp_metrics", rest)? {
        [] => Ok(What::Metrics(None)),
        [addr] | ["address", addr] => addr
            .parse()
            .map(|a| What::Metrics(Some(a)))
            .map_err(|_| Fail::usage(format!("Error: any valid prefix is expected rather than \"{addr}\"."))),
        [other, ..] => Err(Fail::usage(format!("Command \"{other}\" is unknown, try \"belljar ip --help\"."))),
    }
}

fn route_words(rest: &[&str]) -> Result<What, Fail> {
    if let ["get", rest @ ..] = rest {
        return match rest {
            [addr] => addr
                .parse()
                .map(What::Get)
                .map_err(|_| Fail::usage(format!("Error: any valid prefix is expected rather than \"{addr}\"."))),
            _ => Err(Fail::usage("ip route get wants one address")),
        };
    }
    let mut f = RouteFilter::default();
    let mut words = command("route", rest)?.iter().copied();
    while let Some(w) = words.next() {
        let mut value = || words.next().map(str::to_owned).ok_or_else(|| Fail::usage(format!("{w} wants a value")));
        match w {
            "table" => f.table = Some(value()?),
            "dev" | "oif" => f.dev = Some(value()?),
            "via" => f.via = Some(net(&value()?)?.0),
            "src" => f.src = Some(net(&value()?)?.0),
            "proto" | "protocol" => f.proto = Some(value()?),
            "scope" => f.scope = Some(value()?),
            "type" => f.kind = Some(value()?),
            // Says that one of the next follows.
            "to" => {}
            "exact" => f.to = Some((Which::Exact, prefix(&value()?)?)),
            "root" => f.to = Some((Which::Root, prefix(&value()?)?)),
            "match" => f.to = Some((Which::Match, prefix(&value()?)?)),
            to => f.to = Some((Which::Exact, prefix(to)?)),
        }
    }
    Ok(What::Route(Box::new(f)))
}

fn prefix(text: &str) -> Result<Option<Net>, Fail> {
    if matches!(text, "default" | "any" | "all") { Ok(None) } else { net(text).map(Some) }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use belljar_kernel::view::LinkStats;

    pub fn link(name: &str, loopback: bool) -> LinkView {
        let zero = LinkStats {
            rx_packets: 21,
            tx_packets: 21,
            rx_bytes: 5277,
            tx_bytes: 5277,
            rx_errors: 0,
            tx_errors: 0,
            rx_dropped: 0,
            tx_dropped: 0,
            multicast: 0,
            collisions: 0,
            rx_length_errors: 0,
            rx_over_errors: 0,
            rx_crc_errors: 0,
            rx_frame_errors: 0,
            rx_fifo_errors: 0,
            rx_missed_errors: 0,
            tx_aborted_errors: 0,
            tx_carrier_errors: 0,
            tx_fifo_errors: 0,
            tx_heartbeat_errors: 0,
            tx_window_errors: 0,
        };
        let flags: &[&str] =
            if loopback { &["LOOPBACK", "UP", "LOWER_UP"] } else { &["BROADCAST", "MULTICAST", "UP", "LOWER_UP"] };
        let own = |s: &str| s.to_owned();
        LinkView {
            ifindex: if loopback { 1 } else { 3 },
            name: own(name),
            link: None,
            master: None,
            group: 0,
            carrier_changes: 0,
            flags: flags.iter().map(|f| own(f)).collect(),
            mtu: if loopback { 65536 } else { 1500 },
            qdisc: own("noqueue"),
            operstate: own(if loopback { "UNKNOWN" } else { "UP" }),
            txqlen: 1000,
            link_type: own(if loopback { "loopback" } else { "ether" }),
            address: own(if loopback { "00:00:00:00:00:00" } else { "1e:fa:49:5b:09:64" }),
            broadcast: own(if loopback { "00:00:00:00:00:00" } else { "ff:ff:ff:ff:ff:ff" }),
            stats: zero,
            qdisc_len: 0,
            qdisc_drops: 0,
            rings: None,
        }
    }

    pub fn routes() -> Vec<RouteView> {
        let route =
            |kind: &str, dst: &str, prefixlen, dev: &str, table: &str, scope: Option<&str>, src: Option<&str>| {
                RouteView {
                    kind: kind.into(),
                    dst: dst.parse().unwrap(),
                    prefixlen,
                    gateway: None,
                    dev: dev.into(),
                    table: table.into(),
                    protocol: scope.map(|_| "kernel".into()),
                    scope: scope.map(str::to_owned),
                    prefsrc: src.map(|s| s.parse().unwrap()),
                    metric: None,
                    metrics: Vec::new(),
                }
            };
        let default = route("unicast", "0.0.0.0", 0, "v0", "main", None, None);
        vec![
            RouteView { gateway: Some([10, 9, 0, 2].into()), ..default },
            route("unicast", "10.9.0.0", 24, "v0", "main", Some("link"), Some("10.9.0.1")),
            route("local", "10.9.0.1", 32, "v0", "local", Some("host"), Some("10.9.0.1")),
            route("broadcast", "10.9.0.255", 32, "v0", "local", Some("link"), Some("10.9.0.1")),
        ]
    }

    fn parsed(line: &str) -> Result<(Opts, Target, What), Fail> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn forms_of_the_command_line() {
        let dev = |d: &str| Some(d.to_owned());
        let (ten, none) = (([10, 0, 0, 0].into(), 8), RouteFilter::default);
        let route = |f: RouteFilter| What::Route(Box::new(f));
        for (line, what) in [
            ("web a", What::Addr { dev: None, up: false, scope: None, to: None }),
            ("web addr show dev eth0", What::Addr { dev: dev("eth0"), up: false, scope: None, to: None }),
            ("web a s eth0 up scope global", What::Addr { dev: dev("eth0"), up: true, scope: dev("global"), to: None }),
            ("web l ls lo", What::Link { dev: dev("lo"), up: false }),
            ("web a s to 10.0.0.0/8", What::Addr { dev: None, up: false, scope: None, to: Some(ten) }),
            ("web route", route(RouteFilter::default())),
            ("web r show table all dev lo", route(RouteFilter { table: dev("all"), dev: dev("lo"), ..none() })),
            ("web r show default", route(RouteFilter { to: Some((Which::Exact, None)), ..none() })),
            ("web r to root 10.0.0.0/8", route(RouteFilter { to: Some((Which::Root, Some(ten))), ..none() })),
            ("web r 10.0.0.0/8", route(RouteFilter { to: Some((Which::Exact, Some(ten))), ..none() })),
            ("web route get 8.8.8.8", What::Get([8, 8, 8, 8].into())),
            ("web neigh", What::Neigh { dev: None }),
            ("web netns", What::Netns { verb: "list".into(), name: String::new(), program: Vec::new() }),
            ("-n blue web netns del x", What::Netns { verb: "del".into(), name: "x".into(), program: Vec::new() }),
            ("web n show dev eth0", What::Neigh { dev: dev("eth0") }),
            ("web tcp_metrics", What::Metrics(None)),
            ("web tcp_metrics show 10.0.0.1", What::Metrics(Some([10, 0, 0, 1].into()))),
        ] {
            assert_eq!(parsed(line).unwrap().2, what, "{line}");
        }
        let (opts, target, _) = parsed("-s web/gw -s -j link").unwrap();
        assert_eq!((opts.stats, opts.json, target.to_string()), (2, true, "web/gw".to_owned()));
        for (line, part) in [
            ("", "wants a jar"),
            ("web", "wants an object"),
            ("web bogus", "Object \\\"bogus\\\" is unknown"),
            ("web addr bogus", "Command \\\"bogus\\\" is unknown"),
            ("web route bogus", "any valid prefix"),
            ("-d web link", "belljar exec JAR ip -d"),
            ("web addr flush dev lo", "has not got this"),
            ("web route get 300.1.1.1", "any valid prefix"),
            ("-x web a", "Option \\\"-x\\\" is unknown"),
            ("web link show dev", "wants the name"),
        ] {
            let text = format!("{:?}", parsed(line).unwrap_err());
            assert!(text.contains(part) && text.contains("code: 2"), "{line}: {text}");
        }
    }
}
