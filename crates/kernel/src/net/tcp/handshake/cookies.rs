//! SYN cookies: the state of a handshake in the sequence number, its options in the low bits of our time stamp
//! (Linux: `syncookies.c`).
use super::request::{self, RequestSock};
use super::{isn, synack};
use crate::env::{SEC, TimerSlot};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::skb::Skb;
use crate::net::mib::Mib;
use crate::net::tcp::ipv4::options;
use crate::net::tcp::output::ack;
use crate::net::tcp::tables::{Tuple, keyed};
use belljar_wire::tcp::TcpOptions;

/// MSS values that fit two bits of a cookie.
const MSS_TABLE: [u16; 4] = [536, 1300, 1440, 1460];
const COOKIE_BITS: u32 = 24;
/// Minutes a cookie is good for.
const MAX_AGE: u32 = 2;
/// Time stamp bits: window scale (4; 0xf is none), SACK.
const TS_OPT_SACK: u32 = 1 << 4;
const TS_OPT_MASK: u32 = 0x3f;

fn minute(now: u64) -> u32 {
    (now / (60 * SEC)) as u32
}

fn hash(secret: [u64; 2], t: &Tuple, count: u32, which: u64) -> u32 {
    let addrs = u64::from(u32::from(t.laddr)) << 32 | u64::from(u32::from(t.raddr));
    let rest = u64::from(t.lport) << 48 | u64::from(t.rport) << 32 | u64::from(count);
    keyed([secret[0] ^ 0xc00c, secret[1] ^ which], addrs, rest) as u32
}

/// `secure_tcp_syn_cookie`.
fn encode(secret: [u64; 2], t: &Tuple, peer_isn: u32, count: u32, data: u32) -> u32 {
    let low = hash(secret, t, count, 2).wrapping_add(data) & ((1 << COOKIE_BITS) - 1);
    hash(secret, t, 0, 1).wrapping_add(peer_isn).wrapping_add(count << COOKIE_BITS).wrapping_add(low)
}

/// `check_tcp_syn_cookie`: the data, when the cookie is ours and young.
fn decode(secret: [u64; 2], t: &Tuple, peer_isn: u32, count: u32, cookie: u32) -> Option<u32> {
    let rest = cookie.wrapping_sub(hash(secret, t, 0, 1)).wrapping_sub(peer_isn);
    let age = count.wrapping_sub(rest >> COOKIE_BITS) & (u32::MAX >> COOKIE_BITS);
    if age >= MAX_AGE {
        return None;
    }
    let low = rest.wrapping_sub(hash(secret, t, count.wrapping_sub(age), 2));
    Some(low & ((1 << COOKIE_BITS) - 1))
}

/// Makes the request one that needs not be stored: its number is the cookie. Without time stamps only the MSS survives.
#[doc(alias = "cookie_v4_init_sequence")]
pub fn prepare(req: &mut RequestSock, skb: &Skb, net: &Net, ns: NsId) {
    let Some(n) = net.ns.get(ns) else { return };
    let ix = MSS_TABLE.iter().rposition(|m| *m <= req.mss).unwrap_or(0);
    req.snt_isn = encode(n.secret, &req.tuple(), skb.tcp.seq, minute(net.env.now), ix as u32);
    req.mss = MSS_TABLE[ix];
    if !req.tstamp_ok {
        req.sack_ok = false;
        req.wscale_ok = false;
        req.rcv_wscale = 0;
    }
    // Marks the request for `tsval`: options ride in the time stamp.
    req.acked = true;
}

/// Our time stamp in a SYN-ACK; for a cookie its low bits are the options, and it is never ahead of the clock.
pub fn tsval(req: &RequestSock, now_ms: u32) -> u32 {
    if !req.acked || req.num_timeout != 0 || req.timer.is_armed() {
        return now_ms.wrapping_add(req.tsoffset);
    }
    let scale = if req.wscale_ok { u32::from(req.snd_wscale) } else { 0xf };
    let bits = scale | if req.sack_ok { TS_OPT_SACK } else { 0 };
    let mut ts = (now_ms & !TS_OPT_MASK) | bits;
    if ts > now_ms {
        ts = ts.wrapping_sub(TS_OPT_MASK + 1);
    }
    ts.wrapping_add(req.tsoffset)
}

/// The third segment of a handshake that was not stored.
pub fn cookie_v4_check(k: &mut Kernel, listener: TcpId, skb: Skb) -> Result<(TcpId, Skb), Option<Skb>> {
    let t = Tuple::of_packet(&skb);
    let Some(req) = check(k, listener, &skb, &t) else { return Err(Some(skb)) };
    if request::accept_queue_full(k, listener) {
        request::overflow(k, listener);
        k.net.kfree_skb(skb, crate::net::drop::DropReason::TcpListenOverflow, "cookie_v4_check");
        return Err(None);
    }
    match request::create_child(k, &req) {
        Some(child) => {
            if let Some(sk) = k.socks.tcp.get_mut(child) {
                sk.flags.from_cookie = true;
            }
            Ok((child, skb))
        }
        None => Err(Some(skb)),
    }
}

