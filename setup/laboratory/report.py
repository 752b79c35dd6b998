"""Shows the lab's status: as a table for people, as JSON for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from laboratory import network
from laboratory.hosts import Lab
from laboratory.machines.host import Host
from laboratory.machines.virtual_machine import VirtualMachine


@dataclass(frozen=True)
class HostStatus:
    """The status of one host: a line of the table."""

    name: str
    address: str
    state: str
    """absent, stopped, or what its systemd says: running, degraded, starting, ..."""
    failed: tuple[str, ...]
    """Units that failed."""
    kind: str
    """container, or virtual machine."""
    release: str
    """The name of its release of Debian; empty if it is absent."""


@dataclass(frozen=True)
class LabStatus:
    """The status of a lab."""

    folder: str
    namespace: str
    web_url: str
    """Empty when nothing forwards to the web page."""
    hosts: tuple[HostStatus, ...]

    @property
    def running(self) -> bool:
        """Whether the lab has hosts and all of them run."""
        made = [host for host in self.hosts if host.state != "absent"]
        return bool(made) and all(host.state in ("running", "degraded") for host in made)


def observe(lab: Lab) -> LabStatus:
    """Read the status of all hosts."""
    return LabStatus(
        folder=str(lab.place.folder),
        namespace=lab.place.namespace,
        web_url=lab.web_url if network.forwarder_runs(lab.place) else "",
        hosts=tuple(_observe(host) for host in lab.hosts),
    )


def _observe(host: Host) -> HostStatus:
    failed: tuple[str, ...] = ()
    if not host.made:
        state = "absent"
    elif not host.running:
        state = "stopped"
    else:
        state = host.boot_state()
        failed = host.failed_units() if state == "degraded" else ()
    kind = "virtual machine" if isinstance(host, VirtualMachine) else "container"
    release = host.spec.release if host.made else ""
    return HostStatus(host.name, host.address, state, failed, kind, release)


def as_json(status: LabStatus) -> str:
    """The status as JSON."""
    return json.dumps({**asdict(status), "running": status.running}, indent=2)


def show(status: LabStatus) -> None:
    """Print the status as a table."""
    from rich.console import Console  # imported here, so that only this command waits for it
    from rich.table import Table

    colours = {"running": "green", "degraded": "yellow", "stopped": "red", "absent": "dim"}
    table = Table("host", "address", "kind", "release", "state")
    for host in status.hosts:
        failed = f" ({', '.join(host.failed)})" if host.failed else ""
        colour = colours.get(host.state, "yellow")
        state = f"[{colour}]{host.state}[/]{failed}"
        table.add_row(host.name, host.address, host.kind, host.release, state)
    console = Console()
    console.print(table)
    console.print(f"web page: {status.web_url or 'not reachable: the lab is not up'}")
