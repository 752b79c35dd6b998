"""Which modules of the kernel are loaded for engines inside containers."""

from __future__ import annotations

from reconciler.container import modules


def test_file_for_the_next_boot_says_what_each_is_for() -> None:
    text = modules.boot_file(("overlay", "tun"))
    assert tuple(modules.named(text)) == ("overlay", "tun")
    assert f"# {modules.WANTED['overlay']}\noverlay\n" in text


def test_only_names_count_in_a_file_that_somebody_edited() -> None:
    assert tuple(modules.named("# tun\n; fuse\n\n  overlay  \nbr_netfilter\n")) == (
        "overlay",
        "br_netfilter",
    )
