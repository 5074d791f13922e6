//! A script as values: settings, then events with their times.
use crate::packet::Opt;
use crate::problem::Span;
use belljar_abi::Errno;
use std::net::Ipv4Addr;

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
    pub local: Ipv4Addr,
    pub remote: Ipv4Addr,
    pub gateway: Ipv4Addr,
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
    /// Whether ARP requests are answered.
    pub arp: bool,
    /// ARP is the script's own: packets are lines, and nothing is known at the start.
    pub arp_lines: bool,
    /// A second interface, eth1, with this address and the length of its prefix.
    pub second: Option<(Ipv4Addr, u8)>,
    /// The program has root's network capabilities.
    pub root: bool,
    pub nofile: u32,
    /// The device is a TUN device: what it takes is copied and gone.
    pub tun: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            local: Ipv4Addr::new(192, 168, 0, 1),
            remote: Ipv4Addr::new(192, 0, 2, 1),
            gateway: Ipv4Addr::new(192, 168, 0, 254),
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
    Ip(Ipv4Addr),
    /// `192.0.2.1:80`
    Addr(Ipv4Addr, u16),
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
    pub addr: Option<Ipv4Addr>,
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
    pub id: Option<u16>,
    pub options: Option<Vec<u8>>,
    /// The link's broadcast address is its destination.
    pub link_broadcast: bool,
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
    pub kind: u8,
    pub code: u8,
    pub mtu: Option<u16>,
    /// Identifier and number of an echo; the router that a redirect names; the pointer of a parameter problem.
    pub echo: Option<(u16, u16)>,
    pub gateway: Option<Ipv4Addr>,
    pub pointer: Option<u8>,
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
