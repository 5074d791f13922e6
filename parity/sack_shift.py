"""SACKed neighbours become one piece of the write queue: the counters that tell of it."""
from tunnel import *

NAMES = ("TCPSackShifted", "TCPSackMerged", "TCPSackShiftFallback")
port = iter(range(3000, 3100))


def case(what, writes, steps):
    """Writes that leave one by one, then acknowledgements: up to where, and SACK blocks."""
    with tcp() as s:
        s.setsockopt(6, socket.TCP_CONGESTION, b"reno")
        p = Peer(s, next(port), MSS_1000 + SACK_PERMITTED)
        s.setsockopt(6, socket.TCP_NODELAY, 1)
        for n in writes:
            s.send(bytes(n))
            segments(0.2, n)
        for at, (ack, *blocks) in enumerate(steps):
            before = netstat()
            edges = b"".join(struct.pack("!II", p.base + a & 0xffffffff, p.base + b & 0xffffffff) for a, b in blocks)
            p.send(ACK, ack, options=b"\1\1\5" + bytes([2 + len(edges)]) + edges if blocks else b"")
            segments(0.03)
            say(f"{what}, {at}", acknowledged=ack, blocks=blocks, moved=moved(before, NAMES))
        p.send(RST | ACK, 0)


case("pieces of one segment", [1000] * 10, [(0, (2000, 3000)), (0, (2000, 4000)), (0, (5000, 6000), (2000, 4000)), (0, (2000, 6000)), (0, (2000, 9000)), (1000, (2000, 9000)), (10000,)])
case("a super-segment", [10000], [(0, (3000, 4000)), (0, (3000, 5000)), (0, (7000, 8000), (3000, 5000)), (0, (3000, 8000)), (2000, (3000, 8000)), (10000,)])
case("short pieces", [500] * 8, [(0, (500, 1000)), (0, (500, 1500)), (0, (2500, 3000), (500, 1500)), (0, (500, 3000)), (4000,)])
case("of different lengths", [1000, 700, 700, 1000, 300, 1000], [(0, (1000, 1700)), (0, (1000, 2400)), (0, (1000, 3400)), (0, (1000, 3700)), (0, (1000, 4700)), (4700,)])
case("part of a segment", [1000] * 6, [(0, (1000, 1500)), (0, (1500, 3000)), (0, (1000, 3500)), (6000,)])
case("part of a super-segment", [4000, 4000], [(0, (1500, 2500)), (0, (1500, 3500)), (0, (1000, 6500)), (8000,)])
case("behind a retransmission", [1000] * 8, [(0, (1000, 2000)), (0, (1000, 3000)), (0, (1000, 4000)), (0, (1000, 5000)), (1000, (2000, 5000)), (1000, (2000, 7000)), (8000,)])
