//! Time stamps that programs ask for: SO_TIMESTAMP and SO_TIMESTAMPNS of what was received, SO_TIMESTAMPING of that and of
//! what is sent, told on the error queue. There is no clock in hardware: those bits are accepted and say nothing.
use crate::env::{Env, Nanos, SEC, USEC};
use crate::ids::{DevId, SockId};
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::errqueue::{self, SockErr};
use crate::net::core::skb::*;
use crate::net::core::sock::Sock;
use crate::net::tcp::info;
use crate::net::tcp::state::State;
use crate::task::call::{Cmsg, SendMsg};
use belljar_abi::*;
use belljar_wire::Segs;

/// A packet that passed a place whose time its sender wants to know, on its way up.
#[derive(Clone, Debug)]
pub struct TxStamp {
    /// `SCM_TSTAMP_*`.
    pub kind: u32,
    pub tskey: u32,
    /// The packet as it was there.
    pub packet: Segs,
    pub truesize: u32,
    pub ifindex: u32,
}

/// What one send asks beside its payload (`struct sockcm_cookie`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Sockcm {
    pub tsflags: u32,
    pub ts_opt_id: Option<u32>,
    pub priority: Option<u32>,
    pub mark: u32,
}

impl Sockcm {
    /// Which stamps the packet is to have.
    #[doc(alias = "sock_tx_timestamp")]
    pub fn tx_flags(&self) -> u8 {
        let bits = [
            (SOF_TIMESTAMPING_TX_SOFTWARE, SKBTX_SW_TSTAMP),
            (SOF_TIMESTAMPING_TX_SCHED, SKBTX_SCHED_TSTAMP),
            (SOF_TIMESTAMPING_TX_ACK, SKBTX_ACK_TSTAMP),
            (SOF_TIMESTAMPING_TX_COMPLETION, SKBTX_COMPLETION_TSTAMP),
        ];
        bits.iter().filter(|b| self.tsflags & b.0 != 0).fold(0, |all, b| all | b.1)
    }
}

/// Control messages of level SOL_SOCKET; those of other levels are not looked at.
#[doc(alias = "__sock_cmsg_send")]
pub fn sock_cmsg_send(sk: &Sock, msg: &SendMsg<'_>, stream: bool) -> Result<Sockcm, Errno> {
    let tsflags = sk.cold.as_ref().map_or(0, |c| c.tsflags);
    let mut c = Sockcm { tsflags, mark: sk.mark, ..Sockcm::default() };
    let privileged = msg.caps.net_admin || msg.caps.net_raw;
    for m in msg.cmsgs.iter().filter(|m| m.level == SOL_SOCKET) {
        let word = || <[u8; 4]>::try_from(&m.data[..]).map(u32::from_ne_bytes).map_err(|_| Errno::EINVAL);
        match m.kind {
            SO_TIMESTAMPING_OLD | SO_TIMESTAMPING_NEW => {
                let flags = word()?;
                if flags & !SOF_TIMESTAMPING_TX_RECORD_MASK != 0 {
                    return Err(Errno::EINVAL);
                }
                c.tsflags = c.tsflags & !SOF_TIMESTAMPING_TX_RECORD_MASK | flags;
            }
            SCM_TS_OPT_ID if stream || tsflags & SOF_TIMESTAMPING_OPT_ID == 0 => return Err(Errno::EINVAL),
            SCM_TS_OPT_ID => c.ts_opt_id = Some(word()?),
            SO_MARK if !privileged => return Err(Errno::EPERM),
            SO_MARK => c.mark = word()?,
            SO_PRIORITY if word()? > 6 && !privileged => return Err(Errno::EPERM),
            SO_PRIORITY => c.priority = Some(word()?),
            SCM_RIGHTS | SCM_CREDENTIALS => {}
            _ => return Err(Errno::EINVAL),
        }
    }
    Ok(c)
}

/// SO_TIMESTAMP and SO_TIMESTAMPNS in both layouts: the last one set is the one that counts.
#[doc(alias = "sock_set_timestamp")]
pub fn set_timestamp(sk: &mut Sock, name: i32, on: bool) {
    let f = &mut sk.flags;
    f.timestamp = on;
    f.timestampns = on && matches!(name, SO_TIMESTAMPNS_OLD | SO_TIMESTAMPNS_NEW);
    if on {
        f.tstamp_new = matches!(name, SO_TIMESTAMP_NEW | SO_TIMESTAMPNS_NEW);
    }
    note(sk);
}

