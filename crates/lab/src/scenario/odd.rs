//! What `random` draws from: links, NICs, sysctls and socket options, values that make rare paths common.
//!
//! Every option and setting that TCP has is here, except those that only name things (keys, devices, ports).
use crate::lab::Lab;
use crate::net::Nic;
use crate::task::Sock;
use crate::world::World;
use belljar_abi::Errno;
use belljar_abi::socket::*;
use belljar_kernel::env::MSEC;
use belljar_kernel::net::core::dev::Features;
use belljar_link::{Conditions, Rng};

fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> Option<T> {
    of.get(rng.below(of.len() as u64) as usize).copied()
}

pub(super) fn nic(rng: &mut Rng) -> Nic {
    let features = match rng.below(3) {
        0 => Features::ALL,
        1 => Features::NONE,
        _ => Features {
            tso: rng.chance(0.5),
            tso6: rng.chance(0.5),
            uso: rng.chance(0.5),
            tx_csum: rng.chance(0.5),
            rx_csum: rng.chance(0.5),
            gro: rng.chance(0.5),
            orphan: rng.chance(0.5),
            ..Features::NONE
        },
    };
    Nic {
        mtu: pick(rng, &[1500, 1500, 1500, 576, 1280, 9000, 65_535]).unwrap_or(1500),
        ring: pick(rng, &[256, 256, 64, 8]).unwrap_or(256),
        speed: 0,
        channels: 1,
        features,
    }
}

/// One cable at most corrupts: two flips on a way may cancel out in the checksum, and then TCP cannot know.
pub(super) fn link(rng: &mut Rng, corrupts: bool) -> Conditions {
    let mut c = Conditions::default();
    if rng.chance(0.2) {
        return c;
    }
    c.delay_ns = pick(rng, &[0, 10_000, MSEC, 5 * MSEC, 20 * MSEC, 100 * MSEC, 600 * MSEC]).unwrap_or(0);
    for (p, value) in [(0.5, &mut c.loss), (0.3, &mut c.duplicate), (0.3, &mut c.reorder), (0.2, &mut c.corrupt)] {
        if rng.chance(p) {
            *value = [0.001, 0.01, 0.05, 0.2][rng.below(4) as usize];
        }
    }
    if !corrupts {
        c.corrupt = 0.0;
    }
    if rng.chance(0.3) {
        c.jitter_ns = rng.below(c.delay_ns.max(MSEC));
    }
    if rng.chance(0.3) {
        c.rate_bps = pick(rng, &[64_000, 1_000_000, 10_000_000, 1_000_000_000]);
    }
    if rng.chance(0.3) {
        c.limit = pick(rng, &[1, 5, 20, 100]).unwrap_or(1000);
    }
    if rng.chance(0.2) {
        c.ecn = pick(rng, &[1, 3, 10]);
    }
    if rng.chance(0.15) {
        c.police_bps = pick(rng, &[200_000, 2_000_000, 50_000_000]);
        // Less than the largest packet would be a wall.
        c.burst = pick(rng, &[66_000, 100_000, 1_000_000]).unwrap_or(66_000);
    }
    c
}

