"""Running a program as root of a user's id map: what it does is done with the container's ids."""

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
    """`argv` as root of the user's id map: started by their account, which owns the range.

    newuidmap(1) gives the ids of /etc/subuid to nobody else. The systems among what it works on
    are `trees`: it finds them at their slots.
    """
    program = [
        "setpriv", f"--reuid={account}", f"--regid={account}", "--init-groups",
        *mapped(resident, size, argv),
    ]  # fmt: skip
    return over(trees, program)


def mapped(resident: Resident, size: int, argv: Sequence[str]) -> list[str]:
    """The same for a program that runs as the user already."""
    return ["lxc-usernsexec", "-m", f"b:0:{resident.subid}:{size}", "--", *argv]


@dataclass(frozen=True)
class IdMapOwner:
    """Whose id map something is done in."""

    user: str
    account: str
    resident: Resident
    size: int
    """How many ids there are."""

    @classmethod
    def of(cls, view: View, user: str, resident: Resident) -> IdMapOwner:
        """The user, as the view says."""
        return cls(user, view.account_of(user), resident, view.subid_size)

    def fenced(self, folder: Path, argv: Sequence[str], *trees: Tree) -> list[str]:
        """`argv` as root of the id map, able to write in `folder` and nowhere else."""
        program = ["/usr/bin/python3", "-IS", str(Path(fence.__file__).resolve())]
        fenced = [*program, str(folder), *argv]
        return in_id_map(self.account, self.resident, self.size, fenced, *trees)
