//! TCP in connection tracking: what a packet means to a connection that we only watch, and whether it can belong to it.
//!
//! The windows are checked as Guido van Rooij describes in "Real Stateful TCP Packet Filtering in IP Filter" (2000).
use super::{CtId, IPS_ASSURED, IPS_SEEN_REPLY, Proto, Why, checksum_good};
use crate::ids::NsId;
use crate::net::Net;
use crate::net::core::skb::SkBuff;
use crate::net::netfilter::Hook;
use crate::net::netfilter::packet::Pkt;
use crate::net::sysctl::Sysctl;
use belljar_wire::tcp::{Flags, TCP_HLEN, TcpHeader, TcpOptions};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    None,
    SynSent,
    SynRecv,
    Established,
    FinWait,
    CloseWait,
    LastAck,
    TimeWait,
    Close,
    SynSent2,
}

impl State {
    /// As `/proc/net/nf_conntrack` has it.
    pub fn name(self) -> &'static str {
        match self {
            State::None => "NONE",
            State::SynSent => "SYN_SENT",
            State::SynRecv => "SYN_RECV",
            State::Established => "ESTABLISHED",
            State::FinWait => "FIN_WAIT",
            State::CloseWait => "CLOSE_WAIT",
            State::LastAck => "LAST_ACK",
            State::TimeWait => "TIME_WAIT",
            State::Close => "CLOSE",
            State::SynSent2 => "SYN_SENT2",
        }
    }
}

/// What a segment is, by its most important flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Syn,
    SynAck,
    Fin,
    Ack,
    Rst,
    None,
}

fn kind(f: Flags) -> Kind {
    if f.contains(Flags::RST) {
        Kind::Rst
    } else if f.contains(Flags::SYN) {
        if f.contains(Flags::ACK) { Kind::SynAck } else { Kind::Syn }
    } else if f.contains(Flags::FIN) {
        Kind::Fin
    } else if f.contains(Flags::ACK) {
        Kind::Ack
    } else {
        Kind::None
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    To(State),
    /// Let through, changes nothing.
    Ignore,
    Invalid,
}

/// The connection's next state, when a segment comes from the side that opened it.
fn from_opener(s: State, k: Kind) -> Next {
    use State::*;
    match (k, s) {
        (Kind::Syn, None | SynSent | TimeWait | Close) => Next::To(SynSent),
        (Kind::Syn, SynSent2) => Next::To(SynSent2),
        (Kind::Syn, _) => Next::Ignore,
        (Kind::SynAck, SynRecv | SynSent2) => Next::To(SynRecv),
        (Kind::SynAck, _) => Next::Invalid,
        (Kind::Ack, None) => Next::To(Established),
        (k, s) => closing(s, k),
    }
}

/// The same from the other side.
fn from_answerer(s: State, k: Kind) -> Next {
    use State::*;
    match (k, s) {
        (Kind::Syn, SynSent | SynSent2) => Next::To(SynSent2),
        (Kind::Syn, TimeWait) => Next::To(SynSent),
        (Kind::Syn, _) => Next::Invalid,
        (Kind::SynAck, SynSent | SynSent2) => Next::To(SynRecv),
        (Kind::SynAck, None) => Next::Invalid,
        (Kind::SynAck, _) => Next::Ignore,
        (Kind::Ack, SynRecv) => Next::To(SynRecv),
        (Kind::Ack, SynSent | SynSent2) => Next::Ignore,
        (k, s) => closing(s, k),
    }
}

/// What is the same from both sides.
fn closing(s: State, k: Kind) -> Next {
    use State::*;
    match (k, s) {
        (Kind::Rst, None) => Next::Invalid,
        (Kind::Rst, _) => Next::To(Close),
        (Kind::Fin, SynRecv | Established) => Next::To(FinWait),
        (Kind::Fin, FinWait | CloseWait | LastAck) => Next::To(LastAck),
        (Kind::Ack, SynRecv | Established) => Next::To(Established),
        (Kind::Ack, FinWait | CloseWait) => Next::To(CloseWait),
        (Kind::Ack, LastAck | TimeWait) => Next::To(TimeWait),
        (Kind::Fin, TimeWait) => Next::To(TimeWait),
        (Kind::Fin | Kind::Ack, Close) => Next::To(Close),
        _ => Next::Invalid,
    }
}

const SCALE: u8 = 1;
const SACK_PERM: u8 = 2;
const CLOSE_INIT: u8 = 4;
const BE_LIBERAL: u8 = 8;
const UNACKED: u8 = 16;
const MAXACK_SET: u8 = 32;

/// What was seen of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Side {
    /// Behind the last byte it sent.
    end: u32,
    /// Behind the last byte that it may send.
    maxend: u32,
    /// Its largest window.
    maxwin: u32,
    maxack: u32,
    scale: u8,
    flags: u8,
}

