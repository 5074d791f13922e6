//! Names that a script may use for numbers, and the nearest known name to a mistyped one.
use belljar_abi as abi;

macro_rules! constants {
    ($($name:ident)*) => { &[$((stringify!($name), abi::$name as i64),)*] };
}

const FROM_ABI: &[(&str, i64)] = constants! {
    AF_UNSPEC AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET
    SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_SEQPACKET SOCK_RDM SOCK_NONBLOCK SOCK_CLOEXEC
    IPPROTO_IP IPPROTO_ICMP IPPROTO_ICMPV6 IPPROTO_TCP IPPROTO_UDP IPPROTO_RAW
    SOL_SOCKET SOL_IP SOL_TCP SOL_UDP SOL_IPV6 SOL_ICMPV6
    SO_REUSEADDR SO_TYPE SO_ERROR SO_DONTROUTE SO_BROADCAST SO_SNDBUF SO_RCVBUF SO_KEEPALIVE SO_OOBINLINE SO_PRIORITY
    SO_LINGER SO_REUSEPORT SO_RCVLOWAT SO_SNDLOWAT SO_RCVTIMEO SO_SNDTIMEO SO_BINDTODEVICE SO_ACCEPTCONN
    SO_SNDBUFFORCE SO_RCVBUFFORCE SO_MARK SO_PROTOCOL SO_DOMAIN SO_PEEK_OFF SO_ZEROCOPY SO_DEBUG SO_NO_CHECK
    SO_ATTACH_FILTER SO_DETACH_FILTER SO_LOCK_FILTER SO_ATTACH_REUSEPORT_CBPF SO_DETACH_REUSEPORT_BPF
    SO_MAX_PACING_RATE SO_TIMESTAMP SO_TIMESTAMPNS SO_TIMESTAMPING SO_INCOMING_CPU SO_COOKIE SO_BUSY_POLL
    TCP_NODELAY TCP_MAXSEG TCP_CORK TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT TCP_SYNCNT TCP_LINGER2 TCP_DEFER_ACCEPT
    TCP_WINDOW_CLAMP TCP_INFO TCP_QUICKACK TCP_CONGESTION TCP_MD5SIG TCP_MD5SIG_EXT TCP_THIN_LINEAR_TIMEOUTS TCP_USER_TIMEOUT
    TCP_REPAIR TCP_FASTOPEN TCP_TIMESTAMP TCP_NOTSENT_LOWAT TCP_SAVE_SYN TCP_SAVED_SYN TCP_FASTOPEN_CONNECT TCP_FASTOPEN_KEY
    TCP_FASTOPEN_NO_COOKIE TCP_INQ TCP_CM_INQ TCP_RTO_MAX_MS TCP_RTO_MIN_US TCP_DELACK_MAX_US TCP_TX_DELAY
    IP_TOS IP_TTL IP_MTU_DISCOVER IP_MTU IP_RECVERR IP_RECVTTL IP_RECVTOS IP_PKTINFO IP_FREEBIND IP_TRANSPARENT
    IP_BIND_ADDRESS_NO_PORT IP_LOCAL_PORT_RANGE IP_PMTUDISC_DONT IP_PMTUDISC_WANT IP_PMTUDISC_DO IP_PMTUDISC_PROBE
    IP_PMTUDISC_INTERFACE IP_PMTUDISC_OMIT IP_MINTTL
    IPV6_V6ONLY IPV6_UNICAST_HOPS IPV6_MULTICAST_IF IPV6_MULTICAST_HOPS IPV6_MULTICAST_LOOP IPV6_MULTICAST_ALL
    IPV6_ADD_MEMBERSHIP IPV6_DROP_MEMBERSHIP IPV6_MTU_DISCOVER IPV6_MTU IPV6_RECVERR IPV6_RECVPKTINFO IPV6_PKTINFO
    IPV6_RECVHOPLIMIT IPV6_HOPLIMIT IPV6_RECVTCLASS IPV6_TCLASS IPV6_DONTFRAG IPV6_AUTOFLOWLABEL IPV6_CHECKSUM
    IPV6_UNICAST_IF IPV6_FREEBIND IPV6_TRANSPARENT IPV6_ADDR_PREFERENCES IPV6_ADDRFORM IPV6_RECVORIGDSTADDR ICMPV6_FILTER
    IPV6_PMTUDISC_DONT IPV6_PMTUDISC_WANT IPV6_PMTUDISC_DO IPV6_PMTUDISC_PROBE IPV6_PMTUDISC_INTERFACE IPV6_PMTUDISC_OMIT
    IP_MULTICAST_IF IP_MULTICAST_TTL IP_MULTICAST_LOOP IP_MULTICAST_ALL IP_ADD_MEMBERSHIP IP_DROP_MEMBERSHIP
    IP_BLOCK_SOURCE IP_UNBLOCK_SOURCE IP_ADD_SOURCE_MEMBERSHIP IP_DROP_SOURCE_MEMBERSHIP IP_UNICAST_IF
    IP_RECVOPTS IP_RECVRETOPTS IP_RECVORIGDSTADDR IP_ORIGDSTADDR
    UDP_CORK UDP_SEGMENT UDP_GRO
    MSG_OOB MSG_PEEK MSG_DONTROUTE MSG_CTRUNC MSG_TRUNC MSG_DONTWAIT MSG_EOR MSG_WAITALL MSG_CONFIRM MSG_ERRQUEUE
    MSG_NOSIGNAL MSG_MORE MSG_ZEROCOPY MSG_FASTOPEN
    SHUT_RD SHUT_WR SHUT_RDWR SOMAXCONN
    POLLIN POLLPRI POLLOUT POLLERR POLLHUP POLLNVAL POLLRDHUP POLLRDNORM POLLWRNORM
    EPOLLIN EPOLLPRI EPOLLOUT EPOLLERR EPOLLHUP EPOLLRDHUP EPOLLEXCLUSIVE EPOLLONESHOT EPOLLET EPOLLRDNORM
    EPOLLWRNORM EPOLL_CTL_ADD EPOLL_CTL_DEL EPOLL_CTL_MOD EPOLL_CLOEXEC
    SIOCINQ SIOCOUTQ SIOCOUTQNSD SIOCATMARK FIONREAD FIONBIO FIOSETOWN SIOCSPGRP FIOGETOWN SIOCGPGRP
    TCP_CA_OPEN TCP_CA_DISORDER TCP_CA_CWR TCP_CA_RECOVERY TCP_CA_LOSS
    SO_EE_ORIGIN_NONE SO_EE_ORIGIN_LOCAL SO_EE_ORIGIN_ICMP SO_EE_ORIGIN_ICMP6 SO_EE_ORIGIN_ZEROCOPY SO_EE_ORIGIN_TIMESTAMPING
    SO_EE_CODE_ZEROCOPY_COPIED SCM_TSTAMP_SND SCM_TSTAMP_SCHED SCM_TSTAMP_ACK SCM_TSTAMP_COMPLETION SCM_TIMESTAMP SCM_TIMESTAMPNS
    SCM_TIMESTAMPING SCM_TIMESTAMPING_OPT_STATS SCM_TS_OPT_ID
    SO_TIMESTAMP_OLD SO_TIMESTAMP_NEW SO_TIMESTAMPNS_OLD SO_TIMESTAMPNS_NEW SO_TIMESTAMPING_OLD SO_TIMESTAMPING_NEW
    SOF_TIMESTAMPING_TX_HARDWARE SOF_TIMESTAMPING_TX_SOFTWARE SOF_TIMESTAMPING_RX_HARDWARE SOF_TIMESTAMPING_RX_SOFTWARE
    SOF_TIMESTAMPING_SOFTWARE SOF_TIMESTAMPING_SYS_HARDWARE SOF_TIMESTAMPING_RAW_HARDWARE SOF_TIMESTAMPING_OPT_ID
    SOF_TIMESTAMPING_TX_SCHED SOF_TIMESTAMPING_TX_ACK SOF_TIMESTAMPING_OPT_CMSG SOF_TIMESTAMPING_OPT_TSONLY
    SOF_TIMESTAMPING_OPT_STATS SOF_TIMESTAMPING_OPT_PKTINFO SOF_TIMESTAMPING_OPT_TX_SWHW SOF_TIMESTAMPING_BIND_PHC
    SOF_TIMESTAMPING_OPT_ID_TCP SOF_TIMESTAMPING_OPT_RX_FILTER SOF_TIMESTAMPING_TX_COMPLETION
    TCPI_OPT_TIMESTAMPS TCPI_OPT_SACK TCPI_OPT_WSCALE TCPI_OPT_ECN TCPI_OPT_ECN_SEEN TCPI_OPT_SYN_DATA
};

