"""Network namespaces and pairs of devices: what is separate, where a socket stays, what a device keeps when it moves."""
from observe import *
import ctypes
import fcntl

libc = ctypes.CDLL(None, use_errno=True)
NEWNET = 0x40000000
NEWLINK, DELLINK, SETLINK = 16, 17, 19
IFNAME, NS_FD, LINKINFO, KIND, DATA = 3, 28, 18, 1, 2
ACK, CREATE, EXCL = 5, 0x400, 0x200


def call(name, *args):
    if getattr(libc, name)(*args) < 0:
        raise OSError(ctypes.get_errno(), name)


def here():
    return os.open("/proc/self/ns/net", os.O_RDONLY)


def enter(ns):
    call("setns", ns, NEWNET)


def new():
    """A namespace of its own from now on; a descriptor for it."""
    call("unshare", NEWNET)
    return here()


def attr(kind, value):
    if isinstance(value, str):
        value = value.encode() + b"\0"
    return struct.pack("HH", len(value) + 4, kind) + value + b"\0" * (-len(value) % 4)


def ask(kind, flags, body):
    """The error of a request to NETLINK_ROUTE, 0 for none."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as s:
        s.bind((0, 0))
        s.send(struct.pack("IHHII", len(body) + 16, kind, ACK | flags, 1, 0) + body)
        code = -struct.unpack_from("i", s.recv(65536), 16)[0]
        return errno.errorcode[code] if code else "ok"


def info(index=0):
    return struct.pack("BxHiII", 0, 0, index, 0, 0)


def pair(a, b, ns):
    """A veth, whose second end is in another namespace."""
    peer = attr(1, info() + attr(IFNAME, b) + attr(NS_FD, struct.pack("I", ns)))
    kind = attr(LINKINFO, attr(KIND, "veth") + attr(DATA, peer))
    return ask(NEWLINK, CREATE | EXCL, info() + attr(IFNAME, a) + kind)


def ioctl(request, dev, rest=b""):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        return fcntl.ioctl(s, request, struct.pack("16s24s", dev.encode(), rest))[16:]


def flags(dev):
    """Which of UP and RUNNING."""
    bits = struct.unpack("H", ioctl(0x8913, dev)[:2])[0]
    return [n for n, b in (("UP", 1), ("RUNNING", 0x40)) if bits & b]


def watched():
    """Time for Linux' link watch, which tells of a carrier up to a second later."""
    time.sleep(1.2)


def up(dev, on=1):
    ioctl(0x8914, dev, struct.pack("H", 0x1002 | on))


def address(dev, a):
    ioctl(0x8916, dev, struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton(a)))
    ioctl(0x891c, dev, struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton("255.255.255.0")))


def addr_of(dev):
    return outcome(lambda: socket.inet_ntoa(ioctl(0x8915, dev)[4:8]))


def names():
    return [n for _, n in socket.if_nameindex()]


def bound(port, a="127.0.0.1"):
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.bind((a, port))
    return s


first = here()
kept = udp()
port = kept.getsockname()[1]
taken = bound(0)
second = new()
with tcp() as s:
    say("a new namespace", devices=names(), lo=flags("lo"), connect=outcome(s.connect, (LO, 9)), bind=outcome(s.bind, (LO, 0)))
say("ports are its own", bind=outcome(bound, taken.getsockname()[1]))
say("a socket stays where it was made", name=kept.getsockname()[1] == port, send=outcome(kept.sendto, b"x", (LO, port)),
    got=[settled(), outcome(kept.recv, 9)][1])
up("lo")
with udp() as s:
    say("the same port of another namespace is not heard", sent=outcome(s.sendto, b"y", (LO, port)), got=[settled(), now_or_error(kept)][1])
say("lo does not move", r=ask(SETLINK, 0, info(1) + attr(NS_FD, struct.pack("I", first))))
say("names are checked", slash=pair("a/b", "x", first), long=pair("a" * 16, "x", first), taken=pair("lo", "x", first))
say("a pair", r=pair("a0", "b0", first), again=pair("a0", "b1", first), here="a0" in names(), state=flags("a0"))
address("a0", "10.77.0.1")
up("a0")
watched()
say("one end up", state=flags("a0"), addr=addr_of("a0"))
enter(first)
say("the other end", there="b0" in names(), state=flags("b0"))
address("b0", "10.77.0.2")
up("b0")
watched()
say("both ends up", state=flags("b0"))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.settimeout(2)
    s.bind(("10.77.0.2", 0))
    there = s.getsockname()
    enter(second)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as c:
        c.sendto(b"across", there)
        got, whence = s.recvfrom(99)
        say("a datagram across", got=got.decode(), whence=whence[0])
        s.sendto(b"back", whence)
        c.settimeout(2)
        say("and back", got=outcome(c.recv, 99))
third = new()
enter(second)
index = socket.if_nametoindex("a0")
say("an end moves", r=ask(SETLINK, 0, info(index) + attr(NS_FD, struct.pack("I", third))), left="a0" in names())
enter(third)
say("without its address, down", there="a0" in names(), state=flags("a0"), addr=addr_of("a0"))
enter(first)
watched()
say("and the other end has no carrier", state=flags("b0"))
enter(third)
say("one end goes", r=ask(DELLINK, 0, info(socket.if_nametoindex("a0"))))
enter(first)
say("and takes the other along", there="b0" in names())
say("lo does not go", r=ask(DELLINK, 0, info(1)))
say("no such namespace", enter=outcome(enter, taken.fileno()))
