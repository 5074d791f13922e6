//! Where jars are found: a private directory with one lock and one socket per jar.
//!
//! A lock held means a living supervisor; a lock that can be taken means a dead one, whose files are then removed, whoever
//! left them. Names alone decide nothing.
use crate::process::euid;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The directory of this user's jars, made when missing: `/run/belljar` for root, `$XDG_RUNTIME_DIR/belljar`, or
/// `/tmp/belljar-UID` where there is no such directory.
pub fn dir() -> io::Result<PathBuf> {
    let uid = euid();
    let mut tried = Vec::new();
    if uid == 0 {
        tried.push(PathBuf::from("/run/belljar"));
    } else if let Some(x) = std::env::var_os("XDG_RUNTIME_DIR").filter(|x| !x.is_empty()) {
        tried.push(Path::new(&x).join("belljar"));
    }
    tried.push(PathBuf::from(format!("/tmp/belljar-{uid}")));
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for d in tried {
        match private(&d, uid) {
            Ok(()) => return Ok(d),
            Err(e) => last = io::Error::new(e.kind(), format!("{}: {e}", d.display())),
        }
    }
    Err(last)
}

/// Makes `d`, or checks that it is a directory of ours that nobody else can enter.
fn private(d: &Path, uid: u32) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(d) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let m = fs::symlink_metadata(d)?;
    if !m.is_dir() || m.uid() != uid || m.mode() & 0o077 != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "must be a directory of this user with mode 0700"));
    }
    Ok(())
}

fn flock(f: &File, op: libc::c_int) -> io::Result<bool> {
    // SAFETY: plain call on an open descriptor.
    match crate::cvt(unsafe { libc::flock(f.as_raw_fd(), op) }) {
        Ok(_) => Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::EWOULDBLOCK) => Ok(false),
        Err(e) => Err(e),
    }
}

/// A jar's name, held: dropping it removes the jar's files.
#[derive(Debug)]
pub struct Claim {
    name: String,
    dir: PathBuf,
    lock: File,
}

impl Claim {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn socket(&self) -> PathBuf {
        socket_path(&self.dir, &self.name)
    }

    /// Notes one line of text about the jar in its lock file, for `ps`.
    pub fn note(&mut self, text: &str) -> io::Result<()> {
        self.lock.set_len(0)?;
        self.lock.rewind()?;
        self.lock.write_all(text.as_bytes())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The socket first, the lock last: a file without its lock would be nobody's.
        let _ = fs::remove_file(self.socket());
        remove_tree(&self.dir, &self.name);
        let _ = fs::remove_file(xtables_path(&self.dir, &self.name));
        let _ = fs::remove_file(lock_path(&self.dir, &self.name));
    }
}

/// The control socket of jar `name`.
pub fn socket_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.sock"))
}

/// Makes the directory of jar `name` for what its programs are given in the place of `/proc` and `/sys`.
///
/// On tmpfs where that can be: there, as in `/proc`, `.` and `..` come before all other names, which sysctl(8) relies on.
pub fn make_tree(name: &str) -> io::Result<PathBuf> {
    let (dir, uid) = (dir()?, euid());
    let quick = Some(shm_home(uid)).filter(|home| !on_tmpfs(&dir) && on_tmpfs(home.parent().unwrap_or(home)));
    let mut path = tree_path(&dir, name);
    if let Some(home) = quick.filter(|home| private(home, uid).is_ok()) {
        path = home.join(shm_name(&dir, name)?);
    }
    private(&path, uid)?;
    fs::canonicalize(path)
}

fn on_tmpfs(path: &Path) -> bool {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    crate::stat::filesystem(path).is_ok_and(|kind| kind == TMPFS_MAGIC)
}

/// This user's directory in memory.
fn shm_home(uid: u32) -> PathBuf {
    PathBuf::from(format!("/dev/shm/belljar-{uid}"))
}

/// Told apart from jars of that name in another directory.
fn shm_name(dir: &Path, name: &str) -> io::Result<String> {
    Ok(format!("{name}.{:x}.tree", fs::metadata(dir)?.ino()))
}

fn remove_tree(dir: &Path, name: &str) {
    let _ = fs::remove_dir_all(tree_path(dir, name));
    let (home, uid) = (shm_home(euid()), euid());
    let ours = fs::symlink_metadata(&home).is_ok_and(|m| m.is_dir() && m.uid() == uid);
    if let Some(name) = shm_name(dir, name).ok().filter(|_| ours) {
        let _ = fs::remove_dir_all(home.join(name));
        // Goes with its last entry.
        let _ = fs::remove_dir(home);
    }
}

