//! XDP where Linux has it, with a list of matches and actions instead of an eBPF program: native in a card's poll, before a
//! packet buffer is made, generic behind that, before taps and protocols see the packet. The first rule that matches decides;
//! what none matches passes. A list is looked through before it is taken, as a verifier does: bounded, without a way to itself.
use crate::env::Rise;
use crate::ids::{DevId, NsId, XskId};
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::skb::Skb;
use crate::net::core::{dev_tx, features};
use crate::net::drop::DropReason;
use crate::net::netfilter::words::Output;
use belljar_wire::ethernet::{ETH_P_ARP, ETH_P_IP, ETH_P_IPV6};
use belljar_wire::ipv4::{IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP};
use belljar_wire::{FlowKey, Frame};
use core::net::IpAddr;
use std::fmt::Write;

/// Rules of one list.
const MOST_RULES: usize = 64;

/// What becomes of a packet (`enum xdp_action`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Pass,
    Drop,
    /// Out by the card that it came in by, the Ethernet addresses exchanged.
    Tx,
    /// Out by another device as it is.
    Redirect(DevId),
    /// To the AF_XDP socket at its device and queue; where there is none it passes (`bpf_redirect_map` of an XSKMAP).
    Xsk,
}

/// What a rule asks of a packet; nothing: every one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Match {
    ethertype: Option<u16>,
    proto: Option<u8>,
    src: Option<(IpAddr, u8)>,
    dst: Option<(IpAddr, u8)>,
    sport: Option<(u16, u16)>,
    dport: Option<(u16, u16)>,
}

#[derive(Clone, Debug)]
struct Rule {
    what: Match,
    action: Action,
    packets: u64,
}

/// Counters by action, as cards have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpStats {
    pub packets: u64,
    pub drops: u64,
    pub tx: u64,
    pub redirects: u64,
    /// What was to be sent and could not.
    pub errors: u64,
}

/// A device's program.
#[derive(Clone, Debug)]
pub struct Xdp {
    pub native: bool,
    pub id: u32,
    rules: Vec<Rule>,
    pub stats: XdpStats,
}

fn covers((net, len): (IpAddr, u8), addr: IpAddr) -> bool {
    let (a, b, bits) = match (net, addr) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()) << 96, u128::from(b.to_bits()) << 96, len.min(32)),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), len.min(128)),
        _ => return false,
    };
    bits == 0 || (a ^ b) >> (128 - u32::from(bits)) == 0
}

impl Match {
    fn fits(&self, ethertype: u16, flow: Option<&FlowKey>) -> bool {
        if self.ethertype.is_some_and(|e| e != ethertype) {
            return false;
        }
        let inner = Match { ethertype: None, ..*self };
        if inner == Match::default() {
            return true;
        }
        let Some(f) = flow else { return false };
        let port = |range: Option<(u16, u16)>, port: u16| range.is_none_or(|(lo, hi)| (lo..=hi).contains(&port));
        self.proto.is_none_or(|p| p == f.proto)
            && self.src.is_none_or(|s| covers(s, f.src))
            && self.dst.is_none_or(|d| covers(d, f.dst))
            && port(self.sport, f.sport)
            && port(self.dport, f.dport)
    }
}

impl Xdp {
    /// A frame with its Ethernet header.
    #[doc(alias = "bpf_prog_run_xdp")]
    fn run(&mut self, frame: &Frame, bound: bool) -> Action {
        self.stats.packets += 1;
        let ethertype = frame.head.bytes().get(12..14).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
        let flow = FlowKey::dissect(frame);
        let Some(rule) = self.rules.iter_mut().find(|r| r.what.fits(ethertype, flow.as_ref())) else {
            return Action::Pass;
        };
        rule.packets += 1;
        match rule.action {
            Action::Drop => self.stats.drops += 1,
            Action::Tx => self.stats.tx += 1,
            Action::Xsk if !bound => return Action::Pass,
            Action::Redirect(_) | Action::Xsk => self.stats.redirects += 1,
            Action::Pass => {}
        }
        rule.action
    }
}

/// What the program of a device says of a frame from one of its queues, if it has one of this kind.
pub fn verdict(net: &mut Net, dev: DevId, queue: u16, native: bool, frame: &Frame) -> Action {
    let bound = xsk_at(net, dev, queue).is_some();
    let program = net.devs.get_mut(dev).and_then(|d| d.xdp.as_mut()).filter(|x| x.native == native);
    program.map_or(Action::Pass, |x| x.run(frame, bound))
}

/// Of several at a queue the one that was bound first.
#[doc(alias = "xsk_map_lookup_elem")]
fn xsk_at(net: &Net, dev: DevId, queue: u16) -> Option<XskId> {
    net.xsk.iter().find(|e| (e.dev, e.queue) == (dev, queue)).map(|e| e.sock)
}

