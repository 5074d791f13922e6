# Matches and targets of iptables beyond the everyday ones, with traffic: what each rule counts, what the files of /proc say, what arrives
# changed. The same in a network namespace and in a jar.
exec 2>&1
PATH=$PATH:/usr/sbin:/sbin
i=iptables-legacy i6=ip6tables-legacy
for n in xa xb xr; do ip netns add $n; done
# xa -- here -- xb; what is copied goes to xr.
for n in a b r; do
    ip link add d$n type veth peer name eth0 netns x$n
    case $n in a) k=1 ;; b) k=2 ;; r) k=3 ;; esac
    ip link set d$n address 02:00:00:00:0$k:01 up; ip -n x$n link set eth0 address 02:00:00:00:0$k:02
    ip -n x$n link set lo up; ip -n x$n link set eth0 up
    ip addr add 10.$k.0.1/24 dev d$n; ip -n x$n addr add 10.$k.0.2/24 dev eth0; ip -n x$n route add default via 10.$k.0.1
    ip addr add fd0$k::1/64 dev d$n nodad; ip -n x$n addr add fd0$k::2/64 dev eth0 nodad; ip -n x$n -6 route add default via fd0$k::1
done
ip link set lo up
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.da.rp_filter=0
ip netns exec xa sysctl -qw net.ipv4.ip_nonlocal_bind=1
sleep 1.3
w=$(mktemp)
cat > $w <<'PY'
# send HOST PORT COUNT [TEXT [TTL [TOS [GAP [SOURCE]]]]]; hear PORT COUNT: what comes, with hop limit and type of service.
import socket, sys, time
a = sys.argv[1:]
if a[0] == "send":
    host, port, count = a[1], int(a[2]), int(a[3])
    text = a[4].encode() if len(a) > 4 else b"x"
    six = ":" in host
    s = socket.socket(10 if six else 2, 2)
    if len(a) > 5 and int(a[5]): s.setsockopt(41 if six else 0, 16 if six else 2, int(a[5]))
    if len(a) > 6 and int(a[6]): s.setsockopt(41 if six else 0, 67 if six else 1, int(a[6]))
    if len(a) > 8: s.setsockopt(0, 19, 1); s.bind((a[8], 0))
    for n in range(count):
        try: s.sendto(text, (host, port))
        except OSError as e: print("send", e)
        if len(a) > 7 and n + 1 < count: time.sleep(float(a[7]))
elif a[0] == "many":
    for n in range(1, int(a[3]) + 1):
        s = socket.socket(2, 2); s.setsockopt(0, 19, 1); s.bind(("10.1.1.%d" % n, 0)); s.sendto(b"x", (a[1], int(a[2])))
elif a[0] == "hear":
    six = len(a) > 3
    s = socket.socket(10 if six else 2, 2)
    s.bind(("::" if six else "0.0.0.0", int(a[1]))); s.settimeout(float(a[4]) if len(a) > 4 else 3)
    if six: s.setsockopt(41, 51, 1); s.setsockopt(41, 66, 1)
    else: s.setsockopt(0, 12, 1); s.setsockopt(0, 13, 1)
    print("ready", flush=True)
    for n in range(int(a[2])):
        try: d, c, f, who = s.recvmsg(2000, 200)
        except OSError as e: print("nothing"); break
        print("got", len(d), "from", who[0], *sorted((k, v[0]) for l, k, v in c), flush=True)
elif a[0] == "tcp":
    # So many connections at once, each told whether it is one.
    all = []
    for n in range(int(a[3])):
        s = socket.socket(); s.settimeout(0.4); all.append(s)
        try: s.connect((a[1], int(a[2]))); print("connected")
        except OSError as e: print(type(e).__name__)
elif a[0] == "serve":
    s = socket.socket(); s.setsockopt(1, 2, 1); s.bind(("0.0.0.0", int(a[1]))); s.listen(); kept = []
    print("ready", flush=True)
    while True: kept.append(s.accept())
