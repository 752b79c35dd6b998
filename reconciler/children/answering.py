"""Asks questions that may hang forever in the kernel: in a child, with a time limit.

A child that doesn't answer is killed. One that can't be killed (D state) is left behind; it holds
nothing of ours, least of all a lock. Another one is tried after a pause, which grows. None is tried
while too many are left behind, by this program or by earlier ones: more would only pile up.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from reconciler.children.forked import Child, Lines

PAUSES = (10.0, 30.0, 60.0, 300.0)
"""Seconds until the next try, after the first failure in a row, the second, ..."""
Work = Callable[[Any], Any]
"""Makes the answer to a question, both plain JSON; it may keep what it opened."""
_SOON = 0.2
"""Seconds in which a child that was killed is usually gone."""


class SilentError(Exception):
    """No answer within the time limit, or too many children hang already."""


class EndedError(Exception):
    """The child ended instead of answering. The message is its reason, if it gave one."""


class AnsweringChild:
    """Asks one child at a time, which is started with the first question."""

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
        self._child: tuple[Child, Lines] | None = None
        self._left = list[Child]()
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
        with suppress(ConnectionError):  # then there is no answer either
            self._child[1].channel.sendall(json.dumps(question).encode() + b"\n")
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
        line = child[1].next(until - time.monotonic())
        if line is None and time.monotonic() < given_up:
            return None
        if not line:
            self.failed()
            raise SilentError if line is None else EndedError("it gave no reason")
        self._asked = None
        fields = json.loads(line)
        if "failed" in fields:
            self.failed()
            raise EndedError(fields["failed"])
        self.has_answered = True
        return fields["answer"]

    def succeeded(self) -> None:
        """Note that the answer was good: the next failure counts as the first one."""
        self._failures = 0

    def failed(self) -> None:
        """Note that there was no good answer: another child is tried after a pause."""
        self._let_go()
        pause = self._pauses[min(self._failures, len(self._pauses) - 1)]
        self._failures += 1
        self._rest_until = time.monotonic() + pause

    def forgive(self) -> None:
        """Let the child go, and forget its failures: something has changed meanwhile."""
        self._let_go()
        self._failures, self._rest_until = 0, 0.0

    def close(self) -> None:
        """End the child for good: nothing is asked any more. One that hangs is left alone."""
        self._let_go()
        for child in self._left:
            child.leave()
        self._left.clear()

    def _let_go(self) -> None:
        """End the child, if there is one, and with it whatever it has open."""
        if self._child is None:
            return
        child, said = self._child
        self._child, self._asked = None, None
        said.channel.close()
        if not child.kill(_SOON):
            self._left.append(child)

    def _reap(self) -> None:
        """Forget those that have ended meanwhile."""
        self._left = [child for child in self._left if not child.has_ended()]

    def _hanging(self) -> int:
        return len(self._left) + sum(1 for _ in orphans(self._name))

    def _started(self) -> tuple[Child, Lines]:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                child = Child(lambda: _serve(self._name, self._work, theirs), [theirs.fileno()])
            except OSError:
                ours.close()
                raise
        return child, Lines(ours)


def orphans(name: str, proc: Path = Path("/proc")) -> Iterator[int]:
    """Our own children by that name which go on after their parent has ended."""
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


def _serve(name: str, work: Work, channel: socket.socket) -> None:
    """In the child."""
    Path("/proc/self/comm").write_text(name)
    with channel.makefile("rb") as questions:
        for line in questions:
            try:
                told = {"answer": work(json.loads(line))}
            except Exception as error:
                told = {"failed": f"{type(error).__name__}: {error}"}
            channel.sendall(json.dumps(told).encode() + b"\n")
