//! The data of a TCP socket and its constructors; no behaviour. Groups are borrowed one by one by the leaf code
//! (`snd`, `rcv`, `rtt`, `cong`).
//!
//! ```text
//!   send:     una            nxt          write_seq          una+wnd
//!             |--- in flight --|-- unsent ---|                  |
//!   receive:  copied_seq   nxt        wup+wnd
//!             |-- readable --|--- window ---|      (out-of-order data lies in it)
//! ```
use crate::env::{Jiffies, TimerSlot};
use crate::ids::*;
use crate::net::core::skb::Skb;
use crate::net::core::sock::Sock;
use crate::net::ipv4::route::Dst;
use crate::net::tcp::cong::Cong;
pub use crate::net::tcp::handshake::fastopen::{FastOpenRequest, Tfo};
use crate::net::tcp::handshake::request::RequestSock;
use crate::net::tcp::md5sig::Md5Key;
use crate::net::tcp::mtup::Mtup;
pub use crate::net::tcp::ooo::Ooo;
use crate::net::tcp::state::State;
use crate::net::tcp::track::Track;
pub use crate::net::tcp::tx_seg::*;
use crate::net::tcp::urgent::Urg;
use std::collections::VecDeque;

/// The sending half.
#[derive(Clone, Debug, Default)]
pub struct Snd {
    pub una: u32,
    pub nxt: u32,
    /// End of what the program wrote (plus the FIN once queued).
    pub write_seq: u32,
    pub wnd: u32,
    /// Sequence number of the segment that last updated `wnd`.
    pub wl1: u32,
    pub max_window: u32,
    /// End of the last small segment sent (Minshall's form of Nagle).
    pub sml: u32,
    pub pushed_seq: u32,
    pub wscale: u8,
    /// What fits a wire segment after options, and the path MTU it was computed for.
    pub mss_cache: u16,
    pub pmtu: u32,
    /// What the peer announced (`mss_clamp`), and TCP_MAXSEG (`user_mss`).
    pub mss_clamp: u16,
    pub user_mss: u16,
    /// In order of sequence; the first `sent` entries are in flight.
    pub queue: VecDeque<TxSeg>,
    pub sent: usize,
    /// Wire segments in flight, SACKed, thought lost, sent again and not yet heard of.
    pub packets_out: u32,
    pub sacked_out: u32,
    pub lost_out: u32,
    pub retrans_out: u32,
    /// A send hit the full buffer: tell when a third is free (`SOCK_NOSPACE`).
    pub nospace: bool,
    /// Zero-window probes and other unanswered probes sent (`icsk_probes_out`).
    pub probes_out: u8,
    /// When the last data was sent (`lsndtime`), microseconds.
    pub last_us: u64,
}

/// The receiving half.
#[derive(Clone, Debug, Default)]
pub struct Rcv {
    pub nxt: u32,
    pub copied_seq: u32,
    /// `nxt` when the window was last announced.
    pub wup: u32,
    pub wnd: u32,
    pub window_clamp: u32,
    /// Slow start of the window we offer.
    pub ssthresh: u32,
    pub wscale: u8,
    /// MSS we announced.
    pub advmss: u16,
    /// Guess of the peer's segment size, for delayed ACKs (`rcv_mss`).
    pub mss: u16,
    /// In order, not yet read.
    pub queue: VecDeque<Skb>,
    /// Out of order, sorted, not overlapping.
    pub ooo: Ooo,
    /// Set when the FIN was received (`RCV_SHUTDOWN` goes with it): rows show one more in Recv-Q.
    pub fin: bool,
    pub ack: Ack,
    pub sack: SackBlocks,
    pub ts_recent: u32,
    /// Seconds since boot when `ts_recent` was taken.
    pub ts_recent_stamp: u32,
    /// Autotuning: bytes copied in the current round trip, its start, and the round trip measured here.
    pub space: u32,
    pub space_seq: u32,
    pub space_us: u64,
    pub rtt_us: u32,
    pub rtt_seq: u32,
    pub rtt_start_us: u64,
    /// Last echoed time stamp that was measured.
    pub rtt_tsecr: u32,
    /// Share of a buffer that is payload, in 256ths (`scaling_ratio`).
    pub scaling_ratio: u8,
}

