//! `net.ipv4.conf.{all,default,DEVICE}.*`: what is written for a device and for all makes what counts for it.
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::core::features;
use crate::net::sysctl::number;
use belljar_abi::Errno;

/// What counts for an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InetConf {
    pub forwarding: bool,
    pub rp_filter: i32,
    pub accept_local: bool,
    pub route_localnet: bool,
    pub accept_source_route: bool,
    pub send_redirects: bool,
    pub arp_ignore: i32,
    pub arp_announce: i32,
    pub arp_accept: i32,
    pub arp_notify: bool,
    pub proxy_arp: bool,
    pub proxy_arp_pvlan: bool,
    pub medium_id: i32,
    pub arp_filter: bool,
    pub arp_evict_nocarrier: bool,
    pub drop_gratuitous_arp: bool,
    pub drop_unicast_in_l2_multicast: bool,
    pub accept_redirects: bool,
    pub secure_redirects: bool,
    pub shared_media: bool,
    pub bc_forwarding: bool,
    pub log_martians: bool,
    pub promote_secondaries: bool,
    pub src_valid_mark: bool,
    pub ignore_routes_with_linkdown: bool,
    /// 1 to 3: speak no other version of IGMP; how far apart reports are that nobody asked for, in milliseconds.
    pub force_igmp_version: i32,
    pub igmpv2_unsolicited_ms: u32,
    pub igmpv3_unsolicited_ms: u32,
}

/// `net.ipv4.conf.IF.*` as written: any number is taken, and shown again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written([i32; KEYS.len()]);

impl Written {
    pub const DEFAULT: Written = {
        let (mut values, mut i) = ([0; KEYS.len()], 0);
        while i < KEYS.len() {
            values[i] = KEYS[i].first;
            i += 1;
        }
        Written(values)
    };

    /// `all` at first: source routes are taken only if both it and the device say so.
    pub fn all() -> Written {
        let mut w = Written::DEFAULT;
        w.set("accept_source_route", 0);
        w
    }

    fn at(key: &str) -> Option<usize> {
        KEYS.iter().position(|k| k.name == key)
    }

    fn set(&mut self, key: &str, value: i32) {
        if let Some(v) = Written::at(key).and_then(|i| self.0.get_mut(i)) {
            *v = value;
        }
    }
}

/// How the value of `all` and the device's own become one.
#[derive(Clone, Copy)]
enum Merge {
    Or,
    And,
    Max,
    /// `all` means nothing for it.
    Own,
    /// `all`, unless that is 0.
    AllFirst,
    /// Told to nobody: Linux has the setting, and nothing that asks for it.
    Idle,
}

struct Key {
    name: &'static str,
    first: i32,
    merge: Merge,
    set: fn(&mut InetConf, i32),
}

macro_rules! keys {
    ($($name:literal $($field:ident: $t:ident)?, $first:expr, $merge:ident;)*) => {
        &[$(Key {
            name: $name,
            first: $first,
            merge: Merge::$merge,
            set: |_c, _v| { $(_c.$field = keys!(@set $t _v);)? },
        },)*]
    };
    (@set bool $v:expr) => { $v != 0 };
    (@set $t:ident $v:expr) => { $v as $t };
}

const KEYS: &[Key] = keys! {
    "accept_local" accept_local: bool, 0, Or;
    "accept_redirects" accept_redirects: bool, 1, Or;
    "accept_source_route" accept_source_route: bool, 1, And;
    "arp_accept" arp_accept: i32, 0, Max;
    "arp_announce" arp_announce: i32, 0, Max;
    "arp_evict_nocarrier" arp_evict_nocarrier: bool, 1, And;
    "arp_filter" arp_filter: bool, 0, Or;
    "arp_ignore" arp_ignore: i32, 0, Max;
    "arp_notify" arp_notify: bool, 0, Or;
    "bc_forwarding" bc_forwarding: bool, 0, And;
    // Documented as not implemented.
    "bootp_relay", 0, Idle;
    // Of IPsec, which there is none of here.
    "disable_policy", 0, Idle;
    "disable_xfrm", 0, Idle;
    "drop_gratuitous_arp" drop_gratuitous_arp: bool, 0, Or;
    "drop_unicast_in_l2_multicast" drop_unicast_in_l2_multicast: bool, 0, Or;
    "force_igmp_version" force_igmp_version: i32, 0, AllFirst;
    "forwarding" forwarding: bool, 0, Own;
    "igmpv2_unsolicited_report_interval" igmpv2_unsolicited_ms: u32, 10_000, Own;
    "igmpv3_unsolicited_report_interval" igmpv3_unsolicited_ms: u32, 1000, Own;
    "ignore_routes_with_linkdown" ignore_routes_with_linkdown: bool, 0, Own;
    "log_martians" log_martians: bool, 0, Or;
    // Told by multicast routing, which there is none of here.
    "mc_forwarding", 0, Idle;
    "medium_id" medium_id: i32, 0, Own;
    "promote_secondaries" promote_secondaries: bool, 0, Or;
    "proxy_arp" proxy_arp: bool, 0, Or;
    "proxy_arp_pvlan" proxy_arp_pvlan: bool, 0, Or;
    "route_localnet" route_localnet: bool, 0, Or;
    "rp_filter" rp_filter: i32, 0, Max;
    "secure_redirects" secure_redirects: bool, 1, Or;
    "send_redirects" send_redirects: bool, 1, Or;
    "shared_media" shared_media: bool, 1, Or;
    "src_valid_mark" src_valid_mark: bool, 0, Or;
    // For the administrator's own use.
    "tag", 0, Idle;
};

