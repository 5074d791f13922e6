//! A program speaks NETLINK_NETFILTER and NETLINK_GENERIC with any bytes; packets meet the rules that came of it.
#![no_main]
#[path = "../common/mod.rs"]
mod common;
use belljar_abi::netlink::ErrorForm;
use belljar_abi::{SOCK_DGRAM, SOCK_NONBLOCK, SockAddr};
use belljar_kernel::net::netlink::Caller;
use belljar_kernel::task::call::{Call, Payload};
use common::*;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut m = machine();
    let Some(ns) = m.k.net.devs.get(m.dev).map(|d| d.ns) else { return };
    let form = ErrorForm { ext_ack: true, cap_ack: false };
    let c = Caller { ns, port: 7, uid: 0, process: (1, "fuzz"), net_admin: true, strict: true, form, netns: &[] };
    // Datagrams one after another, each with its length before it; the first byte says for which of the two.
    let mut rest = data;
    while let Some((&[which, lo, hi], more)) = rest.split_first_chunk::<3>() {
        let len = usize::from(u16::from_le_bytes([lo, hi])).min(more.len());
        let (datagram, behind) = more.split_at(len);
        rest = behind;
        if which & 1 == 0 {
            m.k.nfnetlink(m.now, &c, datagram);
        } else {
            m.k.genetlink(m.now, &c, datagram);
        }
    }
    let fd = m.socket(SOCK_DGRAM | SOCK_NONBLOCK);
    for to in [m.ends.host, m.ends.peer] {
        let addr = SockAddr::V4(to, 9).emit();
        drop(m.call(Call::Send { fd, data: Payload::Bytes(b"x"), flags: 0, to: Some(&addr), cmsgs: &[] }));
    }
    m.sleep(2_000_000_000);
    m.check();
});
