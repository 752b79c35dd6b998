"""The device files that containers may no longer have.

Device files are made at a start; a running container gets no new ones. A device that the state no
longer gives, or whose number now means another device, is taken from running containers as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from pathlib import Path

from reconciler.container import device_nodes
from reconciler.nvidia import nodes
from reconciler.plan import Change, Lock, Observed, Tell
from state.errors import LxcGpuError, os_error
from state.view import View

Nodes = tuple[Path, ...]
"""The device files that a container has and may not have."""


def _may_have(view: View, user: str) -> Callable[[Path], bool]:
    """Which device files the user's container may have."""
    resident = view.residents.get(user)
    if resident is None:
        return lambda _: False
    names = (*device_nodes.FOR_ALL, *view.devices_of(user))
    minors = nodes.known_minors(resident.gpus)
    return lambda device: (
        (device_nodes.is_named(device, names) or nodes.is_drivers(device))
        and nodes.passes(device, minors)
    )


class DeviceKind:
    """Device files that containers have and may not have: none are wanted."""

    name = "device"
    lock = Lock.USER
    per_user = True

    def desired(self, view: View) -> Mapping[str, Nodes]:
        """None for each resident; nobody else has a file system of them."""
        return dict.fromkeys(view.residents, ())

    def observe(self, view: View, names: Collection[str]) -> Observed[Nodes]:
        """Files that the state doesn't give, or of another device; all of former residents'."""
        found: dict[str, Nodes] = dict.fromkeys(view.residents, ())
        unreadable: dict[str, LxcGpuError] = {}
        still_is = cache(device_nodes.still_is)  # people have the same ones
        for user in device_nodes.users():
            try:
                given = device_nodes.given(user)
            except OSError as error:
                unreadable[user] = os_error(error)
                continue
            may = _may_have(view, user)
            found[user] = tuple(n.path for n in given if not may(n.path) or not still_is(n))
        return Observed(found, unreadable)

    def apply(
        self, view: View, changes: Sequence[Change[Nodes]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Close and remove them; of former residents the file system as well."""
        failed: dict[str, LxcGpuError] = {}
        for change in changes:
            try:
                if change.after is None:
                    device_nodes.remove(change.name)
                else:
                    device_nodes.take_away(change.name, change.before or ())
            except OSError as error:
                failed[change.name] = os_error(error)
        return failed

    def describe(self, change: Change[Nodes]) -> str:
        """E.g. `take /dev/kvm from lqchen's container`."""
        if change.after is None:
            return f"take all device files from {change.name}'s container"
        devices = ", ".join(map(str, change.before or ()))
        return f"take {devices} from {change.name}'s container"
