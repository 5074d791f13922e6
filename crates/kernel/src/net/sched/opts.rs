//! Attributes of a request, by number; the last of a number counts, as with `nla_parse`.
use belljar_abi::netlink::{attrs, u32_at};

#[derive(Clone, Copy, Debug)]
pub struct Opts<'a>(&'a [u8]);

impl<'a> Opts<'a> {
    pub fn new(bytes: &'a [u8]) -> Opts<'a> {
        Opts(bytes)
    }

    pub fn get(&self, kind: u16) -> Option<&'a [u8]> {
        attrs(self.0).filter(|(k, _)| *k == kind).last().map(|(_, v)| v)
    }

    pub fn u8(&self, kind: u16) -> Option<u8> {
        self.get(kind)?.first().copied()
    }

    pub fn u32(&self, kind: u16) -> Option<u32> {
        u32_at(self.get(kind)?, 0)
    }

    pub fn u64(&self, kind: u16) -> Option<u64> {
        self.get(kind)?.first_chunk::<8>().map(|b| u64::from_ne_bytes(*b))
    }

    pub fn text(&self, kind: u16) -> Option<&'a str> {
        let bytes = self.get(kind)?;
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        std::str::from_utf8(&bytes[..end]).ok()
    }
}
