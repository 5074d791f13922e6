"""A server that takes its time before it accepts, and eight clients that knock meanwhile: slow.py [fast]"""
import socket, sys, threading, time

listener = socket.create_server(("0.0.0.0", 80), backlog=128)


def client():
    with socket.create_connection(("127.0.0.1", 80)) as c:
        c.recv(1)


threads = [threading.Thread(target=client) for _ in range(8)]
for t in threads:
    t.start()
if "fast" not in sys.argv:
    time.sleep(2.5)
for _ in threads:
    s, _ = listener.accept()
    s.send(b"x")
    s.close()
for t in threads:
    t.join()
