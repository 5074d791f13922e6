//! TCP through the gateway: outbound connections, published ports, and the splice between the two sides of each.
//!
//! Each side is read only while the other side takes what was read, half-closes and resets pass both ways.
use super::{Inner, craft};
use crate::gateway::FlowId;
use crate::jar::Jar;
use crate::key::Key;
use crate::machine::READ;
use crate::pump::stream::HAND_OVER;
use belljar_abi::{self as abi, Errno, SockAddr};
use belljar_host::{epoll, errno, fd, net};
use belljar_kernel::task::call::{Fd, Payload};
use belljar_wire::flow::FlowKey;
use belljar_wire::ipv4::IPPROTO_TCP;
use belljar_wire::{Frame, Segs};
use std::io::{ErrorKind, IoSlice};
use std::net::{Shutdown, SocketAddr, TcpStream};

/// One look at the inner side.
const CHUNK: usize = 128 * 1024;
const EVENTS: u32 = epoll::IN | epoll::RDHUP | epoll::ET;

/// How far a connection is.
#[derive(Debug)]
pub enum Stage {
    /// The real server has not answered; the inner SYN is held.
    Outer {
        syn: Option<Box<Frame>>,
        key: FlowKey,
    },
    /// The real server accepted; the inner handshake runs through listener `inner`.
    Inner {
        key: FlowKey,
        inner: usize,
    },
    /// A published port: the inner connect runs.
    InnerConnect,
    Open,
}

/// A connection with an outer and an inner side.
#[derive(Debug)]
pub struct Flow {
    pub stage: Stage,
    pub outer: TcpStream,
    pub machine: usize,
    pub inner: Option<Fd>,
    to_inner: Segs,
    to_outer: Segs,
    /// The outer side may have something to read.
    outer_ready: bool,
    /// Its end was announced: a short read is not the last one.
    outer_ends: bool,
    outer_eof: bool,
    inner_eof: bool,
    inner_fin: bool,
    outer_fin: bool,
    /// EPOLLOUT of the outer side is asked for.
    watch_out: bool,
    pub since: u64,
}

impl Flow {
    fn new(stage: Stage, outer: TcpStream, machine: usize, inner: Option<Fd>, now: u64) -> Flow {
        // A connect that runs is told by it; otherwise only who could not write asks.
        let watch_out = !matches!(stage, Stage::InnerConnect);
        Flow {
            stage,
            outer,
            machine,
            inner,
            to_inner: Segs::new(),
            to_outer: Segs::new(),
            outer_ready: true,
            outer_ends: false,
            outer_eof: false,
            inner_eof: false,
            inner_fin: false,
            outer_fin: false,
            watch_out,
            since: now,
        }
    }

    /// Nothing taken from inside waits for the outer side.
    pub fn drained(&self) -> bool {
        self.to_outer.is_empty()
    }
}

impl Jar {
    fn add_flow(&mut self, flow: Flow) -> Option<FlowId> {
        let id = self.gateway.flows.insert(flow);
        let f = self.gateway.flows.get(id)?;
        let out = if f.watch_out { epoll::OUT } else { 0 };
        if self.ep.add(&f.outer, EVENTS | out, Key::Flow(id).pack()).is_err() {
            self.gateway.flows.remove(id);
            return None;
        }
        Some(id)
    }

    /// A SYN to somewhere outside: connect there first.
    pub(super) fn outbound_syn(&mut self, frame: Frame, key: FlowKey) -> Option<Frame> {
        if self.gateway.host_ip.contains(&Some(key.dst)) || self.gateway_owns(IPPROTO_TCP, key.dst, key.dport) {
            return Some(frame);
        }
        if let Some(id) = self.gateway.expected.get(&key) {
            // Sent again: still held, or on its way to the listener that waits for it.
            let held = matches!(self.gateway.flows.get(*id).map(|f| &f.stage), Some(Stage::Outer { .. }));
            return (!held).then_some(frame);
        }
        if !self.gateway.room() {
            return None;
        }
        match net::tcp_connect(self.gateway.target(key.dst, key.dport)) {
            Ok(outer) => {
                let stage = Stage::Outer { syn: Some(Box::new(frame)), key };
                if let Some(id) = self.add_flow(Flow::new(stage, outer, self.gateway.at, None, self.now)) {
                    self.gateway.expected.insert(key, id);
                }
            }
            Err(e) => self.refuse(&frame, errno(&e)),
        }
        None
    }

