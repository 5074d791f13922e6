# The families bridge and arp of nf_tables, in a network namespace and in a jar: what is taken and refused, and what rules see of
# frames between two hosts of a bridge.
exec 2>&1
PATH=$PATH:/usr/sbin:/sbin
t() { echo "\$ nft $*"; nft "$@" 2>&1; }
for n in bnta bntb; do ip netns add $n; done
ip link add br0 type bridge
ip link set br0 address 02:00:00:00:00:01 up
ip addr add 10.9.0.1/24 dev br0
i=2
for n in a b; do
    ip link add v$n type veth peer name eth0 netns bnt$n
    ip link set v$n master br0 up
    ip -n bnt$n link set eth0 address 02:00:00:00:00:0$i
    ip -n bnt$n link set lo up; ip netns exec bnt$n sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1
    ip -n bnt$n link set eth0 up
    ip -n bnt$n addr add 10.9.0.$i/24 dev eth0
    ip -n bnt$n neigh add 10.9.0.1 lladdr 02:00:00:00:00:01 dev eth0
    ip -n bnt$n neigh add 10.9.0.$((5 - i)) lladdr 02:00:00:00:00:0$((5 - i)) dev eth0
    ip neigh add 10.9.0.$i lladdr 02:00:00:00:00:0$i dev br0
    i=$((i + 1))
done
sysctl -qw net.ipv6.conf.br0.disable_ipv6=1
for h in prerouting input forward output postrouting ingress; do
    t "add table bridge t; add chain bridge t $h { type filter hook $h priority filter; }"
