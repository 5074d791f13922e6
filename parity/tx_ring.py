"""Transmit rings of packet sockets (PACKET_TX_RING): geometries, frames in shared memory, what becomes of each."""
import ctypes
import mmap

from observe import *

SOL_PACKET, RX_RING, STATISTICS, VERSION, HDRLEN, RESERVE, TX_RING, LOSS = 263, 5, 6, 10, 11, 12, 13, 14
VNET_HDR, TX_HAS_OFF, QDISC_BYPASS = 15, 19, 20
AVAILABLE, SEND_REQUEST, SENDING, WRONG_FORMAT = 0, 1, 2, 4
NAMES = {AVAILABLE: "available", SEND_REQUEST: "send request", SENDING: "sending", WRONG_FORMAT: "wrong format"}
PROTO = 0x88B5
HEAD = bytes(12) + struct.pack("!H", PROTO)
# Where a version keeps status, length and the two offsets, and where the packet begins.
LAYOUT = {0: (0, 8, 16, 18, 32), 1: (0, 4, 12, 14, 32), 2: (20, 16, 24, 26, 48)}
libc = ctypes.CDLL(None, use_errno=True)


def packet(kind=socket.SOCK_RAW, proto=0, dev="lo"):
    s = socket.socket(socket.AF_PACKET, kind, socket.htons(proto))
    if dev:
        s.bind((dev, proto))
    return s


def req(*words, version=1):
    words = list(words) + [0] * ((7 if version == 2 else 4) - len(words))
    return struct.pack(f"{len(words)}I", *words)


def kick(s, flags=0):
    """send(fd, NULL, 0, flags)."""
    n = libc.send(s.fileno(), None, ctypes.c_size_t(0), flags)
    return n if n >= 0 else errno.errorcode[ctypes.get_errno()]


def told(s):
    """What comes behind the header."""
    data = now_or_error(s, 4096)
    return data[len(HEAD):] if data[:len(HEAD)] == HEAD.decode("latin-1") else data


class Ring:
    """A socket with a ring of two frames of 2048 bytes, or what is asked for."""

    def __init__(self, version=1, kind=socket.SOCK_RAW, frames=2, size=2048, before=(), proto=0, dev="lo"):
        self.s = packet(kind, proto, dev)
        self.v, self.size = version, size
        self.s.setsockopt(SOL_PACKET, VERSION, version)
        for name in before:
            self.s.setsockopt(SOL_PACKET, name, 1)
        self.s.setsockopt(SOL_PACKET, TX_RING, req(frames * size, 1, size, frames, version=version))
        self.m = mmap.mmap(self.s.fileno(), frames * size)

    def put(self, n, data, length=None, status=SEND_REQUEST, mac=0, net=0, off=None, following=0):
        st, ln, m, nt, at = LAYOUT[self.v]
        base = n * self.size
        at = base + (at if off is None else off)
        self.m[at:at + len(data)] = data
        self.m[base + m:base + m + 2] = struct.pack("H", mac)
        self.m[base + nt:base + nt + 2] = struct.pack("H", net)
        self.m[base + ln:base + ln + 4] = struct.pack("I", len(data) if length is None else length)
        if self.v == 2:
            self.m[base:base + 4] = struct.pack("I", following)
        self.m[base + st:base + st + 4] = struct.pack("I", status)

    def status(self, n):
        st = n * self.size + LAYOUT[self.v][0]
        word = struct.unpack("I", self.m[st:st + 4])[0]
        return NAMES.get(word, word)

    def done(self, frames=2):
        settled()
        return [self.status(n) for n in range(frames)]

    def close(self):
        self.m.close()
        self.s.close()


