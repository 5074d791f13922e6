//! Network namespaces of a host beside its own: by name, as `ip netns` has them.
use super::Machine;
use belljar_abi::Errno;
use belljar_kernel::ids::NsId;

/// Names that a host has room for.
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

    /// A new namespace, with lo, which is down. EEXIST for a name that there is.
    pub fn add_netns(&mut self, name: &str) -> Result<NsId, Errno> {
        if name.is_empty() || name.len() > 255 || name.contains(['/', '@', '\0']) || name.starts_with('.') {
            return Err(Errno::EINVAL);
        }
        if self.names.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        if self.names.len() >= MOST {
            return Err(Errno::ENOSPC);
        }
        let ns = self.k.net.add_ns(name);
        self.k.net.enable_ipv6(ns);
        self.names.insert(name.to_owned(), ns);
        Ok(ns)
    }

    /// The name goes, and the namespace with it. EBUSY while sockets are in it; ENOENT for a name that there is not.
    pub fn del_netns(&mut self, name: &str) -> Result<(), Errno> {
        let ns = *self.names.get(name).ok_or(Errno::ENOENT)?;
        self.k.del_ns(ns, Some(self.home))?;
        self.names.remove(name);
        Ok(())
    }
}
