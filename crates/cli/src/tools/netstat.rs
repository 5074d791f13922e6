//! `belljar netstat`: connections, counters, interfaces and routes in the columns and words of net-tools.
use super::netstat_words::WORDS;
use super::ss::owned;
use crate::out::{self, Done};
use crate::session::{Session, Target};
use belljar_jar::services::Services;
use belljar_kernel::view::{CounterView, LinkView, RouteView, SockView, TimerView, View};
use clap::Args;
use core::net::{IpAddr, Ipv4Addr};
use std::collections::HashMap;
use std::fmt::Write;

#[derive(Args, Debug)]
pub struct NetstatCommand {
    /// The jar, and which of its hosts (default: host)
    #[arg(value_name = "JAR[/HOST]")]
    pub target: Target,
    #[command(flatten)]
    pub opts: Netstat,
}

#[derive(Args, Debug, Default)]
pub struct Netstat {
    /// Display counters in words, as from /proc/net/snmp and /proc/net/netstat
    #[arg(short, long)]
    pub statistics: bool,
    /// Display the interface table
    #[arg(short, long)]
    pub interfaces: bool,
    /// Display the routing table
    #[arg(short, long)]
    pub route: bool,
    /// TCP
    #[arg(short, long)]
    pub tcp: bool,
    /// UDP
    #[arg(short, long)]
    pub udp: bool,
    /// With -s: IP and ICMP
    #[arg(short = 'w', long)]
    pub raw: bool,
    /// Servers and connections (default: connections)
    #[arg(short, long)]
    pub all: bool,
    /// Servers only
    #[arg(short, long)]
    pub listening: bool,
    /// Do not resolve names
    #[arg(short, long)]
    pub numeric: bool,
    /// Display user and inode
    #[arg(short, long)]
    pub extend: bool,
    /// Display the process of each socket
    #[arg(short, long)]
    pub programs: bool,
    /// Display timers
    #[arg(short = 'o', long)]
    pub timers: bool,
    /// Do not truncate addresses
    #[arg(short = 'W', long)]
    pub wide: bool,
    /// JSON
    #[arg(short, long)]
    pub json: bool,
}

pub fn run(c: &NetstatCommand) -> Done {
    let (o, mut session) = (&c.opts, Session::open(&c.target)?);
    let names = if o.numeric { None } else { Some(Names::load()) };
    let text = if o.statistics {
        let counters: Vec<CounterView> = session.view("counters")?;
        if o.json { out::json(&counters.to_value()) } else { statistics(&counters, o) }
    } else if o.interfaces {
        let mut links: Vec<LinkView> = session.view("links")?;
        links.sort_by_cached_key(|l| by_name(&l.name));
        if o.json { out::json(&links.to_value()) } else { interfaces(&links) }
    } else if o.route {
        let routes: Vec<RouteView> = session.view("routes")?;
        let main: Vec<_> = routes.into_iter().filter(|r| r.table == "main").collect();
        if o.json { out::json(&main.to_value()) } else { routing(&main, names.as_ref()) }
    } else {
        let rows: Vec<SockView> = session.view("sockets")?;
        let mut rows: Vec<_> = rows.into_iter().filter(|s| o.wants(s)).collect();
        owned(&mut rows, session.view("users")?);
        if o.json { out::json(&rows.to_value()) } else { connections(&rows, o, names.as_ref()) }
    };
    out::print(&text)?;
    Ok(0)
}

/// Numbers in names count as numbers: v2 comes before v10.
fn by_name(name: &str) -> Vec<(String, u64)> {
    let mut parts: Vec<(String, u64)> = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let word = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, behind) = rest.split_at(word);
        let digits = behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len());
        let (number, behind) = behind.split_at(digits);
        parts.push((text.to_owned(), number.parse().unwrap_or(0)));
        rest = behind;
    }
    parts
}

/// Names of ports and of the machine's own addresses.
struct Names {
    services: Services,
    hosts: HashMap<IpAddr, String>,
}

impl Names {
    fn load() -> Names {
        let text = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        let mut hosts = HashMap::new();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or("").split_whitespace();
            if let (Some(Ok(addr)), Some(name)) = (words.next().map(str::parse), words.next()) {
                hosts.entry(addr).or_insert_with(|| name.to_owned());
            }
        }
        Names { services: Services::load(), hosts }
    }
}

