//! `SIOCETHTOOL`: what ethtool(8) asks a device, as numbers and layouts (`linux/ethtool.h`).

pub const SIOCETHTOOL: u32 = 0x8946;

pub const ETHTOOL_GDRVINFO: u32 = 0x03;
pub const ETHTOOL_GLINK: u32 = 0x0a;
pub const ETHTOOL_GCOALESCE: u32 = 0x0e;
pub const ETHTOOL_SCOALESCE: u32 = 0x0f;
pub const ETHTOOL_GRINGPARAM: u32 = 0x10;
pub const ETHTOOL_SRINGPARAM: u32 = 0x11;
pub const ETHTOOL_GRXCSUM: u32 = 0x14;
pub const ETHTOOL_GTXCSUM: u32 = 0x16;
pub const ETHTOOL_GSG: u32 = 0x18;
pub const ETHTOOL_GSTRINGS: u32 = 0x1b;
pub const ETHTOOL_GSTATS: u32 = 0x1d;
pub const ETHTOOL_GTSO: u32 = 0x1e;
pub const ETHTOOL_GPERMADDR: u32 = 0x20;
pub const ETHTOOL_GUFO: u32 = 0x21;
pub const ETHTOOL_GGSO: u32 = 0x23;
pub const ETHTOOL_GFLAGS: u32 = 0x25;
pub const ETHTOOL_GGRO: u32 = 0x2b;
pub const ETHTOOL_GRXRINGS: u32 = 0x2d;
pub const ETHTOOL_GSSET_INFO: u32 = 0x37;
pub const ETHTOOL_GFEATURES: u32 = 0x3a;
pub const ETHTOOL_SFEATURES: u32 = 0x3b;
pub const ETHTOOL_GCHANNELS: u32 = 0x3c;
pub const ETHTOOL_SCHANNELS: u32 = 0x3d;
pub const ETHTOOL_GET_TS_INFO: u32 = 0x41;
pub const ETHTOOL_GRSSH: u32 = 0x46;
pub const ETHTOOL_SRSSH: u32 = 0x47;
pub const ETHTOOL_GLINKSETTINGS: u32 = 0x4c;

/// Commands that everybody may give: all that only read.
pub const ETHTOOL_READS: [u32; 33] = [
    0x01, // GSET
    ETHTOOL_GDRVINFO,
    0x07, // GMSGLVL
    ETHTOOL_GLINK,
    ETHTOOL_GCOALESCE,
    ETHTOOL_GRINGPARAM,
    0x12, // GPAUSEPARAM
    ETHTOOL_GRXCSUM,
    ETHTOOL_GTXCSUM,
    ETHTOOL_GSG,
    ETHTOOL_GSTRINGS,
    ETHTOOL_GSTATS,
    ETHTOOL_GTSO,
    ETHTOOL_GPERMADDR,
    ETHTOOL_GUFO,
    ETHTOOL_GGSO,
    ETHTOOL_GFLAGS,
    0x27, // GPFLAGS
    0x29, // GRXFH
    ETHTOOL_GGRO,
    ETHTOOL_GRXRINGS,
    0x2e, // GRXCLSRLCNT
    0x2f, // GRXCLSRULE
    0x30, // GRXCLSRLALL
    ETHTOOL_GSSET_INFO,
    0x38, // GRXFHINDIR
    ETHTOOL_GFEATURES,
    ETHTOOL_GCHANNELS,
    ETHTOOL_GET_TS_INFO,
    0x44, // GEEE
    ETHTOOL_GRSSH,
    ETHTOOL_GLINKSETTINGS,
    0x50, // GFECPARAM
];

/// String sets.
pub const ETH_SS_STATS: u32 = 1;
pub const ETH_SS_FEATURES: u32 = 4;
pub const ETH_SS_RSS_HASH_FUNCS: u32 = 5;
pub const ETH_GSTRING_LEN: usize = 32;

/// What ETHTOOL_SFEATURES returns: some bits cannot be changed; some were only wished for.
pub const ETHTOOL_F_UNSUPPORTED: i64 = 1;
pub const ETHTOOL_F_WISH: i64 = 2;

/// The hash function of RSS, and a table that stays as it is.
pub const ETH_RSS_HASH_TOP: u32 = 1;
pub const ETH_RXFH_INDIR_NO_CHANGE: u32 = u32::MAX;

pub const SPEED_UNKNOWN: u32 = u32::MAX;
pub const DUPLEX_FULL: u8 = 1;
pub const DUPLEX_UNKNOWN: u8 = 0xff;
pub const PORT_OTHER: u8 = 0xff;

/// The features by their bits, as `ethtool -k` names them; empty: no feature.
pub const FEATURES: [&str; 64] = [
    "tx-scatter-gather",
    "tx-checksum-ipv4",
    "",
    "tx-checksum-ip-generic",
    "tx-checksum-ipv6",
    "highdma",
    "tx-scatter-gather-fraglist",
    "tx-vlan-hw-insert",
    "rx-vlan-hw-parse",
    "rx-vlan-filter",
    "vlan-challenged",
    "tx-generic-segmentation",
    "",
    "",
    "rx-gro",
    "rx-lro",
    "tx-tcp-segmentation",
    "tx-gso-robust",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp6-segmentation",
    "tx-fcoe-segmentation",
    "tx-gre-segmentation",
    "tx-gre-csum-segmentation",
    "tx-ipxip4-segmentation",
    "tx-ipxip6-segmentation",
    "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation",
    "tx-gso-partial",
    "tx-tunnel-remcsum-segmentation",
    "tx-sctp-segmentation",
    "tx-esp-segmentation",
    "",
    "tx-udp-segmentation",
    "tx-gso-list",
    "tx-tcp-accecn-segmentation",
    "tx-checksum-fcoe-crc",
    "tx-checksum-sctp",
    "rx-ntuple-filter",
    "rx-hashing",
    "rx-checksum",
    "tx-nocache-copy",
    "loopback",
    "rx-fcs",
    "rx-all",
    "tx-vlan-stag-hw-insert",
    "rx-vlan-stag-hw-parse",
    "rx-vlan-stag-filter",
    "l2-fwd-offload",
    "hw-tc-offload",
    "esp-hw-offload",
    "esp-tx-csum-hw-offload",
    "rx-udp_tunnel-port-offload",
    "tls-hw-tx-offload",
    "tls-hw-rx-offload",
    "rx-gro-hw",
    "tls-hw-record",
    "rx-gro-list",
    "macsec-hw-offload",
    "rx-udp-gro-forwarding",
    "hsr-tag-ins-offload",
    "hsr-tag-rm-offload",
    "hsr-fwd-offload",
    "hsr-dup-offload",
];
