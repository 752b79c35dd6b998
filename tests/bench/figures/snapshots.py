"""A snapshot of a container of about 3 GB, beside the bare tar of the same files."""

from __future__ import annotations

from laboratory.demo.story import NAME
from laboratory.hosts import Host, Lab
from laboratory.layout import LAPTOP_USER

from tests.bench.figures.logins import start
from tests.bench.measure import Figure, in_turn, seconds
from tests.lab.fleet import in_container, system_of

FILL = r"""
import os, random
random.seed(7)
words = [bytes(random.choices(b"abcdefghijklmnopqrstuvwxyz", k=n % 8 + 2)) for n in range(3000)]
text = b" ".join(random.choices(words, k=200_000))[: 1 << 20]
os.makedirs("srv/bench"); os.chdir("srv/bench")
for n in range(20_000):
    if n % 500 == 0: os.mkdir(f"sources{n // 500}")
    size = random.randint(200, 20_000); at = random.randint(0, len(text) - size)
    with open(f"sources{n // 500}/{n}", "wb") as f: f.write(text[at : at + size])
for n in range(300):
    with open(f"library{n}", "wb") as f:
        for _ in range(4): f.write(text[random.randint(0, 500_000) :][:500_000])
        f.write(os.urandom(1_200_000))
for n in range(8):
    with open(f"images{n}", "wb") as f:
        for _ in range(160): f.write(os.urandom(1 << 20))
for n in range(6):
    with open(f"table{n}", "wb") as f:
        for _ in range(110): f.write(text)
"""
"""3.1 GB: 20,000 small files, 300 of a few megabytes, 14 large ones; about half can't be packed."""
BARE = """
systemd-run --quiet --wait --nice=10 --working-directory=$TREE \\
    tar --create --zstd --file=/var/lib/lxc-gpu/bare.tar.zst --numeric-owner --xattrs --acls \\
    --one-file-system .
sync /var/lib/lxc-gpu/bare.tar.zst
"""
"""In a unit and as considerate as ours, or a busy machine would compare two priorities; until it is
on the disk: what a power loss takes is no snapshot."""


def fill(host: Host) -> None:
    """Put the 3 GB into the container."""
    empty(host)
    in_container(host, NAME, f"python3 - <<'END'\n{FILL}\nEND", wait=300)
    host.sh("sync", timeout=300)


def empty(host: Host) -> None:
    """Take them out again."""
    host.sh(f"rm -rf {system_of(host, NAME)}/srv/bench", timeout=300)


def of_3_gb(lab: Lab) -> Figure:
    """`snapshot` as its user types it, until it is on the disk."""
    host, laptop = lab.host("gpu17"), lab.host("laptop")
    start(lab)
    fill(host)
    argv = ["ssh", "gpu17-manage", "snapshot"]
    try:
        medians = in_turn(
            lambda: seconds(lambda: laptop.run(argv, user=LAPTOP_USER, timeout=600)),
            lambda: seconds(lambda: host.sh(f"TREE={system_of(host, NAME)}\n{BARE}", timeout=600)),
            runs=3,
        )
    finally:
        empty(host)
        host.sh(f"rm -rf /var/lib/lxc-gpu/bare.tar.zst /var/lib/lxc-gpu/snapshots/{NAME}")
    return Figure(
        "snapshot of a 3 GB container", *medians,
        "tar --create --zstd of the same files, in a unit as nice, and sync", "within 1.1",
    )  # fmt: skip
