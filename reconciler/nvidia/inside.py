"""Run a program in a container that runs: as its root, in all its namespaces and its cgroup.

What runs there is the container's own and may be hostile. So the user namespace is entered first,
and a program gets nothing of ours but what is lent to it: no environment, no descriptors.
`lxc-attach` from outside the container's cgroup fails for containers started by users
(lxc/lxc#4440); namespaces(7), nsenter(1).
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from reconciler.host import places
from state import command
from state.errors import LxcGpuError

NAMESPACES = ("user", "mnt", "uts", "ipc", "net", "pid", "cgroup")
LONGEST = 1 << 16
"""Bytes of what a program says that are kept: the last ones."""
LENT = 9
"""The descriptor that a lent file has inside."""
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Ended:
    """How a program in a container ended."""

    status: int | None
    """None: it ran too long and was killed."""
    said: str
    """The end of its output; whatever a hostile program likes."""


def run(
    user: str,
    argv: Sequence[str],
    *,
    lent: int,
    patience: float,
    tick: Callable[[float], None],
) -> Ended:
    """Run `argv` to its end, the descriptor `lent` as descriptor LENT; `tick` gets the seconds.

    LxcGpuError if the container doesn't run.
    """
    with ExitStack() as descriptors:
        namespaces, joins = _entered(user, descriptors)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        child = os.fork()
        if child == 0:
            _become(argv, namespaces, joins, lent, writer)
        os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as stream:
        return _wait(child, stream.fileno(), patience, tick)


def _entered(user: str, descriptors: ExitStack) -> tuple[Sequence[int], Sequence[Path]]:
    """The namespaces of the container's init, opened, and its cgroups: surely of one process."""
    unit = places.container_unit(user)
    shown = command.run(["systemctl", "show", unit, "--property=MainPID", "--value"]).stdout.strip()
    children = Path(f"/proc/{shown}/task/{shown}/children")
    ours = Path("/proc/self/ns/user").readlink()
    with suppress(FileNotFoundError):
        for pid in children.read_text().split():
            folder = Path("/proc") / pid
            namespaces = list[int]()
            for name in NAMESPACES:
                namespaces.append(os.open(folder / "ns" / name, os.O_RDONLY))
                descriptors.callback(os.close, namespaces[-1])
            cgroups = cgroups_of((folder / "cgroup").read_text())
            theirs = (folder / "ns/user").readlink()
            # still lxc-start's child, so it was nobody else meanwhile; and in a world of its own
            if theirs != ours and pid in children.read_text().split():
                return namespaces, [CGROUPS / path for path in cgroups]
    raise LxcGpuError("not-running", "The container does not run.", "Start it first.")


def cgroups_of(text: str) -> tuple[str, ...]:
    """The files to write a process id to, to join who has this /proc/PID/cgroup. Pure."""
    lines = [line.split(":", 2) for line in text.splitlines()]
    unified = "unified" if any(number != "0" for number, _, _ in lines) else ""
    return tuple(
        f"{name.removeprefix('name=') or unified}{path.rstrip('/')}/cgroup.procs".lstrip("/")
        for _, name, path in lines
    )


def _become(
    argv: Sequence[str], namespaces: Sequence[int], joins: Sequence[Path], lent: int, writer: int
) -> NoReturn:
    """In the child: never returns. Every descriptor but the three below closes with execve(2)."""
    status = 126
    try:
        import ctypes  # os.setns is Python 3.12's

        libc = ctypes.CDLL(None, use_errno=True)
        os.setsid()
        for join in joins:
            with suppress(FileNotFoundError):  # a v1 hierarchy that is not mounted here
                join.write_text(f"{os.getpid()}\n")
        nothing = os.open("/dev/null", os.O_RDONLY)
        # from here on every path is the container's: nothing is opened or imported any more
        for namespace in namespaces:
            if libc.setns(namespace, 0) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        grandchild = os.fork()  # who enters a pid namespace is in it from the next fork on
        if grandchild:
            status = os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1])
            os._exit(status if status >= 0 else 128 - status)
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        os.chdir("/")
        os.umask(0o022)
        for stream, ours in ((0, nothing), (1, writer), (2, writer)):
            os.dup2(ours, stream)
        os.dup2(lent, LENT)
        os.set_inheritable(LENT, True)  # should it have been that one already
        os.execvpe(argv[0], list(argv), command.environment({"HOME": "/root"}))  # noqa: S606
    except OSError as error:
        os.write(writer, f"{error}\n".encode())
    finally:
        os._exit(status)


def _wait(child: int, stream: int, patience: float, tick: Callable[[float], None]) -> Ended:
    """Until it ends; what it left running inside is the container's own business."""
    begun, said, status = time.monotonic(), b"", None
    os.set_blocking(stream, False)
    while (passed := time.monotonic() - begun) < patience:
        tick(passed)
        select.select([stream], [], [], 0.5)
        ended, raw = os.waitpid(child, os.WNOHANG)
        said = (said + _read(stream))[-LONGEST:]
        if ended:
            status = os.waitstatus_to_exitcode(raw)
            break
    else:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return Ended(status, said.decode("utf-8", "replace"))


def _read(stream: int) -> bytes:
    """What there is to read, a sane amount of it."""
    try:
        raw = os.read(stream, LONGEST)
    except BlockingIOError:
        return b""
    if not raw:
        time.sleep(0.02)  # closed; its end is not far
    return raw
