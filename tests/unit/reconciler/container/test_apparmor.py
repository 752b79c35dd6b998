"""Which profile a container is started with."""

from __future__ import annotations

from reconciler.container.apparmor import PROFILE, Confinement, confinement_of

KERNELS = "/usr/bin/lxc-start (enforce)\nlxc-container-default (enforce)\n"


def test_only_our_own_profile_counts() -> None:
    assert confinement_of(KERNELS) is Confinement.NONE
    assert confinement_of(f"{PROFILE}-old (enforce)\n") is Confinement.NONE
    assert confinement_of(f"{KERNELS}{PROFILE} (enforce)\n") is Confinement.PROFILE


def test_what_lxc_is_told() -> None:
    """lxc-start may change to profiles called lxc-* only; never `generated`: lxc/lxc#4358."""
    assert {c: c.profile for c in Confinement} == {
        Confinement.OFF: "unconfined",
        Confinement.NONE: "unconfined",
        Confinement.PROFILE: "lxc-gpu-container",
    }
    assert PROFILE.startswith("lxc-")
