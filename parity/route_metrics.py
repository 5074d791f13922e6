"""What a route says of its paths (RTA_METRICS): who takes it, what is refused. Routes are local ones at lo, which both ends use."""
from observe import *

NEWROUTE, DELROUTE = 24, 25
ACK, CREATE, EXCL, REPLACE = 5, 0x400, 0x200, 0x100
(LOCK, MTU, WINDOW, RTT, RTTVAR, SSTHRESH, CWND, ADVMSS, REORDERING, HOPLIMIT, INITCWND, FEATURES, RTO_MIN, INITRWND,
 QUICKACK, CC_ALGO, NO_COOKIE) = range(1, 18)
netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)


def attr(kind, value):
    if isinstance(value, int):
        value = struct.pack("I", value)
    return struct.pack("HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def route(n, metrics, kind=NEWROUTE, flags=CREATE | EXCL):
    """A route to 127.0.n.1; the errno."""
    body = struct.pack("8BI", 2, 32, 0, 0, 255, 3, 254, 2, 0)
    body += attr(1, socket.inet_aton(f"127.0.{n}.1")) + attr(4, socket.if_nametoindex("lo"))
    body += attr(8, b"".join(attr(k, v) for k, v in metrics))
    netlink.send(struct.pack("IHHII", 16 + len(body), kind, flags | ACK, 1, 0) + body)
    r = -struct.unpack("i", netlink.recv(4096)[16:20])[0]
    return errno.errorcode.get(r, r)


def pair(n):
    with listener((f"127.0.{n}.1", 0)) as l:
        a = tcp()
        a.connect(l.getsockname())
        b, _ = l.accept()
    return a, b


def info(s):
    d = s.getsockopt(6, 11, 256)
    word = lambda at: struct.unpack_from("I", d, at)[0]
    return dict(rto_ms=word(8) // 1000, snd_mss=word(16), pmtu=word(60), rcv_ssthresh=word(64), cwnd=word(80),
                advmss=word(84), options=d[5])


def see(case, n, metrics, *what):
    r = route(n, metrics)
    a, b = pair(n)
    for name, s in ((" to", a), (" from", b)):
        facts = info(s)
        say(case + name, r=r, **{k: facts[k] for k in what})
    return a, b


lo_up()
see("initcwnd 3", 2, [(INITCWND, 3)], "cwnd")
see("initcwnd 40", 3, [(INITCWND, 40)], "cwnd")
see("advmss 1000", 4, [(ADVMSS, 1000)], "advmss", "snd_mss")
see("mtu 2000", 5, [(MTU, 2000)], "advmss", "snd_mss", "pmtu")
see("initrwnd 2, advmss 1000", 6, [(INITRWND, 2), (ADVMSS, 1000)], "rcv_ssthresh")
see("window 5000", 7, [(WINDOW, 5000)], "rcv_ssthresh")
see("ecn", 8, [(FEATURES, 1)], "options")
a, b = see("congctl reno", 9, [(CC_ALGO, b"reno\0")], "cwnd")
for name, s in (("to", a), ("from", b)):
    say(f"the algorithm {name}", is_=s.getsockopt(6, 13, 16).rstrip(b"\0").decode())
a, b = see("congctl lock reno", 10, [(CC_ALGO, b"reno\0"), (LOCK, 1 << CC_ALGO)], "cwnd")
say("locked", r=outcome(a.setsockopt, 6, 13, b"cubic"), same=outcome(a.setsockopt, 6, 13, b"reno"))
a, b = see("rto_min lock 70ms", 11, [(RTO_MIN, 70), (LOCK, 1 << RTO_MIN)], "options")
a.send(b"x")
b.recv(1)
settled()
say("rto of 70ms", short=info(a)["rto_ms"] < 150)
a, b = see("rto_min 70ms, not locked", 12, [(RTO_MIN, 70)], "options")
a.send(b"x")
b.recv(1)
settled()
say("rto as always", short=info(a)["rto_ms"] < 150)
say("cwnd lock 5", r=route(13, [(CWND, 5), (LOCK, 1 << CWND)]))
for n in range(2):
    a, b = pair(13)
    say(f"cwnd locked, connection {n}", cwnd=info(a)["cwnd"])
    a.send(b"x")
    b.recv(1)
    b.send(b"y")
    a.recv(1)
    a.close()
    b.close()
    settled()

route(14, [(HOPLIMIT, 33)])
with udp() as r, udp(bound=False) as s:
    r.close()
    r = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    r.bind(("127.0.14.1", 0))
    r.setsockopt(0, 12, 1)
    s.sendto(b"x", r.getsockname())
    _, cmsgs, _, _ = r.recvmsg(9, 64)
    say("hoplimit 33", ttl=struct.unpack("i", cmsgs[0][2])[0])
    s.setsockopt(0, 2, 44)
    s.sendto(b"x", r.getsockname())
    _, cmsgs, _, _ = r.recvmsg(9, 64)
    say("the socket's own goes before", ttl=struct.unpack("i", cmsgs[0][2])[0])
    r.close()

route(15, [(MTU, 3000), (LOCK, 1 << MTU)])
with udp(bound=False) as s:
    s.connect(("127.0.15.1", 9))
    say("mtu lock 3000", mtu=s.getsockopt(0, 14))

say("unknown congctl", r=route(20, [(CC_ALGO, b"nosuch\0")]))
say("unknown feature", r=route(20, [(FEATURES, 0x100)]))
say("unknown metric", r=route(20, [(18, 1)]))
say("a byte", r=route(20, [(MTU, b"\1")]))
say("hoplimit 300", r=route(20, [(HOPLIMIT, 300)]))
say("not with these", r=route(20, [(HOPLIMIT, 64)], DELROUTE, 0))
say("with these", r=route(20, [(HOPLIMIT, 255)], DELROUTE, 0))
