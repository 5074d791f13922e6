//! How fast a connection sends and what it says about it: pacing, BBR, ECN, compressed acknowledgements, the numbers of
//! TCP_INFO, timeouts of thin streams, the memory of all sockets.
mod common;
mod peer;
use belljar_abi::*;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::task::call::*;
use belljar_kernel::task::process::Caps;
use belljar_wire::tcp::{Flags, TcpOptions};
use common::*;
use peer::*;

const MSS: usize = 1460;
const WINDOW: u16 = 60_000;

fn info(h: &mut Host, fd: Fd) -> TcpInfo {
    match h.call(Call::GetSockOpt { fd, level: SOL_TCP, name: TCP_INFO, len: 512 }) {
        Ok(Ret::Opt(b)) => TcpInfo::parse(&b),
        r => panic!("{r:?}"),
    }
}

fn options() -> TcpOptions {
    TcpOptions { mss: Some(1460), wscale: Some(0), sack_ok: true, ..TcpOptions::default() }
}

/// An accepted connection whose handshake took `rtt`, before which the listener got its options; and our next number.
fn connection(h: &mut Host, rtt: u64, flags: Flags, prepare: impl Fn(&mut Host, Fd)) -> (Fd, u32) {
    h.know_peer();
    let l = h.listener(5);
    prepare(h, l);
    let a = h.tcp(Seg { flags: Flags::SYN | flags, ..syn(2000) }.with(options()));
    let next = a[0].seq.wrapping_add(1);
    h.advance(rtt);
    h.tcp(Seg { window: WINDOW, ..seg(2000, Flags::ACK, ISN + 1, next) });
    (h.accept(l).unwrap(), next)
}

fn ack(h: &mut Host, n: u32) -> Vec<Seg> {
    h.tcp(Seg { window: WINDOW, ..seg(2000, Flags::ACK, ISN + 1, n) })
}

/// Wire segments: the NIC hands on super-segments.
fn segments(out: &[Seg]) -> usize {
    out.iter().map(|s| s.data.len().div_ceil(MSS)).sum()
}

fn sack(h: &mut Host, n: u32, block: (u32, u32)) -> Vec<Seg> {
    let mut o = TcpOptions { n_sack: 1, ..TcpOptions::default() };
    o.sack[0] = block;
    h.tcp(Seg { window: WINDOW, ..seg(2000, Flags::ACK, ISN + 1, n) }.with(o))
}

#[test]
fn so_max_pacing_rate_spreads_departures() {
    let mut h = Host::new();
    // A megabyte a second: 1460 bytes each 1.46 ms, once the first ten segments are out.
    let (fd, next) = connection(&mut h, 10 * MS, Flags::NONE, |h, l| {
        h.set(l, SOL_SOCKET, SO_MAX_PACING_RATE, 1_000_000).unwrap();
    });
    h.set(fd, SOL_SOCKET, SO_SNDBUF, 400_000).unwrap();
    h.send(fd, &[1; 40 * MSS]).unwrap();
    assert_eq!(segments(&h.answers()), 10);
    let (from, mut sent) = (h.now, 0);
    h.advance(10 * MS);
    let mut out = ack(&mut h, next + 10 * MSS as u32);
    while h.now < from + 30 * MS {
        sent += segments(&out);
        h.advance(MS / 10);
        out = h.answers();
    }
    assert!((12..=16).contains(&sent), "{sent} segments in 20 ms");
    let i = info(&mut h, fd);
    assert_eq!((i.pacing_rate, i.max_pacing_rate), (1_000_000, 1_000_000));
    assert_eq!(h.get(fd, SOL_SOCKET, SO_MAX_PACING_RATE), 1_000_000);
    // Without: as fast as acknowledgements come.
    let mut h = Host::new();
    let (fd, next) = connection(&mut h, 10 * MS, Flags::NONE, |_, _| {});
    h.set(fd, SOL_SOCKET, SO_SNDBUF, 400_000).unwrap();
    h.send(fd, &[1; 40 * MSS]).unwrap();
    h.answers();
    h.advance(10 * MS);
    assert_eq!(segments(&ack(&mut h, next + 10 * MSS as u32)), 20);
}

