"""What counts as sent and what as discarded: packets that a rule or a full queue takes away, errors about nobody, TCP sent again."""
from observe import *
import subprocess

NAMES = ("IpOutRequests", "IpOutDiscards", "IpOutTransmits", "Ip6OutDiscards", "IcmpOutMsgs", "IcmpOutErrors", "IcmpInErrors",
         "IcmpOutDestUnreachs", "Icmp6OutErrors", "Icmp6InErrors", "Icmp6OutDestUnreachs", "UdpOutDatagrams", "UdpSndbufErrors",
         "Udp6OutDatagrams", "Udp6SndbufErrors", "TcpOutSegs", "TcpRetransSegs", "TcpOutRsts")


def sh(words):
    subprocess.run(words, shell=True, check=True, stdout=subprocess.DEVNULL)


def counters():
    found = {}
    for path in ("/proc/net/snmp", "/proc/net/netstat"):
        lines = open(path).read().splitlines()
        for names, values in zip(lines[::2], lines[1::2]):
            group, *names = names.split()
            found.update({group[:-1] + n: int(v) for n, v in zip(names, values.split()[1:])})
    found.update({n: int(v) for n, v in (line.split() for line in open("/proc/net/snmp6"))})
    return found


def count(case, what):
    before = counters()
    r = what()
    settled()
    after = counters()
    say(case, r=r, **{n: after[n] - before[n] for n in NAMES if after[n] != before[n]})


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xffff) + (total >> 16)
    return ~(total + (total >> 16)) & 0xffff


def echo(kind):
    head = struct.pack("!BBHHH", kind, 0, 0, 1, 1) + b"y" * 1000
    return head[:2] + struct.pack("!H", checksum(head) if kind == 8 else 0) + head[4:]


def senders(six):
    """Every way to send datagrams, by what it is called."""
    family, to, icmp = (socket.AF_INET6, "fd77::9", 58) if six else (socket.AF_INET, "10.77.0.9", 1)
    recverr = (41, 25, 1) if six else (0, 11, 1)
    request = echo(128 if six else 8)
    kinds = (("udp", socket.SOCK_DGRAM, 0, (to, 9), b"x" * 1000), ("raw", socket.SOCK_RAW, 253, (to, 0), b"x" * 1000),
             ("echo socket", socket.SOCK_DGRAM, icmp, (to, 0), request), ("raw icmp", socket.SOCK_RAW, icmp, (to, 0), request))
    for name, kind, proto, address, data in kinds:
        for option in (None, recverr):
            yield name + (", errors asked for" if option else ""), family, kind, proto, option, address, data


def send_all(tag, six, n):
    for name, family, kind, proto, option, address, data in senders(six):
        def many():
            with socket.socket(family, kind, proto) as s:
                if option:
                    s.setsockopt(*option)
                said = [outcome(s.sendto, data, address) for _ in range(n)]
            return "ok" if said == [len(data)] * n else sorted({str(r) for r in said})
        count(f"{tag}: {name}", many)


def orphan(six, proto):
    """An ICMP error about a packet that no socket here sent."""
    if six:
        quote = struct.pack("!IHBB", 6 << 28, 20, proto, 64) + socket.inet_pton(socket.AF_INET6, "::1") * 2
    else:
        quote = struct.pack("!BBHHHBBH8s", 0x45, 0, 40, 0, 0, 64, proto, 0, socket.inet_aton(LO) * 2)
    quote += struct.pack("!HHHH", 4444, 5555, 20, 0) + bytes(12)
    head = struct.pack("!BBHI", *((1, 4) if six else (3, 3)), 0, 0)
    head = head[:2] + struct.pack("!H", 0 if six else checksum(head + quote)) + head[4:]
    with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_RAW, 58 if six else 1) as s:
        s.sendto(head + quote, ("::1" if six else LO, 0))


