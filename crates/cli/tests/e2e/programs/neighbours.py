"""What a program notices of its neighbours: one that does not exist, and one whose hardware address changes.

neighbours.py ADDRESS4 ADDRESS6 NOBODY4 NOBODY6    prints one line for each fact; the addresses answer UDP to port 7"""
import errno, socket, sys, time


def udp(address):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    s.connect((address, 7))
    s.settimeout(0.3)
    return s


def name(e):
    return errno.errorcode.get(e.errno, str(e))


def nobody(address):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    begin = time.monotonic()
    try:
        s.connect((address, 7))
        print(address, "answers")
    except OSError as e:
        print(f"{address}: connect {name(e)} after {time.monotonic() - begin:.0f} s", flush=True)
    s = udp(address)
    s.setsockopt(*((socket.IPPROTO_IPV6, 25) if ":" in address else (socket.IPPROTO_IP, 11)), 1)
    print(f"{address}: send {s.send(b'x')}", flush=True)
    s.settimeout(8)
    begin = time.monotonic()
    try:
        s.recvfrom(10)
    except OSError as e:
        print(f"{address}: recv {name(e)} after {time.monotonic() - begin:.0f} s", flush=True)


def asks(s):
    s.send(b"there?")
    try:
        return s.recv(100) == b"there?"
    except TimeoutError:
        return False


def main():
    socks = {a: udp(a) for a in sys.argv[1:3]}
    print("first", [asks(s) for s in socks.values()], flush=True)
    print("ready", flush=True)
    # Until the file says that the address has changed.
    sys.stdin.readline()
    for a, s in socks.items():
        tries = 0
        while not asks(s) and tries < 20:
            tries += 1
        print(f"{a}: {'answers again' if tries < 20 else 'is lost'}", flush=True)
    for a in sys.argv[3:]:
        nobody(a)


main()
