# What devices take over from the stack, switched one after another; but for what this stack leaves out.
exec 2>&1
ip link add v0 type veth peer name v1
ip link set v0 up; ip link set v1 up
shown() { ethtool -k "$1" | grep -v 'rx-gro-list\|rx-udp-gro-forwarding'; }
for d in v0 lo; do echo "--- $d"; shown $d; done
for c in "v0 tx off" "v0 tx on" "v0 tx-checksum-sctp off" "v0 sg off" "v0 sg on" "v0 rx off" "v0 rx on" "v0 tso off" "v0 gso off" \
    "v0 tso on" "v0 tx-tcp-segmentation off" "v0 gso on tx-tcp-segmentation on" "v0 txvlan off" "v0 rxvlan off" "v0 highdma off" \
    "v0 tx-gre-segmentation off" "v0 gro on" "v0 gro off" "v0 tx-scatter-gather-fraglist off" "v0 lro on" "v0 rxhash on" \
    "v0 tx-tcp-mangleid-segmentation off" "v0 tx-tcp-ecn-segmentation off" "v0 tx-udp-segmentation off" "v0 tx-nocache-copy on" \
    "v0 tx-vlan-stag-hw-insert off" "lo tso off" "lo gso off" "lo gro off" "lo tx off" "lo sg off" "lo tx-udp-segmentation off" \
    "lo tx-tcp-segmentation off" "lo tso on"; do
    echo "--- $c"
    before=$(shown ${c%% *})
    ethtool -K $c 2>&1
    echo "$?"
    after=$(shown ${c%% *})
    echo "$after" | grep -vxF "$before"
done
# As in namespaces of their own: who looks for the other end by its number finds another device, or none.
ip netns add a; ip netns add b
ip -n a link add p0 type veth peer name p1 netns b
ip -n a link set p0 up; ip -n a -br link show p0 | tr -s ' ' | cut -d' ' -f1,2
ip -n b link set p1 up; ip -n a -br link show p0 | tr -s ' ' | cut -d' ' -f1,2
ip -n b link set p1 down; ip -n a -br link show p0 | tr -s ' ' | cut -d' ' -f1,2
ip link set v1 down; ip -br link show v0 | tr -s ' ' | cut -d' ' -f1,2
for s in core/netdev_budget core/default_qdisc core/somaxconn ipv4/tcp_mem ipv4/tcp_rmem; do
    ip netns exec a test -e /proc/sys/net/$s && echo "$s"
done
echo done
