//! nfnetlink_log: groups, whose they are, and what their readers are shown.
mod three;
use belljar_abi::netlink::{self as nl, ErrorForm, Msg};
use belljar_abi::nfnetlink::*;
use belljar_abi::*;
use belljar_kernel::net::netlink::Caller;
use three::*;

const DGRAM: i32 = SOCK_DGRAM | SOCK_NONBLOCK;

/// A request about a group of the router's, and its errno.
fn config(t: &mut Three, port: u32, group: u16, attrs: &[(u16, &[u8])]) -> i32 {
    let mut b = Vec::new();
    let kind = u16::from(NFNL_SUBSYS_ULOG) << 8 | u16::from(NFULNL_MSG_CONFIG);
    let mut m = Msg::new(&mut b, kind, nl::NLM_F_REQUEST | nl::NLM_F_ACK, 9, 0);
    m.body(&nfgenmsg(0, group));
    for (k, v) in attrs {
        m.attr(*k, v);
    }
    let c = Caller {
        ns: t.ns[ROUTER],
        port,
        uid: 0,
        process: (4711, "ulogd"),
        net_admin: true,
        strict: true,
        form: ErrorForm::default(),
        netns: &[],
    };
    let out = t.k[ROUTER].nfnetlink(t.now, &c, &b).concat();
    let (_, body) = nl::messages(&out).next().unwrap();
    -i32::from_ne_bytes(*body.first_chunk().unwrap())
}

const BIND: (u16, &[u8]) = (NFULA_CFG_CMD, &[NFULNL_CFG_CMD_BIND]);
const UNBIND: (u16, &[u8]) = (NFULA_CFG_CMD, &[NFULNL_CFG_CMD_UNBIND]);

/// Datagrams for a port: of each the messages' prefixes and payloads, and whether DONE ends it.
fn shown(t: &mut Three, port: u32) -> Vec<(Vec<(String, usize)>, bool)> {
    let net = &mut t.k[ROUTER].net;
    let mine = std::iter::from_fn(|| net.pop_notice()).filter(|n| n.port == port);
    mine.map(|n| {
        let all: Vec<_> = nl::messages(&n.bytes).collect();
        let done = all.last().is_some_and(|(h, _)| h.kind == nl::NLMSG_DONE);
        let packets = all.iter().filter(|(h, _)| h.kind != nl::NLMSG_DONE).map(|(_, b)| {
            let get = |kind| nl::attrs(&b[NFGENMSG_LEN..]).find(|(k, _)| *k == kind).map(|a| a.1);
            let prefix = String::from_utf8(get(NFULA_PREFIX).unwrap().to_vec()).unwrap();
            (prefix.trim_end_matches('\0').to_owned(), get(NFULA_PAYLOAD).map_or(0, <[u8]>::len))
        });
        (packets.collect(), done)
    })
    .collect()
}

fn packet(t: &mut Three, len: usize) {
    let c = t.socket(CLIENT, DGRAM);
    t.send_to(CLIENT, c, &vec![7; len], B, 9).unwrap();
    t.settle();
}

#[test]
fn a_group_belongs_to_one_socket() {
    let mut t = Three::new();
    let number = 1u32.to_be_bytes();
    assert_eq!(config(&mut t, 7, 5, &[(NFULA_CFG_QTHRESH, &number)]), Errno::ENODEV.0);
    assert_eq!(config(&mut t, 7, 5, &[UNBIND]), Errno::ENODEV.0);
    assert_eq!(config(&mut t, 7, 5, &[BIND]), 0);
    assert_eq!(config(&mut t, 7, 5, &[BIND]), Errno::EBUSY.0);
    assert_eq!(config(&mut t, 8, 5, &[BIND]), Errno::EPERM.0);
    assert_eq!(config(&mut t, 7, 5, &[(NFULA_CFG_QTHRESH, &[0])]), Errno::ERANGE.0);
    assert_eq!(config(&mut t, 7, 5, &[(NFULA_CFG_FLAGS, &4u16.to_be_bytes())]), Errno::EOPNOTSUPP.0);
    assert_eq!(config(&mut t, 7, 5, &[(NFULA_CFG_CMD, &[9])]), Errno::ENOTSUPP.0);
    let (ns, k) = (t.ns[ROUTER], &t.k[ROUTER]);
    let text = k.proc_text(ns, "/proc/net/netfilter/nfnetlink_log").unwrap();
    assert_eq!(text, "    5      7     0 2 65531    100  1\n");
    t.k[ROUTER].net.nflog_release(ns, 7);
    assert_eq!(config(&mut t, 8, 5, &[BIND]), 0, "its socket was closed");
}

#[test]
fn packets_wait_for_each_other() {
    let mut t = Three::new();
    t.iptables(ROUTER, "-A FORWARD -p udp -j NFLOG --nflog-group 5 --nflog-prefix seen --nflog-size 40");
    packet(&mut t, 100);
    assert_eq!(config(&mut t, 7, 5, &[BIND]), 0);
    assert_eq!(shown(&mut t, 7), [], "nobody was there");
    packet(&mut t, 100);
    packet(&mut t, 2);
    assert_eq!(shown(&mut t, 7), []);
    t.sleep(1100);
    let one = ("seen".to_owned(), 40);
    let two = ("seen".to_owned(), 30);
    assert_eq!(shown(&mut t, 7), [(vec![one.clone(), two.clone()], true)]);
    // A program may want each of them, or no more than that there was one.
    assert_eq!(config(&mut t, 7, 5, &[(NFULA_CFG_QTHRESH, &1u32.to_be_bytes())]), 0);
    packet(&mut t, 2);
    assert_eq!(shown(&mut t, 7), [(vec![two], false)]);
    assert_eq!(config(&mut t, 7, 5, &[(NFULA_CFG_MODE, &[0, 0, 0, 0, NFULNL_COPY_META, 0])]), 0);
    packet(&mut t, 2);
    assert_eq!(shown(&mut t, 7), [(vec![("seen".to_owned(), 0)], false)]);
    // What waits when a group ends is shown first.
    let later = [(NFULA_CFG_QTHRESH, &10u32.to_be_bytes()[..])];
    assert_eq!(config(&mut t, 7, 5, &later), 0);
    packet(&mut t, 2);
    assert_eq!(config(&mut t, 7, 5, &[UNBIND]), 0);
    assert_eq!(shown(&mut t, 7).len(), 1);
    packet(&mut t, 2);
    t.sleep(1100);
    assert_eq!(shown(&mut t, 7), []);
}
