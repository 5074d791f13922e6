//! Settings: one line each with its range and default; every one of them has behaviour, or as is said there none on Linux
//! either; anything else is ENOENT. `tests/settings.rs` holds them to what 6.18 takes.
//!
//! Names and defaults are those of Linux 6.18 (`semantics` §18); memory-dependent defaults take a machine of 24 GB.
mod known;
mod values;

use crate::net::ipv6::stable::GEN_MODE_STABLE_PRIVACY;
use belljar_abi::{AF_INET, AF_INET6, Errno};
pub use known::{PER_DEVICE, check, conf_keys, device_of, is_known, nearest, nearest_among};
use values::Value;
pub use values::{
    Available, CongName, CongSet, Count, CpuMask, FastOpenKeys, GroupRange, Log, Logger, Millis, PortRange, PortSet,
    QdiscName, Secret, Secs, Switch, Trigger, number,
};

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
                    $($key => self.$field = Value::read(&self.$field, text, self.least(key).max($min), self.limit(key).min($max)).ok_or(<$t as Value>::BAD)?,)*
                    _ => return Err(Errno::ENOENT),
                }
                Ok(())
            }
        }
    };
}

const INT: i64 = i32::MAX as i64;
const UINT: i64 = u32::MAX as i64;
const LEAST: i64 = i32::MIN as i64;

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
        "net.core.rps_default_mask" rps_default_mask: CpuMask = CpuMask(0), 0, 0;
        "net.core.rmem_default" rmem_default: u32 = 212_992, 2304, INT;
        "net.core.rmem_max" rmem_max: u32 = 4_194_304, 2304, INT;
        "net.core.somaxconn" somaxconn: u32 = 4096, 0, INT;
        "net.core.txrehash" txrehash: u32 = 1, 0, 1;
        "net.core.wmem_default" wmem_default: u32 = 212_992, 4608, INT;
        "net.core.wmem_max" wmem_max: u32 = 4_194_304, 4608, INT;
        "net.ipv4.fib_multipath_hash_fields" fib_multipath_hash_fields: u32 = 7, 1, 0xfff;
        "net.ipv4.fib_multipath_hash_policy" fib_multipath_hash_policy: u32 = 0, 0, 3;
        "net.ipv4.fib_multipath_hash_seed" fib_multipath_hash_seed: u32 = 0, 0, UINT;
        "net.ipv4.fib_multipath_use_neigh" fib_multipath_use_neigh: u32 = 0, 0, 1;
        "net.ipv4.fwmark_reflect" fwmark_reflect: u32 = 0, 0, 255;
        "net.ipv4.icmp_echo_ignore_all" icmp_echo_ignore_all: u32 = 0, 0, 1;
        "net.ipv4.icmp_echo_ignore_broadcasts" icmp_echo_ignore_broadcasts: u32 = 1, 0, 1;
        "net.ipv4.icmp_errors_use_inbound_ifaddr" icmp_errors_use_inbound_ifaddr: u32 = 0, 0, 1;
        "net.ipv4.icmp_ignore_bogus_error_responses" icmp_ignore_bogus_error_responses: u32 = 1, 0, 1;
        "net.ipv4.icmp_msgs_burst" icmp_msgs_burst: u32 = 50, 0, INT;
        "net.ipv4.icmp_msgs_per_sec" icmp_msgs_per_sec: u32 = 1000, 0, INT;
        "net.ipv4.icmp_ratelimit" icmp_ratelimit: Millis = Millis(1000), 0, INT;
        "net.ipv4.icmp_ratemask" icmp_ratemask: i32 = 6168, LEAST, INT;
        "net.ipv4.igmp_link_local_mcast_reports" igmp_link_local_mcast_reports: u32 = 1, 0, 255;
        "net.ipv4.igmp_max_memberships" igmp_max_memberships: i32 = 20, LEAST, INT;
        "net.ipv4.igmp_max_msf" igmp_max_msf: i32 = 10, LEAST, INT;
        "net.ipv4.igmp_qrv" igmp_qrv: u32 = 2, 1, INT;
        "net.ipv4.ip_autobind_reuse" ip_autobind_reuse: u32 = 0, 0, 1;
        "net.ipv4.ip_default_ttl" ip_default_ttl: u32 = 64, 1, 255;
        "net.ipv4.ip_forward" ip_forward: i32 = 0, LEAST, INT;
        "net.ipv4.ip_forward_update_priority" ip_forward_update_priority: u32 = 1, 0, 1;
        "net.ipv4.ip_forward_use_pmtu" ip_forward_use_pmtu: u32 = 0, 0, 255;
        "net.ipv4.ip_local_port_range" ip_local_port_range: PortRange = PortRange { lo: 32768, hi: 60999 }, 1, 0;
        "net.ipv4.ip_local_reserved_ports" ip_local_reserved_ports: PortSet = PortSet::default(), 0, 65_535;
        "net.ipv4.ip_no_pmtu_disc" ip_no_pmtu_disc: u32 = 0, 0, 255;
        "net.ipv4.ip_nonlocal_bind" ip_nonlocal_bind: u32 = 0, 0, 255;
        "net.ipv4.ip_unprivileged_port_start" ip_unprivileged_port_start: u32 = 1024, 0, 65535;
        "net.ipv4.ipfrag_high_thresh" ipfrag_high_thresh: u64 = 4_194_304, 0, i64::MAX;
        "net.ipv4.ipfrag_low_thresh" ipfrag_low_thresh: u64 = 3_145_728, 0, i64::MAX;
        "net.ipv4.ipfrag_max_dist" ipfrag_max_dist: u32 = 64, 0, INT;
        "net.ipv4.ipfrag_time" ipfrag_time: Secs = Secs(30), LEAST, INT;
        "net.ipv4.nexthop_compat_mode" nexthop_compat_mode: u32 = 1, 0, 1;
        "net.ipv4.ping_group_range" ping_group_range: GroupRange = GroupRange { lo: 1, hi: 0 }, 0, 0;
        "net.ipv4.route.flush" rt_flush: Trigger = Trigger, 0, 0;
        "net.ipv4.route.gc_timeout" rt_gc_timeout: u32 = 300, 0, INT;
        "net.ipv4.route.min_adv_mss" min_adv_mss: i32 = 256, LEAST, INT;
        "net.ipv4.route.min_pmtu" min_pmtu: u32 = 552, 68, INT;
        "net.ipv4.route.mtu_expires" mtu_expires: Secs = Secs(600), LEAST, INT;
        "net.ipv4.tcp_abort_on_overflow" tcp_abort_on_overflow: u32 = 0, 0, 255;
        // Without effect since Linux 6.6; so is tcp_fack since 4.15. What follows tcp_ecn is of accurate ECN, which tcp_ecn does
        // not offer, tcp_plb_* of congestion controls that are not here.
        "net.ipv4.tcp_adv_win_scale" tcp_adv_win_scale: i32 = 1, -31, 31;
        "net.ipv4.tcp_allowed_congestion_control" tcp_allowed_congestion_control: CongSet = CongSet(3), 0, 0;
        "net.ipv4.tcp_app_win" tcp_app_win: u32 = 31, 0, 31;
        "net.ipv4.tcp_autocorking" tcp_autocorking: u32 = 1, 0, 1;
        "net.ipv4.tcp_available_congestion_control" tcp_available_congestion_control: Available = Available, 0, 0;
        "net.ipv4.tcp_base_mss" tcp_base_mss: i32 = 1024, LEAST, INT;
        "net.ipv4.tcp_challenge_ack_limit" tcp_challenge_ack_limit: i32 = i32::MAX, LEAST, INT;
        "net.ipv4.tcp_comp_sack_delay_ns" tcp_comp_sack_delay_ns: u64 = 1_000_000, 0, i64::MAX;
        "net.ipv4.tcp_comp_sack_nr" tcp_comp_sack_nr: u32 = 44, 0, 255;
        "net.ipv4.tcp_comp_sack_slack_ns" tcp_comp_sack_slack_ns: u64 = 100_000, 0, i64::MAX;
        "net.ipv4.tcp_congestion_control" tcp_congestion_control: CongName = CongName::Cubic, 0, 0;
        "net.ipv4.tcp_dsack" tcp_dsack: u32 = 1, 0, 255;
        "net.ipv4.tcp_early_retrans" tcp_early_retrans: u32 = 3, 0, 4;
        "net.ipv4.tcp_ecn" tcp_ecn: u32 = 2, 0, 2;
        "net.ipv4.tcp_ecn_fallback" tcp_ecn_fallback: u32 = 1, 0, 1;
        "net.ipv4.tcp_ecn_option" tcp_ecn_option: u32 = 2, 0, 2;
        "net.ipv4.tcp_ecn_option_beacon" tcp_ecn_option_beacon: u32 = 3, 0, 3;
        "net.ipv4.tcp_fack" tcp_fack: u32 = 0, 0, 255;
        "net.ipv4.tcp_fastopen" tcp_fastopen: i32 = 1, LEAST, INT;
        "net.ipv4.tcp_fastopen_blackhole_timeout_sec" tcp_fastopen_blackhole_timeout_sec: u32 = 0, 0, INT;
        "net.ipv4.tcp_fastopen_key" tcp_fastopen_key: FastOpenKeys = FastOpenKeys::default(), 0, 0;
        "net.ipv4.tcp_fin_timeout" tcp_fin_timeout: Secs = Secs(60), LEAST, INT;
        "net.ipv4.tcp_frto" tcp_frto: u32 = 2, 0, 255;
        "net.ipv4.tcp_fwmark_accept" tcp_fwmark_accept: u32 = 0, 0, 255;
        "net.ipv4.tcp_invalid_ratelimit" tcp_invalid_ratelimit: Millis = Millis(500), 0, INT;
        "net.ipv4.tcp_keepalive_intvl" tcp_keepalive_intvl: Secs = Secs(75), LEAST, INT;
        "net.ipv4.tcp_keepalive_probes" tcp_keepalive_probes: u32 = 9, 0, 255;
        "net.ipv4.tcp_keepalive_time" tcp_keepalive_time: Secs = Secs(7200), LEAST, INT;
        "net.ipv4.tcp_limit_output_bytes" tcp_limit_output_bytes: i32 = 4_194_304, LEAST, INT;
        "net.ipv4.tcp_max_reordering" tcp_max_reordering: u32 = 300, 1, INT;
        "net.ipv4.tcp_max_syn_backlog" tcp_max_syn_backlog: i32 = 2048, LEAST, INT;
        "net.ipv4.tcp_max_tw_buckets" tcp_max_tw_buckets: i32 = 131_072, LEAST, INT;
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
        "net.ipv4.tcp_plb_cong_thresh" tcp_plb_cong_thresh: u32 = 128, 0, 256;
        "net.ipv4.tcp_plb_enabled" tcp_plb_enabled: u32 = 0, 0, 1;
        "net.ipv4.tcp_plb_idle_rehash_rounds" tcp_plb_idle_rehash_rounds: u32 = 3, 0, 31;
        "net.ipv4.tcp_plb_rehash_rounds" tcp_plb_rehash_rounds: u32 = 12, 0, 31;
        "net.ipv4.tcp_plb_suspend_rto_sec" tcp_plb_suspend_rto_sec: u32 = 60, 0, 255;
        "net.ipv4.tcp_probe_interval" tcp_probe_interval: u32 = 600, 0, UINT / 250;
        "net.ipv4.tcp_probe_threshold" tcp_probe_threshold: i32 = 8, LEAST, INT;
        "net.ipv4.tcp_recovery" tcp_recovery: u32 = 1, 0, 255;
        "net.ipv4.tcp_reflect_tos" tcp_reflect_tos: u32 = 0, 0, 1;
        "net.ipv4.tcp_reordering" tcp_reordering: u32 = 3, 1, INT;
        "net.ipv4.tcp_retrans_collapse" tcp_retrans_collapse: u32 = 1, 0, 255;
        "net.ipv4.tcp_retries1" tcp_retries1: u32 = 3, 0, 255;
        "net.ipv4.tcp_retries2" tcp_retries2: u32 = 15, 0, 255;
        "net.ipv4.tcp_rfc1337" tcp_rfc1337: u32 = 0, 0, 255;
        "net.ipv4.tcp_rmem" tcp_rmem: [u64; 3] = [4096, 131_072, 33_554_432], 1, INT;
        "net.ipv4.tcp_rto_max_ms" tcp_rto_max_ms: u32 = 120_000, 1000, 120_000;
        "net.ipv4.tcp_rto_min_us" tcp_rto_min_us: u32 = 200_000, 1, INT;
        "net.ipv4.tcp_sack" tcp_sack: u32 = 1, 0, 255;
        "net.ipv4.tcp_shrink_window" tcp_shrink_window: u32 = 0, 0, 1;
        "net.ipv4.tcp_slow_start_after_idle" tcp_slow_start_after_idle: u32 = 1, 0, 255;
        "net.ipv4.tcp_stdurg" tcp_stdurg: u32 = 0, 0, 255;
        "net.ipv4.tcp_syn_linear_timeouts" tcp_syn_linear_timeouts: u32 = 4, 0, 127;
        "net.ipv4.tcp_syn_retries" tcp_syn_retries: u32 = 6, 1, 127;
        "net.ipv4.tcp_synack_retries" tcp_synack_retries: u32 = 5, 0, 255;
        "net.ipv4.tcp_syncookies" tcp_syncookies: u32 = 1, 0, 255;
        "net.ipv4.tcp_thin_linear_timeouts" tcp_thin_linear_timeouts: u32 = 0, 0, 255;
        "net.ipv4.tcp_timestamps" tcp_timestamps: u32 = 1, 0, 255;
        "net.ipv4.tcp_tso_rtt_log" tcp_tso_rtt_log: u32 = 9, 0, 255;
        "net.ipv4.tcp_tso_win_divisor" tcp_tso_win_divisor: u32 = 3, 0, 255;
        "net.ipv4.tcp_tw_reuse" tcp_tw_reuse: u32 = 2, 0, 2;
        "net.ipv4.tcp_tw_reuse_delay" tcp_tw_reuse_delay: u32 = 1000, 1, 60_000;
        "net.ipv4.tcp_window_scaling" tcp_window_scaling: u32 = 1, 0, 255;
        "net.ipv4.tcp_wmem" tcp_wmem: [u64; 3] = [4096, 16_384, 4_194_304], 1, INT;
        "net.ipv4.tcp_workaround_signed_windows" tcp_workaround_signed_windows: u32 = 0, 0, 255;
        "net.ipv4.udp_rmem_min" udp_rmem_min: u32 = 4096, 1, INT;
        "net.ipv4.udp_wmem_min" udp_wmem_min: u32 = 4096, 1, INT;
        "net.ipv6.anycast_src_echo_reply" anycast_src_echo_reply: u32 = 0, 0, 255;
        "net.ipv6.auto_flowlabels" auto_flowlabels: u32 = 1, 0, 3;
        "net.ipv6.bindv6only" bindv6only: u32 = 0, 0, 255;
        "net.ipv6.fib_multipath_hash_fields" fib_multipath_hash_fields6: u32 = 7, 1, 0xfff;
        "net.ipv6.fib_multipath_hash_policy" fib_multipath_hash_policy6: u32 = 0, 0, 3;
        "net.ipv6.flowlabel_consistency" flowlabel_consistency: u32 = 1, 0, 255;
        "net.ipv6.flowlabel_reflect" flowlabel_reflect: u32 = 0, 0, 7;
        "net.ipv6.flowlabel_state_ranges" flowlabel_state_ranges: u32 = 0, 0, 255;
        "net.ipv6.fwmark_reflect" fwmark_reflect6: u32 = 0, 0, 255;
        "net.ipv6.icmp.echo_ignore_all" icmp6_echo_ignore_all: u32 = 0, 0, 255;
        "net.ipv6.icmp.echo_ignore_anycast" icmp6_echo_ignore_anycast: u32 = 0, 0, 255;
        "net.ipv6.icmp.echo_ignore_multicast" icmp6_echo_ignore_multicast: u32 = 0, 0, 255;
        "net.ipv6.icmp.error_anycast_as_unicast" icmp6_error_anycast_as_unicast: u32 = 0, 0, 1;
        "net.ipv6.icmp.ratelimit" icmp6_ratelimit: Millis = Millis(100), 0, INT;
        "net.ipv6.icmp.ratemask" icmp6_ratemask: PortSet = PortSet(vec![(0, 1), (3, 127)]), 0, 255;
        "net.ipv6.idgen_delay" idgen_delay: Secs = Secs(1), LEAST, INT;
        "net.ipv6.idgen_retries" idgen_retries: i32 = 3, LEAST, INT;
        "net.ipv6.ip6frag_high_thresh" ip6frag_high_thresh: u64 = 4_194_304, 0, i64::MAX;
        "net.ipv6.ip6frag_low_thresh" ip6frag_low_thresh: u64 = 3_145_728, 0, i64::MAX;
        "net.ipv6.ip6frag_time" ip6frag_time: Secs = Secs(60), LEAST, INT;
        "net.ipv6.ip_nonlocal_bind" ip_nonlocal_bind6: u32 = 0, 0, 255;
        "net.ipv6.max_dst_opts_length" max_dst_opts_length: i32 = i32::MAX, LEAST, INT;
        "net.ipv6.max_dst_opts_number" max_dst_opts_number: i32 = 8, LEAST, INT;
        "net.ipv6.max_hbh_length" max_hbh_length: i32 = i32::MAX, LEAST, INT;
        "net.ipv6.max_hbh_opts_number" max_hbh_opts_number: i32 = 8, LEAST, INT;
        "net.ipv6.mld_max_msf" mld_max_msf: i32 = 64, LEAST, INT;
        "net.ipv6.mld_qrv" mld_qrv: u32 = 2, 1, INT;
        "net.ipv6.route.gc_timeout" rt6_gc_timeout: Secs = Secs(60), LEAST, INT;
        "net.ipv6.route.min_adv_mss" min_adv_mss6: i32 = 1220, LEAST, INT;
        "net.ipv6.route.mtu_expires" mtu_expires6: Secs = Secs(600), LEAST, INT;
        "net.ipv6.route.skip_notify_on_dev_down" skip_notify_on_dev_down: u32 = 0, 0, 1;
        "net.netfilter.nf_conntrack_acct" nf_conntrack_acct: u32 = 0, 0, 1;
        // Of the machine, whose table has no such size here; connections that are expected need helpers.
        "net.netfilter.nf_conntrack_buckets" nf_conntrack_buckets: Count = Count(262_144), 0, 0;
        "net.netfilter.nf_conntrack_checksum" nf_conntrack_checksum: u32 = 1, 0, 1;
        "net.netfilter.nf_conntrack_count" nf_conntrack_count: Count = Count(0), 0, 0;
        "net.netfilter.nf_conntrack_events" nf_conntrack_events: u32 = 2, 0, 2;
        "net.netfilter.nf_conntrack_expect_max" nf_conntrack_expect_max: Count = Count(4096), 0, 0;
        "net.netfilter.nf_conntrack_frag6_high_thresh" nf_conntrack_frag6_high_thresh: u64 = 4_194_304, 0, i64::MAX;
        "net.netfilter.nf_conntrack_frag6_low_thresh" nf_conntrack_frag6_low_thresh: u64 = 3_145_728, 0, i64::MAX;
        "net.netfilter.nf_conntrack_frag6_timeout" nf_conntrack_frag6_timeout: Secs = Secs(60), LEAST, INT;
        "net.netfilter.nf_conntrack_generic_timeout" nf_conntrack_generic_timeout: Secs = Secs(600), LEAST, INT;
        "net.netfilter.nf_conntrack_icmp_timeout" nf_conntrack_icmp_timeout: Secs = Secs(30), LEAST, INT;
        "net.netfilter.nf_conntrack_icmpv6_timeout" nf_conntrack_icmpv6_timeout: Secs = Secs(30), LEAST, INT;
        "net.netfilter.nf_conntrack_log_invalid" nf_conntrack_log_invalid: u32 = 0, 0, 255;
        "net.netfilter.nf_conntrack_tcp_be_liberal" nf_conntrack_tcp_be_liberal: u32 = 0, 0, 1;
        "net.netfilter.nf_conntrack_tcp_ignore_invalid_rst" nf_conntrack_tcp_ignore_invalid_rst: u32 = 0, 0, 1;
        "net.netfilter.nf_conntrack_tcp_loose" nf_conntrack_tcp_loose: u32 = 1, 0, 1;
        "net.netfilter.nf_conntrack_tcp_max_retrans" nf_conntrack_tcp_max_retrans: u32 = 3, 0, 255;
        "net.netfilter.nf_conntrack_tcp_timeout_close" nf_conntrack_tcp_timeout_close: Secs = Secs(10), LEAST, INT;
        "net.netfilter.nf_conntrack_tcp_timeout_close_wait" nf_conntrack_tcp_timeout_close_wait: Secs = Secs(60), LEAST, INT;
        "net.netfilter.nf_conntrack_tcp_timeout_established" nf_conntrack_tcp_timeout_established: Secs = Secs(432_000), LEAST, INT;
        "net.netfilter.nf_conntrack_tcp_timeout_fin_wait" nf_conntrack_tcp_timeout_fin_wait: Secs = Secs(120), LEAST, INT;
        "net.netfilter.nf_conntrack_tcp_timeout_last_ack" nf_conntrack_tcp_timeout_last_ack: Secs = Secs(30), LEAST, INT;
        "net.netfilter.nf_conntrack_tcp_timeout_max_retrans" nf_conntrack_tcp_timeout_max_retrans: Secs = Secs(300), LEAST, INT;
        "net.netfilter.nf_conntrack_tcp_timeout_syn_recv" nf_conntrack_tcp_timeout_syn_recv: Secs = Secs(60), LEAST, INT;
        "net.netfilter.nf_conntrack_tcp_timeout_syn_sent" nf_conntrack_tcp_timeout_syn_sent: Secs = Secs(120), LEAST, INT;
        "net.netfilter.nf_conntrack_tcp_timeout_time_wait" nf_conntrack_tcp_timeout_time_wait: Secs = Secs(120), LEAST, INT;
        "net.netfilter.nf_conntrack_tcp_timeout_unacknowledged" nf_conntrack_tcp_timeout_unacknowledged: Secs = Secs(300), LEAST, INT;
        "net.netfilter.nf_conntrack_timestamp" nf_conntrack_timestamp: u32 = 0, 0, 1;
        "net.netfilter.nf_conntrack_udp_timeout" nf_conntrack_udp_timeout: Secs = Secs(30), LEAST, INT;
        "net.netfilter.nf_conntrack_udp_timeout_stream" nf_conntrack_udp_timeout_stream: Secs = Secs(120), LEAST, INT;
        "net.netfilter.nf_log.0" nf_log_0: Logger = Logger::of(""), 0, 0;
        "net.netfilter.nf_log.1" nf_log_1: Logger = Logger::of(""), 0, 0;
        "net.netfilter.nf_log.2" nf_log_v4: Logger = Logger::of("nf_log_ipv4"), 0, 0;
        "net.netfilter.nf_log.3" nf_log_arp: Logger = Logger::of("nf_log_arp"), 0, 0;
        "net.netfilter.nf_log.4" nf_log_4: Logger = Logger::of(""), 0, 0;
        "net.netfilter.nf_log.5" nf_log_netdev: Logger = Logger::of("nf_log_netdev"), 0, 0;
        "net.netfilter.nf_log.6" nf_log_6: Logger = Logger::of(""), 0, 0;
        "net.netfilter.nf_log.7" nf_log_bridge: Logger = Logger::of("nf_log_bridge"), 0, 0;
        "net.netfilter.nf_log.8" nf_log_8: Logger = Logger::of(""), 0, 0;
        "net.netfilter.nf_log.9" nf_log_9: Logger = Logger::of(""), 0, 0;
        "net.netfilter.nf_log.10" nf_log_v6: Logger = Logger::of("nf_log_ipv6"), 0, 0;
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
        "net.core.message_burst" message_burst: i32 = 10, LEAST, INT;
        "net.core.message_cost" message_cost: Secs = Secs(5), LEAST, INT;
        "net.core.netdev_budget" netdev_budget: u32 = 300, 0, INT;
        "net.core.netdev_budget_usecs" netdev_budget_usecs: u32 = 8000, 0, INT;
        "net.core.netdev_max_backlog" netdev_max_backlog: u32 = 1000, 0, INT;
        "net.core.rps_sock_flow_entries" rps_sock_flow_entries: u32 = 0, 0, 1 << 29;
        "net.ipv4.neigh.default.gc_interval" neigh_gc_interval: u32 = 30, 0, INT;
        "net.ipv4.neigh.default.gc_thresh1" neigh_gc_thresh1: u32 = 128, 0, INT;
        "net.ipv4.neigh.default.gc_thresh2" neigh_gc_thresh2: u32 = 512, 0, INT;
        "net.ipv4.neigh.default.gc_thresh3" neigh_gc_thresh3: u32 = 1024, 0, INT;
        "net.ipv4.tcp_max_orphans" tcp_max_orphans: u32 = 131_072, 0, INT;
        "net.ipv4.tcp_mem" tcp_mem: [u64; 3] = [287_901, 383_869, 575_802], 0, INT;
        "net.ipv4.udp_mem" udp_mem: [u64; 3] = [575_802, 767_738, 1_151_604], 0, INT;
        "net.ipv6.neigh.default.gc_interval" neigh6_gc_interval: u32 = 30, 0, INT;
        "net.ipv6.neigh.default.gc_thresh1" neigh6_gc_thresh1: u32 = 128, 0, INT;
        "net.ipv6.neigh.default.gc_thresh2" neigh6_gc_thresh2: u32 = 512, 0, INT;
        "net.ipv6.neigh.default.gc_thresh3" neigh6_gc_thresh3: u32 = 1024, 0, INT;
        "net.netfilter.nf_conntrack_max" nf_conntrack_max: u32 = 262_144, 0, INT;
    }
}

