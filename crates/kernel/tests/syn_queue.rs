//! The handshake seen from the wire: what is stored, what is dropped, cookies, timers, and who may break it.
mod common;
mod peer;
use belljar_abi::*;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::task::call::Fd;
use belljar_wire::tcp::{Flags, TcpOptions};
use common::*;
use peer::*;

const SYN_ACK: Flags = Flags(0x12);
const RST_ACK: Flags = Flags(0x14);

fn host() -> Host {
    let mut h = Host::new();
    h.know_peer();
    h
}

/// Sends `n` SYNs from different ports; how many were answered.
fn flood(h: &mut Host, n: u16) -> usize {
    (0..n).map(|i| h.tcp(syn(2000 + i)).len()).sum()
}

#[test]
fn the_answer_has_linuxs_window_scale_and_options_and_no_more_than_was_offered() {
    let mut h = host();
    h.listener(8);
    let a = &h.tcp(syn(2000).with(full(77)))[0];
    assert_eq!((a.flags, a.ack, a.window), (SYN_ACK, ISN + 1, 65_160));
    let o = a.options;
    assert_eq!((o.mss, o.wscale, o.sack_ok, o.ts.unwrap().1), (Some(1460), Some(10), true, 77));
    let bare = &h.tcp(syn(2001))[0];
    assert_eq!((bare.options, bare.window), (TcpOptions { mss: Some(1460), ..TcpOptions::default() }, 64_240));
    let some = TcpOptions { mss: Some(1460), sack_ok: true, ..TcpOptions::default() };
    assert_eq!(h.tcp(syn(2002).with(some))[0].options, some);
}

#[test]
fn without_cookies_the_backlog_and_one_more_are_stored() {
    for backlog in [1, 2, 4, 8, 16, 32] {
        let mut h = host();
        h.sysctl("net.ipv4.tcp_syncookies", "0");
        h.listener(backlog);
        assert_eq!(flood(&mut h, 60), backlog as usize + 1);
        let dropped = 60 - (backlog as u64 + 1);
        assert_eq!(h.counter(Mib::TcpExtTCPReqQFullDrop), dropped);
        assert_eq!(h.counter(Mib::TcpExtListenDrops), dropped);
        assert_eq!((h.counter(Mib::TcpExtListenOverflows), h.queues()), (0, (backlog as u32 + 1, 0)));
    }
}

#[test]
fn with_cookies_all_are_answered_and_only_the_backlog_is_stored() {
    for (mode, stored) in [("1", 9), ("2", 0)] {
        let mut h = host();
        h.sysctl("net.ipv4.tcp_syncookies", mode);
        h.sysctl("net.ipv4.tcp_max_syn_backlog", "4");
        h.listener(8);
        assert_eq!(flood(&mut h, 60), 60);
        assert_eq!(h.queues().0, stored);
        assert_eq!(h.counter(Mib::TcpExtSyncookiesSent), 60 - u64::from(stored));
        assert_eq!(h.counter(Mib::TcpExtTCPReqQFullDoCookies), 60 - u64::from(stored));
        assert_eq!(h.counter(Mib::TcpExtListenDrops), 0);
    }
}

#[test]
fn without_cookies_a_quarter_of_tcp_max_syn_backlog_stays_free() {
    for (max, stored) in [("32", 25), ("64", 49)] {
        let mut h = host();
        h.sysctl("net.ipv4.tcp_syncookies", "0");
        h.sysctl("net.ipv4.tcp_max_syn_backlog", max);
        h.listener(1000);
        assert_eq!(flood(&mut h, 100), stored);
        assert_eq!(
            (h.counter(Mib::TcpExtTCPReqQFullDrop), h.counter(Mib::TcpExtListenDrops)),
            (0, 100 - stored as u64)
        );
    }
}

