//! Classic BPF (SO_ATTACH_FILTER, SO_ATTACH_REUSEPORT_CBPF): a program over the bytes of a packet that ends with a number.
//! Checked when it is attached, so that running it needs no care: every jump goes forward and stays inside, every word of
//! memory is written before it is read, the last instruction returns.
//!
//! Left out: netlink attributes (SKF_AD_NLATTR finds none).
use crate::net::core::skb::SkBuff;
use belljar_abi::Errno;
use belljar_wire::Segs;
use std::sync::Arc;

/// Most instructions of a program.
const BPF_MAXINSNS: usize = 4096;
const BPF_MEMWORDS: usize = 16;

const SKF_AD_OFF: i64 = -0x1000;
const SKF_NET_OFF: i64 = -0x10_0000;
const SKF_LL_OFF: i64 = -0x20_0000;

// Instruction classes.
const LD: u16 = 0;
const LDX: u16 = 1;
const ST: u16 = 2;
const STX: u16 = 3;
const ALU: u16 = 4;
const JMP: u16 = 5;
const RET: u16 = 6;
const MISC: u16 = 7;
// Sizes and modes of loads.
const W: u16 = 0x00;
const H: u16 = 0x08;
const B: u16 = 0x10;
const IMM: u16 = 0x00;
const ABS: u16 = 0x20;
const IND: u16 = 0x40;
const MEM: u16 = 0x60;
const LEN: u16 = 0x80;
const MSH: u16 = 0xa0;
// Operations.
const ADD: u16 = 0x00;
const SUB: u16 = 0x10;
const MUL: u16 = 0x20;
const DIV: u16 = 0x30;
const OR: u16 = 0x40;
const AND: u16 = 0x50;
const LSH: u16 = 0x60;
const RSH: u16 = 0x70;
const NEG: u16 = 0x80;
const MOD: u16 = 0x90;
const XOR: u16 = 0xa0;
const JA: u16 = 0x00;
const JEQ: u16 = 0x10;
const JGT: u16 = 0x20;
const JGE: u16 = 0x30;
const JSET: u16 = 0x40;
/// The operand is X, not the constant.
const X: u16 = 0x08;
/// The result of RET is A.
const RET_A: u16 = 0x10;
const TXA: u16 = 0x80;

/// `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Insn {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

/// A checked program, shared by the sockets that have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prog(Arc<[Insn]>);

/// What a program may ask for beside the bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ancillary {
    pub ifindex: u32,
    pub hatype: u32,
    pub cpu: u32,
    pub random: u32,
}

/// The packet as a program sees it: its bytes from a header on, and what lies before them.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    skb: &'a SkBuff,
    /// The transport header, or nothing when the program sees the payload only.
    linear: &'a [u8],
    frags: &'a Segs,
    /// Length of the transport header (SKF_AD_PAY_OFFSET).
    header_len: u32,
}

