//! The four rings of an AF_XDP socket as they lie in memory that the program shares: a producer, a consumer, flags and
//! entries, of which the one side writes what the other only reads. What the program's side says is believed within bounds.
use crate::net::packet::ring::Memory;
use belljar_abi::Errno;

const PRODUCER: u64 = 0;
const CONSUMER: u64 = 128;
const FLAGS: u64 = 196;
const ENTRIES: u64 = 320;
/// More entries than this are ENOMEM.
const MOST: u32 = 1 << 20;

/// Offsets for XDP_MMAP_OFFSETS: producer, consumer, entries, flags; the same in each ring.
pub const OFFSETS: [u64; 4] = [PRODUCER, CONSUMER, ENTRIES, FLAGS];

/// `struct xdp_desc`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Desc {
    pub addr: u64,
    pub len: u32,
    pub options: u32,
}

/// A ring, and this side's place in it.
#[derive(Clone, Debug)]
pub struct Queue {
    /// By which its driver finds the memory.
    pub id: u32,
    entries: u32,
    size: u64,
    /// The next that this side produces or consumes.
    at: u32,
    /// Reserved behind it and not yet written.
    reserved: u32,
    /// Entries that nobody can use, and how often there was none.
    pub invalid: u64,
    pub empty: u64,
}

impl Queue {
    /// A power of two.
    #[doc(alias = "xskq_create")]
    pub fn new(id: u32, entries: u32, descs: bool) -> Result<Queue, Errno> {
        if !entries.is_power_of_two() {
            return Err(Errno::EINVAL);
        }
        if entries > MOST {
            return Err(Errno::ENOMEM);
        }
        let size = if descs { 16 } else { 8 };
        Ok(Queue { id, entries, size, at: 0, reserved: 0, invalid: 0, empty: 0 })
    }

    /// Bytes of memory, in whole pages.
    pub fn bytes(&self) -> u64 {
        (ENTRIES + self.size * u64::from(self.entries)).next_multiple_of(4096)
    }

    pub fn entries(&self) -> u32 {
        self.entries
    }

    fn entry(&self, n: u32) -> u64 {
        ENTRIES + self.size * u64::from(n & (self.entries - 1))
    }

    pub fn set_flags(&self, m: &mut impl Memory, flags: u32) {
        m.write(FLAGS, &flags.to_ne_bytes());
    }

    /// Entries that wait for this side, the consumer.
    pub fn waiting(&self, m: &mut impl Memory) -> u32 {
        m.read_u32(PRODUCER).wrapping_sub(self.at).min(self.entries)
    }

    /// The next of them.
    #[doc(alias = "xskq_cons_peek_desc")]
    pub fn peek(&mut self, m: &mut impl Memory) -> Option<Desc> {
        if self.waiting(m) == 0 {
            self.empty += 1;
            return None;
        }
        let at = self.entry(self.at);
        let addr = u64::from(m.read_u32(at)) | u64::from(m.read_u32(at + 4)) << 32;
        let (len, options) = if self.size == 16 { (m.read_u32(at + 8), m.read_u32(at + 12)) } else { (0, 0) };
        Some(Desc { addr, len, options })
    }

    /// It is used.
    pub fn release(&mut self, m: &mut impl Memory) {
        self.at = self.at.wrapping_add(1);
        m.write(CONSUMER, &self.at.to_ne_bytes());
    }

    /// Entries that the other side has not consumed, of this one as the producer, those reserved among them.
    fn taken(&self, m: &mut impl Memory) -> u32 {
        self.at.wrapping_add(self.reserved).wrapping_sub(m.read_u32(CONSUMER))
    }

    /// The other side has something to consume.
    pub fn is_filled(&self, m: &mut impl Memory) -> bool {
        self.at != m.read_u32(CONSUMER)
    }

    /// A place for an entry that comes later.
    #[doc(alias = "xskq_prod_reserve")]
    pub fn reserve(&mut self, m: &mut impl Memory) -> bool {
        let room = self.taken(m) < self.entries;
        self.reserved += u32::from(room);
        room
    }

    pub fn cancel(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
    }

    /// In a place that was reserved.
    #[doc(alias = "xskq_prod_submit")]
    pub fn submit(&mut self, m: &mut impl Memory, d: Desc) {
        let at = self.entry(self.at);
        m.write(at, &d.addr.to_ne_bytes());
        if self.size == 16 {
            m.write(at + 8, &d.len.to_ne_bytes());
            m.write(at + 12, &d.options.to_ne_bytes());
        }
        self.cancel();
        self.at = self.at.wrapping_add(1);
        m.write(PRODUCER, &self.at.to_ne_bytes());
    }
}
