# Frames for settings.sh and settings6.sh: made by hand, written to one end of a cable and read there.
import socket, struct, sys, time
def sum16(b):
    b += b'\0' * (len(b) % 2)
    s = sum(struct.unpack('!%dH' % (len(b) // 2), b))
    while s >> 16: s = (s & 0xffff) + (s >> 16)
    return ~s & 0xffff
def ip4(src, dst, proto, body, tos=0, ttl=64):
    h = struct.pack('!BBHHHBBH', 0x45, tos, 20 + len(body), 1, 0, ttl, proto, 0) + socket.inet_aton(src) + socket.inet_aton(dst)
    return h[:10] + struct.pack('!H', sum16(h)) + h[12:] + body
def tcp(src, dst, sport, dport, seq, flags, opts=b'', window=65535):
    h = struct.pack('!HHIIBBHHH', sport, dport, seq, 0, (20 + len(opts)) * 4, flags, window, 0, 0) + opts
    pseudo = socket.inet_aton(src) + socket.inet_aton(dst) + struct.pack('!BBH', 0, 6, len(h))
    return h[:16] + struct.pack('!H', sum16(pseudo + h)) + h[18:]
def icmp4(kind, body):
    h = struct.pack('!BBH', kind, 0, 0) + body
    return h[:2] + struct.pack('!H', sum16(h)) + h[4:]
def ip6(src, dst, body, hops=255, proto=58):
    s, d = socket.inet_pton(10, src), socket.inet_pton(10, dst)
    c = sum16(s + d + struct.pack('!II', len(body), proto) + body)
    at = 6 if proto == 17 else 2
    body = body[:at] + struct.pack('!H', c) + body[at + 2:]
    return struct.pack('!IHBB', 6 << 28, len(body), proto, hops) + s + d + body
def v6(a): return socket.inet_pton(10, a)
def fragments(src, dst, body, size, proto=58):
    # The message's checksum, then pieces of so many bytes behind headers of their own.
    whole = ip6(src, dst, body, proto=proto)[40:]
    for at in range(0, len(whole), size):
        more = 1 if at + size < len(whole) else 0
        piece = struct.pack('!BBHI', proto, 0, at | more, 77) + whole[at:at + size]
        yield struct.pack('!IHBB', 6 << 28, len(piece), 44, 255) + v6(src) + v6(dst) + piece
def wire(dev):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    s.bind((dev, 3))
    s.settimeout(0.4)
    return s
def send(s, packet, dst='020000000001', kind=0x0800):
    s.send(bytes.fromhex(dst) + bytes.fromhex('020000000002') + struct.pack('!H', kind) + packet)
def heard(s, want):
    # What comes from the other end: not what we sent ourselves.
    out, end = [], time.time() + 0.4
    while time.time() < end:
        try: f, a = s.recvfrom(2000)
        except OSError: break
        if a[2] == 4: continue
        got = want(f)
        if got is not None: out.append(got)
    return out
