//! From text to [`Topology`]: every name resolved, every unit read, every mistake told with its line.
use crate::model::*;
use crate::toml::{self, Found, Keys, Lines, Problem, Result, nearest, unknown};
use belljar_kernel::mem::ledger::parse_size;
use belljar_kernel::net::core::dev::valid_name;
use belljar_link::{Conditions, parse_delay, parse_size as parse_bytes};
use core::net::{IpAddr, Ipv4Addr};

const FILE: [&str; 6] = ["name", "seed", "sysctl", "host", "link", "workload"];
const HOST: [&str; 12] = [
    "address",
    "bridge",
    "speed",
    "xdp",
    "route",
    "forward",
    "mem",
    "sysctl",
    "masquerade",
    "publish",
    "setup",
    "program",
];
const PROGRAM: [&str; 4] = ["run", "service", "after", "env"];
const LINK: [&str; 4] = ["name", "between", "mtu", "back"];
const WORKLOAD: [&str; 8] = ["kind", "from", "to", "port", "bytes", "count", "at", "address"];
const CONDITIONS: [&str; 11] =
    ["delay", "jitter", "loss", "duplicate", "corrupt", "reorder", "rate", "limit", "ecn", "police", "burst"];
/// More is no network that one process should hold.
const MOST_HOSTS: usize = 256;
const MOST_LINKS: usize = 1024;
/// Mbit/s of a card.
const MOST_SPEED: u32 = 1_000_000;

/// Reads a file.
pub fn parse(text: &str) -> Result<Topology> {
    let doc = toml::document(text)?;
    let lines = Lines(text);
    let root = Keys::root(doc.as_table(), &lines);
    root.only(&FILE)?;
    let mut t = Topology { name: root.text("name")?, seed: root.number("seed")?, ..Topology::default() };
    t.sysctls = settings(root.get("sysctl"))?;
    let hosts: Vec<Found<'_>> = match root.get("host") {
        Some(f) => f.keys()?.all().collect(),
        None => return Err(Problem { line: 0, text: "there is no host: write [host.NAME]".to_owned() }),
    };
    for f in &hosts {
        check_name(f, &t)?;
        t.hosts.push(Host { name: f.key.to_owned(), ..Host::default() });
    }
    if let Some(f) = root.get("link") {
        for k in f.tables()? {
            link(&k, &mut t)?;
        }
    }
    for (n, f) in hosts.iter().enumerate() {
        host(n, &f.keys()?, &mut t)?;
    }
    outside_addresses(&mut t);
    if let Some(f) = root.get("workload") {
        for k in f.tables()? {
            let w = workload(&k, &t)?;
            t.workloads.push(w);
        }
    }
    Ok(t)
}

fn check_name(f: &Found<'_>, t: &Topology) -> Result<()> {
    let name = f.key;
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 32 || !name.chars().all(fits) || name.starts_with(['.', '-']) {
        return Err(f.problem(format!("{name:?} is no name of a host: letters, digits and ._-, at most 32")));
    }
    if [OUTSIDE, "gw"].contains(&name) {
        return Err(f.problem(format!("{name:?} is taken: it is the way to the machine outside")));
    }
    if t.hosts.len() >= MOST_HOSTS {
        return Err(f.problem(format!("more than {MOST_HOSTS} hosts")));
    }
    Ok(())
}

/// Settings by their keys; which there are and what they take, the kernel says when they are set.
fn settings(f: Option<Found<'_>>) -> Result<Vec<(String, String)>> {
    let Some(f) = f else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    flatten(&f.keys()?, "", &mut out)?;
    Ok(out)
}

/// `net.ipv4.ip_forward = 1` is a table in a table; `"net.ipv4.ip_forward" = 1` is not. Both are the same setting.
fn flatten(keys: &Keys<'_>, front: &str, out: &mut Vec<(String, String)>) -> Result<()> {
    for f in keys.all() {
        let key = if front.is_empty() { f.key.replace('/', ".") } else { format!("{front}.{}", f.key) };
        match f.keys() {
            Ok(inner) => flatten(&inner, &key, out)?,
            Err(_) => {
                let known = crate::build::is_setting(&key);
                known.map_err(|hint| f.problem(format!("there is no setting {key}{hint}")))?;
                out.push((key, f.word()?));
            }
        }
    }
    Ok(())
}

