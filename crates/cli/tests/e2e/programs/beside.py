"""What comes beside the stream: urgent data, and the error queue. One line for each thing seen."""
import array
import fcntl
import hashlib
import os
import select
import signal
import socket
import struct
import threading
import time

F_SETOWN, SIOCATMARK, ERRQUEUE = 8, 0x8905, 0x2000
SO_TIMESTAMPING, SO_ZEROCOPY, IP_RECVERR = 37, 60, 11


def has_oob():
    ours, theirs = socket.socketpair()
    try:
        return ours.send(b"!", socket.MSG_OOB) == 1
    except OSError:
        return False


def at_mark(s):
    flag = array.array("i", [0])
    fcntl.ioctl(s, SIOCATMARK, flag, True)
    return flag[0]


def until(what):
    for _ in range(500):
        if what():
            return
        time.sleep(0.01)


def urgent(sender, reader):
    urg = []
    signal.signal(signal.SIGURG, lambda *_: urg.append(1))
    fcntl.fcntl(reader, F_SETOWN, os.getpid())
    sender.send(b"abc")
    sender.send(b"D", socket.MSG_OOB)
    sender.send(b"ef")
    until(lambda: urg)
    p = select.poll()
    p.register(reader, select.POLLPRI)
    print("urgent", len(urg), p.poll(1000)[0][1] & select.POLLPRI != 0)
    print("before", reader.recv(100), at_mark(reader))
    print("byte", reader.recv(1, socket.MSG_OOB))
    until(lambda: select.select([reader], [], [], 1)[0])
    print("behind", reader.recv(100), at_mark(reader))


def whole(sender, reader):
    """With SO_OOBINLINE nothing is missing and nothing comes twice."""
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    data = os.urandom(1_000_000)

    def send():
        sender.sendall(data[:500_000])
        sender.send(data[500_000:500_001], socket.MSG_OOB)
        sender.sendall(data[500_001:])
        sender.shutdown(socket.SHUT_WR)

    threading.Thread(target=send).start()
    got = hashlib.sha256()
    while part := reader.recv(65536):
        got.update(part)
    print("whole", got.digest() == hashlib.sha256(data).digest())


def entry(s):
    """The next entry of the error queue: errno, origin, info, data; its payload."""
    for _ in range(500):
        try:
            data, cmsgs, flags, _ = s.recvmsg(100, 1000, ERRQUEUE)
        except BlockingIOError:
            time.sleep(0.01)
            continue
        errno, origin, _, _, _, info, more = struct.unpack("IBBBBII", cmsgs[-1][2][:16])
        return errno, origin, info, more, data, flags == ERRQUEUE, [c[1] for c in cmsgs]
    return None


def errors(listener):
    s = socket.create_connection(listener.getsockname())
    # TX_SCHED, TX_SOFTWARE, TX_ACK; OPT_ID, OPT_TSONLY.
    s.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, 0x100 | 2 | 0x200 | 0x10 | 0x80 | 0x800)
    s.send(b"x" * 100)
    for _ in range(3):
        print("stamp", entry(s))
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    u.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    u.connect(("127.0.0.1", 9))
    u.send(b"hello")
    print("icmp", entry(u))
    try:
        s.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    except OSError as e:
        print("zerocopy", e.errno)


listener = socket.socket()
listener.bind(("127.0.0.1", 8000))
listener.listen()
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
if has_oob():
    urgent(client, server)
    whole(client, server)
else:
    print("no urgent data between local sockets here")
errors(listener)
print("done")
