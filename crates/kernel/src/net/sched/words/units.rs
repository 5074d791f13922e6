//! Numbers as tc takes them: rates, sizes, times, shares, handles, and the scheduler's ticks.
use belljar_abi::pkt_sched::{RateSpec, TC_H_ROOT};

/// A number with what is written behind it.
fn split(w: &str) -> Option<(f64, String)> {
    let at = w.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(w.len());
    // `1e3` is a number as well.
    let n: f64 = w[..at].parse().ok()?;
    Some((n, w[at..].to_ascii_lowercase()))
}

/// Bytes a second; without a unit bits.
pub fn rate(w: &str) -> Option<u64> {
    let (n, unit) = split(w)?;
    let (prefix, bits) = match unit.as_str() {
        "" => ("", 1.0),
        u if u.ends_with("bit") => (&u[..u.len() - 3], 1.0),
        u if u.ends_with("bps") => (&u[..u.len() - 3], 8.0),
        _ => return None,
    };
    let scale = match prefix {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "t" => 1e12,
        "ki" => 1024.0,
        "mi" => 1024.0 * 1024.0,
        "gi" => 1024.0 * 1024.0 * 1024.0,
        "ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let bytes = n * scale * bits / 8.0;
    (bytes >= 0.0 && bytes < u64::MAX as f64).then_some(bytes as u64)
}

/// Bytes.
pub fn size(w: &str) -> Option<u32> {
    let (n, unit) = split(w)?;
    let scale = match unit.as_str() {
        "" | "b" => 1.0,
        "kb" | "k" => 1024.0,
        "mb" | "m" => 1024.0 * 1024.0,
        "gb" | "g" => 1024.0 * 1024.0 * 1024.0,
        "kbit" => 1024.0 / 8.0,
        "mbit" => 1024.0 * 1024.0 / 8.0,
        "gbit" => 1024.0 * 1024.0 * 1024.0 / 8.0,
        _ => return None,
    };
    let v = n * scale;
    (v >= 0.0 && v <= f64::from(u32::MAX)).then_some(v as u32)
}

/// `BYTES` or `BYTES/CELL`: the cell as a power of two.
pub fn size_and_cell(w: &str) -> Option<(u32, Option<u8>)> {
    let Some((bytes, cell)) = w.split_once('/') else { return Some((size(w)?, None)) };
    let cell = size(cell).filter(|c| c.is_power_of_two())?;
    Some((size(bytes)?, Some(cell.trailing_zeros() as u8)))
}

/// Microseconds.
pub fn time(w: &str) -> Option<u32> {
    let (n, unit) = split(w)?;
    let scale = match unit.as_str() {
        "s" | "sec" | "secs" => 1e6,
        "ms" | "msec" | "msecs" => 1e3,
        "" | "us" | "usec" | "usecs" => 1.0,
        _ => return None,
    };
    let v = n * scale;
    (v >= 0.0 && v <= f64::from(u32::MAX)).then_some(v as u32)
}

/// Nanoseconds; without a unit microseconds.
pub fn time64(w: &str) -> Option<i64> {
    let (n, unit) = split(w)?;
    let scale = match unit.as_str() {
        "s" | "sec" | "secs" => 1e9,
        "ms" | "msec" | "msecs" => 1e6,
        "" | "us" | "usec" | "usecs" => 1e3,
        "ns" | "nsec" | "nsecs" => 1.0,
        _ => return None,
    };
    let v = n * scale;
    (v >= 0.0 && v < i64::MAX as f64).then_some(v as i64)
}

/// `5%` of all that 32 bits say.
pub fn percent(w: &str) -> Option<u32> {
    let n: f64 = w.strip_suffix('%').unwrap_or(w).parse().ok()?;
    let share = if w.ends_with('%') { n / 100.0 } else { n };
    (0.0..=1.0).contains(&share).then(|| (share * f64::from(u32::MAX)).round_ties_even() as u32)
}

/// A whole number in any of C's bases.
pub fn number(w: &str) -> Option<u32> {
    if let Some(h) = w.strip_prefix("0x").or_else(|| w.strip_prefix("0X")) {
        return u32::from_str_radix(h, 16).ok();
    }
    match w.strip_prefix('0') {
        Some(o) if !o.is_empty() => u32::from_str_radix(o, 8).ok(),
        _ => w.parse().ok(),
    }
}

/// `1:`, the major number of a discipline.
pub fn handle(w: &str) -> Option<u32> {
    let major = w.split_once(':').map_or(w, |(m, _)| m);
    match major {
        "none" => Some(0),
        m => u32::from_str_radix(m, 16).ok().filter(|m| *m <= 0xffff).map(|m| m << 16),
    }
}

/// `1:10`, `:10`, `root`.
pub fn classid(w: &str) -> Option<u32> {
    match w {
        "root" => return Some(TC_H_ROOT),
        "none" => return Some(0),
        _ => {}
    }
    let half = |h: &str| if h.is_empty() { Some(0) } else { u32::from_str_radix(h, 16).ok().filter(|v| *v <= 0xffff) };
    match w.split_once(':') {
        Some((major, minor)) => Some(half(major)? << 16 | half(minor)?),
        None => u32::from_str_radix(w, 16).ok(),
    }
}

/// Ticks in a microsecond are 1000/64 (`/proc/net/psched`).
pub fn ticks(us: u32) -> u32 {
    (f64::from(us) * 15.625) as u32
}

pub fn tick_time(ticks: u32) -> u32 {
    (f64::from(ticks) / 15.625) as u32
}

/// Ticks that `size` bytes take (`tc_calc_xmittime`).
pub fn xmit_ticks(rate: u64, size: u32) -> u32 {
    ticks((1e6 * (f64::from(size) / rate as f64)) as u32)
}

/// A rate as a specification with its cell, and its own attribute when it is above 32 bits.
pub fn spec(rate: u64, mtu: u32, cell: Option<u8>, (overhead, mpu, linklayer): (u16, u16, u8)) -> RateSpec {
    let mtu = if mtu == 0 { 2047 } else { mtu };
    let by_mtu = (0..31).find(|l| mtu >> l <= 255).unwrap_or(31);
    RateSpec {
        cell_log: cell.unwrap_or(by_mtu),
        linklayer,
        overhead,
        cell_align: -1,
        mpu,
        rate: u32::try_from(rate).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        let all = ["1mbit", "1Mbit", "8", "1kbps", "1Kibit", "2.5gbit"].map(|w| rate(w).unwrap());
        assert_eq!(all, [125_000, 125_000, 1, 1000, 128, 312_500_000]);
        assert!(rate("1foo").is_none() && rate("").is_none() && rate("-1").is_none());
        assert_eq!(["10k", "10kb", "1.5mb", "8kbit"].map(|w| size(w).unwrap()), [10_240, 10_240, 1_572_864, 1024]);
        assert_eq!(["1s", "2ms", "3us", "4"].map(|w| time(w).unwrap()), [1_000_000, 2000, 3, 4]);
        assert_eq!((time64("10ms"), time64("10"), time64("7ns")), (Some(10_000_000), Some(10_000), Some(7)));
        assert_eq!((percent("1%"), percent("100%"), percent("101%")), (Some(42_949_673), Some(u32::MAX), None));
        assert_eq!((handle("1:"), handle("ffff:"), handle("10000:")), (Some(0x1_0000), Some(0xffff_0000), None));
        assert_eq!((classid("1:10"), classid(":3"), classid("root")), (Some(0x1_0010), Some(3), Some(TC_H_ROOT)));
        assert_eq!((xmit_ticks(125_000, 10_240), tick_time(1_280_000)), (1_280_000, 81_920));
        assert_eq!((number("0xff"), number("010"), number("0"), number("x")), (Some(255), Some(8), Some(0), None));
    }
}
