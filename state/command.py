"""The one way to run another program.

Argument lists only, never a shell string; a fixed locale, standard input closed unless given, a
time limit always. What fails is raised with the command in a form that can be pasted.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from state.errors import LxcGpuError, Remedy

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KEPT = 4000
"""Letters of what a program printed that are kept in the details of a time-out: the last ones."""


@dataclass(frozen=True)
class Finished:
    """What a program left behind. Output is text; bytes that aren't UTF-8 are escaped."""

    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether it ended with status 0."""
        return self.status == 0


class CommandError(LxcGpuError):
    """A program ended with another status than 0, ran too long or could not be started."""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment that programs get: a fixed locale and path, HOME, and `extra`."""
    base = {"LC_ALL": "C.UTF-8", "PATH": SEARCH_PATH, "HOME": os.environ.get("HOME", "/")}
    return {**base, **(extra or {})}


def take_environment() -> None:
    """Have this process go by `environment()`, as if it were a program that was started."""
    taken = environment()
    os.environ.clear()
    os.environ.update(taken)
    time.tzset()


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 60,
    check: bool = True,
) -> Finished:
    """Run `argv` to its end and return what it printed.

    `env` is added to `environment()`; `timeout` is in seconds. With `check`, any status but 0
    raises CommandError, as do a time-out and a program that can't be started, always. What it
    started and left behind must not hold its output: the end of that is waited for, too.
    """
    words = tuple(str(word) for word in argv)
    given = stdin.encode() if isinstance(stdin, str) else stdin
    try:
        with subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(env),
            cwd=cwd,
        ) as child:
            try:
                stdout, stderr = child.communicate(given, timeout)
            except subprocess.TimeoutExpired as error:
                status = child.poll()
                said = (error.stdout or b"") + (error.stderr or b"") or _closed(child)
                raise too_late(words, timeout, _text(said), status) from error
            finally:
                child.kill()  # nothing if it has ended
    except OSError as error:
        message = f"`{words[0]}` could not be started: {error.strerror}."
        raise CommandError("command-missing", message, details=pasteable(words)) from error
    finished = Finished(words, child.returncode, _text(stdout), _text(stderr))
    if check and not finished.ok:
        raise failure(finished)
    return finished


def _closed(child: subprocess.Popen[bytes]) -> bytes:
    """What a program has printed that closed its output and went on; it is killed."""
    child.kill()
    with suppress(subprocess.TimeoutExpired):  # somebody else has the output open
        return b"".join(child.communicate(timeout=0.1))
    return b""


def too_late(
    argv: Sequence[str], seconds: float, said: str = "", status: int | None = None
) -> CommandError:
    """The error for a program that was ended, because it took longer than that.

    `said`: what it had printed until then. `status`: with which it had ended all the same, while
    its output was still open.
    """
    message = f"`{argv[0]}` did not end within {seconds:g} s."
    if status is not None:
        message = f"`{argv[0]}` ended with status {status}, but what it started did not "
        message += f"close its output within {seconds:g} s."
    last = said.strip()[-KEPT:] or "it had printed nothing"
    details = f"{pasteable(argv)}\n{last}"
    return CommandError("command-timeout", message, remedy=Remedy.WAIT, details=details)


def failure(finished: Finished) -> CommandError:
    """The error that says what `finished` printed last, and how to run it again."""
    last = (finished.stderr.strip() or finished.stdout.strip() or "it printed nothing").splitlines()
    return CommandError(
        "command-failed",
        f"`{finished.argv[0]}` failed with status {finished.status}: {last[-1]}",
        details=f"{pasteable(finished.argv)}\n{finished.stderr.strip()}",
    )


@contextmanager
def started(
    argv: Sequence[str | Path],
    *,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.PIPE,
    stderr: int | IO[bytes] | None = subprocess.PIPE,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    family: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start `argv` for streaming; it is ended, and waited for, when the block is left.

    With `family`, it and all its children are killed at once (SIGKILL; setpgid(2), killpg(3)).
    """
    words = [str(word) for word in argv]
    with subprocess.Popen(
        words,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=environment(env),
        cwd=cwd,
        process_group=0 if family else None,
    ) as child:
        try:
            yield child
        finally:
            if family and child.returncode is None:  # until it is waited for, the group is its own
                os.killpg(child.pid, signal.SIGKILL)
            elif child.poll() is None:
                child.terminate()


def pasteable(argv: Sequence[str]) -> str:
    """`argv` as a line that a person can paste into a shell."""
    return shlex.join(argv)


def _text(output: bytes) -> str:
    return output.decode("utf-8", "backslashreplace")
