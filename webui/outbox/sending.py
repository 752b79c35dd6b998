"""Makes letters of servers' notices, sends them, and tells the servers: a thread for each.

Listeners only note the notices in memory, so that no page and no listener waits for a disk or a
mail server. Until a letter is on disk, its notice is still in the server's own file.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from threading import Event

from state.errors import LxcGpuError
from state.model.documents import State
from state.wire.notices import MOST_TOLD, Notice
from webui import background, events
from webui.config import MailConfig, WebConfig
from webui.events import Code
from webui.monitor.heard.latest import LastHeard
from webui.outbox import alerts, plan, webhook
from webui.outbox.alert_store import AlertLetter, AlertStore
from webui.outbox.letter_store import LetterStatus, Message, Outbox, Way
from webui.outbox.letters import UNSTOPPABLE, Letter, email
from webui.outbox.mail_preferences import MailPreferences
from webui.outbox.plan import Recipients
from webui.outbox.smtp import Conversation, LetterRefusedError, MailDownError, talking
from webui.servers.board import ServerStanding

log = logging.getLogger(__name__)

LOOK_EVERY = 3.0
"""Seconds."""
FIRST_PAUSE, LONGEST_PAUSE = 10.0, 1800.0
"""Seconds until a mail server, a webhook or a server that failed is tried again."""
FRESH = 120.0
"""Seconds for which a server's notices count as present ones."""
ALERTS_EVERY = 30.0
MOST_AT_ONCE = 100
"""Letters in one conversation, and notices in one message to a server."""


@dataclass(frozen=True)
class FleetAccess:
    """The parts of the page that letters are made from."""

    state: Callable[[], State]
    addresses: Callable[[], Mapping[str, str] | None]
    """By user; None if they aren't known yet."""
    seen: Callable[[], Mapping[str, LastHeard]]
    standings: Callable[[], Mapping[str, ServerStanding]]
    tell: Callable[[str, Sequence[str]], None]
    """Tells the named server which notices were accepted. LxcGpuError if it can't be told."""


class Pauses:
    """Remembers what failed and when to try it again, each time later."""

    def __init__(self) -> None:
        self._after: dict[str, tuple[float, float]] = {}

    def may(self, name: str, now: float) -> bool:
        """Whether to try `name` now."""
        due, pause = self._after.get(name, (0.0, 0.0))
        return now >= due or due - now > pause  # a clock that was set back

    def failed(self, name: str, now: float) -> None:
        """Note one more failure of `name`."""
        _, before = self._after.get(name, (0.0, 0.0))
        pause = min(max(FIRST_PAUSE, 2 * before), LONGEST_PAUSE)
        self._after[name] = (now + pause, pause)

    def worked(self, name: str) -> None:
        """Note that `name` works."""
        self._after.pop(name, None)


