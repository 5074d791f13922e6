//! [`Jar`]: one thread, one epoll loop. Notified calls, pairs, outer sockets, control connections, signals and the
//! kernels' deadlines are all events of it.
//!
//! A turn is: take what the host has ready, run the kernels and carry frames until nothing moves, then what is due.
use crate::gateway::{Gateway, PublishUdp};
use crate::key::Key;
use crate::machine::Machine;
use crate::options::{Options, Refused};
use crate::park::Parked;
use crate::record::Recording;
use crate::socks::{SockId, Socks};
use belljar_capture::watch::Watch;
use belljar_host::clock;
use belljar_host::epoll::{Epoll, Ready};
use belljar_host::port::Port;
use belljar_host::seccomp::Listener;
use belljar_host::signal::SignalFd;
use belljar_host::task::Tasks;
use belljar_kernel::ids::{NsId, Slab};
use belljar_link::Link;

/// A program's filter, and the host its calls belong to.
#[derive(Debug)]
pub struct Watched {
    pub listener: Listener,
    pub host: usize,
    /// The namespace that it was started in, when that is not the host's own.
    pub ns: Option<NsId>,
    /// Its kernel loses no answers to signals.
    pub killable: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Jar {
    pub(crate) options: Options,
    /// The supervisor's own user.
    pub(crate) uid: u32,
    pub(crate) name: String,
    /// Nanoseconds since the kernels booted; read from the clock once per turn.
    pub(crate) now: u64,
    /// CLOCK_MONOTONIC when they did.
    pub(crate) epoch: u64,
    pub(crate) ep: Epoll,
    pub(crate) machines: Vec<Machine>,
    pub(crate) link: Link,
    /// Links between hosts (`belljar up`).
    pub(crate) cables: Vec<crate::up::Cable>,
    /// What runs in a network from a file.
    pub(crate) up: Option<Box<crate::up::Up>>,
    pub(crate) listeners: Vec<Option<Watched>>,
    pub(crate) socks: Socks,
    pub(crate) parked: Slab<Parked>,
    pub(crate) tasks: Tasks,
    pub(crate) replay: crate::serve::replay::Replay,
    pub(crate) gateway: Gateway,
    /// The machine's interface at the other end of the link, instead of the gateway.
    pub(crate) port: Option<Port>,
    /// Open files of `/dev/net/tun`, and of settings that programs write.
    pub(crate) tuns: Vec<SockId>,
    /// Datagram sockets whose pair was not looked at to its end.
    pub(crate) again: Vec<SockId>,
    pub(crate) quiet: Vec<SockId>,
    pub(crate) weights: crate::pump::weight::Weights,
    /// Packet sockets with a ring.
    pub(crate) rings: Vec<SockId>,
    /// Where directories for programs lie, once there are some.
    pub(crate) planted: Option<crate::serve::planted::Planted>,
    /// Network namespaces that programs entered.
    pub(crate) spaces: crate::serve::netns::Spaces,
    pub(crate) settings: Slab<crate::serve::setting::Setting>,
    pub(crate) publish_udp: Vec<PublishUdp>,
    /// Published ports as they are shown.
    pub(crate) ports: Vec<String>,
    pub(crate) signals: SignalFd,
    pub(crate) control: crate::control::server::Server,
    pub(crate) life: crate::life::Life,
    pub(crate) record: Recording,
    /// The program's host, for a report.
    pub(crate) watch: Option<Box<Watch>>,
    pub(crate) refused: Vec<Refused>,
    pub(crate) starved: Vec<crate::options::Starved>,
    pub(crate) herds: Vec<crate::serve::herd::Listening>,
    pub(crate) seed: u64,
    /// The socket that the call being served was found to be about.
    pub(crate) resolved: Option<SockId>,
    /// Reused for reads.
    pub(crate) scratch: Vec<u8>,
    /// Sockets with both halves shut, see [`crate::socks::Sock::shut`].
    pub(crate) shut: Vec<SockId>,
    pub(crate) notified: u64,
    pub(crate) sweep_at: u64,
    pub(crate) warnings: Vec<String>,
}

/// Rounds of carrying frames and events in one turn; what is left comes in the next, which then does not wait.
const ROUNDS: usize = 64;
const SWEEP: u64 = 10_000_000_000;

impl Jar {
    pub(crate) fn host_of(&self, listener: u32) -> usize {
        self.listeners.get(listener as usize).and_then(Option::as_ref).map_or(0, |w| w.host)
    }

