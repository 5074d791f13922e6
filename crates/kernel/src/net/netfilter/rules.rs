//! Rules as data: tables of chains of rules, each a conjunction of matches and one target. Evaluation is in `table.rs`, the
//! words of `iptables` in `words`, the kernel's own layout of all this in `blob`.
use super::Hook;
pub use super::reject_with::{REJECT_TCP_RESET4, REJECT_TCP_RESET6, RejectWith};
use super::xt::Xt;
use super::xt::target::XtTarget;
use std::sync::Arc;

/// The longest chain name, without its terminating zero (`XT_EXTENSION_MAXNAMELEN` less two).
pub const CHAIN_NAME_MAX: usize = 28;
/// Rules and chains that one table may have: what bounds the memory that a program can make us hold.
pub const MAX_RULES: usize = 400_000;
pub const MAX_CHAINS: usize = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableName {
    Filter,
    Nat,
    Mangle,
    Raw,
    Security,
}

impl TableName {
    pub const ALL: [TableName; 5] =
        [TableName::Filter, TableName::Nat, TableName::Mangle, TableName::Raw, TableName::Security];

    pub fn name(self) -> &'static str {
        match self {
            TableName::Filter => "filter",
            TableName::Nat => "nat",
            TableName::Mangle => "mangle",
            TableName::Raw => "raw",
            TableName::Security => "security",
        }
    }

    pub fn parse(name: &str) -> Option<TableName> {
        TableName::ALL.into_iter().find(|t| t.name() == name)
    }

    /// Where the table is consulted.
    pub fn hooks(self) -> &'static [Hook] {
        use Hook::*;
        match self {
            TableName::Filter | TableName::Security => &[LocalIn, Forward, LocalOut],
            TableName::Nat => &[PreRouting, LocalIn, LocalOut, PostRouting],
            TableName::Mangle => &[PreRouting, LocalIn, Forward, LocalOut, PostRouting],
            TableName::Raw => &[PreRouting, LocalOut],
        }
    }
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub packets: u64,
    pub bytes: u64,
}

/// A rule's own running state: no part of what it says, so all of them are equal.
#[derive(Clone, Copy, Debug, Default)]
pub struct State(pub u64);

impl PartialEq for State {
    fn eq(&self, _: &State) -> bool {
        true
    }
}
impl Eq for State {}

/// An address under a mask; IPv4 in the low 32 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Masked {
    pub addr: u128,
    pub mask: u128,
}

/// An interface by name, or by the beginning of its name (`eth+`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IfMatch {
    pub name: [u8; 16],
    pub mask: [u8; 16],
}

impl IfMatch {
    pub fn is_any(&self) -> bool {
        self.mask == [0; 16]
    }

    pub fn parse(word: &str) -> Option<IfMatch> {
        let b = word.as_bytes();
        if b.is_empty() || b.len() > 15 {
            return None;
        }
        let mut m = IfMatch::default();
        m.name[..b.len()].copy_from_slice(b);
        if b.last() == Some(&b'+') {
            m.mask[..b.len() - 1].fill(0xff);
        } else {
            m.mask[..b.len() + 1].fill(0xff);
        }
        Some(m)
    }

    pub fn matches(&self, name: &[u8; 16]) -> bool {
        let all = self.name.iter().zip(&self.mask).zip(name);
        all.fold(0, |miss, ((want, mask), have)| miss | ((want ^ have) & mask)) == 0
    }

    /// As it is written: a mask that ends before the name does is a plus sign.
    pub fn text(&self) -> String {
        let cut = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let masked = self.mask.iter().take_while(|m| **m != 0).count();
        let len = self.name.iter().position(|c| *c == 0).unwrap_or(16);
        if masked > len {
            return cut(&self.name[..len]);
        }
        cut(&self.name[..masked]) + "+"
    }
}

/// What every rule asks of a packet's IP header (`struct ipt_ip`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IpMatch {
    pub src: Masked,
    pub dst: Masked,
    pub iin: IfMatch,
    pub iout: IfMatch,
    /// 0: any.
    pub proto: u16,
    pub frag: bool,
    /// `INV_*`.
    pub inv: u8,
}