#[test]
fn the_syn_ack_comes_again_and_then_the_request_goes() {
    for (retries, times, gone) in [("5", &[1, 3, 7, 15, 31][..], 63), ("2", &[1, 3][..], 7)] {
        let mut h = host();
        h.sysctl("net.ipv4.tcp_synack_retries", retries);
        h.listener(8);
        let first = h.tcp(syn(2000))[0].clone();
        let mut heard = vec![];
        for tenths in 1..=(gone * 10 + 5) {
            h.advance(100 * MS);
            for s in h.answers() {
                assert_eq!((s.seq, s.flags), (first.seq, SYN_ACK));
                heard.push((tenths + 9) / 10 - 1);
            }
            if tenths == gone * 10 - 5 {
                assert_eq!(h.queues().0, 1);
            }
        }
        let on_time = heard.iter().zip(times).all(|(h, t)| h == t || *h + 1 == *t);
        assert!(heard.len() == times.len() && on_time, "{heard:?}");
        assert_eq!((h.queues().0, h.counter(Mib::TcpRetransSegs)), (0, times.len() as u64));
    }
}

#[test]
fn a_full_accept_queue_ignores_the_last_ack_until_there_is_room() {
    let mut h = host();
    let l = h.listener(0);
    // Two are half open before the first completes.
    let mut syn_acks = vec![];
    for p in [2000, 2001] {
        h.sysctl("net.ipv4.tcp_syncookies", "0");
        syn_acks.extend(h.tcp(syn(p)));
    }
    assert_eq!(syn_acks.len(), 1, "backlog 0 stores one");
    h.handshake_rest(2000, syn_acks[0].seq + 1);
    syn_acks = h.tcp(syn(2001));
    assert_eq!(syn_acks, [], "the accept queue is full: not even an answer");
    assert_eq!((h.counter(Mib::TcpExtListenOverflows), h.queues()), (1, (0, 1)));
    h.accept(l).unwrap();
    let a = h.tcp(syn(2001))[0].clone();
    let b = h.tcp(syn(2002));
    assert_eq!(b, []);
    h.sysctl("net.ipv4.tcp_syncookies", "1");
    let b = h.tcp(syn(2003))[0].clone();
    h.handshake_rest(2001, a.seq + 1);
    let (over, drops) = (h.counter(Mib::TcpExtListenOverflows), h.counter(Mib::TcpExtListenDrops));
    // The cookie's ACK meets a full queue, and so does the data after it.
    assert_eq!(h.tcp(seg(2003, Flags::ACK, ISN + 1, b.seq + 1)), []);
    assert_eq!(h.tcp(seg(2003, Flags::ACK | Flags::PSH, ISN + 1, b.seq + 1).data(b"hello")), []);
    assert_eq!((h.counter(Mib::TcpExtListenOverflows), h.counter(Mib::TcpExtListenDrops)), (over + 2, drops + 2));
    h.accept(l).unwrap();
    h.tcp(seg(2003, Flags::ACK | Flags::PSH, ISN + 1, b.seq + 1).data(b"hello"));
    let s = h.accept(l).unwrap();
    assert_eq!(h.read(s).unwrap(), b"hello");
}

impl Host {
    fn handshake_rest(&mut self, sport: u16, ack: u32) {
        assert_eq!(self.tcp(seg(sport, Flags::ACK, ISN + 1, ack)), []);
    }
}

/// Fills the accept queue behind a request that is stored.
fn overflowing(h: &mut Host) -> (Fd, u32) {
    let l = h.listener(1);
    let a = h.tcp(syn(3000))[0].seq + 1;
    let b = h.tcp(syn(3001))[0].seq + 1;
    let c = h.tcp(syn(3002));
    assert_eq!(c.len(), 1, "cookie");
    h.handshake_rest(3001, b);
    let d = h.tcp(syn(3003))[0].seq + 1;
    h.handshake_rest(3003, d);
    assert_eq!(h.queues(), (1, 2));
    (l, a)
}

#[test]
fn the_acked_request_keeps_asking_and_completes_with_the_data() {
    let mut h = host();
    let (l, a) = overflowing(&mut h);
    h.handshake_rest(3000, a);
    assert_eq!((h.counter(Mib::TcpExtListenOverflows), h.counter(Mib::TcpExtListenDrops)), (1, 1));
    h.advance(1100 * MS);
    assert_eq!(h.answers().iter().map(|s| s.flags).collect::<Vec<_>>(), [SYN_ACK]);
    h.accept(l).unwrap();
    h.tcp(seg(3000, Flags::ACK, ISN + 1, a).data(b"late"));
    h.accept(l).unwrap();
    let s = h.accept(l).unwrap();
    assert_eq!(h.read(s).unwrap(), b"late");
}