/// Numbers of fcntl and of limits, which the abi crate leaves to the system's headers.
const OTHERS: &[(&str, i64)] = &[
    ("F_GETFD", 1),
    ("F_SETFD", 2),
    ("F_GETFL", 3),
    ("F_SETFL", 4),
    ("F_SETOWN", 8),
    ("F_GETOWN", 9),
    ("FD_CLOEXEC", 1),
    ("O_RDONLY", 0),
    ("O_WRONLY", 1),
    ("O_RDWR", 2),
    ("O_NONBLOCK", 0x800),
    ("NULL", 0),
    ("RLIMIT_NOFILE", 7),
];

/// Values in assertions: states, loss states, bits of `options`.
const STATES: &[(&str, i64)] = &[
    ("ESTABLISHED", 1),
    ("SYN_SENT", 2),
    ("SYN_RECV", 3),
    ("FIN_WAIT1", 4),
    ("FIN_WAIT2", 5),
    ("TIME_WAIT", 6),
    ("CLOSE", 7),
    ("CLOSE_WAIT", 8),
    ("LAST_ACK", 9),
    ("LISTEN", 10),
    ("CLOSING", 11),
    ("Open", 0),
    ("Disorder", 1),
    ("CWR", 2),
    ("Recovery", 3),
    ("Loss", 4),
    ("TIMESTAMPS", 1),
    ("SACK", 2),
    ("WSCALE", 4),
    ("ECN", 8),
    ("INFINITE", 0x7fff_ffff),
];

