//! System calls of a script: arguments to a [`Call`], the result against what the line says.
use super::value::{Args, int, option_value};
use super::{Blocked, Happened, Run};
use crate::ast::*;
use crate::problem::Problem;
use belljar_abi::*;
use belljar_kernel::task::call::*;

/// Every call that a script can make, with the number of its arguments.
pub const CALLS: &[(&str, usize)] = &[
    ("socket", 3),
    ("bind", 3),
    ("listen", 2),
    ("accept", 3),
    ("accept4", 4),
    ("connect", 3),
    ("read", 3),
    ("recv", 4),
    ("recvfrom", 6),
    ("recvmsg", 3),
    ("write", 3),
    ("send", 4),
    ("sendto", 6),
    ("sendmsg", 3),
    ("shutdown", 2),
    ("close", 1),
    ("getsockname", 3),
    ("getpeername", 3),
    ("getsockopt", 5),
    ("setsockopt", 5),
    ("fcntl", 3),
    ("ioctl", 3),
    ("poll", 3),
    ("epoll_create", 1),
    ("epoll_create1", 1),
    ("epoll_ctl", 4),
    ("epoll_wait", 4),
    ("dup", 1),
    ("dup2", 2),
    ("setrlimit", 2),
];

/// What the call returned as a number.
pub(super) fn number(r: &Ret) -> i64 {
    match r {
        Ret::Int(n) => *n,
        Ret::Fd(fd) | Ret::Accepted { fd, .. } => i64::from(*fd),
        Ret::Data(d) => d.segs.len() as i64,
        Ret::Stream(s) => s.len() as i64,
        Ret::Addr(_) | Ret::Opt(_) => 0,
        Ret::Poll(p) => p.iter().filter(|p| p.revents != 0).count() as i64,
        Ret::Events(e) => e.len() as i64,
    }
}

/// What the program sees: an ioctl writes its answer to its argument and returns 0; MSG_TRUNC asks for the whole length.
fn returned(line: &CallLine, r: &Ret) -> i64 {
    let flags = if line.name == "recvmsg" { 2 } else { 3 };
    let trunc = || Args { line }.int_or_0(flags, "flags").is_ok_and(|f| f & i64::from(MSG_TRUNC) != 0);
    match r {
        Ret::Int(_) if line.name == "ioctl" => 0,
        Ret::Data(d) if line.name.starts_with("recv") && trunc() => d.full_len as i64,
        r => number(r),
    }
}

impl<'a> Run<'a> {
    pub(super) fn call(&mut self, e: &Event, line: &'a CallLine, until: Option<Nanos>) -> Result<(), Problem> {
        let task = match until {
            Some(_) => self.m.thread().ok_or_else(|| Problem::new(e.span, "no thread is left for this call"))?,
            None => self.m.task,
        };
        if matches!(line.name.as_str(), "connect" | "sendto" | "sendmsg") {
            self.flows.refresh();
        }
        let submitted = self.submit(line, task)?;
        let id = match submitted {
            Submitted::Done(result) => return self.returned_now(line, result, until, task),
            Submitted::Parked(id) => id,
        };
        if let Some(i) = self.m.done.iter().position(|d| d.0 == id) {
            let (_, result, _) = self.m.done.remove(i);
            return self.returned_now(line, result, until, task);
        }
        let now = self.m.now();
        match until {
            Some(until) => {
                self.trace.push((now, Happened::Call(format!("{} sleeps", self.text(line)))));
                self.blocked.push(Blocked { id, task, line, span: e.span, until });
                self.settle()
            }
            None => {
                self.m.cancel(id);
                Err(Problem::new(line.span, format!("`{}` sleeps", line.name))
                    .note("expected", want(&line.expect))
                    .hint("a call that sleeps has an end: +0...0.2 accept(3, ..., ...) = 4"))
            }
        }
    }

