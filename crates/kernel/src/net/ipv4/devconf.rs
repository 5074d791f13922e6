//! `net.ipv4.conf.{all,default,DEVICE}.*`: what is written for a device and for all makes what counts for it.
use crate::ids::{DevId, NsId};
use crate::net::Net;
use belljar_abi::Errno;

/// Settings of one interface (`net.ipv4.conf.IF.*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InetConf {
    pub forwarding: bool,
    pub rp_filter: u8,
    pub accept_local: bool,
    pub route_localnet: bool,
    pub accept_source_route: bool,
    pub send_redirects: bool,
    pub arp_ignore: u8,
    pub arp_announce: u8,
    pub arp_accept: u8,
    pub arp_notify: bool,
    pub proxy_arp: bool,
    pub arp_filter: bool,
    pub drop_gratuitous_arp: bool,
    pub drop_unicast_in_l2_multicast: bool,
    pub accept_redirects: bool,
    pub secure_redirects: bool,
    pub shared_media: bool,
    /// 1 to 3: speak no other version of IGMP; how far apart reports are that nobody asked for, in milliseconds.
    pub force_igmp_version: u8,
    pub igmpv2_unsolicited_ms: u32,
    pub igmpv3_unsolicited_ms: u32,
}

impl InetConf {
    /// `all` at first: source routes are taken only if both it and the device say so.
    pub const ALL: InetConf = InetConf { accept_source_route: false, ..InetConf::DEFAULT };
}

impl Default for InetConf {
    fn default() -> InetConf {
        InetConf::DEFAULT
    }
}

impl InetConf {
    const DEFAULT: InetConf = {
        InetConf {
            forwarding: false,
            rp_filter: 0,
            accept_local: false,
            route_localnet: false,
            accept_source_route: true,
            accept_redirects: true,
            secure_redirects: true,
            send_redirects: true,
            shared_media: true,
            arp_filter: false,
            drop_gratuitous_arp: false,
            drop_unicast_in_l2_multicast: false,
            arp_ignore: 0,
            arp_announce: 0,
            arp_accept: 0,
            arp_notify: false,
            proxy_arp: false,
            force_igmp_version: 0,
            igmpv2_unsolicited_ms: 10_000,
            igmpv3_unsolicited_ms: 1000,
        }
    };
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
}

struct Key {
    name: &'static str,
    max: u32,
    merge: Merge,
    get: fn(&InetConf) -> u32,
    set: fn(&mut InetConf, u32),
}

macro_rules! keys {
    ($($name:literal $field:ident: $t:ident, $max:expr, $merge:ident;)*) => {
        &[$(Key {
            name: $name,
            max: $max,
            merge: Merge::$merge,
            get: |c| keys!(@get $t c.$field),
            set: |c, v| c.$field = keys!(@set $t v),
        },)*]
    };
    (@get bool $e:expr) => { u32::from($e) };
    (@get $t:ident $e:expr) => { u32::from($e) };
    (@set bool $v:expr) => { $v != 0 };
    (@set $t:ident $v:expr) => { $v as $t };
}

const KEYS: &[Key] = keys! {
    "accept_local" accept_local: bool, 1, Or;
    "accept_redirects" accept_redirects: bool, 1, Or;
    "accept_source_route" accept_source_route: bool, 1, And;
    "arp_accept" arp_accept: u8, 2, Max;
    "arp_announce" arp_announce: u8, 2, Max;
    "arp_filter" arp_filter: bool, 1, Or;
    "arp_ignore" arp_ignore: u8, 8, Max;
    "arp_notify" arp_notify: bool, 1, Or;
    "drop_gratuitous_arp" drop_gratuitous_arp: bool, 1, Or;
    "drop_unicast_in_l2_multicast" drop_unicast_in_l2_multicast: bool, 1, Or;
    "force_igmp_version" force_igmp_version: u8, 3, AllFirst;
    "forwarding" forwarding: bool, 1, Own;
    "igmpv2_unsolicited_report_interval" igmpv2_unsolicited_ms: u32, i32::MAX as u32, Own;
    "igmpv3_unsolicited_report_interval" igmpv3_unsolicited_ms: u32, i32::MAX as u32, Own;
    "proxy_arp" proxy_arp: bool, 1, Or;
    "route_localnet" route_localnet: bool, 1, Or;
    "rp_filter" rp_filter: u8, 2, Max;
    "secure_redirects" secure_redirects: bool, 1, Or;
    "send_redirects" send_redirects: bool, 1, Or;
    "shared_media" shared_media: bool, 1, Or;
};

