//! Settings: one line each with its range and default; every one of them has behaviour, anything else is ENOENT.
//!
//! Names and defaults are those of Linux 6.18 (`semantics` §18); memory-dependent defaults take a machine of 24 GB.
use belljar_abi::Errno;

/// A setting's value as text goes in and out by this.
trait Value: Sized {
    /// What a bad value gets, and whether there are good ones at all.
    const BAD: Errno = Errno::EINVAL;
    const WRITABLE: bool = true;
    fn show(&self) -> String;
    /// `None`: not of this shape, or outside the range (EINVAL, as the kernel's `proc_do*` handlers).
    fn read(text: &str, min: i64, max: i64) -> Option<Self>;
}

macro_rules! int_value {
    ($($t:ty),*) => {$(
        impl Value for $t {
            fn show(&self) -> String {
                self.to_string()
            }
            fn read(text: &str, min: i64, max: i64) -> Option<$t> {
                let v: i64 = text.trim().parse().ok()?;
                (min..=max).contains(&v).then_some(v as $t)
            }
        }
    )*};
}
int_value!(i32, u32, u64);

impl<const N: usize> Value for [u64; N] {
    fn show(&self) -> String {
        self.map(|v| v.to_string()).join("\t")
    }
    fn read(text: &str, min: i64, max: i64) -> Option<[u64; N]> {
        let mut out = [0; N];
        let mut words = text.split_whitespace();
        for o in &mut out {
            let v: i64 = words.next()?.parse().ok()?;
            *o = (min..=max).contains(&v).then_some(v as u64)?;
        }
        words.next().is_none().then_some(out)
    }
}

/// A number that the kernel counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count(pub u32);

impl Value for Count {
    const WRITABLE: bool = false;
    fn show(&self) -> String {
        self.0.to_string()
    }
    fn read(_: &str, _: i64, _: i64) -> Option<Count> {
        None
    }
}

/// `ip_local_port_range`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    pub lo: u16,
    pub hi: u16,
}

impl Value for PortRange {
    fn show(&self) -> String {
        format!("{}\t{}", self.lo, self.hi)
    }
    fn read(text: &str, _: i64, _: i64) -> Option<PortRange> {
        let mut w = text.split_whitespace().map(str::parse::<u16>);
        let (lo, hi) = (w.next()?.ok()?, w.next()?.ok()?);
        (lo >= 1 && lo <= hi && w.next().is_none()).then_some(PortRange { lo, hi })
    }
}

/// `ping_group_range`: the groups that may open ping sockets; `1 0` is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupRange {
    pub lo: u32,
    pub hi: u32,
}

impl Value for GroupRange {
    fn show(&self) -> String {
        format!("{}\t{}", self.lo, self.hi)
    }
    fn read(text: &str, _: i64, _: i64) -> Option<GroupRange> {
        let mut w = text.split_whitespace().map(str::parse::<u32>);
        let (lo, hi) = (w.next()?.ok()?, w.next()?.ok()?);
        if w.next().is_some() || lo == u32::MAX || hi == u32::MAX {
            return None;
        }
        Some(if lo > hi { GroupRange { lo: 1, hi: 0 } } else { GroupRange { lo, hi } })
    }
}

/// `ip_local_reserved_ports`: a list like `8080,9000-9010`, as a sorted list of ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet(pub Vec<(u16, u16)>);

impl PortSet {
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|&(lo, hi)| (lo..=hi).contains(&port))
    }
}

impl Value for PortSet {
    fn show(&self) -> String {
        let one = |&(lo, hi): &(u16, u16)| if lo == hi { lo.to_string() } else { format!("{lo}-{hi}") };
        self.0.iter().map(one).collect::<Vec<_>>().join(",")
    }
    fn read(text: &str, _: i64, _: i64) -> Option<PortSet> {
        let mut ranges = Vec::new();
        for part in text.trim().split(',').filter(|p| !p.is_empty()) {
            let (lo, hi) = part.split_once('-').unwrap_or((part, part));
            let (lo, hi) = (lo.trim().parse().ok()?, hi.trim().parse().ok()?);
            if lo > hi {
                return None;
            }
            ranges.push((lo, hi));
        }
        ranges.sort_unstable();
        Some(PortSet(ranges))
    }
}

/// `tcp_congestion_control`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CongName {
    Reno,
    Cubic,
    Bbr,
}

impl CongName {
    /// In the order of tcp_available_congestion_control.
    pub const ALL: [CongName; 3] = [CongName::Reno, CongName::Cubic, CongName::Bbr];

    pub fn name(self) -> &'static str {
        match self {
            CongName::Reno => "reno",
            CongName::Cubic => "cubic",
            CongName::Bbr => "bbr",
        }
    }

    pub fn parse(name: &str) -> Option<CongName> {
        CongName::ALL.into_iter().find(|c| c.name() == name)
    }
}

/// `default_qdisc`: what a device with a queue gets when it comes up for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QdiscName(pub &'static str);