const SYSCTLS: &[(&str, &[&str])] = &[
    ("net.core.somaxconn", &["0", "1", "2", "4"]),
    ("net.ipv4.tcp_max_syn_backlog", &["1", "2", "8"]),
    ("net.ipv4.tcp_syncookies", &["0", "2"]),
    ("net.ipv4.tcp_abort_on_overflow", &["1"]),
    ("net.ipv4.tcp_timestamps", &["0", "2"]),
    ("net.ipv4.tcp_sack", &["0"]),
    ("net.ipv4.tcp_dsack", &["0"]),
    ("net.ipv4.tcp_window_scaling", &["0"]),
    ("net.ipv4.tcp_congestion_control", &["reno", "bbr", "bbr"]),
    ("net.ipv4.tcp_recovery", &["0", "2", "3", "4", "5", "7"]),
    ("net.ipv4.tcp_ecn", &["0", "1", "1"]),
    ("net.ipv4.tcp_ecn_fallback", &["0"]),
    ("net.ipv4.tcp_frto", &["0"]),
    ("net.ipv4.tcp_fastopen", &["0", "3", "519", "1031", "1543"]),
    ("net.ipv4.tcp_fastopen_blackhole_timeout_sec", &["1", "3600"]),
    ("net.ipv4.tcp_comp_sack_nr", &["0", "2"]),
    ("net.ipv4.tcp_comp_sack_delay_ns", &["0", "100000000"]),
    ("net.ipv4.tcp_comp_sack_slack_ns", &["0", "100000000"]),
    ("net.ipv4.tcp_limit_output_bytes", &["0", "2000"]),
    ("net.ipv4.tcp_min_tso_segs", &["1", "40"]),
    ("net.ipv4.tcp_tso_win_divisor", &["0", "1"]),
    ("net.ipv4.tcp_tso_rtt_log", &["0", "31", "255"]),
    ("net.ipv4.tcp_min_snd_mss", &["500", "1400"]),
    ("net.ipv4.tcp_min_rtt_wlen", &["0", "1"]),
    ("net.ipv4.tcp_mem", &["0 0 0", "1 2 4", "8 16 32"]),
    ("net.ipv4.tcp_shrink_window", &["1"]),
    ("net.ipv4.tcp_thin_linear_timeouts", &["1"]),
    ("net.ipv4.tcp_challenge_ack_limit", &["0", "1"]),
    ("net.ipv4.tcp_invalid_ratelimit", &["0", "10000"]),
    ("net.ipv4.tcp_early_retrans", &["0", "1", "4"]),
    ("net.ipv4.tcp_reordering", &["0", "1", "20"]),
    ("net.ipv4.tcp_max_reordering", &["0", "3"]),
    ("net.ipv4.tcp_slow_start_after_idle", &["0"]),
    ("net.ipv4.tcp_pacing_ss_ratio", &["0", "10", "1000"]),
    ("net.ipv4.tcp_pacing_ca_ratio", &["0", "10", "1000"]),
    ("net.ipv4.tcp_rmem", &["4096 4096 4096", "2304 8192 16384", "4096 131072 6291456", "1 1 1"]),
    ("net.ipv4.tcp_wmem", &["4096 4096 4096", "4096 16384 65536", "1 1 1"]),
    ("net.ipv4.tcp_moderate_rcvbuf", &["0"]),
    ("net.ipv4.tcp_max_orphans", &["0", "1"]),
    ("net.ipv4.tcp_max_tw_buckets", &["0", "1"]),
    ("net.ipv4.tcp_tw_reuse", &["0", "1"]),
    ("net.ipv4.tcp_tw_reuse_delay", &["1", "100000"]),
    ("net.ipv4.tcp_fin_timeout", &["0", "1", "5"]),
    ("net.ipv4.tcp_retrans_collapse", &["0"]),
    ("net.ipv4.tcp_retries1", &["0", "1"]),
    ("net.ipv4.tcp_retries2", &["0", "2", "5"]),
    ("net.ipv4.tcp_orphan_retries", &["1"]),
    ("net.ipv4.tcp_syn_retries", &["1", "2"]),
    ("net.ipv4.tcp_syn_linear_timeouts", &["0", "20"]),
    ("net.ipv4.tcp_synack_retries", &["0", "1"]),
    ("net.ipv4.tcp_rfc1337", &["1"]),
    ("net.ipv4.tcp_notsent_lowat", &["1", "4096"]),
    ("net.ipv4.tcp_rto_min_us", &["1", "5000", "1000000"]),
    ("net.ipv4.tcp_rto_max_ms", &["1000", "5000"]),
    ("net.ipv4.tcp_keepalive_time", &["1", "7"]),
    ("net.ipv4.tcp_keepalive_intvl", &["1", "3"]),
    ("net.ipv4.tcp_keepalive_probes", &["1"]),
    ("net.ipv4.tcp_pingpong_thresh", &["3"]),
    ("net.ipv4.ip_local_port_range", &["40000 40003", "40000 40000"]),
    ("net.ipv4.ip_no_pmtu_disc", &["1", "2"]),
    ("net.ipv4.route.min_pmtu", &["68", "1000"]),
    ("net.ipv4.route.mtu_expires", &["0", "1"]),
    ("net.ipv4.ipfrag_high_thresh", &["0", "10000"]),
    ("net.ipv4.ipfrag_time", &["1"]),
    ("net.ipv4.ipfrag_max_dist", &["0", "1"]),
    ("net.ipv4.neigh.default.gc_thresh3", &["1", "2"]),
    ("net.ipv4.neigh.default.unres_qlen_bytes", &["0", "2304"]),
    ("net.ipv4.neigh.default.base_reachable_time_ms", &["0", "1000"]),
    ("net.ipv4.neigh.default.retrans_time_ms", &["10", "5000"]),
    ("net.ipv4.icmp_msgs_per_sec", &["0", "1"]),
    ("net.ipv4.icmp_ratelimit", &["0", "60000"]),
    ("net.ipv4.ip_default_ttl", &["1", "2"]),
    ("net.ipv6.auto_flowlabels", &["0", "2", "3"]),
    ("net.ipv6.ip6frag_high_thresh", &["0", "10000"]),
    ("net.ipv6.ip6frag_time", &["1"]),
    ("net.ipv6.icmp.ratelimit", &["0", "60000"]),
    ("net.ipv6.icmp.echo_ignore_all", &["1"]),
    ("net.ipv6.neigh.default.gc_thresh3", &["1", "2"]),
    ("net.ipv6.neigh.default.unres_qlen_bytes", &["0", "2304"]),
    ("net.ipv6.neigh.default.base_reachable_time_ms", &["0", "1000"]),
    ("net.ipv6.neigh.default.retrans_time_ms", &["10", "5000"]),
    ("net.ipv6.neigh.default.ucast_solicit", &["0", "1"]),
    ("net.ipv6.neigh.default.mcast_solicit", &["0", "1"]),
    ("net.ipv6.route.mtu_expires", &["0", "1"]),
    ("net.core.rmem_default", &["2304"]),
    ("net.core.wmem_default", &["4608"]),
    ("net.core.rmem_max", &["2304"]),
    ("net.core.wmem_max", &["4608"]),
    ("net.core.netdev_budget", &["1", "3"]),
    ("net.core.netdev_budget_usecs", &["0"]),
    ("net.core.dev_weight", &["1", "2"]),
    ("net.core.netdev_max_backlog", &["1", "4"]),
    ("fs.file-max", &["12"]),
];

