# nf_tables at devices, quotas, objects, and sets that packets fill and time empties. Times are left out.
ip link set lo up
ip link add v0 address 02:00:00:00:00:a0 type veth peer name v1 address 02:00:00:00:00:a1
sysctl -qw net.ipv6.conf.v0.disable_ipv6=1 net.ipv6.conf.v1.disable_ipv6=1
ip addr add 10.9.0.1/24 dev v0
ip link set v0 up; ip link set v1 up
x() {
    echo "$ $*"
    out=$("$@" 2>&1)
    echo "rc $?"
    [ -z "$out" ] || echo "$out" | sed 's/expires [0-9a-z]*/expires T/g; s/‘/"/g; s/’/"/g'
}
send() { python3 -c "
import socket
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range($3):
    try: u.sendto(b'x' * 72, ('$1', $2))
    except OSError as e: print(e)"; }
x nft add table netdev t
x nft 'add chain netdev t i { type filter hook ingress device lo priority 0; }'
x nft 'add chain netdev t e { type filter hook egress devices = { v0, lo } priority 5; }'
x nft 'add chain netdev t bad { type nat hook ingress device v0 priority 0; }'
x nft add table inet t2
x nft 'add chain inet t2 in { type filter hook ingress device lo priority 0; }'
x nft add rule netdev t i udp dport 9 counter drop
x nft add rule netdev t i ether saddr 00:00:00:00:00:00 meta protocol ip counter
x nft add rule netdev t i ct state new drop
x nft add rule netdev t e oif v0 arp operation request counter drop
x nft add rule netdev t e udp dport 10 counter drop
x nft add rule inet t2 in udp dport 11 counter accept
x send 127.0.0.1 9 2
x send 127.0.0.1 10 3
x send 127.0.0.1 11 4
x send 10.9.0.7 9 1
x nft list ruleset
x nft flush ruleset
x nft add table inet t
x nft 'add chain inet t in { type filter hook output priority 0; }'
x nft 'add chain inet t sub'
x nft 'add rule inet t in udp dport 1-99 jump sub'
x nft 'add rule inet t sub udp dport 20 quota over 250 bytes drop'
x nft 'add rule inet t sub udp dport 21 quota 250 bytes counter accept'
x nft 'add quota inet t q { over 250 bytes }'
x nft 'add quota inet t q2 { 1 mbytes used 50 bytes }'
x nft 'add counter inet t c'
x nft 'add counter inet t c2 { packets 3 bytes 40 }'
x nft 'add limit inet t l { rate 1/day burst 3 packets }'
x nft 'add rule inet t sub udp dport 22 quota name q counter name c drop'
x nft 'add rule inet t sub udp dport 23 limit name l counter accept'
x nft 'add rule inet t sub counter name nosuch'
x nft 'add counter inet t c'
x nft 'create counter inet t c'
x nft 'add quota inet t q { over 251 bytes }'
x nft delete counter inet t c
x nft delete counter inet t c2
x nft delete counter inet t nosuch
x nft 'add set inet t gone { type ipv4_addr; timeout 1m; }'
x nft 'add set inet t dyn { type inet_service; flags dynamic,timeout; timeout 1h; gc-interval 10s; size 3; }'
x nft 'add set inet t cnt { type ipv4_addr; flags dynamic; counter; size 10; }'
x nft 'add set inet t plain { type ipv4_addr; }'
x nft 'add element inet t gone { 10.0.0.1, 10.0.0.2 timeout 10s, 10.0.0.3 timeout 1h expires 30m, 10.0.0.4 timeout 300ms }'
x nft 'add element inet t gone { 10.0.0.5 timeout 1s expires 2s }'
x nft 'add element inet t plain { 10.0.0.1 timeout 5s }'
x nft 'add rule inet t sub udp dport 30-36 add @dyn { udp dport timeout 10s } counter'
x nft 'add rule inet t sub udp dport 30 update @dyn { udp dport } counter'
x nft 'add rule inet t sub udp dport 31 delete @dyn { udp dport }'
x nft 'add rule inet t sub udp dport 40 add @cnt { ip daddr counter }'
x nft 'add rule inet t sub ip daddr @cnt counter'
x nft 'add rule inet t sub udp dport 41 add @plain { ip daddr }'
x nft 'add rule inet t sub udp dport 42 meter m { ip daddr limit rate 1/day burst 2 packets } counter accept'
x nft 'add map inet t mp { type ipv4_addr : inet_service; flags dynamic,timeout; timeout 20m; }'
x nft 'add rule inet t sub udp dport 43 update @mp { ip daddr : udp dport }'
x nft 'add set inet t rng { type ipv4_addr; flags interval,timeout; }'
x nft 'add element inet t rng { 10.0.0.0/8 timeout 300ms, 11.0.0.0/8 }'
for p in 20 21 22 23; do x send 127.0.0.1 $p 5; done
for p in 30 31 32 33 34 40 41 42 43 40 42 42 30; do x send 127.0.0.1 $p 1; done
sleep 0.4
x nft list ruleset
x nft list counters
x nft list quotas
x nft list limits
x nft list counter inet t c
x nft reset counters
x nft reset quota inet t q
x nft list quota inet t q
x nft get element inet t gone '{ 10.0.0.2 }'
x nft get element inet t gone '{ 10.0.0.4 }'
x nft 'add element inet t gone { 10.0.0.4 }'
x nft delete element inet t gone '{ 10.0.0.1 }'
x nft list set inet t gone
x nft flush ruleset
echo done
