//! Traffic control by netlink: message types, attributes and fixed parts of queueing disciplines, classes and filters.
use crate::netlink::u32_at;
pub use crate::rtnetlink::{RTM_GETTCLASS, RTM_GETTFILTER};

pub const RTM_NEWTCLASS: u16 = 40;
pub const RTM_DELTCLASS: u16 = 41;
pub const RTM_NEWTFILTER: u16 = 44;
pub const RTM_DELTFILTER: u16 = 45;
pub const RTM_NEWACTION: u16 = 48;
pub const RTM_DELACTION: u16 = 49;
pub const RTM_GETACTION: u16 = 50;
pub const RTMGRP_TC: u32 = 8;

pub const TCA_KIND: u16 = 1;
pub const TCA_OPTIONS: u16 = 2;
pub const TCA_STATS: u16 = 3;
pub const TCA_XSTATS: u16 = 4;
pub const TCA_RATE: u16 = 5;
pub const TCA_STATS2: u16 = 7;
pub const TCA_STAB: u16 = 8;
pub const TCA_DUMP_INVISIBLE: u16 = 10;
pub const TCA_CHAIN: u16 = 11;
pub const TCA_HW_OFFLOAD: u16 = 12;
pub const TCA_INGRESS_BLOCK: u16 = 13;
pub const TCA_EGRESS_BLOCK: u16 = 14;

pub const TCA_STATS_BASIC: u16 = 1;
pub const TCA_STATS_QUEUE: u16 = 3;
pub const TCA_STATS_APP: u16 = 4;
pub const TCA_STATS_PKT64: u16 = 8;

pub const TC_H_UNSPEC: u32 = 0;
pub const TC_H_ROOT: u32 = 0xffff_ffff;
pub const TC_H_INGRESS: u32 = 0xffff_fff1;
pub const TC_H_MAJ_MASK: u32 = 0xffff_0000;
pub const TC_H_MIN_MASK: u32 = 0x0000_ffff;
pub const TC_H_MIN_INGRESS: u32 = 0xfff2;
pub const TC_H_MIN_EGRESS: u32 = 0xfff3;

pub const TCA_TBF_PARMS: u16 = 1;
pub const TCA_TBF_RTAB: u16 = 2;
pub const TCA_TBF_PTAB: u16 = 3;
pub const TCA_TBF_RATE64: u16 = 4;
pub const TCA_TBF_PRATE64: u16 = 5;
pub const TCA_TBF_BURST: u16 = 6;
pub const TCA_TBF_PBURST: u16 = 7;

pub const TCA_NETEM_CORR: u16 = 1;
pub const TCA_NETEM_DELAY_DIST: u16 = 2;
pub const TCA_NETEM_REORDER: u16 = 3;
pub const TCA_NETEM_CORRUPT: u16 = 4;
pub const TCA_NETEM_LOSS: u16 = 5;
pub const TCA_NETEM_RATE: u16 = 6;
pub const TCA_NETEM_ECN: u16 = 7;
pub const TCA_NETEM_RATE64: u16 = 8;
pub const TCA_NETEM_LATENCY64: u16 = 10;
pub const TCA_NETEM_JITTER64: u16 = 11;
pub const TCA_NETEM_SLOT: u16 = 12;
pub const TCA_NETEM_SLOT_DIST: u16 = 13;
pub const TCA_NETEM_PRNG_SEED: u16 = 14;
pub const NETEM_LOSS_GI: u16 = 1;
pub const NETEM_LOSS_GE: u16 = 2;

pub const TCA_FQ_PLIMIT: u16 = 1;
pub const TCA_FQ_FLOW_PLIMIT: u16 = 2;
pub const TCA_FQ_QUANTUM: u16 = 3;
pub const TCA_FQ_INITIAL_QUANTUM: u16 = 4;
pub const TCA_FQ_RATE_ENABLE: u16 = 5;
pub const TCA_FQ_FLOW_DEFAULT_RATE: u16 = 6;
pub const TCA_FQ_FLOW_MAX_RATE: u16 = 7;
pub const TCA_FQ_BUCKETS_LOG: u16 = 8;
pub const TCA_FQ_FLOW_REFILL_DELAY: u16 = 9;
pub const TCA_FQ_ORPHAN_MASK: u16 = 10;
pub const TCA_FQ_LOW_RATE_THRESHOLD: u16 = 11;
pub const TCA_FQ_CE_THRESHOLD: u16 = 12;
pub const TCA_FQ_TIMER_SLACK: u16 = 13;
pub const TCA_FQ_HORIZON: u16 = 14;
pub const TCA_FQ_HORIZON_DROP: u16 = 15;
pub const TCA_FQ_PRIOMAP: u16 = 16;
pub const TCA_FQ_WEIGHTS: u16 = 17;
pub const TCA_FQ_OFFLOAD_HORIZON: u16 = 18;

