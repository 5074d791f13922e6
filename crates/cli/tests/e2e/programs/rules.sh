# Policy rules by protocol, ports, users and jumps, and what `ip route get` says then: the same lines on Linux and on belljar.
say() { echo "\$ $*"; "$@" 2>&1; }
ip link set lo up
ip link add v0 address 02:00:00:00:00:01 type veth peer name v1 address 02:00:00:00:00:02
ip link set v0 up; ip link set v1 up
ip addr add 10.1.0.1/24 dev v0
ip -6 addr add fd01::1/64 dev v0 nodad
ip route add default via 10.1.0.254
ip -6 route add default via fd01::fe
for n in 1 2 3 4 5 6; do
    ip route add default via 10.1.0.$((100 + n)) table $n
    ip -6 route add default via fd01::10$n table $n
done
for f in -4 -6; do
    to=203.0.113.9 icmp=icmp; [ $f = -6 ] && to=2001:db8::9 icmp=ipv6-icmp
    get() { echo "\$ get $*"; ip $f route get $to "$@" 2>&1 | sed 's/ uid [0-9]*//; s/ *cache *//' | head -n 1; }
    say ip $f rule add ipproto tcp dport 443 lookup 1 pref 100
    say ip $f rule add ipproto udp sport 1000-2000 lookup 2 pref 110
    say ip $f rule add ipproto 132 lookup 3 pref 120
    say ip $f rule add uidrange 0-0 ipproto $icmp lookup 4 pref 130
    say ip $f rule add dport 8000-8100 ipproto tcp sport 5000-6000 lookup 5 pref 140
    say ip $f rule add ipproto tcp dport 443 lookup 1 pref 100
    say ip $f rule add ipproto tcp dport 443 lookup 2 pref 100
    say ip $f rule add not ipproto tcp dport 22 sport 23 lookup 6 pref 150
    say ip $f rule del not ipproto tcp dport 22 sport 23 lookup 6 pref 150
    say ip $f rule add dport 0 lookup 1
    say ip $f rule add dport 9-8 lookup 1
    say ip $f rule add dport 70000 lookup 1
    say ip $f rule add uidrange 9-8 lookup 1
    say ip $f rule
    get ipproto tcp dport 443
    get ipproto tcp dport 444
    get ipproto udp dport 443
    get ipproto udp sport 1000 dport 53
    get ipproto udp sport 2000 dport 53
    get ipproto udp sport 2001 dport 53
    get ipproto udp sport 999 dport 53
    get ipproto tcp sport 5500 dport 8050
    get ipproto tcp sport 5500 dport 8101
    get ipproto tcp sport 4999 dport 8050
    get ipproto $icmp
    get ipproto $icmp uid 0
    get ipproto dccp
    get ipproto icmp
    get ipproto ipv6-icmp
    get
    say ip $f rule add goto 300 pref 200
    say ip $f rule add nop pref 210
    say ip $f rule add goto 90 pref 220
    say ip $f rule add goto 220 pref 220
    say ip $f rule add goto 400
    say ip $f rule add prohibit pref 250
    say ip $f rule
    get
    say ip $f rule add nop pref 300
    say ip $f rule
    get
    say ip $f rule add goto 400 pref 200
    say ip $f rule add iif v1 goto 300 pref 201
    say ip $f rule del goto 300 pref 200
    get
    say ip $f rule del pref 250
    say ip $f rule add nop pref 300 ipproto tcp
    say ip $f rule del pref 300
    say ip $f rule
    say ip $f rule del nop
    say ip $f rule del pref 300
    say ip $f rule
    say ip $f rule del ipproto udp
    say ip $f rule del dport 443
    say ip $f rule del dport 443 ipproto tcp
    say ip $f rule del sport 5000-6000
    say ip $f rule del uidrange 0-1
    say ip $f rule del uidrange 0-0
    say ip $f rule del ipproto 132
    say ip $f rule
    ip $f rule flush; ip $f rule add pref 32766 lookup main; [ $f = -4 ] && ip rule add pref 32767 lookup default
    echo "\$ save"
    ip $f rule add ipproto icmp lookup 1 pref 7; ip $f rule add uidrange 0-0 sport 1-2 dport 3 lookup 2 pref 8
    ip $f rule add goto 8 pref 6
    ip $f -j rule 2>&1
    ip -d $f rule
    ip $f rule del pref 6; ip $f rule del pref 7; ip $f rule del pref 8
done
say ip route get fibmatch 203.0.113.9
say ip route get fibmatch 10.1.0.7
say ip route get fibmatch 10.1.0.1
say ip route get fibmatch 127.0.0.1
say ip route get fibmatch 255.255.255.255
say ip route get fibmatch 224.0.0.1
ip route add 10.9.0.0/16 proto static metric 5 via 10.1.0.9 mtu 1400
ip route add unreachable 10.8.0.0/16
ip route add 10.7.0.0/16 nexthop via 10.1.0.2 weight 2 nexthop via 10.1.0.3
say ip route get fibmatch 10.9.1.1
say ip route get fibmatch 10.8.1.1
say ip route get fibmatch 10.7.1.1
say ip route get fibmatch 10.9.1.1 oif v0
say ip route get fibmatch 10.9.1.1 from 10.1.0.1
say ip -6 route get fibmatch 2001:db8::9
say ip -6 route get fibmatch fd01::7
say ip -6 route get fibmatch fd01::1
say ip -6 route get fibmatch ::1
ip -6 route add 2001:db8:9::/48 proto static metric 5 via fd01::9 mtu 1400
ip -6 route add unreachable 2001:db8:8::/48
say ip -6 route get fibmatch 2001:db8:9::1
say ip -6 route get fibmatch 2001:db8:8::1
ip rule add pref 50 lookup 3
say ip route get fibmatch 203.0.113.9
say ip route get 203.0.113.9 fibmatch
echo done
