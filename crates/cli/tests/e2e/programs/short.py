"""Runs out of things: descriptors for accept, ports for connect."""
import errno, resource, socket

server = socket.socket()
server.bind(("127.0.0.1", 7000))
server.listen(100)
clients = [socket.create_connection(("127.0.0.1", 7000)) for _ in range(10)]
said = []
try:
    socket.create_connection(("127.0.0.1", 7000))
except OSError as e:
    said.append(errno.errorcode[e.errno])
resource.setrlimit(resource.RLIMIT_NOFILE, (clients[-1].fileno() + 3, 4096))
taken = []
try:
    while True:
        taken.append(server.accept())
except OSError as e:
    said.append(errno.errorcode[e.errno])
# Of IPv4, no option of IPv6: refused by Linux too, and nothing to tell.
try:
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
except OSError as e:
    said.append(errno.errorcode[e.errno])
print(len(taken), *said)
