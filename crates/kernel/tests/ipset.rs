//! Sets: their messages, their limits, and packets that are in them.
mod three;
use belljar_abi::ipset::*;
use belljar_abi::netlink::{self as nl, ErrorForm, Msg, NLA_F_NESTED};
use belljar_abi::nfnetlink::nfgenmsg;
use belljar_abi::*;
use belljar_kernel::net::netfilter::Pf;
use belljar_kernel::net::netfilter::blob::{SO_GET_ENTRIES, SO_GET_INFO, SO_SET_REPLACE};
use belljar_kernel::net::netlink::Caller;
use three::*;

const DGRAM: i32 = SOCK_DGRAM | SOCK_NONBLOCK;

fn ask(t: &mut Three, b: &[u8]) -> Vec<u8> {
    let c = Caller {
        ns: t.ns[ROUTER],
        port: 7,
        uid: 0,
        process: (4711, "ipset"),
        net_admin: true,
        strict: true,
        form: ErrorForm::default(),
        netns: &[],
    };
    t.k[ROUTER].nfnetlink(t.now, &c, b).concat()
}

fn message(command: u8, name: &str, fill: impl FnOnce(&mut Msg<'_>)) -> Vec<u8> {
    let mut b = Vec::new();
    let flags = nl::NLM_F_REQUEST | nl::NLM_F_ACK | nl::NLM_F_EXCL;
    let mut m = Msg::new(&mut b, u16::from(NFNL_SUBSYS_IPSET) << 8 | u16::from(command), flags, 9, 0);
    m.body(&nfgenmsg(2, 0)).attr_u8(IPSET_ATTR_PROTOCOL, IPSET_PROTOCOL);
    if !name.is_empty() {
        m.attr_str(IPSET_ATTR_SETNAME, name);
    }
    fill(&mut m);
    b
}

fn errno(t: &mut Three, b: &[u8]) -> i32 {
    let out = ask(t, b);
    let found = nl::messages(&out).find(|(h, _)| h.kind == nl::NLMSG_ERROR);
    found.map_or(0, |(_, b)| -i32::from_ne_bytes(*b.first_chunk().unwrap()))
}

fn create(name: &str, kind: &str, options: &[(u16, u32)]) -> Vec<u8> {
    message(IPSET_CMD_CREATE, name, |m| {
        m.attr_str(IPSET_ATTR_TYPENAME, kind).attr_u8(IPSET_ATTR_REVISION, 3).attr_u8(IPSET_ATTR_FAMILY, 2);
        m.nest(IPSET_ATTR_DATA | NLA_F_NESTED, |m| {
            options.iter().for_each(|(k, v)| {
                m.attr(*k, &v.to_be_bytes());
            });
        });
    })
}

/// An address, to another one, and so many bits.
fn element(command: u8, name: &str, ip: u32, to: Option<u32>, cidr: Option<u8>, seconds: Option<u32>) -> Vec<u8> {
    message(command, name, |m| {
        m.nest(IPSET_ATTR_DATA | NLA_F_NESTED, |m| {
            for (kind, ip) in [(IPSET_ATTR_IP, Some(ip)), (IPSET_ATTR_IP_TO, to)] {
                let Some(ip) = ip else { continue };
                m.nest(kind | NLA_F_NESTED, |m| {
                    m.attr(IPSET_ATTR_IPADDR_IPV4, &ip.to_be_bytes());
                });
            }
            if let Some(c) = cidr {
                m.attr_u8(IPSET_ATTR_CIDR, c);
            }
            if let Some(s) = seconds {
                m.attr(IPSET_ATTR_TIMEOUT, &s.to_be_bytes());
            }
        });
    })
}

fn add(name: &str, ip: u32) -> Vec<u8> {
    element(IPSET_CMD_ADD, name, ip, None, None, None)
}

fn is_in(t: &mut Three, name: &str, ip: u32) -> bool {
    errno(t, &element(IPSET_CMD_TEST, name, ip, None, None, None)) == 0
}

#[test]
fn sets_have_limits() {
    let mut t = Three::new();
    assert_eq!(errno(&mut t, &create("a", "hash:ip", &[(IPSET_ATTR_MAXELEM, 2)])), 0);
    assert_eq!(errno(&mut t, &create("a", "hash:ip", &[])), Errno::EEXIST.0);
    assert_eq!(errno(&mut t, &create("b", "nosuch", &[])), IPSET_ERR_FIND_TYPE);
    for (ip, want) in [(1, 0), (2, 0), (2, IPSET_ERR_EXIST), (3, IPSET_ERR_HASH_FULL), (0, IPSET_ERR_HASH_ELEM)] {
        assert_eq!(errno(&mut t, &add("a", ip)), want, "{ip}");
    }
    assert_eq!(errno(&mut t, &element(IPSET_CMD_ADD, "a", 9, None, None, Some(1))), IPSET_ERR_TIMEOUT);
    assert_eq!(errno(&mut t, &create("big", "hash:ip", &[(IPSET_ATTR_MAXELEM, u32::MAX)])), 0);
    // However large a set may be, one message names no more than a million elements.
    let all = element(IPSET_CMD_ADD, "big", 1, Some(u32::MAX), None, None);
    assert_eq!(errno(&mut t, &all), Errno::ERANGE.0);
    assert_eq!(errno(&mut t, &message(IPSET_CMD_DESTROY, "nosuch", |_| {})), Errno::ENOENT.0);
    assert_eq!(errno(&mut t, &message(IPSET_CMD_DESTROY, "", |_| {})), 0);
    assert!(!is_in(&mut t, "a", 1));
}

#[test]
fn networks_hold_addresses_and_end() {
    let mut t = Three::new();
    assert_eq!(errno(&mut t, &create("n", "hash:net", &[(IPSET_ATTR_TIMEOUT, 0)])), 0);
    let net = |ip, cidr, seconds| element(IPSET_CMD_ADD, "n", ip, None, Some(cidr), seconds);
    assert_eq!(errno(&mut t, &net(0x0a00_0000, 8, None)), 0);
    assert_eq!(errno(&mut t, &net(0xc0a8_0100, 24, Some(5))), 0);
    assert_eq!(errno(&mut t, &net(0x0a00_0000, 33, None)), IPSET_ERR_INVALID_CIDR);
    assert!(is_in(&mut t, "n", 0x0a01_0203) && is_in(&mut t, "n", 0xc0a8_0105) && !is_in(&mut t, "n", 0x0b00_0000));
    t.sleep(5001);
    assert!(is_in(&mut t, "n", 0x0a01_0203) && !is_in(&mut t, "n", 0xc0a8_0105));
    // A range is as few networks as can be.
    let range = element(IPSET_CMD_ADD, "n", 0xc0a8_0001, Some(0xc0a8_00ff), None, None);
    assert_eq!(errno(&mut t, &range), 0);
    assert!(is_in(&mut t, "n", 0xc0a8_0001) && is_in(&mut t, "n", 0xc0a8_00ff) && !is_in(&mut t, "n", 0xc0a8_0000));
}

/// A table with one rule: `FORWARD -m set --match-set (number 0) dst -j DROP`.
fn rule(t: &mut Three, index: u16) -> Result<(), Errno> {
    t.iptables(ROUTER, "-F FORWARD\n-A FORWARD -m length --length 0:65535 -j DROP");
    let ns = t.ns[ROUTER];
    let net = &mut t.k[ROUTER].net;
    let mut ask = b"filter".to_vec();
    ask.resize(84, 0);
    let info = net.xt_getsockopt(ns, Pf::V4, SO_GET_INFO, &ask).unwrap();
    let word = |at: usize| u32::from_ne_bytes(*info[at..].first_chunk().unwrap());
    let (entries, size) = (word(76), word(80));
    ask.resize(32, 0);
    ask.extend(size.to_ne_bytes());
    ask.resize(40 + size as usize, 0);
    let old = net.xt_getsockopt(ns, Pf::V4, SO_GET_ENTRIES, &ask).unwrap()[40..].to_vec();
    // The match of the length, 40 bytes, becomes one of revision 1 about a set.
    let at = old.windows(6).position(|w| w == b"length").unwrap();
    let mut new = old.clone();
    new[at..at + 30].fill(0);
    new[at..at + 3].copy_from_slice(b"set");
    new[at + 29] = 1;
    new[at + 30..at + 38].fill(0);
    new[at + 30..at + 32].copy_from_slice(&index.to_ne_bytes());
    new[at + 32] = 1;
    let mut b = info[..32].to_vec();
    b.extend(&info[32..36]);
    b.extend(entries.to_ne_bytes());
    b.extend(size.to_ne_bytes());
    b.extend(&info[36..76]);
    b.extend(entries.to_ne_bytes());
    b.extend(0u64.to_ne_bytes());
    b.extend(new);
    net.xt_setsockopt(ns, Pf::V4, SO_SET_REPLACE, &b).map(drop)
}

#[test]
fn rules_look_packets_up_and_hold_their_sets() {
    let mut t = Three::new();
    assert_eq!(rule(&mut t, 0), Err(Errno::ENOENT));
    assert_eq!(errno(&mut t, &create("a", "hash:ip", &[])), 0);
    rule(&mut t, 0).unwrap();
    let c = t.socket(CLIENT, DGRAM);
    t.send_to(CLIENT, c, b"x", B, 9).unwrap();
    assert_eq!(t.dropped(ROUTER), 0);
    assert_eq!(errno(&mut t, &add("a", B.to_bits())), 0);
    t.send_to(CLIENT, c, b"x", B, 9).unwrap();
    t.settle();
    assert_eq!(t.dropped(ROUTER), 1);
    assert_eq!(errno(&mut t, &message(IPSET_CMD_DESTROY, "a", |_| {})), IPSET_ERR_BUSY);
    // Another set takes its place under the rule.
    assert_eq!(errno(&mut t, &create("b", "hash:ip", &[])), 0);
    let swap = message(IPSET_CMD_SWAP, "a", |m| {
        m.attr_str(IPSET_ATTR_SETNAME2, "b");
    });
    assert_eq!(errno(&mut t, &swap), 0);
    t.send_to(CLIENT, c, b"x", B, 9).unwrap();
    t.settle();
    assert_eq!(t.dropped(ROUTER), 1);
    assert!(is_in(&mut t, "b", B.to_bits()) && !is_in(&mut t, "a", B.to_bits()));
    t.iptables(ROUTER, "-F FORWARD");
    assert_eq!(errno(&mut t, &message(IPSET_CMD_DESTROY, "", |_| {})), 0);
}

#[test]
fn broken_messages_break_nothing() {
    let mut t = Three::new();
    let good = [
        create("a", "hash:ip", &[(IPSET_ATTR_TIMEOUT, 9)]),
        create("n", "hash:net,port", &[]),
        element(IPSET_CMD_ADD, "a", 0x0a00_0000, Some(0x0a00_00ff), Some(24), Some(3)),
        element(IPSET_CMD_DEL, "a", 0x0a00_0000, None, Some(30), None),
        message(IPSET_CMD_LIST, "", |_| {}),
        message(IPSET_CMD_TYPE, "", |m| {
            m.attr_str(IPSET_ATTR_TYPENAME, "list:set").attr_u8(IPSET_ATTR_FAMILY, 0);
        }),
    ];
    for m in &good {
        ask(&mut t, m);
        for at in 16..m.len() {
            for v in [0, 1, 0x7f, 0xff] {
                let mut bad = m.clone();
                bad[at] = v;
                ask(&mut t, &bad);
            }
        }
    }
}
