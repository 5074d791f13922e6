//! The attributes of a device, as `/sys/class/net/DEV` has them: what is read, and what is written.
//!
//! Left out: `power`, `brforward`, `phys_*`. Whether an address was given or found, and names, are not remembered:
//! `addr_assign_type` is 0.
use super::Machine;
use crate::devices::Device;
use crate::tree::Node;
use belljar_abi::ethtool::{DUPLEX_FULL, SPEED_UNKNOWN};
use belljar_abi::rtnetlink::RTM_NEWLINK;
use belljar_abi::{self as abi, Errno};
use belljar_kernel::drivers::tun::Tun;
use belljar_kernel::ids::DevId;
use belljar_kernel::net::core::dev::{DevKind, NetDevice};
use belljar_kernel::net::core::net_sysfs::read_number;
use belljar_kernel::net::netlink::notify;

/// Attributes, and their permissions; the last three are of TUN and TAP devices.
pub const ATTRIBUTES: [(&str, u32); 30] = [
    ("addr_assign_type", 0o444),
    ("addr_len", 0o444),
    ("address", 0o444),
    ("broadcast", 0o444),
    ("carrier", 0o644),
    ("carrier_changes", 0o444),
    ("carrier_down_count", 0o444),
    ("carrier_up_count", 0o444),
    ("dev_id", 0o444),
    ("dev_port", 0o444),
    ("dormant", 0o444),
    ("duplex", 0o444),
    ("flags", 0o644),
    ("ifalias", 0o644),
    ("ifindex", 0o444),
    ("iflink", 0o444),
    ("link_mode", 0o444),
    ("mtu", 0o644),
    ("name_assign_type", 0o444),
    ("netdev_group", 0o644),
    ("operstate", 0o444),
    ("proto_down", 0o644),
    ("speed", 0o444),
    ("testing", 0o444),
    ("tx_queue_len", 0o644),
    ("type", 0o444),
    ("uevent", 0o644),
    ("group", 0o444),
    ("owner", 0o444),
    ("tun_flags", 0o444),
];

/// Of these, what can be written.
pub const WRITABLE: [&str; 7] = ["carrier", "flags", "ifalias", "mtu", "netdev_group", "proto_down", "tx_queue_len"];

const IFALIASZ: usize = 256;

fn hardware(address: &[u8]) -> String {
    address.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")
}

fn tun(d: &NetDevice) -> Option<&Tun> {
    match &d.kind {
        DevKind::Tun(t) => Some(t),
        _ => None,
    }
}

fn small(text: &str) -> Result<u32, Errno> {
    let value = read_number(text)?;
    u32::try_from(value).map_err(|_| Errno::ERANGE)
}

impl Machine {
    /// An attribute, or a link to a device above or below.
    pub fn attribute_node(&self, dev: &str, what: &str) -> Option<Node> {
        if let Some((_, to)) = self.device_links(dev).into_iter().find(|l| l.0 == what) {
            return Some(Node::Link(to));
        }
        let d = self.k.net.devs.get(self.k.net.dev_by_name(self.ns, dev)?)?;
        let there = !matches!(what, "group" | "owner" | "tun_flags") || tun(d).is_some();
        let found = ATTRIBUTES.iter().find(|a| a.0 == what).filter(|_| there)?;
        Some(Node::File { mode: found.1, size: 4096 })
    }

    /// `master`, `upper_NAME` and `lower_NAME`, with where they lead.
    pub fn device_links(&self, name: &str) -> Vec<(String, String)> {
        let Some(dev) = self.k.net.dev_by_name(self.ns, name) else { return Vec::new() };
        let Some(d) = self.k.net.devs.get(dev) else { return Vec::new() };
        let mut out = Vec::new();
        let here = |id: DevId| self.k.net.devs.get(id).filter(|o| o.ns == self.ns).map(|o| format!("../{}", o.name));
        let mut link = |kind: &str, to: Option<String>| {
            out.extend(to.map(|to| (kind.to_owned() + to.trim_start_matches("../"), to)));
        };
        d.uppers.iter().for_each(|u| link("upper_", here(*u)));
        link("upper_", d.master.and_then(here));
        for (id, o) in self.devs() {
            if o.master == Some(dev) || o.uppers.contains(&dev) {
                link("lower_", here(id));
            }
        }
        out.extend(d.master.and_then(here).map(|to| ("master".to_owned(), to)));
        out
    }

