//! Devices, addresses, routes, neighbours and the per-CPU packet processing, as `ip`, `netstat -i` and
//! `/proc/net/softnet_stat` see them.
use super::views;
use crate::drivers::nic::{Nic, Queue};
use crate::env::{MSEC, SEC};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::af::{self, Flow};
use crate::net::core::dev::{IfAddr, NetDevice};
use crate::net::core::dst_metrics::{DstMetrics, RTAX_FEATURE_ECN, of_path};
use crate::net::core::neighbour::Neighbour;
use crate::net::core::softirq::Cpu;
use crate::net::ipv4::fib::{Route, RouteType, Scope, Table};
use crate::net::ipv4::route::RouteKind;
use crate::net::ipv6::addrconf::{If6Addr, Scope6};
use crate::net::ipv6::fib::{PROTO_KERNEL, PROTO_RA, Route6, Table6};
use crate::net::netns::NetNs;
use crate::net::tcp::metrics::Metric;
use belljar_abi::Errno;
use belljar_abi::rtax::rtax_word;
use belljar_abi::rtnetlink::{IFA_F_HOMEADDRESS, IFA_F_MANAGETEMPADDR, IFA_F_NOPREFIXROUTE, IFA_F_STABLE_PRIVACY};
use belljar_abi::rtnetlink::{RTAX_CC_ALGO, RTAX_FASTOPEN_NO_COOKIE, RTAX_FEATURES, RTAX_MTU};
use belljar_wire::Mac;
use core::net::{IpAddr, Ipv6Addr};

views! {
    /// `rtnl_link_stats64`, as far as something can move it.
    struct LinkStats {
        rx_packets: u64, tx_packets: u64, rx_bytes: u64, tx_bytes: u64, rx_errors: u64, tx_errors: u64,
        rx_dropped: u64, tx_dropped: u64, multicast: u64, collisions: u64,
        rx_length_errors: u64, rx_over_errors: u64, rx_crc_errors: u64, rx_frame_errors: u64, rx_fifo_errors: u64,
        rx_missed_errors: u64,
        tx_aborted_errors: u64, tx_carrier_errors: u64, tx_fifo_errors: u64, tx_heartbeat_errors: u64,
        tx_window_errors: u64,
    }

    /// Descriptor rings of a NIC: sizes and how much of them is in use; interrupts.
    struct RingView {
        rx: u32, rx_used: u32, tx: u32, tx_used: u32, rx_interrupts: u64, tx_interrupts: u64,
        /// Times the full transmit ring stopped the queue.
        tx_stops: u64,
        /// How its NAPIs work when not by softirq after each interrupt; what its byte queue limits let into its rings.
        napi: String, bql: String,
    }

    struct LinkView {
        ifindex: u32,
        name: String,
        /// The device below it or at its other end, `if7` in another namespace; the bridge that it is a port of.
        link: Option<String>,
        master: Option<String>,
        /// Of `ip link set group`; 0 is `default`.
        group: u32,
        carrier_changes: u32,
        /// As `ip` prints them: `LOOPBACK`, `UP`, `LOWER_UP`, ….
        flags: Vec<String>,
        mtu: u32,
        qdisc: String,
        operstate: String,
        txqlen: u32,
        /// `loopback` or `ether`.
        link_type: String,
        address: String,
        broadcast: String,
        stats: LinkStats,
        /// Packets waiting in the queueing discipline, and those it had no room for.
        qdisc_len: u32,
        qdisc_drops: u64,
        rings: Option<RingView>,
    }

    /// What is remembered of a peer (`ip tcp_metrics`); 0 is not known.
    struct TcpMetricView {
        dst: IpAddr, source: IpAddr, age_ms: u64, ssthresh: u32, cwnd: u32, reordering: u32, rtt_us: u32, rttvar_us: u32,
        fo_mss: u16, fo_cookie: Option<String>,
    }

    struct AddrView {
        ifindex: u32, dev: String, local: IpAddr, prefixlen: u8, broadcast: Option<IpAddr>, scope: String,
        label: String,
        /// Seconds; `None`: for ever.
        valid_lft: Option<u64>,
        preferred_lft: Option<u64>,
    }

    struct RouteView {
        /// `unicast`, `local`, `broadcast`, `multicast`, `blackhole`, ….
        kind: String,
        dst: IpAddr,
        prefixlen: u8,
        gateway: Option<IpAddr>,
        dev: String,
        /// `local`, `main`, `default` or a number.
        table: String,
        protocol: Option<String>,
        /// Absent when it is `global`.
        scope: Option<String>,
        prefsrc: Option<IpAddr>,
        metric: Option<u32>,
        metrics: Vec<MetricView>,
    }

    /// `mtu`, `initcwnd`, …: what a route says of its paths (RTA_METRICS).
    struct MetricView {
        name: String,
        lock: bool,
        /// Round trips in eighths of a millisecond, their deviation in quarters.
        value: u32,
        /// Of `congctl` and `features`.
        text: Option<String>,
    }

    struct NeighView {
        dst: IpAddr, dev: String, lladdr: Option<String>,
        /// `REACHABLE`, `STALE`, `INCOMPLETE`, ….
        state: String,
        /// Seconds since it was used, confirmed and updated.
        used_s: u64, confirmed_s: u64, updated_s: u64,
        probes: u32, refs: u32,
        /// Packets that wait for the answer.
        queued: u32,
    }

    /// One CPU's line of `/proc/net/softnet_stat`, its softirq counts, and what waits there.
    struct SoftnetView {
        cpu: usize, processed: u64, dropped: u64, time_squeeze: u64, received_rps: u64, flow_limit_count: u64,
        input_qlen: u32, process_qlen: u32,
        /// Times each softirq ran, in the order of `/proc/softirqs`.
        softirqs: Vec<u64>,
        ksoftirqd_runs: u64,
    }
}

