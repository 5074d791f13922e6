//! [`Frame`]: what crosses the wire boundary, with its state: headers in a small linear [`Head`], payload as
//! shared segments, how far the checksum is done, and how it is to be cut (generic segmentation offload).
//!
//! A link with any condition, or a receiver without the offload, gets wire-sized frames (`gso::segment`);
//! an unconditioned link passes super-segments as they are.
use crate::seg::Segs;

/// Every packet has an id at birth; clones and segments keep their parent's.
pub type PacketId = u64;

/// Room for Ethernet (14, VLAN 18), IPv4 with options (60) or IPv6 with a fragment header (48), and TCP with options (60),
/// with slack.
pub const HEAD_CAPACITY: usize = 160;

/// The linear part: headers are pushed in front (`skb_push`) and pulled off (`skb_pull`).
#[derive(Clone, Debug)]
pub struct Head {
    buf: [u8; HEAD_CAPACITY],
    start: u8,
    end: u8,
}

impl Default for Head {
    fn default() -> Head {
        Head::new()
    }
}

impl Head {
    /// Empty, with all room in front.
    pub fn new() -> Head {
        Head { buf: [0; HEAD_CAPACITY], start: HEAD_CAPACITY as u8, end: HEAD_CAPACITY as u8 }
    }

    /// Forgets the bytes without clearing them; a recycled head costs nothing to begin again.
    pub fn reset(&mut self) {
        (self.start, self.end) = (HEAD_CAPACITY as u8, HEAD_CAPACITY as u8);
    }

    /// A received head: the bytes at the beginning, clamped to the capacity; returns how many were taken.
    pub fn fill(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(HEAD_CAPACITY);
        self.buf[..n].copy_from_slice(&bytes[..n]);
        (self.start, self.end) = (0, n as u8);
        n
    }

    #[inline]
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Offset of the first byte in the fixed buffer; with [`Head::at`] a layer remembers where its header lies.
    #[inline]
    pub fn start(&self) -> u8 {
        self.start
    }

    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.buf[self.start as usize..self.end as usize]
    }

    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buf[self.start as usize..self.end as usize]
    }

    /// Bytes from the fixed offset `at` to the end, pulled or not; empty when `at` is beyond.
    #[inline]
    pub fn at(&self, at: u8) -> &[u8] {
        self.buf.get(at as usize..self.end as usize).unwrap_or(&[])
    }

    #[inline]
    pub fn at_mut(&mut self, at: u8) -> &mut [u8] {
        self.buf.get_mut(at as usize..self.end as usize).unwrap_or(&mut [])
    }

    /// Makes room for `n` bytes in front and returns them, or `None` when there is none.
    #[inline]
    pub fn push(&mut self, n: usize) -> Option<&mut [u8]> {
        let start = (self.start as usize).checked_sub(n)?;
        self.start = start as u8;
        Some(&mut self.buf[start..start + n])
    }

    /// Moves the bytes so that `n` can be pushed in front of them; what was pulled is forgotten. Returns by how much they moved,
    /// and what had to give way at the end. `None` (and no change) when `n` is more than there is room for at all.
    pub fn make_room(&mut self, n: usize) -> Option<(i16, Option<Vec<u8>>)> {
        let (from, len) = (self.start as usize, self.len());
        if n > HEAD_CAPACITY {
            return None;
        }
        let keep = len.min(HEAD_CAPACITY - n);
        let rest = (keep < len).then(|| self.buf[from + keep..from + len].to_vec());
        let to = HEAD_CAPACITY - keep;
        self.buf.copy_within(from..from + keep, to);
        (self.start, self.end) = (to as u8, HEAD_CAPACITY as u8);
        Some((to as i16 - from as i16, rest))
    }

    /// Takes `n` bytes off the front; `None` (and no change) when there are fewer.
    #[inline]
    pub fn pull(&mut self, n: usize) -> Option<()> {
        (n <= self.len()).then(|| self.start += n as u8)
    }

    /// Undoes a pull: the bytes are still there (`skb_push` after receive).
    pub fn rewind(&mut self, at: u8) {
        self.start = at.min(self.end);
    }

    /// Cuts the end so that `n` bytes remain.
    #[inline]
    pub fn trim(&mut self, n: usize) {
        self.end = self.end.min((self.start as usize + n) as u8);
    }
}

