//! SOL_TCP: options of TCP sockets. Each works or is refused; ULPs, AO signatures, TX_DELAY
//! and repair are refused as by a kernel built without them, or without the right to them.
use super::cong::Cong;
use super::handshake::fastopen;
use super::input::window;
use super::output::{self, ack};
use super::sock::*;
use super::state::State;
use super::{info, md5sig, setting, timer, wake};
use crate::env::{SEC, USEC};
use crate::ids::TcpId;
use crate::net::Net;
use crate::net::core::dst_metrics;
use crate::net::sysctl::CongName;
use belljar_abi::rtnetlink::RTAX_CC_ALGO;
use belljar_abi::*;

const MAX_TCP_KEEPIDLE: i32 = 32_767;
const MAX_TCP_KEEPINTVL: i32 = 32_767;
const MAX_TCP_KEEPCNT: i32 = 127;
const MAX_TCP_SYNCNT: i32 = 127;
const MAX_TCP_WINDOW: i32 = 32_767;
/// Longest TCP_LINGER2, seconds.
const TCP_FIN_TIMEOUT_MAX: i32 = 120;
const TCP_RTO_MAX_MS_LIMIT: i32 = 120_000;
const TCP_RTO_MIN_US_LIMIT: u64 = 200_000;
const TCP_CA_NAME_MAX: usize = 16;
/// Seconds: first SYN-ACK timeout, and the longest.
const TIMEOUT_INIT: u32 = 1;
const RTO_MAX: u32 = 120;

/// Seconds as a number of SYN-ACK timeouts that last at least that long (`secs_to_retrans`).
fn secs_to_retrans(seconds: u32) -> u8 {
    if seconds == 0 {
        return 0;
    }
    let (mut n, mut timeout, mut period) = (1u8, TIMEOUT_INIT, TIMEOUT_INIT);
    while seconds > period && n < 255 {
        n += 1;
        timeout = (timeout << 1).min(RTO_MAX);
        period += timeout;
    }
    n
}

/// And back: what `n` timeouts last (`retrans_to_secs`).
fn retrans_to_secs(n: u8) -> u32 {
    (0..u32::from(n)).map(|i| (TIMEOUT_INIT << i.min(7)).min(RTO_MAX)).sum()
}

/// A time in microseconds as the wheel counts it: whole ticks, at least two, at most `most`.
fn ticks_us(val: i32, most_us: u64, hz: u32) -> Result<u32, Errno> {
    let tick_us = 1_000_000 / u64::from(hz.max(1));
    let us = u64::try_from(val).map_err(|_| Errno::EINVAL)?.div_ceil(tick_us) * tick_us;
    if (2 * tick_us..=most_us).contains(&us) { Ok(us as u32) } else { Err(Errno::EINVAL) }
}

