"""The running containers and their MACs, by systemd and root's files, which no container can
change."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from reconciler.container.lxc_config import mac_in
from reconciler.host import places
from reconciler.host.monitors import children, monitors
from reconciler.network.filters import mac_of
from state import command, files
from state.view import View

UNIT, SERVICE = "lxc-gpu@", ".service"


def running_containers() -> frozenset[str]:
    """The users whose containers run. LxcGpuError if systemd doesn't answer."""
    argv = ["systemctl", "list-units", "--plain", "--no-legend", "--state=active", f"{UNIT}*"]
    units = (line.split()[0] for line in command.run(argv).stdout.splitlines() if line.strip())
    return frozenset(
        unit.removeprefix(UNIT).removesuffix(SERVICE) for unit in units if unit.endswith(SERVICE)
    )


def inits(users: Collection[str]) -> Mapping[str, int]:
    """The inits' process ids, as the server sees them, of those containers that run."""
    found = {user: children(monitor) for user, monitor in monitors(users).items()}
    return {user: int(pids[0]) for user, pids in found.items() if pids}


def started_with(view: View) -> Mapping[str, tuple[str]]:
    """The MACs of residents' running containers that differ from what a start would give."""
    configured = {name: _configured(name) for name in view.residents}
    others = {
        name: (mac,)
        for name, mac in configured.items()
        if mac is not None and mac != mac_of(view.residents[name].address)
    }
    running = running_containers() if others else ()
    return {name: mac for name, mac in others.items() if name in running}


def _configured(user: str) -> str | None:
    return mac_in(files.read_text(places.container_config(user)) or "")