PY
from() { n=$1; shift; ip netns exec x$n python3 $w "$@"; }
count() { $1 -t $2 -nvxL $3 | awk 'NR > 2 { sub(" [*]/", ""); print $1, $2, $NF }'; }
zero() { for t in raw mangle nat filter; do $i -t $t -F; $i -t $t -X; $i6 -t $t -F; done; }
c() { comment="$1"; shift; "$@" -m comment --comment "$comment"; }

echo '$ addresses, hop limits, types of service, lengths'
c range $i -A INPUT -p udp -m iprange --src-range 10.1.0.1-10.1.0.9
c notrange $i -A INPUT -p udp -m iprange ! --dst-range 10.1.0.1-10.1.0.1
c mac $i -A INPUT -p udp -m mac --mac-source 02:00:00:00:01:02
c notmac $i -A INPUT -p udp -m mac ! --mac-source 02:00:00:00:01:02
c lomac $i -A INPUT -i lo -m mac ! --mac-source 02:00:00:00:01:02
c unicast $i -A INPUT -m pkttype --pkt-type unicast
c broadcast $i -A INPUT -m pkttype --pkt-type broadcast
c out-unicast $i -t mangle -A OUTPUT -m pkttype --pkt-type unicast
c out-broadcast $i -t mangle -A OUTPUT -m pkttype --pkt-type broadcast
c ttleq $i -A INPUT -p udp -m ttl --ttl-eq 7
c ttllt $i -A INPUT -p udp -m ttl --ttl-lt 64
c ttlgt $i -A INPUT -p udp -m ttl --ttl-gt 63
c tos $i -A INPUT -p udp -m tos --tos 0x10/0x1c
c nottos $i -A INPUT -p udp -m tos ! --tos 0x10
c dscp $i -A INPUT -p udp -m dscp --dscp 4
c ect $i -A INPUT -p udp -m ecn --ecn-ip-ect 2
c group $i -A INPUT -m devgroup --src-group 0
c cpu $i -A INPUT -p udp -m cpu ! --cpu 99
c realm $i -A INPUT -p udp -m realm --realm 0
c policy $i -A INPUT -p udp -m policy --dir in --pol none
c ipsec $i -A INPUT -p udp -m policy --dir in --pol ipsec
c always $i -A INPUT -p udp -m time --timestart 00:00 --timestop 23:59:59
c never $i -A INPUT -p udp -m time --datestop 2001-01-01
c u32 $i -A INPUT -p udp -m u32 --u32 '0>>22&0x3c@0&0xffff=99'
c bpf $i -A INPUT -m bpf --bytecode '4,48 0 0 9,21 0 1 17,6 0 0 1,6 0 0 0'
c helper $i -A INPUT -p udp -m helper --helper ftp
from a send 10.1.0.1 99 2; from a send 10.1.0.1 99 3 x 7; from a send 10.1.0.1 98 1 x 0 18; from a send 10.1.0.255 99 1
python3 $w send 127.0.0.1 99 1
count $i filter INPUT; count $i mangle OUTPUT
zero

echo '$ strings'
c hello $i -A INPUT -p udp -m string --algo bm --string hello
c HELLO $i -A INPUT -p udp -m string --algo kmp --icase --string HELLO
c hex $i -A INPUT -p udp -m string --algo bm --hex-string '|68656c|lo'
c from $i -A INPUT -p udp -m string --algo bm --from 29 --string hello
c to $i -A INPUT -p udp -m string --algo bm --to 33 --string hello
c to32 $i -A INPUT -p udp -m string --algo bm --to 32 --string hello
c not $i -A INPUT -p udp -m string --algo bm ! --string hello
c far $i -A INPUT -p udp -m string --algo bm --from 1400 --string end
from a send 10.1.0.1 99 2 hello; from a send 10.1.0.1 99 1 Hello; from a send 10.1.0.1 99 1 $(printf '%01397d' 0)hello; from a send 10.1.0.1 99 1 $(printf '%01440d' 0)end
count $i filter INPUT
zero

