"""Looks up all users in the directory from time to time, in the background."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event

from state.edits.many_users import disable_all, follow_names
from state.errors import LxcGpuError
from state.git.commits import Author
from state.model.documents import State, User
from webui import events
from webui.background import every
from webui.clone.source import StateSource
from webui.config import is_mail_address
from webui.directory.lookup import LookupResult
from webui.directory.vanished import Decision, Gone, VanishedRule, decide
from webui.events import Code

log = logging.getLogger(__name__)

IAM = Author("IAM", "directory@iam.invalid")
"""The author of automatic commits. Only this module commits under this name."""
_NOTE = "Gone from the directory in {} refreshes, one after the other (disable_vanished)."

LookUp = Callable[[Mapping[str, User]], Mapping[str, LookupResult]]


@dataclass(frozen=True)
class RefreshNews:
    """What sysadmins should know about the last refresh."""

    gone: tuple[Gone, ...] = ()
    held: str = ""


class Refresher:
    """Compares the state's users with the directory, and follows what changed there."""

    def __init__(
        self,
        source: StateSource,
        look_up: LookUp,
        rule: VanishedRule,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._look_up = look_up
        self._rule = rule
        self._clock = clock
        self._last = Decision()
        self._addresses: Mapping[str, str] | None = None
        self._stop = Event()

    def news(self, state: State) -> RefreshNews:
        """The present users who are gone from the directory."""
        gone = tuple(each for name, each in sorted(self._last.gone.items()) if name in state.users)
        return RefreshNews(gone, self._last.held if gone else "")

    def addresses(self) -> Mapping[str, str] | None:
        """Mail addresses of the users that have one; None before the first refresh."""
        return self._addresses

    def met(self, user: str, mail: str) -> None:
        """Note the address that the directory gave for `user` when they logged in."""
        if self._addresses is not None and is_mail_address(mail):
            self._addresses = {**self._addresses, user: mail}

    def disabled(self, name: str) -> bool:
        """Whether the newest change of the former user `name` was made by the rule."""
        latest = self._source.history(f"former/{name}.yaml", limit=1)
        return any(commit.email == IAM.email for commit in latest)

    def watch(self, seconds: float) -> None:
        """Refresh now and every `seconds`, in the background, until `stop`."""
        every(seconds, "directory", self.refresh, self._stop)

    def stop(self) -> None:
        """End `watch`."""
        self._stop.set()

    def refresh(self) -> None:
        """Look all users up once. A failed refresh changes nothing, and isn't counted."""
        began = time.monotonic()
        try:
            users = self._source.newest().state.users
            found = self._look_up(users)
            self._addresses = {
                name: each.mail
                for name, each in found.items()
                if not each.gone and is_mail_address(each.mail)
            }
            before, decision = (
                self._last,
                decide(users, found, self._last.gone, self._rule, self._clock()),
            )
            self._last = decision
            _tell(before, decision)
            self._follow(decision)
        except LxcGpuError as error:
            events.warning(
                log, Code.DIRECTORY_FAILED, code=error.code, details=error.details or error.message
            )
            return
        said = {"users": len(users), "gone": len(decision.gone)}
        seconds = f"{time.monotonic() - began:.1f}"
        events.info(log, Code.DIRECTORY_REFRESHED, **said, seconds=seconds)

    def _follow(self, decision: Decision) -> None:
        if decision.renamed:
            committed = self._source.publish(follow_names(decision.renamed), IAM)
            if committed.changed:
                users = ",".join(decision.renamed)
                revision = committed.revision
                events.info(log, Code.NAMES_FOLLOWED, users=users, revision=revision)
        if decision.disable:
            note = _NOTE.format(self._rule.after)
            revision = self._source.publish(disable_all(decision.disable, note), IAM).revision
            events.warning(log, Code.DISABLED, users=",".join(decision.disable), revision=revision)


def _tell(before: Decision, now: Decision) -> None:
    for name, each in now.gone.items():
        if name not in before.gone:
            events.warning(log, Code.GONE, user=name, why=each.why)
    for name in before.gone.keys() - now.gone.keys():
        events.info(log, Code.BACK, user=name)
    if now.held and now.held != before.held:
        events.warning(log, Code.NOT_DISABLED, users=",".join(now.gone), why=now.held)
