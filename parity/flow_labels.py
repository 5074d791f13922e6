"""IPV6_FLOWLABEL_MGR: leases of flow labels, who may send with them, /proc/net/ip6_flowlabel."""
import ctypes

from observe import *

S6, V6 = 41, socket.AF_INET6
ONE, ALL = socket.inet_pton(V6, "::1"), socket.inet_pton(V6, "ff02::1")
GET, PUT, RENEW = 0, 1, 2
CREATE, EXCL, REFLECT, REMOTE = 1, 2, 4, 8
EXCLUSIVE, PROCESS, USER, ANY = 1, 2, 3, 255
libc = ctypes.CDLL(None, use_errno=True)
PAD, OWN = bytes([0, 0, 1, 4, 0, 0, 0, 0]), bytes([0, 1, 0x1e, 12, *range(12)])


def error():
    return errno.errorcode[ctypes.get_errno()]


def message(kind, data):
    return struct.pack("Qii", 16 + len(data), S6, kind) + data


def ask(s, label, action=GET, share=EXCLUSIVE, flags=CREATE, expires=0, linger=0, dst=ONE, headers=b"", cut=99):
    value = dst + struct.pack("!I", label) + struct.pack("BBHHHI", action, share, flags, expires, linger, 0) + headers
    b = ctypes.create_string_buffer(value[:cut], len(value[:cut]))
    done = libc.setsockopt(s.fileno(), S6, 32, b, len(b.raw))
    return struct.unpack("!I", b.raw[16:20])[0] if done == 0 else error()


def held(s, flags=0, action=GET, size=32):
    """What the socket sends with: destination, label, share, seconds."""
    value = bytes(20) + struct.pack("BBHHHI", action, 0, flags, 0, 0, 0) + bytes(8)
    b, n = ctypes.create_string_buffer(value[:size], size), ctypes.c_int(size)
    if libc.getsockopt(s.fileno(), S6, 32, b, ctypes.byref(n)):
        return error()
    return [b.raw[:16].hex(), b.raw[16:20].hex(), b.raw[21], [(t + 5) // 20 for t in struct.unpack("HH", b.raw[24:28])], n.value]


def table():
    """Times that pass are not compared exactly."""
    lines = open("/proc/net/ip6_flowlabel").read().replace(f" {os.getpid()} ".ljust(8), " PID   ").splitlines()
    return [lines[0]] + [" ".join(w if i != 5 else str((int(w) + 5) // 20) for i, w in enumerate(l.split())) for l in lines[1:]]


def write(name, value):
    with open(f"/proc/sys/net/ipv6/{name}", "w") as f:
        f.write(value)


s, t, u = udp(V6), udp(V6), udp(V6)
u.setsockopt(S6, 33, 1)
say("no labels", table=table(), send=outcome(u.sendto, b"x", ("::1", 9, 7, 0)))
say("shares", r=[ask(s, 0x100 + n, share=n) for n in (0, EXCLUSIVE, PROCESS, USER, 4, 254, ANY)], table=table())
SHARES = (EXCLUSIVE, PROCESS, USER, ANY)
say("again", own=[ask(s, 0x100 + n, share=n) for n in SHARES], excl=[ask(s, 0x100 + n, share=n, flags=CREATE | EXCL) for n in SHARES],
    there=[ask(s, 0x100 + n, share=n, flags=0) for n in SHARES])
say("another socket", same=[ask(t, 0x100 + n, share=n) for n in SHARES], other=[ask(t, 0x100 + n, share=ANY) for n in SHARES])
say("wrong", there=ask(t, 0x777, flags=0), large=ask(t, 0x100000), action=ask(t, 5, action=3), anywhere=ask(t, 5, dst=bytes(16)),
    mapped=ask(t, 5, dst=socket.inet_pton(V6, "::ffff:1.2.3.4")), short=ask(t, 5, cut=31), group=ask(t, 5, dst=ALL))
chosen = ask(t, 0, share=ANY)
say("chosen", label=isinstance(chosen, int) and 0 < chosen < 1 << 20, given_back=ask(t, chosen, PUT) == chosen)
say("given back", r=[ask(s, 0x101, PUT), ask(s, 0x101, PUT), ask(u, 0x102, PUT)], table=[l for l in table() if not l.startswith(f"{chosen:05X}")])
say("renewed", own=ask(s, 0x102, RENEW, expires=100, linger=20), stranger=ask(u, 0x102, RENEW), all=ask(u, 0x102, RENEW, share=0, expires=200),
    none=ask(u, 0x999, RENEW, share=0), longer=ask(s, 0x103, RENEW, expires=65535, linger=65535), unused=ask(u, 0x101, RENEW, share=0))
say("linger", r=[ask(s, 0x500 + i, linger=n, expires=m) for i, (n, m) in enumerate(((0, 0), (6, 9), (9, 6), (150, 150), (65535, 7)))],
    table=[l for l in table() if l.startswith("005")])
for name, sock in (("who leased", s), ("who did not", u)):
    for on in (0, 1):
        sock.setsockopt(S6, 33, on)
        say(f"send, {name}, {on}", r=[outcome(sock.sendto, b"x", ("::1", 9, label, 0)) for label in (0, 0x102, 0x999, 0x1ff)])
say("message", r=[outcome(sock.sendmsg, [b"x"], [(S6, 11, struct.pack("!I", label))], 0, ("::1", 9)) for sock in (s, u) for label in (0x102, 0x3000102, 0x999)])
say("connect", r=[outcome(u.connect, ("::1", 9, 0x102, 0)), outcome(s.connect, ("::1", 9, 0x102, 0))], held=[held(s), held(s, REMOTE), held(s, action=1), held(s, size=31), held(u)])
with tcp(V6) as c:
    c.setsockopt(S6, 33, 1)
    say("connect a stream", r=outcome(c.connect, ("::1", 9, 0x102, 0)))
say("the connection's is given back", r=ask(s, 0x102, PUT, share=PROCESS), held=[held(s) == held(s), ask(s, 0x102, PUT)])
with udp(V6) as r, udp(V6) as c:
    c.setsockopt(S6, 33, 1)
    for option in (11, 53, 58):
        r.setsockopt(S6, option, 1)
    to = r.getsockname()[:2] + (0x700, 0)
    made = ask(c, 0x700, headers=message(54, PAD))
    steps = {}
    for step, sticky in (("headers", []), ("and the socket's", [(54, bytes([0, 0, 5, 2, 0, 0, 1, 0])), (59, OWN)])):
        for option, value in sticky:
            c.setsockopt(S6, option, value)
        steps[step] = [outcome(c.sendto, b"x", to), [[k, v.hex()] for _, k, v in r.recvmsg(9, 200)[1]]]
    say("headers of a label", made=made, line=[l for l in table() if l.startswith("00700")], **steps)
with tcp(V6) as l, udp(V6) as d:
    say("reflect, consistently", r=[ask(l, 0, flags=REFLECT), ask(d, 0, flags=REFLECT), ask(l, 0, PUT, flags=REFLECT)])
    write("flowlabel_consistency", "0")
    say("reflect", r=[ask(l, 0, flags=REFLECT), ask(d, 0, flags=REFLECT), ask(d, 0, PUT, flags=REFLECT)], held=held(l),
        off=[ask(l, 0, PUT, flags=REFLECT), ask(l, 0, PUT, flags=REFLECT)])
write("flowlabel_state_ranges", "1")
say("ranges", r=[ask(t, 0x80001), ask(t, 0x70001)])
