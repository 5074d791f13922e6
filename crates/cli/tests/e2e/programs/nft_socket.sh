# What nf_tables' rules know of sockets: a transparent proxy by socket and tproxy, marks, wildcards, what connections carried, groups of
# devices. The same in a network namespace and in a jar.
exec 2>&1
PATH=$PATH:/usr/sbin:/sbin
t() { echo "\$ nft $*"; nft "$@" 2>&1; }
ip netns add nsoc
ip link set lo up
ip link add e type veth peer name eth0 netns nsoc
ip addr add 10.8.0.1/24 dev e; ip link set e up; ip link set e group 7
ip -n nsoc addr add 10.8.0.2/24 dev eth0; ip -n nsoc link set eth0 up; ip -n nsoc route add default via 10.8.0.1
ip addr add fd08::1/64 dev e nodad; ip -n nsoc addr add fd08::2/64 dev eth0 nodad; ip -n nsoc -6 route add default via fd08::1
for n in ip inet; do
    nft add table $n t
    for h in prerouting input forward output; do nft "add chain $n t $h { type filter hook $h priority mangle; }"; done
done
nft 'add table bridge t; add chain bridge t prerouting { type filter hook prerouting priority 0; }'
while read -r r; do t add rule $r; done <<R
ip t prerouting socket transparent 1 counter
ip t prerouting socket wildcard 0 counter
ip t prerouting socket mark 5 counter
ip t input socket mark != 0 counter
ip t forward socket transparent 1
inet t prerouting meta mark set socket mark
bridge t prerouting socket transparent 1
ip t prerouting tcp dport 80 tproxy to :8080 counter
ip t prerouting tcp dport 80 tproxy to 127.0.0.1:8080 accept
ip t prerouting tproxy to :80
inet t prerouting meta l4proto tcp tproxy ip to 127.0.0.1:50080 meta mark set 1
inet t prerouting tcp dport 80 tproxy to :8080
ip t output tcp dport 80 tproxy to :8080
ip t input ct bytes > 100 counter
ip t input ct original packets > 3 counter
ip t input ct reply avgpkt > 100 counter
ip t input meta iifgroup 7 counter
ip t input meta oifgroup default counter
R
cat /proc/sys/net/netfilter/nf_conntrack_acct
nft list table ip t; nft list table inet t
nft flush ruleset
echo '$ a proxy'
ip rule add fwmark 1 lookup 100; ip route add local default dev lo table 100
ip -6 rule add fwmark 1 lookup 100; ip -6 route add local default dev lo table 100
nft -f - <<'R'
table inet t {
    chain pre {
        type filter hook prerouting priority mangle
        meta l4proto tcp socket transparent 1 socket wildcard 0 counter meta mark set 1 accept
        meta l4proto tcp socket wildcard 1 counter
        socket mark 5 counter
        iifgroup 7 tcp dport 80 tproxy to :8080 counter meta mark set 1 accept
    }
    chain in {
        type filter hook input priority 0
        tcp dport 80 socket transparent 1 counter
        tcp dport 9 socket transparent 0 socket wildcard 1 counter
        udp dport 9 socket mark 9 socket wildcard 0 counter
        udp dport 10 socket wildcard 0 counter
        tcp dport 80 ct original packets >= 2 counter
        tcp dport 80 ct original bytes > 1000 counter
        iifgroup != 7 counter
    }
}
R
w=$(mktemp)
cat > $w <<'PY'
import socket, sys, threading
V6 = 0x4b
def tcp(family, port, transparent, mark=0):
    s = socket.socket(family); s.setsockopt(1, 2, 1)
    if mark: s.setsockopt(1, 36, mark)
    if transparent: s.setsockopt(0, 19, 1) if family == socket.AF_INET else s.setsockopt(41, V6, 1)
    if family == socket.AF_INET6: s.setsockopt(41, 26, 1)
    s.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port)); s.listen()
    def serve():
        while True:
            c, who = s.accept()
            n = 0
            while True:
                d = c.recv(4096)
                if not d: break
                n += len(d)
            c.sendall(("%s %d %d" % (c.getsockname()[0], c.getsockname()[1], n)).encode()); c.close()
    threading.Thread(target=serve).start()
tcp(socket.AF_INET, 8080, True); tcp(socket.AF_INET6, 8080, True); tcp(socket.AF_INET, 9, False)
u = socket.socket(2, 2); u.setsockopt(1, 36, 9); u.bind(("10.8.0.1", 9))
print("ready", flush=True)
threading.Event().wait()
PY
cat > $w.c <<'PY'
import socket, sys
c = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10); c.sendall(b"x" * int(sys.argv[3])); c.shutdown(1)
print(c.recv(100).decode())
PY
: > $w.out; python3 $w > $w.out & s=$!
until grep -q ready $w.out; do sleep 0.05; done
ask() { ip netns exec nsoc python3 $w.c "$@"; }
ask 198.51.100.7 80 10; ask 2001:db8::7 80 10; ask 10.8.0.1 9 10; ask 198.51.100.7 80 1000
ip netns exec nsoc python3 -c 'import socket; s = socket.socket(2, 2); s.sendto(b"x", ("10.8.0.1", 9)); s.sendto(b"x", ("10.8.0.1", 10))'
sleep 0.2
nft list table inet t
kill -9 $s; rm $w $w.c $w.out
ip netns del nsoc
echo done
