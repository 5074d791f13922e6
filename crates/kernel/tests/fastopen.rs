//! TCP Fast Open (RFC 7413) at both ends: cookies asked for, kept, checked and renewed; data with the SYN and what
//! becomes of it; limits and pauses.
mod common;
mod peer;
use belljar_abi::*;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::task::call::*;
use belljar_wire::tcp::{FastOpenCookie, Flags, TcpOptions};
use common::*;
use peer::*;

const SYN_ACK: Flags = Flags(Flags::SYN.0 | Flags::ACK.0);

fn cookie(bytes: &[u8]) -> Option<FastOpenCookie> {
    FastOpenCookie::parse(bytes, false)
}

fn offer(bytes: &[u8]) -> TcpOptions {
    TcpOptions { mss: Some(1460), fastopen: cookie(bytes), ..TcpOptions::default() }
}

fn fast_send(h: &mut Host, fd: Fd, data: &[u8]) -> SysResult {
    let to = SockAddr::V4(PEER, 80).emit();
    h.call(Call::Send { fd, data: Payload::Bytes(data), flags: MSG_FASTOPEN, to: Some(&to), cmsgs: &[] })
}

fn client() -> Host {
    let mut h = Host::new();
    h.know_peer();
    h
}

fn stream(h: &mut Host) -> Fd {
    h.socket(SOCK_STREAM | SOCK_NONBLOCK)
}

/// The peer's SYN-ACK for `ack` of the bytes behind the SYN.
fn answer(syn: &Seg, ack: u32, options: TcpOptions) -> Seg {
    let ack = syn.seq.wrapping_add(1 + ack);
    Seg { dport: syn.sport, sport: 80, ..seg(80, SYN_ACK, ISN, ack) }.with(options)
}

fn info(h: &mut Host, fd: Fd) -> TcpInfo {
    match h.call(Call::GetSockOpt { fd, level: SOL_TCP, name: TCP_INFO, len: 512 }) {
        Ok(Ret::Opt(b)) => TcpInfo::parse(&b),
        r => panic!("{r:?}"),
    }
}

/// A connection that asks for a cookie and gets one.
fn learn(h: &mut Host, bytes: &[u8]) {
    let fd = stream(h);
    assert_eq!(fast_send(h, fd, b"early"), Err(Errno::EINPROGRESS));
    let syn = h.answers().remove(0);
    assert_eq!((syn.flags, syn.data.len(), syn.options.fastopen), (Flags::SYN, 0, cookie(&[])));
    assert_eq!(h.tcp(answer(&syn, 0, offer(bytes))).len(), 1);
    h.close(fd);
    h.tcp(Seg { seq: ISN + 1, flags: Flags::RST, ..answer(&syn, 0, TcpOptions::default()) });
}

#[test]
fn a_cookie_is_asked_for_and_the_next_syn_carries_it_with_data() {
    let mut h = client();
    learn(&mut h, b"8 bytes!");
    let fd = stream(&mut h);
    assert_eq!(fast_send(&mut h, fd, &[7; 5000]), Ok(Ret::Int(1420)));
    let syn = h.answers().remove(0);
    assert_eq!((syn.flags, syn.data.len(), syn.options.fastopen), (Flags::SYN, 1420, cookie(b"8 bytes!")));
    assert_eq!(fast_send(&mut h, fd, b"more"), Err(Errno::EALREADY));
    let ack = h.tcp(answer(&syn, 1420, offer(&[])));
    assert_eq!((ack.len(), ack[0].flags, ack[0].seq), (1, Flags::ACK, syn.seq.wrapping_add(1421)));
    assert!(info(&mut h, fd).options & TCPI_OPT_SYN_DATA != 0);
    assert_eq!(h.counter(Mib::TcpExtTCPFastOpenActive), 1);
}

