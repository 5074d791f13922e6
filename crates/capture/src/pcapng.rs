//! The pcapng writer: section header, one interface description per device, enhanced packets with nanoseconds and
//! comments (draft-ietf-opsawg-pcapng). Name resolution, statistics and secrets blocks are not written.
use crate::to_wire;
use belljar_wire::{Frame, PacketId};
use std::io::{self, Write};

pub(crate) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
pub(crate) const INTERFACE_DESCRIPTION: u32 = 1;
pub(crate) const ENHANCED_PACKET: u32 = 6;
pub(crate) const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
pub(crate) const LINKTYPE_ETHERNET: u16 = 1;
/// What tcpdump and Wireshark accept at most.
pub const MAX_SNAPLEN: u32 = 262_144;

pub(crate) const OPT_COMMENT: u16 = 1;
pub(crate) const OPT_PACKET_ID: u16 = 5;
const SHB_USERAPPL: u16 = 4;
pub(crate) const IF_NAME: u16 = 2;
pub(crate) const IF_TSRESOL: u16 = 9;

/// Writes blocks whole, each with one `write_all`; wrap files in a `BufWriter`.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
    snaplen: u32,
    interfaces: u32,
    /// The block being put together.
    block: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a section.
    pub fn new(out: W) -> io::Result<Writer<W>> {
        let mut w = Writer { out, snaplen: MAX_SNAPLEN, interfaces: 0, block: Vec::new() };
        w.begin(SECTION_HEADER);
        w.u32(BYTE_ORDER_MAGIC);
        w.u16(1);
        w.u16(0);
        w.block.extend_from_slice(&u64::MAX.to_le_bytes());
        w.option(SHB_USERAPPL, concat!("belljar ", env!("CARGO_PKG_VERSION")).as_bytes());
        w.end_options();
        w.finish_block()?;
        Ok(w)
    }

    /// Keeps only the first `bytes` of each packet from now on; interfaces made earlier keep their word.
    pub fn set_snaplen(&mut self, bytes: u32) {
        self.snaplen = bytes.clamp(1, MAX_SNAPLEN);
    }

    /// A new interface; its number goes with every packet.
    pub fn interface(&mut self, name: &str) -> io::Result<u32> {
        self.begin(INTERFACE_DESCRIPTION);
        self.u16(LINKTYPE_ETHERNET);
        self.u16(0);
        self.u32(self.snaplen);
        self.option(IF_NAME, name.as_bytes());
        self.option(IF_TSRESOL, &[9]);
        self.end_options();
        self.finish_block()?;
        self.interfaces += 1;
        Ok(self.interfaces - 1)
    }

    /// A packet at `ts_ns` since 1970, as the wire would carry it.
    pub fn packet(&mut self, interface: u32, ts_ns: u64, frame: &Frame, comment: Option<&str>) -> io::Result<()> {
        self.bytes(interface, ts_ns, &to_wire(frame), frame.id, comment)
    }

    /// The same for bytes that begin with an Ethernet header; an id of 0 is left out.
    pub fn bytes(
        &mut self,
        interface: u32,
        ts_ns: u64,
        packet: &[u8],
        id: PacketId,
        comment: Option<&str>,
    ) -> io::Result<()> {
        if interface >= self.interfaces {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the capture has no such interface"));
        }
        let kept = packet.get(..self.snaplen as usize).unwrap_or(packet);
        self.begin(ENHANCED_PACKET);
        self.u32(interface);
        self.u32((ts_ns >> 32) as u32);
        self.u32(ts_ns as u32);
        self.u32(kept.len() as u32);
        self.u32(packet.len() as u32);
        self.padded(kept);
        if let Some(text) = comment {
            self.option(OPT_COMMENT, truncate(text, u16::MAX as usize).as_bytes());
        }
        if id != 0 {
            self.option(OPT_PACKET_ID, &id.to_le_bytes());
        }
        if comment.is_some() || id != 0 {
            self.end_options();
        }
        self.finish_block()
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    pub fn get_ref(&self) -> &W {
        &self.out
    }

    pub fn into_inner(self) -> W {
        self.out
    }

    fn begin(&mut self, kind: u32) {
        self.block.clear();
        self.u32(kind);
        self.u32(0);
    }

    fn u16(&mut self, v: u16) {
        self.block.extend_from_slice(&v.to_le_bytes());
    }

    fn u32(&mut self, v: u32) {
        self.block.extend_from_slice(&v.to_le_bytes());
    }

    fn padded(&mut self, bytes: &[u8]) {
        self.block.extend_from_slice(bytes);
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        self.u16(code);
        self.u16(value.len() as u16);
        self.padded(value);
    }

    fn end_options(&mut self) {
        self.u32(0);
    }

    fn finish_block(&mut self) -> io::Result<()> {
        let len = self.block.len() as u32 + 4;
        self.u32(len);
        if let Some(field) = self.block.get_mut(4..8) {
            field.copy_from_slice(&len.to_le_bytes());
        }
        self.out.write_all(&self.block)
    }
}

fn truncate(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reader;
    use crate::zoo::tcp;
    use belljar_wire::{Csum, Gso, GsoType, gso};

    #[test]
    fn what_is_written_is_read_again() {
        let mut w = Writer::new(Vec::new()).unwrap();
        let eth0 = w.interface("eth0").unwrap();
        let drop = w.interface(crate::DROP_INTERFACE).unwrap();
        let f = tcp(1000, 5);
        w.packet(eth0, 1_700_000_000_123_456_789, &f, None).unwrap();
        w.packet(drop, 1_700_000_000_123_456_999, &f, Some("TCP_LISTEN_OVERFLOW at tcp_v4_syn_recv_sock")).unwrap();
        assert!(w.packet(7, 0, &f, None).is_err());
        let file = w.into_inner();
        let all: Vec<_> = Reader::new(&file).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].interface.as_str(), all[0].ts_ns), ("eth0", 1_700_000_000_123_456_789));
        assert_eq!((all[0].comment.as_deref(), &all[0].bytes, all[0].id), (None, &to_wire(&f), 7));
        assert_eq!(all[1].interface, "drop");
        assert_eq!(all[1].comment.as_deref(), Some("TCP_LISTEN_OVERFLOW at tcp_v4_syn_recv_sock"));
    }

    #[test]
    fn super_segments_and_bare_packets_become_valid_ethernet() {
        let mut f = tcp(0, 60_000);
        f.gso = Some(Gso::new(GsoType::TcpV4, 1460, 42));
        f.csum = Csum::Unnecessary;
        let wire = to_wire(&f);
        assert_eq!(gso::verify(&Frame::from_bytes(&wire, 0)), Ok(()));
        let mut bare = f.clone();
        bare.head.pull(14).unwrap();
        let again = to_wire(&bare);
        assert_eq!((again[..14].to_vec(), &again[14..]), ([&[0; 12][..], &[8, 0]].concat(), &wire[14..]));
    }

    #[test]
    fn snaplen_cuts_and_keeps_the_length() {
        let mut w = Writer::new(Vec::new()).unwrap();
        w.set_snaplen(60);
        let i = w.interface("eth0").unwrap();
        w.packet(i, 1, &tcp(0, 500), None).unwrap();
        let file = w.into_inner();
        let p = Reader::new(&file).unwrap().next().unwrap().unwrap();
        assert_eq!((p.bytes.len(), p.len), (60, 554));
    }
}
