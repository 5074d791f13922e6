//! The texts of `/proc/net/*`, `/proc/softirqs` and friends: built on request from the views, in the kernel's columns.
//!
//! What Linux prints of things that this stack has not got is left out. What is always empty on Linux as well (the cache of
//! routes), or here because its objects are refused (UDP-Lite), has its heading.
mod dev;
mod igmp;
mod ipv6;
mod mem;
mod netfilter;
mod packet;
pub mod vlan;

use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::netfilter::Pf;
use crate::net::netfilter::blob::ext::{matches, targets};
use crate::view::{CounterView, SockView, TimerView};
use core::net::{IpAddr, Ipv6Addr};
use std::fmt::Write;

/// Files under `/proc` that [`Kernel::proc_text`] writes.
pub const FILES: &[&str] = &[
    "/proc/net/tcp",
    "/proc/net/tcp6",
    "/proc/net/udp",
    "/proc/net/udp6",
    "/proc/net/udplite",
    "/proc/net/udplite6",
    "/proc/net/raw",
    "/proc/net/icmp",
    "/proc/net/snmp",
    "/proc/net/netstat",
    "/proc/net/sockstat",
    "/proc/net/sockstat6",
    "/proc/net/dev",
    "/proc/net/dev_mcast",
    "/proc/net/ptype",
    "/proc/net/rt_cache",
    "/proc/net/arp",
    "/proc/net/route",
    "/proc/net/igmp",
    "/proc/net/packet",
    "/proc/net/mcfilter",
    "/proc/net/psched",
    "/proc/net/softnet_stat",
    "/proc/net/stat/arp_cache",
    "/proc/net/stat/ndisc_cache",
    "/proc/net/if_inet6",
    "/proc/net/ipv6_route",
    "/proc/net/snmp6",
    "/proc/net/raw6",
    "/proc/net/icmp6",
    "/proc/net/igmp6",
    "/proc/net/anycast6",
    "/proc/net/ip6_flowlabel",
    "/proc/net/ip_tables_names",
    "/proc/net/ip6_tables_names",
    "/proc/net/ip_tables_matches",
    "/proc/net/ip_tables_targets",
    "/proc/net/ip6_tables_matches",
    "/proc/net/ip6_tables_targets",
    "/proc/net/nf_conntrack",
    "/proc/net/nf_conntrack_expect",
    "/proc/net/netfilter/nf_log",
    "/proc/net/netfilter/nfnetlink_log",
    "/proc/net/stat/nf_conntrack",
    "/proc/softirqs",
    "/proc/interrupts",
    "/proc/slabinfo",
    "/proc/buddyinfo",
    "/proc/meminfo",
    "/proc/zoneinfo",
];

