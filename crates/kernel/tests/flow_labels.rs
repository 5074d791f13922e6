//! Flow labels that are leased, reflected and chosen (RFC 6437): what takes time, what packets have of it. The requests are
//! compared with Linux 6.18 by `parity/flow_labels.py`.
mod two;
use belljar_abi::*;
use belljar_kernel::task::call::*;
use belljar_kernel::task::process::Caps;
use belljar_wire::icmpv6::ICMPV6_ECHO_REQUEST;
use belljar_wire::ipv6::{Ipv6Header, NEXTHDR_ICMP, NEXTHDR_TCP};
use two::*;

/// `struct in6_flowlabel_req`.
fn ask(t: &mut Two, fd: Fd, action: u8, label: u32, share: u8, flags: u16, linger: u16) -> Result<u32, Errno> {
    let mut b = B.octets().to_vec();
    b.extend(label.to_be_bytes());
    b.extend([action, share]);
    [flags, linger, linger, 0, 0].iter().for_each(|v| b.extend(v.to_ne_bytes()));
    let now = t.now;
    t.k.ipv6_flowlabel(now, t.task[0], fd, &b, 7)
}

fn lease(t: &mut Two, fd: Fd, label: u32, share: u8) -> Result<u32, Errno> {
    ask(t, fd, IPV6_FL_A_GET, label, share, IPV6_FL_F_CREATE, 0)
}