echo '$ recent'
$i -A INPUT -p udp --dport 10 -m recent --name list --set
c seen $i -A INPUT -p udp --dport 11 -m recent --name list --rcheck
c unseen $i -A INPUT -p udp --dport 11 -m recent --name list ! --rcheck
c three $i -A INPUT -p udp --dport 11 -m recent --name list --rcheck --hitcount 3
c update $i -A INPUT -p udp --dport 12 -m recent --name list --update --seconds 60 --hitcount 4
c gone $i -A INPUT -p udp --dport 13 -m recent --name list --remove
c ttl $i -A INPUT -p udp --dport 11 -m recent --name list --rcheck --rttl
c dest $i -A INPUT -p udp --dport 14 -m recent --name dest --set --rdest --mask 255.255.0.0
ls /proc/net/xt_recent
from a send 10.1.0.1 11 1; from a send 10.1.0.1 10 2; from a send 10.1.0.1 11 1; from a send 10.1.0.1 10 1; from a send 10.1.0.1 11 1 x 9; from a send 10.1.0.1 12 3
recent() { sed 's/last_seen: [0-9]*/last_seen: N/; s/\(oldest_pkt: [0-9]*\).*/\1/' /proc/net/xt_recent/$1; }
stamps() { awk '{ print NF - 8 + 1 }' /proc/net/xt_recent/$1; }
count $i filter INPUT; recent list; stamps list
from a send 10.1.0.1 14 1; recent dest
from b send 10.2.0.1 10 1; echo -10.1.0.2 > /proc/net/xt_recent/list; recent list; echo +10.9.9.9 > /proc/net/xt_recent/list; recent list | sort
from b send 10.2.0.1 13 2; count $i filter INPUT | tail -3; recent list
echo / > /proc/net/xt_recent/list; recent list
# A list of a hundred: the one that was not seen for the longest time makes room.
from a many 10.1.0.1 10 101
wc -l < /proc/net/xt_recent/list; recent list | grep -c 10.1.1.1' '
$i -D INPUT -p udp --dport 14 -m recent --name dest --set --rdest --mask 255.255.0.0 -m comment --comment dest; ls /proc/net/xt_recent
zero; ls /proc/net/xt_recent | wc -l

echo '$ hashlimit'
c ten $i -A INPUT -p udp -m hashlimit --hashlimit-upto 1/min --hashlimit-burst 3 --hashlimit-mode srcip,dstport --hashlimit-name ten
c above $i -A INPUT -p udp -m hashlimit --hashlimit-above 1/hour --hashlimit-burst 4 --hashlimit-mode srcip --hashlimit-srcmask 8 --hashlimit-name above
c bytes $i -A INPUT -p udp --dport 99 -m hashlimit --hashlimit-upto 1kb/s --hashlimit-mode srcip --hashlimit-name bytes
c burst $i -A INPUT -p udp --dport 99 -m hashlimit --hashlimit-upto 1kb/s --hashlimit-burst 2kb --hashlimit-mode srcip --hashlimit-name burst
c match $i -A INPUT -p udp -m hashlimit --hashlimit-upto 2/sec --hashlimit-burst 2 --hashlimit-mode srcip --hashlimit-name match --hashlimit-rate-match --hashlimit-rate-interval 60
c small $i -A INPUT -p udp -m hashlimit --hashlimit-upto 1/min --hashlimit-mode srcport --hashlimit-name small --hashlimit-htable-size 2 --hashlimit-htable-max 2
from a send 10.1.0.1 99 5 $(printf '%0300d' 0); from a send 10.1.0.1 98 2; from b send 10.2.0.1 99 2; from a send 10.1.0.1 97 1
count $i filter INPUT
ls /proc/net/ipt_hashlimit
for f in ten above; do sed 's/^[0-9]* //; s/ [0-9]* \([0-9]* [0-9]*\)$/ \1/' /proc/net/ipt_hashlimit/$f | sort; done
wc -l < /proc/net/ipt_hashlimit/small; cut -d' ' -f4- /proc/net/ipt_hashlimit/bytes | sort
zero; ls /proc/net/ipt_hashlimit | wc -l

