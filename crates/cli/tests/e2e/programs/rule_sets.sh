# Rule sets as those write them who are in every machine: a host firewall, a banner of hosts, a container network, a cluster's node, a mesh's
# proxy, a zone firewall of nf_tables, limits against floods. Loaded whole, met by traffic, read back with their counters. The same in a
# network namespace and in a jar.
exec 2>&1
PATH=$PATH:/usr/sbin:/sbin
ip netns add rsa
ip link add da type veth peer name eth0 netns rsa
ip link set da address 02:00:00:00:01:01 up; ip -n rsa link set eth0 address 02:00:00:00:01:02
ip -n rsa link set lo up; ip -n rsa link set eth0 up; ip link set lo up
ip addr add 10.1.0.1/24 dev da; ip -n rsa addr add 10.1.0.2/24 dev eth0; ip -n rsa route add default via 10.1.0.1
ip addr add fd01::1/64 dev da nodad; ip -n rsa addr add fd01::2/64 dev eth0 nodad
sysctl -qw net.ipv4.ip_forward=1
sleep 1.3
w=$(mktemp)
cat > $w <<'PY'
import socket, sys
kind, host, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
fam = 10 if ":" in host else 2
for n in range(count):
    if kind == "udp":
        socket.socket(fam, 2).sendto(b"x", (host, port)); continue
    s = socket.socket(fam, 1); s.settimeout(0.4)
    try: s.connect((host, port)); print("connected")
    except OSError as e: print(type(e).__name__)
PY
# A server on every address that takes all.
python3 -c "
import socket, threading
def serve(fam, host, port):
    s = socket.socket(fam, 1); s.setsockopt(1, 2, 1)
    if fam == 10: s.setsockopt(41, 26, 1)
    s.bind((host, port)); s.listen(); kept = []
    while True: kept.append(s.accept())
for fam, host in ((2, '0.0.0.0'), (10, '::')):
    for port in (22, 80, 15001): threading.Thread(target=serve, args=(fam, host, port)).start()
" & server=$!
until [ "$(ss -ltn | grep -cE ':(22|80|15001) ')" = 6 ]; do sleep 0.1; done
asa() { ip netns exec rsa python3 $w "$@"; }
save() { $1-save -c | sed '/^#/d; /:INPUT\|:OUTPUT\|:POSTROUTING\|:PREROUTING\|:FORWARD/s/ \[.*//'; }
clear() { for i in iptables-legacy ip6tables-legacy; do for t in filter nat mangle raw; do $i -t $t -F; $i -t $t -X; $i -t $t -P OUTPUT ACCEPT 2> /dev/null; $i -t $t -P INPUT ACCEPT 2> /dev/null; $i -t $t -P FORWARD ACCEPT 2> /dev/null; done; done; conntrack -F > /dev/null 2>&1; }

echo '$ a host firewall'
iptables-legacy-restore <<'R'
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:before-input - [0:0]
:not-local - [0:0]
:logging-deny - [0:0]
:user-input - [0:0]
:user-limit - [0:0]
:user-limit-accept - [0:0]
:after-input - [0:0]
:skip-to-policy-input - [0:0]
-A INPUT -j before-input
-A INPUT -j after-input
-A before-input -i lo -j ACCEPT
-A before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A before-input -m conntrack --ctstate INVALID -j logging-deny
-A before-input -m conntrack --ctstate INVALID -j DROP
-A before-input -p icmp -m icmp --icmp-type 3 -j ACCEPT
-A before-input -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A before-input -p udp -m udp --sport 67 --dport 68 -j ACCEPT
-A before-input -j not-local
-A before-input -d 224.0.0.251/32 -p udp -m udp --dport 5353 -j ACCEPT
-A before-input -j user-input
-A not-local -m addrtype --dst-type LOCAL -j RETURN
-A not-local -m addrtype --dst-type MULTICAST -j RETURN
-A not-local -m addrtype --dst-type BROADCAST -j RETURN
-A not-local -m limit --limit 3/min --limit-burst 10 -j logging-deny
-A not-local -j DROP
-A logging-deny -m conntrack --ctstate INVALID -m limit --limit 3/min --limit-burst 10 -j RETURN
-A logging-deny -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix "[BLOCK] "
-A user-input -p tcp -m tcp --dport 22 -m conntrack --ctstate NEW -m recent --set --name DEFAULT --mask 255.255.255.255 --rsource
-A user-input -p tcp -m tcp --dport 22 -m conntrack --ctstate NEW -m recent --update --seconds 30 --hitcount 4 --name DEFAULT --mask 255.255.255.255 --rsource -j user-limit
-A user-input -p tcp -m tcp --dport 22 -j user-limit-accept
-A user-input -p tcp -m multiport --dports 80,443 -j ACCEPT
-A user-limit -m limit --limit 3/min -j LOG --log-prefix "[LIMIT BLOCK] "
-A user-limit -j REJECT --reject-with icmp-port-unreachable
-A user-limit-accept -j ACCEPT
-A after-input -p udp -m udp --dport 137 -j skip-to-policy-input
-A after-input -m addrtype --dst-type BROADCAST -j skip-to-policy-input
-A after-input -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix "[BLOCK] "
-A skip-to-policy-input -j DROP
COMMIT
R
ip6tables-legacy-restore <<'R'
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m rt --rt-type 0 -j DROP
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p ipv6-icmp -m icmp6 --icmpv6-type 135 -m hl --hl-eq 255 -j ACCEPT
-A INPUT -p ipv6-icmp -m icmp6 --icmpv6-type 136 -m hl --hl-eq 255 -j ACCEPT
-A INPUT -s fe80::/10 -p ipv6-icmp -m icmp6 --icmpv6-type 130 -j ACCEPT
-A INPUT -p ipv6-icmp -m icmp6 --icmpv6-type 128 -m hashlimit --hashlimit-upto 1/min --hashlimit-burst 2 --hashlimit-mode srcip --hashlimit-name ping6 -j ACCEPT
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
COMMIT
R
asa tcp 10.1.0.1 22 6; asa tcp 10.1.0.1 80 2; asa tcp 10.1.0.1 8080 1; asa udp 10.1.0.1 137 2; asa udp 10.1.0.1 5 1; asa udp 10.1.0.1 6 1
asa tcp fd01::1 22 1; asa tcp fd01::1 80 1
ip netns exec rsa ping -c 3 -i 0.2 -W 1 -q 10.1.0.1 | grep -o '[0-9] received'; ip netns exec rsa ping -6 -c 4 -i 0.2 -W 1 -q fd01::1 | grep -o '[0-9] received'
save iptables-legacy; save ip6tables-legacy | grep -v 'icmpv6-type 13[0-9]'
clear

