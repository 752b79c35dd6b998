"""Starting and stopping one user's container: the kinds for one user, and the container's unit."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reconciler import container_home, files, hostile, places
from reconciler.converge import converge
from reconciler.kinds.network import NetworkKind
from reconciler.kinds.port_map import SSH, PortMapKind
from reconciler.kinds.subids import SubidsKind
from reconciler.kinds.usernet import UsernetKind
from reconciler.lxc_config import gpu_nodes, lxc_config, rootfs
from reconciler.plan import AnyKind, Tell
from state import command
from state.errors import LxcGpuError, Remedy
from state.view import Resident, View
from state.wire import Progress

PATIENCE = 60.0
"""Seconds that a container's sshd may take to answer after the start."""
NEEDED: tuple[AnyKind, ...] = (SubidsKind(), UsernetKind(), NetworkKind(), PortMapKind())
"""The kinds that have to be right on the host for a container to start and be reached."""


@dataclass(frozen=True)
class Power:
    """How a container's unit is doing; the words are systemd's (systemctl(1))."""

    active: str
    since: str
    memory: int | None
    """Bytes, page cache included."""
    tasks: int | None

    @property
    def running(self) -> bool:
        """Whether the container is up."""
        return self.active == "active"


def power_of(user: str) -> Power:
    """The state of the user's container."""
    wanted = ("ActiveState", "ActiveEnterTimestamp", "MemoryCurrent", "TasksCurrent")
    argv = ["systemctl", "show", places.container_unit(user), f"--property={','.join(wanted)}"]
    lines = command.run(argv).stdout.splitlines()
    shown = dict(line.split("=", 1) for line in lines if "=" in line)
    memory, tasks = (shown.get(name, "") for name in wanted[2:])
    return Power(
        active=shown.get("ActiveState", "unknown"),
        since=shown.get("ActiveEnterTimestamp", ""),
        memory=int(memory) if memory.isdigit() else None,
        tasks=int(tasks) if tasks.isdigit() else None,
    )


def start(view: View, user: str, tell: Tell) -> bool:
    """Have the container up, its sshd answering, its port mapped. False if it was so before."""
    resident = resident_of(view, user)
    with files.lock(files.user_lock(user), wait=False) as free:
        if free:
            return _start(view, user, resident, tell)
    tell(Progress("waiting for other work on this container to end"))
    with files.lock(files.user_lock(user)):
        return _start(view, user, resident, tell)


def stop(view: View, user: str, tell: Tell) -> bool:
    """Shut the container down in order. False if it wasn't running."""
    resident_of(view, user)
    with files.lock(files.user_lock(user)):
        if power_of(user).active in ("inactive", "failed"):
            return False
        tell(Progress("shutting the container down"))
        command.run(["systemctl", "stop", places.container_unit(user)], timeout=120)
        return True


def resident_of(view: View, user: str) -> Resident:
    """The user's place on this server; LxcGpuError if there is none."""
    if user in view.residents and rootfs(view, user).is_dir():
        return view.residents[user]
    raise LxcGpuError(
        "not-registered",
        f"You have no container on {view.server} yet.",
        f"Make one, once: `ssh register@{view.server}-manage {user}`",
    )


def _start(view: View, user: str, resident: Resident, tell: Tell) -> bool:
    outcome = converge(NEEDED, view.only(user), only=user)
    for failure in outcome.failures:
        raise LxcGpuError(failure.code, failure.message, failure.hint)
    unit = places.container_unit(user)
    was_running = power_of(user).running
    if not was_running:
        _prepare(view, user, resident, tell)
        tell(Progress("starting the container"))
        command.run(["systemctl", "reset-failed", unit], check=False)
        command.run(["systemctl", "start", unit])
    waited = _wait_for_sshd(user, resident.address, tell)
    return not was_running or waited


def _prepare(view: View, user: str, resident: Resident, tell: Tell) -> None:
    """Write the configuration afresh, and put into the file system what the start needs."""
    nodes = gpu_nodes()
    config = lxc_config(view, user, resident, nodes)
    files.write_file(places.container_config(user), config)
    try:
        _install_as_root(view, user, resident)
        home = container_home.desired_files(view, user, resident)
        container_home.write(rootfs(view, user), user, resident.subid, home)
    except LxcGpuError as error:
        # the owner can only mend it from inside: the container starts all the same
        tell(Progress(f"note: {error.message}"))


def _install_as_root(view: View, user: str, resident: Resident) -> None:
    """The ssh host keys and the resolvers, as the container's root."""
    private = files.read_text(places.HOST_KEYS / user)
    if private is None:
        raise LxcGpuError(
            "host-key-missing",
            f"The ssh host key of your container is not on {view.server} any more.",
            f"Register again, nothing is lost: `ssh register@{view.server}-manage {user}`",
        )
    servers = view.nameservers or _own_resolvers()
    contents: Mapping[str, tuple[str, int]] = {
        "etc/ssh/ssh_host_ed25519_key": (private, 0o600),
        "etc/ssh/ssh_host_ed25519_key.pub": (f"{resident.host_key}\n", 0o644),
        "etc/resolv.conf": ("".join(f"nameserver {s}\n" for s in servers), 0o644),
    }

    def work(root: int) -> None:
        for path, (text, mode) in contents.items():
            hostile.write_below(root, PurePosixPath(path), text, mode, folder_mode=0o755)

    hostile.as_owner(rootfs(view, user), resident.subid, work)


def _own_resolvers() -> tuple[str, ...]:
    """The server's resolvers that a container can reach, too (not those on loopback)."""
    for file in (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf")):
        lines = (line.split() for line in (files.read_text(file) or "").splitlines())
        found = tuple(f[1] for f in lines if f[:1] == ["nameserver"] and len(f) > 1)
        if usable := tuple(a for a in found if not a.startswith("127.") and a != "::1"):
            return usable
    return ()


def _wait_for_sshd(user: str, address: str, tell: Tell) -> bool:
    """Wait until sshd sends its banner. Whether there was something to wait for."""
    started = told = time.monotonic()
    waited = False
    while not _answers(address):
        now = time.monotonic()
        if now - started > PATIENCE or (waited and not power_of(user).running):
            raise _no_answer(user, now - started)
        if now - told > 1:
            told = now
            tell(Progress("waiting for the container's sshd", (now - started) / PATIENCE))
        waited = True
        time.sleep(0.02)
    return waited


def _answers(address: str) -> bool:
    try:
        with socket.create_connection((address, SSH), timeout=1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _no_answer(user: str, seconds: float) -> LxcGpuError:
    power = power_of(user)
    if not power.running:
        return LxcGpuError(
            "container-ended",
            "The container ended as soon as it was started.",
            f"Sysadmin: `journalctl -u {places.container_unit(user)}` says why.",
        )
    return LxcGpuError(
        "sshd-silent",
        f"The container runs, but its sshd did not answer within {seconds:.0f} s.",
        "Try `restart`; if the container's own sshd is broken, ask your sysadmin.",
        Remedy.RETRY,
    )


def make_host_key(user: str) -> str:
    """The public ssh host key of the user's container, made now if there is none yet."""
    private = places.HOST_KEYS / user
    if not private.exists():
        places.HOST_KEYS.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = places.HOST_KEYS / f".{user}.new"
        for leftover in (beside, beside.with_name(f"{beside.name}.pub")):
            leftover.unlink(missing_ok=True)
        command.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", beside])
        beside.with_name(f"{beside.name}.pub").unlink()
        beside.rename(private)
        files.keep_folder(places.HOST_KEYS)
    return command.run(["ssh-keygen", "-y", "-f", private]).stdout.strip()