#[test]
fn tcp_info_tells_rate_and_what_limits() {
    let mut h = Host::new();
    let (fd, next) = connection(&mut h, 10 * MS, Flags::NONE, |_, _| {});
    let i = info(&mut h, fd);
    assert_eq!((i.delivery_rate, i.busy_time, i.delivery_rate_app_limited), (0, 0, true));
    h.set(fd, SOL_SOCKET, SO_SNDBUF, 400_000).unwrap();
    h.send(fd, &[1; 10 * MSS]).unwrap();
    h.answers();
    h.advance(20 * MS);
    // A window of two segments from here on.
    h.tcp(Seg { window: 2 * MSS as u16, ..seg(2000, Flags::ACK, ISN + 1, next + 10 * MSS as u32) });
    let i = info(&mut h, fd);
    // Ten segments in a round trip of 20 ms; the SYN-ACK counts as delivered too.
    assert_eq!((i.delivery_rate, i.delivered), (10 * MSS as u64 * 50, 11));
    assert_eq!((i.busy_time, i.rwnd_limited, i.sndbuf_limited), (20_000, 0, 0));
    // It holds back what the congestion window would let go.
    h.send(fd, &[1; 8 * MSS]).unwrap();
    h.answers();
    h.advance(40 * MS);
    let i = info(&mut h, fd);
    assert_eq!((i.busy_time, i.rwnd_limited), (60_000, 40_000));
    assert_eq!((i.snd_wnd, i.notsent_bytes), (2 * MSS as u32, 6 * MSS as u32));
}

#[test]
fn bbr_by_name_and_right() {
    let mut h = Host::new();
    let set = |h: &mut Host, fd, name: &[u8]| {
        h.call(Call::SetSockOpt { fd, level: SOL_TCP, name: TCP_CONGESTION, value: name })
    };
    let available = h.k.net.ns.get(h.ns).unwrap().sysctl.show("net.ipv4.tcp_available_congestion_control");
    assert_eq!(available.as_deref(), Some("reno cubic bbr"));
    let p = h.k.add_process(h.ns, 1000, Caps::NONE, 1024, "user");
    let root = std::mem::replace(&mut h.task, h.k.add_task(p, 0).unwrap());
    let fd = h.socket(SOCK_STREAM);
    assert_eq!(set(&mut h, fd, b"bbr"), Err(Errno::EPERM));
    set(&mut h, fd, b"reno").unwrap();
    h.sysctl("net.ipv4.tcp_allowed_congestion_control", "bbr reno");
    set(&mut h, fd, b"bbr").unwrap();
    assert_eq!(set(&mut h, fd, b"cubic"), Ok(Ret::Int(0)), "the default is allowed to all");
    h.task = root;
    let store = |h: &mut Host, k, v| h.k.net.ns.get_mut(h.ns).unwrap().sysctl.store(k, v);
    assert_eq!(store(&mut h, "net.ipv4.tcp_congestion_control", "vegas"), Err(Errno::ENOENT));
    assert_eq!(store(&mut h, "net.ipv4.tcp_available_congestion_control", "reno"), Err(Errno::EACCES));
}

