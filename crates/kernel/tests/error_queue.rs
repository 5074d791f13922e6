//! What scripts cannot say of the error queue: copies on lo, calls that sleep or are cancelled, signals, sizes.
mod common;
mod loopback;
mod peer;
use belljar_abi::*;
use belljar_kernel::Output;
use belljar_kernel::net::tcp::sock::{TcpSock, TxSeg};
use belljar_kernel::task::call::*;
use belljar_wire::tcp::{Flags, TcpOptions};
use common::Host;
use loopback::World;
use peer::*;

const F_SETFL: i32 = 4;
const F_SETOWN: i32 = 8;

fn zerocopy(fd: Fd, bytes: &[u8]) -> Call<'_> {
    Call::Send { fd, data: Payload::Bytes(bytes), flags: MSG_ZEROCOPY, to: None, cmsgs: &[] }
}

/// The next entry: origin, code, info, data.
fn error(w: &mut World, fd: Fd) -> Result<(u8, u8, u32, u32), Errno> {
    match w.try_call(Call::Recv { fd, len: 0, flags: MSG_ERRQUEUE })? {
        Ret::Data(d) => {
            let b = &d.cmsgs.last().unwrap().data;
            let word = |at: usize| u32::from_ne_bytes(b[at..at + 4].try_into().unwrap());
            Ok((b[4], b[6], word(8), word(12)))
        }
        r => panic!("{r:?}"),
    }
}

fn on(w: &mut World, fd: Fd, name: i32) {
    w.call(Call::SetSockOpt { fd, level: SOL_SOCKET, name, value: &1i32.to_ne_bytes() });
}

#[test]
fn lo_copies_and_says_so() {
    let mut w = World::new();
    let (c, s) = w.connected(80);
    on(&mut w, c, SO_ZEROCOPY);
    assert_eq!(w.call(zerocopy(c, &[7; 100_000])), Ret::Int(100_000));
    w.sleep_ms(100);
    while w.try_call(loopback::recv(s, 65_536)).is_ok() {}
    w.sleep_ms(100);
    assert_eq!(error(&mut w, c), Ok((SO_EE_ORIGIN_ZEROCOPY, SO_EE_CODE_ZEROCOPY_COPIED, 0, 0)));
    assert_eq!(error(&mut w, c), Err(Errno::EAGAIN));
    w.check();
}

#[test]
fn an_urgent_byte_on_lo_comes_beside_the_stream() {
    let mut w = World::new();
    let (c, s) = w.connected(80);
    w.call(loopback::send(c, b"abc"));
    w.call(Call::Send { fd: c, data: Payload::Bytes(b"D"), flags: MSG_OOB, to: None, cmsgs: &[] });
    w.call(loopback::send(c, b"ef"));
    w.sleep_ms(50);
    assert_eq!(w.read(s, 100), b"abc");
    assert_eq!(w.call(Call::Ioctl { fd: s, request: SIOCATMARK.into(), arg: 0 }), Ret::Int(1));
    let Ret::Data(d) = w.call(Call::Recv { fd: s, len: 1, flags: MSG_OOB }) else { panic!() };
    assert_eq!((d.segs.to_vec(), d.flags), (b"D".to_vec(), MSG_OOB));
    assert_eq!(w.read(s, 100), b"ef");
    w.check();
}

/// An accepted connection from port 4000, blocking, with a small send buffer; and our next number.
fn blocking() -> (Host, Fd, u32) {
    let mut h = Host::new();
    h.know_peer();
    let l = h.listener(5);
    let next = h.handshake(4000, TcpOptions { mss: Some(1000), ..TcpOptions::default() });
    let fd = h.accept(l).unwrap();
    h.set(fd, SOL_SOCKET, SO_ZEROCOPY, 1).unwrap();
    h.set(fd, SOL_SOCKET, SO_SNDBUF, 10_000).unwrap();
    h.call(Call::Fcntl { fd, cmd: F_SETFL, arg: 0 }).unwrap();
    (h, fd, next)
}

fn entry(h: &mut Host, fd: Fd) -> Result<(u32, u32), Errno> {
    let b = h.recv_flags(fd, 0, MSG_ERRQUEUE)?.cmsgs.pop().unwrap().data;
    let word = |at: usize| u32::from_ne_bytes(b[at..at + 4].try_into().unwrap());
    Ok((word(8), word(12)))
}

