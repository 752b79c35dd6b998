"""Numbers for a new user: the smallest that no present or former user has. Pure.

Numbers are never handed out again: former users keep theirs, in former/.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from state.errors import LxcGpuError
from state.model.documents import Range, State, User
from state.reading.check import HIGHEST_UID, places


@dataclass(frozen=True)
class Numbers:
    """The numbers that a user gets once and keeps."""

    uid: int
    port: int
    subid: int
    """The first subordinate id."""


class RangeUsedUpError(LxcGpuError):
    """A range of fleet.yaml has no free number left."""


def allocate(state: State) -> Numbers:
    """The numbers for one more user. RangeUsedUpError says which range to widen."""
    fleet = state.fleet
    people = list(_people(state))
    place = _smallest(
        0, places(fleet) - 1, {(u.subid - fleet.subids.first) // fleet.subids.size for u in people}
    )
    if place is None:
        raise _used_up("network", f"room for {places(fleet)} users in {fleet.network} and `subids`")
    uids = fleet.uids.model_copy(update={"last": min(fleet.uids.last, HIGHEST_UID)})
    return Numbers(
        uid=_from("uids", uids, {user.uid for user in people}),
        port=_from("ports", fleet.ports, {user.port for user in people}),
        subid=fleet.subids.first + place * fleet.subids.size,
    )


def _people(state: State) -> Iterator[User]:
    yield from state.users.values()
    yield from state.former.values()


def _from(field: str, numbers: Range, taken: set[int]) -> int:
    found = _smallest(numbers.first, numbers.last, taken)
    if found is None:
        raise _used_up(field, f"{numbers.first} to {numbers.last}")
    return found


def _smallest(first: int, last: int, taken: set[int]) -> int | None:
    return next((number for number in range(first, last + 1) if number not in taken), None)


def _used_up(field: str, words: str) -> RangeUsedUpError:
    return RangeUsedUpError(
        "range-used-up",
        f"No number is left for a new user: `{field}` ({words}) is used up.",
        f"A sysadmin has to widen `{field}` in fleet.yaml; former users keep their numbers.",
    )
