//! Who sent it and by which device: `iprange`, `mac`, `pkttype`, `rpfilter`, `devgroup`.
use super::*;
use crate::ids::DevId;
use crate::net::core::skb::PktType;
use crate::net::ipv4::fib::{RouteType, lookup_flow};
use crate::net::ipv4::rule::FibFlow;
use crate::net::ipv6::route::route_of;
use crate::net::netfilter::packet::addr;
use crate::net::netfilter::words::value::{address, masked_number};
use core::net::{IpAddr, Ipv4Addr};

const SRC: u8 = 1;
const DST: u8 = 2;
const SRC_INV: u8 = 1 << 4;
const DST_INV: u8 = 1 << 5;

/// Addresses from-to, of either end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Iprange {
    src: (u128, u128),
    dst: (u128, u128),
    flags: u8,
}

impl Iprange {
    pub fn read(pf: Pf, r: &mut Reader<'_>) -> Result<Iprange, Errno> {
        Ok(Iprange { src: (r.inet(pf)?, r.inet(pf)?), dst: (r.inet(pf)?, r.inet(pf)?), flags: r.u8()? })
    }

    #[doc(alias = "iprange_mt4")]
    pub fn matches(&self, p: &Pkt) -> bool {
        let fits = |bit: u8, inv: u8, (lo, hi): (u128, u128), a: u128| {
            self.flags & bit == 0 || (lo <= a && a <= hi) != (self.flags & inv != 0)
        };
        fits(SRC, SRC_INV, self.src, p.src) && fits(DST, DST_INV, self.dst, p.dst)
    }
}

impl Extension for Iprange {
    fn write(&self, pf: Pf, w: &mut Writer) {
        for a in [self.src.0, self.src.1, self.dst.0, self.dst.1] {
            w.inet(pf, a);
        }
        w.u8(self.flags);
        w.zeros(3);
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        let ends = [(SRC, SRC_INV, self.src, "src", "source"), (DST, DST_INV, self.dst, "dst", "destination")];
        for (_, inv, (lo, hi), short, long) in ends.into_iter().filter(|e| self.flags & e.0 != 0) {
            let (lo, hi, inv) = (addr(v.pf, lo), addr(v.pf, hi), bang(self.flags & inv != 0));
            if v.list {
                *o += &format!(" {long} IP range{inv} {lo}-{hi}");
            } else {
                *o += &format!("{inv} --{short}-range {lo}-{hi}");
            }
        }
        Ok(())
    }

    fn option(&mut self, pf: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        let (to, bit, other) = match word {
            "--src-range" => (&mut self.src, SRC, SRC_INV),
            "--dst-range" => (&mut self.dst, DST, DST_INV),
            _ => return Ok(Ext::Unknown),
        };
        let text = w.value(word)?;
        let (lo, hi) = text.split_once('-').unwrap_or((text, text));
        match (address(pf, lo), address(pf, hi)) {
            (Some(lo), Some(hi)) if lo <= hi => *to = (lo, hi),
            (Some(_), Some(_)) => return usage(format!("iprange match: Bad IP address range `{text}'")),
            _ => return bad("iprange", word, text),
        }
        self.flags |= bit | if inv { other } else { 0 };
        Ok(Ext::Taken)
    }

    fn finish(&self) -> Done {
        if self.flags & (SRC | DST) == 0 {
            return usage("iprange match: You must specify `--src-range' or `--dst-range'");
        }
        Ok(())
    }
}

/// The sender's address on the link.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MacSource {
    mac: [u8; 6],
    invert: bool,
    given: bool,
}

impl MacSource {
    pub fn read(r: &mut Reader<'_>) -> Result<MacSource, Errno> {
        let mac = r.bytes(6)?.try_into().map_err(|_| Errno::EINVAL)?;
        r.u16()?;
        Ok(MacSource { mac, invert: r.u32()? != 0, given: true })
    }

