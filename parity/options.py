"""SOL_SOCKET: defaults, clamps, sizes."""
from observe import *

NAMES = {n: getattr(socket, n, v) for n, v in dict(
    SO_DEBUG=1, SO_REUSEADDR=2, SO_TYPE=3, SO_ERROR=4, SO_DONTROUTE=5, SO_BROADCAST=6, SO_SNDBUF=7, SO_RCVBUF=8,
    SO_KEEPALIVE=9, SO_OOBINLINE=10, SO_NO_CHECK=11, SO_PRIORITY=12, SO_REUSEPORT=15, SO_PASSCRED=16, SO_RCVLOWAT=18,
    SO_SNDLOWAT=19, SO_TIMESTAMP=29, SO_ACCEPTCONN=30, SO_MARK=36, SO_TIMESTAMPING=37, SO_PROTOCOL=38, SO_DOMAIN=39,
    SO_RXQ_OVFL=40, SO_PEEK_OFF=42, SO_NOFCS=43, SO_LOCK_FILTER=44, SO_SELECT_ERR_QUEUE=45, SO_BUSY_POLL=46,
    SO_INCOMING_CPU=49, SO_INCOMING_NAPI_ID=56, SO_COOKIE=57, SO_TXREHASH=74, SO_RCVMARK=75).items()}
SOL = socket.SOL_SOCKET
for kind, make in (("tcp", tcp), ("udp", lambda: udp(bound=False)), ("tcp6", lambda: tcp(socket.AF_INET6))):
    with make() as s:
        for name, number in NAMES.items():
            # Which processor, and whose cookie, is not a matter of the stack.
            if name in ("SO_INCOMING_CPU", "SO_COOKIE"):
                continue
            say(f"{kind} {name}", first=opt(s, SOL, number), on=set_get(s, SOL, number, 1),
                odd=set_get(s, SOL, number, 7), below=set_get(s, SOL, number, -1))
for kind, make in (("tcp", tcp), ("udp", lambda: udp(bound=False))):
    for name in ("SO_SNDBUF", "SO_RCVBUF"):
        with make() as s:
            say(f"{kind} {name} by size", **{str(v): set_get(s, SOL, NAMES[name], v)
                                            for v in (0, 1, 1000, 2304, 5000, 100_000, 10_000_000, 2**31 - 1)})
    for name, number in (("SO_SNDBUFFORCE", 32), ("SO_RCVBUFFORCE", 33)):
        with make() as s:
            say(f"{kind} {name}", r=outcome(s.setsockopt, SOL, number, 1_000_000), snd=opt(s, SOL, 7), rcv=opt(s, SOL, 8))
with tcp() as s:
    for name, number in (("SO_RCVTIMEO", 20), ("SO_SNDTIMEO", 21)):
        def limit(sec, usec):
            done = outcome(s.setsockopt, SOL, number, struct.pack("ll", sec, usec))
            return list(struct.unpack("ll", s.getsockopt(SOL, number, 16))) if done == "ok" else done
        say(name, first=list(struct.unpack("ll", s.getsockopt(SOL, number, 16))), one=limit(1, 500_000), below=limit(-1, 0),
            much=limit(0, 1_000_000), short=outcome(s.setsockopt, SOL, number, b"\1\0\0\0"), tick=limit(0, 1))
    for on, sec in ((1, 0), (1, 7), (5, 2)):
        s.setsockopt(SOL, socket.SO_LINGER, struct.pack("ii", on, sec))
        say(f"SO_LINGER {on} {sec}", r=list(struct.unpack("ii", s.getsockopt(SOL, socket.SO_LINGER, 8))))
    say("SO_LINGER, four bytes", r=outcome(s.setsockopt, SOL, socket.SO_LINGER, b"\1\0\0\0"))
    say("SO_BINDTODEVICE", lo=outcome(s.setsockopt, SOL, 25, b"lo\0"), name=opt(s, SOL, 25, 16), no=outcome(s.setsockopt, SOL, 25, b"nosuch"),
        off=outcome(s.setsockopt, SOL, 25, b""), index=opt(s, SOL, 62))
    say("values of other sizes", two=outcome(s.setsockopt, SOL, 2, b"\1\0"), none=outcome(s.setsockopt, SOL, 2, b""),
        eight=outcome(s.setsockopt, SOL, 2, bytes(8)), read_two=len(s.getsockopt(SOL, 2, 2)), read_one=len(s.getsockopt(SOL, 2, 1)))
    say("numbers that do not exist", socket_level=[opt(s, SOL, 200), outcome(s.setsockopt, SOL, 200, 1)],
        level=[opt(s, 77, 1), outcome(s.setsockopt, 77, 1, 1)], ip=[opt(s, 0, 120), outcome(s.setsockopt, 0, 120, 1)],
        tcp=[opt(s, 6, 99), outcome(s.setsockopt, 6, 99, 1)], udp=[opt(s, 17, 1), outcome(s.setsockopt, 17, 1, 1)],
        ipv6=[opt(s, 41, 26), outcome(s.setsockopt, 41, 26, 1)])
