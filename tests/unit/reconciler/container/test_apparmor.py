"""Which profile a container is started with, and what the profiles say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reconciler.container.apparmor import (
    PROFILE,
    PROFILES,
    TIGHT,
    Confinement,
    confinement_of,
    profile_for,
)

KERNELS = "/usr/bin/lxc-start (enforce)\nlxc-container-default (enforce)\n"
FOLDER = Path(__file__).parents[4] / "setup/apparmor"


def text_of(profile: str) -> str:
    """A profile without its comments, each rule in one line."""
    lines = (FOLDER / profile).read_text().splitlines()
    return "\n".join(line.strip() for line in lines if not line.strip().startswith("# "))


def test_only_our_own_profile_counts() -> None:
    assert confinement_of(PROFILE, KERNELS) is Confinement.NONE
    assert confinement_of(PROFILE, f"{TIGHT} (enforce)\n") is Confinement.NONE
    assert confinement_of(PROFILE, f"{KERNELS}{PROFILE} (enforce)\n") is Confinement.PROFILE
    assert confinement_of(TIGHT, f"{KERNELS}{PROFILE} (enforce)\n") is Confinement.NONE


def test_what_lxc_is_told() -> None:
    """lxc-start may change to profiles called lxc-* only; never `generated`: lxc/lxc#4358."""
    for nesting, profile in ((True, "lxc-gpu-container"), (False, "lxc-gpu-container-tight")):
        assert profile_for(nesting) == profile
        assert {c: c.told(profile_for(nesting)) for c in Confinement} == {
            Confinement.OFF: "unconfined",
            Confinement.NONE: "unconfined",
            Confinement.PROFILE: profile,
        }
    assert all(profile.startswith("lxc-") for profile in PROFILES)


@pytest.mark.parametrize("profile", PROFILES)
def test_file_has_the_profile_of_its_name(profile: str) -> None:
    assert f"\nprofile {profile} flags=(attach_disconnected,mediate_deleted) {{\n" in text_of(
        profile
    )
    assert "\nuserns,\n" in text_of(profile), "what older parsers don't know is taken out by line"


def test_engines_inside_are_not_in_the_way_of_lxcs_rules() -> None:
    """container-base closes /sys/net, which is how AppArmor sees /proc/sys/net of a newer runc."""
    text = text_of(PROFILE)
    assert "container-base" not in text
    assert {"file,", "mount,", "umount,", "pivot_root,", "capability,"} <= set(text.splitlines())
    assert "container-base" in text_of(TIGHT)


def test_sysrq_trigger_is_bound_onto_its_own_name_only() -> None:
    """AppArmor's patterns know no `not`: the alternatives are all names but one."""
    (rule,) = re.findall(
        r"mount /\{,\*\*/\}sysrq-trigger -> /\{,\*\*/\}\{(.*)\},", text_of(PROFILE)
    )
    shapes = [re.escape(s).replace(r"\[\^", "[^").replace(r"\]", "]") for s in rule.split(",")]
    others = re.compile("|".join(s.replace(r"\*", ".*").replace(r"\?", ".") for s in shapes))
    assert not others.fullmatch("sysrq-trigger")
    for name in ("x", "s", "sysrq", "sysrq-triggers", "sysrq-triggex", "a-sysrq-trigger", "core"):
        assert others.fullmatch(name), name
