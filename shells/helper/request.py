"""What may be asked of the root helper: a closed list, and who may ask it of whom. Pure.

The kernel says who asks (SO_PEERCRED, unix(7)); no request does. One descriptor of the asker's may
come with a request: for an archive to read or to write, or for a shell.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from shells.usage import OPTIONS, Verb
from state.errors import LxcGpuError
from state.wire import messages

BUG = messages.Refusal(
    "bug",
    "Something went wrong in lxc-gpu itself.",
    "Sysadmin: `journalctl -t lxc-gpu` has the details.",
)
"""What is said when a mistake of ours ended a request."""

LONGEST_REQUEST = 8192
"""Bytes; a longer line isn't a request of ours."""
OF_USERS = frozenset(
    {Verb.START, Verb.STOP, Verb.RESTART, Verb.STATUS, Verb.PORT, Verb.SNAPSHOT, Verb.RECOVER,
     Verb.REBUILD, Verb.GPUS, Verb.SHELL, Verb.RESERVE, Verb.RESERVATIONS, Verb.RELEASE,
     Verb.NOTIFY}
)  # fmt: skip
"""What users ask for themselves."""
_LOOKS = frozenset({Verb.STATUS, Verb.GPUS, Verb.RESERVATIONS})
"""What changes nothing."""
OF_SERVICES = {
    "register": frozenset({Verb.REGISTER}),
    "iam": frozenset({Verb.RECONCILE, Verb.TOLD}),
}
"""What each service account may ask, and nothing else."""


class Request(NamedTuple):
    """One request. `user` names somebody only where the asker may act for others."""

    verb: Verb
    user: str = ""
    options: Mapping[str, str] = MappingProxyType({})
    """By name; empty texts for those that are only set or not."""


def encode(request: Request) -> bytes:
    """The request as one line."""
    fields = {"verb": request.verb, "user": request.user, "options": dict(request.options)}
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def decode(line: bytes) -> Request:
    """The request in one line; LxcGpuError if it is none."""
    try:
        fields = json.loads(line)
        verb, user, options = fields["verb"], fields["user"], fields.get("options", {})
        if not {"verb", "user"} <= set(fields) <= {"verb", "user", "options"}:
            raise ValueError
        if not isinstance(user, str):
            raise ValueError
        known = OPTIONS.get(Verb(verb), {})
        for name, value in options.items():
            if not re.fullmatch(known[name], value):
                raise ValueError
        return Request(Verb(verb), user, options)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LxcGpuError("bad-request", "lxc-gpu doesn't know that request.") from error


def ends_with_its_asker(request: Request) -> bool:
    """Whether the request is useless once its asker has gone. All others are finished even then."""
    options = request.options
    only_sent = request.verb is Verb.SNAPSHOT and ("to-stdout" in options or "list" in options)
    return request.verb in _LOOKS or only_sent


def whose(request: Request, asker: str) -> str:
    """The user whose container the request is about. LxcGpuError if `asker` may not ask it.

    root may ask everything; the service accounts their own verbs; users their own things.
    """
    if asker == "root":
        return request.user
    if asker in OF_SERVICES:
        if request.verb in OF_SERVICES[asker]:
            return request.user
    elif request.verb in OF_USERS and request.user in ("", asker):
        return asker
    raise LxcGpuError("not-allowed", f"{asker} may not ask for `{request.verb}` there.")
