//! TCP, cut by what wakes it up (a segment, a SYN, a write, a timer), then by algorithm.
//!
//! `sock.rs` is data and constructors only; behaviour takes `&mut TcpSock` beside `&mut Net`.
pub mod abort;
pub mod account;
pub mod bhash;
pub mod bind;
pub mod close;
pub mod cong;
pub mod connect;
pub mod handshake;
pub mod info;
pub mod input;
pub mod ipv4;
pub mod md5sig;
pub mod mem;
pub mod metrics;
pub mod mtup;
pub mod ooo;
pub mod output;
pub mod pacing;
pub mod poll;
pub mod rate;
pub mod recvmsg;
pub mod rtt;
pub mod sendmsg;
pub mod seq;
pub mod sock;
pub mod sockopt;
pub mod state;
pub mod tables;
pub mod timer;
pub mod track;
pub mod tx_seg;
pub mod urgent;
pub mod zerocopy;

use self::rtt::Bounds;
use self::sock::{TcpSock, WriteTimer};
use self::state::State;
use crate::env::{Event, Rise, TimerKey, time};
use crate::ids::{SockId, TcpId};
use crate::net::Net;
use crate::net::core::dst_metrics;
use crate::net::core::sock::SOCK_BINDPORT_LOCK;
use crate::net::mib::Mib;
use crate::net::sysctl::Sysctl;
use crate::task::wait::PollMask;
use belljar_abi::rtnetlink::RTAX_RTO_MIN;

/// The settings of the socket's namespace.
pub(crate) fn sysctl<'a>(net: &'a Net, sk: &TcpSock) -> Option<&'a Sysctl> {
    net.ns.get(sk.sk.ns).map(|ns| &ns.sysctl)
}

/// One setting, or its default when the namespace is gone.
pub(crate) fn setting(net: &Net, sk: &TcpSock, of: impl Fn(&Sysctl) -> u32) -> u32 {
    sysctl(net, sk).map_or(0, of)
}

#[inline]
pub(crate) fn bounds(net: &Net, sk: &TcpSock) -> Bounds {
    match sysctl(net, sk) {
        Some(s) if sk.tune.is_none() && sk.dst.is_none_or(|d| d.metrics.is_none()) => Bounds::of(None, s),
        s => own_bounds(net, sk, s),
    }
}

#[cold]
fn own_bounds(net: &Net, sk: &TcpSock, s: Option<&Sysctl>) -> Bounds {
    let Some(s) = s else { return Bounds { min_us: 200_000, max_us: 120_000_000 } };
    let own = Bounds::of(sk.tune.as_deref(), s);
    match dst_metrics::of(net, sk.sk.ns, sk.dst.as_ref()).filter(|m| m.locked(RTAX_RTO_MIN)) {
        Some(m) => Bounds { min_us: m.get(RTAX_RTO_MIN).saturating_mul(1000), ..own },
        None => own,
    }
}

pub(crate) fn inc(net: &mut Net, sk: &TcpSock, c: Mib) {
    net.inc(sk.sk.ns, c);
}

/// Wakes whoever waits for one of `mask`; nothing when nobody does.
pub(crate) fn wake(net: &mut Net, sk: &TcpSock, id: TcpId, mask: PollMask) {
    if !sk.sk.wait.is_empty() {
        net.env.rises.push_back(Rise::Wake { sock: SockId::Tcp(id), mask });
    }
}

/// The one place where the state changes; keeps CurrEstab.
#[doc(alias = "tcp_set_state")]
pub(crate) fn set_state(net: &mut Net, sk: &mut TcpSock, id: TcpId, to: State) {
    let old = std::mem::replace(&mut sk.state, to);
    debug_assert!(state::possible(old, to), "{} cannot become {}", old.name(), to.name());
    let counted = |s: State| matches!(s, State::Established | State::CloseWait);
    if let Some(ns) = net.ns.get_mut(sk.sk.ns) {
        match (counted(old), counted(to)) {
            (false, true) => ns.mib.inc(Mib::TcpCurrEstab),
            (true, false) => {
                if matches!(to, State::Close) && matches!(old, State::CloseWait | State::Established) {
                    ns.mib.inc(Mib::TcpEstabResets);
                }
                ns.mib.dec(Mib::TcpCurrEstab);
            }
            _ => {}
        }
    }
    // A port that the program did not name is free as soon as the connection is over.
    if to == State::Close && sk.sk.userlocks & SOCK_BINDPORT_LOCK == 0 {
        tables::put_port(net, sk, id);
    }
    if net.env.trace.wanted.sockets {
        let event = Event::State { sock: SockId::Tcp(id), old: old.name(), new: to.name() };
        net.env.trace.push(net.env.now, Some(sk.sk.ns), event);
    }
}

/// Arms the one write timer for `kind`, `us` from now, at most the socket's RTO maximum.
#[doc(alias = "inet_csk_reset_xmit_timer")]
pub(crate) fn reset_write_timer(net: &mut Net, sk: &mut TcpSock, id: TcpId, kind: WriteTimer, us: u32) {
    let us = us.min(bounds(net, sk).max_us);
    let at = net.env.round_up(net.env.now + u64::from(us) * time::USEC);
    sk.write_timer_kind = kind;
    net.env.timers.arm(&mut sk.write_timer, at, TimerKey::TcpWrite(id));
}

pub(crate) fn clear_write_timer(sk: &mut TcpSock) {
    sk.write_timer_kind = WriteTimer::None;
    sk.write_timer.cancel();
}
