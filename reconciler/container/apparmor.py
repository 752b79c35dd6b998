"""AppArmor, where the server has it: the containers' profiles, which setup/gpu-server installs."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from state.files import read_text

PROFILE = "lxc-gpu-container"
"""The name begins with `lxc-`: AppArmor's profile of lxc-start allows changes to such ones only."""
TIGHT = "lxc-gpu-container-tight"
"""The profile on servers with `nesting: false`."""
PROFILES = (PROFILE, TIGHT)
ENABLED = Path("/sys/module/apparmor/parameters/enabled")
LOADED = Path("/sys/kernel/security/apparmor/profiles")
"""The profiles in the kernel, a line `NAME (MODE)` each; only root may read it."""


class Confinement(Enum):
    """What AppArmor does for containers started now."""

    OFF = "AppArmor is not in use here"
    PROFILE = "AppArmor confines containers by our profile"
    NONE = "AppArmor is in use, but our profile is not loaded"

    def told(self, profile: str) -> str:
        """The value of lxc.apparmor.profile for `profile` (lxc.container.conf(5)).

        Never Debian's default, `generated`: it fails for containers started by users
        (lxc/lxc#4358). Without a profile, the user namespace confines the container.
        """
        return profile if self is Confinement.PROFILE else "unconfined"


def profile_for(nesting: bool) -> str:
    """The profile of containers on a server that allows engines inside, or doesn't. Pure."""
    return PROFILE if nesting else TIGHT


def confinement(profile: str) -> Confinement:
    """How containers started now are confined, if `profile` is wanted.

    A machine that is a container itself sees AppArmor enabled, and no profiles.
    """
    if (read_text(ENABLED) or "").strip() != "Y" or not LOADED.exists():
        return Confinement.OFF
    return confinement_of(profile, read_text(LOADED) or "")


def confinement_of(profile: str, profiles: str) -> Confinement:
    """The confinement where AppArmor is in use, from the text of the kernel's list. Pure."""
    names = {line.partition(" (")[0] for line in profiles.splitlines()}
    return Confinement.PROFILE if profile in names else Confinement.NONE