fn link(k: &Keys<'_>, t: &mut Topology) -> Result<()> {
    let known: Vec<&str> = LINK.iter().chain(&CONDITIONS).copied().collect();
    k.only(&known)?;
    let between = k.need("between")?;
    let texts = between.texts()?;
    let [(a, line_a), (b, line_b)] = texts.as_slice() else {
        return Err(between.problem("between has two ends, as in [\"client:eth0\", \"server:eth0\"]"));
    };
    let first = end(a, *line_a, t, None)?;
    let ends = [first.clone(), end(b, *line_b, t, Some(&first))?];
    let [one, two] = &ends;
    let again = one == two || t.links.iter().flat_map(|l| &l.ends).any(|e| e == one || e == two);
    if again {
        return Err(between.problem(match ends.contains(&End::Outside) {
            true => "there can be one link to the machine outside, and each device has one link".to_owned(),
            false => "a device has one link; join several by a bridge".to_owned(),
        }));
    }
    let name = match k.text("name")? {
        Some(name) => name,
        None => format!("{}-{}", show(&ends[0], t), show(&ends[1], t)),
    };
    if name.contains('/') || name.is_empty() || t.links.iter().any(|l| l.name == name) {
        return Err(between.problem(format!("{name:?} is empty, has a / or is another link's name already")));
    }
    let there = conditions(k, Conditions::default())?;
    let back = match k.get("back") {
        Some(f) => {
            let back = f.keys()?;
            back.only(&CONDITIONS)?;
            conditions(&back, there)?
        }
        None => there,
    };
    let mtu = k.number("mtu")?.unwrap_or(1500);
    let mtu = u32::try_from(mtu).ok().filter(|m| (68..=65_535).contains(m));
    let mtu = mtu.ok_or_else(|| Problem { line: k.line, text: "an MTU is from 68 to 65535".to_owned() })?;
    if t.links.len() >= MOST_LINKS {
        return Err(between.problem(format!("more than {MOST_LINKS} links")));
    }
    t.links.push(Link { name, ends, conditions: [there, back], mtu });
    Ok(())
}

fn show(e: &End, t: &Topology) -> String {
    match e {
        End::Outside => OUTSIDE.to_owned(),
        End::Device { host, dev } => format!("{}:{dev}", t.hosts.get(*host).map_or("", |h| h.name.as_str())),
    }
}

/// `HOST:DEVICE`, `HOST` (its next ethN) or `outside`.
fn end(text: &str, line: usize, t: &Topology, other: Option<&End>) -> Result<End> {
    if text == OUTSIDE {
        return Ok(End::Outside);
    }
    let (name, dev) = text.split_once(':').map_or((text, None), |(h, d)| (h, Some(d)));
    let host = find(name, line, t, "a link")?;
    let plugs = t.plugs(host).count() + usize::from(matches!(other, Some(End::Device { host: h, .. }) if *h == host));
    let dev = dev.map_or_else(|| format!("eth{plugs}"), str::to_owned);
    if !valid_name(&dev) || dev == "lo" || dev.contains('%') {
        return Err(Problem { line, text: format!("{dev:?} is no name of a device") });
    }
    Ok(End::Device { host, dev })
}

fn find(name: &str, line: usize, t: &Topology, place: &str) -> Result<usize> {
    let names: Vec<&str> = t.hosts.iter().map(|h| h.name.as_str()).collect();
    t.host(name).ok_or_else(|| Problem { line, text: unknown("host", name, place, &names) })
}

fn conditions(k: &Keys<'_>, mut c: Conditions) -> Result<Conditions> {
    for f in k.all().filter(|f| CONDITIONS.contains(&f.key)) {
        let value = f.word()?;
        c = c.apply(std::iter::once(f.key).chain(value.split(' '))).map_err(|e| f.problem(e.to_string()))?;
    }
    Ok(c)
}

