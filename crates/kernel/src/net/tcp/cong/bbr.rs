//! BBR, version 1 (draft-cardwell-iccrg-bbr-congestion-control-00): a model of the path, the largest delivery rate of ten
//! round trips and the smallest round trip of ten seconds, decides how fast to send and how much may be in flight.
//!
//! ```text
//!   STARTUP ──rate stops growing──> DRAIN ──queue gone──> PROBE_BW ⟲ 5/4, 3/4, 1 × 6
//!      └────────────────────── PROBE_RTT (200 ms at four segments, when no smaller round trip was seen) ──┘
//! ```
//!
//! With it go the detection of token-bucket policers (long-term bandwidth) and the allowance for aggregated
//! acknowledgements. It sees one [`Flow`] at a time, never the socket. Fixed point: rates are segments a microsecond
//! times 2^24, gains are in 256ths.
use super::TCP_INIT_CWND;
use crate::env::Rng;
use crate::net::tcp::rate::RateSample;
use crate::net::tcp::seq::before;
use crate::net::tcp::sock::CaState;

const BW_SCALE: u32 = 24;
const BW_UNIT: u64 = 1 << BW_SCALE;
const UNIT: u64 = 256;
/// 2/ln 2: doubles the delivery rate each round, and its inverse empties the queue that this built.
const HIGH_GAIN: u64 = UNIT * 2885 / 1000 + 1;
const DRAIN_GAIN: u64 = UNIT * 1000 / 2885;
const CWND_GAIN: u64 = UNIT * 2;
const CYCLE: [u64; 8] = [UNIT * 5 / 4, UNIT * 3 / 4, UNIT, UNIT, UNIT, UNIT, UNIT, UNIT];
/// The cycle begins anywhere but at 3/4.
const CYCLE_RAND: u32 = 7;
const BW_RTTS: u32 = CYCLE.len() as u32 + 2;
const MIN_RTT_WIN_US: u64 = 10_000_000;
const PROBE_RTT_US: u64 = 200_000;
const CWND_MIN_TARGET: u32 = 4;
/// The pipe is full when three rounds brought no growth by a quarter.
const FULL_BW_THRESH: u64 = UNIT * 5 / 4;
const FULL_BW_CNT: u8 = 3;
/// Paced this much below the estimate, so that queues drain.
const PACING_MARGIN_PERCENT: u64 = 1;
/// Below this rate, bytes a second, bursts are single segments.
const MIN_TSO_RATE: u64 = 1_200_000 / 8;
const LT_INTVL_MIN_RTTS: u32 = 4;
/// A fifth (50/256) of an interval lost: perhaps a policer.
const LT_LOSS_THRESH: u64 = 50;
const LT_BW_RATIO: u64 = UNIT / 8;
const LT_BW_DIFF: u64 = 4000 / 8;
const LT_BW_MAX_RTTS: u32 = 48;
const EXTRA_ACKED_WIN_RTTS: u8 = 5;
const ACK_EPOCH_RESET: u32 = 1 << 20;
const EXTRA_ACKED_MAX_US: u64 = 100_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Startup,
    Drain,
    ProbeBw,
    ProbeRtt,
}

/// The largest value of a window of rounds, kept as the best, second and third best (`lib/minmax`).
#[derive(Clone, Copy, Debug, Default)]
struct MaxFilter([(u32, u64); 3]);

impl MaxFilter {
    fn get(&self) -> u64 {
        self.0[0].1
    }

    fn reset(&mut self, t: u32, v: u64) {
        self.0 = [(t, v); 3];
    }

    fn update(&mut self, win: u32, t: u32, v: u64) {
        let s = &mut self.0;
        if v >= s[0].1 || t.wrapping_sub(s[2].0) > win {
            return self.reset(t, v);
        }
        if v >= s[1].1 {
            (s[2], s[1]) = ((t, v), (t, v));
        } else if v >= s[2].1 {
            s[2] = (t, v);
        }
        // The best is too old: its successors move up; or a part of the window went by without a second choice.
        let age = t.wrapping_sub(s[0].0);
        if age > win {
            (s[0], s[1], s[2]) = (s[1], s[2], (t, v));
            if t.wrapping_sub(s[0].0) > win {
                (s[0], s[1], s[2]) = (s[1], s[2], (t, v));
            }
        } else if s[1].0 == s[0].0 && age > win / 4 {
            (s[2], s[1]) = ((t, v), (t, v));
        } else if s[2].0 == s[1].0 && age > win / 2 {
            s[2] = (t, v);
        }
    }
}