/// Of every interface: `net.ipv4.conf.IF` and `net.ipv6.conf.IF`.
const INTERFACE: &[(&str, &str, &[&str])] = &[
    ("ipv4", "accept_redirects", &["0"]),
    ("ipv4", "send_redirects", &["0"]),
    ("ipv4", "shared_media", &["0"]),
    ("ipv4", "secure_redirects", &["0"]),
    ("ipv4", "rp_filter", &["1", "2"]),
    ("ipv4", "arp_ignore", &["1", "2", "8"]),
    ("ipv4", "arp_announce", &["1", "2"]),
    ("ipv4", "arp_accept", &["1"]),
    ("ipv6", "accept_ra", &["0", "2"]),
    ("ipv6", "accept_ra_mtu", &["0"]),
    ("ipv6", "autoconf", &["0"]),
    ("ipv6", "accept_dad", &["0", "2"]),
    ("ipv6", "dad_transmits", &["0", "3"]),
    ("ipv6", "hop_limit", &["1", "2", "255"]),
    ("ipv6", "keep_addr_on_down", &["-1", "1"]),
    ("ipv6", "max_addresses", &["1", "3"]),
    ("ipv6", "mtu", &["1280"]),
    ("ipv6", "router_solicitations", &["0", "1"]),
    ("ipv6", "router_solicitation_interval", &["1"]),
];

fn interfaces(w: &mut World, rng: &mut Rng, host: usize) {
    let nics = w.hosts.get(host).map_or(0, |h| h.nics.len());
    for (nic, (family, key, values)) in (0..nics).flat_map(|n| INTERFACE.iter().map(move |i| (n, i))) {
        if rng.chance(0.06)
            && let Some(value) = pick(rng, values)
        {
            let key = format!("net.{family}.conf.eth{nic}.{key}");
            let (told, now) = (w.sysctl(host, &key, value), w.now);
            w.recorder.note(now, &format!("h{host}"), "sysctl", format_args!("{key}={value} {told:?}"));
        }
    }
}

