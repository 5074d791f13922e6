//! `net.ipv6.conf`: the settings of interfaces, of all, and of those to come.
use super::stable::GEN_MODE_STABLE_PRIVACY;
use super::{anycast, mcast};
use crate::ids::*;
use crate::net::Net;
use crate::net::core::features;
use crate::net::sysctl::Conf6;
use belljar_abi::Errno;

const MIN_MTU: u32 = 1280;

/// Whose settings they are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    All,
    Default,
    Dev(DevId),
}

impl Net {
    fn conf6_of(&self, ns: NsId, name: &str) -> Option<Of> {
        match name {
            "all" => Some(Of::All),
            "default" => Some(Of::Default),
            dev => self.dev_by_name(ns, dev).map(Of::Dev),
        }
    }

    fn conf6(&self, ns: NsId, of: Of) -> Option<&Conf6> {
        let n = self.ns.get(ns)?;
        match of {
            Of::All => Some(&n.v6.conf_all),
            Of::Default => Some(&n.v6.conf_default),
            Of::Dev(dev) => self.devs.get(dev).map(|d| &d.inet6.conf),
        }
    }

    fn conf6_mut(&mut self, ns: NsId, of: Of) -> Option<&mut Conf6> {
        let n = self.ns.get_mut(ns)?;
        match of {
            Of::All => Some(&mut n.v6.conf_all),
            Of::Default => Some(&mut n.v6.conf_default),
            Of::Dev(dev) => self.devs.get_mut(dev).map(|d| &mut d.inet6.conf),
        }
    }

    /// Whether there is `IF.KEY`, also where it cannot be read.
    pub fn has_conf6(&self, ns: NsId, key: &str) -> bool {
        key.rsplit_once('.').is_some_and(|(name, key)| Conf6::KEYS.contains(&key) && self.conf6_of(ns, name).is_some())
    }

    /// The value of `IF.KEY`, `all.KEY` or `default.KEY`. A secret that nobody told cannot be read.
    pub fn get_conf6(&self, ns: NsId, key: &str) -> Option<String> {
        let (name, key) = key.rsplit_once('.')?;
        let of = self.conf6_of(ns, name)?;
        let conf = self.conf6(ns, of)?;
        match (key, of) {
            ("mtu", Of::Dev(dev)) if conf.mtu == 0 => Some(self.devs.get(dev)?.mtu.to_string()),
            ("mtu", _) if conf.mtu == 0 => Some(MIN_MTU.to_string()),
            ("stable_secret", _) if conf.stable_secret.0.is_none() => None,
            _ => conf.show(key),
        }
    }

    /// `IF.KEY`, `all.KEY` or `default.KEY`. What is written to `all` goes to every interface for some; other keys of it mean
    /// nothing to interfaces but where Linux asks for both.
    pub fn set_conf6(&mut self, ns: NsId, key: &str, value: &str) -> Result<(), Errno> {
        let (name, key) = key.rsplit_once('.').ok_or(Errno::ENOENT)?;
        let of = self.conf6_of(ns, name).ok_or(Errno::ENOENT)?;
        let mut conf = *self.conf6(ns, of).ok_or(Errno::ENOENT)?;
        conf.store(key, value)?;
        let most = if let Of::Dev(dev) = of { self.devs.get(dev).map(|d| d.mtu) } else { None };
        if key == "mtu" && most.is_some_and(|most| conf.mtu > most) {
            return Err(Errno::EINVAL);
        }
        match key {
            "addr_gen_mode" => self.write_gen_mode(ns, of, conf)?,
            "stable_secret" => self.write_secret(ns, of, conf)?,
            "disable_ipv6" => self.write_disable(ns, of, conf),
            "forwarding" => self.write_forwarding(ns, of, conf),
            "force_forwarding" => self.spread(ns, of, conf, false, |c| c.force_forwarding = conf.force_forwarding),
            "ignore_routes_with_linkdown" => {
                let value = conf.ignore_routes_with_linkdown;
                self.spread(ns, of, conf, true, |c| c.ignore_routes_with_linkdown = value);
                self.count_linkdown(ns);
            }
            _ => *self.conf6_mut(ns, of).ok_or(Errno::ENOENT)? = conf,
        }
        let n = self.ns.get_mut(ns).ok_or(Errno::ENOENT)?;
        n.rt_genid = n.rt_genid.wrapping_add(1);
        Ok(())
    }

