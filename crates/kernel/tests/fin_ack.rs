//! Data and FIN leave in one segment, and the peer acknowledges the data only.
mod common;
use belljar_abi::*;
use belljar_kernel::task::call::*;
use belljar_wire::ipv4::IPPROTO_TCP;
use belljar_wire::tcp::{Flags, TcpHeader};
use belljar_wire::{Csum, Frame, gso};
use common::*;

fn segment(flags: Flags, seq: u32, ack: u32, window: u16) -> Frame {
    let mut l4 = [0; 20];
    let t = TcpHeader { src_port: 40_000, dst_port: 80, seq, ack, flags, window, header_len: 20, ..Default::default() };
    t.emit(&mut l4);
    let mut f = ip(from_peer(IPPROTO_TCP), &l4);
    f.csum = Csum::Partial;
    gso::finish_checksum(&mut f);
    Frame { csum: Csum::None, ..f }
}

fn sent(h: &mut Host) -> Vec<(TcpHeader, usize)> {
    let tcp = |f: Frame| TcpHeader::parse(&f.to_vec()[34..]).map(|t| (t, f.len() - 34 - t.header_len)).unwrap();
    h.sent().into_iter().map(tcp).collect()
}

#[test]
fn an_ack_of_the_data_leaves_the_fin_in_flight() {
    let mut h = Host::new();
    h.know_peer();
    let fd = h.socket(SOCK_STREAM | SOCK_NONBLOCK);
    h.bind(fd, HOST, 80).unwrap();
    h.call(Call::Listen { fd, backlog: 5 }).unwrap();
    h.rx(segment(Flags::SYN, 7, 0, 0));
    let iss = sent(&mut h)[0].0.seq.wrapping_add(1);
    // A closed window holds the data back until the FIN stands behind it.
    h.rx(segment(Flags::ACK, 8, iss, 0));
    let Ok(Ret::Accepted { fd: conn, .. }) = h.call(Call::Accept { fd, flags: 0 }) else { panic!("no connection") };
    h.send(conn, &[1; 3000]).unwrap();
    h.call(Call::Shutdown { fd: conn, how: SHUT_WR }).unwrap();
    h.rx(segment(Flags::ACK, 8, iss, 60_000));
    let out = sent(&mut h);
    let last = out.last().unwrap();
    assert!(last.0.flags.contains(Flags::FIN) && last.1 > 0, "{out:?}");
    h.rx(segment(Flags::ACK, 8, iss.wrapping_add(3000), 60_000));
    h.advance(2 * SEC);
    let again = sent(&mut h);
    assert!(!again.is_empty() && again.iter().all(|(t, n)| t.flags.contains(Flags::FIN) && *n == 0), "{again:?}");
    h.rx(segment(Flags::ACK, 8, iss.wrapping_add(3001), 60_000));
    h.advance(10 * SEC);
    assert_eq!(sent(&mut h).len(), 0);
}
