"""UDP echo, with the datagram's length in front, so that a cut or joined one shows."""
import socket, sys

s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", int(sys.argv[1])))
print("listening", flush=True)
while True:
    data, peer = s.recvfrom(65536)
    s.sendto(b"%d:" % len(data) + data, peer)
