//! What sockets of every kind have (Linux: `struct sock`, `struct inet_sock`): data and constructors; behaviour lives
//! with the layers.
use crate::ids::*;
use crate::net::core::errqueue::SockErr;
use crate::net::core::filter::Prog;
use crate::net::core::skb::Sender;
use crate::net::core::sockopt6::V6Opts;
use crate::net::core::zerocopy::Zerocopy;
use crate::net::ipv6::txopts::TxOptions;
use crate::net::sysctl::Sysctl;
use crate::task::wait::WaitHead;
use belljar_abi::{IP_PMTUDISC_DONT, IP_PMTUDISC_WANT, IPV6_PREFER_SRC_PUBLIC, IPV6_PREFER_SRC_TMP};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::VecDeque;

/// The family the program asked for. An AF_INET6 socket speaks IPv4 through mapped addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    #[default]
    Inet,
    Inet6,
}

impl Family {
    /// The wildcard.
    pub fn any(self) -> IpAddr {
        match self {
            Family::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }
}

/// One-bit options (`SOCK_*` flags and bits of `inet_sock`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SockFlags {
    pub reuse: bool,
    pub reuseport: bool,
    pub keepalive: bool,
    pub broadcast: bool,
    pub oobinline: bool,
    /// SO_TXREHASH is off.
    pub no_txrehash: bool,
    pub ipv6only: bool,
    pub freebind: bool,
    pub transparent: bool,
    pub bind_address_no_port: bool,
    pub recverr: bool,
    /// SO_TIMESTAMP or SO_TIMESTAMPNS (`SOCK_RCVTSTAMP`); in nanoseconds; in the layout of the `_NEW` options.
    pub timestamp: bool,
    pub timestampns: bool,
    pub tstamp_new: bool,
    /// Received packets tell when they came, one way or another.
    pub rx_tstamp: bool,
    /// SO_TIMESTAMPING asks about what is sent.
    pub tx_tstamp: bool,
    /// SO_ZEROCOPY.
    pub zerocopy: bool,
    pub pktinfo: bool,
    pub recvtos: bool,
    pub recvttl: bool,
    pub rxq_ovfl: bool,
    /// SO_DONTROUTE: only what is on a link of this host (`SOCK_LOCALROUTE`).
    pub localroute: bool,
    /// SO_NO_CHECK: datagrams go without a checksum.
    pub no_check_tx: bool,
    /// SO_LOCK_FILTER: the filter can neither be changed nor taken away.
    pub filter_locked: bool,
    pub recvorigdstaddr: bool,
    pub recvopts: bool,
    pub retopts: bool,
    /// IP_RECVFRAGSIZE.
    pub recvfragsize: bool,
    /// SO_DEBUG: kept and shown, as on any kernel that is not built for debugging.
    pub debug: bool,
    /// The program knows it as connected (`SS_CONNECTED`), also after a reset: only AF_UNSPEC makes it new.
    pub ss_connected: bool,
    /// No file refers to it any more (`SOCK_DEAD`).
    pub dead: bool,
}

/// `SO_LINGER`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Linger {
    #[default]
    Off,
    /// Seconds; 0 aborts.
    On(u32),
}

pub const SOCK_SNDBUF_LOCK: u8 = 1;
pub const SOCK_RCVBUF_LOCK: u8 = 2;
/// What SO_BUF_LOCK sets and tells.
pub const SOCK_BUF_LOCK_MASK: u8 = SOCK_SNDBUF_LOCK | SOCK_RCVBUF_LOCK;
pub const SOCK_BINDADDR_LOCK: u8 = 4;
pub const SOCK_BINDPORT_LOCK: u8 = 8;
/// The port was chosen by `connect` or `sendto`, not by the program (`SOCK_CONNECT_BIND`).
pub const SOCK_CONNECT_BIND: u8 = 16;

pub const RCV_SHUTDOWN: u8 = 1;
pub const SEND_SHUTDOWN: u8 = 2;
pub const SHUTDOWN_MASK: u8 = 3;

