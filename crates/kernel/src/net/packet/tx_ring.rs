//! Transmit rings (PACKET_TX_RING): frames that the program has filled in memory of its own, one send for all of them.
//!
//! The memory is its driver's, as with receive rings: who has it walks the ring with [`Kernel::packet_tx_walk`]. A frame
//! whose packet is below is `TP_STATUS_SENDING` until that has ended; that it has is written at the next opportunity
//! ([`Kernel::packet_tx_ended`]).
use super::ring::{Geometry, Memory, header_len};
use super::sendmsg::{Sizes, To, build, checksummed, destination, peek, room, xmit};
use super::wake;
use crate::env::Nanos;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::dev::NetDevice;
use crate::net::core::skb::Owner;
use crate::net::core::timestamp::sock_cmsg_send;
use crate::net::core::virtio_net;
use crate::net::packet::link_of;
use crate::task::call::*;
use belljar_abi::poll::{EPOLLOUT, EPOLLWRNORM};
use belljar_abi::*;
use belljar_wire::Segs;
use std::collections::VecDeque;

/// A VLAN tag may come on top of the MTU.
const VLAN_HLEN: u32 = 4;
/// Frames of one call, which fresh ones could keep going for ever.
const MOST_FRAMES: u32 = 65_536;

/// A ring and how far it is.
#[derive(Clone, Debug)]
pub struct TxRing {
    pub geometry: Geometry,
    head: u32,
    /// Packets that have not ended.
    pending: u32,
    /// Frames whose packets have, and whose memory does not know it yet.
    ended: VecDeque<u32>,
    /// Bytes of the frame in hand.
    scratch: Vec<u8>,
}

/// How far a walk came. The sum so far is in [`SendMsg::sent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    Done,
    /// Packets of the ring are still below. The errno is what the call is told when its time is over.
    Wait(Errno),
}

/// What a frame says of itself.
struct Frame {
    len: u32,
    /// Where its bytes begin, from the beginning of the frame.
    off: u32,
}

impl TxRing {
    pub fn new(geometry: Geometry) -> TxRing {
        TxRing { geometry, head: 0, pending: 0, ended: VecDeque::new(), scratch: Vec::new() }
    }

    pub fn is_idle(&self) -> bool {
        self.pending == 0
    }

    /// The device is done with the packet of a frame.
    #[doc(alias = "tpacket_destruct_skb")]
    fn free(&mut self, frame: u32) {
        self.pending = self.pending.saturating_sub(1);
        self.ended.push_back(frame);
    }

    fn status_at(&self, frame: u32) -> u64 {
        self.geometry.frame_at(frame) + if self.geometry.version == TPACKET_V3 { 20 } else { 0 }
    }

    fn set_status(&self, m: &mut impl Memory, frame: u32, status: u32) {
        m.write(self.status_at(frame), &status.to_ne_bytes());
    }

    /// Tells the program which frames are its own again.
    fn flush(&mut self, m: &mut impl Memory) {
        while let Some(n) = self.ended.pop_front() {
            self.set_status(m, n, TP_STATUS_AVAILABLE);
        }
    }

    fn step(&mut self) {
        self.head = (self.head + 1) % self.geometry.frame_nr;
    }

    /// What stands in the header of the frame at the head, `max` bytes at most.
    #[doc(alias = "tpacket_parse_header")]
    fn parse(&self, m: &mut impl Memory, max: u32, has_off: bool, cooked: bool) -> Result<Frame, Errno> {
        let at = self.geometry.frame_at(self.head);
        let (len_at, offs_at) = match self.geometry.version {
            TPACKET_V3 => (16, 24),
            TPACKET_V2 => (4, 12),
            _ => (8, 16),
        };
        if self.geometry.version == TPACKET_V3 && m.read_u32(at) != 0 {
            return Err(Errno::EINVAL);
        }
        let len = m.read_u32(at + len_at);
        if len > max {
            return Err(Errno::EMSGSIZE);
        }
        let least = header_len(self.geometry.version).unwrap_or(0);
        if !has_off {
            return Ok(Frame { len, off: least });
        }
        let [m0, m1, n0, n1] = m.read_u32(at + offs_at).to_ne_bytes();
        let off = u32::from(u16::from_ne_bytes(if cooked { [n0, n1] } else { [m0, m1] }));
        let most = self.geometry.frame_size - len;
        if off < least || most < off { Err(Errno::EINVAL) } else { Ok(Frame { len, off }) }
    }
}