#[test]
fn bbr_paces_from_the_first_round_trip_and_tells_its_model() {
    let mut h = Host::new();
    h.sysctl("net.ipv4.tcp_congestion_control", "bbr");
    let (fd, next) = connection(&mut h, 20 * MS, Flags::NONE, |_, _| {});
    let rate = info(&mut h, fd).pacing_rate;
    // The initial window in a round trip, times 2.89, less a hundredth.
    let want = 10 * MSS as u64 * 50 * 739 / 256 * 99 / 100;
    assert!(rate.abs_diff(want) < want / 100, "{rate}, expected {want}");
    h.set(fd, SOL_SOCKET, SO_SNDBUF, 400_000).unwrap();
    h.send(fd, &[1; 60 * MSS]).unwrap();
    h.answers();
    h.advance(20 * MS);
    ack(&mut h, next + 10 * MSS as u32);
    let Ok(Ret::Opt(b)) = h.call(Call::GetSockOpt { fd, level: SOL_TCP, name: TCP_CC_INFO, len: 64 }) else { panic!() };
    let word = |i: usize| u32::from_ne_bytes(*b[4 * i..].first_chunk().unwrap());
    let bw = u64::from(word(1)) << 32 | u64::from(word(0));
    assert!(bw.abs_diff(10 * MSS as u64 * 50) < 2_000, "{bw}");
    assert_eq!((b.len(), word(3), word(4)), (20, 739, 739));
    assert!(word(2).abs_diff(20_000) <= 1, "{}", word(2));
    assert_eq!(info(&mut h, fd).snd_ssthresh, 0x7fff_ffff);
}

#[test]
fn ecn_is_agreed_marks_are_echoed_and_lower_the_window_once() {
    let mut h = Host::new();
    let (fd, next) = connection(&mut h, 10 * MS, Flags::ECE | Flags::CWR, |_, _| {});
    assert_eq!(info(&mut h, fd).options & TCPI_OPT_ECN, TCPI_OPT_ECN);
    h.set(fd, SOL_SOCKET, SO_SNDBUF, 400_000).unwrap();
    h.send(fd, &[1; 40 * MSS]).unwrap();
    h.answers();
    assert_eq!(h.last_tos & 3, 2, "new data is ECT(0)");
    // A mark of ours comes back: the window shrinks although nothing was lost, and the next new data says so.
    h.advance(10 * MS);
    let echo = |h: &mut Host, n| h.tcp(Seg { window: WINDOW, ..seg(2000, Flags::ACK | Flags::ECE, ISN + 1, n) });
    let out = echo(&mut h, next + 4 * MSS as u32);
    let i = info(&mut h, fd);
    assert_eq!((i.ca_state, i.snd_ssthresh, i.delivered_ce), (TCP_CA_CWR, 7, 4));
    assert!(out[0].flags.contains(Flags::CWR) && !out[1..].iter().any(|s| s.flags.contains(Flags::CWR)), "{out:?}");
    echo(&mut h, next + 5 * MSS as u32);
    assert_eq!(info(&mut h, fd).snd_ssthresh, 7, "once a round trip");
    assert_eq!(h.counter(Mib::TcpExtTCPDeliveredCE), 5);
    // A mark that came in is told until the peer answers CWR; acknowledgements are not markable.
    let data = |h: &mut Host, at: u32, flags, tos| {
        let s = seg(2000, Flags::ACK | flags, ISN + 1 + at * 100, next + 5 * MSS as u32).data(&[2; 100]);
        h.tcp_tos(tos, Seg { window: WINDOW, ..s })
    };
    let a = data(&mut h, 0, Flags::NONE, 3);
    assert!(a.last().unwrap().flags.contains(Flags::ECE) && h.last_tos & 3 == 0, "{a:?}");
    assert!(data(&mut h, 1, Flags::NONE, 2).last().unwrap().flags.contains(Flags::ECE));
    assert!(!data(&mut h, 2, Flags::CWR, 2).last().unwrap().flags.contains(Flags::ECE));
    assert_eq!(info(&mut h, fd).received_ce, 1);
}

