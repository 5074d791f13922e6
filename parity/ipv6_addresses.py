"""Addresses of IPv6 for a time, with a peer, temporary ones; which of them a socket is given."""
import re
import subprocess

from observe import *

S6, V6, PREFERENCES = 41, socket.AF_INET6, 72
TMP, PUBLIC, COA, CGA, DEFAULT, HOME, NONCGA = 1, 2, 4, 8, 0x100, 0x400, 0x800


def ip(*words):
    done = subprocess.run(["ip", "-6", *words], capture_output=True, text=True)
    return (done.stdout + done.stderr).strip() or done.returncode


def plain(line):
    """Identifiers by chance and times that pass are not compared."""
    line = re.sub(r"::[0-9a-f:]{9,}/64 (?=.*temporary)", "::CHANCE/64 ", line)
    return re.sub(r"(\d+)sec", lambda m: f"{(int(m[1]) + 5) // 20}*20", " ".join(line.split()))


def shown():
    addresses = [plain(l) for l in str(ip("addr", "show", "dev", "v0")).splitlines() if "mtu" not in l]
    routes = [plain(l) for l in str(ip("route", "show", "dev", "v0")).splitlines() if "fe80" not in l]
    with open("/proc/net/if_inet6") as f:
        flags = sorted(l.split()[0][:8] + l.split()[4] for l in f if l.endswith("v0\n"))
    return addresses, routes, flags


def step(case, words):
    say(case, r=ip("addr", *words.split()), shown=shown())


def conf(name, value, dev="v0"):
    with open(f"/proc/sys/net/ipv6/conf/{dev}/{name}", "w") as f:
        f.write(str(value))


def source(peer, prefs=0):
    with socket.socket(V6, socket.SOCK_DGRAM) as s:
        if prefs:
            s.setsockopt(S6, PREFERENCES, prefs)
        s.connect((peer, 9))
        name = s.getsockname()[0]
        return name if len(name) < 9 else "CHANCE"


for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
    with socket.socket(V6, kind) as s:
        say(f"preferences, {kind}", first=opt(s, S6, PREFERENCES), set=[set_get(s, S6, PREFERENCES, v) for v in (
            TMP, PUBLIC, 0, DEFAULT, TMP | PUBLIC, TMP | DEFAULT, COA, HOME, COA | HOME, COA | TMP, CGA, NONCGA, CGA | NONCGA, 0x1000, -1)])
conf("accept_dad", 0, "default")
subprocess.run("ip link add v0 type veth peer name v1; ip link set v1 up", shell=True, check=True)
conf("addr_gen_mode", 1)
ip("link", "set", "v0", "up")
say("settings", r=[open(f"/proc/sys/net/ipv6/conf/{d}/{n}").read().strip() for d in ("v0", "lo") for n in (
    "use_tempaddr", "temp_valid_lft", "temp_prefered_lft", "max_desync_factor", "regen_max_retry", "regen_min_advance")])
ip("addr", "add", "fd01::1/64", "dev", "v0", "nodad")
for case, words in {"for a time": "add fd02::1/64 dev v0 valid_lft 1000 preferred_lft 500 nodad", "twice": "add fd02::1/64 dev v0",
                    "deprecated": "change fd02::1/64 dev v0 valid_lft 300 preferred_lft 0", "for ever": "change fd02::1/64 dev v0",
                    "gone": "del fd02::1/64 dev v0", "and back": "replace fd02::1/64 dev v0 valid_lft 300 preferred_lft 300 nodad",
                    "without a route": "change fd02::1/64 dev v0 noprefixroute", "one for a time goes": "replace fd02::1/64 dev v0 valid_lft 300 preferred_lft 30",
                    "its route ends by itself": "del fd02::1/64 dev v0", "a peer": "add fd03::1 peer fd03::2/64 dev v0 nodad",
                    "another peer": "change fd03::1 peer fd04::2/64 dev v0", "without": "del fd03::1/64 dev v0", "at home": "add fd05::1/64 dev v0 home nodad",
                    "of 96 bits": "add fd06::1/96 dev v0 mngtmpaddr", "not wanted": "add fd06::1/64 dev v0 mngtmpaddr nodad"}.items():
    step(case, words)
conf("use_tempaddr", 2)
conf("max_desync_factor", 0)
conf("temp_valid_lft", 2000)
conf("temp_prefered_lft", 1000)
step("temporary", "add fd07::1/64 dev v0 mngtmpaddr nodad valid_lft 5000 preferred_lft 5000")
step("shorter than its own", "change fd07::1/64 dev v0 mngtmpaddr valid_lft 600 preferred_lft 400")
say("which of them", preferred=source("fd07::9"), public=source("fd07::9", PUBLIC), temporary=source("fd07::9", TMP), either=source("fd07::9", DEFAULT))
conf("use_tempaddr", 1)
say("only by request", preferred=source("fd07::9"), temporary=source("fd07::9", TMP), elsewhere=source("fd01::9", TMP))
step("stands for nothing", "change fd07::1/64 dev v0 valid_lft 5000 preferred_lft 5000")
step("temporary again", "change fd07::1/64 dev v0 mngtmpaddr")
step("with what it stands for", "del fd07::1/64 dev v0")
