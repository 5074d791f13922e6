//! For `cargo xtask coverage` alone: which counters and drop reasons this process moved, each written down once, in the file
//! that BELLJAR_COVERAGE names. The kernel reaches it through its feature `coverage`; built without, it has none of it.
#![forbid(unsafe_code)]
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

/// Names of one kind, by number: the kernel counts its names from 0.
#[derive(Debug)]
pub struct Moved<const N: usize> {
    kind: &'static str,
    seen: [AtomicBool; N],
}

/// The counters of the MIBs.
pub static COUNTERS: Moved<1024> = Moved::new("counter");
/// The reasons for which a packet is dropped.
pub static REASONS: Moved<256> = Moved::new("reason");

impl<const N: usize> Moved<N> {
    const fn new(kind: &'static str) -> Self {
        Self { kind, seen: [const { AtomicBool::new(false) }; N] }
    }

    /// Writes `program kind name`, the first time that `number` is moved.
    pub fn note(&self, number: usize, name: impl FnOnce() -> String) {
        if !self.seen[number].swap(true, Ordering::Relaxed) {
            write(&format!("{} {} {}\n", program(), self.kind, name()));
        }
    }
}

/// The command's name, `belljar` with its word.
fn program() -> String {
    let mut args = std::env::args();
    let path = args.next().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    match name {
        "belljar" => format!("{name} {}", args.next().unwrap_or_default()),
        _ => name.to_owned(),
    }
}

fn write(line: &str) {
    let Some(path) = std::env::var_os("BELLJAR_COVERAGE") else { return };
    if let Ok(mut f) = std::fs::OpenOptions::new().append(true).open(path) {
        let _ = f.write_all(line.as_bytes());
    }
}
