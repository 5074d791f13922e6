//! The changing half of the `ip` command, in its own words: `route add 10.0.0.0/8 via 192.0.2.1 table 100`, `rule add from
//! 10.1.0.0/16 lookup 100`, `addr`, `link`, `neigh`. For scripts, labs and whoever configures a kernel by text.
use super::fib::*;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::dev::IfName;
use crate::net::core::dst_metrics::{DstMetrics, MetricsId};
use crate::net::core::fib_rules::{Action, Rule, RuleDev};
use crate::net::core::neighbour::{self, Nud, Update};
use crate::net::core::pneigh::Pneigh;
use crate::net::ipv6;
use belljar_abi::Errno;
use belljar_abi::rtax::{rtax_of, rtax_value};
use belljar_abi::rtnetlink::{RTAX_CC_ALGO, RTAX_RTO_MIN};
use belljar_wire::Mac;
use core::net::{IpAddr, Ipv4Addr};
use core::str::FromStr;

/// Why a line has no effect: words that mean nothing, or the kernel's own error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CmdError {
    Words(String),
    Kernel(Errno),
}

impl From<Errno> for CmdError {
    fn from(e: Errno) -> CmdError {
        CmdError::Kernel(e)
    }
}

impl std::fmt::Display for CmdError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CmdError::Words(w) => f.write_str(w),
            CmdError::Kernel(e) => write!(f, "{e}"),
        }
    }
}

pub(crate) type Done<T = ()> = Result<T, CmdError>;

pub(crate) fn words(what: impl Into<String>) -> CmdError {
    CmdError::Words(what.into())
}

/// The line, word by word.
pub(crate) struct Line<'a> {
    pub words: std::iter::Peekable<std::str::SplitWhitespace<'a>>,
}

impl<'a> Line<'a> {
    pub fn next(&mut self, what: &str) -> Done<&'a str> {
        self.words.next().ok_or_else(|| words(format!("{what} is missing")))
    }

    pub fn parse<T: FromStr>(&mut self, what: &str) -> Done<T> {
        let w = self.next(what)?;
        w.parse().map_err(|_| words(format!("`{w}` is not {what}")))
    }

    /// An address with or without a length; `default` and `all` are everything.
    fn prefix(&mut self) -> Done<(Ipv4Addr, u8)> {
        let w = self.next("a prefix")?;
        if matches!(w, "default" | "all" | "any") {
            return Ok((Ipv4Addr::UNSPECIFIED, 0));
        }
        let (a, len) = w.split_once('/').unwrap_or((w, "32"));
        let found = a.parse().ok().zip(len.parse().ok().filter(|l| *l <= 32));
        found.ok_or_else(|| words(format!("`{w}` is not a prefix")))
    }

    /// `lock`, if it is there, and the value of a route's metric.
    pub fn metric(&mut self, which: u16, to: &mut DstMetrics) -> Done {
        if self.words.next_if(|w| *w == "lock").is_some() || which == RTAX_RTO_MIN {
            to.lock(which);
        }
        let w = self.next("a value")?;
        let set = match rtax_value(which, w) {
            _ if which == RTAX_CC_ALGO => to.set_congestion(w),
            Some(value) => to.set(which, value),
            None => Err("not a value of this metric"),
        };
        set.map_err(|text| words(format!("`{w}`: {text}")))
    }

    fn table(&mut self) -> Done<u32> {
        Ok(match self.next("a table")? {
            "local" => RT_TABLE_LOCAL,
            "main" => RT_TABLE_MAIN,
            "default" => RT_TABLE_DEFAULT,
            n => n.parse().map_err(|_| words(format!("`{n}` is not a table")))?,
        })
    }

    /// A number, in hexadecimal with 0x.
    pub fn number(&mut self, what: &str) -> Done<u32> {
        number(self.next(what)?).ok_or_else(|| words(format!("{what} is not a number")))
    }
}

fn number(w: &str) -> Option<u32> {
    w.strip_prefix("0x").map_or_else(|| w.parse().ok(), |h| u32::from_str_radix(h, 16).ok())
}