/// `global`, `link` or `host`, and what else `ip addr` says behind it.
fn scope6(a: &If6Addr, now: u64) -> String {
    let mut out = match Scope6::of(a.addr) {
        _ if a.addr.is_loopback() => "host",
        Scope6::Link => "link",
        Scope6::Site => "site",
        _ => "global",
    }
    .to_owned();
    let words = [
        (a.temporary(), " temporary"),
        (a.nodad, " nodad"),
        (a.optimistic(), " optimistic"),
        (a.dadfailed, " dadfailed"),
        (a.flags & IFA_F_HOMEADDRESS != 0, " home"),
        (a.deprecated(now), " deprecated"),
        (a.tentative(), " tentative"),
        (!a.permanent, " dynamic"),
        (a.flags & IFA_F_MANAGETEMPADDR != 0, " mngtmpaddr"),
        (a.flags & IFA_F_NOPREFIXROUTE != 0, " noprefixroute"),
        (a.flags & IFA_F_STABLE_PRIVACY != 0, " stable-privacy"),
    ];
    words.iter().filter(|w| w.0).for_each(|w| out.push_str(w.1));
    out
}

impl RouteView {
    /// One of its metrics, by the word of `ip route`.
    pub fn metric_of(&self, name: &str) -> Option<u32> {
        self.metrics.iter().find(|m| m.name == name).map(|m| m.value)
    }
}

fn metric_views(m: &DstMetrics) -> Vec<MetricView> {
    let one = |which| {
        let text = match which {
            RTAX_CC_ALGO => Some(m.congestion()?.name().to_owned()),
            RTAX_FEATURES if m.get(which) & RTAX_FEATURE_ECN != 0 => Some("ecn".to_owned()),
            _ => None,
        };
        let is = text.is_some() || m.get(which) != 0 || m.locked(which);
        is.then(|| MetricView {
            name: rtax_word(which).unwrap_or_default().to_owned(),
            lock: m.locked(which),
            value: m.get(which),
            text,
        })
    };
    (RTAX_MTU..=RTAX_FASTOPEN_NO_COOKIE).filter_map(one).collect()
}

