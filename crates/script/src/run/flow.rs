//! [`Flows`]: what turns a script's relative numbers into those on the wire, per connection.
//!
//! The kernel's initial sequence number is random: the first SYN of the kernel that a line expects says which number of
//! the script it is. The same with its time stamps; the remote side's numbers are the script's own.
use crate::ast::{End, Settings, V4, Version};
use crate::packet::{L4, Opt, Pkt, Tcp};
use std::net::IpAddr;

pub type Place = (IpAddr, u16);

/// One connection. Script number = number on the wire - offset.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    pub local: Place,
    pub remote: Place,
    seq: Option<u32>,
    ts: Option<u32>,
    /// The next SYN of the kernel begins a new connection.
    fresh: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Flows {
    all: Vec<Flow>,
    /// The connection that lines without ports are about, one per protocol.
    tcp: (Place, Place),
    udp: (Place, Place),
}

/// The script's own ends in the family of an address.
pub fn sides(s: &Settings, like: Option<IpAddr>) -> (IpAddr, IpAddr) {
    match like {
        Some(IpAddr::V4(_)) if s.version == Version::V6 => (V4.0.into(), V4.1.into()),
        _ => (s.local, s.remote),
    }
}

impl Flows {
    pub fn new(s: &Settings) -> Flows {
        let ends = ((s.local, s.bind_port), (s.remote, s.remote_port));
        Flows { all: Vec::new(), tcp: ends, udp: ends }
    }

    /// A call may begin connections on ports that were used before.
    pub fn refresh(&mut self) {
        self.all.iter_mut().for_each(|f| f.fresh = true);
    }

    /// Local and remote end of a line; what it does not say is as in the line before.
    pub fn ends(&self, s: &Settings, named: Option<(End, End)>, inject: bool, udp: bool) -> (Place, Place) {
        let current = if udp { self.udp } else { self.tcp };
        let Some((src, dst)) = named else { return current };
        let (local, remote) = if inject { (dst, src) } else { (src, dst) };
        // An address that is named has its family's other side where that is not.
        let (s_local, s_remote) = sides(s, local.addr.or(remote.addr));
        let place = |e: End, default: IpAddr| (e.addr.unwrap_or(default), e.port);
        (place(local, s_local), place(remote, s_remote))
    }

    pub fn set_current(&mut self, ends: (Place, Place), udp: bool) {
        if udp {
            self.udp = ends;
        } else {
            self.tcp = ends;
        }
    }

    pub fn current(&self, udp: bool) -> (Place, Place) {
        if udp { self.udp } else { self.tcp }
    }

    fn find(&self, ends: (Place, Place)) -> Option<&Flow> {
        self.all.iter().find(|f| (f.local, f.remote) == ends)
    }

    fn get(&mut self, ends: (Place, Place)) -> Option<&mut Flow> {
        if self.find(ends).is_none() {
            self.all.push(Flow { local: ends.0, remote: ends.1, seq: None, ts: None, fresh: true });
        }
        self.all.iter_mut().find(|f| (f.local, f.remote) == ends)
    }

    /// A SYN of the kernel is expected to have the script's number `seq`.
    pub fn learn_syn(&mut self, ends: (Place, Place), live: u32, script: u32) {
        if let Some(f) = self.get(ends).filter(|f| f.fresh || f.seq.is_none()) {
            f.seq = Some(live.wrapping_sub(script));
            f.fresh = false;
        }
    }

    /// A SYN of the remote side begins a connection anew.
    pub fn remote_syn(&mut self, ends: (Place, Place)) {
        if let Some(f) = self.get(ends) {
            f.fresh = true;
        }
    }

    pub fn learn_ts(&mut self, ends: (Place, Place), live: u32, script: u32) {
        if let Some(f) = self.get(ends).filter(|f| f.ts.is_none()) {
            f.ts = Some(live.wrapping_sub(script));
        }
    }

    pub fn seq_offset(&self, ends: (Place, Place)) -> u32 {
        self.find(ends).and_then(|f| f.seq).unwrap_or(0)
    }

    /// Script to wire, for a segment of the remote side.
    pub fn to_wire(&self, ends: (Place, Place), mut t: Tcp) -> Tcp {
        let Some(f) = self.find(ends) else { return t };
        let (seq, ts) = (f.seq.unwrap_or(0), f.ts.unwrap_or(0));
        if t.flags & 0x10 != 0 {
            t.ack = t.ack.wrapping_add(seq);
        }
        for o in &mut t.options {
            match o {
                Opt::Sack(blocks) => {
                    blocks.iter_mut().for_each(|b| *b = (b.0.wrapping_add(seq), b.1.wrapping_add(seq)))
                }
                Opt::Ts { ecr: Some(ecr), .. } if t.flags & 0x10 != 0 => *ecr = ecr.wrapping_add(ts),
                _ => {}
            }
        }
        t
    }

    /// Wire to script, for a segment of the kernel.
    pub fn to_script(&self, ends: (Place, Place), mut t: Tcp) -> Tcp {
        let Some(f) = self.find(ends) else { return t };
        let (seq, ts) = (f.seq.unwrap_or(0), f.ts.unwrap_or(0));
        // A RST to a segment without ACK has the number 0 (RFC 9293 §3.5.2), whatever the connection's are.
        if t.flags & 0x04 == 0 || t.seq != 0 {
            t.seq = t.seq.wrapping_sub(seq);
        }
        for o in &mut t.options {
            if let Opt::Ts { val: Some(val), .. } = o {
                *val = val.wrapping_sub(ts);
            }
        }
        t
    }

    /// A packet for the trace, in the script's numbers.
    pub fn show(&self, p: &Pkt, inject: bool) -> String {
        let (s, d) = p.ports();
        let ends = if inject { ((p.dst, d), (p.src, s)) } else { ((p.src, s), (p.dst, d)) };
        let udp = matches!(p.l4, L4::Udp { .. });
        let mut text = match &p.l4 {
            L4::Tcp(t) if inject => Pkt { l4: L4::Tcp(self.as_written(ends, t.clone())), ..p.clone() }.show(),
            L4::Tcp(t) => Pkt { l4: L4::Tcp(self.to_script(ends, t.clone())), ..p.clone() }.show(),
            _ => p.show(),
        };
        for e in &p.ext {
            text = format!("[ext {} {}] {text}", e.kind, e.body.iter().map(|b| format!("{b:02x}")).collect::<String>());
        }
        if p.tos & 3 != 0 {
            let name = ["noecn", "ect1", "ect0", "ce"];
            text = format!("[{}] {text}", name.get(usize::from(p.tos & 3)).unwrap_or(&"ecn"));
        }
        if (s, d) != (0, 0) && ends != self.current(udp) { format!("{s} > {d} {text}") } else { text }
    }

    /// Wire to script, for a segment of the remote side: the trace shows what the line said.
    fn as_written(&self, ends: (Place, Place), mut t: Tcp) -> Tcp {
        let Some(f) = self.find(ends) else { return t };
        let (seq, ts) = (f.seq.unwrap_or(0), f.ts.unwrap_or(0));
        t.ack = t.ack.wrapping_sub(seq);
        for o in &mut t.options {
            match o {
                Opt::Sack(blocks) => {
                    blocks.iter_mut().for_each(|b| *b = (b.0.wrapping_sub(seq), b.1.wrapping_sub(seq)))
                }
                Opt::Ts { ecr: Some(ecr), .. } if t.flags & 0x10 != 0 => *ecr = ecr.wrapping_sub(ts),
                _ => {}
            }
        }
        t
    }
}
