//! Connections as text: `/proc/net/nf_conntrack`, the columns of `/proc/net/stat/nf_conntrack`, the lines of `conntrack -L`.
use super::*;
use crate::net::netfilter::packet::addr;
use std::fmt::Write;

fn proto_name(proto: u8) -> &'static str {
    match proto {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        58 => "icmpv6",
        _ => "unknown",
    }
}

fn tuple(out: &mut String, t: &Tuple) {
    let _ = write!(out, "src={} dst={} ", addr(t.pf, t.src), addr(t.pf, t.dst));
    if t.is_icmp() {
        let _ = write!(out, "type={} code={} id={} ", t.dport >> 8, t.dport & 255, t.sport);
    } else if matches!(t.proto, IPPROTO_TCP | IPPROTO_UDP) {
        let _ = write!(out, "sport={} dport={} ", t.sport, t.dport);
    }
}

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Proc,
    /// `conntrack -L`, with `-o extended` and `-o id`.
    Tool {
        extended: bool,
        id: bool,
    },
}

impl Conn {
    /// Seconds that it still has.
    pub fn left(&self, net: &Net) -> u32 {
        self.expires.saturating_sub(net.env.jiffies()) / net.env.hz.max(1)
    }

    pub fn line(&self, net: &Net, style: Style) -> String {
        let [orig, reply] = &self.tuple;
        let mut o = String::new();
        let layer3 = if orig.pf == Pf::V4 { "ipv4     2" } else { "ipv6     10" };
        if matches!(style, Style::Proc | Style::Tool { extended: true, .. }) {
            let _ = write!(o, "{layer3} ");
        }
        let _ = write!(o, "{:<8} {} {} ", proto_name(orig.proto), orig.proto, self.left(net));
        if let Proto::Tcp(t) = &self.proto {
            let _ = write!(o, "{} ", t.state.name());
        }
        for (n, t) in [orig, reply].into_iter().enumerate() {
            tuple(&mut o, t);
            if self.zone.dirs == 1 << n && self.zone.id != 0 {
                let _ = write!(o, "zone-{}={} ", ["orig", "reply"][n], self.zone.id);
            }
            if let Some(a) = self.acct {
                let _ = write!(o, "packets={} bytes={} ", a[n].0, a[n].1);
            }
            if n == 0 && self.status & IPS_SEEN_REPLY == 0 {
                o.push_str("[UNREPLIED] ");
            }
        }
        if self.status & IPS_ASSURED != 0 {
            o.push_str("[ASSURED] ");
        }
        let _ = write!(o, "mark={} ", self.mark);
        let both = self.zone.id == 0 || self.zone.dirs == Zone::BOTH;
        if both && (style == Style::Proc || self.zone.id != 0) {
            let _ = write!(o, "zone={} ", self.zone.id);
        }
        match style {
            Style::Proc => {
                if let Some(began) = self.began {
                    let since = (net.env.now + net.env.wall_offset).saturating_sub(began);
                    let _ = write!(o, "delta-time={} ", since / 1_000_000_000);
                }
                o.push_str("use=2\n");
            }
            Style::Tool { id: true, .. } => {
                let _ = writeln!(o, "use=1 id={}", self.id);
            }
            Style::Tool { .. } => o.push_str("use=1\n"),
        }
        o
    }
}

impl Net {
    /// The namespace's connections, oldest slot first.
    pub fn ct_list(&self, ns: NsId) -> impl Iterator<Item = &Conn> {
        self.ct.conns.iter().map(|(_, c)| c).filter(move |c| c.ns == ns && c.is_listed())
    }

    /// `/proc/net/nf_conntrack`.
    pub fn proc_nf_conntrack(&self, ns: NsId) -> String {
        self.ct_list(ns).map(|c| c.line(self, Style::Proc)).collect()
    }

    /// `/proc/net/stat/nf_conntrack`: one line for each CPU; everything is counted on the first.
    pub fn proc_stat_nf_conntrack(&self, ns: NsId) -> String {
        let mut o = String::from(
            "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop \
             icmp_error  expect_new expect_create expect_delete search_restart\n",
        );
        let (s, count) = self.ns.get(ns).map_or_else(Default::default, |n| (n.ct_stat, n.sysctl.nf_conntrack_count.0));
        for cpu in 0..self.cpus.len() {
            let s = if cpu == 0 { s } else { CtStat::default() };
            let _ = writeln!(
                o,
                "{count:08x}  {:08x} {:08x} {:08x} {:08x} {:08x} {:08x} {:08x} {:08x} {:08x} {:08x} {:08x} {:08x}  \
                 {:08x} {:08x} {:08x} {:08x}",
                s.clash_resolve,
                s.found,
                0,
                s.invalid,
                0,
                0,
                0,
                s.insert,
                s.insert_failed,
                s.drop,
                s.early_drop,
                s.error,
                0,
                0,
                0,
                0
            );
        }
        o
    }
}
