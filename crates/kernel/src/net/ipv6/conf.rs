//! `net.ipv6.conf`: the settings of interfaces, of all, and of those to come.
use super::{anycast, mcast};
use crate::ids::*;
use crate::net::Net;
use belljar_abi::Errno;

const MIN_MTU: u32 = 1280;

impl Net {
    /// The value of `IF.KEY`, `all.KEY` or `default.KEY`.
    pub fn get_conf6(&self, ns: NsId, key: &str) -> Option<String> {
        let (name, key) = key.rsplit_once('.')?;
        let n = self.ns.get(ns)?;
        let (conf, own_mtu) = match name {
            "all" => (&n.v6.conf_all, MIN_MTU),
            "default" => (&n.v6.conf_default, MIN_MTU),
            dev => self.devs.get(self.dev_by_name(ns, dev)?).map(|d| (&d.inet6.conf, d.mtu))?,
        };
        if key == "mtu" && conf.mtu == 0 {
            return Some(own_mtu.to_string());
        }
        conf.show(key)
    }

    /// `IF.KEY`, `all.KEY` or `default.KEY`. What is written to `all` goes to every interface for `disable_ipv6`,
    /// `addr_gen_mode` and `forwarding`; other keys of it mean nothing to interfaces, as on Linux.
    #[doc(alias = "addrconf_sysctl_addr_gen_mode")]
    #[doc(alias = "addrconf_sysctl_disable")]
    #[doc(alias = "addrconf_sysctl_forward")]
    pub fn set_conf6(&mut self, ns: NsId, key: &str, value: &str) -> Result<(), Errno> {
        let (name, key) = key.rsplit_once('.').ok_or(Errno::ENOENT)?;
        let dev = self.dev_by_name(ns, name);
        let n = self.ns.get_mut(ns).ok_or(Errno::ENOENT)?;
        let mut conf = match (name, dev) {
            ("all", _) => n.v6.conf_all,
            ("default", _) => n.v6.conf_default,
            (_, Some(dev)) => self.devs.get(dev).ok_or(Errno::ENOENT)?.inet6.conf,
            _ => return Err(Errno::ENOENT),
        };
        conf.store(key, value)?;
        let most = dev.filter(|_| !matches!(name, "all" | "default")).and_then(|dev| self.devs.get(dev)).map(|d| d.mtu);
        if key == "mtu" && most.is_some_and(|most| conf.mtu > most) {
            return Err(Errno::EINVAL);
        }
        let (off, forwarding, mode) = (conf.disable_ipv6 != 0, conf.forwarding, conf.addr_gen_mode);
        let devs: Vec<DevId> = match name {
            "all" => self.ns_devs(ns).collect(),
            "default" => Vec::new(),
            _ => dev.into_iter().collect(),
        };
        let n = self.ns.get_mut(ns).ok_or(Errno::ENOENT)?;
        match name {
            "all" => {
                n.v6.conf_all = conf;
                if key == "disable_ipv6" {
                    n.v6.conf_default.disable_ipv6 = conf.disable_ipv6;
                }
                if key == "forwarding" {
                    n.v6.conf_default.forwarding = forwarding;
                }
                if key == "addr_gen_mode" {
                    n.v6.conf_default.addr_gen_mode = mode;
                }
            }
            "default" => n.v6.conf_default = conf,
            _ => {}
        }
        for dev in devs {
            match key {
                "disable_ipv6" => {
                    self.set_disable_ipv6(dev, off);
                    self.devs.get_mut(dev).ok_or(Errno::ENOENT)?.inet6.conf.disable_ipv6 = conf.disable_ipv6;
                }
                "addr_gen_mode" => self.set_addr_gen_mode(dev, mode),
                "forwarding" => {
                    let conf = &mut self.devs.get_mut(dev).ok_or(Errno::ENOENT)?.inet6.conf;
                    let was = std::mem::replace(&mut conf.forwarding, forwarding);
                    if (was != 0) != (forwarding != 0) {
                        mcast::router(self, dev, forwarding != 0);
                        anycast::router(self, dev, forwarding != 0);
                        if forwarding != 0 {
                            self.purge_default_routers(dev);
                        }
                    }
                }
                _ if name != "all" => self.devs.get_mut(dev).ok_or(Errno::ENOENT)?.inet6.conf = conf,
                _ => {}
            }
        }
        let n = self.ns.get_mut(ns).ok_or(Errno::ENOENT)?;
        n.rt_genid = n.rt_genid.wrapping_add(1);
        Ok(())
    }
}
