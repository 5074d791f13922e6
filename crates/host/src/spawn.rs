//! Starting a program under the filter: fork, filter, listener, exec; every failure reported before it can run.
//!
//! The parent fetches the listener with pidfd_getfd, because the child's own `sendmsg` would already be notified. All
//! memory the child needs is made before the fork: it may be forked from a process with threads (tests).
use crate::seccomp::{self, Filter, Listener};
use crate::signal::Mask;
use crate::{cvt, cvt_long, fd, task};
use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What to start and with what.
#[derive(Debug, Default)]
pub struct Command {
    pub program: OsString,
    /// Without argv\[0\].
    pub args: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    pub cwd: Option<PathBuf>,
    /// Descriptors for 0, 1, 2; `None` inherits.
    pub stdio: [Option<OwnedFd>; 3],
    /// (soft, hard) RLIMIT_NOFILE of the program.
    pub nofile: Option<(u64, u64)>,
    /// A session of its own, with descriptor 0 as controlling terminal where it is one.
    pub session: bool,
    pub umask: Option<u32>,
}

/// Why a program could not be started.
#[derive(Debug)]
pub enum SpawnError {
    /// No such program: exit code 127.
    NotFound(OsString),
    /// It is there, what its first line or its ELF header names to run it is not: exit code 127.
    NoInterpreter(PathBuf, Option<String>),
    /// It is there but cannot be executed: exit code 126.
    NotExecutable(OsString, io::Error),
    /// Set-user-ID and its like lose their privilege under no_new_privs: exit code 126.
    Privileged(PathBuf),
    /// A program of another ABI: its calls could not be followed: exit code 126.
    ForeignAbi(PathBuf),
    /// A seccomp listener is there already (EBUSY): exit code 125.
    ListenerPresent,
    /// Something of ours failed: exit code 125.
    Setup(&'static str, io::Error),
}

impl SpawnError {
    /// The exit code that env(1) and docker use for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            SpawnError::NotFound(_) | SpawnError::NoInterpreter(..) => 127,
            SpawnError::NotExecutable(..) | SpawnError::Privileged(_) | SpawnError::ForeignAbi(_) => 126,
            SpawnError::ListenerPresent | SpawnError::Setup(..) => 125,
        }
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnError::NotFound(p) => write!(f, "{}: no such program", p.display()),
            SpawnError::NoInterpreter(p, Some(by)) => {
                write!(f, "{}: its interpreter {by} does not exist", p.display())
            }
            SpawnError::NoInterpreter(p, None) => {
                write!(f, "{}: the dynamic loader that it names does not exist", p.display())
            }
            SpawnError::NotExecutable(p, e) => write!(f, "{}: cannot be executed: {}", p.display(), crate::words(e)),
            SpawnError::Privileged(p) => write!(
                f,
                "{}: is set-user-ID, set-group-ID or has file capabilities, which the filter's no_new_privs takes away",
                p.display()
            ),
            SpawnError::ForeignAbi(p) => {
                write!(f, "{}: is built for another ABI than belljar; only native programs can run", p.display())
            }
            SpawnError::ListenerPresent => write!(
                f,
                "another seccomp listener already watches this process (EBUSY); run belljar outside of that sandbox"
            ),
            SpawnError::Setup(what, e) => {
                let hint = match e.raw_os_error() {
                    Some(libc::EMFILE) => "; raise the limit of descriptors (ulimit -n)",
                    Some(libc::ENFILE | libc::EAGAIN | libc::ENOMEM) => "",
                    _ => "; belljar doctor says what this machine lacks",
                };
                write!(f, "cannot start the program: {what}: {}{hint}", crate::words(e))
            }
        }
    }
}

impl std::error::Error for SpawnError {}

/// A started program.
#[derive(Debug)]
pub struct Spawned {
    pub pid: u32,
    pub pidfd: OwnedFd,
    pub listener: Listener,
    /// The kernel has WAIT_KILLABLE_RECV: answers are not lost to signals.
    pub killable: bool,
}

// Messages of the child: what happened, and a number.
const FILTERED: i32 = 0;
const FILTERED_PLAIN: i32 = 1;
const NO_FILTER: i32 = 2;
const NO_EXEC: i32 = 3;
const NO_CWD: i32 = 4;

/// Everything the child needs, in memory made before the fork.
struct Plan {
    candidates: Vec<CString>,
    /// In a directory that we may not enter: it hides nothing that we could run.
    hidden: Vec<bool>,
    argv: Vec<*const libc::c_char>,
    sh_argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    cwd: Option<CString>,
    stdio: [RawFd; 3],
    nofile: Option<libc::rlimit>,
    session: bool,
    umask: Option<u32>,
    // The strings behind the pointers.
    _own: Vec<CString>,
}

