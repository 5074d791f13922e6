//! How a rule refuses: the kinds of `--reject-with`, by number and name.
use super::Pf;

/// `--reject-with`, by the kernel's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectWith(pub u32);

/// Number, name, short name.
const REJECT4: [(u32, &str, &str); 8] = [
    (0, "icmp-net-unreachable", "net-unreach"),
    (1, "icmp-host-unreachable", "host-unreach"),
    (2, "icmp-proto-unreachable", "proto-unreach"),
    (3, "icmp-port-unreachable", "port-unreach"),
    (5, "icmp-net-prohibited", "net-prohib"),
    (6, "icmp-host-prohibited", "host-prohib"),
    (7, "tcp-reset", "tcp-rst"),
    (8, "icmp-admin-prohibited", "admin-prohib"),
];
const REJECT6: [(u32, &str, &str); 7] = [
    (0, "icmp6-no-route", "no-route"),
    (1, "icmp6-adm-prohibited", "adm-prohibited"),
    (3, "icmp6-addr-unreachable", "addr-unreach"),
    (4, "icmp6-port-unreachable", "port-unreach"),
    (6, "tcp-reset", "tcp-reset"),
    (7, "icmp6-policy-fail", "policy-fail"),
    (8, "icmp6-reject-route", "reject-route"),
];
pub const REJECT_TCP_RESET4: u32 = 7;
pub const REJECT_TCP_RESET6: u32 = 6;

impl RejectWith {
    fn all(pf: Pf) -> &'static [(u32, &'static str, &'static str)] {
        if pf == Pf::V4 { &REJECT4 } else { &REJECT6 }
    }

    pub fn default(pf: Pf) -> RejectWith {
        RejectWith(if pf == Pf::V4 { 3 } else { 4 })
    }

    pub fn name(self, pf: Pf) -> &'static str {
        RejectWith::all(pf).iter().find(|r| r.0 == self.0).map_or("", |r| r.1)
    }

    pub fn is_valid(self, pf: Pf) -> bool {
        RejectWith::all(pf).iter().any(|r| r.0 == self.0)
    }

    /// A name or the beginning of one.
    pub fn parse(pf: Pf, word: &str) -> Option<RejectWith> {
        let found = RejectWith::all(pf).iter().find(|r| r.1.starts_with(word) || r.2.starts_with(word));
        found.map(|r| RejectWith(r.0))
    }

    pub fn is_reset(self, pf: Pf) -> bool {
        self.0 == if pf == Pf::V4 { REJECT_TCP_RESET4 } else { REJECT_TCP_RESET6 }
    }
}
