"""A client that opens a connection for every question, and closes it first."""
import errno, socket, threading

listener = socket.create_server(("127.0.0.1", 7000), backlog=100)


def serve():
    while True:
        s, _ = listener.accept()
        s.recv(1)
        s.close()


threading.Thread(target=serve, daemon=True).start()
asked = 0
try:
    while asked < 100:
        socket.create_connection(("127.0.0.1", 7000)).close()
        asked += 1
except OSError as e:
    print("no more:", errno.errorcode[e.errno])
print(asked, "questions")
