# Addresses that are answered for, and neighbours that are never asked for: the same lines on Linux and on belljar.
say() { echo "\$ $*"; "$@" 2>&1; }
ip link add v0 address 02:00:00:00:00:01 type veth peer name v1 address 02:00:00:00:00:02
ip link set v0 up; ip link set v1 up
ip addr add 10.1.0.1/24 dev v0
say ip neigh add proxy 10.1.0.77 dev v0
say ip neigh add proxy 10.1.0.77 dev v0
say ip neigh add proxy 10.1.0.78
say ip neigh add proxy fd01::77 dev v0
say ip neigh add proxy fd01::78 dev v0 router
say ip neigh add proxy fd01::79
say ip neigh add proxy 10.1.0.79 dev v0 extern_learn
say ip neigh add proxy 10.1.0.80 dev v0 protocol static
say ip -4 neigh
say ip neigh show proxy
say ip -4 neigh show proxy
say ip -6 neigh show proxy dev v0
say ip -j neigh show proxy
say ip neigh replace proxy 10.1.0.77 dev v0
say ip neigh change proxy 10.1.0.90 dev v0
say ip neigh del proxy 10.1.0.99 dev v0
say ip neigh del proxy 10.1.0.78
say ip neigh del proxy 10.1.0.78 dev v0
say ip neigh get proxy 10.1.0.77 dev v0
say ip neigh get proxy 10.1.0.99 dev v0
say arp -n
say cat /proc/net/arp
say arp -i v0 -s 10.1.0.81 02:00:00:00:00:01 pub
say arp -i v0 -Ds 10.1.0.82 v0 pub
say arp -s 10.1.0.83 02:00:00:00:00:02 pub
say arp -s 10.1.0.84 02:00:00:00:00:77 pub
say arp -s 10.1.0.0 02:00:00:00:00:01 netmask 255.255.255.0 pub
say ip neigh show proxy
say cat /proc/net/arp
say arp -i v0 -d 10.1.0.81 pub
say arp -i v0 -d 10.1.0.99 pub
say arp -d 10.1.0.82
say ip neigh show proxy
say grep -c 0001ff0000 /proc/net/igmp6
say ip neigh add 10.1.0.50 lladdr 02:00:00:00:00:50 nud noarp dev v0
say ip neigh add 10.1.0.51 nud noarp dev v0
say ip -4 neigh
say ip -4 neigh show nud noarp
say cat /proc/net/arp
say ip -4 neigh flush all
say ip -4 neigh show nud all
say ip neigh change 10.1.0.50 nud stale dev v0
say ip -4 neigh show nud all
say ip neigh change 10.1.0.50 nud noarp dev v0
say ip neigh replace 10.1.0.50 lladdr 02:00:00:00:00:51 nud noarp dev v0
say ip -4 neigh show nud all
say arp -n 10.1.0.50
say ip link set v1 down
sleep 1.2
say ip neigh show proxy
say ip link set v0 down
say ip neigh show proxy
say ip -4 neigh show nud all
cat /proc/sys/net/ipv6/conf/v0/proxy_ndp /proc/sys/net/ipv6/conf/all/proxy_ndp
echo done
