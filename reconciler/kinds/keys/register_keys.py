"""The keys that open `ssh register@SERVER`: those of all users, each line naming its user.

The key's `command=` (sshd(8), AUTHORIZED_KEYS FILE FORMAT) names the user, so nobody can register
as somebody else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from reconciler.host import places
from reconciler.kinds.keys.authorized_keys import HEADER
from reconciler.plan import Change, Lock, Observed, Tell
from state.errors import LxcGpuError
from state.files import read_text, write_file
from state.view import View
from state.words import plural

START = f'restrict,pty,command="{places.REGISTER} '


def user_lines(user: str, keys: Sequence[str]) -> tuple[str, ...]:
    """One user's lines in the file."""
    return tuple(f'{START}{user}" {key}' for key in keys)


def parse(text: str) -> dict[str, tuple[str, ...]]:
    """The lines of each user; a line of another form counts as a user of that name."""
    lines: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            owner = line.removeprefix(START).split('"')[0] if line.startswith(START) else line
            lines[owner] = (*lines.get(owner, ()), line)
    return lines


class RegisterKeysKind:
    """The keys of the users who may register, in one file."""

    name = "register_keys"
    lock = Lock.GLOBAL
    per_user = True

    def desired(self, view: View) -> Mapping[str, tuple[str, ...]]:
        """The lines of everybody who has keys."""
        return {name: user_lines(name, keys) for name, keys in view.registrants.items() if keys}

    def observe(self, view: View, names: Collection[str]) -> Observed[tuple[str, ...]]:
        """All lines of the file, by user; foreign lines are included, to be removed."""
        return Observed(parse(read_text(places.REGISTER_KEYS) or ""))

    def apply(
        self, view: View, changes: Sequence[Change[tuple[str, ...]]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Write the file once, for all changes."""
        lines = parse(read_text(places.REGISTER_KEYS) or "")
        for change in changes:
            lines[change.name] = change.after or ()
        text = HEADER + "".join(f"{line}\n" for name in sorted(lines) for line in lines[name])
        write_file(places.REGISTER_KEYS, text)
        return {}

    def describe(self, change: Change[tuple[str, ...]]) -> str:
        """E.g. `lqchen may register with 2 keys`."""
        if change.after is None:
            return f"{change.name[:40]} may no longer register"
        count = len(change.after)
        return f"{change.name} may register with {plural(count, 'key')}"
