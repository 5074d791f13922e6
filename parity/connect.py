"""connect(): refusals, states, disconnecting."""
from observe import *
import ctypes

INET6 = socket.AF_INET6
libc = ctypes.CDLL(None, use_errno=True)


def raw_connect(sock, data):
    if libc.connect(sock.fileno(), data, len(data)) == 0:
        return "ok"
    return errno.errorcode[ctypes.get_errno()]


def sockaddr(family, port=9, address=b"\x7f\0\0\1"):
    return struct.pack("=HH", family, socket.htons(port)) + address + bytes(8)


free = listener()
port = free.getsockname()[1]
free.close()
with tcp() as a:
    say("refused", r=outcome(a.connect, (LO, port)), error=opt(a, 1, 4), again=outcome(a.connect, (LO, port)),
        state=tcp_state(a), keeps_port=a.getsockname()[1] > 0)
with tcp() as a:
    a.setblocking(False)
    first = outcome(a.connect, (LO, port))
    settled()
    say("refused, not waiting", first=first, mask=mask(a), error=opt(a, 1, 4), then=opt(a, 1, 4), mask_then=mask(a),
        again=outcome(a.connect, (LO, port)))
for what, to in (("broadcast", ("255.255.255.255", port)), ("multicast", ("224.0.0.1", port)),
                 ("any", ("0.0.0.0", port)), ("port 0", (LO, 0))):
    with tcp() as a, udp(bound=False) as b:
        say(what, tcp=outcome(a.connect, to), udp=outcome(b.connect, to))
for what, to in (("IPv6 multicast", ("ff02::1", port)), ("IPv6 any", ("::", port))):
    with tcp(INET6) as a, udp(INET6, bound=False) as b:
        say(what, tcp=outcome(a.connect, to), udp=outcome(b.connect, to))
for kind, make in (("tcp", tcp), ("udp", lambda: udp(bound=False))):
    for what, data in (("short", sockaddr(2)[:12]), ("one byte", b"\2"), ("AF_UNIX", sockaddr(1)),
                       ("AF_INET6", sockaddr(10) + bytes(12)), ("AF_UNSPEC", sockaddr(0))):
        with make() as a:
            say(f"{kind}, {what}", r=raw_connect(a, data))
with listener() as l, tcp() as a:
    a.connect(l.getsockname())
    say("connected already", same=outcome(a.connect, l.getsockname()), other=outcome(a.connect, (LO, port)))
    say("disconnect of a connected stream", r=raw_connect(a, sockaddr(0)), state=tcp_state(a), mask=mask(a),
        again=outcome(a.connect, l.getsockname()))
with listener() as l, tcp() as a:
    a.setblocking(False)
    first = outcome(a.connect, l.getsockname())
    settled()
    say("not waiting, over loopback", first=first, mask=mask(a), error=opt(a, 1, 4), state=tcp_state(a),
        again=outcome(a.connect, l.getsockname()), once_more=outcome(a.connect, l.getsockname()))
with tcp() as a:
    a.bind((LO, 0))
    say("with itself", r=outcome(a.connect, a.getsockname()), state=tcp_state(a), echo=[outcome(a.send, b"me"), outcome(a.recv, 9)])
with listener(backlog=0) as l:
    held = [tcp() for _ in range(3)]
    for h in held:
        h.setblocking(False)
        outcome(h.connect, l.getsockname())
    settled()
    a = held[-1]
    say("waiting for an answer", state=tcp_state(a), mask=mask(a), send=outcome(a.send, b"x"), recv=now_or_error(a),
        again=outcome(a.connect, l.getsockname()), peer=outcome(a.getpeername), shutdown=outcome(a.shutdown, 2),
        after=tcp_state(a))
    [h.close() for h in held]
with udp() as a, udp() as b, udp() as c:
    a.connect(b.getsockname())
    c.sendto(b"stranger", a.getsockname())
    b.sendto(b"peer", a.getsockname())
    say("a datagram socket hears its peer only", r=outcome(a.recv, 99), peer=a.getpeername() == b.getsockname())
    say("and moves to another", r=outcome(a.connect, c.getsockname()), peer=a.getpeername() == c.getsockname())
    say("and leaves", r=raw_connect(a, sockaddr(0)), peer=outcome(a.getpeername), send=outcome(a.send, b"x"))
with tcp() as a, listener() as l:
    a.bind((LO, 0))
    mine = a.getsockname()
    a.connect(l.getsockname())
    with tcp() as b:
        b.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        a.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound = outcome(b.bind, mine)
        say("the same four numbers twice", bind=bound, connect=outcome(b.connect, l.getsockname()))
with udp(bound=False) as a:
    say("no route to documentation addresses", udp=outcome(a.connect, ("192.0.2.9", 9)),
        send=outcome(a.sendto, b"x", ("192.0.2.9", 9)), tcp=outcome(tcp().connect, ("192.0.2.9", 9)),
        six=outcome(tcp(INET6).connect, ("2001:db8::9", 9)))
