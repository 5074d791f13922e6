//! For `cargo xtask coverage` alone: which counters and drop reasons this process moved, each written down once, in the file
//! that BELLJAR_COVERAGE names. A kernel that is built without the feature has none of it.
use crate::net::drop::DropReason;
use crate::net::mib::Mib;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

static COUNTERS: [AtomicBool; 1024] = [const { AtomicBool::new(false) }; 1024];
static REASONS: [AtomicBool; 256] = [const { AtomicBool::new(false) }; 256];

pub(crate) fn counter(c: Mib) {
    if !COUNTERS[c as usize].swap(true, Ordering::Relaxed) {
        note("counter", &c.name());
    }
}

pub(crate) fn reason(r: DropReason) {
    if !REASONS[r as usize].swap(true, Ordering::Relaxed) {
        note("reason", r.name());
    }
}

#[allow(clippy::disallowed_methods)]
fn note(kind: &str, name: &str) {
    let Some(path) = std::env::var_os("BELLJAR_COVERAGE") else { return };
    let mut args = std::env::args();
    let program = args.next().unwrap_or_default();
    let mut program = program.rsplit('/').next().unwrap_or_default().to_owned();
    if program == "belljar" {
        program = format!("{program} {}", args.next().unwrap_or_default());
    }
    if let Ok(mut f) = std::fs::OpenOptions::new().append(true).open(path) {
        let _ = f.write_all(format!("{program} {kind} {name}\n").as_bytes());
    }
}