#[test]
fn abort_on_overflow_resets() {
    let mut h = host();
    h.sysctl("net.ipv4.tcp_abort_on_overflow", "1");
    let (_, a) = overflowing(&mut h);
    let r = h.tcp(seg(3000, Flags::ACK, ISN + 1, a));
    assert_eq!((r[0].flags, r[0].seq, h.queues().0), (Flags::RST, a, 0));
}

#[test]
fn what_else_arrives_while_half_open() {
    let mut h = host();
    let l = h.listener(8);
    let a = h.tcp(syn(2000))[0].clone();
    // The same SYN: the same answer, but not twice in half a second.
    assert_eq!(h.tcp(syn(2000))[0], a);
    assert_eq!(h.tcp(syn(2000)), []);
    assert_eq!(h.counter(Mib::TcpExtTCPACKSkippedSynRecv), 1);
    h.advance(600 * MS);
    // Another SYN, out of the window: a plain ACK, also limited.
    let other = Seg { seq: ISN - 5000, ..syn(2000) };
    let r = h.tcp(other.clone());
    assert_eq!((r[0].flags, r[0].seq, r[0].ack), (Flags::ACK, a.seq + 1, ISN + 1));
    assert_eq!(h.tcp(other), []);
    // A wrong acknowledgement: RST, and the request stays.
    let r = h.tcp(seg(2000, Flags::ACK, ISN + 1, a.seq + 9));
    assert_eq!((r[0].flags, r[0].seq, h.queues().0), (Flags::RST, a.seq + 9, 1));
    // RST outside of the window is nothing, inside it ends the request.
    assert_eq!((h.tcp(seg(2000, Flags::RST, ISN - 9, 0)), h.queues().0), (vec![], 1));
    assert_eq!((h.tcp(seg(2000, Flags::RST, ISN + 1, 0)), h.queues().0), (vec![], 0));
    assert_eq!((h.counter(Mib::TcpAttemptFails), h.counter(Mib::TcpExtEmbryonicRsts)), (1, 1));
    assert_eq!(h.accept(l), Err(Errno::EAGAIN));
    // A listener: ACK is RST, FIN and RST and nothing are nothing, SYN with FIN is nothing.
    assert_eq!(h.tcp(seg(2000, Flags::ACK, 5, 99))[0].seq, 99);
    for f in [Flags::FIN, Flags::RST, Flags::NONE, Flags::SYN | Flags::FIN, Flags::SYN | Flags::RST] {
        assert_eq!(h.tcp(seg(2000, f, 5, 99)), [], "{f}");
    }
    // Nobody: RST-ACK of everything that came.
    let r = h.tcp(Seg { dport: 81, ..syn(2000) });
    assert_eq!((r[0].flags, r[0].seq, r[0].ack), (RST_ACK, 0, ISN + 1));
}

#[test]
fn a_cookie_carries_the_options_in_the_time_stamp_and_only_the_mss_without() {
    let mut h = host();
    h.sysctl("net.ipv4.tcp_syncookies", "2");
    let l = h.listener(8);
    h.advance(100 * SEC);
    let with = h.tcp(syn(2000).with(full(500)))[0].clone();
    assert_eq!((with.options.wscale, with.options.sack_ok, h.queues().0), (Some(10), true, 0));
    let (val, ecr) = with.options.ts.unwrap();
    assert_eq!(ecr, 500);
    let ack = seg(2000, Flags::ACK, ISN + 1, with.seq + 1);
    h.tcp(ack.with(TcpOptions { ts: Some((501, val)), ..TcpOptions::default() }));
    let some = TcpOptions { mss: Some(1350), wscale: Some(9), sack_ok: true, ..TcpOptions::default() };
    let without = h.tcp(syn(2001).with(some))[0].clone();
    assert_eq!(without.options, TcpOptions { mss: Some(1460), ..TcpOptions::default() });
    h.tcp(seg(2001, Flags::ACK, ISN + 1, without.seq + 1));
    assert_eq!(h.counter(Mib::TcpExtSyncookiesRecv), 2);
    let info = |h: &mut Host| {
        let fd = h.accept(l).unwrap();
        let sk = h.k.socks.tcp.iter().map(|(_, s)| s).filter(|s| s.sk.file.is_some()).last().unwrap();
        let _ = fd;
        (sk.snd.wscale, sk.flags.sack_ok, sk.flags.tstamp_ok, sk.snd.mss_clamp)
    };
    assert_eq!(info(&mut h), (7, true, true, 1460));
    assert_eq!(info(&mut h), (0, false, false, 1300));
    // Not one of ours.
    let r = h.tcp(seg(2002, Flags::ACK, ISN + 1, 12345));
    assert_eq!((r[0].flags, r[0].seq, h.counter(Mib::TcpExtSyncookiesFailed)), (Flags::RST, 12345, 1));
}

