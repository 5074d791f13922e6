#!/bin/sh
# In a network namespace of its own: belljar's stack and this machine's kernel talk over a TAP interface and a bad link,
# each once as client and once as server. $1: belljar, $2: interop.py, $3: seed, $4: connections, $5: how many at once.
set -e
b=$1 py=$2 seed=$3 count=$4 at_once=$5
ip link set lo up
ip tuntap add tap0 mode tap
ip addr add 10.9.0.1/24 dev tap0
ip addr add fd09::1/64 dev tap0 nodad
ip link set tap0 up
trap 'rmdir /tmp/belljar-0 2>/dev/null || true' EXIT
"$b" run --name inter --seed 1 --net tap=tap0 --ip 10.9.0.2/24 --ip6 fd09::2/64 --delay 2ms --loss 1% --reorder 2% -- \
    python3 "$py" serve 7000 "$seed" >inner 2>inner.err &
jar=$!
python3 "$py" serve 7000 "$seed" >outer 2>&1 &
host=$!
for log in inner outer; do
    for _ in $(seq 100); do grep -q listening $log && break; sleep 0.1; done
done
grep -q listening inner || cat inner.err
echo "belljar serves:"
python3 "$py" connect 10.9.0.2,fd09::2 7000 "$seed" "$count" "$at_once" || echo FAILED
echo "belljar connects:"
"$b" exec inter -- python3 "$py" connect 10.9.0.1,fd09::1 7000 "$seed" "$count" "$at_once" || echo FAILED
# What is left may only be TIME_WAIT and the listener; a FIN lost at the very end gets its time.
for _ in $(seq 30); do
    left=$("$b" ss inter -tan | grep -Ev 'TIME-WAIT|LISTEN|State' || true)
    theirs=$(ss -tanH | grep -Ev 'TIME-WAIT|LISTEN' || true)
    [ -z "$left$theirs" ] && break
    sleep 1
done
echo "left: $left$theirs."
"$b" nstat inter -a | grep -E 'TcpRetransSegs|TcpExtTCPOFOQueue|TcpInErrs|TcpInCsumErrors'
kill $host $jar
wait $jar || true
grep -h server: inner outer || true
