"""The one way to run Git: with a fixed environment and time limits.

What writes runs through GitPython. Importing that takes 60 ms and starts two programs, so what only
reads and what fetches do without it.

Nothing here prompts, runs hooks of our own clone, follows replaced objects, or speaks a protocol
that starts programs; the user's own Git configuration is not read (the system's is: proxies and
certificates stand there).
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from state import command
from state.errors import LxcGpuError, Remedy

LOCAL_LIMIT = 60.0
"""Seconds for what needs no network."""
REMOTE_LIMIT = 60.0
"""Seconds for a fetch or push."""
TOO_LONG = "Timeout: the command"
"""How the errors of a program begin that ran into its limit (GitPython's word)."""
READING = frozenset(
    {
        "cat-file",
        "diff-tree",
        "fetch",
        "ls-tree",
        "merge-base",
        "pack-objects",
        "rev-list",
        "rev-parse",
        "unpack-objects",
    }
)
"""What runs without GitPython. A fetch ends with all that it started."""
SSH = "ssh -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=10"

_SETTINGS = (
    "core.commitGraph=false",  # what a power cut left of it would be believed
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.fsync=all",
    "core.quotePath=false",
    "fetch.fsckObjects=true",
    "gc.autoDetach=false",
    "i18n.commitEncoding=UTF-8",
    "i18n.logOutputEncoding=UTF-8",
    "log.showSignature=false",  # it would print lines between those that are asked for
    "push.recurseSubmodules=no",
    "fetch.recurseSubmodules=no",
)


@dataclass(frozen=True)
class Answered:
    """What Git left behind."""

    status: int
    output: bytes
    errors: str


class GitError(LxcGpuError):
    """Git could not do what was asked."""


class RemoteError(GitError):
    """The remote state repository could not be reached, or refuses this machine."""


@dataclass(frozen=True)
class Plumbing:
    """Git on the repository whose Git directory is `folder`."""

    folder: Path
    ssh_command: str = SSH

    def ask(
        self,
        arguments: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        settings: Sequence[str] = (),
        limit: float = LOCAL_LIMIT,
    ) -> Answered:
        """Run `git ARGUMENTS`, whatever its status; `settings` are `-c` ones, `limit` seconds."""
        options = [word for each in (*_SETTINGS, *settings) for word in ("-c", each)]
        argv = ["git", *options, *arguments]
        own = {**self._environment(), **(env or {})}
        try:
            if arguments[0] in READING:
                return self._directly(argv, own, stdin, limit)
            return self._through_gitpython(argv, own, stdin, limit)
        except FileNotFoundError as error:
            raise GitError(
                "git-missing", "Git is not installed.", "apt install git", details=str(error)
            ) from error

    def _directly(
        self, argv: Sequence[str], env: Mapping[str, str], stdin: bytes, limit: float
    ) -> Answered:
        all_of_it, parent = {**os.environ, **env}, self.folder.parent
        there = parent if parent.is_dir() else None  # `state.git.locks` goes by it
        given = subprocess.PIPE if stdin else subprocess.DEVNULL
        with command.started(argv, stdin=given, env=all_of_it, cwd=there, family=True) as git:
            try:
                output, errors = git.communicate(stdin or None, timeout=limit)
            except subprocess.TimeoutExpired:
                return Answered(-1, b"", f"{TOO_LONG} took more than {limit:g} s")
        return Answered(git.returncode, output, errors.decode("utf-8", "replace"))

    def _through_gitpython(
        self, argv: Sequence[str], env: Mapping[str, str], stdin: bytes, limit: float
    ) -> Answered:
        from git import GitCommandNotFound
        from git.cmd import Git

        with tempfile.TemporaryFile() as given:
            given.write(stdin)
            given.seek(0)
            try:
                status, output, errors = Git(str(self.folder.parent)).execute(
                    list(argv),
                    istream=given,
                    env=dict(env),
                    with_extended_output=True,
                    with_exceptions=False,
                    stdout_as_string=False,
                    strip_newline_in_stdout=False,
                    kill_after_timeout=limit,
                )
            except GitCommandNotFound as error:
                raise FileNotFoundError(str(error)) from error
        text = errors if isinstance(errors, str) else bytes(errors).decode("utf-8", "replace")
        return Answered(status, bytes(output), text)

    def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        settings: Sequence[str] = (),
        limit: float = LOCAL_LIMIT,
    ) -> bytes:
        """What `git ARGUMENTS` prints. GitError if it fails."""
        answered = self.ask(arguments, stdin=stdin, env=env, settings=settings, limit=limit)
        if answered.status:
            raise failure(arguments, answered)
        return answered.output

    def word(
        self, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> str:
        """The one line that `git ARGUMENTS` prints. GitError if it fails."""
        return self.run(*arguments, stdin=stdin, env=env).decode("utf-8", "replace").strip()

    def _environment(self) -> dict[str, str]:
        return {
            "GIT_DIR": str(self.folder),
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_COUNT": "0",
            "GIT_CONFIG_PARAMETERS": "",
            "GIT_ALLOW_PROTOCOL": "file:https:ssh",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/false",
            "SSH_ASKPASS_REQUIRE": "never",
            "GIT_SSH_COMMAND": self.ssh_command,
            "GIT_SSH_VARIANT": "ssh",
            "LC_ALL": "C.UTF-8",
            "LANGUAGE": "C",
        }


def failure(arguments: Sequence[str], answered: Answered) -> GitError:
    """The error for a failed `git ARGUMENTS`, worded by what Git said."""
    said = answered.errors.strip()
    details = f"git {' '.join(arguments)}\nstatus {answered.status}\n{said}"
    remote = arguments[0] in ("fetch", "push")
    damaged = any(word in said for word in _DAMAGED)  # of which the other side complains as well
    for words, code, message, hint, remedy in _KNOWN if remote and not damaged else ():
        if any(word in said for word in words):
            return RemoteError(code, message, hint, remedy, details)
    lines = [line for line in said.splitlines() if line.strip()] or ["it printed nothing"]
    fatal = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1])
    return GitError("git-failed", f"`git {arguments[0]}` failed: {fatal}", _DOCTOR, details=details)


