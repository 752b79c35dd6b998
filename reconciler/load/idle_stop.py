"""Decides when an unused container is stopped: after its user was told twice by mail.

Everything is measured in time without use, as `reconciler.load.idleness` adds it up, so neither a
wrong wall clock nor a mail server that is down shortens it. Without accepted mail nothing is
stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reconciler.host import places
from reconciler.host.in_words import moment_in_zone
from reconciler.load.idleness import DAY, IdleRecord, Unused
from reconciler.notices import store as notices
from state import records
from state.view import View
from state.wire.notices import Facts, NoticeKind
from state.words import plural

if TYPE_CHECKING:
    from state.wire.server_load import IdleContainer

LEAD = 3 * DAY
"""How long before the stop its user is told first, in seconds."""
BETWEEN = DAY
"""The least time without use from one accepted mail to the next, and to the stop, in seconds."""
TWICE = 2


@dataclass(frozen=True)
class IdleAction:
    """What to do about one container."""

    name: bool = False
    """Whether to tell its user that it stands idle."""
    warn: int = 0
    """1 or 2: tell its user, for the first or second time, that it will be stopped; 0: don't."""
    left: float = 0.0
    """Seconds until the stop, if nobody uses it."""
    stop: bool = False
    unsaid: bool = False
    """Whether to withdraw warnings of a stop: by the present policy none is near."""


def step(unused: Unused, warn: int | None, stop: int | None, keep: str) -> IdleAction:
    """What to do about a container, by the days of the server's policy. Pure."""
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
    """Tell users of their idle containers. Return the record with accepted mails, and whom to stop.

    `now`: seconds since the epoch, for the text of mails. LxcGpuError if notices can't be kept.
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
    """The note that a container was stopped because nobody used it."""

    at: float
    """Seconds since the epoch."""
    unused: float
    """Seconds."""


def note_stopped(user: str, stopped: Stopped) -> None:
    """Keep the note for the next start, which shows it."""
    places.STOPPED_IDLE.mkdir(mode=0o755, exist_ok=True)
    records.write(places.STOPPED_IDLE / user, stopped)


def stopped(user: str) -> Stopped | None:
    """The note about the user's container; None if it wasn't stopped, or has started again."""
    return records.read_if_possible(places.STOPPED_IDLE / user, Stopped)


def stopped_containers(view: View) -> tuple[IdleContainer, ...]:
    """The containers that were stopped and have not started since, for the web page."""
    from state.wire.server_load import IdleContainer  # third-party packages

    found = ((user, stopped(user)) for user in sorted(view.residents))
    return tuple(IdleContainer(user, each.at) for user, each in found if each is not None)


def in_words(stopped: Stopped) -> str:
    """Tells the user why the container was stopped."""
    days = int(stopped.unused // DAY)
    return (
        f"Your container was stopped on {moment_in_zone(stopped.at)},\n"
        f"because nobody had used it for {plural(days, 'day')}; two mails had announced it.\n"
        "Its files are unchanged."
    )


def forget_stopped(user: str) -> None:
    """Remove the note: the container starts."""
    (places.STOPPED_IDLE / user).unlink(missing_ok=True)
