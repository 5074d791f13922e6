#!/bin/sh
# In a network namespace of its own: a jar behind a TAP device of four queues, a TUN device, and a packet socket on one end of
# a veth pair whose other end lies in a further namespace.
# $1: belljar, $2: a file to carry. Prints a line for each way that it came intact.
b=$1 file=$2
ip link set lo up
trap 'kill $far $server 2>/dev/null; rmdir /tmp/belljar-0 2>/dev/null' EXIT
carried() {
    if cmp -s got "$file"; then echo "$1: intact"; else echo "$1: differs"; fi
    rm -f got
}
fetch() { curl -s --retry 50 --retry-connrefused --retry-delay 1 -m 20 -o got "http://$1/$file"; }
serve='import http.server, socket
class Server(http.server.ThreadingHTTPServer): address_family = socket.AF_INET6
Server(("::", 80), http.server.SimpleHTTPRequestHandler).serve_forever()'

ip tuntap add tap4 mode tap multi_queue
ip addr add 10.9.1.1/24 dev tap4
ip link set tap4 up
"$b" run --name queues --net tap=tap4,queues=4 --ip 10.9.1.2/24 --nic channels=4 --cpus 4 -- python3 -m http.server 80 >>log 2>&1 &
jar=$!
fetch 10.9.1.2
carried "TAP with four queues"
kill $jar; wait $jar

ip tuntap add tun0 mode tun
ip addr add 10.9.2.1/24 dev tun0
ip -6 addr add fd02::1/64 dev tun0
ip link set tun0 up
"$b" run --name bare --net tun=tun0 --ip 10.9.2.2/24 --ip6 fd02::2/64 -- python3 -c "$serve" >>log 2>&1 &
jar=$!
fetch 10.9.2.2
carried "TUN"
fetch '[fd02::2]'
carried "TUN, IPv6"
"$b" exec bare -- ping -c 1 -W 2 10.9.2.1 | grep -o '1 received'
kill $jar; wait $jar

unshare -n sleep 60 &
far=$!
until [ "$(readlink /proc/$far/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep .05; done
ip link add near type veth peer name far
ip link set far netns $far
ip link set near up
nsenter -n -t $far sh -c 'ip link set lo up; ip addr add 10.9.3.1/24 dev far; ip link set far up'
sleep 1.2
"$b" run --name card --net packet=near --ip 10.9.3.2/24 -- python3 -m http.server 80 >>log 2>&1 &
jar=$!
nsenter -n -t $far curl -s --retry 50 --retry-connrefused --retry-delay 1 -m 20 -o got "http://10.9.3.2/$file"
carried "packet socket, in"
nsenter -n -t $far python3 -m http.server 81 --bind 10.9.3.1 >/dev/null 2>&1 &
server=$!
"$b" exec card -- curl -s --retry 50 --retry-connrefused --retry-delay 1 -m 20 -o got "http://10.9.3.1:81/$file"
carried "packet socket, out"
ip link del near
kill $jar; wait $jar
"$b" run --net packet=near -- true
echo "a device that is gone: $?"
