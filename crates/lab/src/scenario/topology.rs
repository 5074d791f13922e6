//! The network of `random`: a tree of subnets, each a cable between two hosts or a segment of three, that speak IPv4, IPv6
//! or both; hosts with several NICs forward. On a segment one host may know a way that is not the shortest: routers send
//! redirects.
use super::odd;
use crate::lab::Lab;
use crate::net::{End, Nic, PREFIX6};
use crate::settings::Settings;
use belljar_kernel::env::MSEC;
use belljar_link::{Conditions, Rng};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

/// A subnet, which is the cable of the same number.
#[derive(Clone, Debug)]
pub(super) struct Subnet {
    pub members: Vec<usize>,
    pub v4: bool,
    pub v6: bool,
}

/// `host` reaches `to` through `via`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub host: usize,
    pub to: IpAddr,
    pub prefix: u8,
    pub via: IpAddr,
}

/// All of it: mischief puts back what it took away.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub subnets: Vec<Subnet>,
    pub ways: Vec<Way>,
    /// Where clients may connect to.
    pub addrs: Vec<(usize, IpAddr)>,
}

/// Which versions of IP there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
    Mixed,
}

impl Family {
    pub fn of(s: &Settings) -> Result<Family, String> {
        match s.text("family") {
            "4" => Ok(Family::V4),
            "6" => Ok(Family::V6),
            "mixed" => Ok(Family::Mixed),
            other => Err(format!("family {other:?} is none of 4, 6 and mixed")),
        }
    }
}

impl Plan {
    /// The network of a subnet.
    fn net(subnet: usize, v6: bool) -> (IpAddr, u8) {
        match v6 {
            false => (Ipv4Addr::new(10, 0, subnet as u8 + 1, 0).into(), 24),
            true => (Ipv6Addr::new(0xfd00, subnet as u16 + 1, 0, 0, 0, 0, 0, 0).into(), PREFIX6),
        }
    }

    /// A member's address there, if the subnet speaks that version and the host belongs to it.
    pub fn addr(&self, subnet: usize, host: usize, v6: bool) -> Option<IpAddr> {
        let s = self.subnets.get(subnet).filter(|s| if v6 { s.v6 } else { s.v4 })?;
        let n = s.members.iter().position(|m| *m == host)? as u8 + 1;
        Some(match v6 {
            false => Ipv4Addr::new(10, 0, subnet as u8 + 1, n).into(),
            true => Ipv6Addr::new(0xfd00, subnet as u16 + 1, 0, 0, 0, 0, 0, n.into()).into(),
        })
    }

    fn end(&self, subnet: usize, host: usize) -> End {
        let mut end = End { host, v4: None, v6: None };
        for a in [false, true].into_iter().filter_map(|v6| self.addr(subnet, host, v6)) {
            match a {
                IpAddr::V4(a) => end.v4 = Some(a),
                IpAddr::V6(a) => end.v6 = Some(a),
            }
        }
        end
    }

    fn nics(&self, host: usize) -> usize {
        self.subnets.iter().filter(|s| s.members.contains(&host)).count()
    }

    /// How many routers every host is away from a subnet, where one version of IP leads there.
    fn distances(&self, hosts: usize, to: usize, v6: bool) -> Vec<Option<u32>> {
        let mut d = vec![None; hosts];
        let speaks = |s: &&Subnet| if v6 { s.v6 } else { s.v4 };
        let mut edge: Vec<usize> = self.subnets.get(to).filter(speaks).map_or_else(Vec::new, |s| s.members.clone());
        let mut far = 0;
        while !edge.is_empty() {
            edge.iter().for_each(|h| d[*h] = d[*h].or(Some(far)));
            let near = |s: &&Subnet| speaks(s) && s.members.iter().any(|m| edge.contains(m));
            let next = self.subnets.iter().filter(near).flat_map(|s| s.members.iter().copied());
            edge = next.filter(|h| d[*h].is_none()).collect();
            far += 1;
        }
        d
    }

    /// The neighbours of a host that are nearer to a subnet, and where; on a segment also one that is not.
    fn way(&self, host: usize, to: usize, v6: bool, d: &[Option<u32>], detour: bool) -> Option<Way> {
        let own = (*d.get(host)?)?.checked_sub(1)?;
        let mut best = None;
        for (n, s) in self.subnets.iter().enumerate().filter(|(_, s)| s.members.contains(&host)) {
            let at = |want: u32| s.members.iter().find(|m| **m != host && d[**m] == Some(want));
            let Some(next) = at(own) else { continue };
            let round = at(own + 1).filter(|_| detour && s.members.first() == Some(&host));
            best = self.addr(n, *round.unwrap_or(next), v6);
            if best.is_some() {
                break;
            }
        }
        let (net, prefix) = Plan::net(to, v6);
        Some(Way { host, to: net, prefix, via: best? })
    }
}

