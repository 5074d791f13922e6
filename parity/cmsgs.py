"""Control messages that are received and sent."""
from observe import *

IP, IPV6 = socket.IPPROTO_IP, socket.IPPROTO_IPV6


def shown(anc, lo_index=1):
    return [[level, kind, data.hex()] for level, kind, data in anc]


def got(s, room=512):
    data, anc, flags, _ = s.recvmsg(99, room)
    return dict(data=data.decode("latin-1"), anc=shown(anc), flags=flags)


with udp() as u, udp() as v:
    say("none asked for", **[u.sendto(b"x", v.getsockname()), got(v)][1])
    for option in (8, 12, 13, 20):
        v.setsockopt(IP, option, 1)
        u.sendto(b"x", v.getsockname())
        data, anc, flags, _ = v.recvmsg(99, 512)
        # The port differs from run to run.
        say(f"IP option {option}", anc=[[l, k, d.hex() if k != 20 else [len(d), socket.inet_ntoa(d[4:8])]] for l, k, d in anc])
        v.setsockopt(IP, option, 0)
with udp() as u, udp() as v:
    v.setsockopt(IP, 8, 1)
    v.setsockopt(IP, 12, 1)
    for room in (0, 12, 20, 28, 32, 48, 52, 56, 80):
        u.sendto(b"x", v.getsockname())
        data, anc, flags, _ = v.recvmsg(99, room)
        say(f"room {room}", kinds=[[k, len(d)] for _, k, d in anc], flags=flags)
with udp() as u, udp() as v:
    v.setsockopt(IP, 12, 1)
    v.setsockopt(IP, 13, 1)
    to = v.getsockname()
    say("a TTL of its own", r=outcome(u.sendmsg, [b"x"], [(IP, 2, struct.pack("i", 7))], 0, to), **got(v))
    say("a TOS of its own", r=outcome(u.sendmsg, [b"x"], [(IP, 1, struct.pack("i", 0x28))], 0, to), **got(v))
    say("a TOS of one byte", r=outcome(u.sendmsg, [b"x"], [(IP, 1, b"\x30")], 0, to), **got(v))
    say("refused", ttl_0=outcome(u.sendmsg, [b"x"], [(IP, 2, struct.pack("i", 0))], 0, to),
        ttl_256=outcome(u.sendmsg, [b"x"], [(IP, 2, struct.pack("i", 256))], 0, to),
        short=outcome(u.sendmsg, [b"x"], [(IP, 2, b"\1")], 0, to), unknown=outcome(u.sendmsg, [b"x"], [(IP, 99, bytes(4))], 0, to),
        foreign=outcome(u.sendmsg, [b"x"], [(IP, 8, struct.pack("i4s4s", 0, socket.inet_aton("192.0.2.1"), bytes(4)))], 0, to),
        tos=outcome(u.sendmsg, [b"x"], [(IP, 1, struct.pack("i", 300))], 0, to))
    pktinfo = struct.pack("i4s4s", 0, socket.inet_aton("127.0.0.5"), bytes(4))
    u.sendmsg([b"x"], [(IP, 8, pktinfo)], 0, to)
    say("from another address", r=v.recvfrom(9)[1][0])
with udp() as u, udp() as v:
    for name, number in (("SO_TIMESTAMP", 29), ("SO_TIMESTAMPNS", 35)):
        v.setsockopt(1, number, 1)
        u.sendto(b"x", v.getsockname())
        anc = v.recvmsg(99, 512)[1]
        stamp = struct.unpack("ll", anc[0][2])[0] if anc else 0
        say(name, kinds=[[l, k, len(d)] for l, k, d in anc], now=abs(stamp - time.time()) < 5)
        v.setsockopt(1, number, 0)
six = socket.AF_INET6
with udp(six) as u, udp(six) as v:
    for option in (49, 51, 66):
        v.setsockopt(IPV6, option, 1)
        u.sendto(b"x", v.getsockname())
        say(f"IPv6 option {option}", **got(v))
        v.setsockopt(IPV6, option, 0)
    v.setsockopt(IPV6, 51, 1)
    v.setsockopt(IPV6, 66, 1)
    to = v.getsockname()
    say("a hop limit and class of its own", r=outcome(u.sendmsg, [b"x"], [(IPV6, 52, struct.pack("i", 9)), (IPV6, 67, struct.pack("i", 0x44))], 0, to), **got(v))
    say("refused, IPv6", hops=outcome(u.sendmsg, [b"x"], [(IPV6, 52, struct.pack("i", 256))], 0, to),
        tclass=outcome(u.sendmsg, [b"x"], [(IPV6, 67, struct.pack("i", 256))], 0, to), short=outcome(u.sendmsg, [b"x"], [(IPV6, 52, b"\1")], 0, to))
with udp(six, bound=False) as v, udp() as u:
    v.bind(("::", 0))
    v.setsockopt(IPV6, 49, 1)
    v.setsockopt(IP, 12, 1)
    u.sendto(b"x", (LO, v.getsockname()[1]))
    say("IPv4 to a socket of both", **got(v))
