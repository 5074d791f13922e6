//! IPv6 (Linux: `net/ipv6/`). The receive path is `input.rs`, the send path `output.rs`; addresses live in `addrconf.rs`,
//! routes in `fib.rs` and `route.rs`, neighbours are asked for by `ndisc.rs`.
//!
//! A new namespace begins with `disable_ipv6=1`, unlike on Linux: hosts of a lab say nothing on their links that nobody
//! asked for. [`Net::enable_ipv6`](crate::net::Net) turns it on.
pub mod addrconf;
pub mod anycast;
mod conf;
mod dad;
pub mod exthdrs;
pub mod fib;
pub mod flowlabel;
pub mod icmp;
pub mod icmp_rcv;
pub mod input;
pub(crate) mod ip_cmd;
pub mod mcast;
pub mod mcast_opt;
pub mod mld;
mod multipath;
pub mod ndisc;
pub mod output;
pub mod reassembly;
pub mod redirect;
pub mod route;
pub mod slaac;
pub mod stable;
pub mod txopts;

use crate::net::sysctl::Conf6;

/// What a namespace keeps for IPv6 (`struct netns_ipv6`).
#[derive(Clone, Debug)]
pub struct Ns6 {
    pub fib: fib::Fib6,
    /// Path MTUs learned.
    pub exceptions: route::Exceptions6,
    /// Next hops that routers told.
    pub redirects: redirect::Redirects,
    pub frags: reassembly::FragTable6,
    /// Flow labels that are leased.
    pub labels: flowlabel::Labels,
    /// Some device has `ignore_routes_with_linkdown`.
    pub ignores_linkdown: bool,
    /// `net.ipv6.conf.all` and `default`.
    pub conf_all: Conf6,
    pub conf_default: Conf6,
}

impl Default for Ns6 {
    fn default() -> Ns6 {
        let off = Conf6 { disable_ipv6: 1, ..Conf6::default() };
        Ns6 {
            fib: Default::default(),
            exceptions: Default::default(),
            redirects: Default::default(),
            frags: Default::default(),
            labels: Default::default(),
            ignores_linkdown: false,
            conf_all: Conf6 { accept_dad: 0, ..off },
            conf_default: off,
        }
    }
}
