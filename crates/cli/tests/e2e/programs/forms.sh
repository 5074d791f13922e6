# Forms of bridge, ethtool and ss that few use, errors included: the same lines on Linux and on belljar.
x() { echo "\$ $*"; "$@" 2>&1; }
ip link set lo up
ip link add v0 address 02:00:00:00:00:a0 type veth peer name v1 address 02:00:00:00:00:a1
ip link add br0 address 02:00:00:00:00:b0 type bridge vlan_default_pvid 0
for d in br0 v0 v1; do echo 1 > /proc/sys/net/ipv6/conf/$d/disable_ipv6; done
ip link set v1 master br0
for d in v0 v1 br0; do ip link set $d up; done
x bridge fdb add 02:00:00:00:00:77 dev v1 master static
x bridge fdb add 02:00:00:00:00:78 dev v1 master dynamic
for of in "br br0" "dev v1" "dev v1 master" "dev v1 self" "dev br0" "dev br0 self" "dev v0" "dev v0 self" "dev lo self"; do
    x bridge fdb get 02:00:00:00:00:77 $of
done
x bridge fdb get 02:00:00:00:00:99 br br0
x bridge fdb get 02:00:00:00:00:77 br v0
x bridge fdb get 02:00:00:00:00:77 br br0 vlan 9
show() { bridge fdb show br br0 | grep 02:00 | sort; }
x bridge fdb flush dev br0 nopermanent static
show
x bridge fdb add 02:00:00:00:00:77 dev v1 master static
x bridge fdb flush dev br0 vlan 7
x bridge fdb flush dev br0 brport v0
x bridge fdb flush dev v0 master
x bridge fdb flush dev br0 nopermanent nostatic
show
x bridge fdb flush dev v1 master
show
x bridge fdb flush dev br0
show
x bridge -d mdb show dev br0
x bridge link set dev v1 mcast_router 2
x bridge -d mdb show dev br0
x bridge link set dev v1 mcast_router 1
x bridge -d mdb show dev br0
for how in add append; do for mac in 02:00:00:00:00:55 02:00:00:00:00:55 33:33:00:00:00:55; do
    x bridge fdb $how $mac dev v0 self
done; done
x bridge fdb add 02:00:00:00:00:56 dev v0 dynamic
x bridge fdb add 02:00:00:00:00:56 dev v0 vlan 5
bridge fdb show dev v0 | grep -v 33:33:00:00:00:01
for mac in 02:00:00:00:00:55 02:00:00:00:00:55 33:33:00:00:00:55; do x bridge fdb del $mac dev v0; done
bridge fdb show dev v0 | grep -v 33:33:00:00:00:01
for form in "-S lo" "-i lo" "-s v0 speed 100" "-s v0 port tp" "-m v0" "--show-module v0" "--set-module v0 power-mode-policy auto" \
    "--show-tunnels v0" "-L v0 combined 3" "-L v0 rx 9" "-G v0 rx 9" "-x v0" "-a v0"; do
    x ethtool $form
done
python3 -c "
import socket, subprocess
l = socket.create_server(('127.0.0.1', 8080))
for form in ('-f inet -ln', '-ltn', '-Mln', '-lnt sport = :8080', '-Hln4'):
    print('\$ ss', form, flush=True)
    subprocess.run(['ss'] + form.split())"
echo done
