//! MD5 (RFC 1321), for the signatures of RFC 2385 and nothing else: it does not protect against anybody who can choose
//! what is hashed.

/// The integer part of 2^32 times |sin(i)|, i from 1 (RFC 1321 §3.4).
#[rustfmt::skip]
const T: [u32; 64] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
    0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be, 0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
    0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c, 0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
    0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
    0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1, 0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
];
/// Rotations of the four rounds.
const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// A hash under way.
#[derive(Clone, Debug)]
pub struct Md5 {
    state: [u32; 4],
    block: [u8; 64],
    len: u64,
}

impl Default for Md5 {
    fn default() -> Md5 {
        Md5 { state: [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476], block: [0; 64], len: 0 }
    }
}

impl Md5 {
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let at = (self.len % 64) as usize;
            let n = bytes.len().min(64 - at);
            let (now, rest) = bytes.split_at(n);
            if let Some(to) = self.block.get_mut(at..at + n) {
                to.copy_from_slice(now);
            }
            (self.len, bytes) = (self.len.wrapping_add(n as u64), rest);
            if at + n == 64 {
                self.state = round(self.state, &self.block);
            }
        }
    }

    pub fn finish(mut self) -> [u8; 16] {
        let bits = self.len.wrapping_mul(8).to_le_bytes();
        let zeros = 63 - (self.len.wrapping_add(8) % 64) as usize;
        self.update(&[0x80]);
        self.update([0; 64].get(..zeros).unwrap_or(&[]));
        self.update(&bits);
        let mut out = [0; 16];
        for (to, word) in out.chunks_exact_mut(4).zip(self.state) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        out
    }
}

fn round(state: [u32; 4], block: &[u8; 64]) -> [u32; 4] {
    let mut words = [0u32; 16];
    for (w, b) in words.iter_mut().zip(block.chunks_exact(4)) {
        *w = b.first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
    }
    let [mut a, mut b, mut c, mut d] = state;
    for (i, t) in T.iter().enumerate() {
        let (mix, from) = match i / 16 {
            0 => (b & c | !b & d, i),
            1 => (d & b | !d & c, 5 * i + 1),
            2 => (b ^ c ^ d, 3 * i + 5),
            _ => (c ^ (b | !d), 7 * i),
        };
        let sum = a.wrapping_add(mix).wrapping_add(*t).wrapping_add(words[from % 16]);
        (a, d, c, b) = (d, c, b, b.wrapping_add(sum.rotate_left(SHIFTS[i / 16][i % 4])));
    }
    let [sa, sb, sc, sd] = state;
    [sa.wrapping_add(a), sb.wrapping_add(b), sc.wrapping_add(c), sd.wrapping_add(d)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> String {
        let mut m = Md5::default();
        // In pieces of all sizes.
        text.as_bytes().chunks(text.len() / 3 + 1).for_each(|c| m.update(c));
        m.finish().iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn the_test_suite_of_rfc_1321() {
        assert_eq!(hex(""), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(hex("a"), "0cc175b9c0f1b6a831c399e269772661");
        assert_eq!(hex("message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
        assert_eq!(hex("abcdefghijklmnopqrstuvwxyz"), "c3fcd3d76192e4007dfb496cca67e13b");
        let digits = "1234567890".repeat(8);
        assert_eq!(hex(&digits), "57edf4a22be3c955ac49da2e2107b67a");
        assert_eq!(hex(&"0".repeat(55)).len() + hex(&"0".repeat(64)).len(), 64);
    }
}
