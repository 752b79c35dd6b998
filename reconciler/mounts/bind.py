"""Describes a bind mount for a container, as LXC's configuration has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Bind:
    """A file or folder of the server that the container sees (mount(8), bind mounts)."""

    source: Path
    target: str
    """The absolute path inside; it is made if it isn't there."""
    flags: tuple[str, ...] = ()
    """Further mount flags, e.g. `ro`, `nosuid`; `optional`: no error if `source` is gone."""

    def entry(self) -> str:
        """A line as in fstab(5), with the target without its first slash."""
        kind = "dir" if self.source.is_dir() else "file"
        options = ",".join(["bind", *self.flags, f"create={kind}"])
        return f"{self.source} {self.target.lstrip('/')} none {options} 0 0"
