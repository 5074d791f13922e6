"""A thousand datagrams at once, for a reader that comes a moment later."""
import socket

reader = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
reader.bind(("127.0.0.1", 9000))
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range(1000):
    sender.sendto(bytes(500), ("127.0.0.1", 9000))
reader.settimeout(0.5)
got = 0
try:
    while True:
        reader.recv(1000)
        got += 1
except TimeoutError:
    print(got, "of 1000 arrived")
