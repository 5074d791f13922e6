"""Workers that share a listener by epoll, with or without EPOLLEXCLUSIVE, and a client: herd.py WORKERS CONNECTIONS [exclusive]"""
import os, select, signal, socket, sys, time

workers, connections = int(sys.argv[1]), int(sys.argv[2])
bits = select.EPOLLIN | (select.EPOLLEXCLUSIVE if "exclusive" in sys.argv else 0)
listener = socket.create_server(("127.0.0.1", 7000), backlog=64)
listener.setblocking(False)


def work():
    ep = select.epoll()
    ep.register(listener, bits)
    while True:
        ep.poll()
        try:
            s, _ = listener.accept()
        except BlockingIOError:
            continue
        s.send(b"x")
        s.close()


pids = []
for _ in range(workers):
    pid = os.fork()
    if pid == 0:
        work()
    pids.append(pid)
time.sleep(0.3)
for _ in range(connections):
    with socket.create_connection(("127.0.0.1", 7000)) as s:
        assert s.recv(10) == b"x"
    # Whoever was woken finds out before the next one comes.
    time.sleep(0.01)
for pid in pids:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
