"""Many connections with random sizes, options and ways to close, every byte checked on both sides.

interop.py serve PORT SEED
interop.py connect ADDRESS[,ADDRESS] PORT SEED COUNT AT_ONCE

The server takes IPv4 and IPv6 through one socket, the client takes turns between the addresses. Both ends draw the same
plan for connection number n from the seed; one that begins with "up" or "down" sends that way only. Prints one line at the end; exit 1 if one went wrong."""
import random, select, socket, sys, threading, time

HEADER = 8


class Plan:
    def __init__(self, seed, n):
        r = random.Random(f"{seed}/{n}")
        size = lambda: 0 if r.random() < 0.1 else int(2 ** r.uniform(0, 18))
        self.n, self.up, self.down = n, size(), size()
        self.pattern = r.randbytes(997)
        self.chunk = [r.choice([1, 7, 100, 536, 1460, 4096, 65536]) for _ in "ab"]
        # A byte at a time is for small ones.
        self.chunk = [c if c >= 100 or s < 3000 else 4096 for c, s in zip(self.chunk, (self.up, self.down))]
        self.options = [self.draw(r) for _ in "ab"]
        self.client_first = r.random() < 0.5
        self.half_close = r.random() < 0.3
        # A seed may say which way the bytes go.
        self.up *= not seed.startswith("down")
        self.down *= not seed.startswith("up")

    def draw(self, r):
        o = []
        if r.random() < 0.4:
            o.append((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1))
        if r.random() < 0.2:
            o.append((socket.IPPROTO_TCP, socket.TCP_CORK, 1))
        if r.random() < 0.3:
            o.append((socket.SOL_SOCKET, socket.SO_RCVBUF, r.choice([4096, 16384, 200000])))
        if r.random() < 0.3:
            o.append((socket.SOL_SOCKET, socket.SO_SNDBUF, r.choice([8192, 65536, 400000])))
        if r.random() < 0.2:
            o.append((socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0))
        if r.random() < 0.2:
            o.append((socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno"))
        if r.random() < 0.1:
            o.append((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1))
        return o

    def bytes(self, at, n):
        at += self.n
        p = self.pattern
        start = at % len(p)
        return (p[start:] + p * (n // len(p) + 1))[:n]


def options(s, plan, side):
    for level, name, value in plan.options[side]:
        s.setsockopt(level, name, value)


def put(s, plan, total, chunk, base):
    at = 0
    while at < total:
        n = min(chunk, total - at)
        s.sendall(plan.bytes(base + at, n))
        at += n


def take(s, plan, total, base):
    at = 0
    while at < total:
        got = s.recv(min(65536, total - at))
        assert got, f"end after {at} of {total} bytes"
        assert got == plan.bytes(base + at, len(got)), f"wrong bytes at {at} of {total}"
        at += len(got)


def ended(s):
    rest = s.recv(1)
    assert rest == b"", f"{rest} after the end"


def both(a, b):
    """Both directions at once, so that neither side's buffers decide."""
    errors = []

    def guarded(f):
        try:
            f()
        except Exception as e:
            errors.append(e)

    t = threading.Thread(target=guarded, args=(a,))
    t.start()
    guarded(b)
    t.join()
    if errors:
        raise errors[0]


def finish(s, plan, first):
    if first:
        s.shutdown(socket.SHUT_WR)
        ended(s)
    else:
        ended(s)
    s.close()


def one_server(s, seed):
    head = b""
    while len(head) < HEADER:
        got = s.recv(HEADER - len(head))
        assert got, "no header"
        head += got
    plan = Plan(seed, int.from_bytes(head, "big"))
    options(s, plan, 1)
    both(lambda: put(s, plan, plan.down, plan.chunk[1], 500), lambda: take(s, plan, plan.up, 0))
    finish(s, plan, not plan.client_first)


def one_client(addresses, port, seed, n):
    plan = Plan(seed, n)
    address = (addresses[n % len(addresses)], port)
    s = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    s.settimeout(120)
    options(s, plan, 0)
    s.connect(address)
    s.sendall(n.to_bytes(HEADER, "big"))
    both(lambda: put(s, plan, plan.up, plan.chunk[0], 0), lambda: take(s, plan, plan.down, 500))
    finish(s, plan, plan.client_first)


def run(work, count, at_once):
    """`work(n)` for n below `count`; how many went well, and what did not."""
    lock, left, bad = threading.Lock(), iter(range(count)), []

    def worker():
        while True:
            with lock:
                n = next(left, None)
            if n is None:
                return
            try:
                work(n)
            except Exception as e:
                bad.append(f"connection {n}: {type(e).__name__} {e}")

    ts = [threading.Thread(target=worker) for _ in range(at_once)]
    [t.start() for t in ts]
    [t.join() for t in ts]
    return bad


def main():
    if sys.argv[1] == "serve":
        port, seed = int(sys.argv[2]), sys.argv[3]
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
        print("listening", flush=True)

        def guarded(s, peer):
            s.settimeout(120)
            try:
                one_server(s, seed)
            except Exception as e:
                print(f"server: {peer}: {type(e).__name__} {e}", flush=True)

        while True:
            s, peer = listener.accept()
            threading.Thread(target=guarded, args=(s, peer), daemon=True).start()
    addresses, seed = sys.argv[2].split(","), sys.argv[4]
    port, count, at_once = (int(sys.argv[i]) for i in (3, 5, 6))
    begin = time.time()
    bad = run(lambda n: one_client(addresses, port, seed, n), count, at_once)
    print("\n".join(bad[:20]))
    print(f"{count - len(bad)} of {count} connections intact in {time.time() - begin:.1f} s", flush=True)
    sys.exit(1 if bad else 0)


main()