impl Kernel {
    /// The text of a file under `/proc`, as a process of this namespace reads it.
    pub fn proc_text(&self, ns: NsId, path: &str) -> Option<String> {
        Some(match path {
            "/proc/net/tcp" => sockets(&self.view_sockets(ns), "tcp", false),
            "/proc/net/tcp6" => sockets(&self.view_sockets(ns), "tcp", true),
            "/proc/net/udp" => sockets(&self.view_sockets(ns), "udp", false),
            "/proc/net/udp6" => sockets(&self.view_sockets(ns), "udp", true),
            "/proc/net/udplite" => sockets(&[], "udp", false),
            "/proc/net/udplite6" => sockets(&[], "udp", true),
            "/proc/net/raw" => sockets(&self.view_sockets(ns), "raw", false),
            "/proc/net/icmp" => sockets(&self.view_sockets(ns), "icmp", false),
            "/proc/net/snmp" => {
                let counters = self.view_counters(ns);
                snmp(&counters, &["Ip", "Icmp", "IcmpMsg", "Tcp", "Udp"]) + &udplite(&counters)
            }
            "/proc/net/netstat" => snmp(&self.view_counters(ns), &["TcpExt", "IpExt"]),
            "/proc/net/sockstat" => self.sockstat(ns),
            "/proc/net/sockstat6" => self.sockstat6(ns),
            "/proc/net/dev" => dev::dev(&self.view_links(ns)),
            "/proc/net/dev_mcast" => igmp::dev_mcast(self, ns),
            "/proc/net/ptype" => packet::ptype(self, ns),
            "/proc/net/rt_cache" => dev::rt_cache(),
            "/proc/net/arp" => dev::arp(&self.net, ns, &self.view_neighs(ns)),
            "/proc/net/route" => dev::route(&self.routes_of(ns, false)),
            "/proc/net/igmp" => igmp::igmp(self, ns),
            "/proc/net/packet" => packet::packet(self, ns),
            "/proc/net/mcfilter" => igmp::mcfilter(self, ns),
            "/proc/net/softnet_stat" => dev::softnet_stat(&self.view_softnet()),
            "/proc/net/stat/arp_cache" => dev::neigh_stat(&self.net, false),
            "/proc/net/stat/ndisc_cache" => dev::neigh_stat(&self.net, true),
            "/proc/net/if_inet6" => self.if_inet6(ns),
            "/proc/net/ipv6_route" => self.ipv6_route(ns),
            "/proc/net/igmp6" => igmp::igmp6(self, ns),
            "/proc/net/anycast6" => self.anycast6(ns),
            "/proc/net/ip6_flowlabel" => crate::net::ipv6::flowlabel::show(&self.net, ns),
            "/proc/net/snmp6" => ipv6::snmp6(&self.view_counters(ns)),
            "/proc/net/raw6" => sockets(&self.view_sockets(ns), "raw", true),
            "/proc/net/icmp6" => sockets(&self.view_sockets(ns), "icmp", true),
            "/proc/net/ip_tables_names" => self.net.proc_tables_names(ns, Pf::V4),
            "/proc/net/ip6_tables_names" => self.net.proc_tables_names(ns, Pf::V6),
            "/proc/net/ip_tables_matches" => netfilter::names(&matches(Pf::V4)),
            "/proc/net/ip_tables_targets" => netfilter::names(&targets(Pf::V4)),
            "/proc/net/ip6_tables_matches" => netfilter::names(&matches(Pf::V6)),
            "/proc/net/ip6_tables_targets" => netfilter::names(&targets(Pf::V6)),
            // No helper expects anything here.
            "/proc/net/nf_conntrack_expect" => String::new(),
            "/proc/net/netfilter/nf_log" => netfilter::loggers(self, ns),
            "/proc/net/netfilter/nfnetlink_log" => self.net.proc_nfnetlink_log(ns),
            "/proc/net/nf_conntrack" => self.net.proc_nf_conntrack(ns),
            "/proc/net/stat/nf_conntrack" => self.net.proc_stat_nf_conntrack(ns),
            // Nanoseconds of a tick times 1000, ticks of 64 ns; a clock of a microsecond, timers of a nanosecond.
            "/proc/net/psched" => "000003e8 00000040 000f4240 3b9aca00\n".to_owned(),
            "/proc/softirqs" => dev::softirqs(&self.view_softnet()),
            "/proc/interrupts" => dev::interrupts(&self.net, ns),
            "/proc/slabinfo" => self.slabinfo(),
            "/proc/buddyinfo" => self.buddyinfo(),
            "/proc/meminfo" => self.meminfo(),
            "/proc/zoneinfo" => self.zoneinfo(),
            _ => {
                let (dir, name) = path.strip_prefix("/proc/net/")?.split_once('/')?;
                return match dir {
                    "vlan" => vlan::file(&self.net, ns, name),
                    _ => self.net.xt_file(ns, dir, name),
                };
            }
        })
    }

