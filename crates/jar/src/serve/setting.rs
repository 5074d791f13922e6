//! Files under `/proc/sys` that a program opened for writing: what it writes is a setting of the stack before any later
//! call of it is answered. The write itself has long returned then, so a value that the stack refuses changes nothing
//! and is reported at the end of the run.
//!
//! Who only writes is given one end of a pair. Who reads as well is given a file, whose position we share: where that is
//! after a write says what of the file was written. Writing at a place (pwrite) and going back to the beginning are notified.
//! Left out: reading at a place right behind a write, which shows the file before the next call makes it true again.
use super::msg::gather_some;
use super::{Outcome, exact};
use crate::jar::Jar;
use crate::key::Key;
use belljar_abi::Errno;
use belljar_host::seccomp::{Notification, Sys};
use belljar_host::{epoll, errno, fd, memory, process};
use belljar_kernel::ids::NsId;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// One open file.
#[derive(Debug)]
pub struct Setting {
    /// The other end, or what tells of changes.
    ours: OwnedFd,
    /// Device and inode of the program's end.
    identity: (u64, u64),
    host: usize,
    ns: Option<NsId>,
    key: String,
    shared: Option<Shared>,
}

/// A file that is read and written; the program's descriptor is of this very open.
#[derive(Debug)]
struct Shared {
    path: String,
    file: File,
    /// What we put there.
    text: String,
    /// Behind what was taken.
    taken: u64,
}

/// What is opened for writing.
pub(super) struct Asked<'a> {
    pub path: &'a str,
    pub mode: u32,
    pub key: String,
    /// What reading shows, when it is open for that too.
    pub reads: Option<String>,
}

/// Open at once; a program that never closes them is told EMFILE.
const MAX: usize = 1024;
/// Files that are read and written: so many, and those that are closed are looked for.
const MANY_FILES: usize = 16;
/// The longest value.
const LONGEST: usize = 4096;

impl Shared {
    /// What a write that ended at the file's position put there: `None` where Linux looks at nothing.
    fn written(&mut self, is_sysctl: bool) -> Option<String> {
        let mut text = vec![0; LONGEST];
        let n = self.file.read_at(&mut text, 0).unwrap_or(0);
        text.truncate(n);
        let end = self.file.stream_position().ok()?;
        let kept = self.text.len() as u64;
        let from = match self.taken {
            0 if end > kept && text.starts_with(self.text.as_bytes()) => kept,
            taken => taken,
        };
        self.taken = end;
        // A setting is written at the beginning (`sysctl_writes_strict`), an attribute of a device anywhere.
        if end <= from || (from > 0 && is_sysctl) {
            return None;
        }
        let value = text.get(usize::try_from(from).ok()?..n.min(usize::try_from(end).ok()?))?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// From the beginning it shows this.
    fn show(&mut self, text: String) -> io::Result<()> {
        self.taken = 0;
        self.file.write_all_at(text.as_bytes(), 0)?;
        self.file.set_len(text.len() as u64)?;
        self.text = text;
        Ok(())
    }
}

impl Setting {
    /// What is written is looked at by nobody: a setting is written at its beginning.
    fn is_behind(&mut self) -> bool {
        let at = self.shared.as_mut().and_then(|f| f.file.stream_position().ok());
        !self.key.starts_with('/') && at.is_some_and(|at| at > 0)
    }
}

impl Jar {
    pub(super) fn open_setting(&mut self, listener: u32, note: &Notification, a: Asked<'_>, cloexec: bool) -> Outcome {
        if !self.privileged(note.tid) {
            return Errno::EACCES.into();
        }
        let files = self.settings.iter().filter(|s| s.1.shared.is_some()).count();
        if files >= MANY_FILES {
            self.forget_settings("");
        }
        if self.settings.len() >= MAX {
            return Errno::EMFILE.into();
        }
        let host = self.host_of(listener);
        let made = match &a.reads {
            Some(text) => self.setting_file(host, &a, text.clone()),
            None => setting_pair(),
        };
        let (theirs, ours, shared) = match made {
            Ok(made) => made,
            Err(e) => return Errno(errno(&e)).into(),
        };
        let identity = fd::identity(&theirs).unwrap_or_default();
        let Some(l) = self.listener(listener) else { return Outcome::Continue };
        if let Err(e) = l.reply_fd(note.id, &theirs, cloexec) {
            return Errno(errno(&e)).into();
        }
        drop(theirs);
        let ns = self.machines.get(host).map(|m| m.ns);
        let id = self.settings.insert(Setting { ours, identity, host, ns, key: a.key, shared });
        if let Some(s) = self.settings.get(id) {
            let _ = self.ep.add(&s.ours, epoll::IN | epoll::RDHUP, Key::Setting(id).pack());
        }
        Outcome::Answered
    }

