"""What a server shares out to its containers, as parts of the files: mounts, limits, snapshots."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from state.model.fields import AbsolutePath, Every, Model, Size

Access = Literal["own", "read-only", "shared", "home"]
"""`own`: SOURCE/USER, which only its user may read and write. `read-only`: the same for everybody.
`shared`: everybody may write; what one made, nobody else removes. `home`: the home below SOURCE
that its user has had on the server, by the account with their login; what is theirs there is
theirs inside."""
Gpu = Annotated[str, Field(pattern=r"^(GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9]{1,3})$")]
"""A GPU by its UUID as `nvidia-smi -L` prints it, or by its index (which may move)."""

DEVICES = (
    "/dev/infiniband/uverbs*",
    "/dev/infiniband/rdma_cm",
    "/dev/dri/renderD*",
    "/dev/kfd",
    "/dev/kvm",
    "/dev/video*",
)
"""Device files that containers may get; `*` is a number, or all numbers. A closed list: what isn't
here may hand out the server, its screens or its network."""
_NOT_THESE = {
    "/dev/dri/": "card* and controlD* are the server's screens: compute with /dev/dri/renderD*",
    "/dev/infiniband/": "umad* and issm* manage the whole network: RDMA needs uverbs* and rdma_cm",
    "/dev/nvidia": "containers get NVIDIA's automatically; `gpus` in a registration says which",
    "/dev/fuse": "every container has it",
    "/dev/net/tun": "every container has it",
}


def _device(text: str) -> str:
    forms = "|".join(re.escape(each).replace(r"\*", r"(\*|[0-9]{1,5})") for each in DEVICES)
    if re.fullmatch(forms, text, re.ASCII):
        return text
    why = next((why for begin, why in _NOT_THESE.items() if text.startswith(begin)), "")
    raise ValueError(
        f"{why or 'it may hand out the server'}. Containers may get {', '.join(DEVICES)}"
    )


DeviceName = Annotated[str, AfterValidator(_device)]
"""One of DEVICES, with a number or `*`."""


class MountInFile(Model):
    """A folder of the server that containers see."""

    source: AbsolutePath
    """The folder on the server."""
    target: AbsolutePath
    """Where containers see it."""
    access: Access = "own"
    mounted: bool = False
    """Whether `source` has to be a file system of its own: a NAS that is away is not replaced by
    an empty folder on the server's disk."""


class LimitsInFile(Model):
    """How much of a server one container may take; None: what the server gives by default."""

    memory: Size | None = None
    cpus: Annotated[int, Field(strict=True, ge=1, le=4096)] | None = None
    tasks: Annotated[int, Field(strict=True, ge=64, le=4_000_000)] | None = None
    """Processes and threads."""
    disk: Size | None = None
    """Of the container's file system, where it has project quotas."""


class Snapshots(Model):
    """Where users' snapshots go, and how many each may keep."""

    folder: AbsolutePath = "/var/lib/lxc-gpu/snapshots"
    """Each user has a folder of their own in it; a NAS serves all servers with the same ones."""
    keep: Annotated[int, Field(strict=True, ge=1, le=1000)] = 5
    """How many each user may keep; the oldest one without a name of its own makes room."""
    every: Every | None = None
    """How often the server takes one automatically, where containers are on btrfs; None: never."""


class Reservations(Model):
    """What people may reserve of a server's GPUs."""

    most_gpus: Annotated[int, Field(strict=True, ge=1, le=64)] | None = None
    """How many GPUs a person may have reserved at the same time; None: half of them."""
    longest: Every = 24
    """For how long at most, one reservation."""
    ahead: Every = 14 * 24
    """How far from now a reservation may begin."""
    most: Annotated[int, Field(strict=True, ge=0, le=100)] = 2
    """How many a person may have that aren't over; a weekly series is one. 0: nobody reserves."""


class Driver(Model):
    """How containers get the NVIDIA libraries that belong to the server's driver."""

    policy: Literal["mount", "install", "none"] = "mount"
    """`mount`: the server's own, read-only. `install`: NVIDIA's installer, run inside."""
    installers: AbsolutePath = "/var/lib/lxc-gpu/drivers"
    """Where `install` finds NVIDIA-Linux-x86_64-VERSION.run."""


class Reach(Model):
    """What containers may reach on their own server, besides the world."""

    containers: bool = False
    """Other people's containers, at every port. Mapped ports of the server work always."""
    server: tuple[Annotated[int, Field(strict=True, ge=1, le=65535)], ...] = (22,)
    """TCP ports of the server itself."""