/// The last segment that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Last {
    kind: Kind,
    dir: u8,
    seq: u32,
    ack: u32,
    end: u32,
    win: u16,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Track {
    pub state: State,
    sides: [Side; 2],
    last: Last,
    retrans: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Good,
    /// Of this connection, and nothing that changes it.
    Ignored(Why),
    Invalid(Why),
    /// The connection is over and this begins another one.
    Reopen,
}

/// Whether sequence numbers, acknowledgement and window are possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Window {
    Accept,
    /// Old, and harmless.
    Ignore(Why),
    Invalid(Why),
}

fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

fn after(a: u32, b: u32) -> bool {
    before(b, a)
}

/// The segment as the windows see it.
#[derive(Clone, Copy, Debug)]
struct Seg {
    seq: u32,
    end: u32,
    ack: u32,
    /// The highest byte that it says has arrived.
    sack: u32,
    win: u16,
    flags: Flags,
    kind: Kind,
}

/// RFC 9293 §3.1: flags that cannot stand together make a segment that no TCP sends.
fn flags_valid(f: Flags) -> bool {
    let f = f.without(Flags::PSH).without(Flags::ECE).without(Flags::CWR).without(Flags::AE);
    let ok = [
        Flags::SYN,
        Flags::SYN.union(Flags::URG),
        Flags::SYN.union(Flags::ACK),
        Flags::RST,
        Flags::RST.union(Flags::ACK),
        Flags::FIN.union(Flags::ACK),
        Flags::FIN.union(Flags::ACK).union(Flags::URG),
        Flags::ACK,
        Flags::ACK.union(Flags::URG),
    ];
    ok.contains(&f)
}

#[doc(alias = "tcp_error")]
fn read(p: &Pkt, skb: &SkBuff) -> Result<(Seg, TcpOptions), Why> {
    let b = p.transport(skb);
    if b.len() < TCP_HLEN {
        return Err(Why::Unsaid);
    }
    let h = TcpHeader::parse(b).map_err(|_| Why::Said("truncated packet"))?;
    let header = h.options(b).len() + TCP_HLEN;
    if p.len < p.at + header {
        return Err(Why::Said("truncated packet"));
    }
    if !flags_valid(h.flags) {
        return Err(Why::Said("invalid tcp flag combination"));
    }
    let o = TcpOptions::parse(h.options(b));
    let len = (p.len - p.at - header) as u32;
    let extra = u32::from(h.flags.contains(Flags::SYN)) + u32::from(h.flags.contains(Flags::FIN));
    let sack = o.sack_blocks().iter().fold(h.ack, |top, (_, end)| if after(*end, top) { *end } else { top });
    let end = h.seq.wrapping_add(len).wrapping_add(extra);
    Ok((Seg { seq: h.seq, end, ack: h.ack, sack, win: h.window, flags: h.flags, kind: kind(h.flags) }, o))
}

impl Side {
    fn options(&mut self, o: &TcpOptions) {
        (self.scale, self.flags) = (0, 0);
        if let Some(w) = o.wscale {
            // RFC 7323 §2.3: no more than 14.
            self.scale = w.min(14);
            self.flags |= SCALE;
        }
        if o.sack_ok {
            self.flags |= SACK_PERM;
        }
    }
}