#[doc(alias = "do_tcp_setsockopt")]
pub fn tcp_setsockopt(
    sk: &mut TcpSock,
    net: &mut Net,
    id: TcpId,
    name: i32,
    value: &[u8],
    net_admin: bool,
) -> Result<(), Errno> {
    match name {
        TCP_CONGESTION => return set_congestion(sk, net, value, net_admin),
        TCP_FASTOPEN_KEY => return fastopen::set_keys(sk, value),
        TCP_MD5SIG | TCP_MD5SIG_EXT => return md5sig::set_key(sk, name == TCP_MD5SIG_EXT, value),
        // No upper-layer protocol is known.
        TCP_ULP if value.is_empty() => return Err(Errno::EINVAL),
        TCP_ULP => return Err(Errno::ENOENT),
        _ => {}
    }
    let val = value.first_chunk().map(|b| i32::from_ne_bytes(*b)).ok_or(Errno::EINVAL)?;
    let within = |lo: i32, hi: i32| if (lo..=hi).contains(&val) { Ok(()) } else { Err(Errno::EINVAL) };
    let on = val != 0;
    match name {
        TCP_NODELAY => {
            sk.flags.nodelay = on;
            if on {
                push(sk, net, id);
            }
        }
        TCP_CORK => {
            sk.flags.cork = on;
            if !on {
                push(sk, net, id);
            }
        }
        TCP_MAXSEG => {
            if val != 0 {
                within(i32::from(TCP_MIN_MSS), MAX_TCP_WINDOW)?;
            }
            sk.snd.user_mss = val as u16;
        }
        TCP_KEEPIDLE => {
            within(1, MAX_TCP_KEEPIDLE)?;
            sk.tune().keepalive_time_s = val as u32;
            restart_keepalive(sk, net, id);
        }
        TCP_KEEPINTVL => {
            within(1, MAX_TCP_KEEPINTVL)?;
            sk.tune().keepalive_intvl_s = val as u32;
        }
        TCP_KEEPCNT => {
            within(1, MAX_TCP_KEEPCNT)?;
            sk.tune().keepalive_probes = val as u8;
        }
        TCP_SYNCNT => {
            within(1, MAX_TCP_SYNCNT)?;
            sk.tune().syn_retries = val as u8;
        }
        TCP_LINGER2 => sk.tune().linger2 = if val < 0 { -1 } else { val.min(TCP_FIN_TIMEOUT_MAX) },
        TCP_DEFER_ACCEPT => {
            let n = secs_to_retrans(val.max(0) as u32);
            sk.tune().defer_accept = n;
            if let Some(l) = &mut sk.listener {
                l.defer_accept = n;
            }
        }
        TCP_WINDOW_CLAMP => set_window_clamp(sk, val)?,
        TCP_QUICKACK => set_quickack(sk, net, id, val),
        TCP_USER_TIMEOUT => {
            within(0, i32::MAX)?;
            sk.sk.cold().user_timeout_ms = val as u32;
        }
        TCP_NOTSENT_LOWAT => {
            sk.tune().notsent_lowat = val as u32;
            wake(net, sk, id, POLLOUT | POLLWRNORM);
        }
        TCP_INQ => {
            within(0, 1)?;
            sk.flags.inq = on;
        }
        TCP_RTO_MAX_MS => {
            within(1000, TCP_RTO_MAX_MS_LIMIT)?;
            sk.tune().rto_max_ms = val as u32;
        }
        TCP_RTO_MIN_US => sk.tune().rto_min_us = ticks_us(val, TCP_RTO_MIN_US_LIMIT, net.env.hz)?,
        TCP_DELACK_MAX_US => sk.tune().delack_max_us = ticks_us(val, u64::from(TCP_DELACK_MAX_MS) * 1000, net.env.hz)?,
        // Linux takes it and does nothing since 4.x.
        TCP_THIN_DUPACK => within(0, 1)?,
        TCP_THIN_LINEAR_TIMEOUTS => {
            within(0, 1)?;
            sk.tune().thin_lto = on;
        }
        TCP_FASTOPEN_CONNECT => {
            within(0, 1)?;
            if setting(net, sk, |s| s.tcp_fastopen as u32) & fastopen::TFO_CLIENT_ENABLE == 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            if sk.state != State::Close {
                return Err(Errno::EINVAL);
            }
            sk.tfo().connect = on;
        }
        TCP_FASTOPEN_NO_COOKIE => {
            within(0, 1)?;
            if !matches!(sk.state, State::Close | State::Listen) {
                return Err(Errno::EINVAL);
            }
            sk.tfo().no_cookie = on;
        }
        TCP_SAVE_SYN => {
            within(0, 2)?;
            if on || sk.rare.is_some() {
                sk.rare().save_syn = val as u8;
            }
        }
        TCP_TX_DELAY => refuse_unless_off(val, within(0, i32::MAX))?,
        TCP_FASTOPEN => {
            within(0, i32::MAX)?;
            if !matches!(sk.state, State::Close | State::Listen) {
                return Err(Errno::EINVAL);
            }
            fastopen::queue_tune(sk, net, val);
        }
        TCP_REPAIR | TCP_REPAIR_QUEUE | TCP_TIMESTAMP | TCP_REPAIR_WINDOW => return Err(Errno::EPERM),
        TCP_QUEUE_SEQ if sk.state != State::Close => return Err(Errno::EPERM),
        TCP_QUEUE_SEQ | TCP_REPAIR_OPTIONS => return Err(Errno::EINVAL),
        _ => return Err(Errno::ENOPROTOOPT),
    }
    Ok(())
}

