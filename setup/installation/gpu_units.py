"""The units of a GPU server (systemd.unit(5)), and the drop-ins of its users' slices."""

from __future__ import annotations

import pwd
import re
from collections.abc import Collection
from pathlib import Path

from installation.steps import CHECKOUT, Steps
from reconciler.host import places, slices
from state import command
from state.files import read_text

UNUSED_UNITS = ("lxc.service", "lxc-net.service", "lxc-monitord.service")
"""Units of the package lxc that would make a bridge, and start containers that aren't lxc-gpu's."""
ENABLED_UNITS = (
    "lxc-gpu-root.socket", "lxc-gpu-reconcile.timer", "lxc-gpu-watch.service",
    "lxc-gpu-idleness.timer", "lxc-gpu-snapshots.timer", "lxc-gpu-announced.timer",
    "lxc-gpu-reservations.timer", "lxc-gpu-loaded.service",
)  # fmt: skip
LOADED = ("lxc-gpu-watch.service", "lxc-gpu-loaded.service")
"""Services that keep their code loaded."""
COUNTING = ("lxc-gpu-announced.timer",)
"""A timer that counts from the end of its service, which never ended if an older release skipped
it."""
AT_WORK = ("lxc-gpu-spares.service", "lxc-gpu-snapshots.service")
"""Services that may be running just now, and would go on without their code."""
AT_BOOT = ("lxc-gpu-come-back.service", "lxcfs.service")
"""Units that are enabled, but not started now."""
UNIT_FOLDER = Path("/etc/systemd/system")
USERS_SHELL = str(places.LOGIN_SHELL)
"""The shell of users' accounts on a server, which tells them from people's own."""


def mask_unused(steps: Steps) -> None:
    """Stop and mask the units with which the package lxc would make containers of its own run."""
    for unit in UNUSED_UNITS:
        if command.run(["systemctl", "is-enabled", unit], check=False).stdout.strip() != "masked":
            steps.say(f"stop and mask {unit}")
            command.run(["systemctl", "stop", unit], check=False)
            command.run(["systemctl", "mask", "--quiet", unit])


def install(steps: Steps, services: Collection[str]) -> None:
    """Write our units and the drop-ins of users' slices; enable and start them.

    `services`: the accounts whose slices many people share.
    """
    changed = [remove_others(steps)]
    changed += [steps.file(path, source.read_text()) for path, source in _unit_files()]
    for account in pwd.getpwall():  # now: a round would take a missing drop-in for drift
        if (shared := account.pw_name in services) or account.pw_shell == USERS_SHELL:
            limits = slices.LIMITS_FOR_ALL if shared else slices.LIMITS
            changed.append(steps.file(slices.drop_in(account.pw_uid), limits))
    if any(changed):
        command.run(["systemctl", "daemon-reload"])
    for unit in ENABLED_UNITS:
        asked = [["systemctl", word, "--quiet", unit] for word in ("is-enabled", "is-active")]
        if not all(command.run(argv, check=False).ok for argv in asked):
            steps.say(f"enable {unit}")
            command.run(["systemctl", "enable", "--now", "--quiet", unit])
    for unit in AT_BOOT:
        if not command.run(["systemctl", "is-enabled", "--quiet", unit], check=False).ok:
            steps.say(f"enable {unit}")
            command.run(["systemctl", "enable", "--quiet", unit])


def remove_others(steps: Steps) -> bool:
    """Remove units of another release, which would keep failing. Whether there were any.

    They are recognised by what they run, since a sysadmin may have units with such names, too.
    """
    found = list[Path]()
    for service in sorted(UNIT_FOLDER.glob("lxc-gpu-*.service")):
        text = read_text(service) or ""
        runs = re.search(rf"^ExecStart={places.EXECUTABLES}/([\w-]+)", text, re.M)
        if runs and not (places.EXECUTABLES / runs[1]).exists():
            starters = (service.with_suffix(f".{kind}") for kind in ("timer", "socket", "path"))
            found += [*(path for path in starters if path.exists()), service]
    for path in found:
        command.run(["systemctl", "disable", "--now", "--quiet", path.name], check=False)
        steps.remove(path)
    return bool(found)


def _unit_files() -> list[tuple[Path, Path]]:
    """Our units and drop-ins: where each has to be, and where it is in the checkout."""
    folder = CHECKOUT / "setup" / "units"
    sources = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(UNIT_FOLDER / source.relative_to(folder), source) for source in sources]


def restart() -> None:
    """Have our services that run go on with the new code."""
    command.run(["systemctl", "try-restart", *LOADED, *COUNTING])


def undo(steps: Steps) -> None:
    """Stop and remove our units, and the drop-ins that rounds made."""
    remove_others(steps)
    for unit in (*ENABLED_UNITS, AT_BOOT[0]):
        command.run(["systemctl", "disable", "--now", "--quiet", unit], check=False)
    command.run(["systemctl", "stop", *AT_WORK], check=False)
    command.run(["systemctl", "unmask", "--quiet", *UNUSED_UNITS], check=False)
    for path, _ in _unit_files():
        steps.remove(path)
        if path.parent != UNIT_FOLDER and path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()
    for limits in sorted(UNIT_FOLDER.glob("lxc-gpu@*.service.d")):
        steps.remove(limits)
    for limits in sorted(UNIT_FOLDER.glob(f"{slices.slice_of('*')}.d/{slices.DROP_IN}")):
        steps.remove(limits)
        if not any(limits.parent.iterdir()):
            limits.parent.rmdir()
    command.run(["systemctl", "daemon-reload"], check=False)
