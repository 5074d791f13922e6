//! ioctl(2) requests that sockets and network devices answer, device flags, and the layout of `ifreq`.

// Queues and modes
pub const TIOCOUTQ: u32 = 0x5411;
pub const FIONREAD: u32 = 0x541b;
pub const TIOCINQ: u32 = 0x541b;
pub const FIONBIO: u32 = 0x5421;
pub const FIONCLEX: u32 = 0x5450;
pub const FIOCLEX: u32 = 0x5451;
pub const FIOASYNC: u32 = 0x5452;
pub const FIOQSIZE: u32 = 0x5460;
pub const FIOSETOWN: u32 = 0x8901;
pub const SIOCSPGRP: u32 = 0x8902;
pub const FIOGETOWN: u32 = 0x8903;
pub const SIOCGPGRP: u32 = 0x8904;
pub const SIOCATMARK: u32 = 0x8905;
pub const SIOCINQ: u32 = FIONREAD;
pub const SIOCOUTQ: u32 = TIOCOUTQ;
pub const SIOCOUTQNSD: u32 = 0x894b;

// Devices, addresses, routes
pub const SIOCADDRT: u32 = 0x890b;
pub const SIOCDELRT: u32 = 0x890c;
pub const SIOCGIFNAME: u32 = 0x8910;
pub const SIOCSIFLINK: u32 = 0x8911;
pub const SIOCGIFCONF: u32 = 0x8912;
pub const SIOCGIFFLAGS: u32 = 0x8913;
pub const SIOCSIFFLAGS: u32 = 0x8914;
pub const SIOCGIFADDR: u32 = 0x8915;
pub const SIOCSIFADDR: u32 = 0x8916;
pub const SIOCGIFDSTADDR: u32 = 0x8917;
pub const SIOCSIFDSTADDR: u32 = 0x8918;
pub const SIOCGIFBRDADDR: u32 = 0x8919;
pub const SIOCSIFBRDADDR: u32 = 0x891a;
pub const SIOCGIFNETMASK: u32 = 0x891b;
pub const SIOCSIFNETMASK: u32 = 0x891c;
pub const SIOCGIFMETRIC: u32 = 0x891d;
pub const SIOCSIFMETRIC: u32 = 0x891e;
pub const SIOCGIFMEM: u32 = 0x891f;
pub const SIOCSIFMEM: u32 = 0x8920;
pub const SIOCGIFMTU: u32 = 0x8921;
pub const SIOCSIFMTU: u32 = 0x8922;
pub const SIOCSIFNAME: u32 = 0x8923;
pub const SIOCSIFHWADDR: u32 = 0x8924;
pub const SIOCGIFENCAP: u32 = 0x8925;
pub const SIOCSIFENCAP: u32 = 0x8926;
pub const SIOCGIFHWADDR: u32 = 0x8927;
pub const SIOCGIFSLAVE: u32 = 0x8929;
pub const SIOCSIFSLAVE: u32 = 0x8930;
pub const SIOCADDMULTI: u32 = 0x8931;
pub const SIOCDELMULTI: u32 = 0x8932;
pub const SIOCGIFINDEX: u32 = 0x8933;
pub const SIOCSIFPFLAGS: u32 = 0x8934;
pub const SIOCGIFPFLAGS: u32 = 0x8935;
pub const SIOCDIFADDR: u32 = 0x8936;
pub const SIOCSIFHWBROADCAST: u32 = 0x8937;
pub const SIOCGIFCOUNT: u32 = 0x8938;
pub const SIOCGIFBR: u32 = 0x8940;
pub const SIOCSIFBR: u32 = 0x8941;
pub const SIOCGIFTXQLEN: u32 = 0x8942;
pub const SIOCSIFTXQLEN: u32 = 0x8943;
pub const SIOCGMIIPHY: u32 = 0x8947;
pub const SIOCGMIIREG: u32 = 0x8948;
pub const SIOCSMIIREG: u32 = 0x8949;
pub const SIOCGSKNS: u32 = 0x894c;
pub const SIOCDARP: u32 = 0x8953;
pub const SIOCGARP: u32 = 0x8954;
pub const SIOCSARP: u32 = 0x8955;
pub const SIOCDRARP: u32 = 0x8960;
pub const SIOCGIFMAP: u32 = 0x8970;
pub const SIOCSIFMAP: u32 = 0x8971;
pub const SIOCADDDLCI: u32 = 0x8980;
pub const SIOCDELDLCI: u32 = 0x8981;
pub const SIOCGIFVLAN: u32 = 0x8982;
pub const SIOCSIFVLAN: u32 = 0x8983;
pub const SIOCGSTAMP: u32 = 0x8906;
pub const SIOCGSTAMPNS: u32 = 0x8907;
pub const SIOCDEVPRIVATE: u32 = 0x89f0;
pub const SIOCPROTOPRIVATE: u32 = 0x89e0;