#[test]
fn an_ack_out_of_nowhere_is_no_failed_cookie_when_none_was_sent() {
    let mut h = host();
    h.listener(8);
    assert_eq!(h.tcp(seg(2002, Flags::ACK, ISN + 1, 12345))[0].flags, Flags::RST);
    assert_eq!(h.counter(Mib::TcpExtSyncookiesFailed), 0);
}

#[test]
fn deferred_accept_waits_for_data_and_then_no_longer() {
    let mut h = host();
    let l = h.listener(8);
    h.set(l, SOL_TCP, TCP_DEFER_ACCEPT, 2).unwrap();
    assert_eq!(h.get(l, SOL_TCP, TCP_DEFER_ACCEPT), 3);
    let a = h.tcp(syn(2000))[0].seq + 1;
    h.handshake_rest(2000, a);
    assert_eq!((h.accept(l), h.queues().0), (Err(Errno::EAGAIN), 1));
    assert_eq!(h.counter(Mib::TcpExtTCPDeferAcceptDrop), 1);
    h.tcp(seg(2000, Flags::ACK, ISN + 1, a).data(b"GET"));
    let s = h.accept(l).unwrap();
    assert_eq!(h.read(s).unwrap(), b"GET");
    // No data: after three seconds the SYN-ACK once more, and the bare ACK completes.
    let a = h.tcp(syn(2001))[0].seq + 1;
    h.handshake_rest(2001, a);
    h.advance(2500 * MS);
    assert_eq!(h.answers(), []);
    h.advance(SEC);
    assert_eq!(h.answers().len(), 1);
    h.handshake_rest(2001, a);
    h.accept(l).unwrap();
}

#[test]
fn segments_of_a_half_open_connection_find_nobody_after_the_listener_closed() {
    let mut h = host();
    let l = h.listener(8);
    let a = h.tcp(syn(2000))[0].seq + 1;
    h.close(l);
    let r = h.tcp(seg(2000, Flags::ACK, ISN + 1, a));
    assert_eq!((r[0].flags, r[0].seq), (Flags::RST, a));
}

/// Linux says it once for each listener, and not where cookies are always sent; the account has queue, limit and clients.
#[test]
fn a_flood_is_told() {
    for (mode, said) in [("0", "Dropping request"), ("1", "Sending cookies"), ("2", "")] {
        let mut h = host();
        h.sysctl("net.ipv4.tcp_syncookies", mode);
        h.listener(8);
        flood(&mut h, 60);
        let lines: Vec<_> = h.k.net.kmsg.lines().map(|l| l.1.clone()).collect();
        let want = format!("TCP: request_sock_TCP: Possible SYN flooding on port 10.0.2.15:80. {said}.");
        assert_eq!(lines, if said.is_empty() { vec![] } else { vec![want] });
        let all = &h.k.net.ns.get(h.ns).unwrap().tcp.account.overflows;
        let seen: Vec<_> = all.iter().map(|o| (o.limit, o.backlog, o.count, o.cookies)).collect();
        let cookies = if mode == "1" { 51 } else { 0 };
        assert_eq!(seen, if mode == "2" { vec![] } else { vec![(8, 8, 51, cookies)] });
    }
}

#[test]
fn the_last_quarter_of_the_backlog_is_its_own_limit() {
    let mut h = host();
    h.sysctl("net.ipv4.tcp_syncookies", "0");
    h.sysctl("net.ipv4.tcp_max_syn_backlog", "16");
    h.listener(100);
    let answered = flood(&mut h, 60);
    let o = &h.k.net.ns.get(h.ns).unwrap().tcp.account.overflows[0];
    assert_eq!((o.limit, o.by_syn_backlog, o.count), (12, true, 60 - answered as u64));
}
