"""Every measurement by its name: what `setup/bench NAME` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from laboratory.hosts import Lab

from state.errors import LxcGpuError
from tests.bench.figures import (
    come_back,
    connections,
    copies,
    frames,
    inside,
    load_stream,
    logins,
    monitor,
    recoveries,
    revocation,
    rounds,
    sharing,
    snapshots,
    walk,
)
from tests.bench.measure import Figure


@dataclass(frozen=True)
class InLab:
    """A measurement on the machines of a lab in which the story was played.

    It finds them quiet (`quiet.settle`), makes what else it needs, and leaves them as they were:
    no measurement needs another one before it.
    """

    name: str
    says: str
    """What it measures, in a line."""
    take: Callable[[Lab], Iterable[Figure]]


@dataclass(frozen=True)
class Here:
    """A measurement on this machine, without a lab."""

    name: str
    says: str
    """What it measures, in a line."""
    take: Callable[[], Iterable[Figure]]


Measurement = InLab | Here


def _one(measure: Callable[[Lab], Figure]) -> Callable[[Lab], Iterable[Figure]]:
    return lambda lab: [measure(lab)]


CATALOGUE: tuple[Measurement, ...] = (
    InLab("manage", "ssh gpu17-manage, container running", logins.manage_while_running),
    InLab("status", "ssh gpu17-manage status", lambda lab: [logins.only_looking(lab, "status")]),
    InLab("gpus", "ssh gpu17-manage gpus", lambda lab: [logins.only_looking(lab, "gpus")]),
    InLab("cold-start", "a container's start until its sshd answers", _one(logins.cold_start)),
    InLab("save-to-login", "a key saved on the page until it opens", _one(logins.save_to_login)),
    InLab("connect", "ssh by connect beside the mapped port", connections.figures),
    InLab("key-removed", "a key removed until 10 servers refuse it", revocation.key_removed),
    InLab("first-round", "a round that makes 1,000 accounts", _one(rounds.first_round)),
    InLab("empty-round", "a round with nothing to do, 1,000 users", rounds.empty_round),
    InLab("one-change", "a round after one of 1,000 users changed", _one(rounds.one_change)),
    InLab("check", "lxc-gpu check of 10,000 users", _one(rounds.check_10000)),
    InLab("snapshot", "a snapshot of a 3 GB container", _one(snapshots.of_3_gb)),
    InLab("recover", "recover of a 3 GB container", _one(recoveries.of_3_gb)),
    InLab("snapshot-btrfs", "the same snapshot where the disk is btrfs", _one(copies.snapshot)),
    InLab("recover-btrfs", "the same recover there", _one(copies.recover)),
    InLab("rebuild", "a rebuild of a container that runs", _one(recoveries.rebuild)),
    InLab("inside", "work inside, beside a service of the server's", inside.figures),
    InLab("registration", "a registration, 280 MB template", _one(recoveries.registration)),
    InLab("registration-3gb", "the same, 3 GB template", recoveries.registration_3_gb),
    InLab("come-back", "60 containers that come back after a reboot", come_back.smallest),
    InLab("come-back-debian", "the same with whole systems of Debian", come_back.debian),
    InLab("empty-round-60", "a round with nothing to do, 60 run", _one(come_back.empty_round)),
    InLab("frames", "what judging a container's frames costs", frames.judged),
    InLab("load-stream", "CPU time of the load stream", load_stream.figures),
    InLab("full-book", "what thousands of reservations cost the rest", load_stream.full_book),
    Here("disk-of-ten", "what ten new systems of 3 GB take of a disk", sharing.figures),
    Here("walk", "1,000 new commits verified", lambda: [walk.thousand_commits()]),
    Here("monitor", "the monitor of 100 servers, watched by 50", monitor.figures),
)


def choose(names: Sequence[str]) -> tuple[Measurement, ...]:
    """Those of these names, in the catalogue's order; all without names. LxcGpuError otherwise."""
    known = {each.name: each for each in CATALOGUE}
    if unknown := [name for name in names if name not in known]:
        raise LxcGpuError(
            "bench-name",
            f"There is no measurement {', '.join(unknown)}.",
            f"There are:\n{listing()}",
        )
    return tuple(each for each in CATALOGUE if not names or each.name in names)


def listing() -> str:
    """Names, and what they measure."""
    width = max(len(each.name) for each in CATALOGUE)
    return "\n".join(f"  {each.name:<{width}}  {each.says}" for each in CATALOGUE)
