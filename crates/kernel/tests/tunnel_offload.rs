//! Super-segments in tunnels: whole down to a card that cuts them there, cut in part or in whole before one that does not; the wire
//! carries the same frames whatever the offloads.
mod common;

use belljar_abi::*;
use belljar_kernel::drivers::tunnel::{GRE_CSUM, GRE_KEY, GRE_SEQ, Kind, Tunnel};
use belljar_kernel::drivers::vxlan::Vxlan;
use belljar_kernel::ids::DevId;
use belljar_kernel::net::core::features;
use belljar_kernel::task::call::*;
use belljar_wire::{Frame, Mac, gso};
use common::*;
use core::net::Ipv4Addr;

const HW_CSUM: u64 = 1 << 3;
const TSO: u64 = 1 << 16;
const GRE: u64 = 1 << 22;
const GRE_CSUM_SEG: u64 = 1 << 23;
const IPXIP4: u64 = 1 << 24;
const UDP_TNL: u64 = 1 << 26;
const UDP_TNL_CSUM: u64 = 1 << 27;
const PARTIAL: u64 = 1 << 28;
const USO: u64 = 1 << 33;
const ENCAP: u64 = GRE | GRE_CSUM_SEG | IPXIP4 | UDP_TNL | UDP_TNL_CSUM | PARTIAL;

const HERE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);

#[derive(Clone, Copy, Debug)]
enum Way {
    /// With sums outside or not.
    Vxlan(bool),
    Tunnel(Kind, u16),
}

fn ways() -> Vec<Way> {
    let gre = |flags| Way::Tunnel(Kind::Gre, flags);
    let plain = [Way::Vxlan(false), Way::Vxlan(true), gre(0), gre(GRE_KEY), gre(GRE_CSUM), gre(GRE_CSUM | GRE_KEY)];
    let more =
        [gre(GRE_SEQ), Way::Tunnel(Kind::Gretap, 0), Way::Tunnel(Kind::Gretap, GRE_CSUM), Way::Tunnel(Kind::Ipip, 0)];
    [&plain[..], &more].concat()
}

fn dev(h: &mut Host, way: Way, local: Ipv4Addr, remote: Ipv4Addr) -> DevId {
    match way {
        Way::Vxlan(udp_csum) => {
            let v = Vxlan {
                ns: h.ns,
                lower: None,
                vni: 42,
                port: 4789,
                remote,
                local,
                ttl: 0,
                ttl_inherit: false,
                tos: 0,
                learning: true,
                ageing: 300,
                ports: (0, 0),
                udp_csum,
                no_csum6: (false, false),
                addrmax: 0,
                fdb: Default::default(),
            };
            h.k.net.add_vxlan((h.ns, "t"), v).unwrap()
        }
        Way::Tunnel(kind, flags) => {
            let t = Tunnel {
                kind,
                ns: h.ns,
                lower: None,
                local,
                remote,
                ttl: 0,
                tos: 0,
                proto: 0,
                pmtudisc: true,
                ignore_df: false,
                iflags: flags,
                oflags: flags,
                ikey: 7,
                okey: 7,
                fwmark: 0,
                o_seqno: 0,
                i_seqno: 0,
                errors: (0, 0),
            };
            h.k.net.add_tunnel((h.ns, "t"), t, false).unwrap()
        }
    }
}

/// Two machines on a cable with a tunnel between them, the first without some offloads of its card and of the tunnel.
fn pair(way: Way, off: u64, tunnel_off: u64) -> (Host, Host) {
    let mut a = Host::new();
    let mut b = Host::at(PEER, PEER_MAC, HOST);
    for (h, local, remote, addr) in [(&mut a, HOST, PEER, HERE), (&mut b, PEER, HOST, THERE)] {
        let t = dev(h, way, local, remote);
        // Room for the longest wrapping, so that all ways have the same segments.
        h.k.net.set_mtu(t, 1400).unwrap();
        // Both machines have chosen the same at random; where there is no address none can be set.
        let _ = h.k.net.set_mac(t, Mac([2, 0, 0, 0, 9, local.octets()[3]]));
        h.k.set_link(t, true).unwrap();
        h.k.add_address(t, addr, 24).unwrap();
    }
    let card = a.dev;
    features::set(&mut a.k.net, card, 0, off);
    let t = a.k.net.dev_by_name(a.ns, "t").unwrap();
    features::set(&mut a.k.net, t, 0, tunnel_off);
    (a, b)
}

/// What a wire would have carried.
fn wire(frames: &[Frame]) -> Vec<Vec<u8>> {
    frames.iter().flat_map(|f| gso::segment(f.clone())).map(|f| f.to_vec()).collect()
}

/// Frames that cross, both ways, until nobody says anything; those of `a` come back.
fn cross(a: &mut Host, b: &mut Host) -> Vec<Frame> {
    let mut all = Vec::new();
    loop {
        let (out, back) = (a.sent(), b.sent());
        if out.is_empty() && back.is_empty() {
            return all;
        }
        all.extend(out.iter().cloned());
        out.into_iter().for_each(|f| b.rx(f));
        back.into_iter().for_each(|f| a.rx(f));
    }
}

