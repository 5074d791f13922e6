//! Metrics of routes: how many different ones a namespace can have, what deleting compares, words that mean nothing. What
//! they do stands in `conformance/route-metrics` and `parity/route_metrics.py`.
mod common;
use belljar_abi::Errno;
use belljar_kernel::net::ipv4::ip_cmd::CmdError;
use common::*;

fn add(h: &mut Host, n: u32) -> Result<(), CmdError> {
    h.k.ip(h.ns, &format!("route add 10.77.{}.{}/32 dev eth0 initcwnd {}", n / 256, n % 256, n + 1))
}

#[test]
fn a_namespace_has_255_different_ones_and_those_of_deleted_routes_are_free() {
    let mut h = Host::new();
    for n in 0..255 {
        add(&mut h, n).unwrap();
    }
    assert!(matches!(add(&mut h, 255), Err(CmdError::Kernel(Errno::ENOMEM))));
    // The same again, and none at all, need no place.
    h.k.ip(h.ns, "route add 10.78.0.0/24 dev eth0 initcwnd 7").unwrap();
    h.k.ip(h.ns, "-6 route add fd77::/64 dev eth0 initcwnd 8").unwrap();
    h.k.ip(h.ns, "route add 10.79.0.0/24 dev eth0").unwrap();
    h.k.ip(h.ns, "route del 10.77.0.30/32").unwrap();
    add(&mut h, 255).unwrap();
    let shown = |h: &Host, dst: &str| {
        let all = h.k.view_routes(h.ns);
        all.into_iter().find(|r| r.dst.to_string() == dst).and_then(|r| r.metric_of("initcwnd"))
    };
    assert_eq!((shown(&h, "10.77.0.255"), shown(&h, "10.78.0.0"), shown(&h, "fd77::")), (Some(256), Some(7), Some(8)));
    assert_eq!((shown(&h, "10.79.0.0"), shown(&h, "10.77.0.31")), (None, Some(32)));
}

#[test]
fn words_without_a_meaning_say_which() {
    let mut h = Host::new();
    for (line, says) in [
        ("initcwnd", "a value is missing"),
        ("initcwnd many", "`many`: not a value of this metric"),
        ("congctl nosuch", "`nosuch`: Unknown tcp congestion algorithm"),
        ("features sack", "`sack`: not a value of this metric"),
        ("rtt -1s", "`-1s`: not a value of this metric"),
        ("initcwind 3", "`initcwind` means nothing to a route"),
    ] {
        let Err(CmdError::Words(text)) = h.k.ip(h.ns, &format!("route add 10.77.0.0/16 dev eth0 {line}")) else {
            panic!("{line}");
        };
        assert_eq!(text, says, "{line}");
    }
}