    /// `inuse` and `tw` are of the namespace, `orphan`, `alloc` and `mem` of the machine.
    fn sockstat(&self, ns: NsId) -> String {
        let rows = self.view_sockets(ns);
        let full = |s: &&SockView| s.skmem.is_some();
        let inuse = |netid: &str| rows.iter().filter(full).filter(|s| s.netid == netid && !s.inet6).count();
        let tws = self.net.ns.get(ns).map_or(0, |n| n.tcp.tws.len());
        let usage = &self.net.usage;
        let frags = self.net.ns.get(ns).map_or(0, |n| n.frags.len());
        format!(
            "sockets: used {}\nTCP: inuse {} orphan {} tw {tws} alloc {} mem {}\nUDP: inuse {} mem {}\n\
             UDPLITE: inuse 0\nRAW: inuse {}\nFRAG: inuse {frags} memory 0\n",
            rows.iter().filter(full).count(),
            inuse("tcp"),
            usage.tcp_orphans,
            self.socks.tcp.len(),
            usage.tcp_bytes.div_ceil(4096),
            inuse("udp"),
            usage.udp_bytes.div_ceil(4096),
            inuse("raw"),
        )
    }

    fn sockstat6(&self, ns: NsId) -> String {
        let rows = self.view_sockets(ns);
        let inuse = |netid: &str| rows.iter().filter(|s| s.skmem.is_some() && s.netid == netid && s.inet6).count();
        format!(
            "TCP6: inuse {}\nUDP6: inuse {}\nUDPLITE6: inuse 0\nRAW6: inuse {}\nFRAG6: inuse {} memory {}\n",
            inuse("tcp"),
            inuse("udp"),
            inuse("raw"),
            self.net.ns.get(ns).map_or(0, |n| n.v6.frags.len()),
            self.net.ns.get(ns).map_or(0, |n| n.v6.frags.bytes),
        )
    }
}

/// Pairs of lines: the names, the values.
fn snmp(counters: &[CounterView], groups: &[&str]) -> String {
    let mut out = String::new();
    for group in groups {
        let of: Vec<_> = counters.iter().filter(|c| c.group == *group).collect();
        if of.is_empty() {
            continue;
        }
        let names: String = of.iter().map(|c| format!(" {}", c.name)).collect();
        // MaxConn without a limit is -1.
        let values: String = of.iter().map(|c| format!(" {}", c.value as i64)).collect();
        let _ = write!(out, "{group}:{names}\n{group}:{values}\n");
    }
    out
}

/// UDP-Lite is refused: its counters, which are those of UDP, stand still.
fn udplite(counters: &[CounterView]) -> String {
    let still = |c: &CounterView| CounterView { group: "UdpLite".into(), name: c.name.clone(), value: 0 };
    let of: Vec<_> = counters.iter().filter(|c| c.group == "Udp").map(still).collect();
    snmp(&of, &["UdpLite"])
}

/// An address as the file has it: the bytes of the word in the machine's order.
fn hex(addr: IpAddr, mapped: bool) -> String {
    let addr = match addr {
        IpAddr::V4(addr) => addr,
        IpAddr::V6(addr) => return hex6(addr),
    };
    let word = u32::from_ne_bytes(addr.octets());
    match (mapped, addr.is_unspecified()) {
        (false, _) => format!("{word:08X}"),
        (true, true) => "0".repeat(32),
        (true, false) => format!("{}{:08X}{word:08X}", "0".repeat(16), u32::from_ne_bytes([0, 0, 255, 255])),
    }
}

/// Four words, each in the machine's order.
fn hex6(addr: Ipv6Addr) -> String {
    let words = addr.octets();
    words.chunks_exact(4).map(|w| format!("{:08X}", u32::from_ne_bytes([w[0], w[1], w[2], w[3]]))).collect()
}

fn state_number(name: &str) -> u8 {
    let mut all = crate::net::tcp::state::State::ALL.into_iter();
    all.find(|s| s.name() == name).map_or(7, |s| s as u8)
}

