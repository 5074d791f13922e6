//! The socket error queue: `struct sock_extended_err` of IP_RECVERR, time stamps, the bits of SO_TIMESTAMPING.
use crate::SockAddr;

/// The signal of urgent data.
pub const SIGURG: i32 = 23;

// ee_origin
pub const SO_EE_ORIGIN_NONE: u8 = 0;
pub const SO_EE_ORIGIN_LOCAL: u8 = 1;
pub const SO_EE_ORIGIN_ICMP: u8 = 2;
pub const SO_EE_ORIGIN_ICMP6: u8 = 3;
pub const SO_EE_ORIGIN_TXSTATUS: u8 = 4;
pub const SO_EE_ORIGIN_TIMESTAMPING: u8 = 4;
pub const SO_EE_ORIGIN_ZEROCOPY: u8 = 5;
pub const SO_EE_ORIGIN_TXTIME: u8 = 6;
/// The extensions of an ICMP error (RFC 4884) are not what they should be.
pub const SO_EE_RFC4884_FLAG_INVALID: u8 = 1;
/// The kernel copied after all.
pub const SO_EE_CODE_ZEROCOPY_COPIED: u8 = 1;

// ee_info of a time stamp
pub const SCM_TSTAMP_SND: u32 = 0;
pub const SCM_TSTAMP_SCHED: u32 = 1;
pub const SCM_TSTAMP_ACK: u32 = 2;
pub const SCM_TSTAMP_COMPLETION: u32 = 3;

// SO_TIMESTAMPING
pub const SOF_TIMESTAMPING_TX_HARDWARE: u32 = 1;
pub const SOF_TIMESTAMPING_TX_SOFTWARE: u32 = 1 << 1;
pub const SOF_TIMESTAMPING_RX_HARDWARE: u32 = 1 << 2;
pub const SOF_TIMESTAMPING_RX_SOFTWARE: u32 = 1 << 3;
pub const SOF_TIMESTAMPING_SOFTWARE: u32 = 1 << 4;
pub const SOF_TIMESTAMPING_SYS_HARDWARE: u32 = 1 << 5;
pub const SOF_TIMESTAMPING_RAW_HARDWARE: u32 = 1 << 6;
pub const SOF_TIMESTAMPING_OPT_ID: u32 = 1 << 7;
pub const SOF_TIMESTAMPING_TX_SCHED: u32 = 1 << 8;
pub const SOF_TIMESTAMPING_TX_ACK: u32 = 1 << 9;
pub const SOF_TIMESTAMPING_OPT_CMSG: u32 = 1 << 10;
pub const SOF_TIMESTAMPING_OPT_TSONLY: u32 = 1 << 11;
pub const SOF_TIMESTAMPING_OPT_STATS: u32 = 1 << 12;
pub const SOF_TIMESTAMPING_OPT_PKTINFO: u32 = 1 << 13;
pub const SOF_TIMESTAMPING_OPT_TX_SWHW: u32 = 1 << 14;
pub const SOF_TIMESTAMPING_BIND_PHC: u32 = 1 << 15;
pub const SOF_TIMESTAMPING_OPT_ID_TCP: u32 = 1 << 16;
pub const SOF_TIMESTAMPING_OPT_RX_FILTER: u32 = 1 << 17;
pub const SOF_TIMESTAMPING_TX_COMPLETION: u32 = 1 << 18;
/// Every bit there is.
pub const SOF_TIMESTAMPING_MASK: u32 = (1 << 19) - 1;
/// Those that a control message may set for one call.
pub const SOF_TIMESTAMPING_TX_RECORD_MASK: u32 = SOF_TIMESTAMPING_TX_HARDWARE
    | SOF_TIMESTAMPING_TX_SOFTWARE
    | SOF_TIMESTAMPING_TX_SCHED
    | SOF_TIMESTAMPING_TX_ACK
    | SOF_TIMESTAMPING_TX_COMPLETION;

pub const SCM_TIMESTAMPING_OPT_STATS: i32 = 54;
pub const SCM_TIMESTAMPING_PKTINFO: i32 = 58;
pub const SCM_TS_OPT_ID: i32 = 81;

/// `struct sock_extended_err`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SockExtendedErr {
    pub errno: i32,
    pub origin: u8,
    pub kind: u8,
    pub code: u8,
    pub info: u32,
    pub data: u32,
}

impl SockExtendedErr {
    /// With the offender's address behind it, as IP_RECVERR carries it, or with `room` for one: zeros when nobody else was at
    /// fault.
    pub fn emit(&self, offender: Option<SockAddr>, room: usize) -> Vec<u8> {
        let mut b = self.errno.to_ne_bytes().to_vec();
        b.extend([self.origin, self.kind, self.code, 0]);
        b.extend(self.info.to_ne_bytes());
        b.extend(self.data.to_ne_bytes());
        if let Some(a) = offender {
            b.extend_from_slice(&a.emit());
        }
        b.resize(16 + room, 0);
        b
    }
}
