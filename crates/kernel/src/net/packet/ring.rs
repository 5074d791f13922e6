//! Receive rings (PACKET_RX_RING) in the three versions of `<linux/if_packet.h>`: the geometry that a program asks for, and
//! how packets are laid out in the memory that it shares with us.
//!
//! The core has no memory of programs: whoever drives it has, lends it as [`Memory`], and asks when a block is due. A word
//! in each frame or block says whose it is; nothing else there is believed.
use super::{PacketSock, Waiting, recvmsg};
use crate::env::{MSEC, Nanos, SEC, USEC};
use crate::net::core::skb::VlanTag;
use crate::net::core::virtio_net;
use belljar_abi::*;

const PAGE: u32 = 4096;
const ALIGNMENT: u32 = 16;
/// `struct tpacket_block_desc`.
const BLK_HDR_LEN: u32 = 48;
/// A block that nobody said more of is handed over after this (`DEFAULT_PRB_RETIRE_TOV`).
const RETIRE_MS: u32 = 8;
/// Bytes of one ring; the kernel has its own limits in pages.
const MAX_BYTES: u64 = 1 << 30;

/// `struct tpacket_req` or `tpacket_req3`, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub version: i32,
    pub block_size: u32,
    pub block_nr: u32,
    pub frame_size: u32,
    pub frame_nr: u32,
    pub reserve: u32,
    retire_ms: u32,
    private: u32,
}

/// PACKET_HDRLEN: bytes of the header that a version puts before a packet.
pub fn header_len(version: i32) -> Option<u32> {
    match version {
        TPACKET_V1 | TPACKET_V2 => Some(32),
        TPACKET_V3 => Some(48),
        _ => None,
    }
}

fn align(n: u32) -> u32 {
    n.next_multiple_of(ALIGNMENT)
}

impl Geometry {
    /// `None` takes the ring away. EINVAL for what does not add up.
    #[doc(alias = "packet_set_ring")]
    pub fn parse(value: &[u8], version: i32, reserve: u32) -> Result<Option<Geometry>, Errno> {
        let words: Vec<u32> =
            value.chunks_exact(4).filter_map(|c| c.first_chunk()).map(|c| u32::from_ne_bytes(*c)).collect();
        let wanted = if version == TPACKET_V3 { 7 } else { 4 };
        let Some(&[block_size, block_nr, frame_size, frame_nr]) = words.first_chunk() else {
            return Err(Errno::EINVAL);
        };
        if words.len() < wanted {
            return Err(Errno::EINVAL);
        }
        if block_nr == 0 {
            return if frame_nr == 0 { Ok(None) } else { Err(Errno::EINVAL) };
        }
        let word = |n: usize| words.get(n).copied().filter(|_| version == TPACKET_V3).unwrap_or(0);
        let (retire_ms, private) = (word(4), word(5));
        let least = header_len(version).ok_or(Errno::EINVAL)? + SOCKADDR_LL_LEN as u32;
        let least = least.checked_add(reserve).ok_or(Errno::EINVAL)?;
        let bytes = u64::from(block_size) * u64::from(block_nr);
        let per_block = block_size.checked_div(frame_size).unwrap_or(0);
        let bad = block_size == 0
            || !block_size.is_multiple_of(PAGE)
            || frame_size < least
            || !frame_size.is_multiple_of(ALIGNMENT)
            || per_block == 0
            || u64::from(per_block) * u64::from(block_nr) != u64::from(frame_nr)
            || version == TPACKET_V3
                && u64::from(block_size)
                    <= u64::from(BLK_HDR_LEN) + u64::from(private).next_multiple_of(8) + u64::from(least);
        if bad {
            return Err(Errno::EINVAL);
        }
        if bytes > MAX_BYTES {
            return Err(Errno::ENOMEM);
        }
        let retire_ms = if retire_ms == 0 { RETIRE_MS } else { retire_ms };
        Ok(Some(Geometry { version, block_size, block_nr, frame_size, frame_nr, reserve, retire_ms, private }))
    }

    /// Milliseconds after which a block is handed over, and bytes of it that are the program's own.
    pub fn block_options(&self) -> (u32, u32) {
        if self.version == TPACKET_V3 { (self.retire_ms, self.private) } else { (0, 0) }
    }

