//! ICMP that hosts seldom hear: each kind has its counter, time stamps are answered, everything else is not.
mod common;
use belljar_kernel::net::mib::Mib;
use belljar_wire::checksum;
use belljar_wire::ipv4::IPPROTO_ICMP;
use common::*;

#[test]
fn every_kind_is_counted() {
    let mut h = Host::new();
    h.know_peer();
    for (kind, counter, answer) in [
        (4, Mib::IcmpInSrcQuenchs, None),
        (12, Mib::IcmpInParmProbs, None),
        (13, Mib::IcmpInTimestamps, Some((14, Mib::IcmpOutTimestampReps))),
        (14, Mib::IcmpInTimestampReps, None),
        (17, Mib::IcmpInAddrMasks, None),
        (18, Mib::IcmpInAddrMaskReps, None),
    ] {
        let mut b = [0; 48];
        b[0] = kind;
        // What errors quote: a header of ours.
        let quoted = ip(from_peer(200), b"").to_vec();
        b[8..28].copy_from_slice(&quoted[14..34]);
        let sum = checksum::fold(checksum::sum(&b, 0));
        b[2..4].copy_from_slice(&sum.to_be_bytes());
        h.rx(ip(from_peer(IPPROTO_ICMP), &b));
        assert_eq!(h.counter(counter), 1, "{kind}");
        let sent: Vec<u8> = h.sent().iter().map(|f| parse(f).2[0]).collect();
        assert_eq!(sent, answer.iter().map(|(k, _)| *k).collect::<Vec<u8>>(), "{kind}");
        if let Some((_, counter)) = answer {
            assert_eq!(h.counter(counter), 1);
        }
    }
}
