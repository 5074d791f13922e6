"""UDP echo of both families. `udp_echo.py PORT framed` puts the datagram's length in front, so that a cut or joined one shows."""
import socket, sys

s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::", int(sys.argv[1])))
framed = sys.argv[2:] == ["framed"]
print("listening", flush=True)
while True:
    data, peer = s.recvfrom(65536)
    s.sendto((b"%d:" % len(data) if framed else b"") + data, peer)
