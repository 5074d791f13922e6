# nf_tables as container engines and routers use it: routes, numbers, hashes, written headers, ranges of concatenated keys,
# chains without names, counted connections, users. Handles are left out.
ip link set lo up
ip addr add 10.9.0.1/24 dev lo
ip addr add 10.9.0.2/24 dev lo
x() {
    echo "$ $*"
    out=$("$@" 2>&1)
    echo "rc $?"
    [ -z "$out" ] || echo "$out" | sed 's/expires [0-9a-z]*/expires T/g; s/‘/"/g; s/’/"/g'
}
# send ADDRESS PORT COUNT [SOURCE PORT]
send() { python3 -c "
import socket
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind(('', ${4:-5000}))
for n in range($3):
    try: u.sendto(b'x' * 72, ('$1', $2))
    except OSError as e: print(e)"; }
# hear SENT-TO BOUND-TO: what arrives there, with its TTL and type of service
hear() { python3 -c "
import socket
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind(('$2'.split(':')[0], int('$2'.split(':')[1])))
u.setsockopt(0, 12, 1)
u.setsockopt(0, 13, 1)
u.settimeout(1)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(b'hello', ('$1'.split(':')[0], int('$1'.split(':')[1])))
try:
    data, c, _, who = u.recvmsg(100, 100)
    print(data, sorted((k, d[0]) for _, k, d in c), who[0])
except OSError as e: print(type(e).__name__)"; }
# meet PORT: segment sizes and options of a connection
meet() { python3 -c "
import socket, struct
l = socket.create_server(('10.9.0.1', $1))
c = socket.create_connection(('10.9.0.1', $1))
s, _ = l.accept()
o = s.getsockopt(6, 11, 104)
print('mss', s.getsockopt(6, 2), 'options', o[5])
c.sendall(b'x' * 3000)
n = 0
while n < 3000: n += len(s.recv(4096))
print('got', n)"; }
# conns PORT COUNT: how many of so many connections come about
conns() { python3 -c "
import socket
l = socket.create_server(('10.9.0.1', $1))
done = []
for n in range($2):
    c = socket.socket()
    c.settimeout(0.3)
    try:
        c.connect(('10.9.0.1', $1))
        done.append(c)
    except OSError: pass
print(len(done))"; }
echo '# routes'
x nft add table ip t
x nft 'add chain ip t out { type filter hook output priority 0; }'
x nft 'add chain ip t in { type filter hook input priority 0; }'
x nft 'add chain ip t pre { type filter hook prerouting priority 0; }'
x nft 'add rule ip t out udp dport 100 fib daddr type local counter'
x nft 'add rule ip t out udp dport 100 fib daddr type { broadcast, multicast } counter'
x nft 'add rule ip t out udp dport 100 fib daddr . oif type local counter'
x nft 'add rule ip t out fib daddr . iif type local counter'
x nft 'add rule ip t out fib daddr oif lo counter'
x nft 'add rule ip t in udp dport 100 fib saddr . iif oif missing counter'
x nft 'add rule ip t in udp dport 100 fib saddr oifname "lo" counter'
x nft 'add rule ip t in udp dport 100 fib daddr oif 1 counter'
x nft 'add rule ip t pre udp dport 100 fib saddr oif exists counter'
x nft 'add rule ip t pre udp dport 100 fib saddr . mark . iif type local counter'
x send 10.9.0.2 100 3
x send 127.0.0.1 100 2
x send 127.255.255.255 100 1
x nft list ruleset
x nft flush ruleset
echo '# numbers'
x nft add table inet n
x nft 'add chain inet n out { type filter hook output priority 0; }'
x nft add chain inet n c0
x nft add chain inet n c1
x nft add chain inet n c2
for c in c0 c1 c2; do x nft add rule inet n $c counter; done
x nft 'add rule inet n out udp dport 200 numgen inc mod 3 vmap { 0 : jump c0, 1 : jump c1, 2 : jump c2 }'
x nft 'add rule inet n out udp dport 201 numgen inc mod 10 offset 5 vmap { 5-6 : jump c0, 7-14 : jump c1 }'
x nft 'add rule inet n out udp dport 202 meta mark set numgen inc mod 3 offset 7'
x nft 'add rule inet n out udp dport 202 meta mark 8 counter'
x nft 'add rule inet n out udp dport 203 numgen random mod 1 offset 9 vmap { 9 : jump c2 }'
x nft 'add rule inet n out udp dport 204-299 jhash ip saddr . ip daddr . udp dport mod 3 seed 0xdeadbeef vmap { 0 : jump c0, 1 : jump c1, 2 : jump c2 }'
x nft 'add rule inet n out udp dport 204-299 meta mark set jhash udp dport mod 16 seed 7 offset 3'
x nft 'add rule inet n out udp dport 204-299 meta mark 3-9 counter'
x nft 'add rule inet n out udp dport 300 symhash mod 1 vmap { 0 : jump c2 }'
x nft 'add rule inet n out numgen inc mod 0 vmap { 0 : jump c2 }'
x nft 'add rule inet n out numgen inc mod 2 offset 4294967295 vmap { 0 : jump c2 }'
x send 10.9.0.2 200 7
x send 10.9.0.2 201 11
x send 10.9.0.2 202 4
x send 10.9.0.2 203 2
for p in 204 205 206 207 208 209 210 211; do x send 10.9.0.2 $p 1; done
x send 10.9.0.2 300 2
x nft list ruleset
x nft flush ruleset
echo '# headers'
x nft add table ip w
x nft 'add chain ip w out { type filter hook output priority -150; }'
x nft 'add rule ip w out udp dport 400 ip ttl set 7'
x nft 'add rule ip w out udp dport 401 ip dscp set af21'
x nft 'add rule ip w out udp dport 402 ip daddr set 10.9.0.2'
x nft 'add rule ip w out udp dport 403 udp dport set 404'
x nft 'add rule ip w out udp dport 405 ip saddr set 10.9.0.77'
x nft 'add rule ip w out udp dport 406 ip ecn set ce'
x nft 'add rule ip w out udp dport 407 udp checksum set 0x1234'
x nft 'add rule ip w out tcp dport 410 tcp flags syn tcp option maxseg size set 1000'
x nft 'add rule ip w out tcp dport 410 tcp flags syn tcp option maxseg size set 2000 counter'
x nft 'add rule ip w out tcp dport 411 tcp flags syn tcp option maxseg size set rt mtu'
x nft 'add rule ip w out tcp dport 412 reset tcp option timestamp'
x nft 'add rule ip w out tcp dport 412 reset tcp option sack-perm'
x nft 'add rule ip w out tcp dport 413 tcp option window exists counter'
x nft 'add rule ip w out tcp dport 413 tcp option maxseg size 65495 counter'
x nft 'add rule ip w out tcp dport 413 tcp option md5sig missing counter'
x nft 'add rule ip w out udp dport 400 meta priority set 1:2'
x nft 'add rule ip w out udp dport 400 meta priority 1:2 counter'
x hear 10.9.0.1:400 10.9.0.1:400
x hear 10.9.0.1:401 10.9.0.1:401
x hear 10.9.0.1:402 10.9.0.2:402
x hear 10.9.0.1:403 10.9.0.1:404
x hear 10.9.0.1:405 10.9.0.1:405
x hear 10.9.0.1:406 10.9.0.1:406
x hear 10.9.0.1:407 10.9.0.1:407
for p in 409 410 411 412 413; do x meet $p; done
x nft list ruleset
x nft flush ruleset
echo '# ranges'
x nft add table inet r
x nft 'add chain inet r out { type filter hook output priority 0; }'
x nft 'add set inet r s { type ipv4_addr . inet_service; flags interval; }'
x nft 'add element inet r s { 10.9.0.0/30 . 500-502, 127.0.0.1 . 503, 10.9.0.8-10.9.0.11 . 500 }'
x nft 'add element inet r s { 10.9.0.0/30 . 501 }'
x nft 'create element inet r s { 127.0.0.1 . 503 }'
x nft 'add element inet r s { 127.0.0.1 . 503 }'
x nft 'add element inet r s { 10.9.0.3-10.9.0.4 . 502-600 }'
x nft 'add map inet r m { type ipv4_addr . inet_service : verdict; flags interval; elements = { 10.9.0.1 . 510-520 : accept, 10.9.0.2 . 510-512 : drop }; }'
x nft 'add set inet r t { type inet_proto . ipv4_addr . inet_service; flags interval,timeout; timeout 1h; counter; elements = { udp . 10.9.0.0/24 . 530-539 }; }'
x nft 'add rule inet r out ip daddr . udp dport @s counter'
x nft 'add rule inet r out ip daddr . udp dport vmap @m'
x nft 'add rule inet r out meta l4proto . ip daddr . udp dport @t counter'
x nft 'add rule inet r out ip daddr . udp dport { 10.9.0.1 . 540-541, 10.9.0.2 . 541 } counter'
x nft 'get element inet r s { 10.9.0.1 . 501 }'
x nft 'get element inet r s { 10.9.0.1 . 503 }'
x nft 'delete element inet r s { 10.9.0.8-10.9.0.11 . 500-501 }'
x nft 'delete element inet r s { 10.9.0.8-10.9.0.11 . 500 }'
x nft 'add set inet r v { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.168.1.1-192.168.1.20 }; }'
x nft 'get element inet r v { 10.2.3.4 }'
x nft 'get element inet r v { 192.168.1.1-192.168.1.20 }'
x nft 'get element inet r v { 11.2.3.4 }'
for p in 500 502 503 511 512 535 540 541; do for a in 10.9.0.1 10.9.0.2 127.0.0.1; do x send $a $p 1; done; done
x nft list ruleset
x nft flush ruleset
echo '# chains of rules'
x nft add table inet b
x nft 'add chain inet b out { type filter hook output priority 0; }'
x nft 'add rule inet b out udp dport 600-609 jump { udp dport 600 counter drop; counter; }'
x nft 'add rule inet b out udp dport 601 goto { counter accept; }'
x nft 'add rule inet b out counter'
x send 10.9.0.1 600 2
x send 10.9.0.1 601 3
x nft list ruleset
x nft flush chain inet b out
x nft list ruleset
x nft flush ruleset
echo '# connections'
x nft add table ip c
x nft 'add chain ip c in { type filter hook input priority 0; }'
x nft 'add set ip c who { type ipv4_addr; size 100; flags dynamic; }'
x nft 'add rule ip c in tcp dport 700 ct state new ct count over 3 counter drop'
x nft 'add rule ip c in tcp dport 701 ct state new add @who { ip saddr ct count over 2 } counter reject with tcp reset'
x conns 700 5
x conns 701 4
x nft list ruleset
x nft flush ruleset
echo '# users'
x nft add table inet u
x nft 'add chain inet u out { type filter hook output priority 0; }'
x nft 'add chain inet u in { type filter hook input priority 0; }'
x nft 'add rule inet u out udp dport 800 meta skuid 0 counter'
x nft 'add rule inet u out udp dport 800 meta skgid { 0, 5 } counter'
x nft 'add rule inet u out tcp dport 801 meta skuid != 0 counter'
x nft 'add rule inet u out tcp sport 801 meta skuid 0 tcp flags syn,ack / syn,ack counter'
x nft 'add rule inet u out icmp type destination-unreachable meta skuid 0-4000000000 counter'
x nft 'add rule inet u in udp dport 800 meta skuid 0 counter'
x send 10.9.0.1 800 2
x meet 801
x nft list ruleset
x nft flush ruleset
echo '# rule sets of container engines'
ip route add 172.30.0.0/16 dev lo
x nft -f - <<'END'
table ip services {
  comment "services and their ends"
  set cluster-ips { type ipv4_addr; comment "taken"; elements = { 172.30.0.41, 172.30.0.42 }; }
  map none { type ipv4_addr . inet_proto . inet_service : verdict; }
  map ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  map ports { type inet_proto . inet_service : verdict; }
  set sticky { type ipv4_addr; flags dynamic,timeout; timeout 3h; }
  chain pre { type nat hook prerouting priority dstnat; policy accept; jump all; }
  chain out { type nat hook output priority -100; policy accept; jump all; }
  chain post { type nat hook postrouting priority srcnat; policy accept; jump masquerading; }
  chain before { type filter hook output priority filter - 10; policy accept; ct state new jump check; }
  chain after { type filter hook output priority -90; policy accept; ct state new jump cluster; }
  chain all {
    ip daddr . meta l4proto . th dport vmap @ips
    fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @ports
  }
  chain check { ip daddr . meta l4proto . th dport vmap @none; }
  chain cluster { ip daddr @cluster-ips reject comment "no such port"; ip daddr 172.30.0.0/16 drop comment "not taken"; }
  chain masquerading { meta mark & 0x4000 == 0 return; meta mark set meta mark xor 0x4000; masquerade fully-random; }
  chain mark { meta mark set meta mark or 0x4000; }
  chain refuse { reject; }
  chain end-1 { ip saddr 10.9.0.1 jump mark; meta l4proto tcp dnat to 10.9.0.1:901; }
  chain end-2 { ip saddr 10.9.0.2 jump mark; meta l4proto tcp dnat to 10.9.0.2:902; }
  chain web { ip saddr @sticky goto end-2; numgen inc mod 2 vmap { 0 : goto end-1, 1 : goto end-2 }; }
  chain outside { jump mark; goto web; }
}
add element ip services ips { 172.30.0.41 . tcp . 80 : goto web }
add element ip services ports { tcp . 30080 : goto outside }
add element ip services none { 172.30.0.43 . tcp . 80 comment "ns/svc" : goto refuse }
END
# ask ADDRESS PORT TIMES: who answers behind it
ask() { python3 -c "
import socket, threading
def serve(a, p):
    l = socket.create_server((a, p))
    def run():
        while True: l.accept()[0].send(str(p).encode())
    threading.Thread(target=run, daemon=True).start()
serve('10.9.0.1', 901)
serve('10.9.0.2', 902)
for n in range($3):
    c = socket.socket()
    c.settimeout(1)
    try:
        c.connect(('$1', $2))
        print(c.recv(10).decode())
    except OSError as e: print(type(e).__name__)"; }
x ask 172.30.0.41 80 4
x ask 10.9.0.1 30080 3
x ask 172.30.0.43 80 1
x ask 172.30.0.42 80 1
x ask 172.30.0.44 80 1
x nft 'add element ip services sticky { 172.30.0.41 timeout 1h }'
x nft list ruleset
x nft flush ruleset
x nft -f - <<'END'
table ip bridges {
  map in { type ifname : verdict; elements = { "br0" : jump in_br0 }; }
  map out { type ifname : verdict; elements = { "br0" : jump out_br0 }; }
  chain FORWARD { type filter hook forward priority filter; policy accept; oifname vmap @in; iifname vmap @out; }
  chain OUTPUT { type nat hook output priority -100; policy accept; ip daddr != 127.0.0.0/8 fib daddr type local counter jump nat; }
  chain PREROUTING { type nat hook prerouting priority dstnat; policy accept; fib daddr type local counter jump nat; }
  chain nat { iifname != "br0" tcp dport 8080 counter dnat to 172.17.0.2:80 comment "DNAT"; }
  chain raw { type filter hook prerouting priority raw; policy accept; ip daddr 172.17.0.2 iifname != "br0" counter drop comment "DIRECT"; }
  chain in_br0 { ct state established,related counter accept; iifname "br0" counter accept comment "ICC"; counter drop; }
  chain out_br0 { ct state established,related counter accept; counter accept comment "OUTGOING"; }
}
END
x nft list ruleset
x nft flush ruleset
echo '# packets that tell what they meet'
x nft add table inet t
x nft 'add chain inet t out { type filter hook output priority 0; }'
x nft 'add chain inet t in { type filter hook input priority 0; policy drop; }'
x nft add chain inet t sub
x nft add chain inet t sub2
x nft 'add rule inet t out udp dport 8-9 meta nftrace set 1'
x nft 'add rule inet t out udp dport 9 counter jump sub'
x nft 'add rule inet t sub udp dport 10 drop'
x nft 'add rule inet t sub udp sport 5000 return'
x nft 'add rule inet t out udp dport 9 jump sub2'
x nft 'add rule inet t sub2 meta mark set 7'
x nft 'add rule inet t in meta nftrace 1 counter'
x nft 'add rule inet t in udp dport 11 accept'
# Of the packets to port 9, without their numbers.
told() { awk '/packet:.*udp dport 9 / { of[$3] = 1 } $3 in of' told.$$ | sed 's/trace id [0-9a-f]*/trace/; s/ip id [0-9]*/ip id N/'; }
nft monitor trace > told.$$ & P=$!
until grep -q 'dport 8 ' told.$$; do send 127.0.0.1 8 1; done
send 127.0.0.1 9 1
until [ "$(told | wc -l)" -ge 9 ]; do sleep 0.1; done
kill $P
told
rm told.$$
x nft flush ruleset
for t in iptables-legacy iptables-nft; do
    x $t -A OUTPUT -p udp --dport 810 -m owner --uid-owner 0
    x $t -A OUTPUT -p udp --dport 810 -m owner ! --uid-owner 0
    x $t -A OUTPUT -p udp --dport 810 -m owner --gid-owner 0-5 --socket-exists
    x $t -A OUTPUT -m owner ! --socket-exists -p icmp
    x $t -A INPUT -m owner --uid-owner 0
    x $t -t mangle -A OUTPUT -p tcp --dport 811 --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 900
    x $t -t mangle -A OUTPUT -p tcp --dport 812 --syn -j TCPMSS --clamp-mss-to-pmtu
    x $t -t mangle -A OUTPUT -p tcp --dport 812 -j TCPMSS --set-mss 900
    x $t -t mangle -A INPUT -p tcp --dport 812 --syn -j TCPMSS --clamp-mss-to-pmtu
    x send 10.9.0.1 810 2
    x meet 811
    x meet 812
    x $t -S
    x $t -t mangle -S
    x $t -nvL OUTPUT
    x $t -t mangle -nL OUTPUT
    x $t -F
    x $t -t mangle -F
done
echo done
