//! Packet sockets (packet(7)): `sockaddr_ll` as a value, options of SOL_PACKET, layouts of rings and control messages.
use crate::Errno;
use crate::socket::AF_PACKET;

/// Every protocol.
pub const ETH_P_ALL: u16 = 3;

pub const SOCKADDR_LL_LEN: usize = 20;
const SLL_ADDR: usize = 12;

/// `sll_pkttype`.
pub const PACKET_HOST: u8 = 0;
pub const PACKET_BROADCAST: u8 = 1;
pub const PACKET_MULTICAST: u8 = 2;
pub const PACKET_OTHERHOST: u8 = 3;
pub const PACKET_OUTGOING: u8 = 4;

pub const PACKET_ADD_MEMBERSHIP: i32 = 1;
pub const PACKET_DROP_MEMBERSHIP: i32 = 2;
pub const PACKET_RX_RING: i32 = 5;
pub const PACKET_STATISTICS: i32 = 6;
pub const PACKET_COPY_THRESH: i32 = 7;
pub const PACKET_AUXDATA: i32 = 8;
pub const PACKET_ORIGDEV: i32 = 9;
pub const PACKET_VERSION: i32 = 10;
pub const PACKET_HDRLEN: i32 = 11;
pub const PACKET_RESERVE: i32 = 12;
pub const PACKET_TX_RING: i32 = 13;
pub const PACKET_LOSS: i32 = 14;
pub const PACKET_VNET_HDR: i32 = 15;
pub const PACKET_TX_TIMESTAMP: i32 = 16;
pub const PACKET_TIMESTAMP: i32 = 17;
pub const PACKET_FANOUT: i32 = 18;
pub const PACKET_TX_HAS_OFF: i32 = 19;
pub const PACKET_QDISC_BYPASS: i32 = 20;
pub const PACKET_ROLLOVER_STATS: i32 = 21;
pub const PACKET_FANOUT_DATA: i32 = 22;
pub const PACKET_IGNORE_OUTGOING: i32 = 23;
pub const PACKET_VNET_HDR_SZ: i32 = 24;

/// Types of a membership.
pub const PACKET_MR_MULTICAST: u16 = 0;
pub const PACKET_MR_PROMISC: u16 = 1;
pub const PACKET_MR_ALLMULTI: u16 = 2;
pub const PACKET_MR_UNICAST: u16 = 3;

pub const PACKET_FANOUT_HASH: u8 = 0;
pub const PACKET_FANOUT_LB: u8 = 1;
pub const PACKET_FANOUT_CPU: u8 = 2;
pub const PACKET_FANOUT_ROLLOVER: u8 = 3;
pub const PACKET_FANOUT_RND: u8 = 4;
pub const PACKET_FANOUT_QM: u8 = 5;
pub const PACKET_FANOUT_CBPF: u8 = 6;
pub const PACKET_FANOUT_EBPF: u8 = 7;
/// In the high byte of the type.
pub const PACKET_FANOUT_FLAG_ROLLOVER: u8 = 0x10;
pub const PACKET_FANOUT_FLAG_UNIQUEID: u8 = 0x20;
pub const PACKET_FANOUT_FLAG_IGNORE_OUTGOING: u8 = 0x40;
pub const PACKET_FANOUT_FLAG_DEFRAG: u8 = 0x80;

/// `enum tpacket_versions`.
pub const TPACKET_V1: i32 = 0;
pub const TPACKET_V2: i32 = 1;
pub const TPACKET_V3: i32 = 2;

/// Bits of `tp_status`.
pub const TP_STATUS_KERNEL: u32 = 0;
pub const TP_STATUS_USER: u32 = 1;
pub const TP_STATUS_COPY: u32 = 1 << 1;
pub const TP_STATUS_LOSING: u32 = 1 << 2;
pub const TP_STATUS_CSUMNOTREADY: u32 = 1 << 3;
pub const TP_STATUS_VLAN_VALID: u32 = 1 << 4;
pub const TP_STATUS_VLAN_TPID_VALID: u32 = 1 << 6;
pub const TP_STATUS_BLK_TMO: u32 = 1 << 5;
pub const TP_STATUS_CSUM_VALID: u32 = 1 << 7;
pub const TP_STATUS_GSO_TCP: u32 = 1 << 8;
pub const TP_STATUS_TS_SOFTWARE: u32 = 1 << 29;

/// The same word of a frame that is to be sent.
pub const TP_STATUS_AVAILABLE: u32 = 0;
pub const TP_STATUS_SEND_REQUEST: u32 = 1;
pub const TP_STATUS_SENDING: u32 = 1 << 1;
pub const TP_STATUS_WRONG_FORMAT: u32 = 1 << 2;

/// `struct sockaddr_ll`, protocol in host order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkAddr {
    pub protocol: u16,
    pub ifindex: i32,
    pub hatype: u16,
    pub pkttype: u8,
    pub halen: u8,
    pub addr: [u8; 8],
    /// getsockname ends it behind the hardware address; elsewhere it is shown in full.
    pub short: bool,
}

impl LinkAddr {
    /// Whatever the family says: bind(2) looks at it, sending does not. EINVAL when it is shorter than itself, or than the
    /// hardware address that it promises.
    pub fn parse(b: &[u8]) -> Result<LinkAddr, Errno> {
        let Some(all) = b.first_chunk::<SOCKADDR_LL_LEN>() else { return Err(Errno::EINVAL) };
        let [_, _, p0, p1, i0, i1, i2, i3, h0, h1, pkttype, halen, addr @ ..] = *all;
        if b.len() < SLL_ADDR + usize::from(halen) {
            return Err(Errno::EINVAL);
        }
        Ok(LinkAddr {
            protocol: u16::from_be_bytes([p0, p1]),
            ifindex: i32::from_ne_bytes([i0, i1, i2, i3]),
            hatype: u16::from_ne_bytes([h0, h1]),
            pkttype,
            // No device here has a longer one, and nothing keeps what is beyond.
            halen: halen.min(8),
            addr,
            short: false,
        })
    }

    pub fn emit(&self) -> [u8; SOCKADDR_LL_LEN] {
        let mut b = [0; SOCKADDR_LL_LEN];
        b[..2].copy_from_slice(&(AF_PACKET as u16).to_ne_bytes());
        b[2..4].copy_from_slice(&self.protocol.to_be_bytes());
        b[4..8].copy_from_slice(&self.ifindex.to_ne_bytes());
        b[8..10].copy_from_slice(&self.hatype.to_ne_bytes());
        (b[10], b[11]) = (self.pkttype, self.halen);
        b[SLL_ADDR..].copy_from_slice(&self.addr);
        b
    }

    /// Bytes that a program gets of it.
    pub fn shown(&self) -> usize {
        if self.short { SLL_ADDR + usize::from(self.halen).min(8) } else { SOCKADDR_LL_LEN }
    }
}