/// What a connection begins with, or why the packet cannot begin one.
#[doc(alias = "tcp_new")]
pub fn new(s: &Sysctl, p: &Pkt, skb: &SkBuff) -> Result<Track, Why> {
    let (seg, o) = read(p, skb)?;
    let Next::To(state) = from_opener(State::None, seg.kind) else { return Err(Why::Said("invalid new")) };
    let mut a = Side { end: seg.end, maxend: seg.end, maxwin: u32::from(seg.win).max(1), ..Side::default() };
    let mut b = Side::default();
    if state == State::SynSent {
        a.options(&o);
    } else {
        if s.nf_conntrack_tcp_loose == 0 {
            return Err(Why::Unsaid);
        }
        // In the middle: the scale of the windows is not known, so they are not checked.
        a.maxend = seg.end.wrapping_add(a.maxwin);
        (a.flags, b.flags) = (SACK_PERM | BE_LIBERAL, SACK_PERM | BE_LIBERAL);
    }
    let last = Last { kind: Kind::None, dir: 0, seq: seg.seq, ack: seg.ack, end: seg.end, win: seg.win };
    Ok(Track { state: State::None, sides: [a, b], last, retrans: 0 })
}

/// RFC 9293 §3.10.7.4 has acknowledgements of the past; none is older than this.
const MAX_ACK_WINDOW: u32 = 66_000;

impl Track {
    /// Window scale and flags of each side, as netlink tells them.
    pub fn sides(&self) -> [(u8, u8); 2] {
        self.sides.map(|s| (s.scale, s.flags))
    }

    /// A SYN of this side: everything before is forgotten.
    fn init_sender(&mut self, dir: usize, seg: &Seg, o: &TcpOptions) {
        let s = &mut self.sides[dir];
        s.options(o);
        (s.end, s.maxend, s.maxwin) = (seg.end, seg.end, u32::from(seg.win).max(1));
        // RFC 7323 §2.2: only when both sides do it.
        if self.sides.iter().any(|s| s.flags & SCALE == 0) && seg.flags.contains(Flags::ACK) {
            self.sides.iter_mut().for_each(|s| s.scale = 0);
        }
    }

    /// Sequence numbers, acknowledgement and window of a segment from side `dir` are possible.
    #[doc(alias = "tcp_in_window")]
    fn in_window(&mut self, dir: usize, mut seg: Seg, o: &TcpOptions, liberal: bool) -> Window {
        let other = 1 - dir;
        let (syn, has_ack) = (seg.flags.contains(Flags::SYN), seg.flags.contains(Flags::ACK));
        if self.sides[other].flags & SACK_PERM == 0 {
            seg.sack = seg.ack;
        }
        if self.sides[dir].maxwin == 0 {
            if syn {
                self.init_sender(dir, &seg, o);
                if !has_ack {
                    // Both open at once (RFC 9293 §3.5).
                    return Window::Accept;
                }
            } else {
                self.join(dir, &seg);
            }
        } else if after(seg.end, self.sides[dir].end)
            && ((self.state == State::SynSent && dir == 0) || (self.state == State::SynRecv && dir == 1))
        {
            // What was taken for the beginning was an old duplicate.
            self.init_sender(dir, &seg, o);
            if dir == 1 && !has_ack {
                return Window::Accept;
            }
        }
        let rst = seg.flags.contains(Flags::RST);
        if !has_ack || (rst && seg.ack == 0) {
            (seg.ack, seg.sack) = (self.sides[other].end, self.sides[other].end);
        }
        if rst && seg.seq == 0 && self.state == State::SynSent {
            (seg.seq, seg.end) = (self.sides[dir].end, self.sides[dir].end);
        }
        let (s, r) = (self.sides[dir], self.sides[other]);
        let over = s.maxend.wrapping_add(1);
        let under = s.end.wrapping_sub(r.maxwin).wrapping_sub(1);
        let unseen = r.end.wrapping_add(1);
        let late = r.end.wrapping_sub(s.maxwin.max(MAX_ACK_WINDOW)).wrapping_sub(1);
        let liberal = liberal || s.flags & BE_LIBERAL != 0;
        let wrong = match () {
            () if !before(seg.seq, over) => Why::SeqOver(over),
            () if !after(seg.end, under) && !liberal => return Window::Ignore(Why::SeqUnder(under)),
            () if !after(seg.end, under) => return Window::Accept,
            () if !before(seg.sack, unseen) => Why::AckOver(unseen),
            () if !after(seg.sack, late) && !liberal => return Window::Ignore(Why::AckUnder(late)),
            () if !after(seg.sack, late) => return Window::Accept,
            () => {
                self.advance(dir, &seg, syn, has_ack);
                return Window::Accept;
            }
        };
        if liberal { Window::Accept } else { Window::Invalid(wrong) }
    }