/// `tcp`: a stream's state, the end of what was written, and of what was acknowledged.
#[doc(alias = "sock_set_timestamping")]
pub fn set_timestamping(sk: &mut Sock, name: i32, val: u32, tcp: Option<(State, u32, u32)>) -> Result<(), Errno> {
    let old = sk.cold.as_ref().map_or(0, |c| c.tsflags);
    let has = |bit: u32| val & bit != 0;
    if val & !SOF_TIMESTAMPING_MASK != 0
        || has(SOF_TIMESTAMPING_OPT_ID_TCP) && !has(SOF_TIMESTAMPING_OPT_ID)
        || has(SOF_TIMESTAMPING_OPT_STATS) && !has(SOF_TIMESTAMPING_OPT_TSONLY)
    {
        return Err(Errno::EINVAL);
    }
    if has(SOF_TIMESTAMPING_OPT_ID) && old & SOF_TIMESTAMPING_OPT_ID == 0 {
        sk.cold().tskey = match tcp {
            Some((State::Close | State::Listen, ..)) => return Err(Errno::EINVAL),
            Some((_, write_seq, _)) if has(SOF_TIMESTAMPING_OPT_ID_TCP) => write_seq,
            Some((_, _, una)) => una,
            None => 0,
        };
    }
    // There is no clock to bind to.
    if has(SOF_TIMESTAMPING_BIND_PHC) {
        return Err(Errno::EOPNOTSUPP);
    }
    sk.flags.tstamp_new = name == SO_TIMESTAMPING_NEW;
    if val != 0 || sk.cold.is_some() {
        sk.cold().tsflags = val;
    }
    note(sk);
    Ok(())
}

/// Keeps the bits by which other code knows at a glance.
fn note(sk: &mut Sock) {
    let tsflags = sk.cold.as_ref().map_or(0, |c| c.tsflags);
    sk.flags.rx_tstamp = sk.flags.timestamp || tsflags & SOF_TIMESTAMPING_RX_SOFTWARE != 0;
    sk.flags.tx_tstamp = tsflags & SOF_TIMESTAMPING_TX_RECORD_MASK != 0;
}

/// What getsockopt says of the six options; `None`: it is another one.
pub fn get(sk: &Sock, name: i32) -> Option<Vec<u8>> {
    let f = &sk.flags;
    let v = match name {
        SO_TIMESTAMP_OLD => f.timestamp && !f.tstamp_new && !f.timestampns,
        SO_TIMESTAMPNS_OLD => f.timestampns && !f.tstamp_new,
        SO_TIMESTAMP_NEW => f.timestamp && f.tstamp_new,
        SO_TIMESTAMPNS_NEW => f.timestampns && f.tstamp_new,
        SO_TIMESTAMPING_OLD | SO_TIMESTAMPING_NEW => {
            // `struct so_timestamping`: the flags, and the clock that they are bound to.
            let shown = name == SO_TIMESTAMPING_OLD || f.tstamp_new;
            let flags = sk.cold.as_ref().filter(|_| shown).map_or(0, |c| c.tsflags);
            return Some([flags, 0].iter().flat_map(|v| v.to_ne_bytes()).collect());
        }
        _ => return None,
    };
    Some(i32::from(v).to_ne_bytes().to_vec())
}

