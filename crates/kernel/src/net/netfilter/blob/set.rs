//! `-m set` and `-j SET` in the kernel's layouts.
use super::ext::{Reader, Writer};
use crate::net::netfilter::rules::{SetCount, SetMatch, SetRef, SetTarget};
use belljar_abi::Errno;
use belljar_abi::ipset::{IPSET_FLAG_RETURN_NOMATCH, IPSET_INVALID_ID};

/// No time of the rule's own (`IPSET_NO_TIMEOUT`), and the longest that is taken.
const NO_TIMEOUT: u32 = u32::MAX;
const MAX_TIMEOUT: u32 = u32::MAX / 1000;

fn read_ref(r: &mut Reader<'_>) -> Result<SetRef, Errno> {
    Ok(SetRef { index: r.u16()?, dim: r.u8()?, flags: r.u8()?, name: "".into() })
}

fn write_ref(w: &mut Writer, s: &SetRef) {
    w.u16(s.index);
    w.u8(s.dim);
    w.u8(s.flags);
}

/// Revisions 1 and 2 have no counters; in 3 the number stands behind its comparison.
pub fn read_match(r: &mut Reader<'_>, revision: u8) -> Result<SetMatch, Errno> {
    let set = read_ref(r)?;
    if revision < 3 {
        let flags = u32::from(set.flags) & IPSET_FLAG_RETURN_NOMATCH;
        return Ok(SetMatch { set, flags, ..SetMatch::default() });
    }
    r.u32()?;
    let mut count = || -> Result<SetCount, Errno> {
        let (a, b) = (r.u64()?, r.u64()?);
        Ok(if revision == 3 { SetCount { op: a as u8, value: b } } else { SetCount { op: b as u8, value: a } })
    };
    let (packets, bytes) = (count()?, count()?);
    Ok(SetMatch { set, packets, bytes, flags: r.u32()? })
}

pub fn write_match(w: &mut Writer, m: &SetMatch) {
    write_ref(w, &m.set);
    w.zeros(4);
    for c in [m.packets, m.bytes] {
        w.u64(c.value);
        w.u64(c.op.into());
    }
    w.u32(m.flags);
    w.zeros(4);
}

/// EINVAL for a set that says what marks packets get.
pub fn read_target(r: &mut Reader<'_>, revision: u8) -> Result<SetTarget, Errno> {
    let (add, del) = (read_ref(r)?, read_ref(r)?);
    if revision == 3 && read_ref(r)?.index != IPSET_INVALID_ID {
        return Err(Errno::EINVAL);
    }
    let (flags, timeout) = if revision == 1 { (0, NO_TIMEOUT) } else { (r.u32()?, r.u32()?) };
    Ok(SetTarget { add, del, flags, timeout: (timeout != NO_TIMEOUT).then(|| timeout.min(MAX_TIMEOUT)) })
}

pub fn write_target(w: &mut Writer, t: &SetTarget) {
    write_ref(w, &t.add);
    write_ref(w, &t.del);
    write_ref(w, &SetRef { index: IPSET_INVALID_ID, ..SetRef::default() });
    w.u32(t.flags);
    w.u32(t.timeout.unwrap_or(NO_TIMEOUT));
}
