"""Our lines in somebody else's file: a block between two marks; the rest stays untouched."""

from __future__ import annotations

BEGIN = "# BEGIN lxc-gpu (kept up to date by the server; your own lines go outside)"
END = "# END lxc-gpu"


def read_block(text: str) -> str | None:
    """The lines between the marks; None without a whole block."""
    lines = text.splitlines()
    try:
        begin = lines.index(BEGIN)
        end = lines.index(END, begin)
    except ValueError:
        return None
    return "".join(f"{line}\n" for line in lines[begin + 1 : end])


def with_block(text: str, block: str, *, first: bool = False) -> str:
    """`text` with `block` in place of the one it has, or else after its last line.

    With `first`, or else before its first line. Single marks and further blocks are removed.
    """
    before: list[str] = []
    after: list[str] = []
    rest, inside, seen = text.splitlines(), False, False
    for place, line in enumerate(rest):
        if line == BEGIN and END in rest[place:]:
            inside = seen = True
        elif line == END:
            inside = False
        elif not inside and line != BEGIN:
            (after if seen else before).append(line)
    ours = [BEGIN, *block.splitlines(), END]
    if first and not seen:
        before, after = [], before
    return "".join(f"{line}\n" for line in before + ours + after)
