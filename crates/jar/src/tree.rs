//! The trees under `/proc` and `/sys` that tell about networking, as names: what is a directory, a file, a link. Contents
//! are `Machine::proc_text`'s.
//!
//! Paths here are where a file really is on Linux: `/proc/self/net/tcp`, not `/proc/net/tcp`, and
//! `/sys/devices/virtual/net/eth0`, not `/sys/class/net/eth0`, which is a link.
use crate::machine::Machine;
use crate::machine::attributes::{ATTRIBUTES, WRITABLE};
use belljar_abi::Errno;
use belljar_kernel::drivers::bridge_sysfs::{BRIDGE_FILES, PORT_FILES};
use belljar_kernel::fs::proc::{FILES, vlan};
use belljar_kernel::ids::DevId;
use belljar_kernel::net::core::net_sysfs::{BQL_FILES, IRQ_FILES, NAPI_FILES};
use belljar_kernel::net::netfilter::xt::DIRS as XT_DIRS;
use std::collections::BTreeMap;

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Dir {
        mode: u32,
    },
    File {
        mode: u32,
        size: u64,
    },
    Link(String),
    /// The machine's own, within our trees: AF_UNIX is not the stack's.
    Host,
}

pub const PROC_NET: &str = "/proc/self/net";
const SYS_NET: &str = "/proc/sys/net";
const CLASS: &str = "/sys/class/net";
const DEVICES: &str = "/sys/devices/virtual/net";
/// Interrupts of the cards.
const IRQ: &str = "/proc/irq";
/// Of every transmit queue.
const TX_FILES: [(&str, u32); 4] =
    [("traffic_class", 0o444), ("tx_maxrate", 0o644), ("tx_timeout", 0o444), ("xps_cpus", 0o644)];
/// Of a transmit queue of a card with a speed.
const BQL: &str = "byte_queue_limits";
const TREES: [&str; 5] = [PROC_NET, SYS_NET, CLASS, DEVICES, IRQ];
/// Files elsewhere, and their permissions.
const FILES_ELSEWHERE: [(&str, u32); 8] = [
    ("/proc/softirqs", 0o444),
    ("/proc/interrupts", 0o444),
    ("/proc/slabinfo", 0o400),
    ("/proc/buddyinfo", 0o444),
    ("/proc/zoneinfo", 0o444),
    ("/proc/meminfo", 0o444),
    ("/proc/sys/fs/nr_open", 0o644),
    ("/proc/sys/fs/file-max", 0o644),
];

/// In the order of `rtnl_link_stats64`.
const STATISTICS: [&str; 24] = [
    "rx_packets",
    "tx_packets",
    "rx_bytes",
    "tx_bytes",
    "rx_errors",
    "tx_errors",
    "rx_dropped",
    "tx_dropped",
    "multicast",
    "collisions",
    "rx_length_errors",
    "rx_over_errors",
    "rx_crc_errors",
    "rx_frame_errors",
    "rx_fifo_errors",
    "rx_missed_errors",
    "tx_aborted_errors",
    "tx_carrier_errors",
    "tx_fifo_errors",
    "tx_heartbeat_errors",
    "tx_window_errors",
    "rx_compressed",
    "tx_compressed",
    "rx_nohandler",
];

/// What is below a directory; the directory itself is the empty path.
fn below<'a>(path: &'a str, dir: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(dir)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// Whether the path is one of the stack's, if it is anything.
pub fn owned(path: &str) -> bool {
    TREES.iter().any(|t| below(path, t).is_some()) || FILES_ELSEWHERE.iter().any(|f| f.0 == path)
}

/// The name under which the kernel knows a file of [`PROC_NET`].
fn kernels_name(path: &str) -> String {
    below(path, PROC_NET).map_or_else(|| path.to_owned(), |rest| format!("/proc/net/{rest}"))
}

/// The list of `recent` that a file of `/proc/net/xt_recent` is.
fn recent_list(path: &str) -> Option<&str> {
    below(path, PROC_NET)?.strip_prefix("xt_recent/")
}

const DIR: Node = Node::Dir { mode: 0o555 };
const SYSFS_DIR: Node = Node::Dir { mode: 0o755 };