pub(crate) fn refusing(w: &str) -> Option<RouteType> {
    Some(match w {
        "unreachable" => RouteType::Unreachable,
        "blackhole" => RouteType::Blackhole,
        "prohibit" => RouteType::Prohibit,
        "throw" => RouteType::Throw,
        _ => return None,
    })
}

/// `FROM-TO`, or one number.
fn range<T: core::str::FromStr + PartialOrd>(w: &str) -> Option<(T, T)> {
    let (from, to) = w.split_once('-').unwrap_or((w, w));
    from.parse().ok().zip(to.parse().ok()).filter(|(from, to)| from <= to)
}

fn no_range() -> CmdError {
    words("this is not a range")
}

fn protocol(w: &str) -> Done<u8> {
    Ok(match w {
        "icmp" => 1,
        "tcp" => 6,
        "udp" => 17,
        "ipv6-icmp" => 58,
        "sctp" => 132,
        w => w.parse().map_err(|_| words("this is not a protocol"))?,
    })
}

impl Kernel {
    /// One line without the word `ip`; of IPv6 when it begins with `-6` or names an address of it.
    pub fn ip(&mut self, ns: NsId, line: &str) -> Result<(), CmdError> {
        let mut l = Line { words: line.split_whitespace().peekable() };
        let _ = l.words.next_if(|w| matches!(*w, "-4" | "-6"));
        let (object, verb) = (l.next("an object")?, l.next("a command")?);
        if ipv6::ip_cmd::is_v6(line) {
            return self.ip6(ns, object, verb, &mut l);
        }
        match (object, verb) {
            ("route" | "r", "add" | "del") => self.ip_route(ns, verb == "add", &mut l),
            ("rule" | "ru", "add" | "del") => self.ip_rule(ns, verb == "add", &mut l),
            ("addr" | "address" | "a", "add" | "del") => self.ip_addr(ns, verb == "add", &mut l),
            ("link" | "l", "set") => self.ip_link(ns, &mut l),
            ("neigh" | "neighbour" | "n", "add" | "replace" | "del") => {
                self.ip_neigh::<Ipv4Addr>(ns, verb != "del", &mut l)
            }
            _ => Err(words(format!("`ip {object} {verb}` is not understood"))),
        }
    }

    pub(crate) fn dev(&self, ns: NsId, l: &mut Line<'_>) -> Done<DevId> {
        let name = l.next("a device")?;
        self.net.dev_by_name(ns, name).ok_or_else(|| words(format!("there is no device `{name}`")))
    }

    /// A device, there or not.
    fn rule_dev(&self, ns: NsId, l: &mut Line<'_>) -> Done<RuleDev> {
        let name = l.next("a device")?;
        Ok(RuleDev { name: IfName::new(name), dev: self.net.dev_by_name(ns, name) })
    }

    pub(in crate::net) fn metrics_id(&mut self, ns: NsId, m: &DstMetrics) -> Done<MetricsId> {
        Ok(self.net.ns.get_mut(ns).ok_or(Errno::ENODEV)?.metrics_id(m)?)
    }

