"""Opens sockets until there are no more, says which error came, closes them and works on."""
import errno, resource, socket, sys

if len(sys.argv) > 1:
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[1])))
for turn in range(2):
    held = []
    try:
        while len(held) < 200_000:
            held.append(socket.socket())
    except OSError as e:
        print("turn", turn, errno.errorcode[e.errno], len(held) > 10, flush=True)
    for s in held:
        s.close()
l = socket.create_server(("127.0.0.1", 0))
c = socket.create_connection(l.getsockname())
# A connection that cannot get a descriptor stays queued: EMFILE, and later it is there.
held = []
try:
    while len(held) < 200_000:
        held.append(socket.socket())
except OSError:
    pass
try:
    l.accept()
    print("accepted although full", flush=True)
except OSError as e:
    print("accept", errno.errorcode[e.errno], flush=True)
for s in held:
    s.close()
s, _ = l.accept()
c.sendall(b"alive")
print(s.recv(5).decode(), flush=True)