impl QdiscName {
    /// All may be chosen; of those that cannot be without options a device gets none.
    const ALL: [&'static str; 11] =
        ["pfifo_fast", "fq_codel", "fq", "pfifo", "bfifo", "tbf", "netem", "prio", "htb", "mq", "noqueue"];
}

impl Value for QdiscName {
    const BAD: Errno = Errno::ENOENT;
    fn show(&self) -> String {
        self.0.to_owned()
    }
    fn read(text: &str, _: i64, _: i64) -> Option<QdiscName> {
        QdiscName::ALL.into_iter().find(|n| *n == text.trim()).map(QdiscName)
    }
}

/// `tcp_fastopen_key`: the key that cookies are made with, and one that is still good for checking them. None: one that
/// nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FastOpenKeys {
    pub primary: Option<[u32; 4]>,
    pub backup: Option<[u32; 4]>,
}

impl Value for FastOpenKeys {
    fn show(&self) -> String {
        let one = |k: [u32; 4]| k.map(|w| format!("{w:08x}")).join("-");
        let first = one(self.primary.unwrap_or_default());
        self.backup.map_or(first.clone(), |b| format!("{first},{}", one(b)))
    }
    fn read(text: &str, _: i64, _: i64) -> Option<FastOpenKeys> {
        let one = |text: &str| {
            let mut words = text.trim().split('-');
            let mut key = [0; 4];
            for w in &mut key {
                *w = words
                    .next()
                    .filter(|w| (1..=8).contains(&w.len()))
                    .and_then(|w| u32::from_str_radix(w, 16).ok())?;
            }
            words.next().is_none().then_some(key)
        };
        Some(match text.split_once(',') {
            Some((first, second)) => FastOpenKeys { primary: Some(one(first)?), backup: Some(one(second)?) },
            None => FastOpenKeys { primary: Some(one(text)?), backup: None },
        })
    }
}

impl Value for CongName {
    const BAD: Errno = Errno::ENOENT;
    fn show(&self) -> String {
        self.name().to_owned()
    }
    fn read(text: &str, _: i64, _: i64) -> Option<CongName> {
        CongName::parse(text.trim())
    }
}

/// `tcp_allowed_congestion_control`: what a program may choose without being privileged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CongSet(u8);

impl CongSet {
    pub fn contains(self, name: CongName) -> bool {
        self.0 & 1 << name as u8 != 0
    }
}

impl Value for CongSet {
    const BAD: Errno = Errno::ENOENT;
    fn show(&self) -> String {
        let names = CongName::ALL.into_iter().filter(|c| self.contains(*c)).map(CongName::name);
        names.collect::<Vec<_>>().join(" ")
    }
    fn read(text: &str, _: i64, _: i64) -> Option<CongSet> {
        text.split_whitespace().try_fold(CongSet(0), |set, w| Some(CongSet(set.0 | 1 << CongName::parse(w)? as u8)))
    }
}

/// `tcp_available_congestion_control`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Available;

impl Value for Available {
    const WRITABLE: bool = false;
    fn show(&self) -> String {
        CongName::ALL.map(CongName::name).join(" ")
    }
    fn read(_: &str, _: i64, _: i64) -> Option<Available> {
        None
    }
}

/// Any number; what is not nought is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switch(pub bool);

impl Value for Switch {
    fn show(&self) -> String {
        u8::from(self.0).to_string()
    }
    fn read(text: &str, min: i64, max: i64) -> Option<Switch> {
        i32::read(text, min, max).map(|v| Switch(v != 0))
    }
}