    fn returned_now(
        &mut self,
        line: &'a CallLine,
        result: SysResult,
        until: Option<Nanos>,
        task: belljar_kernel::ids::TaskId,
    ) -> Result<(), Problem> {
        let now = self.m.now();
        if until.is_some() {
            self.m.rest(task);
        }
        let text = self.check_result(line, result)?;
        self.trace.push((now, Happened::Call(text)));
        self.settle()?;
        match until.filter(|u| *u > now + self.tolerance()) {
            Some(u) => Err(Problem::new(line.span, format!("`{}` does not sleep", line.name))
                .note("expected", format!("it returns at {}", super::seconds(u)))
                .note("came", "it returned at once")),
            None => Ok(()),
        }
    }

    /// The call without its result.
    fn text(&self, line: &CallLine) -> String {
        self.script
            .text
            .get(line.span.start..line.span.end)
            .unwrap_or("")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn submit(&mut self, line: &'a CallLine, task: belljar_kernel::ids::TaskId) -> Result<Submitted, Problem> {
        let a = Args { line };
        let s = &self.script.settings;
        let (local, peer) = ((s.local, s.bind_port), (s.remote, s.connect_port));
        let fd = |run: &Run<'a>| a.want(0, "a descriptor").and_then(|e| run.fd(e));
        let call = match line.name.as_str() {
            "socket" => {
                let family = match a.get(0).map(|e| &e.kind) {
                    Some(ExprKind::Default) | None if s.version != Version::V4 => AF_INET6,
                    Some(ExprKind::Default) | None => AF_INET,
                    _ => a.i32(0, "a family")?,
                };
                Call::Socket { family, kind: a.i32(1, "a type")?, protocol: a.i32_or_0(2, "a protocol")? }
            }
            "bind" => {
                let addr = cut(self.addr(a.want(1, "an address")?, local)?, a.get(2));
                return Ok(self.m.call(task, Call::Bind { fd: fd(self)?, addr: &addr }));
            }
            "connect" => {
                let addr = cut(self.addr(a.want(1, "an address")?, peer)?, a.get(2));
                return Ok(self.m.call(task, Call::Connect { fd: fd(self)?, addr: &addr }));
            }
            "listen" => Call::Listen { fd: fd(self)?, backlog: a.i32(1, "a backlog")? },
            "accept" => Call::Accept { fd: fd(self)?, flags: 0 },
            "accept4" => Call::Accept { fd: fd(self)?, flags: a.i32(3, "flags")? },
            "read" => Call::Recv { fd: fd(self)?, len: a.size(2, "a length")?, flags: 0 },
            "recv" | "recvfrom" => {
                Call::Recv { fd: fd(self)?, len: a.size(2, "a length")?, flags: a.i32_or_0(3, "flags")? }
            }
            "write" | "send" | "sendto" => return self.send(&a, task),
            "sendmsg" => return self.sendmsg(&a, task),
            "recvmsg" => return self.recvmsg(&a, task),
            "shutdown" => Call::Shutdown { fd: fd(self)?, how: a.i32(1, "SHUT_RD, SHUT_WR or SHUT_RDWR")? },
            "close" => Call::Close { fd: fd(self)? },
            "getsockname" => Call::GetSockName { fd: fd(self)? },
            "getpeername" => Call::GetPeerName { fd: fd(self)? },
            "getsockopt" => {
                let len = a.get(4).map_or(Ok(4), |e| int(e, "a length"))?;
                let len = usize::try_from(len).unwrap_or(0).min(4096);
                Call::GetSockOpt { fd: fd(self)?, level: a.i32(1, "a level")?, name: a.i32(2, "an option")?, len }
            }
            "setsockopt" => {
                let len = usize::try_from(a.int_or_0(4, "a length")?).unwrap_or(0);
                let value = option_value(a.want(3, "a value")?, len)?;
                let (level, name) = (a.i32(1, "a level")?, a.i32(2, "an option")?);
                return Ok(self.m.call(task, Call::SetSockOpt { fd: fd(self)?, level, name, value: &value }));
            }
            "fcntl" => Call::Fcntl { fd: fd(self)?, cmd: a.i32(1, "a command")?, arg: a.int_or_0(2, "an argument")? },
            "ioctl" => {
                let arg =
                    a.get(2).map_or(Ok(0), |e| if e.kind == ExprKind::Default { Ok(0) } else { int(e, "a value") })?;
                Call::Ioctl { fd: fd(self)?, request: a.int(1, "a request")? as u64, arg }
            }
            "poll" => return self.poll(&a, task),
            "epoll_create" => Call::EpollCreate { flags: 0 },
            "epoll_create1" => Call::EpollCreate { flags: a.i32_or_0(0, "flags")? },
            "epoll_ctl" => return self.epoll_ctl(&a, task),
            "epoll_wait" => {
                let timeout = timeout(a.int(3, "milliseconds")?);
                Call::EpollWait { epfd: fd(self)?, max: a.i32(2, "a number of events")?, timeout }
            }
            "dup" => Call::Dup { fd: fd(self)?, min: 0, cloexec: false },
            "dup2" => {
                let to = self.fd(a.want(1, "a descriptor")?)?;
                Call::Dup2 { fd: fd(self)?, to, cloexec: false }
            }
            // setrlimit(RLIMIT_NOFILE, {soft, hard})
            _ => {
                let limits = option_value(a.want(1, "{soft, hard}")?, 8)?;
                let word = |at: usize| {
                    limits.get(at..).and_then(|b| b.first_chunk::<4>()).map_or(0, |b| u32::from_ne_bytes(*b))
                };
                Call::SetNofile { soft: word(0), hard: word(4) }
            }
        };
        Ok(self.m.call(task, call))
    }

    /// The result against the line; what came back in memory as well. Returns the line for the trace.
    pub(super) fn check_result(&mut self, line: &CallLine, result: SysResult) -> Result<String, Problem> {
        let value = result.as_ref().map(|r| returned(line, r));
        let mut came = match &value {
            Ok(v) => v.to_string(),
            Err(e) => format!("-1 {}", e.name()),
        };
        let same = match (&line.expect, &value) {
            (Expected::Any, _) => true,
            (Expected::Error(e), Err(got)) => e == *got,
            // A new descriptor has the number that the script gives it.
            (Expected::Value(v), Ok(_)) if makes_fd(&result) => *v >= 0,
            (Expected::Value(v), Ok(got)) => v == got,
            _ => false,
        };
        if !same {
            return Err(Problem::new(line.expect_span, format!("`{}` returned something else", line.name))
                .note("expected", want(&line.expect))
                .note("came", came));
        }
        if let (Ok(Ret::Fd(fd) | Ret::Accepted { fd, .. }), Expected::Value(v)) = (&result, &line.expect) {
            self.new_fd(line, *v, *fd)?;
            came = v.to_string();
        }
        if line.name == "close" && result.is_ok() {
            self.closed(line)?;
        }
        if let Ok(ret) = &result {
            self.check_memory(line, ret)?;
        }
        Ok(format!("{} = {came}", self.text(line)))
    }

    fn new_fd(&mut self, line: &CallLine, script: i64, live: u32) -> Result<(), Problem> {
        match self.fds.insert(script, live) {
            Some(old) if old != live && line.name != "dup2" => Err(Problem::new(
                line.expect_span,
                format!("the script uses {script} for a descriptor that is still open"),
            )),
            _ => Ok(()),
        }
    }

    fn closed(&mut self, line: &CallLine) -> Result<(), Problem> {
        let e = Args { line }.want(0, "a descriptor")?;
        self.fds.remove(&int(e, "a descriptor")?);
        Ok(())
    }
}

/// sockaddr_in cut or stretched to the length that the call gives.
fn cut(mut addr: Vec<u8>, len: Option<&Expr>) -> Vec<u8> {
    if let Some(ExprKind::Int(n)) = len.map(|e| &e.kind) {
        addr.resize(usize::try_from(*n).unwrap_or(0).min(256), 0);
    }
    addr
}

fn makes_fd(r: &SysResult) -> bool {
    matches!(r, Ok(Ret::Fd(_) | Ret::Accepted { .. }))
}

fn want(e: &Expected) -> String {
    match e {
        Expected::Any => "anything".into(),
        Expected::Value(v) => v.to_string(),
        Expected::Error(e) => format!("-1 {}", e.name()),
    }
}

/// Milliseconds as poll(2) counts them: negative is for ever.
pub(super) fn timeout(ms: i64) -> Option<Nanos> {
    u64::try_from(ms).ok().map(|ms| ms.saturating_mul(1_000_000))
}
