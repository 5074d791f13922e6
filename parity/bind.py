"""bind(): addresses and lengths that are refused, and which sockets keep which others from a port (IPv4)."""
from observe import *
import itertools

s = tcp()
for what, to in (("foreign address", ("192.0.2.1", 0)), ("loopback of another number", ("127.3.2.1", 0)),
                 ("broadcast", ("255.255.255.255", 0)), ("multicast", ("224.0.0.1", 0))):
    with tcp() as a, udp(bound=False) as b:
        say(what, tcp=outcome(a.bind, to), udp=outcome(b.bind, to))
with tcp() as a:
    say("twice", first=outcome(a.bind, (LO, 0)), second=outcome(a.bind, (LO, 0)))
with udp(bound=False) as a:
    say("twice, UDP", first=outcome(a.bind, (LO, 0)), second=outcome(a.bind, (LO, 0)))


def raw_bind(sock, data):
    """bind() with bytes that Python would not make."""
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.bind(sock.fileno(), data, len(data)) == 0:
        return "ok"
    return errno.errorcode[ctypes.get_errno()]


def sockaddr(family, port=0, address=b"\x7f\0\0\1"):
    return struct.pack("=HH", family, socket.htons(port)) + address + bytes(8)


for kind, make in (("tcp", tcp), ("udp", lambda: udp(bound=False))):
    for what, data in (("short", sockaddr(2)[:15]), ("two bytes", sockaddr(2)[:2]), ("long", sockaddr(2) + bytes(8)),
                       ("AF_UNSPEC any", sockaddr(0, 0, bytes(4))), ("AF_UNSPEC loopback", sockaddr(0)),
                       ("AF_INET6", sockaddr(10) + bytes(12)), ("AF_UNIX", sockaddr(1))):
        with make() as a:
            say(f"{kind}, {what}", r=raw_bind(a, data))

# Two sockets, all pairs of: no option, SO_REUSEADDR, SO_REUSEPORT; the first listening or not.
NAMES = {0: "none", socket.SO_REUSEADDR: "addr", socket.SO_REUSEPORT: "port"}


def holder(make, option, address, port, listens):
    a = make()
    if option:
        a.setsockopt(socket.SOL_SOCKET, option, 1)
    r = outcome(a.bind, (address, port))
    if r == "ok" and listens:
        r = outcome(a.listen, 4)
    return a, r


for kind, make in (("tcp", tcp), ("udp", lambda: udp(bound=False))):
    for listens in (False, True) if kind == "tcp" else (False,):
        for one, two in itertools.product(NAMES, NAMES):
            got = {}
            for where, first, second in (("same", LO, LO), ("wild then address", "0.0.0.0", LO),
                                         ("address then wild", LO, "0.0.0.0"), ("others", LO, "127.0.0.2")):
                a, _ = holder(make, one, first, 0, listens)
                b, got[where] = holder(make, two, second, a.getsockname()[1], False)
                a.close()
                b.close()
            say(f"{kind} {NAMES[one]} {'listens' if listens else 'bound'}, then {NAMES[two]}", **got)

with tcp() as a, tcp() as b:
    for x in (a, b):
        x.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    a.bind((LO, 0))
    b.bind(a.getsockname())
    say("two share a port by SO_REUSEADDR", first_listens=outcome(a.listen, 1), second_listens=outcome(b.listen, 1))
with tcp() as a:
    a.bind((LO, 0))
    port = a.getsockname()[1]
    say("an automatic port is in the range", r=32768 <= port <= 60999)
with tcp() as a:
    IP_BIND_ADDRESS_NO_PORT = 24
    a.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    a.bind((LO, 0))
    say("IP_BIND_ADDRESS_NO_PORT", name=list(a.getsockname()))
for what, option, value in (("IP_FREEBIND", 15, 1), ("IP_TRANSPARENT", 19, 1)):
    with tcp() as a:
        a.setsockopt(socket.IPPROTO_IP, option, value)
        say(f"foreign address with {what}", r=outcome(a.bind, ("192.0.2.1", 0)))
a, b = connected()
say("bind of a connected socket", r=outcome(a.bind, (LO, 0)))
