"""AppArmor, where the server has it: the containers' profile, which setup/gpu-server installs."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from state.files import read_text

PROFILE = "lxc-gpu-container"
"""Its name begins with `lxc-`: AppArmor's profile of lxc-start lets it change to such ones only."""
ENABLED = Path("/sys/module/apparmor/parameters/enabled")
LOADED = Path("/sys/kernel/security/apparmor/profiles")
"""The profiles in the kernel, `NAME (MODE)` a line; only root may read it."""


class Confinement(Enum):
    """What AppArmor does for containers that are started now."""

    OFF = "AppArmor is not in use here"
    PROFILE = "AppArmor confines containers by our profile"
    NONE = "AppArmor is in use, but our profile is not loaded"

    @property
    def profile(self) -> str:
        """What LXC is told (lxc.apparmor.profile in lxc.container.conf(5)).

        Never Debian's default, `generated`: it fails for containers started by users
        (lxc/lxc#4358). Without a profile, the user namespace confines the container.
        """
        return PROFILE if self is Confinement.PROFILE else "unconfined"


def confinement() -> Confinement:
    """How containers that are started now are confined.

    A machine that is a container itself sees AppArmor enabled and no profiles: none are its own.
    """
    if (read_text(ENABLED) or "").strip() != "Y" or not LOADED.exists():
        return Confinement.OFF
    return confinement_of(read_text(LOADED) or "")


def confinement_of(profiles: str) -> Confinement:
    """The same where AppArmor is in use, from the text of the kernel's list. Pure."""
    names = {line.partition(" (")[0] for line in profiles.splitlines()}
    return Confinement.PROFILE if PROFILE in names else Confinement.NONE
