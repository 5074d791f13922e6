"""Fragments in every order, doubled, overlapping and malformed, each set sent to two machines: what they answer must be equal.

fragments.py SEED OURS4 OURS6 THEIRS4 THEIRS6    (both answer UDP to port 7 with the same bytes)

Prints the sets whose answers differ, and how many were tried. Exit 1 if any differ."""
import itertools, random, select, socket, struct, sys, time

UDP, FRAGMENT, ICMP, ICMP6 = 17, 44, 1, 58
FIRST_PORT = 20000


def checksum(data):
    data += b"\0" * (len(data) & 1)
    s = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while s >> 16:
        s = (s & 0xFFFF) + (s >> 16)
    return ~s & 0xFFFF or 0xFFFF


def v4(src, dst, ident, offset, more, data, tos=0, df=False):
    flags = offset // 8 | (0x2000 if more else 0) | (0x4000 if df else 0)
    head = struct.pack("!BBHHHBBH4s4s", 0x45, tos, 20 + len(data), ident, flags, 64, UDP, 0, src, dst)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + data


def v6(src, dst, ident, offset, more, data, tos=0, df=False):
    frag = struct.pack("!BBHI", UDP, 0, offset | more, ident)
    return struct.pack("!IHBB16s16s", 6 << 28 | tos << 20, 8 + len(data), FRAGMENT, 64, src, dst) + frag + data


class Piece:
    def __init__(self, offset, length, more, fill=None, tos=0, df=False):
        self.offset, self.length, self.more, self.fill, self.tos, self.df = offset, length, more, fill, tos, df

    def __repr__(self):
        s = f"{self.offset}-{self.offset + self.length}{'+' if self.more else ''}"
        return s + (f" fill {self.fill}" if self.fill is not None else "") + (f" tos {self.tos}" if self.tos else "")


def whole(cuts, total=104):
    ends = [*cuts, total]
    return [Piece(a, b - a, b != total) for a, b in zip([0, *cuts], ends)]


def plain_sets():
    four = whole([32, 64, 96])
    yield from (list(p) for p in itertools.permutations(four))
    for i, at in itertools.product(range(4), range(1, 4)):
        yield four[:at] + [four[i]] + four[at:]
    two = whole([48])
    for tail in [Piece(40, 64, False), Piece(48, 56, False), Piece(56, 48, False), Piece(40, 64, False, 9)]:
        yield [two[0], tail]
        yield [tail, two[0]]
    yield [two[0], Piece(0, 48, True), two[1]]
    yield [two[0], Piece(0, 40, True), two[1]]
    yield [two[0], Piece(8, 16, True), two[1]]
    yield [Piece(8, 16, True), two[0], two[1]]
    # Two ends that do not agree; something behind the end.
    yield [Piece(48, 56, False), Piece(56, 40, False), two[0]]
    yield [Piece(48, 40, False), Piece(48, 56, True), two[0]]
    yield [Piece(48, 48, True), Piece(48, 40, False), two[0]]
    # Lengths that are no multiple of eight; nothing at all; beyond 64 KB.
    yield [Piece(0, 44, True), Piece(40, 64, False)]
    yield [Piece(0, 48, True), Piece(48, 20, True), Piece(64, 40, False)]
    yield [two[0], Piece(48, 0, True), two[1]]
    yield [two[0], Piece(48, 0, False)]
    yield [Piece(65528, 8, False)]
    yield [Piece(65528, 5, False), two[0]]
    yield [Piece(65504, 16, True), two[0], two[1]]
    # The header in pieces.
    yield [Piece(0, 8, True), Piece(8, 96, False)]
    yield [Piece(8, 96, False), Piece(0, 8, True)]
    # One piece that is all of it, alone and among others.
    yield [Piece(0, 104, False)]
    yield [two[0], Piece(0, 104, False), two[1]]
    # ECN: RFC 3168 section 5.3.
    for a, b in itertools.product(range(4), repeat=2):
        yield [Piece(0, 48, True, tos=a), Piece(48, 56, False, tos=b)]
    # Don't fragment, on pieces.
    yield [Piece(0, 48, True, df=True), Piece(48, 56, False)]


