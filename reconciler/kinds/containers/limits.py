"""Memory, cpus and tasks of containers: properties of their units (systemd.resource-control(5)).

One drop-in for each user who has limits, and one daemon-reload for all; containers that run are
limited at once. Without a drop-in the defaults of lxc-gpu@.service hold.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from reconciler.container import shared_memory
from reconciler.host import limited_units
from reconciler.host.places import container_unit
from reconciler.plan import Change, Lock, Observed, Tell
from state import command, files
from state.errors import LxcGpuError
from state.view import View
from state.words import plural

UNITS = Path("/etc/systemd/system")
DROP_IN = "50-lxc-gpu-limits.conf"
NO_LIMIT = -1
"""Observed where a limit should be in effect and isn't."""
_PROPERTIES = {"memory": "MemoryMax", "cpus": "CPUQuota", "tasks": "TasksMax"}
_SHOWN = {"memory": "MemoryMax", "cpus": "CPUQuotaPerSecUSec", "tasks": "TasksMax"}
"""The limits as `systemctl show` calls them."""
_SPAN = re.compile(r"([0-9.]+)(us|ms|s|min|h|day)\b")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "day": 86400}


class UnitLimits(NamedTuple):
    """Limits of one container's unit; None: the default."""

    memory: int | None = None
    """Bytes."""
    cpus: int | None = None
    tasks: int | None = None

    def settings(self) -> list[str]:
        """The limits as settings, e.g. `MemoryMax=8G` (systemd.resource-control(5))."""
        lines = []
        for name, value in self._asdict().items():
            if value is not None:
                text = f"{value * 100}%" if name == "cpus" else str(value)
                none = "" if name == "cpus" else "infinity"
                lines.append(f"{_PROPERTIES[name]}={none if value == NO_LIMIT else text}")
        return lines

    def drop_in(self) -> str:
        """The text of the unit's drop-in."""
        lines = ["# Written by lxc-gpu, from `limits:` in the state repository.", "[Service]"]
        return "".join(f"{line}\n" for line in (*lines, *self.settings()))

    def over(self, defaults: UnitLimits) -> UnitLimits:
        """These limits, with the defaults for those that aren't set."""
        own = {name: value for name, value in self._asdict().items() if value is not None}
        return defaults._replace(**own)


class LimitsKind:
    """Limits of containers."""

    name = "limits"
    lock = Lock.GLOBAL
    per_user = True

    def desired(self, view: View) -> Mapping[str, UnitLimits]:
        """The limits of each resident who has any."""
        every = {name: view.limits_of(name) for name in view.residents}
        wanted = {n: UnitLimits(of.memory, of.cpus, of.tasks) for n, of in every.items()}
        return {name: limits for name, limits in wanted.items() if limits != UnitLimits()}

    def observe(self, view: View, names: Collection[str]) -> Observed[UnitLimits]:
        """The limits in effect, of those that drop-ins set. A reload that was missed shows."""
        before, after = container_unit("*").split("*")
        there = {
            path.parent.name.removesuffix(".d").removeprefix(before).removesuffix(after): path
            for path in UNITS.glob(f"{container_unit('*')}.d/{DROP_IN}")
        }
        texts = {name: files.read_text(path) or "" for name, path in there.items()}
        shown = _show(tuple(texts))
        return Observed({name: in_effect(text, shown[name]) for name, text in texts.items()})

    def apply(
        self, view: View, changes: Sequence[Change[UnitLimits]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Limit running containers, write all drop-ins, then have systemd read them.

        A drop-in that is no longer wanted is emptied first, and removed when systemd has read it.
        """
        runs = limited_units.running([container_unit(change.name) for change in changes])
        defaults = _defaults() if runs else UnitLimits()
        failed: dict[str, LxcGpuError] = {}
        for change in changes:
            try:
                if container_unit(change.name) in runs:
                    whole = (change.after or UnitLimits()).over(defaults)
                    limited_units.limit(container_unit(change.name), whole.settings())
                path = _drop_in(change.name)
                path.parent.mkdir(mode=0o755, exist_ok=True)
                files.write_file(path, (change.after or UnitLimits()).drop_in())
            except LxcGpuError as error:  # that is one container's: the others get theirs anyway
                failed[change.name] = error
        command.run(["systemctl", "daemon-reload"])
        for change in changes:
            if change.after is None and change.name not in failed:
                _drop_in(change.name).unlink()
                if not any(_drop_in(change.name).parent.iterdir()):
                    _drop_in(change.name).parent.rmdir()
        shared_memory.fit(_resized(c for c in changes if container_unit(c.name) in runs))
        return failed

    def describe(self, change: Change[UnitLimits]) -> str:
        """E.g. `limit lqchen's container: 64.0 GiB of memory, 16 cpus`."""
        if change.after is None:
            return f"give {change.name}'s container the default limits"
        of = change.after
        words = [
            f"{of.memory / 2**30:.1f} GiB of memory" if of.memory is not None else "",
            plural(of.cpus, "cpu") if of.cpus is not None else "",
            plural(of.tasks, "task") if of.tasks is not None else "",
        ]
        return f"limit {change.name}'s container: {', '.join(word for word in words if word)}"


def _resized(changes: Iterable[Change[UnitLimits]]) -> dict[str, int | None]:
    """The users whose memory limit changes, and the new limit."""
    pairs = {c.name: (c.before or UnitLimits(), c.after or UnitLimits()) for c in changes}
    return {
        n: after.memory for n, (before, after) in pairs.items() if before.memory != after.memory
    }


def _drop_in(user: str) -> Path:
    return UNITS / f"{container_unit(user)}.d" / DROP_IN


def _show(users: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    """The limits that systemd has in effect, by user."""
    if not users:
        return {}
    wanted = f"--property={','.join(_SHOWN.values())}"
    argv = ["systemctl", "show", wanted, *(container_unit(user) for user in users)]
    blocks = command.run(argv).stdout.split("\n\n")
    return {
        user: dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for user, block in zip(users, blocks, strict=True)
    }


def _defaults() -> UnitLimits:
    """The limits of a container without a drop-in: root's, as root has no container."""
    return in_effect("\nMemoryMax=\nCPUQuota=\nTasksMax=", _show(["root"])["root"])


def in_effect(drop_in: str, shown: Mapping[str, str]) -> UnitLimits:
    """The limits that systemd has in effect, of those that a drop-in sets. Pure."""
    found: dict[str, int] = {}
    for name, prop in _PROPERTIES.items():
        if f"\n{prop}=" not in drop_in:
            continue
        text = shown.get(_SHOWN[name], "")
        spans = _SPAN.findall(text) if name == "cpus" else []
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in spans)
        number = str(round(seconds)) if spans else text
        found[name] = int(number) if number.isdigit() else NO_LIMIT
    return UnitLimits(**found)
