"""Flags of send and recv, and addresses that a stream is given."""
from observe import *
import array
import fcntl
import signal

signal.signal(signal.SIGPIPE, signal.SIG_IGN)
MSG_MORE, MSG_PROBE, MSG_ERRQUEUE = 0x8000, 0x10, 0x2000


def inq(s):
    n = array.array("i", [0])
    fcntl.ioctl(s, 0x541b, n)
    return n[0]


def filled(*words):
    a, b = connected()
    for w in words:
        a.send(w)
    settled()
    return a, b


a, b = filled(b"abcdef")
say("MSG_PEEK", peek=[outcome(b.recv, 3, socket.MSG_PEEK), outcome(b.recv, 9, socket.MSG_PEEK)], inq=inq(b),
    take=outcome(b.recv, 9), inq_then=inq(b))
a, b = filled(b"abcdef")
say("MSG_TRUNC on a stream", counted=len(outcome(b.recv, 4, socket.MSG_TRUNC | socket.MSG_DONTWAIT)),
    rest=outcome(b.recv, 9))
a, b = filled(b"abc")
say("MSG_WAITALL with a peer that ends", r=[outcome(a.send, b"d"), outcome(a.shutdown, 1), outcome(b.recv, 10, socket.MSG_WAITALL), outcome(b.recv, 10)])
a, b = filled(b"abc")
say("MSG_WAITALL and MSG_DONTWAIT", r=outcome(b.recv, 10, socket.MSG_WAITALL | socket.MSG_DONTWAIT), then=now_or_error(b))
a, b = connected()
say("MSG_MORE holds back", first=outcome(a.send, b"held", MSG_MORE), at_once=now_or_error(b), second=outcome(a.send, b" out"),
    then=[settled(), outcome(b.recv, 99)][1])
a, b = connected()
say("MSG_MORE alone goes in a fifth of a second", first=outcome(a.send, b"late", MSG_MORE), at_once=now_or_error(b),
    then=outcome(b.recv, 99))
a, b = connected()
other = ("127.0.0.9", 9)
say("sendto on a connected stream", r=outcome(a.sendto, b"one", other), msg=outcome(a.sendmsg, [b"two"], [], 0, other),
    got=[settled(), outcome(b.recv, 99)][1])
with tcp() as s:
    say("without a connection", send=outcome(s.send, b"x"), sendto=outcome(s.sendto, b"x", other), recv=now_or_error(s),
        sendmsg=outcome(s.sendmsg, [b"x"]))
    say("without a connection, oob", send=outcome(s.send, b"x", socket.MSG_OOB), recv=now_or_error(s, 1, socket.MSG_OOB))
a, b = connected()
say("nothing there", recv=now_or_error(b), errqueue=outcome(b.recvmsg, 9, 99, MSG_ERRQUEUE), oob=now_or_error(b, 1, socket.MSG_OOB),
    nothing=outcome(b.send, b""))
a, b = filled(b"xyz")
data, anc, flags, address = b.recvmsg(2)
say("recvmsg of a stream", data=data.decode(), anc=len(anc), flags=flags, address=str(address),
    rest=outcome(b.recv, 9, 0x10000000))
a, b = connected()
big = bytes(3_000_000)
a.setblocking(False)
n = a.send(big)
again = outcome(a.send, big)
say("a send that fills", whole=n == len(big), again_ends=again == "EAGAIN" or isinstance(again, int),
    in_the_end=[again := outcome(a.send, big) for _ in range(50)][-1], mask=mask(a))
with udp() as u, udp() as v:
    u.sendto(b"0123456789", v.getsockname())
    say("MSG_TRUNC on a datagram", length=len(v.recv(4, socket.MSG_PEEK)), r=[list(v.recvmsg(4)[1:3])], rest=now_or_error(v))
    u.sendto(b"", v.getsockname())
    say("an empty datagram", r=outcome(v.recv, 9), mask=mask(v))
    say("too long", plus_one=outcome(u.sendto, bytes(65508), v.getsockname()), fits=outcome(u.sendto, bytes(65507), v.getsockname()),
        got=len(v.recv(70000)))
    say("oob on a datagram", send=outcome(u.sendto, b"x", socket.MSG_OOB, v.getsockname()), recv=now_or_error(v, 9, socket.MSG_OOB))
    u.connect(v.getsockname())
    say("MSG_MORE on datagrams", first=outcome(u.send, b"ab", MSG_MORE), at_once=now_or_error(v), second=outcome(u.send, b"cd"),
        got=outcome(v.recv, 9))
    say("MSG_PROBE", r=outcome(u.send, b"x", MSG_PROBE), got=now_or_error(v))
