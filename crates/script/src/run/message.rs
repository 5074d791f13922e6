//! Calls with memory behind them: messages, control messages, poll and epoll sets, option values that come back.
use super::Run;
use super::calls::timeout;
use super::control::{self, native};
use super::value::{Args, MAX_BYTES, field, inner, int, one_of};
use crate::ast::{CallLine, Expr, ExprKind};
use crate::problem::Problem;
use belljar_abi::*;
use belljar_kernel::ids::TaskId;
use belljar_kernel::task::call::*;
use belljar_wire::{Seg, Segs};

impl<'a> Run<'a> {
    pub(super) fn send(&mut self, a: &Args<'a>, task: TaskId) -> Result<Submitted, Problem> {
        let fd = self.fd(a.want(0, "a descriptor")?)?;
        let len = a.size(2, "a length")?;
        let data = payload(a.want(1, "the data")?, len)?;
        let flags = if a.line.name == "write" { 0 } else { a.i32_or_0(3, "flags")? };
        let s = &self.script.settings;
        let to = match a.get(4).filter(|e| !matches!(e.kind, ExprKind::Int(_))) {
            Some(e) if a.line.name == "sendto" => Some(self.addr(e, (s.remote, s.connect_port))?),
            _ => None,
        };
        let call = Call::Send { fd, data: Payload::Bytes(&data), flags, to: to.as_deref(), cmsgs: &[] };
        Ok(self.m.call(task, call))
    }

    pub(super) fn sendmsg(&mut self, a: &Args<'a>, task: TaskId) -> Result<Submitted, Problem> {
        let fd = self.fd(a.want(0, "a descriptor")?)?;
        let msg = a.want(1, "a message")?;
        let flags = a.i32_or_0(2, "flags")?;
        let s = &self.script.settings;
        let to = match one_of(msg, &["msg_name", "0"]).filter(|e| !matches!(e.kind, ExprKind::Int(_))) {
            Some(e) => Some(self.addr(e, (s.remote, s.connect_port))?),
            None => None,
        };
        let (parts, mut data) = (iovecs(msg)?, Vec::new());
        let data = match flags & MSG_ZEROCOPY {
            0 => {
                parts.iter().for_each(|p| data.extend_from_slice(p));
                Payload::Bytes(&data)
            }
            // The program's own pages: its pieces stay apart.
            _ => Payload::Segs(parts.into_iter().fold(Segs::new(), |mut all, p| {
                all.push(Seg::from_vec(p));
                all
            })),
        };
        let cmsgs = control::parse(msg)?;
        let call = Call::Send { fd, data, flags, to: to.as_deref(), cmsgs: &cmsgs };
        Ok(self.m.call(task, call))
    }

    pub(super) fn recvmsg(&mut self, a: &Args<'a>, task: TaskId) -> Result<Submitted, Problem> {
        let fd = self.fd(a.want(0, "a descriptor")?)?;
        let len = iovecs(a.want(1, "a message")?)?.iter().map(Vec::len).sum();
        Ok(self.m.call(task, Call::Recv { fd, len, flags: a.i32_or_0(2, "flags")? }))
    }

    pub(super) fn poll(&mut self, a: &Args<'a>, task: TaskId) -> Result<Submitted, Problem> {
        let set = a.want(0, "[{fd=…, events=…}]")?;
        let ExprKind::List(all) = &set.kind else {
            return Err(Problem::new(set.span, "[{fd=…, events=…}] is expected"));
        };
        let mut fds = Vec::new();
        for e in all {
            let (fd, events) = (one_of(e, &["fd", "0"]), one_of(e, &["events", "1"]));
            let (Some(fd), Some(events)) = (fd, events) else {
                return Err(Problem::new(e.span, "{fd=…, events=…} is expected"));
            };
            let fd = self.fd(fd)? as i32;
            fds.push(PollFd { fd, events: int(events, "events")? as u16, revents: 0 });
        }
        Ok(self.m.call(task, Call::Poll { fds: &fds, timeout: timeout(a.int(2, "milliseconds")?) }))
    }

