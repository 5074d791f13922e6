//! Addresses and flags of an interface as the old requests set them (netdevice(7): SIOCSIFADDR and its kin).
use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::dev::mask;
use belljar_abi::{Errno, IFF_ALLMULTI, IFF_PROMISC, IFF_UP};
use core::net::Ipv4Addr;

/// Prefix length by the class of an address (`inet_abc_len`).
fn classful(addr: Ipv4Addr) -> Option<u8> {
    match addr.octets()[0] {
        0 => Some(0),
        1..=127 => Some(8),
        128..=191 => Some(16),
        192..=223 => Some(24),
        _ => None,
    }
}

impl Net {
    /// SIOCSIFADDR: the address takes the place of the first one, with the prefix of its class; on a point-to-point device
    /// with 32. 0.0.0.0 takes it away.
    pub fn set_if_addr(&mut self, dev: DevId, addr: Ipv4Addr) -> Result<(), Errno> {
        let prefix = classful(addr).ok_or(Errno::EINVAL)?;
        let d = self.devs.get(dev).ok_or(Errno::ENODEV)?;
        let prefix = if d.is_pointopoint() { 32 } else { prefix };
        let first = d.addrs.first().map(|a| (a.local, a.prefix));
        if first.is_some_and(|(local, _)| local == addr) {
            return Ok(());
        }
        if let Some((local, prefix)) = first {
            self.del_address(dev, local, prefix)?;
        }
        if addr.is_unspecified() { Ok(()) } else { self.add_address(dev, addr, prefix) }
    }

    /// SIOCSIFNETMASK: EINVAL for a mask with a hole, EADDRNOTAVAIL without an address.
    pub fn set_if_netmask(&mut self, dev: DevId, netmask: Ipv4Addr) -> Result<(), Errno> {
        let prefix = netmask.to_bits().leading_ones() as u8;
        if mask(prefix) != netmask.to_bits() {
            return Err(Errno::EINVAL);
        }
        let d = self.devs.get(dev).ok_or(Errno::ENODEV)?;
        let (local, old) = d.addrs.first().map(|a| (a.local, a.prefix)).ok_or(Errno::EADDRNOTAVAIL)?;
        if old == prefix {
            return Ok(());
        }
        self.del_address(dev, local, old)?;
        self.add_address(dev, local, prefix)
    }

    /// SIOCSIFFLAGS: up or down, and whether every frame is wanted, or every group's.
    #[doc(alias = "__dev_change_flags")]
    pub fn set_if_flags(&mut self, dev: DevId, flags: u16) -> Result<(), Errno> {
        let d = self.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
        let changed = (u32::from(flags) ^ d.gflags) & (IFF_PROMISC | IFF_ALLMULTI);
        d.gflags ^= changed;
        for (bit, count) in [(IFF_PROMISC, &mut d.promiscuity), (IFF_ALLMULTI, &mut d.allmulti)] {
            match (changed & bit != 0, d.gflags & bit != 0) {
                (true, true) => *count = count.saturating_add(1),
                (true, false) => *count = count.saturating_sub(1),
                _ => {}
            }
        }
        self.set_link(dev, u32::from(flags) & IFF_UP != 0)
    }
}

#[cfg(test)]
mod tests {
    use crate::kernel::Kernel;
    use belljar_abi::Errno;
    use core::net::Ipv4Addr;

    #[test]
    fn the_old_requests_replace_the_first_address() {
        let mut k = Kernel::new(1);
        let ns = k.net.add_ns("t");
        let tun = k.tun_create(ns, "tt%d", false, false).unwrap();
        let tap = k.tun_create(ns, "", true, false).unwrap();
        let (a, b) = (Ipv4Addr::new(10, 99, 0, 1), Ipv4Addr::new(10, 99, 0, 2));
        assert_eq!(k.net.set_if_netmask(tun, Ipv4Addr::new(255, 255, 255, 0)), Err(Errno::EADDRNOTAVAIL));
        for (dev, prefix) in [(tun, 32), (tap, 8)] {
            k.net.set_if_addr(dev, a).unwrap();
            assert_eq!(k.net.devs.get(dev).unwrap().addrs[0].prefix, prefix);
            k.net.set_if_addr(dev, b).unwrap();
            k.net.set_if_netmask(dev, Ipv4Addr::new(255, 255, 255, 0)).unwrap();
            let addrs: Vec<_> = k.net.devs.get(dev).unwrap().addrs.iter().map(|a| (a.local, a.prefix)).collect();
            assert_eq!(addrs, [(b, 24)]);
            assert_eq!(k.net.set_if_netmask(dev, Ipv4Addr::new(255, 0, 255, 0)), Err(Errno::EINVAL));
            k.net.set_if_addr(dev, Ipv4Addr::UNSPECIFIED).unwrap();
            assert!(k.net.devs.get(dev).unwrap().addrs.is_empty());
        }
        assert_eq!(k.tun_create(ns, "tt0", false, false), Err(Errno::EBUSY));
        k.net.unregister_netdev(tun);
        assert!(k.tun_create(ns, "tt0", false, false).is_ok());
    }
}
