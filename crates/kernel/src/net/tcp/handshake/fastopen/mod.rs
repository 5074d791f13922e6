//! TCP Fast Open (RFC 7413; Linux: `tcp_fastopen.c`): cookies and the keys they are made with; `client` sends data with its
//! SYN, `server` hands over a connection before its handshake is complete.
pub mod client;
pub mod server;

use crate::env::{Nanos, SEC};
use crate::ids::TcpId;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::mib::Mib;
use crate::net::netns::NetNs;
use crate::net::sysctl::FastOpenKeys;
use crate::net::tcp::handshake::request::RequestSock;
use crate::net::tcp::sock::*;
use crate::net::tcp::state::State;
use belljar_abi::Errno;
use belljar_wire::tcp::FastOpenCookie;
use core::hash::Hasher;
use core::net::IpAddr;
use siphasher::sip::SipHasher24;

/// Fast Open (RFC 7413) on one socket.
#[derive(Clone, Debug, Default)]
pub struct Tfo {
    /// TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_NO_COOKIE, TCP_FASTOPEN_KEY and TCP_FASTOPEN (limit of a listener).
    pub connect: bool,
    pub no_cookie: bool,
    pub keys: Option<FastOpenKeys>,
    pub max_qlen: u32,
    /// connect() was told that it succeeded; the SYN goes with the first write.
    pub defer_connect: bool,
    /// A send or connect with Fast Open is under way.
    pub request: Option<FastOpenRequest>,
    /// The SYN had the option (in its experimental form), data; the peer took the data.
    pub syn_fastopen: bool,
    pub syn_fastopen_exp: bool,
    pub syn_data: bool,
    pub syn_data_acked: bool,
    /// Fast Open was paused before: its success says that the path is good again.
    pub syn_fastopen_ch: bool,
    /// `TFO_*`: why data did not go with the SYN.
    pub client_fail: u8,
    /// See [`TcpSock::fastopen_rsk`].
    pub rsk: Option<Box<RequestSock>>,
}

/// `struct tcp_fastopen_request`.
#[derive(Clone, Copy, Debug, Default)]
pub struct FastOpenRequest {
    /// For the SYN: `None` leaves the option out.
    pub cookie: Option<FastOpenCookie>,
    /// A send began it, not connect().
    pub sending: bool,
    /// Bytes that went with the SYN, and whether more wait to be written.
    pub copied: u32,
    pub more: bool,
}

pub const TFO_COOKIE_UNAVAILABLE: u8 = 1;
pub const TFO_DATA_NOT_ACKED: u8 = 2;
pub const TFO_SYN_RETRANSMITTED: u8 = 3;

/// Bits of tcp_fastopen.
pub const TFO_CLIENT_ENABLE: u32 = 1;
pub const TFO_SERVER_ENABLE: u32 = 2;
pub const TFO_CLIENT_NO_COOKIE: u32 = 4;
pub const TFO_SERVER_COOKIE_NOT_REQD: u32 = 0x200;
/// Every listener takes part, without TCP_FASTOPEN.
pub const TFO_SERVER_WO_SOCKOPT1: u32 = 0x400;
/// Cookies that we give out: eight bytes.
const COOKIE_LEN: usize = 8;
/// A RST after accept counts against the limit of the listener for so long (against spoofed SYNs).
const RST_PENALTY: Nanos = 60 * SEC;

/// The cookie of a pair of addresses under a key: SipHash-2-4 of both, as they stand in the IP header.
#[doc(alias = "__tcp_fastopen_cookie_gen_cipher")]
fn cookie(key: [u32; 4], client: IpAddr, server: IpAddr, exp: bool) -> Option<FastOpenCookie> {
    let half = |lo: u32, hi: u32| u64::from(hi) << 32 | u64::from(lo);
    let mut h = SipHasher24::new_with_keys(half(key[0], key[1]), half(key[2], key[3]));
    for addr in [client, server] {
        match addr {
            IpAddr::V4(a) => h.write(&a.octets()),
            IpAddr::V6(a) => h.write(&a.octets()),
        }
    }
    FastOpenCookie::parse(h.finish().to_le_bytes().first_chunk::<COOKIE_LEN>()?, exp)
}

/// The socket's own keys, else the namespace's, else some that nobody was told.
fn keys(tfo: Option<&Tfo>, n: &NetNs) -> FastOpenKeys {
    let mut keys = tfo.and_then(|t| t.keys).unwrap_or(n.sysctl.tcp_fastopen_key);
    let [a, b] = n.secret.map(|s| s.rotate_left(17));
    keys.primary.get_or_insert([a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32]);
    keys
}

/// TCP_FASTOPEN_KEY: one key of 16 bytes, or two.
pub fn set_keys(sk: &mut TcpSock, value: &[u8]) -> Result<(), Errno> {
    let key = |b: &[u8]| {
        let mut words = [0; 4];
        for (w, b) in words.iter_mut().zip(b.chunks_exact(4)) {
            *w = b.first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
        }
        words
    };
    let keys = match value.len() {
        16 => FastOpenKeys { primary: Some(key(value)), backup: None },
        32 => FastOpenKeys { primary: value.get(..16).map(key), backup: value.get(16..).map(key) },
        _ => return Err(Errno::EINVAL),
    };
    sk.tfo().keys = Some(keys);
    Ok(())
}

