# Tables that see bridged packets (br_netfilter): two pods on a bridge, a service's address, DNAT of frames that stay on the
# bridge, fragments, VLANs, IPv6, physdev. The same in a network namespace and in a jar.
exec 2>&1
PATH=$PATH:/usr/sbin:/sbin
b=/proc/sys/net/bridge
for f in $b/*; do echo "${f##*/} $(cat $f)"; done
for n in bnfa bnfb; do ip netns add $n; done
ip link add br0 type bridge
ip link set br0 address 02:00:00:00:00:01 up
ip addr add 10.9.0.1/24 dev br0; ip addr add fd09::1/64 dev br0 nodad
i=2
for n in a b; do
    ip link add v$n type veth peer name eth0 netns bnf$n
    ip link set v$n master br0 up
    ip -n bnf$n link set eth0 address 02:00:00:00:00:0$i
    ip -n bnf$n link set lo up; ip -n bnf$n link set eth0 up
    ip -n bnf$n addr add 10.9.0.$i/24 dev eth0; ip -n bnf$n addr add fd09::$i/64 dev eth0 nodad
    ip -n bnf$n route add default via 10.9.0.1
    i=$((i + 1))
done
ip -n bnfa link show dev eth0 > /dev/null
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.br0.send_redirects=0
sysctl -qw net.ipv6.conf.all.forwarding=1
w=$(mktemp)
# A server that answers each connection with who asks, and a client.
cat > $w <<'PY'
import socket, sys
if sys.argv[1] == "serve":
    s = socket.socket(); s.setsockopt(1, 2, 1); s.bind(("0.0.0.0", int(sys.argv[2]))); s.listen()
    while True:
        c, who = s.accept(); c.sendall(("%s" % who[0]).encode()); c.close()
c = socket.socket(); c.settimeout(float(sys.argv[2]) if len(sys.argv) > 2 else 20)
host, port = sys.argv[1].split(":")
try:
    c.connect((host, int(port))); got = b""
    while True:
        d = c.recv(100)
        if not d: break
        got += d
    print("answer", got.decode())
except OSError as e:
    print(type(e).__name__, e)
