#!/bin/sh
# In a network namespace of its own: datagrams between belljar's stack and this machine's kernel over a TAP interface, each
# once as sender. $1: belljar, $2: datagrams.py, $3: seed, $4: how many each way, $5: the longest.
set -e
b=$1 py=$2 seed=$3 count=$4 longest=$5
ip link set lo up
ip tuntap add tap0 mode tap
ip addr add 10.9.0.1/24 dev tap0
ip addr add fd09::1/64 dev tap0 nodad
ip link set tap0 up
sysctl -qw net.core.rmem_max=8388608 2>/dev/null || true
trap 'rmdir /tmp/belljar-0 2>/dev/null || true' EXIT
# Packets that were lost on the way to a program, by the counters of the machine that lost them.
in_sockets() { awk '$1 ~ /^Udp6?(RcvbufErrors|InCsumErrors|MemErrors)$|^Ip6?ReasmFails$/ { n += $2 } END { print n + 0 }'; }
on_links() {
    python3 -c 'import json, sys
print(sum(d["stats64"][w][k] for d in json.load(sys.stdin) if d["ifname"] == sys.argv[1] for w, k in
    [a.split(".") for a in sys.argv[2:]]))' "$@"
}
"$b" run --name dgrams --seed 1 --net tap=tap0 --ip 10.9.0.2/24 --ip6 fd09::2/64 --sysctl net.core.rmem_max=8388608 -- \
    python3 "$py" take 7000 "$seed" >inner 2>inner.err &
jar=$!
python3 "$py" take 7001 "$seed" >outer 2>&1 &
for log in inner outer; do
    for _ in $(seq 100); do grep -q listening $log && break; sleep 0.1; done
done
# What waited for a neighbour's address and was thrown out for something newer.
unresolved() {
    "$b" exec dgrams -- cat /proc/net/stat/arp_cache /proc/net/stat/ndisc_cache |
        python3 -c 'import sys; print(sum(int(l.split()[11], 16) for l in sys.stdin if not l.startswith("entries")))'
}
"$b" exec dgrams -- python3 "$py" send 10.9.0.1,fd09::1 7001 "$seed" "$count" $longest
for _ in $(seq 100); do grep -q received outer && break; sleep 0.1; done
echo "from belljar: $(tail -1 outer), lost $(nstat -asz | in_sockets) in sockets," \
    "$(ip -s -j link show tap0 | on_links tap0 rx.dropped rx.errors) by the interface," \
    "$("$b" ip dgrams -s -j link | on_links eth0 tx.dropped tx.errors) by the card, $(unresolved) by neighbours"
python3 "$py" send 10.9.0.2,fd09::2 7000 "$seed" "$count" $longest
# The counters of the jar while it lives: the receiver waits a second after the last datagram.
lost=$("$b" nstat dgrams -az | in_sockets)
ring=$("$b" ip dgrams -s -s -j link | on_links eth0 rx.dropped rx.missed_errors)
for _ in $(seq 100); do grep -q received inner && break; sleep 0.1; done
echo "to belljar: $(tail -1 inner), lost $lost in sockets," \
    "$(ip -s -j link show tap0 | on_links tap0 tx.dropped) by the interface, $ring by the card"
wait $jar || true
