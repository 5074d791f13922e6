# What settings of routers, of next hops and of loggers do, as settings.sh: the same lines on Linux and on belljar.
frames=$(realpath "$(dirname "$0")/frames.py")
cd /proc/sys/net
set_() { echo "\$ $1 = $2"; { echo "$2" > "$1"; } 2>/dev/null; }
ask() { python3 -c "
exec(open('$frames').read())
$1"; }
ip link set lo up
ip link add v0 address 02:00:00:00:00:01 type veth peer name v1 address 02:00:00:00:00:02
ip link add v2 address 02:00:00:00:00:03 type veth peer name v3 address 02:00:00:00:00:04
for d in v1 v3; do echo 1 > ipv6/conf/$d/disable_ipv6; done
for d in v0 v2; do echo 0 > ipv6/conf/$d/disable_ipv6; echo 0 > ipv6/conf/$d/accept_dad; done
for d in v0 v1 v2 v3; do ip link set $d up; done
ip addr add fd02::1/64 dev v2 nodad
sleep 0.3

echo "# forwarding"
ip addr add fd01::1/64 dev v0 nodad
ip -6 neigh replace fd02::9 lladdr 02:00:00:00:00:04 dev v2 nud permanent
fwd() { ask "
s, t = wire('v1'), wire('v3')
send(s, ip6('fd01::9', 'fd02::9', bytes.fromhex('8000000000000000')), kind=0x86dd)
print(len(heard(t, lambda f: 1 if f[12:14] == b'\x86\xdd' and f[38:54] == v6('fd02::9') else None)))
"; }
fwd
set_ ipv6/conf/v0/forwarding 1
fwd
set_ ipv6/conf/v0/forwarding 0
set_ ipv6/conf/v0/force_forwarding 1
fwd
set_ ipv6/conf/v0/force_forwarding 0
set_ ipv6/conf/all/forwarding 1
fwd
set_ ipv6/conf/v0/forwarding 0
fwd
ping6() { ask "
s = wire('v1')
send(s, ip6('fd01::9', 'fd01::', bytes.fromhex('8000000000000000')), kind=0x86dd)
print(heard(s, lambda f: socket.inet_ntop(10, f[22:38]) if f[12:14] == b'\x86\xdd' and f[54] == 129 else None))
"; }
set_ ipv6/conf/v0/forwarding 1
ip -6 neigh replace fd01::9 lladdr 02:00:00:00:00:02 dev v0 nud permanent
ping6
set_ ipv6/anycast_src_echo_reply 1
ping6
port6() { ask "
s = wire('v1')
send(s, ip6('$1', '$2', struct.pack('!HHHH', 9, 9, 8, 0), proto=17), kind=0x86dd)
print(heard(s, lambda f: socket.inet_ntop(10, f[22:38]) if f[12:14] == b'\x86\xdd' and f[54] == 1 else None))
"; }
port6 fd01::9 fd01::
set_ ipv6/conf/all/forwarding 0
ip -6 neigh replace fd01:: lladdr 02:00:00:00:00:02 dev v0 nud permanent
port6 fd01:: fd01::1
set_ ipv6/icmp/error_anycast_as_unicast 1
port6 fd01:: fd01::1

echo "# broadcasts"
ip addr add 10.1.0.1/24 dev v0; ip addr add 10.2.0.1/24 dev v2
directed() { ask "
s, t = wire('v1'), wire('v3')
send(s, ip4('10.1.0.9', '10.2.0.255', 17, struct.pack('!HHHH', 9, 9, 8, 0)))
print(heard(t, lambda f: (f[:6].hex(), f[22]) if f[12:14] == b'\x08\x00' and f[23] == 17 else None))
"; }
directed
set_ ipv4/conf/all/bc_forwarding 1
directed
set_ ipv4/conf/v0/bc_forwarding 1
directed
set_ ipv4/conf/all/bc_forwarding 0
directed

echo "# carrier"
ip route add 198.51.100.0/24 via 10.1.0.9; ip -6 route add fd09::/64 via fd01::9 dev v0; ip -6 route add fd09::/64 via fd02::9 dev v2 metric 2000
ip link set v1 down; sleep 1.2
show() { ip route show 198.51.100.0/24; ip -6 route show fd09::/64; ip -6 route get fd09::1 | sed 's/ metric.*//'; }
show
set_ ipv6/conf/v0/ignore_routes_with_linkdown 1
set_ ipv4/conf/v0/ignore_routes_with_linkdown 1
show
ip link set v1 up
sleep 1.2
ip -6 route get fd09::1 | sed 's/ metric.*//'

echo "# next hops"
ip nexthop add id 5 via 10.1.0.9 dev v0
ip -6 nexthop add id 6 via fd01::9 dev v0
ip nexthop add id 7 group 5
ip route add 203.0.113.0/24 nhid 5; ip route add 203.0.114.0/24 nhid 7
ip -6 route add fd0a::/64 nhid 6
hops() { ip route show 203.0.113.0/24; ip route show 203.0.114.0/24; ip -6 route show fd0a::/64; }
news() { (timeout 1 ip monitor route & sleep 0.4; "$@"; wait) 2>/dev/null; }
hops
news ip nexthop replace id 5 via 10.1.0.8 dev v0
news ip -6 nexthop replace id 6 via fd01::8 dev v0
set_ ipv4/nexthop_compat_mode 0
hops
news ip nexthop replace id 5 via 10.1.0.7 dev v0
ip route get 203.0.113.1 | head -n 1 | sed 's/ uid 0//; s/ *cache//'

echo "# queues"
for mask in 1 3 1,3 4 0 x; do set_ core/rps_default_mask $mask; done
cat core/rps_default_mask

echo "# loggers"
for n in 2 10 7 0; do
    for to in nfnetlink_log NONE nf_log_ipv6 nonsense nf_log_ipv4; do set_ netfilter/nf_log/$n $to; cat netfilter/nf_log/$n; done
done
for key in nf_conntrack_expect_max nf_conntrack_buckets; do cat netfilter/$key; done
iptables -A INPUT -m conntrack --ctstate INVALID -j DROP
set_ netfilter/nf_conntrack_log_invalid 255
# Who listens for packets of rules binds its family as well.
set_ netfilter/nf_log/2 NONE
(timeout 3 tcpdump -lnti nflog:0 2>/dev/null & sleep 1.5; ask "
s = wire('v1')
send(s, ip4('10.1.0.9', '10.1.0.1', 6, tcp('10.1.0.9', '10.1.0.1', 300, 80, 1, 3)))"; wait)
cat netfilter/nf_log/2

echo "# pieces"
# What connections are tracked by is whole before the tables see it, and leaves as it came.
set_ ipv6/conf/all/forwarding 1
for chain in INPUT FORWARD; do ip6tables -A $chain -p udp --dport 9 -m conntrack --ctstate NEW; done
count() { for chain in INPUT FORWARD; do ip6tables -nvxL $chain | awk '/udp/ { print $1, $2 }'; done; }
pieces() { ask "
s, t = wire('v1'), wire('v3')
body = struct.pack('!HHHH', 9, 9, 8 + 2000, 0) + bytes(2000)
for n, p in enumerate(fragments('fd01::9', '$1', body, 1000, proto=17)):
    if n == 2: time.sleep($2)
    send(s, p, kind=0x86dd)
print(heard(t, lambda f: len(f) if f[12:14] == b'\x86\xdd' and f[38:54] == v6('fd02::9') else None))
"; count; grep -E 'Ip6Reasm|Ip6Frag' /proc/net/snmp6 | awk '$2 > 0 { print $1, $2 }'; }
pieces fd01::1 0
pieces fd02::9 0
set_ netfilter/nf_conntrack_frag6_timeout 1
pieces fd02::9 1.5
set_ netfilter/nf_conntrack_frag6_low_thresh 0
set_ netfilter/nf_conntrack_frag6_high_thresh 0
pieces fd02::9 0
cat netfilter/nf_conntrack_frag6_low_thresh netfilter/nf_conntrack_frag6_high_thresh
echo done
