//! What `belljar run` was asked for, checked by the command line already, and how a run can fail.
use belljar_abi::Errno;
use belljar_capture::watch::Watch;
use belljar_host::port::Kind;
use belljar_host::spawn::SpawnError;
use belljar_kernel::Kernel;
use belljar_link::{Conditions, Stats};
use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// A `-p [IP:]HOST:PORT[/udp]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishSpec {
    pub ip: IpAddr,
    /// 0 lets the machine choose; the choice is printed.
    pub host_port: u16,
    pub port: u16,
    pub udp: bool,
    /// The machine it leads to: 0 is the program's own host.
    pub host: usize,
}

impl fmt::Display for PublishSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = std::net::SocketAddr::new(self.ip, self.host_port);
        write!(f, "{at}->{}/{}", self.port, if self.udp { "udp" } else { "tcp" })
    }
}

/// How the jar is connected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NetMode {
    /// Through the gateway, with the machine's own sockets.
    #[default]
    User,
    /// Only lo.
    None,
    /// The link's other end is this interface of the machine.
    Port(Kind, String),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Options {
    pub name: Option<String>,
    pub publish: Vec<PublishSpec>,
    pub sysctls: Vec<(String, String)>,
    /// Settings of the program's NIC: `rx-ring`, `tx-ring`, `rx-usecs`, `rx-frames`, `channels`, `tso`, `gro`.
    pub nic: Vec<(String, String)>,
    /// Processors of the program's machine.
    pub cpus: u32,
    /// Bytes of its memory, when they are said (`mem=`).
    pub mem: Option<u64>,
    pub conditions: Conditions,
    pub mtu: u32,
    pub ip: (Ipv4Addr, u8),
    /// `None`: no IPv6.
    pub ip6: Option<(Ipv6Addr, u8)>,
    pub net: NetMode,
    pub seed: Option<u64>,
    pub drop_caps: bool,
    pub linger: bool,
    pub with_proc: bool,
    /// Payload and polls are calls of the stack too, instead of the host kernel's on the pair.
    pub exact: bool,
    pub pcap: Option<PathBuf>,
    pub trace: Option<PathBuf>,
    /// Watch the run for a report: [`Ended::watch`].
    pub watch: bool,
    /// Added to the environment of the program.
    pub env: Vec<(OsString, OsString)>,
    pub program: OsString,
    pub args: Vec<OsString>,
}

impl Options {
    pub fn new(program: impl Into<OsString>, args: Vec<OsString>) -> Options {
        Options {
            name: None,
            publish: Vec::new(),
            sysctls: Vec::new(),
            nic: Vec::new(),
            cpus: 1,
            mem: None,
            conditions: Conditions::default(),
            mtu: 1500,
            ip: (Ipv4Addr::new(10, 0, 2, 15), 24),
            ip6: Some((Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x15), 64)),
            net: NetMode::User,
            seed: None,
            drop_caps: false,
            linger: false,
            with_proc: false,
            exact: false,
            pcap: None,
            trace: None,
            watch: false,
            env: Vec::new(),
            program: program.into(),
            args,
        }
    }
}

/// Why a run could not begin: one sentence and its exit code.
#[derive(Debug)]
pub struct RunError {
    pub message: String,
    pub code: u8,
}

impl RunError {
    pub fn new(message: impl Into<String>) -> RunError {
        RunError { message: message.into(), code: 125 }
    }

    pub fn usage(message: impl Into<String>) -> RunError {
        RunError { message: message.into(), code: 2 }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RunError {}

impl From<SpawnError> for RunError {
    fn from(e: SpawnError) -> RunError {
        RunError { code: e.exit_code(), message: e.to_string() }
    }
}

/// An option that the stack does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// setsockopt, else getsockopt.
    pub set: bool,
    pub level: i32,
    pub name: i32,
    pub errno: Errno,
    pub count: u64,
}

/// Calls that found no descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Starved {
    pub program: String,
    /// The listener of an accept; `None`: `socket`.
    pub at: Option<(IpAddr, u16)>,
    /// EMFILE: the program's limit; ENFILE: the supervisor's.
    pub errno: Errno,
    /// RLIMIT_NOFILE of the program.
    pub limit: Option<u64>,
    pub count: u64,
}

/// Threads that waited for the same connections and found them taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Herd {
    pub program: String,
    pub at: (IpAddr, u16),
    /// accept() calls that found nothing, because others had been there.
    pub vain: u64,
    /// Connections that the listener gave until the last of these.
    pub taken: u64,
    pub threads: usize,
}

/// A run that ended, with everything the end-of-run account is told from.
#[derive(Debug)]
pub struct Ended {
    /// The program's exit code, or 128 + signal.
    pub code: u8,
    pub host: Kernel,
    pub gateway: Option<Kernel>,
    /// The other hosts of a network from a file.
    pub others: Vec<(String, Kernel)>,
    pub host_name: String,
    /// Link statistics from the host, and to it; its conditions at the end.
    pub link: (Stats, Stats),
    pub conditions: Conditions,
    /// The links of a network from a file by name, their first end's statistics first.
    pub cables: Vec<(String, (Stats, Stats))>,
    pub name: String,
    pub seed: u64,
    /// Nanoseconds from the start to the end.
    pub lasted: u64,
    /// Socket options that the programs asked for and did not get.
    pub refused: Vec<Refused>,
    pub starved: Vec<Starved>,
    pub herds: Vec<Herd>,
    pub watch: Option<Box<Watch>>,
    /// Notified calls that were served.
    pub calls: u64,
    /// What could not be written or done on the way, one sentence each.
    pub warnings: Vec<String>,
}