    /// The devices that a write reaches.
    fn reached(&self, ns: NsId, of: Of) -> Vec<DevId> {
        match of {
            Of::All => self.ns_devs(ns).collect(),
            Of::Default => Vec::new(),
            Of::Dev(dev) => vec![dev],
        }
    }

    /// What is written to `all` is every device's, and perhaps that of those to come.
    fn spread(&mut self, ns: NsId, of: Of, conf: Conf6, to_come: bool, set: impl Fn(&mut Conf6)) {
        if let Some(c) = self.conf6_mut(ns, of) {
            *c = conf;
        }
        if of == Of::All && to_come {
            self.conf6_mut(ns, Of::Default).into_iter().for_each(&set);
        }
        for dev in self.reached(ns, of) {
            self.conf6_mut(ns, Of::Dev(dev)).into_iter().for_each(&set);
        }
    }

    /// Lookups ask only where somebody may want it, devices to come included.
    fn count_linkdown(&mut self, ns: NsId) {
        let ignores = |d: DevId| self.devs.get(d).is_some_and(|d| d.inet6.conf.ignore_routes_with_linkdown != 0);
        let any = self.ns_devs(ns).any(ignores);
        if let Some(n) = self.ns.get_mut(ns) {
            n.v6.ignores_linkdown = any || n.v6.conf_default.ignore_routes_with_linkdown != 0;
        }
    }

    /// The same for `all` and `default`, whose own value a device does not ask for.
    fn keep_for_all(&mut self, ns: NsId, of: Of, set: impl Fn(&mut Conf6)) {
        let kept: &[Of] = match of {
            Of::All => &[Of::All, Of::Default],
            Of::Default => &[Of::Default],
            Of::Dev(_) => &[],
        };
        for of in kept {
            self.conf6_mut(ns, *of).into_iter().for_each(&set);
        }
    }

    #[doc(alias = "addrconf_sysctl_disable")]
    fn write_disable(&mut self, ns: NsId, of: Of, conf: Conf6) {
        self.keep_for_all(ns, of, |c| c.disable_ipv6 = conf.disable_ipv6);
        for dev in self.reached(ns, of) {
            self.set_disable_ipv6(dev, conf.disable_ipv6 != 0);
            self.conf6_mut(ns, Of::Dev(dev)).into_iter().for_each(|c| c.disable_ipv6 = conf.disable_ipv6);
        }
    }

    #[doc(alias = "addrconf_sysctl_forward")]
    fn write_forwarding(&mut self, ns: NsId, of: Of, conf: Conf6) {
        let (to, on) = (conf.forwarding, conf.forwarding != 0);
        self.keep_for_all(ns, of, |c| c.forwarding = to);
        for dev in self.reached(ns, of) {
            let Some(c) = self.conf6_mut(ns, Of::Dev(dev)) else { continue };
            let was = std::mem::replace(&mut c.forwarding, to);
            if (was != 0) != on {
                mcast::router(self, dev, on);
                anycast::router(self, dev, on);
                if on {
                    features::disable_lro(self, dev);
                    self.purge_default_routers(dev);
                }
            }
        }
    }

    #[doc(alias = "addrconf_sysctl_addr_gen_mode")]
    fn write_gen_mode(&mut self, ns: NsId, of: Of, conf: Conf6) -> Result<(), Errno> {
        let mode = conf.addr_gen_mode;
        if let Of::Dev(dev) = of {
            self.check_gen_mode(dev, mode)?;
        }
        self.keep_for_all(ns, of, |c| c.addr_gen_mode = mode);
        self.reached(ns, of).into_iter().for_each(|dev| self.set_addr_gen_mode(dev, mode));
        Ok(())
    }

    /// Whoever gets a secret uses it from then on; that of `default` is for all devices that are there. `all` has none.
    #[doc(alias = "addrconf_sysctl_stable_secret")]
    fn write_secret(&mut self, ns: NsId, of: Of, conf: Conf6) -> Result<(), Errno> {
        if of == Of::All {
            return Err(Errno::EIO);
        }
        *self.conf6_mut(ns, of).ok_or(Errno::ENOENT)? = conf;
        let devs = if of == Of::Default { self.ns_devs(ns).collect() } else { self.reached(ns, of) };
        for dev in devs {
            self.conf6_mut(ns, Of::Dev(dev)).into_iter().for_each(|c| c.addr_gen_mode = GEN_MODE_STABLE_PRIVACY);
        }
        Ok(())
    }
}
