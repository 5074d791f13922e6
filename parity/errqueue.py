"""IP_RECVERR: the error queue of a datagram socket, and time stamps of sending."""
from observe import *

ERRQUEUE = 0x2000


def entry(s):
    try:
        data, anc, flags, address = s.recvmsg(99, 512, ERRQUEUE)
    except OSError as e:
        return errno.errorcode[e.errno]
    out = dict(data=data.decode("latin-1"), flags=flags, to=address[0] if address else None)
    for level, kind, d in anc:
        if (level, kind) in ((0, 11), (41, 25)):
            e, origin, typ, code, _, info, more = struct.unpack_from("IBBBBII", d)
            offender = socket.inet_ntoa(d[20:24]) if level == 0 else socket.inet_ntop(socket.AF_INET6, d[24:40])
            out.update(errno=errno.errorcode.get(e, e), origin=origin, type=typ, code=code, info=info, offender=offender)
        else:
            out[f"cmsg {level} {kind}"] = len(d)
    return out


def nobody(family=socket.AF_INET):
    with udp(family) as u:
        return u.getsockname()


for family, level, option in ((socket.AF_INET, 0, 11), (socket.AF_INET6, 41, 25)):
    word = "IPv4" if level == 0 else "IPv6"
    for connects in (True, False):
        u = udp(family)
        u.setsockopt(level, option, 1)
        to = nobody(family)
        if connects:
            u.connect(to)
            u.send(b"first")
        else:
            u.sendto(b"first", to)
        settled()
        say(f"{word} refused, {'connected' if connects else 'not connected'}", mask=mask(u), entry=entry(u), empty=entry(u),
            error=opt(u, 1, 4), recv=now_or_error(u), mask_then=mask(u))
u = udp()
u.setsockopt(0, 11, 1)
u.sendto(b"one", nobody())
settled()
say("the next call is told, the entry stays", send=outcome(u.sendto, b"two", nobody()), entry=entry(u), error=opt(u, 1, 4))
u = udp()
u.setsockopt(0, 11, 1)
u.connect(nobody())
u.send(b"x")
settled()
say("SO_ERROR first", error=opt(u, 1, 4), mask=mask(u), entry=entry(u), mask_then=mask(u))
u = udp()
u.setsockopt(0, 11, 1)
u.setsockopt(0, 10, 2)
say("a datagram beyond the path's MTU is reported here", r=outcome(u.sendto, bytes(65507), (LO, 9)), error=opt(u, 1, 4))
with udp() as u, udp() as v:
    u.setsockopt(1, 37, 0x2 | 0x10 | 0x800)
    u.sendto(b"stamped", v.getsockname())
    settled()
    say("SO_TIMESTAMPING of sending", entry=entry(u), empty=entry(u))