/// Whether two bound addresses meet: equal, or one is a wildcard that the other is under; `::` is one for IPv4 too, unless
/// it is IPv6 only (the flag beside the address).
#[doc(alias = "inet_rcv_saddr_equal")]
pub fn rcv_saddr_equal((a, a_only6): (IpAddr, bool), (b, b_only6): (IpAddr, bool)) -> bool {
    match (a, b) {
        (IpAddr::V6(_), IpAddr::V4(_)) => a.is_unspecified() && !a_only6,
        (IpAddr::V4(_), IpAddr::V6(_)) => b.is_unspecified() && !b_only6,
        _ => a == b || a.is_unspecified() || b.is_unspecified(),
    }
}

/// Options that few sockets set, allocated when the first one is.
#[derive(Clone, Debug, Default)]
pub struct ColdOpts {
    /// Nanoseconds; `None` waits for ever.
    pub rcvtimeo: Option<u64>,
    pub sndtimeo: Option<u64>,
    pub local_port_range: Option<(u16, u16)>,
    pub peek_off: Option<u32>,
    pub user_timeout_ms: u32,
    /// When the first unanswered probe of a closed window was due, under that option; 0 when none was (`icsk_probes_tstamp`).
    pub probes_since_us: u64,
    pub max_pacing_rate: Option<u64>,
    /// SO_RCVMARK and SO_RCVPRIORITY.
    pub rcvmark: bool,
    pub rcvpriority: bool,
    /// SO_SELECT_ERR_QUEUE: an entry in the error queue is an exception, too.
    pub select_err_queue: bool,
    /// SO_NOFCS: for packet sockets on cards that can leave the frame check away; kept, as by all other sockets.
    pub nofcs: bool,
    /// IP_RECVERR_RFC4884 and IPV6_RECVERR_RFC4884.
    pub recverr_rfc4884: bool,
    pub recverr6_rfc4884: bool,
    /// IP_PASSSEC: there is no security module that would have something to pass.
    pub passsec: bool,
    /// Soft error (`sk_err_soft`): only told when the connection gives up, or by SO_ERROR.
    pub err_soft: i32,
    /// SO_RCVLOWAT; 0: never set, one byte.
    pub rcvlowat: u32,
    /// IP_CHECKSUM.
    pub checksum: bool,
    /// IP_OPTIONS: what every packet carries, padded to words.
    pub ip_options: Option<Box<[u8]>>,
    /// The group of its file, where that is another number than its user's.
    pub gid: Option<u32>,
    /// IP_NODEFRAG: nothing here puts together what a raw socket sends.
    pub nodefrag: bool,
    /// SO_BUSY_POLL in microseconds, SO_BUSY_POLL_BUDGET, SO_PREFER_BUSY_POLL.
    pub ll_usec: u32,
    pub busy_budget: u16,
    pub prefer_busy_poll: bool,
    /// IPV6_UNICAST_HOPS and IPV6_TCLASS.
    pub v6_hops: Option<u8>,
    pub v6_tclass: u8,
    /// IP_MINTTL and IPV6_MINHOPCOUNT; 0: any.
    pub min_ttl: u8,
    pub min_hopcount: u8,
    /// Flow label of packets to the peer (IPV6_FLOWINFO_SEND when it was named).
    pub flow_label: u32,
    pub v6: Option<Box<V6Opts>>,
    /// SO_ATTACH_FILTER; and what chooses in the group of the socket.
    pub filter: Option<Prog>,
    pub reuseport_prog: Option<Prog>,
    /// The error queue, and the option memory that notifications hold.
    pub errors: VecDeque<SockErr>,
    pub omem: u32,
    pub zc: Zerocopy,
    /// SO_TIMESTAMPING, and where OPT_ID counts from (TCP) or stands (UDP).
    pub tsflags: u32,
    pub tskey: u32,
    /// Groups and how to send to them.
    pub mcast: Option<Box<crate::net::ipv4::mcast::McSock>>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Sock {
    pub ns: NsId,
    pub family: Family,
    pub shutdown: u8,
    pub userlocks: u8,
    pub tos: u8,
    pub ttl: Option<u8>,
    /// `IP_PMTUDISC_*`.
    pub pmtudisc: u8,
    pub flags: SockFlags,
    /// Pending error (`sk_err`), an errno or 0; reported and cleared by the next call.
    pub err: i32,
    /// Bound local address (`inet_rcv_saddr`, `sk_v6_rcv_saddr`); 0.0.0.0 and `::` are the wildcards. A socket that speaks
    /// IPv4 through mapped addresses has IPv4 addresses here.
    pub rcv_saddr: IpAddr,
    /// Source address of packets (`inet_saddr`).
    pub saddr: IpAddr,
    pub daddr: IpAddr,
    /// Local port in host order (`inet_num`), 0 when unbound.
    pub num: u16,
    pub dport: u16,
    pub bound_dev: Option<DevId>,
    pub uid: u32,
    pub inode: u32,
    pub mark: u32,
    pub priority: u32,
    pub rcvbuf: u32,
    pub sndbuf: u32,
    /// Charged for packets in the receive queues (`sk_rmem_alloc`), by Linux's truesize.
    pub rmem_alloc: u32,
    /// Charged for packets on their way through devices (`sk_wmem_alloc`).
    pub wmem_alloc: u32,
    /// Charged for what the write queue holds (`sk_wmem_queued`).
    pub wmem_queued: u32,
    /// Dropped because the receive buffer was full (`sk_drops`).
    pub drops: u32,
    /// SO_INCOMING_CPU: asked for, or where the last packet was handled; -1 at first.
    pub incoming_cpu: i32,
    /// The NAPI by which its packets come, and their hash (SO_INCOMING_NAPI_ID, `sk_rxhash`).
    pub napi_id: u32,
    pub rxhash: u32,
    pub linger: Linger,
    pub wait: WaitHead,
    /// The file whose last close releases the socket; `None` for orphans and connections nobody accepted.
    pub file: Option<FileId>,
    pub cold: Option<Box<ColdOpts>>,
}

impl Sock {
    pub fn new(ns: NsId, family: Family) -> Sock {
        Sock {
            ns,
            family,
            shutdown: 0,
            userlocks: 0,
            tos: 0,
            ttl: None,
            pmtudisc: 1,
            flags: SockFlags::default(),
            err: 0,
            rcv_saddr: family.any(),
            saddr: family.any(),
            daddr: family.any(),
            num: 0,
            dport: 0,
            bound_dev: None,
            uid: 0,
            inode: 0,
            mark: 0,
            priority: 0,
            rcvbuf: 0,
            sndbuf: 0,
            rmem_alloc: 0,
            wmem_alloc: 0,
            wmem_queued: 0,
            drops: 0,
            incoming_cpu: -1,
            napi_id: 0,
            rxhash: 0,
            linger: Linger::Off,
            wait: WaitHead::default(),
            file: None,
            cold: None,
        }
    }

