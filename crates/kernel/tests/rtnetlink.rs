//! NETLINK_ROUTE by messages: what is answered, refused and told to members of groups.
use belljar_abi::netlink::{self as nl, ErrorForm, Msg, NlMsgHdr};
use belljar_abi::rtnetlink::*;
use belljar_abi::{AF_INET, AF_INET6, Errno, IFF_UP, SIOCADDRT, SIOCDARP, SIOCDELRT, SIOCGARP, SIOCSARP};
use belljar_kernel::Kernel;
use belljar_kernel::ids::NsId;
use belljar_kernel::net::netlink::{Caller, request};
use std::net::Ipv4Addr;

const NEW: u16 = nl::NLM_F_CREATE | nl::NLM_F_EXCL;

struct Host {
    k: Kernel,
    ns: NsId,
}

impl Host {
    /// A namespace with lo and a pair v0 (3) and v1 (2), both up.
    fn new() -> Host {
        let mut k = Kernel::new(5);
        let ns = k.net.add_ns("t");
        let (a, b) = k.net.add_veth((ns, "v0"), (ns, "v1")).unwrap();
        for dev in [k.net.ns.get(ns).unwrap().lo, a, b] {
            k.set_link(dev, true).unwrap();
        }
        Host { k, ns }
    }

    fn ask(&mut self, admin: bool, data: &[u8]) -> Vec<(NlMsgHdr, Vec<u8>)> {
        let form = ErrorForm { ext_ack: true, cap_ack: true };
        let c = Caller {
            ns: self.ns,
            port: 77,
            uid: 0,
            process: (1, ""),
            net_admin: admin,
            strict: true,
            form,
            netns: &[],
        };
        let out = request(&mut self.k.net, &c, data).concat();
        nl::messages(&out).map(|(h, b)| (h, b.to_vec())).collect()
    }

    /// The errno of the answer, 0 for an acknowledgement, and its text.
    fn ack(&mut self, kind: u16, flags: u16, body: &[u8], attrs: &[(u16, &[u8])]) -> (i32, String) {
        let m = message(kind, flags | nl::NLM_F_ACK, body, attrs);
        let all = self.ask(true, &m);
        let (h, b) = all.last().unwrap();
        assert_eq!((h.kind, h.seq, h.pid), (nl::NLMSG_ERROR, 9, 77));
        let errno = -i32::from_ne_bytes(*b.first_chunk().unwrap());
        let text = if h.flags & nl::NLM_F_ACK_TLVS == 0 { None } else { nl::attrs(&b[20..]).next() };
        (errno, text.map_or(String::new(), |t| String::from_utf8_lossy(t.1).trim_end_matches('\0').to_owned()))
    }

    fn dump(&mut self, kind: u16, body: &[u8]) -> usize {
        let all = self.ask(false, &message(kind, nl::NLM_F_DUMP, body, &[]));
        assert_eq!(all.last().unwrap().0.kind, nl::NLMSG_DONE);
        all.len() - 1
    }
}

