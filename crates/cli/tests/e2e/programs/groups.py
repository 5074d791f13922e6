"""groups.py INTERFACE GROUP4 GROUP6: joins and leaves as standard input says, one word a line, and says what came meanwhile."""
import socket, struct, sys

INDEX = socket.if_nametoindex(sys.argv[1])
GROUPS = sys.argv[2:4]


def sock(group):
    six = ":" in group
    s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((group, 7007, 0, INDEX) if six else (group, 7007))
    s.settimeout(0.4)
    return s


def change(s, group, join):
    if ":" in group:
        mreq = socket.inet_pton(socket.AF_INET6, group) + struct.pack("@i", INDEX)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP if join else socket.IPV6_LEAVE_GROUP, mreq)
    else:
        mreq = socket.inet_aton(group) + socket.inet_aton("0.0.0.0") + struct.pack("@i", INDEX)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP if join else socket.IP_DROP_MEMBERSHIP, mreq)


def send(group, text):
    six = ":" in group
    s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    if six:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, INDEX)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        s.sendto(text, (group, 7007))
    else:
        mreq = socket.inet_aton("0.0.0.0") * 2 + struct.pack("@i", INDEX)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, mreq)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        s.sendto(text, (group, 7007))


socks = {g: sock(g) for g in GROUPS}
print("ready", flush=True)
for word in sys.stdin:
    word = word.strip()
    if word in ("join", "leave"):
        for g, s in socks.items():
            change(s, g, word == "join")
    elif word == "hear":
        got = []
        for g, s in socks.items():
            try:
                got.append(s.recv(100).decode())
            except TimeoutError:
                got.append("-")
        print(*got, flush=True)
        continue
    else:
        for g in GROUPS:
            send(g, word.encode())
    print("done", flush=True)
