"""What may be asked of the root helper: a closed list, and who may ask it of whom. Pure.

Who asks is the kernel's answer (SO_PEERCRED, unix(7)), never part of the request.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum

from state.errors import LxcGpuError

LONGEST_REQUEST = 4096
"""Bytes; a longer line is no request of ours."""


class Verb(StrEnum):
    """What the root helper does."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    STATUS = "status"
    REGISTER = "register"
    RECONCILE = "reconcile"


OF_USERS = frozenset({Verb.START, Verb.STOP, Verb.RESTART, Verb.STATUS})
"""What users ask for themselves."""
OF_SERVICES = {"register": frozenset({Verb.REGISTER}), "iam": frozenset({Verb.RECONCILE})}
"""What each service account may ask, and nothing else."""


@dataclass(frozen=True)
class Request:
    """One request. `user` names somebody only where the asker may act for others."""

    verb: Verb
    user: str = ""


def encode(request: Request) -> bytes:
    """The request as one line."""
    return json.dumps(asdict(request)).encode() + b"\n"


def decode(line: bytes) -> Request:
    """The request in one line; LxcGpuError if it is none."""
    try:
        fields = json.loads(line)
        verb, user = fields["verb"], fields["user"]
        if set(fields) != {"verb", "user"} or not isinstance(user, str):
            raise ValueError
        return Request(Verb(verb), user)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LxcGpuError("bad-request", "That is no request that lxc-gpu knows.") from error


def whose(request: Request, asker: str) -> str:
    """Whose container the request is about, if `asker` may ask it; LxcGpuError if not.

    root may ask everything; the service accounts their one verb; users their own things.
    """
    if asker == "root":
        return request.user
    if asker in OF_SERVICES:
        if request.verb in OF_SERVICES[asker]:
            return request.user
    elif request.verb in OF_USERS and request.user in ("", asker):
        return asker
    raise LxcGpuError("not-allowed", f"{asker} may not ask for `{request.verb}` there.")