    fn setting_file(&mut self, host: usize, a: &Asked<'_>, text: String) -> io::Result<Made> {
        self.forget_settings(a.path);
        let file = self.writable(host, a.path, &text, a.mode)?;
        let ours = fd::watch_changes(&file)?;
        let theirs = fd::dup(&file)?;
        Ok((theirs, ours, Some(Shared { path: a.path.to_owned(), file, text, taken: 0 })))
    }

    /// Files that are read and written and that no program has open any more; all of them, or those of one path.
    pub(super) fn forget_settings(&mut self, path: &str) {
        let meant = |s: &Setting| s.shared.as_ref().is_some_and(|f| path.is_empty() || f.path == path);
        let ids: Vec<_> = self.settings.iter().filter(|s| meant(s.1)).map(|s| s.0).collect();
        if ids.is_empty() {
            return;
        }
        let held = process::open_identities(&process::descendants(std::process::id()));
        for id in ids {
            if self.settings.get(id).is_some_and(|s| !held.contains(&s.identity)) {
                self.apply_setting(id);
                self.settings.remove(id);
            }
        }
    }

    /// A call on a descriptor that may be one of these.
    pub(super) fn on_setting(&mut self, copy: &impl AsFd, note: &Notification) -> Outcome {
        if self.settings.is_empty() {
            return Outcome::Continue;
        }
        let Ok(identity) = fd::identity(copy) else { return Outcome::Continue };
        let Some(id) = self.settings.iter().find(|(_, s)| s.identity == identity).map(|s| s.0) else {
            return Outcome::Continue;
        };
        let done = match note.sys {
            Sys::Pwrite64 => {
                let mut text = vec![0; usize::try_from(note.word(2)).unwrap_or(0).min(LONGEST)];
                let read = memory::read(note.tid, note.word(1), &mut text).map_err(|_| Errno::EFAULT);
                read.and_then(|()| self.write_now(id, &text)).into()
            }
            s if exact::writes(s) => {
                let text = exact::payload(note).and_then(|(iov, _)| gather_some(note.tid, &iov, LONGEST));
                let written = text.and_then(|text| {
                    let behind = self.settings.get_mut(id).is_some_and(Setting::is_behind);
                    if behind { Ok(text.len() as i64) } else { self.write_now(id, &text) }
                });
                let shared = self.settings.get_mut(id).and_then(|s| s.shared.as_mut());
                if let (Ok(n), Some(f)) = (written, shared) {
                    let _ = f.file.seek(SeekFrom::Current(n));
                }
                written.into()
            }
            Sys::Lseek => Outcome::Continue,
            _ => return Outcome::Continue,
        };
        self.show_setting(id);
        done
    }

    /// A write that is notified returns what the stack thinks of the value.
    fn write_now(&mut self, id: SettingId, text: &[u8]) -> Result<i64, Errno> {
        let s = self.settings.get(id).ok_or(Errno::EBADF)?;
        let (host, ns, key) = (s.host, s.ns, s.key.clone());
        let before = self.machines.get(host).map(|m| m.ns);
        self.in_ns(host, ns);
        let m = self.machines.get_mut(host).ok_or(Errno::EBADF)?;
        let written = m.sysctl_write(&key, String::from_utf8_lossy(text).trim());
        self.in_ns(host, before);
        written.map(|()| text.len() as i64)
    }