/// Control messages about when a packet came (or, of the error queue, when its stamp was taken); 0: nobody looked.
#[doc(alias = "__sock_recv_timestamp")]
pub fn recv_timestamp(sk: &Sock, env: &Env, mut tstamp: Nanos, from_errors: bool, out: &mut Vec<Cmsg>) {
    let f = &sk.flags;
    if f.timestamp && tstamp == 0 {
        tstamp = env.now;
    }
    if tstamp == 0 {
        return;
    }
    let at = tstamp.saturating_add(env.wall_offset);
    let pair = |part: Nanos| [(at / SEC) as i64, part as i64].iter().flat_map(|v| v.to_ne_bytes()).collect::<Vec<u8>>();
    let mut put = |kind, data| out.push(Cmsg { level: SOL_SOCKET, kind, data });
    match (f.timestamp, f.timestampns, f.tstamp_new) {
        (false, ..) => {}
        (_, false, false) => put(SO_TIMESTAMP_OLD, pair(at % SEC / USEC)),
        (_, false, true) => put(SO_TIMESTAMP_NEW, pair(at % SEC / USEC)),
        (_, true, false) => put(SO_TIMESTAMPNS_OLD, pair(at % SEC)),
        (_, true, true) => put(SO_TIMESTAMPNS_NEW, pair(at % SEC)),
    }
    let tsflags = sk.cold.as_ref().map_or(0, |c| c.tsflags);
    let has = |bit: u32| tsflags & bit != 0;
    let wanted = has(SOF_TIMESTAMPING_RX_SOFTWARE) || from_errors || !has(SOF_TIMESTAMPING_OPT_RX_FILTER);
    if has(SOF_TIMESTAMPING_SOFTWARE) && wanted {
        // `struct scm_timestamping`: software, nothing, hardware.
        let mut three = pair(at % SEC);
        three.resize(48, 0);
        put(if f.tstamp_new { SO_TIMESTAMPING_NEW } else { SO_TIMESTAMPING_OLD }, three);
    }
}

/// The packet passes a place of which its sender wants to know.
#[doc(alias = "__skb_tstamp_tx")]
#[cold]
pub fn skb_tstamp_tx(net: &mut Net, skb: &Skb, dev: DevId, kind: u32) {
    let Some(tx) = &skb.tx else { return };
    let mut packet = Segs::from(skb.head.bytes().to_vec());
    packet.append(skb.frags.clone());
    let ifindex = net.devs.get(dev).map_or(0, |d| d.ifindex);
    let stamp = TxStamp { kind, tskey: tx.tskey, packet, truesize: skb.truesize, ifindex };
    net.env.rises.push_back(crate::env::Rise::TxStamp { sock: tx.sock, stamp: Box::new(stamp) });
}

/// An entry of the error queue for it, lost when that is full.
#[doc(alias = "__skb_complete_tx_timestamp")]
pub fn entry(sk: &Sock, env: &Env, stamp: TxStamp, stats: Option<Vec<u8>>, stream: bool) -> SockErr {
    let tsflags = sk.cold.as_ref().map_or(0, |c| c.tsflags);
    let mut ee = SockExtendedErr {
        errno: Errno::ENOMSG.0,
        origin: SO_EE_ORIGIN_TIMESTAMPING,
        info: stamp.kind,
        ..SockExtendedErr::default()
    };
    if tsflags & SOF_TIMESTAMPING_OPT_ID != 0 {
        let base = sk.cold.as_ref().filter(|_| stream).map_or(0, |c| c.tskey);
        ee.data = stamp.tskey.wrapping_sub(base);
    }
    let mut e = SockErr { ee, tstamp: env.now, truesize: stamp.truesize, ifindex: stamp.ifindex, ..SockErr::default() };
    if tsflags & SOF_TIMESTAMPING_OPT_TSONLY == 0 {
        e.payload = stamp.packet;
    } else {
        e.truesize = SKB_OVERHEAD;
        if let Some(stats) = stats {
            (e.truesize, e.stats) = (truesize(stats.len()), true);
            e.payload = stats.into();
        }
    }
    e
}

/// What came up from below, into the queue of its socket.
pub(crate) fn tx_stamp(k: &mut Kernel, sock: SockId, stamp: TxStamp) {
    let Kernel { socks, net, .. } = k;
    match sock {
        SockId::Tcp(id) => {
            let Some(sk) = socks.tcp.get_mut(id) else { return };
            let stats = info::opt_stats_wanted(sk).then(|| info::opt_stats(sk, net, None));
            let e = entry(&sk.sk, &net.env, stamp, stats, true);
            errqueue::queue(&mut sk.sk, &mut net.env, sock, e);
            crate::net::tcp::mem::settle(sk, net);
        }
        SockId::Udp(id) => {
            let Some(s) = socks.udp.get_mut(id) else { return };
            let e = entry(&s.sk, &net.env, stamp, None, false);
            errqueue::queue(&mut s.sk, &mut net.env, sock, e);
        }
        // Nothing that such a socket sends asks for stamps.
        SockId::Raw(_) | SockId::Packet(_) | SockId::Xsk(_) => {}
    }
}
