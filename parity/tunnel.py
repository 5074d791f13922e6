"""A TUN device whose other end is the program: segments that leave, segments written by hand, counters that moved."""
from observe import *
import fcntl
from collections import namedtuple

HERE, PEER = "10.77.0.1", "10.77.0.2"
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
MSS_1000, SACK_PERMITTED = b"\2\4\x03\xe8", b"\1\1\4\2"
Segment = namedtuple("Segment", "sport seq flags length window options")

tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
fcntl.ioctl(tun, 0x400454ca, struct.pack("16sH22s", b"tun0", 0x1001, b""))
with udp(bound=False) as s:
    for request, value in ((0x8916, struct.pack("HH4s8s", 2, 0, socket.inet_aton(HERE), b"")), (0x891c, struct.pack("HH4s8s", 2, 0, socket.inet_aton("255.255.255.0"), b"")),
                           (0x8914, struct.pack("H22x", 1 | 64))):
        fcntl.ioctl(s, request, struct.pack("16s24s", b"tun0", value))


def checksum(data):
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    total = (total & 0xffff) + (total >> 16)
    return ~(total + (total >> 16)) & 0xffff


def segments(seconds, octets=None):
    """What leaves within this time, or until there are so many octets of data."""
    end, out = time.monotonic() + seconds, []
    while (left := end - time.monotonic()) > 0 and (octets is None or sum(s.length for s in out) < octets):
        if not select.select([tun], [], [], left)[0]:
            break
        p = os.read(tun, 65536)
        if p[0] >> 4 == 4 and p[9] == 6:
            t = p[(p[0] & 15) * 4:]
            head = (t[12] >> 4) * 4
            sport, seq, flags, window = struct.unpack("!H2xI5xBH", t[:16])
            out.append(Segment(sport, seq, flags, len(t) - head, window, t[20:head]))
    return out


def netstat():
    lines = open("/proc/net/netstat").read().splitlines()
    names, values = next((a.split(), b.split()) for a, b in zip(lines, lines[1:]) if a.startswith("TcpExt:"))
    return dict(zip(names[1:], map(int, values[1:])))


def moved(before, names):
    return {n: v - before.get(n, 0) for n, v in netstat().items() if n in names and v != before.get(n, 0)}


class Peer:
    """A server at our end of the device, which says only what it is told to."""

    def __init__(self, sock, port, options, stamp=None):
        self.port, self.seq, self.stamp = port, 1000, stamp
        sock.setblocking(False)
        outcome(sock.connect, (PEER, port))
        syn = next(s for s in segments(0.5, 1) if s.flags & SYN)
        self.sport, self.base = syn.sport, syn.seq + 1
        self.send(SYN | ACK, 0, options=options)
        self.seq += 1
        segments(0.05)

    def send(self, flags, ack, data=b"", options=b"", stamp=None, at=0):
        """A segment `at` octets behind what was sent last, acknowledging `ack` octets."""
        if self.stamp is not None:
            options += b"\1\1\x08\x0a" + struct.pack("!II", self.stamp if stamp is None else stamp, 0)
        head = struct.pack("!HHIIBBHHH", self.port, self.sport, self.seq + at & 0xffffffff, self.base + ack & 0xffffffff, (20 + len(options)) << 2, flags, 65000, 0, 0) + options
        pseudo = socket.inet_aton(PEER) + socket.inet_aton(HERE) + struct.pack("!HH", 6, len(head) + len(data))
        head = head[:16] + struct.pack("!H", checksum(pseudo + head + data)) + head[18:]
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(head) + len(data), 0, 0x4000, 64, 6, 0, socket.inet_aton(PEER), socket.inet_aton(HERE))
        os.write(tun, ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + head + data)

    def sacks(self, segment):
        """Blocks of a segment of the stack's, counted from what was sent last."""
        out, o = [], segment.options
        while o and o[0]:
            if o[0] == 5:
                edges = struct.unpack(f"!{(o[1] - 2) // 4}I", o[2:o[1]])
                out = [[(e - self.seq + 2**31) % 2**32 - 2**31 for e in edges[i:i + 2]] for i in range(0, len(edges), 2)]
            o = o[1:] if o[0] == 1 else o[o[1]:]
        return out
