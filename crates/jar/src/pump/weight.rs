//! What a record of a pair weighs in the host kernel's books, so that those which were read can be counted.
use belljar_host::fd;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;

/// Records of lengths that need the same number of these pieces weigh the same.
const PIECE: usize = 64;

/// The records that lie in a pair.
#[derive(Debug, Default)]
pub struct Lying {
    weights: VecDeque<usize>,
    sum: usize,
}

impl Lying {
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    pub fn weight(&self) -> usize {
        self.sum
    }

    pub fn push(&mut self, weight: usize) {
        self.weights.push_back(weight);
        self.sum += weight;
    }

    /// How many have been read when so much weight is left.
    pub fn read(&mut self, left: usize) -> usize {
        let before = self.weights.len();
        while let Some(first) = self.weights.front().copied()
            && left <= self.sum - first
        {
            self.weights.pop_front();
            self.sum -= first;
        }
        before - self.weights.len()
    }
}

/// The weights met so far. Each is measured once, in a pair that nobody else reads.
#[derive(Debug)]
pub struct Weights {
    /// Up to this weight the host kernel tells of each record that is read (a quarter of the send buffer it granted).
    pub told: usize,
    pair: (OwnedFd, OwnedFd),
    known: Vec<usize>,
}

impl Weights {
    pub fn new() -> std::io::Result<Weights> {
        let pair = fd::pair_seqpacket()?;
        fd::set_sndbuf(&pair.0, crate::serve::socket::OUR_SNDBUF)?;
        let granted = fd::get_opt(&pair.0, belljar_abi::SOL_SOCKET, belljar_abi::SO_SNDBUF)?;
        Ok(Weights { told: usize::try_from(granted).unwrap_or(0) / 4, pair, known: Vec::new() })
    }

    /// What a record of `len` bytes adds to SIOCOUTQ of the end that sent it.
    pub fn of(&mut self, len: usize) -> usize {
        let class = len.div_ceil(PIECE);
        if class >= self.known.len() {
            self.known.resize(class + 1, 0);
        }
        match self.known.get_mut(class) {
            Some(0) | None => {}
            Some(known) => return *known,
        }
        let record = vec![0; class * PIECE];
        let sent = fd::send(&self.pair.0, &record);
        let weight = fd::outq(&self.pair.0).unwrap_or(0);
        // Records weigh at least their bytes; without a measure that is what is known.
        if sent.is_err() || fd::recv(&self.pair.1, &mut [0], false).is_err() || weight == 0 {
            return record.len().max(PIECE);
        }
        if let Some(known) = self.known.get_mut(class) {
            *known = weight;
        }
        weight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Several records of any lengths in a pair weigh together what each weighs alone.
    #[test]
    fn weights_add_up() {
        let mut w = Weights::new().unwrap();
        let (ours, theirs) = fd::pair_seqpacket().unwrap();
        fd::set_sndbuf(&ours, crate::serve::socket::OUR_SNDBUF).unwrap();
        let mut rng = 1u64;
        for _ in 0..2_000 {
            let mut sum = 0;
            let mut lens = Vec::new();
            for _ in 0..4 {
                rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let len = (rng >> 33) as usize % [70, 1_500, 9_000, 65_600][(rng >> 20) as usize % 4];
                assert_eq!(fd::send(&ours, &vec![1; len]).unwrap(), len);
                sum += w.of(len);
                lens.push(len);
            }
            for len in lens {
                assert_eq!(fd::outq(&ours).unwrap(), sum, "{len}");
                fd::recv(&theirs, &mut [0], false).unwrap();
                sum -= w.of(len);
            }
            assert_eq!(fd::outq(&ours).unwrap(), 0);
        }
    }
}
