"""What this server has of the driver: the version that is loaded, and the one that is installed."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.nvidia.versions import DEV, PROC, installed, of_proc
from state.errors import LxcGpuError
from state.files import read_text


@dataclass(frozen=True)
class Driver:
    """What this server has of NVIDIA's driver."""

    loaded: str | None
    """The version of the kernel module; None: it isn't loaded."""
    installed: str | None
    """The version of the libraries; None: there are none."""

    @property
    def present(self) -> bool:
        """Whether there is anything of it."""
        return bool(self.loaded or self.installed)

    @property
    def version(self) -> str | None:
        """The version that containers need: the kernel's, as far as it says one."""
        return self.loaded or self.installed

    @property
    def upgraded(self) -> bool:
        """Whether the libraries are of another version than the module: a reboot is due."""
        return bool(self.loaded and self.installed and self.loaded != self.installed)


def driver() -> Driver:
    """What this server has. Takes well under a millisecond where there is nothing."""
    return Driver(loaded(), installed())


def loaded() -> str | None:
    """The version of the kernel module.

    By the kernel's own word, which costs nothing and can't hang. NVML says the same, but wakes
    every GPU up first: it is asked only where the module's files are hidden.
    """
    text = read_text(PROC / "version")
    if text is not None:
        return of_proc(text)
    if not (DEV / "nvidiactl").exists():
        return None
    from reconciler.nvidia import nvml

    try:
        return nvml.read().driver
    except LxcGpuError:
        return None
