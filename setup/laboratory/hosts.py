"""All machines of a lab, each of the kind that it was made as."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import dataclass, replace

from laboratory.layout import VIRTUAL, HostSpec, LabPaths, own_release
from laboratory.machines.host import RELEASE, Host
from laboratory.machines.lxc_host import LxcHost
from laboratory.machines.virtual_machine import DISK, VirtualMachine
from state.errors import LxcGpuError

__all__ = ["Host", "Lab"]


@dataclass(frozen=True)
class Lab:
    """A whole lab: `lab.host("gpu17").run(["id"])`."""

    place: LabPaths
    virtual: frozenset[str] = frozenset()
    """Hosts to be made as virtual machines, besides those that are some already."""
    release: str = ""
    """The release of hosts that are to be made; empty: this machine's. Existing hosts keep theirs.
    """

    def host(self, name: str) -> Host:
        """The host called `name`."""
        for spec in self.place.specs:
            if spec.name == name:
                return self._host(spec)
        raise LxcGpuError(
            "lab-host",
            f"The lab has no host {shlex.quote(name)}.",
            hint=f"It has {', '.join(spec.name for spec in self.place.specs)}.",
        )

    def _host(self, spec: HostSpec) -> Host:
        spec = replace(spec, release=self._release(spec.name))
        made_virtual = (self.place.hosts / spec.name / DISK).exists()
        if made_virtual or spec.name in self.virtual:
            return VirtualMachine(self.place, replace(spec, image=f"{spec.image}{VIRTUAL}"))
        return LxcHost(self.place, spec)

    def _release(self, name: str) -> str:
        with suppress(FileNotFoundError):
            return (self.place.hosts / name / RELEASE).read_text().strip()
        return self.release or own_release()

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All hosts that a lab may have."""
        return tuple(self._host(spec) for spec in self.place.specs)

    @property
    def made(self) -> tuple[Host, ...]:
        """The hosts that this lab has: all, unless `up --hosts` made only some."""
        return tuple(host for host in self.hosts if host.made)

    @property
    def controllers(self) -> tuple[Host, ...]:
        """The hosts that it has of its directory: slapd, or domain controllers."""
        return tuple(host for host in self.made if host.spec.directory)

    @property
    def gpu_servers(self) -> tuple[Host, ...]:
        """The GPU servers that it has."""
        return tuple(host for host in self.made if host.spec.template)

    @property
    def complete(self) -> bool:
        """Whether it has what lxc-gpu needs: all hosts but GPU servers, or some of those."""
        return bool(self.controllers) and {"iam", "laptop"} <= {host.name for host in self.made}

    @property
    def web_url(self) -> str:
        """Where this machine's browser finds iam's web page; empty before `up`."""
        with suppress(FileNotFoundError):
            return self.place.web_url.read_text().strip()
        return ""
