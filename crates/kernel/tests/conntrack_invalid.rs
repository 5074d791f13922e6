//! What `nf_conntrack_log_invalid` has said of packets that belong to no connection. Words and order are those that Linux
//! 6.18 wrote to its log for the same packets.
mod common;
mod peer;
use belljar_kernel::net::netfilter::Pf;
use belljar_wire::ipv4::{IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP};
use belljar_wire::tcp::Flags;
use common::*;
use peer::*;

fn tracking() -> Host {
    let mut h = Host::new();
    h.know_peer();
    let words: Vec<&str> = "-A INPUT -m conntrack --ctstate INVALID -j DROP".split(' ').collect();
    let said = h.k.iptables(h.ns, Pf::V4, &words, &belljar_kernel::net::netfilter::words::NoNames);
    assert_eq!(said.code, 0, "{}", said.stderr);
    h.k.sysctl_set(h.ns, "net.netfilter.nf_conntrack_log_invalid", "255").unwrap();
    h
}

/// What was said since the last time, up to the packet.
fn said(h: &mut Host, seen: &mut usize) -> Vec<String> {
    let lines: Vec<String> = h.k.net.kmsg.lines().map(|(_, line)| line.clone()).collect();
    let new = lines[*seen..].iter().map(|l| l.split(" IN=").next().unwrap().to_owned()).collect();
    *seen = lines.len();
    new
}

#[test]
fn why_packets_are_invalid() {
    let mut h = tracking();
    let mut seen = 0;
    let l = h.listener(5);
    let tcp = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut b = syn(100).bytes();
        change(&mut b);
        b
    };
    let raw: [(u8, Vec<u8>, &str); 11] = [
        (IPPROTO_TCP, tcp(&|b| b[16] ^= 5), "nf_ct_proto_6: bad checksum"),
        (IPPROTO_TCP, tcp(&|b| b[12] = 4 << 4), "nf_ct_proto_6: truncated packet"),
        (IPPROTO_TCP, tcp(&|b| b[12] = 9 << 4), "nf_ct_proto_6: truncated packet"),
        (IPPROTO_TCP, tcp(&|b| b[13] |= 1), "nf_ct_proto_6: invalid tcp flag combination"),
        (IPPROTO_TCP, tcp(&|b| b[13] = 0), "nf_ct_proto_6: invalid tcp flag combination"),
        (IPPROTO_TCP, seg(101, Flags::RST, 1, 0).bytes(), "nf_ct_proto_6: invalid new"),
        (IPPROTO_TCP, seg(102, Flags::SYN | Flags::ACK, 1, 0).bytes(), "nf_ct_proto_6: invalid new"),
        (IPPROTO_UDP, udp_with(|b| b[6] ^= 3), "nf_ct_proto_17: bad checksum"),
        (IPPROTO_UDP, udp_with(|b| b[5] = 50), "nf_ct_proto_17: truncated/malformed packet"),
        (IPPROTO_ICMP, icmp_with(|b| b[2] ^= 1), "nf_ct_proto_1: bad hw icmp checksum"),
        (IPPROTO_ICMP, vec![77, 0, 178, 255, 0, 0, 0, 0], "nf_ct_proto_1: invalid icmp type"),
    ];
    for (proto, body, why) in raw {
        h.rx(ip(from_peer(proto), &body));
        assert_eq!(said(&mut h, &mut seen), [why]);
    }
    // An answer nobody asked for, and an error about nothing: INVALID, and nothing said.
    let mut reply = echo(1, 1, b"");
    (reply[0], reply[2]) = (0, reply[2] + 8);
    h.rx(ip(from_peer(IPPROTO_ICMP), &reply));
    assert!(said(&mut h, &mut seen).is_empty());

    let iss = h.tcp(syn(201))[0].seq;
    let of = |flags, seq, ack| seg(201, flags, seq, ack).data(b"x");
    let ours = ISN + 1;
    h.tcp(seg(201, Flags::ACK, ours, iss + 1));
    h.accept(l).unwrap();
    let words = |h: &mut Host, s: Seg, seen: &mut usize| {
        h.tcp(s);
        said(h, seen).concat()
    };
    let ack = Flags::ACK;
    assert_eq!(
        words(&mut h, of(ack, ours + 200_000_000, iss + 1), &mut seen),
        format!("nf_ct_proto_6: SEQ is over upper bound {} (over the window of the receiver)", ours + 64240 + 1)
    );
    assert_eq!(
        words(&mut h, of(ack, ours.wrapping_sub(200_000_000), iss + 1), &mut seen),
        format!("nf_ct_proto_6: SEQ is under lower bound {} (already ACKed data retransmitted)", ours - 64240 - 1)
    );
    assert_eq!(
        words(&mut h, of(ack, ours, iss + 100_001), &mut seen),
        format!("nf_ct_proto_6: ACK is over upper bound {} (ACKed data not seen yet)", iss + 2)
    );
    assert_eq!(
        words(&mut h, of(ack, ours, iss.wrapping_sub(100_000_000)), &mut seen),
        format!("nf_ct_proto_6: ignored ACK under lower bound {} (possible overly delayed)", iss.wrapping_sub(66_000))
    );
    assert_eq!(
        words(&mut h, seg(201, Flags::SYN | ack, ours, iss + 1), &mut seen),
        "nf_ct_proto_6: packet (index 1) in dir 0 invalid, state ESTABLISHED"
    );
    assert_eq!(
        words(&mut h, seg(201, Flags::SYN, ours, iss + 1), &mut seen),
        "nf_ct_proto_6: packet (index 0) in dir 0 ignored, state ESTABLISHED"
    );
    // Of the other protocols only, or not at all.
    for asked in ["17", "0"] {
        h.k.sysctl_set(h.ns, "net.netfilter.nf_conntrack_log_invalid", asked).unwrap();
        assert_eq!(words(&mut h, of(ack, ours + 200_000_000, iss + 1), &mut seen), "");
    }
}

fn udp_with(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut b = udp((PEER, 5), (HOST, 6), b"xxx");
    change(&mut b);
    b
}

fn icmp_with(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut b = echo(0, 0, b"");
    change(&mut b);
    b
}
