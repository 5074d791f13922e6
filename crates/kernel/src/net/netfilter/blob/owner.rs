//! The bytes of an owner match (`struct xt_owner_match_info`).
use super::super::rules::*;
use super::ext::Reader;
use belljar_abi::Errno;

/// EINVAL for ranges that end before they begin, and for supplementary groups, which are not known here.
#[doc(alias = "owner_check")]
pub fn read(r: &mut Reader<'_>) -> Result<Match, Errno> {
    let (uid, gid) = ((r.u32()?, r.u32()?), (r.u32()?, r.u32()?));
    let (which, inv) = (r.u8()?, r.u8()?);
    if which & !(OWNER_UID | OWNER_GID | OWNER_SOCKET) != 0 || uid.0 > uid.1 || gid.0 > gid.1 {
        return Err(Errno::EINVAL);
    }
    Ok(Match::Owner { uid, gid, which, inv })
}
