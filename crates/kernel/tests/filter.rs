//! Classic BPF on UDP sockets and in their SO_REUSEPORT groups; TCP's are scripts of `conformance/`.
mod common;
use belljar_abi::*;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::task::call::*;
use common::*;

/// `struct sock_filter`.
fn program(insns: &[(u16, u8, u8, u32)]) -> Vec<u8> {
    let one =
        |&(code, jt, jf, k): &(u16, u8, u8, u32)| [&code.to_ne_bytes()[..], &[jt, jf], &k.to_ne_bytes()[..]].concat();
    insns.iter().flat_map(one).collect()
}

fn attach(h: &mut Host, fd: Fd, name: i32, insns: &[(u16, u8, u8, u32)]) -> SysResult {
    h.call(Call::SetSockOpt { fd, level: SOL_SOCKET, name, value: &program(insns) })
}

#[test]
fn a_filter_sees_the_udp_header_and_cuts_or_drops() {
    let mut h = Host::new();
    let (a, b) = (h.udp_on(LO, 5000), h.udp_on(LO, 6000));
    // Four bytes of payload behind the header.
    attach(&mut h, a, SO_ATTACH_FILTER, &[(6, 0, 0, 12)]).unwrap();
    h.send_to(b, b"payload", LO, 5000).unwrap();
    assert_eq!(h.recv(a).unwrap().0, b"payl");
    // ldh [0]; jeq #6000, 1, 0; ret #-1; ret #0
    attach(&mut h, a, SO_ATTACH_FILTER, &[(0x28, 0, 0, 0), (0x15, 1, 0, 6000), (6, 0, 0, u32::MAX), (6, 0, 0, 0)])
        .unwrap();
    h.send_to(b, b"payload", LO, 5000).unwrap();
    assert_eq!((h.recv(a), h.counter(Mib::UdpInErrors)), (Err(Errno::EAGAIN), 1));
    let c = h.udp_on(LO, 6001);
    h.send_to(c, b"payload", LO, 5000).unwrap();
    assert_eq!(h.recv(a).unwrap().0, b"payload");
    h.set(a, SOL_SOCKET, SO_DETACH_FILTER, 0).unwrap();
    assert_eq!(h.set(a, SOL_SOCKET, SO_DETACH_FILTER, 0), Err(Errno::ENOENT));
}

#[test]
fn a_program_chooses_by_the_payload_and_joins_with_the_group() {
    let mut h = Host::new();
    let member = |h: &mut Host| {
        let fd = h.udp();
        h.set(fd, SOL_SOCKET, SO_REUSEPORT, 1).unwrap();
        h.bind(fd, LO, 5000).unwrap();
        fd
    };
    let first = member(&mut h);
    assert_eq!(attach(&mut h, first, SO_ATTACH_REUSEPORT_CBPF, &[(0, 0, 0, 0)]), Err(Errno::EINVAL));
    // ldb [0]; ret a
    attach(&mut h, first, SO_ATTACH_REUSEPORT_CBPF, &[(0x30, 0, 0, 0), (0x16, 0, 0, 0)]).unwrap();
    let all = [first, member(&mut h), member(&mut h)];
    let sender = h.udp();
    for n in [2u8, 0, 1, 1] {
        h.send_to(sender, &[n], LO, 5000).unwrap();
        let got: Vec<bool> = all.map(|fd| h.recv(fd).is_ok()).to_vec();
        assert_eq!(got.iter().position(|g| *g), Some(n.into()));
    }
    // A number that nobody has leaves it to the hash.
    h.send_to(sender, &[9], LO, 5000).unwrap();
    assert_eq!(all.iter().filter(|fd| h.recv(**fd).is_ok()).count(), 1);
    h.set(all[2], SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0).unwrap();
    assert_eq!(h.set(first, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0), Err(Errno::ENOENT));
    let alone = h.udp();
    assert_eq!(attach(&mut h, alone, SO_ATTACH_REUSEPORT_CBPF, &[(6, 0, 0, 0)]), Err(Errno::EINVAL));
}
