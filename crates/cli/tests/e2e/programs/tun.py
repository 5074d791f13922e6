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


features = struct.unpack("I", fcntl.ioctl(os.open("/dev/net/tun", os.O_RDWR), TUNGETFEATURES, bytes(4)))[0]
print("features", hex(features & 0x7103))
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
