//! The control socket: how `exec`, `ps` and the viewing commands speak with a running jar.
//!
//! A message is a 32-bit little-endian length and that many bytes of JSON. The first one each way is [`Hello`]; then
//! the client sends [`Request`]s and gets one [`Reply`] each, in order (`Exec` gets two: started, ended). Bulk output
//! (captures, traces) goes to a descriptor that travels with the request, so that a slow reader delays nobody.
pub mod client;
pub mod frame;
pub(crate) mod server;
mod views;

pub use client::{Client, ClientError};
use serde::{Deserialize, Serialize};

/// Changes when a message changes its meaning.
pub const PROTOCOL: u32 = 1;

/// Longest message either side accepts.
pub const MAX_MESSAGE: usize = 64 << 20;

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub protocol: u32,
    pub version: String,
    pub pid: u32,
}

impl Hello {
    pub fn ours() -> Hello {
        Hello { protocol: PROTOCOL, version: env!("CARGO_PKG_VERSION").to_owned(), pid: std::process::id() }
    }

    /// One clear sentence when the other side cannot be understood.
    pub fn mismatch(&self) -> Option<String> {
        (self.protocol != PROTOCOL).then(|| {
            format!(
                "the jar was started by belljar {} (protocol {}), this is belljar {} (protocol {PROTOCOL}): use the same version for both",
                self.version,
                self.protocol,
                env!("CARGO_PKG_VERSION")
            )
        })
    }
}

/// What a client may ask. `host` is a host's name in the jar: `host` or `gw`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// What the jar is: [`JarInfo`] as `Reply::Value`.
    Info,
    /// A table of a host, `HOST` or `HOST@NETNS` as in all requests (`sockets`, `counters`, `links`, `addrs`, `routes`, `neighs`, `sysctls`, `proc:/proc/net/…`) as
    /// `Reply::Value`.
    View { host: String, what: String },
    /// `ip netns` of a host: `list`, `add` or `del` with a name; the names as `Reply::Value`.
    Netns { host: String, verb: String, name: String },
    /// Writes a setting.
    SysctlSet { host: String, key: String, value: String },
    /// A command line of `iptables` and its kin, the program's name first; `input` is what a restore reads. Answered as
    /// [`Words`].
    Tables { host: String, words: Vec<String>, input: String },
    /// A request of traffic control as netlink has it (message type, flags, fixed part and attributes). `Reply::Value` has
    /// the `messages` that answer it, and a `warning` or null.
    Tc { host: String, kind: u16, flags: u16, body: Vec<u8> },
    /// A request of NETLINK_ROUTE, header and all; `netns` is the namespace of the host that its IFLA_NET_NS_FD stands for.
    /// `Reply::Value` has the answers.
    Rtnetlink { host: String, message: Vec<u8>, netns: Option<String> },
    /// Changes a link's conditions (`("loss", "5%")`) and returns all of them as `Reply::Value`; without a name the one
    /// link that there is, or a list of all as `links`.
    Link {
        set: Vec<(String, String)>,
        #[serde(default)]
        link: Option<String>,
    },
    /// Copies packets of a host, as pcapng, to the descriptor that comes with the request, until it closes.
    Capture { host: String, device: Option<String> },
    /// Copies trace events, as JSON lines, to the descriptor that comes with the request, until it closes.
    Trace { host: String },
    /// Runs a program in a host; descriptors 0, 1, 2 come with the request.
    Exec(ExecRequest),
    /// Sends a signal to the program started on this connection.
    Signal { signal: i32 },
    /// Ends the jar as SIGTERM does.
    Stop,
}

/// What a command wrote, and its exit code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words {
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

/// A program to run in a jar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    pub host: String,
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: Option<String>,
    pub umask: Option<u32>,
    pub nofile: Option<(u64, u64)>,
}

/// What a jar answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    Ok,
    Value {
        value: serde_json::Value,
    },
    /// One sentence; `code` is the exit code for it.
    Error {
        message: String,
        code: u8,
    },
    Started {
        pid: u32,
    },
    /// The program ended: its code, or 128 + signal.
    Exited {
        code: u8,
    },
}

impl Reply {
    pub fn error(message: impl Into<String>) -> Reply {
        Reply::Error { message: message.into(), code: 1 }
    }
}

/// A running jar, for `ps`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JarInfo {
    pub name: String,
    pub pid: u32,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Process id of the program, 0 when it ended and the jar lingers.
    pub program_pid: u32,
    /// Seconds since it was started.
    pub age_s: u64,
    pub hosts: Vec<String>,
    /// Published ports as `127.0.0.1:8080->80/tcp`.
    pub ports: Vec<String>,
    pub processes: usize,
    pub sockets: usize,
}