/// The connection as the algorithm sees it at one event, and what it may change.
#[derive(Debug)]
pub struct Flow<'a> {
    pub cwnd: u32,
    pub cwnd_clamp: u32,
    pub ssthresh: u32,
    /// Bytes a second.
    pub pacing_rate: u64,
    pub max_pacing_rate: u64,
    /// See `Track::app_limited`.
    pub app_limited: u32,
    pub now_us: u64,
    /// How far ahead the next departure lies.
    pub edt_us: u64,
    pub mss: u32,
    pub delivered: u32,
    pub delivered_us: u64,
    pub lost: u32,
    pub in_flight: u32,
    /// Eightfold, 0 when unknown; and the smallest, `u32::MAX` when unknown.
    pub srtt_us: u32,
    pub min_rtt_us: u32,
    pub ca_state: CaState,
    pub rng: &'a mut Rng,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Bbr {
    mode: Mode,
    min_rtt_us: u32,
    min_rtt_stamp_us: u64,
    probe_rtt_done_us: u64,
    probe_rtt_round_done: bool,
    bw: MaxFilter,
    rtt_cnt: u32,
    next_rtt_delivered: u32,
    round_start: bool,
    cycle_us: u64,
    cycle_idx: u8,
    prev_ca_state: CaState,
    packet_conservation: bool,
    idle_restart: bool,
    has_seen_rtt: bool,
    pacing_gain: u64,
    cwnd_gain: u64,
    full_bw: u64,
    full_bw_cnt: u8,
    full_bw_reached: bool,
    prior_cwnd: u32,
    lt: LongTerm,
    ack_epoch_us: u64,
    ack_epoch_acked: u32,
    extra_acked: [u32; 2],
    extra_acked_win_rtts: u8,
    extra_acked_win_idx: u8,
}

/// The bandwidth of a policed path.
#[derive(Clone, Debug, Default)]
struct LongTerm {
    bw: u64,
    in_use: bool,
    sampling: bool,
    rtt_cnt: u32,
    last_ms: u32,
    last_delivered: u32,
    last_lost: u32,
}

/// Bytes a second for a rate and a gain.
fn bytes_per_sec(mss: u32, bw: u64, gain: u64) -> u64 {
    let r = (u128::from(bw) * u128::from(mss) * u128::from(gain)) >> 8;
    ((r * u128::from(1_000_000 / 100 * (100 - PACING_MARGIN_PERCENT))) >> BW_SCALE).min(u128::from(u64::MAX)) as u64
}

impl Bbr {
    /// The connection is established, or the algorithm was changed (`bbr_init`).
    pub fn new(f: &mut Flow<'_>) -> Bbr {
        f.ssthresh = super::TCP_INFINITE_SSTHRESH;
        let mut b = Bbr {
            next_rtt_delivered: f.delivered,
            min_rtt_us: f.min_rtt_us,
            min_rtt_stamp_us: f.now_us,
            pacing_gain: HIGH_GAIN,
            cwnd_gain: HIGH_GAIN,
            ack_epoch_us: f.now_us,
            ..Bbr::default()
        };
        b.init_pacing_rate(f);
        b.reset_lt_sampling(f);
        b
    }

    pub(in crate::net::tcp) fn min_tso_segs(pacing_rate: u64) -> u32 {
        if pacing_rate < MIN_TSO_RATE { 1 } else { 2 }
    }

    /// Bandwidth in bytes a second, smallest round trip, both gains: `struct tcp_bbr_info`.
    pub fn info(&self, mss: u32) -> (u64, u32, u32, u32) {
        let bw = (u128::from(self.bandwidth()) * u128::from(mss) * 1_000_000) >> BW_SCALE;
        (bw.min(u128::from(u64::MAX)) as u64, self.min_rtt_us, self.pacing_gain as u32, self.cwnd_gain as u32)
    }

    fn max_bw(&self) -> u64 {
        self.bw.get()
    }

    fn bandwidth(&self) -> u64 {
        if self.lt.in_use { self.lt.bw } else { self.max_bw() }
    }