class Sending:
    """Sends all mail and all messages to the webhook."""

    def __init__(
        self,
        config: WebConfig,
        fleet: FleetAccess,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._fleet, self._clock, self._ticks = config, fleet, clock, ticks
        folder = config.outbox_path
        self.preferences = MailPreferences(folder / "wishes.json")
        self._outbox = Outbox(folder / "letters")
        self._alert_store = AlertStore(folder / "alerts.json", config.public_url)
        self._heard: dict[str, tuple[float, tuple[Notice, ...]]] = {}
        self._waits: dict[str, float] = {}
        """Since when each letter waits, in ticks. A restart begins anew."""
        self._pauses = Pauses()
        self._looked = 0.0
        self._stop = Event()

    def heard(self, server: str, notices: tuple[Notice, ...]) -> None:
        """Note the present notices of `server`. This takes no time."""
        self._heard[server] = (self._clock(), notices)

    def addresses(self) -> Mapping[str, str] | None:
        """Mail addresses by user; None if they aren't known yet."""
        return self._fleet.addresses()

    def watch(self) -> None:
        """Send in the background until `stop`, if mail or a webhook is configured."""
        if self._config.mail is None and self._config.webhook is None:
            return
        for name, work in (
            ("letters", self.take),
            ("alerts", self.alert),
            ("mail", self.mail),
            ("webhook", self.hook),
            ("told", self.tell),
        ):
            background.every(LOOK_EVERY, name, work, self._stop)

    def stop(self) -> None:
        """End `watch`."""
        self._stop.set()

    def take(self) -> None:
        """Make letters of the servers' present notices; drop letters that are out of date."""
        now = self._clock()
        self._outbox.save()
        said = self._said(now)
        open_ = {plan.ident(server, n) for server, notices in said.items() for n in notices}
        self._outbox.forget_old(now, lambda m: m.id in open_ or self._is_asked_for(m))
        waiting = [m.id for m in self._outbox.all() if m.standing is LetterStatus.WAITS]
        self._waits = {ident: self._waits.get(ident, self._ticks()) for ident in waiting}
        for message in self._outbox.all():
            if self._outbox.get(message.id) != message:  # it was just sent
                continue
            if plan.over(message, said, MOST_TOLD):
                self._outbox.remove(message.id)
            elif plan.is_given_up(message, self._waited(message.id)):
                self._outbox.put(replace(message, standing=LetterStatus.GIVEN_UP))
                self._tell_journal(Code.MAIL_GIVEN_UP, message)
        people = self._people()
        if people is None or self._config.mail is None:
            return
        for server, notices in said.items():
            if not notices:
                continue
            kept, url = self._outbox.all(), self._config.public_url
            for message in plan.made(server, notices, people, kept, url, now):
                self._outbox.put(message)
        self.preferences.check()

    def _waited(self, ident: str) -> float:
        ticks = self._ticks()
        return ticks - self._waits.get(ident, ticks)

    def _is_asked_for(self, message: Message) -> bool:
        """Whether the letter would be sent again if it were forgotten."""
        if message.standing is LetterStatus.ACCEPTED:
            return message.server in self._fleet.state().servers
        with suppress(OSError):
            self._alert_store.said()  # `newest` is read with it
        newest = self._alert_store.newest
        return newest is not None and message.id.startswith(f"{newest.id}.")

    def alert(self) -> None:
        """Look for trouble with the servers, and for trouble that is over."""
        now = self._clock()
        if 0 <= now - self._looked < ALERTS_EVERY:
            return
        self._looked = now
        servers = self._fleet.state().servers.keys()
        said = self._alert_store.said()
        self._address(self._alert_store.newest, now)
        sight = alerts.look(servers, self._fleet.seen(), self._fleet.standings(), said)
        self._alert_store.look(sight, servers, now)
        self._address(self._alert_store.newest, now)

    def _address(self, newest: AlertLetter | None, now: float) -> None:
        """Put the letter into the outbox for each sysadmin, unless it is there."""
        if newest is None or now - newest.at >= plan.GIVEN_UP:
            return
        ways = [(Way.MAIL, to) for to in self._config.mail.sysadmins] if self._config.mail else []
        ways += [(Way.WEBHOOK, "")] if self._config.webhook else []
        for number, (way, to) in enumerate(ways):
            ident = f"{newest.id}.{number}"
            if self._outbox.get(ident) is None:
                said = newest.letter
                self._outbox.put(Message(ident, way, to, said.subject, said.text, newest.at))

    def mail(self) -> None:
        """Send the mail that is due. LxcGpuError if the mail server is down."""
        config, now = self._config.mail, self._clock()
        if config is None or not self._pauses.may("mail", now):
            return
        going = list(islice(self._going(config, now), MOST_AT_ONCE))
        if not going:
            return
        try:
            with talking(config) as conversation:
                for message, to in going:
                    self._deliver(conversation, config, message, to)
        except MailDownError:
            self._pauses.failed("mail", self._clock())
            raise
        self._pauses.worked("mail")

    def _going(self, config: MailConfig, now: float) -> Iterator[tuple[Message, str]]:
        """The mail that is due, with addresses. Letters that aren't wanted any more are dropped."""
        people = self._people()
        for message in plan.due(self._outbox.all(), config, now):
            if not self._outbox.is_saved(message.id):
                continue
            if not message.notice:
                if message.to in config.sysadmins:
                    yield message, message.to
            elif people is not None:
                if people.want(message.to, message.kind):
                    yield message, people.addresses[message.to]
                else:
                    self._outbox.remove(message.id)

    def _deliver(
        self, conversation: Conversation, config: MailConfig, message: Message, to: str
    ) -> None:
        url = self._config.public_url
        stops = message.notice and message.kind not in UNSTOPPABLE
        stop = f"{url}/user/{message.to}/mail" if stops else ""
        said = Letter(message.subject, message.text)
        made = (said, message.id, message.made, config.sender, to, url, stop)
        try:
            letter = email(*made).as_bytes()
        except Exception as error:  # a strange address must not stop the other letters
            self._refused(message, f"it can't be made a letter: {error!r}"[:300], for_good=True)
            return
        try:
            conversation.deliver(letter, to)
        except LetterRefusedError as error:
            self._refused(message, error.message, for_good=error.for_good)
            return
        except MailDownError:
            for each in plan.cut_off(message, self._outbox.all(), self._clock()):
                self._outbox.put(each)
            raise
        self._outbox.put(plan.accepted(message, self._clock()))
        self._tell_journal(Code.MAILED, message)

    def _refused(self, message: Message, why: str, *, for_good: bool) -> None:
        self._outbox.put(plan.failed(message, self._clock(), for_good=for_good))
        self._tell_journal(Code.MAIL_REFUSED, message, details=why)

    def hook(self) -> None:
        """Send the waiting letters to the webhook. LxcGpuError if it fails."""
        config, now = self._config.webhook, self._clock()
        if config is None or not self._pauses.may("webhook", now):
            return
        for message in self._outbox.all():
            if message.way is not Way.WEBHOOK or message.standing is not LetterStatus.WAITS:
                continue
            try:
                webhook.post(config, f"{message.subject}\n\n{message.text}")
            except LxcGpuError:
                self._pauses.failed("webhook", self._clock())
                raise
            self._pauses.worked("webhook")
            self._outbox.put(plan.accepted(message, self._clock()))
            self._tell_journal(Code.MAILED, message)

    def tell(self) -> None:
        """Tell servers which notices were accepted. LxcGpuError, at the end, if one fails."""
        now, trouble = self._clock(), None
        said = self._said(now)
        for server, messages in plan.to_tell(self._outbox.all(), said).items():
            messages = [m for m in messages if self._outbox.is_saved(m.id)][:MOST_AT_ONCE]
            name = f"told {server}"
            if not messages or server not in said or not self._pauses.may(name, now):
                continue
            try:
                self._fleet.tell(server, [message.notice for message in messages])
            except LxcGpuError as error:
                self._pauses.failed(name, self._clock())
                trouble = error
                continue
            self._pauses.worked(name)
            for message in messages:
                self._outbox.put(replace(message, standing=LetterStatus.DONE))
        if trouble is not None:
            raise trouble

    def _said(self, now: float) -> dict[str, tuple[Notice, ...]]:
        """The notices of each server that was heard lately."""
        return {
            server: notices
            for server, (at, notices) in dict(self._heard).items()
            if abs(now - at) < FRESH
        }

    def _people(self) -> Recipients | None:
        """The people who can get letters; None until their addresses are known."""
        addresses = self._fleet.addresses()
        if addresses is None:
            return None
        return Recipients(self._fleet.state(), addresses, self.preferences.stopped_or_all)

    def _tell_journal(self, code: Code, message: Message, **more: object) -> None:
        to = message.to or "webhook"
        events.info(log, code, to=to, letter=message.id, subject=message.subject, **more)
