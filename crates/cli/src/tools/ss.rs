//! `belljar ss`: sockets in the columns and words of iproute2's ss.
use super::ss_filter::{SockFilter, StateSet};
use super::ss_info::{self, ms_timer};
use crate::out::{self, Done};
use crate::session::{Session, Target};
use belljar_jar::services::Services;
use belljar_kernel::view::{OwnerView, SockView, UserView, View};
use clap::Args;

#[derive(Args, Debug, Default)]
pub struct Ss {
    /// Do not resolve service names
    #[arg(short, long)]
    pub numeric: bool,
    /// Display all sockets: listening ones, half-open and TIME_WAIT as well
    #[arg(short, long)]
    pub all: bool,
    /// Display listening sockets only (Recv-Q: waiting for accept; Send-Q: limit of that queue)
    #[arg(short, long)]
    pub listening: bool,
    /// Show timers: kind, time left, retransmissions
    #[arg(short, long)]
    pub options: bool,
    /// Show owner, inode, cookie, shutdown state
    #[arg(short, long)]
    pub extended: bool,
    /// Show socket memory: skmem:(r received,rb limit,t on its way,tb limit,f,w queued,o,bl,d drops)
    #[arg(short, long)]
    pub memory: bool,
    /// Show the processes that have the socket open
    #[arg(short, long)]
    pub processes: bool,
    /// Show what TCP knows: RTT, windows, congestion control, retransmissions
    #[arg(short, long)]
    pub info: bool,
    /// Show a summary
    #[arg(short, long)]
    pub summary: bool,
    /// TCP sockets
    #[arg(short, long)]
    pub tcp: bool,
    /// UDP sockets
    #[arg(short, long)]
    pub udp: bool,
    /// Raw sockets: the port is the protocol
    #[arg(short = 'w', long)]
    pub raw: bool,
    /// Packet sockets: protocol and device
    #[arg(short = '0', long)]
    pub packet: bool,
    /// Sockets of AF_INET only
    #[arg(short = '4', long)]
    pub ipv4: bool,
    /// Sockets of AF_INET6 only
    #[arg(short = '6', long, conflicts_with = "ipv4")]
    pub ipv6: bool,
    /// Suppress the header line
    #[arg(short = 'H', long)]
    pub no_header: bool,
    /// One line for each socket
    #[arg(short = 'O', long)]
    pub oneline: bool,
    /// JSON: every row with all it has
    #[arg(short, long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct SsCommand {
    /// The jar, and which of its hosts (default: host)
    #[arg(value_name = "JAR[/HOST]")]
    pub target: Target,
    #[command(flatten)]
    pub ss: Ss,
    /// state NAME, exclude NAME, and expressions over src, dst, sport, dport, dev
    #[arg(value_name = "FILTER")]
    pub filter: Vec<String>,
}

pub fn run(c: &SsCommand) -> Done {
    let services = Services::load();
    let filter = SockFilter::parse(&c.filter, c.ss.states(), &services)?;
    let mut session = Session::open(&c.target)?;
    if c.ss.summary {
        let text = ["sockstat", "sockstat6"].map(|f| session.view::<String>(&format!("proc:/proc/net/{f}")));
        let [four, six] = text;
        let rows: Vec<SockView> = session.view("sockets")?;
        out::print(&summary(&(four? + &six?), &rows))?;
        return Ok(0);
    }
    let rows: Vec<SockView> = session.view("sockets")?;
    let mut chosen: Vec<SockView> = rows.into_iter().filter(|s| c.ss.wants(s) && filter.matches(s)).collect();
    if c.ss.processes || c.ss.json {
        owned(&mut chosen, session.view("users")?);
    }
    if c.ss.json {
        out::print(&out::json(&chosen.to_value()))?;
    } else {
        let names = (!c.ss.numeric).then_some(&services);
        out::print(&table(&chosen, &c.ss, filter.states, names))?;
    }
    Ok(0)
}

