"""Guessing passwords, slowed down: a pure core that is told the time.

Every try is counted before the directory is asked, so that many at once don't slip through, and
the login's count is forgotten when the password was right. The count of a source address is not:
somebody's own right password must not buy more guesses at other people's.

A person may go by several logins: all of them count for the person whom the directory finds, too.
These counts are apart, since a wait of a login that was never typed before would tell who has it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from webui.directory.logins import folded, read


@dataclass(frozen=True)
class Backoff:
    """How tries are slowed down: `free` ones, then 1 s, 2 s, 4 s... apart, up to `longest`."""

    free: int
    longest: float

    def delay(self, tries: int) -> float:
        """Seconds that must pass after the latest of `tries`."""
        over = tries - self.free
        return 0.0 if over < 0 else min(self.longest, 2.0 ** min(over, 30))


@dataclass(frozen=True)
class Tries:
    """How many there were, and when the latest was."""

    count: int
    latest: float


LOGIN_PACE = Backoff(free=4, longest=60)
"""A minute at the most: nobody locks a colleague out for long."""

SOURCE_PACE = Backoff(free=20, longest=300)
"""More free tries: a whole laboratory may sit behind one address."""


class TryCounter:
    """Tries by name, the least recent forgotten first when there are too many."""

    def __init__(self, pace: Backoff, forget_after: float, most: int) -> None:
        self._pace = pace
        self._forget_after = forget_after
        self._most = most
        self._tries: OrderedDict[str, Tries] = OrderedDict()

    def wait(self, name: str, now: float) -> float:
        """Seconds until `name` may try again; 0 for at once.

        Tries at the same time may come in another order than that of their `now`.
        """
        tries = self._recent(name, now)
        delay = self._pace.delay(tries.count)
        return max(0.0, tries.latest + delay - now) if delay else 0.0

    def count(self, name: str, now: float) -> None:
        """Note one try of `name`."""
        tries = self._recent(name, now)
        self._tries[name] = Tries(tries.count + 1, max(tries.latest, now))
        self._tries.move_to_end(name)
        while len(self._tries) > self._most:
            self._tries.popitem(last=False)

    def forgive(self, name: str) -> None:
        """Forget all tries of `name`."""
        self._tries.pop(name, None)

    def take_back(self, name: str) -> None:
        """Forget the latest try of `name`: it was no wrong guess."""
        tries = self._tries.get(name)
        if tries is not None:
            self._tries[name] = Tries(tries.count - 1, tries.latest)

    def __len__(self) -> int:
        return len(self._tries)

    def _recent(self, name: str, now: float) -> Tries:
        tries = self._tries.get(name)
        if tries is None or now - tries.latest > self._forget_after:
            return Tries(0, now)
        return tries


class Throttle:
    """All ledgers, for many threads."""

    def __init__(self, *, forget_after: float = 900, most: int = 10_000) -> None:
        self._logins = TryCounter(LOGIN_PACE, forget_after, most)
        """As they were typed."""
        self._people = TryCounter(LOGIN_PACE, forget_after, most)
        """As the directory finds them."""
        self._sources = TryCounter(SOURCE_PACE, forget_after, most)
        self._lock = Lock()

    def attempt(self, login: str, source: str, now: float) -> float:
        """0 if this try may go ahead, and it is counted; else the seconds to wait, uncounted."""
        name = _typed(login)
        with self._lock:
            wait = max(self._logins.wait(name, now), self._sources.wait(source, now))
            if wait == 0:
                self._logins.count(name, now)
                self._sources.count(source, now)
            return wait

    def found(self, person: str, now: float) -> float:
        """The same for the person whose login `person` is. `now` is the time of the attempt.

        Whoever has to wait must not be told: it would tell that there is such a person.
        """
        with self._lock:
            wait = self._people.wait(_key(person), now)
            if wait == 0:
                self._people.count(_key(person), now)
            return wait

    def succeeded(self, login: str, source: str, person: str) -> None:
        """This person's password was right. What was typed may mean others, whose tries stay."""
        with self._lock:
            if _key(person) != _typed(login):
                self._logins.take_back(_typed(login))
            self._logins.forgive(_key(person))
            self._people.forgive(_key(person))
            self._sources.take_back(source)

    def no_guess(self, login: str, source: str, person: str = "") -> None:
        """The try says nothing about the password, or it was right, but let nobody in."""
        with self._lock:
            self._logins.take_back(_typed(login))
            self._people.take_back(_key(person))
            self._sources.take_back(source)


def _typed(login: str) -> str:
    """What counts for a login as it was typed: with a domain or without."""
    typed = read(login.strip())
    return _key(login if typed is None else typed.name)


def _key(login: str) -> str:
    """One spelling for one account, of a limited length."""
    return folded(login[:256])
