//! The devices, addresses, routes, settings and rules of one host, made in its kernel.
use crate::model::*;
use crate::read::link_of;
use belljar_abi::Errno;
use belljar_kernel::Kernel;
use belljar_kernel::drivers::nic::NicConfig;
use belljar_kernel::ids::{DevId, NsId};
use belljar_kernel::net::ipv6::fib::Route6;
use belljar_kernel::net::netfilter::words::{NoNames, program_of};
use belljar_kernel::net::sysctl::{is_known, nearest};
use belljar_wire::Mac;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A device and what it is plugged into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plug {
    pub link: usize,
    pub end: usize,
    pub dev: DevId,
}

/// Whether there is such a setting; else the end of a sentence that says so.
pub fn is_setting(key: &str) -> Result<(), String> {
    if is_known(key) {
        return Ok(());
    }
    Err(nearest(key).map_or(String::new(), |near| format!("; did you mean {near}?")))
}

/// The link that a word means: by its name, by one of its ends, by a host that has no other.
pub fn find_link(t: &Topology, word: &str) -> Result<usize, String> {
    link_of(t, word)
}

/// Makes a host in an empty namespace (lo only) with IPv6 still off. `Err` is one sentence.
pub fn host(t: &Topology, n: usize, k: &mut Kernel, ns: NsId) -> Result<Vec<Plug>, String> {
    let h = t.hosts.get(n).ok_or("no such host")?;
    let say = |what: &str, e: Errno| format!("{}: {what}: {e}", h.name);
    if let Some(bytes) = h.mem {
        k.set_memory(bytes);
    }
    if let Some(lo) = k.net.ns.get(ns).map(|n| n.lo) {
        k.set_link(lo, true).map_err(|e| say("lo", e))?;
    }
    // Who is on the links is known: nobody has our addresses, and nobody advertises.
    for key in ["dad_transmits", "accept_ra"] {
        let key = format!("net.ipv6.conf.default.{key}");
        k.sysctl_set(ns, &key, "0").map_err(|e| say(&key, e))?;
    }
    k.net.enable_ipv6(ns);
    let of_device = |key: &str| {
        let own = key.split(".conf.").nth(1).or_else(|| key.split(".neigh.").nth(1));
        own.is_some_and(|rest| !rest.starts_with("all.") && !rest.starts_with("default."))
    };
    let settings: Vec<&(String, String)> = t.sysctls.iter().chain(&h.sysctls).collect();
    let set = |k: &mut Kernel, key: &str, value: &str| {
        k.sysctl_set(ns, key, value).map_err(|e| say(&format!("{key} = {value}"), e))
    };
    for (key, value) in settings.iter().filter(|s| !of_device(&s.0)) {
        set(k, key, value)?;
    }
    if h.forward {
        set(k, "net.ipv4.ip_forward", "1")?;
        set(k, "net.ipv6.conf.all.forwarding", "1")?;
    }
    let plugs = devices(t, n, k, ns).map_err(|(what, e)| say(&what, e))?;
    for (key, value) in settings.iter().filter(|s| of_device(&s.0)) {
        set(k, key, value)?;
    }
    addresses(h, k, ns).map_err(|(what, e)| say(&what, e))?;
    for r in &h.routes {
        route(k, ns, r).map_err(|e| say(&format!("the route of line {}", r.line), e))?;
    }
    for (dev, rules) in &h.xdp {
        let words: Vec<&str> = ["set", "dev", dev].into_iter().chain(rules.split_whitespace()).collect();
        let done = k.xdp_words(ns, &words);
        if done.code != 0 {
            return Err(format!("{}: xdp of {dev}: {}", h.name, done.stderr.trim_end()));
        }
    }
    for dev in &h.masquerade {
        for program in ["iptables", "ip6tables"] {
            let args = ["-t", "nat", "-A", "POSTROUTING", "-o", dev, "-j", "MASQUERADE"];
            let done = program_of(k, ns, program, &args, "", &NoNames);
            if let Some(o) = done.filter(|o| o.code != 0) {
                return Err(format!("{}: masquerade: {}", h.name, o.stderr.trim_end()));
            }
        }
    }
    Ok(plugs)
}

