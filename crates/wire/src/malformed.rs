//! [`Malformed`]: why a parser refused bytes.
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// Fewer bytes than the header needs.
    Truncated,
    BadVersion,
    /// The header says a length of itself that cannot be (IHL, data offset).
    BadHeaderLength,
    /// The header says a packet length that cannot be.
    BadLength,
    BadChecksum,
    /// A protocol or hardware type that this format does not carry.
    BadType,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Truncated => "truncated",
            Malformed::BadVersion => "bad version",
            Malformed::BadHeaderLength => "bad header length",
            Malformed::BadLength => "bad length",
            Malformed::BadChecksum => "bad checksum",
            Malformed::BadType => "bad type",
        })
    }
}

impl std::error::Error for Malformed {}