echo '$ a banner of hosts'
iptables-legacy -N ban-sshd; iptables-legacy -A ban-sshd -j RETURN
iptables-legacy -I INPUT -p tcp -m multiport --dports 22,80 -j ban-sshd
asa tcp 10.1.0.1 22 1
iptables-legacy -I ban-sshd 1 -s 10.1.0.2 -j REJECT --reject-with icmp-port-unreachable
asa tcp 10.1.0.1 22 1
iptables-legacy -n -L INPUT | grep -q 'ban-sshd[ \t]' && echo there
iptables-legacy -D ban-sshd -s 10.1.0.2 -j REJECT --reject-with icmp-port-unreachable
iptables-legacy -I INPUT -p tcp --dport 22 -m recent --update --seconds 3600 --name ban -j DROP
echo +10.1.0.2 > /proc/net/xt_recent/ban
asa tcp 10.1.0.1 22 1
echo -10.1.0.2 > /proc/net/xt_recent/ban
asa tcp 10.1.0.1 22 1
save iptables-legacy
clear

echo '$ limits against floods'
iptables-legacy-restore <<'R'
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p tcp -m tcp --dport 80 --tcp-flags FIN,SYN,RST,ACK SYN -m connlimit --connlimit-above 20 --connlimit-mask 32 --connlimit-saddr -j REJECT --reject-with tcp-reset
-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m hashlimit --hashlimit-above 2/min --hashlimit-burst 3 --hashlimit-mode srcip,dstport --hashlimit-name syn -j DROP
-A INPUT -p tcp -m conntrack --ctstate NEW -m tcpmss ! --mss 536:65535 -j DROP
-A INPUT -p udp -m string --algo bm --string "x" -m pkttype --pkt-type unicast -j DROP
-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,PSH,ACK,URG NONE -j DROP
COMMIT
R
asa tcp 10.1.0.1 80 5; asa tcp 10.1.0.1 22 2; asa udp 10.1.0.1 9 3
save iptables-legacy
clear

echo "\$ a cluster's node"
ipset create pods hash:net; ipset add pods 10.1.0.0/24
iptables-legacy-restore <<'R'
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:node-PREROUTING - [0:0]
-A PREROUTING -j node-PREROUTING
-A node-PREROUTING -j MARK --set-xmark 0x0/0xf0000
-A node-PREROUTING -i d+ -j MARK --set-xmark 0x40000/0x40000
-A node-PREROUTING -m mark --mark 0x40000/0x40000 -m rpfilter --validmark --invert -j DROP
-A node-PREROUTING -p udp -m udp --dport 53 -j CT --notrack
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
-A PREROUTING -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-SVC - [0:0]
:KUBE-SEP-A - [0:0]
:KUBE-MARK - [0:0]
-A PREROUTING -d 10.96.0.1/32 -p tcp -m comment --comment "default/kubernetes:https" -m tcp --dport 443 -j KUBE-SVC
-A PREROUTING -m addrtype --dst-type LOCAL -p tcp -m tcp --dport 30080 -j KUBE-SVC
-A KUBE-SVC ! -s 10.244.0.0/16 -m set --match-set pods src -j KUBE-MARK
-A KUBE-SVC -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-A --mask 255.255.255.255 --rsource -j KUBE-SEP-A
-A KUBE-SVC -m statistic --mode random --probability 1.00000000000 -j KUBE-SEP-A
-A KUBE-SEP-A -p tcp -m recent --set --name KUBE-SEP-A --mask 255.255.255.255 --rsource -m tcp -j DNAT --to-destination 10.1.0.1:80
-A KUBE-MARK -j MARK --set-xmark 0x4000/0x4000
-A POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A POSTROUTING -j MASQUERADE --random-fully
COMMIT
R
asa tcp 10.96.0.1 443 2; asa tcp 10.1.0.1 30080 1; asa udp 10.1.0.1 53 1
conntrack -L -p udp 2> /dev/null | wc -l
save iptables-legacy
clear; ipset destroy pods