    /// Before there are samples: the initial window per round trip, or per millisecond when not even that is known.
    fn init_pacing_rate(&mut self, f: &mut Flow<'_>) {
        let rtt_us = match f.srtt_us {
            0 => 1000,
            s => {
                self.has_seen_rtt = true;
                u64::from(s >> 3).max(1)
            }
        };
        let bw = u64::from(f.cwnd) * BW_UNIT / rtt_us;
        f.pacing_rate = bytes_per_sec(f.mss, bw, HIGH_GAIN).min(f.max_pacing_rate);
    }

    fn set_pacing_rate(&mut self, f: &mut Flow<'_>, bw: u64, gain: u64) {
        let rate = bytes_per_sec(f.mss, bw, gain).min(f.max_pacing_rate);
        if !self.has_seen_rtt && f.srtt_us != 0 {
            self.init_pacing_rate(f);
        }
        if self.full_bw_reached || rate > f.pacing_rate {
            f.pacing_rate = rate;
        }
    }

    /// Segments that a burst of a millisecond has.
    fn tso_segs_goal(f: &Flow<'_>) -> u32 {
        let bytes = (f.pacing_rate >> 10).min(u64::from(super::super::output::permit::GSO_MAX_PAYLOAD));
        ((bytes / u64::from(f.mss.max(1))) as u32).max(Self::min_tso_segs(f.pacing_rate)).min(0x7f)
    }

    fn save_cwnd(&mut self, cwnd: u32) {
        let fresh = self.prev_ca_state < CaState::Recovery && self.mode != Mode::ProbeRtt;
        self.prior_cwnd = if fresh { cwnd } else { self.prior_cwnd.max(cwnd) };
    }

    /// Sending resumes: after idling, no faster than the estimate, for what was in the network is gone.
    pub(in crate::net::tcp) fn tx_start(&mut self, f: &mut Flow<'_>) {
        if f.app_limited == 0 {
            return;
        }
        self.idle_restart = true;
        (self.ack_epoch_us, self.ack_epoch_acked) = (f.now_us, 0);
        match self.mode {
            Mode::ProbeBw => self.set_pacing_rate(f, self.bandwidth(), UNIT),
            Mode::ProbeRtt => self.check_probe_rtt_done(f),
            _ => {}
        }
    }

    /// Estimated bandwidth-delay product in segments.
    fn bdp(&self, bw: u64, gain: u64) -> u32 {
        if self.min_rtt_us == u32::MAX {
            return TCP_INIT_CWND;
        }
        let w = u128::from(bw) * u128::from(self.min_rtt_us);
        (((w * u128::from(gain)) >> 8).div_ceil(u128::from(BW_UNIT))).min(u128::from(u32::MAX >> 2)) as u32
    }

    /// Room for super-segments on both ends and for delayed acknowledgements.
    fn quantization_budget(&self, f: &Flow<'_>, cwnd: u32) -> u32 {
        let even = (cwnd + 3 * Self::tso_segs_goal(f) + 1) & !1;
        if self.mode == Mode::ProbeBw && self.cycle_idx == 0 { even + 2 } else { even }
    }

    fn inflight(&self, f: &Flow<'_>, bw: u64, gain: u64) -> u32 {
        self.quantization_budget(f, self.bdp(bw, gain))
    }

    /// What will be in the network when the next segment departs.
    fn in_net_at_edt(&self, f: &Flow<'_>, now: u32) -> u32 {
        let delivered = ((u128::from(self.bandwidth()) * u128::from(f.edt_us)) >> BW_SCALE).min(u128::from(u32::MAX));
        let more = if self.pacing_gain > UNIT { Self::tso_segs_goal(f) } else { 0 };
        (now + more).saturating_sub(delivered as u32)
    }

    fn ack_aggregation_cwnd(&self) -> u32 {
        if !self.full_bw_reached {
            return 0;
        }
        let most = (u128::from(self.bandwidth()) * u128::from(EXTRA_ACKED_MAX_US) / u128::from(BW_UNIT)) as u64;
        u64::from(self.extra_acked[0].max(self.extra_acked[1])).min(most) as u32
    }

