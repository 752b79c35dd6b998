"""Times and keys in the words of the pages. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from markupsafe import Markup, escape

from state.model.documents import State
from state.model.fields import seconds_of
from state.model.keys import PublicKey
from state.wire.messages import LATEST
from state.words import plural
from webui.servers.board import Phase, Save

_LABELS = {
    "ssh-ed25519": "Ed25519",
    "ssh-rsa": "RSA",
    "sk-ssh-ed25519@openssh.com": "Ed25519, security key",
    "sk-ecdsa-sha2-nistp256@openssh.com": "ECDSA, security key",
}


@dataclass(frozen=True)
class KeyCard:
    """A public key as a page shows it."""

    label: str
    bits: int
    strength: str
    grade: str
    """`strong`, `good` or `fair`: the colour of its badge."""
    comment: str
    fingerprint: str
    used: str = ""
    """The day on which it was last used on a server; empty if none is known."""


def key_card(key: PublicKey, used: str = "") -> KeyCard:
    """The card of `key`, which was last used on the day `used`."""
    grade = key.strength.replace(",", " ").replace(":", " ").split()[0]
    label = _LABELS.get(key.type, "ECDSA")
    return KeyCard(label, key.bits, key.strength, grade, key.comment, key.fingerprint, used)


def ago(then: float, now: float) -> str:
    """How long ago `then` was: 5 minutes ago."""
    return "just now" if now - then < 10 else f"{lasting(then, now)} ago"


def lasting(since: float, now: float) -> str:
    """How long something has lasted: 5 minutes."""
    seconds = max(0, int(now - since))
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return plural(count, name)
    return plural(seconds, "second")


def iso(then: float) -> str:
    """A time for `<time datetime>`."""
    return datetime.fromtimestamp(then, UTC).isoformat(timespec="seconds")


def moment(then: float) -> str:
    """A date and time for people, in UTC, since a laboratory may be on several continents."""
    return datetime.fromtimestamp(then, UTC).strftime("%Y-%m-%d %H:%M UTC")


@dataclass(frozen=True)
class Announced:
    """An announcement as a page shows it."""

    text: str
    servers: str
    """The servers that it is about; empty: all servers."""
    begins: float | None
    """Seconds since the epoch; None if it has begun."""
    ends: float
    stop: bool


def announced(
    state: State, now: float, servers: Collection[str] | None = None
) -> tuple[Announced, ...]:
    """Announcements for `servers` (None: for any) that aren't over, the first to end first."""
    found = [
        Announced(
            each.text,
            ", ".join(each.servers or ()),
            begins if each.begins and (begins := seconds_of(each.begins)) > now else None,
            seconds_of(each.until),
            each.stop,
        )
        for each in state.announcements.values()
        if seconds_of(each.until) > now and (servers is None or any(map(each.concerns, servers)))
    ]
    return tuple(sorted(found, key=lambda each: each.ends))


def clock(then: float, now: float, zone: tzinfo | None = None) -> str:
    """The time `then` as seen from `now`: today 18:00, Fri 18:00, Fri 4 Dec 18:00.

    It is in `zone`; None means this machine's.
    """
    at = datetime.fromtimestamp(min(then, _LAST), zone)
    days = (at.date() - datetime.fromtimestamp(now, zone).date()).days
    day = f"{at:%a}" if 1 < days < 7 else f"{at:%a} {at.day} {at:%b}"
    year = f" {at.year}" if abs(days) > 300 else ""
    return f"{_NEAR.get(days, day + year)} {at.hour}:{at:%M}"


_LAST = LATEST - 86_400
"""In every zone, this is in a year that `datetime` knows."""
_NEAR = {0: "today", 1: "tomorrow"}


def zone_words(then: float, zone: tzinfo | None = None) -> str:
    """The name of the time zone at `then`: CET (UTC+1); UTC."""
    at = datetime.fromtimestamp(then, zone).astimezone(zone)
    minutes = round((at.utcoffset() or timedelta()).total_seconds() / 60)
    hours, rest = divmod(abs(minutes), 60)
    offset = f"UTC{'-' if minutes < 0 else '+'}{hours}" + (f":{rest:02}" if rest else "")
    name = at.tzname() or ""
    if not minutes:
        return "UTC" if name in ("", "UTC") else f"{name} (UTC)"
    return f"{name} ({offset})" if name.isalpha() else offset


def wait_words(seconds: float) -> str:
    """How long to wait, rounded up."""
    whole = max(1, int(-(-seconds // 1)))
    return plural(whole, "second")


def summary(save: Save) -> str:
    """How far a save has come, in one line."""
    outcomes = list(save.outcomes.values())
    if not outcomes:
        return "There is no server yet."
    converged = sum(outcome.phase is Phase.CONVERGED for outcome in outcomes)
    open_ones = sum(not outcome.finished for outcome in outcomes)
    total = len(outcomes)
    if open_ones:
        return f"{converged} of {total} servers converged, {open_ones} under way…"
    if converged == total:
        return "All servers converged." if total > 1 else "The server converged."
    rest = total - converged
    return f"{converged} of {total} servers converged; {rest} will follow, see below."


def ticks(text: str) -> Markup:
    """A message as HTML. Text between backticks is something to type, and becomes `<code>`."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704