fn host(n: usize, k: &Keys<'_>, t: &mut Topology) -> Result<()> {
    k.only(&HOST)?;
    let mut h = Host { name: t.hosts.get(n).map(|h| h.name.clone()).unwrap_or_default(), ..Host::default() };
    h.forward = k.flag("forward")?;
    if let Some(f) = k.get("mem") {
        h.mem = Some(parse_size(&f.word()?).map_err(|e| f.problem(e))?);
    }
    h.sysctls = settings(k.get("sysctl"))?;
    let plugs: Vec<String> = t.plugs(n).map(|(.., dev)| dev.to_owned()).collect();
    if let Some(f) = k.get("bridge") {
        for b in f.keys()?.all() {
            let bridge = bridge(&b, &plugs, &h)?;
            h.bridges.push(bridge);
        }
    }
    let devices: Vec<&str> =
        plugs.iter().map(String::as_str).chain(h.bridges.iter().map(|b| b.name.as_str())).chain(["lo"]).collect();
    let known = |dev: &str, line: usize| match devices.contains(&dev) {
        true => Ok(()),
        false => Err(Problem { line, text: unknown("device", dev, &k.place, &devices) }),
    };
    if let Some(f) = k.get("address") {
        for a in f.keys()?.all() {
            known(a.key, a.line)?;
            for (text, line) in a.texts()? {
                h.addresses.push((a.key.to_owned(), cidr(&text, line, true)?));
            }
        }
    }
    if let Some(f) = k.get("speed") {
        for d in f.keys()?.all() {
            h.speeds.push((d.key.to_owned(), speed(&d, &plugs, &k.place)?));
        }
    }
    if let Some(f) = k.get("xdp") {
        for d in f.keys()?.all() {
            known(d.key, d.line)?;
            h.xdp.push((d.key.to_owned(), d.text()?));
        }
    }
    if let Some(f) = k.get("route") {
        h.routes = f.texts()?.into_iter().map(|(r, line)| route(&r, line, &known)).collect::<Result<_>>()?;
    }
    if let Some(f) = k.get("masquerade") {
        for (dev, line) in f.texts()? {
            known(&dev, line)?;
            h.masquerade.push(dev);
        }
    }
    if let Some(f) = k.get("publish") {
        if t.outside().is_none() {
            return Err(f.problem(format!(
                "publish needs a link to {OUTSIDE:?}: [[link]] between = [\"{}\", \"{OUTSIDE}\"]",
                h.name
            )));
        }
        h.publish = f.texts()?.into_iter().map(|(p, line)| publish(&p, line)).collect::<Result<_>>()?;
    }
    if let Some(f) = k.get("setup") {
        h.setup = f.commands()?;
    }
    if let Some(f) = k.get("program") {
        for p in f.tables()? {
            let p = program(&p, t)?;
            h.programs.push(p);
        }
    }
    if let Some(slot) = t.hosts.get_mut(n) {
        *slot = h;
    }
    Ok(())
}

/// Of a card, which bridges are not.
fn speed(d: &Found<'_>, plugs: &[String], place: &str) -> Result<u32> {
    let all: Vec<&str> = plugs.iter().map(String::as_str).collect();
    if !all.contains(&d.key) {
        return Err(Problem { line: d.line, text: unknown("device", d.key, place, &all) });
    }
    let mbit = d.word()?.parse().ok().filter(|m| (1..=MOST_SPEED).contains(m));
    mbit.ok_or_else(|| d.problem(format!("a speed is 1 to {MOST_SPEED} Mbit/s")))
}

