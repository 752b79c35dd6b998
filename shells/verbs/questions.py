"""Asks for a yes, and recognises it: for verbs that take something away."""

from __future__ import annotations

import hashlib

from shells.verbs import VerbRequest
from state.wire import messages


def unless_confirmed(
    asked: VerbRequest, text: str, known: object = None
) -> messages.Question | None:
    """The question, unless `asked` answers it. `known`: facts that make it a different question."""
    token = hashlib.sha256(f"{text}\n{known!r}".encode()).hexdigest()[:8]
    return None if asked.options.get("confirm") == token else messages.Question(text, token)
