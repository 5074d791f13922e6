//! What a file says, checked: names resolved to indices, units to numbers.
use belljar_link::Conditions;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The host that stands for the machine outside, as an end of a link.
pub const OUTSIDE: &str = "outside";
/// What the device of a link to [`OUTSIDE`] has when the file gives it no address.
pub const OUTSIDE_V4: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 0, 2, 15), 24);
pub const OUTSIDE_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x15), 64);

pub type Cidr = (IpAddr, u8);

/// A whole file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topology {
    pub name: Option<String>,
    pub seed: Option<u64>,
    /// Of every host.
    pub sysctls: Vec<(String, String)>,
    pub hosts: Vec<Host>,
    pub links: Vec<Link>,
    pub workloads: Vec<Workload>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Host {
    pub name: String,
    /// Forwards packets of both versions of IP.
    pub forward: bool,
    /// Bytes of memory, when they are said.
    pub mem: Option<u64>,
    pub sysctls: Vec<(String, String)>,
    /// By device.
    pub addresses: Vec<(String, Cidr)>,
    /// Mbit/s of cards.
    pub speeds: Vec<(String, u32)>,
    /// Lists at XDP by device, as `belljar xdp set dev DEVICE` has them.
    pub xdp: Vec<(String, String)>,
    pub bridges: Vec<Bridge>,
    pub routes: Vec<Route>,
    /// Devices through which what leaves has their address.
    pub masquerade: Vec<String>,
    pub publish: Vec<Publish>,
    /// Commands that run one after another before any program starts.
    pub setup: Vec<Command>,
    pub programs: Vec<Program>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Bridge {
    pub name: String,
    pub ports: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// `None` is the default route.
    pub to: Option<Cidr>,
    pub via: Option<IpAddr>,
    pub dev: Option<String>,
    pub line: usize,
}

/// `[IP:]PORT:PORT[/udp]`: a port of the machine outside that leads to one of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish {
    pub ip: IpAddr,
    /// 0: the machine chooses.
    pub outer: u16,
    pub port: u16,
    pub udp: bool,
}

/// What a shell runs, or a program with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub argv: Vec<String>,
    /// As the file has it.
    pub text: String,
    pub line: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub command: Command,
    /// Meant to stay: it is told to end when all others have ended.
    pub service: bool,
    /// Starts when somebody listens on these ports of these hosts.
    pub after: Vec<(usize, u16)>,
    pub env: Vec<(String, String)>,
}

/// One end of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Device { host: usize, dev: String },
    Outside,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// `client:eth0-router:eth0` without a name of its own.
    pub name: String,
    pub ends: [End; 2],
    /// From the first end to the second, and back.
    pub conditions: [Conditions; 2],
    pub mtu: u32,
}

/// What a lab does in the place of programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    pub kind: Kind,
    pub from: usize,
    pub to: usize,
    /// An address of `to`.
    pub address: IpAddr,
    pub port: u16,
    /// Nanoseconds after the start.
    pub at_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One TCP connection that carries so many bytes; every one is checked.
    Stream { bytes: u64 },
    /// So many questions and answers of so many bytes, one after another, over one TCP connection.
    Ask { count: u64, bytes: u64 },
}

impl Topology {
    pub fn host(&self, name: &str) -> Option<usize> {
        self.hosts.iter().position(|h| h.name == name)
    }

    /// The link to the machine outside, the host at its other end and the device there.
    pub fn outside(&self) -> Option<(usize, usize, &str)> {
        self.links.iter().enumerate().find_map(|(n, l)| match &l.ends {
            [End::Device { host, dev }, End::Outside] | [End::Outside, End::Device { host, dev }] => {
                Some((n, *host, dev.as_str()))
            }
            _ => None,
        })
    }

    /// Devices that links give a host, with the number of the link and of its end.
    pub fn plugs(&self, host: usize) -> impl Iterator<Item = (usize, usize, &str)> {
        self.links.iter().enumerate().flat_map(move |(n, l)| {
            l.ends.iter().enumerate().filter_map(move |(end, e)| match e {
                End::Device { host: h, dev } if *h == host => Some((n, end, dev.as_str())),
                _ => None,
            })
        })
    }
}

impl Host {
    pub fn first_address(&self, six: bool) -> Option<IpAddr> {
        self.addresses.iter().map(|(_, c)| c.0).find(|a| a.is_ipv6() == six && !a.is_loopback())
    }
}
