"""socket(): which combinations exist, and what the others are told."""
from observe import *

families = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
kinds = {"stream": 1, "dgram": 2, "raw": 3, "rdm": 4, "seqpacket": 5}
for f, family in families.items():
    for k, kind in kinds.items():
        for p in (0, 1, 6, 17, 58, 132, 136, 200, 255):
            # SCTP and UDP-Lite come as modules: whether they are there is the machine's business.
            if p in (132, 136) or (k in ("dgram",) and p in (1, 58)) or (k == "seqpacket" and p in (0,)):
                continue
            say(f"{f} {k} {p}", r=outcome(socket.socket, family, kind, p))
say("kind out of range", r=outcome(socket.socket, socket.AF_INET, 11, 0), negative=outcome(socket.socket, 2, -1 & 0xf, 0))
say("unknown flag in the kind", r=outcome(socket.socket, socket.AF_INET, 1 | 0o10000000000, 0))
say("family 0", r=outcome(socket.socket, 0, 1, 0))
say("family 46", r=outcome(socket.socket, 46, 1, 0))
say("protocol below 0", r=outcome(socket.socket, socket.AF_INET, 1, -2))
s = socket.socket(socket.AF_INET, 1 | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
say("flags in the kind", nonblocking=not os.get_blocking(s.fileno()), inherited=os.get_inheritable(s.fileno()))
for what, made in (("tcp", tcp()), ("udp", udp(bound=False)), ("tcp6", tcp(socket.AF_INET6))):
    say(f"{what} tells what it is", domain=opt(made, 1, 39), kind=opt(made, 1, 3), protocol=opt(made, 1, 38),
        accepts=opt(made, 1, 30), error=opt(made, 1, 4), name=list(made.getsockname()),
        peer=outcome(made.getpeername))
