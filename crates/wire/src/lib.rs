//! Packet formats: views and meanings, parse and emit, checksums; and the two things that carry packets
//! through the whole project, payload [`Segs`] and [`Frame`]s.
//!
//! Nothing here does I/O, knows the time or allocates per packet on the fast path. A parser never panics,
//! whatever the bytes; what it refuses it names.
#![forbid(unsafe_code)]

pub mod frame;
pub mod seg;

pub use frame::{Csum, Frame, Gso, GsoType, Head, PacketId};
pub use seg::{Seg, Segs};
