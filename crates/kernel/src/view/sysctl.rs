//! Settings as a tree: one read or written, all of them, what is in a directory.
//!
//! Names here have points; a device's own may have some as well, so the last one stands before the setting.
use super::SysctlView;
use crate::ids::NsId;
use crate::kernel::Kernel;
use crate::net::core::{neigh_sysctl, rps};
use crate::net::ipv4::{devconf, route};
use crate::net::sysctl::{Global, PER_DEVICE, Sysctl, conf_keys};
use belljar_abi::Errno;
use std::collections::BTreeMap;

/// Shown by as many digits as there are CPUs.
const RPS_DEFAULT: &str = "net.core.rps_default_mask";

/// A setting of the machine with two names (`nf_ct_netfilter_table`): the older one, which sysctl.conf files still have.
const ALIAS: (&str, &str) = ("net.nf_conntrack_max", "net.netfilter.nf_conntrack_max");

fn canonical(key: &str) -> &str {
    if key == ALIAS.0 { ALIAS.1 } else { key }
}

impl Kernel {
    /// The settings a namespace sees, by name.
    pub fn view_sysctls(&self, ns: NsId) -> Vec<SysctlView> {
        let mut keys: Vec<String> = Sysctl::KEYS.iter().chain(Global::KEYS).map(|k| (*k).to_owned()).collect();
        for dir in PER_DEVICE {
            for name in self.conf_names(ns, dir) {
                keys.extend(conf_keys(dir).iter().map(|k| format!("{dir}.{name}.{k}")));
            }
        }
        keys.push(ALIAS.0.to_owned());
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().filter_map(|key| Some(SysctlView { value: self.sysctl_get(ns, &key)?, key })).collect()
    }

    /// What `all`, `default` and the devices of a directory are called.
    fn conf_names(&self, ns: NsId, dir: &str) -> Vec<String> {
        let net = &self.net;
        let devs = net.ns_devs(ns).filter_map(|d| net.devs.get(d)).map(|d| d.name.clone());
        let first: &[&str] = match dir.ends_with("conf") {
            true => &["all", "default"],
            false if self.has_global(ns) => &["default"],
            false => &[],
        };
        first.iter().map(|n| (*n).to_owned()).chain(devs).collect()
    }

    /// Settings of the whole machine are the first namespace's.
    fn has_global(&self, ns: NsId) -> bool {
        self.net.ns.iter().next().is_some_and(|(first, _)| first == ns)
    }

    /// A setting's value.
    pub fn sysctl_get(&self, ns: NsId, key: &str) -> Option<String> {
        let key = canonical(key);
        if let Some(value) = self.net.sysctl.show(key) {
            return self.has_global(ns).then_some(value);
        }
        if let Some(rest) = key.strip_prefix("net.ipv6.conf.") {
            return self.net.get_conf6(ns, rest);
        }
        if devconf::is_mine(key) {
            return devconf::get(&self.net, ns, key);
        }
        if key == RPS_DEFAULT {
            return self.rps_default_mask(ns);
        }
        let own = self.net.ns.get(ns)?.sysctl.show(key);
        own.or_else(|| neigh_sysctl::get(&self.net, ns, key))
    }

    /// Whether there is such a setting: one that nobody wrote yet may have nothing to read (EIO).
    pub fn has_sysctl(&self, ns: NsId, key: &str) -> bool {
        let of6 = key.strip_prefix("net.ipv6.conf.");
        of6.is_some_and(|rest| self.net.has_conf6(ns, rest)) || self.sysctl_get(ns, key).is_some()
    }

    /// What is in a directory: names, and whether they are directories. `None`: it is none.
    pub fn sysctl_entries(&self, ns: NsId, dir: &str) -> Option<Vec<(String, bool)>> {
        let mut found: BTreeMap<String, bool> = BTreeMap::new();
        if PER_DEVICE.contains(&dir) {
            found.extend(self.conf_names(ns, dir).into_iter().map(|n| (n, true)));
        }
        let inside = |key: &str| key.strip_prefix(dir)?.strip_prefix('.').map(str::to_owned);
        let (global, alias) = if self.has_global(ns) { (Global::KEYS, Some(&ALIAS.0)) } else { (&[][..], None) };
        for key in Sysctl::KEYS.iter().chain(global).chain(alias).chain(&PER_DEVICE).filter_map(|k| inside(k)) {
            match key.split_once('.') {
                Some((name, _)) => found.insert(name.to_owned(), true),
                None if PER_DEVICE.iter().any(|d| inside(d).as_ref() == Some(&key)) => found.insert(key, true),
                None => found.insert(key, false),
            };
        }
        for (of, name) in PER_DEVICE.iter().filter_map(|d| Some((*d, inside_of(dir, d)?))) {
            if self.conf_names(ns, of).iter().any(|n| n == name) {
                found.extend(conf_keys(of).into_iter().map(|k| (k.to_owned(), false)));
            }
        }
        (!found.is_empty()).then(|| found.into_iter().collect())
    }

    /// Writes a setting: ENOENT for an unknown key, EINVAL for a value out of its range.
    pub fn sysctl_set(&mut self, ns: NsId, key: &str, value: &str) -> Result<(), Errno> {
        let key = canonical(key);
        if Global::KEYS.contains(&key) {
            if !self.has_global(ns) {
                return Err(Errno::ENOENT);
            }
            return self.set_global(key, value);
        }
        if let Some(rest) = key.strip_prefix("net.ipv6.conf.") {
            return self.net.set_conf6(ns, rest, value);
        }
        if devconf::is_mine(key) {
            return devconf::store(&mut self.net, ns, key, value);
        }
        if key == RPS_DEFAULT {
            return rps::set_default_mask(&mut self.net, ns, value);
        }
        let sysctl = &mut self.net.ns.get_mut(ns).ok_or(Errno::ENOENT)?.sysctl;
        if !Sysctl::KEYS.contains(&key) {
            return neigh_sysctl::store(&mut self.net, ns, key, value);
        }
        sysctl.store(key, value)?;
        let forward = sysctl.ip_forward;
        match key {
            "net.ipv4.route.flush" => route::flush(&mut self.net, ns),
            "net.ipv4.ip_forward" => return devconf::set_forwarding(&mut self.net, ns, forward),
            _ => {}
        }
        Ok(())
    }

    fn set_global(&mut self, key: &str, value: &str) -> Result<(), Errno> {
        let mut next = self.net.sysctl.clone();
        next.store(key, value)?;
        if key == "net.core.rps_sock_flow_entries" {
            return rps::set_sock_flow_entries(&mut self.net, next.rps_sock_flow_entries);
        }
        self.net.napi.busy |= next.busy_read > 0 || next.busy_poll > 0;
        self.net.sysctl = next;
        Ok(())
    }
}

/// The device, `all` or `default` whose directory it is.
fn inside_of<'a>(dir: &'a str, of: &str) -> Option<&'a str> {
    dir.strip_prefix(of)?.strip_prefix('.')
}