    pub fn bytes(&self) -> u64 {
        u64::from(self.block_size) * u64::from(self.block_nr)
    }

    pub(super) fn frame_at(&self, n: u32) -> u64 {
        let per_block = self.block_size / self.frame_size;
        u64::from(n / per_block) * u64::from(self.block_size) + u64::from(n % per_block) * u64::from(self.frame_size)
    }
}

/// The memory of a ring. Offsets stay below [`Geometry::bytes`].
pub trait Memory {
    fn read_u32(&mut self, at: u64) -> u32;
    fn read(&mut self, at: u64, bytes: &mut [u8]);
    fn write(&mut self, at: u64, bytes: &[u8]);
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    Done,
    Full,
}

/// A packet as it goes into a ring.
#[derive(Clone, Debug)]
pub struct Record {
    bytes: Vec<u8>,
    vnet: Vec<u8>,
    orig_len: u32,
    /// Of the link header; none before it in a cooked packet.
    mac_len: u32,
    from: LinkAddr,
    status: u32,
    hash: u32,
    vlan: VlanTag,
    /// Since 1970.
    at: Nanos,
}

impl Record {
    pub fn new(s: &PacketSock, w: &Waiting, wall_offset: u64) -> Record {
        let mut bytes = w.skb.head.bytes().to_vec();
        bytes.extend(w.skb.frags.to_vec());
        let mac_len = u32::from(w.skb.network_header.saturating_sub(w.skb.head.start()));
        let vnet = if s.vnet_hdr > 0 { virtio_net::from_skb(&w.skb, s.vnet_hdr.into()) } else { Vec::new() };
        let losing = if s.stats.drops > 0 && s.version != TPACKET_V3 { TP_STATUS_LOSING } else { 0 };
        Record {
            bytes,
            vnet,
            orig_len: w.orig_len,
            mac_len: if s.cooked { 0 } else { mac_len },
            from: w.from,
            status: TP_STATUS_USER | recvmsg::status(w) | losing,
            hash: w.skb.hash,
            vlan: w.skb.vlan,
            at: w.skb.tstamp.saturating_add(wall_offset),
        }
    }

    /// Offsets of link and network header from the beginning of a frame.
    fn offsets(&self, g: &Geometry) -> (u32, u32) {
        let head = header_len(g.version).unwrap_or(0) + SOCKADDR_LL_LEN as u32;
        let net = align(head + self.mac_len.max(16)) + g.reserve + self.vnet.len() as u32;
        (net - self.mac_len, net)
    }

    fn sec(&self) -> u32 {
        (self.at / SEC) as u32
    }

    fn nsec(&self) -> u32 {
        (self.at % SEC) as u32
    }

    /// Everything of a frame but the word that hands it over, which is `status`.
    fn lay_out(&self, g: &Geometry, room: u32, next: u32) -> (Vec<u8>, u32) {
        let (mac, net) = self.offsets(g);
        let snap = (self.bytes.len() as u32).min(room.saturating_sub(mac));
        let (mac16, net16) = (mac as u16, net as u16);
        let mut out = Vec::with_capacity((mac + snap) as usize);
        let mut words = |w: &[u32]| w.iter().for_each(|v| out.extend(v.to_ne_bytes()));
        match g.version {
            TPACKET_V3 => words(&[next, self.sec(), self.nsec(), snap, self.orig_len, self.status]),
            TPACKET_V2 => words(&[0, self.orig_len, snap]),
            // `unsigned long`.
            _ => words(&[0, 0, self.orig_len, snap]),
        }
        out.extend(mac16.to_ne_bytes());
        out.extend(net16.to_ne_bytes());
        let mut words = |w: &[u32]| w.iter().for_each(|v| out.extend(v.to_ne_bytes()));
        match g.version {
            TPACKET_V3 => words(&[self.hash, self.vlan.tci.into(), u32::from_ne_bytes(half(self.vlan.proto, 0))]),
            TPACKET_V2 => {
                words(&[self.sec(), self.nsec(), u32::from_ne_bytes(half(self.vlan.tci, self.vlan.proto))]);
            }
            _ => words(&[self.sec(), (u64::from(self.nsec()) / USEC) as u32]),
        }
        out.resize(align(header_len(g.version).unwrap_or(0)) as usize, 0);
        out.extend(self.from.emit());
        out.resize((mac as usize).saturating_sub(self.vnet.len()), 0);
        out.extend(&self.vnet);
        out.extend(self.bytes.get(..snap as usize).unwrap_or(&[]));
        (out, mac + snap)
    }
}

