//! A network as a file: hosts, links with conditions, bridges, addresses, routes, translation, programs and workloads.
//!
//! [`parse`] reads and checks the text ([`Problem`] says the line), [`build::host`] makes the devices of one host in its
//! kernel. What runs in the hosts is the caller's: real programs in a jar, workloads in a lab.
#![forbid(unsafe_code)]

pub mod build;
mod model;
mod read;
mod toml;

pub use model::*;
pub use read::parse;
pub use toml::Problem;