    /// Tells the program what the machine was told.
    fn refuse(&mut self, syn: &Frame, errno: i32) {
        let answer = match Errno(errno) {
            Errno::ENETUNREACH => craft::unreachable(syn, true),
            Errno::EHOSTUNREACH | Errno::EACCES | Errno::EPERM => craft::unreachable(syn, false),
            // As the machine had no answer, the program gets none either.
            Errno::ETIMEDOUT => None,
            _ => craft::reset(syn),
        };
        if let Some(answer) = answer {
            self.link.ba.push(self.now, answer);
        }
    }

    /// The outer side of a connection changed.
    pub(crate) fn flow_outer(&mut self, id: FlowId, events: u32) {
        let Some(f) = self.gateway.flows.get_mut(id) else { return };
        f.outer_ready |= events & !epoll::OUT != 0;
        f.outer_ends |= events & (epoll::RDHUP | epoll::HUP | epoll::ERR) != 0;
        match &mut f.stage {
            Stage::Outer { syn, key } => {
                let (key, syn) = (*key, syn.take());
                match net::connect_result(&f.outer) {
                    // Writable or not: a spurious edge before the answer.
                    Ok(()) if f.outer.peer_addr().is_err() => {
                        f.stage = Stage::Outer { syn, key };
                    }
                    Ok(()) => self.outer_connected(id, key, syn),
                    Err(e) => {
                        if let Some(syn) = syn {
                            self.refuse(&syn, errno(&e));
                        }
                        self.end_flow(id, false);
                    }
                }
            }
            Stage::Inner { .. } | Stage::InnerConnect => {}
            Stage::Open => self.splice(id),
        }
    }

    fn outer_connected(&mut self, id: FlowId, key: FlowKey, syn: Option<Box<Frame>>) {
        let at = SocketAddr::new(key.dst, key.dport);
        self.hold_address(key.dst);
        let there = self.gateway.places.get(&(self.gateway.at, IPPROTO_TCP, at)).copied();
        let n = match there.map(Ok).unwrap_or_else(|| self.open_inner_tcp(self.gateway.at, at, None)) {
            Ok(n) => n,
            Err(e) => {
                if let Some(syn) = syn {
                    self.refuse(&syn, e.0);
                }
                return self.end_flow(id, true);
            }
        };
        if let Some(Some(Inner::Tcp { expected, .. })) = self.gateway.inners.get_mut(n) {
            *expected += 1;
        }
        if let Some(f) = self.gateway.flows.get_mut(id) {
            f.stage = Stage::Inner { key, inner: n };
        }
        if let (Some(syn), Some(m)) = (syn, self.machines.get_mut(self.gateway.at)) {
            m.frame_in(self.now, *syn);
        }
    }

    /// Connections that finished their handshake at an inner listener.
    pub(super) fn inner_accept(&mut self, n: usize) {
        loop {
            let Some(Some(Inner::Tcp { machine, fd, at, target, .. })) = self.gateway.inners.get(n) else { return };
            let (machine, lfd, at, target) = (*machine, *fd, *at, *target);
            let Some(m) = self.machines.get_mut(machine) else { return };
            let Ok((inner, peer)) = m.accept(self.now, lfd) else { return };
            let Some((src, sport)) = peer.to_ip() else { continue };
            if let Some(target) = target {
                self.service_accept(machine, inner, target);
                continue;
            }
            let key = FlowKey { src, sport, dst: at.ip(), dport: at.port(), proto: IPPROTO_TCP };
            let Some(id) = self.gateway.expected.remove(&key) else {
                if let Some(m) = self.machines.get_mut(machine) {
                    m.abort(self.now, inner);
                }
                continue;
            };
            if let Some(f) = self.gateway.flows.get_mut(id) {
                f.inner = Some(inner);
                f.stage = Stage::Open;
            }
            if let Some(m) = self.machines.get_mut(machine) {
                let _ = m.watch(self.now, inner, Key::Flow(id));
            }
            self.no_longer_expected(n);
            self.splice(id);
        }
    }

    /// A connection to a service of ours (a loopback nameserver): it is accepted already, the outer side follows.
    fn service_accept(&mut self, machine: usize, inner: Fd, target: SocketAddr) {
        let outer = net::tcp_connect(target);
        let Some(m) = self.machines.get_mut(machine) else { return };
        let Ok(outer) = outer else { return m.abort(self.now, inner) };
        if let Some(id) = self.add_flow(Flow::new(Stage::Open, outer, machine, Some(inner), self.now))
            && let Some(m) = self.machines.get_mut(machine)
        {
            let _ = m.watch(self.now, inner, Key::Flow(id));
        }
    }

