"""A server that listens and never accepts, and clients that knock all the same.

overflow.py serve PORT | overflow.py connect ADDRESS PORT COUNT
"""
import socket, sys, time

if sys.argv[1] == "serve":
    s = socket.socket()
    s.bind(("0.0.0.0", int(sys.argv[2])))
    s.listen(128)
    print("listening", flush=True)
    time.sleep(120)
else:
    held = []
    for _ in range(int(sys.argv[4])):
        c = socket.socket()
        c.setblocking(False)
        c.connect_ex((sys.argv[2], int(sys.argv[3])))
        held.append(c)
        time.sleep(0.05)
    print("knocked", flush=True)
    time.sleep(120)
