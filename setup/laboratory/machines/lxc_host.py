"""A machine of the lab that is an LXC container, and shares this machine's kernel."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from laboratory.layout import DISKS
from laboratory.machines import cgroups
from laboratory.machines.host import Host
from laboratory.machines.lxc_config import lxc_config
from laboratory.network import inside
from state.command import Finished, run

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


@dataclass(frozen=True)
class LxcHost(Host):
    """A host that is a container."""

    @property
    def running(self) -> bool:
        """Whether it runs, perhaps still booting."""
        return self.place.namespace_file.exists() and self._lxc("info", "-s", "-H").ok

    def lay_out(self, new: Path, image: Path) -> None:
        """Make the folders of the overlay, and those that are plain folders."""
        for name in ("work", "rootfs"):
            (new / name).mkdir()
        for disk in DISKS:
            _copy_disk(image / disk, new / "disks" / disk)

    def own_files(self, links: Mapping[str, Path]) -> Mapping[str, str]:
        """Write nothing: LXC gives it its address, and what it sees of this machine."""
        return {}

    def start(self) -> None:
        """Start it, after removing what a crashed run left."""
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

    def _entering(
        self, words: Sequence[str], variables: Mapping[str, str], *, terminal: bool
    ) -> list[str]:
        settings = [f"--set-var={name}={value}" for name, value in variables.items()]
        return [
            *inside(self.place),
            *("lxc-attach", "-P", str(self.place.hosts), "-n", self.name),
            *("--clear-env", *settings, "--", *words),
        ]

    def _run(self, entering: Sequence[str], stdin: str | bytes | None, timeout: float) -> Finished:
        done = super()._run(entering, stdin, timeout)
        if done.status == -signal.SIGABRT:
            # lxc-attach itself, once in thousands of times: "free(): invalid pointer". What the
            # command does ends in a status of its own, never in this one.
            done = super()._run(entering, stdin, timeout)
        return done

    def _lxc(self, verb: str, *options: str) -> Finished:
        command = [f"lxc-{verb}", "-P", str(self.place.hosts), "-n", self.name, *options]
        done = run([*inside(self.place), *command], check=False)
        if verb == "info" and done.ok and "RUNNING" not in done.stdout:
            return Finished(done.argv, 1, done.stdout, done.stderr)
        return done


def _copy_disk(source: Path, disk: Path) -> None:
    disk.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        run(["cp", "-a", "--reflink=auto", source, disk], timeout=600)
    else:
        disk.mkdir()
