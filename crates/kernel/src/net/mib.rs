//! The counters of a namespace (`/proc/net/snmp`, `/proc/net/netstat`): the kernel's names, in the kernel's order, moved
//! where the kernel moves them. Names as of Linux 6.18; what cannot move stands as `never("why")` and prints 0. Which of the
//! others are moved by which tests: `cargo xtask coverage`, docs/coverage.md.

macro_rules! mibs {
    ($($group:literal { $($variant:ident = $name:literal $(never($why:literal))?,)* })*) => {
        /// A counter. The first part of the name is its group, the rest the name within it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(clippy::enum_variant_names)]
        #[repr(u16)]
        pub enum Mib { $($($variant,)*)* }

        /// Groups in the order of the files, with their counters.
        pub const GROUPS: &[(&str, &[(Mib, &str)])] = &[$(($group, &[$((Mib::$variant, $name),)*]),)*];

        /// Counters that stand still here, and why; they print 0.
        pub const NEVER: &[(Mib, &str)] = &[$($($((Mib::$variant, $why),)?)*)*];

        const COUNT: usize = [$($(Mib::$variant,)*)*].len();
    };
}

mibs! {
    "Ip" {
        IpForwarding = "Forwarding",
        IpDefaultTTL = "DefaultTTL",
        IpInReceives = "InReceives",
        IpInHdrErrors = "InHdrErrors",
        IpInAddrErrors = "InAddrErrors",
        IpForwDatagrams = "ForwDatagrams",
        IpInUnknownProtos = "InUnknownProtos",
        IpInDiscards = "InDiscards" never("Linux moves it when there is no memory for a copy; here none is refused"),
        IpInDelivers = "InDelivers",
        IpOutRequests = "OutRequests",
        IpOutDiscards = "OutDiscards",
        IpOutNoRoutes = "OutNoRoutes",
        IpReasmTimeout = "ReasmTimeout",
        IpReasmReqds = "ReasmReqds",
        IpReasmOKs = "ReasmOKs",
        IpReasmFails = "ReasmFails",
        IpFragOKs = "FragOKs",
        IpFragFails = "FragFails",
        IpFragCreates = "FragCreates",
        IpOutTransmits = "OutTransmits",
    }
    "Icmp" {
        IcmpInMsgs = "InMsgs",
        IcmpInErrors = "InErrors",
        IcmpInCsumErrors = "InCsumErrors",
        IcmpInDestUnreachs = "InDestUnreachs",
        IcmpInTimeExcds = "InTimeExcds",
        IcmpInParmProbs = "InParmProbs",
        IcmpInSrcQuenchs = "InSrcQuenchs",
        IcmpInRedirects = "InRedirects",
        IcmpInEchos = "InEchos",
        IcmpInEchoReps = "InEchoReps",
        IcmpInTimestamps = "InTimestamps",
        IcmpInTimestampReps = "InTimestampReps",
        IcmpInAddrMasks = "InAddrMasks",
        IcmpInAddrMaskReps = "InAddrMaskReps",
        IcmpOutMsgs = "OutMsgs",
        IcmpOutErrors = "OutErrors" never("Linux moves it when an answer cannot be put together; here none is refused memory"),
        IcmpOutRateLimitGlobal = "OutRateLimitGlobal",
        IcmpOutRateLimitHost = "OutRateLimitHost",
        IcmpOutDestUnreachs = "OutDestUnreachs",
        IcmpOutTimeExcds = "OutTimeExcds",
        IcmpOutParmProbs = "OutParmProbs",
        IcmpOutSrcQuenchs = "OutSrcQuenchs",
        IcmpOutRedirects = "OutRedirects",
        IcmpOutEchos = "OutEchos",
        IcmpOutEchoReps = "OutEchoReps",
        IcmpOutTimestamps = "OutTimestamps",
        IcmpOutTimestampReps = "OutTimestampReps",
        IcmpOutAddrMasks = "OutAddrMasks",
        IcmpOutAddrMaskReps = "OutAddrMaskReps",
    }
    "Tcp" {
        TcpRtoAlgorithm = "RtoAlgorithm",
        TcpRtoMin = "RtoMin",
        TcpRtoMax = "RtoMax",
        TcpMaxConn = "MaxConn",
        TcpActiveOpens = "ActiveOpens",
        TcpPassiveOpens = "PassiveOpens",
        TcpAttemptFails = "AttemptFails",
        TcpEstabResets = "EstabResets",
        TcpCurrEstab = "CurrEstab",
        TcpInSegs = "InSegs",
        TcpOutSegs = "OutSegs",
        TcpRetransSegs = "RetransSegs",
        TcpInErrs = "InErrs",
        TcpOutRsts = "OutRsts",
        TcpInCsumErrors = "InCsumErrors",
    }
    "Udp" {
        UdpInDatagrams = "InDatagrams",
        UdpNoPorts = "NoPorts",
        UdpInErrors = "InErrors",
        UdpOutDatagrams = "OutDatagrams",
        UdpRcvbufErrors = "RcvbufErrors",
        UdpSndbufErrors = "SndbufErrors",
        UdpInCsumErrors = "InCsumErrors",
        UdpIgnoredMulti = "IgnoredMulti",
        UdpMemErrors = "MemErrors",
    }
    "TcpExt" {
        TcpExtSyncookiesSent = "SyncookiesSent",
        TcpExtSyncookiesRecv = "SyncookiesRecv",
        TcpExtSyncookiesFailed = "SyncookiesFailed",
        TcpExtEmbryonicRsts = "EmbryonicRsts",
        TcpExtPruneCalled = "PruneCalled",
        TcpExtRcvPruned = "RcvPruned",
        TcpExtOfoPruned = "OfoPruned",
        TcpExtOutOfWindowIcmps = "OutOfWindowIcmps",
        TcpExtLockDroppedIcmps = "LockDroppedIcmps" never("a step finds no socket held by a user"),
        TcpExtArpFilter = "ArpFilter",
        TcpExtTW = "TW",
        TcpExtTWRecycled = "TWRecycled",
        TcpExtTWKilled = "TWKilled",
        TcpExtPAWSActive = "PAWSActive",
        TcpExtPAWSEstab = "PAWSEstab",
        TcpExtBeyondWindow = "BeyondWindow",
        TcpExtTSEcrRejected = "TSEcrRejected",
        TcpExtPAWSOldAck = "PAWSOldAck",
        TcpExtPAWSTimewait = "PAWSTimewait",
        TcpExtDelayedACKs = "DelayedACKs",
        TcpExtDelayedACKLocked = "DelayedACKLocked" never("a step finds no socket held by a user"),
        TcpExtDelayedACKLost = "DelayedACKLost",
        TcpExtListenOverflows = "ListenOverflows",
        TcpExtListenDrops = "ListenDrops",
        TcpExtTCPHPHits = "TCPHPHits",
        TcpExtTCPPureAcks = "TCPPureAcks",
        TcpExtTCPHPAcks = "TCPHPAcks",
        TcpExtTCPRenoRecovery = "TCPRenoRecovery",
        TcpExtTCPSackRecovery = "TCPSackRecovery",
        TcpExtTCPSACKReneging = "TCPSACKReneging",
        TcpExtTCPSACKReorder = "TCPSACKReorder",
        TcpExtTCPRenoReorder = "TCPRenoReorder",
        TcpExtTCPTSReorder = "TCPTSReorder",
        TcpExtTCPFullUndo = "TCPFullUndo",
        TcpExtTCPPartialUndo = "TCPPartialUndo",
        TcpExtTCPDSACKUndo = "TCPDSACKUndo",
        TcpExtTCPLossUndo = "TCPLossUndo",
        TcpExtTCPLostRetransmit = "TCPLostRetransmit",
        TcpExtTCPRenoFailures = "TCPRenoFailures",
        TcpExtTCPSackFailures = "TCPSackFailures",
        TcpExtTCPLossFailures = "TCPLossFailures",
        TcpExtTCPFastRetrans = "TCPFastRetrans",
        TcpExtTCPSlowStartRetrans = "TCPSlowStartRetrans",
        TcpExtTCPTimeouts = "TCPTimeouts",
        TcpExtTCPLossProbes = "TCPLossProbes",
        TcpExtTCPLossProbeRecovery = "TCPLossProbeRecovery",
        TcpExtTCPRenoRecoveryFail = "TCPRenoRecoveryFail",
        TcpExtTCPSackRecoveryFail = "TCPSackRecoveryFail",
        TcpExtTCPRcvCollapsed = "TCPRcvCollapsed",
        TcpExtTCPBacklogCoalesce = "TCPBacklogCoalesce" never("a step finds no socket held by a user: there is no socket backlog"),
        TcpExtTCPDSACKOldSent = "TCPDSACKOldSent",
        TcpExtTCPDSACKOfoSent = "TCPDSACKOfoSent",
        TcpExtTCPDSACKRecv = "TCPDSACKRecv",
        TcpExtTCPDSACKOfoRecv = "TCPDSACKOfoRecv",
        TcpExtTCPAbortOnData = "TCPAbortOnData",
        TcpExtTCPAbortOnClose = "TCPAbortOnClose",
        TcpExtTCPAbortOnMemory = "TCPAbortOnMemory",
        TcpExtTCPAbortOnTimeout = "TCPAbortOnTimeout",
        TcpExtTCPAbortOnLinger = "TCPAbortOnLinger",
        TcpExtTCPAbortFailed = "TCPAbortFailed" never("Linux moves it when a reset cannot be allocated; here none is refused memory"),
        TcpExtTCPMemoryPressures = "TCPMemoryPressures",
        TcpExtTCPMemoryPressuresChrono = "TCPMemoryPressuresChrono",
        TcpExtTCPSACKDiscard = "TCPSACKDiscard",
        TcpExtTCPDSACKIgnoredOld = "TCPDSACKIgnoredOld",
        TcpExtTCPDSACKIgnoredNoUndo = "TCPDSACKIgnoredNoUndo",
        TcpExtTCPSpuriousRTOs = "TCPSpuriousRTOs",
        TcpExtTCPMD5NotFound = "TCPMD5NotFound",
        TcpExtTCPMD5Unexpected = "TCPMD5Unexpected",
        TcpExtTCPMD5Failure = "TCPMD5Failure",
        TcpExtTCPSackShifted = "TCPSackShifted",
        TcpExtTCPSackMerged = "TCPSackMerged",
        TcpExtTCPSackShiftFallback = "TCPSackShiftFallback",
        TcpExtTCPBacklogDrop = "TCPBacklogDrop" never("a step finds no socket held by a user: there is no socket backlog"),
        TcpExtPFMemallocDrop = "PFMemallocDrop" never("there are no packets from reserves"),
        TcpExtTCPMinTTLDrop = "TCPMinTTLDrop",
        TcpExtTCPDeferAcceptDrop = "TCPDeferAcceptDrop",
        TcpExtIPReversePathFilter = "IPReversePathFilter",
        TcpExtTCPTimeWaitOverflow = "TCPTimeWaitOverflow",
        TcpExtTCPReqQFullDoCookies = "TCPReqQFullDoCookies",
        TcpExtTCPReqQFullDrop = "TCPReqQFullDrop",
        TcpExtTCPRetransFail = "TCPRetransFail",
        TcpExtTCPRcvCoalesce = "TCPRcvCoalesce",
        TcpExtTCPOFOQueue = "TCPOFOQueue",
        TcpExtTCPOFODrop = "TCPOFODrop",
        TcpExtTCPOFOMerge = "TCPOFOMerge",
        TcpExtTCPChallengeACK = "TCPChallengeACK",
        TcpExtTCPSYNChallenge = "TCPSYNChallenge",
        TcpExtTCPFastOpenActive = "TCPFastOpenActive",
        TcpExtTCPFastOpenActiveFail = "TCPFastOpenActiveFail",
        TcpExtTCPFastOpenPassive = "TCPFastOpenPassive",
        TcpExtTCPFastOpenPassiveFail = "TCPFastOpenPassiveFail",
        TcpExtTCPFastOpenListenOverflow = "TCPFastOpenListenOverflow",
        TcpExtTCPFastOpenCookieReqd = "TCPFastOpenCookieReqd",
        TcpExtTCPFastOpenBlackhole = "TCPFastOpenBlackhole",
        TcpExtTCPSpuriousRtxHostQueues = "TCPSpuriousRtxHostQueues" never("a packet of the own host is never still queued when it is sent again"),
        TcpExtBusyPollRxPackets = "BusyPollRxPackets",
        TcpExtTCPAutoCorking = "TCPAutoCorking",
        TcpExtTCPFromZeroWindowAdv = "TCPFromZeroWindowAdv",
        TcpExtTCPToZeroWindowAdv = "TCPToZeroWindowAdv",
        TcpExtTCPWantZeroWindowAdv = "TCPWantZeroWindowAdv",
        TcpExtTCPSynRetrans = "TCPSynRetrans",
        TcpExtTCPOrigDataSent = "TCPOrigDataSent",
        TcpExtTCPHystartTrainDetect = "TCPHystartTrainDetect",
        TcpExtTCPHystartTrainCwnd = "TCPHystartTrainCwnd",
        TcpExtTCPHystartDelayDetect = "TCPHystartDelayDetect",
        TcpExtTCPHystartDelayCwnd = "TCPHystartDelayCwnd",
        TcpExtTCPACKSkippedSynRecv = "TCPACKSkippedSynRecv",
        TcpExtTCPACKSkippedPAWS = "TCPACKSkippedPAWS",
        TcpExtTCPACKSkippedSeq = "TCPACKSkippedSeq",
        TcpExtTCPACKSkippedFinWait2 = "TCPACKSkippedFinWait2",
        TcpExtTCPACKSkippedTimeWait = "TCPACKSkippedTimeWait",
        TcpExtTCPACKSkippedChallenge = "TCPACKSkippedChallenge",
        TcpExtTCPWinProbe = "TCPWinProbe",
        TcpExtTCPKeepAlive = "TCPKeepAlive",
        TcpExtTCPMTUPFail = "TCPMTUPFail",
        TcpExtTCPMTUPSuccess = "TCPMTUPSuccess",
        TcpExtTCPDelivered = "TCPDelivered",
        TcpExtTCPDeliveredCE = "TCPDeliveredCE",
        TcpExtTCPAckCompressed = "TCPAckCompressed",
        TcpExtTCPZeroWindowDrop = "TCPZeroWindowDrop",
        TcpExtTCPRcvQDrop = "TCPRcvQDrop",
        TcpExtTCPWqueueTooBig = "TCPWqueueTooBig",
        TcpExtTCPFastOpenPassiveAltKey = "TCPFastOpenPassiveAltKey",
        TcpExtTcpTimeoutRehash = "TcpTimeoutRehash",
        TcpExtTcpDuplicateDataRehash = "TcpDuplicateDataRehash" never("PLB is not implemented"),
        TcpExtTCPDSACKRecvSegs = "TCPDSACKRecvSegs",
        TcpExtTCPDSACKIgnoredDubious = "TCPDSACKIgnoredDubious",
        TcpExtTCPMigrateReqSuccess = "TCPMigrateReqSuccess",
        TcpExtTCPMigrateReqFailure = "TCPMigrateReqFailure",
        TcpExtTCPPLBRehash = "TCPPLBRehash" never("PLB is not implemented"),
        TcpExtTCPAORequired = "TCPAORequired" never("TCP-AO is not implemented"),
        TcpExtTCPAOBad = "TCPAOBad" never("TCP-AO is not implemented"),
        TcpExtTCPAOKeyNotFound = "TCPAOKeyNotFound" never("TCP-AO is not implemented"),
        TcpExtTCPAOGood = "TCPAOGood" never("TCP-AO is not implemented"),
        TcpExtTCPAODroppedIcmps = "TCPAODroppedIcmps" never("TCP-AO is not implemented"),
    }
    "IpExt" {
        IpExtInNoRoutes = "InNoRoutes",
        IpExtInTruncatedPkts = "InTruncatedPkts",
        IpExtInMcastPkts = "InMcastPkts",
        IpExtOutMcastPkts = "OutMcastPkts",
        IpExtInBcastPkts = "InBcastPkts",
        IpExtOutBcastPkts = "OutBcastPkts",
        IpExtInOctets = "InOctets",
        IpExtOutOctets = "OutOctets",
        IpExtInMcastOctets = "InMcastOctets",
        IpExtOutMcastOctets = "OutMcastOctets",
        IpExtInBcastOctets = "InBcastOctets",
        IpExtOutBcastOctets = "OutBcastOctets",
        IpExtInCsumErrors = "InCsumErrors",
        IpExtInNoECTPkts = "InNoECTPkts",
        IpExtInECT1Pkts = "InECT1Pkts",
        IpExtInECT0Pkts = "InECT0Pkts",
        IpExtInCEPkts = "InCEPkts",
        IpExtReasmOverlaps = "ReasmOverlaps",
    }
    "Ip6" {
        Ip6InReceives = "InReceives",
        Ip6InHdrErrors = "InHdrErrors",
        Ip6InTooBigErrors = "InTooBigErrors",
        Ip6InNoRoutes = "InNoRoutes",
        Ip6InAddrErrors = "InAddrErrors",
        Ip6InUnknownProtos = "InUnknownProtos",
        Ip6InTruncatedPkts = "InTruncatedPkts",
        Ip6InDiscards = "InDiscards",
        Ip6InDelivers = "InDelivers",
        Ip6OutForwDatagrams = "OutForwDatagrams",
        Ip6OutRequests = "OutRequests",
        Ip6OutDiscards = "OutDiscards",
        Ip6OutNoRoutes = "OutNoRoutes",
        Ip6ReasmTimeout = "ReasmTimeout",
        Ip6ReasmReqds = "ReasmReqds",
        Ip6ReasmOKs = "ReasmOKs",
        Ip6ReasmFails = "ReasmFails",
        Ip6FragOKs = "FragOKs",
        Ip6FragFails = "FragFails",
        Ip6FragCreates = "FragCreates",
        Ip6InMcastPkts = "InMcastPkts",
        Ip6OutMcastPkts = "OutMcastPkts",
        Ip6InOctets = "InOctets",
        Ip6OutOctets = "OutOctets",
        Ip6InMcastOctets = "InMcastOctets",
        Ip6OutMcastOctets = "OutMcastOctets",
        Ip6InBcastOctets = "InBcastOctets" never("IPv6 has no broadcast"),
        Ip6OutBcastOctets = "OutBcastOctets" never("IPv6 has no broadcast"),
        Ip6InNoECTPkts = "InNoECTPkts",
        Ip6InECT1Pkts = "InECT1Pkts",
        Ip6InECT0Pkts = "InECT0Pkts",
        Ip6InCEPkts = "InCEPkts",
        Ip6OutTransmits = "OutTransmits",
    }
    "Icmp6" {
        Icmp6InMsgs = "InMsgs",
        Icmp6InErrors = "InErrors",
        Icmp6OutMsgs = "OutMsgs",
        Icmp6OutErrors = "OutErrors" never("Linux moves it when an answer cannot be put together; here none is refused memory"),
        Icmp6InCsumErrors = "InCsumErrors",
        Icmp6OutRateLimitHost = "OutRateLimitHost",
        Icmp6InDestUnreachs = "InDestUnreachs",
        Icmp6InPktTooBigs = "InPktTooBigs",
        Icmp6InTimeExcds = "InTimeExcds",
        Icmp6InParmProblems = "InParmProblems",
        Icmp6InEchos = "InEchos",
        Icmp6InEchoReplies = "InEchoReplies",
        Icmp6InGroupMembQueries = "InGroupMembQueries",
        Icmp6InGroupMembResponses = "InGroupMembResponses",
        Icmp6InGroupMembReductions = "InGroupMembReductions",
        Icmp6InRouterSolicits = "InRouterSolicits",
        Icmp6InRouterAdvertisements = "InRouterAdvertisements",
        Icmp6InNeighborSolicits = "InNeighborSolicits",
        Icmp6InNeighborAdvertisements = "InNeighborAdvertisements",
        Icmp6InRedirects = "InRedirects",
        Icmp6InMLDv2Reports = "InMLDv2Reports",
        Icmp6OutDestUnreachs = "OutDestUnreachs",
        Icmp6OutPktTooBigs = "OutPktTooBigs",
        Icmp6OutTimeExcds = "OutTimeExcds",
        Icmp6OutParmProblems = "OutParmProblems",
        Icmp6OutEchos = "OutEchos",
        Icmp6OutEchoReplies = "OutEchoReplies",
        Icmp6OutGroupMembQueries = "OutGroupMembQueries" never("only a bridge queries, and counts by itself"),
        Icmp6OutGroupMembResponses = "OutGroupMembResponses",
        Icmp6OutGroupMembReductions = "OutGroupMembReductions",
        Icmp6OutRouterSolicits = "OutRouterSolicits",
        Icmp6OutRouterAdvertisements = "OutRouterAdvertisements" never("the kernel sends none; what a daemon sends by a raw socket counts by its type"),
        Icmp6OutNeighborSolicits = "OutNeighborSolicits",
        Icmp6OutNeighborAdvertisements = "OutNeighborAdvertisements",
        Icmp6OutRedirects = "OutRedirects",
        Icmp6OutMLDv2Reports = "OutMLDv2Reports",
    }
    "Udp6" {
        Udp6InDatagrams = "InDatagrams",
        Udp6NoPorts = "NoPorts",
        Udp6InErrors = "InErrors",
        Udp6OutDatagrams = "OutDatagrams",
        Udp6RcvbufErrors = "RcvbufErrors",
        Udp6SndbufErrors = "SndbufErrors",
        Udp6InCsumErrors = "InCsumErrors",
        Udp6IgnoredMulti = "IgnoredMulti",
        Udp6MemErrors = "MemErrors",
    }
}

