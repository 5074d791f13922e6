//! Explicit congestion notification (RFC 3168): agreed in the handshake (tcp_ecn), marks that arrived are echoed with ECE
//! until the peer answers CWR, and an echo of ours lowers the window once a round trip. Accurate ECN is not spoken: who
//! offers it is answered with the classic kind.
use super::ack::FLAG_ECE;
use super::recovery;
use crate::net::Net;
use crate::net::core::skb::{SkBuff, Skb};
use crate::net::sysctl::Sysctl;
use crate::net::tcp::output::ack::enter_quickack_mode;
use crate::net::tcp::seq::before;
use crate::net::tcp::sock::*;
use belljar_wire::tcp::Flags;

/// Both sides speak it.
pub const TCP_ECN_OK: u8 = 1;
/// The next new data carries CWR.
pub const TCP_ECN_QUEUE_CWR: u8 = 2;
/// Echo ECE until a CWR comes.
pub const TCP_ECN_DEMAND_CWR: u8 = 4;
/// The peer has sent marked or markable data.
pub const TCP_ECN_SEEN: u8 = 8;

/// The two bits of the IP header.
pub const INET_ECN_MASK: u8 = 3;
pub const INET_ECN_ECT_0: u8 = 2;
pub const INET_ECN_CE: u8 = 3;

pub fn ok(sk: &TcpSock) -> bool {
    sk.flags.ecn & TCP_ECN_OK != 0
}

/// The ECN bits that the packet came with, from its IP header.
pub fn ip_ecn(skb: &SkBuff) -> u8 {
    ip_tos(skb) & INET_ECN_MASK
}

/// Type of service, or traffic class.
pub fn ip_tos(skb: &SkBuff) -> u8 {
    match skb.head.at(skb.network_header) {
        [first, second, ..] if first >> 4 == 6 => first << 4 | second >> 4,
        [_, tos, ..] => *tos,
        _ => 0,
    }
}

/// Our SYN asks for it with both bits, when tcp_ecn is 1 or the route says so.
#[doc(alias = "tcp_ecn_send_syn")]
pub fn send_syn(sk: &mut TcpSock, s: &Sysctl, route: bool) -> Flags {
    sk.flags.ecn = 0;
    if s.tcp_ecn != 1 && !route {
        return Flags::NONE;
    }
    sk.flags.ecn = TCP_ECN_OK;
    Flags::ECE | Flags::CWR
}

/// Does a SYN's request hold? It must not be marked itself (RFC 3168 §6.1.1).
#[doc(alias = "tcp_ecn_create_request")]
pub fn create_request(skb: &SkBuff, s: &Sysctl, route: bool) -> bool {
    let flags = skb.tcp.flags;
    let asks = flags.contains(Flags::ECE | Flags::CWR);
    let ect = ip_ecn(skb) != 0;
    asks && (s.tcp_ecn != 0 || route) && (!ect || flags.contains(Flags::AE))
}

/// The SYN-ACK agrees with ECE alone; one that only mirrors our bits comes from something broken.
#[doc(alias = "tcp_ecn_rcv_synack")]
pub fn rcv_synack(sk: &mut TcpSock, flags: Flags) {
    if !flags.contains(Flags::ECE) || flags.contains(Flags::CWR) {
        sk.flags.ecn &= !TCP_ECN_OK;
    }
}

/// A SYN that crossed ours.
#[doc(alias = "tcp_ecn_rcv_syn")]
pub fn rcv_syn(sk: &mut TcpSock, flags: Flags) {
    if !flags.contains(Flags::ECE | Flags::CWR) {
        sk.flags.ecn &= !TCP_ECN_OK;
    }
}

/// An ACK that echoes a mark.
#[doc(alias = "tcp_ecn_rcv_ecn_echo")]
pub fn rcv_ecn_echo(sk: &TcpSock, flags: Flags) -> bool {
    flags.contains(Flags::ECE) && !flags.contains(Flags::SYN) && ok(sk)
}

/// The peer has lowered its window: no more echo. Its window may be small now, so it hears of this segment at once.
#[doc(alias = "tcp_ecn_accept_cwr")]
pub fn accept_cwr(sk: &mut TcpSock, skb: &Skb) {
    if skb.tcp.flags.contains(Flags::CWR) {
        sk.flags.ecn &= !TCP_ECN_DEMAND_CWR;
        if skb.tcp.seq != skb.tcp.end_seq {
            sk.rcv.ack.pending |= ICSK_ACK_NOW;
        }
    }
}

/// Looks at the mark of a data segment.
#[doc(alias = "tcp_data_ecn_check")]
pub fn data_check(sk: &mut TcpSock, skb: &Skb) {
    if !ok(sk) {
        return;
    }
    match ip_ecn(skb) {
        // Unmarkable after markable ones: a retransmission, most likely.
        0 if sk.flags.ecn & TCP_ECN_SEEN != 0 => enter_quickack_mode(sk, 2),
        0 => {}
        mark => {
            if mark == INET_ECN_CE {
                let segs = skb.gso.map_or(1, |g| u32::from(g.segs).max(1));
                let t = sk.track();
                t.received_ce = t.received_ce.wrapping_add(segs);
                if sk.flags.ecn & TCP_ECN_DEMAND_CWR == 0 {
                    enter_quickack_mode(sk, 2);
                    sk.flags.ecn |= TCP_ECN_DEMAND_CWR;
                }
            }
            sk.flags.ecn |= TCP_ECN_SEEN;
        }
    }
}

/// Bits of the TCP header and of the IP header that go with a segment that is no SYN: new data is markable and tells of
/// the lowered window, acknowledgements and retransmissions are not (RFC 3168 §6.1.4, §6.1.5).
#[doc(alias = "tcp_ecn_send")]
pub fn send(sk: &mut TcpSock, seq: u32, len: usize) -> (Flags, u8) {
    if !ok(sk) {
        return (Flags::NONE, 0);
    }
    let (mut flags, mut ect) = (Flags::NONE, 0);
    if len != 0 && !before(seq, sk.snd.nxt) {
        ect = INET_ECN_ECT_0;
        if sk.flags.ecn & TCP_ECN_QUEUE_CWR != 0 {
            sk.flags.ecn &= !TCP_ECN_QUEUE_CWR;
            flags |= Flags::CWR;
        }
    }
    if sk.flags.ecn & TCP_ECN_DEMAND_CWR != 0 {
        flags |= Flags::ECE;
    }
    (flags, ect)
}

/// The window was lowered: tell with the next data.
pub fn queue_cwr(sk: &mut TcpSock) {
    if ok(sk) {
        sk.flags.ecn |= TCP_ECN_QUEUE_CWR;
    }
}

/// A mark came back outside of a recovery: one reduction, without loss (RFC 3168 §6.1.2).
pub fn react(sk: &mut TcpSock, net: &mut Net, flag: u32) {
    if flag & FLAG_ECE != 0 {
        recovery::enter_cwr(sk, net);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traffic_class_lies_across_two_bytes() {
        let packet = |bytes: [u8; 2]| {
            let mut skb = SkBuff::default();
            skb.head.push(2).unwrap().copy_from_slice(&bytes);
            skb.network_header = skb.head.start();
            (ip_tos(&skb), ip_ecn(&skb))
        };
        assert_eq!(packet([0x45, 0x49]), (0x49, 1));
        // Class 0x4a; the flow label begins with 7.
        assert_eq!(packet([0x64, 0xa7]), (0x4a, 2));
    }
}
