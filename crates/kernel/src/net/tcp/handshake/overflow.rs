//! Which queue of which listener overflowed, at what limit, and which client was turned away: what the counters do not tell.
//! Not part of Linux; kept for the end account and bounded.
use crate::env::Nanos;
use crate::net::drop::DropReason;
use crate::net::tcp::sock::TcpSock;
use crate::net::tcp::tables::Tuple;
use core::net::IpAddr;

/// Listeners remembered.
const MOST: usize = 32;

/// The drops of one queue of one listener.
#[derive(Clone, Debug)]
pub struct Overflow {
    pub addr: IpAddr,
    pub port: u16,
    /// TCP_LISTEN_OVERFLOW: the accept queue; TCP_REQQ_FULL: the SYN queue.
    pub reason: DropReason,
    /// Limit of the accept queue (backlog after somaxconn); one more is admitted.
    pub limit: u32,
    pub count: u64,
    pub first_client: (IpAddr, u16),
    pub last_client: (IpAddr, u16),
    pub first_at: Nanos,
    pub last_at: Nanos,
}

/// Adds a drop to the list; a listener beyond the bound is not remembered.
pub fn note(list: &mut Vec<Overflow>, sk: &TcpSock, t: &Tuple, reason: DropReason, now: Nanos) {
    let (addr, port, client) = (sk.sk.rcv_saddr, t.lport, (t.raddr, t.rport));
    let limit = sk.listener.as_ref().map_or(0, |l| l.max_ack_backlog);
    if let Some(o) = list.iter_mut().find(|o| (o.addr, o.port, o.reason) == (addr, port, reason)) {
        (o.count, o.last_client, o.last_at, o.limit) = (o.count + 1, client, now, limit);
    } else if list.len() < MOST {
        let (first_client, first_at) = (client, now);
        list.push(Overflow {
            addr,
            port,
            reason,
            limit,
            count: 1,
            first_client,
            last_client: client,
            first_at,
            last_at: now,
        });
    }
}