fn cstr(s: impl Into<Vec<u8>>) -> Result<CString, SpawnError> {
    CString::new(s).map_err(|_| SpawnError::Setup("an argument holds a zero byte", io::ErrorKind::InvalidInput.into()))
}

/// The files that execvp(3) would try, in order, with the PATH of the program's own environment.
fn candidates(program: &OsStr, env: &[(OsString, OsString)]) -> Vec<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return vec![PathBuf::from(program)];
    }
    let path = env.iter().rev().find(|(k, _)| k == "PATH").map(|(_, v)| v.clone());
    let path = path.unwrap_or_else(|| OsString::from("/usr/local/bin:/bin:/usr/bin"));
    std::env::split_paths(&path).map(|d| d.join(program)).collect()
}

impl Plan {
    fn new(c: &Command) -> Result<Plan, SpawnError> {
        let files = candidates(&c.program, &c.env);
        if c.program.is_empty() {
            return Err(SpawnError::NotFound(c.program.clone()));
        }
        if let Some(found) =
            files.iter().map(|p| c.cwd.as_deref().map_or_else(|| p.clone(), |d| d.join(p))).find(|p| p.is_file())
        {
            refuse(&found)?;
        }
        let candidates = files.iter().map(|p| cstr(p.as_os_str().as_bytes())).collect::<Result<Vec<_>, _>>()?;
        let mut own = vec![cstr("sh")?, cstr(c.program.as_bytes())?];
        for a in &c.args {
            own.push(cstr(a.as_bytes())?);
        }
        let n_args = own.len();
        for (k, v) in &c.env {
            let mut kv = k.clone().into_vec();
            kv.push(b'=');
            kv.extend_from_slice(v.as_bytes());
            own.push(cstr(kv)?);
        }
        let ptrs = |from: usize, to: usize| {
            let part = own.get(from..to).unwrap_or(&[]);
            part.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
        };
        let (argv, envp) = (ptrs(1, n_args), ptrs(n_args, own.len()));
        // sh FILE ARG…: the second place is filled with the file that turned out to be a script.
        let sh_argv = ptrs(0, n_args);
        Ok(Plan {
            hidden: vec![false; candidates.len()],
            candidates,
            argv,
            sh_argv,
            envp,
            cwd: c.cwd.as_ref().map(|d| cstr(d.as_os_str().as_bytes())).transpose()?,
            stdio: [0, 1, 2].map(|i: usize| c.stdio.get(i).and_then(Option::as_ref).map_or(-1, AsRawFd::as_raw_fd)),
            nofile: c.nofile.map(|(rlim_cur, rlim_max)| libc::rlimit { rlim_cur, rlim_max }),
            session: c.session,
            umask: c.umask,
            _own: own,
        })
    }
}

/// CAP_NET_BIND_SERVICE, CAP_NET_BROADCAST, CAP_NET_ADMIN, CAP_NET_RAW: what a program has inside its host anyway.
const NETWORK_CAPS: u32 = 0xf << 10;

/// Refuses what would silently run differently: set-ID files of another owner, file capabilities beyond those of the
/// network, foreign ABIs.
fn refuse(path: &Path) -> Result<(), SpawnError> {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = path.metadata() else { return Ok(()) };
    // SAFETY: plain calls without arguments.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    let set_uid = meta.mode() & libc::S_ISUID != 0 && meta.uid() != uid;
    let set_gid = meta.mode() & libc::S_ISGID != 0 && meta.gid() != gid && uid != 0;
    if set_uid
        || set_gid
        || (uid != 0 && file_caps(path).is_some_and(|(low, high)| low & !NETWORK_CAPS != 0 || high != 0))
    {
        return Err(SpawnError::Privileged(path.to_owned()));
    }
    let mut head = [0u8; 20];
    let read = std::fs::File::open(path).and_then(|mut f| io::Read::read_exact(&mut f, &mut head));
    if read.is_ok() && head.starts_with(b"\x7fELF") {
        #[cfg(target_arch = "x86_64")]
        const MACHINE: u16 = 62;
        #[cfg(target_arch = "aarch64")]
        const MACHINE: u16 = 183;
        if head[4] != 2 || u16::from_le_bytes([head[18], head[19]]) != MACHINE {
            return Err(SpawnError::ForeignAbi(path.to_owned()));
        }
    }
    Ok(())
}