/// Where the walk sends to, and what holds for all of its frames.
struct Way {
    to: To,
    sizes: Sizes,
    max: u32,
    class: (u32, u32),
}

/// A frame that does not go. Of the first, what is wrong is written into it (unless PACKET_LOSS passes it over).
enum Stop {
    Wrong(Errno),
    /// It stays asked for.
    Later(Errno),
    Room,
}

fn way(k: &Kernel, id: PacketId, msg: &SendMsg<'_>) -> Result<Way, Errno> {
    let to = destination(k, id, msg.to)?;
    let s = k.socks.packet.get(id).ok_or(Errno::EBADF)?;
    let d: &NetDevice = k.net.devs.get(to.dev).ok_or(Errno::ENXIO)?;
    if !d.up {
        return Err(Errno::ENETDOWN);
    }
    let sockc = sock_cmsg_send(&s.sk, msg, false)?;
    let class = (sockc.priority.unwrap_or(s.sk.priority), sockc.mark);
    let sizes = Sizes { header: link_of(d).0, mtu: d.mtu as usize, gso: false };
    let g = &s.tx_ring.as_ref().ok_or(Errno::EBUSY)?.geometry;
    let reserve = if s.cooked { 0 } else { sizes.header as u32 };
    let mut max = g.frame_size - header_len(g.version).unwrap_or(0);
    if s.vnet_hdr == 0 {
        max = max.min(d.mtu.saturating_add(reserve + VLAN_HLEN));
    }
    Ok(Way { to, sizes, max, class })
}

/// Sends what is asked for, from the head on.
#[doc(alias = "tpacket_snd")]
fn walk(
    k: &mut Kernel,
    id: PacketId,
    m: &mut impl Memory,
    msg: &mut SendMsg<'_>,
    (wait, left): (bool, &mut u32),
) -> Result<Walk, Errno> {
    let way = way(k, id, msg)?;
    while *left > 0 {
        *left -= 1;
        let s = k.socks.packet.get_mut(id).ok_or(Errno::EBADF)?;
        let loss = s.flags.loss;
        let r = s.tx_ring.as_mut().ok_or(Errno::EBUSY)?;
        r.flush(m);
        if m.read_u32(r.status_at(r.head)) != TP_STATUS_SEND_REQUEST {
            return Ok(if wait && !r.is_idle() { Walk::Wait(Errno::ETIMEDOUT) } else { Walk::Done });
        }
        match frame(k, id, m, &way, wait) {
            Ok(len) => msg.sent += len,
            Err(Stop::Room) => return Ok(Walk::Wait(Errno::EAGAIN)),
            Err(Stop::Later(Errno::EAGAIN)) if msg.sent > 0 => return Ok(Walk::Done),
            Err(Stop::Later(e)) => return Err(e),
            Err(Stop::Wrong(e)) => {
                let r = k.socks.packet.get_mut(id).and_then(|s| s.tx_ring.as_mut()).ok_or(Errno::EBUSY)?;
                if !loss {
                    r.set_status(m, r.head, TP_STATUS_WRONG_FORMAT);
                    return Err(e);
                }
                r.set_status(m, r.head, TP_STATUS_AVAILABLE);
                r.step();
            }
        }
    }
    Ok(Walk::Done)
}

