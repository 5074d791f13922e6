//! [`TcpInfo`]: `struct tcp_info` as Linux 6.18 has it (280 bytes), and TCP's numbers: states, loss states, option bits.
//!
//! Times are microseconds unless they are `last_*` (milliseconds).

pub const TCP_ESTABLISHED: u8 = 1;
pub const TCP_SYN_SENT: u8 = 2;
pub const TCP_SYN_RECV: u8 = 3;
pub const TCP_FIN_WAIT1: u8 = 4;
pub const TCP_FIN_WAIT2: u8 = 5;
pub const TCP_TIME_WAIT: u8 = 6;
pub const TCP_CLOSE: u8 = 7;
pub const TCP_CLOSE_WAIT: u8 = 8;
pub const TCP_LAST_ACK: u8 = 9;
pub const TCP_LISTEN: u8 = 10;
pub const TCP_CLOSING: u8 = 11;
pub const TCP_NEW_SYN_RECV: u8 = 12;

pub const TCP_CA_OPEN: u8 = 0;
pub const TCP_CA_DISORDER: u8 = 1;
pub const TCP_CA_CWR: u8 = 2;
pub const TCP_CA_RECOVERY: u8 = 3;
pub const TCP_CA_LOSS: u8 = 4;

// Bits of `options`
pub const TCPI_OPT_TIMESTAMPS: u8 = 1;
pub const TCPI_OPT_SACK: u8 = 2;
pub const TCPI_OPT_WSCALE: u8 = 4;
pub const TCPI_OPT_ECN: u8 = 8;
pub const TCPI_OPT_ECN_SEEN: u8 = 16;
pub const TCPI_OPT_SYN_DATA: u8 = 32;
pub const TCPI_OPT_USEC_TS: u8 = 64;
pub const TCPI_OPT_TFO_CHILD: u8 = 128;

pub const TCP_INFO_LEN: usize = 280;

macro_rules! tcp_info {
    ($($off:literal $name:ident: $ty:ty;)*) => {
        /// Fields carry Linux's names without `tcpi_`.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct TcpInfo {
            /// Four bits.
            pub snd_wscale: u8,
            /// Four bits.
            pub rcv_wscale: u8,
            pub delivery_rate_app_limited: bool,
            /// Two bits.
            pub fastopen_client_fail: u8,
            $(pub $name: $ty,)*
        }

        impl TcpInfo {
            /// Every field of a whole number of bytes with its name, in order of the layout.
            pub fn fields(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), u64::from(self.$name)),)*]
            }

            /// Sets the field of this name; false when there is none or the value does not fit it.
            pub fn set_field(&mut self, name: &str, value: u64) -> bool {
                match name {
                    $(stringify!($name) => <$ty>::try_from(value).map(|v| self.$name = v).is_ok(),)*
                    _ => false,
                }
            }

            pub fn to_bytes(&self) -> [u8; TCP_INFO_LEN] {
                let mut b = [0; TCP_INFO_LEN];
                b[6] = self.snd_wscale & 15 | self.rcv_wscale << 4;
                b[7] = self.delivery_rate_app_limited as u8 | (self.fastopen_client_fail & 3) << 1;
                $(b[$off..$off + size_of::<$ty>()].copy_from_slice(&self.$name.to_ne_bytes());)*
                b
            }

            /// From as many bytes as a kernel gave; what is missing is 0.
            pub fn parse(bytes: &[u8]) -> TcpInfo {
                let mut b = [0; TCP_INFO_LEN];
                let n = bytes.len().min(TCP_INFO_LEN);
                b[..n].copy_from_slice(&bytes[..n]);
                TcpInfo {
                    snd_wscale: b[6] & 15,
                    rcv_wscale: b[6] >> 4,
                    delivery_rate_app_limited: b[7] & 1 == 1,
                    fastopen_client_fail: b[7] >> 1 & 3,
                    $($name: {
                        let mut v = [0; size_of::<$ty>()];
                        v.copy_from_slice(&b[$off..$off + size_of::<$ty>()]);
                        <$ty>::from_ne_bytes(v)
                    },)*
                }
            }
        }
    };
}

tcp_info! {
    0 state: u8;
    1 ca_state: u8;
    2 retransmits: u8;
    3 probes: u8;
    4 backoff: u8;
    5 options: u8;
    8 rto: u32;
    12 ato: u32;
    16 snd_mss: u32;
    20 rcv_mss: u32;
    24 unacked: u32;
    28 sacked: u32;
    32 lost: u32;
    36 retrans: u32;
    40 fackets: u32;
    44 last_data_sent: u32;
    48 last_ack_sent: u32;
    52 last_data_recv: u32;
    56 last_ack_recv: u32;
    60 pmtu: u32;
    64 rcv_ssthresh: u32;
    68 rtt: u32;
    72 rttvar: u32;
    76 snd_ssthresh: u32;
    80 snd_cwnd: u32;
    84 advmss: u32;
    88 reordering: u32;
    92 rcv_rtt: u32;
    96 rcv_space: u32;
    100 total_retrans: u32;
    104 pacing_rate: u64;
    112 max_pacing_rate: u64;
    120 bytes_acked: u64;
    128 bytes_received: u64;
    136 segs_out: u32;
    140 segs_in: u32;
    144 notsent_bytes: u32;
    148 min_rtt: u32;
    152 data_segs_in: u32;
    156 data_segs_out: u32;
    160 delivery_rate: u64;
    168 busy_time: u64;
    176 rwnd_limited: u64;
    184 sndbuf_limited: u64;
    192 delivered: u32;
    196 delivered_ce: u32;
    200 bytes_sent: u64;
    208 bytes_retrans: u64;
    216 dsack_dups: u32;
    220 reord_seen: u32;
    224 rcv_ooopack: u32;
    228 snd_wnd: u32;
    232 rcv_wnd: u32;
    236 rehash: u32;
    240 total_rto: u16;
    242 total_rto_recoveries: u16;
    244 total_rto_time: u32;
    248 received_ce: u32;
    252 delivered_e1_bytes: u32;
    256 delivered_e0_bytes: u32;
    260 delivered_ce_bytes: u32;
    264 received_e1_bytes: u32;
    268 received_e0_bytes: u32;
    272 received_ce_bytes: u32;
    276 accecn_fail_mode: u16;
    278 accecn_opt_seen: u16;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_linux_has_them() {
        let i = TcpInfo {
            state: TCP_ESTABLISHED,
            snd_wscale: 7,
            rcv_wscale: 10,
            rto: 204_000,
            snd_cwnd: 10,
            ..Default::default()
        };
        let i = TcpInfo { delivery_rate_app_limited: true, bytes_acked: 1 << 40, accecn_opt_seen: 3, ..i };
        let b = i.to_bytes();
        assert_eq!((b[0], b[6], b[7]), (1, 0xa7, 1));
        assert_eq!((b[8..12].to_vec(), b[80]), (204_000u32.to_ne_bytes().to_vec(), 10));
        assert_eq!((b[120..128].to_vec(), b[278]), ((1u64 << 40).to_ne_bytes().to_vec(), 3));
        assert_eq!(TcpInfo::parse(&b), i);
        assert_eq!(TcpInfo::parse(&b[..104]).bytes_acked, 0);
        let mut back = TcpInfo { snd_wscale: 7, rcv_wscale: 10, delivery_rate_app_limited: true, ..Default::default() };
        assert!(i.fields().into_iter().all(|(name, value)| back.set_field(name, value)));
        assert!(back == i && !back.set_field("rto", u64::MAX) && !back.set_field("nope", 1));
    }
}
