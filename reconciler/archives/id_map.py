"""Runs programs as root of a user's id map, so that they act with the container's ids."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.archives import fence
from reconciler.children.forked import Child
from reconciler.children.inside import Begun
from reconciler.mounts.over import over
from reconciler.mounts.owner_map import CLONE_NEWUSER, FileOwner, owner_map
from reconciler.mounts.tree import Tree
from state import command
from state.errors import LxcGpuError
from state.view import Resident, View

PATIENCE = 60.0
"""Seconds that a program of a template may take."""


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
        """The command that runs `argv` as root of the id map, able to write in `folder` only.

        It is started by the user's account, which owns the range: newuidmap(1) gives the ids of
        /etc/subuid to nobody else. `trees` are the systems that the program works on, which it
        finds at their slots.
        """
        program = ["/usr/bin/python3", "-IS", str(Path(fence.__file__).resolve())]
        account = [f"--reuid={self.account}", f"--regid={self.account}", "--init-groups"]
        fenced = mapped(self.resident, self.size, [*program, str(folder), *argv])
        return over(trees, ["setpriv", *account, *fenced])


def run_inside(tree: Tree, argv: Sequence[str]) -> None:
    """Run a program of a template in a system made of it, as its root, with `/` where it has it.

    LxcGpuError if it fails, OSError if it can't be begun. It is in none of the container's
    namespaces but its id map: only for systems that nobody has had yet. What it started ends with
    it.
    """

    def go_in(says: int) -> None:
        os.dup2(says, 2)
        os.chroot(".")
        os.umask(0o022)

    ended = begun_at(tree, argv, go_in).wait(PATIENCE, leave=False)
    if ended.status is None:
        raise command.too_late(argv, PATIENCE, ended.said)
    if ended.status != 0:
        raise command.failure(command.Finished(tuple(argv), ended.status, "", ended.said))


def begun_at(
    tree: Tree, argv: Sequence[str], first: Callable[[int], None] = lambda _: None
) -> Begun:
    """Start a program in the folder `/` of a system, as root of its container's id map.

    What it prints is heard here, its errors aren't. `first` is called before it begins, with the
    descriptor that is heard. It is in none of the container's namespaces but its id map, and in no
    mount namespace of its own: only for programs that go nowhere else. LxcGpuError if there is no
    system, OSError if it can't be begun.
    """
    folder = tree.opened_for(tree.first)
    output, says = os.pipe2(os.O_CLOEXEC)
    try:
        child = Child(lambda: _become(tree, folder, argv, first, says), [says, folder])
    except BaseException:
        os.close(output)
        raise
    finally:
        os.close(says)
        os.close(folder)
    return Begun(child, output)


def _become(
    tree: Tree, folder: int, argv: Sequence[str], first: Callable[[int], None], says: int
) -> None:
    """In the child."""
    os.setsid()  # what it starts is ended by that
    os.dup2(says, 1)
    try:
        be_root(tree.first, tree.size)
        os.fchdir(folder)
        first(says)
        os.execvpe(argv[0], list(argv), command.environment())  # noqa: S606
    except (LxcGpuError, OSError) as error:
        os.write(says, str(error).encode())


def be_root(first: int, size: int) -> None:
    """Become, for good, root of a new user namespace with the ids of a range. OSError if it fails.

    (user_namespaces(7), setns(2).) The caller is root, and has no threads.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with owner_map(FileOwner(0, 0), FileOwner(first, first), size) as ids:
        if libc.setns(ids, CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