    fn ip_route(&mut self, ns: NsId, add: bool, l: &mut Line<'_>) -> Done {
        let mut route = Route::unicast(None, None);
        if let Some(kind) = l.words.peek().and_then(|w| refusing(w)) {
            l.words.next();
            route.kind = kind;
        } else if l.words.next_if(|w| *w == "local").is_some() {
            (route.kind, route.scope) = (RouteType::Local, Scope::Host);
        }
        let (dst, len) = l.prefix()?;
        let (mut table, mut hops) = (RT_TABLE_MAIN, Vec::new());
        let mut metrics = DstMetrics::default();
        while let Some(w) = l.words.next() {
            match w {
                "nexthop" => hops.push(Route::unicast(None, None)),
                "table" => table = l.table()?,
                "metric" | "priority" => route.metric = l.number("a metric")?,
                "src" => route.src = Some(l.parse("an address")?),
                "via" => hops.last_mut().unwrap_or(&mut route).gateway = Some(l.parse("an address")?),
                "dev" => {
                    let dev = self.dev(ns, l)?;
                    hops.last_mut().unwrap_or(&mut route).dev = Some(dev);
                }
                "weight" => {
                    let weight: u16 = l.parse("a weight")?;
                    let hop = hops.last_mut().ok_or_else(|| words("`weight` belongs to `nexthop`"))?;
                    hop.weight = weight.clamp(1, 256);
                }
                "scope" | "proto" | "onlink" => return Err(words(format!("`{w}` is not understood"))),
                _ => match rtax_of(w) {
                    Some(which) => l.metric(which, &mut metrics)?,
                    None => return Err(words(format!("`{w}` means nothing to a route"))),
                },
            }
        }
        if !add {
            let (given, dev) = (route, route.dev);
            let fits = |r: &Route| {
                (dev.is_none() || r.dev == dev)
                    && (given.gateway.is_none() || r.gateway == given.gateway)
                    && (given.metric == 0 || r.metric == given.metric)
                    && (given.kind == RouteType::Unicast || r.kind == given.kind)
            };
            return Ok(self.net.del_route_of(ns, table, dst, len, fits)?);
        }
        route.metrics = self.metrics_id(ns, &metrics)?;
        if hops.is_empty() {
            hops.push(route);
        }
        for h in &mut hops {
            let scope = if h.gateway.is_some() { Scope::Universe } else { Scope::Link };
            *h = Route { gateway: h.gateway, dev: h.dev, weight: h.weight, scope, ..route };
        }
        Ok(self.net.add_route_to(ns, table, dst, len, &mut hops)?)
    }

    fn ip_rule(&mut self, ns: NsId, add: bool, l: &mut Line<'_>) -> Done {
        let (mut rule, mut pref, mut action) = (Rule::new(0, Action::Table(RT_TABLE_MAIN)), None, None);
        while let Some(w) = l.words.next() {
            match w {
                "not" => rule.not = true,
                "from" => rule.from = l.prefix().map(|(a, len)| (a.into(), len))?,
                "to" => rule.to = l.prefix().map(|(a, len)| (a.into(), len))?,
                "iif" => rule.iif = Some(self.rule_dev(ns, l)?),
                "oif" => rule.oif = Some(self.rule_dev(ns, l)?),
                "tos" | "dsfield" => rule.tos = l.number("a type of service")? as u8,
                "fwmark" => {
                    let w = l.next("a mark")?;
                    let (mark, mask) = w.split_once('/').unwrap_or((w, "0xffffffff"));
                    let both = number(mark).zip(number(mask)).ok_or_else(|| words("this is not a mark"))?;
                    (rule.mark, rule.mark_mask) = both;
                }
                "ipproto" => rule.ip_proto = protocol(l.next("a protocol")?)?,
                "sport" => rule.sport = Some(range(l.next("a port")?).filter(|r| r.0 > 0).ok_or_else(no_range)?),
                "dport" => rule.dport = Some(range(l.next("a port")?).filter(|r| r.0 > 0).ok_or_else(no_range)?),
                "uidrange" => rule.uids = Some(range(l.next("users")?).ok_or_else(no_range)?),
                "goto" => action = Some(Action::Goto(l.number("a preference")?)),
                "nop" => action = Some(Action::Nop),
                "table" | "lookup" => action = Some(Action::Table(l.table()?)),
                "pref" | "priority" | "preference" => pref = Some(l.number("a preference")?),
                w => match refusing(w).filter(|k| *k != RouteType::Throw) {
                    Some(kind) => action = Some(Action::Refuse(kind)),
                    None => return Err(words(format!("`{w}` means nothing to a rule"))),
                },
            }
        }
        if !add {
            let same = |r: &Rule| {
                pref.is_none_or(|p| p == r.pref)
                    && action.is_none_or(|a| a == r.action)
                    && (rule.from.1 == 0 || rule.from == r.from)
                    && (rule.to.1 == 0 || rule.to == r.to)
                    && (rule.mark_mask == 0 || rule.mark == r.mark)
                    && (rule.ip_proto == 0 || rule.ip_proto == r.ip_proto)
                    && (rule.sport.is_none() || rule.sport == r.sport)
                    && (rule.dport.is_none() || rule.dport == r.dport)
                    && (rule.uids.is_none() || rule.uids == r.uids)
            };
            return Ok(self.net.del_rule(ns, belljar_abi::AF_INET, same)?);
        }
        rule.action = action.unwrap_or(rule.action);
        rule.pref = pref.unwrap_or_else(|| self.net.next_pref(ns, belljar_abi::AF_INET));
        if matches!(rule.action, Action::Goto(to) if to <= rule.pref) {
            return Err(words("Backward goto not supported"));
        }
        Ok(self.net.add_rule(ns, belljar_abi::AF_INET, rule)?)
    }

