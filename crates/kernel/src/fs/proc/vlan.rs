//! `/proc/net/vlan/config` and a file for each VLAN beside it.
use crate::drivers::vlan::Vlan;
use crate::ids::NsId;
use crate::net::Net;
use crate::net::core::dev::{DevKind, NetDevice};
use std::fmt::Write;

/// IFF_802_1Q_VLAN, IFF_UNICAST_FLT and IFF_NO_QUEUE, which programs see in one number.
const PRIV_FLAGS: u32 = 1 | 1 << 12 | 1 << 19;

fn vlans(net: &Net, ns: NsId) -> impl Iterator<Item = (&NetDevice, &Vlan)> {
    net.ns_devs(ns).filter_map(|id| net.devs.get(id)).filter_map(|d| match &d.kind {
        DevKind::Vlan(v) => Some((d, &**v)),
        _ => None,
    })
}

fn lower<'a>(net: &'a Net, v: &Vlan) -> &'a str {
    net.devs.get(v.lower).map_or("", |l| &l.name)
}

/// The names of the files beside `config`.
pub fn names(net: &Net, ns: NsId) -> Vec<String> {
    vlans(net, ns).map(|(d, _)| d.name.clone()).collect()
}

/// The text of a file below `/proc/net/vlan`; `None` for one that is not there.
pub fn file(net: &Net, ns: NsId, name: &str) -> Option<String> {
    match name {
        "config" => Some(config(net, ns)),
        _ => vlans(net, ns).find(|(d, _)| d.name == name).map(|(d, v)| device(net, d, v)),
    }
}

fn config(net: &Net, ns: NsId) -> String {
    let mut out = String::from("VLAN Dev name\t | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n");
    for (d, v) in vlans(net, ns) {
        let _ = writeln!(out, "{:<15}| {}  | {}", d.name, v.vid, lower(net, v));
    }
    out
}

fn device(net: &Net, d: &NetDevice, v: &Vlan) -> String {
    let reorder = u8::from(v.reorders());
    let mut out = format!("{}  VID: {}\t REORDER_HDR: {reorder}  dev->priv_flags: {PRIV_FLAGS:x}\n", d.name, v.vid);
    let s = &d.stats;
    let mut row = |what: &str, n: u64| {
        let _ = writeln!(out, "{what:>30} {n:>12}");
    };
    row("total frames received", s.rx_packets);
    row("total bytes received", s.rx_bytes);
    row("Broadcast/Multicast Rcvd", s.multicast);
    out.push('\n');
    let mut row = |what: &str, n: u64| {
        let _ = writeln!(out, "{what:>30} {n:>12}");
    };
    row("total frames transmitted", s.tx_packets);
    row("total bytes transmitted", s.tx_bytes);
    let _ = write!(out, "Device: {}\nINGRESS priority mappings: ", lower(net, v));
    for (from, to) in v.ingress.iter().enumerate() {
        // Between the last two there is one space only.
        let _ = write!(out, "{from}:{to}{}", ["  ", " ", "\n"][usize::from(from >= 6) + usize::from(from == 7)]);
    }
    out.push_str(" EGRESS priority mappings: ");
    for (from, to) in &v.egress {
        let _ = write!(out, "{from}:{to} ");
    }
    out.push('\n');
    out
}