pub const INV_VIA_IN: u8 = 1;
pub const INV_VIA_OUT: u8 = 2;
pub const INV_SRC: u8 = 8;
pub const INV_DST: u8 = 0x10;
pub const INV_FRAG: u8 = 0x20;
pub const INV_PROTO: u8 = 0x40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub lo: u16,
    pub hi: u16,
}

impl Ports {
    pub const ANY: Ports = Ports { lo: 0, hi: u16::MAX };

    pub fn contains(self, port: u16) -> bool {
        self.lo <= port && port <= self.hi
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MultiportWhich {
    Source,
    Dest,
    Either,
}

/// `--ctstate`, as bits of `xt_conntrack`.
pub const CT_INVALID: u16 = 1;
pub const CT_ESTABLISHED: u16 = 2;
pub const CT_RELATED: u16 = 4;
pub const CT_NEW: u16 = 8;
pub const CT_SNAT: u16 = 0x40;
pub const CT_DNAT: u16 = 0x80;
pub const CT_UNTRACKED: u16 = 0x100;

/// Which of `-m conntrack`'s questions are asked, and which of them the other way round.
pub const XT_CONNTRACK_STATE: u16 = 1;
pub const XT_CONNTRACK_PROTO: u16 = 1 << 1;
pub const XT_CONNTRACK_ORIGSRC: u16 = 1 << 2;
pub const XT_CONNTRACK_ORIGDST: u16 = 1 << 3;
pub const XT_CONNTRACK_REPLSRC: u16 = 1 << 4;
pub const XT_CONNTRACK_REPLDST: u16 = 1 << 5;
pub const XT_CONNTRACK_STATUS: u16 = 1 << 6;
pub const XT_CONNTRACK_EXPIRES: u16 = 1 << 7;
pub const XT_CONNTRACK_ORIGSRC_PORT: u16 = 1 << 8;
pub const XT_CONNTRACK_ORIGDST_PORT: u16 = 1 << 9;
pub const XT_CONNTRACK_REPLSRC_PORT: u16 = 1 << 10;
pub const XT_CONNTRACK_REPLDST_PORT: u16 = 1 << 11;
pub const XT_CONNTRACK_DIRECTION: u16 = 1 << 12;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CtMatch {
    /// Addresses of both tuples: source and destination of the original, then of the reply.
    pub addrs: [Masked; 4],
    pub ports: [(u16, u16); 4],
    pub proto: u16,
    pub state: u16,
    pub status: u16,
    pub expires: (u32, u32),
    pub flags: u16,
    pub inv: u16,
}

/// Types of addresses, by bit (`XT_ADDRTYPE_*`).
pub const ADDRTYPES: [&str; 12] = [
    "UNSPEC",
    "UNICAST",
    "LOCAL",
    "BROADCAST",
    "ANYCAST",
    "MULTICAST",
    "BLACKHOLE",
    "UNREACHABLE",
    "PROHIBIT",
    "THROW",
    "NAT",
    "XRESOLVE",
];
pub const ADDRTYPE_INV_SRC: u32 = 1;
pub const ADDRTYPE_INV_DST: u32 = 2;
pub const ADDRTYPE_LIMIT_IN: u32 = 4;
pub const ADDRTYPE_LIMIT_OUT: u32 = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    Tcp {
        sport: Ports,
        dport: Ports,
        option: u8,
        flag_mask: u8,
        flag_cmp: u8,
        inv: u8,
    },
    Udp {
        sport: Ports,
        dport: Ports,
        inv: u8,
    },
    /// Of either family; type 255: any.
    Icmp {
        kind: u8,
        code: (u8, u8),
        inv: bool,
    },
    Conntrack(Box<CtMatch>),
    State(u16),
    Comment(Arc<str>),
    Mark {
        mark: u32,
        mask: u32,
        inv: bool,
    },
    Connmark {
        mark: u32,
        mask: u32,
        inv: bool,
    },
    /// A probability of 2^-31 units.
    StatisticRandom {
        p: u32,
        inv: bool,
    },
    StatisticNth {
        every: u32,
        packet: u32,
        inv: bool,
        count: State,
    },
    Addrtype {
        source: u16,
        dest: u16,
        flags: u32,
    },
    Multiport {
        which: MultiportWhich,
        ports: Vec<Ports>,
        inv: bool,
    },
    /// In units of 10 000 a second, as the kernel has it.
    Limit {
        avg: u32,
        burst: u32,
        credit: State,
        prev: State,
    },
    Length {
        min: u16,
        max: u16,
        inv: bool,
    },
    /// Whose socket it comes from: users and groups from-to, what is asked (`OWNER_*`), and what of it is turned round.
    Owner {
        uid: (u32, u32),
        gid: (u32, u32),
        which: u8,
        inv: u8,
    },
    Set(Box<SetMatch>),
    Physdev(Box<PhysdevMatch>),
    /// The rest of them, apart: rules of everyday ones stay small.
    Xt(Box<Xt>),
}

/// Ports of a bridge: what is asked (`XT_PHYSDEV_OP_*`), and what of it is turned round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhysdevMatch {
    pub iin: IfMatch,
    pub iout: IfMatch,
    pub which: u8,
    pub inv: u8,
}

