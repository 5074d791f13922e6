//! IP sets as messages: commands, attributes, flags and the errors of their own (`linux/netfilter/ipset/ip_set.h`).

pub const NFNL_SUBSYS_IPSET: u8 = 6;
pub const IPSET_PROTOCOL: u8 = 7;
pub const IPSET_PROTOCOL_MIN: u8 = 6;
/// A name with its zero.
pub const IPSET_MAXNAMELEN: usize = 32;
pub const IPSET_MAX_COMMENT_SIZE: usize = 255;
/// No set.
pub const IPSET_INVALID_ID: u16 = 65535;

pub const IPSET_CMD_PROTOCOL: u8 = 1;
pub const IPSET_CMD_CREATE: u8 = 2;
pub const IPSET_CMD_DESTROY: u8 = 3;
pub const IPSET_CMD_FLUSH: u8 = 4;
pub const IPSET_CMD_RENAME: u8 = 5;
pub const IPSET_CMD_SWAP: u8 = 6;
pub const IPSET_CMD_LIST: u8 = 7;
pub const IPSET_CMD_SAVE: u8 = 8;
pub const IPSET_CMD_ADD: u8 = 9;
pub const IPSET_CMD_DEL: u8 = 10;
pub const IPSET_CMD_TEST: u8 = 11;
pub const IPSET_CMD_HEADER: u8 = 12;
pub const IPSET_CMD_TYPE: u8 = 13;
pub const IPSET_CMD_GET_BYNAME: u8 = 14;
pub const IPSET_CMD_GET_BYINDEX: u8 = 15;

// Of commands
pub const IPSET_ATTR_PROTOCOL: u16 = 1;
pub const IPSET_ATTR_SETNAME: u16 = 2;
pub const IPSET_ATTR_TYPENAME: u16 = 3;
pub const IPSET_ATTR_SETNAME2: u16 = 3;
pub const IPSET_ATTR_REVISION: u16 = 4;
pub const IPSET_ATTR_FAMILY: u16 = 5;
pub const IPSET_ATTR_FLAGS: u16 = 6;
pub const IPSET_ATTR_DATA: u16 = 7;
pub const IPSET_ATTR_ADT: u16 = 8;
pub const IPSET_ATTR_LINENO: u16 = 9;
pub const IPSET_ATTR_PROTOCOL_MIN: u16 = 10;
pub const IPSET_ATTR_INDEX: u16 = 11;
// Of sets and elements
pub const IPSET_ATTR_IP: u16 = 1;
pub const IPSET_ATTR_IP_TO: u16 = 2;
pub const IPSET_ATTR_CIDR: u16 = 3;
pub const IPSET_ATTR_PORT: u16 = 4;
pub const IPSET_ATTR_PORT_TO: u16 = 5;
pub const IPSET_ATTR_TIMEOUT: u16 = 6;
pub const IPSET_ATTR_PROTO: u16 = 7;
pub const IPSET_ATTR_CADT_FLAGS: u16 = 8;
// Of sets
pub const IPSET_ATTR_INITVAL: u16 = 17;
pub const IPSET_ATTR_HASHSIZE: u16 = 18;
pub const IPSET_ATTR_MAXELEM: u16 = 19;
pub const IPSET_ATTR_NETMASK: u16 = 20;
pub const IPSET_ATTR_BUCKETSIZE: u16 = 21;
pub const IPSET_ATTR_SIZE: u16 = 23;
pub const IPSET_ATTR_ELEMENTS: u16 = 24;
pub const IPSET_ATTR_REFERENCES: u16 = 25;
pub const IPSET_ATTR_MEMSIZE: u16 = 26;
// Of elements
pub const IPSET_ATTR_ETHER: u16 = 17;
pub const IPSET_ATTR_NAME: u16 = 18;
pub const IPSET_ATTR_NAMEREF: u16 = 19;
pub const IPSET_ATTR_IP2: u16 = 20;
pub const IPSET_ATTR_CIDR2: u16 = 21;
pub const IPSET_ATTR_IP2_TO: u16 = 22;
pub const IPSET_ATTR_BYTES: u16 = 24;
pub const IPSET_ATTR_PACKETS: u16 = 25;
pub const IPSET_ATTR_COMMENT: u16 = 26;
pub const IPSET_ATTR_SKBMARK: u16 = 27;
pub const IPSET_ATTR_SKBQUEUE: u16 = 29;
// Of an address
pub const IPSET_ATTR_IPADDR_IPV4: u16 = 1;
pub const IPSET_ATTR_IPADDR_IPV6: u16 = 2;
/// Beside an attribute's number: it is in network order.
pub const NLA_F_NET_BYTEORDER: u16 = 1 << 14;

