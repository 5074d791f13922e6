# Routes that are refused and those that are not, next hops that a request to delete has to name, filters in their order, loops of
# chains that no packet gets to.
r() { echo "\$ $*"; "$@" 2>&1; c=$?; [ $c = 0 ] || echo "=> $c"; }
ip link set lo up
ip link add v0 address 02:00:00:00:00:a0 type veth peer name v1 address 02:00:00:00:00:a1
ip link set v0 up
ip link set v1 up
ip addr add 10.9.0.1/24 dev v0
ip -6 addr add fd00:1::1/64 dev v0 nodad
ip -6 addr add fd00:2::1/64 dev v1 nodad
ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:a1 dev v0
sleep 3
echo "# next hops"
two="nexthop via 10.9.0.8 weight 2 nexthop via 10.9.0.9 weight 3"
r ip route add 10.5.2.0/24 $two
r ip route del 10.5.2.0/24 nexthop via 10.9.0.8
r ip route del 10.5.2.0/24 nexthop via 10.9.0.9 nexthop via 10.9.0.8
r ip route del 10.5.2.0/24 nexthop via 10.9.0.8 weight 2 nexthop via 10.9.0.7 weight 3
r ip route del 10.5.2.0/24 nexthop via 10.9.0.8 dev lo nexthop via 10.9.0.9
r ip route show
r ip route del 10.5.2.0/24 nexthop via 10.9.0.8 weight 3 nexthop via 10.9.0.9 weight 3
r ip route add 10.5.2.0/24 $two
r ip route del 10.5.2.0/24 nexthop via 10.9.0.8 dev v0 nexthop via 10.9.0.9
r ip route add 10.5.2.0/24 $two
r ip route del 10.5.2.0/24 via 10.9.0.8
r ip route add 10.5.2.0/24 via 10.9.0.8
r ip route del 10.5.2.0/24 nexthop via 10.9.0.8 nexthop via 10.9.0.9
r ip route show
echo "# routers of IPv6"
for way in "via fe80::9" "via ff02::1 dev v0" "dev v0 src fd00:77::1" "via :: dev v0" "via fd00:1::1 dev v0" \
    "via fd00:2::1 dev v0" "via fd00:99::1 dev v0" "via fd00:99::1" "via fe80::9 dev lo" "via ::1 dev v0" \
    "via fe80::ff:fe00:a0 dev v0" "dev v0 src ff02::1" "dev v0 src fd00:2::1" "via fe80::9 dev v0 src fe80::ff:fe00:a0" \
    "nexthop via fe80::9 nexthop via fd00:1::5" "nexthop via ff02::1 dev v0 nexthop via fd00:1::5" \
    "via fd00:1::9 dev v1" "via fd00:1::9 dev v1 onlink" "via fd00:9::9 onlink" "via fd00:9::9 dev v1 onlink" \
    "nexthop via fd00:9::9 dev v1 onlink nexthop via fd00:1::8 dev v0" "dev v0 expires 1000" "dev v0 pref high"; do
    r ip -6 route add fd00:52::/64 $way
    ip -6 route show fd00:52::/64 | sed 's/ expires [0-9]*sec/ expires/'
    ip -6 route del fd00:52::/64 2>/dev/null
done
r ip -6 route add unreachable fd00:63::/64 src fd00:77::1
r ip -6 route add unreachable fd00:63::/64 via fd00:1::9 dev v0
r ip -6 route add ff05::/16 dev v0
r ip -6 route add fd00:5e::/64 dev v0 src fd00:1::1
ip -6 route show | sort
echo "# ways of packets that come in"
for f in 0 1; do
    echo $f > /proc/sys/net/ipv6/conf/all/forwarding
    for way in "fd00:1::5 from fd00:2::5 iif v0" "fd00:1::1 from fd00:1::5 iif v0" "fd00:33::1 from fd00:1::5 iif v0" \
        "fd00:5e::1 from fd00:1::5 iif v1" "fd00:5e::1 iif v1" "fd00:63::1 from fd00:1::5 iif v1" \
        "fe80::1 from fd00:1::5 iif v1" "fd00:1::5 iif v0 oif v0" "ff02::1 from fe80::5 iif v0" "ff02::1 oif v0" \
        "ff05::5 oif v0" "ff02::1 from fd00:1::1 oif v0" "fd00:1::5 from fd00:2::1"; do
        r ip -6 route get $way
    done
