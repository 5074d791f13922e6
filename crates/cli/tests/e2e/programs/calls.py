"""Socket calls as programs make them; prints one line per fact. The same lines on the host kernel and in a jar."""
import array, errno, fcntl, os, select, signal, socket, struct, termios, threading, time


def say(name, *values):
    print(name, *values, flush=True)


def err(f, *args):
    try:
        f(*args)
        return "ok"
    except OSError as e:
        return errno.errorcode.get(e.errno, e.errno)


def pair():
    l = socket.create_server(("127.0.0.1", 0))
    c = socket.create_connection(l.getsockname())
    s, _ = l.accept()
    l.close()
    return c, s


def events(s, timeout=2.0, want=0):
    p = select.poll()
    p.register(s, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
    end = time.time() + timeout
    while True:
        mask = dict(p.poll(50)).get(s.fileno(), 0)
        if mask & want == want or time.time() > end:
            names = ["POLLIN", "POLLOUT", "POLLERR", "POLLHUP", "POLLRDHUP"]
            return "+".join(n for n in names if mask & getattr(select, n))


def unread(s, want):
    buf = array.array("i", [0])
    for _ in range(100):
        fcntl.ioctl(s, termios.FIONREAD, buf)
        if buf[0] == want:
            break
        time.sleep(0.01)
    return buf[0]


# Addresses, both ends agreeing.
c, s = pair()
say("names", c.getsockname() == s.getpeername(), c.getpeername() == s.getsockname())
say("domain", c.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN), c.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL))
say("type", c.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE), c.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
say("fresh", events(c), events(s))
# After the last accept a listener promises nothing, not even for a moment.
l = socket.create_server(("127.0.0.1", 0))
look = select.poll()
look.register(l, select.POLLIN)
stale = 0
for _ in range(200):
    c1 = socket.create_connection(l.getsockname())
    s1, _ = l.accept()
    stale += len(look.poll(0))
    c1.close()
    s1.close()
l.close()
say("stale listeners", stale)
# Options read back.
for level, name, value in [
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.SOL_SOCKET, "SO_REUSEADDR", 1),
    (socket.SOL_SOCKET, "SO_RCVBUF", 20000),
    (socket.SOL_SOCKET, "SO_SNDBUF", 20000),
    (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 77),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 3000),
    (socket.IPPROTO_IP, "IP_TTL", 33),
]:
    before = c.getsockopt(level, getattr(socket, name))
    c.setsockopt(level, getattr(socket, name), value)
    say("option", name, c.getsockopt(level, getattr(socket, name)), before if name not in ("SO_RCVBUF", "SO_SNDBUF") else "")
say("unknown option", err(c.setsockopt, socket.IPPROTO_TCP, 9999, 1), err(c.getsockopt, socket.IPPROTO_TCP, 9999))
info = c.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 512)
say("tcp_info state", info[0])
# Data, FIONREAD, peek, half-close, the other half.
c.sendall(b"hello")
say("unread", unread(s, 5), s.recv(2, socket.MSG_PEEK), s.recv(100))
c.shutdown(socket.SHUT_WR)
say("after fin", events(s, want=select.POLLRDHUP), s.recv(10))
s.sendall(b"still")
say("other half", c.recv(10))
s.close()
say("both closed", events(c, want=select.POLLHUP), c.recv(10))
c.close()
# Unread data at close is a reset.
c, s = pair()
c.sendall(b"never read")
unread(s, 10)
s.close()
say("reset", events(c, want=select.POLLERR), err(c.recv, 10), err(c.recv, 10))
c.close()
# Linger zero is a reset too.
c, s = pair()
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
s.close()
say("linger zero", err(c.recv, 10))
c.close()
# Writing to a peer that is gone.
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
c, s = pair()
s.close()
events(c, want=select.POLLRDHUP)
first = err(c.send, b"x")
events(c, want=select.POLLERR | select.POLLHUP)
say("send to closed", first, err(c.send, b"x"))
c.close()
# Refused, blocking and not.
free = socket.create_server(("127.0.0.1", 0))
nobody = free.getsockname()
free.close()
say("refused", err(socket.create_connection, nobody))


def refused_at_once():
    l = socket.create_server(("127.0.0.1", 0))
    addr = l.getsockname()
    l.close()
    return err(socket.create_connection, addr)


def bound_again(addr):
    s = socket.socket()
    s.bind(addr)
    s.close()


# A close comes before the call behind it, however quickly that follows.
say("refused at once", {refused_at_once() for _ in range(100)})
say("bound again", {err(bound_again, nobody) for _ in range(100)})
n = socket.socket()
n.setblocking(False)
say("refused later", n.connect_ex(nobody) in (errno.EINPROGRESS, errno.ECONNREFUSED), events(n, want=select.POLLERR))
say("so_error", errno.errorcode.get(n.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)), n.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
n.close()
# A connect that works without blocking, and once more.
l = socket.create_server(("127.0.0.1", 0))
n = socket.socket()
n.setblocking(False)
say("connect", n.connect_ex(l.getsockname()) in (errno.EINPROGRESS, 0), events(n, want=select.POLLOUT))
again = n.connect_ex(l.getsockname())
say("again", errno.errorcode.get(again, again) if again != errno.EISCONN else "EISCONN or done")
say("listener", "POLLIN" in events(l, want=select.POLLIN))
a, peer = l.accept()
say("accepted", peer == n.getsockname(), "POLLIN" in events(l, 0.1))
say("listener is never writable", "POLLOUT" in events(l, 0.1))
l.setblocking(False)
say("accept again", err(l.accept))
say("listener calls", err(l.getpeername), err(l.connect, nobody))
say("listener data call", err(l.recv, 1))
# Bind conflicts.
t = socket.socket()
say("in use", err(t.bind, l.getsockname()))
say("bind twice", err(t.bind, ("127.0.0.1", 0)), err(t.bind, ("127.0.0.1", 0)))
say("bind elsewhere", err(socket.socket().bind, ("192.0.2.77", 0)))
u = socket.socket()
say("not connected", err(u.getpeername), err(u.shutdown, socket.SHUT_WR), err(u.accept))
u.setblocking(False)
say("data calls before connect", err(u.recv, 1), err(u.send, b"x"))
r1, r2 = socket.socket(), socket.socket()
for r in (r1, r2):
    r.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