pub(super) fn settings(lab: &Lab, rng: &mut Rng, hosts: usize) {
    let mut w = lab.world.borrow_mut();
    for host in 0..hosts {
        if rng.chance(0.3) {
            continue;
        }
        for (key, values) in SYSCTLS {
            if rng.chance(0.06)
                && let Some(value) = pick(rng, values)
            {
                let told = w.sysctl(host, key, value);
                let now = w.now;
                w.recorder.note(now, &format!("h{host}"), "sysctl", format_args!("{key}={value} {told:?}"));
            }
        }
        interfaces(&mut w, rng, host);
    }
}

type Options = &'static [(i32, i32, &'static [i32])];

/// May be set at any time.
const ANY_TIME: Options = &[
    (SOL_SOCKET, SO_RCVBUF, &[1, 3000, 20_000, 400_000]),
    (SOL_SOCKET, SO_SNDBUF, &[1, 3000, 20_000, 400_000]),
    (SOL_SOCKET, SO_RCVLOWAT, &[0, 100, 5000, i32::MAX]),
    (SOL_SOCKET, SO_KEEPALIVE, &[0, 1, 1]),
    (SOL_SOCKET, SO_OOBINLINE, &[1]),
    (SOL_SOCKET, SO_PRIORITY, &[6]),
    (SOL_SOCKET, SO_MAX_PACING_RATE, &[3000, 100_000, 10_000_000, -1]),
    (SOL_TCP, TCP_NODELAY, &[0, 1, 1]),
    (SOL_TCP, TCP_CORK, &[0, 1, 1]),
    (SOL_TCP, TCP_QUICKACK, &[0, 1, 2]),
    (SOL_TCP, TCP_KEEPIDLE, &[1, 5]),
    (SOL_TCP, TCP_KEEPINTVL, &[1]),
    (SOL_TCP, TCP_KEEPCNT, &[1, 3]),
    (SOL_TCP, TCP_SYNCNT, &[1, 3]),
    (SOL_TCP, TCP_LINGER2, &[-1, 0, 1, 5]),
    (SOL_TCP, TCP_USER_TIMEOUT, &[1, 500, 5000]),
    (SOL_TCP, TCP_WINDOW_CLAMP, &[2000, 10_000]),
    (SOL_TCP, TCP_MAXSEG, &[88, 536]),
    (SOL_TCP, TCP_NOTSENT_LOWAT, &[1, 2000, 100_000]),
    (SOL_TCP, TCP_THIN_LINEAR_TIMEOUTS, &[1]),
    (SOL_TCP, TCP_THIN_DUPACK, &[1]),
    (SOL_TCP, TCP_RTO_MAX_MS, &[1000, 4000]),
    (SOL_TCP, TCP_RTO_MIN_US, &[8000, 100_000]),
    (SOL_TCP, TCP_DELACK_MAX_US, &[8000, 100_000]),
    (SOL_TCP, TCP_INQ, &[1]),
];

/// Of a socket for datagrams, where IPv4 goes over it.
const DATAGRAM: Options = &[
    (SOL_SOCKET, SO_RCVBUF, &[1, 3000, 400_000]),
    (SOL_SOCKET, SO_SNDBUF, &[1, 400_000]),
    (SOL_SOCKET, SO_TIMESTAMP, &[1]),
    (SOL_IP, IP_MTU_DISCOVER, &[0, 1, 2, 3, 4, 5]),
    (SOL_IP, IP_RECVERR, &[1]),
    (SOL_IP, IP_PKTINFO, &[1]),
    (SOL_IP, IP_RECVTTL, &[1]),
    (SOL_IP, IP_TTL, &[1, 2, 255]),
    (SOL_IP, IP_TOS, &[0x10, 0xff]),
    (SOL_UDP, UDP_CORK, &[0]),
    (SOL_UDP, UDP_SEGMENT, &[0, 500, 1200]),
    (SOL_UDP, UDP_GRO, &[1]),
];

