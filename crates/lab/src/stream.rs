//! A stream of bytes in which every position is known: sender and receiver check each other without holding it.
use belljar_wire::Segs;

/// Bytes of one block; each begins with its own number.
pub const BLOCK: usize = 65_536;

/// Byte `pos` of stream `key`, for every position.
#[derive(Clone, Debug)]
pub struct Pattern {
    key: u64,
    /// The block whose bytes `buf` holds.
    block: u64,
    buf: Vec<u8>,
}

impl Pattern {
    pub fn new(key: u64) -> Pattern {
        let mut rng = belljar_link::Rng::new(key);
        let base: Vec<u8> = (0..BLOCK / 8).flat_map(|_| rng.next_u64().to_le_bytes()).collect();
        Pattern { key, block: u64::MAX, buf: base }
    }

    /// The bytes from `pos` to the end of its block, at most `max`.
    pub fn at(&mut self, pos: u64, max: usize) -> &[u8] {
        let (block, at) = (pos / BLOCK as u64, (pos % BLOCK as u64) as usize);
        if block != self.block {
            self.block = block;
            // Number and its mix at the beginning, and the number again every 512 bytes: no piece can change places.
            for (i, b) in self.buf.as_chunks_mut::<512>().0.iter_mut().enumerate() {
                let tag = block.wrapping_mul(BLOCK as u64 / 512).wrapping_add(i as u64) ^ self.key;
                b[..8].copy_from_slice(&tag.to_le_bytes());
            }
        }
        let end = BLOCK.min(at + max);
        &self.buf[at..end]
    }
}

/// Compares what arrives with the pattern.
#[derive(Clone, Debug)]
pub struct Checker {
    pattern: Pattern,
    pub pos: u64,
}

impl Checker {
    pub fn new(key: u64) -> Checker {
        Checker { pattern: Pattern::new(key), pos: 0 }
    }

    /// `Err` with the position of the first wrong byte.
    pub fn take(&mut self, segs: &Segs) -> Result<(), u64> {
        for seg in segs {
            let mut got = seg.as_slice();
            while !got.is_empty() {
                let want = self.pattern.at(self.pos, got.len());
                let (now, rest) = got.split_at(want.len());
                if now != want {
                    let bad = now.iter().zip(want).position(|(a, b)| a != b).unwrap_or(0);
                    return Err(self.pos + bad as u64);
                }
                self.pos += now.len() as u64;
                got = rest;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checker_finds_the_wrong_byte_and_a_piece_in_the_wrong_place() {
        let mut p = Pattern::new(7);
        let mut bytes: Vec<u8> = Vec::new();
        while bytes.len() < 200_000 {
            let at = bytes.len() as u64;
            bytes.extend_from_slice(p.at(at, 30_000));
        }
        assert_eq!(Checker::new(7).take(&Segs::from(bytes.clone())), Ok(()));
        let mut wrong = bytes.clone();
        wrong[150_001] ^= 1;
        assert_eq!(Checker::new(7).take(&Segs::from(wrong)), Err(150_001));
        let mut moved = bytes.clone();
        moved.drain(1000..1000 + BLOCK);
        assert!(Checker::new(7).take(&Segs::from(moved)).is_err());
        assert!(Checker::new(8).take(&Segs::from(bytes)).is_err());
    }
}
