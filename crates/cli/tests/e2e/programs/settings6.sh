# What settings of IPv6 do, as settings.sh: the same lines on Linux and on belljar.
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
echo 1 > ipv6/conf/v0/accept_ra
for d in v0 v1 v2 v3; do ip link set $d up; done
sleep 0.3

echo "# all"
for key in force_forwarding ignore_routes_with_linkdown; do
    for on in 1 0; do set_ ipv6/conf/all/$key $on; cat ipv6/conf/all/$key ipv6/conf/default/$key ipv6/conf/v0/$key; done
done

echo "# discovery"
na() { ask "
s = wire('v1')
send(s, ip6('fe80::2', 'fe80::ff:fe00:1', bytes.fromhex('8700000000000000') + v6('fe80::ff:fe00:1') + bytes.fromhex('0101020000000002')), kind=0x86dd)
print(heard(s, lambda f: '%#x' % (struct.unpack('!H', f[14:16])[0] >> 4 & 255) if f[12:14] == b'\x86\xdd' and f[54] == 136 else None))
"; }
na
set_ ipv6/conf/v0/ndisc_tclass 224
na
pieces() { ask "
s = wire('v1')
ns = bytes.fromhex('8700000000000000') + v6('fe80::ff:fe00:1') + bytes.fromhex('0101020000000002')
for p in fragments('fe80::2', 'fe80::ff:fe00:1', ns, $1): send(s, p, kind=0x86dd)
print(len(heard(s, lambda f: 1 if f[12:14] == b'\x86\xdd' and f[54] == 136 else None)))
"; }
pieces 16
pieces 100
set_ ipv6/conf/v0/suppress_frag_ndisc 0
pieces 16
pieces 100
una() { ask "
s = wire('v1')
b = bytes.fromhex('8800000020000000') + v6('$1') + bytes.fromhex('0201020000000066')
send(s, ip6('$1', 'ff02::1', b), dst='333300000001', kind=0x86dd)
time.sleep(0.1)
"; ip -6 neigh show $1 dev v0; }
ip addr add fd05::1/64 dev v0
for on in 0 1 2; do
    set_ ipv6/conf/v0/accept_untracked_na $on
    una fd05::$on
    set_ ipv6/conf/v0/forwarding 1
    una fd05::1$on; una fd06::$on
    set_ ipv6/conf/v0/forwarding 0
done

echo "# routers"
ra() { ask "
s = wire('v1')
body = bytes.fromhex('86000000') + struct.pack('!BBHII', 64, 0, 0, 0, 0) + bytes.fromhex('$1')
send(s, ip6('fe80::2', 'ff02::1', body), dst='333300000001', kind=0x86dd)
time.sleep(0.1)
"; }
prefix() { printf '0304%s%s%08x%08x00000000%s' 40 "$1" "$2" "$3" "$4"; }
addrs() { ip -6 addr show dev v0 scope global dynamic | grep -o 'inet6.*[a-z]'; }
rtinfo() { printf '18%02x%02x%02x%08x%s' "$1" "$2" "$3" "$4" "$5"; }
routes() { ip -6 route show proto ra | grep -v default | sed 's/ expires [0-9]*sec//; s/ hoplimit [0-9]*//; s/ *$//'; }
d1=fd110000000000000000000000000000 d2=fd120000000000000000000000000000
set_ ipv6/conf/v0/ra_honor_pio_pflag 1
ra $(prefix d0 7300 7200 $d1); addrs
ra $(prefix c0 7300 7200 $d1); addrs
set_ ipv6/conf/v0/ra_honor_pio_pflag 0
ra $(prefix d0 7300 7200 $d2); addrs
ra $(prefix c0 0 0 $d1); addrs | grep -c fd11
set_ ipv6/conf/v0/ra_honor_pio_life 1
ra $(prefix c0 0 0 $d1); sleep 1; addrs | grep -c fd11
ra $(prefix c0 0 0 $d2); sleep 1; addrs
ra $(rtinfo 2 48 8 1800 fd21000000000000); routes
set_ ipv6/conf/v0/accept_ra_rt_info_max_plen 64
ra $(rtinfo 2 48 8 1800 fd21000000000000); routes
ra $(rtinfo 2 64 24 1800 fd22000000000001); routes
ra $(rtinfo 2 64 16 1800 fd23000000000001); routes
ra $(rtinfo 3 96 0 1800 fd240000000000010000000000000000); routes
set_ ipv6/conf/v0/accept_ra_rt_info_min_plen 50
ra $(rtinfo 2 48 0 1800 fd25000000000000); routes
ra $(rtinfo 2 64 24 0 fd22000000000001); routes
ra $(rtinfo 2 48 8 0 fd21000000000000); routes
set_ ipv6/conf/v0/accept_ra_rt_info_min_plen 0
ra $(rtinfo 2 48 8 0 fd21000000000000); routes

echo "# secrets"
cat ipv6/conf/v2/stable_secret 2>/dev/null || echo none
set_ ipv6/conf/v2/addr_gen_mode 2
cat ipv6/conf/v2/addr_gen_mode
set_ ipv6/conf/v2/stable_secret 2001:db8::1
cat ipv6/conf/v2/stable_secret ipv6/conf/v2/addr_gen_mode
ip link set v2 down; ip link set v2 up; sleep 0.3
ip -6 addr show dev v2 | grep inet6
ip -d link show v2 | grep -o 'addrgenmode [a-z_]*'
set_ ipv6/conf/default/stable_secret 2001:db8::9
cat ipv6/conf/*/addr_gen_mode
ip link add w0 address 02:00:00:00:00:05 type veth peer name w1
cat ipv6/conf/w0/addr_gen_mode
set_ ipv6/conf/default/stable_secret nonsense
set_ ipv6/conf/all/stable_secret 2001:db8::1
cat ipv6/conf/default/stable_secret
x() { echo "\$ $*"; "$@" 2>&1; }
x ip link set v2 addrgenmode none
cat ipv6/conf/v2/addr_gen_mode
x ip link set v2 addrgenmode eui64
ip link del w0

echo "# duplicates"
# Whoever asks first whether an address is free is told that it is not.
taken() { python3 -c "
exec(open('$frames').read())
import subprocess
s = wire('v3')
subprocess.run(['ip', 'link', 'set', 'v2', 'down']); subprocess.run(['ip', 'link', 'set', 'v2', 'up'])
asked, end = [], time.time() + $1
while time.time() < end:
    try: f, a = s.recvfrom(2000)
    except OSError: continue
    if a[2] == 4 or f[12:14] != b'\x86\xdd' or f[54] != 135 or f[22:38] != bytes(16): continue
    asked.append(socket.inet_ntop(10, f[62:78]))
    if len(asked) > 1: continue
    na = bytes.fromhex('8800000020000000') + f[62:78] + bytes.fromhex('0201020000000066')
    send(s, ip6(asked[0], 'ff02::1', na), dst='333300000001', kind=0x86dd)
print(asked)
"; ip -6 addr show dev v2 | grep inet6; }
for d in v2 v3; do ip link set $d up; done
set_ ipv6/conf/v2/accept_dad 1
set_ ipv6/conf/v2/addr_gen_mode 2
taken 4.5
set_ ipv6/idgen_retries 0
taken 3
set_ ipv6/idgen_retries 3
set_ ipv6/conf/v2/addr_gen_mode 0
set_ ipv6/conf/v2/accept_dad 2
taken 2
cat ipv6/conf/v2/disable_ipv6
set_ ipv6/conf/v2/disable_ipv6 0
set_ ipv6/conf/v2/accept_dad 0
ip link set v2 down; ip link set v2 up

echo "# optimism"
set_ ipv6/conf/v2/accept_dad 1
set_ ipv6/conf/v2/router_solicitation_delay 3
x ip addr add fd02::1/64 dev v2 optimistic
ip -6 addr show dev v2 | grep fd02
set_ ipv6/conf/v2/optimistic_dad 1
x ip addr add fd02::2/64 dev v2 optimistic nodad
x ip addr add fd02::3/64 dev v2 optimistic
ip -6 addr show dev v2 | grep fd02::3
ip -6 route get fd02::77 | sed 's/ metric.*//'
sleep 1.5
ip -6 addr show dev v2 | grep fd02::3
ip addr add fd02::5/64 dev v2 nodad
dup() { ask "
s = wire('v3')
import subprocess
subprocess.run(['ip', 'addr', 'add', '$1/64', 'dev', 'v2', 'optimistic'])
time.sleep(0.05)
t = v6('$1')
ns = bytes.fromhex('8700000000000000') + t + bytes.fromhex('0101020000000004')
send(s, ip6('fe80::4', '$1', ns), dst='020000000003', kind=0x86dd)
print(heard(s, lambda f: 'override' if f[58] & 0x20 else 'plain' if f[12:14] == b'\x86\xdd' and f[54] == 136 and f[62:78] == t else None)[:1])
na = bytes.fromhex('8800000020000000') + t + bytes.fromhex('0201020000000066')
send(s, ip6('$1', 'ff02::1', na), dst='333300000001', kind=0x86dd)
time.sleep(0.1)
"; ip -6 addr show dev v2 | grep "$1"; ip -6 route show table local | grep -c "$1"; }
dup fd02::6
for use in 0 1; do
    set_ ipv6/conf/v2/use_optimistic $use
    ip addr add fd07::1$use/64 dev v2 nodad
    ip addr add fd07::2$use/64 dev v2 optimistic
    sleep 0.2
    ip -6 route get fd07::2$((1 - use)) | sed 's/ metric.*//'
done

echo done
