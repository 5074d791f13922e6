//! `net.ipv4.neigh` and `net.ipv6.neigh`: the settings of neighbours, of each device and of those that have none of their own.
//!
//! A device follows `default` in what was not written for itself (`neigh_copy_dflt_parms`).
use crate::env::{MSEC, Nanos};
use crate::ids::*;
use crate::net::Net;
use crate::net::sysctl::Sysctl;
use belljar_abi::Errno;

/// What a packet of a full frame is charged (`SKB_TRUESIZE(ETH_FRAME_LEN)`), by which `unres_qlen` counts.
const FRAME_TRUESIZE: u32 = 2090;

const BASE: usize = 0;
const RETRANS: usize = 4;
const QLEN: usize = 6;
const FIELDS: [&str; 9] = [
    "base_reachable_time_ms",
    "delay_first_probe_time",
    "gc_stale_time",
    "mcast_solicit",
    "retrans_time_ms",
    "ucast_solicit",
    "unres_qlen_bytes",
    "proxy_delay",
    // Of ARP alone.
    "locktime",
];

/// What counts for one device and family.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parms {
    pub base_reachable_time_ms: u32,
    pub delay_first_probe_time: u32,
    pub gc_stale_time: u32,
    pub mcast_solicit: u32,
    pub retrans_time_ms: u32,
    pub ucast_solicit: u32,
    pub unres_qlen_bytes: u32,
    /// Hundredths of a second, as `locktime`.
    pub proxy_delay: u32,
    pub locktime: u32,
}

impl Parms {
    /// Within this time after a change another one is not believed.
    pub fn locktime(&self) -> Nanos {
        u64::from(self.locktime) * 10 * MSEC
    }

    /// The longest that a question which is answered for somebody else waits.
    pub fn proxy_delay_ms(&self) -> u32 {
        self.proxy_delay.saturating_mul(10)
    }
}

/// What was written for a device: of IPv4, of IPv6.
#[derive(Clone, Debug, Default)]
pub struct Own([[Option<u32>; FIELDS.len()]; 2]);

fn default(s: &Sysctl, six: bool) -> [u32; FIELDS.len()] {
    if six {
        return [
            s.neigh6_base_reachable_time_ms,
            s.neigh6_delay_first_probe_time,
            s.neigh6_gc_stale_time,
            s.neigh6_mcast_solicit,
            s.neigh6_retrans_time_ms,
            s.neigh6_ucast_solicit,
            s.neigh6_unres_qlen_bytes,
            s.neigh6_proxy_delay,
            0,
        ];
    }
    [
        s.neigh_base_reachable_time_ms,
        s.neigh_delay_first_probe_time,
        s.neigh_gc_stale_time,
        s.neigh_mcast_solicit,
        s.neigh_retrans_time_ms,
        s.neigh_ucast_solicit,
        s.neigh_unres_qlen_bytes,
        s.neigh_proxy_delay,
        s.neigh_locktime,
    ]
}

fn values(net: &Net, ns: NsId, dev: Option<DevId>, six: bool) -> Option<[u32; FIELDS.len()]> {
    let mut v = default(&net.ns.get(ns)?.sysctl, six);
    if let Some(d) = dev.and_then(|d| net.devs.get(d)) {
        let own = &d.neigh.own.0[usize::from(six)];
        v.iter_mut().zip(own).for_each(|(v, own)| *v = own.unwrap_or(*v));
    }
    Some(v)
}

/// What counts for a device.
pub fn parms(net: &Net, ns: NsId, dev: DevId, six: bool) -> Parms {
    let Some([base, delay, stale, mcast, retrans, ucast, qlen, proxy, lock]) = values(net, ns, Some(dev), six) else {
        return Parms::default();
    };
    Parms {
        base_reachable_time_ms: base,
        delay_first_probe_time: delay,
        gc_stale_time: stale,
        mcast_solicit: mcast,
        retrans_time_ms: retrans,
        ucast_solicit: ucast,
        unres_qlen_bytes: qlen,
        proxy_delay: proxy,
        locktime: lock,
    }
}

/// The same numbers in other units: name, which one, and what one of these is in its own.
fn others(hz: u32, six: bool) -> [(&'static str, usize, u32); 3] {
    // Ticks of IPv4 are hundredths here, of IPv6 the kernel's own.
    let tick = if six { 1000 / hz.clamp(1, 1000) } else { 10 };
    [("base_reachable_time", BASE, 1000), ("retrans_time", RETRANS, tick), ("unres_qlen", QLEN, FRAME_TRUESIZE)]
}

/// Names in a device's directory, and in `default`'s those that are not settings of their own.
pub fn names(dir: &str, _: &str) -> impl Iterator<Item = &'static str> {
    let six = dir.contains("ipv6");
    FIELDS.into_iter().filter(move |n| !(six && *n == "locktime")).chain(others(250, six).map(|o| o.0))
}