def random_set(r):
    pieces, total = [], 8 * r.randrange(2, 9)
    for _ in range(r.randrange(2, 7)):
        offset = 8 * r.randrange(0, total // 8)
        length = 8 * r.randrange(1, 5)
        more = offset + length < total
        pieces.append(Piece(offset, length if more else total - offset, more, r.randrange(256) if r.random() < 0.2 else None))
    if r.random() < 0.8:
        pieces.append(Piece(0, 8 * r.randrange(1, 3), True))
    r.shuffle(pieces)
    return pieces


class Family:
    def __init__(self, family, src, dst):
        self.six = family == socket.AF_INET6
        self.src, self.dst = (socket.inet_pton(family, a) for a in (src, dst))
        self.to = dst
        self.out = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.ins = [socket.socket(family, socket.SOCK_RAW, p) for p in (UDP, ICMP6 if self.six else ICMP)]
        for s in self.ins:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)

    def datagram(self, n, length):
        """UDP from the port of this set: what the pieces are cut from. The sum is right, or none where fillings differ."""
        payload = bytes((n + i) & 0xFF for i in range(length - 8))
        head = struct.pack("!HHHH", FIRST_PORT + n, 7, length, 0)
        if not self.six:
            return head + payload
        pseudo = self.src + self.dst + struct.pack("!IHBB", length, 0, 0, UDP)
        return head[:6] + struct.pack("!H", checksum(pseudo + head + payload)) + payload

    def send(self, n, pieces):
        length = max((p.offset + p.length for p in pieces if not p.more and p.offset + p.length < 1000), default=104)
        data = self.datagram(n, length) + bytes(70000)
        for p in pieces:
            part = data[p.offset : p.offset + p.length]
            if p.fill is not None:
                # Not the ports and the length: where it is from must stay visible.
                keep = max(0, 8 - p.offset)
                part = part[:keep] + bytes([p.fill]) * (p.length - keep)
            make = v6 if self.six else v4
            packet = make(self.src, self.dst, 1000 + n, p.offset, p.more, part, p.tos, p.df)
            try:
                self.out.sendto(packet, (self.to, 0))
            except OSError as e:
                sys.exit(f"{self.to}: {pieces}: {e}")

    def answers(self):
        """By set: echoes with their bytes, errors by type, code and pointer."""
        found = {}
        while select.select(self.ins, [], [], 1)[0]:
            for s in select.select(self.ins, [], [], 0)[0]:
                data, peer = s.recvfrom(65536)
                if peer[0] != self.to:
                    continue
                body = data if self.six else data[(data[0] & 15) * 4 :]
                if s is self.ins[0]:
                    port = struct.unpack_from("!H", body, 2)[0]
                    found.setdefault(port - FIRST_PORT, []).append(("echo", body[8:]))
                elif body[0] in ((1, 2, 3, 4) if self.six else (3, 4, 5, 11, 12)):
                    kind, code = body[0], body[1]
                    inner = body[8:]
                    ident = struct.unpack_from("!I", inner, 44)[0] if self.six else struct.unpack_from("!H", inner, 4)[0]
                    # Our own kernel's answer to the echo is about no set.
                    if 1000 <= ident < 1000 + 40000:
                        found.setdefault(ident - 1000, []).append((f"icmp {kind}/{code}", body[4:8]))
        return found


def source(family, to):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.connect((to, 7))
    return s.getsockname()[0]


def main():
    seed, addresses = sys.argv[1], sys.argv[2:6]
    r = random.Random(seed)
    sets = list(plain_sets()) + [random_set(r) for _ in range(400)]
    differ = 0
    for family, ours, theirs in zip((socket.AF_INET, socket.AF_INET6), addresses[:2], addresses[2:]):
        got = []
        for to in (ours, theirs):
            f = Family(family, source(family, to), to)
            found = {}
            # In portions: what was never completed takes the memory for fragments.
            for start in range(0, len(sets), 240):
                for n in range(start, min(start + 240, len(sets))):
                    f.send(n, sets[n])
                    time.sleep(0.002)
                found.update(f.answers())
            got.append(found)
        for n, pieces in enumerate(sets):
            a, b = (sorted(g.get(n, [])) for g in got)
            if a != b:
                differ += 1
                print(f"{'IPv6' if family == socket.AF_INET6 else 'IPv4'} {pieces}\n  ours   {a}\n  theirs {b}")
        echoed = sum(any(x[0] == "echo" for x in v) for v in got[1].values())
        print(f"{ours}: {len(sets)} sets, {echoed} complete")
    print(f"{differ} of {2 * len(sets)} differ (seed {seed})")
    sys.exit(differ > 0)


main()
