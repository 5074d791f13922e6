//! SOL_TCP: defaults, limits and errors as measured on Linux 6.18, and what TCP_INFO tells.
mod common;
mod peer;
use belljar_abi::*;
use belljar_kernel::task::call::*;
use belljar_wire::tcp::{Flags, TcpOptions};
use common::*;
use peer::*;

fn stream(h: &mut Host) -> Fd {
    h.socket(SOCK_STREAM | SOCK_NONBLOCK)
}

fn info(h: &mut Host, fd: Fd) -> TcpInfo {
    match h.call(Call::GetSockOpt { fd, level: SOL_TCP, name: TCP_INFO, len: 512 }) {
        Ok(Ret::Opt(b)) => {
            assert_eq!(b.len(), TCP_INFO_LEN);
            TcpInfo::parse(&b)
        }
        r => panic!("{r:?}"),
    }
}

#[test]
fn a_fresh_socket() {
    let mut h = Host::new();
    let fd = stream(&mut h);
    for (name, v) in [
        (TCP_NODELAY, 0),
        (TCP_CORK, 0),
        (TCP_MAXSEG, 536),
        (TCP_SYNCNT, 6),
        (TCP_KEEPIDLE, 7200),
        (TCP_KEEPINTVL, 75),
        (TCP_KEEPCNT, 9),
        (TCP_LINGER2, 60),
        (TCP_DEFER_ACCEPT, 0),
        (TCP_WINDOW_CLAMP, 0),
        (TCP_QUICKACK, 1),
        (TCP_USER_TIMEOUT, 0),
        (TCP_NOTSENT_LOWAT, 0),
        (TCP_INQ, 0),
        (TCP_REPAIR, 0),
        (TCP_FASTOPEN, 0),
        (TCP_FASTOPEN_CONNECT, 0),
        (TCP_SAVE_SYN, 0),
        (TCP_TX_DELAY, 0),
        (TCP_RTO_MAX_MS, 120_000),
        (TCP_RTO_MIN_US, 200_000),
        (TCP_DELACK_MAX_US, 200_000),
        (TCP_IS_MPTCP, 0),
    ] {
        assert_eq!(h.get(fd, SOL_TCP, name), v, "option {name}");
    }
    let name = h.call(Call::GetSockOpt { fd, level: SOL_TCP, name: TCP_CONGESTION, len: 16 });
    assert_eq!(name, Ok(Ret::Opt(b"cubic\0\0\0\0\0\0\0\0\0\0\0".to_vec())));
    let i = info(&mut h, fd);
    assert_eq!((i.state, i.snd_cwnd, i.snd_ssthresh, i.rto, i.reordering), (TCP_CLOSE, 10, 0x7fff_ffff, 1_000_000, 3));
}

#[test]
fn values_come_back_and_limits_are_kept() {
    let mut h = Host::new();
    let fd = stream(&mut h);
    for (name, good, told) in [
        (TCP_NODELAY, 7, 1),
        (TCP_CORK, 1, 1),
        (TCP_MAXSEG, 800, 800),
        (TCP_SYNCNT, 127, 127),
        (TCP_KEEPIDLE, 32_767, 32_767),
        (TCP_KEEPINTVL, 1, 1),
        (TCP_KEEPCNT, 127, 127),
        (TCP_LINGER2, -5, -1),
        (TCP_LINGER2, 500, 120),
        (TCP_LINGER2, 0, 60),
        (TCP_DEFER_ACCEPT, 10, 15),
        (TCP_WINDOW_CLAMP, 1, 1152),
        (TCP_WINDOW_CLAMP, 0, 0),
        (TCP_QUICKACK, 0, 0),
        (TCP_QUICKACK, 1, 1),
        (TCP_USER_TIMEOUT, 5000, 5000),
        (TCP_NOTSENT_LOWAT, 16_384, 16_384),
        (TCP_INQ, 1, 1),
        (TCP_RTO_MAX_MS, 2000, 2000),
        (TCP_RTO_MIN_US, 50_000, 52_000),
        (TCP_DELACK_MAX_US, 100_000, 100_000),
    ] {
        h.set(fd, SOL_TCP, name, good).unwrap();
        assert_eq!(h.get(fd, SOL_TCP, name), told, "option {name} set to {good}");
    }
    for (name, bad) in [
        (TCP_MAXSEG, 87),
        (TCP_MAXSEG, 32_768),
        (TCP_SYNCNT, 0),
        (TCP_SYNCNT, 128),
        (TCP_KEEPIDLE, 0),
        (TCP_KEEPIDLE, 32_768),
        (TCP_KEEPINTVL, 0),
        (TCP_KEEPCNT, 128),
        (TCP_USER_TIMEOUT, -1),
        (TCP_INQ, 2),
        (TCP_RTO_MAX_MS, 999),
        (TCP_RTO_MAX_MS, 120_001),
        (TCP_RTO_MIN_US, 0),
        (TCP_DELACK_MAX_US, 200_001),
    ] {
        assert_eq!(h.set(fd, SOL_TCP, name, bad), Err(Errno::EINVAL), "option {name} set to {bad}");
    }
    assert_eq!(h.set(fd, SOL_TCP, TCP_REPAIR, 1), Err(Errno::EPERM));
    assert_eq!(h.set(fd, SOL_TCP, 999, 1), Err(Errno::ENOPROTOOPT));
    let raw = |h: &mut Host, name, value: &[u8]| h.call(Call::SetSockOpt { fd, level: SOL_TCP, name, value });
    assert_eq!(raw(&mut h, TCP_NODELAY, &[1, 0, 0]), Err(Errno::EINVAL));
    assert_eq!(raw(&mut h, TCP_CONGESTION, b"vegas"), Err(Errno::ENOENT));
    assert_eq!(raw(&mut h, TCP_ULP, b"tls"), Err(Errno::ENOENT));
    raw(&mut h, TCP_CONGESTION, b"reno\0").unwrap();
    assert_eq!(h.get(fd, SOL_TCP, TCP_CONGESTION), i32::from_ne_bytes(*b"reno"));
}