pub const PHYSDEV_IN: u8 = 1;
pub const PHYSDEV_OUT: u8 = 2;
pub const PHYSDEV_BRIDGED: u8 = 4;
pub const PHYSDEV_IS_IN: u8 = 8;
pub const PHYSDEV_IS_OUT: u8 = 16;
pub const PHYSDEV_ALL: u8 = 31;

pub const OWNER_UID: u8 = 1;
pub const OWNER_GID: u8 = 2;
pub const OWNER_SOCKET: u8 = 4;

/// A set as rules name it (`struct xt_set_info`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetRef {
    pub index: u16,
    /// Directions that the rule names, and which of them are sources.
    pub dim: u8,
    pub flags: u8,
    /// It has none before the rule is in its table.
    pub name: Arc<str>,
}

/// What a counter is compared with: 1 equal, 2 not, 3 less, 4 greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetCount {
    pub op: u8,
    pub value: u64,
}

impl SetCount {
    pub fn holds(self, n: u64) -> bool {
        match self.op {
            1 => n == self.value,
            2 => n != self.value,
            3 => n < self.value,
            4 => n > self.value,
            _ => true,
        }
    }
}

/// `struct xt_set_info_match_v4`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetMatch {
    pub set: SetRef,
    pub packets: SetCount,
    pub bytes: SetCount,
    pub flags: u32,
}

/// `struct xt_set_info_target_v2`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetTarget {
    pub add: SetRef,
    pub del: SetRef,
    pub flags: u32,
    /// What an element lives, where the rule says so.
    pub timeout: Option<u32>,
}

pub const TCP_INV_SRCPT: u8 = 1;
pub const TCP_INV_DSTPT: u8 = 2;
pub const TCP_INV_FLAGS: u8 = 4;
pub const TCP_INV_OPTION: u8 = 8;

/// A range of addresses and ports to translate to (`struct nf_nat_range2`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatRange {
    /// `NAT_*` below.
    pub flags: u32,
    pub min: u128,
    pub max: u128,
    pub ports: (u16, u16),
    pub base: u16,
}

pub const NAT_MAP_IPS: u32 = 1;
pub const NAT_PROTO_SPECIFIED: u32 = 2;
pub const NAT_PROTO_RANDOM: u32 = 4;
pub const NAT_PERSISTENT: u32 = 8;
pub const NAT_PROTO_RANDOM_FULLY: u32 = 16;
pub const NAT_PROTO_OFFSET: u32 = 32;
pub const NAT_RANDOM_ALL: u32 = NAT_PROTO_RANDOM | NAT_PROTO_RANDOM_FULLY;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnmarkMode {
    Set,
    Save,
    Restore,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A rule that only counts.
    None,
    Accept,
    Drop,
    Queue,
    Return,
    Jump {
        chain: u32,
        goto: bool,
    },
    Reject(RejectWith),
    Snat(NatRange),
    Dnat(NatRange),
    Masquerade(NatRange),
    Redirect(NatRange),
    /// mark = (mark & !mask) ^ value.
    Mark {
        value: u32,
        mask: u32,
    },
    Connmark {
        mode: ConnmarkMode,
        ctmark: u32,
        ctmask: u32,
        nfmask: u32,
    },
    Log {
        level: u8,
        flags: u8,
        prefix: Arc<str>,
    },
    Nflog(Nflog),
    Set(Box<SetTarget>),
    Tproxy {
        addr: u128,
        port: u16,
        mark: u32,
        mask: u32,
    },
    /// Said as NOTRACK, or as CT --notrack.
    Notrack {
        ct: bool,
    },
    /// A smaller segment size; 0xffff: what the path takes.
    Tcpmss(u16),
    /// The rest of them.
    Xt(Box<XtTarget>),
}

