"""The driver's device files, and which of them a container gets.

Nobody writes DeviceAllow= for them: a daemon-reload would take the GPUs from containers that run.
A container sees the files that are mounted into it, and can't make others (mknod(2) is forbidden
in a user namespace).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.nvidia.versions import DEV, PROC
from state import command
from state.errors import LxcGpuError
from state.files import read_text

DRM = Path("/sys/class/drm")
MODPROBE_LIMIT = 20.0
"""Seconds that nvidia-modprobe may take: it may have to load the module."""


@dataclass(frozen=True)
class Card:
    """One GPU, as the kernel knows it."""

    uuid: str
    minor: int
    """The number of its device file: /dev/nvidia0."""


def cards(proc: Path = PROC) -> tuple[Card, ...]:
    """All GPUs, in the order of their indices: that of their places on the bus."""
    folders = sorted((proc / "gpus").iterdir()) if (proc / "gpus").is_dir() else []
    found = (of_proc(read_text(folder / "information") or "") for folder in folders)
    return tuple(card for card in found if card)


def of_proc(text: str) -> Card | None:
    """The GPU in /proc/driver/nvidia/gpus/BUS/information; None if it says too little. Pure."""
    pairs = (line.partition(":") for line in text.splitlines())
    said = {name.strip(): value.strip() for name, _, value in pairs}
    minor = said.get("Device Minor", "")
    return Card(said.get("GPU UUID", ""), int(minor)) if minor.isdigit() else None


def choose(
    wanted: Sequence[str] | None, there: Sequence[Card]
) -> tuple[frozenset[int] | None, tuple[str, ...]]:
    """The minors of the wanted GPUs (None: of all), and who of them is unknown. Pure."""
    if wanted is None:
        return None, ()
    by_name = {card.uuid: card.minor for card in there}
    by_name |= {str(index): card.minor for index, card in enumerate(there)}
    known = frozenset(by_name[name] for name in wanted if name in by_name)
    return known, tuple(name for name in wanted if name not in by_name)


def make(there: Sequence[Card]) -> None:
    """Have the driver's own tool make device files that are missing, and load what is missing.

    LxcGpuError if it fails.
    """
    missing = [card.minor for card in there if not (DEV / f"nvidia{card.minor}").exists()]
    whole = all((DEV / name).exists() for name in ("nvidiactl", "nvidia-uvm"))
    if missing or not whole:
        program = shutil.which("nvidia-modprobe", path=command.SEARCH_PATH)
        minors = [f"-c={minor}" for minor in missing or [0]]
        if program and (PROC.is_dir() or _has_card()):
            command.run([program, "-u", *minors], timeout=MODPROBE_LIMIT)


def _has_card(bus: Path = Path("/sys/bus/pci/devices")) -> bool:
    """Whether there is a device of NVIDIA's, whatever drives it."""
    return any(read_text(vendor) == "0x10de\n" for vendor in bus.glob("*/vendor"))


def nodes(minors: frozenset[int] | None = None, dev: Path = DEV) -> tuple[Path, ...]:
    """The driver's device files that are there now; of the GPUs' own ones, those with `minors`."""
    files = [*sorted(dev.glob("nvidia*")), *sorted(dev.glob("nvidia-caps/*"))]
    return tuple(node for node in files if node.is_char_device() and passes(node, minors))


def is_drivers(device: Path) -> bool:
    """Whether a device file is the driver's, by its name. Pure."""
    return device.match("/dev/nvidia*") or device.match("/dev/nvidia-caps/*")


def minors_in(devices: Iterable[Path]) -> frozenset[int]:
    """Of which GPUs the own device files are among these. Pure."""
    return frozenset(int(own[1]) for own in map(_own, devices) if own)


def known_minors(wanted: Sequence[str] | None, proc: Path = PROC) -> frozenset[int] | None:
    """The minors of the GPUs that a container may have; None: of all.

    All, too, where one can't be told without asking the driver: no UUID is in /proc before use.
    """
    if wanted is None:
        return None
    minors, unknown = choose(wanted, cards(proc))
    return None if unknown else minors


def passes(device: Path, minors: frozenset[int] | None, drm: Path = DRM, proc: Path = PROC) -> bool:
    """Whether a device file, also one of drm's, leads to none of NVIDIA's GPUs but these."""
    if minors is None:
        return True
    if own := _own(device):
        return int(own[1]) in minors
    bus = drm / device.name / "device"
    if not device.match("/dev/dri/*") or (bus / "driver").resolve().name != "nvidia":
        return True
    card = of_proc(read_text(proc / "gpus" / bus.resolve().name / "information") or "")
    return card is not None and card.minor in minors


def _own(device: Path) -> re.Match[str] | None:
    return re.fullmatch(r"nvidia([0-9]+)", device.name, re.ASCII)


def for_container(wanted: Sequence[str] | None) -> tuple[tuple[Path, ...], tuple[LxcGpuError, ...]]:
    """The device files for a container with these GPUs, made if need be, and what went wrong."""
    wrong = list[LxcGpuError]()
    there = cards()
    try:
        make(there)
        there = there or cards()
    except LxcGpuError as error:
        message = f"NVIDIA's device files could not all be made: {error.message}"
        hint = "Sysadmin: `nvidia-modprobe -u -c=0`; `dmesg` may say more."
        wrong.append(LxcGpuError("gpu-nodes", message, hint, details=error.details))
    minors, unknown = choose(wanted, there)
    if unknown:
        minors, unknown = choose(wanted, _cards_by_nvml() or there)
    wrong += [
        LxcGpuError(
            "gpu-unknown",
            f"There is no GPU {name} in this server, though your registration names it.",
            "Your other GPUs are there. Sysadmin: `nvidia-smi -L` lists them; correct `gpus`.",
        )
        for name in unknown
    ]
    return nodes(minors), tuple(wrong)


def _cards_by_nvml() -> tuple[Card, ...]:
    """The UUIDs by NVML: a GPU that was never used may have no UUID in /proc yet."""
    from reconciler.nvidia import nvml

    try:
        return tuple(Card(gpu.uuid, gpu.minor) for gpu in nvml.read().gpus)
    except LxcGpuError:
        return ()
