"""snapshot and recover of a container on btrfs, beside what the disk itself takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from laboratory.demo.story import NAME
from laboratory.hosts import Host, Lab

from tests.bench.figures.logins import on_laptop, root_opens, start
from tests.bench.figures.recoveries import HERE, NOTE, types
from tests.bench.figures.snapshots import fill
from tests.bench.measure import Figure, in_turn, seconds
from tests.lab.disks import containers_on
from tests.lab.fleet import CONTAINERS

SETTLE = f"sync --file-system {CONTAINERS}"
WRITE = f"head -c 20000000 /dev/urandom >{HERE}/rootfs/system/srv/fresh"
"""So that there is something to settle, the same for both."""
DOWN = f"systemctl stop lxc-gpu@{NAME}; {SETTLE}"


@contextmanager
def _on_btrfs(lab: Lab) -> Iterator[Host]:
    """The container is another one meanwhile, on btrfs, with 3 GB in it; it runs."""
    host = lab.host("gpu17")
    argv = ["lxc-gpu", "reconcile", "--user", NAME, "--kind", "container"]
    host.sh(f"systemctl stop lxc-gpu@{NAME}; mv {NOTE} {NOTE}.bench")
    try:
        with (
            TemporaryDirectory() as folder,
            containers_on(host, "btrfs", Path(folder) / "disk.img", "16G"),
        ):
            host.run(argv, timeout=600)
            start(lab)
            fill(host)
            yield host
            host.sh(f"systemctl stop lxc-gpu@{NAME}")
    finally:
        host.sh(f"mv {NOTE}.bench {NOTE}")
        start(lab)


def snapshot(lab: Lab, runs: int = 3) -> Figure:
    """`snapshot` of a container that runs, as its user types it."""
    with _on_btrfs(lab) as host, root_opens(lab):

        def taken(*words: str) -> float:
            host.sh(WRITE)
            return on_laptop(lab, "ssh", *words)

        medians = in_turn(
            lambda: taken("gpu17-manage", "snapshot"),
            lambda: taken("root@gpu17-manage", SETTLE),
            runs,
        )
    return Figure("snapshot of 3 GB on btrfs", *medians, "syncfs, over the same ssh", "0.2 s more")


def recover(lab: Lab, runs: int = 3) -> Figure:
    """`recover` of a container that runs, until its sshd answers.

    The floor is what can't be had for less, as for `rebuild`.
    """
    with _on_btrfs(lab) as host:
        types(lab, "snapshot bench")

        def ours() -> float:
            host.sh(WRITE)
            token = re.findall(r"--confirm (\w{8})", types(lab, "recover bench"))[-1]
            return seconds(lambda: types(lab, f"recover bench --confirm {token}"))

        def bare() -> float:
            host.sh(WRITE)
            taken = seconds(lambda: host.sh(DOWN, timeout=300))
            start(lab)
            return taken

        medians = in_turn(ours, bare, runs)
    return Figure("recover of 3 GB on btrfs, until sshd answers", *medians,
                  "the container's own shutdown, and syncfs", "1.0 s more")  # fmt: skip
