"""What a write to a device of /dev/net/tun says of packets that are none. The same lines on the host kernel (in a namespace) and
in a jar with --exact."""
import errno
import fcntl
import os
import socket
import struct

TUNSETIFF, TUNSETQUEUE, SIOCSIFFLAGS = 0x400454CA, 0x400454D9, 0x8914
TUN, TAP, NO_PI, VNET_HDR, MULTI_QUEUE = 0x1, 0x2, 0x1000, 0x4000, 0x100


def said(f, *args):
    try:
        return f(*args)
    except OSError as e:
        return errno.errorcode[e.errno]


def ifreq(name, flags):
    return struct.pack("16sH22x", name, flags)


def up(name, on):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, SIOCSIFFLAGS, ifreq(name, int(on)))


def writes(t, packets):
    print(" ".join(f"{len(p)}:{said(os.write, t, p)}" for p in packets))


v4 = b"\x45" * 20
t = os.open("/dev/net/tun", os.O_RDWR)
print("no device", said(os.write, t, v4))
os.close(t)
for name, kind in ((b"a0", TAP), (b"t0", TUN)):
    t = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(t, TUNSETIFF, ifreq(name, kind | NO_PI))
    print("down", said(os.write, t, v4), said(os.writev, t, [v4, v4]))
    up(name, True)
    writes(t, [b"", b"\x45", b"\x45" * 13, b"\x45" * 14, v4, b"\x15" * 40, b"\x65" * 60])
    print("several", said(os.writev, t, [v4, v4, b""]))
    os.close(t)
t = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(t, TUNSETIFF, ifreq(b"p0", TUN))
writes(t, [b"\0\0\x08\0"])
up(b"p0", True)
writes(t, [b"", b"\0\0", b"\0\0\x08\0", b"\0\0\x08\0" + v4])
t = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(t, TUNSETIFF, ifreq(b"q0", TUN | NO_PI | VNET_HDR))
up(b"q0", True)
writes(t, [b"\0" * 9, b"\0" * 10, b"\0" * 10 + v4 * 2, b"\x01\x01" + b"\0" * 8 + v4 * 2])
writes(t, [b"\x01\0\0\0\0\0\x50\0\x10\0" + v4 * 2, b"\0\x07" + b"\0" * 8 + v4 * 2, b"\0\0\xff\0" + b"\0" * 6 + v4 * 2])
t = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(t, TUNSETIFF, ifreq(b"m0", TUN | NO_PI | MULTI_QUEUE))
up(b"m0", True)
writes(t, [v4])
fcntl.ioctl(t, TUNSETQUEUE, ifreq(b"", 0x400))
writes(t, [v4])
fcntl.ioctl(t, TUNSETQUEUE, ifreq(b"", 0x200))
writes(t, [v4])
print("done")
