//! The Linux network stack as a sans-I/O value: no clock, no threads, no sockets of its own.
//!
//! Start at [`kernel::Kernel`]; the receive path begins in `drivers/`, the send path in `syscall/message.rs`.
#![forbid(unsafe_code)]

pub mod check;
pub mod drivers;
pub mod env;
pub mod fs;
pub mod ids;
pub mod kernel;
#[path = "lib/mod.rs"]
pub mod lib;
pub mod mem;
pub mod net;
pub mod syscall;
pub mod task;
pub mod view;

pub use kernel::{Kernel, Output};
