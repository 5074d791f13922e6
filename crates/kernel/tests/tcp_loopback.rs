//! TCP over lo through system calls: the stream arrives whole, and each way of ending does what it does on Linux.
mod loopback;
use belljar_abi::{self as abi, Errno};
use belljar_kernel::ids::SockId;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::net::tcp::state::State;
use belljar_kernel::task::call::*;
use loopback::*;

#[test]
fn bytes_arrive_in_order_and_the_fin_ends_the_stream() {
    let mut w = World::new();
    let (c, s) = w.connected(80);
    assert_eq!((w.mib(Mib::TcpExtTCPOrigDataSent), w.mib(Mib::TcpExtTCPDelivered)), (0, 1), "a SYN is no data");
    let data: Vec<u8> = (0..1_000_000u32).map(|i| ((i * 7) >> 3) as u8).collect();
    let (mut sent, mut got) = (0, Vec::new());
    while got.len() < data.len() {
        if sent < data.len()
            && let Ok(Ret::Int(n)) = w.try_call(send(c, &data[sent..(sent + 30_000).min(data.len())]))
        {
            sent += n as usize;
        }
        match w.try_call(recv(s, 65536)) {
            Ok(Ret::Stream(segs)) => got.extend(segs.to_vec()),
            Err(Errno::EAGAIN) => w.sleep_ms(1),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(got, data);
    w.call(Call::Close { fd: c });
    assert_eq!(w.read(s, 10), b"");
    w.call(Call::Close { fd: s });
    w.sleep_ms(61_000);
    assert_eq!(w.mib(Mib::TcpCurrEstab), 0);
    assert_eq!(w.k.socks.tcp.len(), 1, "only the listener is left");
    w.check();
}

#[test]
fn unread_data_at_close_resets_the_peer() {
    let mut w = World::new();
    let (c, s) = w.connected(80);
    w.call(send(c, b"never read"));
    w.call(Call::Close { fd: s });
    assert_eq!(w.try_call(recv(c, 10)), Err(Errno::ECONNRESET));
    assert_eq!(w.read(c, 10), b"");
    assert_eq!(w.try_call(send(c, b"x")), Err(Errno::EPIPE));
    assert_eq!(w.mib(Mib::TcpExtTCPAbortOnClose), 1);
    w.check();
}

#[test]
fn nobody_listening_refuses() {
    let mut w = World::new();
    let c = w.socket();
    assert_eq!(w.try_call(Call::Connect { fd: c, addr: &addr(81) }), Err(Errno::EINPROGRESS));
    assert_eq!(w.sockopt(c, abi::SOL_SOCKET, abi::SO_ERROR), Errno::ECONNREFUSED.0);
}

#[test]
fn half_close_keeps_the_other_direction() {
    let mut w = World::new();
    let (c, s) = w.connected(80);
    w.call(send(c, b"question"));
    w.call(Call::Shutdown { fd: c, how: abi::SHUT_WR });
    assert_eq!(w.read(s, 100), b"question");
    assert_eq!(w.read(s, 100), b"");
    w.call(send(s, b"answer"));
    assert_eq!(w.read(c, 100), b"answer");
    assert_eq!(w.try_call(send(c, b"x")), Err(Errno::EPIPE));
    w.check();
}

#[test]
fn a_full_accept_queue_takes_one_more_than_its_limit_and_counts_the_rest() {
    let mut w = World::new();
    w.listen(80, 4);
    for _ in 0..8 {
        let c = w.socket();
        let _ = w.try_call(Call::Connect { fd: c, addr: &addr(80) });
    }
    assert!(w.mib(Mib::TcpExtListenOverflows) > 0);
    assert_eq!(w.mib(Mib::TcpExtListenOverflows), w.mib(Mib::TcpExtListenDrops));
    let l = w.k.socks.tcp.iter().find_map(|(_, s)| s.listener.as_ref()).unwrap();
    assert_eq!((l.accept.len(), l.max_ack_backlog), (5, 4));
    w.check();
}

#[test]
fn a_reader_that_stops_closes_the_window_and_probes_open_it_again() {
    let mut w = World::new();
    let (c, s) = w.connected(80);
    let mut sent = 0;
    for _ in 0..10_000 {
        match w.try_call(send(c, &[1; 10_000])) {
            Ok(Ret::Int(n)) => sent += n as usize,
            Err(Errno::EAGAIN) => break,
            other => panic!("{other:?}"),
        }
    }
    w.sleep_ms(5_000);
    assert!(w.mib(Mib::TcpExtTCPWinProbe) > 0);
    let mut got = 0;
    while got < sent {
        match w.try_call(recv(s, 1 << 20)) {
            Ok(Ret::Stream(segs)) => got += segs.len(),
            Err(Errno::EAGAIN) => w.sleep_ms(10),
            other => panic!("{other:?}"),
        }
    }
    w.check();
}

#[test]
fn a_socket_that_is_ended_from_outside_reads_econnaborted() {
    let mut w = World::new();
    let (c, s) = w.connected(80);
    w.call(send(c, b"unread"));
    let id = |w: &World, port: u16| w.k.socks.tcp.iter().find(|(_, s)| s.sk.dport == port).map(|(id, _)| id);
    let client = id(&w, 80).unwrap();
    w.k.sock_destroy(w.now, SockId::Tcp(client)).unwrap();
    assert_eq!(w.try_call(send(c, b"x")), Err(Errno::ECONNABORTED));
    assert_eq!(w.read(s, 10), b"unread");
    assert_eq!(w.try_call(recv(s, 10)), Err(Errno::ECONNRESET));
    // The listener too: nobody is let in any more.
    let listener = w.k.socks.tcp.iter().find(|(_, s)| s.state == State::Listen).map(|(id, _)| id).unwrap();
    w.k.sock_destroy(w.now, SockId::Tcp(listener)).unwrap();
    let late = w.socket();
    assert_eq!(w.try_call(Call::Connect { fd: late, addr: &addr(80) }), Err(Errno::EINPROGRESS));
    assert_eq!(w.sockopt(late, abi::SOL_SOCKET, abi::SO_ERROR), Errno::ECONNREFUSED.0);
    w.call(Call::Close { fd: c });
    assert_eq!(w.k.sock_destroy(w.now, SockId::Tcp(client)), Err(Errno::ENOENT));
    w.check();
}
