"""Subordinate ids of the registered users: lines of subuid(5) and subgid(5).

Lines of other accounts stay as they are, in their places. A user's numbers stay when the user
leaves, so that nobody else gets them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from reconciler.plan import Change, Lock, Observed, Tell
from state.errors import LxcGpuError
from state.files import read_text, write_file
from state.view import View

SUBUID = Path("/etc/subuid")
SUBGID = Path("/etc/subgid")


class Ranges(NamedTuple):
    """The ranges of one user in both files, as (first, count)."""

    uids: tuple[tuple[int, int], ...]
    gids: tuple[tuple[int, int], ...]


def parse(text: str) -> dict[str, tuple[tuple[int, int], ...]]:
    """The ranges of each account named in a subuid(5) file; malformed lines are ignored."""
    ranges: dict[str, tuple[tuple[int, int], ...]] = {}
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) == 3 and fields[1].isdigit() and fields[2].isdigit():
            ranges[fields[0]] = (*ranges.get(fields[0], ()), (int(fields[1]), int(fields[2])))
    return ranges


def replace_lines(text: str, wanted: Mapping[str, tuple[tuple[int, int], ...]]) -> str:
    """`text` with the lines of the accounts in `wanted` replaced; all others as they were."""
    kept = [line for line in text.splitlines() if line.split(":")[0] not in wanted]
    new = [f"{name}:{f}:{count}" for name, pairs in wanted.items() for f, count in pairs]
    return "".join(f"{line}\n" for line in kept + new)


def range_of(account: str) -> tuple[int, int]:
    """The first id and the number of ids of an account, disabled or not. LxcGpuError if unknown."""
    pairs = parse(read_text(SUBUID) or "").get(account, ())
    if len(pairs) != 1:
        raise LxcGpuError(
            "subids-unknown",
            f"{SUBUID} gives {account} no range of ids, so its container's files are left alone.",
            f"Sysadmin: put the line of {account} back, by `subid` in the user's file.",
        )
    return pairs[0]


def hand_over(old: str, new: str) -> None:
    """Give an account's ranges to the account that replaces it."""
    for file in (SUBUID, SUBGID):
        text = read_text(file) or ""
        if pairs := parse(text).get(old):
            write_file(file, replace_lines(text, {old: (), new: pairs}))


class SubidsKind:
    """Subordinate uids and gids of registered users."""

    name = "subids"
    lock = Lock.GLOBAL
    per_user = True

    def desired(self, view: View) -> Mapping[str, Ranges]:
        """One range for each resident, the same for uids and gids."""
        pairs = {n: ((r.subid, view.subid_size),) for n, r in view.residents.items()}
        return {name: Ranges(pair, pair) for name, pair in pairs.items()}

    def observe(self, view: View, names: Collection[str]) -> Observed[Ranges]:
        """The ranges of these names; the lines of other names may not be ours."""
        uids, gids = (parse(read_text(file) or "") for file in (SUBUID, SUBGID))
        accounts = {name: view.account_of(name) for name in names}
        return Observed(
            {
                name: Ranges(uids.get(account, ()), gids.get(account, ()))
                for name, account in accounts.items()
                if account in uids or account in gids
            }
        )

    def apply(
        self, view: View, changes: Sequence[Change[Ranges]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Write each file once, for all changes."""
        after = {view.account_of(c.name): c.after for c in changes if c.after is not None}
        for file, field in ((SUBUID, "uids"), (SUBGID, "gids")):
            lines = {name: getattr(ranges, field) for name, ranges in after.items()}
            write_file(file, replace_lines(read_text(file) or "", lines))
        return {}

    def describe(self, change: Change[Ranges]) -> str:
        """E.g. `give lqchen the subordinate ids 18126464 to 18388607`."""
        assert change.after is not None  # noqa: S101  # never taken away
        ((first, count),) = change.after.uids
        return f"give {change.name} the subordinate ids {first} to {first + count - 1}"
