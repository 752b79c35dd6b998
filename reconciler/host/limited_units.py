"""What a unit may take, changed while it runs (systemd.resource-control(5))."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from state import command

_LEFT_BEHIND = Path("/run/systemd/system.control")
"""Where `systemctl set-property --runtime` writes its drop-ins, which go before those in /etc."""


def running(units: Collection[str]) -> frozenset[str]:
    """Which of the units have a control group: those that are started, or being so."""
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
    """Have a unit that runs take no more than these, e.g. `MemoryMax=8G`.

    daemon-reload did so in systemd 252; in 257 it reads drop-ins, says that they are in effect
    (`systemctl show`), and leaves the kernel's limits as they are. So this comes before the
    drop-in is written, and the daemon-reload after it has systemd go by the drop-in alone. Raises
    CommandError.
    """
    command.run(["systemctl", "set-property", "--runtime", unit, *settings])
    folder = _LEFT_BEHIND / f"{unit}.d"
    for setting in settings:
        (folder / f"50-{setting.partition('=')[0]}.conf").unlink(missing_ok=True)
    with suppress(OSError):  # it isn't there, or has something else of the sysadmin's
        folder.rmdir()
