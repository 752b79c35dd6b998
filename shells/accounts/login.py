"""The login shell of a user's account on a server: `ssh gpu17-manage [verb]`.

sshd(8) runs it as `SHELL -c REQUEST`; under ForceCommand the request of a person, of sftp or of
scp stands in SSH_ORIGINAL_COMMAND. The request is split into words and looked up: no shell ever
sees it here. What follows `shell` is the container's own business, and goes there as it was typed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from shells.helper.ahead import typed
from shells.terminal import Terminal
from shells.usage import SEE_HELP, Verb
from state.errors import LxcGpuError, Remedy

MOST = 50
"""Programs like this one that a user may have under way for a `connect` or a refused transfer: each
lasts as long as its ssh, and takes 9 MB. (Verbs have the root helper's places.)"""
LONGEST = 1000
"""Letters; a longer request is refused unread."""
INTERRUPTED = 130
"""The exit status of a command that ended by ctrl-C."""


def main(argv: list[str]) -> int:
    """Do what was asked; the exit status."""
    terminal = Terminal()
    try:
        request = typed(argv)
        if request.split(maxsplit=1)[:1] == [Verb.SHELL]:
            return _shell(request, terminal)
        return _obey(_words(request), terminal)
    except LxcGpuError as error:
        terminal.error(error)
        return 1
    except KeyboardInterrupt:
        terminal.note("Interrupted: what was begun goes on; `status` shows how it went.")
        return INTERRUPTED
    except BrokenPipeError:
        return 1


def _words(request: str) -> list[str]:
    """The words of the request; LxcGpuError for what can't be one."""
    if len(request) > LONGEST:
        raise LxcGpuError("too-long", "That is too long to be a request.", SEE_HELP)
    if any(not c.isprintable() for c in request):
        raise LxcGpuError(
            "not-text", "That request holds control characters, or isn't UTF-8.", SEE_HELP
        )
    words = request.split()
    return _unquoted(request) if words[:1] == [Verb.RECOVER] else words


def _unquoted(request: str) -> list[str]:
    """The words of a request with names of files, which may hold blanks."""
    import shlex  # not on the way of a start

    try:
        return shlex.split(request)
    except ValueError as error:
        raise LxcGpuError(
            "usage",
            "A quotation in that request has no end.",
            "A name with blanks or quotation marks is quoted twice, for your own shell and here: "
            "\"'my file'\". Try `help recover`.",
        ) from error


def _obey(words: Sequence[str], terminal: Terminal) -> int:
    verb, *rest = words or ["start"]
    if verb in ("help", "-h", "--help"):
        return _explain(rest, terminal)
    if verb == "connect":
        return _connect(rest, terminal)
    from shells.accounts import asking  # much: not on the way of `help`

    if verb in asking.VERBS:
        return asking.ask_for(asking.VERBS[verb], rest, terminal)
    return _refuse(verb, terminal)


def _only_so_many() -> None:
    """LxcGpuError if this user has more connections than may be."""
    from reconciler.children.answering import like_this  # not on the way of a verb

    if like_this() > MOST:
        raise LxcGpuError(
            "crowded",
            f"{MOST} connections of yours pass through this server, the most allowed.",
            "Close some that you don't need (editors, tunnels, `ssh -N`); those of a machine that "
            "went away end within minutes. `stop`, `restart` and the other verbs work as always.",
            Remedy.WAIT,
        )


def _explain(words: Sequence[str], terminal: Terminal) -> int:
    from shells.accounts.help_texts import help_text  # texts: not on the way of a verb

    _no_more("help", words[1:])
    terminal.result(help_text(words[0] if words else ""))
    return 0


def _no_more(verb: str, words: Sequence[str]) -> None:
    """LxcGpuError if there are words that the verb doesn't take."""
    if words:
        raise LxcGpuError("usage", f"`{verb}` takes no `{words[0][:40]}`.", f"Try `help {verb}`.")


def _refuse(verb: str, terminal: Terminal) -> int:
    """Say what is here instead, to who tries to copy files, too."""
    from shells.accounts import help_texts, sftp  # as above

    if not help_texts.is_file_transfer(verb):
        raise LxcGpuError("usage", f"There is no `{verb[:40]}` here.", SEE_HELP)
    _only_so_many()
    terminal.note(help_texts.FILES_LIVE_ELSEWHERE)
    if help_texts.is_sftp(verb):
        sftp.refuse(sys.stdin.buffer, sys.stdout.buffer, help_texts.FILES_LIVE_ELSEWHERE)
    return 1


def _connect(words: Sequence[str], terminal: Terminal) -> int:
    from shells.accounts.connect import connect

    _only_so_many()
    _no_more("connect", words)
    return connect(terminal)


def _shell(request: str, terminal: Terminal) -> int:
    from shells.accounts.shell import command_in, shell

    return shell(command_in(request) or "", terminal)
