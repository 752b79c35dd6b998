"""What one user uses on each server, and one server in a line. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from state.sizes import size
from state.wire.reserved import open_gpus
from state.wire.server_load import ServerLoad
from state.words import plural
from webui.monitor.heard.latest import LastHeard
from webui.monitor.shown.amounts import ranges
from webui.monitor.shown.closed import Closed
from webui.monitor.shown.gpu_rows import gpu_memory, held


@dataclass(frozen=True)
class Holding:
    """What a user uses on one server, by its newest load."""

    server: str
    cpus: str
    memory: str
    gpus: str
    """The indices of the GPUs that they hold; empty if none."""
    gpu_memory: str
    silent_since: float | None
    """Since when the server is silent, if it is; then all of this was true before that."""
    idle_since: float | None
    """Since when the container runs idle, if it does."""
    stopped_since: float | None = None
    """When the container was stopped for being idle, if it was."""


@dataclass(frozen=True)
class Glance:
    """One server in a line."""

    gpus: str
    """How many GPUs are free, in words; empty if there are none."""
    free: bool
    driver: str
    in_step: bool
    silent_since: float | None


def holdings(user: str, seen: Iterable[LastHeard]) -> tuple[Holding, ...]:
    """What `user` uses on each server. Servers on which they use nothing are left out."""
    found = (_holding(user, each, each.load) for each in seen if each.load is not None)
    return tuple(each for each in found if each is not None)


def glance(seen: LastHeard | None, closed: Closed | None = None) -> Glance | None:
    """One server in a line; None if it was never heard.

    `closed`: its containers are shut down, so that no GPU is free for anybody.
    """
    if seen is None or seen.load is None:
        return None
    load = seen.load
    free, total = 0 if closed else len(open_gpus(load)), len(load.gpus)
    words = f"{free} of {plural(total, 'GPU')} free" if total else ""
    if load.gpu_problem is not None and not load.gpus:
        words = "GPUs not known"
    if closed is not None:
        words = "Closed for maintenance"
    silent = seen.silent_since
    return Glance(
        gpus="" if silent else words,
        free=bool(free),
        driver=load.driver.loaded or load.driver.installed,
        in_step=load.driver.in_step,
        silent_since=silent,
    )


def _holding(user: str, seen: LastHeard, load: ServerLoad) -> Holding | None:
    running = next((each for each in load.users if each.user == user), None)
    idle = next((each.since for each in load.idle if each.user == user), None)
    stopped = next((each.since for each in load.stopped_idle if each.user == user), None)
    gpus = held(load, user)
    if running is None and not gpus and idle is None and stopped is None:
        return None
    return Holding(
        server=seen.server,
        cpus=f"{running.cpus:.1f}" if running else "0.0",
        memory=size(running.memory if running else 0),
        gpus=ranges(gpu.index for gpu in gpus),
        gpu_memory=gpu_memory(load, user),
        silent_since=seen.silent_since,
        idle_since=idle,
        stopped_since=stopped,
    )
