//! Directories held open and worked in by names, so that nobody who changes what lies above or in the way of them leads us
//! elsewhere: no name here is a path, and no link is followed.
use crate::{cvt, stat::Attr};
use std::ffi::CString;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// See the module.
#[derive(Debug)]
pub struct Dir(OwnedFd);

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// One component of a path.
fn component(name: &str) -> io::Result<CString> {
    if name.is_empty() || matches!(name, "." | "..") || name.contains('/') {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    CString::new(name).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Depth to which [`Dir::remove`] goes.
const MAX_DEPTH: u32 = 8;

impl Dir {
    /// A directory that is trusted by its path.
    pub fn open(path: &Path) -> io::Result<Dir> {
        let f = std::fs::OpenOptions::new();
        let f = std::os::unix::fs::OpenOptionsExt::custom_flags(&mut f.clone(), libc::O_DIRECTORY | libc::O_NOFOLLOW)
            .read(true)
            .open(path)?;
        Ok(Dir(f.into()))
    }

    fn openat(&self, name: &str, flags: libc::c_int, mode: libc::mode_t) -> io::Result<OwnedFd> {
        let name = component(name)?;
        let flags = flags | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        // SAFETY: `name` is a C string that lives through the call.
        let fd = cvt(unsafe { libc::openat(self.0.as_raw_fd(), name.as_ptr(), flags, libc::c_uint::from(mode)) })?;
        // SAFETY: `fd` was just created for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// The directory of that name, made when there is none.
    pub fn sub(&self, name: &str) -> io::Result<Dir> {
        self.make_dir(name)?;
        self.openat(name, libc::O_RDONLY | libc::O_DIRECTORY, 0).map(Dir)
    }

    /// Makes a directory that everybody may read, or leaves what is there.
    pub fn make_dir(&self, name: &str) -> io::Result<()> {
        let name = component(name)?;
        // SAFETY: `name` is a C string that lives through the call.
        there(cvt(unsafe { libc::mkdirat(self.0.as_raw_fd(), name.as_ptr(), 0o755) }))
    }

    /// Makes an empty file that nobody writes, or leaves what is there.
    pub fn make_file(&self, name: &str) -> io::Result<()> {
        there(self.openat(name, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, 0o444))
    }

    /// Makes a link, or leaves what is there.
    pub fn make_link(&self, name: &str, to: &str) -> io::Result<()> {
        let (name, to) = (component(name)?, CString::new(to).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?);
        // SAFETY: both are C strings that live through the call.
        there(cvt(unsafe { libc::symlinkat(to.as_ptr(), self.0.as_raw_fd(), name.as_ptr()) }))
    }

    /// What lies there, to be read. ELOOP for a link.
    pub fn file(&self, name: &str) -> io::Result<OwnedFd> {
        self.openat(name, libc::O_RDONLY, 0)
    }

    /// The file of that name with `text` in it, which keeps its identity: `stat` told of it already. Where somebody reads it
    /// at this moment, that reader keeps what it has, and another file takes the name.
    pub fn rewrite(&self, name: &str, text: &[u8], mode: u32) -> io::Result<File> {
        let f = match self.idle(name) {
            Ok(f) => f,
            Err(_) => {
                let _ = self.remove(name);
                let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
                File::from(self.openat(name, flags, 0o600)?)
            }
        };
        f.set_len(0)?;
        (&f).write_all(text)?;
        f.set_permissions(Permissions::from_mode(mode))?;
        Ok(f)
    }

    /// [`Dir::rewrite`], then open for reading alone.
    pub fn rewritten(&self, name: &str, text: &[u8], mode: u32) -> io::Result<OwnedFd> {
        drop(self.rewrite(name, text, mode)?);
        self.file(name)
    }

    /// A plain file that nobody else has open, to be read and written.
    fn idle(&self, name: &str) -> io::Result<File> {
        let seen = File::from(self.openat(name, libc::O_RDONLY | libc::O_NONBLOCK, 0)?);
        let m = seen.metadata()?;
        if !m.is_file() || m.nlink() != 1 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        seen.set_permissions(Permissions::from_mode(0o600))?;
        let f = OpenOptions::new().read(true).write(true).open(format!("/proc/self/fd/{}", seen.as_raw_fd()))?;
        drop(seen);
        alone(&f)?;
        Ok(f)
    }

    /// The directory itself once more, as an open of its own.
    pub fn again(&self) -> io::Result<OwnedFd> {
        let flags = libc::O_DIRECTORY | libc::O_CLOEXEC | libc::O_RDONLY;
        // SAFETY: the name is a C string constant.
        let fd = cvt(unsafe { libc::openat(self.0.as_raw_fd(), c".".as_ptr(), flags) })?;
        // SAFETY: `fd` was just created for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Attributes of what lies there, itself.
    pub fn attr(&self, name: &str) -> io::Result<Attr> {
        Attr::of_fd(&self.openat(name, libc::O_PATH, 0)?)
    }

    pub fn names(&self) -> io::Result<Vec<String>> {
        let all = std::fs::read_dir(format!("/proc/self/fd/{}", self.0.as_raw_fd()))?;
        Ok(all.flatten().filter_map(|e| e.file_name().into_string().ok()).collect())
    }

    /// Takes away what lies there, a directory with all that is in it.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.remove_to(name, MAX_DEPTH)
    }

    fn remove_to(&self, name: &str, depth: u32) -> io::Result<()> {
        let c = component(name)?;
        // SAFETY: `c` is a C string that lives through the call.
        if unsafe { libc::unlinkat(self.0.as_raw_fd(), c.as_ptr(), 0) } == 0 {
            return Ok(());
        }
        if depth > 0 {
            let inside = self.openat(name, libc::O_RDONLY | libc::O_DIRECTORY, 0).map(Dir)?;
            for n in inside.names()? {
                inside.remove_to(&n, depth - 1)?;
            }
        }
        // SAFETY: as above.
        cvt(unsafe { libc::unlinkat(self.0.as_raw_fd(), c.as_ptr(), libc::AT_REMOVEDIR) }).map(drop)
    }
}

/// Fails when the file is open a second time: a lease for writing is given to the only one.
fn alone(f: &File) -> io::Result<()> {
    const F_SETSIG: libc::c_int = 10;
    // Who opens it in between must not end us: this signal does nothing to who does not wait for it.
    // SAFETY: plain calls on an open descriptor with integer arguments.
    cvt(unsafe { libc::fcntl(f.as_raw_fd(), F_SETSIG, libc::SIGURG) })?;
    // SAFETY: as above.
    cvt(unsafe { libc::fcntl(f.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) })?;
    // SAFETY: as above.
    cvt(unsafe { libc::fcntl(f.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) }).map(drop)
}

fn there<T>(r: io::Result<T>) -> io::Result<()> {
    match r {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn links_in_the_way_are_not_followed() {
        let root = std::env::temp_dir().join(format!("belljar-dir-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("victim")).unwrap();
        fs::write(root.join("victim/kept"), "x").unwrap();
        fs::create_dir(root.join("tree")).unwrap();
        let d = Dir::open(&root.join("tree")).unwrap();
        let sub = d.sub("a").unwrap();
        sub.make_file("f").unwrap();
        sub.make_link("l", "../../victim").unwrap();
        sub.sub("d").unwrap().make_file("g").unwrap();
        let mut names = sub.names().unwrap();
        names.sort();
        assert_eq!(names, ["d", "f", "l"]);
        assert_eq!(sub.attr("l").unwrap().mode & 0o170_000, crate::stat::S_IFLNK);
        assert!(sub.sub("l").is_err() && sub.file("l").is_err());
        for bad in ["..", ".", "", "a/b"] {
            assert!(d.make_file(bad).is_err() && d.sub(bad).is_err() && d.remove(bad).is_err(), "{bad}");
        }
        d.remove("a").unwrap();
        std::os::unix::fs::symlink("../victim", root.join("tree/a")).unwrap();
        assert!(d.sub("a").is_err());
        d.remove("a").unwrap();
        std::os::unix::fs::symlink("../victim/kept", root.join("tree/a")).unwrap();
        d.rewrite("a", b"new", 0o444).unwrap();
        fs::remove_file(root.join("tree/a")).unwrap();
        fs::hard_link(root.join("victim/kept"), root.join("tree/a")).unwrap();
        d.rewrite("a", b"new", 0o444).unwrap();
        d.remove("a").unwrap();
        assert_eq!((d.names().unwrap().len(), fs::read_to_string(root.join("victim/kept")).unwrap()), (0, "x".into()));
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_file_keeps_its_identity_and_a_reader_its_text() {
        use std::io::Read;
        let root = std::env::temp_dir().join(format!("belljar-rewrite-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        let d = Dir::open(&root).unwrap();
        d.make_file("f").unwrap();
        let told = d.attr("f").unwrap();
        let mut first = File::from(d.rewritten("f", b"one\n", 0o444).unwrap());
        let m = first.metadata().unwrap();
        assert_eq!((m.dev(), m.ino(), m.mode()), (told.dev, told.ino, 0o100_444));
        let second = d.rewritten("f", b"2\n", 0o444).unwrap();
        let mut text = String::new();
        first.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\n");
        drop(first);
        let ino = Attr::of_fd(&second).unwrap().ino;
        assert_ne!(ino, told.ino);
        drop(second);
        assert_eq!(Attr::of_fd(&d.rewritten("f", b"3\n", 0o444).unwrap()).unwrap().ino, ino);
        fs::remove_dir_all(&root).unwrap();
    }
}
