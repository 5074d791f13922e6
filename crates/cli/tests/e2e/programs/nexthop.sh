# Next hops as objects by the distribution's ip: made, shown, in groups, named by routes, changed, and gone with their devices. The same
# in a network namespace and in a jar.
exec 2>&1
PATH=$PATH:/usr/sbin:/sbin
t() { echo "\$ ip $*"; ip "$@" 2>&1; }
ip link set lo up; ip netns add nhop
for n in 0 1; do
    ip link add d$n type veth peer name e$n netns nhop
    ip addr add 10.$((n + 1)).0.1/24 dev d$n; ip link set d$n up
    ip -n nhop addr add 10.$((n + 1)).0.2/24 dev e$n; ip -n nhop link set e$n up
    ip -6 addr add fd0$((n + 1))::1/64 dev d$n nodad
done
m=$(mktemp)
ip monitor nexthop > $m & mon=$!
# Until it listens.
until ip nexthop add id 77 blackhole && grep -q 77 $m; do ip nexthop del id 77; done
ip nexthop del id 77
t nexthop add id 1 via 10.1.0.2 dev d0
t nexthop add id 2 via 10.2.0.2 dev d1
t nexthop add id 1 via 10.1.0.2 dev d0
t nexthop add id 3 via 10.9.0.2 dev d0
t nexthop add id 3 via 10.9.0.2 dev d0 onlink
t nexthop add id 4 blackhole
t nexthop add id 5 dev d0
t nexthop add id 6 via fd01::2 dev d0
t nexthop add id 60 via fd02::2 dev d1
t -6 nexthop add id 61 blackhole
t nexthop add id 8 via 10.1.0.4
t nexthop add id 10 group 1/2
t nexthop add id 11 group 1,3/2,7
t nexthop add id 12 group 99
t nexthop add id 13 group 10
t nexthop add id 14 group 1/4
t nexthop add id 15 group 6,2/60
t nexthop add id 16 group 1/1
t nexthop add id 18 group 1,256
t nexthop add id 18 group 1,255/2,256
t nexthop
t -d nexthop
t nexthop get id 1
t nexthop get id 99
t nexthop list groups
t nexthop list dev d0
t -6 nexthop
t -4 nexthop
t nexthop list id 1
t route add 10.50.0.0/16 nhid 1
t route add 10.51.0.0/16 nhid 10
t route add 10.52.0.0/16 nhid 4
t route add 10.53.0.0/16 nhid 99
t route add 10.55.0.0/16 nhid 5
t route add 10.56.0.0/16 nhid 1 via 10.1.0.2
t route add 10.57.0.0/16 nhid 1 mtu 1400 metric 5
t route add 10.58.0.0/16 nhid 11
t route add 10.50.0.0/16 nhid 2
t route replace 10.50.0.0/16 nhid 1
t -6 route add fd50::/64 nhid 6
t -6 route add fd51::/64 nhid 1
t -6 route add fd53::/64 nhid 15
t -6 route add fd54::/64 nhid 6 metric 7
t route
t -d route
t -6 route
t route get 10.50.0.1
t route get 10.52.0.1
t route get fibmatch 10.51.0.1
t -6 route get fd50::1
cat /proc/net/route | sed 's/ *$//'
t nexthop replace id 1 via 10.1.0.7 dev d0
t route get 10.50.0.1
t nexthop replace id 10 group 2
t route get 10.51.0.1
t nexthop replace id 1 blackhole
t nexthop replace id 1 group 2
t nexthop replace id 10 via 10.1.0.2 dev d0
t nexthop replace id 4 via 10.1.0.9 dev d0
t nexthop replace id 6 via fd01::9 dev d0
t route; t -6 route
t route del 10.57.0.0/16 nhid 1
t nexthop del id 2
t nexthop
t route; t -6 route
t nexthop del id 99
t nexthop del id 1
t route
t nexthop flush
t nexthop
t route; t -6 route
t nexthop add id 1 via 10.1.0.2 dev d0
t nexthop add id 2 via 10.2.0.2 dev d1
t nexthop add id 10 group 1,3/2,7
t route add 10.51.0.0/16 nhid 10
t route add 10.50.0.0/16 nhid 1
t link set d0 down
t nexthop; t route
t link set d0 up
t nexthop; t route
ip -n nhop link set e1 down
sleep 1.5
t nexthop; t route
t nexthop add id 3 via 10.2.0.2 dev d1
ip link set d0 down
t nexthop add id 3 via 10.1.0.2 dev d0
ip link set d0 up
t nexthop add id 20 via 10.1.0.2 dev d0 protocol static
t nexthop add via 10.1.0.3 dev d0
t nexthop add via 10.1.0.4 dev d0
t route add 10.70.0.0/16 nhid 20
ip -n nhop addr add 10.70.0.1/32 dev e0
ping -c 1 -q 10.70.0.1 | grep received
ip link del d0
t nexthop; t route
sleep 0.2; kill $mon; grep -v 77 $m; rm $m
ip netns del nhop
echo done