impl Kernel {
    pub fn view_links(&self, ns: NsId) -> Vec<LinkView> {
        self.net.ns_devs(ns).filter_map(|id| self.net.devs.get(id)).map(|d| link(&self.net, d)).collect()
    }

    pub fn view_addrs(&self, ns: NsId) -> Vec<AddrView> {
        let of = |d: &NetDevice| {
            let (ifindex, dev) = (d.ifindex, d.name.clone());
            let one = move |a: &IfAddr| AddrView {
                ifindex,
                dev: dev.clone(),
                local: a.local.into(),
                prefixlen: a.prefix,
                broadcast: a.broadcast.map(IpAddr::V4),
                scope: match a.scope {
                    Scope::Universe if a.secondary => "global secondary",
                    Scope::Universe => "global",
                    Scope::Link => "link",
                    Scope::Host => "host",
                }
                .into(),
                label: a.label.as_str().to_owned(),
                valid_lft: None,
                preferred_lft: None,
            };
            let left = |at: Option<u64>| at.map(|at| at.saturating_sub(self.net.env.now).div_ceil(SEC));
            let six = d.inet6.addrs.iter().map(|a| AddrView {
                ifindex: d.ifindex,
                dev: d.name.clone(),
                local: a.addr.into(),
                prefixlen: a.prefix,
                broadcast: None,
                scope: scope6(a, self.net.env.now),
                label: d.name.clone(),
                valid_lft: left(a.valid),
                preferred_lft: left(a.preferred),
            });
            d.addrs.iter().map(one).chain(six).collect::<Vec<_>>()
        };
        self.net.ns_devs(ns).filter_map(|id| self.net.devs.get(id)).flat_map(of).collect()
    }

    /// Main table, then local, each in the order of addresses.
    pub fn view_routes(&self, ns: NsId) -> Vec<RouteView> {
        self.routes_of(ns, true)
    }

    /// The same with the first next hop alone of routes that have several, unless it is to be `all`.
    pub(crate) fn routes_of(&self, ns: NsId, all: bool) -> Vec<RouteView> {
        let Some(n) = self.net.ns.get(ns) else { return Vec::new() };
        let table = |name: &str, t: &Table| {
            let mut last = 0;
            let shown = t.iter().filter(|(.., r)| all || std::mem::replace(&mut last, r.group) != r.group || last == 0);
            let mut rows: Vec<_> = shown.map(|(dst, len, r)| self.route(n, name, dst.into(), len, r)).collect();
            rows.sort_by_key(|r| (r.dst, r.prefixlen));
            rows
        };
        let six = |name: &str, t: &Table6| {
            let mut rows: Vec<_> = t.iter().map(|(dst, len, r)| self.route6(n, name, dst, len, r)).collect();
            rows.sort_by_key(|r| (r.dst, r.prefixlen));
            rows
        };
        let others = n.fib.others.iter().flat_map(|(id, t)| table(&id.to_string(), t)).collect();
        let four = [table("main", &n.fib.main), table("local", &n.fib.local), others].concat();
        [four, six("main", &n.v6.fib.main), six("local", &n.v6.fib.local)].concat()
    }

    fn route6(&self, n: &NetNs, table: &str, dst: Ipv6Addr, prefixlen: u8, r: &Route6) -> RouteView {
        let kind = match r.kind {
            RouteType::Local => "local",
            RouteType::Anycast => "anycast",
            RouteType::Unreachable => "unreachable",
            RouteType::Blackhole => "blackhole",
            RouteType::Prohibit => "prohibit",
            _ if dst.is_multicast() => "multicast",
            _ => "unicast",
        };
        let protocol = match r.proto {
            PROTO_KERNEL => Some("kernel"),
            PROTO_RA => Some("ra"),
            _ => None,
        };
        RouteView {
            kind: kind.into(),
            dst: dst.into(),
            prefixlen,
            gateway: r.gateway.map(IpAddr::V6),
            dev: r.dev.map_or_else(String::new, |d| self.dev_name(d)),
            table: table.into(),
            protocol: protocol.map(str::to_owned),
            scope: None,
            prefsrc: r.prefsrc.map(IpAddr::V6),
            metric: Some(r.metric),
            metrics: n.metrics.get(r.metrics).map_or_else(Vec::new, metric_views),
        }
    }