/// Carries out what is not to pass; the head of the packet is at its Ethernet header.
#[doc(alias = "xdp_do_redirect")]
pub fn act(net: &mut Net, dev: DevId, queue: u16, mut skb: Skb, action: Action) {
    let (to, at) = match action {
        Action::Tx => {
            if let Some(b) = skb.head.bytes_mut().first_chunk_mut::<12>() {
                b.rotate_left(6);
            }
            (dev, "xdp_tx")
        }
        Action::Redirect(to) => (to, "xdp_redirect"),
        Action::Xsk => match xsk_at(net, dev, queue) {
            Some(sock) => return net.env.rises.push_back(Rise::Xsk { sock, skb }),
            None => return failed(net, dev, skb, "xdp_redirect"),
        },
        Action::Pass | Action::Drop => return net.kfree_skb(skb, DropReason::Xdp, "xdp_drop"),
    };
    if net.devs.get(to).is_none() {
        return failed(net, dev, skb, at);
    }
    skb.queue_mapping = 0;
    if dev_tx::dev_direct_xmit(net, to, skb).is_err()
        && let Some(x) = net.devs.get_mut(dev).and_then(|d| d.xdp.as_mut())
    {
        x.stats.errors += 1;
    }
}

fn failed(net: &mut Net, dev: DevId, skb: Skb, at: &'static str) {
    if let Some(x) = net.devs.get_mut(dev).and_then(|d| d.xdp.as_mut()) {
        x.stats.errors += 1;
    }
    net.kfree_skb(skb, DropReason::Xdp, at);
}

/// The generic place: the packet comes back when it passes.
#[doc(alias = "do_xdp_generic")]
#[cold]
pub fn generic(net: &mut Net, dev: DevId, mut skb: Skb) -> Option<Skb> {
    let mut frame = skb.to_frame();
    frame.head.rewind(skb.mac_header);
    let queue = skb.queue_mapping;
    let action = verdict(net, dev, queue, false, &frame);
    if action == Action::Pass {
        return Some(skb);
    }
    skb.head.rewind(skb.mac_header);
    act(net, dev, queue, skb, action);
    None
}

type Read<T> = Result<T, String>;

fn number<T: std::str::FromStr>(what: &str, text: &str) -> Read<T> {
    text.parse().map_err(|_| format!("{what}: '{text}' is not understood"))
}

fn ports(what: &str, text: &str) -> Read<(u16, u16)> {
    let (lo, hi) = text.split_once('-').unwrap_or((text, text));
    let range = (number(what, lo)?, number(what, hi)?);
    if range.0 > range.1 { Err(format!("{what}: '{text}' is empty")) } else { Ok(range) }
}

fn prefix(what: &str, text: &str) -> Read<(IpAddr, u8)> {
    let (addr, len) = match text.split_once('/') {
        Some((a, l)) => (number::<IpAddr>(what, a)?, Some(number::<u8>(what, l)?)),
        None => (number::<IpAddr>(what, text)?, None),
    };
    let most = if addr.is_ipv4() { 32 } else { 128 };
    match len.unwrap_or(most) {
        len if len <= most => Ok((addr, len)),
        _ => Err(format!("{what}: '{text}' is longer than an address")),
    }
}

/// `ACTION [MATCH VALUE]…`, up to the next `,`.
fn rule(net: &Net, ns: NsId, dev: DevId, words: &[&str]) -> Read<Rule> {
    let mut words = words.iter().copied();
    let action = match words.next() {
        Some("pass") => Action::Pass,
        Some("drop") => Action::Drop,
        Some("tx") => Action::Tx,
        Some("xsk") => Action::Xsk,
        Some("redirect") => {
            let name = words.next().ok_or("redirect: no device")?;
            match net.dev_by_name(ns, name) {
                Some(to) if to == dev => return Err(format!("redirect: {name} is the device itself; that is tx")),
                Some(to) => Action::Redirect(to),
                None => return Err(format!("redirect: Cannot find device \"{name}\"")),
            }
        }
        other => return Err(format!("'{}' is no action: pass, drop, tx, redirect IF, xsk", other.unwrap_or(""))),
    };
    let mut what = Match::default();
    while let Some(key) = words.next() {
        let value = words.next().ok_or_else(|| format!("{key}: no value"))?;
        match key {
            "proto" => match value {
                "arp" => what.ethertype = Some(ETH_P_ARP),
                "ip" => what.ethertype = Some(ETH_P_IP),
                "ipv6" => what.ethertype = Some(ETH_P_IPV6),
                "tcp" => what.proto = Some(IPPROTO_TCP),
                "udp" => what.proto = Some(IPPROTO_UDP),
                "icmp" => what.proto = Some(IPPROTO_ICMP),
                n => what.proto = Some(number(key, n)?),
            },
            "src" => what.src = Some(prefix(key, value)?),
            "dst" => what.dst = Some(prefix(key, value)?),
            "sport" => what.sport = Some(ports(key, value)?),
            "dport" => what.dport = Some(ports(key, value)?),
            _ => return Err(format!("'{key}' matches nothing: proto, src, dst, sport, dport")),
        }
    }
    Ok(Rule { what, action, packets: 0 })
}