    /// The first segment of a side that we did not see from its beginning.
    fn join(&mut self, dir: usize, seg: &Seg) {
        let s = &mut self.sides[dir];
        s.end = seg.end;
        s.maxwin = (u32::from(seg.win) << s.scale).max(1);
        s.maxend = seg.end.wrapping_add(s.maxwin);
        let r = &mut self.sides[1 - dir];
        if r.maxwin == 0 {
            (r.end, r.maxend) = (seg.sack, seg.sack);
        } else if seg.sack == r.end.wrapping_add(1) {
            // It answers a keepalive probe.
            r.end = r.end.wrapping_add(1);
        }
    }

    fn advance(&mut self, dir: usize, seg: &Seg, syn: bool, has_ack: bool) {
        let [ref mut a, ref mut b] = self.sides;
        let (s, r) = if dir == 0 { (a, b) } else { (b, a) };
        // RFC 7323 §2.2: the window of a SYN is never scaled.
        let win = if syn { u32::from(seg.win) } else { u32::from(seg.win) << s.scale };
        s.maxwin = s.maxwin.max(win.wrapping_add(seg.sack.wrapping_sub(seg.ack)));
        if after(seg.end, s.end) {
            s.end = seg.end;
            s.flags |= UNACKED;
        }
        if has_ack {
            if s.flags & MAXACK_SET == 0 || after(seg.ack, s.maxack) {
                s.maxack = seg.ack;
            }
            s.flags |= MAXACK_SET;
        }
        if r.maxwin != 0 && after(seg.end, s.maxend) {
            r.maxwin = r.maxwin.wrapping_add(seg.end.wrapping_sub(s.maxend));
        }
        let limit = seg.sack.wrapping_add(win);
        if after(limit, r.maxend.wrapping_sub(1)) {
            // A closed window may be probed with one byte (RFC 9293 §3.8.6.1).
            r.maxend = limit.wrapping_add(u32::from(win == 0));
        }
        if seg.ack == r.end {
            r.flags &= !UNACKED;
        }
        if seg.kind == Kind::Ack {
            let same =
                Last { kind: self.last.kind, dir: dir as u8, seq: seg.seq, ack: seg.ack, end: seg.end, win: seg.win };
            self.retrans = if self.last == same { self.retrans.saturating_add(1) } else { 0 };
        }
    }

    /// A RST is believed when it is where the next byte is expected; another one is a challenge to be answered
    /// (RFC 5961 §3.2), and the connection goes on.
    fn rst_state(&self, dir: usize, seg: &Seg, s: &Sysctl) -> Option<State> {
        let peer = &self.sides[1 - dir];
        if peer.flags & MAXACK_SET == 0 || s.nf_conntrack_tcp_be_liberal != 0 {
            return Some(State::Close);
        }
        if before(seg.seq, peer.maxack) && s.nf_conntrack_tcp_ignore_invalid_rst == 0 {
            return None;
        }
        let established = self.state != State::SynSent && self.state != State::SynRecv && self.state != State::SynSent2;
        let in_train = self.last.kind == Kind::Ack && usize::from(self.last.dir) == dir && seg.seq == self.last.end;
        Some(if !established || seg.seq == peer.maxack || in_train { State::Close } else { self.state })
    }

