//! Readiness of a TCP socket (Linux: `tcp_poll`).
use super::sock::*;
use super::state::State;
use super::urgent;
use crate::net::Net;
use crate::net::core::errqueue;
use crate::net::core::sock::{RCV_SHUTDOWN, SEND_SHUTDOWN, SHUTDOWN_MASK};
use crate::task::wait::PollMask;
use belljar_abi::{POLLERR, POLLHUP, POLLIN, POLLOUT, POLLPRI, POLLRDHUP, POLLRDNORM, POLLWRNORM};

/// The current poll mask. Notes that a poller found no room, so that it is told of some.
pub fn tcp_poll(sk: &mut TcpSock, net: &Net) -> PollMask {
    if sk.state == State::Listen {
        let waiting = sk.listener.as_ref().is_some_and(|l| !l.accept.is_empty());
        return if waiting { POLLIN | POLLRDNORM } else { 0 };
    }
    let mut mask = 0;
    let shutdown = sk.sk.shutdown;
    if shutdown == SHUTDOWN_MASK || sk.state == State::Close {
        mask |= POLLHUP;
    }
    if shutdown & RCV_SHUTDOWN != 0 {
        mask |= POLLIN | POLLRDNORM | POLLRDHUP;
    }
    if sk.state == State::SynSent && sk.tfo.as_ref().is_some_and(|t| t.defer_connect) {
        // The first write sends the SYN.
        mask |= POLLOUT | POLLWRNORM;
    }
    let opening = sk.state == State::SynSent || sk.state == State::SynRecv && sk.fastopen_rsk().is_none();
    if !opening {
        let readable = sk.readable();
        // The urgent byte is not part of what can be read.
        let hole = u32::from(sk.urg().is_some() && urgent::at_mark(sk) && !sk.sk.flags.oobinline);
        if readable > hole && (readable >= sk.sk.rcvlowat().saturating_add(hole) || shutdown & RCV_SHUTDOWN != 0) {
            mask |= POLLIN | POLLRDNORM;
        }
        if shutdown & SEND_SHUTDOWN != 0 || is_writeable(sk, net) {
            mask |= POLLOUT | POLLWRNORM;
        } else {
            sk.snd.nospace = true;
        }
        if urgent::is_valid(sk) {
            mask |= POLLPRI;
        }
    }
    if sk.sk.err != 0 || !errqueue::is_empty(&sk.sk) {
        mask |= POLLERR;
    }
    mask
}

/// A write may queue at least one more piece (`sk_stream_memory_free`).
pub fn memory_free(sk: &TcpSock, net: &Net) -> bool {
    sk.sk.wmem_queued < sk.sk.sndbuf && unsent(sk) < u64::from(notsent_lowat(sk, net))
}

/// A third of the buffer is free, and less than half of TCP_NOTSENT_LOWAT is unsent (`sk_stream_is_writeable`).
pub fn is_writeable(sk: &TcpSock, net: &Net) -> bool {
    let used = sk.sk.wmem_queued;
    let space = sk.sk.sndbuf.saturating_sub(used);
    space >= used >> 1 && unsent(sk) << 1 < u64::from(notsent_lowat(sk, net))
}

fn unsent(sk: &TcpSock) -> u64 {
    u64::from(sk.snd.write_seq.wrapping_sub(sk.snd.nxt))
}

fn notsent_lowat(sk: &TcpSock, net: &Net) -> u32 {
    match sk.tune.as_ref().map_or(0, |t| t.notsent_lowat) {
        0 => super::setting(net, sk, |s| s.tcp_notsent_lowat),
        own => own,
    }
}
