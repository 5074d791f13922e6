"""Extension headers of a program's own (RFC 3542 and 2292): options, control messages, what the wire has of them."""
from observe import *

S6, V6 = 41, socket.AF_INET6
HOP, RTHDRDST, RTHDR, DST = 54, 55, 57, 59
STICKY = dict(IPV6_HOPOPTS=HOP, IPV6_RTHDRDSTOPTS=RTHDRDST, IPV6_RTHDR=RTHDR, IPV6_DSTOPTS=DST)
RX = dict(IPV6_RECVHOPOPTS=53, IPV6_RECVRTHDR=56, IPV6_RECVDSTOPTS=58, IPV6_2292PKTINFO=2, IPV6_2292HOPOPTS=3,
          IPV6_2292DSTOPTS=4, IPV6_2292RTHDR=5, IPV6_2292HOPLIMIT=8)
ONE = socket.inet_pton(V6, "::1")
PAD, ALERT = bytes([0, 0, 1, 4, 0, 0, 0, 0]), bytes([0, 0, 5, 2, 0, 0, 1, 0])
# An unknown option that who does not know it passes over.
OWN = bytes([0, 1, 0x1e, 12, *range(12)])
SRH = bytes([0, 2, 4, 0, 0, 0, 0, 0]) + ONE
TWO = bytes([0, 4, 4, 1, 1, 0, 0, 0]) + bytes(16) + ONE


def text(value):
    return value.encode("latin-1").hex() if isinstance(value, str) and not value.isupper() else value


def header(s, name):
    return text(outcome(s.getsockopt, S6, name, 100))


def set_header(s, name, value):
    done = outcome(s.setsockopt, S6, name, value)
    return header(s, name) if done == "ok" else done


def chain(p):
    """What crossed lo: destination, extension headers, protocol and length of what follows."""
    settled()
    seen = []
    while True:
        try:
            d, a = p.recvfrom(9000)
        except BlockingIOError:
            return seen
        if a[2] == 4 or d[:1] != b"\x60":
            continue
        following, at, found = d[6], 40, []
        while following in (0, 43, 60):
            n = (d[at + 1] + 1) * 8
            found.append(f"{following}:{d[at:at + n].hex()}")
            following, at = d[at], at + n
        seen.append([socket.inet_ntop(V6, d[24:40]), found, following, len(d) - at])


def told(s):
    settled()
    try:
        _, anc, _, _ = s.recvmsg(99, 999, socket.MSG_DONTWAIT)
    except OSError as e:
        return errno.errorcode[e.errno]
    return [[kind, data.hex()] for level, kind, data in anc if level == S6]


def sent(case, sticky=(), messages=(), rx=(53, 56, 58), kind=socket.SOCK_DGRAM):
    """One datagram with these headers to a socket that asks to be told."""
    proto = 200 if kind == socket.SOCK_RAW else 0
    with socket.socket(V6, kind, proto) as r, socket.socket(V6, kind, proto) as s, \
            socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x86dd)) as p:
        p.bind(("lo", 0x86dd))
        p.setblocking(False)
        r.bind(("::1", 0))
        for option in rx:
            r.setsockopt(S6, option, 1)
        done = [outcome(s.setsockopt, S6, o, v) for o, v in sticky]
        to = ("::1", 0) if proto else r.getsockname()
        done.append(outcome(s.sendmsg, [b"abcdefgh"], [(S6, o, v) for o, v in messages], 0, to))
        say(case, done=done, wire=chain(p), told=told(r))


