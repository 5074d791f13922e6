"""IPPROTO_IP and IPPROTO_IPV6: defaults and limits."""
from observe import *

V4 = dict(IP_TOS=1, IP_TTL=2, IP_HDRINCL=3, IP_RECVOPTS=6, IP_RETOPTS=7, IP_PKTINFO=8, IP_MTU_DISCOVER=10, IP_RECVERR=11,
          IP_RECVTTL=12, IP_RECVTOS=13, IP_MTU=14, IP_FREEBIND=15, IP_PASSSEC=18, IP_TRANSPARENT=19, IP_ORIGDSTADDR=20,
          IP_MINTTL=21, IP_NODEFRAG=22, IP_BIND_ADDRESS_NO_PORT=24, IP_RECVERR_RFC4884=26, IP_MULTICAST_TTL=33,
          IP_MULTICAST_LOOP=34, IP_MULTICAST_ALL=49, IP_UNICAST_IF=50, IP_LOCAL_PORT_RANGE=51, IP_PROTOCOL=52)
V6 = dict(IPV6_UNICAST_HOPS=16, IPV6_MULTICAST_IF=17, IPV6_MULTICAST_HOPS=18, IPV6_MULTICAST_LOOP=19, IPV6_MTU_DISCOVER=23,
          IPV6_MTU=24, IPV6_RECVERR=25, IPV6_V6ONLY=26, IPV6_MULTICAST_ALL=29, IPV6_RECVPKTINFO=49, IPV6_RECVHOPLIMIT=51,
          IPV6_RECVTCLASS=66, IPV6_TCLASS=67, IPV6_AUTOFLOWLABEL=70, IPV6_DONTFRAG=62, IPV6_FREEBIND=78)
VALUES = (0, 1, 2, 4, 6, 64, 255, 256, 1279, -1, -2)
for kind, number in (("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM), ("raw", socket.SOCK_RAW)):
    proto = 200 if kind == "raw" else 0
    for name, option in V4.items():
        with socket.socket(socket.AF_INET, number, proto) as s:
            say(f"{kind} {name}", first=opt(s, 0, option), **{str(v): set_get(s, 0, option, v) for v in VALUES})
    if kind != "raw":
        for name, option in V6.items():
            with socket.socket(socket.AF_INET6, number, proto) as s:
                say(f"{kind} {name}", first=opt(s, 41, option), **{str(v): set_get(s, 41, option, v) for v in VALUES})
with udp() as s:
    say("one byte", tos=outcome(s.setsockopt, 0, 1, b"\x10"), then=opt(s, 0, 1), ttl=outcome(s.setsockopt, 0, 2, b"\x09"),
        then_ttl=opt(s, 0, 2), none=outcome(s.setsockopt, 0, 1, b""), read=list(s.getsockopt(0, 1, 1)))
    s.setsockopt(0, 1, 0xff)
    say("a socket's priority follows its TOS", tos=opt(s, 0, 1), priority=opt(s, 1, socket.SO_PRIORITY))
with tcp() as s:
    s.setsockopt(0, 1, 0xff)
    say("TCP keeps the two bits of ECN", tos=opt(s, 0, 1))
with udp(bound=False) as s:
    say("IP_MTU wants a peer", without=opt(s, 0, 14), connect=outcome(s.connect, (LO, 9)), then=opt(s, 0, 14))
with udp(socket.AF_INET6, bound=False) as s:
    say("IPv4 options of an IPv6 socket", ttl=[opt(s, 0, 2), outcome(s.setsockopt, 0, 2, 9)], udp=opt(s, 0, 10))
