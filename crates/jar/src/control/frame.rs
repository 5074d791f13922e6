//! Length-prefixed JSON over a UNIX stream, with descriptors that travel beside it; blocking and non-blocking readers.
use super::MAX_MESSAGE;
use belljar_host::control::{recv_fds, send_fds};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};

/// Descriptors that wait for their message, at most.
const MAX_PENDING_FDS: usize = 16;

/// The bytes of one message.
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(message)?;
    let len = u32::try_from(json.len()).ok().filter(|l| *l as usize <= MAX_MESSAGE);
    let len = len.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "message too long"))?;
    let mut out = len.to_le_bytes().to_vec();
    out.extend_from_slice(&json);
    Ok(out)
}

/// Sends a whole message on a blocking socket; descriptors go with its first byte.
pub fn write_message<T: Serialize>(s: &impl AsFd, message: &T, fds: &[RawFd]) -> io::Result<()> {
    let bytes = encode(message)?;
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|r| !r.is_empty()) {
        match send_fds(s, rest, if at == 0 { fds } else { &[] }) {
            Ok(n) => at += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Puts messages together from what arrives.
#[derive(Debug, Default)]
pub struct Reader {
    buf: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Reader {
    /// Reads once. `Ok(false)`: the other end closed. On a non-blocking socket WouldBlock is an error as usual.
    pub fn fill(&mut self, s: &impl AsFd) -> io::Result<bool> {
        let (mut chunk, mut fds) = ([0u8; 16 * 1024], Vec::new());
        let n = recv_fds(s, &mut chunk, &mut fds)?;
        self.fds.extend(fds);
        self.fds.truncate(MAX_PENDING_FDS);
        self.buf.extend_from_slice(chunk.get(..n).unwrap_or(&[]));
        Ok(n > 0)
    }

    /// The next whole message, if it is there. Malformed or too long ones are InvalidData: hang up.
    pub fn take<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some((head, rest)) = self.buf.split_first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_le_bytes(*head) as usize;
        if len > MAX_MESSAGE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"));
        }
        let Some(json) = rest.get(..len) else { return Ok(None) };
        let message = serde_json::from_slice(json)?;
        self.buf.drain(..4 + len);
        Ok(Some(message))
    }

    /// Descriptors that came with the messages so far.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        self.fds.drain(..).collect()
    }

    /// Blocks until the next message; UnexpectedEof when the other end closes first.
    pub fn read_message<T: DeserializeOwned>(&mut self, s: &impl AsFd) -> io::Result<T> {
        loop {
            if let Some(m) = self.take()? {
                return Ok(m);
            }
            match self.fill(s) {
                Ok(true) => {}
                Ok(false) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Hello, Request};
    use super::*;
    use belljar_host::fd;
    use std::os::fd::AsRawFd;

    #[test]
    fn messages_and_descriptors_arrive_whole() {
        let (a, b) = fd::pair_stream().unwrap();
        let m = fd::memfd("x", b"in").unwrap();
        write_message(&a, &Hello::ours(), &[]).unwrap();
        write_message(&a, &Request::Capture { host: "host".into(), device: None }, &[m.as_raw_fd()]).unwrap();
        let mut r = Reader::default();
        assert_eq!(r.read_message::<Hello>(&b).unwrap(), Hello::ours());
        assert!(matches!(r.read_message::<Request>(&b).unwrap(), Request::Capture { .. }));
        assert_eq!(r.take_fds().len(), 1);
        drop(a);
        assert_eq!(r.read_message::<Request>(&b).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn nonsense_is_refused() {
        let mut r = Reader { buf: vec![255; 8], fds: VecDeque::new() };
        assert!(r.take::<Request>().is_err());
        let mut r = Reader { buf: vec![2, 0, 0, 0, b'{', b'x'], fds: VecDeque::new() };
        assert!(r.take::<Request>().is_err());
        let mut r = Reader { buf: vec![9, 0, 0, 0, b'{'], fds: VecDeque::new() };
        assert_eq!(r.take::<Request>().unwrap(), None);
    }
}
