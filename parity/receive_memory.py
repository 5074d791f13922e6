"""What a receive queue holds by true size: small and large segments from a device, joined, copied together, pruned; a window that
is shut, and what still comes in."""
from tunnel import *

NAMES = ("BeyondWindow", "TCPFromZeroWindowAdv", "TCPToZeroWindowAdv", "TCPWantZeroWindowAdv", "RcvPruned", "PruneCalled", "OfoPruned", "TCPRcvCoalesce", "TCPZeroWindowDrop",
         "TCPRcvCollapsed", "TCPRcvQDrop", "TCPOFODrop", "TCPOFOQueue", "TCPOFOMerge")
MSS, port = b"\2\4\x05\xb4", iter(range(4000, 4200))


def mem(s):
    """Octets that were received in order, and the true size of all that is held."""
    return struct.unpack("Q", s.getsockopt(6, 11, 136)[128:])[0], struct.unpack("9I", s.getsockopt(1, 55, 36))[0]


def acks(p):
    """What is answered, if need be when an acknowledgement was delayed long enough."""
    for _ in range(30):
        if seen := [a for a in segments(0.01) if a.sport == p.sport]:
            return seen
    return []


def one(s, p, what, flags, at, octets):
    """A segment, `at` octets behind the next one in order."""
    p.seq, before = p.base_seq + mem(s)[0], netstat()
    p.send(flags, 0, bytes(octets), at=at)
    seen = acks(p)
    say(what, moved=moved(before, NAMES), answers=[[a.flags, p.sacks(a), a.window] for a in seen], mem=mem(s), state=s.getsockopt(6, 11, 1)[0])
    return seen


def case(what, rcvbuf, fill, steps):
    with tcp() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        p = Peer(s, next(port), MSS + SACK_PERMITTED)
        p.base_seq = p.seq
        stuck = 0
        for n, (at, octets) in enumerate(fill):
            before = mem(s)
            one(s, p, f"{what}, fill {n}", ACK, at, octets)
            stuck = stuck + 1 if mem(s) == before else 0
            if stuck == 2:
                break
        for n, (name, flags, at, octets) in enumerate(steps):
            if name == "read":
                say(f"{what}, {n}: read", octets=len(s.recv(octets)), mem=mem(s), window=[a.window for a in acks(p)])
            else:
                one(s, p, f"{what}, {n}: {name}", flags, at, octets)
        if s.getsockopt(6, 11, 1)[0] != 7:
            say(f"{what}, rest", octets=len(s.recv(1 << 20)), end=outcome(lambda: len(s.recv(1 << 20))))
        p.send(RST | ACK, 0)


PROBES = [("keepalive", ACK, -1, 1), ("probe", ACK, 0, 1), ("partly old", ACK, -50, 60), ("ahead", ACK, 100, 10), ("nothing", ACK, 0, 0)]
CLOSE = [("FIN with data", ACK | FIN, 0, 1), ("bare FIN ahead", ACK | FIN, 1, 0), ("bare FIN", ACK | FIN, 0, 0), ("FIN again", ACK | FIN, -1, 0)]
for size in (100, 500, 700, 1460, 4000):
    case(f"{size}", 8000, [(0, size)] * 28, PROBES + CLOSE + [("read", 0, 0, 2000), ("data", ACK, 0, size)])
case("a FIN and nothing else", 8000, [], [("bare FIN", ACK | FIN, 0, 0), ("FIN again", ACK | FIN, -1, 0)])
case("a FIN behind read data", 8000, [(0, 100)], [("read", 0, 0, 100), ("bare FIN", ACK | FIN, 0, 0)])
case("few", 2000, [(0, 100)] * 20, PROBES)
case("mixed", 8000, [(0, n) for n in (1, 60, 200, 1, 1000, 30, 30, 30, 3000, 1, 1, 1, 500, 2, 700, 100, 100, 100, 100)], [("read", 0, 0, 100), ("data", ACK, 0, 20), ("read", 0, 0, 2000), ("data", ACK, 0, 1000)])
for size in (100, 500):
    case(f"behind a hole, {size}", 8000, [(size * n, size) for n in range(1, 26) if size * n < 7000], [("hole", ACK, 0, size), ("data", ACK, 0, 100)])
    case(f"behind a hole, {size}, backwards", 8000, [(size * n, size) for n in range(26, 0, -1) if size * n < 7000], [("hole", ACK, 0, size), ("data", ACK, 0, 100)])
case("islands", 8000, [(400 * n, 100) for n in range(1, 18)], [("data", ACK, 0, 100), ("data", ACK, 0, 4000)])
case("queue and islands", 8000, [(0, 100)] * 8 + [(400 * n, 100) for n in range(1, 16)], [("data", ACK, 0, 100)] * 2)
for size in (10, 1000):
    case(f"{size} behind a FIN", 8000, [], [("early FIN", ACK | FIN, 10, size), ("behind", ACK, 11 + size, size), ("hole", ACK, 0, 10)])
