"""SO_REUSEPORT: who may join, who is chosen."""
from observe import *


def member(kind, address=(LO, 0), listens=True):
    s = socket.socket(socket.AF_INET, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(address)
    if kind == socket.SOCK_STREAM and listens:
        s.listen(64)
    s.setblocking(False)
    return s


def took(l):
    try:
        l.accept()[0].close()
        return True
    except BlockingIOError:
        return False


group = [member(socket.SOCK_STREAM)]
address = group[0].getsockname()
group += [member(socket.SOCK_STREAM, address) for _ in range(3)]
served = [0] * 4
for _ in range(80):
    with tcp() as c:
        c.connect(address)
        for i, l in enumerate(group):
            served[i] += took(l)
say("connections are spread", all_served=sum(served) == 80 or sum(served), each=min(served) > 3)
with tcp() as s:
    say("one without the option", r=outcome(s.bind, address))
[l.close() for l in group[1:]]
with tcp() as c:
    say("one is left", r=outcome(c.connect, address), accept=took(group[0]))
group = [member(socket.SOCK_DGRAM)]
address = group[0].getsockname()
group += [member(socket.SOCK_DGRAM, address) for _ in range(2)]
with udp() as u:
    [u.sendto(b"x", address) for _ in range(6)]
    settled()
    counts = [sum(now_or_error(g) == "x" for _ in range(9)) for g in group]
    say("one sender's datagrams go to one", r=sorted(counts))
total = [0] * 3
for _ in range(60):
    with udp() as u:
        u.sendto(b"y", address)
settled()
total = [sum(now_or_error(g) == "y" for _ in range(99)) for g in group]
say("many senders' are spread", r=sum(total), each=min(total) > 3)
for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
    with udp(bound=False) as a, udp(bound=False) as b:
        a.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        b.setsockopt(socket.SOL_SOCKET, option, 1)
        a.bind((LO, 0))
        say(f"option {option} beside SO_REUSEPORT", r=outcome(b.bind, a.getsockname()))