#[test]
fn ecn_is_refused_when_off_or_when_the_syn_itself_is_marked() {
    for (setting, tos, agreed) in [("0", 0, false), ("2", 0, true), ("1", 0, true), ("2", 2, false)] {
        let mut h = Host::new();
        h.know_peer();
        h.sysctl("net.ipv4.tcp_ecn", setting);
        h.listener(5);
        let a = h.tcp_tos(tos, Seg { flags: Flags::SYN | Flags::ECE | Flags::CWR, ..syn(2000) }.with(options()));
        assert_eq!(a[0].flags.contains(Flags::ECE), agreed, "tcp_ecn {setting}, tos {tos}");
        assert!(!a[0].flags.contains(Flags::CWR));
    }
}

#[test]
fn our_syn_asks_once_and_then_without() {
    let mut h = Host::new();
    h.know_peer();
    h.sysctl("net.ipv4.tcp_ecn", "1");
    let fd = h.socket(SOCK_STREAM | SOCK_NONBLOCK);
    let _ = h.connect(fd, PEER, 80);
    assert!(h.answers()[0].flags.contains(Flags::SYN | Flags::ECE | Flags::CWR));
    h.advance(SEC + 10 * MS);
    assert!(!h.answers()[0].flags.intersects(Flags::ECE | Flags::CWR), "tcp_ecn_fallback");
}

#[test]
fn acknowledgements_of_data_behind_a_hole_are_compressed() {
    let mut h = Host::new();
    let (_, next) = connection(&mut h, 20 * MS, Flags::NONE, |_, _| {});
    let data = |h: &mut Host, at: u32| {
        h.tcp(Seg { window: WINDOW, ..seg(2000, Flags::ACK, ISN + 1 + at * 1000, next) }.data(&[1; 1000]))
    };
    // Spend the credit of quick acknowledgements that a fresh connection has.
    let mut quick = 0;
    while !data(&mut h, quick).is_empty() {
        quick += 1;
        assert!(quick < 40);
    }
    h.advance(50 * MS);
    h.answers();
    let first = quick + 2;
    let told: Vec<usize> = (0..10).map(|i| data(&mut h, first + i).len()).collect();
    assert_eq!(told, [1, 1, 1, 0, 0, 0, 0, 0, 0, 0], "three duplicates start a recovery");
    h.advance(MS + MS / 10);
    let late = h.answers();
    assert_eq!(late.len(), 1, "one for the rest, after a millisecond at most");
    assert_eq!(h.counter(Mib::TcpExtTCPAckCompressed), 6);
    // The hole is filled: nothing is held back.
    assert_eq!(data(&mut h, quick + 1).len(), 1);
    h.sysctl("net.ipv4.tcp_comp_sack_nr", "0");
    assert!((20..30).all(|i| data(&mut h, first + i).len() == 1));
}

#[test]
fn thin_streams_may_ask_for_linear_timeouts() {
    let gaps = |thin: i32| -> Vec<u64> {
        let mut h = Host::new();
        let (fd, next) = connection(&mut h, 10 * MS, Flags::NONE, |_, _| {});
        h.sysctl("net.ipv4.tcp_early_retrans", "0");
        // A first loss ends the slow start that is no sign of a thin stream.
        h.send(fd, b"x").unwrap();
        h.advance(300 * MS);
        h.answers();
        h.advance(SEC);
        ack(&mut h, next + 1);
        h.answers();
        h.set(fd, SOL_TCP, TCP_THIN_LINEAR_TIMEOUTS, thin).unwrap();
        assert_eq!(h.get(fd, SOL_TCP, TCP_THIN_LINEAR_TIMEOUTS), thin);
        h.send(fd, b"y").unwrap();
        h.answers();
        let (mut times, mut last) = (vec![], h.now);
        while times.len() < 4 {
            h.advance(4 * MS);
            if !h.answers().is_empty() {
                times.push((h.now - last) / MS);
                last = h.now;
            }
        }
        let i = info(&mut h, fd);
        assert!(i.total_rto >= 5 && i.total_rto_recoveries == 2 && i.rehash >= 5, "{i:?}");
        times
    };
    let (thin, thick) = (gaps(1), gaps(0));
    // Without time stamps the first still has the back-off of the loss before.
    assert!(thin[1..].iter().all(|t| t.abs_diff(210) <= 8), "{thin:?}");
    assert!(thick[3] > 6 * thick[0], "{thick:?}");
}

