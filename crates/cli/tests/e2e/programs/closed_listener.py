# A port whose listener was closed refuses the next connection, however much else the program does at the time.
import collections, socket, threading

over = threading.Event()


def busy():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", 0))
    while not over.is_set():
        s.sendto(b"x", s.getsockname())


threads = [threading.Thread(target=busy) for _ in range(2)]
[t.start() for t in threads]
seen = collections.Counter()
for _ in range(1500):
    l = socket.create_server(("127.0.0.1", 0))
    at = l.getsockname()
    l.close()
    with socket.socket() as c:
        try:
            c.connect(at)
            seen["connected"] += 1
        except OSError as e:
            seen[type(e).__name__] += 1
over.set()
[t.join() for t in threads]
print(dict(seen))
