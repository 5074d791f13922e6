"""A program that tries to reach the host's files through the supervisor, which may have more rights than it: by paths that
leave the planted trees, by descriptors in them, by links, and by changing a path while its call is served. SECRET is a file
that it may neither read nor write. Prints what it reached; nothing, if all is well."""
import ctypes
import os
import socket
import stat
import sys
import threading
import time

secret = sys.argv[1]
mine = sys.argv[2]
libc = ctypes.CDLL(None, use_errno=True)
bad = []


def blame(how, what):
    bad.append(f"{how}: {what!r}")


def try_read(how, path, **more):
    for flags in (os.O_RDONLY, os.O_RDONLY | os.O_NOFOLLOW, os.O_PATH):
        try:
            fd = os.open(path, flags, **more)
        except OSError:
            continue
        try:
            got = os.read(fd, 100)
            if b"SECRET" in got:
                blame(how, got)
        except OSError:
            # Only named: once more, by its number.
            try:
                again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
                if b"SECRET" in os.read(again, 100):
                    blame(how + " again", path)
                os.close(again)
            except OSError:
                pass
        os.close(fd)


def try_write(how, path, **more):
    for flags in (os.O_WRONLY | os.O_TRUNC, os.O_RDWR, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_APPEND):
        try:
            fd = os.open(path, flags, **more)
        except OSError:
            continue
        try:
            os.write(fd, b"0\n")
        except OSError:
            pass
        os.close(fd)


# A link of our own to the secret, where a confused resolver might follow it with its own rights.
os.chdir(mine)
os.symlink(secret, "link")
os.mkdir("net")
os.symlink(secret, "net/tcp")
os.symlink("/proc/net", "procnet")

dirs = {p: os.open(p, os.O_RDONLY | os.O_DIRECTORY) for p in
        ("/proc/net", "/proc/sys/net", "/proc/sys/net/ipv4/conf", "/sys/class/net", "/sys/class/net/eth0", "/sys/devices/virtual/net")}
up = "../" * 12
paths = [p + "/" + up + secret.lstrip("/") for p in dirs]
paths += [f"/proc/self/root{secret}", f"/proc/self/net/../root{secret}", f"/proc/net/../../root{secret}", f"/proc/net/tcp/../../..{secret}",
          f"/proc/self/cwd/link", f"/proc/sys/net/../../self/cwd/link", "net/tcp", "procnet/../cwd/link", "link",
          f"/sys/class/net/eth0/subsystem/../../..{secret}", f"/proc//self/./net/..//cwd/net/tcp", "/proc/self/net/tcp/../link"]
for fd in dirs.values():
    paths += [f"/proc/self/fd/{fd}/{up}{secret.lstrip('/')}", f"/dev/fd/{fd}/../../../../../..{secret}"]
for p in paths:
    try_read(p, p)
    try_write(p, p)
for name, fd in dirs.items():
    for p in (up + secret.lstrip("/"), "../cwd/link", "..", "../..", "../../.."):
        try_read(f"{name} + {p}", p, dir_fd=fd)
        try_write(f"{name} + {p}", p, dir_fd=fd)
    # The directories themselves are not ours to change, nor is what lies above them to be seen.
    for f in (lambda: os.mkdir("made", dir_fd=fd), lambda: os.symlink(secret, "made", dir_fd=fd),
              lambda: os.open("made", os.O_CREAT | os.O_WRONLY, dir_fd=fd), lambda: os.rename("lo", "ol", src_dir_fd=fd, dst_dir_fd=fd)):
        try:
            f()
            if os.geteuid() != int(sys.argv[3]):
                blame("changed", name)
        except OSError:
            pass
    if os.geteuid() != int(sys.argv[3]):
        for n in range(3, 9):
            try:
                seen = os.listdir(os.open("../" * n, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd))
                if any(s.endswith((".sock", ".lock", ".tree")) for s in seen):
                    blame("listed", seen)
            except OSError:
                pass
            for sock in os.environ.get("JAR_SOCKETS", "").split(":"):
                s = socket.socket(socket.AF_UNIX)
                try:
                    os.fchdir(fd)
                    s.connect("../" * n + sock)
                    blame("connected", sock)
                except OSError:
                    pass
                s.close()
os.chdir(mine)

# openat2 with every promise about the way, and handles.
how = (ctypes.c_uint64 * 3)
for resolve in (0, 1, 2, 4, 8, 16, 32):
    for fd in dirs.values():
        got = libc.syscall(437, fd, (up + secret.lstrip("/")).encode(), ctypes.byref(how(0, 0, resolve)), 24)
        if got >= 0:
            blame("openat2", os.read(got, 100))
handle = ctypes.create_string_buffer(bytes([128, 0, 0, 0]) + bytes(132))
mount = ctypes.c_int()
for p in paths[:8] + [secret]:
    if libc.name_to_handle_at(-100, p.encode(), handle, ctypes.byref(mount), 0) == 0:
        got = libc.open_by_handle_at(list(dirs.values())[0], handle, 0)
        if got >= 0 and b"SECRET" in os.read(got, 100):
            blame("handle", p)

# A path that changes between our look and the host's.
stop = False
size = 200
buf = ctypes.create_string_buffer(size)


def flip(texts):
    padded = [t.encode() + bytes(size - len(t)) for t in texts]
    while not stop:
        for t in padded:
            ctypes.memmove(buf, t, size)


libc.open.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
libc.readlink.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
out = ctypes.create_string_buffer(300)
calls = 0
for texts in ([secret, "/proc/net/tcp"], ["/proc/sys/net/ipv4/ip_forward", secret], ["/sys/class/net", secret], ["/dev/net/tun", secret],
              [mine + "/link", "/proc/net/dev"]):
    stop = False
    t = threading.Thread(target=flip, args=(texts,))
    t.start()
    end = time.time() + 0.6
    while time.time() < end:
        for flags in (os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_RDONLY | os.O_DIRECTORY):
            fd = libc.open(buf, flags, 0)
            calls += 1
            if fd < 0:
                continue
            try:
                # A device without packets would make us wait.
                if stat.S_ISREG(os.fstat(fd).st_mode) and b"SECRET" in os.read(fd, 100):
                    blame("race", texts)
            except OSError:
                pass
            try:
                if flags & os.O_ACCMODE and os.readlink(f"/proc/self/fd/{fd}") == secret:
                    blame("race for writing", texts)
            except OSError:
                pass
            os.close(fd)
        libc.readlink(buf, out, 300)
        if out.raw.startswith(b"SECRET"):
            blame("readlink", texts)
    stop = True
    t.join()

print("\n".join(sorted(set(bad))) or f"nothing reached ({'many' if calls > 100 else calls} calls raced)")
