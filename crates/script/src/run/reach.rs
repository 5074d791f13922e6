//! Where a script leads, for whoever wants to go on from there in another way (the fuzzer): the kernel after some of its
//! lines, with its descriptors and what it sent.
use super::machine::{HOST_MAC, Machine, PEER_MAC};
use super::{Happened, Run};
use crate::ast::Script;
use belljar_kernel::Kernel;
use belljar_kernel::ids::*;
use belljar_wire::ethernet::Mac;
use std::net::{IpAddr, Ipv4Addr};

/// Packets that are remembered.
const MOST_SENT: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct Reached {
    pub kernel: Kernel,
    /// The kernel's time.
    pub now: u64,
    pub dev: DevId,
    pub task: TaskId,
    /// Descriptors of sockets in the order of the script's numbers.
    pub fds: Vec<u32>,
    pub sleeping: Vec<CallId>,
    pub local: Ipv4Addr,
    pub remote: Ipv4Addr,
    pub bind_port: u16,
    pub host_mac: Mac,
    pub peer_mac: Mac,
    /// The last IP packets that the kernel sent.
    pub sent: Vec<Vec<u8>>,
}

/// Runs the first `lines` lines that do something; `None` when one of them does not go as it says, or when the script
/// speaks IPv6.
pub fn reach(script: &Script, lines: usize) -> Option<Reached> {
    let s = &script.settings;
    let (IpAddr::V4(local), IpAddr::V4(remote)) = (s.local, s.remote) else { return None };
    let mut run = Run::new(script, Machine::new(s).ok()?);
    for (n, event) in script.events.iter().enumerate().take(lines) {
        run.at = n;
        run.event(event).ok()?;
        run.healthy(event.span).ok()?;
    }
    run.note_sent();
    let packets = run.trace.iter().rev().filter_map(|(_, what)| match what {
        Happened::Out(p) => p.bytes(false),
        _ => None,
    });
    let mut sent: Vec<Vec<u8>> = packets.take(MOST_SENT).collect();
    sent.reverse();
    let (now, dev, task) = (run.m.kernel_now(), run.m.dev, run.m.task);
    let fds = run.fds.values().copied().collect();
    let sleeping = run.blocked.iter().map(|b| b.id).collect();
    Some(Reached {
        kernel: run.m.k,
        now,
        dev,
        task,
        fds,
        sleeping,
        local,
        remote,
        bind_port: s.bind_port,
        host_mac: HOST_MAC,
        peer_mac: PEER_MAC,
        sent,
    })
}
