"""Notes the day on which each key last opened an account of ours: no name, address or hour.

Rounds report the days, so that users see on their page which key they no longer need. Standard
library only.
"""

from __future__ import annotations

import json
import time
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping

from reconciler.host import locks, places
from state.files import read_text, write_file
from state.wire.messages import MOST_KEY_DAYS

KEPT_FOR = 400
"""Days after which the note about a key is removed."""
_DAY = 86_400


def read() -> dict[str, str]:
    """Days (`2026-11-26`, UTC) by fingerprint; none if the file can't be read."""
    try:
        found = json.loads(read_text(places.KEY_DAYS) or "{}")
        return {str(key): str(day) for key, day in found.items()}
    except (ValueError, AttributeError):
        return {}


def note(keys: Iterable[str], now: float | None = None) -> None:
    """Note that these keys, `TYPE BODY` each, are used now. It writes once a day for each key."""
    moment = time.time() if now is None else now
    today = _day(moment)
    used = {fingerprint(key) for key in keys}
    if all(read().get(each) == today for each in used):
        return
    with locks.lock("key-days"):
        days = after(read(), used, today, _day(moment - KEPT_FOR * _DAY))
        write_file(places.KEY_DAYS, json.dumps(days))


def after(days: Mapping[str, str], used: Iterable[str], today: str, oldest: str) -> dict[str, str]:
    """`days` with those used today, the newest last; without those before `oldest`. Pure."""
    newer = {**days, **dict.fromkeys(used, today)}
    kept = sorted(((d, key) for key, d in newer.items() if d >= oldest))
    return {key: day for day, key in kept[-MOST_KEY_DAYS:]}


def fingerprint(key: str) -> str:
    """The fingerprint that `ssh-keygen -l` prints for `TYPE BODY`. ValueError if it isn't a key."""
    from hashlib import sha256  # loads OpenSSL: not on the way of a round

    digest = sha256(b64decode(key.split()[1])).digest()
    return "SHA256:" + b64encode(digest).decode("ascii").rstrip("=")


def _day(moment: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(moment))
