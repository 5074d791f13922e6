"""IPPROTO_UDP options, segmentation among them."""
from observe import *

U = socket.IPPROTO_UDP
CORK, ENCAP, NO_CHECK6_TX, NO_CHECK6_RX, SEGMENT, GRO = 1, 100, 101, 102, 103, 104
for name, number in dict(UDP_CORK=CORK, UDP_NO_CHECK6_TX=NO_CHECK6_TX, UDP_NO_CHECK6_RX=NO_CHECK6_RX, UDP_SEGMENT=SEGMENT,
                         UDP_GRO=GRO).items():
    with udp() as u:
        say(name, first=opt(u, U, number), **{str(v): set_get(u, U, number, v) for v in (0, 1, 1000, 65535, 65536, -1)})
with udp() as u, udp() as v:
    u.setsockopt(U, CORK, 1)
    say("corked", r=[outcome(u.sendto, w, v.getsockname()) for w in (b"a", b"b")], at_once=now_or_error(v),
        off=outcome(u.setsockopt, U, CORK, 0), got=outcome(v.recv, 9))
with udp() as u, udp() as v:
    u.connect(v.getsockname())
    u.setsockopt(U, SEGMENT, 4)
    say("segments by option", r=outcome(u.send, b"0123456789"), got=[outcome(v.recv, 99) for _ in range(3)])
    u.setsockopt(U, SEGMENT, 0)
    cmsg = [(U, SEGMENT, struct.pack("H", 5))]
    say("segments by message", r=outcome(u.sendmsg, [b"0123456789"], cmsg), got=[outcome(v.recv, 99) for _ in range(2)])
    say("bad segments", short=outcome(u.sendmsg, [b"x"], [(U, SEGMENT, b"\5")]), zero=outcome(u.sendmsg, [b"x"], [(U, SEGMENT, struct.pack("H", 0))]),
        many=outcome(u.sendmsg, [bytes(200)], [(U, SEGMENT, struct.pack("H", 1))]))
with udp() as u, udp() as v:
    v.setsockopt(U, GRO, 1)
    u.connect(v.getsockname())
    u.setsockopt(U, SEGMENT, 100)
    u.send(bytes(250))
    data, anc, _, _ = v.recvmsg(999, 99)
    say("received together", length=len(data), cmsg=[(l, k, struct.unpack("i", d)[0]) for l, k, d in anc])
with udp(socket.AF_INET6) as u, udp(socket.AF_INET6) as v:
    outcome(u.setsockopt, U, NO_CHECK6_TX, 1)
    say("IPv6 without a checksum is not taken", r=outcome(u.sendto, b"x", v.getsockname()), got=[settled(), now_or_error(v)][1])
    outcome(v.setsockopt, U, NO_CHECK6_RX, 1)
    say("unless it is asked for", r=outcome(u.sendto, b"x", v.getsockname()), got=[settled(), now_or_error(v)][1])
