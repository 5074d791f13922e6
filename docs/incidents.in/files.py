"""A server whose clients are more than it may have descriptors."""
import errno, socket

listener = socket.create_server(("127.0.0.1", 7000), backlog=100)
clients = [socket.create_connection(("127.0.0.1", 7000)) for _ in range(10)]
kept = []
try:
    for _ in clients:
        kept.append(listener.accept())
except OSError as e:
    print(errno.errorcode[e.errno], "after", len(kept))
