//! `net.ipv4.neigh` and `net.ipv6.neigh`: the settings of neighbours, of each device and of those that have none of their own.
//!
//! A device follows `default` in what was not written for itself (`neigh_copy_dflt_parms`). `default` is the whole
//! machine's: the first namespace has it.
use crate::env::{MSEC, Nanos};
use crate::ids::*;
use crate::net::Net;
use crate::net::sysctl::number;
use belljar_abi::Errno;

/// What a packet of a full frame is charged (`SKB_TRUESIZE(ETH_FRAME_LEN)`), by which `unres_qlen` counts.
const FRAME_TRUESIZE: i32 = 2090;
const HZ: i64 = 250;
const TICK_MS: i64 = 1000 / HZ;

/// How a value is written. Times are kept as ticks of 4 ms.
#[derive(Clone, Copy)]
enum Unit {
    Count,
    Frames,
    Ticks,
    Seconds,
    /// Up to the next tick.
    Millis,
    /// Down to a tick.
    Hundredths,
}

impl Unit {
    fn read(self, text: &str) -> Option<i32> {
        let v: i64 = number(text)?;
        match self {
            Unit::Count => i32::try_from(v).ok().filter(|v| *v >= 0),
            Unit::Frames => i32::try_from(v).ok().filter(|v| *v >= 0)?.checked_mul(FRAME_TRUESIZE),
            Unit::Ticks => i32::try_from(v).ok(),
            Unit::Seconds => i32::try_from(v.checked_mul(HZ)?).ok(),
            // Only the lower half of a longer number counts; its highest bit would be a sign.
            Unit::Millis if v >= 0 => {
                i32::try_from(v as u32).ok().map(|ms| (i64::from(ms) + TICK_MS - 1) / TICK_MS).map(|t| t as i32)
            }
            Unit::Millis => None,
            Unit::Hundredths => Some((v.signum() * (v.unsigned_abs().checked_mul(5)? / 2) as i64) as i32),
        }
    }

    fn show(self, value: i32) -> String {
        let v = i64::from(value);
        match self {
            Unit::Count | Unit::Ticks => v.to_string(),
            Unit::Frames => (v / i64::from(FRAME_TRUESIZE)).to_string(),
            Unit::Seconds => (v / HZ).to_string(),
            Unit::Millis => (v * TICK_MS).to_string(),
            Unit::Hundredths => format!("{}{}", if v < 0 { "-" } else { "" }, v.abs() * 2 / 5),
        }
    }
}

struct Field {
    name: &'static str,
    unit: Unit,
    least: i32,
    /// Of IPv4, of IPv6.
    first: [i32; 2],
}

const fn field(name: &'static str, unit: Unit, first: i32) -> Field {
    Field { name, unit, least: i32::MIN, first: [first, first] }
}

const BASE: usize = 0;
const DELAY: usize = 1;
const STALE: usize = 2;
const MCAST: usize = 3;
const RETRANS: usize = 4;
const UCAST: usize = 5;
const QLEN: usize = 6;
const PROXY_DELAY: usize = 7;
const APP: usize = 8;
const MCAST_AGAIN: usize = 9;
const PROXY_QLEN: usize = 10;
const LOCKTIME: usize = 11;

const FIELDS: [Field; 14] = [
    field("base_reachable_time_ms", Unit::Millis, 7500),
    field("delay_first_probe_time", Unit::Seconds, 1250),
    field("gc_stale_time", Unit::Seconds, 15_000),
    field("mcast_solicit", Unit::Count, 3),
    field("retrans_time_ms", Unit::Millis, 250),
    field("ucast_solicit", Unit::Count, 3),
    field("unres_qlen_bytes", Unit::Count, 212_992),
    field("proxy_delay", Unit::Hundredths, 200),
    field("app_solicit", Unit::Count, 0),
    field("mcast_resolicit", Unit::Count, 0),
    field("proxy_qlen", Unit::Count, 64),
    // Asked for by ARP alone.
    Field { name: "locktime", unit: Unit::Hundredths, least: i32::MIN, first: [250, 0] },
    // Linux asks for it nowhere.
    field("anycast_delay", Unit::Hundredths, 250),
    // Of entries that are kept fresh (`managed`), of which there are none here.
    Field { name: "interval_probe_time_ms", unit: Unit::Millis, least: 1, first: [1250, 1250] },
];

/// The same values in other units.
fn others(six: bool) -> [(&'static str, usize, Unit); 3] {
    let retrans = if six { Unit::Ticks } else { Unit::Hundredths };
    [
        ("base_reachable_time", BASE, Unit::Seconds),
        ("retrans_time", RETRANS, retrans),
        ("unres_qlen", QLEN, Unit::Frames),
    ]
}

type Values = [i32; FIELDS.len()];

/// `default` of IPv4 and of IPv6.
#[derive(Clone, Debug)]
pub struct Defaults([Values; 2]);

impl Default for Defaults {
    fn default() -> Defaults {
        let of = |six: usize| std::array::from_fn(|i| FIELDS[i].first[six]);
        Defaults([of(0), of(1)])
    }
}

/// What was written for a device: of IPv4, of IPv6.
#[derive(Clone, Debug, Default)]
pub struct Own([[Option<i32>; FIELDS.len()]; 2]);

/// What counts for one device and family.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parms {
    pub base_reachable_time_ms: u32,
    pub delay_first_probe_time_ms: u32,
    pub gc_stale_time_ms: u32,
    pub mcast_solicit: u32,
    pub retrans_time_ms: u32,
    pub ucast_solicit: u32,
    pub unres_qlen_bytes: u32,
    /// The longest that a question which is answered for somebody else waits, and how many of them do.
    pub proxy_delay_ms: u32,
    pub proxy_qlen: u32,
    /// Questions asked of a program, and again by broadcast once the known address answered none.
    pub app_solicit: u32,
    pub mcast_resolicit: u32,
    locktime_ms: u32,
}

