"""Devices of /dev/net/tun with all that there is: headers of virtio, offloads, several files, persistence. The same lines on
the host kernel (in a namespace) and in a jar."""
import errno
import fcntl
import os
import socket
import struct
import time

TUNSETIFF, TUNSETPERSIST, TUNGETFEATURES, TUNSETOFFLOAD, TUNGETIFF = 0x400454CA, 0x400454CB, 0x800454CF, 0x400454D0, 0x800454D2
TUNGETVNETHDRSZ, TUNSETVNETHDRSZ, TUNSETQUEUE = 0x800454D7, 0x400454D8, 0x400454D9
TUNSETNOCSUM, TUNSETVNETLE, TUNGETVNETLE, TUNSETCARRIER = 0x400454C8, 0x400454DC, 0x800454DD, 0x400454E2
SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCGIFHWADDR, SIOCSIFHWADDR = 0x8913, 0x8914, 0x8927, 0x8924
TUN, TAP, NO_PI, VNET_HDR, MULTI_QUEUE, EXCL = 0x1, 0x2, 0x1000, 0x4000, 0x100, 0x8000


def err(f, *args):
    try:
        f(*args)
        return "ok"
    except OSError as e:
        return errno.errorcode[e.errno]


def ifreq(name, flags):
    return struct.pack("16sH14x", name, flags)


def attach(name, flags):
    fd = os.open("/dev/net/tun", os.O_RDWR)
    return fd, err(fcntl.ioctl, fd, TUNSETIFF, ifreq(name, flags))


def devices():
    return [name for _, name in socket.if_nameindex() if name != "eth0"]


def gone(name):
    end = time.time() + 5
    while name in devices() and time.time() < end:
        time.sleep(0.01)
    return name not in devices()


def header(fd):
    return struct.unpack("i", fcntl.ioctl(fd, TUNGETVNETHDRSZ, bytes(4)))[0]


def flags(name, up=False):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        if up:
            fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sH14x", name, 1) + bytes(8))
        # Linux tells of links a second late.
        time.sleep(1.2)
        return hex(struct.unpack("16sH", fcntl.ioctl(s, SIOCGIFFLAGS, struct.pack("16s24x", name))[:18])[1] & 0x1041)


def hwaddr(fd, family, mac):
    return err(fcntl.ioctl, fd, SIOCSIFHWADDR, struct.pack("16sH6s16x", b"", family, mac))


def of_descriptor():
    """Carrier, address and byte order by the descriptor."""
    for kind in (TAP, TUN):
        t, said = attach(b"c0", kind | NO_PI | 0x480)
        print("--", said, "nocsum", err(fcntl.ioctl, t, TUNSETNOCSUM, 1))
        for v in (1, 0, 7):
            told = err(fcntl.ioctl, t, TUNSETVNETLE, struct.pack("i", v))
            print("le", v, told, struct.unpack("i", fcntl.ioctl(t, TUNGETVNETLE, bytes(4)))[0])
        print("up", flags(b"c0", True))
        for v in (0, -1):
            print("carrier", v, err(fcntl.ioctl, t, TUNSETCARRIER, struct.pack("i", v)), flags(b"c0"))
        got = fcntl.ioctl(t, SIOCGIFHWADDR, bytes(40))
        print("address", got[:18], got[18] & 3)
        for family, mac in ((1, b"\2\0\0\0\0w"), (1, b"\3\0\0\0\0w"), (0, b"\2\0\0\0\0x")):
            print("address", family, hwaddr(t, family, mac), fcntl.ioctl(t, SIOCGIFHWADDR, bytes(40))[16:24])
        os.close(t)
        print("goes", gone("c0"))
    t, said = attach(b"n0", TAP | NO_PI | 0x40)
    kept = struct.unpack("16sH", fcntl.ioctl(t, TUNGETIFF, bytes(40))[:18])[1]
    print("no carrier", said, hex(kept), flags(b"n0", True))
    print("carrier", err(fcntl.ioctl, t, TUNSETCARRIER, struct.pack("i", 1)), flags(b"n0"))
    os.close(t)
    print("goes", gone("n0"))


of_descriptor()
features = struct.unpack("I", fcntl.ioctl(os.open("/dev/net/tun", os.O_RDWR), TUNGETFEATURES, bytes(4)))[0]
print("features", hex(features & 0x7143))
t, said = attach(b"v0", TUN | NO_PI | VNET_HDR)
print("vnet", said, header(t))
for size in (9, 10, 12, -1):
    print("size", size, err(fcntl.ioctl, t, TUNSETVNETHDRSZ, struct.pack("i", size)), header(t))
for bits in (0, 1, 2, 7, 0x1F, 0x21, 0x61, 0x80):
    print("offload", hex(bits), err(fcntl.ioctl, t, TUNSETOFFLOAD, bits))
print("taken", attach(b"v0", TUN | NO_PI)[1], attach(b"v0", TAP | NO_PI)[1])
print("persist", err(fcntl.ioctl, t, TUNSETPERSIST, 1), hex(struct.unpack("16sH", fcntl.ioctl(t, TUNGETIFF, bytes(40))[:18])[1]))
os.close(t)
time.sleep(0.2)
print("stays", devices())
t, said = attach(b"v0", TUN | NO_PI)
print("again", said, err(fcntl.ioctl, t, TUNSETPERSIST, 0))
os.close(t)
print("goes", gone("v0"))
a, b = attach(b"m0", TAP | NO_PI | MULTI_QUEUE), attach(b"m0", TAP | NO_PI | MULTI_QUEUE)
print("many", a[1], b[1], attach(b"m0", TAP | NO_PI)[1], attach(b"m0", TAP | NO_PI | EXCL)[1])
for how in (0x400, 0x400, 0x200, 0x200, 0):
    print("queue", hex(how), err(fcntl.ioctl, b[0], TUNSETQUEUE, ifreq(b"", how)))
os.close(a[0])
time.sleep(0.2)
print("one left", devices())
os.close(b[0])
print("goes", gone("m0"))
