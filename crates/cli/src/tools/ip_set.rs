//! `belljar ip`'s changing commands: iproute2's words made into the netlink request that iproute2 would send.
//!
//! The kernel's netlink code does what the request says, or refuses it; what is refused here are words only. Left out: kinds
//! and words for which the stack has nothing (it refuses them as well).
use crate::out::Fail;
use belljar_abi::netlink::*;
use belljar_abi::rtax::{rtax_of, rtax_value};
use belljar_abi::rtnetlink::*;
use belljar_abi::{AF_INET, AF_INET6, AF_UNSPEC, IFF_ALLMULTI, IFF_MULTICAST, IFF_NOARP, IFF_PROMISC, IFF_UP};
use belljar_kernel::view::LinkView;
use core::net::IpAddr;
use std::collections::BTreeMap;

/// A request, and the namespace that it speaks of.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub message: Vec<u8>,
    pub netns: Option<String>,
}

type Done<T = ()> = Result<T, Fail>;

fn usage<T>(text: impl Into<String>) -> Done<T> {
    Err(Fail::usage(text.into()))
}

/// Words in their order, with the devices that they may name.
struct Words<'a> {
    words: std::iter::Peekable<std::slice::Iter<'a, String>>,
    links: &'a [LinkView],
}

/// Attributes of RTA_METRICS.
type Metrics = BTreeMap<u16, Vec<u8>>;

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        self.words.next().map(String::as_str)
    }

    fn value(&mut self) -> Done<&'a str> {
        self.next().ok_or_else(|| Fail::usage("Command line is not complete. Try option \"help\""))
    }

    fn number(&mut self, what: &str) -> Done<u32> {
        let v = self.value()?;
        v.parse().map_err(|_| Fail::usage(format!("Error: argument \"{v}\" is wrong: Invalid \"{what}\" value")))
    }

    fn index_of(&self, name: &str) -> Done<u32> {
        let found = self.links.iter().find(|l| l.name == name).map(|l| l.ifindex);
        found.ok_or_else(|| Fail::new(format!("Cannot find device \"{name}\"")))
    }

    fn dev(&mut self) -> Done<u32> {
        let name = self.value()?;
        self.index_of(name)
    }

    /// `lock`, if it is there, and the value of a route's metric.
    fn metric(&mut self, word: &str, to: &mut Metrics) -> Done<()> {
        let which = rtax_of(word).unwrap_or(RTAX_UNSPEC);
        let mut v = self.value()?;
        let locks = v == "lock";
        if locks {
            v = self.value()?;
        }
        if locks || which == RTAX_RTO_MIN {
            let before = to.get(&RTAX_LOCK).and_then(|v| v.first_chunk()).map_or(0, |b| u32::from_ne_bytes(*b));
            to.insert(RTAX_LOCK, (before | 1 << which).to_ne_bytes().to_vec());
        }
        let value = match which {
            RTAX_CC_ALGO => Some([v.as_bytes(), &[0]].concat()),
            _ => rtax_value(which, v).map(|n| n.to_ne_bytes().to_vec()),
        };
        let wrong = || Fail::usage(format!("Error: argument \"{v}\" is wrong: \"{word}\" value is invalid"));
        to.insert(which, value.ok_or_else(wrong)?);
        Ok(())
    }

    fn addr(&mut self) -> Done<IpAddr> {
        let v = self.value()?;
        v.parse().map_err(|_| no_address(v))
    }

    fn mac(&mut self) -> Done<[u8; 6]> {
        let v = self.value()?;
        let bytes: Option<Vec<u8>> = v.split(':').map(|b| u8::from_str_radix(b, 16).ok()).collect();
        let bytes = bytes.and_then(|b| b.try_into().ok());
        bytes.ok_or_else(|| Fail::usage(format!("\"{v}\" is invalid lladdr.")))
    }

    fn switch(&mut self, what: &str) -> Done<bool> {
        match self.value()? {
            "on" => Ok(true),
            "off" => Ok(false),
            v => usage(format!("Error: argument of \"{what}\" must be \"on\" or \"off\", not \"{v}\"")),
        }
    }
}

fn no_address(v: &str) -> Fail {
    Fail::usage(format!("Error: any valid prefix is expected rather than \"{v}\"."))
}

