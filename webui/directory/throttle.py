"""A brake on guessing passwords.

Every try is counted before the directory is asked, so that parallel tries don't slip through. A
right password clears the count of the login, but not that of the source address: one's own password
must not buy more guesses at other people's.

A person may have several logins, so tries are also counted for the person whom the directory finds.
These counts are separate: if a login that was never typed before had to wait, that would tell whose
it is.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from webui.directory.logins import folded, read


@dataclass(frozen=True)
class Backoff:
    """Pauses between tries: none for the first `free`, then 1, 2, 4... up to `longest` seconds."""

    free: int
    longest: float

    def delay(self, tries: int) -> float:
        """Seconds to wait after the latest of `tries`."""
        over = tries - self.free
        return 0.0 if over < 0 else min(self.longest, 2.0 ** min(over, 30))


@dataclass(frozen=True)
class Tries:
    """The number of tries, and the time of the latest."""

    count: int
    latest: float


LOGIN_PACE = Backoff(free=4, longest=60)
"""At most a minute, so that nobody can lock a colleague out for long."""

SOURCE_PACE = Backoff(free=20, longest=300)
"""More free tries: a whole laboratory may share one address."""


class TryCounter:
    """Counts tries by name. If there are too many names, the least recent is forgotten."""

    def __init__(self, pace: Backoff, forget_after: float, most: int) -> None:
        self._pace = pace
        self._forget_after = forget_after
        self._most = most
        self._tries: OrderedDict[str, Tries] = OrderedDict()

    def wait(self, name: str, now: float) -> float:
        """Seconds until `name` may try again; 0 if it may now.

        Calls of parallel tries may come in another order than their `now`.
        """
        tries = self._recent(name, now)
        delay = self._pace.delay(tries.count)
        return max(0.0, tries.latest + delay - now) if delay else 0.0

    def count(self, name: str, now: float) -> None:
        """Count one try of `name`."""
        tries = self._recent(name, now)
        self._tries[name] = Tries(tries.count + 1, max(tries.latest, now))
        self._tries.move_to_end(name)
        while len(self._tries) > self._most:
            self._tries.popitem(last=False)

    def forgive(self, name: str) -> None:
        """Forget all tries of `name`."""
        self._tries.pop(name, None)

    def take_back(self, name: str) -> None:
        """Uncount the latest try of `name`: it wasn't a wrong guess."""
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
    """All counts. Thread-safe."""

    def __init__(self, *, forget_after: float = 900, most: int = 10_000) -> None:
        self._logins = TryCounter(LOGIN_PACE, forget_after, most)
        """By the login that was typed."""
        self._people = TryCounter(LOGIN_PACE, forget_after, most)
        """By the login of the person whom the directory finds."""
        self._sources = TryCounter(SOURCE_PACE, forget_after, most)
        self._lock = Lock()

    def attempt(self, login: str, source: str, now: float) -> float:
        """Count this try and return 0; or return the seconds to wait, without counting it."""
        name = _typed(login)
        with self._lock:
            wait = max(self._logins.wait(name, now), self._sources.wait(source, now))
            if wait == 0:
                self._logins.count(name, now)
                self._sources.count(source, now)
            return wait

    def found(self, person: str, now: float) -> float:
        """Like `attempt`, for the person whose login in the directory is `person`.

        The answer must not be shown: it would tell that there is such a person.
        """
        with self._lock:
            wait = self._people.wait(_key(person), now)
            if wait == 0:
                self._people.count(_key(person), now)
            return wait

    def succeeded(self, login: str, source: str, person: str) -> None:
        """Clear the counts of `person`, whose password was right; other people's tries stay."""
        with self._lock:
            if _key(person) != _typed(login):
                self._logins.take_back(_typed(login))
            self._logins.forgive(_key(person))
            self._people.forgive(_key(person))
            self._sources.take_back(source)

    def no_guess(self, login: str, source: str, person: str = "") -> None:
        """Uncount a try that didn't test the password, or that was right but not let in."""
        with self._lock:
            self._logins.take_back(_typed(login))
            self._people.take_back(_key(person))
            self._sources.take_back(source)


def _typed(login: str) -> str:
    """The name that is counted for a login, typed with or without its domain."""
    typed = read(login.strip())
    return _key(login if typed is None else typed.name)


def _key(login: str) -> str:
    """One spelling for one account, of a limited length."""
    return folded(login[:256])
