"""An mDNS responder and an asker: `mdns.py answer`, `mdns.py ask`. Groups, loops of one's own packets, TTL 255, shared port 5353."""
import socket, struct, sys, time

GROUPS = {socket.AF_INET: "224.0.0.251", socket.AF_INET6: "ff02::fb"}
NAME = b"\x03box\x05local\x00"
INDEX = [i for i, n in socket.if_nameindex() if n != "lo"][0]


def member(family, port=5353):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET:
        s.bind(("", port))
        mreq = socket.inet_aton(GROUPS[family]) + socket.inet_aton("0.0.0.0") + struct.pack("@i", INDEX)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, mreq)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, mreq)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
    else:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind(("::", port))
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP,
                     socket.inet_pton(family, GROUPS[family]) + struct.pack("@i", INDEX))
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, INDEX)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    s.settimeout(5)
    return s


def question(unicast):
    return struct.pack("!6H", 7, 0, 1, 0, 0, 0) + NAME + struct.pack("!HH", 1, 0x8001 if unicast else 1)


def answer():
    return (struct.pack("!6H", 7, 0x8400, 0, 1, 0, 0) + NAME
            + struct.pack("!HHIH", 1, 0x8001, 120, 4) + socket.inet_aton("10.0.2.15"))


def responder():
    import select
    socks = {s: f for f in GROUPS for s in [member(f)]}
    while True:
        for s in select.select(list(socks), [], [])[0]:
            data, peer = s.recvfrom(9000)
            if data[2:4] == b"\0\0" and NAME in data:
                # The top bit of the class asks for an answer to the asker alone.
                alone = data[-2] & 0x80
                s.sendto(answer(), peer if alone else (GROUPS[socks[s]], 5353))


def is_answer(data):
    return data[2:4] == b"\x84\0" and NAME in data


for family in GROUPS if sys.argv[1] == "ask" else ():
    s = member(family)
    for _ in range(20):
        s.sendto(question(False), (GROUPS[family], 5353))
        s.settimeout(0.3)
        try:
            data = s.recv(9000)
            while not is_answer(data):
                data = s.recv(9000)
        except TimeoutError:
            continue
        break
    print(4 if family == socket.AF_INET else 6, "box.local", socket.inet_ntoa(data[-4:]), flush=True)
for family in GROUPS if sys.argv[1] == "ask" else ():
    s = member(family, 0)
    s.settimeout(5)
    s.sendto(question(True), (GROUPS[family], 5353))
    print(4 if family == socket.AF_INET else 6, "by unicast box.local" if is_answer(s.recv(9000)) else "?", flush=True)
if sys.argv[1] == "answer":
    responder()
