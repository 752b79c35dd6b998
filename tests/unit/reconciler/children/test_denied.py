"""What programs may not ask the kernel that are put into a container: by a machine as the kernel's.

A real kernel is asked in `integration/test_subvolumes.py`, and by `shell` in `lab/test_btrfs.py`.
"""

from __future__ import annotations

import pytest

from reconciler.children import denied

ALLOWED, REFUSED = 0x7FFF0000, 0x00050000 | 25
X86_64, I386, AARCH64, X32 = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000000
FIONREAD = 0x541B


def judged(architecture: int, call: int, request: int) -> int:
    """What the filter says of a call (linux/filter.h)."""
    said = {0: call, 4: architecture, 24: request & 0xFFFFFFFF}
    instructions, at, held = denied.program(), 0, 0
    while True:
        code, if_so, if_not, operand = instructions[at]
        at += 1
        if code == 0x20:
            held = said[operand]
        elif code == 0x54:
            held &= operand
        elif code == 0x15:
            at += if_so if held == operand else if_not
        else:
            assert code == 0x06
            return operand


@pytest.mark.parametrize(
    ("architecture", "call"),
    [(X86_64, 16), (X86_64, X32 | 514), (X86_64, X32 | 16), (I386, 54), (AARCH64, 29),
     (0x40000028, 54)],
)  # fmt: skip
def test_every_way_of_asking_is_known(architecture: int, call: int) -> None:
    for request in denied.IOCTLS.values():
        assert judged(architecture, call, request) == REFUSED
        assert judged(architecture, call, request + (1 << 32)) == REFUSED, "half of it is read"
        assert judged(architecture, call + 1, request) == ALLOWED, "another call"
    assert judged(architecture, call, FIONREAD) == ALLOWED


def test_of_other_machines_nothing_is_known() -> None:
    assert judged(0xC0000015, 54, denied.IOCTLS["BTRFS_IOC_SUBVOL_CREATE"]) == ALLOWED
