"""A server that ends every connection with a reset as soon as it has it, and a client that writes and then waits for an answer:
whichever of the two is first, the client hears of the reset and never waits."""
import errno, socket, struct, threading

MANY = 2000
server = socket.socket()
server.bind(("127.0.0.1", 7000))
server.listen(100)


def serve():
    for _ in range(MANY):
        c, _ = server.accept()
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        c.close()


threading.Thread(target=serve, daemon=True).start()
ends = set()
for _ in range(MANY):
    c = socket.create_connection(("127.0.0.1", 7000))
    try:
        c.send(b"hello")
        ends.add(c.recv(10))
    except OSError as e:
        ends.add(errno.errorcode[e.errno])
    c.close()
print("reset" if ends <= {"ECONNRESET", "EPIPE"} else ends)
