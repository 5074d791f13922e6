"""A client that writes its question in two pieces, and a server that answers when it has both: question.py [nodelay]"""
import socket, sys, threading, time

listener = socket.create_server(("127.0.0.1", 7000))


def serve():
    s, _ = listener.accept()
    while len(s.recv(20, socket.MSG_WAITALL)) == 20:
        s.send(b"answer")


threading.Thread(target=serve, daemon=True).start()
c = socket.create_connection(("127.0.0.1", 7000))
if "nodelay" in sys.argv:
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
slow = 0
for _ in range(50):
    begun = time.monotonic()
    c.send(bytes(10))
    c.send(bytes(10))
    c.recv(100)
    slow += time.monotonic() - begun > 0.03
print("slow answers:", "none" if slow == 0 else "many" if slow > 20 else "some")
