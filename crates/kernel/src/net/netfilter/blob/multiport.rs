//! The bytes of a multiport match (`struct xt_multiport_v1`).
use super::super::rules::*;
use super::ext::{Reader, Writer};
use belljar_abi::Errno;

pub fn read(r: &mut Reader<'_>) -> Result<Match, Errno> {
    let which = match r.u8()? {
        0 => MultiportWhich::Source,
        1 => MultiportWhich::Dest,
        2 => MultiportWhich::Either,
        _ => return Err(Errno::EINVAL),
    };
    let count = usize::from(r.u8()?);
    if count > 15 {
        return Err(Errno::EINVAL);
    }
    let mut numbers = [0; 15];
    for n in &mut numbers {
        *n = r.u16()?;
    }
    let flags = r.bytes(15)?;
    let (mut ports, mut at) = (Vec::new(), 0);
    while at < count {
        let lo = numbers[at];
        // A port with a flag is the beginning of a range that the next one ends.
        let range = flags.get(at).is_some_and(|f| *f != 0);
        let hi = if range { *numbers.get(at + 1).filter(|_| at + 1 < count).ok_or(Errno::EINVAL)? } else { lo };
        ports.push(Ports { lo, hi });
        at += if range { 2 } else { 1 };
    }
    Ok(Match::Multiport { which, ports, inv: r.u8()? != 0 })
}

pub fn write(w: &mut Writer, which: MultiportWhich, ports: &[Ports], inv: bool) {
    let (mut numbers, mut flags, mut at) = ([0u16; 15], [0u8; 15], 0);
    for p in ports {
        let both = [p.lo, p.hi];
        let n = if p.lo == p.hi { 1 } else { 2 };
        if at + n > 15 {
            break;
        }
        numbers[at..at + n].copy_from_slice(&both[..n]);
        flags[at] = u8::from(n == 2);
        at += n;
    }
    w.u8(match which {
        MultiportWhich::Source => 0,
        MultiportWhich::Dest => 1,
        MultiportWhich::Either => 2,
    });
    w.u8(at as u8);
    numbers.iter().for_each(|n| w.u16(*n));
    w.0.extend(flags);
    w.u8(inv.into());
}
