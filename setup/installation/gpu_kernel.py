"""What a GPU server asks of its kernel: settings, AppArmor's profiles, modules."""

from __future__ import annotations

import re
from pathlib import Path

from installation.steps import CHECKOUT, Steps
from reconciler.container import modules
from reconciler.container.apparmor import PROFILES, Confinement, confinement
from reconciler.host import kernel_settings
from state import command
from state.files import read_text

APPARMOR = Path("/etc/apparmor.d")
USERNS_RULE = "  userns,\n"
"""The rule that parsers before AppArmor 4 don't know."""
SYSCTL = Path("/lib/systemd/systemd-sysctl")


def install(steps: Steps) -> None:
    """Put all of it into effect, now and at each boot."""
    _kernel_settings(steps)
    _apparmor(steps)
    _modules(steps)


def undo(steps: Steps) -> None:
    """Remove our files. Settings and modules stay in effect until the next boot."""
    profiles = [APPARMOR / profile for profile in PROFILES]
    for path in profiles:
        if path.exists():
            command.run(["apparmor_parser", "--remove", path], check=False)
    for path in (*profiles, modules.AT_BOOT, kernel_settings.FILE):
        steps.remove(path)


def _kernel_settings(steps: Steps) -> None:
    """Write our drop-in, and put those settings into effect that raise the present ones.

    systemd's own program does it, so that the sysadmin's files override ours, as at each boot. A
    machine that is a container has no kernel of its own, so nothing is set.
    """
    steps.file(kernel_settings.FILE, kernel_settings.text(bridged=_bridges_are_as_before()))
    if kernel_settings.are_of_another_machine():
        return
    if found := kernel_settings.lacking():
        prefixes = [f"--prefix={each.name}" for each, _ in found]
        command.run([SYSCTL, *prefixes], check=False)
        left = kernel_settings.lacking()
        done = tuple(each for each in found if each not in left)
        if done:
            steps.say(f"allow more of the kernel: {kernel_settings.in_words(done)}")


def _bridges_are_as_before() -> bool:
    """Whether set-up loaded br_netfilter, now or earlier, if it is loaded."""
    before = read_text(kernel_settings.FILE)
    if before is not None and modules.BRIDGES in modules.named(read_text(modules.AT_BOOT) or ""):
        return kernel_settings.BRIDGED in before
    return not kernel_settings.are_of_another_machine() and modules.for_us_alone(modules.BRIDGES)


def _apparmor(steps: Steps) -> None:
    """Load the containers' profiles into the kernel, if AppArmor is in use.

    Not on a machine that is a container itself: its profiles would be those of the machine below.
    """
    if confinement(PROFILES[0]) is Confinement.OFF or kernel_settings.are_of_another_machine():
        return
    steps.packages(("apparmor",))
    known = _parser_version()
    for profile in PROFILES:
        text = (CHECKOUT / "setup" / "apparmor" / profile).read_text()
        if known < 4:
            text = text.replace(USERNS_RULE, "")
        loaded = confinement(profile) is Confinement.PROFILE
        steps.apparmor_profile(APPARMOR / profile, text, loaded=loaded)


def _modules(steps: Steps) -> None:
    """Load the modules that engines inside containers need, now and at each boot."""
    if kernel_settings.are_of_another_machine():
        return
    steps.packages(("kmod",))
    names = modules.loadable()
    written = steps.file(modules.AT_BOOT, modules.boot_file(names))
    if missing := modules.absent():
        steps.say(f"load modules of the kernel: {' '.join(missing)}")
    if written or missing:
        command.run(["modprobe", "--all", *names], check=False)
        if kernel_settings.BRIDGED in (read_text(kernel_settings.FILE) or ""):
            command.run([SYSCTL, "--prefix=net.bridge"], check=False)


def _parser_version() -> int:
    found = re.search(r"version (\d+)", command.run(["apparmor_parser", "--version"]).stdout)
    return int(found[1]) if found else 0