/// Delayed and quick acknowledgements (`icsk_ack`).
#[derive(Clone, Debug, Default)]
pub struct Ack {
    /// `ICSK_ACK_*` below.
    pub pending: u8,
    /// Quick acknowledgements left.
    pub quick: u8,
    pub pingpong: u8,
    /// The last segment that was smaller than the guess, if it may be what the peer sends from now on.
    pub last_seg_size: u16,
    /// Delay estimate in milliseconds; 0 before the first segment.
    pub ato_ms: u16,
    /// When data last came, microseconds (`lrcvtime`).
    pub last_us: u64,
    /// When the peer last acknowledged anything (`rcv_tstamp`), microseconds.
    pub heard_us: u64,
    /// Out-of-window ACK rate limit (`last_oow_ack_time`), milliseconds.
    pub last_oow_ms: u32,
}

pub const ICSK_ACK_SCHED: u8 = 1;
pub const ICSK_ACK_TIMER: u8 = 2;
pub const ICSK_ACK_PUSHED: u8 = 4;
pub const ICSK_ACK_PUSHED2: u8 = 8;
pub const ICSK_ACK_NOW: u8 = 16;
/// Data found no room: the next acknowledgement closes the window.
pub const ICSK_ACK_NOMEM: u8 = 32;

/// What we tell the peer about out-of-order data: newest first (RFC 2018), a D-SACK before them (RFC 2883).
#[derive(Clone, Copy, Debug, Default)]
pub struct SackBlocks {
    pub blocks: [(u32, u32); 4],
    pub n: u8,
    pub dsack: Option<(u32, u32)>,
}

/// Round-trip time (RFC 6298 in the shape Linux gives it), microseconds.
#[derive(Clone, Debug, Default)]
pub struct Rtt {
    /// Eight times the smoothed value; 0 before the first sample.
    pub srtt_us: u32,
    pub mdev_us: u32,
    pub mdev_max_us: u32,
    pub rttvar_us: u32,
    pub rtt_seq: u32,
    pub rto_us: u32,
    pub backoff: u8,
    /// The smallest of the last tcp_min_rtt_wlen seconds, and when it was seen (`rtt_min`).
    pub min_us: u32,
    pub min_at: Jiffies,
}

/// What congestion control and loss recovery remember.
#[derive(Clone, Debug)]
pub struct Loss {
    pub ca_state: CaState,
    pub high_seq: u32,
    /// First byte for which an undo is possible, and unanswered retransmissions until then.
    pub undo_marker: u32,
    pub undo_retrans: i32,
    pub prior_ssthresh: u32,
    pub prior_cwnd: u32,
    pub prr_delivered: u32,
    pub prr_out: u32,
    /// F-RTO is testing whether the timeout was spurious.
    pub frto: bool,
    /// Consecutive timeouts, SYN retransmissions (`icsk_retransmits`).
    pub retransmits: u8,
    pub dupacks: u8,
    pub reordering: u32,
    pub reord_seen: u32,
    /// RACK: send time and end of the most recently sent segment known delivered.
    pub rack_us: u64,
    pub rack_end_seq: u32,
    pub rack_rtt_us: u32,
    pub rack_reo_wnd_steps: u8,
    pub rack_dsack_seen: bool,
    pub rack_advanced: bool,
    /// End of the tail loss probe in flight, 0 when none.
    pub tlp_high_seq: u32,
    pub tlp_retrans: bool,
    /// Time stamp (ours) of the first retransmission of the episode, for Eifel and for giving up.
    pub retrans_stamp_ms: u32,
    /// Segments that arrived at the peer, and that were taken for lost, over all time.
    pub delivered: u32,
    pub lost: u32,
    pub total_retrans: u32,
}

/// `TCP_CA_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum CaState {
    #[default]
    Open,
    Disorder,
    Cwr,
    Recovery,
    Loss,
}

/// What the one write timer stands for at the moment (`icsk_pending`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteTimer {
    #[default]
    None,
    Retrans,
    Probe0,
    LossProbe,
    /// RACK's reordering timer.
    ReoTimeout,
}

/// Options agreed in the handshake and set by the program, one bit each.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpFlags {
    pub tstamp_ok: bool,
    pub wscale_ok: bool,
    pub sack_ok: bool,
    /// Peer has sent D-SACK.
    pub dsack_seen: bool,
    pub nodelay: bool,
    pub cork: bool,
    pub quickack_off: bool,
    pub inq: bool,
    /// The connection was opened from a syncookie.
    pub from_cookie: bool,
    /// What ended the last run of `tcp_write_xmit`: the congestion window, the peer's.
    pub cwnd_limited: bool,
    pub rwnd_limited: bool,
    /// The peer threw SACKed data away in this episode.
    pub sack_reneg: bool,
    /// `TCP_ECN_*` of `input/ecn.rs`.
    pub ecn: u8,
    /// Departures are spread by a timer (`SK_PACING_NEEDED`): the congestion control or SO_MAX_PACING_RATE asked for it.
    pub pacing: bool,
    /// By fq, not by a timer of its own (`SK_PACING_FQ`); `pacing` is set as well.
    pub pacing_fq: bool,
    /// Our side began it (`connect`).
    pub active: bool,
    /// connect() began and its outcome was not told yet (`SS_CONNECTING`).
    pub connecting: bool,
    /// connect() or accept() told that it is connected (`SS_CONNECTED`); stays when the connection ends.
    pub connected: bool,
    /// Already in `NetNs` accounting as an orphan.
    pub orphan: bool,
    /// A write sleeps until the connection is made (`sk_write_pending`).
    pub write_pending: bool,
}