/// Two numbers of 16 bits side by side.
fn half(a: u16, b: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (a.to_ne_bytes(), b.to_ne_bytes());
    [a, b, c, d]
}

/// A block that is being filled.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    packets: u32,
    /// Bytes so far, its own header and the private area among them.
    len: u32,
    last_at: u64,
    opened: Nanos,
    first: (u32, u32),
    last: (u32, u32),
}

/// A ring in use.
#[derive(Clone, Debug)]
pub struct Ring {
    g: Geometry,
    /// The frame or block that is next.
    next: u32,
    open: Option<Block>,
    seq: u64,
    full: bool,
}

impl Ring {
    pub fn new(g: Geometry) -> Ring {
        Ring { g, next: 0, open: None, seq: 1, full: false }
    }

    pub fn geometry(&self) -> &Geometry {
        &self.g
    }

    fn entries(&self) -> u32 {
        if self.g.version == TPACKET_V3 { self.g.block_nr } else { self.g.frame_nr }
    }

    /// Where the word lies that says whose the entry is.
    fn status_at(&self, n: u32) -> u64 {
        match self.g.version {
            TPACKET_V3 => u64::from(n) * u64::from(self.g.block_size) + 8,
            _ => self.g.frame_at(n),
        }
    }

    fn step(&mut self) {
        self.next = (self.next + 1) % self.entries();
    }

    /// The program has something to read: the entry before the next is still its.
    #[doc(alias = "packet_previous_rx_frame")]
    pub fn readable(&self, m: &mut impl Memory) -> bool {
        let n = self.entries();
        m.read_u32(self.status_at((self.next + n - 1) % n)) != TP_STATUS_KERNEL
    }

    pub fn put(&mut self, m: &mut impl Memory, r: &Record, now: Nanos) -> Put {
        if self.g.version == TPACKET_V3 { self.put_block(m, r, now) } else { self.put_frame(m, r) }
    }

    fn put_frame(&mut self, m: &mut impl Memory, r: &Record) -> Put {
        let at = self.g.frame_at(self.next);
        if m.read_u32(at) != TP_STATUS_KERNEL {
            return Put::Full;
        }
        let (bytes, _) = r.lay_out(&self.g, self.g.frame_size, 0);
        m.write(at, &bytes);
        m.write(at, &r.status.to_ne_bytes());
        self.step();
        Put::Done
    }

    fn room_of_block(&self) -> u32 {
        self.g.block_size - self.first_offset()
    }

    fn first_offset(&self) -> u32 {
        BLK_HDR_LEN + self.g.private.next_multiple_of(8)
    }

    fn put_block(&mut self, m: &mut impl Memory, r: &Record, now: Nanos) -> Put {
        let (mut bytes, len) = r.lay_out(&self.g, self.room_of_block(), 0);
        let len = len.next_multiple_of(8);
        bytes.resize(len as usize, 0);
        if self.open.is_some_and(|b| b.len + len > self.g.block_size) {
            self.close(m, 0);
        }
        let base = u64::from(self.next) * u64::from(self.g.block_size);
        let mut b = match self.open {
            Some(b) => b,
            None if m.read_u32(self.status_at(self.next)) != TP_STATUS_KERNEL => {
                self.full = true;
                return Put::Full;
            }
            None => Block { len: self.first_offset(), opened: now, first: (r.sec(), r.nsec()), ..Block::default() },
        };
        if b.len + len > self.g.block_size {
            return Put::Full;
        }
        let at = base + u64::from(b.len);
        if b.packets > 0 {
            m.write(b.last_at, &((at - b.last_at) as u32).to_ne_bytes());
        }
        m.write(at, &bytes);
        (b.packets, b.len, b.last_at, b.last) = (b.packets + 1, b.len + len, at, (r.sec(), r.nsec()));
        self.open = Some(b);
        Put::Done
    }

