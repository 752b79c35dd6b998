"""`shell`: a program in one's container as its root, without the container's sshd."""

from __future__ import annotations

from reconciler.plan import Tell
from reconciler.requests.shell import shell
from shells.verbs import VerbRequest
from state.errors import LxcGpuError
from state.wire import messages


def answer(asked: VerbRequest, tell: Tell) -> messages.Answer:
    """Run it to its end; the fact is its exit status."""
    if asked.descriptor is None:
        raise LxcGpuError("bad-request", "That is no request that lxc-gpu knows.")
    return messages.Answer("", {"status": shell(asked.user, asked.descriptor, tell)})
