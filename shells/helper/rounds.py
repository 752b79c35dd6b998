"""Rounds that the root helper is asked for.

The round itself is a process of its own, which may end without the helper: that one passes on what
it says. However many ask, only so many rounds run.
"""

from __future__ import annotations

import os
import select
import sys
import time
import traceback
from pathlib import Path
from typing import NoReturn

from reconciler.children.forked import STDERR, keep_only
from reconciler.host.locks import lock, one_of
from reconciler.host.status import read_status
from reconciler.plan import Tell
from state import command
from state.errors import LxcGpuError, Remedy
from state.wire import messages

AT_ONCE = 3
"""Nudges whose rounds run at the same time: a key that was removed doesn't wait for the round that
unpacks somebody's container."""
NAME = "lxc-gpu-round"
"""What `ps` and `pgrep` call it."""
_LOOK_EVERY = 0.2
PATIENCE = 3.0
"""Seconds for the news: the page sends them with the request."""


def reconcile_together(tell: Tell, descriptor: int | None = None) -> messages.Report:
    """The report of a round for everybody that begins after this was asked.

    Beyond `AT_ONCE`, one round waits to begin, and it serves all who asked before it did. So that
    one fetches. The others take the news that stand at `descriptor` (`state.git.news`).
    """
    asked = time.time()
    news = b"" if descriptor is None else _whole(descriptor)
    with one_of("round", AT_ONCE) as free:
        if free:
            return reconcile(tell, news=news)
    tell(messages.Progress("waiting for other rounds to end"))
    with lock("round-waits"):
        while (shared := _of_round_since(asked)) is None:
            with one_of("round", AT_ONCE) as free:
                if free:
                    return reconcile(tell)
            time.sleep(_LOOK_EVERY)
        return shared


def _whole(descriptor: int) -> bytes:
    """What stands there, to its end; nothing if that is too long or doesn't come in time."""
    got, deadline = b"", time.monotonic() + PATIENCE
    while len(got) <= messages.LONGEST_NEWS:
        left = max(0.0, deadline - time.monotonic())
        if not select.select([descriptor], [], [], left)[0]:
            break
        chunk = os.read(descriptor, messages.LONGEST_NEWS)
        if not chunk:
            return got
        got += chunk
    return b""


def _of_round_since(moment: float) -> messages.Report | None:
    """The report of a round for everybody that began after `moment`, and ended.

    One that took news may know less than the repository at that moment.
    """
    last = read_status()
    if last is None or not last.fetched or last.finished - last.seconds <= moment:
        return None
    return last


def reconcile(tell: Tell, only: str | None = None, news: bytes = b"") -> messages.Report:
    """Run a round, for everybody or for one user, and return its report."""
    end: messages.Message | None = None
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _round(writer, ["--user", only] if only else [], news)
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as stream:
            for line in stream:
                end = messages.decode(line)
                if isinstance(end, messages.Progress):
                    tell(end)
    finally:
        os.waitpid(child, 0)
    if isinstance(end, messages.Refusal):
        raise end.error()
    if not isinstance(end, messages.Report):
        raise LxcGpuError(
            "round-died",
            "The round ended without a report.",
            "Sysadmin: `journalctl -t lxc-gpu` says why; the next round will try again.",
            Remedy.RETRY,
        )
    return end


def _round(writer: int, argv: list[str], news: bytes) -> NoReturn:
    """In the child: the round that `argv` asks for, its words to `writer`. Never returns."""
    status = 1
    try:
        keep_only([STDERR, writer])  # no lock of the helper's
        sys.stdout = os.fdopen(writer, "w", encoding="utf-8")
        Path("/proc/self/comm").write_text(NAME)
        command.take_environment()
        from shells.commands.round import main  # much, unless it is loaded already

        status = main(argv, news)
    except ModuleNotFoundError as error:
        print(messages.encode(messages.refusal(_missing(error.name))), end="", flush=True)
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(status)


def _missing(package: str | None) -> LxcGpuError:
    return LxcGpuError(
        "no-packages",
        f"The Python package {package} is missing in /opt/lxc-gpu; perhaps the system was "
        "upgraded, and has another Python now.",
        "Sysadmin: run `setup/gpu-server` again.",
    )