    /// First round of a recovery: out only what came in; after it, back to the window before.
    fn recover_or_restore(&mut self, f: &Flow<'_>, rs: &RateSample) -> (u32, bool) {
        let (acked, state, prev) = (rs.acked_sacked, f.ca_state, self.prev_ca_state);
        let mut cwnd = if rs.losses > 0 { f.cwnd.saturating_sub(rs.losses).max(1) } else { f.cwnd };
        if state == CaState::Recovery && prev != CaState::Recovery {
            self.packet_conservation = true;
            self.next_rtt_delivered = f.delivered;
            cwnd = f.in_flight + acked;
        } else if prev >= CaState::Recovery && state < CaState::Recovery {
            cwnd = cwnd.max(self.prior_cwnd);
            self.packet_conservation = false;
        }
        self.prev_ca_state = state;
        if self.packet_conservation {
            return (cwnd.max(f.in_flight + acked), true);
        }
        (cwnd, false)
    }

    fn set_cwnd(&mut self, f: &mut Flow<'_>, rs: &RateSample, bw: u64, gain: u64) {
        let acked = rs.acked_sacked;
        let mut cwnd = f.cwnd;
        if acked > 0 {
            let (next, conserve) = self.recover_or_restore(f, rs);
            cwnd = next;
            if !conserve {
                let target = self.bdp(bw, gain).saturating_add(self.ack_aggregation_cwnd());
                let target = self.quantization_budget(f, target);
                if self.full_bw_reached {
                    cwnd = (cwnd + acked).min(target);
                } else if cwnd < target || f.delivered < TCP_INIT_CWND {
                    cwnd += acked;
                }
                cwnd = cwnd.max(CWND_MIN_TARGET);
            }
        }
        f.cwnd = cwnd.min(f.cwnd_clamp);
        if self.mode == Mode::ProbeRtt {
            f.cwnd = f.cwnd.min(CWND_MIN_TARGET);
        }
    }

    fn is_next_phase(&self, f: &Flow<'_>, rs: &RateSample) -> bool {
        let full_length = f.delivered_us.saturating_sub(self.cycle_us) > u64::from(self.min_rtt_us);
        if self.pacing_gain == UNIT {
            return full_length;
        }
        let inflight = self.in_net_at_edt(f, rs.prior_in_flight);
        let bw = self.max_bw();
        if self.pacing_gain > UNIT {
            // Until the pipe is really that full, or loss says that it cannot be.
            return full_length && (rs.losses > 0 || inflight >= self.inflight(f, bw, self.pacing_gain));
        }
        full_length || inflight <= self.inflight(f, bw, UNIT)
    }

    fn advance_phase(&mut self, f: &Flow<'_>) {
        self.cycle_idx = (self.cycle_idx + 1) % CYCLE.len() as u8;
        self.cycle_us = f.delivered_us;
    }

    fn reset_probe_bw(&mut self, f: &mut Flow<'_>) {
        self.mode = Mode::ProbeBw;
        self.cycle_idx = (CYCLE.len() as u32 - 1 - f.rng.below(CYCLE_RAND)) as u8;
        self.advance_phase(f);
    }

    fn reset_mode(&mut self, f: &mut Flow<'_>) {
        match self.full_bw_reached {
            false => self.mode = Mode::Startup,
            true => self.reset_probe_bw(f),
        }
    }

    fn reset_lt_interval(&mut self, f: &Flow<'_>) {
        self.lt.last_ms = (f.delivered_us / 1000) as u32;
        (self.lt.last_delivered, self.lt.last_lost, self.lt.rtt_cnt) = (f.delivered, f.lost, 0);
    }

    fn reset_lt_sampling(&mut self, f: &Flow<'_>) {
        self.lt = LongTerm::default();
        self.reset_lt_interval(f);
    }

    /// An interval with much loss ended: two of the same bandwidth in a row mean a policer.
    fn lt_interval_done(&mut self, f: &Flow<'_>, bw: u64) {
        if self.lt.bw != 0 {
            let diff = bw.abs_diff(self.lt.bw);
            if diff * UNIT <= LT_BW_RATIO * self.lt.bw || bytes_per_sec(f.mss, diff, UNIT) <= LT_BW_DIFF {
                self.lt.bw = (bw + self.lt.bw) >> 1;
                (self.lt.in_use, self.lt.rtt_cnt) = (true, 0);
                self.pacing_gain = UNIT;
                return;
            }
        }
        self.lt.bw = bw;
        self.reset_lt_interval(f);
    }

