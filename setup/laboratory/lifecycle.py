"""Brings a lab up or down from any state, also from that of a killed run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

from laboratory import network
from laboratory.hosts import Lab
from laboratory.images import package_lists
from laboratory.images.cache import Images
from laboratory.layout import CACHE, LabPaths
from laboratory.locks import locked
from laboratory.machines import cgroups, making, virtual_machine
from laboratory.machines.host import BootError, Host, require_root
from laboratory.progress import ProgressLines
from laboratory.wiring import wire
from state.command import run
from state.errors import LxcGpuError

PROGRAMS = ("lxc-start", "debootstrap", "ip", "nsenter", "unshare", "socat", "zstd", "openssl")
WORKERS = 32


def check_machine(programs: Sequence[str] = PROGRAMS) -> None:
    """LxcGpuError, with what to do, if the lab can't work on this machine."""
    require_root()
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise LxcGpuError(
            "lab-programs",
            f"These programs are missing: {', '.join(missing)}.",
            hint="Run setup/prerequisites first.",
        )


def up(
    lab: Lab,
    names: Sequence[str],
    progress: ProgressLines,
    *,
    bare: bool = False,
    directory: str = "",
) -> None:
    """Make and start the hosts called `names` (all, when empty), and the ways to them.

    A new lab has this kind of `directory`; empty: the usual one. Unless `bare`, or the directory,
    iam or the laptop is missing, lxc-gpu is set up on them.
    """
    check_machine((*PROGRAMS, *virtual_machine.PROGRAMS) if lab.virtual else PROGRAMS)
    _check_made(lab)
    place = lab.place
    with _alone(place, progress), ThreadPoolExecutor(WORKERS) as pool:
        _clear_leftovers(place)
        _choose_directory(lab, directory or place.directory)
        hosts = tuple(lab.host(name) for name in names) or lab.made or lab.hosts
        CACHE.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not all(host.made for host in hosts):
            package_lists.fetch(progress)
        images = Images(progress, pool)
        for host in hosts:
            if not host.made:
                images.start(host.spec)
        making.prepare_lab(place)
        if network.create(place):
            progress.say(f"- network {place.namespace}")
        network.write_connect(place)
        _each(pool, hosts, lambda host: _make(host, images, progress))
        place.known_hosts.write_text(making.known_hosts(lab.made))
        place.entrance_hosts.write_text(making.entrance_hosts(lab.made))
        _each(pool, hosts, lambda host: _bring_up(host, images, progress))
        network.write_ssh_config(place)
        if lab.host("iam") in hosts:
            network.start_forwarder(place)
        if lab.complete and not bare:
            wire(lab, progress)


def down(lab: Lab, progress: ProgressLines) -> None:
    """Stop and remove everything but the cached images. It is no error if there is nothing."""
    check_machine()
    place = lab.place
    with _alone(place, progress), ThreadPoolExecutor(WORKERS) as pool:
        network.stop_forwarder(place)
        with progress.step("stop the hosts"):
            _each(pool, lab.made, lambda host: host.stop())
            cgroups.end_all(place.cgroup)
        network.remove(place)
        if place.folder.exists():
            with progress.step(f"remove {place.folder.name}"):
                # Renamed first: a new lab needn't wait, and a killed removal leaves no half lab.
                place.folder.rename(_gone(place, os.getpid()))
                _clear_leftovers(place)
        _clear_leftovers(place)


def _choose_directory(lab: Lab, wanted: str) -> None:
    """Have the lab remember which kind of directory it is made with."""
    place = lab.place
    if wanted != place.directory and lab.made:
        raise LxcGpuError(
            "lab-directory",
            f"This lab exists already, and its directory is of the kind {place.directory}.",
            hint="Remove the lab first: setup/lab down",
        )
    place.folder.mkdir(parents=True, exist_ok=True)
    place.directory_file.write_text(f"{wanted}\n")


def _check_made(lab: Lab) -> None:
    """LxcGpuError if the hosts that exist already don't fit what is asked for."""
    for host in lab.made:
        if lab.release not in ("", host.spec.release):
            raise LxcGpuError(
                "lab-release",
                f"{host.name} exists already, with Debian's release {host.spec.release}.",
                hint="Remove the lab first: setup/lab down",
            )
    for name in lab.virtual:
        host = lab.host(name)
        if not host.spec.template:
            raise LxcGpuError(
                "lab-virtual", f"{name} is not a GPU server: only those can be virtual machines."
            )
        if host.made and not host.image.name.startswith(host.spec.image):
            raise LxcGpuError(
                "lab-virtual",
                f"{name} exists already, and is not a virtual machine.",
                hint="Remove the lab first: setup/lab down",
            )


def _make(host: Host, images: Images, progress: ProgressLines) -> None:
    if not host.made:
        making.make(host, images, progress)


def _bring_up(host: Host, images: Images, progress: ProgressLines) -> None:
    if host.running:
        progress.say(f"- {host.name} is running{_outdated(host, images)}")
        return
    with progress.step(f"boot {host.name}") as step:
        state = _booted(host, progress)
        step.note = _outdated(host, images).strip(" ,")
    if state == "degraded":
        failed = ", ".join(host.failed_units())
        progress.say(f"! {host.name} has failed units: {failed}")


def _booted(host: Host, progress: ProgressLines) -> str:
    """Start a host and wait for it, twice if need be: an emulated one may hang forever."""
    host.start()
    try:
        return host.wait_until_booted()
    except BootError as error:
        progress.say(f"! {error.message} It is started once more.")
        host.stop()
        host.start()
        return host.wait_until_booted()


def _outdated(host: Host, images: Images) -> str:
    """A remark about a host whose image would be made differently today."""
    if host.image != images.current(host.spec):
        return ", of an older image: down and up make it anew"
    return ""


def _each(pool: ThreadPoolExecutor, hosts: Sequence[Host], act: Callable[[Host], None]) -> None:
    """Act on all hosts at once. An error is raised only after all have been tried."""
    jobs = [pool.submit(act, host) for host in hosts]
    errors = [error for job in jobs if (error := job.exception()) is not None]
    if errors:
        raise errors[0]


def _alone(place: LabPaths, progress: ProgressLines) -> AbstractContextManager[None]:
    """Let only one run at a time work on a lab."""
    waiting = f"wait for another run on {place.folder.name}"
    return locked(place.runtime / "lock", lambda: progress.step(waiting))


def _gone(place: LabPaths, number: int) -> Path:
    return place.folder.with_name(f"{place.folder.name}.gone-{number}")


def _clear_leftovers(place: LabPaths) -> None:
    """Remove what killed removals left."""
    for rest in place.folder.parent.glob(f"{place.folder.name}.gone-*"):
        run(["rm", "-rf", "--one-file-system", rest], timeout=300)
