//! NETLINK_GENERIC: the controller `nlctrl` and the family `ethtool` (`linux/genetlink.h`, `linux/ethtool_netlink.h`).

/// `struct genlmsghdr`: command, version, reserved.
pub const GENL_HDRLEN: usize = 4;
/// The controller's id.
pub const GENL_ID_CTRL: u16 = 0x10;

pub const CTRL_CMD_NEWFAMILY: u8 = 1;
pub const CTRL_CMD_GETFAMILY: u8 = 3;
pub const CTRL_CMD_GETPOLICY: u8 = 10;
pub const CTRL_ATTR_FAMILY_ID: u16 = 1;
pub const CTRL_ATTR_FAMILY_NAME: u16 = 2;
pub const CTRL_ATTR_VERSION: u16 = 3;
pub const CTRL_ATTR_HDRSIZE: u16 = 4;
pub const CTRL_ATTR_MAXATTR: u16 = 5;
pub const CTRL_ATTR_OPS: u16 = 6;
pub const CTRL_ATTR_MCAST_GROUPS: u16 = 7;
pub const CTRL_ATTR_OP_ID: u16 = 1;
pub const CTRL_ATTR_OP_FLAGS: u16 = 2;
pub const CTRL_ATTR_MCAST_GRP_NAME: u16 = 1;
pub const CTRL_ATTR_MCAST_GRP_ID: u16 = 2;

// Flags of an operation.
pub const GENL_CMD_CAP_DO: u32 = 2;
pub const GENL_CMD_CAP_DUMP: u32 = 4;
pub const GENL_CMD_CAP_HASPOL: u32 = 8;
pub const GENL_UNS_ADMIN_PERM: u32 = 0x10;

// Requests of the family `ethtool`
pub const ETHTOOL_MSG_STRSET_GET: u8 = 1;
pub const ETHTOOL_MSG_LINKINFO_GET: u8 = 2;
pub const ETHTOOL_MSG_LINKMODES_GET: u8 = 4;
pub const ETHTOOL_MSG_LINKSTATE_GET: u8 = 6;
pub const ETHTOOL_MSG_FEATURES_GET: u8 = 11;
pub const ETHTOOL_MSG_FEATURES_SET: u8 = 12;
pub const ETHTOOL_MSG_RINGS_GET: u8 = 15;
pub const ETHTOOL_MSG_RINGS_SET: u8 = 16;
pub const ETHTOOL_MSG_CHANNELS_GET: u8 = 17;
pub const ETHTOOL_MSG_CHANNELS_SET: u8 = 18;
pub const ETHTOOL_MSG_COALESCE_GET: u8 = 19;
pub const ETHTOOL_MSG_COALESCE_SET: u8 = 20;
pub const ETHTOOL_MSG_TSINFO_GET: u8 = 25;
/// The last request of 6.18.
pub const ETHTOOL_MSG_DEBUG_GET: u8 = 7;
pub const ETHTOOL_MSG_DEBUG_SET: u8 = 8;
pub const ETHTOOL_MSG_WOL_GET: u8 = 9;
pub const ETHTOOL_MSG_WOL_SET: u8 = 10;
pub const ETHTOOL_MSG_PRIVFLAGS_GET: u8 = 13;
pub const ETHTOOL_MSG_PRIVFLAGS_SET: u8 = 14;
pub const ETHTOOL_MSG_PAUSE_GET: u8 = 21;
pub const ETHTOOL_MSG_PAUSE_SET: u8 = 22;
pub const ETHTOOL_MSG_EEE_GET: u8 = 23;
pub const ETHTOOL_MSG_EEE_SET: u8 = 24;
pub const ETHTOOL_MSG_FEC_GET: u8 = 29;
pub const ETHTOOL_MSG_FEC_SET: u8 = 30;
pub const ETHTOOL_MSG_LINKINFO_SET: u8 = 3;
pub const ETHTOOL_MSG_LINKMODES_SET: u8 = 5;
pub const ETHTOOL_MSG_TUNNEL_INFO_GET: u8 = 28;
pub const ETHTOOL_MSG_MODULE_EEPROM_GET: u8 = 31;
pub const ETHTOOL_MSG_MODULE_GET: u8 = 34;
pub const ETHTOOL_MSG_MODULE_SET: u8 = 35;
pub const ETHTOOL_MSG_MODULE_GET_REPLY: u8 = 35;
pub const ETHTOOL_A_MODULE_POWER_MODE_POLICY: u16 = 2;
pub const ETHTOOL_MSG_USER_MAX: u8 = 50;

// Their answers
pub const ETHTOOL_MSG_STRSET_GET_REPLY: u8 = 1;
pub const ETHTOOL_MSG_LINKINFO_GET_REPLY: u8 = 2;
pub const ETHTOOL_MSG_LINKMODES_GET_REPLY: u8 = 4;
pub const ETHTOOL_MSG_LINKSTATE_GET_REPLY: u8 = 6;
pub const ETHTOOL_MSG_FEATURES_GET_REPLY: u8 = 11;
pub const ETHTOOL_MSG_FEATURES_SET_REPLY: u8 = 12;
pub const ETHTOOL_MSG_RINGS_GET_REPLY: u8 = 16;
pub const ETHTOOL_MSG_CHANNELS_GET_REPLY: u8 = 18;
pub const ETHTOOL_MSG_COALESCE_GET_REPLY: u8 = 20;
pub const ETHTOOL_MSG_TSINFO_GET_REPLY: u8 = 26;

