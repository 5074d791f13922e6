//! The way of packets through a host as a picture: what passed each stage in each direction, and what ended there and why.
use super::text::{Html, count, put};
use belljar_capture::watch::ordinary;
use belljar_kernel::Kernel;
use belljar_kernel::ids::NsId;
use belljar_kernel::net::drop::DropReason;
use belljar_kernel::net::mib::{Mib, Mibs};
use belljar_link::Stats;

/// The other end of a host's NIC.
#[derive(Clone, Debug)]
pub struct Far {
    pub name: String,
    /// What it is.
    pub about: String,
    /// Packets it received and sent, where it is a kernel of ours.
    pub packets: Option<(u64, u64)>,
    /// The link from the host, and to it.
    pub link: (Stats, Stats),
    pub conditions: String,
}

/// One stage.
struct Stage {
    title: String,
    about: String,
    out: Option<u64>,
    into: Option<u64>,
    drops: Vec<Ended>,
}

/// Packets that ended at a stage: why, how many, and whether that is the ordinary course of things.
struct Ended {
    why: String,
    packets: u64,
    ordinary: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Socket,
    Tcp,
    Ip,
    Queue,
    Ring,
}

/// Where a reason strikes.
fn place(r: DropReason) -> Place {
    use DropReason::*;
    match r {
        NoSocket | SocketFilter | ProtoMem | SocketRcvbuff | TcpListenOverflow | TcpReqQFull | SocketClose
        | SocketDestroyed | QueuePurge => Place::Socket,
        TcpCsum
        | UdpCsum
        | TcpFlags
        | TcpAbortOnData
        | TcpZeroWindow
        | TcpOldData
        | TcpOverwindow
        | TcpOfomerge
        | TcpRfc7323Paws
        | TcpRfc7323PawsAck
        | TcpRfc7323TwPaws
        | TcpOldSequence
        | TcpInvalidSequence
        | TcpInvalidEndSequence
        | TcpInvalidAckSequence
        | TcpReset
        | TcpInvalidSyn
        | TcpClose
        | TcpMd5Unexpected
        | TcpFastopen
        | TcpTooOldAck
        | TcpAckUnsentData
        | TcpOfoQueuePrune
        | TcpOfoDrop => Place::Tcp,
        QdiscDrop | CpuBacklog | Xdp => Place::Queue,
        FullRing | DevHdr | DevReady | OtherHost | UnhandledProto | HdrTrunc | NoMem => Place::Ring,
        _ => Place::Ip,
    }
}

/// Stages from the program outwards.
fn stages(k: &Kernel, ns: NsId, far: Option<&Far>) -> Vec<Stage> {
    let none = Mibs::default();
    let mib = k.net.ns.get(ns).map_or(&none, |n| &n.mib);
    let sum = |all: &[Mib]| all.iter().map(|m| mib.get(*m)).sum::<u64>();
    let drops = |at: Place| {
        let here = k.net.pool.drops().filter(|(r, _)| place(*r) == at);
        let mut all: Vec<_> =
            here.map(|(r, packets)| Ended { why: r.name().to_owned(), packets, ordinary: ordinary(r) }).collect();
        all.sort_by_key(|e| (e.ordinary, std::cmp::Reverse(e.packets)));
        all
    };
    let open = k.socks.tcp.iter().filter(|(_, s)| s.sk.ns == ns).count()
        + k.socks.udp.iter().filter(|(_, s)| s.sk.ns == ns).count();
    let mut out = vec![
        Stage {
            title: "sockets".into(),
            about: format!("connections, {} open", count(open as u64)),
            out: Some(sum(&[Mib::TcpActiveOpens])),
            into: Some(sum(&[Mib::TcpPassiveOpens])),
            drops: drops(Place::Socket),
        },
        Stage {
            title: "TCP, UDP".into(),
            about: "segments, datagrams".into(),
            out: Some(sum(&[Mib::TcpOutSegs, Mib::TcpRetransSegs, Mib::UdpOutDatagrams])),
            into: Some(sum(&[Mib::TcpInSegs, Mib::UdpInDatagrams])),
            drops: drops(Place::Tcp),
        },
        Stage {
            title: "IP, neighbours".into(),
            about: "packets, lo included".into(),
            out: Some(sum(&[Mib::IpOutRequests, Mib::IpForwDatagrams])),
            into: Some(sum(&[Mib::IpInReceives])),
            drops: drops(Place::Ip),
        },
    ];
    let devices = || k.net.ns_devs(ns).filter_map(|d| k.net.devs.get(d)).filter(|d| !d.is_loopback());
    if devices().next().is_none() {
        return out;
    }
    let processed = k.net.cpus.iter().map(|c| c.stat.processed).sum();
    let names: Vec<&str> = devices().map(|d| d.name.as_str()).collect();
    let rings: Vec<String> =
        devices().filter_map(|d| d.nic()?.ring_sizes().into()).map(|(rx, tx)| format!("rx {rx}, tx {tx}")).collect();
    out.push(Stage {
        title: "qdisc, backlog".into(),
        about: "packets out, softirq in".into(),
        out: Some(devices().map(|d| d.qdisc.stats().packets).sum()),
        into: Some(processed),
        drops: drops(Place::Queue),
    });
    out.push(Stage {
        title: format!("NIC {}", names.join(", ")),
        about: format!("rings {}", rings.first().map_or("", String::as_str)),
        out: Some(devices().map(|d| d.stats.tx_packets).sum()),
        into: Some(devices().map(|d| d.stats.rx_packets).sum()),
        drops: drops(Place::Ring),
    });
    if let Some(f) = far {
        let (to, from) = f.link;
        let both = |what: &str, f: fn(&Stats) -> u64| Ended {
            why: what.to_owned(),
            packets: f(&to) + f(&from),
            ordinary: false,
        };
        let taken =
            [both("lost", |s| s.lost), both("over the limit", |s| s.overlimit), both("corrupted", |s| s.corrupted)];
        out.push(Stage {
            title: "link".into(),
            about: f.conditions.replace("limit 1000 ", ""),
            out: Some(to.sent),
            into: Some(from.sent),
            drops: taken.into_iter().filter(|t| t.packets > 0).collect(),
        });
        let (into, out_) = f.packets.map_or((None, None), |(i, o)| (Some(i), Some(o)));
        out.push(Stage { title: f.name.clone(), about: f.about.clone(), out: into, into: out_, drops: Vec::new() });
    }
    out
}