r1.bind(("127.0.0.1", 0))
say("reuseport", err(r2.bind, r1.getsockname()))
# dup, fork, passing: the connection lives until the last holder is gone.
c, s = pair()
d = os.dup(s.fileno())
s.close()
os.write(d, b"through dup")
say("dup", c.recv(100))
if os.fork() == 0:
    os.write(d, b"from child")
    os._exit(0)
os.wait()
os.close(d)
got = b""
while chunk := c.recv(100):
    got += chunk
say("fork", got)
c.close()
c, s = pair()
left, right = socket.socketpair()
socket.send_fds(left, [b"x"], [s.fileno()])
s.close()
_, fds, _, _ = socket.recv_fds(right, 1, 1)
passed = socket.socket(fileno=fds[0])
passed.sendall(b"passed on")
say("passed", c.recv(100), passed.getpeername() == c.getsockname())
passed.close()
say("end", c.recv(1))
# Epoll, edge and oneshot.
c, s = pair()
ep = select.epoll()
ep.register(s, select.EPOLLIN | select.EPOLLET)
c.sendall(b"1")
say("edge", len(ep.poll(2)), len(ep.poll(0.05)))
c.sendall(b"2")
say("edge again", len(ep.poll(2)), len(ep.poll(0.05)))
ep.modify(s, select.EPOLLIN | select.EPOLLONESHOT)
say("oneshot", len(ep.poll(2)), len(ep.poll(0.05)))
# Timeouts of blocking calls.
c.settimeout(None)
c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 100000))
t0 = time.time()
say("rcvtimeo", err(c.recv, 1), 0.05 < time.time() - t0 < 1.5)
# A blocked send is freed by the reader.
c, s = pair()
total = []


def reader():
    n = 0
    while chunk := s.recv(65536):
        n += len(chunk)
    total.append(n)


th = threading.Thread(target=reader)
th.start()
c.sendall(b"z" * 5_000_000)
c.close()
th.join()
say("five megabytes", total)
# UDP: order, boundaries, empty datagrams, connected and not, refused.
a, b = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in "ab")
a.bind(("127.0.0.1", 0))
b.bind(("127.0.0.1", 0))
for m in (b"one", b"", b"three" * 1000):
    a.sendto(m, b.getsockname())
say("udp", [len(b.recvfrom(65536)[0]) for _ in range(3)])
a.sendto(b"0123456789", b.getsockname())
say("udp cut", b.recv(4), err(b.recv, 1, socket.MSG_DONTWAIT))
a.connect(b.getsockname())
a.send(b"connected")
data, peer = b.recvfrom(100)
say("udp connected", data, peer == a.getsockname(), a.getpeername() == b.getsockname())
# Several wait: whoever reads, plainly or with the sender's address, takes the next one.
b.setblocking(False)
for n in range(200):
    a.sendto(b"%d" % n, b.getsockname())
time.sleep(0.1)
say("udp in a row", [int(b.recv(10)) for _ in range(100)] == list(range(100)), unread(b, 3))
mixed = [b.recv(10), b.recvfrom(10)[0], b.recv(10, socket.MSG_PEEK), b.recvfrom(10, socket.MSG_PEEK)[0], b.recv(10)]
say("udp mixed", *mixed)
time.sleep(0.1)
say("udp the rest", [int(b.recvfrom(10)[0]) for _ in range(97)][-1], err(b.recv, 10), err(b.recvfrom, 10))
b.setblocking(True)
say("udp too long", err(a.send, b"x" * 70000))
b.close()
a.setblocking(False)
first = err(a.send, b"anyone?")
say("udp refused", first, events(a, want=select.POLLERR), err(a.recv, 1), err(a.send, b"x"))
say("getaddrinfo", socket.getaddrinfo("127.0.0.1", 80, socket.AF_INET, socket.SOCK_STREAM)[0][4])
say("localhost", socket.getaddrinfo("localhost", 80, socket.AF_INET, socket.SOCK_STREAM)[0][4])
say("loopback index", socket.if_nameindex()[0])
say("unix", err(socket.socket, socket.AF_UNIX), "families", err(socket.socket, socket.AF_INET, 77), err(socket.socket, 77))
# Dual-stack: mapped addresses work.
l = socket.socket(socket.AF_INET6)
l.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
l.bind(("::", 0))
l.listen()
c = socket.create_connection(("127.0.0.1", l.getsockname()[1]))
s, peer = l.accept()
say("mapped", peer[0], s.getsockname()[0])
m = socket.socket(socket.AF_INET6)
m.connect(("::ffff:127.0.0.1", l.getsockname()[1]))
say("mapped connect", m.getpeername()[0], l.accept()[1][0])
print("done", flush=True)
