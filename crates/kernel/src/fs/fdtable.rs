//! The descriptor table of a process: lowest free number, RLIMIT_NOFILE, close-on-exec.
use crate::ids::FileId;

#[derive(Clone, Debug, Default)]
pub struct FdTable {
    pub slots: Vec<Option<(FileId, bool)>>,
}
