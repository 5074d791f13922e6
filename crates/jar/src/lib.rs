//! The supervisor: owns kernels, serves programs, gateway, control socket.
//!
//! [`run`] starts a program in a new jar; [`control`] speaks with a running one. Inside, `jar.rs` is the loop, `serve/`
//! answers calls, `pump/` moves payload, `gateway/` is the way to the machine's network.
#![forbid(unsafe_code)]

mod boot;
pub mod control;
mod devices;
mod gateway;
mod jar;
mod key;
mod life;
mod machine;
mod netlink;
mod options;
mod output;
mod packet_diag;
mod park;
mod pump;
mod record;
mod ring;
mod serve;
pub mod services;
mod sock_diag;
mod socks;
mod tc;
mod tree;
mod up;

pub use boot::run;
pub use options::{Ended, Herd, NetMode, Options, PublishSpec, Refused, RunError, Starved};
pub use up::up;
