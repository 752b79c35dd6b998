"""The accounts that containers run as, if accounts have a prefix: one drop-in for all units.

lxc-gpu@.service runs each as the account of its user's name, which is right without a prefix.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from reconciler.host.places import container_unit
from reconciler.plan import Change, Lock, Observed, Tell
from state import command, files
from state.errors import LxcGpuError
from state.view import View

DROP_IN = Path("/etc/systemd/system") / f"{container_unit('')}.d" / "50-lxc-gpu-account.conf"
ANYBODY = "anybody"
"""A made-up user, to ask systemd about a unit of the template; the unit need not exist."""
UNITS = container_unit("*")
"""The name of this kind's only thing."""


class UnitAccount(NamedTuple):
    """The account that units run as."""

    drop_in: str
    in_effect: str
    """What systemd has in effect, so that a reload that a kill prevented shows."""


class UnitAccountKind:
    """The accounts that containers run as."""

    name = "unit_account"
    lock = Lock.GLOBAL
    per_user = False

    def desired(self, view: View) -> Mapping[str, UnitAccount]:
        """One drop-in, if accounts have a prefix."""
        if not view.account_prefix:
            return {}
        return {UNITS: UnitAccount(_drop_in(view), view.account_of(ANYBODY))}

    def observe(self, view: View, names: Collection[str]) -> Observed[UnitAccount]:
        """The drop-in on disk, and what systemd has in effect."""
        text = files.read_text(DROP_IN)
        if text is None:
            return Observed({})
        argv = ["systemctl", "show", "--property=User", "--value", container_unit(ANYBODY)]
        return Observed({UNITS: UnitAccount(text, command.run(argv).stdout.strip())})

    def apply(
        self, view: View, changes: Sequence[Change[UnitAccount]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Write the drop-in and have systemd read it. To remove it, it is emptied first."""
        for change in changes:
            DROP_IN.parent.mkdir(mode=0o755, exist_ok=True)
            files.write_file(DROP_IN, "" if change.after is None else change.after.drop_in)
            command.run(["systemctl", "daemon-reload"])
            if change.after is None:
                DROP_IN.unlink()
                if not any(DROP_IN.parent.iterdir()):
                    DROP_IN.parent.rmdir()
        return {}

    def describe(self, change: Change[UnitAccount]) -> str:
        """E.g. `run containers as the accounts gpu-USER`."""
        account = ANYBODY if change.after is None else change.after.in_effect
        return f"run containers as the accounts {account.removesuffix(ANYBODY)}USER"


def _drop_in(view: View) -> str:
    return (
        "# Written by lxc-gpu, from `account_prefix:` in the state repository.\n"
        f"[Service]\nUser={view.account_of('%i')}\n"
    )
