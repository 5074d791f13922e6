# The spanning tree, groups and ports of a bridge, and rules of IPv6: the same lines on Linux and on belljar.
d() { echo "$ $*"; "$@" 2>&1; }
d ip link add br0 address 02:00:00:00:00:10 type bridge
ip link add v0 address 02:00:00:00:00:a0 type veth peer name w0
ip link add v1 address 02:00:00:00:00:a1 type veth peer name w1
for n in 0 1; do ip link set v$n master br0; ip link set v$n up; done
d bridge link
ip link set br0 up; ip link set w0 up
n=0; until bridge link | grep -q forwarding || [ $n -gt 500 ]; do n=$((n + 1)); done
d bridge link
d bridge mdb add dev br0 port v0 grp 239.1.1.1 permanent
d bridge mdb add dev br0 port v0 grp 239.1.1.1 permanent
d bridge mdb add dev br0 port v0 grp 239.1.1.9 src 10.0.0.9 permanent
d bridge mdb add dev br0 port v0 grp 01:02:03:04:05:06 permanent
d bridge mdb add dev br0 port v1 grp 239.1.1.2
d bridge mdb add dev br0 port br0 grp 239.1.1.3
d bridge mdb add dev br0 port br0 grp 239.1.1.4 permanent
d bridge mdb add dev br0 port v0 grp 224.0.0.5 permanent
d bridge mdb add dev br0 port v0 grp ff02::1 permanent
d bridge mdb add dev br0 port lo grp 239.1.1.3
d bridge mdb add dev v0 port v0 grp 239.1.1.3
d bridge mdb del dev br0 port v1 grp 239.1.1.1
d bridge link set dev v0 mcast_router 2 fastleave on
echo '$ bridge mdb'; bridge -d mdb | grep -v ff02
d bridge mdb del dev br0 port v0 grp 239.1.1.1
for s in 'mcast_router 3' 'mcast_igmp_version 4' 'mcast_mld_version 3' 'mcast_vlan_snooping 1' 'mcast_querier 1' \
    'mcast_igmp_version 3' 'mcast_membership_interval 700' 'mcast_hash_max 64' 'stp_state 1' 'forward_delay 100' \
    'hello_time 2000' 'max_age 100' 'forward_delay 400' 'priority 4096'; do d ip link set br0 type bridge $s; done
echo '$ ip -d link show br0'
ip -d link show br0 | grep -o 'forward_delay [0-9]* hello_time [0-9]* max_age [0-9]*\|stp_state [01] priority [0-9]*\|bridge_id.*root_path_cost [0-9]*\|mcast_snooping.*mcast_mld_version [12]'
d ip link set v0 type bridge_slave cost 10 priority 16 hairpin on isolated on
d ip link set v0 type bridge_slave cost 70000
d bridge link set dev v0 state 4
d bridge link set dev v1 priority 64
echo '$ bridge -d link'; bridge -d link | sed 's/cost \([0-9]*\) $/cost \1/'
d ip -6 rule add from fd00::/8 lookup 100
d ip -6 rule add to fd02::/16 prohibit pref 50
d ip -6 rule add fwmark 5/0xff unreachable pref 60
d ip -6 rule add oif nosuch blackhole pref 80
d ip -6 rule add lookup main suppress_prefixlength 0 pref 90
d ip -6 rule add not from fd03::/16 lookup 7 pref 95
d ip -6 rule
d ip -6 route get fd02::1
d ip -6 route get fd05::1 mark 5
d ip -6 rule del from fd00::/8 lookup 100
d ip -6 rule del from fd00::/8 lookup 100
d ip -6 rule flush
d ip -6 rule
ip link del br0; ip link del v0; ip link del v1
echo done
