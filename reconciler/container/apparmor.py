"""AppArmor, where the server has it: the containers' profiles, which setup/gpu-server installs."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from state.files import read_text

PROFILE = "lxc-gpu-container"
"""Its name begins with `lxc-`: AppArmor's profile of lxc-start lets it change to such ones only."""
TIGHT = "lxc-gpu-container-tight"
"""Instead of it on servers with `nesting: false`."""
PROFILES = (PROFILE, TIGHT)
ENABLED = Path("/sys/module/apparmor/parameters/enabled")
LOADED = Path("/sys/kernel/security/apparmor/profiles")
"""The profiles in the kernel, `NAME (MODE)` a line; only root may read it."""


class Confinement(Enum):
    """What AppArmor does for containers that are started now."""

    OFF = "AppArmor is not in use here"
    PROFILE = "AppArmor confines containers by our profile"
    NONE = "AppArmor is in use, but our profile is not loaded"

    def told(self, profile: str) -> str:
        """What LXC is told of `profile` (lxc.apparmor.profile in lxc.container.conf(5)).

        Never Debian's default, `generated`: it fails for containers started by users
        (lxc/lxc#4358). Without a profile, the user namespace confines the container.
        """
        return profile if self is Confinement.PROFILE else "unconfined"


def profile_for(nesting: bool) -> str:
    """The profile of containers on a server where engines inside work, or don't. Pure."""
    return PROFILE if nesting else TIGHT


def confinement(profile: str) -> Confinement:
    """How containers that are started now are confined, where they are to be by `profile`.

    A machine that is a container itself sees AppArmor enabled and no profiles: none are its own.
    """
    if (read_text(ENABLED) or "").strip() != "Y" or not LOADED.exists():
        return Confinement.OFF
    return confinement_of(profile, read_text(LOADED) or "")


def confinement_of(profile: str, profiles: str) -> Confinement:
    """The same where AppArmor is in use, from the text of the kernel's list. Pure."""
    names = {line.partition(" (")[0] for line in profiles.splitlines()}
    return Confinement.PROFILE if profile in names else Confinement.NONE
