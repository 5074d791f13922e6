"""listen() and accept(): states, queue lengths, what comes after."""
from observe import *

with tcp() as a:
    say("without bind", r=outcome(a.listen, 1), has_port=a.getsockname()[1] > 0, address=a.getsockname()[0],
        state=tcp_state(a), again=outcome(a.listen, 5))
with udp() as a:
    say("UDP", listen=outcome(a.listen, 1), accept=outcome(a.accept))
with tcp() as a:
    say("accept without listen", r=outcome(a.accept))
a, b = connected()
say("a connected socket", listen=outcome(a.listen, 1), accept=outcome(a.accept))
with listener() as l:
    l.setblocking(False)
    say("nothing in the queue", r=outcome(l.accept), mask=mask(l), recv=now_or_error(l), bad_flags=None)
    say("calls on a listener", connect=outcome(l.connect, (LO, 9)), peer=outcome(l.getpeername),
        send=outcome(l.send, b"x"), bind=outcome(l.bind, (LO, 0)),
        shutdown_write=outcome(l.shutdown, socket.SHUT_WR), state=tcp_state(l))

# The queue holds one more than its length; SYNs beyond are not answered.
for backlog in (0, 1, 3):
    with listener(backlog=backlog) as l:
        clients = []
        for _ in range(backlog + 4):
            c = tcp()
            c.setblocking(False)
            outcome(c.connect, l.getsockname())
            clients.append(c)
        settled()
        states = [tcp_state(c) for c in clients]
        info = l.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        say(f"queue of {backlog}", established=states.count("ESTABLISHED"), waiting=states.count("SYN_SENT"),
            readable=mask(l), unacked=struct.unpack_from("I", info, 24)[0], sacked=struct.unpack_from("I", info, 28)[0])
        [c.close() for c in clients]
with listener(backlog=2) as l:
    c = tcp()
    c.connect(l.getsockname())
    c.send(b"early")
    c.close()
    settled()
    a, peer = l.accept()
    say("a client that went before accept", data=outcome(a.recv, 9), end=outcome(a.recv, 9), state=tcp_state(a))
with listener(backlog=2) as l:
    c = tcp()
    c.connect(l.getsockname())
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()
    settled()
    a, _ = l.accept()
    say("a client that was reset before accept", mask=mask(a), recv=now_or_error(a), again=now_or_error(a))
with listener() as l:
    l.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 9000)
    l.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    l.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    l.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)
    l.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 33)
    l.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 5))
    c = tcp()
    c.connect(l.getsockname())
    a, _ = l.accept()
    say("what a child inherits", rcvbuf=opt(a, 1, socket.SO_RCVBUF), keepalive=opt(a, 1, socket.SO_KEEPALIVE),
        nodelay=opt(a, 6, socket.TCP_NODELAY), keepidle=opt(a, 6, socket.TCP_KEEPIDLE), ttl=opt(a, 0, socket.IP_TTL),
        linger=list(struct.unpack("ii", a.getsockopt(1, socket.SO_LINGER, 8))), nonblocking=not a.getblocking(),
        accepts=opt(a, 1, 30))
with listener(backlog=4) as l:
    c = tcp()
    c.connect(l.getsockname())
    l.shutdown(socket.SHUT_RD)
    settled()
    say("a listener that is shut", state=tcp_state(l), client=outcome(c.recv, 1), accept=outcome(l.accept),
        again=outcome(l.listen, 1))