echo "\$ a mesh's proxy"
iptables-legacy-restore <<'R'
*nat
:MESH_INBOUND - [0:0]
:MESH_IN_REDIRECT - [0:0]
:MESH_OUTPUT - [0:0]
:MESH_REDIRECT - [0:0]
-A PREROUTING -p tcp -j MESH_INBOUND
-A OUTPUT -j MESH_OUTPUT
-A MESH_INBOUND -p tcp -m tcp --dport 15008 -j RETURN
-A MESH_INBOUND -p tcp -j MESH_IN_REDIRECT
-A MESH_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15001
-A MESH_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN
-A MESH_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 53 -m owner --uid-owner 1337 -j MESH_IN_REDIRECT
-A MESH_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN
-A MESH_OUTPUT -m owner --gid-owner 1337 -j RETURN
-A MESH_OUTPUT -d 127.0.0.1/32 -j RETURN
-A MESH_OUTPUT -j MESH_REDIRECT
-A MESH_REDIRECT -p tcp -j REDIRECT --to-ports 15001
COMMIT
*raw
-A PREROUTING -p udp -m udp --sport 53 -j CT --zone 1
-A OUTPUT -p udp -m udp --dport 53 -m owner --uid-owner 1337 -j CT --zone 1
-A OUTPUT -p udp -m udp --sport 15053 -m owner --gid-owner 1337 -j CT --zone 2
-A OUTPUT -p udp -m udp --dport 53 -j CT --zone 2
COMMIT
*mangle
-A PREROUTING -p tcp -m socket --transparent -j MARK --set-xmark 0x539/0xffffffff
-A PREROUTING -p tcp -m mark --mark 0x539 -j RETURN
-A PREROUTING -p tcp -m conntrack --ctstate RELATED,ESTABLISHED -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
COMMIT
R
asa tcp 10.1.0.1 9999 2; asa tcp 10.1.0.1 15008 1; python3 $w tcp 10.1.0.2 7777 1; python3 $w udp 10.1.0.2 53 1
conntrack -L -p udp 2> /dev/null | sed 's/^udp *17 [0-9]*//; s/port=[0-9]\{3,\}/port=P/g'
save iptables-legacy
clear

echo '$ a zone firewall'
nft -f - <<'R'
table inet zones {
	set banned { type ipv4_addr; flags interval; elements = { 192.0.2.0/24, 198.51.100.7 } }
	chain mangle_PREROUTING {
		type filter hook prerouting priority mangle + 10; policy accept;
		icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
		meta nfproto ipv6 fib saddr . mark . iif oif missing drop
		jump mangle_PREROUTING_ZONES
	}
	chain nat_POSTROUTING {
		type nat hook postrouting priority srcnat + 10; policy accept;
		oifname "da" masquerade
	}
	chain filter_INPUT {
		type filter hook input priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname "lo" accept
		ct state invalid drop
		jump filter_INPUT_ZONES
		reject with icmpx admin-prohibited
	}
	chain filter_FORWARD {
		type filter hook forward priority filter + 10; policy accept;
		ct state { established, related } accept
		ip6 daddr { ::/96, ::ffff:0.0.0.0/96 } reject with icmpv6 addr-unreachable
		tcp flags syn tcp option maxseg size set rt mtu
		reject with icmpx admin-prohibited
	}
	chain mangle_PREROUTING_ZONES { return }
	chain filter_INPUT_ZONES {
		iifname "da" goto filter_IN_public
		goto filter_IN_public
	}
	chain filter_IN_public {
		jump filter_IN_public_deny
		jump filter_IN_public_allow
		meta l4proto { icmp, ipv6-icmp } accept
	}
	chain filter_IN_public_deny {
		ip saddr @banned counter drop
		ip protocol tcp tcp dport 80 ct state new limit rate over 2/minute burst 2 packets counter reject
	}
	chain filter_IN_public_allow {
		tcp dport { 22, 80 } counter accept
		ip6 daddr fe80::/64 udp dport 546 accept
	}
}
R
asa tcp 10.1.0.1 22 1; asa tcp 10.1.0.1 80 4; asa tcp 10.1.0.1 23 1; asa tcp fd01::1 22 1
nft list ruleset
nft flush ruleset
kill $server
ip netns del rsa
echo done
