//! The built-in experiments.
mod admin;
pub mod bufferbloat;
mod deny;
mod device;
pub mod file;
mod fragments;
pub mod goodput;
mod herd;
mod mischief;
mod odd;
mod offload;
pub mod polling;
mod random;
mod rings;
mod topology;
pub mod transfer;
mod workload;

use crate::lab::Lab;
use crate::report::Report;
use crate::settings::{Known, Settings};

/// What `lab list` shows.
#[derive(Clone, Copy, Debug)]
pub struct Experiment {
    pub name: &'static str,
    pub about: &'static str,
    pub settings: &'static [Known],
    pub(crate) run: fn(&mut Lab, u64, &Settings, &mut Report) -> Result<(), String>,
}

pub const ALL: &[Experiment] = &[
    Experiment {
        name: "transfer",
        about: "one TCP stream over a link with delay and loss, every byte checked",
        settings: transfer::KNOWN,
        run: transfer::run,
    },
    Experiment {
        name: "goodput",
        about: "what arrives over a hard link, for a table of links and each congestion control",
        settings: goodput::KNOWN,
        run: goodput::run,
    },
    Experiment {
        name: "bufferbloat",
        about: "a stream and a small question through a slow router: a long pfifo, and its cure by fq_codel",
        settings: bufferbloat::KNOWN,
        run: bufferbloat::run,
    },
    Experiment {
        name: "ring-overflow",
        about: "datagrams faster than a card's ring is emptied: a longer ring, more channels, RPS",
        settings: rings::OVERFLOW,
        run: rings::overflow,
    },
    Experiment {
        name: "coalescing",
        about: "fewer interrupts and longer waits: rx-usecs",
        settings: rings::COALESCING,
        run: rings::coalescing,
    },
    Experiment {
        name: "budget",
        about: "netdev_budget and netdev_budget_usecs: who is squeezed, and when ksoftirqd takes over",
        settings: rings::BUDGET,
        run: rings::budget,
    },
    Experiment {
        name: "polling",
        about: "interrupts, put off, by a thread, or the reader looks itself: napi_defer_hard_irqs, threaded, SO_BUSY_POLL",
        settings: polling::POLLING,
        run: polling::polling,
    },
    Experiment {
        name: "adaptive",
        about: "adaptive-rx: short waits while there is little, few interrupts while there is much",
        settings: polling::ADAPTIVE,
        run: polling::adaptive,
    },
    Experiment {
        name: "bql",
        about: "a router whose card is slow: what fq_codel is good for without and with byte queue limits",
        settings: bufferbloat::BQL,
        run: bufferbloat::bql,
    },
    Experiment {
        name: "offload",
        about: "packets and CPU time for each megabyte with GRO and TSO on and off; NET_RX and NET_TX",
        settings: offload::OFFLOAD,
        run: offload::offload,
    },
    Experiment {
        name: "backlog",
        about: "a veth whose packets are received on another, slower CPU: netdev_max_backlog",
        settings: offload::BACKLOG,
        run: offload::backlog,
    },
    Experiment {
        name: "fragments",
        about: "datagrams of several packets over a link with loss: one that is lost loses all, and memory fills with parts",
        settings: fragments::FRAGMENTS,
        run: fragments::fragments,
    },
    Experiment {
        name: "herd",
        about: "workers that wait for one port: how many a connection wakes, by accept, poll, epoll, EPOLLEXCLUSIVE, SO_REUSEPORT",
        settings: herd::HERD,
        run: herd::herd,
    },
    Experiment {
        name: "xdp",
        about: "datagrams that nobody wants: dropped by netfilter, by generic XDP, in the card's poll",
        settings: deny::XDP,
        run: deny::xdp,
    },
    Experiment {
        name: "random",
        about: "a random small network with faults and workloads; every invariant after every step",
        settings: random::KNOWN,
        run: random::run,
    },
];
