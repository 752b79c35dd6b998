"""`port`: maps a port of the server to one of the container, lists or removes such ports."""

from __future__ import annotations

from reconciler.host.published import current_view, resident_of
from reconciler.network import forwards
from reconciler.network.forwards import Forward
from reconciler.plan import Tell
from reconciler.requests import forwarding
from reconciler.requests.unit import power_of
from shells.verbs import VerbRequest, facts
from shells.verbs import ports as words
from state.errors import LxcGpuError
from state.wire import messages


def answer(asked: VerbRequest, tell: Tell) -> messages.Answer:
    """Do what the options say; without options, list the ports."""
    user, options = asked.user, asked.options
    if "port" not in options:
        if options:
            raise LxcGpuError("usage", "Which port of your container?", "Try `help port`.")
        return _list(user)
    protocol, to_port = "udp" if "udp" in options else "tcp", int(options["port"])
    if "remove" in options:
        done, running = forwarding.take(user, protocol, to_port), _runs(user)
        text, more = words.taken(done.view, done.forward), {}
    else:
        done, running = forwarding.give(user, protocol, to_port), _runs(user)
        text = words.mapped(done.view, done.forward, running=running)
        more = {"forward": words.forward_facts(done.view, done.forward)}
    return messages.Answer(text, {**facts(done.view, user, done.own, running=running), **more})


def _list(user: str) -> messages.Answer:
    view = current_view()
    resident, running = resident_of(view, user), _runs(user)
    ssh = Forward("tcp", resident.port, words.SSH)
    own = forwards.read().of.get(user, ())
    text = words.table(view, (ssh, *own), running=running)
    return messages.Answer(text, facts(view, user, own, running=running))


def _runs(user: str) -> bool:
    return power_of(user).running