done
t 'add chain bridge t n { type nat hook prerouting priority 0; }'
t 'add chain bridge t r { type route hook output priority 0; }'
t 'add chain bridge t x { type filter hook prerouting priority dstnat + 5; policy drop; }'
t 'add chain bridge t x { type filter hook prerouting priority dstnat + 5; policy accept; }'
while read -r r; do t add rule bridge t prerouting $r; done <<R
ether saddr 02:00:00:00:00:02 ether daddr ff:ff:ff:ff:ff:ff counter
vlan id 7 counter
vlan id 7 vlan pcp 3 ip saddr 10.0.0.1 counter
ether type arp counter
arp operation request arp saddr ip 10.9.0.2 arp daddr ether 02:00:00:00:00:01 counter
ip saddr 10.0.0.1 tcp dport { 80, 443 } counter accept
ip6 daddr fd00::/8 icmpv6 type echo-request drop
meta protocol ip meta l4proto udp th dport 53 counter
iifname "va" counter
meta ibrname "br0" counter
meta pkttype broadcast counter
ct state new counter
reject
log prefix "x " counter
log group 3
limit rate 5/second counter
queue num 1
notrack
meta mark set 5
ether daddr set 02:00:00:00:00:09
meta pkttype set host
fib daddr type local
numgen inc mod 2 0
quota over 5 bytes drop
ip dscp set cs1
ip ttl 64 counter
tcp option maxseg size 1000 counter
R
t add rule bridge t forward meta pkttype set host
t list table bridge t
nft delete table bridge t
t 'add table arp t; add chain arp t i { type filter hook input priority 0; }; add chain arp t o { type filter hook output priority -5; }'
for h in forward prerouting; do t "add chain arp t $h { type filter hook $h priority filter; }"; done
while read -r r; do t add rule arp t i $r; done <<R
arp operation request counter
arp operation reply arp saddr ip 10.0.0.1 arp daddr ether 02:00:00:00:00:01 counter
arp htype 1 arp ptype ip arp hlen 6 arp plen 4 counter
ether saddr 02:00:00:00:00:02 counter
meta protocol arp counter
ct state new counter
limit rate 5/second counter
notrack
arp operation set reply
arp saddr ip set 10.0.0.7
fib saddr type local
arp saddr ip { 10.0.0.1, 10.0.0.9 } accept
R
t list table arp t
nft delete table arp t
echo '$ what frames meet'
nft -f - <<'R'
table bridge t {
    set seen { type ether_addr; flags dynamic; size 16; }
    chain pre { type filter hook prerouting priority -300
        ip protocol icmp counter
        iifname "va" ip protocol icmp ether saddr 02:00:00:00:00:02 counter
        ether type arp counter
        ip protocol icmp meta length 84 counter
        ip protocol icmp add @seen { ether saddr }
        meta protocol ip icmp type echo-request ip daddr 10.9.0.1 counter
   
    }
    chain in { type filter hook input priority 0
        ip protocol icmp iifname "va" counter
        ip protocol icmp meta pkttype host counter
    }
    chain forward { type filter hook forward priority 0
        ip protocol icmp iifname "va" oifname "vb" counter
        ip protocol icmp iifname "vb" oifname "va" counter
        ip protocol icmp meta pkttype other counter
        arp operation request counter
        udp dport 9 counter drop
    }
    chain more {
        type filter hook forward priority 0
        ip protocol icmp counter accept
    }
    chain out { type filter hook output priority 100
        ip protocol icmp oifname "va" counter
        ip protocol icmp iifname "va" counter
    }
    chain post { type filter hook postrouting priority 300
        ip protocol icmp oifname { "va", "vb" } counter
        ip protocol icmp meta length 84 counter
    }
}
R
ping1() { ip netns exec bnta ping -c 1 -q -W 1 $1 | grep received; }
ping1 10.9.0.3
ping1 10.9.0.1
ip netns exec bnta python3 -c 'import socket; socket.socket(2, 2).sendto(b"x", ("10.9.0.3", 9))'
nft list table bridge t
nft delete table bridge t
echo '$ addresses changed'
nft -f - <<'R'
table bridge t {
    chain pre { type filter hook prerouting priority dstnat
        ip daddr 10.9.0.66 counter ether daddr set 02:00:00:00:00:03
    }
    chain post { type filter hook postrouting priority srcnat; ip daddr 10.9.0.66 ether saddr set 02:00:00:00:00:55 counter
    }
}
R
ip -n bntb addr add 10.9.0.66/32 dev eth0
ip -n bnta neigh add 10.9.0.66 lladdr 02:00:00:00:00:99 dev eth0
ip netns exec bntb nft 'add table netdev t; add chain netdev t c { type filter hook ingress device eth0 priority 0; }
add rule netdev t c ip daddr 10.9.0.66 ether saddr 02:00:00:00:00:55 ether daddr 02:00:00:00:00:03 counter'
ping1 10.9.0.66
nft list table bridge t; ip netns exec bntb nft list chain netdev t c
nft delete table bridge t
echo '$ a policy'
nft 'add table bridge t; add chain bridge t c { type filter hook forward priority 0; policy drop; }
add rule bridge t c ip saddr 10.9.0.3 accept'
ping1 10.9.0.3; ping1 10.9.0.1
nft delete table bridge t
echo '$ what ARP says and hears'
nft -f - <<'R'
table arp t {
    chain i { type filter hook input priority 0
        counter
        meta length 28 counter
        arp operation reply counter
        ether type arp counter
        meta pkttype host counter
        arp saddr ip 10.9.0.3 iifname "br0" counter
    }
    chain o { type filter hook output priority 0
        counter
        meta length 42 counter
        arp operation request oifname "br0" counter
        ether daddr ff:ff:ff:ff:ff:ff counter
        ether type arp counter
    }
}
R
ip neigh del 10.9.0.3 dev br0
ping -c 1 -q 10.9.0.3 | grep received
nft list table arp t
nft flush table arp t; nft add rule arp t i arp saddr ip 10.9.0.3 counter drop
ip neigh flush dev br0
ping -c 1 -q -W 1 10.9.0.3 | grep received
nft list table arp t | sed 's/packets [1-9][0-9]* bytes [0-9]*/counted/'
nft delete table arp t
ip neigh replace 10.9.0.3 lladdr 02:00:00:00:00:03 dev br0; sleep 0.2
echo '$ the younger of two'
nft -f - <<'R'
table ip a { chain c { type filter hook input priority 0; ip protocol icmp counter drop; }
    chain d { type filter hook input priority 0; ip protocol icmp counter; }
}
R
nft 'add table ip b; add chain ip b c { type filter hook input priority 0; }; add rule ip b c ip protocol icmp counter'
ping1 10.9.0.1
nft list ruleset
nft flush ruleset
echo '$ ebtables'
e() { echo "\$ ebtables $*"; ebtables "$@" 2>&1; }
e -L
e -A FORWARD -p IPv4 --ip-src 10.9.0.2 --ip-proto icmp -j ACCEPT
e -A FORWARD -p IPv4 --ip-proto udp --ip-dport 9 -j DROP
e -A FORWARD -p ARP --arp-opcode Request --arp-ip-src 10.9.0.2 -j CONTINUE
e -A INPUT -i va -s 02:00:00:00:00:02 -j ACCEPT
e -A FORWARD -p 802_1Q --vlan-id 7 -j DROP
e -A FORWARD --limit 5/s -j CONTINUE
e -A FORWARD --mark 1 -j mark --mark-set 3
e -A FORWARD --pkttype-type otherhost -j CONTINUE
e -A FORWARD -p IPv6 --ip6-src fd00::/8 -j DROP
e -A FORWARD --log --log-prefix x
e -N foo
e -A FORWARD -j foo
e -P FORWARD ACCEPT
e -t nat -A PREROUTING -p IPv4 --ip-dst 10.9.0.66 -j dnat --to-destination 02:00:00:00:00:03
e -t nat -A POSTROUTING -p IPv4 --ip-dst 10.9.0.66 -j snat --to-src 02:00:00:00:00:55
e -t nat -A PREROUTING -p ARP --arp-opcode Request --arp-ip-dst 10.9.0.88 -j arpreply --arpreply-mac 02:00:00:00:00:03
e -t nat -A PREROUTING -p IPv4 --ip-dst 10.9.0.99 -j redirect
e -t broute -L
ping1 10.9.0.3; ping1 10.9.0.1; ping1 10.9.0.66
ip netns exec bnta python3 -c 'import socket; socket.socket(2, 2).sendto(b"x", ("10.9.0.3", 9))'
ip -n bntb addr add 10.9.0.88/32 dev eth0; ip netns exec bntb sysctl -qw net.ipv4.conf.eth0.arp_ignore=8
ping1 10.9.0.88; ip -n bnta neigh show 10.9.0.88 | sed 's/ \(REACHABLE\|DELAY\|STALE\)//'
e -L --Lc
e -t nat -L --Lc
nft list ruleset 2>/dev/null
for n in a b; do ip netns del bnt$n; done
echo done
