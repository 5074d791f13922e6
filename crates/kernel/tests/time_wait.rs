//! TIME_WAIT and the FIN_WAIT2 of orphans: small entries, what they answer, when they end, what may take their place.
mod common;
mod peer;
use belljar_abi::*;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::net::tcp::handshake::time_wait::TimeWaitSock;
use belljar_kernel::net::tcp::state::State;
use belljar_kernel::net::tcp::tables::EhashRef;
use belljar_kernel::task::call::Fd;
use belljar_wire::tcp::{Flags, TcpOptions};
use common::*;
use peer::*;

const FIN_ACK: Flags = Flags(0x11);

struct Closed {
    h: Host,
    l: Fd,
    /// Our number after the FIN.
    next: u32,
}

fn host() -> (Host, Fd) {
    let mut h = Host::new();
    h.know_peer();
    let l = h.listener(64);
    (h, l)
}

fn ts(v: u32) -> TcpOptions {
    TcpOptions { ts: Some((v, 0)), ..TcpOptions::default() }
}

/// A connection from `sport` that we close; the peer acknowledges our FIN.
fn fin_wait2(h: &mut Host, l: Fd, sport: u16, o: TcpOptions) -> u32 {
    let next = h.handshake(sport, o);
    let s = h.accept(l).unwrap();
    let fin = h.close(s);
    assert_eq!((fin.len(), fin[0].flags, fin[0].seq), (1, FIN_ACK, next));
    let o = if o.ts.is_some() { ts(10) } else { TcpOptions::default() };
    assert_eq!(h.tcp(seg(sport, Flags::ACK, ISN + 1, next + 1).with(o)), []);
    next + 1
}

fn entries(h: &Host) -> Vec<TimeWaitSock> {
    h.k.net.ns.get(h.ns).unwrap().tcp.tws.iter().map(|(_, w)| w.clone()).collect()
}

/// In TIME_WAIT, with or without time stamps.
fn closed(stamps: bool) -> Closed {
    let (mut h, l) = host();
    let o = if stamps { full(1) } else { TcpOptions { mss: Some(1460), ..TcpOptions::default() } };
    let next = fin_wait2(&mut h, l, 2000, o);
    let o = if stamps { ts(10) } else { TcpOptions::default() };
    let a = h.tcp(seg(2000, FIN_ACK, ISN + 1, next).with(o));
    assert_eq!((a[0].flags, a[0].seq, a[0].ack), (Flags::ACK, next, ISN + 2));
    assert_eq!(entries(&h)[0].state(), State::TimeWait);
    Closed { h, l, next }
}

#[test]
fn tcp_max_tw_buckets_of_them_take_128_bytes_each_with_tables_and_queue() {
    let Closed { h, .. } = closed(true);
    let w = entries(&h).remove(0);
    let mut t = h.k.net.ns.get(h.ns).unwrap().tcp.clone();
    let class = t.bhash.class(w.bind().unwrap()).unwrap();
    let n = 131_072;
    for i in 1..n {
        t.bhash.hold(80, class);
        let id = t.tws.insert(w.clone());
        t.insert(i, EhashRef::TimeWait(id));
        t.tw_queue.push_back(&mut t.tws, id);
    }
    let each = t.bytes() / n as usize;
    assert!(each <= 128, "{each}");
}

#[test]
fn it_lasts_60_seconds_whatever_tcp_fin_timeout_says() {
    let Closed { mut h, .. } = closed(true);
    h.sysctl("net.ipv4.tcp_fin_timeout", "5");
    h.advance(59 * SEC);
    assert_eq!(entries(&h).len(), 1);
    h.advance(2 * SEC);
    assert_eq!((entries(&h).len(), h.counter(Mib::TcpExtTW)), (0, 1));
    assert_eq!(h.k.socks.tcp.len(), 1);
}

#[test]
fn a_repeated_fin_is_acknowledged_and_begins_the_time_again_without_a_second_place() {
    let Closed { mut h, next, .. } = closed(true);
    for _ in 0..200 {
        h.advance(SEC);
        let a = h.tcp(seg(2000, FIN_ACK, ISN + 1, next).with(ts(10)));
        assert_eq!((a[0].flags, a[0].ack), (Flags::ACK, ISN + 2));
    }
    let n = &h.k.net.ns.get(h.ns).unwrap().tcp;
    assert!(n.tw_queue.len() <= 1 && n.tws.len() == 1);
    // Empty segments out of place: one answer within tcp_invalid_ratelimit.
    let stray = seg(2000, Flags::ACK, ISN + 1, next).with(ts(10));
    assert_eq!((h.tcp(stray.clone()).len(), h.tcp(stray).len()), (1, 0));
    assert_eq!(h.counter(Mib::TcpExtTCPACKSkippedTimeWait), 1);
    h.advance(59 * SEC);
    assert_eq!(entries(&h).len(), 1);
    h.advance(2 * SEC);
    assert_eq!(entries(&h).len(), 0);
}

