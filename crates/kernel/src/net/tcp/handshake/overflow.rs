//! Which queue of which listener overflowed, at what limit, and which clients came too late: what the counters do not tell.
//! Not part of Linux; kept for the end account and bounded.
use crate::env::Nanos;
use crate::net::drop::DropReason;
use crate::net::tcp::sock::TcpSock;
use crate::net::tcp::tables::Tuple;
use core::net::IpAddr;

/// Listeners remembered.
const MOST: usize = 32;

/// What one queue of one listener had no room for.
#[derive(Clone, Debug)]
pub struct Overflow {
    pub addr: IpAddr,
    pub port: u16,
    /// TCP_LISTEN_OVERFLOW: the accept queue; TCP_REQQ_FULL: the SYN queue.
    pub reason: DropReason,
    /// Limit that struck last: of the accept queue, and of the requests as well, `backlog` or somaxconn if that was less when
    /// the program called listen(), and one more is admitted; or three quarters of tcp_max_syn_backlog.
    pub limit: u32,
    /// What listen() asked for.
    pub backlog: u32,
    /// tcp_max_syn_backlog struck.
    pub by_syn_backlog: bool,
    pub count: u64,
    /// Of these SYNs, how many were answered with a cookie; the others were dropped.
    pub cookies: u64,
    pub first_client: (IpAddr, u16),
    pub last_client: (IpAddr, u16),
    pub first_at: Nanos,
    pub last_at: Nanos,
}

/// A SYN that found a queue full.
#[derive(Clone, Copy, Debug)]
pub struct Turned {
    pub reason: DropReason,
    pub cookie: bool,
    pub max_syn_backlog: u32,
}

/// Adds one to the list; a listener beyond the bound is not remembered.
pub fn note(list: &mut Vec<Overflow>, sk: &TcpSock, t: &Tuple, what: Turned, now: Nanos) {
    let Some(l) = &sk.listener else { return };
    let (addr, port, client, reason) = (sk.sk.rcv_saddr, t.lport, (t.raddr, t.rport), what.reason);
    let by_syn_backlog = reason == DropReason::TcpReqQFull && !l.requests_full();
    let limit = if by_syn_backlog { what.max_syn_backlog - (what.max_syn_backlog >> 2) } else { l.max_ack_backlog };
    let (backlog, cookie) = (l.backlog, u64::from(what.cookie));
    if let Some(o) = list.iter_mut().find(|o| (o.addr, o.port, o.reason) == (addr, port, reason)) {
        (o.count, o.cookies) = (o.count + 1, o.cookies + cookie);
        (o.last_client, o.last_at, o.limit, o.backlog, o.by_syn_backlog) =
            (client, now, limit, backlog, by_syn_backlog);
    } else if list.len() < MOST {
        let (first_client, first_at) = (client, now);
        list.push(Overflow {
            addr,
            port,
            reason,
            limit,
            backlog,
            by_syn_backlog,
            count: 1,
            cookies: cookie,
            first_client,
            last_client: client,
            first_at,
            last_at: now,
        });
    }
}
