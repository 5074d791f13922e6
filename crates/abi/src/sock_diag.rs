//! NETLINK_SOCK_DIAG: numbers.

pub const TCPDIAG_GETSOCK: u16 = 18;
pub const SOCK_DIAG_BY_FAMILY: u16 = 20;
pub const SOCK_DESTROY: u16 = 21;

// Attributes of inet_diag answers
pub const INET_DIAG_NONE: u16 = 0;
pub const INET_DIAG_MEMINFO: u16 = 1;
pub const INET_DIAG_INFO: u16 = 2;
pub const INET_DIAG_VEGASINFO: u16 = 3;
pub const INET_DIAG_CONG: u16 = 4;
pub const INET_DIAG_TOS: u16 = 5;
pub const INET_DIAG_TCLASS: u16 = 6;
pub const INET_DIAG_SKMEMINFO: u16 = 7;
pub const INET_DIAG_SHUTDOWN: u16 = 8;
pub const INET_DIAG_DCTCPINFO: u16 = 9;
pub const INET_DIAG_PROTOCOL: u16 = 10;
pub const INET_DIAG_SKV6ONLY: u16 = 11;
pub const INET_DIAG_LOCALS: u16 = 12;
pub const INET_DIAG_PEERS: u16 = 13;
pub const INET_DIAG_PAD: u16 = 14;
pub const INET_DIAG_MARK: u16 = 15;
pub const INET_DIAG_BBRINFO: u16 = 16;
pub const INET_DIAG_CLASS_ID: u16 = 17;
pub const INET_DIAG_MD5SIG: u16 = 18;
pub const INET_DIAG_ULP_INFO: u16 = 19;
pub const INET_DIAG_SK_BPF_STORAGES: u16 = 20;
pub const INET_DIAG_CGROUP_ID: u16 = 21;
pub const INET_DIAG_SOCKOPT: u16 = 22;

// Packet sockets: what is asked for, attributes of answers
pub const PACKET_SHOW_INFO: u32 = 1;
pub const PACKET_SHOW_RING_CFG: u32 = 4;
pub const PACKET_SHOW_FANOUT: u32 = 8;
pub const PACKET_SHOW_MEMINFO: u32 = 0x10;
pub const PACKET_DIAG_INFO: u16 = 0;
pub const PACKET_DIAG_RX_RING: u16 = 2;
pub const PACKET_DIAG_TX_RING: u16 = 3;
pub const PACKET_DIAG_FANOUT: u16 = 4;
pub const PACKET_DIAG_UID: u16 = 5;
pub const PACKET_DIAG_MEMINFO: u16 = 6;

// What SO_MEMINFO and INET_DIAG_SKMEMINFO hold, by index
pub const SK_MEMINFO_RMEM_ALLOC: usize = 0;
pub const SK_MEMINFO_RCVBUF: usize = 1;
pub const SK_MEMINFO_WMEM_ALLOC: usize = 2;
pub const SK_MEMINFO_SNDBUF: usize = 3;
pub const SK_MEMINFO_FWD_ALLOC: usize = 4;
pub const SK_MEMINFO_WMEM_QUEUED: usize = 5;
pub const SK_MEMINFO_OPTMEM: usize = 6;
pub const SK_MEMINFO_BACKLOG: usize = 7;
pub const SK_MEMINFO_DROPS: usize = 8;
pub const SK_MEMINFO_VARS: usize = 9;
