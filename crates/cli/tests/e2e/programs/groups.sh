#!/bin/sh
# In a network namespace of its own: this machine's kernel and belljar's stack on the two ends of a TAP interface, each in
# turn a member of groups that the other sends to. $1: belljar, $2: groups.py.
set -e
b=$1 py=$2
ip link set lo up
ip tuntap add tap0 mode tap
ip addr add 10.9.0.1/24 dev tap0
ip addr add fd09::1/64 dev tap0 nodad
ip link set tap0 up
trap 'rmdir /tmp/belljar-0 2>/dev/null || true' EXIT
mkfifo to.jar to.host
"$b" run --name groups --seed 1 --net tap=tap0 --ip 10.9.0.2/24 --ip6 fd09::2/64 -- \
    python3 "$py" eth0 239.9.9.9 ff05::9:9 <to.jar >jar 2>jar.err &
python3 "$py" tap0 239.9.9.9 ff05::9:9 <to.host >host 2>host.err &
exec 8>to.jar 9>to.host
lines() { for _ in $(seq 100); do test "$(wc -l <$1)" -ge $2 && return; sleep 0.05; done; cat $1 $1.err; exit 1; }
tell() { n=$(wc -l <$1); case $1 in jar) echo "$2" >&8 ;; host) echo "$2" >&9 ;; esac; lines $1 $((n + 1)); }
member_of() { case $1 in jar) "$b" exec groups -- cat /proc/net/igmp /proc/net/igmp6 ;; host) cat /proc/net/igmp /proc/net/igmp6 ;; esac |
    grep -ciE '090909EF|ff050000000000000000000000090009' || true; }
lines jar 1
lines host 1
for pair in jar:host host:jar; do
    member=${pair%:*} sender=${pair#*:}
    tell $sender before; tell $member hear
    tell $member join; echo "$member in $(member_of $member)"
    tell $sender during; tell $member hear
    tell $member leave; echo "$member in $(member_of $member)"
    tell $sender after; tell $member hear
done
exec 8>&- 9>&-
wait
sort jar >jar.said
sort host >host.said
diff jar.said host.said && cat jar && echo equal || cat jar.err
