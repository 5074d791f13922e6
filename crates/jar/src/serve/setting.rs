//! Files under `/proc/sys` that a program opened for writing: what it writes is a setting of the stack before any later
//! call of it is answered. The write itself has long returned then, so a value that the stack refuses changes nothing
//! and is reported at the end of the run.
use super::msg::gather_some;
use super::{Outcome, exact};
use crate::jar::Jar;
use crate::key::Key;
use belljar_abi::Errno;
use belljar_host::seccomp::Notification;
use belljar_host::{epoll, errno, fd};
use belljar_kernel::ids::NsId;
use std::os::fd::OwnedFd;

/// One open file.
#[derive(Debug)]
pub struct Setting {
    ours: OwnedFd,
    /// Of the program's end.
    inode: u64,
    host: usize,
    ns: Option<NsId>,
    key: String,
}

/// Open at once; a program that never closes them is told EMFILE.
const MAX: usize = 1024;

impl Jar {
    /// `text` is what reading shows, when it is open for that too.
    pub(crate) fn open_setting(
        &mut self,
        listener: u32,
        note: &Notification,
        key: String,
        text: Option<&str>,
        cloexec: bool,
    ) -> Outcome {
        if !self.privileged(note.tid) {
            return Errno::EACCES.into();
        }
        if self.settings.len() >= MAX {
            return Errno::EMFILE.into();
        }
        let (theirs, ours) = match fd::pair_stream() {
            Ok(p) => p,
            Err(e) => return Errno(errno(&e)).into(),
        };
        if let Some(text) = text {
            let _ = fd::send(&ours, text.as_bytes());
        }
        // Who reads nevertheless finds its end, and does not wait.
        let _ = fd::shutdown(&ours, fd::Half::Write);
        let host = self.host_of(listener);
        let inode = fd::socket_inode(&theirs).ok().flatten().unwrap_or(0);
        let Some(l) = self.listener(listener) else { return Outcome::Continue };
        if let Err(e) = l.reply_fd(note.id, &theirs, cloexec) {
            return Errno(errno(&e)).into();
        }
        drop(theirs);
        let ns = self.machines.get(host).map(|m| m.ns);
        let id = self.settings.insert(Setting { ours, inode, host, ns, key });
        if let Some(s) = self.settings.get(id) {
            let _ = self.ep.add(&s.ours, epoll::IN | epoll::RDHUP, Key::Setting(id).pack());
        }
        Outcome::Answered
    }

    /// A write that is notified (`--exact`) returns what the stack thinks of the value.
    pub(super) fn write_setting(&mut self, inode: u64, note: &Notification) -> Option<Outcome> {
        if !exact::writes(note.sys) {
            return None;
        }
        let (host, key) = self.settings.iter().find(|(_, s)| s.inode == inode).map(|(_, s)| (s.host, s.key.clone()))?;
        let m = self.machines.get_mut(host)?;
        let written = exact::payload(note).and_then(|(iov, _)| gather_some(note.tid, &iov, 4096)).and_then(|text| {
            m.sysctl_write(&key, String::from_utf8_lossy(&text).trim())?;
            Ok(text.len() as i64)
        });
        Some(written.into())
    }

    /// Everything written so far takes effect.
    pub(crate) fn apply_settings(&mut self) {
        let ids: Vec<_> = self.settings.iter().map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| self.apply_setting(id));
    }

    pub(crate) fn apply_setting(&mut self, id: SettingId) {
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

pub type SettingId = belljar_kernel::ids::Id<Setting>;
