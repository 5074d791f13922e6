# Sets as `ipset` makes them and rules use them; what hashing makes different each time is left out.
ip link set lo up
x() {
    echo "$ $*"
    out=$("$@" 2>&1)
    echo "rc $?"
    [ "$out" ] || return
    text=$(echo "$out" | sed 's/ initval 0x[0-9a-f]*//; s/timeout 9[0-9]*/timeout 9x/; /^Size in memory/d; s/<memsize>.*<.memsize>//')
    # Members have no order.
    case "$*" in *save | "ipset list" | "ipset list "[a-z]*) echo "$text" | sort ;; *) echo "$text" ;; esac
}
x ipset create a hash:ip
x ipset create a hash:ip
x ipset -exist create a hash:ip
x ipset create a6 hash:ip family inet6 hashsize 100 maxelem 3 timeout 100 counters comment
x ipset create n hash:net
x ipset create ipp hash:ip,port timeout 0
x ipset create np hash:net,port counters
x ipset create ipi hash:ip,port,ip counters
x ipset create ipn hash:ip,port,net
x ipset create bi bitmap:ip range 10.0.0.0/24
x ipset create bin bitmap:ip range 10.0.0.0/16 netmask 24 timeout 95
x ipset create bp bitmap:port range 0-1023 counters comment
x ipset create ls list:set size 4
x ipset create nm hash:ip netmask 24
x ipset create bad nosuch:ip
x ipset create bad bitmap:ip range 10.0.0.0/8
x ipset list bad
for e in 10.0.0.1 10.0.0.1 "-exist 10.0.0.1" 10.0.0.8/30 10.0.1.5-10.0.1.7 0.0.0.0 "10.0.0.3 timeout 5" "10.0.0.3 comment x" "10.0.0.3 packets 2"; do
    x ipset add a $e
done
x ipset test a 10.0.0.1
x ipset test a 10.0.0.2
x ipset del a 10.0.0.2
x ipset -exist del a 10.0.0.2
x ipset del a 10.0.0.1
x ipset add a6 fd00::1
x ipset add a6 fd00::2 timeout 0 comment "hello" packets 3 bytes 44
x ipset add a6 fd00::3 timeout 95
x ipset add a6 fd00::4
x ipset list a6
for e in 10.0.0.0/8 "10.1.0.0/16 nomatch" 0.0.0.0/0 192.168.0.0-192.168.2.255 0.0.0.0/1; do x ipset add n $e; done
for e in 10.1.1.1 10.2.1.1 10.1.0.0/16 "10.1.0.0/16 nomatch" 10.0.0.0/8 10.0.0.0/9 11.0.0.0; do x ipset test n $e; done
for e in 10.0.0.1,80 10.0.0.1,udp:53 "10.0.0.1,tcp:100-102 timeout 95" 10.0.0.1,icmp:ping 10.0.0.2-10.0.0.3,icmp:3/1 10.0.0.1,47:0; do
    x ipset add ipp $e
done
x ipset add np 10.0.0.0/24,tcp:80
x ipset test np 10.0.0.7,tcp:80
x ipset test np 10.0.0.7,udp:80
x ipset add ipi 10.0.0.1,tcp:80,10.0.0.2
x ipset add ipn 10.0.0.1,tcp:80,10.1.0.0/16
x ipset test ipn 10.0.0.1,tcp:80,10.1.2.3
for e in 10.0.0.5 10.0.1.5 10.0.0.16/29; do x ipset add bi $e; done
x ipset add bin 10.0.3.9
for e in 80 "22-25 comment ssh" 2000; do x ipset add bp $e; done
x ipset add nm 10.3.4.5
for e in a "n before a" "ipp after a" nosuch a ls "nm before bi"; do x ipset add ls $e; done
for e in a "n before a" "n after a"; do x ipset test ls $e; done
x ipset list
x ipset list -t
x ipset list -n
x ipset save
x ipset destroy a
x ipset rename a b
x ipset swap a n
x ipset swap a nosuch
x ipset swap a nm
x ipset list a
x ipset flush ls
x ipset flush nosuch
x ipset rename a b
x ipset rename b n
x ipset destroy nosuch
x ipset del bp 80
x ipset del bp 22-23
x ipset list -o xml bp
x ipset destroy
x ipset list
full() {
    ipset create f hash:ip maxelem 2
    ipset add f 10.0.0.1 && ipset add f 10.0.0.2
    ipset add f 10.0.0.3
    ipset destroy f
}
x full
restore() { printf "$1" | ipset $2 restore; }
x restore 'create r hash:ip,port,ip family inet hashsize 1024 maxelem 65536\nadd r 10.96.0.1,tcp:443,10.244.0.2\nadd r 10.96.0.10,udp:53,10.244.0.3\n'
x restore 'add r 10.96.0.9,tcp:1,10.244.0.2\nadd r 10.96.0.1,tcp:443,10.244.0.2\n'
x restore 'add r 10.96.0.1,tcp:443,10.244.0.2\nadd r 10.96.0.2,tcp:443,10.244.0.2\n' -exist
x ipset save
many() {
    ipset create many hash:ip,port,ip comment
    for n in $(seq 1 250); do echo "add many 10.0.0.$n,tcp:$n,10.1.0.$n comment \"number $n\""; done | ipset restore
    ipset save many | sort | sed 's/ initval.*//'
}
x many
x ipset destroy
# Rules
send() { python3 -c "
import socket, sys
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('127.0.0.1', $1))
try: u.sendto(b'x', ('$2', $3)); print('sent')
except OSError as e: print(e)"; }
for kind in legacy nft; do
    t=iptables-$kind
    x ipset create ips hash:ip counters
    x ipset create seen hash:ip,port timeout 95 counters
    x ipset create nets hash:net
    x ipset create all list:set
    x ipset add ips 127.0.0.2
    x ipset add nets 127.0.0.0/8
    x ipset add nets 127.0.0.3 nomatch
    x ipset add all ips
    x $t -A OUTPUT -m set --match-set nosuch dst -j DROP
    x $t -A OUTPUT -m set --match-set ips dst -j DROP
    x $t -A OUTPUT -m set --match-set nets dst -m set ! --match-set ips src -j SET --add-set seen dst,dst --exist --timeout 99
    x $t -A OUTPUT -m set --match-set seen dst -m comment --comment "too few directions"
    x $t -A OUTPUT -m set --match-set seen dst,dst --packets-gt 1 --return-nomatch ! --update-counters
    x $t -A OUTPUT -m set --match-set all dst -j RETURN
    x send 1000 127.0.0.2 53
    x send 1000 127.0.0.3 53
    x send 1000 127.0.0.4 53
    x send 1000 127.0.0.4 53
    x $t -S OUTPUT
    x $t -L OUTPUT -v -n
    x ipset list ips
    x ipset list seen
    x ipset destroy ips
    x ipset rename nets other
    x ipset list -t nets
    x $t -D OUTPUT -m set --match-set all dst -j RETURN
    x $t -F OUTPUT
    x ipset destroy
done
echo done
