"""Echo server: sends back every byte as it comes, and its own end after the peer's."""
import socket, sys, threading


def serve(conn):
    with conn:
        while data := conn.recv(1 << 18):
            conn.sendall(data)
        conn.shutdown(socket.SHUT_WR)


_, mode, port = sys.argv
assert mode == "echo"
listener = socket.create_server(("0.0.0.0", int(port)), backlog=128)
print("listening", flush=True)
while True:
    conn, _ = listener.accept()
    threading.Thread(target=serve, args=(conn,), daemon=True).start()
