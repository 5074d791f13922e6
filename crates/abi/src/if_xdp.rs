//! AF_XDP sockets (`<linux/if_xdp.h>`): options, flags, where their rings are mapped, layouts.
use crate::Errno;
use crate::socket::AF_XDP;

pub const SOL_XDP: i32 = 283;

pub const XDP_MMAP_OFFSETS: i32 = 1;
pub const XDP_RX_RING: i32 = 2;
pub const XDP_TX_RING: i32 = 3;
pub const XDP_UMEM_REG: i32 = 4;
pub const XDP_UMEM_FILL_RING: i32 = 5;
pub const XDP_UMEM_COMPLETION_RING: i32 = 6;
pub const XDP_STATISTICS: i32 = 7;
pub const XDP_OPTIONS: i32 = 8;

/// `sxdp_flags`.
pub const XDP_SHARED_UMEM: u16 = 1;
pub const XDP_COPY: u16 = 1 << 1;
pub const XDP_ZEROCOPY: u16 = 1 << 2;
pub const XDP_USE_NEED_WAKEUP: u16 = 1 << 3;

/// Flags of a umem.
pub const XDP_UMEM_UNALIGNED_CHUNK_FLAG: u32 = 1;
/// In a ring: the kernel has to be told that there is something.
pub const XDP_RING_NEED_WAKEUP: u32 = 1;
/// In a descriptor: the packet goes on in the next one.
pub const XDP_PKT_CONTD: u32 = 1;
/// Where the offset begins in an address of an unaligned chunk.
pub const XSK_UNALIGNED_BUF_OFFSET_SHIFT: u32 = 48;

pub const XDP_PGOFF_RX_RING: u64 = 0;
pub const XDP_PGOFF_TX_RING: u64 = 0x8000_0000;
pub const XDP_UMEM_PGOFF_FILL_RING: u64 = 0x1_0000_0000;
pub const XDP_UMEM_PGOFF_COMPLETION_RING: u64 = 0x1_8000_0000;

/// `struct sockaddr_xdp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpAddr {
    pub flags: u16,
    pub ifindex: u32,
    pub queue: u32,
    /// A descriptor of the program's.
    pub shared_umem_fd: u32,
}

impl XdpAddr {
    pub fn parse(b: &[u8]) -> Result<XdpAddr, Errno> {
        let Some(&[a0, a1, f0, f1, i0, i1, i2, i3, q0, q1, q2, q3, s0, s1, s2, s3]) = b.first_chunk::<16>() else {
            return Err(Errno::EINVAL);
        };
        if i32::from(u16::from_ne_bytes([a0, a1])) != AF_XDP {
            return Err(Errno::EINVAL);
        }
        Ok(XdpAddr {
            flags: u16::from_ne_bytes([f0, f1]),
            ifindex: u32::from_ne_bytes([i0, i1, i2, i3]),
            queue: u32::from_ne_bytes([q0, q1, q2, q3]),
            shared_umem_fd: u32::from_ne_bytes([s0, s1, s2, s3]),
        })
    }

    pub fn emit(&self) -> [u8; 16] {
        let mut b = [0; 16];
        b[..2].copy_from_slice(&(AF_XDP as u16).to_ne_bytes());
        b[2..4].copy_from_slice(&self.flags.to_ne_bytes());
        b[4..8].copy_from_slice(&self.ifindex.to_ne_bytes());
        b[8..12].copy_from_slice(&self.queue.to_ne_bytes());
        b[12..].copy_from_slice(&self.shared_umem_fd.to_ne_bytes());
        b
    }
}
