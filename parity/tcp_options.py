"""IPPROTO_TCP: defaults and limits, on a fresh socket and on a connection."""
from observe import *

T = socket.IPPROTO_TCP
NAMES = dict(TCP_NODELAY=1, TCP_MAXSEG=2, TCP_CORK=3, TCP_KEEPIDLE=4, TCP_KEEPINTVL=5, TCP_KEEPCNT=6, TCP_SYNCNT=7,
             TCP_LINGER2=8, TCP_DEFER_ACCEPT=9, TCP_WINDOW_CLAMP=10, TCP_QUICKACK=12, TCP_THIN_LINEAR_TIMEOUTS=16,
             TCP_THIN_DUPACK=17, TCP_USER_TIMEOUT=18, TCP_FASTOPEN=23, TCP_NOTSENT_LOWAT=25, TCP_SAVE_SYN=27,
             TCP_FASTOPEN_CONNECT=30, TCP_FASTOPEN_NO_COOKIE=34, TCP_INQ=36, TCP_TX_DELAY=37)
VALUES = (0, 1, 2, 60, 100, 127, 128, 255, 1000, 32767, 32768, 100_000, -1, 2**31 - 1)
for name, number in NAMES.items():
    with tcp() as s:
        say(name, first=opt(s, T, number), **{str(v): set_get(s, T, number, v) for v in VALUES})
for name in ("TCP_NODELAY", "TCP_MAXSEG", "TCP_DEFER_ACCEPT", "TCP_FASTOPEN", "TCP_WINDOW_CLAMP", "TCP_SYNCNT"):
    with listener() as l:
        say(f"{name} of a listener", first=opt(l, T, NAMES[name]), then=set_get(l, T, NAMES[name], 100))
a, b = connected()
say("of a connection", maxseg=opt(a, T, 2), keepidle=set_get(a, T, 4, 9), user_timeout=set_get(a, T, 18, 5000),
    fastopen_connect=outcome(a.setsockopt, T, 30, 1), fastopen=outcome(a.setsockopt, T, 23, 5),
    maxseg_set=set_get(a, T, 2, 500), save_syn=outcome(a.setsockopt, T, 27, 1))
with tcp() as s:
    cubic(s)
    say("congestion control", first=opt(s, T, 13, 16).rstrip("\0"), reno=outcome(s.setsockopt, T, 13, b"reno"),
        then=opt(s, T, 13, 16).rstrip("\0"), unknown=outcome(s.setsockopt, T, 13, b"nosuchthing"),
        short=len(s.getsockopt(T, 13, 3)), empty=outcome(s.setsockopt, T, 13, b""))
    say("TCP_INFO", short=len(s.getsockopt(T, 11, 10)), one=s.getsockopt(T, 11, 1)[0], set=outcome(s.setsockopt, T, 11, 1))
    say("upper layers", r=outcome(s.setsockopt, T, 31, b"nosuchlayer"), get=opt(s, T, 31, 16))
    say("TCP_REPAIR_OPTIONS and kin on a plain socket", queue=opt(s, T, 20), queue_seq=outcome(s.setsockopt, T, 21, 5),
        options=outcome(s.setsockopt, T, 22, bytes(8)), window=opt(s, T, 29, 20))
with tcp() as s:
    say("values of other sizes", three=outcome(s.setsockopt, T, 1, bytes(3)), eight=outcome(s.setsockopt, T, 1, b"\1" + bytes(7)),
        then=opt(s, T, 1), read_two=list(s.getsockopt(T, 1, 2)))
