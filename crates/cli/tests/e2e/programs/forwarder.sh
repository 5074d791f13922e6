#!/bin/sh
# In a network namespace of its own: a name server, and a resolv.conf that names it; dig, host and getent outside and under
# belljar run. $1: belljar.
set -e
ip link set lo up
dnsmasq --no-daemon --no-hosts --no-resolv --bind-interfaces --listen-address=127.0.0.1 --user= --group= --pid-file= \
    --host-record=names.test,192.0.2.7,2001:db8::7 --host-record=six.test,2001:db8::6 \
    --txt-record=long.test,$(printf 'x%.0s' $(seq 200)),$(printf 'y%.0s' $(seq 200)),$(printf 'z%.0s' $(seq 200)) \
    --txt-record=longer.test,$(printf 'a%.0s' $(seq 250)),$(printf 'b%.0s' $(seq 250)),$(printf 'c%.0s' $(seq 250)),$(printf 'd%.0s' $(seq 250)),$(printf 'e%.0s' $(seq 250)) \
    --local=/test/ >names.log 2>&1 &
server=$!
trap 'kill $server; rmdir /tmp/belljar-0 2>/dev/null || true' EXIT
for _ in $(seq 100); do grep -q started names.log && break; sleep 0.1; done
echo nameserver 127.0.0.1 >resolv
cat >asks <<'END'
for q in "names.test A" "names.test AAAA" "six.test A" "none.test A" "long.test TXT" "long.test TXT +noedns" \
    "longer.test TXT" "names.test A +tcp"; do
    "$@" dig +time=2 +tries=1 +noall +answer +comments $q | sed '/^;; Got\|^;; ->>/d; s/, id: [0-9]*//; /COOKIE/d'
done
"$@" host names.test
"$@" getent ahosts names.test | sed 's/ *$//; s/\(STREAM\) names.test/\1/' | sort
END
unshare -m sh -c 'mount --bind resolv /etc/resolv.conf; sh asks >outside 2>&1; sh asks "$0" run -- >inside 2>&1' "$1"
cat inside
diff outside inside && echo equal
