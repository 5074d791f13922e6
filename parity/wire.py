"""TCP as a peer on the wire sees it, through a TUN device: handshake options, Nagle, corks, what closing sends."""
from tunnel import *


def frames(seconds, last=lambda segment: False):
    """TCP segments that leave within this time, or until the last that is waited for."""
    end, out = time.monotonic() + seconds, []
    while (left := end - time.monotonic()) > 0:
        if not select.select([tun], [], [], left)[0]:
            break
        p = os.read(tun, 65536)
        if p[0] >> 4 == 4 and p[9] == 6:
            out.append(p[(p[0] & 15) * 4:])
            if last(out[-1]):
                break
    return out


everybody = []


class Peer:
    """One connection of the stack's to us: we answer only what we are told to."""

    def __init__(self, port, sock, options=b"\2\4\5\xb4", window=60000):
        self.port, self.seq, self.window, self.mine = port, 1000, window, None
        everybody.append(self)
        sock.setblocking(False)
        outcome(sock.connect, (PEER, port))
        self.syn = frames(2, lambda f: f[13] & SYN and struct.unpack("!H", f[2:4])[0] == port)[-1]
        self.sport = struct.unpack("!H", self.syn[:2])[0]
        self.base = self.ack = struct.unpack("!I", self.syn[4:8])[0] + 1
        self.send(SYN | ACK, options=options)
        self.seq += 1
        self.seen()

    def send(self, flags, data=b"", options=b""):
        head = struct.pack("!HHIIBBHHH", self.port, self.sport, self.seq, self.ack & 0xffffffff, (20 + len(options)) << 2, flags, self.window, 0, 0) + options
        pseudo = socket.inet_aton(PEER) + socket.inet_aton(HERE) + struct.pack("!HH", 6, len(head) + len(data))
        tcp_part = head[:16] + struct.pack("!H", checksum(pseudo + head + data)) + head[18:] + data
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp_part), 0, 0x4000, 64, 6, 0, socket.inet_aton(PEER), socket.inet_aton(HERE))
        os.write(tun, ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + tcp_part)
        self.seq += len(data)

    def seen(self, seconds=0.06, acknowledge=False):
        out = []
        for f in frames(seconds):
            if struct.unpack("!H", f[2:4])[0] != self.port:
                continue
            length = len(f) - (f[12] >> 4) * 4
            out.append("".join(n for b, n in ((SYN, "S"), (FIN, "F"), (RST, "R"), (PSH, "P"), (ACK, ".")) if f[13] & b) + (str(length) if length else ""))
            self.ack = max(self.ack, struct.unpack("!I", f[4:8])[0] + length + (f[13] & FIN))
            if acknowledge:
                self.send(ACK)
        return out


ports = iter(range(2000, 2100))
with tcp() as s:
    p = Peer(next(ports), s)
    kinds, rest = [], p.syn[20:(p.syn[12] >> 4) * 4]
    while rest:
        kinds.append(rest[0])
        rest = rest[1:] if rest[0] < 2 else rest[rest[1]:]
    say("a SYN's options", kinds=kinds, mss=struct.unpack("!H", p.syn[22:24])[0], window=struct.unpack("!H", p.syn[14:16])[0], state=tcp_state(s))
    say("Nagle: the second waits for the first's ACK", r=[[s.send(b"one"), p.seen()], [s.send(b"two"), p.seen()], [s.send(b"3"), p.seen()]][1:],
        acked=[p.send(ACK), p.seen()][1])
    p.send(ACK)
with tcp() as s:
    p = Peer(next(ports), s)
    s.setsockopt(6, socket.TCP_NODELAY, 1)
    s.send(b"one")
    s.send(b"two")
    say("TCP_NODELAY", r=p.seen())
with tcp() as s:
    p = Peer(next(ports), s)
    s.setsockopt(6, socket.TCP_CORK, 1)
    s.send(b"held")
    at_once = p.seen(0.05)
    s.send(bytes(2000))
    full = p.seen(0.05)
    s.setsockopt(6, socket.TCP_CORK, 0)
    say("TCP_CORK", at_once=at_once, a_full_segment=full, opened=p.seen())
with tcp() as s:
    p = Peer(next(ports), s)
    s.send(b"part", 0x8000)
    say("MSG_MORE", at_once=p.seen(0.05), later=[s.send(b" whole"), p.seen()][1])
with tcp() as s:
    p = Peer(next(ports), s)
    s.setsockopt(6, socket.TCP_NODELAY, 1)
    s.send(b"a")
    p.seen(acknowledge=True)
    say("urgent", r=[s.send(b"u", socket.MSG_OOB), p.seen()][1])
    say("data is acknowledged at once, at first", r=[p.send(ACK | PSH, b"in"), p.seen(0.02)][1], got=outcome(s.recv, 9))
s = tcp()
p = Peer(next(ports), s)
s.close()
say("close", wire=p.seen(), then=[p.send(ACK), p.send(FIN | ACK), setattr(p, "seq", p.seq + 1), p.seen()][3])
s = tcp()
p = Peer(next(ports), s)
p.send(ACK | PSH, b"unread")
p.seen()
s.close()
say("close with data unread", wire=p.seen())
s = tcp()
p = Peer(next(ports), s)
s.setsockopt(1, socket.SO_LINGER, struct.pack("ii", 1, 0))
s.close()
say("close with SO_LINGER 0", wire=p.seen())
with tcp() as s:
    p = Peer(next(ports), s)
    p.send(RST | ACK)
    settled()
    say("a reset in the window", recv=now_or_error(s), state=tcp_state(s))
with tcp() as s:
    p = Peer(next(ports), s)
    p.seq += 5000
    p.send(RST | ACK)
    p.seq -= 5000
    say("a reset beside the expected number is challenged", wire=p.seen(), state=tcp_state(s))
    p.send(SYN | ACK)
    say("so is a SYN", wire=p.seen(), state=tcp_state(s))
with tcp() as s:
    p = Peer(next(ports), s, window=10)
    say("a small window", r=[s.send(bytes(100)), p.seen()][1], more=[p.send(ACK), p.seen()][1])
with tcp() as s:
    p = Peer(next(ports), s, options=b"")
    s.send(bytes(1200))
    say("a peer without an MSS", maxseg=opt(s, 6, 2), wire=p.seen(acknowledge=True))
# Nothing is left that would have to be sent for a while yet.
for p in everybody:
    p.send(RST | ACK)