/// What TCP_FASTOPEN_KEY reads back: the socket's keys, else the namespace's.
pub fn get_keys(sk: &TcpSock, net: &Net) -> Vec<u8> {
    let own = sk.tfo.as_ref().and_then(|t| t.keys);
    let k = own.or_else(|| crate::net::tcp::sysctl(net, sk).map(|s| s.tcp_fastopen_key)).unwrap_or_default();
    k.primary.into_iter().chain(k.backup).flatten().flat_map(u32::to_le_bytes).collect()
}

/// The limit of a listener: never above somaxconn.
#[doc(alias = "fastopen_queue_tune")]
pub fn queue_tune(sk: &mut TcpSock, net: &Net, limit: i32) {
    let somaxconn = crate::net::tcp::setting(net, sk, |s| s.somaxconn);
    sk.tfo().max_qlen = (limit as u32).min(somaxconn);
}

/// listen() makes every listener take part where tcp_fastopen says so.
pub fn listen(sk: &mut TcpSock, net: &Net, backlog: i32) {
    let wanted = TFO_SERVER_ENABLE | TFO_SERVER_WO_SOCKOPT1;
    let on = crate::net::tcp::setting(net, sk, |s| s.tcp_fastopen as u32) & wanted == wanted;
    if on && sk.tfo.as_ref().is_none_or(|t| t.max_qlen == 0) {
        queue_tune(sk, net, backlog);
    }
}

/// A connection stops being one that Fast Open began: its listener has room for another.
#[doc(alias = "reqsk_fastopen_remove")]
pub fn done(k: &mut Kernel, listener: TcpId, rst: bool) {
    let until = k.net.env.now + RST_PENALTY;
    let Some(l) =
        k.socks.tcp.get_mut(listener).filter(|sk| sk.state == State::Listen).and_then(|sk| sk.listener.as_mut())
    else {
        return;
    };
    if rst {
        l.fastopen_rst.push_back(until);
    } else {
        l.fastopen_qlen = l.fastopen_qlen.saturating_sub(1);
    }
}

/// Three timeouts in a row, or the last one, on a connection that used Fast Open: something on the way may swallow such
/// segments, so nobody uses it for a while (RFC 7413 §4.1.3.1 leaves the how to us).
#[doc(alias = "tcp_fastopen_active_detect_blackhole")]
pub fn active_detect_blackhole(sk: &mut TcpSock, net: &mut Net, expired: bool) {
    let Some(t) = &sk.tfo else { return };
    let timeouts = sk.loss.retransmits;
    let used = t.syn_fastopen || t.syn_data || t.syn_data_acked;
    if used && (timeouts == 2 || (timeouts < 2 && expired)) {
        active_disable(sk, net);
    }
}

#[doc(alias = "tcp_fastopen_active_disable")]
fn active_disable(sk: &mut TcpSock, net: &mut Net) {
    let now = net.env.now;
    let Some(n) = net.ns.get_mut(sk.sk.ns) else { return };
    if n.sysctl.tcp_fastopen_blackhole_timeout_sec == 0 {
        return;
    }
    n.tcp.tfo_disabled_at = now;
    n.tcp.tfo_disable_times = n.tcp.tfo_disable_times.saturating_add(1);
    n.mib.inc(Mib::TcpExtTCPFastOpenBlackhole);
}

/// Paused: for the time that the setting says, twice as long with each pause in a row, up to 64 times.
#[doc(alias = "tcp_fastopen_active_should_disable")]
fn active_should_disable(sk: &mut TcpSock, net: &Net) -> bool {
    let Some(n) = net.ns.get(sk.sk.ns) else { return false };
    let base = u64::from(n.sysctl.tcp_fastopen_blackhole_timeout_sec) * SEC;
    if base == 0 || n.tcp.tfo_disable_times == 0 {
        return false;
    }
    if net.env.now < n.tcp.tfo_disabled_at + (base << (n.tcp.tfo_disable_times - 1).min(6)) {
        return true;
    }
    sk.tfo().syn_fastopen_ch = true;
    false
}

/// At the end of a connection: a FIN that came out of order and nothing else says that data was swallowed; data that came
/// after a pause says that the path is good again.
#[doc(alias = "tcp_fastopen_active_disable_ofo_check")]
pub fn active_disable_ofo_check(sk: &mut TcpSock, net: &mut Net) {
    let Some(t) = sk.tfo.as_ref().filter(|t| t.syn_fastopen) else { return };
    if sk.totals.data_segs_in == 0 {
        let lone_fin = |skb: &crate::net::core::skb::Skb| skb.tcp.flags.contains(belljar_wire::tcp::Flags::FIN);
        if sk.rcv.ooo.len() == 1 && sk.rcv.ooo.front().is_some_and(lone_fin) {
            active_disable(sk, net);
        }
    } else if t.syn_fastopen_ch
        && let Some(n) = net.ns.get_mut(sk.sk.ns)
    {
        n.tcp.tfo_disable_times = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_depends_on_key_and_both_addresses() {
        let (a, b) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 168, 0, 1]));
        let key = [0xa1a1_a1a1, 0xb2b2_b2b2, 0xc3c3_c3c3, 0xd4d4_d4d4];
        let c = cookie(key, a, b, false).unwrap();
        // The same key and addresses on Linux 6.18.
        assert_eq!(c.bytes(), [0x30, 0x21, 0xb9, 0xd8, 0x89, 0x01, 0x7e, 0xeb]);
        assert_ne!(cookie(key, b, a, false), Some(c));
        assert_ne!(cookie([1, 2, 3, 4], a, b, false), Some(c));
    }
}
