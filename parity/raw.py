"""Raw sockets: echo over loopback, headers of one's own, filters of ICMP."""
from observe import *


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data + bytes(len(data) % 2)))
    total = (total & 0xffff) + (total >> 16)
    return ~(total + (total >> 16)) & 0xffff


def echo(ident, seq, body=b"abcdefgh"):
    head = struct.pack("!BBHHH", 8, 0, 0, ident, seq)
    return struct.pack("!BBHHH", 8, 0, checksum(head + body), ident, seq) + body


def raw(protocol):
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
    return s


with raw(1) as s:
    s.sendto(echo(0x1234, 1), (LO, 0))
    got = [s.recvfrom(999) for _ in range(2)]
    say("echo", types=[d[20] for d, _ in got], lengths=[len(d) for d, _ in got], ttl=[d[8] for d, _ in got],
        proto=[d[9] for d, _ in got], source=[f[0] for _, f in got], total=[struct.unpack("!H", d[2:4])[0] for d, _ in got])
    s.setsockopt(255, 1, struct.pack("I", 1 << 8))
    s.sendto(echo(0x1234, 2), (LO, 0))
    say("ICMP_FILTER", first=s.recv(999)[20], then=[settled(), now_or_error(s)][1])
with raw(200) as s:
    say("destinations", send=outcome(s.send, b"x"), loopback=outcome(s.sendto, b"x", (LO, 0)), got=len(outcome(s.recv, 99)),
        connect=outcome(s.connect, (LO, 0)), then=outcome(s.send, b"y"), name=list(s.getsockname()))
    say("no ICMPFILTER on others", r=outcome(s.setsockopt, 255, 1, bytes(4)))
with raw(255) as s, raw(200) as t:
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 9, 200, 0, bytes(4), socket.inet_aton(LO))
    say("a header of one's own", included=opt(s, 0, 3), r=outcome(s.sendto, header + b"body", (LO, 0)))
    data = t.recv(99)
    say("and what was filled in", total=struct.unpack("!H", data[2:4])[0], source=socket.inet_ntoa(data[12:16]), ttl=data[8],
        checksum_right=checksum(data[:20]) == 0, receive_255=now_or_error(s))
    say("a header that is short", r=outcome(s.sendto, header[:19], (LO, 0)))
with socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58) as s:
    s.sendto(struct.pack("!BBHHH", 128, 0, 0, 7, 7) + b"six", ("::1", 0))
    say("ICMPv6 echo", types=[s.recv(99)[0] for _ in range(2)], checksum=[opt(s, 41, 7), outcome(s.setsockopt, 41, 7, 2), outcome(s.setsockopt, 41, 7, -1)])
