"""ioctl(): queue lengths, and the devices' addresses, flags and names."""
from observe import *
import array
import fcntl

INQ, OUTQ, OUTQNSD = 0x541b, 0x5411, 0x894b


def number(s, request):
    n = array.array("i", [-7])
    done = outcome(fcntl.ioctl, s, request, n)
    return n[0] if done == 0 else done


a, b = connected()
say("empty queues", r=[number(a, q) for q in (INQ, OUTQ, OUTQNSD)])
a.send(b"12345")
settled()
say("five bytes", r=[number(b, INQ), number(a, OUTQ)], after_two=[b.recv(2).decode(), number(b, INQ)])
a.shutdown(socket.SHUT_WR)
settled()
say("and an end", r=number(b, INQ), all_read=[b.recv(9).decode(), number(b, INQ)])
with tcp() as s, listener() as l:
    say("no connection", fresh=[number(s, q) for q in (INQ, OUTQ, OUTQNSD)], listening=[number(l, q) for q in (INQ, OUTQ, OUTQNSD)])
with udp() as u, udp() as v:
    u.sendto(b"123", v.getsockname())
    u.sendto(b"4567", v.getsockname())
    settled()
    say("of datagrams the first", r=[number(v, INQ), number(u, OUTQ), number(v, OUTQNSD)], then=[v.recv(9).decode(), number(v, INQ)],
        empty=[v.recv(9).decode(), number(v, INQ)])
    u.sendto(b"", v.getsockname())
    settled()
    say("an empty datagram", r=number(v, INQ))


def device(s, request, name=b"lo", rest=bytes(24)):
    try:
        return fcntl.ioctl(s, request, struct.pack("16s24s", name, rest[:24]))[16:]
    except OSError as e:
        return errno.errorcode[e.errno]


with udp(bound=False) as s:
    lo = device(s, 0x8915)
    say("lo", address=socket.inet_ntoa(lo[4:8]), mask=socket.inet_ntoa(device(s, 0x891b)[4:8]), index=struct.unpack("i", device(s, 0x8933)[:4])[0],
        mtu=struct.unpack("i", device(s, 0x8921)[:4])[0], flags=struct.unpack("H", device(s, 0x8913)[:2])[0],
        kind=struct.unpack("H", device(s, 0x8927)[:2])[0], broadcast=device(s, 0x8919)[4:8].hex(), metric=device(s, 0x891d)[:4].hex())
    say("a device that is not there", r=[device(s, q, b"nosuch") for q in (0x8913, 0x8915, 0x8921, 0x8927, 0x8933)])
    say("name of an index", one=fcntl.ioctl(s, 0x8910, struct.pack("16si20s", b"", 1, b""))[:2].decode(),
        none=outcome(lambda: fcntl.ioctl(s, 0x8910, struct.pack("16si20s", b"", 99, b""))))
    say("unknown requests", r=[outcome(fcntl.ioctl, s, q, bytes(40)) for q in (0x89aa, 0x5499)])
with tcp() as s:
    say("FIONBIO", r=[outcome(fcntl.ioctl, s, 0x5421, struct.pack("i", 1)), os.get_blocking(s.fileno())],
        off=[outcome(fcntl.ioctl, s, 0x5421, struct.pack("i", 0)), os.get_blocking(s.fileno())])
    say("owner", before=number(s, 0x8903), r=len(outcome(fcntl.ioctl, s, 0x8902, struct.pack("i", os.getpid()))), mine=number(s, 0x8903) == os.getpid())
