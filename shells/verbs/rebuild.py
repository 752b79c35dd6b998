"""`rebuild`: begins the container anew from the template, and keeps the previous system."""

from __future__ import annotations

from reconciler.plan import Tell
from reconciler.requests import exchange
from reconciler.systems import template_choice
from reconciler.systems.next_system import FromTemplate, WithHome
from shells.usage import Verb, not_together
from shells.verbs import VerbRequest
from shells.verbs.questions import unless_confirmed
from shells.verbs.recover import answered, forget, look, undo, what_else
from state.wire import messages

NOT_TOGETHER = (("undo", "forget", "keep-home"), ("undo", "forget", "template"))


def answer(asked: VerbRequest, tell: Tell) -> messages.Answer | messages.Question:
    """Rebuild, or undo, or forget."""
    together = [[each for each in some if each in asked.options] for some in NOT_TOGETHER]
    for chosen in (some for some in together if len(some) > 1):
        raise not_together(Verb.REBUILD, chosen, asked.options)
    if "undo" in asked.options:
        return undo(asked, tell)
    if "forget" in asked.options:
        return forget(asked, tell)
    return _rebuild(asked, tell, keep_home="keep-home" in asked.options)


def _rebuild(
    asked: VerbRequest, tell: Tell, *, keep_home: bool
) -> messages.Answer | messages.Question:
    view, there = look(asked.user)
    template = asked.options.get("template") or template_choice.chosen(view, asked.user)
    offered = template_choice.offered(view, template)
    stamp = template_choice.archive_of(view, offered).stat().st_mtime_ns
    home = (
        "/home is copied into it while the container is down."
        if keep_home
        else "Nothing is copied into it, not even /home (`--keep-home` does that)."
    )
    text = (
        f"Your container on {view.server} begins anew, from the template {template}.\n"
        f"{home}\n{what_else(asked.user, there)}"
    )
    if (question := unless_confirmed(asked, text, (there, stamp))) is not None:
        return question
    what = "rebuild --keep-home" if keep_home else "rebuild"
    make = FromTemplate(asked.user, template, tell)
    at_rest = WithHome(asked.user, tell) if keep_home else None
    try:
        done = exchange.replace(asked.user, what, there, make, tell, at_rest=at_rest)
    except exchange.DoesNotComeUpError:  # the new system is in place all the same
        template_choice.choose(view, asked.user, template)
        raise
    template_choice.choose(view, asked.user, template)
    return answered(asked, done, f"is new, from the template {template}")
