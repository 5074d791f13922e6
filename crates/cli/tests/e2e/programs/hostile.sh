#!/bin/sh
# As root: a jar whose program has become somebody with less rights than the supervisor. $1: belljar, $2: hostile.py.
set -e
d=$(mktemp -d /tmp/belljar-hostile.XXXXXX)
trap 'rm -rf "$d"' EXIT
chmod 755 "$d"
mkdir -m 700 "$d/private"
mkdir -m 777 "$d/open"
echo SECRET > "$d/private/secret"
chmod 600 "$d/private/secret"
before=$(stat -c '%Y %s' "$d/private/secret")
JAR_SOCKETS=hostile.sock "$1" run --name hostile --with-proc -- \
    setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all python3 "$2" "$d/private/secret" "$d/open" 0
[ "$(cat "$d/private/secret")" = SECRET ] && [ "$before" = "$(stat -c '%Y %s' "$d/private/secret")" ] && echo untouched