    /// What came with no Ethernet header has no such address, whatever is asked.
    #[doc(alias = "mac_mt")]
    pub fn matches(&self, net: &Net, skb: &SkBuff, (iin, _): Devs) -> bool {
        if iin.and_then(|d| net.devs.get(d)).is_none_or(|d| d.is_loopback() || d.noarp()) {
            return false;
        }
        let here = usize::from(skb.network_header.saturating_sub(skb.mac_header)) >= 14;
        let mac = skb.head.at(skb.mac_header).get(6..12).filter(|_| here);
        mac.is_some_and(|m| (m == self.mac) != self.invert)
    }
}

fn mac_text(m: &[u8; 6]) -> String {
    m.map(|b| format!("{b:02x}")).join(":")
}

impl Extension for MacSource {
    fn write(&self, _: Pf, w: &mut Writer) {
        w.0.extend(self.mac);
        w.zeros(2);
        w.u32(self.invert.into());
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        let mac = mac_text(&self.mac);
        *o += &if v.list {
            format!(" MAC{} {mac}", bang(self.invert))
        } else {
            format!("{} --mac-source {mac}", bang(self.invert))
        };
        Ok(())
    }

    fn option(&mut self, _: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        if word != "--mac-source" {
            return Ok(Ext::Unknown);
        }
        let text = w.value(word)?;
        let parts: Option<Vec<u8>> = text.split(':').map(|p| u8::from_str_radix(p, 16).ok()).collect();
        match parts.and_then(|p| p.try_into().ok()) {
            Some(mac) => *self = MacSource { mac, invert: inv, given: true },
            None => return bad("mac", word, text),
        }
        Ok(Ext::Taken)
    }

    fn finish(&self) -> Done {
        if self.given { Ok(()) } else { must("mac", "--mac-source") }
    }
}

/// To this host, to a group, to all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pkttype {
    kind: u32,
    invert: bool,
}

impl Default for Pkttype {
    fn default() -> Pkttype {
        Pkttype { kind: u32::MAX, invert: false }
    }
}

const PKT_TYPES: [&str; 3] = ["unicast", "broadcast", "multicast"];

impl Pkttype {
    pub fn read(r: &mut Reader<'_>) -> Result<Pkttype, Errno> {
        Ok(Pkttype { kind: r.u32()?, invert: r.u32()? != 0 })
    }

    /// A copy for this host's own members is told by its address; what is sent from here has no type yet, as if it were for us.
    #[doc(alias = "pkttype_mt")]
    pub fn matches(&self, p: &Pkt, skb: &SkBuff) -> bool {
        let looped = skb.looped;
        let kind = match (skb.pkt_type, addr(p.pf, p.dst)) {
            (_, IpAddr::V4(a)) if looped && a.is_multicast() => 2,
            (_, IpAddr::V4(_)) if looped => 1,
            (_, IpAddr::V6(_)) if looped => 2,
            (PktType::Host | PktType::Outgoing, _) => 0,
            (PktType::Broadcast, _) => 1,
            (PktType::Multicast, _) => 2,
            (PktType::OtherHost, _) => 3,
        };
        (kind == self.kind) != self.invert
    }
}

impl Extension for Pkttype {
    fn write(&self, _: Pf, w: &mut Writer) {
        w.u32(self.kind);
        w.u32(self.invert.into());
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        let name = PKT_TYPES.get(self.kind as usize).map_or_else(|| self.kind.to_string(), |n| (*n).to_owned());
        *o += &if v.list {
            format!(" PKTTYPE {}= {name}", if self.invert { '!' } else { ' ' }).replace("  =", " =")
        } else {
            format!("{} --pkt-type {name}", bang(self.invert))
        };
        Ok(())
    }

    fn option(&mut self, _: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        if word != "--pkt-type" {
            return Ok(Ext::Unknown);
        }
        let text = w.value(word)?;
        let named = PKT_TYPES.iter().position(|n| n.starts_with(&text.to_ascii_lowercase()));
        let kind = match text {
            "host" => Some(0),
            _ => named,
        };
        match kind {
            Some(n) => *self = Pkttype { kind: n as u32, invert: inv },
            None => return usage(format!("Bad packet type '{text}'")),
        }
        Ok(Ext::Taken)
    }

