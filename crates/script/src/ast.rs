//! A script as values: settings, then events with their times.
use crate::packet::Opt;
use crate::problem::Span;
use belljar_abi::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Nanoseconds of script time, from its start.
pub type Nanos = u64;

/// See the module.
#[derive(Clone, Debug)]
pub struct Script {
    pub name: String,
    pub text: String,
    pub settings: Settings,
    /// From the first lines: `# deviation: REASON`. Such a script has to fail.
    pub deviation: Option<String>,
    pub events: Vec<Event>,
}

impl Script {
    /// Lines that do something.
    pub fn lines(&self) -> usize {
        self.events.len()
    }
}

/// The `--name=value` lines.
#[derive(Clone, Debug)]
pub struct Settings {
    pub version: Version,
    pub local: IpAddr,
    pub remote: IpAddr,
    pub gateway: IpAddr,
    /// Length of the local network's prefix.
    pub prefix: u8,
    /// Local port of a passive script: what `bind(3, ..., ...)` takes.
    pub bind_port: u16,
    /// Remote port of an active script: what `connect(3, ..., ...)` takes.
    pub connect_port: u16,
    /// Remote port of a passive script.
    pub remote_port: u16,
    pub mtu: u32,
    pub tolerance: Nanos,
    pub seed: u64,
    /// Whether questions for neighbours are answered.
    pub arp: bool,
    /// ARP, neighbour discovery and MLD are the script's own: packets are lines, and nothing is known at the start.
    pub arp_lines: bool,
    /// A second interface, eth1, with this address and the length of its prefix.
    pub second: Option<(IpAddr, u8)>,
    /// The program has root's network capabilities.
    pub root: bool,
    pub nofile: u32,
    /// The device is a TUN device: what it takes is copied and gone.
    pub tun: bool,
}

/// `--ip_version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V4,
    V6,
    /// Sockets of AF_INET6, packets of IPv4.
    Mapped,
}

/// Local, remote and gateway where a script names none. A host with IPv6 has those of IPv4 as well.
pub const V4: (Ipv4Addr, Ipv4Addr, Ipv4Addr) =
    (Ipv4Addr::new(192, 168, 0, 1), Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 168, 0, 254));
pub const V6: (Ipv6Addr, Ipv6Addr, Ipv6Addr) = (
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xfe),
);