impl Machine {
    /// What lies at a path that is [`owned`].
    pub fn node(&self, path: &str) -> Option<Node> {
        if let Some((_, mode)) = FILES_ELSEWHERE.iter().find(|f| f.0 == path) {
            return Some(Node::File { mode: *mode, size: 0 });
        }
        if let Some(rest) = below(path, PROC_NET) {
            return match rest {
                "" | "netfilter" | "stat" | "vlan" => Some(DIR),
                _ if XT_DIRS.contains(&rest) => Some(DIR),
                "unix" => Some(Node::Host),
                _ if self.vlan_files(path).is_some_and(|all| all.iter().any(|f| rest.ends_with(f.as_str()))) => {
                    Some(Node::File { mode: 0o600, size: 0 })
                }
                _ if rest.split_once('/').is_some_and(|(dir, _)| XT_DIRS.contains(&dir)) => self.xt_node(rest),
                _ => FILES.contains(&kernels_name(path).as_str()).then_some(Node::File { mode: 0o444, size: 0 }),
            };
        }
        if let Some(rest) = below(path, SYS_NET) {
            return self.setting_node(rest);
        }
        if let Some(rest) = below(path, CLASS) {
            let known = || self.devices().iter().any(|d| d.name == rest);
            return match rest {
                "" => Some(SYSFS_DIR),
                _ => known().then(|| Node::Link(format!("../../devices/virtual/net/{rest}"))),
            };
        }
        if let Some(rest) = below(path, IRQ) {
            return self.irq_node(rest);
        }
        self.device_node(below(path, DEVICES)?)
    }

    /// A file that rules with a name make: `xt_recent/NAME` and its kin.
    fn xt_node(&self, rest: &str) -> Option<Node> {
        let (dir, name) = rest.split_once('/')?;
        let there = self.k.net.xt_files(self.ns, dir).iter().any(|f| f == name);
        let mode = if dir == "xt_recent" { 0o644 } else { 0o444 };
        there.then_some(Node::File { mode, size: 0 })
    }

    /// What is in the directory of VLANs, for it and what is below it.
    fn vlan_files(&self, path: &str) -> Option<Vec<String>> {
        let rest = below(path, PROC_NET).and_then(|p| below(p, "vlan"))?;
        let mut all = vlan::names(&self.k.net, self.ns);
        all.push("config".to_owned());
        all.retain(|name| rest.is_empty() || name == rest);
        Some(all)
    }

    fn setting_node(&self, rest: &str) -> Option<Node> {
        if rest == "unix" || rest.starts_with("unix/") {
            return Some(Node::Host);
        }
        let key = if rest.is_empty() { "net".to_owned() } else { format!("net.{}", rest.replace('/', ".")) };
        if self.k.has_sysctl(self.ns, &key) {
            return Some(Node::File { mode: 0o644, size: 0 });
        }
        self.k.sysctl_entries(self.ns, &key).map(|_| DIR)
    }

    fn device_node(&self, rest: &str) -> Option<Node> {
        if rest.is_empty() {
            return Some(SYSFS_DIR);
        }
        let (dev, what) = rest.split_once('/').unwrap_or((rest, ""));
        if !self.devices().iter().any(|d| d.name == dev) {
            return None;
        }
        if let Some(name) = what.strip_prefix("statistics/") {
            return STATISTICS.contains(&name).then_some(Node::File { mode: 0o444, size: 4096 });
        }
        if let Some(queue) = what.strip_prefix("queues/") {
            return self.queue_node(dev, queue);
        }
        if let Some(node) = self.bridge_node(dev, what) {
            return Some(node);
        }
        match what {
            "" | "statistics" | "queues" => Some(SYSFS_DIR),
            "subsystem" => Some(Node::Link("../../../../class/net".to_owned())),
            _ if NAPI_FILES.contains(&what) => Some(Node::File { mode: 0o644, size: 4096 }),
            _ => self.attribute_node(dev, what),
        }
    }

    /// `bridge` and `brif` of a bridge, `brport` of one of its ports, and what is in them.
    fn bridge_node(&self, dev: &str, what: &str) -> Option<Node> {
        let id = self.k.net.dev_by_name(self.ns, dev)?;
        if let Some(port) = what.strip_prefix("brif/") {
            let there = self.k.bridge_ports(id).iter().any(|p| p == port);
            return there.then(|| Node::Link(format!("../../{port}/brport")));
        }
        match what {
            "bridge" | "brif" => self.k.bridge_file(id, "bridge/stp_state").map(|_| SYSFS_DIR),
            "brport" => self.k.bridge_file(id, "brport/state").map(|_| SYSFS_DIR),
            _ => {
                let writable = self.k.bridge_file(id, what)?;
                let mode = if what.ends_with("/flush") { 0o200 } else { 0o444 | if writable { 0o200 } else { 0 } };
                Some(Node::File { mode, size: 4096 })
            }
        }
    }