/// Off is what these are; on is what this kernel has not.
fn refuse_unless_off(val: i32, range: Result<(), Errno>) -> Result<(), Errno> {
    range?;
    if val == 0 { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

fn push(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    if !matches!(sk.state, State::Close | State::Listen | State::SynSent | State::SynRecv) {
        timer::push_held(sk, net, id);
    }
}

/// By name, up to 15 bytes of it: the default, what tcp_allowed_congestion_control lists, or anything with
/// CAP_NET_ADMIN.
#[doc(alias = "tcp_set_congestion_control")]
fn set_congestion(sk: &mut TcpSock, net: &mut Net, value: &[u8], net_admin: bool) -> Result<(), Errno> {
    if value.is_empty() {
        return Err(Errno::EINVAL);
    }
    if dst_metrics::of(net, sk.sk.ns, sk.dst.as_ref()).is_some_and(|m| m.locked(RTAX_CC_ALGO)) {
        return Err(Errno::EPERM);
    }
    let name = value.get(..TCP_CA_NAME_MAX - 1).unwrap_or(value).split(|b| *b == 0).next().unwrap_or_default();
    let name = std::str::from_utf8(name).ok().and_then(CongName::parse).ok_or(Errno::ENOENT)?;
    if name == sk.cong.name() {
        return Ok(());
    }
    let allowed = super::sysctl(net, sk)
        .is_some_and(|s| s.tcp_allowed_congestion_control.contains(name) || s.tcp_congestion_control == name);
    if !allowed && !net_admin {
        return Err(Errno::EPERM);
    }
    match sk.state {
        State::Close | State::Listen => sk.cong = Cong::new(name),
        _ => {
            sk.cong.set_algo(name);
            super::pacing::init(sk, net);
        }
    }
    Ok(())
}

/// A new idle time counts from when the peer was last heard.
#[doc(alias = "tcp_sock_set_keepidle_locked")]
fn restart_keepalive(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    if !sk.sk.flags.keepalive || matches!(sk.state, State::Close | State::Listen) {
        return;
    }
    let heard = sk.rcv.ack.last_us.max(sk.rcv.ack.heard_us);
    let idle = net.env.now_us().saturating_sub(heard) * USEC;
    let whole = u64::from(timer::keepalive_time(sk, net)) * SEC;
    timer::reset_keepalive(sk, net, id, whole.saturating_sub(idle));
}

#[doc(alias = "tcp_set_window_clamp")]
fn set_window_clamp(sk: &mut TcpSock, val: i32) -> Result<(), Errno> {
    if val == 0 {
        if sk.state != State::Close {
            return Err(Errno::EINVAL);
        }
        (sk.tune().window_clamp, sk.rcv.window_clamp) = (0, 0);
        return Ok(());
    }
    window::set_window_clamp(sk, val.max(0) as u32);
    sk.tune().window_clamp = sk.rcv.window_clamp;
    Ok(())
}

/// 1: leave interactive mode, and acknowledge at once what is due. 0: enter it. An even value does both.
#[doc(alias = "__tcp_sock_set_quickack")]
fn set_quickack(sk: &mut TcpSock, net: &mut Net, id: TcpId, val: i32) {
    let interactive = setting(net, sk, |s| s.tcp_pingpong_thresh).clamp(1, 255) as u8;
    sk.flags.quickack_off = val & 1 == 0;
    if val == 0 {
        sk.rcv.ack.pingpong = interactive;
        return;
    }
    sk.rcv.ack.pingpong = 0;
    if sk.state.is(&[State::Established, State::CloseWait]) && sk.rcv.ack.pending & ICSK_ACK_SCHED != 0 {
        sk.rcv.ack.pending |= ICSK_ACK_PUSHED;
        ack::cleanup_rbuf(sk, net, id, 1);
        if val & 1 == 0 {
            sk.rcv.ack.pingpong = interactive;
        }
    }
}

/// The whole value; the caller cuts it to the room there is.
#[doc(alias = "do_tcp_getsockopt")]
pub fn tcp_getsockopt(sk: &mut TcpSock, net: &Net, name: i32, len: usize) -> Result<Vec<u8>, Errno> {
    let tune = sk.tune.as_deref();
    let own = |v: Option<u32>, default: u32| v.filter(|v| *v != 0).unwrap_or(default);
    let val = match name {
        TCP_NODELAY => sk.flags.nodelay.into(),
        TCP_CORK => sk.flags.cork.into(),
        TCP_MAXSEG if sk.snd.user_mss != 0 && matches!(sk.state, State::Close | State::Listen) => {
            sk.snd.user_mss.into()
        }
        TCP_MAXSEG => sk.snd.mss_cache.into(),
        TCP_KEEPIDLE => timer::keepalive_time(sk, net),
        TCP_KEEPINTVL => timer::keepalive_intvl(sk, net),
        TCP_KEEPCNT => timer::keepalive_probes(sk, net),
        TCP_SYNCNT => own(tune.map(|t| t.syn_retries.into()), setting(net, sk, |s| s.tcp_syn_retries)),
        TCP_LINGER2 => match tune.map_or(0, |t| t.linger2) {
            0 => setting(net, sk, |s| s.tcp_fin_timeout.0 as u32),
            n => n as u32,
        },
        TCP_DEFER_ACCEPT => retrans_to_secs(tune.map_or(0, |t| t.defer_accept)),
        TCP_WINDOW_CLAMP => sk.rcv.window_clamp,
        TCP_QUICKACK => u32::from(!output::ack::in_pingpong_mode(sk, net)),
        TCP_USER_TIMEOUT => sk.sk.cold.as_ref().map_or(0, |c| c.user_timeout_ms),
        TCP_NOTSENT_LOWAT => tune.map_or(0, |t| t.notsent_lowat),
        TCP_INQ => sk.flags.inq.into(),
        TCP_RTO_MAX_MS => super::bounds(net, sk).max_us / 1000,
        TCP_RTO_MIN_US => super::bounds(net, sk).min_us,
        TCP_DELACK_MAX_US => own(tune.map(|t| t.delack_max_us), TCP_DELACK_MAX_MS * 1000),
        TCP_TIMESTAMP => net.env.now_ms().wrapping_add(sk.tsoffset),
        TCP_THIN_LINEAR_TIMEOUTS => tune.is_some_and(|t| t.thin_lto).into(),
        TCP_THIN_DUPACK | TCP_REPAIR | TCP_TX_DELAY | TCP_IS_MPTCP => 0,
        TCP_SAVE_SYN => sk.rare.as_ref().map_or(0, |r| r.save_syn.into()),
        // Told once.
        TCP_SAVED_SYN => {
            let Some(kept) = sk.rare.as_mut().map(|r| &mut r.saved_syn) else { return Ok(Vec::new()) };
            if kept.as_ref().is_some_and(|s| s.len() > len) {
                return Err(Errno::EINVAL);
            }
            return Ok(kept.take().unwrap_or_default().into());
        }
        TCP_FASTOPEN => sk.tfo.as_ref().map_or(0, |t| t.max_qlen),
        TCP_FASTOPEN_CONNECT => sk.tfo.as_ref().is_some_and(|t| t.connect).into(),
        TCP_FASTOPEN_NO_COOKIE => sk.tfo.as_ref().is_some_and(|t| t.no_cookie).into(),
        TCP_FASTOPEN_KEY => return Ok(fastopen::get_keys(sk, net)),
        TCP_REPAIR_QUEUE | TCP_QUEUE_SEQ => return Err(Errno::EINVAL),
        TCP_REPAIR_WINDOW => return Err(Errno::EPERM),
        TCP_INFO => return Ok(info::tcp_info(sk, net).to_bytes().to_vec()),
        TCP_CONGESTION => {
            let mut name = sk.cong.name().name().as_bytes().to_vec();
            name.resize(TCP_CA_NAME_MAX, 0);
            return Ok(name);
        }
        TCP_CC_INFO => return Ok(info::cc_info(sk)),
        // There is no upper-layer protocol.
        TCP_ULP => return Ok(Vec::new()),
        _ => return Err(Errno::ENOPROTOOPT),
    };
    Ok(val.to_ne_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defer_accept_is_kept_as_timeouts() {
        let told = |s| retrans_to_secs(secs_to_retrans(s));
        assert_eq!([0, 1, 2, 3, 4, 10, 30, 31].map(told), [0, 1, 3, 3, 7, 15, 31, 31]);
        assert_eq!(secs_to_retrans(u32::MAX), 255);
        assert_eq!(told(130), 247);
    }

    #[test]
    fn times_are_whole_ticks_within_limits() {
        assert_eq!(ticks_us(200_000, 200_000, 250), Ok(200_000));
        assert_eq!(ticks_us(9_000, 200_000, 250), Ok(12_000));
        assert_eq!(ticks_us(200_001, 200_000, 250), Err(Errno::EINVAL));
        assert_eq!(ticks_us(4_000, 200_000, 250), Err(Errno::EINVAL));
        assert_eq!(ticks_us(-1, 200_000, 250), Err(Errno::EINVAL));
    }
}