/// The frame at the head: how many bytes went.
fn frame(k: &mut Kernel, id: PacketId, m: &mut impl Memory, way: &Way, wait: bool) -> Result<usize, Stop> {
    let data = gather(k, id, m, way).map_err(Stop::Wrong)?;
    match room(k, id) {
        Ok(true) => {}
        Ok(false) if wait => return Err(Stop::Room),
        Ok(false) => return Err(Stop::Later(Errno::EAGAIN)),
        Err(e) => return Err(Stop::Later(e)),
    }
    let len = data.bytes.len();
    let reserve = data.reserve;
    if reserve > 0 && len < reserve {
        return Err(Stop::Wrong(Errno::EINVAL));
    }
    let sizes = Sizes { gso: data.vnet.is_some(), ..way.sizes };
    let skb = build(k, id, &way.to, data.bytes, sizes, way.class).map_err(Stop::Wrong)?;
    let mut skb = match data.vnet {
        Some(v) => checksummed(&mut k.net, skb, &v, reserve).map_err(Stop::Wrong)?,
        None => skb,
    };
    let r = k.socks.packet.get_mut(id).and_then(|s| s.tx_ring.as_mut()).ok_or(Stop::Later(Errno::EBUSY))?;
    let n = r.head;
    skb.owner = Owner::TxRing { sock: id, frame: n };
    r.set_status(m, n, TP_STATUS_SENDING);
    r.pending += 1;
    let sent = xmit(k, id, way.to.dev, skb);
    k.drain_rises();
    let r = k.socks.packet.get_mut(id).and_then(|s| s.tx_ring.as_mut()).ok_or(Stop::Later(Errno::EBUSY))?;
    if let Err(e) = sent
        && r.ended.back() == Some(&n)
    {
        r.ended.pop_back();
        // It died at once: the program's to send again.
        r.set_status(m, n, TP_STATUS_SEND_REQUEST);
        return Err(Stop::Later(e));
    }
    r.step();
    Ok(len)
}

/// A frame's bytes behind what the program says about them.
struct Data {
    bytes: Segs,
    vnet: Option<virtio_net::VnetHdr>,
    /// Bytes of the link header among them.
    reserve: usize,
}

fn gather(k: &mut Kernel, id: PacketId, m: &mut impl Memory, way: &Way) -> Result<Data, Errno> {
    let Kernel { socks, net, .. } = k;
    let s = socks.packet.get_mut(id).ok_or(Errno::EBADF)?;
    let (cooked, hdr) = (s.cooked, usize::from(s.vnet_hdr));
    let r = s.tx_ring.as_mut().ok_or(Errno::EBUSY)?;
    let f = r.parse(m, way.max, s.flags.tx_has_off, cooked)?;
    let at = r.geometry.frame_at(r.head) + u64::from(f.off);
    r.scratch.resize(f.len as usize, 0);
    m.read(at, &mut r.scratch);
    let mut bytes = Segs::new();
    bytes.push(net.pool.copy_in(&r.scratch, 0));
    let mut vnet = None;
    if hdr > 0 {
        let rest = bytes.len().checked_sub(hdr).ok_or(Errno::EINVAL)?;
        vnet = Some(virtio_net::parse(&peek(&Payload::Bytes(&r.scratch), hdr), rest)?);
        bytes.advance(hdr);
    }
    Ok(Data { bytes, vnet, reserve: if cooked { 0 } else { way.sizes.header } })
}

/// A packet of a ring ended: its frame is the program's again, and so is the memory it was charged with.
pub(crate) fn ended(k: &mut Kernel, id: PacketId, frame: u32, truesize: u32) {
    let Some(s) = k.socks.packet.get_mut(id) else { return };
    s.sk.wmem_alloc = s.sk.wmem_alloc.saturating_sub(truesize);
    if let Some(r) = &mut s.tx_ring {
        r.free(frame);
    }
    wake(k, id, EPOLLOUT | EPOLLWRNORM);
}

impl Kernel {
    /// A send on socket `id` with a transmit ring in `m`, by process `who`: every frame from the head on that is asked for.
    /// With `wait` until their packets have ended; who is told to wait calls again with the same `msg` when the socket
    /// becomes writable.
    pub fn packet_tx_walk(
        &mut self,
        now: Nanos,
        id: PacketId,
        m: &mut impl Memory,
        msg: &mut SendMsg<'_>,
        wait: bool,
    ) -> Result<Walk, Errno> {
        self.begin_step(now);
        let mut left = MOST_FRAMES;
        loop {
            let done = walk(self, id, m, msg, (wait, &mut left));
            self.end_step();
            self.packet_tx_ended(id, m);
            let idle = self.socks.packet.get(id).and_then(|s| s.tx_ring.as_ref()).is_none_or(|r| r.is_idle());
            if !idle || !matches!(done, Ok(Walk::Wait(_))) {
                return done;
            }
        }
    }

    /// Writes down which frames have become the program's again.
    pub fn packet_tx_ended(&mut self, id: PacketId, m: &mut impl Memory) {
        if let Some(r) = self.socks.packet.get_mut(id).and_then(|s| s.tx_ring.as_mut()) {
            r.flush(m);
        }
    }
}