    fn lt_sampling(&mut self, f: &mut Flow<'_>, losses: u32, app_limited: bool) {
        if self.lt.in_use {
            if self.mode == Mode::ProbeBw && self.round_start {
                self.lt.rtt_cnt += 1;
                if self.lt.rtt_cnt >= LT_BW_MAX_RTTS {
                    self.reset_lt_sampling(f);
                    self.reset_probe_bw(f);
                }
            }
            return;
        }
        if !self.lt.sampling {
            // An interval begins and ends with a loss.
            if losses == 0 {
                return;
            }
            self.reset_lt_interval(f);
            self.lt.sampling = true;
        }
        if app_limited {
            return self.reset_lt_sampling(f);
        }
        self.lt.rtt_cnt += u32::from(self.round_start);
        if self.lt.rtt_cnt < LT_INTVL_MIN_RTTS {
            return;
        }
        if self.lt.rtt_cnt > 4 * LT_INTVL_MIN_RTTS {
            return self.reset_lt_sampling(f);
        }
        let lost = u64::from(f.lost.wrapping_sub(self.lt.last_lost));
        let delivered = u64::from(f.delivered.wrapping_sub(self.lt.last_delivered));
        if losses == 0 || delivered == 0 || lost << 8 < LT_LOSS_THRESH * delivered {
            return;
        }
        let ms = ((f.delivered_us / 1000) as u32).wrapping_sub(self.lt.last_ms);
        if (ms as i32) < 1 {
            return;
        }
        if ms >= u32::MAX / 1000 {
            return self.reset_lt_sampling(f);
        }
        self.lt_interval_done(f, delivered * BW_UNIT / (u64::from(ms) * 1000));
    }

    fn update_bw(&mut self, f: &mut Flow<'_>, rs: &RateSample) {
        self.round_start = false;
        if rs.delivered < 0 || rs.interval_us <= 0 {
            return;
        }
        if !before(rs.prior_delivered, self.next_rtt_delivered) {
            self.next_rtt_delivered = f.delivered;
            self.rtt_cnt = self.rtt_cnt.wrapping_add(1);
            self.round_start = true;
            self.packet_conservation = false;
        }
        self.lt_sampling(f, rs.losses, rs.is_app_limited);
        let bw = rs.delivered as u64 * BW_UNIT / rs.interval_us as u64;
        // A sample that the program held down says nothing, unless it beats what is known.
        if !rs.is_app_limited || bw >= self.max_bw() {
            self.bw.update(BW_RTTS, self.rtt_cnt, bw);
        }
    }

    /// How much more than expected is acknowledged at once, at most.
    fn update_ack_aggregation(&mut self, f: &Flow<'_>, rs: &RateSample) {
        if rs.acked_sacked == 0 || rs.delivered < 0 || rs.interval_us <= 0 {
            return;
        }
        if self.round_start {
            self.extra_acked_win_rtts = (self.extra_acked_win_rtts + 1).min(0x1f);
            if self.extra_acked_win_rtts >= EXTRA_ACKED_WIN_RTTS {
                self.extra_acked_win_rtts = 0;
                self.extra_acked_win_idx ^= 1;
                self.extra_acked[usize::from(self.extra_acked_win_idx & 1)] = 0;
            }
        }
        let epoch = f.delivered_us.saturating_sub(self.ack_epoch_us);
        let mut expected =
            (u128::from(self.bandwidth()) * u128::from(epoch) / u128::from(BW_UNIT)).min(u128::from(u32::MAX)) as u32;
        if self.ack_epoch_acked <= expected || self.ack_epoch_acked + rs.acked_sacked >= ACK_EPOCH_RESET {
            (self.ack_epoch_acked, self.ack_epoch_us, expected) = (0, f.delivered_us, 0);
        }
        self.ack_epoch_acked = (self.ack_epoch_acked + rs.acked_sacked).min(0xf_ffff);
        let extra = (self.ack_epoch_acked - expected.min(self.ack_epoch_acked)).min(f.cwnd);
        let slot = &mut self.extra_acked[usize::from(self.extra_acked_win_idx & 1)];
        *slot = (*slot).max(extra);
    }

    fn check_full_bw(&mut self, rs: &RateSample) {
        if self.full_bw_reached || !self.round_start || rs.is_app_limited {
            return;
        }
        if self.max_bw() >= ((u128::from(self.full_bw) * u128::from(FULL_BW_THRESH)) >> 8) as u64 {
            (self.full_bw, self.full_bw_cnt) = (self.max_bw(), 0);
            return;
        }
        self.full_bw_cnt += 1;
        self.full_bw_reached = self.full_bw_cnt >= FULL_BW_CNT;
    }