done
echo "# tables"
for f in -4 -6; do
    for t in 999 default; do r ip $f route show table $t; done
done
r ip route del 10.44.0.0/16 table 103
r ip -6 route del fd00:9::/64 table 103
r ip route add 10.5.0.0/16 dev v0 table 100
r ip route del 10.5.0.0/16 dev v0 table 100
r ip route show table 100
r ip rule add from 1.2.3.4 lookup 101
r ip route show table 101
r ip -6 rule add from fd00::1 lookup 102
r ip -6 route show table 102
echo "# metrics of addresses"
r ip addr add 10.11.0.1/24 dev v0 metric 50
r ip addr add 10.11.0.2/24 dev v0
r ip addr add 10.12.0.1/24 dev v0
r ip addr change 10.12.0.1/24 dev v0 metric 70
r ip -6 addr add fd00:11::1/64 dev v0 metric 60 nodad
r ip -6 addr change fd00:11::1/64 dev v0 metric 61
for a in 0.0.0.0/0 0.0.0.0/24 0.1.2.3/24 240.0.0.1/24 10.13.0.1/0 10.13.0.0/24; do r ip addr add $a dev v0; done
r ip -4 addr show dev v0
r ip -6 addr show dev v0
r ip route show
r ip route show table local dev v0
r ip -6 route show dev v0
r ip addr del 10.11.0.1/24 dev v0
r ip addr del 10.13.0.1/0 dev v0
r ip route show
echo "# the interface of what is sent"
python3 -c "
import errno, socket, struct
def t(what, f):
    try: r = f()
    except OSError as e: r = errno.errorcode.get(e.errno, e.errno)
    print(what, r, flush=True)
v0, v1 = (socket.if_nametoindex(d) for d in ('v0', 'v1'))
info = lambda i, a='::': socket.inet_pton(socket.AF_INET6, a) + struct.pack('I', i)
for kind, proto in ((socket.SOCK_DGRAM, 0), (socket.SOCK_STREAM, 0), (socket.SOCK_RAW, 58)):
    def new(value=None):
        s = socket.socket(socket.AF_INET6, kind, proto)
        if value: s.setsockopt(41, 50, value)
        return s
    s = new()
    for what, value in (('one', info(v0)), ('short', bytes(16)), ('long', bytes(24)), ('nothing', b''), ('none there', info(99)),
            ('not ours', info(0, 'fd00:77::1'))):
        t(what, lambda: s.setsockopt(41, 50, value))
    t('get', lambda: s.getsockopt(41, 50, 20))
    s = new()
    s.setsockopt(1, 25, b'v0')
    for i in (v1, v0, 0): t('bound', lambda: s.setsockopt(41, 50, info(i)))
    if kind == socket.SOCK_STREAM:
        t('link-local', lambda: new(info(v0)).connect(('fe80::9', 9)))
        continue
    t('that', lambda: new(info(v0)).connect(('fd00:1::9', 9)))
    t('another', lambda: new(info(v1)).connect(('fd00:1::9', 9)))
    if kind == socket.SOCK_DGRAM:
        t('send another', lambda: new(info(v1)).sendto(b'x', ('fd00:1::9', 9)))
        t('send', lambda: new(info(v0)).sendto(b'x', ('fd00:1::9', 9)))"
ip -6 neigh replace fd00:1::9 lladdr 02:00:00:00:00:99 dev v0
python3 -c "
import errno, socket, struct
def t(what, f):
    try: r = f()
    except OSError as e: r = errno.errorcode.get(e.errno, e.errno)
    print(what, r, flush=True)
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86dd))
wire.bind(('v1', 0))
wire.settimeout(0.5)
def heard():
    while True:
        p = wire.recv(2000)
        if b'hello' in p: return p[18:].hex()
addr = lambda a: socket.inet_pton(socket.AF_INET6, a)
for proto in (58, 17, 255):
    s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, proto)
    t('header', lambda: s.getsockopt(41, 36))
    t('by hand', lambda: s.setsockopt(41, 36, 1))
    t('short', lambda: s.setsockopt(41, 36, bytes(1)))
    for length, src, dst in ((5, 'fd00:1::77', 'fd00:1::9'), (99, '::', 'fd00:1::8')):
        t('send', lambda: s.sendto(struct.pack('!IHBB', 6 << 28 | 5, length, 59, 7) + addr(src) + addr(dst) + b'hello', ('fd00:1::9', 0)))
        t('heard', heard)
    t('no header', lambda: s.sendto(b'hello', ('fd00:1::9', 0)))
    s.setsockopt(41, 36, 0)
    t('send', lambda: s.sendto(b'\x80' + bytes(7) + b'hello', ('fd00:1::9', 0)))
    t('heard', heard)"