    fn ip_addr(&mut self, ns: NsId, add: bool, l: &mut Line<'_>) -> Done {
        let (addr, len) = l.prefix()?;
        if l.next("`dev`")? != "dev" {
            return Err(words("`dev` and a device are missing"));
        }
        let dev = self.dev(ns, l)?;
        let done = if add { self.net.add_address(dev, addr, len) } else { self.net.del_address(dev, addr, len) };
        Ok(done?)
    }

    fn ip_link(&mut self, ns: NsId, l: &mut Line<'_>) -> Done {
        let _ = l.words.next_if(|w| *w == "dev");
        let dev = self.dev(ns, l)?;
        while let Some(w) = l.words.next() {
            match w {
                "up" | "down" => self.net.set_link(dev, w == "up")?,
                "mtu" => {
                    let mtu = l.number("an MTU")?;
                    self.net.set_mtu(dev, mtu)?;
                }
                "carrier" => {
                    let on = l.next("on or off")? == "on";
                    self.net.set_carrier(dev, on);
                }
                _ => return Err(words(format!("`{w}` means nothing to a link"))),
            }
        }
        Ok(())
    }

    /// Whom to answer for, of the family that `A` is an address of.
    fn ip_neigh_proxy<A: FromStr + Into<IpAddr>>(&mut self, ns: NsId, add: bool, l: &mut Line<'_>) -> Done {
        let addr = l.parse::<A>("an address")?.into();
        let mut new = Pneigh { addr, dev: None, flags: 0, proto: 0, permanent: true };
        while let Some(w) = l.words.next() {
            match w {
                "dev" => new.dev = Some(self.dev(ns, l)?),
                "router" => new.flags |= belljar_abi::rtnetlink::NTF_ROUTER,
                _ => return Err(words(format!("`{w}` means nothing to a neighbour"))),
            }
        }
        let net = &mut self.net;
        Ok(if add { net.pneigh_create(ns, new) } else { net.pneigh_delete(ns, addr, new.dev) }?)
    }