    fn dev_name(&self, dev: DevId) -> String {
        self.net.devs.get(dev).map_or_else(String::new, |d| d.name.clone())
    }

    fn route(&self, n: &NetNs, table: &str, dst: IpAddr, prefixlen: u8, r: &Route) -> RouteView {
        let kind = match r.kind {
            RouteType::Unicast => "unicast",
            RouteType::Local => "local",
            RouteType::Anycast => "anycast",
            RouteType::Broadcast => "broadcast",
            RouteType::Unreachable => "unreachable",
            RouteType::Blackhole => "blackhole",
            RouteType::Prohibit => "prohibit",
            RouteType::Throw => "throw",
        };
        let scope = match r.scope {
            Scope::Universe => None,
            Scope::Link => Some("link"),
            Scope::Host => Some("host"),
        };
        RouteView {
            kind: kind.into(),
            dst,
            prefixlen,
            gateway: r.gateway.map(IpAddr::V4),
            dev: r.dev.map_or_else(String::new, |d| self.dev_name(d)),
            table: table.into(),
            protocol: (r.proto == Route::PROTO_KERNEL).then(|| "kernel".into()),
            scope: scope.map(str::to_owned),
            prefsrc: r.src.map(IpAddr::V4),
            metric: Some(r.metric).filter(|m| *m != 0),
            metrics: n.metrics.get(r.metrics).map_or_else(Vec::new, metric_views),
        }
    }

    /// The way a packet to `dst` would take, by the stack's own lookup (`ip route get`).
    pub fn view_route_get(&mut self, ns: NsId, dst: IpAddr) -> Result<RouteView, Errno> {
        let d = af::route_output(&mut self.net, ns, &Flow::to(dst))?;
        let kind = match d.kind {
            RouteKind::Unicast => "unicast",
            RouteKind::Local => "local",
            RouteKind::Broadcast => "broadcast",
            RouteKind::Multicast => "multicast",
        };
        Ok(RouteView {
            kind: kind.into(),
            dst,
            prefixlen: af::prefix_len(dst),
            gateway: d.gateway,
            dev: self.dev_name(d.dev),
            table: if d.kind == RouteKind::Local { "local" } else { "main" }.into(),
            protocol: None,
            scope: None,
            prefsrc: Some(d.src).filter(|s| !s.is_unspecified()),
            metric: None,
            metrics: of_path(&self.net, ns, dst, &d).map_or_else(Vec::new, |m| metric_views(&m)),
        })
    }

    pub fn view_neighs(&self, ns: NsId) -> Vec<NeighView> {
        let Some(n) = self.net.ns.get(ns) else { return Vec::new() };
        let hz = u64::from(self.net.env.hz.max(1));
        let age = |then| u64::from(self.net.env.jiffies().saturating_sub(then)) / hz;
        let one = |e: &Neighbour| NeighView {
            dst: e.addr,
            dev: self.dev_name(e.dev),
            lladdr: e.state.valid().then(|| e.mac.to_string()),
            state: e.state.name().into(),
            used_s: age(e.used),
            confirmed_s: age(e.confirmed),
            updated_s: age(e.updated),
            probes: e.probes,
            refs: 0,
            queued: e.queued() as u32,
        };
        n.neigh_table.iter().filter_map(|id| n.neighs.get(id)).map(one).collect()
    }

