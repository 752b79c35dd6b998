"""Whether Docker, Podman, LXC and their like can work inside containers here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reconciler.container import modules
from reconciler.doctor.server import CheckedServer
from reconciler.host import kernel_settings
from state.wire.findings import Area, Finding

area = Area("engines")


def kernel_modules(server: CheckedServer) -> Iterator[Finding]:
    """What they need of the kernel, which no container can load itself."""
    if server.view is not None and not server.view.nesting:
        yield area.ok("they don't work inside containers: this server's file says so")
    elif kernel_settings.are_of_another_machine():
        yield area.ok("modules are the business of the machine below, which this container is on")
    else:
        yield modules_of(modules.AT_BOOT.exists(), modules.absent())


def modules_of(named: bool, absent: Sequence[str]) -> Finding:
    """What the modules mean for engines inside. Pure."""
    if not named:
        return area.note(
            f"Nothing loads the kernel's modules for Docker and its like: {modules.AT_BOOT} is "
            "missing.",
            "Run `setup/gpu-server` again.",
        )
    if absent:
        return area.note(
            f"Modules that Docker and its like need inside aren't loaded: {', '.join(absent)}.",
            f"modprobe --all {' '.join(absent)}; after an upgrade of the kernel: reboot.",
        )
    return area.ok("the kernel's modules for Docker and its like are loaded")
