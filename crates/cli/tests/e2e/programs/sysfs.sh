# /sys/class/net and /proc/net: files that are read, attributes that are written, links between devices.
r() { echo "\$ $*"; "$@" 2>&1; c=$?; [ $c = 0 ] || echo "=> $c"; }
w() { { echo "$2" > "$at/$1"; } 2>/dev/null; echo "$1 <- '$2': $(cat "$at/$1" 2>&1)"; }
ip link set lo up
ip link add v0 address 02:00:00:00:00:01 type veth peer name v1 address 02:00:00:00:00:02
ip link add br0 address 02:00:00:00:00:0b type bridge
ip link set v1 master br0
ip tuntap add tp0 mode tap
ip tuntap add tn0 mode tun
ip link set v0 up; ip link set v1 up; ip link set br0 up; ip addr add 10.0.0.1/24 dev v0
# Until the carrier is told of and addresses are no longer tentative.
sleep 3
for d in lo v0 v1 br0 tp0; do
    echo "== $d"
    at=/sys/class/net/$d
    ls $at/ | grep -v -e power -e brforward
    for f in flags carrier carrier_up_count testing dormant speed duplex ifalias netdev_group tun_flags owner group \
        uevent name_assign_type; do
        [ -e $at/$f ] && r cat $at/$f
    done
    for f in $(ls $at/); do [ -L $at/$f ] && [ $f != subsystem ] && echo "$f -> $(readlink $at/$f)"; done
done
ls /sys/class/net/lo/queues/tx-0 | grep -v xps_rxqs
r cat /sys/class/net/lo/queues/tx-0/tx_timeout /sys/class/net/lo/queues/tx-0/tx_maxrate
r cat /sys/class/net/lo/queues/tx-0/traffic_class
at=/sys/class/net/v0
for x in 1400 10 99999 0x500 abc 1400x -1; do w mtu $x; done
for x in 500 -1 0x10 abc 4294967296 010; do w tx_queue_len $x; done
w ifalias "hello there"; ip link show v0 | grep alias; w ifalias ""
for x in 5 0x6 -1 abc; do w netdev_group $x; done
ip -o link show v0 | grep -o 'group 6'
w flags 0; w flags 0x1003; w flags 0x1103; w flags abc; w flags 0x1003
for f in threaded carrier proto_down queues/tx-0/tx_maxrate; do sh -c "echo 1 > $at/$f" 2>/dev/null || echo "$f is refused"; done
for f in speed ifindex carrier_changes; do [ "$(stat -c %a $at/$f)" = 444 ] && echo "$f is read only"; done
w ../tp0/mtu 1600
sh -c "echo 1 > $at/../tp0/carrier" 2>/dev/null || echo "carrier of what is down is refused"
r ip tuntap
python3 - <<'P' &
import socket, struct, time
s = socket.socket(2, 2); s.setsockopt(0, 35, socket.inet_aton("239.1.2.3") + socket.inet_aton("10.0.0.1"))
six, i = socket.socket(10, 2), socket.if_nametoindex("v0")
six.setsockopt(41, 20, socket.inet_pton(10, "ff05::77") + struct.pack("I", i))
p = socket.socket(17, 3, socket.ntohs(3)); p.bind(("v0", 3))
p.setsockopt(263, 1, struct.pack("iHH8s", i, 0, 6, bytes([1, 0x80, 0xc2, 0, 0, 0, 0, 0])))
q = socket.socket(17, 2, socket.htons(0x88cc))
print("joined", flush=True)
time.sleep(30)
P
p=$!
sleep .5
cd /proc/net
for f in igmp6 dev_mcast ptype udplite udplite6 rt_cache nf_conntrack_expect netfilter/nf_log; do
    echo "== $f"
    # 802.2 has a taker only where a bridge's module is loaded for it.
    cat $f | grep -v llc_rcv | sort
done
ip maddr show dev v0 | sort
grep UdpLite snmp
grep -o 'Icmp6OutType1[0-9]*' snmp6
for n in conntrack multiport tcp icmp; do grep -qx $n ip_tables_matches && echo $n; done
grep -x -e MASQUERADE -e REJECT ip_tables_targets | sort -u
kill $p
echo done
