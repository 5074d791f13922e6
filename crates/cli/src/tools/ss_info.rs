//! What `ss -i` says about a TCP connection, in iproute2's order and units.
use belljar_abi::tcp_info::*;
use belljar_kernel::view::SockView;
use std::fmt::Write;

/// A time left: `119min`, `1.500ms` for 1.5 s, `59sec`, `200ms`, as ss writes timers.
pub fn ms_timer(ms: u64) -> String {
    let (min, mut sec, mut ms) = (ms / 60_000, ms / 1000 % 60, ms % 1000);
    let mut out = String::new();
    if min > 0 {
        ms = 0;
        let _ = write!(out, "{min}min");
        sec = if min > 9 { 0 } else { sec };
    }
    if sec > 0 {
        ms = if sec > 9 { 0 } else { ms };
        let _ = write!(out, "{sec}{}", if ms > 0 { "." } else { "sec" });
    }
    if ms > 0 {
        let _ = write!(out, "{ms:03}ms");
    }
    out
}

/// A number as C's `%g`: six significant digits, no zeros at the end.
pub fn general(v: f64) -> String {
    digits(v, 6)
}

/// As C's `%.Ng`.
fn digits(v: f64, n: usize) -> String {
    let (n, last) = (n.max(1), n.max(1) - 1);
    // Rounded first: it may have one digit more afterwards.
    let text = format!("{v:.last$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let short = |t: &str| match t.contains('.') {
        true => t.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => t.to_owned(),
    };
    if exponent < -4 || exponent >= n as i32 {
        return format!("{}e{}{:02}", short(digits), if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
    let places = usize::try_from(last as i32 - exponent).unwrap_or(0);
    short(&format!("{v:.places$}"))
}

/// Bits a second, whole with `-n`, else three digits and a prefix.
fn bps(bits: f64, numeric: bool) -> String {
    if numeric {
        return format!("{bits:.0}bps");
    }
    let (mut v, mut prefixes) = (bits, ["", "k", "M", "G", "T"].iter().peekable());
    let mut prefix = "";
    while let Some(p) = prefixes.next() {
        prefix = p;
        if v < 1000.0 || prefixes.peek().is_none() {
            break;
        }
        v /= 1000.0;
    }
    format!("{}{prefix}bps", digits(v, 3))
}

fn millis(us: u32) -> String {
    general(f64::from(us) / 1000.0)
}

pub fn tcp(i: &TcpInfo, s: &SockView, options: bool, numeric: bool) -> String {
    let mut out = String::new();
    if options {
        let named = [
            (TCPI_OPT_TIMESTAMPS, " ts"),
            (TCPI_OPT_SACK, " sack"),
            (TCPI_OPT_ECN, " ecn"),
            (TCPI_OPT_ECN_SEEN, " ecnseen"),
            (TCPI_OPT_SYN_DATA, " fastopen"),
        ];
        named.into_iter().filter(|(bit, _)| i.options & bit != 0).for_each(|(_, name)| out.push_str(name));
    }
    if let Some(cong) = &s.cong {
        let _ = write!(out, " {cong}");
    }
    if i.options & TCPI_OPT_WSCALE != 0 {
        let _ = write!(out, " wscale:{},{}", i.snd_wscale, i.rcv_wscale);
    }
    if i.rto != 0 && i.rto != 3_000_000 {
        let _ = write!(out, " rto:{}", millis(i.rto));
    }
    number(&mut out, "backoff", i.backoff);
    if i.rtt != 0 {
        let _ = write!(out, " rtt:{}/{}", millis(i.rtt), millis(i.rttvar));
    }
    if i.ato != 0 {
        let _ = write!(out, " ato:{}", millis(i.ato));
    }
    for (name, v) in [("mss", i.snd_mss), ("pmtu", i.pmtu), ("rcvmss", i.rcv_mss), ("advmss", i.advmss)] {
        number(&mut out, name, v);
    }
    number(&mut out, "cwnd", i.snd_cwnd);
    if i.snd_ssthresh < 0xffff {
        number(&mut out, "ssthresh", i.snd_ssthresh);
    }
    for (name, v) in [
        ("bytes_sent", i.bytes_sent),
        ("bytes_retrans", i.bytes_retrans),
        ("bytes_acked", i.bytes_acked),
        ("bytes_received", i.bytes_received),
        ("segs_out", i.segs_out.into()),
        ("segs_in", i.segs_in.into()),
        ("data_segs_out", i.data_segs_out.into()),
        ("data_segs_in", i.data_segs_in.into()),
    ] {
        number(&mut out, name, v);
    }
    if let Some(b) = &s.bbr {
        let _ = write!(out, " bbr:(bw:{},mrtt:{}", bps(b.bw as f64 * 8.0, numeric), millis(b.min_rtt));
        for (name, gain) in [("pacing_gain", b.pacing_gain), ("cwnd_gain", b.cwnd_gain)].iter().filter(|g| g.1 != 0) {
            let _ = write!(out, ",{name}:{}", general(f64::from(*gain) / 256.0));
        }
        out.push(')');
    }
    rates(&mut out, i, numeric);
    recovery(&mut out, i, s.state == "LISTEN");
    out
}

/// ` name:value`, unless it is 0.
fn number(out: &mut String, name: &str, v: impl Into<u64>) {
    let v = v.into();
    if v != 0 {
        let _ = write!(out, " {name}:{v}");
    }
}

fn rates(out: &mut String, i: &TcpInfo, numeric: bool) {
    if i.rtt > 0 && i.snd_mss > 0 && i.snd_cwnd > 0 {
        let bits = f64::from(i.snd_cwnd) * f64::from(i.snd_mss) * 8_000_000.0 / f64::from(i.rtt);
        let _ = write!(out, " send {}", bps(bits, numeric));
    }
    number(out, "lastsnd", i.last_data_sent);
    number(out, "lastrcv", i.last_data_recv);
    number(out, "lastack", i.last_ack_recv);
    let bits = |bytes: u64| bps(bytes as f64 * 8.0, numeric);
    if i.pacing_rate != 0 && i.pacing_rate != u64::MAX {
        let _ = write!(out, " pacing_rate {}", bits(i.pacing_rate));
        if i.max_pacing_rate != 0 && i.max_pacing_rate != u64::MAX {
            let _ = write!(out, "/{}", bits(i.max_pacing_rate));
        }
    }
    if i.delivery_rate != 0 {
        let _ = write!(out, " delivery_rate {}", bits(i.delivery_rate));
    }
    number(out, "delivered", i.delivered);
    number(out, "delivered_ce", i.delivered_ce);
    if i.delivery_rate_app_limited {
        out.push_str(" app_limited");
    }
    if i.busy_time > 0 {
        let _ = write!(out, " busy:{}ms", i.busy_time / 1000);
        let share = |us: u64| 100.0 * us as f64 / i.busy_time as f64;
        for (name, us) in [("rwnd_limited", i.rwnd_limited), ("sndbuf_limited", i.sndbuf_limited)] {
            if us > 0 {
                let _ = write!(out, " {name}:{}ms({:.1}%)", us / 1000, share(us));
            }
        }
    }
}

fn recovery(out: &mut String, i: &TcpInfo, listener: bool) {
    number(out, "unacked", i.unacked);
    if i.retrans != 0 || i.total_retrans != 0 {
        let _ = write!(out, " retrans:{}/{}", i.retrans, i.total_retrans);
    }
    number(out, "lost", i.lost);
    if !listener {
        number(out, "sacked", i.sacked);
    }
    number(out, "dsack_dups", i.dsack_dups);
    number(out, "fackets", i.fackets);
    if i.reordering != 3 {
        let _ = write!(out, " reordering:{}", i.reordering);
    }
    number(out, "reord_seen", i.reord_seen);
    if i.rcv_rtt != 0 {
        let _ = write!(out, " rcv_rtt:{}", millis(i.rcv_rtt));
    }
    number(out, "rcv_space", i.rcv_space);
    number(out, "rcv_ssthresh", i.rcv_ssthresh);
    number(out, "notsent", i.notsent_bytes);
    if i.min_rtt != 0 && i.min_rtt != u32::MAX {
        let _ = write!(out, " minrtt:{}", millis(i.min_rtt));
    }
    number(out, "rcv_ooopack", i.rcv_ooopack);
    number(out, "snd_wnd", i.snd_wnd);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_c_writes_them() {
        let cases = [
            (204.0, "204"),
            (0.024, "0.024"),
            (1234567.0, "1.23457e+06"),
            (0.5, "0.5"),
            (100.25, "100.25"),
            (1.0, "1"),
        ];
        for (v, text) in cases {
            assert_eq!(general(v), text);
        }
    }

    #[test]
    fn time_left() {
        let cases =
            [(7_199_000, "119min"), (59_900, "59sec"), (200, "200ms"), (1_500, "1.500ms"), (65_000, "1min5sec")];
        for (ms, text) in cases {
            assert_eq!(ms_timer(ms), text);
        }
    }
}
