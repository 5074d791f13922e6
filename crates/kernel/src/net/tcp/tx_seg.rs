//! A piece of the write queue: what is known about it, and the marks that loss recovery puts on it.
use crate::net::core::skb::{SKB_OVERHEAD, tx_truesize};
use crate::net::core::zerocopy::PAGE;
use belljar_wire::Segs;
use belljar_wire::tcp::Flags;

/// A piece of the write queue: unsent, or sent and kept until acknowledged. May stand for many wire segments.
#[derive(Clone, Debug)]
pub struct TxSeg {
    pub seq: u32,
    pub end_seq: u32,
    pub data: Segs,
    /// FIN, SYN and PSH of the last wire segment.
    pub flags: Flags,
    /// `TCPCB_*` below.
    pub sacked: u8,
    /// MSS it was cut for when sent; 0 while unsent.
    pub mss: u16,
    /// Times it was sent again.
    pub retrans: u16,
    /// MSG_EOR: nothing may be appended.
    pub eor: bool,
    /// When it was last sent, microseconds.
    pub tx_us: u64,
    /// Delivery-rate sample at sending: `delivered`, its time, the start of the flight.
    pub delivered: u32,
    pub delivered_us: u64,
    pub first_tx_us: u64,
    pub app_limited: bool,
    /// `TX_*` below: whom to tell of its fate.
    pub tx: u8,
    /// The sequence number that a time stamp is about (`tskey`).
    pub tskey: u32,
    pub truesize: u32,
}

pub const TCPCB_SACKED_ACKED: u8 = 1;
pub const TCPCB_SACKED_RETRANS: u8 = 2;
pub const TCPCB_LOST: u8 = 4;
/// RACK marked it lost and judges it no more until it is sent again, even if the mark is taken back (it is off
/// `tsorted_sent_queue`).
pub const TCPCB_JUDGED: u8 = 0x20;
/// Was ever sent again: Karn's rule.
pub const TCPCB_EVER_RETRANS: u8 = 0x80;

/// Carries the program's own pages (MSG_ZEROCOPY): appended to by its like only, charged by whole pages.
pub const TX_ZEROCOPY: u8 = 0x80;

impl TxSeg {
    /// An unsent piece.
    pub fn new(seq: u32, data: Segs, flags: Flags) -> TxSeg {
        let len = data.len() as u32;
        let ctl = u32::from(flags.intersects(Flags::SYN | Flags::FIN));
        TxSeg {
            seq,
            end_seq: seq.wrapping_add(len + ctl),
            data,
            flags,
            sacked: 0,
            mss: 0,
            retrans: 0,
            eor: false,
            app_limited: false,
            tx: 0,
            tskey: 0,
            tx_us: 0,
            delivered: 0,
            delivered_us: 0,
            first_tx_us: 0,
            truesize: tx_truesize(len as usize),
        }
    }

    pub fn is(&self, bits: u8) -> bool {
        self.sacked & bits != 0
    }

    pub fn len(&self) -> u32 {
        self.data.len() as u32
    }

    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// What the queue is charged for it.
    pub fn charge(&self) -> u32 {
        match self.tx & TX_ZEROCOPY {
            0 => tx_truesize(self.data.len()),
            _ => SKB_OVERHEAD + self.data.iter().map(|s| s.len().next_multiple_of(PAGE) as u32).sum::<u32>(),
        }
    }

    /// Wire segments it stands for (`tcp_skb_pcount`), SYN and FIN without data counting as one.
    pub fn pcount(&self) -> u32 {
        if self.mss == 0 || self.data.is_empty() { 1 } else { self.len().div_ceil(u32::from(self.mss)) }
    }
}