    pub(crate) fn tick(&mut self) {
        self.now = clock::monotonic_ns().saturating_sub(self.epoch);
    }

    /// Runs until the jar ends.
    pub(crate) fn run_loop(&mut self) {
        let mut ready: Vec<Ready> = Vec::new();
        let mut busy = self.turn();
        while !self.over() {
            let timeout = if busy { Some(0) } else { self.deadline().map(|d| d.saturating_sub(self.now)) };
            if let Err(e) = self.ep.wait(timeout, &mut ready) {
                self.warnings.push(format!("epoll: {e}"));
                break;
            }
            self.tick();
            self.look_at_quiet();
            // What the program did to its descriptors is older than the call that it waits in, wherever the two stand here:
            // an edge that was taken out with the call is not seen again by `catch_up`.
            let is_call = |r: &&Ready| matches!(Key::unpack(r.key), Some(Key::Listener(_)));
            ready.iter().filter(|r| !is_call(r)).for_each(|r| self.dispatch(*r));
            ready.iter().filter(is_call).for_each(|r| self.dispatch(*r));
            busy = self.turn();
            for id in std::mem::take(&mut self.again) {
                busy = true;
                self.dgram_out(id);
            }
            self.due();
        }
    }

    fn dispatch(&mut self, r: Ready) {
        match Key::unpack(r.key) {
            Some(Key::Sock(id)) => self.pair_event(id, r.events),
            Some(Key::Flow(id)) => self.flow_outer(id, r.events),
            Some(Key::Listener(n)) => self.notifications(n, r.events),
            Some(Key::Publish(n)) => self.published(n),
            Some(Key::PublishUdp(n)) => self.published_datagrams(n),
            Some(Key::Assoc(id)) => self.assoc_outer(id),
            Some(Key::Control(n)) => self.control_event(n, r.events),
            Some(Key::ControlListener) => self.control_accept(),
            Some(Key::Signals) => self.take_signals(),
            Some(Key::Port) => self.port_frames(),
            Some(Key::Setting(id)) => self.apply_setting(id),
            Some(Key::Inner(_)) | None => {}
        }
    }

    /// What the program did to its descriptors before the call that is served now comes before it: a port whose socket
    /// it has closed is free, bytes it has written are out. Calls come on a channel of their own and overtake the rest.
    pub(crate) fn catch_up(&mut self) {
        let mut ready: Vec<Ready> = Vec::new();
        for _ in 0..8 {
            if self.ep.wait(Some(0), &mut ready).is_err() {
                return;
            }
            for r in &ready {
                // The others are level-triggered: they come again.
                if let Some(Key::Sock(_) | Key::Flow(_) | Key::Assoc(_)) = Key::unpack(r.key) {
                    self.dispatch(*r);
                }
            }
            if ready.len() < belljar_host::epoll::BATCH {
                return;
            }
        }
    }

    fn notifications(&mut self, n: u32, events: u32) {
        use belljar_host::epoll::{HUP, IN, ready_now};
        // A bound, so that a program which only calls does not keep packets from moving.
        for i in 0..32 {
            let Some(w) = self.listeners.get(n as usize).and_then(Option::as_ref) else { return };
            let known = i == 0 && events & IN != 0;
            if !known && !ready_now(&w.listener, IN) {
                break;
            }
            match w.listener.recv() {
                Ok(Some(note)) => self.serve(n, note),
                Ok(None) => break,
                Err(_) => break,
            }
        }
        // Nobody is left under this filter.
        if events & HUP != 0
            && let Some(slot) = self.listeners.get_mut(n as usize)
        {
            *slot = None;
        }
    }

    /// Runs the kernels and hands out what they report until nothing moves; true when something is left to do.
    pub(crate) fn turn(&mut self) -> bool {
        for _ in 0..ROUNDS {
            let more = self.step_kernels();
            let mut any = false;
            for i in 0..self.machines.len() {
                let Some(m) = self.machines.get_mut(i) else { continue };
                for e in m.ready(self.now) {
                    any = true;
                    match Key::unpack(e.data) {
                        Some(Key::Sock(id)) => self.sock_event(id, e.events),
                        Some(Key::Flow(id)) => self.flow_inner(id, e.events),
                        Some(Key::Inner(n)) => self.inner_event(n),
                        Some(Key::Assoc(id)) => self.assoc_inner(id),
                        _ => {}
                    }
                }
            }
            self.tell_notices();
            self.up_turn();
            // After the events: who sees an answer leave finds its socket as the answer says.
            self.tuns_out();
            if !any && !more {
                return false;
            }
        }
        true
    }

