#!/bin/sh
# In a network namespace of its own: belljar's stack on a TAP interface, and this machine's kernel in another namespace on
# a veth pair. $1: belljar, $2: fragments.py, $3: the echo server, $4: seed.
set -e
b=$1 py=$2 echo=$3 seed=$4
ip link set lo up
ip tuntap add tap0 mode tap
ip addr add 10.9.0.1/24 dev tap0
ip addr add fd09::1/64 dev tap0 nodad
ip link set tap0 up
unshare -n sh -c "ip link set lo up; until ip link show v1 >/dev/null 2>&1; do sleep 0.05; done
    ip addr add 10.8.0.2/24 dev v1; ip addr add fd08::2/64 dev v1 nodad; ip link set v1 up
    exec python3 $echo 7" >theirs 2>&1 &
other=$!
ip link add v0 type veth peer name v1
# Not before it has its own.
until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
ip link set v1 netns $other
ip addr add 10.8.0.1/24 dev v0
ip addr add fd08::1/64 dev v0 nodad
ip link set v0 up
trap 'rmdir /tmp/belljar-0 2>/dev/null || true' EXIT
"$b" run --name pieces --seed 1 --net tap=tap0 --ip 10.9.0.2/24 --ip6 fd09::2/64 -- python3 "$echo" 7 >ours 2>ours.err &
jar=$!
for log in ours theirs; do
    for _ in $(seq 100); do grep -q listening $log && break; sleep 0.1; done
    grep -q listening $log || cat $log
done
code=0
python3 "$py" "$seed" 10.9.0.2 fd09::2 10.8.0.2 fd08::2 || code=$?
# What became of the pieces; a time that is over on one side and not yet on the other is not held against either.
counters() {
    awk '$1 ~ /Reasm/ { n[$1] = $2 }
        END { for (f in n) if (f !~ /Timeout/ && n[f]) { t = f; sub(/Fails/, "Timeout", t); print f, n[f] - (t == f ? 0 : n[t]) } }' | sort
}
"$b" nstat pieces -az | counters >ours.n
nsenter -t $other -n nstat -asz | counters >theirs.n
diff ours.n theirs.n && echo "counters equal" || code=1
kill $other $jar
wait $jar || true
exit $code
