"""`shell`: runs a program as the container's root, without its sshd."""

from __future__ import annotations

from reconciler.plan import Tell
from reconciler.requests.shell import shell
from shells.verbs import VerbRequest
from state.errors import LxcGpuError
from state.wire import messages


def answer(asked: VerbRequest, tell: Tell) -> messages.Answer:
    """Run it until it ends. The answer's fact is its exit status."""
    if asked.descriptor is None:
        raise LxcGpuError("bad-request", "lxc-gpu doesn't know such a request.")
    return messages.Answer("", {"status": shell(asked.user, asked.descriptor, tell)})
