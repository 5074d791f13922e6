# The offloads of a card and of a VLAN on it, switched one after another, and what taps see of tags.
exec 2>&1
ip link add link eth0 name eth0.7 type vlan id 7
ip link set eth0.7 up; ip addr add 10.7.0.1/24 dev eth0.7
shown() { ethtool -k "$1" | grep -v 'rx-gro-list\|rx-udp-gro-forwarding'; }
for d in eth0 eth0.7; do echo "--- $d"; shown $d | grep -v 'off \[fixed\]'; done
for c in "eth0 rxvlan off" "eth0 txvlan off" "eth0 rx-vlan-filter off" "eth0 rx-vlan-stag-filter off" "eth0 rx-vlan-stag-hw-parse on" \
    "eth0 rxvlan on txvlan on rx-vlan-filter on" "eth0 lro on" "eth0 rx-gro-hw on" "eth0 rx-gro-hw off" "eth0 rx off" "eth0 rx on" \
    "eth0 tx off" "eth0 tx on" "eth0 sg off" "eth0 sg on" "eth0 tso off" "eth0 tso on" "eth0 tx-udp_tnl-segmentation off" \
    "eth0 tx-gre-csum-segmentation off" "eth0 tx-gso-partial off" "eth0.7 tx off" "eth0.7 tx on" "eth0.7 sg off" "eth0.7 sg on" \
    "eth0.7 lro on" "eth0.7 rxvlan on"; do
    echo "--- $c"
    before=$(shown ${c%% *}); other=$(shown eth0.7)
    ethtool -K $c
    echo "$?"
    shown ${c%% *} | grep -vxF "$before"
    [ "${c%% *}" = eth0 ] && shown eth0.7 | grep -vxF "$other" | sed 's/^/    eth0.7 /'
done
echo "--- forwarding"
ethtool -k eth0 | grep large
sysctl -qw net.ipv4.ip_forward=1
ethtool -k eth0 | grep large
for v in on off; do
    ethtool -K eth0 txvlan $v
    tcpdump -e -nn -c1 -i eth0 vlan 7 and arp 2>/dev/null | sed 's/^[0-9:.]* //' &
    sleep 0.5
    ping -c1 -W1 10.7.0.9 >/dev/null
    wait
done
ethtool -S eth0 | grep -E 'removed_vlan|lro|gro'
echo done
