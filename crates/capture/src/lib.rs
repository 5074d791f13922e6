//! Captures: write and read pcapng, print packets as tcpdump does, filter them with pcap-filter expressions; and a
//! kernel's events as lines.
//!
//! Every capture has one link type, Ethernet; a header is synthesised where a device has none. A dropped packet is a
//! record on an interface of its own, [`DROP_INTERFACE`], with reason and place as comment.
#![forbid(unsafe_code)]

mod dns;
pub mod filter;
pub mod pcapng;
pub mod print;
mod print6;
pub mod reader;
mod services;
pub mod trace;
pub mod watch;
#[cfg(test)]
mod zoo;
#[cfg(test)]
mod zoo6;

use belljar_wire::ethernet::{ETH_HLEN, ETH_P_IP, EthHeader, Mac};
use belljar_wire::{Csum, Frame, flow, gso};

pub use filter::Filter;
pub use pcapng::Writer;
pub use print::{Printer, Style};
pub use reader::{Captured, Reader};
pub use trace::Recorder;

/// Name of the interface on which dropped packets are recorded.
pub const DROP_INTERFACE: &str = "drop";

/// The bytes as a wire would carry them, behind an Ethernet header: checksums that a device was to finish are finished
/// (a super-segment is shown as one long packet), the frame itself stays as it is.
pub fn to_wire(frame: &Frame) -> Vec<u8> {
    let net = flow::net_offset(frame);
    let mut out = Vec::with_capacity(frame.len() + ETH_HLEN);
    if net == Some(0) {
        out.resize(ETH_HLEN, 0);
        EthHeader { dst: Mac::ZERO, src: Mac::ZERO, ethertype: ETH_P_IP }.emit(&mut out);
    }
    // A merged or not yet cut packet has no checksum of its own, whatever its state says.
    if frame.csum == Csum::Partial || frame.gso.is_some() {
        let mut done = frame.clone();
        done.csum = Csum::Partial;
        gso::finish_checksum(&mut done);
        out.extend_from_slice(done.head.bytes());
    } else {
        out.extend_from_slice(frame.head.bytes());
    }
    frame.payload.iter().for_each(|s| out.extend_from_slice(s.as_slice()));
    out
}