    /// Steps the kernels and carries frames over the link; true when something still moves.
    pub(crate) fn step_kernels(&mut self) -> bool {
        let now = self.now;
        for _ in 0..ROUNDS {
            let mut moved = false;
            for i in 0..self.machines.len() {
                let Some(m) = self.machines.get_mut(i) else { continue };
                m.step(now);
                let pipe = if i == self.gateway.at { &mut self.link.ba } else { &mut self.link.ab };
                while let Some((dev, frame)) = m.frame_out() {
                    moved = true;
                    match m.plugs.iter().find(|p| p.0 == dev).and_then(|p| Some((self.cables.get_mut(p.1)?, p.2))) {
                        Some((cable, end)) => cable.pipe(end).push(now, frame),
                        None => pipe.push(now, frame),
                    }
                }
            }
            while let Some(frame) = self.link.ab.pop(now) {
                moved = true;
                if let Some(port) = &mut self.port {
                    if let Err(e) = port.send(frame) {
                        self.lose_port(&e);
                    }
                    continue;
                }
                if let Some(frame) = self.gateway_frame(frame)
                    && let Some(m) = self.machines.get_mut(self.gateway.at)
                {
                    m.frame_in(now, frame);
                }
            }
            while let Some(frame) = self.link.ba.pop(now) {
                moved = true;
                if let Some(m) = self.machines.get_mut(crate::gateway::HOST) {
                    m.frame_in(now, frame);
                }
            }
            moved |= self.cables_deliver();
            self.record_events();
            if !moved {
                return false;
            }
        }
        true
    }

    /// Frames of the machine's kernel: onto the link, as many as one turn takes.
    fn port_frames(&mut self) {
        for _ in 0..256 {
            let Some(port) = &mut self.port else { return };
            match port.recv() {
                Ok(Some(frame)) => self.link.ba.push(self.now, frame),
                Ok(None) => return,
                Err(e) => return self.lose_port(&e),
            }
        }
    }

    /// The interface is gone: the program stays, without a network, and its user is told.
    fn lose_port(&mut self, e: &std::io::Error) {
        if let Some(port) = self.port.take() {
            for queue in port.queues() {
                let _ = self.ep.remove(queue);
            }
            self.warnings.push(format!(
                "{}: the connection to this interface ended: {}",
                port.name(),
                belljar_host::words(e)
            ));
        }
    }

    /// When something is due by itself.
    fn deadline(&self) -> Option<u64> {
        let kernels = self.machines.iter().filter_map(Machine::deadline).min();
        let own = [self.parked_deadline(), self.shut_deadline(), self.life_deadline(), self.ring_deadline()];
        let own = own.into_iter().chain([self.flush_deadline()]);
        let cables = self.cables.iter().filter_map(|c| c.link.next_deadline()).min();
        [kernels, self.link.next_deadline(), cables]
            .into_iter()
            .chain(own)
            .flatten()
            .chain([self.sweep_at])
            .chain(self.watch.as_ref().map(|w| w.due()))
            .min()
    }

    fn due(&mut self) {
        if self.parked_deadline().is_some_and(|d| d <= self.now) {
            self.look_at_parked();
        }
        if self.shut_deadline().is_some_and(|d| d <= self.now) {
            self.look_at_shut();
        }
        if self.ring_deadline().is_some_and(|d| d <= self.now) {
            self.rings_due();
        }
        if self.flush_deadline().is_some_and(|d| d <= self.now) {
            self.flush_files();
        }
        self.life_due();
        if self.watch.as_ref().is_some_and(|w| w.due() <= self.now) {
            self.sample();
        }
        if self.sweep_at <= self.now {
            self.sweep_at = self.now + SWEEP;
            self.tasks.sweep();
            self.sweep_spaces();
            self.sweep_tombs();
            self.sweep_swapped();
            self.expire_assocs();
            self.expire_flows();
        }
    }
}
