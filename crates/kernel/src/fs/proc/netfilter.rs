//! What the tables of iptables can be made of, and who writes what a rule logs.
use crate::ids::*;
use crate::kernel::Kernel;
use std::fmt::Write;

/// `ip_tables_matches` and its kin: a line for each revision.
pub(super) fn names(all: &[(&str, u8)]) -> String {
    all.iter().rev().map(|e| format!("{}\n", e.0)).collect()
}

/// `netfilter/nf_log`: family, who writes now, who could.
pub(super) fn loggers(k: &Kernel, ns: NsId) -> String {
    let mut out = String::new();
    for family in 0..=10 {
        let now = k.sysctl_get(ns, &format!("net.netfilter.nf_log.{family}")).unwrap_or_default();
        let own = match family {
            2 => "nf_log_ipv4,",
            3 => "nf_log_arp,",
            5 => "nf_log_netdev,",
            7 => "nf_log_bridge,",
            10 => "nf_log_ipv6,",
            _ => "",
        };
        let _ = writeln!(out, "{family:>2} {now} ({own}nfnetlink_log)");
    }
    out
}