def geometries():
    for version in (0, 1, 2):
        for words in ((4096, 1, 2048, 2), (4096, 1, 2048, 3), (4095, 1, 2048, 2), (0, 0, 0, 0), (0, 0, 0, 5), (4096, 1, 32, 128),
                      (4096, 1, 64, 64), (4096, 1, 80, 51), (4096, 1, 100, 40), (8192, 2, 4096, 4)):
            with packet() as s:
                s.setsockopt(SOL_PACKET, VERSION, version)
                say(f"version {version} {words}", r=outcome(s.setsockopt, SOL_PACKET, TX_RING, req(*words, version=version)))
    for extra in ((10, 0, 0), (0, 8, 0), (0, 0, 1)):
        with packet() as s:
            s.setsockopt(SOL_PACKET, VERSION, 2)
            say(f"version 2 with {extra}", r=outcome(s.setsockopt, SOL_PACKET, TX_RING, req(4096, 1, 2048, 2, *extra, version=2)))
    with packet() as s:
        s.setsockopt(SOL_PACKET, VERSION, 2)
        say("version 2, short", r=outcome(s.setsockopt, SOL_PACKET, TX_RING, req(4096, 1, 2048, 2)))
        say("an int", r=outcome(s.setsockopt, SOL_PACKET, TX_RING, 1))
        say("get", r=outcome(s.getsockopt, SOL_PACKET, TX_RING, 16))
        s.setsockopt(SOL_PACKET, VERSION, 1)
        s.setsockopt(SOL_PACKET, RESERVE, 2000)
        say("reserve", r=[outcome(s.setsockopt, SOL_PACKET, TX_RING, req(4096, 1, 2048, 2)), outcome(s.setsockopt, SOL_PACKET, TX_RING, req(4096, 1, 4096, 1))])
        say("twice", r=outcome(s.setsockopt, SOL_PACKET, TX_RING, req(4096, 1, 4096, 1)))
        say("options of who has a ring", r=[outcome(s.setsockopt, SOL_PACKET, name, 1) for name in (VERSION, RESERVE, LOSS, VNET_HDR, TX_HAS_OFF, QDISC_BYPASS)],
            off=opt(s, SOL_PACKET, TX_HAS_OFF), loss=opt(s, SOL_PACKET, LOSS))
        say("and off", r=[outcome(s.setsockopt, SOL_PACKET, TX_RING, req(0, 0, 0, 0)), kick(s)],
            then=[outcome(s.setsockopt, SOL_PACKET, name, 1) for name in (TX_HAS_OFF, LOSS)], off=opt(s, SOL_PACKET, TX_HAS_OFF))


def mappings():
    with packet() as s:
        say("map without a ring", r=outcome(mmap.mmap, s.fileno(), 4096))
        s.setsockopt(SOL_PACKET, VERSION, 1)
        s.setsockopt(SOL_PACKET, RX_RING, req(4096, 1, 2048, 2))
        s.setsockopt(SOL_PACKET, TX_RING, req(8192, 1, 4096, 2))
        say("map of both", r=[outcome(lambda n: mmap.mmap(s.fileno(), n).close(), n) for n in (4096, 8192, 16384, 12288)])
        m = mmap.mmap(s.fileno(), 12288)
        s.bind(("lo", 3))
        frame = HEAD + b"both"
        m[4096 + 32:4096 + 32 + len(frame)] = frame
        m[4096 + 4:4096 + 8] = struct.pack("I", len(frame))
        m[4096:4100] = struct.pack("I", 1)
        sent = kick(s)
        settled()
        status, length, snap, mac = struct.unpack("IIIH", m[0:14])
        say("received in one, sent by the other", sent=sent, there=[status & 1, length, snap], bytes=m[mac:mac + snap].decode("latin-1"),
            left=struct.unpack("I", m[4096:4100])[0], statistics=list(struct.unpack("II", s.getsockopt(SOL_PACKET, STATISTICS, 8))))
        off = lambda: [outcome(s.setsockopt, SOL_PACKET, name, req(0, 0, 0, 0)) for name in (RX_RING, TX_RING)]
        say("taken away while mapped", r=off())
        m.close()
        say("taken away", r=off(), map=outcome(mmap.mmap, s.fileno(), 12288))


def frames(version):
    seen = packet(proto=PROTO)
    r = Ring(version)
    say(f"v{version} nothing asked for", r=[kick(r.s), outcome(r.s.send, b"")])
    r.put(0, HEAD + b"first")
    r.put(1, HEAD + b"second!")
    say(f"v{version} two", r=kick(r.s), status=r.done(), got=[told(seen) for _ in range(3)])
    r.put(0, HEAD + b"third")
    say(f"v{version} by sendmsg", r=outcome(r.s.sendmsg, [b"bytes that nobody sends"]), status=r.done(), got=[told(seen) for _ in range(2)])
    r.put(0, HEAD + b"not its turn")
    say(f"v{version} out of order", r=kick(r.s), status=r.done(), got=told(seen))
    r.put(1, HEAD + b"its turn")
    say(f"v{version} in order", r=kick(r.s, socket.MSG_DONTWAIT), status=r.done(), got=[told(seen) for _ in range(3)])
    # Frame 1 is next.
    for what, args in (("short", (HEAD[:13],)), ("empty", (b"",)), ("header only", (HEAD,)), ("more than a frame holds", (HEAD, 2048)),
                       ("as much as a frame holds", (HEAD + b"x" * 2, 2048 - LAYOUT[version][4])), ("negative", (HEAD, 1 << 31))):
        r.put(1, *args)
        say(f"v{version} {what}", r=kick(r.s), status=r.done(), got=len(told(seen)))
        if r.status(1) == "available":
            r.put(0, HEAD + b"on")
            say(f"v{version} {what}: on", r=kick(r.s), status=r.done(), got=told(seen))
        r.put(1, b"", 0, AVAILABLE)
    r.put(1, HEAD + b"again")
    say(f"v{version} after that", r=kick(r.s), status=r.done(), got=told(seen))
    r.put(0, HEAD + b"other bits", status=SEND_REQUEST | 8)
    say(f"v{version} other bits in the status", r=kick(r.s), status=r.done(), got=told(seen))
    r.put(0, HEAD + b"following", following=2048)
    say(f"v{version} next offset", r=kick(r.s), status=r.done(), got=told(seen))
    r.close()
    seen.close()


