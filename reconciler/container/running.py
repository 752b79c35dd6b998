"""Which containers run: systemd's word, which no container has a say in."""

from __future__ import annotations

from state import command

UNIT, SERVICE = "lxc-gpu@", ".service"


def running_containers() -> frozenset[str]:
    """The users whose containers run. LxcGpuError if systemd doesn't answer."""
    argv = ["systemctl", "list-units", "--plain", "--no-legend", "--state=active", f"{UNIT}*"]
    units = (line.split()[0] for line in command.run(argv).stdout.splitlines() if line.strip())
    return frozenset(
        unit.removeprefix(UNIT).removesuffix(SERVICE) for unit in units if unit.endswith(SERVICE)
    )
