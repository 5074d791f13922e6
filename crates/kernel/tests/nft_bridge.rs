//! Lines that rules of the family bridge write, tags as they see them; what rules know of sockets.
mod world;

use belljar_abi::Errno;
use belljar_abi::netlink::{ErrorForm, Msg, NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST};
use belljar_abi::nf_tables::*;
use belljar_abi::nfnetlink::*;
use belljar_kernel::env::trace::Dir;
use belljar_kernel::net::netlink::Caller;
use belljar_wire::Mac;
use world::*;

const ONE: Mac = Mac([2, 0, 0, 0, 0, 2]);
const TWO: Mac = Mac([2, 0, 0, 0, 0, 3]);

fn be(kind: u16, v: u32) -> Attr {
    (kind, v.to_be_bytes().to_vec())
}

fn text(kind: u16, s: &str) -> Attr {
    (kind, [s.as_bytes(), b"\0"].concat())
}

fn nested(kind: u16, inside: &[Attr]) -> Attr {
    let (_, v) = nest(kind, inside);
    (kind | 0x8000, v)
}

fn expr(name: &str, data: &[Attr]) -> Attr {
    nested(NFTA_LIST_ELEM, &[text(NFTA_EXPR_NAME, name), nested(NFTA_EXPR_DATA, data)])
}

/// A table of the family with one chain at a hook, and a rule in it.
fn rule(w: &mut World, hook: u32, exprs: &[Attr]) {
    assert_eq!(add(w, NFPROTO_BRIDGE, hook, exprs), []);
}

/// The errors of the messages.
fn add(w: &mut World, family: u8, hook: u32, exprs: &[Attr]) -> Vec<i32> {
    let mut all = Vec::new();
    let mut put = |kind: u16, family: u8, attrs: &[Attr]| {
        let seq = 1 + all.len() as u32;
        let mut m = Msg::new(&mut all, kind, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | 0x800, seq, 0);
        let of = if family == 0 { NFNL_SUBSYS_NFTABLES as u16 } else { 0 };
        m.body(&[[family, 0].as_slice(), &of.to_be_bytes()].concat());
        for (k, v) in attrs {
            m.attr(*k, v);
        }
    };
    let nft = |m: u8| u16::from(NFNL_SUBSYS_NFTABLES) << 8 | u16::from(m);
    put(NFNL_MSG_BATCH_BEGIN, 0, &[]);
    put(nft(NFT_MSG_NEWTABLE), family, &[text(NFTA_TABLE_NAME, "t")]);
    let at = [be(NFTA_HOOK_HOOKNUM, hook), be(NFTA_HOOK_PRIORITY, 0)];
    let chain = [text(NFTA_CHAIN_TABLE, "t"), text(NFTA_CHAIN_NAME, "c"), nested(NFTA_CHAIN_HOOK, &at)];
    put(nft(NFT_MSG_NEWCHAIN), family, &[&chain[..], &[text(NFTA_CHAIN_TYPE, "filter")]].concat());
    let names = [text(NFTA_RULE_TABLE, "t"), text(NFTA_RULE_CHAIN, "c")];
    put(nft(NFT_MSG_NEWRULE), family, &[&names[..], &[nested(NFTA_RULE_EXPRESSIONS, exprs)]].concat());
    put(NFNL_MSG_BATCH_END, 0, &[]);
    let ns = w.ns(0);
    let c = Caller {
        ns,
        port: 5,
        uid: 0,
        process: (1, ""),
        net_admin: true,
        strict: false,
        form: ErrorForm { ext_ack: true, cap_ack: true },
        netns: &[],
    };
    let answers = w.k.nfnetlink(w.now, &c, &all).concat();
    let errors = belljar_abi::netlink::messages(&answers).map(|(_, b)| -i32::from_ne_bytes(*b.first_chunk().unwrap()));
    errors.filter(|e| *e != 0).collect()
}

fn switch() -> World {
    let mut w = World::new(3);
    assert_eq!(w.add(0, "br0", "bridge", &[], &[]).0, 0);
    w.up(0, "br0");
    for (n, mac) in [(1, ONE), (2, TWO)] {
        let port = format!("p{n}");
        w.veth((0, &port), (n, "e"));
        let e = w.dev(n, "e");
        w.k.net.set_mac(e, mac).unwrap();
        w.master(0, &port, "br0");
        w.up(0, &port);
        w.up(n, "e");
        w.addr(n, "e", [10, 0, 0, n as u8]);
    }
    assert!(w.reaches(1, 2, [10, 0, 0, 2]));
    w
}

fn arp(op: u16) -> Vec<u8> {
    let mut f = [TWO.0.as_slice(), &ONE.0, &[8, 6, 0, 1, 8, 0, 6, 4]].concat();
    f.extend(op.to_be_bytes());
    f.extend([ONE.0.as_slice(), &[10, 0, 0, 1], &TWO.0, &[10, 0, 0, 2]].concat());
    f
}

