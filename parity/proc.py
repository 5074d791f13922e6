"""/proc/sys/net and /proc/net: values, values that are refused, a table's line, counters."""
from observe import *


def read(key):
    try:
        return open(f"/proc/sys/{key}").read().split()
    except OSError as e:
        return errno.errorcode[e.errno]


def write(key, text):
    try:
        with open(f"/proc/sys/{key}", "w") as f:
            f.write(text)
        return "ok"
    except OSError as e:
        return errno.errorcode[e.errno]


for key in ("ip_local_port_range", "tcp_syn_retries", "tcp_synack_retries", "tcp_retries1", "tcp_retries2", "tcp_fin_timeout", "tcp_keepalive_time",
            "tcp_keepalive_intvl", "tcp_keepalive_probes", "tcp_syncookies", "tcp_sack", "tcp_timestamps", "tcp_window_scaling", "tcp_ecn",
            "tcp_fastopen", "tcp_abort_on_overflow", "tcp_tw_reuse", "tcp_orphan_retries", "ip_forward", "ip_default_ttl", "ip_nonlocal_bind",
            "ip_unprivileged_port_start", "tcp_slow_start_after_idle", "tcp_notsent_lowat", "tcp_reordering", "tcp_base_mss", "tcp_min_snd_mss"):
    say(key, r=read(f"net/ipv4/{key}"))
say("somaxconn", r=read("net/core/somaxconn"))
say("that does not exist", r=read("net/ipv4/tcp_nothing"), write=write("net/ipv4/tcp_nothing", "1"))
for key, values in (("tcp_retries2", ("7", "0", "-1", "word", "")), ("ip_local_port_range", ("40000 40100", "40100 40000", "5")),
                    ("tcp_syncookies", ("2", "3")), ("ip_default_ttl", ("0", "1", "255", "256")), ("tcp_fin_timeout", ("10", "-5")),
                    ("tcp_ecn", ("1", "9")), ("tcp_congestion_control", ("reno", "nosuch"))):
    for v in values:
        before = read(f"net/ipv4/{key}")
        say(f"{key} = {v!r}", r=write(f"net/ipv4/{key}", v), changed=read(f"net/ipv4/{key}") != before)


def lines(name, port):
    return [l.split() for l in open(f"/proc/net/{name}") if f":{port:04X} " in l]


with listener(backlog=5) as l, tcp() as c:
    port = l.getsockname()[1]
    c.connect(l.getsockname())
    c.send(b"123")
    settled()
    rows = lines("tcp", port)
    say("/proc/net/tcp", states=sorted(r[3] for r in rows), queues={r[3] + ("" if r[1].endswith(f":{port:04X}") else " peer"): r[4] for r in rows},
        address={r[1].split(":")[0] for r in rows} == {"0100007F"})
with udp() as u, udp() as v:
    u.sendto(bytes(100), v.getsockname())
    settled()
    rows = lines("udp", v.getsockname()[1])
    say("/proc/net/udp", rows=len(rows), state=rows[0][3], queue_in_use=int(rows[0][4].split(":")[1], 16) > 100, drops=rows[0][12])


def counters():
    out = {}
    for name in ("snmp", "netstat"):
        text = open(f"/proc/net/{name}").read().splitlines()
        for names, values in zip(text[::2], text[1::2]):
            head = names.split(":")[0]
            out.update({head + k: int(n) for k, n in zip(names.split()[1:], values.split()[1:])})
    return out


before = counters()
a, b = connected()
a.close()
b.close()
with udp() as u:
    u.sendto(b"x", (LO, 1))
settled()
after = counters()
names = ("TcpActiveOpens", "TcpPassiveOpens", "TcpInErrs", "TcpOutRsts", "TcpAttemptFails", "TcpEstabResets", "UdpOutDatagrams", "UdpNoPorts", "UdpInErrors",
         "IcmpOutDestUnreachs", "IcmpInDestUnreachs", "TcpExtListenDrops", "TcpExtTW")
say("counters move", **{n: after[n] - before[n] for n in names})
