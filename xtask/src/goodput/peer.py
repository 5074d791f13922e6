"""The two ends of a goodput cell on this machine's kernel: `send ADDRESS PORT ALGORITHM FLOWS SECONDS` and
`recv PORT FLOWS SECONDS FAIR_AFTER`, which prints what each connection brought within SECONDS of the first accept."""
import json, os, selectors, socket, sys, threading, time


def receive(port, flows, seconds, fair_after):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("", port))
    listener.listen(1024)
    print("ready", flush=True)
    ready, buf, got, late, end = selectors.DefaultSelector(), bytearray(1 << 20), [], [], None
    ready.register(listener, selectors.EVENT_READ, None)
    patience = time.monotonic() + 30
    while time.monotonic() < (end or patience):
        for key, _ in ready.select(max(0, (end or patience) - time.monotonic())):
            if key.data is None:
                s, _ = listener.accept()
                s.setblocking(False)
                end = end or time.monotonic() + seconds
                ready.register(s, selectors.EVENT_READ, len(got))
                got.append(0)
                late.append(0)
                continue
            now = time.monotonic()
            n = key.fileobj.recv_into(buf)
            if n == 0:
                ready.unregister(key.fileobj)
            if now < end:
                got[key.data] += n
                late[key.data] += n if now >= end - seconds + fair_after else 0
    print(json.dumps({"all": got, "late": late, "wanted": flows}), flush=True)
    os._exit(0)


def counters():
    out = {}
    for path in ["/proc/self/net/snmp", "/proc/self/net/netstat"]:
        lines = open(path).read().splitlines()
        for names, values in zip(lines[::2], lines[1::2]):
            out.update(zip(names.split()[1:], values.split()[1:]))
    return out


def send(address, port, algorithm, flows, seconds):
    def one():
        try:
            s = socket.socket()
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, algorithm.encode())
            s.connect((address, port))
            block = bytes(65536)
            while True:
                s.send(block)
        except OSError:
            pass

    for _ in range(flows):
        threading.Thread(target=one, daemon=True).start()
    # The time counts from the first accept, which lost ARP or SYN packets put off.
    time.sleep(seconds + 4)
    c = counters()
    print(json.dumps({k: int(c.get(k, 0)) for k in ["OutSegs", "RetransSegs", "TCPTimeouts"]}), flush=True)
    os._exit(0)


if sys.argv[1] == "recv":
    receive(*map(int, sys.argv[2:6]))
else:
    send(sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5]), int(sys.argv[6]))
