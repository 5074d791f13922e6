#!/bin/sh
# In a network namespace of its own that forwards: belljar's stack on a TAP interface, and this machine's kernel in another
# namespace behind a link whose MTU changes all the time. Only belljar sends much: two of this machine's kernels (6.18) lose
# a connection in some hundreds themselves, by ETIMEDOUT, when the MTU changes under the sender. $1: belljar, $2: interop.py, $3: seed, $4: connections, $5: at once.
set -e
b=$1 py=$2 seed=$3 count=$4 at_once=$5
ip link set lo up
ip tuntap add tap0 mode tap
ip addr add 10.9.0.1/24 dev tap0
ip addr add fd09::1/64 dev tap0 nodad
ip link set tap0 up
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
unshare -n sh -c "ip link set lo up; until ip link show v1 >/dev/null 2>&1; do sleep 0.05; done
    ip addr add 10.8.0.2/24 dev v1; ip addr add fd08::2/64 dev v1 nodad; ip link set v1 up
    ip route add default via 10.8.0.1; ip -6 route add default via fd08::1
    exec python3 $py serve 7000 up$seed" >theirs 2>&1 &
other=$!
ip link add v0 type veth peer name v1
# Not before it has its own.
until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
ip link set v1 netns $other
ip addr add 10.8.0.1/24 dev v0
ip addr add fd08::1/64 dev v0 nodad
ip link set v0 up
trap 'rmdir /tmp/belljar-0 2>/dev/null || true' EXIT
"$b" run --name mtu --seed 1 --net tap=tap0 --ip 10.9.0.2/24 --ip6 fd09::2/64 -- python3 "$py" serve 7000 "down$seed" >ours 2>ours.err &
jar=$!
for log in ours theirs; do
    for _ in $(seq 100); do grep -q listening $log && break; sleep 0.1; done
    grep -q listening $log || cat $log
done
# Both ends of the narrow link, so that the router is the one that says it.
while :; do
    for mtu in 1400 1280 1500 1300 1350; do
        ip link set v0 mtu $mtu 2>/dev/null || exit 0
        sleep 0.2
    done
done &
changing=$!
echo "belljar connects:"
"$b" exec mtu -- python3 "$py" connect 10.8.0.2,fd08::2 7000 "up$seed" "$count" "$at_once" || echo FAILED
echo "belljar serves:"
nsenter -t $other -n python3 "$py" connect 10.9.0.2,fd09::2 7000 "down$seed" "$count" "$at_once" || echo FAILED
kill $changing
"$b" nstat mtu -az | awk '$1 ~ /^(IcmpInDestUnreachs|Icmp6InPktTooBigs)$/ { print $1, ($2 > 0 ? "came" : "never came") }'
kill $other $jar
wait $jar || true
grep -h server: ours theirs || true
