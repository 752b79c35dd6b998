"""What a commit tells the servers besides its change: trailers at the end of its message."""

from __future__ import annotations

import re

ALLOW_DISABLE = "Allow-Disable"
"""How many people one round may disable: `Allow-Disable: 12`, in an admin's signed commit."""
_LINE = re.compile(rf"{ALLOW_DISABLE}[ \t]*:[ \t]*([0-9]{{1,6}})[ \t]*", re.ASCII | re.IGNORECASE)


def allow_disable(message: str) -> int:
    """The number that `message` allows in its last paragraph, which isn't its first; else 0."""
    paragraphs = re.split(r"\n[ \t]*(?:\n[ \t]*)+", message.strip())
    if len(paragraphs) < 2:
        return 0
    found = (_LINE.fullmatch(line.strip()) for line in paragraphs[-1].split("\n"))
    return max((int(each[1]) for each in found if each), default=0)
