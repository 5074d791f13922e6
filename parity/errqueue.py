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


def summed(message, at=2):
    total = sum(struct.unpack(f"!{len(message) // 2}H", message))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return message[:at] + struct.pack("!H", ~total & 0xffff) + message[at + 2:]


# An ICMP error as a router makes it, about a datagram of ours: 128 bytes quoted, then extensions (RFC 4884).
objects = struct.pack("!HBBI", 8, 1, 1, 0x12345678)
EXTENSIONS = {"sound": summed(b"\x20\0\0\0" + objects), "without a sum": b"\x20\0\0\0" + objects, "a wrong sum": b"\x20\0\0\1" + objects,
              "of version 1": b"\x10\0\0\0" + objects, "cut": b"\x20\0\0\0" + objects[:6], "none": b""}
for words, kind in ((32, 3), (20, 3), (0, 3), (32, 11)):
    for name, extension in EXTENSIONS.items():
        if words == 32 and kind == 3 or name == "sound":
            u = udp()
            u.setsockopt(0, 11, 1)
            u.setsockopt(0, 26, 1)
            port = u.getsockname()[1]
            quoted = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 128, 0, 0, 64, 17, 0, socket.inet_aton(LO), socket.inet_aton(LO)) + struct.pack("!HHHH", port, 9, 108, 0) + bytes(100)
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, 1) as raw:
                raw.sendto(summed(struct.pack("!BBHBBH", kind, 0 if kind == 11 else 1, 0, 0, words, 0) + quoted + extension), (LO, 0))
            settled()
            anc = outcome(u.recvmsg, 200, 512, ERRQUEUE)
            told = [list(d[12:16]) for l, k, d in anc[1] if (l, k) == (0, 11)] if isinstance(anc, tuple) else anc
            say(f"extensions of an ICMP error: {name}, type {kind}, {words} words", length=len(anc[0]) if isinstance(anc, tuple) else None, data=told)
