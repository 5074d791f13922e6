//! Policy routing: which table is asked for whom (`ip rule`, `ip -6 rule`).
use crate::ids::*;
use crate::net::Net;
use crate::net::core::dev::IfName;
use crate::net::ipv4::fib::{RT_TABLE_DEFAULT, RT_TABLE_LOCAL, RT_TABLE_MAIN, Route, RouteType};
use crate::net::netlink::notify;
use belljar_abi::rtnetlink::{RTM_DELRULE, RTM_NEWRULE};
use belljar_abi::{AF_INET6, Errno};
use belljar_wire::ipv4::{IPPROTO_DCCP, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE};
use belljar_wire::ipv6::transport;
use core::net::{IpAddr, Ipv4Addr};

/// What a rule can ask about.
#[derive(Clone, Copy, Debug)]
pub struct RuleFlow {
    /// `None`: not chosen yet, so that no rule asks about it.
    pub src: Option<IpAddr>,
    pub dst: IpAddr,
    pub iif: DevId,
    pub oif: Option<DevId>,
    pub tos: u8,
    pub mark: u32,
    pub l4: L4,
}

/// What is above the network layer, and whose it is: of forwarded packets it is read only where a rule asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct L4 {
    /// 0: not known, as of what the rest is then.
    pub proto: u8,
    /// Source and destination.
    pub ports: (u16, u16),
    pub uid: u32,
}

impl L4 {
    /// Of a packet that came in, from its transport header on: protocols with ports, pieces apart.
    #[doc(alias = "fib4_rules_early_flow_dissect")]
    #[doc(alias = "fib6_rules_early_flow_dissect")]
    #[cold]
    pub fn dissect(proto: u8, l4: Option<&[u8]>) -> L4 {
        let known = [IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, IPPROTO_SCTP, IPPROTO_DCCP].contains(&proto);
        let ports = match l4.and_then(|b| b.first_chunk()).filter(|_| known) {
            Some(&[a, b, c, d]) => (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
            None => (0, 0),
        };
        L4 { proto, ports, uid: 0 }
    }

    /// Of a packet of IPv6 that came in, behind its extension headers.
    pub fn dissect6(packet: &[u8], next: u8) -> L4 {
        match transport(packet) {
            Some(t) => L4::dissect(t.proto, packet.get(t.at..).filter(|_| t.frag.is_none())),
            None => L4 { proto: next, ..L4::default() },
        }
    }

    /// Of the way back.
    pub fn reversed(self) -> L4 {
        L4 { ports: (self.ports.1, self.ports.0), ..self }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Table(u32),
    Refuse(RouteType),
    /// On to the first rule of this preference, if there is one.
    Goto(u32),
    Nop,
}

/// A device that a rule names: it fits nothing while there is none of that name (`[detached]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleDev {
    pub name: IfName,
    pub dev: Option<DevId>,
}

impl RuleDev {
    fn is(&self, dev: Option<DevId>) -> bool {
        self.dev.is_some() && self.dev == dev
    }
}

/// One rule (`struct fib_rule`); a prefix of length 0 fits everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub pref: u32,
    pub from: (IpAddr, u8),
    pub to: (IpAddr, u8),
    pub iif: Option<RuleDev>,
    pub oif: Option<RuleDev>,
    pub tos: u8,
    pub mark: u32,
    pub mark_mask: u32,
    pub not: bool,
    pub action: Action,
    /// Routes with a prefix of this length, or a shorter one, do not count (`suppress_prefixlength`).
    pub suppress: Option<u8>,
    /// `RTPROT_*`: who made it.
    pub proto: u8,
    /// 0: any.
    pub ip_proto: u8,
    /// From, to.
    pub sport: Option<(u16, u16)>,
    pub dport: Option<(u16, u16)>,
    pub uids: Option<(u32, u32)>,
}

fn within((net, len): (IpAddr, u8), a: IpAddr) -> bool {
    match (net, a) {
        _ if len == 0 => true,
        (IpAddr::V4(n), IpAddr::V4(a)) => {
            (n.to_bits() ^ a.to_bits()).checked_shr(32 - u32::from(len.min(32))) == Some(0)
        }
        (IpAddr::V6(n), IpAddr::V6(a)) => {
            (n.to_bits() ^ a.to_bits()).checked_shr(128 - u32::from(len.min(128))) == Some(0)
        }
        _ => false,
    }
}

