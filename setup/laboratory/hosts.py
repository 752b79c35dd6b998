"""The lab's machines: made from images, started, stopped, and worked on from outside."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from laboratory import cgroups
from laboratory.layout import HOSTS, HostSpec, Places
from laboratory.lxc_config import lxc_config
from laboratory.network import inside
from state.command import SEARCH_PATH, Finished, failure, pasteable, run
from state.errors import LxcGpuError

BOOT_TIME = 60
"""Seconds that a host may take to boot."""
SETTLED = ("running", "degraded")
"""What systemd calls itself after booting: all well, or with failed units."""

# The hosts need a sysfs that belongs to the lab's network, with this machine's cgroups in it, and
# the host its root. All is arranged in a mount namespace of its own, which goes with the host.
START = """
stash=$1 image=$2 folder=$3
shift 3
mount --rbind /sys/fs/cgroup "$stash"
mount -t sysfs sysfs /sys
mount --rbind "$stash" /sys/fs/cgroup
cd "$folder"
mount -t overlay -o "redirect_dir=on,lowerdir=$image,upperdir=upper,workdir=work" lab rootfs
exec "$@"
"""


def require_root() -> None:
    """Refuse early, with a word about what to do."""
    if os.geteuid() != 0:
        raise LxcGpuError(
            "lab-root", "The lab needs root: it makes networks and machines.", "Try with sudo."
        )


@dataclass(frozen=True)
class Host:
    """One machine of a lab."""

    place: Places
    spec: HostSpec

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
    def running(self) -> bool:
        """Whether it is started (and perhaps still booting)."""
        return self.place.namespace_file.exists() and self._lxc("info", "-s", "-H").ok

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
        entering = self.entering(words, user=user, env=env)
        done = run(entering, stdin=stdin, timeout=timeout, check=False)
        if done.status == -signal.SIGABRT:
            # lxc-attach itself, once in thousands of times: "free(): invalid pointer". What the
            # command does ends in a status of its own, never in this one.
            done = run(entering, stdin=stdin, timeout=timeout, check=False)
        finished = Finished(tuple(words), done.status, done.stdout, done.stderr)
        if check and not finished.ok:
            error = failure(finished)
            error.message = f"On {self.name}, {error.message}"
            paste = ["setup/lab", "exec", *(["-u", user] if user else []), self.name, *words]
            error.details = f"{pasteable(paste)}\n{finished.stdout}{finished.stderr}".strip()
            raise error
        return finished

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
        """Write a file in this host, whole or not at all; missing folders are made."""
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
        """Copy a file of this machine into the host; its mode goes with it unless given."""
        kept = local.stat().st_mode & 0o777 if mode is None else mode
        self.write(path, local.read_bytes(), kept, owner)

    def entering(
        self,
        words: Sequence[str],
        *,
        user: str = "",
        env: Mapping[str, str] | None = None,
    ) -> list[str]:
        """The command, for this machine, that runs `words` in this host."""
        variables = {"PATH": SEARCH_PATH, "HOME": "/root", "LANG": "C.UTF-8", **(env or {})}
        if user:
            # A login session, whatever the user's login shell is made for.
            login = 'exec "$0" "$@"'
            session = ["runuser", "-s", "/bin/bash", "-l", user, f"--session-command={login}"]
            words = [*session, "--", *words]
        settings = [f"--set-var={name}={value}" for name, value in variables.items()]
        return [
            *inside(self.place),
            *("lxc-attach", "-P", str(self.place.hosts), "-n", self.name),
            *("--clear-env", *settings, "--", *words),
        ]

    def exec(self, words: Sequence[str], *, user: str = "") -> None:
        """Become a command in this host, with this program's terminal. Never returns."""
        require_root()
        if not self.running:
            raise LxcGpuError(
                "lab-stopped", f"{self.name} is not running.", hint="Start it: setup/lab up"
            )
        env = {name: os.environ[name] for name in ("TERM", "NO_COLOR") if name in os.environ}
        argv = self.entering(words, user=user, env=env)
        sys.stdout.flush()
        os.execvp(argv[0], argv)  # noqa: S606 # an argument list, no shell

    def start(self) -> None:
        """Start it; what a crashed run left of it is cleared away first."""
        cgroups.end_all(f"{self.place.cgroup}/{self.name}")
        stash = self.place.runtime / "cgroup"
        stash.mkdir(parents=True, exist_ok=True)
        (self.folder / "config").write_text(lxc_config(self.place, self.spec))
        run(
            [
                *("nsenter", f"--net={self.place.namespace_file}", "--"),
                *("unshare", "--mount", "--propagation", "private", "--"),
                *("sh", "-euc", START, "sh", stash, self.image, self.folder),
                *("lxc-start", "-P", self.place.hosts, "-n", self.name, "-d"),
            ]
        )

    def stop(self) -> None:
        """Stop it at once."""
        if self.place.namespace_file.exists():
            self._lxc("stop", "-k")
        cgroups.end_all(f"{self.place.cgroup}/{self.name}")

    def boot_state(self) -> str:
        """What systemd says about this host: running, degraded, starting, ..."""
        done = self.run(["systemctl", "is-system-running"], check=False)
        return done.stdout.strip() or "booting"

    def wait_until_booted(self) -> str:
        """Wait until it has booted; returns `running`, or `degraded` if units failed."""
        deadline = time.monotonic() + BOOT_TIME
        while (state := self.boot_state()) not in SETTLED:
            if time.monotonic() > deadline:
                jobs = self.run(["systemctl", "list-jobs", "--no-pager"], check=False).stdout
                raise LxcGpuError(
                    "lab-boot",
                    f"{self.name} did not boot within {BOOT_TIME} s: it is {state}.",
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

    def _lxc(self, verb: str, *options: str) -> Finished:
        command = [f"lxc-{verb}", "-P", str(self.place.hosts), "-n", self.name, *options]
        done = run([*inside(self.place), *command], check=False)
        if verb == "info" and done.ok and "RUNNING" not in done.stdout:
            return Finished(done.argv, 1, done.stdout, done.stderr)
        return done


@dataclass(frozen=True)
class Lab:
    """A whole lab: `lab.host("gpu17").run(["id"])`."""

    place: Places

    def host(self, name: str) -> Host:
        """The host called `name`."""
        for spec in HOSTS:
            if spec.name == name:
                return Host(self.place, spec)
        raise LxcGpuError(
            "lab-host",
            f"The lab has no host {shlex.quote(name)}.",
            hint=f"It has {', '.join(spec.name for spec in HOSTS)}.",
        )

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All hosts that a lab may have."""
        return tuple(Host(self.place, spec) for spec in HOSTS)

    @property
    def made(self) -> tuple[Host, ...]:
        """The hosts that this lab has: all, unless `up --hosts` made only some."""
        return tuple(host for host in self.hosts if host.made)

    @property
    def complete(self) -> bool:
        """Whether no host is missing."""
        return self.made == self.hosts

    @property
    def web_url(self) -> str:
        """Where this machine's browser finds iam's web page; empty before `up`."""
        with suppress(FileNotFoundError):
            return self.place.web_url.read_text().strip()
        return ""
