"""The device files that a container starts with, and what `status` says of them.

A device that the server lacks is left out with a note: a missing module must not stop anybody's
work.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reconciler.container import device_nodes
from reconciler.container.device_nodes import FOR_ALL
from reconciler.host.journal import event
from reconciler.mounts.bind import Bind
from reconciler.nvidia import nodes
from state.errors import LxcGpuError, os_error
from state.view import Resident, View


def binds(
    view: View, user: str, resident: Resident, drivers: Sequence[Path]
) -> tuple[list[Bind], list[str]]:
    """What to mount, including NVIDIA's device files (`drivers`), and notes on what is left out.

    The caller holds the user's lock.
    """
    wanted = view.devices_of(user)
    paths = [path for pattern in (*FOR_ALL, *wanted) for path in device_nodes.named(pattern)]
    paths = list(dict.fromkeys(paths))  # `video0` and `video*` may both be named
    minors = None if resident.gpus is None else nodes.minors_in(drivers)
    paths = [path for path in paths if nodes.passes(path, minors)]
    devices, wrong = device_nodes.looked_at(paths)
    strict, unfit = device_nodes.looked_at(drivers)
    wrong += unfit
    wrong += [device_nodes.missing(name) for name in wanted if not device_nodes.named(name)]
    given = list[Bind]()
    try:
        given = device_nodes.give(user, resident.subid, devices, strict)
    except LxcGpuError as error:
        wrong.append(error)
    except OSError as error:
        wrong.append(os_error(error))
    for each in wrong:
        event("device-left-out", user=user, code=each.code, why=each.message)
    return given, [f"A device is left out. {e.message} {e.hint}".rstrip() for e in wrong]


def seen(view: View, user: str) -> dict[str, str]:
    """What is wrong with each device that the state gives the container; empty if nothing."""
    try:
        given = [device.path for device in device_nodes.given(user)]
    except OSError as error:
        return dict.fromkeys(view.devices_of(user), os_error(error).message)
    gpus = view.residents[user].gpus
    minors = None if gpus is None else nodes.minors_in(given)
    return {name: _why_not(name, view, given, minors) for name in view.devices_of(user)}


def _why_not(name: str, view: View, given: Sequence[Path], minors: frozenset[int] | None) -> str:
    named = device_nodes.named(name)
    if not named:
        return device_nodes.missing(name).message
    there = [path for path in named if nodes.passes(path, minors)]
    if not there:
        return "It leads to GPUs that aren't among yours."
    fit, wrong = device_nodes.looked_at(there)
    if all(device.path in given for device in fit):
        return " ".join(error.message for error in wrong)
    return f"It came after your container's start: `ssh {view.server}-manage restart`."
