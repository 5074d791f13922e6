# When addresses of IPv6 begin and end with their interface: given before it is up, without a carrier, kept when it goes down; and
# who is told.
r() { echo "\$ $*"; "$@" 2>&1; c=$?; [ $c = 0 ] || echo "=> $c"; }
show() { ip -6 route show dev $1; ip -6 route show table local dev $1; ip -6 addr show dev $1 | grep inet6; }
bound() { python3 -c "
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
try: s.bind(('$1', 0)); print('$1 bound')
except OSError as e: print('$1', e.strerror)"; }
r ip link set lo up
r ip link add v0 address 02:00:00:00:00:a0 type veth peer name v1 address 02:00:00:00:00:a1
r ip link add w0 address 02:00:00:00:00:b0 type veth peer name w1 address 02:00:00:00:00:b1
r ip link add br0 address 02:00:00:00:00:c0 type bridge
r ip -6 addr add fd00:1::1/64 dev v0
r ip -6 addr add fd00:1:1::1/64 dev v0 nodad
r ip -6 addr add fd00:2::1/64 dev w0
r ip -6 addr add fd00:3::1/64 dev br0
show v0
bound fd00:1::1
bound fd00:1:1::1
r ip link set v0 up
r ip link set br0 up
r ip link set w1 up
r ip link set w0 up
sleep 1.2
echo "# without a carrier"
show v0
show br0
r ip -6 addr add fd00:4::1/64 dev br0
show br0
echo "# with one"
r ip link set v1 up
sleep 3.5
show v0
show w0
echo "# a port"
r ip link set v1 master br0
sleep 3.5
show br0
echo "# down"
m=$(mktemp)
ip -6 monitor address route > $m &
monitor=$!
sleep 0.4
echo 1 > /proc/sys/net/ipv6/conf/w0/keep_addr_on_down
r ip -6 addr add fd00:5::1/64 dev w0 nodad
r ip link set w0 down
sleep 0.2
show w0
r ip link set v0 down
r ip link set w0 up
sleep 3.5
show w0
r ip link del w0
sleep 0.3
kill $monitor
grep -A1 "^Deleted .* inet6 .* scope" $m
grep "^Deleted.*[vw]0 " $m | sort
rm $m
echo done
