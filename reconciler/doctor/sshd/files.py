"""The lines of sshd's configuration in the order in which sshd reads them, and which one wins."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from state.files import read_text

FOLDER = Path("/etc/ssh")
MAIN = FOLDER / "sshd_config"
PIECES = FOLDER / "sshd_config.d"
OURS = "20-lxc-gpu"
"""What the names of our pieces begin with."""
INCLUDE = f"Include {PIECES}/*.conf"
RELOAD = "then: sshd -t && systemctl reload ssh"
DEEPEST = 16
"""How deep files may include each other (servconf.c)."""


@dataclass(frozen=True)
class ConfigLine:
    """One setting, and the file and line where it stands."""

    file: str
    number: int
    keyword: str
    """In lower case."""
    value: str
    in_match: bool
    """Whether it stands in a Match block, and wins over what doesn't (sshd_config(5))."""

    @property
    def ours(self) -> bool:
        """Whether our set-up wrote it."""
        return Path(self.file).name.startswith(OURS)

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"


def read(main: Path = MAIN) -> tuple[ConfigLine, ...]:
    """All lines that sshd reads, in its order."""
    return tuple(_lines(main, 0))


def _lines(file: Path, depth: int) -> Iterator[ConfigLine]:
    in_match = False
    for number, text in enumerate((read_text(file) or "").split("\n"), 1):
        found = re.match(r"\s*([A-Za-z]+)[\s=]+\"?([^#\"]*)", text)
        if found is None:
            continue
        keyword, value = found[1].lower(), found[2].strip()
        in_match = in_match or keyword == "match"
        yield ConfigLine(str(file), number, keyword, value, in_match)
        if keyword == "include" and depth < DEEPEST:
            for pattern in value.split():
                for each in _named(pattern):
                    yield from _lines(each, depth + 1)


def _named(pattern: str) -> list[Path]:
    """The files that a word of Include names (glob(7)), in sshd's order."""
    path = FOLDER / pattern
    return sorted(Path("/").glob(str(path.relative_to("/"))))


def setting(lines: Sequence[ConfigLine], keyword: str, has: str, wanted: str) -> str:
    """What to do where another line overrides our setting."""
    ours = next((place for place, line in enumerate(lines) if line.ours), None)
    if ours is None:
        return not_read()
    others = [
        (place, line)
        for place, line in enumerate(lines)
        if line.keyword == keyword and not line.ours and line.value.lower() != wanted.lower()
    ]
    others = [(place, line) for place, line in others if line.value == has] or others
    for place, line in others:
        if place < ours and line.in_match:
            return (
                f"{line.file} is read before {lines[ours].file}: take line {line.number} out of "
                f"it, or rename it to sort after ours; {RELOAD}"
            )
    if others:
        return f"Take `{keyword} {others[0][1].value}` out of {others[0][1]}; {RELOAD}"
    return "Run `setup/gpu-server` (`setup/web-server`) again: it writes our piece."


def not_read() -> str:
    """What to do where sshd doesn't read our piece."""
    if any(PIECES.glob(f"{OURS}*.conf")):
        return f"Write `{INCLUDE}` as the first line of {MAIN}; {RELOAD}"
    return f"Run `setup/gpu-server` (`setup/web-server`) again: {PIECES} lacks our piece."


def of_keyword(
    lines: Sequence[ConfigLine], keyword: str, words: Sequence[str]
) -> ConfigLine | None:
    """The line that says one of `words` after the keyword. Pure."""
    for line in lines:
        if line.keyword == keyword.lower() and set(line.value.split()) & set(words):
            return line
    return None