fn bytes(a: IpAddr) -> Vec<u8> {
    match a {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

fn family(a: IpAddr) -> u8 {
    if a.is_ipv4() { AF_INET as u8 } else { AF_INET6 as u8 }
}

fn prefix(v: &str) -> Done<(IpAddr, u8)> {
    let (a, len) = v.split_once('/').map_or((v, None), |(a, l)| (a, Some(l)));
    let a: IpAddr = a.parse().map_err(|_| no_address(v))?;
    let all = if a.is_ipv4() { 32 } else { 128 };
    let len = len.map_or(Some(all), |l| l.parse().ok().filter(|l| *l <= all));
    Ok((a, len.ok_or_else(|| no_address(v))?))
}

/// The request for a line: object, verb and what follows it. `None` for a verb that changes nothing.
pub fn change(object: &str, verb: &str, rest: &[String], links: &[LinkView]) -> Done<Option<Change>> {
    let w = Words { words: rest.iter().peekable(), links };
    Ok(Some(match (object, verb) {
        ("link", "add" | "a") => link_add(w)?,
        ("link", "set") => link_set(w)?,
        ("link", "delete" | "del") => link_del(w)?,
        ("address", _) => address(w, verb)?,
        ("route", _) => route(w, verb)?,
        ("neighbour", _) => neighbour(w, verb)?,
        _ => return Ok(None),
    }))
}

/// Flags of a verb.
fn flags(verb: &str) -> u16 {
    NLM_F_REQUEST
        | NLM_F_ACK
        | match verb {
            "add" => NLM_F_CREATE | NLM_F_EXCL,
            "replace" => NLM_F_CREATE | NLM_F_REPLACE,
            "append" => NLM_F_CREATE | NLM_F_APPEND,
            "change" => NLM_F_REPLACE,
            _ => 0,
        }
}

fn message(kind: u16, flags: u16, fill: impl FnOnce(&mut Msg<'_>) -> Done) -> Done<Vec<u8>> {
    let mut out = Vec::new();
    fill(&mut Msg::new(&mut out, kind, flags, 1, 0))?;
    Ok(out)
}

/// What add and set have in common; false for a word of neither.
fn link_word(w: &mut Words<'_>, word: &str, m: &mut Msg<'_>, netns: &mut Option<String>) -> Done<bool> {
    match word {
        "mtu" => m.attr_u32(IFLA_MTU, w.number("mtu")?),
        "address" => m.attr(IFLA_ADDRESS, &w.mac()?),
        "txqueuelen" | "txqlen" | "qlen" => m.attr_u32(IFLA_TXQLEN, w.number("txqueuelen")?),
        "alias" => m.attr(IFLA_IFALIAS, w.value()?.as_bytes()),
        "group" => m.attr_u32(IFLA_GROUP, w.number("group")?),
        "master" => m.attr_u32(IFLA_MASTER, w.dev()?),
        "nomaster" => m.attr_u32(IFLA_MASTER, 0),
        "netns" => {
            // The jar knows it by its name; the number stands for it.
            *netns = Some(w.value()?.to_owned());
            m.attr_u32(IFLA_NET_NS_FD, 0)
        }
        _ => return Ok(false),
    };
    Ok(true)
}

fn link_add(mut w: Words<'_>) -> Done<Change> {
    let (mut name, mut netns, mut link) = (None, None, None);
    let mut attrs = Vec::new();
    let mut m = Msg::new(&mut attrs, 0, 0, 0, 0);
    let kind = loop {
        match w.value()? {
            "type" => break w.value()?,
            "name" | "dev" => name = Some(w.value()?),
            "link" => link = Some(w.dev()?),
            word if link_word(&mut w, word, &mut m, &mut netns)? => {}
            word if name.is_none() => name = Some(word),
            word => return usage(format!("Error: either \"dev\" is duplicate, or \"{word}\" is a garbage.")),
        }
    };
    let attrs = attrs.get(NLMSG_HDRLEN..).unwrap_or(&[]).to_vec();
    let message = message(RTM_NEWLINK, flags("add"), |m| {
        m.body(&IfInfoMsg::default().to_bytes()).body(&attrs);
        if let Some(name) = name {
            m.attr_str(IFLA_IFNAME, name);
        }
        if let Some(link) = link {
            m.attr_u32(IFLA_LINK, link);
        }
        let mut done = Ok(());
        m.nest(IFLA_LINKINFO, |m| {
            m.attr_str(IFLA_INFO_KIND, kind);
            if w.words.peek().is_some() {
                m.nest(IFLA_INFO_DATA, |m| done = kind_words(&mut w, kind, m));
            }
        });
        done
    })?;
    Ok(Change { message, netns })
}

fn kind_words(w: &mut Words<'_>, kind: &str, m: &mut Msg<'_>) -> Done {
    while let Some(word) = w.next() {
        match (kind, word) {
            ("veth", "peer") => {
                let mut name = w.value()?;
                if name == "name" {
                    name = w.value()?;
                }
                m.nest(VETH_INFO_PEER, |m| {
                    m.body(&IfInfoMsg::default().to_bytes()).attr_str(IFLA_IFNAME, name);
                });
            }
            ("bridge", "ageing_time") => drop(m.attr_u32(IFLA_BR_AGEING_TIME, w.number(word)?)),
            ("bridge", "forward_delay") => drop(m.attr_u32(IFLA_BR_FORWARD_DELAY, w.number(word)?)),
            ("bridge", "hello_time") => drop(m.attr_u32(IFLA_BR_HELLO_TIME, w.number(word)?)),
            ("bridge", "max_age") => drop(m.attr_u32(IFLA_BR_MAX_AGE, w.number(word)?)),
            ("bridge", "stp_state") => drop(m.attr_u32(IFLA_BR_STP_STATE, w.number(word)?)),
            ("bridge", "vlan_filtering") => drop(m.attr_u8(IFLA_BR_VLAN_FILTERING, w.number(word)? as u8)),
            ("bridge", "priority") => {
                let n = u16::try_from(w.number(word)?)
                    .map_err(|_| Fail::usage("Error: argument of \"priority\" is too large"))?;
                m.attr_u16(IFLA_BR_PRIORITY, n);
            }
            _ => return usage(format!("{kind}: unknown command \"{word}\"?")),
        }
    }
    Ok(())
}

fn link_set(mut w: Words<'_>) -> Done<Change> {
    let mut name = w.value()?;
    if name == "dev" {
        name = w.value()?;
    }
    let mut info = IfInfoMsg { index: w.index_of(name)? as i32, ..IfInfoMsg::default() };
    let mut netns = None;
    let mut attrs = Vec::new();
    let mut m = Msg::new(&mut attrs, 0, 0, 0, 0);
    while let Some(word) = w.next() {
        let mut flag = |bit: u32, on: bool| {
            info.change |= bit;
            info.flags = if on { info.flags | bit } else { info.flags & !bit };
        };
        match word {
            "up" => flag(IFF_UP, true),
            "down" => flag(IFF_UP, false),
            "arp" => flag(IFF_NOARP, !w.switch(word)?),
            "multicast" => flag(IFF_MULTICAST, w.switch(word)?),
            "promisc" => flag(IFF_PROMISC, w.switch(word)?),
            "allmulticast" => flag(IFF_ALLMULTI, w.switch(word)?),
            "name" => drop(m.attr_str(IFLA_IFNAME, w.value()?)),
            "carrier" => drop(m.attr_u8(IFLA_CARRIER, w.switch(word)?.into())),
            _ if link_word(&mut w, word, &mut m, &mut netns)? => {}
            _ => return usage(format!("Error: either \"dev\" is duplicate, or \"{word}\" is a garbage.")),
        }
    }
    let attrs = attrs.get(NLMSG_HDRLEN..).unwrap_or(&[]).to_vec();
    let message = message(RTM_NEWLINK, flags("set"), |m| {
        m.body(&info.to_bytes()).body(&attrs);
        Ok(())
    })?;
    Ok(Change { message, netns })
}

fn link_del(mut w: Words<'_>) -> Done<Change> {
    let mut name = w.value()?;
    if name == "dev" {
        name = w.value()?;
    }
    let info = IfInfoMsg { index: w.index_of(name)? as i32, ..IfInfoMsg::default() };
    let message = message(RTM_DELLINK, flags("del"), |m| {
        m.body(&info.to_bytes());
        Ok(())
    })?;
    Ok(Change { message, netns: None })
}

fn scope(v: &str) -> Done<u8> {
    Ok(match v {
        "global" => RT_SCOPE_UNIVERSE,
        "site" => RT_SCOPE_SITE,
        "link" => RT_SCOPE_LINK,
        "host" => RT_SCOPE_HOST,
        _ => match v.parse() {
            Ok(n) => n,
            Err(_) => return usage(format!("Error: argument \"{v}\" is wrong: invalid scope value.")),
        },
    })
}

fn address(mut w: Words<'_>, verb: &str) -> Done<Change> {
    let (mut local, mut peer, mut brd, mut label, mut dev) = (None, None, None, None, None);
    let mut info = IfAddrMsg { family: 0, prefixlen: 0, flags: 0, scope: 0, index: 0 };
    let (mut scoped, mut extra) = (false, 0u32);
    while let Some(word) = w.next() {
        match word {
            "dev" => dev = Some(w.dev()?),
            "peer" | "remote" => peer = Some(prefix(w.value()?)?),
            "broadcast" | "brd" => brd = Some(w.value()?),
            "label" => label = Some(w.value()?),
            "nodad" => extra |= IFA_F_NODAD,
            "scope" => (info.scope, scoped) = (scope(w.value()?)?, true),
            "local" => local = Some(prefix(w.value()?)?),
            _ if local.is_none() => local = Some(prefix(word)?),
            _ => return usage(format!("Error: either \"local\" is duplicate, or \"{word}\" is a garbage.")),
        }
    }
    let Some((addr, len)) = local else { return usage("Not enough information: an address is required.") };
    let Some(index) = dev else { return usage("Not enough information: \"dev\" argument is required.") };
    (info.family, info.prefixlen, info.index) = (family(addr), peer.map_or(len, |p| p.1), index);
    if !scoped && addr.is_loopback() {
        info.scope = RT_SCOPE_HOST;
    }
    let brd = match (brd, addr) {
        (None, _) => None,
        (Some("+"), IpAddr::V4(a)) if len < 31 => Some(IpAddr::from((a.to_bits() | u32::MAX >> len).to_be_bytes())),
        (Some(v), _) => Some(v.parse().map_err(|_| no_address(v))?),
    };
    let kind = if verb.starts_with("del") { RTM_DELADDR } else { RTM_NEWADDR };
    let message = message(kind, flags(verb), |m| {
        m.body(&info.to_bytes()).attr(IFA_LOCAL, &bytes(addr)).attr(IFA_ADDRESS, &bytes(peer.map_or(addr, |p| p.0)));
        if let Some(b) = brd {
            m.attr(IFA_BROADCAST, &bytes(b));
        }
        if let Some(l) = label {
            m.attr_str(IFA_LABEL, l);
        }
        if extra != 0 {
            m.attr_u32(IFA_FLAGS, extra);
        }
        Ok(())
    })?;
    Ok(Change { message, netns: None })
}

fn table(v: &str) -> Done<u32> {
    match v {
        "main" => Ok(254),
        "local" => Ok(255),
        "default" => Ok(253),
        _ => {
            v.parse().map_err(|_| Fail::usage(format!("Error: argument \"{v}\" is wrong: \"table\" value is invalid")))
        }
    }
}

const TYPES: [(&str, u8); 6] = [
    ("unicast", RTN_UNICAST),
    ("local", RTN_LOCAL),
    ("blackhole", RTN_BLACKHOLE),
    ("unreachable", RTN_UNREACHABLE),
    ("prohibit", RTN_PROHIBIT),
    ("throw", RTN_THROW),
];

fn route(mut w: Words<'_>, verb: &str) -> Done<Change> {
    let deletes = verb.starts_with("del");
    let mut r = RtMsg {
        family: 0,
        dst_len: 0,
        src_len: 0,
        tos: 0,
        table: 254,
        protocol: RTPROT_BOOT,
        scope: 0,
        kind: RTN_UNICAST,
        flags: 0,
    };
    let (mut scoped, mut to, mut attrs) = (false, None, Vec::<(u16, Vec<u8>)>::new());
    let (mut via, mut wide) = (false, 254);
    let mut metrics = Metrics::new();
    while let Some(word) = w.next() {
        let number = |n: u32| n.to_ne_bytes().to_vec();
        match word {
            "via" => {
                let mut a = w.value()?;
                if a == "inet" || a == "inet6" {
                    a = w.value()?;
                }
                let a: IpAddr = a.parse().map_err(|_| no_address(a))?;
                (via, r.family) = (true, family(a));
                attrs.push((RTA_GATEWAY, bytes(a)));
            }
            "dev" | "oif" => attrs.push((RTA_OIF, number(w.dev()?))),
            "src" => attrs.push((RTA_PREFSRC, bytes(w.addr()?))),
            "metric" | "priority" | "preference" => attrs.push((RTA_PRIORITY, number(w.number(word)?))),
            "table" => wide = table(w.value()?)?,
            "scope" => (r.scope, scoped) = (scope(w.value()?)?, true),
            "onlink" => r.flags |= RTNH_F_ONLINK,
            "proto" | "protocol" => match w.value()? {
                "static" => r.protocol = RTPROT_STATIC,
                "boot" => r.protocol = RTPROT_BOOT,
                "kernel" => r.protocol = RTPROT_KERNEL,
                v => {
                    r.protocol = v.parse().map_err(|_| {
                        Fail::usage(format!("Error: argument \"{v}\" is wrong: \"protocol\" value is invalid"))
                    })?
                }
            },
            "default" if to.is_none() => to = Some(None),
            "to" => to = Some(Some(prefix(w.value()?)?)),
            _ if rtax_of(word).is_some() => w.metric(word, &mut metrics)?,
            _ => match TYPES.iter().find(|t| t.0 == word) {
                Some(t) => r.kind = t.1,
                None if to.is_none() => to = Some(Some(prefix(word)?)),
                None => return usage(format!("Error: either \"to\" is duplicate, or \"{word}\" is a garbage.")),
            },
        }
    }
    if let Some(Some((net, len))) = to {
        (r.family, r.dst_len) = (family(net), len);
        attrs.push((RTA_DST, bytes(net)));
    }
    if r.family == AF_UNSPEC as u8 {
        r.family = AF_INET as u8;
    }
    if !scoped {
        r.scope = match r.kind {
            _ if deletes => RT_SCOPE_NOWHERE,
            RTN_LOCAL => RT_SCOPE_HOST,
            RTN_UNICAST if !via && r.family == AF_INET as u8 => RT_SCOPE_LINK,
            _ => RT_SCOPE_UNIVERSE,
        };
    }
    if deletes {
        // Any of its kind.
        (r.protocol, r.kind) = (RTPROT_UNSPEC, if r.kind == RTN_UNICAST { RTN_UNSPEC } else { r.kind });
    }
    r.table = u8::try_from(wide).unwrap_or(0);
    let kind = if deletes { RTM_DELROUTE } else { RTM_NEWROUTE };
    let message = message(kind, flags(verb), |m| {
        m.body(&r.to_bytes());
        for (k, v) in &attrs {
            m.attr(*k, v);
        }
        if wide > 255 {
            m.attr_u32(RTA_TABLE, wide);
        }
        if !metrics.is_empty() {
            m.nest(RTA_METRICS, |m| metrics.iter().for_each(|(k, v)| _ = m.attr(*k, v)));
        }
        Ok(())
    })?;
    Ok(Change { message, netns: None })
}

const STATES: [(&str, u16); 7] = [
    ("permanent", NUD_PERMANENT),
    ("reachable", NUD_REACHABLE),
    ("noarp", NUD_NOARP),
    ("stale", NUD_STALE),
    ("delay", NUD_DELAY),
    ("probe", NUD_PROBE),
    ("failed", NUD_FAILED),
];

fn neighbour(mut w: Words<'_>, verb: &str) -> Done<Change> {
    let (mut dst, mut mac) = (None, None);
    let mut n = NdMsg { family: 0, ifindex: 0, state: NUD_PERMANENT, flags: 0, kind: 0 };
    while let Some(word) = w.next() {
        match word {
            "dev" => n.ifindex = w.dev()? as i32,
            "lladdr" => mac = Some(w.mac()?),
            "nud" => {
                let v = w.value()?;
                let state = STATES.iter().find(|s| s.0 == v).map(|s| s.1);
                n.state = state.ok_or_else(|| Fail::usage(format!("nud state is bad: \"{v}\"")))?;
            }
            "router" => n.flags |= NTF_ROUTER,
            "to" => dst = Some(w.addr()?),
            _ if dst.is_none() => dst = Some(word.parse().map_err(|_| no_address(word))?),
            _ => return usage(format!("Error: either \"to\" is duplicate, or \"{word}\" is a garbage.")),
        }
    }
    let (Some(dst), true) = (dst, n.ifindex > 0) else {
        return usage("Device and destination are required arguments.");
    };
    n.family = family(dst);
    let kind = if verb.starts_with("del") { RTM_DELNEIGH } else { RTM_NEWNEIGH };
    if kind == RTM_DELNEIGH {
        n.state = 0;
    }
    let message = message(kind, flags(verb), |m| {
        m.body(&n.to_bytes()).attr(NDA_DST, &bytes(dst));
        if let Some(mac) = mac {
            m.attr(NDA_LLADDR, &mac);
        }
        Ok(())
    })?;
    Ok(Change { message, netns: None })
}

/// What the kernel answered, as iproute2 says it; nothing for an acknowledgement.
pub fn refusal(answers: &[Vec<u8>]) -> Option<String> {
    let (h, body) = answers.iter().flat_map(|a| messages(a)).find(|(h, _)| h.kind == NLMSG_ERROR)?;
    let code = i32::from_ne_bytes(*body.first_chunk()?);
    if code == 0 {
        return None;
    }
    let after = 4 + NLMSG_HDRLEN;
    let text =
        attrs(body.get(after..).unwrap_or(&[])).find(|(k, _)| *k == NLMSGERR_ATTR_MSG && h.flags & NLM_F_ACK_TLVS != 0);
    Some(match text {
        Some((_, v)) => format!("Error: {}.", String::from_utf8_lossy(v).trim_end_matches('\0')),
        None => format!("RTNETLINK answers: {}", belljar_abi::Errno(-code).text()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::ip::tests::link;

    fn built(object: &str, verb: &str, line: &str) -> Done<Change> {
        let rest: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        change(object, verb, &rest, &[link("v0", false)]).map(Option::unwrap_or_default)
    }

    #[test]
    fn words_become_requests() {
        let c = built("link", "set", "v0 up mtu 1400 netns blue").unwrap();
        let (h, body) = messages(&c.message).next().unwrap();
        let info = IfInfoMsg::parse(body).unwrap();
        assert_eq!((h.kind, info.index, info.flags, info.change), (RTM_NEWLINK, 3, IFF_UP, IFF_UP));
        assert_eq!(c.netns.as_deref(), Some("blue"));
        let c = built("address", "add", "10.0.0.1/24 brd + dev v0").unwrap();
        let (_, body) = messages(&c.message).next().unwrap();
        let brd = attrs(&body[8..]).find(|(k, _)| *k == IFA_BROADCAST).unwrap().1;
        assert_eq!(brd, [10, 0, 0, 255]);
        let c = built("route", "add", "default via fd00::1 dev v0").unwrap();
        let (_, body) = messages(&c.message).next().unwrap();
        assert_eq!(RtMsg::parse(body).unwrap().family, AF_INET6 as u8);
        assert!(built("link", "add", "p0 type veth peer name p1").is_ok());
        assert!(built("neighbour", "replace", "10.0.0.2 lladdr 02:00:00:00:00:02 dev v0 nud reachable").is_ok());
    }

    #[test]
    fn wrong_words_are_told() {
        for (object, verb, line, says) in [
            ("link", "set", "v1 up", "Cannot find device"),
            ("link", "add", "p0", "not complete"),
            ("link", "add", "p0 type veth pear x", "unknown command"),
            ("address", "add", "10.0.0.1/33 dev v0", "any valid prefix"),
            ("address", "add", "10.0.0.1/24", "\\\"dev\\\" argument is required"),
            ("route", "add", "default via x", "any valid prefix"),
            ("neighbour", "add", "10.0.0.2", "required arguments"),
        ] {
            let e = format!("{:?}", built(object, verb, line).unwrap_err());
            assert!(e.contains(says), "{line}: {e}");
        }
    }
}