macro_rules! sysctls {
    ($(#[$doc:meta])* $group:ident { $($key:literal $field:ident: $t:ty = $default:expr, $min:expr, $max:expr;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $group { $(pub $field: $t,)* }

        impl Default for $group {
            fn default() -> $group {
                $group { $($field: $default,)* }
            }
        }

        impl $group {
            /// Keys in alphabetical order of their declaration groups.
            pub const KEYS: &[&str] = &[$($key,)*];

            pub fn show(&self, key: &str) -> Option<String> {
                match key {
                    $($key => Some(Value::show(&self.$field)),)*
                    _ => None,
                }
            }

            /// ENOENT for an unknown key or name, EINVAL for a value that is malformed or out of range, EACCES for one that
            /// only tells.
            pub fn store(&mut self, key: &str, text: &str) -> Result<(), Errno> {
                match key {
                    $($key if !<$t as Value>::WRITABLE => return Err(Errno::EACCES),)*
                    $($key => self.$field = <$t as Value>::read(text, self.least(key).max($min), self.limit(key).min($max)).ok_or(<$t as Value>::BAD)?,)*
                    _ => return Err(Errno::ENOENT),
                }
                Ok(())
            }
        }
    };
}

const INT: i64 = i32::MAX as i64;
const UINT: i64 = u32::MAX as i64;
/// What fits in an int as ticks of 4 ms.
const SECONDS: i64 = INT / 250;
const MIN_SECONDS: i64 = i32::MIN as i64 / 250;

sysctls! {
    /// Settings of one network namespace.
    Sysctl {
        "net.bridge.bridge-nf-call-arptables" bridge_nf_call_arptables: Switch = Switch(true), i64::from(i32::MIN), INT;
        "net.bridge.bridge-nf-call-ip6tables" bridge_nf_call_ip6tables: Switch = Switch(true), i64::from(i32::MIN), INT;
        "net.bridge.bridge-nf-call-iptables" bridge_nf_call_iptables: Switch = Switch(true), i64::from(i32::MIN), INT;
        "net.bridge.bridge-nf-filter-pppoe-tagged" bridge_nf_filter_pppoe_tagged: Switch = Switch(false), i64::from(i32::MIN), INT;
        "net.bridge.bridge-nf-filter-vlan-tagged" bridge_nf_filter_vlan_tagged: Switch = Switch(false), i64::from(i32::MIN), INT;
        "net.bridge.bridge-nf-pass-vlan-input-dev" bridge_nf_pass_vlan_input_dev: Switch = Switch(false), i64::from(i32::MIN), INT;
        "net.core.optmem_max" optmem_max: u32 = 131_072, 0, INT;
        "net.core.rmem_default" rmem_default: u32 = 212_992, 2304, INT;
        "net.core.rmem_max" rmem_max: u32 = 4_194_304, 2304, INT;
        "net.core.somaxconn" somaxconn: u32 = 4096, 0, INT;
        "net.core.txrehash" txrehash: u32 = 1, 0, 1;
        "net.core.wmem_default" wmem_default: u32 = 212_992, 4608, INT;
        "net.core.wmem_max" wmem_max: u32 = 4_194_304, 4608, INT;
        "net.ipv4.fib_multipath_hash_fields" fib_multipath_hash_fields: u32 = 7, 1, 0xfff;
        "net.ipv4.fib_multipath_hash_policy" fib_multipath_hash_policy: u32 = 0, 0, 3;
        "net.ipv4.icmp_echo_ignore_all" icmp_echo_ignore_all: u32 = 0, 0, 1;
        "net.ipv4.icmp_echo_ignore_broadcasts" icmp_echo_ignore_broadcasts: u32 = 1, 0, 1;
        "net.ipv4.icmp_msgs_burst" icmp_msgs_burst: u32 = 50, 0, INT;
        "net.ipv4.icmp_msgs_per_sec" icmp_msgs_per_sec: u32 = 1000, 0, INT;
        "net.ipv4.icmp_ratelimit" icmp_ratelimit: u32 = 1000, 0, INT;
        "net.ipv4.icmp_ratemask" icmp_ratemask: u32 = 6168, 0, INT;
        "net.ipv4.igmp_link_local_mcast_reports" igmp_link_local_mcast_reports: u32 = 1, 0, 255;
        "net.ipv4.igmp_max_memberships" igmp_max_memberships: i32 = 20, i64::from(i32::MIN), INT;
        "net.ipv4.igmp_max_msf" igmp_max_msf: i32 = 10, i64::from(i32::MIN), INT;
        "net.ipv4.igmp_qrv" igmp_qrv: u32 = 2, 1, INT;
        "net.ipv4.ip_autobind_reuse" ip_autobind_reuse: u32 = 0, 0, 1;
        "net.ipv4.ip_default_ttl" ip_default_ttl: u32 = 64, 1, 255;
        "net.ipv4.ip_forward" ip_forward: u32 = 0, 0, 1;
        "net.ipv4.ip_local_port_range" ip_local_port_range: PortRange = PortRange { lo: 32768, hi: 60999 }, 0, 0;
        "net.ipv4.ip_local_reserved_ports" ip_local_reserved_ports: PortSet = PortSet::default(), 0, 0;
        "net.ipv4.ip_no_pmtu_disc" ip_no_pmtu_disc: u32 = 0, 0, 3;
        "net.ipv4.ip_nonlocal_bind" ip_nonlocal_bind: u32 = 0, 0, 255;
        "net.ipv4.ip_unprivileged_port_start" ip_unprivileged_port_start: u32 = 1024, 0, 65535;
        "net.ipv4.ipfrag_high_thresh" ipfrag_high_thresh: u64 = 4_194_304, 0, i64::MAX;
        "net.ipv4.ipfrag_low_thresh" ipfrag_low_thresh: u64 = 3_145_728, 0, i64::MAX;
        "net.ipv4.ipfrag_max_dist" ipfrag_max_dist: u32 = 64, 0, INT;
        "net.ipv4.ipfrag_time" ipfrag_time: u32 = 30, 0, INT;
        "net.ipv4.ping_group_range" ping_group_range: GroupRange = GroupRange { lo: 1, hi: 0 }, 0, 0;
        "net.ipv4.neigh.default.base_reachable_time_ms" neigh_base_reachable_time_ms: u32 = 30_000, 0, INT;
        "net.ipv4.neigh.default.delay_first_probe_time" neigh_delay_first_probe_time: u32 = 5, 0, INT;
        "net.ipv4.neigh.default.gc_stale_time" neigh_gc_stale_time: u32 = 60, 0, INT;
        "net.ipv4.neigh.default.gc_thresh1" neigh_gc_thresh1: u32 = 128, 0, INT;
        "net.ipv4.neigh.default.gc_thresh3" neigh_gc_thresh3: u32 = 1024, 0, INT;
        "net.ipv4.neigh.default.locktime" neigh_locktime: u32 = 100, 0, INT;
        "net.ipv4.neigh.default.mcast_solicit" neigh_mcast_solicit: u32 = 3, 0, INT;
        "net.ipv4.neigh.default.proxy_delay" neigh_proxy_delay: u32 = 80, 0, INT;
        "net.ipv4.neigh.default.retrans_time_ms" neigh_retrans_time_ms: u32 = 1000, 0, INT;
        "net.ipv4.neigh.default.ucast_solicit" neigh_ucast_solicit: u32 = 3, 0, INT;
        "net.ipv4.neigh.default.unres_qlen_bytes" neigh_unres_qlen_bytes: u32 = 212_992, 0, INT;
        "net.ipv4.route.gc_timeout" rt_gc_timeout: u32 = 300, 0, INT;
        "net.ipv4.route.min_pmtu" min_pmtu: u32 = 552, 68, INT;
        "net.ipv4.route.mtu_expires" mtu_expires: u32 = 600, 0, INT;
        "net.ipv4.tcp_abort_on_overflow" tcp_abort_on_overflow: u32 = 0, 0, 255;
        "net.ipv4.tcp_allowed_congestion_control" tcp_allowed_congestion_control: CongSet = CongSet(3), 0, 0;
        "net.ipv4.tcp_app_win" tcp_app_win: u32 = 31, 0, 31;
        "net.ipv4.tcp_autocorking" tcp_autocorking: u32 = 1, 0, 1;
        "net.ipv4.tcp_available_congestion_control" tcp_available_congestion_control: Available = Available, 0, 0;
        "net.ipv4.tcp_base_mss" tcp_base_mss: i32 = 1024, i64::from(i32::MIN), INT;
        "net.ipv4.tcp_challenge_ack_limit" tcp_challenge_ack_limit: u32 = i32::MAX as u32, 0, INT;
        "net.ipv4.tcp_comp_sack_delay_ns" tcp_comp_sack_delay_ns: u64 = 1_000_000, 0, i64::MAX;
        "net.ipv4.tcp_comp_sack_nr" tcp_comp_sack_nr: u32 = 44, 0, 255;
        "net.ipv4.tcp_comp_sack_slack_ns" tcp_comp_sack_slack_ns: u64 = 100_000, 0, i64::MAX;
        "net.ipv4.tcp_congestion_control" tcp_congestion_control: CongName = CongName::Cubic, 0, 0;
        "net.ipv4.tcp_dsack" tcp_dsack: u32 = 1, 0, 255;
        "net.ipv4.tcp_early_retrans" tcp_early_retrans: u32 = 3, 0, 4;
        "net.ipv4.tcp_fastopen" tcp_fastopen: u32 = 1, 0, INT;
        "net.ipv4.tcp_fastopen_blackhole_timeout_sec" tcp_fastopen_blackhole_timeout_sec: u32 = 0, 0, INT;
        "net.ipv4.tcp_fastopen_key" tcp_fastopen_key: FastOpenKeys = FastOpenKeys::default(), 0, 0;
        "net.ipv4.tcp_ecn" tcp_ecn: u32 = 2, 0, 2;
        "net.ipv4.tcp_ecn_fallback" tcp_ecn_fallback: u32 = 1, 0, 1;
        "net.ipv4.tcp_fin_timeout" tcp_fin_timeout: i32 = 60, MIN_SECONDS, SECONDS;
        "net.ipv4.tcp_frto" tcp_frto: u32 = 2, 0, 255;
        "net.ipv4.tcp_invalid_ratelimit" tcp_invalid_ratelimit: u32 = 500, 0, INT;
        "net.ipv4.tcp_keepalive_intvl" tcp_keepalive_intvl: u32 = 75, 1, SECONDS;
        "net.ipv4.tcp_keepalive_probes" tcp_keepalive_probes: u32 = 9, 0, 255;
        "net.ipv4.tcp_keepalive_time" tcp_keepalive_time: u32 = 7200, 1, SECONDS;
        "net.ipv4.tcp_limit_output_bytes" tcp_limit_output_bytes: u32 = 4_194_304, 0, INT;
        "net.ipv4.tcp_max_reordering" tcp_max_reordering: u32 = 300, 1, INT;
        "net.ipv4.tcp_max_syn_backlog" tcp_max_syn_backlog: u32 = 2048, 0, INT;
        "net.ipv4.tcp_max_tw_buckets" tcp_max_tw_buckets: u32 = 131_072, 0, INT;
        "net.ipv4.tcp_migrate_req" tcp_migrate_req: u32 = 0, 0, 1;
        "net.ipv4.tcp_min_rtt_wlen" tcp_min_rtt_wlen: u32 = 300, 0, 86_400;
        "net.ipv4.tcp_min_snd_mss" tcp_min_snd_mss: u32 = 48, 48, 65535;
        "net.ipv4.tcp_min_tso_segs" tcp_min_tso_segs: u32 = 2, 1, 255;
        "net.ipv4.tcp_moderate_rcvbuf" tcp_moderate_rcvbuf: u32 = 1, 0, 255;
        "net.ipv4.tcp_mtu_probe_floor" tcp_mtu_probe_floor: u32 = 48, 48, 65535;
        "net.ipv4.tcp_mtu_probing" tcp_mtu_probing: u32 = 0, 0, 255;
        "net.ipv4.tcp_no_metrics_save" tcp_no_metrics_save: u32 = 0, 0, 255;
        "net.ipv4.tcp_no_ssthresh_metrics_save" tcp_no_ssthresh_metrics_save: u32 = 1, 0, 1;
        "net.ipv4.tcp_notsent_lowat" tcp_notsent_lowat: u32 = u32::MAX, 0, UINT;
        "net.ipv4.tcp_orphan_retries" tcp_orphan_retries: u32 = 0, 0, 255;
        "net.ipv4.tcp_pacing_ca_ratio" tcp_pacing_ca_ratio: u32 = 120, 0, 1000;
        "net.ipv4.tcp_pacing_ss_ratio" tcp_pacing_ss_ratio: u32 = 200, 0, 1000;
        "net.ipv4.tcp_pingpong_thresh" tcp_pingpong_thresh: u32 = 1, 1, 255;
        "net.ipv4.tcp_probe_interval" tcp_probe_interval: u32 = 600, 0, UINT / 250;
        "net.ipv4.tcp_probe_threshold" tcp_probe_threshold: i32 = 8, i64::from(i32::MIN), INT;
        "net.ipv4.tcp_recovery" tcp_recovery: u32 = 1, 0, 255;
        "net.ipv4.tcp_reordering" tcp_reordering: u32 = 3, 1, INT;
        "net.ipv4.tcp_retrans_collapse" tcp_retrans_collapse: u32 = 1, 0, 255;
        "net.ipv4.tcp_retries1" tcp_retries1: u32 = 3, 0, 255;
        "net.ipv4.tcp_retries2" tcp_retries2: u32 = 15, 0, 255;
        "net.ipv4.tcp_rfc1337" tcp_rfc1337: u32 = 0, 0, 255;
        "net.ipv4.tcp_rmem" tcp_rmem: [u64; 3] = [4096, 131_072, 33_554_432], 1, INT;
        "net.ipv4.tcp_rto_max_ms" tcp_rto_max_ms: u32 = 120_000, 1000, 120_000;
        "net.ipv4.tcp_rto_min_us" tcp_rto_min_us: u32 = 200_000, 1, INT;
        "net.ipv4.tcp_sack" tcp_sack: u32 = 1, 0, 255;
        "net.ipv4.tcp_slow_start_after_idle" tcp_slow_start_after_idle: u32 = 1, 0, 255;
        "net.ipv4.tcp_syn_linear_timeouts" tcp_syn_linear_timeouts: u32 = 4, 0, 127;
        "net.ipv4.tcp_stdurg" tcp_stdurg: u32 = 0, 0, UINT;
        "net.ipv4.tcp_syn_retries" tcp_syn_retries: u32 = 6, 1, 127;
        "net.ipv4.tcp_synack_retries" tcp_synack_retries: u32 = 5, 0, 255;
        "net.ipv4.tcp_syncookies" tcp_syncookies: u32 = 1, 0, 255;
        "net.ipv4.tcp_shrink_window" tcp_shrink_window: u32 = 0, 0, 1;
        "net.ipv4.tcp_thin_linear_timeouts" tcp_thin_linear_timeouts: u32 = 0, 0, 255;
        "net.ipv4.tcp_timestamps" tcp_timestamps: u32 = 1, 0, 255;
        "net.ipv4.tcp_tso_rtt_log" tcp_tso_rtt_log: u32 = 9, 0, 255;
        "net.ipv4.tcp_tso_win_divisor" tcp_tso_win_divisor: u32 = 3, 0, 255;
        "net.ipv4.tcp_tw_reuse" tcp_tw_reuse: u32 = 2, 0, 2;
        "net.ipv4.tcp_tw_reuse_delay" tcp_tw_reuse_delay: u32 = 1000, 1, 60_000;
        "net.ipv4.tcp_window_scaling" tcp_window_scaling: u32 = 1, 0, 255;
        "net.ipv4.tcp_wmem" tcp_wmem: [u64; 3] = [4096, 16_384, 4_194_304], 1, INT;
        "net.ipv4.udp_rmem_min" udp_rmem_min: u32 = 4096, 1, INT;
        "net.ipv4.udp_wmem_min" udp_wmem_min: u32 = 4096, 1, INT;
        "net.ipv6.auto_flowlabels" auto_flowlabels: u32 = 1, 0, 3;
        "net.ipv6.bindv6only" bindv6only: u32 = 0, 0, 255;
        "net.ipv6.fib_multipath_hash_fields" fib_multipath_hash_fields6: u32 = 7, 1, 0xfff;
        "net.ipv6.fib_multipath_hash_policy" fib_multipath_hash_policy6: u32 = 0, 0, 3;
        "net.ipv6.flowlabel_consistency" flowlabel_consistency: u32 = 1, 0, 255;
        "net.ipv6.flowlabel_reflect" flowlabel_reflect: u32 = 0, 0, 7;
        "net.ipv6.flowlabel_state_ranges" flowlabel_state_ranges: u32 = 0, 0, 255;
        "net.ipv6.icmp.echo_ignore_all" icmp6_echo_ignore_all: u32 = 0, 0, 1;
        "net.ipv6.icmp.ratelimit" icmp6_ratelimit: u32 = 1000, 0, INT;
        "net.ipv6.icmp.ratemask" icmp6_ratemask: PortSet = PortSet(vec![(0, 1), (3, 127)]), 0, 0;
        "net.ipv6.ip6frag_high_thresh" ip6frag_high_thresh: u64 = 4_194_304, 0, i64::MAX;
        "net.ipv6.ip6frag_low_thresh" ip6frag_low_thresh: u64 = 3_145_728, 0, i64::MAX;
        "net.ipv6.ip6frag_time" ip6frag_time: u32 = 60, 0, INT;
        "net.ipv6.ip_nonlocal_bind" ip_nonlocal_bind6: u32 = 0, 0, 255;
        "net.ipv6.max_dst_opts_number" max_dst_opts_number: i32 = 8, i64::from(i32::MIN), INT;
        "net.ipv6.max_hbh_opts_number" max_hbh_opts_number: i32 = 8, i64::from(i32::MIN), INT;
        "net.ipv6.mld_max_msf" mld_max_msf: i32 = 64, i64::from(i32::MIN), INT;
        "net.ipv6.mld_qrv" mld_qrv: u32 = 2, 1, INT;
        "net.ipv6.neigh.default.base_reachable_time_ms" neigh6_base_reachable_time_ms: u32 = 30_000, 0, INT;
        "net.ipv6.neigh.default.delay_first_probe_time" neigh6_delay_first_probe_time: u32 = 5, 0, INT;
        "net.ipv6.neigh.default.gc_stale_time" neigh6_gc_stale_time: u32 = 60, 0, INT;
        "net.ipv6.neigh.default.gc_thresh1" neigh6_gc_thresh1: u32 = 128, 0, INT;
        "net.ipv6.neigh.default.gc_thresh3" neigh6_gc_thresh3: u32 = 1024, 0, INT;
        "net.ipv6.neigh.default.mcast_solicit" neigh6_mcast_solicit: u32 = 3, 0, INT;
        "net.ipv6.neigh.default.proxy_delay" neigh6_proxy_delay: u32 = 80, 0, INT;
        "net.ipv6.neigh.default.retrans_time_ms" neigh6_retrans_time_ms: u32 = 1000, 0, INT;
        "net.ipv6.neigh.default.ucast_solicit" neigh6_ucast_solicit: u32 = 3, 0, INT;
        "net.ipv6.neigh.default.unres_qlen_bytes" neigh6_unres_qlen_bytes: u32 = 212_992, 0, INT;
        "net.ipv6.route.gc_timeout" rt6_gc_timeout: u32 = 60, 0, SECONDS;
        "net.ipv6.route.mtu_expires" mtu_expires6: u32 = 600, 0, INT;
        "net.netfilter.nf_conntrack_acct" nf_conntrack_acct: u32 = 0, 0, 1;
        "net.netfilter.nf_conntrack_checksum" nf_conntrack_checksum: u32 = 1, 0, 1;
        "net.netfilter.nf_conntrack_count" nf_conntrack_count: Count = Count(0), 0, 0;
        "net.netfilter.nf_conntrack_generic_timeout" nf_conntrack_generic_timeout: u32 = 600, 0, SECONDS;
        "net.netfilter.nf_conntrack_icmp_timeout" nf_conntrack_icmp_timeout: u32 = 30, 0, SECONDS;
        "net.netfilter.nf_conntrack_icmpv6_timeout" nf_conntrack_icmpv6_timeout: u32 = 30, 0, SECONDS;
        "net.netfilter.nf_conntrack_tcp_be_liberal" nf_conntrack_tcp_be_liberal: u32 = 0, 0, 1;
        "net.netfilter.nf_conntrack_tcp_ignore_invalid_rst" nf_conntrack_tcp_ignore_invalid_rst: u32 = 0, 0, 1;
        "net.netfilter.nf_conntrack_tcp_loose" nf_conntrack_tcp_loose: u32 = 1, 0, 1;
        "net.netfilter.nf_conntrack_tcp_max_retrans" nf_conntrack_tcp_max_retrans: u32 = 3, 0, 255;
        "net.netfilter.nf_conntrack_tcp_timeout_close" nf_conntrack_tcp_timeout_close: u32 = 10, 0, SECONDS;
        "net.netfilter.nf_conntrack_tcp_timeout_close_wait" nf_conntrack_tcp_timeout_close_wait: u32 = 60, 0, SECONDS;
        "net.netfilter.nf_conntrack_tcp_timeout_established" nf_conntrack_tcp_timeout_established: u32 = 432_000, 0, SECONDS;
        "net.netfilter.nf_conntrack_tcp_timeout_fin_wait" nf_conntrack_tcp_timeout_fin_wait: u32 = 120, 0, SECONDS;
        "net.netfilter.nf_conntrack_tcp_timeout_last_ack" nf_conntrack_tcp_timeout_last_ack: u32 = 30, 0, SECONDS;
        "net.netfilter.nf_conntrack_tcp_timeout_max_retrans" nf_conntrack_tcp_timeout_max_retrans: u32 = 300, 0, SECONDS;
        "net.netfilter.nf_conntrack_tcp_timeout_syn_recv" nf_conntrack_tcp_timeout_syn_recv: u32 = 60, 0, SECONDS;
        "net.netfilter.nf_conntrack_tcp_timeout_syn_sent" nf_conntrack_tcp_timeout_syn_sent: u32 = 120, 0, SECONDS;
        "net.netfilter.nf_conntrack_tcp_timeout_time_wait" nf_conntrack_tcp_timeout_time_wait: u32 = 120, 0, SECONDS;
        "net.netfilter.nf_conntrack_tcp_timeout_unacknowledged" nf_conntrack_tcp_timeout_unacknowledged: u32 = 300, 0, SECONDS;
        "net.netfilter.nf_conntrack_udp_timeout" nf_conntrack_udp_timeout: u32 = 30, 0, SECONDS;
        "net.netfilter.nf_conntrack_udp_timeout_stream" nf_conntrack_udp_timeout_stream: u32 = 120, 0, SECONDS;
    }
}

sysctls! {
    /// Settings of the whole machine.
    Global {
        "fs.file-max" file_max: u64 = 2_457_600, 0, i64::MAX;
        "fs.nr_open" nr_open: u32 = 1_048_576, 64, 1_073_741_816;
        "net.core.busy_poll" busy_poll: u32 = 0, 0, INT;
        "net.core.busy_read" busy_read: u32 = 0, 0, INT;
        "net.core.default_qdisc" default_qdisc: QdiscName = QdiscName("pfifo_fast"), 0, 0;
        "net.core.dev_weight" dev_weight: u32 = 64, 1, INT;
        "net.core.netdev_budget" netdev_budget: u32 = 300, 0, INT;
        "net.core.netdev_budget_usecs" netdev_budget_usecs: u32 = 8000, 0, INT;
        "net.core.netdev_max_backlog" netdev_max_backlog: u32 = 1000, 0, INT;
        "net.core.rps_sock_flow_entries" rps_sock_flow_entries: u32 = 0, 0, 1 << 29;
        "net.ipv4.tcp_max_orphans" tcp_max_orphans: u32 = 131_072, 0, INT;
        "net.ipv4.tcp_mem" tcp_mem: [u64; 3] = [287_901, 383_869, 575_802], 0, INT;
        "net.ipv4.udp_mem" udp_mem: [u64; 3] = [575_802, 767_738, 1_151_604], 0, INT;
        "net.netfilter.nf_conntrack_max" nf_conntrack_max: u32 = 262_144, 0, INT;
    }
}

sysctls! {
    /// Settings of one interface (`net.ipv6.conf.IF.*`), keys without that beginning.
    #[derive(Copy, PartialEq, Eq)]
    Conf6 {
        "accept_dad" accept_dad: u32 = 1, 0, 2;
        "accept_ra" accept_ra: u32 = 1, 0, 2;
        "accept_ra_defrtr" accept_ra_defrtr: u32 = 1, 0, 1;
        "accept_ra_mtu" accept_ra_mtu: u32 = 1, 0, 1;
        "accept_ra_pinfo" accept_ra_pinfo: u32 = 1, 0, 1;
        "accept_ra_rtr_pref" accept_ra_rtr_pref: u32 = 1, 0, 1;
        "accept_redirects" accept_redirects: u32 = 1, 0, 1;
        "addr_gen_mode" addr_gen_mode: u32 = 0, 0, 1;
        "autoconf" autoconf: u32 = 1, 0, 1;
        "dad_transmits" dad_transmits: u32 = 1, 0, INT;
        "disable_ipv6" disable_ipv6: u32 = 0, 0, 1;
        "enhanced_dad" enhanced_dad: u32 = 1, 0, 1;
        "force_mld_version" force_mld_version: u32 = 0, 0, 2;
        "forwarding" forwarding: u32 = 0, 0, 1;
        "hop_limit" hop_limit: u32 = 64, 1, 255;
        "keep_addr_on_down" keep_addr_on_down: i32 = 0, -1, 1;
        "max_desync_factor" max_desync_factor: u32 = 600, 0, INT;
        "max_addresses" max_addresses: u32 = 16, 0, INT;
        "mldv1_unsolicited_report_interval" mldv1_unsolicited_report_interval: u32 = 10_000, 0, INT;
        "mldv2_unsolicited_report_interval" mldv2_unsolicited_report_interval: u32 = 1000, 0, INT;
        "mtu" mtu: u32 = 0, 1280, 65_535;
        "regen_max_retry" regen_max_retry: u32 = 3, 0, INT;
        "regen_min_advance" regen_min_advance: u32 = 2, 0, INT;
        "router_probe_interval" router_probe_interval: u32 = 60, 0, SECONDS;
        "router_solicitation_delay" router_solicitation_delay: u32 = 1, 0, SECONDS;
        "router_solicitation_interval" router_solicitation_interval: u32 = 4, 0, SECONDS;
        "router_solicitation_max_interval" router_solicitation_max_interval: u32 = 3600, 0, SECONDS;
        "router_solicitations" router_solicitations: i32 = -1, -1, INT;
        "temp_prefered_lft" temp_prefered_lft: u32 = 86_400, 0, INT;
        "temp_valid_lft" temp_valid_lft: u32 = 604_800, 0, INT;
        "proxy_ndp" proxy_ndp: u32 = 0, 0, INT;
        "use_tempaddr" use_tempaddr: i32 = 0, i64::from(i32::MIN), INT;
    }
}

impl Conf6 {
    fn least(&self, _: &str) -> i64 {
        i64::MIN
    }

    fn limit(&self, _: &str) -> i64 {
        i64::MAX
    }
}

impl Sysctl {
    /// How flows part over next hops, and what counts when the fields say it.
    pub(in crate::net) fn multipath_hash(&self) -> (u32, u32) {
        (self.fib_multipath_hash_policy, self.fib_multipath_hash_fields)
    }

    pub(in crate::net) fn multipath_hash6(&self) -> (u32, u32) {
        (self.fib_multipath_hash_policy6, self.fib_multipath_hash_fields6)
    }

    /// The most that a setting takes as others are now.
    fn limit(&self, key: &str) -> i64 {
        let most = match key {
            "net.ipv4.tcp_reordering" => return self.tcp_max_reordering.into(),
            "net.ipv4.ipfrag_low_thresh" => self.ipfrag_high_thresh,
            "net.ipv6.ip6frag_low_thresh" => self.ip6frag_high_thresh,
            _ => return i64::MAX,
        };
        most as i64
    }

    /// The least.
    fn least(&self, key: &str) -> i64 {
        let least = match key {
            "net.ipv4.ipfrag_high_thresh" => self.ipfrag_low_thresh,
            "net.ipv6.ip6frag_high_thresh" => self.ip6frag_low_thresh,
            _ => return i64::MIN,
        };
        least as i64
    }
}

impl Global {
    fn least(&self, _: &str) -> i64 {
        i64::MIN
    }

    fn limit(&self, _: &str) -> i64 {
        i64::MAX
    }
}

/// The known key nearest to a mistyped one, for the error message.
pub fn nearest(key: &str) -> Option<&'static str> {
    let all = Sysctl::KEYS.iter().chain(Global::KEYS);
    let best = all.map(|k| (distance(key, k), *k)).min_by_key(|(d, _)| *d)?;
    (best.0 <= key.len() / 3 + 1).then_some(best.1)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, cb) in b.iter().enumerate() {
            let cost = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_kept_and_typos_find_their_neighbour() {
        let mut s = Sysctl::default();
        assert_eq!(s.store("net.ipv4.tcp_syncookies", "256"), Err(Errno::EINVAL));
        assert_eq!(s.store("net.ipv4.tcp_reordering", "301"), Err(Errno::EINVAL));
        assert_eq!(s.store("net.ipv4.tcp_max_reordering", "1000"), Ok(()));
        assert_eq!(s.store("net.ipv4.tcp_reordering", "301"), Ok(()));
        assert_eq!(s.store("net.ipv4.tcp_rmem", "1 2"), Err(Errno::EINVAL));
        s.store("net.ipv4.tcp_rmem", "4096 87380 6291456\n").unwrap();
        assert_eq!(s.show("net.ipv4.tcp_rmem").unwrap(), "4096\t87380\t6291456");
        s.store("net.ipv4.ip_local_reserved_ports", "9000-9010,80").unwrap();
        assert_eq!(s.show("net.ipv4.ip_local_reserved_ports").unwrap(), "80,9000-9010");
        assert_eq!(nearest("net.core.somaxcon"), Some("net.core.somaxconn"));
        assert_eq!(nearest("kernel.hostname"), None);
    }
}
