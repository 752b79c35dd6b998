"""`ssh register@gpu17-manage lqchen`: makes the container of whoever owns the key.

Each line of the account's authorized_keys runs this with its owner's name: the key says who
registers, not what was typed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from reconciler.host.config import read_server_config
from shells.accounts.asking import UNCONFIRMED
from shells.helper.client import ask
from shells.helper.request import Request
from shells.terminal import Terminal
from shells.usage import Verb, parse
from state.errors import LxcGpuError
from state.wire.messages import Answer, Question


def main(argv: Sequence[str]) -> int:
    """Register `argv[0]`, the owner of the key; the exit status."""
    terminal = Terminal()
    try:
        owner, options = _owner(argv)
        answer = ask(Request(Verb.REGISTER, owner, options), terminal.progress)
        if isinstance(answer, Question):
            terminal.note(
                f"{answer.text}\nNothing was done yet. To go on, type the same with its number:\n"
                f"  ssh register@{read_server_config().name}-manage {owner} "
                f"{_again(options)}--confirm {answer.token}"
            )
            return UNCONFIRMED
        if isinstance(answer, Answer):
            terminal.result(answer.text)
    except LxcGpuError as error:
        terminal.error(error)
        return 1
    except KeyboardInterrupt:
        terminal.note("Interrupted: what was begun goes on; type the same again to see how.")
        return 130
    except BrokenPipeError:  # nobody is there any more
        return 1
    return 0


def _owner(argv: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The user whose key it is, and the answer to a question, if one was typed."""
    if len(argv) != 1:
        raise LxcGpuError("usage", "This is for sshd: ssh register@SERVER-manage YOUR-NAME")
    (owner,) = argv
    typed = os.environ.get("SSH_ORIGINAL_COMMAND", "").strip()
    name, *words = typed.split() or [owner]
    if name.lower() != owner or (words and not words[0].startswith("--")):
        raise LxcGpuError(
            "not-your-key",
            f"This key is {owner}'s: it registers {owner} and nobody else.",
            f"Type `{owner}` in place of what you typed.",
        )
    try:
        return owner, parse(Verb.REGISTER, words)
    except LxcGpuError as error:
        raise LxcGpuError(
            "usage",
            error.message,
            f"Type `{owner}`; after it, `--template NAME` if you want another than the usual one.",
        ) from error


def _again(options: Mapping[str, str]) -> str:
    """The words that were typed after the name."""
    return f"--template {options['template']} " if "template" in options else ""