pub fn constant(name: &str) -> Option<i64> {
    FROM_ABI.iter().chain(OTHERS).find(|(n, _)| *n == name).map(|e| e.1)
}

pub fn asserted(name: &str) -> Option<i64> {
    STATES.iter().find(|(n, _)| *n == name).map(|e| e.1).or_else(|| constant(name))
}

/// A socket option as programs write it: `SOL_TCP, TCP_NODELAY`; numbers where there is no name.
pub fn option_name(level: i32, name: i32) -> String {
    let (level_name, prefix) = match level {
        abi::SOL_SOCKET => ("SOL_SOCKET", "SO_"),
        abi::SOL_IP => ("SOL_IP", "IP_"),
        abi::SOL_TCP => ("SOL_TCP", "TCP_"),
        abi::SOL_UDP => ("SOL_UDP", "UDP_"),
        abi::SOL_IPV6 => ("SOL_IPV6", "IPV6_"),
        _ => return format!("{level}, {name}"),
    };
    // Values of options begin like the options.
    let value = |n: &str| n.starts_with("IP_PMTUDISC") || n.starts_with("IPV6_PMTUDISC") || n.starts_with("TCP_CA_");
    let known = FROM_ABI.iter().find(|(n, v)| *v == i64::from(name) && n.starts_with(prefix) && !value(n));
    known.map_or_else(|| format!("{level_name}, {name}"), |(n, _)| format!("{level_name}, {n}"))
}

pub fn nearest_constant(name: &str) -> Option<&'static str> {
    nearest(name, FROM_ABI.iter().chain(OTHERS).map(|e| e.0))
}

pub fn nearest_asserted(name: &str) -> Option<&'static str> {
    nearest(name, STATES.iter().map(|e| e.0))
}

pub fn nearest_errno(name: &str) -> Option<&'static str> {
    nearest(name, (1..134).map(|n| abi::Errno(n).name()).filter(|n| *n != "E?"))
}

/// The nearest of `all`, if it is near.
pub fn nearest<'a>(name: &str, all: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody mistypes a name of a thousand letters.
    let name: String = name.chars().take(64).collect();
    let best = all.into_iter().map(|n| (distance(&name, n), n)).min_by_key(|e| e.0)?;
    (best.0 <= name.len() / 3 + 1).then_some(best.1)
}

/// Letters to add, drop or change, case aside.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().map(|c| c.to_ascii_lowercase()).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().map(|c| c.to_ascii_lowercase()).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, cb) in row.iter_mut().skip(1).zip(&b) {
            let cost = diagonal + usize::from(ca != *cb);
            diagonal = *cell;
            left = cost.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        assert_eq!(nearest_constant("SO_REUSEADR"), Some("SO_REUSEADDR"));
        assert_eq!(nearest_errno("ECONNRESETT"), Some("ECONNRESET"));
        assert_eq!(nearest("accept4", ["accept", "connect"]), Some("accept"));
        assert_eq!(nearest("zzzzzz", ["accept", "connect"]), None);
        assert_eq!((distance("abc", "abc"), distance("", "ab"), distance("kitten", "sitting")), (0, 2, 3));
        assert_eq!(option_name(abi::SOL_TCP, abi::TCP_MD5SIG), "SOL_TCP, TCP_MD5SIG");
        assert_eq!(
            [option_name(0, 10), option_name(1, 999), option_name(270, 1)],
            ["SOL_IP, IP_MTU_DISCOVER", "SOL_SOCKET, 999", "270, 1"]
        );
        assert_eq!(constant("SOCK_NONBLOCK"), Some(0x800));
    }
}
