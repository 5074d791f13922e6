//! NETLINK_NETFILTER: batches of nf_tables and what their rules do to packets, connections asked for and told, and messages
//! that are broken in every place.
mod three;
use belljar_abi::netlink::{self as nl, ErrorForm, Msg, NLA_F_NESTED, NlMsgHdr};
use belljar_abi::nf_tables::*;
use belljar_abi::nfnetlink::*;
use belljar_abi::*;
use belljar_kernel::net::netlink::Caller;
use three::*;

const DGRAM: i32 = SOCK_DGRAM | SOCK_NONBLOCK;
const NEW: u16 = nl::NLM_F_CREATE | nl::NLM_F_APPEND;

fn nft(message: u8) -> u16 {
    u16::from(NFNL_SUBSYS_NFTABLES) << 8 | u16::from(message)
}

/// One message; `fill` writes its attributes.
fn message(out: &mut Vec<u8>, kind: u16, flags: u16, family: u8, fill: impl FnOnce(&mut Msg<'_>)) {
    let mut m = Msg::new(out, kind, flags | nl::NLM_F_REQUEST, 9, 0);
    m.body(&nfgenmsg(family, if kind < 0x20 { NFNL_SUBSYS_NFTABLES.into() } else { 0 }));
    fill(&mut m);
}

fn batch(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut b = Vec::new();
    message(&mut b, NFNL_MSG_BATCH_BEGIN, 0, 0, |_| {});
    fill(&mut b);
    message(&mut b, NFNL_MSG_BATCH_END, 0, 0, |_| {});
    b
}

fn ask(t: &mut Three, who: usize, data: &[u8]) -> Vec<(NlMsgHdr, Vec<u8>)> {
    let ns = t.ns[who];
    let c = Caller {
        ns,
        port: 77,
        uid: 0,
        process: (4711, "nft"),
        net_admin: true,
        strict: true,
        form: ErrorForm::default(),
        netns: &[],
    };
    let now = t.now;
    let out = t.k[who].nfnetlink(now, &c, data).concat();
    nl::messages(&out).map(|(h, b)| (h, b.to_vec())).collect()
}

/// The first error of a batch, 0 when there is none.
fn errno(t: &mut Three, who: usize, data: &[u8]) -> i32 {
    let all = ask(t, who, data);
    all.iter()
        .find(|(h, _)| h.kind == nl::NLMSG_ERROR)
        .map_or(0, |(_, b)| -i32::from_ne_bytes(*b.first_chunk().unwrap()))
}

fn be(m: &mut Msg<'_>, kind: u16, v: u32) {
    m.attr(kind, &v.to_be_bytes());
}

fn table(b: &mut Vec<u8>, family: u8) {
    message(b, nft(NFT_MSG_NEWTABLE), nl::NLM_F_CREATE, family, |m| {
        m.attr_str(NFTA_TABLE_NAME, "t");
    });
}

/// A chain; `hook` has number, priority, type and policy.
fn chain(b: &mut Vec<u8>, family: u8, name: &str, hook: Option<(u32, i32, &str, u32)>) {
    message(b, nft(NFT_MSG_NEWCHAIN), nl::NLM_F_CREATE, family, |m| {
        m.attr_str(NFTA_CHAIN_TABLE, "t").attr_str(NFTA_CHAIN_NAME, name);
        let Some((number, priority, kind, policy)) = hook else { return };
        m.nest(NFTA_CHAIN_HOOK | NLA_F_NESTED, |m| {
            be(m, NFTA_HOOK_HOOKNUM, number);
            be(m, NFTA_HOOK_PRIORITY, priority as u32);
        });
        m.attr_str(NFTA_CHAIN_TYPE, kind);
        be(m, NFTA_CHAIN_POLICY, policy);
    });
}

fn rule(b: &mut Vec<u8>, family: u8, chain: &str, exprs: impl FnOnce(&mut Msg<'_>)) {
    message(b, nft(NFT_MSG_NEWRULE), NEW, family, |m| {
        m.attr_str(NFTA_RULE_TABLE, "t").attr_str(NFTA_RULE_CHAIN, chain);
        m.nest(NFTA_RULE_EXPRESSIONS | NLA_F_NESTED, exprs);
    });
}

fn expr(m: &mut Msg<'_>, name: &str, data: impl FnOnce(&mut Msg<'_>)) {
    m.nest(NFTA_LIST_ELEM | NLA_F_NESTED, |m| {
        m.attr_str(NFTA_EXPR_NAME, name);
        m.nest(NFTA_EXPR_DATA | NLA_F_NESTED, data);
    });
}

fn value(m: &mut Msg<'_>, kind: u16, v: &[u8]) {
    m.nest(kind | NLA_F_NESTED, |m| {
        m.attr(NFTA_DATA_VALUE, v);
    });
}

fn verdict(m: &mut Msg<'_>, code: i32, chain: &str) {
    expr(m, "immediate", |m| {
        be(m, 1, 0);
        m.nest(2 | NLA_F_NESTED, |m| {
            m.nest(NFTA_DATA_VERDICT | NLA_F_NESTED, |m| {
                m.attr(NFTA_VERDICT_CODE, &code.to_be_bytes());
                if !chain.is_empty() {
                    m.attr_str(NFTA_VERDICT_CHAIN, chain);
                }
            });
        });
    });
}

/// `udp dport PORT`.
fn dport(m: &mut Msg<'_>, port: u16) {
    expr(m, "meta", |m| {
        be(m, 2, NFT_META_L4PROTO);
        be(m, 1, 1);
    });
    expr(m, "cmp", |m| {
        be(m, 1, 1);
        be(m, 2, 0);
        value(m, 3, &[17]);
    });
    payload(m, 2, 2, 2);
    expr(m, "cmp", |m| {
        be(m, 1, 1);
        be(m, 2, 0);
        value(m, 3, &port.to_be_bytes());
    });
}

fn payload(m: &mut Msg<'_>, base: u32, offset: u32, len: u32) {
    expr(m, "payload", |m| {
        be(m, 1, 1);
        be(m, 2, base);
        be(m, 3, offset);
        be(m, 4, len);
    });
}

fn counter(m: &mut Msg<'_>) {
    expr(m, "counter", |_| {});
}

/// Packets of each counter, in the order of the rules.
fn counts(t: &mut Three, who: usize) -> Vec<u64> {
    let mut q = Vec::new();
    message(&mut q, nft(NFT_MSG_GETRULE), nl::NLM_F_DUMP, 0, |_| {});
    let mut out = Vec::new();
    for (_, b) in ask(t, who, &q).iter().filter(|(h, _)| h.kind == nft(NFT_MSG_NEWRULE)) {
        let list = nl::attrs(&b[4..]).find(|a| a.0 == NFTA_RULE_EXPRESSIONS).unwrap().1;
        for (_, e) in nl::attrs(list) {
            let a: Vec<_> = nl::attrs(e).collect();
            if a[0].1 == b"counter\0" {
                let n = nl::attrs(a[1].1).find(|x| x.0 == 2).unwrap().1;
                out.push(u64::from_be_bytes(n.try_into().unwrap()));
            }
        }
    }
    out
}

/// A whole ruleset: an input chain with a jump, a set of intervals, a map of verdicts, translation.
fn ruleset(b: &mut Vec<u8>) {
    table(b, NFPROTO_INET);
    chain(b, NFPROTO_INET, "in", Some((1, 0, "filter", 1)));
    chain(b, NFPROTO_INET, "sub", None);
    message(b, nft(NFT_MSG_NEWSET), nl::NLM_F_CREATE, NFPROTO_INET, |m| {
        m.attr_str(NFTA_SET_TABLE, "t").attr_str(NFTA_SET_NAME, "__set%d");
        be(m, NFTA_SET_FLAGS, NFT_SET_ANONYMOUS | NFT_SET_CONSTANT | NFT_SET_INTERVAL);
        be(m, NFTA_SET_KEY_LEN, 4);
        be(m, NFTA_SET_ID, 5);
    });
    message(b, nft(NFT_MSG_NEWSETELEM), nl::NLM_F_CREATE, NFPROTO_INET, |m| {
        m.attr_str(NFTA_SET_ELEM_LIST_TABLE, "t").attr_str(NFTA_SET_ELEM_LIST_SET, "__set%d");
        be(m, NFTA_SET_ELEM_LIST_SET_ID, 5);
        m.nest(NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED, |m| {
            // 10.0.1.0 to 10.0.1.255.
            for (key, flags) in [([0u8; 4], 1), ([10, 0, 1, 0], 0), ([10, 0, 2, 0], 1)] {
                m.nest(NFTA_LIST_ELEM | NLA_F_NESTED, |m| {
                    value(m, NFTA_SET_ELEM_KEY, &key);
                    be(m, NFTA_SET_ELEM_FLAGS, flags);
                });
            }
        });
    });
    rule(b, NFPROTO_INET, "in", |m| {
        dport(m, 7);
        counter(m);
        verdict(m, NFT_JUMP, "sub");
    });
    rule(b, NFPROTO_INET, "in", |m| {
        counter(m);
        verdict(m, NF_ACCEPT, "");
    });
    rule(b, NFPROTO_INET, "sub", |m| {
        payload(m, 1, 12, 4);
        expr(m, "lookup", |m| {
            m.attr_str(1, "__set%d");
            be(m, 2, 1);
            be(m, 4, 5);
        });
        counter(m);
        verdict(m, NF_DROP, "");
    });
}

#[test]
fn rules_jump_look_up_and_drop() {
    let mut t = Three::new();
    let b = batch(ruleset);
    assert_eq!(errno(&mut t, SERVER, &b), 0);
    let s = t.bound(SERVER, DGRAM, B, 7);
    let other = t.bound(SERVER, DGRAM, B, 8);
    let c = t.socket(CLIENT, DGRAM);
    t.send_to(CLIENT, c, b"x", B, 7).unwrap();
    t.send_to(CLIENT, c, b"y", B, 8).unwrap();
    assert!(t.recv(SERVER, s).is_err(), "dropped by the set");
    assert_eq!(t.recv(SERVER, other).unwrap().0, b"y");
    assert_eq!(counts(&mut t, SERVER), [1, 1, 1]);
    assert_eq!(t.dropped(SERVER), 1);
}

#[test]
fn batches_count_whole_or_not_at_all() {
    let mut t = Three::new();
    // A chain that does not exist: nothing of it remains.
    let b = batch(|b| {
        table(b, NFPROTO_IPV4);
        rule(b, NFPROTO_IPV4, "nowhere", counter);
    });
    assert_eq!(errno(&mut t, ROUTER, &b), Errno::ENOENT.0);
    let mut q = Vec::new();
    message(&mut q, nft(NFT_MSG_GETTABLE), nl::NLM_F_DUMP, 0, |_| {});
    assert_eq!(ask(&mut t, ROUTER, &q).len(), 1, "only the end of the dump");
    // Without an end nothing happens either.
    let mut b = batch(|b| table(b, NFPROTO_IPV4));
    b.truncate(b.len() - 20);
    assert_eq!(errno(&mut t, ROUTER, &b), 0);
    assert_eq!(ask(&mut t, ROUTER, &q).len(), 1);
    let b = batch(|b| table(b, NFPROTO_IPV4));
    assert_eq!(errno(&mut t, ROUTER, &b), 0);
    assert_eq!(ask(&mut t, ROUTER, &q).len(), 2);
    // Of another generation than the one that is.
    let mut old = Vec::new();
    message(&mut old, NFNL_MSG_BATCH_BEGIN, 0, 0, |m| be(m, NFNL_BATCH_GENID, 99));
    message(&mut old, NFNL_MSG_BATCH_END, 0, 0, |_| {});
    assert_eq!(errno(&mut t, ROUTER, &old), Errno::ERESTART.0);
}

#[test]
fn loops_wrong_places_and_strange_things_are_refused() {
    let mut t = Three::new();
    let f = NFPROTO_IPV4;
    let made = batch(|b| {
        table(b, f);
        chain(b, f, "in", Some((1, 0, "filter", 1)));
        chain(b, f, "a", None);
        chain(b, f, "b", None);
        rule(b, f, "a", |m| verdict(m, NFT_JUMP, "b"));
    });
    assert_eq!(errno(&mut t, ROUTER, &made), 0);
    let mut refused = |errno_: Errno, fill: &dyn Fn(&mut Vec<u8>)| {
        let b = batch(fill);
        assert_eq!(errno(&mut t, ROUTER, &b), errno_.0);
    };
    refused(Errno::EMLINK, &|b| rule(b, f, "b", |m| verdict(m, NFT_JUMP, "a")));
    refused(Errno::EOPNOTSUPP, &|b| rule(b, f, "a", |m| verdict(m, NFT_JUMP, "in")));
    refused(Errno::EOPNOTSUPP, &|b| rule(b, f, "in", |m| expr(m, "masq", |_| {})));
    refused(Errno::ENOENT, &|b| rule(b, f, "in", |m| expr(m, "osf", |_| {})));
    let load = |b: &mut Vec<u8>, name, attrs: &[(u16, u32)]| {
        rule(b, f, "in", |m| expr(m, name, |m| attrs.iter().for_each(|(k, v)| be(m, *k, *v))));
    };
    // Both ends, the device out where it is not known, none and too many numbers, the way out of what came in.
    refused(Errno::EINVAL, &|b| load(b, "fib", &[(1, 1), (2, 3), (3, 3)]));
    refused(Errno::EOPNOTSUPP, &|b| load(b, "fib", &[(1, 1), (2, 3), (3, 2 | 16)]));
    refused(Errno::ERANGE, &|b| load(b, "numgen", &[(1, 1), (2, 0), (3, 0)]));
    refused(Errno::EOVERFLOW, &|b| load(b, "hash", &[(2, 1), (4, 9), (6, u32::MAX), (7, 1)]));
    refused(Errno::EOPNOTSUPP, &|b| load(b, "rt", &[(1, 1), (2, 3)]));
    // A chain without a name that no rule leads to.
    refused(Errno::EINVAL, &|b| {
        message(b, nft(NFT_MSG_NEWCHAIN), nl::NLM_F_CREATE, f, |m| {
            m.attr_str(NFTA_CHAIN_TABLE, "t");
            be(m, NFTA_CHAIN_FLAGS, NFT_CHAIN_BINDING);
            be(m, NFTA_CHAIN_ID, 7);
        });
    });
    refused(Errno::EINVAL, &|b| rule(b, f, "in", |m| expr(m, "quota", |_| {})));
    refused(Errno::EINVAL, &|b| rule(b, f, "in", |m| expr(m, "cmp", |_| {})));
    refused(Errno::EOPNOTSUPP, &|b| chain(b, f, "x", Some((7, 0, "filter", 1))));
    refused(Errno::ENOENT, &|b| chain(b, f, "x", Some((1, 0, "bogus", 1))));
    refused(Errno::EOPNOTSUPP, &|b| chain(b, f, "x", Some((2, 0, "nat", 1))));
    refused(Errno::EBUSY, &|b| {
        message(b, nft(NFT_MSG_DELCHAIN), 0, f, |m| {
            m.attr_str(NFTA_CHAIN_TABLE, "t").attr_str(NFTA_CHAIN_NAME, "b");
        });
    });
    refused(Errno::EOPNOTSUPP, &|b| table(b, 12));
}

/// A chain without a name that is older than the one it is called from: when it goes with its rule, the rules of others stay.
#[test]
fn a_chain_without_a_name_takes_no_others_rules_with_it() {
    let mut t = Three::new();
    let f = NFPROTO_IPV4;
    let made = batch(|b| {
        table(b, f);
        message(b, nft(NFT_MSG_NEWCHAIN), nl::NLM_F_CREATE, f, |m| {
            m.attr_str(NFTA_CHAIN_TABLE, "t");
            be(m, NFTA_CHAIN_FLAGS, NFT_CHAIN_BINDING);
            be(m, NFTA_CHAIN_ID, 7);
        });
        chain(b, f, "a", None);
        chain(b, f, "b", None);
        rule(b, f, "a", |m| expr(m, "counter", |_| {}));
        rule(b, f, "a", |m| {
            expr(m, "immediate", |m| {
                be(m, 1, 0);
                m.nest(2 | NLA_F_NESTED, |m| {
                    m.nest(NFTA_DATA_VERDICT | NLA_F_NESTED, |m| {
                        be(m, NFTA_VERDICT_CODE, NFT_JUMP as u32);
                        be(m, NFTA_VERDICT_CHAIN_ID, 7);
                    });
                });
            });
        });
        rule(b, f, "b", |m| expr(m, "counter", |_| {}));
    });
    assert_eq!(errno(&mut t, ROUTER, &made), 0);
    let count = |t: &mut Three, kind| {
        let mut q = Vec::new();
        message(&mut q, nft(kind), nl::NLM_F_DUMP, f, |_| {});
        // Without the end of the dump.
        ask(t, ROUTER, &q).len() - 1
    };
    assert_eq!((count(&mut t, NFT_MSG_GETCHAIN), count(&mut t, NFT_MSG_GETRULE)), (3, 3));
    let flush = batch(|b| {
        message(b, nft(NFT_MSG_DELRULE), 0, f, |m| {
            m.attr_str(NFTA_RULE_TABLE, "t").attr_str(NFTA_RULE_CHAIN, "a");
        });
    });
    assert_eq!(errno(&mut t, ROUTER, &flush), 0);
    assert_eq!((count(&mut t, NFT_MSG_GETCHAIN), count(&mut t, NFT_MSG_GETRULE)), (2, 1));
    let b = batch(|b| {
        message(b, nft(NFT_MSG_DELRULE), 0, f, |m| {
            m.attr_str(NFTA_RULE_TABLE, "t").attr_str(NFTA_RULE_CHAIN, "b");
        });
    });
    assert_eq!(errno(&mut t, ROUTER, &b), 0);
    assert_eq!(count(&mut t, NFT_MSG_GETRULE), 0, "the rule that was left is b's");
}

#[test]
fn translation_and_priorities_beside_iptables() {
    let mut t = Three::new();
    let f = NFPROTO_IPV4;
    // The router sends port 7 of its own on to the server.
    let b = batch(|b| {
        table(b, f);
        chain(b, f, "pre", Some((0, -100, "nat", 1)));
        chain(b, f, "post", Some((4, 100, "nat", 1)));
        chain(b, f, "early", Some((2, -1, "filter", 1)));
        chain(b, f, "late", Some((2, 1, "filter", 1)));
        rule(b, f, "pre", |m| {
            dport(m, 70);
            expr(m, "immediate", |m| {
                be(m, 1, 1);
                value(m, 2, &B.octets());
            });
            expr(m, "immediate", |m| {
                be(m, 1, 2);
                value(m, 2, &7u16.to_be_bytes());
            });
            expr(m, "nat", |m| {
                be(m, 1, 1);
                be(m, 2, f.into());
                be(m, 3, 1);
                be(m, 5, 2);
            });
        });
        rule(b, f, "post", |m| expr(m, "masq", |_| {}));
        rule(b, f, "early", counter);
        rule(b, f, "late", counter);
    });
    assert_eq!(errno(&mut t, ROUTER, &b), 0);
    let s = t.bound(SERVER, DGRAM, B, 7);
    let c = t.bound(CLIENT, DGRAM, A, 5000);
    t.send_to(CLIENT, c, b"hello", R1, 70).unwrap();
    let (data, from) = t.recv(SERVER, s).unwrap();
    assert_eq!((&data[..], from.to_ip().unwrap().0), (&b"hello"[..], core::net::IpAddr::V4(R2)));
    t.send_to(SERVER, s, b"back", R2, from.to_ip().unwrap().1).unwrap();
    let (data, from) = t.recv(CLIENT, c).unwrap();
    assert_eq!((&data[..], from.to_ip().unwrap()), (&b"back"[..], (R1.into(), 70)));
    assert_eq!(counts(&mut t, ROUTER), [2, 2]);
    // What iptables drops at 0 has been at -1 and does not come to 1.
    t.iptables(ROUTER, "-A FORWARD -j DROP");
    t.send_to(CLIENT, c, b"no", R1, 70).unwrap();
    assert_eq!(counts(&mut t, ROUTER), [3, 2]);
}

#[test]
fn connections_are_told_asked_for_and_deleted() {
    let mut t = Three::new();
    let ns = t.ns[ROUTER];
    t.iptables(ROUTER, "-A FORWARD -m conntrack --ctstate NEW");
    let groups = 1 << NFNLGRP_CONNTRACK_NEW | 1 << NFNLGRP_CONNTRACK_UPDATE | 1 << NFNLGRP_CONNTRACK_DESTROY;
    t.k[ROUTER].net.nl_listen(ns, nl::NETLINK_NETFILTER, groups);
    let s = t.bound(SERVER, DGRAM, B, 7);
    let c = t.bound(CLIENT, DGRAM, A, 5000);
    t.send_to(CLIENT, c, b"x", B, 7).unwrap();
    let (_, from) = t.recv(SERVER, s).unwrap();
    t.send_to(SERVER, s, b"y", A, from.to_ip().unwrap().1).unwrap();
    let kind = |m: u8| u16::from(NFNL_SUBSYS_CTNETLINK) << 8 | u16::from(m);
    let mut q = Vec::new();
    message(&mut q, kind(IPCTNL_MSG_CT_GET), nl::NLM_F_DUMP, AF_INET as u8, |_| {});
    let all = ask(&mut t, ROUTER, &q);
    assert_eq!(all.len(), 2);
    let tuple = nl::attrs(&all[0].1[4..]).find(|a| a.0 == CTA_TUPLE_ORIG).unwrap().1.to_vec();
    let mut d = Vec::new();
    message(&mut d, kind(IPCTNL_MSG_CT_DELETE), nl::NLM_F_ACK, AF_INET as u8, |m| {
        m.attr(CTA_TUPLE_ORIG | NLA_F_NESTED, &tuple);
    });
    assert_eq!(errno(&mut t, ROUTER, &d), 0);
    assert_eq!(errno(&mut t, ROUTER, &d), Errno::ENOENT.0);
    let net = &mut t.k[ROUTER].net;
    let told: Vec<u32> = std::iter::from_fn(|| net.pop_notice()).map(|n| n.group).collect();
    assert_eq!(told, [NFNLGRP_CONNTRACK_NEW, NFNLGRP_CONNTRACK_UPDATE, NFNLGRP_CONNTRACK_DESTROY]);
}

/// Every byte of a good batch changed, and the batch cut everywhere: errors, and then packets that still find their way.
#[test]
fn broken_messages_break_nothing() {
    let good = batch(ruleset);
    let mut t = Three::new();
    let (s, c) = (t.bound(SERVER, DGRAM, B, 9), t.socket(CLIENT, DGRAM));
    let mut q = Vec::new();
    for m in [NFT_MSG_GETTABLE, NFT_MSG_GETCHAIN, NFT_MSG_GETRULE, NFT_MSG_GETSET] {
        message(&mut q, nft(m), nl::NLM_F_DUMP, 0, |_| {});
    }
    for at in 0..good.len() {
        for change in [1u8, 0x80, 0xff] {
            let mut b = good.clone();
            b[at] ^= change;
            ask(&mut t, SERVER, &b);
        }
        ask(&mut t, SERVER, &good[..at]);
        if at % 64 == 0 {
            ask(&mut t, SERVER, &q);
            t.send_to(CLIENT, c, b"z", B, 9).unwrap();
            t.recv(SERVER, s).ok();
            // From the beginning, so that what grows does not grow on.
            let b = batch(|b| message(b, nft(NFT_MSG_DELTABLE), 0, 0, |_| {}));
            assert_eq!(errno(&mut t, SERVER, &b), 0);
        }
    }
}

fn set(b: &mut Vec<u8>, name: &str, flags: u32, size: u32, seconds: u64) {
    message(b, nft(NFT_MSG_NEWSET), nl::NLM_F_CREATE, NFPROTO_INET, |m| {
        m.attr_str(NFTA_SET_TABLE, "t").attr_str(NFTA_SET_NAME, name);
        be(m, NFTA_SET_FLAGS, flags);
        be(m, NFTA_SET_KEY_LEN, 2);
        be(m, NFTA_SET_ID, 5);
        if seconds != 0 {
            m.attr(NFTA_SET_TIMEOUT, &(seconds * 1000).to_be_bytes());
        }
        m.nest(NFTA_SET_DESC | NLA_F_NESTED, |m| be(m, NFTA_SET_DESC_SIZE, size));
    });
}

/// A set of ports that packets fill for five seconds each, two of them at most, and what is in it already; a quota with a name.
fn keepers(b: &mut Vec<u8>) {
    table(b, NFPROTO_INET);
    chain(b, NFPROTO_INET, "in", Some((1, 0, "filter", 1)));
    set(b, "dyn", NFT_SET_TIMEOUT | NFT_SET_EVAL, 2, 5);
    message(b, nft(NFT_MSG_NEWOBJ), nl::NLM_F_CREATE, NFPROTO_INET, |m| {
        m.attr_str(NFTA_OBJ_TABLE, "t").attr_str(NFTA_OBJ_NAME, "q");
        be(m, NFTA_OBJ_TYPE, NFT_OBJECT_QUOTA);
        m.nest(NFTA_OBJ_DATA | NLA_F_NESTED, |m| {
            m.attr(NFTA_QUOTA_BYTES, &60u64.to_be_bytes());
            be(m, NFTA_QUOTA_FLAGS, NFT_QUOTA_F_INV);
        });
    });
    rule(b, NFPROTO_INET, "in", |m| {
        payload(m, 2, 2, 2);
        expr(m, "dynset", |m| {
            m.attr_str(NFTA_DYNSET_SET_NAME, "dyn");
            be(m, NFTA_DYNSET_SREG_KEY, 1);
            be(m, NFTA_DYNSET_OP, 0);
        });
        counter(m);
    });
    rule(b, NFPROTO_INET, "in", |m| {
        expr(m, "objref", |m| {
            m.attr_str(NFTA_OBJREF_IMM_NAME, "q");
            be(m, NFTA_OBJREF_IMM_TYPE, NFT_OBJECT_QUOTA);
        });
        counter(m);
    });
}

/// Elements of the sets of a table.
fn elements(t: &mut Three, set: &str) -> usize {
    let mut q = Vec::new();
    message(&mut q, nft(NFT_MSG_GETSETELEM), nl::NLM_F_DUMP, NFPROTO_INET, |m| {
        m.attr_str(NFTA_SET_ELEM_LIST_TABLE, "t").attr_str(NFTA_SET_ELEM_LIST_SET, set);
    });
    let all = ask(t, SERVER, &q);
    let lists = all.iter().filter(|(h, _)| h.kind == nft(NFT_MSG_NEWSETELEM)).filter_map(|(_, b)| {
        nl::attrs(&b[4..]).find(|a| a.0 == NFTA_SET_ELEM_LIST_ELEMENTS).map(|a| nl::attrs(a.1).count())
    });
    lists.sum()
}

#[test]
fn packets_fill_sets_that_time_empties() {
    let mut t = Three::new();
    assert_eq!(errno(&mut t, SERVER, &batch(keepers)), 0);
    let c = t.socket(CLIENT, DGRAM);
    for port in [7, 7, 8, 9] {
        t.send_to(CLIENT, c, b"xx", B, port).unwrap();
        t.settle();
    }
    // The third port found no room. Of four packets of 30 bytes the second made the quota full.
    assert_eq!((elements(&mut t, "dyn"), counts(&mut t, SERVER)), (2, vec![3, 3]));
    t.sleep(6001);
    assert_eq!(elements(&mut t, "dyn"), 0);
    t.send_to(CLIENT, c, b"xx", B, 9).unwrap();
    t.settle();
    assert_eq!(elements(&mut t, "dyn"), 1);
    let gone = batch(|b| {
        message(b, nft(NFT_MSG_DELOBJ), 0, NFPROTO_INET, |m| {
            m.attr_str(NFTA_OBJ_TABLE, "t").attr_str(NFTA_OBJ_NAME, "q");
            be(m, NFTA_OBJ_TYPE, NFT_OBJECT_QUOTA);
        });
    });
    assert_eq!(errno(&mut t, SERVER, &gone), Errno::EBUSY.0);
}

/// A chain at a device; `number`: 0 of what comes in, 1 of what goes out.
fn at_device(b: &mut Vec<u8>, name: &str, number: u32, device: &str) {
    message(b, nft(NFT_MSG_NEWCHAIN), nl::NLM_F_CREATE, NFPROTO_NETDEV, |m| {
        m.attr_str(NFTA_CHAIN_TABLE, "t").attr_str(NFTA_CHAIN_NAME, name);
        m.nest(NFTA_CHAIN_HOOK | NLA_F_NESTED, |m| {
            be(m, NFTA_HOOK_HOOKNUM, number);
            be(m, NFTA_HOOK_PRIORITY, 0);
            if !device.is_empty() {
                m.attr_str(NFTA_HOOK_DEV, device);
            }
        });
        m.attr_str(NFTA_CHAIN_TYPE, "filter");
    });
}

fn devices(b: &mut Vec<u8>) {
    table(b, NFPROTO_NETDEV);
    at_device(b, "come", 0, "eth0");
    at_device(b, "go", 1, "eth0");
    at_device(b, "later", 0, "renamed");
    for (name, port) in [("come", 7), ("go", 8), ("later", 9)] {
        rule(b, NFPROTO_NETDEV, name, |m| {
            dport(m, port);
            counter(m);
            verdict(m, NF_DROP, "");
        });
    }
}

#[test]
fn chains_at_devices_see_frames() {
    let mut t = Three::new();
    assert_eq!(errno(&mut t, SERVER, &batch(devices)), 0);
    assert_eq!(errno(&mut t, SERVER, &batch(|b| at_device(b, "x", 0, ""))), Errno::EINVAL.0);
    assert_eq!(errno(&mut t, SERVER, &batch(|b| at_device(b, "x", 2, "eth0"))), Errno::EOPNOTSUPP.0);
    let ct = batch(|b| {
        rule(b, NFPROTO_NETDEV, "come", |m| {
            expr(m, "ct", |m| {
                be(m, 2, NFT_CT_STATE);
                be(m, 1, 1);
            });
        });
    });
    assert_eq!(errno(&mut t, SERVER, &ct), Errno::EPROTO.0);
    let (c, s) = (t.socket(CLIENT, DGRAM), t.socket(SERVER, DGRAM));
    let at: Vec<_> = [7, 9].map(|p| t.bound(SERVER, DGRAM, B, p)).to_vec();
    t.send_to(CLIENT, c, b"x", B, 7).unwrap();
    t.send_to(CLIENT, c, b"x", B, 9).unwrap();
    t.settle();
    assert_eq!(t.recv(SERVER, at[0]).err(), Some(Errno::EAGAIN));
    assert!(t.recv(SERVER, at[1]).is_ok());
    // What is dropped on its way out is as if the queue had been full, which UDP does not tell.
    t.send_to(SERVER, s, b"x", A, 8).unwrap();
    t.settle();
    assert_eq!(counts(&mut t, SERVER), [1, 1, 0]);
    assert_eq!(t.dropped(SERVER), 2);
    // A chain stands at every device that gets its name.
    let dev = t.dev[3];
    t.k[SERVER].net.rename(dev, "renamed").unwrap();
    t.send_to(CLIENT, c, b"x", B, 9).unwrap();
    t.send_to(CLIENT, c, b"x", B, 7).unwrap();
    t.settle();
    assert_eq!(counts(&mut t, SERVER), [1, 1, 1]);
    assert!(t.recv(SERVER, at[0]).is_ok());
}

#[test]
fn broken_keepers_and_devices_break_nothing() {
    for good in [batch(keepers), batch(devices)] {
        let mut t = Three::new();
        let c = t.socket(CLIENT, DGRAM);
        for at in 0..good.len() {
            for change in [1u8, 0x80, 0xff] {
                let mut b = good.clone();
                b[at] ^= change;
                ask(&mut t, SERVER, &b);
            }
            if at % 32 == 0 {
                t.send_to(CLIENT, c, b"z", B, 9).unwrap();
                t.settle();
                let b = batch(|b| message(b, nft(NFT_MSG_DELTABLE), 0, 0, |_| {}));
                assert_eq!(errno(&mut t, SERVER, &b), 0);
            }
        }
    }
}

/// A rule of `iptables-nft` is told by the words of its target, one of nft by what it does.
#[test]
fn what_rules_do_is_told() {
    use belljar_kernel::env::trace::{Event, Wanted};
    let mut t = Three::new();
    let rules = batch(|b| {
        table(b, NFPROTO_IPV4);
        chain(b, NFPROTO_IPV4, "post", Some((4, 100, "nat", 1)));
        chain(b, NFPROTO_IPV4, "pre", Some((0, -100, "nat", 1)));
        rule(b, NFPROTO_IPV4, "post", |m| {
            expr(m, "target", |m| {
                m.attr_str(1, "NFLOG");
                be(m, 2, 0);
                let mut info = [0; 80];
                info[4] = 2;
                m.attr(3, &info);
            });
        });
        rule(b, NFPROTO_IPV4, "pre", |m| {
            dport(m, 53);
            expr(m, "redir", |_| {});
        });
    });
    assert_eq!(errno(&mut t, ROUTER, &rules), 0);
    t.k[ROUTER].net.env.trace.wanted = Wanted { stages: true, ..Wanted::default() };
    let c = t.socket(CLIENT, DGRAM);
    t.send_to(CLIENT, c, b"x", B, 9).unwrap();
    t.send_to(CLIENT, c, b"x", B, 53).unwrap();
    t.settle();
    let mut told = Vec::new();
    while let Some(r) = t.k[ROUTER].net.env.trace.pop() {
        if let Event::Rule { hit, .. } = r.event {
            told.push(format!("{} {} {}", hit.chain, hit.number, hit.says));
        }
    }
    assert!(told.contains(&"post 1 -j NFLOG --nflog-group 2".to_owned()), "{told:?}");
    assert!(told.contains(&"pre 1 redirect".to_owned()), "{told:?}");
}
