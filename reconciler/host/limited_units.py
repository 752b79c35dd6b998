"""Changes the limits of units while they run (systemd.resource-control(5))."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from state import command

_LEFT_BEHIND = Path("/run/systemd/system.control")
"""Where `systemctl set-property --runtime` writes its drop-ins, which override those in /etc."""


def running(units: Collection[str]) -> frozenset[str]:
    """The units that have a control group: those that run, or are being started."""
    if not units:
        return frozenset()
    argv = ["systemctl", "show", "--property=Id,ActiveState", *sorted(units)]
    blocks = (set(block.split("\n")) for block in command.run(argv).stdout.strip().split("\n\n"))
    return frozenset(
        unit
        for block in blocks
        if not block & {"ActiveState=inactive", "ActiveState=failed"}
        for unit in units
        if f"Id={unit}" in block
    )


def limit(unit: str, settings: Sequence[str]) -> None:
    """Set limits of a running unit, e.g. `MemoryMax=8G`. Raises CommandError.

    A daemon-reload suffices in systemd 252. In 257 it reads drop-ins and reports them as in effect
    (`systemctl show`), but leaves the kernel's limits as they are. So call this before writing the
    drop-in; the daemon-reload afterwards makes systemd go by the drop-in alone.
    """
    command.run(["systemctl", "set-property", "--runtime", unit, *settings])
    folder = _LEFT_BEHIND / f"{unit}.d"
    for setting in settings:
        (folder / f"50-{setting.partition('=')[0]}.conf").unlink(missing_ok=True)
    with suppress(OSError):  # it isn't there, or holds something of the sysadmin's
        folder.rmdir()