impl Settings {
    /// An address as a socket of this script takes it.
    pub fn mapped(&self, a: IpAddr) -> IpAddr {
        match (self.version, a) {
            (Version::Mapped, IpAddr::V4(a)) => a.to_ipv6_mapped().into(),
            _ => a,
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            version: Version::V4,
            local: V4.0.into(),
            remote: V4.1.into(),
            gateway: V4.2.into(),
            prefix: 24,
            bind_port: 8080,
            connect_port: 8080,
            remote_port: 40_000,
            mtu: 1500,
            // A tick of the timer wheel and the rounding to it.
            tolerance: 5_000_000,
            seed: 1,
            arp: true,
            arp_lines: false,
            second: None,
            root: true,
            nofile: 1024,
            tun: false,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Event {
    /// From the time to the end of the line.
    pub span: Span,
    pub when: When,
    pub what: What,
}

/// When an event is due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct When {
    pub base: Base,
    /// After the base.
    pub at: Nanos,
    /// End of a `~` range, after the base.
    pub window: Option<Nanos>,
    /// End of a `...` call, after the base.
    pub until: Option<Nanos>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    Start,
    /// `+`: the event before.
    Last,
    /// `*`: whenever it comes.
    Any,
}

#[derive(Clone, Debug)]
pub enum What {
    Call(CallLine),
    Inject(Packet),
    Expect(Packet),
    /// `> none`: nothing is sent up to this time.
    Silence,
    Commands(Vec<Command>),
    TcpInfo {
        fd: Expr,
        conds: Vec<Cond>,
    },
    Counters(Vec<Cond>),
    Sockets(Vec<Cond>),
    /// Signals that files sent so far.
    Signals(Vec<Cond>),
}

/// A setting: key and value; or what the `ip` command is told.
#[derive(Clone, Debug)]
pub enum Command {
    Sysctl(Span, String, String),
    Ip(Span, String),
}

#[derive(Clone, Debug)]
pub struct CallLine {
    pub name: String,
    pub name_span: Span,
    pub args: Vec<Expr>,
    /// The whole call without its result.
    pub span: Span,
    pub expect: Expected,
    pub expect_span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    Any,
    Value(i64),
    Error(Errno),
}

#[derive(Clone, Debug)]
pub struct Expr {
    pub kind: ExprKind,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// `...`
    Default,
    Int(i64),
    Str(Vec<u8>),
    Ip(IpAddr),
    /// `192.0.2.1:80`, `[2001:db8::1]:80`
    Addr(IpAddr, u16),
    List(Vec<Expr>),
    Struct(Vec<(String, Expr)>),
}

impl PartialEq for Expr {
    fn eq(&self, other: &Expr) -> bool {
        self.kind == other.kind
    }
}

/// `name OP value` in an assertion.
#[derive(Clone, Debug)]
pub struct Cond {
    pub span: Span,
    pub name: String,
    pub op: Op,
    pub value: i64,
    /// The value as written.
    pub shown: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// All bits of the value are set.
    Has,
}

impl Op {
    pub fn holds(self, a: i64, b: i64) -> bool {
        match self {
            Op::Eq => a == b,
            Op::Ne => a != b,
            Op::Lt => a < b,
            Op::Le => a <= b,
            Op::Gt => a > b,
            Op::Ge => a >= b,
            Op::Has => a & b == b,
        }
    }
}

/// A packet line.
#[derive(Clone, Debug)]
pub struct Packet {
    pub span: Span,
    /// The interface: 0, or 1 for eth1.
    pub dev: u8,
    /// Source and destination when the line names them; an address of its own is rarer than a port.
    pub ends: Option<(End, End)>,
    pub ip: IpSpec,
    pub body: Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub addr: Option<IpAddr>,
    pub port: u16,
}

/// What stands in `[...]` before the packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpSpec {
    /// The two ECN bits, or either ECT.
    pub ecn: Option<Ecn>,
    pub tos: Option<u8>,
    pub ttl: Option<u8>,
    pub df: Option<bool>,
    /// A wrong transport checksum.
    pub badsum: bool,
    /// Identification, and options as bytes.
    pub id: Option<u32>,
    pub options: Option<Vec<u8>>,
    /// IPv6: the flow label, and extension headers in front of the payload.
    pub flow: Option<u32>,
    pub ext: Vec<Ext>,
    /// The link's broadcast address is its destination.
    pub link_broadcast: bool,
}

/// An extension header: its number, and its bytes behind the two that name the next one and the length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ext {
    pub kind: u8,
    pub body: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ecn {
    Bits(u8),
    AnyEct,
}

#[derive(Clone, Debug)]
pub enum Body {
    Tcp(TcpSpec),
    Udp(Payload),
    Icmp(IcmpSpec),
    Frag(FragSpec),
    /// The message.
    Igmp(Vec<u8>),
    /// A message of neighbour discovery or MLD, without its checksum.
    Nd(Vec<u8>),
    Arp(ArpSpec),
    /// Any other protocol.
    Proto(u8, Payload),
}

/// Bytes `start..end` of the payload of an IP packet.
#[derive(Clone, Debug)]
pub struct FragSpec {
    pub start: u32,
    pub end: u32,
    /// More fragments; `None`: unless it ends where the packet ends.
    pub mf: Option<bool>,
    pub of: Option<Box<Body>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpSpec {
    pub request: bool,
    pub sender: Ipv4Addr,
    pub target: Ipv4Addr,
    /// Last byte of the sender's hardware address.
    pub mac: Option<u8>,
    pub broadcast: Option<bool>,
}

#[derive(Clone, Debug)]
pub struct TcpSpec {
    pub flags: u16,
    pub seq: u32,
    pub len: u32,
    pub data: Option<Vec<u8>>,
    pub ack: Option<u32>,
    pub window: Option<u16>,
    pub urg: Option<u16>,
    pub options: Options,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Options {
    /// `<...>`
    Any,
    List(Vec<Opt>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    pub len: usize,
    pub data: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IcmpSpec {
    /// Of ICMPv6.
    pub v6: bool,
    pub kind: u8,
    pub code: u8,
    pub mtu: Option<u32>,
    /// Identifier and number of an echo; the router that a redirect names; the pointer of a parameter problem.
    pub echo: Option<(u16, u16)>,
    pub gateway: Option<Ipv4Addr>,
    pub pointer: Option<u32>,
    /// Payload of an echo.
    pub payload: Option<Payload>,
    /// The packet that it is about; `None`: the last one that the kernel sent.
    pub about: Option<About>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    Tcp { seq: u32 },
    Udp { len: usize },
}
