"""Which segments are acceptable (window, time stamps, SYN), and what D-SACK says of data that came twice."""
from tunnel import *

NAMES = ("PAWSEstab", "PAWSOldAck", "BeyondWindow", "TCPACKSkippedPAWS", "TCPACKSkippedSeq", "TCPChallengeACK", "TCPSYNChallenge", "TCPDSACKOldSent", "TCPOFOQueue",
         "TCPPureAcks", "TCPZeroWindowDrop", "TCPHPHits")
MSS, STATE = b"\2\4\x05\xb4", lambda s: s.getsockopt(6, 11, 1)[0]
port = iter(range(4000, 4100))


def case(what, steps, stamp=None, rcvbuf=None, writes=0, fin=None):
    """Segments, each behind the ones that arrived: name, flags, where it begins, octets, time stamp beside the peer's, how much
    the peer's next one is further on."""
    with tcp() as s:
        if rcvbuf:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        p = Peer(s, next(port), MSS + SACK_PERMITTED, stamp)
        s.send(bytes(writes))
        segments(0.03)
        if stamp:
            p.stamp += 1000
        for at, (name, flags, begin, octets, late, on) in enumerate(steps):
            before = netstat()
            p.send(flags, writes, bytes(octets), stamp=p.stamp - late if stamp else None, at=begin)
            seen = [a for a in segments(0.06) if a.sport == p.sport]
            say(f"{what}, {at}: {name}", moved=moved(before, NAMES), answers=[[a.flags, a.length, p.sacks(a)] for a in seen], state=STATE(s))
            p.seq += on
        if STATE(s) != 7:
            say(f"{what}, read", octets=len(s.recv(1 << 20)) if rcvbuf else None)
        p.send(RST | ACK, writes)


case("late", [("an ACK with a new time", ACK, 0, 0, 0, 0), ("the same again, older", ACK, 0, 0, 500, 0), ("as late as that", ACK, 0, 0, 999000, 0), ("data", ACK, 0, 10, 500, 0),
              ("old data", ACK, -1, 1, 500, 0), ("an ACK that data overtook", ACK, -1, 0, 500, 0)], stamp=1000000, writes=100)
case("SYN and RST with an old time", [("data", ACK, 0, 1, 0, 1), ("SYN", SYN, 0, 0, 1000, 0), ("SYN-ACK", SYN | ACK, 0, 0, 1000, 0), ("RST", RST, 0, 0, 1000, 0)], stamp=1000000)
case("beyond, nothing to read", [("data", ACK, 1000000, 10, 0, 0), ("nothing", ACK, 1000000, 0, 0, 0), ("begins in it", ACK, 7000, 1000, 0, 0), ("too much", ACK, 0, 9000, 0, 0)], rcvbuf=8000)
case("beyond, something to read", [("some", ACK, 0, 100, 0, 100), ("too much", ACK, 0, 9000, 0, 0), ("again", ACK, 0, 9000, 0, 0), ("and a FIN", ACK | FIN, 0, 8000, 0, 0)], rcvbuf=8000)
for over in (0, 1, 2):
    case(f"a FIN, {over} over the window", [("some", ACK, 0, 100, 0, 100), ("the rest", ACK | FIN, 0, 7199 + over, 0, 0)], rcvbuf=8000)
for at, pieces in enumerate([[(3000, 4000), (5000, 6000), (0, 8000)], [(3000, 4000), (0, 3500)], [(3000, 4000), (5000, 6000), (0, 5500)], [(1000, 2000), (3000, 4000), (5000, 6000), (0, 4000)],
                             [(1000, 2000), (0, 1000)], [(1000, 2000), (0, 500), (500, 1500)], [(1000, 2000), (3000, 4000), (0, 1000), (1500, 3500)]]):
    case(f"twice, {at}", [(f"{a} to {b}", ACK, a, b - a, 0, 0) for a, b in pieces])