impl Netstat {
    fn wants(&self, s: &SockView) -> bool {
        let server = s.state == "LISTEN" || (s.netid != "tcp" && s.state == "CLOSE");
        let all = !(self.tcp || self.udp || self.raw);
        let kind = match s.netid.as_str() {
            "tcp" => all || self.tcp,
            "udp" => all || self.udp,
            "raw" => all || self.raw,
            _ => false,
        };
        kind && (self.all || server == self.listening)
    }
}

fn endpoint(s: &SockView, peer: bool, o: &Netstat, names: Option<&Names>) -> String {
    let (addr, port) = if peer { (s.peer, s.pport) } else { (s.local, s.lport) };
    let host = match (s.inet6, addr.is_unspecified()) {
        (true, true) => "::".to_owned(),
        (false, false) => names.and_then(|n| n.hosts.get(&addr)).map_or_else(|| addr.to_string(), Clone::clone),
        _ => addr.to_string(),
    };
    let port = match (port, names.and_then(|n| n.services.name(port, &s.netid))) {
        (0, _) => "*".to_owned(),
        (_, Some(name)) => name.to_owned(),
        (p, None) => p.to_string(),
    };
    let room = if o.wide { usize::MAX } else { 22usize.saturating_sub(port.len()) };
    let host: String = host.chars().take(room).collect();
    format!("{host}:{port}")
}

fn timer(t: Option<&TimerView>) -> String {
    let Some(t) = t else { return "off (0.00/0/0)".to_owned() };
    let name = if t.kind == "persist" { "probe" } else { &t.kind };
    format!("{name} ({:.2}/{}/0)", t.expires_ms as f64 / 1000.0, t.retrans)
}

fn connections(rows: &[SockView], o: &Netstat, names: Option<&Names>) -> String {
    let which = match (o.all, o.listening) {
        (true, _) => "servers and established",
        (_, true) => "only servers",
        _ => "w/o servers",
    };
    let mut out = format!("Active Internet connections ({which})\n");
    out.push_str("Proto Recv-Q Send-Q Local Address           Foreign Address         State      ");
    for (on, title) in
        [(o.extend, " User       Inode     "), (o.programs, " PID/Program name    "), (o.timers, " Timer")]
    {
        out.push_str(if on { title } else { "" });
    }
    out.push('\n');
    let order = |s: &&SockView| (["tcp", "udp", "raw"].iter().position(|n| *n == s.netid), s.inet6);
    let mut sorted: Vec<_> = rows.iter().collect();
    sorted.sort_by_key(order);
    for s in sorted {
        let proto = format!("{}{}", s.netid, if s.inet6 { "6" } else { "" });
        let (local, peer) = (endpoint(s, false, o, names), endpoint(s, true, o, names));
        let state = match (s.netid.as_str(), s.state.as_str()) {
            ("udp", "CLOSE") => "",
            // netstat writes the number.
            ("raw", state) => {
                if state == "CLOSE" {
                    "7"
                } else {
                    "1"
                }
            }
            (_, state) => state,
        };
        // The limit of a listener's queue is not in the file that netstat reads.
        let send_q = if s.state == "LISTEN" { 0 } else { s.send_q };
        let _ = write!(out, "{proto:<5} {:>6} {send_q:>6} {local:<23} {peer:<23} {state:<11}", s.recv_q);
        if o.extend {
            let _ = write!(out, " {:<10} {:<10}", s.uid, s.inode);
        }
        if o.programs {
            let program = s.users.first().map_or("-".to_owned(), |u| format!("{}/{}", u.pid, u.name));
            let _ = write!(out, " {program:<20}");
        }
        if o.timers {
            let _ = write!(out, " {}", timer(s.timer.as_ref()));
        }
        out.push('\n');
    }
    out
}

fn statistics(counters: &[CounterView], o: &Netstat) -> String {
    let all = !(o.tcp || o.udp || o.raw);
    let mut out = String::new();
    let (mut group, mut indent) = (String::new(), 4);
    for c in counters {
        let wanted = match c.group.as_str() {
            "Ip" | "Icmp" => all || o.raw,
            "Tcp" | "TcpExt" => all || o.tcp,
            "Udp" => all || o.udp,
            _ => true,
        };
        if !wanted {
            continue;
        }
        if group != c.group {
            // The histogram's indentation stays for the lines that follow it as a group of their own.
            indent = if c.group == "IcmpMsg" { indent } else { 4 };
            group.clone_from(&c.group);
            let _ = writeln!(out, "{group}:");
        }
        counter(&mut out, c, &mut indent);
    }
    out
}