    fn secs(&self, s: &Sysctl, state: State) -> u32 {
        match state {
            State::None | State::SynSent | State::SynSent2 => s.nf_conntrack_tcp_timeout_syn_sent.get(),
            State::SynRecv => s.nf_conntrack_tcp_timeout_syn_recv.get(),
            State::Established => s.nf_conntrack_tcp_timeout_established.get(),
            State::FinWait => s.nf_conntrack_tcp_timeout_fin_wait.get(),
            State::CloseWait => s.nf_conntrack_tcp_timeout_close_wait.get(),
            State::LastAck => s.nf_conntrack_tcp_timeout_last_ack.get(),
            State::TimeWait => s.nf_conntrack_tcp_timeout_time_wait.get(),
            State::Close => s.nf_conntrack_tcp_timeout_close.get(),
        }
    }

    fn timeout(&self, s: &Sysctl, win: u16) -> u32 {
        let secs = self.secs(s, self.state);
        let retrans = s.nf_conntrack_tcp_timeout_max_retrans.get();
        if u32::from(self.retrans) >= s.nf_conntrack_tcp_max_retrans && secs > retrans {
            return retrans;
        }
        let unacked = s.nf_conntrack_tcp_timeout_unacknowledged.get();
        if self.sides.iter().any(|s| s.flags & UNACKED != 0) && secs > unacked {
            return unacked;
        }
        if win == 0 { secs.min(retrans) } else { secs }
    }
}

