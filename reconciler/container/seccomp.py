"""The seccomp profile that containers start with: LXC's own, and `reconciler.children.denied`."""

from __future__ import annotations

from pathlib import Path

from reconciler.children import denied
from reconciler.host import places
from state import files

LXCS = Path("/usr/share/lxc/config/common.seccomp")
"""The profile of LXC's own package, to which ours adds rules."""
_LOW_HALF = 0xFFFFFFFF
"""The kernel looks at these bits of a request only, so the comparison must do the same."""


def profile(lxcs: str) -> str:
    """The whole profile, made from LXC's text. Pure."""
    refused = [
        f"ioctl errno {denied.ANSWER} [1,{number:#x},SCMP_CMP_MASKED_EQ,{_LOW_HALF:#x}]"
        for number in denied.IOCTLS.values()
    ]
    return "\n".join([lxcs.strip(), "[all]", *refused, ""])


def write() -> None:
    """Write the profile where `lxc-start` looks for it, if LXC's has changed."""
    text = profile(files.read_text(LXCS) or "2\ndenylist\n")
    if files.read_text(places.SECCOMP) != text:
        files.write_file(places.SECCOMP, text)