/// Capabilities that a file gives, permitted and inheritable ones together: `struct vfs_cap_data` without its version.
fn file_caps(path: &Path) -> Option<(u32, u32)> {
    let p = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut b = [0u8; 24];
    // SAFETY: both strings end with a zero; the buffer's pointer and length belong together.
    let n = unsafe { libc::getxattr(p.as_ptr(), c"security.capability".as_ptr(), b.as_mut_ptr().cast(), b.len()) };
    let word = |at: usize| b.get(at..at + 4).and_then(|w| w.try_into().ok()).map_or(0, u32::from_le_bytes);
    (n > 0).then(|| (word(4) | word(8), word(12) | word(16)))
}

/// Starts `command` under `filter`, with the signal mask `mask`.
pub fn spawn(command: &Command, filter: &Filter, mask: &Mask) -> Result<Spawned, SpawnError> {
    let setup = |what| move |e| SpawnError::Setup(what, e);
    let mut plan = Plan::new(command)?;
    let (report_r, report_w) = fd::pipe().map_err(setup("pipe"))?;
    let (go_r, go_w) = fd::pipe().map_err(setup("pipe"))?;
    // SAFETY: the child calls only async-signal-safe functions and ends in exec or _exit.
    let pid = cvt(unsafe { libc::fork() }).map_err(setup("fork"))?;
    if pid == 0 {
        child(&mut plan, filter, mask, report_w.as_raw_fd(), go_r.as_raw_fd());
    }
    drop((report_w, go_r));
    let pid = pid as u32;
    let started = follow(pid, command, &report_r, go_w);
    if started.is_err() {
        let _ = task::kill(pid, libc::SIGKILL);
        // SAFETY: reaps the child that was just forked; no status is asked for.
        unsafe { libc::waitpid(pid as libc::pid_t, std::ptr::null_mut(), 0) };
    }
    match started {
        Err(SpawnError::NotFound(p)) => Err(not_found(p, &plan)),
        other => other,
    }
}

/// exec says ENOENT of a script's interpreter and of a loader too.
fn not_found(program: OsString, plan: &Plan) -> SpawnError {
    let paths = plan.candidates.iter().map(|c| PathBuf::from(OsString::from_vec(c.as_bytes().to_vec())));
    let Some(path) = paths.into_iter().find(|p| p.is_file()) else { return SpawnError::NotFound(program) };
    let mut head = [0; 256];
    let n = std::fs::File::open(&path).and_then(|mut f| f.read(&mut head)).unwrap_or(0);
    let line = String::from_utf8_lossy(&head[..n]).lines().next().unwrap_or_default().to_owned();
    let by = line.strip_prefix("#!").and_then(|l| l.split_whitespace().next()).map(str::to_owned);
    SpawnError::NoInterpreter(path, by)
}

/// The parent's half of the conversation.
fn follow(pid: u32, command: &Command, report: &OwnedFd, go: OwnedFd) -> Result<Spawned, SpawnError> {
    let pidfd = task::pidfd(pid).map_err(|e| SpawnError::Setup("pidfd_open", e))?;
    let (listener, killable) = match message(report) {
        Some((kind @ (FILTERED | FILTERED_PLAIN), n)) => {
            let fd = task::getfd(&pidfd, n).map_err(|e| SpawnError::Setup("pidfd_getfd of the listener", e))?;
            (Listener::new(fd), kind == FILTERED)
        }
        Some((NO_FILTER, libc::EBUSY)) => return Err(SpawnError::ListenerPresent),
        Some((NO_FILTER, e)) => return Err(SpawnError::Setup("seccomp", io::Error::from_raw_os_error(e))),
        Some((NO_CWD, e)) => return Err(SpawnError::Setup("working directory", io::Error::from_raw_os_error(e))),
        _ => return Err(SpawnError::Setup("the child ended early", io::ErrorKind::UnexpectedEof.into())),
    };
    fd::write(&go, &[1]).map_err(|e| SpawnError::Setup("pipe", e))?;
    drop(go);
    match message(report) {
        // The pipe closed by exec: the program runs.
        None => Ok(Spawned { pid, pidfd, listener, killable }),
        Some((_, libc::ENOENT | libc::ENOTDIR)) => Err(SpawnError::NotFound(command.program.clone())),
        Some((_, e)) => Err(SpawnError::NotExecutable(command.program.clone(), io::Error::from_raw_os_error(e))),
    }
}

