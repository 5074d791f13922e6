//! epoll_create1, epoll_ctl, epoll_wait: checks and errors in Linux's order. The machine is in `fs/eventpoll.rs`.
use super::Caller;
use crate::env::Nanos;
use crate::fs::eventpoll::EventPoll;
use crate::fs::file::FileKind;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::mem::{Gfp, Kind};
use crate::task::call::*;
use crate::task::park::{Block, Run};
use crate::task::wait::End;
use belljar_abi::*;

/// 12-byte events that fit an int's worth of memory (`EP_MAX_EVENTS`).
const MAX_EVENTS: i32 = i32::MAX / 12;
const EXCLUSIVE_OK: u32 = EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;
/// Instances within instances (`EP_MAX_NESTS`).
const MAX_NESTS: u8 = 4;
/// Ways from a file up to instances, by depth: the first level is free, then these.
const PATH_LIMITS: [u32; 5] = [u32::MAX, 500, 100, 50, 10];
/// `fs.epoll.max_user_watches` of a machine of 24 GB.
const MAX_USER_WATCHES: usize = 5_491_533;

pub(super) fn create(k: &mut Kernel, who: Caller, flags: i32) -> SysResult {
    if flags & !EPOLL_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    k.may_install(who.process)?;
    if !k.net.mem.room(Kind::EventPoll, &k.files.epolls, Gfp::Kernel) {
        return Err(Errno::ENOMEM);
    }
    let ep = k.files.epolls.insert(EventPoll::default());
    let fd = k.install(who.process, FileKind::Epoll(ep), false, flags & EPOLL_CLOEXEC != 0);
    let file = fd.and_then(|fd| k.fd_file(who.process, fd));
    match k.files.epolls.get_mut(ep) {
        Some(e) if file.is_ok() => e.file = file.ok(),
        _ => drop(k.files.epolls.remove(ep)),
    }
    fd.map(Ret::Fd)
}

fn instance(k: &Kernel, file: FileId) -> Option<EpollId> {
    match k.files.files.get(file)?.kind {
        FileKind::Epoll(ep) => Some(ep),
        FileKind::Sock(_) => None,
    }
}

#[doc(alias = "do_epoll_ctl")]
pub(super) fn ctl(k: &mut Kernel, who: Caller, epfd: Fd, op: i32, fd: Fd, event: Option<EpollEvent>) -> SysResult {
    // Without an event only DEL makes sense; the caller's pointer was NULL.
    let event = match event {
        Some(e) => e,
        None if op == EPOLL_CTL_DEL => EpollEvent { events: 0, data: 0 },
        None => return Err(Errno::EFAULT),
    };
    let (file, target) = (k.fd_file(who.process, epfd)?, k.fd_file(who.process, fd)?);
    let ep = instance(k, file).filter(|_| file != target).ok_or(Errno::EINVAL)?;
    let inner = instance(k, target);
    if op != EPOLL_CTL_DEL && event.events & EPOLLEXCLUSIVE != 0 {
        let fits = op == EPOLL_CTL_ADD && inner.is_none() && event.events & !EXCLUSIVE_OK == 0;
        if !fits && (op == EPOLL_CTL_ADD || op == EPOLL_CTL_MOD) {
            return Err(Errno::EINVAL);
        }
    }
    if let (EPOLL_CTL_ADD, Some(inner)) = (op, inner) {
        nesting(k, ep, inner)?;
    }
    match (op, k.files.ep_find(ep, target, fd)) {
        (EPOLL_CTL_ADD, Some(_)) => return Err(Errno::EEXIST),
        (EPOLL_CTL_ADD, None) => add(k, ep, target, fd, event)?,
        (EPOLL_CTL_DEL, Some(id)) => k.ep_remove(id),
        (EPOLL_CTL_MOD, Some(id)) => {
            if k.files.items.get(id).is_some_and(|i| i.events & EPOLLEXCLUSIVE != 0) {
                return Err(Errno::EINVAL);
            }
            k.ep_modify(ep, id, event);
        }
        (EPOLL_CTL_DEL | EPOLL_CTL_MOD, None) => return Err(Errno::ENOENT),
        _ => return Err(Errno::EINVAL),
    }
    Ok(Ret::Int(0))
}

fn add(k: &mut Kernel, ep: EpollId, target: FileId, fd: Fd, event: EpollEvent) -> Result<(), Errno> {
    if k.files.items.len() >= MAX_USER_WATCHES {
        return Err(Errno::ENOSPC);
    }
    if !k.net.mem.room(Kind::EpItem, &k.files.items, Gfp::Kernel) {
        return Err(Errno::ENOMEM);
    }
    k.ep_insert(ep, target, fd, event);
    // Ways are counted only where instances lie in instances.
    let nested = k.files.epolls.get(ep).and_then(|e| e.file).is_some_and(|f| watched(k, f));
    if (nested || instance(k, target).is_some()) && too_many_paths(k, target) {
        if let Some(id) = k.files.ep_find(ep, target, fd) {
            k.ep_remove(id);
        }
        return Err(Errno::EINVAL);
    }
    Ok(())
}