const BOX: f64 = 138.0;
const GAP: f64 = 18.0;
/// Lines of drops under a stage.
const LINES: usize = 5;

/// Cut to what fits into a box, with an ellipsis.
fn fit(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_owned() } else { text.chars().take(most - 1).chain(['…']).collect() }
}

pub fn picture(k: &Kernel, ns: NsId, far: Option<&Far>) -> Html {
    let all = stages(k, ns, far);
    let lines = all.iter().map(|s| s.drops.len().min(LINES + 1)).max().unwrap_or(0);
    let (width, height) = (all.len() as f64 * (BOX + GAP) - GAP + 4.0, 150.0 + lines as f64 * 32.0);
    let lo =
        k.net.ns_devs(ns).filter_map(|d| k.net.devs.get(d)).find(|d| d.is_loopback()).map_or(0, |d| d.stats.tx_packets);
    let mut h = Html::default();
    put!(h; "<div class=\"wide\"><svg class=\"path\" viewBox=\"-2 0 " {width} " " {height} "\" style=\"max-width:" {width} "px\" role=\"img\" aria-label=\"the path of packets\">");
    put!(h; "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\"/></marker></defs>");
    for (n, s) in all.iter().enumerate() {
        let x = n as f64 * (BOX + GAP);
        if n > 0 {
            arrows(&mut h, x);
        }
        stage(&mut h, s, x);
    }
    if lo > 0 {
        let x = 2.0 * (BOX + GAP);
        put!(h; "<path class=\"loop\" d=\"M" {x + 30.0} " 26v-12h" {BOX - 60.0} "v9\" marker-end=\"url(#tip)\"/>");
        put!(h; "<text class=\"lo\" x=\"" {x + BOX / 2.0} "\" y=\"10\" text-anchor=\"middle\">lo " {count(lo)} "</text>");
    }
    h.raw("</svg></div>");
    h
}

fn arrows(h: &mut Html, x: f64) {
    put!(h; "<line class=\"out\" x1=\"" {x - GAP + 2.0} "\" x2=\"" {x - 2.0} "\" y1=\"79\" y2=\"79\" marker-end=\"url(#tip)\"/>");
    put!(h; "<line class=\"in\" x1=\"" {x - 2.0} "\" x2=\"" {x - GAP + 2.0} "\" y1=\"105\" y2=\"105\" marker-end=\"url(#tip)\"/>");
}

fn stage(h: &mut Html, s: &Stage, x: f64) {
    let number = |n: Option<u64>| n.map_or("–".to_owned(), count);
    h.raw(if s.drops.iter().all(|e| e.ordinary) { "<g>" } else { "<g class=\"hurt\">" });
    put!(h; "<title>" {&s.title} ": " {&s.about} "</title>");
    put!(h; "<rect x=\"" {x} "\" y=\"26\" width=\"" {BOX} "\" height=\"96\" rx=\"8\"/>");
    put!(h; "<text class=\"name\" x=\"" {x + 10.0} "\" y=\"44\">" {fit(&s.title, 18)} "</text>");
    put!(h; "<text class=\"about\" x=\"" {x + 10.0} "\" y=\"59\">" {fit(&s.about, 24)} "</text>");
    for (y, way, n) in [(84.0, "out →", s.out), (110.0, "← in", s.into)] {
        put!(h; "<text class=\"way\" x=\"" {x + 10.0} "\" y=\"" {y} "\">" {way} "</text>");
        put!(h; "<text class=\"n\" x=\"" {x + BOX - 10.0} "\" y=\"" {y} "\" text-anchor=\"end\">" {number(n)} "</text>");
    }
    for (i, e) in s.drops.iter().take(LINES).enumerate() {
        let (y, class) = (142.0 + i as f64 * 32.0, if e.ordinary { "plain" } else { "" });
        put!(h; "<text class=\"drop " {class} "\" x=\"" {x + 4.0} "\" y=\"" {y} "\">✕ " {count(e.packets)} "</text>");
        put!(h; "<text class=\"why " {class} "\" x=\"" {x + 4.0} "\" y=\"" {y + 13.0} "\">" {fit(&e.why, 24)} "</text>");
    }
    if s.drops.len() > LINES {
        let rest: u64 = s.drops.iter().skip(LINES).map(|d| d.packets).sum();
        put!(h; "<text class=\"drop\" x=\"" {x + 4.0} "\" y=\"" {142.0 + LINES as f64 * 32.0} "\">✕ " {count(rest)} " for other reasons</text>");
    }
    h.raw("</g>");
}
