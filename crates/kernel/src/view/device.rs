//! Devices, addresses, routes, neighbours and the per-CPU packet processing, as `ip`, `netstat -i` and
//! `/proc/net/softnet_stat` see them.
use super::views;
use core::net::Ipv4Addr;

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

    /// Descriptor rings of a NIC: sizes and how much of them is in use.
    struct RingView { rx: u32, rx_used: u32, tx: u32, tx_used: u32, }

    struct LinkView {
        ifindex: u32,
        name: String,
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

    struct AddrView {
        ifindex: u32, dev: String, local: Ipv4Addr, prefixlen: u8, broadcast: Option<Ipv4Addr>, scope: String,
        label: String,
    }

    struct RouteView {
        /// `unicast`, `local`, `broadcast`, `multicast`, `blackhole`, ….
        kind: String,
        dst: Ipv4Addr,
        prefixlen: u8,
        gateway: Option<Ipv4Addr>,
        dev: String,
        /// `local`, `main`, `default` or a number.
        table: String,
        protocol: Option<String>,
        /// Absent when it is `global`.
        scope: Option<String>,
        prefsrc: Option<Ipv4Addr>,
        metric: Option<u32>,
        mtu: Option<u32>,
    }

    struct NeighView {
        dst: Ipv4Addr, dev: String, lladdr: Option<String>,
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
        cpu: usize, processed: u64, dropped: u64, time_squeeze: u64, received_rps: u64,
        backlog_len: u32, input_qlen: u32, process_qlen: u32,
        net_rx: u64, net_tx: u64, timer: u64,
    }
}
