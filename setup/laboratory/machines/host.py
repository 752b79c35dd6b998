"""A machine of a lab, controlled from outside in the same way whatever kind of machine it is."""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from laboratory.layout import HostSpec, LabPaths
from state.command import SEARCH_PATH, Finished, failure, pasteable, run
from state.errors import LxcGpuError

RELEASE = "release"
"""The file in a host's folder that says which release it was made of."""
SETTLED = ("running", "degraded")
"""What systemd calls itself after booting: all well, or with failed units."""


def require_root() -> None:
    """LxcGpuError, with what to do, unless this is root."""
    if os.geteuid() != 0:
        raise LxcGpuError(
            "lab-root", "The lab needs root: it makes networks and machines.", "Try with sudo."
        )


class BootError(LxcGpuError):
    """A host did not boot in time."""


@dataclass(frozen=True)
class Host(ABC):
    """One machine of a lab."""

    place: LabPaths
    spec: HostSpec

    boot_time: ClassVar[float] = 240
    """Seconds that it may take to boot."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.spec.name

    @property
    def address(self) -> str:
        """Its address in the lab's network."""
        return self.spec.address

    @property
    def folder(self) -> Path:
        """Its folder on this machine."""
        return self.place.hosts / self.name

    @property
    def image(self) -> Path:
        """The image that it stands on."""
        return (self.folder / "image").readlink()

    @property
    def made(self) -> bool:
        """Whether it exists, running or not."""
        return (self.folder / "image").is_symlink() and self.image.is_dir()

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether it runs, perhaps still booting."""

    @abstractmethod
    def lay_out(self, new: Path, image: Path) -> None:
        """Make what a host of this kind needs in its folder `new`, to stand on `image`."""

    @abstractmethod
    def own_files(self, links: Mapping[str, Path]) -> Mapping[str, str]:
        """Write the files that only this kind of host needs."""

    @abstractmethod
    def start(self) -> None:
        """Start it, after removing what a crashed run left."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it at once."""

    @abstractmethod
    def _entering(
        self, words: Sequence[str], variables: Mapping[str, str], *, terminal: bool
    ) -> list[str]:
        """The command that runs `words` in this host as root, with no other environment."""

    def entering(
        self,
        words: Sequence[str],
        *,
        user: str = "",
        env: Mapping[str, str] | None = None,
        terminal: bool = False,
    ) -> list[str]:
        """The command, for this machine, that runs `words` in this host."""
        variables = {"PATH": SEARCH_PATH, "HOME": "/root", "LANG": "C.UTF-8", **(env or {})}
        if user:
            # a login session, whatever the user's login shell is
            login = 'exec "$0" "$@"'
            session = ["runuser", "-s", "/bin/bash", "-l", user, f"--session-command={login}"]
            words = [*session, "--", *words]
        return self._entering(words, variables, terminal=terminal)

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        stdin: str | bytes | None = None,
        user: str = "",
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
        check: bool = True,
    ) -> Finished:
        """Run `argv` in this host, as root or as `user` with that user's login environment.

        As `state.command.run`: with `check`, any status but 0 is an error.
        """
        words = [str(word) for word in argv]
        done = self._run(self.entering(words, user=user, env=env), stdin, timeout)
        finished = Finished(tuple(words), done.status, done.stdout, done.stderr)
        if check and not finished.ok:
            error = failure(finished)
            error.message = f"On {self.name}, {error.message}"
            paste = ["setup/lab", "exec", *(["-u", user] if user else []), self.name, *words]
            error.details = f"{pasteable(paste)}\n{finished.stdout}{finished.stderr}".strip()
            raise error
        return finished

    def _run(self, entering: Sequence[str], stdin: str | bytes | None, timeout: float) -> Finished:
        return run(entering, stdin=stdin, timeout=timeout, check=False)

    def sh(
        self,
        script: str,
        *,
        user: str = "",
        stdin: str | bytes | None = None,
        timeout: float = 60,
        check: bool = True,
    ) -> Finished:
        """Run a shell script in this host; it stops at the first command that fails."""
        return self.run(
            ["bash", "-euc", script], user=user, stdin=stdin, timeout=timeout, check=check
        )

    def write(
        self, path: str | Path, content: str | bytes, mode: int = 0o644, owner: str = "root:root"
    ) -> None:
        """Write a file in this host, completely or not at all. Missing folders are made."""
        script = (
            'umask 077; mkdir -p -m 755 "$(dirname "$1")"; cat >"$1.new"; '
            'chown "$3" "$1.new"; chmod "$2" "$1.new"; mv -T "$1.new" "$1"'
        )
        self.run(["sh", "-euc", script, "sh", path, f"{mode:o}", owner], stdin=content)

    def read(self, path: str | Path) -> str:
        """The text of a file in this host."""
        return self.run(["cat", path]).stdout

    def push(
        self, local: Path, path: str | Path, mode: int | None = None, owner: str = "root:root"
    ) -> None:
        """Copy a file of this machine into the host, with its mode unless another is given."""
        kept = local.stat().st_mode & 0o777 if mode is None else mode
        self.write(path, local.read_bytes(), kept, owner)

    def exec(self, words: Sequence[str], *, user: str = "") -> None:
        """Become a command in this host, with this program's terminal. Never returns."""
        require_root()
        if not self.running:
            raise LxcGpuError(
                "lab-stopped", f"{self.name} is not running.", hint="Start it: setup/lab up"
            )
        env = {name: os.environ[name] for name in ("TERM", "NO_COLOR") if name in os.environ}
        terminal = sys.stdin.isatty() and sys.stdout.isatty()
        argv = self.entering(words, user=user, env=env, terminal=terminal)
        sys.stdout.flush()
        os.execvp(argv[0], argv)  # noqa: S606 # an argument list, no shell

    def boot_state(self) -> str:
        """What systemd says about this host: running, degraded, starting, ..."""
        done = self.run(["systemctl", "is-system-running"], check=False)
        return done.stdout.strip() or "booting"

    def wait_until_booted(self) -> str:
        """Wait until it has booted; returns `running`, or `degraded` if units failed."""
        deadline = time.monotonic() + self.boot_time
        while (state := self.boot_state()) not in SETTLED:
            if time.monotonic() > deadline:
                jobs = self.run(["systemctl", "list-jobs", "--no-pager"], check=False).stdout
                raise BootError(
                    "lab-boot",
                    f"{self.name} did not boot within {self.boot_time:g} s: it is {state}.",
                    hint=f"Look with: setup/lab exec {self.name} systemctl list-jobs",
                    details=jobs,
                )
            time.sleep(0.05)
        return state

    def failed_units(self) -> tuple[str, ...]:
        """The units that failed."""
        listing = ["systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager"]
        lines = self.run(listing, check=False).stdout.splitlines()
        return tuple(line.split()[0] for line in lines if line.strip())