#[test]
fn data_that_the_peer_did_not_take_goes_again_with_the_ack() {
    let mut h = client();
    learn(&mut h, b"abcd");
    let fd = stream(&mut h);
    assert_eq!(fast_send(&mut h, fd, &[7; 100]), Ok(Ret::Int(100)));
    let syn = h.answers().remove(0);
    let again = h.tcp(answer(&syn, 0, offer(b"efgh")));
    assert_eq!((again.len(), again[0].seq, again[0].data.len()), (1, syn.seq.wrapping_add(1), 100));
    let i = info(&mut h, fd);
    assert_eq!((i.options & TCPI_OPT_SYN_DATA, i.fastopen_client_fail), (0, 2));
    // What came in vain still replaced the cookie.
    let fd = stream(&mut h);
    fast_send(&mut h, fd, b"x").unwrap();
    assert_eq!(h.answers()[0].options.fastopen, cookie(b"efgh"));
}

#[test]
fn the_syn_is_repeated_without_option_and_data() {
    let mut h = client();
    learn(&mut h, b"abcd");
    let fd = stream(&mut h);
    fast_send(&mut h, fd, &[7; 100]).unwrap();
    h.answers();
    h.advance(1100 * MS);
    let syn = h.answers().remove(0);
    assert_eq!((syn.flags, syn.data.len(), syn.options.fastopen), (Flags::SYN, 0, None));
}

#[test]
fn without_an_answer_to_the_option_the_experimental_one_is_tried_once() {
    let mut h = client();
    for exp in [Some(false), Some(true), Some(false), Some(false)] {
        let fd = stream(&mut h);
        assert_eq!(fast_send(&mut h, fd, b"x"), Err(Errno::EINPROGRESS));
        let syn = h.answers().remove(0);
        assert_eq!(syn.options.fastopen.map(|c| c.exp), exp);
        let plain = TcpOptions { mss: Some(1460), ..TcpOptions::default() };
        h.tcp(answer(&syn, 0, plain));
        h.close(fd);
    }
}

#[test]
fn connect_with_a_cookie_succeeds_before_anything_is_sent() {
    let mut h = client();
    learn(&mut h, b"abcd");
    let fd = stream(&mut h);
    h.set(fd, SOL_TCP, TCP_FASTOPEN_CONNECT, 1).unwrap();
    assert_eq!(h.connect(fd, PEER, 80), Ok(Ret::Int(0)));
    assert!(h.answers().is_empty());
    let asked = [PollFd { fd: fd as i32, events: POLLOUT as u16, revents: 0 }];
    let Ok(Ret::Poll(p)) = h.call(Call::Poll { fds: &asked, timeout: Some(0) }) else { panic!() };
    assert_eq!(p[0].revents, POLLOUT as u16);
    assert_eq!(h.connect(fd, PEER, 80), Err(Errno::EISCONN));
    assert_eq!(h.send(fd, &[1; 10]), Ok(Ret::Int(10)));
    let syn = h.answers().remove(0);
    assert_eq!((syn.data.len(), syn.options.fastopen), (10, cookie(b"abcd")));
    assert_eq!(h.send(fd, b"later"), Err(Errno::EAGAIN));
}

#[test]
fn a_blocking_send_waits_for_the_connection_and_tells_how_it_failed() {
    let mut h = client();
    let fd = h.socket(SOCK_STREAM);
    let to = SockAddr::V4(PEER, 80).emit();
    let call = Call::Send { fd, data: Payload::Bytes(&[1; 300]), flags: MSG_FASTOPEN, to: Some(&to), cmsgs: &[] };
    let Submitted::Parked(id) = h.try_call(call) else { panic!("it has to wait") };
    let syn = h.answers().remove(0);
    let sent = h.tcp(answer(&syn, 0, offer(b"abcd")));
    assert_eq!((sent.len(), sent[0].data.len()), (1, 300));
    assert_eq!(h.completions, [(id, Ok(Ret::Int(300)))]);
    let fd = h.socket(SOCK_STREAM);
    let call = Call::Send { fd, data: Payload::Bytes(&[1; 300]), flags: MSG_FASTOPEN, to: Some(&to), cmsgs: &[] };
    let Submitted::Parked(id) = h.try_call(call) else { panic!("it has to wait") };
    let syn = h.answers().remove(0);
    assert_eq!(syn.data.len(), 300);
    h.tcp(Seg { flags: Flags::RST | Flags::ACK, ..answer(&syn, 300, TcpOptions::default()) });
    assert_eq!(h.completions.last(), Some(&(id, Err(Errno::ECONNREFUSED))));
}

