"""A program with both rings of a packet socket: asks a slow network for an address again and again, and reads the answers."""

import ctypes
import mmap
import select
import socket
import struct

SOL_PACKET, RX_RING, VERSION, TX_RING = 263, 5, 10, 13
AVAILABLE, SEND_REQUEST, SENDING, USER = 0, 1, 2, 1
FRAME, FRAMES, ETH_P_ARP, MORE = 2048, 8, 0x0806, b"\0" * 900
libc = ctypes.CDLL(None, use_errno=True)

s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
s.setsockopt(SOL_PACKET, VERSION, 1)
for ring in (RX_RING, TX_RING):
    s.setsockopt(SOL_PACKET, ring, struct.pack("IIII", FRAME * FRAMES, 1, FRAME, FRAMES))
m = mmap.mmap(s.fileno(), 2 * FRAME * FRAMES)
s.bind(("eth0", ETH_P_ARP))
mac = s.getsockname()[4]
ask = b"\xff" * 6 + mac + struct.pack(">HHHBBH", ETH_P_ARP, 1, 0x0800, 6, 4, 1) + mac
ask += socket.inet_aton("10.0.2.15") + bytes(6) + socket.inet_aton("10.0.2.2") + MORE


def at(n):
    return FRAME * (FRAMES + n % FRAMES)


def fill(n):
    m[at(n) + 32:at(n) + 32 + len(ask)] = ask
    m[at(n) + 4:at(n) + 8] = struct.pack("I", len(ask))
    m[at(n):at(n) + 4] = struct.pack("I", SEND_REQUEST)


def status(n):
    return struct.unpack("I", m[at(n):at(n) + 4])[0]


def kick(flags):
    return libc.send(s.fileno(), None, ctypes.c_size_t(0), flags)


def answers(count):
    """Frames of the other ring, one after another."""
    global read
    for _ in range(count):
        base = FRAME * (read % FRAMES)
        while not struct.unpack("I", m[base:base + 4])[0] & USER:
            p = select.poll()
            p.register(s, select.POLLIN)
            assert p.poll(10_000), "no answer"
        length, snap, mac_at = struct.unpack("IIH", m[base + 4:base + 14])
        frame = m[base + mac_at:base + mac_at + snap]
        assert frame[:6] == mac and frame[20:22] == b"\0\2" and frame[28:32] == socket.inet_aton("10.0.2.2"), frame
        m[base:base + 4] = struct.pack("I", 0)
        read += 1


read = 0
assert kick(0) == 0
# A call that waits comes back when the last frame is on the wire.
for n in range(6):
    fill(n)
assert kick(0) == 6 * len(ask)
assert [status(n) for n in range(6)] == [AVAILABLE] * 6
answers(6)
# One that does not leaves them to the card.
for n in range(6, 12):
    fill(n)
assert kick(socket.MSG_DONTWAIT) == 6 * len(ask)
assert all(status(n) in (SENDING, AVAILABLE) for n in range(6, 12))
answers(6)
assert kick(0) == 0 and [status(n) for n in range(6, 12)] == [AVAILABLE] * 6
print("all sent")