type Step<T> = Result<T, (String, Errno)>;

fn devices(t: &Topology, n: usize, k: &mut Kernel, ns: NsId) -> Step<Vec<Plug>> {
    let mut plugs = Vec::new();
    for (link, end, name) in t.plugs(n) {
        let mtu = t.links.get(link).map_or(1500, |l| l.mtu);
        // Locally administered; link and end can be read from it.
        let mac = Mac([0x52, 0x55, 0, (link >> 8) as u8, link as u8, end as u8 + 1]);
        let speeds = t.hosts.get(n).map_or(&[][..], |h| &h.speeds);
        let speed = speeds.iter().find(|(dev, _)| dev == name).map_or(0, |(_, speed)| *speed);
        let config = NicConfig { name: name.to_owned(), mac, mtu, speed, ..NicConfig::default() };
        let dev = k.add_nic(ns, &config).map_err(|e| (name.to_owned(), e))?;
        plugs.push(Plug { link, end, dev });
    }
    for b in t.hosts.get(n).into_iter().flat_map(|h| &h.bridges) {
        let br = k.net.add_bridge(ns, &b.name).map_err(|e| (b.name.clone(), e))?;
        for port in &b.ports {
            let dev = k.net.dev_by_name(ns, port).ok_or((port.clone(), Errno::ENODEV))?;
            k.net.set_master(dev, Some(br)).map_err(|e| (port.clone(), e))?;
        }
        k.set_link(br, true).map_err(|e| (b.name.clone(), e))?;
    }
    for p in &plugs {
        k.set_link(p.dev, true).map_err(|e| ("link up".to_owned(), e))?;
    }
    Ok(plugs)
}

fn addresses(h: &Host, k: &mut Kernel, ns: NsId) -> Step<()> {
    for (name, (addr, prefix)) in &h.addresses {
        let say = |e: Errno| (format!("{addr}/{prefix} on {name}"), e);
        let dev = k.net.dev_by_name(ns, name).ok_or_else(|| say(Errno::ENODEV))?;
        match addr {
            IpAddr::V4(a) => k.add_address(dev, *a, *prefix).map_err(say)?,
            IpAddr::V6(a) => k.net.add_address6(dev, *a, *prefix, true).map_err(say)?,
        }
    }
    Ok(())
}

/// Adds a route; `default` of the version of IP that its neighbour speaks.
pub fn route(k: &mut Kernel, ns: NsId, r: &Route) -> Result<(), Errno> {
    let dev = match &r.dev {
        Some(name) => Some(k.net.dev_by_name(ns, name).ok_or(Errno::ENODEV)?),
        None => None,
    };
    let six = r.via.map(|v| v.is_ipv6()).or(r.to.map(|t| t.0.is_ipv6())).unwrap_or(false);
    match (r.to, r.via) {
        (_, Some(IpAddr::V6(via))) => {
            let (to, prefix) = match r.to {
                Some((IpAddr::V6(to), prefix)) => (to, prefix),
                _ => (Ipv6Addr::UNSPECIFIED, 0),
            };
            k.net.add_route6(ns, to, prefix, Route6::unicast(Some(via), dev))
        }
        (Some((IpAddr::V6(to), prefix)), None) if six => k.net.add_route6(ns, to, prefix, Route6::unicast(None, dev)),
        (to, via) => {
            let (to, prefix) = match to {
                Some((IpAddr::V4(to), prefix)) => (to, prefix),
                _ => (Ipv4Addr::UNSPECIFIED, 0),
            };
            let via = via.and_then(|v| if let IpAddr::V4(v) = v { Some(v) } else { None });
            k.add_route(ns, to, prefix, via, dev)
        }
    }
}