def lost(version):
    """PACKET_LOSS passes over what is wrong."""
    seen = packet(proto=PROTO)
    r = Ring(version, before=(LOSS,))
    r.put(0, HEAD[:10])
    r.put(1, HEAD + b"good")
    say(f"v{version} PACKET_LOSS", r=kick(r.s), status=r.done(), got=[told(seen) for _ in range(2)])
    r.close()
    seen.close()


def offsets(version):
    """PACKET_TX_HAS_OFF: the packet lies where its header says."""
    at = LAYOUT[version][4]
    for kind, field in ((socket.SOCK_RAW, "mac"), (socket.SOCK_DGRAM, "net")):
        seen = packet(proto=PROTO)
        r = Ring(version, kind, before=(TX_HAS_OFF,), proto=PROTO)
        data = (HEAD if kind == socket.SOCK_RAW else b"") + b"where it lies"
        for off in (at, at + 1, 100, 2048 - len(data), at - 1, 2048 - len(data) + 1, 0):
            r.put(0, data, off=min(off, 2048 - len(data)), **{field: off})
            n = kick(r.s)
            status = r.done(1)
            if n == len(data):
                r.put(1, data, off=at, **{field: at})
                kick(r.s)
                settled()
            say(f"v{version} {field} at {off}", r=n, status=status, got=[told(seen) for _ in range(2)])
            r.put(0, b"", 0, AVAILABLE)
        r.close()
        seen.close()


def destinations():
    seen = packet(proto=PROTO)
    r = Ring(dev=None)
    r.put(0, HEAD + b"nowhere")
    say("not bound", r=kick(r.s), status=r.done())
    say("to an address", r=outcome(r.s.sendto, b"", ("lo", PROTO, 0, 0, bytes(6))), status=r.done(), got=told(seen))
    say("nothing to send, not bound", r=[kick(r.s), outcome(r.s.sendto, b"", ("lo", PROTO))])
    r.close()
    r = Ring(kind=socket.SOCK_DGRAM, dev=None)
    r.put(0, b"cooked")
    r.put(1, b"cooked too")
    say("cooked, to an address", r=outcome(r.s.sendto, b"", ("lo", PROTO, 0, 0, bytes(6))), status=r.done(), got=[told(seen) for _ in range(2)])
    r.put(0, b"")
    say("cooked and empty", r=outcome(r.s.sendto, b"", ("lo", PROTO, 0, 0, bytes(6))), status=r.done(), got=told(seen))
    r.close()
    r = Ring(kind=socket.SOCK_DGRAM, proto=PROTO)
    r.put(0, b"cooked, bound")
    say("cooked, bound", r=kick(r.s), status=r.done(), got=told(seen))
    r.close()
    seen.close()


def others():
    seen = packet(proto=PROTO)
    r = Ring(before=(QDISC_BYPASS,))
    tap = packet(proto=3)
    r.put(0, HEAD + b"bypass")
    say("PACKET_QDISC_BYPASS", r=kick(r.s), status=r.done(), got=told(seen), tap=[told(tap) for _ in range(2)])
    r.close()
    tap.close()
    r = Ring(frames=64, size=2048)
    say("poll", r=kick(r.s), mask=mask(r.s))
    for n in range(64):
        r.put(n, HEAD + bytes([65 + n % 26]) * 40)
    say("many", r=kick(r.s), status=sorted(set(r.done(64))), got=sum(len(told(seen)) == 40 for _ in range(64)), statistics=list(struct.unpack("II", r.s.getsockopt(SOL_PACKET, STATISTICS, 8))))
    for n in range(64):
        r.put(n, HEAD + b"round")
    say("many again", r=kick(r.s), status=sorted(set(r.done(64))), got=sum(told(seen) == "round" for _ in range(64)))
    r.put(0, HEAD + b"write")
    say("a plain write", r=outcome(os.write, r.s.fileno(), b"x"), got=[settled(), told(seen)][1])
    r.put(1, HEAD + b"send")
    say("a plain send", r=outcome(r.s.send, b"bytes that nobody sends"), got=[settled(), told(seen)][1])
    r.put(2, HEAD + b"behind it")
    say("a send of nothing behind it", r=kick(r.s), got=told(seen))
    r.close()
    r = Ring(before=(VNET_HDR,))
    r.put(0, bytes(10) + HEAD + b"with a header")
    say("virtio header", r=kick(r.s), status=r.done(), got=told(seen))
    r.put(1, bytes(9))
    say("virtio header, short", r=kick(r.s), status=r.done())
    r.close()
    seen.close()


geometries()
mappings()
for v in (0, 1, 2):
    frames(v)
    lost(v)
    offsets(v)
destinations()
others()
