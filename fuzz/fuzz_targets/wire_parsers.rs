//! Bytes from a wire: every parser, flows, checksums, segmentation, links and the printer. Nothing may panic, and what
//! was parsed comes out of `emit` as it went in.
#![no_main]
use belljar_link::{Conditions, Pipe};
use belljar_wire::arp::ArpPacket;
use belljar_wire::ethernet::EthHeader;
use belljar_wire::icmp::IcmpHeader;
use belljar_wire::ipv4::{self, Ipv4Header};
use belljar_wire::tcp::{TcpHeader, TcpOptions};
use belljar_wire::udp::UdpHeader;
use belljar_wire::{Csum, Encap, FlowKey, Frame, Gso, GsoType, checksum, gso};
use libfuzzer_sys::fuzz_target;

fn headers(b: &[u8]) {
    let mut out = [0u8; 64];
    if let Ok(h) = EthHeader::parse(b) {
        h.emit(&mut out);
        assert_eq!(out[..14], b[..14]);
    }
    if let Ok(a) = ArpPacket::parse(b) {
        a.emit(&mut out);
        assert_eq!(out[..28], b[..28]);
    }
    if let Ok(h) = IcmpHeader::parse(b) {
        h.emit(&mut out);
        assert_eq!(out[..8], b[..8]);
    }
    if let Ok(h) = UdpHeader::parse(b) {
        h.emit(&mut out);
        assert_eq!(out[..8], b[..8]);
    }
    if let Ok(h) = Ipv4Header::parse(b) {
        let n = h.ihl_bytes;
        out[..n].copy_from_slice(&b[..n]);
        h.emit(&mut out);
        assert!(Ipv4Header::verify_checksum(&out));
        let again = Ipv4Header::parse(&out[..n]).unwrap();
        assert_eq!(Ipv4Header { csum: h.csum, ..again }, h);
        assert_eq!(h.options(b).len(), n - 20);
        if ipv4::decrease_ttl(&mut out) {
            assert!(Ipv4Header::verify_checksum(&out));
        }
    }
    if let Ok(h) = TcpHeader::parse(b) {
        h.emit(&mut out);
        assert_eq!(TcpHeader::parse(&[&out[..20], &[0; 40]].concat()), Ok(h));
        assert_eq!(h.options(b).len(), h.header_len - 20);
    }
}

fn options(b: &[u8]) {
    let o = TcpOptions::parse(b);
    let mut out = [0u8; 40];
    let n = o.emit(&mut out);
    assert_eq!(n, o.len());
    let again = TcpOptions::parse(&out[..n]);
    // SACK blocks without room beside the others are left out.
    assert_eq!((again.mss, again.wscale, again.sack_ok, again.ts), (o.mss, o.wscale, o.sack_ok, o.ts));
    assert!(again.n_sack <= o.n_sack && o.sack_blocks().starts_with(again.sack_blocks()));
}

fn frames(b: &[u8], size: u16, kind: u8) {
    let mut f = Frame::from_bytes(b, 1);
    let _ = gso::verify(&f);
    if let Some(k) = FlowKey::dissect(&f) {
        assert_eq!(k.reversed().reversed(), k);
    }
    let mut done = f.clone();
    done.csum = Csum::Partial;
    gso::finish_checksum(&mut done);
    assert_eq!(done.len(), f.len());
    let encap = [Encap::UdpTnl, Encap::UdpTnlCsum, Encap::Gre, Encap::GreCsum, Encap::IpIp];
    let encap = encap.get(usize::from(kind >> 1 & 7)).copied().unwrap_or_default();
    let kind = if kind & 1 == 0 { GsoType::TcpV4 } else { GsoType::UdpL4 };
    f.gso = Some(Gso { encap, ..Gso::new(kind, size.max(16), 1) });
    // In part and then in whole is in whole.
    let halves: Vec<Frame> = gso::partial(f.clone()).flat_map(gso::segment).collect();
    let at_once: Vec<Frame> = gso::segment(f.clone()).collect();
    assert!(halves.iter().map(Frame::to_vec).eq(at_once.iter().map(Frame::to_vec)));
    let whole = f.payload.len();
    let pieces: Vec<Frame> = gso::segment(f.clone()).collect();
    assert!(!pieces.is_empty() && pieces.iter().map(|p| p.payload.len()).sum::<usize>() >= whole);
    belljar_capture::Printer::default().line(0, &belljar_capture::to_wire(&f));
    let mut p = Pipe::new(size as u64);
    let c = Conditions {
        corrupt: 0.5,
        duplicate: 0.3,
        reorder: 0.3,
        loss: 0.1,
        delay_ns: kind as u64,
        ..Conditions::default()
    };
    p.set(c);
    p.push(0, f);
    while let Some(at) = p.next_deadline() {
        assert!(p.pop(at).is_some());
    }
}

fuzz_target!(|data: &[u8]| {
    headers(data);
    options(data);
    let sum = checksum::sum(data, 0);
    let at = data.len() / 3;
    assert_eq!(
        checksum::partial(checksum::combine(checksum::sum(&data[..at], 0), checksum::sum(&data[at..], 0), at)) % 0xffff,
        checksum::partial(sum) % 0xffff
    );
    if let [a, b, kind, rest @ ..] = data {
        frames(rest, u16::from_be_bytes([*a, *b]), *kind);
    }
});
