//! The program's memory that a call names: read and written only here. NULL with a length is EFAULT, as the kernel says.
//! packetdrill passes either NULL or memory of at least the stated length that nobody else uses during the call.
use belljar_abi::Errno;
pub use belljar_kernel::task::call::Cmsg as Message;
use belljar_kernel::task::call::Cmsg;
use belljar_wire::Segs;
use libc::{c_void, iovec, msghdr};

/// `len` bytes at `ptr`, copied.
///
/// # Safety
/// `ptr` is NULL or good for reads of `len` bytes.
pub unsafe fn read(ptr: *const c_void, len: usize) -> Result<Vec<u8>, Errno> {
    if len == 0 {
        return Ok(Vec::new());
    }
    if ptr.is_null() {
        return Err(Errno::EFAULT);
    }
    // SAFETY: not NULL and, as the caller promises, `len` readable bytes.
    Ok(unsafe { std::slice::from_raw_parts(ptr.cast::<u8>(), len) }.to_vec())
}

/// Copies `bytes` to `ptr`.
///
/// # Safety
/// `ptr` is NULL or good for writes of `bytes.len()` bytes.
pub unsafe fn write(ptr: *mut c_void, bytes: &[u8]) -> Result<(), Errno> {
    if bytes.is_empty() {
        return Ok(());
    }
    if ptr.is_null() {
        return Err(Errno::EFAULT);
    }
    // SAFETY: not NULL and, as the caller promises, room for all of `bytes`, which is memory of ours.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), ptr.cast::<u8>(), bytes.len()) };
    Ok(())
}

/// One value at `ptr`.
///
/// # Safety
/// `ptr` is NULL or points to an initialized `T`.
pub unsafe fn get<T: Copy>(ptr: *const T) -> Result<T, Errno> {
    if ptr.is_null() {
        return Err(Errno::EFAULT);
    }
    // SAFETY: not NULL and, as the caller promises, a `T`; C does not promise alignment of what it casts.
    Ok(unsafe { ptr.read_unaligned() })
}

/// Stores one value at `ptr`.
///
/// # Safety
/// `ptr` is NULL or good for a write of a `T`.
pub unsafe fn put<T: Copy>(ptr: *mut T, value: T) -> Result<(), Errno> {
    if ptr.is_null() {
        return Err(Errno::EFAULT);
    }
    // SAFETY: not NULL and, as the caller promises, room for a `T`.
    unsafe { ptr.write_unaligned(value) };
    Ok(())
}

/// The pieces of an iovec array.
///
/// # Safety
/// `iov` is NULL or points to `n` initialized entries.
pub unsafe fn pieces(iov: *const iovec, n: usize) -> Result<Vec<iovec>, Errno> {
    if n > 1024 {
        return Err(Errno::EMSGSIZE);
    }
    // SAFETY: as the caller promises, entry by entry.
    (0..n).map(|i| unsafe { get(iov.wrapping_add(i)) }).collect()
}

/// The bytes of each piece.
///
/// # Safety
/// Each piece is NULL or readable over its length.
pub unsafe fn gather(pieces: &[iovec]) -> Result<Vec<Vec<u8>>, Errno> {
    // SAFETY: as the caller promises.
    pieces.iter().map(|p| unsafe { read(p.iov_base, p.iov_len) }).collect()
}

/// Received bytes into the pieces; returns how many found room.
///
/// # Safety
/// Each piece is NULL or writable over its length.
pub unsafe fn scatter(segs: &Segs, pieces: &[iovec]) -> Result<usize, Errno> {
    let bytes = segs.to_vec();
    let mut rest = bytes.as_slice();
    for p in pieces {
        let (now, later) = rest.split_at(p.iov_len.min(rest.len()));
        // SAFETY: at most the length of the piece.
        unsafe { write(p.iov_base, now) }?;
        rest = later;
    }
    Ok(bytes.len() - rest.len())
}

/// The control messages of a send.
///
/// # Safety
/// `msg_control` is NULL or readable over `msg_controllen`.
pub unsafe fn cmsgs_in(msg: &msghdr) -> Result<Vec<Cmsg>, Errno> {
    if msg.msg_control.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: as the caller promises.
    let all = unsafe { read(msg.msg_control, msg.msg_controllen) }?;
    let (mut rest, mut found) = (all.as_slice(), Vec::new());
    while let (Some(len), Some(level), Some(kind)) = (word(rest, 0), int(rest, 8), int(rest, 12)) {
        let (Some(data), true) = (rest.get(16..len), len >= 16) else { break };
        found.push(Cmsg { level, kind, data: data.to_vec() });
        rest = rest.get(len.next_multiple_of(8)..).unwrap_or_default();
    }
    Ok(found)
}

/// Control messages as C lays them out, cut to the room there is; true when something was cut (MSG_CTRUNC).
pub fn cmsgs_out(cmsgs: &[Cmsg], room: usize) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    for c in cmsgs {
        let (left, whole) = (room.saturating_sub(out.len()), 16 + c.data.len());
        if left < 16 {
            return (out, true);
        }
        // The last one is cut to what is left.
        let len = whole.min(left);
        out.extend_from_slice(&(len as u64).to_ne_bytes());
        out.extend_from_slice(&c.level.to_ne_bytes());
        out.extend_from_slice(&c.kind.to_ne_bytes());
        out.extend_from_slice(c.data.get(..len - 16).unwrap_or(&c.data));
        if len < whole {
            return (out, true);
        }
        out.resize(out.len().next_multiple_of(8).min(room), 0);
    }
    (out, false)
}

fn word(b: &[u8], at: usize) -> Option<usize> {
    b.get(at..)?.first_chunk().map(|b| usize::from_ne_bytes(*b))
}

fn int(b: &[u8], at: usize) -> Option<i32> {
    b.get(at..)?.first_chunk().map(|b| i32::from_ne_bytes(*b))
}
