"""`stop`: shuts the container down."""

from __future__ import annotations

import time

from reconciler.host import journal
from reconciler.host.boot import boot_clock
from reconciler.host.published import current_view
from reconciler.load import idle_stop
from reconciler.load.idleness import DAY, read_record, still_unused
from reconciler.notices import store as notices
from reconciler.plan import Tell
from reconciler.requests import power
from shells.verbs import VerbRequest, facts, forwards_of
from state.errors import LxcGpuError, Remedy
from state.view import View
from state.wire import messages
from state.wire.notices import Facts, NoticeKind


def answer(asked: VerbRequest, tell: Tell) -> messages.Answer:
    """Stop it, if it runs. For an announcement, don't wait for other work; it comes back later."""
    for_good = "announced" not in asked.options
    if "idle" in asked.options:
        stopped = _if_idle(asked.user, tell)
    else:
        stopped = power.stop(asked.user, tell, for_good=for_good, wait=for_good)
    view, user = current_view(), asked.user
    what = "is shut down" if stopped else "was not running"
    text = f"Your container on {view.server} {what}."
    about = facts(view, user, forwards_of(user), running=False)
    return messages.Answer(text, {**about, "was_running": stopped})


def _if_idle(user: str, tell: Tell) -> bool:
    """Stop an unused container. LxcGpuError if that isn't due, or somebody came meanwhile."""
    unused = read_record().containers.get(user)

    def sure(view: View) -> None:
        from reconciler.load import last_use  # a person's `stop` doesn't need it

        sight = last_use.seen(view.only(user)).get(user)
        due = unused is not None and idle_stop.is_due(view, user, unused)
        if (
            not due
            or unused is None
            or sight is None
            or not still_unused(unused, sight, boot_clock())
        ):
            raise LxcGpuError(
                "in-use",
                "The container is not to be stopped as idle.",
                "`stop` alone shuts it down.",
                Remedy.PERSON,
            )
        idle_stop.note_stopped(user, idle_stop.Stopped(time.time(), unused.seconds))

    try:
        stopped = power.stop(user, tell, sure=sure)
    except BaseException:
        idle_stop.forget_stopped(user)
        raise
    if stopped and unused is not None:
        journal.event("stopped-idle", user=user, days=int(unused.seconds // DAY))
        notices.say(user, NoticeKind.STOPPED, unused.episode, Facts(at=time.time()))
    return stopped