echo '$ connections'
ip netns exec xb python3 $w serve 80 > $w.out & server=$!; until [ -s $w.out ]; do sleep 0.1; done
c above $i -A FORWARD -p tcp --syn -m connlimit --connlimit-above 2 -j REJECT --reject-with tcp-reset
c upto $i -A FORWARD -p tcp --syn -m connlimit --connlimit-upto 1 --connlimit-daddr
c net $i -A FORWARD -p tcp --syn -m connlimit --connlimit-above 1 --connlimit-mask 8
from a tcp 10.2.0.2 80 4; from a tcp 10.2.0.2 80 1
count $i filter FORWARD
zero
cat /proc/sys/net/netfilter/nf_conntrack_acct
c packets $i -A INPUT -p udp -m connbytes --connbytes 3: --connbytes-dir original --connbytes-mode packets
c bytes $i -A INPUT -p udp -m connbytes --connbytes 30:100 --connbytes-dir both --connbytes-mode bytes
c not $i -A INPUT -p udp -m connbytes ! --connbytes 30:100 --connbytes-dir both --connbytes-mode bytes
c avg $i -A INPUT -p udp -m connbytes --connbytes :29 --connbytes-dir both --connbytes-mode avgpkt
cat /proc/sys/net/netfilter/nf_conntrack_acct
from a send 10.1.0.1 99 5
count $i filter INPUT
c quota $i -I INPUT -p udp -m quota --quota 100
c noquota $i -I INPUT -p udp -m quota ! --quota 58
from a send 10.1.0.1 99 5
count $i filter INPUT | head -2
zero

echo '$ rpfilter'
c strict $i -t mangle -A PREROUTING -p udp -m rpfilter
c loose $i -t mangle -A PREROUTING -p udp -m rpfilter --loose
c invert $i -t mangle -A PREROUTING -p udp -m rpfilter --invert
c local $i -t mangle -A PREROUTING -p udp -m rpfilter --accept-local
c strict $i6 -t mangle -A PREROUTING -p udp -m rpfilter
c invert $i6 -t mangle -A PREROUTING -p udp -m rpfilter --invert
from a send 10.1.0.1 99 1; from a send 10.1.0.1 99 1 x 0 0 0 10.2.0.7; from a send 10.1.0.1 99 1 x 0 0 0 10.77.0.7; from a send 10.1.0.1 99 1 x 0 0 0 10.2.0.1
python3 $w send 127.0.0.1 99 1; from a send fd01::1 99 1
count $i mangle PREROUTING; count $i6 mangle PREROUTING
zero

echo '$ IPv6'
c hl $i6 -A INPUT -p udp -m hl --hl-eq 7
c hlgt $i6 -A INPUT -p udp -m hl --hl-gt 10
c range $i6 -A INPUT -p udp -m iprange --src-range fd01::1-fd01::2
c recent $i6 -A INPUT -p udp -m recent --name six --set
c hash $i6 -A INPUT -p udp -m hashlimit --hashlimit-upto 1/min --hashlimit-burst 2 --hashlimit-mode srcip --hashlimit-name six --hashlimit-srcmask 64
c header $i6 -A INPUT -p udp -m ipv6header --header prot
c soft $i6 -A INPUT -p udp -m ipv6header --header prot --soft
c frag $i6 -A INPUT -m frag --fragid 0:4294967295
c hbh $i6 -A INPUT -m hbh
c rt $i6 -A INPUT -m rt --rt-type 0
c dscp $i6 -A INPUT -p udp -m dscp --dscp 4
c mac $i6 -A INPUT -p udp -m mac --mac-source 02:00:00:00:01:02
c string $i6 -A INPUT -p udp -m string --algo bm --string hello
from a send fd01::1 99 2; from a send fd01::1 99 1 hello 7; from a send fd01::1 99 1 x 0 16
count $i6 filter INPUT; recent six; sed 's/^[0-9]* //; s/ [0-9]* \([0-9]* [0-9]*\)$/ \1/' /proc/net/ip6t_hashlimit/six
zero

