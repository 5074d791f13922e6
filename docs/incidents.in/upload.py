"""A server that takes uploads, and its client: upload.py [SERVER]"""
import socket, sys

SIZE = 20000
if len(sys.argv) == 1:
    listener = socket.create_server(("", 9000))
    while True:
        s, _ = listener.accept()
        left = SIZE
        while left and (got := len(s.recv(left))):
            left -= got
        s.send(b"thanks")
else:
    with socket.create_connection((sys.argv[1], 9000), timeout=8) as s:
        s.sendall(bytes(SIZE))
        try:
            print(s.recv(100).decode())
        except TimeoutError:
            print("no answer within eight seconds")
