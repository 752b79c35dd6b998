"""Whether Docker, Podman, LXC and their like can work inside containers here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reconciler.container import modules
from reconciler.doctor.server import CheckedServer
from reconciler.host import kernel_settings
from state.wire.findings import Area, Finding

area = Area("engines")


def kernel_modules(server: CheckedServer) -> Iterator[Finding]:
    """Whether the kernel modules are loaded that engines in containers need and can't load."""
    if server.view is not None and not server.view.nesting:
        yield area.ok(
            "Docker and its like are switched off in containers (`nesting: false` in the "
            "server's file)"
        )
    elif kernel_settings.are_of_another_machine():
        yield area.ok(
            "this server is a container itself: the machine that it runs on loads the modules"
        )
    else:
        yield modules_of(modules.AT_BOOT.exists(), modules.absent())


def modules_of(named: bool, absent: Sequence[str]) -> Finding:
    """What missing modules mean for engines inside. Pure."""
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
