"""What every program here uses: one JSON line per observation, errors by name, and small ways to make sockets."""
import errno
import json
import os
import select
import socket
import struct
import time

LO = "127.0.0.1"
BITS = ((select.POLLIN, "IN"), (select.POLLPRI, "PRI"), (select.POLLOUT, "OUT"), (select.POLLERR, "ERR"),
        (select.POLLHUP, "HUP"), (select.POLLNVAL, "NVAL"), (select.POLLRDHUP, "RDHUP"))
seen = set()


def say(case, **facts):
    """One observation. A case is said once, so that lines of two runs find each other."""
    assert case not in seen, case
    seen.add(case)
    print(json.dumps({"case": case, **facts}, sort_keys=True), flush=True)


def outcome(call, *args):
    """What a call returns, or the name of its error. Sockets are closed again, bytes become text."""
    try:
        value = call(*args)
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e))
    if isinstance(value, socket.socket):
        value.close()
        return "socket"
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return "ok" if value is None else value


def lo_up():
    """A namespace is born with its loopback down; the jar's is up."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    import fcntl
    ask = struct.pack("16sH14s", b"lo", 0, b"")
    flags = struct.unpack("16sH14s", fcntl.ioctl(s, 0x8913, ask))[1]
    if not flags & 1:
        fcntl.ioctl(s, 0x8914, struct.pack("16sH14s", b"lo", flags | 1, b""))
        time.sleep(0.05)
    s.close()


def tcp(family=socket.AF_INET):
    return socket.socket(family, socket.SOCK_STREAM)


def udp(family=socket.AF_INET, bound=True):
    s = socket.socket(family, socket.SOCK_DGRAM)
    if bound:
        s.bind((LO if family == socket.AF_INET else "::1", 0))
    return s


def listener(address=(LO, 0), backlog=8, family=socket.AF_INET):
    s = tcp(family)
    s.bind(address)
    s.listen(backlog)
    return s


def connected():
    """Both ends of a connection over loopback."""
    with listener() as l:
        a = tcp()
        cubic(l, a)
        a.connect(l.getsockname())
        b, _ = l.accept()
    return a, b


def cubic(*sockets):
    """The congestion control of the record, whatever the machine's own default is; nothing where that is it."""
    for s in sockets:
        if not s.getsockopt(6, 13, 16).startswith(b"cubic"):
            s.setsockopt(6, 13, b"cubic")


def settled():
    """Time for what was sent over loopback to be where it belongs."""
    time.sleep(0.03)


def mask(sock, events=select.POLLIN | select.POLLPRI | select.POLLOUT | select.POLLRDHUP, timeout=0):
    p = select.poll()
    p.register(sock, events)
    got = dict(p.poll(timeout)).get(sock.fileno(), 0)
    return "+".join(name for bit, name in BITS if got & bit) or "-"


def opt(sock, level, name, size=0):
    return outcome(lambda: sock.getsockopt(level, name, size) if size else sock.getsockopt(level, name))


def set_get(sock, level, name, value):
    """The error of setting an option, or what it is afterwards."""
    done = outcome(sock.setsockopt, level, name, value)
    return opt(sock, level, name) if done == "ok" else done


def now_or_error(sock, size=100, flags=0):
    """What receiving without waiting says."""
    return outcome(sock.recv, size, flags | socket.MSG_DONTWAIT)


def tcp_state(sock):
    return ("", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT",
            "LAST_ACK", "LISTEN", "CLOSING")[sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]]


lo_up()