echo '$ targets: what arrives'
hear() { rm -f $w.heard; from b hear "$@" > $w.heard & h=$!; until [ -s $w.heard ]; do sleep 0.1; done; }
heard() { wait $h; grep -v ready $w.heard; }
$i -t mangle -A PREROUTING -p udp --dport 50 -j TTL --ttl-set 20
c after $i -t mangle -A PREROUTING -p udp --dport 50 -m ttl --ttl-eq 20
$i -t mangle -A PREROUTING -p udp --dport 51 -j TTL --ttl-dec 5
$i -t mangle -A PREROUTING -p udp --dport 52 -j TTL --ttl-inc 3
$i -t mangle -A FORWARD -p udp --dport 50 -j DSCP --set-dscp 10
$i -t mangle -A FORWARD -p udp --dport 51 -j TOS --set-tos 0x12
$i -t mangle -A FORWARD -p udp --dport 52 -j TOS --or-tos 4
c tos $i -t mangle -A POSTROUTING -p udp -m tos --tos 0x12
c class $i -t mangle -A POSTROUTING -p udp --dport 52 -j CLASSIFY --set-class 1:3
$i -t mangle -A POSTROUTING -p udp -j CHECKSUM --checksum-fill
for p in 50 51 52; do hear $p 1; from a send 10.2.0.2 $p 1 x 0 8; heard; done
count $i mangle PREROUTING; count $i mangle POSTROUTING
$i6 -t mangle -A PREROUTING -p udp -j HL --hl-set 33
$i6 -t mangle -A FORWARD -p udp -j DSCP --set-dscp 10
hear 50 1 6; from a send fd02::2 50 1; heard
zero

echo '$ NETMAP'
ip -n xb addr add 192.168.7.9/24 dev eth0; ip route add 192.168.7.0/24 via 10.2.0.2
$i -t nat -A PREROUTING -d 10.55.0.0/24 -j NETMAP --to 192.168.7.0/24
$i -t nat -A POSTROUTING -s 10.1.0.0/24 -o db -j NETMAP --to 10.66.3.0/24
ip -n xb route add 10.66.3.0/24 via 10.2.0.1
hear 50 1; from a send 10.55.0.9 50 1; heard
conntrack -L -p udp --dport 50 2> /dev/null | sed 's/^udp *17 [0-9]*//; s/sport=[0-9]*/sport=S/; s/dport=[0-9]\{3,\}/dport=D/'
ip netns exec xa ping -c 1 -W 2 10.55.0.9 | grep -c 'bytes from 10.55.0.9'
$i6 -t nat -A PREROUTING -d fd55::/64 -j NETMAP --to fd02::/64
hear 50 1 6; from a send fd55::2 50 1; heard
zero; conntrack -F > /dev/null 2>&1

echo '$ TEE'
$i -t mangle -A PREROUTING -p udp --dport 60 -j TEE --gateway 10.3.0.2
$i -t mangle -A POSTROUTING -p udp --dport 61 -j TEE --gateway 10.3.0.2 --oif dr
ip netns exec xr $i -t mangle -A PREROUTING -p udp --dport 60 -m ttl --ttl-eq 63
ip netns exec xr $i -t mangle -A PREROUTING -p udp --dport 61 -m ttl --ttl-eq 63
ip -n xr route del default
c copies $i -t mangle -A OUTPUT -p udp --dport 60
c post $i -t mangle -A POSTROUTING -p udp --dport 60 -o dr
hear 60 1; from a send 10.2.0.2 60 1; heard; hear 61 1; from a send 10.2.0.2 61 1; heard
sleep 0.3
ip netns exec xr $i -t mangle -nvxL PREROUTING | awk 'NR > 2 { print $1, $2 }'
count $i mangle OUTPUT; count $i mangle POSTROUTING
zero

