//! A physdev match: its bytes (`struct xt_physdev_info`), and which packets it means: those that a bridge passes on.
use super::super::rules::*;
use super::ext::{Reader, Writer};
use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::skb::SkBuff;
use belljar_abi::Errno;

/// EINVAL when nothing is asked, or what there is not.
#[doc(alias = "physdev_mt_check")]
pub fn read(r: &mut Reader<'_>) -> Result<Match, Errno> {
    let mut p = PhysdevMatch::default();
    for to in [&mut p.iin.name, &mut p.iin.mask, &mut p.iout.name, &mut p.iout.mask] {
        to.copy_from_slice(r.bytes(16)?);
    }
    (p.inv, p.which) = (r.u8()?, r.u8()?);
    if p.which == 0 || p.which & !PHYSDEV_ALL != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Match::Physdev(Box::new(p)))
}

pub fn write(w: &mut Writer, p: &PhysdevMatch) {
    for bytes in [&p.iin.name, &p.iin.mask, &p.iout.name, &p.iout.mask] {
        w.0.extend(bytes);
    }
    w.0.extend([p.inv, p.which]);
}

/// Ports of what leaves are known where a bridge forwards: rules about them stand there, or ask for bridged packets too.
pub fn allowed(p: &PhysdevMatch, hooks: u8) -> bool {
    let bridged = p.which & PHYSDEV_BRIDGED != 0 && p.inv & PHYSDEV_BRIDGED == 0;
    p.which & (PHYSDEV_OUT | PHYSDEV_IS_OUT) == 0 || bridged || hooks & 1 << super::Hook::LocalOut as u8 == 0
}

#[doc(alias = "physdev_mt")]
pub fn matches(net: &Net, p: &PhysdevMatch, skb: &SkBuff) -> bool {
    let name = |d: Option<DevId>| d.and_then(|d| net.devs.get(d)).map(|d| d.name.as_str());
    let (iin, out) = skb.nf_bridge.map_or((None, None), |b| (name(Some(b.physin)), name(b.physout)));
    let is = |m: &IfMatch, d: Option<&str>| {
        d.is_some_and(|d| {
            let mut bytes = [0; 16];
            bytes.iter_mut().zip(d.bytes().take(15)).for_each(|(to, b)| *to = b);
            m.matches(&bytes)
        })
    };
    let asked = [
        (PHYSDEV_BRIDGED, out.is_some()),
        (PHYSDEV_IS_IN, iin.is_some()),
        (PHYSDEV_IS_OUT, out.is_some()),
        (PHYSDEV_IN, is(&p.iin, iin)),
        (PHYSDEV_OUT, is(&p.iout, out)),
    ];
    asked.into_iter().all(|(bit, yes)| p.which & bit == 0 || yes != (p.inv & bit != 0))
}
