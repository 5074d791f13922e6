"""Numbered datagrams of random sizes, every byte checked, none lost without a counter that says so.

datagrams.py take PORT SEED            until a datagram says how many were sent; prints the sums
datagrams.py send ADDRESS[,ADDRESS] PORT SEED COUNT [LONGEST]

The sender takes turns between the addresses; one in fifty datagrams is longer than a packet."""
import random, socket, struct, sys, time

HEAD = struct.Struct("!QHB")
END = 0xFFFF


def plan(seed, longest):
    r = random.Random(f"{seed}/sizes")
    pattern = r.randbytes(70000)
    sizes = [r.randrange(1500, 20000) if r.random() < 0.02 else r.randrange(0, 1400) for _ in range(1000)]
    return pattern, [min(s, longest) for s in sizes]


def filling(pattern, n, size):
    at = n * 7 % 997
    return pattern[at : at + size]


def take(port, seed):
    pattern, _ = plan(seed, 20000)
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    s.bind(("::", port))
    print("listening", flush=True)
    got, late, bad, last, sent = 0, 0, 0, {}, None
    while True:
        s.settimeout(1 if sent is not None else 60)
        try:
            data = s.recv(65536)
        except TimeoutError:
            break
        n, size, flow = HEAD.unpack_from(data)
        if size == END:
            sent = n
            continue
        got += 1
        if len(data) != HEAD.size + size or data[HEAD.size :] != filling(pattern, n, size):
            bad += 1
        late += n <= last.get(flow, -1)
        last[flow] = n
    print(f"sent {sent} received {got} wrong {bad} late {late}", flush=True)


def send(addresses, port, seed, count, longest):
    pattern, sizes = plan(seed, longest)
    socks = []
    for a in addresses:
        s = socket.socket(socket.AF_INET6 if ":" in a else socket.AF_INET, socket.SOCK_DGRAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        s.connect((a, port))
        socks.append(s.send)
    flows, kinds, pack = len(socks), len(sizes), HEAD.pack
    begin = time.time()
    for n in range(count):
        size, flow = sizes[n % kinds], n % flows
        socks[flow](pack(n, size, flow) + filling(pattern, n, size))
        if n & 63 == 63:
            # A little slower than as fast as can be: what is to be seen is the loss, not only the first buffer full.
            time.sleep(0.0002)
    time.sleep(1)
    for _ in range(3):
        socks[0](pack(count, END, 0))
        time.sleep(0.05)
    print(f"{count} datagrams in {time.time() - begin:.1f} s", flush=True)


if sys.argv[1] == "take":
    take(int(sys.argv[2]), sys.argv[3])
else:
    longest = int(sys.argv[6]) if len(sys.argv) > 6 else 20000
    send(sys.argv[2].split(","), int(sys.argv[3]), sys.argv[4], int(sys.argv[5]), longest)
