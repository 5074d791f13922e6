//! What people and other programs write: capture files, filters, link conditions, scripts, socket addresses, netlink
//! messages.
#![no_main]
use belljar_abi::{SockAddr, netlink, rtnetlink, tcp_info::TcpInfo};
use belljar_capture::{Filter, Reader};
use belljar_link::{Conditions, parse_delay, parse_percent, parse_rate};
use belljar_wire::{Frame, Mac};
use libfuzzer_sys::fuzz_target;

fn text(s: &str, packet: &Frame) {
    if let Ok(f) = Filter::compile(s) {
        f.matches(packet);
    }
    belljar_script::check("fuzz.pkt", s).explain();
    let _ = (parse_delay(s), parse_percent(s), parse_rate(s), s.parse::<Mac>());
    if let Ok(c) = Conditions::default().apply(s.split(' ')) {
        Conditions::default().apply(c.to_string().split(' ')).expect("what is shown can be read");
    }
}

fn bytes(b: &[u8]) {
    if let Ok(a) = SockAddr::parse(b) {
        assert_eq!(SockAddr::parse(&a.emit()), Ok(a));
    }
    let _ = SockAddr::parse_for_bind4(b);
    for (_, body) in netlink::messages(b) {
        let _ = (rtnetlink::IfInfoMsg::parse(body), rtnetlink::IfAddrMsg::parse(body));
        let _ = (rtnetlink::RtMsg::parse(body), rtnetlink::NdMsg::parse(body));
        netlink::attrs(body).for_each(drop);
    }
    assert_eq!(TcpInfo::parse(&TcpInfo::parse(b).to_bytes()), TcpInfo::parse(b));
}

fuzz_target!(|data: &[u8]| {
    bytes(data);
    if let Ok(r) = Reader::new(data) {
        r.for_each(drop);
    }
    let (head, tail) = data.split_at(data.len().min(60));
    if let Ok(s) = std::str::from_utf8(tail) {
        text(s, &Frame::from_bytes(head, 0));
    }
});