    /// What reading shows; nothing for what cannot be read now.
    pub fn attribute_text(&self, d: &Device, what: &str) -> Option<String> {
        let dev = self.k.net.dev_by_name(self.ns, &d.name)?;
        let n = self.k.net.devs.get(dev)?;
        let (address, broadcast) = d.addresses();
        let [came, went] = n.carrier_changes;
        let up = |text: String| n.up.then_some(text);
        let text = match what {
            "addr_assign_type" | "link_mode" | "proto_down" | "dev_port" => "0".to_owned(),
            "addr_len" => address.len().to_string(),
            "address" => hardware(&address),
            "broadcast" => hardware(&broadcast),
            "carrier" => up(u8::from(n.carrier).to_string())?,
            "carrier_changes" => (came + went).to_string(),
            "carrier_up_count" => came.to_string(),
            "carrier_down_count" => went.to_string(),
            "dev_id" => "0x0".to_owned(),
            "dormant" | "testing" => up("0".to_owned())?,
            "speed" => up(self.link_settings(n, dev)?.0.to_string())?,
            "duplex" => up(self.link_settings(n, dev)?.1.to_owned())?,
            "flags" => format!("{:#x}", flags(n)),
            "ifalias" if d.alias.is_empty() => return Some(String::new()),
            "ifalias" => d.alias.clone(),
            "ifindex" => d.index.to_string(),
            "iflink" => d.iflink.to_string(),
            "netdev_group" => d.group.to_string(),
            "mtu" => d.mtu.to_string(),
            // Named by the kernel in the order of appearance, or given; of a TUN device it is not known.
            "name_assign_type" if tun(n).is_some() => return None,
            "name_assign_type" => if d.loopback() { "2" } else { "3" }.to_owned(),
            "operstate" => match d.operstate {
                abi::IF_OPER_UNKNOWN => "unknown",
                abi::IF_OPER_LOWERLAYERDOWN => "lowerlayerdown",
                abi::IF_OPER_UP => "up",
                _ => "down",
            }
            .to_owned(),
            "tx_queue_len" => d.txqlen.to_string(),
            "type" => d.hatype.to_string(),
            "uevent" => format!("{}INTERFACE={}\nIFINDEX={}", kind_line(n), d.name, d.index),
            // They keep nobody out, and are not remembered.
            "owner" | "group" => "-1".to_owned(),
            "tun_flags" => format!("{:#x}", tun_flags(tun(n)?)),
            _ => return None,
        };
        Some(text + "\n")
    }

    /// Speed and duplex, of devices that have them; -1 is unknown.
    fn link_settings(&self, d: &NetDevice, dev: DevId) -> Option<(i32, &'static str)> {
        match &d.kind {
            DevKind::Veth(_) | DevKind::Tun(_) => Some((10_000, "full")),
            DevKind::Nic(n) => {
                let (speed, duplex) = n.link();
                let duplex = if duplex == DUPLEX_FULL { "full" } else { "unknown" };
                Some((if speed == SPEED_UNKNOWN { -1 } else { speed as i32 }, duplex))
            }
            // The quickest of its ports.
            DevKind::Bridge(_) => {
                let ports = self.devs().filter(|(_, p)| p.master == Some(dev) && p.up && p.carrier);
                let speed = ports.filter_map(|(id, p)| self.link_settings(p, id)).map(|s| s.0).max();
                Some((speed.unwrap_or(-1), "unknown"))
            }
            DevKind::Vlan(_) | DevKind::Macvlan(_) => {
                let lower = d.iflink()?;
                self.link_settings(self.k.net.devs.get(lower)?, lower)
            }
            _ => None,
        }
    }

    /// Why an attribute of this device takes no value at all.
    pub fn refuses_attribute(&self, dev: DevId, file: &str) -> Option<Errno> {
        let d = self.k.net.devs.get(dev)?;
        let carries = matches!(d.kind, DevKind::Dummy | DevKind::Tun(_));
        match file {
            "carrier" if !carries => Some(Errno::EOPNOTSUPP),
            "carrier" => (!d.up).then_some(Errno::EINVAL),
            "proto_down" => Some(Errno::EOPNOTSUPP),
            _ => None,
        }
    }

    /// Writes one of [`WRITABLE`].
    pub fn set_attribute(&mut self, dev: DevId, file: &str, text: &str) -> Result<(), Errno> {
        if let Some(e) = self.refuses_attribute(dev, file) {
            return Err(e);
        }
        let net = &mut self.k.net;
        match file {
            "carrier" => {
                let on = read_number(text)? != 0;
                net.set_carrier(dev, on);
            }
            "flags" => return net.set_if_flags(dev, small(text)? as u16),
            "mtu" => net.set_mtu(dev, small(text)?)?,
            "tx_queue_len" => net.set_txqlen(dev, small(text)?)?,
            "netdev_group" => {
                let group = small(text)?;
                net.devs.get_mut(dev).ok_or(Errno::ENODEV)?.group = group;
            }
            "ifalias" if text.len() >= IFALIASZ => return Err(Errno::EINVAL),
            "ifalias" => {
                let d = net.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
                d.alias = Some(text.to_owned()).filter(|t| !t.is_empty());
            }
            _ => return Err(Errno::EACCES),
        }
        notify::link(net, RTM_NEWLINK, dev);
        Ok(())
    }
}

/// As the device has them: whether it runs is told elsewhere, and who listens to all counts, whoever asked.
fn flags(d: &NetDevice) -> u32 {
    let own = d.flags() & 0xffff & !(abi::IFF_RUNNING | abi::IFF_PROMISC | abi::IFF_ALLMULTI);
    let all = [(d.promiscuity > 0, abi::IFF_PROMISC), (d.allmulti > 0, abi::IFF_ALLMULTI)];
    all.into_iter().filter(|b| b.0).fold(own, |all, b| all | b.1)
}

/// A device of packets has no information in front of them unless its reader asked; that is not remembered.
fn tun_flags(t: &Tun) -> u16 {
    let kind = if t.tap { abi::IFF_TAP } else { abi::IFF_TUN };
    let bits = [(t.persist, abi::IFF_PERSIST), (t.multi_queue, abi::IFF_MULTI_QUEUE)];
    bits.into_iter().filter(|b| b.0).fold(kind | abi::IFF_NO_PI, |all, b| all | b.1)
}

fn kind_line(d: &NetDevice) -> &'static str {
    match d.kind {
        DevKind::Bridge(_) => "DEVTYPE=bridge\n",
        DevKind::Vlan(_) => "DEVTYPE=vlan\n",
        DevKind::Vxlan(_) => "DEVTYPE=vxlan\n",
        _ => "",
    }
}