    fn check_drain(&mut self, f: &mut Flow<'_>) {
        if self.mode == Mode::Startup && self.full_bw_reached {
            self.mode = Mode::Drain;
            f.ssthresh = self.inflight(f, self.max_bw(), UNIT);
        }
        if self.mode == Mode::Drain && self.in_net_at_edt(f, f.in_flight) <= self.inflight(f, self.max_bw(), UNIT) {
            self.reset_probe_bw(f);
        }
    }

    fn check_probe_rtt_done(&mut self, f: &mut Flow<'_>) {
        if self.probe_rtt_done_us == 0 || f.now_us <= self.probe_rtt_done_us {
            return;
        }
        self.min_rtt_stamp_us = f.now_us;
        f.cwnd = f.cwnd.max(self.prior_cwnd);
        self.reset_mode(f);
    }

    fn update_min_rtt(&mut self, f: &mut Flow<'_>, rs: &RateSample) {
        let expired = f.now_us > self.min_rtt_stamp_us + MIN_RTT_WIN_US;
        if rs.rtt_us >= 0 && (rs.rtt_us < i64::from(self.min_rtt_us) || (expired && !rs.is_ack_delayed)) {
            self.min_rtt_us = rs.rtt_us as u32;
            self.min_rtt_stamp_us = f.now_us;
        }
        if expired && !self.idle_restart && self.mode != Mode::ProbeRtt {
            self.mode = Mode::ProbeRtt;
            self.save_cwnd(f.cwnd);
            self.probe_rtt_done_us = 0;
        }
        if self.mode == Mode::ProbeRtt {
            // Low on purpose: no sample of this time counts.
            f.app_limited = f.delivered.wrapping_add(f.in_flight).max(1);
            if self.probe_rtt_done_us == 0 && f.in_flight <= CWND_MIN_TARGET {
                self.probe_rtt_done_us = f.now_us + PROBE_RTT_US;
                self.probe_rtt_round_done = false;
                self.next_rtt_delivered = f.delivered;
            } else if self.probe_rtt_done_us != 0 {
                self.probe_rtt_round_done |= self.round_start;
                if self.probe_rtt_round_done {
                    self.check_probe_rtt_done(f);
                }
            }
        }
        if rs.delivered > 0 {
            self.idle_restart = false;
        }
    }

    fn update_gains(&mut self) {
        (self.pacing_gain, self.cwnd_gain) = match self.mode {
            Mode::Startup => (HIGH_GAIN, HIGH_GAIN),
            Mode::Drain => (DRAIN_GAIN, HIGH_GAIN),
            Mode::ProbeBw if self.lt.in_use => (UNIT, CWND_GAIN),
            Mode::ProbeBw => (CYCLE[usize::from(self.cycle_idx) % CYCLE.len()], CWND_GAIN),
            Mode::ProbeRtt => (UNIT, UNIT),
        };
    }

    /// An acknowledgement was digested (`bbr_main`).
    #[doc(alias = "bbr_main")]
    pub(in crate::net::tcp) fn cong_control(&mut self, f: &mut Flow<'_>, rs: &RateSample) {
        self.update_bw(f, rs);
        self.update_ack_aggregation(f, rs);
        if self.mode == Mode::ProbeBw && self.is_next_phase(f, rs) {
            self.advance_phase(f);
        }
        self.check_full_bw(rs);
        self.check_drain(f);
        self.update_min_rtt(f, rs);
        self.update_gains();
        let bw = self.bandwidth();
        self.set_pacing_rate(f, bw, self.pacing_gain);
        self.set_cwnd(f, rs, bw, self.cwnd_gain);
    }

    /// Loss alone does not lower the threshold; the window before it is remembered.
    pub(in crate::net::tcp) fn ssthresh(&mut self, cwnd: u32) {
        self.save_cwnd(cwnd);
    }

    /// A false alarm: what was learnt in it about a full pipe or a policer is void.
    pub(in crate::net::tcp) fn undo(&mut self, f: &Flow<'_>) {
        (self.full_bw, self.full_bw_cnt) = (0, 0);
        self.reset_lt_sampling(f);
    }

    /// A retransmission timeout: a round begins, and it is one with loss.
    pub(in crate::net::tcp) fn on_loss(&mut self, f: &mut Flow<'_>) {
        self.prev_ca_state = CaState::Loss;
        self.full_bw = 0;
        self.round_start = true;
        self.lt_sampling(f, 1, false);
    }
}
