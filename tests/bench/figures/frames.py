"""What it costs that each frame of a container is judged: with, and without, one or 1,000 users."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import product

from laboratory.hosts import Host, Lab

from reconciler.network.filters import IDENTITIES, PORTS, TABLE, mac_of
from tests.bench.figures.logins import start
from tests.bench.measure import Figure, in_turn

PORT = 5001
SINK = f"""
import socket
with socket.create_server(("", {PORT})) as server:
    while True:
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while got := connection.recv(1 << 20):
            if len(got) == 1:
                connection.sendall(got)
"""
MEASURE = f"""
import socket, sys, time
connection = socket.create_connection((sys.argv[1], {PORT}))
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
begun = time.perf_counter()
for _ in range(2000):
    connection.sendall(b"?")
    connection.recv(1)
print((time.perf_counter() - begun) / 2000 * 10_000)
block, begun, sent = bytes(1 << 20), time.perf_counter(), 0
while time.perf_counter() - begun < 2:
    connection.sendall(block)
    sent += len(block)
print((time.perf_counter() - begun) / sent * 1e9)
"""
"""Prints a line for each of NAMES, in seconds; the bytes go one by one."""
NAMES = ("10,000 times there and back", "a gigabyte")
OPEN = """
nft delete table bridge lxc-gpu
for chain in FORWARD INPUT; do iptables -F LXC-GPU-$chain; done
iptables -A LXC-GPU-FORWARD -j ACCEPT
"""


def judged(lab: Lab) -> Iterator[Figure]:
    """From lqchen's container on gpu17 to gpu18, with and without in turn."""
    host, other = lab.host("gpu17"), lab.host("gpu18")
    start(lab)
    other.run(["systemd-run", "-q", "--unit=sink", "/usr/bin/python3", "-c", SINK])
    try:
        for users, which in product((1, 1000), range(len(NAMES))):
            yield Figure(
                f"{NAMES[which]}, container to gpu18, {users:,} users",
                *_medians(host, users, which),
                "the same without any filter",
                "within 1.1",
            )
    finally:
        other.run(["systemctl", "stop", "sink"])
        host.sh("lxc-gpu reconcile")


def _medians(host: Host, users: int, which: int) -> tuple[float, float]:
    """Of the figure NAMES[which]."""

    def run() -> float:
        enter = """
            pid=$(ps -o pid= --ppid $(systemctl show -P MainPID lxc-gpu@lqchen))
            exec nsenter -t $pid -n /usr/bin/python3 - 172.16.2.18"""
        time.sleep(1.5)  # loading rules leaves the kernel something to tidy up
        argv = ["sh", "-euc", enter]
        return min(float(host.run(argv, stdin=MEASURE).stdout.split()[which]) for _ in range(3))

    def ours() -> float:
        host.sh("lxc-gpu reconcile")
        host.run(["nft", "--file", "-"], stdin=_strangers(users - 1))
        return run()

    def floor() -> float:
        host.sh(OPEN)
        taken = run()
        host.sh("lxc-gpu reconcile")
        return taken

    return in_turn(ours, floor, runs=3)


def _strangers(count: int) -> str:
    """Identities of users that there aren't."""
    if not count:
        return ""
    table = " ".join(TABLE)
    places = [(f'"veth{50_000 + i}_*"', f"10.77.{100 + i // 256}.{i % 256}") for i in range(count)]
    ports = ", ".join(port for port, _ in places)
    identities = ", ".join(f"{port} . {mac_of(address)} . {address}" for port, address in places)
    return (
        f"add element {table} {PORTS} {{ {ports} }}\n"
        f"add element {table} {IDENTITIES} {{ {identities} }}\n"
    )
