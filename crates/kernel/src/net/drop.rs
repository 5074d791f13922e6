//! Why a packet died: the kernel's names (`enum skb_drop_reason`, as tracepoints print them).

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason { $($(#[$doc])* $variant,)* }

        impl DropReason {
            pub const ALL: &[DropReason] = &[$(DropReason::$variant,)*];

            /// The name after `SKB_DROP_REASON_`.
            pub fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name,)* }
            }
        }
    };
}

reasons! {
    NotSpecified = "NOT_SPECIFIED",
    NoSocket = "NO_SOCKET",
    PktTooSmall = "PKT_TOO_SMALL",
    TcpCsum = "TCP_CSUM",
    SocketFilter = "SOCKET_FILTER",
    UdpCsum = "UDP_CSUM",
    SkbCsum = "SKB_CSUM",
    OtherHost = "OTHERHOST",
    IpCsum = "IP_CSUM",
    IpInHdr = "IP_INHDR",
    IpRpFilter = "IP_RPFILTER",
    UnicastInL2Multicast = "UNICAST_IN_L2_MULTICAST",
    IpNoProto = "IP_NOPROTO",
    IcmpCsum = "ICMP_CSUM",
    Ipv6Disabled = "IPV6DISABLED",
    Ipv6NdiscFrag = "IPV6_NDISC_FRAG",
    Ipv6NdiscHopLimit = "IPV6_NDISC_HOP_LIMIT",
    Ipv6NdiscBadOptions = "IPV6_NDISC_BAD_OPTIONS",
    IpInAddrErrors = "IP_INADDRERRORS",
    IpInNoRoutes = "IP_INNOROUTES",
    IpLocalSource = "IP_LOCAL_SOURCE",
    IpInvalidSource = "IP_INVALID_SOURCE",
    IpLocalnet = "IP_LOCALNET",
    IpInvalidDest = "IP_INVALID_DEST",
    ProtoMem = "PROTO_MEM",
    SocketRcvbuff = "SOCKET_RCVBUFF",
    TcpFlags = "TCP_FLAGS",
    TcpAbortOnData = "TCP_ABORT_ON_DATA",
    TcpZeroWindow = "TCP_ZEROWINDOW",
    TcpOldData = "TCP_OLD_DATA",
    TcpOverwindow = "TCP_OVERWINDOW",
    TcpOfomerge = "TCP_OFOMERGE",
    TcpRfc7323Paws = "TCP_RFC7323_PAWS",
    TcpRfc7323PawsAck = "TCP_RFC7323_PAWS_ACK",
    TcpRfc7323TwPaws = "TCP_RFC7323_TW_PAWS",
    TcpListenOverflow = "TCP_LISTEN_OVERFLOW",
    TcpReqQFull = "TCP_REQQ_FULL",
    TcpOldSequence = "TCP_OLD_SEQUENCE",
    TcpInvalidSequence = "TCP_INVALID_SEQUENCE",
    TcpInvalidEndSequence = "TCP_INVALID_END_SEQUENCE",
    TcpInvalidAckSequence = "TCP_INVALID_ACK_SEQUENCE",
    TcpReset = "TCP_RESET",
    TcpInvalidSyn = "TCP_INVALID_SYN",
    TcpClose = "TCP_CLOSE",
    TcpMinTtl = "TCP_MINTTL",
    TcpMd5NotFound = "TCP_MD5NOTFOUND",
    TcpMd5Unexpected = "TCP_MD5UNEXPECTED",
    TcpMd5Failure = "TCP_MD5FAILURE",
    TcpFastopen = "TCP_FASTOPEN",
    TcpTooOldAck = "TCP_TOO_OLD_ACK",
    TcpAckUnsentData = "TCP_ACK_UNSENT_DATA",
    TcpOfoQueuePrune = "TCP_OFO_QUEUE_PRUNE",
    TcpOfoDrop = "TCP_OFO_DROP",
    NetfilterDrop = "NETFILTER_DROP",
    IpOutNoRoutes = "IP_OUTNOROUTES",
    NeighCreateFail = "NEIGH_CREATEFAIL",
    NeighFailed = "NEIGH_FAILED",
    NeighQueueFull = "NEIGH_QUEUEFULL",
    NeighDead = "NEIGH_DEAD",
    NeighHhFillFail = "NEIGH_HH_FILLFAIL",
    QdiscDrop = "QDISC_DROP",
    TcIngress = "TC_INGRESS",
    TcEgress = "TC_EGRESS",
    QdiscOverlimit = "QDISC_OVERLIMIT",
    QdiscCongested = "QDISC_CONGESTED",
    FqBandLimit = "FQ_BAND_LIMIT",
    FqHorizonLimit = "FQ_HORIZON_LIMIT",
    FqFlowLimit = "FQ_FLOW_LIMIT",
    CpuBacklog = "CPU_BACKLOG",
    Xdp = "XDP",
    UnhandledProto = "UNHANDLED_PROTO",
    NoMem = "NOMEM",
    HdrTrunc = "HDR_TRUNC",
    FullRing = "FULL_RING",
    DevHdr = "DEV_HDR",
    DevReady = "DEV_READY",
    BridgeIngressStpState = "BRIDGE_INGRESS_STP_STATE",
    VxlanInvalidHdr = "VXLAN_INVALID_HDR",
    VxlanVniNotFound = "VXLAN_VNI_NOT_FOUND",
    MacInvalidSource = "MAC_INVALID_SOURCE",
    VxlanEntryExists = "VXLAN_ENTRY_EXISTS",
    NoTxTarget = "NO_TX_TARGET",
    IpTunnelEcn = "IP_TUNNEL_ECN",
    LocalMac = "LOCAL_MAC",
    DupFrag = "DUP_FRAG",
    FragReasmTimeout = "FRAG_REASM_TIMEOUT",
    FragTooFar = "FRAG_TOO_FAR",
    PktTooBig = "PKT_TOO_BIG",
    InvalidIcmp = "INVALID_ICMP",
    PacketSockError = "PACKET_SOCK_ERROR",
    SocketClose = "SOCKET_CLOSE",
    SocketDestroyed = "SOCKET_DESTROYED",
    QueuePurge = "QUEUE_PURGE",
    /// Lost on a link between two hosts; not a reason of Linux, whose wire is real.
    LinkLoss = "BELLJAR_LINK_LOSS",
    /// The link's own queue was full.
    LinkLimit = "BELLJAR_LINK_LIMIT",
}

impl std::fmt::Display for DropReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