/// 40 kB of TCP and one burst of datagrams through the tunnel: the frames of the sender, and what the receiver read.
fn traffic((mut a, mut b): (Host, Host)) -> (Vec<Frame>, Vec<u8>) {
    let l = b.socket(SOCK_STREAM | SOCK_NONBLOCK);
    b.bind(l, THERE, 80).unwrap();
    b.call(Call::Listen { fd: l, backlog: 5 }).unwrap();
    let u = b.udp_on(THERE, 9);
    let c = a.socket(SOCK_STREAM | SOCK_NONBLOCK);
    a.connect(c, THERE, 80).unwrap_err();
    let mut frames = cross(&mut a, &mut b);
    let s = (0..3000).find_map(|_| {
        a.advance(MS);
        b.advance(MS);
        frames.extend(cross(&mut a, &mut b));
        match b.call(Call::Accept { fd: l, flags: SOCK_NONBLOCK }) {
            Ok(Ret::Accepted { fd, .. }) => Some(fd),
            _ => None,
        }
    });
    let s = s.expect("a connection");
    let data: Vec<u8> = (0..40_000u32).map(|i| (i * 7 + i / 251) as u8).collect();
    let mut got = Vec::new();
    let Ok(Ret::Int(40_000)) = a.send(c, &data) else { panic!() };
    for _ in 0..100 {
        frames.extend(cross(&mut a, &mut b));
        while let Ok(Ret::Stream(x)) = b.call(Call::Recv { fd: s, len: 1 << 20, flags: 0 }) {
            got.extend(x.to_vec());
        }
        if got.len() == data.len() {
            break;
        }
        a.advance(MS);
        b.advance(MS);
    }
    assert!(got == data, "{} of {}", got.len(), data.len());
    let from = a.udp();
    a.set(from, 17, UDP_SEGMENT, 1000).unwrap();
    a.send_to(from, &data[..4500], THERE, 9).unwrap();
    frames.extend(cross(&mut a, &mut b));
    let lengths: Vec<usize> = std::iter::from_fn(|| b.recv(u).ok()).map(|d| d.0.len()).collect();
    assert_eq!(lengths, [1000, 1000, 1000, 1000, 500]);
    (frames, got)
}

#[test]
fn the_wire_carries_the_same_whatever_the_offloads() {
    for way in ways() {
        let (reference, _) = traffic(pair(way, ENCAP, TSO | USO));
        assert!(reference.iter().all(|f| f.gso.is_none() && f.len() <= 1514), "{way:?}");
        let reference = wire(&reference);
        assert!(reference.len() > 35);
        for (off, tunnel_off) in [
            (0, 0),
            (PARTIAL, 0),
            (UDP_TNL_CSUM | GRE_CSUM_SEG, 0),
            (UDP_TNL | GRE | IPXIP4, 0),
            (ENCAP, 0),
            (TSO, 0),
            (USO, 0),
            (HW_CSUM, 0),
            (0, TSO),
            (0, USO),
            (0, HW_CSUM),
        ] {
            let (frames, _) = traffic(pair(way, off, tunnel_off));
            assert!(wire(&frames) == reference, "{way:?} {off:#x} {tunnel_off:#x}");
        }
    }
}

#[test]
fn whole_to_the_card_in_part_or_cut() {
    let largest = |way, off| traffic(pair(way, off, 0)).0.iter().map(Frame::len).max().unwrap();
    for way in ways() {
        let (own, sums) = match way {
            Way::Vxlan(sums) => (if sums { UDP_TNL_CSUM } else { UDP_TNL }, sums),
            Way::Tunnel(Kind::Ipip, _) => (IPXIP4, false),
            Way::Tunnel(_, flags) if flags & GRE_CSUM != 0 => (GRE_CSUM_SEG, true),
            _ => (GRE, false),
        };
        let numbered = matches!(way, Way::Tunnel(_, GRE_SEQ));
        assert_eq!(largest(way, 0) > 4000, !numbered, "{way:?}");
        assert!(largest(way, own) <= 1514, "{way:?}");
        assert_eq!(largest(way, PARTIAL) > 4000, !sums && !numbered, "{way:?}");
    }
}

#[test]
fn what_is_cut_in_part_has_a_rest() {
    // The burst of datagrams: four are alike, the fifth is short.
    let gsos = |way| {
        let (frames, _) = traffic(pair(way, 0, 0));
        frames.iter().rev().take(2).rev().map(|f| f.gso.map_or(1, |g| g.segs)).collect::<Vec<_>>()
    };
    assert_eq!(gsos(Way::Vxlan(true)), [4, 1]);
    assert_eq!(gsos(Way::Vxlan(false))[1], 5);
    assert_eq!(gsos(Way::Tunnel(Kind::Gre, GRE_CSUM)), [4, 1]);
}
