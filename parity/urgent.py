"""Urgent data: the mark, SO_OOBINLINE, SIOCATMARK, poll."""
from observe import *
import array
import fcntl

OOB = socket.MSG_OOB


def at_mark(s):
    n = array.array("i", [9])
    fcntl.ioctl(s, 0x8905, n)
    return n[0]


a, b = connected()
say("none", oob=now_or_error(b, 1, OOB), mark=at_mark(b), mask=mask(b))
a.send(b"ab")
a.send(b"!", OOB)
a.send(b"cd")
settled()
say("between others", mask=mask(b), mark=at_mark(b), first=now_or_error(b), mark_then=at_mark(b), urgent=now_or_error(b, 1, OOB),
    again=now_or_error(b, 1, OOB), rest=now_or_error(b), mark_at_last=at_mark(b))
a, b = connected()
a.send(b"xyz", OOB)
settled()
say("the last byte of three", first=now_or_error(b), urgent=now_or_error(b, 9, OOB), rest=now_or_error(b))
a, b = connected()
a.send(b"u", OOB)
settled()
say("alone", mask=mask(b), recv=now_or_error(b), peek=now_or_error(b, 1, OOB | socket.MSG_PEEK), urgent=now_or_error(b, 1, OOB),
    mask_then=mask(b))
a, b = connected()
b.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
a.send(b"ab")
a.send(b"!", OOB)
a.send(b"cd")
settled()
say("inline", oob=now_or_error(b, 1, OOB), first=now_or_error(b), mark=at_mark(b), second=now_or_error(b))
a, b = connected()
a.send(b"1", OOB)
a.send(b"2", OOB)
settled()
say("two of them", urgent=now_or_error(b, 1, OOB), rest=now_or_error(b))