#[test]
fn three_timeouts_pause_it_for_everybody() {
    let mut h = client();
    h.sysctl("net.ipv4.tcp_fastopen_blackhole_timeout_sec", "10");
    learn(&mut h, b"abcd");
    let fd = stream(&mut h);
    fast_send(&mut h, fd, b"x").unwrap();
    h.advance(3500 * MS);
    h.answers();
    assert_eq!(h.counter(Mib::TcpExtTCPFastOpenBlackhole), 1);
    let fd = stream(&mut h);
    assert_eq!(fast_send(&mut h, fd, b"x"), Err(Errno::EINPROGRESS));
    let syn = h.answers().into_iter().find(|s| s.flags == Flags::SYN).unwrap();
    assert_eq!((syn.data.len(), syn.options.fastopen), (0, None));
}

#[test]
fn it_can_be_off_and_the_address_must_be_one() {
    let mut h = client();
    let fd = stream(&mut h);
    let to = [0u8; 16];
    let unspec = Call::Send { fd, data: Payload::Bytes(b"x"), flags: MSG_FASTOPEN, to: Some(&to), cmsgs: &[] };
    assert_eq!(h.call(unspec), Err(Errno::EOPNOTSUPP));
    let nowhere = Call::Send { fd, data: Payload::Bytes(b"x"), flags: MSG_FASTOPEN, to: None, cmsgs: &[] };
    assert_eq!(h.call(nowhere), Err(Errno::EINVAL));
    h.sysctl("net.ipv4.tcp_fastopen", "0");
    assert_eq!(fast_send(&mut h, fd, b"x"), Err(Errno::EOPNOTSUPP));
    assert_eq!(h.set(fd, SOL_TCP, TCP_FASTOPEN_CONNECT, 1), Err(Errno::EOPNOTSUPP));
}

/// A server with room for `limit` connections, and the cookie it gave out.
fn server(limit: i32) -> (Host, Fd, Vec<u8>) {
    let mut h = client();
    h.sysctl("net.ipv4.tcp_fastopen", "3");
    let l = h.listener(5);
    h.set(l, SOL_TCP, TCP_FASTOPEN, limit).unwrap();
    let a = h.tcp(syn(3999).with(offer(&[])));
    let given = a[0].options.fastopen.unwrap().bytes().to_vec();
    assert_eq!(given.len(), 8);
    h.tcp(seg(3999, Flags::RST, ISN + 1, 0));
    (h, l, given)
}

#[test]
fn a_good_cookie_makes_a_connection_that_is_read_and_answered_at_once() {
    let (mut h, l, c) = server(2);
    let a = h.tcp(syn(4000).with(offer(&c)).data(b"hello"));
    assert_eq!((a.len(), a[0].flags, a[0].ack, a[0].options.fastopen), (1, SYN_ACK, ISN + 6, None));
    let fd = h.accept(l).unwrap();
    assert_eq!(h.read(fd), Ok(b"hello".to_vec()));
    assert!(info(&mut h, fd).options & TCPI_OPT_SYN_DATA != 0);
    h.send(fd, b"reply").unwrap();
    let reply = h.answers().remove(0);
    assert_eq!((reply.data.as_slice(), reply.ack), (&b"reply"[..], ISN + 6));
    assert_eq!(h.tcp(seg(4000, Flags::ACK, ISN + 6, reply.seq.wrapping_add(5))), []);
    assert_eq!(info(&mut h, fd).state, TCP_ESTABLISHED);
    assert_eq!(h.counter(Mib::TcpExtTCPFastOpenPassive), 1);
}