// Flags of commands, also of matches
pub const IPSET_FLAG_EXIST: u32 = 1;
pub const IPSET_FLAG_LIST_SETNAME: u32 = 2;
pub const IPSET_FLAG_LIST_HEADER: u32 = 4;
pub const IPSET_FLAG_SKIP_COUNTER_UPDATE: u32 = 8;
pub const IPSET_FLAG_SKIP_SUBCOUNTER_UPDATE: u32 = 16;
pub const IPSET_FLAG_MATCH_COUNTERS: u32 = 32;
pub const IPSET_FLAG_RETURN_NOMATCH: u32 = 128;
// Flags of sets and elements
pub const IPSET_FLAG_BEFORE: u32 = 1;
pub const IPSET_FLAG_NOMATCH: u32 = 4;
pub const IPSET_FLAG_WITH_COUNTERS: u32 = 8;
pub const IPSET_FLAG_WITH_COMMENT: u32 = 16;
pub const IPSET_FLAG_WITH_FORCEADD: u32 = 32;

pub const IPSET_ERR_PROTOCOL: i32 = 4097;
pub const IPSET_ERR_FIND_TYPE: i32 = 4098;
pub const IPSET_ERR_MAX_SETS: i32 = 4099;
pub const IPSET_ERR_BUSY: i32 = 4100;
pub const IPSET_ERR_EXIST_SETNAME2: i32 = 4101;
pub const IPSET_ERR_TYPE_MISMATCH: i32 = 4102;
pub const IPSET_ERR_EXIST: i32 = 4103;
pub const IPSET_ERR_INVALID_CIDR: i32 = 4104;
pub const IPSET_ERR_INVALID_NETMASK: i32 = 4105;
pub const IPSET_ERR_INVALID_FAMILY: i32 = 4106;
pub const IPSET_ERR_TIMEOUT: i32 = 4107;
pub const IPSET_ERR_REFERENCED: i32 = 4108;
pub const IPSET_ERR_IPADDR_IPV4: i32 = 4109;
pub const IPSET_ERR_IPADDR_IPV6: i32 = 4110;
pub const IPSET_ERR_COUNTER: i32 = 4111;
pub const IPSET_ERR_COMMENT: i32 = 4112;
pub const IPSET_ERR_SKBINFO: i32 = 4114;
// The same numbers mean other things to each kind of set.
pub const IPSET_ERR_HASH_FULL: i32 = 4352;
pub const IPSET_ERR_HASH_ELEM: i32 = 4353;
pub const IPSET_ERR_INVALID_PROTO: i32 = 4354;
pub const IPSET_ERR_MISSING_PROTO: i32 = 4355;
pub const IPSET_ERR_HASH_RANGE_UNSUPPORTED: i32 = 4356;
pub const IPSET_ERR_HASH_RANGE: i32 = 4357;
pub const IPSET_ERR_BITMAP_RANGE: i32 = 4352;
pub const IPSET_ERR_BITMAP_RANGE_SIZE: i32 = 4353;
pub const IPSET_ERR_NAME: i32 = 4352;
pub const IPSET_ERR_LOOP: i32 = 4353;
pub const IPSET_ERR_BEFORE: i32 = 4354;
pub const IPSET_ERR_NAMEREF: i32 = 4355;
pub const IPSET_ERR_LIST_FULL: i32 = 4356;
pub const IPSET_ERR_REF_EXIST: i32 = 4357;

/// The option by which programs ask for the number of a set (`getsockopt` of a raw socket).
pub const SO_IP_SET: i32 = 83;
pub const IP_SET_OP_VERSION: u32 = 0x100;
pub const IP_SET_OP_GET_BYNAME: u32 = 6;
pub const IP_SET_OP_GET_BYINDEX: u32 = 7;
pub const IP_SET_OP_GET_FNAME: u32 = 8;

/// Bits of a match or target: not so, and the source of the n-th part.
pub const IPSET_INV_MATCH: u8 = 1;
pub const IPSET_DIM_ONE_SRC: u8 = 2;
pub const IPSET_DIM_TWO_SRC: u8 = 4;
pub const IPSET_DIM_THREE_SRC: u8 = 8;
pub const IPSET_DIM_MAX: u8 = 6;
