"""Runs programs as root of a user's id map, so that they act with the container's ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.archives import fence
from reconciler.mounts.over import over
from reconciler.mounts.tree import Tree
from state.view import Resident, View


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
