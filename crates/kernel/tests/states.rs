//! The table of states is true: each of its changes happens, no other does, and docs/tcp.md shows it.
mod common;
mod peer;
use belljar_abi::*;
use belljar_kernel::env::trace::{Event, Wanted};
use belljar_kernel::net::tcp::state::{self, State, TRANSITIONS};
use belljar_kernel::task::call::*;
use belljar_wire::tcp::{Flags, TcpOptions};
use common::*;
use peer::*;
use std::collections::BTreeSet;

type Changes = BTreeSet<(&'static str, &'static str)>;

/// Ends in TIME_WAIT are entries of a table of their own, not changes of a socket.
fn changes(h: &mut Host) -> Changes {
    let mut all = Changes::new();
    while let Some(r) = h.k.net.env.trace.pop() {
        if let Event::State { old, new, .. } = r.event {
            all.insert((old, new));
        }
    }
    all
}

fn waiting(h: &Host) -> usize {
    h.k.net.ns.get(h.ns).unwrap().tcp.tws.len()
}

/// A connection to port 80 from the peer's `port`, accepted; our number.
fn passive(h: &mut Host, listener: Fd, port: u16) -> (Fd, u32) {
    let ours = h.handshake(port, TcpOptions::default());
    (h.accept(listener).unwrap(), ours)
}

/// Our SYN and the peer's cross: SYN_RECV. The descriptor, our port, our number.
fn crossing(h: &mut Host, port: u16) -> (Fd, u16, u32) {
    let fd = h.socket(SOCK_STREAM | SOCK_NONBLOCK);
    assert_eq!(h.connect(fd, PEER, port), Err(Errno::EINPROGRESS));
    let ours = h.answers().remove(0);
    h.tcp(Seg { dport: ours.sport, ..seg(port, Flags::SYN, ISN, 0) });
    (fd, ours.sport, ours.seq.wrapping_add(1))
}

#[test]
fn every_change_of_the_table_happens_and_no_other() {
    let mut h = Host::new();
    h.know_peer();
    h.k.net.env.trace.wanted = Wanted { sockets: true, ..Wanted::default() };
    let fin = |port, ack| seg(port, Flags::FIN | Flags::ACK, ISN + 1, ack);
    let ack = |port, seq, ack| seg(port, Flags::ACK, seq, ack);
    let listener = h.listener(8);

    // The peer closes first.
    let (fd, ours) = passive(&mut h, listener, 1000);
    h.tcp(fin(1000, ours));
    h.close(fd);
    h.tcp(ack(1000, ISN + 2, ours.wrapping_add(1)));

    // We close first, ...
    let (fd, ours) = passive(&mut h, listener, 1001);
    h.call(Call::Shutdown { fd, how: SHUT_WR }).unwrap();
    h.tcp(ack(1001, ISN + 1, ours.wrapping_add(1)));
    assert_eq!(waiting(&h), 0);
    h.tcp(fin(1001, ours.wrapping_add(1)));
    assert_eq!(waiting(&h), 1, "FIN_WAIT2 becomes TIME_WAIT");

    // ... both at once.
    let (fd, ours) = passive(&mut h, listener, 1002);
    h.call(Call::Shutdown { fd, how: SHUT_WR }).unwrap();
    h.tcp(fin(1002, ours));
    assert_eq!(waiting(&h), 1);
    h.tcp(ack(1002, ISN + 2, ours.wrapping_add(1)));
    assert_eq!(waiting(&h), 2, "CLOSING becomes TIME_WAIT");

    // SYNs that cross, once to the end and once closed before.
    let (_, port, ours) = crossing(&mut h, 2000);
    h.tcp(Seg { dport: port, ..ack(2000, ISN + 1, ours) });
    let (fd, ..) = crossing(&mut h, 2001);
    h.close(fd);

    // The ordinary way out.
    let fd = h.socket(SOCK_STREAM | SOCK_NONBLOCK);
    let _ = h.connect(fd, PEER, 2002);
    let s = h.answers().remove(0);
    h.tcp(Seg { dport: s.sport, ..seg(2002, Flags::SYN | Flags::ACK, ISN, s.seq.wrapping_add(1)) });

    let seen = changes(&mut h);
    let named = |(from, _, to): &(State, state::Cause, State)| (from.name(), to.name());
    let table: Changes = TRANSITIONS.iter().map(named).filter(|(f, t)| ![*f, *t].contains(&"TIME_WAIT")).collect();
    let beyond: Vec<_> = seen.difference(&table).filter(|(_, to)| *to != "CLOSE").collect();
    assert!(beyond.is_empty(), "not in the table: {beyond:?}");
    // RFC 9293 has it; but a FIN carries an ACK, and that makes the connection ESTABLISHED first.
    let never = ("SYN_RECV", "CLOSE_WAIT");
    let missing: Vec<_> = table.difference(&seen).filter(|c| **c != never).collect();
    assert!(missing.is_empty() && !seen.contains(&never), "did not happen: {missing:?}");

    h.advance(61 * SEC);
    assert_eq!(waiting(&h), 0, "TIME_WAIT ends");
}

#[test]
fn the_page_about_tcp_shows_the_table() {
    let page = include_str!("../../../docs/tcp.md");
    for (what, text) in [("graph", format!("```dot\n{}```\n", state::graph())), ("table", state::table())] {
        assert!(page.contains(&text), "docs/tcp.md does not show the {what} of states as it is:\n{text}");
    }
}