r ping -c1 -W1 -I v0 fd00:1::9 | grep from
for to in 10.9.0.1 fd00:1::1; do r ping -c1 -W1 -I v0 $to | grep -o "1 received"; done
echo "# filters"
r tc qdisc add dev v0 root handle 1: htb default 3
for i in 1 2 3; do tc class add dev v0 parent 1: classid 1:$i htb rate 100mbit 2>/dev/null; done
u32="u32 match u32 0 0"
r tc filter get dev v0 parent 1: protocol ip prio 1 handle 800::5 u32
r tc filter add dev v0 parent 1: protocol ip prio 1 handle 800::900 $u32 flowid 1:1
r tc filter add dev v0 parent 1: protocol ip prio 1 handle 800::5 $u32 flowid 1:2
for n in 1 2; do r tc filter add dev v0 parent 1: protocol ip prio 1 $u32 flowid 1:3; done
r tc filter show dev v0
sent() { ping -c1 -W1 10.9.0.2 > /dev/null; sleep 0.2; tc -s class show dev v0 | grep -A1 "^class htb $1 " | grep -c " Sent 0 bytes"; }
sent 1:2
r tc filter get dev v0 parent 1: protocol ip prio 1 handle 800::5 u32
r tc filter get dev v0 parent 1: protocol ip prio 1 handle 800: u32
r tc filter get dev v0 parent 1: protocol ip prio 1 handle 800::6 u32
r tc filter get dev v0 parent 1: protocol ip prio 2 handle 800::6 u32
r tc filter get dev v0 parent 2: protocol ip prio 1 handle 800::5 u32
r tc filter get dev v0 parent 1: protocol ipv6 prio 1 handle 800::5 u32
r tc filter change dev v0 parent 1: protocol ip prio 1 handle 800::7 $u32 flowid 1:2
r tc filter change dev v0 parent 1: protocol ip prio 1 handle 800::5 $u32 skip_sw flowid 1:2
r tc filter del dev v0 parent 1: protocol ipv6 prio 1
r tc filter add dev v0 parent 1: protocol ip prio 2 u32 match tcp dst 5 0xffff flowid 1:1
r tc filter add dev v0 parent 1: protocol ip prio 2 u32 match u16 0x4500 0xff00 at nexthdr+0 flowid 1:1
r tc filter show dev v0
r tc filter del dev v0 parent 1: prio 1
r tc filter del dev v0 parent 1: prio 1
r tc filter add dev v0 parent 1: protocol ip prio 1 $u32 skip_sw flowid 1:1
r tc filter add dev v0 parent 1: protocol ip prio 1 $u32 skip_hw flowid 1:2
r tc filter show dev v0
sent 1:1
echo "# neighbours"
x="lladdr 02:00:00:00:00:05 dev v0"
r ip neigh add 10.9.0.5 $x router
r ip neigh add 10.9.0.6 $x extern_learn
r ip neigh add 10.9.0.8 $x protocol static
r ip neigh add 10.9.0.9 $x nud stale router
r ip -6 neigh add fd00:1::99 $x router
near() { ip neigh show dev v0 | grep 00:00:05 | sort; }
near
r ip neigh replace 10.9.0.5 $x
r ip neigh replace 10.9.0.6 $x
r ip neigh replace 10.9.0.8 $x
r ip neigh change 10.9.0.9 $x
near
r ip neigh change 10.9.0.8 $x protocol bird router extern_learn
r ip neigh get 10.9.0.8 dev v0
echo "# chains"
t() { r iptables-legacy "$@"; }
t -N c1
t -N c2
t -A c1 -j c1
t -D c1 -j c1
t -A INPUT -j ACCEPT
t -A INPUT -j c2
t -A c2 -j c2
t -A INPUT -p tcp -j c1
t -I INPUT -p udp -j c2
t -F c2
t -I INPUT -p udp -j c2
t -A c2 -j RETURN
t -A c2 -j c1
t -A c1 -j c2
t -D c2 -j RETURN
t -S
echo done
