//! Options about tables of iptables: longer than all others, and answered into the program's memory in two places.
use super::{Asked, Outcome, attempt, read_int, write_mem};
use crate::jar::Jar;
use crate::serve::opt::give_value;
use belljar_abi::{self as abi, Errno};
use belljar_kernel::net::netfilter::Pf;
use belljar_kernel::net::netfilter::blob::{MAX_BLOB, is_option};

/// Where a connection was sent before it was translated (`SO_ORIGINAL_DST`, `IP6T_SO_ORIGINAL_DST`).
const SO_ORIGINAL_DST: i32 = 80;

/// The family whose tables an option is about.
fn family(level: i32) -> Option<Pf> {
    match level {
        abi::SOL_IP => Some(Pf::V4),
        abi::SOL_IPV6 => Some(Pf::V6),
        _ => None,
    }
}

/// The bytes at `at`.
fn bytes(a: &Asked<'_>, at: u64, len: i32) -> Result<Vec<u8>, Errno> {
    let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
    if len > MAX_BLOB {
        return Err(Errno::ENOMEM);
    }
    let mut out = vec![0; len];
    belljar_host::memory::read(a.note.tid, at, &mut out).map_err(|_| Errno::EFAULT)?;
    Ok(out)
}

impl Jar {
    /// `None`: the option is another.
    pub(super) fn get_tables(&mut self, a: &Asked<'_>) -> Option<Outcome> {
        let (level, name) = (a.note.int(1), a.note.int(2));
        let pf = family(level)?;
        if name == SO_ORIGINAL_DST {
            return Some(self.get_original_dst(a));
        }
        is_option(pf, false, name).then(|| self.get_table(a, pf, name))
    }

    fn get_table(&mut self, a: &Asked<'_>, pf: Pf, name: i32) -> Outcome {
        let len = attempt!(read_int(a.note.tid, a.note.word(4)));
        let asked = attempt!(bytes(a, a.note.word(3), len));
        let (m, kfd) = attempt!(self.kernel_of(a));
        let value = attempt!(m.xt_getsockopt(kfd, pf, name, &asked));
        give_value(a.note, &value).into()
    }

    fn get_original_dst(&mut self, a: &Asked<'_>) -> Outcome {
        let (m, kfd) = attempt!(self.kernel_of(a));
        let to = attempt!(m.original_dst(kfd));
        give_value(a.note, &to.emit()).into()
    }

    pub(super) fn set_tables(&mut self, a: &Asked<'_>) -> Option<Outcome> {
        let (level, name) = (a.note.int(1), a.note.int(2));
        let pf = family(level)?;
        is_option(pf, true, name).then(|| self.set_table(a, pf, name))
    }

    fn set_table(&mut self, a: &Asked<'_>, pf: Pf, name: i32) -> Outcome {
        let value = attempt!(bytes(a, a.note.word(3), a.note.int(4)));
        let (m, kfd) = attempt!(self.kernel_of(a));
        let old = attempt!(m.xt_setsockopt(kfd, pf, name, &value));
        if !old.bytes.is_empty() {
            // The tables are changed by now, and a program that cannot be told is told of that, as by the kernel.
            attempt!(write_mem(a.note.tid, old.pointer, &old.bytes));
        }
        Ok(0).into()
    }
}
