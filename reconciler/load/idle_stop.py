"""The second step: a container that nobody uses is stopped, once its user was told twice.

Everything is measured in time without use, as `reconciler.load.idleness` adds it up. So no wall
clock has a say, nor has how long a mail server was down. Without accepted mail nothing is stopped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reconciler.host import places
from reconciler.host.in_words import moment_in_zone
from reconciler.load.idleness import DAY, IdleRecord, Unused
from reconciler.notices import store as notices
from state.files import read_text, write_file
from state.view import View
from state.wire.notices import Facts, NoticeKind

if TYPE_CHECKING:
    from state.wire.server_load import IdleContainer

LEAD = 3 * DAY
"""So long before a container is to be stopped its user is told first."""
BETWEEN = DAY
"""At least so long passes, without use, from one accepted word to the next, and to the stop."""
TWICE = 2


@dataclass(frozen=True)
class IdleAction:
    """What there is to do about one container."""

    name: bool = False
    """Its user is to be told that it stands idle."""
    warn: int = 0
    """... is to be told for the first or the second time that it will be stopped; 0: not now."""
    left: float = 0.0
    """Seconds until then, if nobody uses it."""
    stop: bool = False
    unsaid: bool = False
    """No stop is near: what was said of one, by another policy, is taken back."""


def step(unused: Unused, warn: int | None, stop: int | None, keep: str) -> IdleAction:
    """What there is to do, by the days of the server's policy. Pure."""
    seconds, told = unused.seconds, unused.told
    if warn is None or seconds < warn * DAY:
        return IdleAction()
    if stop is None or keep or seconds < max(warn * DAY, stop * DAY - LEAD):
        return IdleAction(name=True, unsaid=True)
    since = told[-1] if told else -BETWEEN
    if len(told) < TWICE:
        left = max(stop * DAY - seconds, (TWICE - len(told)) * BETWEEN)
        due = seconds - since >= BETWEEN
        return IdleAction(name=True, warn=len(told) + 1 if due else 0, left=left)
    return IdleAction(name=True, stop=seconds >= max(stop * DAY, since + BETWEEN))


def _step(view: View, user: str, unused: Unused) -> IdleAction:
    return step(unused, view.idle_days, view.idle_stop_days, view.residents[user].keep)


def is_due(view: View, user: str, unused: Unused) -> bool:
    """Whether the user's container is to be stopped."""
    return user in view.residents and _step(view, user, unused).stop


def tell(
    view: View, before: IdleRecord, record: IdleRecord, now: float
) -> tuple[IdleRecord, list[str]]:
    """Say what there is to say; the record with what was heard, and who is to be stopped.

    `now` is in seconds since the epoch, for people. LxcGpuError if notices can't be kept.
    """
    for user, old in before.containers.items():
        new = record.containers.get(user)
        named = view.idle_days is not None and old.seconds >= view.idle_days * DAY
        if named and (new is None or new.episode != old.episode):
            _withdraw(user, old)
    found, stops = {}, list[str]()
    for user, unused in record.containers.items():
        found[user] = unused
        if user in view.residents:
            found[user], is_due = _tell(view, user, unused, now)
            stops += [user] if is_due else []
    return replace(record, containers=found), stops


def _tell(view: View, user: str, unused: Unused, now: float) -> tuple[Unused, bool]:
    wanted = _step(view, user, unused)
    if not wanted.name:
        return unused, False
    at = max(0.0, now - unused.seconds)
    notices.say(user, NoticeKind.IDLE, unused.episode, Facts(at=at))
    if wanted.warn:
        about = f"{unused.episode}-{wanted.warn}"
        notices.say(user, NoticeKind.WILL_STOP, about, Facts(at=at, until=now + wanted.left))
        if notices.accepted(user, NoticeKind.WILL_STOP, about):
            unused = replace(unused, told=(*unused.told, unused.seconds))
    elif wanted.unsaid:
        _withdraw_warnings(user, unused)
        unused = replace(unused, told=())
    return unused, wanted.stop


def _withdraw(user: str, unused: Unused) -> None:
    notices.withdraw(user, NoticeKind.IDLE, unused.episode)
    _withdraw_warnings(user, unused)


def _withdraw_warnings(user: str, unused: Unused) -> None:
    for number in range(1, TWICE + 1):
        notices.withdraw(user, NoticeKind.WILL_STOP, f"{unused.episode}-{number}")


@dataclass(frozen=True)
class Stopped:
    """That a container was stopped because nobody used it."""

    at: float
    """Seconds since the epoch."""
    unused: float
    """Seconds."""


def note_stopped(user: str, stopped: Stopped) -> None:
    """Keep it for the next start, which says so."""
    places.STOPPED_IDLE.mkdir(mode=0o755, exist_ok=True)
    write_file(places.STOPPED_IDLE / user, json.dumps(vars(stopped)) + "\n")


def stopped(user: str) -> Stopped | None:
    """What is noted of the user's container; None if it wasn't stopped, or is up again."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        fields: Mapping[str, float] = json.loads(read_text(places.STOPPED_IDLE / user) or "{}")
        return Stopped(float(fields["at"]), float(fields["unused"]))
    return None


def stopped_containers(view: View) -> tuple[IdleContainer, ...]:
    """Those that were stopped and have not been started since, for the page."""
    from state.wire.server_load import IdleContainer  # third-party packages

    found = ((user, stopped(user)) for user in sorted(view.residents))
    return tuple(IdleContainer(user, each.at) for user, each in found if each is not None)


def in_words(stopped: Stopped) -> str:
    """Why the container is down, for its user."""
    days = int(stopped.unused // DAY)
    return (
        f"Nobody had used your container for {days} day{'s' * (days != 1)}, so it was stopped on "
        f"{moment_in_zone(stopped.at)}, as two mails had said. Its files are as they were."
    )


def forget_stopped(user: str) -> None:
    """It starts."""
    (places.STOPPED_IDLE / user).unlink(missing_ok=True)