for kind, number in (("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM), ("raw", socket.SOCK_RAW)):
    proto = 200 if kind == "raw" else 0
    for name, option in STICKY.items():
        with socket.socket(V6, number, proto) as s:
            values = (b"", PAD, PAD[:7], PAD[:4], b"\0", PAD * 2, bytes([0, 1]) + PAD[2:], OWN, SRH, TWO, TWO[:24], bytes(2048),
                      SRH[:4] + b"\1" + SRH[5:], bytes([0, 2, 0, 1]) + SRH[4:], bytes([0, 2, 2, 1]) + SRH[4:], SRH + PAD, b"")
            say(f"{kind} {name}", first=header(s, option), int=opt(s, S6, option), set=[set_header(s, option, v) for v in values])
    for name, option in RX.items():
        with socket.socket(V6, number, proto) as s:
            say(f"{kind} {name}", first=opt(s, S6, option), **{str(v): set_get(s, S6, option, v) for v in (0, 1, 7, -1)})
with udp(V6) as s:
    s.setsockopt(S6, HOP, PAD)
    say("less room than the header takes", four=text(outcome(s.getsockopt, S6, HOP, 4)), one=text(outcome(s.getsockopt, S6, HOP, 1)))

for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
    name = "raw" if kind == socket.SOCK_RAW else "udp"
    sent(f"{name} hop-by-hop", [(HOP, PAD)], kind=kind)
    sent(f"{name} both", [(HOP, ALERT), (DST, OWN)], kind=kind)
    sent(f"{name} for a routing header only", [(RTHDRDST, PAD)], kind=kind)
    sent(f"{name} a message", messages=[(HOP, PAD)], kind=kind)
    sent(f"{name} a message instead of the option", [(DST, OWN)], [(HOP, PAD)], kind=kind)
    sent(f"{name} a message about something else", [(DST, OWN)], [(67, struct.pack("i", 3))], kind=kind)
sent("all four", [(HOP, PAD), (RTHDRDST, PAD), (RTHDR, SRH), (DST, OWN)])
sent("two segments", [(RTHDR, TWO)])
for case, messages in {"old messages": [(3, PAD), (4, OWN)], "twice hop-by-hop": [(HOP, PAD)] * 2, "twice for the end": [(DST, PAD)] * 2,
                       "twice in the old form": [(4, PAD)] * 2, "old and new": [(4, PAD), (DST, OWN)], "without a route": [(RTHDRDST, PAD)],
                       "a route": [(RTHDR, SRH)], "an old route": [(5, SRH)], "too short": [(HOP, b"\0")], "shorter than it says": [(HOP, b"\0\1" + PAD[2:])],
                       "longer than it says": [(HOP, PAD * 2)], "empty": [(DST, b"")]}.items():
    sent(case, messages=messages)
sent("an option that ends the packet", [(HOP, bytes([0, 0, 0x5e, 4, 0, 0, 0, 0]))])
sent("told in the old form", [(HOP, PAD), (DST, OWN)], rx=(2, 3, 4, 5, 8))
sent("told in both forms", [(HOP, PAD), (DST, OWN)], rx=(2, 3, 4, 5, 8, 49, 51, 53, 56, 58, 66))
sent("nothing to tell", rx=(2, 3, 4, 5, 8, 53, 56, 58))

for case, sticky, on in (("none", (), "c"), ("hop-by-hop", [(HOP, PAD)], "c"), ("both", [(HOP, PAD), (DST, OWN)], "c"), ("the listener's", [(DST, OWN)], "l")):
    with listener(("::1", 0), family=V6) as l, tcp(V6) as c:
        for o, v in sticky:
            (c if on == "c" else l).setsockopt(S6, o, v)
        done = outcome(c.connect, l.getsockname())
        a, _ = l.accept()
        with a:
            c.sendall(bytes(1000))
            a.sendall(b"x")
            say(f"tcp {case}", done=done, got=len(a.recv(2000)), back=outcome(c.recv, 9),
                inherited=[header(a, o) for o in STICKY.values()])


def packed(*messages):
    b = b""
    for kind, data in messages:
        m = struct.pack("Qii", 16 + len(data), S6, kind) + data
        b += m + bytes(-len(m) % 8)
    return b


for kind, number in (("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)):
    with socket.socket(V6, number) as s:
        values = (packed((HOP, PAD)), packed((DST, OWN)), b"", packed((3, PAD), (4, OWN)), b"xx", packed((67, b"\7\0\0\0")), packed((HOP, b"")))
        say(f"{kind} all at once", set=[[outcome(s.setsockopt, S6, 6, v), header(s, HOP), header(s, DST)] for v in values])