/// A segment of connection `id` from side `dir`.
#[doc(alias = "nf_conntrack_tcp_packet")]
pub fn packet(net: &mut Net, ns: NsId, hook: Hook, id: CtId, dir: usize, p: &Pkt, skb: &mut SkBuff) -> Seen {
    let (seg, o) = match read(p, skb) {
        Ok(read) => read,
        Err(why) => return Seen::Invalid(why),
    };
    if !checksum_good(net, ns, hook, p, skb) {
        return Seen::Invalid(Why::Said("bad checksum"));
    }
    let Some(s) = net.ns.get(ns).map(|n| &n.sysctl) else { return Seen::Invalid(Why::Unsaid) };
    let Some(c) = net.ct.conns.get_mut(id) else { return Seen::Invalid(Why::Unsaid) };
    let Proto::Tcp(mut t) = c.proto else { return Seen::Invalid(Why::Unsaid) };
    let old = t.state;
    let next = if dir == 0 { from_opener(old, seg.kind) } else { from_answerer(old, seg.kind) };
    let last = Last { kind: seg.kind, dir: dir as u8, seq: seg.seq, ack: seg.ack, end: seg.end, win: seg.win };
    let mut new = match next {
        Next::Invalid => return Seen::Invalid(Why::State { kind: seg.kind, dir, state: old, ignored: false }),
        Next::Ignore => {
            t.last = last;
            c.proto = Proto::Tcp(t);
            return Seen::Ignored(Why::State { kind: seg.kind, dir, state: old, ignored: true });
        }
        Next::To(state) => state,
    };
    if new == State::SynSent && matches!(old, State::TimeWait | State::Close) {
        let over = t.sides.iter().any(|s| s.flags & CLOSE_INIT != 0);
        let refused = usize::from(t.last.dir) == dir && t.last.kind == Kind::Rst;
        if over || refused || old == State::Close {
            return Seen::Reopen;
        }
        t.last = last;
        c.proto = Proto::Tcp(t);
        return Seen::Good;
    }
    if seg.kind == Kind::Rst {
        match t.rst_state(dir, &seg, s) {
            Some(state) => new = state,
            None => return Seen::Invalid(Why::Said("invalid rst")),
        }
    }
    match t.in_window(dir, seg, &o, s.nf_conntrack_tcp_be_liberal != 0) {
        Window::Accept => {}
        Window::Ignore(why) => return Seen::Ignored(why),
        Window::Invalid(why) => return Seen::Invalid(why),
    }
    t.last = last;
    t.state = new;
    if old != new && new == State::FinWait {
        t.sides[dir].flags |= CLOSE_INIT;
    }
    let mut secs = t.timeout(s, seg.win);
    if seg.kind == Kind::Rst && new == old {
        secs = secs.min(s.nf_conntrack_tcp_timeout_close.get());
    }
    let replied = c.status & IPS_SEEN_REPLY != 0;
    if !replied && new == State::Established {
        // Picked up, and nobody answered yet.
        secs = secs.min(s.nf_conntrack_tcp_timeout_unacknowledged.get());
    }
    if replied && matches!(old, State::SynRecv | State::Established) && new == State::Established {
        c.status |= IPS_ASSURED;
    }
    c.proto = Proto::Tcp(t);
    let forget = seg.kind == Kind::Rst && !replied && c.is_confirmed() && dir == 1;
    match forget {
        // Refused before anything came of it.
        true => net.ct_kill(id),
        false => net.ct_refresh(id, secs),
    }
    Seen::Good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_opens_and_closes() {
        use Kind::*;
        use State as S;
        let run = |steps: &[(usize, Kind)]| {
            let mut s = S::None;
            for (dir, k) in steps {
                match if *dir == 0 { from_opener(s, *k) } else { from_answerer(s, *k) } {
                    Next::To(n) => s = n,
                    Next::Ignore => {}
                    Next::Invalid => return Option::None,
                }
            }
            Some(s)
        };
        let open = [(0, Syn), (1, SynAck), (0, Ack)];
        assert_eq!(run(&open), Some(S::Established));
        assert_eq!(run(&[&open[..], &[(0, Fin)]].concat()), Some(S::FinWait));
        assert_eq!(run(&[&open[..], &[(0, Fin), (1, Ack)]].concat()), Some(S::CloseWait));
        assert_eq!(run(&[&open[..], &[(0, Fin), (1, Ack), (1, Fin)]].concat()), Some(S::LastAck));
        assert_eq!(run(&[&open[..], &[(1, Fin), (0, Fin), (1, Ack)]].concat()), Some(S::TimeWait));
        assert_eq!(run(&[&open[..], &[(1, Rst)]].concat()), Some(S::Close));
        assert_eq!(run(&[(0, Ack)]), Some(S::Established));
        assert_eq!(run(&[(0, SynAck)]), Option::None);
        assert_eq!(run(&[(0, Fin)]), Option::None);
        assert_eq!(run(&[(0, Rst)]), Option::None);
        assert_eq!(run(&[(0, Kind::None)]), Option::None);
        assert_eq!(run(&[(0, Syn), (1, Syn), (0, SynAck)]), Some(S::SynRecv));
    }

    #[test]
    fn segments_of_another_connection_are_not_in_the_window() {
        let side = Side { end: 1000, maxend: 2000, maxwin: 1000, ..Side::default() };
        let mut t = Track {
            state: State::Established,
            sides: [side, Side { end: 500, maxend: 1500, ..side }],
            last: Last { kind: Kind::None, dir: 0, seq: 0, ack: 0, end: 0, win: 0 },
            retrans: 0,
        };
        let seg =
            |seq, len, ack| Seg { seq, end: seq + len, ack, sack: ack, win: 1000, flags: Flags::ACK, kind: Kind::Ack };
        let o = TcpOptions::default();
        assert_eq!(t.in_window(0, seg(2001, 10, 500), &o, false), Window::Invalid(Why::SeqOver(2001)));
        assert_eq!(t.in_window(0, seg(2001, 10, 500), &o, true), Window::Accept);
        assert_eq!(t.in_window(0, seg(1000, 10, 501), &o, false), Window::Invalid(Why::AckOver(501)));
        assert_eq!(t.in_window(0, seg(1000, 10, 500), &o, false), Window::Accept);
        assert_eq!(t.sides[0].end, 1010);
    }
}
