# The files of the trees as files: copied, asked about attributes, read and written at once, and namespaces by name.
r() { echo "\$ $*"; "$@" 2>&1; c=$?; [ $c = 0 ] || echo "=> $c"; }
mkdir files && cd files || exit 1
r cp /proc/net/dev copied
r install /proc/net/dev installed
r cp -a /proc/sys/net/core/somaxconn /sys/class/net/lo/mtu .
r stat -c %A copied installed somaxconn mtu
r cat somaxconn mtu
r ls -L /sys/class/net/lo/statistics
ls -l /sys/class/net/ | sed 's/ [A-Z][a-z][a-z] .*:.. / /'
ls -la /sys/class/net/lo/ 2>&1 | grep -c 'No such'
r stat -f -c %T /sys/class/net/lo/mtu /proc/net/dev /proc/sys/net
python3 - <<'P'
import os
def err(f, *args):
    try: return f(*args)
    except OSError as e: return e.strerror
for path in "/proc/net/dev", "/sys/class/net", "/sys/class/net/lo/mtu", "/proc/sys/net/ipv4/ip_forward":
    print(path, err(os.listxattr, path), *(err(os.getxattr, path, n) for n in ("user.a", "security.selinux", "system.posix_acl_access", "a" * 256)))
f = open("/proc/net/dev")
a, b = os.fstat(f.fileno()), os.stat("/proc/net/dev")
print(oct(a.st_mode), (a.st_dev, a.st_ino, a.st_mode) == (b.st_dev, b.st_ino, b.st_mode))
p = "/proc/sys/net/ipv4/ip_forward"
now = lambda: open(p).read()
f = open(p, "r+")
print(repr(f.read()), f.seek(0), f.write("1"), f.flush(), f.seek(0), repr(f.read()))
f.close()
print(now())
fd = os.open(p, os.O_RDWR)
print(os.pwrite(fd, b"0\n", 0), now(), os.lseek(fd, 0, 1), err(os.pwrite, fd, b"zz\n", 0), now(), os.write(fd, b"1"), now(), err(os.pwrite, fd, b"0", 3), now())
os.close(fd)
p = "/proc/sys/net/core/somaxconn"
fd = os.open(p, os.O_RDWR)
print(os.read(fd, 99), os.write(fd, b"77\n"), now(), os.lseek(fd, 0, 0), os.write(fd, b"88\n"), now(), os.lseek(fd, 0, 0), os.write(fd, b"9"))
os.close(fd)
print(now(), os.path.samestat(os.stat(p), os.fstat(os.open(p, 0))))
P
r ip netns add a
[ -e /run/netns/a ] && echo there
[ -e /run/netns/b ] || echo missing
r stat -c '%A %s %F' /run/netns/a
ls /run/netns
ls -l /run/netns/ | sed 's/ [A-Z][a-z][a-z] .*:.. / /'
r timeout 3 cat /run/netns/a
ip netns exec a sleep 30 &
p=$!
until [ "$(ip netns identify $p)" = a ]; do sleep .1; done
ip netns identify $$
[ "$(ip netns pids a)" = $p ] && echo found
[ "$(readlink /proc/$p/ns/net)" = "$(readlink /proc/self/ns/net)" ] || echo another
[ "$(readlink /proc/$$/ns/net)" = "$(readlink /proc/self/ns/net)" ] && echo the same
[ "$(readlink /proc/$p/ns/net)" = "net:[$(stat -c %i /run/netns/a)]" ] && echo its number
r ip -n a link add v0 type veth peer name v1
grep -c v0: /proc/$p/net/dev /proc/self/net/dev | sed s/$p/PID/
exec 9</run/netns/a
for how in --net=/proc/self/fd/9 --net=/run/netns/a "-t $p -n"; do nsenter $how ip -o link | wc -l; done
ip netns attach b $p
ip -n b -o link | wc -l
kill $p
r ip netns del a
ip -n b -o link | wc -l
r ip netns del b
[ "$(nsenter --net=/proc/self/fd/9 ip -o link | wc -l)" = 3 ] && echo open still
exec 9<&-
ls -A /run/netns
echo done
