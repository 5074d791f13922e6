//! IPv6 on interfaces that change: MTU below what it needs, down and up again.
mod two;
use belljar_abi::*;
use two::*;

/// The addresses of host 0 that are in use, links' own left out.
fn addrs(t: &Two) -> Vec<String> {
    let all = t.k.net.devs.get(t.dev[0]).unwrap().inet6.addrs.iter();
    all.filter(|a| !a.tentative()).map(|a| a.addr.to_string()).filter(|a| !a.starts_with("fe80")).collect()
}

#[test]
fn below_1280_bytes_there_is_no_ipv6() {
    let mut t = Two::new();
    let fd = t.socket(0, SOCK_DGRAM, 0);
    t.k.net.set_mtu(t.dev[0], 1000).unwrap();
    assert_eq!(t.k.net.add_address6(t.dev[0], A, 64, true), Err(Errno::EINVAL));
    assert_eq!(t.send(0, fd, b"x", Some((B, 9))), Err(Errno::ENETUNREACH));
    t.k.net.set_mtu(t.dev[0], 1280).unwrap();
    t.settle();
    assert!(addrs(&t).is_empty());
    t.k.net.add_address6(t.dev[0], A, 64, true).unwrap();
    t.settle();
    assert_eq!(t.send(0, fd, b"x", Some((B, 9))), Ok(1));
}

#[test]
fn what_is_kept_over_down_and_up_asks_nobody_if_it_was_told_so() {
    let mut t = Two::new();
    t.k.sysctl_set(t.ns[0], "net.ipv6.conf.eth0.keep_addr_on_down", "1").unwrap();
    t.k.net.set_link(t.dev[0], false).unwrap();
    t.settle();
    t.k.net.set_link(t.dev[0], true).unwrap();
    t.settle();
    assert_eq!(addrs(&t), ["fd00::1"]);
}