    fn finish(&self) -> Done {
        if self.kind == u32::MAX { must("pkttype", "--pkt-type") } else { Ok(()) }
    }
}

const RPF_LOOSE: u8 = 1;
const RPF_VALID_MARK: u8 = 2;
const RPF_ACCEPT_LOCAL: u8 = 4;
const RPF_INVERT: u8 = 8;

/// Whether an answer would go back by the device that the packet came in by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rpfilter {
    flags: u8,
}

impl Rpfilter {
    #[doc(alias = "rpfilter_check")]
    pub fn read(r: &mut Reader<'_>) -> Result<Rpfilter, Errno> {
        let flags = r.u8()?;
        if flags > 15 { Err(Errno::EINVAL) } else { Ok(Rpfilter { flags }) }
    }

    #[doc(alias = "rpfilter_mt")]
    pub fn matches(&self, net: &Net, ns: NsId, p: &Pkt, skb: &SkBuff, devs: Devs) -> bool {
        let invert = self.flags & RPF_INVERT != 0;
        let lo = |d: DevId| net.devs.get(d).is_some_and(|d| d.is_loopback());
        // What a host sends to itself comes the way that it went.
        if devs.0.is_some_and(lo) {
            return !invert;
        }
        let mark = if self.flags & RPF_VALID_MARK != 0 { skb.mark } else { 0 };
        let good = match (addr(p.pf, p.src), addr(p.pf, p.dst)) {
            (IpAddr::V4(s), IpAddr::V4(d)) => self.way4(net, ns, s, d, mark, devs.0),
            (IpAddr::V6(s), IpAddr::V6(d)) => {
                // Who has no address yet has none that could be false.
                s.is_unspecified() || self.way6(net, ns, (s, d), mark, devs.0)
            }
            _ => false,
        };
        good != invert
    }

    #[doc(alias = "rpfilter_lookup_reverse")]
    fn way4(&self, net: &Net, ns: NsId, s: Ipv4Addr, d: Ipv4Addr, mark: u32, by: Option<DevId>) -> bool {
        if s.octets()[0] == 0 && (d.is_multicast() || d.is_broadcast()) {
            return d.is_broadcast() || d.octets()[..3] == [224, 0, 0];
        }
        let src = if d.is_multicast() || d.is_broadcast() || d.octets()[0] == 0 { Ipv4Addr::UNSPECIFIED } else { d };
        let Some(r) = lookup_flow(net, ns, &FibFlow { src, mark, oif: None, ..FibFlow::to(s) }) else { return false };
        let local = self.flags & RPF_ACCEPT_LOCAL != 0 && r.kind == RouteType::Local;
        (r.kind == RouteType::Unicast || local) && (self.flags & RPF_LOOSE != 0 || r.dev == by)
    }

    #[doc(alias = "rpfilter_lookup_reverse6")]
    fn way6(
        &self,
        net: &Net,
        ns: NsId,
        (s, d): (core::net::Ipv6Addr, core::net::Ipv6Addr),
        mark: u32,
        by: Option<DevId>,
    ) -> bool {
        if s.is_multicast() {
            return false;
        }
        // A strict question is about this device; an address of the link is of no other.
        let loose = self.flags & RPF_LOOSE != 0;
        let dev = by.filter(|_| !loose || belljar_wire::ipv6::needs_scope(s));
        let Some(r) = route_of(net, ns, (d, s), dev, mark) else { return false };
        if r.is_here() {
            return self.flags & RPF_ACCEPT_LOCAL != 0;
        }
        r.kind == RouteType::Unicast && (loose || r.dev == by)
    }
}

impl Extension for Rpfilter {
    fn write(&self, _: Pf, w: &mut Writer) {
        w.u8(self.flags);
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        let all = [
            (RPF_LOOSE, "loose"),
            (RPF_VALID_MARK, "validmark"),
            (RPF_ACCEPT_LOCAL, "accept-local"),
            (RPF_INVERT, "invert"),
        ];
        o.push_str(if v.list { " rpfilter" } else { "" });
        for (_, name) in all.iter().filter(|f| self.flags & f.0 != 0) {
            *o += &format!(" {}{name}", if v.list { "" } else { "--" });
        }
        Ok(())
    }

