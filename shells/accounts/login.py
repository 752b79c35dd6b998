"""The login shell of a user's account on a server: `ssh gpu17-manage [verb]`.

sshd(8) runs it as `SHELL -c REQUEST`; under ForceCommand the request of a person, of sftp or of
scp stands in SSH_ORIGINAL_COMMAND. The request is split into words and looked up: no shell ever
sees it here. What follows `shell` is the container's own business, and goes there as it was typed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from shells.helper.ahead import typed
from shells.helper.client import ask, ask_until_free
from shells.helper.request import OF_USERS, Request, ends_with_its_asker
from shells.terminal import Terminal
from shells.usage import SEE_HELP, Verb, parse
from state.errors import LxcGpuError, Remedy
from state.wire.messages import Answer, Question

MOST = 50
"""Programs like this one that a user may have under way for a `connect` or a refused transfer: each
lasts as long as its ssh, and takes 9 MB. (Verbs have the root helper's places.)"""
PATIENCE = 20.0
"""Seconds that somebody who only looks waits for requests of their own to end."""
LONGEST = 1000
"""Letters; a longer request is refused unread."""
VERBS: dict[str, Verb] = {verb.value: verb for verb in OF_USERS}
UNCONFIRMED = 3
"""The exit status of what was not done because it needs a yes."""
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
    if verb not in VERBS:
        _only_so_many()
    if verb == "connect":
        return _connect(rest, terminal)
    if verb not in VERBS:
        return _explain(verb, rest, terminal)
    as_json = "--json" in rest
    options = parse(VERBS[verb], [word for word in rest if word != "--json"])
    return _ask(Request(VERBS[verb], options=options), terminal, as_json=as_json)


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


def _explain(verb: str, words: Sequence[str], terminal: Terminal) -> int:
    """Help, for who asks for it and for who tries to copy files here."""
    from shells.accounts import help_texts, sftp  # texts: not on the way of a verb

    if help_texts.is_file_transfer(verb):
        terminal.note(help_texts.FILES_LIVE_ELSEWHERE)
        if help_texts.is_sftp(verb):
            sftp.refuse(sys.stdin.buffer, sys.stdout.buffer, help_texts.FILES_LIVE_ELSEWHERE)
        return 1
    if verb in ("help", "-h", "--help"):
        terminal.result(help_texts.help_text(words[0] if words else ""))
        return 0
    raise LxcGpuError("usage", f"There is no `{verb[:40]}` here.", SEE_HELP)


def _connect(words: Sequence[str], terminal: Terminal) -> int:
    from shells.accounts.connect import connect

    if words:
        raise LxcGpuError("usage", f"`connect` takes no `{words[0][:40]}`.", "Try `help connect`.")
    return connect(terminal)


def _shell(request: str, terminal: Terminal) -> int:
    from shells.accounts.shell import command_in, shell

    return shell(command_in(request) or "", terminal)


def _ask(request: Request, terminal: Terminal, *, as_json: bool) -> int:
    descriptor = _archive_end(request)
    if descriptor is None and ends_with_its_asker(request):
        answer = ask_until_free(request, terminal.progress, PATIENCE)  # a script looks at much
    else:
        answer = ask(request, terminal.progress, descriptor)
    if isinstance(answer, Question):
        if not terminal.agrees(answer.text):
            again = " ".join([request.verb, *map(_as_typed, request.options.items())])
            terminal.note(
                f"{answer.text}\nNothing was done yet. To go on, type the same with its number:\n"
                f"  ssh {_here()}-manage {again} --confirm {answer.token}"
            )
            return UNCONFIRMED
        confirmed = request._replace(options={**request.options, "confirm": answer.token})
        return _ask(confirmed, terminal, as_json=as_json)
    if isinstance(answer, Answer):
        facts = json.dumps(dict(answer.facts), ensure_ascii=False)
        show = terminal.note if descriptor == sys.stdout.fileno() else terminal.result
        text = answer.text
        if "ics" in request.options:  # RFC 5545 wants it; no message has control characters
            text = text.replace("\n", "\r\n") + "\r"
        show(facts if as_json else text)
    return 0


def _as_typed(option: tuple[str, str]) -> str:
    name, value = option
    return value if name == "name" else f"--{name}"


def _here() -> str:
    from reconciler.host.config import read_server_config  # a question is rare

    return read_server_config().name


def _archive_end(request: Request) -> int | None:
    """What is lent to the root helper: where an archive comes from, or goes to."""
    for name, stream in (("from-stdin", sys.stdin), ("to-stdout", sys.stdout)):
        if name in request.options:
            if stream.isatty():
                raise LxcGpuError(
                    "usage",
                    f"`--{name}` is for a pipe or a file, not for a terminal.",
                    f"Try `help {request.verb}`.",
                )
            return stream.fileno()
    return None