/// The first attribute of every request and answer, and what is in it.
pub const ETHTOOL_A_HEADER: u16 = 1;
pub const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
pub const ETHTOOL_A_HEADER_DEV_NAME: u16 = 2;
pub const ETHTOOL_A_HEADER_FLAGS: u16 = 3;
pub const ETHTOOL_FLAG_COMPACT_BITSETS: u32 = 1;
pub const ETHTOOL_FLAG_OMIT_REPLY: u32 = 2;

pub const ETHTOOL_A_BITSET_NOMASK: u16 = 1;
pub const ETHTOOL_A_BITSET_SIZE: u16 = 2;
pub const ETHTOOL_A_BITSET_BITS: u16 = 3;
pub const ETHTOOL_A_BITSET_VALUE: u16 = 4;
pub const ETHTOOL_A_BITSET_MASK: u16 = 5;
pub const ETHTOOL_A_BITSET_BITS_BIT: u16 = 1;
pub const ETHTOOL_A_BITSET_BIT_INDEX: u16 = 1;
pub const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;
pub const ETHTOOL_A_BITSET_BIT_VALUE: u16 = 3;

pub const ETHTOOL_A_STRSET_STRINGSETS: u16 = 2;
pub const ETHTOOL_A_STRSET_COUNTS_ONLY: u16 = 3;
pub const ETHTOOL_A_STRINGSETS_STRINGSET: u16 = 1;
pub const ETHTOOL_A_STRINGSET_ID: u16 = 1;
pub const ETHTOOL_A_STRINGSET_COUNT: u16 = 2;
pub const ETHTOOL_A_STRINGSET_STRINGS: u16 = 3;
pub const ETHTOOL_A_STRINGS_STRING: u16 = 1;
pub const ETHTOOL_A_STRING_INDEX: u16 = 1;
pub const ETHTOOL_A_STRING_VALUE: u16 = 2;

pub const ETHTOOL_A_LINKINFO_PORT: u16 = 2;
pub const ETHTOOL_A_LINKINFO_PHYADDR: u16 = 3;
pub const ETHTOOL_A_LINKINFO_TP_MDIX: u16 = 4;
pub const ETHTOOL_A_LINKINFO_TP_MDIX_CTRL: u16 = 5;
pub const ETHTOOL_A_LINKINFO_TRANSCEIVER: u16 = 6;
pub const ETHTOOL_A_LINKMODES_AUTONEG: u16 = 2;
pub const ETHTOOL_A_LINKMODES_OURS: u16 = 3;
pub const ETHTOOL_A_LINKMODES_SPEED: u16 = 5;
pub const ETHTOOL_A_LINKMODES_DUPLEX: u16 = 6;
pub const ETHTOOL_A_LINKMODES_RATE_MATCHING: u16 = 10;
pub const ETHTOOL_A_LINKSTATE_LINK: u16 = 2;
pub const ETHTOOL_A_FEATURES_HW: u16 = 2;
pub const ETHTOOL_A_FEATURES_WANTED: u16 = 3;
pub const ETHTOOL_A_FEATURES_ACTIVE: u16 = 4;
pub const ETHTOOL_A_FEATURES_NOCHANGE: u16 = 5;
/// RX, RX mini, RX jumbo, TX: the maxima, and behind them as many of what is.
pub const ETHTOOL_A_RINGS_RX_MAX: u16 = 2;
pub const ETHTOOL_A_RINGS_RX: u16 = 6;
pub const ETHTOOL_A_RINGS_TX_PUSH: u16 = 13;
pub const ETHTOOL_A_RINGS_RX_PUSH: u16 = 14;
/// RX, TX, other, combined: the maxima, and behind them as many of what is.
pub const ETHTOOL_A_CHANNELS_RX_MAX: u16 = 2;
pub const ETHTOOL_A_CHANNELS_RX_COUNT: u16 = 6;
/// In the order of `struct ethtool_coalesce`.
pub const ETHTOOL_A_COALESCE_RX_USECS: u16 = 2;
pub const ETHTOOL_A_COALESCE_MAX: u16 = 31;
pub const ETHTOOL_A_TSINFO_TIMESTAMPING: u16 = 2;

/// `SOF_TIMESTAMPING_*` by their bits.
pub const SOF_NAMES: [&str; 19] = [
    "hardware-transmit",
    "software-transmit",
    "hardware-receive",
    "software-receive",
    "software-system-clock",
    "hardware-legacy-clock",
    "hardware-raw-clock",
    "option-id",
    "sched-transmit",
    "ack-transmit",
    "option-cmsg",
    "option-tsonly",
    "option-stats",
    "option-pktinfo",
    "option-tx-swhw",
    "bind-phc",
    "option-id-tcp",
    "option-rx-filter",
    "tx-completion",
];
/// Link modes that 6.18 knows.
pub const LINK_MODES: u32 = 121;
