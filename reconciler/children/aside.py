"""Asks what may hang for ever in the kernel: in a child, over a pipe, with a time limit.

A child that doesn't answer is killed. One that can't be killed (D state) is left behind: it holds
nothing of ours, no lock above all. Another one is tried after a pause that grows, and none while
so many are left behind, by this program or by earlier ones, that more would only pile up.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from reconciler.children.forked import keep_only

PAUSES = (10.0, 30.0, 60.0, 300.0)
"""Seconds until the next try, after the first failure in a row, the second, ..."""
Work = Callable[[Any], Any]
"""From a question to its answer, both plain JSON; it may keep what it opened."""
_SOON = 0.2
"""Seconds in which a child that was killed is usually gone."""


class SilentError(Exception):
    """No answer within the time limit, or too many children hang already."""


class EndedError(Exception):
    """The child ended instead of answering; says why, if it could."""


@dataclass
class _Child:
    pid: int
    questions: int
    answers: int
    raw: bytes = b""

    def close(self) -> None:
        os.close(self.questions)
        os.close(self.answers)


class Aside:
    """One child at most that works, started when it is first asked."""

    def __init__(
        self,
        name: str,
        work: Work,
        patience: float,
        *,
        first: float | None = None,
        pauses: Sequence[float] = PAUSES,
        most_left: int = 2,
    ) -> None:
        """`name`, of up to 15 letters, is the child's own. Times are in seconds.

        `patience` is for an answer, `first` for the first one of a child. With `most_left` children
        that hang, no other one is started.
        """
        self._name = name
        self._work = work
        self._patience, self._first = patience, first or patience
        self._pauses, self._most_left = pauses, most_left
        self._child: _Child | None = None
        self._left = list[int]()
        self._asked: float | None = None
        self.has_answered = False
        """Whether this child did so at least once."""
        self._failures = 0
        self._rest_until = 0.0

    @property
    def waits(self) -> bool:
        """Whether an answer is still to come."""
        return self._asked is not None

    @property
    def rests(self) -> bool:
        """Whether the pause after a failure isn't over."""
        return time.monotonic() < self._rest_until

    def ask(self, question: Any) -> bool:
        """Ask, unless an answer is still to come or a pause isn't over.

        SilentError if so many children hang that none is started, EndedError if none
        can be.
        """
        self._reap()
        if self.waits or self.rests:
            return False
        if self._child is None:
            if self._hanging() >= self._most_left:
                self.failed()
                raise SilentError
            try:
                self._child = self._started()
            except OSError as error:
                self.failed()
                raise EndedError(str(error)) from error
            self.has_answered = False
        self._asked = time.monotonic()
        with suppress(BrokenPipeError):  # then there is no answer either
            os.write(self._child.questions, json.dumps(question).encode() + b"\n")
        return True

    def answer(self, seconds: float = 0.0) -> Any:
        """The answer, if it comes within `seconds`; None: not yet, or nothing was asked.

        SilentError once the patience is over; EndedError if the child ended. A pause follows both.
        """
        child, asked = self._child, self._asked
        if child is None or asked is None:
            return None
        given_up = asked + (self._patience if self.has_answered else self._first)
        until = min(given_up, time.monotonic() + seconds)
        while b"\n" not in child.raw:
            if not _readable(child.answers, until - time.monotonic()):
                if time.monotonic() < given_up:
                    return None
                self.failed()
                raise SilentError
            chunk = os.read(child.answers, 1 << 16)
            if not chunk:
                self.failed()
                raise EndedError("it gave no reason")
            child.raw += chunk
        line, _, child.raw = child.raw.partition(b"\n")
        self._asked = None
        fields = json.loads(line)
        if "failed" in fields:
            self.failed()
            raise EndedError(fields["failed"])
        self.has_answered = True
        return fields["answer"]

    def succeeded(self) -> None:
        """The answer was good: the next failure is the first one."""
        self._failures = 0

    def failed(self) -> None:
        """The answer was none: another child, after a pause."""
        self.let_go()
        pause = self._pauses[min(self._failures, len(self._pauses) - 1)]
        self._failures += 1
        self._rest_until = time.monotonic() + pause

    def forgive(self) -> None:
        """The world has changed: let the child go, and don't rest."""
        self.let_go()
        self._failures, self._rest_until = 0, 0.0

    def let_go(self) -> None:
        """End the child, if there is one, and with it whatever it has open."""
        if self._child is None:
            return
        os.kill(self._child.pid, signal.SIGKILL)
        self._child.close()
        self._left.append(self._child.pid)
        self._child, self._asked = None, None
        until = time.monotonic() + _SOON
        while self._reap() and time.monotonic() < until:
            time.sleep(0.005)

    def _reap(self) -> bool:
        """Wait for those that have ended; whether some have not."""
        self._left = [pid for pid in self._left if not _gone(pid)]
        return bool(self._left)

    def _hanging(self) -> int:
        return len(self._left) + sum(1 for _ in orphans(self._name))

    def _started(self) -> _Child:
        with ExitStack() as unless_kept:
            asked, questions = _pipe(unless_kept)
            answers, answering = _pipe(unless_kept)
            pid = os.fork()
            if pid == 0:
                _serve(self._name, self._work, asked, answering)
            unless_kept.pop_all()
        os.close(asked)
        os.close(answering)
        return _Child(pid, questions, answers)


def _pipe(unless_kept: ExitStack) -> tuple[int, int]:
    both = os.pipe2(os.O_CLOEXEC)
    for each in both:
        unless_kept.callback(os.close, each)
    return both


def _gone(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


def orphans(name: str, proc: Path = Path("/proc")) -> Iterator[int]:
    """Our own children by that name whose parent has ended, and who couldn't."""
    return (pid for pid, parent in of_our_account(name, proc) if parent == 1)


def of_our_account(name: str, proc: Path = Path("/proc")) -> Iterator[tuple[int, int]]:
    """This account's programs by that name, and the parent of each."""
    uid = os.geteuid()
    for folder in proc.iterdir():
        with suppress(OSError, ValueError):
            if folder.name.isdigit() and folder.stat().st_uid == uid:
                comm, _, rest = (folder / "stat").read_bytes().partition(b"(")[2].rpartition(b")")
                if comm == name.encode():
                    yield int(folder.name), int(rest.split()[1])


def like_this() -> int:
    """How many programs by this one's name this account has under way, this one included."""
    name = Path("/proc/self/comm").read_text().removesuffix("\n")
    return sum(1 for _ in of_our_account(name))


def _readable(descriptor: int, seconds: float) -> bool:
    poll = select.poll()  # select(2) takes no descriptors above 1023
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def _serve(name: str, work: Work, asked: int, answering: int) -> NoReturn:
    with suppress(BaseException):
        keep_only([asked, answering])
        Path("/proc/self/comm").write_text(name)
        with os.fdopen(asked, "rb") as questions, os.fdopen(answering, "wb") as answers:
            for line in questions:
                try:
                    told = {"answer": work(json.loads(line))}
                except Exception as error:
                    told = {"failed": f"{type(error).__name__}: {error}"}
                answers.write(json.dumps(told).encode() + b"\n")
                answers.flush()
    os._exit(0)
