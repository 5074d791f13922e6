"""Socket calls under a storm of signals, made without a library that hides EINTR.

storm.py HZ RESTART COUNT: a client and a server process, each with an interval timer of HZ, the handler installed with
(1) or without (0) SA_RESTART. Every call's effect must happen exactly once. Prints facts, then waits to be ended.
"""
import ctypes, errno, os, signal, struct, sys, time

HZ, RESTART, COUNT = int(sys.argv[1]), sys.argv[2] == "1", int(sys.argv[3])
AF_INET, SOCK_STREAM, SOCK_NONBLOCK, IPPROTO_TCP, TCP_NODELAY = 2, 1, 0o4000, 6, 1
libc = ctypes.CDLL(None, use_errno=True)
early = {}
interrupted = {"accept": 0, "connect": 0, "read": 0, "send": 0}


def call(f, *args):
    r = f(*args)
    return (r, 0) if r >= 0 else (r, ctypes.get_errno())


def address(port):
    return struct.pack("=H", AF_INET) + struct.pack(">H", port) + bytes([127, 0, 0, 1]) + bytes(8)


def storm(hz):
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.siginterrupt(signal.SIGALRM, not RESTART)
    signal.setitimer(signal.ITIMER_REAL, 1 / hz if hz else 0, 1 / hz if hz else 0)


def must(what, result):
    r, e = result
    if r < 0:
        raise SystemExit(f"{what}: {errno.errorcode.get(e, e)}")
    return r


def now(what, f, *args):
    """A call that does not block. On a kernel of one's own it is never interrupted; under a supervisor a signal that comes
    before the supervisor has seen the call takes it back, whole: it had no effect and is made again."""
    while True:
        r, e = call(f, *args)
        if e != errno.EINTR:
            return must(what, (r, e))
        early[what] = early.get(what, 0) + 1


def again(what, f, *args):
    """A call that may be interrupted, until it is not."""
    while True:
        r, e = call(f, *args)
        if r >= 0 or e != errno.EINTR:
            return must(what, (r, e))
        interrupted[what] += 1


def read_all(fd):
    buf, got = ctypes.create_string_buffer(65536), b""
    while n := again("read", libc.recv, fd, buf, 65536, 0):
        got += buf.raw[:n]
    return got


def send_all(fd, data):
    while data:
        n = again("send", libc.send, fd, data, len(data), 0)
        data = data[n:]


def listener():
    fd = now("socket", libc.socket, AF_INET, SOCK_STREAM, 0)
    now("bind", libc.bind, fd, address(0), 16)
    second = call(libc.bind, fd, address(0), 16)
    assert second == (-1, errno.EINVAL), f"second bind: {second}"
    now("listen", libc.listen, fd, 1000)
    name, size = ctypes.create_string_buffer(16), ctypes.c_uint(16)
    now("getsockname", libc.getsockname, fd, name, ctypes.byref(size))
    return fd, struct.unpack(">H", name.raw[2:4])[0]


def client(port):
    storm(HZ)
    one = ctypes.c_int(1)
    for i in range(COUNT):
        fd = now("socket", libc.socket, AF_INET, SOCK_STREAM, 0)
        now("setsockopt", libc.setsockopt, fd, IPPROTO_TCP, TCP_NODELAY, ctypes.byref(one), 4)
        while True:
            r, e = call(libc.connect, fd, address(port), 16)
            if r == 0 or e == errno.EISCONN:
                break
            if e != errno.EINTR and e != errno.EALREADY:
                raise SystemExit(f"connect {i}: {errno.errorcode.get(e, e)}")
            interrupted["connect"] += 1
        send_all(fd, struct.pack(">I", i) * 500)
        now("shutdown", libc.shutdown, fd, 1)
        back = read_all(fd)
        if back != struct.pack(">I", i) * 500:
            raise SystemExit(f"connection {i}: {len(back)} bytes came back")
        libc.close(fd)
    signal.setitimer(signal.ITIMER_REAL, 0)


def serve(fd):
    one, seen = ctypes.c_int(1), []
    for _ in range(COUNT):
        c = again("accept", libc.accept, fd, None, None)
        now("setsockopt", libc.setsockopt, c, IPPROTO_TCP, TCP_NODELAY, ctypes.byref(one), 4)
        data = read_all(c)
        seen.append(struct.unpack(">I", data[:4])[0] if len(data) == 2000 else f"{len(data)} bytes")
        send_all(c, data)
        libc.close(c)
    return seen


def alone():
    """One signal into a blocking accept, recv: EINTR, or the call goes on until there is something."""
    fd, port = listener()
    storm(0)
    for what in ("accept", "recv"):
        if os.fork() == 0:
            signal.setitimer(signal.ITIMER_REAL, 0)
            time.sleep(0.6)
            c = libc.socket(AF_INET, SOCK_STREAM, 0)
            libc.connect(c, address(port), 16)
            time.sleep(0.6)
            libc.send(c, b"x", 1, 0)
            os._exit(0)
        if what == "recv":
            c = again("accept", libc.accept, fd, None, None)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        t0 = time.time()
        if what == "accept":
            r, e = call(libc.accept, fd, None, None)
            kept = r
        else:
            r, e = call(libc.recv, c, ctypes.create_string_buffer(8), 8, 0)
        waited = time.time() - t0
        early = waited < 0.45
        print("alone", what, errno.errorcode.get(e, e) if r < 0 else "went on", "early" if early else "late", flush=True)
        if what == "accept" and r < 0:
            kept = again("accept", libc.accept, fd, None, None)
        os.wait()
        libc.close(kept if what == "accept" else c)
    libc.close(fd)


alone()
fd, port = listener()
child = os.fork()
if child == 0:
    client(port)
    print("client was interrupted", sum(interrupted.values()) > 0 or RESTART, flush=True)
    os._exit(0)
storm(HZ)
seen = serve(fd)
while True:
    try:
        _, status = os.waitpid(child, 0)
        break
    except InterruptedError:
        pass
signal.setitimer(signal.ITIMER_REAL, 0)
flags = __import__("fcntl")
flags.fcntl(fd, flags.F_SETFL, flags.fcntl(fd, flags.F_GETFL) | os.O_NONBLOCK)
print("client", status, "seen", "exactly once" if seen == list(range(COUNT)) else seen, flush=True)
print("one more", errno.errorcode.get(call(libc.accept, fd, None, None)[1]), flush=True)
print("done", flush=True)
time.sleep(60)