sysctls! {
    /// Settings of one interface (`net.ipv6.conf.IF.*`), keys without that beginning.
    #[derive(Copy, PartialEq, Eq)]
    Conf6 {
        "accept_dad" accept_dad: i32 = 1, LEAST, INT;
        "accept_ra" accept_ra: i32 = 1, LEAST, INT;
        "accept_ra_defrtr" accept_ra_defrtr: i32 = 1, LEAST, INT;
        "accept_ra_from_local" accept_ra_from_local: i32 = 0, LEAST, INT;
        "accept_ra_min_hop_limit" accept_ra_min_hop_limit: i32 = 1, LEAST, INT;
        "accept_ra_min_lft" accept_ra_min_lft: i32 = 0, LEAST, INT;
        "accept_ra_mtu" accept_ra_mtu: i32 = 1, LEAST, INT;
        "accept_ra_pinfo" accept_ra_pinfo: i32 = 1, LEAST, INT;
        "accept_ra_rt_info_max_plen" accept_ra_rt_info_max_plen: i32 = 0, LEAST, INT;
        "accept_ra_rt_info_min_plen" accept_ra_rt_info_min_plen: i32 = 0, LEAST, INT;
        "accept_ra_rtr_pref" accept_ra_rtr_pref: i32 = 1, LEAST, INT;
        "accept_redirects" accept_redirects: i32 = 1, LEAST, INT;
        "accept_untracked_na" accept_untracked_na: u32 = 0, 0, 2;
        "addr_gen_mode" addr_gen_mode: u32 = 0, 0, 3;
        "autoconf" autoconf: i32 = 1, LEAST, INT;
        "dad_transmits" dad_transmits: i32 = 1, LEAST, INT;
        "disable_ipv6" disable_ipv6: i32 = 0, LEAST, INT;
        // Of IPsec, which there is none of here.
        "disable_policy" disable_policy: i32 = 0, LEAST, INT;
        "drop_unicast_in_l2_multicast" drop_unicast_in_l2_multicast: i32 = 0, LEAST, INT;
        "drop_unsolicited_na" drop_unsolicited_na: i32 = 0, LEAST, INT;
        "enhanced_dad" enhanced_dad: i32 = 1, LEAST, INT;
        "force_forwarding" force_forwarding: u32 = 0, 0, 1;
        "force_mld_version" force_mld_version: i32 = 0, LEAST, INT;
        "force_tllao" force_tllao: i32 = 0, LEAST, INT;
        "forwarding" forwarding: i32 = 0, LEAST, INT;
        "hop_limit" hop_limit: u32 = 64, 1, 255;
        "ignore_routes_with_linkdown" ignore_routes_with_linkdown: i32 = 0, LEAST, INT;
        "keep_addr_on_down" keep_addr_on_down: i32 = 0, LEAST, INT;
        "max_addresses" max_addresses: i32 = 16, LEAST, INT;
        "max_desync_factor" max_desync_factor: i32 = 600, LEAST, INT;
        // Told by multicast routing, which there is none of here.
        "mc_forwarding" mc_forwarding: Count = Count(0), 0, 0;
        "mldv1_unsolicited_report_interval" mldv1_unsolicited_report_interval: Millis = Millis(10_000), 0, INT;
        "mldv2_unsolicited_report_interval" mldv2_unsolicited_report_interval: Millis = Millis(1000), 0, INT;
        "mtu" mtu: u32 = 0, 1280, INT;
        "ndisc_evict_nocarrier" ndisc_evict_nocarrier: u32 = 1, 0, 1;
        "ndisc_notify" ndisc_notify: i32 = 0, LEAST, INT;
        "ndisc_tclass" ndisc_tclass: u32 = 0, 0, 255;
        "optimistic_dad" optimistic_dad: i32 = 0, LEAST, INT;
        "proxy_ndp" proxy_ndp: i32 = 0, LEAST, INT;
        "ra_defrtr_metric" ra_defrtr_metric: u32 = 1024, 1, UINT;
        "ra_honor_pio_life" ra_honor_pio_life: u32 = 0, 0, 1;
        "ra_honor_pio_pflag" ra_honor_pio_pflag: u32 = 0, 0, 1;
        "regen_max_retry" regen_max_retry: i32 = 3, LEAST, INT;
        "regen_min_advance" regen_min_advance: i32 = 2, LEAST, INT;
        "router_probe_interval" router_probe_interval: Secs = Secs(60), LEAST, INT;
        "router_solicitation_delay" router_solicitation_delay: Secs = Secs(1), LEAST, INT;
        "router_solicitation_interval" router_solicitation_interval: Secs = Secs(4), LEAST, INT;
        "router_solicitation_max_interval" router_solicitation_max_interval: Secs = Secs(3600), LEAST, INT;
        "router_solicitations" router_solicitations: i32 = -1, LEAST, INT;
        "stable_secret" stable_secret: Secret = Secret(None), 0, 0;
        "suppress_frag_ndisc" suppress_frag_ndisc: i32 = 1, LEAST, INT;
        "temp_prefered_lft" temp_prefered_lft: i32 = 86_400, LEAST, INT;
        "temp_valid_lft" temp_valid_lft: i32 = 604_800, LEAST, INT;
        "use_oif_addrs_only" use_oif_addrs_only: i32 = 0, LEAST, INT;
        "use_optimistic" use_optimistic: i32 = 0, LEAST, INT;
        "use_tempaddr" use_tempaddr: i32 = 0, LEAST, INT;
    }
}

