"""The account `iam`, for the web page's machine: four verbs, JSON lines, nothing else.

`reconcile` runs a round now and streams its report. `news` does the same with what stdin brings of
the state. `load` streams what the server is doing; that
needs no root, so this program says it itself, as the account. `told` says which notices were
mailed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from reconciler.host import journal
from shells.helper.client import ask
from shells.helper.request import BUG, Request
from shells.usage import Verb
from state.errors import LxcGpuError
from state.wire import messages


def main(argv: Sequence[str]) -> int:
    """Do what SSH_ORIGINAL_COMMAND says; the exit status."""
    try:
        match os.environ.get("SSH_ORIGINAL_COMMAND", ""):
            case "reconcile":
                _send(ask(Request(Verb.RECONCILE), _send))
            case "news":
                _send(ask(Request(Verb.RECONCILE), _send, sys.stdin.fileno()))
            case "load":
                from reconciler.host.config import read_server_config  # a round needs none of these
                from reconciler.host.places import AUTHORIZED_KEYS
                from reconciler.load.stream import only_so_many, stream
                from state.connections.sshd import must_stand

                must_stand(os.getpid(), AUTHORIZED_KEYS / "iam")
                only_so_many()
                stream(sys.stdout.fileno(), read_server_config().name)
            case told if told.startswith("told "):
                ids = "\n".join(told.split()[1:])
                _send(ask(Request(Verb.TOLD, options={"ids": ids}), _send))
            case _:
                raise LxcGpuError("usage", "The verbs here: reconcile, news, load, told.")
    except LxcGpuError as error:
        _send(messages.refusal(error))
        return 1
    except BrokenPipeError:
        return 1
    except Exception:
        import traceback  # as much as all else that this program loads

        journal.event("crashed", what=traceback.format_exc())
        _send(BUG)
        return 1
    return 0


def _send(message: messages.Message) -> None:
    sys.stdout.write(messages.encode(message))
    sys.stdout.flush()