def answers(six):
    """What this host answers by itself, with a rule in the way or none."""
    family, lo = (socket.AF_INET6, "::1") if six else (socket.AF_INET, LO)
    tables, icmp = ("ip6tables-legacy", "icmpv6") if six else ("iptables-legacy", "icmp")

    def ask():
        with socket.socket(family, socket.SOCK_RAW, 58 if six else 1) as s:
            s.sendto(echo(128 if six else 8), (lo, 0))

    def closed():
        with udp(family) as s:
            s.sendto(b"x", (lo, 9))

    def refused():
        with tcp(family) as s:
            s.setblocking(False)
            outcome(s.connect, (lo, 9))
            settled()

    for name, what, match in (("an echo", ask, f"-p {icmp} --{icmp}-type echo-reply"),
                              ("unreachable", closed, f"-p {icmp} --{icmp}-type port-unreachable"),
                              ("a reset", refused, "-p tcp --tcp-flags RST RST")):
        for dropped in (False, True):
            if dropped:
                sh(f"{tables} -A OUTPUT {match} -j DROP")
            count(f"IPv{6 if six else 4}: {name}{', dropped' * dropped}", what)
        sh(f"{tables} -F")


def again():
    """TCP that is sent again counts as sent once; SYN-ACKs count each time."""
    with listener((LO, 8080)) as l:
        with tcp() as a:
            a.connect((LO, 8080))
            b, _ = l.accept()
            settled()
            sh("iptables-legacy -A INPUT -p tcp --dport 8080 -j DROP")

            def lost():
                a.send(b"x" * 100)
                time.sleep(0.9)
            count("data that is lost", lost)
            sh("iptables-legacy -F")
            time.sleep(1.2)
            b.close()
        for case, match in (("a SYN that is lost", "--dport"), ("a SYN-ACK that is lost", "--sport")):
            sh(f"iptables-legacy -A INPUT -p tcp {match} 8080 -j DROP")

            def half():
                with tcp() as s:
                    s.setblocking(False)
                    outcome(s.connect, (LO, 8080))
                    time.sleep(1.5)
            count(case, half)
            sh("iptables-legacy -F")


lo_up()
sh("ip link add v0 address 02:00:00:00:77:a0 type veth peer name v1 address 02:00:00:00:77:a1")
sh("ip link set v0 up; ip link set v1 up; ip addr add 10.77.0.1/24 dev v0; ip addr add fd77::1/64 dev v0 nodad")
sh("ip neigh add 10.77.0.9 lladdr 02:00:00:00:77:a1 dev v0; ip neigh add fd77::9 lladdr 02:00:00:00:77:a1 dev v0")
sh("echo '0 2147483647' > /proc/sys/net/ipv4/ping_group_range; sleep 1.2")
for six in (False, True):
    tables, to, tag = ("ip6tables-legacy", "fd77::9", "IPv6") if six else ("iptables-legacy", "10.77.0.9", "IPv4")
    send_all(f"{tag} as always", six, 3)
    for chain, table in (("OUTPUT", "filter"), ("POSTROUTING", "mangle")):
        sh(f"{tables} -t {table} -A {chain} -d {to} -j DROP")
        send_all(f"{tag} dropped in {chain}", six, 3)
        sh(f"{tables} -t {table} -F")
    # Nothing fits the bucket for a minute, and one packet the queue.
    sh("tc qdisc add dev v0 root handle 1: tbf rate 8bit burst 1600 limit 1700")
    sh(f"ping -{6 if six else 4} -c 1 -W 0.1 -s 1400 {to} || true; ping -{6 if six else 4} -c 1 -W 0.1 -s 1400 {to} || true")
    send_all(f"{tag} in front of a full queue", six, 3)
    sh("tc qdisc del dev v0 root")
    answers(six)
    for name, proto in (("UDP", 17), ("TCP", 6), ("an echo", 58 if six else 1), ("another protocol", 253)):
        count(f"{tag}: an error about nobody's {name}", lambda: orphan(six, proto))
again()
