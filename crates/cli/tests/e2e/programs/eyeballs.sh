#!/bin/sh
# In a network namespace of its own, which is router and server: a program on belljar's stack behind a TAP interface, and the
# same on this machine's kernel in another namespace behind `belljar cable`. $1: belljar, $2: eyeballs.py.
set -e
b=$1 py=$2
ip link set lo up
ip tuntap add t0 mode tap
unshare -n sh -c 'echo >ready; exec sleep 100' &
other=$!
for _ in $(seq 100); do test -e ready && break; sleep 0.05; done
# Not a veth pair: an answer that is there before the call returns finds the socket in use, and the hard error becomes a
# soft one. On a wire answers take a moment.
"$b" cable v0 v1 --link 'delay 1ms' --seconds 100 >cable 2>&1 &
cable=$!
for _ in $(seq 100); do ip link show v1 >/dev/null 2>&1 && break; sleep 0.05; done
# Not before it has its own.
until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
ip link set v1 netns $other
sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv4.ip_forward=1
for d in t0:9 v0:8; do
    dev=${d%:*} net=${d#*:}
    ip addr add 10.$net.0.1/24 dev $dev
    ip addr add fd0$net::1/64 dev $dev nodad
    ip link set $dev up
done
ip -6 route add blackhole fd11::/64
ip -6 route add prohibit fd12::/64
ip -6 route add unreachable fd13::/64
ip route add blackhole 10.11.0.0/24
in_other() { nsenter -t $other -n "$@"; }
in_other ip link set lo up
in_other ip addr add 10.8.0.2/24 dev v1
in_other ip addr add fd08::2/64 dev v1 nodad
in_other ip link set v1 up
in_other ip route add default via 10.8.0.1
in_other ip -6 route add default via fd08::1
python3 -c '
import select, socket
def serve(family, address, port):
    s = socket.socket(family)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((address, port))
    s.listen(100)
    return s
six, four = socket.AF_INET6, socket.AF_INET
all = [serve(six, "::", 81), serve(four, "", 81), serve(four, "", 82), serve(six, "::", 83)]
print("listening", flush=True)
while True:
    for s in select.select(all, [], [])[0]:
        s.accept()[0].close()' >server 2>&1 &
server=$!
trap 'kill $server $other $cable; rmdir /tmp/belljar-0 2>/dev/null || true' EXIT
for _ in $(seq 100); do grep -q listening server && break; sleep 0.1; done
"$b" run --name eyes --seed 1 --net tap=t0 --ip 10.9.0.2/24 --ip6 fd09::2/64 -- python3 "$py" 9 >ours 2>ours.err &
jar=$!
in_other python3 "$py" 8 >theirs 2>&1 || true
wait $jar || true
in_other sysctl -qw net.ipv6.conf.all.disable_ipv6=1
"$b" run --name eyes --seed 1 --net tap=t0 --ip 10.9.0.2/24 --ip6 off -- python3 "$py" 9 no6 >>ours 2>>ours.err &
jar=$!
in_other python3 "$py" 8 no6 >>theirs 2>&1 || true
wait $jar || true
diff ours theirs && cat theirs && echo equal || cat ours.err