    fn no_longer_expected(&mut self, n: usize) {
        if let Some(Some(Inner::Tcp { expected, target: None, .. })) = self.gateway.inners.get_mut(n) {
            *expected = expected.saturating_sub(1);
            if *expected == 0 {
                self.drop_inner(n);
            }
        }
    }

    /// Clients at a published port.
    pub(crate) fn published(&mut self, n: u32) {
        // A bound per turn keeps a flood of clients from starving the rest; the listener is level-triggered.
        for _ in 0..64 {
            let Some(p) = self.gateway.publish.get(n as usize) else { return };
            let (port, host, six) = (p.port, p.host, p.six);
            let Ok(outer) = net::accept(&p.outer) else { return };
            let (Some(to), now) = (self.inward(IPPROTO_TCP, port, six, host), self.now) else { return };
            let Some(m) = self.machines.get_mut(self.gateway.at) else { return };
            let family = if to.is_ipv4() { abi::AF_INET } else { abi::AF_INET6 };
            let Ok(inner) = m.socket(now, family, abi::SOCK_STREAM, 0) else {
                net::reset_on_close(&outer);
                continue;
            };
            let _ = m.set_flag(now, inner, abi::SOL_TCP, abi::TCP_NODELAY);
            let Some(id) = self.add_flow(Flow::new(Stage::InnerConnect, outer, self.gateway.at, Some(inner), now))
            else {
                if let Some(m) = self.machines.get_mut(self.gateway.at) {
                    m.close(now, inner);
                }
                continue;
            };
            let Some(m) = self.machines.get_mut(self.gateway.at) else { return };
            let _ = m.watch(now, inner, Key::Flow(id));
            match m.connect(now, inner, SockAddr::ip(to, port)) {
                Ok(()) => self.flow_open(id),
                Err(Errno::EINPROGRESS) => {}
                Err(_) => self.end_flow(id, true),
            }
        }
    }

    fn flow_open(&mut self, id: FlowId) {
        if let Some(f) = self.gateway.flows.get_mut(id) {
            f.stage = Stage::Open;
        }
        self.splice(id);
    }

    /// The inner side of a connection changed.
    pub(crate) fn flow_inner(&mut self, id: FlowId, events: u32) {
        let Some(f) = self.gateway.flows.get(id) else { return };
        match f.stage {
            Stage::InnerConnect if events & (abi::EPOLLERR | abi::EPOLLHUP) != 0 => self.end_flow(id, true),
            Stage::InnerConnect if events & abi::EPOLLOUT != 0 => self.flow_open(id),
            Stage::Open => self.splice(id),
            _ => {}
        }
    }

    fn splice(&mut self, id: FlowId) {
        let ok = self.splice_in(id).and_then(|()| self.splice_out(id));
        let Some(f) = self.gateway.flows.get(id) else { return };
        match ok {
            Err(()) => self.end_flow(id, true),
            Ok(()) if f.inner_fin && f.outer_fin => self.end_flow(id, false),
            Ok(()) => {}
        }
    }

