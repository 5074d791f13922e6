# Flags of devices that programs set, by netlink and by ioctl; what a bridge keeps of its table.
r() { echo "\$ $*"; "$@" 2>&1; c=$?; [ $c = 0 ] || echo "=> $c"; }
ip link set lo up
ip link add v0 address 02:00:00:00:00:a0 type veth peer name v1 address 02:00:00:00:00:a1
ip link set v0 up
ip link set v1 up
sleep 0.3
for word in -arp arp -multicast multicast dynamic -dynamic -trailers trailers allmulti promisc -allmulti -promisc -broadcast \
    -pointopoint; do
    r ifconfig v0 $word
    ip link show v0 | head -1
done
for word in "dynamic on" "trailers off" "dynamic off trailers on" "multicast off" "arp off" "allmulticast on promisc on" \
    "promisc off allmulticast off arp on multicast on"; do
    r ip link set v0 $word
    ip link show v0 | head -1
done
for word in "dynamic on" "multicast on" "arp off" "dynamic off multicast off arp on"; do
    r ip link set lo $word
    ip link show lo | head -1
done
python3 -c "
import fcntl, socket, struct
s = socket.socket()
flags = lambda: hex(struct.unpack('16sH14x', fcntl.ioctl(s, 0x8913, struct.pack('16sH14x', b'v0', 0)))[1])
for more in (4, 0x20, 0x8000, 0x2000, 0x4000, 0x400, 0x800, 0x80, 8, 0):
    fcntl.ioctl(s, 0x8914, struct.pack('16sH14x', b'v0', 0x1043 | more))
    print(hex(more), flags())
for less in (0x1000, 2, 0):
    fcntl.ioctl(s, 0x8914, struct.pack('16sH14x', b'v0', 0x1043 & ~less))
    print(hex(less), flags())"
echo "# groups"
ip link add g0 group 5 type veth peer name g1 group 6
ip link add h0 group 6 type veth peer name h1
for words in "set group 6 up mtu 1300" "set group 99 up" "del group 99" "del group 0" "del group 5" "del group 6"; do
    r ip link $words
    ip -o link show | sed -n 's/NO-CARRIER,//; s/,M-DOWN//; s/,LOWER_UP//; s/.* \([gh][01]\)@[^<]*\(<.*>\) \(mtu [0-9]*\) .*\(group [a-z0-9]*\).*/\1 \2 \3 \4/p'
done
ip link set lo group 7
r ip link del group 7
ip link set lo group 0
echo "# tables of bridges"
ip link add br0 address 02:00:00:00:00:b0 type bridge
ip link set br0 up
ip link add w0 type veth peer name w1
for p in v1 w0; do ip link set $p master br0; ip link set $p up; done
ip link set w1 up
sleep 1.5
# With VLANs each is there twice.
table() { bridge fdb show br br0 | grep 02:00:00:00:02 | grep -v vlan | sort; }
n=10
for words in "" "static" "dynamic" "sticky" "static sticky" "dynamic sticky" "permanent sticky" "extern_learn" "static extern_learn" \
    "dynamic extern_learn" "use" "static use" "permanent use"; do
    n=$((n + 1))
    r bridge fdb add 02:00:00:00:02:$n dev v1 master $words
done
n=50
for words in "" "self static" "self permanent" "self permanent sticky" "self permanent extern_learn" "self static extern_learn" \
    "self permanent use" "master static" "master permanent"; do
    n=$((n + 1))
    r bridge fdb add 02:00:00:00:02:$n dev br0 $words
done
table
r bridge fdb del 02:00:00:00:02:51 dev br0 master
r bridge fdb del 02:00:00:00:02:51 dev br0
r bridge fdb replace 02:00:00:00:02:15 dev v1 master static
r bridge fdb replace 02:00:00:00:02:12 dev v1 master static sticky
r bridge fdb replace 02:00:00:00:02:13 dev v1 master dynamic extern_learn
r bridge fdb replace 02:00:00:00:02:20 dev v1 master dynamic
table
echo "# frames move those that do not stick"
python3 -c "
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('w1', 0))
for n in (0x11, 0x12, 0x13, 0x16, 0x18, 0x21):
    s.send(b'\x02\0\0\0\x09\x09' + b'\x02\0\0\0\x02' + bytes([n]) + b'\x88\xb5' + bytes(46))"
sleep 0.3
table
echo done