/// Per-socket values that few programs change; 0 means "the sysctl's".
#[derive(Clone, Debug, Default)]
pub struct TcpTune {
    pub keepalive_time_s: u32,
    pub keepalive_intvl_s: u32,
    pub keepalive_probes: u8,
    pub syn_retries: u8,
    pub linger2: i32,
    pub notsent_lowat: u32,
    pub window_clamp: u32,
    pub rto_max_ms: u32,
    pub rto_min_us: u32,
    pub delack_max_us: u32,
    pub defer_accept: u8,
    /// TCP_THIN_LINEAR_TIMEOUTS.
    pub thin_lto: bool,
}

/// What few connections have, each part `None` until it is needed.
#[derive(Clone, Debug, Default)]
pub struct Rare {
    /// The search for a larger segment (tcp_mtu_probing).
    pub mtup: Option<Mtup>,
    /// TCP_SAVE_SYN, and what it kept until TCP_SAVED_SYN asks for it.
    pub save_syn: u8,
    pub saved_syn: Option<Box<[u8]>>,
    /// Keys of peers; and whether the segment size allows for a signature, which that of an active open does not.
    pub md5: Vec<Md5Key>,
    pub md5_in_header: bool,
    /// Urgent data, from the first of it on.
    pub urg: Option<Urg>,
}

/// Counters that only TCP_INFO shows.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    pub bytes_acked: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub bytes_retrans: u64,
    pub segs_in: u32,
    pub segs_out: u32,
    pub data_segs_in: u32,
    pub data_segs_out: u32,
    pub dsack_dups: u32,
    pub rcv_ooopack: u32,
}

/// A listening socket's queues.
#[derive(Clone, Debug, Default)]
pub struct Listener {
    /// Limit of the accept queue after somaxconn; one more is admitted.
    pub max_ack_backlog: u32,
    /// What listen() asked for, and whether somebody was told of a flood of SYNs.
    pub backlog: u32,
    pub synflood_warned: bool,
    /// Established, waiting for accept, oldest first.
    pub accept: VecDeque<TcpId>,
    /// Requests stored (SYN_RECV), and those whose SYN-ACK was not sent again yet.
    pub qlen: u32,
    pub young: u32,
    /// Last time a cookie was sent (jiffies of overflow), for the check of cookie ACKs.
    pub synq_overflow_us: u64,
    pub defer_accept: u8,
    /// Fast Open connections whose handshake is not complete; and when those that a RST ended stop counting among them.
    pub fastopen_qlen: u32,
    pub fastopen_rst: VecDeque<u64>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct TcpSock {
    pub sk: Sock,
    pub state: State,
    pub flags: TcpFlags,
    pub snd: Snd,
    pub rcv: Rcv,
    pub rtt: Rtt,
    pub loss: Loss,
    pub cong: Cong,
    pub totals: Totals,
    pub track: Option<Box<Track>>,
    pub tune: Option<Box<TcpTune>>,
    pub listener: Option<Box<Listener>>,
    /// Fast Open: what was asked for, and how it goes.
    pub tfo: Option<Box<Tfo>>,
    pub rare: Option<Box<Rare>>,
    /// The listener in whose accept queue this connection waits.
    pub parent: Option<TcpId>,
    pub write_timer: TimerSlot,
    pub write_timer_kind: WriteTimer,
    pub delack_timer: TimerSlot,
    pub keepalive_timer: TimerSlot,
    /// Added to the clock in the time stamps we send.
    pub tsoffset: u32,
    pub dst: Option<Dst>,
    /// Where it stands in the hash of ports (`tables.rs`).
    pub bind: Option<crate::net::tcp::tables::BindRef>,
    /// Hash of its 4-tuple while it stands in ehash.
    pub ehash: Option<u32>,
    /// Flow hash of its packets.
    pub txhash: u32,
    /// Pages charged to the machine (`mem.rs`).
    pub mem_pages: u32,
}

impl TcpSock {
    /// A fresh socket, as `tcp_init_sock` leaves it.
    #[doc(alias = "tcp_init_sock")]
    pub fn new(mut sk: Sock, sysctl: &crate::net::sysctl::Sysctl) -> TcpSock {
        sk.rcvbuf = sysctl.tcp_rmem[1] as u32;
        sk.sndbuf = sysctl.tcp_wmem[1] as u32;
        TcpSock {
            sk,
            state: State::Close,
            flags: TcpFlags::default(),
            snd: Snd { mss_cache: 536, mss_clamp: u16::MAX, ..Snd::default() },
            rcv: Rcv { mss: 536, scaling_ratio: 128, ..Rcv::default() },
            rtt: Rtt { rto_us: TCP_TIMEOUT_INIT_US, mdev_us: TCP_TIMEOUT_INIT_US, min_us: u32::MAX, ..Rtt::default() },
            loss: Loss::new(sysctl.tcp_reordering),
            cong: Cong::new(sysctl.tcp_congestion_control),
            totals: Totals::default(),
            track: None,
            tune: None,
            listener: None,
            tfo: None,
            rare: None,
            parent: None,
            write_timer: TimerSlot::default(),
            write_timer_kind: WriteTimer::None,
            delack_timer: TimerSlot::default(),
            keepalive_timer: TimerSlot::default(),
            tsoffset: 0,
            dst: None,
            bind: None,
            ehash: None,
            txhash: 0,
            mem_pages: 0,
        }
    }