fn lines(t: &Two) -> Vec<String> {
    let text = t.k.proc_text(t.ns[0], "/proc/net/ip6_flowlabel").unwrap();
    text.lines().skip(1).map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn labels(t: &mut Two, proto: u8) -> Vec<u32> {
    t.sent(proto).iter().filter_map(|p| Ipv6Header::parse(p).ok()).filter(|ip| ip.src == A).map(|ip| ip.flow).collect()
}

fn sysctl(t: &mut Two, who: usize, name: &str, value: &str) {
    t.k.sysctl_set(t.ns[who], &format!("net.ipv6.{name}"), value).unwrap();
}

#[test]
fn a_lease_lasts_for_its_time_after_the_last_user() {
    let mut t = Two::new();
    let (a, b) = (t.socket(0, SOCK_DGRAM, 0), t.socket(0, SOCK_DGRAM, 0));
    assert_eq!(lease(&mut t, a, 0x123, IPV6_FL_S_PROCESS), Ok(0x123));
    assert_eq!(lines(&t), ["00123 2 7 1 6 6 fd000000000000000000000000000002 0"]);
    t.sleep(60_000);
    // In use it does not end.
    assert_eq!(lines(&t), ["00123 2 7 1 6 -54 fd000000000000000000000000000002 0"]);
    t.int(0, Call::Close { fd: a }).unwrap();
    t.sleep(5000);
    assert_eq!(lines(&t), ["00123 2 7 0 6 1 fd000000000000000000000000000002 0"]);
    // Nobody finds it, but who would make it meets it.
    assert_eq!(ask(&mut t, b, IPV6_FL_A_GET, 0x123, IPV6_FL_S_PROCESS, 0, 0), Err(Errno::ENOENT));
    assert_eq!(lease(&mut t, b, 0x123, IPV6_FL_S_USER), Err(Errno::EPERM));
    t.sleep(1000);
    assert!(lines(&t).is_empty());
    assert_eq!(lease(&mut t, b, 0x123, IPV6_FL_S_USER), Ok(0x123));
}

#[test]
fn only_so_many_and_so_long_for_everybody() {
    let mut t = Two::new();
    let p = t.k.add_process(t.ns[0], 1000, Caps::NONE, 64, "user");
    t.task[0] = t.k.add_task(p, 0).unwrap();
    let a = t.socket(0, SOCK_DGRAM, 0);
    assert_eq!(ask(&mut t, a, IPV6_FL_A_GET, 1, IPV6_FL_S_ANY, IPV6_FL_F_CREATE, 151), Err(Errno::EPERM));
    assert_eq!(ask(&mut t, a, IPV6_FL_A_GET, 1, IPV6_FL_S_ANY, IPV6_FL_F_CREATE, 150), Ok(1));
    let made: Vec<_> = (2..40).filter(|n| lease(&mut t, a, *n, IPV6_FL_S_ANY).is_ok()).collect();
    assert_eq!((made.len(), lease(&mut t, a, 99, IPV6_FL_S_ANY)), (31, Err(Errno::ENOBUFS)));
    // Leases again of one that it has take no room.
    assert_eq!(lease(&mut t, a, 2, IPV6_FL_S_ANY), Ok(2));
}

#[test]
fn a_leased_label_is_for_its_holders_only() {
    let mut t = Two::new();
    let (a, b) = (t.socket(0, SOCK_DGRAM, 0), t.socket(0, SOCK_DGRAM, 0));
    let to = |flowinfo| SockAddr::V6 { addr: B, port: 9, flowinfo, scope: 0 }.emit();
    let send = |t: &mut Two, fd, label| {
        t.int(0, Call::Send { fd, data: Payload::Bytes(b"x"), flags: 0, to: Some(&to(label)), cmsgs: &[] })
    };
    for fd in [a, b] {
        t.set(0, fd, IPV6_FLOWINFO_SEND, 1).unwrap();
    }
    assert_eq!(send(&mut t, b, 0x55), Ok(1));
    lease(&mut t, a, 0x55, IPV6_FL_S_EXCL).unwrap();
    assert_eq!(
        (send(&mut t, b, 0x55), send(&mut t, b, 0x56), send(&mut t, b, 0)),
        (Err(Errno::EINVAL), Err(Errno::EINVAL), Ok(1))
    );
    t.seen.clear();
    assert_eq!((send(&mut t, a, 0x55), labels(&mut t, 17)), (Ok(1), vec![0x55]));
    // When the last one that is not for all has ended, every label is free again.
    t.int(0, Call::Close { fd: a }).unwrap();
    t.sleep(7000);
    lease(&mut t, b, 0x77, IPV6_FL_S_ANY).unwrap();
    assert_eq!(send(&mut t, b, 0x55), Ok(1));
}

#[test]
fn what_answers_can_have_the_label_of_what_it_answers() {
    for (bits, reflected) in
        [("0", [false; 3]), ("7", [true; 3]), ("4", [false, false, true]), ("1", [true, false, false])]
    {
        let mut t = Two::new();
        sysctl(&mut t, 1, "flowlabel_reflect", bits);
        sysctl(&mut t, 1, "auto_flowlabels", "0");
        let l = t.socket(1, SOCK_STREAM, 0);
        t.bind(1, l, B, 80).unwrap();
        t.int(1, Call::Listen { fd: l, backlog: 8 }).unwrap();
        let from_b = |t: &mut Two, proto| {
            let sent = t.sent(proto);
            let of = |p: &Vec<u8>| Ipv6Header::parse(p).ok().filter(|ip| ip.src == B).map(|ip| ip.flow);
            sent.iter().filter_map(of).collect::<Vec<u32>>()
        };
        let mut got = Vec::new();
        for port in [80, 81] {
            let c = t.socket(0, SOCK_STREAM, 0);
            t.set(0, c, IPV6_FLOWINFO_SEND, 1).unwrap();
            t.seen.clear();
            let addr = SockAddr::V6 { addr: B, port, flowinfo: 0x4321, scope: 0 }.emit();
            let _ = t.int(0, Call::Connect { fd: c, addr: &addr });
            got.push(from_b(&mut t, NEXTHDR_TCP) == [0x4321]);
            if port == 80 {
                let Ok(Ret::Accepted { fd, .. }) = t.call(1, Call::Accept { fd: l, flags: 0 }) else { panic!() };
                t.send(1, fd, b"answer", None).unwrap();
                assert_eq!(from_b(&mut t, NEXTHDR_TCP), [if got[0] { 0x4321 } else { 0 }]);
            }
        }
        t.k.sysctl_set(t.ns[0], "net.ipv4.ping_group_range", "0 100").unwrap();
        let ping = t.socket(0, SOCK_DGRAM, IPPROTO_ICMPV6);
        t.set(0, ping, IPV6_FLOWINFO_SEND, 1).unwrap();
        t.seen.clear();
        let to = SockAddr::V6 { addr: B, port: 0, flowinfo: 0x4321, scope: 0 }.emit();
        let data = Payload::Bytes(&[ICMPV6_ECHO_REQUEST, 0, 0, 0, 0, 0, 0, 1]);
        t.int(0, Call::Send { fd: ping, data, flags: 0, to: Some(&to), cmsgs: &[] }).unwrap();
        got.push(from_b(&mut t, NEXTHDR_ICMP) == [0x4321]);
        assert_eq!(got, reflected, "{bits}");
    }
}

#[test]
fn half_of_the_labels_can_be_the_kernels() {
    let mut t = Two::new();
    sysctl(&mut t, 0, "flowlabel_state_ranges", "1");
    for _ in 0..8 {
        let c = t.socket(0, SOCK_DGRAM, 0);
        t.connect(0, c, B, 9).unwrap();
        t.send(0, c, b"x", None).unwrap();
    }
    let chosen = labels(&mut t, 17);
    assert!(chosen.len() == 8 && chosen.iter().all(|l| l & 0x8_0000 != 0), "{chosen:x?}");
    let c = t.socket(0, SOCK_DGRAM, 0);
    assert_eq!(lease(&mut t, c, 0x8_0001, IPV6_FL_S_ANY), Err(Errno::ERANGE));
}
