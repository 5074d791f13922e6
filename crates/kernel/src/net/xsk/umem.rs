//! The memory that packets of AF_XDP sockets lie in: where its chunks are, and which addresses are within one.
use super::ring::Desc;
use belljar_abi::Errno;
use belljar_abi::if_xdp::{XDP_PKT_CONTD, XDP_UMEM_UNALIGNED_CHUNK_FLAG, XSK_UNALIGNED_BUF_OFFSET_SHIFT};

const PAGE: u64 = 4096;
const MIN_CHUNK: u32 = 2048;
/// Before each packet that comes in (`XDP_PACKET_HEADROOM`).
const HEADROOM: u32 = 256;
/// Of `struct xdp_umem_reg` as it was at first.
const REG_LEN: usize = 24;

/// `struct xdp_umem_reg`, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Umem {
    /// By which its driver finds the memory.
    pub id: u32,
    /// Where it begins in the program.
    pub addr: u64,
    pub size: u64,
    pub chunk: u32,
    pub headroom: u32,
    pub unaligned: bool,
}

impl Umem {
    /// Sums and metadata of what is sent (XDP_UMEM_TX_*) are refused as by kernels before they had them.
    #[doc(alias = "xdp_umem_reg")]
    pub fn parse(b: &[u8], id: u32) -> Result<Umem, Errno> {
        let word = |at: usize| b.get(at..).and_then(|b| b.first_chunk()).map_or(0, |w| u32::from_ne_bytes(*w));
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if b.len() < REG_LEN {
            return Err(Errno::EINVAL);
        }
        let (addr, size, chunk, headroom, flags) = (long(0), long(8), word(16), word(20), word(24));
        let unaligned = flags == XDP_UMEM_UNALIGNED_CHUNK_FLAG;
        let bad = !(MIN_CHUNK..=PAGE as u32).contains(&chunk)
            || flags & !XDP_UMEM_UNALIGNED_CHUNK_FLAG != 0
            || !unaligned && !chunk.is_power_of_two()
            || !addr.is_multiple_of(PAGE)
            || addr.checked_add(size).is_none()
            || size.div_ceil(PAGE) > u64::from(u32::MAX)
            || size < u64::from(chunk)
            || !unaligned && !size.is_multiple_of(chunk.into())
            || headroom >= chunk - HEADROOM;
        if bad { Err(Errno::EINVAL) } else { Ok(Umem { id, addr, size, chunk, headroom, unaligned }) }
    }

    /// Longest packet that comes in.
    #[doc(alias = "xsk_pool_get_rx_frame_size")]
    pub fn frame_size(&self) -> u32 {
        self.chunk - self.headroom - HEADROOM
    }

    /// The chunk that an address of the fill ring names.
    #[doc(alias = "xp_check_aligned")]
    pub fn chunk_of(&self, addr: u64) -> Option<u64> {
        let base = match self.unaligned {
            true => addr & ((1 << XSK_UNALIGNED_BUF_OFFSET_SHIFT) - 1),
            false => addr & !(u64::from(self.chunk) - 1),
        };
        let whole = !self.unaligned || base.saturating_add(self.chunk.into()) <= self.size;
        Some(base).filter(|b| *b < self.size && whole)
    }

    /// Where a packet goes in a chunk, and how the program is told.
    pub fn place(&self, chunk: u64) -> (u64, u64) {
        let behind = u64::from(self.headroom + HEADROOM);
        let told = if self.unaligned { chunk | behind << XSK_UNALIGNED_BUF_OFFSET_SHIFT } else { chunk + behind };
        (chunk + behind, told)
    }

    /// Where the bytes of a descriptor to be sent are, if it may be.
    #[doc(alias = "xskq_cons_is_valid_desc")]
    pub fn bytes_of(&self, d: &Desc) -> Option<u64> {
        let len = u64::from(d.len);
        let addr = match self.unaligned {
            true => (d.addr & ((1 << XSK_UNALIGNED_BUF_OFFSET_SHIFT) - 1)) + (d.addr >> XSK_UNALIGNED_BUF_OFFSET_SHIFT),
            false => d.addr,
        };
        let within = match self.unaligned {
            true => len <= self.chunk.into() && addr.saturating_add(len) <= self.size,
            false => (addr & (u64::from(self.chunk) - 1)) + len <= self.chunk.into(),
        };
        Some(addr).filter(|a| len > 0 && within && *a < self.size && d.options & !XDP_PKT_CONTD == 0)
    }
}