fn watched(k: &Kernel, file: FileId) -> bool {
    k.files.files.get(file).is_some_and(|f| f.watchers.is_some())
}

/// ELOOP when `inner` reaches `ep`, or when the tower would be too high.
#[doc(alias = "ep_loop_check")]
fn nesting(k: &mut Kernel, ep: EpollId, inner: EpollId) -> Result<(), Errno> {
    k.files.walks += 1;
    let below = depth_below(k, inner, ep, 0).ok_or(Errno::ELOOP)?;
    if below + 1 + depth_above(k, ep, 0) > MAX_NESTS { Err(Errno::ELOOP) } else { Ok(()) }
}

/// Levels of instances below; `None` when `not` is among them. Each instance is looked into once.
fn depth_below(k: &mut Kernel, ep: EpollId, not: EpollId, level: u8) -> Option<u8> {
    if level > MAX_NESTS {
        return Some(level);
    }
    let walk = k.files.walks;
    match k.files.epolls.get_mut(ep) {
        Some(e) if e.seen == walk => return Some(e.height),
        Some(e) => e.seen = walk,
        None => return Some(0),
    }
    let inner: Vec<EpollId> = k.files.ep_items(ep).filter_map(|(_, i)| instance(k, i.file)).collect();
    let mut height = 0;
    for below in inner {
        if below == not {
            return None;
        }
        height = height.max(1 + depth_below(k, below, not, level + 1)?);
    }
    if let Some(e) = k.files.epolls.get_mut(ep) {
        e.height = height;
    }
    Some(height)
}

/// The instances that watch a file.
fn watchers(k: &Kernel, file: FileId) -> impl Iterator<Item = EpollId> + '_ {
    let mut next = k.files.files.get(file).and_then(|f| f.watchers);
    std::iter::from_fn(move || {
        let item = k.files.items.get(next?)?;
        next = item.file_next;
        Some(item.ep)
    })
}

fn depth_above(k: &Kernel, ep: EpollId, level: u8) -> u8 {
    let Some(file) = k.files.epolls.get(ep).and_then(|e| e.file) else { return 0 };
    if level > MAX_NESTS {
        return 0;
    }
    watchers(k, file).map(|up| 1 + depth_above(k, up, level + 1)).max().unwrap_or(0)
}

/// Wake-ups climb every way from a file to the outermost instances: their number is bounded by depth.
#[doc(alias = "reverse_path_check")]
fn too_many_paths(k: &Kernel, target: FileId) -> bool {
    let mut count = [0; PATH_LIMITS.len()];
    // The files that lie in the added instance are one level further away.
    match instance(k, target).and_then(|inner| k.files.ep_items(inner).next()).map(|(_, i)| i.file) {
        Some(leaf) => climb(k, leaf, 0, &mut count),
        None => climb(k, target, 0, &mut count),
    }
}

fn climb(k: &Kernel, file: FileId, depth: usize, count: &mut [u32; PATH_LIMITS.len()]) -> bool {
    for ep in watchers(k, file) {
        let Some(up) = k.files.epolls.get(ep).and_then(|e| e.file) else { continue };
        let over = if watched(k, up) {
            climb(k, up, depth + 1, count)
        } else {
            let (Some(n), Some(limit)) = (count.get_mut(depth), PATH_LIMITS.get(depth)) else { return true };
            *n += 1;
            *n > *limit
        };
        if over {
            return true;
        }
    }
    false
}

pub(super) fn wait(k: &mut Kernel, who: Caller, epfd: Fd, max: i32, timeout: Option<Nanos>) -> Run {
    let file = match k.fd_file(who.process, epfd) {
        Ok(file) => file,
        Err(e) => return Run::Done(Err(e)),
    };
    if !(1..=MAX_EVENTS).contains(&max) {
        return Run::Done(Err(Errno::EINVAL));
    }
    let Some(ep) = instance(k, file) else { return Run::Done(Err(Errno::EINVAL)) };
    let deadline = timeout.map(|t| k.net.env.now.saturating_add(t));
    let ctx = RunCtx { nonblock: timeout == Some(0), ..RunCtx::default() };
    run_wait(k, file, ep, max as usize, deadline, ctx)
}

/// Sleepers of one instance are all exclusive and the newest is woken first.
#[doc(alias = "ep_poll")]
pub(super) fn run_wait(
    k: &mut Kernel,
    file: FileId,
    ep: EpollId,
    max: usize,
    deadline: Option<Nanos>,
    ctx: RunCtx,
) -> Run {
    let events = k.ep_send_events(ep, max);
    if !events.is_empty() || ctx.nonblock || ctx.timed_out {
        return Run::Done(Ok(Ret::Events(events)));
    }
    let block = Block::On { on: WaitOn::Epoll(ep), mask: 0, exclusive: true, end: End::Front };
    Run::Block(Op::EpollWait { file, ep, max }, block, deadline)
}