    pub(super) fn epoll_ctl(&mut self, a: &Args<'a>, task: TaskId) -> Result<Submitted, Problem> {
        let epfd = self.fd(a.want(0, "an epoll descriptor")?)?;
        let fd_expr = a.want(2, "a descriptor")?;
        let fd = self.fd(fd_expr)?;
        let event = match a.get(3).map(inner).filter(|e| matches!(e.kind, ExprKind::Struct(_))) {
            Some(e) => {
                let events = one_of(e, &["events", "0"]).map_or(Ok(0), |e| int(e, "events"))? as u32;
                let data = one_of(e, &["fd", "data", "u32", "u64", "ptr", "1"]).unwrap_or(fd_expr);
                Some(EpollEvent { events, data: int(data, "data")? as u64 })
            }
            None => None,
        };
        Ok(self.m.call(task, Call::EpollCtl { epfd, op: a.i32(1, "an operation")?, fd, event }))
    }

    /// What a call wrote into the program's memory, against what the line says stands there.
    pub(super) fn check_memory(&self, line: &CallLine, ret: &Ret) -> Result<(), Problem> {
        let a = Args { line };
        match ret {
            Ret::Accepted { peer, .. } => self.same_addr(a.get(1), *peer),
            Ret::Addr(addr) => self.same_addr(a.get(1), *addr),
            Ret::Opt(bytes) => a.get(3).map_or(Ok(()), |e| same_option(e, bytes)),
            Ret::Stream(s) => self.same_data(&a, &Received { segs: s.clone(), ..Received::default() }),
            Ret::Data(d) => self.same_data(&a, d),
            Ret::Poll(p) => same_poll(&a, p),
            Ret::Events(e) => same_events(&a, e),
            Ret::Int(v) if line.name == "ioctl" => a.get(2).map_or(Ok(()), |e| same_ioctl(e, *v)),
            _ => Ok(()),
        }
    }

    fn same_data(&self, a: &Args<'_>, d: &Received) -> Result<(), Problem> {
        let (buffer, name) = match a.line.name.as_str() {
            "recvmsg" => {
                let msg = a.want(1, "a message")?;
                self.same_message(msg, d)?;
                (first_buffer(msg), one_of(msg, &["msg_name"]))
            }
            "recvfrom" => (a.get(1), a.get(4)),
            _ => (a.get(1), None),
        };
        if let (Some(name), Some(from)) = (name, d.from) {
            self.same_addr(Some(name), from)?;
        }
        let Some(Expr { kind: ExprKind::Str(expected), span }) = buffer else { return Ok(()) };
        let came = d.segs.to_vec();
        if came == *expected {
            return Ok(());
        }
        Err(Problem::new(*span, "the data differs")
            .note("expected", format!("{:?}", String::from_utf8_lossy(expected)))
            .note("came", format!("{:?}", String::from_utf8_lossy(&came))))
    }

    fn same_message(&self, msg: &Expr, d: &Received) -> Result<(), Problem> {
        if let Some(e) = field(msg, "msg_flags") {
            let expected = int(e, "flags")?;
            if expected != i64::from(d.flags) {
                return Err(Problem::new(e.span, "msg_flags differ")
                    .note("expected", format!("{expected:#x}"))
                    .note("came", format!("{:#x}", d.flags)));
            }
        }
        let Some(list) = field(msg, "msg_control") else { return Ok(()) };
        let ExprKind::List(all) = &list.kind else { return Ok(()) };
        if all.len() != d.cmsgs.len() {
            return Err(Problem::new(list.span, "the number of control messages differs")
                .note("expected", all.len().to_string())
                .note("came", format!("{:?}", d.cmsgs.iter().map(|c| (c.level, c.kind)).collect::<Vec<_>>())));
        }
        all.iter().zip(&d.cmsgs).try_for_each(|(e, c)| control::same(e, c, self.tolerance()))
    }
}

/// `...` is zeros, a string is itself cut or filled to the length.
fn payload(e: &Expr, len: usize) -> Result<Vec<u8>, Problem> {
    let mut b = match &e.kind {
        ExprKind::Str(s) => s.clone(),
        ExprKind::Default | ExprKind::Int(0) => Vec::new(),
        _ => return Err(Problem::new(e.span, "data is expected here: ... or a string")),
    };
    b.resize(len, 0);
    Ok(b)
}

fn iov_list(msg: &Expr) -> &[Expr] {
    match one_of(msg, &["msg_iov"]).map(|e| &e.kind) {
        Some(ExprKind::List(l)) => l,
        _ => &[],
    }
}

