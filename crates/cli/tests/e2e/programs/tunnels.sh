# Tunnels between this host and the namespace blue, by the distribution's ip.
exec 2>&1
ip link add probe type gre local 192.0.2.1 remote 192.0.2.9 || exit
ip link del probe
ip netns add blue
ip link add e type veth peer name e netns blue
ip addr add 192.0.2.1/24 dev e; ip link set e up
ip -n blue addr add 192.0.2.2/24 dev e; ip -n blue link set e up; ip -n blue link set lo up
n=1
pair() {
    kind=$1; shift
    ip link add t$n type $kind local 192.0.2.1 remote 192.0.2.2 "$@"
    ip -n blue link add t$n type $kind local 192.0.2.2 remote 192.0.2.1 "$@"
    ip -n blue addr add 10.$n.0.2/24 dev t$n; ip -n blue link set t$n up
    ip addr add 10.$n.0.1/24 dev t$n; ip link set t$n up
    ip -d link show t$n | sed 's/^[0-9]*: //; s/promiscuity.*minmtu/minmtu/; s/ numtxqueues.*//; s/ether [^ ]* brd/ether MAC brd/'
    ping -q -n -c 1 -W 2 10.$n.0.2 | grep -c ' 0% packet loss'
    n=$((n + 1))
}
pair ipip ttl 64 tos inherit dev e
pair gre key 7 csum seq
pair gre ikey 1 okey 1 nopmtudisc
pair gretap
ip link set t2 type gre ttl 9 key 0.0.0.8; ip -d link show t2 | grep -o 'ttl.*key 0.0.0.8 '
ip link add s type sit local 192.0.2.1 remote 192.0.2.2
ip -d link show s | tail -1 | sed 's/ numtxqueues.*//'
ip link add x type gre local 192.0.2.1 remote 192.0.2.2 key 1.2.3.4; ip link add y type gre local 192.0.2.1 remote 192.0.2.2 key 1.2.3.4 2>&1 || true
ip netns del blue
echo done
