# What settings of /proc/sys/net do, and which values they take: the same lines on Linux and on belljar. Frames are written
# to v1 and read there; the other end of the cable is the host.
x() { echo "\$ $*"; "$@" 2>&1; }
frames=$(realpath "$(dirname "$0")/frames.py")
cd /proc/sys/net
# Of a value that is refused, belljar's write succeeds and changes nothing.
set_() { echo "\$ $1 = $2"; { echo "$2" > "$1"; } 2>/dev/null; }
ip link set lo up
ip link add v0 address 02:00:00:00:00:01 type veth peer name v1 address 02:00:00:00:00:02
ip link add v2 address 02:00:00:00:00:03 type veth peer name v3 address 02:00:00:00:00:04
echo 0 > ipv6/conf/v1/disable_ipv6; echo 1 > ipv6/conf/v1/disable_ipv6; echo 1 > ipv6/conf/v3/disable_ipv6
echo 0 > ipv6/conf/v0/accept_dad; echo 1 > ipv6/conf/v2/disable_ipv6
for d in v0 v1 v2 v3; do ip link set $d up; done
ip addr add 10.1.0.1/24 dev v0
ip addr add 10.3.0.1/24 dev v2
ip neigh add 10.1.0.9 lladdr 02:00:00:00:00:02 dev v0 nud permanent
ip neigh add 10.3.0.9 lladdr 02:00:00:00:00:04 dev v2 nud permanent
ask() { python3 -c "
exec(open('$frames').read())
$1"; }

echo "# values"
for pair in ipv4/conf/v0/rp_filter:7 ipv4/conf/v0/arp_ignore:-1 ipv4/tcp_retries2:0x10 ipv4/tcp_retries2:017 ipv4/tcp_fin_timeout:-5 \
    "ipv4/tcp_rmem:5000" ipv4/neigh/v0/base_reachable_time_ms:30001 ipv4/neigh/v0/locktime:99 ipv4/ip_local_port_range:900 \
    ipv4/icmp_ratelimit:1001 ipv6/conf/v0/accept_ra:9 ipv6/conf/v0/mtu:9000 ipv4/conf/v0/log_martians:x ipv4/tcp_reordering:301; do
    set_ "${pair%%:*}" "${pair##*:}"; cat "${pair%%:*}"
done
echo 0 > ipv4/conf/v0/rp_filter; echo 0 > ipv4/conf/v0/arp_ignore; echo "4096 131072 6291456" > ipv4/tcp_rmem

echo "# addresses"
for on in 0 1; do
    echo $on > ipv4/conf/v0/promote_secondaries
    for n in 1 2 3 4; do ip addr add 10.2.0.$n/24 dev v0; done
    x ip addr del 10.2.0.1/24 dev v0
    ip addr show v0 | grep 'inet '
    ip route show table all dev v0 | grep 10.2.0
    ip addr flush dev v0 to 10.2.0.0/24
done

echo "# carrier"
for on in 1 0; do
    ip neigh replace 10.1.0.7 lladdr 02:00:00:00:00:07 dev v0 nud stale
    ip -6 neigh replace fe80::7 lladdr 02:00:00:00:00:07 dev v0 nud stale
    set_ ipv4/conf/v0/arp_evict_nocarrier $on
    set_ ipv6/conf/v0/ndisc_evict_nocarrier $on
    ip link set v1 down; sleep 1.2
    ip neigh show dev v0 nud all | grep -v ff02 | sort
    ip link set v1 up
done
ip route add 198.51.100.0/24 via 10.1.0.9 metric 1
ip route add 198.51.100.0/24 via 10.3.0.9 metric 2
ip link set v1 down; sleep 1.2
for on in 0 1; do
    set_ ipv4/conf/v0/ignore_routes_with_linkdown $on
    ip route get 198.51.100.1 | head -n 1 | sed 's/ uid 0//; s/ *cache//'
done
ip link set v1 up
ip route flush 198.51.100.0/24

echo "# handshakes"
syn() { ask "
l = socket.create_server(('10.1.0.1', 80))
s = wire('v1')
opts = bytes.fromhex('020405b4')
send(s, ip4('10.1.0.9', '10.1.0.1', 6, tcp('10.1.0.9', '10.1.0.1', $1, 80, 1000, 2, opts), tos=$2))
def synack(f):
    p = f[14:]
    if p[9] != 6 or p[33] != 0x12: return None
    return 'tos %#x window %d mss %d' % (p[1], struct.unpack('!H', p[34:36])[0], struct.unpack('!H', p[42:44])[0])
print(heard(s, synack)[:1])
"; }
syn 2001 0x48
set_ ipv4/tcp_reflect_tos 1
syn 2002 0x48
syn 2003 0x4b
set_ ipv4/tcp_workaround_signed_windows 1
syn 2004 0
set_ ipv4/route/min_adv_mss 1600
syn 2005 0
set_ ipv4/route/min_adv_mss 256

echo "# marks"
iptables -t mangle -A PREROUTING -i v0 -j MARK --set-mark 7
iptables -t mangle -A PREROUTING -i lo -j MARK --set-mark 9
ip rule add fwmark 7 prohibit
ping4() { ask "
s = wire('v1')
send(s, ip4('10.1.0.9', '10.1.0.1', 1, icmp4(8, bytes(8))))
print(heard(s, lambda f: 'reply' if f[12:14] == b'\x08\x00' and f[23] == 1 and f[34] == 0 else None))
"; }
ping4
set_ ipv4/fwmark_reflect 1
ping4
set_ ipv4/fwmark_reflect 0
for on in 0 1; do
    set_ ipv4/tcp_fwmark_accept $on
    python3 -c "
import socket
l = socket.create_server(('10.1.0.1', 81))
c = socket.create_connection(('10.1.0.1', 81))
print(l.accept()[0].getsockopt(socket.SOL_SOCKET, 36))"
done
ip rule del fwmark 7 prohibit
iptables -t mangle -F

echo "# errors"
set_ ipv4/ip_forward 1
ip route add 192.0.2.0/24 via 10.3.0.9
expired() { ask "
s, t = wire('v1'), wire('v3')
send(s, ip4('192.0.2.77', '203.0.113.5', 17, bytes(16), ttl=1))
print(heard(t, lambda f: socket.inet_ntoa(f[26:30]) if f[23] == 1 else None), heard(s, lambda f: socket.inet_ntoa(f[26:30]) if f[12:14] == b'\x08\x00' and f[23] == 1 else None))
"; }
ip route add 203.0.113.0/24 via 10.1.0.9
expired
set_ ipv4/icmp_errors_use_inbound_ifaddr 1
expired
set_ ipv4/ip_forward 0

echo "# questions"
arps() { ask "
s = wire('v1')
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.sendto(b'x', ('10.1.0.$1', 9))
s.settimeout(0.4)
n = 0
end = time.time() + 0.4
while time.time() < end: n += len(heard(s, lambda f: 1 if f[12:14] == b'\x08\x06' else None))
print(n)
"; }
echo 40 > ipv4/neigh/v0/retrans_time_ms
set_ ipv4/neigh/v0/mcast_solicit 2
arps 30
set_ ipv4/neigh/v0/app_solicit 1
arps 31
set_ ipv4/neigh/v0/mcast_solicit 0
set_ ipv4/neigh/v0/app_solicit 0
arps 32
ip neigh show dev v0 nud failed | sort

echo "# IPv6"
na() { ask "
s = wire('v1')
ours = socket.inet_pton(10, 'fe80::ff:fe00:1')
ns = bytes.fromhex('8700000000000000') + ours + bytes.fromhex('0101020000000002')
send(s, ip6('fe80::2', 'fe80::ff:fe00:1', ns), kind=0x86dd)
print(heard(s, lambda f: len(f) - 54 if f[12:14] == b'\x86\xdd' and f[54] == 136 else None))
"; }
na
set_ ipv6/conf/v0/force_tllao 1
na
echo6() { ask "
s = wire('v1')
send(s, ip6('fe80::2', 'ff02::1', bytes.fromhex('8000000000000000')), dst='333300000001', kind=0x86dd)
print(len(heard(s, lambda f: 1 if f[12:14] == b'\x86\xdd' and f[54] == 129 else None)))
"; }
echo6
set_ ipv6/icmp/echo_ignore_multicast 1
echo6
ra() { ask "
s = wire('v1')
body = bytes.fromhex('86000000') + struct.pack('!BBHII', $1, 0, $2, 0, 0) + bytes.fromhex('0101020000000002')
send(s, ip6('fe80::2', 'ff02::1', body), dst='333300000001', kind=0x86dd)
time.sleep(0.1)
"; ip -6 route show default | sed 's/ expires [0-9]*sec//; s/ hoplimit [0-9]*//; s/pref medium//; s/ *$//'; }
set_ ipv6/conf/v0/ra_defrtr_metric 512
set_ ipv6/conf/v0/accept_ra_min_lft 100
ra 64 50
ra 64 1800
ra 64 0
set_ ipv6/conf/v0/drop_unsolicited_na 1
ip -6 neigh replace fe80::5 lladdr 02:00:00:00:00:05 dev v0 nud reachable
una() { ask "
s = wire('v1')
b = bytes.fromhex('8800000020000000') + socket.inet_pton(10, 'fe80::5') + bytes.fromhex('0201020000000066')
send(s, ip6('fe80::5', 'ff02::1', b), dst='333300000001', kind=0x86dd)
time.sleep(0.1)
"; ip -6 neigh show fe80::5 dev v0; }
una
set_ ipv6/conf/v0/drop_unsolicited_na 0
una

echo "# connections"
iptables -A INPUT -m conntrack --ctstate INVALID -j DROP
set_ netfilter/nf_conntrack_timestamp 1
python3 -c "
import socket
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind(('10.1.0.1', 5555))
u.sendto(b'x', ('10.1.0.1', 7777))"
grep 7777 /proc/net/nf_conntrack | sed 's/udp      17 [0-9]* /udp 17 T /'
invalid() { ask "
s = wire('v1')
l = socket.create_server(('10.1.0.1', 82))
S, A, F, R = 2, 16, 1, 4
def t(*a, **k): send(s, ip4('10.1.0.9', '10.1.0.1', 6, tcp('10.1.0.9', '10.1.0.1', *a, **k)))
def ack(seq, ack_, flags=A):
    h = struct.pack('!HHIIBBHHH', 301, 82, seq & 0xffffffff, ack_ & 0xffffffff, 0x50, flags, 65535, 0, 0) + b'x'
    pseudo = socket.inet_aton('10.1.0.9') + socket.inet_aton('10.1.0.1') + struct.pack('!BBH', 0, 6, len(h))
    send(s, ip4('10.1.0.9', '10.1.0.1', 6, h[:16] + struct.pack('!H', sum16(pseudo + h)) + h[18:]))
t(300, 82, 1, S | F)
t(300, 82, 1, 0)
t(300, 82, 1, R)
t(300, 82, 1, S | A)
t(301, 82, 1000, S)
iss = heard(s, lambda f: struct.unpack('!I', f[38:42])[0] if f[23] == 6 and f[47] == 0x12 else None)[0]
ack(1001, iss + 1)
time.sleep(0.1)
ack(1001 + 200000000, iss + 1)
ack(1001 - 200000000, iss + 1)
ack(1001, iss + 100001)
ack(1001, iss - 100000000)
ack(1001, iss + 1, S | A)
ack(5000000, 0, R)
ack(1001, iss + 1, S)
time.sleep(0.1)
"; iptables -nvxL INPUT | awk 'END { print $1 }'; }
invalid
echo done
