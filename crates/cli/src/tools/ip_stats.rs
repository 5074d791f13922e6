//! What `belljar ip -s` says of a device's packets, in columns and as JSON.
use super::ip::Opts;
use crate::out::map;
use belljar_kernel::view::{LinkView, Value};
use std::fmt::Write;

/// Twice asked for, errors in detail.
pub fn stats_json(l: &LinkView, o: Opts) -> Value {
    let s = &l.stats;
    let detailed = o.stats > 1;
    let mut rx = vec![
        ("bytes", s.rx_bytes),
        ("packets", s.rx_packets),
        ("errors", s.rx_errors),
        ("dropped", s.rx_dropped),
        ("over_errors", s.rx_over_errors),
        ("multicast", s.multicast),
    ];
    let mut tx = vec![
        ("bytes", s.tx_bytes),
        ("packets", s.tx_packets),
        ("errors", s.tx_errors),
        ("dropped", s.tx_dropped),
        ("carrier_errors", s.tx_carrier_errors),
        ("collisions", s.collisions),
    ];
    if detailed {
        rx.extend([
            ("length_errors", s.rx_length_errors),
            ("crc_errors", s.rx_crc_errors),
            ("frame_errors", s.rx_frame_errors),
            ("fifo_errors", s.rx_fifo_errors),
            ("missed_errors", s.rx_missed_errors),
        ]);
        tx.extend([
            ("aborted_errors", s.tx_aborted_errors),
            ("fifo_errors", s.tx_fifo_errors),
            ("window_errors", s.tx_window_errors),
            ("heartbeat_errors", s.tx_heartbeat_errors),
            ("carrier_changes", l.carrier_changes.into()),
        ]);
    }
    let numbers = |all: Vec<(&'static str, u64)>| {
        Value::Map(all.into_iter().map(|(name, n)| (name.into(), Value::Uint(n))).collect())
    };
    map([("rx", numbers(rx)), ("tx", numbers(tx))])
}

/// Titles over numbers, each column as wide as the widest of both (and at least as ip has it).
fn columns(label: &str, titles: [&str; 6], values: [u64; 6], out: &mut String, trailer: &str) {
    let least = [10, 7, 6, 7, 7, 7];
    let (mut heading, mut row) = (format!("    {label}"), String::from("   "));
    for (n, (title, value)) in titles.into_iter().zip(values).enumerate() {
        let value = if title.is_empty() { String::new() } else { value.to_string() };
        let width = least[n].max(value.len()).max(title.len() + if n == 0 { label.len() } else { 0 });
        match n {
            0 => _ = write!(heading, "{title:>w$}", w = width - label.len()),
            _ => _ = write!(heading, " {title:>width$}"),
        }
        let _ = write!(row, " {value:>width$}");
    }
    let _ = write!(out, "{heading}{trailer}\n{row} \n");
}

pub fn statistics(l: &LinkView, o: Opts, out: &mut String) {
    let s = &l.stats;
    let blank = " ".repeat(11);
    let rx = [s.rx_bytes, s.rx_packets, s.rx_errors, s.rx_dropped, s.rx_missed_errors, s.multicast];
    columns("RX:", ["bytes", "packets", "errors", "dropped", "missed", "mcast"], rx, out, &blank);
    if o.stats > 1 {
        let e = [s.rx_length_errors, s.rx_crc_errors, s.rx_frame_errors, s.rx_fifo_errors, s.rx_over_errors];
        detail("RX errors:", ["length", "crc", "frame", "fifo", "overrun"], e, out);
    }
    let tx = [s.tx_bytes, s.tx_packets, s.tx_errors, s.tx_dropped, s.tx_carrier_errors, s.collisions];
    columns("TX:", ["bytes", "packets", "errors", "dropped", "carrier", "collsns"], tx, out, &blank);
    if o.stats > 1 {
        let e = [
            s.tx_aborted_errors,
            s.tx_fifo_errors,
            s.tx_window_errors,
            s.tx_heartbeat_errors,
            l.carrier_changes.into(),
        ];
        detail("TX errors:", ["aborted", "fifo", "window", "heartbt", "transns"], e, out);
    }
}

fn detail(label: &str, titles: [&str; 5], values: [u64; 5], out: &mut String) {
    let least = [7, 6, 7, 7, 7];
    let (mut heading, mut row) = (format!("    {label}"), " ".repeat(14));
    for ((title, value), least) in titles.into_iter().zip(values).zip(least) {
        let width = least.max(title.len()).max(value.to_string().len());
        let _ = write!(heading, " {title:>width$}");
        let _ = write!(row, " {value:>width$}");
    }
    let _ = write!(out, "{heading}\n{row} \n");
}
