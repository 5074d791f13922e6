"""Packet sockets of the stack as Python uses them: what passes lo and eth0, and frames of its own making."""

import fcntl
import socket
import struct

ETH_P_ALL, ETH_P_ARP, SOL_PACKET = 3, 0x0806, 263
PACKET_STATISTICS, PACKET_AUXDATA, SIOCGSTAMP = 6, 8, 0x8906
HOST, OUTGOING = 0, 4
MINE = 0x88B5


def packet(kind, protocol):
    s = socket.socket(socket.AF_PACKET, kind, socket.htons(protocol))
    s.settimeout(5)
    return s


def both_ways():
    s = packet(socket.SOCK_RAW, ETH_P_ALL)
    s.bind(("lo", ETH_P_ALL))
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    u.sendto(b"hello", ("127.0.0.1", 9))
    seen = [s.recvfrom(2000) for _ in range(4)]
    # The datagram out and in, then its refusal.
    assert [(len(d), a[2]) for d, a in seen] == [(47, OUTGOING), (47, HOST), (75, OUTGOING), (75, HOST)], seen
    assert all(a[0] == "lo" and a[3] == 772 for _, a in seen), seen
    assert s.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8) == struct.pack("II", 4, 0)
    s.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    u.sendto(b"hello", ("127.0.0.1", 9))
    data, control, flags, _ = s.recvmsg(20, 200)
    assert len(data) == 20 and flags & socket.MSG_TRUNC, (data, flags)
    assert [c for c in control if c[0] == SOL_PACKET][0][2][:12] == struct.pack("III", 9, 47, 47), control
    assert len(s.recv(2000)) == 47
    assert struct.unpack("qq", fcntl.ioctl(s, SIOCGSTAMP, b"\0" * 16))[0] > 1_600_000_000


def arp():
    s = packet(socket.SOCK_RAW, 0)
    s.bind(("eth0", ETH_P_ARP))
    mac = s.getsockname()[4]
    assert s.getsockname()[:2] == ("eth0", ETH_P_ARP) and len(mac) == 6
    ask = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + mac + socket.inet_aton("10.0.2.15") + bytes(6) + socket.inet_aton("10.0.2.2")
    for send in (s.send, lambda f: s.sendmsg([f])):
        send(b"\xff" * 6 + mac + struct.pack(">H", ETH_P_ARP) + ask)
        while True:
            got = s.recv(100)
            if got[20:22] == b"\0\2":
                break
        assert got[28:32] == socket.inet_aton("10.0.2.2"), got
    try:
        s.sendto(bytes(3000), ("eth0", ETH_P_ARP))
        raise SystemExit("a frame beyond the MTU was sent")
    except OSError as e:
        assert e.errno == 90, e


def cooked():
    s = packet(socket.SOCK_DGRAM, MINE)
    s.sendto(b"ping", ("lo", MINE, 0, 0, bytes(6)))
    assert s.recvfrom(100) == (b"ping", ("lo", MINE, HOST, 772, bytes(6)))


both_ways()
arp()
cooked()
assert socket.if_indextoname(2) == "eth0" and socket.if_nametoindex("lo") == 1
print("all seen")
