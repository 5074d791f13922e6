"""Runs a program on a kernel that has no seccomp(2), as far as the program can tell."""
import ctypes, os, platform, struct, sys

number = {"x86_64": 317, "aarch64": 277}[platform.machine()]
program = b"".join(
    struct.pack("=HBBI", *i)
    for i in [
        (0x20, 0, 0, 0),  # load the call's number
        (0x15, 0, 1, number),  # not this one: skip
        (0x06, 0, 0, 0x00050000 | 38),  # ENOSYS
        (0x06, 0, 0, 0x7FFF0000),  # allow
    ]
)
buffer = ctypes.create_string_buffer(program)
fprog = struct.pack("=HxxxxxxQ", 4, ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, ctypes.c_char_p(fprog), 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
os.execv(sys.argv[1], sys.argv[1:])
