# Groups of nfnetlink_log: what configuration answers and what is shown of packets. Numbers of processes, ports, times and
# identifications are left out, so that two machines say the same.
import os, select, socket, struct, subprocess, time

ACK = 5
def sh(c): subprocess.run(c, shell=True, check=True, stderr=subprocess.DEVNULL)

def group_socket():
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
    s.bind((0, 0))
    return s

def config(s, group, *attrs, family=0, kind=1):
    p = struct.pack("!BBH", family, 0, group)
    for a, v in attrs: p += struct.pack("HH", 4 + len(v), a) + v + b"\0" * (-len(v) % 4)
    s.send(struct.pack("IHHII", 16 + len(p), 4 << 8 | kind, ACK, 1, 0) + p)
    return struct.unpack_from("i", s.recv(4096), 16)[0]

def bind(s, group): return config(s, group, (1, b"\1"))
def number(kind, v): return kind, struct.pack("!I", v)
def mode(range, kind): return 2, struct.pack("!IBx", range, kind)

def shown(s, wait=0.15):
    while select.select([s], [], [], wait)[0]:
        d = s.recv(65536); at = 0
        print("datagram")
        while at < len(d):
            length, kind, flags, seq, _ = struct.unpack_from("IHHII", d, at)
            print(" message", hex(kind), flags, seq, d[at + 16:at + 20].hex())
            i = at + 20
            while kind != 3 and i < at + length:
                n, attr = struct.unpack_from("HH", d, i)
                v = d[i + 4:i + n]
                if attr == 9: v = v[:4] + v[6:10] + v[12:20] + v[22:26]
                if attr == 3: v = struct.pack("!?", abs(struct.unpack("!QQ", v)[0] - time.time()) < 60)
                # The sender's user is known to Linux alone.
                if attr not in (11, 14): print("  ", attr, n, v.hex())
                i += n + 3 & ~3
            at += length + 3 & ~3

def proc():
    for l in open("/proc/net/netfilter/nfnetlink_log"): print(" ", l[:5] + l[12:].rstrip())

sh("ip link set lo up")
a, b = group_socket(), group_socket()
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sink.bind(("127.0.0.1", 7777))
def send(n=5): u.sendto(b"h" * n, ("127.0.0.1", 7777))

print("families", config(a, 0, (1, b"\3"), family=2), config(a, 0, (1, b"\4"), family=2), config(a, 0, (1, b"\3"), family=77))
print("nothing bound", config(a, 5, number(5, 1)), config(a, 5), config(a, 5, (1, b"\2")), config(a, 5, (1, b"\x09")))
print("bound", bind(a, 5), bind(a, 5), bind(b, 5), config(b, 5, number(5, 1)), config(b, 5, (1, b"\2")))
print("strange", config(a, 5, mode(0, 7)), config(a, 5, number(3, 10)), config(a, 5, number(3, 1 << 20)),
      config(a, 5, (2, b"\0")), config(a, 5, (5, b"\0")), config(a, 5, (6, struct.pack("!H", 4))), config(a, 5, kind=0), config(a, 5, kind=3))
proc()
sh("iptables-legacy -A OUTPUT -p udp --dport 7777 -j NFLOG --nflog-group 5 --nflog-prefix pre")
sh("iptables-legacy -A INPUT -p udp --dport 7777 -j NFLOG --nflog-group 5 --nflog-size 30")
sh("iptables-legacy -A INPUT -p udp --dport 7777 -j NFLOG --nflog-group 6 --nflog-threshold 3")
print(subprocess.run("iptables-legacy -S; iptables-legacy -L INPUT -n", shell=True, capture_output=True, text=True).stdout)
print("two wait for a third"); send(); proc(); print(len(select.select([a], [], [], 0.3)[0])); shown(a, 1)
for m in (1, 0): print("mode", m, config(a, 5, mode(0, m), number(5, 1))); send(); shown(a)
print("25 bytes, numbered", config(a, 5, mode(25, 2), (6, struct.pack("!H", 3)))); send(); shown(a)
sh("iptables-legacy -t mangle -A OUTPUT -p udp --dport 7777 -j MARK --set-mark 0x17"); send(); shown(a)
print("closed", bind(a, 7)); proc(); a.close(); proc()
sh("iptables-legacy -F INPUT")
print("a full buffer", bind(b, 5), config(b, 5, number(4, 5)))
for _ in range(8): send(1000)
while select.select([b], [], [], 0.4)[0]: print("of", len(b.recv(65536)) // 1000)
sh("iptables-legacy -F; iptables-legacy -t mangle -F")
sh("iptables-nft -A OUTPUT -p udp --dport 7777 -j NFLOG --nflog-group 5 --nflog-prefix compat --nflog-threshold 1")
print(subprocess.run("iptables-nft -S OUTPUT", shell=True, capture_output=True, text=True).stdout)
send(); shown(b)
sh("nft flush ruleset; nft add table ip t; nft 'add chain ip t o { type filter hook output priority 0; }'")
sh('nft add rule ip t o udp dport 7777 log prefix \\"nf\\" group 5 snaplen 28 queue-threshold 1; nft add rule ip t o udp dport 7777 log group 5')
print(subprocess.run("nft list ruleset", shell=True, capture_output=True, text=True).stdout)
config(b, 5, number(5, 1)); send(); shown(b)
print("done")
