"""What a stream is told beside its bytes: halves shut, urgent bytes, promises of more, addresses, and to start anew."""
import ctypes, errno, select, socket, struct, time

MSG_MORE = 0x8000
LO = "127.0.0.1"


def pair():
    with socket.create_server((LO, 0)) as l:
        a = socket.create_connection(l.getsockname())
        return a, l.accept()[0], l.getsockname()


def said(call, *args):
    try:
        return call(*args)
    except OSError as e:
        return errno.errorcode[e.errno]


def all_of(s, n):
    out = b""
    while len(out) < n and (part := s.recv(n - len(out))):
        out += part
    return out


a, b, _ = pair()
bytes_sent = bytes(range(256)) * 2000
a.sendall(bytes_sent)
a.shutdown(socket.SHUT_WR)
print("a half shut:", all_of(b, 1 << 20) == bytes_sent, said(a.send, b"x"))
b.sendall(b"answer")
b.close()
print("the other half:", all_of(a, 99))
a.close()

a, b, _ = pair()
a.send(b"12")
a.send(b"!", socket.MSG_OOB)
a.send(b"34")
print("an urgent byte:", select.select([], [], [b], 5)[2] == [b], all_of(b, 2), b.recv(1, socket.MSG_OOB), all_of(b, 2))
print("and no other:", said(b.recv, 1, socket.MSG_OOB))

a.sendmsg([b"head"], [], MSG_MORE)
held = select.select([b], [], [], 0.05)[0] == []
a.send(b" body")
print("a promise of more:", held, all_of(b, 9))
a.sendmsg([b"alone"], [], MSG_MORE)
print("not kept:", all_of(b, 5))

print("an address is no matter:", a.sendto(b"there", (LO, 9)), all_of(b, 5))
print("but without a connection:", said(socket.socket().sendto, b"x", (LO, 9)))

# AF_UNSPEC: the peer sees a reset, and the socket connects again.
with socket.create_server((LO, 0)) as l:
    a.send(b"lost")
    left = ctypes.CDLL(None).connect(a.fileno(), struct.pack("=H14x", 0), 16)
    time.sleep(0.1)
    print("it left:", left, said(a.getpeername), said(all_of, b, 99) in (b"lost", "ECONNRESET"))
    a.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    a.connect(l.getsockname())
    b = l.accept()[0]
    a.send(b"new")
    b.send(b"old friend")
    print("and came again:", all_of(b, 3), all_of(a, 10))
