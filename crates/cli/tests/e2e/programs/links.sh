# What `ip` and `bridge` of the distribution say about addresses, routes, neighbours, rules, links, bridges and namespaces;
# links.linux is what Linux 6.18 makes of it: unshare -rmn sh -c 'mount -t tmpfs t /run; sh links.sh'.
r() { echo "\$ $*"; "$@" 2>&1; c=$?; [ $c = 0 ] || echo "=> $c"; }
r ip link set lo up
r ip link add d0 address 02:00:00:00:00:d0 type veth peer name d1 address 02:00:00:00:00:d1
r ip link add d0 address 02:00:00:00:00:d0 type veth peer name d1 address 02:00:00:00:00:d1
r ip link set d0 up
r ip link set d1 up
r ip link show d0
r ip addr add 10.1.0.1/24 dev d0
r ip addr add 10.1.0.1/24 dev d0
r ip addr add 10.1.0.2/24 dev d0
r ip addr add 10.1.0.3/24 brd + dev d0
r ip addr add 10.2.0.1 dev d0
r ip addr add 10.3.0.1 peer 10.3.0.2 dev d0
r ip addr add 10.4.0.1/24 dev d0 label d0:x
r ip addr add 10.5.0.1/24 scope link dev d0
r ip addr add 10.1.0.1/24 dev nope
r ip addr add fd00::1/64 dev d0 nodad
r ip addr add fd00::1/64 dev d0
r ip addr show d0
r ip -4 -o addr
r ip addr del 10.1.0.9/24 dev d0
r ip addr del 10.1.0.1/24 dev d0
r ip addr del fd00::2/64 dev d0
r ip -4 addr show d0
r ip addr add 10.1.0.1/24 dev d0
r ip route
r ip route add 10.9.0.0/16 via 10.1.0.9
r ip route add 10.9.0.0/16 via 10.1.0.9
r ip route add 10.9.0.0/16 via 10.1.0.8 metric 5
r ip route add 10.10.0.0/16 via 192.0.2.1
r ip route add 10.10.0.1/16 via 10.1.0.9
r ip route add 10.11.0.0/16 via 10.1.0.1
r ip route add default via 10.1.0.254 dev d0 proto static
r ip route add unreachable 10.12.0.0/16
r ip route add blackhole 10.13.0.0/16
r ip route add prohibit 10.14.0.0/16
r ip route add 10.15.0.0/16 dev d0 src 10.1.0.1 mtu 1400
r ip route add 10.15.0.0/16 dev d0 src 10.77.0.1
r ip route add 10.16.0.0/16 nexthop via 10.1.0.7 weight 2 nexthop via 10.1.0.8
r ip route add 10.17.0.0/16 via 10.1.0.5 table 100
r ip route replace 10.9.0.0/16 via 10.1.0.10
r ip route append 10.9.0.0/16 via 10.1.0.11
r ip route change 10.99.0.0/16 via 10.1.0.11
r ip route show
r ip route show table 100
r ip route show table local
r ip route show table all
r ip route get 10.9.1.1
r ip route get 10.1.0.77
r ip route get 10.1.0.1
r ip route get 127.0.0.1
r ip route get 10.12.0.1
r ip route get 10.13.0.1
r ip route get 10.14.0.1
r ip route get 10.15.0.1
r ip route get 8.8.8.8 from 10.1.0.1
r ip route get 8.8.8.8 from 10.99.0.1
r ip route get 8.8.8.8 oif d0
r ip route get fd00::9
r ip route get 2001:db8::1
r ip route del 10.9.0.0/16 metric 5
r ip route del 10.9.0.0/16 via 10.1.0.99
r ip route del 10.9.0.0/16
r ip route del 10.98.0.0/16
r ip -6 route
r ip -6 route add 2001:db8::/32 via fd00::9
r ip -6 route add 2001:db8::/32 via fd00::9
r ip -6 route add 2001:db9::/32 via fd99::9
r ip -6 route add default via fd00::8 dev d0 metric 7
r ip -6 route add unreachable 2001:dba::/32
r ip -6 route
r ip -6 route del 2001:db8::/32
r ip -6 route del 2001:db8::/32
r ip route flush table 100
r ip route show table 100
r ip neigh add 10.1.0.5 lladdr 02:00:00:00:00:05 dev d0
r ip neigh add 10.1.0.5 lladdr 02:00:00:00:00:05 dev d0
r ip neigh replace 10.1.0.5 lladdr 02:00:00:00:00:55 dev d0
r ip neigh change 10.1.0.99 lladdr 02:00:00:00:00:55 dev d0
r ip neigh show
r ip neigh get 10.1.0.5 dev d0
r ip neigh get 10.1.0.88 dev d0
r ip neigh del 10.1.0.5 dev d0
r ip neigh del 10.1.0.5 dev d0
r ip neigh show
r ip rule
r ip rule add from 10.1.0.0/16 lookup 100 pref 7
r ip rule add from 10.1.0.0/16 lookup 100 pref 7
r ip rule add fwmark 0x10/0xff prohibit
r ip rule add to 10.2.0.0/16 iif d0 table main
r ip rule add oif d0 unreachable pref 9
r ip rule add iif nope table 7 pref 12
r ip rule add tos 0x10 blackhole pref 23
r ip rule add not from 10.9.0.0/16 lookup main pref 24
r ip rule
r ip -6 rule
r ip rule del pref 7
r ip rule del pref 7
r ip rule del fwmark 0x10/0xff prohibit
r ip rule flush
r ip rule
r ip rule add lookup main pref 32766
r ip link set d0 mtu 1400
r ip link set d0 mtu 60
r ip link set d0 mtu 70000
r ip link set d0 txqueuelen 77
r ip link set d0 down
r ip link set d0 name dd
r ip link set nope up
r ip link set dd alias hello
r ip link set dd promisc on
r ip link set dd allmulticast on
r ip link set dd multicast off
r ip link set dd arp off
r ip link set dd address 01:00:00:00:00:01
r ip link set dd group 5
r ip link show dd
r ip link add link dd name v0 type bogus
r ip link del dd
r ip link add br0 address 02:00:00:00:00:b0 type bridge
r ip link add a0 address 02:00:00:00:00:a0 type veth peer name a1 address 02:00:00:00:00:a1
r ip link add b0 address 02:00:00:00:00:b1 mtu 1400 type veth peer name b1
r ip link add v type veth peer name v
r ip link add vv type veth peer name br0
r ip link set a0 master br0
r ip link set b0 master br0
r ip link set lo master br0
r ip link set br0 master br0
r ip link show br0
r ip link show b0
r ip link set a0 up
r ip link show a0
r ip link set a1 up
r ip link show a0
r ip link set br0 up
r ip link show br0
r bridge link
r bridge fdb add 02:00:00:00:00:77 dev a0 master
r bridge fdb add 02:00:00:00:00:77 dev a0 master
r bridge fdb add 02:00:00:00:00:78 dev a0 master static
r bridge fdb del 02:00:00:00:00:77 dev a0 master
r bridge fdb del 02:00:00:00:00:77 dev a0 master
r bridge link set dev a0 learning off hairpin on
r bridge link show dev a0
r ip link set br0 type bridge ageing_time 1000
r ip link set a0 master a1
r ip link show a0
r bridge link
r bridge link set dev a0 learning off
r ip link del b1
r ip link set a1 down
r ip link show a0
r ip link del br0
r ip link show type veth
r ip link show type bridge
r ip netns add blue
r ip netns add blue
r ip netns add red
r ip link add br0 address 02:00:00:00:00:b0 type bridge
r ip link set br0 up
r ip addr add 10.8.0.1/24 dev br0
for n in blue red; do
r ip link add p-$n type veth peer name eth0 netns $n
r ip link set p-$n master br0
r ip link set p-$n up
r ip -n $n link set eth0 up
done
r ip -n blue addr add 10.8.0.2/24 dev eth0
r ip -n red addr add 10.8.0.3/24 dev eth0
r ip netns exec blue ip route add default via 10.8.0.1
r ip netns exec red ip route
r ip netns exec blue ip -4 -br addr
r ip link add v0 address 02:00:00:00:00:d0 type veth peer name v1 address 02:00:00:00:00:d1
r ip link set v1 netns red
r ip link show v0
r ip -n red link show v1
r ip -n red link set v1 netns nowhere
r ip link set lo netns red
r ip link set br0 netns red
r ip netns exec blue sh -c 'ip -br link show eth0 type veth | cut -c1-20'
r ip netns exec nowhere true
r ip netns del nowhere
r ip netns del red
# Linux takes the devices of a namespace away a moment later.
for _ in $(seq 200); do ip link show v0 >/dev/null 2>&1 || break; sleep 0.05; done
r ip -br link show v0
r ip netns del blue