fn message(kind: u16, flags: u16, body: &[u8], attrs: &[(u16, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut m = Msg::new(&mut out, kind, flags | nl::NLM_F_REQUEST, 9, 0);
    m.body(body);
    attrs.iter().for_each(|(k, v)| {
        m.attr(*k, v);
    });
    out
}

fn addr(family: i32, len: u8, index: u32) -> [u8; 8] {
    IfAddrMsg { family: family as u8, prefixlen: len, index, ..IfAddrMsg::default() }.to_bytes()
}

fn route(len: u8) -> [u8; 12] {
    let family = AF_INET as u8;
    RtMsg { family, dst_len: len, table: RT_TABLE_MAIN, protocol: 3, kind: RTN_UNICAST, ..RtMsg::default() }.to_bytes()
}

const IP: [u8; 4] = [10, 1, 0, 1];

#[test]
fn refusals_have_the_kernels_words() {
    let mut h = Host::new();
    let local: &[(u16, &[u8])] = &[(IFA_LOCAL, &IP), (IFA_ADDRESS, &IP)];
    let none = String::new();
    assert_eq!(h.ack(RTM_NEWADDR, NEW, &addr(AF_INET, 24, 3), local), (0, none.clone()));
    assert_eq!(h.ack(RTM_NEWADDR, NEW, &addr(AF_INET, 24, 3), local), (17, "ipv4: Address already assigned".into()));
    assert_eq!(h.ack(RTM_NEWADDR, NEW, &addr(AF_INET, 24, 9), local), (19, none.clone()));
    assert_eq!(h.ack(RTM_NEWADDR, NEW, &addr(AF_INET, 33, 3), local).0, Errno::EINVAL.0);
    assert_eq!(h.ack(RTM_DELADDR, 0, &addr(AF_INET, 25, 3), local), (99, "ipv4: Address not found".into()));
    let gw = |gw: &'static [u8; 4]| [(RTA_DST, &[10, 9, 0, 0][..]), (RTA_GATEWAY, &gw[..])];
    assert_eq!(h.ack(RTM_NEWROUTE, NEW, &route(16), &gw(&[10, 1, 0, 9])), (0, none.clone()));
    assert_eq!(h.ack(RTM_NEWROUTE, NEW, &route(16), &gw(&[10, 1, 0, 9])).0, 17);
    assert_eq!(h.ack(RTM_NEWROUTE, nl::NLM_F_REPLACE, &route(17), &gw(&[10, 1, 0, 9])).0, 2);
    assert_eq!(h.ack(RTM_NEWROUTE, NEW, &route(17), &gw(&[192, 0, 2, 1])), (101, "Nexthop has invalid gateway".into()));
    assert_eq!(
        h.ack(RTM_NEWROUTE, NEW, &route(8), &gw(&[10, 1, 0, 9])),
        (22, "Invalid prefix for given prefix length".into())
    );
    let v0 = IfInfoMsg { index: 3, ..IfInfoMsg::default() }.to_bytes();
    let mtu = |n: u32| n.to_ne_bytes();
    assert_eq!(h.ack(RTM_NEWLINK, 0, &v0, &[(IFLA_MTU, &mtu(60))]), (22, "mtu less than device minimum".into()));
    assert_eq!(h.ack(RTM_NEWLINK, 0, &v0, &[(IFLA_MTU, &mtu(70_000))]).1, "mtu greater than device maximum");
    // The probe that iproute2 begins with, a kind that there is not, an attribute that nobody knows.
    assert_eq!(h.ack(RTM_NEWLINK, 0, &[0; 16], &[]), (19, none.clone()));
    let kind = [&[11, 0, 1, 0][..], b"bogus\0\0\0"].concat();
    let bogus: &[(u16, &[u8])] = &[(IFLA_IFNAME, b"x\0"), (IFLA_LINKINFO, &kind)];
    assert_eq!(h.ack(RTM_NEWLINK, NEW, &[0; 16], bogus), (95, "Unknown device type".into()));
    assert_eq!(h.ack(RTM_NEWLINK, 0, &v0, &[(200, &[0; 4])]), (95, none));
    assert!(h.k.check().is_ok());
}

#[test]
fn without_the_capability_one_may_look_and_not_touch() {
    let mut h = Host::new();
    let m = message(RTM_NEWADDR, nl::NLM_F_ACK, &addr(AF_INET, 24, 3), &[(IFA_LOCAL, &IP)]);
    let all = h.ask(false, &m);
    assert_eq!(i32::from_ne_bytes(*all[0].1.first_chunk().unwrap()), -Errno::EPERM.0);
    assert_eq!(h.dump(RTM_GETLINK, &[0; 16]), 3);
    assert_eq!(h.dump(RTM_GETADDR, &addr(AF_INET, 0, 0)), 1);
    assert_eq!(h.dump(RTM_GETRULE, &[AF_INET6 as u8; 12]), 2);
}

#[test]
fn members_of_a_group_hear_of_changes_and_others_cost_nothing() {
    let mut h = Host::new();
    let local: &[(u16, &[u8])] = &[(IFA_LOCAL, &IP), (IFA_ADDRESS, &IP)];
    h.ack(RTM_NEWADDR, NEW, &addr(AF_INET, 24, 3), local);
    assert_eq!(h.k.net.pop_notice(), None);
    h.k.net.nl_listen(h.ns, nl::NETLINK_ROUTE, 1 << RTNLGRP_IPV4_IFADDR | 1 << RTNLGRP_LINK);
    h.ack(RTM_DELADDR, 0, &addr(AF_INET, 24, 3), local);
    let v0 = IfInfoMsg { index: 3, change: IFF_UP, ..IfInfoMsg::default() }.to_bytes();
    h.ack(RTM_NEWLINK, 0, &v0, &[]);
    let told: Vec<(u32, u16)> = std::iter::from_fn(|| h.k.net.pop_notice())
        .map(|n| (n.group, nl::messages(&n.bytes).next().unwrap().0.kind))
        .collect();
    assert_eq!(told[0], (RTNLGRP_IPV4_IFADDR, RTM_DELADDR));
    assert!(told[1..].iter().all(|t| *t == (RTNLGRP_LINK, RTM_NEWLINK)) && told.len() >= 3, "{told:?}");
}

#[test]
fn a_listener_that_does_not_read_is_told_that_some_are_lost() {
    let mut h = Host::new();
    h.k.net.nl_listen(h.ns, nl::NETLINK_ROUTE, 1 << RTNLGRP_IPV4_IFADDR);
    let dev = h.k.net.dev_by_name(h.ns, "v0").unwrap();
    for _ in 0..6000 {
        h.k.add_address(dev, Ipv4Addr::from(IP), 24).unwrap();
        h.k.net.del_address(dev, IP.into(), 24).unwrap();
    }
    let all: Vec<_> = std::iter::from_fn(|| h.k.net.pop_notice()).collect();
    assert!(all.len() <= 8192 && all.last().unwrap().bytes.is_empty());
}

#[test]
fn broken_messages_are_refused_and_nothing_else() {
    let mut h = Host::new();
    for kind in RTM_NEWLINK..=RTM_GETSTATS {
        for len in [0, 1, 4, 8, 12, 16, 20] {
            for flags in [0, nl::NLM_F_DUMP, NEW, nl::NLM_F_REPLACE] {
                let mut body = vec![0; len];
                if let Some(family) = body.first_mut() {
                    *family = [0, AF_INET as u8, AF_INET6 as u8, 7][len % 4];
                }
                let attrs: &[(u16, &[u8])] = &[(1, &[1]), (2, &[]), (3, &[255; 3]), (18, &[9, 0, 1]), (9, &[0; 3])];
                h.ask(true, &message(kind, flags, &body, attrs));
            }
        }
    }
    assert!(h.k.check().is_ok());
}

/// `sockaddr_in` of an address.
fn sin(ip: [u8; 4]) -> [u8; 16] {
    let mut b = [0; 16];
    b[..2].copy_from_slice(&(AF_INET as u16).to_ne_bytes());
    b[4..8].copy_from_slice(&ip);
    b
}

fn put(b: &mut [u8], at: usize, v: &[u8]) {
    b[at..at + v.len()].copy_from_slice(v);
}

#[test]
fn route_and_arp_of_old_speak_by_ioctl() {
    let mut h = Host::new();
    let dev = h.k.net.dev_by_name(h.ns, "v0").unwrap();
    h.k.net.add_address(dev, Ipv4Addr::new(10, 1, 0, 1), 24).unwrap();
    let ask = |h: &mut Host, cmd: u32, r: &[u8], dev: Option<&str>| h.k.old_request(0, h.ns, (cmd, false), r, dev);
    // route add -net 10.7.0.0/16 dev v0; route add default gw 10.1.0.9
    let mut net = [0u8; 120];
    for (at, ip) in [(8, [10, 7, 0, 0]), (24, [0; 4]), (40, [255, 255, 0, 0])] {
        put(&mut net, at, &sin(ip));
    }
    put(&mut net, 56, &1u16.to_ne_bytes());
    assert_eq!(ask(&mut h, SIOCADDRT, &net, Some("v0")), Ok(None));
    assert_eq!(ask(&mut h, SIOCADDRT, &net, Some("v0")), Err(Errno::EEXIST));
    assert_eq!(ask(&mut h, SIOCADDRT, &net, Some("nosuch")), Err(Errno::ENODEV));
    let mut via = [0u8; 120];
    for (at, ip) in [(8, [0; 4]), (24, [10, 1, 0, 9]), (40, [0; 4])] {
        put(&mut via, at, &sin(ip));
    }
    put(&mut via, 56, &3u16.to_ne_bytes());
    assert_eq!(ask(&mut h, SIOCADDRT, &via, None), Ok(None));
    put(&mut net, 40, &sin([255, 0, 255, 0]));
    assert_eq!(ask(&mut h, SIOCADDRT, &net, Some("v0")), Err(Errno::EINVAL));
    put(&mut net, 40, &sin([255, 255, 0, 0]));
    let text = h.k.proc_text(h.ns, "/proc/net/route").unwrap();
    assert!(text.contains("v0\t00000000\t0900010A\t0003") && text.contains("v0\t0000070A\t00000000\t0001"), "{text}");
    assert_eq!(ask(&mut h, SIOCDELRT, &net, Some("v0")), Ok(None));
    assert_eq!(ask(&mut h, SIOCDELRT, &net, Some("v0")), Err(Errno::ESRCH));

    // arp -s 10.1.0.7 02:00:00:00:00:07, asked for and taken away again.
    let mut arp = [0u8; 68];
    put(&mut arp, 0, &sin([10, 1, 0, 7]));
    put(&mut arp, 16, &1u16.to_ne_bytes());
    put(&mut arp, 18, &[2, 0, 0, 0, 0, 7]);
    put(&mut arp, 32, &6u32.to_ne_bytes());
    assert_eq!(ask(&mut h, SIOCSARP, &arp, None), Ok(None));
    put(&mut arp, 52, b"v0");
    let shown = ask(&mut h, SIOCGARP, &arp, None).unwrap().unwrap();
    assert_eq!((&shown[18..24], shown[32]), (&[2, 0, 0, 0, 0, 7][..], 6));
    assert_eq!(ask(&mut h, SIOCDARP, &arp, None), Ok(None));
    assert_eq!(ask(&mut h, SIOCGARP, &arp, None), Err(Errno::ENXIO));
    // arp -s 10.1.0.7 … pub: answered for.
    put(&mut arp, 32, &12u32.to_ne_bytes());
    assert_eq!(ask(&mut h, SIOCSARP, &arp, None), Ok(None));
    assert!(h.k.proc_text(h.ns, "/proc/net/arp").unwrap().contains("10.1.0.7"));
    assert_eq!(ask(&mut h, SIOCDARP, &arp, None), Ok(None));
    assert!(!h.k.proc_text(h.ns, "/proc/net/arp").unwrap().contains("10.1.0.7"));
}

#[test]
fn no_linklocal_address_where_none_is_wanted() {
    let mut h = Host::new();
    h.k.net.enable_ipv6(h.ns);
    let (ns, dev) = (h.ns, h.k.net.dev_by_name(h.ns, "v0").unwrap());
    let addrs = |h: &Host| h.k.net.devs.get(dev).unwrap().inet6.addrs.len();
    assert_eq!(addrs(&h), 1);
    h.k.set_link(dev, false).unwrap();
    h.k.sysctl_set(ns, "net.ipv6.conf.v0.addr_gen_mode", "1").unwrap();
    h.k.set_link(dev, true).unwrap();
    assert_eq!(addrs(&h), 0);
    h.k.sysctl_set(ns, "net.ipv6.conf.all.addr_gen_mode", "0").unwrap();
    assert_eq!(addrs(&h), 1);
    assert_eq!(h.k.sysctl_set(ns, "net.ipv6.conf.v0.addr_gen_mode", "4"), Err(Errno::EINVAL));
}
