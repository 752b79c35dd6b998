"""What the root helper does for a registration: IAM notes it, then a round makes the container."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from reconciler.host import marker
from reconciler.host.config import ServerConfig, read_server_config, ssh_command
from reconciler.host.journal import event
from reconciler.host.locks import lock, one_of
from reconciler.host.published import published_view
from reconciler.host.suspension import suspension
from reconciler.plan import Tell
from reconciler.requests.prepare import make_host_key
from reconciler.systems import template_choice
from shells.helper.rounds import reconcile
from shells.verbs import VerbRequest
from shells.verbs.questions import unless_confirmed
from state import command
from state.errors import LxcGpuError, Remedy
from state.view import View
from state.wire import messages

FIRST = messages.Progress("asking the web machine to note the registration")
LINES = 4
"""Registrations that are worked on at the same time, of different users."""
_LOOK_EVERY = 0.2


def register(asked: VerbRequest, tell: Tell) -> messages.Answer | messages.Question:
    """Have IAM commit the user's registration here, then make the container."""
    config = read_server_config()
    with _in_line(asked.user, config.name, tell):
        return _register(config, asked, tell)


@contextmanager
def _in_line(user: str, server: str, tell: Tell) -> Iterator[None]:
    """One registration of each user, and few together. LxcGpuError for a user's second one."""
    with lock(f"register-{user}", wait=False) as first:
        if not first:
            raise LxcGpuError(
                "busy",
                f"A registration of {user} on {server} is under way already.",
                "It goes on without you. When it has ended, type the same again to see how.",
                Remedy.WAIT,
            )
        told = False
        while True:
            with one_of("registering", LINES) as free:
                if free:
                    yield
                    return
            if not told:
                tell(messages.Progress("waiting for other people's registrations to end"))
            told = True
            time.sleep(_LOOK_EVERY)


def _register(
    config: ServerConfig, asked: VerbRequest, tell: Tell
) -> messages.Answer | messages.Question:
    user = asked.user
    if (held := suspension()) is not None:
        raise LxcGpuError(
            "suspended",
            f"{config.name} is suspended, so nobody can register at the moment: {held.reason}",
            "Try again later. Containers that exist start and work as always.",
            Remedy.WAIT,
        )
    view = published_view()
    if view is not None:
        marker.require(view)
        template = template_choice.offered(view, asked.options.get("template") or view.template)
        if (question := _anew(view, asked, template)) is not None:
            return question
        _choose(view, user, template, said="template" in asked.options)
    host_key = make_host_key(user)
    resident = view.residents.get(user) if view else None
    noted = resident is not None and resident.host_key.split()[:2] == host_key.split()[:2]
    if not noted:
        tell(FIRST)
        _ask_gate(config, user, host_key)
    report = reconcile(tell, user)
    for failure in report.failures:
        raise failure.error()
    view = published_view()
    if view is None or user not in view.residents:
        raise LxcGpuError(
            "not-yet",
            f"The registration is noted, but {config.name} could not take it over: "
            f"{report.refused or 'it is not in the newest revision'}",
            "Your sysadmin sees the same on the web page. Then register again.",
        )
    event("registered", user=user, revision=view.revision)
    return messages.Answer(
        _registered(view, user, bool(report.changes) or not noted), {"server": view.server}
    )


def _choose(view: View, user: str, template: str, *, said: bool) -> None:
    """Note what a container that isn't there yet is made of; LxcGpuError if it is there."""
    if not marker.system_there(view, user):
        template_choice.choose(view, user, template)
    elif said:
        raise LxcGpuError(
            "registered-before",
            f"Your container on {view.server} is there already; what it began as stays.",
            f"To begin anew: `ssh -t {view.server}-manage rebuild --template {template}`",
        )


def _anew(view: View, asked: VerbRequest, template: str) -> messages.Question | None:
    """Whether somebody whose container is gone means to begin anew: asked once, then taken so.

    LxcGpuError if the containers' folder isn't there: then nobody's container is gone.
    """
    try:
        marker.system_there(view, asked.user)
        return None
    except LxcGpuError as error:
        if error.code != marker.GONE:
            raise
    text = (
        f"Your container was made on {view.server} and is gone from its disk. Ask your sysadmin "
        "first: it may come back.\nIf you go on, you get a new one from the template "
        f"{template}, and nothing of the old one is in it."
    )
    question = unless_confirmed(asked, text, marker.made_when(asked.user))
    if question is None:
        marker.forget(asked.user)
    return question


def _registered(view: View, user: str, new: bool) -> str:
    """What is said at the end. `new`: also if a nudge's round was faster than the one from here."""
    what = "is ready" if new else "was registered before"
    return (
        f"Your container on {view.server} {what}.\n"
        "Fetch the ssh config and known_hosts from the web page again: they now name it.\n"
        f"Start it:  ssh {view.server}-manage\n"
        f"Then log in:  ssh {view.server}"
    )


def _ask_gate(config: ServerConfig, user: str, host_key: str) -> None:
    kind, blob = host_key.split()[:2]
    ssh = [*ssh_command().split(), config.gate, f"register {user} {kind} {blob}"]
    done = command.run(ssh, check=False, timeout=120)
    try:
        answer = messages.decode(done.stdout)
    except messages.BadMessageError as error:
        raise LxcGpuError(
            "iam-down",
            "The web machine can't be reached, so nobody can register just now.",
            "Try again later. Containers that exist start and work as always.",
            Remedy.WAIT,
            f"{command.pasteable(done.argv)}: {done.status} {done.stderr.strip()}",
        ) from error
    if isinstance(answer, messages.Refusal):
        raise answer.error()
