//! Addresses that are answered for on behalf of others, one by one (`ip neigh add proxy`, `arp -s HOST pub`).
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::ipv6::mcast;
use belljar_abi::Errno;
use belljar_wire::ipv6::solicited_node;
use core::net::IpAddr;

/// Entries of a family in a namespace; Linux has as many as its memory holds.
const MOST: usize = 65_536;
const BUCKETS: u32 = 16;

/// `struct pneigh_entry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pneigh {
    pub addr: IpAddr,
    /// `None`: of every device.
    pub dev: Option<DevId>,
    /// `NTF_*` but for NTF_PROXY.
    pub flags: u8,
    /// `RTPROT_*`: who made it.
    pub proto: u8,
    /// It outlives the carrier, not the device.
    pub permanent: bool,
}

/// Of both families, by bucket, the newest of each first, as dumps have them.
#[derive(Clone, Debug, Default)]
pub struct Pneighs([Vec<Pneigh>; 2]);

#[doc(alias = "pneigh_hash")]
fn bucket(addr: IpAddr) -> u32 {
    let mut h = match addr {
        IpAddr::V4(a) => u32::from_ne_bytes(a.octets()),
        IpAddr::V6(a) => a.octets().last_chunk().map_or(0, |b| u32::from_ne_bytes(*b)),
    };
    for by in [16, 8, 4] {
        h ^= h >> by;
    }
    h % BUCKETS
}

impl Pneighs {
    pub fn of(&self, six: bool) -> &[Pneigh] {
        &self.0[usize::from(six)]
    }

    fn like(&self, addr: IpAddr) -> &[Pneigh] {
        let (all, at) = (self.of(addr.is_ipv6()), bucket(addr));
        let from = all.partition_point(|p| bucket(p.addr) < at);
        let len = all.get(from..).map_or(0, |rest| rest.partition_point(|p| bucket(p.addr) == at));
        all.get(from..from + len).unwrap_or(&[])
    }

    /// Whether `addr` is answered for on `dev`.
    #[doc(alias = "pneigh_lookup")]
    pub fn get(&self, addr: IpAddr, dev: Option<DevId>) -> Option<&Pneigh> {
        self.like(addr).iter().find(|p| p.addr == addr && (p.dev == dev || p.dev.is_none()))
    }
}

impl Net {
    pub fn pneigh(&self, ns: NsId, addr: IpAddr, dev: Option<DevId>) -> Option<&Pneigh> {
        self.ns.get(ns)?.pneighs.get(addr, dev)
    }

    /// A new entry, or what is new about one that is there. Of IPv6 those who ask have to be heard: on a device.
    #[doc(alias = "pndisc_constructor")]
    pub fn pneigh_create(&mut self, ns: NsId, new: Pneigh) -> Result<(), Errno> {
        let n = self.ns.get_mut(ns).ok_or(Errno::ENODEV)?;
        let list = &mut n.pneighs.0[usize::from(new.addr.is_ipv6())];
        if let Some(p) = list.iter_mut().find(|p| p.addr == new.addr && (p.dev == new.dev || p.dev.is_none())) {
            (p.flags, p.permanent) = (new.flags, new.permanent);
            p.proto = if new.proto != 0 { new.proto } else { p.proto };
            return Ok(());
        }
        if list.len() >= MOST || (new.addr.is_ipv6() && new.dev.is_none()) {
            return Err(Errno::ENOBUFS);
        }
        let at = list.partition_point(|p| bucket(p.addr) < bucket(new.addr));
        list.insert(at, new);
        if let (IpAddr::V6(a), Some(dev)) = (new.addr, new.dev) {
            mcast::join(self, dev, solicited_node(a));
        }
        Ok(())
    }

    pub fn pneigh_delete(&mut self, ns: NsId, addr: IpAddr, dev: Option<DevId>) -> Result<(), Errno> {
        let n = self.ns.get_mut(ns).ok_or(Errno::ENODEV)?;
        let list = &mut n.pneighs.0[usize::from(addr.is_ipv6())];
        let at = list.iter().position(|p| p.addr == addr && p.dev == dev).ok_or(Errno::ENOENT)?;
        let gone = list.remove(at);
        self.pneigh_gone(&gone);
        Ok(())
    }

    /// The device went down, or only its carrier is gone.
    #[doc(alias = "pneigh_ifdown_and_unlock")]
    pub(crate) fn pneigh_ifdown(&mut self, ns: NsId, dev: DevId, only_carrier: bool) {
        let Some(n) = self.ns.get_mut(ns) else { return };
        let goes = |p: &mut Pneigh| p.dev == Some(dev) && !(only_carrier && p.permanent);
        let gone: Vec<Pneigh> = n.pneighs.0.iter_mut().flat_map(|list| list.extract_if(.., goes)).collect();
        gone.iter().for_each(|p| self.pneigh_gone(p));
    }

    #[doc(alias = "pndisc_destructor")]
    fn pneigh_gone(&mut self, p: &Pneigh) {
        if let (IpAddr::V6(a), Some(dev)) = (p.addr, p.dev) {
            mcast::leave(self, dev, solicited_node(a));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_lie_as_linux_has_them() {
        let mut k = crate::kernel::Kernel::new(1);
        let ns = k.net.add_ns("host");
        let lo = k.net.ns.get(ns).map(|n| n.lo);
        let ip = |n: u8| IpAddr::from([10, 1, 0, n]);
        let entry = |n: u8| Pneigh { addr: ip(n), dev: lo, flags: 0, proto: 0, permanent: true };
        for n in [77, 78, 79, 80, 90, 81, 82, 77] {
            k.net.pneigh_create(ns, entry(n)).unwrap();
        }
        let order = |k: &crate::kernel::Kernel| {
            let all = k.net.ns.get(ns).unwrap().pneighs.of(false);
            all.iter().map(|p| if let IpAddr::V4(a) = p.addr { a.octets()[3] } else { 0 }).collect::<Vec<_>>()
        };
        // Measured on 6.18.
        assert_eq!(order(&k), [79, 78, 77, 90, 82, 80, 81]);
        assert!(k.net.pneigh(ns, ip(90), lo).is_some() && k.net.pneigh(ns, ip(90), None).is_none());
        assert_eq!(k.net.pneigh_delete(ns, ip(78), None), Err(Errno::ENOENT));
        k.net.pneigh_delete(ns, ip(78), lo).unwrap();
        k.net.pneigh_create(ns, Pneigh { dev: None, ..entry(99) }).unwrap();
        assert!(k.net.pneigh(ns, ip(99), lo).is_some());
        assert_eq!(
            k.net.pneigh_create(ns, Pneigh { addr: "fd00::1".parse().unwrap(), dev: None, ..entry(1) }),
            Err(Errno::ENOBUFS)
        );
        k.net.pneigh_create(ns, Pneigh { permanent: false, ..entry(5) }).unwrap();
        k.net.pneigh_ifdown(ns, lo.unwrap(), true);
        assert!(k.net.pneigh(ns, ip(5), lo).is_none() && k.net.pneigh(ns, ip(79), lo).is_some());
        k.net.pneigh_ifdown(ns, lo.unwrap(), false);
        assert_eq!(order(&k), [99]);
    }
}
