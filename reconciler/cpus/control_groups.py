"""Gives running containers their CPUs by the kernel's cpusets (cpuset(7), cgroups(7)).

With unified control groups (v2), systemd keeps the cpusets, as `AllowedCPUs=` of the containers'
units (systemd.resource-control(5)), and systemd inside can divide its own further. With v1, systemd
leaves cpusets alone, so each container gets one of ours. In both cases a program inside sees and
can choose no other CPUs, and root inside can't change that.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Protocol

from reconciler.cpus.machine import Cpus, Machine, in_words, parse
from reconciler.host import limited_units
from reconciler.host.places import container_unit
from state import command
from state.errors import LxcGpuError
from state.files import read_text

ROOT = Path("/sys/fs/cgroup")
SLICE = "lxc.slice/lxc-gpu.slice"
"""Where the containers' units are (setup/units/lxc-gpu@.service, systemd.slice(5))."""
OURS = "lxc-gpu"
"""The folder of our cpusets, in the hierarchy of v1."""
PATIENCE = 5.0
"""Seconds that systemd, which answers first, may take to tell the kernel."""
PASSES = 50
"""How often to look for programs that started while others were moved."""
MOVING = 2.0
"""Seconds that moving one container's programs may take: others wait meanwhile."""
MOST_GROUPS, DEEPEST = 2000, 100
"""How many control groups of a container are looked through, and to which depth."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ControlGroups(Protocol):
    """Cpusets, by unified or by separate control groups."""

    def usable(self, machine: Machine) -> Machine:
        """The CPUs of the machine that containers may use."""
        ...

    def held(self) -> Mapping[str, Cpus]:
        """The CPUs of each running container; an empty set: it may use all."""
        ...

    def give(self, user: str, cpus: Cpus) -> None:
        """Have a container run on these CPUs, and see no others; an empty set: all CPUs.

        LxcGpuError or OSError if it can't be done.
        """
        ...


def mounted(root: Path = ROOT) -> ControlGroups | None:
    """The cpusets of this server; None if there are none that we can use."""
    if (controllers := read_text(root / "cgroup.controllers")) is not None:
        return Unified(root) if "cpuset" in controllers.split() else None
    return Separate(root) if (root / "cpuset" / "cpuset.cpus").exists() else None


class Unified:
    """Unified control groups (v2)."""

    def __init__(self, root: Path = ROOT) -> None:
        self._slice = root / SLICE
        self._root = root

    def usable(self, machine: Machine) -> Machine:
        """The CPUs that a sysadmin gave the slice of all containers (its own `AllowedCPUs=`)."""
        return machine.only(self._all())

    def _all(self) -> Cpus:
        texts = (_text(f / "cpuset.cpus.effective") or "" for f in (self._slice, self._root))
        return next(filter(None, map(parse, texts)), frozenset())

    def held(self) -> Mapping[str, Cpus]:
        """The CPUs that the kernel gives each. Users own these groups, but root owns the files read
        here."""
        texts = {user: _text(group / "cpuset.cpus") for user, group in _running(self._slice)}
        sets = {user: parse(text) for user, text in texts.items() if text is not None}
        everything = self._all()
        return {user: cpus if everything - cpus else frozenset() for user, cpus in sets.items()}

    def give(self, user: str, cpus: Cpus) -> None:
        """Set the CPUs by systemd, until a reboot. A daemon-reload doesn't change them.

        "All" is a list of all CPUs: a set with programs in it can't be empty (ENOSPC).
        """
        unit, setting = container_unit(user), f"AllowedCPUs={in_words(cpus or self._all())}"
        if cpus:
            command.run(["systemctl", "set-property", "--runtime", unit, setting])
        else:
            limited_units.limit(unit, [setting])
        deadline = time.monotonic() + PATIENCE
        while self.held().get(user, cpus) != cpus and time.monotonic() < deadline:
            time.sleep(0.005)


class Separate:
    """A separate hierarchy for cpusets (v1), which systemd doesn't use."""

    def __init__(self, root: Path = ROOT) -> None:
        self._units = root / "systemd" / SLICE
        self._root = root / "cpuset"
        self._ours = self._root / OURS

    def usable(self, machine: Machine) -> Machine:
        """The CPUs that this machine has, which may itself be a container."""
        return machine.only(parse((self._root / "cpuset.cpus").read_text()))

    def held(self) -> Mapping[str, Cpus]:
        """The containers whose cpusets were narrowed: that is done once all their programs are
        inside."""
        return {user: self._held(self._ours / user) for user, _ in _running(self._units)}

    def _held(self, group: Path) -> Cpus:
        if not _text(group / "cgroup.procs"):
            return frozenset()  # the cpuset is of an earlier start, or there is none yet
        cpus = parse(_text(group / "cpuset.cpus") or "")
        return cpus if self._all() - cpus else frozenset()

    def _all(self) -> Cpus:
        return parse((self._root / "cpuset.cpus").read_text())

    def give(self, user: str, cpus: Cpus) -> None:
        """Move all its programs into a cpuset, where their children stay, and then narrow that."""
        group, unit = self._ours / user, self._units / container_unit(user)
        self._make_cpuset(self._ours)
        for old in self._ours.iterdir():
            if old.is_dir() and old != group:
                with suppress(OSError):  # the container runs
                    old.rmdir()
        until = time.monotonic() + MOVING
        for _ in range(PASSES):
            outside = _programs(unit) - _programs(group)
            if not outside:
                break
            if time.monotonic() > until:
                raise _too_fast(user)
            self._make_cpuset(group)
            for pid in sorted(outside):
                with suppress(ProcessLookupError):
                    (group / "cgroup.procs").write_text(f"{pid}\n")
        else:
            raise _too_fast(user)
        if group.is_dir():
            (group / "cpuset.cpus").write_text(f"{in_words(cpus or self._all())}\n")

    def _make_cpuset(self, group: Path) -> None:
        """Make a cpuset with all CPUs and memory nodes: an empty one takes no program."""
        group.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            (group / name).write_text((self._root / name).read_text())


