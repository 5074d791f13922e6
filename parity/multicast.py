"""Groups: joining and its errors, who hears, loops."""
from observe import *

IP, IPV6 = socket.IPPROTO_IP, socket.IPPROTO_IPV6
GROUP, OTHER = "239.1.2.3", "239.1.2.4"


def mreq(group, local=LO):
    return socket.inet_aton(group) + socket.inet_aton(local)


def hearer(address, port=0):
    s = udp(bound=False)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, port))
    return s


with udp() as s:
    J, L = socket.IP_ADD_MEMBERSHIP, socket.IP_DROP_MEMBERSHIP
    say("joining", r=outcome(s.setsockopt, IP, J, mreq(GROUP)), twice=outcome(s.setsockopt, IP, J, mreq(GROUP)),
        leave=outcome(s.setsockopt, IP, L, mreq(GROUP)), left=outcome(s.setsockopt, IP, L, mreq(GROUP)))
    say("refused", unicast=outcome(s.setsockopt, IP, J, mreq("10.1.1.1")), foreign=outcome(s.setsockopt, IP, J, mreq(GROUP, "192.0.2.1")),
        short=outcome(s.setsockopt, IP, J, b"1234"), index=outcome(s.setsockopt, IP, J, mreq(GROUP)[:4] + bytes(4) + struct.pack("i", 99)))
    say("IP_MULTICAST_IF", lo=outcome(s.setsockopt, IP, 32, socket.inet_aton(LO)), get=s.getsockopt(IP, 32, 4).hex(),
        foreign=outcome(s.setsockopt, IP, 32, socket.inet_aton("192.0.2.1")), off=outcome(s.setsockopt, IP, 32, bytes(4)))
with tcp() as s:
    say("a stream joins", r=outcome(s.setsockopt, IP, socket.IP_ADD_MEMBERSHIP, mreq(GROUP)), ttl=outcome(s.setsockopt, IP, 33, 5))
with udp() as s:
    n = 0
    while outcome(s.setsockopt, IP, socket.IP_ADD_MEMBERSHIP, mreq(f"239.9.0.{n + 1}")) == "ok" and n < 100:
        n += 1
    say("how many", joined=n, then=outcome(s.setsockopt, IP, socket.IP_ADD_MEMBERSHIP, mreq("239.9.1.1")))
a = hearer("0.0.0.0")
port = a.getsockname()[1]
b, c = hearer(GROUP, port), hearer("0.0.0.0", port)
a.setsockopt(IP, socket.IP_ADD_MEMBERSHIP, mreq(GROUP))
c.setsockopt(IP, 49, 0)
with udp() as u:
    u.setsockopt(IP, 32, socket.inet_aton(LO))
    u.sendto(b"all", (GROUP, port))
    settled()
    say("who hears a group that one has joined", member=now_or_error(a), bound=now_or_error(b), not_all=now_or_error(c))
    u.setsockopt(IP, 34, 0)
    u.sendto(b"no loop", (GROUP, port))
    settled()
    say("without IP_MULTICAST_LOOP", member=now_or_error(a))
    u.setsockopt(IP, 34, 1)
    u.sendto(b"other", (OTHER, port))
    settled()
    say("a group that nobody has joined", member=now_or_error(a), bound=now_or_error(b))
    say("bound to a group", send=outcome(b.sendto, b"x", (LO, port)), name=b.getsockname()[0])
with udp(socket.AF_INET6, bound=False) as s, udp(socket.AF_INET6) as u:
    s.bind(("::", 0))
    group = socket.inet_pton(socket.AF_INET6, "ff12::77")
    say("IPv6", join=outcome(s.setsockopt, IPV6, 20, group + struct.pack("I", 1)), twice=outcome(s.setsockopt, IPV6, 20, group + struct.pack("I", 1)),
        no_device=outcome(s.setsockopt, IPV6, 20, group + struct.pack("I", 99)), unicast=outcome(s.setsockopt, IPV6, 20, bytes(15) + b"\1" + struct.pack("I", 1)),
        device=outcome(u.setsockopt, IPV6, 17, 1), sent=outcome(u.sendto, b"six", ("ff12::77", s.getsockname()[1])), got=[settled(), now_or_error(s)][1],
        leave=outcome(s.setsockopt, IPV6, 21, group + struct.pack("I", 1)), left=outcome(s.setsockopt, IPV6, 21, group + struct.pack("I", 1)))