fn message(from: &OwnedFd) -> Option<(i32, i32)> {
    let mut b = [0u8; 8];
    loop {
        match fd::read(from, &mut b) {
            Ok(8) => {
                let (kind, n) = b.split_at(4);
                return Some((i32::from_ne_bytes(kind.try_into().ok()?), i32::from_ne_bytes(n.try_into().ok()?)));
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            _ => return None,
        }
    }
}

/// Between fork and exec. Allocates nothing and never returns. Its reads and writes are none that a filter notifies: nobody
/// answers yet.
fn child(plan: &mut Plan, filter: &Filter, mask: &Mask, report: RawFd, go: RawFd) -> ! {
    let tell = |kind: i32, n: i32| {
        let mut b = [0u8; 8];
        b[..4].copy_from_slice(&kind.to_ne_bytes());
        b[4..].copy_from_slice(&n.to_ne_bytes());
        let part = libc::iovec { iov_base: b.as_mut_ptr().cast(), iov_len: b.len() };
        // SAFETY: `part` describes `b`; offset -1 is "where the file stands", which a pipe allows.
        unsafe { libc::syscall(libc::SYS_pwritev2, report, &raw const part, 1usize, -1i64, 0i64, 0i64) };
    };
    let die = |kind: i32, e: io::Error| -> ! {
        tell(kind, crate::errno(&e));
        // SAFETY: ends the child without running exit handlers of the parent's program.
        unsafe { libc::_exit(127) }
    };
    prepare(plan);
    // Without its supervisor the program has no network: it must not go on and wait for ever.
    crate::process::die_with_parent(libc::SIGKILL);
    if let Some(d) = &plan.cwd {
        // SAFETY: `d` is a C string.
        if let Err(e) = cvt(unsafe { libc::chdir(d.as_ptr()) }) {
            die(NO_CWD, e);
        }
    }
    // Behind the filter the supervisor would have to answer, which waits for us.
    for (c, hidden) in plan.candidates.iter().zip(&mut plan.hidden) {
        // SAFETY: `c` is a C string.
        let seen = cvt(unsafe { libc::access(c.as_ptr(), libc::F_OK) });
        *hidden = seen.is_err_and(|e| e.raw_os_error() == Some(libc::EACCES));
    }
    mask.restore();
    // Before 5.19 the killable flag is unknown (EINVAL).
    match seccomp::install(filter, true) {
        Ok(fd) => tell(FILTERED, fd),
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => match seccomp::install(filter, false) {
            Ok(fd) => tell(FILTERED_PLAIN, fd),
            Err(e) => die(NO_FILTER, e),
        },
        Err(e) => die(NO_FILTER, e),
    }
    let mut b = [0u8; 1];
    let part = libc::iovec { iov_base: b.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: `part` describes the one byte of room.
    let take = || cvt_long(unsafe { libc::syscall(libc::SYS_preadv2, go, &raw const part, 1usize, -1i64, 0i64, 0i64) });
    while let Err(e) = take() {
        if e.raw_os_error() != Some(libc::EINTR) {
            break;
        }
    }
    die(NO_EXEC, io::Error::from_raw_os_error(exec(plan)))
}

/// Session, descriptors 0 to 2, limits, umask, SIGPIPE.
fn prepare(plan: &Plan) {
    // SAFETY: plain calls on integers and valid structures; all of them are async-signal-safe.
    unsafe {
        if plan.session {
            libc::setsid();
        }
        // Lift sources out of the way first: one of them may be 0, 1 or 2 itself.
        let lifted = plan.stdio.map(|s| if s < 0 { -1 } else { libc::fcntl(s, libc::F_DUPFD_CLOEXEC, 3) });
        for (to, from) in lifted.into_iter().enumerate() {
            if from >= 0 {
                libc::dup2(from, to as libc::c_int);
            }
        }
        if plan.session && libc::isatty(0) == 1 {
            libc::ioctl(0, libc::TIOCSCTTY, 0);
        }
        if let Some(r) = &plan.nofile {
            libc::setrlimit(libc::RLIMIT_NOFILE, r);
        }
        if let Some(m) = plan.umask {
            libc::umask(m);
        }
        // Rust ignores SIGPIPE; the program expects the default.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// execvp(3): tries the candidates; a script without `#!` goes to sh. Returns the errno that describes the failure.
fn exec(plan: &mut Plan) -> i32 {
    let mut seen = libc::ENOENT;
    for (c, hidden) in plan.candidates.iter().zip(&plan.hidden) {
        // SAFETY: all strings and both null-terminated vectors live in `plan`.
        unsafe { libc::execve(c.as_ptr(), plan.argv.as_ptr(), plan.envp.as_ptr()) };
        match io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES if *hidden => {}
            libc::EACCES => seen = libc::EACCES,
            libc::ENOEXEC => {
                if let Some(file) = plan.sh_argv.get_mut(1) {
                    *file = c.as_ptr();
                }
                // SAFETY: as above.
                unsafe { libc::execve(c"/bin/sh".as_ptr(), plan.sh_argv.as_ptr(), plan.envp.as_ptr()) };
                return libc::ENOEXEC;
            }
            e => return e,
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::{Notification, Sys};
    use crate::{epoll, memory, process};
    use std::io::Read;

    fn command(program: &str, args: &[&str]) -> Command {
        Command {
            program: program.into(),
            args: args.iter().map(OsString::from).collect(),
            env: std::env::vars_os().collect(),
            ..Command::default()
        }
    }

    fn run(c: &Command, mut on: impl FnMut(&Listener, Notification)) -> process::Exit {
        let s = spawn(c, &Filter::new(false, false), &Mask::current()).unwrap();
        loop {
            if epoll::ready_now(&s.listener, epoll::IN)
                && let Ok(Some(n)) = s.listener.recv()
            {
                on(&s.listener, n);
            }
            if let Some(exit) = process::wait(s.pid) {
                return exit;
            }
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
    }

    #[test]
    fn failures_have_their_exit_codes() {
        let code = |c: &Command| spawn(c, &Filter::new(false, false), &Mask::current()).unwrap_err().exit_code();
        assert_eq!(code(&command("belljar-no-such-program", &[])), 127);
        assert_eq!(code(&command("/nonexistent/x", &[])), 127);
        assert_eq!(code(&command("/etc/passwd", &[])), 126);
        assert_eq!(code(&command("/", &[])), 126);
        assert_eq!(code(&Command { cwd: Some("/nonexistent".into()), ..command("/bin/true", &[]) }), 125);
    }

    #[test]
    fn exit_codes_and_output_pass_through() {
        let (r, w) = fd::pipe().unwrap();
        let mut c = command("sh", &["-c", "echo $WORD; exit 7"]);
        c.env.push(("WORD".into(), "bell".into()));
        c.stdio[1] = Some(w);
        assert_eq!(run(&c, |_, _| {}), process::Exit::Code(7));
        drop(c);
        let mut s = String::new();
        std::fs::File::from(r).read_to_string(&mut s).unwrap();
        assert_eq!(s, "bell\n");
        assert_eq!(run(&command("sh", &["-c", "kill -9 $$"]), |_, _| {}), process::Exit::Signal(9));
    }

    #[test]
    fn calls_are_answered_and_descriptors_planted() {
        if process::find_in_path("python3").is_none() {
            eprintln!("skipped: no python3");
            return;
        }
        let script = "import socket,os\n\
            s=socket.socket(); assert s.recv(9)==b'planted'\n\
            try: s.bind(('1.2.3.4',80)); os._exit(3)\n\
            except PermissionError: pass\n\
            a,b=socket.socketpair(); a.setsockopt(socket.SOL_SOCKET,socket.SO_KEEPALIVE,1); b.sendmsg([b'x']); os._exit(5)";
        let (mut bound, mut continued, mut keep) = (Vec::new(), 0, Vec::new());
        let mut tasks = task::Tasks::new();
        let exit = run(&command("python3", &["-S", "-c", script]), |l, n| match n.sys {
            Sys::Socket if n.int(0) == libc::AF_INET => {
                let (theirs, ours) = fd::pair_stream().unwrap();
                fd::send(&ours, b"planted").unwrap();
                l.reply_fd(n.id, &theirs, true).unwrap();
                keep.push(ours);
            }
            Sys::Bind => {
                assert!(l.id_valid(n.id));
                assert!(fd::socket_inode(&tasks.copy_fd(n.tid, n.int(0)).unwrap()).unwrap().is_some());
                bound.resize(n.word(2) as usize, 0);
                memory::read(n.tid, n.word(1), &mut bound).unwrap();
                l.reply_errno(n.id, libc::EPERM);
            }
            _ => {
                continued += 1;
                l.reply_continue(n.id);
            }
        });
        assert_eq!(exit, process::Exit::Code(5));
        assert_eq!(bound[..8], [2, 0, 0, 80, 1, 2, 3, 4]);
        assert!(continued >= 2);
    }
}
