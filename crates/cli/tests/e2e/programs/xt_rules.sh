# Matches and targets of iptables beyond the everyday ones: what the tools say when they put them into tables, list them, save and restore
# them and take them out again. The same in a network namespace and in a jar.
exec 2>&1
PATH=$PATH:/usr/sbin:/sbin
w=$(mktemp -d)
cat > $w/4 <<'R'
-t mangle -A INPUT -m recent --name ssh --set
-t mangle -A INPUT -m recent --name ssh --rcheck --seconds 60 --hitcount 4 --rttl --rdest
-t mangle -A INPUT -m recent --name other --update --seconds 60 --reap --mask 255.255.255.0
-t mangle -A INPUT -m recent ! --rcheck --name ssh
-t mangle -A INPUT -p tcp -m hashlimit --hashlimit-upto 10/sec --hashlimit-burst 20 --hashlimit-mode srcip,dstport --hashlimit-name web
-t mangle -A INPUT -p tcp -m hashlimit --hashlimit-above 5/min --hashlimit-mode srcip --hashlimit-name abuse --hashlimit-srcmask 24 --hashlimit-htable-size 1024 --hashlimit-htable-max 2048 --hashlimit-htable-expire 20000 --hashlimit-htable-gcinterval 500
-t mangle -A INPUT -m hashlimit --hashlimit-above 512kb/s --hashlimit-burst 1mb --hashlimit-mode dstip --hashlimit-name bytes
-t mangle -A INPUT -m hashlimit --hashlimit-upto 10/hour --hashlimit-name bare
-t mangle -A INPUT -m hashlimit --hashlimit-upto 3/sec --hashlimit-mode srcip --hashlimit-name match --hashlimit-rate-match --hashlimit-rate-interval 5
-t mangle -A INPUT -p tcp --syn -m connlimit --connlimit-above 3
-t mangle -A INPUT -p tcp -m connlimit --connlimit-upto 7 --connlimit-mask 24 --connlimit-daddr
-t mangle -A INPUT -p tcp -m connlimit ! --connlimit-above 0 --connlimit-mask 0
-t mangle -A PREROUTING -m rpfilter --invert
-t mangle -A PREROUTING -m rpfilter --loose --validmark --accept-local
-t mangle -A INPUT -m iprange --src-range 10.0.0.1-10.0.0.9
-t mangle -A INPUT -m iprange ! --src-range 10.0.0.1-10.0.0.9 ! --dst-range 10.1.0.1-10.1.0.1
-t mangle -A INPUT -m mac --mac-source 02:00:00:00:00:01
-t mangle -A INPUT -m mac ! --mac-source 02:00:00:00:00:FF
-t mangle -A INPUT -m pkttype --pkt-type multicast
-t mangle -A INPUT -m pkttype ! --pkt-type unicast
-t mangle -A INPUT -m ttl --ttl-eq 64
-t mangle -A INPUT -m ttl ! --ttl-eq 64
-t mangle -A INPUT -m ttl --ttl-lt 5
-t mangle -A INPUT -m ttl --ttl-gt 200
-t mangle -A INPUT -m string --algo bm --string "GET /"
-t mangle -A INPUT -m string --algo kmp --from 40 --to 100 ! --string "abc" --icase
-t mangle -A INPUT -m string --algo bm --hex-string "|0d0a|x|ff|"
-t mangle -A INPUT -m tos --tos 0x10/0x3f
-t mangle -A INPUT -m tos ! --tos 0x08
-t mangle -A INPUT -m dscp --dscp 0x2e
-t mangle -A INPUT -m dscp ! --dscp-class CS1
-t mangle -A INPUT -m ecn --ecn-ip-ect 1
-t mangle -A INPUT -p tcp -m ecn --ecn-tcp-cwr ! --ecn-tcp-ece
-t mangle -A INPUT -m time --timestart 08:00 --timestop 18:30:15 --weekdays Mon,Tue,Fri
-t mangle -A INPUT -m time --datestart 2024-01-02T03:04:05 --datestop 2030-12-31 --kerneltz
-t mangle -A INPUT -m time ! --monthdays 1,15,31
-t mangle -A INPUT -m time --timestart 23:00 --timestop 01:00 --contiguous
-t mangle -A INPUT -m connbytes --connbytes 1000: --connbytes-dir both --connbytes-mode bytes
-t mangle -A INPUT -m connbytes ! --connbytes 10:20 --connbytes-dir original --connbytes-mode packets
-t mangle -A INPUT -m connbytes --connbytes 0:200 --connbytes-dir reply --connbytes-mode avgpkt
-t mangle -A INPUT -m quota --quota 10000
-t mangle -A INPUT -m quota ! --quota 77
-t mangle -A INPUT -p tcp -m tcpmss --mss 500:1000
-t mangle -A INPUT -p tcp -m tcpmss ! --mss 1460
-t mangle -A INPUT -m u32 --u32 "6&0xFF=1 && 4&0x1FFF=0,5:9 && 0>>22&0x3C@0>>24=8"
-t mangle -A INPUT -m helper ! --helper "sip-5060"
-t mangle -A INPUT -m policy --dir in --pol none
-t mangle -A INPUT -m policy --dir in --pol ipsec --strict --proto esp --mode tunnel --tunnel-src 1.2.3.4
-t mangle -A INPUT -m cpu --cpu 1
-t mangle -A INPUT -m cpu ! --cpu 0
-t mangle -A INPUT -m devgroup --src-group 3
-t mangle -A FORWARD -m devgroup ! --src-group 0x3/0xff --dst-group 0
-t mangle -A INPUT -m realm --realm 10
-t mangle -A INPUT -m socket --transparent
-t mangle -A INPUT -m socket --nowildcard --restore-skmark
-t mangle -A INPUT -m bpf --bytecode "4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0"
-t mangle -A INPUT -p esp -m esp --espspi 500
-t mangle -A INPUT -p ah -m ah ! --ahspi 1:500
-t mangle -A INPUT -p udp -m multiport --dports 1,2
-t nat -A PREROUTING -d 10.0.0.0/24 -j NETMAP --to 192.168.5.0/24
-t nat -A POSTROUTING -s 192.168.5.0/24 -j NETMAP --to 10.0.0.0/24
-t raw -A PREROUTING -j TRACE
-t mangle -A POSTROUTING -j CLASSIFY --set-class 1:20
-t raw -A PREROUTING -j CT --notrack
-t raw -A PREROUTING -j CT --zone 5
-t raw -A PREROUTING -j CT --zone-orig 5
-t raw -A PREROUTING -j CT --zone-reply mark
-t mangle -A PREROUTING -j TEE --gateway 10.0.0.9
-t mangle -A PREROUTING -j TEE --gateway 10.0.0.9 --oif lo
-t mangle -A PREROUTING -j TTL --ttl-set 64
-t mangle -A PREROUTING -j TTL --ttl-dec 2
-t mangle -A PREROUTING -j TTL --ttl-inc 1
-t mangle -A PREROUTING -j DSCP --set-dscp 0x2e
-t mangle -A PREROUTING -j DSCP --set-dscp-class AF11
-t mangle -A PREROUTING -j TOS --set-tos 0x10
-t mangle -A PREROUTING -j TOS --and-tos 0x3
-t mangle -A PREROUTING -j TOS --or-tos 0x8
-t mangle -A PREROUTING -j TOS --xor-tos 0x8
-t mangle -A PREROUTING -j TOS --set-tos 0x10/0x3f
-t mangle -A POSTROUTING -p udp -j CHECKSUM --checksum-fill
-A INPUT -j NFQUEUE --queue-num 3
-A INPUT -j NFQUEUE --queue-balance 1:4 --queue-bypass --queue-cpu-fanout
-t nat -A POSTROUTING -j SNAT --to-source 1.2.3.4
-t mangle -A INPUT -m helper --helper ftp
R
cat > $w/6 <<'R'
-t mangle -A INPUT -m recent --name six --set
-t mangle -A INPUT -m recent --update --seconds 5 --name six --mask ffff:ffff::
-t mangle -A INPUT -p tcp -m hashlimit --hashlimit-upto 10/sec --hashlimit-burst 20 --hashlimit-mode srcip --hashlimit-srcmask 64 --hashlimit-name web6
-t mangle -A INPUT -p tcp -m connlimit --connlimit-above 3 --connlimit-mask 64
-t mangle -A PREROUTING -m rpfilter --invert
-t mangle -A INPUT -m iprange --src-range fd00::1-fd00::9
-t mangle -A INPUT -m hl --hl-eq 255
-t mangle -A INPUT -m hl ! --hl-eq 64
-t mangle -A INPUT -m hl --hl-lt 5
-t mangle -A INPUT -m hl --hl-gt 200
-t mangle -A INPUT -m rt --rt-type 0
-t mangle -A INPUT -m rt --rt-type 0 ! --rt-segsleft 1:3 --rt-len 10
-t mangle -A INPUT -m frag --fragid 5 --fragmore
-t mangle -A INPUT -m frag --fragfirst
-t mangle -A INPUT -m hbh ! --hbh-len 40
-t mangle -A INPUT -m dst --dst-len 24
-t mangle -A INPUT -m ipv6header --header frag --soft
-t mangle -A INPUT -m ipv6header ! --header hop,dst
-t mangle -A INPUT -m eui64
-t mangle -A INPUT -m ah --ahspi 4 --ahres
-t mangle -A INPUT -p icmpv6 -m length --length 3
-t mangle -A PREROUTING -j HL --hl-set 64
-t mangle -A PREROUTING -j HL --hl-dec 2
-t mangle -A PREROUTING -j HL --hl-inc 1
-t nat -A PREROUTING -d fd00::/64 -j NETMAP --to fd01::/64
-t raw -A PREROUTING -j TRACE
-t raw -A PREROUTING -j CT --zone 7
-t mangle -A PREROUTING -j TEE --gateway fd00::9
-t mangle -A PREROUTING -j DSCP --set-dscp 4
-t mangle -A INPUT -m ecn --ecn-ip-ect 2
-t mangle -A INPUT -m policy --dir in --pol none
R
each() { while IFS= read -r l; do eval "$1 $l" || echo "refused: $l"; done < $2; }
show() { for t in filter mangle nat raw; do echo "\$ $1 -t $t"; $1 -t $t -S; $1 -t $t -nL; done; }
for i in iptables-legacy iptables-nft; do
    each $i $w/4; show $i
    $i-save | grep -v '^#' > $w/saved; $i-restore < $w/saved; $i-save | grep -v '^#' | diff $w/saved - && echo "restored the same"
    sed 's/-A/-D/' $w/4 > $w/gone; each $i $w/gone; $i-save | grep -v '^#'
