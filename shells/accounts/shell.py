"""`shell`: passes bytes between the asker and a program in their container.

Runs as the user. The asker's terminal stays here, in raw mode; the program has another one, of the
container's own, of which this is the outer end. What is typed is the program's from the first
letter to the last: nothing here reads it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import signal
import socket
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from shells.helper.client import ask
from shells.helper.request import Request
from shells.terminal import Terminal
from shells.usage import Verb
from state.errors import LxcGpuError
from state.wire.messages import Answer
from state.words import printable

LONGEST = 50_000
"""Bytes of a command, as it is sent."""
AT_ONCE = 1 << 16
"""Bytes that are read at a time, at most."""
LINGER = 500
"""Milliseconds without a word after which the output of a program that has ended is over: what it
left running in the background may hold it open forever."""
_SHELL = re.compile(r"\s*shell(?:\s(.*))?", re.DOTALL)
_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,39}", re.ASCII)
_UNKNOWN_TERMINAL = "dumb"


def command_in(request: str) -> str | None:
    """What `shell` is to run, as it was typed, quotes and all; None of another request. Pure.

    Empty: a shell.
    """
    found = _SHELL.fullmatch(request)
    return None if found is None else (found[1] or "").strip()


def shell(command: str, terminal: Terminal) -> int:
    """Run `command` in the container, or a shell; its exit status."""
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    if not (command or interactive):
        terminal.note(
            "No terminal: what comes is run line by line. To type yourself: "
            "ssh -t SERVER-manage shell"
        )
    ours, theirs = socket.socketpair()
    kind = os.environ.get("TERM", "")
    said = {
        "command": command,
        "terminal": (kind if _TERM.fullmatch(kind) else _UNKNOWN_TERMINAL) if interactive else "",
    }
    line = json.dumps(said).encode() + b"\n"
    if len(line) > LONGEST:
        raise LxcGpuError(
            "too-long", "That is too long to be a command.", "Send it: `shell sh <FILE`."
        )
    ours.sendall(line)  # nobody reads yet: it has to fit in between
    asking = _Asking(theirs, terminal)
    asking.start()
    if streams := asking.streams(ours):
        if interactive:
            with _raw(streams[0]):
                _pass_on(ours, asking, streams[0], {streams[0]: sys.stdout.fileno()})
        else:
            source, output, errors = streams
            out = {output: sys.stdout.fileno(), errors: sys.stderr.fileno()}
            _pass_on(ours, asking, source, out)
    return asking.status()


class _Asking(threading.Thread):
    """The conversation with the root helper: it ends when the program has."""

    def __init__(self, lent: socket.socket, terminal: Terminal) -> None:
        super().__init__(daemon=True)
        self._lent, self._terminal = lent, terminal
        self.over, self._telling = os.pipe()
        """`over` is readable when the conversation is over."""
        self._answer: object = None

    def run(self) -> None:
        """Ask, and keep the answer or the error."""
        try:
            self._answer = ask(Request(Verb.SHELL), self._terminal.progress, self._lent.fileno())
        except Exception as error:
            self._answer = error
        os.close(self._telling)

    def streams(self, ends: socket.socket) -> list[int]:
        """The ends of the program's streams; none if the conversation is over before."""
        ready, _, _ = select.select([ends.fileno(), self.over], [], [])
        if ends.fileno() not in ready:
            return []
        said, streams, _, _ = socket.recv_fds(ends, AT_ONCE, 3)
        self._lent.close()
        if not streams:
            self._terminal.note(f"Your container can't be entered: {_printable(said)}")
        return streams

    def status(self) -> int:
        """The program's exit status. LxcGpuError if it couldn't be begun."""
        self.join()
        if isinstance(self._answer, Exception):
            raise self._answer
        return int(self._answer.facts["status"]) if isinstance(self._answer, Answer) else 1


def _printable(said: bytes) -> str:
    return printable(said.decode("utf-8", "replace"), "")


@contextmanager
def _raw(inner: int) -> Iterator[None]:
    """The asker's terminal in raw mode; the inner one takes its modes and follows its size."""
    outer = sys.stdin.fileno()
    modes = termios.tcgetattr(outer)

    def follow(*_: object) -> None:
        with suppress(OSError):
            size = fcntl.ioctl(outer, termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(inner, termios.TIOCSWINSZ, size)

    termios.tcsetattr(inner, termios.TCSANOW, modes)
    before = signal.signal(signal.SIGWINCH, follow)
    follow()
    tty.setraw(outer, termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(outer, termios.TCSANOW, modes)
        signal.signal(signal.SIGWINCH, before)


def _pass_on(ends: socket.socket, asking: _Asking, source: int, out: dict[int, int]) -> None:
    """Until the program has ended and all was passed on, or nobody is there who listens."""
    over = threading.Event()
    copying = [
        threading.Thread(target=_copy, args=(inner, outer, over), daemon=True)
        for inner, outer in out.items()
    ]
    typing = threading.Thread(
        target=_type, args=(sys.stdin.fileno(), source, source not in out), daemon=True
    )
    for thread in (*copying, typing):
        thread.start()
    ends.sendall(b"g")
    poll = select.poll()
    poll.register(asking.over, select.POLLIN)
    for outer in out.values():
        poll.register(outer, 0)  # told without being asked: whoever listened has gone
    ready = [descriptor for descriptor, _ in poll.poll()]
    if asking.over not in ready:
        os._exit(1)
    over.set()
    for thread in copying:
        thread.join()


def _copy(source: int, target: int, over: threading.Event) -> None:
    poll = select.poll()
    poll.register(source, select.POLLIN)
    with suppress(OSError):  # of a terminal, that it has ended
        while True:
            if not poll.poll(LINGER):
                if over.is_set():
                    return
            elif not _passed(source, target):
                return


def _type(source: int, target: int, and_close: bool) -> None:
    """What the asker says; its end is passed on, where that can be told."""
    with suppress(OSError):
        while _passed(source, target):
            pass
    if and_close:
        os.close(target)


def _passed(source: int, target: int) -> bool:
    """Pass on what there is; False at the end."""
    left = memoryview(os.read(source, AT_ONCE))
    more = bool(left)
    while left:
        left = left[os.write(target, left) :]
    return more