#[test]
fn an_exact_rst_ends_it_unless_rfc1337_protects() {
    for (rfc1337, left) in [("0", 0), ("1", 1)] {
        let Closed { mut h, .. } = closed(true);
        h.sysctl("net.ipv4.tcp_rfc1337", rfc1337);
        assert_eq!(h.tcp(seg(2000, Flags::RST, ISN + 99, 0)), []);
        assert_eq!(entries(&h).len(), 1);
        assert_eq!(h.tcp(seg(2000, Flags::RST, ISN + 2, 0)), []);
        assert_eq!(entries(&h).len(), left);
    }
}

#[test]
fn a_later_syn_opens_anew_beyond_the_old_numbers_and_an_earlier_one_is_acknowledged() {
    // By sequence number, and by time stamp.
    for (seq, stamp, opens) in
        [(ISN + 3, None, true), (ISN - 50, None, false), (ISN - 50, Some(11), true), (ISN - 50, Some(9), false)]
    {
        let Closed { mut h, next, .. } = closed(stamp.is_some());
        let o = stamp.map_or(TcpOptions::default(), full);
        let a = h.tcp(Seg { seq, ..syn(2000).with(o) });
        let a = &a[0];
        if opens {
            assert_eq!((a.flags, a.ack, a.seq), (Flags::SYN | Flags::ACK, seq + 1, next.wrapping_add(65_537)));
            assert_eq!((entries(&h).len(), h.queues()), (0, (1, 0)));
        } else {
            assert_eq!((a.flags, a.ack, a.seq), (Flags::ACK, ISN + 2, next));
            assert_eq!((entries(&h).len(), h.queues()), (1, (0, 0)));
        }
    }
}

#[test]
fn a_later_syn_with_nobody_listening_is_acknowledged() {
    let Closed { mut h, l, .. } = closed(true);
    h.close(l);
    let a = h.tcp(Seg { seq: ISN + 3, ..syn(2000).with(full(20)) });
    assert_eq!((a[0].flags, entries(&h).len()), (Flags::ACK, 1));
}

#[test]
fn an_old_time_stamp_is_counted() {
    let Closed { mut h, next, .. } = closed(true);
    let a = h.tcp(seg(2000, Flags::ACK, ISN + 2, next).with(ts(3)));
    assert_eq!((a[0].flags, h.counter(Mib::TcpExtPAWSTimewait)), (Flags::ACK, 1));
}

#[test]
fn over_tcp_max_tw_buckets_the_connection_just_ends() {
    let (mut h, l) = host();
    h.sysctl("net.ipv4.tcp_max_tw_buckets", "2");
    for sport in 2000..2004 {
        let next = fin_wait2(&mut h, l, sport, full(1));
        let a = h.tcp(seg(sport, FIN_ACK, ISN + 1, next).with(ts(10)));
        if sport >= 2002 {
            // No small FIN_WAIT2 was made: the FIN finds nobody.
            assert_eq!(a[0].flags, Flags::RST);
        }
    }
    assert_eq!((entries(&h).len(), h.counter(Mib::TcpExtTCPTimeWaitOverflow)), (2, 2));
    assert_eq!(h.k.socks.tcp.len(), 1);
}

#[test]
fn fin_wait2_of_an_orphan_lasts_tcp_fin_timeout_and_wants_only_the_fin() {
    let (mut h, l) = host();
    h.sysctl("net.ipv4.tcp_fin_timeout", "10");
    for sport in [2000, 2001] {
        fin_wait2(&mut h, l, sport, full(1));
    }
    assert!(entries(&h).iter().all(|w| w.state() == State::FinWait2));
    assert_eq!(h.k.socks.tcp.len(), 1, "no full socket is kept");
    h.advance(9 * SEC);
    // Data that nobody will read.
    let next = entries(&h)[0].snd_nxt;
    let r = h.tcp(seg(2000, Flags::ACK | Flags::PSH, ISN + 1, next).with(ts(20)).data(b"late"));
    assert_eq!((r[0].flags, entries(&h).len()), (Flags::RST, 1));
    h.advance(2 * SEC);
    assert_eq!(entries(&h).len(), 0);
}

#[test]
fn an_orphan_with_linger2_off_is_gone_at_once() {
    let (mut h, l) = host();
    h.set(l, SOL_TCP, TCP_LINGER2, -1).unwrap();
    let next = h.handshake(2000, full(1));
    let s = h.accept(l).unwrap();
    h.close(s);
    h.tcp(seg(2000, Flags::ACK, ISN + 1, next + 1).with(ts(10)));
    assert_eq!((entries(&h).len(), h.k.socks.tcp.len()), (0, 1));
    assert_eq!(h.counter(Mib::TcpExtTCPAbortOnData), 1);
}
