# What `ip` and `bridge` of the distribution say about devices on top of others: macvlan and VXLAN.
r() { echo "\$ $*"; "$@" 2>&1; c=$?; [ $c = 0 ] || echo "=> $c"; }
r ip link set lo up
r ip link add d0 address 02:00:00:00:00:d0 type veth peer name d1 address 02:00:00:00:00:d1
r ip link add m0 link d0 address 02:00:00:00:00:e0 type macvlan
r ip link add m1 link d0 address 02:00:00:00:00:e1 type macvlan mode bridge
r ip link add m1 link d0 address 02:00:00:00:00:e1 type macvlan mode bridge
r ip link add m2 link m1 address 02:00:00:00:00:e2 type macvlan mode private
r ip link add mx link d0 type macvlan mode passthru
r ip link add mx type macvlan mode bridge
r ip link add mx link lo type macvlan mode bridge
r ip link add mx link d0 mtu 1501 type macvlan mode bridge
r ip link add p0 link d1 type macvlan mode passthru
r ip link add px link d1 type macvlan mode bridge
r ip link add px link d1 type macvlan mode passthru
r ip link set m1 type macvlan mode passthru
r ip link set m1 type macvlan mode vepa
r ip link set m1 type macvlan mode bridge
r ip -d link show m0
r ip -d link show m1
r ip -d link show m2
r ip -d link show p0
r ip link add br0 address 02:00:00:00:00:b0 type bridge
r ip link set d0 master br0
r ip link set m1 up
r ip link show m1
r ip link set d0 up
r ip link show m1
r ip link set d1 up
r ip link show m1
r ip link show m0
r ip link set m0 address 02:00:00:00:00:e1
r ip link set m0 address 02:00:00:00:00:d0
r ip link set m0 up
r ip link set m0 address 02:00:00:00:00:e9
r ip link set d0 down
r ip link show m1
r ip link set d0 mtu 1400
r ip link show m1
r ip link set m1 mtu 1500
r ip link set p0 up
r ip link set p0 address 02:00:00:00:00:77
r ip link show d1
r ip link del d0
r ip link
r ip link add d0 address 02:00:00:00:00:d0 type veth peer name d1 address 02:00:00:00:00:d1
r ip addr add 10.0.0.1/24 dev d0
r ip link add vx0 address 02:00:00:00:00:e0 type vxlan id 5 dstport 4789 remote 10.0.0.2 local 10.0.0.1 dev d0
r ip -d link show vx0
r ip link add vx1 type vxlan id 5 dstport 4789
r ip link add vx2 address 02:00:00:00:00:e2 type vxlan id 8 dstport 4789 nolearning ttl 9 tos 4
r ip -d link show vx2
r ip link add vx4 address 02:00:00:00:00:e4 mtu 1490 type vxlan id 10 dstport 4789 remote 10.0.0.2 dev d0
r ip link set vx0 mtu 1451
r ip link set vx0 mtu 1450
r ip link add vx4 type vxlan id 5 dstport 4790 remote 10.0.0.7
r ip -d link show vx4
r ip link set vx0 type vxlan id 6
r ip link set vx0 type vxlan remote 10.0.0.3
r ip link set vx0 type vxlan ttl 5
r ip link set vx0 type vxlan dstport 4790
r ip link set vx0 type vxlan ageing 100
r ip link set vx0 type vxlan nolearning
r ip -d link show vx0
r bridge fdb show dev vx0
r bridge fdb append 00:00:00:00:00:00 dev vx0 dst 10.0.0.4
r bridge fdb append 00:00:00:00:00:00 dev vx0 dst 10.0.0.4
r bridge fdb add 00:00:00:00:00:00 dev vx0 dst 10.0.0.5
r bridge fdb show dev vx0
r bridge fdb del 00:00:00:00:00:00 dev vx0 dst 10.0.0.3
r bridge fdb del 00:00:00:00:00:00 dev vx0 dst 10.0.0.4
r bridge fdb add 02:00:00:00:00:77 dev vx0 dst 10.0.0.5
r bridge fdb add 02:00:00:00:00:77 dev vx0 dst 10.0.0.6
r bridge fdb append 02:00:00:00:00:77 dev vx0 dst 10.0.0.6
r bridge fdb replace 02:00:00:00:00:77 dev vx0 dst 10.0.0.6 port 9 vni 7 via d0
r bridge fdb add 02:00:00:00:00:78 dev vx0
r sh -c "bridge fdb show dev vx0 | sort"
r bridge fdb del 02:00:00:00:00:77 dev vx0
r bridge fdb del 02:00:00:00:00:77 dev vx0
r bridge fdb show dev vx0
r ip link set vx0 up
r ip link show vx0
r ip link set vx0 down
r ip link del d0
r ip link
r ip link add vx3 address 02:00:00:00:00:e3 type vxlan id 50 dstport 4789 ttl inherit maxaddress 2
r ip -d link show vx3
r bridge fdb add 02:00:00:00:00:61 dev vx3 dst 10.0.0.1
r bridge fdb add 02:00:00:00:00:62 dev vx3 dst 10.0.0.1
r bridge fdb add 02:00:00:00:00:63 dev vx3 dst 10.0.0.1
r ip link set vx3 type vxlan ttl inherit
r ip link set vx3 type vxlan maxaddress 3
r ip link set vx3 type vxlan maxaddress 2
r ip link set vx3 type vxlan udp6zerocsumtx
r ip link set vx3 type vxlan udp6zerocsumrx
r ip link add vx4 address 02:00:00:00:00:e4 type vxlan id 51 dstport 4789 udp6zerocsumtx noudpcsum
r ip -d link show vx4
r ip link add vx5 address 02:00:00:00:00:e5 type vxlan id 52 dstport 4789 udp6zerocsumrx noudp6zerocsumtx maxaddress 0
r ip -d link show vx5
echo done
