//! What all TCP sockets of the machine hold together, in pages, and what happens when it is too much (tcp_mem).
//!
//! A socket's share is its queues by Linux's truesize, rounded up to pages. It is settled at the end of whatever was
//! done to the socket: a segment, a timer, a call.
use super::inc;
use super::sock::TcpSock;
use crate::ids::TcpId;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::mib::Mib;

pub const PAGE: u64 = 4096;

/// Pages for what a socket holds.
pub fn pages(sk: &TcpSock) -> u32 {
    (u64::from(sk.sk.rmem_alloc) + u64::from(sk.sk.wmem_queued)).div_ceil(PAGE) as u32
}

/// What is left of the last page that it was given.
#[doc(alias = "sk_forward_alloc")]
pub fn forward_alloc(sk: &TcpSock) -> u32 {
    (sk.mem_pages * PAGE as u32).saturating_sub(sk.sk.rmem_alloc.saturating_add(sk.sk.wmem_queued))
}

fn allocated(net: &Net) -> u64 {
    net.usage.tcp_bytes / PAGE
}

/// Brings the machine's sum in line with what the socket holds now.
#[inline]
pub fn settle(sk: &mut TcpSock, net: &mut Net) {
    let (old, new) = (sk.mem_pages, pages(sk));
    if old != new {
        sk.mem_pages = new;
        net.usage.tcp_bytes = (net.usage.tcp_bytes + u64::from(new) * PAGE).saturating_sub(u64::from(old) * PAGE);
        watch(sk, net);
    }
}

impl Kernel {
    pub(crate) fn tcp_settle(&mut self, id: TcpId) {
        if let Some(sk) = self.socks.tcp.get_mut(id) {
            settle(sk, &mut self.net);
        }
    }
}

/// Pressure begins above the second value of tcp_mem and ends at the first.
#[doc(alias = "tcp_enter_memory_pressure")]
fn watch(sk: &TcpSock, net: &mut Net) {
    let [low, pressure, _] = net.sysctl.tcp_mem;
    let now = allocated(net);
    if net.usage.tcp_pressure_since == 0 {
        if now > pressure {
            net.usage.tcp_pressure_since = net.env.now.max(1);
            inc(net, sk, Mib::TcpExtTCPMemoryPressures);
        }
    } else if now <= low {
        let ms = (net.env.now - net.usage.tcp_pressure_since) / crate::env::MSEC;
        net.usage.tcp_pressure_since = 0;
        net.add(sk.sk.ns, Mib::TcpExtTCPMemoryPressuresChrono, ms);
    }
}

#[doc(alias = "tcp_under_memory_pressure")]
pub fn under_pressure(net: &Net) -> bool {
    net.usage.tcp_pressure_since != 0
}

/// Less than the first value: buffers may grow.
pub fn plenty(net: &Net) -> bool {
    !under_pressure(net) && allocated(net) < net.sysctl.tcp_mem[0]
}

/// Beyond the third value there is nothing for anybody but the least that each may have.
fn over_limit(net: &Net, size: u32) -> bool {
    allocated(net) + u64::from(size).div_ceil(PAGE) > net.sysctl.tcp_mem[2] || net.mem.is_short()
}

/// May `size` bytes be queued for reading?
#[doc(alias = "sk_rmem_schedule")]
pub fn may_receive(sk: &TcpSock, net: &Net, size: u32) -> bool {
    let least = super::sysctl(net, sk).map_or(0, |s| s.tcp_rmem[0]);
    !over_limit(net, size) || u64::from(sk.sk.rmem_alloc) < least
}

/// May a new piece be queued for sending? Otherwise the buffer is cut to half of what is queued, and the writer waits.
#[doc(alias = "sk_wmem_schedule")]
#[doc(alias = "sk_stream_moderate_sndbuf")]
pub fn may_send(sk: &mut TcpSock, net: &Net, size: u32) -> bool {
    let least = super::sysctl(net, sk).map_or(0, |s| s.tcp_wmem[0]);
    if !over_limit(net, size) || u64::from(sk.sk.wmem_queued) < least {
        return true;
    }
    if sk.sk.userlocks & crate::net::core::sock::SOCK_SNDBUF_LOCK == 0 {
        let half = (sk.sk.wmem_queued >> 1).max(crate::net::core::sockopt::SOCK_MIN_SNDBUF);
        sk.sk.sndbuf = sk.sk.sndbuf.min(half);
    }
    false
}

/// Orphans are reset rather than kept when there is more than the third value.
pub fn out_of_memory(net: &Net) -> bool {
    allocated(net) > net.sysctl.tcp_mem[2]
}