impl Rule {
    pub fn new(pref: u32, action: Action) -> Rule {
        let all = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let (mark, mark_mask, proto) = (0, 0, Route::PROTO_BOOT);
        let (iif, oif, tos, not, suppress) = (None, None, 0, false, None);
        let (ip_proto, sport, dport, uids) = (0, None, None, None);
        Rule {
            pref,
            from: all,
            to: all,
            iif,
            oif,
            tos,
            mark,
            mark_mask,
            not,
            action,
            suppress,
            proto,
            ip_proto,
            sport,
            dport,
            uids,
        }
    }

    /// It asks about what is above the network layer.
    #[doc(alias = "fib_rule_requires_fldissect")]
    fn wants_l4(&self) -> bool {
        self.ip_proto != 0 || self.sport.is_some() || self.dport.is_some()
    }

    /// The same rule to whoever adds it again: where a jump leads does not count.
    #[doc(alias = "rule_exists")]
    fn is_like(&self, o: &Rule) -> bool {
        let plain = |r: &Rule| match r.action {
            Action::Goto(_) => Rule { action: Action::Goto(0), ..*r },
            _ => *r,
        };
        plain(self) == plain(o)
    }

    /// What a namespace begins with: IPv6 has no table `default`.
    pub fn defaults(family: i32) -> Vec<Rule> {
        let table = |pref, id| Rule { proto: Route::PROTO_KERNEL, ..Rule::new(pref, Action::Table(id)) };
        let mut all = vec![table(0, RT_TABLE_LOCAL), table(32_766, RT_TABLE_MAIN)];
        if family != AF_INET6 {
            all.push(table(32_767, RT_TABLE_DEFAULT));
        }
        all
    }

    #[doc(alias = "fib_rule_match")]
    pub fn matches(&self, fl: &RuleFlow) -> bool {
        let all = (self.from.1 == 0 || fl.src.is_some_and(|s| within(self.from, s)))
            && within(self.to, fl.dst)
            && self.iif.is_none_or(|d| d.is(Some(fl.iif)))
            && self.oif.is_none_or(|d| d.is(fl.oif))
            && (self.tos == 0 || self.tos == fl.tos & 0x1c)
            && (fl.mark ^ self.mark) & self.mark_mask == 0
            && self.fits_l4(&fl.l4);
        all != self.not
    }

    fn fits_l4(&self, l4: &L4) -> bool {
        fn within<T: PartialOrd>(range: Option<(T, T)>, n: T) -> bool {
            range.is_none_or(|(from, to)| (from..=to).contains(&n))
        }
        (self.ip_proto == 0 || self.ip_proto == l4.proto)
            && within(self.sport, l4.ports.0)
            && within(self.dport, l4.ports.1)
            && within(self.uids, l4.uid)
    }

    /// A route of this prefix length counts.
    #[doc(alias = "fib4_rule_suppress")]
    #[doc(alias = "fib6_rule_suppress")]
    pub fn allows(&self, prefix: u8) -> bool {
        self.suppress.is_none_or(|s| prefix > s)
    }
}

/// Asks those that fit, one after another, until one knows: where they jump, the others in between are passed over.
#[doc(alias = "fib_rules_lookup")]
pub fn lookup<T>(rules: &[Rule], fl: &RuleFlow, mut ask: impl FnMut(&Rule) -> Option<T>) -> Option<T> {
    let mut at = 0;
    while let Some(rule) = rules.get(at) {
        at += 1;
        if !rule.matches(fl) {
            continue;
        }
        match rule.action {
            // Targets lie ahead, so this ends.
            Action::Goto(pref) => at = target(rules, pref).unwrap_or(at).max(at),
            Action::Nop => {}
            _ => match ask(rule) {
                None => {}
                found => return found,
            },
        }
    }
    None
}

fn target(rules: &[Rule], pref: u32) -> Option<usize> {
    rules.iter().position(|r| r.pref == pref)
}

/// A rule asks about what is above the network layer: then packets are looked into.
pub fn wants_l4(rules: &Option<Vec<Rule>>) -> bool {
    rules.as_ref().is_some_and(|all| all.iter().any(Rule::wants_l4))
}

/// Of either family's.
pub fn any_wants_l4(net: &Net, ns: NsId) -> bool {
    net.ns.get(ns).is_some_and(|n| wants_l4(&n.fib.rules) || wants_l4(&n.v6.fib.rules))
}

