"""Limits of each user's programs on the server itself: `reconciler.host.slices`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from reconciler.host import limited_units
from reconciler.host.slices import LIMITS, drop_in, slice_of
from reconciler.plan import Change, Lock, Observed, Tell
from state import command, files
from state.errors import LxcGpuError
from state.view import View


class UserSliceKind:
    """Limits of users' programs on the server itself."""

    name = "user_slice"
    lock = Lock.GLOBAL
    per_user = True

    def desired(self, view: View) -> Mapping[str, str]:
        """One set of limits, for each resident."""
        return dict.fromkeys(view.residents, LIMITS)

    def observe(self, view: View, names: Collection[str]) -> Observed[str]:
        """The residents' drop-ins. Those of former users stay, as their uids stay theirs."""
        residents = {name: view.residents[name] for name in names if name in view.residents}
        texts = {n: files.read_text(drop_in(resident.uid)) for n, resident in residents.items()}
        return Observed({name: text for name, text in texts.items() if text is not None})

    def apply(
        self, view: View, changes: Sequence[Change[str]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Limit users who are logged in, write the drop-ins, then have systemd read them."""
        uids = {change.name: view.residents[change.name].uid for change in changes}
        runs = limited_units.running([slice_of(uid) for uid in uids.values()])
        failed: dict[str, LxcGpuError] = {}
        for name, uid in uids.items():
            try:
                if slice_of(uid) in runs:
                    limited_units.limit(slice_of(uid), _settings())
                path = drop_in(uid)
                path.parent.mkdir(mode=0o755, exist_ok=True)
                files.write_file(path, LIMITS)
            except LxcGpuError as error:  # that is one person's: the others get theirs anyway
                failed[name] = error
        command.run(["systemctl", "daemon-reload"])
        return failed

    def describe(self, change: Change[str]) -> str:
        """E.g. `limit what lqchen runs on the server itself`."""
        return f"limit what {change.name} runs on the server itself"


def _settings() -> list[str]:
    return [line for line in LIMITS.split("\n") if "=" in line]
