//! What stat(2) and statx(2) write into a program's memory, in the layout of this machine.
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Attributes of a file that is made up; the file that stands for it lends its identity and its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    pub dev: u64,
    pub ino: u64,
    /// Type and permissions.
    pub mode: u32,
    pub nlink: u32,
    pub size: u64,
    pub blksize: u32,
    /// Seconds and nanoseconds since 1970.
    pub time: (i64, i64),
}

pub const S_IFDIR: u32 = libc::S_IFDIR;
pub const S_IFREG: u32 = libc::S_IFREG;
pub const S_IFLNK: u32 = libc::S_IFLNK;

impl Attr {
    /// With the identity, type and times of an open file.
    pub fn of_fd(fd: &OwnedFd) -> io::Result<Attr> {
        let m = File::from(fd.try_clone()?).metadata()?;
        let time = (m.mtime(), m.mtime_nsec());
        Ok(Attr { dev: m.dev(), ino: m.ino(), mode: m.mode(), nlink: 1, size: 0, blksize: 4096, time })
    }

    /// `struct stat`.
    pub fn stat(&self) -> Vec<u8> {
        // SAFETY: an all-zero stat is valid.
        let mut s: libc::stat = unsafe { std::mem::zeroed() };
        (s.st_dev, s.st_ino, s.st_mode) = (self.dev, self.ino, self.mode);
        (s.st_nlink, s.st_size, s.st_blksize) = (self.nlink as _, self.size as _, self.blksize as _);
        (s.st_atime, s.st_mtime, s.st_ctime) = (self.time.0, self.time.0, self.time.0);
        (s.st_atime_nsec, s.st_mtime_nsec, s.st_ctime_nsec) = (self.time.1, self.time.1, self.time.1);
        bytes(&s)
    }

    /// `struct statx` with all that stat tells.
    pub fn statx(&self) -> Vec<u8> {
        // SAFETY: an all-zero statx is valid.
        let mut s: libc::statx = unsafe { std::mem::zeroed() };
        s.stx_mask = libc::STATX_BASIC_STATS;
        (s.stx_blksize, s.stx_nlink, s.stx_mode) = (self.blksize, self.nlink, self.mode as u16);
        (s.stx_ino, s.stx_size) = (self.ino, self.size);
        (s.stx_dev_major, s.stx_dev_minor) = (libc::major(self.dev), libc::minor(self.dev));
        for t in [&mut s.stx_atime, &mut s.stx_mtime, &mut s.stx_ctime] {
            (t.tv_sec, t.tv_nsec) = (self.time.0, self.time.1 as u32);
        }
        bytes(&s)
    }
}

/// The bytes of a structure of the kernel's, which was zeroed before it was filled.
fn bytes<T: Copy>(s: &T) -> Vec<u8> {
    // SAFETY: every byte of `s` is initialised, padding too, and the slice is copied before `s` ends.
    unsafe { std::slice::from_raw_parts((&raw const *s).cast::<u8>(), size_of::<T>()) }.to_vec()
}

/// The kind of filesystem that a path is on (`f_type` of statfs(2)).
pub fn filesystem(path: &Path) -> io::Result<i64> {
    // Of another type with another C library.
    #[allow(clippy::unnecessary_cast)]
    statfs(path).map(|s| s.f_type as i64)
}

/// `struct statfs` of the filesystem that a path is on.
pub fn filesystem_bytes(path: &Path) -> io::Result<Vec<u8>> {
    statfs(path).map(|s| bytes(&s))
}

fn statfs(path: &Path) -> io::Result<libc::statfs> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: plain integers, for which all-zero is a value.
    let mut s: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` is a C string and `s` a structure of ours; both live through the call.
    crate::cvt(unsafe { libc::statfs(path.as_ptr(), &raw mut s) })?;
    Ok(s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layouts_are_this_machines() {
        let mut a = Attr::of_fd(&File::open("/").unwrap().into()).unwrap();
        assert_eq!(a.mode & libc::S_IFMT, S_IFDIR);
        (a.size, a.nlink) = (77, 3);
        assert_eq!((a.stat().len(), a.statx().len()), (size_of::<libc::stat>(), 256));
        let at = std::mem::offset_of!(libc::stat, st_size);
        assert_eq!(a.stat()[at..at + 8], 77u64.to_ne_bytes());
        assert_eq!(a.statx()[16..20], 3u32.to_ne_bytes());
        assert_eq!(a.statx()[40..48], 77u64.to_ne_bytes());
    }
}
