//! Files that a run writes. What stood there before is gone only once the program runs: a start that fails leaves nothing
//! behind and takes nothing away.
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One of them, opened for writing but as it was.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    file: File,
    /// There was none before, and it was not begun: it goes with this.
    made: bool,
}

impl Output {
    pub fn open(path: &Path) -> io::Result<Output> {
        let (file, made) = match OpenOptions::new().write(true).create_new(true).open(path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => (OpenOptions::new().write(true).open(path)?, false),
            other => (other?, true),
        };
        Ok(Output { path: path.to_owned(), file, made })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Both names mean one file that keeps what is written to it.
    pub fn same_as(&self, other: &Output) -> bool {
        let id = |o: &Output| o.file.metadata().ok().filter(|m| m.is_file()).map(|m| (m.dev(), m.ino()));
        id(self).is_some_and(|a| id(other) == Some(a))
    }

    /// Empties it, to be written from the beginning.
    pub fn begin(mut self) -> io::Result<File> {
        self.made = false;
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.file.try_clone()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.made {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stood_there_stays_until_it_begins() {
        let dir = std::env::temp_dir().join(format!("belljar-output-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (old, new, link) = (dir.join("old"), dir.join("new"), dir.join("link"));
        std::fs::write(&old, "precious").unwrap();
        std::os::unix::fs::symlink(&old, &link).unwrap();
        assert!(Output::open(&old).unwrap().same_as(&Output::open(&link).unwrap()));
        for path in [&old, &new] {
            drop(Output::open(path).unwrap());
        }
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "precious");
        assert!(!new.exists());
        Output::open(&old).unwrap().begin().unwrap();
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
