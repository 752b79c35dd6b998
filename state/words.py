"""Numbers of things in words, and texts of others' that can be shown. Standard library only."""

from __future__ import annotations


def plural(number: int, one: str, many: str = "") -> str:
    """So many of something: `1 GPU`, `3 GPUs`; `many` where it isn't `one` with an s."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def printable(text: str, instead: str = "\N{REPLACEMENT CHARACTER}", without: str = "") -> str:
    """`text` with `instead` in place of control characters, line ends, and letters of `without`."""
    if text.isprintable() and not without:
        return text
    return "".join(c if c.isprintable() and c not in without else instead for c in text)
