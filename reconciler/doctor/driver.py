"""Checks of NVIDIA's driver: whether what containers get fits what is loaded."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.doctor.server import CheckedServer
from reconciler.nvidia import cdi, install, kept, nodes
from reconciler.nvidia.driver import Driver, driver
from state.errors import LxcGpuError
from state.wire.findings import Area, Finding

area = Area("driver")


def in_step(server: CheckedServer) -> Iterator[Finding]:
    """Whether module, libraries and the policy for containers fit each other."""
    there = driver()
    if there.loaded is None or server.view is None:
        return
    still_kept = any(kept.of_version(there.loaded))
    yield in_step_of(there, server.view.driver, still_kept)
    if server.view.driver == "install":
        name = install.NAME.format(there.loaded)
        try:
            with install.installer(server.view, there.loaded):
                yield area.ok(f"containers are brought in step by {name}")
        except LxcGpuError as error:
            missing = error.code == "installer-missing"
            yield area.wrong(f"{name} is missing." if missing else error.message, error.hint)
    elif server.view.driver == "mount" and (stale := cdi.stale(there.loaded)):
        yield area.note(
            f"{stale} names no library of {there.loaded}: containers get the libraries that "
            "lxc-gpu finds without it.",
            "Make it again: nvidia-ctk cdi generate",
        )


def in_step_of(there: Driver, policy: str, still_kept: bool) -> Finding:
    """What the two versions mean for containers. Pure."""
    if there.installed is None:
        return area.wrong(
            f"The module {there.loaded} is loaded, but there are no libraries for containers.",
            "Install the driver's libraries and tools of the same version.",
        )
    if not there.upgraded:
        return area.ok(f"module and libraries are both {there.loaded}; policy: {policy}")
    if policy == "mount" and still_kept:
        return area.wrong(
            f"The module is {there.loaded}, the libraries are {there.installed}: upgraded, not "
            "rebooted. Containers go on with the old libraries; the server's own tools don't work.",
            "Reboot when the GPUs are free: `ssh SERVER-manage gpus` shows who uses them.",
        )
    return area.wrong(
        f"The module is {there.loaded}, the libraries are {there.installed}: upgraded, not "
        "rebooted. What containers start now finds no GPU.",
        "Reboot.",
    )


def registered_gpus(server: CheckedServer) -> Iterator[Finding]:
    """Whether the GPUs that registrations name are there."""
    residents = server.view.residents if server.view else {}
    there = nodes.cards()
    for user, resident in residents.items():
        _, unknown = nodes.choose(resident.gpus, there)
        for name in unknown if there else ():
            yield area.wrong(
                f"The registration of {user} names the GPU {name}, which is not in this server.",
                "`nvidia-smi -L` lists them; correct `gpus` in registrations/.",
            )
