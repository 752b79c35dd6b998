"""Decides which letters are made of servers' notices, and which are sent now. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from state.model.documents import State
from state.wire.notices import Notice, NoticeKind
from webui.config import MailConfig
from webui.outbox import letters
from webui.outbox.letter_store import LetterStatus, Message, Way

HOUR, DAY = 3600.0, 86400.0
GIVEN_UP, MOST_TRIES = 5 * DAY, 30
"""Seconds and tries after which a letter is given up."""
FIRST_PAUSE, FOR_GOOD_PAUSE, LONGEST_PAUSE = 60.0, HOUR, 6 * HOUR
"""Seconds until a letter is tried again, doubled each time. The second one applies if the mail
server says that it will never take the letter, which may be a mistake."""
MOST_WAITING, MOST_OF_SERVER, MOST_OF_USER = 5000, 1000, 50
"""Waiting letters, at most: of all, of one server, and of one server for one user. Further notices
stay open at their server, and become letters later."""


@dataclass(frozen=True)
class Recipients:
    """The people who can get letters."""

    state: State
    addresses: Mapping[str, str]
    stopped: Callable[[str], Collection[NoticeKind]]
    """The kinds that a user turned off."""

    def want(self, user: str, kind: NoticeKind) -> bool:
        """Whether the user has an address and didn't turn this kind off."""
        if user not in self.state.users or user not in self.addresses:
            return False
        return kind in letters.UNSTOPPABLE or kind not in self.stopped(user)


def ident(server: str, notice: Notice) -> str:
    """The id of the letter that a notice becomes. It is the same each time."""
    return f"{server}.{notice.id}"


def made(
    server: str,
    notices: Iterable[Notice],
    people: Recipients,
    kept: Collection[Message],
    public_url: str,
    now: float,
) -> list[Message]:
    """New letters for the notices of `server`; only its own residents get any."""
    residents = people.state.registrations.get(server, {})
    known = {message.id for message in kept}
    waiting = [message for message in kept if message.standing is LetterStatus.WAITS]
    own = [message for message in waiting if message.server == server]
    of_user = Counter(message.to for message in own)
    room = min(MOST_WAITING - len(waiting), MOST_OF_SERVER - len(own))
    found: list[Message] = []
    for notice in notices:
        user, name = notice.user, ident(server, notice)
        if name in known or user not in residents or notice.kind is NoticeKind.OTHER:
            continue
        if len(found) >= room or of_user[user] >= MOST_OF_USER:
            continue
        if people.want(user, notice.kind):
            said = letters.letter(notice, server, people.state.users, public_url)
            found.append(
                Message(
                    name, Way.MAIL, user, said.subject, said.text, now,
                    server=server, notice=notice.id, kind=notice.kind,
                )
            )  # fmt: skip
            known.add(name)
            of_user[user] += 1
    return found


def over(message: Message, said: Mapping[str, Collection[Notice]], most: int) -> bool:
    """Whether a waiting letter is out of date, because its server no longer gives the notice.

    `said` are the present notices of the servers that are heard. A server with `most` notices may
    have left some out.
    """
    notices = said.get(message.server)
    if message.standing is not LetterStatus.WAITS or not message.notice or notices is None:
        return False
    return len(notices) < most and message.notice not in {notice.id for notice in notices}


def due(kept: Iterable[Message], config: MailConfig, now: float) -> list[Message]:
    """The mail to send now: all alerts, and letters to people within the limits of an hour.

    If several servers have letters, none gets more than half of the limit. So whoever takes a
    server over can't hold up the mail of the others.
    """
    kept = [message for message in kept if message.way is Way.MAIL]
    lately = [m for m in kept if m.accepted and 0 <= now - m.accepted < HOUR]
    of_person = Counter(m.to for m in lately)
    of_server = Counter(m.server for m in lately if m.notice)
    several = len({m.server for m in kept if m.notice}) > 1
    most_of_server = -(-config.most_per_hour // (2 if several else 1))
    found: list[Message] = []
    for message in _in_turn(
        m for m in kept if m.standing is LetterStatus.WAITS and _may_go(m, now)
    ):
        if of_person[message.to] >= config.most_per_person:
            continue
        if message.notice:
            full = of_server.total() >= config.most_per_hour
            if full or of_server[message.server] >= most_of_server:
                continue
            of_server[message.server] += 1
        of_person[message.to] += 1
        found.append(message)
    return found


def _in_turn(waiting: Iterable[Message]) -> list[Message]:
    """Alerts first, then the oldest letter of each server, and so on. Failed ones come last."""
    before = Counter[str]()
    ranked: list[tuple[bool, bool, int, Message]] = []
    for message in sorted(waiting, key=lambda m: (m.tries > 0, m.made)):
        ranked.append((bool(message.notice), message.tries > 0, before[message.server], message))
        before[message.server] += 1
    return [message for *_, message in sorted(ranked, key=lambda r: (*r[:3], r[3].made))]


def _may_go(message: Message, now: float) -> bool:
    return message.due <= now or message.due - now > LONGEST_PAUSE  # a clock that was set back


def is_given_up(message: Message, waited: float) -> bool:
    """Whether a waiting letter is too old to be sent.

    `waited` is in seconds of a monotonic clock, so that no letter is lost if the time is set.
    """
    if message.standing is not LetterStatus.WAITS:
        return False
    return waited >= GIVEN_UP or message.tries >= MOST_TRIES


def failed(message: Message, now: float, *, for_good: bool = False) -> Message:
    """The letter after one more failed try."""
    first = FOR_GOOD_PAUSE if for_good else FIRST_PAUSE
    pause = min(first * 2 ** min(message.tries, 20), LONGEST_PAUSE)
    return replace(message, tries=message.tries + 1, due=now + pause)


def cut_off(message: Message, kept: Iterable[Message], now: float) -> list[Message]:
    """The letter, and others to the same person, after a conversation that broke off.

    The address may be the reason. All of them wait, so that they don't hold up everybody else's.
    """
    waiting = (m for m in kept if m.way is message.way and m.standing is LetterStatus.WAITS)
    return [failed(each, now) for each in waiting if each.to == message.to]


def accepted(message: Message, now: float) -> Message:
    """The letter after it was accepted. Its server, if it has one, isn't told yet."""
    standing = LetterStatus.ACCEPTED if message.notice else LetterStatus.DONE
    return replace(message, standing=standing, tries=message.tries + 1, accepted=now)


def to_tell(
    kept: Iterable[Message], said: Mapping[str, Collection[Notice]]
) -> dict[str, list[Message]]:
    """By server: the letters of which it has to be told that they were accepted.

    A server that was told, but still gives the notice, is told again.
    """
    found: dict[str, list[Message]] = {}
    open_there = {s: {n.id for n in notices} for s, notices in said.items()}
    for message in kept:
        again = message.standing is LetterStatus.DONE and message.notice in open_there.get(
            message.server, ()
        )
        if message.notice and (message.standing is LetterStatus.ACCEPTED or again):
            found.setdefault(message.server, []).append(message)
    return found