pub const TCA_FQ_CODEL_TARGET: u16 = 1;
pub const TCA_FQ_CODEL_LIMIT: u16 = 2;
pub const TCA_FQ_CODEL_INTERVAL: u16 = 3;
pub const TCA_FQ_CODEL_ECN: u16 = 4;
pub const TCA_FQ_CODEL_FLOWS: u16 = 5;
pub const TCA_FQ_CODEL_QUANTUM: u16 = 6;
pub const TCA_FQ_CODEL_CE_THRESHOLD: u16 = 7;
pub const TCA_FQ_CODEL_DROP_BATCH_SIZE: u16 = 8;
pub const TCA_FQ_CODEL_MEMORY_LIMIT: u16 = 9;
pub const TCA_FQ_CODEL_CE_THRESHOLD_SELECTOR: u16 = 10;
pub const TCA_FQ_CODEL_CE_THRESHOLD_MASK: u16 = 11;

pub const TCA_HTB_PARMS: u16 = 1;
pub const TCA_HTB_INIT: u16 = 2;
pub const TCA_HTB_CTAB: u16 = 3;
pub const TCA_HTB_RTAB: u16 = 4;
pub const TCA_HTB_DIRECT_QLEN: u16 = 5;
pub const TCA_HTB_RATE64: u16 = 6;
pub const TCA_HTB_CEIL64: u16 = 7;
pub const TCA_HTB_OFFLOAD: u16 = 9;

pub const TCA_MATCHALL_CLASSID: u16 = 1;
pub const TCA_MATCHALL_ACT: u16 = 2;
pub const TCA_MATCHALL_FLAGS: u16 = 3;
pub const TCA_MATCHALL_PCNT: u16 = 4;

/// Flags of filters: not in hardware, not in software; more is said of errors; no hardware has it.
pub const TCA_CLS_FLAGS_SKIP_HW: u32 = 1;
pub const TCA_CLS_FLAGS_SKIP_SW: u32 = 2;
pub const TCA_CLS_FLAGS_NOT_IN_HW: u32 = 8;
pub const TCA_CLS_FLAGS_VERBOSE: u32 = 16;

pub const TCA_FW_CLASSID: u16 = 1;
pub const TCA_FW_POLICE: u16 = 2;
pub const TCA_FW_INDEV: u16 = 3;
pub const TCA_FW_ACT: u16 = 4;
pub const TCA_FW_MASK: u16 = 5;

pub const TCA_U32_CLASSID: u16 = 1;
pub const TCA_U32_HASH: u16 = 2;
pub const TCA_U32_LINK: u16 = 3;
pub const TCA_U32_DIVISOR: u16 = 4;
pub const TCA_U32_SEL: u16 = 5;
pub const TCA_U32_POLICE: u16 = 6;
pub const TCA_U32_ACT: u16 = 7;
pub const TCA_U32_INDEV: u16 = 8;
pub const TCA_U32_MARK: u16 = 10;
pub const TCA_U32_FLAGS: u16 = 11;

/// A match of this filter ends the search (`tc_u32_sel.flags`).
pub const TC_U32_TERMINAL: u8 = 1;

/// What an action says of a packet, and a filter with it.
pub const TC_ACT_UNSPEC: i32 = -1;
pub const TC_ACT_OK: i32 = 0;
pub const TC_ACT_RECLASSIFY: i32 = 1;
pub const TC_ACT_SHOT: i32 = 2;
pub const TC_ACT_PIPE: i32 = 3;
pub const TC_ACT_STOLEN: i32 = 4;
pub const TC_ACT_QUEUED: i32 = 5;
pub const TC_ACT_REPEAT: i32 = 6;
pub const TC_ACT_TRAP: i32 = 8;
/// Codes with a number in their lower bits.
pub const TC_ACT_JUMP: i32 = 1 << 28;
pub const TC_ACT_GOTO_CHAIN: i32 = 2 << 28;
pub const TC_ACT_EXT_VAL_MASK: i32 = (1 << 28) - 1;

/// Actions that a filter has at most.
pub const TCA_ACT_MAX_PRIO: usize = 32;
pub const TC_COOKIE_MAX_SIZE: usize = 16;

pub const TCA_ACT_KIND: u16 = 1;
pub const TCA_ACT_OPTIONS: u16 = 2;
pub const TCA_ACT_INDEX: u16 = 3;
pub const TCA_ACT_STATS: u16 = 4;
pub const TCA_ACT_COOKIE: u16 = 6;
pub const TCA_ACT_FLAGS: u16 = 7;
pub const TCA_ACT_HW_STATS: u16 = 8;
pub const TCA_ACT_USED_HW_STATS: u16 = 9;
pub const TCA_ACT_IN_HW_COUNT: u16 = 10;
pub const TCA_STATS_BASIC_HW: u16 = 7;