#[test]
fn a_call_that_sleeps_has_one_number_and_completes_after_its_end() {
    let (mut h, fd, next) = blocking();
    let data = vec![1; 60_000];
    let call = Call::Send { fd, data: Payload::Bytes(&data), flags: MSG_ZEROCOPY, to: None, cmsgs: &[] };
    let Submitted::Parked(id) = h.k.call(h.now, h.task, call) else { panic!("did not sleep") };
    h.collect();
    // All that was sent so far is acknowledged while the call sleeps.
    let sent: usize = h.answers().iter().map(|s| s.data.len()).sum();
    assert!(sent > 0);
    h.tcp(seg(4000, Flags::ACK, ISN + 1, next + sent as u32));
    assert!(h.completions.is_empty());
    assert_eq!(entry(&mut h, fd), Err(Errno::EAGAIN));
    // A signal ends it: what it moved counts, and its number is done.
    let result = h.k.cancel(h.now, id, Errno::EINTR);
    assert!(matches!(result, Some(Ok(Ret::Int(n))) if n > 0), "{result:?}");
    h.collect();
    h.tcp(seg(4000, Flags::ACK | Flags::RST, ISN + 1, next));
    assert_eq!(entry(&mut h, fd), Ok((0, 0)));
    assert_eq!(entry(&mut h, fd), Err(Errno::EAGAIN));
}

#[test]
fn urgent_data_signals_the_owner_of_the_file() {
    let mut w = World::new();
    let (c, s) = w.connected(80);
    w.call(Call::Fcntl { fd: s, cmd: F_SETOWN, arg: -42 });
    w.call(Call::Send { fd: c, data: Payload::Bytes(b"!"), flags: MSG_OOB, to: None, cmsgs: &[] });
    let Some(Output::Signal { owner, signal }) = w.k.pop_output() else { panic!("no signal") };
    assert_eq!((owner, signal), (-42, SIGURG));
    assert!(w.k.pop_output().is_none());
}

#[test]
fn what_few_sockets_need_costs_the_others_nothing() {
    // With its file, descriptor and table entries an idle connection stays within 1,024 bytes.
    assert!(size_of::<TcpSock>() <= 920, "{}", size_of::<TcpSock>());
    assert!(size_of::<TxSeg>() <= 88, "{}", size_of::<TxSeg>());
}

#[test]
fn a_dual_stack_socket_hears_in_the_form_of_ipv6() {
    let mut h = Host::new();
    h.know_peer();
    let Ok(Ret::Fd(fd)) = h.call(Call::Socket { family: AF_INET6, kind: SOCK_DGRAM, protocol: 0 }) else { panic!() };
    h.set(fd, SOL_SOCKET, SO_ZEROCOPY, 1).unwrap();
    let to = SockAddr::V4(common::PEER, 9).to_mapped().emit();
    h.call(Call::Send { fd, data: Payload::Bytes(b"x"), flags: MSG_ZEROCOPY, to: Some(&to), cmsgs: &[] }).unwrap();
    let got = h.recv_flags(fd, 0, MSG_ERRQUEUE).unwrap();
    let c = &got.cmsgs[0];
    assert_eq!((c.level, c.kind, c.data.len()), (SOL_IPV6, IPV6_RECVERR, 16 + 28));
}

#[test]
fn what_nobody_read_of_the_queue_goes_with_the_socket() {
    let mut w = World::new();
    let (c, s) = w.connected(80);
    let value = (SOF_TIMESTAMPING_TX_SCHED | SOF_TIMESTAMPING_SOFTWARE).to_ne_bytes();
    w.call(Call::SetSockOpt { fd: c, level: SOL_SOCKET, name: SO_TIMESTAMPING, value: &value });
    w.call(Call::Send { fd: c, data: Payload::Bytes(b"stamped"), flags: 0, to: None, cmsgs: &[] });
    assert_eq!(w.read(s, 100), b"stamped");
    w.call(Call::Close { fd: s });
    w.call(Call::Close { fd: c });
    // The sum of all sockets' memory is right again once it is gone.
    w.check();
}