#[test]
fn lines_of_frames() {
    let mut w = switch();
    rule(&mut w, 2, &[expr("log", &[text(2, "x "), be(6, 0x20)])]);
    let line = |w: &World| w.k.net.kmsg.lines().last().unwrap().1.clone();
    w.inject(1, "e", &arp(2));
    assert_eq!(
        line(&w),
        "x IN=p1 OUT=p2 ARP HTYPE=1 PTYPE=0x0800 OPCODE=2 \
         MACSRC=02:00:00:00:00:02 IPSRC=10.0.0.1 MACDST=02:00:00:00:00:03 IPDST=10.0.0.2"
    );
    let mut other = [TWO.0.as_slice(), &ONE.0, &[0x88, 0xb5]].concat();
    other.extend([0; 46]);
    w.inject(1, "e", &other);
    let macs = "MACSRC=02:00:00:00:00:02 MACDST=02:00:00:00:00:03 MACPROTO=88b5 ";
    assert_eq!(line(&w), format!("x IN=p1 OUT=p2 {macs}"));
    other.splice(12..12, [0x81, 0, 0x20, 7]);
    w.inject(1, "e", &other);
    assert_eq!(line(&w), format!("x IN=p1 OUT=p2 VPROTO=8100 VID=8199 {macs}"));
    assert!(w.reaches(1, 2, [10, 0, 0, 2]));
    assert!(line(&w).contains("MACPROTO=0800 SRC=10.0.0.1 DST=10.0.0.2 LEN=44"), "{}", line(&w));
}

/// `vlan id 7 vlan id set 9`, where the tag is no longer among the bytes.
#[test]
fn tags_are_read_and_written_where_they_were() {
    let mut w = switch();
    let load = |offset: u32| expr("payload", &[be(1, 1), be(2, 0), be(3, offset), be(4, 2)]);
    let is = |v: [u8; 2]| expr("cmp", &[be(1, 1), be(2, 0), nested(3, &[(1, v.to_vec())])]);
    let set = expr("immediate", &[be(1, 1), nested(2, &[(1, vec![0, 9])])]);
    let store = expr("payload", &[be(5, 1), be(2, 0), be(3, 14), be(4, 2), be(6, 0), be(7, 0)]);
    rule(&mut w, 0, &[load(12), is([0x81, 0]), load(14), is([0, 7]), load(16), is([0x88, 0xb5]), set, store]);
    let mut f = [TWO.0.as_slice(), &ONE.0, &[0x81, 0, 0, 7, 0x88, 0xb5]].concat();
    f.extend([0; 46]);
    w.watch();
    w.inject(1, "e", &f);
    f[15] = 9;
    assert_eq!(w.frames(0, "p2", Dir::Out), [f.clone()]);
    f[15] = 8;
    w.watch();
    w.inject(1, "e", &f);
    assert_eq!(w.frames(0, "p2", Dir::Out), [f]);
}

#[test]
fn what_is_dropped_is_counted() {
    let mut w = switch();
    let drop = nested(2, &[nested(2, &[be(1, 0)])]);
    rule(&mut w, 4, &[expr("immediate", &[be(1, 0), drop])]);
    w.watch();
    w.inject(1, "e", &arp(2));
    assert_eq!(w.drops().last(), Some(&("NETFILTER_DROP", "nf_hook_slow")));
}

/// `socket wildcard 1 drop`: what is for a socket that is bound to every address.
#[test]
fn rules_know_the_socket_that_a_packet_is_for() {
    let mut w = switch();
    let exprs = [
        expr("socket", &[be(NFTA_SOCKET_KEY, NFT_SOCKET_WILDCARD), be(NFTA_SOCKET_DREG, 1)]),
        expr("cmp", &[be(1, 1), be(2, 0), nested(3, &[(1, vec![1])])]),
        expr("immediate", &[be(1, 0), nested(2, &[nested(2, &[be(1, 0)])])]),
    ];
    w.addr(0, "br0", [10, 0, 0, 9]);
    assert!(w.reaches(1, 0, [10, 0, 0, 9]));
    assert_eq!(add(&mut w, NFPROTO_BRIDGE, 1, &exprs), [Errno::EOPNOTSUPP.0]);
    for hook in [2, 3, 4] {
        assert_eq!(add(&mut w, NFPROTO_IPV4, hook, &exprs), [Errno::EOPNOTSUPP.0], "{hook}");
    }
    assert_eq!(add(&mut w, NFPROTO_IPV4, 1, &exprs), []);
    w.watch();
    assert!(!w.reaches(1, 0, [10, 0, 0, 9]));
    assert_eq!(w.drops().last(), Some(&("NETFILTER_DROP", "nf_hook_slow")));
    // Nobody listens: the rule says nothing, and the sender hears of it.
    let a = w.udp(1, 0);
    w.send(1, a, b"x", [10, 0, 0, 9], 9).unwrap();
    assert_eq!(w.drops().last(), Some(&("NO_SOCKET", "udp_rcv")));
}
