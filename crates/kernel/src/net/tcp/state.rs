//! The states of a connection, and which change is possible: a table that can print its own graph.

/// `TCP_ESTABLISHED` … as `tcp_info` and `/proc/net/tcp` number them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    Established = 1,
    SynSent = 2,
    SynRecv = 3,
    FinWait1 = 4,
    FinWait2 = 5,
    TimeWait = 6,
    Close = 7,
    CloseWait = 8,
    LastAck = 9,
    Listen = 10,
    Closing = 11,
}

impl State {
    pub const ALL: [State; 11] = [
        Established,
        SynSent,
        SynRecv,
        FinWait1,
        FinWait2,
        TimeWait,
        Close,
        CloseWait,
        LastAck,
        State::Listen,
        Closing,
    ];

    /// As netstat prints it.
    pub fn name(self) -> &'static str {
        match self {
            State::Established => "ESTABLISHED",
            State::SynSent => "SYN_SENT",
            State::SynRecv => "SYN_RECV",
            State::FinWait1 => "FIN_WAIT1",
            State::FinWait2 => "FIN_WAIT2",
            State::TimeWait => "TIME_WAIT",
            State::Close => "CLOSE",
            State::CloseWait => "CLOSE_WAIT",
            State::LastAck => "LAST_ACK",
            State::Listen => "LISTEN",
            State::Closing => "CLOSING",
        }
    }

    /// One of several states, without a chain of comparisons.
    #[inline]
    pub fn is(self, any: &[State]) -> bool {
        any.contains(&self)
    }
}

/// What makes a connection change its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Listen,
    Connect,
    RcvSyn,
    RcvSynAck,
    RcvAck,
    RcvFin,
    /// close or shutdown(SHUT_WR): our FIN goes out after what is queued.
    SendFin,
    /// Our FIN was acknowledged.
    FinAcked,
    /// RST either way, a timeout, an abort, or the end of TIME_WAIT.
    Done,
}

use Cause::{Connect, Done, FinAcked, RcvAck, RcvFin, RcvSyn, RcvSynAck, SendFin};
use State::{Close, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, SynRecv, SynSent, TimeWait};

/// RFC 9293 §3.3.2, as Linux walks it (a SYN to a listener makes a request socket, not a state change).
pub const TRANSITIONS: &[(State, Cause, State)] = &[
    (Close, Cause::Listen, State::Listen),
    (Close, Connect, SynSent),
    (SynSent, RcvSynAck, Established),
    (SynSent, RcvSyn, SynRecv),
    (SynRecv, RcvAck, Established),
    (SynRecv, SendFin, FinWait1),
    (SynRecv, RcvFin, CloseWait),
    (Established, SendFin, FinWait1),
    (Established, RcvFin, CloseWait),
    (FinWait1, FinAcked, FinWait2),
    (FinWait1, RcvFin, Closing),
    (FinWait2, RcvFin, TimeWait),
    (Closing, FinAcked, TimeWait),
    (CloseWait, SendFin, LastAck),
    (LastAck, FinAcked, Close),
    (TimeWait, Done, Close),
];

/// Where `cause` leads from `from`; any state may end.
pub fn next(from: State, cause: Cause) -> Option<State> {
    if cause == Done {
        return Some(Close);
    }
    TRANSITIONS.iter().find(|(f, c, _)| (*f, *c) == (from, cause)).map(|t| t.2)
}

/// Whether a socket may change so: as the table says, or it ends.
pub fn possible(from: State, to: State) -> bool {
    to == Close || TRANSITIONS.iter().any(|(f, _, t)| (*f, *t) == (from, to))
}

/// What each cause means, for the documentation.
fn meaning(c: Cause) -> &'static str {
    match c {
        Cause::Listen => "listen()",
        Connect => "connect(), or a first write with Fast Open",
        RcvSyn => "the peer's SYN crosses ours",
        RcvSynAck => "SYN-ACK for our SYN",
        RcvAck => "our SYN or SYN-ACK is acknowledged",
        RcvFin => "the peer's FIN, in order",
        SendFin => "close() or shutdown(SHUT_WR): our FIN follows what is queued",
        FinAcked => "our FIN is acknowledged",
        Done => "60 s, or a new connection takes the place",
    }
}

/// The table in Markdown, for the documentation.
pub fn table() -> String {
    let row = |(f, c, t): &(State, Cause, State)| format!("| {} | {} | {} |\n", f.name(), meaning(*c), t.name());
    format!("| from | on | to |\n|---|---|---|\n{}", TRANSITIONS.iter().map(row).collect::<String>())
}

/// The table as a Graphviz graph, for the documentation.
pub fn graph() -> String {
    let edge = |(f, c, t): &(State, Cause, State)| format!("  {} -> {} [label=\"{c:?}\"];\n", f.name(), t.name());
    format!("digraph tcp {{\n{}}}\n", TRANSITIONS.iter().map(edge).collect::<String>())
}
