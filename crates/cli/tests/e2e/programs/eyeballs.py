"""Who tries IPv6 first and IPv4 then, or both a quarter of a second apart: which way it gets through and what each other
attempt was told. `eyeballs.py NET` for the networks 10.NET.0.0/24 and fd0NET::/64; `eyeballs.py NET no6` without IPv6."""
import asyncio, errno, socket, sys, time

net = sys.argv[1]
ours4, ours6 = f"10.{net}.0.1", f"fd0{net}::1"
CASES = [
    ("both", ours6, ours4, 81),
    ("only 4", ours6, ours4, 82),
    ("only 6", ours6, ours4, 83),
    ("neither", ours6, ours4, 84),
    ("nobody has 6", f"fd0{net}::77", ours4, 81),
    ("nobody has 4", ours6, f"10.{net}.0.77", 81),
    ("6 swallowed", "fd11::1", ours4, 81),
    ("6 prohibited", "fd12::1", ours4, 81),
    ("6 unreachable", "fd13::1", ours4, 81),
    ("4 swallowed", ours6, "10.11.0.1", 83),
    ("both swallowed", "fd11::1", "10.11.0.1", 81),
]
if sys.argv[2:] == ["no6"]:
    CASES = [c for c in CASES if c[0] in ("both", "only 6", "6 swallowed", "nobody has 4")]


def info(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.SOCK_STREAM, 6, "", (address, port, 0, 0) if family == socket.AF_INET6 else (address, port)


def said(e):
    return "timeout" if isinstance(e, TimeoutError) and e.errno is None else errno.errorcode.get(e.errno, str(e))


def in_turn(infos):
    legs = []
    for family, kind, proto, _, sockaddr in infos:
        begin = time.monotonic()
        try:
            with socket.socket(family, kind, proto) as s:
                s.settimeout(4)
                s.connect(sockaddr)
                return legs + [f"{4 if family == socket.AF_INET else 6} connected"]
        except OSError as e:
            legs.append(f"{4 if family == socket.AF_INET else 6} {said(e)} after {time.monotonic() - begin:.0f} s")
    return legs


async def race(infos):
    loop = asyncio.get_running_loop()

    async def these(*_, **__):
        return infos

    loop.getaddrinfo = these
    begin = time.monotonic()
    try:
        opened = asyncio.open_connection("name", 1, happy_eyeballs_delay=0.25)
        _, writer = await asyncio.wait_for(opened, 4)
        family = writer.get_extra_info("socket").family
        writer.close()
        result = f"{4 if family == socket.AF_INET else 6} connected"
    except TimeoutError:
        result = "timeout"
    except OSError as e:
        # Several errors are told in one text.
        result = said(e) if e.errno else str(sorted({w.strip("[],") for w in str(e).split() if w.rstrip("]").isdigit()}))
    return f"{result} after {round((time.monotonic() - begin) * 2) / 2} s"


for name, six, four, port in CASES:
    infos = [info(six, port), info(four, port)]
    print(f"{name}: {', '.join(in_turn(infos))}; at once {asyncio.run(race(infos))}", flush=True)
    infos.reverse()
    print(f"{name}, 4 first: {', '.join(in_turn(infos))}", flush=True)
