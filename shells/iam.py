"""The account `iam`, for the web page's machine: two verbs, JSON lines, nothing else.

`reconcile` runs a round now and streams its report.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from shells.client import ask
from shells.request import Request
from shells.usage import Verb
from state import wire
from state.errors import LxcGpuError

REQUESTS = {"reconcile": Request(Verb.RECONCILE)}


def main(argv: Sequence[str]) -> int:
    """Do what SSH_ORIGINAL_COMMAND says; the exit status."""
    try:
        request = REQUESTS.get(os.environ.get("SSH_ORIGINAL_COMMAND", ""))
        if request is None:
            raise LxcGpuError("usage", f"The verbs here: {', '.join(REQUESTS)}.")
        _send(ask(request, _send))
    except LxcGpuError as error:
        _send(wire.refusal(error))
        return 1
    except BrokenPipeError:
        return 1
    return 0


def _send(message: wire.Message) -> None:
    sys.stdout.write(wire.encode(message))
    sys.stdout.flush()