fn sockets(rows: &[SockView], netid: &str, inet6: bool) -> String {
    let udp = netid != "tcp";
    let raw = netid == "raw";
    let (width, remote) = if inet6 { (37, "remote_address") } else { (13, "rem_address") };
    let lead = if netid == "udp" && !inet6 { "   sl " } else { "  sl " };
    // IPv4 lines have a fixed length, so that a reader may seek by line.
    let length = match (inet6, udp) {
        (true, _) => 0,
        (false, _) if raw => 0,
        (false, false) => 149,
        (false, true) => 127,
    };
    let mut heading = format!(
        "{lead} {:<width$} {remote:<width$} st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
        "local_address"
    );
    if udp {
        heading.push_str(" ref pointer drops");
    }
    let mut out = format!("{heading:<length$}\n");
    // What is only bound is in no table that this file walks.
    let hashed = |s: &&SockView| udp || s.state != "CLOSE";
    for (n, s) in rows.iter().filter(|s| s.netid == netid && s.inet6 == inet6).filter(hashed).enumerate() {
        let n = match netid {
            // The place in a table by protocol.
            "raw" => format!("{:>4}", s.lport % 256),
            "tcp" => format!("{n:>4}"),
            _ => format!("{n:>5}"),
        };
        let _ = writeln!(out, "{:<length$}", format!("{n}: {}", socket_line(s, udp)));
    }
    out
}

fn socket_line(s: &SockView, udp: bool) -> String {
    let (tr, when, retrans) = s.timer.as_ref().map_or((0, 0, 0), timer);
    // A listener has no send queue here: its limit is only in inet_diag.
    let tx = if s.state == "LISTEN" { 0 } else { s.send_q };
    let addr = |a, p: u16| format!("{}:{p:04X}", hex(a, s.inet6));
    let mut line = format!(
        "{} {} {:02X} {tx:08X}:{:08X} {tr:02X}:{when:08X} {retrans:08X} {:>5} {:>8} {}",
        addr(s.local, s.lport),
        addr(s.peer, s.pport),
        state_number(&s.state),
        s.recv_q,
        s.uid,
        0,
        s.inode
    );
    let refs = match s.state.as_str() {
        "TIME_WAIT" => 3,
        _ if udp || s.timer.is_some() => 2,
        _ => 1,
    };
    // Where the object lies in memory: hidden from ordinary readers on Linux, meaningless here.
    let _ = write!(line, " {refs} 0000000000000000");
    if udp {
        let _ = write!(line, " {}", s.skmem.as_ref().map_or(0, |m| m.drops));
    } else if let Some(i) = &s.info {
        // A listener has no timer of its own; what its connections begin with stands there.
        let rto = if i.rto == 0 { 1_000_000 } else { i.rto };
        let ssthresh = match s.state.as_str() {
            "LISTEN" => 0,
            _ if i.snd_ssthresh >= 0x7fff_ffff => -1,
            _ => i64::from(i.snd_ssthresh),
        };
        let _ = write!(line, " {} {} {} {} {ssthresh}", rto / 10_000, i.ato / 10_000, s.quickack, i.snd_cwnd);
    }
    line
}

