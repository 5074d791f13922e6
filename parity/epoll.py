"""epoll on sockets: levels, edges, one-shots, errors of epoll_ctl, who is woken."""
from observe import *
import threading

IN, OUT, ET, ONESHOT, EXCLUSIVE = select.EPOLLIN, select.EPOLLOUT, select.EPOLLET, select.EPOLLONESHOT, select.EPOLLEXCLUSIVE


def wait(e, t=0):
    return [ev for _, ev in e.poll(t)]


a, b = connected()
e = select.epoll()
say("epoll_ctl", add=outcome(e.register, b, IN), twice=outcome(e.register, b, IN), modify=outcome(e.modify, b, IN | OUT),
    remove=outcome(e.unregister, b), again=outcome(e.unregister, b), unknown=outcome(e.modify, b, IN), itself=outcome(e.register, e.fileno(), IN),
    file=outcome(e.register, os.open("/proc/self/status", os.O_RDONLY), IN), closed=outcome(e.register, 999, IN))
e.register(b, IN)
a.send(b"one")
settled()
say("level", r=[wait(e), wait(e)], then=[b.recv(1).decode(), wait(e)], empty=[b.recv(9).decode(), wait(e)])
e.modify(b, IN | ET)
a.send(b"two")
settled()
first = [wait(e), wait(e)]
a.send(b"three")
settled()
say("edge", first=first, more_data=[wait(e), wait(e)], after_reading_a_part=[b.recv(2).decode(), wait(e)])
e.modify(b, IN | ET)
say("edge, modified", r=[wait(e), wait(e)])
b.recv(99)
e.modify(b, IN | ONESHOT)
a.send(b"x")
settled()
once = [wait(e), wait(e)]
a.send(b"y")
settled()
say("one-shot", r=once, more=wait(e), armed=[e.modify(b, IN | ONESHOT), wait(e)][1])
b.recv(99)
e.modify(b, IN | OUT | ET)
say("writable, edge", r=[wait(e), wait(e)])
a.shutdown(socket.SHUT_WR)
settled()
say("the peer's end, edge", r=[wait(e), wait(e)])
with tcp() as fresh:
    f = select.epoll()
    f.register(fresh, IN | OUT)
    say("fresh", r=wait(f))
a, b = connected()
e = select.epoll()
e.register(b, IN)
c = b.dup()
b_number = b.fileno()
b.close()
a.send(b"z")
settled()
say("closed, but a copy lives", r=len(wait(e)), remove=outcome(e.unregister, b_number), got=outcome(c.recv, 9))
with listener() as l:
    one, two = select.epoll(), select.epoll()
    one.register(l, IN | EXCLUSIVE)
    say("EPOLLEXCLUSIVE", modify=outcome(one.modify, l, IN), with_oneshot=outcome(two.register, l, IN | EXCLUSIVE | ONESHOT),
        second=outcome(two.register, l, IN | EXCLUSIVE))
    client = tcp()
    client.connect(l.getsockname())
    settled()
    say("both see a connection that waits", r=[len(wait(one)), len(wait(two))])
    l.accept()
    say("and none when it is taken", r=[len(wait(one)), len(wait(two))])
outer, inner = select.epoll(), select.epoll()
a, b = connected()
inner.register(b, IN)
outer.register(inner.fileno(), IN)
a.send(b"deep")
settled()
say("nested", r=[len(wait(outer)), len(wait(inner))], loop=outcome(inner.register, outer.fileno(), IN))
a, b = connected()
e = select.epoll()
e.register(b, IN)
t = threading.Timer(0.05, lambda: a.send(b"wake"))
t.start()
say("woken", r=wait(e, 2), time_over=[b.recv(9).decode(), wait(e, 0.05)])