/// The stack knows one process only, the programs' descriptors are this machine's: by inode, as ss finds them.
pub fn owned(rows: &mut [SockView], mut owners: Vec<OwnerView>) {
    owners.sort_by_key(|o| (o.inode, o.pid, o.fd));
    for s in rows {
        let inode = u64::from(s.inode);
        let from = owners.partition_point(|o| o.inode < inode);
        let mine = owners.iter().skip(from).take_while(|o| o.inode == inode);
        s.users = mine.map(|o| UserView { name: o.name.clone(), pid: o.pid, fd: o.fd }).collect();
    }
}

impl Ss {
    fn states(&self) -> StateSet {
        match (self.all, self.listening) {
            (true, _) => StateSet::ALL,
            (_, true) => StateSet::LISTENING,
            _ => StateSet::CONNECTED,
        }
    }

    /// Whether the rows are of more than one kind.
    fn both_kinds(&self) -> bool {
        // Packet sockets are of two kinds by themselves.
        self.packet || [self.tcp, self.udp, self.raw].iter().filter(|on| **on).count() != 1
    }

    fn wants(&self, s: &SockView) -> bool {
        let all = !(self.tcp || self.udp || self.raw || self.packet);
        // Ping sockets are in no dump: /proc/net/icmp has them.
        let kind = match s.netid.as_str() {
            "tcp" => all || self.tcp,
            "udp" => all || self.udp,
            "raw" => all || self.raw,
            // Neither of IPv4 nor of IPv6.
            "p_raw" | "p_dgr" => return (all || self.packet) && !self.ipv4 && !self.ipv6,
            _ => false,
        };
        kind && (!self.ipv4 || !s.inet6) && (!self.ipv6 || s.inet6)
    }
}

/// As ss names the states, from netstat's names.
pub fn state_name(s: &SockView) -> String {
    match s.state.as_str() {
        "ESTABLISHED" => "ESTAB".to_owned(),
        "CLOSE" => "UNCONN".to_owned(),
        "FIN_WAIT1" => "FIN-WAIT-1".to_owned(),
        "FIN_WAIT2" => "FIN-WAIT-2".to_owned(),
        other => other.replace('_', "-"),
    }
}

/// Address and port, the colon with the address.
fn endpoint(s: &SockView, peer: bool, services: Option<&Services>) -> (String, String) {
    if s.netid.starts_with("p_") {
        return packet_endpoint(s, peer, services.is_some());
    }
    let (addr, port) = if peer { (s.peer, s.pport) } else { (s.local, s.lport) };
    let text = match (s.inet6, addr.is_unspecified()) {
        (false, _) => addr.to_string(),
        (true, true) if s.v6only => "[::]".to_owned(),
        (true, true) => "*".to_owned(),
        (true, false) if addr.is_ipv6() => format!("[{addr}]"),
        (true, false) => format!("[::ffff:{addr}]"),
    };
    let device = s.device.as_ref().filter(|_| !peer).map_or(String::new(), |d| format!("%{d}"));
    let named = services.and_then(|n| n.name(port, &s.netid));
    let port = match (port, named) {
        (0, _) => "*".to_owned(),
        (p, _) if s.netid == "raw" && services.is_some() => protocol(p),
        (_, Some(name)) => name.to_owned(),
        (p, None) => p.to_string(),
    };
    (format!("{text}{device}:"), port)
}

/// Of a packet socket: the protocol, by name where there is one, and the device.
fn packet_endpoint(s: &SockView, peer: bool, names: bool) -> (String, String) {
    if peer {
        return ("*".to_owned(), String::new());
    }
    let protocol = match s.lport {
        3 => "*".to_owned(),
        0x800 if names => "ip".to_owned(),
        0x806 if names => "arp".to_owned(),
        0x86dd if names => "ipv6".to_owned(),
        n => format!("[{n}]"),
    };
    (format!("{protocol}:"), s.device.clone().unwrap_or_else(|| "*".to_owned()))
}

/// As /etc/protocols has it, of those that are spoken here.
fn protocol(number: u16) -> String {
    match number {
        1 => "icmp".to_owned(),
        2 => "igmp".to_owned(),
        6 => "tcp".to_owned(),
        58 => "ipv6-icmp".to_owned(),
        17 => "udp".to_owned(),
        n => format!("ipproto-{n}"),
    }
}