impl<'a> Packet<'a> {
    /// A segment whose header `fill_cb` has parsed.
    pub fn tcp(skb: &'a SkBuff) -> Packet<'a> {
        let len = skb.tcp.header_len;
        let linear = skb.head.at(skb.tcp.header).get(..len.into()).unwrap_or(&[]);
        Packet { skb, linear, frags: &skb.frags, header_len: len.into() }
    }

    /// A datagram that is pulled to its header.
    pub fn udp(skb: &'a SkBuff) -> Packet<'a> {
        Packet { skb, linear: skb.head.bytes(), frags: &skb.frags, header_len: belljar_wire::udp::UDP_HLEN as u32 }
    }

    /// A packet from where it is pulled to: what raw and ping sockets see.
    pub fn at_head(skb: &'a SkBuff) -> Packet<'a> {
        Packet { skb, linear: skb.head.bytes(), frags: &skb.frags, header_len: 0 }
    }

    /// Without the transport header: what selects a member of a group looks at.
    pub fn payload(self) -> Packet<'a> {
        Packet { linear: self.linear.get(self.header_len as usize..).unwrap_or(&[]), ..self }
    }

    fn len(&self) -> usize {
        self.linear.len() + self.frags.len()
    }

    /// `n` bytes at an offset, as a big-endian number.
    fn load(&self, at: i64, n: usize) -> Option<u32> {
        let mut buf = [0; 4];
        let to = buf.get_mut(4 - n..)?;
        let negative = |base: i64, header: u8| {
            let from = self.skb.head.at(header);
            from.get(usize::try_from(at - base).ok()?..)?.get(..n)
        };
        match at {
            0.. => self.copy(usize::try_from(at).ok()?, to)?,
            SKF_NET_OFF.. => to.copy_from_slice(negative(SKF_NET_OFF, self.skb.network_header)?),
            SKF_LL_OFF.. => to.copy_from_slice(negative(SKF_LL_OFF, self.skb.mac_header)?),
            _ => return None,
        }
        Some(u32::from_be_bytes(buf))
    }

    pub fn copy(&self, at: usize, to: &mut [u8]) -> Option<()> {
        let near = self.linear.get(at..).unwrap_or(&[]);
        let n = near.len().min(to.len());
        let (first, rest) = to.split_at_mut(n);
        first.copy_from_slice(near.get(..n)?);
        let copied = self.frags.copy_to((at + n).saturating_sub(self.linear.len()), rest);
        (copied == rest.len()).then_some(())
    }

    /// Known offsets beyond SKF_AD_OFF; the flag says that A takes part.
    fn ancillary(&self, what: i64, a: u32, x: u32, anc: &Ancillary) -> u32 {
        match what {
            0 => self.skb.protocol_or_ip().into(),
            4 => self.skb.pkt_type as u32,
            8 => anc.ifindex,
            20 => self.skb.mark,
            28 => anc.hatype,
            32 => self.skb.hash,
            36 => anc.cpu,
            40 => a ^ x,
            44 => self.skb.vlan.tci.into(),
            48 => self.skb.vlan.present().into(),
            52 => self.header_len,
            56 => anc.random,
            60 => self.skb.vlan.proto.into(),
            _ => 0,
        }
    }
}

/// Offsets that SKF_AD_OFF knows: even the ones whose answer is always 0.
fn is_ancillary(k: u32) -> bool {
    let what = i64::from(k as i32) - SKF_AD_OFF;
    (0..=60).contains(&what) && what % 4 == 0
}

impl Prog {
    /// From the instructions as `struct sock_fprog` points at them; EINVAL for what the kernel's checker refuses.
    #[doc(alias = "bpf_check_classic")]
    pub fn new(bytes: &[u8]) -> Result<Prog, Errno> {
        let insn = |b: &[u8]| match *b {
            [c0, c1, jt, jf, k0, k1, k2, k3] => {
                Some(Insn { code: u16::from_ne_bytes([c0, c1]), jt, jf, k: u32::from_ne_bytes([k0, k1, k2, k3]) })
            }
            _ => None,
        };
        let prog: Vec<Insn> = bytes.chunks(8).map(insn).collect::<Option<_>>().ok_or(Errno::EINVAL)?;
        if prog.is_empty() || prog.len() > BPF_MAXINSNS {
            return Err(Errno::EINVAL);
        }
        let good = prog.iter().enumerate().all(|(pc, i)| allowed(i.code) && operand_fits(i, prog.len() - pc - 1));
        let ends = prog.last().is_some_and(|i| i.code == RET || i.code == RET | RET_A);
        if !good || !ends || !memory_is_written_first(&prog) {
            return Err(Errno::EINVAL);
        }
        Ok(Prog(prog.into()))
    }

    /// The number that the program ends with; 0 when it reads beyond the packet or divides by zero.
    #[doc(alias = "bpf_prog_run")]
    pub fn run(&self, p: &Packet<'_>, anc: &Ancillary) -> u32 {
        let (mut a, mut x, mut mem) = (0u32, 0u32, [0u32; BPF_MEMWORDS]);
        let mut pc = 0usize;
        while let Some(i) = self.0.get(pc) {
            pc += 1;
            let operand = if i.code & X == 0 { i.k } else { x };
            match i.code & 7 {
                RET => return if i.code & RET_A == 0 { i.k } else { a },
                LD => match load(i, p, a, x, &mem, anc) {
                    Some(v) => a = v,
                    None => return 0,
                },
                LDX => match i.code {
                    c if c == LDX | MSH | B => match p.load(i64::from(i.k as i32), 1) {
                        Some(b) => x = (b & 0xf) << 2,
                        None => return 0,
                    },
                    c if c == LDX | LEN => x = p.len() as u32,
                    c if c == LDX | MEM => x = word(&mem, i.k),
                    _ => x = i.k,
                },
                ST | STX => {
                    if let Some(m) = mem.get_mut(i.k as usize) {
                        *m = if i.code & 7 == ST { a } else { x };
                    }
                }
                ALU => match alu(i.code & 0xf0, a, operand) {
                    Some(v) => a = v,
                    None => return 0,
                },
                JMP if i.code & 0xf0 == JA => pc += i.k as usize,
                JMP => pc += usize::from(if holds(i.code & 0xf0, a, operand) { i.jt } else { i.jf }),
                MISC if i.code & TXA == 0 => x = a,
                _ => a = x,
            }
        }
        0
    }
}

fn word(mem: &[u32; BPF_MEMWORDS], k: u32) -> u32 {
    mem.get(k as usize).copied().unwrap_or(0)
}

fn load(i: &Insn, p: &Packet<'_>, a: u32, x: u32, mem: &[u32; BPF_MEMWORDS], anc: &Ancillary) -> Option<u32> {
    let n = match i.code & 0x18 {
        W => 4,
        H => 2,
        _ => 1,
    };
    match i.code & 0xe0 {
        IMM => Some(i.k),
        MEM => Some(word(mem, i.k)),
        LEN => Some(p.len() as u32),
        ABS if is_ancillary(i.k) => Some(p.ancillary(i64::from(i.k as i32) - SKF_AD_OFF, a, x, anc)),
        ABS => p.load(i64::from(i.k as i32), n),
        _ => p.load(i64::from(i.k.wrapping_add(x) as i32), n),
    }
}

fn alu(op: u16, a: u32, b: u32) -> Option<u32> {
    Some(match op {
        ADD => a.wrapping_add(b),
        SUB => a.wrapping_sub(b),
        MUL => a.wrapping_mul(b),
        DIV => a.checked_div(b)?,
        MOD => a.checked_rem(b)?,
        OR => a | b,
        AND => a & b,
        XOR => a ^ b,
        LSH => a.wrapping_shl(b),
        RSH => a.wrapping_shr(b),
        _ => a.wrapping_neg(),
    })
}

fn holds(op: u16, a: u32, b: u32) -> bool {
    match op {
        JEQ => a == b,
        JGT => a > b,
        JGE => a >= b,
        _ => a & b != 0,
    }
}

/// Codes that the checker knows (`chk_code_allowed`).
fn allowed(code: u16) -> bool {
    let op = code & 0xf0;
    match code & 7 {
        LD => {
            let sized = [W, H, B].iter().any(|s| code == LD | ABS | s || code == LD | IND | s);
            sized || code == LD | LEN || code == LD | IMM || code == LD | MEM
        }
        LDX => [LEN, MSH | B, IMM, MEM].iter().any(|m| code == LDX | m),
        ST | STX => code & !7 == 0,
        ALU => code & 0xff07 == ALU && (op == NEG && code & X == 0 || op <= XOR && op != NEG),
        JMP => code & 0xff07 == JMP && (code == JMP | JA || (JEQ..=JSET).contains(&op)),
        RET => code == RET || code == RET | RET_A,
        _ => code == MISC || code == MISC | TXA,
    }
}

/// The constant makes sense, and jumps stay among the `left` instructions that follow.
fn operand_fits(i: &Insn, left: usize) -> bool {
    let op = i.code & 0xf0;
    match i.code & 7 {
        ALU if i.code & X == 0 => match op {
            DIV | MOD => i.k != 0,
            LSH | RSH => i.k < 32,
            _ => true,
        },
        LD if i.code & 0xe0 == MEM => (i.k as usize) < BPF_MEMWORDS,
        LDX if i.code & 0xe0 == MEM => (i.k as usize) < BPF_MEMWORDS,
        ST | STX => (i.k as usize) < BPF_MEMWORDS,
        JMP if op == JA => (i.k as usize) < left,
        JMP => usize::from(i.jt) < left && usize::from(i.jf) < left,
        LD if i.code & 0xe0 == ABS => i64::from(i.k as i32) < SKF_AD_OFF || i.k as i32 >= 0 || is_ancillary(i.k),
        _ => true,
    }
}

/// On every way to a load of a word it was stored (`check_load_and_stores`).
fn memory_is_written_first(prog: &[Insn]) -> bool {
    let mut at_target = vec![u16::MAX; prog.len()];
    let mut valid = 0u16;
    for (pc, i) in prog.iter().enumerate() {
        valid &= at_target.get(pc).copied().unwrap_or(0);
        let mut lands = |by: usize| {
            if let Some(m) = at_target.get_mut(pc + 1 + by) {
                *m &= valid;
            }
        };
        match i.code & 7 {
            ST | STX => valid |= 1 << (i.k & 15),
            LD | LDX if i.code & 0xe0 == MEM && valid & 1 << (i.k & 15) == 0 => return false,
            JMP => {
                if i.code & 0xf0 == JA {
                    lands(i.k as usize);
                } else {
                    lands(i.jt.into());
                    lands(i.jf.into());
                }
                valid = u16::MAX;
            }
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    type Raw = (u16, u8, u8, u32);

    fn prog(insns: &[Raw]) -> Result<Prog, Errno> {
        let bytes = insns.iter().flat_map(|&(code, jt, jf, k)| {
            let mut b = code.to_ne_bytes().to_vec();
            b.extend([jt, jf]);
            b.extend(k.to_ne_bytes());
            b
        });
        Prog::new(&bytes.collect::<Vec<_>>())
    }

    fn run(insns: &[Raw], payload: &[u8]) -> u32 {
        let skb = SkBuff { frags: payload.to_vec().into(), ..SkBuff::default() };
        prog(insns).unwrap().run(&Packet { skb: &skb, linear: &[1, 2, 3], frags: &skb.frags, header_len: 3 }, &anc())
    }

    fn anc() -> Ancillary {
        Ancillary { ifindex: 7, cpu: 3, ..Ancillary::default() }
    }

    #[test]
    fn programs_compute() {
        assert_eq!(run(&[(RET, 0, 0, 5)], &[]), 5);
        // Bytes on both sides of the end of the header.
        assert_eq!(run(&[(LD | ABS | W, 0, 0, 1), (RET | RET_A, 0, 0, 0)], &[4, 5]), 0x0203_0405);
        assert_eq!(run(&[(LD | ABS | W, 0, 0, 2), (RET | RET_A, 0, 0, 0)], &[4, 5]), 0);
        assert_eq!(run(&[(LDX | IMM, 0, 0, 2), (LD | IND | H, 0, 0, 1), (RET | RET_A, 0, 0, 0)], &[4, 5]), 0x0405);
        assert_eq!(run(&[(LDX | MSH | B, 0, 0, 2), (MISC | TXA, 0, 0, 0), (RET | RET_A, 0, 0, 0)], &[]), 12);
        assert_eq!(run(&[(LD | LEN, 0, 0, 0), (ALU | MUL, 0, 0, 10), (RET | RET_A, 0, 0, 0)], &[4, 5]), 50);
        let cpu = (SKF_AD_OFF + 36) as u32;
        assert_eq!(run(&[(LD | ABS | W, 0, 0, cpu), (ALU | MOD, 0, 0, 2), (RET | RET_A, 0, 0, 0)], &[]), 1);
        // if A > 1 return 9 else return 8
        let choice = [(LD | ABS | B, 0, 0, 1), (JMP | JGT, 0, 1, 1), (RET, 0, 0, 9), (RET, 0, 0, 8)];
        assert_eq!(run(&choice, &[]), 9);
        let memory = [(LD | IMM, 0, 0, 6), (ST, 0, 0, 3), (LDX | MEM, 0, 0, 3), (ALU | ADD | X, 0, 0, 0)];
        assert_eq!(run(&[&memory[..], &[(RET | RET_A, 0, 0, 0)]].concat(), &[]), 12);
        assert_eq!(run(&[(ALU | DIV | X, 0, 0, 0), (RET, 0, 0, 1)], &[]), 0);
    }

    #[test]
    fn the_checker_refuses_what_the_kernel_refuses() {
        let ret = (RET, 0, 0, 0);
        for bad in [
            &[][..],
            &[(LD | IMM, 0, 0, 0)],
            &[(0xff, 0, 0, 0), ret],
            &[(ALU | DIV, 0, 0, 0), ret],
            &[(ALU | LSH, 0, 0, 32), ret],
            &[(JMP | JA, 0, 0, 1), ret],
            &[(JMP | JEQ, 1, 0, 0), ret],
            &[(ST, 0, 0, 16), ret],
            &[(LD | MEM, 0, 0, 0), ret],
            // Written on one of two ways only.
            &[(JMP | JEQ, 0, 1, 0), (ST, 0, 0, 0), (LD | MEM, 0, 0, 0), ret],
            &[(LD | ABS | W, 0, 0, (SKF_AD_OFF + 64) as u32), ret],
            &[(LD | ABS | W, 0, 0, u32::MAX), ret],
        ] {
            assert_eq!(prog(bad), Err(Errno::EINVAL), "{bad:?}");
        }
        assert!(prog(&[(LD | ABS | W, 0, 0, SKF_NET_OFF as u32), ret]).is_ok());
        assert_eq!(prog(&vec![ret; BPF_MAXINSNS + 1]), Err(Errno::EINVAL));
        assert_eq!(Prog::new(&[0; 9]), Err(Errno::EINVAL));
    }
}
