"""shutdown(): every direction on streams and datagrams, and what both ends see."""
from observe import *
import signal

signal.signal(signal.SIGPIPE, signal.SIG_IGN)
RD, WR, RDWR = socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR
a, b = connected()
say("writing half", r=outcome(a.shutdown, WR), mine=tcp_state(a), theirs=[settled(), tcp_state(b)][1], mask=mask(a),
    peer_mask=mask(b), peer_reads=now_or_error(b), send=outcome(a.send, b"x"), again=outcome(a.shutdown, WR))
say("and the other way still works", send=outcome(b.send, b"back"), got=outcome(a.recv, 9))
b.close()
settled()
say("and ends", recv=now_or_error(a), mask=mask(a), state=tcp_state(a))
a, b = connected()
b.send(b"before")
settled()
say("reading half with data", r=outcome(a.shutdown, RD), mask=mask(a), recv=now_or_error(a), again=now_or_error(a),
    state=[tcp_state(a), tcp_state(b)], send=outcome(a.send, b"x"), peer=outcome(b.recv, 9))
b.send(b"later")
settled()
say("and data that comes later", recv=now_or_error(a), again=now_or_error(a), mask=mask(a))
a, b = connected()
a.send(b"last")
say("both halves", r=outcome(a.shutdown, RDWR), state=tcp_state(a), mask=mask(a), recv=now_or_error(a),
    peer=[settled(), outcome(b.recv, 9)][1], peer_end=outcome(b.recv, 9))
b.close()
settled()
say("both halves, peer closes", again=outcome(a.shutdown, RDWR), peer=outcome(a.getpeername), mask=mask(a))
a, b = connected()
say("both sides", r=[outcome(a.shutdown, WR), outcome(b.shutdown, WR)], state=[settled(), tcp_state(a) in ("TIME_WAIT", "CLOSE"), tcp_state(b)][1:],
    masks=[mask(a), mask(b)], peer=outcome(b.getpeername))
a, b = connected()
say("unknown way", r=outcome(a.shutdown, 3), below=outcome(a.shutdown, -1))
with tcp() as s:
    say("without a connection", r=[outcome(s.shutdown, w) for w in (RD, WR, RDWR)], state=tcp_state(s), recv=now_or_error(s),
        bind=outcome(s.bind, (LO, 0)))
with udp() as u, udp() as v:
    say("datagrams without a peer", r=[outcome(u.shutdown, w) for w in (WR, RD)], sendto=outcome(u.sendto, b"x", v.getsockname()),
        recv=now_or_error(u))
for way, word in ((RD, "reading"), (WR, "writing"), (RDWR, "both")):
    u, v = udp(), udp()
    u.connect(v.getsockname())
    v.connect(u.getsockname())
    r = outcome(u.shutdown, way)
    say(f"datagrams with a peer, {word}", r=r, mask=mask(u), recv=now_or_error(u), send=outcome(u.send, b"out"),
        peer_got=now_or_error(v), peer_send=outcome(v.send, b"in"), got=[settled(), now_or_error(u)][1])