/// The same of AF_INET6.
const DATAGRAM6: Options = &[
    (SOL_IPV6, IPV6_MTU_DISCOVER, &[0, 1, 2, 3, 4, 5]),
    (SOL_IPV6, IPV6_DONTFRAG, &[1]),
    (SOL_IPV6, IPV6_RECVERR, &[1]),
    (SOL_IPV6, IPV6_RECVPKTINFO, &[1]),
    (SOL_IPV6, IPV6_RECVHOPLIMIT, &[1]),
    (SOL_IPV6, IPV6_RECVTCLASS, &[1]),
    (SOL_IPV6, IPV6_UNICAST_HOPS, &[1, 2, 255]),
    (SOL_IPV6, IPV6_TCLASS, &[0x10, 0xff]),
    (SOL_IPV6, IPV6_AUTOFLOWLABEL, &[0, 1]),
];

/// Before connect(2).
const CLIENT: Options = &[(SOL_TCP, TCP_FASTOPEN_CONNECT, &[1]), (SOL_TCP, TCP_FASTOPEN_NO_COOKIE, &[1])];

/// Before listen(2) or after.
const LISTENER: Options = &[
    (SOL_TCP, TCP_FASTOPEN, &[1, 5, 100]),
    (SOL_TCP, TCP_DEFER_ACCEPT, &[1, 5, 60]),
    (SOL_TCP, TCP_FASTOPEN_NO_COOKIE, &[1]),
];

/// Every one of them has to be taken, but where a sysctl has turned it off.
async fn draw(s: &Sock, rng: &mut Rng, p: f64, of: Options) -> Result<(), String> {
    for (level, name, values) in of {
        if rng.chance(p)
            && let Some(value) = pick(rng, values)
        {
            match s.set_int(*level, *name, value).await {
                Ok(()) | Err(Errno::EOPNOTSUPP) => {}
                Err(e) => return Err(format!("setsockopt({level}, {name}, {value}): {e}")),
            }
        }
    }
    Ok(())
}

/// A socket that lives already: some options change, and who reads an option may not disturb anything.
pub(super) async fn options(s: &Sock, rng: &mut Rng, p: f64) -> Result<(), String> {
    draw(s, rng, p, ANY_TIME).await?;
    let say = |e: Errno| e.to_string();
    if rng.chance(p) {
        let name = pick(rng, &[&b"reno"[..], b"cubic", b"bbr"]).unwrap_or_default();
        s.set(SOL_TCP, TCP_CONGESTION, name).await.map_err(say)?;
    }
    if rng.chance(p) {
        s.opt(SOL_TCP, TCP_INFO, 300).await.map_err(say)?;
        s.opt(SOL_TCP, TCP_CC_INFO, 100).await.map_err(say)?;
        s.opt(SOL_SOCKET, SO_MEMINFO, 36).await.map_err(say)?;
    }
    Ok(())
}

pub(super) async fn datagram(s: &Sock, family: i32, rng: &mut Rng) -> Result<(), String> {
    draw(s, rng, 0.1, DATAGRAM).await?;
    if family == AF_INET6 { draw(s, rng, 0.1, DATAGRAM6).await } else { Ok(()) }
}

pub(super) async fn client(s: &Sock, rng: &mut Rng) -> Result<(), String> {
    options(s, rng, 0.08).await?;
    draw(s, rng, 0.2, CLIENT).await
}

pub(super) async fn listener(s: &Sock, rng: &mut Rng) -> Result<(), String> {
    options(s, rng, 0.05).await?;
    draw(s, rng, 0.3, LISTENER).await
}

/// close(2) waits for what was not sent yet, at most that long.
pub(super) async fn linger(s: &Sock, rng: &mut Rng) -> Result<(), Errno> {
    let seconds = pick(rng, &[1i32, 5, 60]).unwrap_or(1);
    s.set(SOL_SOCKET, SO_LINGER, &[1i32.to_ne_bytes(), seconds.to_ne_bytes()].concat()).await
}