PY
ip netns exec bnfb python3 $w serve 8000 & s1=$!
ip netns exec bnfa python3 $w serve 8000 & s2=$!
python3 $w serve 8001 & s3=$!
up() { until ip netns exec $1 ss -ltn | grep -q ":$2 "; do sleep 0.05; done; }
up bnfb 8000; up bnfa 8000
until ss -ltn | grep -q :8001; do sleep 0.05; done
ask() { ip netns exec bnfa python3 $w "$@"; }
count() { iptables-legacy -t $1 -nvxL $2 | awk 'NR > 2 { sub(" [*]/", ""); print $1, $2, $3, $NF }'; }
zero() { for t in raw mangle nat filter; do iptables-legacy -t $t -Z; done; }
for t in raw mangle; do iptables-legacy -t $t -A PREROUTING -p tcp; done
iptables-legacy -A FORWARD -m physdev --physdev-in va --physdev-out vb -m comment --comment ab
iptables-legacy -A FORWARD -m physdev --physdev-in vb --physdev-out va -m comment --comment ba
iptables-legacy -A FORWARD -m physdev --physdev-is-bridged -m comment --comment bridged
iptables-legacy -A FORWARD -m physdev ! --physdev-is-bridged -m comment --comment routed
iptables-legacy -A FORWARD -i br0 -o br0 -m comment --comment names
iptables-legacy -A INPUT -p tcp -m physdev --physdev-in va -m comment --comment in
iptables-legacy -t mangle -A POSTROUTING -p tcp -m physdev --physdev-out vb -m comment --comment out
iptables-legacy -t nat -A PREROUTING -d 10.96.0.10/32 -p tcp --dport 80 -j DNAT --to-destination 10.9.0.3:8000
all() { count raw PREROUTING; count nat PREROUTING; count filter FORWARD; count filter INPUT; count mangle POSTROUTING; }
echo '$ a service, the other pod'
ping -c 1 -q 10.9.0.2 > /dev/null; ping -c 1 -q 10.9.0.3 > /dev/null
ip netns exec bnfa ping -c 1 -q 10.9.0.3 > /dev/null
zero
ask 10.96.0.10:80
all
grep -o 'src=10.9.0.2 dst=10.96.0.10 .*dport=80 src=10.9.0.3 dst=10.9.0.2 sport=8000' /proc/net/nf_conntrack | sed 's/sport=[0-9]*/sport=N/'
echo '$ the same, bridge-nf-call-iptables 0'
echo 0 > $b/bridge-nf-call-iptables
zero
ask 10.96.0.10:80 0.7
count nat PREROUTING; count filter FORWARD | awk '{ print ($1 > 0), $4 }'
echo '$ one bridge only'
ip link set br0 type bridge nf_call_iptables 1
ip -d link show br0 | grep -o 'nf_call.*nf_call_arptables [01]'
zero
ask 10.96.0.10:80
all
ip link set br0 type bridge nf_call_iptables 0
echo 5 > $b/bridge-nf-call-iptables; cat $b/bridge-nf-call-iptables
echo '$ to the bridge'
iptables-legacy -t nat -A PREROUTING -d 10.9.0.3/32 -p tcp --dport 81 -j DNAT --to-destination 10.9.0.1:8001
zero
ask 10.9.0.3:81
all
echo '$ to another host of the bridge'
ip -n bnfa neigh add 10.9.0.77 lladdr 02:00:00:00:00:77 dev eth0
iptables-legacy -t nat -A PREROUTING -d 10.9.0.77/32 -p tcp --dport 80 -j DNAT --to-destination 10.9.0.3:8000
ip neigh flush dev br0
zero
ask 10.9.0.77:80
all
sysctl -qw net.ipv4.ip_forward=0
zero
nstat -n
ask 10.9.0.77:80 0.5
count filter FORWARD
nstat -z IpInAddrErrors | awk 'NR > 1 { print $1, $2 }'
sysctl -qw net.ipv4.ip_forward=1
echo '$ back to who asks'
iptables-legacy -t nat -A PREROUTING -d 10.96.0.11/32 -p tcp --dport 80 -j DNAT --to-destination 10.9.0.2:8000
iptables-legacy -t nat -A POSTROUTING -s 10.9.0.2/32 -d 10.9.0.2/32 -j MASQUERADE
zero
ask 10.96.0.11:80 0.7
ip link set va type bridge_slave hairpin on
zero
ask 10.96.0.11:80
all; count nat POSTROUTING
echo '$ fragments'
for n in a b; do ip netns exec bnf$n nstat -n; done; nstat -n
zero
ip netns exec bnfa ping -c 1 -q -s 4000 10.9.0.3 | grep received
count filter FORWARD
ip netns exec bnfb nstat -z IpReasmReqds IpReasmOKs | awk 'NR > 1 { print $1, $2 }'
nstat -z IpReasmReqds IpReasmOKs IpFragOKs IpFragCreates IpForwDatagrams IpInReceives | awk 'NR > 1 { print $1, $2 }'
echo '$ refused'
iptables-legacy -I FORWARD -p tcp --dport 8000 -j REJECT
ask 10.9.0.3:8000
iptables-legacy -R FORWARD 1 -p tcp --dport 8000 -j REJECT --reject-with tcp-reset
ask 10.9.0.3:8000
iptables-legacy -R FORWARD 1 -p tcp --dport 8000 -j DROP
ask 10.9.0.3:8000 0.5
iptables-legacy -D FORWARD 1
echo '$ masqueraded on the bridge'
iptables-legacy -t nat -A POSTROUTING -s 10.9.0.2/32 -p tcp --dport 8000 -j MASQUERADE
ask 10.9.0.3:8000
iptables-legacy -t nat -F POSTROUTING
echo '$ nft'
nft add table inet t
nft 'add chain inet t pre { type filter hook prerouting priority 0; }'
nft 'add chain inet t forward { type filter hook forward priority 0; }'
nft 'add chain inet t post { type filter hook postrouting priority 0; }'
nft add rule inet t pre iifname br0 icmp type echo-request counter
nft add rule inet t forward meta iifname br0 meta oifname br0 icmp type echo-request counter
nft add rule inet t post oifname br0 icmp type echo-request counter
nft add rule inet t forward icmpv6 type echo-request counter
nft add rule inet t forward ether saddr 02:00:00:00:00:02 counter
ip netns exec bnfa ping -c 1 -q 10.9.0.3 | grep received
nft list table inet t
echo '$ of IPv6'
c6() { ip6tables-legacy -nvxL FORWARD | awk 'NR > 2 { sub(" [*]/", ""); print $1, $2, $NF }'; }
ip6tables-legacy -A FORWARD -p icmpv6 --icmpv6-type echo-request -m physdev --physdev-in va -m comment --comment six
ip6tables-legacy -t nat -A PREROUTING -d fd96::10/128 -p icmpv6 -j DNAT --to-destination fd09::3
ip6tables-legacy -A FORWARD -m conntrack --ctstate ESTABLISHED -m comment --comment est
ip -n bnfa route add fd96::/64 via fd09::1
ip netns exec bnfa ping -c 1 -q fd09::3 | grep received; c6
ip netns exec bnfa ping -c 1 -q fd96::10 | grep received; c6
echo 0 > $b/bridge-nf-call-ip6tables
ip netns exec bnfa ping -c 1 -q fd09::3 | grep received; c6
echo 1 > $b/bridge-nf-call-ip6tables
kill $s1 $s2 $s3
for n in a b; do ip netns del bnf$n; done
rm $w
echo done
