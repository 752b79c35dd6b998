"""`notify`: lets a user wait for free GPUs, lists the waits, or ends them."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress

from reconciler.host.in_words import moment
from reconciler.host.published import current_view, resident_of
from reconciler.load import on_gpus
from reconciler.nvidia import nvml
from reconciler.nvidia.driver import driver
from reconciler.nvidia.nvml import Gpu
from reconciler.plan import Tell
from reconciler.reservations import overview, waiting
from reconciler.reservations.waiting import SOON, Wait
from shells.verbs import VerbRequest
from shells.verbs.gpus import NO_DRIVER
from state.errors import LxcGpuError
from state.wire import messages
from state.words import plural

_ASKED = re.compile(r"([1-9][0-9]{0,2})( ([A-Za-z0-9][A-Za-z0-9 ._-]{0,59}))?", re.ASCII)


def answer(asked: VerbRequest, tell: Tell) -> messages.Answer:
    """Do what was asked; without words, list the waits. LxcGpuError if the GPUs could never be
    free."""
    view, user, now = current_view(), asked.user, time.time()
    resident_of(view, user)
    if "what" in asked.options:
        if "stop" in asked.options:
            raise LxcGpuError("usage", "`--stop` ends all that you wait for.", "Try `help notify`.")
        return _wait(user, *_read(asked.options["what"]), now)
    own = waiting.read().at(now).of(user)
    if "stop" in asked.options:
        waiting.change(lambda everybody: everybody.without(*everybody.of(user)), now)
        with suppress(LxcGpuError):
            waiting.forget_untold(user)
        lines = [f"You no longer wait for {waiting.in_words(each)}." for each in own]
        return _answer(lines or ["You weren't waiting for anything here."], ())
    lines = [f"You wait for {waiting.in_words(each)}, since {moment(each.since)}." for each in own]
    end = f"End it:  ssh {view.server}-manage notify --stop"
    return _answer([*lines, end] if lines else ["You aren't waiting for anything here."], own)


def _read(words: str) -> tuple[int, str]:
    """How many GPUs, and of which model. LxcGpuError if it can't be understood."""
    match = _ASKED.fullmatch(words)
    if match is None:
        raise LxcGpuError(
            "usage",
            f"`{words[:40]}` is not a number of GPUs.",
            "Type `notify 2`, or `notify 2 A100` for a model; `help notify` has more.",
        )
    return int(match[1]), (match[3] or "").lower()


def _wait(user: str, count: int, model: str, now: float) -> messages.Answer:
    view = current_view()
    gpus = _gpus()
    named = on_gpus.of_model(on_gpus.in_sight(view, user, gpus), model)
    if len(named) < count:
        models = sorted({gpu.name for gpu in on_gpus.in_sight(view, user, gpus)})
        raise LxcGpuError(
            "never-free",
            f"Your container on {view.server} sees {plural(len(named), 'such GPU')}, "
            f"so {count} are never free for you.",
            f"It sees: {', '.join(models) or 'none'}. `gpus` lists them.",
        )
    ahead = overview.overview(view, now).ahead
    free = on_gpus.free_for(view, user, gpus, ahead, now + SOON, model)
    if len(free) >= count:
        names = ", ".join(str(gpu.index) for gpu in free)
        lines = [
            f"Free now on {view.server}: GPU {names}. You need not wait.",
            f"To keep some for yourself:  ssh {view.server}-manage reserve {count} 8h",
        ]
        return _answer(lines, (), free)
    wait = Wait(user, count, model, round(now, 3))
    own = waiting.change(lambda everybody: everybody.add(wait), now).of(user)
    text = f"You are told once, by mail, when {waiting.in_words(wait)} are free on {view.server}."
    more = f"`ssh {view.server}-manage notify` lists what you wait for, `notify --stop` ends it."
    return _answer([text, more], own)


def _gpus() -> tuple[Gpu, ...]:
    if not driver().present:
        raise NO_DRIVER
    return nvml.read().gpus


def _answer(lines: Sequence[str], own: Sequence[Wait], free: Sequence[Gpu] = ()) -> messages.Answer:
    facts = {
        "server": current_view().server,
        "waits": [{"gpus": w.gpus, "model": w.model, "since": w.since} for w in own],
        "free": [gpu.uuid for gpu in free],
    }
    return messages.Answer("\n".join(lines), facts)
