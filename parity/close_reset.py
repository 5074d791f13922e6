"""Closing: with data unread, with SO_LINGER; and what an end sees whose peer was reset."""
from observe import *
import signal

signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
    settled()


a, b = connected()
b.close()
settled()
say("peer closed", mask=mask(a), recv=now_or_error(a), send=outcome(a.send, b"x"), then=[settled(), outcome(a.send, b"x")][1],
    recv_then=now_or_error(a), error=opt(a, 1, 4))
a, b = connected()
a.send(b"unread")
settled()
b.close()
settled()
say("peer closed with data unread", mask=mask(a), recv=now_or_error(a), again=now_or_error(a), send=outcome(a.send, b"x"),
    state=tcp_state(a))
a, b = connected()
b.send(b"kept")
settled()
reset(b)
say("reset with data in the queue", mask=mask(a), recv=now_or_error(a), again=now_or_error(a), more=now_or_error(a))
for first in ("recv", "send", "error", "poll only"):
    a, b = connected()
    reset(b)
    told = {"recv": lambda: now_or_error(a), "send": lambda: outcome(a.send, b"x"), "error": lambda: opt(a, 1, 4),
            "poll only": lambda: mask(a)}[first]()
    say(f"after a reset, {first} first", told=told, then=dict(mask=mask(a), error=opt(a, 1, 4), recv=now_or_error(a),
                                                             send=outcome(a.send, b"x")))
a, b = connected()
reset(b)
say("other calls after a reset", name=a.getsockname()[0], peer=outcome(a.getpeername), state=tcp_state(a),
    shutdown=outcome(a.shutdown, 2), nodelay=set_get(a, 6, 1, 1))
a, b = connected()
b.shutdown(socket.SHUT_WR)
settled()
reset(b)
say("a reset behind the end", mask=mask(a), recv=now_or_error(a), send=outcome(a.send, b"x"), error=opt(a, 1, 4))
a, b = connected()
b.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 2))
b.send(b"all of it")
t = time.monotonic()
b.close()
say("lingering with a peer that is there", quick=time.monotonic() - t < 0.5, got=outcome(a.recv, 99), end=outcome(a.recv, 9))
a, b = connected()
c = b.dup()
b.close()
settled()
say("one of two descriptors closed", mask=mask(a), send=outcome(c.send, b"still"), got=outcome(a.recv, 9))
c.close()
settled()
say("and the other", recv=now_or_error(a))
l = listener()
address = l.getsockname()
a = tcp()
a.connect(address)
l.close()
settled()
say("a listener closed before accept", mask=mask(a), recv=now_or_error(a), again=outcome(tcp().connect, address))
a, b = connected()
a.setsockopt(6, socket.TCP_LINGER2, -1)
mine = a.getsockname()
a.close()
settled()
say("TCP_LINGER2 below 0", peer=mask(b), send=outcome(b.send, b"x"), then=[settled(), outcome(b.send, b"y")][1])