/// `XT_TCPMSS_CLAMP_PMTU`.
pub const TCPMSS_CLAMP: u16 = 0xffff;

/// What a rule shows to the program of a group (`struct xt_nflog_info`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nflog {
    pub group: u16,
    pub prefix: Arc<str>,
    /// Bytes of the packet, where the rule says so.
    pub size: Option<u32>,
    /// An old number of bytes, which says nothing.
    pub range: u32,
    /// Packets that go together; 0: as the program has it.
    pub threshold: u16,
}

/// Bytes of its prefix, with the zero at the end.
pub const NFLOG_PREFIX: usize = 64;

pub const LOG_TCPSEQ: u8 = 1;
pub const LOG_TCPOPT: u8 = 2;
pub const LOG_IPOPT: u8 = 4;
pub const LOG_UID: u8 = 8;
pub const LOG_MACDECODE: u8 = 0x20;

#[derive(Clone, Debug)]
pub struct Rule {
    pub ip: IpMatch,
    pub matches: Vec<Match>,
    pub target: Target,
    pub counters: Counters,
}

impl Rule {
    /// Whether it says the same; counters do not matter.
    pub fn same(&self, o: &Rule) -> bool {
        self.ip == o.ip && self.matches == o.matches && self.target == o.target
    }

    /// Connections have to be tracked for it.
    pub fn needs_conntrack(&self) -> bool {
        self.matches.iter().any(Match::needs_conntrack) || self.target.needs_conntrack()
    }
}

impl Match {
    pub fn as_xt(&self) -> Option<&Xt> {
        if let Match::Xt(x) = self { Some(x) } else { None }
    }

    pub fn needs_conntrack(&self) -> bool {
        match self {
            Match::Conntrack(_) | Match::State(_) | Match::Connmark { .. } => true,
            Match::Xt(x) => x.needs_conntrack(),
            _ => false,
        }
    }
}

impl Target {
    /// It changes addresses, and so belongs into chains of NAT.
    pub fn translates(&self) -> bool {
        use Target::*;
        matches!(self, Snat(_) | Dnat(_) | Masquerade(_) | Redirect(_)) || matches!(self, Xt(x) if x.translates())
    }

    pub fn needs_conntrack(&self) -> bool {
        use Target::*;
        match self {
            Snat(_) | Dnat(_) | Masquerade(_) | Redirect(_) | Connmark { .. } => true,
            Xt(x) => x.needs_conntrack(),
            _ => false,
        }
    }
}

/// What a built-in chain does with packets that no rule decided about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Accept,
    Drop,
}

impl Policy {
    pub fn name(self) -> &'static str {
        if self == Policy::Accept { "ACCEPT" } else { "DROP" }
    }
}

#[derive(Clone, Debug)]
pub struct Chain {
    pub name: Arc<str>,
    /// Built-in chains have a hook and a policy.
    pub base: Option<(Hook, Policy)>,
    /// Of the policy.
    pub counters: Counters,
    pub rules: Vec<Rule>,
}

impl Chain {
    pub fn user(name: &str) -> Chain {
        Chain { name: name.into(), base: None, counters: Counters::default(), rules: Vec::new() }
    }
}

#[derive(Clone, Debug)]
pub struct Table {
    pub name: TableName,
    pub chains: Vec<Chain>,
    /// Which chain a hook begins with.
    pub entry: [Option<u32>; 5],
    /// Where to go on after a chain: as deep as there are chains, because they call each other without loops.
    pub(super) stack: Vec<(u32, u32)>,
}
