"""What the whole fleet is doing: what the web page's /monitor.json says, for programs.

`decode` checks it, and every load in it (`state.wire.server_load`): each number is in its range,
each text is short and printable. Fields that a newer page adds are passed over.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, MaxLen

from state.wire.server_load import Count, Moment, ServerLoad, Text, Word

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FORMAT = 1
"""Programs that know this one don't understand another one."""
LARGEST = 64 << 20
"""Bytes; 100 servers of 8 GPUs and 100 users take 900,000."""
PATH = "/monitor.json"
"""Where the page says it."""

Condition = Literal["converged", "behind", "problems", "suspended", "unreachable", "waiting"]
"""converged: as the newest revision wants it; behind: not there yet; problems: a sysadmin has to
look; suspended: one has it hold still; unreachable: it doesn't answer; waiting: not asked yet."""


@dataclass(frozen=True)
class ServerStatus:
    """One server."""

    name: Word
    address: Word
    condition: Condition
    silent_since: Moment | None = None
    """Since when its load doesn't come, by the page's clock; None while it does, and while nobody
    has asked yet."""
    why: Text = ""
    """Silent or unreachable: what is wrong."""
    revision: Word = ""
    """The revision that it is on; empty if it never said."""
    behind: Annotated[int, Ge(0)] | None = None
    """How many commits it doesn't have yet; None if that is unknown."""
    last_round: Moment | None = None
    """When its last round ended, by its own clock."""
    suspended: Text = ""
    """Why a sysadmin has it hold still; empty if nobody has."""
    refused: Text = ""
    """Why it doesn't take a newer revision; empty if it refused none."""
    failures: Count = 0
    """How many things its last round could not put right."""
    heard: Moment | None = None
    """When `load` came, by the page's clock."""
    load: ServerLoad | None = None
    """The newest, however old; None if none ever came."""
    free_gpus: Annotated[tuple[Count, ...], MaxLen(64)] = ()
    """The indices of the GPUs that nobody uses; none while it is silent."""

    reserved_gpus: Annotated[tuple[Count, ...], MaxLen(64)] = ()
    """The indices of the GPUs that somebody has reserved for now, in use or not; none while it is
    silent."""

    @property
    def live(self) -> ServerLoad | None:
        """The load, if it is of now."""
        return None if self.silent_since is not None else self.load

    @property
    def converged(self) -> bool:
        """Whether it is as the newest revision wants it, and answers."""
        return self.condition == "converged" and self.silent_since is None


@dataclass(frozen=True)
class FleetStatus:
    """Every server, in the order of the page: gpu2 before gpu10."""

    at: Moment
    """When this was said, by the page's clock."""
    revision: Word
    """The newest revision of the state that the page knows."""
    servers: Annotated[tuple[ServerStatus, ...], MaxLen(2000)]
    stale: Text = ""
    """Why there may be a newer revision; empty if there can't be."""
    format: Literal[1] = 1


class BadStatusError(ValueError):
    """A text that isn't a status of a fleet."""


class OtherFormatError(BadStatusError):
    """A status in a format of another version."""


def encode(status: FleetStatus) -> bytes:
    """`status` as JSON."""
    return _adapter().dump_json(status)


def decode(raw: bytes) -> FleetStatus:
    """The status in `raw`. BadStatusError if it is none."""
    if len(raw) > LARGEST:
        raise BadStatusError("too long")
    try:
        return _adapter().validate_json(raw, strict=True)
    except ValueError as error:
        if (known := _format(raw)) is not None and known != FORMAT:
            raise OtherFormatError(f"format {known}") from error
        raise BadStatusError(f"not a status: {error}") from error


def _format(raw: bytes) -> int | None:
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    known = fields.get("format") if isinstance(fields, dict) else None
    return known if isinstance(known, int) else None


@cache
def _adapter() -> TypeAdapter[FleetStatus]:
    from pydantic import TypeAdapter  # only who needs it: it takes 100 ms

    return TypeAdapter(FleetStatus)