/// A device of this name is there, or is not any more: rules that name it count, or do not.
#[doc(alias = "fib_rules_event")]
pub fn name_devs(rules: &mut Option<Vec<Rule>>, name: IfName, dev: Option<DevId>) {
    let all = rules.iter_mut().flatten();
    all.flat_map(|r| [&mut r.iif, &mut r.oif]).flatten().filter(|d| d.name == name).for_each(|d| d.dev = dev);
}

impl Net {
    pub(crate) fn name_rule_devs(&mut self, ns: NsId, name: IfName, dev: Option<DevId>) {
        let Some(n) = self.ns.get_mut(ns) else { return };
        name_devs(&mut n.fib.rules, name, dev);
        name_devs(&mut n.v6.fib.rules, name, dev);
    }

    /// The rules of a family, by preference.
    pub fn rules(&self, ns: NsId, family: i32) -> Vec<Rule> {
        let own =
            self.ns.get(ns).and_then(|n| if family == AF_INET6 { n.v6.fib.rules.clone() } else { n.fib.rules.clone() });
        own.unwrap_or_else(|| Rule::defaults(family))
    }

    fn rules_mut(&mut self, ns: NsId, family: i32) -> Result<&mut Vec<Rule>, Errno> {
        let n = self.ns.get_mut(ns).ok_or(Errno::ENODEV)?;
        let own = if family == AF_INET6 { &mut n.v6.fib.rules } else { &mut n.fib.rules };
        Ok(own.get_or_insert_with(|| Rule::defaults(family)))
    }

    /// Before the first that is not the local table's.
    #[doc(alias = "fib_default_rule_pref")]
    pub fn next_pref(&self, ns: NsId, family: i32) -> u32 {
        self.rules(ns, family).get(1).map_or(0, |r| r.pref).saturating_sub(1)
    }

    /// A jump that leads nowhere.
    pub fn rule_is_unresolved(&self, ns: NsId, family: i32, rule: &Rule) -> bool {
        matches!(rule.action, Action::Goto(pref) if target(&self.rules(ns, family), pref).is_none())
    }

    /// `ip rule add`; EEXIST for the same again. Behind those with the same preference.
    #[doc(alias = "fib_nl_newrule")]
    pub fn add_rule(&mut self, ns: NsId, family: i32, rule: Rule) -> Result<(), Errno> {
        let rules = self.rules_mut(ns, family)?;
        if rules.iter().any(|r| r.is_like(&rule)) {
            return Err(Errno::EEXIST);
        }
        let at = rules.partition_point(|r| r.pref <= rule.pref);
        rules.insert(at, rule);
        self.rt_cache_flush(ns);
        notify::rule(self, RTM_NEWRULE, ns, family, &rule);
        Ok(())
    }

