"""The keys that open the manage account of each user on the host: sshd's AuthorizedKeysFile.

The files are root's, in one folder of ours: nobody can add a key that a revocation would miss.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from reconciler.host import places
from reconciler.plan import Change, Lock, Observed, Tell
from state.errors import LxcGpuError
from state.files import read_text, write_files
from state.view import View
from state.words import plural

HEADER = "# Written by lxc-gpu from the state repository: changes made here are undone.\n"
NOT_USERS = frozenset({places.REGISTER_KEYS.name, "iam"})
"""The service accounts' files in the same folder."""


def host_lines(keys: Iterable[str]) -> str:
    """The file of one user's manage account; its keys open the verbs of our login shell only."""
    return HEADER + "".join(f"restrict,pty {key}\n" for key in keys)


class AuthorizedKeysKind:
    """One file of keys for each registered user."""

    name = "authorized_keys"
    lock = Lock.GLOBAL
    per_user = True

    def desired(self, view: View) -> Mapping[str, str]:
        """The content of each resident's file."""
        return {name: host_lines(resident.keys) for name, resident in view.residents.items()}

    def observe(self, view: View, names: Collection[str]) -> Observed[str]:
        """The content of every file in the folder."""
        found: dict[str, str] = {}
        for file in places.AUTHORIZED_KEYS.iterdir():
            text = None if file.name in NOT_USERS or file.name[0] == "." else read_text(file)
            if text is not None:
                found[view.user_of(file.name)] = text
        return Observed(found)

    def apply(
        self, view: View, changes: Sequence[Change[str]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Write or remove each file."""
        for change in changes:
            if change.after is None:
                (places.AUTHORIZED_KEYS / view.account_of(change.name)).unlink(missing_ok=True)
        wanted = {view.account_of(c.name): c.after for c in changes if c.after is not None}
        write_files(places.AUTHORIZED_KEYS, wanted)
        return {}

    def describe(self, change: Change[str]) -> str:
        """E.g. `lqchen logs in with 2 keys (1 before)`."""
        before, after = _count(change.before), _count(change.after)
        if change.after is None:
            return f"{change.name} no longer logs in"
        was = "" if change.before is None else f" ({before} before)" if before != after else ""
        return f"{change.name} logs in with {plural(after, 'key')}{was}"


def _count(text: str | None) -> int:
    return 0 if text is None else sum(line.startswith("restrict") for line in text.splitlines())