    /// What a new socket does about path MTUs (`inet_create`).
    pub fn discover_pmtu(&mut self, s: &Sysctl) {
        self.pmtudisc = if s.ip_no_pmtu_disc != 0 { IP_PMTUDISC_DONT } else { IP_PMTUDISC_WANT } as u8;
    }

    /// Whether this is the very address it is bound to. `::` takes IPv4 too, unless it is IPv6 only.
    pub fn is_bound_to(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(a) if self.rcv_saddr.is_ipv6() => {
                a.is_unspecified() && self.rcv_saddr.is_unspecified() && !self.flags.ipv6only
            }
            addr => self.rcv_saddr == addr,
        }
    }

    /// Who holds it.
    #[inline]
    pub fn sender(&self) -> Sender {
        let uid = self.uid;
        match self.file {
            Some(_) => Sender::User { uid, gid: self.cold.as_ref().and_then(|c| c.gid).unwrap_or(uid) },
            None => Sender::None,
        }
    }

    /// Whether what is sent to `addr` is for it: the address that it is bound to, or it is bound to all.
    #[inline]
    pub fn is_reached_by(&self, addr: IpAddr) -> bool {
        match (addr, self.rcv_saddr) {
            (IpAddr::V4(a), IpAddr::V4(own)) => own == a || own.is_unspecified(),
            (IpAddr::V6(a), IpAddr::V6(own)) => own == a || own.is_unspecified(),
            (IpAddr::V4(_), IpAddr::V6(own)) => own.is_unspecified() && !self.flags.ipv6only,
            (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// The wildcard that it is bound to when it is bound to nothing.
    pub fn any(&self) -> IpAddr {
        self.family.any()
    }

    /// Hop limit and traffic class of its packets to the peer.
    pub fn hops_and_class(&self) -> (Option<u8>, u8) {
        self.hops_and_class_for(self.daddr)
    }

    pub fn hops_and_class_for(&self, peer: IpAddr) -> (Option<u8>, u8) {
        match peer {
            IpAddr::V4(_) => (self.ttl, self.tos),
            IpAddr::V6(_) => {
                self.cold.as_ref().map_or((None, self.tos & 3), |c| (c.v6_hops, c.v6_tclass | self.tos & 3))
            }
        }
    }

    /// Type of service or traffic class of what is sent to `peer`; the ECN bits stay as they are.
    pub fn reflect_class(&mut self, peer: IpAddr, class: u8) {
        match peer {
            IpAddr::V4(_) => self.tos = class,
            IpAddr::V6(_) => self.cold().v6_tclass = class,
        }
    }

    pub fn v6_opts(&self) -> Option<&V6Opts> {
        self.cold.as_ref()?.v6.as_deref()
    }

    /// Extension headers of its packets over IPv6.
    pub fn txopts(&self) -> Option<&TxOptions> {
        self.v6_opts()?.txopts.as_deref()
    }

    /// Which of its host's addresses it wants (`np->srcprefs`), but for home addresses, of which there are none.
    pub fn src_prefs(&self) -> u8 {
        let mask = (IPV6_PREFER_SRC_TMP | IPV6_PREFER_SRC_PUBLIC) as u8;
        self.v6_opts().map_or(0, |o| o.src_prefs & mask)
    }

    /// Where its packets to `daddr` go first: a routing header may lead by another address.
    pub fn first_hop(&self, daddr: IpAddr) -> IpAddr {
        let hop = self.txopts().filter(|_| daddr.is_ipv6()).and_then(|o| o.first_hop());
        hop.map_or(daddr, IpAddr::V6)
    }

    /// IPV6_AUTOFLOWLABEL, if it was set.
    pub fn autolabel(&self) -> Option<bool> {
        self.v6_opts()?.autoflowlabel
    }

    /// The flow label of the peer's address, in what is sent to it.
    pub fn flow_label(&self) -> u32 {
        self.cold.as_ref().map_or(0, |c| c.flow_label & 0xf_ffff)
    }

    pub fn v6_opts_mut(&mut self) -> &mut V6Opts {
        self.cold().v6.get_or_insert_default()
    }

    /// Takes the pending error, if any (`sock_error`).
    pub fn take_err(&mut self) -> Option<i32> {
        (self.err != 0).then(|| std::mem::take(&mut self.err))
    }

    /// Where the next MSG_PEEK begins (SO_PEEK_OFF), or 0.
    pub fn peek_offset(&self) -> usize {
        self.cold.as_ref().and_then(|c| c.peek_off).map_or(0, |v| v as usize)
    }

    /// A peek moves on (`sk_peek_offset_fwd`).
    pub fn peeked(&mut self, n: usize) {
        if let Some(off) = self.cold.as_mut().and_then(|c| c.peek_off.as_mut()) {
            *off = off.saturating_add(n as u32);
        }
    }

    /// What was read is no longer there to peek at (`sk_peek_offset_bwd`).
    pub fn was_read(&mut self, n: usize) {
        if let Some(off) = self.cold.as_mut().and_then(|c| c.peek_off.as_mut()) {
            *off = off.saturating_sub(n as u32);
        }
    }

    pub fn reuseport_prog(&self) -> Option<&Prog> {
        self.cold.as_ref()?.reuseport_prog.as_ref()
    }

    pub fn filter(&self) -> Option<&Prog> {
        self.cold.as_ref()?.filter.as_ref()
    }

    /// One of the options that few set.
    pub fn rare(&self, of: impl Fn(&ColdOpts) -> bool) -> bool {
        self.cold.as_deref().is_some_and(of)
    }

    /// SO_RCVLOWAT.
    pub fn rcvlowat(&self) -> u32 {
        self.cold.as_ref().map_or(1, |c| c.rcvlowat.max(1))
    }

    pub fn err_soft(&self) -> i32 {
        self.cold.as_ref().map_or(0, |c| c.err_soft)
    }

    /// The soft error, which is none any more.
    pub fn take_err_soft(&mut self) -> i32 {
        self.cold.as_mut().map_or(0, |c| std::mem::take(&mut c.err_soft))
    }

    pub fn cold(&mut self) -> &mut ColdOpts {
        self.cold.get_or_insert_default()
    }
}
