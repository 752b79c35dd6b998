"""Finds accounts that can become root on this server, by their groups or by sudoers(5).

Everybody counts who is named in a rule or a User_Alias of sudoers, whatever the rule allows.
Netgroups, rules of polkit and doas, and rules that sudo has from LDAP are not read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from state.files import read_text

GROUPS = frozenset(
    {"root", "sudo", "wheel", "admin", "docker", "lxd", "incus", "incus-admin", "libvirt", "disk",
     "shadow", "kmem", "staff"}
)  # fmt: skip
"""Groups whose members can become root on a server, without sudoers; polkit's among them."""
SUDOERS = (Path("/etc/sudoers"), Path("/etc/sudoers.d"))
_ESCAPED, _QUOTED = re.compile(r"\\(.)"), re.compile(r'"([^"]*)"')
_INCLUDE = re.compile(r"^\s*[@#]include(?:dir)?\s+(.+?)\s*$", re.MULTILINE)
_COMMENT = re.compile(r"(?<!%)#(?!\d).*")
_ALIAS = re.compile(r"\bUser_Alias\b")
_OTHER = re.compile(r"(Defaults|(Runas|Host|Cmnd|Cmd)_Alias)")


def in_sudoers() -> frozenset[str]:
    """Names in sudo's files: users, `%groups`, `#uids`, `%#gids`, `ALL`. OSError if unreadable."""
    found, left, seen = set[str](), list(SUDOERS), set[Path]()
    host = os.uname().nodename.partition(".")[0]
    while left:
        path = left.pop()
        if path in seen:
            continue
        seen.add(path)
        if path.is_dir():  # sudo skips names with a dot, and backups (sudoers(5))
            left += [f for f in path.iterdir() if "." not in f.name and not f.name.endswith("~")]
        else:
            text = read_text(path) or ""
            found.update(named(text))
            names = (name.strip('"').replace("%h", host) for name in _INCLUDE.findall(text))
            left += [path.parent / name for name in names]
    return frozenset(found)


def named(text: str) -> Iterator[str]:
    """The users and groups that rules of sudoers(5) name, and members of a User_Alias. Pure."""
    for line in text.replace("\\\n", " ").splitlines():
        plain = _ESCAPED.sub(lambda m: _hidden(m[1]), _QUOTED.sub(lambda m: _hidden(m[1]), line))
        plain = re.sub(r"\s*,\s*", ",", re.sub(r"!\s*", "!", _COMMENT.sub("", plain))).strip()
        if _ALIAS.match(plain):
            lists = [part.partition("=")[2] for part in plain.split(":")]
        elif "=" in plain and not _OTHER.match(plain):
            lists = [plain.split()[0]]
        else:
            continue
        for word in (word.strip() for words in lists for word in words.split(",")):
            if word and not word.startswith(("!", "+")):
                yield _shown(word)


def _hidden(text: str) -> str:
    """Hide the characters of a quoted or escaped name from the parsing of special ones."""
    return "".join(chr(0xE000 + ord(c)) if ord(c) < 256 else c for c in text)


def _shown(text: str) -> str:
    return "".join(chr(ord(c) - 0xE000) if 0xE000 <= ord(c) < 0xE100 else c for c in text)