    /// Outer to inner. `Err` means reset.
    fn splice_in(&mut self, id: FlowId) -> Result<(), ()> {
        let now = self.now;
        let Some(f) = self.gateway.flows.get_mut(id) else { return Ok(()) };
        let (Some(inner), Some(m)) = (f.inner, self.machines.get_mut(f.machine)) else { return Ok(()) };
        loop {
            if !f.to_inner.is_empty() {
                match m.send(now, inner, Payload::Segs(f.to_inner.clone())) {
                    Ok(n) => f.to_inner.advance(n),
                    Err(Errno::EAGAIN) => return Ok(()),
                    Err(_) => return Err(()),
                }
                if !f.to_inner.is_empty() {
                    return Ok(());
                }
            }
            if f.outer_eof {
                if !f.inner_fin {
                    f.inner_fin = true;
                    let _ = m.shutdown(now, inner, abi::SHUT_WR);
                }
                return Ok(());
            }
            if !f.outer_ready {
                return Ok(());
            }
            let got = m.read_page(&f.outer, READ);
            // Less than there was room for: that was all, and more of it makes a new edge.
            f.outer_ready = got.as_ref().is_ok_and(|seg| seg.len() == READ || f.outer_ends);
            match got {
                Ok(seg) if seg.is_empty() => f.outer_eof = true,
                Ok(seg) if seg.len() >= HAND_OVER => f.to_inner = Segs::from(seg),
                Ok(seg) => {
                    let sent = match m.send(now, inner, Payload::Bytes(seg.as_slice())) {
                        Ok(n) => n,
                        Err(Errno::EAGAIN) => 0,
                        Err(_) => return Err(()),
                    };
                    f.to_inner = Segs::from(seg.as_slice().get(sent..).unwrap_or(&[]).to_vec());
                    m.k.net.pool.give_seg(seg);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(()),
            }
        }
    }

    /// Inner to outer. `Err` means reset.
    fn splice_out(&mut self, id: FlowId) -> Result<(), ()> {
        let now = self.now;
        let Some(f) = self.gateway.flows.get_mut(id) else { return Ok(()) };
        let (Some(inner), Some(m)) = (f.inner, self.machines.get_mut(f.machine)) else { return Ok(()) };
        loop {
            while !f.to_outer.is_empty() {
                let slices: Vec<IoSlice<'_>> = f.to_outer.iter().take(64).map(|p| IoSlice::new(p.as_slice())).collect();
                // The last bytes and the end behind them make one packet.
                let sent = match f.inner_eof {
                    true => fd::send_more(&f.outer, &slices),
                    false => fd::send_vectored(&f.outer, &slices),
                };
                match sent {
                    Ok(n) => m.passed(&mut f.to_outer, n),
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {
                        if !f.watch_out {
                            f.watch_out = true;
                            let _ = self.ep.modify(&f.outer, EVENTS | epoll::OUT, Key::Flow(id).pack());
                        }
                        return Ok(());
                    }
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return Err(()),
                }
            }
            if f.inner_eof {
                if !f.outer_fin {
                    f.outer_fin = true;
                    // With both ends seen, the close that follows says it.
                    if !f.inner_fin {
                        let _ = f.outer.shutdown(Shutdown::Write);
                    }
                }
                return Ok(());
            }
            match m.recv(now, inner, CHUNK, 0) {
                Ok(r) if r.segs.is_empty() => f.inner_eof = true,
                Ok(r) => {
                    f.to_outer = r.segs;
                    f.inner_eof = m.got_fin(inner) && m.readable(inner) == 0;
                }
                Err(Errno::EAGAIN) => return Ok(()),
                Err(_) => return Err(()),
            }
        }
    }

    /// Ends both sides; `reset` when one of them was.
    fn end_flow(&mut self, id: FlowId, reset: bool) {
        let Some(f) = self.gateway.flows.remove(id) else { return };
        match f.stage {
            Stage::Outer { key, .. } => drop(self.gateway.expected.remove(&key)),
            Stage::Inner { key, inner } => {
                self.gateway.expected.remove(&key);
                self.no_longer_expected(inner);
            }
            _ => {}
        }
        if reset {
            net::reset_on_close(&f.outer);
        }
        if let (Some(inner), Some(m)) = (f.inner, self.machines.get_mut(f.machine)) {
            if reset { m.abort(self.now, inner) } else { m.close(self.now, inner) }
        }
    }

    /// Gives up what never finished its inner handshake.
    pub(crate) fn expire_flows(&mut self) {
        let now = self.now;
        let old: Vec<FlowId> = self
            .gateway
            .flows
            .iter()
            .filter(|(_, f)| matches!(f.stage, Stage::Inner { .. }) && now.saturating_sub(f.since) > 60_000_000_000)
            .map(|(id, _)| id)
            .collect();
        old.into_iter().for_each(|id| self.end_flow(id, true));
    }

    /// Opens a published TCP port.
    pub(crate) fn publish_tcp(
        &mut self,
        at: std::net::SocketAddr,
        port: u16,
        host: usize,
    ) -> std::io::Result<std::net::SocketAddr> {
        let outer = net::tcp_listen(at)?;
        let bound = outer.local_addr()?;
        let n = self.gateway.publish.len() as u32;
        self.ep.add(&outer, epoll::IN, Key::Publish(n).pack())?;
        self.gateway.publish.push(super::Publish { outer, port, six: bound.is_ipv6(), host });
        Ok(bound)
    }
}