fn subnet(rng: &mut Rng, family: Family, faults: bool, members: Vec<usize>) -> Subnet {
    let (v4, v6) = match family {
        Family::V4 => (true, false),
        Family::V6 => (false, true),
        Family::Mixed if !faults => (true, true),
        Family::Mixed => {
            [(true, true), (true, true), (true, true), (true, false), (false, true)][rng.below(5) as usize]
        }
    };
    Subnet { members, v4, v6 }
}

/// Draws it and builds it.
pub(super) fn build(
    lab: &mut Lab,
    rng: &mut Rng,
    hosts: usize,
    faults: bool,
    family: Family,
    seed: u64,
) -> Result<Rc<Plan>, String> {
    let mut plan = Plan::default();
    for h in 0..hosts {
        lab.host(&format!("h{h}"), seed ^ (h as u64) << 32);
        if family != Family::V4 {
            lab.enable_ipv6(h);
        }
    }
    for child in 1..hosts {
        let parent = rng.below(child as u64) as usize;
        // The third host joins the first two.
        if let (2, true, Some(s)) = (child, rng.chance(0.4), plan.subnets.first_mut()) {
            s.members.push(child);
            continue;
        }
        plan.subnets.push(subnet(rng, family, faults, vec![parent, child]));
    }
    for n in 0..plan.subnets.len() {
        let mut nic = if faults { odd::nic(rng) } else { Nic::default() };
        let link = if faults {
            odd::link(rng, n == 0)
        } else {
            Conditions { delay_ns: rng.below(40) * MSEC, ..Default::default() }
        };
        if let Some(s) = plan.subnets.get_mut(n).filter(|s| s.v6 && nic.mtu < 1280) {
            // IPv6 wants 1280 bytes (RFC 8200 §5).
            s.v6 = !s.v4;
            nic.mtu = if s.v6 { 1280 } else { nic.mtu };
        }
        let members = plan.subnets.get(n).map_or_else(Vec::new, |s| s.members.clone());
        let ends: Vec<End> = members.iter().map(|h| plan.end(n, *h)).collect();
        lab.segment(&ends, 24, nic, link, rng.next_u64())?;
    }
    routes(lab, rng, &mut plan, hosts, faults)?;
    plan.addrs = addresses(&plan, hosts, family);
    Ok(Rc::new(plan))
}

fn routes(lab: &mut Lab, rng: &mut Rng, plan: &mut Plan, hosts: usize, faults: bool) -> Result<(), String> {
    for host in 0..hosts {
        if plan.nics(host) > 1 || rng.chance(0.2) {
            for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
                lab.world.borrow_mut().sysctl(host, key, "1").map_err(|e| format!("{key}: {e}"))?;
            }
        }
    }
    let detour = faults && rng.chance(0.5);
    for (to, v6) in (0..plan.subnets.len()).flat_map(|n| [(n, false), (n, true)]) {
        let d = plan.distances(hosts, to, v6);
        for host in 0..hosts {
            if let Some(w) = plan.way(host, to, v6, &d, detour) {
                lab.route(host, w.to, w.prefix, w.via)?;
                plan.ways.push(w);
            }
        }
    }
    Ok(())
}

fn addresses(plan: &Plan, hosts: usize, family: Family) -> Vec<(usize, IpAddr)> {
    let mut all = Vec::new();
    for (n, s) in plan.subnets.iter().enumerate() {
        for (h, v6) in s.members.iter().flat_map(|h| [(*h, false), (*h, true)]) {
            all.extend(plan.addr(n, h, v6).map(|a| (h, a)));
        }
    }
    for h in 0..hosts {
        if family != Family::V6 {
            all.push((h, Ipv4Addr::LOCALHOST.into()));
        }
        if family != Family::V4 {
            all.push((h, Ipv6Addr::LOCALHOST.into()));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let net = |members: &[usize], v6| Subnet { members: members.to_vec(), v4: true, v6 };
        // Three on a segment, a fourth behind the last of them.
        Plan { subnets: vec![net(&[0, 1, 2], true), net(&[2, 3], false)], ..Plan::default() }
    }

    #[test]
    fn the_way_leads_to_the_router_and_the_detour_through_a_neighbour() {
        let p = plan();
        let d = p.distances(4, 1, false);
        assert_eq!(d, [Some(1), Some(1), Some(0), Some(0)]);
        let via = |host, detour| p.way(host, 1, false, &d, detour).map(|w| w.via.to_string());
        assert_eq!(via(0, false).as_deref(), Some("10.0.1.3"));
        assert_eq!(via(0, true).as_deref(), Some("10.0.1.2"));
        assert_eq!(via(1, true).as_deref(), Some("10.0.1.3"));
        assert_eq!(via(2, false), None);
        // Nobody speaks IPv6 with the fourth.
        assert_eq!(p.distances(4, 1, true), [None; 4]);
        assert_eq!(p.addr(0, 1, true).map(|a| a.to_string()).as_deref(), Some("fd00:1::2"));
    }
}
