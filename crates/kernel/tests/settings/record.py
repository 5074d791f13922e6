#!/usr/bin/env python3
"""Which values Linux takes for each setting under /proc/sys/net, and how it shows them; for tests/settings.rs.

Run as root:  unshare -n python3 record.py > linux-6.18.txt
The file has a line per setting: name, value in a new namespace, one sign per written value, and what was shown where that
is not what was written. Signs: `=` taken and shown as written, `~` taken and shown otherwise, `!` EINVAL, `e` ENOENT,
`a` EACCES, `b` EBUSY, `?` another error.
"""
import errno
import os
import subprocess

VALUES = ["-1", "0", "1", "2", "3", "7", "255", "256", "1279", "65535", "65536", "2147483647", "2147483648",
          "4294967295", "4294967296", "x", "", "1 2", "1 2 3"]
SIGN = {errno.EINVAL: "!", errno.ENOENT: "e", errno.EACCES: "a", errno.EBUSY: "b"}
ROOT = "/proc/sys/net"
DEVICES = ("all", "default", "eth0")


def settings():
    for at, _, files in os.walk(ROOT):
        parts = at[len(ROOT) + 1:].split("/")
        if len(parts) == 3 and parts[1] in ("conf", "neigh") and parts[2] not in DEVICES:
            continue
        yield from (os.path.join(at, f) for f in files)


def read(path):
    try:
        with open(path) as f:
            return f.read().strip().replace("\t", " ")
    except OSError:
        return None


def write(path, text):
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, (text + "\n").encode())
    finally:
        os.close(fd)


def observe(path):
    first, signs, shown = read(path), "", []
    for value in VALUES:
        try:
            write(path, value)
        except OSError as e:
            signs += SIGN.get(e.errno, "?")
            continue
        now = read(path)
        signs += "=" if now in (value, None) else "~"
        if now not in (value, None):
            shown.append(f"{value}>{now}")
        if first is not None:
            try:
                write(path, first)
            except OSError:
                pass
    return [first or "", signs, *shown]


def main():
    subprocess.run(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "veth1"], check=True)
    for command in ("iptables", "ip6tables"):
        subprocess.run([command, "-t", "nat", "-nL"], check=True, stdout=subprocess.DEVNULL)
    for path in sorted(settings()):
        name = path[len("/proc/sys/"):].replace("/", ".")
        print("\t".join([name, *observe(path)]))


main()