done
for i in ip6tables-legacy ip6tables-nft; do
    each $i $w/6; show $i
    sed 's/-A/-D/' $w/6 > $w/gone; each $i $w/gone; $i-save | grep -v '^#'
done
nft list ruleset
nft flush ruleset
echo '$ what is refused'
while read -r l; do iptables-legacy $l; echo "$? $l"; done <<'R'
-A INPUT -m recent --name a/b --set
-A INPUT -m recent --set --seconds 5
-A INPUT -m recent --rcheck --hitcount 65535
-A INPUT -m recent --rcheck --hitcount 65536
-A INPUT -m recent --rcheck --reap
-A INPUT -m rpfilter
-t mangle -A FORWARD -m rpfilter
-A OUTPUT -m mac --mac-source 02:00:00:00:00:01
-A FORWARD -m socket
-A INPUT -m devgroup --dst-group 1
-A OUTPUT -m policy --dir in --pol none
-A INPUT -m policy --dir out --pol none
-A INPUT -m tcpmss --mss 1
-A INPUT -m ecn --ecn-tcp-ece
-A INPUT -m esp --espspi 1
-A INPUT -m string --algo none --string x
-A INPUT -j TTL --ttl-set 4
-A INPUT -j TRACE
-A INPUT -j CT --zone 3
-t mangle -A INPUT -j CLASSIFY --set-class 1:1
-A INPUT -j NETMAP --to 10.0.0.0/8
-A INPUT -j DSCP --set-dscp 1
-A INPUT -m hashlimit --hashlimit-upto 1/day --hashlimit-burst 4000000000 --hashlimit-name big
R
echo done