/// The lock file of iptables in jar `name` (XTABLES_LOCKFILE).
pub fn xtables_lock(name: &str) -> io::Result<PathBuf> {
    Ok(xtables_path(&dir()?, name))
}

fn xtables_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.xtables"))
}

fn tree_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.tree"))
}

fn lock_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.lock"))
}

/// Names are file names: letters, digits and `._-`, not beginning with a dot, at most 64.
pub fn valid_name(name: &str) -> bool {
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=64).contains(&name.len()) && name.bytes().all(ok) && !name.starts_with(['.', '-'])
}

/// Takes `name`; `None` when a living supervisor has it.
pub fn claim(dir: &Path, name: &str) -> io::Result<Option<Claim>> {
    let path = lock_path(dir, name);
    for _ in 0..100 {
        let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        if !flock(&lock, libc::LOCK_EX | libc::LOCK_NB)? {
            return Ok(None);
        }
        // Somebody may have removed the stale file between open and lock: then this lock is of no file.
        let same = fs::metadata(&path).is_ok_and(|m| lock.metadata().is_ok_and(|l| l.ino() == m.ino()));
        if same {
            let _ = fs::remove_file(socket_path(dir, name));
            remove_tree(dir, name);
            let _ = fs::remove_file(xtables_path(dir, name));
            return Ok(Some(Claim { name: name.to_owned(), dir: dir.to_owned(), lock }));
        }
    }
    Err(io::Error::from(io::ErrorKind::TimedOut))
}

/// A jar that lives, with the line its supervisor noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Living {
    pub name: String,
    pub note: String,
    pub socket: PathBuf,
}

/// The living jars, by name; removes what dead ones left.
pub fn living(dir: &Path) -> io::Result<Vec<Living>> {
    let mut out = Vec::new();
    for e in fs::read_dir(dir)?.flatten() {
        let path = e.path();
        let Some(name) = path.file_stem().and_then(OsStr::to_str).filter(|n| valid_name(n)) else { continue };
        if path.extension() != Some(OsStr::new("lock")) {
            continue;
        }
        let Ok(mut f) = OpenOptions::new().read(true).write(true).open(&path) else { continue };
        // A shared lock, so that two commands looking at once do not take each other for the owner.
        if flock(&f, libc::LOCK_SH | libc::LOCK_NB)? {
            let current = fs::metadata(&path).is_ok_and(|m| f.metadata().is_ok_and(|l| l.ino() == m.ino()));
            if current && flock(&f, libc::LOCK_EX | libc::LOCK_NB)? {
                let _ = fs::remove_file(socket_path(dir, name));
                remove_tree(dir, name);
                let _ = fs::remove_file(xtables_path(dir, name));
                let _ = fs::remove_file(&path);
            }
            continue;
        }
        let mut note = String::new();
        let _ = Read::by_ref(&mut f).take(4096).read_to_string(&mut note);
        out.push(Living { name: name.to_owned(), note, socket: socket_path(dir, name) });
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_owner_and_stale_files_go() {
        let d = std::env::temp_dir().join(format!("belljar-rundir-{}", std::process::id()));
        private(&d, euid()).unwrap();
        let mut a = claim(&d, "web").unwrap().unwrap();
        a.note("pid 1").unwrap();
        fs::write(a.socket(), "").unwrap();
        assert!(claim(&d, "web").unwrap().is_none());
        assert_eq!(living(&d).unwrap().iter().map(|l| l.note.as_str()).collect::<Vec<_>>(), ["pid 1"]);
        drop(a);
        assert_eq!(fs::read_dir(&d).unwrap().count(), 0);
        // What a killed supervisor leaves: files without a lock held.
        fs::write(d.join("old.lock"), "pid 2").unwrap();
        fs::write(d.join("old.sock"), "").unwrap();
        fs::create_dir_all(tree_path(&d, "old").join("0/proc")).unwrap();
        assert!(living(&d).unwrap().is_empty());
        assert_eq!(fs::read_dir(&d).unwrap().count(), 0);
        assert!(valid_name("nginx-2") && !valid_name("../x") && !valid_name("") && !valid_name(".x"));
        fs::remove_dir(&d).unwrap();
    }
}