    /// Hands the open block over.
    #[doc(alias = "prb_close_block")]
    fn close(&mut self, m: &mut impl Memory, why: u32) {
        let Some(b) = self.open.take() else { return };
        let base = u64::from(self.next) * u64::from(self.g.block_size);
        let losing = if std::mem::take(&mut self.full) { TP_STATUS_LOSING } else { 0 };
        let mut head = Vec::with_capacity(BLK_HDR_LEN as usize);
        let mut words = |w: &[u32]| w.iter().for_each(|v| head.extend(v.to_ne_bytes()));
        words(&[TPACKET_V3 as u32, BLK_HDR_LEN, TP_STATUS_KERNEL, b.packets, self.first_offset(), b.len]);
        head.extend(self.seq.to_ne_bytes());
        let mut words = |w: &[u32]| w.iter().for_each(|v| head.extend(v.to_ne_bytes()));
        words(&[b.first.0, b.first.1, b.last.0, b.last.1]);
        m.write(base, &head);
        m.write(base + 8, &(TP_STATUS_USER | why | losing).to_ne_bytes());
        self.seq += 1;
        self.step();
    }

    /// When the open block is handed over although it is not full.
    pub fn deadline(&self) -> Option<Nanos> {
        let b = self.open.as_ref()?;
        Some(b.opened.saturating_add(u64::from(self.g.retire_ms) * MSEC))
    }