/// The last column: who, timers, identity, and on a line of its own memory and TCP's state.
fn details(s: &SockView, o: &Ss) -> String {
    let mut out = String::new();
    if o.processes && !s.users.is_empty() {
        let one = |u: &UserView| format!("(\"{}\",pid={},fd={})", u.name, u.pid, u.fd);
        out.push_str(&format!(" users:({})", s.users.iter().map(one).collect::<Vec<_>>().join(",")));
    }
    if (o.options || o.extended)
        && let Some(t) = &s.timer
    {
        out.push_str(&format!(" timer:({},{},{})", t.kind, ms_timer(t.expires_ms), t.retrans));
    }
    if o.extended {
        if s.uid != 0 {
            out.push_str(&format!(" uid:{}", s.uid));
        }
        out.push_str(&format!(" ino:{} sk:{:x}", s.inode, s.cookie));
        if s.inet6 && (s.state == "LISTEN" || s.netid == "udp") {
            out.push_str(&format!(" v6only:{}", u8::from(s.v6only)));
        }
        // Requests and entries of TIME_WAIT, a FIN_WAIT2 without a socket among them, have no ends to shut.
        let entry = s.timer.as_ref().is_some_and(|t| t.kind == "timewait");
        if s.state != "SYN_RECV" && !entry {
            let receives = if s.shutdown & 1 == 0 { '<' } else { '-' };
            let sends = if s.shutdown & 2 == 0 { '>' } else { '-' };
            out.push_str(&format!(" {receives}-{sends}"));
        }
    }
    if o.memory || (o.info && s.netid == "tcp") {
        if !o.oneline {
            out.push_str("\n\t");
        }
        if o.memory
            && let Some(m) = &s.skmem
        {
            out.push_str(&format!(
                " skmem:(r{},rb{},t{},tb{},f{},w{},o{},bl{},d{})",
                m.rmem_alloc,
                m.rcvbuf,
                m.wmem_alloc,
                m.sndbuf,
                m.fwd_alloc,
                m.wmem_queued,
                m.optmem,
                m.backlog,
                m.drops
            ));
        }
        if o.info
            && let Some(i) = &s.info
        {
            out.push_str(&ss_info::tcp(i, s, o.options || o.extended, o.numeric));
        }
    }
    out
}