/// The counters of one namespace.
#[derive(Clone, Debug)]
pub struct Mibs([u64; COUNT]);

impl Default for Mibs {
    fn default() -> Mibs {
        let mut m = Mibs([0; COUNT]);
        m.set(Mib::IpDefaultTTL, 64);
        m.set(Mib::IpForwarding, 2);
        m.set(Mib::TcpRtoAlgorithm, 1);
        m.set(Mib::TcpRtoMin, 200);
        m.set(Mib::TcpRtoMax, 120_000);
        m.set(Mib::TcpMaxConn, u64::MAX);
        m
    }
}

impl Mib {
    /// Its whole name: `TcpExtListenDrops`.
    pub fn name(self) -> String {
        let of = |(group, list): &(&str, &[(Mib, &str)])| {
            list.iter().find(|(c, _)| *c == self).map(|(_, name)| format!("{group}{name}"))
        };
        GROUPS.iter().find_map(of).unwrap_or_default()
    }

    /// The counter of the same name for IPv6, where it has its own.
    pub fn of(self, six: bool) -> Mib {
        use Mib::*;
        match self {
            _ if !six => self,
            UdpInDatagrams => Udp6InDatagrams,
            UdpNoPorts => Udp6NoPorts,
            UdpInErrors => Udp6InErrors,
            UdpOutDatagrams => Udp6OutDatagrams,
            UdpRcvbufErrors => Udp6RcvbufErrors,
            UdpSndbufErrors => Udp6SndbufErrors,
            UdpInCsumErrors => Udp6InCsumErrors,
            UdpIgnoredMulti => Udp6IgnoredMulti,
            UdpMemErrors => Udp6MemErrors,
            IpOutDiscards => Ip6OutDiscards,
            IcmpInErrors => Icmp6InErrors,
            other => other,
        }
    }
}

/// Told to `cargo xtask coverage`, when that is what this is built for.
#[inline]
fn moved(_c: Mib) {
    #[cfg(feature = "coverage")]
    belljar_coverage::COUNTERS.note(_c as usize, || _c.name());
}

impl Mibs {
    #[inline]
    pub fn inc(&mut self, c: Mib) {
        moved(c);
        self.0[c as usize] += 1;
    }

    #[inline]
    pub fn add(&mut self, c: Mib, n: u64) {
        if n != 0 {
            moved(c);
        }
        self.0[c as usize] += n;
    }

    pub fn dec(&mut self, c: Mib) {
        self.0[c as usize] = self.0[c as usize].saturating_sub(1);
    }

    pub fn set(&mut self, c: Mib, v: u64) {
        moved(c);
        self.0[c as usize] = v;
    }

    pub fn get(&self, c: Mib) -> u64 {
        self.0[c as usize]
    }
}