    /// A neighbour of the family that `A` is an address of.
    pub(crate) fn ip_neigh<A: FromStr + Into<IpAddr>>(&mut self, ns: NsId, add: bool, l: &mut Line<'_>) -> Done {
        if l.words.next_if_eq(&"proxy").is_some() {
            return self.ip_neigh_proxy::<A>(ns, add, l);
        }
        let addr = l.parse::<A>("an address")?.into();
        let (mut dev, mut mac, mut state) = (None, None, Nud::Permanent);
        while let Some(w) = l.words.next() {
            match w {
                "dev" => dev = Some(self.dev(ns, l)?),
                "lladdr" => mac = Some(mac_of(l.next("an address")?)?),
                "nud" => state = nud(l.next("a state")?)?,
                _ => return Err(words(format!("`{w}` means nothing to a neighbour"))),
            }
        }
        let dev = dev.ok_or_else(|| words("`dev` and a device are missing"))?;
        if !add {
            let id = self.net.ns.get(ns).and_then(|n| n.neigh_table.get(dev, addr)).ok_or(Errno::ENOENT)?;
            neighbour::destroy(&mut self.net, ns, id);
            return Ok(());
        }
        let mac = mac.ok_or_else(|| words("`lladdr` and an address are missing"))?;
        let id = neighbour::lookup_or_create(&mut self.net, ns, dev, addr).ok_or(Errno::ENOBUFS)?;
        neighbour::update(&mut self.net, ns, id, mac, state, Update { r#override: true, admin: true, weak: false });
        Ok(())
    }
}

fn nud(w: &str) -> Done<Nud> {
    Ok(match w {
        "permanent" => Nud::Permanent,
        "noarp" => Nud::NoArp,
        "reachable" => Nud::Reachable,
        "stale" => Nud::Stale,
        w => return Err(words(format!("`{w}` is not a state"))),
    })
}

fn mac_of(w: &str) -> Done<Mac> {
    let bytes: Option<Vec<u8>> = w.split(':').map(|b| u8::from_str_radix(b, 16).ok()).collect();
    let six = bytes.and_then(|b| <[u8; 6]>::try_from(b).ok());
    six.map(Mac).ok_or_else(|| words(format!("`{w}` is not a hardware address")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::nic::NicConfig;

    fn host() -> (Kernel, NsId) {
        let mut k = Kernel::new(1);
        let (ns, _) = k.add_host("h", &NicConfig::default(), (Ipv4Addr::new(10, 0, 0, 1), 24), None).unwrap();
        (k, ns)
    }

    #[test]
    fn lines_do_what_they_say_and_undo_it() {
        let (mut k, ns) = host();
        for (add, del) in [
            ("route add 10.9.0.0/16 via 10.0.0.2", "route del 10.9.0.0/16"),
            ("r add default via 10.0.0.2 dev eth0 metric 5 table 100", "r del default table 100"),
            ("route add blackhole 10.8.0.0/16", "route del 10.8.0.0/16"),
            ("rule add from 10.1.0.0/16 lookup 100 pref 7", "rule del pref 7"),
            ("rule add ipproto tcp dport 443 sport 1-9 lookup 100", "rule del dport 443"),
            ("rule add uidrange 5-7 pref 9 goto 10", "rule del uidrange 5-7"),
            ("rule add nop pref 9", "rule del nop"),
            ("rule add fwmark 0x10/0xff prohibit", "rule del fwmark 0x10/0xff prohibit"),
            ("addr add 10.5.0.1/24 dev eth0", "addr del 10.5.0.1/24 dev eth0"),
            ("neigh add 10.0.0.9 lladdr 02:00:00:00:00:09 dev eth0", "neigh del 10.0.0.9 dev eth0"),
        ] {
            let said = |r: Result<(), CmdError>, line: &str| r.unwrap_or_else(|e| panic!("{line}: {e}"));
            said(k.ip(ns, add), add);
            said(k.ip(ns, del), del);
            assert!(matches!(k.ip(ns, del), Err(CmdError::Kernel(_))), "{del}: nothing is left of it");
        }
        assert!(k.check().is_ok());
    }

    #[test]
    fn what_means_nothing_is_told_in_words_and_what_fails_by_errno() {
        let (mut k, ns) = host();
        for (line, what) in [
            ("", "an object is missing"),
            ("route", "a command is missing"),
            ("tunnel add x", "`ip tunnel add` is not understood"),
            ("route add 10.0.0.0/33 via 10.0.0.2", "`10.0.0.0/33` is not a prefix"),
            ("link set eth7 up", "there is no device `eth7`"),
        ] {
            assert_eq!(k.ip(ns, line).unwrap_err().to_string(), what, "{line}");
        }
        for (line, errno) in [
            ("route add 10.9.0.0/16 via 192.0.2.1", Errno::ENETUNREACH),
            ("route del 10.9.0.0/16", Errno::ESRCH),
            ("rule del pref 99", Errno::ENOENT),
            ("link set eth0 mtu 60", Errno::EINVAL),
        ] {
            assert_eq!(k.ip(ns, line), Err(CmdError::Kernel(errno)), "{line}");
        }
    }
}
