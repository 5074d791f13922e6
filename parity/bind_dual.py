"""Ports shared, or not, between IPv4, IPv6 and sockets of both."""
from observe import *
import itertools

INET, INET6 = socket.AF_INET, socket.AF_INET6
PLACES = {"v4 any": (INET, "0.0.0.0", 0), "v4 lo": (INET, LO, 0), "v6 any": (INET6, "::", 0),
          "v6 any only": (INET6, "::", 1), "v6 lo": (INET6, "::1", 0), "mapped lo": (INET6, "::ffff:127.0.0.1", 0),
          "mapped any": (INET6, "::ffff:0.0.0.0", 0)}


def place(kind, name, port, option):
    family, address, only = PLACES[name]
    s = socket.socket(family, kind)
    if family == INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    if option:
        s.setsockopt(socket.SOL_SOCKET, option, 1)
    return s, outcome(s.bind, (address, port))


for word, kind in (("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)):
    for first in PLACES:
        plain, ports = {}, {}
        for second, (found, option) in itertools.product(PLACES, ((plain, 0), (ports, socket.SO_REUSEPORT))):
            a, r = place(kind, first, 0, option)
            if r != "ok":
                found[second] = f"first: {r}"
                continue
            if kind == socket.SOCK_STREAM:
                a.listen(1)
            b, found[second] = place(kind, second, a.getsockname()[1], option)
            a.close()
            b.close()
        say(f"{word} {first}", plain=plain, reuseport=ports)

for only in (0, 1):
    l = tcp(INET6)
    l.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    l.bind(("::", 0))
    l.listen(4)
    with tcp() as c, tcp(INET6) as d, tcp(INET6) as e:
        port = l.getsockname()[1]
        r = [outcome(c.connect, (LO, port)), outcome(d.connect, ("::1", port)),
             outcome(e.connect, ("::ffff:127.0.0.1", port))]
        peers = []
        for _ in range(r.count("ok")):
            a, peer = l.accept()
            peers.append(peer[0])
        say(f"who reaches a listener of [::], V6ONLY {only}", r=r, peers=peers)
with tcp(INET6) as a:
    a.bind(("::1", 0))
    say("V6ONLY of a bound socket", r=outcome(a.setsockopt, socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1))
with tcp(INET6) as a:
    a.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    say("V6ONLY and mapped addresses", bind=outcome(a.bind, ("::ffff:127.0.0.1", 0)),
        connect=outcome(a.connect, ("::ffff:127.0.0.1", 9)))
with tcp(INET6) as a:
    say("link-local addresses need a scope", bind=outcome(a.bind, ("fe80::1", 0)), connect=outcome(a.connect, ("fe80::1", 9)))