fn check(k: &mut Kernel, listener: TcpId, skb: &Skb, t: &Tuple) -> Option<RequestSock> {
    let Kernel { socks, net, .. } = k;
    let sk = socks.tcp.get(listener)?;
    let ns = sk.sk.ns;
    let (now, now_us) = (net.env.now, net.env.now_us());
    let n = net.ns.get_mut(ns)?;
    let mode = n.sysctl.tcp_syncookies;
    let last = sk.listener.as_ref()?.synq_overflow_us;
    // Only a listener that was flooded lately has sent cookies.
    if mode == 0 || (mode == 1 && (last == 0 || now_us - last > u64::from(MAX_AGE) * 60_000_000)) {
        return None;
    }
    let (peer_isn, cookie) = (skb.tcp.seq.wrapping_sub(1), skb.tcp.ack.wrapping_sub(1));
    let data = decode(n.secret, t, peer_isn, minute(now), cookie);
    let Some(mss) = data.and_then(|d| MSS_TABLE.get(d as usize).copied()) else {
        n.mib.inc(Mib::TcpExtSyncookiesFailed);
        return None;
    };
    n.mib.inc(Mib::TcpExtSyncookiesRecv);
    let (secret, ts_mode) = (n.secret, n.sysctl.tcp_timestamps);
    let o = options(skb);
    let tsoffset = if ts_mode == 1 { isn::ts_offset(secret, t.laddr, t.raddr) } else { 0 };
    let dst = synack::route(net, sk, t)?;
    let bits = o.ts.map(|(_, ecr)| ecr.wrapping_sub(tsoffset) & TS_OPT_MASK);
    Some(rebuild(sk, net, listener, skb, t, &o, Rebuilt { mss, bits, tsoffset, mtu: dst.mtu, hash: t.hash(secret) }))
}

struct Rebuilt {
    mss: u16,
    bits: Option<u32>,
    tsoffset: u32,
    mtu: u32,
    hash: u32,
}

/// The request as it would have been stored.
fn rebuild(
    sk: &crate::net::tcp::sock::TcpSock,
    net: &Net,
    listener: TcpId,
    skb: &Skb,
    t: &Tuple,
    o: &TcpOptions,
    r: Rebuilt,
) -> RequestSock {
    let scale = r.bits.map(|b| b & 0xf).filter(|s| *s != 0xf);
    let advmss = ack::advertised_mss(sk, r.mtu);
    let tstamp_ok = o.ts.is_some();
    let payload = u32::from(advmss) - if tstamp_ok { 12 } else { 0 };
    let sysctl = crate::net::tcp::sysctl(net, sk).cloned().unwrap_or_default();
    let space = ack::WindowSpace::of(sk, &sysctl);
    let win = ack::select_initial_window(space, payload, scale.is_some());
    RequestSock {
        listener,
        laddr: t.laddr,
        raddr: t.raddr,
        lport: t.lport,
        rport: t.rport,
        rcv_isn: skb.tcp.seq.wrapping_sub(1),
        snt_isn: skb.tcp.ack.wrapping_sub(1),
        ts_recent: o.ts.map_or(0, |ts| ts.0),
        tsoffset: r.tsoffset,
        mss: r.mss,
        advmss,
        snd_wscale: scale.unwrap_or(0) as u8,
        rcv_wscale: win.wscale,
        rcv_wnd: win.rcv_wnd,
        window_clamp: win.window_clamp,
        tstamp_ok,
        sack_ok: r.bits.is_some_and(|b| b & TS_OPT_SACK != 0),
        wscale_ok: scale.is_some(),
        acked: false,
        num_retrans: 0,
        num_timeout: 0,
        snt_synack_us: 0,
        timer: TimerSlot::default(),
        last_oow_ms: 0,
        hash: r.hash,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    #[test]
    fn a_cookie_tells_its_data_for_two_minutes_and_only_to_its_tuple() {
        let t = Tuple { laddr: Ipv4Addr::new(10, 0, 0, 1), raddr: Ipv4Addr::new(10, 0, 0, 2), lport: 80, rport: 4000 };
        let secret = [1, 2];
        let c = encode(secret, &t, 1000, 7, 3);
        assert_eq!(decode(secret, &t, 1000, 7, c), Some(3));
        assert_eq!(decode(secret, &t, 1000, 8, c), Some(3));
        assert_eq!(decode(secret, &t, 1000, 9, c), None);
        let other = Tuple { rport: 4001, ..t };
        assert!(decode(secret, &other, 1000, 7, c).is_none_or(|d| d > 3));
    }
}