impl Net {
    /// A new list for a device, in place of what it had.
    #[doc(alias = "dev_xdp_install")]
    pub fn set_xdp(&mut self, ns: NsId, dev: DevId, native: bool, words: &[&str]) -> Read<()> {
        let rules: Vec<Rule> = words.split(|w| *w == ",").map(|w| rule(self, ns, dev, w)).collect::<Read<_>>()?;
        if rules.len() > MOST_RULES {
            return Err(format!("a list has {MOST_RULES} rules at most"));
        }
        let id = self.devs.iter().filter_map(|(_, d)| d.xdp.as_ref()).map(|x| x.id).max().unwrap_or(0) + 1;
        let d = self.devs.get_mut(dev).ok_or("no such device")?;
        if native && d.nic().is_none() {
            return Err("Underlying driver does not support XDP in native mode".into());
        }
        d.xdp = Some(Box::new(Xdp { native, id, rules, stats: XdpStats::default() }));
        features::disable_lro(self, dev);
        features::set(self, dev, 0, features::GRO_HW);
        Ok(())
    }

    fn show_xdp(&self, ns: NsId, only: Option<DevId>) -> String {
        let mut out = String::new();
        for id in self.ns_devs(ns).filter(|id| only.is_none_or(|o| o == *id)) {
            let Some((d, x)) = self.devs.get(id).and_then(|d| Some((d, d.xdp.as_ref()?))) else { continue };
            let (mode, s) = (if x.native { "native" } else { "generic" }, x.stats);
            let _ = writeln!(
                out,
                "{}: {mode} id {} packets {} drops {} tx {} redirects {} errors {}",
                d.name, x.id, s.packets, s.drops, s.tx, s.redirects, s.errors
            );
            for r in &x.rules {
                let _ = writeln!(out, "    {}{}: {} packets", self.action_text(r.action), r.what.text(), r.packets);
            }
        }
        out
    }

    fn action_text(&self, a: Action) -> String {
        match a {
            Action::Pass => "pass".into(),
            Action::Drop => "drop".into(),
            Action::Tx => "tx".into(),
            Action::Xsk => "xsk".into(),
            Action::Redirect(to) => format!("redirect {}", self.devs.get(to).map_or("(gone)", |d| d.name.as_str())),
        }
    }
}

impl Match {
    fn text(&self) -> String {
        let mut out = String::new();
        let mut put = |key: &str, value: Option<String>| {
            if let Some(v) = value {
                let _ = write!(out, " {key} {v}");
            }
        };
        let range = |(lo, hi): (u16, u16)| if lo == hi { lo.to_string() } else { format!("{lo}-{hi}") };
        put(
            "proto",
            self.ethertype.map(|e| match e {
                ETH_P_ARP => "arp".into(),
                ETH_P_IP => "ip".into(),
                _ => "ipv6".into(),
            }),
        );
        put(
            "proto",
            self.proto.map(|p| match p {
                IPPROTO_TCP => "tcp".into(),
                IPPROTO_UDP => "udp".into(),
                IPPROTO_ICMP => "icmp".into(),
                n => n.to_string(),
            }),
        );
        put("src", self.src.map(|(a, l)| format!("{a}/{l}")));
        put("dst", self.dst.map(|(a, l)| format!("{a}/{l}")));
        put("sport", self.sport.map(range));
        put("dport", self.dport.map(range));
        out
    }
}

const USAGE: &str = "usage: show [dev IF]
       set dev IF native|generic ACTION [MATCH]... [, ACTION [MATCH]...]...
       off dev IF
ACTION: pass, drop, tx, redirect IF, xsk
MATCH:  proto arp|ip|ipv6|tcp|udp|icmp|NUMBER, src PREFIX, dst PREFIX, sport N[-M], dport N[-M]
";

impl Kernel {
    /// The words of `belljar xdp`.
    pub fn xdp_words(&mut self, ns: NsId, words: &[&str]) -> Output {
        let found = |k: &Kernel, name: &str| {
            k.net.dev_by_name(ns, name).ok_or_else(|| format!("Cannot find device \"{name}\""))
        };
        let done = match words {
            [] | ["show"] => Ok(self.net.show_xdp(ns, None)),
            ["show", "dev", name] => found(self, name).map(|dev| self.net.show_xdp(ns, Some(dev))),
            ["off", "dev", name] => found(self, name).map(|dev| {
                self.net.devs.get_mut(dev).into_iter().for_each(|d| d.xdp = None);
                String::new()
            }),
            ["set", "dev", name, mode @ ("native" | "generic"), rules @ ..] => found(self, name)
                .and_then(|dev| self.net.set_xdp(ns, dev, *mode == "native", rules))
                .map(|()| String::new()),
            ["help" | "--help" | "-h"] => Ok(USAGE.to_owned()),
            _ => Err(USAGE.trim_end().to_owned()),
        };
        match done {
            Ok(stdout) => Output { stdout, ..Output::default() },
            Err(e) => Output { stderr: format!("{e}\n"), code: 2, ..Output::default() },
        }
    }
}