def lost(object_id: str) -> GitError:
    """The error for an object that a repository should have, and hasn't or can't read."""
    message = f"A Git repository is damaged: {object_id[:10]} can't be read."
    return GitError("git-failed", message, _DOCTOR)


_DOCTOR = "On the web machine, `lxc-gpu doctor` says what is damaged, and what to type."
_DAMAGED = (
    ") is corrupt",
    " is empty\n",
    " is too small",
    "inflate: data stream error",
    "fatal: bad object",
    "fatal: bad config",
    "fatal: not a git repository:",
)
"""What Git says of a repository of this machine that is damaged."""
_KNOWN: tuple[tuple[tuple[str, ...], str, str, str, Remedy], ...] = (
    (
        ("Host key verification failed", "HOST IDENTIFICATION HAS CHANGED", "host key is known"),
        "state-host-key",
        "The machine that holds the state repository shows an unknown ssh host key.",
        "Compare it with the real one, then correct known_hosts; nothing is fetched until then.",
        Remedy.PERSON,
    ),
    (
        ("Permission denied", "Authentication failed", "could not read Username", "error: 403"),
        "state-denied",
        "The state repository does not let this machine in.",
        "Its key has to be added there (servers/NAME.yaml, `state_key`, for a GPU server).",
        Remedy.PERSON,
    ),
    (
        (
            TOO_LONG,
            "Could not resolve host",
            "Connection refused",
            "Connection timed out",
            "Operation timed out",
            "Connection reset",
            "Connection closed",
            "No route to host",
            "Network is unreachable",
            "Failed to connect",
            "unable to connect",
            "the remote end hung up",
        ),
        "state-unreachable",
        "The state repository can't be reached.",
        "It is tried again later; what is set up goes on working meanwhile.",
        Remedy.WAIT,
    ),
    (
        ("does not appear to be a git repository", "Repository not found", "does not exist"),
        "state-missing",
        "There is no Git repository where the state should be.",
        "Check the address of the state repository.",
        Remedy.PERSON,
    ),
)