impl Parms {
    /// Within this time after a change another one is not believed.
    pub fn locktime(&self) -> Nanos {
        u64::from(self.locktime_ms) * MSEC
    }
}

fn values(net: &Net, dev: Option<DevId>, six: bool) -> Values {
    let mut v = net.neigh_default.0[usize::from(six)];
    if let Some(d) = dev.and_then(|d| net.devs.get(d)) {
        let own = &d.neigh.own.0[usize::from(six)];
        v.iter_mut().zip(own).for_each(|(v, own)| *v = own.unwrap_or(*v));
    }
    v
}

/// What counts for a device.
pub fn parms(net: &Net, dev: DevId, six: bool) -> Parms {
    let v = values(net, Some(dev), six);
    let count = |i: usize| v[i].max(0) as u32;
    let ms = |i: usize| count(i).saturating_mul(TICK_MS as u32);
    Parms {
        base_reachable_time_ms: ms(BASE),
        delay_first_probe_time_ms: ms(DELAY),
        gc_stale_time_ms: ms(STALE),
        mcast_solicit: count(MCAST),
        retrans_time_ms: ms(RETRANS),
        ucast_solicit: count(UCAST),
        unres_qlen_bytes: count(QLEN),
        proxy_delay_ms: ms(PROXY_DELAY),
        proxy_qlen: count(PROXY_QLEN),
        app_solicit: count(APP),
        mcast_resolicit: count(MCAST_AGAIN),
        locktime_ms: ms(LOCKTIME),
    }
}

/// Names in a device's directory and in `default`'s.
pub fn names(dir: &str) -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|f| f.name).chain(others(dir.contains("ipv6")).map(|o| o.0))
}

struct Place {
    six: bool,
    /// `None`: `default`.
    dev: Option<DevId>,
    field: usize,
    unit: Unit,
}

fn named(six: bool, name: &str) -> Option<(usize, Unit)> {
    let own = FIELDS.iter().enumerate().find(|(_, f)| f.name == name).map(|(i, f)| (i, f.unit));
    own.or_else(|| others(six).into_iter().find(|o| o.0 == name).map(|o| (o.1, o.2)))
}

fn read(field: usize, unit: Unit, text: &str) -> Result<i32, Errno> {
    let f = FIELDS.get(field).ok_or(Errno::ENOENT)?;
    unit.read(text).filter(|v| *v >= f.least).ok_or(Errno::EINVAL)
}

/// Whether a setting of a directory takes a value.
pub(in crate::net) fn check(dir: &str, name: &str, text: &str) -> Result<(), Errno> {
    let (field, unit) = named(dir.contains("ipv6"), name).ok_or(Errno::ENOENT)?;
    read(field, unit, text).map(|_| ())
}

fn place(net: &Net, ns: NsId, key: &str) -> Option<Place> {
    let (six, rest) = match key.strip_prefix("net.ipv4.neigh.") {
        Some(rest) => (false, rest),
        None => (true, key.strip_prefix("net.ipv6.neigh.")?),
    };
    let (dev, name) = rest.rsplit_once('.')?;
    let first = net.ns.iter().next().is_some_and(|(first, _)| first == ns);
    let dev = if dev == "default" && first { None } else { Some(net.dev_by_name(ns, dev)?) };
    let (field, unit) = named(six, name)?;
    Some(Place { six, dev, field, unit })
}

pub fn get(net: &Net, ns: NsId, key: &str) -> Option<String> {
    let p = place(net, ns, key)?;
    Some(p.unit.show(*values(net, p.dev, p.six).get(p.field)?))
}

/// ENOENT for a device or a setting that there is not, EINVAL for a value out of its range.
pub fn store(net: &mut Net, ns: NsId, key: &str, text: &str) -> Result<(), Errno> {
    let p = place(net, ns, key).ok_or(Errno::ENOENT)?;
    let value = read(p.field, p.unit, text)?;
    let six = usize::from(p.six);
    match p.dev {
        None => net.neigh_default.0[six][p.field] = value,
        Some(dev) => net.devs.get_mut(dev).ok_or(Errno::ENOENT)?.neigh.own.0[six][p.field] = Some(value),
    }
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
        assert_eq!(k.sysctl_set(ns, "net.ipv4.neigh.e0.mcast_solicit", "-1"), Err(Errno::EINVAL));
        assert_eq!(k.sysctl_set(ns, "net.ipv4.neigh.e0.gc_thresh1", "1"), Err(Errno::ENOENT));
        let names = k.sysctl_entries(ns, "net.ipv4.neigh").unwrap();
        let wanted = ["default", "e0", "e1.5", "lo"].map(|n| (n.to_owned(), true));
        assert_eq!(names, wanted);
        let all = k.view_sysctls(ns);
        assert!(all.iter().any(|s| s.key == "net.ipv4.neigh.e1.5.unres_qlen"));
        assert!(k.sysctl_entries(ns, "net.ipv4.neigh.e1.5").unwrap().contains(&("locktime".to_owned(), false)));
        assert!(k.sysctl_entries(ns, "net.ipv4.conf.e9").is_none());
    }
}
