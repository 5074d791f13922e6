//! What a route says of the paths it leads to (Linux: `struct dst_metrics`, RTA_METRICS; `ip route … mtu lock 1400 initcwnd 20`).
//!
//! Routes and the [`Dst`]s made from them carry a number; what it stands for is kept once per namespace.
use crate::ids::NsId;
use crate::net::Net;
use crate::net::ipv4::route::Dst;
use crate::net::netns::NetNs;
use crate::net::sysctl::CongName;
use belljar_abi::Errno;
use belljar_abi::rtnetlink::*;
use core::net::IpAddr;

pub const RTAX_FEATURE_ECN: u32 = 1;
/// ECN, SACK, TIMESTAMP, ALLFRAG, TCP_USEC_TS; only the first does anything.
const RTAX_FEATURE_MASK: u32 = 0x1f;

/// Which metrics; 0 is none at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetricsId(u8);

impl MetricsId {
    #[inline]
    pub fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// By `RTAX_*`; 0 is "not set".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DstMetrics {
    values: [u32; RTAX_FASTOPEN_NO_COOKIE as usize + 1],
    cc: Option<CongName>,
}

impl DstMetrics {
    #[doc(alias = "dst_metric_raw")]
    pub fn get(&self, which: u16) -> u32 {
        self.values.get(usize::from(which)).copied().unwrap_or(0)
    }

    #[doc(alias = "dst_metric_locked")]
    pub fn locked(&self, which: u16) -> bool {
        self.get(RTAX_LOCK) & 1 << which != 0
    }

    pub fn congestion(&self) -> Option<CongName> {
        self.cc
    }

    /// Larger values are cut to what the header can say, unknown features refused, as ip_metrics_convert does.
    #[doc(alias = "ip_metrics_convert")]
    pub fn set(&mut self, which: u16, value: u32) -> Result<(), &'static str> {
        let value = match which {
            RTAX_ADVMSS => value.min(65_535 - 40),
            RTAX_MTU => value.min(65_535 - 15),
            RTAX_HOPLIMIT => value.min(255),
            RTAX_FEATURES if value & !RTAX_FEATURE_MASK != 0 => {
                return Err("Unknown flag set in feature mask in metrics attribute");
            }
            RTAX_CC_ALGO => return Err("Invalid attribute in metrics"),
            _ => value,
        };
        *self.values.get_mut(usize::from(which)).ok_or("Invalid metric type")? = value;
        Ok(())
    }

    pub fn set_congestion(&mut self, name: &str) -> Result<(), &'static str> {
        self.cc = Some(CongName::parse(name).ok_or("Unknown tcp congestion algorithm")?);
        Ok(())
    }

    /// Everything that is said here is so in `of` (`fib_metrics_match`).
    pub fn fit(&self, of: Option<&DstMetrics>) -> bool {
        let of = of.copied().unwrap_or_default();
        let same = self.values.iter().zip(&of.values).all(|(want, is)| *want == 0 || want == is);
        same && (self.cc.is_none() || self.cc == of.cc)
    }

    pub fn lock(&mut self, which: u16) {
        if let Some(lock) = self.values.get_mut(usize::from(RTAX_LOCK)) {
            *lock |= 1 << which;
        }
    }
}

/// The metrics of a namespace's routes.
#[derive(Clone, Debug, Default)]
pub struct MetricsTable(Vec<DstMetrics>);

impl MetricsTable {
    pub fn get(&self, id: MetricsId) -> Option<&DstMetrics> {
        self.0.get(usize::from(id.0).checked_sub(1)?)
    }
}

impl NetNs {
    /// The number of these metrics. ENOMEM when routes have 255 different ones already.
    pub fn metrics_id(&mut self, m: &DstMetrics) -> Result<MetricsId, Errno> {
        if *m == DstMetrics::default() {
            return Ok(MetricsId::default());
        }
        let list = &mut self.metrics.0;
        if let Some(at) = list.iter().position(|have| have == m) {
            return Ok(MetricsId(at as u8 + 1));
        }
        if list.len() < usize::from(u8::MAX) {
            list.push(*m);
            return Ok(MetricsId(list.len() as u8));
        }
        let mut used = [false; 256];
        let ids = self.fib.metrics().chain(self.v6.fib.metrics());
        ids.for_each(|id| used[usize::from(id.0)] = true);
        let free = (1..=u8::MAX).find(|n| !used[usize::from(*n)]).ok_or(Errno::ENOMEM)?;
        if let Some(place) = self.metrics.0.get_mut(usize::from(free) - 1) {
            *place = *m;
        }
        Ok(MetricsId(free))
    }
}

/// The metrics of a route that was found, if it has any.
#[inline]
pub fn of<'a>(net: &'a Net, ns: NsId, dst: Option<&Dst>) -> Option<&'a DstMetrics> {
    let id = dst?.metrics;
    if id.is_none() { None } else { net.ns.get(ns)?.metrics.get(id) }
}

/// The same with what was learned of the path, as `ip route get` shows it.
pub fn of_path(net: &Net, ns: NsId, daddr: IpAddr, dst: &Dst) -> Option<DstMetrics> {
    let route = of(net, ns, Some(dst)).copied();
    let n = net.ns.get(ns)?;
    let learned = match daddr {
        IpAddr::V4(a) => n.exceptions.get(a, net.env.jiffies()).map(|e| (e.mtu, e.locked)),
        IpAddr::V6(a) => n.v6.exceptions.get(a, net.env.jiffies()).map(|mtu| (mtu, false)),
    };
    let Some((mtu, locked)) = learned.filter(|l| l.0 != 0) else { return route };
    let mut m = route.unwrap_or_default();
    let _ = m.set(RTAX_MTU, mtu);
    if locked {
        m.lock(RTAX_MTU);
    }
    Some(m)
}

/// One of them; 0 where it is not set.
#[doc(alias = "dst_metric")]
#[inline]
pub fn metric(net: &Net, ns: NsId, dst: Option<&Dst>, which: u16) -> u32 {
    of(net, ns, dst).map_or(0, |m| m.get(which))
}

/// Packets go without DF: the route says what fits, or the path is narrower than any MTU that we believe.
#[doc(alias = "ip_mtu_locked")]
#[inline]
pub fn mtu_locked(net: &Net, ns: NsId, daddr: IpAddr, dst: &Dst) -> bool {
    let (IpAddr::V4(daddr), Some(n)) = (daddr, net.ns.get(ns)) else { return false };
    let by_route = !dst.metrics.is_none() && n.metrics.get(dst.metrics).is_some_and(|m| m.locked(RTAX_MTU));
    by_route || (dst.mtu <= n.sysctl.min_pmtu && n.exceptions.get(daddr, net.env.jiffies()).is_some_and(|e| e.locked))
}