    /// `ip rule del`: the first that fits; ENOENT when there is none.
    #[doc(alias = "fib_nl_delrule")]
    pub fn del_rule(&mut self, ns: NsId, family: i32, which: impl Fn(&Rule) -> bool) -> Result<(), Errno> {
        let rules = self.rules_mut(ns, family)?;
        let at = rules.iter().position(which).ok_or(Errno::ENOENT)?;
        let gone = rules.remove(at);
        self.rt_cache_flush(ns);
        notify::rule(self, RTM_DELRULE, ns, family, &gone);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use belljar_wire::ipv6::{IPV6_HLEN, Ipv6Header};

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    #[test]
    fn every_part_of_a_rule_has_to_fit_unless_it_says_not() {
        let lo = DevId::from_bits(1 << 32).unwrap();
        let (src, dst) = (Some(ip("10.1.2.3")), ip("10.9.0.1"));
        let l4 = L4 { proto: 6, ports: (1000, 443), uid: 7 };
        let fl = RuleFlow { src, dst, iif: lo, oif: None, tos: 0x10, mark: 0x1234, l4 };
        let rule = Rule::new(1, Action::Table(100));
        let fits = |r: Rule| r.matches(&fl);
        assert!(fits(rule) && !fits(Rule { not: true, ..rule }));
        for (yes, no) in [
            (Rule { from: (ip("10.1.0.0"), 16), ..rule }, Rule { from: (ip("10.2.0.0"), 16), ..rule }),
            (Rule { to: (ip("10.9.0.1"), 32), ..rule }, Rule { to: (ip("10.9.0.2"), 32), ..rule }),
            (Rule { tos: 0x10, ..rule }, Rule { tos: 8, ..rule }),
            (Rule { mark: 0x34, mark_mask: 0xff, ..rule }, Rule { mark: 0x34, mark_mask: 0xffff, ..rule }),
            (Rule { ip_proto: 6, ..rule }, Rule { ip_proto: 17, ..rule }),
            (Rule { sport: Some((1000, 1000)), ..rule }, Rule { sport: Some((1001, 2000)), ..rule }),
            (Rule { dport: Some((400, 500)), ..rule }, Rule { dport: Some((1, 442)), ..rule }),
            (Rule { uids: Some((0, 7)), ..rule }, Rule { uids: Some((8, u32::MAX)), ..rule }),
        ] {
            assert!(fits(yes) && !fits(no), "{yes:?}");
            assert!(!fits(Rule { not: true, ..yes }) && fits(Rule { not: true, ..no }));
        }
    }

    #[test]
    fn jumps_pass_over_what_lies_between() {
        let lo = DevId::from_bits(1 << 32).unwrap();
        let fl = RuleFlow { src: None, dst: ip("10.0.0.1"), iif: lo, oif: None, tos: 0, mark: 0, l4: L4::default() };
        let rule = |pref, action| Rule::new(pref, action);
        let mut all = vec![
            rule(1, Action::Nop),
            rule(2, Action::Goto(5)),
            rule(3, Action::Table(3)),
            rule(5, Action::Table(5)),
            rule(5, Action::Table(6)),
        ];
        let asked = |all: &[Rule]| {
            let mut tables = Vec::new();
            lookup(all, &fl, |r| {
                tables.extend(if let Action::Table(id) = r.action { Some(id) } else { None });
                None::<()>
            });
            tables
        };
        assert_eq!(asked(&all), [5, 6]);
        all[1].action = Action::Goto(9);
        assert_eq!(asked(&all), [3, 5, 6], "no such target");
        assert_eq!(lookup(&all, &fl, |r| Some(r.pref)), Some(3));
    }

    #[test]
    fn ports_are_those_of_protocols_that_have_them() {
        let l4 = |proto, b: &[u8]| L4::dissect(proto, Some(b)).ports;
        assert_eq!((l4(6, &[0, 7, 1, 0]), l4(132, &[0, 7, 1, 0]), l4(1, &[8, 0, 1, 1])), ((7, 256), (7, 256), (0, 0)));
        assert_eq!((l4(17, &[0, 7]), L4::dissect(17, None).ports), ((0, 0), (0, 0)));
        assert_eq!(L4::dissect(6, Some(&[0, 7, 1, 0])).reversed().ports, (256, 7));
        let six = |headers: &[u8], next: u8| {
            let ip = Ipv6Header { next, payload_len: headers.len() as u16 + 4, ..Ipv6Header::default() };
            let mut b = vec![0; IPV6_HLEN];
            ip.emit(&mut b);
            b.extend(headers);
            b.extend([0, 7, 1, 0]);
            L4::dissect6(&b, next)
        };
        let udp = L4 { proto: 17, ports: (7, 256), uid: 0 };
        assert_eq!((six(&[], 17), six(&[17, 0, 1, 4, 0, 0, 0, 0], 0)), (udp, udp), "behind hop-by-hop options too");
        assert_eq!(six(&[17, 0, 0, 1, 0, 0, 0, 9], 44), L4 { ports: (0, 0), ..udp }, "a piece");
        assert_eq!(six(&[17, 9], 0), L4 { ports: (0, 0), ..udp }, "cut short");
    }

    #[test]
    fn prefixes_of_either_family() {
        for (net, len, a, fits) in [
            ("fd00::", 8, "fd12::1", true),
            ("fd00::", 16, "fd12::1", false),
            ("fd12::1", 128, "fd12::1", true),
            ("fd12::1", 128, "10.0.0.1", false),
            ("10.0.0.0", 8, "10.255.0.1", true),
            ("10.0.0.0", 32, "10.0.0.1", false),
            ("10.0.0.0", 0, "fd00::1", true),
        ] {
            assert_eq!(within((ip(net), len), ip(a)), fits, "{net}/{len} {a}");
        }
    }
}
