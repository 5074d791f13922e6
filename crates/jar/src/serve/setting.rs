//! Files under `/proc/sys` that a program opened for writing: what it writes is a setting of the stack before any later
//! call of it is answered. The write itself has long returned then, so a value that the stack refuses changes nothing
//! and is reported at the end of the run.
use super::Outcome;
use crate::jar::Jar;
use crate::key::Key;
use belljar_abi::Errno;
use belljar_host::seccomp::Notification;
use belljar_host::{epoll, errno, fd};
use std::os::fd::OwnedFd;

/// One open file.
#[derive(Debug)]
pub struct Setting {
    ours: OwnedFd,
    host: usize,
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
            let _ = fd::shutdown(&ours, fd::Half::Write);
        }
        let host = self.host_of(listener);
        let Some(l) = self.listener(listener) else { return Outcome::Continue };
        if let Err(e) = l.reply_fd(note.id, &theirs, cloexec) {
            return Errno(errno(&e)).into();
        }
        drop(theirs);
        let id = self.settings.insert(Setting { ours, host, key });
        if let Some(s) = self.settings.get(id) {
            let _ = self.ep.add(&s.ours, epoll::IN | epoll::RDHUP, Key::Setting(id).pack());
        }
        Outcome::Answered
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
                    let (host, key) = (s.host, s.key.clone());
                    let text = String::from_utf8_lossy(&buf).into_owned();
                    let mut lines = text.lines().filter(|l| !l.trim().is_empty()).peekable();
                    if lines.peek().is_none() {
                        self.set_for_program(host, &key, "");
                    }
                    lines.for_each(|l| self.set_for_program(host, &key, l.trim()));
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.settings.remove(id);
                    return;
                }
            }
        }
    }

    fn set_for_program(&mut self, host: usize, key: &str, value: &str) {
        let Some(m) = self.machines.get_mut(host) else { return };
        if let Err(e) = m.sysctl_set(key, value) {
            self.warnings.push(format!("the program wrote to /proc/sys: {e}"));
        }
    }
}

pub type SettingId = belljar_kernel::ids::Id<Setting>;