/// Timer number, hundredths of a second, retransmissions.
fn timer(t: &TimerView) -> (u8, u64, u32) {
    let number = match t.kind.as_str() {
        "on" => 1,
        "keepalive" => 2,
        "timewait" => 3,
        "persist" => 4,
        _ => 0,
    };
    (number, t.expires_ms / 10, t.retrans)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{SkmemView, View};
    use belljar_abi::tcp_info::TcpInfo;
    use core::net::Ipv4Addr;

    fn row(state: &str) -> SockView {
        let mem = [0; 9];
        let [rmem_alloc, rcvbuf, wmem_alloc, sndbuf, fwd_alloc, wmem_queued, optmem, backlog, drops] = mem;
        SockView {
            netid: "tcp".into(),
            state: state.into(),
            inet6: false,
            v6only: false,
            recv_q: 0,
            send_q: 5,
            local: Ipv4Addr::LOCALHOST.into(),
            lport: 8000,
            peer: Ipv4Addr::UNSPECIFIED.into(),
            pport: 0,
            device: None,
            uid: 0,
            inode: 667_804,
            cookie: 1 << 32,
            shutdown: 0,
            timer: None,
            skmem: Some(SkmemView {
                rmem_alloc,
                rcvbuf,
                wmem_alloc,
                sndbuf,
                fwd_alloc,
                wmem_queued,
                optmem,
                backlog,
                drops,
            }),
            cong: Some("cubic".into()),
            info: Some(TcpInfo { rto: 1_000_000, snd_cwnd: 10, snd_ssthresh: 0x7fff_ffff, ..TcpInfo::default() }),
            bbr: None,
            quickack: 0,
            syn_queue: Some(0),
            users: Vec::new(),
        }
    }

    // The lines are what Linux 6.18 printed for such sockets, the pointers blanked.
    #[test]
    fn socket_files_have_the_kernels_columns() {
        let info = TcpInfo { rto: 204_000, ato: 40_000, snd_cwnd: 10, snd_ssthresh: 0x7fff_ffff, ..TcpInfo::default() };
        let child = SockView {
            recv_q: 500,
            send_q: 0,
            peer: Ipv4Addr::LOCALHOST.into(),
            pport: 0xbf2c,
            inode: 667_806,
            info: Some(info),
            quickack: 30,
            ..row("ESTABLISHED")
        };
        let keep = TimerView { kind: "keepalive".into(), expires_ms: 7_199_080, retrans: 0 };
        let waiting = TimerView { kind: "timewait".into(), expires_ms: 59_120, retrans: 0 };
        let tw = SockView { send_q: 0, inode: 0, info: None, timer: Some(waiting), ..row("TIME_WAIT") };
        let text = sockets(&[row("LISTEN"), child.clone(), tw], "tcp", false);
        let lines: Vec<_> = text.lines().collect();
        assert!(text.lines().all(|l| l.len() == 149), "{text}");
        assert_eq!(
            lines.iter().map(|l| l.trim_end()).collect::<Vec<_>>(),
            [
                "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
                "   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 667804 1 0000000000000000 100 0 0 10 0",
                "   1: 0100007F:1F40 0100007F:BF2C 01 00000000:000001F4 00:00000000 00000000     0        0 667806 1 0000000000000000 20 4 30 10 -1",
                "   2: 0100007F:1F40 00000000:0000 06 00000000:00000000 03:00001718 00000000     0        0 0 3 0000000000000000",
            ]
        );
        let six = SockView { inet6: true, timer: Some(keep), ..child };
        let text = sockets(std::slice::from_ref(&six), "tcp", true);
        let heading = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0000000000000000FFFF00000100007F:1F40 0000000000000000FFFF00000100007F:BF2C 01 00000000:000001F4 02:000AFC24 ";
        assert!(text.starts_with(heading), "{text}");
        assert_eq!(SockView::from_value(&six.to_value()), Some(six));
        let udp = SockView { netid: "udp".into(), recv_q: 832, send_q: 0, lport: 0x14e9, ..row("CLOSE") };
        let text = sockets(&[udp], "udp", false);
        assert!(text.starts_with("   sl  local_address rem_address   st "), "{text}");
        assert!(text.contains("    0: 0100007F:14E9 00000000:0000 07 00000000:00000340 00:00000000 00000000     0        0 667804 2 0000000000000000 0"), "{text}");
        assert!(text.lines().all(|l| l.len() == 127));
    }

    #[test]
    fn counters_come_in_pairs_of_lines() {
        let c = |group: &str, name: &str, value| CounterView { group: group.into(), name: name.into(), value };
        let all = [c("Ip", "Forwarding", 2), c("Tcp", "MaxConn", u64::MAX), c("Tcp", "InSegs", 7)];
        assert_eq!(snmp(&all, &["Ip", "IcmpMsg", "Tcp"]), "Ip: Forwarding\nIp: 2\nTcp: MaxConn InSegs\nTcp: -1 7\n");
    }
}
