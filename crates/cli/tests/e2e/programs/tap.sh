#!/bin/sh
# In a network namespace of its own: belljar's stack and this machine's are neighbours on a TAP interface.
# $1: belljar, $2: a file to carry both ways. Prints the sums of the two copies.
set -e
ip link set lo up
ip tuntap add tap0 mode tap
ip addr add 10.9.0.1/24 dev tap0
ip link set tap0 up
# Where uid 0 is an ordinary user's, its jars are not in /run/belljar.
trap 'rmdir /tmp/belljar-0 2>/dev/null || true' EXIT
"$1" run --name tapped --net tap=tap0 --ip 10.9.0.2/24 -- python3 -m http.server 80 >served 2>&1 &
jar=$!
python3 -m http.server 8080 --bind 10.9.0.1 >/dev/null 2>&1 &
host=$!
curl -s --retry 50 --retry-connrefused --retry-delay 1 -o in http://10.9.0.2/"$2"
"$1" exec tapped -- curl -s --retry 50 --retry-connrefused --retry-delay 1 -o out http://10.9.0.1:8080/"$2"
"$1" ip tapped route
sha256sum in out
kill $host
ip link del tap0
curl -s -m 1 http://10.9.0.2/ && echo "still there"
kill $jar
wait $jar || true
cat served