    pub fn track(&mut self) -> &mut Track {
        self.track.get_or_insert_default()
    }

    pub fn urg(&self) -> Option<&Urg> {
        self.rare.as_ref()?.urg.as_ref()
    }

    pub fn urg_mut(&mut self) -> Option<&mut Urg> {
        self.rare.as_mut()?.urg.as_mut()
    }

    pub fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub fn tfo(&mut self) -> &mut Tfo {
        self.tfo.get_or_insert_default()
    }

    /// The request whose SYN-ACK is not acknowledged yet, of a connection that Fast Open began (`fastopen_rsk`).
    pub fn fastopen_rsk(&self) -> Option<&RequestSock> {
        self.tfo.as_ref()?.rsk.as_deref()
    }

    pub fn tune(&mut self) -> &mut TcpTune {
        self.tune.get_or_insert_default()
    }

    /// Segments in the network (`tcp_packets_in_flight`, RFC 6675 *pipe*).
    pub fn in_flight(&self) -> u32 {
        let s = &self.snd;
        (s.packets_out + s.retrans_out).saturating_sub(s.sacked_out + s.lost_out)
    }

    /// What the window we announced still allows (`tcp_receive_window`).
    pub fn receive_window(&self) -> u32 {
        let left = self.rcv.wup.wrapping_add(self.rcv.wnd).wrapping_sub(self.rcv.nxt) as i32;
        left.max(0) as u32
    }

    /// End of what the peer allows us to send (`tcp_wnd_end`).
    pub fn wnd_end(&self) -> u32 {
        self.snd.una.wrapping_add(self.snd.wnd)
    }

    /// Bytes that can be read now.
    pub fn readable(&self) -> u32 {
        let fin = u32::from(self.rcv.fin);
        self.rcv.nxt.wrapping_sub(self.rcv.copied_seq).saturating_sub(fin)
    }

    pub fn has_unsent(&self) -> bool {
        self.snd.sent < self.snd.queue.len()
    }
}

/// Initial retransmission time: one second (RFC 6298 §2).
pub const TCP_TIMEOUT_INIT_US: u32 = 1_000_000;
/// Least time that a timer of loss detection runs, beside what it waits for.
pub const TCP_TIMEOUT_MIN_US: u32 = 2_000;
pub const TCP_DELACK_MIN_MS: u32 = 40;
pub const TCP_DELACK_MAX_MS: u32 = 200;
pub const TCP_MIN_MSS: u16 = 88;

impl Loss {
    pub fn new(reordering: u32) -> Loss {
        Loss {
            ca_state: CaState::Open,
            high_seq: 0,
            undo_marker: 0,
            undo_retrans: -1,
            prior_ssthresh: 0,
            prior_cwnd: 0,
            prr_delivered: 0,
            prr_out: 0,
            frto: false,
            retransmits: 0,
            dupacks: 0,
            reordering,
            reord_seen: 0,
            rack_us: 0,
            rack_end_seq: 0,
            rack_rtt_us: 0,
            rack_reo_wnd_steps: 1,
            rack_dsack_seen: false,
            rack_advanced: false,
            tlp_high_seq: 0,
            tlp_retrans: false,
            retrans_stamp_ms: 0,
            delivered: 0,
            lost: 0,
            total_retrans: 0,
        }
    }
}
