"""The doors that root's programs use in a namespace of their own: /proc/sys, /dev/net/tun, interface ioctls. The same
lines on the host kernel (in a namespace) and in a jar."""
import errno, fcntl, os, select, socket, struct, time


def say(name, *values):
    print(name, *values, flush=True)


def err(f, *args):
    try:
        f(*args)
        return "ok"
    except OSError as e:
        return errno.errorcode.get(e.errno, e.errno)


def setting(name, value=None):
    path = "/proc/sys/" + name.replace(".", "/")
    if value is not None:
        with open(path, "w") as f:
            f.write(f"{value}\n")
    return open(path).read().strip()


def ifreq(name, request, value):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        return fcntl.ioctl(s, request, struct.pack("16s16s", name.encode(), value))[16:]
    finally:
        s.close()


def address(ip):
    return struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton(ip))


def checksum(b):
    total = sum(struct.unpack(f"!{len(b) // 2}H", b))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ping(src, dst):
    icmp = struct.pack("!BBHHH8s", 8, 0, 0, 7, 1, b"doorbell")
    icmp = icmp[:2] + struct.pack("!H", checksum(icmp)) + icmp[4:]
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(icmp), 1, 0x4000, 64, 1, 0, *map(socket.inet_aton, (src, dst)))
    return ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + icmp


def packet(tun, timeout=5):
    end = time.time() + timeout
    while select.select([tun], [], [], max(0, end - time.time()))[0]:
        p = os.read(tun, 70000)
        if p[0] >> 4 == 4:
            return p
    return None


# Settings: what is written is true for the next call.
say("setting", setting("net.ipv4.tcp_syn_retries", 3), setting("net.core.somaxconn", 77))
say("range", setting("net.ipv4.ip_local_port_range", "41000 41000"))
s = socket.socket()
s.bind(("127.0.0.1", 0))
say("port", s.getsockname()[1])
s.close()
setting("net.ipv4.ip_local_port_range", "32768 60999")
say("nothing there", err(open, "/proc/sys/net/ipv4/no_such_setting", "w"))
both = os.open("/proc/sys/net/ipv4/tcp_retries1", os.O_RDWR)
say("both ways", os.write(both, b"4\n"))
say("written", setting("net.ipv4.tcp_retries1"))

# A device of ours.
tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
say("not yet", err(fcntl.ioctl, tun, 0x800454D2, bytes(40)))
say("bad", err(fcntl.ioctl, tun, 0x400454CA, struct.pack("16sH14s", b"bell%d", 0x1000, b"")))
made = fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH14s", b"bell%d", 0x1001, b""))
name = made[:16].rstrip(b"\0").decode()
say("name", name)
say("twice", err(fcntl.ioctl, tun, 0x400454CA, struct.pack("16sH14s", b"other", 0x1001, b"")))
other = os.open("/dev/net/tun", os.O_RDWR)
for request, value in ((0x8916, address("10.77.0.1")), (0x891C, address("255.255.255.0")), (0x8922, struct.pack("i", 1400))):
    ifreq(name, request, value)
before = struct.unpack("H", ifreq(name, 0x8913, b"")[:2])[0]
ifreq(name, 0x8914, struct.pack("H", before | 1))
flags = struct.unpack("H", ifreq(name, 0x8913, b"")[:2])[0]
say("flags", hex(flags & 0x10D3))
say("mtu", struct.unpack("i", ifreq(name, 0x8921, b"")[:4])[0])
say("mask", socket.inet_ntoa(ifreq(name, 0x891B, b"")[4:8]))
say("bad mask", err(ifreq, name, 0x891C, address("255.0.255.0")))
os.write(tun, ping("10.77.0.9", "10.77.0.1"))
answer = packet(tun)
say("answer", socket.inet_ntoa(answer[12:16]), socket.inet_ntoa(answer[16:20]), answer[20], answer[-8:])
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind(("10.77.0.1", 5000))
u.sendto(b"out", ("10.77.0.9", 6000))
out = packet(tun)
say("out", out[9], out[-3:], len(out))
c = socket.socket()
c.setblocking(False)
say("connect", err(c.connect, ("10.77.0.9", 80)))
syn = packet(tun)
say("syn", syn[9], syn[33], struct.unpack("!BBH", syn[40:44]))
c.close()
os.close(tun)
time.sleep(0.3)
say("gone", err(ifreq, name, 0x8913, b""))
say("unreachable", err(u.sendto, b"out", ("10.77.0.9", 6000)))
os.close(other)

# Another user has none of this.
if os.getuid() == 0:
    os.seteuid(65534)
    u = socket.socket()
    say("user interface", err(ifreq, "lo", 0x8922, struct.pack("i", 1000)), struct.unpack("i", ifreq("lo", 0x8921, b"")[:4])[0])
    say("user", err(u.bind, ("127.0.0.1", 80)), err(u.setsockopt, 1, 36, 7), err(open, "/proc/sys/net/core/somaxconn", "w"))
    os.seteuid(0)
    say("root", err(u.bind, ("127.0.0.1", 80)))
# Nothing to receive where nothing is connected: no sleep for ever.
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen()
s.settimeout(None)
say("listener recv fails", err(s.recv, 1) in ("ENOTCONN", "EAGAIN"))
say("done")
