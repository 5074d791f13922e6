//! A pcapng reader: enough for what the writer writes and what other tools save for Ethernet, in either byte order.
//! Blocks of unknown kinds are skipped.
use crate::pcapng::*;
use std::fmt;

/// What is wrong with a capture file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadCapture {
    NotPcapng,
    /// A block ends behind the file or lies about its length.
    Truncated,
    UnknownInterface,
    /// An interface that is not Ethernet.
    LinkType(u16),
}

impl fmt::Display for BadCapture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadCapture::NotPcapng => f.write_str("not a pcapng file"),
            BadCapture::Truncated => f.write_str("the capture is cut off or broken"),
            BadCapture::UnknownInterface => f.write_str("a packet names an interface that the capture does not have"),
            BadCapture::LinkType(n) => write!(f, "link type {n} is not Ethernet"),
        }
    }
}

impl std::error::Error for BadCapture {}

/// A packet of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    pub interface: String,
    pub ts_ns: u64,
    pub bytes: Vec<u8>,
    /// On the wire; more than `bytes` when the capture cut it.
    pub len: usize,
    pub comment: Option<String>,
    /// 0 when the capture has none.
    pub id: u64,
}

#[derive(Clone, Debug)]
struct Interface {
    name: String,
    link_type: u16,
    /// Units of a time stamp in a second.
    per_second: u64,
}

/// Packets in the order of the file.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    big: bool,
    interfaces: Vec<Interface>,
}

impl<'a> Reader<'a> {
    pub fn new(file: &'a [u8]) -> Result<Reader<'a>, BadCapture> {
        if file.get(..4) != Some(&SECTION_HEADER.to_le_bytes()[..]) {
            return Err(BadCapture::NotPcapng);
        }
        Ok(Reader { rest: file, big: false, interfaces: Vec::new() })
    }

    fn u16(&self, b: &[u8], at: usize) -> Option<u16> {
        let v = *b.get(at..)?.first_chunk::<2>()?;
        Some(if self.big { u16::from_be_bytes(v) } else { u16::from_le_bytes(v) })
    }

    fn u32(&self, b: &[u8], at: usize) -> Option<u32> {
        let v = *b.get(at..)?.first_chunk::<4>()?;
        Some(if self.big { u32::from_be_bytes(v) } else { u32::from_le_bytes(v) })
    }

    /// Kind and body of the next block.
    fn block(&mut self) -> Option<(u32, &'a [u8])> {
        if self.rest.get(..4)? == SECTION_HEADER.to_le_bytes() {
            self.big = *self.rest.get(8..)?.first_chunk::<4>()? == BYTE_ORDER_MAGIC.to_be_bytes();
            self.interfaces.clear();
        }
        let kind = self.u32(self.rest, 0)?;
        let len = self.u32(self.rest, 4)? as usize;
        let body = self.rest.get(8..len.checked_sub(4)?)?;
        self.rest = self.rest.get(len..)?;
        Some((kind, body))
    }

    fn options<'b>(&self, mut b: &'b [u8]) -> impl Iterator<Item = (u16, &'b [u8])> + use<'b, '_, 'a> {
        std::iter::from_fn(move || {
            let (code, len) = (self.u16(b, 0)?, self.u16(b, 2)? as usize);
            let value = b.get(4..4 + len).filter(|_| code != 0)?;
            b = b.get(4 + len.next_multiple_of(4)..).unwrap_or(&[]);
            Some((code, value))
        })
    }

    fn interface(&mut self, b: &[u8]) -> Option<()> {
        let mut i = Interface { name: String::new(), link_type: self.u16(b, 0)?, per_second: 1_000_000 };
        for (code, value) in self.options(b.get(8..)?) {
            match (code, value) {
                (IF_NAME, name) => i.name = String::from_utf8_lossy(name).into_owned(),
                (IF_TSRESOL, [r @ 0..=18]) => i.per_second = 10u64.pow(*r as u32),
                (IF_TSRESOL, [r]) if r & 0x80 != 0 => i.per_second = 1 << (r & 0x7f).min(63),
                _ => {}
            }
        }
        self.interfaces.push(i);
        Some(())
    }

    fn packet(&self, b: &[u8]) -> Result<Captured, BadCapture> {
        let field = |at: usize| self.u32(b, at).ok_or(BadCapture::Truncated);
        let i = self.interfaces.get(field(0)? as usize).ok_or(BadCapture::UnknownInterface)?;
        if i.link_type != LINKTYPE_ETHERNET {
            return Err(BadCapture::LinkType(i.link_type));
        }
        let ticks = (field(4)? as u128) << 32 | field(8)? as u128;
        let ts_ns = (ticks * 1_000_000_000 / i.per_second as u128) as u64;
        let (kept, len) = (field(12)? as usize, field(16)? as usize);
        let bytes = b.get(20..).and_then(|b| b.get(..kept)).ok_or(BadCapture::Truncated)?.to_vec();
        let mut p = Captured { interface: i.name.clone(), ts_ns, bytes, len, comment: None, id: 0 };
        for (code, value) in self.options(b.get(20 + kept.next_multiple_of(4)..).unwrap_or(&[])) {
            match code {
                OPT_COMMENT => p.comment = Some(String::from_utf8_lossy(value).into_owned()),
                OPT_PACKET_ID => p.id = value.first_chunk::<8>().map_or(0, |v| u64::from_le_bytes(*v)),
                _ => {}
            }
        }
        Ok(p)
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<Captured, BadCapture>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let done = match self.block() {
                None => Some(Err(BadCapture::Truncated)),
                Some((INTERFACE_DESCRIPTION, body)) => {
                    self.interface(body).is_none().then_some(Err(BadCapture::Truncated))
                }
                Some((ENHANCED_PACKET, body)) => Some(self.packet(body)),
                Some(_) => None,
            };
            if let Some(result) = done {
                if result.is_err() {
                    self.rest = &[];
                }
                return Some(result);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_files_are_named_and_never_panic() {
        assert_eq!(Reader::new(b"hello").err(), Some(BadCapture::NotPcapng));
        let mut w = Writer::new(Vec::new()).unwrap();
        let i = w.interface("eth0").unwrap();
        w.bytes(i, 5, &[1; 60], 3, Some("x")).unwrap();
        let file = w.into_inner();
        for n in 4..file.len() {
            let last = Reader::new(&file[..n]).unwrap().last();
            assert!(matches!(last, None | Some(Err(BadCapture::Truncated))), "{n} bytes");
        }
        for at in 4..file.len() {
            let mut bad = file.clone();
            bad[at] ^= 0xff;
            Reader::new(&bad).unwrap().for_each(drop);
        }
    }
}