#[test]
fn a_wrong_cookie_is_replaced_and_its_data_ignored() {
    let (mut h, l, c) = server(2);
    let a = h.tcp(syn(4000).with(offer(b"forgery!")).data(b"hello"));
    assert_eq!((a[0].ack, a[0].options.fastopen), (ISN + 1, cookie(&c)));
    assert_eq!(h.accept(l), Err(Errno::EAGAIN));
    assert_eq!(h.counter(Mib::TcpExtTCPFastOpenPassiveFail), 1);
}

#[test]
fn more_than_the_limit_go_the_ordinary_way() {
    let (mut h, _, c) = server(1);
    assert_eq!(h.tcp(syn(4000).with(offer(&c)).data(b"one"))[0].ack, ISN + 4);
    assert_eq!(h.tcp(syn(4001).with(offer(&c)).data(b"two"))[0].ack, ISN + 1);
    assert_eq!(h.counter(Mib::TcpExtTCPFastOpenListenOverflow), 1);
}

#[test]
fn a_rst_after_accept_takes_up_room_for_a_minute() {
    let (mut h, l, c) = server(1);
    h.tcp(syn(4000).with(offer(&c)).data(b"one"));
    let fd = h.accept(l).unwrap();
    h.tcp(seg(4000, Flags::RST, ISN + 4, 0));
    assert_eq!(h.read(fd), Ok(b"one".to_vec()));
    assert_eq!(h.read(fd), Err(Errno::ECONNRESET));
    assert_eq!(h.tcp(syn(4001).with(offer(&c)).data(b"two"))[0].ack, ISN + 1);
    h.advance(61 * SEC);
    h.answers();
    assert_eq!(h.tcp(syn(4002).with(offer(&c)).data(b"two"))[0].ack, ISN + 4);
}

#[test]
fn the_syn_ack_is_repeated_by_the_connection_itself() {
    let (mut h, l, c) = server(1);
    let first = h.tcp(syn(4000).with(offer(&c)).data(b"one")).remove(0);
    let fd = h.accept(l).unwrap();
    h.send(fd, b"answer").unwrap();
    h.answers();
    h.advance(1100 * MS);
    let again = h.answers();
    assert_eq!((again.len(), again[0].flags, again[0].seq, again[0].ack), (1, SYN_ACK, first.seq, ISN + 4));
    // Now the data goes too.
    h.tcp(seg(4000, Flags::ACK, ISN + 4, first.seq.wrapping_add(1)));
    // The round trip is not known: three seconds (RFC 6298 §5.7).
    h.advance(3100 * MS);
    assert!(h.answers().iter().any(|s| s.data == b"answer"));
}

#[test]
fn an_old_key_is_still_good_and_its_cookie_renewed() {
    let (mut h, l, _) = server(2);
    let key = |b: u8| [b; 16];
    let set =
        |h: &mut Host, value: &[u8]| h.call(Call::SetSockOpt { fd: l, level: SOL_TCP, name: TCP_FASTOPEN_KEY, value });
    set(&mut h, &key(1)).unwrap();
    let old = h.tcp(syn(4000).with(offer(&[])))[0].options.fastopen.unwrap();
    set(&mut h, &[key(2), key(1)].concat()).unwrap();
    let a = h.tcp(syn(4001).with(TcpOptions { fastopen: Some(old), ..offer(&[]) }).data(b"one"));
    assert_eq!(a[0].ack, ISN + 4);
    assert!(a[0].options.fastopen.is_some_and(|c| c.len == 8 && c != old));
    assert_eq!(h.counter(Mib::TcpExtTCPFastOpenPassiveAltKey), 1);
    assert_eq!(set(&mut h, &[0; 15]), Err(Errno::EINVAL));
}

#[test]
fn an_unread_connection_goes_with_its_listener() {
    let (mut h, l, c) = server(2);
    h.tcp(syn(4000).with(offer(&c)).data(b"one"));
    let out = h.close(l);
    assert!(out.iter().any(|s| s.flags.contains(Flags::RST)), "{out:?}");
}
