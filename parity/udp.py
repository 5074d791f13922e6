"""UDP: what a socket says when it is fresh, refused, full, disconnected; who receives."""
from observe import *


def nobody():
    with udp() as u:
        return u.getsockname()


with udp(bound=False) as u:
    say("fresh", mask=mask(u), recv=now_or_error(u), send=outcome(u.send, b"x"), address=u.getsockname()[0],
        peer=outcome(u.getpeername))
    say("sending binds", r=outcome(u.sendto, b"x", nobody()), address=u.getsockname()[0], port=u.getsockname()[1] > 0)
with udp(bound=False) as u:
    say("destinations", port_0=outcome(u.sendto, b"x", (LO, 0)), broadcast=outcome(u.sendto, b"x", ("255.255.255.255", 9)),
        lo_broadcast=outcome(u.sendto, b"x", ("127.255.255.255", 9)), v6=outcome(u.sendmsg, [b"x"]))
    u.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    say("a broadcast on loopback", r=outcome(u.sendto, b"x", ("127.255.255.255", 9)))
for first in ("recv", "send", "error"):
    u = udp()
    u.connect(nobody())
    sent = outcome(u.send, b"x")
    settled()
    seen_mask = mask(u)
    told = {"recv": lambda: now_or_error(u), "send": lambda: outcome(u.send, b"y"), "error": lambda: opt(u, 1, 4)}[first]()
    say(f"refused, {first} first", sent=sent, mask=seen_mask, told=told, then=now_or_error(u) if first != "send" else "-")
u = udp()
say("a stranger's refusal is not told", r=outcome(u.sendto, b"x", nobody()), mask=[settled(), mask(u)][1], recv=now_or_error(u))
with udp() as u, udp() as v:
    for w in (b"one", b"two", b"three"):
        u.sendto(w, v.getsockname())
    settled()
    say("one by one", r=[now_or_error(v) for _ in range(4)])
    u.sendto(b"four", v.getsockname())
    u.sendto(b"five", v.getsockname())
    settled()
    say("from whom", r=[(d.decode(), f == u.getsockname()) for d, f in (v.recvfrom(9), v.recvfrom(9))])
    v.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
    for _ in range(50):
        u.sendto(bytes(500), v.getsockname())
    settled()
    n = 0
    while now_or_error(v) != "EAGAIN":
        n += 1
    say("a full queue drops", kept=n)
    v.setsockopt(socket.SOL_SOCKET, 40, 1)
    [u.sendto(bytes(100), v.getsockname()) for _ in range(20)]
    settled()
    v.recv(200)
    [now_or_error(v) for _ in range(20)]
    u.sendto(b"x", v.getsockname())
    say("SO_RXQ_OVFL", cmsg=[(l, k, len(d)) for l, k, d in v.recvmsg(9, 99)[1]])
with udp() as u:
    u.settimeout(0.1)
    t = time.monotonic()
    r = outcome(lambda: socket.socket.recv(u, 9))
    say("a time limit", r=r, waited=0.05 < time.monotonic() - t < 0.5)
    u.settimeout(None)
    u.setsockopt(socket.SOL_SOCKET, 20, struct.pack("ll", 0, 100_000))
    t = time.monotonic()
    say("SO_RCVTIMEO", r=outcome(u.recv, 9), waited=0.05 < time.monotonic() - t < 0.5)
with udp() as u:
    u.connect(u.getsockname())
    say("with itself", r=outcome(u.send, b"echo"), got=outcome(u.recv, 9))
# Who receives when several could.
with udp(bound=False) as a, udp(bound=False) as b, udp(bound=False) as c, udp() as u:
    for s in (a, b, c):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    a.bind(("0.0.0.0", 0))
    port = a.getsockname()[1]
    b.bind((LO, port))
    c.bind((LO, port))
    c.connect(u.getsockname())
    u.sendto(b"x", (LO, port))
    settled()
    say("the closest fit receives", r=[now_or_error(s) for s in (a, b, c)])
    c.close()
    u.sendto(b"y", (LO, port))
    u.sendto(b"z", ("127.0.0.7", port))
    settled()
    say("then the address, then any", r=[now_or_error(s) for s in (a, b)])
with udp(socket.AF_INET6, bound=False) as six, udp() as u:
    six.bind(("::", 0))
    u.sendto(b"mapped", (LO, six.getsockname()[1]))
    say("a socket of both families", got=[(d.decode(), f[0]) for d, f in [six.recvfrom(9)]],
        back=outcome(six.sendto, b"back", ("::ffff:127.0.0.1", u.getsockname()[1])), heard=outcome(u.recv, 9))