impl Conf6 {
    /// As a new device gets those of `default`: with a secret, addresses are made by it.
    #[doc(alias = "ipv6_add_dev")]
    pub(in crate::net) fn of_device(self) -> Conf6 {
        let mode = if self.stable_secret.0.is_some() { GEN_MODE_STABLE_PRIVACY } else { self.addr_gen_mode };
        Conf6 { addr_gen_mode: mode, ..self }
    }

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

    /// `nf_log.N` of a family.
    #[doc(alias = "nf_log_bind_pf")]
    pub(in crate::net) fn logger_mut(&mut self, family: u8) -> Option<&mut Logger> {
        match i32::from(family) {
            0 => Some(&mut self.nf_log_0),
            AF_INET => Some(&mut self.nf_log_v4),
            AF_INET6 => Some(&mut self.nf_log_v6),
            7 => Some(&mut self.nf_log_bridge),
            _ => None,
        }
    }

    /// The most that a setting takes as others are now.
    fn limit(&self, key: &str) -> i64 {
        let most = match key {
            "net.ipv4.tcp_reordering" => return self.tcp_max_reordering.into(),
            "net.ipv4.ipfrag_low_thresh" => self.ipfrag_high_thresh,
            "net.ipv6.ip6frag_low_thresh" => self.ip6frag_high_thresh,
            "net.netfilter.nf_conntrack_frag6_low_thresh" => self.nf_conntrack_frag6_high_thresh,
            // The two ranges of ports may not overlap.
            "net.ipv4.ip_unprivileged_port_start" => return self.ip_local_port_range.lo.into(),
            _ => return i64::MAX,
        };
        most as i64
    }

