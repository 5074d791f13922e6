//! Network namespaces of a host beside its own: by name, as `ip netns` has them.
use super::Machine;
use belljar_abi::Errno;
use belljar_kernel::ids::NsId;

/// Namespaces that a host has room for.
const MOST: usize = 1024;

impl Machine {
    /// What calls are about from now on; [`Machine::leave`] ends it.
    pub fn enter(&mut self, ns: NsId) {
        self.ns = ns;
        self.set_process_ns(ns);
    }

    pub fn leave(&mut self) {
        self.ns = self.home;
        self.set_process_ns(self.home);
    }

    fn set_process_ns(&mut self, ns: NsId) {
        let process = self.k.tasks.tasks.get(self.task).map(|t| t.process);
        if let Some(p) = process.and_then(|p| self.k.tasks.procs.get_mut(p)) {
            p.ns = ns;
        }
    }

    /// What a namespace beside the host's own is called; without a name, by the number that the stack has for it.
    pub fn name_of(&self, ns: NsId) -> Option<String> {
        let name = || self.names.iter().find(|(_, n)| **n == ns).map(|(name, _)| name.clone());
        (ns != self.home).then(|| name().unwrap_or_else(|| format!("#{}", ns.slot())))
    }

    /// A new namespace, with lo, which is down. EEXIST for a name that there is.
    pub fn add_netns(&mut self, name: &str) -> Result<(), Errno> {
        check(name)?;
        if self.names.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let ns = self.anonymous_netns()?;
        self.name_netns(name, ns)
    }

    /// One without a name.
    pub fn anonymous_netns(&mut self) -> Result<NsId, Errno> {
        if self.k.net.ns.len() >= MOST {
            return Err(Errno::ENOSPC);
        }
        let ns = self.k.net.add_ns("netns");
        self.k.net.enable_ipv6(ns);
        Ok(ns)
    }

    pub fn name_netns(&mut self, name: &str, ns: NsId) -> Result<(), Errno> {
        check(name)?;
        if self.names.insert(name.to_owned(), ns).is_some() {
            return Err(Errno::EBUSY);
        }
        if let Some(n) = self.k.net.ns.get_mut(ns)
            && ns != self.home
        {
            n.name = name.to_owned();
        }
        Ok(())
    }

    /// The name goes; the namespace when nobody is in it. ENOENT for a name that there is not.
    pub fn forget_netns(&mut self, name: &str) -> Result<(), Errno> {
        self.names.remove(name).map(drop).ok_or(Errno::ENOENT)
    }
}

/// What a file under `/run/netns` may be called.
fn check(name: &str) -> Result<(), Errno> {
    let bad = name.is_empty() || name.len() > 255 || name.contains(['/', '@', '\0']) || name.starts_with('.');
    if bad { Err(Errno::EINVAL) } else { Ok(()) }
}