struct Place {
    six: bool,
    /// `None`: `default`.
    dev: Option<DevId>,
    field: usize,
    unit: u32,
}

fn place(net: &Net, ns: NsId, key: &str) -> Option<Place> {
    let (six, rest) = match key.strip_prefix("net.ipv4.neigh.") {
        Some(rest) => (false, rest),
        None => (true, key.strip_prefix("net.ipv6.neigh.")?),
    };
    let (dev, name) = rest.rsplit_once('.')?;
    let dev = if dev == "default" { None } else { Some(net.dev_by_name(ns, dev)?) };
    let own = FIELDS.iter().position(|f| *f == name).filter(|_| !(six && name == "locktime")).map(|f| (f, 1));
    let other = || others(net.env.hz, six).into_iter().find(|o| o.0 == name).map(|o| (o.1, o.2));
    let (field, unit) = own.or_else(other)?;
    Some(Place { six, dev, field, unit })
}

pub fn get(net: &Net, ns: NsId, key: &str) -> Option<String> {
    let p = place(net, ns, key)?;
    let v = values(net, ns, p.dev, p.six)?;
    Some((v.get(p.field)? / p.unit).to_string())
}

/// ENOENT for a device or a setting that there is not, EINVAL for a value out of its range.
pub fn store(net: &mut Net, ns: NsId, key: &str, text: &str) -> Result<(), Errno> {
    let p = place(net, ns, key).ok_or(Errno::ENOENT)?;
    let value: i32 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
    let value = u32::try_from(value).map_err(|_| Errno::EINVAL)?;
    let value = value.checked_mul(p.unit).filter(|v| *v <= i32::MAX as u32).ok_or(Errno::EINVAL)?;
    let Some(dev) = p.dev else {
        let family = if p.six { "ipv6" } else { "ipv4" };
        let name = FIELDS.get(p.field).ok_or(Errno::ENOENT)?;
        let sysctl = &mut net.ns.get_mut(ns).ok_or(Errno::ENOENT)?.sysctl;
        return sysctl.store(&format!("net.{family}.neigh.default.{name}"), &value.to_string());
    };
    let own = &mut net.devs.get_mut(dev).ok_or(Errno::ENOENT)?.neigh.own.0;
    *own.get_mut(usize::from(p.six)).and_then(|o| o.get_mut(p.field)).ok_or(Errno::ENOENT)? = Some(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::kernel::Kernel;
    use belljar_abi::Errno;

    #[test]
    fn a_device_follows_default_until_it_has_its_own() {
        let mut k = Kernel::new(1);
        let ns = k.net.add_ns("t");
        k.net.add_veth((ns, "e0"), (ns, "e1.5")).unwrap();
        let get = |k: &Kernel, key: &str| k.sysctl_get(ns, key).unwrap();
        k.sysctl_set(ns, "net.ipv4.neigh.e0.base_reachable_time", "3").unwrap();
        k.sysctl_set(ns, "net.ipv4.neigh.default.base_reachable_time_ms", "5000").unwrap();
        assert_eq!(get(&k, "net.ipv4.neigh.e0.base_reachable_time_ms"), "3000");
        assert_eq!(get(&k, "net.ipv4.neigh.e1.5.base_reachable_time_ms"), "5000");
        assert_eq!(get(&k, "net.ipv6.neigh.e1.5.base_reachable_time_ms"), "30000");
        // As measured in a new namespace of 6.18.
        for (key, value) in [("unres_qlen", "101"), ("locktime", "100"), ("proxy_delay", "80"), ("retrans_time", "100")]
        {
            assert_eq!(get(&k, &format!("net.ipv4.neigh.lo.{key}")), value);
        }
        assert_eq!(get(&k, "net.ipv6.neigh.lo.retrans_time"), "250");
        assert_eq!(k.sysctl_set(ns, "net.ipv4.neigh.e0.locktime", "-1"), Err(Errno::EINVAL));
        assert_eq!(k.sysctl_set(ns, "net.ipv4.neigh.e0.gc_thresh1", "1"), Err(Errno::ENOENT));
        assert_eq!(k.sysctl_set(ns, "net.ipv6.neigh.e0.locktime", "1"), Err(Errno::ENOENT));
        let names = k.sysctl_entries(ns, "net.ipv4.neigh").unwrap();
        let wanted = ["default", "e0", "e1.5", "lo"].map(|n| (n.to_owned(), true));
        assert_eq!(names, wanted);
        let all = k.view_sysctls(ns);
        assert!(all.iter().any(|s| s.key == "net.ipv4.neigh.e1.5.unres_qlen"));
        assert!(k.sysctl_entries(ns, "net.ipv4.neigh.e1.5").unwrap().contains(&("locktime".to_owned(), false)));
        assert!(k.sysctl_entries(ns, "net.ipv4.conf.e9").is_none());
    }
}