    /// The least.
    fn least(&self, key: &str) -> i64 {
        let least = match key {
            "net.ipv4.ipfrag_high_thresh" => self.ipfrag_low_thresh,
            "net.ipv6.ip6frag_high_thresh" => self.ip6frag_low_thresh,
            "net.netfilter.nf_conntrack_frag6_high_thresh" => self.nf_conntrack_frag6_low_thresh,
            "net.ipv4.ip_local_port_range" => return self.ip_unprivileged_port_start.into(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_kept() {
        let mut s = Sysctl::default();
        assert_eq!(s.store("net.ipv4.tcp_syncookies", "256"), Err(Errno::EINVAL));
        assert_eq!(s.store("net.ipv4.tcp_reordering", "301"), Err(Errno::EINVAL));
        assert_eq!(s.store("net.ipv4.tcp_max_reordering", "1000"), Ok(()));
        assert_eq!(s.store("net.ipv4.tcp_reordering", "301"), Ok(()));
        // As proc_doulongvec_minmax does it: what is not written stays.
        s.store("net.ipv4.tcp_rmem", "1 2").unwrap();
        assert_eq!(s.show("net.ipv4.tcp_rmem").unwrap(), "1\t2\t33554432");
        s.store("net.ipv4.tcp_rmem", "4096 87380 6291456\n").unwrap();
        assert_eq!(s.show("net.ipv4.tcp_rmem").unwrap(), "4096\t87380\t6291456");
        s.store("net.ipv4.ip_local_reserved_ports", "9000-9010,80").unwrap();
        assert_eq!(s.show("net.ipv4.ip_local_reserved_ports").unwrap(), "80,9000-9010");
    }
}