impl Key {
    fn merged(&self, all: &InetConf, own: &InetConf) -> u32 {
        let (a, o) = ((self.get)(all), (self.get)(own));
        // A host believes redirects if either says so, a router only if both do.
        let merge = if self.name == "accept_redirects" && own.forwarding { Merge::And } else { self.merge };
        match merge {
            Merge::Or => a | o,
            Merge::And => a & o,
            Merge::Max => a.max(o),
            Merge::Own => o,
            Merge::AllFirst if a != 0 => a,
            Merge::AllFirst => o,
        }
    }
}

/// What counts for a device.
pub fn effective(all: &InetConf, own: &InetConf) -> InetConf {
    let mut c = *own;
    KEYS.iter().for_each(|k| (k.set)(&mut c, k.merged(all, own)));
    c
}

fn split(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix("net.ipv4.conf.")?.rsplit_once('.')
}

/// Whether the key is one of these.
pub fn is_mine(key: &str) -> bool {
    split(key).is_some()
}

/// ENOENT for a device or a setting that there is not, EINVAL for a value out of its range.
#[doc(alias = "devinet_conf_proc")]
pub fn store(net: &mut Net, ns: NsId, key: &str, text: &str) -> Result<(), Errno> {
    let (dev, name) = split(key).ok_or(Errno::ENOENT)?;
    let key = KEYS.iter().find(|k| k.name == name).ok_or(Errno::ENOENT)?;
    let value: u32 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
    if value > key.max {
        return Err(Errno::EINVAL);
    }
    let n = net.ns.get_mut(ns).ok_or(Errno::ENOENT)?;
    match dev {
        "all" => (key.set)(&mut n.conf_all, value),
        "default" => (key.set)(&mut n.conf_default, value),
        dev => {
            let id = net.dev_by_name(ns, dev).ok_or(Errno::ENOENT)?;
            let d = net.devs.get_mut(id).ok_or(Errno::ENOENT)?;
            (key.set)(&mut d.conf_own, value);
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
pub fn set_forwarding(net: &mut Net, ns: NsId, value: u32) -> Result<(), Errno> {
    let n = net.ns.get_mut(ns).ok_or(Errno::ENOENT)?;
    let on = value != 0;
    n.sysctl.ip_forward = value;
    (n.conf_all.forwarding, n.conf_default.forwarding) = (on, on);
    // A router is told where to go by nobody.
    n.conf_all.accept_redirects = !on;
    let devs: Vec<DevId> = net.ns_devs(ns).collect();
    for id in devs {
        if let Some(d) = net.devs.get_mut(id) {
            d.conf_own.forwarding = on;
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
    for id in devs {
        if let Some(d) = net.devs.get_mut(id) {
            d.conf = effective(&all, &d.conf_own);
        }
    }
}

/// What they are called.
pub fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|k| k.name)
}

/// The value that was written for a device, for `all` or for `default`.
pub fn get(net: &Net, ns: NsId, key: &str) -> Option<String> {
    let (dev, name) = split(key)?;
    let key = KEYS.iter().find(|k| k.name == name)?;
    let n = net.ns.get(ns)?;
    let conf = match dev {
        "all" => &n.conf_all,
        "default" => &n.conf_default,
        dev => &net.devs.get(net.dev_by_name(ns, dev)?)?.conf_own,
    };
    Some((key.get)(conf).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_and_the_device_become_one() {
        let (mut all, mut own) = (InetConf::ALL, InetConf::default());
        let e = effective(&all, &own);
        assert!(!e.accept_source_route && e.accept_redirects && e.send_redirects);
        (all.rp_filter, own.rp_filter) = (1, 2);
        own.forwarding = true;
        own.accept_redirects = false;
        all.accept_source_route = true;
        let e = effective(&all, &own);
        assert_eq!((e.rp_filter, e.accept_redirects, e.accept_source_route), (2, false, true));
    }
}
