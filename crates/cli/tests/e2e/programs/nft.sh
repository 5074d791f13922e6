# The same words to nf_tables and to connection tracking, here and on Linux.
ip link set lo up
r() { echo "$ $*"; "$@" 2>&1; echo "= $?"; }
r iptables-nft -A INPUT -p tcp --dport 22 -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT
r iptables-nft -A INPUT -s 10.1.0.0/16 -i lo -p udp --dport 53 -j DROP
r iptables-nft -t nat -A POSTROUTING -s 10.9.0.0/24 -j MASQUERADE
r iptables-nft -N web
r iptables-nft -A INPUT -j web
r iptables-nft -S
r iptables-nft -D INPUT 1
r iptables-nft -C INPUT -j web
r nft list ruleset
r nft flush ruleset
r nft add table inet t
r nft 'add chain inet t in { type filter hook input priority 0; }'
r nft 'add rule inet t in ip protocol icmp icmp type echo-request ct state new counter accept'
r nft 'add rule inet t in tcp dport { 22, 80-90 } reject with tcp reset'
r nft 'add map inet t v { type inet_service : verdict; elements = { 25 : drop, 26 : accept } }'
r nft 'add rule inet t in tcp dport vmap @v'
r nft 'add rule inet t in tcp dport 7777 jump nowhere'
r ping -qc 1 127.0.0.1 | head -1
python3 -c "
import socket
for port in (85, 25):
    s = socket.socket(); s.settimeout(0.3)
    try: s.connect(('127.0.0.1', port))
    except OSError as e: print(port, type(e).__name__)"
r nft list ruleset
r nft delete rule inet t in handle 99
conntrack -L -p icmp 2>&1 | sed 's/[0-9]* src/N src/; s/id=[0-9]*/id=N/g'
r conntrack -C
r conntrack -D -p udp
r conntrack -F
echo done