fn bridge(b: &Found<'_>, plugs: &[String], h: &Host) -> Result<Bridge> {
    if !valid_name(b.key) || b.key.contains('%') || plugs.iter().any(|p| p == b.key) {
        return Err(b.problem(format!("{:?} is no name for a bridge, or a link's device has it", b.key)));
    }
    let mut ports = Vec::new();
    for (port, line) in b.texts()? {
        let all: Vec<&str> = plugs.iter().map(String::as_str).collect();
        if !plugs.contains(&port) {
            return Err(Problem { line, text: unknown("device", &port, &format!("bridge {}", b.key), &all) });
        }
        if ports.contains(&port) || h.bridges.iter().any(|o| o.ports.contains(&port)) {
            return Err(Problem { line, text: format!("{port} is a port of a bridge already") });
        }
        ports.push(port);
    }
    Ok(Bridge { name: b.key.to_owned(), ports })
}

/// `ADDRESS/PREFIX`; without a prefix it is one address. A network's bits below the prefix are zero.
fn cidr(text: &str, line: usize, host: bool) -> Result<Cidr> {
    let bad = |why: &str| Problem { line, text: format!("{text:?} {why}, as in 10.0.0.1/24 or fd00::1/64") };
    let (addr, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
    let addr: IpAddr = addr.parse().map_err(|_| bad("is no address"))?;
    let all = if addr.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        Some(p) => p.parse().ok().filter(|p| *p <= all).ok_or_else(|| bad("has no such length of a prefix"))?,
        None if host => return Err(bad("has no length of its prefix")),
        None => all,
    };
    if host && (addr.is_multicast() || addr.is_unspecified()) {
        return Err(bad("is no address that a host can have"));
    }
    Ok((addr, prefix))
}

/// `default via ADDRESS`, `NETWORK via ADDRESS [dev DEVICE]`, `NETWORK dev DEVICE`.
fn route(text: &str, line: usize, known: &dyn Fn(&str, usize) -> Result<()>) -> Result<Route> {
    let bad = |why: String| Problem {
        line,
        text: format!(
            "route {text:?}: {why}; write NETWORK via ADDRESS, with dev DEVICE or only that, NETWORK may be default"
        ),
    };
    let mut words = text.split_whitespace();
    let to = match words.next() {
        Some("default") => None,
        Some(net) => Some(cidr(net, line, false)?),
        None => return Err(bad("it is empty".to_owned())),
    };
    let (mut via, mut dev) = (None, None);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| bad(format!("{word} wants a value")))?;
        match word {
            "via" => via = Some(value.parse().map_err(|_| bad(format!("{value:?} is no address")))?),
            "dev" => {
                known(value, line)?;
                dev = Some(value.to_owned());
            }
            _ => return Err(bad(format!("unknown word {word:?}"))),
        }
    }
    match (via, &dev, to) {
        (None, None, _) => Err(bad("it leads nowhere".to_owned())),
        (Some(v), _, Some((net, _))) if IpAddr::is_ipv4(&v) != net.is_ipv4() => {
            Err(bad("two versions of IP".to_owned()))
        }
        _ => Ok(Route { to, via, dev, line }),
    }
}

/// `[IP:]PORT:PORT[/udp]`.
fn publish(text: &str, line: usize) -> Result<Publish> {
    let bad =
        || Problem { line, text: format!("{text:?} is no [IP:]PORT:PORT[/udp], as in 8080:80 or 0.0.0.0:5353:53/udp") };
    let (ports, proto) = text.split_once('/').unwrap_or((text, "tcp"));
    let udp = match proto {
        "tcp" => false,
        "udp" => true,
        _ => return Err(bad()),
    };
    let (front, port) = ports.rsplit_once(':').ok_or_else(bad)?;
    let (ip, outer) = match front.rsplit_once(':') {
        Some((ip, p)) => (ip.trim_matches(['[', ']']).parse().map_err(|_| bad())?, p),
        None => (IpAddr::V4(Ipv4Addr::LOCALHOST), front),
    };
    let number = |p: &str| p.parse::<u16>().map_err(|_| bad());
    match (number(outer)?, number(port)?) {
        (_, 0) => Err(bad()),
        (outer, port) => Ok(Publish { ip, outer, port, udp }),
    }
}

