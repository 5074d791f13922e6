"""The trees of /proc and /sys as programs walk them: names, links, attributes, from every side. Prints `key value` lines,
the same on the host kernel (in a namespace with lo and a TAP device t0) and in a jar, where they are the stack's."""
import glob
import os
import stat
import sys

dev = sys.argv[1]


def say(key, *values):
    print(key, *values, flush=True)


def err(f, *args, **more):
    try:
        r = f(*args, **more)
        return "ok" if r is None else r
    except OSError as e:
        return e.strerror


def kind(path, **more):
    st = err(os.stat, path, **more)
    return st if isinstance(st, str) else f"{stat.filemode(st.st_mode)} {st.st_size}"


for path in ["/proc/net/tcp", "/proc/net/", "/proc/net", "/proc/sys/net", "/proc/sys/net/ipv4/conf/all/forwarding",
             "/proc/sys/net/ipv4/nothing", "/proc/net/tcp/", "/proc/net/tcp/x", "/sys/class/net", f"/sys/class/net/{dev}",
             f"/sys/class/net/{dev}/mtu", f"/sys/class/net/{dev}/address", "/sys/class/net/none", "/proc/softirqs",
             f"/sys/class/net/{dev}/statistics/rx_bytes", f"/sys/devices/virtual/net/{dev}/queues"]:
    say("stat", path, kind(path))
    say("lstat", path, kind(path, follow_symlinks=False))
    say("access", path, *(os.access(path, m) for m in (os.F_OK, os.R_OK, os.X_OK)))
    say("readlink", path, err(os.readlink, path))
say("class", sorted(os.listdir("/sys/class/net")))
say("conf", [n for n in sorted(os.listdir("/proc/sys/net/ipv4/conf"))])
say("top", [n for n in sorted(os.listdir("/proc/sys/net")) if n in ("core", "ipv4", "ipv6", "unix")])
say("files", [n for n in sorted(os.listdir("/proc/net")) if n in ("tcp", "udp", "dev", "unix", "packet")])
say("attributes", [n for n in sorted(os.listdir(f"/sys/class/net/{dev}")) if n in ("mtu", "subsystem", "statistics", "type")])
say("glob", sorted(glob.glob("/sys/class/net/*/mtu")))
say("real", os.path.realpath("/proc/net/dev").replace(str(os.getpid()), "PID"), os.path.realpath(f"/sys/class/net/{dev}"),
    os.path.realpath(f"/sys/class/net/{dev}/subsystem"))
say("scan", sorted((e.name, e.is_symlink(), e.is_dir()) for e in os.scandir("/sys/class/net")))

# From directories, by every spelling.
proc, cls = os.open("/proc", os.O_RDONLY), os.open("/sys/class/net", os.O_RDONLY | os.O_DIRECTORY)
net = os.open("net", os.O_RDONLY, dir_fd=proc)
first = lambda fd: os.read(fd, 24)
say("from proc", first(os.open("net/dev", os.O_RDONLY, dir_fd=proc)))
say("from net", first(os.open("dev", os.O_RDONLY, dir_fd=net)), kind("tcp", dir_fd=net), err(os.open, "none", 0, dir_fd=net))
say("from class", first(os.open(f"{dev}/mtu", os.O_RDONLY, dir_fd=cls)), err(os.readlink, dev, dir_fd=cls))
say("up", kind("..", dir_fd=cls).split()[0], first(os.open(f"../net/{dev}/../{dev}/mtu", os.O_RDONLY, dir_fd=cls)))
say("dots", first(os.open("/proc/sys/net/../../self/./net//dev", os.O_RDONLY)))
say("by pid", first(os.open(f"/proc/{os.getpid()}/net/dev", os.O_RDONLY)),
    first(os.open(f"/proc/self/task/{os.getpid()}/net/dev", os.O_RDONLY)),
    first(os.open("/proc/thread-self/net/dev", os.O_RDONLY)))
say("by root", first(os.open("/proc/self/root/proc/net/dev", os.O_RDONLY)))
say("by fd", first(os.open(f"/proc/self/fd/{net}/dev", os.O_RDONLY)), first(os.open(f"/dev/fd/{proc}/net/dev", os.O_RDONLY)),
    first(os.open(f"/proc/self/fd/{cls}/../net/{dev}/mtu", os.O_RDONLY)))
path_fd = os.open(f"/sys/class/net/{dev}/mtu", os.O_PATH)
say("o_path", first(os.open(f"/proc/self/fd/{path_fd}", os.O_RDONLY)))
say("nofollow", err(os.open, f"/sys/class/net/{dev}", os.O_RDONLY | os.O_NOFOLLOW), err(os.open, "/proc/net", os.O_NOFOLLOW))
say("modes", err(os.open, "/proc/net", os.O_RDWR), err(os.open, "/proc/net/tcp", os.O_RDONLY | os.O_DIRECTORY),
    err(os.open, "/proc/net/tcp", os.O_CREAT | os.O_EXCL), err(os.open, "/proc/net/new", os.O_CREAT | os.O_RDWR))
os.fchdir(net)
say("there", first(os.open("dev", os.O_RDONLY)), sorted(n for n in os.listdir(".") if n in ("tcp", "raw")), kind("udp"))
os.chdir("/proc/sys/net")
say("in settings", first(os.open("ipv4/ip_forward", os.O_RDONLY)), first(os.open("../net/core/somaxconn", os.O_RDONLY)))
os.chdir("/")
say("away", first(os.open("proc/net/dev", os.O_RDONLY)), kind("etc/../proc/net/dev"))