#[test]
fn a_tail_loss_probe_is_no_retransmission_to_the_scoreboard() {
    let mut h = Host::new();
    let (fd, next) = connection(&mut h, 10 * MS, Flags::NONE, |_, _| {});
    h.set(fd, SOL_SOCKET, SO_SNDBUF, 400_000).unwrap();
    h.send(fd, &[1; 3 * MSS]).unwrap();
    h.answers();
    h.advance(100 * MS);
    assert_eq!(h.answers().len(), 1, "two round trips later, the last segment again");
    let i = info(&mut h, fd);
    assert_eq!((i.retrans, i.total_retrans, i.ca_state), (0, 1, TCP_CA_OPEN));
    // Original and probe arrived: nothing was lost, the window stays.
    sack(&mut h, next + 3 * MSS as u32, (next + 2 * MSS as u32, next + 3 * MSS as u32));
    assert_eq!(info(&mut h, fd).snd_ssthresh, 0x7fff_ffff);
}

#[test]
fn memory_of_all_sockets_is_shown_and_bounded() {
    let mut h = Host::new();
    let (fd, next) = connection(&mut h, 10 * MS, Flags::NONE, |_, _| {});
    let mem = |h: &Host| {
        let text = h.k.proc_text(h.ns, "/proc/net/sockstat").unwrap();
        let line = text.lines().find(|l| l.starts_with("TCP:")).unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()
    };
    assert_eq!(mem(&h), 0);
    let data = |h: &mut Host, at: u32| {
        h.tcp(Seg { window: WINDOW, ..seg(2000, Flags::ACK, ISN + 1 + at * 1000, next) }.data(&[1; 1000]))
    };
    (0..20).for_each(|i| _ = data(&mut h, i));
    assert!((5..=12).contains(&mem(&h)), "{}", mem(&h));
    h.k.net.sysctl.store("net.ipv4.tcp_mem", "1 2 3").unwrap();
    let before = info(&mut h, fd).rcv_wnd;
    data(&mut h, 20);
    assert_eq!(h.counter(Mib::TcpExtTCPMemoryPressures), 0, "nothing was charged: it is dropped");
    assert!(h.counter(Mib::TcpExtTCPRcvQDrop) == 1 && info(&mut h, fd).rcv_wnd <= before);
    assert_eq!(h.read(fd).unwrap().len(), 20_000);
    assert_eq!(mem(&h), 0);
    // Below the hard limit, above the pressure.
    h.k.net.sysctl.store("net.ipv4.tcp_mem", "1 2 300").unwrap();
    (20..30).for_each(|i| _ = data(&mut h, i));
    assert_eq!(h.counter(Mib::TcpExtTCPMemoryPressures), 1);
    h.advance(100 * MS);
    h.read(fd).unwrap();
    assert!(h.counter(Mib::TcpExtTCPMemoryPressuresChrono) >= 100);
}

#[test]
fn challenge_acks_are_limited_for_the_host() {
    let mut h = Host::new();
    h.sysctl("net.ipv4.tcp_challenge_ack_limit", "2");
    h.sysctl("net.ipv4.tcp_invalid_ratelimit", "0");
    let (_, next) = connection(&mut h, 10 * MS, Flags::NONE, |_, _| {});
    let told = (0..10).filter(|_| !h.tcp(seg(2000, Flags::SYN, ISN + 50, next)).is_empty()).count();
    assert!((1..=2).contains(&told), "{told}");
    h.advance(SEC);
    assert!(!h.tcp(seg(2000, Flags::SYN, ISN + 50, next)).is_empty());
}