/// How far the transport checksum is done (Linux: `ip_summed`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Csum {
    /// Nothing known: the bytes in the packet are what there is (CHECKSUM_NONE).
    #[default]
    None,
    /// The transport header holds the pseudo-header sum; whoever puts it on a real wire finishes it (CHECKSUM_PARTIAL).
    Partial,
    /// Known good: it never left memory, or the device checked it (CHECKSUM_UNNECESSARY).
    Unnecessary,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GsoType {
    TcpV4,
    TcpV6,
    UdpL4,
}

/// In what a super-segment is wrapped, once, over IPv4; the pieces get headers and sums of that, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encap {
    #[default]
    None,
    /// VXLAN, its datagrams without and with a sum.
    UdpTnl,
    UdpTnlCsum,
    /// GRE, with packets or frames in it, without and with a sum.
    Gre,
    GreCsum,
    /// IPv4 or IPv6 in IPv4.
    IpIp,
}

/// A super-segment and the size of the pieces it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    pub kind: GsoType,
    /// Payload bytes of each piece but the last.
    pub size: u16,
    pub segs: u16,
    pub encap: Encap,
}

impl Gso {
    /// Of a packet that is in no tunnel.
    pub fn new(kind: GsoType, size: u16, segs: u16) -> Gso {
        Gso { kind, size, segs, encap: Encap::None }
    }

    pub fn is_encapsulated(&self) -> bool {
        self.encap != Encap::None
    }
}

/// What leaves and enters a NIC: an Ethernet frame (or, on a device without one, a packet) with its state.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// Link, network and transport headers; for frames from outside the first bytes, whatever they are.
    pub head: Head,
    pub payload: Segs,
    pub csum: Csum,
    pub gso: Option<Gso>,
    /// Flow hash, 0 when not computed.
    pub hash: u32,
    pub id: PacketId,
}

impl Frame {
    /// A frame that came as bytes: headers to the linear part, the rest as one segment.
    pub fn from_bytes(bytes: &[u8], id: PacketId) -> Frame {
        let mut f = Frame { id, ..Frame::default() };
        let n = f.head.fill(bytes);
        if n < bytes.len() {
            f.payload = Segs::from(bytes[n..].to_vec());
        }
        f
    }

    pub fn len(&self) -> usize {
        self.head.len() + self.payload.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn to_vec(&self) -> Vec<u8> {
        let mut v = Vec::with_capacity(self.len());
        v.extend_from_slice(self.head.bytes());
        self.payload.iter().for_each(|s| v.extend_from_slice(s.as_slice()));
        v
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_pushed_pulled_and_found_again() {
        let mut h = Head::new();
        h.push(8).unwrap().copy_from_slice(b"tcpheadr");
        let at = h.start();
        h.push(4).unwrap().copy_from_slice(b"ipv4");
        assert_eq!(h.bytes(), b"ipv4tcpheadr");
        h.pull(4).unwrap();
        assert_eq!((h.bytes(), h.at(at)), (&b"tcpheadr"[..], &b"tcpheadr"[..]));
        assert!(h.pull(9).is_none() && h.push(HEAD_CAPACITY).is_none());
        h.trim(3);
        assert_eq!(h.bytes(), b"tcp");
    }

    #[test]
    fn room_is_made_in_front_of_what_came_from_a_wire() {
        let bytes: Vec<u8> = (0..HEAD_CAPACITY as u8).collect();
        let mut h = Head::new();
        h.fill(&bytes);
        assert!(h.push(4).is_none() && h.make_room(HEAD_CAPACITY + 1).is_none());
        let (by, rest) = h.make_room(4).unwrap();
        assert_eq!((by, rest.unwrap()), (4, bytes[HEAD_CAPACITY - 4..].to_vec()));
        assert_eq!(h.bytes(), &bytes[..HEAD_CAPACITY - 4]);
        assert!(h.push(4).is_some());
        h.fill(b"abc");
        h.pull(1).unwrap();
        assert_eq!(h.make_room(8), Some((HEAD_CAPACITY as i16 - 3, None)));
        assert_eq!(h.bytes(), b"bc");
    }

    #[test]
    fn bytes_come_back_from_a_frame() {
        let bytes: Vec<u8> = (0..400u32).map(|b| b as u8).collect();
        let f = Frame::from_bytes(&bytes, 7);
        assert_eq!((f.head.len(), f.len(), f.to_vec()), (HEAD_CAPACITY, 400, bytes));
    }
}
