"""The CPUs of each running container that has a limit, which few others or none share.

Without them a container of 16 cpus would see all 128, and a program that starts a thread for each
would start 128: the quota (`limits`) would then stop them all, ten times a second.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from reconciler.cpus import control_groups, machine
from reconciler.cpus.control_groups import ControlGroups
from reconciler.cpus.machine import Cpus, named
from reconciler.cpus.sharing import shared_out
from reconciler.plan import Change, Lock, Observed, Tell
from state.errors import LxcGpuError, os_error
from state.view import View


class CpuSetKind:
    """CPUs of running containers. What is wanted depends on what is there, so `desired` reads the
    kernel: a container that starts gets the emptiest CPUs, the others keep theirs.
    """

    name = "cpu_set"
    lock = Lock.GLOBAL
    per_user = True

    def desired(self, view: View) -> Mapping[str, Cpus]:
        """The CPUs of each container that runs and may not use all of them."""
        groups = control_groups.mounted()
        if groups is None or not view.cpu_sets:
            return {}
        held = _read(groups)
        limits = {name: view.limits_of(name).cpus for name in held if name in view.residents}
        wanted = {name: count for name, count in limits.items() if count is not None}
        return shared_out(_machine(groups), wanted, held) if wanted else {}

    def observe(self, view: View, names: Collection[str]) -> Observed[Cpus]:
        """The CPUs that the kernel gives each container."""
        groups = control_groups.mounted()
        held = {} if groups is None else _read(groups)
        return Observed({name: cpus for name, cpus in held.items() if cpus})

    def apply(
        self, view: View, changes: Sequence[Change[Cpus]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Move containers to other CPUs while their programs go on."""
        groups = control_groups.mounted()
        failed: dict[str, LxcGpuError] = {}
        if groups is None:
            return failed
        for change in changes:
            try:
                groups.give(change.name, change.after or frozenset())
            except (LxcGpuError, OSError) as error:
                failed[change.name] = os_error(error) if isinstance(error, OSError) else error
        return failed

    def describe(self, change: Change[Cpus]) -> str:
        """E.g. `have lqchen's container run on CPUs 0-15`."""
        where = named(change.after) if change.after else "all CPUs"
        return f"have {change.name}'s container run on {where}"


def cpus_of(user: str) -> Cpus:
    """The CPUs of the user's container; empty if it doesn't run, sees all, or can't be read."""
    groups = control_groups.mounted()
    try:
        return frozenset() if groups is None else _read(groups).get(user, frozenset())
    except (LxcGpuError, OSError):  # `status` says everything else
        return frozenset()


def _read(groups: ControlGroups) -> Mapping[str, Cpus]:
    try:
        return groups.held()
    except ValueError as error:
        raise _unreadable(error) from error


def _machine(groups: ControlGroups) -> machine.Machine:
    try:
        return groups.usable(machine.read())
    except ValueError as error:
        raise _unreadable(error) from error


def _unreadable(error: ValueError) -> LxcGpuError:
    return LxcGpuError(
        "cpus-unreadable",
        f"The kernel says something about the CPUs that lxc-gpu doesn't understand: {error}",
        "Containers run, on the CPUs that they have. Please report it; until then, "
        "`cpu_sets: false` in the server's file leaves CPUs alone.",
    )