    /// Hands it over if it is time; whether it was.
    #[doc(alias = "prb_retire_rx_blk_timer_expired")]
    pub fn retire(&mut self, m: &mut impl Memory, now: Nanos) -> bool {
        let due = self.deadline().is_some_and(|at| at <= now);
        if due {
            self.close(m, TP_STATUS_BLK_TMO);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Memory for Vec<u8> {
        fn read_u32(&mut self, at: u64) -> u32 {
            u32::from_ne_bytes(*self[at as usize..].first_chunk().unwrap())
        }
        fn read(&mut self, at: u64, bytes: &mut [u8]) {
            bytes.copy_from_slice(&self[at as usize..at as usize + bytes.len()]);
        }
        fn write(&mut self, at: u64, bytes: &[u8]) {
            self[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        }
    }

    fn req(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|v| v.to_ne_bytes()).collect()
    }

    fn record(n: usize) -> Record {
        let from = LinkAddr { protocol: 0x800, ifindex: 2, halen: 6, ..LinkAddr::default() };
        let status = TP_STATUS_USER;
        Record {
            vlan: VlanTag::NONE,
            bytes: vec![7; n],
            vnet: vec![],
            orig_len: n as u32,
            mac_len: 14,
            from,
            status,
            hash: 5,
            at: 3 * SEC + 9,
        }
    }

    // Each line was asked of Linux 6.18, in all three versions.
    #[test]
    fn geometries_are_taken_and_refused() {
        let ok = |w: &[u32]| Geometry::parse(&req(&[w, &[0, 0, 0]].concat()), TPACKET_V3, 0).is_ok();
        for v in [TPACKET_V1, TPACKET_V2, TPACKET_V3] {
            for (words, good) in [
                ([4096, 1, 2048, 2], true),
                ([4096, 1, 2048, 3], false),
                ([4095, 1, 2048, 2], false),
                ([5000, 1, 2048, 2], false),
                ([0, 0, 0, 0], true),
                ([4096, 0, 0, 0], true),
                ([0, 0, 0, 5], false),
                ([4096, 1, 48, 85], false),
                ([4096, 1, 8192, 0], false),
                ([8192, 1, 4096, 2], true),
                ([4096, 1, 100, 40], false),
                ([4096, 2, 2048, 2], false),
                ([4096, 1, 2047, 2], false),
            ] {
                let value = req(&[&words[..], &[0, 0, 0]].concat());
                assert_eq!(Geometry::parse(&value, v, 0).is_ok(), good, "{words:?}");
            }
        }
        assert!(ok(&[4096, 1, 2048, 2]));
        // Without the three words more that version 3 has.
        assert_eq!(Geometry::parse(&req(&[4096, 1, 2048, 2]), TPACKET_V3, 0), Err(Errno::EINVAL));
        assert_eq!(Geometry::parse(&req(&[4096, 1, 64, 64]), TPACKET_V2, 200), Err(Errno::EINVAL));
        assert_eq!(Geometry::parse(&req(&[4096, 1, 2048, 2, 0, 4000, 0]), TPACKET_V3, 0), Err(Errno::EINVAL));
        assert_eq!(Geometry::parse(&req(&[1 << 31, 2, 2048, 1 << 21]), TPACKET_V2, 0), Err(Errno::ENOMEM));
    }

    #[test]
    fn frames_lie_as_the_headers_say() {
        for (v, mac, status_len) in [(TPACKET_V1, 66, 8), (TPACKET_V2, 66, 4)] {
            let g = Geometry::parse(&req(&[4096, 1, 2048, 2]), v, 0).unwrap().unwrap();
            let (mut m, mut r) = (vec![0u8; 4096], Ring::new(g));
            assert!(!r.readable(&mut m));
            assert_eq!(r.put(&mut m, &record(100), 0), Put::Done);
            assert!(r.readable(&mut m));
            assert_eq!(m.read_u32(0), TP_STATUS_USER);
            assert_eq!((m.read_u32(status_len), m.read_u32(status_len + 4)), (100, 100));
            assert_eq!(m[status_len as usize + 8..][..4], [mac as u16, 80].map(u16::to_ne_bytes).concat());
            assert_eq!(m.read_u32(status_len + 12), 3);
            assert_eq!((m[mac - 1], m[mac], m[mac + 99], m[mac + 100]), (0, 7, 7, 0));
            assert_eq!(m[32..34], 17u16.to_ne_bytes());
            // The second one is longer than a frame has room for; a third finds none.
            assert_eq!(r.put(&mut m, &record(3000), 0), Put::Done);
            assert_eq!(m.read_u32(2048 + status_len + 4), 2048 - mac as u32);
            assert_eq!(r.put(&mut m, &record(1), 0), Put::Full);
            m.write(0, &[0; 4]);
            assert_eq!(r.put(&mut m, &record(1), 0), Put::Done);
        }
    }

    #[test]
    fn blocks_are_handed_over_when_full_or_old() {
        let g = Geometry::parse(&req(&[4096, 2, 2048, 4, 10, 0, 0]), TPACKET_V3, 0).unwrap().unwrap();
        let (mut m, mut r) = (vec![0u8; 8192], Ring::new(g));
        assert_eq!(r.put(&mut m, &record(100), MSEC), Put::Done);
        assert_eq!((m.read_u32(8), r.deadline()), (0, Some(11 * MSEC)));
        assert_eq!(r.put(&mut m, &record(100), 2 * MSEC), Put::Done);
        assert!(!r.retire(&mut m, 10 * MSEC) && r.retire(&mut m, 11 * MSEC));
        assert_eq!(m.read_u32(8), TP_STATUS_USER | TP_STATUS_BLK_TMO);
        let each = (82 + 100u32).next_multiple_of(8);
        assert_eq!((m.read_u32(12), m.read_u32(16), m.read_u32(20)), (2, 48, 48 + 2 * each));
        assert_eq!((m.read_u32(48), m.read_u32(48 + u64::from(each))), (each, 0));
        assert_eq!((m.read_u32(48 + 12), m.read_u32(48 + 16), m.read_u32(24)), (100, 100, 1));
        assert!(r.readable(&mut m));
        // The second block fills up, the first is not given back yet.
        let n = (0..100).take_while(|_| r.put(&mut m, &record(1000), 0) == Put::Done).count();
        assert_eq!((n, m.read_u32(4096 + 8)), (3, TP_STATUS_USER));
        m.write(8, &[0; 4]);
        assert_eq!(r.put(&mut m, &record(9000), 0), Put::Done);
        assert_eq!(m.read_u32(48 + 12), 4096 - 48 - 82);
        assert!(r.retire(&mut m, SEC));
        assert_eq!(m.read_u32(8), TP_STATUS_USER | TP_STATUS_BLK_TMO | TP_STATUS_LOSING);
    }
}
