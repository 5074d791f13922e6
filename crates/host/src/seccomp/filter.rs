//! The BPF program that decides which calls reach the supervisor (architecture: control plane by notify).
//!
//! Every rule is one block: compare the call number, then look at arguments, and always end in a return; a call
//! that no rule names runs at full speed (the kernel caches that answer per call number).
//!
//! Arguments are compared by their low 32 bits where the call takes an `int`, as the kernel itself does.
use std::mem::offset_of;

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;

/// x32 calls carry this bit in their number.
#[cfg(target_arch = "x86_64")]
const X32_BIT: u32 = 0x4000_0000;

const LD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JEQ: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JGE: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RET: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const OFF_NR: u32 = offset_of!(libc::seccomp_data, nr) as u32;
const OFF_ARCH: u32 = offset_of!(libc::seccomp_data, arch) as u32;

/// Offsets of the low and the high word of argument `n` (both supported machines are little-endian).
const fn arg(n: u32) -> (u32, u32) {
    let at = offset_of!(libc::seccomp_data, args) as u32 + 8 * n;
    (at, at + 4)
}

macro_rules! calls {
    ($($(#[$cfg:meta])* $name:ident = $nr:ident),* $(,)?) => {
        /// The calls that can be notified.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Sys { $($(#[$cfg])* $name,)* Other(i64) }

        impl Sys {
            pub(crate) fn from_nr(nr: libc::c_long) -> Sys {
                match nr {
                    $($(#[$cfg])* libc::$nr => Sys::$name,)*
                    nr => Sys::Other(i64::from(nr)),
                }
            }

            /// open, openat or openat2.
            pub fn is_open(self) -> bool {
                #[cfg(target_arch = "x86_64")]
                if self == Sys::Open {
                    return true;
                }
                matches!(self, Sys::Openat | Sys::Openat2)
            }

            /// stat or lstat without a directory.
            pub fn is_stat(self) -> bool {
                #[cfg(target_arch = "x86_64")]
                return matches!(self, Sys::Stat | Sys::Lstat);
                #[cfg(not(target_arch = "x86_64"))]
                false
            }

            /// access without a directory.
            pub fn is_access(self) -> bool {
                #[cfg(target_arch = "x86_64")]
                return self == Sys::Access;
                #[cfg(not(target_arch = "x86_64"))]
                false
            }

            /// It is about a link at the end of its path, not about what that leads to, whatever its flags.
            pub fn names_the_link(self) -> bool {
                #[cfg(target_arch = "x86_64")]
                if matches!(self, Sys::Lstat | Sys::Readlink) {
                    return true;
                }
                matches!(self, Sys::Readlinkat | Sys::Lgetxattr | Sys::Llistxattr)
            }

            /// Asks about extended attributes, or about the filesystem.
            pub fn is_attribute(self) -> bool {
                let xattr = matches!(self, Sys::Getxattr | Sys::Lgetxattr | Sys::Listxattr | Sys::Llistxattr);
                xattr || self == Sys::Statfs
            }

            /// Asks about the file at a path without opening it.
            pub fn is_path(self) -> bool {
                #[cfg(target_arch = "x86_64")]
                if self == Sys::Readlink {
                    return true;
                }
                let at = matches!(self, Sys::Newfstatat | Sys::Statx | Sys::Faccessat | Sys::Faccessat2 | Sys::Readlinkat);
                at || self.is_stat() || self.is_access() || self.is_attribute()
            }

            /// Part of what `ip netns` does.
            pub fn is_netns(self) -> bool {
                #[cfg(target_arch = "x86_64")]
                if matches!(self, Sys::Mkdir | Sys::Unlink) {
                    return true;
                }
                let at = matches!(self, Sys::Mkdirat | Sys::Unlinkat);
                at || matches!(self, Sys::Setns | Sys::Unshare | Sys::Mount | Sys::Umount2)
            }

            /// Sets a limit of the process.
            pub fn is_rlimit(self) -> bool {
                #[cfg(target_arch = "x86_64")]
                if self == Sys::Setrlimit {
                    return true;
                }
                self == Sys::Prlimit64
            }

            /// mkdir or mkdirat.
            pub fn is_mkdir(self) -> bool {
                #[cfg(target_arch = "x86_64")]
                if self == Sys::Mkdir {
                    return true;
                }
                self == Sys::Mkdirat
            }

            /// poll, select and their kin.
            pub fn is_poll(self) -> bool {
                #[cfg(target_arch = "x86_64")]
                if matches!(self, Sys::Poll | Sys::Select) {
                    return true;
                }
                matches!(self, Sys::Ppoll | Sys::Pselect6)
            }

            /// The call's number on this machine.
            pub fn nr(self) -> i64 {
                match self {
                    $($(#[$cfg])* Sys::$name => i64::from(libc::$nr),)*
                    Sys::Other(nr) => nr,
                }
            }
        }
    };
}

calls! {
    Socket = SYS_socket, Bind = SYS_bind, Listen = SYS_listen, Accept = SYS_accept, Accept4 = SYS_accept4,
    Connect = SYS_connect, Shutdown = SYS_shutdown, Getsockname = SYS_getsockname, Getpeername = SYS_getpeername,
    Getsockopt = SYS_getsockopt, Setsockopt = SYS_setsockopt, Ioctl = SYS_ioctl,
    Sendto = SYS_sendto, Recvfrom = SYS_recvfrom, Sendmsg = SYS_sendmsg, Recvmsg = SYS_recvmsg,
    Sendmmsg = SYS_sendmmsg, Recvmmsg = SYS_recvmmsg,
    Read = SYS_read, Write = SYS_write, Readv = SYS_readv, Writev = SYS_writev,
    Ppoll = SYS_ppoll, Pselect6 = SYS_pselect6,
    #[cfg(target_arch = "x86_64")] Poll = SYS_poll,
    #[cfg(target_arch = "x86_64")] Select = SYS_select,
    Openat = SYS_openat, Openat2 = SYS_openat2, Mmap = SYS_mmap, Prlimit64 = SYS_prlimit64,
    #[cfg(target_arch = "x86_64")] Setrlimit = SYS_setrlimit,
    Newfstatat = SYS_newfstatat, Statx = SYS_statx, Faccessat = SYS_faccessat, Faccessat2 = SYS_faccessat2,
    Readlinkat = SYS_readlinkat,
    Setns = SYS_setns, Unshare = SYS_unshare, Mount = SYS_mount, Umount2 = SYS_umount2,
    Statfs = SYS_statfs, Getxattr = SYS_getxattr, Lgetxattr = SYS_lgetxattr, Listxattr = SYS_listxattr,
    Llistxattr = SYS_llistxattr,
    Lseek = SYS_lseek, Pwrite64 = SYS_pwrite64,
    Mkdirat = SYS_mkdirat, Unlinkat = SYS_unlinkat,
    #[cfg(target_arch = "x86_64")] Mkdir = SYS_mkdir,
    #[cfg(target_arch = "x86_64")] Unlink = SYS_unlink,
    #[cfg(target_arch = "x86_64")] Stat = SYS_stat,
    #[cfg(target_arch = "x86_64")] Lstat = SYS_lstat,
    #[cfg(target_arch = "x86_64")] Access = SYS_access,
    #[cfg(target_arch = "x86_64")] Readlink = SYS_readlink,
    #[cfg(target_arch = "x86_64")] Open = SYS_open,
}

/// A finished BPF program.
#[derive(Clone)]
pub struct Filter {
    prog: Vec<libc::sock_filter>,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filter({} instructions)", self.prog.len())
    }
}

const fn op(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

const ALLOW: libc::sock_filter = op(RET, libc::SECCOMP_RET_ALLOW);
const NOTIFY: libc::sock_filter = op(RET, libc::SECCOMP_RET_USER_NOTIF);

const fn fail(errno: i32) -> libc::sock_filter {
    op(RET, libc::SECCOMP_RET_ERRNO | errno as u32)
}

/// NETLINK protocols that the stack serves: ROUTE, SOCK_DIAG, NETFILTER, GENERIC. The rest stays with the host.
const NETLINK: [u32; 4] = [0, 4, 12, 16];

/// ioctl requests answered by the stack: queue lengths, and the whole `0x89xx` socket range.
const QUEUE_IOCTLS: [u32; 2] = [0x541b, 0x5411];

/// Commands of bpf(2).
const BPF_PROG_ATTACH: u32 = 8;
const BPF_LINK_CREATE: u32 = 28;

/// What is written at the beginning of a file and is as long as this is no setting.
const SETTING_MAX: u32 = 4096;

impl Filter {
    /// The filter of `run` and `exec`. `with_proc`: opens are notified as well, so that `/proc/net` and its kin can be
    /// the stack's own. `exact`: so are reads, writes and polls, whatever their descriptor.
    pub fn new(with_proc: bool, exact: bool) -> Filter {
        let mut f = Filter { prog: Vec::with_capacity(160) };
        f.prog.push(op(LD, OFF_ARCH));
        // Foreign ABIs have other call numbers: letting one through would run the program half outside.
        f.prog.push(jump(JEQ, AUDIT_ARCH, 1, 0));
        f.prog.push(op(RET, libc::SECCOMP_RET_KILL_PROCESS));
        f.prog.push(op(LD, OFF_NR));
        #[cfg(target_arch = "x86_64")]
        f.prog.extend([jump(JGE, X32_BIT, 0, 1), fail(libc::ENOSYS)]);
        f.call(libc::SYS_socket, &socket_block());
        for nr in [
            libc::SYS_accept4,
            libc::SYS_accept,
            libc::SYS_getsockopt,
            libc::SYS_setsockopt,
            libc::SYS_shutdown,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_listen,
            libc::SYS_getsockname,
            libc::SYS_getpeername,
            libc::SYS_sendmsg,
            libc::SYS_recvmsg,
            libc::SYS_sendmmsg,
            libc::SYS_recvmmsg,
        ] {
            f.call(nr, &[NOTIFY]);
        }
        // Payload without an address crosses the planted pair; only addresses need us.
        let (lo, hi) = arg(4);
        let address = [op(LD, lo), jump(JEQ, 0, 0, 2), op(LD, hi), jump(JEQ, 0, 1, 0), NOTIFY, ALLOW];
        // Urgent data is the stack's too, wherever it goes, and so is a promise of more, a send that sends
        // nothing, a send of nothing (which starts a ring), and counting without taking.
        let oob = [
            op(LD, arg(2).0),
            jump(JEQ, 0, 7, 0),
            op(LD, arg(3).0),
            op(AND, (libc::MSG_OOB | libc::MSG_MORE | belljar_abi::MSG_PROBE) as u32),
            jump(JEQ, 0, 0, 4),
        ];
        let always = |block: Vec<libc::sock_filter>| if exact { vec![NOTIFY] } else { block };
        f.call(libc::SYS_sendto, &always([&oob[..], &address[..]].concat()));
        let flags = [op(LD, arg(3).0), op(AND, (libc::MSG_OOB | libc::MSG_TRUNC) as u32), jump(JEQ, 0, 0, 4)];
        f.call(libc::SYS_recvfrom, &always([&flags[..], &address[..]].concat()));
        f.call(libc::SYS_ioctl, &ioctl_block(with_proc));
        // What is shared with a file may be shared with a packet socket's ring.
        let shared = (libc::MAP_SHARED | libc::MAP_ANONYMOUS) as u32;
        let mmap = [op(LD, arg(3).0), op(AND, shared), jump(JEQ, libc::MAP_SHARED as u32, 0, 1), NOTIFY, ALLOW];
        f.call(libc::SYS_mmap, &mmap);
        f.limits();
        // No rings of the host's: they would carry socket calls past the filter. Programs fall back on ENOSYS.
        f.call(libc::SYS_io_uring_setup, &[fail(libc::ENOSYS)]);
        // A program attached by number of interface would come to stand at a device of the host's.
        let attach =
            [jump(JEQ, BPF_PROG_ATTACH, 1, 0), jump(JEQ, BPF_LINK_CREATE, 0, 1), fail(libc::EOPNOTSUPP), ALLOW];
        f.call(libc::SYS_bpf, &[&[op(LD, arg(0).0)], &attach[..]].concat());
        if exact {
            for nr in [
                #[cfg(target_arch = "x86_64")]
                libc::SYS_poll,
                #[cfg(target_arch = "x86_64")]
                libc::SYS_select,
                libc::SYS_ppoll,
                libc::SYS_pselect6,
                libc::SYS_read,
                libc::SYS_write,
                libc::SYS_readv,
                libc::SYS_writev,
            ] {
                f.call(nr, &[NOTIFY]);
            }
        }
        if with_proc {
            f.paths();
        }
        f.prog.push(ALLOW);
        f
    }

    /// How many descriptors a process may have is bounded by a setting of the stack's.
    fn limits(&mut self) {
        let nofile = |resource: u32, value: &[libc::sock_filter]| {
            let rest = value.len() as u8;
            [&[op(LD, arg(resource).0), jump(JEQ, libc::RLIMIT_NOFILE, 0, rest)], value, &[ALLOW]].concat()
        };
        // prlimit64 without a new value only asks.
        let (lo, hi) = arg(2);
        let given = [op(LD, lo), jump(JEQ, 0, 0, 2), op(LD, hi), jump(JEQ, 0, 1, 0), NOTIFY];
        self.call(libc::SYS_prlimit64, &nofile(1, &given));
        #[cfg(target_arch = "x86_64")]
        self.call(libc::SYS_setrlimit, &nofile(0, &[NOTIFY]));
    }

    /// Calls that take a path. What asks about a descriptor alone (AT_EMPTY_PATH) is the host's.
    fn paths(&mut self) {
        for (nr, flags) in [(libc::SYS_newfstatat, 3), (libc::SYS_statx, 2), (libc::SYS_faccessat2, 3)] {
            let block = [op(LD, arg(flags).0), op(AND, libc::AT_EMPTY_PATH as u32), jump(JEQ, 0, 0, 1), NOTIFY, ALLOW];
            self.call(nr, &block);
        }
        for nr in [libc::SYS_openat, libc::SYS_openat2, libc::SYS_faccessat, libc::SYS_readlinkat] {
            self.call(nr, &[NOTIFY]);
        }
        for nr in [libc::SYS_statfs, libc::SYS_getxattr, libc::SYS_lgetxattr, libc::SYS_listxattr, libc::SYS_llistxattr]
        {
            self.call(nr, &[NOTIFY]);
        }
        // Going back to the beginning of a setting, and writing there: what was written before is one by then.
        let at_zero = |n: u32, last: libc::sock_filter| {
            let (lo, hi) = arg(n);
            let zero = [op(LD, lo), jump(JEQ, 0, 0, 5), op(LD, hi), jump(JEQ, 0, 0, 3)];
            [&zero[..], &[op(LD, arg(2).0), last, NOTIFY, ALLOW]].concat()
        };
        self.call(libc::SYS_lseek, &at_zero(1, jump(JEQ, libc::SEEK_SET as u32, 0, 1)));
        self.call(libc::SYS_pwrite64, &at_zero(3, jump(JGE, SETTING_MAX, 1, 0)));
        // Network namespaces are the stack's; the calls by which they are kept under /run/netns come with them.
        let (newnet, newns) = (libc::CLONE_NEWNET as u32, libc::CLONE_NEWNS as u32);
        let unshare = [op(LD, arg(0).0), jump(JEQ, newnet, 1, 0), jump(JEQ, newns, 0, 1), NOTIFY, ALLOW];
        self.call(libc::SYS_unshare, &unshare);
        let setns = [op(LD, arg(1).0), jump(JEQ, newnet, 1, 0), jump(JEQ, 0, 0, 1), NOTIFY, ALLOW];
        self.call(libc::SYS_setns, &setns);
        for nr in [libc::SYS_mount, libc::SYS_umount2, libc::SYS_mkdirat, libc::SYS_unlinkat] {
            self.call(nr, &[NOTIFY]);
        }
        #[cfg(target_arch = "x86_64")]
        for nr in [libc::SYS_mkdir, libc::SYS_unlink] {
            self.call(nr, &[NOTIFY]);
        }
        #[cfg(target_arch = "x86_64")]
        for nr in [libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink] {
            self.call(nr, &[NOTIFY]);
        }
    }

    /// `block` runs for call `nr` and must return; every other call skips it with the number still loaded.
    fn call(&mut self, nr: libc::c_long, block: &[libc::sock_filter]) {
        debug_assert!(block.len() < 256 && block.last().is_some_and(|i| i.code == RET));
        self.prog.push(jump(JEQ, nr as u32, 0, block.len() as u8));
        self.prog.extend_from_slice(block);
    }

    pub(crate) fn prog(&self) -> &[libc::sock_filter] {
        &self.prog
    }
}

/// socket(domain, type, protocol): AF_INET, AF_INET6 and AF_PACKET always, AF_NETLINK by protocol. AF_XDP would be a way to
/// the host's devices.
fn socket_block() -> Vec<libc::sock_filter> {
    let inner = NETLINK.len() as u8 + 1;
    let mut b = vec![
        op(LD, arg(0).0),
        jump(JEQ, libc::AF_XDP as u32, 0, 1),
        fail(libc::EAFNOSUPPORT),
        jump(JEQ, libc::AF_INET as u32, inner + 4, 0),
        jump(JEQ, libc::AF_INET6 as u32, inner + 3, 0),
        jump(JEQ, libc::AF_PACKET as u32, inner + 2, 0),
        jump(JEQ, libc::AF_NETLINK as u32, 0, inner),
        op(LD, arg(2).0),
    ];
    b.extend(NETLINK.iter().enumerate().map(|(i, p)| jump(JEQ, *p, NETLINK.len() as u8 - i as u8, 0)));
    b.extend([ALLOW, NOTIFY]);
    b
}

/// ioctl requests of `/dev/net/tun` without their last byte, notified where opens are.
const TUN_IOCTLS: [u32; 2] = [0x4004_5400, 0x8004_5400];

fn ioctl_block(with_proc: bool) -> Vec<libc::sock_filter> {
    let groups = if with_proc { &[0x8900, TUN_IOCTLS[0], TUN_IOCTLS[1]][..] } else { &[0x8900] };
    let (requests, behind) = (QUEUE_IOCTLS.len(), groups.len());
    let mut b = vec![op(LD, arg(1).0)];
    b.extend(QUEUE_IOCTLS.iter().enumerate().map(|(i, r)| jump(JEQ, *r, (requests - i + behind + 1) as u8, 0)));
    b.push(op(AND, 0xffff_ff00));
    b.extend(groups.iter().enumerate().map(|(i, g)| jump(JEQ, *g, (behind - i) as u8, 0)));
    b.extend([ALLOW, NOTIFY]);
    b
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program on (number, arguments) as the kernel would.
    fn verdict(f: &Filter, arch: u32, nr: u32, args: [u64; 6]) -> u32 {
        let (mut pc, mut a) = (0usize, 0u32);
        loop {
            let i = f.prog[pc];
            pc += 1;
            match i.code {
                LD => {
                    a = match i.k {
                        OFF_NR => nr,
                        OFF_ARCH => arch,
                        k => {
                            let at = k - arg(0).0;
                            (args[(at / 8) as usize] >> (8 * (at % 8))) as u32
                        }
                    }
                }
                JEQ => pc += usize::from(if a == i.k { i.jt } else { i.jf }),
                JGE => pc += usize::from(if a >= i.k { i.jt } else { i.jf }),
                AND => a &= i.k,
                RET => return i.k,
                other => panic!("{other:#x}"),
            }
        }
    }

    fn v(nr: libc::c_long, args: [u64; 6]) -> u32 {
        verdict(&Filter::new(false, false), AUDIT_ARCH, nr as u32, args)
    }

    const N: u32 = libc::SECCOMP_RET_USER_NOTIF;
    const A: u32 = libc::SECCOMP_RET_ALLOW;

    #[test]
    fn sockets_by_family_and_netlink_protocol() {
        let s = |d: i32, p: u64| v(libc::SYS_socket, [d as u64, 1, p, 0, 0, 0]);
        for d in [libc::AF_INET, libc::AF_INET6, libc::AF_PACKET] {
            assert_eq!(s(d, 0), N);
        }
        assert_eq!(s(libc::AF_UNIX, 0), A);
        assert_eq!(s(libc::AF_XDP, 0), libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT as u32);
        for (p, want) in [(0, N), (4, N), (12, N), (16, N), (9, A), (15, A), (1, A)] {
            assert_eq!(s(libc::AF_NETLINK, p), want, "netlink {p}");
        }
        assert_eq!(v(libc::SYS_socket, [0xdead_0000_0002, 1, 0, 0, 0, 0]), N);
    }

    #[test]
    fn addresses_ioctls_and_the_rest() {
        assert_eq!(v(libc::SYS_sendto, [3, 1, 1, 0, 0, 0]), A);
        assert_eq!(v(libc::SYS_sendto, [3, 1, 1, 0, 0x7fff, 16]), N);
        assert_eq!(v(libc::SYS_sendto, [3, 0, 0, 0, 0, 0]), N);
        assert_eq!(v(libc::SYS_sendto, [3, 1, 1, libc::MSG_MORE as u64, 0, 0]), N);
        assert_eq!(v(libc::SYS_recvfrom, [3, 0, 1, libc::MSG_TRUNC as u64, 0, 0]), N);
        assert_eq!(v(libc::SYS_recvfrom, [3, 1, 1, libc::MSG_PEEK as u64, 0, 0]), A);
        assert_eq!(v(libc::SYS_recvfrom, [3, 1, 1, 0, 0x7fff_0000_0000, 16]), N);
        assert_eq!(v(libc::SYS_ioctl, [3, 0x541b, 0, 0, 0, 0]), N);
        assert_eq!(v(libc::SYS_ioctl, [3, 0x5411, 0, 0, 0, 0]), N);
        assert_eq!(v(libc::SYS_ioctl, [3, 0x8912, 0, 0, 0, 0]), N);
        assert_eq!(v(libc::SYS_ioctl, [3, 0x5401, 0, 0, 0, 0]), A);
        let tun = |f| verdict(&Filter::new(f, false), AUDIT_ARCH, libc::SYS_ioctl as u32, [3, 0x4004_54ca, 0, 0, 0, 0]);
        assert_eq!((tun(false), tun(true)), (A, N));
        let queue = |r| verdict(&Filter::new(true, false), AUDIT_ARCH, libc::SYS_ioctl as u32, [3, r, 0, 0, 0, 0]);
        assert_eq!([0x541b, 0x5411, 0x8912, 0x5401].map(queue), [N, N, N, A]);
        assert_eq!(v(libc::SYS_io_uring_setup, [8, 0, 0, 0, 0, 0]), libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
        let bpf = |command: u32| v(libc::SYS_bpf, [command.into(), 0, 0, 0, 0, 0]);
        let refused = libc::SECCOMP_RET_ERRNO | libc::EOPNOTSUPP as u32;
        assert_eq!([5, BPF_PROG_ATTACH, BPF_LINK_CREATE, 29].map(bpf), [A, refused, refused, A]);
        let limit = |resource: u32, new| v(libc::SYS_prlimit64, [0, resource.into(), new, 0, 0, 0]);
        let nofile = libc::RLIMIT_NOFILE;
        assert_eq!([limit(nofile, 0x7fff), limit(nofile, 1 << 32), limit(nofile, 0), limit(0, 0x7fff)], [N, N, A, A]);
        let mmap = |flags: i32| v(libc::SYS_mmap, [0, 4096, 3, flags as u64, 4, 0]);
        assert_eq!([libc::MAP_SHARED, libc::MAP_SHARED_VALIDATE].map(mmap), [N; 2]);
        assert_eq!([libc::MAP_PRIVATE, libc::MAP_SHARED | libc::MAP_ANONYMOUS].map(mmap), [A; 2]);
        assert_eq!(v(libc::SYS_accept4, [0; 6]), N);
        assert_eq!(v(libc::SYS_read, [0; 6]), A);
        assert_eq!(v(libc::SYS_openat, [0; 6]), A);
        assert_eq!(verdict(&Filter::new(true, false), AUDIT_ARCH, libc::SYS_openat as u32, [0; 6]), N);
        let fstat = |flags: i32| {
            verdict(&Filter::new(true, false), AUDIT_ARCH, libc::SYS_newfstatat as u32, [3, 1, 1, flags as u64, 0, 0])
        };
        assert_eq!((fstat(0), fstat(libc::AT_SYMLINK_NOFOLLOW), fstat(libc::AT_EMPTY_PATH)), (N, N, A));
        let proc = |nr: libc::c_long, args| verdict(&Filter::new(true, false), AUDIT_ARCH, nr as u32, args);
        let seek = |at: u64, how: i32| proc(libc::SYS_lseek, [3, at, how as u64, 0, 0, 0]);
        assert_eq!((seek(0, libc::SEEK_SET), seek(0, libc::SEEK_CUR), seek(1 << 32, libc::SEEK_SET)), (N, A, A));
        let pwrite = |len: u64, at: u64| proc(libc::SYS_pwrite64, [3, 1, len, at, 0, 0]);
        assert_eq!((pwrite(4095, 0), pwrite(4096, 0), pwrite(2, 2), pwrite(2, 1 << 32)), (N, A, A, A));
        assert_eq!([libc::SYS_lgetxattr, libc::SYS_statfs].map(|nr| proc(nr, [0; 6])), [N, N]);
        assert_eq!([libc::SYS_lseek, libc::SYS_pwrite64, libc::SYS_statfs].map(|nr| v(nr, [0; 6])), [A; 3]);
    }

    #[test]
    fn exact_sees_payload_and_polls() {
        let v = |nr: libc::c_long| verdict(&Filter::new(false, true), AUDIT_ARCH, nr as u32, [3, 1, 1, 0, 0, 0]);
        for nr in [libc::SYS_read, libc::SYS_write, libc::SYS_sendto, libc::SYS_recvfrom, libc::SYS_ppoll] {
            assert_eq!(v(nr), N, "call {nr}");
        }
        assert_eq!(v(libc::SYS_close), A);
    }

    #[test]
    fn foreign_abis_never_run_half_outside() {
        assert_eq!(verdict(&Filter::new(false, false), 0x4000_0003, 1, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
        #[cfg(target_arch = "x86_64")]
        assert_eq!(
            verdict(&Filter::new(false, false), AUDIT_ARCH, X32_BIT | 1, [0; 6]),
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32
        );
    }

    #[test]
    fn names_and_numbers_agree() {
        assert_eq!(Sys::from_nr(libc::SYS_accept4), Sys::Accept4);
        assert_eq!(Sys::Accept4.nr(), libc::SYS_accept4);
        assert_eq!(Sys::from_nr(9999), Sys::Other(9999));
    }
}
