//! What is known of a neighbour: the states of RFC 4861 §7.3.2, and the administrator's.

/// `NUD_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nud {
    Incomplete,
    Reachable,
    Stale,
    Delay,
    Probe,
    Failed,
    Permanent,
    /// Told, and never asked for: as permanent, until nobody uses it.
    NoArp,
}

impl Nud {
    /// Confirmed: packets go straight out (`NUD_CONNECTED`).
    pub fn connected(self) -> bool {
        matches!(self, Nud::Reachable | Nud::Permanent | Nud::NoArp)
    }

    /// An address is known (`NUD_VALID`).
    pub fn valid(self) -> bool {
        !matches!(self, Nud::Incomplete | Nud::Failed)
    }

    pub(super) fn in_timer(self) -> bool {
        matches!(self, Nud::Incomplete | Nud::Reachable | Nud::Delay | Nud::Probe)
    }

    /// As `ip neigh` prints it.
    pub fn name(self) -> &'static str {
        match self {
            Nud::Incomplete => "INCOMPLETE",
            Nud::Reachable => "REACHABLE",
            Nud::Stale => "STALE",
            Nud::Delay => "DELAY",
            Nud::Probe => "PROBE",
            Nud::Failed => "FAILED",
            Nud::Permanent => "PERMANENT",
            Nud::NoArp => "NOARP",
        }
    }
}
