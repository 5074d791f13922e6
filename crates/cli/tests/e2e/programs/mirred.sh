# What `tc` of the distribution says about packets that filters send to other devices. Without the kernel's parts for it: no more
# than the word by which the test knows.
exec 2>&1
r() { echo "\$ $*"; "$@" | sed 's/ installed [0-9]* sec//; s/ used [0-9]* sec//; s/ firstused [0-9]* sec//'; }
ip link add i0 address 02:00:00:00:00:10 type ifb && ip link add d0 address 02:00:00:00:00:d0 type veth peer name d1 address 02:00:00:00:00:d1 &&
    tc qdisc add dev d1 ingress && tc filter add dev d1 ingress protocol ip prio 1 u32 match u32 0 0 action mirred egress redirect dev i0 || { echo Unknown device type; exit; }
for d in all i0 d0 d1; do echo 1 > /proc/sys/net/ipv6/conf/$d/disable_ipv6; done
for d in lo i0 d0 d1; do ip link set $d up; done
ip addr add 10.0.0.1/24 dev d0; ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:d1 dev d0
r ip -d link show i0
for n in 1 2 3; do ping -c 1 -W 0.2 -s 100 10.0.0.2 >/dev/null & done; sleep 0.4
r tc -s filter show dev d1 ingress
r tc -s qdisc show dev i0
r tc -s qdisc show dev d1
r ip -s link show i0
r tc -j filter show dev d1 ingress
r tc actions ls action mirred
r tc actions get action mirred index 1
r tc filter del dev d1 ingress; sleep 0.3
r tc filter add dev d1 ingress protocol ip prio 7 u32 match u32 0 0 action mirred egress mirror dev i0 pipe action mirred ingress redirect dev lo index 9 cookie 00ff
r tc filter add dev d1 ingress protocol ip prio 8 u32 match ip dport 9 0xffff flowid 1:1 action mirred egress mirror dev i0 continue
r tc filter add dev d1 ingress protocol ip prio 9 u32 match u32 0 0 action mirred index 9
r tc filter add dev d1 ingress protocol ip prio 10 u32 match u32 0 0 action mirred index 10
r tc filter show dev d1 ingress
for n in 1 2; do ping -c 1 -W 0.2 -s 100 10.0.0.2 >/dev/null & done; sleep 0.4
r tc -s filter show dev d1 ingress
r tc -s qdisc show dev d1
r ip -s link show i0
r tc actions add action mirred egress mirror dev i0 index 9
r tc actions add action mirred egress mirror dev i0 index 20
r tc actions del action mirred index 20
r tc actions del action mirred index 21
# Two that send to each other: the fifth time is too much.
tc qdisc add dev d0 clsact; tc qdisc add dev i0 clsact
tc filter add dev d0 egress protocol ip u32 match u32 0 0 action mirred egress redirect dev i0
tc filter add dev i0 egress protocol ip u32 match u32 0 0 action mirred egress redirect dev d0
ping -c 1 -W 0.2 10.0.0.2 >/dev/null
r tc -s filter show dev d0 egress
r tc -s filter show dev i0 egress
r tc -s qdisc show dev d0
r ip link del i0
r tc filter show dev d0 egress
r ip link show dev lo
echo done