pub const TCA_GACT_TM: u16 = 1;
pub const TCA_GACT_PARMS: u16 = 2;
pub const TCA_GACT_PROB: u16 = 3;

pub const TCA_MIRRED_TM: u16 = 1;
pub const TCA_MIRRED_PARMS: u16 = 2;
pub const TCA_EGRESS_REDIR: u32 = 1;
pub const TCA_EGRESS_MIRROR: u32 = 2;
pub const TCA_INGRESS_REDIR: u32 = 3;
pub const TCA_INGRESS_MIRROR: u32 = 4;

pub const TCA_POLICE_TBF: u16 = 1;
pub const TCA_POLICE_RATE: u16 = 2;
pub const TCA_POLICE_PEAKRATE: u16 = 3;
pub const TCA_POLICE_AVRATE: u16 = 4;
pub const TCA_POLICE_RESULT: u16 = 5;
pub const TCA_POLICE_TM: u16 = 6;
pub const TCA_POLICE_RATE64: u16 = 8;
pub const TCA_POLICE_PEAKRATE64: u16 = 9;
pub const TCA_POLICE_PKTRATE64: u16 = 10;
pub const TCA_POLICE_PKTBURST64: u16 = 11;

/// Nanoseconds of a scheduler tick are 1 << 6: what `/proc/net/psched` says.
pub const PSCHED_SHIFT: u32 = 6;

/// `struct tcmsg`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcMsg {
    pub ifindex: u32,
    pub handle: u32,
    pub parent: u32,
    pub info: u32,
}

impl TcMsg {
    pub const LEN: usize = 20;

    pub fn parse(b: &[u8]) -> Option<TcMsg> {
        Some(TcMsg { ifindex: u32_at(b, 4)?, handle: u32_at(b, 8)?, parent: u32_at(b, 12)?, info: u32_at(b, 16)? })
    }

    pub fn to_bytes(self) -> [u8; 20] {
        let mut b = [0; 20];
        for (at, v) in [(4, self.ifindex), (8, self.handle), (12, self.parent), (16, self.info)] {
            b[at..at + 4].copy_from_slice(&v.to_ne_bytes());
        }
        b
    }
}

/// `struct tc_ratespec`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateSpec {
    pub cell_log: u8,
    pub linklayer: u8,
    pub overhead: u16,
    pub cell_align: i16,
    pub mpu: u16,
    pub rate: u32,
}

impl RateSpec {
    pub const LEN: usize = 12;

    pub fn parse(b: &[u8]) -> Option<RateSpec> {
        let b = b.first_chunk::<12>()?;
        let half = |at: usize| u16::from_ne_bytes([b[at], b[at + 1]]);
        Some(RateSpec {
            cell_log: b[0],
            linklayer: b[1],
            overhead: half(2),
            cell_align: half(4) as i16,
            mpu: half(6),
            rate: u32_at(b, 8)?,
        })
    }

    pub fn to_bytes(self) -> [u8; 12] {
        let mut b = [0; 12];
        (b[0], b[1]) = (self.cell_log, self.linklayer);
        b[2..4].copy_from_slice(&self.overhead.to_ne_bytes());
        b[4..6].copy_from_slice(&self.cell_align.to_ne_bytes());
        b[6..8].copy_from_slice(&self.mpu.to_ne_bytes());
        b[8..].copy_from_slice(&self.rate.to_ne_bytes());
        b
    }
}

/// A handle as `tc` writes it: `1:`, `8001:`, `1:10`.
pub fn handle_text(h: u32) -> String {
    match (h, h >> 16, h & TC_H_MIN_MASK) {
        (TC_H_ROOT, ..) => "root".into(),
        (TC_H_UNSPEC, ..) => "none".into(),
        (_, 0, minor) => format!(":{minor:x}"),
        (_, major, 0) => format!("{major:x}:"),
        (_, major, minor) => format!("{major:x}:{minor:x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_parts_go_round() {
        let t = TcMsg { ifindex: 2, handle: 0x1_0000, parent: TC_H_ROOT, info: 2 };
        assert_eq!(TcMsg::parse(&t.to_bytes()), Some(t));
        assert_eq!(TcMsg::parse(&[0; 19]), None);
        let r = RateSpec { cell_log: 3, linklayer: 1, overhead: 4, cell_align: -1, mpu: 64, rate: 125_000 };
        assert_eq!(RateSpec::parse(&r.to_bytes()), Some(r));
    }

    #[test]
    fn handles_as_text() {
        let all = [0, TC_H_ROOT, 0x1_0000, 0x8001_0000, 0x1_0010, 0x10].map(handle_text);
        assert_eq!(all, ["none", "root", "1:", "8001:", "1:10", ":10"]);
    }
}
