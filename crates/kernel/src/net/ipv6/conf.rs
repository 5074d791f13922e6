//! `net.ipv6.conf`: the settings of interfaces, of all, and of those to come.
use super::{anycast, mcast};
use crate::ids::*;
use crate::net::Net;
use crate::net::sysctl::Conf6;
use belljar_abi::Errno;

impl Net {
    /// All of `net.ipv6.conf` with its values.
    pub fn view_conf6(&self, ns: NsId) -> Vec<(String, String)> {
        let Some(n) = self.ns.get(ns) else { return Vec::new() };
        let devs = self.ns_devs(ns).filter_map(|d| self.devs.get(d)).map(|d| (d.name.as_str(), d.inet6.conf));
        let all = [("all", n.v6.conf_all), ("default", n.v6.conf_default)].into_iter().chain(devs);
        let keys = |(name, conf): (&str, Conf6)| {
            let name = name.to_owned();
            Conf6::KEYS.iter().filter_map(move |k| Some((format!("net.ipv6.conf.{name}.{k}"), conf.show(k)?)))
        };
        all.flat_map(keys).collect()
    }

    /// `IF.KEY`, `all.KEY` or `default.KEY`. What is written to `all` goes to every interface for `disable_ipv6` and
    /// `forwarding`; other keys of it mean nothing to interfaces, as on Linux.
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
        let (off, forwarding) = (conf.disable_ipv6 != 0, conf.forwarding);
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
            }
            "default" => n.v6.conf_default = conf,
            _ => {}
        }
        for dev in devs {
            match key {
                "disable_ipv6" => self.set_disable_ipv6(dev, off),
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