    /// By address.
    pub fn view_tcp_metrics(&self, ns: NsId) -> Vec<TcpMetricView> {
        let Some(n) = self.net.ns.get(ns) else { return Vec::new() };
        let hex = |b: &[u8]| b.iter().map(|b| format!("{b:02x}")).collect();
        let one = |m: &Metric| TcpMetricView {
            dst: m.pair.1,
            source: m.pair.0,
            age_ms: self.net.env.now.saturating_sub(m.stamp) / MSEC,
            ssthresh: m.ssthresh,
            cwnd: m.cwnd,
            reordering: m.reordering,
            rtt_us: m.rtt_us >> 3,
            rttvar_us: m.rttvar_us >> 2,
            fo_mss: m.tfo.mss,
            fo_cookie: m.tfo.cookie.map(|c| hex(c.bytes())),
        };
        let mut all: Vec<_> = n.tcp.metrics.iter().map(one).collect();
        all.sort_by_key(|m| (m.dst, m.source));
        all
    }

    pub fn view_softnet(&self) -> Vec<SoftnetView> {
        let one = |(cpu, c): (usize, &Cpu)| SoftnetView {
            cpu,
            processed: c.stat.processed,
            dropped: c.stat.dropped,
            time_squeeze: c.stat.time_squeeze,
            received_rps: c.stat.received_rps,
            flow_limit_count: c.stat.flow_limit_count,
            input_qlen: c.input_pkt_queue.len() as u32,
            process_qlen: c.process_queue.len() as u32,
            softirqs: c.softirqs.to_vec(),
            ksoftirqd_runs: c.ksoftirqd_runs,
        };
        self.net.cpus.iter().enumerate().map(one).collect()
    }
}

/// Flags in the order of ip.
fn flags(d: &NetDevice) -> Vec<String> {
    let (lo, bare, down) = (d.is_loopback(), d.is_pointopoint(), d.up && !d.carrier);
    let ptp = d.flags() & belljar_abi::IFF_POINTOPOINT != 0;
    let all = [
        (down, "NO-CARRIER"),
        (lo, "LOOPBACK"),
        (!lo && !bare, "BROADCAST"),
        (ptp, "POINTOPOINT"),
        (d.flags() & belljar_abi::IFF_MULTICAST != 0, "MULTICAST"),
        (d.flags() & belljar_abi::IFF_NOARP != 0, "NOARP"),
        (d.gflags & belljar_abi::IFF_PROMISC != 0, "PROMISC"),
        (d.gflags & belljar_abi::IFF_ALLMULTI != 0, "ALLMULTI"),
        (d.up, "UP"),
        (d.running(), "LOWER_UP"),
    ];
    all.into_iter().filter(|f| f.0).map(|f| f.1.to_owned()).collect()
}

/// Names are of a namespace, numbers are not.
fn name_in(d: &NetDevice, ns: NsId) -> String {
    if d.ns == ns { d.name.clone() } else { format!("if{}", d.ifindex) }
}