    /// A file below `bridge` or `brport`.
    fn bridge_path<'a>(&self, path: &'a str) -> Option<(DevId, &'a str)> {
        let (dev, file) = below(path, DEVICES)?.split_once('/')?;
        let dev = self.k.net.dev_by_name(self.ns, dev)?;
        self.k.bridge_file(dev, file).map(|_| (dev, file))
    }

    fn irq_node(&self, rest: &str) -> Option<Node> {
        let (vector, file) = rest.split_once('/').unwrap_or((rest, ""));
        if !rest.is_empty() {
            let known = self.k.vectors(self.ns);
            vector.parse().ok().filter(|v: &u32| known.contains(v) && v.to_string() == vector)?;
        }
        if file.is_empty() {
            return Some(DIR);
        }
        let (_, writable) = IRQ_FILES.iter().find(|f| f.0 == file)?;
        Some(Node::File { mode: if *writable { 0o644 } else { 0o444 }, size: 0 })
    }

    /// A queue's directory and its file: what a device has not got is not there.
    fn queue_node(&self, dev: &str, rest: &str) -> Option<Node> {
        let (queue, file) = rest.split_once('/').unwrap_or((rest, ""));
        let dev = self.k.net.dev_by_name(self.ns, dev)?;
        let (rx, tx) = self.k.queue_counts(dev);
        let there =
            queue_number(queue, "rx-").is_some_and(|n| n < rx) || queue_number(queue, "tx-").is_some_and(|n| n < tx);
        if !there {
            return None;
        }
        let tx = TX_FILES.iter().find(|f| f.0 == file && queue.starts_with("tx-"));
        match file {
            "" => Some(SYSFS_DIR),
            _ if tx.is_some() => tx.map(|f| Node::File { mode: f.1, size: 4096 }),
            BQL => self.queue_text(dev, &format!("{rest}/limit")).map(|_| SYSFS_DIR),
            _ => {
                let told = BQL_FILES.iter().any(|f| !f.1 && file.strip_prefix(BQL) == Some(&format!("/{}", f.0)));
                self.queue_text(dev, rest).map(|_| Node::File { mode: if told { 0o444 } else { 0o644 }, size: 4096 })
            }
        }
    }

    /// `rx-N/rps_cpus`, `rx-N/rps_flow_cnt`, `tx-N/xps_cpus`, `tx-N/byte_queue_limits/*`.
    fn queue_text(&self, dev: DevId, rest: &str) -> Option<String> {
        let (queue, file) = rest.split_once('/')?;
        match file {
            "rps_cpus" => self.k.rps_cpus(dev, queue_number(queue, "rx-")?),
            "rps_flow_cnt" => self.k.rps_flow_cnt(dev, queue_number(queue, "rx-")?),
            "xps_cpus" => self.k.xps_cpus(dev, queue_number(queue, "tx-")?),
            // One class, to which no other belongs; of a single queue nothing is told.
            "traffic_class" => (self.k.queue_counts(dev).1 > 1).then(|| "0".to_owned()),
            // Queues of no card here have a limit of their own, or were ever stopped for too long.
            "tx_maxrate" | "tx_timeout" => Some("0".to_owned()),
            _ => self.k.bql_attr(dev, queue_number(queue, "tx-")?, below(file, BQL)?),
        }
    }

    /// One of a device's [`NAPI_FILES`].
    fn napi_file<'a>(&self, path: &'a str) -> Option<(DevId, &'a str)> {
        let (dev, file) = below(path, DEVICES)?.split_once('/')?;
        let dev = self.k.net.dev_by_name(self.ns, dev)?;
        NAPI_FILES.contains(&file).then_some((dev, file))
    }

    /// Writes a file that is no setting of `/proc/sys`: masks of CPUs, how devices poll.
    pub fn tree_write(&mut self, path: &str, text: &str) -> Result<(), Errno> {
        if let Some((vector, file)) = below(path, IRQ).and_then(|r| r.split_once('/')) {
            let vector = vector.parse().map_err(|_| Errno::ENOENT)?;
            return self.k.set_irq_affinity(self.ns, vector, file, text);
        }
        if let Some((dev, file)) = self.napi_file(path) {
            return self.k.set_napi_attr(dev, file, text);
        }
        if let Some((dev, file)) = self.bridge_path(path) {
            return self.k.set_bridge_attr(dev, file, text);
        }
        if let Some((dev, file)) = self.attribute_path(path) {
            return self.set_attribute(dev, file, text);
        }
        if let Some(list) = recent_list(path) {
            return self.k.net.xt_recent_write(self.ns, list, text);
        }
        let (dev, rest) = below(path, DEVICES).and_then(|r| r.split_once("/queues/")).ok_or(Errno::EACCES)?;
        let (queue, file) = rest.split_once('/').ok_or(Errno::EACCES)?;
        let dev = self.k.net.dev_by_name(self.ns, dev).ok_or(Errno::ENODEV)?;
        match file {
            "rps_cpus" => self.k.set_rps_cpus(dev, queue_number(queue, "rx-").ok_or(Errno::ENOENT)?, text),
            "rps_flow_cnt" => self.k.set_rps_flow_cnt(dev, queue_number(queue, "rx-").ok_or(Errno::ENOENT)?, text),
            "xps_cpus" => self.k.set_xps_cpus(dev, queue_number(queue, "tx-").ok_or(Errno::ENOENT)?, text),
            _ => {
                let file = below(file, BQL).ok_or(Errno::EACCES)?;
                self.k.set_bql_attr(dev, queue_number(queue, "tx-").ok_or(Errno::ENOENT)?, file, text)
            }
        }
    }

    /// Why nothing can be written there, whatever it is.
    pub fn refuses_writes(&self, path: &str) -> Option<Errno> {
        let (dev, file) = below(path, DEVICES)?.split_once('/')?;
        let dev = self.k.net.dev_by_name(self.ns, dev)?;
        let threads = || self.k.net.devs.get(dev).is_some_and(|d| d.nic().is_some());
        match file {
            "threaded" => (!threads()).then_some(Errno::EOPNOTSUPP),
            _ if file.ends_with("/tx_maxrate") => Some(Errno::EOPNOTSUPP),
            _ => self.refuses_attribute(dev, file),
        }
    }

    /// An attribute of a device that can be written.
    fn attribute_path<'a>(&self, path: &'a str) -> Option<(DevId, &'a str)> {
        let (dev, file) = below(path, DEVICES)?.split_once('/')?;
        let dev = self.k.net.dev_by_name(self.ns, dev)?;
        WRITABLE.contains(&file).then_some((dev, file))
    }

    /// Whether a program may write it ([`Machine::tree_write`]).
    pub fn can_write(&self, path: &str) -> bool {
        let ours = below(path, IRQ).is_some() || below(path, DEVICES).is_some_and(|r| r.contains("/queues/"));
        let ours = ours || self.napi_file(path).is_some() || self.bridge_path(path).is_some();
        let ours = ours || self.attribute_path(path).is_some() || recent_list(path).is_some();
        ours && matches!(self.node(path), Some(Node::File { mode: 0o644 | 0o200, .. }))
    }

    /// What is in a directory.
    pub fn entries(&self, dir: &str) -> Vec<(String, Node)> {
        if let Some(rest) = below(dir, SYS_NET) {
            return self.setting_entries(rest);
        }
        let names: Vec<String> = match below(dir, DEVICES).filter(|r| !r.is_empty()) {
            Some(rest) => self.attribute_names(rest),
            None if below(dir, IRQ).is_some_and(str::is_empty) => {
                self.k.vectors(self.ns).iter().map(u32::to_string).collect()
            }
            None if below(dir, IRQ).is_some() => IRQ_FILES.iter().map(|f| f.0.to_owned()).collect(),
            None if below(dir, PROC_NET).is_some_and(|d| d == "vlan") => self.vlan_files(dir).unwrap_or_default(),
            None if below(dir, PROC_NET).is_some_and(|d| XT_DIRS.contains(&d)) => {
                self.k.net.xt_files(self.ns, below(dir, PROC_NET).unwrap_or(""))
            }
            None if below(dir, PROC_NET).is_some() => {
                let inside = format!("{}/", kernels_name(dir).trim_end_matches('/'));
                let here = FILES.iter().filter_map(|f| f.strip_prefix(&inside)).filter(|f| !f.contains('/'));
                let here = here.chain(XT_DIRS.iter().copied().filter(|_| dir == PROC_NET));
                let more: &[&str] = if dir == PROC_NET { &["netfilter", "stat", "unix", "vlan"] } else { &[] };
                here.chain(more.iter().copied()).map(str::to_owned).collect()
            }
            None => self.devices().into_iter().map(|d| d.name).collect(),
        };
        names.into_iter().filter_map(|n| self.node(&format!("{dir}/{n}")).map(|node| (n, node))).collect()
    }

    fn attribute_names(&self, rest: &str) -> Vec<String> {
        let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let queues = || {
            let dev = self.k.net.dev_by_name(self.ns, rest.split('/').next()?)?;
            let (rx, tx) = self.k.queue_counts(dev);
            Some((0..rx).map(|n| format!("rx-{n}")).chain((0..tx).map(|n| format!("tx-{n}"))).collect())
        };
        let ports = || {
            let dev = self.k.net.dev_by_name(self.ns, rest.split('/').next()?)?;
            Some(self.k.bridge_ports(dev))
        };
        match rest.split_once('/').map(|r| r.1) {
            None => {
                let attributes: Vec<&str> = ATTRIBUTES.iter().map(|a| a.0).collect();
                // What a device has not got is left out by who asks.
                let more = ["bridge", "brif", "brport", "statistics", "queues", "subsystem"];
                let mut all: Vec<String> = own(&[&attributes[..], &NAPI_FILES, &more].concat());
                all.extend(self.device_links(rest).into_iter().map(|l| l.0));
                all
            }
            Some("bridge") => own(&BRIDGE_FILES.map(|f| f.0)),
            Some("brport") => own(&PORT_FILES.map(|f| f.0)),
            Some("brif") => ports().unwrap_or_default(),
            Some("statistics") => own(&STATISTICS),
            Some("queues") => queues().unwrap_or_default(),
            Some(q) if q.ends_with(BQL) => BQL_FILES.iter().map(|f| f.0.to_owned()).collect(),
            Some(q) if q.starts_with("queues/") => {
                let tx: Vec<&str> = TX_FILES.iter().map(|f| f.0).collect();
                own(&[&["rps_cpus", "rps_flow_cnt", BQL], &tx[..]].concat())
            }
            Some(_) => Vec::new(),
        }
    }

    fn setting_entries(&self, rest: &str) -> Vec<(String, Node)> {
        let dir = if rest.is_empty() { "net".to_owned() } else { format!("net.{}", rest.replace('/', ".")) };
        let node = |dir| if dir { DIR } else { Node::File { mode: 0o644, size: 0 } };
        let all = self.k.sysctl_entries(self.ns, &dir).unwrap_or_default();
        let mut found: BTreeMap<String, Node> = all.into_iter().map(|(name, dir)| (name, node(dir))).collect();
        if rest.is_empty() {
            found.insert("unix".to_owned(), Node::Host);
        }
        found.into_iter().collect()
    }

    /// Text of a file of the trees.
    pub fn tree_text(&mut self, path: &str) -> Option<String> {
        if let Some((vector, file)) = below(path, IRQ).and_then(|r| r.split_once('/')) {
            return self.k.irq_attr(self.ns, vector.parse().ok()?, file).map(|t| t + "\n");
        }
        if let Some((dev, rest)) = below(path, DEVICES).and_then(|r| r.split_once("/queues/")) {
            let dev = self.k.net.dev_by_name(self.ns, dev)?;
            return self.queue_text(dev, rest).map(|t| t + "\n");
        }
        if let Some((dev, file)) = self.napi_file(path) {
            return self.k.napi_attr(dev, file).map(|t| t + "\n");
        }
        if let Some((dev, file)) = self.bridge_path(path) {
            return self.k.bridge_attr(dev, file).map(|t| t + "\n");
        }
        let Some((name, what)) = below(path, DEVICES).and_then(|r| r.split_once('/')) else {
            return self.proc_text(&kernels_name(path));
        };
        let d = self.devices().into_iter().find(|d| d.name == name)?;
        if let Some(at) = what.strip_prefix("statistics/").and_then(|n| STATISTICS.iter().position(|s| *s == n)) {
            return Some(format!("{}\n", d.stats.get(at).copied().unwrap_or(0)));
        }
        self.attribute_text(&d, what)
    }
}

fn queue_number(name: &str, prefix: &str) -> Option<usize> {
    let digits = name.strip_prefix(prefix)?;
    digits.parse().ok().filter(|n: &usize| n.to_string() == digits)
}
