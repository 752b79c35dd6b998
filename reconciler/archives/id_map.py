"""Runs programs as root of a user's id map, so that they act with the container's ids."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.archives import fence
from reconciler.children.forked import FAILED, Child
from reconciler.mounts.over import over
from reconciler.mounts.owner_map import FileOwner, owner_map
from reconciler.mounts.tree import Tree
from state import command
from state.errors import LxcGpuError
from state.view import Resident, View

PATIENCE = 60.0
"""Seconds that a program of a template may take."""
LONGEST = 1 << 16
"""Bytes of what it says that are kept."""
_CLONE_NEWUSER = 0x10000000


def in_id_map(
    account: str, resident: Resident, size: int, argv: Sequence[str], *trees: Tree
) -> list[str]:
    """The command that runs `argv` as root of the user's id map, started by their account.

    The account owns the range: newuidmap(1) gives the ids of /etc/subuid to nobody else. `trees`
    are the systems that the program works on, which it finds at their slots.
    """
    program = [
        "setpriv", f"--reuid={account}", f"--regid={account}", "--init-groups",
        *mapped(resident, size, argv),
    ]  # fmt: skip
    return over(trees, program)


def mapped(resident: Resident, size: int, argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` in the id map, for a caller that is the user already."""
    return ["lxc-usernsexec", "-m", f"b:0:{resident.subid}:{size}", "--", *argv]


@dataclass(frozen=True)
class IdMapOwner:
    """The user whose id map something is done in."""

    user: str
    account: str
    resident: Resident
    size: int
    """The number of ids."""

    @classmethod
    def of(cls, view: View, user: str, resident: Resident) -> IdMapOwner:
        """The owner with what the view says of the user."""
        return cls(user, view.account_of(user), resident, view.subid_size)

    def fenced(self, folder: Path, argv: Sequence[str], *trees: Tree) -> list[str]:
        """The command that runs `argv` as root of the id map, able to write in `folder` only."""
        program = ["/usr/bin/python3", "-IS", str(Path(fence.__file__).resolve())]
        fenced = [*program, str(folder), *argv]
        return in_id_map(self.account, self.resident, self.size, fenced, *trees)


def run_inside(tree: Tree, argv: Sequence[str]) -> None:
    """Run a program of a template in a system made of it, as its root, with `/` where it has it.

    LxcGpuError if it fails, OSError if it can't be begun. It is in none of the container's
    namespaces but its id map: only for systems that nobody has had yet.
    """
    reads, writes = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reads, False)
    with os.fdopen(reads, "rb", buffering=0) as output:
        try:
            child = Child(lambda: _become(tree, argv, writes), [writes])
        finally:
            os.close(writes)
        if not child.has_ended(PATIENCE):
            child.kill(1.0)
            child.leave()
        said = (output.read(LONGEST) or b"").decode("utf-8", "backslashreplace")
    if child.status != 0:
        status = FAILED if child.status is None else child.status
        raise command.failure(command.Finished(tuple(argv), status, "", said))


def _become(tree: Tree, argv: Sequence[str], says: int) -> None:
    """In the child."""
    os.dup2(says, 1)
    os.dup2(says, 2)
    try:
        folder = tree.opened_for(tree.first)
        be_root(tree.first, tree.size)
        os.fchdir(folder)
        os.chroot(".")
        os.umask(0o022)
        os.execve(argv[0], list(argv), command.environment())  # noqa: S606
    except (LxcGpuError, OSError) as error:
        os.write(says, str(error).encode())


def be_root(first: int, size: int) -> None:
    """Become, for good, root of a new user namespace with the ids of a range. OSError if it fails.

    (user_namespaces(7), setns(2).) The caller is root, and has no threads.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with owner_map(FileOwner(0, 0), FileOwner(first, first), size) as ids:
        if libc.setns(ids, _CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
