#!/bin/sh
# In a network namespace of its own: a program on belljar's stack behind a TAP interface, and the same on this machine's
# kernel in another namespace behind a veth pair, while our end of both changes its hardware address and says so.
# $1: belljar, $2: neighbours.py, $3: the echo server.
set -e
b=$1 py=$2 echo=$3
ip link set lo up
ip tuntap add t0 mode tap
mkfifo go.ours go.theirs
unshare -n sh -c "ip link set lo up; until ip link show v1 >/dev/null 2>&1; do sleep 0.05; done
    ip addr add 10.8.0.2/24 dev v1; ip addr add fd08::2/64 dev v1 nodad; ip link set v1 up
    until grep -qs listening echo.out; do sleep 0.05; done
    exec python3 $py 10.8.0.1 fd08::1 10.8.0.77 fd08::77" <go.theirs >theirs 2>&1 &
other=$!
exec 8>go.theirs
ip link add v0 type veth peer name v1
# Not before it has its own.
until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
ip link set v1 netns $other
for d in t0:9 v0:8; do
    dev=${d%:*} net=${d#*:}
    ip addr add 10.$net.0.1/24 dev $dev
    ip addr add fd0$net::1/64 dev $dev nodad
    sysctl -qw net.ipv4.conf.$dev.arp_notify=1 net.ipv6.conf.$dev.ndisc_notify=1
    ip link set $dev up
done
trap 'rmdir /tmp/belljar-0 2>/dev/null || true' EXIT
python3 "$echo" 7 >echo.out 2>&1 &
server=$!
for _ in $(seq 100); do grep -q listening echo.out && break; sleep 0.1; done
"$b" run --name near --seed 1 --net tap=t0 --ip 10.9.0.2/24 --ip6 fd09::2/64 -- \
    python3 "$py" 10.9.0.1 fd09::1 10.9.0.77 fd09::77 <go.ours >ours 2>ours.err &
jar=$!
exec 9>go.ours
for log in ours theirs; do
    for _ in $(seq 100); do grep -q ready $log && break; sleep 0.1; done
done
# An entry is not overwritten in its first second (locktime).
sleep 1.2
for dev in t0 v0; do ip link set $dev address 02:00:00:00:00:77; done
sleep 0.3
"$b" ip near neigh | grep -c '02:00:00:00:00:77' || true
echo go >&8
echo go >&9
wait $jar $other || true
kill $server
sed 's/10\.9\./10.8./; s/fd09/fd08/' ours >ours.same
diff ours.same theirs && cat theirs && echo equal || cat ours.err