def _running(units: Path) -> Iterator[tuple[str, Path]]:
    """The control groups of containers' units, by user."""
    before, after = container_unit("*").split("*")
    for group in units.glob(container_unit("*")):
        yield group.name.removeprefix(before).removesuffix(after), group


def _text(path: Path) -> str | None:
    """The content of a control group's file; None if the group is gone, or being removed."""
    try:
        return read_text(path)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise


def _programs(group: Path) -> frozenset[int]:
    """All programs in a control group, and in the groups below it, which the container made.

    Groups are opened one below the other by descriptors, as a path may be longer than allowed.
    LxcGpuError if there are more groups than any container needs.
    """
    found: set[int] = set()
    try:
        way = [os.open(group, _FOLDER)]
    except FileNotFoundError:
        return frozenset()
    try:
        names, seen = [_below(way[0])], 1
        found.update(_programs_in(way[0]))
        while way:
            if not names[-1]:
                names.pop()
                os.close(way.pop())
                continue
            seen += 1
            try:
                way.append(os.open(names[-1].pop(), _FOLDER, dir_fd=way[-1]))
            except FileNotFoundError:  # it has ended meanwhile
                continue
            names.append(_below(way[-1]))
            found.update(_programs_in(way[-1]))
            if seen + sum(map(len, names)) > MOST_GROUPS or len(way) > DEEPEST:
                raise _too_many_groups()
    finally:
        for descriptor in way:
            os.close(descriptor)
    return frozenset(found)


def _below(group: int) -> list[str]:
    """The groups directly in a group, at most as many as are looked through."""
    try:
        with os.scandir(group) as entries:
            folders = (entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
            return list(islice(folders, MOST_GROUPS + 1))
    except FileNotFoundError:
        return []


def _programs_in(group: int) -> list[int]:
    try:
        file = os.open("cgroup.procs", os.O_RDONLY | os.O_CLOEXEC, dir_fd=group)
        with os.fdopen(file) as stream:
            return [int(pid) for pid in stream.read().split()]
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):  # it has ended meanwhile
            return []
        raise


def _too_fast(user: str) -> LxcGpuError:
    return LxcGpuError(
        "cpus-busy",
        f"{user}'s container starts programs faster than they can be moved to its CPUs.",
        "Nothing needs doing: the next round tries again.",
    )


def _too_many_groups() -> LxcGpuError:
    return LxcGpuError(
        "cpus-busy",
        f"The container has more than {MOST_GROUPS} control groups, or nests them more than "
        f"{DEEPEST} deep: its programs are not kept to its CPUs.",
        "Its limit (`cpus`) holds all the same, and the next round tries again.",
    )