/// Only told.
const MC_FORWARDING: &str = "mc_forwarding";

impl Key {
    fn merged(&self, all: i32, own: i32, forwarding: bool) -> i32 {
        // A host believes redirects if either says so, a router only if both do.
        let merge = if self.name == "accept_redirects" && forwarding { Merge::And } else { self.merge };
        match merge {
            Merge::Or => (all != 0 || own != 0).into(),
            Merge::And => (all != 0 && own != 0).into(),
            Merge::Max => all.max(own),
            Merge::AllFirst if all != 0 => all,
            Merge::Own | Merge::AllFirst | Merge::Idle => own,
        }
    }
}

/// What counts for a device.
pub fn effective(all: &Written, own: &Written) -> InetConf {
    let mut c = InetConf::default();
    let forwarding = Written::at("forwarding").and_then(|i| own.0.get(i)).is_some_and(|v| *v != 0);
    for ((k, all), own) in KEYS.iter().zip(all.0).zip(own.0) {
        (k.set)(&mut c, k.merged(all, own, forwarding));
    }
    c
}

fn split(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix("net.ipv4.conf.")?.rsplit_once('.')
}

/// Whether the key is one of these.
pub fn is_mine(key: &str) -> bool {
    split(key).is_some()
}

/// Whether a setting takes a value.
pub(in crate::net) fn check(name: &str, text: &str) -> Result<(), Errno> {
    read(name, text).map(|_| ())
}

fn read(name: &str, text: &str) -> Result<i32, Errno> {
    Written::at(name).ok_or(Errno::ENOENT)?;
    if name == MC_FORWARDING {
        return Err(Errno::EACCES);
    }
    number(text).ok_or(Errno::EINVAL)
}

/// ENOENT for a device or a setting that there is not, EINVAL for a value out of its range.
#[doc(alias = "devinet_conf_proc")]
pub fn store(net: &mut Net, ns: NsId, key: &str, text: &str) -> Result<(), Errno> {
    let (dev, name) = split(key).ok_or(Errno::ENOENT)?;
    let value = read(name, text)?;
    let n = net.ns.get_mut(ns).ok_or(Errno::ENOENT)?;
    match dev {
        "all" => n.conf_all.set(name, value),
        "default" => n.conf_default.set(name, value),
        dev => {
            let id = net.dev_by_name(ns, dev).ok_or(Errno::ENOENT)?;
            let d = net.devs.get_mut(id).ok_or(Errno::ENOENT)?;
            d.conf_own.set(name, value);
            if name == "forwarding" && value != 0 {
                features::disable_lro(net, id);
            }
        }
    }
    if (dev, name) == ("all", "forwarding") {
        return set_forwarding(net, ns, value);
    }
    renew(net, ns);
    Ok(())
}

/// ip_forward, which is `all.forwarding`: every device follows, and those to come.
#[doc(alias = "inet_forward_change")]
pub fn set_forwarding(net: &mut Net, ns: NsId, value: i32) -> Result<(), Errno> {
    let n = net.ns.get_mut(ns).ok_or(Errno::ENOENT)?;
    n.sysctl.ip_forward = value;
    n.conf_all.set("forwarding", value);
    n.conf_default.set("forwarding", value);
    // A router is told where to go by nobody.
    n.conf_all.set("accept_redirects", (value == 0).into());
    let devs: Vec<DevId> = net.ns_devs(ns).collect();
    for id in devs {
        if let Some(d) = net.devs.get_mut(id) {
            d.conf_own.set("forwarding", value);
        }
        if value != 0 {
            features::disable_lro(net, id);
        }
    }
    renew(net, ns);
    Ok(())
}

/// What counts is made anew for every device; routes in sockets are looked up again.
fn renew(net: &mut Net, ns: NsId) {
    let Some(n) = net.ns.get_mut(ns) else { return };
    n.rt_genid = n.rt_genid.wrapping_add(1);
    let (all, devs) = (n.conf_all, n.devs.clone());
    let mut ignores = false;
    for id in devs {
        if let Some(d) = net.devs.get_mut(id) {
            d.conf = effective(&all, &d.conf_own);
            ignores |= d.conf.ignore_routes_with_linkdown;
        }
    }
    if let Some(n) = net.ns.get_mut(ns) {
        n.ignores_linkdown = ignores;
    }
}

/// What they are called.
pub fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|k| k.name)
}

/// The value that was written for a device, for `all` or for `default`.
pub fn get(net: &Net, ns: NsId, key: &str) -> Option<String> {
    let (dev, name) = split(key)?;
    let at = Written::at(name)?;
    let n = net.ns.get(ns)?;
    let conf = match dev {
        "all" => &n.conf_all,
        "default" => &n.conf_default,
        dev => &net.devs.get(net.dev_by_name(ns, dev)?)?.conf_own,
    };
    Some(conf.0.get(at)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_and_the_device_become_one() {
        let (mut all, mut own) = (Written::all(), Written::DEFAULT);
        let e = effective(&all, &own);
        assert!(!e.accept_source_route && e.accept_redirects && e.send_redirects);
        all.set("rp_filter", 1);
        own.set("rp_filter", 2);
        own.set("forwarding", 1);
        own.set("accept_redirects", 0);
        all.set("accept_source_route", 1);
        let e = effective(&all, &own);
        assert_eq!((e.rp_filter, e.accept_redirects, e.accept_source_route), (2, false, true));
    }
}