fn counter(out: &mut String, c: &CounterView, indent: &mut usize) {
    match (c.group.as_str(), c.name.as_str()) {
        ("Ip", "DefaultTTL") | ("Tcp", "RtoAlgorithm" | "RtoMin" | "RtoMax" | "MaxConn") => return,
        ("Icmp", name @ ("InDestUnreachs" | "OutDestUnreachs")) => {
            let way = if name.starts_with("In") { "input" } else { "output" };
            let _ = writeln!(out, "    ICMP {way} histogram:");
            *indent = 8;
        }
        ("Icmp", "OutMsgs") => *indent = 4,
        _ => {}
    }
    let known = WORDS.iter().find(|(g, n, _, _)| *g == c.group && *n == c.name);
    if c.value == 0 && !known.is_some_and(|w| w.3) {
        return;
    }
    let line = match known {
        Some((_, _, words, _)) => words.replace("%u", &c.value.to_string()),
        None => format!("{}: {}", c.name, c.value),
    };
    let _ = writeln!(out, "{:indent$}{line}", "", indent = *indent);
}

fn interfaces(links: &[LinkView]) -> String {
    let mut out = String::from("Kernel Interface table\n");
    out.push_str("Iface             MTU    RX-OK RX-ERR RX-DRP RX-OVR    TX-OK TX-ERR TX-DRP TX-OVR Flg\n");
    let letters = [("BROADCAST", 'B'), ("LOOPBACK", 'L'), ("PROMISC", 'P'), ("MULTICAST", 'M')];
    for l in links.iter().filter(|l| l.flags.iter().any(|f| f == "UP")) {
        let s = &l.stats;
        let mut flags: String =
            letters.iter().filter(|(name, _)| l.flags.iter().any(|f| f == name)).map(|x| x.1).collect();
        flags.push_str(if l.flags.iter().any(|f| f == "LOWER_UP") { "RU" } else { "U" });
        let _ = writeln!(
            out,
            "{:<15.15} {:>5} {:>8} {:>6} {:>6} {:<6} {:>8} {:>6} {:>6} {:>6} {flags}",
            l.name,
            l.mtu,
            s.rx_packets,
            s.rx_errors,
            s.rx_dropped + s.rx_missed_errors,
            s.rx_fifo_errors,
            s.tx_packets,
            s.tx_errors,
            s.tx_dropped,
            s.tx_fifo_errors
        );
    }
    out
}