fn link(net: &Net, d: &NetDevice) -> LinkView {
    let (s, q) = (&d.stats, d.qdisc.stats());
    let operstate = match net.operstate(d) {
        belljar_abi::IF_OPER_UNKNOWN => "UNKNOWN",
        belljar_abi::IF_OPER_UP => "UP",
        belljar_abi::IF_OPER_LOWERLAYERDOWN => "LOWERLAYERDOWN",
        _ => "DOWN",
    };
    let (link_type, address, broadcast) = match (d.is_loopback(), d.is_pointopoint(), d.ends()) {
        (true, ..) => ("loopback", d.mac.to_string(), Mac::ZERO.to_string()),
        (_, true, Some((local, remote))) => (d.info_kind().unwrap_or("none"), local.to_string(), remote.to_string()),
        (_, true, None) => ("none", String::new(), String::new()),
        _ => ("ether", d.mac.to_string(), Mac::BROADCAST.to_string()),
    };
    LinkView {
        ifindex: d.ifindex,
        name: d.name.clone(),
        link: d.iflink().and_then(|l| net.devs.get(l)).map(|l| name_in(l, d.ns)),
        master: d.master.and_then(|m| net.devs.get(m)).map(|m| m.name.clone()),
        group: d.group,
        carrier_changes: d.carrier_changes.iter().sum(),
        flags: flags(d),
        mtu: d.mtu,
        qdisc: d.qdisc.name().into(),
        operstate: operstate.into(),
        txqlen: d.tx_queue_len,
        link_type: link_type.into(),
        address,
        broadcast,
        stats: LinkStats {
            rx_packets: s.rx_packets,
            tx_packets: s.tx_packets,
            rx_bytes: s.rx_bytes,
            tx_bytes: s.tx_bytes,
            rx_errors: s.rx_errors,
            tx_errors: s.tx_errors,
            rx_dropped: s.rx_dropped,
            tx_dropped: s.tx_dropped,
            multicast: s.multicast,
            rx_fifo_errors: s.rx_fifo,
            rx_crc_errors: s.rx_crc,
            rx_frame_errors: s.rx_frame,
            collisions: s.collisions,
            rx_missed_errors: s.rx_missed,
            tx_carrier_errors: s.tx_carrier,
            ..LinkStats::zero()
        },
        qdisc_len: d.qdisc.len() as u32,
        qdisc_drops: q.drops,
        rings: d.nic().map(|n| rings(d, n)),
    }
}

/// All channels together.
fn rings(d: &NetDevice, n: &Nic) -> RingView {
    let sum = |f: fn(&Queue) -> u64| n.queues.iter().map(f).sum::<u64>();
    let (rx, tx) = n.ring_sizes();
    let channels = n.channels() as u32;
    RingView {
        rx: rx * channels,
        rx_used: sum(|q| q.rx.used() as u64) as u32,
        tx: tx * channels,
        tx_used: sum(|q| q.tx.used() as u64) as u32,
        rx_interrupts: sum(|q| q.irq.rx_count),
        tx_interrupts: sum(|q| q.irq.tx_count),
        tx_stops: sum(|q| q.tx.stops),
        napi: how_polled(d, n),
        bql: limits(n),
    }
}

/// Threads by name, deferral, adaptive coalescing, loops of readers.
fn how_polled(d: &NetDevice, n: &Nic) -> String {
    let used = || n.queues.iter().take(n.channels());
    let mut out: Vec<String> = Vec::new();
    if d.napi.threaded {
        out.extend(used().map(|q| format!("napi/{}-{}", d.name, q.napi.id)));
    }
    let deferred: u64 = used().map(|q| q.napi.deferred).sum();
    if deferred > 0 {
        let by_timer: u64 = used().map(|q| q.napi.timer_polls).sum();
        out.push(format!("{deferred} times put off, {by_timer} polls by timer"));
    }
    if let Some(q) = used().next().filter(|q| q.irq.dim.is_some()) {
        out.push(format!("adaptive, now {} us", q.irq.rx_usecs));
    }
    if let Some(x) = &d.xdp {
        let mode = if x.native { "native" } else { "generic" };
        out.push(format!(
            "xdp {mode}: {} dropped, {} sent back, {} redirected",
            x.stats.drops, x.stats.tx, x.stats.redirects
        ));
    }
    if used().any(|q| q.napi.busy.is_some()) {
        out.push("busy polling".into());
    }
    out.join(", ")
}

fn limits(n: &Nic) -> String {
    let of = |q: &Queue| format!("{} of {} bytes", q.tx.dql.inflight(), q.tx.dql.limit);
    let used = n.queues.iter().take(n.channels()).filter(|_| n.line.is_some());
    used.map(of).collect::<Vec<_>>().join(", ")
}

impl LinkStats {
    /// Nothing counted yet; what no device here can count stays so.
    pub fn zero() -> LinkStats {
        LinkStats {
            rx_packets: 0,
            tx_packets: 0,
            rx_bytes: 0,
            tx_bytes: 0,
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
        }
    }
}
