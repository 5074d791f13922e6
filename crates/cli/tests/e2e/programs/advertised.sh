# What routers say of a link's MTU and of hops: kept by the interface, told by the way out, forgotten when the link comes up anew.
frames=$(realpath "$(dirname "$0")/frames.py")
cd /proc/sys/net
set_() { echo "\$ $1 = $2"; { echo "$2" > "$1"; } 2>/dev/null; }
ip link set lo up
ip link add v0 address 02:00:00:00:00:01 type veth peer name v1 address 02:00:00:00:00:02
echo 1 > ipv6/conf/v1/disable_ipv6
echo 0 > ipv6/conf/v0/accept_dad
echo 1 > ipv6/conf/v0/accept_ra
for d in v0 v1; do ip link set $d up; done
sleep 1.2
way() { ip -6 route show default | sed 's/ expires [0-9]*sec//'; cat ipv6/conf/v0/mtu ipv6/conf/v0/hop_limit; }
# Hop limit, lifetime, MTU.
ra() { echo "\$ $*"; python3 -c "
exec(open('$frames').read())
s = wire('v1')
body = bytes.fromhex('86000000') + struct.pack('!BBHII', $1, 0, $2, 0, 0) + (struct.pack('!BBHI', 5, 1, 0, $3) if $3 else b'')
send(s, ip6('fe80::2', 'ff02::1', body), dst='333300000001', kind=0x86dd)
time.sleep(0.1)"; way; }
ra 64 0 0
ra 64 1800 0
ra 64 1800 1400
ra 0 1800 1400
ra 33 0 1300
ra 33 1800 1310
ra 0 1800 0
ip -6 route get 2001:db8::1
ip -6 route add fd05::/64 via fe80::3 dev v0 mtu 1305
ip -6 route add fd06::/64 via fe80::3 dev v0 mtu lock 1490
for mtu in 1450 1290 1500; do
    ip link set v0 mtu $mtu
    way
    ip -6 route show proto boot
done
ra 64 1800 1300
ip -6 route show proto boot
set_ ipv6/conf/v0/mtu 1290
way
ip link set v0 down
cat ipv6/conf/v0/mtu ipv6/conf/v0/hop_limit
ip link set v0 up
sleep 0.3
way
ra 64 1800 1400
set_ ipv6/conf/v0/accept_ra_min_hop_limit 60
ra 55 1800 1400
set_ ipv6/conf/v0/accept_ra_mtu 0
ra 61 1800 1350
echo done