fn routing(routes: &[RouteView], names: Option<&Names>) -> String {
    let mut out = String::from("Kernel IP routing table\n");
    out.push_str("Destination     Gateway         Genmask         Flags   MSS Window  irtt Iface\n");
    for r in routes.iter().filter(|r| r.dst.is_ipv4()) {
        let dst = match names {
            Some(_) if r.prefixlen == 0 => "default".to_owned(),
            _ => r.dst.to_string(),
        };
        let mask = Ipv4Addr::from_bits(crate::parse::mask(r.prefixlen));
        let rejects = matches!(r.kind.as_str(), "unreachable" | "prohibit" | "blackhole");
        let gateway = r.gateway.map_or("0.0.0.0".to_owned(), |g| g.to_string());
        let mut flags = String::from(if rejects { "!" } else { "U" });
        flags.push_str(if r.gateway.is_some() { "G" } else { "" });
        flags.push_str(if r.prefixlen == 32 { "H" } else { "" });
        let metric = |name| r.metric_of(name).unwrap_or(0);
        let mss = r.metric_of("advmss").map_or(0, |m| m + 40);
        let (window, irtt) = (metric("window"), metric("rtt") >> 3);
        let dev = if rejects { "-" } else { &r.dev };
        let _ = writeln!(out, "{dst:<15} {gateway:<15} {mask:<15} {flags:<5} {mss:>5} {window:<5} {irtt:>6} {dev}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::ss::tests::row;

    #[test]
    fn connections_as_net_tools_prints_them() {
        let lo = "127.0.0.1";
        let rows = [
            SockView { netid: "udp".into(), recv_q: 832, ..row("CLOSE", ("0.0.0.0", 5353), ("0.0.0.0", 0)) },
            SockView { recv_q: 2, send_q: 5, inode: 655588, ..row("LISTEN", (lo, 8000), ("0.0.0.0", 0)) },
            SockView { inet6: true, ..row("LISTEN", ("0.0.0.0", 9000), ("0.0.0.0", 0)) },
            SockView {
                timer: Some(TimerView { kind: "keepalive".into(), expires_ms: 7_180_390, retrans: 0 }),
                ..row("ESTABLISHED", (lo, 54992), (lo, 9000))
            },
        ];
        let o = Netstat { all: true, timers: true, numeric: true, ..Netstat::default() };
        assert_eq!(
            connections(&rows, &o, None),
            "\
Active Internet connections (servers and established)
Proto Recv-Q Send-Q Local Address           Foreign Address         State       Timer
tcp        2      0 127.0.0.1:8000          0.0.0.0:*               LISTEN      off (0.00/0/0)
tcp        0      0 127.0.0.1:54992         127.0.0.1:9000          ESTABLISHED keepalive (7180.39/0/0)
tcp6       0      0 :::9000                 :::*                    LISTEN      off (0.00/0/0)
udp      832      0 0.0.0.0:5353            0.0.0.0:*                           off (0.00/0/0)
"
        );
        let o = Netstat { listening: true, tcp: true, extend: true, ..Netstat::default() };
        let wanted: Vec<_> = rows.iter().filter(|s| o.wants(s)).cloned().collect();
        let text = connections(&wanted, &o, None);
        let line =
            "tcp        2      0 127.0.0.1:8000          0.0.0.0:*               LISTEN      0          655588    ";
        assert_eq!((text.lines().count(), text.lines().nth(2)), (4, Some(line)));
    }

    #[test]
    fn counters_in_words() {
        let c = |group: &str, name: &str, value| CounterView { group: group.into(), name: name.into(), value };
        let counters = [
            c("Ip", "Forwarding", 2),
            c("Ip", "DefaultTTL", 64),
            c("Ip", "InReceives", 0),
            c("Ip", "InHdrErrors", 0),
            c("Icmp", "InMsgs", 4),
            c("Icmp", "InDestUnreachs", 4),
            c("Icmp", "OutMsgs", 4),
            c("Icmp", "OutRateLimitHost", 1),
            c("Icmp", "OutDestUnreachs", 0),
            c("IcmpMsg", "InType3", 4),
            c("Tcp", "ActiveOpens", 4),
            c("TcpExt", "ListenOverflows", 3),
            c("TcpExt", "DelayedACKLost", 2),
            c("IpExt", "InOctets", 1811),
        ];
        assert_eq!(
            statistics(&counters, &Netstat::default()),
            "\
Ip:
    Forwarding: 2
    0 total packets received
Icmp:
    4 ICMP messages received
    ICMP input histogram:
        destination unreachable: 4
    4 ICMP messages sent
    OutRateLimitHost: 1
    ICMP output histogram:
IcmpMsg:
        InType3: 4
Tcp:
    4 active connection openings
TcpExt:
    3 times the listen queue of a socket overflowed
    Quick ack mode was activated 2 times
IpExt:
    InOctets: 1811
"
        );
        let udp = statistics(&counters, &Netstat { udp: true, ..Netstat::default() });
        assert_eq!(udp, "IcmpMsg:\n    InType3: 4\nIpExt:\n    InOctets: 1811\n");
    }

    #[test]
    fn interfaces_are_in_the_order_of_their_names() {
        let mut names = ["v10", "lo", "v2", "br0"];
        names.sort_by_cached_key(|n| by_name(n));
        assert_eq!(names, ["br0", "lo", "v2", "v10"]);
    }

    #[test]
    fn interfaces_and_routes() {
        let link = crate::tools::ip::tests::link("lo", true);
        assert_eq!(
            interfaces(&[link]).lines().nth(2),
            Some("lo              65536       21      0      0 0            21      0      0      0 LRU")
        );
        let routes = crate::tools::ip::tests::routes();
        let main: Vec<_> = routes.into_iter().filter(|r| r.table == "main").collect();
        assert_eq!(
            routing(&main, None),
            "\
Kernel IP routing table
Destination     Gateway         Genmask         Flags   MSS Window  irtt Iface
0.0.0.0         10.9.0.2        0.0.0.0         UG        0 0          0 v0
10.9.0.0        0.0.0.0         255.255.255.0   U         0 0          0 v0
"
        );
    }
}