    fn option(&mut self, _: Pf, word: &str, _: bool, _: &mut Words<'_>) -> Done<Ext> {
        self.flags |= match word {
            "--loose" => RPF_LOOSE,
            "--validmark" => RPF_VALID_MARK,
            "--accept-local" => RPF_ACCEPT_LOCAL,
            "--invert" => RPF_INVERT,
            _ => return Ok(Ext::Unknown),
        };
        Ok(Ext::Taken)
    }
}

const GROUP_SRC: u32 = 1;
const GROUP_SRC_INV: u32 = 2;
const GROUP_DST: u32 = 4;
const GROUP_DST_INV: u32 = 8;

/// Groups of the devices that it came by and leaves by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Devgroup {
    flags: u32,
    src: (u32, u32),
    dst: (u32, u32),
}

impl Devgroup {
    #[doc(alias = "devgroup_mt_checkentry")]
    pub fn read(r: &mut Reader<'_>) -> Result<Devgroup, Errno> {
        let d = Devgroup { flags: r.u32()?, src: (r.u32()?, r.u32()?), dst: (r.u32()?, r.u32()?) };
        if d.flags & !15 != 0 || d.flags & (GROUP_SRC | GROUP_DST) == 0 { Err(Errno::EINVAL) } else { Ok(d) }
    }

    pub fn asks_source(&self) -> bool {
        self.flags & GROUP_SRC != 0
    }

    pub fn asks_destination(&self) -> bool {
        self.flags & GROUP_DST != 0
    }

    #[doc(alias = "devgroup_mt")]
    pub fn matches(&self, net: &Net, devs: Devs) -> bool {
        let fits = |bit: u32, inv: u32, (group, mask): (u32, u32), dev: Option<DevId>| {
            let has = dev.and_then(|d| net.devs.get(d)).is_some_and(|d| (group ^ d.group) & mask == 0);
            self.flags & bit == 0 || has != (self.flags & inv != 0)
        };
        fits(GROUP_SRC, GROUP_SRC_INV, self.src, devs.0) && fits(GROUP_DST, GROUP_DST_INV, self.dst, devs.1)
    }
}

impl Extension for Devgroup {
    fn write(&self, _: Pf, w: &mut Writer) {
        [self.flags, self.src.0, self.src.1, self.dst.0, self.dst.1].into_iter().for_each(|v| w.u32(v));
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        let ends = [(GROUP_SRC, GROUP_SRC_INV, self.src, "src"), (GROUP_DST, GROUP_DST_INV, self.dst, "dst")];
        for (_, inv, (group, mask), name) in ends.into_iter().filter(|e| self.flags & e.0 != 0) {
            let dash = if v.list { "" } else { "--" };
            let text = match (group, mask) {
                // The only name that every machine knows.
                (0, u32::MAX) if !v.numeric => "default".to_owned(),
                (g, u32::MAX) => format!("{g:#x}"),
                (g, m) => format!("{g:#x}/{m:#x}"),
            };
            *o += &format!("{} {dash}{name}-group {text}", bang(self.flags & inv != 0));
        }
        Ok(())
    }

    fn option(&mut self, _: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        let (to, bit, other) = match word {
            "--src-group" => (&mut self.src, GROUP_SRC, GROUP_SRC_INV),
            "--dst-group" => (&mut self.dst, GROUP_DST, GROUP_DST_INV),
            _ => return Ok(Ext::Unknown),
        };
        let text = w.value(word)?;
        let (group, mask) = masked_number(if text == "default" { "0" } else { text }, "devgroup")?;
        *to = (group, mask.unwrap_or(u32::MAX));
        self.flags |= bit | if inv { other } else { 0 };
        Ok(Ext::Taken)
    }

    fn finish(&self) -> Done {
        if self.flags == 0 {
            return usage("devgroup match: You must specify either '--src-group' or '--dst-group'");
        }
        Ok(())
    }
}