echo '$ queues that nobody listens on'
c drop $i -A INPUT -p udp --dport 70 -j NFQUEUE --queue-num 3
c behind $i -A INPUT -p udp --dport 70
$i -A INPUT -p udp --dport 71 -j NFQUEUE --queue-num 3 --queue-bypass
c behind $i -A INPUT -p udp --dport 71
from a send 10.1.0.1 70 2; from a send 10.1.0.1 71 2
count $i filter INPUT
zero

echo '$ zones'
$i -t raw -A PREROUTING -i da -j CT --zone 5
$i -t raw -A PREROUTING -i db -p udp -j CT --zone-orig 6
$i -A INPUT -m conntrack --ctstate NEW
from a send 10.1.0.1 81 1; from b send 10.2.0.1 82 1; from r send 10.3.0.1 83 1
conntrack -L -p udp 2> /dev/null | sed 's/^udp *17 [0-9]*//; s/sport=[0-9]\{3,\}/sport=S/; s/dport=[0-9]\{3,\}/dport=D/' | sort
conntrack -L -p udp --zone 5 2> /dev/null | wc -l
conntrack -D -p udp --orig-zone 5 2>&1 | tail -1
conntrack -L -p udp 2> /dev/null | wc -l
zero
nft 'add table ip z; add chain ip z p { type filter hook prerouting priority raw; }; add rule ip z p iif da ct zone set 9; add rule ip z p ct state new'
nft 'add chain ip z i { type filter hook input priority 0; }; add rule ip z i ct zone 9 counter; add rule ip z i udp dport 84 dup to 10.3.0.2 device dr'
ip netns exec xr $i -t mangle -F; ip netns exec xr $i -t mangle -A PREROUTING -p udp --dport 84
from a send 10.1.0.1 84 2; sleep 0.2
nft list table ip z; conntrack -L -p udp 2> /dev/null | grep -c zone=9
ip netns exec xr $i -t mangle -nvxL PREROUTING | awk 'NR > 2 { print $1, $2 }'
nft flush ruleset

echo '$ traced'
iptables-nft -t raw -A OUTPUT -p udp --dport 90 -j TRACE
iptables-nft -A INPUT -p udp; iptables-nft -A OUTPUT -p udp; iptables-nft -t mangle -A POSTROUTING -p udp -m comment --comment last
xtables-monitor -t > $w.trace & m=$!
sleep 0.7; python3 $w send 127.0.0.1 90 1; python3 $w send 127.0.0.1 91 1; sleep 0.3; kill $m
# A packet keeps its number until it comes in again.
awk '{ if (!($3 in n)) n[$3] = ++k; $3 = n[$3]; print }' $w.trace | sed 's/ ID=[0-9]*//; s/SPORT=[0-9]*/SPORT=S/'
nft flush ruleset

echo '$ a service that keeps its clients'
$i-restore <<'R'
*nat
:KUBE-SVC - [0:0]
:KUBE-SEP-A - [0:0]
:KUBE-SEP-B - [0:0]
-A PREROUTING -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -m comment --comment "default/web cluster IP" -j KUBE-SVC
-A KUBE-SVC -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-A --rsource -j KUBE-SEP-A
-A KUBE-SVC -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-B --rsource -j KUBE-SEP-B
-A KUBE-SVC -m statistic --mode nth --every 2 --packet 0 -j KUBE-SEP-A
-A KUBE-SVC -j KUBE-SEP-B
-A KUBE-SEP-A -p tcp -m recent --name KUBE-SEP-A --set --rsource -j DNAT --to-destination 10.2.0.2:80
-A KUBE-SEP-B -p tcp -m recent --name KUBE-SEP-B --set --rsource -j DNAT --to-destination 10.3.0.2:80
COMMIT
R
from a tcp 10.96.0.10 80 3; from r tcp 10.96.0.10 80 1
$i -t nat -nvxL KUBE-SVC | awk 'NR > 2 { print $1, $3 }'
ls /proc/net/xt_recent; for l in KUBE-SEP-A KUBE-SEP-B; do recent $l; done
zero
kill $server
for n in xa xb xr; do ip netns del $n; done
echo done
