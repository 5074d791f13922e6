//! What iproute2's ss printed on Linux 6.18 for sockets in many situations, beside the netlink messages it printed it from:
//! the same message must give the same text here. Measured with ss 6.1 on lo and over a bad link.
//!
//! Three lines a socket: situation, state, timer, retransmissions, milliseconds left, inode, cookie, shutdown, congestion control,
//! SK_MEMINFO, tcp_bbr_info and tcp_info (hexadecimal, zeros at the end left away); then both lines of `ss -tieomn`, the cgroup
//! left away.
use super::tests::row;
use super::*;
use belljar_abi::tcp_info::TcpInfo;
use belljar_kernel::net::tcp::state::State;
use belljar_kernel::view::{BbrView, SkmemView, TimerView};

const FACTS: &str = include_str!("../../tests/ss/linux-6.18.txt");

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter_map(|b| (b as char).to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|p| p.iter().fold(0, |n, d| n << 4 | d)).collect()
}

fn number<T: std::str::FromStr>(word: &str) -> T {
    word.parse().unwrap_or_else(|_| panic!("{word:?} is no number"))
}

fn view(fact: &str) -> SockView {
    let w: Vec<&str> = fact.split(' ').collect();
    let [_, state, timer, retrans, expires, inode, cookie, shutdown, cong, skmem, bbr, info] = w[..] else {
        panic!("{} words: {fact}", w.len())
    };
    let state = State::ALL.into_iter().find(|s| *s as u8 == number::<u8>(state)).unwrap();
    let kind = ["", "on", "keepalive", "timewait", "persist"][number::<usize>(timer)];
    let m: Vec<u32> = skmem.split(',').filter(|w| *w != "-").map(number).collect();
    let words: Vec<u32> = bytes(bbr).chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    SockView {
        timer: (!kind.is_empty()).then(|| TimerView {
            kind: kind.into(),
            expires_ms: number(expires),
            retrans: number(retrans),
        }),
        inode: number(inode),
        cookie: u64::from_str_radix(cookie, 16).unwrap(),
        shutdown: number(shutdown),
        cong: (cong != "-").then(|| cong.into()),
        skmem: match m[..] {
            [rmem_alloc, rcvbuf, wmem_alloc, sndbuf, fwd_alloc, wmem_queued, optmem, backlog, drops] => {
                Some(SkmemView {
                    rmem_alloc,
                    rcvbuf,
                    wmem_alloc,
                    sndbuf,
                    fwd_alloc,
                    wmem_queued,
                    optmem,
                    backlog,
                    drops,
                })
            }
            _ => None,
        },
        bbr: match words[..] {
            [low, high, min_rtt, pacing_gain, cwnd_gain] => {
                Some(BbrView { bw: u64::from(high) << 32 | u64::from(low), min_rtt, pacing_gain, cwnd_gain })
            }
            _ => None,
        },
        info: (info != "-").then(|| TcpInfo::parse(&bytes(info))),
        ..row(state.name(), ("127.0.0.1", 1), ("127.0.0.1", 2))
    }
}

#[test]
fn every_situation_reads_as_with_iproute2() {
    let o = Ss { info: true, extended: true, options: true, memory: true, numeric: true, ..Ss::default() };
    let lines: Vec<&str> = FACTS.lines().collect();
    let mut situations = 0;
    for l in lines.chunks(3) {
        let [fact, first, second] = l else { panic!("not three lines: {l:?}") };
        let ours = details(&view(fact), &o);
        let want = format!("{first}\n\t{}", second.strip_prefix('\t').unwrap());
        let same = |s: &str| s.replace("\n\t ", "\n\t").trim_end().to_owned();
        let name = fact.split(' ').next().unwrap();
        assert_eq!(same(&ours), same(&want), "{name}");
        situations += 1;
    }
    assert!(situations >= 40, "{situations}");
}

#[test]
fn rates_without_n_have_three_digits() {
    let with = |pacing_rate| {
        let info = TcpInfo { pacing_rate, reordering: 3, ..TcpInfo::default() };
        let s = SockView { info: Some(info), ..row("ESTABLISHED", ("127.0.0.1", 1), ("127.0.0.1", 2)) };
        details(&s, &Ss { info: true, ..Ss::default() }).rsplit(' ').next().unwrap().to_owned()
    };
    for (bytes, text) in [
        (1, "8bps"),
        (124, "992bps"),
        (125, "1kbps"),
        (126, "1.01kbps"),
        (12_345, "98.8kbps"),
        (124_937, "999kbps"),
        (124_938, "1e+03kbps"),
        (125_000, "1Mbps"),
        (1_249_999, "10Mbps"),
        (124_999_999, "1e+03Mbps"),
        (124_875_000_000, "999Gbps"),
        (1_000_000_000_000_000, "8e+03Tbps"),
        (1 << 63, "7.38e+07Tbps"),
    ] {
        assert_eq!(with(bytes), text, "{bytes}");
    }
}