    /// While its program waits, a file shows the setting again.
    fn show_setting(&mut self, id: SettingId) {
        let Some(s) = self.settings.get(id) else { return };
        let (host, ns) = (s.host, s.ns);
        let Some(path) = s.shared.as_ref().map(|f| f.path.clone()) else { return };
        let before = self.machines.get(host).map(|m| m.ns);
        self.in_ns(host, ns);
        let text = self.machines.get_mut(host).and_then(|m| m.tree_text(&path)).unwrap_or_default();
        self.in_ns(host, before);
        let Some(s) = self.settings.get_mut(id) else { return };
        let Some(shared) = &mut s.shared else { return };
        // No room for it: it shows what was written.
        let _ = shared.show(text);
        fd::changed(&s.ours);
    }

    /// Everything written so far takes effect.
    pub(crate) fn apply_settings(&mut self) {
        let ids: Vec<_> = self.settings.iter().map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| self.apply_setting(id));
    }

    pub(crate) fn apply_setting(&mut self, id: SettingId) {
        if self.settings.get(id).is_some_and(|s| s.shared.is_some()) {
            return self.apply_file(id);
        }
        // What is left comes again: the descriptor is watched by level.
        for _ in 0..64 {
            let Some(s) = self.settings.get(id) else { return };
            let mut buf = Vec::new();
            match fd::recv_append(&s.ours, &mut buf, 4096) {
                Ok(0) => {
                    self.settings.remove(id);
                    return;
                }
                Ok(_) => {
                    let (host, ns, key) = (s.host, s.ns, s.key.clone());
                    let before = self.machines.get(host).map(|m| m.ns);
                    self.in_ns(host, ns);
                    let text = String::from_utf8_lossy(&buf).into_owned();
                    let mut lines = text.lines().filter(|l| !l.trim().is_empty()).peekable();
                    if lines.peek().is_none() {
                        self.set_for_program(host, &key, "");
                    }
                    lines.for_each(|l| self.set_for_program(host, &key, l.trim()));
                    self.in_ns(host, before);
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.settings.remove(id);
                    return;
                }
            }
        }
    }

    fn apply_file(&mut self, id: SettingId) {
        let Some(s) = self.settings.get_mut(id) else { return };
        let Some(shared) = s.shared.as_mut().filter(|_| fd::changed(&s.ours)) else { return };
        let Some(value) = shared.written(!s.key.starts_with('/')) else { return };
        let (host, ns, key) = (s.host, s.ns, s.key.clone());
        let before = self.machines.get(host).map(|m| m.ns);
        self.in_ns(host, ns);
        self.set_for_program(host, &key, value.trim());
        self.in_ns(host, before);
    }

    fn in_ns(&mut self, host: usize, ns: Option<NsId>) {
        if let (Some(m), Some(ns)) = (self.machines.get_mut(host), ns) {
            m.enter(ns);
        }
    }

    fn set_for_program(&mut self, host: usize, key: &str, value: &str) {
        let Some(m) = self.machines.get_mut(host) else { return };
        if key.starts_with('/') {
            if let Err(e) = m.tree_write(key, value) {
                self.warnings.push(format!("the program wrote '{value}' to {key}: {e}"));
            }
        } else if let Err(e) = m.sysctl_set(key, value) {
            self.warnings.push(format!("the program wrote to /proc/sys: {e}"));
        }
    }
}

/// The program's end, ours, and what is shared.
type Made = (OwnedFd, OwnedFd, Option<Shared>);

fn setting_pair() -> io::Result<Made> {
    let (theirs, ours) = fd::pair_stream()?;
    // Who reads nevertheless finds its end, and does not wait.
    let _ = fd::shutdown(&ours, fd::Half::Write);
    Ok((theirs, ours, None))
}

pub type SettingId = belljar_kernel::ids::Id<Setting>;