/// The table: columns as wide as their widest cell, addresses to the right, the rest to the left.
pub fn table(rows: &[SockView], o: &Ss, states: StateSet, services: Option<&Services>) -> String {
    let (netid, state) = (o.both_kinds(), !states.is_single());
    let mut lines: Vec<[String; 9]> = Vec::new();
    let heading = ["Netid", "State", "Recv-Q", "Send-Q", "Local Address:", "Port", "Peer Address:", "Port", "Process"];
    if !o.no_header {
        lines.push(heading.map(str::to_owned));
    }
    for s in rows {
        let (local, lport) = endpoint(s, false, services);
        let (peer, pport) = endpoint(s, true, services);
        let queues = [s.recv_q, s.send_q].map(|q| format!("{q:<6}"));
        let [recv_q, send_q] = queues;
        lines.push([s.netid.clone(), state_name(s), recv_q, send_q, local, lport, peer, pport, details(s, o)]);
    }
    let mut widths = [0; 9];
    for line in &lines {
        for (w, cell) in widths.iter_mut().zip(line) {
            *w = (*w).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for line in &lines {
        let start = out.len();
        for (n, (cell, width)) in line.iter().zip(widths).enumerate() {
            if (n == 0 && !netid) || (n == 1 && !state) {
                continue;
            }
            // The gap before a column; ports follow their address, details bring their own.
            if out.len() > start && matches!(n, 1..=4 | 6) {
                out.push(' ');
            }
            match n {
                4 | 6 => out.push_str(&format!("{cell:>width$}")),
                _ => out.push_str(&format!("{cell:<width$}")),
            }
        }
        out.push('\n');
    }
    out
}

/// A number after a word on the line that begins so, of sockstat.
fn stat(text: &str, line: &str, word: &str) -> u64 {
    let of = text.lines().find_map(|l| l.strip_prefix(line));
    let mut words = of.unwrap_or("").split_whitespace();
    words.find(|w| *w == word);
    words.next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn summary(sockstat: &str, rows: &[SockView]) -> String {
    let get = |line, word| stat(sockstat, line, word);
    let (tcp4, tcp6, tw) = (get("TCP:", "inuse"), get("TCP6:", "inuse"), get("TCP:", "tw"));
    let (udp4, udp6) = (get("UDP:", "inuse"), get("UDP6:", "inuse"));
    let estab = rows.iter().filter(|s| s.netid == "tcp" && matches!(s.state.as_str(), "ESTABLISHED" | "CLOSE_WAIT"));
    let closed = (get("TCP:", "alloc") + tw).saturating_sub(tcp4 + tcp6);
    let mut out = format!(
        "Total: {}\nTCP:   {} (estab {}, closed {closed}, orphaned {}, timewait {tw})\n\nTransport Total     IP        IPv6\n",
        get("sockets:", "used"),
        get("TCP:", "alloc") + tw,
        estab.count(),
        get("TCP:", "orphan"),
    );
    let raw = get("RAW:", "inuse");
    let frags = get("FRAG:", "inuse");
    let lines = [
        ("RAW", raw, 0),
        ("UDP", udp4, udp6),
        ("TCP", tcp4, tcp6),
        ("INET", raw + udp4 + tcp4, udp6 + tcp6),
        ("FRAG", frags, 0),
    ];
    for (name, four, six) in lines {
        out.push_str(&format!("{name}\t  {:<9} {four:<9} {six:<9}\n", four + six));
    }
    out.push('\n');
    out
}

#[cfg(test)]
#[path = "ss_facts.rs"]
mod facts;

#[cfg(test)]
pub mod tests {
    use super::*;
    use belljar_abi::tcp_info::{TCPI_OPT_SACK, TCPI_OPT_TIMESTAMPS, TCPI_OPT_WSCALE, TcpInfo};
    use belljar_kernel::view::{SkmemView, TimerView};

    pub fn row(state: &str, local: (&str, u16), peer: (&str, u16)) -> SockView {
        SockView {
            netid: "tcp".into(),
            state: state.into(),
            inet6: false,
            v6only: false,
            recv_q: 0,
            send_q: 0,
            local: local.0.parse().unwrap(),
            lport: local.1,
            peer: peer.0.parse().unwrap(),
            pport: peer.1,
            device: None,
            uid: 0,
            inode: 0,
            cookie: 0,
            shutdown: 0,
            timer: None,
            skmem: None,
            cong: None,
            info: None,
            bbr: None,
            quickack: 0,
            syn_queue: None,
            users: Vec::new(),
        }
    }

    /// The sockets of a machine on which iproute2's ss printed the texts below.
    fn rows() -> Vec<SockView> {
        let (lo, any) = ("127.0.0.1", "0.0.0.0");
        let timer = |kind: &str, expires_ms| Some(TimerView { kind: kind.into(), expires_ms, retrans: 0 });
        let user = |fd| vec![UserView { name: "python3".into(), pid: 19495, fd }];
        let six = SockView { inet6: true, ..row("LISTEN", (any, 9000), (any, 0)) };
        let udp = SockView { netid: "udp".into(), ..row("ESTABLISHED", (lo, 45449), (lo, 5353)) };
        let udp = SockView { users: user(8), ..udp };
        let unconn =
            SockView { netid: "udp".into(), recv_q: 832, users: user(7), ..row("CLOSE", (any, 5353), (any, 0)) };
        let tcp = [
            SockView {
                recv_q: 2,
                send_q: 5,
                inode: 655588,
                cookie: 11,
                users: user(3),
                ..row("LISTEN", (lo, 8000), (any, 0))
            },
            SockView { inode: 655589, cookie: 2, users: user(4), ..row("ESTABLISHED", (lo, 44194), (lo, 8000)) },
            SockView { cookie: 4, timer: timer("timewait", 59_900), ..row("FIN_WAIT2", (lo, 44222), (lo, 8000)) },
            SockView {
                inode: 655595,
                cookie: 6,
                timer: timer("keepalive", 7_199_000),
                users: user(11),
                ..row("ESTABLISHED", (lo, 54992), (lo, 9000))
            },
            SockView { recv_q: 1, cookie: 7, shutdown: 1, ..row("CLOSE_WAIT", (lo, 8000), (lo, 44222)) },
            SockView { send_q: 100, inode: 655594, cookie: 12, users: user(9), ..six },
            SockView { inet6: true, inode: 655596, cookie: 9, ..row("ESTABLISHED", (lo, 9000), (lo, 54992)) },
        ];
        [udp, unconn].into_iter().chain(tcp).collect()
    }

    fn shown(o: Ss, states: StateSet) -> String {
        let chosen: Vec<_> = rows().into_iter().filter(|s| o.wants(s) && states.has(&s.state)).collect();
        table(&chosen, &o, states, None)
    }

    #[test]
    fn tables_as_iproute2_prints_them() {
        let tan = Ss { tcp: true, ..Ss::default() };
        assert_eq!(
            shown(tan, StateSet::ALL),
            "\
State      Recv-Q Send-Q      Local Address:Port        Peer Address:Port Process
LISTEN     2      5               127.0.0.1:8000             0.0.0.0:*           
ESTAB      0      0               127.0.0.1:44194          127.0.0.1:8000        
FIN-WAIT-2 0      0               127.0.0.1:44222          127.0.0.1:8000        
ESTAB      0      0               127.0.0.1:54992          127.0.0.1:9000        
CLOSE-WAIT 1      0               127.0.0.1:8000           127.0.0.1:44222       
LISTEN     0      100                     *:9000                   *:*           
ESTAB      0      0      [::ffff:127.0.0.1]:9000  [::ffff:127.0.0.1]:54992       
"
        );
        let una = Ss { udp: true, ..Ss::default() };
        assert_eq!(
            shown(una, StateSet::ALL),
            "\
State  Recv-Q Send-Q Local Address:Port  Peer Address:PortProcess
ESTAB  0      0          127.0.0.1:45449    127.0.0.1:5353       
UNCONN 832    0            0.0.0.0:5353       0.0.0.0:*          
"
        );
        let lntp = Ss { tcp: true, processes: true, ..Ss::default() };
        assert_eq!(
            shown(lntp, StateSet::LISTENING),
            "\
State  Recv-Q Send-Q Local Address:Port Peer Address:PortProcess                            
LISTEN 2      5          127.0.0.1:8000      0.0.0.0:*    users:((\"python3\",pid=19495,fd=3))
LISTEN 0      100                *:9000            *:*    users:((\"python3\",pid=19495,fd=9))
"
        );
        let text = shown(Ss { extended: true, tcp: true, ..Ss::default() }, StateSet::ALL);
        for part in [
            "0.0.0.0:*     ino:655588 sk:b <->",
            "127.0.0.1:8000  timer:(timewait,59sec,0) ino:0 sk:4",
            "timer:(keepalive,119min,0) ino:655595 sk:6 <->",
            "44222 ino:0 sk:7 -->",
            "*:*     ino:655594 sk:c v6only:0 <->",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
        let both = shown(Ss { no_header: true, ..Ss::default() }, StateSet::CONNECTED);
        let first = "udp ESTAB      0      0               127.0.0.1:45449          127.0.0.1:5353 ";
        assert_eq!(both.lines().next(), Some(first));
    }

    #[test]
    fn tcp_info_as_iproute2_prints_it() {
        let info = TcpInfo {
            options: TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE,
            snd_wscale: 10,
            rcv_wscale: 10,
            rto: 204_000,
            rtt: 24,
            rttvar: 13,
            snd_mss: 32768,
            pmtu: 65535,
            rcv_mss: 536,
            advmss: 65483,
            snd_cwnd: 11,
            snd_ssthresh: 0x7fff_ffff,
            bytes_sent: 500,
            bytes_acked: 501,
            segs_out: 3,
            segs_in: 2,
            data_segs_out: 1,
            last_data_sent: 976,
            last_data_recv: 976,
            last_ack_recv: 976,
            pacing_rate: 277_241_207_144 / 8,
            max_pacing_rate: u64::MAX,
            delivery_rate: 43_690_666_664 / 8,
            delivered: 2,
            delivery_rate_app_limited: true,
            rcv_space: 65495,
            rcv_ssthresh: 65495,
            min_rtt: 6,
            reordering: 3,
            snd_wnd: 65536,
            ..TcpInfo::default()
        };
        let s = SockView {
            cong: Some("cubic".into()),
            info: Some(info),
            skmem: Some(SkmemView {
                rmem_alloc: 0,
                rcvbuf: 131_072,
                wmem_alloc: 0,
                sndbuf: 3_939_840,
                fwd_alloc: 0,
                wmem_queued: 0,
                optmem: 0,
                backlog: 0,
                drops: 0,
            }),
            ..row("ESTABLISHED", ("127.0.0.1", 44194), ("127.0.0.1", 8000))
        };
        let o = Ss { info: true, options: true, numeric: true, ..Ss::default() };
        assert_eq!(
            details(&s, &o),
            "\n\t ts sack cubic wscale:10,10 rto:204 rtt:0.024/0.013 mss:32768 pmtu:65535 rcvmss:536 advmss:65483 cwnd:11 \
             bytes_sent:500 bytes_acked:501 segs_out:3 segs_in:2 data_segs_out:1 send 120149333333bps lastsnd:976 \
             lastrcv:976 lastack:976 pacing_rate 277241207144bps delivery_rate 43690666664bps delivered:2 app_limited \
             rcv_space:65495 rcv_ssthresh:65495 minrtt:0.006 snd_wnd:65536"
        );
        let o = Ss { info: true, memory: true, ..Ss::default() };
        let start = "\n\t skmem:(r0,rb131072,t0,tb3939840,f0,w0,o0,bl0,d0) cubic wscale:10,10 rto:204 ";
        assert!(details(&s, &o).starts_with(start), "{}", details(&s, &o));
        let listener = SockView {
            cong: Some("bbr".into()),
            info: Some(TcpInfo { state: 10, snd_cwnd: 10, unacked: 2, sacked: 5, reordering: 3, ..TcpInfo::default() }),
            ..row("LISTEN", ("127.0.0.1", 8000), ("0.0.0.0", 0))
        };
        assert_eq!(details(&listener, &Ss { info: true, ..Ss::default() }), "\n\t bbr cwnd:10 unacked:2");
    }

    #[test]
    fn the_summary_counts_as_iproute2_does() {
        let stat = "sockets: used 14\nTCP: inuse 4 orphan 0 tw 1 alloc 7 mem 0\nUDP: inuse 2 mem 0\nUDPLITE: inuse 0\n\
                    RAW: inuse 0\nFRAG: inuse 0 memory 0\nTCP6: inuse 2\nUDP6: inuse 1\n";
        let estab = vec![row("ESTABLISHED", ("127.0.0.1", 1), ("127.0.0.1", 2)); 4];
        assert_eq!(
            summary(stat, &estab),
            "Total: 14\nTCP:   8 (estab 4, closed 2, orphaned 0, timewait 1)\n\nTransport Total     IP        IPv6\n\
             RAW\t  0         0         0        \nUDP\t  3         2         1        \nTCP\t  6         4         2        \n\
             INET\t  9         6         3        \nFRAG\t  0         0         0        \n\n"
        );
    }

    #[test]
    fn owners_are_found_by_inode() {
        let lo = "127.0.0.1";
        let mut rows = [5u32, 6, 7].map(|inode| SockView { inode, ..row("LISTEN", (lo, 80), (lo, 0)) });
        let own = |inode, pid, fd| OwnerView { inode, name: "nginx".into(), pid, fd };
        owned(&mut rows, vec![own(7, 20, 3), own(5, 12, 6), own(5, 11, 6), own(1, 9, 9)]);
        let seen = rows.map(|r| r.users.iter().map(|u| (u.pid, u.fd)).collect::<Vec<_>>());
        assert_eq!(seen, [vec![(11, 6), (12, 6)], vec![], vec![(20, 3)]]);
    }
}