// Device flags
pub const IFF_UP: u32 = 1;
pub const IFF_BROADCAST: u32 = 2;
pub const IFF_DEBUG: u32 = 4;
pub const IFF_LOOPBACK: u32 = 8;
pub const IFF_POINTOPOINT: u32 = 0x10;
pub const IFF_NOTRAILERS: u32 = 0x20;
pub const IFF_RUNNING: u32 = 0x40;
pub const IFF_NOARP: u32 = 0x80;
pub const IFF_PROMISC: u32 = 0x100;
pub const IFF_ALLMULTI: u32 = 0x200;
pub const IFF_MASTER: u32 = 0x400;
pub const IFF_SLAVE: u32 = 0x800;
pub const IFF_MULTICAST: u32 = 0x1000;
pub const IFF_PORTSEL: u32 = 0x2000;
pub const IFF_AUTOMEDIA: u32 = 0x4000;
pub const IFF_DYNAMIC: u32 = 0x8000;
pub const IFF_LOWER_UP: u32 = 0x10000;
pub const IFF_DORMANT: u32 = 0x20000;
pub const IFF_ECHO: u32 = 0x40000;

// Hardware types
pub const ARPHRD_ETHER: u16 = 1;
pub const ARPHRD_PPP: u16 = 512;
pub const ARPHRD_TUNNEL: u16 = 768;
pub const ARPHRD_LOOPBACK: u16 = 772;
pub const ARPHRD_SIT: u16 = 776;
pub const ARPHRD_IPGRE: u16 = 778;
pub const ARPHRD_NONE: u16 = 65534;

// `ifi_operstate`
pub const IF_OPER_UNKNOWN: u8 = 0;
pub const IF_OPER_NOTPRESENT: u8 = 1;
pub const IF_OPER_DOWN: u8 = 2;
pub const IF_OPER_LOWERLAYERDOWN: u8 = 3;
pub const IF_OPER_TESTING: u8 = 4;
pub const IF_OPER_DORMANT: u8 = 5;
pub const IF_OPER_UP: u8 = 6;

/// Bytes of a device name with its end.
pub const IFNAMSIZ: usize = 16;
/// sizeof(struct ifreq): the name and a union of 24 bytes.
pub const IFREQ_LEN: usize = 40;

/// The name in an `ifreq`: up to the first NUL, at most 15 bytes.
pub fn ifreq_name(b: &[u8]) -> Option<&str> {
    let b = b.get(..IFNAMSIZ)?;
    let end = b.iter().position(|c| *c == 0).unwrap_or(IFNAMSIZ - 1);
    std::str::from_utf8(b.get(..end)?).ok()
}

// TUN/TAP (`<linux/if_tun.h>`)
pub const TUNSETNOCSUM: u32 = 0x4004_54c8;
pub const TUNSETIFF: u32 = 0x4004_54ca;
pub const TUNSETPERSIST: u32 = 0x4004_54cb;
pub const TUNSETOWNER: u32 = 0x4004_54cc;
pub const TUNSETGROUP: u32 = 0x4004_54ce;
pub const TUNGETFEATURES: u32 = 0x8004_54cf;
pub const TUNSETOFFLOAD: u32 = 0x4004_54d0;
pub const TUNGETIFF: u32 = 0x8004_54d2;
pub const TUNGETVNETHDRSZ: u32 = 0x8004_54d7;
pub const TUNSETVNETHDRSZ: u32 = 0x4004_54d8;
pub const TUNSETQUEUE: u32 = 0x4004_54d9;
pub const TUNSETVNETLE: u32 = 0x4004_54dc;
pub const TUNGETVNETLE: u32 = 0x8004_54dd;
pub const TUNSETCARRIER: u32 = 0x4004_54e2;
pub const IFF_TUN: u16 = 1;
pub const IFF_TAP: u16 = 2;
pub const IFF_NAPI: u16 = 0x10;
pub const IFF_NAPI_FRAGS: u16 = 0x20;
pub const IFF_NO_CARRIER: u16 = 0x40;
pub const IFF_MULTI_QUEUE: u16 = 0x100;
pub const IFF_ATTACH_QUEUE: u16 = 0x200;
pub const IFF_DETACH_QUEUE: u16 = 0x400;
pub const IFF_PERSIST: u16 = 0x800;
pub const IFF_VNET_HDR: u16 = 0x4000;
pub const IFF_NO_PI: u16 = 0x1000;
// What the reader of a device takes unfinished (TUNSETOFFLOAD)
pub const TUN_F_CSUM: u32 = 1;
pub const TUN_F_TSO4: u32 = 2;
pub const TUN_F_TSO6: u32 = 4;
pub const TUN_F_TSO_ECN: u32 = 8;
pub const TUN_F_UFO: u32 = 0x10;
pub const TUN_F_USO4: u32 = 0x20;
pub const TUN_F_USO6: u32 = 0x40;
/// Accepted and without meaning since 2.6.27.
pub const IFF_ONE_QUEUE: u16 = 0x2000;
pub const IFF_TUN_EXCL: u16 = 0x8000;