fn iovecs(msg: &Expr) -> Result<Vec<Vec<u8>>, Problem> {
    let mut all = Vec::new();
    for e in iov_list(msg) {
        let (Some(base), Some(len)) = (one_of(e, &["iov_base", "0"]), one_of(e, &["iov_len", "1"])) else {
            return Err(Problem::new(e.span, "{..., 1000} is expected: where and how many bytes"));
        };
        let n = int(len, "a length")?;
        let n = usize::try_from(n).ok().filter(|n| *n <= MAX_BYTES);
        all.push(payload(base, n.ok_or_else(|| Problem::new(len.span, "this length cannot be"))?)?);
    }
    Ok(all)
}

fn first_buffer(msg: &Expr) -> Option<&Expr> {
    iov_list(msg).first().and_then(|e| one_of(e, &["iov_base", "0"]))
}

pub(super) fn expect_int(e: &Expr, came: i64) -> Result<(), Problem> {
    let expected = match &inner(e).kind {
        ExprKind::Int(v) => *v,
        _ => return Ok(()),
    };
    if expected == came || expected as i32 == came as i32 {
        return Ok(());
    }
    Err(Problem::new(e.span, "the value differs").note("expected", expected.to_string()).note("came", came.to_string()))
}

fn same_ioctl(e: &Expr, came: i64) -> Result<(), Problem> {
    if matches!(e.kind, ExprKind::List(_)) { expect_int(e, came) } else { Ok(()) }
}

fn same_option(e: &Expr, bytes: &[u8]) -> Result<(), Problem> {
    let value = inner(e);
    match &value.kind {
        ExprKind::Int(_) if bytes.len() == 1 => expect_int(value, native(bytes, 0, 1)),
        ExprKind::Int(_) => expect_int(value, native(bytes, 0, 4)),
        ExprKind::Str(s) => {
            let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
            if bytes.get(..end) == Some(&s[..]) {
                return Ok(());
            }
            Err(Problem::new(value.span, "the value differs")
                .note("expected", format!("{:?}", String::from_utf8_lossy(s)))
                .note("came", format!("{:?}", String::from_utf8_lossy(bytes))))
        }
        // The first bytes.
        ExprKind::List(all) => all.iter().enumerate().try_for_each(|(i, v)| expect_int(v, native(bytes, i, 1))),
        ExprKind::Struct(fields) => {
            let width = bytes.len().checked_div(fields.len()).unwrap_or(0);
            fields.iter().enumerate().try_for_each(|(i, (_, v))| expect_int(v, native(bytes, i * width, 4)))
        }
        _ => Ok(()),
    }
}

fn same_poll(a: &Args<'_>, came: &[PollFd]) -> Result<(), Problem> {
    let Some(ExprKind::List(all)) = a.get(0).map(|e| &e.kind) else { return Ok(()) };
    for (e, p) in all.iter().zip(came) {
        if let Some(r) = one_of(e, &["revents", "2"]) {
            same_mask(r, p.revents.into())?;
        }
    }
    Ok(())
}

/// Events of epoll_wait, in the order in which they came; `[…]` around several.
fn same_events(a: &Args<'_>, came: &[EpollEvent]) -> Result<(), Problem> {
    let Some(e) = a.get(1) else { return Ok(()) };
    let all: Vec<&Expr> = match &e.kind {
        ExprKind::List(l) => l.iter().collect(),
        ExprKind::Struct(_) => vec![e],
        _ => return Ok(()),
    };
    for (e, c) in all.iter().zip(came) {
        if let Some(x) = one_of(e, &["events", "0"]) {
            same_mask(x, c.events)?;
        }
        if let Some(x) = one_of(e, &["fd", "data", "u32", "u64", "ptr", "1"]) {
            expect_int(x, c.data as i64)?;
        }
    }
    Ok(())
}

fn same_mask(e: &Expr, came: u32) -> Result<(), Problem> {
    let expected = int(e, "events")? as u32;
    if expected == came {
        return Ok(());
    }
    Err(Problem::new(e.span, "the events differ").note("expected", mask(expected)).note("came", mask(came)))
}

fn mask(v: u32) -> String {
    let names =
        [(POLLIN, "IN"), (POLLPRI, "PRI"), (POLLOUT, "OUT"), (POLLERR, "ERR"), (POLLHUP, "HUP"), (POLLRDHUP, "RDHUP")];
    let known: u32 = names.iter().fold(0, |m, n| m | n.0);
    let mut words: Vec<String> = names.iter().filter(|n| v & n.0 != 0).map(|n| n.1.to_owned()).collect();
    if v & !known != 0 {
        words.push(format!("{:#x}", v & !known));
    }
    if words.is_empty() { "0".into() } else { words.join("|") }
}
