#!/bin/sh
# In a jar: the network that a container engine builds, with the distribution's own binaries. Two namespaces on a bridge,
# masquerading out, port 80 of the host translated to the server in one of them. $1: the directory it serves.
set -e
ip netns add web
ip netns add cli
ip link add br0 type bridge
ip addr add 172.18.0.1/24 dev br0
ip link set br0 up
n=2
for s in web cli; do
    ip link add v$s type veth peer name e$s
    ip link set v$s master br0 up
    ip link set e$s netns $s
    ip netns exec $s ip link set e$s name eth0
    ip netns exec $s ip link set lo up
    ip netns exec $s ip addr add 172.18.0.$n/24 dev eth0
    ip netns exec $s ip link set eth0 up
    ip netns exec $s ip route add default via 172.18.0.1
    n=$((n + 1))
done
sysctl -qw net.ipv4.ip_forward=1
iptables-legacy -t nat -A POSTROUTING -s 172.18.0.0/24 ! -o br0 -j MASQUERADE
iptables-legacy -t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 172.18.0.2:8000
iptables-legacy -t nat -A OUTPUT -p tcp -d 10.0.2.15 --dport 80 -j DNAT --to-destination 172.18.0.2:8000
cd "$1"
ip netns exec web python3 -m http.server 8000 >/dev/null 2>&1 &
get() { curl -s --retry 20 --retry-delay 1 --retry-connrefused --max-time 60 "$1"; }
echo "beside: $(ip netns exec cli sh -c "$(command -v curl) -s --retry 20 --retry-delay 1 --retry-connrefused --max-time 60 http://172.18.0.2:8000/hello")"
echo "translated: $(get http://10.0.2.15/hello)"
ip netns exec cli ping -c 1 -W 20 10.0.2.2 | grep -o '1 received'
echo ready
# Until somebody outside has asked, too.
for _ in $(seq 300); do
    iptables-legacy -t nat -L PREROUTING -nvx | grep -q '^ *1 .*DNAT' && break
    sleep 0.1
done
iptables-legacy -t nat -S
iptables-legacy -t nat -L PREROUTING -nvx | tail -1 | awk '{ print $1, "translated coming in" }'
iptables-legacy -t nat -L POSTROUTING -nvx | tail -1 | awk '{ print $1, "masqueraded" }'
grep -c 'sport=8000' /proc/net/nf_conntrack
kill $!