fn program(k: &Keys<'_>, t: &Topology) -> Result<Program> {
    k.only(&PROGRAM)?;
    let command = k.need("run")?.command()?;
    let mut after = Vec::new();
    if let Some(f) = k.get("after") {
        for (text, line) in f.texts()? {
            let bad = || Problem { line, text: format!("after {text:?}: write HOST:PORT, as in server:80") };
            let (name, port) = text.rsplit_once(':').ok_or_else(bad)?;
            let port = port.parse().ok().filter(|p| *p > 0).ok_or_else(bad)?;
            after.push((find(name, line, t, "after")?, port));
        }
    }
    let mut env = Vec::new();
    if let Some(f) = k.get("env") {
        for e in f.keys()?.all() {
            env.push((e.key.to_owned(), e.word()?));
        }
    }
    Ok(Program { command, service: k.flag("service")?, after, env })
}

/// The device of the link to the machine outside has an address there, and the way out through it.
fn outside_addresses(t: &mut Topology) {
    let Some((_, host, dev)) = t.outside() else { return };
    let dev = dev.to_owned();
    let Some(h) = t.hosts.get_mut(host) else { return };
    if h.addresses.iter().all(|(d, _)| *d != dev) {
        h.addresses.push((dev.clone(), (OUTSIDE_V4.0.into(), OUTSIDE_V4.1)));
        h.addresses.push((dev, (OUTSIDE_V6.0.into(), OUTSIDE_V6.1)));
    }
}

fn workload(k: &Keys<'_>, t: &Topology) -> Result<Workload> {
    k.only(&WORKLOAD)?;
    let side = |key: &str| {
        let f = k.need(key)?;
        find(&f.text()?, f.line, t, "a workload")
    };
    let (from, to) = (side("from")?, side("to")?);
    let size = |key: &str| {
        let f = k.need(key)?;
        parse_bytes(&f.word()?).map_err(|e| f.problem(e.to_string()))
    };
    let kind = match k.need("kind")? {
        f if f.text()? == "stream" => Kind::Stream { bytes: size("bytes")? },
        f if f.text()? == "ask" => Kind::Ask { bytes: size("bytes")?, count: k.number("count")?.unwrap_or(1) },
        f => return Err(f.problem(format!("a workload's kind is stream or ask, not {:?}", f.text()?))),
    };
    let address = match k.get("address") {
        Some(f) => f.text()?.parse().map_err(|_| f.problem("address is no address"))?,
        None => {
            let h = t.hosts.get(to);
            let first = h.and_then(|h| h.first_address(false).or_else(|| h.first_address(true)));
            first.ok_or_else(|| Problem { line: k.line, text: "the host it goes to has no address".to_owned() })?
        }
    };
    let port = k.number("port")?.unwrap_or(5001);
    let port = u16::try_from(port).ok().filter(|p| *p > 0);
    let port = port.ok_or_else(|| Problem { line: k.line, text: "a port is from 1 to 65535".to_owned() })?;
    let at_ns = match k.get("at") {
        Some(f) => parse_delay(&f.word()?).map_err(|e| f.problem(e.to_string()))?,
        None => 0,
    };
    Ok(Workload { kind, from, to, address, port, at_ns })
}

/// The link that a word means: its name, or one of its ends.
pub(crate) fn link_of(t: &Topology, word: &str) -> core::result::Result<usize, String> {
    let fits = |l: &Link| l.name == word || l.ends.iter().any(|e| show(e, t) == word);
    let host = t.host(word);
    let of_host: Vec<usize> = host.map_or_else(Vec::new, |h| t.plugs(h).map(|p| p.0).collect());
    let found = t.links.iter().position(fits);
    if let Some(n) = found.or(of_host.first().copied().filter(|_| of_host.len() == 1)) {
        return Ok(n);
    }
    let names: Vec<&str> = t.links.iter().map(|l| l.name.as_str()).collect();
    let hint = nearest(word, names.iter().copied()).map_or(String::new(), |n| format!("; did you mean {n}?"));
    Err(format!("no link {word:?}{hint}; there are {}", names.join(", ")))
}