#[test]
fn tcp_info_of_a_connection() {
    let mut h = Host::new();
    h.know_peer();
    let l = h.listener(8);
    let next = h.handshake(2000, full(100));
    let s = h.accept(l).unwrap();
    let i = info(&mut h, s);
    assert_eq!((i.state, i.snd_wscale, i.rcv_wscale), (TCP_ESTABLISHED, 7, 10));
    assert_eq!(i.options, TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE);
    // What time stamps leave of a segment, and ten of those.
    assert_eq!((i.snd_mss, i.advmss, i.pmtu, i.snd_cwnd, i.rcv_space), (1448, 1448, 1500, 10, 14_480));
    assert_eq!(i.rto % 4000, 0, "in ticks: {}", i.rto);
    assert_eq!((i.segs_in, i.segs_out, i.unacked), (2, 0, 0));
    h.send(s, &[1; 3000]).unwrap();
    h.answers();
    let ts = |v| TcpOptions { ts: Some((v, 0)), ..TcpOptions::default() };
    h.advance(MS);
    h.tcp(seg(2000, Flags::ACK, ISN + 1, next + 1448).with(ts(102)).data(b"abc"));
    let i = info(&mut h, s);
    assert_eq!((i.bytes_sent, i.bytes_acked, i.bytes_received), (3000, 1448, 3));
    assert_eq!((i.unacked, i.notsent_bytes, i.data_segs_in, i.data_segs_out), (2, 0, 1, 3));
    assert!(i.rtt > 0 && i.min_rtt <= 30_000);
    assert_eq!((i.last_data_sent, i.last_data_recv, i.last_ack_recv), (1, 0, 0));
    h.advance(5 * MS);
    assert_eq!(info(&mut h, s).last_ack_recv, 5);
}

/// As measured on Linux: what the SYN offers does not count before it is answered.
#[test]
fn tcp_info_before_the_answer() {
    let mut h = Host::new();
    h.know_peer();
    let s = stream(&mut h);
    assert_eq!(h.connect(s, PEER, 80), Err(Errno::EINPROGRESS));
    let i = info(&mut h, s);
    assert_eq!((i.state, i.options, i.snd_wscale, i.rcv_wscale), (TCP_SYN_SENT, 0, 0, 0));
    assert_eq!((i.snd_mss, i.rcv_mss, i.advmss, i.pmtu, i.rto), (524, 88, 1460, 1500, 1_000_000));
    assert_eq!((i.ca_state, i.snd_cwnd, i.unacked, i.lost, i.total_retrans), (TCP_CA_OPEN, 10, 1, 0, 0));
    h.advance(1100 * MS);
    let i = info(&mut h, s);
    assert_eq!((i.ca_state, i.snd_cwnd, i.unacked, i.lost, i.total_retrans), (TCP_CA_LOSS, 1, 1, 1, 1));
}

#[test]
fn maxseg_limits_both_directions() {
    let mut h = Host::new();
    h.know_peer();
    let l = h.listener(8);
    h.set(l, SOL_TCP, TCP_MAXSEG, 800).unwrap();
    let a = h.tcp(syn(2000).with(full(1)))[0].clone();
    assert_eq!(a.options.mss, Some(800));
    let ts = TcpOptions { ts: Some((2, a.options.ts.unwrap().0)), ..TcpOptions::default() };
    h.tcp(seg(2000, Flags::ACK, ISN + 1, a.seq + 1).with(ts));
    let s = h.accept(l).unwrap();
    assert_eq!(info(&mut h, s).snd_mss, 788);
}
